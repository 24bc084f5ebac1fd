"""How signing in differs from the library's defaults."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ReauthenticationRequired
from django import forms
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from . import recent

INVITATION = "invitation"  # in the session: the digest of the link that was opened


def invitation_of(request: HttpRequest) -> Any:
    """Return the invitation that the visitor holds and that can be accepted, or None."""
    from . import teams

    try:
        return teams.find_by_digest(request.session[INVITATION])
    except (KeyError, teams.InvitationInvalid):
        return None


class AccountAdapter(DefaultAccountAdapter):
    """Keeps sign-up closed: people come by invitation or by `manage.py users add`."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Tell whether the visitor holds an invitation that can be accepted."""
        return invitation_of(request) is not None

    def clean_email(self, email: str) -> str:
        """Return the address as it is kept; refuse another one than that of the invitation, whose form alone comes here."""
        email = super().clean_email(email)
        found = invitation_of(self.request)
        if found is not None and found.email and found.email != email.lower():
            raise forms.ValidationError(_("The invitation is for another e-mail address."))
        return email

    def save_user(self, request: HttpRequest, user: Any, form: forms.Form, commit: bool = True) -> Any:
        """Store a new person together with the personal team that everybody has."""
        from .models import User

        data = form.cleaned_data
        made = User.objects.create_user(data["email"], data["password1"])
        user.__dict__.update(made.__dict__)
        return user

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Tell whether the library's own pages have to ask; whoever has just signed in is not asked again at once.

        The library would let pass whoever has neither a password nor a second factor, so a yes is said in a way that it cannot overrule.
        """
        if not recent.is_recent(self.request):
            raise ReauthenticationRequired
        return False

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        """Return how a person can confirm that it is them, the usual way first; the last is their login at the OpenID Connect provider."""
        from . import logins

        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        if user.is_authenticated and logins.rows_of(user).exists():
            methods.append({"id": "oidc", "description": logins.name(), "url": reverse("oidc_confirm")})
        return methods

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Return under what attempts are counted: the login alone, so that another name of this host gives no further attempts."""
        return str(credentials.get("email", "")).strip().lower()
