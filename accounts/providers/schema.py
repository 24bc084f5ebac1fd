"""What a provider declares once and every form, capability table, importer and exporter grows from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


def gettext_noop(text: str) -> str:
    """Marks a text for the message catalogues; templates translate it when they show it."""
    return text


_ = gettext_noop


class Op(StrEnum):
    """The things one can do with an account; the keys of a provider's capability table."""

    CHECK = "check"
    LIST = "list"
    SEARCH = "search"
    READ = "read"
    MESSAGES = "messages"
    FIRST_MESSAGE = "first_message"
    MODELS = "models"
    SWITCH_MODEL = "switch_model"
    RENAME = "rename"
    EDIT_CONFIG = "edit_config"
    GENERATE_TITLE = "generate_title"


class Scope(StrEnum):
    """How far an operation reaches: stored with the conversation, only one message, a setting shared by others, or nowhere."""

    STORED = "stored"
    PER_MESSAGE = "per message"
    SHARED = "shared"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether and how far a provider offers an operation; `reason` is the sentence a disabled control shows, `note` what to know before using it."""

    scope: Scope = Scope.STORED
    reason: str = ""
    note: str = ""

    @property
    def available(self) -> bool:
        """True when the operation does what a person expects: it changes or reads what is stored."""
        return self.scope in (Scope.STORED, Scope.SHARED)


def missing(reason: str, scope: Scope = Scope.NONE) -> Capability:
    """Returns the capability of an operation that is not offered, with the sentence that says why."""
    return Capability(scope, reason)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a provider stands: requests per second, how many at once, and the silence after a refusal without a stated wait (seconds)."""

    rate: float = 5.0
    burst: int = 1
    concurrency: int = 3
    cool_down: float = 2.0


@dataclass(frozen=True, slots=True)
class Field:
    """One value a person may give: a credential field, or a setting of a conversation.

    `kind` is text, textarea, int, number, bool or choice; bounds are inclusive and in the provider's unit; `default_label` says what
    applies when a setting is returned to the provider's default ("" where it cannot be), and `default_value` is what is stored then.
    """

    name: str
    label: str
    kind: str = "text"
    secret: bool = False
    required: bool = False
    help: str = ""
    placeholder: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    max_length: int | None = None
    choices: tuple[tuple[str, str], ...] = ()
    warning: str = ""
    read_only: bool = False
    default_label: str = ""
    default_value: Any = None

    def parse(self, given: Any) -> Any:
        """Returns the value to store for what a form or command line gave (text or JSON).

        Numbers stay int where they are whole, so that 0 does not become 0.0 on its way through a form. Text is never trimmed or
        re-wrapped. None stands for the provider's default. Raises ValueError(message, {params}) with a translatable English message.
        """
        if given is None:
            if self.default_label:
                return self.default_value
            raise ValueError(_("This has no provider default to return to."), {})
        if self.kind in ("int", "number"):
            return self._parse_number(given)
        if self.kind == "bool":
            return self._parse_bool(given)
        text = given if isinstance(given, str) else str(given)
        if self.required and not text.strip():
            raise ValueError(_("This field is required."), {})
        if self.max_length is not None and len(text) > self.max_length:
            raise ValueError(_("At most %(limit)d characters; these are %(length)d."), {"limit": self.max_length, "length": len(text)})
        if self.choices and text not in {value for value, _label in self.choices}:
            raise ValueError(_("“%(value)s” is not one of the choices."), {"value": text})
        return text

    def _parse_number(self, given: Any) -> int | float:
        try:
            number = float(given) if not isinstance(given, bool) else math.nan
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or (self.kind == "int" and not number.is_integer()):
            message = _("Enter a whole number.") if self.kind == "int" else _("Enter a number.")
            raise ValueError(message, {})
        too_low = self.minimum is not None and number < self.minimum
        too_high = self.maximum is not None and number > self.maximum
        if (too_low or too_high) and self.maximum is None:
            raise ValueError(_("Enter %(minimum)s or more."), {"minimum": f"{self.minimum:g}"})
        if too_low or too_high:
            raise ValueError(_("Allowed is %(minimum)s to %(maximum)s."), {"minimum": f"{self.minimum:g}", "maximum": f"{self.maximum:g}"})
        return int(number) if number.is_integer() else number

    def _parse_bool(self, given: Any) -> bool:
        if isinstance(given, bool):
            return given
        if str(given).lower() in ("1", "true", "on", "yes"):
            return True
        if str(given).lower() in ("", "0", "false", "off", "no"):
            return False
        raise ValueError(_("Enter yes or no."), {})


def validate(fields: tuple[Field, ...], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[str, dict[str, Any]]]]:
    """Returns (clean values, errors by field name) for the given values; unknown names are errors too."""
    by_name = {field.name: field for field in fields}
    clean: dict[str, Any] = {}
    errors: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, value in given.items():
        field = by_name.get(name)
        if field is None or field.read_only:
            errors[name] = (_("There is no such setting here: %(name)s."), {"name": name})
            continue
        try:
            clean[name] = field.parse(value)
        except ValueError as error:
            errors[name] = error.args[0], error.args[1]
    return clean, errors
