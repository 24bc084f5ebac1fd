"""The list and the reader as a browser's requests meet them, against real simulators; and that hostile content stays text everywhere."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import health, services
from accounts.models import Account
from accounts.providers.errors import CredentialsRejected, ProviderUnavailable
from conversations import mirror, presenters, reading
from conversations.models import Conversation

from .pages import HX, events_of, ids_in, some_row, text_of, url
from .support import row, synced
from .test_markdown import PAYLOADS, Seen

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


# --- the list -----------------------------------------------------------------------------------------------------------------------


def test_without_an_account_the_list_says_how_to_begin(client):
    response = client.get(reverse("conversation_list"))
    assert response.status_code == 200 and "No account yet" in text_of(response)
    assert reverse("account_add") in text_of(response)


def test_the_list_shows_every_conversation_once_over_its_pages(client, aurod, connected):
    synced(connected("nuwax", populate=20, label="Desk")[1])
    address, seen = reverse("conversation_list"), []
    while address:
        response = client.get(address)
        seen += ids_in(response)
        older = re.search(r'id="pager-older"[^>]*href="([^"]+)"', response.content.decode())
        address = html.unescape(older[1]) if older else ""
    assert len(seen) == len(set(seen)) == Conversation.objects.count() == 84
    assert "84 conversations" in text_of(response)


def test_a_fragment_for_htmx_a_page_for_everybody_else(client, aurod):
    address = reverse("conversation_list")
    page, fragment = client.get(address), client.get(address, headers=HX)
    assert "<html" in text_of(page) and "<html" not in text_of(fragment)
    assert "<html" in text_of(client.get(address, headers={**HX, "HX-History-Restore-Request": "true"}))
    assert "HX-Request" in page.headers["Vary"] and "HX-Request" in fragment.headers["Vary"]
    assert text_of(fragment).lstrip().startswith('<div class="card" id="list"')


def test_a_row_shows_what_the_provider_told(client, aurod, connected):
    chatnio = synced(connected("chatnio", populate=3, label="Team")[1])
    listed = text_of(client.get(reverse("conversation_list") + f"?account={chatnio.pk}"))
    assert "not told by Chat Nio" in listed and "cannot be switched" in listed
    assert "Chat Nio takes the model with each message" in listed
    shop = text_of(client.get(reverse("conversation_list") + "?provider=aurod&q=left+the"))
    assert "no longer offered" in shop and "gpt-3.5-turbo-0613" in shop
    assert "An app dictates the model" in text_of(client.get(reverse("conversation_list") + "?q=由应用创建"))


def test_an_untitled_conversation_is_told_apart_by_its_first_message(client, aurod):
    untitled = aurod[1].conversations.filter(untitled=True).first()
    Conversation.objects.filter(pk=untitled.pk).update(first_message="Explain\nlifetimes <b>")
    response = client.get(reverse("conversation_list") + "?untitled=on")
    assert "Explain lifetimes <b>" in text_of(response) and b"<b>" not in response.content
    assert set(ids_in(response)) == set(aurod[1].conversations.filter(untitled=True).values_list("pk", flat=True))


def test_the_filter_is_in_the_address_and_its_chips_take_it_away(client, aurod):
    response = client.get(reverse("conversation_list") + "?q=周报&provider=aurod&untitled=on&sort=title")
    page = response.content.decode()
    chips = [html.unescape(found) for found in re.findall(r'<a class="chip chip-filter" href="([^"]+)"', page)]
    assert len(chips) == 3
    without = client.get(next(chip for chip in chips if "untitled" not in chip))
    assert ids_in(without) and "sort=title" in next(iter(chips))
    assert 'value="周报"' in text_of(response), "what was typed is still there"


def test_two_chinese_characters_are_enough_to_search(client, aurod):
    response = client.get(reverse("conversation_list") + "?q=周报")
    found = Conversation.objects.filter(pk__in=ids_in(response))
    assert found.count() == Conversation.objects.filter(title__contains="周报").count() > 0


def test_when_nothing_matches_the_part_that_hides_all_is_named(client, aurod):
    page = text_of(client.get(reverse("conversation_list") + "?q=周报&model=none-such"))
    assert "No conversation matches" in page
    assert f"Without “Model: none-such”: {Conversation.objects.filter(title__contains='周报').count()} conversations" in page
    assert "Without “Title has" not in page


def test_a_day_that_cannot_be_read_is_an_error_at_its_field_and_nothing_is_lost(client, aurod):
    response = client.get(reverse("conversation_list") + "?q=周报&updated_after=2026-13-45")
    page = text_of(response)
    assert response.status_code == 200 and "“2026-13-45” is not a day" in page
    assert 'id="filter_updated_after_error"' in page and 'value="周报"' in page and ids_in(response)
    assert 'data-select-total=""' in page, "what is not filtered as asked cannot be selected as a whole"


def test_select_all_offers_the_exact_count_and_the_canonical_filter(client, aurod):
    page = text_of(client.get(reverse("conversation_list") + "?sort=title&q=周报&after=zzz"))
    count = Conversation.objects.filter(title__contains="周报").count()
    assert f'data-select-total="{count}"' in page
    assert 'data-select-query="q=%E5%91%A8%E6%8A%A5"' in page
    assert f'action="{reverse("job_create")}"' in page and 'value="switch-model"' in page and 'value="set-title"' in page


def test_a_large_number_is_at_least(client, aurod, monkeypatch):
    monkeypatch.setattr(presenters.listing, "COUNT_CAP", 10)
    page = text_of(client.get(reverse("conversation_list")))
    assert "at least 10 conversations" in page and 'data-select-total=""' in page


def test_the_models_in_use_are_offered_to_the_filter_with_their_counts(client, aurod):
    page = text_of(client.get(reverse("conversation_models") + "?model=deepseek-chat"))
    count = Conversation.objects.filter(model="deepseek-chat").count()
    assert re.search(rf'value="deepseek-chat" disabled>\s*<span class="truncate">深度求索 V3.2</span>\s*<span class="option-note">{count}<', page)


# --- freshness ----------------------------------------------------------------------------------------------------------------------


def test_a_failing_account_is_named_with_cause_and_age_and_hides_no_other(client, aurod, connected):
    broken = synced(connected("nuwax", populate=5, label="Desk")[1])
    health.note_failure(broken, ProviderUnavailable("x", status=500, detail="Internal"))
    response = client.get(reverse("conversation_list"))
    page = text_of(response)
    assert re.search(r"<strong>Desk</strong>:\s+The provider cannot be reached", page) and "HTTP 500" in page
    assert "Shown is our copy from" in page and reverse("account_sync", args=[broken.pk]) in page
    assert len(ids_in(response)) == 50 and "69 conversations" in page


def test_a_refused_credential_leads_to_its_replacement(client, aurod):
    health.note_failure(aurod[1], CredentialsRejected(status=401))
    assert reverse("account_edit", args=[aurod[1].pk]) in text_of(client.get(reverse("conversation_list")))


def test_while_an_account_is_read_its_progress_is_shown_and_the_list_follows_the_first_reading(client, aurod):
    account = aurod[1]
    Account.objects.filter(pk=account.pk).update(
        sync_state="running", sync_lease_until=timezone.now() + mirror.LEASE, synced_at=None, sync_progress={"listed": 30, "total": 64}
    )
    page = text_of(client.get(reverse("conversation_list")))
    assert "30 of 64 read" in page and "every 2s" in page
    poll = re.search(r'id="freshness" hx-get="([^"]+)"', page)[1]
    again = client.get(poll, headers=HX)
    assert "conversations-arrived" not in events_of(again), "nothing new since"
    Account.objects.filter(pk=account.pk).update(sync_progress={"listed": 60, "total": 64})
    assert "conversations-arrived" in events_of(client.get(poll, headers=HX))
    Account.objects.filter(pk=account.pk).update(sync_state="done", synced_at=timezone.now(), sync_progress={"listed": 64})
    done = client.get(poll, headers=HX)
    assert "conversations-arrived" in events_of(done) and "every 30s" in text_of(done)


def test_what_a_later_reading_brought_is_offered_not_forced(client, aurod):
    poll = re.search(r'id="freshness" hx-get="([^"]+)"', text_of(client.get(reverse("conversation_list"))))[1]
    quiet = client.get(poll, headers=HX)
    assert "Show them" not in text_of(quiet)
    Account.objects.filter(pk=aurod[1].pk).update(synced_at=timezone.now(), sync_progress={"listed": 65, "new": 1})
    told = client.get(poll, headers={**HX, "HX-Current-URL": "http://testserver/conversations/?q=x"})
    assert "Show them" in text_of(told) and 'href="/conversations/?q=x"' in text_of(told) and events_of(told) == set()


@pytest.mark.parametrize("address", ["since=x&first=1&listed=y", "since=2026-01-01", "since=2026-99-99T00:00:00Z&first=0", ""])
def test_an_odd_question_about_freshness_is_answered(client, aurod, address):
    assert client.get(reverse("conversation_freshness") + "?" + address, headers=HX).status_code == 200


def test_a_first_reading_that_has_shown_nothing_yet_is_not_an_empty_account(client, connected):
    account = connected("aurod", populate=3)[1]
    assert "Not read yet" in text_of(client.get(reverse("conversation_list")))
    mirror.request_sync(account)
    assert "Reading the conversations…" in text_of(client.get(reverse("conversation_list")))


def test_an_incomplete_listing_says_so(client, aurod):
    Account.objects.filter(pk=aurod[1].pk).update(sync_progress={"note": "newest 100, older ones being read"})
    assert "newest 100, older ones being read" in text_of(client.get(reverse("conversation_list")))


# --- the reader ---------------------------------------------------------------------------------------------------------------------


def test_a_conversation_opens_with_its_neighbours_in_the_filter_and_the_list_beside_it(client, aurod):
    query = "?provider=aurod&sort=title"
    order = ids_in(client.get(reverse("conversation_list") + query))
    response = client.get(f"/conversations/{order[3]}/{query}")
    page = text_of(response)
    assert re.search(rf'id="reader-previous"[^>]*href="/conversations/{order[2]}/\?provider=aurod&sort=title"', page)
    assert re.search(rf'id="reader-next"[^>]*href="/conversations/{order[4]}/\?provider=aurod&sort=title"', page)
    assert [int(pk) for pk in re.findall(r'<li class="pane-row" id="pane-(\d+)"', page)][:5] == order[:5]
    assert re.search(rf'id="pane-link-{order[3]}"[^>]*aria-current="true"', page)
    swapped = text_of(client.get(f"/conversations/{order[4]}/{query}", headers=HX))
    assert "<title>" in swapped and 'id="reader"' in swapped and 'id="pane"' not in swapped


def test_a_conversation_outside_the_filter_opens_without_neighbours(client, aurod):
    outside = Conversation.objects.filter(untitled=False).first()
    page = text_of(client.get(url("detail", outside) + "?untitled=on"))
    assert outside.title in page and 'id="reader-next"' not in page and 'id="reader-previous"' not in page


def test_an_edit_that_takes_a_conversation_out_of_the_filter_does_not_end_the_way(client, aurod):
    rows = list(Conversation.objects.filter(untitled=True).order_by("-sort_at", "-pk"))
    page = text_of(client.get(url("detail", rows[1]) + "?untitled=on"))
    vals = json.loads(re.search(r'id="conversation-head"[^>]*hx-vals="(\{.*?\})"', page)[1])
    assert vals == {"place": "reader", "previous": str(rows[0].pk), "following": str(rows[2].pk)}
    answer = client.post(url("title", rows[1]) + "?untitled=on", {"title": "A title now", **vals}, headers=HX)
    assert re.search(rf'id="reader-next"[^>]*href="/conversations/{rows[2].pk}/\?untitled=on"', text_of(answer))


def test_the_pane_goes_on_and_opens_around_a_conversation(client, aurod):
    order = ids_in(client.get(reverse("conversation_list")))
    page = text_of(client.get(f"/conversations/{order[0]}/"))
    more = re.search(r'id="pane-older" hx-get="([^"]+)"', page)[1]
    shown = [int(pk) for pk in re.findall(r'id="pane-(\d+)"', page)]
    following = [int(pk) for pk in re.findall(r'id="pane-(\d+)"', text_of(client.get(more, headers=HX)))]
    whole = list(Conversation.objects.order_by("-sort_at", "-pk").values_list("pk", flat=True))
    assert shown + following == whole[: len(shown + following)] and following
    around = text_of(client.get(reverse("conversation_pane") + f"?open={whole[-1]}", headers=HX))
    assert f'id="pane-{whole[-1]}"' in around and 'id="pane-newer"' in around
    assert client.get(reverse("conversation_pane") + "?open=999999999999999999999", headers=HX).status_code == 404


def test_messages_begin_at_the_newest_and_go_back_to_the_first(client, aurod):
    simulator, account = aurod
    long = row(account, simulator.long_id)
    address, seen = url("messages", long), []
    while address:
        page = text_of(client.get(address, headers=HX))
        places = [int(place) for place in re.findall(r'<article class="[^"]*" id="m-(\d+)"', page)]
        assert places == sorted(places)
        seen = places + seen
        older = re.search(r'id="messages-older"[^>]*hx-get="([^"]+)"', page)
        address = older[1] if older else ""
    assert len(seen) == len(set(seen)) and seen[0] == 1 and seen[-1] == 130
    assert "The conversation begins here." in page


@pytest.mark.parametrize("wanted", ["3", "100"])
def test_a_link_opens_the_page_of_its_message_with_the_ways_on(client, aurod, wanted):
    long = row(aurod[1], aurod[0].long_id)
    page = text_of(client.get(url("messages", long) + f"?at={wanted}", headers=HX))
    assert re.search(rf'is-target" id="m-{wanted}"', page)
    assert ("messages-newer" in page) == (wanted == "3")
    if newer := re.search(r'id="messages-newer"[^>]*hx-get="([^"]+)"', page):
        following = text_of(client.get(newer[1], headers=HX))
        last, first = re.findall(r'id="m-(\d+)"', page)[-1], re.findall(r'id="m-(\d+)"', following)[0]
        assert int(first) > int(last) and len(re.findall(r"<article", following)) > 30


def test_a_link_to_a_message_that_is_not_there_shows_the_newest_and_says_so(client, aurod):
    long = row(aurod[1], aurod[0].long_id)
    page = text_of(client.get(url("messages", long) + "?at=4711", headers=HX))
    assert "The message of this link was not found" in page and 'id="m-130"' in page


def test_a_link_by_key_finds_its_message_wherever_it_is_counted(client, connected):
    account = synced(connected("nuwax")[1])  # tells places only on the page that holds the oldest message
    conversation = account.conversations.select_related("account").first()
    found = reading.open_messages(conversation)
    message = found.page.items[0]
    again = reading.open_messages(conversation, wanted=reading.anchor_of(message))
    assert again.target and reading.names(message, again.target)


def test_a_message_shows_model_tokens_time_and_reasoning_where_they_are_known(client, aurod):
    long = row(aurod[1], aurod[0].long_id)
    page = text_of(client.get(url("messages", long) + "?at=8", headers=HX))
    assert re.search(r'class="chip" title="[\w.-]+"><span>', page) and "48 tokens" in page and "data-local-time" in page
    assert "img.example.com</a>" in page and "referrerpolicy" in page and "b.pdf" in page


def test_an_empty_conversation_says_so(client, aurod):
    empty = aurod[1].conversations.get(title="Nothing said yet")
    assert "Nothing has been said in this conversation yet." in text_of(client.get(url("messages", empty), headers=HX))


def test_messages_that_cannot_be_read_say_why_and_offer_another_try(client, aurod, monkeypatch):
    simulator, account = aurod
    monkeypatch.setitem(services.call.__kwdefaults__, "patience", services.Patience(attempts=1, seconds=2))
    simulator.add_fault("error", path="/record/", times=1)
    conversation = some_row(account)
    failed = text_of(client.get(url("messages", conversation) + "?cursor=", headers=HX))
    assert "The messages could not be read." in failed and "HTTP 500" in failed
    again = re.search(r'<button[^>]*hx-get="([^"]+)"', failed)[1]
    assert "<article" in text_of(client.get(again, headers=HX))


def test_a_conversation_that_was_deleted_keeps_our_copy(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    simulator.remove_by_somebody(conversation.remote_id)
    answer = client.get(url("messages", conversation), headers=HX)
    assert "The messages are gone" in text_of(answer) and f"conversation-{conversation.pk}-reader" in events_of(answer)
    page = text_of(client.get(url("detail", conversation)))
    assert "Deleted at the provider; our last copy is kept." in page and conversation.title in page
    assert 'hx-trigger="load"' not in page, "nothing is asked for again"
    assert "It is deleted at the provider." in page
    assert conversation.pk in ids_in(client.get(reverse("conversation_list") + "?gone=on"))


def test_a_row_that_the_listing_told_little_about_is_completed_when_opened(client, connected):
    account = synced(connected("chatnio", populate=5)[1])
    conversation = account.conversations.first()
    Conversation.objects.filter(pk=conversation.pk).update(thin=True, model=None, message_count=None)
    answer = client.get(url("messages", conversation), headers=HX)
    conversation.refresh_from_db()
    assert not conversation.thin and conversation.model and conversation.message_count
    assert f"conversation-{conversation.pk}-reader" in events_of(answer)


def test_reading_again_shows_what_somebody_changed(client, aurod):
    simulator, account = aurod
    conversation = some_row(account)
    simulator.change_by_somebody(conversation.remote_id, title="改过的标题")
    answer = client.post(url("refresh", conversation), {"place": "reader"}, headers=HX)
    assert "改过的标题" in text_of(answer) and "changed upstream" in text_of(answer)
    assert f"conversation-{conversation.pk}-pane" in events_of(answer) and f"conversation-{conversation.pk}-reader" not in events_of(answer)


# --- hostile content (S14) ----------------------------------------------------------------------------------------------------------


def baseline(client, addresses) -> dict[str, set[tuple[str, str]]]:
    """The tags with their attribute names of each page: what hostile content must not add to."""
    return {
        address: {(tag, name) for tag, attributes in Seen(client.get(address).content.decode()).tags for name in (attributes or {"": ""})}
        for address in addresses
    }


def test_hostile_titles_models_labels_and_messages_stay_text_on_every_page(client, aurod):
    simulator, account = aurod
    conversation = row(account, simulator.long_id)
    addresses = [
        reverse("conversation_list"),
        reverse("conversation_list") + "?sort=title",
        url("detail", conversation),
        url("model", conversation),
        url("settings", conversation),
        url("shown", conversation) + "?place=pane",
        reverse("conversation_models"),
        reverse("conversation_freshness"),
    ]
    harmless = baseline(client, addresses)
    rows = list(account.conversations.filter(untitled=False).exclude(pk=conversation.pk)[: len(PAYLOADS)])
    for found, payload in zip([*rows, conversation], [*PAYLOADS, PAYLOADS[4]], strict=False):
        clean = payload.replace("\0", "")
        Conversation.objects.filter(pk=found.pk).update(
            title=clean, model=clean[:200], group=clean[:200], warning=clean, details={clean: clean}, first_message=clean, untitled=True
        )
    for model, payload in zip(account.catalogue.all(), PAYLOADS, strict=False):
        type(model).objects.filter(pk=model.pk).update(
            name=payload.replace("\0", "")[:200], note=payload.replace("\0", ""), price=payload.replace("\0", "")[:100]
        )
    Account.objects.filter(pk=account.pk).update(label=PAYLOADS[3][:80], upstream_name=PAYLOADS[1])
    health.note_failure(account, ProviderUnavailable(status=500, detail=PAYLOADS[0]))
    simulator.add_fault("error", times=200)  # the settings open from our copy
    for address in addresses:
        seen = Seen(client.get(address).content.decode()).tags
        found = {(tag, name) for tag, attributes in seen for name in (attributes or {"": ""})}
        for tag, name in found - harmless[address]:
            assert tag not in ("script", "img", "iframe", "style", "base", "form", "object", "textarea"), (address, tag, name)
            assert not name.startswith(("on", "style", "src", "formaction", "hx-")), (address, tag, name)
        for tag, attributes in seen:
            assert not (attributes.get("href") or "").lower().strip().startswith(("javascript:", "data:", "vbscript:")), (address, tag)
            assert attributes.get("hx-get") != "/x", address


def test_hostile_messages_stay_text(client, aurod):
    simulator, account = aurod
    conversation = row(account, simulator.long_id)
    number = int(simulator.long_id)
    for record, payload in zip(simulator.written[number], PAYLOADS, strict=False):
        record |= {"userText": payload, "aiText": payload, "model": payload, "useImages": [payload, "javascript:alert(1)"], "useFiles": [payload]}
    address, pages = url("messages", conversation), []
    while address:
        pages.append(client.get(address, headers=HX).content.decode())
        older = re.search(r'id="messages-older"[^>]*hx-get="([^"]+)"', pages[-1])
        address = html.unescape(older[1]) if older else ""
    articles = [f"<article{part.split('</article>')[0]}" for page in pages for part in page.split("<article")[1:]]
    assert len(articles) >= 2 * len(PAYLOADS)
    for article in articles:
        assert " hx-disable>" in article.split("\n")[0]
        for tag, attributes in Seen(article).tags:
            assert tag not in ("script", "img", "iframe", "style", "base", "form", "input", "textarea", "object"), tag
            assert not any(name.startswith(("on", "style", "src", "hx-get")) for name in attributes), (tag, attributes)
            assert not (attributes.get("href") or "").lower().strip().startswith(("javascript:", "data:", "vbscript:")), attributes


def test_news_from_the_provider_fade(client, aurod):
    conversation = some_row(aurod[1])
    for age, shown in ((timedelta(hours=1), True), (timedelta(days=9), False)):
        Conversation.objects.filter(pk=conversation.pk).update(changed_upstream_at=timezone.now() - age)
        assert ("changed upstream" in text_of(client.get(url("shown", conversation) + "?place=list", headers=HX))) is shown
