"""Celery: messages are wake-ups, the database is the queue. Nothing is kept in Redis that would be missed."""

import logging.config
import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings

from . import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# A web request that sends a wake-up must not hang on a Redis that is gone: the reaper makes up for a lost one.
PUBLISH_RETRIES = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}


def _configuration() -> dict[str, Any]:
    """Return the configuration; called when it is first needed, because the settings import this package while they load."""
    return {
        "broker_url": settings.CELERY_BROKER_URL,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": 3600,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": 5,
        },
        "task_publish_retry_policy": PUBLISH_RETRIES,
        "result_backend": None,
        "task_ignore_result": True,
        "task_track_started": False,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        "worker_hijack_root_logger": False,
        "enable_utc": True,
        "timezone": "UTC",
        "beat_schedule_filename": str(settings.DATA_DIR / "celerybeat-schedule"),
        # A message expires when the next one is due: while no worker runs, they must not pile up.
        "beat_schedule": {
            "reap": {"task": "conversations.reap", "schedule": 5.0, "options": {"expires": 5}},
            "sync-due": {"task": "conversations.sync_due", "schedule": 60.0, "options": {"expires": 60}},
            "delete-old-jobs": {"task": "conversations.delete_old_jobs", "schedule": 3600.0, "options": {"expires": 3600}},
            "check-accounts": {"task": "accounts.check_due", "schedule": 60.0, "options": {"expires": 60}},
            "prune-requests": {"task": "accounts.prune_requests", "schedule": 600.0, "options": {"expires": 600}},
        },
    }


broker.install()
app = Celery("switchboard")
app.add_defaults(_configuration)
app.autodiscover_tasks()


@setup_logging.connect
def use_our_logging(**_kwargs: object) -> None:
    """Keep Celery from installing handlers of its own, which would write what ours mask."""
    logging.config.dictConfig(settings.LOGGING)
