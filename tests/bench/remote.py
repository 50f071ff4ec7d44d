"""Remote files: what it gains a build that the next block of a file is on its way while the one before is parsed.

The corpus lies behind a file system that answers as an object store does: each request waits, and then gives its bytes at a rate.
It sleeps and takes no CPU. One process builds, so nothing else hides the waits.

    python -m tests.bench.remote [MEGABYTES [REPEATS]]
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

import fsspec
import zstandard
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from chameleon_data.corpus import fragments
from chameleon_data.corpus.read_ahead import AHEAD_BYTES
from tests.bench.figures import Figure, show
from tests.support.corpus import demo_texts
from tests.support.inline_builds import InlineEngine

REQUEST_SECONDS, BYTES_A_SECOND = 0.03, 85e6
"""What a request takes until its first byte, and what a connection gives; of S3 its guide says 85 to 90 MB/s."""
AIM = 1.2
"""How much faster a survey should be."""
LOCAL = LocalFileSystem()


class SlowFileSystem(AbstractFileSystem):
    """This machine's files, as slow as those of an object store."""

    protocol, root_marker = "slow", "/"
    requests = moved = 0

    def ls(self, path: str, detail: bool = True, **how: Any) -> Any:
        return LOCAL.ls(self._strip_protocol(path), detail, **how)

    def info(self, path: str, **how: Any) -> Any:
        return LOCAL.info(self._strip_protocol(path), **how)

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **how: Any) -> SlowFile:
        return SlowFile(self, path, mode, block_size, **how)


class SlowFile(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        began = time.perf_counter()
        with Path(self.path).open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        SlowFileSystem.requests += 1
        SlowFileSystem.moved += len(data)
        time.sleep(max(0.0, REQUEST_SECONDS + len(data) / BYTES_A_SECOND - (time.perf_counter() - began)))
        return data


def write_corpora(folder: Path, megabytes: int) -> dict[str, Path]:
    """One file of so many MB of text in each form; the text is the demo's, as often as it takes."""
    texts = [text for texts in demo_texts().values() for text in texts]
    copies = max(1, megabytes * 10**6 // sum(len(text.encode()) for text in texts))
    every = [f"copy {copy}\n{text}" for copy in range(copies) for text in texts]
    lines = b"".join(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" for text in every)
    paths = {form: folder / form / f"a.{form}" for form in ("jsonl", "jsonl.zst")}
    for path in paths.values():
        path.parent.mkdir(parents=True)
    paths["jsonl"].write_bytes(lines)
    paths["jsonl.zst"].write_bytes(zstandard.ZstdCompressor(level=3).compress(lines))
    return paths


def open_plainly(file: SlowFile, size: int, end: int | None) -> BinaryIO:
    """In the place of ReadAhead: the file as fsspec reads it by default, with nothing on its way while a block is parsed."""
    plain: BinaryIO = SlowFileSystem().open(file.path, "rb", block_size=AHEAD_BYTES, cache_type="readahead")
    file.close()
    return plain


@contextmanager
def reading_ahead(ahead: bool) -> Iterator[None]:
    with nullcontext() if ahead else patch.object(fragments, "ReadAhead", open_plainly):
        yield


def take_seconds(folder: Path, corpus: Path, megabytes: int) -> tuple[float, float, str]:
    """Seconds of the survey and of the whole build, and the digest of its contents."""
    from chameleon_data.pipelines.build import build_recipe
    from chameleon_data.recipe_file import load_recipe

    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "weights.json").write_text('{"one": 1.0}')
    (folder / "recipe.yaml").write_text(json.dumps({
        "name": "bench", "out": str(folder / "out"), "sources": {"one": f"slow://{corpus}"},
        "weights": {"from": str(folder / "weights.json")}, "mix": {"budget": megabytes * 10**6, "max_epochs": 8},
    }))  # fmt: skip
    began = time.perf_counter()
    manifest = build_recipe(load_recipe(folder / "recipe.yaml"), InlineEngine(), lambda *_: None, "bench").manifest
    return manifest.timings["survey"], time.perf_counter() - began, manifest.content_digest


def run(megabytes: int = 100, repeats: int = 3) -> list[Figure]:
    fsspec.register_implementation("slow", SlowFileSystem, clobber=True)
    figures = []
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for form, path in write_corpora(base / "corpus", megabytes).items():
            taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
            moved: dict[bool, str] = {}
            contents = set[str]()
            for _ in range(repeats):
                for ahead, seconds in taken.items():
                    SlowFileSystem.requests = SlowFileSystem.moved = 0
                    with reading_ahead(ahead):
                        survey, whole, content = take_seconds(base, path, megabytes)
                    seconds.append((survey, whole))
                    contents.add(content)
                    moved[ahead] = f"{SlowFileSystem.requests} requests, {SlowFileSystem.moved / 1e6:,.0f} MB"
            if len(contents) > 1:
                raise SystemExit(f"{form}: builds of the same file differ")
            for place, what in enumerate(("survey", "whole build")):
                before, after = (min(seconds[place] for seconds in taken[ahead]) for ahead in (False, True))
                peer = f"{before:.1f} s without ({moved[False]}), {after:.1f} s with ({moved[True]})"
                figures.append(Figure(f"{what} of a remote .{form}", before / after, "×", AIM if place == 0 else None, peer))
    return figures


if __name__ == "__main__":
    show(run(*map(int, sys.argv[1:])))
