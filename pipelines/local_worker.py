"""A worker of the local engine: `python -m chameleon_data.pipelines.local_worker DESCRIPTOR MODULE…`.

The descriptor is its end of a pair of sockets, on which it gets functions and arguments and answers with results. The modules are
imported at once, while the driver lists files. The worker ends when the other end is closed, in the middle of a task too, so a
driver that is killed leaves no process behind.
"""

from __future__ import annotations

import gc
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

from chameleon_data.arrays import keep_pandas_out
from chameleon_data.errors import InputError

Message = tuple[str, Any]
"""To a worker: ("make", a function that makes the function to call) or ("call", its argument).
From a worker: ("made", None), ("reading", the name of a file), ("told", a sentence for a person), ("done", a result), ("refused",
the text of an InputError) or ("failed", the traceback of another exception)."""


def serve_driver() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the driver ends its workers
        signal.signal(signum, signal.SIG_IGN)
    driver, inbox = Connection(int(sys.argv[1])), queue.SimpleQueue[Message]()
    keep_pandas_out()
    gc.disable()
    for module in sys.argv[2:]:
        import_module(module)
    gc.freeze()  # what is imported stays, so no collection needs to look at it
    gc.enable()
    from chameleon_data.corpus.fragments import call_at_opening
    from chameleon_data.pipelines.engine import call_at_retry

    # Not before: what is received imports modules too, and two threads that do so at once may see half of one.
    threading.Thread(target=_receive, args=(driver, inbox), daemon=True).start()
    call_at_opening(lambda url: driver.send(("reading", url)))
    call_at_retry(lambda sentence: driver.send(("told", sentence)))
    function: Callable[[Any], Any] | None = None
    fault: Message | None = None
    while True:
        kind, body = inbox.get()
        try:
            if kind == "make":
                function = fault = None
                function = body()
                driver.send(("made", None))
            elif function is not None:
                driver.send(("done", function(body)))
        except InputError as error:
            fault = ("refused", str(error))
        except Exception:  # noqa: BLE001 - the driver raises it
            fault = ("failed", traceback.format_exc())
        if kind == "call" and fault is not None:  # where nothing could be made, every call fails
            driver.send(fault)
            fault = fault if function is None else None


def _receive(driver: Connection, inbox: queue.SimpleQueue[Message]) -> None:
    while True:
        try:
            inbox.put(driver.recv())
        except (EOFError, OSError):
            os._exit(0)
        except Exception:  # noqa: BLE001 - what was sent cannot be loaded here; the driver reads the last line of this
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)


if __name__ == "__main__":
    serve_driver()
