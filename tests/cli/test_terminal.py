"""What every command keeps: results alone on stdout, one line of cause on stderr, exit codes, UTF-8; and `users`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from argparse import ArgumentParser

from django.core.management import load_command_class
from django.test import override_settings
from django.utils import timezone

from accounts.models import User
from conversations.models import Conversation
from tests.cli.process import ROOT
from tests.conftest import child_environment
from tests.conversations.support import synced

PRODUCT_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]  # the commands do not run on the settings of the tests
PASSWORD = "correct horse 电池 staple"


# --- users ---------------------------------------------------------------------------------------------------------------------------


def test_users_are_added_from_stdin_and_from_a_file(run, file):
    one = run("users", "add", "--email", "Owner@Example.com", "--password-file", "-", "--owner", "--json", stdin=f"{PASSWORD}\n").document
    two = run("users", "add", "--email", "bob@example.com", "--password-file", file(f"\ufeff{PASSWORD}\r\nnot the password"), "--json").document
    assert list(one) == ["id", "email", "owner", "active", "joined_at", "last_login_at"]
    assert (one["email"], one["owner"], one["active"], one["last_login_at"]) == ("owner@example.com", True, True, None)
    assert (two["email"], two["owner"]) == ("bob@example.com", False)
    with override_settings(PASSWORD_HASHERS=PRODUCT_HASHERS):
        assert User.objects.get(email="bob@example.com").check_password(PASSWORD)
    assert all(user.teams.count() == 1 for user in User.objects.all())
    assert User.objects.get(email="owner@example.com").is_superuser and not User.objects.get(email="bob@example.com").is_staff
    assert run("users", "list", "--json").lines == [one, two]
    table = run("users", "list")
    assert table.code == 0 and table.err == ""
    heading, first, _second = table.out.splitlines()
    assert heading.split() == list(one) and first.split()[1] == "owner@example.com"
    assert not any(PASSWORD in text for text in run.seen)


REFUSED_USERS = [
    ("alice@example.com", PASSWORD, "there is a user alice@example.com already"),
    ("ALICE@Example.com", PASSWORD, "there is a user alice@example.com already"),
    ("not an address", PASSWORD, "cannot be an e-mail address"),
    ("", PASSWORD, "cannot be an e-mail address"),
    ("x" * 250 + "@example.com", PASSWORD, "cannot be an e-mail address"),
    ("new@example.com", "short", "the password is not good enough"),
    ("new@example.com", "1234567890123", "the password is not good enough"),
    ("new@example.com", "new@example.com", "the password is not good enough"),
    ("new@example.com", "", "the password is not good enough"),
]


def test_users_that_cannot_be_added_are_refused(run, alice):
    for email, password, cause in REFUSED_USERS:
        assert cause in run("users", "add", "--email", email, "--password-file", "-", "--json", stdin=password).cause
    assert list(User.objects.all()) == [alice]


def test_a_password_file_that_cannot_be_read_is_wrong_usage(run, file, tmp_path):
    for path in (tmp_path / "missing", tmp_path, file(b"\xff\xfe\x00secret")):
        result = run("users", "add", "--email", "new@example.com", "--password-file", path)
        assert (result.code, result.out) == (2, "") and str(path) in result.only_line
    assert not User.objects.exists()


# --- exit codes and streams ----------------------------------------------------------------------------------------------------------


WRONG_USAGE = [
    ["accounts"],
    ["accounts", "frobnicate"],
    ["accounts", "add", "--user", "alice@example.com"],
    ["accounts", "add", "--user", "alice@example.com", "--provider", "nobody", "--label", "x", "--credentials", "-"],
    ["conversations", "list", "--limit", "0"],
    ["conversations", "show", "seven"],
    ["conversations", "configure", "1", "--set"],
    ["jobs", "start", "--user", "alice@example.com", "--action", "switch-model"],
    ["jobs", "start", "--user", "alice@example.com", "--action", "delete", "--to", "x"],
    ["jobs", "start", "--user", "alice@example.com", "--action", "set-title", "--template", "x", "--to", "y"],
    ["jobs", "start", "--user", "alice@example.com", "--action", "set-title", "--to", "y"],
    ["jobs", "start", "--user", "alice@example.com", "--action", "switch-model", "--template", "y"],
    ["jobs", "items", "1", "--status", "nonsense"],
]


def test_wrong_usage_is_2_with_nothing_on_stdout(run, alice):
    for argv in WRONG_USAGE:
        result = run(*argv)
        assert (result.code, result.out) == (2, "") and "error: " in result.err and "Traceback" not in result.err, argv


NOT_THERE = [
    (["accounts", "list", "--user", "nobody@example.com"], "there is no user nobody@example.com"),
    (["accounts", "test", "--account", "7"], "there is no account 7"),
    (["accounts", "delete", "--account", "00000000-0000-0000-0000-000000000000"], "there is no account 00000000-0000-0000-0000-000000000000"),
    (["conversations", "messages", "77"], "there is no conversation 77"),
    (["conversations", "show", "9" * 30], "there is no conversation " + "9" * 30),
    (["jobs", "show", "J-77"], "there is no job J-77"),
    (["jobs", "report", "9" * 30], "there is no job " + "9" * 30),
    (["jobs", "cancel", "²"], "there is no job ²"),
]


def test_what_is_not_there_is_1_with_one_line(run, alice):
    for argv, cause in NOT_THERE:
        for more in ([], ["--json"]):
            assert run(*argv, *more).cause == cause


def test_a_process_started_the_usual_way_says_the_same(run, alice):
    assert run("jobs", "show", "77", "--json", cold=True).cause == "there is no job 77"


def test_log_lines_stay_away_unless_they_are_asked_for(run, connected):
    simulator, account = connected("aurod", populate=3)
    simulator.add_fault("html200", path="/api/chat/tmpl", times=99)  # where the models are
    quiet = run("conversations", "sync", "--account", account.pk, "--json", cold=True)
    assert quiet.lines[0]["listed"] == 3
    loud = run("conversations", "-v", "2", "sync", "--account", account.pk, "--json")
    assert loud.code == 0 and json.loads(loud.out)["listed"] == 3
    assert "WARNING conversations.mirror" in loud.err  # there was something to say


def test_a_reader_that_goes_away_early_is_no_error(run, connected):
    _simulator, account = connected("aurod", populate=1)
    now = timezone.now()
    Conversation.objects.bulk_create(
        Conversation(account=account, remote_id=f"r{n}", title="标题" * 40, sort_at=now, first_seen_at=now, seen_at=now) for n in range(1500)
    )
    command = f"{shlex.quote(sys.executable)} manage.py conversations list --json | head -n 1"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, env=child_environment(), capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["account"] == str(account.pk) and done.stderr == ""


def test_output_is_utf_8_whatever_the_locale(run, connected):
    _simulator, account = connected("chongzhiling", populate=2, label="宠物诊所 🐶")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run("accounts", "list", "--json", cold=True, **ascii_only).lines[0]["label"] == "宠物诊所 🐶"
    assert run("accounts", "test", "--account", account.pk).out.splitlines()[2] == "label: 宠物诊所 🐶"


def test_titles_cannot_steer_the_terminal_and_columns_stand_below_each_other(run, connected):
    _simulator, account = connected("aurod", populate=1)
    now = timezone.now()
    for number, title in enumerate(["\x1b[31mred\x07", "中文标题" * 20, "two\nlines"]):
        Conversation.objects.create(account=account, remote_id=str(number), title=title, sort_at=now, first_seen_at=now, seen_at=now)
    result = run("conversations", "list")
    assert result.code == 0 and "\x1b" not in result.out and "\x07" not in result.out
    heading, *rows = result.out.splitlines()
    assert len(rows) == 3 and heading.split() == ["id", "account", "remote_id", "title", "model", "updated_at", "message_count"]
    at = heading.index("title")
    assert [row[at:].split("  ")[0] for row in rows] == ["two lines", "中文标题" * 7 + "中…", r"\x1b[31mred\x07"]


def test_a_database_that_is_not_there_is_one_line(run, tmp_path):
    result = run("conversations", "list", "--json", cold=True, DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
    assert "migrate" in result.cause


def test_redis_that_is_not_there_is_one_line(run, connected):
    _simulator, account = connected("aurod", populate=1)
    began = time.monotonic()
    result = run("accounts", "test", "--account", account.pk, "--json", cold=True, REDIS_URL="redis://127.0.0.1:1/0")
    assert "Redis" in result.cause
    assert time.monotonic() - began < 30


def test_a_secret_in_an_error_text_is_masked(run, connected):
    _simulator, account = connected("aurod", populate=2)
    one = synced(account).conversations.first()
    cause = run("conversations", "configure", one.pk, "--set", "sk-abcdef0123456789=pasted into the wrong place").cause
    assert "There is no such setting here: sk-***" in cause and "abcdef" not in cause


# --- the reference -------------------------------------------------------------------------------------------------------------------


def test_the_reference_knows_every_command_and_option():
    text = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    for app, name in (("accounts", "users"), ("accounts", "accounts"), ("conversations", "conversations"), ("conversations", "jobs")):
        command = load_command_class(app, name)
        for subcommand in command.subcommands:
            heading = f"### {name} {subcommand}\n"
            assert heading in text
            section = text.split(heading)[1].split("\n#")[0]
            assert f"$ python manage.py {name} {subcommand}" in section, heading
            parser = ArgumentParser()
            getattr(command, f"add_{subcommand}")(parser)
            options = {option for action in parser._actions for option in action.option_strings if option.startswith("--")} - {"--help"}
            assert {option for option in options if option not in section} == set(), heading
