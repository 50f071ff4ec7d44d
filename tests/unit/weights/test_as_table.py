"""How a result prints itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chameleon_data import domain_weights
from chameleon_data.weights.as_table import ROWS_SHOWN, format_html, format_text

ROWS = [("domain", "weight"), ("a", "0.25"), ("<b>\x1b", "0.125")]


def test_text_is_aligned_and_obeys_nobody() -> None:
    assert format_text(ROWS, ["a note"]) == "domain   weight\na          0.25\n<b>\\x1b   0.125\na note"


def test_html_is_escaped() -> None:
    page = format_html(ROWS, ["<i>"])
    assert "<tr><td>&lt;b&gt;\\x1b</td><td>0.125</td></tr>" in page
    assert "&lt;i&gt;" in page


def test_a_long_table_is_cut_and_says_so() -> None:
    rows = [("domain", "weight"), *((f"d{i}", "0.1") for i in range(ROWS_SHOWN + 7))]
    assert "and 7 more" in format_text(rows, [])
    assert f"d{ROWS_SHOWN}" not in format_html(rows, [])
    assert "more" not in format_text(rows[: ROWS_SHOWN + 1], [])


def test_weights_print_as_a_table() -> None:
    random = np.random.default_rng(0)
    result = domain_weights({name: random.normal(size=(40, 6)) + i for i, name in enumerate(("arxiv", "github", "legal"))})
    heading, *lines = repr(result).splitlines()
    assert heading.split()[:2] == ["domain", "weight"]
    assert [line.split()[:2] for line in lines[:3]] == [[name, f"{weight:.4f}"] for name, weight in result.weights.items()]
    assert lines[3] == f"spread out as {result.effective_domains:.2f} equal domains"
    assert f"<td>github</td><td>{result.weights['github']:.4f}</td>" in result._repr_html_()
    assert "warning: a sentence" in repr(replace(result, warnings=("a sentence",)))
