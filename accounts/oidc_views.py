"""To the OpenID Connect provider of this installation and back, to sign in, connect or confirm; 404 where there is none."""

from __future__ import annotations

from typing import Any, cast

from allauth.account.utils import get_next_redirect_url
from allauth.account.views import BaseReauthenticateView
from allauth.core import ratelimit
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.base import AuthProcess
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from . import issuer, logins, oidc
from .models import User
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
    back = reverse("mfa_index" if request.user.is_authenticated else "account_login")
    answer = render(request, "socialaccount/leaving.html", {"name": logins.name(), "target": target, "language_next": back})
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


class _ConfirmView(BaseReauthenticateView):
    """The library's page of one way to confirm, with its limit and the other ways."""

    form_class = Form
    template_name = "socialaccount/confirm.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return what the page shows."""
        return super().get_context_data(**kwargs) | {"name": logins.name()}

    def form_valid(self, form: Form) -> HttpResponse:
        """Lead to the provider."""
        return _leave(self.request, AuthProcess.REDIRECT)


@require_http_methods(["GET", "POST"])
def oidc_confirm(request: HttpRequest) -> HttpResponse:
    """Lets somebody confirm that it is them by signing in at the provider once more."""
    _provider(request)
    return _ConfirmView.as_view()(request)


@login_not_required
@never_cache
@require_GET
def oidc_callback(request: HttpRequest) -> HttpResponse:
    """Takes whoever comes back from the provider."""
    _provider(request)
    try:
        return oidc.CallbackView.adapter_view(oidc.OAuth2Adapter(request))(request)
    except issuer.TROUBLE as error:
        return oidc.trouble(request, error)


@require_POST
@recently_authenticated
def oidc_disconnect(request: HttpRequest, pk: int) -> HttpResponse:
    """Ends a connection, unless it is the person's only way in."""
    _provider(request)
    row = get_object_or_404(SocialAccount, pk=pk, user_id=request.user.pk, provider=settings.OIDC_ISSUER)
    if logins.disconnect(cast(User, request.user), row):
        messages.success(request, _("%(name)s is not connected any more.") % {"name": logins.name()})
    else:
        messages.error(request, _("This is your only way in. Set a password first."))
    return redirect("mfa_index")
