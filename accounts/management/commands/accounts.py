"""`manage.py accounts add|list|test|delete|export|import`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, Q
from django.utils.translation import gettext as _

from accounts import capture, definitions, services
from accounts.cli import SubCommand, acting_user, actor_for, fail, find_account, find_user, line_of, read_text, refuse_paused, wrong_usage
from accounts.copied import Loss
from accounts.explain import sentences
from accounts.models import Account, Health, User
from accounts.providers import all_providers, get_provider
from accounts.providers.base import Provider


class Command(SubCommand):
    """Adds, lists, tests, deletes, exports and imports accounts at providers."""

    help = "Adds, lists, tests, deletes, exports and imports accounts at providers."
    subcommands = {
        "add": "Test a credential and store it as an account.",
        "list": "List the accounts.",
        "test": "Try an account's credential.",
        "delete": "Delete an account here; nothing changes at the provider.",
        "export": "Print a user's accounts as JSON, without any secret.",
        "import": "Make accounts of an exported document; each waits for its credential.",
    }

    def add_add(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", required=True, metavar="EMAIL", help="the account's owner")
        keys = sorted(provider.key for provider in all_providers())
        parser.add_argument("--provider", choices=keys, help="not needed with a capture that can only be of one")
        parser.add_argument("--label", required=True, metavar="TEXT")
        parser.add_argument("--base-url", default="", metavar="URL", help="when it is not the provider's usual one")
        parser.add_argument("--credentials", metavar="FILE|-", help="a JSON document with the provider's credential fields")
        parser.add_argument("--capture", metavar="FILE|-", help="a request copied in a browser's developer tools, a HAR entry, a token or a key")
        parser.add_argument("--no-test", action="store_true", help="store it without trying it")

    def do_add(self, given: Namespace) -> None:
        owner = acting_user(given.user)
        label = self._label(given.label)
        provider, base_url, document = self._given(given)
        credentials = services.clean_credentials(provider, document)
        base_url = services.check_address(provider, base_url)
        report = None
        if not given.no_test:
            report = services.test_credentials(provider.key, base_url, credentials)
            if report.error is not None:
                raise report.error
        account = services.add_account(owner, provider.key, label, base_url, credentials, report=report)
        self.document(given, self._row(self._counted().get(pk=account.pk)))

    def _given(self, given: Namespace) -> tuple[type[Provider], str, dict[str, Any]]:
        """Returns provider, address and credential document, from a capture, a document, or a capture with what it lacks in a document."""
        if not given.capture and not (given.credentials and given.provider):
            wrong_usage("give --capture, or --provider with --credentials")
        if given.capture == given.credentials == "-":
            wrong_usage("only one of --capture and --credentials can be standard input")
        provider = get_provider(given.provider) if given.provider else None
        more = self._document(given.credentials) if given.credentials else {}
        if not given.capture:
            assert provider is not None
            return provider, given.base_url, more
        found = self._captured(given.capture, provider)
        assert found.provider is not None
        return found.provider, given.base_url or found.base_url, found.values() | more

    def _captured(self, name: str, provider: type[Provider] | None) -> capture.Capture:
        """Returns what a capture holds; says on standard error what was lost, and ends the command where it is of no use."""
        try:
            found = capture.read(read_text(name), provider)
        except capture.CaptureError as error:
            wrong_usage(_(str(error)))
        if found.refusal == "unknown":
            fail(_(found.why) + " --provider: " + ", ".join(sorted(one.key for one in found.candidates)))
        if found.refusal:
            when = f" ({found.expires_at:%Y-%m-%d %H:%M:%S} UTC)" if found.refusal == "expired" else ""
            advice = _(found.provider.traces.advice) if found.refusal == "no_credential" and found.provider and found.provider.traces.advice else ""
            fail(sentences(_(found.why) + when, advice))
        for lost in found.losses:
            untold = "" if lost.loss is Loss.SUPPOSED else " not taken"
            self.stderr.write(f"note: {lost.name}{untold}: {_(lost.why)}")
        return found

    @staticmethod
    def _label(given: str) -> str:
        try:
            return str(Account._meta.get_field("label").clean(given.strip(), None))
        except ValidationError as error:
            raise ValidationError({"label": error.messages}) from error

    @staticmethod
    def _document(name: str) -> dict[str, Any]:
        """Returns a credential document; what is wrong with it is told without repeating any of it."""
        text = read_text(name)
        try:
            document = json.loads(text)
            json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
        except ValueError:
            wrong_usage("the credential document is not JSON")
        if not isinstance(document, dict):
            wrong_usage("the credential document must be a JSON object")
        return document

    def add_list(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", metavar="EMAIL", help="only what this user may see")

    def do_list(self, given: Namespace) -> None:
        accounts = self._counted()
        if given.user:
            accounts = accounts.filter(pk__in=Account.objects.visible_to(find_user(given.user)))
        self.rows(given, (self._row(account) for account in accounts))

    def add_test(self, parser: ArgumentParser) -> None:
        parser.add_argument("--account", required=True, metavar="ID")
        parser.add_argument("--user", metavar="EMAIL", help="who asks for it (default: the account's owner)")

    def do_test(self, given: Namespace) -> None:
        account = find_account(given.account)
        self._may(account, actor_for(account, given.user))
        refuse_paused(account)
        report = services.test_account(account)
        if report.error is not None:
            raise report.error
        self.document(
            given,
            {
                "id": account.pk,
                "provider": account.provider_key,
                "label": account.label,
                "who": report.who or None,
                "conversations": report.conversations,
                "at_least": report.at_least,
                "models": report.models,
                "latency_ms": report.latency_ms,
                "expires_at": report.expires_at,
                "notes": report.notes,
            },
        )

    def add_delete(self, parser: ArgumentParser) -> None:
        parser.add_argument("--account", required=True, metavar="ID")
        parser.add_argument("--user", metavar="EMAIL", help="who deletes it (default: the account's owner)")

    def do_delete(self, given: Namespace) -> None:
        account = find_account(given.account)
        user = actor_for(account, given.user)
        self._may(account, user)
        row = {"id": account.pk, "label": account.label, "deleted": True}
        services.delete_account(account, by=user)
        self.document(given, row)

    def add_export(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", required=True, metavar="EMAIL", help="whose accounts")

    def do_export(self, given: Namespace) -> None:
        owned = Account.objects.filter(owner=find_user(given.user)).prefetch_related("labels")
        self.stdout.write(definitions.export(owned))

    def add_import(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", required=True, metavar="EMAIL", help="the owner of the new accounts")
        parser.add_argument("--file", required=True, metavar="FILE|-", help="a document that `accounts export` printed")

    def do_import(self, given: Namespace) -> None:
        owner, text = acting_user(given.user), read_text(given.file)
        try:
            done = definitions.import_accounts(owner, text)
        except definitions.NotADocument as error:
            wrong_usage(line_of(error))
        created = {account.pk for account in done.created}
        self.rows(given, (self._row(account) for account in self._counted().filter(pk__in=created)))
        if done.refused:
            fail("; ".join(line_of(Exception(f"entry {entry.number} ({entry.label}): {entry.reason}")) for entry in done.refused))

    @staticmethod
    def _may(account: Account, user: User) -> None:
        if not Account.objects.owned_by(user).filter(pk=account.pk).exists():
            raise PermissionDenied(f"{user.email} may not do that with this account")

    @staticmethod
    def _counted() -> Any:
        present = Count("conversations", filter=Q(conversations__gone_at__isnull=True))
        return Account.objects.select_related("owner").annotate(conversation_count=present)

    @staticmethod
    def _row(account: Any) -> dict[str, Any]:
        """Returns the fields of an account; what nobody knows yet (its health, how many conversations it has) is None."""
        never_read = account.synced_at is None and not account.conversation_count
        return {
            "id": account.pk,
            "provider": account.provider_key,
            "label": account.label,
            "owner": account.owner.email,
            "base_url": account.base_url,
            "health": None if account.health == Health.UNKNOWN else account.health,
            "cause": account.cause or None,
            "conversations": None if never_read else account.conversation_count,
            "synced_at": account.synced_at,
        }
