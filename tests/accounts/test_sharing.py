from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils.translation import override

from accounts import services, teams
from accounts.models import Account, AccountShare, Role, ShareLevel, Team, User
from conversations import audit_presenters
from conversations.models import AuditEntry
from tests.accounts.team_support import people


@pytest.fixture
def desk(alice):
    return people(alice)


@pytest.fixture
def account(connected) -> Account:
    return connected("aurod", populate=3, label="Shop")[1]


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def may(user: User, account: Account) -> tuple[bool, bool, bool]:
    """Whether somebody may see, change and own an account."""
    ways = (Account.objects.visible_to, Account.objects.editable_by, Account.objects.owned_by)
    return tuple(way(user).filter(pk=account.pk).exists() for way in ways)  # type: ignore[return-value]


def test_roles_and_levels_decide_who_may_what(desk, account) -> None:
    members = (desk.admin, desk.operator, desk.viewer)
    for user in (*members, desk.stranger):
        assert may(user, account) == (False, False, False)
    teams.share(desk.owner, account, desk.team, ShareLevel.READ)
    assert [may(user, account) for user in members] == [(True, False, False)] * 3
    teams.share(desk.owner, account, desk.team, ShareLevel.USE)
    assert [may(user, account) for user in members] == [(True, True, False), (True, True, False), (True, False, False)]
    assert may(desk.owner, account) == (True, True, True) and may(desk.stranger, account) == (False, False, False)
    teams.unshare(desk.owner, account, desk.team)
    assert [may(user, account) for user in members] == [(False, False, False)] * 3


def test_who_is_in_two_teams_sees_an_account_once_and_may_what_the_better_one_may(desk, account) -> None:
    other = teams.create(desk.owner, "Second")
    teams.accept(desk.viewer, teams.invite(desk.owner, other, Role.OPERATOR)[1])
    teams.share(desk.owner, account, desk.team, ShareLevel.USE)
    teams.share(desk.owner, account, other, ShareLevel.USE)
    assert Account.objects.visible_to(desk.viewer).count() == 1 and may(desk.viewer, account) == (True, True, False)


def test_an_inactive_person_may_nothing(desk, account) -> None:
    teams.share(desk.owner, account, desk.team, ShareLevel.USE)
    User.objects.update(is_active=False)
    for user in User.objects.all():
        assert may(user, account) == (False, False, False)


def test_only_the_owner_shares_and_only_with_teams_of_theirs(desk, account) -> None:
    foreign = teams.create(desk.stranger, "Foreign")
    personal = Team.objects.get(personal=True, members=desk.owner)
    for actor, team in ((desk.admin, desk.team), (desk.stranger, foreign), (desk.owner, foreign), (desk.owner, personal)):
        with pytest.raises(PermissionDenied):
            teams.share(actor, account, team, ShareLevel.USE)
    with pytest.raises(PermissionDenied):
        teams.unshare(desk.admin, account, desk.team)
    assert not AccountShare.objects.exists()


def test_a_removed_member_sees_nothing_and_takes_their_accounts_along(desk, account) -> None:
    teams.share(desk.owner, account, desk.team, ShareLevel.USE)
    teams.set_role(desk.owner, desk.team, desk.admin, Role.OWNER)
    teams.remove(desk.admin, desk.team, desk.operator)
    assert may(desk.operator, account) == (False, False, False)
    asked = browser(desk.owner).get(reverse("team_remove", args=[desk.team.pk, desk.owner.pk])).content.decode()
    assert account.label in asked and AccountShare.objects.exists()
    teams.remove(desk.owner, desk.team, desk.owner)
    assert may(desk.admin, account) == (False, False, False) and may(desk.owner, account) == (True, True, True)


def test_handing_over_keeps_the_seal_and_yields_to_a_label_that_is_taken(desk, account, connected) -> None:
    connected("modelrouter", populate=1, label="Shop", owner=desk.operator)
    other = teams.create(desk.owner, "Second")
    teams.share(desk.owner, account, desk.team, ShareLevel.USE)
    teams.share(desk.owner, account, other, ShareLevel.READ)
    secret = services.credentials_of(account)["token"].reveal()
    for actor, to in ((desk.operator, desk.operator), (desk.owner, desk.stranger), (desk.owner, desk.owner)):
        with pytest.raises((PermissionDenied, ValidationError)):
            teams.hand_over(actor, account, to)
    teams.hand_over(desk.owner, account, desk.operator)
    account.refresh_from_db()
    assert account.owner == desk.operator and account.label == "Shop (2)"
    assert services.credentials_of(account)["token"].reveal() == secret
    assert may(desk.operator, account) == (True, True, True) and may(desk.owner, account) == (True, True, False)
    assert [share.team for share in account.shares.all()] == [desk.team], "its new owner is not in the other team"


def test_every_change_is_in_the_audit_log_with_its_author(desk, account) -> None:
    teams.share(desk.owner, account, desk.team, ShareLevel.READ)
    teams.share(desk.owner, account, desk.team, ShareLevel.READ)
    teams.share(desk.owner, account, desk.team, ShareLevel.USE)
    teams.unshare(desk.owner, account, desk.team)
    teams.set_role(desk.admin, desk.team, desk.viewer, Role.OPERATOR)
    teams.remove(desk.admin, desk.team, desk.viewer)
    teams.hand_over(desk.owner, account, desk.operator)
    services.replace_credentials(account, {name: value.reveal() for name, value in services.credentials_of(account).items()}, by=desk.operator)
    found = list(
        AuditEntry.objects.exclude(what="create team").order_by("pk").values_list("what", "actor_name", "account_label", "note", "before", "after")
    )
    assert found == [
        ("share", "alice@example.com", "Shop", "", None, {"level": "read"}),
        ("share", "alice@example.com", "Shop", "", {"level": "read"}, {"level": "use"}),
        ("unshare", "alice@example.com", "Shop", "", None, None),
        ("set role", "admin@example.com", "", "viewer@example.com", {"role": "viewer"}, {"role": "operator"}),
        ("remove member", "admin@example.com", "", "viewer@example.com", None, None),
        ("hand over", "alice@example.com", "Shop", "operator@example.com", None, None),
        ("replace credential", "operator@example.com", "Shop", "", None, None),
    ]
    request = RequestFactory().get("/")
    request.user = desk.owner
    for language, texts in (("en", ("Access", "Read", "Use", "Viewer", "Operator")), ("zh-hans", ("访问权限", "只读", "可使用", "查看者", "操作员"))):
        with override(language):
            rows = audit_presenters.rows_of(request, list(AuditEntry.objects.filter(what__in=("share", "set role"))))
        shown = {
            text for row in rows for part in row.parts for text in (part.label, part.before and part.before.text, part.after and part.after.text)
        }
        assert set(texts) <= shown and not {"use", "viewer", "level"} & shown


# --- pages --------------------------------------------------------------------------------------------------------------------------


def test_the_owner_shares_changes_and_takes_back_on_the_page_of_the_account(desk, account) -> None:
    client, page = browser(desk.owner), reverse("account_detail", args=[account.pk])
    assert "Nobody else sees it" in client.get(page).content.decode()
    client.post(reverse("account_share", args=[account.pk]), {"team": desk.team.pk, "level": "read"})
    assert AccountShare.objects.get().level == "read" and "Let them use it" in client.get(page).content.decode()
    client.post(reverse("account_share", args=[account.pk]), {"team": desk.team.pk, "level": "use"})
    assert AccountShare.objects.get().level == "use"
    client.post(reverse("account_share", args=[account.pk]), {"team": desk.team.pk, "level": "everything"})
    client.post(reverse("account_share", args=[account.pk]), {"team": teams.create(desk.stranger, "Foreign").pk, "level": "use"})
    assert AccountShare.objects.get().level == "use"
    client.post(reverse("account_unshare", args=[account.pk, desk.team.pk]))
    assert not AccountShare.objects.exists()
    client.post(reverse("account_hand_over", args=[account.pk]), {"to": desk.stranger.pk})
    assert Account.objects.get(pk=account.pk).owner == desk.owner
    client.post(reverse("account_hand_over", args=[account.pk]), {"to": desk.admin.pk})
    assert Account.objects.get(pk=account.pk).owner == desk.admin


@pytest.mark.parametrize("level", ["read", "use"])
def test_others_see_whose_it_is_and_what_they_may_and_never_the_owners_controls(desk, account, level: str) -> None:
    teams.share(desk.owner, account, desk.team, level)
    for user in (desk.operator, desk.viewer):
        page = browser(user).get(reverse("account_detail", args=[account.pk])).content.decode()
        assert "It belongs to alice@example.com" in page
        for name in ("account_edit", "account_delete", "account_test", "account_pause", "account_pace", "account_share", "account_hand_over"):
            assert reverse(name, args=[account.pk]) not in page, name
        uses = level == "use" and user == desk.operator
        assert (reverse("account_sync", args=[account.pk]) in page) == uses
        listed = browser(user).get(reverse("account_list")).content.decode()
        assert "alice@example.com" in listed and (reverse("account_sync", args=[account.pk]) in listed) == uses
        assert reverse("account_edit", args=[account.pk]) not in listed
