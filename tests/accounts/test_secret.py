"""S9: a secret in memory is an opaque object."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.template import Context, Engine
from django.utils.html import escape, format_html

from accounts.providers.secret import Secret

TEXT = "sk-synthetic-0123456789-wxyz"
MASK = "••••wxyz"


@dataclasses.dataclass
class Holder:
    """What a provider might keep a credential in."""

    secret: Secret


def _logged(secret: Secret) -> str:
    stream = io.StringIO()
    logger = logging.Logger("test")
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("%s %r", secret, {"key": secret})
    return stream.getvalue()


def _traced(secret: Secret) -> str:
    try:
        raise ValueError(secret)
    except ValueError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        ascii,
        lambda s: f"{s}",
        lambda s: f"{s!r:>40}",
        lambda s: format(s, ">40"),
        lambda s: f"{s:s}",
        lambda s: "{}".format(s),  # noqa: UP032
        lambda s: "%s" % s,  # noqa: UP031
        lambda s: "%(a)s" % {"a": s},  # noqa: UP031
        lambda s: repr([s, {"key": s}]),
        lambda s: repr(Holder(s)),
        lambda s: str(dataclasses.asdict(Holder(s))),
        lambda s: pprint.pformat({"key": s}),
        lambda s: json.dumps({"key": s}, default=str),
        escape,
        lambda s: format_html("<b>{}</b>", s),
        _logged,
        _traced,
        lambda s: repr(ValueError(s)),
    ],
)
def test_s09_every_way_to_text_prints_the_mask(show: Callable[[Secret], str]) -> None:
    shown = show(Secret(TEXT))
    assert "synthetic" not in shown
    assert "wxyz" in shown


@pytest.mark.parametrize(
    "use",
    [
        json.dumps,
        lambda s: json.dumps({"key": s}, cls=DjangoJSONEncoder),
        lambda s: json.dumps({s: 1}),
        pickle.dumps,
        lambda s: pickle.dumps({"key": s}, protocol=0),
        lambda s: pickle.dumps(Holder(s)),
        lambda s: s.__reduce__(),
        lambda s: s.__reduce_ex__(4),
        lambda s: s.__getstate__(),
        vars,
        lambda s: s + "x",
        lambda s: "x" + s,
        lambda s: s * 2,
        lambda s: "".join([s]),
        lambda s: "Bearer ".__add__(s) + "",
        iter,
        list,
        lambda s: [*s],
        len,
        reversed,
        lambda s: s[0],
        lambda s: "s" in s,
        lambda s: s < Secret("x"),
        sorted,
        bytes,
        lambda s: bytes(s, "utf-8"),
        int,
        lambda s: io.StringIO().write(s),
        lambda s: "sk-synthetic".startswith(s),
        lambda s: s("call"),
    ],
)
def test_s09_every_use_as_text_is_refused(use: Callable[[Secret], Any]) -> None:
    with pytest.raises(TypeError) as refusal:
        use(Secret(TEXT))
    assert "synthetic" not in str(refusal.value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ secret }}", MASK),
        ("{{ secret.last4 }}", "wxyz"),
        ("{{ secret.reveal }}", ""),
        ("{{ holder.secret }}{{ holder.secret.reveal }}", MASK),
        ("{% with s=secret.reveal %}{{ s }}{% endwith %}", ""),
        ("{{ secret|safe }}", MASK),
        ("{{ secret|escapejs }}", None),
        ("{{ secret|slice:':3' }}", MASK),
        ("{{ secret|add:'x' }}", ""),
        ("{{ secret|stringformat:'r' }}", None),
        ("{{ secret|length }}", "0"),
        ("{{ secret|make_list }}", None),
        ("{{ secret|pprint }}", None),
        ("{{ secret.0 }}", ""),
        ("{{ secret|json_script:'x' }}", TypeError),
        ("{% for letter in secret %}{{ letter }}{% endfor %}", TypeError),
    ],
)
def test_s09_templates_get_the_mask_or_nothing(template: str, expected: str | type[Exception] | None) -> None:
    context = Context({"secret": Secret(TEXT), "holder": Holder(Secret(TEXT))})
    compiled = Engine().from_string(template)
    if isinstance(expected, type):
        with pytest.raises(expected):
            compiled.render(context)
        return
    shown = compiled.render(context)
    assert "synthetic" not in shown
    assert expected is None or shown == expected


def test_s09_a_template_cannot_reach_the_private_attribute() -> None:
    from django.template import TemplateSyntaxError

    with pytest.raises(TemplateSyntaxError):
        Engine().from_string("{{ secret._Secret__text }}")


def test_s09_reveal_is_the_way_and_the_mask_follows_the_length() -> None:
    assert Secret(TEXT).reveal() == TEXT
    assert type(Secret(TEXT).reveal()) is str
    assert (str(Secret("elevenchars")), Secret("elevenchars").last4) == ("••••", "")
    assert (str(Secret("twelve-chars")), Secret("twelve-chars").last4) == ("••••hars", "hars")
    assert str(Secret("")) == "••••"


def test_s09_equality_hash_and_truth() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret(TEXT + "!")
    assert Secret("ключ \ud800") == Secret("ключ \ud800")
    assert Secret(TEXT) != TEXT
    assert len({Secret(TEXT), Secret(TEXT), Secret("other")}) == 2
    assert Secret("x")
    assert not Secret("")


def test_s09_copies_are_the_object_itself() -> None:
    secret = Secret(TEXT)
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"key": [secret]})["key"][0] is secret


def test_s09_is_sealed_against_change_and_inheritance() -> None:
    secret = Secret(TEXT)
    for attempt in (lambda: setattr(secret, "_Secret__text", "x"), lambda: setattr(secret, "extra", 1), lambda: delattr(secret, "_Secret__text")):
        with pytest.raises(AttributeError):
            attempt()
    with pytest.raises(TypeError):
        type("Leaky", (Secret,), {})
    assert secret.reveal() == TEXT


def test_s09_takes_text_only_and_does_not_repeat_what_it_was_given() -> None:
    with pytest.raises(TypeError) as refusal:
        Secret(b"sk-synthetic")  # type: ignore[arg-type]
    assert "synthetic" not in str(refusal.value)

    class Tagged(str):
        def __str__(self) -> str:
            return "something else"

    assert Secret(Tagged(TEXT)).reveal() == TEXT
    assert type(Secret(Tagged(TEXT)).reveal()) is str
