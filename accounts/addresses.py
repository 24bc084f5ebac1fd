"""Which addresses may be called: the rules alone, without any network. `egress` applies them; import from there.

A URL is judged by its text, in one narrow reading, so that no other parser can find a different host in it. An address is judged by where
a packet to it would end, whatever it is wrapped in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.utils.translation import gettext as _

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class EgressRefused(Exception):
    """A URL, a name or an address that must not be called.

    `code` is stable: url, scheme, userinfo, host, idn, ip_form, trailing_dot, zone, port, query, fragment, address
    (the operator could allow it), forbidden (no setting opens it). `message` is a sentence for the person who typed the URL.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


# --- Policy ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What the operator allows beyond https to public addresses on port 443. Comes from the environment, never from a form or the database.

    `http_hosts`: (host, port) that may use plain http and any port, or only that port where one is named. `ports`: further https ports.
    `allow_cidrs`: private networks that may be called.
    """

    http_hosts: frozenset[tuple[str, int | None]] = frozenset()
    ports: frozenset[int] = frozenset()
    allow_cidrs: tuple[IPNetwork, ...] = ()

    @classmethod
    def of(cls, *, http_hosts: Iterable[str] = (), ports: Iterable[int | str] = (), allow_cidrs: Iterable[str | IPNetwork] = ()) -> EgressPolicy:
        """Builds a policy from texts: "host" or "host:port" (IPv6 in brackets), port numbers, networks; raises ValueError for any other form."""
        hosts = set()
        for entry in http_hosts:
            if (match := _HTTP_HOST.fullmatch(entry.strip().lower())) is None or (port := _port_of(match["port"])) == 0:
                raise ValueError(f"{entry!r} is neither a host nor host:port.")
            literal = _literal(match["host"])
            hosts.add((str(literal) if literal else match["host"], port))
        return cls(frozenset(hosts), frozenset(map(int, ports)), tuple(ipaddress.ip_network(cidr) for cidr in allow_cidrs))

    @classmethod
    def from_settings(cls) -> EgressPolicy:
        """Builds the policy of settings.EGRESS_HTTP_HOSTS, EGRESS_PORTS and EGRESS_ALLOW_CIDRS as they are now."""
        return cls.of(http_hosts=settings.EGRESS_HTTP_HOSTS, ports=settings.EGRESS_PORTS, allow_cidrs=settings.EGRESS_ALLOW_CIDRS)

    def trusts(self, host: str, port: int) -> bool:
        """Tells whether the operator named this host (with this port, where an entry has one)."""
        return (host, None) in self.http_hosts or (host, port) in self.http_hosts


# --- URLs (S1) ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A base URL in its one spelling: lower-case host, no default port, no slash at the end. `address` is set when the host is an IP literal."""

    scheme: str
    host: str  # IPv6 without brackets
    port: int
    path: str
    address: IPAddress | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and, unless it is the usual one, port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _USUAL_PORT[self.scheme] else f":{self.port}")

    @property
    def url(self) -> str:
        """The whole base URL."""
        return self.origin + self.path

    def __str__(self) -> str:
        return self.url


_USUAL_PORT: Final = {"http": 80, "https": 443}
# Deliberately narrower than the RFC: one reading only, so that no other parser can read the host differently.
_BASE_URL: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?P<fragment>#.*)?")
_AUTHORITY: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[^:]*))?")
_HTTP_HOST: Final = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
# The last label decides: a host that ends in a number is an IPv4 address to every URL parser, and inet_aton takes many spellings.
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def check_url(url: str, policy: EgressPolicy | None = None) -> CheckedUrl:
    """Returns the checked form of a provider's base URL or raises EgressRefused with a stable code and a sentence for the person.

    Without `policy` that of the settings applies. Looks at the text alone: what a name resolves to is checked when it is called.
    """
    policy = EgressPolicy.from_settings() if policy is None else policy
    if not isinstance(url, str) or not url.strip():
        raise EgressRefused("url", _("Enter the address of the provider, for example https://api.example.com."))
    if any(char == "\\" or char.isspace() or not char.isprintable() for char in url):
        raise EgressRefused("url", _("The address holds a blank, a backslash or an invisible character."))
    if (match := _BASE_URL.fullmatch(url)) is None:
        raise EgressRefused("url", _("The address has to begin with https:// and a host name."))
    scheme = match["scheme"].lower()
    if scheme not in _USUAL_PORT:
        raise EgressRefused("scheme", _("Only https addresses can be called."))
    if match["query"] is not None:
        raise EgressRefused("query", _("The address must not have a query (the part after '?')."))
    if match["fragment"] is not None:
        raise EgressRefused("fragment", _("The address must not have a fragment (the part after '#')."))
    host, port_text, address = _check_authority(match["authority"])
    port = _USUAL_PORT[scheme] if not port_text else _port_of(port_text)
    if not port:
        raise EgressRefused("port", _("The port has to be a number from 1 to 65535."))
    trusted = policy.trusts(host, port)
    if scheme == "http" and not trusted:
        raise EgressRefused("scheme", _("Only https addresses can be called; plain http is allowed for hosts that the operator named."))
    if port != 443 and not trusted and port not in policy.ports:
        raise EgressRefused("port", _("Port %(port)d is not open for calls; the operator can allow it.") % {"port": port})
    if address is not None:
        refuse_address(address, policy, host)
    return CheckedUrl(scheme, host, port, (match["path"] or "").rstrip("/"), address)


def _check_authority(authority: str) -> tuple[str, str, IPAddress | None]:
    """Host in its one spelling, port as written ("" for none) and the address when the host is an IP literal."""
    if "@" in authority:
        raise EgressRefused("userinfo", _("The address must not hold a user name or password (the part before '@')."))
    if not authority.isascii():
        raise EgressRefused(
            "idn", _("The host name has to be written in plain letters, digits, dots and hyphens (international names in their xn-- form).")
        )
    if "%" in authority:
        raise EgressRefused("zone", _("The host must not hold a percent sign, neither for the zone of an IPv6 address nor for an escaped character."))
    if (match := _AUTHORITY.fullmatch(authority)) is None:
        raise EgressRefused("host", _("The host name cannot be read."))
    port = match["port"] or ""
    if match["v6"] is not None:
        try:
            v6 = ipaddress.IPv6Address(match["v6"])
        except ValueError:
            raise EgressRefused("ip_form", _("The text in brackets is not an IPv6 address.")) from None
        return str(v6), port, v6
    host = match["name"].lower()
    if not host:
        raise EgressRefused("host", _("The address has no host name."))
    if host.endswith("."):
        raise EgressRefused("trailing_dot", _("Remove the dot at the end of the host name."))
    if _ENDS_IN_NUMBER.fullmatch(host):
        try:
            v4 = ipaddress.IPv4Address(host)
        except ValueError:
            raise EgressRefused("ip_form", _("An IPv4 address has to be written as four decimal numbers, for example 192.0.2.1.")) from None
        return host, port, v4
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise EgressRefused("host", _("The host name holds characters that host names do not have."))
    return host, port, None


def _port_of(text: str | None) -> int | None:
    """None when no port is written, 0 when it is no port."""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535 else 0


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


# --- Addresses (S2) -------------------------------------------------------------------------------------------------------


def _networks(*cidrs: str) -> tuple[IPNetwork, ...]:
    return tuple(ipaddress.ip_network(cidr) for cidr in cidrs)


# No setting opens these. They answer a machine about itself (cloud metadata, with credentials in it) or are no address of one service.
_NEVER: Final = _networks(
    "0.0.0.0/8",  # "this host": Linux connects it to the loopback
    "169.254.0.0/16",  # link-local: metadata of AWS, Azure, Google, Tencent, Oracle and most others
    "168.63.129.16/32",  # Azure's platform address, formally public
    "100.100.100.200/32",  # metadata of Alibaba Cloud, inside the carrier range
    "192.0.0.192/32",  # metadata of Oracle Cloud, old form
    "224.0.0.0/4",  # multicast
    "255.255.255.255/32",
    "::/128",
    "64:ff9b:1::/48",  # local NAT64: where in it the IPv4 address sits depends on a prefix length that cannot be known here
    "fe80::/10",
    "fd00:ec2::/32",  # AWS over IPv6
    "fd20:ce::/64",  # Google over IPv6
    "fd00:42::42/128",  # Scaleway over IPv6
    "ff00::/8",
)
# What `is_global` of some supported Python calls public (or did, before the registries were updated) and no provider can live in.
_NOT_PUBLIC: Final = _networks(
    "100.64.0.0/10",  # carrier-grade NAT
    "192.0.0.0/24",
    "192.88.99.0/24",  # 6to4 relays
    "198.18.0.0/15",
    "240.0.0.0/4",
    "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
    "2001:db8::/32",
    "2002::/16",  # 6to4
    "3fff::/20",  # documentation
)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all that is assigned; excludes mapped, NAT64, unique and site-local forms
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})  # upper half of the interface part; the lower half is an IPv4 address


def is_address_allowed(ip: str | IPAddress, policy: EgressPolicy) -> bool:
    """Tells whether an address may be connected to: public, or in `policy.allow_cidrs`, and in no case one of a cloud's metadata service.

    An IPv6 form that carries an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) is not public. Where the operator allows
    its range, the address within is judged too. Text that is no address, or has a zone, is not allowed.
    """
    return _objection(ip, policy) is None


def _objection(ip: str | IPAddress, policy: EgressPolicy) -> str | None:
    """None for an allowed address, else the code of the refusal."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "address"
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return "zone"
    if _in(address, _NEVER):
        return "forbidden"
    carried = _carried(address)
    if _in(address, policy.allow_cidrs):
        return next((code for inner in carried if (code := _objection(inner, policy))), None)
    if carried or not address.is_global or _in(address, _NOT_PUBLIC):
        return "address"
    return None if address.version == 4 or address in _GLOBAL_UNICAST else "address"


def refuse_address(ip: str | IPAddress, policy: EgressPolicy, host: str) -> None:
    """Raises EgressRefused, with the name that led there in its sentence, unless the address is allowed."""
    if code := _objection(ip, policy):
        # Which address a name leads to stays unsaid: the answer must not be a map of the network behind us.
        raise EgressRefused(code, _("%(host)s leads to an address that must not be called from here (private, local or reserved).") % {"host": host})


def _in(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _carried(address: IPAddress) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses that a packet to this IPv6 address can end up at."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    number = int(address)
    low = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if address.teredo:
        return address.teredo
    if address.sixtofour:
        return (address.sixtofour,)
    if number >> 32 in (0, 0xFFFF, 0xFFFF0000) and number > 1:  # compatible (except :: and ::1), mapped, translated (RFC 2765)
        return (low,)
    if address in _NAT64 or (number >> 32 & 0xFFFFFFFF) in _ISATAP:
        return (low,)
    return ()
