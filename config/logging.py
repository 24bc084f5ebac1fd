"""Logs: one event per line on stderr, with everything that looks like a secret masked, in exception texts too."""

import logging
import re
import time

MASK = "***"

# What follows a name that ends like this, in JSON, in a dict's repr, in a header line or in a query string, is never written.
_NAMES = r"(?:passw(?:or)?d|secret|token|api[_-]?keys?|access[_-]?key(?:[_-]?(?:id|secret))?|corp[_-]?id|credentials?|signature|session[_-]?id)"
_HEADERS = r"(?:proxy-)?authorization|(?:set-)?cookie"

# Signs are looked for first, in the text as small letters: nearly all texts have none, and looking costs a tenth of the rules.
_HEADER_SIGN = re.compile("authorization|cookie")
_NAME_SIGN = re.compile(rf"{_NAMES}\s*(?:\\?['\"]|=)")
_ANY_SIGN = re.compile("passw|secret|token|key|corp|credential|signature|session|authorization|cookie|bearer|basic|eyj|[sapr]k-|ltai|sts\\.|://")

_RULES: tuple[tuple[re.Pattern[str], re.Pattern[str], str], ...] = (
    # A whole header: 'Cookie': 'a=1; b=2' in a repr ends at its quote, Cookie: a=1; b=2 at the end of the line.
    (_HEADER_SIGN, re.compile(rf"(?i)((?:{_HEADERS})(\\?['\"])\s*[:=,]\s*[bru]?(\\?['\"])).*?\3"), rf"\1{MASK}\3"),
    (_HEADER_SIGN, re.compile(rf"(?i)(\b(?:{_HEADERS})\s*[:=]\s*)(?!['\"]?{re.escape(MASK)})[^\r\n'\"]+"), rf"\1{MASK}"),
    (re.compile("bearer|basic"), re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {MASK}"),
    (_NAME_SIGN, re.compile(rf"(?i)(({_NAMES})(\\?['\"])\s*[:=]\s*[bru]?(\\?['\"]))(?:\\.|(?!\4).)*\4"), rf"\1{MASK}\4"),
    (_NAME_SIGN, re.compile(rf"(?i)(({_NAMES})\s*=\s*)(['\"])(?:\\.|(?!\3).)*\3"), rf"\1\3{MASK}\3"),
    (_NAME_SIGN, re.compile(rf"(?i)(({_NAMES})=)[^\s&'\",;)]+"), rf"\1{MASK}"),
    # Shapes that are secrets wherever they stand.
    (re.compile("eyj"), re.compile(r"\beyJ[\w-]{4,}\.[\w-]{2,}(?:\.[\w-]*)?"), MASK),
    (re.compile("[sapr]k-"), re.compile(r"\b((?:sk|ak|pk|rk)-)[\w-]{6,}"), rf"\1{MASK}"),
    (re.compile(r"ltai|sts\."), re.compile(r"\b(LTAI|STS\.)\w{6,}"), rf"\1{MASK}"),
    (re.compile("://"), re.compile(r"(://[^\s/:@'\"]*:)[^\s/@'\"]+@"), rf"\1{MASK}@"),
)


def redact(text: str) -> str:
    """Return the text with key and token shapes, credential fields and authorization or cookie headers masked."""
    small = text.lower()
    if not _ANY_SIGN.search(small):
        return text
    for sign, pattern, replacement in _RULES:
        if sign.search(small):
            text = pattern.sub(replacement, text)
    return text


class OneLineFormatter(logging.Formatter):
    """Formats an event, its exception and its stack as one redacted line; times are UTC."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; line breaks and other control characters are written as escapes, so a value cannot forge an event."""
        text = redact(super().format(record))
        return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def logging_config(level: str) -> dict:
    """Return the dictConfig for the whole process: everything goes through the one handler of the root logger."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": OneLineFormatter, "format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Django attaches handlers of its own to these; one event is to be one line.
            "django": {"handlers": [], "level": level, "propagate": True},
            "django.server": {"handlers": [], "level": level, "propagate": True},
            # These write every address they ask, with its query string.
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
            "asyncio": {"level": "WARNING"},
            "markdown_it": {"level": "WARNING"},
        },
    }
