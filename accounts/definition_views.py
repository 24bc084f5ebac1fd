"""Definitions of accounts out of here and in here, without secrets."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from . import definitions
from .models import Account, User
from .recent import recently_authenticated


@require_GET
@recently_authenticated(file=True)
def account_export(request: HttpRequest) -> HttpResponse:
    """The definitions of one's own accounts as a file."""
    text = definitions.export(Account.objects.owned_by(request.user).prefetch_related("labels"))
    response = HttpResponse(text, content_type="application/json; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="switchboard-accounts.json"'
    return response


@require_http_methods(["GET", "POST"])
def account_import(request: HttpRequest) -> HttpResponse:
    """Makes accounts of an exported file; says of every entry that it could not take why."""
    if request.method == "GET":
        return render(request, "accounts/import.html")
    assert isinstance(request.user, User)
    try:
        done = definitions.import_accounts(request.user, _given(request))
    except definitions.NotADocument as error:
        return render(request, "accounts/import.html", {"error": str(error)}, status=422)
    return render(request, "accounts/import.html", {"done": done}, status=200 if done.created or not done.refused else 422)


def _given(request: HttpRequest) -> str:
    """Returns the text of the file that was sent; raises NotADocument."""
    file = request.FILES.get("file")
    if file is None or isinstance(file, list):
        raise definitions.NotADocument(_("Choose a file first."))
    if file.size is None or file.size > definitions.LARGEST:
        raise definitions.NotADocument(_("The file is too large."))
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise definitions.NotADocument(_("The file is not UTF-8 text.")) from error
