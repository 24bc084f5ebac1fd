"""What `jobs start` may do to each conversation: the options, and the parameters of the job that they stand for."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from accounts.cli import wrong_usage
from accounts.models import User

from .. import list_files, lists
from ..models import Action, Job

WAYS = {
    Action.SWITCH_MODEL: ("to", "csv"),
    Action.SET_TITLE: ("template", "find", "csv"),
}
PARAMETERS = {Action.SWITCH_MODEL: "--to MODEL or --csv FILE", Action.SET_TITLE: "--template T, --find TEXT or --csv FILE"}
FILTERS = ("account", "model", "search", "ids")


def add_ways(parser: ArgumentParser) -> None:
    """Declares the options; exactly one of them says how."""
    aim = parser.add_mutually_exclusive_group(required=True)
    aim.add_argument("--to", metavar="MODEL", help="the model to switch to (its catalogue id)")
    aim.add_argument("--template", metavar="T", help="the title to set, with {first_message}, {title}, {model}, {account}, {date}, {n}")
    aim.add_argument("--find", metavar="TEXT", help="what is replaced in each title")
    aim.add_argument("--csv", metavar="FILE|-", help="a list of conversations with a new title or model each, as CSV or JSON")
    parser.add_argument("--replace", metavar="TEXT", help="what is put in place of --find; nothing by default")
    parser.add_argument("--regex", action="store_true", help="--find is a regular expression, and --replace may hold \\1, \\2 …")
    parser.add_argument("--keep-titles", action="store_true", help="with --template: leave out conversations whose title a person chose")


def check_ways(given: Namespace) -> None:
    """Ends the command with 2 for options that do not belong together."""
    action = Action(given.action)
    ways = WAYS.get(action, ())
    if not any(getattr(given, way) is not None for way in ways):
        wrong_usage(f"{action.value} takes {PARAMETERS.get(action, 'no such option')}")
    if given.find is None and (given.replace is not None or given.regex):
        wrong_usage("--replace and --regex belong to --find")
    if given.keep_titles and given.template is None:
        wrong_usage("--keep-titles belongs to --template")
    narrowed = [f"--{name}" for name in FILTERS if getattr(given, name)]
    if given.csv is not None and narrowed:
        wrong_usage(f"--csv names the conversations itself; {', '.join(narrowed)} cannot narrow it")


def params_of(given: Namespace) -> dict[str, Any]:
    """Returns the parameters of the job, for every way but a list.

    Whoever writes a command has chosen the conversations: titles that people chose are replaced too, unless --keep-titles is given.
    """
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
