"""A simulated Nuwax server: keys, agents, titles and messages, strict where the real one refuses, written from its contract alone.

Sections in comments are those of providers/nuwax.md. Offered is what an administration client may call with a key: 3.1 to 3.4, the
agent of an agent key (6), spaces and their models (5). Messages are made when somebody asks for them, and each agent's conversations are
kept in the order of their last change, so that ten thousand conversations cost a moment and a listing sorts nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web

from .kit import Simulator
from .nuwax_data import (
    ACCOUNT_KEY,
    AGENT_KEY,
    AGENTS,
    ALL_OF_A_NEGATIVE_LIMIT,
    HELPDESK,
    MARKET,
    MAX_TITLE,
    MODELS,
    OFF_KEY,
    OLD_KEY,
    OTHER_KEY,
    OWNER,
    QUIET,
    SPACES,
    STRANGER,
    TITLES,
    UNNAMED,
    Conversation,
    Key,
    Refused,
    Row,
    agent_object,
    crash,
    expired_key,
    invalid_conversation,
    like,
    make_conversation,
    make_messages,
    model_object,
    no_permission,
    not_granted,
    stamp,
    too_many,
)

# The open-API catalogue, in the order in which a path is matched (section 2: `list` is therefore counted as `detail`).
CATALOGUE: tuple[tuple[str, str, str], ...] = (
    ("update", "POST", r"/api/v1/chat/conversation/[^/]+/update"),
    ("detail", "GET", r"/api/v1/chat/conversation/[^/]+"),
    ("list", "GET", r"/api/v1/chat/conversation/list"),
    ("messages", "GET", r"/api/v1/chat/[^/]+/messages"),
    ("spaces", "GET", r"/api/v1/space/list"),
    ("models", "GET", r"/api/v1/space/[^/]+/model/list"),
    ("tenant_models", "GET", r"/api/v1/system/model/list"),
)
GRANTED = frozenset({"update", "detail", "list", "messages", "spaces", "models"})  # tenant models are for admins


@dataclass
class NuwaxSimulator(Simulator):
    """One tenant with two users, four agents and two spaces.

    `per_minute` and `per_day` limit requests per user and catalogue entry (0: none) within `window` and `day` seconds; `proxy_status` lets
    a server in front answer everything with HTML; `tenant_known` False is a host without tenant; `title_seconds` is how long the title
    model thinks.
    """

    key: ClassVar[str] = "nuwax"
    default_port: ClassVar[int] = 8713

    SWITCHES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        # 2 Language: the tenant's default
        "language": ("zh-CN", "en-US"),
        # 2: limits of the tenant's role (default none)
        "rate": ("none", "per_minute"),
        # 2 [inferred]: fields and parameters that nobody knows
        "unknown_names": ("ignored", "refused"),
        # 2 [inferred]: numbers sent for strings
        "number_for_text": ("converted", "refused"),
        # 2 Timestamps: whole seconds "in practice"
        "timestamps": ("seconds", "milliseconds"),
        # 3.1: `lastId` compares ids [source], or names the last row of the page before [doc]
        "last_id": ("compares_ids", "names_row"),
        # 3.2, 3.3: what "no such conversation" looks like where a page of messages is asked (not stated in 3.4)
        "messages_of_unknown": ("0001", "empty"),
        # 3.3: the answer of an update is the conversation [doc], or nothing
        "update_answer": ("conversation", "null"),
        # 3.3: `firstMessage` goes to a model [source], becomes the title itself [doc], or the model is out (first 20 UTF-16 units)
        "first_message": ("model", "content", "model_out"),
        # 3.3: which titles lose the text 主题：; only quoted ones, or none
        "topic_word": ("removed", "kept"),
        # 3.3: an over-long title is a crash [tried], or is cut by a database that is not strict
        "over_long": ("5000", "cut"),
        # 3.4: messages of other roles take room in pages (many runs of tools, or none at all)
        "hidden_messages": ("some", "none", "many"),
        # 3.4: what an element of componentExecutedList looks like is not stated
        "components": ("named", "texts", "unnamed"),
        # 5: apiInfoList is null today and documented with addresses and keys
        "api_info_list": ("null", "filled"),
        # 4: `agent` is null where the agent is gone
        "agent_object": ("present", "gone"),
        # 1, 6: whether an agent key reaches conversations of other agents by section 3
        "agent_key_scope": ("any_agent", "own_agent"),
        # 1, 6: what an account key is told at the agent key's own endpoint
        "agent_endpoint": ("not_granted", "no_permission"),
    }

    per_minute: int = 0
    per_day: int = 0
    window: float = 60.0
    day: float = 86_400.0
    proxy_status: int = 0
    tenant_known: bool = True
    title_seconds: float = 0.0
    model_calls: int = 0
    keys: dict[str, Key] = field(default_factory=dict)
    unpublished: set[int] = field(default_factory=set)

    # --- state ---------------------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Builds 30 conversations: 24 in lists, the rest untitled, of another user, of a debugging session or scheduled."""
        if self.switches["rate"] == "per_minute" and not self.per_minute:
            self.per_minute = 60
        self.keys = {
            ACCOUNT_KEY: Key(OWNER),
            AGENT_KEY: Key(OWNER, agent=HELPDESK),
            OTHER_KEY: Key(STRANGER),
            OLD_KEY: Key(OWNER, expired=True),
            OFF_KEY: Key(OWNER, on=False),
        } | self.keys
        self.counts: dict[tuple[int, str, str], tuple[float, int]] = {}
        self._clear()
        for number in range(24):
            agent = MARKET if number % 3 == 2 else HELPDESK
            look = {1: "xss", 5: "rich", 9: "long"}.get(number, "")
            count = {9: 128, 4: 0, 5: 6}.get(number, 2 + number % 5 * 2)
            title = TITLES[number] if number < len(TITLES) else f"{TITLES[number % len(TITLES)]} ({number})"
            self._add(agent, "空白的一次会话" if number == 4 else title, count=count, look=look)
        for number in range(3):  # gotcha 2
            self._add(MARKET if number == 2 else HELPDESK, UNNAMED, topicUpdated=-1 if number == 1 else 0, count=number * 2)
        self._add(HELPDESK, "Somebody else's secret", userId=STRANGER)
        self._add(HELPDESK, "Trying out a prompt", devMode=1)
        self._add(HELPDESK, "每天早上的日报", type="TASK")
        self._order()

    def populate(self, count: int, *, messages: int = 4) -> None:
        """Replaces everything by `count` titled conversations, four of five at the first agent; ids do not follow the order of change."""
        with self.lock:
            self._clear()
            for number in range(count):
                agent = MARKET if number % 5 == 4 else HELPDESK
                self._add(agent, f"{TITLES[number % len(TITLES)]} #{number + 1}", count=messages, age=number * 7919 % max(count, 1))
            self._order()

    def truth(self) -> dict[str, Row]:
        """Returns what is stored of the conversations that stand in the owner's lists; `unlisted` has the others."""
        return {str(number): self._truth(held.row) for number, held in self.conversations.items() if self._is_listed(held.row, OWNER)}

    def unlisted(self) -> dict[str, Row]:
        """Returns what is stored of the owner's conversations that no list shows."""
        owned = {number: held.row for number, held in self.conversations.items() if held.row["userId"] == OWNER}
        return {str(number): self._truth(row) for number, row in owned.items() if not self._is_listed(row, OWNER)}

    def unlimited(self) -> None:
        """Switches every limit off."""
        self.per_minute = 0

    def credential(self) -> dict[str, str]:
        """Returns an account key with its agents' ids."""
        return {"api_key": ACCOUNT_KEY, "agent_ids": f"{HELPDESK}, {MARKET}, {QUIET}"}

    def agent_credential(self) -> dict[str, str]:
        """Returns an agent key, which names its own agent."""
        return {"api_key": AGENT_KEY}

    def change_by_somebody(self, remote_id: str, **values: Any) -> None:
        """Sets `title` as the web page does; `agent` "published" or "unpublished" is the publisher's doing. There is nothing else to set."""
        with self.lock:
            held = self.conversations[int(remote_id)]
            if "title" in values:
                self._store(held, {**held.row, "topic": values.pop("title"), "topicUpdated": 1})
            if (state := values.pop("agent", None)) is not None:
                change = self.unpublished.add if state == "unpublished" else self.unpublished.discard
                change(held.row["agentId"])
            if values:
                raise ValueError(f"a Nuwax conversation has no {', '.join(values)}")

    def remove_by_somebody(self, remote_id: str) -> None:
        """Deletes a conversation for good."""
        with self.lock:
            held = self.conversations.pop(int(remote_id))
            self.order[held.row["userId"], held.row["agentId"]].pop(int(remote_id), None)

    def add_conversation(self, agent: int, title: str, *, count: int = 4, look: str = "", **row: Any) -> str:
        """Adds one conversation as changed last and returns its id; `row` overrides fields of section 4."""
        with self.lock:
            held = self._add(agent, title, count=count, look=look, **row)
            self._store(held, dict(held.row))
            return str(held.row["id"])

    def _clear(self) -> None:
        self.made = 0
        self.conversations: dict[int, Conversation] = {}
        # (user, agent) -> ids in the order of change, the newest at the end
        self.order: dict[tuple[int, int], dict[int, None]] = {}

    def _add(self, agent: int, title: str, *, count: int = 4, look: str = "", age: int | None = None, **row: Any) -> Conversation:
        held = make_conversation(self.made, agent, title, count=count, look=look, age=age, **row)
        self.made += 1
        self.conversations[held.row["id"]] = held
        self.order.setdefault((held.row["userId"], agent), {})[held.row["id"]] = None
        return held

    def _order(self) -> None:
        for place, ids in self.order.items():
            ordered = sorted(ids, key=lambda number: (self.conversations[number].row["modified"], number))
            self.order[place] = dict.fromkeys(ordered)

    def _touch(self, held: Conversation) -> None:
        ids = self.order[held.row["userId"], held.row["agentId"]]
        ids.pop(held.row["id"], None)
        ids[held.row["id"]] = None
        held.text = ""

    def _store(self, held: Conversation, new: Row) -> None:
        held.row.update(new | {"modified": int(time.time())})
        self._touch(held)

    @staticmethod
    def _is_listed(row: Row, user: int) -> bool:
        # 3.1: the caller's own, titled, and an ordinary chat outside debugging (or a development conversation)
        ordinary = (row["type"] == "Chat" and row["devMode"] == 0) or row["type"] == "Development"
        return row["userId"] == user and row["topicUpdated"] == 1 and ordinary

    @staticmethod
    def _truth(row: Row) -> Row:
        return {"title": row["topic"], "model": None, "icon": row["icon"], "variables": row["variables"], "agentId": row["agentId"]}

    # --- answers (section 2) ---------------------------------------------------------------------------------------------------------

    def _language(self, request: web.Request) -> str:
        return request.cookies.get("lang") or self.switches["language"]

    def _tid(self) -> str:
        return f"{self.random.randrange(10**6, 10**7)}{int(time.time() * 1000)}"

    def _success_text(self, data: str) -> web.Response:
        tid = self._tid()
        text = f'{{"code":"0000","displayCode":"0000","message":"success","data":{data},"tid":"{tid}","success":true}}'
        return web.Response(text=text, content_type="application/json")

    def _success(self, data: Any) -> web.Response:
        return self._success_text(json.dumps(data, ensure_ascii=False))

    def _refusal(self, request: web.Request, refused: Refused) -> web.Response:
        said = refused.chinese if self._language(request) == "zh-CN" else refused.english
        envelope = {"code": refused.code, "displayCode": refused.code, "message": said, "data": None, "tid": self._tid(), "success": False}
        return web.json_response(envelope)

    def throttled(self, request: web.Request) -> web.Response:
        """Refuses for the requests of this minute."""
        return self._refusal(request, too_many("minute"))

    def failed(self, request: web.Request) -> web.Response:
        """Answers as after a crash: HTTP 200 and 5000."""
        return self._refusal(request, crash())

    def expired(self, request: web.Request) -> web.Response:
        """Answers as for an expired key."""
        return self._refusal(request, expired_key())

    # --- the door (sections 1, 2) ----------------------------------------------------------------------------------------------------

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns one route for everything: the server decides by key and catalogue before it looks at the path."""
        self.handlers: dict[str, Callable[[web.Request, Key], Awaitable[web.Response]]] = {
            "update": self._update,
            "list": self._list,
            "detail": self._detail,
            "messages": self._messages,
            "spaces": self._spaces,
            "models": self._models,
        }
        return [web.route("*", "/{path:(?!_sim/).*}", self._enter)]

    def is_write(self, request: web.Request) -> bool:
        """True for everything that is posted."""
        return request.method == "POST"

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        if self.proxy_status:
            return web.Response(status=self.proxy_status, text="<html><body><h1>proxy</h1></body></html>", content_type="text/html")
        try:
            if not self.tenant_known:
                raise Refused("4011", "https://nuwax.example/login")
            if not request.path.startswith("/api/v1/"):
                raise Refused("4010", "Not signed in or session expired.", "未登录或登录超时")
            key = self._key(request)
            path = request.path.rstrip("/")
            if path == "/api/v1/agent":
                self._demand_method(request, "GET")
                return await self._own_agent(request, key)
            counted, method, handler = self._entry(path, request.method)
            if key.agent is None:
                self._grant(key, counted)
            if not handler:
                raise Refused("4040", f"No static resource {path}.")
            self._demand_method(request, method)
            self._count(key, counted)
            return await self.handlers[handler](request, key)
        except Refused as refused:
            return self._refusal(request, refused)

    def _key(self, request: web.Request) -> Key:
        given = re.sub(r"^(Bearer|Basic) ", "", request.headers.get("Authorization", ""))
        if not given.startswith("ak-"):  # nothing, or a login token
            raise Refused("4030", "Missing API Key.", "缺少 API Key")
        key = self.keys.get(given)
        if key is None or not key.on:
            raise Refused("4000", "Invalid API Key.", "无效的 API Key")
        if key.expired:
            raise expired_key()
        return key

    @staticmethod
    def _entry(path: str, method: str) -> tuple[str, str, str]:
        """Returns the entry a request is counted on, its method, and which handler answers ("" for a path that is none)."""
        fitting = [(name, wanted) for name, wanted, pattern in CATALOGUE if re.fullmatch(pattern, path)]
        if not fitting:
            return "", "", ""
        counted, wanted = next(((name, way) for name, way in fitting if way == method), fitting[0])
        return counted, wanted, "list" if ("list", "GET") in fitting else counted

    @staticmethod
    def _grant(key: Key, counted: str) -> None:
        if counted not in GRANTED:
            raise not_granted()
        if key.only is not None and counted not in key.only:
            raise no_permission()

    @staticmethod
    def _demand_method(request: web.Request, wanted: str) -> None:
        if request.method != wanted:
            raise Refused("4050", f"Request method '{request.method}' is not supported")

    def _count(self, key: Key, entry: str) -> None:
        """Counts per user and entry; a window starts with its first call."""
        now = time.monotonic()
        for unit, most, span in (("minute", self.per_minute, self.window), ("day", self.per_day, self.day)):
            if not most:
                continue
            started, count = self.counts.get((key.user, entry, unit), (now, 0))
            if now - started >= span:
                started, count = now, 0
            if count >= most:
                raise too_many(unit)
            self.counts[key.user, entry, unit] = started, count + 1

    def _parameters(self, request: web.Request, names: str) -> Row:
        unknown = set(request.query) - set(names.split())
        if unknown and self.switches["unknown_names"] == "refused":
            raise Refused("4000", f"Unknown parameter {sorted(unknown)}")
        return {name: request.query[name] for name in request.query if request.query[name] != ""}

    @staticmethod
    def _whole(given: str | None, fallback: int | None, bits: int = 64) -> int | None:
        if given is None:
            return fallback
        if not re.fullmatch(r"[+-]?\d+", given) or abs(int(given)) >= 2 ** (bits - 1):
            raise crash()
        return int(given)

    # --- conversations (3.1, 3.2) ----------------------------------------------------------------------------------------------------

    def _short(self, held: Conversation) -> str:
        """Returns a row of a list as JSON text, kept until the row changes."""
        if not held.text:
            held.text = json.dumps(self._shown(held.row) | {"variables": None}, ensure_ascii=False, separators=(",", ":"))
        return held.text

    def _shown(self, row: Row) -> Row:
        shown = dict(row)
        for name in ("modified", "created"):
            shown[name] = stamp(row[name], row["id"], self.switches)
        if self.switches["agent_object"] == "gone":
            shown["agent"] = None
        return shown

    def _long(self, row: Row, request: web.Request) -> Row:
        shown = self._shown(row)
        if shown["agent"]:
            shown["agent"] = agent_object(row["agentId"]) | {"hasPermission": True, "collect": False}
        if row["topicUpdated"] != 1:  # 3.2: a phrase instead of what is stored
            name = AGENTS[row["agentId"]]["name"]
            shown["topic"] = f"和{name}开始会话" if self._language(request) == "zh-CN" else f"Start conversation with {name}"
        return shown

    def _rows(self, user: int, agent: int) -> Iterator[Conversation]:
        """Yields the listed conversations of one user and agent, changed last first."""
        for number in reversed(self.order.get((user, agent), {})):
            held = self.conversations[number]
            if self._is_listed(held.row, user):
                yield held

    async def _list(self, request: web.Request, key: Key) -> web.Response:
        given = self._parameters(request, "agentId lastId limit topic")
        if "agentId" not in given:
            raise Refused("4000", "Required request parameter 'agentId' for method parameter type Long is not present")
        agent, last = self._whole(given["agentId"], 0) or 0, self._whole(given.get("lastId"), 0) or 0
        limit = self._whole(given.get("limit"), 10, bits=32)
        limit = 10 if limit is None else ALL_OF_A_NEGATIVE_LIMIT if limit < 0 else limit
        if key.agent not in (None, agent) and self.switches["agent_key_scope"] == "own_agent":
            return self._success([])
        with self.lock:
            rows = self._after(list(self._rows(key.user, agent)), last, given.get("topic", ""))
            return self._success_text("[" + ",".join(self._short(held) for held in rows[:limit]) + "]")

    def _after(self, rows: list[Conversation], last: int, topic: str) -> list[Conversation]:
        if topic.strip():
            pattern = like(topic)
            rows = [held for held in rows if pattern.fullmatch(held.row["topic"])]
        if last <= 0:
            return rows
        if self.switches["last_id"] == "compares_ids":
            return [held for held in rows if held.row["id"] < last]
        place = next((number for number, held in enumerate(rows) if held.row["id"] == last), -1)
        return rows[place + 1 :]

    def _allowed(self, text: str, key: Key) -> Conversation:
        """Returns a conversation that exists, is the caller's own and can be reached with this key; whether its agent is published comes later."""
        held = self.conversations.get(self._whole(text, 0) or 0)
        if held is None or held.row["userId"] != key.user:
            raise invalid_conversation()
        if key.agent not in (None, held.row["agentId"]) and self.switches["agent_key_scope"] == "own_agent":
            raise invalid_conversation()
        return held

    def _published(self, held: Conversation) -> Conversation:
        if held.row["agentId"] in self.unpublished:
            raise invalid_conversation()
        return held

    async def _detail(self, request: web.Request, key: Key) -> web.Response:
        self._parameters(request, "")
        with self.lock:
            held = self._published(self._allowed(request.path.split("/")[-1], key))
            return self._success(self._long(held.row, request))

    # --- titles (3.3) ----------------------------------------------------------------------------------------------------------------

    async def _update(self, request: web.Request, key: Key) -> web.Response:
        number = request.path.split("/")[-2]
        self._whole(number, 0)
        body = self._body(request)
        topic, source, icon = (self._text(body, name) for name in ("topic", "firstMessage", "icon"))
        with self.lock:
            held = self._allowed(number, key)
        made = None
        if not topic.strip():
            topic, made = await self._made_title(source)
        stored = self._stored_title(topic)
        if len(stored) > MAX_TITLE:
            if self.switches["over_long"] == "5000":
                raise crash()
            stored = stored[:MAX_TITLE]
        with self.lock:
            new = held.row | {"topic": stored, "topicUpdated": 1} | ({"icon": icon or made} if icon or made else {})
            if new != held.row:
                new["modified"] = int(time.time())
            shown = self.stored(request, held.row, new)
            if request["call"].changed:
                self._touch(held)
            self._published(held)  # only now: the title is already written
            return self._success(None if self.switches["update_answer"] == "null" else self._long(shown, request))

    def _body(self, request: web.Request) -> Row:
        body = request["call"].body
        if not request.headers.get("Content-Type", "").startswith("application/json"):
            raise Refused("4000", f"Content-Type '{request.headers.get('Content-Type', '')}' is not supported")
        if not isinstance(body, dict):
            raise Refused("4000", "Required request body is missing or not an object")
        if set(body) - {"topic", "firstMessage", "icon", "id"} and self.switches["unknown_names"] == "refused":
            raise Refused("4000", "Unrecognized field")
        return body

    def _text(self, body: Row, name: str) -> str:
        value = body.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        if isinstance(value, int | float) and self.switches["number_for_text"] == "converted":
            return json.dumps(value)
        raise Refused("4000", f"JSON parse error: cannot deserialize `java.lang.String` of {name}")

    async def _made_title(self, source: str) -> tuple[str, str | None]:
        """Returns a title and an icon that the server made: another one each time it is asked (billed), or what it does without a model."""
        way = self.switches["first_message"]
        if not source.strip():
            if way == "model_out":
                raise crash()
            return "新的会话", None
        if way == "content":
            return source, None
        if way == "model_out":
            units = source.encode("utf-16-le")[:40]  # 20 UTF-16 units; half a pair becomes a question mark
            return units.decode("utf-16-le", "replace").replace("\ufffd", "?"), None
        self.model_calls += 1
        if self.title_seconds:
            await asyncio.sleep(self.title_seconds)
        return f"关于“{' '.join(source.split())[:24]}”的对话 · {self.model_calls}", f"https://agent.example/icon/{self.model_calls}.png"

    def _stored_title(self, topic: str) -> str:
        if not topic.startswith('"'):
            return topic
        bare = topic.replace('"', "")
        return bare.replace("主题：", "") if self.switches["topic_word"] == "removed" else bare

    # --- messages (3.4) --------------------------------------------------------------------------------------------------------------

    async def _messages(self, request: web.Request, key: Key) -> web.Response:
        given = self._parameters(request, "index limit")
        bound, limit = self._whole(given.get("index"), None), self._whole(given.get("limit"), 10, bits=32) or 0
        try:
            with self.lock:
                held = self._published(self._allowed(request.path.split("/")[-2], key))
        except Refused as refused:
            if refused.code == "0001" and self.switches["messages_of_unknown"] == "empty":
                return self._success([])
            raise
        rows = [row for row in self.messages_of(held) if bound is None or row["index"] < bound]
        page = rows[-limit:] if limit > 0 else []
        return self._success([row for row in page if row["role"] in ("USER", "ASSISTANT")])  # cut first, then dropped

    def visible_messages(self, remote_id: str) -> list[tuple[str, str]]:
        """Returns (role, text) of what may be shown of a conversation, oldest first."""
        rows = self.messages_of(self.conversations[int(remote_id)])
        return [(row["role"], row["text"]) for row in rows if row["role"] in ("USER", "ASSISTANT")]

    def messages_of(self, held: Conversation) -> list[Row]:
        """Returns all stored messages, oldest first, hidden ones too; made at the first call."""
        if held.messages is None:
            held.messages = list(make_messages(held, self.switches))
        return held.messages

    # --- agents, spaces, models (5, 6) -----------------------------------------------------------------------------------------------

    async def _own_agent(self, request: web.Request, key: Key) -> web.Response:
        if key.agent is None:
            raise not_granted() if self.switches["agent_endpoint"] == "not_granted" else no_permission()
        return self._success(agent_object(key.agent))

    async def _spaces(self, request: web.Request, key: Key) -> web.Response:
        return self._success(SPACES)

    async def _models(self, request: web.Request, key: Key) -> web.Response:
        self._parameters(request, "")
        space = self._whole(request.path.split("/")[-3], 0)
        if space not in MODELS:
            raise no_permission()
        upstream = self.switches["api_info_list"] == "filled"
        return self._success([model_object(space, *model, upstream=upstream) for model in MODELS[space]])
