"""Numbers, names and paths as people read them. A minus is −, and what is unknown is –."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import ceil, isfinite, log10


def format_whole(value: int | None) -> str:
    return "–" if value is None else f"{value:,}".replace("-", "−")


def format_signed(value: int) -> str:
    return "0" if value == 0 else f"{value:+,}".replace("-", "−")


def format_compact(value: int) -> str:
    """Three digits and k, M, B or T."""
    for limit, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**4, "k")):
        if value >= limit:
            return f"{value / (limit if unit != 'k' else 1000):.3g} {unit}"
    return f"{value:,}"


def format_bytes(value: int) -> str:
    for limit, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value} B"


def format_times(ratio: float) -> str:
    """How many times, in digits that tell it from once."""
    return f"{ratio:.2f} times" if ratio < 100 else f"{ratio:,.0f} times"


def format_moment(iso: str) -> str:
    """A time of commit as people write it: its date and minute, in UTC."""
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def list_names(names: Sequence[str], most: int = 3) -> str:
    """The first names in a sentence, and how many more there are; one more is named too."""
    named = most + 1 if len(names) == most + 1 else most
    shown = [isolate_name(name) for name in names[:named]]
    if len(names) > named:
        return f"{', '.join(shown)} and {len(names) - most:,} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def format_percent(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}\u00a0%"


def percent_digits(k: int) -> int:
    """Decimals of a percentage that tell the shares of two of k domains apart."""
    return max(2, ceil(log10(max(k, 1))))


def percent_formatter(k: int) -> Callable[[float | None], str]:
    """Shares of k domains, with digits enough to tell two of them apart."""
    digits = percent_digits(k)
    return lambda value: format_percent(value, digits)


def short_percent_formatter(k: int) -> Callable[[float | None], str]:
    """The same for a sentence: a digit less, or 0.1 % where they are few."""
    digits = percent_digits(k) - 1
    return lambda value: format_percent(value, digits)


def decimal_formatter(digits: int) -> Callable[[float | None], str]:
    return lambda value: "–" if value is None or not isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


def shorten_name(name: str, most: int = 22) -> str:
    """A name of at most `most` characters. Its end stays, as names that begin alike differ there."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - most // 2 + 1 :]}"


def shorten_path(path: str) -> str:
    """The last two parts of a path or URL; a hub id as it is."""
    parts = [part for part in path.split("/") if part]
    return path if len(parts) <= 2 else "…/" + "/".join(parts[-2:])


def isolate_name(name: str, most: int = 40) -> str:
    """A short name between marks of direction, so that one that runs from right to left leaves the words around it in order."""
    return f"\u2068{shorten_name(name, most)}\u2069"
