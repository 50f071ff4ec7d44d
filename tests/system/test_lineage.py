"""Lineage events: they go where OPENLINEAGE_URL says, lie beside a new version, and no failure to send ends a build."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest

from chameleon_data.errors import InputError
from chameleon_data.jobs.lineage import tell_lineage
from chameleon_data.pipelines.build import build_recipe
from chameleon_data.store.store import Store
from tests.support.inline_builds import CREATED, INLINE, write_small_recipe


class Service(BaseHTTPRequestHandler):
    """Takes events, or refuses them all."""

    received: ClassVar[list[tuple[str, str | None, dict[str, Any]]]] = []
    answer = 201

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received.append((self.path, self.headers["Authorization"], body))
        self.send_response(self.answer)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Service]]:
    monkeypatch.setattr(Service, "received", [])
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_port}/")
        yield Service
        server.shutdown()


def run(recipe: Any, told: list[str]) -> None:
    with tell_lineage(recipe, told.append) as complete:
        complete(build_recipe(recipe, INLINE, lambda *_: None, CREATED))


def test_a_build_is_told_from_start_to_end_and_once(service, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "made-up")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "team")
    recipe, told = write_small_recipe(tmp_path, "out"), list[str]()
    run(recipe, told)
    assert told == []
    assert [(path, key) for path, key, _ in service.received] == [("/api/v1/lineage", "Bearer made-up")] * 2
    start, complete = (event for _, _, event in service.received)
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert complete["job"]["namespace"] == "team"
    store = Store(recipe.out)
    beside = store.read("_chameleon/openlineage/v00000001.jsonl").decode()
    assert [json.loads(line) for line in beside.splitlines()] == [start, complete]
    assert "made-up" not in beside
    run(recipe, told)  # there is nothing to do
    assert [event["eventType"] for _, _, event in service.received[2:]] == ["START", "COMPLETE"]
    assert store.read("_chameleon/openlineage/v00000001.jsonl").decode() == beside, "the events of the run that made it"


def test_a_failure_and_a_stop_are_told(service, tmp_path):
    recipe = write_small_recipe(tmp_path, "out")
    for error, kind, said in (
        (InputError("no disk"), "FAIL", "no disk"),
        (ZeroDivisionError("secret"), "FAIL", "ZeroDivisionError"),
        (KeyboardInterrupt(), "ABORT", "stopped by a signal"),
    ):
        with pytest.raises(type(error)), tell_lineage(recipe, lambda _: None):
            raise error
        last = service.received[-1][2]
        assert (last["eventType"], last["run"]["facets"]["errorMessage"]["message"]) == (kind, said)


@pytest.mark.parametrize("url", ["refusing", "http://127.0.0.1:1", "ftp://127.0.0.1/x", "nonsense"])
def test_what_cannot_be_sent_is_told_once_and_the_build_goes_on(service, tmp_path, monkeypatch, url):
    if url == "refusing":
        monkeypatch.setattr(Service, "answer", 500)
    else:
        monkeypatch.setenv("OPENLINEAGE_URL", url)
    recipe, told = write_small_recipe(tmp_path, "out"), list[str]()
    run(recipe, told)
    assert len(told) == 1
    assert told[0].startswith("OPENLINEAGE_URL: the events of this build cannot be sent (")
    assert len(service.received) == (url == "refusing"), "after a failure none is tried"
    assert Store(recipe.out).exists("_chameleon/openlineage/v00000001.jsonl")


def test_without_the_variable_nothing_is_sent(service, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENLINEAGE_URL")
    recipe, told = write_small_recipe(tmp_path, "out"), list[str]()
    run(recipe, told)
    assert (told, service.received) == ([], [])
    assert Store(recipe.out).exists("_chameleon/openlineage/v00000001.jsonl")
