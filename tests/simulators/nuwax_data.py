"""What the simulated Nuwax server holds: keys, agents, conversations, messages and refusals; all synthetic, the same in every run.

Sections named here are those of providers/nuwax.md. `tests/simulators/nuwax.py` serves it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Row = dict[str, Any]

ACCOUNT_KEY = "ak-" + "1a2b" * 8
AGENT_KEY = "ak-" + "3c4d" * 8
OTHER_KEY = "ak-" + "5e6f" * 8  # of another user
OLD_KEY = "ak-" + "7a8b" * 8  # expired
OFF_KEY = "ak-" + "9c0d" * 8  # switched off
OWNER, STRANGER = 42, 43
TENANT = 1

HELPDESK, MARKET, QUIET, FOREIGN = 88, 91, 95, 97
UNNAMED = "Unnamed conversation"
FIRST_ID = 2_210_000
FIRST_INDEX = 530_000
INDEX_BLOCK = 10_000  # room for each conversation in the server-wide count of message rows
STARTED = 1_767_729_600  # 2026-01-06: in the demo, these conversations lie between those of the other providers
STEP = 3600  # seconds from one conversation to the next
MAX_TITLE = 255
ALL_OF_A_NEGATIVE_LIMIT = 5000

TITLES = (
    "退货流程咨询",
    "Reset a forgotten password",
    "五月市场活动 🎉",
    "Invoice 2026-0417 shows the wrong address",
    "发票抬头怎么修改?",
    "VPN drops every hour",
    "新员工入职清单",
    "Compare the two quotes 💡",
    "会议纪要:第二季度预算",
    "100% cotton or 50_50 blend?",
    "翻译合同第三条",
    "Printer says “PC LOAD LETTER”",
)
QUESTIONS = ("退货需要多久?", "How do I reset my password?", "请把这段话翻译成英文 🙏", "Why does the build fail?\n\n```\nE501 line too long\n```")
ANSWERS = (
    "一般需要三到五个工作日。\n\n1. 提交申请\n2. 寄回商品\n3. 等待退款",
    "Open **Settings → Security** and choose *Reset*.\n\n| step | where |\n| --- | --- |\n| 1 | Settings |\n| 2 | Security |",
    "```python\ndef add(a: int, b: int) -> int:\n    return a + b\n```\n\nCall `add(1, 2)`.",
    "> 重点:先备份,再升级。\n\n- [x] 备份\n- [ ] 升级",
)
XSS = '<script>alert("xss")</script> <img src=x onerror=alert(1)> [link](javascript:alert(1))'

AGENTS: dict[int, Row] = {
    HELPDESK: {"name": "Helpdesk", "type": "ChatBot", "description": "Answers questions about orders", "allowOtherModel": 1},
    MARKET: {"name": "市场助手", "type": "TaskAgent", "description": "写文案", "allowOtherModel": 0},
    QUIET: {"name": "Quiet agent", "type": "ChatBot", "description": None, "allowOtherModel": 0},
    FOREIGN: {"name": "Somebody's agent", "type": "ChatBot", "description": None, "allowOtherModel": 0},
}
SPACES: tuple[Row, ...] = (
    {"id": 17, "tenantId": TENANT, "name": "个人空间", "type": "Personal", "currentUserRole": "Owner"},
    {"id": 21, "tenantId": TENANT, "name": "Support team", "type": "Team", "currentUserRole": "User"},
    {"id": 30, "tenantId": TENANT, "name": "Left last week", "type": "Team", "currentUserRole": None},  # not open to this user any more
)
# space -> (id, name, identifier, enabled); one model stands in two spaces
MODELS: dict[int, tuple[tuple[int, str, str, int], ...]] = {
    17: ((305, "Kimi K2", "kimi-k2", 1), (306, "通义千问-Max", "qwen-max", 1)),
    21: ((411, "DeepSeek V3", "deepseek-chat", 1), (412, "Old model", "old-1", 0), (305, "Kimi K2", "kimi-k2", 1)),
}


@dataclass
class Key:
    """One API key: `agent` is set for an agent key, `only` limits an account key to some catalogue entries."""

    user: int
    agent: int | None = None
    on: bool = True
    expired: bool = False
    only: frozenset[str] | None = None


@dataclass
class Conversation:
    """What the server holds of one conversation: `row` is the object of section 4 in short form, `text` its cached JSON."""

    row: Row
    count: int = 4
    look: str = ""  # which kind of messages it has
    base: int = 0
    messages: list[Row] | None = None
    text: str = ""


class Refused(Exception):
    """A failure as the envelope tells it; `code` and the message in both languages."""

    def __init__(self, code: str, english: str, chinese: str = "") -> None:
        super().__init__(code)
        self.code, self.english, self.chinese = code, english, chinese or english


def expired_key() -> Refused:
    """Returns the refusal of an expired key."""
    return Refused("4030", "API Key expired.", "API Key 已过期")


def no_permission() -> Refused:
    """Returns the refusal of a key limited to other entries, or of a stranger to a space."""
    return Refused("4030", "Permission denied.", "无权限")


def not_granted() -> Refused:
    """Returns the refusal of a path that is not in the catalogue or not granted to the user's role."""
    return Refused("4030", "API not found or permission denied.", "API 不存在或无权限")


def invalid_conversation() -> Refused:
    """Returns the one refusal for unknown, foreign and unreachable conversations, in English always."""
    return Refused("0001", "Invalid conversationId")


def crash() -> Refused:
    """Returns a crash, in Chinese always."""
    return Refused("5000", "系统开小差啦，请稍后重试")


def too_many(unit: str) -> Refused:
    """Returns the refusal for the rate: of this minute, or of this day."""
    if unit == "minute":
        return Refused("4290", "Exceeded per-minute request frequency limit.", "每分钟请求次数超限")
    return Refused("4290", "Exceeded daily request frequency limit.", "每日请求次数超限")


def like(topic: str) -> re.Pattern[str]:
    """Returns SQL's LIKE '%topic%': % and _ are wildcards, a backslash takes the next character as it is."""
    parts, place = [], 0
    while place < len(topic):
        char = topic[place]
        if char == "\\" and place + 1 < len(topic):
            place += 1
            parts.append(re.escape(topic[place]))
        else:
            parts.append({"%": ".*", "_": "."}.get(char, re.escape(char)))
        place += 1
    return re.compile(f".*{''.join(parts)}.*", re.DOTALL | re.IGNORECASE)


def stamp(seconds: int, number: int, switches: Mapping[str, str]) -> str:
    """Returns a time as section 2 writes it; `number` makes up the milliseconds where a switch wants some."""
    told = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{told}.{number % 1000 if switches['timestamps'] == 'milliseconds' else 0:03d}+00:00"


def make_conversation(place: int, agent: int, title: str, *, count: int = 4, look: str = "", age: int | None = None, **row: Any) -> Conversation:
    """Returns the conversation with running number `place`; `age` says when it was changed, `row` overrides fields of section 4."""
    number = FIRST_ID + place * 7 + 17
    created = STARTED + place * STEP
    changed = created + 30 if age is None else STARTED + age * STEP + 45
    known = AGENTS[agent]
    filled: Row = {
        "id": number,
        "tenantId": TENANT,
        "userId": OWNER,
        "uid": hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest(),
        "agentId": agent,
        "topic": title,
        "summary": None,
        "icon": None,
        "variables": {"language": "zh"} if place % 4 == 0 else None,
        "modified": changed,
        "created": created,
        "agent": {"agentId": agent, "name": known["name"], "type": known["type"], "icon": f"https://agent.example/logo/{agent}.png"},
        "messageList": None,
        "type": "Chat",
        "taskId": None,
        "taskStatus": "COMPLETE" if count else "CREATE",
        "taskCron": None,
        "taskCronDesc": None,
        "devMode": 0,
        "topicUpdated": 1,
        "sandboxServerId": None,
        "sandboxSessionId": None,
        "sharedUris": None,
    } | row
    return Conversation(filled, count=count, look=look, base=FIRST_INDEX + place * INDEX_BLOCK)


def model_object(space: int, number: int, name: str, model: str, enabled: int, *, upstream: bool) -> Row:
    """Returns a model of a space (section 5); with `upstream` also what the documentation says of its addresses and keys."""
    return {
        "id": number,
        "tenantId": TENANT,
        "spaceId": space,
        "scope": "Space",
        "name": name,
        "model": model,
        "description": None,
        "type": "Chat",
        "isReasonModel": 0,
        "maxTokens": 4096,
        "maxContextTokens": 131072,
        "apiProtocol": "OpenAI",
        "apiInfoList": [{"url": "https://upstream.example/v1", "key": "sk-upstream-secret", "weight": 1}] if upstream else None,
        "enabled": enabled,
        "created": "2026-05-01T01:15:00.000+00:00",
        "modified": "2026-05-01T01:15:00.000+00:00",
    }


def agent_object(number: int) -> Row:
    """Returns an agent in its long form (section 5)."""
    known = AGENTS[number]
    return {
        "agentId": number,
        "name": known["name"],
        "type": known["type"],
        "subType": None,
        "description": known["description"],
        "icon": f"https://agent.example/logo/{number}.png",
        "publishDate": "2026-05-01T01:15:00.000+00:00",
        "spaceId": 17,
        "openingChatMsg": "你好,有什么可以帮您?",
        "variables": [],
        "allowOtherModel": known["allowOtherModel"],
    }


def make_messages(held: Conversation, switches: Mapping[str, str]) -> Iterator[Row]:
    """Yields all messages of a conversation, oldest first, those of hidden roles too (3.4)."""
    index = held.base
    for number in range(held.count):
        index += 1 + (number * number + held.row["id"]) % 4  # increasing, not dense
        yield message(held, number, index, switches)
        for _hidden in range(hidden_after(held, number, switches["hidden_messages"])):
            index += 1
            yield message(held, number, index, switches) | {"role": "TOOL", "messageType": "TOOL", "text": "tool output", "senderType": None}


def hidden_after(held: Conversation, number: int, how: str) -> int:
    """Returns how many messages of other roles follow one: in the long conversation there is a run longer than a page (gotcha 10)."""
    if how == "none":
        return 0
    if held.look == "long":
        return 150 if number == 40 else number % 3
    return 3 if how == "many" else int(number % 6 == 5)


def message(held: Conversation, number: int, index: int, switches: Mapping[str, str]) -> Row:
    """Returns one message in the form of 3.4: users and agents take turns, the user begins."""
    asked = number % 2 == 0
    texts = QUESTIONS if asked else ANSWERS
    text = texts[(number // 2 + held.row["id"]) % len(texts)]
    if held.look == "long" or held.count > 40:
        text = f"{text}\n\n({number + 1}/{held.count})"
    if held.look == "xss" and number < 2:
        text = XSS
    role = "USER" if asked else "ASSISTANT"
    row: Row = {
        "index": index,
        "tenantId": TENANT,
        "senderType": "USER" if asked else "AGENT",
        "senderId": str(held.row["userId"] if asked else held.row["agentId"]),
        "userId": held.row["userId"],
        "agentId": held.row["agentId"],
        "id": hashlib.md5(b"message %d" % index, usedforsecurity=False).hexdigest(),
        "role": role,
        "type": "CHAT",
        "text": text,
        "time": stamp(held.row["created"] + 2 + number * 7, index, switches),
        "attachments": None,
        "think": None,
        "quotedText": None,
        "finished": not asked,
        "finishReason": None,
        "componentExecutedList": None if asked else [],
        "metadata": None,
        "messageType": role,
    }
    return row | (rich(number, switches["components"]) if held.look == "rich" else {})


def rich(number: int, components: str) -> Row:
    """Returns what the first messages of the rich conversation have besides their text."""
    component = {
        "named": {"name": "search_orders", "type": "Plugin", "success": True},
        "texts": "search_orders",
        "unnamed": {"id": 7, "success": True},
    }
    files = [
        {"fileKey": "f/1", "fileUrl": "https://files.example/1.png", "fileName": "截图.png", "mimeType": "image/png"},
        {"fileKey": "f/2", "fileUrl": "https://files.example/2.pdf", "fileName": "合同.pdf", "mimeType": "application/pdf"},
    ]
    extras: dict[int, Row] = {
        0: {"attachments": files},
        1: {"think": "先查订单,再回答。", "componentExecutedList": [component[components]]},
        2: {"quotedText": "三到五个工作日\n不含周末", "type": "QUESTION"},
        3: {"type": "ANSWER", "finishReason": "stop"},
    }
    return extras.get(number, {})
