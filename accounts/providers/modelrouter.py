"""Alibaba Cloud AIContent ModelRouter, as providers/modelrouter.md describes it.

Three things set it apart. Every attempt is signed (parts.acs3), so there is no login and nothing to refresh. A conversation is one object
with its whole history inside, as JSON text in JSON (parts.histories); there are no messages to ask for. And nobody has written down whether
an update leaves the fields it does not name alone: `vanished` notices if not, `repair` puts everything back, and the account remembers.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar

import httpx

from .base import EMPTY, Provider
from .errors import MalformedAnswer, NotFound, PermissionRefused, ProviderError, RequestRejected, Unsupported
from .parts import acs3, id_sets
from .parts.histories import SEVERAL, read_history
from .parts.passes import Passes
from .parts.places import slice_messages
from .parts.reading import compact, json_object, moment, numeral, shown, text, whole
from .parts.recent import Recent
from .records import Identity, Json, MessagePage, Page, Ref, RemoteConversation, RemoteModel
from .schema import Capability, Field, Op, Pace, gettext_noop, missing
from .traces import Take, Traces

_ = gettext_noop

ROOT = "/api/v1/modelRouter/open"
VERSION = "20240611"  # without dashes (gotcha 13)
PAGE_SIZE = 50  # each row may bring its whole history
MODEL_PAGE_SIZE, MODEL_PAGES = 100, 200
MAX_DETAILS = 20  # settings beside a history that are shown
HELD_SECONDS = 3.0  # an object this young may answer again
TITLE, MODEL = "title", "model"
ACTIONS = {
    ("GET", "conversations", False): "ModelRouterQueryConversationList",
    ("GET", "conversations", True): "ModelRouterQueryConversation",
    ("PUT", "conversations", True): "ModelRouterUpdateConversation",
    ("GET", "models", False): "ModelRouterQueryModelList",
}
_NO_PERMISSION = _("The policy of this AccessKey does not allow this operation; allow the aicontent:ModelRouter actions in RAM.")
_STRANGE = _("The answer is not what ModelRouter answers; check the endpoint.")
_CUT = _("The change was sent, but the answer cannot be read.")
_CODES = (*((code, PermissionRefused, _NO_PERMISSION) for code in ("B.Permission.", "Forbidden", "NoPermission")), *acs3.CODES)  # section 6


def action_of(method: str, path: str) -> str:
    """Returns the operation's name (x-acs-action) for a path that ends in one of section 4."""
    kind, _slash, identifier = path.rpartition(ROOT)[2].strip("/").partition("/")
    return ACTIONS[method, kind, bool(identifier)]


class ModelRouter(Provider):
    """Alibaba Cloud AIContent ModelRouter: one AccessKey, conversations with a set of models each."""

    key = "modelrouter"
    name = "Alibaba ModelRouter"
    default_base_url = "https://aicontent.aliyuncs.com"
    base_url_help = _("The endpoint of your region, for example https://aicontent.cn-hangzhou.aliyuncs.com.")
    allowed_hosts: ClassVar[tuple[str, ...]] = ("aliyuncs.com",)
    connect_help = _(
        "In the RAM console of Alibaba Cloud create a RAM user with an AccessKey and a policy that allows, on all resources (*), the actions "
        "aicontent:ModelRouterQueryConversationList, aicontent:ModelRouterQueryConversation, aicontent:ModelRouterUpdateConversation and "
        "aicontent:ModelRouterQueryModelList. Never enter the AccessKey of the root user. Do not add two keys of one Alibaba Cloud account: "
        "they probably show the same conversations."
    )
    credential_fields = (
        Field("access_key_id", _("AccessKey ID"), required=True, max_length=128, placeholder="LTAI…"),
        Field("access_key_secret", _("AccessKey secret"), secret=True, required=True, max_length=256),
        Field(
            "security_token",
            _("Security token (STS)"),
            secret=True,
            max_length=8192,
            help=_("Only with temporary credentials; these end after some hours and then have to be replaced."),
        ),
    )
    capabilities = {
        Op.CHECK: Capability(),
        Op.LIST: Capability(),
        Op.SEARCH: Capability(note=_("Which fields the service searches is not documented; it may find more than titles.")),
        Op.READ: Capability(),
        Op.MESSAGES: Capability(note=_("The service sends the whole history at once; it is cut into pages here.")),
        Op.FIRST_MESSAGE: Capability(),
        Op.MODELS: Capability(),
        Op.SWITCH_MODEL: Capability(note=_("Replaces the first model of the conversation; its other models stay.")),
        Op.RENAME: Capability(),
        Op.EDIT_CONFIG: missing(
            _("ModelRouter stores no settings besides title and models; temperature and the like live inside the conversation's history text.")
        ),
        Op.GENERATE_TITLE: missing(_("ModelRouter makes a title only when a conversation is created; set one from its first message instead.")),
    }
    traces = Traces(  # 2 and 7: a request carries a signature, never the secret that made it
        hosts=("aliyuncs.com",),
        paths=("/api/v1/modelRouter/",),
        headers=("x-acs-action",),
        takes=(
            Take("access_key_id", header="authorization", pattern=r"ACS3-HMAC-SHA256\s+Credential=([\w.-]+),.*"),
            Take("security_token", header="x-acs-security-token"),
            Take("access_key_id", pattern=r"(LTAI[\w-]{8,60})"),
        ),
        advice=_("A request is only signed with the AccessKey secret, which it does not contain: enter it by hand."),
    )
    title_field = Field(TITLE, _("Title"), required=True, max_length=255)
    pace = Pace(rate=5.0, burst=1, concurrency=4, cool_down=2.0)

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.identity = self.fallback_identity()  # limits: one budget per endpoint and key, however many accounts hold it
        self._held = Recent[RemoteConversation](HELD_SECONDS, most=1)  # a single one: each brings its history
        self._catalogue = Recent[frozenset[str]](60.0)
        self._listing = asyncio.Lock()

    # --- credential, signature, limits (sections 1, 2, 6, 7) -----------------------------------------------------------------------

    @classmethod
    def check_credentials(cls, given: Mapping[str, str]) -> dict[str, str]:
        """Section 1: what goes into headers must be plain characters; a temporary key (STS.…) is useless without its token."""
        wrong = super().check_credentials(given)
        key_id, token = (given.get(name, "").strip() for name in ("access_key_id", "security_token"))
        for name, value, form in (("access_key_id", key_id, r"[!-+\--~]*"), ("security_token", token, r"[!-~]*")):
            if not re.fullmatch(form, value):
                wrong[name] = _("This holds characters that such a value never has; copy it again.")
        if key_id.startswith("STS.") and not token:
            wrong["security_token"] = _("A temporary AccessKey (STS.…) works only together with its security token.")
        return wrong

    def fallback_identity(self) -> str:
        """Section 6, rates: endpoint and AccessKey ID; the service never tells which Alibaba Cloud account a key belongs to."""
        return f"{self.key}:{self.base_url}:{self.secret('access_key_id')}"

    async def headers(self, method: str, url: httpx.URL, content: bytes) -> dict[str, str]:
        """Sections 2 and 7: a new nonce and date for every attempt, and the signature over them."""
        key = acs3.Key(self.secret("access_key_id"), self.secret("access_key_secret"), self.secret("security_token"))
        skew = float(self.memory.get("clock_skew", 0))
        return acs3.signed_headers(key, method, url, content, action=action_of(method, url.path), version=VERSION, clock_skew=skew)

    async def recover(self, error: ProviderError, response: httpx.Response) -> bool:
        """Section 6: a clock that is too far off is corrected once by the answer's Date header."""
        if (skew := acs3.clock_skew(response)) is None:
            return False
        self.memory["clock_skew"] = skew
        return True

    # --- answers (sections 3 and 6) ------------------------------------------------------------------------------------------------

    def decode(self, response: httpx.Response, *, write: bool) -> dict[str, Json]:
        """Sections 3 and 6: returns the envelope of a success, judged by its body first and by the status second."""
        body, status = json_object(response), response.status_code
        if not body:
            if status == 404:  # a key or an action would have said so in JSON
                raise MalformedAnswer(_("There is no ModelRouter at this address; check the endpoint."), status=status)
            self.raise_for_http(response, write=write)
            self.parse_json(response, write=write)
            raise self.senseless(status, _CUT if write else _STRANGE, write=write)
        success = body.get("success")
        if success in (True, "true") or (success is None and 200 <= status < 300 and body.get("data") is not None):
            return body
        raise self._failure(response, write=write)

    def _failure(self, response: httpx.Response, *, write: bool) -> ProviderError:
        """Section 6: the code decides, then the words, then the status that the service states, then the one of HTTP."""
        said, status = acs3.Complaint.of(response), response.status_code
        detail = self.without_secrets(said.told())
        if known := acs3.failure(said.code, response, write=write, detail=detail, table=_CODES):
            return known
        if "/conversations/" in response.request.url.path and _is_gone(said):
            return NotFound(_("ModelRouter does not know this conversation."), status=status, detail=detail)
        if write and (said.stated >= 500 or said.code.upper() == "UNKNOWN_ERROR"):  # the service does not know itself what became of it
            return self.out_of_order(status, write=True, detail=detail)
        self.raise_for_http(response, write=write, detail=detail)
        if not said.code and not said.own:
            return self.senseless(status, _CUT if write else _STRANGE, write=write)
        kind, sentence = (PermissionRefused, _NO_PERMISSION) if said.stated == 403 else (RequestRejected, _("The provider refused the request."))
        return kind(sentence, status=status, detail=detail)

    # --- reading -------------------------------------------------------------------------------------------------------------------

    async def check(self) -> Identity:
        """Section 1: a list of one row proves key, secret, clock and permission; the service tells no user, so the key stands for one."""
        await self._get("/conversations", {"pageIndex": "1", "pageSize": "1", "needTotalCount": "true"})
        return Identity(key_id := self.secret("access_key_id"), name="…" + key_id[-4:])

    async def list_conversations(self, cursor: str | None = None, *, known: Container[str] = ()) -> Page[RemoteConversation]:
        """Sections 4.1 and 5 Paging: every conversation exactly once, also while rows move; see parts.passes."""
        return await self._page(cursor, {})

    async def search(self, text: str, cursor: str | None = None) -> Page[RemoteConversation]:
        """Section 4.1, `keyword`; which fields it searches is not said."""
        return await self._page(cursor, {"keyword": text})

    async def _page(self, cursor: str | None, more: Mapping[str, str]) -> Page[RemoteConversation]:
        walk = Passes.resume(cursor)
        rows = walk.take(await self._get("/conversations", {**walk.params(PAGE_SIZE), **more}))
        return Page(tuple(self._conversation(row, in_list=True) for row in rows), next=walk.pause(), total=walk.total, note=walk.note)

    async def read(self, ref: Ref, *, fresh: bool = False) -> RemoteConversation:
        """Section 4.2."""
        if not fresh and (held := self._held.get(ref.remote_id)):
            return held
        data = (await self._get(_path(ref.remote_id), {})).get("data")
        if data in (None, [], {}):  # a success without an object: nothing is there
            raise NotFound(_("ModelRouter does not know this conversation."))
        if not isinstance(data, dict) or numeral(data.get("id")) != ref.remote_id:
            raise MalformedAnswer(_("The answer does not hold the conversation that was asked for."))
        return self._held.put(ref.remote_id, self._conversation(data))

    async def messages(self, ref: Ref, cursor: str | None = None, *, limit: int = 50) -> MessagePage:
        """Section 5 Messages: the whole of chatData, cut locally."""
        history = read_history((await self.read(ref)).raw.get("chatData"))
        return replace(slice_messages(tuple(history.messages()), cursor, limit), note=history.note or (SEVERAL if len(history.parts) > 1 else ""))

    async def first_message(self, ref: Ref) -> str | None:
        """Section 5 Messages: the first message of the user in the first history."""
        return (await self.read(ref)).first_message

    async def list_models(self) -> Sequence[RemoteModel]:
        """Section 4.6; only what a conversation may be switched to (section 5): enabled, and for chat where a type is set."""
        walk, models = Passes(), list[RemoteModel]()
        for _count in range(MODEL_PAGES):
            for row in walk.take(await self._get("/models", walk.params(MODEL_PAGE_SIZE))):
                if whole(row.get("deleteTag")) in (None, 0) and text(row.get("modelType")).lower() in ("", "chat"):
                    identifier, code = numeral(row.get("id")), text(row.get("modelCode"))
                    models.append(RemoteModel(identifier, text(row.get("name")) or code or identifier, group=text(row.get("symbol")), note=code))
            if walk.over:
                break
        self._catalogue.put("", frozenset(model.id for model in models))
        return models

    async def _get(self, path: str, params: Mapping[str, str]) -> dict[str, Json]:
        return await self.request("GET", ROOT + path, params=dict(sorted(params.items())))

    def _conversation(self, data: Mapping[str, Json], *, in_list: bool = False, thin: bool = False) -> RemoteConversation:
        """Section 3, ConversationDTO. Whether a list's history is complete is unproven, so it is never kept or written back (gotcha 17)."""
        history, stored, models = read_history(data.get("chatData")), whole(data.get("messageCount")), self.models_in(data.get("modelIds"))
        count = (history.count or stored) if in_list else stored if history.note else history.count
        details = {} if in_list else {shown(name): shown(value) for name, value in islice(history.settings.items(), MAX_DETAILS)}
        if not in_list and stored not in (None, count):
            details[_("Message count as stored")] = str(stored)
        for label, name in ((_("Created (time zone unknown)"), "gmtCreate"), (_("Changed (time zone unknown)"), "gmtModified")):
            if text(data.get(name)) and moment(data[name]) is None:  # gotcha 20
                details[label] = text(data[name])
        return RemoteConversation(
            remote_id=numeral(data.get("id")),
            title=text(data.get("title")),
            model=models[0] if models else None,
            more_models=models[1:],
            values={TITLE: data.get("title"), MODEL: data.get("modelIds")},
            created_at=moment(data.get("gmtCreate")),
            updated_at=moment(data.get("gmtModified")),
            message_count=count,
            first_message=history.first_user_text(),
            details=details,
            warning=_("This conversation uses several models; a switch replaces the first one and keeps the others.") if len(models) > 1 else "",
            disabled=whole(data.get("deleteTag")) not in (None, 0),
            thin=thin or in_list,
            raw={name: value for name, value in data.items() if name != "chatData" or not in_list},
        )

    # --- meanings (section 5, Switching the model) ---------------------------------------------------------------------------------

    @classmethod
    def models_in(cls, value: Json) -> tuple[str, ...]:
        """Section 5: the ids of the array in their order, which may matter to a comparison view."""
        return tuple(dict.fromkeys(map(str, id_sets.ids_in(value))))

    @classmethod
    def model_value(cls, current: Json, chosen: str) -> Json:
        """Section 5: the first id is replaced in place, the others stay; numbers only, as JSON array text."""
        if not numeral(chosen):
            raise RequestRejected(_("A model of ModelRouter is named by its number."), detail=str(chosen))
        return id_sets.with_first(current, int(chosen))

    @classmethod
    def same_value(cls, field: str, one: Json, other: Json) -> bool:
        """Section 3: array text and a real array are the same models, and so are null and an empty field."""
        return id_sets.ids_in(one) == id_sets.ids_in(other) if field == MODEL else (one or "") == (other or "")

    @classmethod
    def cannot_store(cls, field: str, value: Json) -> str:
        """Gotcha 3: what is null or empty cannot be made so again."""
        empty = not (cls.models_in(value) if field == MODEL else value)
        return _("ModelRouter has no way to empty a title or a set of models again.") if empty else super().cannot_store(field, value)

    @classmethod
    def vanished(cls, before: RemoteConversation, after: RemoteConversation, changes: Mapping[str, Json]) -> tuple[str, ...]:
        """Gotcha 1: also tells when the history or the message count went away; an object that tells no history proves nothing."""
        lost = super().vanished(before, after, changes)
        if before.thin or after.thin:
            return lost
        nothing, names = (*EMPTY, 0), ("chatData", "messageCount")
        return lost + tuple(name for name in names if before.raw.get(name) not in nothing and after.raw.get(name) in nothing)

    # --- writing (section 4.4) -----------------------------------------------------------------------------------------------------

    async def write(self, current: RemoteConversation, changes: Mapping[str, Json]) -> RemoteConversation | None:
        """Section 4.4 and gotchas 1 and 2: sends only what changes, or all four fields at an account known to empty what is not named."""
        self.allow_only(changes, TITLE, MODEL)
        if MODEL in changes:
            await self._check_models(set(self.models_in(changes[MODEL])) - set(self.models_in(current.values.get(MODEL))))
        if not self.memory.get("whole_write"):
            return await self._put(current.remote_id, _fields(changes))
        if current.thin or time.monotonic() - current.read_at > HELD_SECONDS:
            current = await self.read(Ref(current.remote_id), fresh=True)
        return await self._put(current.remote_id, _all_fields(current, changes))

    async def repair(self, before: RemoteConversation, changes: Mapping[str, Json]) -> RemoteConversation | None:
        """Gotcha 1: writes back all that `before` held, with `changes`, and remembers that this account needs whole writes."""
        self.memory["whole_write"] = True
        if before.thin:
            raise Unsupported(_("The history was not read before the change, so it cannot be written back."))
        return await self._put(before.remote_id, _all_fields(before, changes))

    async def _put(self, remote_id: str, body: Mapping[str, Json]) -> RemoteConversation | None:
        self._held.forget()
        data = (await self.request("PUT", ROOT + _path(remote_id), body=body, write=True)).get("data")
        # `data` has many types (gotcha 7); only the conversation itself says what is stored.
        told = isinstance(data, dict) and numeral(data.get("id")) == remote_id
        return self._conversation(data, thin="chatData" not in data) if told else None

    async def _check_models(self, new: set[str]) -> None:
        """Section 5: whether the service refuses unknown ids is undocumented, so ids that come in must be in the catalogue."""
        try:
            async with self._listing:  # a dozen writes that begin together ask once
                if new and self._catalogue.get("") is None:
                    await self.list_models()
        except (PermissionRefused, RequestRejected):
            return  # a policy without the catalogue: the service has to judge
        if unknown := new - (self._catalogue.get("") or new):
            raise RequestRejected(_("ModelRouter does not offer this model, or no longer; nothing was sent."), detail=", ".join(sorted(unknown)))


def _path(remote_id: str) -> str:
    if not numeral(remote_id):  # an empty id would turn the path into that of the whole collection (gotcha 5)
        raise NotFound(_("This is not the id of a ModelRouter conversation; nothing was sent."), detail=str(remote_id))
    return f"/conversations/{remote_id}"


def _is_gone(said: acs3.Complaint) -> bool:
    """Section 6: no code for "no such conversation" is documented, so words decide; a missing *model* is another matter."""
    words = re.sub(r"[\s_.\-]", "", said.code + " " + said.words).lower().replace("modelrouter", "")
    absent = said.stated == 404 or any(sign in words for sign in ("notfound", "notexist", "不存在"))
    if any(name in words for name in ("conversation", "会话", "对话")):
        return absent
    return said.own and absent and not any(name in words for name in ("model", "模型"))


def _fields(changes: Mapping[str, Json]) -> dict[str, Json]:
    """Returns the fields of an update that set `changes`; models as JSON array text, whatever form undo restores (gotcha 4)."""
    body: dict[str, Json] = {}
    if MODEL in changes:
        body["modelIds"] = id_sets.as_text(changes[MODEL])
    if TITLE in changes:
        body["title"] = changes[TITLE] or ""
    return body


def _all_fields(current: RemoteConversation, changes: Mapping[str, Json]) -> dict[str, Json]:
    """Returns everything an update can hold, the history byte for byte as it was read; what was null stays unnamed (gotcha 3)."""
    body = _fields({name: value for name, value in current.values.items() if value is not None})
    if (history := current.raw.get("chatData")) is not None:
        count = whole(current.raw.get("messageCount"))
        body["chatData"] = history if isinstance(history, str) else compact(history)
        body["messageCount"] = read_history(history).count if count is None else count
    return body | _fields(changes)
