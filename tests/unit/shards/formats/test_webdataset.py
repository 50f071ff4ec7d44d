"""Tar files: their keys, and sizes that are not believed. The bytes are compared with TarWriter's in tests/official."""

from __future__ import annotations

import pytest

from chameleon_data.errors import InputError
from chameleon_data.plan.plan import TRAIN
from chameleon_data.shards.formats import webdataset
from tests.support.shard_rows import TEXTS, bytes_of

SMALL = TEXTS.slice(1, 3)


def test_a_shard_under_the_name_of_another_is_seen_by_its_keys() -> None:
    (body,) = webdataset.encode(SMALL, 3, 9, TRAIN, None).files.values()
    with pytest.raises(InputError, match="other bytes than these rows are written as under this name"):
        webdataset.decode({"train-00004.tar": body}, "here")


@pytest.mark.parametrize("size", [b"7" * 11, b"-0000001000"])
def test_sizes_that_are_not_there_are_refused_before_they_are_allocated(size: bytes) -> None:
    ((name, body),) = bytes_of(webdataset.encode(SMALL, 0, 1, TRAIN, None)).items()
    with pytest.raises(InputError, match="here: damaged tar file"):
        webdataset.decode({name: body[:124] + size + body[135:]}, "here")
