"""What a person reads: sentences and tables."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from chameleon_data.corpus.clusterings import Cluster, Clustering
from chameleon_data.corpus.file_counts import SourceFiles
from chameleon_data.corpus.kept_columns import KeptColumn
from chameleon_data.corpus.kept_rows import KeptSummary
from chameleon_data.jobs import screen, tables
from chameleon_data.pipelines.cost import PassCost, Prices, describe_cost, read_rates
from chameleon_data.shards.plan_summary import PlannedStage, PlanSummary
from chameleon_data.weights.bounds import MovedWeight
from chameleon_data.weights.explain.exhaustion import ExhaustedShare, Exhaustion
from chameleon_data.weights.mixture import MixtureDescription
from tests.support.manifests import example_manifest


def describe(**changes: Any) -> MixtureDescription:
    return replace(example_manifest().weights, **changes)


def test_notes_and_sentences_are_printed_as_they_are(capsys):
    moved = MovedWeight("[/b]", "floor", 0.1, 0.2, None)
    tables.print_notes(describe(moved=(moved,), warnings=("[/x] :smile:",)), {"survey": "reused [/c]"})
    screen.print_pairs([("next", "verify /a/[/d]")])
    out = capsys.readouterr().out
    assert all(text in out for text in ("[/b]: 0.1000 to 0.2000", "[/x] :smile:", "reused [/c]", "verify /a/[/d]"))


def test_changes_are_told_as_people_read_them() -> None:
    changes: dict[str, Any] = {
        "mix.budget": [6_000_000, 5_000_000], "mix.validation": [0.0, 0.020000000000000004], "shards.lineage": [False, True],
        "shards.formats": [["parquet", "mds"], ["parquet"]], "code.commit": ["a" * 40, "b" * 40], "seed": [1, None],
        "tokens.tokenizer": [None, "/models/" + "x" * 90 + "/tokenizer.json"], "tokens.unit": ["bytes", None],
        "writer.formats.mds.hashes": [["sha256", "xxh64"], None], "writer.formats.mds.level": [3, None],
        'sources."a.b".path': [["/data"], None], 'sources."a.b".text': ["body", None], 'sources."c.d"': [None, 1],
    }  # fmt: skip
    assert tables.format_changes(changes) == [
        "mix.budget: 6,000,000 → 5,000,000", "mix.validation: 0 → 0.02", "shards.lineage: false → true",
        "shards.formats: [parquet, mds] → [parquet]", "code.commit: aaaaaaaaaaaa… → bbbbbbbbbbbb…", "seed: 1 → –",
        f"tokens.tokenizer: – → /models/{'x' * 12}…{'x' * 25}/tokenizer.json", "tokens.unit: bytes → –",
        "writer.formats.mds: hashes [sha256, xxh64], level 3 → –", 'sources."a.b": path [/data], text body → –',
        'sources."c.d": – → 1',
    ]  # fmt: skip


def test_why_a_weight_lies_outside_its_interval_is_said(capsys):
    weights = {"a": 0.3, "b": 0.7, "c": 0.7}
    tables.print_outside(weights, {"a": (0.28, 0.31), "b": (0.5, 0.6), "c": None})
    expected = "intervals are for the weights before bounds, which moved out of theirs: b\n"
    assert capsys.readouterr().out == expected
    tables.print_outside(weights, {"a": (0.28, 0.31)})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("packed", "shards", "size", "seconds", "said"),
    [
        (False, {"train": 1}, 900, 0.2, ("1, of about 900 bytes before", "0.2 s", "largest document")),
        (True, {"train": 3, "validation": 1}, 4_000, 61.3, ("3, of about 1,000 bytes each", "1 min 1 s", "one sequence")),
    ],
)
def test_a_plan_says_how_large_its_shards_come_out(capsys, packed, shards, size, seconds, said):
    text = print_example_plan(capsys, packed, shards, size, seconds)
    assert all(words in text for words in said), text
    assert "quota  weight × budget" in text
    assert "note sources.s: left out 4 files: ending .lz4 3, ending .md 1" in text


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (KeptSummary(5000, 7, 7, ""), "5,000 bytes: the rows of the corpus, which a build then does not read again"),
        (KeptSummary(5000, 4, 7, "no room"), "5,000 bytes: the rows of 4 of 7 parts of the corpus"),
        (KeptSummary(5000, 4, 7, "no room"), "note the corpus is read twice, as its rows are not kept: no room"),
    ],
)
def test_a_plan_says_what_is_kept_of_the_corpus_and_why_not(capsys, kept, said):
    assert said in print_example_plan(capsys, kept=kept)


def test_a_plan_of_a_corpus_that_need_not_be_kept_says_nothing_of_it(capsys):
    text = print_example_plan(capsys)
    assert "kept rows" not in text
    assert "bytes: the rows" not in text
    assert "url is missing in 1,234 rows of s" in " ".join(text.split())
    assert "5 rows left out by: n > [/x]" in text
    assert "3 conversations of a longer than a sequence, and cut" in text


def print_example_plan(capsys, packed=False, shards=None, size=900, seconds=1.0, kept=KeptSummary(0, 0, 1, "")) -> str:  # noqa: B008
    layout = SimpleNamespace(plan=SimpleNamespace(packing="cross" if packed else None))
    survey = SimpleNamespace(
        files={"s": SourceFiles({"jsonl": 9}, {"ending .lz4": 3, "ending .md": 1})},
        columns={"url": KeptColumn("string", {"s": 1_234})},
        filtered={"a": {"n > [/x]": 2}, "b": {"n > [/x]": 3}},
        cut={"a": 3},
    )
    mixture = SimpleNamespace(description=describe(), decimals={})
    stages = [SimpleNamespace(mixture=mixture)]
    weighed = SimpleNamespace(survey=survey, unit="bytes", reused={}, budget=10, mixture=mixture, weights={}, stages=stages)
    planned = SimpleNamespace(
        layouts=[[layout]], weighed=weighed, cpus=2.0, exhausted={}, kept=kept, stages_there="",
        summary=PlanSummary("p", shards or {"train": 1}, 900, {}, (PlannedStage(1, {}),), (), 0, size, ()),
    )  # fmt: skip
    one = PassCost("write", seconds, seconds / 3600, 0.0, 0, size, size, 7, 2)
    prices = Prices("EUR", 36.0, 0.0, 0.0, 1e6, 0.0, 1e6)
    tables.print_plan(planned, describe_cost([one], prices, replace(read_rates(), machine="a machine of ours")))
    return capsys.readouterr().out


def test_a_plan_says_what_each_pass_costs(capsys):
    text = print_example_plan(capsys, size=2_000, seconds=3_600.0)
    assert "EUR" in text
    line = next(line for line in text.splitlines() if line.startswith("write "))
    # one hour at 36, two writing requests at 1e6 a million
    assert line.split()[-2:] == ["9", "38.0000"]
    assert "rates: a machine of ours; keeping what is written: 2.0000 a month" in text


def test_the_terminal_tells_of_twenty_bounds(capsys):
    moved = tuple(MovedWeight(f"d{i}", "cap", 0.3, 0.2, None) for i in range(25))
    tables.print_notes(describe(moved=moved), {})
    told = capsys.readouterr().out
    assert told.count("0.3000 to 0.2000 by its cap") == 20
    assert "and 5 more" in told


def test_of_many_discovered_domains_the_largest_are_listed_and_the_others_counted(capsys):
    clusters = tuple(
        Cluster(f"topic-{i}", "", 16 + i % 300, 0.001, ("word",), None, (f"example of {i}",))
        for i in range(tables.DOMAINS_SHOWN + 50)
    )
    found = Clustering(1, "key", "topics", clusters, 9_000, 0.5, 0, 0, 0.9, None, 0, 256, "embedder", "cpu")
    tables.print_clustering(found)
    text = capsys.readouterr().out
    shown = {int(i) for i in re.findall(r"example of (\d+)", text)}
    assert shown == set(range(50, tables.DOMAINS_SHOWN + 50))
    assert set(re.findall(r"topic-(\d+)", text)) == {str(i) for i in shown}
    assert "the 200 largest of 250 domains; --json prints all" in text


@pytest.mark.parametrize(
    ("domains", "weight", "interval"), [(10, "0.1235", "0.100 to 0.200"), (3_000, "0.123457", "0.10000 to 0.20000")]
)
def test_weights_of_many_domains_have_decimals_that_tell_them_apart(capsys, domains, weight, interval):
    assert f"{0.123456789:.{screen.share_digits(domains)}f}" == weight
    assert screen.format_interval((0.1, 0.2), domains) == interval
    names = tuple(f"d{i}" for i in range(domains))
    moved = MovedWeight("d1", "cap", 0.123456789, 0.1, None)
    tables.print_notes(describe(names=names, moved=(moved,)), {})
    assert f"d1: {weight} to 0.1" in capsys.readouterr().out


def test_of_many_domains_the_rules_for_exhausted_ones_list_the_heaviest(capsys):
    rules: Exhaustion = {
        rule: {f"domain-{i}": ExhaustedShare(i / 40_000, i * budget, 1.0) for i in range(250)}
        for rule, budget in (("redistribute", 10), ("repeat", 11))
    }
    tables.print_exhausted(rules)
    text = capsys.readouterr().out
    assert {int(i) for i in re.findall(r"domain-(\d+)", text)} == set(range(50, 250))
    assert "the 200 largest weights of 250 domains" in text


def test_a_dotted_key_is_named_whole_where_its_last_part_repeats():
    assert tables.format_changes({"a.a": [1, 2], "b": [1, 2]}) == ["a.a: 1 → 2", "b: 1 → 2"]


@pytest.mark.parametrize("width", [120, 65, 60, 20])
def test_a_narrow_terminal_shows_every_name_and_number_that_it_keeps(capsys, monkeypatch, width):
    monkeypatch.setattr(screen.out, "_width", width)
    table = screen.make_table("domain", ">weight", "?>90 % interval", ">tokens", "?>epochs", "?>quarantined")
    name = "a-domain-with-a-name-of-forty-characters"
    table.add_row(name, "0.1234", "0.111 to 0.133", "1,234,567,890", "1.23", "12,345")
    screen.print_table(table)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert "".join(line[:24].strip() for line in lines).startswith(name[:24])
    assert "0.1234" in lines[0]
    assert "1,234,567,890" in lines[0]
    assert "?" not in heading
    assert ("quarantined" in heading, "90 % interval" in heading) == (width == 120, width in (120, 65))
    assert ("0.133" in lines[0]) == ("90 % interval" in heading)
    assert screen.out.width == width
