"""What every API of Alibaba Cloud shares: the signature V3 (ACS3-HMAC-SHA256), the codes of its gateway, its clock and its way to say "wait".

The signature is made of pure functions, so that worked examples pin it.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote

import httpx

from ..errors import CredentialsRejected, OutcomeUnknown, ProviderError, ProviderUnavailable, RateLimited, RequestRejected
from ..schema import gettext_noop
from .reading import first_text, json_object, whole

_ = gettext_noop

# A nonce must be new, not secret: asking the system for 16 random bytes before each request costs a lane more than signing it.
_START, _COUNT = secrets.token_hex(8), itertools.count()

ALGORITHM = "ACS3-HMAC-SHA256"
JSON_TYPE = "application/json; charset=utf-8"

_BAD_KEY = _("There is no such AccessKey ID at Alibaba Cloud; it was deleted or mistyped.")
_DISABLED_KEY = _("This AccessKey is disabled at Alibaba Cloud.")
_BAD_SECRET = _("The AccessKey secret does not belong to this AccessKey ID.")
_BAD_TOKEN = _("The security token (STS) is missing, has expired or belongs to another key; enter new temporary credentials.")
_CLOCK = _("The clock of this server differs from Alibaba Cloud's by more than 15 minutes.")
_WRONG_API = _("This endpoint does not know the operation; check the endpoint.")
_FAILED = _("The provider is out of order.")
_FAILED_WRITE = _("The provider failed while it carried out the change.")
_UNSIGNED = _("Alibaba Cloud could not read the signature of the request.")

# By the beginning of the code and never by the HTTP status, which differs between products; the first that fits decides.
CODES: tuple[tuple[str, type[ProviderError], str], ...] = (
    ("InvalidAccessKeyId.Inactive", CredentialsRejected, _DISABLED_KEY),
    ("InvalidAccessKeyId", CredentialsRejected, _BAD_KEY),  # .NotFound comes with HTTP 404, and yet nothing else is missing
    ("MissingAccessKeyId", CredentialsRejected, _BAD_KEY),
    ("SignatureDoesNotMatch", CredentialsRejected, _BAD_SECRET),
    ("MissingSecurityToken", CredentialsRejected, _BAD_TOKEN),
    ("InvalidSecurityToken", CredentialsRejected, _BAD_TOKEN),
    ("Throttling", RateLimited, _("The provider asks for fewer requests.")),
    ("SignatureNonceUsed", OutcomeUnknown, _("Alibaba Cloud has seen this very request before, so an earlier copy of it arrived.")),
    ("IncompleteSignature", RequestRejected, _UNSIGNED),
    ("InvalidTimeStamp", RequestRejected, _CLOCK),
    ("InvalidAction", RequestRejected, _WRONG_API),
    ("InvalidApi", RequestRejected, _WRONG_API),
    ("Server.Internal.", ProviderUnavailable, _FAILED),
    ("ServiceUnavailable", ProviderUnavailable, _FAILED),
    ("InternalError", ProviderUnavailable, _FAILED),
)
# Their message can echo the canonical request with a security token in it, so nobody ever sees it.
_SILENT = ("signature", "incompletesignature", "missingsecuritytoken", "invalidsecuritytoken", "invalidaccesskeyid", "missingaccesskeyid")


def canonical_request(method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """Returns the text whose hash is signed; every one of `headers` counts as signed and `x-acs-content-sha256` must be among them."""
    named = sorted((name.lower(), value.strip()) for name, value in headers.items())
    return "\n".join(
        (
            method.upper(),
            _canonical_path(path),
            _canonical_query(query) if query else "",
            "".join([f"{name}:{value}\n" for name, value in named]),
            _names(headers),
            dict(named)["x-acs-content-sha256"],
        )
    )


@lru_cache(maxsize=256)
def _canonical_path(path: str) -> str:  # a conversation is read and written at one path
    return "/".join(quote(unquote(segment), safe="-_.~") for segment in path.split("/"))


def _canonical_query(query: str) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(query, keep_blank_values=True))
    return "&".join(f"{name}={value}" for name, value in pairs)


def _names(headers: Mapping[str, str]) -> str:
    return ";".join(sorted([name.lower() for name in headers]))


def authorization(method: str, path: str, query: str, headers: Mapping[str, str], key_id: str, secret: str) -> str:
    """Returns the Authorization header for a request that carries `headers`."""
    digest = hashlib.sha256(canonical_request(method, path, query, headers).encode()).hexdigest()
    signature = hmac.digest(secret.encode(), f"{ALGORITHM}\n{digest}".encode(), "sha256").hex()
    return f"{ALGORITHM} Credential={key_id},SignedHeaders={_names(headers)},Signature={signature}"


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """An AccessKey, with its security token where it is a temporary one."""

    id: str
    secret: str
    token: str = ""


def signed_headers(key: Key, method: str, url: httpx.URL, content: bytes, *, action: str, version: str, clock_skew: float = 0.0) -> dict[str, str]:
    """Returns all headers of one attempt, with a new nonce and date; `clock_skew` (seconds) is how far the service's clock is ahead."""
    path, _mark, query = url.raw_path.decode("ascii").partition("?")
    headers = {
        "host": url.netloc.decode("ascii"),  # with a port that is not the default one
        "x-acs-action": action,
        "x-acs-version": version,
        "x-acs-date": datetime.fromtimestamp(time.time() + clock_skew, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": f"{_START}{os.getpid():08x}{next(_COUNT) & 0xFFFFFFFF:08x}",
        "x-acs-content-sha256": hashlib.sha256(content).hexdigest(),
    }
    if content:
        headers["content-type"] = JSON_TYPE
    if key.token:
        headers |= {"x-acs-security-token": key.token, "x-acs-accesskey-id": key.id}
    return headers | {"accept": "application/json", "authorization": authorization(method, path, query, headers, key.id, key.secret)}


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an answer says went wrong, in the gateway's form or (`own`) in a service's envelope, which states a status of its own."""

    code: str
    words: str
    ticket: str
    own: bool
    stated: int  # 0: no service said anything

    @classmethod
    def of(cls, response: httpx.Response) -> Complaint:
        """Reads an answer; all fields are empty where it is none of Alibaba Cloud's."""
        body = json_object(response)
        own = "success" in body or "errCode" in body
        stated = (whole(body.get("httpStatusCode")) or response.status_code) if own else 0
        code, words = first_text(body, "errCode", "Code", "code"), first_text(body, "errMessage", "Message", "message")
        return cls(code, words, first_text(body, "requestId", "RequestId"), own, stated)

    def told(self) -> str:
        """Returns code, words and ticket for people and support; no words where they could hold a canonical request."""
        words = "" if self.code.lower().startswith(_SILENT) else " ".join(self.words.split())[:200]
        return ": ".join(part for part in (self.code, words) if part) + (f" [{self.ticket}]" if self.ticket else "")


def clock_skew(response: httpx.Response) -> int | None:
    """Returns by how many seconds the service's clock is ahead, where a dated answer complains about ours."""
    if not Complaint.of(response).code.lower().startswith("invalidtimestamp"):
        return None
    try:
        return round(parsedate_to_datetime(response.headers.get("date", "")).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def retry_after(response: httpx.Response) -> float | None:
    """Returns the seconds of x-acs-retry-after, which counts milliseconds; None for 0, negative and garbage."""
    wait = whole(response.headers.get("x-acs-retry-after", "").strip())
    return min(wait / 1000, 3600.0) if wait and wait > 0 else None


def failure(
    code: str, response: httpx.Response, *, write: bool, detail: str, table: tuple[tuple[str, type[ProviderError], str], ...] = CODES
) -> ProviderError | None:
    """Returns the error of the first row whose beginning the code has, None when no row knows it."""
    for beginning, kind, sentence in table:
        if not code.lower().startswith(beginning.lower()):
            continue
        if kind is ProviderUnavailable and write:  # the service failed at some point of carrying it out
            kind, sentence = OutcomeUnknown, _FAILED_WRITE
        elif kind is OutcomeUnknown and not write:  # a copy made on the way was refused: a read may simply be signed anew
            kind = ProviderUnavailable
        return kind(sentence, status=response.status_code, retry_after=retry_after(response) if kind is RateLimited else None, detail=detail)
    return None
