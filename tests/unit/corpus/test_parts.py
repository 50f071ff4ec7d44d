"""Parts as tasks read them: each comes back from the list as it was put there."""

from __future__ import annotations

import pytest

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.parts import split_parts, write_part_list
from chameleon_data.corpus.sample import SampleSpec
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.recipe import Input, Source
from chameleon_data.store.store import Store

BYTES = TokenCounter("bytes")
SPEC = SampleSpec(samples=3, window=9, seed=1, column=None)


def fragments(name: str, files: int, begin: int = 0) -> list[Fragment]:
    return [
        Fragment(name, f"/corpus/{name}/{i:06d}.x", "jsonl", "none", begin, begin + 1 if begin else None, 1000 + i, f"size={i}")
        for i in range(files)
    ]


def test_a_task_reads_the_part_of_its_number(memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chameleon_data.corpus.parts.PART_BYTES", 2500)
    sources = {
        "a": Source(path=("/corpus/a", "/more"), text="t.x", id="i"),
        "é'\n": Source(path=("/b",), domain="d", rename={"x": "y"}),
    }
    listed = {"a": fragments("a", 5), "é'\n": [*fragments("é'\n", 2, 0), *fragments("é'\n", 2, 7)]}
    parts = split_parts(listed, sources, Input(), SPEC, BYTES)
    assert [len(part.fragments) for part in parts] == [2, 2, 1, 2, 2]
    assert [part.read_as.path for part in parts] == [("/corpus/a",)] * 3 + [("/b",)] * 2
    found = write_part_list(memory_store, parts)
    assert [found.read(number) for number in range(5)] == list(parts)


def test_a_source_without_fragments_has_no_part() -> None:
    parts = split_parts({"a": [], "b": fragments("b", 1)}, {n: Source(path=("/x",)) for n in "ab"}, Input(), SPEC, BYTES)
    assert [part.source for part in parts] == ["b"]
