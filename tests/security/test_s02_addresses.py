"""S2: every address that a name leads to must be public; metadata never, whatever the operator allows."""

from __future__ import annotations

import asyncio

import pytest

from accounts.egress import EgressPolicy, EgressRefused, GuardedResolver, is_address_allowed
from tests.accounts.raw_server import Names

EVERYTHING = EgressPolicy.of(allow_cidrs=["0.0.0.0/0", "::/0"])
PRIVATE = ["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fc00::1", "fe80::1"]
DISGUISED = ["::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::1", "2001:0:7f00:1::1", "2606:4700::5efe:10.0.0.1"]
METADATA = [
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
]


@pytest.mark.parametrize("address", [*PRIVATE, *DISGUISED, *METADATA])
def test_s02_what_is_not_public_is_refused(address: str) -> None:
    assert not is_address_allowed(address, EgressPolicy())


@pytest.mark.parametrize("address", METADATA)
def test_s02_metadata_is_refused_even_when_everything_is_allowed(address: str) -> None:
    assert not is_address_allowed(address, EVERYTHING)


@pytest.mark.parametrize("address", ["8.8.8.8", "100.63.255.255", "2606:4700:4700::1111"])
def test_s02_what_is_public_is_allowed(address: str) -> None:
    assert is_address_allowed(address, EgressPolicy())


def test_s02_one_bad_address_refuses_the_whole_answer() -> None:
    async def ask(*addresses: str) -> list[str]:
        return [found["host"] for found in await GuardedResolver(EgressPolicy(), Names(list(addresses))).resolve("provider.test", 443)]

    assert asyncio.run(ask("8.8.8.8", "1.1.1.1")) == ["8.8.8.8", "1.1.1.1"]
    for bad in ("10.0.0.1", "::ffff:8.8.8.8", "169.254.169.254"):
        with pytest.raises(EgressRefused):
            asyncio.run(ask("8.8.8.8", bad))


def test_s02_private_ranges_open_through_the_environment_only(settings) -> None:
    settings.EGRESS_ALLOW_CIDRS = []
    assert not is_address_allowed("10.1.2.3", EgressPolicy.from_settings())
    settings.EGRESS_ALLOW_CIDRS = ["10.1.0.0/16"]
    assert is_address_allowed("10.1.2.3", EgressPolicy.from_settings()) and not is_address_allowed("10.2.0.1", EgressPolicy.from_settings())
