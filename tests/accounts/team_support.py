"""A team with one person in each role, and an account that is shared with it: what the tests of teams and of access begin with."""

from __future__ import annotations

from dataclasses import dataclass

from accounts import teams
from accounts.models import Membership, Role, Team, User
from tests.conversations import support


@dataclass
class People:
    """The persons of a test: four members of a team, and one who has nothing to do with it."""

    team: Team
    owner: User
    admin: User
    operator: User
    viewer: User
    stranger: User


def people(owner: User) -> People:
    """Returns a team that `owner` owns, with a member in every other role."""
    team = teams.create(owner, "Support desk")
    others = {}
    for role in (Role.ADMIN, Role.OPERATOR, Role.VIEWER):
        others[role.value] = support.make_user(f"{role.value}@example.com")
        Membership.objects.create(team=team, user=others[role.value], role=role)
    return People(team, owner, stranger=support.make_user("stranger@example.com"), **others)
