"""Paths inside `out`: what spells a path and what recognises it agree, and no two kinds of file share a name."""

from __future__ import annotations

from chameleon_data.hashing import fingerprint
from chameleon_data.store import paths
from chameleon_data.store.paths import BuildFolder

DIGEST = fingerprint("x")
BUILD = BuildFolder(DIGEST, 12, "corpus")


def test_what_is_spelled_is_recognised() -> None:
    recognised = {
        paths.manifest_path(DIGEST): (paths.MANIFEST_FILE, (DIGEST,)),
        paths.landmarks_path(DIGEST): (paths.LANDMARKS_FILE, (DIGEST,)),
        paths.version_path(12): (paths.NUMBERED_FILE, ("00000012",)),
        paths.version_path(10**12): (paths.NUMBERED_FILE, (str(10**12),)),
        paths.tombstone_path(3): (paths.NUMBERED_FILE, ("00000003",)),
        paths.tag_path("prod-1.0", 7): (paths.TAG_FILE, ("prod-1.0", "00000007")),
        BUILD.file("parquet/a.parquet"): (paths.BUILD_FILE, (DIGEST, "parquet/a.parquet")),
        BUILD.receipt(range(3, 5)): (paths.BUILD_FILE, (DIGEST, "receipts/0000003-0000004.parquet")),
    }
    for path, (pattern, groups) in recognised.items():
        match = pattern.fullmatch(path)
        assert match is not None, path
        assert match.groups() == groups


def test_what_is_spelled_otherwise_is_not() -> None:
    for path in (
        "_chameleon/versions/v12.json",
        "_chameleon/versions/v00000012.json.bak",
        "_chameleon/versions/v0000００12.json",
    ):
        assert not paths.NUMBERED_FILE.fullmatch(path)
    for name in ("", ".", "..", "-x", "a/b", "a" * 101, "é"):
        assert not paths.TAG_FILE.fullmatch(f"_chameleon/tags/{name}/00000001.json")


def test_no_folder_lies_in_the_place_of_another() -> None:
    folders = [value for name, value in vars(paths).items() if name.isupper() and isinstance(value, str) and "[" not in value]
    assert len(folders) == len(set(folders))
    assert BUILD.runs.startswith(f"{BUILD.all_runs}/")
    assert len({BUILD.receipts, BUILD.all_runs, BUILD.file("parquet"), BUILD.lineage("train", 0)}) == 4
