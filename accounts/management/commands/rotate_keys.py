"""`manage.py rotate_keys`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from accounts import rotation
from accounts.cli import TerminalCommand, to_json


class Command(TerminalCommand):
    """Seals everything that is stored with the newest encryption key; afterwards the older keys can go."""

    help = "Seals everything that is stored with the newest encryption key; afterwards the older keys can go."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declares the options."""
        parser.add_argument("--check", action="store_true", help="only count; the exit code is 1 when something waits for the newest key")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Prints what is so now; ends with 1 while something is sealed with an older key."""
        report = asdict(rotation.look() if options["check"] else rotation.rotate())
        if options["check"]:
            report = {name: report[name] for name in ("sealed", "stale")}
        if options["json"]:
            self.stdout.write(to_json(report))
        else:
            for name, value in report.items():
                self.stdout.write(f"{name}: {value}")
        if report["stale"]:
            sys.exit(1)
