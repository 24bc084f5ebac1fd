"""The page of the audit log and its file. Both only read: there is no address that changes an entry."""

from __future__ import annotations

from typing import cast

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from accounts.models import User
from accounts.recent import recently_authenticated
from config.htmx import render_page_or_fragment

from . import audit, audit_presenters, reports
from .audit_forms import AuditFilterForm
from .models import AuditEntry


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


@require_safe
def audit_list(request: HttpRequest) -> HttpResponse:
    """What was done, the newest first; filter and place are in the address."""
    form = AuditFilterForm(request.user, request.GET)
    entries = form.narrow(AuditEntry.objects.visible_to(request.user))
    found = audit.page(entries, older=_number(request.GET.get("older", "")), newer=_number(request.GET.get("newer", "")))
    return render_page_or_fragment(request, "audit/list.html", "audit/_list.html", audit_presenters.context(request, form, found))


@require_safe
@recently_authenticated(file=True)
def audit_export(request: HttpRequest, kind: str) -> StreamingHttpResponse:
    """What the filter shows, all of it, as a file; that it was taken is an entry itself."""
    form = AuditFilterForm(request.user, request.GET)
    if kind not in ("csv", "json") or not form.is_valid():
        raise Http404
    rows = audit.rows(form.narrow(AuditEntry.objects.visible_to(request.user)))
    audit.note_export(cast(User, request.user), kind, form.texts)
    lines = reports.csv_lines(rows, audit.COLUMNS) if kind == "csv" else reports.json_lines(rows)
    headers = {"Content-Disposition": f'attachment; filename="audit.{kind}"'}
    return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8" if kind == "csv" else "application/json", headers=headers)
