from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from tests.conversations.conftest import alice, connected, serve

__all__ = ["alice", "aside", "connected", "serve"]


@pytest.fixture
def aside() -> Iterator[Callable[..., Any]]:
    """A function that runs another one to its end in a thread of its own, for what starts an event loop: Playwright's occupies the main one."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda function, *given, **named: pool.submit(function, *given, **named).result()
        pool.submit(lambda: connection.close()).result()  # that of the thread
