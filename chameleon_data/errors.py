"""The one error a person is meant to read: what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(ValueError):
    """The recipe, the corpus or the stored data cannot give an answer. The command exits with 2 and prints this text."""


class DefectError(RuntimeError):
    """This program contradicts itself, whatever was typed or read. The command exits with 70 and prints the traceback."""


def list_some(items: Sequence[str], most: int = 8) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(items[:most]) + (f" and {len(items) - most:,} more" if len(items) > most else "")


def escape_unprintable(text: str) -> str:
    """The text with what a terminal would obey (escape sequences, bells, turns of direction) written out; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t\u00a0" else c.encode("unicode_escape").decode() for c in text)
