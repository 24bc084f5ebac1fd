"""Sessions in the database, with a copy in Redis that spares a query; they go on while Redis is away (see config/cache.py)."""

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends import cached_db

from config.cache import AWAY


class SessionStore(cached_db.SessionStore):
    """Django's own, but a stranger's session gets its new key, as it does at signing in, also while the copy of the old one cannot be removed.

    Of a person who is signed in such a copy would still be a session; of a stranger it holds nothing that a key should protect.
    """

    def cycle_key(self) -> None:
        """Give the session a new key."""
        is_stranger = SESSION_KEY not in self
        try:
            super().cycle_key()
        except AWAY:  # removing the old one is the last step
            if not is_stranger:
                raise
