import random

from accounts import services
from accounts.models import Account
from conversations import mirror

from .test_lanes import in_background, until


def test_an_account_can_be_deleted_at_any_moment_of_its_reading(connected):
    problems = []
    for turn in range(12):
        simulator, account = connected("modelrouter", populate=600, rate_limit=0, label=f"l{turn}")

        def sync():
            try:
                mirror.sync(account)
            except (mirror.SyncStopped, mirror.SyncBusy):
                pass
            except BaseException as e:
                problems.append(("sync", repr(e)[:300]))

        t = in_background(sync)
        n = random.choice([1, 50, 120, 300])
        until(lambda: account.conversations.count() >= n)
        try:
            services.delete_account(Account.objects.get(pk=account.pk))
        except BaseException as e:
            problems.append(("delete", repr(e)[:300]))
        t.join(20)
    for p in problems:
        print(p)
    assert not problems
