"""Builds of the demo on a cluster of several nodes of this machine, of which one is lost, added, or not like the others.

Each node has an address of its own that no other machine reaches, 127.0.0.2 and on. (Ray takes 127.0.0.1 for the machine's own.)

    python -m tests.soak.nodes SCENARIO RECIPE      in a process of its own, as a process joins one cluster

    whole           three nodes, and nothing happens
    lose            in every pass a node is killed while it works
    add             every pass begins without a node that could work, and one joins
    differ          a node that runs other code, and one whose `out` is another folder, are refused; so is one that joins later
    submit          jobs/cluster/submit sends the build, and this code, to nodes that have other code installed
    driver          the node of the driver is killed, and the job is submitted to another node

The last line of its output is what came of it: the passes in which something happened, and the digest.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from chameleon_data.errors import InputError
from chameleon_data.pipelines.engine import keep_silent
from chameleon_data.pipelines.ray_engine import RayEngine
from chameleon_data.recipe import Recipe
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.store import Store
from chameleon_data.versions.provenance import code_version
from tests.soak.crash import change_out
from tests.support.inline_builds import CREATED, verify_versions
from tests.support.paths import ROOT

PASSES = ("survey", "embed", "read", "write")
"""Of a build that keeps no rows."""
TIME_LIMIT = 400.0
NODE_START_SECONDS = "120"
"""What Ray waits for a node to come up. Its 30 s are not enough where two cores have thirty processes to run."""
PATIENT = {"health_check_timeout_ms": 60_000}
"""Ray takes a node for dead that does not answer for ten seconds, as one has done while the fuzzer kept both cores busy. One that
was killed is found at once, since its port is closed."""


def _at(number: int) -> dict[str, Any]:
    """Where a node listens. Its agent would take port 52365, which the agent of some other cluster of this machine may have."""
    address = f"127.0.0.{2 + number}"
    with socket.socket() as free:
        free.bind((address, 0))
        return {"node_ip_address": address, "dashboard_agent_listen_port": free.getsockname()[1]}


def readme_digest() -> str:
    """The digest of the demo, as the README says it."""
    (digest,) = re.findall(r"^ +digest +([0-9a-f]{64})$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return str(digest)


def write_demo(folder: Path) -> Path:
    """The recipe of the demo without kept rows, so that there are four passes, with its `out` in `folder`."""
    recipe = change_out(load_recipe(ROOT / "jobs/recipes/demo/demo.yaml"), folder / "out")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    survey = recipe.survey.model_copy(update={"keep": False})
    path.write_text(recipe.model_copy(update={"survey": survey}).model_dump_json(by_alias=True))
    return path


def run_scenario(recipe: Path, scenario: str) -> list[str]:
    """Run a scenario in a process of its own; returns the words of its last line."""
    command = [sys.executable, "-m", "tests.soak.nodes", scenario, str(recipe)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["RAY_raylet_start_wait_time_s"] = NODE_START_SECONDS
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT)
    assert done.returncode == 0, (scenario, done.stdout[-1000:], done.stderr[-3000:])
    return done.stdout.splitlines()[-1].split()


@contextmanager
def _cluster(nodes: int, dashboard: bool = False, head_cpus: int = 1) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    head = {**_at(0), "num_cpus": head_cpus, "include_dashboard": dashboard, "_system_config": PATIENT}
    cluster = Cluster(
        initialize_head=True, head_node_args=head, shutdown_at_exit=False
    )  # else only the main thread may add nodes
    try:
        for number in range(1, nodes):
            cluster.add_node(**_at(number), num_cpus=1, resources={f"node-{number}": 1})
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def _joined(cluster: Any) -> Iterator[RayEngine]:
    import ray

    ray.init(
        address=cluster.address, _node_ip_address=_at(0)["node_ip_address"], log_to_driver=False, logging_level=logging.ERROR
    )
    try:
        yield RayEngine(lambda: None, keep_silent)
    finally:
        ray.shutdown()


def _build(recipe: Recipe, engine: RayEngine, progress: Callable[[str, int, int], object] = lambda *_: None) -> str:
    from chameleon_data.pipelines.build import build_recipe

    digest = build_recipe(recipe, engine, progress, CREATED).manifest.digest
    verify_versions(Store(recipe.out))
    return digest


def whole(recipe: Recipe) -> str:
    with _cluster(3) as cluster, _joined(cluster) as engine:
        assert engine.cpus == 3
        return _build(recipe, engine)


def lose(recipe: Recipe) -> str:
    """In each pass the first of two nodes that is at work is killed, and another one joins for the next pass."""
    lost: list[str] = []
    with _cluster(3, head_cpus=0) as cluster, _joined(cluster) as engine:
        nodes, threads = cluster.list_all_nodes()[1:], list[threading.Thread]()
        begun, ended = set[str](), set[str]()

        def strike(name: str) -> None:
            while not (busy := next(filter(_busy, nodes), None)) and name not in ended:
                time.sleep(0.005)
            if name not in ended:
                lost.append(name)
            victim = busy or nodes[0]
            cluster.remove_node(victim, allow_graceful=False)
            nodes.remove(victim)
            nodes.append(cluster.add_node(**_at(3 + len(threads)), num_cpus=1))

        def progress(name: str, done: int, total: int) -> None:
            if name in PASSES and name not in begun:
                for thread in threads:
                    thread.join()  # the node that joined in the pass before is there
                begun.add(name)
                threads.append(threading.Thread(target=strike, args=(name,)))
                threads[-1].start()
            if total and done == total:
                ended.add(name)

        digest = _build(recipe, engine, progress)
        for thread in threads:
            thread.join()
    return f"{' '.join(lost)} {digest}"


def _busy(node: Any) -> bool:
    """Whether a process of a node is at a task or is an actor."""
    raylet = node.all_processes["raylet"][0].process.pid
    with suppress(psutil.Error):
        titles = [(one.cmdline() or [""])[0] for one in psutil.Process(raylet).children()]
        return any(title.startswith("ray::") and "IDLE" not in title and "Agent" not in title for title in titles)
    return False


def add(recipe: Recipe) -> str:
    """Each pass begins without any node that could work, and a node joins in it: so all of it is done by that node."""
    joined: list[str] = []
    with _cluster(2, head_cpus=0) as cluster, _joined(cluster) as engine:
        nodes, threads, begun = [cluster.list_all_nodes()[1]], list[threading.Thread](), set[str]()

        def join(name: str) -> None:
            time.sleep(2)  # the pass waits for a node by now
            nodes.append(cluster.add_node(**_at(len(nodes) + 1), num_cpus=1))
            joined.append(name)

        def progress(name: str, done: int, total: int) -> None:
            if name in PASSES and name not in begun:
                begun.add(name)
                cluster.remove_node(nodes[-1])
                threads.append(threading.Thread(target=join, args=(name,)))
                threads[-1].start()

        digest = _build(recipe, engine, progress)
        for thread in threads:
            thread.join()
    return f"{' '.join(joined)} {digest}"


def _copy_code(folder: Path) -> Path:
    """A folder with a copy of this code, of which one comment differs."""
    shutil.copytree(ROOT / "chameleon_data", folder / "chameleon_data", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "chameleon_data/errors.py").open("a", encoding="utf-8") as file:
        file.write("# other code\n")
    return folder


def differ(recipe: Recipe) -> str:
    """`refused`, where all is refused that must be, and nothing was written but records of the driver."""
    other = _copy_code(Path(recipe.out).parent / "other")
    os.chdir(other.parent)  # Ray's workers look into the driver's folder first
    with _cluster(2) as cluster, _joined(cluster) as engine:
        joined = cluster.add_node(**_at(2), num_cpus=1, env_vars={"PYTHONPATH": str(other)})
        with _refusing(r"^node \S+ \(127\.0\.0\.4, [0-9a-f]{8}\): this code [0-9a-f]{12} and not [0-9a-f]{12}\n.*install"):
            _build(recipe, engine)
        cluster.remove_node(joined)
        store = Store(recipe.out)
        assert not [path for path in store.list() if "survey" in path]
        with engine.sharing(store):
            store.remove(path for path in store.list() if "nonce" in path)
            with _refusing(r"^node .*out is another folder there: .* is missing"):
                engine._ask_nodes()
        with engine.sharing(store):
            differs = engine._ask_nodes()
            joined = cluster.add_node(**_at(2), num_cpus=1, resources={"late": 1}, env_vars={"PYTHONPATH": str(other)})
            import ray

            said = ray.get(ray.remote(differs).options(resources={"late": 1}).remote())
            assert re.search(r"^node \S+ \(127\.0\.0\.4\): this code \S+ and not \S+; .*install", said), said
            assert ray.get(ray.remote(differs).options(resources={"node-1": 1}).remote()) == ""
        cluster.remove_node(joined)
        return f"refused {_build(recipe, engine)}"


@contextmanager
def _refusing(pattern: str) -> Iterator[None]:
    """The body is refused with such a message."""
    try:
        yield
    except InputError as refusal:
        if not re.search(pattern, str(refusal), re.DOTALL):
            raise
    else:
        raise AssertionError(f"nothing was refused: {pattern}")


def submit(recipe: Recipe) -> str:
    """The digest of the document that `submit` prints."""
    path = Path(recipe.out).parent / "recipe.yaml"
    other, sources = _copy_code(Path(recipe.out).parent.parent / "other"), code_version().sources
    os.environ["PYTHONPATH"] = str(other)  # of Ray's processes; what is sent comes before it
    os.chdir(other)
    with _cluster(2, dashboard=True) as cluster:
        command = [
            str(ROOT / "jobs/cluster/submit"),
            "--submission-id",
            "own",
            "--metadata",
            "team=data",
            "build",
            str(path),
            "--open-cluster",
        ]
        environment = {**os.environ, "RAY_API_SERVER_ADDRESS": f"http://{cluster.webui_url}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr[-3000:])
    document = json.loads(done.stdout)
    assert (document["submission_id"], document["status"], document["exit_code"]) == ("own", "SUCCEEDED", 0)
    assert document["metadata"]["team"] == "data"
    assert "submitted own" in done.stderr
    ran = document["answer"]["provenance"]["code"]["sources"]
    assert ran == sources, (ran, sources)
    (manifest,) = verify_versions(Store(recipe.out))
    return str(manifest.digest)


def driver(recipe: Recipe) -> str:
    from ray.job_submission import JobStatus, JobSubmissionClient

    path = Path(recipe.out).parent / "recipe.yaml"
    command = f"{sys.executable} -P -m chameleon_data.jobs.start build {path} --address auto --json"
    with _cluster(3, dashboard=True) as cluster:
        client = JobSubmissionClient(f"http://{cluster.webui_url}")

        def submit(node: str) -> str:
            how: dict[str, Any] = {"entrypoint_resources": {node: 1}, "runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT)}}}
            return client.submit_job(entrypoint=command, **how)

        first = submit("node-1")
        while not list(Path(recipe.out).rglob("summary.json")):
            time.sleep(0.02)
            assert not client.get_job_status(first).is_terminal(), client.get_job_logs(first)
        cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
        second = submit("node-2")
        while not (status := client.get_job_status(second)).is_terminal():
            time.sleep(0.2)
        assert status == JobStatus.SUCCEEDED, (client.get_job_info(second).message, client.get_job_logs(second))
        assert client.get_job_status(first) == JobStatus.FAILED
    (manifest,) = verify_versions(Store(recipe.out))
    return str(manifest.digest)


if __name__ == "__main__":
    scenarios = {"whole": whole, "lose": lose, "add": add, "differ": differ, "submit": submit, "driver": driver}
    sys.stdout.write(scenarios[sys.argv[1]](load_recipe(Path(sys.argv[2]))) + "\n")
