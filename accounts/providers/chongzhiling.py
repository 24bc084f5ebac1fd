"""宠智灵 chongzhiling (gjpet): guided consultations and knowledge questions about pets, to be read but not changed.

Section numbers in docstrings are those of the provider's contract. What shapes this file: a token that lives two days is fetched with
the key in the query, three envelopes say "no" in three ways, a single session can only be found in the list, and the list is ordered
by activity, so it moves while it is being read.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Container, Mapping
from functools import partial
from typing import Any

import httpx

from .base import Provider
from .errors import CredentialsRejected, MalformedAnswer, NotFound, ProviderError, RateLimited, RequestRejected
from .parts import sheets
from .parts.ground import Ground, mark
from .parts.reading import json_object, message_key, text
from .parts.recent import Recent
from .parts.sheets import Sheet
from .parts.tokens import KeptToken
from .records import Identity, MessagePage, Page, Ref, RemoteConversation, RemoteMessage
from .schema import Capability, Field, Op, Pace, gettext_noop, missing
from .traces import JWT, SCHEME, Take, Traces

_ = gettext_noop

TOKEN_PATH = "/token/accessToken"
PREFIX = "/api/v2.0/ai-b"
EDITIONS = {"ms-ai-cn.chongzhiling.com": "/api/v2.0/ai-en"}  # the English edition has the same calls under another prefix
TOKEN_LIFE = 172_800.0  # seconds, where an answer does not say
MOVED_BY = ("session_id", "latest_time", "updated_at", "message_count", "last_message")  # every message of a session changes one of them
NO_SESSION = "会话不存在"  # documented whole: 该会话不存在或无权访问
LIST_SIZE, LIST_SIZE_DEFAULT = 50, 10  # rows a page: what is asked for, and what is asked for where that is refused
RECORD_SIZE_DEFAULT = 20
KEPT_FOR = 3.0  # seconds that a row of the list answers for a read

_STRANGE = _("The answer is not what this provider answers; check the base URL.")
MODULES = {1: _("Consultation"), 4: _("Knowledge questions"), 5: _("Picture recognition"), 12: _("Video recognition"), 19: _("Advice")}
STATUS = {1: _("Running"), 2: _("Finished"), 3: _("Ended by hand"), 4: _("Ended automatically")}
REPORT = {0: _("None"), 1: _("Being made"), 2: _("Ready"), 3: _("Failed")}
FACTS: tuple[tuple[str, str, Mapping[int, str]], ...] = (
    (_("Module"), "module_type", MODULES),
    (_("Status"), "status", STATUS),
    (_("Report"), "report_status", REPORT),
    (_("Pet"), "pet_profile_id", {}),
    (_("Medical record"), "medical_record_id", {}),
    (_("Last activity (zone not told)"), "latest_time", {}),
    (_("Created (zone not told)"), "created_at", {}),
    (_("Changed (zone not told)"), "updated_at", {}),
)
ROLES = {"user": "user", "ai": "assistant", "assistant": "assistant", "system": "system", "tool": "tool"}


class Chongzhiling(Provider):
    """A 宠智灵 account: everything of one `user_id`, read-only."""

    key = "chongzhiling"
    name = "宠智灵 chongzhiling"
    default_base_url = "https://ms-ai.chongzhiling.com"
    base_url_help = _("The English edition is at https://ms-ai-cn.chongzhiling.com; connect it as an account of its own.")
    connect_help = _(
        "Make an API key in the console of the open platform and give it together with the user id that the sessions were made with. "
        "If you only have a ready access token, give that alone; it ends after two days at most and cannot be renewed from here."
    )
    credential_fields = (
        Field("api_key", _("API key"), secret=True, help=_("From the console of the open platform. Give this or a company id.")),
        # Whoever knows it gets tokens with it, so it is as secret as the key.
        Field("corp_id", _("Company id"), secret=True, help=_("The older way to get a token. An API key wins where both are given.")),
        Field(
            "user_id",
            _("User id"),
            help=_("Whose sessions are shown: exactly the id they were made with. A wrong one is not refused, it shows an empty list."),
        ),
        Field("access_token", _("Access token"), secret=True, help=_("Instead of key and user id; ends after two days at most.")),
        Field(
            "token_in",
            _("Send the token as"),
            kind="choice",
            choices=(("header", _("Authorization header")), ("query", _("Query parameter"))),
            help=_("The header is safer. Choose the query parameter only where a token that should be good is refused."),
        ),
    )
    capabilities = {
        Op.CHECK: Capability(),
        Op.LIST: Capability(note=_("Only consultations and knowledge questions of this user id.")),
        Op.SEARCH: missing(_("chongzhiling has no search; Switchboard searches its own copy of the titles.")),
        Op.READ: Capability(note=_("Found by reading pages of the list, which takes several requests in long lists.")),
        Op.MESSAGES: Capability(note=_("Without the messages that the system writes for itself.")),
        Op.FIRST_MESSAGE: Capability(),
        Op.MODELS: missing(_("chongzhiling does not say which models it uses.")),
        Op.SWITCH_MODEL: missing(_("chongzhiling chooses its models itself; no call of its API takes one.")),
        Op.RENAME: missing(_("chongzhiling makes the title itself from what was said; its API cannot change it.")),
        Op.EDIT_CONFIG: missing(_("A session at chongzhiling has no settings that its API could change.")),
        Op.GENERATE_TITLE: missing(_("chongzhiling titles every session by itself; another title cannot be asked for.")),
    }
    traces = Traces(  # 1
        hosts=("chongzhiling.com",),
        paths=("/token/accessToken", "/api/v2.0/ai-b", "/api/v2.0/ai-en"),
        takes=(
            Take("access_token", header="authorization", pattern=rf"{SCHEME}([!-~]+)"),
            Take("access_token", query="token", pattern=r"([!-~]+)"),
            Take("token_in", query="token", value="query"),
            Take("api_key", query="api_key"),
            Take("corp_id", query="corp_id"),
            Take("user_id", query="user_id"),
            Take("access_token", pattern=f"({JWT})", weak=True),
            Take("api_key", pattern=r"([!-~]+)", weak=True),
        ),
        advice=_("Copy a request that carries the access token, or the one to /token/accessToken, which carries the key."),
    )
    token_field = "access_token"  # a ready one, where it is a JWT (§1 calls it one)
    pace = Pace(rate=3.0, burst=2, concurrency=2, cool_down=5.0)  # no limits are published; 429 counts by the minute, so the silence is long
    time_note = _("chongzhiling tells times without their zone, so they are shown as told and not used for sorting.")

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._kept_token = KeptToken(self.kept, self.fallback_identity())
        origin, path, rest = self.base_url.partition("/api/v")
        self.base_url = origin.rstrip("/")  # the token is not under the prefix
        self.prefix = path + rest or EDITIONS.get(httpx.URL(origin).host, PREFIX)
        self._seen = Recent[RemoteConversation](KEPT_FOR)

    # --- credential: §1, gotchas 7 to 9 --------------------------------------------------------------------------------------------

    @classmethod
    def check_credentials(cls, given: Mapping[str, str]) -> dict[str, str]:
        """Demands either a key (or company id) with a user id, or an access token alone (§1)."""
        token, key = given.get("access_token"), given.get("api_key") or given.get("corp_id")
        errors: dict[str, str] = {}
        if token and key:
            errors["access_token"] = _("Give either a key with its user id or an access token, not both.")
        elif token and not (token.isascii() and token.isprintable() and " " not in token):
            errors["access_token"] = _("This is not an access token: it holds spaces or characters that no token has.")
        elif not token and not key:
            errors["api_key"] = _("Give an API key or a company id together with a user id, or an access token.")
        elif not token and not given.get("user_id"):
            errors["user_id"] = _("A key needs the user id whose sessions are to be shown.")
        if given.get("token_in") and given["token_in"] not in ("header", "query"):
            errors["token_in"] = _("The token is sent as header or as query.")
        return errors

    async def check(self) -> Identity:
        """Proves the credential by a token and the first row of the list; the user id is the caller's own word (§1)."""
        await self._list_page(1, 1)
        if self.secret("access_token"):
            return Identity("", expires_at=self.expires_at())  # a ready token does not tell whose it is
        return Identity(self.secret("user_id"), name=self.secret("user_id"))

    @property
    def _token(self) -> str:
        return self.secret("access_token") or self._kept_token.current

    async def _fetch_token(self) -> tuple[str, Any]:
        """Returns a new token and how long it lives, by key or company id (§1)."""
        key = "api_key" if self.secret("api_key") else "corp_id"
        data = await self.request("GET", TOKEN_PATH, params={key: self.secret(key), "user_id": self.secret("user_id")})
        token = data.get("access_token") if isinstance(data, dict) else None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise MalformedAnswer(_("The provider answered the request for a token without one."))
        return token, data.get("expires_in")

    def address(self, method: str, url: httpx.URL) -> httpx.URL:
        """Adds the token to the query where the account says so (§1)."""
        if _is_token_request(url) or self.secret("token_in") != "query":
            return url
        return url.copy_set_param("token", self._token)

    async def headers(self, method: str, url: httpx.URL, content: bytes) -> dict[str, str]:
        """Returns the bearer header, except for the token request and where the token travels in the query (§1)."""
        headers = await super().headers(method, url, content)
        if _is_token_request(url) or self.secret("token_in") == "query":
            return headers
        return headers | {"authorization": f"Bearer {self._token}"}

    async def recover(self, error: ProviderError, response: httpx.Response) -> bool:
        """Fetches one new token after a 401, once per request (gotcha 8); a ready access token cannot be renewed."""
        sent = response.request
        if not isinstance(error, CredentialsRejected) or _is_token_request(sent.url) or self.secret("access_token"):
            return False
        refused = sent.url.params.get("token") or sent.headers.get("authorization", "").removeprefix("Bearer ")
        await self._kept_token.renew(self._fetch_token, refused=refused, life=TOKEN_LIFE)
        return True

    # --- answers: §2 --------------------------------------------------------------------------------------------------------------

    def decode(self, response: httpx.Response, *, write: bool) -> Any:
        """Judges the three envelopes: the token service's `code`, the business `success`, and bare HTTP (§2, gotcha 2)."""
        body, status = json_object(response), response.status_code
        told = self._told(body)
        token_request = _is_token_request(response.request.url)
        if NO_SESSION in told or (status == 404 and body and response.request.url.path.endswith("/session-record")):
            raise NotFound(_("The provider does not know this session, or it belongs to somebody else."), status=status, detail=told)
        if status in (404, 405):
            raise MalformedAnswer(_("There is no such call at this address; check the base URL."), status=status, detail=told)
        if token_request and body and 400 <= status < 500 and status != 429:
            raise CredentialsRejected(_("The provider gives no token for this key and user id."), status=status, detail=told)
        self.raise_for_http(response, write=write, detail=told)
        self.parse_json(response, write=write)  # says so when it is no JSON at all
        code = str(body.get("code", body.get("error_code", "")))
        if body.get("success", code == "200") is True:
            return body.get("data")
        if "success" not in body and not code:
            raise MalformedAnswer(_STRANGE, status=status)
        if code == "429":
            raise RateLimited(_("The provider asks for fewer requests."), status=status, detail=told)
        if code in ("500", "502", "503", "504"):
            raise self.out_of_order(status, write=write, detail=told)
        if code == "401" or token_request:
            raise CredentialsRejected(_("The provider does not accept this credential."), status=status, detail=told)
        raise RequestRejected(_("The provider refused the request."), status=status, detail=told)

    def _told(self, body: Mapping[str, Any]) -> str:
        """Returns the provider's own words without any secret that they repeat (problem details like to name the request)."""
        told = next((body[name] for name in ("message", "detail", "title") if body.get(name)), "")
        if isinstance(told, list):
            told = "; ".join(str(entry.get("msg", entry)) if isinstance(entry, dict) else str(entry) for entry in told)
        return self.without_secrets(str(told))

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        if not self._token:
            await self._kept_token.renew(self._fetch_token, life=TOKEN_LIFE)
        return await self.request(method, self.prefix + path, **request)

    async def _sheet(self, name: str, page: int, size: int, default: int, ask: Callable[[int], Awaitable[Any]]) -> Sheet:
        """Reads one page by `ask(size)`. The largest size is not told; where a first page is refused, the default one is always allowed."""
        try:
            data = await ask(size)
        except RequestRejected:
            if page > 1 or size <= default:
                raise
            size = default
            data = await ask(size)
        rows = data.get(name) or [] if isinstance(data, dict) else None
        if not isinstance(rows, list):
            raise MalformedAnswer(_STRANGE)
        return Sheet.read(rows, data.get("pagination"), page, size)

    # --- sessions: §3, gotchas 5 to 7 -----------------------------------------------------------------------------------------------

    async def _list_page(self, page: int, size: int) -> Sheet:
        """Reads one page of the list (§3) and remembers its rows for reads that follow at once."""
        body = {"page": page, "module_type": [1, 4]}
        ask = partial(self._ask, "POST", "/medical-session-list")
        sheet = await self._sheet("list", page, size, LIST_SIZE_DEFAULT, lambda limit: ask(body=body | {"limit": limit}))
        if sheet.size < size:
            self.memory["list_size"] = sheet.size
        for row in map(self._conversation, sheet.rows):
            self._seen.put(row.remote_id, row)
        return sheet

    async def list_conversations(self, cursor: str | None = None, *, known: Container[str] = ()) -> Page[RemoteConversation]:
        """Walks the list and then looks back at its top until nothing that moved can have been missed (§3, gotcha 6; see parts.ground)."""
        walk = Ground.resume(cursor, self.memory.get("list_size", LIST_SIZE))
        try:
            sheet = await self._list_page(walk.page, walk.size)
        except RequestRejected:
            if walk.page == 1:
                raise
            return Page((), restart=True)  # a page past the end, refused: the list became shorter
        marks = [mark(row, *MOVED_BY) for row in sheet.rows]
        following, restart, note = walk.take(marks, size=sheet.size, more=sheet.more, total=sheet.total)
        rows = {str(row["session_id"]): self._conversation(row) for row in sheet.rows if row.get("session_id")}
        return Page(tuple(rows.values()), next=following, total=sheet.total, restart=restart, note=note)

    async def read(self, ref: Ref, *, fresh: bool = False) -> RemoteConversation:
        """Finds one session in the list, since there is no call for one (§3): where it was last, at the top, beside, then everywhere."""
        since = time.monotonic() - (0.0 if fresh else KEPT_FOR)
        if found := self._seen.get(ref.remote_id, since=since):
            return found
        size = self.memory.get("list_size", LIST_SIZE)
        hint = ref.rank // size + 1 if ref.rank is not None else 1
        last = hint + 1
        for page in dict.fromkeys((hint, 1, hint + 1, hint - 1)):
            if not 1 <= page <= max(1, last):
                continue
            try:
                sheet = await self._list_page(page, size)
            except RequestRejected:
                if page == 1:
                    raise
                continue  # past the end
            if found := self._seen.get(ref.remote_id, since=since):
                return found
            last = sheet.pages
            if page == 1 and not sheet.more:
                raise NotFound(_("The provider's list does not name this session."))
        await self._record(ref, 1, 1)  # says at once when there is no such session, before a long walk through the list
        cursor, tries = None, 0
        while tries < 3:
            listed = await self.list_conversations(cursor)
            if found := self._seen.get(ref.remote_id, since=since):
                return found
            cursor, tries = listed.next, tries + listed.restart
            if cursor is None and not listed.restart:
                break
        raise NotFound(_("The provider's list does not name this session."))

    def _conversation(self, row: Mapping[str, Any]) -> RemoteConversation:
        """Translates one row of the list (§3); its times have no zone, so they stay the provider's own text (§2)."""
        title, count = str(row.get("title") or ""), row.get("message_count")
        facts = {label: _word(words, row.get(name)) for label, name, words in FACTS}
        return RemoteConversation(
            remote_id=str(row.get("session_id") or ""),
            title=title,
            values={"title": title},
            message_count=count if isinstance(count, int) else None,
            group=_word(MODULES, row.get("module_type")),
            details={label: told for label, told in facts.items() if told},
        )

    # --- messages: §4, gotchas 3 to 5 -----------------------------------------------------------------------------------------------

    async def _record(self, ref: Ref, page: int, size: int) -> Sheet:
        """Reads one page of messages, oldest first; page and limit always travel together (§4, gotcha 3)."""
        params = {"session_id": ref.remote_id, "page": str(page)}
        ask = partial(self._ask, "GET", "/session-record")
        try:
            sheet = await self._sheet("history", page, size, RECORD_SIZE_DEFAULT, lambda limit: ask(params=params | {"limit": str(limit)}))
        except RequestRejected:
            if page == 1:
                raise
            return Sheet([], page, size)  # past the end
        return sheet if sheet.page == page else Sheet([], page, sheet.size, sheet.pages, sheet.total)

    async def messages(self, ref: Ref, cursor: str | None = None, *, limit: int = 50) -> MessagePage:
        """Returns whole pages, so that cursors stay true while a session grows; positions count what the paged mode shows (§4, gotcha 5)."""
        found, older, newer = await sheets.window(partial(self._record, ref), cursor, limit)
        items = tuple(_message(row, (sheet.page - 1) * sheet.size + at) for sheet in found for at, row in enumerate(sheet.rows, 1))
        return MessagePage(items, older, newer, found[-1].total if found else None)

    async def first_message(self, ref: Ref) -> str | None:
        """Returns the first user message that has text: page 1 is the oldest, and a knowledge session may begin without (§4)."""
        sheet = Sheet([], 0, RECORD_SIZE_DEFAULT, more=True)
        while sheet.more:
            sheet = await self._record(ref, sheet.page + 1, RECORD_SIZE_DEFAULT)
            for row in sheet.rows:
                if (message := _message(row, 0)).role == "user" and message.text.strip():
                    return message.text
        return None


def _is_token_request(url: httpx.URL) -> bool:
    return url.path.endswith(TOKEN_PATH)


def _word(words: Mapping[int, str], value: Any) -> str:
    """Returns the word for a number, and what is not documented as it is."""
    return words.get(value, str(value)) if isinstance(value, int) else str(value or "")


def _message(row: Mapping[str, Any], position: int) -> RemoteMessage:
    """Translates one message of the paged mode (§4); roles nobody documented speak for the provider (gotcha 12)."""
    content, images = text(row.get("content")), row.get("image")
    role = "system" if row.get("stage") == 8 else ROLES.get(str(row.get("role") or "").lower(), "assistant")
    return RemoteMessage(
        key=str(row["id"]) if row.get("id") is not None else message_key(position, role, content),
        role=role,
        text=content,
        position=position or None,
        time_note=str(row.get("created_at") or ""),
        images=tuple(str(image) for image in (images if isinstance(images, list) else [images]) if image),
    )
