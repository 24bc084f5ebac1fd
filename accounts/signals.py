"""What happens to accounts, for whoever keeps something that depends on them; sent after the change has been stored.

Every signal carries `account`. `account_connected` also carries `replaced`: False for a new account, True when an account that was there
before got a new credential or turned out to work again. `account_leaving` is the exception: it is sent while the account is still there,
inside the transaction that deletes it, with the user who does so as `by`.

`access_changed` carries `accounts`, ids of accounts that somebody may have lost access to. `deed` is for the audit log and sent inside the
transaction of the change, by deeds.py: `actor`, `what`, `team` and `account` (None where it is about neither), and where there is something
to say `note`, and `before` and `after`, the values that changed by their names.
`account_check_due` asks whether a check on the schedule may go out now: a receiver that answers True keeps it back.
"""

from django.dispatch import Signal

account_connected = Signal()
account_paused = Signal()
account_resumed = Signal()
account_leaving = Signal()
access_changed = Signal()
deed = Signal()
account_check_due = Signal()
