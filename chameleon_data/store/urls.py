"""What a URL may say: which kind of store it names, and nothing that could be a secret.

Credentials come from the environment, because manifests, caches and logs repeat URLs. This module imports no store, because
recipes are also read where no store is installed.
"""

from __future__ import annotations

import re
from pathlib import Path

from chameleon_data.errors import InputError

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
"""Scheme of a URL -> extra of this package that installs the reader for it."""
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or a service principal",
}
"""Extra -> environment variables that hold the credentials."""


def scheme_of(url: str) -> str:
    """`s3` for s3://bucket, in lower case; empty for a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return match[1].lower() if match else ""


def local_folder(url: str) -> Path | None:
    """The path that a URL names on this machine; None for another kind of store."""
    scheme = scheme_of(url)
    return Path(url.partition("://")[2] if scheme else url) if scheme in ("", "file", "local") else None


def check_folder_url(url: str) -> str:
    """The URL of a folder that versions can be kept in; a path is made absolute, as workers run in other folders.

    Raises InputError for any other URL, without repeating a part that may be a secret.
    """
    scheme = scheme_of(url)
    rest = url.partition("://")[2] if scheme else url
    refuse_chain(url)
    if "\0" in url:
        raise InputError("the path of the folder holds a NUL character, which no path does")
    whole = url if scheme else str(Path(url).absolute())
    if not is_unicode(whole):
        where = f"{scheme}://…" if scheme else ascii(whole)[1:-1]
        raise InputError(f"{where}: the folder's name, or that of one above it, is not UTF-8; rename it")
    if scheme not in ("", "file", "local", "memory", *EXTRAS):
        raise InputError(f"{scheme}://…: versions cannot be kept there; use a local folder, s3://, gs:// or abfs://")
    if not rest or (scheme in EXTRAS and not rest.strip("/")):
        raise InputError(f"the folder {url!r} has no name; write a path, or, say, s3://bucket/folder")
    if scheme in ("file", "local") and not rest.startswith("/"):
        raise InputError(f"{scheme}://…: names a machine, not a folder; write {scheme}:///folder")
    refuse_secrets(url)
    return whole


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can write it. The name of a file that is not UTF-8 has halves of surrogate pairs in Python."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_chain(url: str) -> None:
    """Raise InputError for a chain of URLs, which would reach past the file system that it begins with. A name may hold '::'."""
    scheme = scheme_of(url)
    if "::" in url and (
        re.search(r"::[A-Za-z][A-Za-z0-9+.-]*://", url) or scheme not in ("", "file", "local", "memory", *EXTRAS)
    ):
        raise InputError("chained URLs ('::') are not allowed; name one file system")


def refuse_secrets(url: str) -> None:
    """Raise InputError for a URL with a user, a query or a fragment, any of which may be a key; the message does not repeat it.

    Keys of S3 and Google Cloud Storage may hold `?` and `#`. There only what has the form of a parameter is a query.
    """
    scheme = scheme_of(url)
    if scheme in ("", "file", "local", "memory"):
        return
    rest, extra = url.partition("://")[2], EXTRAS.get(scheme, "")
    host = rest.split("/")[0]
    instead = f"write {scheme}://bucket/folder and set {CREDENTIALS[extra]}" if extra else "use a store with its own credentials"
    key = bool(extra) and ":" in host and not host.startswith("arn:")  # with another scheme it is a port
    if key or ("@" in host and extra != "azure"):
        raise InputError(f"{scheme}://…: credentials do not belong in a URL, which manifests and logs repeat; {instead}")
    if re.search(r"[?#&][^/?#&=]*=" if extra in ("s3", "gcs") else r"[?#]", rest):
        raise InputError(
            f"{scheme}://…: a query does not belong in the URL, as it may hold a key or a signature; {instead}; "
            "in a pattern write * or [a-z0-9] instead of ?"
        )
