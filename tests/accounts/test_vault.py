"""S6: credentials at rest. S7's half that belongs to the vault: which tokens are stale."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from accounts import vault
from accounts.providers.secret import Secret
from accounts.vault import VaultError

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
DOCUMENT = {"token": "synthetic-token-0123456789", "cookie": "name=值; other=\n"}
PLACE = {"table": "accounts_account", "row": "6f1e6f52-0000-4000-8000-000000000001", "field": "credentials"}


@pytest.fixture(autouse=True)
def _one_key() -> Iterator[None]:
    with override_settings(ENCRYPTION_KEYS=[OLD]):
        yield


def _revealed(document: dict[str, Secret]) -> dict[str, str]:
    return {name: value.reveal() for name, value in document.items()}


def test_s06_what_is_sealed_opens_at_its_place_as_secrets() -> None:
    token = vault.seal(DOCUMENT, **PLACE)
    opened = vault.open_sealed(token, **PLACE)
    assert all(isinstance(value, Secret) for value in opened.values())
    assert _revealed(opened) == DOCUMENT
    assert vault.open_sealed(vault.seal({}, **PLACE), **PLACE) == {}


def test_s06_the_token_is_text_without_the_document_and_different_each_time() -> None:
    first, second = vault.seal(DOCUMENT, **PLACE), vault.seal(DOCUMENT, **PLACE)
    assert first != second
    version, key_id, body = first.split(".")
    assert version == "v1"
    assert len(key_id) == 8
    assert set(body) <= set(string.ascii_letters + string.digits + "-_")
    sealed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    assert b"synthetic" not in sealed
    # The cipher is what the statement says: AES-256 in GCM with a 12-byte nonce opens it, given the bound place.
    binding = json.dumps(["switchboard", "v1", *PLACE.values()], separators=(",", ":")).encode()
    assert json.loads(AESGCM(base64.b64decode(OLD)).decrypt(sealed[:12], sealed[12:], binding)) == DOCUMENT


@pytest.mark.parametrize(
    "place",
    [
        {**PLACE, "row": "6f1e6f52-0000-4000-8000-000000000002"},
        {**PLACE, "table": "accounts_user"},
        {**PLACE, "field": "kept"},
        # The same characters, cut differently.
        {"table": "accounts_accoun", "row": "t" + PLACE["row"], "field": PLACE["field"]},
        {"table": PLACE["row"], "row": PLACE["table"], "field": PLACE["field"]},
    ],
)
def test_s06_a_token_moved_elsewhere_does_not_open(place: dict[str, str]) -> None:
    token = vault.seal(DOCUMENT, **PLACE)
    with pytest.raises(VaultError, match="does not open"):
        vault.open_sealed(token, **place)


def test_s06_a_token_with_any_bit_flipped_does_not_open() -> None:
    token = vault.seal({"a": "b"}, **PLACE)
    flipped = {token[:at] + chr(ord(token[at]) ^ 1 << bit) + token[at + 1 :] for at in range(len(token)) for bit in range(7)}
    assert len(flipped) == 7 * len(token)
    for damaged in flipped:
        with pytest.raises(VaultError):
            vault.open_sealed(damaged, **PLACE)


def test_s06_every_bit_of_the_sealed_bytes_counts() -> None:
    version, key_id, body = vault.seal({"a": "b"}, **PLACE).split(".")
    sealed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    for at in range(len(sealed)):
        for bit in range(8):
            damaged = sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :]
            text = base64.urlsafe_b64encode(damaged).rstrip(b"=").decode()
            with pytest.raises(VaultError, match="does not open"):
                vault.open_sealed(f"{version}.{key_id}.{text}", **PLACE)


@pytest.mark.parametrize(
    "change", [lambda t: t + "=", lambda t: t + "\n", lambda t: " " + t, lambda t: t[:-1], lambda t: t + "AA", lambda t: t.replace(".", "..")]
)
def test_s06_a_token_has_one_spelling(change) -> None:
    token = vault.seal(DOCUMENT, **PLACE)
    with pytest.raises(VaultError):
        vault.open_sealed(change(token), **PLACE)


@pytest.mark.parametrize(
    "token", ["", ".", "v1", "v1..", "v1.0011aabb.", "v1.0011aabb.AAAA", "v2.0011aabb." + "A" * 60, "v1.ключ." + "A" * 60, None, b"v1.x.y"]
)
def test_s06_what_is_no_token_is_refused(token) -> None:
    with pytest.raises(VaultError):
        vault.open_sealed(token, **PLACE)
    with pytest.raises(VaultError):
        vault.is_stale(token)


@pytest.mark.parametrize("place", [{**PLACE, "row": ""}, {**PLACE, "row": None}, {**PLACE, "table": ""}, {**PLACE, "field": 1}])
def test_s06_an_incomplete_place_is_refused_before_anything_is_sealed(place) -> None:
    with pytest.raises(VaultError, match="table, row and field"):
        vault.seal(DOCUMENT, **place)


def test_s06_errors_hold_neither_document_nor_key() -> None:
    token = vault.seal(DOCUMENT, **PLACE)
    broken = [
        lambda: vault.open_sealed(token, **{**PLACE, "row": "elsewhere"}),
        lambda: vault.open_sealed(token[:-2], **PLACE),
        lambda: vault.seal({"token": b"synthetic-token"}, **PLACE),  # type: ignore[dict-item]
    ]
    not_a_document = vault._ring_of((OLD,))
    (key_id, cipher), nonce = next(iter(not_a_document.items())), b"n" * 12
    body = vault._encode(nonce + cipher.encrypt(nonce, b'["synthetic", oops', vault._binding(**PLACE)))
    broken.append(lambda: vault.open_sealed(f"v1.{key_id}.{body}", **PLACE))
    for attempt in broken:
        with pytest.raises(VaultError) as failure:
            attempt()
        error: BaseException | None = failure.value
        while error is not None:
            assert "synthetic" not in repr(error) + repr(vars(error))
            assert OLD not in repr(error)
            error = error.__cause__ or error.__context__


def test_s06_keys_that_are_no_keys_are_named_by_number_only() -> None:
    short = base64.b64encode(b"synthetic-but-short").decode()
    for keys, message in (([], "empty"), ([OLD, short], "Key 2"), (["not base64 !"], "Key 1"), ([OLD[:-4]], "Key 1")):
        with override_settings(ENCRYPTION_KEYS=keys), pytest.raises(VaultError, match=message) as failure:
            vault.seal(DOCUMENT, **PLACE)
        assert not any(key in str(failure.value) for key in keys)


def test_s07_after_a_rotation_old_tokens_open_and_are_stale_until_sealed_anew() -> None:
    token = vault.seal(DOCUMENT, **PLACE)
    assert not vault.is_stale(token)
    with override_settings(ENCRYPTION_KEYS=[NEW, OLD]):
        assert vault.is_stale(token)
        opened = vault.open_sealed(token, **PLACE)
        assert _revealed(opened) == DOCUMENT
        renewed = vault.seal(opened, **PLACE)
        assert not vault.is_stale(renewed)
    with override_settings(ENCRYPTION_KEYS=[NEW]):
        assert _revealed(vault.open_sealed(renewed, **PLACE)) == DOCUMENT
        assert vault.is_stale(token)
        with pytest.raises(VaultError, match="not among ENCRYPTION_KEYS"):
            vault.open_sealed(token, **PLACE)


def test_s06_new_keys_are_32_bytes_usable_and_never_the_same() -> None:
    keys = {vault.new_key() for _ in range(50)}
    assert len(keys) == 50
    assert all(len(base64.b64decode(key, validate=True)) == 32 for key in keys)
    key = keys.pop()
    with override_settings(ENCRYPTION_KEYS=[key]):
        token = vault.seal(DOCUMENT, **PLACE)
    # The same key in its URL-safe spelling is the same key.
    with override_settings(ENCRYPTION_KEYS=[key.translate(str.maketrans("+/", "-_"))]):
        assert _revealed(vault.open_sealed(token, **PLACE)) == DOCUMENT


@given(document=st.dictionaries(st.text(max_size=20), st.text(max_size=200), max_size=5), row=st.text(min_size=1, max_size=40))
def test_s06_any_text_survives(document: dict[str, str], row: str) -> None:
    place = {**PLACE, "row": row}
    assert _revealed(vault.open_sealed(vault.seal(document, **place), **place)) == document
