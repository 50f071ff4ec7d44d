"""The translator: which errors get a sentence, which pass, and that an error's own words stay out."""

from __future__ import annotations

import errno
import tempfile
import traceback
from functools import partial

import pytest

from chameleon_data.errors import Faults, InputError, explain_errno, explain_os_error, explaining, first_line, locating

SENTENCES = {
    FileNotFoundError: "is not there; check the path",
    (KeyError, IndexError): lambda error: f"has no {error.args[0]}; name another one",
    OSError: lambda error: None if error.errno is None else explain_errno(error),
}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(errno.ENOENT, "secret"), "x: is not there; check the path"),
        (KeyError("column"), "x: has no column; name another one"),
        (IndexError(3), "x: has no 3; name another one"),
        (OSError(errno.EROFS, "secret"), "x: the file system is read-only; choose another folder"),
        (OSError(errno.EIO, "secret"), "x: cannot be used (Input/output error); check it"),
    ],
)  # fmt: skip
def test_the_first_kind_that_fits_gives_the_sentence(error: Exception, text: str) -> None:
    with pytest.raises(InputError) as caught, explaining("x", SENTENCES):
        raise error
    assert str(caught.value) == text
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "error", [InputError("y: has its sentence"), ZeroDivisionError(), OSError("no number"), KeyboardInterrupt()], ids=repr
)
def test_other_errors_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, explaining("x", {**SENTENCES, ValueError: "is no number"}):
        raise error
    assert caught.value is error


def test_a_temporary_file_is_told_with_its_folder() -> None:
    advice = f"(temporary files are in {tempfile.gettempdir()}; TMPDIR says where)"
    assert (
        explain_os_error(OSError(errno.EROFS, "x", "/a/b"))
        == f"/a/b: the file system is read-only; choose another folder {advice}"
    )
    assert explain_os_error(ConnectionError("s3://b/x: no good answer")) == f"s3://b/x: no good answer {advice}"
    assert explain_os_error(OSError()) == f"OSError {advice}"


@pytest.mark.parametrize(
    ("said", "line"), [("one.\ntwo", "one"), ("\n two \n", "two"), ("", "ValueError"), ("x" * 300, "x" * 200)], ids=range(4)
)
def test_the_first_line(said: str, line: str) -> None:
    assert first_line(ValueError(said)) == line


def test_the_place_stands_in_front() -> None:
    with pytest.raises(InputError, match=r"^recipe: sources\.a: is odd$"), locating("recipe"), locating("sources.a"):
        raise InputError("is odd")
    with pytest.raises(ZeroDivisionError), locating("recipe"):
        raise ZeroDivisionError


def test_all_faults_are_told_in_one_message_each_once():
    def refuse(what: str) -> int:
        raise InputError(what)

    faults = Faults()
    assert faults.collect(lambda: 3) == 3
    faults.raise_all()
    assert faults.collect(partial(refuse, "a")) is None
    faults.collect(partial(refuse, "b"), "where: ")
    faults.collect(partial(refuse, "a"))
    with pytest.raises(InputError, match=r"^a\nwhere: b$"):
        faults.raise_all()


def test_what_cannot_be_made_is_not_told_as_missing():
    assert "copied whole" in explain_errno(FileNotFoundError(errno.ENOENT, ""))
    assert explain_errno(FileNotFoundError(errno.ENOENT, ""), writing=True) == "no folder can be made there; choose another one"
