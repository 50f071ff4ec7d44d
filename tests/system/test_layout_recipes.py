"""Recipes for the layouts of known corpora, each built from a few files of the same names, columns and nesting."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from chameleon_data.recipe_file import parse_recipe
from tests.support import inline_builds
from tests.support.pages import place
from tests.support.paths import RECIPES

LAYOUTS = RECIPES / "layouts"
ROWS = 6
"""Rows of each file."""
Rows = list[dict[str, Any]]


def text(name: str, number: int) -> str:
    return f"{name} {number}: " + "some words about it, " * (3 + number)


def write_lines(path: Path, rows: Rows) -> None:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    pack: dict[str, Callable[[bytes], bytes]] = {".zst": zstandard.compress, ".gz": gzip.compress}
    write_bytes(path, pack.get(path.suffix, bytes)(data))


def write_bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_parquet(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def slimpajama(data: Path) -> Mapping[str, int]:
    sets = ("ArXiv", "Book", "C4", "CommonCrawl", "Github", "StackExchange", "Wikipedia")
    for chunk in (1, 2):
        rows = [{"text": text(s, n), "meta": {"redpajama_set_name": f"RedPajama{s}"}} for n in range(ROWS) for s in sets]
        write_lines(data / f"SlimPajama-627B/train/chunk{chunk}/example_train_0.jsonl.zst", rows)
    write_lines(data / "SlimPajama-627B/validation/chunk1/example_holdout_0.jsonl.zst", [{"text": "held out"}])
    return dict.fromkeys(("arxiv", "book", "c4", "cc", "github", "stackexchange", "wikipedia"), 2 * ROWS)


def pile(data: Path) -> Mapping[str, int]:
    sets = ("Pile-CC", "PubMed Central", "Gutenberg (PG-19)", "Github")
    for file in range(2):
        rows = [{"text": text(s, n), "meta": {"pile_set_name": s}} for n in range(ROWS) for s in sets]
        write_lines(data / f"pile/train/{file:02d}.jsonl.zst", rows)
    write_lines(data / "pile/val.jsonl.zst", [{"text": "held out", "meta": {"pile_set_name": "Github"}}])
    return dict.fromkeys(sets, 2 * ROWS)


def fineweb(data: Path) -> Mapping[str, int]:
    dumps = ("CC-MAIN-2013-20", "CC-MAIN-2024-10", "CC-MAIN-2025-21")
    for dump in dumps:
        rows = [
            {
                "text": text(dump, n), "id": f"<urn:uuid:{dump}-{n}>", "dump": dump, "url": "http://x.org",
                "date": "2013-05-18T07:24:32Z", "file_path": f"s3://commoncrawl/{dump}", "language": "en",
                "language_score": 0.9, "token_count": 30 + n,
            }
            for n in range(ROWS)
        ]  # fmt: skip
        write_parquet(data / f"fineweb/data/{dump}/000_00000.parquet", rows)
    return dict.fromkeys(dumps, ROWS)


def dolma(data: Path) -> Mapping[str, int]:
    folders = {
        "books": ("books",), "c4-filtered": ("c4",), "cc_en_head": ("cc",), "cc_en_middle": ("cc",), "cc_en_tail": ("cc",),
        "pes2o": ("pes2o",), "reddit": ("reddit",), "starcoder": ("starcoder",), "wiki": ("wiki",),
    }  # fmt: skip
    found: dict[str, int] = {}
    for folder, (domain,) in folders.items():
        rows = [
            {
                "id": f"{folder}-{n}", "text": text(folder, n), "source": folder, "added": "2024-04-15", "created": "2023-01-01",
                "metadata": {"length": n},
            }
            for n in range(ROWS)
        ]  # fmt: skip
        write_lines(data / f"dolma-v1_7/{folder}/{folder}-0000.json.gz", rows)
        found[domain] = found.get(domain, 0) + ROWS
    return found


def starcoder(data: Path) -> Mapping[str, int]:
    languages = ("c", "go", "java", "javascript", "python", "rust")
    for language in languages:
        rows = [
            {
                "max_stars_repo_path": f"src/{n}.x", "max_stars_repo_name": "a/b", "max_stars_count": n, "id": f"{language}{n}",
                "content": text(language, n),
            }
            for n in range(ROWS)
        ]  # fmt: skip
        write_parquet(data / f"starcoderdata/{language}/train-00000-of-00059.parquet", rows)
    return dict.fromkeys(languages, ROWS)


def chat(data: Path) -> Mapping[str, int]:
    turns = [(text("q", n), text("a", n)) for n in range(10 * ROWS)]
    messages: Rows = [
        {"prompt": q, "prompt_id": f"{n:064x}", "messages": [{"content": q, "role": "user"}, {"content": a, "role": "assistant"}]}
        for n, (q, a) in enumerate(turns)
    ]
    write_parquet(data / "ultrachat_200k/data/train_sft-00000-of-00003-a3ecf92756993583.parquet", messages)
    write_parquet(data / "ultrachat_200k/data/test_sft-00000-of-00001-f7dfac4afe5b93f4.parquet", messages[:1])
    shared = [
        {"source": "x", "category": None, "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]}
        for q, a in turns
    ]
    write_bytes(data / "OpenHermes-2.5/openhermes2_5.json", json.dumps(shared, indent=2).encode())
    asked: Rows = [
        {"instruction": q, "input": "" if n % 2 else "data", "output": a, "text": f"{q} {a}"} for n, (q, a) in enumerate(turns)
    ]
    write_parquet(data / "alpaca/data/train-00000-of-00001-a09b74b3ef9c3b56.parquet", asked)
    return dict.fromkeys(("ultrachat", "openhermes", "alpaca"), 10 * ROWS)


STAND_INS: Sequence[Callable[[Path], Mapping[str, int]]] = (slimpajama, pile, fineweb, dolma, starcoder, chat)
"""Each writes the files of a layout below a folder, and returns domain -> rows."""


def test_every_layout_has_a_stand_in() -> None:
    assert {path.stem for path in LAYOUTS.glob("*.yaml")} == {write.__name__ for write in STAND_INS}


@pytest.mark.parametrize("write", STAND_INS, ids=lambda write: write.__name__)
def test_a_layout_is_read_as_its_recipe_says(write: Callable[[Path], Mapping[str, int]], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    domains = write(tmp_path / "data")
    said = (LAYOUTS / f"{write.__name__}.yaml").read_text(encoding="utf-8")
    recipe = parse_recipe(place(said, tmp_path), LAYOUTS)
    shares = tmp_path / "shares.json"
    shares.write_text(json.dumps(dict.fromkeys(domains, 1 / len(domains))), encoding="utf-8")
    weights = recipe.weights.model_copy(update={"from_": str(shares)})  # so that nothing is embedded
    mix = recipe.mix.model_copy(update={"budget": 5_000})
    manifest = inline_builds.build(recipe.model_copy(update={"weights": weights, "mix": mix}))
    assert {name: domain.rows_read for name, domain in manifest.domains.items()} == domains
    assert sum(domain.tokens for domain in manifest.domains.values()) > 4_000
    assert sum(domain.quarantined for domain in manifest.domains.values()) == 0
