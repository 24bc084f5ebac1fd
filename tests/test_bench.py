"""What the benchmark concludes from what it saw; the measuring itself is `make bench`."""

from __future__ import annotations

import pytest

from tests.bench.clicks import Page, _delays
from tests.bench.processes import Broken, Call
from tests.bench.table import Report, median_and_all, percentile


def page(*seen: tuple[float, int]) -> Page:
    found = Page.__new__(Page)
    found.seen = list(seen)
    return found


def wrote(*moments: float) -> list[Call]:
    return [Call(moment - 0.05, moment, 200, True) for moment in moments] + [Call(0.0, 99.0, 200, False)]


def test_an_item_is_visible_when_a_page_shows_as_many_as_are_done():
    assert _delays(wrote(1.0, 1.2, 2.5), page((0.5, 0), (1.5, 2), (2.6, 2), (3.5, 3))) == pytest.approx([0.5, 0.3, 1.0])


def test_a_page_that_goes_back_or_ends_too_early_is_no_measurement():
    with pytest.raises(Broken, match="went back"):
        _delays(wrote(1.0), page((0.5, 2), (1.5, 1)))
    with pytest.raises(Broken, match="2 items were written and the last page showed 1"):
        _delays(wrote(1.0, 1.1), page((0.5, 0), (1.5, 1)))


def test_the_summary_of_several_rounds():
    assert median_and_all([0.3, 0.1, 0.2]) == "0.20 (0.10, 0.20, 0.30)"
    assert median_and_all([412.4], 0) == "412"
    assert percentile(range(1, 101), 0.95) == 95


def test_a_bar_is_printed_beside_what_was_measured_with_its_verdict():
    report = Report()
    report.bar("speed", "0.95", "≥ 0.90", True)
    report.bar("memory", "140 MB", "≤ 130 MB", False)
    report.bar("other", "1")
    assert "| speed | 0.95 | ≥ 0.90 | pass |" in report.printed("SQLite", "")
    assert "| memory | 140 MB | ≤ 130 MB | **fail** |" in report.printed("SQLite", "")
    assert "| other | 1 | no bar | – |" in report.printed("SQLite", "")
