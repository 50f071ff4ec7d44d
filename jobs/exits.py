"""How the command ends: an exit code, one message on stderr, and with --json always one document on stdout.

With `--progress json` that message is a JSON object too, `{"error": …}`, the last line of stderr.

    0  done    1  a check failed    2  bad recipe, bad input or bad usage    70  a defect of ours, with its traceback
    130  Ctrl-C    143  SIGTERM

Batch systems send SIGTERM before they kill. It takes the way of Ctrl-C here: an interrupt in the main thread, so that a pass
is left and its engine ends as after Ctrl-C. Why: docs/decisions/080-sigterm.md.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer
from rich.text import Text
from typer.exceptions import TyperException

from chameleon_data.arrays import keep_pandas_out
from chameleon_data.errors import InputError, explain_os_error
from chameleon_data.jobs.completion import ASKED, completing_in_bash
from chameleon_data.jobs.screen import drop_output, drop_unwritten, err, prepare_streams, print_json
from chameleon_data.jobs.start import STOPPED, asks_for_json_lines

BAD_INPUT, DEFECT = 2, 70
SIGNAL_SECONDS = 0.05
"""Time after which an interrupt that Python dropped is raised again."""

GO_ON = "; the same command goes on from here"

_terminated = threading.Event()
"""Set by a SIGTERM."""
_as_json = [False]
"""Whether an error has a document on stdout."""
_stopped_at: list[Callable[[], str]] = []
"""What makes the end of the sentence about a stop."""


@contextmanager
def say_when_stopped(end_of_sentence: Callable[[], str]) -> Iterator[None]:
    """Where Ctrl-C or SIGTERM stops the body, say this after `interrupted` or `terminated`."""
    _stopped_at[:] = [end_of_sentence]
    yield
    _stopped_at.clear()  # not where it is left by an interrupt, of which is told later


def run_command(app: typer.Typer, as_json: bool = False) -> NoReturn:
    """Run the command that `sys.argv` names. Ends in SystemExit with a code of the module's docstring.

    `as_json`: an error has its document whether or not --json was typed.
    """
    _as_json[:] = [as_json or "--json" in sys.argv[1:]]  # in the words typed: usage may be what is wrong
    prepare_streams()
    keep_pandas_out()
    with _interrupt_on_sigterm():
        try:
            code = _run(app)
            if code == 128 + signal.SIGINT:  # what typer makes of an interrupt inside a verb
                raise KeyboardInterrupt
            sys.exit(code)
        except InputError as error:
            _fail(BAD_INPUT, str(error))
        except TyperException as error:  # bad usage
            context = getattr(error, "ctx", None)
            _fail(BAD_INPUT, error.format_message(), **({"usage": context.get_usage()} if context else {}))
        except OSError as error:  # the network or the disk failed where no sentence of ours was nearer
            drop_unwritten()
            _fail(BAD_INPUT, explain_os_error(error))
        except (KeyboardInterrupt, typer.Abort):
            _stop(signal.SIGTERM if _terminated.is_set() else signal.SIGINT)
        except UnicodeEncodeError as error:
            if sys.getfilesystemencoding() == "utf-8":
                _fail_by_defect(error)
            _fail(BAD_INPUT, f"{error.object!a}: this locale has no such file name; set LC_ALL=C.UTF-8 or PYTHONUTF8=1")
        except Exception as error:  # noqa: BLE001 - the last resort, so that --json always has its document
            _fail_by_defect(error)


def _run(app: typer.Typer) -> int:
    try:
        with completing_in_bash():
            return app(args=sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except SystemExit as end:  # typer's, where nobody reads its help to the end; and of a completion, which answers fish by it
        drop_output(sys.stdout)
        return end.code if ASKED in os.environ and isinstance(end.code, int) else 0


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    def interrupt(signum: int, _: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_IGN)  # a second one would break off the clean-up
        signal.signal(signal.SIGINT, signal.default_int_handler)  # batch systems may have it ignored
        sys.unraisablehook = raise_again
        _terminated.set()
        raise KeyboardInterrupt  # Ray passes this one on from inside its core, and no other

    def raise_again(failure: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised in `__del__`: an interrupt is raised again, half-made objects of Ray are not heard."""
        if isinstance(failure.exc_value, KeyboardInterrupt):
            late.append(threading.Timer(SIGNAL_SECONDS, os.kill, (os.getpid(), signal.SIGINT)))
            late[-1].start()  # once this function has ended

    _terminated.clear()
    _stopped_at.clear()
    late: list[threading.Timer] = []
    """Interrupts that are to be raised again."""
    before, hook = signal.signal(signal.SIGTERM, interrupt), sys.unraisablehook
    interrupted_by = signal.getsignal(signal.SIGINT)
    if interrupted_by != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for timer in late:
            timer.cancel()
            timer.join()
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupted_by)
        sys.unraisablehook = hook


def _stop(signum: signal.Signals) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that is late would break off this message
    said = STOPPED[signum] + (_stopped_at.pop()() if _stopped_at else GO_ON)
    _answer_error(said)
    if asks_for_json_lines(sys.argv[1:]):
        _print_line({"error": said})
    else:
        err.print(said, soft_wrap=True)
    sys.exit(128 + signum)


def _fail(code: int, reason: str, **before: str) -> NoReturn:
    """`before`: what a person reads before the reason, by what it is, such as the usage or a traceback."""
    _answer_error(reason)
    if asks_for_json_lines(sys.argv[1:]):
        _print_line({"error": reason, **before})
    else:
        for text in before.values():
            err.print(text, soft_wrap=True)
        err.print(Text("error", style="red"), reason, soft_wrap=True)
    sys.exit(code)


def _fail_by_defect(error: Exception) -> NoReturn:
    reason = f"a defect of chameleon-data, please report it with the traceback: {type(error).__name__}: {error}"
    _fail(DEFECT, reason, traceback="".join(traceback.format_exception(error)))


def _print_line(facts: dict[str, str]) -> None:
    err.print(json.dumps(facts), soft_wrap=True)


def _answer_error(reason: str) -> None:
    """The document of a failure."""
    if _as_json[0]:
        try:
            print_json({"error": reason})
        except OSError:  # the reason itself may be that stdout is full
            drop_unwritten()
