"""TEMPORARY"""
from __future__ import annotations
import json, hashlib
from dataclasses import dataclass
from typing import Any
from chameleon_data.storage import Store
@dataclass(frozen=True)
class Version:
    number: int; manifest: str; plan_digest: str; digest: str; created: str | None
def list_versions(store: Store) -> list[Version]:
    return [Version(**json.loads(store.read(p))) for p in store.list("_chameleon/versions")]
def commit(store: Store, manifest: dict[str, Any], created: str) -> Version:
    for v in list_versions(store):
        if v.digest == manifest["digest"]: return v
    data = json.dumps(manifest).encode(); sha = hashlib.sha256(data).hexdigest()
    store.write_new(f"_chameleon/manifests/{sha}.json", data)
    n = len(list_versions(store)) + 1
    v = Version(n, sha, manifest["plan_digest"], manifest["digest"], created)
    store.write_new(f"_chameleon/versions/v{n:08d}.json", json.dumps(v.__dict__).encode()); return v
def resolve(store: Store, ref: str) -> Version: return list_versions(store)[-1]
def load_manifest(store: Store, v: Version) -> dict[str, Any]: return json.loads(store.read(f"_chameleon/manifests/{v.manifest}.json"))
def split_target(t: str) -> tuple[str, str]: return (t.split("@")[0], (t.split("@") + ["latest"])[1])
def tag_version(*a: Any) -> None: ...
