"""Which form a text has, and its requests."""

from __future__ import annotations

import json
from typing import Any

from . import curl, raw, scripts
from .requests import Form, Request, Text, Unreadable, named, units, without_pseudo


def read(text: str) -> tuple[Form, list[Request]] | tuple[Form, dict[str, Any]] | tuple[Form, str]:
    """Returns the form of a text with its requests, its JSON document or its one word; raises Unreadable."""
    whole = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff \t\n")
    text = whole.rstrip("\ufeff \t\n")
    if not text:
        raise Unreadable("empty")
    if curl.is_curl(text):
        return curl.read(text)
    if scripts.is_fetch(text):
        return scripts.read_fetch(text)
    if scripts.is_powershell(text):
        return scripts.read_powershell(text)
    if text[0] in "{[":
        return _json(text)
    if "\n" in text and (found := raw.read(whole)):
        return found
    if "\n" in text or len(text) > 20_000:
        raise Unreadable("unknown_form")
    return Form.TOKEN, text


def _json(text: str) -> tuple[Form, list[Request]] | tuple[Form, dict[str, Any]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable("no_json") from error
    entries = _entries(document)
    if entries is None:
        if not isinstance(document, dict):
            raise Unreadable("unknown_form")
        return Form.JSON, document
    found = [request for entry in entries if (request := _entry(entry)) is not None]
    if not found:
        raise Unreadable("no_address")
    return Form.HAR, found


def _entries(document: Any) -> list[Any] | None:
    """Returns the entries of a HAR file, of a part of one, or of a single request; None where it is no HAR."""
    if isinstance(document, dict) and isinstance(document.get("log"), dict):
        document = document["log"]
    if isinstance(document, dict) and isinstance(document.get("entries"), list):
        return list(document["entries"])
    if isinstance(document, dict) and (isinstance(document.get("request"), dict) or {"url", "headers"} <= set(document)):
        return [document]
    return document if isinstance(document, list) else None


def _entry(entry: Any) -> Request | None:
    if not isinstance(entry, dict):
        return None
    request = entry.get("request", entry)
    if not isinstance(request, dict) or not isinstance(request.get("url"), str):
        return None
    given = request.get("headers")
    rows = [row for row in given if isinstance(row, dict)] if isinstance(given, list) else []
    headers = [named(str(row.get("name", "")), Text(units(str(row.get("value", ""))))) for row in rows]
    cookies = request.get("cookies")
    if isinstance(cookies, list) and not any(header and header.name == "cookie" for header in headers):
        jar = "; ".join(f"{row.get('name')}={row.get('value')}" for row in cookies if isinstance(row, dict) and row.get("name"))
        headers += [named("cookie", Text(units(jar)))] if jar else []
    posted = request.get("postData")
    body = posted.get("text") if isinstance(posted, dict) else ""
    return Request(request["url"], without_pseudo(headers), body if isinstance(body, str) else "")
