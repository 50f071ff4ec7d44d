"""Raw rows to blocks. Oracle: each row by itself, with Python's `decode` and `strip`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.corpus.readers.rows import REASONS, Fault, RawRows
from chameleon_data.corpus.readers.validate import validate_rows
from chameleon_data.recipe import Source, check_domain_name
from tests.support.reader_files import quick

LONGEST = 6
BLANKS = st.text(st.sampled_from(" \n\x85\xa0\u2003\u3000\u200bx"), max_size=3).map(str.encode)
VALUES = st.binary(max_size=8) | BLANKS | st.text(max_size=3).map(str.encode)


def naive_fault(text: bytes, read: int, domain: bytes | None, id: bytes | None) -> Fault:
    if read:
        return Fault(read)
    if len(text) > LONGEST:
        return Fault.TOO_LONG
    try:
        if not text.decode().strip():
            return Fault.BLANK
    except UnicodeDecodeError:
        return Fault.NOT_UTF8
    try:
        if domain is None:
            return Fault.NO_DOMAIN
        check_domain_name(domain.decode().replace("old", "new"))
    except ValueError:  # not UTF-8, or no name
        return Fault.BAD_DOMAIN
    try:
        return Fault.NONE if id and id.decode() else Fault.NO_ID
    except UnicodeDecodeError:
        return Fault.ID_NOT_UTF8


@quick
@given(
    st.lists(
        st.tuples(
            VALUES,
            st.sampled_from([0, 0, 0, Fault.BROKEN_JSON]),
            st.none() | st.sampled_from([b"web", b"old", b" ", b"\xff"]),
            st.none() | st.sampled_from([b"1", b"", b"\xff"]),
        ),
        max_size=12,
    ),
    st.integers(0, 3),
)
def test_each_row_by_itself(rows: list[tuple[bytes, int, bytes | None, bytes | None]], skipped: int) -> None:
    texts = [b"" if read else text for text, read, _, _ in rows]
    faults = [naive_fault(text, *rest) for text, (_, *rest) in zip(texts, rows, strict=True)]

    def column(values: list[bytes | None]) -> pa.Array:
        """As a slice of a larger array, as readers give them."""
        return pa.array([b"left out"] * skipped + values, pa.large_binary()).slice(skipped)

    raw = RawRows(
        column(texts),
        np.arange(100, 100 + len(rows)),
        np.array([read for _, read, _, _ in rows], np.uint8),
        column([domain for _, _, domain, _ in rows]),
        column([id for _, _, _, id in rows]),
    )
    source = Source(path=("x",), domain="set", id="id", rename={"old": "new"})
    block = validate_rows(raw, source, "own", LONGEST)
    good = [i for i, fault in enumerate(faults) if fault == Fault.NONE]
    assert block.rows.tolist() == [100 + i for i in good]
    assert block.text.to_pylist() == [texts[i].decode() for i in good]
    assert [block.names[code] for code in block.domain] == [(rows[i][2] or b"").decode().replace("old", "new") for i in good]
    assert block.ids is not None
    assert block.ids.to_pylist() == [(rows[i][3] or b"").decode() for i in good]
    assert [(b.row, b.reason) for b in block.bad] == [(100 + i, REASONS[f]) for i, f in enumerate(faults) if f != Fault.NONE]
