"""The page on which a person sees and changes how they sign in, and where they are signed in. The sign-in library has the forms behind it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from allauth.mfa.models import Authenticator
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from . import logins, sessions
from .forms import NameForm
from .models import User


def _me(request: HttpRequest) -> User:
    return cast(User, request.user)


@require_GET
def security(request: HttpRequest) -> HttpResponse:
    """How the person signs in: password, second factors, passkeys, recovery codes, and where."""
    return _page(request, NameForm(instance=_me(request)))


def _page(request: HttpRequest, form: NameForm, status: int = 200) -> HttpResponse:
    context = _factors(request) | {"form": form, "sessions": sessions.sessions_of(request), "oidc": logins.connections(_me(request))}
    return render(request, "accounts/security.html", context, status=status)


@require_POST
def set_name(request: HttpRequest) -> HttpResponse:
    """Keeps how others see the person named."""
    form = NameForm(request.POST, instance=_me(request))
    if not form.is_valid():
        return _page(request, form, status=422)
    form.save()
    messages.success(request, _("Saved."))
    return redirect("mfa_index")


def _factors(request: HttpRequest) -> dict[str, Any]:
    """Returns what the person has; recovery codes that do not open are as good as none, and can be made anew."""
    rows = list(Authenticator.objects.filter(user=request.user).order_by("pk"))
    recovery = next((row.wrap() for row in rows if row.type == Authenticator.Type.RECOVERY_CODES), None)
    codes: dict[str, int] = {}
    if recovery:
        with suppress(ValidationError):
            codes = {"left": len(recovery.get_unused_codes()), "total": len(recovery.generate_codes())}
    return {
        "totp": any(row.type == Authenticator.Type.TOTP for row in rows),
        "passkeys": [{"row": row, "key": row.wrap()} for row in rows if row.type == Authenticator.Type.WEBAUTHN],
        "recovery": recovery is not None,
        "codes": codes,
    }


@require_POST
def session_end(request: HttpRequest, pk: int) -> HttpResponse:
    """Signs the person out at one other place."""
    if sessions.end_session(request, pk):
        messages.success(request, _("Signed out there."))
    else:
        messages.info(request, _("That session had ended already."))
    return redirect("mfa_index")


@require_POST
def sessions_end_others(request: HttpRequest) -> HttpResponse:
    """Signs the person out everywhere but here."""
    sessions.end_other_sessions(request)
    messages.success(request, _("Signed out everywhere else."))
    return redirect("mfa_index")
