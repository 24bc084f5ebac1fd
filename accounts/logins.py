"""A person's logins at the OpenID Connect provider of this installation: connected, disconnected, and used to confirm that it is them.

A login is a row of the sign-in library: the issuer, the `sub` that the person has there, and the e-mail address that it is recognised by. How
somebody gets there and back, and what is believed of the answer: accounts/oidc.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.mfa.utils import is_mfa_enabled
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _

from . import deeds, issuer, recent
from .models import User


class LoginTaken(Exception):
    """The login is somebody else's."""


def name() -> str:
    """Returns what the button says."""
    return settings.OIDC_NAME or _("Company login")


def rows_of(user: Any) -> Any:
    """Returns the person's logins at the provider; none where there is no provider, or another one than then."""
    rows = SocialAccount.objects.filter(user=user, provider=settings.OIDC_ISSUER) if settings.OIDC_ISSUER else SocialAccount.objects.none()
    return rows.order_by("pk")


def connections(user: Any) -> dict[str, Any]:
    """Returns what the page about a person's sign-in shows; nothing where there is no provider."""
    return {"name": name(), "rows": rows_of(user), "may_end": user.has_usable_password()} if settings.OIDC_ISSUER else {}


def _told(row: SocialAccount) -> dict[str, str]:
    return {"issuer": row.provider, "login": row.extra_data.get("email") or row.uid}


def note_connected(user: User, row: SocialAccount, note: str = "") -> None:
    """Tells the audit log of a login that has been stored."""
    deeds.tell(user, "connect login", after=_told(row), note=note)


def connect(user: User, row: SocialAccount, note: str = "") -> bool:
    """Lets a person in by a login from now on; False where that was so. Raises LoginTaken where it is somebody else's."""
    known = SocialAccount.objects.filter(provider=row.provider, uid=row.uid).first()
    if known is not None:
        if known.user_id != user.pk:
            raise LoginTaken
        return False
    row.user = user  # type: ignore[assignment, unused-ignore]
    try:
        with transaction.atomic():
            row.save()
            note_connected(user, row, note)
    except IntegrityError as error:  # somebody was quicker
        raise LoginTaken from error
    return True


def disconnect(user: User, row: SocialAccount) -> bool:
    """Ends a connection; False where it stays, because without it the person could not sign in."""
    with transaction.atomic():
        if not User.objects.select_for_update(no_key=True).get(pk=user.pk).has_usable_password():
            return False
        told = _told(row)
        row.delete()
        deeds.tell(user, "disconnect login", before=told)
    return True


# --- proofs ---------------------------------------------------------------------------------------------------------------


def note_signed_in_there(request: HttpRequest, user: Any, sociallogin: Any = None, **_more: Any) -> None:
    """Receiver of the library's user_logged_in: a sign-in is no fresher a proof than the one at the provider, if that says when it was.

    A second factor was asked for just now, so with one the sign-in here is the proof.
    """
    there = sociallogin.state.get("auth_time") if sociallogin else None
    if there is not None and not is_mfa_enabled(user):
        recent.note_sign_in(request, at=there)


def confirm(request: HttpRequest, row: SocialAccount, state: Mapping[str, Any]) -> str:
    """Counts a fresh sign-in at the provider as a confirmation; returns why it is none, "" where it is one.

    The provider was asked to let the person sign in once more, and has to say that this happened after they were sent there.
    """
    if row.pk is None or not request.user.is_authenticated or row.user_id != request.user.pk:
        return "another_login"
    there, begun = state.get("auth_time"), state.get("begun")
    if there is None or begun is None or not begun - issuer.LEEWAY <= there <= time.time() + issuer.LEEWAY:
        return "stale"
    record_authentication(request, request.user, method="socialaccount", reauthenticated=True)
    return ""
