"""Cutting text where no character breaks."""

from __future__ import annotations

from wcwidth import iter_graphemes


def cut(text: str, length: int) -> str:
    """Returns at most `length` characters of `text` without breaking an emoji, a flag or a combined character."""
    if len(text) <= length:
        return text
    kept: list[str] = []
    used = 0
    for cluster in iter_graphemes(text):
        if used + len(cluster) > length:
            break
        kept.append(cluster)
        used += len(cluster)
    return "".join(kept)
