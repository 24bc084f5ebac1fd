"""Where a person is signed in, and how to end it there: the sign-in library's list of sessions in this product's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from allauth.usersessions.internal import flows
from allauth.usersessions.models import UserSession
from django.http import HttpRequest
from django.utils.translation import gettext as _

from .models import User

# The first that is found names it: browsers also call themselves by the names of those that they descend from.
BROWSERS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Chromium/", "Chromium"), ("Safari/", "Safari"))
SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


@dataclass(frozen=True)
class Session:
    """One place where a person is signed in."""

    pk: int
    device: str
    agent: str
    address: str
    since: datetime
    current: bool


def note_session(request: HttpRequest) -> None:
    """Notes a session that has just begun; one that no browser began (a script, a test) has no address and is not listed."""
    if request.META.get("REMOTE_ADDR"):
        UserSession.objects.create_from_request(request)


def sessions_of(request: HttpRequest) -> list[Session]:
    """Returns where the person is signed in, this session first, then the latest."""
    rows = UserSession.objects.purge_and_list(request.user)
    shown = [Session(row.pk, device_of(row.user_agent), row.user_agent, row.ip, row.created_at, row.is_current()) for row in rows]
    return sorted(shown, key=lambda session: (not session.current, -session.since.timestamp()))


def end_session(request: HttpRequest, pk: int) -> bool:
    """Ends one other session of the person on the server; False when there is no such session."""
    rows = [row for row in UserSession.objects.filter(user=request.user, pk=pk) if not row.is_current()]
    flows.sessions.end_sessions(request, rows)
    return bool(rows)


def end_other_sessions(request: HttpRequest) -> None:
    """Ends all sessions of the person but this one, on the server."""
    flows.sessions.end_other_sessions(request, request.user)


def end_all(user: User) -> int:
    """Ends all sessions of a person on the server; returns how many that were."""
    rows = UserSession.objects.purge_and_list(user)
    for row in rows:
        row.end()
    return len(rows)


def device_of(agent: str) -> str:
    """Returns browser and system as people name them."""
    names = [next((name for mark, name in table if mark in agent), "") for table in (BROWSERS, SYSTEMS)]
    browser, system = names
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or re.sub(r"[^\w .-].*", "", agent)[:40] or _("Unknown device")
