"""From something pasted to the fields of a credential: whose it is, what is taken, what is ignored, what was lost, and what is missing.

Reads text and nothing else: no network, no database, no file. A capture is never kept: what leaves here are secrets that print as masks,
names, and sentences. What belongs to which field is declared by each provider (`Provider.traces`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from . import copied
from .copied import Form, Header, Loss, Request
from .providers import all_providers
from .providers.base import Provider
from .providers.parts import jwt
from .providers.schema import gettext_noop
from .providers.secret import Secret
from .providers.traces import Take

_ = gettext_noop

MOST = 500_000  # characters
SKEW = timedelta(minutes=1)
MOST_NAMES = 40

UNREADABLE = {
    "empty": _("There is nothing to read."),
    "too_long": _("This is longer than 500,000 characters. Copy one request, not all of them."),
    "cut_off": _("The capture ends in the middle of a value. Copy it again, whole."),
    "no_address": _("There is no request with an address in this text."),
    "no_host": _("These headers do not say to which host they went. Copy all of them, with “Host” or “:authority”."),
    "no_literal": _("Only a call of fetch as the browser copies it can be read, with the address and the headers written out."),
    "no_json": _("This looks like JSON but cannot be read as such. Copy it again, whole."),
    "unknown_form": _(
        "This is none of the forms that can be read: a request copied as cURL (bash or cmd), PowerShell or fetch, its headers as they are, "
        "an entry of a HAR file, a JSON document with the credential, or a token or key alone."
    ),
}
LOSSES = {
    Loss.CHARACTERS: _("this form writes blanks in the place of characters outside ASCII; copy as cURL (bash) instead"),
    Loss.BLANKS: _("this form writes tabs and wide spaces as plain blanks, and this value has some; copy as cURL (bash) instead"),
    Loss.AMBIGUOUS: _("two different values are written like this; copy the request in another form"),
    Loss.LEFT_OUT: _("this form never contains it; copy as cURL if it is needed"),
    Loss.SHORTENED: _("it was copied from a view that shortens long values; copy the request as cURL (bash) instead"),
    Loss.SUPPOSED: _("these headers do not say whether it was http or https; https is supposed"),
}
REFUSALS = {
    "login": _("This is the sign-in itself: it contains the password and no token yet. Copy a request that the page makes after signing in."),
    "expired": _("This token has expired; sign in at the site again and copy a new request."),
    "no_credential": _("This request carries no credential that can be used here."),
    "lost": _("The credential in this capture was damaged by the form it was copied in. Copy the request as cURL (bash) instead."),
    "unknown": _("It cannot be told which provider this is for."),
    "wrong_provider": _("This request is one of another provider."),
    "wrong_host": _("This request went to another site than this account."),
    "address": _("The address in this capture is not one that can be used."),
}


class CaptureError(ValueError):
    """The text cannot be read at all; `code` is a key of UNREADABLE, the message its sentence. Neither repeats anything of the text."""

    def __init__(self, code: str) -> None:
        super().__init__(UNREADABLE[code])
        self.code = code


@dataclass(frozen=True, slots=True)
class Lost:
    """Something that was, or may have been, lost: a declared field (or "", when nothing here needs it), its header, and why."""

    field: str
    name: str
    loss: Loss

    @property
    def why(self) -> str:
        """The sentence, to be translated."""
        return LOSSES[self.loss]


@dataclass(frozen=True, slots=True)
class Capture:
    """What was found in a pasted text. Its fields are secrets, its names are safe to show; nothing else of the text is left."""

    form: Form
    requests: int = 0
    provider: type[Provider] | None = None
    candidates: tuple[type[Provider], ...] = ()  # whose it might be, where that is not certain
    base_url: str = ""
    fields: Mapping[str, Secret] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    ignored_more: int = 0  # others, whose names are not fit to be shown
    losses: tuple[Lost, ...] = ()
    expires_at: datetime | None = None
    refusal: str = ""  # a key of REFUSALS
    missing: tuple[str, ...] = ()  # required fields that have to be given by hand
    seen: Mapping[str, bool] = field(default_factory=dict)  # of an unknown one: which signs there were

    @property
    def why(self) -> str:
        """The sentence of the refusal, to be translated; "" when there is none."""
        return REFUSALS[self.refusal] if self.refusal else ""

    def values(self) -> dict[str, str]:
        """Returns the fields in clear; for forms and services, never for a page."""
        return {name: value.reveal() for name, value in self.fields.items()}

    values.alters_data = True  # type: ignore[attr-defined]  # a template that names it gets nothing


def read(text: str, provider: type[Provider] | None = None, *, base_url: str = "", now: datetime | None = None) -> Capture:
    """Returns what a pasted text holds; raises CaptureError for one that cannot be read.

    With `provider` only that one is looked for, with `base_url` only that site.
    """
    if len(text) > MOST:
        raise CaptureError("too_long")
    try:
        form, content = copied.read(text)
    except copied.Unreadable as error:
        raise CaptureError(error.code) from None
    if isinstance(content, str):
        found = _bare(form, content, provider)
    elif isinstance(content, dict):
        found = _document(form, content, provider)
    else:
        found = _requests(form, content, provider)
    return _judged(found, base_url, now or datetime.now(UTC))


def _judged(found: Capture, base_url: str, now: datetime) -> Capture:
    """Adds what the values say: when the credential ends, and whether it is for this site."""
    provider = found.provider
    if provider is None or found.refusal:
        return found
    token = found.fields.get(provider.token_field)
    expires_at = jwt.expiry(token.reveal()) if token else None
    found, refusal = _scheme_of(found, _origin(urlsplit(base_url)) if base_url else ""), ""
    if expires_at is not None and expires_at < now - SKEW:
        refusal = "expired"
    elif base_url and found.base_url and _origin(urlsplit(base_url)) != found.base_url:
        refusal = "wrong_host"
    return _with(found, expires_at=expires_at, refusal=refusal)


def _scheme_of(found: Capture, origin: str) -> Capture:
    """Returns a capture that does not say its scheme with the one of the account whose host it went to."""
    kept = tuple(lost for lost in found.losses if lost.loss is not Loss.SUPPOSED)
    if kept == found.losses or origin.partition("://")[2] != found.base_url.partition("://")[2]:
        return found
    return _with(found, base_url=origin, losses=kept)


def _with(found: Capture, **changes: Any) -> Capture:
    kept = {name: getattr(found, name) for name in Capture.__slots__}
    return Capture(**(kept | changes))


# --- requests -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reading:
    """One request, read as one of a provider."""

    fields: dict[str, Secret]
    taken: set[str]  # names of headers, cookies and query parameters
    losses: list[Lost]

    def authorised(self, provider: type[Provider]) -> bool:
        """Tells whether it carries something that identifies somebody."""
        return any(name in self.fields for name in _identifying(provider))


def _identifying(provider: type[Provider]) -> set[str]:
    """Returns the fields that make a credential: required ones, what the header `authorization` holds, and secrets in the query."""
    secret = {declared.name for declared in provider.credential_fields if declared.secret}
    carried = {take.field for take in provider.traces.takes if take.header == "authorization" or (take.query and take.field in secret)}
    return carried | {declared.name for declared in provider.credential_fields if declared.required}


def _requests(form: Form, requests: list[Request], wanted: type[Provider] | None) -> Capture:
    """Returns what the first request with a credential holds, else what can be said of the first that is recognised."""
    best: Capture | None = None
    for request in requests:
        capture = _one(form, request, wanted, len(requests))
        if not capture.refusal:
            return capture
        if best is None or (best.provider is None and capture.provider is not None):
            best = capture
    assert best is not None
    return best


def _one(form: Form, request: Request, wanted: type[Provider] | None, count: int) -> Capture:
    try:
        parts = urlsplit(request.url)
        origin, query = _origin(parts), dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=1000))
    except ValueError:
        return Capture(form, count, refusal="address")
    if not origin:
        return Capture(form, count, refusal="address")
    scores = {provider: _score(provider, parts, request) for provider in all_providers()}
    provider, candidates = _recognised(scores, wanted)
    facts: dict[str, Any] = {"requests": count, "base_url": origin, "candidates": candidates}
    if wanted is not None and provider is not wanted:
        return Capture(form, refusal="wrong_provider", provider=provider, **facts)
    if provider is None:
        login = _is_login(request, parts, ())
        seen = {"host": False, "path": False, "authorization": request.header("authorization") is not None}
        return Capture(form, refusal="login" if login else "unknown", seen=seen, **facts)
    reading = _taken(provider, request, query)
    ignored, more = _ignored(request, query, reading.taken | {lost.name for lost in reading.losses if lost.field})
    facts |= {"provider": provider, "fields": reading.fields, "ignored": ignored, "ignored_more": more, "losses": tuple(reading.losses)}
    missing = tuple(declared.name for declared in provider.credential_fields if declared.required and declared.name not in reading.fields)
    if not reading.authorised(provider):
        lost = any(loss.field in _identifying(provider) for loss in reading.losses)
        login = _is_login(request, parts, provider.traces.logins)
        return Capture(form, refusal="login" if login else "lost" if lost else "no_credential", **facts | {"fields": {}})
    return Capture(form, missing=missing, **facts)


def _recognised(scores: Mapping[type[Provider], int], wanted: type[Provider] | None) -> tuple[type[Provider] | None, tuple[type[Provider], ...]]:
    """Returns the provider, and all that it might be where that is not certain. What a person says counts unless the request says otherwise."""
    most = max(scores.values(), default=0)
    leading = tuple(provider for provider, score in scores.items() if score == most and score >= _PATH)
    if wanted is not None:
        return (leading[0] if leading and scores[wanted] < _PATH else wanted), ()
    if len(leading) == 1:
        return leading[0], ()
    return None, leading or tuple(scores)


_HOST, _PATH, _HEADER = 800, 300, 200  # a header alone says too little


def _score(provider: type[Provider], parts: SplitResult, request: Request) -> int:
    """Returns how much a request looks like one of a provider: 0 is not at all; of two beginnings of its path the longer one says more."""
    traces, host = provider.traces, parts.hostname or ""
    score = _HOST if any(host == name or host.endswith(f".{name}") for name in traces.hosts) else 0
    under = [len(start) for start in (*traces.paths, *traces.logins) if _lies_under(parts.path, (start,))]
    score += _PATH + min(max(under), 99) if under else 0
    return score + (_HEADER if any(request.header(name) for name in traces.headers) else 0)


def _lies_under(path: str, beginnings: Iterable[str]) -> bool:
    return any(path == start or path.startswith(start if start.endswith("/") else f"{start}/") for start in beginnings)


def _origin(parts: SplitResult) -> str:
    """Returns scheme, host and port of an address, "" where it has none that could be called."""
    host, port = parts.hostname, parts.port
    if parts.scheme not in ("http", "https") or not host or not host.isascii() or not re.fullmatch(r"[\w.:-]+", host):
        return ""
    shown = f"[{host}]" if ":" in host else host
    usual = port in (None, {"http": 80, "https": 443}[parts.scheme])
    return f"{parts.scheme}://{shown}" if usual else f"{parts.scheme}://{shown}:{port}"


def _is_login(request: Request, parts: SplitResult, logins: tuple[str, ...]) -> bool:
    """Tells whether a request without a token is one that signs in."""
    return _lies_under(parts.path, logins) or "password" in request.body.lower()


def _taken(provider: type[Provider], request: Request, query: Mapping[str, str]) -> _Reading:
    """Returns what a provider's takes find in a request."""
    fields: dict[str, Secret] = {}
    taken: set[str] = set()
    losses = _lost_elsewhere(request)
    for take in provider.traces.takes:
        if take.bare or take.field in fields:
            continue
        header = request.header(take.header) if take.header else Header(take.query, query[take.query]) if take.query in query else None
        if header is None:
            if take.header in request.left_out:
                losses[take.header] = Lost(take.field, take.header, Loss.LEFT_OUT)
            continue
        value = _kept_cookies(header.value, take.cookies, taken) if take.cookies else _value(take, header.value)
        if _is_lost(header, value, take):
            losses[header.name] = Lost(take.field, header.name, header.loss or Loss.CHARACTERS)
        if not value or _is_lost(header, value, take):
            continue
        fields[take.field] = Secret(value)
        taken.add(take.header or take.query)
    return _Reading(fields, taken, list(losses.values()))


def _lost_elsewhere(request: Request) -> dict[str, Lost]:
    """Returns what was surely lost in headers, by their names, and a scheme that is not said; which field needs one is found out later."""
    supposed = {copied.SCHEME: Lost("", "scheme", Loss.SUPPOSED)} if copied.SCHEME in request.left_out else {}
    return supposed | {
        header.name: Lost("", header.name, header.loss)
        for header in request.headers
        if header.loss is Loss.CHARACTERS and _SHOWN.fullmatch(header.name)
    }


def _is_lost(header: Header, value: str, take: Take) -> bool:
    """Tells whether a value must not be used, or cannot be recognised, for what the form did to it.

    Whatever a form loses it puts a blank for, or a sign for "unknown": a cookie without either is whole whatever became of the others.
    """
    if header.loss is None:
        return False
    if header.loss is Loss.SHORTENED:  # at its end; of cookies the others are whole
        return not value or value.endswith("…")
    if header.loss is Loss.BLANKS:  # doubtful only where a value of this kind has none
        return not take.loose and " " in value.replace("; ", "")
    if header.loss is Loss.CHARACTERS and value and not take.loose:
        return not value.isprintable() or " " in value.replace("; ", "") or "\ufffd" in value
    return True


def _value(take: Take, given: str) -> str:
    """Returns what a take finds in a value, "" for nothing."""
    match = re.fullmatch(take.pattern, given.strip(), re.ASCII)
    if match is None:
        return ""
    value = next((group for group in match.groups() if group), match[0])
    return "" if take.claims and not set(take.claims) <= set(jwt.claims(value)) else take.value or value


def _kept_cookies(given: str, names: tuple[str, ...], taken: set[str]) -> str:
    """Returns the cookies of these names in the form of the header."""
    pairs = [(name.strip(), value.strip()) for name, _equals, value in (part.partition("=") for part in given.split(";"))]
    kept = {name: value for name, value in pairs if name in names and value}
    taken |= {f"cookie {name}" for name in kept}
    return "; ".join(f"{name}={value}" for name, value in kept.items())


# Names that may be shown: what names of headers, cookies and parameters look like, and no secret does.
_SHOWN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}")


def _ignored(request: Request, query: Mapping[str, str], taken: set[str]) -> tuple[tuple[str, ...], int]:
    """Returns the names of what a request has and nobody needs, as far as they are fit to be shown, and how many there are besides."""
    names = [header.name for header in request.headers if header.name not in taken and header.name != "cookie"]
    cookie = request.header("cookie")
    jar = [part.partition("=")[0].strip() for part in cookie.value.split(";")] if cookie else []
    names += [f"cookie {name}" for name in jar if name and f"cookie {name}" not in taken]
    names += [f"?{name}" for name in query if name not in taken]
    names += ["body"] if request.body else []
    distinct = list(dict.fromkeys(names))
    fit = [name for name in distinct if _SHOWN.fullmatch(name.removeprefix("cookie ").removeprefix("?"))]
    return tuple(fit[:MOST_NAMES]), len(distinct) - len(fit[:MOST_NAMES])


# --- a token or a document alone ----------------------------------------------------------------------------------------------------


def _bare(form: Form, given: str, wanted: type[Provider] | None) -> Capture:
    """Returns what a single value is: the token or key of one provider, of the wanted one, or of one that the person has to name."""
    text = re.sub(r"^authorization\s*:\s*", "", given, flags=re.IGNORECASE)
    text = re.sub(r"^(bearer|basic)\s+", "", text, flags=re.IGNORECASE).strip("\"' \t")
    if not text or " " in text or len(text) < 8:
        raise CaptureError("unknown_form")
    found = {provider: take for provider in all_providers() if (take := _bare_take(provider, text, weak=False))}
    if wanted is not None:
        take = found.get(wanted) or _bare_take(wanted, text, weak=True)
        if take is None:
            return Capture(form, provider=wanted, refusal="no_credential")
        return _alone(form, wanted, {take.field: text})
    if len(found) == 1:
        provider, take = next(iter(found.items()))
        return _alone(form, provider, {take.field: text})
    weak = tuple(provider for provider in all_providers() if _bare_take(provider, text, weak=True))
    return Capture(form, candidates=tuple(found) or weak, refusal="unknown", seen={"authorization": True})


def _bare_take(provider: type[Provider], text: str, *, weak: bool) -> Take | None:
    return next((take for take in provider.traces.takes if take.bare and (weak or not take.weak) and _value(take, text)), None)


def _document(form: Form, given: dict[str, Any], wanted: type[Provider] | None) -> Capture:
    """Returns what a JSON document of credential fields is."""
    values = {name: _plain(value) for name, value in given.items() if value is not None}
    base_url = values.pop("base_url", "") or ""
    if not values or any(value is None for value in values.values()):
        raise CaptureError("unknown_form")
    document = {name: value for name, value in values.items() if value}
    fitting = [provider for provider in all_providers() if set(document) <= {declared.name for declared in provider.credential_fields}]
    whole = [provider for provider in fitting if not provider.check_credentials(provider.clean_credentials(document))]
    chosen = wanted or (whole[0] if len(whole) == 1 else fitting[0] if len(fitting) == 1 else None)
    if chosen is None or chosen not in fitting:
        refusal = "no_credential" if wanted else "unknown"
        return Capture(form, provider=wanted, candidates=tuple(whole or fitting), refusal=refusal)
    try:
        origin = _origin(urlsplit(base_url)) if base_url else ""
    except ValueError:
        return Capture(form, provider=chosen, refusal="address")
    return _with(_alone(form, chosen, document), base_url=origin)


def _plain(value: Any) -> str | None:
    """Returns a value of a document as a form would give it, None where it is neither text nor a number nor a list of them."""
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, bool) or not isinstance(part, str | int) for part in parts):
        return None
    return ", ".join(map(str, parts))


def _alone(form: Form, provider: type[Provider], values: Mapping[str, str]) -> Capture:
    fields = {name: Secret(value) for name, value in values.items()}
    missing = tuple(declared.name for declared in provider.credential_fields if declared.required and declared.name not in fields)
    return Capture(form, provider=provider, fields=fields, missing=missing)
