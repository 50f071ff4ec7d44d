"""Where the files of a corpus are divided shows in nothing that a build writes: shards, lineage, quarantine, books."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from chameleon_data.corpus.survey import read_quarantine
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.checksummed import read_table
from tests.support.corpus import documents, write_recipe
from tests.support.framed_files import bgzf, seekable_zstd, zstd_frames
from tests.support.in_process import ready

WRITERS: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "jsonl": b"".join,
    "jsonl.zst": zstd_frames,
    "seekable.jsonl.zst": seekable_zstd,
    "jsonl.gz": bgzf,
}
BAD = [b"", b"broken", b" \r", b'{"text": null}', b'{"text": "\xff"}', b'{"text": " "}']
"""Lines that stand between the documents: blank ones, which are no rows, and bad ones."""


def lines_of(texts: list[str]) -> bytes:
    lines = []
    for number, text in enumerate(texts):
        lines += [BAD[number // 3 % len(BAD)]] * (number % 3 == 0)
        lines.append(json.dumps({"text": text}, ensure_ascii=number % 2 == 0).encode() + b"\r" * (number % 5 == 0))
    return b"\n".join(lines)  # the last line without its end


def build(folder: Path, kind: str, **sections: Any) -> tuple[dict[str, Any], int]:
    """(what a build says and writes, number of its parts)"""
    sources = {}
    for name, texts in documents().items():
        body = lines_of(texts[: len(texts) // 4] + texts[:5])
        pieces = [body[at : at + 5000] for at in range(0, len(body), 5000)]
        (folder / name).mkdir(parents=True)
        (folder / name / f"a.{kind}").write_bytes(WRITERS[kind](pieces))
        sources[name] = str(folder / name)
    recipe = load_recipe(
        write_recipe(
            folder / "recipe.yaml",
            sources,
            input={"max_bad": 0.9, "max_blank": 0.9},
            shards={"size": "50KB", "lineage": True},
            mix={"budget": 150_000, "max_epochs": 8},
            **sections,
        )
    )
    made = ready(recipe, keep=bool(recipe.survey.keep))
    manifest = made.manifest()
    lineage = {
        path: [(Path(row["source"]).parent.name, row["row"]) for row in read_table(made.store, path).to_pylist()]
        for path in made.store.list(f"{made.build.folder}/lineage")
    }
    quarantine = [
        (Path(row.pop("file")).parent.name, *row.values()) for row in read_quarantine(made.store, made.survey.parts).to_dicts()
    ]
    said = {
        "digest": manifest.digest,
        "content": manifest.content_digest,
        "domains": manifest.domains,
        "quarantine": sorted(quarantine),
        "lineage": lineage,
        "sample": made.survey.sample,
    }
    return said, len(made.parts)


@pytest.mark.parametrize(
    ("kind", "keep"),
    [("jsonl", "auto"), ("jsonl", False), ("jsonl.zst", False), ("seekable.jsonl.zst", "auto"), ("jsonl.gz", "auto")],
)
def test_where_files_are_divided_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, keep: Any) -> None:
    whole, parts = build(tmp_path / "whole", "jsonl", survey={"keep": keep})
    assert parts == 3
    assert len(whole["lineage"]) >= 3
    assert len(whole["quarantine"]) > 12
    for step, most in ((1500, 1), (1500, 10_000)) if kind == "jsonl" else ((1500, 1),):
        monkeypatch.setattr("chameleon_data.corpus.fragments.FRAGMENT_BYTES", step)
        monkeypatch.setattr("chameleon_data.corpus.parts.PART_BYTES", most)
        found, parts = build(tmp_path / f"{step}-{most}", kind, survey={"keep": keep})
        assert parts > (20 if most == 1 else 6)
        assert found == whole


def test_rows_can_be_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lineage and quarantine name lines of the file, not of a fragment."""
    monkeypatch.setattr("chameleon_data.corpus.fragments.FRAGMENT_BYTES", 1500)
    monkeypatch.setattr("chameleon_data.corpus.parts.PART_BYTES", 4000)
    said, parts = build(tmp_path, "jsonl")
    assert parts > 20
    lines = {name: (tmp_path / name / "a.jsonl").read_bytes().split(b"\n") for name in documents()}
    for name, row in (place for places in said["lineage"].values() for place in places):
        assert json.loads(lines[name][row])["text"] in documents()[name]
    for name, row, *_ in said["quarantine"]:
        assert lines[name][row] in BAD
