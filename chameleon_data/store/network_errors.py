"""What the packages of object stores raise, in our terms: a file is missing, a name is taken, it passes, or a person has to act.

An error is known by the HTTP status and code of the server's answer, or else by the names of its classes, so no package of a
store has to be installed. Its own words are not repeated, as they may hold key ids and signed URLs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from chameleon_data.store.urls import CREDENTIALS

ENDPOINTS = {"s3": "AWS_ENDPOINT_URL, AWS_REGION", "gcs": "STORAGE_EMULATOR_HOST", "azure": "AZURE_STORAGE_ACCOUNT_NAME"}
"""Extra -> environment variables that say where the store is."""
MISSING_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
TRANSIENT_STATUS = {408, 409, 425, 429, 500, 502, 503, 504}
"""HTTP statuses after which the same request may succeed. On S3, 409 is a conditional put that met another one."""
TRANSIENT_CODES = {
    "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted", "ConditionalRequestConflict",
    "Throttling", "XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody",
}  # fmt: skip
"""Codes of answers for which the same holds, whatever their status."""
TRANSIENT_ERRORS = {
    "TimeoutError", "ConnectionError", "ClientError", "HTTPClientError", "ResponseParserError", "ChecksumError",
    "FlexibleChecksumError", "IncompleteReadError", "ServiceRequestError", "ServiceResponseError", "TransportError", "gaierror",
}  # fmt: skip
"""Classes of errors without an answer for which the same holds."""
CREDENTIAL_ERRORS = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound", "DefaultCredentialsError",
    "RefreshError", "ClientAuthenticationError", "TokenRetrievalError", "SSOTokenLoadError",
}  # fmt: skip


def library_errors(extra: str) -> tuple[type[BaseException], ...]:
    """The errors that the package of a store may raise although we made no mistake. Imports the package."""
    import aiohttp

    if extra == "s3":
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        return OSError, aiohttp.ClientError, BotoCoreError, ClientError, ResponseParserError
    if extra == "gcs":
        from gcsfs.retry import ChecksumError, HttpError
        from google.auth.exceptions import GoogleAuthError

        return OSError, aiohttp.ClientError, HttpError, ChecksumError, GoogleAuthError
    from azure.core.exceptions import AzureError

    return OSError, aiohttp.ClientError, AzureError


def read_answer(error: BaseException) -> tuple[int | None, str]:
    """HTTP status and error code of the server's answer; (None, "") where there was no answer."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):  # botocore
            code = str(response.get("Error", {}).get("Code", ""))
            if code in ("PreconditionFailed", "InvalidRange"):  # some servers send these with another status
                return {"PreconditionFailed": 412, "InvalidRange": 416}[code], code
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status, "" if code.isdigit() else _word(code)
        status = getattr(cause, "status_code", None) or getattr(cause, "code", None)  # azure, gcsfs
        if str(status).isdigit():
            code = getattr(cause, "error_code", None) or ""
            return int(str(status)), _word(str(getattr(code, "value", code)))
    return None, ""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    status, code = read_answer(error)
    if status is not None:
        return status in TRANSIENT_STATUS or code in TRANSIENT_CODES
    return bool(_class_names(error) & TRANSIENT_ERRORS) and not lacks_credentials(error)


def lacks_credentials(error: BaseException) -> bool:
    """Whether the package found no credentials, or none that still hold."""
    return bool(_class_names(error) & CREDENTIAL_ERRORS)


def explain_credentials(error: BaseException, extra: str) -> str:
    """What to set where `lacks_credentials`."""
    return f"no usable credentials ({_name(error)}); set {CREDENTIALS.get(extra, 'those of the store')}"


def explain_missing_bucket(extra: str) -> str:
    kind = "container" if extra == "azure" else "bucket"
    return f"no such {kind}; create it, or correct the URL or the endpoint ({ENDPOINTS[extra]})"


def explain_refusal(error: BaseException, extra: str, waited: float | None) -> str:
    """What is wrong and what to do. `waited` is for how many seconds the request was repeated, None if that was no use."""
    endpoint, credentials, name = ENDPOINTS[extra], CREDENTIALS[extra], _name(error)
    if lacks_credentials(error):
        return explain_credentials(error, extra)
    if read_answer(error)[0] in (401, 403) or isinstance(error, PermissionError):
        return f"access denied ({name}); the credentials ({credentials}) must allow to list, read, write and delete there"
    if waited is not None:
        return f"no good answer in {waited:.0f} s ({name}); check the network and the endpoint ({endpoint}), then try again"
    return f"the store refused ({name}); check the URL, the region and the endpoint ({endpoint})"


def _name(error: BaseException) -> str:
    status, code = read_answer(error)
    return code or (f"HTTP {status}" if status else type(error).__name__)


def _word(code: str) -> str:
    """At most 60 letters, digits and underscores: a server cannot put a message into a code."""
    return re.sub(r"\W", "", code)[:60]


def _class_names(error: BaseException) -> set[str]:
    """Names of the classes of an error and of its causes."""
    return {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
