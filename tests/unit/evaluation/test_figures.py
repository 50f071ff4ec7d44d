"""Figures of a comparison: each mixture and the band are there, and files stand alone."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from chameleon_data.evaluation.comparison import Comparison, JudgedMixture, MetricDifference
from chameleon_data.evaluation.figures import comparison_table, interval_of, make_report_part, standalone_svg
from chameleon_data.hashing import fingerprint
from chameleon_data.versions.records import decode_record, encode_record
from tests.support.report_example import example_report, render_example


def difference(mean: float) -> MetricDifference:
    return MetricDifference(mean, "seeds", 0.001, (mean - 0.002, mean + 0.002), None, 0.01, 0.02, "better", None)


def mixture(name: str, *means: float) -> JudgedMixture:
    metrics = ("trained", "worst", "unseen")
    differences = {m: difference(x) for m, x in zip(metrics, means, strict=False)}
    return JudgedMixture(name, {"a": 1.0}, {}, dict.fromkeys(metrics, 2.0), differences)


NAMES = ("inverse", "<b>natural</b> & more")
COMPARISON = Comparison(
    version=1, name="a", judge="decoder", tokens=1_000, parameters=10, seeds=3, band=0.005, branch=None, plan=fingerprint("plan"),
    pool=fingerprint("pool"), bytes_per_token=3.0, held_out="validation", unseen=("new",),
    mixtures=(mixture("uniform"), mixture(NAMES[0], -0.01, 0.02, -0.03), mixture(NAMES[1], 0.04, 0.2, -0.01)),
)  # fmt: skip


def test_files_stand_alone_and_name_every_mixture() -> None:
    files = standalone_svg(COMPARISON)
    assert list(files) == ["forest", "trade-off"]
    for svg in files.values():
        root = ElementTree.fromstring(svg)
        texts = {node.text for node in root.iter() if node.text}
        assert set(NAMES) <= texts
        assert "var(--" not in svg
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert standalone_svg(COMPARISON) == files
    assert list(standalone_svg(replace(COMPARISON, unseen=()))) == ["forest"]


def test_the_report_shows_the_comparison_or_says_that_there_is_none() -> None:
    manifest, _ = example_report(("a", "b", "c"), samples=20)
    assert "Not evaluated" in render_example(manifest, 1, None, None)
    page = render_example(manifest, 1, None, None, [make_report_part(COMPARISON, 0), make_report_part(COMPARISON, 1)])
    assert "Not evaluated" not in page
    assert page.count("a band of ±0.005 inside which a difference is called none") == 2
    assert "&lt;b&gt;natural&lt;/b&gt; &amp; more" in page
    assert "−0.0100" in page


def test_an_interval_is_over_seeds_else_over_documents() -> None:
    one = replace(difference(0.1), interval=None, documents=(0.05, 0.2))
    assert interval_of(one) == (0.05, 0.2)
    assert interval_of(difference(0.1)) == pytest.approx((0.098, 0.102))
    assert interval_of(replace(one, documents=None)) == (0.1, 0.1)


def test_a_comparison_is_stored_and_read_back() -> None:
    assert decode_record(Comparison, encode_record(COMPARISON), "a test") == COMPARISON


def test_the_table_of_a_stored_comparison_is_that_of_a_new_one() -> None:
    """A record's keys are sorted where it is stored; the main metric stays the mean over trained domains."""
    means = {"trained": 2.0, "natural": 3.0, "worst": 4.0}
    uniform = replace(mixture("uniform"), means=means, differences={})
    judged = replace(uniform, name="a", differences={metric: difference(0.1) for metric in means})
    comparison = replace(COMPARISON, mixtures=(uniform, judged))
    stored = decode_record(Comparison, encode_record(comparison), "a test")
    assert list(stored.mixtures[0].means) != list(means), "so the order of keys cannot be what it follows"
    table = comparison_table(stored)
    assert table.columns == comparison_table(comparison).columns
    assert table.rows == comparison_table(comparison).rows
    assert [column.label for column in table.columns[1:3]] == ["Bits per byte, trained", "Trained"]
    assert table.rows[0][1] == "2.0000"
