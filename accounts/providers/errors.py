"""What can go wrong between us and a provider, decided once per answer in the provider's file.

ProviderError
├── CredentialsRejected    the account needs a new credential; stop every call with this one
├── PermissionRefused      the credential is good but may not do this
├── NotFound               this conversation is not there (one answer; the mirror asks twice before it believes it)
├── RequestRejected        the provider understood and refused the request; sending it again changes nothing
├── Unsupported            the provider has no such operation; nothing was sent
├── MalformedAnswer        the answer is not what the contract describes (wrong address, proxy page, cut body)
├── AddressRefused         our own egress guard refused the address; nothing was sent
├── RateLimited            refused for its rate and not carried out; retry after `retry_after` seconds
├── ProviderUnavailable    nothing was sent, or a read failed; a repeat is safe
└── OutcomeUnknown         a write was sent and no usable answer came; read before anything else
"""

from __future__ import annotations

# The provider's own text is shown to people and stored with items: short, and never a header or a body.
MAX_DETAIL = 300


class ProviderError(Exception):
    """A failed provider call with everything a person or the lane needs to decide what comes next.

    `message` is our English sentence for logs and the command line, `detail` the provider's own text (shortened), `status` the HTTP
    status or None when no answer came, `retry_after` seconds or None. The interface shows the translated sentence of `kind`.
    """

    kind = "provider_error"
    retryable = False

    def __init__(self, message: str = "", *, status: int | None = None, retry_after: float | None = None, detail: str = "") -> None:
        self.message = message or self.__doc_line()
        self.status = status
        self.retry_after = retry_after
        storable = detail.replace("\0", " ").encode("utf-8", "replace").decode()
        self.detail = " ".join(storable.split())[:MAX_DETAIL]
        super().__init__(self.message)

    @classmethod
    def __doc_line(cls) -> str:
        return (cls.__doc__ or cls.kind).strip().splitlines()[0]

    def __str__(self) -> str:
        status = f"HTTP {self.status}: " if self.status else ""
        detail = f" ({self.detail})" if self.detail and self.detail != self.message else ""
        return f"{status}{self.message}{detail}"


class CredentialsRejected(ProviderError):
    """The provider does not accept this credential."""

    kind = "credentials_rejected"


class PermissionRefused(ProviderError):
    """The credential is accepted but may not do this."""

    kind = "permission"


class NotFound(ProviderError):
    """The provider does not know this conversation."""

    kind = "gone"


class RequestRejected(ProviderError):
    """The provider refused the request."""

    kind = "rejected"


class Unsupported(ProviderError):
    """The provider has no such operation."""

    kind = "unsupported"


class MalformedAnswer(ProviderError):
    """The answer is not what this provider answers; check the base URL."""

    kind = "malformed_answer"


class AddressRefused(ProviderError):
    """This server may not connect to that address."""

    kind = "address_refused"


class RateLimited(ProviderError):
    """The provider asks for fewer requests."""

    kind = "rate_limited"
    retryable = True


class ProviderUnavailable(ProviderError):
    """The provider cannot be reached or is out of order."""

    kind = "unavailable"
    retryable = True


class OutcomeUnknown(ProviderError):
    """The change was sent but no answer came back."""

    kind = "outcome_unknown"
