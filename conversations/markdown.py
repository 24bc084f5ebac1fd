"""Renders message text: Markdown in, an allow-list of tags out. Nothing a message holds runs, loads or leaves the page by itself.

Raw HTML in a message is text. What the parser makes is cleaned once more against the allow-list; only then the copy buttons of code blocks
are added, at marks that no message can write.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html import escape
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import nh3
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

MAX_LENGTH = 200_000  # characters rendered; more is cut and said
MAX_HIGHLIGHTED = 40_000
TAGS = {
    "a", "abbr", "b", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p", "pre", "s",
    "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"a": {"href", "title", "class", "target"}, "div": {"class"}, "ol": {"start"}, "span": {"class"}}
SCHEMES = {"http", "https", "mailto"}
REL = "noopener noreferrer nofollow"
_BLOCK = re.compile(r'<div class="code-block">(<span class="code-language">[^<]*</span>)?<pre>')


def host_of(address: str) -> str:
    """Returns the host of an http(s) address, "" for everything else."""
    try:
        parts = urlsplit(address.strip())
        return (parts.hostname or "") if parts.scheme in ("http", "https") else ""
    except ValueError:
        return ""


def _image(self: RendererHTML, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    """Shows a picture as a link with its host: loading it would tell a foreign server who reads what."""
    token = tokens[index]
    source = str(token.attrs.get("src", ""))
    label = escape(token.content or _("Image"))
    host = host_of(source)
    if not host:
        return f'<span class="message-file">{label}</span>'
    return f'<a class="message-file" href="{escape(source)}" target="_blank">{label} · {escape(host)}</a>'


def _link(self: RendererHTML, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("target", "_blank")
    return str(self.renderToken(tokens, index, options, env))


def _code(self: RendererHTML, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    language = ((token.info or "").split() or [""])[0][:30]
    try:
        lexer = get_lexer_by_name(language) if language and len(token.content) < MAX_HIGHLIGHTED else None
    except ClassNotFound:
        lexer = None
    code = highlight(token.content, lexer, HtmlFormatter(nowrap=True)) if lexer else escape(token.content)
    label = f'<span class="code-language">{escape(language)}</span>' if language else ""
    return f'<div class="code-block">{label}<pre><code>{code}</code></pre></div>\n'


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    for name, rule in {"image": _image, "fence": _code, "code_block": _code, "link_open": _link}.items():
        parser.add_render_rule(name, rule)
    return parser


def render(text: str, *, anchor: str = "") -> SafeString:
    """Returns message text as safe HTML; what cannot be rendered is shown as it is, escaped.

    With `anchor`, a name that no other text of the page has, code blocks get an id each and a button that copies them.
    """
    shown = text[:MAX_LENGTH]
    try:
        html = _parser().render(shown)
    except (RecursionError, IndexError, ValueError):
        html = f"<pre>{escape(shown)}</pre>"
    clean = nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, url_schemes=SCHEMES, link_rel=REL)
    if anchor:
        clean = _with_copy_buttons(clean, anchor)
    if len(text) > MAX_LENGTH:
        clean += f'<p class="text-secondary">{escape(_("The message is longer; the rest is not shown."))}</p>'
    return mark_safe(clean)


def _with_copy_buttons(clean: str, anchor: str) -> str:
    numbers = count(1)
    word = escape(_("Copy"))

    def dressed(found: re.Match[str]) -> str:
        name = f"code-{anchor}-{next(numbers)}"
        button = f'<button class="btn btn-sm code-copy" type="button" data-copy-from="#{name}">{word}</button>'
        return f'<div class="code-block"><div class="code-head">{found[1] or "<span></span>"}{button}</div><pre id="{name}">'

    return _BLOCK.sub(dressed, clean)
