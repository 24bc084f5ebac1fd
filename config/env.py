"""Strict readers for the environment: a value that cannot be used stops the start and says what to write instead.

An empty variable counts as unset, because compose files and unit files pass empty strings for what they leave out.
"""

import base64
import binascii
import ipaddress
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})


class BadSetting(ImproperlyConfigured):
    """A setting from the environment cannot be used; the text is one sentence for the person who wrote it."""


def env_str(name: str, default: str = "") -> str:
    """Return the variable without surrounding blanks, or the default when it is unset or empty."""
    return os.environ.get(name, "").strip() or default


def env_bool(name: str, default: bool) -> bool:
    """Return a yes/no variable; anything but the usual words is refused."""
    text = env_str(name).lower()
    if not text:
        return default
    if text in TRUE_WORDS:
        return True
    if text in FALSE_WORDS:
        return False
    raise BadSetting(f"{name} is {text!r}: write 1 or 0.")


def env_int(name: str, default: int, *, minimum: int, maximum: int) -> int:
    """Return a whole number within the bounds given (both included)."""
    text = env_str(name)
    if not text:
        return default
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or not minimum <= number <= maximum:
        raise BadSetting(f"{name} is {text!r}: write a whole number from {minimum} to {maximum}.")
    return number


def env_list(name: str, default: Iterable[str] = ()) -> list[str]:
    """Return the parts of a comma-separated variable, without blanks and empty parts."""
    text = env_str(name)
    return [part.strip() for part in text.split(",") if part.strip()] if text else list(default)


def env_int_list(name: str, *, minimum: int, maximum: int) -> list[int]:
    """Return the whole numbers of a comma-separated variable, each within the bounds given."""
    numbers = []
    for part in env_list(name):
        if not part.isascii() or not part.isdigit() or not minimum <= int(part) <= maximum:
            raise BadSetting(f"{name} holds {part!r}: write whole numbers from {minimum} to {maximum}, separated by commas.")
        numbers.append(int(part))
    return numbers


def env_networks(name: str) -> list[str]:
    """Return the IP networks of a comma-separated variable in their usual form, such as 10.0.0.0/8."""
    networks = []
    for part in env_list(name):
        try:
            networks.append(str(ipaddress.ip_network(part)))
        except ValueError as error:
            raise BadSetting(f"{name} holds {part!r}: write networks such as 10.0.0.0/8 or fd00::/8, separated by commas.") from error
    return networks


def env_choice(name: str, choices: Iterable[str], default: str) -> str:
    """Return one of the given words, in the case in which it is listed."""
    text = env_str(name, default)
    for choice in choices:
        if text.lower() == choice.lower():
            return choice
    raise BadSetting(f"{name} is {text!r}: write one of {', '.join(choices)}.")


def env_https_url(name: str, *, loopback: bool = False) -> str:
    """Return an https address without user information, query and fragment; with `loopback` also a plain http one of this machine."""
    text = env_str(name)
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        plain = parts.scheme == "http" and loopback and parts.hostname in ("localhost", "127.0.0.1", "::1")
        good = (parts.scheme == "https" or plain) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not text.isascii() or not text.isprintable() or set(text) & set("@?#\\ ") or len(text) > 200:
        raise BadSetting(f"{name} is {text!r}: write an address such as https://login.example.com, of at most 200 characters.")
    return text


def env_secret(name: str) -> str:
    """Return a secret from NAME or from the file that NAME_FILE names; both at once, or an unreadable file, is refused."""
    value, file_name = env_str(name), env_str(f"{name}_FILE")
    if value and file_name:
        raise BadSetting(f"{name} and {name}_FILE are both set: keep one of them.")
    if not file_name:
        return value
    try:
        text = Path(file_name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadSetting(f"{name}_FILE names {file_name!r}, which cannot be read ({reason}): give the path of a readable file.") from error
    if not text:
        raise BadSetting(f"{name}_FILE names {file_name!r}, which is empty: write the secret into it.")
    return text


def key_ring(name: str, text: str) -> list[str]:
    """Return the keys of a comma-separated list in standard base64, newest first; each must be 32 bytes, none twice."""
    keys: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            raw = base64.b64decode(part.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 32:
            # The key itself is not repeated: this text ends up on terminals and in logs.
            raise BadSetting(f"{name}: key {len(keys) + 1} is not 32 bytes in base64: make one with `openssl rand -base64 32`.")
        key = base64.b64encode(raw).decode("ascii")
        if key in keys:
            raise BadSetting(f"{name}: key {len(keys) + 1} is there twice: keep one of them.")
        keys.append(key)
    return keys


def keep_once(path: Path, make: str) -> str:
    """Return what the file holds; a missing file is first written with `make`, readable by its owner alone.

    Several processes may start together: the first one to put its complete file in place decides, the others read it.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(make)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    text = path.read_text(encoding="utf-8").strip()
    if not text:
        raise BadSetting(f"{path} is empty: delete it and a new one is made (credentials sealed with the old one stay closed).")
    return text
