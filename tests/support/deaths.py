"""A process that dies at a chosen call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SYSTEM_CALLS = ("mkdir", "open", "fsync", "link", "replace", "unlink", "close")
"""Functions of `os` by which a local store changes its folder."""


class Killed(BaseException):
    """The process died here."""


def die_at(step: int, after: bool, patch: pytest.MonkeyPatch, owner: Any, names: tuple[str, ...]) -> list[str]:
    """Let call number `step` of these functions be the last thing that the process does, before or after it acts.

    Every later call raises Killed as well. Returns the log of calls, which grows.
    """
    log: list[str] = []

    def wrap(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            log.append(name)
            if len(log) > step or (len(log) == step and not after):
                raise Killed
            result = call(*args, **kwargs)
            if len(log) == step:
                raise Killed
            return result

        return wrapped

    for name in names:
        patch.setattr(owner, name, wrap(name, getattr(owner, name)))
    return log
