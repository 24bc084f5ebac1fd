"""The pages of accounts: the list, connecting, one account, and the person's own settings.

Whatever shows conversations lies in the other app; what has to follow there hears the signals that services send.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django.views.i18n import set_language as django_set_language
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event

from config.htmx import hx_toast, safe_next, wants_fragment

from . import deeds, health, labels, lifetimes, presenters, recent, services, sharing_views, trials
from .access import Rights, find
from .forms import AccountForm, PaceForm
from .models import Account, User
from .providers import get_provider
from .providers.base import Provider
from .providers.errors import AddressRefused, CredentialsRejected
from .services import TestReport

CHANGED = "accounts-changed"  # the page's event after which sidebar, banners and counts are read again


def _me(request: HttpRequest) -> User:
    """Returns who is signed in; strangers never come as far as these views."""
    return cast(User, request.user)


def _visible(request: HttpRequest, pk: UUID) -> Account:
    return get_object_or_404(presenters.counted(Account.objects.visible_to(_me(request))), pk=pk)


def _owned(request: HttpRequest, pk: UUID) -> Account:
    return find(presenters.counted(Account.objects.owned_by(_me(request))), Account.objects.visible_to(_me(request)), pk=pk)


def _provider(key: str) -> type[Provider]:
    try:
        return get_provider(key)
    except KeyError as error:
        raise Http404 from error


# --- the list -----------------------------------------------------------------------------------------------------------------------


@require_GET
def account_list(request: HttpRequest) -> HttpResponse:
    """All accounts with their health; the filter leaves those that need somebody."""
    return render(request, "accounts/list.html", _list_context(request))


def _list_context(request: HttpRequest) -> dict[str, Any]:
    visible = Account.objects.visible_to(_me(request))
    attention = health.needing_attention(visible)
    only, label = "attention" in request.GET, request.GET.get("label", "").replace("\0", "")
    chosen = attention if only else visible
    if label:
        chosen = chosen.filter(labels__name=label)
    rows = presenters.show_accounts(presenters.counted(chosen), _me(request))
    total = visible.count()
    kept = {"attention": "1"} if only else {}
    return {
        "rows": rows,
        "owned_count": sum(row["owned"] for row in rows),
        "only_attention": only,
        "only_label": label,
        "labels": labels.names_for(_me(request)),
        "kept": f"?{urlencode(kept | ({'label': label} if label else {}))}" if only or label else "",
        "attention_count": attention.count(),
        "total": total,
        "cards": [] if total else presenters.provider_cards(),
    }


@require_GET
def account_around(request: HttpRequest) -> HttpResponse:
    """What the page shows around the accounts: sidebar, banners and the filter with its count."""
    return render(request, "accounts/_around.html", _list_context(request))


@require_GET
def account_detail(request: HttpRequest, pk: UUID) -> HttpResponse:
    """One account: how it is, what can be done there, its models and its pace."""
    account = _visible(request, pk)
    shown = presenters.show_account(account, Rights(_me(request)))
    sharing = sharing_views.context(account, _me(request), owned=shown["owned"])
    context = shown | {
        "sharing": sharing,
        "provider": account.provider,
        "capabilities": presenters.capabilities_of(account.provider),
        "settings": presenters.settings_of(account.provider),
        "models": presenters.models_of(account),
        "models_reason": presenters.models_reason(account.provider),
        "hints": presenters.hints_of(account) if shown["owned"] else [],
        "form": PaceForm(instance=account),
        "strip": presenters.strip_of(account),
        "forecast": lifetimes.forecast(account),
        "about": labels.AboutForm(instance=account),
        "label_names": labels.names_for(_me(request)),
    }
    return render(request, "accounts/detail.html", context)


def show(request: HttpRequest, account: Account, report: TestReport | None = None) -> HttpResponse:
    """Answers with an account where the page shows it: a row of the list, or the overview of its page; without HTMX, its page."""
    if not wants_fragment(request):
        return redirect("account_detail", account.pk)
    given = request.POST if request.method == "POST" else request.GET
    template = "accounts/_overview.html" if given.get("place") == "detail" else "accounts/_row.html"
    fresh = presenters.counted(Account.objects.visible_to(_me(request))).get(pk=account.pk)
    return render(request, template, presenters.show_account(fresh, Rights(_me(request)), report))


# --- connecting, and replacing a credential -----------------------------------------------------------------------------------------


@require_GET
def account_add(request: HttpRequest) -> HttpResponse:
    """The first step: which provider."""
    return render(request, "accounts/add.html", {"cards": presenters.provider_cards()})


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def account_add_provider(request: HttpRequest, provider_key: str) -> HttpResponse:
    """The second step: the fields that this provider needs; saving tests first, unless just these values were tested."""
    form = AccountForm(_me(request), _provider(provider_key), request.POST or None)
    if request.method == "GET":
        return _form_page(request, form)
    if not form.is_valid():
        return _answer(request, form, status=422)
    try:
        report = tested(request, form)
    except trials.TooManyTests as refused:
        return _too_many(request, form, refused)
    if may_not_save(request, report):
        return _answer(request, form, report, saving=True, status=422)
    try:
        account = services.add_account(
            _me(request), form.provider.key, form.cleaned_data["label"], form.cleaned_data["base_url"], form.document(), report=known(report)
        )
    except ValidationError as error:  # the label was taken since the form looked
        form.add_error(None, error)
        return _answer(request, form, report, status=422)
    messages.success(request, _("%(label)s is connected. Its conversations are being read.") % {"label": account.label})
    return moved(request, reverse("account_list"))


@sensitive_post_parameters()
@require_POST
def account_test_new(request: HttpRequest, provider_key: str) -> HttpResponse:
    """Tries what is in the form; nothing is stored."""
    return _try(request, AccountForm(_me(request), _provider(provider_key), request.POST))


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def account_edit(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Label, address and credential of an account; its conversations, its jobs and its id stay."""
    account = _owned(request, pk)
    # Asked before the form is shown, so that nobody fills it in vain; a label alone may be saved at any time.
    if request.method == "GET" and (asked := recent.confirmation_needed(request)):
        return asked
    form = AccountForm(_me(request), account.provider, request.POST or None, account=account)
    if request.method == "GET":
        return _form_page(request, form)
    if not form.is_valid():
        return _answer(request, form, status=422)
    report = None
    if form.credential_changed:
        if asked := recent.confirmation_needed(request):
            return asked
        try:
            report = tested(request, form)
        except trials.TooManyTests as refused:
            return _too_many(request, form, refused)
        another = services.other_user(account, report) and "other_user" not in request.POST
        if another or may_not_save(request, report):
            return _answer(request, form, report, saving=True, status=422)
    try:
        services.rename_account(account, form.cleaned_data["label"], by=_me(request))
    except ValidationError as error:
        form.add_error(None, error)
        return _answer(request, form, report, status=422)
    if report is not None:
        services.replace_credentials(account, form.document(), base_url=form.cleaned_data["base_url"], report=known(report), by=_me(request))
    messages.success(request, _("%(label)s is saved.") % {"label": account.label})
    return moved(request, reverse("account_detail", args=[account.pk]))


@sensitive_post_parameters()
@require_POST
@recent.recently_authenticated
def account_test_edit(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Tries what is in the form together with the secrets that stay; nothing is stored."""
    account = _owned(request, pk)
    return _try(request, AccountForm(_me(request), account.provider, request.POST, account=account))


def _try(request: HttpRequest, form: AccountForm) -> HttpResponse:
    if not form.is_valid():
        return _answer(request, form, status=422)
    try:
        report = trials.test(_me(request), form.provider.key, form.cleaned_data["base_url"], form.document())
    except trials.TooManyTests as refused:
        return _too_many(request, form, refused)
    return _answer(request, form, report)


def tested(request: HttpRequest, form: AccountForm) -> TestReport:
    """Returns what is known about the values of a form: from the test a moment ago, else from one now; raises TooManyTests."""
    values = (_me(request), form.provider.key, form.cleaned_data["base_url"], form.document())
    return trials.recall(*values) or trials.test(*values)


def may_not_save(request: HttpRequest, report: TestReport) -> bool:
    """True when a test forbids saving: a refused credential always, any other failure unless the person insists."""
    insists = "save_anyway" in request.POST
    return report.error is not None and (isinstance(report.error, CredentialsRejected) or not insists)


def known(report: TestReport) -> TestReport | None:
    """Returns a report that says at least whose the credential is."""
    return report if report.ok or report.user_id else None


def _form_page(request: HttpRequest, form: AccountForm, more: dict[str, Any] | None = None, status: int = 200) -> HttpResponse:
    context = {"form": form, "provider": form.provider, "account": form.account, "mark": presenters.mark_of(form.provider)}
    return render(request, "accounts/form.html", context | (more or {}), status=status)


def _answer(request: HttpRequest, form: AccountForm, report: TestReport | None = None, *, saving: bool = False, status: int = 200) -> HttpResponse:
    """Shows what a test or a refused save found. HTMX gets the result and the notes under the fields, never the fields: what was typed stays."""
    shown = None
    if report is not None:
        shown = presenters.show_report(report, form.provider, connecting=True)
        if isinstance(report.error, AddressRefused) and shown.cause:
            form.add_error("base_url", " ".join(filter(None, [shown.cause["sentence"], shown.cause["detail"]])))
    context = {
        "form": form,
        "provider": form.provider,
        "account": form.account,
        "report": shown,
        "saving": saving,
        "may_insist": saving and report is not None and report.error is not None and not isinstance(report.error, CredentialsRejected),
        "another_user": form.account is not None and report is not None and services.other_user(form.account, report),
        "ready": report is not None and report.ok,
    }
    if wants_fragment(request):
        return render(request, "accounts/_answer.html", context, status=status)
    return _form_page(request, form, context, status=status)


def _too_many(request: HttpRequest, form: AccountForm, refused: trials.TooManyTests) -> HttpResponse:
    if wants_fragment(request):
        return hx_toast(HttpResponse(status=429), wait_sentence(refused), "warning")
    form.add_error(None, wait_sentence(refused))
    return _form_page(request, form, status=429)


def wait_sentence(refused: trials.TooManyTests) -> str:
    return ngettext(
        "You have tested many times within a minute. Nothing was sent; try again in %(wait)d second.",
        "You have tested many times within a minute. Nothing was sent; try again in %(wait)d seconds.",
        refused.wait,
    ) % {"wait": refused.wait}


def moved(request: HttpRequest, url: str) -> HttpResponse:
    return HttpResponseClientRedirect(url) if wants_fragment(request) else redirect(url)


# --- what one does with an account --------------------------------------------------------------------------------------------------


@require_POST
def account_test(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Tries a stored credential; the account's health follows."""
    account = _owned(request, pk)
    if account.paused_at:
        return hx_toast(HttpResponse(status=409), _("%(label)s is paused; resume it first.") % {"label": account.label}, "warning")
    try:
        trials.count(_me(request), "stored")
    except trials.TooManyTests as refused:
        return hx_toast(HttpResponse(status=429), wait_sentence(refused), "warning")
    return trigger_client_event(show(request, account, services.test_account(account)), CHANGED, {})


@require_POST
def account_pause(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Nothing is read or written through the account until it is resumed."""
    account = _owned(request, pk)
    services.pause_account(account, by=_me(request))
    return trigger_client_event(show(request, account), CHANGED, {})


@require_POST
def account_resume(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The account goes on with what waited for it."""
    account = _owned(request, pk)
    services.resume_account(account, by=_me(request))
    return trigger_client_event(show(request, account), CHANGED, {})


@require_POST
def account_pace(request: HttpRequest, pk: UUID) -> HttpResponse:
    """How fast the account may work; holds from the next slice of work on."""
    account = _owned(request, pk)
    form = PaceForm(request.POST, instance=account)
    if not form.is_valid():
        return render(request, "accounts/_pace.html", {"account": account, "form": form, "owned": True}, status=422)
    deeds.change(account, "set pace", form.cleaned_data, _me(request))
    if not wants_fragment(request):
        return redirect("account_detail", account.pk)
    response = render(request, "accounts/_pace.html", {"account": account, "form": PaceForm(instance=account), "owned": True})
    return hx_toast(response, _("Saved."), "success")


@require_POST
@recent.recently_authenticated
def account_delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Deletes an account here; at the provider nothing changes."""
    account = _owned(request, pk)
    label = account.label
    services.delete_account(account, by=_me(request))
    messages.success(request, _("%(label)s is deleted here. Nothing was changed at the provider.") % {"label": label})
    return moved(request, reverse("account_list"))


# --- the person's own settings ------------------------------------------------------------------------------------------------------


@require_POST
def set_theme(request: HttpRequest) -> HttpResponse:
    """Keeps light, dark or like the system with the person, and in a cookie for the pages before signing in."""
    theme = request.POST.get("theme", "")
    person = _me(request)
    person.theme = theme if theme in ("light", "dark") else ""
    person.save(update_fields=["theme"])
    response = redirect(safe_next(request))
    response.set_cookie(
        settings.THEME_COOKIE_NAME,
        person.theme,
        max_age=settings.LANGUAGE_COOKIE_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    return response


@login_not_required
@require_POST
def set_language(request: HttpRequest) -> HttpResponse:
    """Keeps the language with the person, and in the cookie of Django's own view for whoever is not signed in."""
    language = request.POST.get("language", "")
    if request.user.is_authenticated and language in dict(settings.LANGUAGES):
        request.user.language = language
        request.user.save(update_fields=["language"])
    return django_set_language(request)
