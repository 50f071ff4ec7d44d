"""Closed: no way for data to become code, and a secret that is around gets into nothing that is written or said."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cluster import EXTENSION_TYPES
from tests.corpus import documents, lay_out, write_recipe

ROOT = Path(__file__).parent.parent
OURS = sorted(file for layer in ("chameleon_data", "pipelines", "jobs") for file in (ROOT / layer).rglob("*.py"))
CANARY = "K7MDENG-canary-wJalrXUtnFEMI"

PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
SHELLS = {"subprocess", "pty", "commands"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load"}
CALLS |= {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}
OPENING = {"trust_remote_code", "allow_pickle", "weights_only", "shell"}
"""Arguments that open a door; only `weights_only` may be true, the others not."""


def faults(source: str) -> Iterator[str]:
    """What in a module could turn data into code."""
    for node in ast.walk(ast.parse(source)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name for name in names if name.split(".")[0] in PICKLES | SHELLS)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS or called.endswith(".read_pickle"):
                yield called
            for argument in node.keywords:
                value = argument.value.value if isinstance(argument.value, ast.Constant) else None
                if argument.arg in OPENING and value is not (argument.arg == "weights_only"):
                    yield f"{argument.arg}={ast.unparse(argument.value)}"


@pytest.mark.parametrize("file", OURS, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_door_is_open(file: Path) -> None:
    assert list(faults(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from dill import loads", "import subprocess", "eval(x)", "torch.load(f)", "yaml.load(t, Loader=L)",
     "np.load(f, allow_pickle=True)", "AutoModel.from_pretrained(m, trust_remote_code=True)", "f(trust_remote_code=flag)",
     "os.system(c)", "f(weights_only=False)", "def g():\n    import marshal"],
)  # fmt: skip
def test_an_open_door_is_found(source: str) -> None:
    assert list(faults(source))


def test_extension_types_that_ray_registers_do_not_come_to_life(tmp_path: Path) -> None:
    """In a process where ray.data is imported, as in every task: the column is refused, and no code of the type runs."""
    for name in EXTENSION_TYPES:
        for kind, value in ((pa.string(), "a"), (pa.binary(), b"a"), (pa.list_(pa.float32()), [1.0])):
            metadata = {"ARROW:extension:name": name, "ARROW:extension:metadata": b"cos\nsystem\n(S'touch owned'\ntR."}
            table = pa.table([pa.array([value], kind)], schema=pa.schema([pa.field("text", kind, metadata=metadata)]))
            pq.write_table(table, tmp_path / f"{name}-{kind}.parquet")
    code = f"""
import ray.data
from ray.data._internal.object_extensions import arrow
from ray.data._internal.tensor_extensions import arrow
import pandas.core.arrays.arrow.extension_types
from pathlib import Path
from chameleon_data.errors import InputError
from chameleon_data.readers import read_blocks
from chameleon_data.recipe import Source
from chameleon_data.sources import list_fragments
from pipelines.cluster import _forget_extension_types
_forget_extension_types()
for path in Path({str(tmp_path)!r}).glob("*.parquet"):
    source = Source(path=(str(path),))
    try:
        for fragment in list_fragments("own", source):
            list(read_blocks(fragment, source, 100))
    except InputError as error:
        print(error)
"""
    environment = {**os.environ, "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.count("has an extension type") == 3 * len(EXTENSION_TYPES), done.stdout + done.stderr
    assert not (tmp_path / "owned").exists()


def test_ray_registers_no_other_extension_types() -> None:
    folder = Path(importlib.util.find_spec("ray").submodule_search_locations[0]) / "data"
    found = {name for file in folder.rglob("*.py") for name in re.findall(r'"(ray\.data\.arrow_\w+)"', file.read_text())}
    assert found <= set(EXTENSION_TYPES)
    assert len(found) == 4


@pytest.mark.timeout(240)
def test_a_canary_in_the_environment_gets_nowhere(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds, a report, a proof and refusals with the canary for a key: not in the bucket, on a stream, in Ray's logs."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    logs = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the path of a socket has at most 107 bytes
    monkeypatch.setenv("RAY_TMPDIR", str(logs))
    out = f"{s3_bucket}/closed/out"
    sources = lay_out(tmp_path / "corpus", documents(), ["jsonl"], 1)
    good = write_recipe(tmp_path / "good.yaml", sources, out=out)
    (tmp_path / "corpus/code/broken.jsonl").write_text(json.dumps({"text": None}) + "\n")
    (tmp_path / "elsewhere").mkdir()
    bad = write_recipe(tmp_path / "elsewhere/bad.yaml", sources, out=out)
    signed = tmp_path / "signed.yaml"
    signed.write_text(good.read_text().replace(out, f"{out}?X-Amz-Signature={CANARY}"))
    said = []
    try:
        for arguments, code in (
            (["build", str(signed)], 2),
            (["build", str(bad)], 2),
            (["weights", str(tmp_path / "gone.yaml")], 2),
            (["show", f"{out}@v9"], 2),
        ):
            said.append(run(*arguments, expect=code))
        (tmp_path / "corpus/code/broken.jsonl").unlink()
        for arguments in (
            ["build", str(good)],
            ["show", out, "--json"],
            ["verify", out],
            ["report", out, "--to", str(tmp_path / "report.html")],
        ):
            said.append(run(*arguments, expect=0))
        written = {path: path.read_bytes() for folder in (logs, tmp_path) for path in folder.rglob("*") if path.is_file()}
        written.pop(signed)
        fs = fsspec.filesystem("s3")
        written |= {path: fs.cat_file(path) for path in fs.find(out)}
    finally:
        shutil.rmtree(logs, ignore_errors=True)
    assert sum(1 for path in written if str(path).startswith(str(logs))) > 5
    assert any(str(path).endswith("report.html") for path in written)
    assert any(path.endswith("v00000001.json") for path in map(str, written))
    assert [str(path) for path, body in written.items() if CANARY.encode() in body] == []
    assert [text for text in said if CANARY in text] == []


def run(*arguments: str, expect: int) -> str:
    """All that the command says."""
    command = [sys.executable, "-m", "jobs.cli"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, cwd=ROOT, env={**os.environ})
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr
