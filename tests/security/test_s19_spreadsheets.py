"""S19: a cell that a spreadsheet would run is prefixed; the file is RFC 4180 and reads back as what was written."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conversations import audit, reports

STARTS = "=+-@\t\r\n＝＋－＠"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def written(rows: list[dict[str, object]], columns: tuple[str, ...]) -> list[list[str]]:
    text = "".join(reports.csv_lines(rows, columns))
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text[1:], newline=""), strict=True))


@pytest.mark.parametrize("start", list(STARTS))
def test_s19_each_of_the_signs_is_prefixed(start: str) -> None:
    assert written([{"a": f"{start}1+1"}], ("a",))[1] == [f"'{start}1+1"]


@given(st.lists(st.tuples(TEXT, st.sampled_from(["", *STARTS]).flatmap(lambda sign: TEXT.map(lambda text: sign + text))), max_size=5))
@example([('a"b', "x,y"), ("line\r\nbreak", "=cmd|' /C calc'!A0")])
def test_s19_no_cell_is_a_formula_and_nothing_is_lost(rows: list[tuple[str, str]]) -> None:
    found = written([{"a": one, "b": two} for one, two in rows], ("a", "b"))
    assert found[0] == ["a", "b"] and len(found) == len(rows) + 1
    for cells, given_cells in zip(found[1:], rows, strict=True):
        for cell, text in zip(cells, given_cells, strict=True):
            assert not cell.startswith(tuple(STARTS))
            assert cell == text or (cell == f"'{text}" and text.startswith(tuple(STARTS)))


def test_s19_every_file_of_the_product_goes_this_way(place, client) -> None:
    place.job.items.update(title="=1+1")
    place.account.conversations.update(title="=1+1")
    for path in (f"/jobs/{place.job.pk}/report.csv", "/audit/export.csv"):
        text = client.get(path).getvalue().decode("utf-8-sig")
        cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
        assert len(cells) > len(audit.COLUMNS) and not [cell for cell in cells if cell.startswith(tuple(STARTS))]
