"""The audit log: who sees what of it, how it is filtered and taken away, what reading adds to it, and that nobody changes it."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Account, AccountQuerySet, Membership, Role, Team, User
from conversations import audit, audit_guard, jobs, lanes
from conversations.models import AuditEntry, Conversation, Job
from conversations.querysets import OnlyAdded

from .pages import HX, text_of, url
from .support import make_user, synced
from .test_jobs import other_model, switch_job


@pytest.fixture
def client(alice) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def entry(what: str = "rename", *, actor: User | None = None, **values) -> AuditEntry:
    given = {"actor_name": str(actor or "somebody"), "account_label": "Shop", "result": "applied"} | values
    return AuditEntry.objects.create(actor=actor, what=what, **given)


def shown(answer) -> list[int]:
    return [int(number) for number in re.findall(r'<tr id="audit-(\d+)"', answer.content.decode())]


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


# --- nobody changes it ----------------------------------------------------------------------------------------------------------------


def test_an_entry_that_was_added_stays_as_it_is(alice):
    one = entry(actor=alice, before={"title": "a"}, after={"title": "b"})
    for change in (
        one.save,
        one.delete,
        lambda: AuditEntry.objects.update(what="x"),
        lambda: AuditEntry.objects.filter(pk=one.pk).delete(),
        lambda: AuditEntry.objects.bulk_update([one], ["what"]),
        lambda: AuditEntry.objects.update_or_create(pk=one.pk, defaults={"what": "x"}),
    ):
        with pytest.raises(OnlyAdded):
            change()
    assert AuditEntry.objects.values_list("what", "after").get() == ("rename", {"title": "b"})


def test_the_database_refuses_what_goes_around_the_model(alice):
    one, bob = entry(actor=alice), make_user("bob@example.com")
    raw = AuditEntry._base_manager
    for change in (
        lambda: raw.update(what="x"),
        lambda: raw.update(at=timezone.now()),
        lambda: raw.update(actor=bob),  # another author is no author that left
        lambda: raw.update(actor=None, note="x"),
        lambda: raw.all()._raw_delete("default"),
        lambda: connection.cursor().execute("DELETE FROM conversations_auditentry"),
    ):
        with pytest.raises(DatabaseError, match="only ever added"), transaction.atomic():
            change()
    assert AuditEntry.objects.values_list("what", "actor").get() == (one.what, alice.pk)


def test_after_all_migrations_the_triggers_are_there(alice):
    assert audit_guard.installed(connection) == audit_guard.names(), "a migration built the table anew: end it with audit_guard.install"


def test_what_an_entry_is_about_may_go_and_the_entry_stays(connected, alice):
    account = synced(connected("modelrouter", populate=2)[1])
    team, author = Team.objects.create(name="Team"), make_user("author@example.com")
    row = account.conversations.first()
    job = Job.objects.create(actor=alice, action="set-title")
    one = entry(actor=author, account=account, conversation=row, remote_id=row.remote_id, job=job, team=team, after={"title": "b"})
    for gone in (row, job, team, author, account):
        gone.delete()
    now = AuditEntry.objects.get()
    assert (now.actor, now.account, now.conversation, now.job, now.team) == (None,) * 5
    assert (now.at, now.actor_name, now.remote_id, now.after) == (one.at, "author@example.com", row.remote_id, {"title": "b"})


def test_no_address_changes_an_entry(client, alice):
    entry(actor=alice)
    for address in (reverse("audit_list"), reverse("audit_export", args=["csv"])):
        for method in ("post", "put", "patch", "delete"):
            assert getattr(client, method)(address).status_code == 405
    assert AuditEntry.objects.count() == 1


# --- who sees what --------------------------------------------------------------------------------------------------------------------


def test_people_see_their_own_deeds_those_on_their_accounts_and_those_of_teams_they_lead(connected, alice):
    bob, carol = make_user("bob@example.com"), make_user("carol@example.com")
    account, team = connected("aurod")[1], Team.objects.create(name="Team")
    for user, role in ((alice, Role.OWNER), (bob, Role.ADMIN), (carol, Role.OPERATOR)):
        Membership.objects.create(team=team, user=user, role=role)
    mine, on_account, of_team = entry(actor=carol), entry(actor=bob, account=account), entry("invite", team=team)
    nobodys = entry()

    def seen(user):
        return set(AuditEntry.objects.visible_to(user).values_list("pk", flat=True))

    assert seen(alice) == {on_account.pk, of_team.pk}
    assert seen(bob) == {on_account.pk, of_team.pk}
    assert seen(carol) == {mine.pk}
    assert seen(None) == set() and nobodys.pk not in seen(alice)
    assert shown(signed_in(carol).get(reverse("audit_list"))) == [mine.pk]
    assert str(on_account.pk) not in [row["id"] for row in json.loads(signed_in(carol).get(reverse("audit_export", args=["json"])).getvalue())]


def test_strangers_are_sent_to_sign_in():
    for address in (reverse("audit_list"), reverse("audit_export", args=["csv"])):
        assert Client().get(address).status_code == 302


# --- the page -------------------------------------------------------------------------------------------------------------------------


def test_the_log_of_a_job_holds_every_change_and_the_order_with_its_note(connected, client, alice):
    account = synced(connected("modelrouter", populate=12, rate_limit=0)[1])
    job = switch_job(alice, account, other_model(account))
    assert jobs.start(alice, job, note="spring cleaning")
    while lanes.run_lane(account.pk):
        pass
    page = client.get(reverse("audit_list"), {"job": str(job)})
    text = text_of(page)
    assert len(shown(page)) == 13 and text.count("Job started") >= 1
    changed = AuditEntry.objects.filter(job=job, what="switch-model")
    names = dict(account.catalogue.values_list("model_id", "name"))
    assert changed.count() == 12
    for one in changed:
        for side in (one.before, one.after):
            assert all(names.get(model, model) in text for model in account.provider.models_in(side["model"]))
    assert f'href="{reverse("job_detail", args=[job.pk])}"' in text and "spring cleaning" in text
    assert f'href="{reverse("conversation_detail", args=[changed[0].conversation_id])}"' in text


def test_every_filter_narrows_and_is_in_the_address(connected, client, alice):
    account = synced(connected("modelrouter", populate=2)[1])
    row = account.conversations.first()
    bob = make_user("bob@example.com")
    one = entry("switch model", actor=bob, account=account, conversation=row, result="failed")
    two = entry("switch-model", actor=alice, account=account)
    three = entry("job started", actor=alice, job=Job.objects.create(actor=alice, action="set-title"), result="")
    tomorrow = (timezone.now() + timedelta(days=1)).date()
    for given, expected in (
        ({}, [three, two, one]),
        ({"actor": "BOB"}, [one]),
        ({"what": "switch-model"}, [two, one]),
        ({"result": "failed"}, [one]),
        ({"account": account.pk}, [two, one]),
        ({"conversation": row.pk}, [one]),
        ({"job": f"job:J-{three.job_id}"}, [three]),
        ({"job": f"{three.job_id}"}, [three]),
        ({"since": tomorrow}, []),
        ({"until": tomorrow, "what": "switch-model", "actor": "alice"}, [two]),
        ({"job": "J-x"}, [three, two, one]),
    ):
        assert shown(client.get(reverse("audit_list"), given)) == [found.pk for found in expected], given
    assert "A job is written like J-42." in text_of(client.get(reverse("audit_list"), {"job": "J-x"}))
    assert client.get(reverse("audit_export", args=["csv"]), {"job": "J-x"}).status_code == 404, "not a file with more than was asked for"
    assert "Nothing matches" in text_of(client.get(reverse("audit_list"), {"since": tomorrow}))
    assert client.get(reverse("audit_list"), headers=HX).content.lstrip().startswith(b'<div class="card" id="audit"')


@pytest.mark.parametrize("wrong", ["account=6a1f7f6e-0000-4000-8000-000000000000", "account=nonsense", "what=nonsense", "result=maybe", "job=xyz"])
def test_a_filter_that_is_wrong_is_marked_and_offers_no_file(client, alice, wrong):
    entry(actor=alice)
    client.force_login(alice)
    page = client.get(f"/audit/?{wrong}").content.decode()
    assert f'id="audit_{wrong.split("=")[0]}_error"' in page, "the list is not narrowed by it, and its field says so"
    assert "UUID" not in page
    assert "audit-csv" not in page and client.get(f"/audit/export.csv?{wrong}").status_code == 404
    assert "audit-csv" in client.get("/audit/").content.decode()


def test_pages_follow_each_other_and_come_back(client, alice):
    ids = [entry(actor=alice).pk for _number in range(audit.PAGE_SIZE * 2 + 5)][::-1]
    first = client.get(reverse("audit_list"))
    assert shown(first) == ids[: audit.PAGE_SIZE]
    entry(actor=alice)  # meanwhile something is done: the pages stay where they were
    second = client.get(reverse("audit_list"), {"older": ids[audit.PAGE_SIZE - 1]})
    assert shown(second) == ids[audit.PAGE_SIZE : 2 * audit.PAGE_SIZE]
    assert shown(client.get(reverse("audit_list"), {"older": ids[2 * audit.PAGE_SIZE - 1]})) == ids[2 * audit.PAGE_SIZE :]
    assert shown(client.get(reverse("audit_list"), {"newer": ids[audit.PAGE_SIZE]})) == ids[: audit.PAGE_SIZE]
    for odd in ("x", "-1", "9" * 30, "²"):
        assert client.get(reverse("audit_list"), {"older": odd}).status_code == 200


def test_what_others_wrote_stays_text_and_what_no_form_knows_is_shown(client, alice):
    hostile = "<script>alert(1)</script>"
    entry("role", actor=alice, account_label=hostile[:80], note=hostile, before={"role": "viewer"}, after={"role": hostile, "more": [1, {"a": None}]})
    entry("odd", actor=alice, before="text", after=[1])
    text = client.get(reverse("audit_list")).content.decode()
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text and "Viewer" in text


def test_the_page_costs_the_same_few_statements_however_many_entries_there_are(connected, client, alice, django_assert_max_num_queries):
    account = synced(connected("modelrouter", populate=20)[1])
    for row in account.conversations.all():
        entry("rename", actor=alice, account=account, conversation=row, before={"title": "a"}, after={"title": "b"})
    with django_assert_max_num_queries(16):
        assert len(shown(client.get(reverse("audit_list")))) == 20


# --- the file -------------------------------------------------------------------------------------------------------------------------


def test_the_file_is_what_the_filter_shows_and_taking_it_is_an_entry(client, alice):
    one = entry(actor=alice, note="=1+1", before={"title": "a"}, after={"title": "=b"})
    entry("undo", actor=alice)
    answer = client.get(reverse("audit_export", args=["csv"]), {"what": "set-title"})
    found = list(csv.DictReader(io.StringIO(answer.getvalue().decode("utf-8-sig"))))
    assert [(row["id"], row["note"], row["after"]) for row in found] == [(str(one.pk), "'=1+1", '{"title": "=b"}')]
    assert answer["Content-Disposition"] == 'attachment; filename="audit.csv"' and "no-store" in answer["Cache-Control"]
    taken = AuditEntry.objects.get(what="export")
    assert (taken.actor, taken.after) == (alice, {"kind": "csv", "what": "set-title"})
    rows = json.loads(client.get(reverse("audit_export", args=["json"])).getvalue())
    assert [row["what"] for row in rows] == ["export", "export", "undo", "rename"]
    assert client.get(reverse("audit_export", args=["xml"])).status_code == 404


def test_taking_the_results_of_a_job_away_is_an_entry(client, alice):
    job = Job.objects.create(actor=alice, action="set-title")
    assert client.get(reverse("job_report", args=[job.pk, "csv"])).status_code == 200
    assert client.get(reverse("job_report", args=[job.pk, "json"]), {"status": ["applied", "failed"]}).status_code == 200
    assert client.get(reverse("job_report", args=[job.pk, "exe"])).status_code == 404
    found = AuditEntry.objects.order_by("pk").values_list("what", "actor", "job", "after")
    assert list(found) == [
        ("download results", alice.pk, job.pk, {"kind": "csv"}),
        ("download results", alice.pk, job.pk, {"kind": "json", "status": ["applied", "failed"]}),
    ]
    shown = text_of(client.get(reverse("audit_list"), {"what": "report"}))
    assert "Results of a job downloaded" in shown and "Applied, Failed" in shown


# --- reading ----------------------------------------------------------------------------------------------------------------------------


def test_reading_a_conversation_of_another_person_is_noted_once_an_hour(connected, alice, monkeypatch):
    account = synced(connected("modelrouter", populate=2)[1])
    row, other = account.conversations.all()[:2]
    bob = make_user("bob@example.com")
    monkeypatch.setattr(AccountQuerySet, "visible_to", lambda accounts, user: accounts.all())  # as if it were shared with him
    reader = signed_in(bob)
    for _time in range(2):
        assert reader.get(url("detail", row)).status_code == 200
        assert reader.get(url("messages", row), headers=HX).status_code == 200
    assert list(AuditEntry.objects.values_list("what", "actor", "account", "conversation")) == [(audit.READ, bob.pk, account.pk, row.pk)]
    reader.get(url("messages", other), headers=HX)
    assert AuditEntry.objects.filter(conversation=other).count() == 1
    later = timezone.now() + audit.READ_AGAIN + timedelta(seconds=1)
    monkeypatch.setattr(audit.timezone, "now", lambda: later)
    audit.note_reading(bob, Conversation.objects.get(pk=row.pk))
    assert AuditEntry.objects.filter(conversation=row).count() == 2


def test_reading_ones_own_conversation_is_nobodys_business(connected, client, alice):
    account = synced(connected("modelrouter", populate=1)[1])
    client.get(url("detail", account.conversations.first()))
    client.get(url("messages", account.conversations.first()), headers=HX)
    assert Account.objects.count() == 1 and not AuditEntry.objects.exists()
