"""aurod (GoAmzAI, "Taiji"): sessions that can only be read from a list and only be written as a whole.

Three things shape this file. A session has no address of its own to read from (5.5), so one is found on the list page it was last seen on,
and everybody who asks at the same time shares that page. A write replaces the whole object (5.7), so what is sent is what was read, key for
key, with nothing but the change replaced. And rows move while one pages (2.5), so a listing is over when the counts prove it complete.
"""

from __future__ import annotations

import re
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import timedelta, timezone
from functools import partial
from typing import Any

import httpx

from .base import Provider, retry_after_seconds
from .errors import CredentialsRejected, MalformedAnswer, NotFound, ProviderError, ProviderUnavailable, RateLimited, RequestRejected
from .parts import jwt, listing
from .parts.reading import first_text, json_object, moment, numeral, shown
from .parts.turns import Place, Rows, from_oldest, turn
from .parts.whole_writes import WholeWrites
from .records import Identity, Json, MessagePage, Page, Ref, RemoteConversation, RemoteMessage, RemoteModel
from .schema import Capability, Field, Op, Pace, gettext_noop, missing
from .traces import JWT, SCHEME, Take, Traces

_ = gettext_noop

ZONE = timezone(timedelta(hours=8))  # times carry none; 2.4
RECORDS_A_PAGE = 10
_SESSIONS = "/api/chat/session"
_NAMES_ONE = re.compile(r"/api/chat/(session|record)/[^/]+$")
_DETAILS = (("useAppId", _("App")), ("plugins", _("Plugins")), ("mcp", _("MCP servers")), ("localPlugins", _("Web extensions")))
_SERVER_OWN = frozenset({"id", "uid", "created", "updated", "name", "model"})
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_GONE = _("The provider does not know this conversation.")
_STRANGE = _("The answer is not in the form of this provider; check the base URL.")
_APP = _("An app dictates the model, the prompt and the token cap of this session; changing them may do nothing.")


class Aurod(Provider):
    """One login of one site of this product; see the contract's section named in each method."""

    key = "aurod"
    name = "aurod"
    default_base_url = "https://ai.aurod.cn"
    base_url_help = _("The address of the site without a path. Other sites of the same product (GoAmzAI) work too.")
    connect_help = _("On the site, open the developer tools (F12), Network, click any request and copy the header “authorization”.")
    credential_fields = (
        Field("token", _("Token"), secret=True, required=True, help=_("The value of the request header “authorization”; valid for about a month.")),
        Field(
            "app_version",
            _("App version"),
            placeholder="2.14.0",
            max_length=40,
            help=_("The request header “x-app-version”. If everything fails after the site was upgraded, correct this first."),
        ),
        Field("cookie", _("Cookie"), secret=True, help=_("Optional; the request header “cookie”.")),
        Field("user_agent", _("User agent"), max_length=400, help=_("Optional; the request header “user-agent”.")),
    )
    capabilities = {
        Op.CHECK: Capability(),
        Op.LIST: Capability(),
        Op.SEARCH: Capability(),
        Op.READ: Capability(note=_("A session can only be read with the list page it is on.")),
        Op.MESSAGES: Capability(),
        Op.FIRST_MESSAGE: Capability(),
        Op.MODELS: Capability(),
        Op.SWITCH_MODEL: Capability(
            note=_("The price of a message depends on the model and can be a million times higher; look at it before you switch.")
        ),
        Op.RENAME: Capability(),
        Op.EDIT_CONFIG: Capability(note=_("Every change writes the whole session; a page of the site left open elsewhere may write it back.")),
        Op.GENERATE_TITLE: missing(_("This site writes no titles by itself; use the first message as the title.")),
    }
    title_field = Field("title", _("Title"), required=True, max_length=50)
    untitled = frozenset({"", "新对话"})
    config_fields = (
        Field(
            "maxToken",
            _("Token cap"),
            "int",
            minimum=0,
            help=_("Tokens of one exchange; 0 leaves it to the model."),
            default_label=_("the model's own"),
            default_value=0,
        ),
        Field("contextCount", _("Context messages"), "int", minimum=0, maximum=65, help=_("Earlier exchanges sent along; 0 sends none.")),
        Field("temperature", _("Temperature"), "number", minimum=0, maximum=1, step=0.1),
        Field("presencePenalty", _("Presence penalty"), "number", minimum=-2, maximum=2, step=0.1),
        Field("frequencyPenalty", _("Frequency penalty"), "number", minimum=-2, maximum=2, step=0.1),
        Field(
            "prompt",
            _("System prompt"),
            "textarea",
            warning=_("The site's operator puts its usage policy here and hides this field on its own page. Replace it only if you may."),
        ),
        Field("topSort", _("Pin priority"), "int", minimum=0, maximum=100, help=_("0 is not pinned; a higher number stands further up.")),
        Field("icon", _("Icon"), max_length=200, help=_("An emoji, the name of an icon or an address.")),
    )
    token_field = "token"
    traces = Traces(  # 7.4
        hosts=("ai.aurod.cn",),
        paths=("/api/chat/", "/api/user/", "/api/user_plan", "/api/notice"),
        headers=("x-app-version",),
        logins=("/api/user/login",),
        takes=(
            Take("token", header="authorization", pattern=f"{SCHEME}({JWT})"),
            Take("app_version", header="x-app-version"),
            Take("cookie", header="cookie", cookies=("server_name_session",)),
            Take("user_agent", header="user-agent", loose=True),
            Take("token", pattern=f"({JWT})", claims=("userId", "sign")),
            Take("token", pattern=f"({JWT})", weak=True),
        ),
        advice=_("Copy another request: one of the page after signing in, whose headers include “authorization”."),
    )
    pace = Pace(rate=10.0, burst=3, concurrency=3, cool_down=5.0)

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.base_url = re.sub(r"/(api|chat)$", "", self.base_url)  # what people copy from the address bar
        self._list = listing.Listing(self.memory, self._sessions, self.search)
        self._writes = WholeWrites(self, self._put, lambda: listing.FRESH_FOR)

    @classmethod
    def check_credentials(cls, given: Mapping[str, str]) -> dict[str, str]:
        """Returns what is wrong by field: everything here becomes a header, so line breaks and text outside ASCII cannot be sent."""
        unsendable = _("Copy the header's value again: it holds line breaks or characters that cannot be sent.")
        odd = {name for name, value in given.items() if not (value.isascii() and value.isprintable()) or (name == "token" and " " in value)}
        return dict.fromkeys(odd, unsendable) | super().check_credentials(given)

    async def check(self) -> Identity:
        """Returns the owner of the token (5.2); a release without that route is asked for its first list page instead (3)."""
        try:
            who = await self.request("GET", "/api/user/info")
        except MalformedAnswer as error:
            if error.status != 404:
                raise
            await self._sessions(1)
            who = {}
        who = who if isinstance(who, dict) else {}
        user_id = who.get("id", jwt.claims(self.secret("token")).get("userId", ""))
        return Identity(str(user_id), str(who.get("nickname") or who.get("email") or ""), self.expires_at())

    # --- requests and answers (2.1 to 2.3) ------------------------------------------------------------------------------------------

    async def headers(self, method: str, url: httpx.URL, content: bytes) -> dict[str, str]:
        """Returns the headers of 2.1: the bare token, never `Bearer`, and the version of the site's own app."""
        names = {"authorization": "token", "cookie": "cookie", "user-agent": "user_agent"}
        given = {header: value for header, field in names.items() if (value := self.secret(field))}
        version = {"accept": "application/json, text/plain, */*", "x-app-version": self.secret("app_version") or "2.14.0"}
        return await super().headers(method, url, content) | version | given

    def decode(self, response: httpx.Response, *, write: bool) -> Any:
        """Returns `data` of an answer whose HTTP status and `code` both say success (2.2); decides every failure of 2.3."""
        envelope, status = json_object(response), response.status_code
        code, detail = envelope.get("code"), _words(envelope)
        if status == 401 or (code in (2, 401) and status < 500):
            raise CredentialsRejected(_("The token has expired or was revoked; the account needs a new one."), status=status, detail=detail)
        if (status == 403 and not envelope) or status == 429 or (code == 429 and status < 500):
            # A refusal without the envelope comes from the firewall in front, which counts requests; it says nothing about rights.
            raise RateLimited(_("The provider asks for fewer requests."), status=status, retry_after=retry_after_seconds(response), detail=detail)
        if status == 404:
            if _NAMES_ONE.search(response.request.url.path):
                raise NotFound(_GONE, status=status, detail=detail)
            raise MalformedAnswer(_("The site does not know this address; check the base URL."), status=status, detail=detail)
        self.raise_for_http(response, write=write, detail=detail)
        if not isinstance(code, int):
            self.parse_json(response, write=write)  # says so when it is no JSON at all
            raise self.senseless(status, _STRANGE, write=write)
        if code == -2:
            raise ProviderUnavailable(_("The site's own licence is not active."), status=status, detail=detail)
        if code != 0:
            raise RequestRejected(_("The provider refused the request."), status=status, detail=detail)
        return envelope.get("data")

    async def _missing_or(self, refused: RequestRejected, ref: Ref) -> ProviderError:
        """Returns NotFound when the list does not hold the session any more: code 1 is an unknown id and every other refusal alike (2.3)."""
        try:
            await self.read(ref, fresh=True)
        except ProviderError as error:
            return error if isinstance(error, NotFound) else refused
        return refused

    # --- the list (5.4), which is also the only read (5.5) -----------------------------------------------------------------------------

    async def list_conversations(self, cursor: str | None = None, *, known: Container[str] = ()) -> Page[RemoteConversation]:
        """Returns the next page of the walk (5.4), which goes round again over rows that moved, so rows may repeat."""
        return await self._list.walk(cursor)

    async def find(self, refs: Sequence[Ref]) -> dict[str, RemoteConversation]:
        """Returns those of the refs that are still in the list (5.5); one walk for all, none for what was missed and has no records (2.3)."""
        doubted = {ref.remote_id for ref in refs}
        for remote_id in self._list.missed(doubted):
            try:
                await self._records(remote_id, 1)
            except (NotFound, RequestRejected):
                doubted.discard(remote_id)
        return await self._list.some(doubted)

    async def search(self, text: str, cursor: str | None = None) -> Page[RemoteConversation]:
        """Returns sessions whose name the server matches with `text` (5.4); its rules for case and parts of words are not known."""
        page = int(cursor) if cursor and cursor.isdecimal() else 1
        if not text.strip():
            return Page(())
        found = await self._sessions(page, text.strip())
        items = tuple(map(self._list.remember, found.items))
        return Page(items, next=str(page + 1) if items and page < found.pages else None, total=found.total)

    async def read(self, ref: Ref, *, fresh: bool = False) -> RemoteConversation:
        """Returns one session from the page it should be on, those beside, a search for its title or a walk over all (5.5)."""
        found = await self._list.one(ref, fresh=fresh, titled=not self.is_untitled(ref.title)) if numeral(ref.remote_id) else None
        if found is None:
            raise NotFound(_GONE)
        return found

    async def _sessions(self, page: int, search: str = "") -> listing.ListPage:
        began = time.monotonic()
        params = {"page": str(page)} | ({"search": search} if search else {})
        found = self._rows(await self.request("GET", _SESSIONS, params=params))
        return listing.ListPage(tuple(self._conversation(row, began) for row in found.rows), found.size, found.total, found.pages)

    def _rows(self, data: Any) -> Rows:
        """Returns the parts of a list answer (2.5); raises MalformedAnswer when it is none."""
        told = data if isinstance(data, dict) else {}
        rows = told.get("records", ()) or []
        size, total, pages = (_whole(told.get(name), -1) for name in ("size", "total", "pages"))
        if min(size, total, pages) < 0 or not all(isinstance(row, dict) and type(row.get("id")) is int for row in rows):
            raise MalformedAnswer(_STRANGE)
        return Rows(rows, size or max(1, len(rows)), total, pages)

    def _conversation(self, raw: dict[str, Any], read_at: float) -> RemoteConversation:
        """Returns a session (4.1) with every editable field exactly as stored; fields that this release lacks are left out."""
        stored = {name: raw[_RAW_NAMES.get(name, name)] for name in _EDITABLE if _RAW_NAMES.get(name, name) in raw}
        facts = [(label, raw.get(name)) for name, label in _DETAILS] + [(name, value) for name, value in raw.items() if name not in _KNOWN]
        return RemoteConversation(
            remote_id=str(raw["id"]),
            title=str(raw.get("name") or ""),
            model=str(raw.get("model") or "") or None,
            values=stored,
            created_at=moment(raw.get("created"), ZONE),
            updated_at=moment(raw.get("updated"), ZONE),
            details={label: _readable(value) for label, value in facts if value not in (*_NOTHING, 0)},
            warning=_APP if (by_app := _whole(raw.get("useAppId"), 0) > 0) else "",
            evasive=by_app,
            raw=raw,
            read_at=read_at,
        )

    # --- writing (5.7, 6) -----------------------------------------------------------------------------------------------------------------

    async def write(self, current: RemoteConversation, changes: Mapping[str, Json]) -> RemoteConversation | None:
        """Puts the whole session as it was read with `changes` replaced and no key added (5.7, gotcha 1; see parts.whole_writes)."""
        if absent := [name for name in changes if name not in current.values]:
            raise RequestRejected(_("This site's release has no such setting."), detail=", ".join(absent))
        return await self._writes.write(current, changes)

    async def repair(self, before: RemoteConversation, changes: Mapping[str, Json]) -> RemoteConversation | None:
        """Puts the fields back that our write emptied (5.7)."""
        return await self._writes.repair(before, changes)

    @classmethod
    def vanished(cls, before: RemoteConversation, after: RemoteConversation, changes: Mapping[str, Json]) -> tuple[str, ...]:
        """Names the fields outside `changes` that a write emptied, the preserved ones (plugins, newer releases' own) included."""
        sent = {_RAW_NAMES.get(name, name) for name in changes}
        return tuple(name for name, value in before.raw.items() if name not in sent and value not in _NOTHING and after.raw.get(name) in _NOTHING)

    async def _put(self, current: RemoteConversation, changes: Mapping[str, Json], attempts: int | None = None) -> RemoteConversation | None:
        body = {**current.raw, **{_RAW_NAMES.get(name, name): value for name, value in changes.items()}}
        try:
            data = await self.request("PUT", f"{_SESSIONS}/{current.remote_id}", body=body, write=True, attempts=attempts)
        except RequestRejected as refused:
            raise await self._missing_or(refused, Ref(current.remote_id, current.title)) from refused
        finally:
            self._list.written(current.remote_id)
        told = isinstance(data, dict) and str(data.get("id")) == current.remote_id
        return self._list.remember(self._conversation(data, time.monotonic())) if told else None

    # --- messages (5.9) -------------------------------------------------------------------------------------------------------------------

    async def messages(self, ref: Ref, cursor: str | None = None, *, limit: int = 50) -> MessagePage:
        """Returns about `limit` messages in whole records (question with answer), oldest first; each counts as two positions (5.9, 4.2)."""
        want = max(1, limit // 2)
        want -= want % RECORDS_A_PAGE if want > RECORDS_A_PAGE else 0
        if cursor is not None:
            Place.read(cursor)  # a cursor that is none says nothing about the session
        try:
            found, older, newer = await turn(partial(self._records, ref.remote_id), cursor, want, RECORDS_A_PAGE)
        except RequestRejected as refused:
            raise await self._missing_or(refused, ref) from refused
        items = tuple(message for ordinal, row in found for message in _messages_of(row, ordinal))
        return MessagePage(items, older, newer, total=None if older or newer or not found else len(items))

    async def first_message(self, ref: Ref) -> str | None:
        """Returns the question of the oldest record: the last one on the last page (5.9); marker rows are passed over (gotcha 11)."""
        try:
            async for row in from_oldest(partial(self._records, ref.remote_id), 5):
                if row.get("recordType") in (None, "", "message") and str(row.get("userText") or "").strip():
                    return str(row["userText"])
        except RequestRejected as refused:
            raise await self._missing_or(refused, ref) from refused
        return None

    async def _records(self, remote_id: str, page: int) -> Rows:
        if not numeral(remote_id):
            raise NotFound(_GONE)
        return self._rows(await self.request("GET", f"/api/chat/record/{remote_id}", params={"page": str(page)}))

    async def list_models(self) -> Sequence[RemoteModel]:
        """Returns the catalogue (5.3, 4.3) without the repeats it holds, with each model's price per message as the site words it."""
        settings = await self.request("GET", "/api/chat/tmpl")
        if not isinstance(settings, dict):
            raise MalformedAnswer(_STRANGE)
        models: dict[str, RemoteModel] = {}
        for entry in settings.get("models") or ():
            value = entry.get("value") if isinstance(entry, dict) else None
            if not isinstance(value, str) or not value or value in models:
                continue
            about = entry["attr"] if isinstance(entry.get("attr"), dict) else {}
            told = {name: str(about.get(name) or "") for name in ("tag", "providerKey", "integral", "note")}
            name, group = str(entry.get("label") or value), told["tag"] or told["providerKey"]
            models[value] = RemoteModel(value, name, group, told["integral"], told["note"], value == settings.get("defModel"))
        return tuple(models.values())


_RAW_NAMES = {"title": "name"}
_EDITABLE = ("title", "model", *(setting.name for setting in Aurod.config_fields))
_KNOWN = _SERVER_OWN | set(_EDITABLE) | {name for name, _label in _DETAILS}


def _messages_of(row: dict[str, Any], ordinal: int) -> Iterator[RemoteMessage]:
    """Yields the messages of one record (4.2): the question, its answer and answers made anew; or the one line of a marker."""
    key, asked, answered = str(row["id"]), moment(row.get("created"), ZONE), moment(row.get("updated"), ZONE)
    question, answer = str(row.get("userText") or ""), str(row.get("aiText") or "")
    if row.get("recordType") not in (None, "", "message"):
        yield RemoteMessage(key, "system", question or _("The context was cleared here."), 2 * ordinal - 1, created_at=asked)
        return
    images, files = _links(row.get("useImages")), _links(row.get("useFiles"))
    tokens = [_whole(row.get(name), 0) or None for name in ("promptTokens", "completionTokens")]
    yield RemoteMessage(f"{key}:q", "user", question, 2 * ordinal - 1, created_at=asked, images=images, files=files, tokens=tokens[0])
    model = str(row.get("model") or "") or None
    if answer:
        yield RemoteMessage(f"{key}:a", "assistant", answer, 2 * ordinal, model=model, created_at=answered, tokens=tokens[1])
    replies = row.get("replies")
    for number, reply in enumerate(replies if isinstance(replies, list) else (), 1):
        about = reply if isinstance(reply, dict) else {"aiText": reply}
        text = str(about.get("aiText") or about.get("text") or about.get("content") or "")
        if text and text != answer:
            named = str(about.get("model") or "") or model
            when = moment(about.get("updated") or about.get("created"), ZONE)
            yield RemoteMessage(f"{key}:r{number}", "assistant", text, 2 * ordinal, model=named, created_at=when or answered)


def _words(envelope: Mapping[str, Any]) -> str:
    """Returns the provider's own words from wherever they sit (2.3)."""
    inner = envelope.get("data")
    return first_text(envelope, "msg") or (first_text(inner, "msg") if isinstance(inner, dict) else "") or first_text(envelope, "err")


def _links(given: Any) -> tuple[str, ...]:
    entries = given if isinstance(given, list) else ()
    links = [entry.get("url") if isinstance(entry, dict) else entry for entry in entries]
    return tuple(link for link in links if isinstance(link, str) and link)


def _whole(given: Any, otherwise: int) -> int:
    return given if type(given) is int else otherwise


def _readable(value: Any) -> str:
    plain = isinstance(value, list) and all(isinstance(entry, str | int) for entry in value)
    return shown(", ".join(map(str, value)) if plain else value)
