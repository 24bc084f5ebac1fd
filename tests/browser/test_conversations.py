"""The conversation pages in Chromium: filter, open, read, go on, switch, set, rename, undo; on a phone, without a mouse, in Chinese."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page, expect

from accounts import health
from accounts.models import Account
from accounts.providers.errors import ProviderUnavailable
from conversations import mirror
from conversations.models import Conversation
from tests.conversations.support import synced
from tests.conversations.test_markdown import PAYLOADS

pytestmark = pytest.mark.django_db(transaction=True)
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
LOADED = "[data-messages][data-loaded]"


@pytest.fixture
def signed_in(new_context: Callable[..., BrowserContext], sign_in: Callable[..., None], alice: Any) -> Callable[..., Page]:
    """A function that opens a page for Alice; keyword arguments go to the browser context."""

    def start(**options: Any) -> Page:
        context = new_context(**options)
        sign_in(context, alice)
        return context.new_page()

    return start


@pytest.fixture
def shop(aside: Callable[..., Any], connected: Callable[..., Any]) -> tuple[Any, Account]:
    """aurod's own 64 sessions, read: one of them is long, one is hostile, one empty."""
    simulator, account = aside(connected, "aurod", label="Shop 客服")
    return simulator, aside(synced, account)


def row_of(page: Page, conversation: Conversation) -> Any:
    return page.locator(f"#row-{conversation.pk}")


def long_one(shop: tuple[Any, Account]) -> Conversation:
    return shop[1].conversations.get(remote_id=shop[0].long_id)


def is_open(page: Page, conversation: Conversation) -> None:
    """Waits until the reader shows this conversation with its messages, and the list beside it marks its row."""
    expect(page.locator("#reader")).to_have_attribute("data-conversation", str(conversation.pk))
    expect(page.locator("#conversation-title")).to_have_text(conversation.title)
    expect(page.locator(LOADED)).to_be_attached()
    expect(page.locator("#pane [aria-current]")).to_have_attribute("id", f"pane-link-{conversation.pk}")


def no_sideways(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize(
    ("language", "all_of_them", "out_of_range"),
    [("en", "64 conversations", "Allowed is 0 to 1."), ("zh-hans", "64 个会话", "允许范围为 0 至 1。")],
    ids=["en", "zh"],
)
def test_from_the_filter_to_the_undo(signed_in, shop, alice, language, all_of_them, out_of_range):
    simulator, account = shop
    alice.language = language
    alice.save()
    page = signed_in()
    page.goto("/conversations/")
    expect(page.locator("#list-count")).to_have_text(all_of_them)

    # Filter while typing: no new page, the address follows, Back brings the earlier filter.
    page.evaluate("window.same = true")
    page.keyboard.press("/")
    page.keyboard.type("周报")
    expect(page).to_have_url(re.compile(r"\?q=%E5%91%A8%E6%8A%A5$"))
    expect(page.locator("#chips .chip-filter")).to_have_count(1)
    expect(page.locator("#filter_q")).to_be_focused()
    page.locator("#filter-model").click()
    page.locator("#filter-models [role=option]").first.click()
    expect(page.locator("#chips .chip-filter")).to_have_count(2)
    assert page.evaluate("window.same"), "the page was not loaded anew"
    page.go_back()
    expect(page.locator("#chips .chip-filter")).to_have_count(1)
    expect(page.locator("#filter_q")).to_have_value("周报")
    page.locator("#chips .chip-filter").click()
    expect(page.locator("#list-count")).to_have_text(all_of_them)
    page.wait_for_load_state()

    # Open the long one: the newest message is in sight, older ones come without a jump.
    long = long_one(shop)
    page.keyboard.press("/")
    page.keyboard.type("对话")
    expect(page.locator("#chips .chip-filter")).to_have_count(1)
    row_of(page, long).locator("[data-row-link]").click()
    expect(page.locator("#m-130")).to_be_in_viewport()
    expect(page.locator(f"#reader-chip-{long.pk}")).to_be_in_viewport()
    first = page.locator(".message").first.get_attribute("id")
    assert page.locator(".message").count() < 60
    page.locator("#reader").evaluate("reader => reader.scrollTop = 0")
    expect(page.locator(f".message >> nth=0 >> xpath=self::*[@id!='{first}']")).to_be_attached()
    expect(page.locator(f"#{first}")).to_be_in_viewport()
    assert page.locator("#reader").evaluate("reader => reader.scrollTop") > 500

    # The next one in the filter, and another row: only the reader changes.
    page.evaluate("document.querySelector('#pane').dataset.same = 'yes'")
    order = [int(found.get_attribute("id").removeprefix("pane-")) for found in page.locator(".pane-row").all()]
    place = order.index(long.pk)
    following = Conversation.objects.get(pk=order[place + 1])
    page.keyboard.press("n")
    is_open(page, following)
    expect(page).to_have_url(re.compile(rf"/conversations/{following.pk}/\?q="))
    expect(page).to_have_title(f"{following.title} · Switchboard")
    target = Conversation.objects.get(pk=order[0] if place else order[2])
    page.locator(f"#pane-link-{target.pk}").click()
    is_open(page, target)
    assert page.locator("#pane").get_attribute("data-same") == "yes", "the list beside the reader was not touched"
    page.go_back()
    is_open(page, following)
    page.go_forward()
    is_open(page, target)
    page.reload()
    is_open(page, target)

    # One click switches the model, verified, from wherever one reads; the list beside it follows.
    name = dict(account.catalogue.values_list("model_id", "name"))
    page.locator(f"#reader-chip-{target.pk}").click()
    page.keyboard.type("kimi")
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text(f"{name[target.model]} → Kimi K2 ✓")
    expect(page.locator(f"#reader-chip-{target.pk}")).to_contain_text("Kimi K2")
    expect(page.locator(f"#pane-{target.pk}")).to_contain_text("Kimi K2")
    expect(page.locator("#pane [aria-current]")).to_have_attribute("id", f"pane-link-{target.pk}")
    assert simulator.truth()[target.remote_id]["model"] == "kimi-k2" and len(simulator.writes()) == 1

    # Settings: a mistake stays at its field, leaving with changes asks, only the change is sent.
    before = simulator.truth()[target.remote_id]
    page.locator("#reader-settings").click()
    page.locator("#dialog_temperature").fill("9.9")
    page.locator("#settings [type=submit]").click()
    expect(page.locator("#dialog_temperature_error")).to_have_text(out_of_range)
    page.keyboard.press("Escape")
    expect(page.locator("#confirm")).to_be_visible()
    page.locator("#confirm button[value=cancel]").click()
    page.locator("#dialog_temperature").fill("0.3")
    page.locator("#settings [type=submit]").click()
    expect(page.locator("#dialog")).to_be_hidden()
    expect(page.locator("#toasts")).to_contain_text("→ 0.3 ✓")
    after = simulator.truth()[target.remote_id]
    assert {key for key in before if before[key] != after[key]} == {"temperature"}

    # Rename in place, then take it back with a key.
    page.keyboard.press("F2")
    page.keyboard.type("改名 🎉")
    page.keyboard.press("Enter")
    expect(page.locator("#conversation-title")).to_have_text("改名 🎉")
    expect(page.locator(f"#pane-{target.pk}")).to_contain_text("改名 🎉")
    page.locator("#reader").focus()
    page.keyboard.press("z")
    expect(page.locator("#conversation-title")).to_have_text(target.title)
    expect(page.locator(f"#pane-{target.pk}")).to_contain_text(target.title)
    assert simulator.truth()[target.remote_id]["title"] == target.title


def test_edits_in_the_row_without_a_new_page(signed_in, shop):
    simulator, account = shop
    page = signed_in()
    page.goto("/conversations/?sort=title")
    page.evaluate("window.same = true")
    ids = [int(found.get_attribute("id").removeprefix("row-")) for found in page.locator("tbody tr").all()]
    one, two = (Conversation.objects.get(pk=pk) for pk in (ids[3], ids[4]))
    name = dict(account.catalogue.values_list("model_id", "name"))

    # The chip: busy while it runs; a failure puts the old model back with the cause.
    simulator.add_fault("slow", writes_only=True, seconds=0.6)
    row_of(page, one).locator(".chip").click()
    page.keyboard.type("kimi")
    page.keyboard.press("Enter")
    expect(row_of(page, one).locator(".chip-busy")).to_be_visible()
    expect(row_of(page, one).locator(".chip")).to_contain_text("Kimi K2")
    expect(row_of(page, one).get_by_title("Verified at the provider")).to_be_visible()
    simulator.add_fault("ignore", writes_only=True)
    row_of(page, two).locator(".chip").click()
    page.locator(f"#row-{two.pk} [role=option]", has_text="Kimi K2").click()
    expect(page.locator(".app-toast-warning")).to_contain_text("still shows the old value")
    expect(row_of(page, two).locator(".chip")).to_contain_text(name[two.model])
    page.locator("[data-toast-close]").last.click()

    # A double click renames, Esc leaves it; what the provider refuses keeps the text and says why.
    row_of(page, one).locator("[data-row-link]").dblclick()
    box = row_of(page, one).locator("input[name=title]")
    expect(box).to_be_focused()
    box.fill("x")
    page.keyboard.press("Escape")
    expect(row_of(page, one).locator("[data-row-link]")).to_be_visible()
    page.keyboard.press("F2")
    box.fill("长" * 51)
    page.keyboard.press("Enter")
    expect(row_of(page, one).locator(".field-error")).to_contain_text("At most 50 characters; these are 51.")
    expect(box).to_have_value("长" * 51)
    expect(box).to_be_focused()
    box.fill("Neat title 😀")
    page.keyboard.press("Enter")
    expect(row_of(page, one).locator("[data-row-link]")).to_have_text("Neat title 😀")

    # Undo refreshes the row that is shown.
    page.get_by_role("button", name="Undo").last.click()
    expect(row_of(page, one).locator("[data-row-link]")).to_have_text(one.title)

    # The dialog from the row, and the row follows it.
    row_of(page, two).get_by_role("button", name="Settings").click()
    page.locator("#dialog_title").fill("From the dialog")
    page.locator("#settings [type=submit]").click()
    expect(row_of(page, two).locator("[data-row-link]")).to_have_text("From the dialog")
    assert page.evaluate("window.same") and len([call for call in simulator.writes() if call.changed]) == 4


def test_a_change_by_somebody_else_is_shown_beside_mine(signed_in, shop):
    simulator, account = shop
    conversation = account.conversations.filter(untitled=False).first()
    page = signed_in()
    page.goto(f"/conversations/{conversation.pk}/")
    expect(page.locator(LOADED)).to_be_visible()
    page.keyboard.press("s")
    page.locator("#dialog_title").fill("mine")
    simulator.change_by_somebody(conversation.remote_id, title="theirs")
    page.locator("#settings [type=submit]").click()
    expect(page.locator(".conflict-table tbody tr")).to_have_text(re.compile(f"{re.escape(conversation.title)}.*theirs.*mine", re.DOTALL))
    expect(page.locator("#dialog_title")).to_have_value("mine")
    page.locator("#settings-reopen").click()
    expect(page.locator("#dialog_title")).to_have_value("theirs")
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()
    expect(page.locator("#conversation-title")).to_have_text("theirs")
    assert simulator.writes() == []


def test_a_link_to_a_message_opens_it_with_the_ways_on(signed_in, shop):
    long = long_one(shop)
    page = signed_in()
    page.goto(f"/conversations/{long.pk}/#m-8")
    expect(page.locator("#m-8.is-target")).to_be_in_viewport()
    expect(page.locator("#m-130")).to_have_count(0)
    page.get_by_role("button", name="Load newer").click()
    expect(page.locator("#m-20")).to_be_attached()
    expect(page.locator("#m-8")).to_be_in_viewport()
    page.locator("#messages-newest").click()
    expect(page.locator("#m-130")).to_be_in_viewport()
    code = page.locator("[data-copy-from]").last
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    code.click()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator(code.get_attribute("data-copy-from")).inner_text().strip()


def test_a_first_reading_fills_the_list_by_itself(signed_in, aside, connected):
    _simulator, account = aside(connected, "aurod", populate=70, label="Shop")
    assert mirror.request_sync(account)
    page = signed_in()
    page.goto("/conversations/")
    expect(page.get_by_text("Reading the conversations…")).to_be_visible()
    aside(synced, account)
    expect(page.locator("#list-count")).to_have_text("70 conversations")
    expect(page.locator("tbody tr")).to_have_count(50)
    expect(page.locator("#freshness")).to_contain_text("Oldest copy")
    page.locator("#freshness-all summary").click()
    page.locator("#freshness").get_by_role("button", name="Read now").click()
    expect(page.locator("#freshness")).to_contain_text("being read")
    page.locator("#freshness").get_by_role("button", name="Stop").click()
    expect(page.locator("#freshness").get_by_role("button", name="Read now")).to_be_visible()


def test_a_list_in_use_waits_with_what_arrives(signed_in, shop):
    _simulator, account = shop
    first = mirror.LEASE + timezone.now()
    Account.objects.filter(pk=account.pk).update(sync_state="running", synced_at=None, sync_lease_until=first, sync_progress={"listed": 30})
    page = signed_in()
    page.goto("/conversations/?sort=title")
    row = page.locator("tbody tr").first
    row.locator("[data-row-link]").focus()
    page.keyboard.press("F2")
    page.keyboard.type("half a ti")
    with page.expect_response(lambda answer: "/freshness/" in answer.url and "conversations-arrived" in answer.headers.get("hx-trigger", "")):
        Account.objects.filter(pk=account.pk).update(sync_progress={"listed": 60})
    page.keyboard.type("tle")
    expect(row.locator("input[name=title]")).to_have_value("half a title")


def test_without_a_mouse(signed_in, shop):
    _simulator, _account = shop
    page = signed_in()
    page.goto("/conversations/?sort=title")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("tbody tr").nth(1)
    expect(second.locator("[data-row-link]")).to_be_focused()
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("Shift+X")
    expect(page.locator("[data-select-count]")).to_have_text("2 selected")
    page.locator("[data-select-page]").click()
    page.locator("[data-select-all]").click()
    expect(page.locator("[data-select-count]")).to_have_text("64 selected: all that match")
    page.locator("#pager-older").click()
    expect(page.locator("tbody tr")).to_have_count(14)
    page.locator("tbody input[name=ids]").first.click()
    expect(page.locator("[data-select-count]")).to_have_text("63 selected: all that match but 1")
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/jobs/new/")) as sent:
        page.locator("[data-select-bar] [value=switch-model]").click()
    assert "all_matching=1" in sent.value.post_data and "count=63" in sent.value.post_data and "action=switch-model" in sent.value.post_data
    page.goto("/conversations/?sort=title")
    title = page.locator("tbody tr").first.locator("[data-row-link]").inner_text()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("#conversation-title")).to_have_text(title)


def test_in_chinese(signed_in, shop, alice):
    simulator, _account = shop
    alice.language = "zh-hans"
    alice.save()
    page = signed_in(locale="zh-CN", timezone_id="Asia/Shanghai")
    page.goto("/conversations/")
    expect(page.locator("html")).to_have_attribute("lang", re.compile("^zh-hans$", re.IGNORECASE))
    expect(page.locator("#page-title")).to_have_text("会话")
    page.locator("#filter_q").fill("旅行")
    expect(page).to_have_url(re.compile("q="))
    expect(page.locator("tbody tr").first).to_contain_text("旅行计划")
    conversation = Conversation.objects.get(pk=int(page.locator("tbody tr").first.get_attribute("id").removeprefix("row-")))
    page.locator("tbody [data-row-link]").first.click()
    expect(page.locator(LOADED)).to_be_visible()
    page.locator(f"#reader-chip-{conversation.pk}").click()
    page.keyboard.type("豆包")
    page.keyboard.press("Enter")
    expect(page.locator(f"#reader-chip-{conversation.pk}")).to_contain_text("豆包 Pro")
    page.locator("#reader-rename").click()
    page.keyboard.type("改名：成都 → 重庆 🚄")
    page.keyboard.press("Enter")
    expect(page.locator("#conversation-title")).to_have_text("改名：成都 → 重庆 🚄")
    assert simulator.truth()[conversation.remote_id]["title"] == "改名：成都 → 重庆 🚄"
    words = page.locator("#reader").inner_text() + page.locator("#pane").inner_text()
    assert not re.search(r"\b(Settings|Assistant|messages|Updated|Details|Whole list)\b", words)


def test_on_a_phone(signed_in, shop):
    _simulator, _account = shop
    page = signed_in(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto("/conversations/")
    no_sideways(page)
    page.locator("tbody tr").first.locator(".chip").tap()
    expect(page.locator(".show .model-picker")).to_be_in_viewport()
    no_sideways(page)
    page.keyboard.press("Escape")
    page.goto("/conversations/?q=长对话")
    page.locator("[data-row-link]").first.tap()
    expect(page.locator("#m-130")).to_be_in_viewport()
    expect(page.locator("#reader .model-chip .chip")).to_be_in_viewport()
    expect(page.locator("#pane")).to_be_hidden()
    no_sideways(page)
    page.locator("#reader-settings").tap()
    expect(page.locator("#settings")).to_be_visible()
    no_sideways(page)
    page.locator("#settings [data-dialog-close]").first.tap()
    page.locator(".reader-back").tap()
    expect(page).to_have_url(re.compile(r"/conversations/\?q="))


def test_hostile_content_stays_text(signed_in, shop, watch):
    simulator, account = shop
    long = long_one(shop)
    rows = list(account.conversations.exclude(pk=long.pk)[: len(PAYLOADS)])
    for found, payload in zip([*rows, long], [*PAYLOADS, PAYLOADS[3]], strict=False):
        text = payload.replace("\0", "")
        Conversation.objects.filter(pk=found.pk).update(
            title=text, model=text[:200], group=text[:200], warning=text, details={text: text}, first_message=text, untitled=True
        )
    for record, payload in zip(reversed(simulator.written[int(simulator.long_id)]), PAYLOADS, strict=False):
        record |= {"userText": payload, "aiText": payload, "model": payload[:100], "useImages": [payload], "useFiles": [payload]}
    Account.objects.filter(pk=account.pk).update(label=PAYLOADS[1][:80])
    health.note_failure(account, ProviderUnavailable(status=500, detail=PAYLOADS[0]))
    page = signed_in()
    page.on("dialog", lambda dialog: watch.problems.append(f"dialog: {dialog.message}"))
    page.goto("/conversations/?untitled=on")
    assert page.locator("tbody tr").count() >= 20
    page.goto(f"/conversations/{long.pk}/")
    expect(page.locator(".message")).not_to_have_count(0)
    shown = 0
    while page.locator("#messages-older").count() and page.locator(".message").count() > shown:
        shown = page.locator(".message").count()
        page.locator("#reader").evaluate("reader => reader.scrollTop = 0")
        expect(page.locator(".message")).not_to_have_count(shown)
    assert page.locator(".message").count() > 100
    for message in page.locator(".message summary").all():
        message.click()
    page.locator(f"#reader-chip-{long.pk}").click()
    expect(page.locator(".show .model-picker [role=option]").first).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("F2")
    expect(page.locator("#conversation-head input[name=title]")).to_have_value(PAYLOADS[3])
    assert page.locator(".messages :is(img, script, iframe, form, style, base)").count() == 0
    watch.check()


def test_axe_finds_nothing(signed_in, shop, aside, connected):
    _simulator, account = shop
    nuwax = aside(synced, aside(connected, "nuwax", populate=4, label="Desk")[1])
    health.note_failure(nuwax, ProviderUnavailable(status=500))
    Conversation.objects.filter(account=account).update(changed_upstream_at=timezone.now())
    page = signed_in()
    long = long_one(shop)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto("/conversations/?untitled=on&updated_after=2026-99-99")
        check(page, scheme)
        page.goto(f"/conversations/?account={account.pk}")
        page.locator("tbody .chip").first.click()
        page.keyboard.type("deep")
        check(page, scheme)
        page.goto(f"/conversations/{long.pk}/")
        expect(page.locator("#m-130")).to_be_in_viewport()
        check(page, scheme)
        page.locator("#reader-settings").click()
        expect(page.locator("#settings")).to_be_visible()
        check(page, scheme, "#dialog")


def check(page: Page, scheme: str, within: str | None = None) -> None:
    """Fails with what axe finds; in the dark only colours can differ from the light."""
    found = Axe().run(page, context=within, options={"runOnly": WCAG if scheme == "light" else ["color-contrast"]})
    assert found.violations_count == 0, found.generate_report()
