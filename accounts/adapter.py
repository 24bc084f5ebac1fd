"""How signing in differs from the library's defaults."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):
    """Keeps sign-up closed: people come by invitation or by `manage.py users add`."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Return False for everybody."""
        return False
