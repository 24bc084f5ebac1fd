"""What an installation is configured with for OpenID Connect: without it nothing is there, and half of it stops the start."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.socialaccount.models import SocialApp
from django.contrib import admin
from django.test import Client

from accounts.models import User
from tests.simulators.oidc import Issuer
from tests.test_platform import fresh_settings, production

from .oidc_support import CALLBACK, CONFIRM, LOGIN
from .signing import SECURITY, sign_in


def test_without_a_provider_there_is_no_button_and_no_address(alice: User) -> None:
    assert LOGIN not in Client().get("/auth/login/").content.decode()
    client = sign_in()
    assert "oidc" not in client.get(SECURITY).content.decode()
    assert [client.post(path).status_code for path in (LOGIN, "/me/security/oidc/connect/", "/me/security/oidc/1/disconnect/")] == [404] * 3
    assert Client().get(f"{CALLBACK}?state=x&code=y").status_code == 404
    assert (client.get(CONFIRM).status_code, client.post(CONFIRM).status_code) == (404, 404)
    assert CONFIRM not in client.get("/auth/confirm/").content.decode()
    SocialApp.objects.create(provider="openid_connect", provider_id="https://evil.example", name="Evil", client_id="x")
    assert LOGIN not in Client().get("/auth/login/").content.decode() and Client().post(LOGIN).status_code == 404, "a row is no provider"
    assert not [model for model in admin.site._registry if model._meta.app_label == "socialaccount"]


def test_the_button_is_a_form_with_the_name_of_the_setting(provider: Issuer, db: None) -> None:
    page = Client().get("/auth/login/?next=/accounts/").content.decode()
    form = page.partition(f'action="{LOGIN}"')[2].partition("</form>")[0]
    assert "Example login" in form and "csrfmiddlewaretoken" in form and 'value="/accounts/"' in form


WHOLE = {"OIDC_ISSUER": "https://login.example.com/realm/", "OIDC_CLIENT_ID": "switchboard", "OIDC_CLIENT_SECRET": "canary-of-oidc"}


def test_a_whole_configuration_is_read(tmp_path: Any) -> None:
    run = fresh_settings("settings.OIDC_ISSUER, settings.OIDC_CLIENT_SECRET, settings.OIDC_TRUST_EMAIL", **production(**WHOLE))
    assert run.stdout.strip() == "https://login.example.com/realm/ canary-of-oidc False", run.stderr
    secret = tmp_path / "secret"
    secret.write_text("canary-of-oidc\n")
    changed = WHOLE | {"OIDC_CLIENT_SECRET": "", "OIDC_CLIENT_SECRET_FILE": str(secret)}
    assert fresh_settings("settings.OIDC_CLIENT_SECRET", **changed).stdout.strip() == "canary-of-oidc"
    assert fresh_settings("settings.OIDC_ISSUER", **WHOLE | {"OIDC_ISSUER": "http://127.0.0.1:9000"}).returncode == 0, "while developing"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"OIDC_CLIENT_SECRET": ""}, "OIDC_CLIENT_SECRET (or OIDC_CLIENT_SECRET_FILE) is missing"),
        ({"OIDC_ISSUER": ""}, "OIDC_ISSUER is missing"),
        ({"OIDC_ISSUER": "", "OIDC_CLIENT_ID": "", "OIDC_CLIENT_SECRET": "", "OIDC_NAME": "Company"}, "OIDC_ISSUER is missing"),
        ({"OIDC_ISSUER": "", "OIDC_CLIENT_ID": "", "OIDC_CLIENT_SECRET": "", "OIDC_TRUST_EMAIL": "1"}, "OIDC_ISSUER is missing"),
        ({"OIDC_TRUST_EMAIL": "perhaps"}, "OIDC_TRUST_EMAIL"),
        *(
            ({"OIDC_ISSUER": text}, "write an address such as https://")
            for text in (
                "login.example.com",
                "http://login.example.com",
                "http://127.0.0.1:9000",
                "https://user@login.example.com",
                "https://login.example.com?x=1",
                "https://login.example.com/#x",
                "https://login.example.com:99999",
                "https://",
                f"https://login.example.com/{'x' * 200}",
            )
        ),
    ],
)
def test_half_a_configuration_stops_the_start_and_says_what_is_missing(changes: dict[str, str], said: str) -> None:
    run = fresh_settings("''", **production(**WHOLE | changes))
    assert run.returncode == 1 and "refused: " in run.stderr and said in run.stderr and "canary-of-oidc" not in run.stderr
