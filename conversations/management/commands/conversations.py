"""`manage.py conversations sync|list|messages|show|switch|rename|configure`."""

from __future__ import annotations

import logging
import time
from argparse import ArgumentParser, Namespace
from typing import Any

import redis
from django.core.exceptions import PermissionDenied
from django.core.management.base import CommandError
from django.db import DatabaseError

from accounts import services
from accounts.cli import SubCommand, actor_for, fail, find_accounts, find_user, line_of, pairs_of, positive, refuse_paused, wrong_usage
from accounts.models import Account, User
from accounts.providers.errors import ProviderError
from accounts.providers.records import RemoteMessage
from accounts.request_log import about

from ... import edits, mirror
from ...models import Conversation
from ...states import REASONS, ItemStatus, counter_of

logger = logging.getLogger(__name__)
POLL = 0.3


class Command(SubCommand):
    """Reads accounts into the mirror, shows conversations and changes one."""

    help = "Reads accounts into the mirror, shows conversations and changes one."
    subcommands = {
        "sync": "Read all conversations of accounts, here and now.",
        "list": "List conversations, newest first.",
        "messages": "Print a conversation's messages, oldest first.",
        "show": "Read one conversation at its provider and print it.",
        "switch": "Switch one conversation's model.",
        "rename": "Rename one conversation.",
        "configure": "Change settings of one conversation.",
    }

    # --- sync -----------------------------------------------------------------------------------------------------------------------

    def add_sync(self, parser: ArgumentParser) -> None:
        parser.add_argument("--account", action="extend", nargs="+", default=[], metavar="ID", help="only these (default: all that are not paused)")
        parser.add_argument("--user", metavar="EMAIL", help="who asks for it (default: each account's owner)")

    def do_sync(self, given: Namespace) -> int:
        accounts = find_accounts(given.account)
        if accounts:
            for account in accounts:
                self._may(account, actor_for(account, given.user))
        else:
            accounts = self._all(find_user(given.user) if given.user else None)
        failed = 0
        for account in accounts:
            cause = self._sync(given, account)
            if cause:
                failed += 1
                self.stdout.flush()
                self.stderr.write(f"error: {account.label}: {cause}")
        return 1 if failed else 0

    @staticmethod
    def _may(account: Account, user: User) -> None:
        if not Account.objects.editable_by(user).filter(pk=account.pk).exists():
            raise PermissionDenied(f"{user.email} may not do that with this account")

    @staticmethod
    def _all(user: User | None) -> list[Account]:
        """Returns every account that may be read: this user's, or without one those of all active owners."""
        accounts = Account.objects.filter(paused_at__isnull=True).select_related("owner")
        return list(accounts.filter(owner__is_active=True) if user is None else accounts.filter(pk__in=Account.objects.editable_by(user)))

    def _sync(self, given: Namespace, account: Account) -> str:
        """Reads one account and prints what was found; returns the cause when that failed, so that the others still get their turn."""
        try:
            refuse_paused(account)
            progress = self._whole_listing(account)
        except CommandError as error:
            return str(error)
        except mirror.SyncStopped:
            return "the reading was cancelled"
        except ProviderError as error:
            return line_of(error)
        except (redis.RedisError, DatabaseError):
            raise  # the others would fail the same way
        except Exception as error:
            logger.exception("reading of account %s", account.pk)
            return f"something went wrong here ({type(error).__name__}), the log line above tells where"
        names = ("listed", "new", "changed", "gone", "requests", "seconds")
        row = {"account": account.pk, "label": account.label} | {name: getattr(progress, name) for name in names}
        self.rows(given, [row | {"note": progress.note or None}])
        self.stdout.flush()
        return ""

    @staticmethod
    def _whole_listing(account: Account) -> mirror.Progress:
        """Reads an account to the end; while another process does so, waits for its turn and goes on where that one stopped."""
        while True:
            try:
                progress = mirror.sync(account)
            except mirror.SyncBusy:
                if not Account.objects.filter(pk=account.pk).exists():
                    fail("the account was deleted meanwhile")
                time.sleep(POLL)
            else:
                assert progress is not None  # without a slice of time a reading ends or raises
                return progress

    # --- looking --------------------------------------------------------------------------------------------------------------------

    def add_list(self, parser: ArgumentParser) -> None:
        parser.add_argument("--account", action="extend", nargs="+", default=[], metavar="ID")
        parser.add_argument("--model", metavar="M", help="only those on this model (its catalogue id)")
        parser.add_argument("--search", metavar="TEXT", help="only those with these words in their title")
        parser.add_argument("--limit", type=positive, metavar="N", help="only the newest N (default: all)")
        parser.add_argument("--user", metavar="EMAIL", help="only what this user may see")

    def do_list(self, given: Namespace) -> None:
        rows = Conversation.objects.present()
        if given.user:
            rows = rows.visible_to(find_user(given.user))
        if given.account:
            rows = rows.filter(account__in=find_accounts(given.account))
        if given.model:
            rows = rows.filter(model=given.model)
        if given.search:
            rows = rows.search(given.search)
        rows = rows.order_by("-sort_at", "-pk")
        rows = rows[: given.limit] if given.limit else rows
        self.rows(given, (self._row(row) for row in rows.iterator()))

    def add_show(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=positive, metavar="ID")

    def do_show(self, given: Namespace) -> None:
        row = mirror.refresh(self._find(given.id))
        self.document(given, self._row(row) | {"config": row.config, "details": row.details, "first_message": row.first_message})

    def add_messages(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=positive, metavar="ID")
        parser.add_argument("--all", action="store_true", help="every message, not only the newest page")

    def do_messages(self, given: Namespace) -> None:
        row = self._find(given.id)
        pages: list[tuple[RemoteMessage, ...]] = []
        cursor: str | None = None
        with about(f"conversation:{row.pk}"), services.line(row.account, prompt=True) as line:
            while True:
                page = line.run(lambda provider, at=cursor: provider.messages(mirror.ref_of(row), at))  # type: ignore[misc]
                pages.append(page.items)
                cursor = page.older
                if cursor is None or not given.all:
                    break
        # What was said between two requests moves the pages: the same message may be on two of them.
        unique = {message.key: message for items in reversed(pages) for message in items}
        whole = cursor is None
        self.rows(given, (self._message(message, n if whole else message.position) for n, message in enumerate(unique.values(), start=1)))

    @staticmethod
    def _message(message: RemoteMessage, position: int | None) -> dict[str, Any]:
        return {
            "position": position,
            "id": message.key,
            "role": message.role,
            "text": message.text,
            "model": message.model or None,
            "created_at": message.created_at,
        }

    # --- changing -------------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _add_change(parser: ArgumentParser) -> None:
        parser.add_argument("id", type=positive, metavar="ID")
        parser.add_argument("--user", metavar="EMAIL", help="who changes it (default: the account's owner)")

    def add_switch(self, parser: ArgumentParser) -> None:
        self._add_change(parser)
        parser.add_argument("--model", required=True, metavar="M", help="the model's catalogue id")

    def do_switch(self, given: Namespace) -> None:
        self._edit(given, {"model": given.model}, "switch model")

    def add_rename(self, parser: ArgumentParser) -> None:
        self._add_change(parser)
        parser.add_argument("--title", required=True, metavar="T")

    def do_rename(self, given: Namespace) -> None:
        self._edit(given, {"title": given.title}, "rename")

    def add_configure(self, parser: ArgumentParser) -> None:
        self._add_change(parser)
        parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="a setting by the provider's name for it")
        parser.add_argument("--model", metavar="M")
        parser.add_argument("--title", metavar="T")

    def do_configure(self, given: Namespace) -> None:
        changes: dict[str, Any] = pairs_of(given.set)
        changes |= {name: value for name, value in (("model", given.model), ("title", given.title)) if value is not None}
        if not changes:
            wrong_usage("nothing to change: give --set, --model or --title")
        self._edit(given, changes, "edit settings")

    def _edit(self, given: Namespace, changes: dict[str, Any], what: str) -> None:
        row = self._find(given.id)
        user = actor_for(row.account, given.user)
        if not Conversation.objects.editable_by(user).filter(pk=row.pk).exists():
            raise PermissionDenied(f"{user.email} may not change conversations of this account")
        refuse_paused(row.account)
        outcome = edits.edit_now(user, row, edits.check_changes(row, changes), what=what)
        status = counter_of(outcome.status, outcome.reason)
        if outcome.status not in (ItemStatus.APPLIED, ItemStatus.UNCHANGED):
            sentence = str(REASONS.get(outcome.reason) or outcome.status.label)
            fail(" ".join(filter(None, [f"{status}: {sentence}", outcome.detail])))
        result = {"status": status, "reason": outcome.reason or None, "before": outcome.before, "after": outcome.after}
        self.document(given, self._row(row) | result)

    # --- helpers --------------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _find(pk: int) -> Conversation:
        try:
            return Conversation.objects.select_related("account__owner").get(pk=pk)
        except Conversation.DoesNotExist:
            fail(f"there is no conversation {pk}")

    @staticmethod
    def _row(row: Conversation) -> dict[str, Any]:
        return {
            "id": row.pk,
            "account": row.account_id,
            "remote_id": row.remote_id,
            "title": row.title,
            "model": row.model or None,
            "updated_at": row.updated_at,
            "message_count": row.message_count,
        }
