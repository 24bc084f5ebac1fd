"""Chat histories that come as one JSON text, in whichever form somebody wrote it down (OpenAI-like messages, one or several lists of them).

The forms are those of section 5, Messages, of the ModelRouter contract: nothing; text, once or twice encoded; an object with `messages`; an
object of histories by model; an array of messages; an array of objects that name a model. Reading never raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..records import Json, RemoteMessage
from ..schema import gettext_noop
from .reading import message_key, text

_ = gettext_noop

UNREADABLE = _("The history of this conversation is unreadable: it is not valid JSON.")
UNKNOWN_FORM = _("The history of this conversation has a form that is not known here, so no messages are shown.")
SEVERAL = _("This conversation keeps one history per model; they follow one another.")
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "system": "system", "developer": "system", "tool": "tool", "function": "tool"}

Messages = tuple[Mapping[str, Json], ...]


@dataclass(frozen=True, slots=True)
class History:
    """(model label, messages) for each history, the settings beside them, and a sentence where it cannot be shown."""

    parts: tuple[tuple[str, Messages], ...] = ()
    settings: Mapping[str, Json] = field(default_factory=dict)
    note: str = ""

    @property
    def count(self) -> int:
        """How many messages there are in all histories together."""
        return sum(len(messages) for _label, messages in self.parts)

    def messages(self) -> Iterator[RemoteMessage]:
        """Yields all messages, one history after the other; without ids of their own, position and content identify them."""
        entries = ((label, entry) for label, part in self.parts for entry in part)
        return (message(entry, position, label=label) for position, (label, entry) in enumerate(entries, 1))

    def first_user_text(self) -> str | None:
        """Returns the text of the first message of the user that has text."""
        said = (_content(entry.get("content"))[0] for _label, part in self.parts for entry in part if role_of(entry) == "user")
        return next((words for words in said if words.strip()), None)


def read_history(stored: Json) -> History:
    """Returns the history in a stored value, in any of the forms named above."""
    for _layer in range(2):
        if isinstance(stored, str) and stored:
            try:
                stored = json.loads(stored)
            except (ValueError, RecursionError):
                return History(note=UNREADABLE)
    if stored in (None, "", {}, []):
        return History()
    if (one := _messages_in(stored)) is not None:
        return History((("", one),), {name: value for name, value in stored.items() if name != "messages"} if isinstance(stored, dict) else {})
    if isinstance(stored, dict):
        found = {name: part for name, value in stored.items() if (part := _messages_in(value)) is not None}
        settings = {name: value for name, value in stored.items() if name not in found}
        return History(tuple(found.items()), settings) if found else History(note=UNKNOWN_FORM)
    entries = [entry for entry in stored if isinstance(entry, dict)] if isinstance(stored, list) else []
    labelled = [(str(entry.get("modelId") or entry.get("model") or ""), part) for entry in entries if (part := _messages_in(entry)) is not None]
    return History(tuple(labelled)) if labelled else History(note=UNKNOWN_FORM)


def _messages_in(value: Json) -> Messages | None:
    """Returns the messages of an array of messages, or of an object with a `messages` array; None for anything else."""
    if isinstance(value, dict):
        value = value.get("messages")
    if not isinstance(value, list):
        return None
    messages = tuple(entry for entry in value if isinstance(entry, dict) and "role" in entry)
    return messages if messages or not value else None


def role_of(entry: Mapping[str, Json], otherwise: str = "assistant") -> str:
    """Returns who said a message; a role that is none of the known ones counts as `otherwise`."""
    return _ROLES.get(str(entry.get("role")).lower(), otherwise)


def message(entry: Mapping[str, Json], position: int, *, label: str = "", otherwise: str = "assistant") -> RemoteMessage:
    """Returns an OpenAI-like message of a model called `label`; a role that is none of the known ones counts as `otherwise`."""
    content, images, files = _content(entry.get("content"))
    role = role_of(entry, otherwise)
    calls = entry.get("tool_calls")
    called = [entry.get("function_call"), *(call.get("function") for call in (calls if isinstance(calls, list) else ()) if isinstance(call, dict))]
    named = [text(call.get("name")) or "tool" for call in called if isinstance(call, dict)]
    return RemoteMessage(
        key=message_key(position, label, role, content),
        role=role,
        text=content,
        position=position,
        model=text(label) or text(entry.get("model")) or None,
        reasoning=text(entry.get("reasoning_content")),
        images=images,
        files=files,
        tools=tuple(named if role != "tool" or not text(entry.get("name")) else [text(entry["name"])]),
    )


def _content(content: Json) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Returns (text, image addresses, other attachments) of a `content`: text, an array of parts, or null."""
    texts: list[str] = []
    images: list[str] = []
    files: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(text(part))
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(text(part["text"]))
        elif isinstance(part, dict):
            given = part.get("image_url")
            address = text(given.get("url") if isinstance(given, dict) else given)
            if address.startswith(("https://", "http://")):
                images.append(address)
            else:
                files.append(text(part.get("type")) or "attachment")
        elif part is not None:
            texts.append(json.dumps(part))
    return "\n\n".join(texts), tuple(images), tuple(files)
