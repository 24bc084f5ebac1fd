"""Chat Nio, now CoAI (contract: providers/chatnio.md): conversations that can be listed, read and renamed, and nothing else.

Three things shape this file. A list names only the newest hundred and nothing but names, so everything else is found by asking for one id
after the other (parts.numbers), four a second (gotchas 2, 3). The limit belongs to a path of a host, whoever asks, and asking too early
prolongs it (4, gotcha 7). And a site whose database is down answers as if everything had been deleted (gotcha 6), so a missing conversation
is believed only after the site has shown another one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx

from .base import Limit, Provider
from .errors import (
    CredentialsRejected,
    MalformedAnswer,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    Unsupported,
)
from .parts import pictures
from .parts.doubt import Doubt
from .parts.histories import message
from .parts.numbers import NOTHING_KNOWN, Looked, Numbers
from .parts.places import slice_messages
from .parts.reading import first_text, json_object, text
from .parts.recent import Recent
from .parts.together import together
from .records import Identity, Json, MessagePage, Page, Ref, RemoteConversation, RemoteModel
from .schema import Capability, Field, Op, Pace, Scope, gettext_noop, missing
from .traces import JWT, SCHEME, Take, Traces

_ = gettext_noop

OPEN_RATE = 20.0  # for the paths without a limit of their own
MAX_NAME = 255
BLOCKED_FOR = 20 * 60.0  # seconds that an address stays on the block list

UNREADABLE = _("some conversations could not be loaded; they are asked for again at the next sync")
_STRANGE = _("The answer does not have the form of a Chat Nio answer.")
_KEY_REFUSED = _("The site does not accept this API key. A site whose database is down says the same: try again before you replace the key.")
_TOKEN_REFUSED = _("The site does not accept this login token: it has expired, the password was changed, or the account is banned.")
_PAGE = _("The change was answered with a web page; a site older than version 3.10 does that because it cannot rename.")
_TOO_LONG = _("The site loses titles of more than 255 characters; nothing was sent.")
_GONE = _("The site does not know this conversation.")
_BLOCKED = _("The site blocks every API key from this server for 20 minutes because of wrong keys; login tokens go on working.")
_REFUSALS: dict[str, tuple[type[ProviderError], str]] = {  # by the text of an answer whose `status` is false (3)
    "user not found": (CredentialsRejected, _TOKEN_REFUSED),
    "conversation not found": (NotFound, _GONE),
    "invalid id": (NotFound, _GONE),
}
_PRICES = {"times-billing": "{output} per request", "token-billing": "{input} in, {output} out per 1,000 tokens"}  # in the site's own points (6)


class ChatNio(Provider):
    """One account of a Chat Nio site, hosted or self-hosted, by API key or login token."""

    key = "chatnio"
    name = "Chat Nio"
    default_base_url = "https://api.chatnio.net"
    base_url_help = _("The address of the site; the /api of a self-hosted site is found by itself.")
    connect_help = _("In the site's menu, open “API Settings” and copy the key that starts with sk-.")
    credential_fields = (
        Field(
            "secret",
            _("API key or login token"),
            secret=True,
            required=True,
            placeholder="sk-…",
            help=_("An API key does not expire. A login token ends after 30 days and contains the password in hashed form: prefer the key."),
        ),
    )
    token_field = "secret"  # where it is a login token; an API key lives until it is reset (2)
    traces = Traces(  # 2 and 5; a self-hosted site has its API below /api
        hosts=("chatnio.net",),
        paths=("/conversation/", "/api/conversation/", "/apikey", "/api/apikey", "/resetkey", "/api/resetkey", "/state", "/api/state"),
        logins=("/login", "/api/login"),
        takes=(
            Take("secret", header="authorization", pattern=rf"{SCHEME}(sk-[!-~]+|{JWT})"),
            Take("secret", pattern=r"(sk-[0-9a-f]{64})"),
            Take("secret", pattern=f"({JWT})", claims=("username", "password")),
            Take("secret", pattern=r"([!-~]+)", weak=True),
        ),
        advice=_("Copy a request of the page after signing in, or paste the API key, which starts with sk-."),
    )
    title_field = Field(
        "title",
        _("Title"),
        required=True,
        max_length=MAX_NAME,
        warning=_("A conversation named “new chat” is renamed by the site when its next message is sent."),
    )
    untitled = frozenset({"", "new chat"})
    pace = Pace(rate=4.0, burst=1, concurrency=4, cool_down=1.2)
    read_timeout = 60.0  # a conversation always comes whole, pictures included
    whole_list = False
    time_note = _("not told by Chat Nio")
    capabilities = {
        Op.CHECK: Capability(),
        Op.LIST: Capability(note=_("The newest 100 are listed at once; older ones are found by asking for each number, about 4 a second.")),
        Op.SEARCH: missing(_("Chat Nio offers no search; the conversations read so far can be searched here.")),
        Op.READ: Capability(note=_("The model shown is the one of the first message; Chat Nio keeps no other settings.")),
        Op.MESSAGES: Capability(),
        Op.FIRST_MESSAGE: Capability(note=_("Costs one request per conversation, about 4 a second for all accounts of a site together.")),
        Op.MODELS: Capability(),
        Op.SWITCH_MODEL: missing(
            _("Chat Nio takes the model with each message and never changes the one it has stored; switching would add a paid message."),
            Scope.PER_MESSAGE,
        ),
        Op.RENAME: Capability(
            note=_(
                "Renaming something to “new chat” invites the site to rename it again. "
                "A chat window that is still open at the site can write the old title back."
            )
        ),
        Op.EDIT_CONFIG: missing(_("Chat Nio takes all settings with each message and stores none."), Scope.PER_MESSAGE),
        Op.GENERATE_TITLE: missing(_("Chat Nio makes no titles on request; use a template with the first message.")),
    }

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._site = httpx.URL(self.base_url).netloc.decode("ascii", "replace")
        self._is_key = self.secret("secret").startswith("sk-")
        self._refused = False
        self._finding = asyncio.Lock()
        self._doubt = Doubt(self.memory, alive=self.check, listed=self._rows, look=self._look)
        self._recent = Recent[dict[str, Json]](3.0, most=8)

    # --- credential and address -----------------------------------------------------------------------------------------------------

    @classmethod
    def check_credentials(cls, given: Mapping[str, str]) -> dict[str, str]:
        """Returns what is wrong with the credential by field; anything that fits into a header can be tried (2)."""
        clean = cls.clean_credentials(given)
        problems = super().check_credentials(clean)
        if not problems and not re.fullmatch(r"[!-~]+", clean["secret"]):
            problems["secret"] = _("This is not one key or token: it contains spaces, line breaks or other characters.")
        return problems

    async def check(self) -> Identity:
        """Returns the user that POST /state names, and remembers whether the API begins at the address or below its /api (1, 6)."""
        async with self._finding:
            remembered = self.memory.get("prefix") if self.memory.get("for") == self.fallback_identity() else None
            wrong_place: list[MalformedAnswer] = []
            for prefix in dict.fromkeys((remembered or "", "", "/api")):
                try:
                    user = text((await self.request("POST", f"{prefix}/state")).get("user"))
                except MalformedAnswer as error:
                    wrong_place.append(error)
                    continue
                if self.memory.get("owner") != (owner := f"{self.base_url} {user}"):  # what is known about ids belongs to one user of one site
                    self.memory.update(NOTHING_KNOWN | {"owner": owner, "empty_since": None})
                self.memory.update({"prefix": prefix, "for": self.fallback_identity()})
                return Identity(user, user, self.expires_at())
            raise wrong_place[0]

    async def headers(self, method: str, url: httpx.URL, content: bytes) -> dict[str, str]:
        """Returns the credential as SDKs (key) and page (token) send it (2); public paths go without, a refused key does not go again (gotcha 8)."""
        headers = await super().headers(method, url, content)
        if "/v1/" in url.path:
            return headers
        if self._refused:
            raise CredentialsRejected(_KEY_REFUSED)
        secret = self.secret("secret")
        return headers | {"authorization": f"Bearer {secret}" if self._is_key else secret}

    def limit(self, method: str, path: str) -> Limit:
        """Returns the budget of this path at this host, which all accounts there share (4, gotcha 7)."""
        endpoint = path.removeprefix("/api")
        if endpoint == "/state" or endpoint.startswith("/v1/"):
            return Limit(f"{self.key}:{self._site}:open", OPEN_RATE, 10)
        return Limit(f"{self.key}:{self._site}{endpoint}", self.account_pace.rate, self.account_pace.burst)

    # --- answers --------------------------------------------------------------------------------------------------------------------

    def decode(self, response: httpx.Response, *, write: bool) -> Any:
        """Returns the envelope of a successful answer, or the bare value of /v1; every failure, HTTP 200 included, ends here (2, 3, 4)."""
        status, told = response.status_code, json_object(response)
        reason = first_text(told, "message", "error", "reason")
        if status == 401 and told.get("code") == 403:
            raise ProviderUnavailable(_BLOCKED, status=status, retry_after=BLOCKED_FOR, detail=reason)
        if status == 401:
            self._refused = self._is_key
            raise CredentialsRejected(_KEY_REFUSED if self._is_key else _TOKEN_REFUSED, status=status, detail=reason)
        if status == 404 and write and told.get("status") is False:
            raise Unsupported(_("This site is older than version 3.10 and cannot rename."), status=status, detail=reason)
        if status == 404:
            raise MalformedAnswer(_("There is no Chat Nio API at this address; check the base URL."), status=status, detail=reason)
        self.raise_for_http(response, write=write)
        if write and response.content.lstrip()[:1] == b"<":
            raise OutcomeUnknown(_PAGE, status=status)
        body = self.parse_json(response, write=write)
        if "/v1/" in response.request.url.path:
            return body
        if not isinstance(body, dict) or not isinstance(body.get("status"), bool):
            raise self.senseless(status, _STRANGE, write=write)
        if body["status"]:
            return body
        if body.get("error") == "request_throttled" or (body.get("reason") and not body.get("error")):  # before 3.10 there is only a reason
            raise RateLimited(_("The site asks for fewer requests."), status=status, detail=text(body.get("reason")))
        if body.get("reason"):
            raise ProviderUnavailable(_("The site's own limiter is out of order, so it refuses everything."), status=status, detail=reason)
        meaning = reason or ("user not found" if "user" in body else "")
        kind, sentence = _REFUSALS.get(meaning, (RequestRejected, _("The site refused the request.")))
        raise kind(sentence, status=status, detail=reason)

    async def _call(self, method: str, path: str, **given: Any) -> Any:
        """Sends a request to where the API begins, which is found first if it is not known for this address and credential (1)."""
        if self.memory.get("for") != self.fallback_identity():
            await self.check()
        return await self.request(method, f"{self.memory.get('prefix') or ''}{path}", **given)

    # --- listing --------------------------------------------------------------------------------------------------------------------

    async def list_conversations(self, cursor: str | None = None, *, known: Container[str] = ()) -> Page[RemoteConversation]:
        """Returns the newest hundred as thin rows, then with each cursor a handful of whole rows, walking ids down to 1 (6, gotchas 2, 3, 6)."""
        if cursor is not None:
            return await Numbers(self.memory, known, self._look, self._doubt.settle).step(cursor)
        rows = await self._rows()
        if not rows:
            if self.memory.get("highest"):
                await self._doubt.believe_empty()
                self.memory.update(NOTHING_KNOWN)
            return Page((), total=0)
        following, note = Numbers(self.memory, known, self._look, self._doubt.settle).begin(list(rows))
        thin = tuple(RemoteConversation(str(number), text(name), values={"title": name}, thin=True) for number, name in rows.items())
        return Page(thin, next=following, note=note)

    async def _rows(self) -> dict[int, str]:
        """Returns what the list names, highest id first (6, gotcha 5)."""
        data = (await self._call("GET", "/conversation/list")).get("data")
        if not isinstance(data, list | None) or not all(isinstance(row, dict) and isinstance(row.get("id"), int) for row in data or ()):
            raise MalformedAnswer(_STRANGE, status=200)
        self._doubt.note_list(empty=not data)
        return {row["id"]: row.get("name") or "" for row in sorted(data or (), key=lambda row: -row["id"]) if row["id"] > 0}

    async def _look(self, numbers: Sequence[int]) -> Looked:
        answers = await together(self._load, numbers, at_once=self.account_pace.concurrency, alone=(NotFound, ProviderUnavailable, MalformedAnswer))
        rows = tuple(_conversation(answer) for answer in answers.values() if isinstance(answer, dict))
        missing = [number for number, answer in answers.items() if isinstance(answer, NotFound)]
        return Looked(rows, missing, UNREADABLE if len(rows) + len(missing) < len(answers) else "")

    # --- one conversation -----------------------------------------------------------------------------------------------------------

    async def _load(self, number: int) -> dict[str, Json]:
        """Returns GET /conversation/load, where a missing conversation and any database error are the same NotFound (6)."""
        data = (await self._call("GET", "/conversation/load", params={"id": str(number)})).get("data")
        if not isinstance(data, dict) or data.get("id") != number:
            raise MalformedAnswer(_("The answer does not show the conversation that was asked for."), status=200)
        return data

    async def _open(self, ref: Ref, *, fresh: bool = False) -> dict[str, Json]:
        number = _number(ref.remote_id)
        if not fresh and (held := self._recent.get(ref.remote_id)):
            return held
        try:
            data = await self._load(number)
        except NotFound:
            await self._doubt.settle(besides=number)
            raise
        self.memory["witness"] = self.memory.get("witness") or ref.remote_id
        return self._recent.put(ref.remote_id, data)

    async def read(self, ref: Ref, *, fresh: bool = False) -> RemoteConversation:
        """Returns one conversation (6); NotFound only after another conversation was seen, else ProviderUnavailable (gotcha 6)."""
        return _conversation(await self._open(ref, fresh=fresh))

    async def messages(self, ref: Ref, cursor: str | None = None, *, limit: int = 50) -> MessagePage:
        """Returns a slice of the messages, which come in one body; long inline pictures are only named (5, gotchas 14, 15)."""
        found = [message(entry, position, otherwise="system") for position, entry in enumerate(_stored(await self._open(ref)), 1)]
        return slice_messages([replace(said, text=pictures.named(said.text)) for said in found], cursor, limit)

    async def first_message(self, ref: Ref) -> str | None:
        """Returns the text of the first message with the role user (8)."""
        return _conversation(await self._open(ref)).first_message

    @classmethod
    def cannot_store(cls, field: str, value: Json) -> str:
        """Gotcha 11: too long a name is lost behind a success; an empty one is stored."""
        too_long = field == "title" and isinstance(value, str) and len(value) > MAX_NAME
        return _TOO_LONG if too_long else super().cannot_store(field, value)

    async def write(self, current: RemoteConversation, changes: Mapping[str, Json]) -> RemoteConversation | None:
        """Sends POST /conversation/rename, which tells nothing of what it stored; names that the site would lose are not sent (6, gotchas 11, 16).

        An empty name is stored, so it can be restored; that nobody gives one by mistake is the title field's business.
        """
        self.allow_only(changes, "title")
        title = changes.get("title")
        if not isinstance(title, str) or len(title) > MAX_NAME:
            raise RequestRejected(_TOO_LONG)
        number = _number(current.remote_id)
        try:
            await self._call("POST", "/conversation/rename", body={"id": number, "name": title}, write=True)
        except NotFound:
            await self._doubt.settle(besides=number)
            raise
        finally:
            self._recent.forget(current.remote_id)
        return None

    # --- models ---------------------------------------------------------------------------------------------------------------------

    async def list_models(self) -> Sequence[RemoteModel]:
        """Returns the site's catalogue, or its plain list of models where there is none, with prices where they are told (6)."""
        try:
            entries = await self._entries("/v1/market")
        except MalformedAnswer:
            entries = []
        entries = entries or await self._entries("/v1/models")
        try:
            rules = await self._call("GET", "/v1/charge")
        except (MalformedAnswer, ProviderUnavailable, RequestRejected):
            rules = None
        prices: dict[str, str] = {}
        for rule in rules if isinstance(rules, list) else ():
            for model in (rule.get("models") or ()) if isinstance(rule, dict) else ():
                # The first rule that names a model counts.
                words = _PRICES.get(text(rule.get("type")), _("free"))
                prices.setdefault(str(model), words.format(input=rule.get("input") or 0, output=rule.get("output") or 0))
        models: dict[str, RemoteModel] = {}
        for entry in entries:
            key, tags = entry["id"], entry.get("tag")
            group = ", ".join(map(text, tags)) if isinstance(tags, list) else ""
            models.setdefault(key, RemoteModel(key, text(entry.get("name")) or key, group, prices.get(key, ""), text(entry.get("description"))))
        return list(models.values())

    async def _entries(self, path: str) -> list[dict[str, Json]]:
        """Returns the usable entries of a catalogue, which may be null, bare, or under `data` (6)."""
        answer = await self._call("GET", path)
        entries = answer.get("data") if isinstance(answer, dict) else answer
        if not isinstance(entries, list | None):
            raise MalformedAnswer(_STRANGE, status=200)
        return [entry for entry in entries or () if isinstance(entry, dict) and text(entry.get("id"))]


def _number(remote_id: str) -> int:
    """Returns the id as a number; what cannot be an id is NotFound without asking (6)."""
    if not re.fullmatch(r"[1-9][0-9]{0,17}", remote_id, flags=re.ASCII):
        raise NotFound(_GONE)
    return int(remote_id)


def _conversation(data: Mapping[str, Json]) -> RemoteConversation:
    """Returns a loaded conversation (5); its model is that of the first message and does not change."""
    stored, model = _stored(data), text(data.get("model"))
    details = {_("Model"): _("That of the first message; later messages may have used others.")} if model else {}
    if model == "gpt-3.5-turbo":
        details[_("Model")] = _("That of the first message; a site on SQLite names this one for every conversation.")
    if data.get("task_id"):
        details[_("Task")] = str(data["task_id"])
    return RemoteConversation(
        remote_id=str(data["id"]),
        title=text(data.get("name")),
        model=model or None,
        values={"title": data.get("name") or ""},
        message_count=len(stored),
        first_message=next((pictures.named(text(message.get("content"))) for message in stored if message.get("role") == "user"), None),
        details=details,
    )


def _stored(data: Mapping[str, Json]) -> list[dict[str, Json]]:
    return [message for message in data.get("message") or () if isinstance(message, dict)]
