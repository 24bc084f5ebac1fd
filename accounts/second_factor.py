"""Second factors: the seeds that the sign-in library keeps are sealed, each to the person it belongs to.

The library asks its adapter to encrypt and decrypt a text, and tells neither whose it is. Who signs up a factor is who is signed in. When a
row is read, its seed is marked with the person of the row, so that one that was copied into another person's row does not open.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.totp import forms as library
from allauth.mfa.totp.internal import auth
from django import forms
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from . import vault

TABLE = "mfa_authenticator"
FIELDS = ("secret", "seed")  # of a row's data: the seed of the codes of an app, and that of the recovery codes


class OwnedText(str):
    """A sealed text as it came from a row, with the id of the person whose row it is."""

    owner: str

    def __new__(cls, text: str, owner: object = "") -> OwnedText:
        """Return the text, marked."""
        owned = super().__new__(cls, text)
        owned.owner = str(owner)
        return owned


def mark_owner(instance: Any, **kwargs: Any) -> None:
    """Receiver of post_init of the library's Authenticator: notes with each sealed text whose row it came from."""
    data = instance.__dict__.get("data")
    if isinstance(data, dict):
        data.update({name: OwnedText(data[name], instance.user_id) for name in FIELDS if isinstance(data.get(name), str)})


def seal_seed(seed: str, owner: object) -> str:
    """Returns the seed sealed to a person."""
    return vault.seal({"seed": seed}, table=TABLE, row=str(owner), field="data")


def open_seed(sealed: str, owner: object) -> str:
    """Returns a seed that was sealed to this person; raises vault.VaultError for any other."""
    return vault.open_sealed(sealed, table=TABLE, row=str(owner), field="data")["seed"].reveal()


class MFAAdapter(DefaultMFAAdapter):
    """Seals what the library stores, and names things as this product does."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": gettext_lazy("This is not accepted. A code of the app is good for half a minute and once, a recovery code once."),
        "does_not_open": gettext_lazy("What is stored for your second factor does not open. Ask an owner of this installation."),
    }

    def encrypt(self, text: str) -> str:
        """Return the text sealed to whoever is signed in."""
        return seal_seed(text, context.request.user.pk)

    def decrypt(self, encrypted_text: str) -> str:
        """Return the text of a sealed one that was read from a row."""
        owner = encrypted_text.owner if isinstance(encrypted_text, OwnedText) else context.request.user.pk
        try:
            return open_seed(str(encrypted_text), owner)
        except vault.VaultError as error:
            raise self.validation_error("does_not_open") from error

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        """Return the name that a new passkey has until its person chooses another one."""
        return _("Passkey")

    def _get_site_name(self) -> str:
        return "Switchboard"


class ActivateTOTPForm(library.ActivateTOTPForm):
    """The library's form for switching on the codes of an app, with the seed sealed while it waits in the session for its first code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.user = kwargs.pop("user")
        forms.Form.__init__(self, *args, **kwargs)
        self.secret = self._pending_seed()

    def _pending_seed(self) -> str:
        """Return the seed that the page showed; a page that is shown anew gets a new one."""
        session, place = context.request.session, {"table": "session", "row": str(self.user.pk), "field": "totp"}
        sealed = session.get(auth.SECRET_SESSION_KEY) if self.is_bound else None
        if sealed:
            return vault.open_sealed(sealed, **place)["seed"].reveal()
        seed = auth.generate_totp_secret()
        session[auth.SECRET_SESSION_KEY] = vault.seal({"seed": seed}, **place)
        return seed


class SealedSeeds:
    """The seeds in the library's rows, as the rotation of keys takes them (rotation.Source); an id is (row, person, name in the row's data)."""

    name = "mfa.Authenticator.data"

    def tokens(self) -> Iterator[tuple[tuple[Any, Any, str], str]]:
        """Yields them row by row."""
        rows = Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN).order_by("pk")
        for pk, owner, data in list(rows.values_list("pk", "user_id", "data")):
            yield from (((pk, owner, name), data[name]) for name in FIELDS if name in data)

    def place(self, pk: tuple[Any, Any, str]) -> dict[str, str]:
        """Returns what the seal of a seed is bound to."""
        return {"table": TABLE, "row": str(pk[1]), "field": "data"}

    def replace(self, pk: tuple[Any, Any, str], old: str, new: str) -> bool:
        """Writes `new` unless the row has been given another seed."""
        with transaction.atomic():
            row = Authenticator.objects.select_for_update().filter(pk=pk[0]).first()
            if row is None or row.data.get(pk[2]) != old:
                return False
            row.data[pk[2]] = new
            row.save(update_fields=["data"])
        return True


def remove_all(user: Any) -> int:
    """Removes every second factor and passkey of a person, recovery codes with them; returns how many that were."""
    return Authenticator.objects.filter(user=user).delete()[0]
