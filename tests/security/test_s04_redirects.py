"""S4: redirects are never followed, proxies and netrc of the environment are ignored; a 3xx is an error."""

from __future__ import annotations

import pytest

from accounts.egress import build_client
from accounts.providers.errors import ProviderError
from accounts.services import test_credentials as try_credentials
from tests.accounts.raw_server import LOOPBACK, always, answer, go, serving


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_s04_a_redirect_is_not_followed(status: int) -> None:
    async def scenario() -> None:
        async with (
            serving(always(answer())) as elsewhere,
            serving(always(answer(b"", f"{status} Moved", f"Location: http://127.0.0.1:{elsewhere.port}/"))) as server,
            build_client(LOOPBACK, concurrency=1) as client,
        ):
            found = await client.get(f"http://127.0.0.1:{server.port}/", headers={"Authorization": "x"}, follow_redirects=True)
            assert found.status_code == status and elsewhere.connections == 0

    go(scenario)


def test_s04_a_redirect_is_an_error_of_the_provider(serve, monkeypatch) -> None:
    from aiohttp import web

    simulator, url = serve("aurod")
    monkeypatch.setattr(simulator, "failed", lambda request: web.Response(status=302, headers={"Location": "/elsewhere"}))
    simulator.add_fault("error", times=100)
    report = try_credentials("aurod", url, simulator.credential())
    assert isinstance(report.error, ProviderError) and not any(call.path == "/elsewhere" for call in simulator.log)


def test_s04_proxies_and_netrc_are_ignored(monkeypatch, tmp_path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login somebody password synthetic\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def scenario() -> None:
        async with serving(always(answer())) as proxy, serving(always(answer())) as server:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            async with build_client(LOOPBACK, concurrency=1) as client:
                await client.get(f"http://127.0.0.1:{server.port}/")
            assert proxy.connections == 0 and server.requests[0]["authorization"] is None

    go(scenario)
