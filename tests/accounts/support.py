"""What the tests of the account pages share."""

from __future__ import annotations

import json
import re
from typing import Any

import redis

from accounts.providers import all_providers

HTMX = {"HX-Request": "true"}
KEYS = [provider.key for provider in all_providers()]


def fields(url: str, credential: dict[str, str], **more: str) -> dict[str, str]:
    """Returns what the form sends."""
    return {"label": "Work", "base_url": url} | {f"credential_{name}": value for name, value in credential.items()} | more


def text(response: Any) -> str:
    """Returns the words of an answer, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.content.decode()))


def events(response: Any) -> dict[str, Any]:
    return json.loads(response.headers.get("HX-Trigger", "{}"))


def queued(redis_client: redis.Redis) -> list[str]:
    """Returns the names of the tasks that wait in the broker."""
    return [json.loads(message)["headers"]["task"] for message in redis_client.lrange("celery", 0, -1)]
