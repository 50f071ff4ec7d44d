"""A worker of the local engine: `python -m chameleon_data.pipelines.local_worker DESCRIPTOR MODULE…`.

The descriptor is its end of a pair of sockets, on which it gets functions and arguments and answers with results. The modules are
imported at once, while the driver lists files. The worker ends when the other end is closed, in the middle of a task too, so a
driver that is killed leaves no process behind.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

Message = tuple[str, Any]
"""To a worker: ("make", a function that makes the function to call) or ("call", its argument).
From a worker: ("reading", the name of a file), ("done", a result) or ("failed", an exception)."""


def main() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the driver ends its workers
        signal.signal(signum, signal.SIG_IGN)
    driver, inbox = Connection(int(sys.argv[1])), queue.SimpleQueue[Message]()
    threading.Thread(target=_receive, args=(driver, inbox), daemon=True).start()
    for module in sys.argv[2:]:
        import_module(module)
    from chameleon_data.corpus.fragments import call_at_opening

    call_at_opening(lambda url: driver.send(("reading", url)))
    function: Callable[[Any], Any] | None = None
    failure: BaseException | None = None
    while True:
        kind, body = inbox.get()
        try:
            if kind == "make":
                function, failure = None, None
                function = body()
            elif failure is not None:
                raise failure
            elif function is not None:
                driver.send(("done", function(body)))
        except Exception as error:  # noqa: BLE001 - the driver raises it
            error.add_note("In a worker process:\n" + traceback.format_exc())
            if kind == "make":
                failure = error
            else:
                _send_failure(driver, error)


def _receive(driver: Connection, inbox: queue.SimpleQueue[Message]) -> None:
    while True:
        try:
            inbox.put(driver.recv())
        except (EOFError, OSError):
            os._exit(0)


def _send_failure(driver: Connection, error: Exception) -> None:
    try:
        driver.send(("failed", error))
    except Exception:  # noqa: BLE001 - an exception that cannot be pickled
        driver.send(("failed", RuntimeError("\n".join([f"{type(error).__name__}: {error}", *error.__notes__]))))


if __name__ == "__main__":
    main()
