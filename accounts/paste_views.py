"""The box into which a request of the provider's own page is pasted: a new account, or a new credential for one that is there.

What is pasted stays in the box and comes along with every request, until something is saved. It is never sent back, and nothing of it is
kept: what was found is shown as masks and names.
"""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from config.htmx import hx_toast, safe_next, wants_fragment

from . import capture, paste_presenters, presenters, recent, services, trials
from .access import find
from .forms import CREDENTIAL, AccountForm
from .models import Account, User
from .providers import all_providers
from .providers.base import Provider
from .providers.errors import CredentialsRejected
from .services import TestReport
from .views import known, may_not_save, moved, tested, wait_sentence


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def account_paste(request: HttpRequest) -> HttpResponse:
    """Reads a capture, tests what is in it, and connects it as an account when asked to."""
    return _posted(request, None) if request.method == "POST" else render(request, "accounts/add.html", {"cards": presenters.provider_cards()})


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@recent.recently_authenticated
def account_paste_into(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The same for an account that is there: its id, its conversations and its jobs stay, and what waits for it goes on."""
    account = find(Account.objects.owned_by(_me(request)), Account.objects.visible_to(_me(request)), pk=pk)
    return _posted(request, account) if request.method == "POST" else _page(request, account, {})


def _me(request: HttpRequest) -> User:
    return cast(User, request.user)


def _posted(request: HttpRequest, account: Account | None) -> HttpResponse:
    try:
        found = _read(request, account)
    except capture.CaptureError as error:
        return _page(request, account, {"unreadable": _(str(error))}, status=422)
    if found.refusal or found.provider is None:
        return _page(request, account, {"found": paste_presenters.show_capture(found)}, status=422)
    form = _form(request, found, account)
    context: dict[str, Any] = {"found": paste_presenters.show_capture(found), "form": form, "fields": _fields(form, found), "named": _named(request)}
    context["optional"] = any(not row["needed"] for row in context["fields"])
    # A token alone does not say where it belongs: it goes nowhere until the person has seen the address.
    unplaced = account is None and not found.base_url and request.POST.get("read_as") != found.provider.key
    if unplaced or (found.missing and not _given_by_hand(request, found)):
        return _page(request, account, context | {"incomplete": True, "unplaced": unplaced})
    if not form.is_valid():
        return _page(request, account, context, status=422)
    try:
        report = tested(request, form)
    except trials.TooManyTests as refused:
        return _too_many(request, account, context, refused)
    return _decided(request, form, report, context)


def _read(request: HttpRequest, account: Account | None) -> capture.Capture:
    """Returns what was pasted: for an account as its provider's, else as what it says of itself, and failing that as what the person says."""
    text = request.POST.get("text", "")
    if account is not None:
        return capture.read(text, account.provider, base_url=account.base_url)
    found, named = capture.read(text), _named(request)
    return capture.read(text, named) if named and found.refusal == "unknown" else found


def _named(request: HttpRequest) -> type[Provider] | None:
    return next((provider for provider in all_providers() if provider.key == request.POST.get("provider")), None)


def _form(request: HttpRequest, found: capture.Capture, account: Account | None) -> AccountForm:
    """Returns the form that would have been filled in by hand, filled in from the capture and with what it lacks from the page."""
    assert found.provider is not None
    fresh = AccountForm(_me(request), found.provider, account=account)
    same = request.POST.get("read_as") == found.provider.key
    given = {name: request.POST.get(name, "") for name in ("label", "base_url")} if same else {}
    data = {
        "label": account.label if account else given.get("label") or fresh.initial["label"],
        "base_url": account.base_url if account else found.base_url or given.get("base_url") or found.provider.default_base_url,
    }
    for declared in found.provider.credential_fields:
        name = CREDENTIAL + declared.name
        data[name] = (request.POST.get(name, "") if same else "") or fresh.initial.get(name, "")
    data |= {CREDENTIAL + name: value for name, value in found.values().items()}
    return AccountForm(_me(request), found.provider, data, account=account)


def _fields(form: AccountForm, found: capture.Capture) -> list[dict[str, Any]]:
    """Returns the fields that the capture lacks, as the form's rows; a secret that was typed stays in the page when the rest is renewed."""
    rows = [row for row in form.rows() if row["field"].name.removeprefix(CREDENTIAL) not in found.fields]
    for row in rows:
        row["field"].field.widget.attrs["hx-preserve"] = "true"
        row["needed"] = row["field"].name.removeprefix(CREDENTIAL) in found.missing and not row["kept"]
    return rows


def _given_by_hand(request: HttpRequest, found: capture.Capture) -> bool:
    return any(request.POST.get(CREDENTIAL + name) for name in found.missing)


def _decided(request: HttpRequest, form: AccountForm, report: TestReport, context: dict[str, Any]) -> HttpResponse:
    """Shows what the test found, or saves."""
    account, saving = form.account, "save" in request.POST or "save_anyway" in request.POST
    another = account is not None and services.other_user(account, report)
    context |= {
        "report": presenters.show_report(report, form.provider, connecting=True),
        "saving": saving,
        "another_user": another,
        "may_insist": saving and report.error is not None and not isinstance(report.error, CredentialsRejected),
        "ready": report.ok,
    }
    if not saving:
        return _page(request, account, context)
    if may_not_save(request, report) or (another and "other_user" not in request.POST):
        return _page(request, account, context, status=422)
    if account is not None:
        services.replace_credentials(account, form.document(), base_url=form.cleaned_data["base_url"], report=known(report), by=_me(request))
        messages.success(request, _("%(label)s has a new credential. What waited for it goes on.") % {"label": account.label})
        back = safe_next(request) if request.POST.get("next") else reverse("account_detail", args=[account.pk])
        return moved(request, back)
    try:
        account = services.add_account(
            _me(request), form.provider.key, form.cleaned_data["label"], form.cleaned_data["base_url"], form.document(), report=known(report)
        )
    except ValidationError as error:  # the label was taken since the form looked
        form.add_error(None, error)
        return _page(request, None, context, status=422)
    messages.success(request, _("%(label)s is connected. Its conversations are being read.") % {"label": account.label})
    return moved(request, reverse("account_list"))


def _too_many(request: HttpRequest, account: Account | None, context: dict[str, Any], refused: trials.TooManyTests) -> HttpResponse:
    if wants_fragment(request):
        return hx_toast(HttpResponse(status=429), wait_sentence(refused), "warning")
    context["form"].add_error(None, wait_sentence(refused))
    return _page(request, account, context, status=429)


def _page(request: HttpRequest, account: Account | None, context: dict[str, Any], status: int = 200) -> HttpResponse:
    """Answers with what was found (HTMX), the box in the page's dialog (HTMX, before anything was sent) or a page."""
    fragment = wants_fragment(request)
    context |= {"account": account, "whole_page": not fragment, "next": request.POST.get("next", "")}
    if request.method == "GET":
        context["next"] = request.htmx.current_url_abs_path if fragment else request.GET.get("next", "")  # type: ignore[attr-defined]
        template = "accounts/_paste_dialog.html" if fragment else "accounts/paste.html"
    else:
        template = "accounts/_paste_result.html" if fragment else "accounts/paste.html" if account else "accounts/add.html"
    if account is None:
        context["cards"] = presenters.provider_cards()
    return render(request, template, context, status=status)
