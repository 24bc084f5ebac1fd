"""Turns rows, readings and outcomes into what templates show; decides nothing and writes nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.core.signing import BadSignature, Signer
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.http import urlencode
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django_htmx.http import trigger_client_event

from accounts.access import READ_ONLY, Rights
from accounts.explain import explain, said
from accounts.models import Account, CatalogueModel
from accounts.presenters import provider_mark
from accounts.providers.base import Provider
from accounts.providers.schema import Op

from . import listing, markdown, reading
from .edits import Outcome, Values
from .forms import FilterForm, SettingsForm, as_list
from .models import Conversation
from .querysets import ConversationQuerySet
from .states import REASONS, ItemStatus

_signer = Signer(salt="conversations.seen")
NEWS = timedelta(days=2)  # how long a row says that it was changed at the provider
PLACES = ("list", "reader", "pane")
_NOT_FILTER = ("after", "before", "open", "cursor", "direction", "place", "at", "previous", "following")


# --- addresses and events -----------------------------------------------------------------------------------------------------------


def query_of(request: HttpRequest, **values: str) -> str:
    """Returns the filter and order of a request as a query text with "?", "" when there is none; `values` are set on top."""
    given = request.GET.copy()
    for name in (*_NOT_FILTER, *[name for name, found in given.lists() if not any(found)]):
        given.pop(name, None)
    for name, value in values.items():
        given[name] = value
    return "?" + given.urlencode() if given else ""


def place_of(request: HttpRequest) -> str:
    """Returns where a conversation is shown that a request is about: as a row of the list, in the reader, or beside it."""
    place = request.POST.get("place") or request.GET.get("place")
    return place if place in PLACES else "reader"


def changed(response: HttpResponse, row: Conversation, *, but: str = "") -> HttpResponse:
    """Lets every place of the page that shows this conversation ask for it anew, except one that the answer already holds.

    The general event `conversation-changed` names the conversation, for regions that count or list.
    """
    trigger_client_event(response, "conversation-changed", {"id": row.pk})
    for place in PLACES:
        if place != but:
            trigger_client_event(response, f"conversation-{row.pk}-{place}", {})
    return response


# --- one row ------------------------------------------------------------------------------------------------------------------------


class ModelNames:
    """The names of the models that some conversations are on, by account and id, read once per page."""

    def __init__(self, rows: list[Conversation]) -> None:
        used = {row.model for row in rows if row.model}
        found = CatalogueModel.objects.filter(account_id__in={row.account_id for row in rows}, model_id__in=used)
        self._names = {(entry.account_id, entry.model_id): entry for entry in found.only("account_id", "model_id", "name", "gone_at")}

    def show(self, row: Conversation) -> dict[str, Any]:
        """Returns how a row's model is shown: name, id, whether it is no longer offered, and how many more there are."""
        entry = self._names.get((row.account_id, row.model or ""))
        if entry is None:  # a model that a catalogue never had: only where it could be chosen from that catalogue
            gone = bool(row.model) and row.account.models_at is not None and row.account.provider.capability(Op.SWITCH_MODEL).available
        else:
            gone = entry.gone_at is not None
        return {"id": row.model, "name": entry.name if entry else row.model or "", "gone": gone, "more": len(row.more_models)}


def _can(row: Conversation, op: Op, rights: Rights) -> tuple[bool, str]:
    """Returns whether a reader can try an operation on a conversation, and if not, the sentence that says why."""
    capability = row.account.provider.capability(op)
    if not rights.may_edit(row.account_id):
        return False, str(READ_ONLY)
    if row.gone_at is not None:
        return False, _("It is deleted at the provider.")
    return capability.available, "" if capability.available else said(capability.reason)


def show_row(row: Conversation, names: ModelNames, rights: Rights, query: str = "") -> dict[str, Any]:
    """Returns what the list, the pane and the reader's head show of a conversation to somebody with these rights."""
    provider = row.account.provider
    can_switch, switch_reason = _can(row, Op.SWITCH_MODEL, rights)
    can_rename, rename_reason = _can(row, Op.RENAME, rights)
    told = row.updated_at is not None
    return {
        "row": row,
        "may_edit": rights.may_edit(row.account_id),
        "mark": provider_mark(row.account),
        "model": names.show(row),
        "can_switch": can_switch,
        "switch_reason": switch_reason,
        "can_rename": can_rename,
        "rename_reason": rename_reason,
        "rename_note": said(provider.capability(Op.RENAME).note),
        "can_generate": _can(row, Op.GENERATE_TITLE, rights)[0],
        "generate_note": said(provider.capability(Op.GENERATE_TITLE).note),
        "title_limit": provider.title_field.max_length,
        "group": said(row.group),
        "hint": Truncator(" ".join((row.first_message or "").split())).chars(160) if row.untitled else "",
        "time_note": "" if told else _("not told by %(provider)s") % {"provider": provider.name},
        "time_why": "" if told else said(provider.time_note),
        "warning": said(row.warning),
        "is_news": row.changed_upstream_at is not None and row.changed_upstream_at > timezone.now() - NEWS,
        "seen": pack_seen(row),
        "query": query,
        "and_query": query.replace("?", "&", 1),
    }


def pack_seen(row: Conversation) -> str:
    """Returns title and model as a page shows them, signed, so that an edit can say what its author saw."""
    return _signer.sign(json.dumps([row.pk, row.title, row.model_value], ensure_ascii=False))


def unpack_seen(packed: str, target: Values, row: Conversation) -> Values | None:
    """Returns the seen values of `target`'s names, None when the page sent none that can be trusted."""
    try:
        pk, title, model_value = json.loads(_signer.unsign(packed))
    except (BadSignature, ValueError):
        return None
    seen = {"title": title, "model": model_value}
    return {name: seen[name] for name in target} if pk == row.pk and set(target) <= set(seen) else None


# --- the list -----------------------------------------------------------------------------------------------------------------------


def counted(count: int, exact: bool) -> str:
    """Returns a number of conversations in words; a count that was stopped is "at least"."""
    number = number_format(count, force_grouping=True)
    if not exact:
        return _("at least %(number)s conversations") % {"number": number}
    return ngettext("%(number)s conversation", "%(number)s conversations", count) % {"number": number}


def list_context(request: HttpRequest, form: FilterForm, page: listing.ListPage, visible: ConversationQuerySet) -> dict[str, Any]:
    """Returns the context of the list page and of its fragment."""
    rows = form.narrow(visible)
    count, exact = rows.capped_count(listing.COUNT_CAP)
    names, query, rights = ModelNames(page.rows), query_of(request), Rights(request.user)
    selectable, counted_all = rows.editable_by(request.user).capped_count(listing.COUNT_CAP) if rights.only_seen else (count, exact)
    return {
        "form": form,
        "may_edit": bool(rights.editable),
        "days": [form["updated_after"], form["updated_before"]],
        "rows": [show_row(row, names, rights, query) for row in page.rows],
        "count": count,
        "count_words": counted(count, exact),
        "select_total": selectable if counted_all and form.is_valid() else "",
        "select_query": form.query,
        "query": query,
        "newer_url": request.path + query_of(request, before=page.newer) if page.newer else "",
        "older_url": request.path + query_of(request, after=page.older) if page.older else "",
        "chips": filter_chips(request, form),
        "errors": [(form.fields[name].label, " ".join(map(str, messages))) for name, messages in form.errors.items() if name in form.fields],
        "sorts": _sort_links(request, form),
        "left_out": form.left_out_without_time(visible),
        "hiding": [] if count else _hiding(request, form, visible),
    }


def _sort_links(request: HttpRequest, form: FilterForm) -> dict[str, dict[str, str]]:
    """Returns for each sortable column where a click leads, and which way it runs now ("" when the order is another one)."""
    links = {}
    for column, natural in {"title": "title", "messages": "-messages", "updated": "-updated"}.items():
        turned = natural.removeprefix("-") if natural.startswith("-") else f"-{natural}"
        now = form.sort_name if form.sort_name in (natural, turned) else ""
        following = turned if now == natural else natural
        links[column] = {"url": request.path + query_of(request, sort=following), "now": "" if not now else "down" if now.startswith("-") else "up"}
    return links


def filter_chips(request: HttpRequest, form: FilterForm, *, path: str = "") -> list[dict[str, str]]:
    """Returns one chip for each filter value in use, with the address that takes it away."""
    chips: list[dict[str, str]] = []
    for name, value in form.active.items():
        values = as_list(value)
        choices = dict(getattr(form.fields[name], "choices", ())) if name == "provider" else {}
        for one in values:
            raw = str(one.pk) if isinstance(one, Account) else str(one)
            given = request.GET.copy()
            given.setlist(name, [found for found in given.getlist(name) if len(values) > 1 and found != raw])
            for other in _NOT_FILTER:
                given.pop(other, None)
            shown = "" if one is True else str(choices.get(one, one))
            chips.append({"label": str(form.fields[name].label), "value": shown, "url": f"{path or request.path}?{given.urlencode()}"})
    return chips


def _hiding(request: HttpRequest, form: FilterForm, visible: ConversationQuerySet) -> list[dict[str, Any]]:
    """Returns, when nothing matches, which part of the filter alone hides everything: how many there were without it, and the way there."""
    found = []
    for name, value in form.active.items():
        count, exact = form.narrow(visible, without=name).capped_count(listing.COUNT_CAP)
        if not count:
            continue
        given = request.GET.copy()
        for other in (name, *_NOT_FILTER):
            given.pop(other, None)
        shown = "" if value is True else ", ".join(map(str, as_list(value)))
        label = str(form.fields[name].label) + (f": {Truncator(shown).chars(40)}" if shown else "")
        found.append({"label": label, "count_words": counted(count, exact), "url": f"{request.path}?{given.urlencode()}"})
    return found


def models_in_use(visible: ConversationQuerySet, chosen: list[str]) -> list[dict[str, Any]]:
    """Returns the models that conversations are on with how many there are, for the filter; those already chosen are marked."""
    rows = visible.present().exclude(model__isnull=True).exclude(model="").order_by().values_list("model").annotate(count=Count("pk"))
    counts = dict(rows.order_by("model"))
    named = CatalogueModel.objects.filter(model_id__in=counts, account__in=visible.order_by().values("account"))
    names = dict(named.values_list("model_id", "name"))
    return [{"id": model, "name": names.get(model, model), "count": count, "chosen": model in chosen} for model, count in counts.items()]


# --- the reader ---------------------------------------------------------------------------------------------------------------------


def pane_page_context(request: HttpRequest, page: listing.ListPage, current: Conversation | None = None) -> dict[str, Any]:
    """Returns the context of some rows of the list beside the reader."""
    names, query, pane, rights = ModelNames(page.rows), query_of(request), reverse("conversation_pane"), Rights(request.user)
    return {
        "pane_rows": [show_row(row, names, rights, query) for row in page.rows],
        "query": query,
        "current": current.pk if current else None,
        "pane_newer": pane + query_of(request, before=page.newer) if page.newer else "",
        "pane_older": pane + query_of(request, after=page.older) if page.older else "",
    }


def pane_context(request: HttpRequest, row: Conversation, form: FilterForm, rows: ConversationQuerySet) -> dict[str, Any]:
    """Returns the list beside the reader, opened where the conversation stands."""
    count, exact = rows.capped_count(listing.COUNT_CAP)
    path = reverse("conversation_detail", args=[row.pk])
    kept = [(name, value) for name, values in request.GET.lists() if name not in ("q", *_NOT_FILTER) for value in values if value]
    return {
        **pane_page_context(request, listing.around(rows, form.sort_name, row), row),
        "form": form,
        "kept": kept,
        "count_words": counted(count, exact),
        "chips": filter_chips(request, form, path=path),
        "list_url": reverse("conversation_list") + query_of(request),
    }


def head_context(
    request: HttpRequest, row: Conversation, *, verified: bool = False, neighbours: tuple[int | None, int | None] = (None, None)
) -> dict[str, Any]:
    """Returns what a row, the head of the reader and the small forms show of one conversation; `verified` after a write that was checked."""
    provider = row.account.provider
    return {
        "item": {**show_row(row, ModelNames([row]), Rights(request.user), query_of(request)), "verified": verified},
        "provider": provider,
        "configure_note": said(provider.capability(Op.EDIT_CONFIG).note),
        "details": [(said(label), said(value)) for label, value in row.details.items()],
        **_neighbours(request, *neighbours),
    }


def _neighbours(request: HttpRequest, previous: int | None = None, following: int | None = None) -> dict[str, Any]:
    """Returns where "previous" and "next" lead.

    Parts of the reader that are rendered again say which neighbours they had: an edit may take a conversation out of the filter, and the
    way on through the list must not end there.
    """
    given = request.POST if request.method == "POST" else request.GET
    ids = [previous, following]
    for number, name in enumerate(("previous", "following")):
        if ids[number] is None and (told := given.get(name, "")[:18]).isdecimal():
            ids[number] = int(told)
    urls = [reverse("conversation_detail", args=[pk]) + query_of(request) if pk else "" for pk in ids]
    kept = {"place": "reader", **{name: str(pk) for name, pk in zip(("previous", "following"), ids, strict=True) if pk}}
    return {"previous_url": urls[0], "next_url": urls[1], "list_url": reverse("conversation_list") + query_of(request), "vals": json.dumps(kept)}


def reader_context(request: HttpRequest, row: Conversation, form: FilterForm, rows: ConversationQuerySet) -> dict[str, Any]:
    """Returns the context of one conversation with its neighbours in the filter; its messages load by themselves."""
    return {
        **head_context(request, row, neighbours=listing.neighbours(rows, form.sort_name, row)),
        "pane_url": reverse("conversation_pane") + query_of(request, open=str(row.pk)),
        "keys_extra": [
            {"key": "n", "text": _("Next conversation")},
            {"key": "p", "text": _("Previous conversation")},
            {"key": "s", "text": _("Settings")},
            {"key": "r", "text": _("Read again")},
        ],
    }


def picker_context(request: HttpRequest, row: Conversation) -> dict[str, Any]:
    """Returns the models that a conversation can be switched to, the current one marked; gone ones are not offered."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for number, model in enumerate(row.account.catalogue.filter(gone_at__isnull=True), 1):
        option = {
            "model": model,
            "number": number,
            "vals": json.dumps({"model": model.model_id}),
            "text": f"{model.name} {model.model_id} {model.group}",
            "is_current": model.model_id == row.model,
            "is_used": model.model_id in row.more_models,
        }
        groups.setdefault(model.group, []).append(option)
    return {
        "item": show_row(row, ModelNames([row]), Rights(request.user), query_of(request)),
        "groups": list(groups.items()),
        "note": said(row.account.provider.capability(Op.SWITCH_MODEL).note),
        "vals": json.dumps({"seen": pack_seen(row)}),
        "models_at": row.account.models_at,
    }


def messages_context(request: HttpRequest, row: Conversation, found: reading.Reading) -> dict[str, Any]:
    """Returns one page of messages with their text rendered safely, and the way to older and newer ones."""
    url = reverse("conversation_messages", args=[row.pk])
    page, way = found.page, request.GET.get("direction", "")
    taken: set[str] = set()
    used = {message.model for message in page.items if message.model and message.model.isprintable()}  # the rest no database takes
    names = dict(row.account.catalogue.filter(model_id__in=used).values_list("model_id", "name"))
    return {
        "row": row,
        "messages_shown": [
            {**_message(row, message, found.target, taken), "model": names.get(message.model or "", message.model)} for message in page.items
        ],
        "direction": way,
        "older_url": f"{url}?{urlencode({'cursor': page.older, 'direction': 'older'})}" if page.older and way != "newer" else "",
        "newer_url": f"{url}?{urlencode({'cursor': page.newer, 'direction': 'newer'})}" if page.newer and way != "older" else "",
        "newest_url": url,
        "is_whole": not page.older and not page.newer and not way,
        "note": said(page.note),
        "missed": found.missed,
    }


def _message(row: Conversation, message: Any, target: str, taken: set[str]) -> dict[str, Any]:
    anchor = str(message.position) if message.position and str(message.position) not in taken else reading.anchor_of(message)
    taken.add(anchor)
    unique = f"{row.pk}-{anchor}"
    roles = {"user": _("User"), "assistant": _("Assistant"), "system": _("System"), "tool": _("Tool")}
    return {
        "message": message,
        "anchor": anchor,
        "role": roles.get(message.role, message.role),
        "css": message.role if message.role in roles else "system",
        "html": markdown.render(message.text, anchor=unique) if message.text else "",
        "reasoning": markdown.render(message.reasoning, anchor=f"{unique}-r") if message.reasoning else "",
        "images": [{"url": image, "host": markdown.host_of(image), "number": number} for number, image in enumerate(message.images, 1)],
        "is_target": bool(target) and reading.names(message, target),
    }


# --- outcomes and errors ------------------------------------------------------------------------------------------------------------


def outcome_message(row: Conversation, outcome: Outcome, seen: Values | None = None) -> tuple[str, str]:
    """Returns the sentence that says how an edit ended, and its level; `seen` is what the person saw before."""
    if outcome.status == ItemStatus.APPLIED:
        return _applied(row, outcome), "success" if outcome.reason != "altered_by_provider" else "warning"
    if outcome.status == ItemStatus.UNCHANGED:
        return _("It already has this value; nothing was written."), "info"
    if outcome.status == ItemStatus.CONFLICT:
        return _conflict(row, outcome, seen), "warning"
    if outcome.status == ItemStatus.NOT_APPLIED and outcome.reason == "outcome_unknown":
        return _("The answer was lost; a second look showed the old value. The change did not arrive."), "warning"
    if outcome.status == ItemStatus.NOT_APPLIED:
        return _("The provider accepted the change but still shows the old value."), "warning"
    if outcome.reason == "outcome_unknown":
        return _("Unknown: the change was sent, no answer came, and a second look was not possible. Read it again before you repeat it."), "danger"
    if outcome.error is not None:
        explained = explain(outcome.error)
        return " · ".join(filter(None, [explained["sentence"], explained["detail"]])), "danger"
    return str(REASONS.get(outcome.reason) or REASONS["provider_error"]), "warning" if outcome.reason in ("busy", "no_first_message") else "danger"


def _applied(row: Conversation, outcome: Outcome) -> str:
    before, after = outcome.before or {}, outcome.after or {}
    change = f"{shown(row, before)} → {shown(row, after)}" if len(after) == 1 and before else ""
    if outcome.reason == "altered_by_provider":
        return _("The provider stored it in its own form: “%(after)s”.") % {"after": shown(row, after)}
    if outcome.reason == "checked_after_no_answer":
        return " · ".join(filter(None, [change, _("The answer was lost; a second look showed that the change is there.")]))
    return f"{change} ✓" if change else _("Saved and verified at the provider.")


def _conflict(row: Conversation, outcome: Outcome, seen: Values | None) -> str:
    now = shown(row, outcome.after or {})
    if outcome.reason == "changed_by_write":
        return _("The provider stored a third value: “%(now)s”.") % {"now": now}
    was = shown(row, seen if seen is not None else outcome.before or {})
    if len(outcome.after or {}) == 1 and was:
        return _("Changed at the provider meanwhile: “%(was)s” → “%(now)s”. Nothing was written.") % {"was": was, "now": now}
    return _("It was changed at the provider meanwhile. Nothing was written; what is shown now is the new value.")


def shown(row: Conversation, values: Values, limit: int = 60) -> str:
    """Returns stored values for people: models by their names, texts cut."""
    parts = []
    for name, value in values.items():
        if name == "model":
            ids = row.account.provider.models_in(value)
            names = dict(row.account.catalogue.filter(model_id__in=ids).values_list("model_id", "name"))
            parts.append(", ".join(names.get(model, model) for model in ids) or "–")
        elif isinstance(value, bool):
            parts.append(_("Yes") if value else _("No"))
        else:
            text = "–" if value in (None, "") else str(value)
            parts.append(Truncator(text).chars(limit))
    return ", ".join(parts)


def conflicts(row: Conversation, form: SettingsForm, outcome: Outcome) -> list[dict[str, str]]:
    """Returns the values of a form that are not what its author saw: name, what was shown, what is stored now, what was typed."""
    provider: type[Provider] = row.account.provider
    rows = []
    for name, now in (outcome.after or {}).items():
        was = form.seen.get(name) if outcome.reason == "changed_since_preview" else (outcome.before or {}).get(name)
        if provider.same_value(name, was, now) or provider.same_value(name, now, form.changes.get(name)):
            continue
        wanted = {name: form.changes.get(name)}
        label = str(form.fields[name].label)
        rows.append({"label": label, "was": shown(row, {name: was}, 200), "now": shown(row, {name: now}, 200), "typed": shown(row, wanted, 200)})
    return rows
