"""Many whole numbers, kept as few ranges."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

MAX_RANGES = 2000


class Ranges:
    """Numbers as ranges in ascending order; `stored` is the plain form that memory keeps."""

    def __init__(self, ranges: Iterable[Sequence[int]] | None) -> None:
        self.ranges: list[tuple[int, int]] = sorted((first, last) for first, last in ranges or ())

    def skip(self, number: int) -> int:
        """Returns the highest number at or below `number` that is not in here (0 when there is none)."""
        at = bisect_right(self.ranges, number, key=lambda span: span[0]) - 1
        return self.ranges[at][0] - 1 if at >= 0 and self.ranges[at][1] >= number else number

    def top(self) -> int | None:
        """Returns the highest number."""
        return self.ranges[-1][1] if self.ranges else None

    def down(self) -> Iterator[int]:
        """Yields the numbers from the highest down."""
        return (number for low, high in reversed(self.ranges) for number in range(high, low - 1, -1))

    def add(self, *numbers: int) -> None:
        """Adds single numbers."""
        for number in numbers:
            self.add_range(number, number)

    def add_range(self, first: int, last: int) -> None:
        """Adds all numbers from `first` to `last`; an empty range is ignored."""
        if last < first:
            return
        joined: list[tuple[int, int]] = []
        for low, high in sorted([*self.ranges, (first, last)]):
            if joined and low <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
            else:
                joined.append((low, high))
        self.ranges = joined

    def forget(self, first: int, last: int | None = None) -> None:
        """Removes every number from `first` to `last`, or all from `first` on."""
        kept = [(low, min(high, first - 1)) for low, high in self.ranges if low < first]
        if last is not None:
            kept += [(max(low, last + 1), high) for low, high in self.ranges if high > last]
        self.ranges = kept

    def stored(self) -> list[list[int]]:
        """Returns the ranges to remember; beyond the bound the shortest are dropped, because they are the quickest to ask again."""
        longest = sorted(self.ranges, key=lambda span: span[0] - span[1])[:MAX_RANGES]
        return [list(span) for span in sorted(longest)]
