"""A whole build from recorded weights beside what people use in its place, on the same files and two cores, memory included.

    ours              survey, plan, exchange, shards, manifest: exact shares, hashed, versioned
    interleave        datasets.interleave_datasets by probabilities, with a shuffle buffer of 10,000 rows, into MDSWriter
    random_shuffle    Ray Data: read_json, random_shuffle, write_parquet; no mixture
    datatrove         JsonlReader into ParquetWriter, two workers: it has no shuffle of texts, so nothing is mixed or shuffled

And the exchange alone, every row of the corpus read, brought to its shard and put in order there, nothing kept: our spilled runs
against Ray Data's read_json, groupby(shard).map_groups(sort). Both clusters have read the corpus once before the clock starts.

Each runs in a process of its own; a build is timed from its start to its end. Memory is the largest sum over all processes of a
run of what each holds alone and its share of what they hold together (PSS).

    python -m tests.bench.peers [GIGABYTES]
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.build import CORES, GIGABYTE, make_corpus
from tests.bench.figures import Figure, show

SHARD = 64 * 2**20


def recipe_of(corpus: Path, out: Path, format: str) -> Path:
    """A recipe that writes the whole corpus with equal weights."""
    names = sorted(p.name for p in corpus.iterdir())
    weights = out / "weights.json"
    weights.write_text(json.dumps({name: 1 / len(names) for name in names}))
    recipe = out / "recipe.yaml"
    recipe.write_text(json.dumps({
        "name": "bench", "out": str(out / "out"), "sources": {n: str(corpus / n) for n in names},
        "weights": {"from": str(weights)}, "mix": {"max_epochs": 8}, "shards": {"formats": format},
    }))  # fmt: skip
    return recipe


def ours(corpus: Path, out: Path, format: str) -> None:
    from chameleon_data.jobs.cli import main

    sys.argv = ["chameleon-data", "build", str(recipe_of(corpus, out, format))]
    main()


def interleave(corpus: Path, out: Path) -> None:
    import datasets

    from tests.support.streaming_reader import load

    names = sorted(p.name for p in corpus.iterdir())
    streams = [
        datasets.load_dataset("json", data_files=sorted(map(str, (corpus / name).iterdir())), split="train", streaming=True)
        for name in names
    ]
    mixed = datasets.interleave_datasets(
        streams, probabilities=[1 / len(names)] * len(names), seed=0, stopping_strategy="all_exhausted_without_replacement"
    ).shuffle(seed=0, buffer_size=10_000)
    options = {"compression": "zstd:3", "hashes": ["sha256", "xxh64"], "size_limit": SHARD}
    with load().MDSWriter(out=str(out / "mds"), columns={"text": "str", "id": "str"}, **options) as writer:
        for row in mixed:
            writer.write(row)


def _ray_data(corpus: Path):
    import ray
    import ray.data

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    files = sorted(map(str, corpus.rglob("*.zst")))
    return ray.data.read_json(files, arrow_open_stream_args={"compression": "zstd"}, file_extensions=None)


def random_shuffle(corpus: Path, out: Path) -> None:
    _ray_data(corpus).random_shuffle(seed=0).write_parquet(str(out / "parquet"), compression="zstd", compression_level=3)


def groupby(corpus: Path, out: Path) -> None:
    import numpy as np
    import pyarrow as pa

    shards = sum(p.stat().st_size for p in corpus.rglob("*.zst")) * 3 // SHARD + 1

    def keyed(table: pa.Table) -> pa.Table:
        from chameleon_data.hashing import content_hashes

        hi, lo = content_hashes(table["text"].combine_chunks().cast(pa.large_string()))
        return table.append_column("hi", pa.array(hi)).append_column("shard", pa.array((lo % np.uint64(shards)).astype(np.int32)))

    def ordered(table: pa.Table) -> pa.Table:
        return pa.table({"rows": [table.sort_by("hi").num_rows]})

    rows = _ray_data(corpus)
    counted = rows.map_batches(keyed, batch_format="pyarrow").count()
    start = time.perf_counter()
    groups = rows.map_batches(keyed, batch_format="pyarrow").groupby("shard").map_groups(ordered, batch_format="pyarrow")
    assert sum(row["rows"] for row in groups.iter_rows()) == counted
    _tell(out, time.perf_counter() - start)


def exchange(corpus: Path, out: Path) -> None:
    from chameleon_data.corpus.sample import make_sample_spec
    from chameleon_data.corpus.selection import make_selection_rules, select_rows
    from chameleon_data.corpus.tokens import load_token_counter
    from chameleon_data.pipelines.ray_cluster import cluster, run_tasks
    from chameleon_data.pipelines.survey import survey_corpus
    from chameleon_data.pipelines.weigh import weigh_corpus
    from chameleon_data.pipelines.write import spill_parts
    from chameleon_data.recipe_file import load_recipe
    from chameleon_data.shards.assemble import hash_shard
    from chameleon_data.shards.lay_out import ShardSpec, build_folder, lay_out_splits
    from chameleon_data.shards.runs import read_run_lists
    from chameleon_data.shards.spill import spill
    from chameleon_data.store.store import Store
    from chameleon_data.versions.provenance import describe_writer

    def quiet(*_: object) -> None:
        pass

    recipe = load_recipe(recipe_of(corpus, out, "parquet"))
    store, counter = Store(recipe.out), load_token_counter(recipe.tokens)
    with cluster(workers=CORES):
        import ray  # it reads the environment that `cluster` sets

        spec = make_sample_spec(recipe.embed, recipe.seed)
        surveyed = survey_corpus(store, recipe.sources, recipe.input, spec, counter, quiet)
        rules = make_selection_rules(recipe.sources, recipe.input, recipe.mix.validation, recipe.shards, counter)
        selection = select_rows(store, surveyed, rules)
        weighed = weigh_corpus(store, recipe, surveyed, selection, quiet)
        layouts = lay_out_splits(
            store,
            recipe.mix,
            recipe.shards,
            recipe.input.hash,
            recipe.seed,
            surveyed.parts,
            selection,
            weighed.mixture.decimals,
            weighed.budget,
            describe_writer(recipe.shards, counter).describe(),
        )
        job = ShardSpec(layouts, rules, counter, recipe.sources, recipe.input, recipe.shards)
        build = build_folder(layouts, surveyed.parts)
        start = time.perf_counter()
        shared = ray.put(job)
        spill_parts(store, build, shared, selection.copies, surveyed.parts, spill, quiet)
        runs = read_run_lists(store, [build.run_list(part.key) for part in surveyed.parts])

        def make(shard: int) -> None:
            hash_shard(store, ray.get(shared), runs, shard)

        run_tasks("make", range(build.shards), make, quiet)
        _tell(out, time.perf_counter() - start)


def _tell(out: Path, seconds: float) -> None:
    """What `measure` takes for the time of the run."""
    (out / "seconds").write_text(str(seconds))


def datatrove(corpus: Path, out: Path) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import ParquetWriter

    pipeline = [
        JsonlReader(str(corpus), recursive=True, glob_pattern="**/*.zst", compression="zstd"),
        ParquetWriter(str(out / "parquet"), compression="zstd"),
    ]
    LocalPipelineExecutor(pipeline, tasks=8, workers=CORES, logging_dir=str(out / "logs")).run()


PEERS: dict[str, Callable[[Path, Path], None]] = {
    "ours, MDS": lambda corpus, out: ours(corpus, out, "mds"),
    "ours, Parquet": lambda corpus, out: ours(corpus, out, "parquet"),
    "interleave_datasets and MDSWriter": interleave,
    "random_shuffle and write_parquet": random_shuffle,
    "datatrove without a shuffle": datatrove,
    "exchange, ours": exchange,
    "exchange, groupby and map_groups": groupby,
}


def measure(name: str, corpus: Path, folder: Path) -> tuple[float, float]:
    """(seconds, largest PSS of all its processes in bytes) of one run."""
    out = Path(tempfile.mkdtemp(dir=folder))
    log = out / "log"
    start, most = time.perf_counter(), 0.0
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.peers", name, str(corpus), str(out)], stdout=file, stderr=file
        )
        while process.poll() is None:
            most = max(most, _pss(process.pid))
            time.sleep(0.25)
    taken = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{name}:\n{log.read_text()[-3000:]}")
    told = out / "seconds"
    taken = float(told.read_text()) if told.exists() else taken
    shutil.rmtree(out)
    return taken, most


def _pss(pid: int) -> float:
    """Bytes of the process and of all that descend from it."""
    parents, total, tree = {}, 0.0, {pid}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
    for child in sorted(parents):  # a child has a higher number, but where they wrap around
        if parents[child] in tree:
            tree.add(child)
    for one in tree:
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total


def run(gigabytes: float = 1.0, repeats: int = 3) -> list[Figure]:
    """Ratios of time and memory, ours against each."""
    names = [name for name in PEERS if "datatrove" not in name or importlib.util.find_spec("datatrove")]
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name) / "corpus"
        make_corpus(corpus, int(gigabytes * GIGABYTE))
        found = {peer: [measure(peer, corpus, Path(name)) for _ in range(repeats)] for peer in names}
    seconds = {peer: statistics.median(s for s, _ in runs) for peer, runs in found.items()}
    memory = {peer: statistics.median(m for _, m in runs) for peer, runs in found.items()}
    figures = [Figure(f"whole build, {peer}", seconds[peer], "s", None, f"{memory[peer] / 1e6:,.0f} MB") for peer in names[:2]]
    for peer in names[2:]:
        own = names[-2] if "exchange" in peer else names[0] if "MDS" in peer else names[1]
        if peer == own:
            continue
        beside = f"{seconds[peer]:.1f} s, {memory[peer] / 1e6:,.0f} MB; {own} {seconds[own]:.1f} s, {memory[own] / 1e6:,.0f} MB"
        figures.append(Figure(f"against {peer}", seconds[peer] / seconds[own], "×", 5, beside))
    return figures


if __name__ == "__main__":
    if len(sys.argv) == 4:
        PEERS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        show(run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
