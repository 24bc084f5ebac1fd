"""The page of a job that waits for approval, and the answers to it; who may what is decided by approvals.py."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST
from django_htmx.http import HttpResponseClientRedirect, HttpResponseClientRefresh

from accounts.access import find
from accounts.models import User
from config.htmx import render_page_or_fragment, wants_fragment

from . import access, approval_presenters, approvals
from .models import Job, Order
from .preview_presenters import preview_context

POLL = "5s"


def _me(request: HttpRequest) -> User:
    """Who asks; nobody gets here without having signed in."""
    return cast(User, request.user)


def waiting(request: HttpRequest, job: Job, *, reason: str = "", errors: Any = (), status: int = 200) -> HttpResponse:
    """The preview that waits, as its author and everybody else sees it, with what this person may answer."""
    count, detail = approval_presenters.answered(job), reverse("job_detail", args=[job.pk])
    if wants_fragment(request) and "bar" in request.GET:  # it was asked for in another tab
        return HttpResponseClientRedirect(detail)
    if wants_fragment(request) and request.GET.get("asked", str(count)) != str(count):
        return HttpResponseClientRefresh()
    context = preview_context(job, request.GET) | approval_presenters.context(job, _me(request))
    query = context["query"]
    context |= {"readonly": True, "poll_every": POLL if context["is_author"] else "", "polled": False, "reason": reason, "errors": errors}
    context["poll_url"] = f"{detail}?{query}{'&' if query else ''}asked={count}"
    return render_page_or_fragment(request, "jobs/approval.html", "jobs/_preview.html", context, status=status)


def _asked(request: HttpRequest, pk: int) -> Job:
    """Returns a job that one sees, or about which one was asked; after a refusal it is a preview of its author again."""
    jobs = Job.objects.select_related("actor")
    return jobs.visible_to(_me(request)).filter(pk=pk).first() or get_object_or_404(jobs.asked_of(_me(request)), pk=pk)


def _answered(request: HttpRequest, pk: int, done: str) -> HttpResponse:
    messages.info(request, done)
    visible = Job.objects.visible_to(_me(request)).filter(pk=pk).exists()
    return redirect("job_detail", pk) if visible else redirect("job_list")


@require_POST
def job_approve(request: HttpRequest, pk: int) -> HttpResponse:
    """Approves a job of somebody else; when nobody else has to, it runs."""
    job = _asked(request, pk)
    try:
        given = approvals.approve(_me(request), job)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("job_detail", pk)
    job.refresh_from_db()
    done = _("Approved: it still waits for others.") if job.order == Order.ASK else _("Approved: the job runs.")
    return _answered(request, pk, done if given else _("This has been decided already."))


@require_POST
def job_refuse(request: HttpRequest, pk: int) -> HttpResponse:
    """Refuses a job of somebody else with a reason, which its author sees."""
    job, reason = _asked(request, pk), request.POST.get("reason", "")
    try:
        given = approvals.refuse(_me(request), job, reason)
    except ValidationError as error:
        return waiting(request, access.cut(job, _me(request)), reason=reason, errors=error.messages, status=422)
    return _answered(request, pk, _("Refused: its author sees why.") if given else _("This has been decided already."))


@require_POST
def job_withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """Makes one's own waiting job a preview again."""
    job = find(Job.objects.editable_by(_me(request)), Job.objects.visible_to(_me(request)), pk=pk)
    withdrawn = approvals.withdraw(_me(request), job)
    return _answered(request, pk, _("Withdrawn: it is a preview again.") if withdrawn else _("This has been decided already."))
