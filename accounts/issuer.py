"""The way to the OpenID Connect provider that the operator of this installation has named, and what is believed of its answers.

Its address comes from the environment, as that of the database does, so it may be a private one. What else holds for the way out
(accounts/egress.py) holds here too: no redirect is followed, proxies and netrc of the environment are ignored, answers have a cap and no encoding,
and once a sign-in has taken DEADLINE for all of its questions together, nothing more is asked and nothing more is read.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

import jwt
import requests
import urllib3
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from django.utils.crypto import constant_time_compare

DEADLINE = 8.0  # seconds for all questions of one request
CONNECT = 3.0
MOST_BYTES = 2**20
LEEWAY = 60  # seconds that the clocks of two machines may differ
# Signatures with the provider's own key only: with HS256 whoever knows the client's secret could sign, and "none" is no signature.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")

AWAY = requests.RequestException  # no answer, or one that says that it does not work now
TROUBLE = (AWAY, OAuth2Error)


class Session(requests.Session):
    """Asks until a moment of time.monotonic(), and not beyond."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until = until
        self.trust_env = False
        self.headers["Accept-Encoding"] = "identity"

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override, unused-ignore]
        """Returns the answer with its body read; raises requests.RequestException where there is none that can be used."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise requests.Timeout("no time is left")
        options |= {"timeout": (min(CONNECT, left), left), "allow_redirects": False, "stream": True}
        answer = super().request(method, url, **options)
        try:
            answer._content = self._body(answer)
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(type(error).__name__) from error
        finally:
            answer.close()
        if answer.is_redirect or answer.status_code >= 500:
            raise requests.HTTPError(f"status {answer.status_code}", response=answer)
        return answer

    def _body(self, answer: requests.Response) -> bytes:
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise requests.RequestException("the answer is in an encoding that was not asked for")
        body = bytearray()
        while part := answer.raw.read1(2**14):  # what has arrived, without waiting for more
            body += part
            if len(body) > MOST_BYTES or time.monotonic() > self.until:
                raise requests.Timeout("the answer does not end")
        return bytes(body)


def discovered(session: Session, url: str, issuer: str) -> dict[str, Any]:
    """Returns the provider's description of itself; raises one of TROUBLE."""
    answer = session.request("GET", url)
    answer.raise_for_status()
    found = answer.json()
    if not isinstance(found, dict) or str(found.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):
        raise OAuth2Error("the discovery document is that of another issuer")
    scheme = urlsplit(issuer).scheme
    endpoints = [found.get(name) for name in NEEDED] + [found[name] for name in ("userinfo_endpoint",) if found.get(name)]
    if not all(isinstance(place, str) and urlsplit(place).scheme in ("https", scheme) for place in endpoints):
        raise OAuth2Error("the discovery document lacks an address, or names one without https")
    return found


def claims_of(token: Any, keys: Any, *, issuer: str, client_id: str, nonce: str) -> dict[str, Any]:
    """Returns what an id_token says, once everything about it is right (OpenID Connect Core 3.1.3.7); raises OAuth2Error."""
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ALGORITHMS:
            raise OAuth2Error("the id_token is signed in a way that is not accepted")
        claims = jwt.decode(
            token,
            _key(keys, header),
            algorithms=[header["alg"]],
            issuer=issuer,
            audience=client_id,
            leeway=LEEWAY,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )
    except (jwt.PyJWTError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise OAuth2Error(f"the id_token is not accepted ({type(error).__name__})") from None
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else client_id) != client_id:
        raise OAuth2Error("the id_token was made for another client")
    if not nonce or not constant_time_compare(str(claims.get("nonce", "")), nonce):
        raise OAuth2Error("the id_token belongs to another sign-in")
    if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 191:  # as much as SocialAccount.uid holds
        raise OAuth2Error("the id_token names nobody")
    return claims


def _key(keys: Any, header: dict[str, Any]) -> Any:
    """Returns the one key of a JWK set that a token's header means."""
    found = [key for key in jwt.PyJWKSet.from_dict(keys).keys if key.public_key_use in (None, "sig") and key.key_id == header.get("kid", key.key_id)]
    if len(found) != 1:
        raise OAuth2Error("the id_token is signed with a key that the provider does not publish")
    return found[0].key
