"""S20: one event per line, secrets redacted, in exception texts too; pages of people are not kept; dependencies are locked, and audited or not."""

from __future__ import annotations

import http.server
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from config.logging import OneLineFormatter
from tests.accounts.support import HTMX
from tests.conftest import ROOT

from .walk import address, names

SECRETS = {
    "bearer": "Authorization: Bearer abcdef0123456789",
    "cookie": "Cookie: session=abcdef0123456789; other=1",
    "JWT": "eyJhbGciOi.eyJzdWIiOiIx.abcdef0123456789",
    "API key": "the key sk-abcdef0123456789 was refused",
    "access key": "LTAIabcdef0123456789",
    "JSON field": '{"access_token": "abcdef0123456789"}',
    "query": "GET /x?token=abcdef0123456789&page=1",
    "user of a URL": "redis://:abcdef0123456789@host:6379/0",
    "password": "password='abcdef0123456789'",
}


def logged(message: str, *arguments: object, error: BaseException | None = None) -> str:
    record = logging.LogRecord("x", logging.ERROR, "f", 1, message, arguments, (type(error), error, error.__traceback__) if error else None)
    return OneLineFormatter("%(levelname)s %(message)s").format(record)


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_s20_a_secret_is_redacted_in_message_argument_and_exception(text: str) -> None:
    assert "abcdef" not in logged(text.replace("%", "%%")) and "abcdef" not in logged("%s", text) and "abcdef" not in logged("%r", {"x": text})
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        assert "abcdef" not in logged("it broke", error=error)


def test_s20_one_event_is_one_line_whatever_is_in_it() -> None:
    forged = "name\n2026-01-01 INFO admin signed in\r\x1b[2J\u2028\x85\x0b"
    try:
        raise ValueError(forged)
    except ValueError as error:
        line = logged("%s", forged, error=error)
    assert line.isprintable() and len(line.splitlines()) == 1


def test_s20_pages_of_signed_in_people_are_kept_by_no_cache(place, client) -> None:
    for name in names():
        if name == "account_logout":
            continue
        for headers in ({}, HTMX):
            answer = client.get(address(place, name), headers=headers)
            assert "no-store" in answer.headers["Cache-Control"] and "private" in answer.headers["Cache-Control"], name


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_s20_every_dependency_is_locked_with_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / lock).read_text(encoding="utf-8"))
    pinned = [entry for entry in entries if not entry.startswith("#")]
    assert len(pinned) > 20
    assert [entry.splitlines()[0] for entry in pinned if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_s20_vendored_files_are_those_of_their_checksums(tmp_path) -> None:
    copy = tmp_path / "copy"
    (copy / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/vendor", copy / ".ci/vendor")
    shutil.copytree(ROOT / "static/vendor", copy / "static/vendor")

    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, copy / ".ci/vendor", "--check"], capture_output=True, text=True, timeout=60, check=False)

    assert check().returncode == 0
    changed = copy / "static/vendor/tabler/tabler.min.js"
    changed.write_bytes(changed.read_bytes() + b"//")
    (copy / "static/vendor/more.js").write_text("x")
    told = check()
    assert told.returncode == 1 and "tabler.min.js: changed" in told.stderr and "more.js: not listed" in told.stderr


@contextmanager
def advisories(answer: bytes) -> Iterator[str]:
    """An advisory service on loopback that answers this to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_given: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def audit(url: str, lock: object) -> tuple[int, str]:
    environment = {**os.environ, "OSV_URL": url, "no_proxy": "*"}
    told = subprocess.run([sys.executable, ROOT / ".ci/audit", str(lock)], env=environment, capture_output=True, text=True, timeout=60, check=False)
    return told.returncode, told.stdout + told.stderr


def test_s20_an_audit_that_could_not_be_made_is_not_called_clean(tmp_path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("one==1.0 \\\n    --hash=sha256:00\ntwo[extra]==2.0\n    # via one\n")
    code, text = audit("http://127.0.0.1:1", lock)
    assert code == 2 and text.startswith("not audited") and "0 with" not in text
    for odd in (b"<html>", b"{}", json.dumps({"results": [{}]}).encode(), b"[]"):
        with advisories(odd) as url:
            assert audit(url, lock)[0] == 2, odd
    with advisories(json.dumps({"results": [{}, {}]}).encode()) as url:
        assert audit(url, lock) == (0, "audited: 2 packages, 0 with known vulnerabilities\n")
    with advisories(json.dumps({"results": [{}, {"vulns": [{"id": "GHSA-1"}]}]}).encode()) as url:
        code, text = audit(url, lock)
        assert code == 1 and "two 2.0: GHSA-1" in text
    lock.write_text("")
    assert audit("http://127.0.0.1:1", lock)[0] == 2
