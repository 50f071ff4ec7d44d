"""Arrow reads in the thread that asks. Why: docs/decisions/192-arrow-reads-in-one-thread.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FILES = sorted(path for top in ("chameleon_data", "jobs", "pipelines") for path in (ROOT / top).rglob("*.py"))
READS = {"read", "read_row_group", "read_row_groups", "iter_batches"}
"""Methods of a ParquetFile."""
OPENS = {"pa.ipc.open_file", "pa.ipc.open_stream", "pa.ipc.RecordBatchFileReader", "pa.ipc.RecordBatchStreamReader"}


def threaded(source: str) -> Iterator[str]:
    """Calls that let Arrow read in threads of its own."""
    tree = ast.parse(source)
    parquet, opens = {"pq.ParquetFile"}, set(OPENS)
    for node in ast.walk(tree):  # the names that are given to such files, and to such functions
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "optional_vars", None)
        value = getattr(node, "value", None) or getattr(node, "context_expr", None)
        if isinstance(node, ast.arg) and node.annotation is not None and ast.unparse(node.annotation) == "pq.ParquetFile":
            parquet.add(node.arg)
        elif target is not None and isinstance(value, ast.Call) and ast.unparse(value.func) == "pq.ParquetFile":
            parquet.add(ast.unparse(target))
        elif target is not None and isinstance(value, ast.IfExp) and ast.unparse(value.body) in OPENS:
            opens.add(ast.unparse(target))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name, given = ast.unparse(call.func), {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        of, _, method = name.rpartition(".")
        if name == "pq.ParquetFile" and given.get("pre_buffer") != "False":
            yield "ParquetFile without pre_buffer=False"
        elif method in READS and (of in parquet or of.startswith("pq.ParquetFile(")) and given.get("use_threads") != "False":
            yield f"{method} without use_threads=False"
        elif name in opens and given.get("options") != "one_thread" and "use_threads=False" not in given.get("options", ""):
            yield f"{name} without IpcReadOptions(use_threads=False)"
        elif name in ("pq.read_table", "pa.dataset.dataset"):
            yield f"{name}, which reads in threads"


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrow_reads_in_the_thread_that_asks(file: Path) -> None:
    assert list(threaded(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    ["pq.ParquetFile(x).schema", "pq.ParquetFile(x, pre_buffer=False).read()", "pq.read_table(x)", "pa.ipc.open_stream(x)",
     "f = pq.ParquetFile(x, pre_buffer=False)\nf.iter_batches(5)",
     "with pq.ParquetFile(x, pre_buffer=False) as f:\n    f.read_row_group(0)",
     "def g(f: pq.ParquetFile):\n    f.read()", "opened = pa.ipc.open_file if s else pa.ipc.open_stream\nopened(x)"],
)  # fmt: skip
def test_reading_in_threads_is_found(source: str) -> None:
    assert list(threaded(source))
