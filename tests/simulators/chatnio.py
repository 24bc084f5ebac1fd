"""A simulated Chat Nio site, written from its contract: strict limiter, block list, both forms of installation, and everything answered with 200.

Section numbers below are those of the contract.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

from aiohttp import web

from .kit import Simulator

Handler = Callable[[web.Request, "User"], Awaitable[web.Response]]

NOT_FOUND = "conversation not found"
STATIC_PAGE = '<!doctype html><html><head><title>Chat Nio</title></head><body><div id="root"></div></body></html>'
MODELS = ("glm-4", "qwen-plus", "deepseek-chat", "gpt-4o", "gpt-3.5-turbo", "claude-3-5-sonnet")
SIGNING_KEY = b"simulated signing key"

# Section 4: requests and seconds; a path under /conversation has its own budget each.
CONVERSATION_LIMIT = (5, 1.0)
LIMITS: Mapping[str, tuple[int, float]] = {
    "/chat": (5, 1.0),
    "/apikey": (2, 1.0),
    "/quota": (2, 1.0),
    "/subscription": (2, 1.0),
    "/package": (2, 1.0),
    "/buy": (2, 1.0),
    "/subscribe": (2, 1.0),
    "/login": (20, 10.0),
    "/resetkey": (3, 3600.0),
    "/register": (10, 120.0),
    "/verify": (10, 120.0),
    "/reset": (10, 120.0),
}

TOPICS = (
    ("周报草稿", "帮我写本周周报", "好的，请告诉我这周做了什么。"),
    ("Regex for dates", "A regex that matches 2025-03-01?", "```python\nre.compile(r'\\d{4}-\\d{2}-\\d{2}')\n```"),
    ("旅行计划 🏔️", "去云南玩五天怎么安排？", "| 天 | 地点 |\n| --- | --- |\n| 1 | 昆明 |\n| 2 | 大理 |"),
    ("new chat", "Hello there", "Hello! How can I help?"),
    ("合同条款解释", "这条违约责任是什么意思？", "**违约责任**指一方不履行义务时应承担的后果。"),
    ("Unit test ideas", "Which edge cases for a pager?", "1. empty list\n2. one page\n3. last page exactly full"),
)
XSS = '<img src=x onerror="alert(1)"><script>alert(2)</script> [click](javascript:alert(3)) & more'
PICTURE = base64.b64encode(hashlib.sha256(b"picture").digest() * 40_000).decode()  # about 1.7 million characters


@dataclass
class Talk:
    """One stored conversation; `lines` None stands for `length` messages that are made up when they are loaded."""

    name: str
    model: str
    length: int = 4
    lines: list[dict[str, Any]] | None = field(default_factory=list)
    null: bool = False  # section 5: `message` can be null
    task: str = ""


@dataclass
class User:
    """One account of the site: its conversations are numbered by itself, so the numbers of two accounts overlap."""

    name: str
    number: int
    key: str
    password: str = "simulated password"
    banned: bool = False
    talks: dict[int, Talk] = field(default_factory=dict)  # always in ascending order

    def next_number(self) -> int:
        """Section 7, gotcha 9: the highest existing number + 1, so numbers are used again."""
        return next(reversed(self.talks), 0) + 1


ANONYMOUS = User("", 0, "")


@dataclass
class ChatNio(Simulator):
    """The site with two accounts; `limit_scale` multiplies the requests that each window allows, 0 switches the limiter off."""

    key: ClassVar[str] = "chatnio"
    default_port: ClassVar[int] = 8712
    SWITCHES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "installation": ("api_only", "static"),  # 1: API at the root, or page and API together with the API under /api
        "list_rows": ("source", "doc"),  # 5: rows of the list as in the source, or with model and account id as published
        "list_length": ("100", "about"),  # 6: exactly the newest 100, or "about 100" as published
        "nothing": ("null", "empty"),  # 6: how an empty list looks; the published page shows arrays only
        "message": ("empty", "success"),  # 3: the text beside a success
        "throttle_answer": ("error_and_reason", "reason"),  # 4: since 3.10, or before
        "long_names": ("lost", "cut"),  # 6: strict SQL mode loses a name over 255 characters, the other one cuts it
        "database": ("mysql", "sqlite"),  # 5: on SQLite every conversation reports gpt-3.5-turbo
        "catalogue": ("market", "empty_market", "null_market"),  # 6: the administrator's catalogue may be empty or null
        "fields": ("4.0", "3.10"),  # Versions: task_id and reasoning_content, or neither
        "outage_token": ("accepted", "refused"),  # 2, gotcha 6: whether a cache keeps a login token alive without the database
    }

    limit_scale: float = 1.0
    outage: bool = False  # the database is down
    redis_down: bool = False  # 4: every limited path fails
    crashing: set[int] = field(default_factory=set)  # conversations at which load crashes
    unreadable: set[int] = field(default_factory=set)  # listed, but load says that they are not there
    failing_loads: tuple[int, int] = (0, 0)  # from the how manieth load on, and up to which, the database fails; counted from `loads`
    without: tuple[str, ...] = ()  # routes that an older site lacks, such as /conversation/rename
    block_seconds: float = 1200.0
    login: bool = False  # `credential` is a login token instead of the API key

    # --- state ----------------------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Two dozen conversations: both languages, Markdown, a dangerous message, a picture, a long one, untitled and empty ones, holes."""
        self.user = User("lin.wei", 31, "sk-" + hashlib.sha256(b"simulated key of lin.wei").hexdigest())
        self.second = User("second.user", 32, "sk-" + hashlib.sha256(b"simulated key of second.user").hexdigest())
        self.windows: dict[tuple[str, str], tuple[float, int]] = {}
        self.bad_keys: dict[str, tuple[float, int]] = {}
        self.loads = 0  # answered so far
        self.refusals = 0  # requests refused for their rate
        self._add(self.user, 1, "第一次对话 · first talk", "glm-4", [("user", "你好，介绍一下你自己"), ("assistant", "你好！我是一个**语言模型**。")])
        self._add(self.user, 2, "", "qwen-plus", [("user", "标题为空的对话"), ("assistant", "好的。")])
        self._add(self.user, 4, "new chat", "glm-4", [])
        self._add(self.user, 5, "危险内容 <b>&amp;</b>", "gpt-4o", [("user", XSS), ("assistant", XSS)])
        table = "| 语言 | Sprache |\n| --- | --- |\n| 中文 | `你好` |\n| English | `hello` |\n\n```sql\nSELECT * FROM t WHERE a < 3 AND b > 4;\n```"
        self._add(
            self.user, 6, "Table and code 📊", "deepseek-chat", [("system", "Answer in tables."), ("user", "Two greetings"), ("assistant", table)]
        )
        picture = f"Here you are: ![cat](data:image/png;base64,{PICTURE}) – and a link ![dog](https://example.com/dog.png)"
        self._add(self.user, 7, "Draw a cat 🐱", "gpt-4o", [("user", "Draw a cat"), ("assistant", picture)])
        steps = [(("user", "assistant")[turn % 2], f"第 {turn + 1} 条 · message {turn + 1}\n\n- point {turn}") for turn in range(127)]
        self._add(self.user, 8, "A long conversation / 很长的对话", "qwen-plus", steps)
        self.user.talks[8].lines[3]["reasoning_content"] = "Think first, then answer."  # type: ignore[index]
        self._add(
            self.user,
            10,
            "Weather with tools ⛅",
            "gpt-4o",
            [("user", "Weather in Kunming?"), ("assistant", ""), ("tool", "18 °C"), ("assistant", "18 °C")],
        )
        lines = self.user.talks[10].lines
        assert lines is not None
        lines[1]["tool_calls"] = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
        lines[2] |= {"name": "weather", "tool_call_id": "call_1"}
        self._add(self.user, 11, "Upstream error", "glm-4", [("user", "hi"), ("assistant", "error: upstream 503 service unavailable")])
        self.user.talks[12] = Talk("空的对话", "glm-4", lines=[], null=True)
        self.user.talks[14] = Talk("视频任务", "glm-4", task="task-0001", lines=[{"role": "user", "content": "make a video"}])
        for number in (15, 16, 17, 19, 20, 21, 22, 24, 25, 26, 27, 28, 30):
            self.user.talks[number] = self._made_up(number, 4)
        self._add(self.second, 1, "Somebody else's talk", "glm-4", [("user", "private"), ("assistant", "yes")])

    @staticmethod
    def _add(user: User, number: int, name: str, model: str, lines: list[tuple[str, str]]) -> None:
        user.talks[number] = Talk(name, model, lines=[{"role": role, "content": content} for role, content in lines])

    @staticmethod
    def _made_up(number: int, messages: int) -> Talk:
        name = TOPICS[number % len(TOPICS)][0]
        return Talk(name if name == "new chat" else f"{name} {number}", MODELS[number % len(MODELS)], messages, None)

    def populate(self, count: int, *, messages: int = 4, holes: int = 0) -> None:
        """Replaces all conversations of the first account; with `holes` every holes-th id is left out, as after deletions."""
        talks: dict[int, Talk] = {}
        number = 0
        while len(talks) < count:
            number += 1
            if not holes or number % holes:
                talks[number] = self._made_up(number, messages)
        self.user.talks = talks

    def truth(self) -> dict[str, dict[str, Any]]:
        """Returns what a load would show of each conversation of the first account."""
        return {
            str(number): {"title": talk.name, "model": self._model(talk), "messages": talk.length if talk.lines is None else len(talk.lines)}
            for number, talk in self.user.talks.items()
        }

    def change_by_somebody(self, remote_id: str, **values: Any) -> None:
        """Renames (title=), or sends a message with another model (model=), which leaves the stored model as it is (5)."""
        talk = self.user.talks[int(remote_id)]
        talk.name = values.get("title", talk.name)
        if "model" in values:
            lines = talk.lines = list(self._lines(int(remote_id), talk))
            lines += [{"role": "user", "content": "继续"}, {"role": "assistant", "content": f"answered by {values['model']}"}]

    def remove_by_somebody(self, remote_id: str) -> None:
        """Deletes a conversation for good."""
        del self.user.talks[int(remote_id)]

    def start_talk(self, name: str = "new chat", first: str = "Hello again", model: str = "glm-4") -> str:
        """Starts a conversation as the site's own page does and returns its id, which may be one that was used before (gotcha 9)."""
        number = self.user.next_number()
        self._add(self.user, number, name, model, [("user", first), ("assistant", "…")])
        return str(number)

    def unlimited(self) -> None:
        """Switches every limit off."""
        self.limit_scale = 0

    def credential(self) -> dict[str, str]:
        """Returns the API key of the first account, or its login token."""
        return {"secret": self.token() if self.login else self.user.key}

    def token(self, user: User | None = None, *, seconds: float = 30 * 86400.0, password: str | None = None) -> str:
        """Returns a login token (2) that ends `seconds` after the start; `password` makes it one from before a change of the password."""
        user = user or self.user
        hashed = hashlib.sha256((password or user.password).encode()).hexdigest()
        claims = {"username": user.name, "password": hashed, "exp": int(self.began + seconds)}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        return f"{signed}.{_base64(hmac.digest(SIGNING_KEY, signed.encode(), 'sha256'))}"

    # --- the way in -----------------------------------------------------------------------------------------------------------------

    def routes(self) -> list[web.AbstractRouteDef]:
        """One route: what exists depends on the form of installation (1)."""
        return [web.route("*", r"/{path:(?!_sim/).*}", self._enter)]

    def is_write(self, request: web.Request) -> bool:
        """True for rename and for the two GETs that delete (gotcha 10)."""
        return self._path(request)[0] in ("/conversation/rename", "/conversation/delete", "/conversation/clean")

    def _path(self, request: web.Request) -> tuple[str, bool]:
        """Returns the path within the API and whether it is one at all."""
        path = request.path
        if self.switches["installation"] == "api_only":
            return path, True
        if path == "/api" or path.startswith("/api/"):
            return path.removeprefix("/api") or "/", True
        return path, path.startswith("/v1/")

    def _table(self) -> dict[tuple[str, str], Handler]:
        table: dict[tuple[str, str], Handler] = {
            ("GET", "/"): self._index,
            ("POST", "/state"): self._state,
            ("POST", "/login"): self._login,
            ("GET", "/apikey"): self._apikey,
            ("POST", "/resetkey"): self._resetkey,
            ("GET", "/quota"): self._quota,
            ("GET", "/userinfo"): self._userinfo,
            ("GET", "/v1/models"): self._models,
            ("GET", "/v1/market"): self._market,
            ("GET", "/v1/charge"): self._charge,
            ("GET", "/conversation/list"): self._list,
            ("GET", "/conversation/load"): self._load,
            ("POST", "/conversation/rename"): self._rename,
            ("GET", "/conversation/delete"): self._delete,
            ("GET", "/conversation/clean"): self._clean,
        }
        return {route: handler for route, handler in table.items() if route[1] not in self.without}

    async def _enter(self, request: web.Request) -> web.Response:
        path, inside = self._path(request)
        if inside and (refusal := self._limited(path, request.remote or "")) is not None:
            return refusal
        user, refused = self._authenticate(request)
        if refused is not None:
            return refused
        if inside:
            table = self._table()
            if handler := table.get((request.method, path)):
                return await handler(request, user)
            if path != "/" and path.endswith("/") and (request.method, path.rstrip("/")) in table:
                location = request.path.rstrip("/") + (f"?{request.query_string}" if request.query_string else "")
                return web.Response(status=301 if request.method == "GET" else 307, headers={"Location": location})
        if self.switches["installation"] == "static":
            return web.Response(text=STATIC_PAGE, content_type="text/html")
        return _json({"message": "not found or method not allowed", "status": False}, status=404)

    def _limited(self, path: str, address: str) -> web.Response | None:
        """Section 4: a fixed window per path and address; a refused request starts a new window."""
        limit = CONVERSATION_LIMIT if path.startswith("/conversation/") else LIMITS.get(path)
        if path.startswith("/broadcast/"):
            limit = (2, 1.0)
        if limit is None:
            return None
        if self.redis_down:
            text = "dial tcp 127.0.0.1:6379: connect: connection refused"
            return _json({"status": False, "error": text, "reason": text})
        if self.limit_scale <= 0:
            return None
        allowed, seconds = max(1, int(limit[0] * self.limit_scale)), limit[1]
        now = time.monotonic()
        with self.lock:
            start, count = self.windows.get((path, address), (now, 0))
            if now - start >= seconds:
                start, count = now, 0
            if count >= allowed:
                self.windows[path, address] = (now, count)
                self.refusals += 1
                return self._throttle_answer()
            self.windows[path, address] = (start, count + 1)
        return None

    def _authenticate(self, request: web.Request) -> tuple[User, web.Response | None]:
        """Section 2: a key that is not known is 401 everywhere, any other bad credential makes the request anonymous."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        address = request.remote or ""
        if not given.startswith("sk-"):
            return self._user_of(given), None
        with self.lock:
            last, count = self.bad_keys.get(address, (0.0, 0))
            if count and time.monotonic() - last >= self.block_seconds:
                count = 0
            user = next((user for user in (self.user, self.second) if hmac.compare_digest(user.key.encode(), given.encode())), None)
            good = user is not None and not user.banned and not self.outage
            if not good:
                self.bad_keys[address] = (time.monotonic(), count + 1)
            if count > 50:
                return ANONYMOUS, _json({"code": 403, "message": "ip in black list"}, status=401)
            if not good or user is None:
                return ANONYMOUS, _bad_key()
        return user, None

    def _user_of(self, token: str) -> User:
        """Returns the user of a login token: signed by this site, not expired, with the account's present password."""
        signed, _dot, signature = token.rpartition(".")
        if signed.count(".") != 1 or not hmac.compare_digest(signature, _base64(hmac.digest(SIGNING_KEY, signed.encode(), "sha256"))):
            return ANONYMOUS
        part = signed.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        user = next((user for user in (self.user, self.second) if user.name == claims["username"]), None)
        if user is None or user.banned or claims["exp"] <= time.time() or claims["password"] != hashlib.sha256(user.password.encode()).hexdigest():
            return ANONYMOUS
        return ANONYMOUS if self.outage and self.switches["outage_token"] == "refused" else user

    # --- the provider's own forms of failure ----------------------------------------------------------------------------------------

    def throttled(self, request: web.Request) -> web.Response:
        """Section 4: HTTP 200, in the form since or before 3.10; like every refusal it starts a new window."""
        with self.lock:
            allowed = max(1, int(CONVERSATION_LIMIT[0] * (self.limit_scale or 1e9)))
            self.windows[self._path(request)[0], request.remote or ""] = (time.monotonic(), allowed)
        return self._throttle_answer()

    def _throttle_answer(self) -> web.Response:
        reason = "You have sent too many requests. Please try again later."
        if self.switches["throttle_answer"] == "reason":
            return _json({"status": False, "reason": reason})
        return _json({"status": False, "error": "request_throttled", "reason": reason})

    def failed(self, request: web.Request) -> web.Response:
        """Section 3: a crash answers 500 with nothing in it."""
        return web.Response(status=500)

    def expired(self, request: web.Request) -> web.Response:
        """Section 2: 401 for a key, an anonymous answer for a login token."""
        if request.headers.get("Authorization", "").removeprefix("Bearer ").startswith("sk-"):
            return _bad_key()
        if self._path(request)[0] == "/state":
            return _json({"admin": False, "status": False, "user": ""})
        return self._no("user not found")

    def _ok(self, **more: Any) -> web.Response:
        return _json({"status": True, "message": "" if self.switches["message"] == "empty" else "success"} | more)

    @staticmethod
    def _no(message: str) -> web.Response:
        return _json({"status": False, "message": message})

    # --- account and catalogue ------------------------------------------------------------------------------------------------------

    async def _index(self, request: web.Request, user: User) -> web.Response:
        return _json({"auth": user is not ANONYMOUS, "method": request.method, "status": True})

    async def _state(self, request: web.Request, user: User) -> web.Response:
        return _json({"admin": False, "status": user is not ANONYMOUS, "user": user.name})

    async def _login(self, request: web.Request, user: User) -> web.Response:
        body = _object(await request.read())
        if not isinstance(body.get("username"), str) or not isinstance(body.get("password"), str):
            return _json({"status": False, "error": "bad request"})
        if not 6 <= len(body["password"].encode()) <= 36:
            return _json({"status": False, "error": "invalid username or password format"})
        found = next((user for user in (self.user, self.second) if (user.name, user.password) == (body["username"], body["password"])), None)
        if found is None or self.outage:
            return _json({"status": False, "error": "invalid username or password"})
        return _json({"status": False, "error": "current user is banned"} if found.banned else {"status": True, "token": self.token(found)})

    async def _apikey(self, request: web.Request, user: User) -> web.Response:
        return _json({"status": True, "key": user.key} if user is not ANONYMOUS else {"status": False, "error": "user not found"})

    async def _resetkey(self, request: web.Request, user: User) -> web.Response:
        if user is not ANONYMOUS:
            user.key = "sk-" + hashlib.sha256(user.key.encode()).hexdigest()
        return await self._apikey(request, user)

    async def _quota(self, request: web.Request, user: User) -> web.Response:
        return _json({"quota": 12.5, "status": True} if user is not ANONYMOUS else {"status": False, "error": "user not found"})

    async def _userinfo(self, request: web.Request, user: User) -> web.Response:
        if user is ANONYMOUS:
            return _json({"status": False, "error": "user not found"})
        data = {"id": user.number, "register_days": 30.5, "used_quota": 0, "plan_total_month": 0, "email": "a@example.com"}
        return _json({"data": data, "status": True})

    async def _models(self, request: web.Request, user: User) -> web.Response:
        models = [{"id": model, "object": "model", "created": 1735689600, "owned_by": "system"} for model in MODELS]
        return _json({"object": "list", "data": models})

    async def _market(self, request: web.Request, user: User) -> web.Response:
        if self.switches["catalogue"] != "market":
            return _json([] if self.switches["catalogue"] == "empty_market" else None)
        common = {"default": True, "high_context": False, "avatar": "model.png"}
        return _json(
            [
                {
                    "id": model,
                    "name": model.upper(),
                    "description": "便宜 & fast" if model == "glm-4" else "",
                    "tag": ["official"] if place % 2 == 0 else None,
                }
                | common
                for place, model in enumerate(MODELS)
            ]
        )

    async def _charge(self, request: web.Request, user: User) -> web.Response:
        return _json(
            [
                {"id": 1, "type": "non-billing", "models": ["glm-4"], "input": 0, "output": 0, "anonymous": True},
                {"id": 2, "type": "times-billing", "models": ["gpt-4o"], "input": 0, "output": 0.5, "anonymous": False},
                {"id": 3, "type": "token-billing", "models": ["qwen-plus", "glm-4"], "input": 0.02, "output": 0.06, "anonymous": False},
            ]
        )

    # --- conversations --------------------------------------------------------------------------------------------------------------

    def _model(self, talk: Talk) -> str:
        return "gpt-3.5-turbo" if self.switches["database"] == "sqlite" else talk.model

    @staticmethod
    def _lines(number: int, talk: Talk) -> list[dict[str, Any]]:
        if talk.lines is not None:
            return talk.lines
        _name, question, answer = TOPICS[number % len(TOPICS)]
        texts = (f"{question} ({number})", answer)
        return [
            {"role": ("user", "assistant")[turn % 2], "content": texts[turn % 2] + (f" #{turn}" if turn > 1 else "")} for turn in range(talk.length)
        ]

    async def _list(self, request: web.Request, user: User) -> web.Response:
        if user is ANONYMOUS:
            return self._no("user not found")
        length = 100 if self.switches["list_length"] == "100" else 97
        rich = self.switches["list_rows"] == "doc"
        with self.lock:
            rows = [
                {"auth": False, "user_id": user.number if rich else 0, "id": number, "name": talk.name, "message": None}
                | {"model": self._model(talk) if rich else "", "enable_web": False, "shared": False, "context": 0}
                | ({"unknown_field": {"of": "a later version"}} if rich else {})
                for number, talk in ([] if self.outage else islice(reversed(user.talks.items()), length))
            ]
        return self._ok(data=rows or ([] if self.switches["nothing"] == "empty" and not self.outage else None))

    async def _load(self, request: web.Request, user: User) -> web.Response:
        if user is ANONYMOUS:
            return self._no("user not found")
        if (number := _whole_number(request.query.get("id", ""))) is None:
            return self._no("invalid id")
        talk = user.talks.get(number)
        if number in self.crashing:
            return self.failed(request)
        self.loads += 1
        failing = self.failing_loads[0] <= self.loads <= self.failing_loads[1]
        if talk is None or self.outage or failing or number in self.unreadable:
            return self._no(NOT_FOUND)
        lines = self._lines(number, talk)
        new = self.switches["fields"] == "4.0"
        data = {
            "auth": False,
            "user_id": user.number,
            "id": number,
            "name": talk.name,
            "message": None if talk.null and not lines else [line if new else _without(line, "reasoning_content") for line in lines],
            "model": self._model(talk),
            "enable_web": False,
            "shared": False,
            "context": 0,
        }
        return self._ok(data=data | ({"task_id": talk.task} if talk.task and new else {}))

    async def _rename(self, request: web.Request, user: User) -> web.Response:
        if user is ANONYMOUS:
            return self._no("user not found")
        try:
            body = json.loads(await request.read())
        except ValueError:
            return self._no("invalid form")
        number, name = (body.get("id", 0), body.get("name", "")) if isinstance(body, dict) else (None, None)
        if type(number) is not int or not -(2**63) <= number < 2**63 or not isinstance(name, str):
            return self._no("invalid form")
        talk = user.talks.get(number)
        if talk is None or self.outage:
            return self._no(NOT_FOUND)
        if len(name) > 255 and self.switches["database"] == "mysql":
            if self.switches["long_names"] == "lost":
                return self._ok()
            name = name[:255]
        kept = {"name": talk.name}
        self.stored(request, kept, {"name": name})
        talk.name = kept["name"]
        return self._ok()

    async def _delete(self, request: web.Request, user: User) -> web.Response:
        if user is ANONYMOUS:
            return self._no("user not found")
        if (number := _whole_number(request.query.get("id", ""))) is None:
            return self._no("invalid id")
        if number not in user.talks or self.outage:
            return self._no(NOT_FOUND)
        if not self.mode(request):
            del user.talks[number]
            request["call"].changed = True
        return self._ok()

    async def _clean(self, request: web.Request, user: User) -> web.Response:
        if user is ANONYMOUS:
            return self._no("user not found")
        if not self.mode(request) and not self.outage:
            request["call"].changed = bool(user.talks)
            user.talks.clear()
        return self._ok()


def _json(value: Any, *, status: int = 200) -> web.Response:
    """Section 3: Unicode as it is, but <, > and & as escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        text = text.replace(sign, escape)
    return web.Response(status=status, body=text.encode(), content_type="application/json", charset="utf-8")


def _bad_key() -> web.Response:
    return _json({"code": 401, "message": "Access denied. Please provide correct api key."}, status=401)


def _whole_number(text: str) -> int | None:
    """Section 6: a decimal integer of 64 bits with an optional sign, and nothing else."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit() or not -(2**63) <= int(text) < 2**63:
        return None
    return int(text)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _without(line: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != name}


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
