"""A stand-in for the Hugging Face hub on 127.0.0.1: datasets with commits and tags in memory, and what `huggingface_hub` asks of
them over HTTP. It knows no users: who has the token may do anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_secret"
Files = dict[str, bytes]


@dataclass
class HubRepository:
    """A dataset: its commits in order, and names for some."""

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, files: Files, branch: str = "main") -> str:
        """A commit with these files; its number."""
        number = hashlib.sha1(f"{len(self.commits)} {branch}".encode()).hexdigest()
        self.commits[number], self.branches[branch] = files, number
        return number

    def resolve(self, revision: str) -> str | None:
        """The commit that a name or number stands for."""
        return self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    url: str = ""
    repositories: dict[str, HubRepository] = field(default_factory=dict)
    uploads: Files = field(default_factory=dict)
    """Objects of LFS by their sha256."""
    asked: Counter[str] = field(default_factory=Counter)
    """Kind of a request -> how often it came."""

    def environment(self) -> dict[str, str]:
        """For a process that is to use it in the hub's place."""
        return {
            "HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub without datasets."""
    hub = Hub()
    handler = type("HubHandler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def _describe(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    return {**entry, "lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        for verb, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method in verb.split():
                self.hub.asked[answer.__name__.strip("_")] += 1
                answer(self, body, *(unquote(group or "") for group in found.groups()))
                return
        self._say({"error": f"no such thing: {method} {path}"}, 404)

    def _say(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _find(self, name: str, revision: str = "main") -> tuple[HubRepository, str] | None:
        """The dataset and the commit; None, and an answer, where there is none."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._say({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return None
        number = repository.resolve(revision)
        if number is None:
            self._say({"error": f"Invalid rev id: {revision}"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return repository, number

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = "/".join(filter(None, (asked.get("organization") or "me", asked["name"])))
        if name in self.hub.repositories:
            self._say({"error": "You already created this dataset repo", "url": f"{self.hub.url}/datasets/{name}"}, 409)
            return
        made = self.hub.repositories[name] = HubRepository(private=asked.get("visibility") == "private")
        made.commit({".gitattributes": b""})
        self._say({"url": f"{self.hub.url}/datasets/{name}", "name": name, "id": name})

    def _info(self, body: bytes, name: str, revision: str = "main") -> None:
        if found := self._find(name, revision):
            siblings = [{"rfilename": path} for path in found[0].commits[found[1]]]
            self._say({"id": name, "sha": found[1], "private": found[0].private, "siblings": siblings, "tags": []})

    def _refs(self, body: bytes, name: str) -> None:
        if found := self._find(name):
            kinds = (("branches", "heads", found[0].branches), ("tags", "tags", found[0].tags))
            listed = {
                key: [{"name": ref, "ref": f"refs/{kind}/{ref}", "targetCommit": number} for ref, number in names.items()]
                for key, kind, names in kinds
            }
            self._say({**listed, "converts": []})

    def _tree(self, body: bytes, name: str, revision: str, folder: str = "") -> None:
        if not (found := self._find(name, revision)):
            return
        files, entries, folders = found[0].commits[found[1]], list[dict[str, Any]](), set[str]()
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
        below = {path: data for path, data in files.items() if path.startswith(prefix)}
        for path, data in below.items():
            inner = path[len(prefix) :].split("/")
            names = [prefix + "/".join(inner[:end]) for end in range(1, len(inner))]
            folders.update(names if recursive else names[:1])
            if recursive or len(inner) == 1:
                entries.append(_describe(path, data))
        if prefix and not below:
            self._say({"error": "no such path"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        of_folders = [{"type": "directory", "path": each, "oid": "0" * 40, "size": 0} for each in sorted(folders)]
        self._say([*of_folders, *entries])

    def _paths_info(self, body: bytes, name: str, revision: str) -> None:
        if not (found := self._find(name, revision)):
            return
        asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
        files, entries = found[0].commits[found[1]], []
        for path in asked:
            if path in files:
                entries.append(_describe(path, files[path]))
            elif any(each.startswith(f"{path}/") for each in files):
                entries.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        self._say(entries)

    def _resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        if not (found := self._find(name, revision)):
            return
        data = found[0].commits[found[1]].get(path)
        if data is None:
            self._say({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": found[1], "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            self._send(data, 200, headers)
            return
        begin, end = int(wanted[1]), int(wanted[2] or len(data) - 1)
        headers["Content-Range"] = f"bytes {begin}-{min(end, len(data) - 1)}/{len(data)}"
        self._send(data[begin : end + 1], 206, headers)

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        files = json.loads(body)["files"]
        modes = [{"path": f["path"], "uploadMode": "regular" if f["path"].endswith(".md") else "lfs"} for f in files]
        self._say({"files": [{**mode, "shouldIgnore": False, "oid": None} for mode in modes]})

    def _batch(self, body: bytes, name: str) -> None:
        objects = []
        for wanted in json.loads(body)["objects"]:
            there = {} if wanted["oid"] in self.hub.uploads else {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}
            objects.append({**wanted, "actions": there})
        self._say({"transfer": "basic", "objects": objects})

    def _upload(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.uploads[oid] = body
        self._send(b"", 200, {})

    def _commit(self, body: bytes, name: str, branch: str) -> None:
        if not (found := self._find(name, branch)):
            return
        files = dict(found[0].commits[found[1]])
        for line in map(json.loads, body.splitlines()):
            key, value = line["key"], line["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
            elif key == "deletedFolder":
                files = {path: data for path, data in files.items() if not path.startswith(value["path"])}
        number = found[0].commit(files, branch)
        self._say({"success": True, "commitOid": number, "commitUrl": f"{self.hub.url}/datasets/{name}/commit/{number}"})

    def _tag(self, body: bytes, name: str, revision: str) -> None:
        if not (found := self._find(name, revision)):
            return
        tag = json.loads(body)["tag"]
        if tag in found[0].tags:
            self._say({"error": "Tag already exists"}, 409)
            return
        found[0].tags[tag] = found[1]
        self._say({})

    def _valid(self, body: bytes) -> None:
        self._say({"errors": [], "warnings": []})


_NAME, _PART = "([^/]+/[^/]+)", "([^/]+)"
ROUTES = (
    ("POST", "/api/repos/create", _Handler._create),
    ("POST", "/api/validate-yaml", _Handler._valid),
    ("GET", f"/api/datasets/{_NAME}", _Handler._info),
    ("GET", f"/api/datasets/{_NAME}/revision/{_PART}", _Handler._info),
    ("GET", f"/api/datasets/{_NAME}/refs", _Handler._refs),
    (
        "GET",
        f"/api/datasets/{_NAME}/tree/{_PART}(?:/(.*))?",
        _Handler._tree,
    ),
    ("POST", f"/api/datasets/{_NAME}/paths-info/{_PART}", _Handler._paths_info),
    ("POST", f"/api/datasets/{_NAME}/preupload/{_PART}", _Handler._preupload),
    ("POST", f"/api/datasets/{_NAME}/commit/{_PART}", _Handler._commit),
    ("POST", f"/api/datasets/{_NAME}/tag/{_PART}", _Handler._tag),
    ("GET HEAD", f"/datasets/{_NAME}/resolve/{_PART}/(.+)", _Handler._resolve),
    ("POST", f"/datasets/{_NAME}.git/info/lfs/objects/batch", _Handler._batch),
    ("PUT", "/lfs/([0-9a-f]{64})", _Handler._upload),
)
"""Verbs, pattern of a path, and what answers."""
