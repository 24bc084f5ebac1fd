"""Settings of the test run: the product's own, read from an environment made for the tests.

What the developer's shell says about databases, keys and providers must not reach the tests, nor the processes that they start.
"""

import os
import tempfile
from pathlib import Path

_KEPT = ("SWITCHBOARD_REQUIRE_BROWSER", "SWITCHBOARD_TEST_POSTGRES")
for _name in list(os.environ):
    if (_name.startswith(("SWITCHBOARD_", "CELERY_", "OIDC_")) and _name not in _KEPT) or _name in ("DATABASE_URL", "REDIS_URL"):
        del os.environ[_name]

TEST_DIR = Path(tempfile.mkdtemp(prefix="switchboard-test-"))
os.environ["SWITCHBOARD_DATA_DIR"] = str(TEST_DIR)
os.environ["SWITCHBOARD_EGRESS_HTTP_HOSTS"] = "127.0.0.1"
os.environ["SWITCHBOARD_EGRESS_ALLOW_CIDRS"] = "127.0.0.0/8"
if os.environ.get("SWITCHBOARD_TEST_POSTGRES"):
    os.environ["DATABASE_URL"] = os.environ["SWITCHBOARD_TEST_POSTGRES"]

from config.settings import *  # noqa: E402, F403
from config.settings import DATABASES  # noqa: E402

# A file, because workers and commands under test are processes of their own.
DATABASES["default"]["TEST"] = {"NAME": str(TEST_DIR / "test.sqlite3")} if "DATABASE_URL" not in os.environ else {"NAME": "test_switchboard"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
