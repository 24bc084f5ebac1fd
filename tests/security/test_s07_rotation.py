"""S7: rotation seals every row anew, can be interrupted and run again, reports 0 stale; afterwards the old key can go."""

from __future__ import annotations

import json

import pytest
from django.apps import apps
from django.conf import settings as current
from django.core.management import call_command

from accounts import rotation, services, vault
from accounts.models import Account

NEW = vault.new_key()


@pytest.fixture
def accounts(alice) -> list[Account]:
    """Accounts whose seals are old: the ring has a new key in front."""
    return [
        services.add_account(alice, "chatnio", f"shop {number}", "https://api.example.com", {"secret": f"synthetic-{number}"}) for number in range(7)
    ]


@pytest.fixture
def rotated_ring(accounts, settings) -> list[str]:
    """The ring with a new key in front of the one that sealed the accounts."""
    settings.ENCRYPTION_KEYS = [NEW, *current.ENCRYPTION_KEYS]
    return settings.ENCRYPTION_KEYS


def rotate(*arguments: str, capsys) -> tuple[int, dict[str, int]]:
    code = 0
    try:
        call_command("rotate_keys", "--json", *arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, json.loads(capsys.readouterr().out)


def secrets() -> list[str]:
    return [services.credentials_of(account)["secret"].reveal() for account in Account.objects.order_by("label")]


def test_s07_every_row_is_sealed_anew_and_the_old_key_can_go(accounts, rotated_ring, settings, capsys, monkeypatch) -> None:
    monkeypatch.setattr(rotation, "BATCH", 3)
    services.learn(accounts[0], {}, {"token": "fetched"})
    assert rotate("--check", capsys=capsys) == (1, {"sealed": 8, "stale": 7})
    assert rotate(capsys=capsys) == (0, {"sealed": 8, "stale": 0, "resealed": 7, "unreadable": 0})
    assert rotate("--check", capsys=capsys) == (0, {"sealed": 8, "stale": 0})
    settings.ENCRYPTION_KEYS = [NEW]
    assert secrets() == [f"synthetic-{number}" for number in range(7)]
    assert rotate(capsys=capsys) == (0, {"sealed": 8, "stale": 0, "resealed": 0, "unreadable": 0})


def test_s07_an_interrupted_rotation_goes_on_where_it_was(rotated_ring, capsys, monkeypatch) -> None:
    seal, left = vault.seal, iter(range(3))

    def interrupted(*given, **place):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return seal(*given, **place)

    monkeypatch.setattr(vault, "seal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rotation.rotate()
    monkeypatch.undo()
    assert rotation.look().stale == 4 and secrets() == [f"synthetic-{number}" for number in range(7)]
    assert rotate(capsys=capsys)[1] == {"sealed": 7, "stale": 0, "resealed": 4, "unreadable": 0}


def test_s07_a_credential_that_is_replaced_meanwhile_stays_the_new_one(accounts, rotated_ring, monkeypatch) -> None:
    account, seal = accounts[3], vault.seal

    def replaced_meanwhile(document, *, row, **place):
        sealed = seal(document, row=row, **place)
        if row == str(account.pk):
            newer = seal({"secret": "replaced"}, row=row, **place)
            Account.objects.filter(pk=account.pk).update(sealed_credentials=newer)
        return sealed

    monkeypatch.setattr(vault, "seal", replaced_meanwhile)
    report = rotation.rotate()
    assert (report.resealed, report.stale) == (6, 0)
    assert secrets()[3] == "replaced"


def test_s07_what_no_key_opens_is_told_and_left_alone(accounts, rotated_ring, capsys) -> None:
    broken = Account.objects.filter(pk=accounts[0].pk)
    broken.update(sealed_credentials=Account.objects.get(pk=accounts[1].pk).sealed_credentials)  # belongs to another row
    before = broken.get().sealed_credentials
    assert rotate(capsys=capsys) == (1, {"sealed": 7, "stale": 1, "resealed": 6, "unreadable": 1})
    assert broken.get().sealed_credentials == before


def test_s07_every_sealed_field_of_every_model_is_known_to_the_rotation() -> None:
    fields = {f"{model._meta.label}.{field.name}" for model in apps.get_models() for field in model._meta.fields if "sealed" in field.name}
    assert fields and fields <= {source.name for source in rotation.SOURCES}


def test_s07_another_source_takes_part(rotated_ring, monkeypatch) -> None:
    class Elsewhere:
        """Seals that stand in a document, as a login library keeps them."""

        name = "elsewhere"

        def __init__(self, kept):
            self.kept = kept

        def tokens(self):
            yield from self.kept.items()

        def place(self, pk):
            return {"table": "t", "row": str(pk), "field": "f"}

        def replace(self, pk, old, new):
            self.kept[pk] = new
            return True

    with monkeypatch.context() as patched:
        patched.setattr(current, "ENCRYPTION_KEYS", rotated_ring[1:])
        source = Elsewhere({1: vault.seal({"seed": "synthetic"}, table="t", row="1", field="f")})
    monkeypatch.setattr(rotation, "SOURCES", [*rotation.SOURCES, source])
    assert rotation.look().stale == 8
    assert rotation.rotate().stale == 0 and not vault.is_stale(source.kept[1])
