"""docs/providers.md says of every provider what its file declares: name, credential fields, and each operation that is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from accounts.providers import all_providers
from accounts.providers.base import Provider
from accounts.providers.schema import Op, Scope

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
CELLS = {Scope.STORED: "yes", Scope.SHARED: "yes", Scope.PER_MESSAGE: "per message", Scope.NONE: "no"}


def section(provider: type[Provider]) -> str:
    """Returns the text under the provider's own heading, which names it and its key."""
    found = re.search(rf"^## {re.escape(provider.name)} \(`{provider.key}`\)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no heading “{provider.name} (`{provider.key}`)”"
    return found[1]


def table() -> dict[tuple[str, str], str]:
    """Returns (operation, provider key) -> cell of the overview."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
    keys = [cell.strip("`") for cell in rows[0][1:]]
    cells: dict[tuple[str, str], str] = {}
    for label, *row in rows[2:]:
        operation = re.search(r"\(`(\w+)`\)$", label)
        assert operation, label
        assert len(row) == len(keys), label
        cells |= {(operation[1], key): cell for key, cell in zip(keys, row, strict=True)}
    return cells


def test_the_overview_says_what_each_provider_declares() -> None:
    declared = {(str(op), provider.key): CELLS[provider.capability(op).scope] for op in Op for provider in all_providers()}
    assert table() == declared


@pytest.mark.parametrize("provider", all_providers(), ids=lambda provider: provider.key)
def test_every_missing_operation_has_its_reason_and_no_other_has_one(provider: type[Provider]) -> None:
    told = re.findall(r"^- `(\w+)`: (\S.{20,})", section(provider).partition("**Not possible**")[2], re.MULTILINE)
    missing = {str(op) for op in Op if not provider.capability(op).available}
    assert {operation for operation, _reason in told} == missing
    assert len(told) == len(missing)


@pytest.mark.parametrize("provider", all_providers(), ids=lambda provider: provider.key)
def test_every_credential_field_is_named_and_the_example_is_valid(provider: type[Provider]) -> None:
    text = section(provider)
    for field in provider.credential_fields:
        assert re.search(rf"[`\"]{field.name}[`\"]", text), field.name
    example = re.search(r"```json\n(.*?)\n```", text, re.DOTALL)
    assert example
    document = json.loads(example[1])
    assert set(document) <= {field.name for field in provider.credential_fields}
    assert {field.name for field in provider.credential_fields if field.required} <= set(document)
