"""S6: a stored credential is ciphertext bound to its row and column; moved or with any bit flipped it does not open."""

from __future__ import annotations

import base64
import os
import subprocess
import sys

import pytest
from django.apps import apps
from django.conf import settings
from django.db import models

from accounts import services, vault
from accounts.models import Account
from accounts.providers.errors import CredentialsRejected
from tests.conftest import ROOT
from tests.conversations.support import make_user


def test_s06_what_is_stored_is_not_the_credential_and_opens_to_it(connected) -> None:
    simulator, account = connected("aurod")
    stored = account.sealed_credentials
    secrets = [simulator.credential()[field.name] for field in account.provider.credential_fields if field.secret]
    opened = {value.reveal() for value in services.credentials_of(account).values()}
    assert set(secrets) <= opened and not [secret for secret in secrets if secret in stored]
    sealed = base64.urlsafe_b64decode(stored.split(".")[2] + "==")
    assert not [secret for secret in secrets if secret.encode() in sealed]


def test_s06_ciphertext_moved_to_another_row_or_column_does_not_open(connected) -> None:
    _simulator, one = connected("aurod", label="one")
    _other, two = connected("aurod", label="two")
    Account.objects.filter(pk=one.pk).update(sealed_credentials=two.sealed_credentials, sealed_kept=one.sealed_credentials)
    one.refresh_from_db()
    with pytest.raises(CredentialsRejected):
        services.credentials_of(one)
    with pytest.raises(vault.VaultError):
        vault.open_sealed(one.sealed_kept, table=services.TABLE, row=str(one.pk), field="kept")


def test_s06_with_any_bit_flipped_it_does_not_open(connected) -> None:
    _simulator, account = connected("chatnio")
    version, key, text = account.sealed_credentials.split(".")
    sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    for bit in range(0, len(sealed) * 8, 7):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        account.sealed_credentials = f"{version}.{key}.{base64.urlsafe_b64encode(flipped).decode().rstrip('=')}"
        with pytest.raises(CredentialsRejected):
            services.credentials_of(account)


def test_s06_sharing_and_hand_over_do_not_touch_the_seal(connected) -> None:
    _simulator, account = connected("aurod")
    Account.objects.filter(pk=account.pk).update(owner=make_user("bob@example.com"))
    assert services.credentials_of(Account.objects.get(pk=account.pk))


def test_s06_rows_that_hold_seals_know_their_id_before_they_are_sealed() -> None:
    holders = [model for model in apps.get_models() if any(field.name.startswith("sealed") for field in model._meta.fields)]
    assert Account in holders
    assert [model for model in holders if not isinstance(model._meta.pk, models.UUIDField)] == []


def test_s06_the_keys_are_not_the_secret_key_and_production_does_not_start_without_them(tmp_path) -> None:
    assert settings.SECRET_KEY not in settings.ENCRYPTION_KEYS
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SWITCHBOARD_") and name != "DATABASE_URL"}
    environment |= {"SWITCHBOARD_ENV": "production", "SWITCHBOARD_DATA_DIR": str(tmp_path), "SWITCHBOARD_ALLOWED_HOSTS": "x.example"}
    environment |= {"SWITCHBOARD_SECRET_KEY": base64.b64encode(os.urandom(48)).decode(), "DJANGO_SETTINGS_MODULE": "config.settings"}

    def start(**more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from django.conf import settings; print(len(settings.ENCRYPTION_KEYS))"]
        return subprocess.run(command, cwd=ROOT, env=environment | more, capture_output=True, text=True, timeout=60, check=False)

    refused = start()
    assert refused.returncode != 0 and "SWITCHBOARD_ENCRYPTION_KEYS" in refused.stderr
    assert start(SWITCHBOARD_ENCRYPTION_KEYS=vault.new_key()).stdout.strip() == "1"
