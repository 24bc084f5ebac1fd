"""The platform without its processes: settings, probes, headers, HTMX conventions, signing in, logs."""

from __future__ import annotations

import base64
import json
import logging
import os
import secrets
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.test import Client, RequestFactory, override_settings
from django_htmx.middleware import HtmxDetails

from config import env
from config.htmx import HtmxLoginRedirectMiddleware, hx_toast, render_page_or_fragment
from config.logging import OneLineFormatter, logging_config, redact

ROOT = Path(__file__).resolve().parent.parent
KEY = base64.b64encode(bytes(range(32))).decode()
SECRET = "t" * 20 + secrets.token_urlsafe(40)


def fresh_settings(show: str = "''", **environment: str) -> subprocess.CompletedProcess[str]:
    """Load the settings in a process that has nothing but the given environment, and print one expression over them."""
    code = (
        "from config.env import BadSetting\n"
        "try:\n    from config import settings\n"
        "except BadSetting as error:\n    raise SystemExit(f'refused: {error}')\n"
        f"print({show})"
    )
    base = {"PATH": os.environ["PATH"], "SWITCHBOARD_DATA_DIR": str(settings.TEST_DIR / "fresh")}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=base | environment, capture_output=True, text=True, timeout=60)


def production(**changes: str) -> dict[str, str]:
    """Return a complete production environment with changes; an empty value is like a missing one."""
    return {
        "SWITCHBOARD_ENV": "production",
        "SWITCHBOARD_SECRET_KEY": SECRET,
        "SWITCHBOARD_ENCRYPTION_KEYS": KEY,
        "SWITCHBOARD_ALLOWED_HOSTS": "switchboard.example",
        **changes,
    }


# --- Readers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read", "advice"),
    [
        ("maybe", lambda: env.env_bool("X", False), "write 1 or 0"),
        ("8e3", lambda: env.env_int("X", 1, minimum=1, maximum=9), "whole number from 1 to 9"),
        ("10", lambda: env.env_int("X", 1, minimum=1, maximum=9), "whole number from 1 to 9"),
        ("443,-1", lambda: env.env_int_list("X", minimum=1, maximum=65535), "separated by commas"),
        ("٤٤٣", lambda: env.env_int_list("X", minimum=1, maximum=65535), "separated by commas"),
        ("prod", lambda: env.env_choice("X", ("development", "production"), "development"), "one of development, production"),
        ("10.0.0.1/8", lambda: env.env_networks("X"), "10.0.0.0/8"),
        ("loopback", lambda: env.env_networks("X"), "10.0.0.0/8"),
    ],
)
def test_a_bad_value_is_refused_with_what_to_write(monkeypatch: pytest.MonkeyPatch, text: str, read: Any, advice: str) -> None:
    monkeypatch.setenv("X", text)
    with pytest.raises(env.BadSetting, match=advice) as caught:
        read()
    assert str(caught.value).startswith("X ")


def test_good_values_and_empty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for word, value in (("1", True), ("Yes", True), ("off", False), ("0", False), ("", True)):
        monkeypatch.setenv("X", word)
        assert env.env_bool("X", True) is value
    monkeypatch.setenv("X", " a, b ,,c ")
    assert env.env_list("X") == ["a", "b", "c"]
    monkeypatch.setenv("X", "Production")
    assert env.env_choice("X", ("development", "production"), "development") == "production"
    monkeypatch.setenv("X", "127.0.0.0/8, fd00::/8")
    assert env.env_networks("X") == ["127.0.0.0/8", "fd00::/8"]
    monkeypatch.setenv("X", "")
    assert env.env_int("X", 7, minimum=1, maximum=9) == 7
    assert env.env_list("X", ["d"]) == ["d"]


def test_a_secret_comes_from_the_variable_or_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-file\n")
    monkeypatch.setenv("X_FILE", str(file))
    assert env.env_secret("X") == "from-file"
    monkeypatch.setenv("X", "direct")
    with pytest.raises(env.BadSetting, match="keep one of them"):
        env.env_secret("X")
    monkeypatch.delenv("X")
    file.write_text(" \n")
    with pytest.raises(env.BadSetting, match="is empty"):
        env.env_secret("X")
    monkeypatch.setenv("X_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(env.BadSetting, match="No such file"):
        env.env_secret("X")


@pytest.mark.parametrize("text", ["short", base64.b64encode(b"x" * 31).decode(), "!" * 44, f"{KEY},{KEY}"])
def test_a_key_that_cannot_be_used_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(env.BadSetting) as caught:
        env.key_ring("KEYS", text)
    assert text.partition(",")[0] not in str(caught.value)


def test_keys_keep_their_order_and_both_alphabets_are_read() -> None:
    first, second = bytes([251] * 32), bytes(range(32))
    ring = env.key_ring("KEYS", f"{base64.urlsafe_b64encode(first).decode()}, {base64.b64encode(second).decode()}")
    assert [base64.b64decode(key, validate=True) for key in ring] == [first, second]


def test_a_secret_made_by_many_at_once_is_one_secret(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    barrier = threading.Barrier(8)
    kept: list[str] = []

    def make(number: int) -> None:
        barrier.wait()
        kept.append(env.keep_once(path, f"secret-{number}"))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 8
    assert len(set(kept)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]


# --- Settings --------------------------------------------------------------------------------------------------------


def test_an_empty_environment_is_a_development_installation_that_keeps_its_secrets(tmp_path: Path) -> None:
    show = "[settings.SECRET_KEY, *settings.ENCRYPTION_KEYS, settings.PRODUCTION, settings.DEBUG, settings.REDIS_EMBEDDED]"
    runs = [fresh_settings(show, SWITCHBOARD_DATA_DIR=str(tmp_path / "var")) for _ in range(2)]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.endswith("False, False, True]\n")
    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700
    for name in ("secret_key", "encryption_keys"):
        assert stat.S_IMODE((tmp_path / "var" / name).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"SWITCHBOARD_SECRET_KEY": ""}, "SWITCHBOARD_SECRET_KEY"),
        ({"SWITCHBOARD_SECRET_KEY": "a" * 80}, "SWITCHBOARD_SECRET_KEY"),
        ({"SWITCHBOARD_ENCRYPTION_KEYS": ""}, "SWITCHBOARD_ENCRYPTION_KEYS"),
        ({"SWITCHBOARD_SECRET_KEY": KEY + KEY[:10], "SWITCHBOARD_ENCRYPTION_KEYS": "x"}, "SWITCHBOARD_ENCRYPTION_KEYS"),
        ({"SWITCHBOARD_ALLOWED_HOSTS": ""}, "SWITCHBOARD_ALLOWED_HOSTS"),
        ({"SWITCHBOARD_ALLOWED_HOSTS": "*"}, "SWITCHBOARD_ALLOWED_HOSTS"),
        ({"SWITCHBOARD_DEBUG": "1"}, "SWITCHBOARD_DEBUG"),
        ({"DATABASE_URL": "mysql://h/d"}, "DATABASE_URL"),
        ({"DATABASE_URL": "nonsense://h/d"}, "DATABASE_URL"),
        ({"REDIS_URL": "memcached://h"}, "REDIS_URL"),
        ({"SWITCHBOARD_EGRESS_ALLOW_CIDRS": "everything"}, "SWITCHBOARD_EGRESS_ALLOW_CIDRS"),
        ({"SWITCHBOARD_SYNC_INTERVAL": "0"}, "SWITCHBOARD_SYNC_INTERVAL"),
        ({"SWITCHBOARD_JOBS_KEPT_DAYS": "0"}, "SWITCHBOARD_JOBS_KEPT_DAYS"),
    ],
)
def test_production_refuses_to_start(changes: dict[str, str], names: str) -> None:
    run = fresh_settings(**production(**changes))
    assert run.returncode == 1
    assert run.stderr.startswith("refused: ")
    assert names in run.stderr


def test_the_encryption_key_must_not_be_the_secret_key() -> None:
    run = fresh_settings(SWITCHBOARD_SECRET_KEY=KEY, SWITCHBOARD_ENCRYPTION_KEYS=KEY)
    assert run.stderr.startswith("refused: ")
    assert "must differ" in run.stderr


def test_production_starts_with_secrets_from_files_and_hardened_cookies(tmp_path: Path) -> None:
    for name, value in (("secret", SECRET), ("keys", f"{KEY},{base64.b64encode(b'o' * 32).decode()}")):
        (tmp_path / name).write_text(value)
    changes = {
        "SWITCHBOARD_SECRET_KEY": "",
        "SWITCHBOARD_ENCRYPTION_KEYS": "",
        "SWITCHBOARD_SECRET_KEY_FILE": str(tmp_path / "secret"),
        "SWITCHBOARD_ENCRYPTION_KEYS_FILE": str(tmp_path / "keys"),
        "DATABASE_URL": "postgres://u:p@db/switchboard",
        "REDIS_URL": "rediss://:pw@redis:6379/2",
        "SWITCHBOARD_TRUST_PROXY": "1",
    }
    names = [
        "SECRET_KEY",
        "ENCRYPTION_KEYS",
        "SESSION_COOKIE_NAME",
        "CSRF_COOKIE_NAME",
        "SESSION_COOKIE_SECURE",
        "CSRF_COOKIE_SECURE",
        "SESSION_COOKIE_HTTPONLY",
        "SESSION_COOKIE_SAMESITE",
        "SECURE_SSL_REDIRECT",
        "SECURE_HSTS_SECONDS",
        "CELERY_BROKER_URL",
        "REDIS_EMBEDDED",
        "ALLAUTH_TRUSTED_PROXY_COUNT",
        "DATABASES",
    ]
    run = fresh_settings(f"__import__('json').dumps([getattr(settings, name) for name in {names}])", **production(**changes))
    assert run.returncode == 0, run.stderr
    found = dict(zip(names, json.loads(run.stdout), strict=True))
    assert found["SECRET_KEY"] == SECRET
    assert len(found["ENCRYPTION_KEYS"]) == 2
    assert found["ENCRYPTION_KEYS"][0] == KEY
    assert (found["SESSION_COOKIE_NAME"], found["CSRF_COOKIE_NAME"]) == ("__Host-sessionid", "__Host-csrftoken")
    assert found["SESSION_COOKIE_SECURE"] and found["CSRF_COOKIE_SECURE"] and found["SESSION_COOKIE_HTTPONLY"] and found["SECURE_SSL_REDIRECT"]
    assert found["SESSION_COOKIE_SAMESITE"] == "Lax"
    assert found["SECURE_HSTS_SECONDS"] >= 31536000
    assert found["CELERY_BROKER_URL"] == "rediss://:pw@redis:6379/2"
    assert found["REDIS_EMBEDDED"] is False
    assert found["ALLAUTH_TRUSTED_PROXY_COUNT"] == 1
    assert found["DATABASES"]["default"]["ENGINE"] == "django.db.backends.postgresql"
    assert found["DATABASES"]["default"]["ATOMIC_REQUESTS"] is False


@pytest.mark.django_db
def test_production_answers_probes_over_http_and_pages_over_https_only() -> None:
    code = (
        "import django, json\ndjango.setup()\nfrom django.test import Client\nfrom django.conf import settings\n"
        # Collecting the files takes long and has a check of its own.
        "settings.STORAGES['staticfiles']['BACKEND'] = 'django.contrib.staticfiles.storage.StaticFilesStorage'\n"
        "host = {'host': 'switchboard.example'}\n"
        "probe = Client().get('/healthz', headers={'host': '10.1.2.3'})\n"
        "plain = Client().get('/auth/login/', headers=host)\n"
        "page = Client().get('/auth/login/', headers={**host, 'x-forwarded-proto': 'https'})\n"
        "foreign = Client().get('/auth/login/', headers={'host': 'evil.example', 'x-forwarded-proto': 'https'})\n"
        "print(json.dumps([probe.status_code, plain.status_code, plain['Location'], page.status_code, page['Strict-Transport-Security'],"
        " page.cookies.output(), foreign.status_code]))"
    )
    environment = {**os.environ, **production(), "SWITCHBOARD_TRUST_PROXY": "1"}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    probe, plain, location, page, hsts, cookies, foreign = json.loads(run.stdout)
    assert (probe, plain, location, page, foreign) == (200, 301, "https://switchboard.example/auth/login/", 200, 400)
    assert "max-age=31536000" in hsts
    assert cookies.startswith("Set-Cookie: __Host-csrftoken=")
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert attribute in cookies


def test_a_long_data_directory_moves_the_socket_where_it_fits(tmp_path: Path) -> None:
    for folder in (tmp_path / ("x" * 120), tmp_path / "with blank"):
        run = fresh_settings("settings.REDIS_SOCKET", SWITCHBOARD_DATA_DIR=str(folder))
        assert run.returncode == 0, run.stderr
        socket = run.stdout.strip()
        assert len(socket.encode()) <= 107
        assert not socket.startswith(str(folder))


def test_a_bad_setting_is_one_line_on_the_command_line() -> None:
    run = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env={**os.environ, "SWITCHBOARD_PORT": "http"}, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    assert run.stderr == "error: SWITCHBOARD_PORT is 'http': write a whole number from 1 to 65535.\n"


@pytest.mark.django_db
def test_sqlite_runs_with_the_measured_pragmas() -> None:
    if connection.vendor != "sqlite":
        assert connection.settings_dict["OPTIONS"]["connect_timeout"] == 5
        return
    expected = {
        "journal_mode": "wal",
        "synchronous": 1,
        "cache_size": -4096,
        "mmap_size": 0,
        "temp_store": 2,
        "journal_size_limit": 67108864,
    }
    with connection.cursor() as cursor:
        found = {name: cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in expected}
    assert found == expected
    assert connection.transaction_mode == "IMMEDIATE"


# --- Cache -----------------------------------------------------------------------------------------------------------


def test_the_cache_counts_and_holds_json_only(redis_client: redis.Redis) -> None:
    cache.set("n", 1)
    assert cache.incr("n") == 2
    cache.set("v", {"时": [1, "二", None, True]})
    assert cache.get("v") == {"时": [1, "二", None, True]}
    assert cache.get("missing", "default") == "default"
    with pytest.raises(TypeError):
        cache.set("o", object())
    # Broker and limiter live elsewhere: emptying the cache must not empty the queue.
    redis_client.set("queued", 1)
    cache.clear()
    assert redis_client.get("queued") == b"1"
    assert cache.get("v") is None


# --- Probes ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_probes_answer_strangers_on_any_host(client: Client) -> None:
    answer = client.get("/healthz", headers={"host": "10.1.2.3"})
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
    answer = client.get("/readyz", headers={"host": "10.1.2.3"})
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cache-Control"] == "no-store"
    assert client.post("/readyz").status_code == 405


@pytest.mark.django_db
def test_readyz_names_redis_when_it_is_down(client: Client, tmp_path: Path) -> None:
    with override_settings(REDIS_URL=f"unix://{tmp_path}/none.sock?db=0"):
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "down": ["redis"]})
    assert client.get("/healthz").status_code == 200


def test_readyz_names_a_database_that_is_down_and_one_that_is_not_migrated(tmp_path: Path) -> None:
    code = (
        "import django\ndjango.setup()\nfrom django.test import Client\n"
        "answer = Client().get('/readyz')\nprint(answer.status_code, answer.content.decode())"
    )

    def ask(url: str) -> str:
        environment = {**os.environ, "DATABASE_URL": url}
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in run.stderr
        return run.stdout.strip()

    # Port 1 of loopback: nobody listens there.
    assert ask("postgres://u:p@127.0.0.1:1/none") == '503 {"status": "unavailable", "down": ["database"]}'
    assert ask(f"sqlite:///{tmp_path}/empty.sqlite3") == '503 {"status": "unavailable", "down": ["migrations"]}'


@pytest.mark.parametrize(("query", "threshold"), [("", 5), ("?prepare_threshold=none", None), ("?prepare_threshold=2", 2)])
def test_statements_are_prepared_unless_the_address_of_the_database_says_otherwise(query: str, threshold: int | None) -> None:
    from config.settings import _database

    assert _database(f"postgres://u:p@db/switchboard{query}")["OPTIONS"]["prepare_threshold"] == threshold


# --- Headers and signing in ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_pages_carry_the_security_headers(client: Client) -> None:
    answer = client.get("/auth/login/")
    policy = {part.split()[0]: part.split()[1:] for part in answer["Content-Security-Policy"].split(";")}
    assert policy == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "manifest-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"


@pytest.mark.django_db
def test_strangers_are_sent_to_sign_in_and_sign_up_is_closed(client: Client) -> None:
    chain = client.get("/admin/", follow=True).redirect_chain
    assert chain[-1][0].partition("?")[0] == "/auth/login/", "the admin site has no sign-in form of its own"
    answer = client.post("/auth/signup/", {"email": "new@example.com", "password1": "correct horse 12", "password2": "correct horse 12"})
    assert answer.status_code == 200
    assert not get_user_model().objects.filter(email="new@example.com").exists()


@pytest.mark.django_db
def test_pages_of_a_signed_in_person_are_not_kept(client: Client) -> None:
    client.force_login(get_user_model().objects.create_user(email="a@example.com", password="correct horse 12"))
    answer = client.get("/auth/password/")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store, private"


@pytest.mark.django_db
def test_the_session_is_a_new_one_after_signing_in_by_email() -> None:
    get_user_model().objects.create_user(email="a@example.com", password="correct horse 12")
    client = Client()
    client.get("/auth/login/")
    client.cookies[settings.SESSION_COOKIE_NAME] = "planted"
    answer = client.post("/auth/login/", {"login": "A@example.com", "password": "correct horse 12"})
    assert answer.status_code == 302
    assert client.cookies[settings.SESSION_COOKIE_NAME].value not in ("", "planted")


@pytest.mark.django_db
def test_failed_sign_ins_are_limited_alike_for_known_and_unknown_accounts() -> None:
    get_user_model().objects.create_user(email="known@example.com", password="correct horse 12")

    def attempts(email: str, address: str) -> list[str]:
        texts = []
        for number in range(6):
            # A new client and an invented forwarding header each time: neither resets the count.
            answer = Client().post(
                "/auth/login/",
                {"login": email, "password": "wrong"},
                REMOTE_ADDR=address,
                headers={"x-forwarded-for": f"203.0.113.{number}"},
            )
            form = answer.context["form"] if answer.context and "form" in answer.context else None
            texts.append(f"{answer.status_code} {form.errors.as_json() if form else ''}")
        return texts

    known, unknown = attempts("known@example.com", "198.51.100.1"), attempts("unknown@example.com", "198.51.100.2")
    assert known == unknown
    assert known[0] != known[5], "the sixth attempt is refused for another reason than the first"
    blocked = Client().post("/auth/login/", {"login": "known@example.com", "password": "correct horse 12"}, REMOTE_ADDR="198.51.100.9")
    assert blocked.status_code != 302, "the right password does not help while the account is limited"


@pytest.mark.django_db
def test_an_unsafe_request_needs_a_token() -> None:
    strict = Client(enforce_csrf_checks=True)
    assert strict.post("/auth/login/", {"login": "a@example.com", "password": "x"}).status_code == 403
    assert strict.post("/i18n/language/", {"language": "zh-hans"}).status_code == 403


@pytest.mark.django_db
def test_strangers_may_choose_their_language(client: Client) -> None:
    answer = client.post("/i18n/language/", {"language": "zh-hans", "next": "/auth/login/"})
    assert answer["Location"] == "/auth/login/"
    assert client.get("/auth/login/")["Content-Language"] == "zh-hans"


# --- HTMX ------------------------------------------------------------------------------------------------------------


def htmx_request(path: str = "/x", **headers: str) -> HttpRequest:
    """Return a request as the middleware of django-htmx leaves it."""
    request = RequestFactory().get(path, headers=headers)
    request.htmx = HtmxDetails(request)  # type: ignore[attr-defined]
    return request


@pytest.mark.parametrize(
    ("headers", "fragment"),
    [
        ({}, False),
        ({"HX-Request": "true"}, True),
        ({"HX-Request": "true", "HX-History-Restore-Request": "true"}, False),
        ({"HX-Request": "true", "HX-Boosted": "true"}, False),
    ],
)
def test_one_url_gives_page_or_fragment(headers: dict[str, str], fragment: bool) -> None:
    answer = render_page_or_fragment(htmx_request(**headers), "404.html", "_state.html", {"exception": "x"}, status=422)
    assert answer.status_code == 422
    assert ("<html" not in answer.content.decode()) is fragment
    assert "HX-Request" in answer["Vary"]


def test_vary_is_added_to_what_is_there() -> None:
    answer = render_page_or_fragment(htmx_request(), "404.html", "_state.html", {})
    answer["Vary"] += ", Cookie"
    assert {"HX-Request", "HX-History-Restore-Request", "Cookie"} <= {part.strip() for part in answer["Vary"].split(",")}


@pytest.mark.parametrize(
    ("current", "back"),
    [
        ("http://testserver/conversations/?q=周报&page=2", "/conversations/?q=%E5%91%A8%E6%8A%A5&page=2"),
        ("https://evil.example/steal", "/"),
        ("", "/"),
    ],
)
def test_a_sign_in_redirect_moves_the_whole_page_and_comes_back_to_it(current: str, back: str) -> None:
    from urllib.parse import parse_qs, quote, urlsplit

    headers = {"HX-Request": "true", "HX-Current-URL": quote(current, safe=":/?&="), "Host": "testserver"}
    redirect = HttpResponseRedirect("/auth/login/?next=/fragment/7/")
    answer = HtmxLoginRedirectMiddleware(lambda request: redirect)(htmx_request(**headers))
    assert answer.status_code == 200
    assert answer.content == b""
    target = urlsplit(answer["HX-Redirect"])
    assert target.path == "/auth/login/"
    assert parse_qs(target.query) == {"next": [quote(parse_qs(f"x={quote(back)}")["x"][0], safe="/?&=%")]}
    assert not answer.has_header("Location")


def test_other_redirects_and_other_requests_stay_as_they_are() -> None:
    elsewhere = HttpResponseRedirect("/conversations/")
    assert HtmxLoginRedirectMiddleware(lambda request: elsewhere)(htmx_request(**{"HX-Request": "true"})) is elsewhere
    to_login = HttpResponseRedirect("/auth/login/")
    assert HtmxLoginRedirectMiddleware(lambda request: to_login)(htmx_request()) is to_login


@pytest.mark.django_db
def test_a_stranger_inside_an_htmx_request_meets_the_redirect(client: Client) -> None:
    answer = client.get("/auth/password/", headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/somewhere/"})
    assert (answer.status_code, answer["HX-Redirect"]) == (200, "/auth/login/?next=/somewhere/")


def test_a_toast_travels_as_ascii_json() -> None:
    answer = hx_toast(HttpResponse(status=204), "已改名：周报", "warning", undo_url="/undo/1/")
    raw = answer["HX-Trigger"]
    assert raw.isascii()
    assert json.loads(raw) == {"toast": {"message": "已改名：周报", "level": "warning", "undo_url": "/undo/1/"}}
    with pytest.raises(ValueError, match="toast level"):
        hx_toast(HttpResponse(), "x", "loud")


# --- Logs ------------------------------------------------------------------------------------------------------------

PLAIN = "s3cr3tvalue0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    [
        f"used sk-{PLAIN} today",
        f"used ak-{PLAIN} today",
        f"eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyIjoi{PLAIN}.{PLAIN}",
        f"LTAI5t{PLAIN}",
        f"Authorization: {PLAIN}",
        f"authorization: Bearer {PLAIN}",
        f"{{'Authorization': 'Bearer {PLAIN}', 'x': 1}}",
        f'{{"authorization":"{PLAIN}"}}',
        f"('cookie', 'server_name_session={PLAIN}; b=2')",
        f"Cookie: a=1; b={PLAIN}; c=3",
        f"Set-Cookie: sessionid={PLAIN}; HttpOnly",
        f"GET https://api.example/token?api_key={PLAIN}&user_id=u",
        f"GET https://api.example/x?access_token={PLAIN}",
        f"Signature={PLAIN},SignedHeaders=host",
        f'{{"password": "{PLAIN}"}}',
        f'{{"access_key_secret":"a\\"b{PLAIN}"}}',
        f"AccessKeySecret={PLAIN}",
        f"api_key='{PLAIN}'",
        f"postgres://user:{PLAIN}@db/name",
        f"redis://:{PLAIN}@redis:6379/0",
        f"bytes: {{b'authorization': b'{PLAIN}'}}",
    ],
)
def test_a_log_line_masks_secrets(text: str) -> None:
    assert PLAIN not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "account 7: 12 conversations, 3 tokens used",
        "GET /conversations/?q=x 200",
        "maxToken is 4096",
        "model sk-learn",
        "周报 renamed",
        "http://localhost:8000/",
    ],
)
def test_a_log_line_keeps_what_is_no_secret(text: str) -> None:
    assert redact(text) == text


def test_an_exception_is_one_redacted_line() -> None:
    try:
        raise ValueError(f"refused\nAuthorization: Bearer {PLAIN}\r\nforged line")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "call of %s failed", (f"sk-{PLAIN}",), sys.exc_info())
    line = OneLineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s").format(record)
    assert PLAIN not in line
    assert line.isprintable()
    assert "forged line" in line
    assert "ERROR x call of sk-*** failed" in line
    assert "Traceback" in line


def test_every_logger_ends_in_the_one_redacting_handler() -> None:
    config = logging_config("INFO")
    assert list(config["handlers"]) == ["stderr"]
    assert config["formatters"]["line"]["()"] is OneLineFormatter
    assert all(not logger.get("handlers") and logger.get("propagate", True) for logger in config["loggers"].values())
