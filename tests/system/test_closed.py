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

from chameleon_data.pipelines.ray_engine import EXTENSION_TYPES
from tests.support.corpus import documents, lay_out, write_recipe
from tests.support.paths import ROOT

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


READERS = {"file_systems.py", "memory.py", "object_store.py"}
"""The modules that turn a URL into a file system; each refuses a chain of them, and secrets."""
TEMPORARY = {"survey.py", "slices.py", "hash_partitions.py", "row_records.py", "read_kept.py", "read_documents.py", "spill.py",
             "verify.py", "weights_added.py", "weights_stability.py"}  # fmt: skip
"""They write files of their own, in a temporary folder or where the store gave them a file to fill; experiments build in one."""
WRITERS = {"local.py", "cli.py", "init.py", "weights_results.py"}
"""`cli.py` writes the report where its user says, `init.py` a recipe, never over another file; `weights_results.py` writes the
results of experiments into docs."""
KNOWN = {
    ("gc.py", "Path(folder).rmdir"),  # an empty one below `out`
    ("hash_partitions.py", "(self._folder / f'{number:08d}').open"),  # its temporary one
    ("hash_partitions.py", "file.unlink"),
    ("ray_engine.py", "tempfile.mkstemp"),  # for what Ray says, on this machine
    ("ray_engine.py", "self.path.unlink"),  # the same
    ("slices.py", "file.open"),  # that the store gave it to fill
    ("kept_rows.py", "staged.open"),  # likewise
    ("screen.py", "open"),  # the null device, in the place of a stream that is closed
    ("progress.py", "self.standing.move"),  # no file
}
WRITING = {
    "write_text", "write_bytes", "mkdir", "makedirs", "rename", "replace", "unlink", "rmdir", "rmtree", "symlink_to", "touch",
    "link", "copyfile", "copytree", "move", "truncate", "tofile", "to_csv", "to_parquet", "write_parquet",
}  # fmt: skip


def reaches(source: str) -> Iterator[tuple[str, str]]:
    """(what for: "url", "temporary" or "write"; the call) where a module opens a file system or changes one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            if "fsspec" in {name.split(".")[0] for name in names}:
                yield "url", ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        words = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
        modes = [w for w in words if isinstance(w, str) and re.fullmatch(r"[rwaxbt+]{1,4}", w) and set(w) & set("wax+")]
        if name in {"OSFile", "ParquetWriter", "TemporaryDirectory", "NamedTemporaryFile", "mkstemp"}:
            yield "temporary", called
        changes = name in WRITING and (name != "replace" or called.startswith("os.")) and not called.startswith("store.")
        if changes or (name == "open" and modes):
            yield "write", called


@pytest.mark.parametrize("file", OURS, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_few_modules_reach_a_file_system(file: Path) -> None:
    """So that no path outside `out` is written and no URL is chained, whatever a recipe says."""
    allowed = {"url": READERS, "temporary": TEMPORARY | {"local.py", "store.py", "parquet.py"}, "write": WRITERS}
    found = [(what, call) for what, call in reaches(file.read_text(encoding="utf-8")) if file.name not in allowed[what]]
    assert [call for call in found if (file.name, call[1]) not in KNOWN] == []


@pytest.mark.parametrize(
    "source",
    ["import fsspec", "from fsspec.core import url_to_fs", "Path(x).write_text(y)", "open(p, 'w')", "path.open('xb')",
     "p.open(mode='a')", "os.replace(a, b)", "shutil.rmtree(p)", "pa.OSFile(p, 'wb')", "p.unlink()", "frame.write_parquet(p)"],
)  # fmt: skip
def test_reaching_a_file_system_is_found(source: str) -> None:
    assert list(reaches(source))


@pytest.mark.parametrize("file", OURS, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_door_is_open(file: Path) -> None:
    assert list(faults(file.read_text(encoding="utf-8"))) == (["subprocess"] if file.name in STARTERS else [])


STARTERS = {"provenance.py", "worker_process.py"}
"""The modules that start a program."""


def test_the_programs_that_are_started_are_git_and_our_own_worker() -> None:
    worker = ast.parse((ROOT / "pipelines/worker_process.py").read_text(encoding="utf-8"))
    calls = [ast.unparse(node) for node in ast.walk(worker) if isinstance(node, ast.Call)]
    assert sum(call.startswith("subprocess.Popen(command, stdin=subprocess.DEVNULL,") for call in calls) == 1
    assert sum(call.startswith("subprocess.") for call in calls) == 1
    assigned = [node for node in ast.walk(worker) if isinstance(node, ast.Assign)]
    commands = [node.value for node in assigned if ast.unparse(node.targets[0]) == "command"]
    assert ast.unparse(commands[0]).startswith("[sys.executable, '-P', '-m', 'chameleon_data.pipelines.local_worker', ")
    tree = ast.parse((ROOT / "chameleon_data/versions/provenance.py").read_text(encoding="utf-8"))
    started = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess.")]
    assert [ast.unparse(call.func) for call in started] == ["subprocess.run"]
    commands = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "command"
    ]
    assert [ast.unparse(call.args[0]) for call in started] == ["command"]
    assert [ast.unparse(command) for command in commands] == ["['git', f'--git-dir={git}', 'rev-parse', 'HEAD']"]


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
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.recipe import Source
from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.pipelines.ray_engine import _forget_extension_types
_forget_extension_types()
for path in Path({str(tmp_path)!r}).glob("*.parquet"):
    source = Source(path=(str(path),))
    try:
        for fragment in list_fragments("own", source).fragments:
            list(read_blocks(fragment, source, 100))
    except InputError as error:
        print(error)
"""
    environment = {**os.environ, "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.count("is of the extension type") == 3 * len(EXTENSION_TYPES), done.stdout + done.stderr
    assert not (tmp_path / "owned").exists()


def test_ray_registers_no_other_extension_types() -> None:
    folder = Path(importlib.util.find_spec("ray").submodule_search_locations[0]) / "data"
    found = {name for file in folder.rglob("*.py") for name in re.findall(r'"(ray\.data\.arrow_\w+)"', file.read_text())}
    assert found <= set(EXTENSION_TYPES)
    assert len(found) == 4


INTRUDER = """
import json, os, sys, urllib.error, urllib.request
import grpc, psutil
from chameleon_data.pipelines.ray_engine import ray_engine

RUNS = {  # a method of each server of Ray's, by what it does
    "gcs": "/ray.rpc.InternalKVGcsService/InternalKVKeys", "nodes": "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "jobs": "/ray.rpc.JobInfoGcsService/GetAllJobInfo", "actors": "/ray.rpc.ActorInfoGcsService/CreateActor",
    "raylet": "/ray.rpc.NodeManagerService/GetNodeStats", "lease": "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "worker": "/ray.rpc.CoreWorkerService/PushTask", "agent": "/ray.rpc.ReporterService/GetTraceback",
}

def asked(port, method, token):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=1, metadata=[("authorization", f"Bearer {token}")] if token else None)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name

def fetched(address, path, body=None):
    try:
        return urllib.request.urlopen(f"http://{address}{path}", data=body, timeout=2).status
    except urllib.error.HTTPError as error:
        return error.code
    except Exception as error:
        return type(error).__name__

with ray_engine(workers=1) as engine:
    assert engine.cpus == 1  # so it is started
    import ray
    me = psutil.Process()
    processes = [me, *me.children(recursive=True)]
    heard = {c.laddr for p in processes for c in p.net_connections("inet") if c.status == "LISTEN"}
    gcs = int(ray.get_runtime_context().gcs_address.rpartition(":")[2])
    print(json.dumps({
        "right": asked(gcs, RUNS["nodes"], os.environ["RAY_AUTH_TOKEN"]),
        "none": {name: sorted({asked(a.port, m, None) for a in heard}) for name, m in RUNS.items()},
        "wrong": {name: [asked(gcs, RUNS[name], "f" * 64)] for name in ("gcs", "nodes", "jobs")},
        "environment": [str(fetched(f"{a.ip}:{a.port}", "/get_or_create_runtime_env", b"x")) for a in heard if ":" not in a.ip],
        "commands": [p.name() for p in processes if os.environ["RAY_AUTH_TOKEN"] in " ".join(p.cmdline())],
        "dashboard": ray._private.worker.global_worker.node.address_info["webui_url"],
    }), file=sys.__stdout__)  # sys.stdout is Ray's to speak on meanwhile, and leads to stderr
"""


NOBODY = ("UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")
"""A port that does not know the method, or speaks something else."""


@pytest.mark.ray
def test_a_local_ray_answers_to_its_token_alone() -> None:
    """Ray binds all interfaces; whatever runs code or tells of data refuses who has no token, or another one."""
    pytest.importorskip("psutil")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run([sys.executable, "-c", INTRUDER], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["right"] == "OK"
    for token in ("none", "wrong"):
        for method, answers in found[token].items():
            assert "UNAUTHENTICATED" in answers, (token, method, answers)
            assert "OK" not in answers, (token, method, answers)
            assert set(answers) <= {"UNAUTHENTICATED", *NOBODY}, (token, method, answers)
    assert "200" not in found["environment"]
    assert "401" in found["environment"]
    assert found["commands"] == []
    assert not found["dashboard"]


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_canary_in_the_environment_gets_nowhere(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds, a report, a proof and refusals with the canary for a key: not in the bucket, on a stream, in Ray's logs."""
    for name in SECRETS:
        monkeypatch.setenv(name, CANARY)
    logs = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the path of a socket has at most 107 bytes
    monkeypatch.setenv("RAY_TMPDIR", str(logs))
    out = f"{s3_bucket}/closed/out"
    sources = lay_out(tmp_path / "corpus", documents(), ["jsonl"], 1)
    good = write_recipe(tmp_path / "good.yaml", sources, out=out)
    (tmp_path / "corpus/code/broken.jsonl").write_text(json.dumps({"text": 7}) + "\n")
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
        for defect in DEFECTS:
            said.append(defective(defect, "versions", out, "--json"))
        for name in SECRETS[:3]:  # from here on of a named profile
            monkeypatch.delenv(name)
        profile = tmp_path / "credentials"
        profile.write_text(f"[canary]\naws_access_key_id = made-up\naws_secret_access_key = {CANARY}\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
        monkeypatch.setenv("AWS_PROFILE", "canary")
        (tmp_path / "corpus/code/broken.jsonl").unlink()
        for arguments in (
            ["build", str(good), "--engine", "ray"],
            ["show", out, "--json"],
            ["verify", out],
            ["report", out, "--to", str(tmp_path / "report.html")],
        ):
            said.append(run(*arguments, expect=0))
        written = {path: path.read_bytes() for folder in (logs, tmp_path) for path in folder.rglob("*") if path.is_file()}
        written.pop(signed), written.pop(profile)
        monkeypatch.delenv("AWS_PROFILE")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
        fs = fsspec.filesystem("s3")
        written |= {path: fs.cat_file(path) for path in fs.find(out)}
    finally:
        shutil.rmtree(logs, ignore_errors=True)
    assert sum(1 for path in written if str(path).startswith(str(logs))) > 5
    logs_of = {path.name for path in written if isinstance(path, Path) and logs in path.parents and path.parent.name == "logs"}
    assert {"gcs_server.out", "raylet.out"} <= logs_of
    assert any(name.startswith("python-core-worker") for name in logs_of)
    assert any(name.startswith("worker-") for name in logs_of)
    assert any(str(path).endswith("report.html") for path in written)
    assert any(path.endswith("v00000001.json") for path in map(str, written))
    assert [str(path) for path, body in written.items() if CANARY.encode() in body] == []
    assert [text for text in said if CANARY in text] == []


SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "RAY_AUTH_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_CLIENT_SECRET", "GOOGLE_APPLICATION_CREDENTIALS", "WANDB_API_KEY",
)  # fmt: skip
DEFECTS = (
    "store._backend.fs.call_s3('get_object', Bucket=[], Key=store)",
    "setattr(store._backend.fs, 'key', None).get(store._backend.fs.s3)",
)
"""Programming errors with everything secret within reach."""


def defective(defect: str, *arguments: str) -> str:
    """All that the command says where listing versions ends in this."""
    steps = ["import sys", "from chameleon_data.jobs import cli", f"cli.list_versions = lambda store: {defect}"]
    code = "\n".join([*steps, f"sys.argv[1:] = {[*arguments]}", "cli.main()"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ})
    assert done.returncode == 70, done.stdout + done.stderr
    assert "Traceback" in done.stderr
    return done.stdout + done.stderr


def run(*arguments: str, expect: int) -> str:
    """All that the command says."""
    command = [sys.executable, "-m", "chameleon_data.jobs.start"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, cwd=ROOT, env={**os.environ})
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr
