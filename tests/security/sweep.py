"""The sweep: known secrets, and every place in which they must not be: answers, logs, Redis with its messages and sessions, the database."""

from __future__ import annotations

import base64
import html
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import RequestFactory

from config.logging import OneLineFormatter

from .walk import body

PIECE = 16


class Lines(logging.Handler):
    """Everything that the product's formatter makes of what is logged, from DEBUG on."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def lines() -> Iterator[Lines]:
    """Listens to everything that is logged."""
    handler, root = Lines(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


class Sweep:
    """Looks for secrets and remembers where it found one."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.wanted = needles(secrets)
        self.found: dict[str, list[str]] = {}
        self.looked = 0

    def look(self, where: str, text: str) -> None:
        """Searches a text."""
        self.looked += 1
        if bad := [f"…{text[max(0, text.index(word) - 60) : text.index(word)]}‹secret›" for word in self.wanted if word in text]:
            self.found[where] = bad

    def answer(self, where: str, answer: Any) -> Any:
        """Searches an answer with its headers and cookies, the messages for the next page among them, and returns it."""
        self.look(where, body(answer))
        if kept := answer.cookies.get("messages"):
            request = RequestFactory().get("/", HTTP_COOKIE=f"messages={kept.value}")
            self.look(f"{where}, messages", repr([str(message) for message in CookieStorage(request)]))
        return answer

    def machinery(self, log: Lines, redis_client: Any) -> None:
        """Searches what lies behind the pages: the log, Redis and the database."""
        for key in redis_client.scan_iter("*"):
            self.look(f"redis {key!r}", everything_at(redis_client, key))
        for table, text in dump():
            self.look(f"database {table}", text)
        self.look("sessions", "\n".join(repr(session.get_decoded()) for session in Session.objects.all()))
        for line in log.lines:
            self.look(f"log {line[:80]}", line)


def needles(values: Iterable[str]) -> list[str]:
    """Returns every form in which a secret might stand somewhere: whole, quoted, escaped, in base64, in hex, and pieces but for its last four."""
    found: set[str] = set()
    for value in values:
        found |= {value, quote(value, safe=""), html.escape(value), json.dumps(value)[1:-1], value.encode().hex()}
        found.add(base64.b64encode(value.encode()).decode().rstrip("="))
        if len(value) >= PIECE:
            found |= {value[-PIECE - 4 : -4], value[len(value) // 2 - PIECE // 2 :][:PIECE]}
        if len(value) >= 80:
            found.add(value[40 : 40 + PIECE])  # of a JWT the first that is not the same for all
        found |= {part.partition("=")[2] for part in value.split("; ") if "=" in part and len(part.partition("=")[2]) > 12}
    return sorted(found, key=len, reverse=True)


def dump() -> Iterator[tuple[str, str]]:
    """Yields the whole database as text: each table, and on SQLite also what its own dump and its files say."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            rows = cursor.fetchall()
            yield table, "\n".join(repr([bytes(value) if isinstance(value, memoryview) else value for value in row]) for row in rows)
    if connection.vendor == "sqlite":
        name = str(connection.settings_dict["NAME"])
        with sqlite3.connect(name) as other:
            yield "iterdump", "\n".join(other.iterdump())
        for path in (Path(name), Path(f"{name}-wal")):
            if path.exists():
                yield path.suffix, path.read_bytes().decode("latin-1")


def everything_at(redis_client: Any, key: bytes) -> str:
    """Returns what lies at a key, and of messages to workers also the body, which is base64."""
    reading = {
        "list": lambda: redis_client.lrange(key, 0, -1),
        "hash": lambda: redis_client.hgetall(key),
        "set": lambda: redis_client.smembers(key),
        "zset": lambda: redis_client.zrange(key, 0, -1, withscores=True),
        "string": lambda: redis_client.get(key),
    }
    kind = redis_client.type(key).decode()
    value = reading[kind]()
    return f"{key!r} {value!r} {' '.join(messages(value if isinstance(value, list) else []))}"


def messages(values: Iterable[Any]) -> Iterator[str]:
    """Yields the bodies of messages to workers."""
    for value in values:
        with suppress(ValueError, TypeError, KeyError):
            yield base64.b64decode(json.loads(value)["body"]).decode()


def echo(request: web.Request, status: int = 500) -> web.Response:
    """A failure that repeats all it was sent, as gateways and debug pages do: with names, and bare, so that no shape gives a secret away."""
    text = f"no route for {request.path_qs} with " + " ".join(f"{name}: {value}" for name, value in request.headers.items())
    bare = " ".join(part.rpartition("=")[2] for value in request.headers.values() for part in value.split("; "))
    told = f"no route, was given {bare} {text}"
    said = {"code": status, "message": told, "msg": told, "error": told, "success": False, "requestId": text}
    return web.json_response(said, status=status)
