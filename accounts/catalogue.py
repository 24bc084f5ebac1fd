"""The models that an account's provider offers: read into rows, those that joined and those that left marked."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from . import services
from .models import Account, CatalogueModel
from .providers.records import RemoteModel
from .providers.schema import Op


def refresh(account: Account) -> int:
    """Reads the account's model catalogue and returns how many models it has; entries that vanished are marked gone, never dropped."""
    if not account.provider.capability(Op.MODELS).available:
        return 0
    return store(account, services.call(account, lambda provider: provider.list_models(), patience=services.BACKGROUND, prompt=False))


@transaction.atomic
def store(account: Account, found: Iterable[RemoteModel]) -> int:
    """Writes a catalogue as just read; raises nothing.

    What joins a catalogue that was known is new since now. What was known once and is back is not, and in a first reading nothing is.
    """
    now = timezone.now()
    known = CatalogueModel.objects.filter(account=account).exists()
    rows = [
        CatalogueModel(
            account=account,
            model_id=entry.id[:200],
            name=entry.name[:200],
            group=entry.group[:100],
            price=entry.price[:100],
            note=entry.note,
            is_default=entry.is_default,
            order=order,
            new_since=now if known else None,
        )
        for order, entry in enumerate(found)
    ]
    CatalogueModel.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["account", "model_id"],
        update_fields=["name", "group", "price", "note", "is_default", "order", "gone_at"],  # not new_since: that holds for rows that are added
    )
    gone = CatalogueModel.objects.filter(account=account, gone_at__isnull=True).exclude(model_id__in=[row.model_id for row in rows])
    gone.update(gone_at=now)
    Account.objects.filter(pk=account.pk).update(models_at=now)
    account.models_at = now
    return len(rows)
