"""How the conversations of jobs/recipes/conversations were made: of real texts of the demo corpus, in three forms.

medical   messages: the questions and answers of a page of MedQuAD, as they stand
cooking   ShareGPT: a recipe of based.cooking, asked for by its title
law       Alpaca: a section of the District of Columbia's code, asked for by its heading
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from typing import Any

from tests.support.paths import RECIPES

DEMO = RECIPES / "demo/corpus"
CORPUS = RECIPES / "conversations/corpus"
Rows = list[dict[str, Any]]


def medical() -> Rows:
    csv.field_size_limit(2**30)
    rows = []
    with (DEMO / "medical/part-0000.csv").open(newline="", encoding="utf-8") as file:
        for page in csv.DictReader(file):
            asked = re.findall(r"^Q: (.+?)\nA: (.+?)(?=\n\nQ: |\Z)", page["text"], re.MULTILINE | re.DOTALL)
            turns = [({"role": "user", "content": q.strip()}, {"role": "assistant", "content": a.strip()}) for q, a in asked[:3]]
            rows.append({"messages": [message for turn in turns for message in turn], "id": page["id"]})
    return [row for row in rows if row["messages"] and len(json.dumps(row)) < 6_000][:60]


def cooking() -> Rows:
    pages = []
    for number in (0, 1):
        with gzip.open(DEMO / f"web/part-000{number}.jsonl.gz", "rt", encoding="utf-8") as file:
            pages += [json.loads(line) for line in file]
    rows = []
    for page in pages:
        title = re.match(r"# (.+)\n\n", page["text"])
        if page["meta"].get("source") == "LukeSmithxyz/based.cooking" and title and len(page["text"]) < 4_000:
            question = f"How do I make {title[1].strip().lower()}?"
            turns = [{"from": "human", "value": question}, {"from": "gpt", "value": page["text"][title.end() :].strip()}]
            rows.append({"conversations": turns, "id": page["id"]})
    return rows[:60]


def law() -> Rows:
    rows = []
    for line in (DEMO / "legal/part-0000.jsonl").read_text(encoding="utf-8").splitlines():
        section = json.loads(line)
        heading, _, body = section["text"].partition("\n\n")
        if heading.startswith("§ ") and 40 < len(body) < 4_000:
            rows.append(
                {"instruction": "Say what this section provides.", "input": heading, "output": body.strip(), "id": section["id"]}
            )
    return rows[:60]


def make_corpus() -> dict[str, bytes]:
    """Name of a file of the corpus -> its bytes."""
    sets = {"medical": medical(), "cooking": cooking(), "law": law()}
    return {
        f"{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        for name, rows in sets.items()
    }
