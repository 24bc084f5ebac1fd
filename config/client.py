"""From where the request came that is being answered, for whatever is written down meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_address: ContextVar[str] = ContextVar("client_address", default="")


def address() -> str:
    """Returns the IP address of whoever sent the request that is being answered; "" in a worker and on the command line."""
    return _address.get()


@contextmanager
def at(ip: str) -> Iterator[None]:
    """Lets `address` return this one within the block."""
    token = _address.set(ip[:45])
    try:
        yield
    finally:
        _address.reset(token)
