"""Every provider has a strict simulator and a row in the contract suite; the open questions of all contracts are printed."""

from __future__ import annotations

import importlib
import inspect
import time
from pathlib import Path

import pytest

from accounts.providers import all_providers
from accounts.providers.base import Provider
from tests.providers.contract import ContractSuite
from tests.simulators.kit import Simulator
from tests.simulators.registry import simulators


def rows() -> dict[str, list[type[ContractSuite]]]:
    """Returns the suite's subclasses that pytest collects, by provider key."""
    found: dict[str, list[type[ContractSuite]]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for value in vars(importlib.import_module(f"{__package__}.{path.stem}")).values():
            if inspect.isclass(value) and issubclass(value, ContractSuite) and value is not ContractSuite and value.__name__.startswith("Test"):
                found.setdefault(value.key, []).append(value)
    return found


@pytest.mark.parametrize("provider", all_providers(), ids=lambda provider: provider.key)
def test_every_provider_has_a_simulator_and_a_row(provider: type[Provider]) -> None:
    assert provider.key in {kind.key for kind in simulators()}, f"tests/simulators/{provider.key}.py is missing"
    assert provider.key in rows(), f"tests/providers/test_{provider.key}.py holds no subclass of ContractSuite"


def test_there_is_no_simulator_and_no_row_without_a_provider() -> None:
    keys = {provider.key for provider in all_providers()}
    assert {kind.key for kind in simulators()} <= keys
    assert set(rows()) <= keys


@pytest.mark.parametrize("kind", simulators(), ids=lambda kind: kind.key)
def test_every_switch_has_answers_that_differ(kind: type[Simulator]) -> None:
    for name, answers in kind.SWITCHES.items():
        assert len(answers) >= 2 and len(set(answers)) == len(answers), name


@pytest.mark.parametrize("kind", simulators(), ids=lambda kind: kind.key)
def test_a_credential_asked_for_twice_is_the_same(kind: type[Simulator], monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = kind()
    before = simulator.credential(), simulator.second_credential()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert (simulator.credential(), simulator.second_credential()) == before


@pytest.mark.parametrize("key", sorted(rows()))
def test_no_row_leaves_a_shared_test_out(key: str) -> None:
    shared = {name for name in vars(ContractSuite) if name.startswith("test_")}
    for row in rows()[key]:
        own = {name for name in shared if getattr(row, name) is not getattr(ContractSuite, name)}
        replaced = {name for name in own if f"super().{name}(" not in inspect.getsource(getattr(row, name))}
        assert not replaced, f"{row.__name__} replaces {', '.join(sorted(replaced))}"


def test_the_open_questions_of_all_contracts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{kind.key:<13} {name} = {' | '.join(answers)}" for kind in simulators() for name, answers in kind.SWITCHES.items()]
    with capsys.disabled():
        print("\nSwitches of the simulators, the likeliest answer first; the suite runs every one:")
        print("\n".join(lines))
    assert len(lines) == sum(len(kind.SWITCHES) for kind in simulators()) > 0
