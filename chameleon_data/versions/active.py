"""Active records: a driver says in the store what it uses, and `gc` leaves that alone. There is no thread.

    _chameleon/active/driver-<id>.json    a driver at work: build, plan, weights, verify --corpus
    _chameleon/active/gc-<id>.json        the mark of a gc that removes files
    _chameleon/active/probe-<id>.json     written by a gc that only looks, to learn the store's time

A driver writes its record, then waits while there is a mark, and only then looks at any file. A gc writes its mark, then looks at
the records, and only then lists files and versions. Both write before they look, so one of them at least sees the other.

An age is the difference of two times that the store gives, one of them for a file just written: no machine's clock is compared
with another's. A driver writes its record again every ten minutes, as its tasks end, and stops where it could not for a day; `gc`
believes a record for `--older-than`, 7 days. A mark is believed for an hour; its gc stops where it could not write it for half of
one. Whose record is missing stops too, as nobody knows what was removed meanwhile; the same command makes the record anew.
Why nothing is lost, and what is not covered: docs/decisions/070-active-records.md.
Cost: six requests, and two every ten minutes.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from chameleon_data.errors import InputError
from chameleon_data.hashing import canonical_json, fingerprint
from chameleon_data.store.paths import ACTIVE, ACTIVE_FILE, BUILDS, active_path
from chameleon_data.store.store import Entry, Store

OLDER_THAN = 7 * 86_400.0
"""Seconds of the store's time for which `gc` believes a driver's record, unless it is told otherwise."""
DRIVER_SILENCE = 86_400.0
"""Seconds after which a driver stops whose record could not be written."""
MARK_BELIEVED = 3_600.0
"""Seconds of the store's time for which drivers believe a gc's mark."""
MARK_SILENCE = 1_800.0
"""Seconds after which a gc stops whose mark could not be written."""
REWRITE = 600.0
"""Seconds between two writes of a record or mark."""
WAIT = 60.0
"""Seconds for which a driver waits for a gc."""
SPARED_KINDS = ("caches", "landmarks", "manifests", "tables", "checks", "temporary files")
"""What gc spares for any driver. Nobody can say yet which of these it will need."""
ACTIVE_FORMAT = 2
Kind = Literal["driver", "gc", "probe"]


class RecordLostError(InputError):
    """The record or mark of this process no longer protects what it uses."""


@dataclass(frozen=True)
class ActiveRecord:
    """What is stored of a driver, a mark or a probe, with a sum over it."""

    host: str
    pid: int
    """The process, on that host."""
    plans: tuple[str, ...] = ()
    """Digests that name the folders of builds that are used; none until they are known."""
    format: int = ACTIVE_FORMAT


@dataclass(frozen=True)
class ActiveDriver:
    """A driver whose record is believed."""

    record: ActiveRecord
    path: str
    age: float = field(compare=False)
    """Seconds of the store's time since the record was written."""

    def spares(self) -> list[str]:
        """What gc spares for this driver, in words: the folders of its plan, where they are known, and SPARED_KINDS."""
        return [*(f"{BUILDS}/{digest}" for digest in self.record.plans), *SPARED_KINDS]


@dataclass(frozen=True)
class ActiveFolder:
    """What one look at the folder of active records saw, without one's own record."""

    now: float
    """The store's time, in seconds."""
    drivers: tuple[ActiveDriver, ...]
    expired: tuple[str, ...]
    """Paths of records, marks and probes that nobody believes any more."""


class OwnRecord:
    """The record, mark or probe of this process; `active_driver` and `own_record` make one."""

    def __init__(self, store: Store, kind: Kind) -> None:
        self.store = store
        self.path = active_path(kind, secrets.token_hex(8))
        self._record = ActiveRecord(socket.gethostname(), os.getpid())
        self._silence = DRIVER_SILENCE if kind == "driver" else MARK_SILENCE
        self._relied_on = False
        self._written = self._tried = _now()

    def write(self) -> None:
        began = _now()
        plain = asdict(self._record)
        self.store.write(self.path, canonical_json({**plain, "sum": fingerprint(plain)}))
        self._written = self._tried = began

    def keep(self) -> None:
        """Write the record again where that is due; to be called often. Raises InputError where it is lost.

        A store that is out of reach is no reason to stop yet: a later call tries again.
        """
        if _now() - self._tried < REWRITE:
            return
        self._tried = _now()
        try:
            self.check()
            self.write()
        except RecordLostError:
            raise
        except InputError:
            return

    def keep_during(self, progress: Callable[[str, int, int], object]) -> Callable[[str, int, int], None]:
        """The same progress, and the record is kept wherever it is told."""

        def report(name: str, done: int, total: int) -> None:
            self.keep()
            progress(name, done, total)

        return report

    def check(self) -> None:
        """Raise InputError unless the record was there all the time."""
        if _now() - self._written > self._silence:
            raise RecordLostError(
                f"{self.store.url}: this process could not write its record for {self._silence / 3600:g} hours, as the machine "
                "slept or the store was out of reach; files that it needs may have been removed; run the same command again"
            )
        if not self.store.exists(self.path):
            raise self._missing()

    def look(self) -> tuple[float, dict[str, Entry]]:
        """Write the record; return the store's time, and the entries of all other files in the folder."""
        self.write()
        entries = self.store.entries(ACTIVE)
        if self.path not in entries:
            raise self._missing()
        return entries.pop(self.path).modified, entries

    def use_plans(self, digests: Sequence[str]) -> None:
        """Say that the folders of these digests are used. What is in them may be looked at after this, not before.

        Raises InputError where the record is lost, or a gc is at work and does not end.
        """
        self._record = replace(self._record, plans=tuple(digests))
        self.wait_for_gc()

    def wait_for_gc(self) -> None:
        """Write the record, and wait while a gc removes files; InputError where that takes too long."""
        end = time.monotonic() + WAIT
        while mark := self._find_mark():
            if time.monotonic() >= end:
                told = read_active_record(self.store, mark)
                whose = f" (host {told.host}, process {told.pid})" if told else ""
                raise InputError(
                    f"{self.store.url}: 'gc --delete' is at work there{whose}, or was killed less than "
                    f"{MARK_BELIEVED / 60:.0f} minutes ago; run the same command again when it has ended, or remove "
                    f"{self.store.url}/{mark} if it was killed"
                )
            time.sleep(1.0)
        self._relied_on = True

    def _find_mark(self) -> str | None:
        if self._relied_on:  # before this nothing was looked at, so that a missing record is just made anew
            self.check()
        now, others = self.look()
        return next((path for path, entry in others.items() if _kind(path) == "gc" and not _expired(path, now, entry)), None)

    def _missing(self) -> RecordLostError:
        return RecordLostError(
            f"{self.store.url}/{self.path}: somebody removed this record while its process was at work, as 'gc --older-than' "
            "does; files that it needs may have been removed too; run the same command again"
        )


@contextmanager
def own_record(store: Store, kind: Kind) -> Iterator[OwnRecord]:
    """A record that the body writes, and that its end removes. After a kill it stays until a gc no longer believes it."""
    record = OwnRecord(store, kind)
    try:
        yield record
    finally:
        with suppress(InputError):  # it expires by itself
            store.remove([record.path])


@contextmanager
def active_driver(store: Store) -> Iterator[OwnRecord]:
    """The record of a driver. In the body it may look at everything but the folder of its plan, see `OwnRecord.use_plans`."""
    with own_record(store, "driver") as record:
        record.wait_for_gc()
        yield record


def look_at_drivers(own: OwnRecord, older_than: float) -> ActiveFolder:
    """Who is at work, for a gc: drivers whose record was written in the last `older_than` seconds of the store's time."""
    now, others = own.look()
    expired = tuple(path for path, entry in others.items() if _kind(path) and _expired(path, now, entry, older_than))
    drivers = []
    for path, entry in others.items():
        if _kind(path) == "driver" and path not in expired and (record := read_active_record(own.store, path)):
            drivers.append(ActiveDriver(record, path, max(0.0, now - entry.modified)))
    return ActiveFolder(now, tuple(drivers), expired)


def read_active_record(store: Store, path: str) -> ActiveRecord | None:
    """The record at a path, or None where its process has ended meanwhile. Raises InputError for a damaged one."""
    try:
        body = store.read(path)
    except InputError:
        if store.exists(path):
            raise
        return None
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        plain = json.loads(body)
        if plain.pop("sum") == fingerprint(plain) and plain["format"] == ACTIVE_FORMAT:
            return ActiveRecord(**{**plain, "plans": tuple(plain["plans"])})
    raise InputError(
        f"{store.url}/{path}: damaged, or of another release, so that nobody knows what its process uses; run the command again, "
        "and if this stays, remove the file once no build is at work"
    )


def _kind(path: str) -> str | None:
    match = ACTIVE_FILE.fullmatch(path)
    return match[1] if match else None


def _expired(path: str, now: float, entry: Entry, older_than: float = OLDER_THAN) -> bool:
    """A store that says no times has entries of no age: nothing there ever expires."""
    return now - entry.modified >= (older_than if _kind(path) == "driver" else MARK_BELIEVED)


def _now() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
