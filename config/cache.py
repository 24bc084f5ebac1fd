"""The cache stores JSON: what lies in Redis is read as data and can never be code, as a pickle could."""

import json
from typing import Any


class JSONSerializer:
    """Serializer of Django's Redis cache for values made of text, numbers, lists and dicts; counters stay plain numbers."""

    def __init__(self, protocol: object = None) -> None:
        """Accept and ignore the pickle protocol that the cache client may pass."""

    def dumps(self, value: Any) -> bytes | int:
        """Return the stored form; an int stays one, because Redis counts with it. Raises TypeError for what JSON cannot hold."""
        if type(value) is int:
            return value
        return json.dumps(value, separators=(",", ":")).encode()

    def loads(self, data: bytes) -> Any:
        """Return the value of a stored form."""
        return json.loads(data)
