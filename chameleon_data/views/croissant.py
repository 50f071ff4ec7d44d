"""A version as Croissant 1.1, the JSON-LD by which catalogues of datasets and `mlcroissant` know what a dataset holds.

    distribution   the files of the shards in Parquet, each with its sha256, and a set of them for each split
    recordSet      the columns of the rows, read from these sets

Paths are relative to the dataset's folder: the document belongs there. A version without Parquet has its files, but no record
set, since Croissant knows no other format of ours. Source: http://mlcommons.org/croissant/1.1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.shard_table import SHARDS_LISTED, ShardFile, list_shards
from chameleon_data.versions.versions import Version
from chameleon_data.views.dataset_card import describe_in_words, licences_of, origins_of

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
ENCODINGS = {
    "parquet": "application/x-parquet", "jsonl": "application/jsonlines", "arrow": "application/vnd.apache.arrow.file",
    "webdataset": "application/x-tar",
}  # fmt: skip
"""Format -> media type, as Croissant's examples have it; other formats are bytes."""
CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
    "citeAs": "cr:citeAs", "column": "cr:column", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform", "isArray": "cr:isArray", "arrayShape": "cr:arrayShape",
    "equivalentProperty": "cr:equivalentProperty", "samplingRate": "cr:samplingRate",
}  # fmt: skip
"""What the words of the document mean, as Croissant prescribes it."""
FIELDS = {
    "text": ("sc:Text", "the document"),
    "domain": ("sc:Text", "name of the domain"),
    "domain_id": ("sc:Integer", "number of the domain"),
    "doc_id": ("sc:Text", "hash of the document, 32 hexadecimal digits"),
    "epoch": ("sc:Integer", "how often the domain was read before, from 0"),
    "tokens": ("sc:Integer", "tokens of the row"),
}
"""Column of a row of text -> type and meaning."""


def croissant(store: Store, manifest: Manifest, version: Version) -> str:
    """The document, as JSON."""
    formats = manifest.recipe.shards.formats
    splits = list(manifest.shard_counts) if "parquet" in formats else []
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": manifest.name,
        "description": describe_in_words(manifest),
        "version": f"{version.number}.0.0",
        "datePublished": version.created,
        "identifier": manifest.digest,
        **({"url": store.url} if "://" in store.url else {}),
        **({"license": licences} if (licences := licences_of(manifest)) else {}),
        **({"isBasedOn": origins} if (origins := origins_of(manifest)) else {}),
        "distribution": [*_files(store, manifest), *(_file_set(manifest, split) for split in splits)],
    }
    if splits and manifest.recipe.shards.sequence_length == "none":
        document["recordSet"] = [_record_set(split) for split in splits]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _files(store: Store, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The files of the first SHARDS_LISTED shards, each with its hash."""
    formats = [name for name in manifest.recipe.shards.formats if name == "parquet"] or manifest.recipe.shards.formats[:1]
    for shard in islice(list_shards(store, manifest), SHARDS_LISTED):
        for format in formats:
            yield from (_file(file) for file in shard.of_format(format))


def _file(file: ShardFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": ENCODINGS.get(file.format, "application/octet-stream"),
        "sha256": file.sha256,
    }


def _file_set(manifest: Manifest, split: str) -> dict[str, Any]:
    includes = [f"{build}/parquet/{split}-*.parquet" for build in manifest.shards_by_build(split)]
    return {
        "@type": "cr:FileSet",
        "@id": f"{split}-files",
        "name": f"{split}-files",
        "description": f"the shards of the {split} split in Parquet, to be read in the order of their names",
        "encodingFormat": ENCODINGS["parquet"],
        "includes": includes[0] if len(includes) == 1 else includes,
    }


def _record_set(split: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{split}/{column}",
                "name": column,
                "description": meaning,
                "dataType": kind,
                "source": {"fileSet": {"@id": f"{split}-files"}, "extract": {"column": column}},
            }
            for column, (kind, meaning) in FIELDS.items()
        ],
    }
