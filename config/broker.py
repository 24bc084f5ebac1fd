"""What Celery's Redis transport must not do: end a worker because Redis went away while tasks were running.

Kombu 5.7 asks a connection that it has closed for its address: when it gives back what is not acknowledged, and when a task that began before the
connection was lost is acknowledged after it. The AttributeError ends the worker with everything it runs. Here the same is a connection that
failed, which callers are prepared for. Redis keeps such messages and gives them out again after the visibility timeout; they are only wake-ups,
and the reaper has found the work that they were about long before that.
"""

from __future__ import annotations

import logging
from typing import Any

import redis
from kombu.transport import redis as transport

logger = logging.getLogger(__name__)


class LenientQoS(transport.QoS):
    """Knows which messages are not acknowledged; where Redis cannot be told that they go back, they stay where it keeps them."""

    def restore_unacked(self, client: Any = None) -> None:
        """Gives back what is not acknowledged, if that is still possible."""
        try:
            super().restore_unacked(client)
        except (OSError, redis.RedisError) as error:
            logger.warning("%d messages stay unacknowledged: the broker is away (%s)", len(self._delivered), type(error).__name__)
            self._delivered.clear()


class LenientChannel(transport.Channel):
    """A channel that says so when its connection was closed."""

    QoS = LenientQoS

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection is None or self.connection.client is None:
            raise redis.ConnectionError("The connection to the broker was closed.")
        parameters: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        return parameters


def install() -> None:
    """Lets every connection of this process use them."""
    transport.Transport.Channel = LenientChannel
