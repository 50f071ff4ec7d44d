"""Where the rows of a corpus are kept (`kept_rows.py`), and whether there is room for them.

They lie in a folder of this machine: `out` if it is one, else the folder of `--scratch`. On an object store, where a search of a
file is several requests, a second reading of the corpus costs less. Why: docs/decisions/043-kept-rows.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chameleon_data.corpus.fragments import Fragment
from chameleon_data.corpus.tokens import TokenCounter
from chameleon_data.errors import InputError, explain_errno, explaining
from chameleon_data.store.paths import KEPT_ROWS
from chameleon_data.store.store import Store

EXPANSION = 4
"""Bytes of text in a byte of a compressed file or of a Parquet file, about: zstd at level 3 gives 2.5 to 3.5."""


@dataclass(frozen=True)
class RowStore:
    """Where rows are kept, and what their bodies are."""

    store: Store
    """A folder of this machine."""
    kind: str
    """text; columns: texts with their kept columns; or ids-N, token ids where N ends a text."""

    @property
    def ids(self) -> bool:
        """Whether the bodies are token ids."""
        return self.kind.startswith("ids-")

    @property
    def columns(self) -> bool:
        """Whether kept columns lie behind the texts."""
        return self.kind == "columns"


def choose_row_store(
    keep: Literal["auto", False], out: Store, scratch: Store | None, packing: bool, counter: TokenCounter, columns: bool = False
) -> RowStore | None:
    """Where to keep rows, as ids where they are packed, or with `columns`; `keep` is `survey.keep` of the recipe. None: nowhere.

    Raises InputError where `scratch` is not a folder of this machine.
    """
    store = scratch or out
    if store.local(KEPT_ROWS) is None:
        if scratch:
            raise InputError(f"--scratch {store.url}: is not a folder of this machine; name one, or leave --scratch out")
        return None
    if not keep:
        return None
    kind = f"ids-{counter.required_end}" if packing else "columns" if columns else "text"
    return RowStore(store, kind)


def explain_missing_room(rows: RowStore, fragments: Iterable[Fragment]) -> str:
    """Why there is no room to keep the rows of these fragments; empty where there is.

    Room is needed twice: for the rows, and for shards that hold as much.
    """
    folder = rows.store.local(KEPT_ROWS) or Path()
    while not folder.exists():
        folder = folder.parent
    needed = 2 * sum(_text_bytes(fragment) for fragment in fragments)
    free = _free_bytes(folder)
    if needed <= free:
        return ""
    return f"{rows.store.url} has {free:,} bytes free, and {needed:,} may be needed; make room, or name a folder with --scratch"


def _free_bytes(folder: Path) -> int:
    with explaining(str(folder), {OSError: explain_errno}):
        return shutil.disk_usage(folder).free


def _text_bytes(fragment: Fragment) -> int:
    packed = fragment.compression != "none" or fragment.format == "parquet"
    return fragment.size * (EXPANSION if packed else 1)
