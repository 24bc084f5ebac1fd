from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    """Who may use which credential."""

    name = "accounts"
    verbose_name = _("Accounts")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Listen to what the sign-in library and Django tell of people who sign in."""
        from allauth.account.signals import user_logged_in as signed_in_completely
        from django.contrib.auth.signals import user_logged_in
        from django.db.models.signals import post_init

        post_init.connect(_mark_owner, sender="mfa.Authenticator", dispatch_uid="accounts.second_factor")
        user_logged_in.connect(_signed_in, dispatch_uid="accounts.sessions")
        signed_in_completely.connect(_signed_in_there, dispatch_uid="accounts.logins")


def _mark_owner(**kwargs: Any) -> None:
    from .second_factor import mark_owner

    mark_owner(**kwargs)


def _signed_in(request: Any, **kwargs: Any) -> None:
    from . import recent, sessions

    recent.note_sign_in(request)
    sessions.note_session(request)


def _signed_in_there(**kwargs: Any) -> None:
    from . import logins

    logins.note_signed_in_there(**kwargs)
