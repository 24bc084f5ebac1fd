"""The arrows of the house: who may import whom, and what has one place only. Read from the source, so that nothing needs to run."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("config", "accounts", "conversations")
MAX_LINES = 600


def sources(*folders: str) -> list[Path]:
    """Return the Python files below the folders of the repository, without generated ones."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if not {"migrations", "__pycache__"} & set(path.parts))


def name_of(path: Path) -> str:
    """Return the dotted name of a module of the repository."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the parsed source."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_of(path: Path) -> set[str]:
    """Return the dotted names that a file imports anywhere, in functions and for type checkers too; `from a import b` gives a and a.b."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    return set(_imports(tree_of(path), package))


def _imports(tree: ast.AST, package: list[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [] if not node.level else package[: len(package) - node.level + 1]
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__") and node.args:
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", None) or getattr(node.func, "id", "")


def under(name: str, *packages: str) -> bool:
    """Tell whether the dotted name is one of the packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def crossings(paths: list[Path], *forbidden: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """Return each import in the files of a forbidden package, as `file imports name`."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in sorted(imports_of(path))
        if under(name, *forbidden) and not under(name, *allowed)
    ]


def provider_keys() -> set[str]:
    """Return the keys of all providers: the `key` that a class of accounts/providers declares."""
    keys = set()
    for path in sources("accounts/providers"):
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ClassDef):
                continue
            for statement in node.body:
                target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
                value = getattr(statement, "value", None)
                if isinstance(target, ast.Name) and target.id == "key" and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    keys.add(value.value)
    return keys - {""}


# --- The reader itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b", {"a.b"}),
        ("def f():\n    from a import b, c", {"a", "a.b", "a.c"}),
        ("from . import x", {"one.two", "one.two.x"}),
        ("from ..y import z", {"one.y", "one.y.z"}),
        ("import importlib\nimportlib.import_module('a.b')", {"importlib", "a.b"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import q", {"typing", "typing.TYPE_CHECKING", "q"}),
    ],
)
def test_the_reader_sees_every_form_of_import(source: str, expected: set[str]) -> None:
    assert set(_imports(ast.parse(source), ["one", "two"])) == expected


def test_there_is_something_to_check() -> None:
    for folder in (*PRODUCT, "accounts/providers", "tests/simulators"):
        assert len(sources(folder)) > 1, folder


# --- Arrows ----------------------------------------------------------------------------------------------------------


def test_config_imports_no_app() -> None:
    assert crossings(sources("config"), "accounts", "conversations", "tests") == []


def test_accounts_never_imports_conversations() -> None:
    assert crossings(sources("accounts"), "conversations") == []


def test_the_product_never_imports_the_tests() -> None:
    assert crossings(sources(*PRODUCT), "tests") == []


def test_providers_know_neither_django_nor_the_rest_of_accounts() -> None:
    paths = sources("accounts/providers")
    assert crossings(paths, "accounts", "conversations", "config", allowed=("accounts.providers",)) == []
    outside = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imports_of(path)
        if not under(name, *sys.stdlib_module_names, "httpx", "accounts")
    }
    assert outside == set(), "providers stand on the standard library and httpx alone"


def test_a_provider_never_imports_another_one() -> None:
    files = [path for path in sources("accounts/providers") if provider_file(path)]
    modules = {name_of(path) for path in files}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}" for path in files for name in sorted(imports_of(path)) if under(name, *(modules - {name_of(path)}))
    ]
    assert wrong == []


def test_the_parts_of_providers_know_no_provider() -> None:
    modules = [name_of(path) for path in sources("accounts/providers") if provider_file(path)]
    assert crossings(sources("accounts/providers/parts"), *modules) == []


def provider_file(path: Path) -> bool:
    """Tell whether the file declares a provider."""
    return path.stem in provider_keys()


def test_only_the_doorway_and_the_shared_types_of_providers_are_used_outside() -> None:
    modules = [name_of(path) for path in sources("accounts/providers") if provider_file(path)]
    outside = [path for path in sources(*PRODUCT) if "providers" not in path.parts]
    assert crossings(outside, *modules) == []


def test_views_ask_forms_and_services_never_a_provider_or_the_network() -> None:
    views = [
        path
        for path in sources("accounts", "conversations")
        if path.stem in ("views", "job_views", "forms", "urls", "admin") or "views" in path.parts
    ]
    modules = [name_of(path) for path in sources("accounts/providers") if provider_file(path)]
    assert crossings(views, "httpx", "aiohttp", "httpcore", "requests", "urllib.request", "http.client", *modules) == []


def test_the_network_is_reached_from_providers_egress_and_probes_only() -> None:
    allowed = {"accounts/egress.py", "accounts/issuer.py", "accounts/services.py", "config/supervisor.py"}
    paths = [path for path in sources(*PRODUCT) if str(path.relative_to(ROOT)) not in allowed and "providers" not in path.parts]
    assert crossings(paths, "httpx", "aiohttp", "httpcore", "httpx_aiohttp", "requests", "urllib.request", "http.client") == []


def test_only_the_vault_imports_cryptography() -> None:
    paths = [path for path in sources(*PRODUCT) if path != ROOT / "accounts/vault.py"]
    assert crossings(paths, "cryptography") == []


def test_simulators_import_nothing_of_ours() -> None:
    assert crossings(sources("tests/simulators"), *PRODUCT, "django", "tests", allowed=("tests.simulators",)) == []


def test_simulators_need_only_what_the_product_needs() -> None:
    product = {"aiohttp", "httpx", "yarl", "multidict", "cryptography"}
    outside = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("tests/simulators")
        for name in sorted(imports_of(path))
        if not under(name, *sys.stdlib_module_names, *product, "tests.simulators")
    ]
    assert outside == []


# --- One place only --------------------------------------------------------------------------------------------------


def literals(node: ast.expr) -> Iterator[str]:
    """Return the texts in a comparison's side: itself or the members of a tuple, list or set."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for element in node.elts:
            yield from literals(element)
    elif isinstance(node, ast.Call) and _called(node) in ("frozenset", "set", "tuple") and node.args:
        yield from literals(node.args[0])


def branches_on_a_provider(tree: ast.AST, keys: set[str]) -> list[int]:
    """Return the lines that decide by a provider's key: comparisons, `match` cases, tables and filters that name one."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            named = {text for side in (node.left, *node.comparators) for text in literals(side)}
        elif isinstance(node, ast.MatchValue):
            named = set(literals(node.value))
        elif isinstance(node, ast.Dict):
            named = {text for key in node.keys if key is not None for text in literals(key)}
        elif isinstance(node, ast.keyword) and (node.arg or "").partition("__")[0] in ("provider", "provider_key"):
            named = set(literals(node.value))
        else:
            continue
        if named & keys:
            lines.append(getattr(node, "lineno", 0))
    return lines


@pytest.mark.parametrize(
    "source",
    [
        "account.provider == 'nuwax'",
        "'nuwax' != key",
        "provider in ('aurod', 'nuwax')",
        "match key:\n    case 'nuwax':\n        pass",
        "{'nuwax': 1}[key]",
        "Account.objects.filter(provider='nuwax')",
        "Account.objects.exclude(provider__in=['nuwax'])",
    ],
)
def test_the_search_for_provider_branches_finds_them(source: str) -> None:
    assert branches_on_a_provider(ast.parse(source), {"aurod", "nuwax"})


def test_nobody_branches_on_a_provider_outside_its_file() -> None:
    # The demo names the simulated providers that it fills; nothing else may.
    paths = [path for path in sources(*PRODUCT) if "providers" not in path.parts and path.stem != "demo_data"]
    keys = provider_keys()
    found = [f"{path.relative_to(ROOT)}:{line}" for path in paths for line in branches_on_a_provider(tree_of(path), keys)]
    assert found == []


def test_no_template_branches_on_a_provider() -> None:
    keys = provider_keys()
    if not keys:
        pytest.fail("accounts/providers declares no provider")
    pattern = re.compile(rf"{{%[^%]*['\"]({'|'.join(map(re.escape, sorted(keys)))})['\"]")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in sorted((ROOT / "templates").rglob("*.html"))
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_no_template_has_inline_style_or_handlers() -> None:
    pattern = re.compile(
        r"\sstyle=[\"']|\son[a-z]+=[\"']|hx-on[:-]|<style|<script(?![^>]*\ssrc=)(?![^>]*type=\"application/json\")|javascript:", re.IGNORECASE
    )
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in sorted((ROOT / "templates").rglob("*.html"))
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_no_view_is_exempt_from_the_csrf_check() -> None:
    assert [str(path.relative_to(ROOT)) for path in sources(*PRODUCT) if "csrf_exempt" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("path", sources(*PRODUCT, "tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_room(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path.relative_to(ROOT)} has {lines} lines: is this still one room?"
