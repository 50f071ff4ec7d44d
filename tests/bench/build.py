"""Survey and write passes against merely reading the same files, and their memory as the corpus grows.

The corpus is the demo's text, repeated, each copy of a document with a first line of its own: 1 GB of it for the throughput;
for memory also a quarter and four times that.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import psutil
import pyarrow as pa
import pyarrow.json
import zstandard

from chameleon_data.pipelines.engine import Engine
from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats import mds, parquet
from chameleon_data.store.store import Store
from chameleon_data.versions.references import resolve_version
from chameleon_data.versions.verify import verify_version
from chameleon_data.versions.versions import read_manifest
from tests.bench.figures import Figure, show
from tests.support.corpus import demo_texts

GIGABYTE = 10**9
FILES, DOMAINS = 8, 4
CORES = 2


def make_corpus(folder: Path, size: int) -> list[Path]:
    """About `size` bytes of text as 8 .jsonl.zst files in 4 domains.

    All the demo's texts come before the first comes again: 6 MB apart, where zstd no longer finds the copy.
    """
    texts = [t for ts in demo_texts().values() for t in ts]
    copies = max(1, round(size / sum(len(t.encode()) for t in texts) / FILES))
    files = []
    for index in range(FILES):
        path = folder / f"domain-{index % DOMAINS}" / f"part-{index}.jsonl.zst"
        path.parent.mkdir(parents=True, exist_ok=True)
        with zstandard.open(path, "wb", cctx=zstandard.ZstdCompressor(level=3)) as file:
            for copy in range(copies):
                for i, text in enumerate(texts):
                    row = {"text": f"copy {copy} of file {index}\n{text}", "id": f"{copy}-{i}"}
                    file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        files.append(path)
    return files


def merely_read(files: list[Path]) -> float:
    """Seconds to decompress and parse the files on as many threads as there are cores; the faster of pyarrow and polars."""

    def by_pyarrow(path: Path) -> None:
        with pa.input_stream(str(path), compression="zstd") as stream:
            for _ in pa.json.open_json(stream, read_options=pa.json.ReadOptions(use_threads=False, block_size=2**22)):
                pass

    def by_polars(path: Path) -> None:
        with pa.input_stream(str(path), compression="zstd") as stream:
            pl.read_ndjson(stream.read())

    best = []
    for one in (by_pyarrow, by_polars):
        start = time.perf_counter()
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(one, files))
        best.append(time.perf_counter() - start)
    return min(best)


def verifying(out: Path) -> float:
    """Seconds to prove the version."""
    store = Store(str(out))
    manifest = read_manifest(store, resolve_version(store, "latest"))
    start = time.perf_counter()
    found = verify_version(store, manifest)
    if not found.ok:
        raise SystemExit("\n".join(found.problems))
    return time.perf_counter() - start


def merely_encode(build: Path, scratch: Path) -> float:
    """Seconds to encode, compress, hash and store the shards of a build in both formats, a thread a core."""
    paths = sorted((build / "parquet").glob("*.parquet"))
    tables = [parquet.decode({path.name: path.read_bytes()}, path.name)[0] for path in paths]

    def one(number: int) -> None:
        for format in (parquet, mds):
            for data in format.encode(tables[number], number, len(tables), TRAIN, 3).files.values():
                hashlib.sha256(data).hexdigest()
                (scratch / f"{number}").write_bytes(data)

    start = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(one, range(len(tables))))
    return time.perf_counter() - start


class Peak(threading.Thread):
    """Largest anonymous memory of any worker of this process, in bytes, looked up ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes, self.ended = 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            for process in psutil.Process().children():
                try:
                    if any("local_worker" in word for word in process.cmdline()):
                        self.bytes = max(self.bytes, memory_of(process.pid, "RssAnon"))
                except (OSError, psutil.Error):
                    continue


def memory_of(pid: int, what: str) -> int:
    """A line of a process' status, in bytes: RssAnon is what it holds, VmHWM the most that it ever held, its files included."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


@contextmanager
def peak() -> Iterator[Peak]:
    thread = Peak()
    thread.start()
    yield thread
    thread.ended.set()
    thread.join()


def recipe_for(folder: Path, corpus: Path, budget: int) -> Path:
    weights = folder / "weights.json"
    names = sorted(p.name for p in corpus.iterdir())
    weights.write_text(json.dumps(dict.fromkeys(names, 1 / len(names))))
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({
        "name": "bench", "out": str(folder / "out"), "sources": {n: str(corpus / n) for n in names},
        "weights": {"from": str(weights)}, "mix": {"budget": budget, "max_epochs": 8},
    }))  # fmt: skip
    return path


def passes(engine: Engine, folder: Path, corpus: Path, size: int, repeats: int) -> tuple[dict[str, float], int]:
    """Median seconds of survey and write, by workers that are up; and the peak memory of a worker."""
    from chameleon_data.pipelines.build import build_recipe
    from chameleon_data.recipe_file import load_recipe

    seconds: dict[str, list[float]] = {"survey": [], "write": []}
    with peak() as memory:
        for _ in range(repeats):
            shutil.rmtree(folder / "out", ignore_errors=True)
            built = build_recipe(load_recipe(recipe_for(folder, corpus, size)), engine, lambda *_: None, "bench")
            for name, taken in seconds.items():
                taken.append(built.manifest.timings[name])
    return {name: statistics.median(taken) for name, taken in seconds.items()}, memory.bytes


def run(gigabytes: float = 1.0, repeats: int = 5, folder: Path | None = None) -> list[Figure]:
    """All figures of this file."""
    from chameleon_data.pipelines.local_engine import local_engine

    figures = []
    with tempfile.TemporaryDirectory(dir=folder) as name:
        base = Path(name)
        with local_engine(workers=CORES) as engine:
            for share in (0.25, 1.0, 4.0):
                size = int(gigabytes * share * GIGABYTE)
                corpus = base / f"corpus-{share}"
                files = make_corpus(corpus, size)
                if share == 1.0:
                    reading = statistics.median(merely_read(files) for _ in range(repeats))
                    seconds, memory = passes(engine, base, corpus, size, repeats)
                    for label, taken in seconds.items():
                        peer = f"merely reading the files: {size / reading / 1e6:,.0f} MB/s"
                        figures.append(Figure(f"{label}, share of merely reading", reading / taken, "×", 0.5, peer))
                        figures.append(Figure(f"{label}, {size / 1e9:g} GB", size / taken / 1e6, "MB/s"))
                    figures.append(Figure("verify", size / verifying(base / "out") / 1e6, "MB/s", None, "of text, one process"))
                    (build_folder,) = (base / "out/builds").iterdir()
                    encoding = statistics.median(merely_encode(build_folder, base) for _ in range(repeats))
                    peer = f"reading, then encoding both formats: {size / (reading + encoding) / 1e6:,.0f} MB/s"
                    figures.append(
                        Figure("write, share of reading and encoding", (reading + encoding) / seconds["write"], "×", 0.7, peer)
                    )
                else:
                    seconds, memory = passes(engine, base, corpus, size, 1)
                beside = f"survey and write: {sum(seconds.values()):.0f} s"
                figures.append(Figure(f"peak memory of a worker, {size / 1e9:g} GB", memory / 2**20, "MiB", None, beside))
                shutil.rmtree(corpus)
                shutil.rmtree(base / "out")
    return figures


def main(run_all: Callable[[], list[Figure]]) -> None:
    show(run_all())


if __name__ == "__main__":
    main(lambda: run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
