"""Signing in with the OpenID Connect provider that this installation has, if it has one (settings.OIDC_ISSUER; docs/sign-in.md).

The sign-in library leads there and back, with state and PKCE. Here is what differs: the nonce, and that every id_token is verified whatever way it
came (accounts/issuer.py); who may come in; and that nothing of the tokens is kept. A person is known by issuer and `sub`, never by an e-mail
address, unless the operator trusts the provider's addresses (settings.OIDC_TRUST_EMAIL).
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any

from allauth.account.internal.flows.manage_email import assess_unique_email
from allauth.account.models import EmailAddress
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin
from allauth.socialaccount.providers.base import AuthProcess
from allauth.socialaccount.providers.base.constants import AuthError
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from . import issuer, recent
from .adapter import invitation_of
from .models import User

logger = logging.getLogger(__name__)

PROVIDER = OpenIDConnectProvider.id
# Why nobody was signed in -> the status of the page that says so (templates/socialaccount/authentication_error.html).
REASONS = {"denied": 403, "state": 400, "away": 502, "answer": 502, "unknown": 403, "no_email": 403, "another_email": 403, "taken": 403}


def name() -> str:
    """Returns what the button says."""
    return settings.OIDC_NAME or _("Company login")


def failed(request: HttpRequest, reason: str, error: BaseException | None = None) -> HttpResponse:
    """Returns the page that says why nobody was signed in. What the provider said is not logged: it may hold a token."""
    logger.warning("nobody was signed in with OpenID Connect: %s %s", reason, type(error).__name__ if error else "")
    return render(request, "socialaccount/authentication_error.html", {"reason": reason, "name": name()}, status=REASONS[reason])


def trouble(request: HttpRequest, error: BaseException) -> HttpResponse:
    """Returns the same page for one of issuer.TROUBLE."""
    return failed(request, "away" if isinstance(error, issuer.AWAY) else "answer", error)


def connections(user: Any) -> dict[str, Any]:
    """Returns what the page about a person's sign-in shows; nothing where there is no provider."""
    if not settings.OIDC_ISSUER:
        return {}
    rows = SocialAccount.objects.filter(user=user, provider=settings.OIDC_ISSUER).order_by("pk")
    return {"name": name(), "rows": rows, "may_end": user.has_usable_password()}


class OAuth2Adapter(OpenIDConnectOAuth2Adapter):
    """Asks the provider; its answers count only as far as accounts/issuer.py believes them."""

    nonce = ""

    @property
    def openid_config(self) -> dict[str, Any]:
        """What the provider says about itself."""
        if not hasattr(self, "_openid_config"):
            self._openid_config = issuer.discovered(_session(), self.get_provider().server_url, settings.OIDC_ISSUER)
        return self._openid_config

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        """Return the address that the operator registers at the provider."""
        return request.build_absolute_uri(reverse("oidc_callback"))

    def complete_login(self, request: HttpRequest, app: SocialApp, token: Any, **kwargs: Any) -> SocialLogin:
        """Return who came back, from a verified id_token; the e-mail address may come from the userinfo of the same person."""
        keys = _session().request("GET", self.openid_config["jwks_uri"])
        keys.raise_for_status()
        claims = issuer.claims_of(
            kwargs["response"].get("id_token"), keys.json(), issuer=self.openid_config["issuer"], client_id=app.client_id, nonce=self.nonce
        )
        if not claims.get("email") and self.openid_config.get("userinfo_endpoint"):
            more = self._fetch_user_info(token.token)
            if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
                raise OAuth2Error("the userinfo is about somebody else")
            claims |= {"email": more.get("email"), "email_verified": more.get("email_verified"), "name": claims.get("name") or more.get("name")}
        return self.get_provider().sociallogin_from_response(request, claims)


class CallbackView(OAuth2CallbackView):
    """The library's, which takes the state once; the nonce that waits there goes to where the id_token is verified."""

    adapter: OAuth2Adapter

    def _get_state(self, request: HttpRequest, provider: Any) -> Any:
        state, answer = super()._get_state(request, provider)
        self.adapter.nonce = (state or {}).get("nonce", "")
        return state, answer


class Provider(OpenIDConnectProvider):
    """The provider of this installation."""

    oauth2_adapter_class = OAuth2Adapter
    pkce_enabled_default = True

    def get_callback_url(self) -> str:
        """Return where people come back to."""
        return reverse("oidc_callback")

    def redirect(self, request: HttpRequest, process: str, next_url: str | None = None, data: Any = None, **kwargs: Any) -> HttpResponse:
        """Lead to the provider, with a nonce that the id_token has to hold."""
        nonce = secrets.token_urlsafe(24)
        return super().redirect(request, process, next_url, data, auth_params={"nonce": nonce}, nonce=nonce, **kwargs)

    def extract_uid(self, data: dict[str, Any]) -> str:
        """Return the person's name at the provider, which never changes."""
        return data["sub"]

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return all that is kept: what the person recognises their login by."""
        return {"email": _text(data.get("email"))}

    def extract_common_fields(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return what a new person begins with."""
        return {"email": _text(data.get("email")), "name": _text(data.get("name"))}

    def extract_email_addresses(self, data: dict[str, Any]) -> list[EmailAddress]:
        """Return the address, with whether the provider vouches for it; some say so as a text."""
        email = _text(data.get("email"))
        return [EmailAddress(email=email, verified=data.get("email_verified") in (True, "true"), primary=True)] if email else []


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """Decides who comes in: who is connected, who holds an invitation, nobody else."""

    def list_apps(self, request: HttpRequest, provider: str | None = None, client_id: str | None = None) -> list[SocialApp]:
        """Return the one of the settings; what is in the database names no provider."""
        if not settings.OIDC_ISSUER or provider not in (None, PROVIDER, settings.OIDC_ISSUER) or client_id not in (None, settings.OIDC_CLIENT_ID):
            return []
        # Accounts are kept under the issuer, so that another provider's `sub` is never taken for that of this one.
        app = SocialApp(provider=PROVIDER, provider_id=settings.OIDC_ISSUER, name=name(), client_id=settings.OIDC_CLIENT_ID)
        app.secret, app.settings = settings.OIDC_CLIENT_SECRET, {"server_url": settings.OIDC_ISSUER.rstrip("/")}
        return [app]

    def get_requests_session(self) -> issuer.Session:
        """Return what all questions of this request are asked with."""
        return _session()

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, extra_context: Any = None
    ) -> None:
        """Answer with our own page."""
        if exception is not None:
            raise ImmediateHttpResponse(trouble(request, exception))
        came_back = error == AuthError.CANCELLED or "state" in (extra_context or {})
        raise ImmediateHttpResponse(failed(request, "denied" if came_back else "state"))

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Forget the tokens, before anything of the sign-in waits in the session for a second step."""
        sociallogin.token = None
        if sociallogin.state.get("process") == AuthProcess.CONNECT and not recent.is_recent(request):
            messages.error(request, _("That took too long. Connect it again."))
            raise ImmediateHttpResponse(redirect("mfa_index"))

    def authenticate_by_email(self, sociallogin: SocialLogin) -> tuple[User, str] | None:  # type: ignore[override]
        """Return whom a verified address means, where addresses are trusted; never somebody who is known by another `sub`."""
        emails = [address.email for address in sociallogin.email_addresses if address.verified]
        if not settings.OIDC_TRUST_EMAIL or not emails:
            return None
        user = User.objects.filter(email=emails[0].lower(), is_active=True).first()
        if user is None or SocialAccount.objects.filter(user=user, provider=settings.OIDC_ISSUER).exists():
            return None
        return user, emails[0]

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        """Let somebody new in who holds an invitation; everybody else meets the page that says what is missing."""
        if reason := self._hindrance(request, sociallogin):
            raise ImmediateHttpResponse(failed(request, reason))
        return True

    @staticmethod
    def _hindrance(request: HttpRequest, sociallogin: SocialLogin) -> str:
        invitation = invitation_of(request)
        if invitation is None:
            return "unknown"
        address = next(iter(sociallogin.email_addresses), None)
        if address is None:
            return "no_email"
        if invitation.email and not (address.verified and invitation.email == address.email.lower()):
            return "another_email"
        return "" if assess_unique_email(address.email) is True else "taken"

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> Any:
        """Give a new person the name that the provider knows."""
        user = super().populate_user(request, sociallogin, data)
        user.name = (data.get("name") or "")[:150]
        return user

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> Any:
        """Store a new person, without a password, together with the personal team that everybody has."""
        new: Any = sociallogin.user
        try:
            with transaction.atomic():
                sociallogin.user = User.objects.create_user(new.email, name=new.name)
                sociallogin.save(request)
        except IntegrityError as error:  # somebody was quicker
            raise ImmediateHttpResponse(failed(request, "taken", error)) from error
        return sociallogin.user

    def get_connect_redirect_url(self, request: HttpRequest, socialaccount: SocialAccount) -> str:
        """Return the page about the person's sign-in."""
        return reverse("mfa_index")

    def serialize_instance(self, instance: Any) -> dict[str, Any]:
        """Return what waits in the session during a second step: never the digest of a password."""
        return {field: value for field, value in super().serialize_instance(instance).items() if field != "password"}


def _session() -> issuer.Session:
    """Returns a session that ends with the deadline of the request that is being answered."""
    request = context.request
    if not hasattr(request, "oidc_until"):
        request.oidc_until = time.monotonic() + issuer.DEADLINE
    return issuer.Session(request.oidc_until)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
