"""Manifests for tests: from a few keys, the rest made up; and from what a forger made of one."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from chameleon_data.hashing import canonical_json, fingerprint
from chameleon_data.shards.rows import number_domains
from chameleon_data.store.store import Store
from chameleon_data.versions.corpus_tables import InputFile, read_inputs, read_map, write_input_table, write_map_table
from chameleon_data.versions.manifest import MANIFEST_FORMAT, Manifest, decode_manifest, describe_manifest
from chameleon_data.versions.provenance import sum_inputs
from chameleon_data.versions.records import describe_record
from chameleon_data.versions.shard_table import DOMAIN_SCHEMA, SHARD_SCHEMA, ShardFile, ShardRecord, read_shards
from chameleon_data.versions.tables import TableFile, write_rows
from chameleon_data.weights.mixture import Mixture

NOTHING = fingerprint(None)
DOMAIN = {
    "weight": 0.5, "target_tokens": 10, "tokens": 10, "rows": 2, "epochs": 1.0, "available_tokens": 10, "available_rows": 2,
    "available_bytes": 10, "largest_document": 6, "multiset": "0" * 32, "rows_written_once": 2, "rows_not_selected": 0,
    "copies_written": 0, "most_copies": 1,
}  # fmt: skip
BOOKS = {
    "rows_read": 2, "held_out": 0, "copies_dropped": 0, "filtered": 0, "quarantined": 0, "score": None, "weight_interval": None,
}  # fmt: skip
SHARD = {
    "path": "builds/x/parquet/0", "format": "parquet", "split": "train", "shard": 0, "rows": 2, "tokens": 10, "bytes": 9,
    "sha256": NOTHING, "domain_tokens": {}, "domain_rows": {}, "content": NOTHING,
}  # fmt: skip
"""A file of a shard, with the facts of the shard, as tests write it."""
TABLES = ("shards", "inputs", "map")
"""Tables as tests write them: `shards` stands for both tables of shards."""
PROVENANCE = {
    "files": {}, "tokenizer": "bytes", "packages": {}, "python": "3",
    "code": {"version": "0", "commit": None, "sources": NOTHING},
    "writer": {"formats": {}, "compression": "zstd", "level": 3, "tokens": "bytes", "ids": None, "columns": {}, "messages": {},
               "turns": None},
}  # fmt: skip
LANDMARKS = {
    "kernel": {"name": "rbf", "bandwidth": 1.0, "degree": 2}, "digest": NOTHING, "landmarks": 1, "error": None, "residuals": {},
    "bounds": None, "recorded": False,
}  # fmt: skip
EMBEDDER = {"model": "m", "revision": None, "layer": None, "window": 256, "fingerprint": NOTHING}
WEIGHTS = {
    "origin": "computed", "objective": "pretrain", "preset": "default", "kernel": "linear", "level": "domain", "names": [],
    "unbounded": {}, "moved": [], "effective_domains": 1.0, "scores": {}, "intervals": {}, "rank_stability": {},
    "variance_of_mean": {}, "affinity": None, "ridge": None, "temperature": None, "clipped_mass": 0.0, "nystrom": None,
    "warnings": [],
}  # fmt: skip
RECIPE = {"name": "a", "out": "/out", "sources": {"s": {"path": ["/corpus"]}}}


def digest_files(files: Mapping[str, str]) -> str:
    """`digest` of path in the build's folder -> sha256, in three naive lines."""
    lines = sorted(f"{path}\0{sha256}\n" for path, sha256 in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest_contents(contents: Sequence[str]) -> str:
    """`content_digest` of the shards' content hashes in order."""
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def parse_manifest(plain: Mapping[str, Any]) -> Manifest:
    """The manifest that stands in plain JSON."""
    return decode_manifest(canonical_json(plain), "a test")


def example_manifest(name: str = "a", store: Store | None = None, **changes: Any) -> Manifest:
    """The manifest of a build called `name`; `changes` are keys of its JSON. Each domain, the recipe, the weights and the
    provenance need only the keys that matter. `store` takes its tables: `shards`, a list of files with keys of SHARD, `inputs`,
    a list of files, and `map`."""
    recipe, rows = {**RECIPE, **changes.get("recipe", {})}, {key: changes.pop(key) for key in TABLES if key in changes}
    plain: dict[str, Any] = {
        "format": MANIFEST_FORMAT, "name": name, "plan_digest": fingerprint(name), "digest": fingerprint([name]),
        "content_digest": NOTHING, "build": f"builds/{fingerprint(name)}", "seed": 0, "budget": 10, "shard_count": 1,
        "shard_counts": {"train": 1, **({"validation": 1} if changes.get("validation") else {})}, "unit": "bytes", "hash": "text",
        "domain_ids": number_domains([*changes.get("domains", "s"), *changes.get("validation", ())]), "quarantine": {},
        "filtered": {}, "cut": {}, "columns": {}, "messages": {},
        "timings": {}, "expected": {},
        "reused": {}, "priority": list(recipe["sources"]), "formats": {},
        "tables": {name: [] for name in (*TABLES, "shard_domains")},
        **changes, "recipe": recipe,
        "domains": {n: {**DOMAIN, **BOOKS, **d} for n, d in changes.get("domains", {"s": {}}).items()},
        "validation": {n: {**DOMAIN, **d} for n, d in changes.get("validation", {}).items()},
        "weights": {**WEIGHTS, **changes.get("weights", {})},
        "provenance": {**PROVENANCE, "inputs": {}, **changes.get("provenance", {})},
    }  # fmt: skip
    stage = {"budget": plain["budget"], "shards": plain["shard_counts"]["train"], "weights": None, "build": None, "domains": {
        n: {key: d[key] for key in ("weight", "target_tokens", "tokens", "rows")} for n, d in plain["domains"].items()
    }}  # fmt: skip
    plain.setdefault("stages", [stage])
    if rows:
        assert store is not None, "tables lie on a store"
        write_tables(store, plain, rows)
    return parse_manifest(plain)


def write_tables(store: Store, plain: dict[str, Any], rows: Mapping[str, Any]) -> None:
    """Write tables of these rows, and name them and their sums in the JSON of a manifest."""
    if "shards" in rows:
        files = [{**SHARD, **file} for file in rows["shards"]]
        plain["formats"] = {}
        for file in files:
            sums = plain["formats"].setdefault(file["format"], {"files": 0, "bytes": 0})
            sums["files"] += 1
            sums["bytes"] += file["bytes"]
        both = write_shards(store, group_files(files), plain["domain_ids"])
        plain["tables"]["shards"], plain["tables"]["shard_domains"] = map(_list, both)
    if "inputs" in rows:
        inputs = [InputFile(**fragment) for fragment in rows["inputs"]]
        plain["provenance"]["inputs"] = describe_record_map(sum_inputs(inputs))
        plain["tables"]["inputs"] = _list(write_input_table(store, inputs))
    if "map" in rows:
        plain["tables"]["map"] = _list(write_map_table(store, rows["map"]))


def write_shards(
    store: Store, shards: Sequence[ShardRecord], domain_ids: Mapping[str, int], at_once: int = 1024
) -> tuple[tuple[TableFile, ...], tuple[TableFile, ...]]:
    """Write both tables of shards, some shards at once."""
    rows = [
        {**vars(s), "files": [vars(file) for file in s.files], "domain_ids": [domain_ids[name] for name in s.domain_rows],
         "domain_rows": list(s.domain_rows.values()), "domain_tokens": [s.domain_tokens[name] for name in s.domain_rows]}
        for s in shards
    ]  # fmt: skip
    some = [rows[at : at + at_once] for at in range(0, len(rows), at_once)]
    one, other = (
        write_rows(store, (pa.Table.from_pylist([{n: row[n] for n in schema.names} for row in r], schema) for r in some))
        for schema in (SHARD_SCHEMA, DOMAIN_SCHEMA)
    )
    return one, other


def _list(files: Any) -> list[dict[str, Any]]:
    return [vars(file) for file in files]


def describe_record_map(records: Mapping[str, Any]) -> dict[str, Any]:
    return {key: describe_record(record) for key, record in records.items()}


def group_files(files: Sequence[Mapping[str, Any]]) -> list[ShardRecord]:
    """The shards of files that stand by format; what is said of the first file of a shard holds for the shard."""
    grouped: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for file in files:
        grouped.setdefault((file["split"], file["shard"]), []).append(file)
    shards = []
    for _, of_shard in sorted(grouped.items()):
        first = {key: value for key, value in of_shard[0].items() if key not in ("path", "format", "bytes", "sha256")}
        first["domain_tokens"] = {name: first["domain_tokens"].get(name, 0) for name in first["domain_rows"]}
        own = tuple(ShardFile(f["path"], f["format"], f["bytes"], f["sha256"]) for f in of_shard)
        shards.append(ShardRecord(**first, files=own))
    return shards


def list_files(store: Store, manifest: Manifest) -> list[dict[str, Any]]:
    """Every file of every shard, with the keys of SHARD: by format in the recipe's order, then by split, then by shard."""
    shards, formats = list(read_shards(store, manifest)), [*manifest.recipe.shards.formats, *sorted(manifest.formats)]
    return [
        {**{key: value for key, value in vars(shard).items() if key != "files"}, **vars(file)}
        for format in dict.fromkeys(formats)
        for shard in shards
        for file in shard.of_format(format)
    ]


def list_paths(store: Store, manifest: Manifest, format: str = "parquet", split: str = "train") -> list[str]:
    """Paths of the shards of a split in one format, in order."""
    return [file.path for shard in read_shards(store, manifest) if shard.split == split for file in shard.of_format(format)]


def with_files(store: Store, manifest: Manifest, files: Sequence[Mapping[str, Any]]) -> Manifest:
    """The manifest with a table of these files, which have keys of SHARD."""
    return forge(store, manifest, lambda plain: plain.update(shards=list(files)))


def forge(store: Store, manifest: Manifest, change: Callable[[dict[str, Any]], object]) -> Manifest:
    """What a forger makes of a manifest by changing its JSON and its tables, which are its keys `shards`, `inputs` and `map`."""
    plain = describe_manifest(manifest)
    rows: dict[str, Any] = {
        "shards": list_files(store, manifest), "inputs": [vars(fragment) for fragment in read_inputs(store, manifest)],
        "map": read_map(store, manifest),
    }  # fmt: skip
    before = {key: copy.deepcopy(value) for key, value in rows.items()}
    plain |= rows
    change(plain)
    write_tables(store, plain, {key: plain[key] for key in TABLES if plain[key] != before[key]})
    for key in TABLES:
        del plain[key]
    return parse_manifest(plain)


def example_mixture(decimals: Mapping[str, str]) -> Mixture:
    """A mixture of which nothing is known but that the weights were given."""
    return Mixture(dict(decimals), example_manifest().weights, {})
