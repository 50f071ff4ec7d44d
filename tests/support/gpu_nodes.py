"""A Ray cluster of two nodes, one of them with GPUs that Ray believes in; prints, as JSON, where work of each kind ran."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa

from chameleon_data.errors import InputError
from chameleon_data.pipelines.embed import make_embedding
from chameleon_data.pipelines.engine import Task
from chameleon_data.pipelines.ray_engine import ray_engine
from chameleon_data.recipe import Embed
from chameleon_data.weights.embedder import Embedder, load_embedder

CPUS, GPUS = 1, 2


def note_node(folder: Path, number: int) -> None:
    import ray

    (folder / str(number)).write_text(ray.get_runtime_context().get_node_id())


def make_noting() -> Callable[[pa.Table], pa.Table]:
    import ray

    node = ray.get_runtime_context().get_node_id()
    return lambda table: table.append_column("node", pa.array([node] * len(table)))


def run() -> dict[str, object]:
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 0, "include_dashboard": False})
    try:
        gpu_node = cluster.add_node(num_cpus=CPUS, num_gpus=GPUS).node_id
        with tempfile.TemporaryDirectory() as folder, ray_engine(cluster.address, gpu_share=0.5) as engine:
            tables = [pa.table({"x": [at]}) for at in range(4)]
            list(engine.run(Task(partial(note_node, Path(folder)), str), range(4)))
            tasks = {file.read_text() for file in Path(folder).iterdir()}
            cpu_actors = {answer["node"][0].as_py() for answer in engine.stream(make_noting, tables)}
            gpu_actors = {answer["node"][0].as_py() for answer in engine.stream(make_noting, tables, on_gpus=True)}
            said = ""
            if sys.argv[1:]:
                embedder = load_embedder(Embed(model=sys.argv[1], window=16))
                assert isinstance(embedder, Embedder)
                table = pa.table({"batch": ["a"], "windows": [["a text"]]})
                try:
                    list(engine.stream(partial(make_embedding, embedder, "cuda"), [table], on_gpus=True))
                except InputError as error:
                    said = str(error)
            return {
                "gpu node": gpu_node,
                "tasks": sorted(tasks),
                "on cpus": sorted(cpu_actors),
                "on gpus": sorted(gpu_actors),
                "said": said,
            }
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run()) + "\n")
