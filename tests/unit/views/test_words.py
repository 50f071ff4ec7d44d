"""Numbers, times and names as the pages write them."""

from __future__ import annotations

import pytest

from chameleon_data.views.report.words import format_moment, list_names


@pytest.mark.parametrize(
    ("names", "said"),
    [("a", "a"), ("ab", "a and b"), ("abc", "a, b and c"), ("abcd", "a, b, c and d"), ("abcde", "a, b, c and 2 more")],
)
def test_names_in_a_sentence_count_the_rest_where_it_is_more_than_one(names: str, said: str) -> None:
    assert list_names(names).replace("\u2068", "").replace("\u2069", "") == said


def test_a_moment_is_told_to_the_minute_in_utc() -> None:
    assert format_moment("2026-11-28T20:35:17+00:00") == "2026-11-28 20:35 UTC"
    assert format_moment("2026-11-28T20:35:17+05:30") == "2026-11-28 15:05 UTC"
