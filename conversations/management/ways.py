"""What `jobs start` may do to each conversation: the options, and the parameters of the job that they stand for."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from accounts.cli import pairs_of, read_text, wrong_usage
from accounts.models import Account, User

from .. import list_files, lists, targets
from ..models import Action, Job

# What each action takes: the options by their names here, and as they are written.
WAYS: dict[Action, tuple[tuple[str, ...], str]] = {
    Action.SWITCH_MODEL: (("to", "map", "csv"), "--to MODEL, --map FILE or --csv FILE"),
    Action.SET_TITLE: (("template", "find", "csv"), "--template T, --find TEXT or --csv FILE"),
    Action.CONFIGURE: (("set", "unset"), "--set KEY=VALUE or --unset KEY"),
    Action.RESTORE: (("undo",), "--undo JOB"),
}
TOGETHER = {"set", "unset"}  # all other options of an action exclude each other
FILTERS = ("account", "model", "search", "ids")


def add_ways(parser: ArgumentParser) -> None:
    """Declares the options; exactly one of them says how (but --set and --unset may both be given)."""
    parser.add_argument("--to", metavar="MODEL", help="the model to switch to (its catalogue id)")
    parser.add_argument("--map", metavar="FILE|-", help="the models to switch to by account or provider, as JSON or CSV")
    parser.add_argument("--template", metavar="T", help="the title to set, with {first_message}, {title}, {model}, {account}, {date}, {n}")
    parser.add_argument("--find", metavar="TEXT", help="what is replaced in each title")
    parser.add_argument("--replace", metavar="TEXT", help="what is put in place of --find; nothing by default")
    parser.add_argument("--regex", action="store_true", help="--find is a regular expression, and --replace may hold \\1, \\2 …")
    parser.add_argument("--keep-titles", action="store_true", help="with --template: leave out conversations whose title a person chose")
    parser.add_argument("--csv", metavar="FILE|-", help="a list of conversations with a new title or model each, as CSV or JSON")
    parser.add_argument("--set", action="extend", nargs="+", metavar="KEY=VALUE", help="a setting by the provider's name for it")
    parser.add_argument("--unset", action="extend", nargs="+", metavar="KEY", help="a setting to return to the provider's default")
    parser.add_argument("--undo", metavar="JOB", help="the job to undo, as far as its conversations are selected")


def check_ways(given: Namespace) -> None:
    """Ends the command with 2 for options that do not belong together."""
    action = Action(given.action)
    names, wording = WAYS[action]
    asked = {name for taken, _wording in WAYS.values() for name in taken if getattr(given, name) is not None}
    if not asked or not asked <= set(names) or (len(asked) > 1 and not asked <= TOGETHER):
        wrong_usage(f"{action.value} takes {wording}")
    if given.find is None and (given.replace is not None or given.regex):
        wrong_usage("--replace and --regex belong to --find")
    if given.keep_titles and given.template is None:
        wrong_usage("--keep-titles belongs to --template")
    narrowed = [f"--{name}" for name in FILTERS if getattr(given, name)]
    if given.csv is not None and narrowed:
        wrong_usage(f"--csv names the conversations itself; {', '.join(narrowed)} cannot narrow it")


def params_of(user: User, given: Namespace) -> dict[str, Any]:
    """Returns the parameters of the job, for every way but a list and an undo.

    Whoever writes a command has chosen the conversations: titles that people chose are replaced too, unless --keep-titles is given.
    """
    if given.action == Action.CONFIGURE:
        return {"config": {"*": pairs_of(given.set or ()) | dict.fromkeys(given.unset or ())}}
    if given.map is not None:
        return {"targets": targets.read(read_text(given.map), Account.objects.editable_by(user))}
    if given.to is not None:
        return {"targets": {"*": given.to}}
    if given.find is not None:
        return {"find": given.find, "replace": given.replace or ""} | ({"regex": True} if given.regex else {})
    return {"template": given.template} | ({} if given.keep_titles else {"include_hand_made": True})


def planned_list(user: User, given: Namespace) -> Job:
    """Returns the draft of what a list names; ends the command with 2 when the file cannot be opened."""
    try:
        data = sys.stdin.buffer.read() if given.csv == "-" else Path(given.csv).read_bytes()
    except OSError as error:
        wrong_usage(f"cannot read {given.csv}: {error.strerror}")
    return lists.begin(user, given.action, list_files.decode(data), name="" if given.csv == "-" else Path(given.csv).name)
