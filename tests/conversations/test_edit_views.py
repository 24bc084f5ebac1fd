"""Single edits as a browser's requests meet them: the chip, the title, the settings, the undo; what is said of every outcome, and who may."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from accounts import services
from conversations import claims, edits, mirror, presenters
from conversations.models import AuditEntry, Conversation
from conversations.states import ItemStatus

from .pages import HX, events_of, other_model, some_row, text_of, toast_of, url
from .support import make_user, row, synced

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(alice):
    signed_in = Client()
    signed_in.force_login(alice)
    return signed_in


@pytest.fixture
def aurod(connected):
    simulator, account = connected("aurod", label="Shop")  # the simulator's own 64 sessions, some of them odd
    return simulator, synced(account)


# --- one-click switch and rename ----------------------------------------------------------------------------------------------------


def switch(client, conversation, model, *, place="list", **more):
    seen = presenters.pack_seen(conversation)
    return client.post(url("model", conversation) + "?q=keep", {"model": model, "place": place, "seen": seen, **more}, headers=HX)


def rename(client, conversation, title, *, place="list"):
    return client.post(url("title", conversation), {"title": title, "place": place, "seen": presenters.pack_seen(conversation)}, headers=HX)


def test_the_picker_offers_the_catalogue_with_prices_and_marks_the_current_one(client, aurod):
    conversation = some_row(aurod[1], model="deepseek-chat")
    page = text_of(client.get(url("model", conversation) + "?place=list", headers=HX))
    assert page.count('role="option"') == aurod[1].catalogue.count()
    assert "1000000积分" in page and re.search(r"深度求索 V3.2</span>\s*<svg.*?current model", page, re.DOTALL)
    left = aurod[1].conversations.get(title="Model that left the catalogue")
    assert re.search(r"disabled>\s*<span class=\"truncate\">gpt-3.5-turbo-0613</span>", text_of(client.get(url("model", left), headers=HX)))


def test_a_click_switches_the_row_with_one_write_and_an_undo(client, aurod, alice):
    simulator, account = aurod
    conversation = some_row(account)
    before, target = conversation.model, other_model(account, conversation)
    answer = switch(client, conversation, target)
    assert answer.status_code == 200 and f'<tr id="row-{conversation.pk}"' in text_of(answer)
    assert "Verified at the provider" in text_of(answer) and "?q=keep" in text_of(answer)
    toast = toast_of(answer)
    names = dict(account.catalogue.values_list("model_id", "name"))
    assert toast["message"] == f"{names[before]} → {names[target]} ✓" and toast["level"] == "success"
    assert len(simulator.writes()) == 1 and simulator.truth()[conversation.remote_id]["model"] == target
    assert events_of(answer) == {"conversation-changed", f"conversation-{conversation.pk}-reader", f"conversation-{conversation.pk}-pane"}
    undone = client.post(toast["undo_url"], headers=HX)
    assert undone.status_code == 204 and simulator.truth()[conversation.remote_id]["model"] == before
    assert f"conversation-{conversation.pk}-list" in events_of(undone) and toast_of(undone)["level"] == "success"
    assert AuditEntry.objects.filter(actor=alice, result="applied").count() == 2


def test_a_model_that_is_not_offered_is_refused_before_any_request(client, aurod):
    simulator, account = aurod
    simulator.log.clear()
    answer = switch(client, some_row(account), "no-such-model")
    assert toast_of(answer)["level"] == "danger" and "no-such-model" in toast_of(answer)["message"] and simulator.log == []


def test_text_that_no_database_takes_is_no_crash(client, aurod):
    conversation = some_row(aurod[1])
    assert toast_of(switch(client, conversation, "no\0such"))["level"] == "danger"
    assert toast_of(rename(client, conversation, "a\0b"))["level"] == "success"
    conversation.refresh_from_db()
    assert conversation.title == "ab"
    data = opened(client, conversation) | {"prompt": "a\0b"}
    assert "Null characters" in text_of(client.post(url("settings", conversation), data, headers=HX))


def test_a_page_that_is_old_overwrites_nothing_that_came_meanwhile(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    seen = presenters.pack_seen(conversation)
    simulator.change_by_somebody(conversation.remote_id, title="somebody's")
    mirror.refresh(conversation)  # our copy knows by now, the page does not
    answer = client.post(url("title", conversation), {"title": "mine", "place": "list", "seen": seen}, headers=HX)
    assert toast_of(answer)["level"] == "warning" and "somebody's" in toast_of(answer)["message"]
    assert "undo_url" not in toast_of(answer) and simulator.writes() == []


def test_what_a_page_says_it_saw_must_be_ours(client, aurod):
    conversation, another = list(aurod[1].conversations.all()[:2])
    good = presenters.pack_seen(another)
    for packed in (good, good[:-3] + "xxx", "", "nonsense"):
        assert presenters.unpack_seen(packed, {"title": "x"}, conversation) is None


OUTCOMES = [
    # fault, its rule, level, part of the sentence, written anything that can be undone
    ("", {}, "success", "✓", True),
    ("ignore", {}, "warning", "accepted the change but still shows the old value", False),
    ("echo", {}, "warning", "accepted the change but still shows the old value", False),
    ("cut_after", {}, "success", "a second look showed that the change is there", True),
    ("error_after", {}, "success", "a second look showed that the change is there", True),
    ("cut_before", {}, "warning", "did not arrive", False),
    ("expired", {"times": 99}, "danger", "does not accept this account's credential", False),
]


@pytest.mark.parametrize(("fault", "rule", "level", "sentence", "undo"), OUTCOMES)
def test_every_outcome_of_a_switch_is_told_as_it_is(client, aurod, fault, rule, level, sentence, undo):
    simulator, account = aurod
    conversation = some_row(account)
    before, target = conversation.model, other_model(account, conversation)
    if fault:
        simulator.add_fault(fault, **(rule or {"writes_only": True}))
    answer = switch(client, conversation, target)
    toast = toast_of(answer)
    assert answer.status_code == 200 and toast["level"] == level and sentence in toast["message"]
    assert ("undo_url" in toast) is undo
    assert ("Verified at the provider" in text_of(answer)) is undo
    simulator.clear_faults()
    conversation.refresh_from_db()
    stored = simulator.truth()[conversation.remote_id]["model"]
    assert conversation.model == stored == (target if undo else before), "the row shows what is stored"
    assert len(simulator.writes()) <= 1


def test_an_outcome_that_stays_unknown_is_called_unknown(client, aurod, monkeypatch):
    simulator, account = aurod
    conversation = some_row(account)
    monkeypatch.setitem(services.call.__kwdefaults__, "patience", services.Patience(attempts=1, seconds=2))
    simulator.add_fault("cut_after", writes_only=True)
    simulator.add_fault("error", method="GET", skip=1, times=50)
    toast = toast_of(switch(client, conversation, other_model(account, conversation)))
    assert toast["level"] == "danger" and toast["message"].startswith("Unknown:") and "undo_url" not in toast


def test_every_status_and_reason_of_an_outcome_has_a_sentence(aurod):
    conversation = some_row(aurod[1])
    for status in (ItemStatus.APPLIED, ItemStatus.UNCHANGED, ItemStatus.NOT_APPLIED, ItemStatus.FAILED, ItemStatus.SKIPPED, ItemStatus.CONFLICT):
        for reason in ("", *presenters.REASONS):
            outcome = edits.Outcome(status, reason, {"title": "a"}, {"title": "b"})
            message, level = presenters.outcome_message(conversation, outcome, {"title": "a"})
            assert message and level in ("success", "info", "warning", "danger")
            assert (level == "success") <= (status == ItemStatus.APPLIED), "only what is there is green"


def test_a_busy_conversation_is_said_to_be_busy(client, aurod):
    _simulator, account = aurod
    conversation = some_row(account)
    with claims.claim(account.upstream_identity, [conversation.remote_id], holder="a lane"):
        toast = toast_of(rename(client, conversation, "x"))
    assert toast["level"] == "warning" and "under way" in toast["message"]


def test_renaming_in_place_keeps_emoji_and_chinese(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    answer = rename(client, conversation, "  周报 🎉 final  ")
    assert toast_of(answer)["level"] == "success" and "周报 🎉 final" in text_of(answer)
    assert simulator.truth()[conversation.remote_id]["title"] == "周报 🎉 final"


@pytest.mark.parametrize("place", ["list", "reader"])
@pytest.mark.parametrize(
    ("title", "sentence"), [("", "This field is required."), ("   ", "This field is required."), ("长" * 51, "At most 50 characters; these are 51.")]
)
def test_a_title_that_is_refused_comes_back_with_the_form(client, aurod, place, title, sentence):
    simulator, account = aurod
    conversation = some_row(account)
    answer = rename(client, conversation, title, place=place)
    page = text_of(answer)
    assert answer.status_code == 422 and sentence in page and f'value="{title}"' in page
    assert re.search(r"data-inline-form hx-post", page), "the form is open"
    assert simulator.writes() == []


def test_a_title_that_the_provider_alters_is_shown_as_stored(client, connected):
    simulator, account = connected("nuwax", populate=5)
    conversation = some_row(synced(account))
    answer = rename(client, conversation, '"quoted" title')
    stored = simulator.truth()[conversation.remote_id]["title"]
    assert '"' not in stored and stored in toast_of(answer)["message"] and toast_of(answer)["level"] == "warning"
    assert stored in text_of(answer)


def test_the_providers_own_title_is_announced_and_sent_once(client, connected):
    simulator, account = connected("nuwax", populate=5)
    conversation = some_row(synced(account))
    head = text_of(client.get(url("detail", conversation)))
    confirm = re.search(r'data-confirm="([^"]+)"', head)[1]
    assert "Slow, billed" in confirm and "asked for only once" in confirm
    answer = client.post(url("generate_title", conversation), {"place": "reader"}, headers=HX)
    conversation.refresh_from_db()
    assert simulator.truth()[conversation.remote_id]["title"] == conversation.title
    assert len(simulator.writes()) == 1 and toast_of(answer)["level"] == "success" and "undo_url" in toast_of(answer)


@pytest.mark.parametrize(
    ("key", "name", "data"), [("aurod", "generate_title", {}), ("chongzhiling", "title", {"title": "x"}), ("chatnio", "model", {"model": "gpt-4o"})]
)
def test_what_a_provider_does_not_offer_is_refused_with_its_reason(client, connected, key, name, data):
    simulator, account = connected(key, populate=3)
    conversation = synced(account).conversations.first()
    simulator.log.clear()
    answer = client.post(url(name, conversation), data, headers=HX)
    operation = {"generate_title": "generate_title", "title": "rename", "model": "switch_model"}[name]
    assert toast_of(answer)["message"] == account.provider.capability(operation).reason and simulator.log == []


def test_undo_overwrites_nothing_that_somebody_wrote_since(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    undo = toast_of(rename(client, conversation, "mine"))["undo_url"]
    simulator.change_by_somebody(conversation.remote_id, title="theirs")
    answer = client.post(undo, headers=HX)
    assert toast_of(answer)["level"] == "warning" and simulator.truth()[conversation.remote_id]["title"] == "theirs"


# --- the settings dialog ------------------------------------------------------------------------------------------------------------


def opened(client, conversation) -> dict[str, str]:
    """The fields of the opened dialog, as the browser would send them untouched."""
    response = client.get(url("settings", conversation), headers=HX)
    form = response.context["form"]
    return {field.name: str(field.value() if field.value() is not None else "") for field in form if not field.field.disabled}


def test_the_dialog_shows_what_is_stored_now_with_ranges_price_and_warning(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    simulator.change_by_somebody(conversation.remote_id, title="new meanwhile")
    page = text_of(client.get(url("settings", conversation), headers=HX))
    assert 'value="new meanwhile"' in page
    for field in account.provider.config_fields:
        assert f'name="{field.name}"' in page
    assert "0 to 65." in page and "At most 50 characters." in page and "usage policy" in page
    assert "claude-opus-4-6（高消耗） · 1000000积分" in page


def test_only_what_was_changed_is_sent(client, aurod):
    simulator, account = aurod
    conversation = row(account, account.conversations.get(title="Beyond the form's limits").remote_id)
    before = simulator.truth()[conversation.remote_id]
    data = opened(client, conversation)
    assert data["contextCount"] == "65536"
    data |= {"temperature": "0.3", "prompt": data["prompt"].replace("\n", "\r\n")}
    answer = client.post(url("settings", conversation), data, headers=HX)
    assert answer.status_code == 204 and {"dialog-close", f"conversation-{conversation.pk}-list"} <= events_of(answer)
    after = simulator.truth()[conversation.remote_id]
    assert {name for name in before if before[name] != after[name]} == {"temperature"} and after["temperature"] == 0.3
    toast = toast_of(answer)
    assert toast["message"] == "1.7 → 0.3 ✓"
    client.post(toast["undo_url"], headers=HX)
    assert simulator.truth()[conversation.remote_id] == before


def test_a_prompt_of_four_thousand_characters_arrives_as_it_was_typed(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    prompt = "  第一行\n\n" + "答复要简短。" * 800
    data = opened(client, conversation) | {"prompt": prompt.replace("\n", "\r\n"), "contextCount": "12", "model": other_model(account, conversation)}
    answer = client.post(url("settings", conversation), data, headers=HX)
    stored = simulator.truth()[conversation.remote_id]
    assert answer.status_code == 204 and toast_of(answer)["message"] == "Saved and verified at the provider."
    assert (stored["prompt"], stored["contextCount"], stored["model"]) == (prompt, 12, data["model"])


def test_nothing_changed_sends_nothing(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    data = opened(client, conversation)
    simulator.log.clear()
    answer = client.post(url("settings", conversation), data, headers=HX)
    assert answer.status_code == 204 and toast_of(answer)["message"] == "Nothing was changed." and simulator.log == []


def test_mistakes_are_named_at_their_fields_before_any_request(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    data = opened(client, conversation) | {"temperature": "9.9", "contextCount": "many", "title": "长" * 51, "prompt": "kept"}
    simulator.log.clear()
    answer = client.post(url("settings", conversation), data, headers=HX)
    page = text_of(answer)
    assert answer.status_code == 422 and simulator.log == []
    for name, sentence in {"temperature": "Allowed is 0 to 1.", "contextCount": "Enter a whole number.", "title": "these are 51"}.items():
        assert re.search(rf'id="dialog_{name}_error".*?{sentence}', page, re.DOTALL)
    assert 'value="9.9"' in page and ">\nkept</textarea>" in page and 'data-unsaved-guard="dirty"' in page


def test_a_change_that_came_meanwhile_is_shown_beside_mine_and_overwritten_only_on_purpose(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    data = opened(client, conversation) | {"temperature": "0.9", "title": "mine"}
    simulator.change_by_somebody(conversation.remote_id, title="theirs")
    answer = client.post(url("settings", conversation), data, headers=HX)
    page = text_of(answer)
    assert answer.status_code == 422 and simulator.writes() == []
    assert re.search(rf"<td>{re.escape(conversation.title)}</td><td>theirs</td><td>mine</td>", page)
    assert "Overwrite with mine" in page and url("settings", conversation) in page and 'value="mine"' in page
    again = {**data, "seen_values": re.search(r'name="seen_values" value="([^"]+)"', page)[1]}
    assert client.post(url("settings", conversation), again, headers=HX).status_code == 204
    stored = simulator.truth()[conversation.remote_id]
    assert (stored["title"], stored["temperature"]) == ("mine", 0.9)


def test_a_change_of_another_setting_meanwhile_is_no_conflict(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    data = opened(client, conversation) | {"temperature": "0.9"}
    simulator.change_by_somebody(conversation.remote_id, title="theirs")
    assert client.post(url("settings", conversation), data, headers=HX).status_code == 204
    assert simulator.truth()[conversation.remote_id]["title"] == "theirs"


def test_settings_that_were_accepted_but_not_applied_stay_open_and_say_so(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    data = opened(client, conversation) | {"temperature": "0.9"}
    simulator.add_fault("ignore", writes_only=True)
    answer = client.post(url("settings", conversation), data, headers=HX)
    assert answer.status_code == 422 and "accepted the change but still shows the old value" in text_of(answer)
    assert 'value="0.9"' in text_of(answer) and "dialog-close" not in events_of(answer)


def test_a_form_that_was_tampered_with_or_belongs_elsewhere_is_too_old(client, aurod):
    first, second = list(aurod[1].conversations.filter(untitled=False)[:2])
    data = opened(client, first) | {"temperature": "0.9"}
    for seen in ("nonsense", opened(client, second)["seen_values"]):
        answer = client.post(url("settings", first), data | {"seen_values": seen}, headers=HX)
        assert answer.status_code == 422 and "This form is too old" in text_of(answer)
    assert aurod[0].writes() == []


@pytest.mark.parametrize("key", ["modelrouter", "chatnio", "nuwax", "chongzhiling"])
def test_what_a_provider_does_not_store_is_disabled_and_says_why(client, connected, key):
    _simulator, account = connected(key, populate=3)
    conversation = synced(account).conversations.first()
    response = client.get(url("settings", conversation), headers=HX)
    form = response.context["form"]
    assert form.fields["temperature"].disabled and account.provider.capability("edit_config").reason in text_of(response)
    assert form.fields["model"].disabled is not account.provider.capability("switch_model").available
    assert form.fields["title"].disabled is not account.provider.capability("rename").available
    posted = client.post(url("settings", conversation), opened(client, conversation) | {"temperature": "1", "prompt": "x"}, headers=HX)
    assert toast_of(posted)["message"] == "Nothing was changed." and _simulator.writes() == []


def test_the_dialog_opens_from_our_copy_when_the_provider_is_away(client, aurod, monkeypatch):
    simulator, account = aurod
    conversation = some_row(account)
    monkeypatch.setitem(services.call.__kwdefaults__, "patience", services.Patience(attempts=1, seconds=2))
    simulator.add_fault("error", times=20)
    page = text_of(client.get(url("settings", conversation), headers=HX))
    assert "these are from our copy" in page and conversation.title in page


# --- who may what -------------------------------------------------------------------------------------------------------------------

READS = ("detail", "messages", "shown", "model", "settings")
WRITES = ("refresh", "model", "title", "generate_title", "settings")


def test_the_conversations_of_others_are_not_there(aurod, client):
    conversation = some_row(aurod[1])
    entry = AuditEntry.objects.create(conversation=conversation, what="x", result="applied", before={"title": "a"}, after={"title": "b"})
    mallory = Client()
    mallory.force_login(make_user("mallory@example.com"))
    aurod[0].log.clear()
    for name in READS:
        assert mallory.get(url(name, conversation), headers=HX).status_code == 404, name
    for name in WRITES:
        assert mallory.post(url(name, conversation), {"title": "x", "model": "gpt-4o"}, headers=HX).status_code == 404, name
    assert mallory.post(url("undo", conversation, entry.pk), headers=HX).status_code == 404
    assert mallory.get(reverse("conversation_pane") + f"?open={conversation.pk}", headers=HX).status_code == 404
    assert conversation.title not in text_of(mallory.get(reverse("conversation_list")))
    assert mallory.get(reverse("conversation_models")).content.count(b'role="option"') == 0
    assert aurod[0].log == []
    another = Conversation.objects.exclude(pk=conversation.pk).first()
    assert client.post(url("undo", another, entry.pk), headers=HX).status_code == 404, "an entry of another conversation"


def test_looking_changes_nothing_and_writing_needs_a_post(client, aurod):
    conversation = some_row(aurod[1])
    for name in ("refresh", "title", "generate_title"):
        assert client.get(url(name, conversation)).status_code == 405
    for name in ("detail", "messages", "shown"):
        assert client.post(url(name, conversation)).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    assert strict.post(url("title", conversation), {"title": "x"}, headers=HX).status_code == 403
    assert aurod[0].writes() == []


def test_a_stranger_is_sent_to_sign_in(aurod):
    conversation = some_row(aurod[1])
    for name in READS:
        answer = Client().get(url(name, conversation))
        assert answer.status_code == 302 and "/auth/login/" in answer["Location"]
    inside = Client().get(url("messages", conversation), headers=HX)
    assert inside.status_code == 200 and "/auth/login/" in inside.headers["HX-Redirect"]
