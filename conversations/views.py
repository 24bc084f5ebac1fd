"""The pages of conversations: the list, one conversation beside it, and single edits."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import trigger_client_event

from accounts.access import Rights, find
from accounts.explain import explain, said
from accounts.models import Account
from accounts.providers.errors import NotFound, ProviderError
from accounts.providers.schema import Op
from config.htmx import hx_toast, render_page_or_fragment, wants_fragment

from . import audit, edits, freshness, listing, mirror, presenters, reading
from .forms import FilterForm, SettingsForm, pack_shown
from .models import AuditEntry, Conversation
from .states import ItemStatus


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The first page is the list."""
    return redirect("conversation_list")


def _filter(request: HttpRequest) -> FilterForm:
    return FilterForm(request.user, request.GET)


def _page(request: HttpRequest, form: FilterForm) -> listing.ListPage:
    rows = form.narrow(Conversation.objects.visible_to(request.user))
    return listing.page(rows, form.sort_name, after=request.GET.get("after", ""), before=request.GET.get("before", ""))


def _find(request: HttpRequest, pk: int) -> Conversation:
    return get_object_or_404(Conversation.objects.visible_to(request.user).select_related("account"), pk=pk)


def _editable(request: HttpRequest, pk: int) -> Conversation:
    return find(Conversation.objects.editable_by(request.user).select_related("account"), Conversation.objects.visible_to(request.user), pk=pk)


# --- the list -----------------------------------------------------------------------------------------------------------------------


@require_GET
def conversation_list(request: HttpRequest) -> HttpResponse:
    """One list over all accounts; filter, order and place are in the address."""
    form = _filter(request)
    visible = Conversation.objects.visible_to(request.user)
    context = presenters.list_context(request, form, _page(request, form), visible)
    context["freshness"] = freshness.context(request, Account.objects.visible_to(request.user))
    context["nothing"] = None if context["count"] or form.active else freshness.empty_list(context["freshness"]["lines"])
    return render_page_or_fragment(request, "conversations/list.html", "conversations/_list.html", context)


@require_GET
def conversation_freshness(request: HttpRequest) -> HttpResponse:
    """How fresh each account is, asked again and again; the list follows by itself while a first reading fills it."""
    found = freshness.context(request, Account.objects.visible_to(request.user))
    response = render(request, "conversations/_freshness.html", {"freshness": found})
    return trigger_client_event(response, "conversations-arrived", {}) if found["arrived"] else response


@require_GET
def conversation_models(request: HttpRequest) -> HttpResponse:
    """The models that conversations are on, for the filter; read when somebody opens it."""
    models = presenters.models_in_use(Conversation.objects.visible_to(request.user), request.GET.getlist("model"))
    return render(request, "conversations/_filter_models.html", {"models": models})


# --- one conversation ---------------------------------------------------------------------------------------------------------------


@require_GET
def conversation_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One conversation with its newest messages; beside it the filtered list, of which a click swaps only the reader."""
    row = _find(request, pk)
    audit.note_reading(request.user, row)  # type: ignore[arg-type]
    form = _filter(request)
    rows = form.narrow(Conversation.objects.visible_to(request.user))
    context = presenters.reader_context(request, row, form, rows)
    if not wants_fragment(request):
        context |= presenters.pane_context(request, row, form, rows)
    return render_page_or_fragment(request, "conversations/detail.html", "conversations/_reader_swap.html", context)


@require_GET
def conversation_pane(request: HttpRequest) -> HttpResponse:
    """A further page of the list beside the reader; with `open` the whole of it, where that conversation stands."""
    form = _filter(request)
    if request.GET.get("open", "").isdecimal():
        rows = form.narrow(Conversation.objects.visible_to(request.user))
        row = _find(request, int(request.GET["open"][:18]))
        return render(request, "conversations/_pane.html", presenters.pane_context(request, row, form, rows))
    return render(request, "conversations/_pane_rows.html", presenters.pane_page_context(request, _page(request, form)))


@require_GET
def conversation_messages(request: HttpRequest, pk: int) -> HttpResponse:
    """The messages of one page: the newest ones, those a cursor names, or those around the message that a link names (`at`)."""
    row = _find(request, pk)
    cursor, wanted = request.GET.get("cursor") or None, request.GET.get("at", "")[:80]
    try:
        found = reading.open_messages(row, cursor=cursor, wanted=wanted)
    except NotFound:
        response = render(request, "conversations/_messages_failed.html", {"row": row, "gone": True})
        return presenters.changed(response, row)
    except ProviderError as error:
        failed = {"row": row, "url": request.get_full_path(), "explained": explain(error), "way": request.GET.get("direction", "")}
        return render(request, "conversations/_messages_failed.html", failed)
    audit.note_reading(request.user, row)  # type: ignore[arg-type]
    template = "conversations/_messages_more.html" if request.GET.get("direction") else "conversations/_messages.html"
    response = render(request, template, presenters.messages_context(request, row, found))
    return presenters.changed(response, row) if found.learned else response


@require_GET
def conversation_shown(request: HttpRequest, pk: int) -> HttpResponse:
    """One conversation as our copy holds it, for the place of the page that asks: a row, the pane, or the reader's head."""
    return _shown(request, _find(request, pk))


@require_POST
def conversation_refresh(request: HttpRequest, pk: int) -> HttpResponse:
    """Reads one conversation anew and shows it."""
    row = _editable(request, pk)
    try:
        mirror.refresh(row)
    except ProviderError as error:
        return hx_toast(_changed(request, row), explain(error)["sentence"], "danger")
    return hx_toast(_changed(request, row), _("Read again just now."), "info")


# --- single edits -------------------------------------------------------------------------------------------------------------------


def _shown(request: HttpRequest, row: Conversation, status: int = 200, *, verified: bool = False, **more: Any) -> HttpResponse:
    """Renders a conversation for its place; where it is renamed, `error` and `typed` open the form again."""
    template = {"list": "_row.html", "pane": "_pane_row.html"}.get(presenters.place_of(request), "_head.html")
    context = presenters.head_context(request, row, verified=verified)
    context["item"] |= more
    return render(request, f"conversations/{template}", context, status=status)


def _changed(request: HttpRequest, row: Conversation, *, verified: bool = False) -> HttpResponse:
    return presenters.changed(_shown(request, row, verified=verified), row, but=presenters.place_of(request))


def _told(response: HttpResponse, request: HttpRequest, row: Conversation, outcome: edits.Outcome, seen: Any = None) -> HttpResponse:
    """Says how an edit ended, with Undo where something was written and is known to be there."""
    message, level = presenters.outcome_message(row, outcome, seen)
    undo = None
    if outcome.status == ItemStatus.APPLIED:
        entry = AuditEntry.objects.filter(conversation=row, actor_id=request.user.pk, result=outcome.status.value).first()
        undo = reverse("conversation_undo", args=[row.pk, entry.pk]) if entry and entry.before and entry.after == outcome.after else None
    return hx_toast(response, message, level, undo)


def _refused(request: HttpRequest, row: Conversation, op: Op) -> HttpResponse | None:
    """Returns the answer to an edit that the provider does not offer, None where it does; pages do not ask for these."""
    capability = row.account.provider.capability(op)
    return None if capability.available else hx_toast(_shown(request, row), said(capability.reason), "danger")


def _edit(request: HttpRequest, row: Conversation, target: edits.Values, what: str) -> HttpResponse:
    """Carries out a change of title or model; what the page showed is what its author saw, however old the page is."""
    seen = presenters.unpack_seen(request.POST.get("seen", ""), target, row)
    outcome = edits.edit_now(request.user, row, target, expected=seen, what=what)  # type: ignore[arg-type]
    response = _changed(request, row, verified=outcome.status == ItemStatus.APPLIED)
    return _told(response, request, row, outcome, seen)


@require_http_methods(["GET", "POST"])
def conversation_model(request: HttpRequest, pk: int) -> HttpResponse:
    """The model picker, and the one-click switch."""
    if request.method == "GET":
        return render(request, "conversations/_model_picker.html", presenters.picker_context(request, _editable(request, pk)))
    row = _editable(request, pk)
    try:
        target = edits.check_changes(row, {"model": request.POST.get("model", "").replace("\0", "")})
    except ValidationError as error:
        return hx_toast(_shown(request, row), " ".join(error.messages), "danger")
    return _edit(request, row, target, "switch model")


@require_POST
def conversation_title(request: HttpRequest, pk: int) -> HttpResponse:
    """Renames in place; a title that the provider would refuse comes back with the form and the reason."""
    row = _editable(request, pk)
    typed = request.POST.get("title", "").replace("\0", "")
    if refused := _refused(request, row, Op.RENAME):
        return refused
    try:
        target = edits.check_changes(row, {"title": typed.strip()})
    except ValidationError as error:
        return _shown(request, row, 422, error=" ".join(error.messages), typed=typed)
    return _edit(request, row, target, "rename")


@require_POST
def conversation_generate_title(request: HttpRequest, pk: int) -> HttpResponse:
    """Has the provider make a title of its own: slow, billed, and sent once."""
    row = _editable(request, pk)
    if refused := _refused(request, row, Op.GENERATE_TITLE):
        return refused
    outcome = edits.generate_now(request.user, row)  # type: ignore[arg-type]
    return _told(_changed(request, row, verified=outcome.status == ItemStatus.APPLIED), request, row, outcome)


@require_http_methods(["GET", "POST"])
def conversation_settings(request: HttpRequest, pk: int) -> HttpResponse:
    """The dialog with every setting of this provider, read anew when it opens; only what was changed is sent."""
    if request.method == "GET":
        return _settings_opened(request, _find(request, pk))
    row = _editable(request, pk)
    form = SettingsForm(row, request.POST)
    if not form.is_valid():
        return _settings(request, row, form, status=422)
    if not form.changes:
        return trigger_client_event(hx_toast(HttpResponse(status=204), _("Nothing was changed."), "info"), "dialog-close", {})
    outcome = edits.edit_now(request.user, row, form.changes, expected=form.seen, what="edit settings")  # type: ignore[arg-type]
    if outcome.status in (ItemStatus.APPLIED, ItemStatus.UNCHANGED):
        response = presenters.changed(_told(HttpResponse(status=204), request, row, outcome), row)
        return trigger_client_event(response, "dialog-close", {})
    return presenters.changed(_settings_ended(request, row, form, outcome), row)


def _settings(request: HttpRequest, row: Conversation, form: SettingsForm, *, status: int = 200, **more: Any) -> HttpResponse:
    context = {"form": form, **presenters.head_context(request, row), **more}
    return render(request, "conversations/_settings.html", context, status=status)


def _settings_opened(request: HttpRequest, row: Conversation) -> HttpResponse:
    """Opens the form with what is stored now; where that cannot be read, with our copy, and says so."""
    cause, before = None, (row.values, row.gone_at)
    may_edit = Rights(request.user).may_edit(row.account_id)
    try:
        if row.gone_at is None and may_edit:
            mirror.refresh(row)
    except ProviderError as error:
        cause = explain(error)
    response = _settings(request, row, SettingsForm(row, may_edit=may_edit), cause=cause)
    return response if before == (row.values, row.gone_at) else presenters.changed(response, row)


def _settings_ended(request: HttpRequest, row: Conversation, form: SettingsForm, outcome: edits.Outcome) -> HttpResponse:
    """Keeps what was typed and says what happened; after a conflict the form knows the new values, so that saving again is a decision."""
    message, level = presenters.outcome_message(row, outcome, form.seen)
    found = presenters.conflicts(row, form, outcome) if outcome.status == ItemStatus.CONFLICT else []
    data = request.POST.copy()
    if found:
        data["seen_values"] = pack_shown(row)
    if found and not outcome.wrote:
        message = _("Changed at the provider since you opened this. Nothing was written.")
    again = SettingsForm(row, data)
    again.is_valid()
    return _settings(request, row, again, status=422, failure=message, level=level, conflicts=found, unknown=outcome.reason == "outcome_unknown")


@require_POST
def conversation_undo(request: HttpRequest, pk: int, entry_pk: int) -> HttpResponse:
    """Takes one edit back: aims at the value before it, unless somebody changed it since."""
    row = _editable(request, pk)
    entry = get_object_or_404(AuditEntry, pk=entry_pk, conversation=row, result=ItemStatus.APPLIED.value)
    if not entry.before:
        return hx_toast(HttpResponse(status=204), _("The value before is not known."), "danger")
    outcome = edits.edit_now(request.user, row, entry.before, expected=entry.after, what="undo")  # type: ignore[arg-type]
    message, level = presenters.outcome_message(row, outcome, entry.after)
    return presenters.changed(hx_toast(HttpResponse(status=204), message, level), row)
