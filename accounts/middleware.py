"""The language of a signed-in person goes with the person, not with the browser."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import translation


class LanguageMiddleware:
    """Answers in the language that a signed-in person chose; who never chose one keeps what cookie and browser say.

    Stands behind Django's LocaleMiddleware (which knows only the browser) and behind the authentication.
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
