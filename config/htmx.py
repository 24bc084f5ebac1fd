"""HTMX conventions: one URL for page and fragment, sign-in from within a fragment, toasts."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render, resolve_url
from django.urls import NoReverseMatch, reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event
from django_htmx.middleware import HtmxDetails

TOAST_LEVELS = ("success", "info", "warning", "danger")


def wants_fragment(request: HttpRequest) -> bool:
    """Tell whether HTMX will swap the answer into the page; a restored history entry and a boosted link need the whole page."""
    htmx: HtmxDetails | None = getattr(request, "htmx", None)
    return htmx is not None and bool(htmx) and not htmx.history_restore_request and not htmx.boosted


def render_page_or_fragment(
    request: HttpRequest, page_template: str, fragment_template: str, context: dict | None = None, status: int = 200
) -> HttpResponse:
    """Render the fragment for an HTMX swap and the page for everybody else, told apart in caches by `Vary: HX-Request`.

    All three headers that decide are named, so that Back never shows a bare fragment.
    """
    template = fragment_template if wants_fragment(request) else page_template
    response = render(request, template, context, status=status)
    patch_vary_headers(response, ("HX-Request", "HX-History-Restore-Request", "HX-Boosted"))
    return response


def hx_toast(response: HttpResponse, message: str, level: str = "success", undo_url: str | None = None) -> HttpResponse:
    """Make the page show a toast once the answer arrives; `level` is one of TOAST_LEVELS, `undo_url` adds an Undo button (POST).

    A lazy translation is resolved here, in the language of the request.
    """
    if level not in TOAST_LEVELS:
        raise ValueError(f"toast level {level!r}: one of {', '.join(TOAST_LEVELS)}")
    detail = {"message": str(message), "level": level}
    if undo_url:
        detail["undo_url"] = str(undo_url)
    return trigger_client_event(response, "toast", detail)


def safe_next(request: HttpRequest) -> str:
    """Return where a form asked to go back to when that is a page of this site, else the first page."""
    target = request.POST.get("next", "") or request.headers.get("referer", "")
    # A word without a slash would be taken for the name of an address by `redirect`.
    whole = target.startswith(("/", "http://", "https://"))
    if whole and url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure()):
        return target
    return resolve_url(settings.LOGIN_REDIRECT_URL)


class HtmxLoginRedirectMiddleware:
    """Turns a redirect to sign-in, met inside an HTMX request, into a move of the whole page.

    The browser would follow the redirect by itself and the sign-in form would be swapped into a table cell. The person comes back to
    the page that was open, not to the fragment that was asked for.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request; only 3xx answers that lead to signing in or to confirming the password are changed."""
        response = self.get_response(request)
        htmx = getattr(request, "htmx", None)
        if not htmx or not 300 <= response.status_code < 400 or not response.has_header("Location"):
            return response
        location = response["Location"]
        path = urlsplit(location).path
        if path == resolve_url(settings.LOGIN_URL):
            query = QueryDict(mutable=True)
            query[REDIRECT_FIELD_NAME] = htmx.current_url_abs_path or resolve_url(settings.LOGIN_REDIRECT_URL)
            location = f"{path}?{query.urlencode(safe='/')}"
        elif path != _reauthenticate_path():
            return response
        moved = HttpResponseClientRedirect(location)
        moved.cookies = response.cookies
        patch_vary_headers(moved, ("HX-Request",))
        return moved


def _reauthenticate_path() -> str | None:
    """Return where a password is confirmed, or None where the project has no such page."""
    try:
        return reverse("account_reauthenticate")
    except NoReverseMatch:
        return None
