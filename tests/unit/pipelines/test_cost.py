"""What a build costs before it is run."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.jobs.cli import OWN_PRICES
from chameleon_data.pipelines.cost import (
    BuildSize,
    EmbedRate,
    ExchangeSize,
    PassCost,
    Prices,
    Rate,
    Rates,
    SelectionSize,
    describe_cost,
    estimate_cost,
    read_prices,
    read_rates,
    seconds_by_timed_pass,
)
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.weights.embedder import EmbedderKind
from tests.support.paths import ROOT

RATES = Rates(
    "here", Rate(1.0, 20.0), 100.0, EmbedRate(5.0, 0.5, 0.002, 0.01), Rate(0.5, 1.0), Rate(2.0, 30.0), Rate(3.0, 10.0),
    {"parquet": 10.0, "mds": 20.0}, {"parquet": 0.5, "mds": 0.25}, 1.5,
)  # fmt: skip
SIZE = BuildSize(
    stored=400, text=1_000_000_000, rows=10, files=7, parts=8, kept_parts=8, windows=100, embedder="small transformer", shards=6,
    selection=SelectionSize(2, 1, dedup=True), exchange=ExchangeSize(6, 0, 6, 0, 1),
    written=500_000_000, formats=("parquet", "mds"), tokenizer=False,
)  # fmt: skip


def by_name(size: BuildSize, cpus: float = 4, gpus: int = 0) -> dict[str, PassCost]:
    return {cost.name: cost for cost in estimate_cost(size, RATES, cpus, gpus)}


def test_seconds_are_shared_by_the_cpus_that_have_a_task_and_hours_are_not() -> None:
    costs = by_name(SIZE)
    assert list(costs) == ["survey", "embed and weigh", "plan", "write"]
    assert {name: cost.seconds for name, cost in costs.items()} == {
        "survey": 1 + 20 / 4, "embed and weigh": 5 + 100 * 0.5 / 4, "plan": 0.5 + 1, "write": 3 + 0.5 * (10 + 10 + 20) / 4,
    }  # fmt: skip
    assert by_name(SIZE, cpus=100)["survey"].seconds == 1 + 20 / 8, "there are eight parts"
    assert costs["survey"].cpu_hours == by_name(SIZE, cpus=100)["survey"].cpu_hours == 21 / 3600


def test_rows_that_are_not_kept_are_read_again() -> None:
    costs = by_name(replace(SIZE, kept_parts=2))
    assert costs["read"].seconds == 2 + 0.75 * 30 / 4
    assert costs["read"].moved == 0.75 * 1e9 * 1.5
    assert costs["survey"].moved == 0.25 * 1e9
    assert seconds_by_timed_pass(list(costs.values())).keys() == {"survey", "embed and weigh", "plan", "write"}
    assert costs["write"].read_requests == 2 * 6 * 6, "six ranges ask one run of each of six parts"
    assert by_name(SIZE)["write"].write_requests == 6 * 2 + 2 * 6


LARGE = replace(
    SIZE, rows=10**9, kept_parts=0, parts=8_000, selection=SelectionSize(60, 64, dedup=True),
    exchange=ExchangeSize(256, 250, 4_000, 3, 5),
)  # fmt: skip


def test_every_pass_of_a_build_has_its_cost() -> None:
    """What the code of a build runs under a name stands in the estimate of a large one, and nothing else but what is no pass."""
    code = "".join((ROOT / f"pipelines/{name}.py").read_text() for name in ("survey", "select", "lay_out", "write"))
    names = set(re.findall(r'run_pass\(\s*engine,\s*"([a-z]+)"', code))
    assert names | {"embed and weigh", "plan"} == by_name(LARGE).keys()
    assert seconds_by_timed_pass(list(by_name(LARGE).values())).keys() == {"survey", "embed and weigh", "plan", "write"}
    assert "copies" not in by_name(replace(LARGE, selection=SelectionSize(60, 64, dedup=False)))


def test_requests_of_levels() -> None:
    costs, runs = by_name(LARGE), 8_000
    assert costs["cut"].read_requests == costs["ranges"].read_requests == 2 * 60 * 64
    assert costs["exchange"].read_requests == 2 * runs * 256
    assert costs["divide"].read_requests == 3 * 2 * 8_000 * 256, "a file of records for each part"
    assert costs["write"].read_requests == 2 * 5 * 4_000
    one_level = by_name(replace(LARGE, exchange=ExchangeSize(256, 0, 256, 0, 1)))
    assert "divide" not in one_level
    assert one_level["write"].read_requests == 2 * runs * 256


def test_a_tokenizer_and_gpus_change_what_they_touch() -> None:
    assert by_name(replace(SIZE, tokenizer=True))["survey"].seconds == 1 + 120 / 4
    on_gpus = by_name(SIZE, gpus=2)["embed and weigh"]
    assert (on_gpus.seconds, on_gpus.cpu_hours, on_gpus.gpu_hours) == (5 + 0.5, 0.0, 1 / 3600)
    assert by_name(replace(SIZE, windows=0))["embed and weigh"].seconds == 0


def test_each_kind_of_embedder_has_its_rate_and_an_unknown_one_is_said() -> None:
    def embed(kind: EmbedderKind, gpus: int = 0) -> PassCost:
        return by_name(replace(SIZE, embedder=kind), gpus=gpus)["embed and weigh"]

    assert [embed(kind).seconds for kind in ("none", "static", "small transformer", "other")] == [5, 5 + 0.2 / 4, 17.5, 17.5]
    assert (embed("static", 2).seconds, embed("none", 2).gpu_hours) == (5 + 0.2 / 2, 0.0)
    assert [bool(embed(kind).doubt) for kind in ("none", "static", "small transformer", "other")] == [False, False, False, True]
    plain = describe_cost([embed("other")], read_prices(OWN_PRICES), RATES)
    assert "doubt" not in plain["total"]
    assert "nobody has measured this model" in plain["passes"][0]["doubt"]


def test_money_is_amounts_times_prices() -> None:
    cost = PassCost("write", 9.0, 2.0, 3.0, 10**9, 10**9, 2 * 10**9, 10**6, 2 * 10**6)
    prices = Prices("EUR", 10.0, 100.0, 0.5, 5.0, 0.25, 2.0)
    assert cost.money(prices) == 20 + 300 + 0.5 + 10 + 4 * 0.25
    plain = describe_cost([cost, cost], prices, RATES)
    assert plain["total"]["money"] == 2 * cost.money(prices)
    assert (plain["month"], plain["currency"]) == (8.0, "EUR")
    assert json.loads(json.dumps(plain)) == plain


def test_the_files_that_come_with_this_code_are_whole() -> None:
    assert set(read_rates().encode) == set(read_rates().stored) == set(FORMATS)
    assert read_prices(OWN_PRICES).currency == "USD"
    lines = [line for line in OWN_PRICES.read_text().splitlines() if line[:1].isalpha() and not line.startswith("currency")]
    assert all("2026" in line for line in lines), "each price has its source and date"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"currency": 3}, "currency"),
        ({"cpu_hour": "much"}, "cpu_hour"),
        ({"cpu_hour": -1.0}, "below zero"),
        ({"cpu_hours": 1.0}, "no such key: cpu_hours"),
    ],
)
def test_a_price_that_is_none_is_refused_with_its_key(tmp_path: Path, changes: dict[str, object], fault: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(json.dumps({**asdict(read_prices(OWN_PRICES)), **changes}))
    with pytest.raises(InputError, match=rf"prices\.yaml: .*{fault}"):
        read_prices(file)


def test_rates_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rates.json"
    for body, fault in (("{", "no JSON"), ("[]", "must"), (json.dumps({**asdict(RATES), "format": 0}), "format 0")):
        file.write_text(body)
        with pytest.raises(InputError, match=fault):
            read_rates(file)
    with pytest.raises(InputError, match="nothing of the formats arrow"):
        estimate_cost(replace(SIZE, formats=("arrow",)), RATES, 1)
    with pytest.raises(InputError, match="no such file"):
        read_rates(tmp_path / "none.json")
