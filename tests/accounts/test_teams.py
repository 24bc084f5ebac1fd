from __future__ import annotations

import re
import threading
from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import teams
from accounts.models import Invitation, Membership, Role, Team, User
from accounts.teams import InvitationInvalid
from conversations.models import AuditEntry
from tests.accounts.team_support import people
from tests.conversations import support


@pytest.fixture
def desk(alice):
    return people(alice)


def role(user: User, team: Team) -> str:
    return teams.role_of(user, team)


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_whoever_creates_a_team_owns_it(alice) -> None:
    team = teams.create(alice, "  Support \0 desk ")
    assert team.name == "Support desk" and role(alice, team) == Role.OWNER and list(teams.teams_of(alice)) == [team]
    assert AuditEntry.objects.get(team=team).what == "create team"
    with pytest.raises(ValidationError):
        teams.create(alice, "   ")


def test_an_admin_sets_roles_up_to_operator_only(desk) -> None:
    teams.set_role(desk.admin, desk.team, desk.viewer, Role.OPERATOR)
    assert role(desk.viewer, desk.team) == Role.OPERATOR
    for target, wanted in ((desk.viewer, Role.ADMIN), (desk.viewer, Role.OWNER), (desk.owner, Role.VIEWER), (desk.admin, Role.OWNER)):
        with pytest.raises(PermissionDenied):
            teams.set_role(desk.admin, desk.team, target, wanted)
    for actor in (desk.operator, desk.viewer, desk.stranger):
        with pytest.raises(PermissionDenied):
            teams.set_role(actor, desk.team, desk.viewer, Role.VIEWER)
    teams.set_role(desk.owner, desk.team, desk.viewer, Role.OWNER)
    assert role(desk.viewer, desk.team) == Role.OWNER


def test_the_last_owner_can_neither_leave_nor_be_demoted(desk) -> None:
    for change in (
        lambda: teams.set_role(desk.owner, desk.team, desk.owner, Role.ADMIN),
        lambda: teams.remove(desk.owner, desk.team, desk.owner),
    ):
        with pytest.raises(ValidationError):
            change()
    teams.set_role(desk.owner, desk.team, desk.admin, Role.OWNER)
    teams.remove(desk.owner, desk.team, desk.owner)
    assert role(desk.owner, desk.team) == "" and role(desk.admin, desk.team) == Role.OWNER


def test_two_owners_who_demote_each_other_at_the_same_moment_leave_one(desk) -> None:
    teams.set_role(desk.owner, desk.team, desk.admin, Role.OWNER)
    together, refused = threading.Barrier(2), []

    def demote(actor: User, other: User) -> None:
        try:
            together.wait(10)
            teams.set_role(actor, desk.team, other, Role.VIEWER)
        except (PermissionDenied, ValidationError, OperationalError) as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=demote, args=pair) for pair in ((desk.owner, desk.admin), (desk.admin, desk.owner))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1 and Membership.objects.filter(team=desk.team, role=Role.OWNER).count() == 1


def test_nobody_joins_leaves_or_deletes_a_personal_team(alice) -> None:
    personal = Team.objects.get(personal=True, members=alice)
    for change in (
        lambda: teams.invite(alice, personal, Role.VIEWER),
        lambda: teams.remove(alice, personal, alice),
        lambda: teams.delete(alice, personal),
        lambda: teams.rename(alice, personal, "Ours"),
    ):
        with pytest.raises(PermissionDenied):
            change()
    assert browser(alice).get(reverse("team_detail", args=[personal.pk])).status_code == 404


# --- invitations --------------------------------------------------------------------------------------------------------------------


def test_an_invitation_is_accepted_once_and_its_secret_is_not_stored(desk) -> None:
    invitation, secret = teams.invite(desk.admin, desk.team, Role.OPERATOR)
    assert secret not in str(Invitation.objects.values().get()) and invitation.digest == teams.digest_of(secret)
    assert teams.accept(desk.stranger, secret) == desk.team and role(desk.stranger, desk.team) == Role.OPERATOR
    with pytest.raises(InvitationInvalid, match="used"):
        teams.accept(support.make_user("late@example.com"), secret)
    assert secret not in "".join(AuditEntry.objects.values_list("note", flat=True))


def test_what_cannot_be_accepted_says_why(desk) -> None:
    def refusal(secret: str) -> str:
        with pytest.raises(InvitationInvalid) as caught:
            teams.accept(desk.stranger, secret)
        return caught.value.code

    assert refusal("nonsense") == "unknown"
    invitation, secret = teams.invite(desk.owner, desk.team, Role.VIEWER, "Somebody@example.com")
    assert refusal(secret) == "another_email"
    assert teams.revoke(desk.admin, desk.team, invitation.pk) and refusal(secret) == "revoked"
    assert not teams.revoke(desk.admin, desk.team, invitation.pk)
    invitation, secret = teams.invite(desk.owner, desk.team, Role.VIEWER)
    Invitation.objects.filter(pk=invitation.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert refusal(secret) == "expired"
    _invitation, secret = teams.invite(desk.admin, desk.team, Role.VIEWER)
    teams.set_role(desk.owner, desk.team, desk.admin, Role.OPERATOR)
    assert refusal(secret) == "revoked", "who invited may not do so any more"
    assert role(desk.stranger, desk.team) == ""


def test_an_invitation_never_lowers_a_role(desk) -> None:
    teams.accept(desk.admin, teams.invite(desk.owner, desk.team, Role.VIEWER)[1])
    assert role(desk.admin, desk.team) == Role.ADMIN
    teams.accept(desk.viewer, teams.invite(desk.owner, desk.team, Role.OPERATOR)[1])
    assert role(desk.viewer, desk.team) == Role.OPERATOR


def test_an_admin_invites_up_to_operator(desk) -> None:
    for wanted in (Role.ADMIN, Role.OWNER):
        with pytest.raises(PermissionDenied):
            teams.invite(desk.admin, desk.team, wanted)
    for actor in (desk.operator, desk.viewer, desk.stranger):
        with pytest.raises(PermissionDenied):
            teams.invite(actor, desk.team, Role.VIEWER)


def test_opening_a_link_changes_nothing_and_joining_is_a_post(desk) -> None:
    _invitation, secret = teams.invite(desk.owner, desk.team, Role.VIEWER)
    address, client = reverse("invitation", args=[secret]), browser(desk.stranger)
    page = client.get(address)
    assert page.status_code == 200 and desk.team.name in page.content.decode() and role(desk.stranger, desk.team) == ""
    assert client.post(address).headers["Location"] == reverse("team_detail", args=[desk.team.pk])
    assert role(desk.stranger, desk.team) == Role.VIEWER
    client.get(reverse("team_list"))  # it says that one has joined
    page = client.get(address)
    assert page.status_code == 410 and desk.team.name not in page.content.decode()


@pytest.mark.parametrize("code", ["unknown", "another_email", "revoked", "expired"])
def test_a_link_that_does_not_work_is_explained_without_the_name_of_the_team(desk, caplog, code: str) -> None:
    invitation, secret = teams.invite(desk.owner, desk.team, Role.VIEWER, "somebody@example.com" if code == "another_email" else "")
    if code == "revoked":
        teams.revoke(desk.owner, desk.team, invitation.pk)
    elif code == "expired":
        Invitation.objects.filter(pk=invitation.pk).update(expires_at=timezone.now())
    address = reverse("invitation", args=["x" * 43 if code == "unknown" else secret])
    for client in (browser(desk.stranger), *([] if code == "another_email" else [Client()])):
        page = client.get(address)
        assert page.status_code == 410 and desk.team.name not in page.content.decode()
        assert client.post(address).status_code in (302, 410)
    assert role(desk.stranger, desk.team) == "" and address not in caplog.text


def test_sign_up_is_open_only_to_who_holds_an_invitation(desk) -> None:
    signup, given = reverse("account_signup"), {"email": "new@example.com", "password1": support.PASSWORD, "password2": support.PASSWORD}
    client = Client()
    client.post(signup, given)
    assert not User.objects.filter(email="new@example.com").exists()
    invitation, secret = teams.invite(desk.owner, desk.team, Role.OPERATOR)
    page = client.get(reverse("invitation", args=[secret]))
    assert page.status_code == 200 and signup in page.content.decode()
    assert client.get(signup).status_code == 200 and 'name="password1"' in client.get(signup).content.decode()
    answer = client.post(signup, given | {"next": reverse("invitation", args=[secret])})
    assert secret not in str(dict(client.session))
    made = User.objects.get(email="new@example.com")
    assert answer.headers["Location"] == reverse("invitation", args=[secret]) and role(made, desk.team) == "", "joining is asked for"
    client.post(answer.headers["Location"])
    assert role(made, desk.team) == Role.OPERATOR and Team.objects.filter(personal=True, members=made).exists()

    again = Client()
    again.get(reverse("invitation", args=[secret]))  # it is used up
    again.post(signup, given | {"email": "second@example.com"})
    assert not User.objects.filter(email="second@example.com").exists()
    invitation, secret = teams.invite(desk.owner, desk.team, Role.OPERATOR, "meant@example.com")
    again.get(reverse("invitation", args=[secret]))
    again.post(signup, given | {"email": "second@example.com"})
    assert not User.objects.filter(email="second@example.com").exists(), "the invitation is for somebody else"
    teams.revoke(desk.owner, desk.team, invitation.pk)
    again.post(signup, given | {"email": "meant@example.com"})
    assert not User.objects.filter(email="meant@example.com").exists(), "revoked after the link was opened"


# --- pages --------------------------------------------------------------------------------------------------------------------------


def test_the_link_is_shown_once(desk) -> None:
    client, address = browser(desk.owner), reverse("team_detail", args=[desk.team.pk])
    made = client.post(reverse("team_invite", args=[desk.team.pk]), {"role": "operator", "email": ""}).content.decode()
    link = re.search(r"http://testserver(/invitations/[\w-]{43}/)", made)
    assert link and client.get(link[1]).status_code == 200
    assert "http://testserver/invitations/" not in client.get(address).content.decode()


def test_the_page_of_a_team_offers_what_its_reader_may(desk) -> None:
    address = reverse("team_detail", args=[desk.team.pk])
    pages = {name: browser(getattr(desk, name)).get(address).content.decode() for name in ("owner", "admin", "operator", "viewer")}
    for name, page in pages.items():
        assert (reverse("team_invite", args=[desk.team.pk]) in page) == (name in ("owner", "admin")), name
        assert (reverse("team_delete", args=[desk.team.pk]) in page) == (name == "owner"), name
        assert (reverse("team_role", args=[desk.team.pk, desk.viewer.pk]) in page) == (name in ("owner", "admin")), name
        assert (reverse("team_role", args=[desk.team.pk, desk.owner.pk]) in page) == (name == "owner"), name


def test_the_pages_change_names_roles_and_members(desk) -> None:
    client, pk = browser(desk.owner), desk.team.pk
    client.post(reverse("team_rename", args=[pk]), {"name": "Night desk"})
    client.post(reverse("team_role", args=[pk, desk.viewer.pk]), {"role": "operator"})
    desk.team.refresh_from_db()
    assert desk.team.name == "Night desk" and role(desk.viewer, desk.team) == Role.OPERATOR
    asked = client.get(reverse("team_remove", args=[pk, desk.viewer.pk]))
    assert asked.status_code == 200 and role(desk.viewer, desk.team) == Role.OPERATOR
    client.post(reverse("team_remove", args=[pk, desk.viewer.pk]))
    assert role(desk.viewer, desk.team) == ""
    refused = client.post(reverse("team_remove", args=[pk, desk.owner.pk]), follow=True)
    assert "needs an owner" in refused.content.decode() and role(desk.owner, desk.team) == Role.OWNER
    client.post(reverse("team_delete", args=[pk]))
    assert not Team.objects.filter(pk=pk).exists()
    made = client.post(reverse("team_list"), {"name": "Another"})
    assert made.headers["Location"] == reverse("team_detail", args=[Team.objects.get(name="Another").pk])
    assert client.post(reverse("team_list"), {"name": " "}).status_code == 422
