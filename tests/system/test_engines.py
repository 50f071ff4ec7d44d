"""What passes ask of an engine, on both; and what only worker processes of this machine promise."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pyarrow as pa
import pytest

from chameleon_data.errors import DefectError, InputError
from chameleon_data.pipelines import engine as engines
from chameleon_data.pipelines import ray_engine, worker_process
from chameleon_data.pipelines.engine import Engine, Task, run_pass
from chameleon_data.pipelines.local_engine import LocalEngine, local_engine
from tests.support import engine_tasks as tasks
from tests.support.paths import ROOT


def about(number: int) -> str:
    return f"file {number}"


def numbers_in(folder: Path) -> set[int]:
    return {int(file.name) for file in folder.iterdir() if file.name.isdecimal()}


# Both engines


@pytest.fixture
def closures(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Bytes of each function that Ray Data gets, and of memory that is asked for."""
    found: list[tuple[int, int]] = []
    if isinstance(engine, LocalEngine):
        return found
    import ray.data
    from ray import cloudpickle

    real = ray.data.Dataset.map_batches

    def record(data: Any, function: Any, **how: Any) -> Any:
        found.append((len(cloudpickle.dumps(function)), how.get("memory", 0)))
        return real(data, function, **how)

    monkeypatch.setattr(ray.data.Dataset, "map_batches", record)
    return found


def test_every_number_is_done_and_progress_is_told(engine: Engine, tmp_path: Path, closures: list[tuple[int, int]]) -> None:
    told: list[tuple[str, int, int]] = []
    task = Task(partial(tasks.write_beside, bytes(tasks.MIB), tmp_path), about, memory=700 * tasks.MIB)
    run_pass(engine, "write", task, [5, 7, 30], lambda *what: told.append(what), done=4, sizes=[2, 3, 1])
    assert numbers_in(tmp_path) == {5, 7, 30}
    assert told[0] == ("write", 4, 10)
    assert told[-1] == ("write", 10, 10)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    run_pass(engine, "write", task, [], lambda *what: told.append(what))
    assert told[-1] == ("write", 0, 0)
    assert all(size < 10_000 for size, _ in closures), "values are one object in Ray's store"
    assert [memory for _, memory in closures] == ([] if isinstance(engine, LocalEngine) else [700 * tasks.MIB])


def test_a_refusal_is_raised_as_it_is(engine: Engine) -> None:
    with pytest.raises(InputError, match=r"^number 2 is wrong$"):
        list(engine.run(Task(tasks.refuse, about), range(9)))


@pytest.mark.parametrize("work", [tasks.fail, tasks.fail_oddly])
def test_a_defect_is_told_with_where_it_happened(engine: Engine, work: Callable[[int], None]) -> None:
    with pytest.raises(DefectError, match=r"(?s)a task failed.*engine_tasks\.py.*(number 1|onetwo)"):
        list(engine.run(Task(work, about), [1]))


def test_tables_stream_through_actors(engine: Engine, closures: list[tuple[int, int]]) -> None:
    whole = pa.table({"x": list(range(100))})
    tables = [whole.slice(at, 7) for at in range(0, 100, 7)]
    answers = list(engine.stream(partial(tasks.make_doubling_beside, bytes(tasks.MIB), 3), tables))
    assert all(size < 10_000 for size, _ in closures), "values are one object in Ray's store"
    assert sorted(x for answer in answers for x in answer["x"].to_pylist()) == list(range(0, 300, 3))
    assert sorted(answer["rows"][0].as_py() for answer in answers) == [2] + [7] * 14
    assert os.getpid() not in {answer["made"][0].as_py() for answer in answers}
    listeners = {answer["listeners"][0].as_py() for answer in answers}
    assert listeners == {0 if isinstance(engine, LocalEngine) else 1}, "on Ray somebody listens to what actors count"
    with pytest.raises(InputError, match=r"^a negative number$"):
        list(engine.stream(partial(tasks.make_doubling, 3), [pa.table({"x": [-1]})]))
    assert list(engine.stream(partial(tasks.make_doubling, 3), [])) == []


@pytest.mark.parametrize("deaths", [2, 3])
def test_a_task_whose_process_dies_is_repeated_and_at_the_third_death_its_file_is_named(
    engine: Engine, tmp_path: Path, deaths: int
) -> None:
    (tmp_path / "read.jsonl").write_text('{"text": "a"}\n')
    task = Task(partial(tasks.die, tmp_path, deaths, signal.SIGKILL), lambda number: str(tmp_path / "read.jsonl"))
    if deaths == 2:
        assert sorted(engine.run(task, range(6))) == list(range(6))
        assert numbers_in(tmp_path) == set(range(6))
    else:
        with pytest.raises(InputError, match=r"read\.jsonl: the process at work on it died 3 times; .*memory"):
            list(engine.run(task, range(6)))
    assert (tmp_path / "deaths").stat().st_size == 3


def test_a_task_that_is_tried_again_is_told(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(engine, "_tell", told.append)
    assert sorted(engine.run(Task(partial(tasks.fail_at_first, tmp_path), about), range(5))) == list(range(5))
    (sentence,) = told
    assert re.match(r"file 3: reading or writing failed, and is tried again in (0\.[5-9]|1\.0) s: the network is gone", sentence)


@pytest.mark.parametrize("streams", [False, True])
def test_a_task_that_takes_far_longer_than_others_is_told_once(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    """The task ends because it was told of."""
    told: list[str] = []
    monkeypatch.setattr(engines, "STRAGGLER_SECONDS", 0.5)
    monkeypatch.setattr(ray_engine, "STRAGGLER_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(engine, "_has_nodes", True, raising=False)  # on a Ray that was started here nobody looks

    def tell(sentence: str) -> None:
        told.append(sentence)
        (tmp_path / "go").touch()

    monkeypatch.setattr(engine, "_tell", tell)
    (tmp_path / "read.jsonl").write_text('{"text": "a"}\n')
    if streams:
        tables = [pa.table({"x": [number]}) for number in range(12)]
        done = [answer["x"][0].as_py() for answer in engine.stream(partial(tasks.make_waiting, tmp_path), tables)]
    else:
        done = list(engine.run(Task(partial(tasks.wait_for_file, tmp_path), about), range(12)))
    assert sorted(done) == list(range(12))
    where = r"(one of 12 tables|.*/read\.jsonl)" if streams else re.escape(f"{tmp_path}/read.jsonl")
    assert re.match(where + r": the task at work on it has run for \d+ s; half of the tasks of this pass took less", told[0])
    assert len(told) == 1


# Worker processes of this machine


def test_a_process_that_loads_a_model_is_no_straggler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(engines, "STRAGGLER_SECONDS", 0.3)
    tables = [pa.table({"x": [number]}) for number in range(12)]
    with local_engine(workers=2, tell=told.append) as engine:
        assert len(list(engine.stream(partial(tasks.make_slowly_once, tmp_path), tables))) == 12
    assert (tmp_path / "slow").exists()
    assert told == []


def test_two_processes_share_a_gpu_where_half_of_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is needed to see what a process is told of its own."""
    monkeypatch.setattr("chameleon_data.pipelines.local_engine.usable_gpus", lambda: ["0", "3"])
    tables = [pa.table({"x": [number]}) for number in range(8)]
    for share, processes in ((1.0, 1), (0.5, 2), (0.3, 3)):
        with local_engine(workers=1, gpu_share=share) as engine:
            answers = [answer.to_pylist()[0] for answer in engine.stream(tasks.make_naming_gpu, tables, on_gpus=True)]
        used = {(answer["gpu"], answer["process"]) for answer in answers}
        assert Counter(gpu for gpu, _ in used) == {"0": processes, "3": processes}


def test_a_worker_that_died_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "read.jsonl").write_text('{"text": "a"}\n')
    with local_engine(workers=1, tell=told.append) as engine:
        list(engine.run(Task(partial(tasks.die, tmp_path, 1, signal.SIGKILL), about), range(5)))
    assert told == [f"{tmp_path}/read.jsonl: the process at work on it died; it is tried again"]


def test_the_file_that_was_open_is_named_though_a_task_reads_many(local_engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "read.jsonl").write_text('{"text": "a"}\n')
    task = Task(partial(tasks.die, tmp_path, 3, signal.SIGABRT), lambda number: "4,096 files")
    with pytest.raises(InputError, match=rf"^{tmp_path}/read\.jsonl: the process at work on it died 3 times; SIGABRT"):
        list(local_engine.run(task, [3]))


def test_work_that_a_worker_cannot_load_ends_in_a_message_and_not_in_silence(
    local_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("not_there")
    exec("def work(number): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "not_there", module)
    with pytest.raises(InputError, match=r"^file 1: .* died 3 times; it ended with code 1; ModuleNotFoundError: .*not_there"):
        list(local_engine.run(Task(module.work, about), [1]))


def test_signals_that_reach_the_whole_group_are_left_to_the_driver(local_engine: LocalEngine, tmp_path: Path) -> None:
    assert list(local_engine.run(Task(partial(tasks.interrupt_self, tmp_path), about), [1])) == [1]


def test_a_worker_that_died_between_passes_is_replaced(local_engine: LocalEngine, tmp_path: Path) -> None:
    task = Task(partial(tasks.write, tmp_path), about)
    list(local_engine.run(task, range(4)))
    first = {int((tmp_path / str(number)).read_text()) for number in range(4)}
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    assert sorted(local_engine.run(task, range(4))) == list(range(4))
    assert not first & {int((tmp_path / str(number)).read_text()) for number in range(4)}


def test_workers_of_a_pass_that_was_left_do_not_answer_the_next_one(local_engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    running = local_engine.run(Task(partial(tasks.wait_for_ever, tmp_path / "a"), about), range(2))
    with pytest.raises(InputError):
        list(local_engine.run(Task(tasks.refuse, about), [2, *range(5, 9)]))
    running.close()
    assert sorted(local_engine.run(Task(partial(tasks.write, tmp_path), about), range(9))) == list(range(9))


def test_tasks_that_together_need_too_much_memory_run_one_after_the_other(tmp_path: Path) -> None:
    """Two of 700 MiB within 1.6 GB, of which this process and two workers hold some."""
    with local_engine(workers=2, memory=_held() + 1_400_000_000) as engine:
        assert sorted(engine.run(Task(partial(tasks.take_memory, tmp_path, 700, 2), about), range(2))) == [0, 1]
    assert len(list(tmp_path.glob("done-*"))) == 2
    assert len(list(tmp_path.iterdir())) >= 2 + 3, "one was ended and began again"


def test_a_task_that_needs_too_much_memory_by_itself_is_given_up_with_what_to_do(tmp_path: Path) -> None:
    with (
        local_engine(workers=2, memory=_held() + 900_000_000) as engine,
        pytest.raises(InputError, match=r"^file 8: the process at work on it died 3 times; .* GB of memory .*raise --memory"),
    ):
        list(engine.run(Task(partial(tasks.take_memory, tmp_path, 1200, 1), about), [8]))


def _held() -> int:
    return psutil.Process().memory_info().rss - psutil.Process().memory_info().shared


DRIVER = """
import signal
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from chameleon_data.pipelines.engine import Task
from chameleon_data.pipelines.local_engine import local_engine
from tests.support import engine_tasks

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
with local_engine(workers=2) as engine:
    list(engine.run(Task(partial(engine_tasks.wait_for_ever, Path(sys.argv[1])), str), range(2)))
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_killed_leaves_no_process_behind(tmp_path: Path, signum: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as driver:
        wait_until(lambda: len(numbers_in(tmp_path)) == 2)
        workers = psutil.Process(driver.pid).children(recursive=True)
        assert {worker.pid for worker in workers} == {int((tmp_path / str(number)).read_text()) for number in range(2)}
        driver.send_signal(signum)
        driver.wait(20)
    assert psutil.wait_procs(workers, timeout=20)[1] == []


@contextmanager
def two_started_ahead() -> Iterator[set[int]]:
    """Ids of two processes that were started ahead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_process, "number_of_workers", lambda memory: 2)
        worker_process.start_ahead()
    yield {waiting.process.pid for waiting in worker_process._ahead}
    worker_process.end_ahead()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_an_engine_takes_the_processes_that_are_there_and_ends_the_others(workers: int, tmp_path: Path) -> None:
    with two_started_ahead() as ahead, local_engine(workers=workers) as engine:
        taken = {worker.process.pid for worker in engine._workers}
        assert (len(taken), len(taken & ahead)) == (workers, min(workers, 2))
        assert {pid for pid in ahead if psutil.pid_exists(pid)} == taken & ahead
        assert sorted(engine.run(Task(partial(tasks.write, tmp_path), about), range(5))) == [*range(5)]
    assert not any(map(psutil.pid_exists, taken))


def test_a_process_with_another_environment_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with two_started_ahead() as ahead:
        monkeypatch.setenv("HF_HOME", "/elsewhere")
        with local_engine(workers=1) as engine:
            assert engine._workers[0].process.pid not in ahead
        assert not any(map(psutil.pid_exists, ahead))


def test_a_process_that_cannot_be_started_ahead_is_left_to_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    started = iter([worker_process.WorkerProcess])

    def start_one(environment: Mapping[str, str]) -> worker_process.WorkerProcess:
        for start in started:
            return start(environment)
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(worker_process, "WorkerProcess", start_one)
    with two_started_ahead() as ahead:
        assert len(ahead) == 1
        with pytest.raises(InputError, match=r"1 of 2 worker processes could be started \(.+\); ask for fewer"):
            LocalEngine(workers=2)
    assert not any(map(psutil.pid_exists, ahead))


def test_workers_listen_nowhere(local_engine: LocalEngine) -> None:
    def find_workers() -> list[psutil.Process]:
        below = psutil.Process().children(recursive=True)
        return [one for one in below if "chameleon_data.pipelines.local_worker" in one.cmdline()]

    wait_until(lambda: len(find_workers()) >= 2)  # a process that has just begun has no command line for a moment
    assert [c for worker in find_workers() for c in worker.net_connections("inet")] == []


def test_a_file_in_the_users_folder_stands_for_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with local_engine(workers=1) as engine:
        assert list(engine.run(Task(partial(tasks.write, tmp_path / "out"), about), [1])) == [1]


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
