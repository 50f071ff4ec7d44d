"""The official MDS package, as the reader and the writer that tests compare with.

mosaicml-streaming imports three names of torchvision at start and needs none of them for text, and torchvision does not
work beside the CPU torch. So empty modules of those names stand in while it is imported, and are gone afterwards.
It wants a cache folder of its own for every dataset, and leaves lock files in the temporary folder: one folder a test.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from chameleon_data.shards.formats.files import Level
from chameleon_data.shards.formats.mds import HASHES, column_encodings
from chameleon_data.shards.rows import INPUT_IDS, TEXT_SCHEMA, TURN_TYPES, conform, token_values

STAND_INS = {
    "torchvision": (),
    "torchvision.datasets": ("VisionDataset", "CIFAR10"),
    "torchvision.transforms": (),
    "torchvision.transforms.functional": ("to_tensor",),
}


def load() -> ModuleType:
    """Import `streaming`; ImportError where it is not installed. Takes about 5 s the first time."""
    with warnings.catch_warnings(), _torchvision_stand_ins():
        warnings.simplefilter("ignore")  # the package is not ours to fix, and under pytest a warning is an error
        return importlib.import_module("streaming")


def load_or_skip() -> ModuleType:
    """`load` for a test: skipped only where the package is not installed; one that is there and broken is a failure."""
    if importlib.util.find_spec("streaming") is None:
        pytest.skip("mosaicml-streaming, the official MDS package, is not installed")
    return load()


@contextmanager
def _torchvision_stand_ins() -> Iterator[None]:
    importlib.import_module("transformers.utils.import_utils")  # looks for the real torchvision, and must not find these
    added = [name for name in STAND_INS if name not in sys.modules]
    for name in added:
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.__path__ = []
        for attribute in STAND_INS[name]:
            setattr(module, attribute, type(attribute, (), {}))
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


def read_folder(folder: Path, validate_hash: str = "sha256", split: str | None = None) -> list[dict[str, Any]]:
    """Every row of an MDS folder, in order, by StreamingDataset. The folder is only read: its shards are copied first."""
    streaming = load()
    with tempfile.TemporaryDirectory() as cache, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streaming.base.util.clean_stale_shared_memory()
        data = streaming.StreamingDataset(
            remote=str(folder), local=cache, split=split, validate_hash=validate_hash, shuffle=False, batch_size=1
        )
        return [data[number] for number in range(len(data))]


def write_folder(folder: Path, rows: Iterable[dict[str, Any]], level: Level, schema: pa.Schema = TEXT_SCHEMA) -> None:
    """The same rows, one by one, by MDSWriter: one shard and index.json."""
    streaming = load()
    with streaming.MDSWriter(out=str(folder), size_limit=None, **options(level, schema)) as writer:
        for row in rows:
            writer.write(row)


def options(level: Level, schema: pa.Schema = TEXT_SCHEMA) -> dict[str, Any]:
    """How MDSWriter is told to write what we write."""
    return {
        "columns": column_encodings(schema),
        "compression": f"zstd:{level}" if level else None,
        "hashes": list(HASHES),
    }


def as_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table as the package takes and gives them."""
    rows = [{key: row[key] for key in sorted(table.column_names)} for row in table.to_pylist()]
    for name in filter(table.column_names.__contains__, (INPUT_IDS, *TURN_TYPES)):  # numbers; all else is compared as it is
        for row, values in zip(rows, token_values(conform(table), name), strict=True):
            row[name] = values
    return rows
