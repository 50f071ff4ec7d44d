"""The rows of a folder of shards, in order, by the package that each format comes from; and what those packages write.

Each is imported where it is used: megatron-core takes 7 s, and warns of what is not installed beside it.
"""

from __future__ import annotations

import importlib
import io
import json
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest

from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats.files import Level
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.rows import DOC_STARTS, INPUT_IDS, TURN_TYPES
from tests.support import streaming_reader

Rows = list[dict[str, Any]]
TOKEN_COLUMNS = (INPUT_IDS, *TURN_TYPES)
"""Columns that have a value for each token of a sequence."""


def load(name: str) -> ModuleType:
    """Import a package that is not ours to fix: its warnings are not errors. Skips a test where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(name.partition(".")[0], reason=f"{name} is not installed; `make setup` does it")
        return importlib.import_module(name)


def store(folder: Path, format: str, tables: Sequence[pa.Table], split: str, level: Level) -> None:
    """These shards and their index, as a build leaves them."""
    shards = [FORMATS[format].encode(table, number, len(tables), split, level) for number, table in enumerate(tables)]
    files = FORMATS[format].index(split, [shard.entry for shard in shards])
    for name, data in [*files.items(), *(file for shard in shards for file in shard.files.items())]:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(data)


def read(folder: Path, format: str, split: str) -> Rows:
    """Every row of a split."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return READERS[format](folder, split)


def _datasets(kind: str, folder: Path, split: str) -> Rows:
    datasets = load("datasets")
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        loaded = datasets.load_dataset(kind, data_dir=str(folder), cache_dir=cache, split=split)
        return list(loaded.to_list())


def _mds(folder: Path, split: str) -> Rows:
    streaming_reader.load_or_skip()
    rows = streaming_reader.read_folder(folder, split=None if split == TRAIN else split)
    return [{key: value.tolist() if key in TOKEN_COLUMNS else value for key, value in row.items()} for row in rows]


def _webdataset(folder: Path, split: str) -> Rows:
    shards = sorted(str(file) for file in folder.glob(f"{split}-*.tar"))
    samples = load("webdataset").WebDataset(shards, shardshuffle=False).decode()
    return [
        {**sample["json"], **({"text": sample["txt"]} if "txt" in sample else {INPUT_IDS: sample["input_ids.npy"].tolist()})}
        for sample in samples
    ]


def _litdata(folder: Path, split: str) -> Rows:
    where = str(folder if split == TRAIN else folder / split)
    with tempfile.TemporaryDirectory() as cache:
        rows = list(load("litdata").StreamingDataset(where, cache_dir=cache, shuffle=False))
    arrays = {*TOKEN_COLUMNS, DOC_STARTS}
    return [{key: value.tolist() if key in arrays else value for key, value in row.items()} for row in rows]


def _megatron(folder: Path, split: str) -> Rows:
    reader = load("megatron.core.datasets.indexed_dataset").IndexedDataset
    blend = (folder / f"{split}.blend.txt").read_text().split()  # as `--data-args-path` reads it
    rows = []
    for weight, prefix in zip(blend[::2], blend[1::2], strict=True):
        documents, about = reader(str(folder / prefix)), pl.read_parquet(folder / f"{prefix}.rows.parquet").to_dicts()
        assert sum(len(documents[i]) for i in range(len(documents))) == int(weight)
        assert np.array_equal(documents.document_indices, np.arange(len(documents) + 1))
        rows += [{INPUT_IDS: documents[i].tolist(), **row} for i, row in enumerate(about)]
    return rows


READERS: dict[str, Callable[[Path, str], Rows]] = {
    "parquet": lambda folder, split: _datasets("parquet", folder, split),
    "mds": _mds,
    "arrow": lambda folder, split: _datasets("arrow", folder, split),
    "jsonl": lambda folder, split: _datasets("json", folder, split),
    "webdataset": _webdataset,
    "litdata": _litdata,
    "megatron": _megatron,
}


def tar_of(samples: Rows) -> bytes:
    """webdataset.TarWriter's file of samples whose values are bytes."""
    stream = io.BytesIO()
    writer = load("webdataset").TarWriter(stream, encoder=False, mtime=0)
    for sample in samples:
        writer.write(sample)
    writer.close()
    return stream.getvalue()


def tar_samples(table: pa.Table, shard: str) -> Rows:
    """The rows as TarWriter takes them."""
    samples = []
    for number, row in enumerate(table.to_pylist()):
        facts = {key: value for key, value in row.items() if key not in ("text", INPUT_IDS)}
        about = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()
        sample = {"__key__": f"{shard}-{number:09}", "json": about}
        if INPUT_IDS in row:
            array = io.BytesIO()
            np.save(array, np.array(row[INPUT_IDS], table.schema.field(INPUT_IDS).type.value_type.to_pandas_dtype()))
            sample["input_ids.npy"] = array.getvalue()
        else:
            sample["txt"] = row["text"].encode()
        samples.append(sample)
    return samples


def litdata_items(table: pa.Table) -> Rows:
    """The rows as litdata takes them."""
    dtypes = {f.name: f.type.value_type.to_pandas_dtype() for f in table.schema if f.name in {*TOKEN_COLUMNS, DOC_STARTS}}
    return [
        {key: np.array(value, dtypes[key]) if key in dtypes else value for key, value in row.items()} for row in table.to_pylist()
    ]


def litdata_chunk(items: Rows, folder: Path) -> bytes:
    """What litdata's serializers make of these items, in the layout that PyTreeLoader reads."""
    writer = load("litdata.streaming.writer").BinaryWriter(str(folder), chunk_size=len(items))
    bodies = [writer.serialize(item)[0] for item in items]
    offsets = np.append(0, np.cumsum([len(body) for body in bodies])) + 4 * (len(items) + 2)
    return np.uint32(len(items)).tobytes() + offsets.astype("<u4").tobytes() + b"".join(bodies)


def indexed_dataset(documents: Sequence[Any], dtype: Any, folder: Path) -> tuple[bytes, bytes]:
    """IndexedDatasetBuilder's .bin and .idx of these lists of tokens."""
    torch = load("torch")
    builder = load("megatron.core.datasets.indexed_dataset").IndexedDatasetBuilder(str(folder / "own.bin"), dtype=dtype)
    for document in documents:
        builder.add_item(torch.tensor(document, dtype=torch.int64))
        builder.end_document()
    builder.finalize(str(folder / "own.idx"))
    return (folder / "own.bin").read_bytes(), (folder / "own.idx").read_bytes()
