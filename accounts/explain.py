"""Says what went wrong with a provider in a person's language: what it is, what to do about it, and the provider's own words."""

from __future__ import annotations

import re

from django.utils.translation import gettext as _

from .providers.errors import (
    AddressRefused,
    CredentialsRejected,
    MalformedAnswer,
    NotFound,
    OutcomeUnknown,
    PermissionRefused,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    Unsupported,
)

_CLASSES: list[type[ProviderError]] = [ProviderError, *ProviderError.__subclasses__()]
_KINDS = {kind.kind: kind for kind in _CLASSES}
_NUMBER = re.compile(r"\d(?:[\d.,]*\d)?(?:e-?\d+)?")


def sentences(*parts: str) -> str:
    """Returns sentences one after the other; behind a full-width stop stands no space."""
    return " ".join(part for part in parts if part).replace("。 ", "。")


def explain(error: ProviderError, *, connecting: bool = False) -> dict[str, str]:
    """Returns a provider error for people: `sentence`, `advice`, `detail` (status and the provider's own words) and `kind`.

    `connecting`: the reader has the account's fields in front of them, so the advice is about these.
    """
    sentence, advice = _words_for(error)
    if connecting:
        advice = _advice_at_the_fields(error)
    status = f"HTTP {error.status}" if error.status else ""
    own = said(error.message)
    detail = " · ".join(filter(None, [status, "" if own in (sentence, *_general()) else own, error.detail]))
    return {"sentence": sentence, "advice": advice, "detail": detail, "kind": error.kind}


def said(text: str) -> str:
    """Returns a sentence that was marked for translation elsewhere, translated; "" stays "" (gettext would give its header)."""
    return _(text) if text else ""


def said_price(text: str) -> str:
    """Returns a price in the reader's language: its words, with {} for each number, are what is translated."""
    shape = _NUMBER.sub("{}", text)
    words = said(shape)
    return text if words == shape else words.format(*_NUMBER.findall(text))


def _general() -> tuple[str, ...]:
    """Returns what the common code says by the HTTP status alone: beside the sentence of its kind it tells nothing."""
    return _("The provider does not accept this credential."), _("The credential is accepted but may not do this.")


def _words_for(error: ProviderError) -> tuple[str, str]:
    sentences = {
        CredentialsRejected: (_("The provider does not accept this account's credential."), _("Replace the credential of the account.")),
        PermissionRefused: (_("The credential is good but may not do this."), _("Give it the permission at the provider.")),
        NotFound: (_("The provider does not know this conversation any more."), _("Our last copy is kept.")),
        RateLimited: (_("The provider asks for fewer requests."), _("Try again in a moment.")),
        ProviderUnavailable: (_("The provider cannot be reached or is out of order."), _("Try again in a moment.")),
        OutcomeUnknown: (_("The change was sent, but no answer came back."), _("Refresh to see what is stored.")),
        MalformedAnswer: (_("The provider's answer cannot be read."), _("Check the base URL of the account.")),
        AddressRefused: (_("This server may not connect to that address."), _("Check the base URL of the account.")),
        RequestRejected: (_("The provider refused the request."), ""),
        Unsupported: (said(error.message), ""),
    }
    return next((texts for kind, texts in sentences.items() if isinstance(error, kind)), (said(error.message), ""))


def _advice_at_the_fields(error: ProviderError) -> str:
    advice = {
        CredentialsRejected: _("Copy it again and correct the fields. Do not try a refused one over and over: some providers block it."),
        PermissionRefused: _("Give it the permission at the provider, then test again."),
        RateLimited: _("Wait a moment, then test again."),
        ProviderUnavailable: _("Check the base URL. If it is right, the provider has a problem: try again later."),
        MalformedAnswer: _("Check the base URL: something else than this provider seems to answer there."),
        AddressRefused: _("Check the base URL. Addresses in private networks must first be allowed by the operator of this server."),
        RequestRejected: _("Compare the fields above with what the provider shows."),
    }
    return next((text for kind, text in advice.items() if isinstance(error, kind)), "")


# --- errors that are stored ---------------------------------------------------------------------------------------------------------


def pack(error: ProviderError) -> str:
    """Returns an error as the text that is stored with an account: kind, status, our sentence and the provider's words, one a line."""
    message = " ".join(error.message.split())
    return "\n".join([error.kind, str(error.status or ""), message, error.detail])


def unpack(text: str) -> ProviderError | None:
    """Returns the error that `pack` stored, None for an empty text; a text of another form becomes an error with that message."""
    if not text:
        return None
    parts = text.split("\n", 3)
    if len(parts) < 4 or parts[0] not in _KINDS:
        return ProviderError(text)
    kind, status, message, detail = parts
    return _KINDS[kind](message, status=int(status) if status.isdigit() else None, detail=detail)
