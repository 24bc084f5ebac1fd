"""What browsers write when one copies a request out of their developer tools, read back into requests.

A copy is only ever text. Nothing in it is run, looked up or expanded: of a command line the words matter, of a script its literals. What a
form is known to lose is told with the header that it may have hit (Loss); a value is never repaired by guessing. Everything here takes
time in proportion to the length of the text.
"""

from __future__ import annotations

from .raw import SCHEME
from .requests import Form, Header, Loss, Request, Unreadable
from .what import read

__all__ = ["SCHEME", "Form", "Header", "Loss", "Request", "Unreadable", "read"]
