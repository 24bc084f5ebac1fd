"""Masks what looks like a secret in text that becomes a title: keys, tokens, passwords that are named, phone and identity card numbers.

A first message may hold what its writer pasted without thinking; a title is shown to everybody who may see the conversation. Better a harmless
number too many is masked than a key too few. Chinese writes no blanks around a key, so no rule relies on word boundaries.
"""

from __future__ import annotations

import re

MASK = "***"

# Without one of these there is nothing to mask; most messages have none, and a job looks at many thousands.
_SUSPECT = re.compile(r"\d|[-:=：＝_]|LTAI|AKIA|ASIA|AIza|STS\.")
_NOT_IN_WORD = r"(?<![A-Za-z0-9_])"
_NAMES = r"password|passwd|passcode|pwd|secret|token|(?:api|access|secret)[ _-]?key|密码|口令|密钥|令牌"

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", re.DOTALL), MASK),
    (re.compile(r"(?i)(?<![a-z])((?:proxy-)?authorization\s*[:：=]\s*)(?:(?:bearer|basic)\s+)?[^\s'\"，。]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)(?<![a-z])((?:set-)?cookie\s*[:：]\s*)[^\r\n]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)(?<![a-z])(bearer\s+)(?=[\w.~+/=-]*\d)[A-Za-z0-9_.~+/=-]{6,}"), rf"\1{MASK}"),
    (re.compile(r"(://[^\s/:@'\"]*:)[^\s/@'\"]+@"), rf"\1{MASK}@"),
    # Shapes that are keys wherever they stand.
    (re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{2,}(?:\.[A-Za-z0-9_-]*)?"), MASK),
    (re.compile(rf"{_NOT_IN_WORD}((?:sk|ak|pk|rk)[-_])[A-Za-z0-9_-]{{6,}}"), rf"\1{MASK}"),
    (re.compile(rf"{_NOT_IN_WORD}(LTAI|STS\.|AKIA|ASIA|AIza|gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|hf_)[A-Za-z0-9_-]{{6,}}"), rf"\1{MASK}"),
    # A value that is called a secret.
    (re.compile(rf"(?i)(?<![a-z_])((?:{_NAMES})['\"]?\s*[:=：＝]\s*['\"]?)[^\s'\",，。;；)）\u4e00-\u9fff]{{4,}}"), rf"\1{MASK}"),
    (re.compile(rf"(?i)(?<![a-z_])((?:{_NAMES})\s*(?:是|为|is\s)\s*['\"]?)(?=[!-~]*\d)[!-~]{{6,}}"), rf"\1{MASK}"),
    # Numbers of persons: identity cards and bank cards, then telephones (mainland mobile, landline, international, North American).
    (re.compile(r"(?<![A-Za-z0-9])\d{17}[Xx](?![A-Za-z0-9])"), MASK),
    (re.compile(r"(?<![\d.])\d{16,19}(?!\d)"), MASK),
    (re.compile(r"(?<!\d)\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?(?!\d)"), MASK),
    (re.compile(r"(?<![\d.])(?:(?:[+＋]|00)?86[ -]?)?[1１][3-9３-９]\d[ -]?\d{4}[ -]?\d{4}(?!\d)"), MASK),
    (re.compile(r"(?<!\d)(?:[(（]0\d{2,3}[)）] ?|0\d{2,3}[- ])\d{7,8}(?!\d)"), MASK),
    (re.compile(r"(?<![\w+])[+＋]\d{1,3}(?:[ ().-]{0,2}\d){7,12}(?!\d)"), MASK),
    (re.compile(r"(?<!\d)(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}(?!\d)"), MASK),
    # Long and random: hexadecimal digits, or small, large letters and digits mixed.
    (re.compile(r"(?<![A-Za-z0-9])(?=[a-fA-F]*\d)[0-9a-fA-F]{32,}(?![A-Za-z0-9])"), MASK),
    (
        re.compile(r"(?<![A-Za-z0-9_-])(?=[A-Za-z_-]*\d)(?=[a-z0-9_-]*[A-Z])(?=[A-Z0-9_-]*[a-z])[A-Za-z0-9_-]{32,}"),
        MASK,
    ),
)


def mask(text: str) -> str:
    """Returns text in which everything that looks like a secret is "***"."""
    if not _SUSPECT.search(text):
        return text
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
