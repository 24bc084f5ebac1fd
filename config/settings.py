"""All settings of Switchboard, read from the environment.

An empty environment gives a working development installation with SQLite and an embedded Redis in `var/`.
`SWITCHBOARD_ENV=production` adds what a server on the internet needs and refuses to start while a secret is missing.
"""

import base64
import hashlib
import re
import secrets
import tempfile
from pathlib import Path

import dj_database_url
from django.urls import reverse_lazy

from config.env import (
    BadSetting,
    env_bool,
    env_choice,
    env_https_url,
    env_int,
    env_int_list,
    env_list,
    env_networks,
    env_secret,
    env_str,
    keep_once,
    key_ring,
)
from config.logging import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Environment -----------------------------------------------------------------------------------------------------

ENVIRONMENT = env_choice("SWITCHBOARD_ENV", ("development", "production"), "development")
PRODUCTION = ENVIRONMENT == "production"
# Off by default even in development: the demo shows the product's own error pages, and a debug page shows settings.
DEBUG = env_bool("SWITCHBOARD_DEBUG", False)
if PRODUCTION and DEBUG:
    raise BadSetting("SWITCHBOARD_DEBUG is on with SWITCHBOARD_ENV=production: remove one of them.")

DATA_DIR = Path(env_str("SWITCHBOARD_DATA_DIR", str(BASE_DIR / "var"))).expanduser().resolve()

# --- Secrets ---------------------------------------------------------------------------------------------------------

SECRET_KEY = env_secret("SWITCHBOARD_SECRET_KEY")
ENCRYPTION_KEYS = key_ring("SWITCHBOARD_ENCRYPTION_KEYS", env_secret("SWITCHBOARD_ENCRYPTION_KEYS"))
if PRODUCTION:
    if len(SECRET_KEY) < 50 or len(set(SECRET_KEY)) < 5:
        raise BadSetting(
            "SWITCHBOARD_SECRET_KEY (or SWITCHBOARD_SECRET_KEY_FILE) needs at least 50 random characters in production: "
            "make one with `openssl rand -base64 48`."
        )
    if not ENCRYPTION_KEYS:
        raise BadSetting(
            "SWITCHBOARD_ENCRYPTION_KEYS (or SWITCHBOARD_ENCRYPTION_KEYS_FILE) is missing: make a key with `openssl rand -base64 32`, "
            "and keep it, because stored credentials open with nothing else."
        )
else:
    SECRET_KEY = SECRET_KEY or keep_once(DATA_DIR / "secret_key", secrets.token_urlsafe(48))
    ENCRYPTION_KEYS = ENCRYPTION_KEYS or key_ring(
        "SWITCHBOARD_ENCRYPTION_KEYS", keep_once(DATA_DIR / "encryption_keys", base64.b64encode(secrets.token_bytes(32)).decode("ascii"))
    )
if any(SECRET_KEY in (key, key.rstrip("="), key.translate(str.maketrans("+/", "-_"))) for key in ENCRYPTION_KEYS):
    raise BadSetting("SWITCHBOARD_ENCRYPTION_KEYS holds the secret key: the two must differ, make a key with `openssl rand -base64 32`.")

# --- Address and hosts -----------------------------------------------------------------------------------------------

BIND = env_str("SWITCHBOARD_BIND", "127.0.0.1")
PORT = env_int("SWITCHBOARD_PORT", 8000, minimum=1, maximum=65535)
SIMULATOR_PORT = env_int("SWITCHBOARD_SIMULATOR_PORT", 8710, minimum=1, maximum=65531)
ALLOWED_HOSTS = env_list("SWITCHBOARD_ALLOWED_HOSTS", () if PRODUCTION else ("localhost", "127.0.0.1", "[::1]"))
if not ALLOWED_HOSTS:
    raise BadSetting("SWITCHBOARD_ALLOWED_HOSTS is missing: write the host names of this installation, separated by commas.")
if PRODUCTION and "*" in ALLOWED_HOSTS:
    raise BadSetting("SWITCHBOARD_ALLOWED_HOSTS is '*': write the host names of this installation, separated by commas.")
# A proxy in front terminates TLS and sets X-Forwarded-Proto and X-Forwarded-For; without one these headers are a visitor's invention.
TRUST_PROXY = env_bool("SWITCHBOARD_TRUST_PROXY", False)

# --- Applications ----------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "accounts",
    "conversations",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "django_htmx",
    "csp",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "config.health.ProbeMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.middleware.PrivatePagesMiddleware",
    "accounts.middleware.ClientAddressMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.LanguageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "config.htmx.HtmxLoginRedirectMiddleware",
    # Closed by default: a view that strangers may see says so with @login_not_required.
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.recent.ConfirmationMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "conversations.context.around",
            ]
        },
    }
]

# --- Database --------------------------------------------------------------------------------------------------------

SQLITE_OPTIONS = {
    # A transaction takes the write lock when it begins: one that reads first and writes later would end in "database is locked".
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-4096; PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=67108864;"
    ),
}


def _database(url: str) -> dict:
    """Return the settings of the database that the address names."""
    try:
        database = dj_database_url.parse(url)
    except ValueError as error:
        raise BadSetting("DATABASE_URL cannot be read: write postgres://USER:PASSWORD@HOST:5432/NAME, or sqlite:////PATH.") from error
    engine = database.get("ENGINE", "")
    if engine == "django.db.backends.sqlite3":
        return {**database, "CONN_MAX_AGE": 60, "OPTIONS": {**SQLITE_OPTIONS, **database.get("OPTIONS", {})}}
    if engine == "django.db.backends.postgresql":
        options = {"connect_timeout": 5, **database.get("OPTIONS", {})}
        # Only what is sent for many rows is prepared (conversations/bulk.py); a pooler that does not bear it wants `?prepare_threshold=none`.
        threshold = str(options.get("prepare_threshold", 5))
        options["prepare_threshold"] = int(threshold) if threshold.isdigit() else None
        return {**database, "CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True, "OPTIONS": options}
    raise BadSetting("DATABASE_URL names a database that is not supported: write postgres://... or sqlite:////PATH.")


_DATABASE_URL = env_secret("DATABASE_URL")
if _DATABASE_URL:
    DATABASES = {"default": _database(_DATABASE_URL)}
else:
    DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(DATA_DIR / "switchboard.sqlite3"),
            "CONN_MAX_AGE": 60,
            "OPTIONS": SQLITE_OPTIONS,
        }
    }
# No request holds a transaction of its own: requests call providers, and a lock held over the network stops everyone.
DATABASES["default"]["ATOMIC_REQUESTS"] = False

# --- Redis -----------------------------------------------------------------------------------------------------------


def _embedded_socket(data_dir: Path) -> Path:
    """Return where the embedded Redis listens: below the data directory, or in a private temporary one.

    The operating system cuts socket paths at 107 bytes, and a blank or a percent sign would have to survive three URL parsers.
    """
    path = data_dir / "redis" / "redis.sock"
    if len(bytes(path)) <= 100 and re.fullmatch(r"[\w./+-]+", str(path), re.ASCII):
        return path
    digest = hashlib.sha256(bytes(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"switchboard-{digest}" / "redis.sock"


_REDIS_URL = env_secret("REDIS_URL")
REDIS_EMBEDDED = not _REDIS_URL
REDIS_SOCKET = _embedded_socket(DATA_DIR)
if REDIS_EMBEDDED:
    REDIS_URL = f"unix://{REDIS_SOCKET}?db=0"
    CELERY_BROKER_URL = f"redis+socket://{REDIS_SOCKET}?virtual_host=0"
    _CACHE_URL = f"unix://{REDIS_SOCKET}?db=1"
elif re.match(r"rediss?://", _REDIS_URL):
    REDIS_URL = CELERY_BROKER_URL = _CACHE_URL = _REDIS_URL
else:
    raise BadSetting("REDIS_URL must begin with redis:// or rediss://: write redis://HOST:6379/0, or leave it empty for the embedded one.")

CACHES = {
    "default": {
        "BACKEND": "config.cache.Cache",
        "LOCATION": _CACHE_URL,
        "KEY_PREFIX": "switchboard",
        "OPTIONS": {"socket_timeout": 3, "socket_connect_timeout": 3, "serializer": "config.cache.JSONSerializer"},
    }
}

# --- Signing in ------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = reverse_lazy("account_login")
LOGIN_REDIRECT_URL = "/"

ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_LOGOUT_REDIRECT_URL = LOGIN_URL
# For how long signing in, or confirming it, allows what is sensitive (accounts/recent.py).
ACCOUNT_REAUTHENTICATION_TIMEOUT = 900
# Counted in Redis, so over all processes; "key" is the account that is tried, whether it exists or not.
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": "10/m/ip,5/300s/key",
    "change_password": "5/m/user",
    "reauthenticate": "10/m/user",
}
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if TRUST_PROXY else 0

MFA_ADAPTER = "accounts.second_factor.MFAAdapter"
MFA_FORMS = {"activate_totp": "accounts.second_factor.ActivateTOTPForm"}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "Switchboard"
# A code is good within its half minute only, and once; with more tolerance the library would take it twice.
MFA_TOTP_TOLERANCE = 0
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True  # nothing here sends mail
MFA_RATE_LIMITS = {"webauthn_login": "10/m/ip"}
# Browsers allow passkeys on https and on http://localhost.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not PRODUCTION

# --- Signing in with OpenID Connect (docs/sign-in.md) --------------------------------------------------------------------

OIDC_ISSUER = env_https_url("OIDC_ISSUER", loopback=not PRODUCTION)
OIDC_CLIENT_ID = env_str("OIDC_CLIENT_ID")
OIDC_CLIENT_SECRET = env_secret("OIDC_CLIENT_SECRET")
OIDC_NAME = env_str("OIDC_NAME")
OIDC_TRUST_EMAIL = env_bool("OIDC_TRUST_EMAIL", False)
_OIDC_NEEDED = {"OIDC_ISSUER": OIDC_ISSUER, "OIDC_CLIENT_ID": OIDC_CLIENT_ID, "OIDC_CLIENT_SECRET (or OIDC_CLIENT_SECRET_FILE)": OIDC_CLIENT_SECRET}
_OIDC_MISSING = [name for name, value in _OIDC_NEEDED.items() if not value]
if _OIDC_MISSING and (len(_OIDC_MISSING) < len(_OIDC_NEEDED) or OIDC_NAME or OIDC_TRUST_EMAIL):
    raise BadSetting(f"{_OIDC_MISSING[0]} is missing: signing in with OpenID Connect needs {', '.join(_OIDC_NEEDED)}; set all of them or none.")

SOCIALACCOUNT_ADAPTER = "accounts.oidc.SocialAccountAdapter"
SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"provider_class": "accounts.oidc.Provider"}}
SOCIALACCOUNT_LOGIN_ON_GET = False
SOCIALACCOUNT_STORE_TOKENS = False

# --- Sessions and cookies --------------------------------------------------------------------------------------------

SESSION_ENGINE = "config.sessions"
_COOKIE_PREFIX = "__Host-" if PRODUCTION else ""
SESSION_COOKIE_NAME = f"{_COOKIE_PREFIX}sessionid"
CSRF_COOKIE_NAME = f"{_COOKIE_PREFIX}csrftoken"
LANGUAGE_COOKIE_NAME = f"{_COOKIE_PREFIX}language"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = LANGUAGE_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = LANGUAGE_COOKIE_SAMESITE = "Lax"
THEME_COOKIE_NAME = f"{_COOKIE_PREFIX}theme"
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600

# --- Browser security ------------------------------------------------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "manifest-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = PRODUCTION
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
# Probes come from the machine itself, over plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
if TRUST_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- Language and time -----------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# --- Static files ----------------------------------------------------------------------------------------------------

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env_str("SWITCHBOARD_STATIC_ROOT", str(BASE_DIR / "staticfiles")))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = not PRODUCTION

# --- Way out: which addresses a provider may have ----------------------------------------------------------------------

EGRESS_HTTP_HOSTS = env_list("SWITCHBOARD_EGRESS_HTTP_HOSTS")
EGRESS_PORTS = env_int_list("SWITCHBOARD_EGRESS_PORTS", minimum=1, maximum=65535)
EGRESS_ALLOW_CIDRS = env_networks("SWITCHBOARD_EGRESS_ALLOW_CIDRS")

# --- Background work -------------------------------------------------------------------------------------------------

SYNC_INTERVAL = env_int("SWITCHBOARD_SYNC_INTERVAL", 900, minimum=60, maximum=7 * 24 * 3600)
ACCOUNT_CHECK_INTERVAL = env_int("SWITCHBOARD_ACCOUNT_CHECK_INTERVAL", 900, minimum=60, maximum=7 * 24 * 3600)
JOBS_KEPT_DAYS = env_int("SWITCHBOARD_JOBS_KEPT_DAYS", 90, minimum=1, maximum=3650)
LANE_LEASE = env_int("SWITCHBOARD_LANE_LEASE", 15, minimum=3, maximum=300)
REQUESTS_KEPT_DAYS = env_int("SWITCHBOARD_REQUESTS_KEPT_DAYS", 14, minimum=1, maximum=365)

# --- Logging ---------------------------------------------------------------------------------------------------------

LOGGING = logging_config(env_choice("SWITCHBOARD_LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO"))
LOGGING_CONFIG = "logging.config.dictConfig"
DEFAULT_EXCEPTION_REPORTER_FILTER = "config.errors.ReportFilter"
