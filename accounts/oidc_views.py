"""To the OpenID Connect provider of this installation and back, and what a person connects; 404 where there is none."""

from __future__ import annotations

from typing import Any

from allauth.account.utils import get_next_redirect_url
from allauth.core import ratelimit
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.base import AuthProcess
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from . import issuer, oidc
from .recent import recently_authenticated


def _provider(request: HttpRequest) -> Any:
    if not settings.OIDC_ISSUER:
        raise Http404
    return get_adapter().get_provider(request, settings.OIDC_ISSUER)


def _leave(request: HttpRequest, process: str) -> HttpResponse:
    """Leads to the provider by a page of our own: a redirect of a form to another site would need a hole in the Content-Security-Policy."""
    provider = _provider(request)
    if refused := ratelimit.consume_or_429(request, action="login"):
        return refused
    try:
        target = provider.redirect(request, process, get_next_redirect_url(request))["Location"]
    except issuer.TROUBLE as error:
        return oidc.trouble(request, error)
    answer = render(request, "socialaccount/leaving.html", {"name": oidc.name(), "target": target})
    answer["Refresh"] = f"0; url={target}"
    return answer


@login_not_required
@never_cache
@require_POST
def oidc_login(request: HttpRequest) -> HttpResponse:
    """Begins to sign somebody in."""
    if request.user.is_authenticated:
        _provider(request)
        return redirect(get_next_redirect_url(request) or settings.LOGIN_REDIRECT_URL)
    return _leave(request, AuthProcess.LOGIN)


@require_POST
@recently_authenticated
def oidc_connect(request: HttpRequest) -> HttpResponse:
    """Begins to connect the person who is signed in."""
    return _leave(request, AuthProcess.CONNECT)


@login_not_required
@never_cache
@require_GET
def oidc_callback(request: HttpRequest) -> HttpResponse:
    """Takes whoever comes back from the provider."""
    _provider(request)
    try:
        return oidc.CallbackView.adapter_view(oidc.OAuth2Adapter(request, settings.OIDC_ISSUER))(request)
    except issuer.TROUBLE as error:
        return oidc.trouble(request, error)


@require_POST
@recently_authenticated
def oidc_disconnect(request: HttpRequest, pk: int) -> HttpResponse:
    """Ends a connection, unless it is the person's only way in."""
    _provider(request)
    row = get_object_or_404(SocialAccount, pk=pk, user_id=request.user.pk, provider=settings.OIDC_ISSUER)
    if request.user.has_usable_password():
        row.delete()
        messages.success(request, _("%(name)s is not connected any more.") % {"name": oidc.name()})
    else:
        messages.error(request, _("This is your only way in. Set a password first."))
    return redirect("mfa_index")
