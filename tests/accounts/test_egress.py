"""S1 to S3: the one guarded way out. Servers are real and on loopback, names are answered by resolvers of the tests."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from accounts import egress
from accounts.egress import (
    CheckedUrl,
    EgressBlocked,
    EgressPolicy,
    EgressRefused,
    GuardedResolver,
    build_client,
    check_url,
    is_address_allowed,
)

from .raw_server import LOOPBACK, STRICT, Names, always, answer, go, serving

ANYTHING = EgressPolicy.of(allow_cidrs=["0.0.0.0/0", "::/0"])


# --- S1: URLs -------------------------------------------------------------------------------------------------------------

EVIL_URLS = [
    ("", "url"),
    ("   ", "url"),
    ("api.example.com", "url"),
    ("//api.example.com", "url"),
    ("https:api.example.com", "url"),
    ("https:/api.example.com", "url"),
    ("https:///path", "host"),
    ("https://", "host"),
    ("https://:443/", "host"),
    ("http://api.example.com", "scheme"),
    ("ftp://api.example.com", "scheme"),
    ("file:///etc/passwd", "scheme"),
    ("gopher://127.0.0.1:6379/_x", "scheme"),
    ("javascript:alert(1)", "url"),
    # who is the host?
    ("https://user@api.example.com", "userinfo"),
    ("https://user:password@api.example.com", "userinfo"),
    ("https://api.example.com@127.0.0.1/", "userinfo"),
    ("https://@api.example.com/", "userinfo"),
    ("https://api.example.com:443@127.0.0.1/", "userinfo"),
    ("https://api.example.com\\@127.0.0.1/", "url"),
    ("https:\\\\api.example.com", "url"),
    ("https://api.example.com\\.evil.test/", "url"),
    ("https://api.example.com/%0d%0a\r\nx", "url"),
    ("https://api.example.com\t/", "url"),
    ("https://api.example.com\u2028/", "url"),
    ("https://api.example.com\u202e/", "url"),
    (" https://api.example.com", "url"),
    ("https://api .example.com", "url"),
    ("https://api%2eexample.com", "zone"),
    ("https://127.0.0.1%2f@example.com", "userinfo"),
    # spellings of 127.0.0.1
    ("https://127.0.0.1/", "address"),
    ("https://2130706433/", "ip_form"),
    ("https://0x7f000001/", "ip_form"),
    ("https://0x7f.1/", "ip_form"),
    ("https://0X7F.0.0.1/", "ip_form"),
    ("https://0177.0.0.1/", "ip_form"),
    ("https://017700000001/", "ip_form"),
    ("https://127.1/", "ip_form"),
    ("https://127.0.1/", "ip_form"),
    ("https://127.0.0.01/", "ip_form"),
    ("https://127.0.0.1.1/", "ip_form"),
    ("https://0/", "ip_form"),
    ("https://1.2.3.0x4/", "ip_form"),
    ("https://api.example.0x/", "ip_form"),
    ("https://256.256.256.256/", "ip_form"),
    ("https://127.0.0.1./", "trailing_dot"),
    ("https://localhost./", "trailing_dot"),
    ("https://api.example.com../", "trailing_dot"),
    # international spellings of letters, digits and dots
    ("https://ａｐｉ.example.com/", "idn"),
    ("https://аpi.example.com/", "idn"),
    ("https://１２７.0.0.1/", "idn"),
    ("https://127。0。0。1/", "idn"),
    ("https://①②⑦.0.0.1/", "idn"),
    ("https://api.example.com／x", "idn"),
    ("https://api.example.com＠127.0.0.1/", "idn"),
    ("https://例子.测试/", "idn"),
    # IPv6
    ("https://[::1]/", "address"),
    ("https://[::]/", "forbidden"),
    ("https://[0:0:0:0:0:0:0:1]/", "address"),
    ("https://[::ffff:127.0.0.1]/", "address"),
    ("https://[::ffff:7f00:1]/", "address"),
    ("https://[::127.0.0.1]/", "address"),
    ("https://[64:ff9b::127.0.0.1]/", "address"),
    ("https://[2002:7f00:1::]/", "address"),
    ("https://[fe80::1%25eth0]/", "zone"),
    ("https://[fe80::1%eth0]/", "zone"),
    ("https://[fd00:ec2::254]/", "forbidden"),
    ("https://[::1", "host"),
    ("https://::1/", "host"),
    ("https://[]/", "ip_form"),
    ("https://[127.0.0.1]/", "ip_form"),
    ("https://[v1.fe80::a]/", "ip_form"),
    ("https://[::1]x/", "host"),
    # other addresses
    ("https://10.0.0.1/", "address"),
    ("https://169.254.169.254/latest/meta-data/", "forbidden"),
    ("https://168.63.129.16/", "forbidden"),
    ("https://100.64.0.1/", "address"),
    # names that are none
    ("https://-api.example.com/", "host"),
    ("https://api-.example.com/", "host"),
    ("https://api..example.com/", "host"),
    ("https://.example.com/", "host"),
    ("https://api.exa$mple.com/", "host"),
    ("https://" + "a" * 64 + ".example.com/", "host"),
    ("https://" + "a." * 127 + "com/", "host"),
    # ports
    ("https://api.example.com:80/", "port"),
    ("https://api.example.com:8443/", "port"),
    ("https://api.example.com:0/", "port"),
    ("https://api.example.com:65979/", "port"),
    ("https://api.example.com:-1/", "port"),
    ("https://api.example.com:٤٤٣/", "idn"),
    ("https://api.example.com:443:443/", "host"),
    ("https://api.example.com:4_43/", "port"),
    # what a base URL does not have
    ("https://api.example.com/?", "query"),
    ("https://api.example.com/v1?key=1", "query"),
    ("https://api.example.com?@127.0.0.1", "query"),
    ("https://api.example.com/#", "fragment"),
    ("https://api.example.com#@127.0.0.1/", "fragment"),
]


@pytest.mark.parametrize(("url", "code"), EVIL_URLS)
def test_s01_evil_urls_are_refused_with_a_code_and_a_sentence(url: str, code: str) -> None:
    with pytest.raises(EgressRefused) as refusal:
        check_url(url, STRICT)
    assert refusal.value.code == code
    assert refusal.value.message.endswith((".", ").")) and "password@" not in refusal.value.message


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("HTTPS://API.Example.COM:443/V1/", "https://api.example.com/V1"),
        ("https://api.example.com:/v1", "https://api.example.com/v1"),
        ("https://xn--fsqu00a.xn--0zwm56d/", "https://xn--fsqu00a.xn--0zwm56d"),
        ("https://my_tenant.example.com/a%20b/@me", "https://my_tenant.example.com/a%20b/@me"),
        ("https://8.8.8.8/", "https://8.8.8.8"),
        ("https://[2606:4700:4700:0::1111]/x", "https://[2606:4700:4700::1111]/x"),
        ("https://1.example", "https://1.example"),
        ("https://localhost/", "https://localhost"),  # a name; what it leads to is checked when it is called
    ],
)
def test_s01_ordinary_base_urls_come_out_in_one_spelling(url: str, expected: str) -> None:
    checked = check_url(url, STRICT)
    assert isinstance(checked, CheckedUrl)
    assert checked.url == str(checked) == expected
    assert check_url(checked.url, STRICT) == checked
    assert checked.port == 443
    assert str(checked.address or "") in expected


def test_s01_plain_http_and_ports_only_as_the_operator_named_them() -> None:
    policy = EgressPolicy.of(http_hosts=["Plain.test", "one-port.test:8080", "[::1]:9000"], ports=[8443, "9443"], allow_cidrs=["::1/128"])
    for url in (
        "http://plain.test/",
        "http://plain.test:8001/",
        "https://plain.test:5/",
        "http://one-port.test:8080",
        "https://one-port.test:8080",
        "http://[0::1]:9000/",
        "https://api.example.com:8443",
        "https://api.example.com:9443",
    ):
        check_url(url, policy)
    for url, code in (
        ("http://one-port.test/", "scheme"),
        ("http://one-port.test:8081/", "scheme"),
        ("https://one-port.test:8081/", "port"),
        ("http://sub.plain.test/", "scheme"),
        ("http://api.example.com:8443/", "scheme"),
        ("https://api.example.com:8444", "port"),
        ("http://[::1]:9001/", "scheme"),
    ):
        with pytest.raises(EgressRefused) as refusal:
            check_url(url, policy)
        assert refusal.value.code == code, url
    for entry in ("", "http://plain.test", "plain.test:0", "plain.test:x", "a b", "*.test"):
        with pytest.raises(ValueError):
            EgressPolicy.of(http_hosts=[entry])


@override_settings(EGRESS_HTTP_HOSTS=["plain.test:81"], EGRESS_PORTS=[8443], EGRESS_ALLOW_CIDRS=["10.1.0.0/16"])
def test_s01_without_a_policy_the_settings_decide() -> None:
    assert check_url("http://plain.test:81/").origin == "http://plain.test:81"
    assert check_url("https://10.1.2.3:8443/").address == ipaddress.ip_address("10.1.2.3")
    with pytest.raises(EgressRefused):
        check_url("https://10.2.0.1/")
    with override_settings(EGRESS_PORTS=[]), pytest.raises(EgressRefused):
        check_url("https://10.1.2.3:8443/")


@given(st.text(max_size=40))
def test_s01_any_text_is_checked_or_refused_and_means_the_same_to_httpx(text: str) -> None:
    for url in (text, "https://" + text):
        try:
            checked = check_url(url, STRICT)
        except EgressRefused:
            continue
        read = httpx.URL(url)
        assert (read.scheme, read.raw_host.decode(), read.port or 443, read.userinfo) == ("https", checked.host, checked.port, b"")


# --- S2: addresses --------------------------------------------------------------------------------------------------------

EVIL_ADDRESSES = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "100.64.0.1",  # CGNAT
    "100.100.100.200",
    "100.127.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",  # nobody answers a look-up like this without a reason
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",  # NAT64
    "64:ff9b::169.254.169.254",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::10.0.0.1",
    "2002:7f00:1::1",  # 6to4
    "2002:a9fe:a9fe::",
    "2002:808:808::1",
    "2001:0:7f00:1::1",  # Teredo
    "2001:0:808:808:0:ffff:80ff:fffe",  # Teredo, client 127.0.0.1
    "2001:10::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "100::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "fec0::1",
    "ff02::1",
    "4000::1",
    "2606:4700::5efe:10.0.0.1",  # ISATAP
    "2606:4700::200:5efe:127.0.0.1",
    "fe80::1%eth0",
    "2606:4700::1%1",
    "127.1",
    "2130706433",
    "0177.0.0.1",
    "localhost",
    "",
]
PUBLIC_ADDRESSES = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "168.63.129.17",
    "2606:4700:4700::1111",
    "2a00:1450:4001::200e",
    "2400:3200::1",
]


@pytest.mark.parametrize("address", EVIL_ADDRESSES)
def test_s02_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_address_allowed(address, STRICT)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_s02_public_addresses_are_allowed(address: str) -> None:
    assert is_address_allowed(address, STRICT)
    assert is_address_allowed(ipaddress.ip_address(address), STRICT)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.170.23",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fe80::a9fe:a9fe",
        "0.0.0.0",
        "::",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
        "64:ff9b::169.254.169.254",
        "64:ff9b::a83f:8110",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "2606:4700::5efe:169.254.169.254",
        "fe80::1%eth0",
    ],
)
def test_s02_metadata_is_never_allowed_even_where_everything_is(address: str) -> None:
    assert not is_address_allowed(address, ANYTHING)


def test_s02_private_ranges_open_only_through_the_operators_networks() -> None:
    policy = EgressPolicy.of(allow_cidrs=["10.1.0.0/16", "fd12::/16", "127.0.0.1/32"])
    for address in ("10.1.2.3", "fd12::1", "127.0.0.1", "8.8.8.8"):
        assert is_address_allowed(address, policy)
    for address in ("10.2.0.1", "fd13::1", "127.0.0.2", "::1", "::ffff:10.1.2.3", "2002:a01:203::1", "64:ff9b::10.1.2.3"):
        assert not is_address_allowed(address, policy)
    for address in ("127.0.0.1", "10.0.0.1", "::1", "::ffff:10.0.0.1", "64:ff9b::8.8.8.8", "2002:a00:1::1"):
        assert is_address_allowed(address, ANYTHING)
    # A translating network that is allowed does not allow what it translates to.
    nat64 = EgressPolicy.of(allow_cidrs=["64:ff9b::/96"])
    assert is_address_allowed("64:ff9b::8.8.8.8", nat64)
    assert not is_address_allowed("64:ff9b::10.0.0.1", nat64)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["::ffff:0:0", "::", "64:ff9b::", "::ffff:0:0:0", "64:ff9b:1::"]))
def test_s02_no_ipv6_spelling_of_an_ipv4_address_is_public(number: int, prefix: str) -> None:
    assert not is_address_allowed(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + number), STRICT)


@pytest.mark.parametrize(
    "answer", [["127.0.0.2"], ["8.8.8.8", "10.0.0.1"], ["2606:4700::1", "::ffff:8.8.8.8"], ["fe80::1%eth0"], ["8.8.8.8", "169.254.169.254"]]
)
def test_s02_one_bad_address_refuses_the_whole_answer(answer: list[str]) -> None:
    with pytest.raises(EgressRefused) as refusal:
        asyncio.run(GuardedResolver(LOOPBACK, Names(answer)).resolve("provider.test", 443))
    assert "provider.test" in refusal.value.message
    assert not any(address in refusal.value.message for address in answer)


def test_s02_a_good_answer_comes_through_whole_and_an_empty_one_does_not() -> None:
    async def scenario() -> None:
        answer = await GuardedResolver(STRICT, Names(["8.8.8.8", "2606:4700::1"])).resolve("provider.test", 443)
        assert [found["host"] for found in answer] == ["8.8.8.8", "2606:4700::1"]
        with pytest.raises(OSError):
            await GuardedResolver(STRICT, Names([])).resolve("provider.test", 443)
        with pytest.raises(EgressRefused):  # the system's resolver
            await GuardedResolver(STRICT).resolve("localhost", 443)

    asyncio.run(scenario())


# --- S1 and S2 in the transport -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://api.example.com/", "scheme"),
        ("https://api.example.com:8443/", "port"),
        ("https://127.0.0.1/", "address"),
        ("https://169.254.169.254/latest/meta-data/", "forbidden"),
        ("https://[::1]/", "address"),
        ("https://[::ffff:127.0.0.1]/", "address"),
        ("https://2130706433/", "ip_form"),
        ("https://127.1/", "ip_form"),
        ("https://localhost./", "trailing_dot"),
        ("https://name:synthetic@api.example.com/", "userinfo"),
        ("ws://api.example.com/", "scheme"),
    ],
)
def test_s01_the_client_refuses_what_the_form_refuses(url: str, code: str) -> None:
    async def scenario() -> None:
        names = Names(["8.8.8.8"])
        async with build_client(STRICT, concurrency=1, resolver=names) as client:
            for _attempt in range(2):  # a refusal is not remembered as a permission
                with pytest.raises(EgressBlocked) as refusal:
                    await client.get(url)
                assert refusal.value.code == code
                assert "synthetic" not in str(refusal.value)
                assert isinstance(refusal.value, httpx.TransportError)
                assert refusal.value.request.method == "GET"
        assert names.asked == []

    go(scenario)


def test_s01_query_and_path_of_a_request_are_the_providers_business() -> None:
    async def scenario() -> None:
        async with serving(always(answer())) as server, build_client(LOOPBACK, concurrency=1) as client:
            # Signatures are computed over these bytes: what is escaped stays escaped.
            target = "/a%2Fb/%7Ename?q=%2A%27%20x&time=10%3A00%2B00&empty=&z=a+b"
            await client.get(f"http://127.0.0.1:{server.port}{target}")
            assert server.requests[0].line == f"GET {target} HTTP/1.1"
            assert server.requests[0]["host"] == f"127.0.0.1:{server.port}"

    go(scenario)


def test_s02_a_name_that_leads_inside_is_not_connected_to() -> None:
    async def scenario() -> None:
        async with serving(always(answer()), host="127.0.0.2") as server:
            for names in (["127.0.0.2"], ["127.0.0.1", "127.0.0.2"]):
                async with build_client(LOOPBACK, concurrency=1, resolver=Names(names)) as client:
                    with pytest.raises(EgressBlocked) as refusal:
                        await client.get(f"http://provider.test:{server.port}/")
                    assert refusal.value.code == "address"
                    assert "127.0.0.2" not in str(refusal.value)
            assert server.connections == 0

    go(scenario)


# --- S3: the checked address is the connected address -----------------------------------------------------------------------


def test_s03_the_connected_address_is_the_checked_one_though_the_name_changes_its_answer() -> None:
    async def scenario() -> None:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        async with serving(always(answer(b"{}", "200 OK", "Connection: close"))) as good, serving(always(answer()), "127.0.0.2", good.port) as bad:
            async with build_client(LOOPBACK, concurrency=2, resolver=names) as client:
                response = await client.get(f"http://provider.test:{good.port}/x")
                assert response.status_code == 200
            # One look-up, and its answer is where the request went, with the name kept.
            assert names.asked == ["provider.test"]
            assert (good.connections, bad.connections) == (1, 0)
            assert good.requests[0]["host"] == f"provider.test:{good.port}"
            # The second answer is checked as the first one was.
            async with build_client(LOOPBACK, concurrency=2, resolver=names) as client:
                with pytest.raises(EgressBlocked):
                    await client.get(f"http://provider.test:{good.port}/x")
            assert names.asked == ["provider.test"] * 2
            assert (good.connections, bad.connections) == (1, 0)

    go(scenario)


@pytest.mark.parametrize("addresses", [["127.0.0.2"], ["127.0.0.2", "127.0.0.3"]])
def test_s03_a_socket_checks_its_address_even_when_no_resolver_did(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "GuardedResolver", lambda policy, inner: inner)

    async def scenario() -> None:
        async with serving(always(answer()), "127.0.0.2") as server:
            async with build_client(LOOPBACK, concurrency=1, resolver=Names(addresses)) as client:
                with pytest.raises(EgressBlocked):
                    await client.get(f"http://provider.test:{server.port}/")
            assert server.connections == 0

    go(scenario)


def test_s03_each_name_and_port_has_connections_of_its_own() -> None:
    async def scenario() -> None:
        async with serving(always(answer())) as server, build_client(LOOPBACK, concurrency=4, resolver=Names(["127.0.0.1"])) as client:
            for host in ("provider.test", "other.test", "127.0.0.1", "provider.test", "other.test"):
                await client.get(f"http://{host}:{server.port}/")
            assert server.connections == 3
            assert [request["host"] for request in server.requests][:2] == [f"provider.test:{server.port}", f"other.test:{server.port}"]

    go(scenario)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate of provider.test in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provider.test")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("provider.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "provider.pem"
    encoding = serialization.Encoding.PEM
    path.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + built.public_bytes(encoding))
    return path


def test_s03_certificate_and_sni_are_those_of_the_name(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[str | None] = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = lambda _object, name, _context: asked_for.append(name)

    async def scenario() -> None:
        async with serving(always(answer()), tls=tls) as server:
            policy = EgressPolicy.of(ports=[server.port], allow_cidrs=["127.0.0.1/32"])
            # The certificate is not one that the system trusts.
            async with build_client(policy, concurrency=1, resolver=Names(["127.0.0.1"])) as client:
                with pytest.raises(httpx.ConnectError, match=r"certificate|self-signed"):
                    await client.put(f"https://provider.test:{server.port}/", content=b"x")
            trusting = ssl.create_default_context(cafile=str(certificate))
            monkeypatch.setattr(egress, "ssl_context", lambda: trusting)
            async with build_client(policy, concurrency=1, resolver=Names(["127.0.0.1"])) as client:
                assert (await client.get(f"https://provider.test:{server.port}/")).status_code == 200
                with pytest.raises(httpx.ConnectError, match=r"[Hh]ostname mismatch|not valid for"):
                    await client.get(f"https://other.test:{server.port}/")
            assert asked_for == ["provider.test", "provider.test", "other.test"]
            assert len(server.requests) == 1

    go(scenario)


def test_s03_the_process_has_one_tls_context_that_verifies() -> None:
    context = egress.ssl_context()
    assert context is egress.ssl_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
