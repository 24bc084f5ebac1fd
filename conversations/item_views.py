"""The panel of one item of a job: a page of its own, and the same over the job's page; with what a person can do about that item."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import trigger_client_event

from accounts.access import find
from accounts.models import User
from config.htmx import hx_toast, render_page_or_fragment, wants_fragment

from . import access, jobs
from .item_presenters import item_context
from .models import Job, JobItem


def _find(request: HttpRequest, pk: int, item_pk: int, *, to_change: bool = False) -> JobItem:
    visible = Job.objects.visible_to(request.user)
    job = find(Job.objects.editable_by(request.user) if to_change else visible, visible, pk=pk)
    item = get_object_or_404(access.cut(job, request.user).shown.select_related("account", "conversation"), pk=item_pk)
    item.job = job
    return item


def _context(request: HttpRequest, item: JobItem) -> dict[str, Any]:
    return item_context(item.job, item, may_edit=Job.objects.editable_by(request.user).filter(pk=item.job_id).exists())


@require_safe
def job_item(request: HttpRequest, pk: int, item_pk: int) -> HttpResponse:
    """One item with its values, its explanation and its runs; the same address answers the panel and what the panel polls."""
    item = _find(request, pk, item_pk)
    inside = wants_fragment(request) and request.htmx.target == "item"  # type: ignore[attr-defined]  # the frame is there already
    return render_page_or_fragment(request, "jobs/item.html", "jobs/_item.html" if inside else "jobs/_item_panel.html", _context(request, item))


@require_POST
def job_item_order(request: HttpRequest, pk: int, item_pk: int, order: str) -> HttpResponse:
    """Retries this one item, or ends its conflict; what came too late says so."""
    item, user = _find(request, pk, item_pk, to_change=True), cast(User, request.user)
    if order == "retry":
        done, text = jobs.retry_item(user, item), _("It is tried once more.")
    else:
        done = jobs.decide(user, item, overwrite=order == "overwrite")
        text = _("It will be overwritten.") if order == "overwrite" else _("The provider's value is kept.")
    text = text if done else _("This has been decided already.")
    if not wants_fragment(request):
        messages.info(request, text)
        return redirect("job_item", pk, item_pk)
    context = _context(request, _find(request, pk, item_pk))
    response = hx_toast(render(request, "jobs/_item.html", context), text, "info")
    return trigger_client_event(trigger_client_event(response, "job-changed"), "jobs-changed")
