"""Sealing of credentials at rest, and the only place that knows which cipher does it.

A sealed document is text of the form `v1.<key id>.<base64url>`. The key id (a fingerprint, not a secret) tells which key of the ring opens
it, so several keys can be in use while a rotation runs. The part after it holds a 12-byte nonce, the ciphertext and its 16-byte tag
(AES-256-GCM). The place a document belongs to (table, row, field) and the version are authenticated with it: a token copied to another row
or column does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from accounts.providers.secret import Secret

VERSION: Final = "v1"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")


class VaultError(Exception):
    """Something could not be sealed or opened. The message names the cause and never a key or any part of a document."""


def new_key() -> str:
    """Returns a fresh key for settings.ENCRYPTION_KEYS: 32 random bytes in base64."""
    return base64.b64encode(AESGCM.generate_key(KEY_BYTES * 8)).decode("ascii")


@sensitive_variables()
def seal(document: Mapping[str, str | Secret], *, table: str, row: str, field: str) -> str:
    """Returns `document` encrypted with the newest key as a text token that opens only at the same table, row and field.

    Sealing the same document twice gives different tokens. Values may be Secrets, so that what was opened can be sealed anew. Raises
    VaultError when there is no usable key or the place is incomplete.
    """
    keys = _key_ring()
    key_id, cipher = next(iter(keys.items()))
    plain: dict[str, str] = {}
    for name, value in document.items():
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(name, str) or not isinstance(text, str):
            raise VaultError("Only text can be sealed: a document maps names to text.")
        plain[name] = text
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + cipher.encrypt(nonce, json.dumps(plain, separators=(",", ":")).encode("ascii"), _binding(table, row, field))
    return f"{VERSION}.{key_id}.{_encode(sealed)}"


@sensitive_variables()
def open_sealed(token: str, *, table: str, row: str, field: str) -> dict[str, Secret]:
    """Returns the document of a token that was sealed for this table, row and field, each value as a Secret.

    Raises VaultError when the token is damaged, belongs elsewhere, or was sealed with a key that is not in the ring.
    """
    key_id, sealed = _split(token)
    cipher = _key_ring().get(key_id)
    if cipher is None:
        raise VaultError(f"Sealed with key {key_id}, which is not among ENCRYPTION_KEYS.")
    binding = _binding(table, row, field)
    plain: bytes | None = None
    with suppress(InvalidTag):
        plain = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], binding)
    if plain is None:
        raise VaultError("The sealed text does not open: it was altered, or it belongs to another table, row or field.")
    document: object = None
    with suppress(ValueError):  # VaultError is raised outside of this block: the parser's exception carries the text it was given
        document = json.loads(plain)
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise VaultError("The sealed text opens, but does not hold a document.")
    return {name: Secret(value) for name, value in document.items()}


def is_stale(token: str) -> bool:
    """Tells whether a token waits for rotation, that is, was not sealed with the newest key; raises VaultError when it is no token."""
    key_id, _sealed = _split(token)
    return key_id != next(iter(_key_ring()))


def _key_ring() -> dict[str, AESGCM]:
    """The ciphers by key id, newest first."""
    return _ring_of(tuple(settings.ENCRYPTION_KEYS))


@lru_cache(maxsize=4)
@sensitive_variables()
def _ring_of(keys: tuple[str, ...]) -> dict[str, AESGCM]:
    ring: dict[str, AESGCM] = {}
    for number, text in enumerate(keys, 1):
        try:
            key = base64.b64decode(text.strip().translate(_FROM_URLSAFE), validate=True)
        except (ValueError, AttributeError):
            key = b""
        if len(key) != KEY_BYTES:
            raise VaultError(f"Key {number} of ENCRYPTION_KEYS is not {KEY_BYTES} bytes in base64.")
        ring.setdefault(hashlib.sha256(b"switchboard key id\0" + key).hexdigest()[:8], AESGCM(key))
    if not ring:
        raise VaultError("ENCRYPTION_KEYS is empty: there is no key to seal with.")
    return ring


_FROM_URLSAFE = str.maketrans("-_", "+/")


def _binding(table: str, row: str, field: str) -> bytes:
    """The associated data. A JSON list keeps the parts apart: no two places can give the same bytes."""
    place = (table, row, field)
    if not all(isinstance(part, str) and part for part in place):
        raise VaultError("A sealed document needs the table, row and field it belongs to, each as text.")
    return json.dumps(["switchboard", VERSION, *place], separators=(",", ":")).encode("ascii")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _split(token: str) -> tuple[str, bytes]:
    """Key id and sealed bytes of a token in its one valid spelling.

    Python's decoder skips foreign characters and ignores spare bits of the last one. Both are refused here, because a token that was
    changed in any bit has to stay closed.
    """
    version, key_id, text = parts if isinstance(token, str) and len(parts := token.split(".")) == 3 else ("", "", "")
    if version != VERSION or not _KEY_ID.fullmatch(key_id):
        raise VaultError("This is not a sealed document of a known version.")
    try:
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        sealed = b""
    if len(sealed) < NONCE_BYTES + TAG_BYTES or _encode(sealed) != text:
        raise VaultError("The sealed text is damaged.")
    return key_id, sealed
