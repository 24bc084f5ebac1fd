"""A simulated Alibaba Cloud AIContent ModelRouter: strict about signatures, nonces, dates and bodies, written from its contract alone.

Sections in comments are those of providers/modelrouter.md. Text of a conversation's history (`chatData`) is made on demand, so that ten
thousand conversations cost a moment; the listing walks an insertion-ordered dict from its newest end and sorts nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from email.utils import formatdate
from itertools import islice
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote, unquote

from aiohttp import web

from .kit import Simulator
from .modelrouter_data import FIRST_ID, MODELS, SWITCHES, TITLES, Row, made_history, special_rows

ROOT = "/api/v1/modelRouter/open"
VERSION = "20240611"
CLOCK_WINDOW = 15 * 60  # seconds
LIST_QUERY = frozenset(
    {"pageIndex", "pageSize", "nextToken", "maxResults", "keyword", "status", "orderBy", "orderDirection", "needTotalCount"}
)  # groupBy is documented and not to be sent


def canonical_request(method: str, path: str, query: str, headers: Mapping[str, str], signed: list[str], payload_hash: str) -> str:
    """Returns section 7's canonical request for what arrived on the wire; the query is decoded first, as the service does."""
    escaped = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(query, keep_blank_values=True)]
    lines = [method, "/".join(quote(unquote(part), safe="-_.~") for part in path.split("/"))]
    lines.append("&".join(f"{name}={value}" for name, value in sorted(escaped)))
    lines.append("".join(f"{name}:{headers[name].strip()}\n" for name in signed))
    return "\n".join([*lines, ";".join(signed), payload_hash])


def signature(canonical: str, secret: str) -> str:
    """Returns the hex signature of a canonical request (section 7, steps 7 and 8)."""
    text = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class Refusal(Exception):
    """An answer that ends a request before anything is carried out."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


@dataclass
class ModelRouterSimulator(Simulator):
    """The service with one Alibaba Cloud account and two AccessKeys; see SWITCHES for the questions that the contract leaves open."""

    key: ClassVar[str] = "modelrouter"
    default_port: ClassVar[int] = 8711

    SWITCHES: ClassVar[Mapping[str, tuple[str, ...]]] = SWITCHES

    access_key_id: str = "LTAI-synthetic-0001"
    access_key_secret: str = "synthetic-secret-of-the-first-key"
    security_token: str = ""  # set: the first key is a temporary one and needs this
    other_key_id: str = "LTAI-synthetic-0002"
    other_key_secret: str = "synthetic-secret-of-the-second-key"
    inactive_keys: set[str] = field(default_factory=set)
    denied_actions: set[str] = field(default_factory=set)
    rate_limit: float = 25.0  # requests in any one second; 0 switches the limit off
    retry_after_ms: int = 300
    clock_offset: float = 0.0  # seconds by which the service's clock is ahead
    renamed_per_page: int = 0  # rows that somebody else renames after each list answer

    # --- state ---------------------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Builds the demo's conversations: every form of history that section 5 names, and the awkward ones."""
        self.nonces: dict[str, float] = {}
        self.arrivals: deque[float] = deque()
        self.rows: dict[int, Row] = {}  # from the longest unchanged to the newest
        self.number = 0
        self.renames = 0
        for index in range(18):
            self._add(FIRST_ID + 100 + index, f"{TITLES[index % len(TITLES)]} {index + 1}", models="[1]" if index % 3 else "[2]", count=2 + index % 5)
        for identifier, title, models, chat, count in special_rows():
            row = self._add(identifier, title, models=models, count=count)
            if chat is not None:
                row["chatData"] = chat
        self.rows[FIRST_ID + 12]["deleteTag"] = 1

    def _add(self, identifier: int, title: str | None, *, models: Any = "[1]", count: int = 2, owner: str = "") -> Row:
        self.number += 1
        changed = 1_735_787_045 + self.number * 60  # 2025-01-02T03:04:05Z and later
        self.rows[identifier] = {
            "id": identifier,
            "title": title,
            "messageCount": count,
            "modelIds": models,
            "chatData": None,  # made from the id and the count when somebody looks
            "deleteTag": 0,
            "gmtCreate": changed - 86_400,
            "gmtModified": changed,
            "_count": count,
            "_owner": owner or self.access_key_id,
        }
        return self.rows[identifier]

    def _history(self, row: Row) -> str:
        if row["chatData"] is not None:
            return row["chatData"]
        return made_history(row["id"], row["_count"], self.switches["history"])

    def populate(self, count: int, *, messages: int = 4) -> None:
        """Replaces everything by `count` conversations; the highest id is the newest."""
        with self.lock:
            self.rows.clear()
            self.number = 0
            for index in range(count):
                models = ("[1]", "[2]", "[1,3]", "[3]")[index % 4]
                self._add(FIRST_ID + index, f"{TITLES[index % len(TITLES)]} {index + 1}", models=models, count=messages)

    def unlimited(self) -> None:
        """Lets through any rate and asks for short waits only, so that tests are quick."""
        self.rate_limit, self.retry_after_ms = 0, 20

    def credential(self) -> dict[str, str]:
        """Returns the first AccessKey, with its token where it is a temporary one."""
        known = {"access_key_id": self.access_key_id, "access_key_secret": self.access_key_secret}
        return known | ({"security_token": self.security_token} if self.security_token else {})

    def truth(self) -> dict[str, dict[str, Any]]:
        """Returns title, model (modelIds as stored), messageCount, deleteTag and a checksum of the history."""
        with self.lock:
            return {
                str(row["id"]): {
                    "title": row["title"],
                    "model": row["modelIds"],
                    "message_count": row["messageCount"],
                    "disabled": bool(row["deleteTag"]),
                    "history": zlib.crc32((self._history(row) or "").encode()),
                }
                for row in self.rows.values()
            }

    def change_by_somebody(self, remote_id: str, **values: Any) -> None:
        """Changes title, model (a catalogue id, or the stored text of modelIds), chat_data or message_count and moves the row to the top."""
        names = {"model": "modelIds", "chat_data": "chatData", "message_count": "messageCount"}
        with self.lock:
            row = self.rows[int(remote_id)]
            for name, value in values.items():
                if name == "model" and isinstance(value, str) and value.isdigit():
                    value = f"[{value}]"
                row[names.get(name, name)] = value
            self._touch(row)

    def remove_by_somebody(self, remote_id: str) -> None:
        """Deletes as the switch `deletion` says."""
        with self.lock:
            if self.switches["deletion"] == "soft":
                self.rows[int(remote_id)]["deleteTag"] = 1
                self._touch(self.rows[int(remote_id)])
            else:
                del self.rows[int(remote_id)]

    def _touch(self, row: Row) -> None:
        row["gmtModified"] = self._now()
        self.rows[row["id"]] = self.rows.pop(row["id"])

    def _now(self) -> float:
        return time.time() + self.clock_offset

    # --- answers -------------------------------------------------------------------------------------------------------------------

    def _answer_json(self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
        self.number += 1
        text = json.dumps(body, ensure_ascii=False)
        named = {"Date": formatdate(self._now(), usegmt=True), "x-acs-request-id": self._request_id()}
        try:
            content = text.encode()
        except UnicodeEncodeError:  # half an emoji, as a careless cut leaves it
            content = json.dumps(body).encode()
        return web.Response(status=status, body=content, content_type="application/json", charset="utf-8", headers={**named, **(headers or {})})

    def _request_id(self) -> str:
        return f"592A27EF-0000-4000-8000-{self.number:012d}"

    def _gateway(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
        help_page = f"https://api.aliyun.com/troubleshoot?q={code}"
        named = {"RequestId": self._request_id(), "HostId": "aicontent.aliyuncs.com", "Code": code, "Message": message, "Recommend": help_page}
        return self._answer_json(named, status, headers)

    def _refused(self, stated: int, code: str, message: str, status: int | None = None, headers: Mapping[str, str] | None = None) -> web.Response:
        if status is None:
            status = stated if self.switches["failure_status"] == "stated" else 200
        body = {"success": False, "errCode": code, "errMessage": message, "httpStatusCode": stated, "data": None}
        return self._answer_json({"requestId": self._request_id(), **body}, status, headers)

    def _success(self, data: Any, **beside: Any) -> web.Response:
        filled = self.switches["err_code"] == "filled"
        body: Row = {"requestId": self._request_id(), "success": True, "errCode": "OK" if filled else None, "errMessage": "成功" if filled else None}
        if self.switches["success"] == "absent" and data not in (None, []):
            body.pop("success")
        return self._answer_json({**body, "httpStatusCode": 200, "data": data, **beside})

    def throttled(self, request: web.Request) -> web.Response:
        """Refuses for the rate: HTTP 400 and milliseconds in x-acs-retry-after (section 6), or what the switch says."""
        form = self.switches["throttling"]
        wait = {"no_header": None, "http_429": None, "zero": "0", "garbage": "soon"}.get(form, str(self.retry_after_ms))
        headers = {} if wait is None else {"x-acs-retry-after": wait}
        if form == "envelope":
            return self._refused(400, "Throttling.Api", "Request was denied due to api flow control.", headers=headers)
        status = {"http_429": 429, "http_503": 503}.get(form, 400)
        return self._gateway(status, "Throttling.User", "Request was denied due to user flow control.", headers)

    def failed(self, request: web.Request) -> web.Response:
        """Fails in one of the forms of section 6."""
        form = self.switches["server_error"]
        if form.startswith("envelope"):
            return self._refused(500, "UNKNOWN_ERROR", "未知错误", status=200 if form == "envelope_200" else 500)
        if form == "gateway_unknown":
            return self._gateway(500, "Server.Internal.UnknownError", "未知错误")
        return self._gateway(500, "InternalError", "The request processing has failed due to some unknown error.")

    def expired(self, request: web.Request) -> web.Response:
        """Refuses temporary credentials whose time is over."""
        return self._gateway(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")

    def _denied(self, action: str) -> web.Response:
        form = self.switches["denied"]
        if form.startswith("envelope"):
            return self._refused(403, "B.Permission.DeniedException", "鉴权失败或权限不足", status=200 if form == "envelope_200" else 403)
        code = {"forbidden_ram": "Forbidden.RAM", "no_permission": "NoPermission"}.get(form, "B.Permission.DeniedException")
        return self._gateway(403, code, f"鉴权失败或权限不足: aicontent:{action}")

    def _no_such(self) -> web.Response:
        form = self.switches["missing"]
        if form == "null_data":
            return self._success(None)
        if form == "empty_array":
            return self._success([])
        if form == "gateway":
            return self._gateway(404, "Conversation.NotExist", "The specified conversation does not exist.")
        if form == "envelope_status":
            return self._refused(404, "BIZ_ERROR", "请求失败")
        if form == "envelope_message":
            return self._refused(500, "BIZ_ERROR", "会话不存在")
        return self._refused(400, "CONVERSATION_NOT_EXIST", "conversation missing")

    # --- the door: section 2 and 7 -------------------------------------------------------------------------------------------------

    def routes(self) -> list[web.AbstractRouteDef]:
        """Returns the operations that administration needs; any other path is InvalidApi.NotFound."""

        def signed(action: str, handler: Callable[[web.Request, str], Awaitable[web.Response]]) -> Callable[[web.Request], Awaitable[web.Response]]:
            async def guarded(request: web.Request) -> web.Response:
                try:
                    with self.lock:
                        owner = self._let_in(request, action, await request.read())
                    return await handler(request, owner)
                except Refusal as refusal:
                    return refusal.response

            return guarded

        one = ROOT + "/conversations/{id}"
        return [
            web.get(ROOT + "/conversations", signed("ModelRouterQueryConversationList", self._list), allow_head=False),
            web.get(one, signed("ModelRouterQueryConversation", self._read), allow_head=False),
            web.put(one, signed("ModelRouterUpdateConversation", self._update)),
            web.get(ROOT + "/models", signed("ModelRouterQueryModelList", self._models), allow_head=False),
            web.get(ROOT + "/models/{id}", signed("ModelRouterQueryModel", self._model), allow_head=False),
            web.route("*", "/{rest:.*}", self._no_api),
        ]

    async def _no_api(self, request: web.Request) -> web.Response:
        return self._gateway(404, "InvalidApi.NotFound", "Specified api is not found, please check your url and method.")

    def _let_in(self, request: web.Request, action: str, body: bytes) -> str:
        """Checks everything that section 2 and 7 ask of a request and returns the AccessKey id; raises Refusal."""

        def refuse(status: int, code: str, message: str) -> Refusal:
            return Refusal(self._gateway(status, code, message))

        headers = {name.lower(): value for name, value in request.headers.items()}
        for name in ("x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"):
            if not headers.get(name):
                raise refuse(400, "Missing" + name.title().replace("-", ""), f"{name} is mandatory for this action.")
        if headers["x-acs-version"] != VERSION or headers["x-acs-action"] != action:
            raise refuse(404, "InvalidAction.NotFound", "Specified action, version and path do not belong together.")
        if body and headers.get("content-type", "").replace(" ", "").lower() != "application/json;charset=utf-8":
            raise refuse(400, "InvalidContentType", "Send application/json; charset=utf-8.")
        form = r"ACS3-HMAC-SHA256 Credential=([^,\s]+),SignedHeaders=([a-z0-9;-]+),Signature=([0-9a-f]{64})"
        found = re.fullmatch(form, headers.get("authorization", ""))
        if found is None:
            raise refuse(400, "IncompleteSignature", "The request signature does not conform to Aliyun standards.")
        key_id, signed, given = found[1], found[2].split(";"), found[3]
        must = {name for name in headers if name.startswith("x-acs-")} | {"host"} | ({"content-type"} if body else set())
        if signed != sorted(set(signed)) or not must <= set(signed) or "authorization" in signed or not set(signed) <= set(headers):
            raise refuse(400, "IncompleteSignature", "The signed headers are not complete, not sorted or not sent.")
        self._check_clock(headers["x-acs-date"], refuse)
        secret = {self.access_key_id: self.access_key_secret, self.other_key_id: self.other_key_secret}.get(key_id)
        if secret is None:
            raise refuse(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        if key_id in self.inactive_keys:
            raise refuse(400, "InvalidAccessKeyId.Inactive", "Specified access key is disabled.")
        if key_id == self.access_key_id and self.security_token:
            if not headers.get("x-acs-security-token"):
                raise refuse(400, "MissingSecurityToken", "SecurityToken is mandatory for this action.")
            if headers["x-acs-security-token"] != self.security_token:
                raise refuse(400, "InvalidSecurityToken.Malformed", f"Specified SecurityToken is malformed: {headers['x-acs-security-token']}")
        path, _mark, query = request.raw_path.partition("?")
        canonical = canonical_request(request.method, path, query, headers, signed, headers["x-acs-content-sha256"])
        honest = headers["x-acs-content-sha256"] == hashlib.sha256(body).hexdigest()
        if not honest or not hmac.compare_digest(signature(canonical, secret), given):
            # The service is known to echo what it signed, a security token included.
            raise refuse(
                400, "SignatureDoesNotMatch", f"Specified signature is not matched with our calculation. server string to sign is:{canonical}"
            )
        if headers["x-acs-signature-nonce"] in self.nonces:
            raise refuse(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
        self.nonces[headers["x-acs-signature-nonce"]] = time.monotonic()
        self._check_rate(request)
        if action in self.denied_actions:
            raise Refusal(self._denied(action))
        return key_id

    def _check_clock(self, given: str, refuse: Callable[[int, str, str], Refusal]) -> None:
        try:
            sent = datetime.strptime(given, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise refuse(400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.") from None
        if abs(sent - self._now()) > CLOCK_WINDOW:
            raise refuse(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")

    def _check_rate(self, request: web.Request) -> None:
        if not self.rate_limit:
            return
        now = time.monotonic()
        while self.arrivals and self.arrivals[0] <= now - 1.0:
            self.arrivals.popleft()
        if len(self.arrivals) >= self.rate_limit:
            raise Refusal(self.throttled(request))
        self.arrivals.append(now)

    # --- operations: section 4 -----------------------------------------------------------------------------------------------------

    def _query(self, request: web.Request, allowed: frozenset[str]) -> dict[str, str]:
        query = dict(parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True))
        for name, value in query.items():
            whole = name in ("pageIndex", "pageSize", "maxResults", "status")
            if name not in allowed or (whole and not re.fullmatch(r"-?\d{1,9}", value)):
                raise Refusal(self._gateway(400, "Invalid" + name[:1].upper() + name[1:], f"The parameter {name} is not valid."))
            if name == "needTotalCount" and value not in ("true", "false", "True", "False"):
                raise Refusal(self._gateway(400, "InvalidNeedTotalCount", "needTotalCount is a boolean."))
            if name == "orderDirection" and value not in ("ASC", "DESC"):
                raise Refusal(self._gateway(400, "InvalidOrderDirection", "orderDirection is ASC or DESC."))
        return query

    def _paged(self, query: Mapping[str, str], total: int) -> tuple[int, int, int, str | None]:
        """Returns (start, size, page as answered, next token or None) for a list of `total` rows, as the switches say."""
        cap = {"100": 100, "20": 20}.get(self.switches["page_cap"], 100_000)
        size = int(query.get("pageSize") or query.get("maxResults") or 20)
        size = min(10 if size < 1 else size, cap)
        asked = max(1, int(query.get("pageIndex", 1)))
        tokens = self.switches["next_token"] == "offered"
        if token := query.get("nextToken", ""):
            try:
                start = int(base64.b64decode(token, validate=True).removeprefix(b"\xfb\xff\xbe").decode()) if tokens else 0
            except ValueError:
                raise Refusal(self._gateway(400, "InvalidNextToken", "The parameter nextToken is not valid.")) from None
            page = start // size + 1
        else:
            page = asked if self.switches["page_index"] == "honoured" else 1
            pages = max(1, -(-total // size))
            if self.switches["past_end"] == "last_page":
                page = min(page, pages)
            start = (page - 1) * size
            page = asked if self.switches["page_index"] == "echoed" else page
        # The bytes in front make every token hold the characters + and /, which a query must escape; the padding is "=" often enough.
        following = base64.b64encode(b"\xfb\xff\xbe" + str(start + size).encode()).decode() if tokens and start + size < total else None
        return start, size, page, following

    def _page_answer(
        self, rows: list[Row], total: int, query: Mapping[str, str], page: int, size: int, token: str | None, limit: str
    ) -> web.Response:
        about: Row = {"page": page, "pageSize": size, limit: str(size)}
        if self.switches["total"] != "missing" and query.get("needTotalCount", "true").lower() == "true":
            total += self.switches["total"] == "too_many"
            about["total"] = str(total) if self.switches["total"] == "text" or limit == "maxResults" else total
        end = {"empty": "", "none_word": "None", "null": None}
        if token is not None or self.switches["token_end"] != "missing":
            about["nextToken"] = token if token is not None else end[self.switches["token_end"]]
        if self.switches["list_form"] == "flat" and limit == "maxResult":  # told of the conversations only
            names = {"total": "totalCount", "page": "pageIndex", "maxResult": "maxResults"}
            return self._success(rows, **{names.get(name, name): value for name, value in about.items()}, skip=0)
        return self._success({**about, "list": rows})

    async def _list(self, request: web.Request, owner: str) -> web.Response:
        with self.lock:
            query = self._query(request, LIST_QUERY)
            keyword = query.get("keyword", "").lower()
            if keyword or self.switches["owner"] == "ram_user":
                deep = self.switches["keyword"] == "title_and_history"
                rows: Any = [row for row in self.rows.values() if self._visible(row, owner) and self._matches(row, keyword, deep)]
            else:
                rows = self.rows.values()
            if self.switches["order"].startswith("id_"):
                rows = sorted(rows, key=lambda row: row["id"])
            total = len(rows)
            start, size, page, token = self._paged(query, total)
            ordered = reversed(rows) if self.switches["order"].endswith("desc") else iter(rows)
            shown = [self._shown(row, in_list=True) for row in islice(ordered, start, start + size)]
            answer = self._page_answer(shown, total, query, page, size, token, "maxResult")
            for _number in range(min(self.renamed_per_page, len(self.rows))):
                self._rename_one()
            return answer

    def _rename_one(self) -> None:
        """Renames the row that the order's far end holds or a random one, as somebody else would while we page."""
        self.renames += 1
        place = self.random.randrange(len(self.rows))
        row = next(islice(self.rows.values(), place, None))
        row["title"] = f"{row['title'] or 'untitled'} ✎{self.renames}"
        self._touch(row)

    def _visible(self, row: Row, owner: str) -> bool:
        return self.switches["owner"] == "account" or row["_owner"] == owner

    def _matches(self, row: Row, keyword: str, deep: bool) -> bool:
        return not keyword or keyword in (row["title"] or "").lower() or (deep and keyword in self._history(row).lower())

    def _shown(self, row: Row, *, in_list: bool = False) -> Row:
        """Returns the ConversationDTO of section 3 for a stored row."""
        shown = {name: value for name, value in row.items() if not name.startswith("_")}
        history: Any = self._history(row)
        if in_list and self.switches["list_history"] != "whole":
            history = {"empty": "{}", "cut": history[:40]}.get(self.switches["list_history"])
        shown["chatData"] = history
        if self.switches["json_fields"] == "real":
            for name in ("modelIds", "chatData"):
                try:
                    shown[name] = json.loads(shown[name])
                except (TypeError, ValueError):
                    continue
        if in_list and history is None:
            shown.pop("chatData")
        for name in ("gmtCreate", "gmtModified"):
            shown[name] = self._time(shown[name])
        return shown

    def _time(self, seconds: float) -> str:
        form = self.switches["times"]
        moment = datetime.fromtimestamp(seconds, UTC)
        if form == "offset":
            return moment.astimezone(timezone(timedelta(hours=8))).isoformat(timespec="seconds")
        if form == "no_zone":
            return moment.astimezone(timezone(timedelta(hours=8))).strftime("%Y-%m-%d %H:%M:%S")
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if form == "fractions" else "%Y-%m-%dT%H:%M:%SZ")

    def _find(self, request: web.Request, owner: str) -> Row:
        identifier = request.match_info["id"]
        if not re.fullmatch(r"\d{1,19}", identifier):
            raise Refusal(self._gateway(400, "InvalidConversationId", "The parameter id is a number."))
        if request.query_string:
            raise Refusal(self._gateway(400, "InvalidParameter", "This operation takes no query."))
        row = self.rows.get(int(identifier))
        if row is None or not self._visible(row, owner):
            raise Refusal(self._no_such())
        return row

    async def _read(self, request: web.Request, owner: str) -> web.Response:
        with self.lock:
            return self._success(self._shown(self._find(request, owner)))

    async def _update(self, request: web.Request, owner: str) -> web.Response:
        body = self._update_body(await request.read())
        with self.lock:
            row = self._find(request, owner)
            new = {**row, **body}
            if self.switches["update"] != "partial":
                empty = None if self.switches["update"] == "whole_null" else ""
                new |= {name: empty for name in ("title", "modelIds", "chatData") if name not in body}
                new["chatData"] = new["chatData"] or ""
                new["messageCount"] = body.get("messageCount", 0)
            if self.switches["message_count"] == "recounted":
                new["messageCount"] = self._history(new).count('"role"')
            if body.get("title") == "" and self.switches["empty_title"] == "ignored":
                new["title"] = row["title"]
            if self.switches["title_limit"] == "cut_at_100" and new["title"]:
                new["title"] = new["title"][:100]
            new["gmtModified"] = self._now()
            answer = self._shown(self.stored(request, row, new))
            if not self.mode(request):
                self.rows[row["id"]] = self.rows.pop(row["id"])
        form = self.switches["update_answer"]
        if form == "without_history":
            answer.pop("chatData")
        return self._success({"true": True, "null": None, "array": []}.get(form, answer))

    def _update_body(self, raw: bytes) -> Row:
        """Returns the four fields of section 4.4 after checking their types; lists and objects belong into JSON text."""

        def invalid(name: str, why: str) -> Refusal:
            return Refusal(self._gateway(400, "Invalid" + name[:1].upper() + name[1:], why))

        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise invalid("Body", "The body must be one JSON object.")
        kinds: dict[str, type] = {"title": str, "modelIds": str, "chatData": str, "messageCount": int}
        for name, value in body.items():
            if name not in kinds:
                raise invalid("Parameter", f"The parameter {name} is not known.")
            if not isinstance(value, kinds[name]) or isinstance(value, bool):
                raise invalid(name, f"The parameter {name} is of the wrong type.")
        if "chatData" in body and "messageCount" not in body:
            raise Refusal(self._gateway(400, "MissingMessageCount", "messageCount goes with chatData."))
        if body.get("title") == "" and self.switches["empty_title"] == "refused":
            raise Refusal(self._refused(400, "TITLE_EMPTY", "标题不能为空"))
        if len(body.get("title", "")) > 100 and self.switches["title_limit"] == "refused_at_100":
            raise Refusal(self._refused(400, "TITLE_TOO_LONG", "标题过长"))
        if "modelIds" in body:
            self._check_models(body["modelIds"], invalid)
        return body

    def _check_models(self, text: str, invalid: Callable[[str, str], Refusal]) -> None:
        try:
            given = json.loads(text)
        except ValueError:
            given = None
        if not isinstance(given, list) or not all(isinstance(entry, int) and not isinstance(entry, bool) for entry in given):
            raise invalid("modelIds", "modelIds is JSON text of an array of numbers.")
        known = {model["id"] for model in MODELS}
        if self.switches["unknown_model"] == "refused" and not set(given) <= known:
            # Looks like "no such conversation" to whoever searches for the words alone.
            raise Refusal(self._refused(404, "MODEL_NOT_EXIST", "模型不存在"))

    async def _models(self, request: web.Request, owner: str) -> web.Response:
        with self.lock:
            query = self._query(request, LIST_QUERY | {"modelType"})
            wanted, keyword = query.get("modelType", ""), query.get("keyword", "").lower()
            rows = [model for model in MODELS if not wanted or model.get("modelType") == wanted]
            rows = [model for model in rows if keyword in json.dumps(model, ensure_ascii=False).lower()]
            start, size, page, token = self._paged(query, len(rows))
            shown = [
                {"deleteTag": 0, "apiKeyPreview": "sk-****", "baseUrl": "https://upstream.invalid", **model} for model in rows[start : start + size]
            ]
            return self._page_answer(shown, len(rows), query, page, size, token, "maxResults")

    async def _model(self, request: web.Request, owner: str) -> web.Response:
        found = [model for model in MODELS if str(model["id"]) == request.match_info["id"]]
        return self._success({"deleteTag": 0, **found[0]}) if found else self._refused(404, "MODEL_NOT_EXIST", "模型不存在")
