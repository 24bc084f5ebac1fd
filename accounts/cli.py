"""What the management commands share: sub-commands, --json, the person who acts, quiet streams and the exit codes.

0 done, 1 refused or failed (one line on stderr), 2 wrong usage, 3 a job that ended with anything other than applied or unchanged.
Standard output holds the result and nothing else, in UTF-8 whatever the locale; `-v 2` lets the log through to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import redis
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from wcwidth import wcswidth, wcwidth

from config.logging import redact

from .models import Account, User
from .providers.errors import ProviderError

INTERRUPTED = 130
CELL = 60  # columns of a terminal


class TerminalCommand(BaseCommand):
    """A command whose failures are one line on standard error and an exit code, and whose output no log line disturbs."""

    requires_system_checks: list[str] = []
    _called_from_command_line: bool

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Runs the command; called from a program, errors are raised as CommandError, called from a terminal they end the process."""
        with quiet_logs(options.get("verbosity", 1)):
            if not self._called_from_command_line or options.get("traceback"):
                return self._mapped(*args, **options)
            return self._in_terminal(*args, **options)

    def _in_terminal(self, *args: Any, **options: Any) -> str | None:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")
        output: str | None = None
        code = 0
        try:
            output = self._mapped(*args, **options)
            sys.stdout.flush()
        except CommandError as error:
            self.stderr.write("error: " + line_of(error))
            code = error.returncode
        except BrokenPipeError:  # `... | head`: nobody reads any more; what is left in the buffer must not fail once more at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except KeyboardInterrupt:
            code = INTERRUPTED
        # Outside of the handlers, so that half-read queries are let go of before their connection is closed.
        if code:
            sys.exit(code)
        return output

    def _mapped(self, *args: Any, **options: Any) -> str | None:
        """Runs the command with every expected error turned into a CommandError."""
        try:
            return super().execute(*args, **options)
        except ProviderError as error:
            raise CommandError(f"{error.kind}: {error}", returncode=1) from error
        except PermissionDenied as error:
            raise CommandError(str(error) or f"{options.get('user') or 'this user'} may not do that", returncode=1) from error
        except ValidationError as error:
            raise CommandError(errors_of(error), returncode=1) from error
        except redis.RedisError as error:
            cause = f"Redis cannot be reached ({type(error).__name__}); start it with `make run` or set REDIS_URL"
            raise CommandError(cause, returncode=1) from error
        except DatabaseError as error:
            raise CommandError(f"the database refuses: {error}; is it there and migrated (`manage.py migrate`)?", returncode=1) from error
        except UnicodeEncodeError as error:
            raise CommandError("an argument or a file holds characters that are not text", returncode=2) from error


class SubCommand(TerminalCommand):
    """A command with sub-commands: `add_<name>` declares the arguments of one, `do_<name>` carries it out and may return an exit code."""

    subcommands: dict[str, str] = {}  # name -> help

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declares the sub-commands, each with --json."""
        choices = parser.add_subparsers(dest="subcommand", required=True, metavar="{" + ",".join(self.subcommands) + "}")
        for name, text in self.subcommands.items():
            sub = choices.add_parser(name, help=text, description=text)
            sub.add_argument("--json", action="store_true", help="print JSON: one document, or one line per row of a list")
            getattr(self, f"add_{name}")(sub)

    def handle(self, *args: Any, **options: Any) -> None:
        """Carries the sub-command out and ends the process with its exit code when that is not 0."""
        given = Namespace(**options)
        code = getattr(self, f"do_{given.subcommand}")(given)
        if code:
            sys.exit(code)

    # --- output -------------------------------------------------------------------------------------------------------------------

    def rows(self, given: Namespace, rows: Iterable[Mapping[str, Any]]) -> None:
        """Prints a list: a JSON line each, or columns."""
        if given.json:
            for row in rows:
                self.stdout.write(to_json(row))
            return
        shown = [{name: text_of(value) for name, value in row.items()} for row in rows]
        if not shown:
            return
        widths = {name: min(CELL, max(len(name), *(width_of(row[name]) for row in shown))) for name in shown[0]}
        for row in [{name: name for name in widths}, *shown]:
            self.stdout.write("  ".join(cell(row[name], width) for name, width in widths.items()).rstrip())

    def document(self, given: Namespace, row: Mapping[str, Any]) -> None:
        """Prints one thing: a JSON document, or a line per field."""
        if given.json:
            self.stdout.write(to_json(row))
            return
        for name, value in row.items():
            self.stdout.write(f"{name}: {text_of(value)}")


@contextmanager
def quiet_logs(verbosity: int) -> Iterator[None]:
    """Keeps log lines up to WARNING from standard error, unless the person asked for more than the result."""
    before = logging.root.manager.disable
    if verbosity < 2:
        logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


# --- what is printed ----------------------------------------------------------------------------------------------------------------


def to_json(row: Mapping[str, Any]) -> str:
    """Returns one line of JSON; times in ISO 8601, unknown values null."""
    return json.dumps(row, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def text_of(value: Any) -> str:
    """Returns a value for a person's terminal on one line."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict | list | bool):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    return printable(" ".join(str(value).split()))


def printable(text: str) -> str:
    """Returns text whose control characters are escaped: a title must not be able to steer somebody's terminal."""
    return "".join(char if char.isprintable() or char == "\u200d" else char.encode("unicode_escape", "backslashreplace").decode() for char in text)


def width_of(text: str) -> int:
    """Returns how many columns a text takes in a terminal, where a Chinese character takes two."""
    return max(0, wcswidth(text))


def cell(text: str, width: int) -> str:
    """Returns a text that takes exactly `width` columns: cut, or filled up with blanks."""
    if width_of(text) > width:
        kept, used = "", 0
        for char in text:
            used += max(0, wcwidth(char))
            if used >= width:
                break
            kept += char
        text = kept + "…"
    return text + " " * (width - width_of(text))


def line_of(error: Exception) -> str:
    """Returns an error as one line in which nothing that looks like a secret is left."""
    return printable(redact(" ".join(str(error).split())))


def errors_of(error: ValidationError) -> str:
    """Returns a form error as one line, with the names of its fields."""
    if hasattr(error, "error_dict"):
        found = [("" if name == "__all__" else name, item) for name, items in error.error_dict.items() for item in items]
        return "; ".join(": ".join(filter(None, [name, " ".join(item.messages)])) for name, item in found)
    return " ".join(error.messages)


def fail(message: str) -> NoReturn:
    """Ends the command with exit code 1 and one line on stderr."""
    raise CommandError(message, returncode=1)


def wrong_usage(message: str) -> NoReturn:
    """Ends the command with exit code 2 and one line on stderr."""
    raise CommandError(message, returncode=2)


# --- what is given ------------------------------------------------------------------------------------------------------------------


def read_text(name: str) -> str:
    """Returns the contents of a UTF-8 file, or of standard input for "-"; ends the command with 2 when it cannot be read."""
    try:
        if name == "-":
            return sys.stdin.buffer.read().decode("utf-8-sig")
        return Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        source = "standard input" if name == "-" else name
        wrong_usage(f"cannot read {source}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}")


def pairs_of(given: Iterable[str]) -> dict[str, Any]:
    """Returns what --set was given, KEY=VALUE, by key; ends the command with 2 for anything else."""
    found: dict[str, Any] = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not equals or not name:
            wrong_usage(f"--set wants KEY=VALUE, not {entry}")
        found[name] = value
    return found


def positive(text: str) -> int:
    """Returns a whole number above 0, for argparse."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def find_user(email: str) -> User:
    """Returns the user with this address; ends the command with 1 when there is none."""
    try:
        return User.objects.get_by_natural_key(email)
    except User.DoesNotExist:
        fail(f"there is no user {email}")


def acting_user(email: str) -> User:
    """Returns the user in whose name something is done; ends the command with 1 for one who may not even sign in."""
    user = find_user(email)
    if not user.is_active:
        fail(f"{user.email} is not active")
    return user


def find_account(given: str) -> Account:
    """Returns the account with this id; ends the command with 1 when there is none."""
    try:
        return Account.objects.select_related("owner").get(pk=UUID(given))
    except (ValueError, Account.DoesNotExist):
        fail(f"there is no account {given}")


def find_accounts(given: Iterable[str]) -> list[Account]:
    """Returns the accounts with these ids, each once, in the order given; ends the command with 1 when one does not exist."""
    return list({account.pk: account for account in map(find_account, given)}.values())


def actor_for(account: Account, email: str | None) -> User:
    """Returns who acts: the user named, else the account's owner."""
    return acting_user(email) if email else account.owner


def refuse_paused(account: Account) -> None:
    """Ends the command with 1 when nothing may be read or written through the account."""
    if account.paused_at:
        fail(f"{account.label} is paused; resume it first")
