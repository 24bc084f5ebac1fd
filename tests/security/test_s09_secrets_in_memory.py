"""S9: a secret in memory is an object that every way to text refuses or masks."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.template import Context, Template

from accounts import services
from accounts.providers.secret import Secret

TEXT = "synthetic-secret-0123456789"

REFUSED = {
    "JSON": lambda secret: json.dumps({"a": secret}),
    "Django's JSON": lambda secret: json.dumps({"a": secret}, cls=DjangoJSONEncoder),
    "pickle": pickle.dumps,
    "concatenation": lambda secret: "x" + secret,
    "concatenation from the left": lambda secret: secret + "x",
    "join": lambda secret: "".join([secret]),
    "iteration": list,
    "bytes": bytes,
    "index": lambda secret: secret[0],
}
MASKED = {
    "str": str,
    "repr": repr,
    "f-string": lambda secret: f"{secret}",
    "format": "{}".format,
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
    "in a list": lambda secret: repr([secret, {"a": secret}]),
    "template": lambda secret: Template("{{ a }} {{ a|safe }} {{ a.reveal }} {{ a|upper }}").render(Context({"a": secret})),
    "in a loop of a template": lambda secret: Template("{% for x in b %}{{ x }}{% endfor %}").render(Context({"b": [secret]})),
    "copy": lambda secret: repr(copy.deepcopy(secret)),
}


@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED)
def test_s09_is_refused(use) -> None:
    with pytest.raises((TypeError, AttributeError)) as refusal:
        use(Secret(TEXT))
    assert TEXT not in str(refusal.value)


@pytest.mark.parametrize("use", MASKED.values(), ids=MASKED)
def test_s09_prints_a_mask(use) -> None:
    assert TEXT[:12] not in use(Secret(TEXT))


def test_s09_what_comes_out_of_the_vault_are_such_objects(connected) -> None:
    _simulator, account = connected("aurod")
    opened = services.credentials_of(account)
    assert opened and all(type(value) is Secret for value in opened.values())
    assert not isinstance(next(iter(opened.values())), str)
