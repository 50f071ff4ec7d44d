"""Work for the workers of an engine: it succeeds, fails, dies, or takes memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.readers.blocks import read_blocks
from chameleon_data.errors import InputError
from chameleon_data.pipelines import engine
from chameleon_data.recipe import Source

MIB = 2**20


def write(folder: Path, number: int) -> None:
    (folder / str(number)).write_text(str(os.getpid()))


def write_beside(ballast: bytes, folder: Path, number: int) -> None:
    """The same; `ballast` are values that the work needs."""
    assert len(ballast) == MIB
    write(folder, number)


def die(folder: Path, times: int, signum: int, number: int) -> None:
    """Number 3 ends its own process the first `times` times, after it has opened its file."""
    if number == 3:
        _read_file(folder)
        with (folder / "deaths").open("a") as file:
            file.write("x")
        if (folder / "deaths").stat().st_size <= times:
            os.kill(os.getpid(), signum)
    write(folder, number)


def _read_file(folder: Path) -> None:
    (fragment,) = list_fragments("own", Source(path=(str(folder / "read.jsonl"),))).fragments
    list(read_blocks(fragment, Source(path=(str(folder / "read.jsonl"),)), MIB))


def fail_at_first(folder: Path, number: int) -> None:
    """Number 3 cannot be read at the first try."""
    if number == 3 and not (folder / "tried").exists():
        (folder / "tried").touch()
        raise ConnectionError("the network is gone")
    write(folder, number)


def wait_for_file(folder: Path, number: int) -> None:
    """Number 3 reads a file, and ends when somebody makes another one, or after five minutes."""
    if number == 3:
        _read_file(folder)
    end = time.monotonic() + 300
    while number == 3 and not (folder / "go").exists() and time.monotonic() < end:
        time.sleep(0.05)
    write(folder, number)


def refuse(number: int) -> None:
    if number == 2:
        raise InputError("number 2 is wrong")


def fail(number: int) -> None:
    raise KeyError(f"number {number}")


class OddError(Exception):
    """It cannot be pickled back."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def fail_oddly(number: int) -> None:
    raise OddError("one", "two")


def take_memory(folder: Path, mebibytes: int, tasks: int, number: int) -> None:
    """Hold some memory for a while, in which all of `tasks` tasks have begun. Each start is counted."""
    (folder / f"{number}-{time.monotonic_ns()}").touch()
    held = np.ones(mebibytes * MIB, np.uint8)
    end = time.monotonic() + 60
    while len({path.name.partition("-")[0] for path in folder.glob("[0-9]*-*")}) < tasks and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(1.5)
    (folder / f"done-{number}").write_text(str(held.sum()))


def wait_for_ever(folder: Path, number: int) -> None:
    write(folder, number)
    time.sleep(600)


def interrupt_self(folder: Path, number: int) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), signum)
    write(folder, number)


def make_doubling_beside(ballast: bytes, factor: int) -> Callable[[pa.Table], pa.Table]:
    assert len(ballast) == MIB
    return make_doubling(factor)


def make_doubling(factor: int) -> Callable[[pa.Table], pa.Table]:
    made = os.getpid()

    def double(table: pa.Table) -> pa.Table:
        if table["x"][0].as_py() < 0:
            raise InputError("a negative number")
        rows, about = len(table), {"made": made, "listeners": len(engine._counting)}
        same = {name: [value] * rows for name, value in {"rows": rows, **about}.items()}
        return pa.table({"x": [factor * x for x in table["x"].to_pylist()], **same})

    return double


def make_waiting(folder: Path) -> Callable[[pa.Table], pa.Table]:
    """A function that waits with the table of number 3 as `wait_for_file` does."""

    def wait(table: pa.Table) -> pa.Table:
        wait_for_file(folder, table["x"][0].as_py())
        return table

    return wait


def make_naming_gpu() -> Callable[[pa.Table], pa.Table]:
    """A function that says which GPU its process may use; each call takes long enough for every process to get one."""

    def name_gpu(_: pa.Table) -> pa.Table:
        time.sleep(0.2)
        return pa.table({"gpu": [os.environ["CUDA_VISIBLE_DEVICES"]], "process": [os.getpid()]})

    return name_gpu


def make_slowly_once(folder: Path) -> Callable[[pa.Table], pa.Table]:
    """A function that gives its table back. The first process takes two seconds to make it."""
    try:
        (folder / "slow").touch(exist_ok=False)
    except FileExistsError:
        return lambda table: table
    time.sleep(2)
    return lambda table: table
