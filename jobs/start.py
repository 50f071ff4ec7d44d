"""Where the command starts. A signal that comes while its modules are imported, which takes a second, ends it with one sentence.

Nothing has begun by then, so the process ends at once; workers that were started ahead end by themselves. From `run_command` on,
exits.py says what a signal does. After it a signal changes nothing of what was answered: the process ends with the code that it
was about to end with.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
from contextlib import suppress
from itertools import pairwise
from types import FrameType
from typing import NoReturn

STOPPED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""Signal -> what is said of it. Its exit code is 128 + its number."""
PASS_VERBS = ("weights", "domains", "plan", "build")
"""Verbs that always run passes."""
ENGINE_WORDS = ("--engine", "--workers", "--memory", "--address", "--gpu-share")
"""Options that ask for another engine, or for another number of workers."""
NOTHING_BEGUN = " before anything had begun; run the same command again"


def start_command() -> None:
    """Entry point. Ends in SystemExit, see exits.py."""
    atexit.register(_ignore_signals)  # the last one to be called, as it is the first one here
    signal.signal(signal.SIGTERM, _end_before)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # a shell's background jobs have it ignored
        signal.signal(signal.SIGINT, _end_before)
    if _runs_passes(sys.argv[1:]):
        from chameleon_data.pipelines.worker_process import start_ahead

        start_ahead()
    gc.disable()  # nothing of what is imported goes away, so no collection needs to look at it
    from chameleon_data.jobs.cli import main as run

    gc.freeze()
    gc.enable()

    try:
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        for signum in STOPPED:
            signal.signal(signum, lambda *_: os._exit(code))
        raise


def _runs_passes(words: list[str]) -> bool:
    """Whether this is a verb whose passes run on the local engine as it is without options. To be wrong costs half a second."""
    if words[:1] == [] or words[0] not in PASS_VERBS or "RAY_ADDRESS" in os.environ:
        return False
    return not any(word.partition("=")[0] in (*ENGINE_WORDS, "--help") for word in words)


def _ignore_signals() -> None:
    """From here on Python no longer calls our handlers."""
    for signum in STOPPED:
        signal.signal(signum, signal.SIG_IGN)


def _end_before(signum: int, _: FrameType | None) -> NoReturn:
    said = STOPPED[signal.Signals(signum)] + NOTHING_BEGUN
    as_json = json.dumps({"error": said}, indent=2)
    if "--json" in sys.argv[1:]:
        _write(1, as_json)
    _write(2, json.dumps({"error": said}) if asks_for_json_lines(sys.argv[1:]) else said)
    os._exit(128 + signum)


def _write(stream: int, text: str) -> None:
    """Write past Python's buffers, which may be at work."""
    with suppress(OSError):
        os.write(stream, f"{text}\n".encode())


def asks_for_json_lines(words: list[str]) -> bool:
    """Whether stderr is for a program: every line of it is a JSON object. Usage may be what is wrong, so no parser is asked."""
    return "--progress=json" in words or ("--progress", "json") in pairwise(words)


if __name__ == "__main__":
    start_command()
