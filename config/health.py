"""Probes: `/healthz` says that the process answers, `/readyz` that everything it needs answers too."""

import logging
from collections.abc import Callable

import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse

logger = logging.getLogger(__name__)

PROBE_SECONDS = 1.0


class ProbeMiddleware:
    """Answers the two probes before hosts, sessions and redirects matter: they come by IP address and over plain HTTP."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer `/healthz` and `/readyz`, pass everything else on."""
        probe = {"/healthz": healthz, "/readyz": readyz}.get(request.path)
        if probe is None:
            return self.get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        response = probe(request)
        response["Cache-Control"] = "no-store"
        return response


def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 as long as the process answers at all."""
    return JsonResponse({"status": "alive"})


def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 when all parts are up, else 503 with the names of those that are down; causes go to the log only."""
    down = []
    for name, check in CHECKS.items():
        # After a database that does not answer, its migrations cannot be asked for.
        if name == "migrations" and "database" in down:
            continue
        try:
            check()
        except Exception as error:
            logger.warning("not ready: %s: %s: %s", name, type(error).__name__, error)
            down.append(name)
    if down:
        return JsonResponse({"status": "unavailable", "down": down}, status=503)
    return JsonResponse({"status": "ready"})


def check_database() -> None:
    """Ask the database for one row; raises what the driver raises. A new connection is given up after `connect_timeout`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


def check_migrations() -> None:
    """Raise RuntimeError while migrations wait to be run; once none do, this process does not look again."""
    if _migrated:
        return
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if waiting:
        raise RuntimeError(f"{len(waiting)} migrations have not been run")
    _migrated.append(True)


def check_redis() -> None:
    """PING the Redis of the installation; raises what the client raises after at most two seconds."""
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=PROBE_SECONDS, socket_connect_timeout=PROBE_SECONDS, retry=None)
    try:
        client.ping()
    finally:
        client.close()


_migrated: list[bool] = []
CHECKS: dict[str, Callable[[], None]] = {"database": check_database, "migrations": check_migrations, "redis": check_redis}
