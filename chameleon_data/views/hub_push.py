"""A version on the Hugging Face hub: its Parquet and its card, in one commit of a dataset, with a tag of the version's name.

    README.md           the card (`dataset_card.py`), whose front matter tells `datasets` which files are of which split
    parquet/*.parquet   the shards

The commit also removes the Parquet files of an earlier push that this version has not, so that `main` is one version, whole or
not at all. A dataset that is not there is made, and is private. Where the tag exists and its card is this one, nothing is sent.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chameleon_data.corpus.hub_revisions import explaining_hub
from chameleon_data.errors import InputError
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.shard_table import list_shards
from chameleon_data.versions.versions import Version
from chameleon_data.views.dataset_card import dataset_card

PUSHED_FORMAT = "parquet"
CARD_FILE = "README.md"


@dataclass(frozen=True)
class HubPush:
    """What a push left on the hub."""

    dataset: str
    """ORG/NAME."""
    url: str
    commit: str
    tag: str
    files: int
    """Files that this push sent; 0 where the version was there."""


def push_version(
    store: Store, manifest: Manifest, version: Version, dataset: str, progress: Callable[[int, int], object]
) -> HubPush:
    """Send a version to a dataset of the hub. Memory: a shard.

    Raises InputError where the version holds no Parquet, where the hub refuses, and where the tag is another version's.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    if PUSHED_FORMAT not in manifest.recipe.shards.formats:
        raise InputError("the hub shows Parquet, which this version has not; build one with 'shards: {formats: [parquet]}'")
    card, tag, api = dataset_card(manifest, version).encode(), f"v{version.number}", HfApi()
    with explaining_hub(dataset):
        url = str(api.create_repo(dataset, repo_type="dataset", private=True, exist_ok=True))
        tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(dataset, repo_type="dataset").tags}
        if tag in tags:
            _refuse_another(api, dataset, tag, card)
            return HubPush(dataset, url, tags[tag], tag, 0)
        shards = [file for record in list_shards(store, manifest) for file in record.of_format(PUSHED_FORMAT)]
        names = {file.path: file.path_in_build for file in shards}
        operations: list[Any] = [CommitOperationAdd(CARD_FILE, card)]
        for done, (path, name) in enumerate(names.items()):
            addition = CommitOperationAdd(name, io.BytesIO(store.read(path)))
            api.preupload_lfs_files(dataset, additions=[addition], repo_type="dataset", num_threads=1)
            operations.append(addition)
            progress(done + 1, len(names))
        there = api.list_repo_files(dataset, repo_type="dataset")
        stale = (name for name in there if name.startswith(f"{PUSHED_FORMAT}/") and name not in names.values())
        operations += [CommitOperationDelete(name) for name in stale]
        message = f"{manifest.name} {tag}, content {manifest.content_digest}"
        made = api.create_commit(dataset, operations, commit_message=message, repo_type="dataset")
        api.create_tag(dataset, tag=tag, revision=made.oid, repo_type="dataset", tag_message=manifest.digest)
    return HubPush(dataset, url, made.oid, tag, len(names) + 1)


def _refuse_another(api: Any, dataset: str, tag: str, card: bytes) -> None:
    """Raise InputError unless the card at a tag is this one."""
    from huggingface_hub import HfFileSystem

    files = HfFileSystem(endpoint=api.endpoint)
    if bytes(files.cat_file(f"datasets/{dataset}@{tag}/{CARD_FILE}")) != card:
        raise InputError(
            f"the tag {tag} of {dataset} is another version, or one whose card was changed; delete the tag on the hub, or push "
            "to another dataset"
        )
