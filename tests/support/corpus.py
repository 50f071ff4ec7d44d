"""A small corpus of real text for tests, and ways to lay it out that must not matter."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import zstandard

from tests.support.paths import RECIPES

DEMO = RECIPES / "demo/corpus"
Documents = dict[str, list[str]]


def demo_texts() -> Documents:
    """All texts of the demo's corpus, by source."""
    from chameleon_data.corpus.fragments import list_fragments
    from chameleon_data.corpus.readers.blocks import read_blocks
    from chameleon_data.recipe_file import load_recipe

    sources = load_recipe(DEMO.parent / "demo.yaml").sources
    return {
        name: [
            t for f in list_fragments(name, source).fragments for b in read_blocks(f, source, 2**30) for t in b.text.to_pylist()
        ]
        for name, source in sources.items()
    }


def documents() -> Documents:
    """Three uneven domains: 60 statutes, 90 forum-like pages cut to 3 kB, 25 book chapters; some texts twice and thrice."""
    legal = [json.loads(line)["text"] for line in (DEMO / "legal/part-0000.jsonl").read_text().splitlines()]
    book = pq.read_table(DEMO / "book/part-0000.parquet")["text"].to_pylist()
    code = feather.read_table(DEMO / "github/part-0000.feather")["text"].to_pylist()
    return {
        "legal": legal[:60] + legal[:7] * 2,
        "book": [t[:9000] for t in book[:25]],
        "code": [t[:3000] for t in code[:90]] + code[5:6] * 3,
    }


def documents_with_copies() -> Documents:
    """The same, with texts that stand in several domains, and several times in one."""
    found = documents()
    found["book"] += found["legal"][:20] + found["code"][:3] * 2
    found["code"] += found["legal"][10:25]
    return found


def write_file(path: Path, texts: Sequence[str]) -> None:
    """Rows {text, id} in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"text": text, "id": f"{path.name}-{i}"} for i, text in enumerate(texts)]
    name = path.name
    lines = "".join(json.dumps(r, ensure_ascii=i % 2 == 0) + "\n" for i, r in enumerate(rows)).encode()
    if name.endswith(".jsonl"):
        path.write_bytes(lines)
    elif name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(lines))
    elif name.endswith(".jsonl.zst"):
        half = len(lines) // 2
        path.write_bytes(b"".join(zstandard.compress(part) for part in (lines[:half], lines[half:])))
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif name.endswith(".feather"):
        feather.write_feather(pa.Table.from_pylist(rows), path)
    elif name.endswith(".csv"):
        text = io.StringIO()
        writer = csv.DictWriter(text, ["id", "text"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
        path.write_bytes(text.getvalue().encode())
    else:
        raise AssertionError(name)


def lay_out(folder: Path, corpus: Documents, formats: Sequence[str], files: int, reverse: bool = False) -> dict[str, str]:
    """Write the corpus as `files` files a domain, in these formats by turns; returns the recipe's sources."""
    for name, texts in corpus.items():
        ordered = texts[::-1] if reverse else texts
        for i in range(files):
            write_file(folder / name / f"part-{i}.{formats[i % len(formats)]}", ordered[i::files])
    return {name: str(folder / name) for name in corpus}


def write_recipe(path: Path, sources: Mapping[str, Any], **sections: Any) -> Path:
    """A recipe with given weights, so that nothing is embedded; `sections` replace or add top-level keys."""
    weights = path.parent / "weights.json"
    weights.write_text(json.dumps(dict(zip(sources, (0.5, 0.3, 0.2), strict=True))))
    recipe = {
        "name": "test", "out": str(path.parent / "out"), "sources": dict(sources), "weights": {"from": str(weights)},
        "mix": {"budget": 400_000, "max_epochs": 8}, "shards": {"size": "50KB"}, **sections,
    }  # fmt: skip
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return path
