"""A simulated 宠智灵 (chongzhiling, gjpet): token service, list of sessions, session records. Written from the contract alone.

It is as strict as the contract allows: it refuses missing or wrong parameters, unknown tokens and keys, and every call that would write,
which is logged as a write all the same. Sections (§) are the contract's. All data is synthetic.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from aiohttp import web

from .kit import Simulator

TOKEN_PATH = "/token/accessToken"
PREFIXES = ("/api/v2.0/ai-b", "/api/v2.0/ai-en")  # §0: the English edition has the same calls
NO_SESSION = "该会话不存在或无权访问"

API_KEY = "KEY-synthetic+cz/0001="  # with characters that must be escaped in a query
CORP_ID = "corp-synthetic-0001"
USER, OTHER_USER = "clinic-user-01", "clinic-user-02"

NEWEST = datetime(2026, 5, 11, 9, 14, 32)

COMPLAINTS = (
    "兔子不吃草，精神差",
    "猫咪呕吐两次",
    "My dog scratches its ears all night",
    "狗狗拉稀带血丝",
    "疫苗可以和驱虫一起做吗？",
    "Kitten sneezes after moving house",
    "仓鼠眼睛肿了",
    "老年犬半夜嚎叫 🐶",
    "鹦鹉拔自己的羽毛",
    "How much water should a rabbit drink?",
    "绝育后多久可以洗澡",
    "猫抓板上的血迹是哪来的",
)
QUESTIONS = ("从什么时候开始的？", "体温量过吗？", "Has the diet changed lately?", "有没有接触过其他动物？", "精神和食欲怎么样？")
ANSWERS = ("昨天晚上开始的。", "38.9 度。", "No, the same food as always.", "邻居家有一只猫。", "不太好，只喝了一点水。")
SUMMARY = "**小结**：请在 12 小时内就医。\n\n- 先停食 4 小时\n- 观察排便"

Script = list[dict[str, Any]]


def _say(role: str, content: str | None, stage: int, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, "stage": stage, "image": None, "content_type": 1, "evaluation": None} | more


# Sessions of the demo that show something particular: (module, pet, status, report status, messages).
CRAFTED: tuple[tuple[int, int, int, int, Script], ...] = (
    (
        1,
        512,
        2,
        2,
        [
            _say("user", "兔子不吃草，精神差", 1),
            _say("system", "流程：提取关键词", 8),
            _say("ai", "从什么时候开始的？", 3),
            _say("user", "昨天晚上，便便也变小了 💩➡️🥲", 2),
            _say("system", "流程：推理", 8),
            _say("ai", SUMMARY, 4),
            _say("ai", "## 报告\n\n| 项目 | 结果 |\n| --- | --- |\n| 体温 | 38.9 °C |\n| 风险 | **中** |\n\n请在 12 小时内就医。", 5),
        ],
    ),
    (4, 0, 2, 0, [_say("user", None, 1), _say("user", "幼猫多大可以吃罐头？", 2), _say("assistant", "满 **8 周**以后可以少量尝试。", 6)]),
    (
        4,
        0,
        2,
        0,
        [
            _say("user", "Give me a script that reminds me of deworming every 90 days", 1),
            _say(
                "assistant",
                "```python\nfrom datetime import date, timedelta\n\nprint(date.today() + timedelta(days=90))\n```\nRun it *once* a quarter.",
                6,
            ),
        ],
    ),
    (
        1,
        513,
        1,
        0,
        [
            _say("user", "<script>alert('xss')</script><img src=x onerror=alert(1)>", 1),
            _say("ai", "[请点这里](javascript:alert(1)) 或 <iframe src='https://evil.example'></iframe> 查看。", 3),
        ],
    ),
    (
        1,
        514,
        2,
        1,
        [
            _say("user", "[图片] 左眼红肿", 1, image="https://img.example.com/rabbit-eye.jpg", content_type=2),
            _say("doctor", "像是结膜炎，需要滴眼液。", 3, evaluation=5),
            _say("ai", "请补充一张近照。", 3),
        ],
    ),
    (1, 0, 4, 0, []),  # begun and left
    (1, 515, 3, 0, [_say("system", "流程：会话已创建", 8)]),  # nothing that the paged mode shows
    (4, 0, 2, 0, [_say("assistant", "您好，我是宠物知识助手。", 6)]),  # nobody asked anything: the title is the last message
    (5, 516, 2, 2, [_say("user", "[图片] 皮肤照片", 1, image="https://img.example.com/skin.jpg", content_type=2)]),  # not an administered module
    (19, 0, 2, 0, [_say("user", "换季护理建议", 1), _say("ai", "注意梳毛。", 6)]),
    (12, 0, 2, 0, [_say("user", "[视频] 走路一瘸一拐", 1)]),
)
LONG = 139  # messages that the paged mode shows of the long session


@dataclass(slots=True)
class Session:
    """One session; its messages are made when somebody asks for them."""

    session_id: str
    record_id: int
    module: int
    pet: int
    status: int
    report: int
    title: str
    latest: datetime
    count: int  # messages that the paged mode shows
    hidden: int  # messages of stage 8
    last: str
    last_role: str | None
    built: Script | None = None

    def messages(self) -> Script:
        """Returns all messages, stage 8 included, oldest first."""
        if self.built is None:
            self.built = _generated(self)
        return self.built


def _generated(session: Session) -> Script:
    rows: Script = []
    for number in range(1, session.count + 1):
        if number == 1:
            rows.append(_say("user", session.title, 1))
        elif number == session.count and number % 2 == 0:
            rows.append(_say("ai", session.last, 4))
        elif number % 2 == 0:
            rows.append(_say("ai", f"{QUESTIONS[number // 2 % len(QUESTIONS)]}（第 {number} 条）", 3))
        else:
            rows.append(_say("user", f"{ANSWERS[number // 2 % len(ANSWERS)]} #{number}", 2))
        if number % 4 == 0:
            rows.append(_say("system", f"流程：第 {number} 步", 8))
    _number(rows, session)
    return rows


def _number(rows: Script, session: Session) -> None:
    for at, row in enumerate(rows):
        row.setdefault("id", session.record_id * 10_000 + at)
        row.setdefault("created_at", _time(session.latest - timedelta(seconds=11 * (len(rows) - 1 - at))))


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


@dataclass
class ChongzhilingSimulator(Simulator):
    """The service with two users; `requests_per_minute` 0 means that it never throttles by itself."""

    key: ClassVar[str] = "chongzhiling"
    SWITCHES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        # §1: header or query parameter, "both probably work".
        "token_in": ("both", "header", "query"),
        # §1: what a refused key looks like.
        "token_refusal": ("http200_code401", "http200_code400", "http401", "http400"),
        # §1: the documented answer, or its lifetime as text, or none (only [doc] for one example).
        "token_answer": ("documented", "text_expiry", "no_expiry"),
        # §1: whether a new token ends the one before.
        "new_token": ("keeps_old", "ends_old"),
        # §2: bodies of 400, 401, 403, 404, 422 and 500.
        "error_body": ("problem", "envelope", "empty", "html"),
        # §2: whether an error's text repeats the request, key and token included (not stated; problem details often do).
        "error_text": ("plain", "repeats_request"),
        # §2: bodies of 429 and 503.
        "overload_body": ("html", "problem", "envelope"),
        # §2: which of the two statuses a server in trouble gives.
        "trouble_status": ("500", "503"),
        # §2: "some pages also show an integer error_code".
        "error_code": ("absent", "present"),
        # §2, §5: the OpenAPI file has 201 for POST.
        "post_status": ("200", "201"),
        # §3: the title of a session without messages.
        "empty_title": ("empty", "null"),
        # §3: whether message_count counts hidden ones.
        "message_count": ("visible", "all"),
        # §3: the largest page size.
        "limit_max": ("none", "capped_at_20", "refused_above_20"),
        # §3: a page past the end (list and record).
        "past_end": ("empty", "refused", "last_page"),
        # §4: total_count of a record: filtered; or all, with the pages cut after or before the filter.
        "total_count": ("visible", "all", "all_cut_before_filter"),
        # §4: status and form of the refusal of an unknown session.
        "not_found": ("200", "400", "403", "404", "404_problem"),
    }

    requests_per_minute: int = 0
    token_life: float = 172_800.0
    tokens: dict[str, tuple[str, float]] = field(default_factory=dict)  # token -> (user, end)
    issued: int = 0

    def setup(self) -> None:
        """Builds the demo's sessions: the particular ones, one long one, and ordinary ones of both modules."""
        self.sessions: dict[str, dict[str, Session]] = {USER: {}, OTHER_USER: {}}
        self.order: dict[str, list[str]] = {USER: [], OTHER_USER: []}
        self._filtered: dict[tuple[Any, ...], tuple[int, list[Session]]] = {}
        self._version = 0
        self._calls: list[float] = []
        made = random.Random(self.seed)
        number = 0
        for module, pet, status, report, script in CRAFTED:
            number += 1
            self._craft(USER, made, number, module, pet, status, report, [dict(row) for row in script])
        number += 1
        self._add(USER, self._ordinary(made, number, LONG, module=1))
        for _unused in range(46):
            number += 1
            self._add(USER, self._ordinary(made, number, 2 + number % 7))
        for _unused in range(3):
            number += 1
            self._add(OTHER_USER, self._ordinary(made, number, 3))

    def _craft(self, user: str, made: random.Random, number: int, module: int, pet: int, status: int, report: int, script: Script) -> None:
        shown = [row for row in script if row["stage"] != 8]
        first = next((row["content"] for row in shown if row["role"] == "user" and row["content"]), None)
        last = shown[-1] if shown else None
        session = Session(
            session_id=_uuid(made),
            record_id=90_000 + number,
            module=module,
            pet=pet,
            status=status,
            report=report,
            title=first or (last["content"] if last else ""),
            latest=NEWEST - timedelta(minutes=7 * number),
            count=len(shown),
            hidden=len(script) - len(shown),
            last=last["content"] if last else "",
            last_role=last["role"] if last else None,
            built=script,
        )
        _number(script, session)
        self._add(user, session)

    @staticmethod
    def _ordinary(made: random.Random, number: int, count: int, module: int = 0) -> Session:
        title = f"{COMPLAINTS[number % len(COMPLAINTS)]} {number}"
        closing = SUMMARY if count % 2 == 0 else f"{ANSWERS[count // 2 % len(ANSWERS)]} #{count}"
        return Session(
            session_id=_uuid(made),
            record_id=90_000 + number,
            module=module or (1, 1, 4)[number % 3],
            pet=0 if number % 3 == 2 else 500 + number % 9,
            status=(2, 2, 1, 3, 4)[number % 5],
            report=(2, 0, 1, 3)[number % 4],
            title=title,
            latest=NEWEST - timedelta(minutes=7 * number),
            count=count,
            hidden=count // 4,
            last=title if count == 1 else closing,
            last_role="user" if count % 2 else "ai",
        )

    def _add(self, user: str, session: Session) -> None:
        self.sessions[user][session.session_id] = session
        self.order[user].append(session.session_id)
        self._version += 1

    def populate(self, count: int, *, messages: int = 4) -> None:
        """Replaces the first user's sessions by `count` ordinary ones (modules 1 and 4)."""
        made = random.Random(self.seed + 1)
        with self.lock:
            self.sessions[USER], self.order[USER] = {}, []
            for number in range(1, count + 1):
                self._add(USER, self._ordinary(made, number, messages))

    def unlimited(self) -> None:
        """Switches every limit off."""
        self.requests_per_minute = 0

    def credential(self) -> dict[str, str]:
        """Returns a key and its user; `ready_token` makes the other kind."""
        return {"api_key": API_KEY, "user_id": USER}

    def ready_token(self, user: str = USER) -> str:
        """Returns a new token of this user, as somebody might have been given one."""
        with self.lock:
            if self.switches["new_token"] == "ends_old":
                self.tokens = {token: held for token, held in self.tokens.items() if held[0] != user}
            self.issued += 1
            token = f"TOKEN-synthetic-{self.seed:04d}-{self.issued:06d}"
            self.tokens[token] = (user, time.monotonic() + self.token_life)
            return token

    def end_tokens(self) -> None:
        """Ends every token now, two days early."""
        with self.lock:
            self.tokens.clear()

    def truth(self) -> dict[str, dict[str, Any]]:
        """Returns the first user's consultations and knowledge questions; there is no model to tell."""
        with self.lock:
            return {
                key: {"title": session.title, "model": None, "status": session.status, "module_type": session.module, "message_count": session.count}
                for key, session in self.sessions[USER].items()
                if session.module in (1, 4)
            }

    def change_by_somebody(self, remote_id: str, *, title: str | None = None, messages: int = 2, **values: Any) -> None:
        """Goes on with a session in the provider's app: `messages` more of them; it moves to the top of the list.

        `title` is the title that the server then has (people cannot set one); `model` is accepted and means nothing here.
        """
        with self.lock:
            session = self.sessions[USER][remote_id]
            rows = session.messages()
            session.latest = max(self.sessions[USER][self.order[USER][0]].latest, session.latest) + timedelta(seconds=1)
            for step in range(messages):
                session.count += 1
                role, content = ("ai", f"收到，第 {session.count} 条。") if step % 2 else ("user", f"补充一点 #{session.count}")
                rows.append(_say(role, content, 3 if role == "ai" else 7))
                session.last, session.last_role = content, role
            _number(rows, session)
            if title is not None:
                session.title = title
            session.status = values.get("status", session.status)
            self.order[USER].remove(remote_id)
            self.order[USER].insert(0, remote_id)
            self._version += 1

    def remove_by_somebody(self, remote_id: str) -> None:
        """Makes a session vanish (there is no such call; a pet profile's end might do it)."""
        with self.lock:
            del self.sessions[USER][remote_id]
            self.order[USER].remove(remote_id)
            self._version += 1

    # --- routes -------------------------------------------------------------------------------------------------------------------

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns the three calls that reading needs; everything else is refused by the last one."""
        found: list[web.AbstractRouteDef] = [web.get(TOKEN_PATH, self._paced(self._access_token))]
        for prefix in PREFIXES:
            found.append(web.post(f"{prefix}/medical-session-list", self._paced(self._session_list)))
            found.append(web.get(f"{prefix}/session-record", self._paced(self._session_record)))
        return [*found, web.route("*", "/{anything:.*}", self._anything_else)]

    def is_write(self, request: web.Request) -> bool:
        """True for every unsafe method except the list, which is asked for with POST."""
        return request.method not in ("GET", "HEAD", "OPTIONS") and not request.path.endswith("/medical-session-list")

    def _paced(self, handler: Callable[[web.Request], Awaitable[web.Response]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def paced(request: web.Request) -> web.Response:
            now = time.monotonic()
            with self.lock:
                self._calls = [at for at in self._calls if at > now - 60] if self.requests_per_minute else []
                if self.requests_per_minute and len(self._calls) >= self.requests_per_minute:
                    return self.throttled(request)
                self._calls.append(now)
                return await handler(request)

        return paced

    async def _access_token(self, request: web.Request) -> web.Response:
        """§1."""
        query = request.query
        if not query.get("user_id") or not (query.get("api_key") or query.get("corp_id")) or set(query) - {"api_key", "corp_id", "user_id"}:
            return self._error(request, 400, "Missing query parameter")
        good = query["api_key"] == API_KEY if query.get("api_key") else query["corp_id"] == CORP_ID
        return self._token_for(query["user_id"]) if good else self._key_refused(request)

    def _token_for(self, user: str) -> web.Response:
        data: dict[str, Any] = {"access_token": self.ready_token(user), "expires_in": int(self.token_life)}
        if self.switches["token_answer"] == "text_expiry":
            data["expires_in"] = str(data["expires_in"])
        elif self.switches["token_answer"] == "no_expiry":
            del data["expires_in"]
        return _json({"code": 200, "message": "success", "data": data})

    def _key_refused(self, request: web.Request) -> web.Response:
        form, told = self.switches["token_refusal"], self._text(request, "api_key 无效")
        if form.startswith("http200"):
            return _json({"code": int(form[-3:]), "message": told, "data": None})
        return self._error(request, int(form[-3:]), "Invalid api_key")

    def _user(self, request: web.Request) -> str | None:
        """Returns whose token came with the request (§1), None when there is none that counts."""
        kind, _space, bearer = request.headers.get("Authorization", "").partition(" ")
        sent = {"header": bearer if kind == "Bearer" else "", "query": request.query.get("token", "")}
        way = self.switches["token_in"]
        token = sent[way] if way != "both" else (bearer if request.headers.get("Authorization") else sent["query"])
        user, ends = self.tokens.get(token, ("", 0.0))
        return user if user and ends > time.monotonic() else None

    async def _session_list(self, request: web.Request) -> web.Response:
        """§3."""
        if (user := self._user(request)) is None:
            return self.expired(request)
        body = request["call"].body
        if request.content_type != "application/json" or not isinstance(body, dict):
            return self._error(request, 400, "Request body is not valid")
        for name in ("page", "limit"):
            if not _is_int(body.get(name, 1)):
                return self._error(request, 400, f"'{name}' is not of type 'integer'")
        for name in ("module_type", "pet_profile_id"):
            if not isinstance(body.get(name, []), list) or not all(map(_is_int, body.get(name, []))):
                return self._error(request, 400, f"'{name}' is not of type 'array'")
        page, limit = body.get("page", 1), self._limit(body.get("limit", 10))
        if page < 1 or limit is None or set(body) - {"page", "limit", "module_type", "pet_profile_id"}:
            return self._error(request, 422, "Parameter value is wrong")
        rows = self._rows(user, tuple(body.get("module_type", [1, 4])), tuple(body.get("pet_profile_id", [])))
        cut = _cut(len(rows), page, limit, self.switches["past_end"])
        if cut is None:
            return self._error(request, 422, "Page is out of range")
        start, end, pagination = cut
        return self._success({"list": [self._row(session) for session in rows[start:end]], "pagination": pagination}, request)

    def _rows(self, user: str, modules: tuple[int, ...], pets: tuple[int, ...]) -> list[Session]:
        held = self._filtered.get((user, modules, pets))
        if held is None or held[0] != self._version:
            sessions = self.sessions.get(user, {})
            rows = [session for session in map(sessions.__getitem__, self.order.get(user, ())) if session.module in modules]
            held = (self._version, [session for session in rows if not pets or session.pet in pets])
            self._filtered = {(user, modules, pets): held}
        return held[1]

    def _row(self, session: Session) -> dict[str, Any]:
        title: str | None = session.title
        if not title and self.switches["empty_title"] == "null":
            title = None
        return {
            "medical_record_id": session.record_id,
            "session_id": session.session_id,
            "module_type": session.module,
            "pet_profile_id": session.pet,
            "sub_module_type": None,
            "status": session.status,
            "report_status": session.report,
            "title": title,
            "last_message": session.last,
            "last_role": session.last_role,
            "message_count": session.count + (session.hidden if self.switches["message_count"] == "all" else 0),
            "latest_time": _time(session.latest),
            "created_at": _time(session.latest - timedelta(hours=1)),
            "updated_at": _time(session.latest + timedelta(hours=8)),  # §2: as if in another zone
        }

    async def _session_record(self, request: web.Request) -> web.Response:
        """§4, both modes."""
        if (user := self._user(request)) is None:
            return self.expired(request)
        query = request.query
        if not query.get("session_id") or set(query) - {"session_id", "page", "limit", "token"}:
            return self._error(request, 400, "Missing query parameter 'session_id'")
        session = self.sessions.get(user, {}).get(query["session_id"])
        if session is None:
            return self._no_session(request)
        if "page" not in query and "limit" not in query:
            history = [{name: row[name] for name in ("role", "content", "image")} for row in session.messages()]
            return self._success({"history": history}, request)
        if not all(query.get(name, "1").lstrip("-").isdecimal() for name in ("page", "limit")):
            return self._error(request, 400, "Wrong type, expected 'integer'")
        page, limit = int(query.get("page", 1)), self._limit(int(query.get("limit", 20)))
        if page < 1 or limit is None:
            return self._error(request, 422, "Parameter value is wrong")
        everything = session.messages()
        shown = [row for row in everything if row["stage"] != 8]
        counted = shown if self.switches["total_count"] == "visible" else everything
        cut = _cut(len(counted), page, limit, self.switches["past_end"])
        if cut is None:
            return self._error(request, 422, "Page is out of range")
        start, end, pagination = cut
        source = everything if self.switches["total_count"] == "all_cut_before_filter" else shown
        return self._success({"history": [row for row in source[start:end] if row["stage"] != 8], "pagination": pagination}, request)

    def _limit(self, asked: int) -> int | None:
        """Returns the page size that is used, None when the asked one is refused."""
        if asked < 1 or (asked > 20 and self.switches["limit_max"] == "refused_above_20"):
            return None
        return min(asked, 20) if self.switches["limit_max"] == "capped_at_20" else asked

    async def _anything_else(self, request: web.Request) -> web.Response:
        """Refuses what the client has no business calling (§5), and what does not exist."""
        if self.is_write(request):
            return self._error(request, 403, "This simulator does not let anybody write")
        return self._error(request, 404, "The requested URL was not found on the server.")

    # --- forms of answers: §2 --------------------------------------------------------------------------------------------------------

    def _success(self, data: Any, request: web.Request) -> web.Response:
        body = {"data": data, "message": "Get successfully.", "success": True}
        if self.switches["error_code"] == "present":
            body["error_code"] = 0
        return _json(body, int(self.switches["post_status"]) if request.method == "POST" else 200)

    def _refusal(self, told: str, status: int) -> web.Response:
        body = {"data": None, "message": told, "success": False}
        if self.switches["error_code"] == "present":
            body["error_code"] = 1001
        return _json(body, status)

    def _text(self, request: web.Request, told: str) -> str:
        if self.switches["error_text"] == "plain":
            return told
        query = "&".join(f"{name}={value}" for name, value in request.query.items())
        return f"{told}: {request.path_qs} ({query}) {request.headers.get('Authorization', '')}"

    def _error(self, request: web.Request, status: int, told: str, form: str = "") -> web.Response:
        form, told = form or self.switches["error_body"], self._text(request, told)
        if form == "envelope":
            return self._refusal(told, status)
        if form == "problem":
            problem = {"detail": told, "status": status, "title": web.Response(status=status).reason or "", "type": "about:blank"}
            return _json(problem, status, "application/problem+json")
        page = "<!doctype html><html><head><title>Error</title></head><body><h1>Error</h1></body></html>" if form == "html" else ""
        return web.Response(status=status, text=page, content_type="text/html")

    def _no_session(self, request: web.Request) -> web.Response:
        form = self.switches["not_found"]
        if form == "404_problem":
            return self._error(request, 404, NO_SESSION, "problem")
        return self._refusal(NO_SESSION, int(form))

    def throttled(self, request: web.Request) -> web.Response:
        """429 without Retry-After (§2)."""
        return self._error(request, 429, "Too many requests", self.switches["overload_body"])

    def failed(self, request: web.Request) -> web.Response:
        """500 or 503 (§2)."""
        status = int(self.switches["trouble_status"])
        return self._error(request, status, "Internal error", self.switches["overload_body"] if status == 503 else "")

    def expired(self, request: web.Request) -> web.Response:
        """401, and at the token service the refusal of a key (§1, §2)."""
        if request.path == TOKEN_PATH:
            return self._key_refused(request)
        return self._error(request, 401, "Invalid token")


def _uuid(made: random.Random) -> str:
    digits = f"{made.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-9{digits[17:20]}-{digits[20:]}"


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _cut(total: int, page: int, limit: int, past_end: str) -> tuple[int, int, dict[str, Any]] | None:
    """Returns where a page begins and ends, with its pagination block (§3); None when a page past the end is refused."""
    pages = -(-total // limit)
    if page > max(pages, 1):
        if past_end == "refused":
            return None
        page = max(pages, 1) if past_end == "last_page" else page
    block = {"total_count": total, "page": page, "limit": limit, "total_pages": pages, "has_next": page < pages, "has_prev": page > 1}
    return (page - 1) * limit, page * limit, block


def _json(body: Any, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(status=status, text=json.dumps(body, ensure_ascii=False), content_type=content_type)
