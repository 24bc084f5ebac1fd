"""`manage.py users add|list|rescue`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from getpass import getpass

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from accounts import second_factor, sessions
from accounts.cli import SubCommand, fail, read_text
from accounts.models import User


class Command(SubCommand):
    """Adds and lists the people who may sign in."""

    help = "Adds and lists the people who may sign in."
    subcommands = {
        "add": "Add a user.",
        "list": "List the users.",
        "rescue": "Let in with the password alone who lost phone and recovery codes.",
    }

    def add_add(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True)
        parser.add_argument(
            "--password-file", metavar="FILE|-", help="read the password from the first line of a file or of standard input (default: ask for it)"
        )
        parser.add_argument("--owner", action="store_true", help="the first owner: may also use the admin site")

    def do_add(self, given: Namespace) -> None:
        user = User(email=self._email(given.email))
        if User.objects.filter(email__iexact=user.email).exists():
            fail(f"there is a user {user.email} already")
        password = (read_text(given.password_file).splitlines() or [""])[0] if given.password_file else getpass("Password: ")
        try:
            validate_password(password, user)
        except ValidationError as error:
            fail("the password is not good enough: " + " ".join(error.messages))
        create = User.objects.create_superuser if given.owner else User.objects.create_user
        self.document(given, self._row(create(user.email, password)))

    @staticmethod
    def _email(given: str) -> str:
        try:
            return str(User._meta.get_field("email").clean(given.strip(), None)).lower()
        except ValidationError as error:
            fail(f"{given!r} cannot be an e-mail address: " + " ".join(error.messages))

    def add_list(self, parser: ArgumentParser) -> None:
        """Takes nothing but --json."""

    def do_list(self, given: Namespace) -> None:
        self.rows(given, (self._row(user) for user in User.objects.order_by("pk")))

    def add_rescue(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True)

    def do_rescue(self, given: Namespace) -> None:
        user = User.objects.filter(email__iexact=given.email.strip()).first()
        if user is None:
            fail(f"there is no user {given.email.strip()}")
        self.document(given, self._row(user) | {"removed": second_factor.remove_all(user), "signed_out": sessions.end_all(user)})

    @staticmethod
    def _row(user: User) -> dict[str, object]:
        return {
            "id": user.pk,
            "email": user.email,
            "owner": user.is_superuser,
            "active": user.is_active,
            "joined_at": user.date_joined,
            "last_login_at": user.last_login,
        }
