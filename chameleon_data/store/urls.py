"""What a URL may say: its kind of store, and nothing that could be a secret.

Light, because recipes are read where no store is. Credentials come from the environment, since manifests, caches and logs
repeat URLs.
"""

from __future__ import annotations

import re

from chameleon_data.errors import InputError

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
"""Scheme of the URL -> extra of this package that brings what reads it."""
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or a service principal",
}


def scheme_of(url: str) -> str:
    """`s3` of s3://bucket, in lower case; empty for a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return match[1].lower() if match else ""


def refuse_secrets(url: str) -> None:
    """Raise InputError, without repeating it, for a URL whose parts may be a key or a signature: user, query, fragment.

    `?` as one character of a pattern cannot be told from a query, so it is none.
    """
    scheme = scheme_of(url)
    if scheme in ("", "file", "local", "memory"):
        return
    rest, extra = url.partition("://")[2], EXTRAS.get(scheme, "")
    host = rest.split("/")[0]
    instead = f"write {scheme}://bucket/folder and set {CREDENTIALS[extra]}" if extra else "use a store with its own credentials"
    named = bool(extra) and ":" in host and not host.startswith("arn:")  # elsewhere it is a port
    if named or ("@" in host and extra != "azure"):
        raise InputError(f"{scheme}://…: credentials do not belong in a URL, which manifests and logs repeat; {instead}")
    if "?" in rest or "#" in rest:
        raise InputError(
            f"{scheme}://…: a query does not belong in the URL, as it may hold a key or a signature; {instead}; "
            "in a pattern write * or [a-z0-9] instead of ?"
        )
