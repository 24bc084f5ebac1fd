"""Jobs from an uploaded list: reading files, lines that are left out with their numbers, the page, the run."""

from __future__ import annotations

import json

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Account
from conversations import jobs, lanes, list_files, lists
from conversations.models import Conversation, Job

from .pages import text_of
from .support import make_user, synced


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


def account_of(user, *titles: str, key: str = "aurod", label: str = "Shop 客服") -> Account:
    account = Account.objects.create(owner=user, provider_key=key, label=label, base_url="http://127.0.0.1:9", upstream_identity=label)
    now = timezone.now()
    for number, title in enumerate(titles):
        Conversation.objects.create(
            account=account, remote_id=f"r{number}", title=title, untitled=not title, rank=number, model="old", model_value="old",
            sort_at=now, first_seen_at=now, seen_at=now,
        )  # fmt: skip
    return account


@pytest.fixture
def shop(alice):
    return account_of(alice, *[f"title {number}" for number in range(100)])


def uploaded(text: str | bytes, name: str = "titles.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, text if isinstance(text, bytes) else text.encode(), content_type="text/csv")


def rejected(job_or_lines) -> list[tuple[int, str]]:
    lines = job_or_lines.params["rejected"] if isinstance(job_or_lines, Job) else job_or_lines
    return [(one["line"], one["code"]) if isinstance(one, dict) else (one.line, one.code) for one in lines]


def lines_of(text: str, wanted: str = "title") -> list[tuple[int, str, str]]:
    return [(entry.line, entry.id or f"{entry.account}/{entry.remote_id}", entry.value) for entry in list_files.read(text, wanted).entries]


# --- files --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_a_file_is_read_in_every_encoding_that_spreadsheets_write(encoding):
    text = "id,title\r\n7,周报（第 2 稿）\r\n"
    assert lines_of(list_files.decode(text.encode(encoding))) == [(2, "7", "周报（第 2 稿）")]


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "empty"), (b"\xef\xbb\xbf \r\n", "empty"), (b"id,title\n1,\xff\xff", "neither UTF-8"), (b"\xff\xfe\x00", "neither")]
)
def test_what_is_no_text_is_refused(data, said):
    with pytest.raises(ValidationError, match=said):
        list_files.decode(data)


def test_a_file_that_is_too_large_says_how_large_it_may_be(monkeypatch):
    with pytest.raises(ValidationError, match=r"up to 5 MB; this one has 6\.0 MB"):
        list_files.decode(b"x" * 6_000_000)
    monkeypatch.setattr(list_files, "MAX_LINES", 3)
    with pytest.raises(ValidationError, match="up to 3 lines"):
        list_files.read("id,title\n" + "1,a\n" * 4, "title")


@pytest.mark.parametrize(
    "text",
    [
        'id,title\n\n7,"one, two"\n\n8,three\n',
        'ID;Title\n\n7;one, two\n\n8;"three"\n',
        "title\tnote\tid\n\none, two\tx\t7\n\nthree\t\t8\n",
        '\ufeffid,title\r\n\r\n7,"one, two"\r\n\r\n8,three',
        '[\n{"id": 7,\n"title": "one, two"},\n{"id": "8", "title": "three", "more": [1]}]',
        '\n{"id": 7, "title": "one, two"}\n\n\n{"id": 8, "title": "three"}\n',
    ],
)
def test_the_same_list_in_many_forms(text):
    found = lines_of(text)
    assert [entry[1:] for entry in found] == [("7", "one, two"), ("8", "three")]
    if not text.lstrip().startswith(("[", "{")):
        assert [entry[0] for entry in found] == [3, 5]


def test_lines_are_counted_where_they_begin_over_cells_of_several_lines():
    text = 'id,title\n1,"a\nb"\n2,x\n"3","c"d\n4,y,z\n,lost\nx,bad\n5,\n6,z\n'
    found = list_files.read(text, "title")
    assert [(entry.line, entry.id, entry.value) for entry in found.entries] == [(2, "1", "a b"), (4, "2", "x"), (10, "6", "z")]
    assert rejected(found.rejected) == [(5, "bad_csv"), (6, "too_many_cells"), (7, "no_id"), (8, "bad_id"), (9, "no_title")]
    found = list_files.read('[{"id": 1, "title": "a"},\n\n7,\n{"title": "b"}\n, {"id": 2, "title": "\\ud800"}]', "title")
    assert [(entry.line, entry.id) for entry in found.entries] == [(1, "1")]
    assert rejected(found.rejected) == [(3, "no_object"), (4, "no_id"), (5, "bad_text")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("7,a\n8,b", "Line 1 must name the columns: id (or account and remote_id) and title. It says: 7, a"),
        ("\n\nid,model\n7,x", "Line 3 must name the columns"),
        ("account,title\na,b", "must name the columns"),
        ('id,title\n1,a\n2,"b\n3,c\n', "Line 3: a quotation mark is opened there and never closed."),
        ('[{"id": 1, "title": "a"},\n{"id": 2 "title"}]', "Line 2 cannot be read as JSON."),
        ('[{"id": 1, "title": "a"}\n{"id": 2}]', "Line 2 cannot be read as JSON."),
        ('[{"id": 1, "title": "a"}', "Line 1 cannot be read as JSON."),
        ('[{"id": 1, "title": "a"},]', "Line 1 cannot be read as JSON."),
        ("[" * 100_000, "Line 1 cannot be read as JSON."),
        ('[{"id": ' + "9" * 5000 + "}]", "Line 1 cannot be read as JSON."),
        ("[]", "The list is empty."),
        ("id,title\n\n", "The list is empty."),
    ],
)
def test_what_cannot_be_read_at_all_is_refused_with_its_line(text, said):
    with pytest.raises(ValidationError) as refused:
        list_files.read(text, "title")
    assert said in refused.value.messages[0]


CELLS = st.text(st.sampled_from('ab7,;\t"\r\n客👨 '), max_size=8)


@given(
    st.text(max_size=200)
    | st.lists(CELLS, max_size=20).map(lambda cells: "id,title\n" + "\n".join(cells))
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "title"]), inner),
    ).map(json.dumps)
)
def test_no_text_makes_the_reader_stumble(text):
    try:
        found = list_files.read(text, "title")
    except ValidationError as error:
        assert error.messages
        return
    last = len(text.splitlines()) + 1
    assert all(1 <= entry.line <= last and entry.value for entry in found.entries)
    assert all(1 <= wrong.line <= last and lists.sentence(wrong) for wrong in found.rejected)


@given(st.binary(max_size=200))
def test_no_file_makes_the_reader_stumble(data):
    try:
        assert list_files.decode(data).strip()
    except ValidationError as error:
        assert error.messages


# --- lines and conversations --------------------------------------------------------------------------------------------------------


def test_of_100_lines_with_two_bad_ids_and_a_duplicate_97_are_in_the_preview(shop, client):
    ids = list(shop.conversations.order_by("pk").values_list("pk", flat=True))
    rows = [f"{pk},新标题 {pk}" for pk in ids[:97]]
    rows[10:10] = ["99999999,x"]
    rows[50:50] = ["abc,x"]
    rows.append(f"{ids[0]},again")
    answer = client.post(reverse("job_from_list"), {"action": "set-title", "file": uploaded("\ufeffid,title\r\n" + "\r\n".join(rows))})
    job = Job.objects.get()
    assert answer.status_code == 302 and answer.url == reverse("job_detail", args=[job.pk])
    assert job.total == 97 == jobs.changes(job) and rejected(job) == [(12, "unknown"), (52, "bad_id"), (101, "duplicate")]
    page = text_of(client.get(answer.url))
    assert "3 lines of the list are not in this job" in page and "Line 12: There is no conversation 99999999." in page
    assert f"Line 101: Conversation {ids[0]} is listed before; that line counts." in page
    assert {item.target["title"] for item in job.items.all()} == {f"新标题 {pk}" for pk in ids[:97]}
    assert job.items.get(conversation=ids[0]).target["title"] == f"新标题 {ids[0]}"


def test_a_list_that_is_sent_twice_makes_one_job_and_another_list_from_the_same_page_another(shop, client):
    first, second = shop.conversations.order_by("pk")[:2]
    given = {"action": "set-title", "text": f"id,title\n{first.pk},one", "key": "a page"}
    answers = {client.post(reverse("job_from_list"), given).url for _turn in range(2)}
    assert answers == {reverse("job_detail", args=[Job.objects.get().pk])}
    client.post(reverse("job_from_list"), given | {"text": f"id,title\n{second.pk},two"})
    assert Job.objects.count() == 2 and 'name="key"' in text_of(client.get(reverse("job_from_list")))


def test_every_reason_for_leaving_a_line_out(shop, alice):
    theirs = account_of(make_user("bob@example.com"), "secret", label="theirs")
    rows = list(shop.conversations.order_by("pk"))
    other = account_of(alice, "nuwax title", key="nuwax", label="agent")
    text = "\n".join(
        [
            "id,account,remote_id,title",
            f"{rows[0].pk},,,one",
            f",{shop.pk},r1,two",
            ",Shop 客服,r2,three",
            f"{theirs.conversations.get().pk},,,x",
            ",theirs,r0,x",
            ",nobody,r0,x",
            f",{shop.pk},r999,x",
            f"{rows[3].pk},,r4,x",
            f"{rows[5].pk},agent,,x",
            f"{rows[6].pk},,,{'长' * 51}",
            f"{rows[7].pk},,,",
            f"{rows[8].pk},,,{'👍' * 50}",
            f",{shop.pk},r1,again",
            f"{other.conversations.get().pk},,,{'长' * 51}",
        ]
    )
    job = lists.begin(alice, "set-title", text)
    expected = [(5, "unknown"), (6, "no_account"), (7, "no_account"), (8, "unknown"), (9, "mismatch"), (10, "mismatch")]
    assert rejected(job) == [*expected, (11, "too_long"), (12, "no_title"), (14, "duplicate")]
    assert job.params["rejected"][6] | {"about": ""} == {"line": 11, "code": "too_long", "about": "", "limit": 50, "length": 51}
    found = {item.remote_id: item.target["title"] for item in job.items.filter(account=shop)}
    assert found == {"r0": "one", "r1": "two", "r2": "three", "r8": "👍" * 50}
    assert "secret" not in json.dumps(job.params)


def test_a_list_counts_even_for_titles_that_people_chose_and_keeps_equal_ones_apart(shop, alice):
    ids = list(shop.conversations.order_by("pk").values_list("pk", flat=True)[:3])
    job = lists.begin(alice, "set-title", f"id,title\n{ids[0]},title 1\n{ids[1]},title 0\n{ids[2]},title 0")
    assert [item.target["title"] for item in job.items.all()] == ["title 1", "title 0", "title 0 (2)"]
    assert [item.target["title"] for item in jobs.plan(job, job.params).items.all()] == ["title 1", "title 0", "title 0 (2)"]


def test_models_from_a_list(connected, alice):
    simulator, account = connected("modelrouter", populate=10, rate_limit=0)
    synced(account)
    rows = list(account.conversations.order_by("rank"))
    one, two = account.catalogue.values_list("model_id", flat=True)[:2]
    text = json.dumps([{"id": rows[0].pk, "model": one}, {"id": rows[1].pk, "model": int(two)}, {"id": rows[2].pk, "model": "no-such"}])
    job = lists.begin(alice, "switch-model", text, name="models.json")
    assert job.action == "switch-model" and rejected(job) == [(1, "not_offered")]
    assert jobs.start(alice, job)
    while lanes.run_lane(account.pk):
        pass
    job.refresh_from_db()
    assert job.n_applied + job.n_unchanged == 2
    for row, model in ((rows[0], one), (rows[1], two)):
        assert account.provider.models_in(simulator.truth()[row.remote_id]["model"])[0] == model


def test_titles_from_a_list_are_written_and_gone_ones_are_shown(connected, alice):
    from conversations import checks

    simulator, account = connected("aurod", populate=6)
    synced(account)
    rows = list(account.conversations.order_by("rank"))
    job = lists.begin(alice, "set-title", "account,remote_id,title\n" + "".join(f"{account.label},{row.remote_id},列表 {row.rank}\n" for row in rows))
    simulator.remove_by_somebody(rows[2].remote_id)
    while checks.check_preview(job.pk, account.pk):
        pass
    job.refresh_from_db()
    assert jobs.groups(job)["gone"] == 1 and jobs.changes(job) == 5
    job = jobs.plan(job, job.params)  # what the list says of the gone one is not forgotten
    assert all(item.target == {"title": f"列表 {item.rank}"} for item in job.items.all())
    jobs.start(alice, job)
    while lanes.run_lane(account.pk):
        pass
    assert {values["title"] for values in simulator.truth().values()} == {f"列表 {row.rank}" for row in rows if row is not rows[2]}


# --- the page -----------------------------------------------------------------------------------------------------------------------


def test_a_list_for_a_selection_plans_what_is_in_both(shop, alice, client):
    ids = list(shop.conversations.order_by("pk").values_list("pk", flat=True))
    job = jobs.create(alice, "set-title", Conversation.objects.filter(pk__in=ids[:4]))
    address = reverse("job_upload", args=[job.pk])
    assert f'href="{address}?action=set-title"' in text_of(client.get(reverse("job_compose", args=[job.pk])))
    assert "for 4 selected conversations" in text_of(client.get(address))
    answer = client.post(address, {"action": "set-title", "text": f"id,title\n{ids[1]},one\n{ids[9]},nine\n{ids[2]},two"})
    job.refresh_from_db()
    assert answer.status_code == 302 and rejected(job) == [(3, "not_selected")] and job.total == 4
    assert list(job.items.values_list("status", "reason")) == [("skipped", "not_listed"), ("pending", ""), ("pending", ""), ("skipped", "not_listed")]
    # "Change…" leads back here, another way of making titles is one click away, and the list is forgotten when that is taken.
    assert client.get(reverse("job_compose", args=[job.pk])).url == address
    compose = reverse("job_compose", args=[job.pk]) + "?action=set-title"
    assert client.get(compose).status_code == 200
    assert client.post(compose, {"action": "set-title", "mode": "replace", "find": "title", "replace": "T"}).status_code == 302
    job.refresh_from_db()
    assert jobs.changes(job) == 4 and "rejected-lines" not in text_of(client.get(reverse("job_detail", args=[job.pk])))


@pytest.mark.parametrize(
    ("data", "field", "said"),
    [
        ({}, "file", "Choose a file, or paste the lines."),
        ({"file": b"id,title\n\n"}, "file", "The list is empty."),
        ({"file": b""}, "file", "The list is empty."),
        ({"file": b"id,name\n1,x"}, "file", "Line 1 must name the columns"),
        ({"file": b"id,title\n99999999,x\n0,y"}, "file", "Line 2: There is no conversation 99999999."),
        ({"file": b"\xff\xff\xff"}, "file", "neither UTF-8 nor GB18030"),
        ({"file": b"id,title\n" * 900_000}, "file", "up to 5 MB; this one has 8.1 MB"),
        ({"text": "id,title\nx,y"}, "text", "Line 2: “x” is not a conversation id."),
        ({"text": "id,title\n" + "1000000,y\n" * 20}, "text", "and 15 more lines"),
        ({"text": "id,title\n1,x", "action": "configure"}, "action", "Select a valid choice"),
    ],
)
def test_what_is_wrong_is_told_at_the_field_and_nothing_is_lost_or_made(shop, client, data, field, said):
    if isinstance(data.get("file"), bytes):
        data = data | {"file": uploaded(data["file"])}
    answer = client.post(reverse("job_from_list"), {"action": "set-title", **data})
    form = answer.context["form"]
    assert answer.status_code == 422 and list(form.errors) == [field] and said in " ".join(form.errors[field])
    assert form["action"].value() == data.get("action", "set-title") and (form["text"].value() or "") == data.get("text", "")
    assert f"id_{field}" in text_of(answer) and not Job.objects.exists()


def test_nobody_plans_somebody_elses_draft_or_a_started_job(shop, alice, client):
    job = jobs.plan(jobs.create(alice, "set-title", shop.conversations.all()), {"find": "title", "replace": "T"})
    address = reverse("job_upload", args=[job.pk])
    stranger = Client()
    stranger.force_login(make_user("mallory@example.com"))
    assert stranger.post(address, {"action": "set-title", "text": "id,title\n1,x"}).status_code == 404
    jobs.start(alice, job)
    assert client.get(address).url == reverse("job_detail", args=[job.pk])
    first = shop.conversations.first()
    assert client.post(address, {"action": "set-title", "text": f"id,title\n{first.pk},x"}).url == reverse("job_detail", args=[job.pk])
    with pytest.raises(ValidationError, match="has been started"):
        lists.apply(alice, job, "set-title", f"id,title\n{first.pk},x")
    job.refresh_from_db()
    assert job.params == {"find": "title", "replace": "T"}
    assert 'id="new-from-list"' in text_of(client.get(reverse("job_list")))


def test_what_a_line_holds_is_never_markup_on_the_page(shop, alice, client):
    first = shop.conversations.first()
    job = lists.begin(alice, "set-title", f'id,title\n{first.pk},"<script>alert(1)</script>"\n<b>,x')
    page = client.get(reverse("job_detail", args=[job.pk])).content.decode()
    assert "<script>alert" not in page and "<b>" not in page and "&lt;b&gt;" in page
