"""Sensitive actions need a person who has shown lately that it is them: by signing in, or by confirming it once more.

A view says so with a decorator:

    @recently_authenticated                       # every request to it
    @recently_authenticated(methods=["POST"])     # its POSTs only
    @recently_authenticated(file=True)            # what it answers is a file: without `download` at the link

or where it depends on what was sent: `if answer := recent.confirmation_needed(request): return answer`. How long a proof counts is
settings.ACCOUNT_REAUTHENTICATION_TIMEOUT. What was posted is never kept for later, because it may hold a credential: the person comes back
to the page and does it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial, wraps
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from allauth.core.exceptions import ReauthenticationRequired
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import resolve_url
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRedirect

from config.htmx import safe_next

SIGNED_IN_AT = "signed_in_at"

View = Callable[..., Any]


def note_sign_in(request: HttpRequest, at: float | None = None) -> None:
    """Notes in the session that a person has signed in completely, a second factor included: just now, or at an earlier time."""
    now = time.time()
    request.session[SIGNED_IN_AT] = now if at is None else min(at, now)


def is_recent(request: HttpRequest) -> bool:
    """Tells whether the person of this session proved who they are within the last quarter of an hour (ACCOUNT_REAUTHENTICATION_TIMEOUT)."""
    if not request.user.is_authenticated:
        return False
    # A password alone, of two factors, is on record too: it counts only as a confirmation within a session, never as a sign-in.
    proofs = [record.get("at") for record in get_authentication_records(request, request.user) if record.get("reauthenticated")]
    proofs.append(request.session.get(SIGNED_IN_AT))
    now = time.time()
    return any(isinstance(at, float | int) and 0 <= now - at < settings.ACCOUNT_REAUTHENTICATION_TIMEOUT for at in proofs)


def confirmation_needed(request: HttpRequest, *, file: bool = False) -> HttpResponse | None:
    """Returns the way to the page where a person confirms that it is them, or None where that is not needed."""
    return None if is_recent(request) else ask_again(request, file=file)


def ask_again(request: HttpRequest, *, file: bool = False) -> HttpResponse:
    """Leads to the confirmation and from there back to the page that the person sees now; a fragment moves the whole page.

    With `file` the address that was asked for is no page: the person comes back to the one with the link.
    """
    methods = get_adapter(request).get_reauthentication_methods(request.user)
    if not methods:
        raise PermissionDenied(_("This needs a recent sign-in. Sign out and in again."))
    htmx = getattr(request, "htmx", None)
    shown = request.method == "GET" and not file
    if htmx:
        back = htmx.current_url_abs_path or resolve_url(settings.LOGIN_REDIRECT_URL)
    else:
        parts = urlsplit(request.get_full_path() if shown else safe_next(request))
        back = urlunsplit(("", "", parts.path, parts.query, ""))
    if not shown:
        messages.info(request, _("Nothing was done yet. Confirm that it is you, then do it again."))
    query = QueryDict(mutable=True)
    query[REDIRECT_FIELD_NAME] = back
    url = f"{methods[0]['url']}?{query.urlencode(safe='/')}"
    return HttpResponseClientRedirect(url) if htmx else HttpResponseRedirect(url)


def recently_authenticated(view: View | None = None, *, methods: Collection[str] = (), file: bool = False) -> Any:
    """Makes a view ask for a confirmation first: always, or for some methods only; `file` says that it answers with a file, not a page."""
    if view is None:
        return partial(recently_authenticated, methods=methods, file=file)
    inner = view

    @wraps(inner)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        asked = None if methods and request.method not in methods else confirmation_needed(request, file=file)
        return asked or inner(request, *args, **kwargs)

    return guarded


class ConfirmationMiddleware:
    """Answers where the sign-in library asks for a confirmation. Its own answer would keep the whole POST in the session, in clear.

    Stands behind the library's middleware, so that it is asked first.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer a view of the library that wants a confirmation."""
        if isinstance(exception, ReauthenticationRequired) and request.user.is_authenticated:
            return ask_again(request)
        return None
