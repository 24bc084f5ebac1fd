"""Nuwax: a company's own agent platform. A conversation belongs to one user and one agent, and the agent carries model and settings.

So there is little to write (a title, or the order to make one) and the listing goes agent by agent. HTTP is always 200; the verdict is
the `code` in the body. Section numbers are those of the contract.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Container, Mapping, Sequence
from datetime import UTC
from functools import partial
from typing import Any

import httpx

from .base import Limit, Provider, retry_after_seconds
from .errors import CredentialsRejected, MalformedAnswer, NotFound, OutcomeUnknown, PermissionRefused, ProviderError, RateLimited, RequestRejected
from .parts import backwards
from .parts.reading import first_text, json_object, moment, positive, shown, text
from .parts.whole_lists import FIRST_LIMIT, WholeLists
from .records import Identity, Json, MessagePage, Page, Ref, RemoteConversation, RemoteMessage, RemoteModel
from .schema import Capability, Field, Op, Pace, Scope, gettext_noop, missing
from .traces import SCHEME, Take, Traces

_ = gettext_noop

CHAT = "/api/v1/chat"
UNNAMED = "Unnamed conversation"  # what is stored until somebody chooses a title (section 4)
TITLE_SOURCE = 255  # characters of the first message that are sent: by the documentation they may become the title as they are
TITLE_SECONDS = 120.0
MAX_TITLE = 255
DAY_COOL_DOWN = 3600.0

# The server's language varies, so its words decide nothing, except these two: every message about the key has them in both languages.
KEY_WORDS = "API Key"
_STRANGE = _("Something else than Nuwax answered at this address; check the base URL.")
_STRANGE_WRITE = _("The change was sent, but the answer is not one of Nuwax.")
_CLOSED = _("The key is good, but the server's administrator has not opened this part of the API to it or to its owner's role.")
_REFUSALS: dict[str, tuple[type[ProviderError], str]] = {
    "4000": (RequestRejected, _("Nuwax cannot use this request.")),
    "4000 key": (CredentialsRejected, _("Nuwax does not know this API key, or it is switched off.")),
    "4010": (CredentialsRejected, _("Nuwax asks for a login here and does not take an API key; check the base URL.")),
    "4011": (MalformedAnswer, _("No Nuwax tenant answers to this host name; check the base URL.")),
    "4030": (PermissionRefused, _CLOSED),
    "4030 key": (CredentialsRejected, _("This API key has expired.")),
    "4030 no key": (CredentialsRejected, _("Nuwax sees no API key in what was sent; its keys start with “ak-”.")),
    "4040": (RequestRejected, _("This Nuwax server does not have that call; its version may be too old or too new.")),
    "4050": (RequestRejected, _("This Nuwax server does not take that call in this form; its version may be too old or too new.")),
    "4290": (RateLimited, _("Nuwax's limit of requests per minute is used up.")),
    "4290 day": (RateLimited, _("Nuwax's limit of requests per day is used up.")),
}
_FACTS = ((_("Type"), "type"), (_("Status"), "taskStatus"), (_("Variables"), "variables"), (_("Summary"), "summary"))
_NAMES = ("name", "componentName", "type")
_OUT_OF_REACH = _("Its agent is not published: the conversation can be listed but not opened, and Nuwax confirms no change.")
_ONE_CONVERSATION = re.compile(r"/api/v1/chat/(conversation/\d+|\d+/messages)$")


class Nuwax(Provider):
    """A Nuwax server, by an account key with agent ids or by an agent key (contract sections 1 to 6; the login of section 7 is not used)."""

    key = "nuwax"
    name = "Nuwax"
    default_base_url = "https://nuwax.com"
    base_url_help = _("The address of your company's Nuwax server, without a path. One server may hold several tenants, told apart by the host name.")
    connect_help = _(
        "An account key is made in Nuwax on your own API key page and needs the ids of the agents to manage. "
        "An agent key is made on the publish page of one agent and names that agent itself."
    )
    credential_fields = (
        Field("api_key", _("API key"), secret=True, required=True, placeholder="ak-…"),
        Field(
            "agent_ids",
            _("Agent ids"),
            help=_("Numbers, separated by commas; only for an account key. Nuwax shows the conversations of an unknown agent as an empty list."),
            placeholder="88, 91",
        ),
    )
    capabilities = {
        Op.CHECK: Capability(),
        Op.LIST: Capability(note=_("Conversations that never had a title are in none of Nuwax's lists and cannot be shown.")),
        Op.SEARCH: Capability(),
        Op.READ: Capability(),
        Op.MESSAGES: Capability(),
        Op.FIRST_MESSAGE: Capability(
            note=_("Nuwax has no direct way to the first message; the whole conversation is read, with two or more requests.")
        ),
        Op.MODELS: Capability(
            note=_("The models of the spaces you belong to, for information. Which one answers is decided by the agent of each conversation.")
        ),
        Op.SWITCH_MODEL: missing(
            _("At Nuwax the agent carries the model, not the conversation; a model can be chosen for a single message only."), Scope.PER_MESSAGE
        ),
        Op.RENAME: Capability(note=_("A title that starts with a double quote loses all its double quotes at Nuwax.")),
        Op.EDIT_CONFIG: missing(
            _("At Nuwax the settings belong to the agent and are shared by all its conversations; its API does not change them.")
        ),
        Op.GENERATE_TITLE: Capability(
            note=_("Nuwax asks a language model for the title: this is slow and billed, gives another title every time, and is asked for only once.")
        ),
    }
    traces = Traces(  # 1 and 7
        hosts=("nuwax.com",),
        paths=("/api/v1/chat", "/api/v1/agent", "/api/v1/space", "/api/v1/skill", "/api/agent/", "/api/user/agent/", "/api/user/apiKey"),
        logins=("/api/user/passwordLogin",),
        takes=(
            Take("api_key", header="authorization", pattern=rf"{SCHEME}(ak-[!-~]+)"),
            Take("api_key", pattern=r"(ak-[\w-]{8,})"),
        ),
        advice=_("Requests of Nuwax's pages carry a login, which does not open its API. Make an API key there and paste that; it starts with ak-."),
    )
    title_field = Field("title", _("Title"), required=True, max_length=MAX_TITLE)
    untitled = frozenset({"", UNNAMED})
    pace = Pace(rate=5.0, burst=4, concurrency=4, cool_down=10.0)

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._own_agent: dict[int, str] = {}
        self._lists = WholeLists(self.memory, self._rows)

    @classmethod
    def clean_credentials(cls, given: Mapping[str, Any]) -> dict[str, str]:
        """Returns the document to store: the key without a pasted scheme, agent ids (text, a number or a list) as "88, 91"."""
        ids = given.get("agent_ids")
        words = dict.fromkeys(word for entry in (ids if isinstance(ids, list | tuple) else [ids or ""]) for word in _words(str(entry)))
        return super().clean_credentials({"api_key": str(given.get("api_key") or ""), "agent_ids": ", ".join(words)})

    @classmethod
    def check_credentials(cls, given: Mapping[str, Any]) -> dict[str, str]:
        """Returns what is wrong with the document, by field name; an account key without ids is only found out by the server."""
        clean = cls.clean_credentials(given)
        errors = super().check_credentials(clean)
        key = clean.get("api_key", "")
        if key.startswith("eyJ") and key.count(".") == 2:
            errors["api_key"] = _("This is a login token; Nuwax opens its API to keys only, which start with “ak-”.")
        elif not re.fullmatch(r"[!-~]*", key):
            errors["api_key"] = _("An API key has no spaces and only plain letters and digits.")
        if not all(positive(word) for word in _words(clean.get("agent_ids", ""))):
            errors["agent_ids"] = _("Agent ids are whole numbers, separated by commas.")
        return errors

    async def headers(self, method: str, url: httpx.URL, content: bytes) -> dict[str, str]:
        """Returns the key in the documented form (section 1)."""
        return {"authorization": f"Bearer {self.secret('api_key')}"} | await super().headers(method, url, content)

    def limit(self, method: str, path: str) -> Limit:
        """Returns a budget per user and catalogue entry, as Nuwax counts (section 2): a list is counted as a detail."""
        entry = "update" if method == "POST" else "messages" if path.endswith("/messages") else "detail" if path.startswith(CHAT) else "other"
        return Limit(f"{self.identity}:{entry}", self.account_pace.rate, self.account_pace.burst)

    # --- answers (section 2) ------------------------------------------------------------------------------------------------------

    def decode(self, response: httpx.Response, *, write: bool) -> Any:
        """Returns the envelope's `data`, or raises what its `code` means; the HTTP status counts only where there is no envelope (gotcha 3)."""
        envelope, status = json_object(response), response.status_code
        if (code := str(envelope.get("code"))) == "0000":
            return envelope.get("data")
        if "code" in envelope:
            raise self._refusal(code, text(envelope.get("message")), response, write=write)
        if status == 429:
            raise RateLimited(_("A server in front of Nuwax asks for fewer requests."), status=status, retry_after=retry_after_seconds(response))
        if status >= 500 or status == 408:
            raise self.out_of_order(status, write=write)
        raise self.senseless(status, _STRANGE_WRITE if write and status < 300 else _STRANGE, write=write and status < 300)

    def _refusal(self, code: str, said: str, response: httpx.Response, *, write: bool) -> ProviderError:
        # The text of a 4011 is an address to send a browser to; nobody is to follow it from here.
        status, detail = response.status_code, code if code == "4011" else self.without_secrets(f"{code} {said}")
        if code == "5000":
            return self.out_of_order(status, write=write, detail=detail)
        # The words about the day decide the wait alone; where a server uses others, the shorter wait is tried again and again.
        day = code == "4290" and ("每日" in said or "daily" in said.lower())
        meaning = f"{code} key" if KEY_WORDS in said else f"{code} day" if day else code
        if meaning == "4030 key" and not self.secret("api_key").startswith("ak-"):
            meaning = "4030 no key"
        kind, sentence = _REFUSALS.get(meaning) or _REFUSALS.get(code) or (RequestRejected, _("Nuwax refused the request."))
        if code not in _REFUSALS and write:
            # Gotcha 8: at an agent that is not published the title is stored and the answer still says that there is no such conversation.
            kind, sentence = OutcomeUnknown, _("Nuwax answered with an error that it also gives after changes it has carried out.")
        elif code == "0001" and _ONE_CONVERSATION.search(response.request.url.path):
            kind, sentence = NotFound, _("Nuwax does not know this conversation, or its agent is not published.")
        return kind(sentence, status=status, retry_after=DAY_COOL_DOWN if day else None, detail=detail)

    # --- who, and which agents (sections 1, 6) ------------------------------------------------------------------------------------

    async def check(self) -> Identity:
        """Returns the key's owner, known from a conversation of theirs, and the agents' names; an id without rows stands as "#95"."""
        names, user_id = [], ""
        for agent, name in (await self._agents()).items():
            rows = await self._rows(agent, 1)
            user_id = user_id or str((rows[0].get("userId") if rows else None) or "")
            names.append(name or (_agent_name(rows[0]) if rows else f"#{agent}"))
        return Identity(user_id, ", ".join(names))

    async def _agents(self) -> dict[int, str]:
        """Returns id -> name ("" when not told) of the agents to manage: the given ones, else the agent key's own (section 6)."""
        if given := [positive(word) for word in _words(self.secret("agent_ids"))]:
            return dict.fromkeys(filter(None, given), "")
        if not self._own_agent:
            try:
                own = await self.request("GET", "/api/v1/agent")
            except PermissionRefused as error:  # an account key: nothing lists its agents
                text = _("This key manages several agents; name their ids in the account's credential.")
                raise CredentialsRejected(text, status=error.status, detail=error.detail) from error
            if not isinstance(own, dict) or not positive(own.get("agentId")):
                raise MalformedAnswer(_("Nuwax did not say which agent this key belongs to."))
            self._own_agent = {int(own["agentId"]): str(own.get("name") or "")}
        return self._own_agent

    # --- conversations (sections 3.1, 3.2) ----------------------------------------------------------------------------------------

    async def list_conversations(self, cursor: str | None = None, *, known: Container[str] = ()) -> Page[RemoteConversation]:
        """Returns all titled conversations of one agent per page (3.1); the cursor counts agents."""
        agents = list(await self._agents())
        place = int(cursor) if cursor and cursor.isdecimal() else 0
        rows = await self._all_rows(agents[place]) if place < len(agents) else ()
        more = str(place + 1) if place + 1 < len(agents) else None
        return Page(tuple(self._conversation(row, thin=True) for row in rows), next=more, total=len(rows) if len(agents) == 1 else None)

    async def search(self, text: str, cursor: str | None = None) -> Page[RemoteConversation]:
        """Returns the conversations of all agents whose title holds `text`, without regard to case (3.1 `topic`), in one page."""
        rows = [row for agent in await self._agents() for row in await self._all_rows(agent, text)]
        return Page(tuple(self._conversation(row, thin=True) for row in rows), total=len(rows))

    async def _all_rows(self, agent: int, text: str | None = None) -> list[backwards.Row]:
        """Returns an agent's whole list, or all of it whose title holds `text` (3.1, gotcha 1)."""
        rows = await self._lists.all(agent, text)
        if text and re.search(r"[%_\\]", text):  # wildcards of the server's LIKE, which offers no escape that the contract knows
            rows = [row for row in rows if text.casefold() in str(row.get("topic")).casefold()]
        return rows

    async def _rows(self, agent: int, limit: int, text: str | None = None) -> list[backwards.Row]:
        params = {"agentId": str(agent), "limit": str(limit)}
        if text is not None:
            params["topic"] = text.replace("\\", "_")  # a backslash would escape; "_" stands for any character
        rows = await self.request("GET", f"{CHAT}/conversation/list", params=params)
        if not isinstance(rows, list) or not all(isinstance(row, dict) and positive(row.get("id")) for row in rows):
            raise MalformedAnswer(_("Nuwax's list is not a list of conversations."))
        return rows

    async def read(self, ref: Ref, *, fresh: bool = False) -> RemoteConversation:
        """Returns one conversation, always asked anew (3.2); where its agent is not published, from the agent's list (gotcha 8)."""
        try:
            return await self._one(ref)
        except NotFound:
            return await self._listed(ref)

    async def _one(self, ref: Ref) -> RemoteConversation:
        number = _conversation_id(ref)
        row = await self.request("GET", f"{CHAT}/conversation/{number}")
        if not isinstance(row, dict) or positive(row.get("id")) != number:
            raise MalformedAnswer(_("Nuwax answered with something else than this conversation."))
        return self._conversation(row)

    async def find(self, refs: Sequence[Ref]) -> dict[str, RemoteConversation]:
        """Returns those of the refs that exist: a few are read one by one, many from the lists (3.1), which hold whole titles."""
        if len(refs) * 100 < max(self._lists.length, FIRST_LIMIT):  # a request costs about as much as a hundred rows
            return await super().find(refs)
        rows = [row for agent in await self._agents() for row in await self._all_rows(agent)]
        wanted = {ref.remote_id: ref for ref in refs}
        found = {str(row["id"]): self._conversation(row, thin=True) for row in rows if str(row["id"]) in wanted}
        for remote_id in [key for key in wanted if key not in found]:  # never titled, of another agent, or gone
            with contextlib.suppress(NotFound):
                found[remote_id] = await self._one(wanted[remote_id])
        return found

    async def _listed(self, ref: Ref) -> RemoteConversation:
        """Finds in the lists what cannot be read (gotchas 7, 8)."""
        number = _conversation_id(ref)
        if (row := await self._lists.one(await self._agents(), lambda row: positive(row["id"]) == number, ref.title)) is None:
            raise NotFound(_("Nuwax does not know this conversation."))
        return self._conversation(row, thin=True, out_of_reach=True)

    @staticmethod
    def _conversation(row: Mapping[str, Any], *, thin: bool = False, out_of_reach: bool = False) -> RemoteConversation:
        """Translates the object of section 4; for one that never had a title the shown phrase (3.2) gives way to what is stored."""
        title = UNNAMED if row.get("topicUpdated") in (0, -1) else str(row.get("topic") or "")
        facts = {_("Agent"): _agent_name(row), _("Agent type"): (row.get("agent") or {}).get("type")} | {label: row.get(key) for label, key in _FACTS}
        return RemoteConversation(
            remote_id=str(row["id"]),
            title=title,
            values={"title": title},
            created_at=moment(row.get("created"), UTC),
            updated_at=moment(row.get("modified"), UTC),
            group=_agent_name(row),
            details={label: shown(value, 2000) for label, value in facts.items() if value},
            warning=_OUT_OF_REACH if out_of_reach else "",
            evasive=out_of_reach,
            thin=thin,
        )

    async def messages(self, ref: Ref, cursor: str | None = None, *, limit: int = 50) -> MessagePage:
        """Returns a page of messages; cursors are "before:INDEX" and "after:INDEX". Positions are known on the page that holds the oldest."""
        rows, older, newer, at_start = await backwards.page(partial(self._message_rows, ref), cursor, limit)
        return MessagePage(tuple(_message(row, number if at_start else None) for number, row in enumerate(rows, 1)), older, newer)

    async def first_message(self, ref: Ref) -> str | None:
        """Returns the oldest user message, after a walk to the beginning in large pages (3.4 has no other way there)."""
        row = await backwards.oldest(partial(self._message_rows, ref), lambda row: row.get("role") == "USER")
        return None if row is None else text(row.get("text"))

    async def _message_rows(self, ref: Ref, bound: int | None, limit: int) -> list[backwards.Row]:
        number, params = _conversation_id(ref), {"limit": str(limit)} if bound is None else {"index": str(bound), "limit": str(limit)}
        try:
            rows = await self.request("GET", f"{CHAT}/{number}/messages", params=params)
        except NotFound:  # or one that exists and cannot be opened (gotcha 8)
            raise RequestRejected((await self._listed(ref)).warning) from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and positive(row.get("index")) for row in rows):
            raise MalformedAnswer(_("Nuwax's page of messages is not a list of messages."))
        rows = [row for row in rows if bound is None or int(row["index"]) < bound]  # a server that took no notice of `index` would never end
        return sorted(rows, key=lambda row: int(row["index"]))

    async def list_models(self) -> Sequence[RemoteModel]:
        """Returns the models owned by the user's spaces, for information; only named fields are taken (`apiInfoList` may hold keys)."""
        found: dict[str, RemoteModel] = {}
        for space in await self.request("GET", "/api/v1/space/list") or ():
            models: list[backwards.Row] = []
            with contextlib.suppress(PermissionRefused):  # a space that is listed but not open to this user
                models = await self.request("GET", f"/api/v1/space/{int(space['id'])}/model/list") or []
            for model in (model for model in models if model.get("enabled") != 0):
                key, note = str(model["id"]), str(model.get("model") or "")
                found.setdefault(key, RemoteModel(key, str(model.get("name") or note), group=str(space.get("name") or ""), note=note))
        return tuple(found.values())

    @classmethod
    def stored_form(cls, field: str, value: Json) -> Json:
        """Returns a title as Nuwax keeps it: one that starts with a double quote loses all of them, and the text “主题：”."""
        if field == "title" and isinstance(value, str) and value.startswith('"'):
            return value.replace('"', "").replace("主题：", "")
        return value

    @classmethod
    def cannot_store(cls, field: str, value: Json) -> str:
        """Section 3.3: a blank title is taken for an order, an over-long one crashes the server, a leading double quote is dropped."""
        title = value if field == "title" and isinstance(value, str) else None
        if title is not None and (not title.strip() or len(title) > MAX_TITLE):
            return _("Nuwax does not take a blank title or one of more than 255 characters.")
        if title is not None and cls.stored_form(field, title) != title:
            return cls.capability(Op.RENAME).note
        return super().cannot_store(field, value)

    async def write(self, current: RemoteConversation, changes: Mapping[str, Json]) -> RemoteConversation | None:
        """Sets the title. A blank one would be a paid order for a generated one, an over-long one a crash: neither is sent."""
        self.allow_only(changes, "title")
        return await self._update(current, {"topic": self.checked_title(changes["title"])}, None)

    async def generate_title(self, current: RemoteConversation, first_message: str) -> RemoteConversation:
        """Orders a title made from `first_message`; sent once. Without an answer OutcomeUnknown: read, never order again (gotcha 6)."""
        if not (source := first_message.strip()[:TITLE_SOURCE]):
            raise RequestRejected(_("There is no first message to make a title from."))
        answer = await self._update(current, {"firstMessage": source}, TITLE_SECONDS)
        try:
            return answer or await self.read(Ref(current.remote_id, current.title), fresh=True)
        except ProviderError as error:  # the order was carried out: whoever asks must not give it once more
            raise OutcomeUnknown(_("The change was sent, but the answer cannot be read."), status=error.status) from error

    async def _update(self, current: RemoteConversation, body: Mapping[str, str], timeout: float | None) -> RemoteConversation | None:
        number = _conversation_id(Ref(current.remote_id))
        row = await self.request("POST", f"{CHAT}/conversation/{number}/update", body=body, write=True, timeout=timeout)
        if isinstance(row, dict) and positive(row.get("id")) != number:
            raise OutcomeUnknown(_("The change was sent, but the answer is about something else."))
        return self._conversation(row) if isinstance(row, dict) else None


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,;，、；]+", text) if word]


def _conversation_id(ref: Ref) -> int:
    if number := positive(ref.remote_id):
        return number
    raise NotFound(_("This is not the id of a Nuwax conversation."))  # the server would crash on it (5000), which means nothing certain


def _agent_name(row: Mapping[str, Any]) -> str:
    return str((row.get("agent") or {}).get("name") or f"#{row.get('agentId')}")


def _message(row: Mapping[str, Any], position: int | None) -> RemoteMessage:
    said, reasoning = str(row.get("text") or ""), str(row.get("think") or "")
    if row.get("type") == "THINK" and not reasoning:
        said, reasoning = "", said
    if quoted := str(row.get("quotedText") or ""):
        said = "\n".join(f"> {line}" for line in quoted.splitlines()) + f"\n\n{said}"
    attached = [entry for entry in row.get("attachments") or () if isinstance(entry, dict)]
    pictures = [entry for entry in attached if str(entry.get("mimeType")).startswith("image/") and entry.get("fileUrl")]
    return RemoteMessage(
        key=str(row.get("id") or row["index"]),
        role=str(row.get("role") or row.get("messageType") or "").lower(),
        text=said,
        position=position,
        reasoning=reasoning,
        created_at=moment(row.get("time"), UTC),
        images=tuple(str(entry["fileUrl"]) for entry in pictures),
        files=tuple(str(entry.get("fileName") or entry.get("fileUrl") or "") for entry in attached if entry not in pictures),
        # What an executed component looks like, the contract does not say.
        tools=tuple((first_text(run, *_NAMES) if isinstance(run, dict) else text(run)) or "tool" for run in row.get("componentExecutedList") or ()),
    )
