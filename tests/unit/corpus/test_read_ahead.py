"""Reading remote files with the next block on its way: the same bytes, the same errors, and no byte that nobody needs."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus import read_ahead
from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.read_ahead import ReadAhead
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.errors import InputError
from chameleon_data.recipe import Source

CONTENT = bytes(range(256)) * 4
MIB = 2**20


class Requests(io.BytesIO):
    """A file that records what is read of it, refuses two readers at once, and fails where it is told to."""

    def __init__(self, content: bytes = CONTENT) -> None:
        super().__init__(content)
        self.ranges: list[tuple[int, int]] = []
        self.fails_at: set[int] = set()
        self.asked = threading.Condition()
        self._reading = threading.Lock()

    def read(self, size: int | None = -1) -> bytes:
        assert self._reading.acquire(blocking=False), "two threads read it at once"
        try:
            begin = self.tell()
            if begin in self.fails_at:
                raise ConnectionError(f"no answer at {begin}")
            data = super().read(size)
            with self.asked:
                self.ranges.append((begin, begin + len(data)))
                self.asked.notify_all()
            return data
        finally:
            self._reading.release()

    def wait_for(self, requests: int) -> None:
        with self.asked:
            assert self.asked.wait_for(lambda: len(self.ranges) >= requests, timeout=30)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", 100)
    monkeypatch.setattr(read_ahead, "BEHIND_BYTES", 10)


@contextmanager
def reading(requests: Requests, end: int | None = None) -> Iterator[ReadAhead]:
    with ReadAhead(requests, len(requests.getvalue()), end) as file:
        yield file


@given(
    st.lists(st.tuples(st.none() | st.integers(0, len(CONTENT) + 50), st.integers(-1, 300)), max_size=12),
    st.none() | st.integers(0, len(CONTENT)),
)
def test_reads_and_seeks_give_the_bytes_of_the_file(steps: list[tuple[int | None, int]], end: int | None) -> None:
    plain = io.BytesIO(CONTENT)
    with reading(Requests(), end) as file:
        for place, size in steps:
            if place is not None:
                assert file.seek(place) == plain.seek(place)
            assert file.read(size) == plain.read(size)
            assert file.tell() == plain.tell()
        assert file.seek(-5, io.SEEK_END) == len(CONTENT) - 5
        assert file.read() == CONTENT[-5:]


def test_the_next_block_is_on_its_way_while_one_is_parsed() -> None:
    requests = Requests()
    with reading(requests) as file:
        file.read(1)
        requests.wait_for(2)
        file.read(98)
        assert requests.ranges == [(0, 100), (100, 200)]


def test_nothing_behind_a_stretch_is_read_but_what_is_asked_for() -> None:
    requests = Requests()
    with reading(requests, 250) as file:
        file.seek(30)
        assert file.read(220) == CONTENT[30:250]
        assert requests.ranges == [(30, 130), (130, 230), (230, 250)]
        file.read(5)
        assert requests.ranges[3:] == [(250, 260)]


def test_an_error_comes_with_the_read_that_needs_its_block_and_the_block_is_fetched_again() -> None:
    requests = Requests()
    requests.fails_at = {100}
    with reading(requests) as file:
        assert file.read(100) == CONTENT[:100]
        with pytest.raises(ConnectionError, match="no answer at 100"):
            file.read(1)
        requests.fails_at = set()
        assert file.read(1) == CONTENT[100:101]


def test_closing_it_ends_its_thread_and_closes_the_file() -> None:
    requests, before = Requests(), threading.active_count()
    with reading(requests) as file:
        file.read(1)
        requests.wait_for(2)
    assert requests.closed
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("fault", "raised", "words"),
    [
        (PermissionError("no"), InputError, r"^memory://.*/a\.jsonl: may not be read; check its permissions"),
        (FileNotFoundError("no"), InputError, r"^memory://.*/a\.jsonl: no such file; check the path"),
        (ConnectionError("the network is gone"), ConnectionError, r"the network is gone|no good answer"),
    ],
)
def test_an_error_behind_the_first_block_has_the_words_of_any_other(
    fault: Exception, raised: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", MIB)
    fs = fsspec.filesystem("memory")
    rows = b"".join(json.dumps({"text": f"{number} " + "a" * 1000}).encode() + b"\n" for number in range(4_000))
    fs.pipe_file("/read-ahead/a.jsonl", rows)
    source = Source(path=("memory://read-ahead/a.jsonl",))
    (fragment,) = list_fragments("own", source).fragments
    read = sum(len(block.text) for block in read_blocks(fragment, source, MIB, MIB))
    assert read == 4_000

    def open_failing(path: str, mode: str, **_: Any) -> Any:
        class Failing(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell() >= 2 * MIB:
                    raise fault
                return super().read(size)

        return Failing(rows)

    monkeypatch.setattr(fs, "open", open_failing)
    blocks = read_blocks(fragment, source, MIB, MIB)
    assert len(next(blocks).text)
    with pytest.raises(raised, match=words):
        list(blocks)
