"""Coverage-guided fuzzing of what reads bytes that others wrote: whatever they are, an answer or an InputError, and soon.

    python -m tests.support.fuzz TARGET SECONDS

A target takes bytes and raises for a broken promise; atheris (libFuzzer) grows inputs that reach new lines of our code from the
seeds, and an exception, a crash, 30 s on one input or 2 GiB of memory end the run with the input in hand.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import zstandard

from chameleon_data.corpus.content import name_content
from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.corpus.readers.json_array import is_array, is_one_object
from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN
from chameleon_data.recipe import Recipe, Source
from chameleon_data.recipe_file import parse_recipe
from chameleon_data.shards.formats import arrow as arrow_format
from chameleon_data.shards.formats import jsonl as jsonl_format
from chameleon_data.shards.formats import litdata, mds, parquet, webdataset
from chameleon_data.shards.formats.files import Level
from chameleon_data.shards.formats.registry import Format
from chameleon_data.shards.rows import DOC_STARTS, INPUT_IDS, TEXT_SCHEMA
from chameleon_data.store.store import Store
from chameleon_data.versions import versions
from tests.support import hostile
from tests.support.paths import RECIPES, ROOT

FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
ROWS = pa.table(
    {"text": ["one", "two \U0001f40d", "x" * 300], "domain": ["a", "b", "a"], "domain_id": [0, 1, 0],
     "doc_id": ["0" * 32, "f" * 32, "1" * 32],
     "epoch": pa.array([0, 0, 1], pa.uint32()), "tokens": pa.array([3, 8, 300], pa.uint32())}
).cast(TEXT_SCHEMA)  # fmt: skip
SEQUENCES = ROWS.set_column(0, INPUT_IDS, [pa.array([[1, 2, 3]] * ROWS.num_rows, pa.list_(pa.uint16(), 3))]).append_column(
    DOC_STARTS, pa.array([[0, 2], [], [1]], pa.list_(pa.uint32()))
)


def _read(name: str, data: bytes, **source: Any) -> tuple[int, int]:
    """(documents, quarantined rows) of one file with these bytes."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        (Path(folder) / name).write_bytes(data)
        how = Source(path=(folder,), **source)
        blocks = [b for f in list_fragments("own", how).fragments for b in read_blocks(f, how, 2**16)]
        for block in blocks:
            block.text.validate(full=True)
        return sum(len(b.text) for b in blocks), sum(len(b.bad) for b in blocks)


def jsonl(data: bytes) -> None:
    """Every line that is not blank is a document or a quarantined row."""
    if name_content(data) or is_array(data) or is_one_object(data):  # no lines
        with contextlib.suppress(InputError):
            _read("a.jsonl", data)
        return
    found = _read("a.jsonl", data, id="id", domain="meta.domain")
    body = data.removeprefix(b"\xef\xbb\xbf")
    lines = sum(1 for line in body.split(b"\n") if line and not line.isspace())
    assert sum(found) == lines, (found, lines)


def csv(data: bytes) -> None:
    with contextlib.suppress(InputError):
        _read("a.csv", data)


def compressed(data: bytes) -> None:
    with contextlib.suppress(InputError):
        _read("a.jsonl.zst", data)


def arrow(data: bytes) -> None:
    with contextlib.suppress(InputError):
        _read("a.arrow", data)


def parquet_file(data: bytes) -> None:
    with contextlib.suppress(InputError):
        _read("a.parquet", data)


def mds_shard(data: bytes) -> None:
    """A shard that is taken encodes to the same bytes again, up to what its head says of hashes and compression."""
    with contextlib.suppress(InputError):
        rows, _ = mds.decode_body(data, False, "fuzz")
        assert mds.decode_body(mds.encode_body(rows, None), False, "fuzz")[0].equals(rows)


def parquet_shard(data: bytes) -> None:
    with contextlib.suppress(InputError):
        parquet.decode({"fuzz": data}, "fuzz")[0].validate(full=True)


def arrow_shard(data: bytes) -> None:
    with contextlib.suppress(InputError):
        arrow_format.decode({"fuzz": data}, "fuzz")[0].validate(full=True)


def jsonl_shard(data: bytes) -> None:
    _exact(jsonl_format, "train-00000-of-00001.jsonl", data)


def tar_shard(data: bytes) -> None:
    _exact(webdataset, "train-00000.tar", data)


def litdata_shard(data: bytes) -> None:
    _exact(litdata, "chunk-00000.bin", data)


def _exact(format: Format, name: str, data: bytes) -> None:
    """What is taken is, byte for byte, what these rows give."""
    with contextlib.suppress(InputError):
        rows, entry = format.decode({name: data}, "fuzz")
        rows.validate(full=True)
        again = [format.encode(rows, 0, 1, TRAIN, level) for level in (None, 3)]
        framed = data[:4] == b"LDFZ"  # of which one content has many spellings
        assert framed or any(each.files.get(name) == pa.py_buffer(data) and each.entry == entry for each in again)


def manifest(data: bytes) -> None:
    """A version file, and a manifest under the hash that the version file gives."""
    store = Store("memory://fuzz")
    store.remove(store.list())
    store.write("_chameleon/versions/v00000001.json", data or b"\n")
    name = re.search(rb'"manifest": ?"([0-9a-f]{64})"', data)
    if name:
        store.write(f"_chameleon/manifests/{name[1].decode()}.json", data)
    with contextlib.suppress(InputError):
        (version,) = versions.list_versions(store)
        versions.read_manifest(store, version)


def recipe(data: bytes) -> None:
    """A recipe is refused, or reads back from what it says of itself."""
    with contextlib.suppress(InputError, UnicodeDecodeError):
        found = parse_recipe(data.decode(), Path("/nowhere"))
        assert Recipe.model_validate(found.model_dump(mode="json", by_alias=True)) == found


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f
    for f in (
        *(jsonl, csv, compressed, arrow, parquet_file),
        *(mds_shard, parquet_shard, arrow_shard, jsonl_shard, tar_shard, litdata_shard),
        *(manifest, recipe),
    )
}


def _shard(format: Format, rows: pa.Table, level: Level = None) -> bytes:
    (data,) = format.encode(rows, 0, 1, TRAIN, level).files.values()
    return data.to_pybytes()


def seeds(target: str) -> list[bytes]:
    """Inputs to start from."""
    good = hostile.lines(*hostile.GOOD) + hostile.line("with", id="7", meta={"domain": "web"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, hostile.GOOD_TABLE.schema) as writer:
        writer.write_table(hostile.GOOD_TABLE)
    version = {"format": 1, "number": 1, "manifest": "0" * 64, "plan_digest": "p", "digest": "d", "created": None}
    own = RECIPES / "own.yaml"
    by_target: dict[str, Sequence[bytes]] = {
        "jsonl": [good, b'\xef\xbb\xbf{"text": null}\n', b'{"text": "\\ud800"}', b'{"text": 1e400, "id": 3}\n\xff'],
        "csv": [b'text,id\n"a\nb",1\n"c""d",2\n', b"text\r\nx\r\n"],
        "compressed": [zstandard.compress(good), zstandard.compress(good[:9]) + zstandard.compress(good[9:])],
        "arrow": [sink.getvalue().to_pybytes()],
        "parquet_file": [hostile.parquet(hostile.GOOD_TABLE, write_page_checksum=True)],
        "mds_shard": [_shard(mds, ROWS), _shard(mds, ROWS.slice(0, 0)), _shard(mds, SEQUENCES)],
        "parquet_shard": [_shard(parquet, ROWS), _shard(parquet, SEQUENCES)],
        "arrow_shard": [_shard(arrow_format, ROWS), _shard(arrow_format, SEQUENCES), _shard(arrow_format, ROWS, 3)],
        "jsonl_shard": [_shard(jsonl_format, ROWS), _shard(jsonl_format, SEQUENCES)],
        "tar_shard": [_shard(webdataset, ROWS), _shard(webdataset, SEQUENCES)],
        "litdata_shard": [_shard(litdata, ROWS), _shard(litdata, SEQUENCES), _shard(litdata, ROWS, 3)],
        "manifest": [json.dumps(version).encode()],
        "recipe": [own.read_bytes(), hostile.LEAST.encode(), *(text.encode() for text, _ in hostile.RECIPES.values())],
    }
    return list(by_target[target])


def run(target: str, seconds: int, corpus: Path) -> int:
    """Fuzz one target in a process of its own; the number of inputs tried. RuntimeError with the log of a broken promise.

    Inputs that reach something new stay in the folder `corpus`, and the next run begins with them.
    """
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds(target)):
        (corpus / f"seed-{i}").write_bytes(seed)
    limits = ["-timeout=30", "-rss_limit_mb=2048", "-max_len=65536", f"-max_total_time={seconds}"]
    command = [sys.executable, "-m", "tests.support.fuzz", target, *limits, f"-artifact_prefix={corpus}/", str(corpus)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=ROOT)
    tried = re.findall(r"Done (\d+) runs", done.stderr)
    if done.returncode or not tried:
        raise RuntimeError(f"{target}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return int(tried[-1])


def _fuzz(target: str, arguments: Sequence[str]) -> None:
    import atheris

    ours = (parse_recipe, read_blocks, versions.list_versions, *(f.decode for f in (mds, jsonl_format, webdataset, litdata)))
    for module in {function.__module__ for function in ours}:
        for name, value in vars(sys.modules[module]).items():
            if callable(value) and getattr(value, "__module__", None) == module and hasattr(value, "__code__"):
                setattr(sys.modules[module], name, atheris.instrument_func(value))
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            sys.stdout.write(f"{run(sys.argv[1], int(sys.argv[2]), Path(folder)):,} inputs\n")
    else:
        _fuzz(sys.argv[1], sys.argv[2:])
