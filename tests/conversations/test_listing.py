"""The list by keyset: every row once, in order, whatever happens between two pages; and the filter that narrows it."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.http import QueryDict

from accounts.models import Account, User
from conversations import listing
from conversations.forms import FilterForm
from conversations.models import Conversation

from .support import make_user

pytestmark = pytest.mark.django_db

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def owner() -> User:
    return make_user()


def make_account(owner: User, key: str = "aurod", label: str = "") -> Account:
    return Account.objects.create(owner=owner, provider_key=key, label=label or key, base_url="https://example.com")


def make_rows(account: Account, count: int, *, seed: int = 1) -> list[Conversation]:
    """Rows full of ties: few times, few titles (one empty, some alike for longer than the key), counts that are often not told."""
    chance = random.Random(seed)
    titles = ["", "a", "A", "周报", "周报整理", "x" * 64 + "1", "x" * 64 + "2", "😀", "the same"]
    rows = []
    for number in range(count):
        at = BEGIN + timedelta(hours=chance.randrange(6))
        rows.append(
            Conversation(
                account=account,
                remote_id=str(number),
                title=chance.choice(titles),
                model=chance.choice(["m-1", "m-2", None]),
                message_count=chance.choice([None, None, 0, 3, 4]),
                updated_at=at if account.provider_key == "aurod" else None,
                sort_at=at,
                first_seen_at=BEGIN,
                seen_at=BEGIN,
            )
        )
    return Conversation.objects.bulk_create(rows)


def walk(rows, sort, *, size, way="older", start="", between=lambda: None):
    """Returns the ids of all pages in the order of the list, from the cursor on in one direction."""
    pages, cursor = [], start
    while True:
        page = listing.page(rows.all(), sort, size=size, **({"after": cursor} if way == "older" else {"before": cursor}))
        pages.append([row.pk for row in page.rows])
        cursor = page.older if way == "older" else page.newer
        if cursor is None:
            break
        between()
    return [pk for page in (pages if way == "older" else reversed(pages)) for pk in page]


def in_order(rows, sort):
    """Returns the ids in the order that a page of everything has."""
    return [row.pk for row in listing.page(rows.all(), sort, size=100_000).rows]


@pytest.mark.parametrize("sort", listing.SORTS)
@pytest.mark.parametrize("size", [1, 7, 50, 200])
def test_older_and_newer_reach_every_row_exactly_once(owner, sort, size):
    make_rows(make_account(owner), 120)
    make_rows(make_account(owner, "nuwax"), 61, seed=2)
    rows = Conversation.objects.visible_to(owner)
    whole = in_order(rows, sort)
    assert len(set(whole)) == len(whole) == 181
    assert walk(rows, sort, size=size) == whole
    last = listing.page(rows, sort, size=size)
    while last.older:
        last = listing.page(rows, sort, size=size, after=last.older)
    back = walk(rows, sort, size=size, way="newer", start=last.newer) if last.newer else []
    assert back + [row.pk for row in last.rows] == whole


@pytest.mark.parametrize("sort", listing.SORTS)
def test_each_order_is_the_one_it_says(owner, sort):
    make_rows(make_account(owner), 90)
    found = listing.page(Conversation.objects.all(), sort, size=1000).rows
    values = {
        "updated": [row.sort_at for row in found],
        "messages": [row.message_count for row in found],
        "title": [row.title[:64] for row in found],
    }[sort.removeprefix("-")]
    if sort.endswith("messages"):
        told = [value for value in values if value is not None]
        assert values[len(told) :] == [None] * (len(values) - len(told)), "what is not told stands last, whichever way the order runs"
        values = told
    if sort.endswith("title") and connection.vendor != "sqlite":
        return  # the database's collation decides
    assert values == sorted(values, reverse=sort.startswith("-"))


def test_rows_that_come_and_go_between_pages_move_nobody(owner):
    account = make_account(owner)
    make_rows(account, 60)
    rows = Conversation.objects.visible_to(owner)
    whole = in_order(rows, "-updated")
    seen = walk(rows, "-updated", size=10, between=lambda: make_newer(account))
    assert seen == whole
    whole = in_order(rows, "-updated")
    doomed = iter([whole[15], whole[30], whole[49]])
    seen = walk(rows, "-updated", size=10, between=lambda: Conversation.objects.filter(pk=next(doomed, 0)).delete())
    assert seen == [pk for pk in whole if pk not in (whole[15], whole[30], whole[49])]


def make_newer(account):
    at = BEGIN + timedelta(days=1, seconds=Conversation.objects.count())
    Conversation.objects.create(account=account, remote_id=f"new {at}", sort_at=at, first_seen_at=at, seen_at=at)


def test_a_page_whose_rows_are_gone_leads_back_to_the_first_one(owner):
    make_rows(make_account(owner), 20)
    rows = Conversation.objects.visible_to(owner)
    cursor = listing.page(rows, size=10).older
    keep = [row.pk for row in listing.page(rows, size=10).rows]
    Conversation.objects.exclude(pk__in=keep).delete()
    assert [row.pk for row in listing.page(rows, size=10, after=cursor).rows] == keep


@pytest.mark.parametrize("sort", listing.SORTS)
def test_around_and_neighbours_agree_with_the_list(owner, sort):
    make_rows(make_account(owner), 80)
    rows = Conversation.objects.visible_to(owner)
    whole = in_order(rows, sort)
    for place in (0, 1, 5, 39, 78, 79):
        row = rows.get(pk=whole[place])
        before = whole[place - 1] if place else None
        after = whole[place + 1] if place < 79 else None
        assert listing.neighbours(rows, sort, row) == (before, after)
        page = listing.around(rows, sort, row, size=12)
        ids = [found.pk for found in page.rows]
        begin = max(0, place - 4)
        assert ids == whole[begin : begin + len(ids)] and row.pk in ids
        assert (page.newer is None) == (ids[0] == whole[0])
        if page.older:
            assert walk(rows, sort, size=9, start=page.older) == whole[begin + len(ids) :]
        else:
            assert ids[-1] == whole[-1]
        if page.newer:
            assert walk(rows, sort, size=9, way="newer", start=page.newer) == whole[:begin]


def test_a_conversation_outside_the_filter_has_no_neighbours_and_opens_the_first_page(owner):
    make_rows(make_account(owner), 30)
    outside = Conversation.objects.filter(model="m-1").first()
    rows = Conversation.objects.filter(model="m-2")
    assert listing.neighbours(rows, "-updated", outside) == (None, None)
    assert [row.pk for row in listing.around(rows, "-updated", outside).rows] == in_order(rows, "-updated")


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize("sort", listing.SORTS)
@pytest.mark.parametrize(
    "cursor",
    [
        "x", "%%%", "é", "bnVsbA", encoded([]), encoded([1]), encoded({"a": 1}), encoded([None, 1]), encoded(["2026-11-01T00:00:00", 1]),
        encoded(["2026-11-01T00:00:00+00:00", "1"]), encoded(["2026-11-01T00:00:00+00:00", True]), encoded([10**30, 1]), encoded([3, 10**30]),
        encoded([3, -1]), encoded(["a\0b", 1]), encoded(["\ud800", 1]), encoded([[1], 1]), encoded([1.5, 1]), encoded([True, 1]),
    ],
)  # fmt: skip
def test_a_cursor_that_nobody_gave_out_is_the_first_page(owner, sort, cursor):
    make_rows(make_account(owner), 5)
    rows = Conversation.objects.visible_to(owner)
    for page in (listing.page(rows, sort, after=cursor), listing.page(rows, sort, before=cursor)):
        assert [row.pk for row in page.rows] == in_order(rows, sort)


def test_the_default_order_is_read_from_its_index(owner):
    if connection.vendor != "sqlite":
        pytest.skip("the plan of SQLite")
    for number in range(3):
        make_rows(make_account(owner, label=f"a{number}"), 400, seed=number)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    rows = Conversation.objects.visible_to(owner)
    cursor_text = listing.page(rows.present(), size=50).older
    place = listing._place(cursor_text, listing.SORTS["-updated"])
    for found in (rows.present(), listing._beyond(rows.present(), listing.SORTS["-updated"], *place, forwards=True)):
        plan = listing._ordered(found.select_related("account"), listing.SORTS["-updated"], forwards=True)[:51].explain()
        assert "conv_sort" in plan and "TEMP B-TREE" not in plan, plan
        assert "SCAN conversations_conversation\n" not in plan + "\n", plan


def test_a_count_stops_at_its_cap(owner):
    make_rows(make_account(owner), 30)
    assert Conversation.objects.all().capped_count(30) == (30, True)
    assert Conversation.objects.all().capped_count(29) == (29, False)


# --- the filter ---------------------------------------------------------------------------------------------------------------------


def narrowed(owner, query):
    form = FilterForm(owner, QueryDict(query))
    return form, set(form.narrow(Conversation.objects.visible_to(owner)).values_list("remote_id", flat=True))


def make_row(account, remote_id, **values):
    at = values.pop("at", BEGIN)
    values = {"updated_at": at, "sort_at": at, "first_seen_at": BEGIN, "seen_at": BEGIN, **values}
    return Conversation.objects.create(account=account, remote_id=remote_id, **values)


@pytest.fixture
def filled(owner):
    aurod, nuwax = make_account(owner), make_account(owner, "nuwax")
    make_row(aurod, "1", title="五月周报整理", model="gpt-4o")
    make_row(aurod, "2", title="Weekly report of May", model="gpt-4o-mini", at=BEGIN + timedelta(days=3))
    make_row(aurod, "3", title="", untitled=True, at=BEGIN + timedelta(days=5))
    make_row(nuwax, "4", title="五月市场活动", model=None, updated_at=None)
    make_row(nuwax, "5", title="gone", gone_at=BEGIN)
    return aurod, nuwax


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "1234"), ("q=周报", "1"), ("q=五月", "14"), ("q=五月+整理", "1"), ("q=WEEKLY", "2"), ("q=report+may", "2"), ("q=%25", ""), ("q=_", ""),
        ("provider=nuwax", "4"), ("provider=nuwax&provider=aurod", "1234"), ("model=gpt-4o", "1"), ("model=gpt-4o&model=gpt-4o-mini", "12"),
        ("model=none-such", ""), ("untitled=on", "3"), ("gone=on", "5"), ("updated_after=2026-11-04", "23"), ("updated_before=2026-11-01", "1"),
        ("updated_after=2026-11-02&updated_before=2026-11-04", "2"), ("q=五月&model=gpt-4o&provider=aurod", "1"),
    ],
)  # fmt: skip
def test_each_filter_lets_through_what_it_says(owner, filled, query, expected):
    form, found = narrowed(owner, query)
    assert form.is_valid() and found == set(expected)
    _again, same = narrowed(owner, form.query)
    assert same == found, "the canonical query means the same"


def test_an_account_is_a_filter_and_a_foreign_one_is_an_error(owner, filled):
    aurod, _nuwax = filled
    assert narrowed(owner, f"account={aurod.pk}")[1] == set("123")
    foreign = make_account(make_user("bob@example.com"), label="bob's")
    for value in (foreign.pk, "not-an-id"):
        form, _found = narrowed(owner, f"account={value}")
        assert "account" in form.errors and not form.is_valid()


@pytest.mark.parametrize("day", ["2026-13-01", "yesterday", "0001-01-01", "9999-12-31", "2026-11-01T00:00"])
def test_a_day_that_is_none_is_named_at_its_field_and_nothing_else_is_lost(owner, filled, day):
    form, found = narrowed(owner, f"updated_after={day}&q=五月")
    assert list(form.errors) == ["updated_after"] and day in form.errors["updated_after"][0]
    assert found == set("14") and form.active == {"q": "五月"}


def test_days_in_the_wrong_order_are_refused(owner, filled):
    form, _found = narrowed(owner, "updated_after=2026-11-04&updated_before=2026-11-02")
    assert "updated_before" in form.errors


def test_the_order_is_no_part_of_the_filter(owner, filled):
    form, _found = narrowed(owner, "sort=-title&q=五月")
    assert form.sort_name == "-title" and "sort" not in form.query and "sort" not in form.active
    assert narrowed(owner, "sort=-updated")[0].is_valid()
    assert narrowed(owner, "sort=nonsense")[0].sort_name == listing.DEFAULT_SORT


def test_rows_without_a_time_that_a_day_leaves_out_are_counted(owner, filled):
    visible = Conversation.objects.visible_to(owner)
    assert narrowed(owner, "updated_after=2026-01-01&q=五月")[0].left_out_without_time(visible) == 1
    assert narrowed(owner, "q=五月")[0].left_out_without_time(visible) == 0


def test_what_hides_everything_can_be_found_out(owner, filled):
    form, found = narrowed(owner, "q=五月&untitled=on")
    visible = Conversation.objects.visible_to(owner)
    assert found == set()
    assert form.narrow(visible, without="untitled").count() == 2 and form.narrow(visible, without="q").count() == 1
