"""Pictures inside a message's text, as data addresses: megabytes that nobody wants to read or store as text."""

from __future__ import annotations

import re

LONG = 2000  # characters of an inline picture from which on it is only named
_DATA = rf"data:image/([\w.+-]{{1,40}});base64,([A-Za-z0-9+/=_-]{{{LONG},}})"
_INLINE = re.compile(rf'!\[[^\]\n]{{0,300}}\]\(\s*<?{_DATA}>?(?:\s+"[^"\n]{{0,300}}")?\s*\)|{_DATA}')


def named(text: str) -> str:
    """Returns the text with each long inline picture (Markdown or bare address) replaced by its kind and size, such as [PNG, 1.3 MB]."""
    return _INLINE.sub(_name, text) if ";base64," in text else text


def _name(match: re.Match[str]) -> str:
    kind, content = match[1] or match[3], match[2] or match[4]
    size = len(content) * 3 // 4
    return f"[{kind.upper()}, {size / 1_000_000:.1f} MB]" if size >= 1_000_000 else f"[{kind.upper()}, {size / 1000:.0f} kB]"
