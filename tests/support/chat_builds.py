"""A corpus of conversations made of real text, in the three forms that sources have, and builds of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chameleon_data.recipe import CHAT_FORMATS
from chameleon_data.recipe_file import load_recipe
from chameleon_data.shards.formats.registry import FORMATS
from tests.support.corpus import documents
from tests.support.in_process import Ready, ready
from tests.support.tokenizers import byte_tokenizer

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content or m.tool_calls | tojson }}<|end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|end|>{% endif %}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SOURCES: dict[str, dict[str, Any]] = {
    "legal": {"chat": "messages", "tools": "tools", "keep": ["url"]},
    "book": {"chat": "conversations"},
    "code": {"prompt": ["instruction", "input"], "completion": "output"},
}


def rows_of(name: str) -> list[dict[str, Any]]:
    """Conversations made of real text, in the form that each source has; some stand twice, one is broken."""
    rows: list[dict[str, Any]] = []
    for i, text in enumerate(documents()[name][:60]):
        cut = [text[k : k + 40 + 7 * i].strip() or text[:40] for k in range(0, 900, 300)]
        if name == "legal":
            messages = [{"role": "system", "content": "Answer."}] * (i % 2)
            for k in range(1 + i % 2):
                messages += [{"role": "user", "content": cut[k]}, {"role": "assistant", "content": cut[k + 1]}]
            if i % 4 == 0:
                call = {"type": "function", "function": {"name": "find", "arguments": {"page": i}}}
                messages += [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "none"}]
            rows.append({"messages": messages, "tools": [{"name": "find"}] if i % 4 == 0 else None, "url": f"u{i}"})
        elif name == "book":
            rows.append({"conversations": [{"from": "human", "value": cut[0]}, {"from": "gpt", "value": cut[1]}]})
        else:
            rows.append({"instruction": "Explain.", "input": cut[0] if i % 3 else "", "output": cut[1] or cut[0]})
    return rows + rows[3:5]


def write_corpus(folder: Path, files: int = 2, reverse: bool = False, parquet: bool = False) -> dict[str, Any]:
    for name in SOURCES:
        rows = rows_of(name)[::-1] if reverse else rows_of(name)
        (folder / name).mkdir(parents=True)
        for n in range(files):
            if parquet and name != "legal":
                pq.write_table(pa.Table.from_pylist(rows[n::files]), folder / name / f"{n}.parquet", row_group_size=9)
            else:
                lines = "".join(json.dumps(row) + "\n" for row in rows[n::files])
                (folder / name / f"{n}.jsonl").write_text(lines)
    return {name: {"path": str(folder / name), **keys} for name, keys in SOURCES.items()}


def build(folder: Path, sources: dict[str, Any], keep: bool = False, **sections: Any) -> Ready:
    (folder / "weights.json").write_text(json.dumps(dict(zip(SOURCES, (0.5, 0.3, 0.2), strict=True))))
    (folder / "chat.jinja").write_text(TEMPLATE)
    byte_tokenizer(folder, "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|end|>")
    recipe = {
        "name": "chat", "out": str(folder / "out"), "sources": sources, "weights": {"from": str(folder / "weights.json")},
        "mix": {"budget": 30_000, "max_epochs": 9}, "shards": {"size": "9KB", "formats": list(CHAT_FORMATS)},
        "tokens": {"tokenizer": "tokenizer.json", "template": "chat.jinja", "count": "trained"}, **sections,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return ready(load_recipe(folder / "recipe.yaml"), keep=keep)


def stored(made: Ready, format: str) -> list[dict[str, Any]]:
    rows = []
    for path in sorted(p for p in made.store.list(f"{made.build.folder}/{format}") if not p.endswith("index.json")):
        rows += FORMATS[format].decode({path.rpartition("/")[2]: made.store.read(path)}, path)[0].to_pylist()
    return rows


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row of which the messages have no fields of others."""
    return {**row, "messages": [{k: v for k, v in m.items() if v is not None} for m in row["messages"]]}
