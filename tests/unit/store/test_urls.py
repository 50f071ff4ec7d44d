"""Which URLs name a folder, and that none with a secret is taken or repeated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.store.urls import check_folder_url
from tests.support.secrets import CANARY, shown


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIA:{CANARY}@bucket/x", f"s3://AKIA:{CANARY}/tail@bucket/x", f"s3://{CANARY}@bucket/x", f"gs://user:{CANARY}@bucket",
        f"s3://bucket/x?X-Amz-Signature={CANARY}", f"abfs://c:{CANARY}@account.dfs.core.windows.net/x", f"az://c/x?sig={CANARY}",
        f"az://c/x#{CANARY}", f"ftp://user:{CANARY}@host/x", f"https://host/x?token={CANARY}", f"simplecache::s3://k:{CANARY}@b/x",
        f"file://user:{CANARY}@host/x",
    ],
)  # fmt: skip
def test_a_url_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Store(url)
    assert CANARY not in shown(caught.value)


@pytest.mark.parametrize(
    "url", ["", "s3://", "s3:///", "gs://", "file://", "file://host/x", "hf://datasets/x", "zip://a::b.zip", "x\0y"]
)
def test_other_urls_that_name_no_folder(url: str) -> None:
    with pytest.raises(InputError):
        Store(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://bucket/a@b/c:d",
        "abfs://container@account.dfs.core.windows.net/x",
        "memory://a/b?c",
        "/tmp/a@b:c?d#e",
        "/tmp/a::b/c",
        "s3://b/a::b #?%41/year=1",
    ],
)
def test_urls_that_only_look_odd(url: str) -> None:
    assert Store(url).url == url


def test_a_folder_below_one_whose_name_is_not_utf8_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    for url in (str(folder / "out"), "out"):
        with pytest.raises(InputError, match=r"caf\\udce9/out: .* is not UTF-8; rename it"):
            check_folder_url(url)
