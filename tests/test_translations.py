"""The Chinese interface: a complete catalogue, no English left on any page, and a language that follows the person.

The pages are found in the URL configuration, so a new one is looked at without being named here. Titles, names and models are replaced by
Chinese ones before the pages are opened, and messages are left out: what English is then found there is ours.
"""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, resolve, reverse
from django.utils import timezone

from accounts import explain, teams
from accounts.models import Account, CatalogueModel, Health, Membership, Role, ShareLevel, SyncState, Team, User
from accounts.providers import all_providers
from accounts.providers.errors import CredentialsRejected, ProviderUnavailable
from accounts.providers.schema import Op
from conversations import approvals, breakers, checks, jobs, titles, undo
from conversations.models import Conversation, Incident, Job
from conversations.states import REASONS, ItemStatus, Move, transition
from tests.conversations import support
from tests.simulators import kit, registry

FOLDER = Path(settings.LOCALE_PATHS[0]) / "zh_Hans" / "LC_MESSAGES"
S = ItemStatus
OUT_OF_ORDER, REFUSED = "The provider is out of order.", "The provider does not accept this credential."


# --- the catalogue ------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Entry:
    """One text of the catalogue: `msgids` has the plural as its second, `msgstrs` as many as the language has forms."""

    context: str = ""
    msgids: list[str] = field(default_factory=list)
    msgstrs: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)

    @property
    def key(self) -> str:
        """The name of the text in the compiled catalogue."""
        return f"{self.context}\x04{self.msgids[0]}" if self.context else self.msgids[0]


def read_catalogue(path: Path) -> list[Entry]:
    """Returns every text of a .po file, without its header."""
    entries: list[Entry] = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        entry, parts = Entry(), [""]
        for line in block.splitlines():
            if line.startswith("#,"):
                entry.flags |= {flag.strip() for flag in line[2:].split(",")}
            elif found := re.match(r'(msgctxt|msgid_plural|msgid|msgstr)(?:\[\d+\])? (".*")$', line):
                parts = {"msgctxt": [], "msgstr": entry.msgstrs}.get(found[1], entry.msgids)
                parts.append(ast.literal_eval(found[2]))
                if found[1] == "msgctxt":
                    entry.context = parts[0]
            elif line.startswith('"'):
                parts[-1] += ast.literal_eval(line)
        if entry.msgids and entry.msgids[0]:
            entries.append(entry)
    return entries


CATALOGUE = read_catalogue(FOLDER / "django.po")
# What must be in a translation exactly as it is in the original: placeholders, templates of titles, tags, settings.
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sd]|\{[\w:%()]*\}|<[^>]+>|SWITCHBOARD_\w+|aicontent:\w+|https://[\w.-]+\w")


def placeholders(text: str) -> set[str]:
    """Returns the parts of a text that are not language."""
    return set(PLACEHOLDER.findall(text))


def test_the_catalogue_is_complete() -> None:
    assert len(CATALOGUE) > 500
    assert [entry.key for entry in CATALOGUE if "fuzzy" in entry.flags] == []
    assert [entry.key for entry in CATALOGUE if not all(text.strip() for text in entry.msgstrs)] == []
    # Chinese has one form; a text with a plural has to show its number in it.
    assert [entry.key for entry in CATALOGUE if len(entry.msgstrs) != 1] == []


def test_placeholders_and_tags_are_kept() -> None:
    wrong = [(entry.msgids, entry.msgstrs) for entry in CATALOGUE if placeholders(entry.msgids[-1]) != placeholders(entry.msgstrs[0])]
    assert wrong == []
    # Many texts stand in attributes that templates write in double quotes.
    assert [entry.msgstrs for entry in CATALOGUE if '"' in re.sub(r"<[^>]+>", "", entry.msgstrs[0])] == []


# Names of products and of fields that people read on the provider's own page.
SAME = {"Cookie", "User agent", "AccessKey ID", "AccessKey secret"}
# One word for one thing (docs/translation.md), and the punctuation of Chinese.
NOT_OURS = re.compile("帐号|帐户|账户|提供商|供应商|对话框|登陆|缺省|工作进程|凭证|证书|[\u4e00-\u9fff][,;:?!]")


def test_the_words_are_chinese_and_those_of_the_glossary() -> None:
    chinese = re.compile("[\u4e00-\u9fff（：]|^[，、]$|。$")
    assert {entry.key for entry in CATALOGUE if not chinese.search(entry.msgstrs[0])} <= SAME
    assert [entry.msgstrs[0] for entry in CATALOGUE if NOT_OURS.search(entry.msgstrs[0])] == []
    chosen = {entry.key: entry.msgstrs[0] for entry in CATALOGUE}
    glossary = dict(
        re.findall(r"^([A-Za-z][^=\n]*?) = (\S.*)$", (settings.BASE_DIR / "docs" / "translation.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert len(glossary) > 30
    assert {word: (text, chosen[word]) for word, text in glossary.items() if word in chosen and chosen[word] != text} == {}
    assert len(glossary.keys() & chosen.keys()) > 20


def test_the_compiled_catalogue_is_the_same() -> None:
    with (FOLDER / "django.mo").open("rb") as file:
        compiled: dict[Any, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    found = {(key[0] if isinstance(key, tuple) else key): text for key, text in compiled.items() if key}
    assert found == {entry.key: entry.msgstrs[0] for entry in CATALOGUE}


# --- what a page says ---------------------------------------------------------------------------------------------------------------


class Words(HTMLParser):
    """Collects what people read or hear of a page; messages of conversations are the provider's and left out."""

    ATTRIBUTES = ("title", "aria-label", "placeholder", "alt")
    SILENT = ("script", "style", "code", "kbd")
    VOID = ("input", "br", "hr", "img", "meta", "link", "use", "path", "rect", "wbr", "source", "col", "area")

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        hidden = tag in self.SILENT or "prose" in values.get("class", "").split() or values.get("lang") == "en"
        if tag not in self.VOID:
            self._open.append(hidden or bool(self._open and self._open[-1]))
        for name, value in values.items():
            if name in self.ATTRIBUTES or name.startswith(("data-text-", "data-confirm")):
                self.texts.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID and self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and not (self._open and self._open[-1]):
            self.texts.append(data)


def words_of(html: str) -> list[str]:
    """Returns the texts of a page, each with its blanks made single ones."""
    parser = Words()
    parser.feed(html)
    return [" ".join(text.split()) for text in parser.texts if text.strip()]


def _pieces() -> set[str]:
    """Returns, for every translated text of two words or more, its longest piece between placeholders."""
    found = set()
    for entry in CATALOGUE:
        for text in entry.msgids:
            piece = max((" ".join(part.split()) for part in PLACEHOLDER.split(text)), key=len).strip(" .:,;“”()–·")
            if len(re.findall(r"[A-Za-z]+", piece)) >= 2 and text != entry.msgstrs[0] and piece not in entry.msgstrs[0]:
                found.add(piece)
    return found


PIECES = _pieces()
WHOLE = {text for entry in CATALOGUE for text in entry.msgids if text not in entry.msgstrs}
# Two English words in a row are ours, whoever forgot to mark them; but for what people type as it stands.
LITERAL = re.compile(r"“(?:make run|new chat)”")
SENTENCE = re.compile(r"(?<![\w.@/-])[A-Za-z][a-z']+(?: [a-z']+)+(?![\w@/-])")


def english_in(html: str, data: Iterable[str] = ()) -> set[str]:
    """Returns the English texts of a page that a Chinese reader should not meet; `data` are texts of a provider."""
    texts = words_of(html)
    joined = LITERAL.sub("", "\n".join(texts))
    for text in data:
        joined = joined.replace(text, "")
    pieces = {piece for piece in PIECES if piece in joined and re.search(rf"(?<!\w){re.escape(piece)}(?!\w)", joined)}
    return pieces | (WHOLE & set(texts)) | set(SENTENCE.findall(joined))


def test_the_scan_finds_english() -> None:
    assert english_in('<button title="Sync now">同步</button>') == {"Sync now"}
    assert english_in("<p>Save</p>") == {"Save"}
    assert english_in("<p>12 in, 3 out of order</p>") == {"out of order"}
    assert english_in('<main data-text-x="Nothing was\n changed."></main>') == {"Nothing was changed.", "Nothing was changed"}
    assert english_in('<p>会话 <code>Sync now</code></p><div class="prose"><p>Nothing was changed.</p></div><p>保存</p>') == set()
    assert english_in("<p>Weekly summary</p>", ["Weekly summary"]) == set()


# --- all pages ----------------------------------------------------------------------------------------------------------------------


def _patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for part in resolver.url_patterns:
        if isinstance(part, URLResolver):
            if part.app_name != "admin":
                yield from _patterns(part, prefix + str(part.pattern))
        else:
            yield prefix + str(part.pattern), part


@dataclass(slots=True)
class State:
    """What the pages are about."""

    user: User
    accounts: list[Account]
    jobs: list[Job]
    team: Team
    member: User
    invitation: str  # the secret of a link

    def addresses(self) -> Iterator[str]:
        """Yields every address of the URL configuration that this state has an object for."""
        for route, pattern in _patterns(get_resolver()):
            for values in self._arguments(route):
                yield reverse(pattern.name, kwargs=values) if pattern.name else f"/{route}"

    def data(self) -> list[str]:
        """Returns what providers said that may stand on a page, the longest first; single words are left, they could be ours."""
        texts = {text for values in CatalogueModel.objects.values_list("name", "group", "note") for text in values}
        for first in Conversation.objects.values_list("first_message", flat=True):
            texts |= {first or "", titles.cut(first or "", 30).strip()}  # a title that is cut after a space ends before it
        return sorted((text for text in texts if " " in text), key=len, reverse=True)

    def _arguments(self, route: str) -> list[dict[str, Any]]:
        names = set(re.findall(r"<(?:\w+:)?(\w+)>", route))
        if not names:
            return [{}]
        if names == {"provider_key"}:
            return [{"provider_key": provider.key} for provider in all_providers()]
        if route.startswith("audit/"):
            return [{"kind": "csv"}]
        if "<uuid:pk>" in route:
            more = {"team_pk": self.team.pk} if "team_pk" in names else {}
            return [{"pk": account.pk, **more} for account in self.accounts]
        if route.startswith("teams/"):
            more = {"user_pk": self.member.pk} if "user_pk" in names else {"invitation_pk": 1} if "invitation_pk" in names else {}
            return [{"pk": self.team.pk, **more}]
        if route.startswith("invitations/"):
            return [{"secret": self.invitation}]
        if route.startswith("me/security/"):  # one passkey, one session: tests/browser/test_signin.py goes there in Chinese
            return []
        if route.startswith("jobs/incidents/"):
            return [{"pk": incident.pk} for incident in Incident.objects.all()]
        if route.startswith("jobs/"):
            more = {"kind": "csv"} if "kind" in names else {}
            return [{"pk": job.pk, **more, **({"item_pk": job.items.first().pk} if "item_pk" in names else {})} for job in self.jobs]
        if route.startswith("conversations/<int:pk>/"):
            rows = [account.conversations.first() for account in self.accounts]
            more = {"entry_pk": 1} if "entry_pk" in names else {}
            return [{"pk": row.pk, **more} for row in rows if row is not None]
        raise AssertionError(f"the scan of the pages does not know what to put into {route}")


# Ways to a page that its address alone does not show.
VARIANTS: dict[str, tuple[str, ...]] = {
    "account_list": ("attention=1",),
    "conversation_list": (
        "q=没有这样的标题",
        "untitled=1&sort=title",
        "updated_after=nonsense",
        "updated_after=2026-01-01&gone=1",
        "model=none&provider=aurod",
    ),
    "audit_list": ("what=read", "job=nonsense", "since=nonsense"),
    "job_list": ("tab=running", "tab=approval", "tab=previews", "tab=finished"),
    "job_compose": ("action=switch-model", "action=set-title", "action=configure"),
}
# Shows a page of its own only inside another one; elsewhere it leads to that one.
FRAGMENTS = {"account_sync_progress", "lane_pace"}


@pytest.fixture
def state(transactional_db: None) -> Iterator[State]:
    """An account with conversations at each provider, and jobs in every state, all with Chinese data."""
    alice = support.make_user()
    alice.language = "zh-hans"
    alice.save()
    with ExitStack() as running:
        accounts = []
        for number, provider in enumerate(all_providers(), 1):
            simulator = registry.simulator(provider.key)()
            simulator.unlimited()
            simulator.populate(11)
            for count, remote_id in enumerate(simulator.truth(), 1):  # so that no English is anybody's data
                simulator.change_by_somebody(remote_id, title=f"标题 {count}")
            url = running.enter_context(kit.serve(simulator))
            accounts.append(support.synced(support.make_account(alice, simulator, url, label=f"账号 {number}")))
        made = list(_jobs(alice, accounts))
        _trouble(accounts)
        team, member = teams.create(alice, "客服组"), support.make_user("member@example.com")
        Membership.objects.create(team=team, user=member, role=Role.OPERATOR)
        teams.share(alice, accounts[0], team, ShareLevel.USE)
        made += _asked(alice, accounts[0], team, member)
        yield State(alice, accounts, made, team, member, teams.invite(alice, team, Role.VIEWER)[1])


def _trouble(accounts: list[Account]) -> None:
    """Lets one account need a new credential, one be paused, one have failed to be read, and one never have been read."""
    refused, broken = explain.pack(CredentialsRejected(REFUSED, status=401)), explain.pack(ProviderUnavailable(OUT_OF_ORDER, status=503))
    changes: tuple[dict[str, Any], ...] = (
        {"health": Health.NEEDS_REAUTH, "cause_detail": refused},
        {"paused_at": timezone.now()},
        {"sync_state": SyncState.FAILED, "sync_progress": {"error": broken, "listed": 3}, "health": Health.UNREACHABLE, "cause_detail": broken},
        {"synced_at": None, "sync_state": SyncState.NEVER, "models_at": None},
    )
    for account, values in zip(accounts, changes, strict=False):
        Account.objects.filter(pk=account.pk).update(**values)
    for account in accounts[:2]:  # one outage that is over, one that is not
        breakers.report(breakers.host_of(account), account.provider_key, failed=20, cause=broken)
    breakers.probe_result(breakers.host_of(accounts[0]), True)


def _jobs(alice: User, accounts: list[Account]) -> Iterator[Job]:
    """Makes a selection, a preview not yet checked, one that is, and jobs that are paused, cancelled, running, and ended in every way."""
    rows = Conversation.objects.filter(account__in=accounts)
    able = [account for account in accounts if account.provider.capability(Op.SWITCH_MODEL).available]
    targets = {str(account.pk): account.catalogue.filter(gone_at__isnull=True).last().model_id for account in able}

    def made(params: dict[str, Any], action: str = "set-title") -> Job:
        return jobs.plan(jobs.create(alice, action, rows, selection={"count": rows.count()}), params)

    yield jobs.create(alice, "switch-model", rows, selection={"count": rows.count()})
    yield made({"targets": targets}, "switch-model")
    yield made({"config": {"*": {"maxToken": None, "prompt": "新的提示词", "temperature": 1}}}, "configure")
    preview = made({"template": "{n} 新标题", "include_hand_made": True})
    for account in accounts:
        while checks.check_preview(preview.pk, account.pk):
            pass
    yield preview
    for number, order in enumerate((jobs.pause, jobs.cancel, None)):
        job = made({"template": f"{number} 号 {{n}}", "include_hand_made": True})
        jobs.start(alice, job)
        if order:
            order(alice, job)
        yield Job.objects.get(pk=job.pk)
    ended = made({"template": "结束 {n}", "include_hand_made": True})
    jobs.start(alice, ended)
    _end(ended)
    ended.items.filter(status=S.APPLIED).update(before={"title": "旧标题"}, after={"title": "写入的标题"})
    yield undo.undo(alice, ended)
    yield Job.objects.get(pk=ended.pk)


def _asked(alice: User, account: Account, team: Team, member: User) -> Iterator[Job]:
    """Makes jobs that wait for approval: one of somebody else, one of a person with a limit of their own, and one that was refused."""
    teams.set_limits(alice, team, 1, None)
    job = jobs.plan(jobs.create(member, "set-title", account.conversations.all()), {"template": "成员 {n}", "include_hand_made": True})
    jobs.start(member, job, note="请批准", canary=2)
    yield Job.objects.get(pk=job.pk)
    other = Account.objects.create(owner=member, label="别人的账号", provider_key=account.provider_key, base_url=account.base_url)
    times = {"sort_at": timezone.now(), "first_seen_at": timezone.now(), "seen_at": timezone.now()}
    Conversation.objects.bulk_create(Conversation(account=other, remote_id=f"x{n}", title=f"会话 {n}", **times) for n in range(3))
    theirs = teams.create(member, "别的组")
    Membership.objects.create(team=theirs, user=alice, role=Role.OPERATOR)
    teams.set_limits(member, theirs, 2, 2)
    teams.share(member, other, theirs, ShareLevel.USE)
    for answer in (False, True):
        own = jobs.plan(jobs.create(alice, "set-title", other.conversations.all()), {"template": "我的 {n}", "include_hand_made": True})
        jobs.start(alice, own)
        assert own.order == "ask"
        if answer:
            approvals.refuse(member, own, "星期一以前不行")
        yield Job.objects.get(pk=own.pk)


def _end(job: Job) -> None:
    """Lets the items of a job end in every way there is, each with a reason of its own."""
    usual = {"already_there": S.UNCHANGED, "accepted_not_applied": S.NOT_APPLIED, "changed_since_preview": S.CONFLICT, "gone": S.SKIPPED}
    usual |= {"altered_by_provider": S.APPLIED, "account_needs_reauth": S.WAITING, "account_paused": S.WAITING, "": S.APPLIED}
    said = ProviderUnavailable(OUT_OF_ORDER).message
    items = list(job.items.filter(status=S.PENDING).order_by("ordinal"))
    assert len(items) >= len(REASONS)
    ways = [(item, usual.get(reason, S.FAILED), reason) for item, reason in zip(items, REASONS, strict=False)]
    transition([Move(item.pk, job.pk, S.PENDING, S.RUNNING) for item, _status, _reason in ways])
    values = {"detail": said, "http_status": 503, "finished_at": timezone.now(), "attempts": 1}
    transition([Move(item.pk, job.pk, S.RUNNING, status, reason, values if status == S.FAILED else {}) for item, status, reason in ways])
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now())


def test_no_page_says_anything_in_english(state: State) -> None:
    client = Client()
    client.force_login(state.user)
    found: dict[str, set[str]] = {}
    opened, orders = set(), set()
    for address in state.addresses():
        for query in ("", *VARIANTS.get(resolve(address).url_name or "", ())):
            headers = {"HX-Request": "true"} if resolve(address).url_name in FRAGMENTS else {}
            answer = client.get(f"{address}?{query}" if query else address, headers=headers)
            if answer.status_code == 405:
                orders.add(resolve(address).url_name)
                break
            if answer.status_code == 200 and "html" in answer.headers.get("Content-Type", ""):
                opened.add(resolve(address).url_name)
                found[f"{address}?{query}"] = english_in(b"".join(answer).decode(), state.data())
    assert {address: texts for address, texts in found.items() if texts} == {}
    everything = {pattern.name for _route, pattern in _patterns(get_resolver())}
    # What needs a second factor or a session or a provider of logins is looked at by tests/browser/test_signin.py and test_oidc.py, in Chinese.
    everything -= {name for name in everything if name and name.startswith(("mfa_", "session_", "oidc_"))}
    # Whoever has a password is led from there to where it is changed; tests/browser/test_oidc.py has none.
    everything -= {"account_set_password"}
    assert everything - opened - orders == {"home", "account_login", "account_signup", "job_report", "audit_export", "account_export"}


def test_answers_to_mistakes_are_chinese(state: State) -> None:
    client = Client(headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}, enforce_csrf_checks=False)
    wrong = {"login": state.user.email, "password": "not the password"}
    answers = {
        "login, empty": client.post(reverse("account_login")),
        "login, wrong": client.post(reverse("account_login"), wrong),
        "login": client.get(reverse("account_login")),
        "no sign-up": client.get(reverse("account_signup")),
        "no such page": client.get("/nowhere/"),
    }
    client.force_login(state.user)
    row, account = state.accounts[-1].conversations.all()[0], state.accounts[-1]
    for provider in all_providers():
        add, test = reverse("account_add_provider", args=[provider.key]), reverse("account_test_new", args=[provider.key])
        secret = {f"credential_{field.name}": "a b" for field in provider.credential_fields if not field.choices}
        answers |= {f"{provider.key}, empty": client.post(add), f"{provider.key}, wrong": client.post(test, {"label": "账号 1", **secret})}
        for text in ("ftp://x", "https://10.0.0.1", "https://a.example:70000", "https://u@a.example", "https://a.example/?q"):
            answers[f"{provider.key}, {text}"] = client.post(test, {"label": "新", "base_url": text, **secret})
    password = {"oldpassword": "wrong", "password1": "123", "password2": "1234"}
    answers |= {
        "password, empty": client.post(reverse("account_change_password")),
        "password, wrong": client.post(reverse("account_change_password"), password),
        "confirm, wrong": client.post(reverse("account_reauthenticate"), {"password": "wrong"}),
        "pace": client.post(reverse("account_pace", args=[account.pk]), {"concurrency": "-1", "rate": "x"}),
        "title": client.post(reverse("conversation_title", args=[row.pk]), {"title": ""}, headers={"HX-Request": "true"}),
        "no such job": client.get(reverse("job_detail", args=[10**6])),
        "compose, empty": client.post(reverse("job_compose", args=[state.jobs[0].pk]), {"action": "switch-model"}),
        "compose, template": client.post(
            reverse("job_compose", args=[state.jobs[0].pk]), {"action": "set-title", "mode": "template", "template": "{x}"}
        ),
        "compose, nothing": client.post(reverse("job_compose", args=[state.jobs[0].pk]), {"action": "set-title", "mode": "replace"}),
        "compose, settings": client.post(
            reverse("job_compose", args=[state.jobs[0].pk]),
            {"action": "configure", "do-aurod-temperature": "set", "set-aurod-temperature": "9", "do-aurod-maxToken": "set"},
        ),
        "compose, no setting": client.post(reverse("job_compose", args=[state.jobs[0].pk]), {"action": "configure"}),
        "forged": Client(enforce_csrf_checks=True, headers={"Accept-Language": "zh-CN"}).post(reverse("account_login")),
    }
    assert {name for name, answer in answers.items() if answer.status_code in (301, 302, 405, 500)} == set()
    found = {name: english_in(answer.content.decode(), state.data()) for name, answer in answers.items()}
    assert {name: texts for name, texts in found.items() if texts} == {}


# --- which language -----------------------------------------------------------------------------------------------------------------


def language_of(answer: Any) -> str:
    """Returns the language that a page says it is in."""
    found = re.search(r'<html[^>]* lang="([^"]+)"', answer.content.decode())
    assert found is not None
    return found[1].lower()


@pytest.mark.parametrize(
    ("asked", "shown"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh-hans"), ("zh", "zh-hans"), ("en-GB,en;q=0.9,zh;q=0.5", "en"), ("fr-FR,fr", "en"), ("", "en")],
)
def test_the_first_visit_is_in_the_language_of_the_browser(db: None, asked: str, shown: str) -> None:
    answer = Client(headers={"Accept-Language": asked}).get(reverse("account_login"))
    assert language_of(answer) == shown
    assert ("登录" in words_of(answer.content.decode())) == (shown == "zh-hans")


def test_a_choice_is_kept_and_goes_with_the_person(db: None) -> None:
    english, chinese = {"Accept-Language": "en"}, {"Accept-Language": "zh-CN"}
    visitor = Client(headers=english)
    assert visitor.post(reverse("set_language"), {"language": "zh-hans", "next": reverse("account_login")}).status_code == 302
    assert language_of(visitor.get(reverse("account_login"))) == "zh-hans"

    alice = support.make_user()
    client = Client(headers=english)
    client.force_login(alice)
    assert language_of(client.get(reverse("conversation_list"))) == "en"
    client.post(reverse("set_language"), {"language": "zh-hans"})
    assert language_of(client.get(reverse("conversation_list"))) == "zh-hans"
    elsewhere = Client(headers=english)
    elsewhere.force_login(alice)
    assert language_of(elsewhere.get(reverse("conversation_list"))) == "zh-hans"
    elsewhere.post(reverse("set_language"), {"language": "en"})
    other = Client(headers=chinese)
    other.force_login(alice)
    assert language_of(other.get(reverse("conversation_list"))) == "en"


def test_data_is_never_translated(state: State) -> None:
    account = state.accounts[-1]
    row = account.conversations.all()[0]
    Conversation.objects.filter(pk=row.pk).update(title="Settings")
    CatalogueModel.objects.filter(account=account).update(name="Running")
    Account.objects.filter(pk=account.pk).update(label="Owner")
    client = Client()
    client.force_login(state.user)
    page = client.get(reverse("conversation_list"), {"account": str(account.pk)}).content.decode()
    assert {"Settings", "Owner"} <= set(words_of(page))
    assert "设置" in words_of(page)
