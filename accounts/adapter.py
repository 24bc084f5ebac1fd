"""How signing in differs from the library's defaults."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest

from . import recent


class AccountAdapter(DefaultAccountAdapter):
    """Keeps sign-up closed: people come by invitation or by `manage.py users add`."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Return False for everybody."""
        return False

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Tell whether the library's own pages have to ask; whoever has just signed in is not asked again at once."""
        return not recent.is_recent(self.request)

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Return under what attempts are counted: the login alone, so that another name of this host gives no further attempts."""
        return str(credentials.get("email", "")).strip().lower()
