"""What a node that differs from the driver is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chameleon_data.pipelines import nodes
from chameleon_data.pipelines.nodes import BYTE_PACKAGES, Common, common_to_nodes, explain_differences, find_differences
from chameleon_data.recipe import Shards
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.store.store import Store


def test_a_node_like_the_driver_differs_in_nothing(store: Store) -> None:
    with common_to_nodes([store, store]) as common:
        assert find_differences(common) == ([], [])
        (_,) = common.folders
    assert store.list() == {}, "the nonce goes with the driver"


@pytest.mark.parametrize("name", [nodes.THIS_CODE, "python", *BYTE_PACKAGES])
def test_another_version_of_whatever_decides_bytes_is_named(name: str) -> None:
    mine = nodes.bytes_versions()
    other = tuple((key, "0" if key == name else version) for key, version in mine.items())
    assert find_differences(Common(other, ())) == ([f"{name} {mine[name]} and not 0"], [])


def test_every_library_of_a_writer_is_compared() -> None:
    """What stands in the plan digest, under the names of packages."""
    libraries = {key for form in FORMATS.values() for key in form.WRITER} & nodes.package_versions().keys()
    assert libraries
    assert libraries <= set(BYTE_PACKAGES)
    assert Shards().formats


def test_another_folder_is_named(store: Store, tmp_path) -> None:
    with common_to_nodes([store]) as common:
        ((url, single_writer, nonce),) = common.folders
        there = Store(str(tmp_path / "another"))
        for folder, body, fault in ((there, None, "is missing"), (there, b"else", "something else")):
            if body:
                folder.write(nonce, body)
            _, (said,) = find_differences(replace(common, folders=((folder.url, single_writer, nonce),)))
            assert said.startswith(f"{folder.url} is another folder there: ")
            assert fault in said
        store.remove([nonce])
        _, (said,) = find_differences(common)
        assert said.startswith(f"{url} is another folder there")


def test_one_message_says_which_node_what_differs_and_what_to_do() -> None:
    assert explain_differences({"a": ([], []), "b": ([], [])}) == ""
    found = {f"gpu{n}": (["pyarrow 25 and not 26", "python 3.12 and not 3.11"], []) for n in range(10)}
    lines = explain_differences({**found, "disk": ([], ["/out is another folder there"])}).splitlines()
    assert lines[0] == "node gpu0: pyarrow 25 and not 26, python 3.12 and not 3.11"
    assert lines[8] == "and 2 more nodes"
    assert "constraints.txt" in lines[9]
    assert "jobs/cluster/submit" in lines[9]
    assert lines[10] == "node disk: /out is another folder there"
    assert "all nodes share" in lines[11]
