"""Parts of one account's page that are read or saved by themselves: its last requests, and its labels, colour and note."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import trigger_client_event

from config.htmx import hx_toast, wants_fragment

from . import deeds, labels
from .access import Rights, find
from .models import Account, User
from .presenters import counted, show_account
from .views import CHANGED

REQUESTS = 25


def _owned(request: HttpRequest, pk: UUID) -> Account:
    return find(Account.objects.owned_by(request.user), Account.objects.visible_to(request.user), pk=pk)


@require_GET
def account_requests(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The last requests that were sent for an account, as they may be kept; `before` names the one to go on after."""
    account = get_object_or_404(Account.objects.visible_to(request.user), pk=pk)
    rows, before = account.requests.all(), request.GET.get("before", "")
    if before.isascii() and before.isdecimal():
        rows = rows.filter(pk__lt=int(before[:18]))
    found = list(rows.order_by("-pk")[: REQUESTS + 1])
    more = len(found) > REQUESTS
    context = {"account": account, "requests": found[:REQUESTS], "last": found[REQUESTS - 1].pk if more else None, "first": not before}
    return render(request, "accounts/_requests.html", context)


@require_POST
def account_labels(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Adds or removes one label of an account; in the list the row follows."""
    account = _owned(request, pk)
    error = ""
    if "remove" in request.POST:
        labels.remove(account, request.POST["remove"], by=cast(User, request.user))
    else:
        try:
            labels.add(account, request.POST.get("add", ""), by=cast(User, request.user))
        except ValidationError as refused:
            error = " ".join(refused.messages)
    if not wants_fragment(request):
        return redirect("account_detail", account.pk)
    fresh = counted(Account.objects.owned_by(request.user)).get(pk=pk)
    context: dict[str, Any] = show_account(fresh, Rights(request.user))
    if request.POST.get("place") != "detail":
        if error:
            return hx_toast(HttpResponse(status=422), error, "danger")
        return trigger_client_event(render(request, "accounts/_row.html", context), CHANGED, {})
    context |= {"label_error": error, "typed": request.POST.get("add", "") if error else "", "label_names": labels.names_for(request.user)}
    return render(request, "accounts/_labels.html", context, status=422 if error else 200)


@require_POST
def account_about(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Saves colour and note of an account."""
    account = _owned(request, pk)
    form = labels.AboutForm(request.POST, instance=account)
    if not form.is_valid():
        return render(request, "accounts/_about.html", {"account": account, "about": form, "owned": True}, status=422)
    deeds.change(account, "edit account", form.cleaned_data, cast(User, request.user))
    if not wants_fragment(request):
        return redirect("account_detail", account.pk)
    return hx_toast(render(request, "accounts/_about.html", {"account": account, "about": form, "owned": True}), _("Saved."), "success")
