"""Requests and bytes between a build and its object store, counted on the wire, beside what `pipelines/cost.py` says of them.

    python -m tests.bench.requests [GIGABYTES …]       1 and 4 by default, with one and with two levels of ranges; 16 take an hour

The store is moto's server on 127.0.0.1, in a process of its own, behind a counter of requests by pass. It holds the corpus, of
.jsonl.zst files of 64 MB of text, and `out`. Two workers build; no rows are kept, as `out` is no folder of this machine. So small
a corpus has one level: for two, ranges are divided as if each were too large for one task. Seconds say nothing, since the server
runs on the same cores.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import fsspec
import zstandard

from tests.bench.build import memory_of, peak
from tests.soak import servers
from tests.support.corpus import demo_texts
from tests.support.paths import ROOT

FILE_BYTES, DOMAINS = 64 * 10**6, 4
WORKERS = 2
COUNTED = "/-counted"
"""What is asked of the server for its counts so far."""
TWO_LEVELS = """
from chameleon_data.shards import grouping
grouping.JOINED_BYTES, grouping.LARGEST_RANGE, grouping.MOST_RANGES = 1, 0, {ranges}
"""
"""What a process runs before anything else, so that it divides every range of more than one shard."""
ON_DISK = {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": "65536"}
"""The server's environment: it holds larger objects in files, each of which it keeps open, where it would hold 5 MB in memory."""
READS, WRITES = ("GET", "HEAD"), ("PUT", "LIST")
"""Kinds of requests, as stores charge for them; they take nothing for DELETE."""


class CountingServer:
    """A WSGI application around another one. It counts requests and bytes of bodies by kind."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._counts, self._lock = app, Counter[str](), threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == COUNTED:
            body = json.dumps(self._counts).encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        kind, moved = environ["REQUEST_METHOD"], int(environ.get("CONTENT_LENGTH") or 0)
        if kind == "GET" and "list-type" in environ.get("QUERY_STRING", ""):
            kind = "LIST"

        def counting(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            given = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
            with self._lock:
                self._counts[kind] += 1
                self._counts[f"{kind} bytes"] += moved + (given if kind == "GET" and status[0] == "2" else 0)
            return start_response(status, headers, *rest)

        return self._app(environ, counting)


def serve() -> None:
    """Serve until the end of stdin; the first line of stdout is the endpoint."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    app = CountingServer(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    sys.stdin.read()


@contextmanager
def counting_server() -> Iterator[str]:
    """The endpoint of a server in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.requests", "--serve"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True, cwd=ROOT, env={**os.environ, **ON_DISK}) as server:
        assert server.stdout
        assert server.stdin
        yield server.stdout.readline().strip()
        server.stdin.close()


def write_corpus(folder: str, size: int) -> None:
    """About `size` bytes of text in files of FILE_BYTES, as `tests/bench/build.py` makes them."""
    texts = [text for texts in demo_texts().values() for text in texts]
    copies = FILE_BYTES // sum(len(text.encode()) for text in texts)
    for index in range(max(DOMAINS, round(size / FILE_BYTES))):
        rows = [{"text": f"copy {copy} of file {index}\n{text}"} for copy in range(copies) for text in texts]
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        body = zstandard.ZstdCompressor(level=3).compress(lines.encode())
        with fsspec.open(f"{folder}/domain-{index % DOMAINS}/{index:05d}.jsonl.zst", "wb") as file:
            file.write(body)


class ByPass:
    """Counts of the server by pass, taken whenever the driver tells of another pass."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint, self._name = endpoint, "list"
        self._seen = self._ask()
        self.counts: dict[str, Counter[str]] = {}

    def _ask(self) -> Counter[str]:
        with urlopen(self._endpoint + COUNTED) as answer:
            return Counter(json.load(answer))

    def progress(self, name: str, *_: int) -> None:
        if name != self._name:
            now = self._ask()
            self.counts.setdefault(self._name, Counter()).update(now - self._seen)
            self._name, self._seen = name, now


def build(size: int, endpoint: str) -> dict[str, Any]:
    """Counts of each pass of a build, and what the model says; the corpus lies in the bucket."""
    from chameleon_data.pipelines.build import build_recipe, plan_recipe
    from chameleon_data.pipelines.local_engine import local_engine
    from chameleon_data.recipe_file import load_recipe

    with servers.as_s3(endpoint) as bucket, tempfile.TemporaryDirectory() as name, peak() as memory:
        names = [f"domain-{number}" for number in range(DOMAINS)]
        weights, recipe = Path(name) / "weights.json", Path(name) / "recipe.yaml"
        weights.write_text(json.dumps(dict.fromkeys(names, 1 / DOMAINS)))
        recipe.write_text(json.dumps({
            "name": "bench", "out": f"{bucket}/{os.environ['OUT']}", "sources": {n: f"{bucket}/corpus/{n}/*" for n in names},
            "weights": {"from": str(weights)}, "mix": {"budget": size, "max_epochs": 8}, "survey": {"keep": False},
        }))  # fmt: skip
        by_pass = ByPass(endpoint)
        with local_engine(workers=WORKERS) as engine:
            built = build_recipe(load_recipe(recipe), engine, by_pass.progress, "bench")
            by_pass.progress("end")
            planned = plan_recipe(load_recipe(recipe), engine, lambda *_: None)
    model = {
        cost.name: {"reads": cost.read_requests, "writes": cost.write_requests, "bytes": cost.read + cost.moved + cost.written}
        for cost in planned.cost
    }
    return {
        "counts": by_pass.counts, "model": model, "text": planned.size.text, "exchange": vars(planned.exchange),
        "parts": planned.size.parts, "digest": built.manifest.content_digest,
        "driver": memory_of(os.getpid(), "VmHWM"), "worker": memory.bytes,
    }  # fmt: skip


def measure(size: int, endpoint: str, levels: int) -> dict[str, Any]:
    """The same in a process of its own, which divides ranges where there are to be two levels."""
    with tempfile.TemporaryDirectory() as first:
        if levels == 2:
            shards = size // (64 * 2**20) + 1
            (Path(first) / "sitecustomize.py").write_text(TWO_LEVELS.format(ranges=math.ceil(shards**0.5)))
        path = os.pathsep.join(filter(None, [first, str(ROOT), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "tests.bench.requests", "--build", str(size), endpoint]
        environment = {**os.environ, "PYTHONPATH": path, "OUT": f"out-{levels}"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(gigabytes: float, levels: int, found: dict[str, Any]) -> str:
    """Lines of a table: pass, counted and modelled requests and bytes for each GB of text."""
    text = found["text"] / 1e9
    exchange = found["exchange"]
    lines = [
        f"{gigabytes:g} GB, {levels} level{'s'[: levels - 1]}: {found['parts']} parts, {exchange['first']} ranges, then "
        f"{exchange['small']}; driver {found['driver'] / 1e6:,.0f} MB, worker {found['worker'] / 1e6:,.0f} MB; content "
        f"{found['digest'][:12]}",
        "| pass | reads | modelled | writes | modelled | GB moved | modelled |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    total, kinds = Counter[str](), Counter[str]()
    for name in [*found["counts"], *(name for name in found["model"] if name not in found["counts"])]:
        counts, model = Counter(found["counts"].get(name, {})), Counter(found["model"].get(name, {}))
        row = {
            "reads": sum(counts[kind] for kind in READS), "of reads": model["reads"],
            "writes": sum(counts[kind] for kind in WRITES), "of writes": model["writes"],
            "bytes": sum(counts[f"{kind} bytes"] for kind in (*READS, *WRITES)), "of bytes": model["bytes"],
        }  # fmt: skip
        total.update(row)
        kinds.update(counts)
        lines.append(_line(name, row, text))
    each = ", ".join(f"{kinds[kind] / text:,.1f} {kind}" for kind in ("GET", "HEAD", "LIST", "PUT", "DELETE"))
    return "\n".join([*lines, _line("all", total, text), f"for each GB: {each}"])


def _line(name: str, row: dict[str, int] | Counter[str], text: float) -> str:
    requests = " | ".join(f"{row[key] / text:,.1f}" for key in ("reads", "of reads", "writes", "of writes"))
    return f"| {name} | {requests} | {row['bytes'] / 1e9 / text:.2f} | {row['of bytes'] / 1e9 / text:.2f} |"


def main() -> None:
    if sys.argv[1:] == ["--serve"]:
        serve()
    elif sys.argv[1:2] == ["--build"]:
        sys.stdout.write(json.dumps(build(int(sys.argv[2]), sys.argv[3])) + "\n")
    else:
        for gigabytes in map(float, sys.argv[1:] or ("1", "4")):
            size = int(gigabytes * 10**9)
            with counting_server() as endpoint:
                with servers.as_s3(endpoint) as bucket:
                    write_corpus(f"{bucket}/corpus", size)
                found = [(levels, measure(size, endpoint, levels)) for levels in (1, 2)]
            if len({one["digest"] for _, one in found}) > 1:
                raise SystemExit("levels change what is written")
            for levels, one in found:
                sys.stdout.write(show(gigabytes, levels, one) + "\n\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
