"""A network that fails between a build and its S3 server: a proxy on 127.0.0.1 with every fault that a client must bear.

    503        SlowDown, for one to four requests
    409        ConditionalRequestConflict, of a put
    reset      the connection is reset, and the server never heard
    lost       the server did what was asked, and its answer is lost
    truncated  the body of an object ends early; half of these say so in Content-Length
    flipped    one bit of an object's body is flipped (not of a listing, which has no sum of ours: TLS protects it)
    delay      up to .3 s

Each request has a connection of its own. A seed draws the faults in the order in which requests come.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chameleon_data.errors import InputError
from chameleon_data.recipe import Recipe
from chameleon_data.store import object_store as remote
from chameleon_data.store import store as storage
from chameleon_data.store.store import Store
from chameleon_data.versions.references import resolve_version
from chameleon_data.versions.tags import tag_history, tag_version
from chameleon_data.versions.versions import commit_version, list_versions, read_manifest
from tests.soak import servers
from tests.soak.crash import CleanBuild, build_clean, change_out
from tests.soak.rot import ATTEMPTS, flip_bit
from tests.support.inline_builds import CREATED, build, verified, verify_versions, write_small_recipe
from tests.support.manifests import example_manifest

FAULTS = ("503", "409", "reset", "lost", "truncated", "flipped", "delay")
SLOW = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code><Message>Try again.</Message></Error>"


class Proxy:
    """Forwards to `upstream`; where `share` is above 0, so many of the requests perform a fault."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._host, self._port = parts.hostname, parts.port
        self.share, self.chance, self.injected = 0.0, random.Random(0), Counter[str]()
        self._refusals_left = 0

    def start_faults(self, seed: int, share: float) -> None:
        self.share, self.chance, self._refusals_left = share, random.Random(seed), 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        with suppress(ConnectionError):
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head[:-4].split(b"\r\n")
        method, target = lines[0].split()[:2]
        fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(b":") for line in lines[1:])}
        if b"expect" in fields:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(fields.get(b"content-length", 0)))
        fault = self._draw(method, target, fields)
        if fault == "503":
            return self._refuse(writer, b"503 Slow Down", b"" if method == b"HEAD" else SLOW)
        if fault == "409":
            return self._refuse(writer, b"409 Conflict", CONFLICT)
        if fault == "reset":
            return self._reset(writer)
        if fault == "delay":
            await asyncio.sleep(self.chance.uniform(0, 0.3))
        kept_lines = [line for line in lines[1:] if line.partition(b":")[0].strip().lower() not in (b"expect", b"connection")]
        answer = await self._forward(b"\r\n".join([lines[0], *kept_lines, b"Connection: close", b"", b""]) + body)
        if fault == "lost":
            return self._reset(writer)
        if fault in ("truncated", "flipped"):
            answer = self._damaged(answer, fault)
        writer.write(answer)
        await writer.drain()
        return None

    def _draw(self, method: bytes, target: bytes, fields: dict[bytes, bytes]) -> str:
        if self._refusals_left:
            self._refusals_left -= 1
            self.injected["503"] += 1
            return "503"
        if self.chance.random() >= self.share:
            return ""
        fault = self.chance.choice(FAULTS)
        if fault in ("truncated", "flipped") and (method != b"GET" or b"?" in target):  # only listings have a query
            return ""
        if fault == "409" and (method != b"PUT" or b"if-none-match" not in fields):
            return ""
        self._refusals_left = self.chance.randrange(4) if fault == "503" else 0
        self.injected[fault] += 1
        return fault

    def _damaged(self, answer: bytes, fault: str) -> bytes:
        head, gap, body = answer.partition(b"\r\n\r\n")
        if not body:
            return answer
        if fault == "flipped":
            return head + gap + flip_bit(body, self.chance)
        short = body[: self.chance.randrange(len(body))]
        if self.chance.random() < 0.5:  # as if that were all
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
            head = b"\r\n".join([*lines, b"Content-Length: %d" % len(short)])
        return head + gap + short

    def _refuse(self, writer: asyncio.StreamWriter, status: bytes, body: bytes) -> None:
        writer.write(b"HTTP/1.1 %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                     % (status, len(body), body))  # fmt: skip

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(request)
            await writer.drain()
            answer = await reader.read()
        finally:
            writer.close()
        head, gap, body = answer.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        return b"\r\n".join([*lines, b"Connection: close"]) + gap + body


@contextmanager
def proxy(upstream: str) -> Iterator[tuple[Proxy, str]]:
    """The proxy, without faults at first, and its endpoint."""
    loop, made = asyncio.new_event_loop(), Proxy(upstream)
    server = loop.run_until_complete(asyncio.start_server(made.serve, "127.0.0.1", 0, limit=2**20))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


def write_remote_recipe(folder: Path, url: str) -> Recipe:
    """The small recipe, with its corpus and its `out` in a bucket."""
    recipe = write_small_recipe(folder, f"{url}/clean/out")
    for file in (folder / "corpus").rglob("*.jsonl"):
        Store(url).write(str(file.relative_to(folder)), file.read_bytes())
    raw = recipe.model_dump(mode="json", by_alias=True)
    for name, source in raw["sources"].items():
        source["path"] = [f"{url}/corpus/{name}/*.jsonl"]
    return Recipe.model_validate(raw)


@contextmanager
def short_deadlines() -> Iterator[None]:
    """Stores give up after 20 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "DEADLINE", 20.0)
        patch.setattr(remote, "LISTING_DEADLINE", 20.0)
        patch.setattr(storage, "PROBE_DEADLINE", 20.0)
        storage._backend.cache_clear()
        yield
    storage._backend.cache_clear()


def draw_share(seed: int) -> float:
    """Of the requests of a run that perform a fault."""
    return random.Random(f"share {seed}").choice([0.03, 0.1, 0.25])


def build_through_faults(proxy: Proxy, clean: CleanBuild, out: str, seed: int) -> int:
    """A small build whose corpus and `out` are behind the proxy; returns how often it was refused before it passed."""
    refused, recipe = 0, change_out(clean.recipe, out)
    with short_deadlines():
        proxy.start_faults(seed, draw_share(seed))
        for _ in range(ATTEMPTS):
            try:
                assert build(recipe).digest == clean.digest, seed
                break
            except (InputError, OSError):  # an OSError comes from the corpus; the command turns it into exit 2
                refused += 1
        proxy.start_faults(seed, 0)
        verify_versions(Store(out))
        retry(lambda: build(recipe))  # each build finds one damaged record and removes it
        assert build(recipe).digest == clean.digest, seed
        clean.check(out, seed)
    return refused


def retry(act: Callable[[], object]) -> None:
    """Try again after a refusal, as a person would."""
    for _ in range(ATTEMPTS - 1):
        with suppress(InputError):
            act()
            return
    act()


def commit_through_faults(proxy: Proxy, store: Store, seed: int) -> int:
    """Four writers each commit a build of their own and a common one, and move one tag; returns the number of versions."""

    def publish(name: str) -> None:
        tag_version(store, commit_version(store, example_manifest(name), CREATED), "newest")

    def work(writer: int) -> None:
        for name in (f"own {writer}", "common"):
            retry(partial(publish, name))

    with short_deadlines():
        proxy.start_faults(seed, draw_share(seed))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        proxy.start_faults(seed, 0)
        found = list_versions(store)
        names = [read_manifest(store, version).name for version in found]
        assert sorted(names) == ["common", *(f"own {n}" for n in range(4))], (seed, names)
        assert [v.number for v in found] == [1, 2, 3, 4, 5], seed
        history = tag_history(store, "newest")
        assert [t.generation for t in history] == list(range(1, len(history) + 1)), seed
        assert resolve_version(store, "newest").number == history[-1].version, seed
    return len(found)


def run_seeds(seeds: range) -> tuple[Counter[str], Counter[str]]:
    """Builds for even seeds, commits for odd ones, with a server and a proxy of their own. Returns the injected faults, and what
    was verified."""
    verified.clear()
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        servers.moto() as upstream,
        proxy(upstream) as (made, endpoint),
        servers.as_s3(endpoint) as bucket,
    ):
        clean = build_clean(write_remote_recipe(Path(folder), bucket))
        for seed in seeds:
            if seed % 2:
                commit_through_faults(made, Store(f"{bucket}/versions-{seed}"), seed)
            else:
                build_through_faults(made, clean, f"{bucket}/build-{seed}", seed)
        return made.injected, verified
