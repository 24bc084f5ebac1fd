"""A single edit: what is written, what is verified, and what is said about it."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied, ValidationError

from conversations import edits
from conversations.models import AuditEntry
from conversations.states import ItemStatus as S

from .support import make_user, row, synced


@pytest.fixture
def at_aurod(connected):
    simulator, account = connected("aurod", populate=40)
    synced(account)
    remote_id = sorted(simulator.truth())[0]
    return simulator, account, row(account, remote_id), _other_model(account, row(account, remote_id))


def _other_model(account, conversation):
    return account.catalogue.exclude(model_id=conversation.model).first().model_id


def test_a_switch_is_written_once_and_verified(at_aurod, alice):
    simulator, _account, conversation, other = at_aurod
    before = simulator.truth()
    outcome = edits.edit_now(alice, conversation, {"model": other}, what="switch model")
    assert (outcome.status, outcome.reason) == (S.APPLIED, "")
    assert len(simulator.writes()) == 1
    after = simulator.truth()
    assert after[conversation.remote_id]["model"] == other
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {conversation.remote_id}
    conversation.refresh_from_db()
    assert conversation.model == other and conversation.changed_upstream_at is None
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.result, entry.after) == (alice, "applied", {"model": other})


def test_the_value_it_already_has_is_not_written(at_aurod, alice):
    simulator, _account, conversation, _other = at_aurod
    outcome = edits.edit_now(alice, conversation, {"model": conversation.model})
    assert outcome.status == S.UNCHANGED
    assert simulator.writes() == [] and not AuditEntry.objects.exists()


def test_a_change_by_somebody_else_is_not_overwritten(at_aurod, alice):
    simulator, _account, conversation, other = at_aurod
    simulator.change_by_somebody(conversation.remote_id, title="somebody's own title")
    outcome = edits.edit_now(alice, conversation, {"title": "mine"})
    assert (outcome.status, outcome.reason) == (S.CONFLICT, "changed_since_preview")
    assert simulator.writes() == []
    conversation.refresh_from_db()
    assert conversation.title == "somebody's own title" and conversation.changed_upstream_at is not None
    assert edits.edit_now(alice, conversation, {"model": other}).status == S.APPLIED  # another field: no drift
    assert simulator.truth()[conversation.remote_id]["title"] == "somebody's own title"


@pytest.mark.parametrize("kind", ["ignore", "echo"])
def test_a_polite_answer_is_not_taken_for_the_deed(at_aurod, alice, kind):
    simulator, _account, conversation, other = at_aurod
    simulator.add_fault(kind, writes_only=True)
    outcome = edits.edit_now(alice, conversation, {"model": other})
    assert (outcome.status, outcome.reason) == (S.NOT_APPLIED, "accepted_not_applied")
    conversation.refresh_from_db()
    assert conversation.model != other


def test_a_lost_answer_is_looked_at_and_never_sent_again(at_aurod, alice):
    simulator, _account, conversation, other = at_aurod
    simulator.add_fault("cut_after", writes_only=True)
    outcome = edits.edit_now(alice, conversation, {"model": other})
    assert (outcome.status, outcome.reason) == (S.APPLIED, "checked_after_no_answer")
    assert len(simulator.writes()) == 1


def test_a_write_that_never_arrived_is_said_to_be_not_applied(at_aurod, alice):
    simulator, _account, conversation, other = at_aurod
    simulator.add_fault("cut_before", writes_only=True)
    outcome = edits.edit_now(alice, conversation, {"model": other})
    assert (outcome.status, outcome.reason) == (S.NOT_APPLIED, "outcome_unknown")
    assert len(simulator.writes()) == 1


def test_when_even_the_second_look_fails_the_outcome_is_unknown(at_aurod, alice, monkeypatch):
    simulator, _account, conversation, other = at_aurod
    monkeypatch.setattr(edits.services, "PROMPT", edits.services.Patience(attempts=1, seconds=2))
    monkeypatch.setitem(edits.services.call.__kwdefaults__, "patience", edits.services.Patience(attempts=1, seconds=2))
    simulator.add_fault("cut_after", writes_only=True)
    simulator.add_fault("error", method="GET", skip=1, times=50)
    outcome = edits.edit_now(alice, conversation, {"model": other})
    assert (outcome.status, outcome.reason) == (S.FAILED, "outcome_unknown")
    assert AuditEntry.objects.get().reason == "outcome_unknown"


def test_somebody_elses_conversation_cannot_be_changed(at_aurod):
    simulator, _account, conversation, other = at_aurod
    with pytest.raises(PermissionDenied):
        edits.edit_now(make_user("mallory@example.com"), conversation, {"model": other})
    assert simulator.writes() == []


def test_bad_values_are_refused_at_their_field_before_any_request(at_aurod):
    simulator, _account, conversation, _other = at_aurod
    simulator.log.clear()
    with pytest.raises(ValidationError) as refused:
        edits.check_changes(conversation, {"title": "x" * 51, "temperature": "9.9", "model": "no-such-model", "colour": "red"})
    assert set(refused.value.message_dict) == {"title", "temperature", "model", "colour"}
    assert simulator.log == []


def test_only_touched_settings_differ_at_the_provider(at_aurod, alice):
    simulator, _account, conversation, _other = at_aurod
    before = simulator.truth()[conversation.remote_id]
    target = edits.check_changes(conversation, {"temperature": "0.3", "contextCount": "12", "prompt": "新的提示词\n" * 400})
    assert target["contextCount"] == 12 and target["temperature"] == 0.3
    assert edits.edit_now(alice, conversation, target).status == S.APPLIED
    after = simulator.truth()[conversation.remote_id]
    assert {name for name in before if before[name] != after[name]} - {"updated"} == {"temperature", "contextCount", "prompt"}


def test_a_deleted_conversation_is_marked_gone(at_aurod, alice):
    simulator, _account, conversation, other = at_aurod
    simulator.remove_by_somebody(conversation.remote_id)
    outcome = edits.edit_now(alice, conversation, {"model": other})
    assert (outcome.status, outcome.reason) == (S.SKIPPED, "gone")
    conversation.refresh_from_db()
    assert conversation.gone_at is not None


def test_a_dead_credential_is_said_and_noted_on_the_account(at_aurod, alice):
    simulator, account, conversation, other = at_aurod
    simulator.add_fault("expired", times=99)
    outcome = edits.edit_now(alice, conversation, {"model": other})
    assert (outcome.status, outcome.reason) == (S.FAILED, "credentials_rejected")
    account.refresh_from_db()
    assert account.health == "needs_reauth"
