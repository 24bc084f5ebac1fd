"""Request headers as they are: what they say besides the fields, what they leave out, and what their views cut off."""

from __future__ import annotations

from accounts.copied import Loss
from accounts.providers import get_provider

from .devtools import Sent, pseudo, raw
from .test_capture import AGENT, COOKIE, GET, TOKEN, expected, headers, read


def headers_alone(sent: Sent) -> str:
    """What older versions of Firefox copied: no request line, so no path."""
    return raw(sent).partition("\n")[2]


def test_headers_without_a_request_line_say_all_but_the_path() -> None:
    found = read(headers_alone(GET))
    assert (found.values(), found.base_url, found.losses) == (expected("headers"), "https://ai.aurod.cn", ())
    own = Sent("https://chat.example.org:8443/api/user/info", headers(referer="https://chat.example.org:8443/chat"))
    assert read(raw(own)).base_url == "https://chat.example.org:8443" and read(raw(own)).provider is get_provider("aurod")
    unknown = read(headers_alone(own))
    assert unknown.refusal == "unknown" and unknown.seen["authorization"], "only its path would have told"
    assert read(headers_alone(own), provider=get_provider("aurod")).values() == expected("headers")


def test_a_scheme_that_the_headers_do_not_say_is_named_unless_something_else_tells_it() -> None:
    bare = Sent("http://127.0.0.1:8710/api/user/info", headers(referer=None))
    told = [(lost.field, lost.name, lost.loss) for lost in read(raw(bare)).losses]
    assert told == [("", "scheme", Loss.SUPPOSED)] and read(raw(bare)).base_url == "https://127.0.0.1:8710"
    assert [lost.loss for lost in read(raw(Sent(bare.url, headers(referer="https://elsewhere.example.org/")))).losses] == [Loss.SUPPOSED]
    for text in (
        pseudo(bare),
        raw(Sent(bare.url, headers(referer="http://127.0.0.1:8710/chat"))),
        raw(bare).replace("/api", "http://127.0.0.1:8710/api"),
    ):
        assert (read(text).base_url, read(text).losses) == ("http://127.0.0.1:8710", ()), text
    into = read(raw(bare), provider=get_provider("aurod"), base_url="http://127.0.0.1:8710")
    assert (into.base_url, into.losses, into.refusal) == ("http://127.0.0.1:8710", (), ""), "the account knows it"
    assert read(raw(bare), provider=get_provider("aurod"), base_url="http://127.0.0.1:8711").refusal == "wrong_host"


def test_a_value_that_the_view_has_shortened_is_reported_and_not_taken() -> None:
    short = read(raw(Sent(GET.url, headers(cookie=f"{COOKIE}; other=abc…", user_agent=AGENT[:40] + "…"))))
    assert short.fields["cookie"].reveal() == COOKIE and "user_agent" not in short.fields
    assert [(lost.field, lost.loss) for lost in short.losses] == [("user_agent", Loss.SHORTENED)]
    cut = read(raw(Sent(GET.url, headers(cookie=f"other=abc; {COOKIE[:30]}…"))))
    assert "cookie" not in cut.fields and [(lost.field, lost.loss) for lost in cut.losses] == [("cookie", Loss.SHORTENED)]
    assert read(raw(Sent(GET.url, headers(authorization=TOKEN[:50] + "…")))).refusal == "lost"


def test_a_sign_in_as_headers_is_refused_with_and_without_its_body() -> None:
    known = Sent("https://ai.aurod.cn/api/user/login", headers(authorization=None), "", "POST")
    unknown = Sent("https://unknown.example.org/login", headers(authorization=None), "", "POST")
    assert read(raw(known)).refusal == read(pseudo(known)).refusal == "login"
    for text in (raw(unknown), pseudo(unknown), pseudo(unknown, between="\n")):
        assert read(text + '\n{"password": "synthetic-password"}').refusal == "login"
        assert "synthetic-password" not in repr(read(text + '\n{"password": "synthetic-password"}'))
