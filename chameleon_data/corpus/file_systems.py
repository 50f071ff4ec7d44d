"""The file systems that a corpus lies in, and what their errors mean to a person."""

from __future__ import annotations

import lzma
import os
import re
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.utils import glob_translate

from chameleon_data.errors import explaining, first_line
from chameleon_data.store.network_errors import explain_credentials, is_transient, lacks_credentials
from chameleon_data.store.urls import EXTRAS, refuse_chain, scheme_of

ListingEntry = dict[str, Any]
"""An entry of an fsspec listing: name, type, size and whatever the store adds."""


def open_file_system(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it. A path is taken as it stands, whatever characters it holds."""
    refuse_chain(url)
    scheme = scheme_of(url)
    with explaining(url, {(ValueError, ImportError): lambda error: f"this kind of URL cannot be opened ({first_line(error)})"}):
        kind = fsspec.get_filesystem_class(scheme or "file")
        fs = fsspec.filesystem(scheme or "file", **(kind._get_kwargs_from_urls(url) if scheme else {}))
    return fs, str(fs._strip_protocol(url)) if scheme else os.path.normpath(url)


def is_local(fs: Any) -> bool:
    """Whether its files are this machine's."""
    return isinstance(fs, fsspec.get_filesystem_class("file"))


def url_in(fs: Any, path: str) -> str:
    """What stands for a path of this file system in fragments and messages: the path, or a URL."""
    return os.path.normpath(path) if is_local(fs) else str(fs.unstrip_protocol(path))


def pattern_matcher(pattern: str) -> Callable[[str], object]:
    """A function that says whether a path matches. `*` and `?` stop at `/`, and `**` does not. ValueError for a wrong pattern."""
    return re.compile(glob_translate(pattern)).match


def explain_read_errors(where: str) -> AbstractContextManager[None]:
    """Turn what a person can mend into InputError. Network faults pass, so that the task can be tried again."""

    def explain_network(error: Exception) -> str | None:
        if is_transient(error):  # what a store's package says of the network need not be an OSError
            raise ConnectionError(f"{where}: no good answer ({type(error).__name__})") from None
        scheme = where.partition("://")[0].rpartition(" ")[2].lower()
        return explain_credentials(error, EXTRAS.get(scheme, "")) if lacks_credentials(error) else None

    return explaining(
        where,
        {
            FileNotFoundError: "no such file; check the path",
            PermissionError: "may not be read; check its permissions or your credentials",
            pa.ArrowNotImplementedError: _lacking,
            (pa.ArrowException, UnicodeDecodeError, EOFError, zlib.error, lzma.LZMAError): _damage,  # also: odd names of columns
            OSError: lambda error: _damage(error) if type(error) is OSError and error.errno is None else None,  # Arrow's own
            Exception: explain_network,
        },
    )


def _lacking(error: BaseException) -> str:
    return f"uses what this reader cannot do ({first_line(error)}); write it again with plain strings and another compression"


def _damage(error: BaseException) -> str:
    fault = first_line(error)
    if any(word in fault.lower() for word in ("encrypt", "decrypt")):
        return f"is encrypted ({fault}); write it again without encryption"
    if any(word in fault for word in ("not built", "not implemented", "NotImplemented", "not supported", "Unsupported")):
        return _lacking(error)
    if "emory usage limit" in fault:
        return "its xz window is larger than 256 MiB; compress it again at a lower level"
    if "Unknown frame descriptor" in fault:  # not at its start, which was looked at
        return "holds something else behind the end of its zstd data; cut that off, or compress the content again"
    if "Truncated" in fault:
        return f"truncated ({fault}); fetch it again, or leave it out of 'path'"
    if "Dictionary mismatch" in fault:
        return "was compressed with a zstd dictionary, which is not in the file; compress it again without one"
    if "too much memory" in fault:
        return "its zstd window is larger than 128 MiB; compress it again without --long, or with --long=27"
    return f"truncated or damaged, or not what its name says ({fault}); fetch it again, or leave it out of 'path'"
