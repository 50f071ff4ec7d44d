"""The error that a person is meant to read, and the one translator that makes it from what libraries raise.

A message says what is wrong, where, and what to do. It does not repeat an error's own words where they may hold a secret.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

OS_ERROR_REMEDIES = {
    errno.ENOSPC: "the disk is full; make room and run the same command again, it goes on where it stopped",
    errno.EDQUOT: "your disk quota is used up; make room and run the same command again, it goes on where it stopped",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "access denied; check the permissions of the folder",
    errno.EPERM: "access denied; check the permissions of the folder",
    errno.ENOENT: "no such file; was the folder copied whole?",
    errno.ENOTDIR: "a file stands where a folder is needed; move it, or choose another folder",
    errno.EEXIST: "a file stands where a folder is needed; move it, or choose another folder",
    errno.EISDIR: "a folder stands where a file is needed; move it, or choose another folder",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine; close some programs",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter folder",
    errno.ELOOP: "the links lead round in a circle; choose another folder",
}


_Found = TypeVar("_Found")


class InputError(ValueError):
    """The recipe, the corpus or the stored data cannot give an answer. The command exits with 2 and prints this text."""


class UnavailableError(InputError):
    """A store has given no good answer for a while. The same may succeed later, so a task that meets it is tried again."""


class DefectError(RuntimeError):
    """This program contradicts itself, whatever was typed or read. The command exits with 70 and prints the traceback."""


def say_install(extra: str) -> str:
    """How one of the extras is installed. Its name alone would fetch a stranger's: PyPI's `chameleon-data` is another project."""
    return f"pip install '.[{extra}]' in the repository of chameleon-data"


Sentences = Mapping[type[BaseException] | tuple[type[BaseException], ...], str | Callable[[Any], str | None]]
"""Kind of an error -> what is wrong and what to do: a text, or a function that makes it from the error. Where the function
returns None, the error passes as it is."""


@contextmanager
def explaining(where: str, sentences: Sentences) -> Iterator[None]:
    """Raise InputError(`where`: sentence) in the place of an error that `sentences` names; the first kind that fits counts.

    An InputError passes, as it has its sentence already, and so does an error of any other kind.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        sentence = next((sentence for kinds, sentence in sentences.items() if isinstance(error, kinds)), None)
        text = sentence(error) if callable(sentence) else sentence
        if text is None:
            raise
        raise InputError(f"{where}: {text}") from None


@contextmanager
def locating(where: str) -> Iterator[None]:
    """Put `where` in front of the text of an InputError, for a key that only the caller knows."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


class Faults:
    """Collects what is wrong, so that one message tells it all."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def collect(self, find: Callable[[], _Found], where: str = "") -> _Found | None:
        """What `find` returns; None where it raises InputError, whose text is kept with `where` in front."""
        try:
            return find()
        except InputError as error:
            self._found.append(f"{where}{error}")
            return None

    def raise_all(self) -> None:
        """Raise InputError with a line for each fault, if there are any."""
        if self._found:
            raise InputError("\n".join(dict.fromkeys(self._found)))


def explain_errno(error: OSError, writing: bool = False) -> str:
    """What the number of an operating system's error means and what to do, without the error's own words.

    `writing`: a file or folder was to be made, so that what is missing is the place for it.
    """
    if writing and error.errno == errno.ENOENT:
        return "no folder can be made there; choose another one"
    kind = os.strerror(error.errno) if error.errno else type(error).__name__
    return OS_ERROR_REMEDIES.get(error.errno or 0, f"cannot be used ({kind}); check it")


def explain_os_error(error: OSError) -> str:
    """The same for a file outside a store, which is a temporary one mostly, with the name of the file."""
    where = f"{error.filename}: " if error.filename else ""
    what = OS_ERROR_REMEDIES.get(error.errno or 0, str(error) or type(error).__name__)
    return f"{where}{what} (temporary files are in {tempfile.gettempdir()}; TMPDIR says where)"


def first_line(error: BaseException) -> str:
    """The first line of what an error says, at most 200 characters; the name of its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]


def list_some(items: Sequence[str], most: int = 8) -> str:
    """The first items, and how many more there are."""
    return ", ".join(items[:most]) + (f" and {len(items) - most:,} more" if len(items) > most else "")


def escape_unprintable(text: str) -> str:
    """The text with what a terminal would obey (escape sequences, bells, turns of direction) written out; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t\u00a0" else c.encode("unicode_escape").decode() for c in text)
