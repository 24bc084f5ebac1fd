"""What a capture held, for people: masks, names and sentences, and none of its values."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from . import presenters
from .capture import Capture
from .copied import Form, Loss
from .providers.base import Provider

FORMS = {Form.HEADERS: gettext_noop("request headers"), Form.TOKEN: gettext_noop("a token or key")}  # all other forms have names of their own
HARMLESS = (Loss.LEFT_OUT, Loss.SUPPOSED)  # nothing that is there is wrong for it


def show_capture(found: Capture) -> dict[str, Any]:
    """Returns what a page shows of a capture."""
    provider = found.provider
    labels = {declared.name: _(declared.label) for declared in provider.credential_fields} if provider else {}
    return {
        "form": _(FORMS.get(found.form, found.form.value)),
        "requests": found.requests,
        "provider": provider,
        "mark": presenters.mark_of(provider) if provider else None,
        "base_url": found.base_url,
        "chips": [{"label": labels.get(name, name), "mask": str(value)} for name, value in found.fields.items()],
        "ignored": found.ignored,
        "ignored_more": found.ignored_more,
        "losses": [{"name": labels.get(lost.field) or lost.name, "why": _(lost.why), "damaged": lost.loss not in HARMLESS} for lost in found.losses],
        "missing": [labels.get(name, name) for name in found.missing],
        "expires_at": found.expires_at,
        "refusal": found.refusal,
        "why": _(found.why) if found.why else "",
        "advice": _advice(found),
        "candidates": found.candidates if found.refusal == "unknown" else (),
        "seen": found.seen,
    }


def _advice(found: Capture) -> str:
    """Returns what to do about a refusal."""
    provider: type[Provider] | None = found.provider
    if found.refusal in ("no_credential", "lost") and provider and provider.traces.advice:
        return _(provider.traces.advice)
    if found.refusal == "wrong_host":
        return _("To connect that site, connect it as an account of its own.")
    return ""
