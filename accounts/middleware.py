"""What holds while a request is being answered: the language of the person, and the address that the request came from."""

from __future__ import annotations

from collections.abc import Callable

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import translation

from config import client


def address_of(request: HttpRequest) -> str:
    """Returns the IP address of whoever sent a request, as the sign-in library counts its limits by; "" where nobody can tell.

    How many proxies may be believed is ALLAUTH_TRUSTED_PROXY_COUNT. What a visitor or a proxy wrote that is no address is nobody's address.
    """
    try:
        found = get_adapter(request).get_client_ip(request)
    except (PermissionDenied, ImproperlyConfigured):
        return ""
    return str(found).partition("%")[0]  # a zone names an interface of some machine, and may hold any text


class ClientAddressMiddleware:
    """Lets what is written down while a request is answered know its address (config/client.py).

    Only what the request itself says is needed, so it stands in front of sessions and everything that could write.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        with client.at(address_of(request)):
            return self.get_response(request)


class LanguageMiddleware:
    """Answers in the language that a signed-in person chose; who never chose one keeps what cookie and browser say.

    The language goes with the person, not with the browser. Stands behind Django's LocaleMiddleware (which knows only the browser) and behind
    the authentication.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self._known = {code for code, _name in settings.LANGUAGES}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request; the outer LocaleMiddleware names the language in the answer and starts afresh with the next request."""
        language = getattr(request.user, "language", "")
        if language in self._known:
            translation.activate(language)
            request.LANGUAGE_CODE = translation.get_language()
        return self.get_response(request)
