"""A credential in memory that cannot slip out by accident.

A subclass of `str` would leak through every function that takes text, and a template may call any method it can name. So a secret is an
object of its own: whatever turns it into text yields the mask, whatever would need the real characters fails, and only `reveal()`, easy
to search for in a review, hands them out.
"""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, final

BULLETS: Final = "••••"
SHOWN_FROM: Final = 12  # characters: of anything shorter, four would give away too much


@final
class Secret:
    """Holds one piece of text and gives it out through `reveal()` alone; prints as "••••" and, from 12 characters on, its last four.

    Immutable and hashable. Equal only to another Secret with the same text (compared in constant time), never to a `str`. Copies are the
    object itself. Pickling, iteration, `in`, `len`, `+`, `join` and `bytes` raise TypeError; JSON encoders refuse it or print the mask.
    """

    __slots__ = ("__text",)
    __text: str

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            # The value is left out on purpose: whatever was passed here was probably meant to be secret.
            raise TypeError(f"Secret takes a str, not {type(text).__name__}.")
        object.__setattr__(self, "_Secret__text", str.__str__(text))

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("Secret cannot be subclassed.")

    def reveal(self) -> str:
        """Returns the text itself; call it where a request or a seal is built and nowhere else."""
        return self.__text

    # Django's templates call what they find unless it says that it changes data; then they print nothing.
    reveal.alters_data = True  # type: ignore[attr-defined]

    @property
    def last4(self) -> str:
        """The last four characters, for telling credentials apart; "" when the text is shorter than 12 characters."""
        return self.__text[-4:] if len(self.__text) >= SHOWN_FROM else ""

    # --- as text: the mask ----------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return BULLETS + self.last4

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    # --- as a value -----------------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self.__text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__text.encode("utf-8", "surrogatepass"), other.__text.encode("utf-8", "surrogatepass"))

    def __hash__(self) -> int:
        return hash((Secret, self.__text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("A Secret cannot be changed.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("A Secret cannot be changed.")

    # --- ways out that are closed ---------------------------------------------------------------------------------------

    __iter__ = None  # `for`, `in` and unpacking fail by declaration, not because nobody has written __getitem__ yet

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A Secret cannot be pickled.")

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Secret cannot be pickled.")

    def __getstate__(self) -> NoReturn:
        # object.__getstate__ returns the values of slots to whoever asks.
        raise TypeError("A Secret cannot be pickled.")
