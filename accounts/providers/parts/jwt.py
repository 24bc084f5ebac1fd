"""What a JSON Web Token says about itself, read without verifying it: good for showing an end date, never for deciding anything."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any


def claims(token: str) -> dict[str, Any]:
    """Returns the claims of a token, {} when it is not one."""
    middle = [*token.split("."), ""][1]
    try:
        found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def expiry(token: str) -> datetime | None:
    """Returns the time that the claim `exp` names, None when the token tells none."""
    try:
        return datetime.fromtimestamp(float(claims(token)["exp"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
