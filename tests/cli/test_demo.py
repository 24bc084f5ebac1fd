"""`manage.py demo_data`: fills what is missing, keeps what is there, and prints what a person needs and nothing else."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.models import Account, Health, User
from conversations import mirror
from conversations.management.commands import demo_data
from tests.simulators import kit, registry

ENVIRONMENT = "export SWITCHBOARD_EGRESS_HTTP_HOSTS=127.0.0.1 SWITCHBOARD_EGRESS_ALLOW_CIDRS=127.0.0.0/8"


def free_ports(count, above=21_000):
    """Returns the first of so many free ports in a row."""
    for first in range(above + 1, 60_000, 97):
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


@contextmanager
def simulators(above=21_000):
    """Serves the simulated providers on ports in a row, as `make demo` does; yields the first port and the simulators."""
    kinds = registry.simulators()
    first = free_ports(len(kinds), above)
    with ExitStack() as running:
        served = [kind() for kind in kinds]
        for offset, simulator in enumerate(served):
            running.enter_context(kit.serve(simulator, first + offset))
        yield first, served


def run_here():
    out = StringIO()
    call_command("demo_data", stdout=out)
    return out.getvalue().splitlines()


def test_the_demo_is_made_once_and_kept(run, settings, redis_client):
    with simulators() as (port, served):
        first = run("demo_data", cold=True, SWITCHBOARD_SIMULATOR_PORT=str(port))
        assert (first.code, first.err) == (0, "")
        lines = first.out.splitlines()
        assert len(lines) == 3 and lines[0] == "Sign in as demo@example.com with the password demo-switchboard"
        assert lines[1].endswith(ENVIRONMENT) and "manage.py accounts list" in lines[2]
        accounts = {account.label: account for account in Account.objects.all()}
        assert list(accounts.values()) == list(Account.objects.filter(owner=User.objects.get(), health=Health.OK)) and len(accounts) == 6
        assert {account.provider_key for account in accounts.values()} == {simulator.key for simulator in served}
        assert len({account.upstream_identity for account in accounts.values()}) == 6
        assert {account.sync_state for account in accounts.values()} == {"queued"} and redis_client.llen("celery") > 0
        assert not any(simulator.writes() for simulator in served)

        shop = accounts["Shop 客服"]
        mirror.sync(shop)
        kept = list(shop.conversations.values_list("pk", "title"))
        user = User.objects.get()
        user.set_password("my own password")
        user.save()
        settings.SIMULATOR_PORT = port
        for simulator in served:
            simulator.log.clear()
        assert run_here() == ["Sign in as demo@example.com with the password you chose", *lines[1:]]
        assert all(simulator.log == [] for simulator in served)  # everything is there: nobody is asked

    # Another time, on other ports: the same accounts, found at their new place.
    with simulators(above=port + 5) as (port, _served):
        settings.SIMULATOR_PORT = port
        run_here()
        moved = {account.label: account for account in Account.objects.all()}
        assert {label: account.pk for label, account in moved.items()} == {label: account.pk for label, account in accounts.items()}
        assert moved["Shop 客服"].base_url == f"http://127.0.0.1:{port}" and {account.health for account in moved.values()} == {"ok"}
        assert list(shop.conversations.values_list("pk", "title")) == kept


def test_what_keeps_the_demo_from_being_made_is_one_line(transactional_db, settings):
    settings.SIMULATOR_PORT = free_ports(5)
    with pytest.raises(CommandError, match=r"the simulated aurod does not answer at http://127\.0\.0\.1:"):
        run_here()
    settings.EGRESS_HTTP_HOSTS = []
    with pytest.raises(CommandError) as refused:
        run_here()
    assert demo_data.LOOPBACK in str(refused.value) and "\n" not in str(refused.value)
    assert not Account.objects.exists()
