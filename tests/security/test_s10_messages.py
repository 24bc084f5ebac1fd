"""S10: messages are JSON with ids only; one that somebody forged does nothing that its job's author may not do."""

from __future__ import annotations

import base64
import json
import pickle
import re
import uuid
from pathlib import Path

import pytest
from django.conf import settings
from kombu import Connection
from kombu.exceptions import ContentDisallowed
from kombu.serialization import dumps, loads

from accounts.models import Account
from config.celery import app
from conversations import jobs, lanes, tasks, wake
from conversations.models import JobItem
from tests.conversations.support import make_user

from .conftest import planned

ID = re.compile(r"[0-9]{1,19}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_s10_what_lies_in_the_broker_is_json_with_ids_only(place, alice, redis_client, django_capture_on_commit_callbacks) -> None:
    redis_client.delete("celery")
    assert jobs.start(alice, place.draft)
    wake.check(place.draft.pk, place.account.pk)
    wake.sync(place.account.pk)
    messages = [json.loads(text) for text in redis_client.lrange("celery", 0, -1)]
    assert {message["headers"]["task"] for message in messages} >= {"conversations.run_lane", "conversations.check_preview", "conversations.sync"}
    for message in messages:
        assert message["content-type"] == "application/json"
        arguments, named, _embedded = json.loads(base64.b64decode(message["body"]))
        assert named == {} and arguments and all(ID.fullmatch(argument) for argument in arguments), arguments


def test_s10_every_task_takes_ids_only() -> None:
    ours = {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}
    assert len(ours) >= 6
    for name, task in ours.items():
        given = [argument for argument in task.run.__annotations__ if argument != "return"]
        assert all(argument.endswith("_id") for argument in given), name


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_s10_a_pickle_is_refused_unopened(tmp_path) -> None:
    assert list(app.conf.accept_content) == ["json"] and app.conf.task_serializer == "json"
    kind, encoding, payload = dumps(Bomb(tmp_path / "opened"), serializer="pickle")
    with pytest.raises(ContentDisallowed):
        loads(payload, kind, encoding, accept=app.conf.accept_content)
    assert not (tmp_path / "opened").exists()


def test_s10_a_worker_refuses_a_pickle_and_goes_on(celery_worker_process, alice, tmp_path) -> None:
    headers = {"lang": "py", "task": "conversations.sync", "id": str(uuid.uuid4()), "argsrepr": "", "kwargsrepr": "", "retries": 0}
    with Connection(settings.CELERY_BROKER_URL) as connection, connection.SimpleQueue("celery") as queue:
        body = pickle.dumps(([Bomb(tmp_path / "opened")], {}, {}))
        queue.producer.publish(
            body, routing_key="celery", headers=headers, content_type="application/x-python-serialize", content_encoding="binary", serializer=None
        )
    celery_worker_process.wait_for("Refusing to deserialize|ContentDisallowed|disallowed")
    app.send_task("conversations.reap")
    celery_worker_process.wait_for(r"conversations\.reap\S* succeeded")
    assert not (tmp_path / "opened").exists()


def test_s10_a_forged_message_changes_nothing_that_its_author_may_not(place, alice) -> None:
    assert jobs.start(alice, place.draft)
    Account.objects.filter(pk=place.account.pk).update(owner=make_user("bob@example.com"))
    place.simulator.log.clear()
    before = place.simulator.truth()
    tasks.run_lane(str(place.account.pk))
    while lanes.run_lane(place.account.pk):
        pass
    assert place.simulator.writes() == [] and place.simulator.truth() == before
    assert set(JobItem.objects.filter(job=place.draft).values_list("reason", flat=True)) == {"access_removed"}


def test_s10_a_message_without_an_order_behind_it_does_nothing(place, alice) -> None:
    draft = planned(alice, place.account, place.draft.params["targets"][str(place.account.pk)])
    place.simulator.log.clear()
    tasks.run_lane(str(place.account.pk))  # the previews are nobody's order
    tasks.sync(str(place.account.pk))  # nobody asked for a reading
    for stranger in (str(uuid.uuid4()), str(place.account.pk)):
        tasks.run_lane(stranger)
    tasks.check_preview("999999", str(place.account.pk))
    draft.refresh_from_db()
    assert draft.order == "draft" and place.simulator.writes() == []
