"""What the tests of the pages share: requests as htmx sends them, and short ways to what an answer says."""

from __future__ import annotations

import html
import json
import re

from django.urls import reverse

from accounts.models import Account
from conversations.models import Conversation

HX = {"HX-Request": "true"}


def text_of(response) -> str:
    return html.unescape(response.content.decode())


def toast_of(response) -> dict:
    return json.loads(response.headers.get("HX-Trigger", "{}")).get("toast", {})


def events_of(response) -> set[str]:
    return set(json.loads(response.headers.get("HX-Trigger", "{}"))) - {"toast"}


def ids_in(response) -> list[int]:
    return [int(number) for number in re.findall(r'<tr id="row-(\d+)"', response.content.decode())]


def url(name: str, conversation: Conversation, *more) -> str:
    return reverse(f"conversation_{name}", args=[conversation.pk, *more])


def other_model(account: Account, conversation: Conversation) -> str:
    return account.catalogue.exclude(model_id=conversation.model).first().model_id


def some_row(account: Account, **values) -> Conversation:
    return account.conversations.select_related("account").filter(**values).exclude(untitled=True).first()
