"""What the tests of signing in share: codes of an app, sessions that are old, and everything that is stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import redis
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client

from accounts.recent import SIGNED_IN_AT
from tests.conversations.support import PASSWORD

LOGIN = "/auth/login/"
SECURITY = "/me/security/"


class Clock:
    """The half minutes that the codes of an app count, standing still: a test that crosses one would fail now and then."""

    def __init__(self) -> None:
        self.counter = int(time.time()) // 30

    def counters(self) -> Iterator[int]:
        """In place of the library's own look at the time."""
        yield self.counter

    def code(self, seed: str) -> str:
        """Returns what an app shows now (RFC 6238, SHA-1, six digits)."""
        digest = hmac.new(base64.b32decode(seed), struct.pack(">Q", self.counter), hashlib.sha1).digest()
        offset = digest[-1] & 15
        return f"{(struct.unpack('>I', digest[offset : offset + 4])[0] & 0x7FFFFFFF) % 1_000_000:06d}"

    def tick(self) -> None:
        """Lets the next half minute begin."""
        self.counter += 1


def sign_in(email: str = "alice@example.com", password: str = PASSWORD, **extra: Any) -> Client:
    """Returns a browser that has sent the form of the sign-in page."""
    client = Client(**extra)
    client.post(LOGIN, {"login": email, "password": password})
    return client


def is_in(client: Client) -> bool:
    """Tells whether the browser is signed in."""
    return client.get(SECURITY).status_code == 200


def session_of(client: Client) -> Any:
    """Returns what the server stores for the browser, read anew."""
    return import_module(settings.SESSION_ENGINE).SessionStore(client.cookies[settings.SESSION_COOKIE_NAME].value)


def make_old(client: Client, seconds: float = 901) -> None:
    """Lets the proof that the browser's person gave be older than it may be for what is sensitive."""
    session = session_of(client)
    session[SIGNED_IN_AT] -= seconds
    session["account_authentication_methods"] = [
        record | {"at": record["at"] - seconds} for record in session.get("account_authentication_methods", [])
    ]
    session.save()


def switch_totp_on(client: Client, clock: Clock) -> str:
    """Switches the codes of an app on as a person does; returns the seed."""
    seed = client.get("/me/security/app/on/").context["form"].secret
    assert client.post("/me/security/app/on/", {"code": clock.code(seed)}).status_code == 302
    clock.tick()
    return seed


def everything_stored(redis_client: redis.Redis) -> str:
    """Returns the rows of all tables, the sessions in them once more as what they say, and the cache, as one text."""
    parts = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            parts += [repr(row) for row in cursor.fetchall()]
    parts += [json.dumps(session.get_decoded()) for session in Session.objects.all()]
    with redis.Redis.from_url(settings.CACHES["default"]["LOCATION"]) as cache:
        parts += [f"{key!r}: {cache.dump(key)!r}" for key in cache.scan_iter()]
    return "\n".join(parts)
