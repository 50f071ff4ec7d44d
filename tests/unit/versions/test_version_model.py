"""The version store against a dictionary, in memory. tests/system/test_soak.py plays on a disk and on S3."""

from __future__ import annotations

from chameleon_data.store.store import Store
from tests.soak.version_model import play


def test_the_version_store_against_a_dictionary(memory_store: Store) -> None:
    play(memory_store, games=15, steps=20)
