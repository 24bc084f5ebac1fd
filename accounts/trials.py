"""Trying a typed credential: how often a person may, and what the last try of exactly these values found.

What was found is kept for ten minutes under a keyed fingerprint of the person, the address and the credential. So saving after a good
test does not ask the provider again, a browser cannot claim a test that never took place, and no secret is kept anywhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.utils.crypto import salted_hmac

from . import explain, services
from .models import User
from .services import TestReport

REMEMBERED = 600  # seconds
PER_MINUTE = {"typed": 20, "stored": 60}  # tests of typed credentials, and of those of accounts that are there


class TooManyTests(Exception):
    """This person has tested too often within the last minute; `wait` is the number of seconds until they may again."""

    def __init__(self, wait: int) -> None:
        super().__init__(f"wait {wait} s")
        self.wait = wait


def count(user: User, what: str) -> None:
    """Counts one test of a person; raises TooManyTests beyond PER_MINUTE[what]."""
    now = time.time()
    key = f"account-tests:{what}:{user.pk}:{int(now // 60)}"
    cache.add(key, 0, 60)
    if cache.incr(key) > PER_MINUTE[what]:
        raise TooManyTests(60 - int(now % 60))


def test(user: User, provider_key: str, base_url: str, credentials: Mapping[str, str]) -> TestReport:
    """Tries a credential at its provider and remembers what was found; raises TooManyTests."""
    count(user, "typed")
    report = services.test_credentials(provider_key, base_url, credentials)
    cache.set(_key(user, provider_key, base_url, credentials), _to_json(report), REMEMBERED)
    return report


test.__test__ = False  # type: ignore[attr-defined]


def recall(user: User, provider_key: str, base_url: str, credentials: Mapping[str, str]) -> TestReport | None:
    """Returns what this person's last test of exactly these values found, None when there was none lately."""
    kept = cache.get(_key(user, provider_key, base_url, credentials))
    return _from_json(kept) if kept else None


def _key(user: User, provider_key: str, base_url: str, credentials: Mapping[str, str]) -> str:
    values = json.dumps([user.pk, provider_key, base_url, sorted(credentials.items())])
    return "account-test:" + salted_hmac("accounts.trials", values, algorithm="sha256").hexdigest()


def _to_json(report: TestReport) -> dict[str, Any]:
    kept = {name: value for name, value in asdict(report).items() if name not in ("error", "models_error")}
    kept["expires_at"] = report.expires_at.isoformat() if report.expires_at else None
    for name in ("error", "models_error"):
        found = getattr(report, name)
        kept[name] = explain.pack(found) if found else ""
    return kept


def _from_json(kept: dict[str, Any]) -> TestReport:
    expires_at = datetime.fromisoformat(kept["expires_at"]) if kept["expires_at"] else None
    errors = {name: explain.unpack(kept[name]) for name in ("error", "models_error")}
    return TestReport(**(kept | {"expires_at": expires_at} | errors))
