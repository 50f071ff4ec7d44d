"""A secret that must not get out, and all that an error shows of it."""

from __future__ import annotations

import pickle
import traceback

CANARY = "wJalrXUtnFEMI-K7MDENG-canary"


def shown(error: BaseException) -> str:
    """All that an exception shows anywhere, its causes and its pickle too."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(pickle.dumps(error))
