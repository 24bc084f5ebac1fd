"""Signs of life of the worker processes, so that a page can say the truth: somebody works, or nobody does since when."""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress
from datetime import datetime, timedelta

from django.db import Error, connection
from django.utils import timezone

from .models import Worker

logger = logging.getLogger(__name__)
BEAT = 5.0
ALIVE = timedelta(seconds=20)


def name() -> str:
    """Returns the name of this worker process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def beat() -> None:
    """Notes that this process is alive and forgets those that have been silent for a day."""
    now = timezone.now()
    Worker.objects.update_or_create(name=name(), defaults={"seen_at": now}, create_defaults={"seen_at": now, "started_at": now})
    Worker.objects.filter(seen_at__lt=now - timedelta(days=1)).delete()


def beat_forever(stop: threading.Event) -> None:
    """Goes on noting from a thread of its own until the worker stops; then takes the note away."""

    def run() -> None:
        while True:
            try:
                beat()
            except Error as error:  # also that of a connection which ended: the next beat opens another one
                logger.warning("heartbeat not written: %s", type(error).__name__)
                connection.close()
            if stop.wait(BEAT):
                break
        with suppress(Error):
            Worker.objects.filter(name=name()).delete()
        connection.close()

    threading.Thread(target=run, name="heartbeat", daemon=True).start()


def online() -> int:
    """Returns how many worker processes gave a sign of life lately."""
    return Worker.objects.filter(seen_at__gte=timezone.now() - ALIVE).count()


def last_seen() -> datetime | None:
    """Returns when any worker last gave a sign of life, None when none is known."""
    return Worker.objects.order_by("-seen_at").values_list("seen_at", flat=True).first()


def known() -> list[tuple[Worker, bool]]:
    """Returns every worker process heard of within a day, the latest first, and whether it is alive."""
    alive = timezone.now() - ALIVE
    return [(worker, worker.seen_at >= alive) for worker in Worker.objects.order_by("-seen_at")]
