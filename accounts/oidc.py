"""Signing in with the OpenID Connect provider that this installation has, if it has one (settings.OIDC_ISSUER; docs/sign-in.md).

The sign-in library leads there and back, with state and PKCE. Here is what differs: the nonce, and that every id_token is verified whatever way it
came (accounts/issuer.py); who may come in; and that nothing of the tokens is kept. A person is known by issuer and `sub`, never by an e-mail
address, unless the operator trusts the provider's addresses (settings.OIDC_TRUST_EMAIL).
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any, cast

from allauth.account.internal.flows.manage_email import assess_unique_email
from allauth.account.models import EmailAddress
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.utils import is_mfa_enabled
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.internal.flows.email_authentication import wipe_password
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

from . import issuer, logins, recent
from .adapter import invitation_of
from .logins import name
from .models import User

logger = logging.getLogger(__name__)

PROVIDER = OpenIDConnectProvider.id
# Why nobody was signed in -> the status of the page that says so (templates/socialaccount/authentication_error.html).
REASONS = {
    "denied": 403,
    "state": 400,
    "away": 502,
    "answer": 502,
    "unknown": 403,
    "no_email": 403,
    "another_email": 403,
    "taken": 403,
    "another_login": 403,
    "stale": 403,
}


def failed(request: HttpRequest, reason: str, error: BaseException | None = None) -> HttpResponse:
    """Returns the page that says why nobody was signed in. What the provider said is not logged: it may hold a token."""
    logger.warning("nobody was signed in with OpenID Connect: %s %s", reason, type(error).__name__ if error else "")
    # The address that is being asked for holds a code, or is that of a form: whoever changes the language goes somewhere else.
    context = {"reason": reason, "name": name(), "language_next": reverse("mfa_index" if request.user.is_authenticated else "account_login")}
    return render(request, "socialaccount/authentication_error.html", context, status=REASONS[reason])


def trouble(request: HttpRequest, error: BaseException) -> HttpResponse:
    """Returns the same page for one of issuer.TROUBLE."""
    return failed(request, "away" if isinstance(error, issuer.AWAY) else "answer", error)


class OAuth2Adapter(OpenIDConnectOAuth2Adapter):
    """Asks the provider; its answers count only as far as accounts/issuer.py believes them."""

    def __init__(self, request: HttpRequest, provider_id: str = "") -> None:
        super().__init__(request, settings.OIDC_ISSUER)
        self.state: dict[str, Any] = {}  # what waited in the session for the person to come back

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
            kwargs["response"].get("id_token"),
            keys.json(),
            issuer=self.openid_config["issuer"],
            client_id=app.client_id,
            nonce=self.state.get("nonce", ""),
        )
        self.state["auth_time"] = _time(claims.get("auth_time"))
        if not claims.get("email") and self.openid_config.get("userinfo_endpoint"):
            more = self._fetch_user_info(token.token)
            if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
                raise OAuth2Error("the userinfo is about somebody else")
            claims |= {"email": more.get("email"), "email_verified": more.get("email_verified"), "name": claims.get("name") or more.get("name")}
        return self.get_provider().sociallogin_from_response(request, claims)


class CallbackView(OAuth2CallbackView):
    """The library's, which takes the state once; what waits there goes to where the id_token is verified."""

    adapter: OAuth2Adapter

    def _get_state(self, request: HttpRequest, provider: Any) -> Any:
        state, answer = super()._get_state(request, provider)
        self.adapter.state = state or {}
        return state, answer


class Provider(OpenIDConnectProvider):
    """The provider of this installation."""

    oauth2_adapter_class = OAuth2Adapter
    pkce_enabled_default = True

    def get_callback_url(self) -> str:
        """Return where people come back to."""
        return reverse("oidc_callback")

    def redirect(self, request: HttpRequest, process: str, next_url: str | None = None, data: Any = None, **kwargs: Any) -> HttpResponse:
        """Lead to the provider, with a nonce that the id_token has to hold; to confirm, the person has to sign in there once more."""
        nonce = secrets.token_urlsafe(24)
        params = {"nonce": nonce} | ({"prompt": "login", "max_age": "0"} if process == AuthProcess.REDIRECT else {})
        return super().redirect(request, process, next_url, data, auth_params=params, nonce=nonce, begun=time.time(), **kwargs)

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
        """Forget the tokens, before anything of the sign-in waits in the session for a second step; then do what the person left for."""
        sociallogin.token = None
        process = sociallogin.state.get("process")
        if process == AuthProcess.CONNECT:
            raise ImmediateHttpResponse(self._connect(request, sociallogin.account))
        if process == AuthProcess.REDIRECT:
            if reason := logins.confirm(request, sociallogin.account, sociallogin.state):
                raise ImmediateHttpResponse(failed(request, reason))
        elif sociallogin._did_authenticate_by_email:
            self._adopt(request, sociallogin)

    @staticmethod
    def _connect(request: HttpRequest, row: SocialAccount) -> HttpResponse:
        if not recent.is_recent(request):
            messages.error(request, _("That took too long. Connect it again."))
            return redirect("mfa_index")
        try:
            logins.connect(cast(User, request.user), row)
        except logins.LoginTaken:
            messages.error(request, _("This login is connected with somebody else here. Nothing was changed."))
        else:
            messages.success(request, _("Connected. From now on you can sign in with it."))
        return redirect("mfa_index")

    @staticmethod
    def _adopt(request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Connect whom a trusted address led to. Who made the account need not own the address: their password and sessions are void."""
        user = cast(User, sociallogin.user)
        try:
            with transaction.atomic():
                wipe_password(request, user, sociallogin._did_authenticate_by_email or "")
                logins.connect(user, sociallogin.account, note="by its e-mail address")
        except logins.LoginTaken as error:
            raise ImmediateHttpResponse(failed(request, "taken", error)) from error
        sociallogin._did_authenticate_by_email = None

    def authenticate_by_email(self, sociallogin: SocialLogin) -> tuple[User, str] | None:
        """Return whom a verified address means, where addresses are trusted: nobody who is known by another `sub` or has a second factor.

        Whoever protects their account with one connects the login themselves, so that nothing changes before the factor was asked for.
        """
        emails = [address.email for address in sociallogin.email_addresses if address.verified]
        if not settings.OIDC_TRUST_EMAIL or not emails:
            return None
        user = User.objects.filter(email=emails[0].lower(), is_active=True).first()
        if user is None or is_mfa_enabled(user) or logins.rows_of(user).exists():
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
        if address is None:  # none was given, or one that cannot be used: AccountAdapter.clean_email refuses another than that of the invitation
            return "another_email" if invitation.email and sociallogin.account.extra_data["email"] else "no_email"
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
                logins.note_connected(sociallogin.user, sociallogin.account)
        except IntegrityError as error:  # somebody was quicker
            raise ImmediateHttpResponse(failed(request, "taken", error)) from error
        return sociallogin.user

    def serialize_instance(self, instance: Any) -> dict[str, Any]:
        """Return what waits in the session during a second step: never the digest of a password."""
        return {field: value for field, value in super().serialize_instance(instance).items() if field != "password"}


def _session() -> issuer.Session:
    """Returns a session that ends with the deadline of the request that is being answered."""
    request = context.request
    if not hasattr(request, "oidc_until"):
        request.oidc_until = time.monotonic() + issuer.DEADLINE
    return issuer.Session(request.oidc_until)


def _time(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**40 else None


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
