"""The pages that say no: both languages, with the status they name, and no trace of what went wrong inside."""

from __future__ import annotations

import pytest
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from config.urls import handler500
from config.urls import urlpatterns as product

__all__ = ["handler500"]

RAISED = {"400": SuspiciousOperation, "403": PermissionDenied, "404": Http404, "500": RuntimeError, "503": OperationalError}


@login_not_required
def broken(request: HttpRequest, code: str) -> HttpResponse:
    """Fails as the address says."""
    raise RAISED[code]("the secret of the house")


urlpatterns = [*product, path("broken/<code>/", broken)]
WORDS = {
    "en": {
        "400": "This request makes no sense",
        "403": "You may not do this",
        "404": "Nothing here",
        "500": "Something broke on our side",
        "503": "Not available just now",
    },
    "zh-hans": {"400": "无法理解此请求", "403": "您无权执行此操作", "404": "这里没有内容", "500": "我们这边出错了", "503": "暂时不可用"},
}
BACK = {"en": "To the conversations", "zh-hans": "前往会话"}


@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize("code", RAISED)
def test_every_refusal_has_a_page_in_the_language_of_its_reader(language: str, code: str) -> None:
    client = Client(raise_request_exception=False, headers={"accept-language": language})
    answer = client.get(f"/broken/{code}/")
    page = answer.content.decode()
    assert answer.status_code == int(code)
    assert f'<html lang="{language}"'.lower() in page.lower()
    assert WORDS[language][code] in page and BACK[language] in page and code in page
    assert "secret of the house" not in page and "RuntimeError" not in page


@pytest.mark.django_db
@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_a_form_without_its_token_is_refused_with_what_to_do(language: str) -> None:
    client = Client(enforce_csrf_checks=True, headers={"accept-language": language})
    answer = client.post("/auth/login/", {"login": "a@example.com", "password": "x"})
    assert answer.status_code == 403
    assert BACK[language] in answer.content.decode()
