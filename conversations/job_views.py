"""The pages of bulk jobs: compose, preview, run, results. Each view fetches through the scoped set and calls one function of jobs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect, HttpResponseClientRefresh, trigger_client_event

from accounts.access import find
from accounts.models import User
from accounts.recent import recently_authenticated
from config.htmx import hx_toast, render_page_or_fragment, safe_next, wants_fragment

from . import access, approval_presenters, approval_views, approvals, audit, canary, jobs, lane_board, lists, reports, ticks, undo, wake
from .config_forms import ConfigureForm
from .job_forms import StartForm, SwitchModelForm, TitleForm, parts_of, selected, selected_again
from .job_list_presenters import list_context
from .live_presenters import live_context
from .models import COUNTERS, NOT_STARTED, Action, Job, Order
from .preview_presenters import chosen_items, preview_context
from .title_examples import title_examples


def _find(request: HttpRequest, pk: int) -> Job:
    return access.cut(get_object_or_404(Job.objects.visible_to(request.user).select_related("actor"), pk=pk), request.user)


def _editable(request: HttpRequest, pk: int, order: str = "") -> Job:
    allowed = Job.objects.pausable_by(request.user) if order == "pause" else Job.objects.editable_by(request.user)
    job = find(allowed.select_related("actor"), Job.objects.visible_to(request.user), pk=pk)
    return access.cut(job, request.user)


def _user(request: HttpRequest) -> User:
    """Who asks; nobody gets here without having signed in."""
    return cast(User, request.user)


def _go(request: HttpRequest, name: str, *arguments: Any) -> HttpResponse:
    address = reverse(name, args=arguments)
    return HttpResponseClientRedirect(address) if wants_fragment(request) else redirect(address)


def _say(request: HttpRequest, text: str, level: int = messages.INFO) -> None:
    messages.add_message(request, level, text)


# --- composing ----------------------------------------------------------------------------------------------------------------------

FORMS: dict[str, Any] = {Action.SWITCH_MODEL: SwitchModelForm, Action.SET_TITLE: TitleForm, Action.CONFIGURE: ConfigureForm}


@require_POST
def job_create(request: HttpRequest) -> HttpResponse:
    """Freezes what was selected in the list and goes on to say what to do with it."""
    try:
        rows, how = selected(request.user, request.POST)
        job = jobs.create(_user(request), request.POST.get("action", ""), rows, selection=how, key=request.POST.get("key", ""))
    except ValidationError as error:
        if wants_fragment(request):
            return hx_toast(HttpResponse(status=204), " ".join(error.messages), "danger")
        _say(request, " ".join(error.messages), messages.ERROR)
        return redirect(safe_next(request))
    return _go(request, "job_compose", job.pk)


@require_http_methods(["GET", "HEAD", "POST"])
def job_compose(request: HttpRequest, pk: int) -> HttpResponse:
    """What to do with a frozen selection: a model for each provider, a way to make titles, or settings."""
    job = _editable(request, pk)
    if job.order == Order.ASK:
        _say(request, _("This job waits for approval; withdraw it to change it."), messages.WARNING)
    elif job.order != Order.DRAFT:
        _say(request, _("This job has been started; make a new one."), messages.WARNING)
    if job.order != Order.DRAFT or job.action == Action.RESTORE:
        return _go(request, "job_detail", job.pk)
    given = request.POST if request.method == "POST" else request.GET
    if "list" in job.params and "action" not in given:
        return _go(request, "job_upload", job.pk)
    action = given.get("action", "")
    action = action if action in FORMS else job.action
    parts = parts_of(job)
    form = FORMS[action](job, parts, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            job.action = action
            jobs.plan(job, form.params)
            return _go(request, "job_detail", job.pk)
        except ValidationError as error:
            form.add_error(None, error)
    examples = _examples(job, form) if isinstance(form, TitleForm) else None
    context = {"job": job, "action": action, "actions": Action.composable(), "form": form, "parts": parts, "examples": examples}
    context |= {"total": job.total, "seen": ticks.seen(job)}
    return render(request, "jobs/compose.html", context, status=422 if form.errors else 200)


def _examples(job: Job, form: TitleForm) -> dict[str, Any]:
    """What the live example shows for what is typed so far: a few titles, or why there are none."""
    params = form.typed_params
    if params is None:
        return {"rows": [], "text": ""}
    try:
        jobs.check_params(Action.SET_TITLE, params)
        rows = title_examples(job, params)
    except ValidationError as error:
        return {"rows": [], "text": " ".join(error.messages)}
    return {"rows": rows, "text": "" if rows else _("None of the first titles contains this.") if "find" in params else ""}


@require_safe
def job_example(request: HttpRequest, pk: int) -> HttpResponse:
    """How the first selected conversations would be titled by what is being typed."""
    job = _editable(request, pk)
    return render(request, "jobs/_examples.html", {"examples": _examples(job, TitleForm(job, [], request.GET))})


# --- the preview and the job ----------------------------------------------------------------------------------------------------------


@require_safe
def job_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """A draft's preview, or the started job; the same address answers what the page polls."""
    job = _find(request, pk)
    if job.order == Order.DRAFT:
        if wants_fragment(request) and "asked" in request.GET:  # it was refused or withdrawn while its page was open
            return HttpResponseClientRefresh()
        return _preview(request, job, StartForm(job=job)) if job.planned_at else _go(request, "job_compose", job.pk)
    if job.order == Order.ASK:
        return approval_views.waiting(request, job)
    if wants_fragment(request) and request.htmx.target == "job-preview":  # type: ignore[attr-defined]  # it has been started elsewhere
        return HttpResponseClientRedirect(reverse("job_detail", args=[job.pk]))
    response = render_page_or_fragment(request, "jobs/detail.html", "jobs/_live.html", _live_context(request, job))
    return response if job.is_live else trigger_client_event(response, "jobs-changed")


def _live_context(request: HttpRequest, job: Job) -> dict[str, Any]:
    mine = job.actor_id == _user(request).pk
    approved = "" if wants_fragment(request) else approval_presenters.approved_by(job)
    rights = {"approved_by": approved, "may_edit": mine, "may_pause": mine or Job.objects.pausable_by(request.user).filter(pk=job.pk).exists()}
    return live_context(job, request.GET, _user(request)) | lane_board.job_context(job, _user(request)) | rights


def _preview(request: HttpRequest, job: Job, form: StartForm, status: int = 200) -> HttpResponse:
    context = preview_context(job, request.GET) | {"form": form, "polled": wants_fragment(request)}
    context |= {"rejected": lists.rejected_context(job), "refusals": approvals.refusals(job)}
    context["asks"] = approval_presenters.needed(job.actor, {share.account.pk: share.changes for share in context["shares"]})
    if wants_fragment(request) and request.GET.get("bar", "1" if context["changes"] else "0") != ("1" if context["changes"] else "0"):
        return HttpResponseClientRefresh()  # reading at the provider showed that there is something to run after all, or nothing
    return render_page_or_fragment(request, "jobs/preview.html", "jobs/_preview.html", context, status=status)


@require_POST
def job_check(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks the workers once more to read what a preview holds."""
    job = _editable(request, pk)
    for account_id in job.items.unchecked().order_by().values_list("account_id", flat=True).distinct():
        wake.check(job.pk, account_id)
    return _preview(request, job, StartForm()) if wants_fragment(request) and job.order == Order.DRAFT else _go(request, "job_detail", pk)


@require_POST
def job_tick(request: HttpRequest, pk: int) -> HttpResponse:
    """Ticks or unticks one row of a preview, or all of a group; `stuck` takes out everything that cannot change."""
    job = _editable(request, pk)
    if request.POST.get("stuck"):
        ticks.drop_stuck(_user(request), job)
    else:
        item, items = request.POST.get("item", ""), chosen_items(job, request.POST.get("group", ""))
        if not request.POST.get("all"):
            items = items.filter(pk=item if item.isdecimal() else 0)
        ticks.tick(_user(request), job, items, ticked=request.POST.get("ticked") == "1")
    job.refresh_from_db()
    shown = wants_fragment(request) and job.order == Order.DRAFT and job.planned_at
    return _preview(request, access.cut(job, request.user), StartForm()) if shown else _go(request, "job_detail", pk)


@require_POST
def job_start(request: HttpRequest, pk: int) -> HttpResponse:
    """Runs a planned draft; a second click or a repeated request finds it running and only shows it."""
    job = _editable(request, pk)
    form = StartForm(request.POST)
    try:
        if form.is_valid():
            jobs.start(_user(request), job, **form.orders)
            return _go(request, "job_detail", job.pk)
    except ValidationError as error:
        form.add_error(None, error)
    if job.order != Order.DRAFT or not job.planned_at:
        return _go(request, "job_detail", job.pk)
    return _preview(request, job, form, status=422)


@require_POST
def job_discard(request: HttpRequest, pk: int) -> HttpResponse:
    """Throws a draft away; nothing was changed by it."""
    job = _editable(request, pk)
    if not jobs.discard(_user(request), job):
        waits = job.order == Order.ASK
        text = _("This job waits for approval; withdraw it first.") if waits else _("This job has been started, so it stays as a record.")
        _say(request, text, messages.WARNING)
        return _go(request, "job_detail", pk)
    _say(request, _("The preview was discarded; nothing was changed."))
    return _go(request, "job_list")


# --- orders ---------------------------------------------------------------------------------------------------------------------------


def _live(request: HttpRequest, pk: int, done: str, level: str = "info") -> HttpResponse:
    """Shows the job after an order, with a toast."""
    if not wants_fragment(request):
        _say(request, done)
        return redirect("job_detail", pk)
    job = _find(request, pk)
    response = hx_toast(render(request, "jobs/_live.html", _live_context(request, job)), done, level)
    return trigger_client_event(response, "jobs-changed")


@require_POST
def job_order(request: HttpRequest, pk: int, order: str) -> HttpResponse:
    """Pause, resume, cancel or retry; what came too late says so."""
    job = _editable(request, pk, order)
    if job.order in NOT_STARTED:
        return _go(request, "job_detail", pk)
    if order == "retry":
        count = jobs.retry(_user(request), job)
        again = ngettext("%(count)d conversation is tried once more.", "%(count)d conversations are tried once more.", count) % {"count": count}
        return _live(request, pk, again if count else _("Nothing is left to retry."))
    orders: dict[str, tuple[Callable[[User, Job], bool], str]] = {
        "pause": (jobs.pause, _("Pausing: what is under way ends, nothing new begins.")),
        "resume": (jobs.resume, _("The job goes on.")),
        "cancel": (jobs.cancel, _("Cancelled: what is under way ends, the rest is not started.")),
        "first": (partial(jobs.prioritise, priority=1), _("This job goes first now; the others go on after it.")),
        "normal": (partial(jobs.prioritise, priority=0), _("This job shares its accounts with the others again.")),
    }
    function, done = orders[order]
    return _live(request, pk, done if function(_user(request), job) else _("The job is not in that state any more."))


@require_POST
def job_undo(request: HttpRequest, pk: int) -> HttpResponse:
    """Makes the draft that undoes an ended job, or its ticked rows, and shows its preview."""
    job = _editable(request, pk)
    ticked = [int(text) for text in request.POST.getlist("item") if text.isdecimal() and len(text) < 19]
    try:
        if request.POST.get("which") == "ticked" and not ticked:
            raise ValidationError(_("Tick the rows that are to be undone."))
        chosen = ticked if request.POST.get("which") == "ticked" else None
        draft = undo.undo(_user(request), job, chosen, key=jobs.intent(request.POST.get("key", ""), *map(str, chosen or [])))
    except ValidationError as error:
        if wants_fragment(request):
            return hx_toast(HttpResponse(status=204), " ".join(error.messages), "danger")
        _say(request, " ".join(error.messages), messages.ERROR)
        return redirect("job_detail", pk)
    return _go(request, "job_detail", draft.pk)


@require_POST
def job_decide(request: HttpRequest, pk: int, item_pk: int) -> HttpResponse:
    """Ends a conflict: keeps the provider's value, or overwrites the value that was shown."""
    job = _editable(request, pk)
    item = get_object_or_404(job.shown, pk=item_pk)
    overwrite = request.POST.get("overwrite") == "1"
    if not jobs.decide(_user(request), item, overwrite=overwrite):
        return _live(request, pk, _("This has been decided already."))
    return _live(request, pk, _("It will be overwritten.") if overwrite else _("The provider's value is kept."))


@require_POST
def job_go_on(request: HttpRequest, pk: int) -> HttpResponse:
    """Lets the rest of an account go on after its first conversations, whatever became of these."""
    job = _editable(request, pk)
    accounts = {str(account_id): account_id for account_id in job.shown.order_by().values_list("account_id", flat=True).distinct()}
    account_id = accounts.get(request.POST.get("account", ""))
    if account_id is None:
        raise Http404
    count = canary.go_on(_user(request), job, account_id)
    goes_on = ngettext("%(count)s conversation goes on.", "%(count)s conversations go on.", count) % {"count": count}
    return _live(request, pk, goes_on if count else _("Nothing waits there any more."))


@require_POST
def job_again(request: HttpRequest, pk: int) -> HttpResponse:
    """Makes a new draft like an ended job, over what matches now or the same conversations, and goes on to what to do with it."""
    job = _editable(request, pk)
    try:
        rows, how = selected_again(request.user, job)
        new = jobs.create(_user(request), job.action, rows, selection=how, params=job.params, key=request.POST.get("key", ""))
    except ValidationError as error:
        _say(request, " ".join(error.messages), messages.ERROR)
        return _go(request, "job_detail", pk)
    return _go(request, "job_compose", new.pk)


# --- results --------------------------------------------------------------------------------------------------------------------------


@require_safe
@recently_authenticated(file=True)
def job_report(request: HttpRequest, pk: int, kind: str) -> HttpResponse | StreamingHttpResponse:
    """The results as a file, all of them or those of the statuses in the address."""
    job = _find(request, pk)
    statuses = request.GET.getlist("status")
    if kind not in ("csv", "json") or any(status not in COUNTERS for status in statuses):
        raise Http404
    rows = reports.rows(job, statuses)
    audit.note_report(_user(request), job, kind, statuses)
    lines, content_type = (reports.csv_lines(rows), "text/csv; charset=utf-8") if kind == "csv" else (reports.json_lines(rows), "application/json")
    name = "-".join([str(job), *statuses])
    return StreamingHttpResponse(lines, content_type=content_type, headers={"Content-Disposition": f'attachment; filename="{name}.{kind}"'})


# --- the list -------------------------------------------------------------------------------------------------------------------------


@require_safe
def job_list(request: HttpRequest) -> HttpResponse:
    """All jobs that one may see: running, previews, finished."""
    context = list_context(Job.objects.visible_to(request.user), request.GET)
    context["for_me"] = Job.objects.visible_to(request.user).waiting_for(request.user).count()
    return render_page_or_fragment(request, "jobs/list.html", "jobs/_list.html", context)


@require_safe
def job_badge(request: HttpRequest) -> HttpResponse:
    """The number of running jobs beside "Jobs" in the sidebar."""
    visible = Job.objects.visible_to(request.user)
    counts = {"running_jobs": visible.live().count(), "for_approval": visible.waiting_for(request.user).count()}
    return render(request, "_jobs_badge.html", {"sidebar": counts})
