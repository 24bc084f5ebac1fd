"""`manage.py serve`: the whole installation in one terminal."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config.supervisor import Supervisor


class Command(BaseCommand):
    """Starts Redis, web server, worker and beat, and ends them together."""

    help = "Run Redis, the web server, a worker and beat until Ctrl-C; --demo adds simulated providers and demo data."
    # The parts check what they need when they start; the database may not even exist yet.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--demo", action="store_true", help="also start the simulated providers and create the demo data")

    def handle(self, *args: Any, demo: bool, **options: Any) -> None:
        sys.exit(Supervisor(demo=demo, say=self._say).run())

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
