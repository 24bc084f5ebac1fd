"""What can be done with accounts; `connect` is the only place where a stored credential is opened."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from . import deeds, egress, health, request_log, signals, vault
from .cooling import NotingLimiter
from .limiter import RedisLimiter
from .models import Account, Health, User
from .providers import get_provider
from .providers.base import Pace, Patience, Provider
from .providers.errors import CredentialsRejected, ProviderError
from .providers.schema import Op
from .providers.secret import Secret
from .request_log import Recorder

T = TypeVar("T")
logger = logging.getLogger(__name__)

TABLE = "accounts_account"
# A person waits for these; background work may wait longer.
PROMPT = Patience(attempts=3, seconds=12.0)
BACKGROUND = Patience(attempts=5, seconds=60.0)
# Requests that a long connection collects before it stores them.
STORED_AT_ONCE = 100


def check_address(provider: type[Provider], base_url: str) -> str:
    """Returns the base URL as it is to be stored; raises ValidationError with the reason in the user's language.

    Besides the egress rules, a provider may name the hosts that its credentials may be sent to; private addresses and hosts that the
    environment allows are not bound by that, so that gateways and test doubles can be reached.
    """
    address = (base_url or provider.default_base_url).strip().rstrip("/")
    try:
        egress.check_url(address)
    except egress.EgressRefused as refused:
        raise ValidationError(explain_address(refused), code=refused.code) from refused
    host = urlsplit(address).hostname or ""
    allowed = getattr(provider, "allowed_hosts", ())
    named = any(host == name or host.endswith(f".{name}") for name in allowed)
    if allowed and not named and not _host_is_trusted(host):
        raise ValidationError(
            _("%(provider)s is reached at hosts under %(hosts)s; others need SWITCHBOARD_EGRESS_HTTP_HOSTS or SWITCHBOARD_EGRESS_ALLOW_CIDRS.")
            % {"provider": provider.name, "hosts": ", ".join(allowed)},
            code="host_not_allowed",
        )
    return address


def _host_is_trusted(host: str) -> bool:
    if any(host == entry.split(":")[0] for entry in settings.EGRESS_HTTP_HOSTS):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network) for network in settings.EGRESS_ALLOW_CIDRS)


def explain_address(refused: egress.EgressRefused) -> str:
    """Returns why an address is refused, for the field beside it."""
    return _("This address cannot be used: %(reason)s") % {"reason": _(str(refused))}


# --- connecting ---------------------------------------------------------------------------------------------------------------------


def credentials_of(account: Account) -> dict[str, Secret]:
    """Opens an account's credential; raises CredentialsRejected when there is none or it cannot be opened with the keys at hand."""
    if not account.sealed_credentials:
        raise CredentialsRejected(gettext_noop("This account has no credential yet."))
    try:
        return vault.open_sealed(account.sealed_credentials, table=TABLE, row=str(account.pk), field="credentials")
    except vault.VaultError as error:
        raise CredentialsRejected(gettext_noop("The stored credential cannot be opened with the encryption keys of this installation.")) from error


def pace_of(account: Account) -> Pace:
    """Returns the account's pace: the provider's, with what the account's owner set."""
    declared = account.provider.pace
    return Pace(account.rate or declared.rate, declared.burst, account.concurrency or declared.concurrency, declared.cool_down)


@asynccontextmanager
async def connect(
    account: Account, *, patience: Patience = BACKGROUND, prompt: bool = False, recorder: Recorder | None = None
) -> AsyncIterator[Provider]:
    """Opens the one way to an account's provider: guarded client, limiter and credential; what it learns is saved on leaving.

    Every attempt of a request goes into the request log: what `recorder` still holds is stored on leaving, and whoever gives one may store
    it earlier. Usable for several calls within one event loop. Raises CredentialsRejected when the credential cannot be opened.
    """
    recorder = Recorder(account.pk) if recorder is None else recorder
    memory, kept = copy.deepcopy(account.memory), _open_kept(account)
    limiter = NotingLimiter(settings.REDIS_URL, account.pk)
    pace = pace_of(account)
    provider = account.provider(
        egress.build_client(concurrency=pace.concurrency),
        credentials_of(account),
        base_url=account.base_url,
        limiter=limiter,
        identity=account.upstream_identity,
        pace=pace,
        patience=patience,
        prompt=prompt,
        memory=memory,
        kept=kept,
        recorder=recorder,
    )
    memory_before, kept_before = copy.deepcopy(memory), dict(kept)
    try:
        yield provider
    finally:
        await provider.http.aclose()
        await limiter.aclose()
        learned = {name: value for name, value in memory.items() if value != memory_before.get(name)}
        if learned or kept != kept_before:
            await asyncio.to_thread(_save_learned, account, learned, kept if kept != kept_before else None)
        if recorder:
            await asyncio.to_thread(_save_requests, recorder)


def _open_kept(account: Account) -> dict[str, str]:
    if not account.sealed_kept:
        return {}
    try:
        opened = vault.open_sealed(account.sealed_kept, table=TABLE, row=str(account.pk), field="kept")
    except vault.VaultError:
        return {}  # only a cache: it is fetched again
    return {name: value.reveal() for name, value in opened.items()}


def _save_learned(account: Account, learned: dict[str, Any], kept: dict[str, str] | None) -> None:
    try:
        learn(account, learned, kept)
    finally:
        connection.close()  # this thread's own


def _save_requests(recorder: Recorder) -> None:
    try:
        request_log.store(recorder.drain())
    finally:
        connection.close()  # this thread's own


def learn(account: Account, learned: dict[str, Any], kept: dict[str, str] | None = None) -> None:
    """Adds what a connection learned to what the account remembers now; another connection may have learned something else meanwhile."""
    with transaction.atomic():
        row = Account.objects.select_for_update(no_key=True).only("memory").filter(pk=account.pk).first()
        if row is None:
            return  # deleted meanwhile
        account.memory = row.memory | learned
        changes: dict[str, Any] = {"memory": account.memory}
        if kept is not None:
            changes["sealed_kept"] = vault.seal(kept, table=TABLE, row=str(account.pk), field="kept") if kept else ""
        Account.objects.filter(pk=account.pk).update(**changes)


class Line:
    """A connection held open for several calls from ordinary (not async) code, one after the other."""

    def __init__(self, runner: asyncio.Runner, provider: Provider, recorder: Recorder) -> None:
        self._runner = runner
        self._recorder = recorder
        self.provider = provider

    def run(self, operation: Callable[[Provider], Awaitable[T]]) -> T:
        """Returns the result of one operation; raises its ProviderError."""

        async def once() -> T:
            return await operation(self.provider)

        try:
            return self._runner.run(once(), context=contextvars.copy_context())  # with the subject that holds now
        finally:
            if len(self._recorder) >= STORED_AT_ONCE:
                request_log.store(self._recorder.drain())


@contextmanager
def line(account: Account, *, patience: Patience = BACKGROUND, prompt: bool = False) -> Iterator[Line]:
    """Opens a connection for several calls; the account's health follows what happens on it."""
    recorder = Recorder(account.pk)
    with asyncio.Runner(loop_factory=egress.new_loop) as runner:
        context = connect(account, patience=patience, prompt=prompt, recorder=recorder)
        try:
            provider = runner.run(_enter(context))
            try:
                yield Line(runner, provider, recorder)
            finally:
                request_log.store(recorder.drain())  # here, where a connection to the database is open
                runner.run(_leave(context))
        except ProviderError as error:
            health.note_failure(account, error)
            raise
    health.note_success(account)


async def _enter(context: Any) -> Provider:
    return await context.__aenter__()


async def _leave(context: Any) -> None:
    await context.__aexit__(None, None, None)


def call(account: Account, operation: Callable[[Provider], Awaitable[T]], *, patience: Patience = PROMPT, prompt: bool = True) -> T:
    """Runs one operation on an account to its end, with a client of its own, and returns its result; raises its ProviderError."""
    with line(account, patience=patience, prompt=prompt) as held:
        return held.run(operation)


# --- testing ------------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class TestReport:
    """What a test of a credential found; `error` is set when it failed, `conversations` and `models` are None when not told."""

    who: str = ""
    user_id: str = ""
    conversations: int | None = None
    at_least: bool = False  # the provider tells no total: `conversations` counts the first page
    models: int | None = None
    latency_ms: int | None = None
    expires_at: datetime | None = None
    error: ProviderError | None = None
    models_error: ProviderError | None = None  # the credential works, but the models could not be read
    notes: list[str] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)

    __test__ = False  # not a test class, whatever its name says

    @property
    def ok(self) -> bool:
        """True when the credential works."""
        return self.error is None


def test_credentials(provider_key: str, base_url: str, credentials: Mapping[str, str]) -> TestReport:
    """Tries a credential that is not stored yet: who it is, how many conversations and models, and how fast; never raises ProviderError."""

    async def attempt() -> TestReport:
        limiter = RedisLimiter(settings.REDIS_URL)
        # Nothing is recorded: there is no account yet that a record could belong to.
        provider = get_provider(provider_key)(
            egress.build_client(concurrency=2),
            {name: Secret(value) for name, value in credentials.items()},
            base_url=base_url,
            limiter=limiter,
            patience=Patience(attempts=2, seconds=8.0),
            prompt=True,
        )
        try:
            return await inspect(provider)
        finally:
            await provider.http.aclose()
            await limiter.aclose()

    with asyncio.Runner(loop_factory=egress.new_loop) as runner:
        return runner.run(attempt())


async def inspect(provider: Provider) -> TestReport:
    """Asks a connected provider what the test of an account shows; what cannot be counted is a note, not a failure."""
    report = TestReport(expires_at=provider.expires_at())
    try:
        started = time.perf_counter()
        identity = await provider.check()
        report.latency_ms = round((time.perf_counter() - started) * 1000)
        report.who, report.user_id = identity.name or identity.user_id, identity.user_id
        report.expires_at = identity.expires_at or report.expires_at
        page = await provider.list_conversations()
        report.conversations = page.total if page.total is not None else len(page.items)
        report.at_least = page.total is None and page.next is not None
    except ProviderError as error:
        report.error = error
        return report
    if provider.capability(Op.MODELS).available:
        try:
            report.models = len(await provider.list_models())
        except ProviderError as error:
            report.models_error = error
            report.notes.append(str(error))
    report.memory = dict(provider.memory)
    return report


test_credentials.__test__ = False  # type: ignore[attr-defined]


# --- adding, replacing, deleting ----------------------------------------------------------------------------------------------------


def clean_credentials(provider: type[Provider], given: Mapping[str, Any]) -> dict[str, str]:
    """Returns the credential document as stored; raises ValidationError with messages by field.

    A document from a file may hold numbers and lists of them (agent ids); null stands for a field that is left out.
    """
    known = {field.name for field in provider.credential_fields}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValidationError({"": [_("%(provider)s has no field %(name)s.") % {"provider": provider.name, "name": ", ".join(unknown)}]})
    clean = provider.clean_credentials({name: _as_text(name, value) for name, value in given.items() if value is not None})
    errors = provider.check_credentials(clean)
    if errors:
        raise ValidationError({name: [_(message)] for name, message in errors.items()})
    return clean


def _as_text(name: str, value: Any) -> str:
    """Returns a value of a credential document as a form would give it; raises ValidationError for one that is neither text nor numbers."""
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, bool) or not isinstance(part, str | int) for part in parts):
        raise ValidationError({name: [_("This must be text.")]})
    return ", ".join(map(str, parts))


def hints_for(provider: type[Provider], credentials: Mapping[str, str]) -> dict[str, str]:
    """Returns what may be shown of a credential: open fields as they are, of secrets the last characters."""
    secret = {field.name: field.secret for field in provider.credential_fields}
    return {name: str(Secret(value)) if secret.get(name, True) else value for name, value in credentials.items()}


def identity_of(provider_key: str, base_url: str, user_id: str, account_id: Any) -> str:
    """Returns the upstream identity: limits and write claims of two accounts with the same one are shared."""
    host = urlsplit(base_url).netloc
    return f"{provider_key}:{host}:{user_id}"[:120] if user_id else f"{provider_key}:{host}:account-{account_id}"[:120]


@transaction.atomic
def add_account(
    owner: User, provider_key: str, label: str, base_url: str, credentials: Mapping[str, str], *, report: TestReport | None = None
) -> Account:
    """Stores a new account with its sealed credential and returns it; raises ValidationError for a label used before."""
    account = Account(owner=owner, provider_key=provider_key, label=label.strip(), base_url=base_url)
    _take_credentials(account, credentials, report)
    try:
        with transaction.atomic():
            account.save(force_insert=True)
    except IntegrityError as error:
        raise ValidationError({"label": [_("You already have an account with this label.")]}) from error
    deeds.tell(owner, "add account", account=account, after={"provider": provider_key, "base_url": base_url})
    _count(account, report)
    _tell(signals.account_connected, account, replaced=False)
    return account


@transaction.atomic
def replace_credentials(
    account: Account, credentials: Mapping[str, str], *, base_url: str | None = None, report: TestReport | None = None, by: User | None = None
) -> None:
    """Gives an account a new credential, in the name of `by` (default: its owner); its id, its conversations and its jobs stay."""
    stored = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    account.base_url = stored.base_url if base_url is None else base_url
    account.sealed_kept, account.cause, account.cause_detail = "", "", ""
    account.memory = stored.memory  # a lane may have learned something
    _take_credentials(account, credentials, report)
    account.save(update_fields=_CREDENTIAL_COLUMNS)  # not all: a worker may be writing down how far its reading is
    moved = stored.base_url != account.base_url
    urls = [{"base_url": one.base_url} if moved else None for one in (stored, account)]
    deeds.tell(by or account.owner, "replace credential", account=account, before=urls[0], after=urls[1])
    _count(account, report)
    _tell(signals.account_connected, account, replaced=True)


def _count(account: Account, report: TestReport | None) -> None:
    if report and report.ok:
        health.count(account.pk, Health.OK, timezone.now().date())


def _tell(signal: Signal, account: Account, **more: Any) -> None:
    """Sends a signal once the change is stored."""
    transaction.on_commit(partial(signal.send, sender=Account, account=account, **more))


def other_user(account: Account, report: TestReport) -> bool:
    """True when a tested credential belongs to another upstream user than the account; False also where one of the two is not known."""
    known = account.upstream_identity and account.upstream_identity != identity_of(account.provider_key, account.base_url, "", account.pk)
    return bool(known and report.user_id) and account.upstream_identity != identity_of(
        account.provider_key, account.base_url, report.user_id, account.pk
    )


def rename_account(account: Account, label: str, *, by: User) -> None:
    """Gives an account another label in the name of `by`; raises ValidationError for one used before."""
    try:
        deeds.change(account, "edit account", {"label": label.strip()}, by)
    except IntegrityError as error:
        raise ValidationError({"label": [_("You already have an account with this label.")]}) from error


@transaction.atomic
def pause_account(account: Account, *, by: User | None = None) -> None:
    """Stops reading and writing through an account until it is resumed, in the name of `by` (default: its owner); what waits keeps waiting."""
    if Account.objects.filter(pk=account.pk, paused_at__isnull=True).update(paused_at=timezone.now()):
        account.refresh_from_db()
        deeds.tell(by or account.owner, "pause account", account=account)
        _tell(signals.account_paused, account)


@transaction.atomic
def resume_account(account: Account, *, by: User | None = None) -> None:
    """Lets a paused account go on with what waited for it, in the name of `by` (default: its owner)."""
    if Account.objects.filter(pk=account.pk, paused_at__isnull=False).update(paused_at=None):
        account.refresh_from_db()
        deeds.tell(by or account.owner, "resume account", account=account)
        _tell(signals.account_resumed, account)


_CREDENTIAL_COLUMNS = [
    "base_url",
    "sealed_credentials",
    "sealed_kept",
    "hints",
    "memory",
    "upstream_identity",
    "upstream_name",
    "credential_expires_at",
    "credential_since",
    "health",
    "cause",
    "cause_detail",
    "last_success_at",
    "checked_at",
    "check_after",
]


def _take_credentials(account: Account, credentials: Mapping[str, str], report: TestReport | None) -> None:
    account.sealed_credentials = vault.seal(dict(credentials), table=TABLE, row=str(account.pk), field="credentials")
    account.hints = hints_for(account.provider, credentials)
    account.health = Health.OK if report and report.ok else Health.UNKNOWN
    account.upstream_name = report.who[:200] if report else account.upstream_name
    account.credential_expires_at = report.expires_at if report else None
    account.credential_since = timezone.now()
    account.memory = dict(account.memory) | (report.memory if report else {})
    user_id = report.user_id if report else ""
    account.upstream_identity = identity_of(account.provider_key, account.base_url, user_id, account.pk)
    account.checked_at = account.check_after = None  # a credential that nobody tried is asked soon
    if report and report.ok:
        account.last_success_at = account.checked_at = timezone.now()
        account.check_after = account.checked_at + health.usual_pause()


def delete_account(account: Account, *, by: User | None = None) -> None:
    """Deletes an account here with its conversations, items and seals, in the name of `by` (default: its owner); nothing changes at the provider."""
    with transaction.atomic():
        signals.account_leaving.send(sender=Account, account=account, by=by or account.owner)
        account.delete()


def leads_elsewhere(account: Account, base_url: str) -> bool:
    """True when an address leads to another server than the one that an account's secrets were given for: another scheme, host or port."""
    return origin_of(account.base_url) != origin_of(base_url)


def origin_of(base_url: str) -> tuple[str, str, int | None]:
    """Returns scheme, host and port of an address that was checked."""
    parts = urlsplit(base_url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def merge_credentials(provider: type[Provider], stored: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Returns a stored credential document with the given fields replaced; an empty secret keeps what is stored."""
    secrets = {field.name for field in provider.credential_fields if field.secret}
    kept = {name: value for name, value in stored.items() if name in secrets or name not in given}
    return kept | {name: value for name, value in given.items() if value or name not in secrets}


def test_account(account: Account) -> TestReport:
    """Tries a stored credential and notes what it says about the account's health."""
    was_refused = account.health == Health.NEEDS_REAUTH
    try:
        report = call(account, inspect)
    except ProviderError as error:
        return TestReport(error=error)
    if report.error is not None:
        health.note_failure(account, report.error)
        return report
    Account.objects.filter(pk=account.pk).update(
        upstream_name=report.who[:200],
        upstream_identity=identity_of(account.provider_key, account.base_url, report.user_id, account.pk),
        credential_expires_at=report.expires_at,
    )
    account.refresh_from_db()
    if was_refused:
        _tell(signals.account_connected, account, replaced=True)
    return report


test_account.__test__ = False  # type: ignore[attr-defined]
