"""Reading what people paste: every form of every browser, what a form loses, whose it is, and why something is refused."""

from __future__ import annotations

import base64
import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts import capture, copied
from accounts.copied import Form, Loss
from accounts.providers import all_providers, get_provider

from .devtools import FORMS, JOINED, NEVER_SAID, Sent, cmd_now

NOW = datetime(2026, 1, 20, tzinfo=UTC)
AGENT = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/145.0.0.0 Safari/537.36 Edg/145.0.0.0"
COOKIE = "server_name_session=" + "0123456789abcdef" * 2


def jwt(**claims: Any) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    head, body = (base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{body}.c3ludGhldGljLXNpZ25hdHVyZS1ub3QtcmVhbA"


TOKEN = jwt(userId=10001, sign="0123456789abcdef0123456789abcdef", role="user", exp=1769904000, nbf=1767225600, iat=1767225600)
SESSION = {"id": 500123, "name": "周报整理", "model": "gpt-5-chat", "prompt": "你是一位可靠的助手。\n回答要简洁!'", "icon": "50%off", "plugins": []}


def headers(*more: tuple[str, str], **changed: str | None) -> tuple[tuple[str, str], ...]:
    """The headers of a request of aurod's pages."""
    rows = {
        "accept": "application/json, text/plain, */*",
        "authorization": TOKEN,
        "content-type": "application/json",
        "cookie": f"theme=dark; {COOKIE}; Hm_lvt_1=17000",
        "referer": "https://ai.aurod.cn/chat",
        "sec-ch-ua": '"Not:A-Brand";v="99", "Chromium";v="145"',
        "sec-ch-ua-mobile": "?0",
        "user-agent": AGENT,
        "x-app-version": "2.14.0",
    }
    rows |= {name.replace("_", "-"): value for name, value in changed.items()}  # type: ignore[misc]
    return (*((name, value) for name, value in rows.items() if value is not None), *more)


GET = Sent("https://ai.aurod.cn/api/notice?size=3&page=1&detail=true", headers())
PUT = Sent("https://ai.aurod.cn/api/chat/session/500123", headers(), json.dumps(SESSION, ensure_ascii=False), "PUT")
GLOB = Sent("https://ai.aurod.cn/api/chat/session/batch?ids[]=1&ids[]=2&q=%E6%96%B0", headers(), "", "DELETE")
PERCENT = Sent("https://ai.aurod.cn/api/chat/session?page=1", headers(cookie=f"ref=a%2Cb%_c; {COOKIE}"))
REQUESTS = {"get": GET, "put": PUT, "glob": GLOB, "percent": PERCENT}


def read(text: str, **more: Any) -> capture.Capture:
    return capture.read(text, now=NOW, **more)


def expected(form: str) -> dict[str, str]:
    """The credential, as far as a form carries it."""
    fields = {"token": TOKEN, "app_version": "2.14.0", "cookie": COOKIE, "user_agent": AGENT}
    names = {"cookie": "cookie", "user_agent": "user-agent"}
    return {name: value for name, value in fields.items() if names.get(name) not in NEVER_SAID.get(form, ())}


# --- every form gives the same fields -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("form", FORMS)
def test_the_same_request_in_every_form_gives_the_same_fields(form: str, kind: str) -> None:
    found = read(FORMS[form](REQUESTS[kind]))
    assert found.values() == expected(form)
    assert (found.refusal, found.provider, found.base_url) == ("", get_provider("aurod"), "https://ai.aurod.cn")
    assert found.expires_at == datetime(2026, 2, 1, tzinfo=UTC) and found.missing == ()
    told = {(lost.field, lost.loss) for lost in found.losses}
    assert told == {(name, Loss.LEFT_OUT) for name in ("cookie", "user_agent") if name not in expected(form)}


def test_the_commands_of_the_contract_are_written_and_read(recorded: dict[str, str]) -> None:
    for text in recorded.values():
        found = read(text, provider=get_provider("aurod"))
        assert found.form in (Form.CMD, Form.BASH) and found.refusal == ""
        assert found.fields["token"].reveal().startswith("eyJhbGci") and found.fields["app_version"].reveal() == "2.14.0"
    assert set(recorded) == {"cmd get", "bash put"}


@pytest.fixture
def recorded() -> dict[str, str]:
    """The examples of section 7.1 and 7.2."""
    lines = [
        'curl ^"https://ai.aurod.cn/api/notice?size=3^&page=1^&detail=true^" ^',
        '  -H ^"accept: application/json, text/plain, */*^" ^',
        f'  -H ^"authorization: {TOKEN}^" ^',
        '  -b ^"server_name_session=00000000000000000000000000000000^" ^',
        '  -H ^"referer: https://ai.aurod.cn/chat^" ^',
        '  -H ^"sec-ch-ua: ^\\^"Not:A-Brand^\\^";v=^\\^"99^\\^", ^\\^"Chromium^\\^";v=^\\^"145^\\^"^" ^',
        f'  -H ^"user-agent: {AGENT}^" ^',
        '  -H ^"x-app-version: 2.14.0^"',
    ]
    bash = [
        "curl 'https://ai.aurod.cn/api/chat/session/500123' \\",
        "  -X 'PUT' \\",
        f"  -H 'authorization: {TOKEN}' \\",
        "  -b 'server_name_session=00000000000000000000000000000000' \\",
        "  -H 'x-app-version: 2.14.0' \\",
        '  --data-raw $\'{"name":"it\\\'s done\\u0021","prompt":"你是一位可靠的助手。\\\\n回答要简洁。"}\'',
    ]
    return {"cmd get": "\n".join(lines), "bash put": "\n".join(bash)}


def test_the_encoder_writes_what_the_contract_shows() -> None:
    for original, written in {
        '{"a":1}': '^"^{^\\^"a^\\^":1^}^"',
        "[]": '^"^[^]^"',
        "%E6": '^"^%^E6^"',
        "50%off": '^"50^%^off^"',
        "新对话": '^"^ ^ ^ ^"',
        "😀": '^"^ ^ ^"',
        "a\\nb": '^"a^\\^\\nb^"',
        "a\nb": '^"a^\n\nb^"',
        "a\tb\xa0c\u3000d": '^"a b c d^"',
    }.items():
        assert cmd_now(original) == written


@pytest.mark.parametrize("form", JOINED)
def test_of_several_requests_the_first_with_a_credential_counts(form: str) -> None:
    bare = Sent("https://ai.aurod.cn/assets/app.js", headers(authorization=None, x_app_version=None))
    later = Sent("https://ai.aurod.cn/api/user/info", headers(authorization=TOKEN + "x"))
    found = read(JOINED[form].join(FORMS[form](sent) for sent in (bare, GET, later)))
    assert found.values() == expected(form) and found.requests == 3


def test_a_har_file_of_several_entries_is_read_like_that_too() -> None:
    entries = [json.loads(FORMS["har entry"](sent)) for sent in (Sent("https://ai.aurod.cn/logo.png"), GET)]
    assert read(json.dumps({"log": {"entries": entries}})).values() == expected("har")


# --- what a form loses is named, and never stored -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["新对话", "日本\u3000", "😀"])
def test_characters_that_cmd_lost_are_reported_and_the_value_is_not_taken(lost: str) -> None:
    sent = Sent(GET.url, headers(cookie=f"server_name_session=a{lost}b", user_agent=f"Mozilla {lost}"))
    found = read(FORMS["cmd"](sent))
    assert set(found.fields) == {"token", "app_version"}
    assert {(gone.field, gone.name, gone.loss) for gone in found.losses} == {
        ("cookie", "cookie", Loss.CHARACTERS),
        ("user_agent", "user-agent", Loss.CHARACTERS),
    }
    whole = read(FORMS["bash"](sent))
    assert whole.fields["cookie"].reveal() == f"server_name_session=a{lost}b" and not whole.losses


def test_a_lost_cookie_that_nobody_needs_is_named_and_the_other_one_is_whole() -> None:
    found = read(FORMS["cmd"](Sent(GET.url, headers(cookie=f"name=用户; {COOKIE}"))))
    assert found.fields["cookie"].reveal() == COOKIE
    assert [(gone.field, gone.name, gone.loss) for gone in found.losses] == [("", "cookie", Loss.CHARACTERS)]
    assert "cookie name" in found.ignored


@pytest.mark.parametrize("blank", ["\t", "\xa0", "\u3000", " "])
def test_a_blank_that_may_have_been_a_tab_is_not_stored_as_a_blank(blank: str) -> None:
    found = read(FORMS["cmd"](Sent(GET.url, headers(cookie=f"server_name_session=a{blank}b"))))
    assert "cookie" not in found.fields
    assert [(gone.field, gone.loss) for gone in found.losses] == [("cookie", Loss.BLANKS)]


def test_a_damaged_token_is_refused_for_that_reason() -> None:
    found = read(FORMS["cmd"](Sent(GET.url, headers(authorization=TOKEN[:40] + "é" + TOKEN[40:]))))
    assert found.refusal == "lost" and not found.fields


def test_old_copies_lose_only_what_does_not_fit_into_one_unit() -> None:
    text = FORMS["cmd old"](Sent(GET.url, headers(cookie="server_name_session=é", user_agent="Mozilla 😀")))
    found = read(text)
    assert found.fields["cookie"].reveal() == "server_name_session=é"
    assert [(gone.field, gone.loss) for gone in found.losses] == [("user_agent", Loss.CHARACTERS)]


# --- whose it is --------------------------------------------------------------------------------------------------------------------

CASES = [
    ("chatnio", "https://api.chatnio.net/conversation/list", {"Authorization": "Bearer sk-" + "0a" * 32}, {"secret": "sk-" + "0a" * 32}),
    ("chatnio", "https://chat.example.org/api/conversation/load?id=1", {"Authorization": TOKEN}, {"secret": TOKEN}),
    ("nuwax", "https://agents.example.org/api/v1/chat/conversation/list", {"authorization": "Bearer ak-" + "0" * 32}, {"api_key": "ak-" + "0" * 32}),
    ("nuwax", "https://nuwax.com/api/v1/agent", {"authorization": "ak-" + "0" * 32}, {"api_key": "ak-" + "0" * 32}),
    ("chongzhiling", "https://ms-ai.chongzhiling.com/api/v2.0/ai-b/session-record", {"authorization": "Bearer TOKEN-1"}, {"access_token": "TOKEN-1"}),
    (
        "chongzhiling",
        "https://ms-ai.chongzhiling.com/api/v2.0/ai-b/session-record?token=TOKEN-1&page=1",
        {},
        {"access_token": "TOKEN-1", "token_in": "query"},
    ),
    (
        "chongzhiling",
        "https://ms-ai.chongzhiling.com/token/accessToken?api_key=KEY-EXAMPLE&user_id=clinic-user-01",
        {},
        {"api_key": "KEY-EXAMPLE", "user_id": "clinic-user-01"},
    ),
    ("aurod", "https://chat.example.org:8443/api/chat/session?page=1", {"authorization": "Bearer " + TOKEN}, {"token": TOKEN}),
    ("aurod", "https://chat.example.org/api/user/info", {"authorization": TOKEN, "X-APP-VERSION": "3.4.0"}, {"token": TOKEN, "app_version": "3.4.0"}),
]


@pytest.mark.parametrize("form", ["cmd", "bash", "powershell", "fetch", "har", "headers", "headers http/2"])
@pytest.mark.parametrize(("key", "url", "rows", "fields"), CASES)
def test_every_provider_is_recognised_by_host_or_path_and_headers(
    key: str, url: str, rows: dict[str, str], fields: dict[str, str], form: str
) -> None:
    found = read(FORMS[form](Sent(url, (("accept", "*/*"), *rows.items()))))
    assert (found.provider, found.values(), found.refusal, found.missing) == (get_provider(key), fields, "", ())


def test_a_signed_request_gives_the_key_and_names_the_secret_as_missing() -> None:
    signature = "ACS3-HMAC-SHA256 Credential=LTAI5tSynthetic,SignedHeaders=host;x-acs-date,Signature=" + "0" * 64
    rows = (("authorization", signature), ("x-acs-action", "ModelRouterQueryConversationList"), ("x-acs-security-token", "STS.synthetic"))
    found = read(FORMS["bash"](Sent("https://aicontent.aliyuncs.com/api/v1/modelRouter/open/conversations", rows)))
    assert found.values() == {"access_key_id": "LTAI5tSynthetic", "security_token": "STS.synthetic"}
    assert found.missing == ("access_key_secret",)


def test_an_unknown_host_says_which_signs_are_missing() -> None:
    found = read(FORMS["bash"](Sent("https://shop.example.org/cart", headers())))
    assert (found.refusal, found.provider, found.fields) == ("unknown", None, {})
    assert found.seen == {"host": False, "path": False, "authorization": True}
    assert set(found.candidates) == set(all_providers())
    named = read(FORMS["bash"](Sent("https://shop.example.org/cart", headers())), provider=get_provider("aurod"))
    assert named.values() == expected("bash") and named.base_url == "https://shop.example.org"


def test_a_request_of_another_provider_than_the_wanted_one_is_refused() -> None:
    assert read(FORMS["cmd"](GET), provider=get_provider("nuwax")).refusal == "wrong_provider"


def test_a_request_of_another_site_than_the_account_is_refused() -> None:
    assert read(FORMS["cmd"](GET), base_url="https://chat.example.org").refusal == "wrong_host"
    assert read(FORMS["cmd"](GET), base_url="https://ai.aurod.cn:443/").refusal == ""


@pytest.mark.parametrize(
    ("text", "key", "fields"),
    [
        (TOKEN, "aurod", {"token": TOKEN}),
        (f"authorization: Bearer {TOKEN}\n", "aurod", {"token": TOKEN}),
        ("sk-" + "0f" * 32, "chatnio", {"secret": "sk-" + "0f" * 32}),
        (jwt(username="user", password="0" * 64, exp=1769904000), "chatnio", None),
        ("Bearer ak-" + "0" * 32, "nuwax", {"api_key": "ak-" + "0" * 32}),
        ("LTAI5tSyntheticKey01", "modelrouter", {"access_key_id": "LTAI5tSyntheticKey01"}),
        ('{"access_key_id": "LTAI1", "access_key_secret": "s"}', "modelrouter", {"access_key_id": "LTAI1", "access_key_secret": "s"}),
        ('{"api_key": "ak-0", "agent_ids": [88, 91]}', "nuwax", {"api_key": "ak-0", "agent_ids": "88, 91"}),
        ('{"api_key": "KEY", "user_id": 7}', "chongzhiling", {"api_key": "KEY", "user_id": "7"}),
        ('{"token": "a.b.c", "cookie": null}', "aurod", {"token": "a.b.c"}),
        ('{"secret": "sk-1", "base_url": "https://chat.example.org/x"}', "chatnio", {"secret": "sk-1"}),
    ],
)
def test_a_token_a_key_or_a_document_alone(text: str, key: str, fields: dict[str, str] | None) -> None:
    found = read(text)
    assert (found.provider, found.refusal) == (get_provider(key), "")
    assert found.form in (Form.TOKEN, Form.JSON)
    assert fields is None or found.values() == fields


def test_a_token_that_could_be_of_several_asks_and_a_named_provider_answers() -> None:
    text = jwt(sub="1", exp=1769904000)
    found = read(text)
    assert found.refusal == "unknown" and get_provider("aurod") in found.candidates and get_provider("nuwax") not in found.candidates
    assert read(text, provider=get_provider("chongzhiling")).values() == {"access_token": text}
    assert read("KEY-EXAMPLE", provider=get_provider("chongzhiling")).values() == {"api_key": "KEY-EXAMPLE"}
    assert read("KEY-EXAMPLE", provider=get_provider("nuwax")).refusal == "no_credential"


# --- refusals -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["cmd", "bash", "powershell", "fetch", "har"])
def test_a_sign_in_is_refused_and_its_password_is_nowhere(form: str) -> None:
    body = json.dumps({"account": "user@example.com", "password": "synthetic-password", "agreement": True})
    for url in ("https://ai.aurod.cn/api/user/login", "https://unknown.example.org/login"):
        found = read(FORMS[form](Sent(url, headers(authorization=None), body, "POST")))
        assert found.refusal == "login" and not found.fields
        assert "synthetic-password" not in repr(found)


def test_an_expired_token_is_refused_and_it_says_since_when() -> None:
    found = capture.read(FORMS["cmd"](GET), now=datetime(2026, 2, 1, 0, 2, tzinfo=UTC))
    assert (found.refusal, found.expires_at) == ("expired", datetime(2026, 2, 1, tzinfo=UTC))
    assert capture.read(FORMS["cmd"](GET), now=datetime(2026, 2, 1, 0, 0, 30, tzinfo=UTC)).refusal == "", "a minute of skew"


def test_a_request_without_authorization_is_refused() -> None:
    for form in ("cmd", "bash", "fetch", "har"):
        found = read(FORMS[form](Sent(GET.url, headers(authorization=None))))
        assert (found.refusal, found.fields, found.provider) == ("no_credential", {}, get_provider("aurod"))
    cookie = read(FORMS["bash"](Sent("https://nuwax.com/api/agent/conversation/list", (("cookie", "ticket=eyJ.a.b"),))))
    assert (cookie.refusal, cookie.provider) == ("no_credential", get_provider("nuwax"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty"),
        (" \r\n\t", "empty"),
        ("x" * (capture.MOST + 1), "too_long"),
        ("curl 'https://ai.aurod.cn/api/user/info' -H 'authorization: ey", "cut_off"),
        ('curl ^"https://ai.aurod.cn/api/user/info^" -H ^"authorization: ey', "cut_off"),
        ("curl --help all", "no_address"),
        ("curl ftp://ai.aurod.cn/x -o y", "no_address"),
        ("fetch(url, {headers})", "no_literal"),
        ('fetch("https://ai.aurod.cn/api/user/info", {headers: {}})', "no_literal"),
        ('$session = New-Object X\nInvoke-WebRequest -Uri "https://ai', "cut_off"),
        ("Invoke-WebRequest -Uri $url", "no_address"),
        ("{", "no_json"),
        ("[1, 2]", "no_address"),
        ("[" * 100_000, "no_json"),
        ('{"log": {"entries": []}}', "no_address"),
        (f"authorization: {TOKEN}\nx-app-version: 2.14.0", "no_host"),
        (f"GET /api/user/info HTTP/1.1\nauthorization: {TOKEN}", "no_host"),
        (f":path\n/api/user/info\nauthorization\n{TOKEN}", "unknown_form"),
        (f"Host: ai.aurod.cn\nauthorization {TOKEN}", "unknown_form"),
        ("GET /api/user/info HTTP/1.1\n\n", "unknown_form"),
        ("GET /api/user/info HTTP/1.1", "unknown_form"),
        ("host\nai.aurod.cn\nnot a name\nx", "unknown_form"),
        ("two words", "unknown_form"),
        ("line\nline", "unknown_form"),
        ("wget https://ai.aurod.cn/api/user/info", "unknown_form"),
    ],
)
def test_what_cannot_be_read_has_a_reason(text: str, code: str) -> None:
    with pytest.raises(capture.CaptureError) as refused:
        read(text)
    assert refused.value.code == code and (not text.strip() or text.strip()[:40] not in str(refused.value))


@pytest.mark.parametrize(
    "more",
    [
        "; rm -rf ~",
        " && rm -rf ~",
        " | sh",
        " -o /etc/passwd",
        " --output /etc/passwd -x http://proxy.example",
        " > /etc/passwd",
        " -K /etc/x -H @/etc/y",
    ],
)
def test_a_capture_is_only_ever_text(more: str) -> None:
    found = read(FORMS["bash"](GET) + more)
    assert found.values() == expected("bash") and found.base_url == "https://ai.aurod.cn"


@pytest.mark.parametrize("url", ["https://user:pw@ai.aurod.cn/api/user/info", "https://ai.aurod.cn:443/api/user/info?x=1#y"])
def test_of_the_address_only_scheme_host_and_port_are_kept(url: str) -> None:
    assert read(FORMS["bash"](Sent(url, headers()))).base_url == "https://ai.aurod.cn"


@pytest.mark.parametrize(
    "url", ["https://ai.aurod.cn:99999/api/user/info", "https://[::1/api/x", "https:///api/x", "https://例子.example/api/user/info"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    assert read(FORMS["bash"](Sent(url, headers()))).refusal == "address"


def test_header_rules_of_the_contract() -> None:
    text = f"curl -X POST --url 'https://ai.aurod.cn/api/user/info' -H 'x-app-version;' -H 'AUTHORIZATION: no' -H 'Authorization:  Bearer {TOKEN} '"
    found = read(text + f" -A '{AGENT}' --cookie '{COOKIE}'")
    assert found.values() == {"token": TOKEN, "cookie": COOKIE, "user_agent": AGENT}


def test_names_are_shown_only_where_they_look_like_names() -> None:
    odd = f"curl 'https://ai.aurod.cn/api/user/info?{TOKEN}=1' -H 'authorization: {TOKEN}' -H '{TOKEN}: x' -b '{TOKEN}; ok=1'"
    found = read(odd)
    assert set(found.ignored) == {"cookie ok"} and found.ignored_more == 2
    assert TOKEN[:20] not in repr(found)


def test_a_capture_does_not_print_what_it_holds() -> None:
    found = read(FORMS["cmd"](PUT))
    form, requests = copied.read(FORMS["cmd"](PUT))
    for text in (repr(found), repr(requests), str(found.fields), f"{found}", json.dumps(found.ignored)):
        assert TOKEN not in text and COOKIE not in text and "500123" not in text
    assert form is Form.CMD


# --- properties ---------------------------------------------------------------------------------------------------------------------

NAMES = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789-"), min_size=1, max_size=12).map(lambda name: "x" + name)
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).map(str.strip)
ANYTHING = st.text(
    st.one_of(
        st.characters(min_codepoint=0x20, max_codepoint=0x7E),
        st.sampled_from("\t\xa0\u3000é新对话😀\u2028\u200b"),
        st.characters(exclude_categories=["Cs", "Cc"]),
    ),
    max_size=40,
).map(str.strip)
SLOW = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def parsed(form: str, rows: dict[str, str]) -> copied.Request:
    _form, requests = copied.read(FORMS[form](Sent("https://ai.aurod.cn/api/user/info", tuple(rows.items()))))
    assert len(requests) == 1 and requests[0].url == "https://ai.aurod.cn/api/user/info"
    return requests[0]


@pytest.mark.parametrize("form", FORMS)
def test_any_printable_headers_come_back_equal(form: str) -> None:
    @SLOW
    @given(st.dictionaries(NAMES, PRINTABLE, max_size=5))
    @example({"xa": "\\", "xb": 'a"', "xc": '\\"', "xd": "\\\\", "xe": "50%off %E6 %% ^^ ^", "xf": "{[()]}`$!'|&<>#@", "xg": 'a\\ b" ^ c'})
    @example({"xa": "^$"})
    @example({"xa": 'W/"abc"', "xb": "--data-raw", "xc": "' -H 'x: y", "xd": "$(whoami) $x `id`", "xe": "a;b;", "xf": ""})
    def same(rows: dict[str, str]) -> None:
        if form == "cmd very old":  # the contract says nothing of a caret there: what it is cannot be told
            rows = {name: value.replace("^", "") for name, value in rows.items()}
        found = parsed(form, rows)
        assert {header.name: header.value for header in found.headers if header.name.startswith("x")} == {n: v.strip() for n, v in rows.items()}

    same()


@pytest.mark.parametrize("form", FORMS)
def test_any_other_characters_come_back_equal_or_are_reported_lost(form: str) -> None:
    @SLOW
    @given(st.dictionaries(NAMES, ANYTHING, max_size=5))
    @example({"xa": "a\tb", "xb": "新 对", "xc": "é", "xd": "😀", "xe": "a\xa0b\u3000c"})
    def same_or_told(rows: dict[str, str]) -> None:
        if form == "cmd very old":
            rows = {name: value.replace("^", "") for name, value in rows.items()}
        found = parsed(form, rows)
        for name, value in rows.items():
            header = found.header(name)
            assert header is not None and (header.value == value.strip(" \t") or header.loss is not None), (name, value, header.value)

    same_or_told()


PIECES = st.sampled_from(
    [
        "curl ",
        'curl ^"',
        "'",
        '"',
        '^"',
        "^",
        "\\",
        "\n",
        "\r\n",
        " ^\n",
        " \\\n",
        "$'",
        "-H ",
        "-b ",
        "--url ",
        "https://ai.aurod.cn/api/chat/x",
        "\0",
        "authorization: ",
        TOKEN,
        "fetch(",
        '{"headers": ',
        "}",
        ")",
        ",",
        "$session = ",
        "Invoke-WebRequest ",
        "-Uri ",
        "@{",
        "-Headers ",
        "`",
        "$([char]9999999)",
        "{",
        "[",
        "]",
        ":",
        "GET /api/user/info HTTP/1.1\n",
        "Host: ai.aurod.cn\n",
        ":authority: ai.aurod.cn\n",
        ":authority\nai.aurod.cn\n",
        "x-a: b\n",
        "…",
        '{"log":{"entries":[',
        '"request":{"url":"',
        "New-Object System.Net.Cookie(",
        ";",
        "&",
        "=",
        "\ufffd",
        "\\ud800",
        "%",
        "\\U00110000",
    ]
)


@settings(max_examples=600, deadline=5000, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.text(max_size=300), st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=40).map("".join)))
def test_any_text_gives_a_result_or_a_typed_error(text: str) -> None:
    for wanted in (None, get_provider("aurod"), get_provider("chongzhiling")):
        try:
            found = capture.read(text, wanted)
        except capture.CaptureError as refused:
            assert refused.code in capture.UNREADABLE
        else:
            assert found.refusal in {"", *capture.REFUSALS}
            assert found.refusal in ("", "expired", "wrong_host") or not found.fields


HEAVY = [
    "curl " + "^" * 400_000,
    "curl " + "\\" * 400_000,
    "curl '" + "a" * 400_000,
    "curl $'" + "\\" * 400_000,
    'curl "' + "^^" * 200_000,
    'curl ^"' + '^\\^"' * 100_000,
    "curl " + " ^\n" * 130_000,
    "curl " + "'a' " * 100_000,
    "curl https://ai.aurod.cn/api/user/info " + "-H 'a: b' " * 40_000,
    "curl https://ai.aurod.cn/api/user/info -b '" + "a=b; " * 90_000 + "'",
    "fetch(" * 80_000,
    'fetch("' * 70_000,
    'fetch("x",{"headers":' + '{"a":' * 80_000,
    "Invoke-WebRequest " + '"' * 400_000,
    "Invoke-WebRequest " + "New-Object System.Net.Cookie(" * 15_000,
    "Invoke-WebRequest -Uri " + "@{" * 200_000,
    "$session = " + "`" * 400_000,
    "[" * 450_000,
    '{"a":' * 90_000,
    "Gecko/20100101 " * 30_000,
    "bearer " * 60_000,
    "Authorization:" + " " * 400_000 + "x",
    "curl https://ai.aurod.cn/api/user/info?" + "a&" * 200_000 + " -H 'authorization: Bearer" + " " * 200_000 + "'",
    "a: b\n" * 90_000,
    ":authority\n" * 40_000,
    "Host:\nx\n" * 50_000,
    "host: a.b.c\n" + "cookie: a=b\n" * 33_331,  # a quarter of it ends with a line too
    "GET /api/user/info HTTP/1.1\nHost: ai.aurod.cn\norigin: " + "[" * 400_000,
    "GET " + "/" * 400_000 + "\nHost: x",
    "a." * 200_000,
    "ACS3-HMAC-SHA256 Credential=" + "a" * 400_000,
]


@pytest.mark.parametrize("text", HEAVY, ids=range(len(HEAVY)))
def test_no_long_text_keeps_the_processor_busy(text: str) -> None:
    """The costliest takes two seconds; were one of them read again from each of its places, it would take many minutes."""
    started = time.thread_time()
    for wanted in (None, get_provider("aurod")):
        with suppress(capture.CaptureError):
            capture.read(text, wanted)
    assert time.thread_time() - started < 30
