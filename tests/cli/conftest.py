from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.process import CommandLine
from tests.conftest import child_environment
from tests.conversations.conftest import alice, connected, serve  # noqa: F401


@pytest.fixture(scope="session")
def command_line(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The way to run commands, shared by all tests: its processes see the database of the run."""
    line = CommandLine(child_environment, tmp_path_factory.mktemp("streams"))
    yield line
    line.stop()


@pytest.fixture
def run(command_line: CommandLine, transactional_db: None) -> CommandLine:
    """A function that runs a command: `run("accounts", "list", "--json").lines`."""
    command_line.seen.clear()
    return command_line


@pytest.fixture
def file(tmp_path: Path):
    """A function that writes a text into a file and returns its path."""

    def write(text: str | bytes, name: str = "given.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write
