"""How a request of a provider's own pages or API is recognised, and which parts of it are the credential.

Declared by each provider, read by accounts.capture.
"""

from __future__ import annotations

from dataclasses import dataclass

# Patterns are matched against a whole value; the first group that took part, else the whole, is what is taken. Each must be linear: no
# repetition within a repetition, and neighbours that cannot match the same character.
JWT = r"[\w-]+\.[\w-]+\.[\w-]+"
SCHEME = r"(?:(?:[Bb]earer|BEARER|[Bb]asic|BASIC)\s+)?"


@dataclass(frozen=True, slots=True)
class Take:
    """One credential field and where it stands: in a header (small letters), in the query, or alone as the whole of what was pasted.

    Of the header `cookie` only the named `cookies` are kept. `claims` are those that a JSON Web Token must make. A `weak` take says little
    about where a value comes from: it counts only where the provider is known already. `value` is taken in place of what stands there.
    A `loose` value may well contain blanks.
    """

    field: str
    header: str = ""
    query: str = ""
    pattern: str = r"\S.*"
    cookies: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    weak: bool = False
    loose: bool = False
    value: str = ""

    @property
    def bare(self) -> bool:
        """True when the value stands alone, in no request."""
        return not self.header and not self.query


@dataclass(frozen=True, slots=True)
class Traces:
    """What gives a provider's requests away, wherever its product is installed.

    `hosts` are names at or under which it is surely found, `paths` beginnings of paths, `headers` those that nothing else sends, `logins`
    paths whose body holds a password. `advice` is what to do where a request of this provider carries no credential of use here.
    """

    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    logins: tuple[str, ...] = ()
    takes: tuple[Take, ...] = ()
    advice: str = ""
