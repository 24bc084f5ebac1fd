"""A strict stand-in for aurod (ai.aurod.cn), written from its contract; comments and switches name the contract's sections.

Two synthetic users exist: user@example.com with the demo's sessions and second@example.com with a few; both have the password
"synthetic-password" and can log in (5.1). Everything is deterministic from the code: no random numbers, fixed dates before 2026-02.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from bisect import bisect_left, insort
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from aiohttp import web

from .aurod_data import (
    ANSWERS,
    BEGIN,
    LENGTHS,
    MODELS,
    PASSWORD,
    PROMPT,
    QUESTIONS,
    RANGES,
    RECORDS_A_PAGE,
    SIGNING_KEY,
    TITLES,
    TYPES,
    UNTITLED,
    USERS,
    XSS,
    ZONE,
)
from .kit import Handler, Simulator


@dataclass
class AurodSimulator(Simulator):
    """The sessions, records, models and users of one site of this product."""

    key: ClassVar[str] = "aurod"
    SWITCHES: ClassVar[dict[str, tuple[str, ...]]] = {
        "list_order": ("created", "updated"),  # 5.4, 9.3: which order rules is open
        "pinned": ("first", "in_place"),  # 5.4: inferred that pinned rows lead
        "expired_as": ("200_code2", "401_code2", "401_code1", "401_text"),  # 2.3, 9.1
        "release": ("2.14", "3.4"),  # 1, 4.1 to 4.3, 9.1: extra fields, null arrays, other model values, replies and markers
        "put_foreign": ("ignored", "stored", "checked"),  # 5.7, 9.2: uid and created of a PUT
        "extra_keys": ("ignored", "refused", "stored"),  # 9.2: keys of a PUT that the session does not have
        "model_check": ("none", "http400", "code1"),  # 5.7, 9.2
        "range_check": ("none", "http400", "code1"),  # 4.1, 9.2
        "page_size": ("30", "20"),  # 2.5, 9.3: the server's choice
        "size_param": ("ignored", "honoured"),  # 2.5, 9.3
        "beyond_last": ("empty", "last_page"),  # 2.5
        "app_version": ("required", "not_checked", "current"),  # 2.1, 9.4: "current" refuses versions below 2.14.0
        "unknown_id": ("code1", "http404", "http404_text"),  # 2.3, 9.6
        "unknown_records": ("refused", "empty"),  # 9.6: the records of an unknown session
        "bad_body": ("json400", "text400"),  # 2.3: PUT without all fields
        "bad_value": ("http400", "code1"),  # 2.3
        "no_route": ("text", "json"),  # 2.3
        "throttle_as": ("429", "429_retry_after", "403_html", "200_code429"),  # 2.3, 9.6
        "error_text": ("msg", "data.msg"),  # 2.3
        "noop_put": ("keeps_updated", "sets_updated"),  # 5.5
        "app_model": ("stored", "ignored"),  # gotcha 8: useAppId > 0
        "cookie": ("not_needed", "required"),  # 2.1: the cookie's role is inferred
        "search": ("substring", "case_sensitive", "prefix", "exact"),  # 5.4
        "user_info": ("there", "missing"),  # 5.2 was recorded by one client; 9.1
        "gateway": ("html", "json"),  # 2.3: the form of a 5xx
        "record_model": ("value", "label"),  # 4.2
    }

    max_in_flight: int = 5  # of one token, 2.6: refused beyond that; 0 switches it off
    per_second: int = 0  # no figure is known; 0 switches it off
    sessions: dict[int, dict[str, Any]] = field(default_factory=dict)
    written: dict[int, list[dict[str, Any]]] = field(default_factory=dict)  # records held one by one, oldest first
    counted: dict[int, int] = field(default_factory=dict)  # records made when they are asked for

    # --- state --------------------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Builds 64 sessions of the first user and 12 of the second."""
        self._in_flight: Counter[str] = Counter()
        self._recent: deque[float] = deque()
        self._clear()
        for number in range(64):
            self._new(number, 10001, self._title(number), 2 + number % 4)
        for number in range(12):
            self._new(200 + number, 10002, self._title(number + 3), 1 + number % 3)
        made = sorted(key for key in self.sessions if self.sessions[key]["uid"] == 10001)
        self._adorn(made)

    def _adorn(self, made: list[int]) -> None:
        """Makes some sessions special: what a client may meet and must leave alone."""
        long, empty, attack, pinned, app, odd, left, busy = made[-2], made[-3], made[-4], made[-5], made[-6], made[-7], made[-8], made[-9]
        self.long_id = str(long)
        self._set(long, name="一百多条消息的长对话 🧵")
        self.written[long] = [self._record(long, n) for n in range(1, 66)]
        self.written[long][3] |= {"userStop": True, "useImages": ["https://img.example.com/a.png"], "useFiles": ["https://files.example.com/b.pdf"]}
        self.written[long][4]["aiText"] = ""
        if self.switches["release"] == "3.4":
            self.written[long][20] |= {"recordType": "context_clear", "userText": "", "aiText": ""}
            self.written[long][30]["replies"] = [{"aiText": "另一个回答", "model": "deepseek-chat"}]
        self._set(empty, name="Nothing said yet")
        self.counted[empty] = 0
        self._set(attack, name='<img src=x onerror="alert(1)">')
        self.written[attack] = [self._record(attack, 1) | {"userText": XSS, "aiText": XSS + "\n\n```html\n" + XSS + "\n```"}]
        self._set(pinned, name="置顶的对话", topSort=3, icon="📌")
        self._set(app, name="由应用创建", useAppId=7)
        self._set(odd, name="Beyond the form's limits", contextCount=65536, temperature=1.7, icon="", prompt=" two\r\nlines ", maxToken=0)
        self._set(left, name="Model that left the catalogue", model="gpt-3.5-turbo-0613")
        self._set(busy, name="带插件的对话", plugins=["web_search", "code"], mcp=[{"id": 3, "name": "files"}], localPlugins=[], temperature=0.2)

    def _clear(self) -> None:
        self.sessions.clear()
        self.written.clear()
        self.counted.clear()
        self._order: dict[int, list[tuple[int, int, int]]] = {uid: [] for uid in USERS}
        self._keys: dict[int, tuple[int, int, int]] = {}
        self.long_id = ""

    @staticmethod
    def _title(number: int) -> str:
        return UNTITLED if number % 7 == 2 else f"{TITLES[number % len(TITLES)]} {number}" if number >= len(TITLES) else TITLES[number]

    def _new(self, number: int, uid: int, title: str, records: int) -> dict[str, Any]:
        created = BEGIN + timedelta(minutes=number)
        # Changes come in another order than creations, so that the two possible orders of the list differ.
        updated = created + timedelta(minutes=(number * 7919) % 4000) if number % 3 else created
        model = MODELS[number % 6][1]
        session = {
            "id": 500001 + number,
            "created": _text(created),
            "updated": _text(updated),
            "uid": uid,
            "name": title,
            "model": model,
            "maxToken": 0,
            "contextCount": 10,
            "temperature": 0,
            "presencePenalty": 0,
            "frequencyPenalty": 0,
            "prompt": PROMPT,
            "topSort": 0,
            "icon": "",
            "plugins": [],
            "mcp": [],
            "localPlugins": None,
            "useAppId": 0,
        }
        if self.switches["release"] == "3.4":  # 4.1
            session |= {"plugins": None, "mcp": None, "webSearch": False, "rags": [], "nativeTools": None, "reasoningEffort": "medium"}
            if model.startswith("gpt"):
                session["model"] = f"openai::{model}"
        self.sessions[session["id"]] = session
        self.counted[session["id"]] = records
        self._place(session)
        return session

    def _set(self, number: int, **values: Any) -> None:
        self.sessions[number].update(values)
        self._place(self.sessions[number])

    def _place(self, session: dict[str, Any]) -> None:
        """Puts a session where the list shows it, without sorting the others."""
        self._unplace(session["id"])
        stamp = session["updated" if self.switches["list_order"] == "updated" else "created"]
        pin = session["topSort"] if self.switches["pinned"] == "first" else 0
        key = (-pin, -int(stamp.translate(_DIGITS)), -session["id"])
        self._keys[session["id"]] = key
        insort(self._order[session["uid"]], key)

    def _unplace(self, number: int) -> None:
        if (key := self._keys.pop(number, None)) is not None:
            rows = self._order[self.sessions[number]["uid"]]
            del rows[bisect_left(rows, key)]

    def populate(self, count: int, *, messages: int = 4) -> None:
        """Replaces everything by `count` sessions of the first user with `messages` messages (two to a record) each."""
        with self.lock:
            self._clear()
            for number in range(count):
                self._new(number, 10001, self._title(number), (messages + 1) // 2)

    def truth(self) -> dict[str, dict[str, Any]]:
        """Returns every session as stored under the contract's names, but `title` for `name` and without `updated`."""
        with self.lock:
            return {
                str(number): {"title" if name == "name" else name: value for name, value in session.items() if name != "updated"}
                for number, session in self.sessions.items()
            }

    def change_by_somebody(self, remote_id: str, **values: Any) -> None:
        """Changes a session as the site's own page would; `title` is the contract's `name`."""
        with self.lock:
            changed = {("name" if name == "title" else name): value for name, value in values.items()}
            self._set(int(remote_id), **changed, updated=_text(_now()))

    def remove_by_somebody(self, remote_id: str) -> None:
        """Deletes a session as the site's own page would."""
        with self.lock:
            self._unplace(int(remote_id))
            del self.sessions[int(remote_id)]

    def add_record(self, remote_id: str, question: str, answer: str) -> None:
        """Adds a record at the newest end, as if somebody chatted in the site's own page."""
        with self.lock:
            held = self._held_records(int(remote_id))
            held.append(self._record(int(remote_id), held[-1]["id"] % 10000 + 1 if held else 1) | {"userText": question, "aiText": answer})

    def remove_record(self, remote_id: str, place: int) -> None:
        """Deletes the record at `place`, counted from 1 at the oldest."""
        with self.lock:
            del self._held_records(int(remote_id))[place - 1]

    def _held_records(self, number: int) -> list[dict[str, Any]]:
        if number not in self.written:
            self.written[number] = [self._record(number, n) for n in range(1, self.counted.pop(number, 0) + 1)]
        return self.written[number]

    def _record(self, number: int, place: int) -> dict[str, Any]:
        """Makes the record at `place` (from 1 at the oldest) of a session (4.2)."""
        session = self.sessions[number]
        asked = datetime.strptime(session["created"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=ZONE) + timedelta(minutes=7 * place)
        model = session["model"]
        if self.switches["record_model"] == "label":
            model = next((entry["label"] for entry in self._models() if entry["value"] == model), model)
        kind = (number + place) % len(QUESTIONS)
        record = {
            "id": number * 10000 + place,
            "created": _text(asked),
            "updated": _text(asked + timedelta(seconds=8)),
            "sessionId": number,
            "userText": f"{QUESTIONS[kind]} ({place})",
            "aiText": ANSWERS[kind],
            "uid": session["uid"],
            "ip": "203.0.113.7",
            "taskId": str((int(asked.timestamp() * 1000) - 1288834974657) << 22),
            "model": model,
            "deductCount": 1,
            "refundCount": 0,
            "promptTokens": 120,
            "completionTokens": 48,
            "contextTokens": 60,
            "useTokens": 168,
            "useImages": None,
            "useFiles": None,
            "useAppId": 0,
            "appendDeductCount": 0,
            "userStop": False,
        }
        return record | ({"recordType": "message", "replies": []} if self.switches["release"] == "3.4" else {})

    def _models(self) -> list[dict[str, Any]]:
        entries = []
        for label, value, tag, price in MODELS:
            about: dict[str, Any] = {"icon": "https://img.example.com/icon.png", "integral": price, "note": "", "tag": tag}
            if self.switches["release"] == "3.4":
                value = f"openai::{value}" if value.startswith("gpt") else value
                about |= {"capabilities": ["text", "image"], "providerKey": value.partition("::")[0] if "::" in value else ""}
            else:
                about |= {"multimodal": True, "onlyImg": False, "plugin": False}
            entries.append({"label": label, "value": value, "attr": about})
        return entries

    # --- credentials (2.1, 3) -------------------------------------------------------------------------------------------------------

    def token(self, uid: int = 10001, *, issued: int | None = None) -> str:
        """Returns a signed token with the claims of 3, issued a day before the start unless told (Unix seconds); it lasts exactly 31 days."""
        begun = self.began - 86400 if issued is None else issued
        sign = hashlib.md5(str(uid).encode(), usedforsecurity=False).hexdigest()
        claims = {"userId": uid, "sign": sign, "role": "user", "exp": begun + 31 * 86400, "nbf": begun, "iat": begun}
        head = _base64(json.dumps({"alg": "HS256", "typ": "JWT"}, separators=(",", ":")).encode())
        body = _base64(json.dumps(claims, separators=(",", ":")).encode())
        return f"{head}.{body}.{_base64(hmac.digest(SIGNING_KEY, f'{head}.{body}'.encode(), 'sha256'))}"

    def unlimited(self) -> None:
        """Switches every limit off."""
        self.max_in_flight = self.per_second = 0

    def credential(self) -> dict[str, str]:
        """Returns a credential document of the first user."""
        return self.credential_of(10001)

    def second_credential(self) -> dict[str, str]:
        """Returns the credential of the demo's second user."""
        return self.credential_of(10002)

    def credential_of(self, uid: int) -> dict[str, str]:
        """Returns a credential document of one of USERS."""
        agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/145.0.0.0 Safari/537.36"
        return {"token": self.token(uid), "app_version": "2.14.0", "cookie": "server_name_session=" + "0" * 32, "user_agent": agent}

    @staticmethod
    def _owner(token: str) -> int | None:
        """Returns whose token this is; None unless it is a raw JWT of ours that has not ended (`Bearer` in front is refused, 2.1)."""
        parts = token.split(".")
        if len(parts) != 3 or not hmac.compare_digest(_base64(hmac.digest(SIGNING_KEY, f"{parts[0]}.{parts[1]}".encode(), "sha256")), parts[2]):
            return None
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return claims["userId"] if claims["nbf"] <= time.time() < claims["exp"] and claims["userId"] in USERS else None

    # --- answers (2.2, 2.3) -----------------------------------------------------------------------------------------------------------

    def _json(self, data: Any, *, code: int = 0, msg: str = "", status: int = 200) -> web.Response:
        if code and self.switches["error_text"] == "data.msg":
            data, msg = {"msg": msg}, ""
        text = json.dumps({"code": code, "data": data, "msg": msg}, ensure_ascii=False)
        for sign in "<>&":  # as Go's encoder writes them
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        headers = {"X-Server": "goamzai-plus/3.4.0"} if self.switches["release"] == "3.4" else {}
        return web.Response(status=status, text=text, content_type="application/json", headers=headers)

    def _refuse(self, msg: str, form: str = "code1") -> web.Response:
        return self._json(None, code=1, msg=msg, status=400 if form == "http400" else 200)

    def expired(self, request: web.Request) -> web.Response:
        """The answer to a token that is missing, wrong or over."""
        form = self.switches["expired_as"]
        if form == "401_text":
            return web.Response(status=401, text="Unauthorized")
        return self._json(None, code=int(form[-1]), msg="登录已过期，请重新登录", status=int(form[:3]))

    def throttled(self, request: web.Request) -> web.Response:
        """The refusal for the rate, of which no form is recorded for these routes."""
        form = self.switches["throttle_as"]
        if form == "403_html":
            return web.Response(status=403, text="<html><body><h1>403 Forbidden</h1><p>WAF</p></body></html>", content_type="text/html")
        answer = self._json(None, code=429 if form == "200_code429" else 1, msg="请求过于频繁", status=200 if form == "200_code429" else 429)
        if form == "429_retry_after":
            answer.headers["Retry-After"] = "1"
        return answer

    def failed(self, request: web.Request) -> web.Response:
        """Trouble behind the gateway."""
        if self.switches["gateway"] == "json":
            return self._json(None, code=1, msg="系统繁忙", status=500)
        return web.Response(status=500, text="<html><body><h1>500 Internal Server Error</h1></body></html>", content_type="text/html")

    def _unknown(self) -> web.Response:
        form = self.switches["unknown_id"]
        if form == "http404_text":
            return web.Response(status=404, text="404 page not found")
        return self._json(None, code=1, msg="会话不存在", status=404 if form == "http404" else 200)

    # --- routes (5) ---------------------------------------------------------------------------------------------------------------------

    def is_write(self, request: web.Request) -> bool:
        """True for what changes sessions; logging in does not."""
        return request.method != "GET" and request.path.startswith("/api/chat/")

    def app(self) -> web.Application:
        """Returns the application, counting the requests in flight before anything else happens to them."""
        app = super().app()
        app.middlewares.insert(0, self._count)
        return app

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_sim/"):
            return await handler(request)
        now, token = time.monotonic(), request.headers.get("authorization", "")
        while self._recent and now - self._recent[0] > 1.0:
            self._recent.popleft()
        too_many = 0 < self.max_in_flight <= self._in_flight[token] or 0 < self.per_second <= len(self._recent)
        request["too_many"] = too_many
        if not too_many:
            self._recent.append(now)
        self._in_flight[token] += 1
        try:
            return await handler(request)
        finally:
            self._in_flight[token] -= 1

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns the routes of 5 that the recordings show on this host; every other path is 404."""
        return [
            web.post("/api/user/login", self._open(self._login)),
            web.get("/api/user/info", self._open(self._signed_in(self._user))),
            web.get("/api/chat/tmpl", self._open(self._signed_in(self._settings))),
            web.get("/api/chat/session", self._open(self._signed_in(self._list))),
            web.post("/api/chat/session", self._open(self._signed_in(self._create))),
            web.put(r"/api/chat/session/{id:\d+}", self._open(self._signed_in(self._put))),
            web.delete(r"/api/chat/session/{id:\d+}", self._open(self._signed_in(self._delete))),
            web.get(r"/api/chat/record/{id:\d+}", self._open(self._signed_in(self._page_records))),
            web.route("*", "/{rest:.*}", self._no_route),
        ]

    def _open(self, handler: Handler) -> Handler:
        async def checked(request: web.Request) -> web.StreamResponse:
            if request["too_many"]:
                return self.throttled(request)
            version = request.headers.get("x-app-version", "")
            rule = self.switches["app_version"]
            if (not version and rule != "not_checked") or (rule == "current" and _version(version) < (2, 14, 0)):
                return self._refuse("版本过低，请刷新页面")
            if request.method in ("POST", "PUT") and request.can_read_body and request.content_type != "application/json":
                return self._bad_body()
            return await handler(request)

        return checked

    def _signed_in(self, handler: Handler) -> Handler:
        async def checked(request: web.Request) -> web.StreamResponse:
            request["uid"] = self._owner(request.headers.get("authorization", ""))
            no_cookie = self.switches["cookie"] == "required" and "server_name_session=" not in request.headers.get("cookie", "")
            if request["uid"] is None or no_cookie:
                return self.expired(request)
            with self.lock:
                return await handler(request)

        return checked

    async def _no_route(self, request: web.Request) -> web.Response:
        if self.switches["no_route"] == "json":
            return self._json(None, code=1, msg="404 page not found", status=404)
        return web.Response(status=404, text="404 page not found")

    async def _login(self, request: web.Request) -> web.Response:
        body = request["call"].body
        if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in ("account", "password")):
            return self._bad_body()
        uid = next((uid for uid, (mail, _name) in USERS.items() if mail == body["account"]), None)
        if uid is None or body["password"] != PASSWORD:
            return self._refuse("账号或密码错误")
        about = {"email": USERS[uid][0], "phone": "00000000000", "role": "user", "registerTime": "2025-06-01 10:40:35"}
        return self._json({"token": self.token(uid, issued=int(time.time())), **about})

    async def _user(self, request: web.Request) -> web.Response:
        if self.switches["user_info"] == "missing":
            return await self._no_route(request)
        mail, name = USERS[request["uid"]]
        picture = "https://img.example.com/avatar.jpg"
        about = {"email": mail, "phone": "00000000000", "avatar": picture, "hasPassword": True, "customAvatar": True, "oauthList": []}
        return self._json({"id": request["uid"], "nickname": name, **about})

    async def _settings(self, request: web.Request) -> web.Response:
        models = self._models()
        shown = {"cm": True, "defModel": models[0]["value"], "defaultChat": "<p>您好</p>", "genLine": 2, "genTitle": False}
        shown |= {"mFileCount": 5, "mFileSize": 5, "mcp": None, "models": models, "notice": "", "ocp": True, "p": True, "plugins": None, "rm": False}
        shown |= {"sessionHoverSetting": True, "showTokens": False, "thinkModel": "deepseek-reasoner", "toggleTipTime": 3, "tooltipsText": ""}
        return self._json(shown | {"voice": True})

    def _listing(self, request: web.Request, total: int, size: int, search: str | None) -> tuple[dict[str, Any], int, int] | web.Response:
        """Returns the frame of 2.5 with the bounds of the page asked for, or the refusal of a page number that is none."""
        asked = request.query.get("page", "1")
        if not asked.isdecimal() or int(asked) < 1:
            return self._refuse("参数错误", self.switches["bad_value"])
        pages = -(-total // size)
        page = int(asked)
        if page > pages and self.switches["beyond_last"] == "last_page":
            page = max(1, pages)
        frame = {"page": page, "size": size, "search": search, "asc": False, "total": total, "pages": pages, "records": []}
        return frame, (page - 1) * size, page * size

    async def _list(self, request: web.Request) -> web.Response:
        rows = self._order[request["uid"]]
        search = request.query.get("search") or None
        if search is not None:
            rows = [key for key in rows if self._matches(self.sessions[-key[2]]["name"], search)]
        size = int(self.switches["page_size"])
        if self.switches["size_param"] == "honoured" and request.query.get("size", "").isdecimal():
            size = max(1, min(100, int(request.query["size"])))
        framed = self._listing(request, len(rows), size, search)
        if isinstance(framed, web.Response):
            return framed
        frame, start, end = framed
        frame["records"] = [self.sessions[-key[2]] for key in rows[start:end]]
        return self._json(frame)

    def _matches(self, name: str, search: str) -> bool:
        rule = self.switches["search"]
        if rule == "exact":
            return name == search
        if rule == "prefix":
            return name.startswith(search)
        return search in name if rule == "case_sensitive" else search.lower() in name.lower()

    async def _create(self, request: web.Request) -> web.Response:
        body = request["call"].body or {}
        model = body.get("model", MODELS[0][1]) if isinstance(body, dict) else None
        if not isinstance(model, str) or not all(isinstance(body.get(name, []), list) for name in ("plugins", "mcp")):
            return self._bad_body()
        session = self._new(max(self.sessions, default=500000) - 500000, request["uid"], UNTITLED, 0)
        now = _text(_now())
        self._set(session["id"], created=now, updated=now, model=model, plugins=body.get("plugins", []), mcp=body.get("mcp", []))
        request["call"].changed = True
        return self._json(session)

    async def _put(self, request: web.Request) -> web.Response:
        body, number = request["call"].body, int(request.match_info["id"])
        session = self.sessions.get(number)
        if session is None or session["uid"] != request["uid"]:
            return self._unknown()
        if not isinstance(body, dict) or any(name not in body for name in session):
            return self._bad_body()
        if (self.switches["extra_keys"] == "refused" and set(body) - set(session)) or body["id"] != number:
            return self._bad_body()
        if any(type(body[name]) not in types for name, types in TYPES.items()) or not body["name"].strip():
            return self._refuse("参数错误", self.switches["bad_value"])
        if (refusal := self._objection(session, body)) is not None:
            return refusal
        new = {name: body[name] for name in session}
        if self.switches["extra_keys"] == "stored":
            new = dict(body)
        new["updated"] = session["updated"]
        if self.switches["put_foreign"] != "stored":
            new |= {"uid": session["uid"], "created": session["created"]}
        if session["useAppId"] > 0 and self.switches["app_model"] == "ignored":
            new |= {name: session[name] for name in ("model", "prompt", "maxToken")}
        if new != session or self.switches["noop_put"] == "sets_updated":
            new["updated"] = _text(_now())
        self._unplace(number)
        answer = self.stored(request, session, new)
        self._place(session)
        return self._json(answer)

    def _objection(self, session: dict[str, Any], body: dict[str, Any]) -> web.Response | None:
        """Returns the refusal of a value, where the switches say that the server looks at values at all (9.2)."""
        if self.switches["put_foreign"] == "checked" and any(body[name] != session[name] for name in ("uid", "created")):
            return self._refuse("参数错误", self.switches["bad_value"])
        if self.switches["model_check"] != "none" and body["model"] not in {entry["value"] for entry in self._models()}:
            return self._refuse("模型不存在", self.switches["model_check"])
        if self.switches["range_check"] != "none":
            out = any(not low <= body[name] <= high for name, (low, high) in RANGES.items())
            if out or any(len(body[name]) > limit for name, limit in LENGTHS.items()):
                return self._refuse("参数超出范围", self.switches["range_check"])
        return None

    def _bad_body(self) -> web.Response:
        if self.switches["bad_body"] == "text400":
            return web.Response(status=400, text="Bad Request")
        return self._json(None, code=1, msg="参数错误", status=400)

    async def _delete(self, request: web.Request) -> web.Response:
        session = self.sessions.get(int(request.match_info["id"]))
        if session is None or session["uid"] != request["uid"]:
            return self._unknown()
        self.remove_by_somebody(request.match_info["id"])
        request["call"].changed = True
        return self._json(None)

    async def _page_records(self, request: web.Request) -> web.Response:
        number = int(request.match_info["id"])
        session = self.sessions.get(number)
        if session is None or session["uid"] != request["uid"]:
            if self.switches["unknown_records"] == "refused":
                return self._unknown()
            total = 0
        else:
            total = len(self.written[number]) if number in self.written else self.counted.get(number, 0)
        framed = self._listing(request, total, RECORDS_A_PAGE, None)
        if isinstance(framed, web.Response):
            return framed
        frame, start, end = framed
        places = range(total - start, max(0, total - end), -1)  # newest first
        written = self.written.get(number)
        frame["records"] = [written[place - 1] if written is not None else self._record(number, place) for place in places]
        return self._json(frame)


def _now() -> datetime:
    """Returns the time of the server, which is never before the dates of the synthetic data, whatever this machine's clock says."""
    return max(datetime.now(ZONE), BEGIN + timedelta(days=60, seconds=time.monotonic()))


_DIGITS = {ord(sign): None for sign in "-: "}


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())
