"""Celery's connection to a Redis that goes away while a task runs. The fault campaign found it: half of the workers ended then."""

from __future__ import annotations

import pytest
from django.conf import settings
from kombu import Connection
from kombu.log import get_logger


@pytest.fixture
def delivered():
    """A message that was delivered and is not acknowledged."""
    with Connection(settings.CELERY_BROKER_URL) as connection:
        channel = connection.channel()
        channel.queue_declare("test-broker")
        channel.basic_publish(channel.prepare_message("{}"), exchange="", routing_key="test-broker")
        message = channel.basic_get("test-broker")
        assert message is not None and channel.qos._delivered
        yield message
        message.channel.qos._delivered.clear()  # nothing is left to be given back when the tests end


def test_closing_after_the_connection_was_lost_ends_no_worker(delivered):
    channel = delivered.channel
    channel.connection.client = None  # as kombu leaves it
    channel.close()
    assert channel.closed and not channel.qos._delivered
    channel.close()


def test_acknowledging_after_the_connection_was_lost_ends_no_worker(delivered, caplog):
    channel = delivered.channel
    channel._disconnect_pools()
    channel.connection = None  # as kombu leaves it
    with Connection(settings.CELERY_BROKER_URL) as other:
        delivered.ack_log_error(get_logger("kombu"), other.connection_errors)  # as a worker acknowledges
    assert "Couldn't ack" in caplog.text


def test_while_redis_answers_a_message_goes_back(delivered, redis_client):
    delivered.channel.close()
    assert redis_client.llen("test-broker") == 1
