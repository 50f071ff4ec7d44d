"""Stable hashes: against the library one at a time, against big integers, and against numbers written down."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from chameleon_data.hashing import canonical_json, content_hashes, fingerprint, hex_digests, key64, mix64, multiset_hash
from tests.support.paths import ROOT


@given(st.lists(st.text(), max_size=20), st.integers(0, 3))
def test_content_hashes_are_those_of_each_text_alone(texts, skip):
    array = pa.array(texts, pa.large_string())[min(skip, len(texts)) :]
    hi, lo = content_hashes(array)
    expected = [xxhash.xxh3_128_intdigest(t.encode()) for t in array.to_pylist()]
    assert [(int(h) << 64) + int(low) for h, low in zip(hi, lo, strict=True)] == expected
    assert hex_digests(hi, lo).to_pylist() == [f"{value:032x}" for value in expected]
    assert multiset_hash(hi, lo) == sum(expected) % 2**128


def test_keys_are_the_same_everywhere_and_parts_do_not_run_together():
    assert key64(0, "a", "phase") == 0xE00DA0C71AAA4331
    assert len({key64("a", "b"), key64("ab"), key64("a,b"), key64('a","b'), key64("a", "b", 0)}) == 5
    numbers = mix64([np.arange(3), np.array([7, 7, 7])], 5)
    assert numbers.tolist() == [0x8EA5269B74DEE2BC, 0x435EB23196E47BDA, 0x3A3BFC2BF948C770]


def test_mixed_keys_look_uniform():
    values = mix64([np.arange(100_000)], 1)
    assert len(np.unique(values)) == 100_000
    for bit in range(64):
        assert abs(((values >> np.uint64(bit)) & np.uint64(1)).mean() - 0.5) < 0.01


def test_canonical_json_has_one_text_for_one_value():
    assert canonical_json({"b": 1, "a": ["é", None]}) == '{"a":["é",null],"b":1}'.encode()
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    for bad in (float("nan"), {1, 2}, b"bytes"):
        with pytest.raises((TypeError, ValueError)):
            canonical_json(bad)


def test_keys_and_fingerprints_need_neither_pyarrow_nor_polars():
    """So that weights and the embedder run on a machine that has neither."""
    code = """
import sys
sys.modules["pyarrow"] = sys.modules["polars"] = None  # importing them raises
import numpy as np
import chameleon_data.arrays
from chameleon_data.hashing import fingerprint, key64, mix64, multiset_hash
print(key64(0, "a", "phase"), multiset_hash(np.arange(2, dtype="u8"), np.arange(2, dtype="u8")), len(fingerprint({"a": 1})))
print(mix64([np.arange(1)], 5))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split()[:3] == [str(0xE00DA0C71AAA4331), str(2**64 + 1), "64"]
