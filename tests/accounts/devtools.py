"""Writes a request as the developer tools of browsers do, from the contract (providers/aurod.md, section 7). Imports nothing of the product.

JavaScript works on UTF-16 units and a clipboard does not carry halves of pairs: `_clipboard` makes of them what arrives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SPACES = "\t\x0b\x0c\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff "
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:146.0) Gecko/20100101 Firefox/146.0"


@dataclass(frozen=True)
class Sent:
    """What a browser sent; the cookie is one of the headers."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    method: str = "GET"
    left: frozenset[str] = field(default_factory=lambda: frozenset({"host", "accept-encoding", "content-length"}))

    def rows(self, *without: str) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.headers if name.lower() not in self.left | set(without)]

    def value(self, name: str) -> str:
        return next((value for key, value in reversed(self.headers) if key.lower() == name), "")


def _units(text: str) -> list[str]:
    raw = text.encode("utf-16-le", "surrogatepass")
    return [chr(raw[at] | raw[at + 1] << 8) for at in range(0, len(raw), 2)]


def _clipboard(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _line(name: str, value: str) -> str:
    return f"{name}: {value}" if value.strip() else f"{name};"


def page_request(url: str, credential: dict[str, str], *, without: str = "", body: str = "", path: str = "/api/user/info?page=1") -> Sent:
    """What a page of aurod at this address sends, with things in it that nobody needs."""
    rows = {
        "accept": "application/json",
        "authorization": credential["token"],
        "cookie": f"theme=dark-marker; {credential['cookie']}",
        "user-agent": credential["user_agent"],
        "x-app-version": credential["app_version"],
        "x-other": "other-marker",
    }
    return Sent(url + path, tuple((name, value) for name, value in rows.items() if name != without), body, "POST" if body else "GET")


# --- cmd ----------------------------------------------------------------------------------------------------------------------------


def _caret(text: str, plain: str, *, double: bool = True) -> str:
    if double:
        text = text.replace("\\", "\\\\")
    text = text.replace('"', '\\"')
    text = "".join(unit if unit in LETTERS + plain or unit in SPACES + "\r\n" else "^" + unit for unit in _units(text))
    return re.sub(r"%(?=[A-Za-z0-9_])", "%^", text)


def cmd_now(text: str, *, plain: str = "_-:=+~'/.,?;()*`") -> str:
    text = re.sub(r"\r?\n", "^\n\n", _caret(text, plain))
    return '^"' + re.sub(r"[^ -~\r\n]", " ", text) + '^"'


def cmd_newer(text: str) -> str:
    return cmd_now(text, plain="_-:=+~'/.,?;*")


def cmd_old(text: str) -> str:
    quote = '^"' if re.search(r"[\r\n]", text) else '"'
    return quote + re.sub(r"\r?\n", "^\n\n", _caret(text, "_-:=+~'/.,?;()*`&")) + quote


def cmd_very_old(text: str) -> str:
    text = text.replace('"', '""').replace("%", '"%"').replace("\\", "\\\\")
    return '"' + re.sub(r"([\r\n]+)", r'"^\1"', text) + '"'


def cmd_firefox(text: str) -> str:
    text = re.sub(r"\r\n?", "\n", _caret(text, "_-:=+~/.,?;()*`", double=False))
    return '^"' + text.replace("\n", '"^\r\n\r\n"') + '^"'


def cmd_firefox_middle(text: str) -> str:
    text = re.sub(r"([`$])", r"\\\1", text.replace("\\", "\\\\").replace('"', '\\"'))
    plain = '_-:=+~/.,?;()*$&\\{}"`'
    text = "".join(unit if unit in LETTERS + plain or unit in SPACES + "\r\n" else "^" + unit for unit in _units(text))
    return '^"' + re.sub(r"\r?\n", "^\n\n", re.sub(r"%(?=[A-Za-z0-9_])", "%^", text)) + '^"'


# --- bash ---------------------------------------------------------------------------------------------------------------------------


def bash_now(text: str) -> str:
    if not re.search(r"[\0-\x1f\x7f-\x9f!']", text):
        return f"'{text}'"
    text = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return "$'" + re.sub(r"[\0-\x1f\x7f-\x9f!]", lambda found: f"\\u{ord(found[0]):04x}", text) + "'"


def bash_firefox(text: str) -> str:
    if not re.search(r"[^ -~]|!|'", text):
        return f"'{text}'"
    text = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r").replace("!", "\\041")
    return "$'" + "".join(unit if " " <= unit <= "~" else _firefox_escape(ord(unit)) for unit in _units(text)) + "'"


def _firefox_escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


# --- curl ---------------------------------------------------------------------------------------------------------------------------


def _chrome(sent: Sent, quote: Callable[[str], str], end: str, *, option: str = "", cookie: bool = True, tail: tuple[str, ...] = ()) -> str:
    url = re.sub(r"(\^?)([\[\]{}])", r"\1\\\2", quote(sent.url)) if end == " \\\n" else re.sub(r"\^([\[\]{}])", r"^\\^\1", quote(sent.url))
    parts = [option + url]
    if sent.method != ("POST" if sent.body else "GET"):
        parts.append("-X " + quote(sent.method))
    for name, value in sent.rows():
        if cookie and name.lower() == "cookie":
            parts.append("-b " + quote(value))
        else:
            parts.append("-H " + quote(_line(name, value)))
    parts += ["--data-raw " + quote(sent.body)] if sent.body else []
    parts += tail
    return _clipboard("curl " + (end + "  ").join(parts) if len(parts) >= 3 else "curl " + " ".join(parts))


def _firefox(sent: Sent, quote: Callable[[str], str], end: str) -> str:
    def needed(text: str) -> str:
        return text if re.fullmatch(r"[a-zA-Z-]+", text) else quote(text)

    agent = () if sent.value("user-agent") else (("User-Agent", FIREFOX),)
    parts = [quote(sent.url)] + (["-X " + needed(sent.method)] if sent.method != "GET" else [])
    parts += ["-H " + needed(f"{name.title()}: {value}") for name, value in (*agent, *sent.rows())]
    parts += ["--data-raw " + needed(sent.body)] if sent.body else []
    return _clipboard("curl " + (end + "  ").join(parts) if len(parts) >= 3 else "curl " + " ".join(parts))


# --- scripts ------------------------------------------------------------------------------------------------------------------------


def _powershell_string(text: str) -> str:
    text = re.sub(r"([`$\"])", r"`\1", text)
    return '"' + "".join(unit if " " <= unit <= "~" else f"$([char]{ord(unit)})" for unit in _units(text)) + '"'


def powershell(sent: Sent) -> str:
    quote, lines = _powershell_string, []
    host = urlsplit(sent.url).hostname or ""
    session = [f"$session.UserAgent = {quote(sent.value('user-agent'))}"] if sent.value("user-agent") else []
    for pair in filter(None, sent.value("cookie").split("; ")):
        name, _equals, value = pair.partition("=")
        session.append(f'$session.Cookies.Add((New-Object System.Net.Cookie({quote(name)}, {quote(value)}, "/", {quote(host)})))')
    if session:
        lines += ["$session = New-Object Microsoft.PowerShell.Commands.WebRequestSession", *session]
    call = ["Invoke-WebRequest -UseBasicParsing -Uri " + quote(sent.url)]
    call += [f"-Method {quote(sent.method)}"] if sent.method != "GET" else []
    call += ["-WebSession $session"] if session else []
    rows = sent.rows("connection", "expect", "range", "content-type", "user-agent", "cookie")
    if rows:
        call.append("-Headers @{\n" + "\n  ".join(f"{quote(name)}={quote(value)}" for name, value in rows) + "\n}")
    call += [f"-ContentType {quote(sent.value('content-type'))}"] if sent.value("content-type") else []
    call += [f"-Body ([System.Text.Encoding]::UTF8.GetBytes({quote(sent.body)}))"] if not sent.body.isascii() else []
    call += [f"-Body {quote(sent.body)}"] if sent.body and sent.body.isascii() else []
    return "\n".join([*lines, " `\n".join(call)])


def powershell_firefox(sent: Sent) -> str:
    quote = _powershell_string
    host = urlsplit(sent.url).hostname or ""
    lines = []
    for pair in filter(None, sent.value("cookie").split("; ")):
        name, _equals, value = pair.partition("=")
        lines += [] if lines else ["$session = New-Object Microsoft.PowerShell.Commands.WebRequestSession"]
        lines.append(f'$session.Cookies.Add((New-Object System.Net.Cookie({quote(name)}, {quote(value)}, "/", {quote(host)})))')
    call = ["Invoke-WebRequest -UseBasicParsing -Uri " + quote(sent.url)]
    call += ["-WebSession $session"] if lines else []
    call += [f"-UserAgent {quote(sent.value('user-agent'))}"] if sent.value("user-agent") else []
    rows = sent.rows("content-type", "user-agent", "cookie")
    call += ["-Headers @{\n" + "\n  ".join(f"{quote(name)} = {quote(value)}" for name, value in rows) + "\n}"] if rows else []
    return "\n".join([*lines, " `\n".join(call)])


def fetch(sent: Sent, *, node: bool = False) -> str:
    unsaid = ("cookie", "user-agent", "referer", "origin", "connection", "date", "dnt", "expect", "te", "trailer", "upgrade", "via", "keep-alive")
    headers = dict(sent.rows(*unsaid))
    if node and sent.value("cookie"):
        headers["cookie"] = sent.value("cookie")
    options: dict[str, object] = {"headers": headers}
    options |= {} if node else {"referrer": sent.value("referer")}
    options |= {"body": sent.body or None, "method": sent.method} | ({} if node else {"mode": "cors", "credentials": "include"})
    return f"fetch({json.dumps(sent.url)}, {json.dumps(options, indent=2, ensure_ascii=False)});"


def fetch_firefox(sent: Sent) -> str:
    headers = dict(sent.rows("cookie", "referer", "origin"))
    options = {"credentials": "include", "headers": headers, "referrer": sent.value("referer"), "method": sent.method, "mode": "cors"}
    return f"await fetch({json.dumps(sent.url)}, {json.dumps(options | ({'body': sent.body} if sent.body else {}), indent=4, ensure_ascii=False)});"


def har_entry(sent: Sent) -> dict[str, object]:
    rows = [{"name": name, "value": value} for name, value in ((":authority", urlsplit(sent.url).netloc), *sent.headers)]
    posted = {"postData": {"mimeType": "application/json", "text": sent.body}} if sent.body else {}
    request = {"method": sent.method, "url": sent.url, "httpVersion": "http/2.0", "headers": rows, "cookies": [], "bodySize": 0} | posted
    return {"startedDateTime": "2026-02-01T00:00:00.000Z", "time": 12.5, "request": request, "response": {"status": 200}, "timings": {}}


def har(sent: Sent) -> str:
    return json.dumps({"log": {"version": "1.2", "creator": {"name": "WebInspector", "version": "537.36"}, "entries": [har_entry(sent)]}}, indent=2)


# --- headers ------------------------------------------------------------------------------------------------------------------------


def _target(sent: Sent) -> str:
    parts = urlsplit(sent.url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def raw(sent: Sent, version: str = "1.1") -> str:
    """The request line and the headers: Chrome's and Firefox's switch "Raw", Firefox's "Copy Request Headers"."""
    rows = [("host", urlsplit(sent.url).netloc), *sent.headers]
    return "\n".join([f"{sent.method} {_target(sent)} HTTP/{version}", *(f"{name.title()}: {value}" for name, value in rows)]) + "\n"


def pseudo(sent: Sent, between: str = ": ", order: str = "authority method path scheme") -> str:
    """The headers of HTTP/2: Safari's "Copy HTTP Request"; with a line break between name and value what one marks on Chrome's page."""
    parts = urlsplit(sent.url)
    said = {"authority": parts.netloc, "method": sent.method, "path": _target(sent), "scheme": parts.scheme}
    rows = [(f":{name}", said[name]) for name in order.split()] + [(name.lower(), value) for name, value in sent.headers]
    return "\n".join(f"{name}{between}{value}" for name, value in rows) + "\n"


# name -> how a request is written; CMD, ... tell which lose what.
FORMS: dict[str, Callable[[Sent], str]] = {
    "cmd": lambda sent: _chrome(sent, cmd_now, " ^\n"),
    "cmd crlf": lambda sent: _chrome(sent, cmd_now, " ^\n").replace("\n", "\r\n"),
    "cmd joined": lambda sent: _chrome(sent, cmd_now, " ^\n").replace("\n", " "),
    "cmd newer": lambda sent: _chrome(sent, cmd_newer, " ^\n", option="--url "),
    "cmd old": lambda sent: _chrome(sent, cmd_old, " ^\n", cookie=False, tail=("--compressed", "--insecure")),
    "cmd very old": lambda sent: _chrome(sent, cmd_very_old, "", cookie=False, tail=("--compressed",)),
    "cmd firefox": lambda sent: _firefox(sent, cmd_firefox, " ^\n"),
    "cmd firefox middle": lambda sent: _firefox(sent, cmd_firefox_middle, " ^\n"),
    "bash": lambda sent: _chrome(sent, bash_now, " \\\n"),
    "bash crlf": lambda sent: _chrome(sent, bash_now, " \\\n").replace("\n", "\r\n"),
    "bash newer": lambda sent: _chrome(sent, bash_now, " \\\n", option="--url "),
    "bash old": lambda sent: _chrome(sent, bash_now, " \\\n", cookie=False, tail=("--compressed",)),
    "bash firefox": lambda sent: _firefox(sent, bash_firefox, " \\\n"),
    "powershell": powershell,
    "powershell crlf": lambda sent: powershell(sent).replace("\n", "\r\n"),
    "powershell firefox": powershell_firefox,
    "fetch": fetch,
    "fetch firefox": fetch_firefox,
    "fetch node": lambda sent: fetch(sent, node=True),
    "har": har,
    "har entry": lambda sent: json.dumps(har_entry(sent)),
    "headers": raw,
    "headers crlf": lambda sent: raw(sent).replace("\n", "\r\n"),
    "headers firefox": lambda sent: raw(sent, "2"),
    "headers http/2": pseudo,
    "headers safari": lambda sent: pseudo(sent, order="method scheme authority path"),
    "headers marked": lambda sent: pseudo(sent, between="\n"),
    "headers marked older": lambda sent: pseudo(sent, between=":\n"),
}
JOINED = {"cmd": " &\r\n", "bash": " ;\n", "powershell": ";\r\n", "fetch": " ;\n"}  # between the requests of "Copy all"
NEVER_SAID = {
    "fetch": {"cookie", "user-agent", "referer", "origin"},
    "fetch firefox": {"cookie", "referer", "origin"},
    "fetch node": {"user-agent", "referer", "origin"},
}
