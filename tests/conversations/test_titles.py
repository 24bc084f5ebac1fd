"""Bulk titles: which rows a template touches, equal titles, masked secrets, regular expressions."""

from __future__ import annotations

import time

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Account
from conversations import checks, jobs, lanes, numbering, patterns
from conversations.graphemes import cut
from conversations.masking import mask
from conversations.models import Conversation, Job

from .pages import text_of
from .support import synced

FAMILY = "👨‍👩‍👧‍👦"


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def at_aurod(connected):
    simulator, account = connected("aurod", populate=100)
    return simulator, synced(account)


@pytest.fixture
def local(alice):
    """A function that makes an account with these titles; nobody is asked over a network."""

    def make(*titles: str, first: tuple[str | None, ...] = (), key: str = "aurod") -> Account:
        account = Account.objects.create(owner=alice, provider_key=key, label=key, base_url="http://127.0.0.1:9", upstream_identity=key)
        now = timezone.now()
        for number, title in enumerate(titles):
            Conversation.objects.create(
                account=account, remote_id=str(number), title=title, untitled=account.provider.is_untitled(title), rank=number,
                first_message=first[number] if first else None, sort_at=now, first_seen_at=now, seen_at=now,
            )  # fmt: skip
        return account

    return make


def planned(user, account, **params):
    return jobs.plan(jobs.create(user, "set-title", account.conversations.all()), params)


def targets(job):
    return [item.target and item.target["title"] for item in job.items.all()]


def reasons(job):
    return list(job.items.values_list("status", "reason"))


def run(job, user, account):
    assert jobs.start(user, job, typed_count=jobs.changes(job))
    while lanes.run_lane(account.pk):
        pass
    job.refresh_from_db()
    return job


def checked(job, account):
    while checks.check_preview(job.pk, account.pk):
        pass
    return Job.objects.get(pk=job.pk)


# --- whose titles -------------------------------------------------------------------------------------------------------------------


def test_titles_that_people_chose_are_left_alone_unless_ticked(local, alice):
    account = local("mine", "新对话", "", "周报")
    job = planned(alice, account, template="T {n}")
    assert reasons(job) == [("skipped", "hand_made"), ("pending", ""), ("pending", ""), ("skipped", "hand_made")]
    assert jobs.groups(job)["other"] == 2 and jobs.changes(job) == 2
    job.items.filter(ordinal=1).update(ticked=True)
    job = jobs.plan(job, job.params)
    assert targets(job) == ["T 1", "T 2", "T 3", None]
    assert targets(planned(alice, account, template="T {n}", include_hand_made=True)) == ["T 1", "T 2", "T 3", "T 4"]


def test_the_rule_is_for_titles_that_are_made_not_for_what_is_looked_for(local, alice):
    account = local("old plan", "old list", "新对话")
    assert targets(planned(alice, account, find="old", replace="new")) == ["new plan", "new list", "新对话"]
    assert targets(planned(alice, account, find="^old (.+)", replace=r"\1", regex=True)) == ["plan", "list", "新对话"]
    nuwax = local("chosen", "", key="nuwax")
    assert reasons(planned(alice, nuwax, generate=True)) == [("skipped", "hand_made"), ("pending", "")]


def test_all_untitled_rows_are_titled_in_one_job_and_a_second_one_changes_nothing(at_aurod, alice):
    simulator, account = at_aurod
    untitled = set(account.conversations.filter(untitled=True).values_list("remote_id", flat=True))
    before = simulator.truth()
    job = checked(planned(alice, account, template="{account} {first_message:12} · {date}"), account)
    shown = {item.remote_id: item.target["title"] for item in job.items.exclude(target=None)}
    assert set(shown) <= untitled and len(shown) > 5 and len(set(shown.values())) == len(shown)
    job = run(job, alice, account)
    truth = simulator.truth()
    assert job.n_applied == len(shown) and {key: truth[key]["title"] for key in shown} == shown
    assert {key: truth[key]["title"] for key in truth if key not in shown} == {key: before[key]["title"] for key in before if key not in shown}
    again = checked(planned(alice, account, template="{account} {first_message:12} · {date}"), account)
    assert jobs.changes(again) == 0 and len(simulator.writes()) == job.n_applied


def test_a_row_that_somebody_titled_meanwhile_is_left_out_by_the_check(at_aurod, alice):
    simulator, account = at_aurod
    job = planned(alice, account, template="T {n}")
    one = job.items.filter(status="pending").first()
    simulator.change_by_somebody(one.remote_id, title="a person was quicker")
    job = checked(job, account)
    one.refresh_from_db()
    assert (one.status, one.reason) == ("skipped", "hand_made") and one.target is None


# --- equal titles -------------------------------------------------------------------------------------------------------------------


def test_equal_titles_are_numbered_within_the_limit_and_stay_so(local, alice):
    first = ("你好" * 40, "你好" * 40, FAMILY * 20, FAMILY * 20, "你好" * 40, "once")
    account = local(*[""] * 6, first=first)
    job = planned(alice, account, template="{first_message}")
    made = targets(job)
    assert len(set(made)) == 6 and all(len(title) <= 50 for title in made)
    assert made[0] == "你好" * 25 and made[1] == ("你好" * 25)[:46] + " (2)" and made[4] == ("你好" * 25)[:46] + " (3)"
    assert made[3] == cut(FAMILY * 20, 46) + " (2)" and made[5] == "once"
    assert targets(jobs.plan(job, job.params)) == made


def test_the_same_template_for_all_titles_twice_changes_nothing(local, alice):
    account = local("a", "b", "c")
    assert targets(planned(alice, account, template="周报", include_hand_made=True)) == ["周报", "周报 (2)", "周报 (3)"]
    # The provider lists what was changed last first.
    for number, title in enumerate(["周报 (3)", "周报", "周报 (2)"]):
        account.conversations.filter(remote_id=str(number)).update(title=title)
    again = planned(alice, account, template="周报", include_hand_made=True)
    assert jobs.changes(again) == 0 and targets(again) == ["周报 (3)", "周报", "周报 (2)"]


def test_what_is_not_found_keeps_its_title_whoever_has_the_same(local, alice):
    account = local("plan", "plan", "plan x", "plan  x")
    job = planned(alice, account, find=" x", replace="")
    assert targets(job) == ["plan", "plan", "plan (2)", "plan "]
    assert [reason for _status, reason in reasons(job)] == ["already_there", "already_there", "", ""]


def test_titles_made_while_a_preview_is_read_or_at_the_run_differ_too(at_aurod, alice):
    _simulator, account = at_aurod
    job = planned(alice, account, template="{first_message:1}")
    half = job.items.filter(status="pending")[:4]
    for item in half:
        Conversation.objects.filter(pk=item.conversation_id).update(first_message="再见")
    job = jobs.plan(job, job.params)
    job = checked(job, account)
    made = [title for title in targets(job) if title]
    assert len(made) > 5 and len(set(made)) == len(made) and {"再", "再 (2)", "再 (3)", "再 (4)"} <= set(made)
    account.conversations.update(first_message=None)
    late = planned(alice, account, template="{first_message:1}")
    assert jobs.groups(late)["reading"] > 5
    late = run(late, alice, account)
    made = [item.after["title"] for item in late.items.filter(status="applied")]
    assert len(made) > 5 and len(set(made)) == len(made)
    assert sorted(made) == sorted(item.target["title"] for item in late.items.filter(status="applied"))


@given(
    wanted=st.lists(
        st.tuples(st.sampled_from(["a", "a (2)", "周报", "", FAMILY * 3]), st.sampled_from(["a", "a (2)", "a (3)", "周报", "b"])), max_size=30
    ),
    taken=st.sets(st.sampled_from(["a", "a (2)", "周报", "周报 (2)"])),
    limit=st.integers(30, 60),
)
def test_numbering_gives_each_its_own_title_near_the_wanted_one_and_is_stable(wanted, taken, limit):
    given_titles = [numbering.Wanted(number, title, now, limit) for number, (title, now) in enumerate(wanted)]
    made = numbering.distribute(given_titles, set(taken))
    assert len(set(made.values())) == len(made) == len(wanted) and not set(made.values()) & taken
    assert all(numbering.is_numbered(made[one.pk], one.title, limit) and len(made[one.pk]) <= limit for one in given_titles)
    now_there = [numbering.Wanted(one.pk, one.title, made[one.pk], limit) for one in given_titles]
    assert numbering.distribute(reversed(now_there), set(taken)) == made


@given(st.text(max_size=40) | st.lists(st.sampled_from([FAMILY, "🇨🇳", "e\u0301", "客", "a"]), max_size=12).map("".join), st.integers(0, 30))
def test_a_cut_never_breaks_a_character(text, length):
    from wcwidth import iter_graphemes

    shown = cut(text, length)
    assert text.startswith(shown) and len(shown) <= length
    clusters = list(iter_graphemes(text))
    assert any(shown == "".join(clusters[:count]) for count in range(len(clusters) + 1))


# --- secrets ------------------------------------------------------------------------------------------------------------------------

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("我的密钥sk-Ab12cd34EF56gh78帮我看看", "我的密钥sk-***帮我看看"),
        ("key LTAI5tExampleExample ok", "key LTAI*** ok"),
        (f"token是{JWT}吗", "token是***吗"),
        ("Authorization: Bearer abc.def-123456", "Authorization: ***"),
        ("用Bearer 0a1b2c3d4e5f调用", "用Bearer ***调用"),
        ("password=hunter2!", "password=***"),
        ("密码：Abc12345，登录失败", "密码：***，登录失败"),
        ("我的密码是abc12345", "我的密码是***"),
        ("联系13800138000谢谢", "联系***谢谢"),
        ("电话 138-0013-8000", "电话 ***"),
        ("+86 138 0013 8000", "***"),
        ("call +1 (555) 012-3456 now", "call *** now"),
        ("客服热线010-12345678", "客服热线***"),
        ("身份证11010519491231002X是否有效", "身份证***是否有效"),
        ("身份证号110105194912310021", "身份证号***"),
        ("postgres://app:s3cret@db.example/x", "postgres://app:***@db.example/x"),
        ("ghp_0123456789abcdefABCDEF0123456789abcd", "ghp_***"),
        ("0123456789abcdef0123456789abcdef", "***"),
        ("keyLTAIabcdefgh and LTAIabcdefgh", "keyLTAIabcdefgh and LTAI***"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQ", "***"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text, shown):
    assert mask(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Basic concepts of Rust lifetimes", "密码是什么意思", "bearer bonds explained", "2026-01-07 19:52 会议纪要", "3.14159265358979",
        "How many tokens has a 4096 window", "ak-47", "第13章 1984年", "订单 20260107 到货", FAMILY, "https://example.com/a?b=c",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(text):
    assert mask(text) == text


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=5000, suppress_health_check=[HealthCheck.too_slow])  # a pattern that explodes takes minutes
def test_masking_is_quick_and_finds_nothing_new_the_second_time(text):
    once = mask(text)
    assert mask(once) == once


def test_a_secret_in_a_first_message_is_not_in_the_title(local, alice):
    account = local("", "", first=("请检查 sk-Ab12cd34EF56gh78 为什么失败", None))
    job = planned(alice, account, template="{first_message:24}")
    assert targets(job)[0] == "请检查 sk-*** 为什么失败"
    item = job.items.last()
    assert titles_for(job, item, account, "打 13800138000") == {"title": "打 ***"}


def titles_for(job, item, account, first):
    from conversations import titles

    return titles.for_item(job, item, account, first).values


# --- regular expressions ------------------------------------------------------------------------------------------------------------


def test_groups_are_put_in_and_results_are_cut_and_kept_on_one_line(local, alice):
    account = local("2026-01 周报", "退款流程", "x" * 50)
    job = planned(alice, account, find=r"(\d{4})-(\d\d) (.*)|x", replace=r"\3 \2/\1", regex=True)
    assert targets(job)[:2] == ["周报 01/2026", "退款流程"]
    assert reasons(job)[1:] == [("pending", "already_there"), ("pending", "")] and set(targets(job)[2]) <= set("/ ")
    one_line = planned(alice, account, find="退款", replace=r"a\nb", regex=True)
    assert targets(one_line)[1] == "a b流程"
    nothing = planned(alice, account, find=".*", replace="", regex=True)
    assert {reason for _status, reason in reasons(nothing)} == {"empty_title"}


@pytest.mark.parametrize(
    ("find", "replace", "field", "said"),
    [
        ("(a", "", "find", "At character 1: a parenthesis is not closed."),
        ("a[b", "", "find", "At character 2: a square bracket is not closed."),
        ("*a", "", "find", "At character 1: there is nothing to repeat before it."),
        ("a", r"\1", "replace", "At character 2: there is no such group in the pattern."),
        ("a", r"\g<b>", "replace", "there is no such group in the pattern"),
        ("(" * 100 + ")" * 100, r"\q", "replace", "At character 1: a backslash"),
        ("a" * 201, "", "find", "at most 200 characters"),
        ("", "", "find", "Write what is to be found."),
    ],
)
def test_what_is_no_regular_expression_is_told_at_its_field_with_the_place(local, alice, client, find, replace, field, said):
    account = local("a title", "")
    job = jobs.create(alice, "set-title", account.conversations.all())
    data = {"action": "set-title", "mode": "replace", "find": find, "replace": replace, "regex": "on", "template": "{n} kept"}
    answer = client.post(reverse("job_compose", args=[job.pk]), data)
    form = answer.context["form"]
    assert answer.status_code == 422 and list(form.errors) == [field] and said.rstrip(".") in form.errors[field][0]
    # Nothing that was typed is lost.
    assert (form["find"].value(), form["replace"].value(), form["template"].value(), form["regex"].value()) == (find, replace, "{n} kept", True)
    job.refresh_from_db()
    assert job.planned_at is None


@pytest.mark.parametrize("find", ["(a+)+$", "(a|a)*$", ".*.*.*.*.*.*.*=", "(?:(?:(?:(?:){1000}){1000}){1000}){1000}"])
def test_a_pattern_that_would_never_end_is_stopped_and_refused(local, alice, client, find):
    account = local("a" * 49 + "b")
    began = time.monotonic()
    with pytest.raises(ValidationError) as refused:
        planned(alice, account, find=find, replace="x", regex=True)
    assert time.monotonic() - began < 20
    assert list(refused.value.message_dict) == ["find"] and "takes too long" in refused.value.messages[0]
    job = Job.objects.last()
    assert job.planned_at is None
    shown = client.get(reverse("job_example", args=[job.pk]), {"mode": "replace", "find": find, "replace": "x", "regex": "on"})
    assert "takes too long" in text_of(shown)


def test_a_preview_in_which_a_title_became_too_hard_goes_on(at_aurod, alice):
    simulator, account = at_aurod
    job = planned(alice, account, find="(z+)+$", replace="x", regex=True)
    one = job.items.first()
    simulator.change_by_somebody(one.remote_id, title="z" * 49 + "b")
    job = checked(job, account)
    one.refresh_from_db()
    assert (one.status, one.reason) == ("skipped", "pattern_too_slow") and jobs.unchecked(job) == 0


def test_many_titles_are_matched_by_one_process(local, alice, monkeypatch):
    account = local(*[f"title {number}" for number in range(300)])
    started = []
    real = patterns.subprocess.run
    monkeypatch.setattr(patterns.subprocess, "run", lambda *args, **more: started.append(args) or real(*args, **more))
    job = planned(alice, account, find=r"title (\d+)", replace=r"#\1", regex=True)
    assert targets(job)[:2] == ["#0", "#1"] and len(started) == 2  # one to check the pattern, one for all titles


def test_the_process_that_matches_gets_nothing_of_ours(monkeypatch):
    monkeypatch.setenv("SWITCHBOARD_SECRET_KEY", "not for children")
    seen = {}
    real = patterns.subprocess.run
    monkeypatch.setattr(patterns.subprocess, "run", lambda *args, **more: seen.update(more) or real(*args, **more))
    assert patterns.run("a", "b", ["banana"]) == {"banana": "bbnbnb"}
    assert seen["env"] == {}


# --- the form -----------------------------------------------------------------------------------------------------------------------


def test_the_form_says_how_many_titles_are_left_alone_and_keeps_the_choice(local, alice, client):
    account = local("mine", "yours", "")
    job = jobs.create(alice, "set-title", account.conversations.all())
    address = reverse("job_compose", args=[job.pk])
    assert "2 of these conversations have a title that somebody chose" in text_of(client.get(address))
    wrong = client.post(address, {"action": "set-title", "mode": "template", "template": "{titel}", "include_hand_made": "on"})
    assert wrong.status_code == 422 and wrong.context["form"]["include_hand_made"].value() is True
    assert client.post(address, {"action": "set-title", "mode": "template", "template": "{n}", "include_hand_made": "on"}).status_code == 302
    job.refresh_from_db()
    assert job.params == {"template": "{n}", "include_hand_made": True} and jobs.changes(job) == 3
    assert client.get(address).context["form"]["include_hand_made"].value() is True
    assert client.post(address, {"action": "set-title", "mode": "template", "template": "{n}"}).status_code == 302
    assert "A person chose its title" in text_of(client.get(reverse("job_detail", args=[job.pk]) + "?group=other"))


def test_the_example_shows_rows_that_would_change(local, alice, client):
    account = local("mine", "", "yours", first=("one", "two", "three"))
    job = jobs.create(alice, "set-title", account.conversations.all())
    example = reverse("job_example", args=[job.pk])
    shown = text_of(client.get(example, {"mode": "template", "template": "T {first_message}"}))
    assert "T two" in shown and "T one" not in shown
    shown = text_of(client.get(example, {"mode": "template", "template": "T {first_message}", "include_hand_made": "on"}))
    assert "T one" in shown and "T three" in shown
    shown = text_of(client.get(example, {"mode": "replace", "find": "^m(.)", "replace": r"\1m", "regex": "on"}))
    assert "imne" in shown and "yours" not in shown
    shown = text_of(client.get(example, {"mode": "template", "template": "same", "include_hand_made": "on"}))
    assert "same (2)" in shown and "same (3)" in shown
