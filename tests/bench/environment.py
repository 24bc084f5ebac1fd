"""An installation of its own for the measurement: data directory, embedded Redis, and a database that is dropped afterwards.

SQLite, unless SWITCHBOARD_TEST_POSTGRES (as `.ci/with-postgres` sets it) or DATABASE_URL names a PostgreSQL server. What else the shell says
about the product must not reach it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parent.parent.parent
_data = ""
_server = ""
_database = f"switchboard_bench_{secrets.token_hex(4)}"


def set_up() -> None:
    """Makes the environment and loads Django; before anything of the product is imported."""
    global _server, _data
    named = os.environ.get("SWITCHBOARD_TEST_POSTGRES") or os.environ.get("DATABASE_URL", "")
    _server = named if named.startswith(("postgres://", "postgresql://")) else ""
    for name in list(os.environ):
        if name.startswith(("SWITCHBOARD_", "CELERY_")) or name in ("DATABASE_URL", "REDIS_URL"):
            del os.environ[name]
    _data = tempfile.mkdtemp(prefix="switchboard-bench-")
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SWITCHBOARD_DATA_DIR": _data,
        "SWITCHBOARD_EGRESS_HTTP_HOSTS": "127.0.0.1",
        "SWITCHBOARD_EGRESS_ALLOW_CIDRS": "127.0.0.0/8",
        "SWITCHBOARD_LOG_LEVEL": "ERROR",
        "SWITCHBOARD_ACCOUNT_CHECK_INTERVAL": str(7 * 24 * 3600),
        "SWITCHBOARD_SYNC_INTERVAL": str(7 * 24 * 3600),  # nothing is read but what a measurement asks for
    }
    if _server:
        _order(f'CREATE DATABASE "{_database}"')
        os.environ["DATABASE_URL"] = urlunsplit(urlsplit(_server)._replace(path=f"/{_database}"))
    import django

    django.setup()


def _order(statement: str) -> None:
    import psycopg

    with psycopg.connect(_server, autocommit=True) as connection:
        connection.execute(statement)


@contextmanager
def running() -> Iterator[int]:
    """Runs Redis on a migrated database, yields its process id, and leaves nothing behind."""
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connection

    from config import redis_server

    try:
        with redis_server.running(settings.REDIS_SOCKET, settings.DATA_DIR / "redis") as process:
            call_command("migrate", verbosity=0)
            yield process.pid
    finally:
        connection.close()
        if _server:
            with suppress(Exception):
                _order(f'DROP DATABASE "{_database}" WITH (FORCE)')
        shutil.rmtree(_data, ignore_errors=True)


def described() -> str:
    """Returns the name and version of the database."""
    from django.db import connection

    if connection.vendor == "sqlite":
        import sqlite3

        return f"SQLite {sqlite3.sqlite_version}"
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return f"PostgreSQL {cursor.fetchone()[0].partition(' ')[0]}"
