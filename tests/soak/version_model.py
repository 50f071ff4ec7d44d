"""The version store against a dictionary: whatever is done, killed or raced, in any order, on any store.

After every step readers see exactly what the dictionary says, each live version has all its files, and no number comes back.
A step that was killed at its k-th operation on the store leaves the old state or the new one, and nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from chameleon_data.errors import InputError
from chameleon_data.hashing import fingerprint
from chameleon_data.store.paths import ACTIVE
from chameleon_data.store.store import Store
from chameleon_data.versions.active import MARK_BELIEVED, OLDER_THAN
from chameleon_data.versions.gc import find_garbage, remove_garbage
from chameleon_data.versions.references import resolve_version
from chameleon_data.versions.tags import list_tags, tag_history, tag_version
from chameleon_data.versions.versions import Version, delete_version, list_deleted, list_versions
from tests.soak.crash import Fault, Killed, inject
from tests.support.schedules import at_once
from tests.support.small_builds import CREATED, SHARD, check_versions, grow_old, make_version, receipt_path, shard_path

NAMES = st.sampled_from("abcd")
PICK = st.integers(0, 99)
TAGS = st.sampled_from(["prod", "night"])


@dataclass(frozen=True)
class Model:
    versions: dict[int, str] = field(default_factory=dict)
    """Number -> name of the build, of every version that ever was."""
    deleted: frozenset[int] = frozenset()
    tags: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Tag -> where it pointed, the present last."""

    @property
    def live(self) -> dict[int, str]:
        return {number: name for number, name in self.versions.items() if number not in self.deleted}

    def committed(self, name: str) -> Model:
        if name in self.live.values():
            return self
        return replace(self, versions={**self.versions, len(self.versions) + 1: name})

    def tagged(self, tag: str, number: int) -> Model:
        history = self.tags.get(tag, ())
        return self if history[-1:] == (number,) else replace(self, tags={**self.tags, tag: (*history, number)})


def seen(store: Store) -> Model:
    """What a reader finds."""
    names = {fingerprint(name): name for name in "abcd"}
    versions = {v.number: names[v.plan_digest] for v in (*list_versions(store), *list_deleted(store))}
    tags = {tag: tuple(t.version for t in tag_history(store, tag)) for tag in list_tags(store)}
    return Model(dict(sorted(versions.items())), frozenset(v.number for v in list_deleted(store)), tags)


class VersionStore(RuleBasedStateMachine):
    store: Store
    """Set by the test, one folder for all examples; each works in a new one below it."""

    @initialize()
    def begin(self) -> None:
        self.store = Store(f"{type(self).store.url}/{uuid.uuid4().hex}")
        self.model = Model()

    def live(self, pick: int) -> Version | None:
        """One of the versions. What is drawn never depends on them, since races decide which they are."""
        found = list_versions(self.store)
        return found[pick % len(found)] if found else None

    # -- what people do --

    @rule(name=NAMES)
    def commit(self, name: str) -> None:
        version = make_version(self.store, name)
        self.model = self.model.committed(name)
        assert self.model.live[version.number] == name

    @rule(name=NAMES, receipt=st.booleans())
    def abandon(self, name: str, receipt: bool) -> None:
        """A build that was killed before its commit, long ago."""
        for part in range(1 + receipt):
            self.store.write(shard_path(name, part), SHARD)
        if receipt:
            self.store.write(receipt_path(name), b"{}")

    @rule(pick=PICK, tag=TAGS)
    def tag(self, pick: int, tag: str) -> None:
        if version := self.live(pick):
            tag_version(self.store, version, tag)
            self.model = self.model.tagged(tag, version.number)

    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        if version := self.live(pick):
            assert delete_version(self.store, version, CREATED)
            self.model = replace(self.model, deleted=self.model.deleted | {version.number})

    @rule(caches=st.booleans(), older_than=st.sampled_from([0.0, OLDER_THAN]))
    def gc(self, caches: bool, older_than: float) -> None:
        """Nobody is at work now, so that `older_than` 0 is the truth and clears all that crashes have left."""
        found = find_garbage(self.store, caches, older_than)
        before = set(self.store.list())
        assert remove_garbage(self.store, caches, older_than) == found
        assert set(self.store.list()) == before - found.files.keys()
        if not found.drivers:
            plans = {path.split("/")[1] for path in self.store.list("builds")}
            assert plans == {fingerprint(name) for name in self.model.live.values()}
            assert len(self.store.list("_chameleon/manifests")) == len(self.model.live)
        assert older_than or not found.drivers

    @rule(seconds=st.sampled_from([MARK_BELIEVED, OLDER_THAN]))
    def time_passes(self, seconds: float) -> None:
        grow_old(self.store, ACTIVE, seconds)

    # -- what goes wrong --

    @rule(pick=PICK, action=st.sampled_from(["commit", "tag", "delete", "gc"]), step=st.integers(1, 30), after=st.booleans(),
          name=NAMES, tag=TAGS)  # fmt: skip
    def crash(self, pick: int, action: str, step: int, after: bool, name: str, tag: str) -> None:
        """The last operation is done or not, and nothing after it, not even the removal of its record."""
        new: Model = self.model
        work: Callable[[], object] = lambda: None  # noqa: E731
        if action == "commit":
            new, work = self.model.committed(name), lambda: make_version(self.store, name)
        elif action == "gc":
            work = lambda: remove_garbage(self.store)  # noqa: E731
        elif version := self.live(pick):
            if action == "tag":
                new, work = self.model.tagged(tag, version.number), lambda: tag_version(self.store, version, tag)
            else:
                new = replace(self.model, deleted=self.model.deleted | {version.number})
                work = lambda: delete_version(self.store, version, CREATED)  # noqa: E731
        killed = self.killed(work, step, after)
        found = seen(self.store)
        assert found in ((self.model, new) if killed else (new,))
        self.model = found
        if action == "gc":
            grow_old(self.store, ACTIVE, MARK_BELIEVED)  # else every later build waits for it, as it should

    def killed(self, work: Callable[[], object], step: int, after: bool) -> bool:
        fault = Fault(step, "after" if after else "kill")
        with inject(fault), suppress(Killed):
            work()
        return fault.dead

    @rule(first=NAMES, second=NAMES)
    def race_commits(self, first: str, second: str) -> None:
        made = at_once(lambda i: make_version(self.store, (first, second)[i]), 2)
        found = seen(self.store)
        assert found in (self.model.committed(first).committed(second), self.model.committed(second).committed(first))
        assert [found.live[v.number] for v in made] == [first, second]
        self.model = found

    @rule(picks=st.tuples(PICK, PICK), tag=TAGS)
    def race_tags(self, picks: tuple[int, int], tag: str) -> None:
        pair = [version for pick in picks if (version := self.live(pick))]
        if not pair:
            return
        at_once(lambda i: tag_version(self.store, pair[i], tag), 2)
        a, b = (version.number for version in pair)
        found = seen(self.store)
        assert found in (self.model.tagged(tag, a).tagged(tag, b), self.model.tagged(tag, b).tagged(tag, a))
        self.model = found

    # -- what always holds --

    @invariant()
    def readers_see_what_was_done(self) -> None:
        store, model = self.store, self.model
        assert seen(store) == model
        assert list(model.versions) == list(range(1, len(model.versions) + 1))
        assert check_versions(store) == [fingerprint(name) for name in model.live.values()]
        live = [version.number for version in list_versions(store)]
        assert live == list(model.live)
        self.means("latest", live[-1] if live else None)
        for number in model.versions:
            self.means(f"v{number}", number if number in live else None)
        for tag, history in model.tags.items():
            self.means(tag, history[-1] if history[-1] in live else None)

    def means(self, reference: str, number: int | None) -> None:
        if number is None:
            with pytest.raises(InputError):
                resolve_version(self.store, reference)
        else:
            assert resolve_version(self.store, reference).number == number


def play(store: Store, games: int, steps: int) -> None:
    """Games of so many steps, each in a folder of its own below the store."""
    machine = type("Machine", (VersionStore,), {"store": store})
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    found = settings(max_examples=games, stateful_step_count=steps, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(machine, settings=found)
