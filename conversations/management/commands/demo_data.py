"""`manage.py demo_data`: a person with accounts at the simulated providers, read once; prints the sign-in. Used by `make demo`."""

from __future__ import annotations

import asyncio
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from accounts import egress, services
from accounts.cli import TerminalCommand, errors_of, fail
from accounts.models import Account, Health, User
from accounts.providers import get_provider

from ... import mirror, wake

EMAIL = "demo@example.com"
PASSWORD = "demo-switchboard"  # printed on purpose: the demo holds synthetic data only and listens on loopback
# The order of the simulators' ports; the second aurod account belongs to another user of the same site.
PLACES = [
    ("aurod", 0, "Shop 客服", {}),
    ("aurod", 0, "Research 研究", {"owner": "second"}),
    ("modelrouter", 1, "Alibaba main", {}),
    ("chatnio", 2, "Chat Nio 团队", {}),
    ("nuwax", 3, "Helpdesk agents", {}),
    ("chongzhiling", 4, "宠物诊所", {}),
]
# Commands of another terminal do not have what the demo sets for its own processes.
LOOPBACK = "SWITCHBOARD_EGRESS_HTTP_HOSTS=127.0.0.1 SWITCHBOARD_EGRESS_ALLOW_CIDRS=127.0.0.0/8"


class Command(TerminalCommand):
    """Makes the demo's user and accounts when they are not there, and prints how to sign in."""

    help = "Connects a demo user to the simulated providers and prints the sign-in."

    def handle(self, *args: Any, **options: Any) -> None:
        """Fills what is missing; what is there, and what people did with it, stays."""
        user = User.objects.filter(email=EMAIL).first() or User.objects.create_user(EMAIL, PASSWORD, name="Demo")
        for key, offset, label, query in PLACES:
            url = f"http://127.0.0.1:{settings.SIMULATOR_PORT + offset}"
            account = Account.objects.filter(owner=user, label=label).first()
            if account is None or account.base_url != url or account.health == Health.NEEDS_REAUTH:
                account = self._connect(user, account, key, url, label, query)
            if account.synced_at is None and mirror.request_sync(account):
                wake.sync(account.pk)
        password = f"the password {PASSWORD}" if user.check_password(PASSWORD) else "the password you chose"
        self.stdout.write(f"Sign in as {EMAIL} with {password}")
        self.stdout.write(f"Commands in another terminal: export {LOOPBACK}")
        self.stdout.write("then .venv/bin/python manage.py accounts list (docs/cli.md has all of them)")

    @staticmethod
    def _connect(user: User, known: Account | None, key: str, url: str, label: str, query: dict[str, str]) -> Account:
        """Returns the account with a credential that its simulator accepts: a new one, or `known` after the port or the credential changed."""
        provider = get_provider(key)
        try:
            services.check_address(provider, url)
        except ValidationError as error:
            fail(f"{errors_of(error)} Set {LOOPBACK} first.")
        try:
            document = asyncio.run(_credential(url, query))
        except Exception as error:  # refused, cut, or something else listens there: the remedy is one
            fail(f"the simulated {key} does not answer at {url} ({type(error).__name__}); `make demo` starts it")
        credentials = services.clean_credentials(provider, document)
        report = services.test_credentials(key, url, credentials)
        if report.error is not None:
            fail(f"the simulated {key} refuses its own credential: {report.error}")
        if known is None:
            return services.add_account(user, key, label, url, credentials, report=report)
        services.replace_credentials(known, credentials, base_url=url, report=report, by=user)
        return known


async def _credential(url: str, query: dict[str, str]) -> dict[str, Any]:
    """Returns the credential document that a simulator hands out at its control door."""
    async with egress.build_client(concurrency=1) as client:
        answer = await client.get(f"{url}/_sim/credential", params=query)
        return dict(answer.raise_for_status().json())
