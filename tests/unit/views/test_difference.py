"""The page of a difference: its figure and table where weights moved, and where none did."""

from __future__ import annotations

import pytest

from chameleon_data.versions.diff import ManifestChanges
from chameleon_data.views.report.changes import moved_weights_table, say_changes
from chameleon_data.views.report.difference import moved_figure
from chameleon_data.views.report.page import figure_style

COUNT = 1_500


def changes(moved: dict[int, float]) -> ManifestChanges:
    """Domains with weights that grow with their number; of some the second version has another weight."""
    weights = {i: (i + 1) / (COUNT * (COUNT + 1) / 2) for i in range(COUNT)}
    facts = {f"d{i:04}": {"weight": [w, moved.get(i, w)], "tokens": [7, 7], "epochs": [1.0, 1.0]} for i, w in weights.items()}
    return ManifestChanges({}, facts, (), {}, {})


@pytest.mark.parametrize(
    ("moved", "first", "caption", "note"),
    [
        ({3: 0.00009}, "d0003", "the largest moves first", "The 24 that moved most of 1,500 domains"),
        ({}, "d1499", "none moved, the largest first", "The 24 largest of 1,500 domains"),
    ],
)
def test_the_largest_moves_come_first_and_of_equal_ones_the_largest_weights(moved, first, caption, note):
    found = changes(moved)
    with figure_style():
        figure = moved_figure(found)
    assert caption in figure.caption
    assert figure.note is not None
    assert note in figure.note
    assert figure.svg.index(first) == min(figure.svg.index(name) for name in (first, "d1498", "d1497"))
    table = moved_weights_table(found, "bytes")
    assert [row[0] for row in table.rows[:2]] == ([first, "d1499"] if moved else [first, "d1498"])


def test_small_moves_of_many_domains_have_digits():
    (row, *_) = moved_weights_table(changes({3: 0.00009}), "bytes").rows
    assert row[3] == "+0.0086"
    assert "d0003\u2069 moved most, from 0.000\u00a0% to 0.009\u00a0%" in say_changes(changes({3: 0.00009}))
