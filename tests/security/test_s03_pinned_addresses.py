"""S3: the checked address is the connected address, and no host rides on another host's connection."""

from __future__ import annotations

import pytest

from accounts.egress import EgressBlocked, build_client
from tests.accounts.raw_server import LOOPBACK, Names, always, answer, go, serving


def test_s03_a_name_that_changes_its_answer_is_connected_to_where_it_was_checked() -> None:
    async def scenario() -> None:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        async with serving(always(answer(b"{}", "200 OK", "Connection: close"))) as good, serving(always(answer()), "127.0.0.2", good.port) as bad:
            async with build_client(LOOPBACK, concurrency=1, resolver=names) as client:
                assert (await client.get(f"http://provider.test:{good.port}/")).status_code == 200
                assert names.asked == ["provider.test"] and good.requests[0]["host"] == f"provider.test:{good.port}"
            async with build_client(LOOPBACK, concurrency=1, resolver=names) as client:
                with pytest.raises(EgressBlocked):
                    await client.get(f"http://provider.test:{good.port}/")
            assert (good.connections, bad.connections) == (1, 0)

    go(scenario)


def test_s03_one_pool_for_each_host_and_port() -> None:
    async def scenario() -> None:
        async with (
            serving(always(answer())) as one,
            serving(always(answer())) as two,
            build_client(LOOPBACK, concurrency=4, resolver=Names(["127.0.0.1"])) as client,
        ):
            for host, port in (("provider.test", one.port), ("other.test", one.port), ("provider.test", two.port), ("other.test", one.port)):
                await client.get(f"http://{host}:{port}/")
            assert (one.connections, two.connections) == (2, 1)

    go(scenario)
