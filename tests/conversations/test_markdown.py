"""Message text as HTML: what a message may look like, and that it stays what it is: text."""

from __future__ import annotations

import html.parser
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversations import markdown

ALLOWED = markdown.TAGS | {"button"}  # the copy buttons are ours
PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    '"><script>alert(1)</script>',
    "'\"><img src=x onerror=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    '<a href="javascript:alert(1)">x</a>',
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    "![x](javascript:alert(1))",
    "![x](https://img.example/p.png)",
    '![x](https://img.example/p.png" onerror="alert(1))',
    '[x](https://e.example/"onmouseover="alert(1))',
    "<https://e.example/<script>alert(1)</script>>",
    '```html"><script>alert(1)</script>\nx\n```',
    "```\n</code></pre><script>alert(1)</script>\n```",
    "<style>*{background:url(https://e.example)}</style>",
    "<form action=https://e.example><input name=q autofocus onfocus=alert(1)></form>",
    "<div hx-get=/x hx-trigger=load></div>",
    '<button data-copy="x" data-dialog-open="keys">x</button>',
    "{{ 7*7 }}{% debug %}${7*7}<%= 7*7 %>",
    "</textarea><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u202e<b onclick=alert(1)>\u0000\ufeff",
    '<div class="code-block"><pre>x',
    "=1+1\t@SUM(A1)\r\n<base href=//e.example>",
)


class Seen(html.parser.HTMLParser):
    """Every tag and attribute of a piece of HTML, as a browser's parser would meet them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def assert_inert(rendered: str) -> None:
    for tag, attributes in Seen(rendered).tags:
        assert tag in ALLOWED, (tag, rendered)
        for name, value in attributes.items():
            assert not name.startswith(("on", "hx-", "style", "src")), (tag, name, rendered)
            if name == "href":
                assert (value or "").split(":")[0].lower() in markdown.SCHEMES or ":" not in (value or ""), rendered
            if name in ("data-copy-from", "id", "type") or name.startswith("data-"):
                assert tag in ("button", "pre"), rendered


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_message_stays_text(payload):
    for text in (payload, f"before\n\n{payload}\n\nafter", f"> {payload}", f"| a |\n| - |\n| {payload} |", f"- {payload}"):
        assert_inert(markdown.render(text, anchor="1-2"))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80), st.sampled_from(PAYLOADS), st.text(max_size=40))
def test_nothing_around_a_payload_wakes_it(before, payload, after):
    assert_inert(markdown.render(before + payload + after, anchor="k"))


def test_markdown_is_rendered():
    rendered = markdown.render(
        "# 标题\n\nSome **bold** and `code`.\nA second line.\n\n| a | b |\n| - | - |\n| 1 | ~~2~~ |\n\n1. one\n2. two\n\n> quoted"
    )
    for part in ("<h1>标题</h1>", "<strong>bold</strong>", "<code>code</code>.<br>", "<td>1</td>", "<s>2</s>", "<ol>", "<blockquote>"):
        assert part in rendered


def test_a_picture_is_a_link_that_names_its_host():
    rendered = markdown.render("![a cat](https://img.example/cat.png)")
    assert "<img" not in rendered
    assert 'href="https://img.example/cat.png"' in rendered and "a cat · img.example" in rendered
    (link,) = [attributes for tag, attributes in Seen(rendered).tags if tag == "a"]
    assert link["target"] == "_blank" and set(link["rel"].split()) == {"noopener", "noreferrer", "nofollow"}


def test_a_picture_without_an_address_of_the_web_is_only_named():
    assert "href" not in markdown.render("![inline](data:image/png;base64,AAAA)")


def test_links_open_elsewhere_and_tell_nobody_where_from():
    rendered = markdown.render("[docs](https://docs.example/x) and <https://auto.example/>")
    links = [attributes for tag, attributes in Seen(rendered).tags if tag == "a"]
    assert [link["href"] for link in links] == ["https://docs.example/x", "https://auto.example/"]
    assert all(link["target"] == "_blank" and "noreferrer" in link["rel"] for link in links)


def test_code_is_coloured_by_language_and_can_be_copied():
    rendered = markdown.render("```python\ndef f():\n    return 1\n```\n\ntext\n\n    indented()\n", anchor="7-3")
    assert '<span class="k">def</span>' in rendered and ">python</span>" in rendered
    buttons = [attributes["data-copy-from"] for tag, attributes in Seen(rendered).tags if tag == "button"]
    blocks = [f"#{attributes['id']}" for tag, attributes in Seen(rendered).tags if tag == "pre"]
    assert buttons == blocks == ["#code-7-3-1", "#code-7-3-2"]


def test_an_unknown_language_and_an_empty_fence_are_shown_plainly():
    rendered = markdown.render("```no-such-language\n<x>\n```\n\n```\n```")
    assert "&lt;x&gt;" in rendered and "no-such-language" in rendered


def test_without_an_anchor_there_are_no_buttons():
    assert "<button" not in markdown.render("```\nx\n```")


def test_a_very_long_message_is_cut_and_says_so():
    rendered = markdown.render("word " * 60_000)
    assert "the rest is not shown" in rendered and len(rendered) < markdown.MAX_LENGTH + 1000


@pytest.mark.parametrize(
    "text",
    ["[" * 30_000, "![a](" * 10_000, "> " * 10_000 + "x", "*a " * 30_000, "<" * 30_000, "`" * 50_000, "- " * 5_000, "|a" * 3000 + "\n" + "|-" * 3000],
)
def test_a_message_made_to_be_slow_is_not(text):
    begun = time.perf_counter()
    assert_inert(markdown.render(text, anchor="x"))
    assert time.perf_counter() - begun < 5.0


@pytest.mark.parametrize(
    ("address", "host"),
    [("https://a.example/x", "a.example"), ("http://u:p@b.example:8/", "b.example"), ("javascript:x", ""), ("https://[::1", ""), ("", "")],
)
def test_the_host_of_an_address(address, host):
    assert markdown.host_of(address) == host
