"""Leases: whoever works on a dataset says so in the store, and again every minute, so that `collect` leaves its files alone.

    _chameleon/leases/caches/<id>.json          a build, survey or weighing: caches, landmarks, manifests, temporary files
    _chameleon/leases/<plan digest>/<id>.json   the build of that plan: builds/<plan digest> as well
    _chameleon/leases/collect/<id>.json         a collection that removes files
    _chameleon/leases/look/<id>.json            one that only looks, and wants to know the time

A lease holds for `LEASE` seconds from when the store says that it was last written. The time now is when the store says that
one's own lease was written, just before: no machine's clock is compared with another's.

Why nothing is lost. A build writes its lease, then looks for collections; a collection writes its lease, then looks for
builds. Of two that write before they look, one at least sees the other: a collection spares what it sees owned, and a build that
sees a collection waits for its end before it looks at any file, or gives up. A collection reads leases first and versions
after: a build whose lease was gone by then had ended, so its version is seen. And whoever cannot renew a lease for `LIMIT`
seconds (a machine that slept, a network that was away) has lost it, renews it no more, and does nothing that rests on it:
`Lease.check` raises, before a version is committed and before a file is removed. LIMIT and the longest put that may be under
way then (`object_store.DEADLINE`) are less than LEASE together, so it stops before others think it gone.
Not covered: a process that is stopped for 13 minutes between that check and the arrival of the one put that follows.
Cost: a put a minute, and four requests at the start.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from chameleon_data.errors import InputError
from chameleon_data.store.paths import ROOT
from chameleon_data.store.store import Store

LEASES = f"{ROOT}/leases"
LEASE = 900.0
"""Seconds of the store's time after which a lease that was not renewed is void."""
LIMIT = 600.0
"""Seconds of the holder's time after which a lease that could not be renewed is given up."""
RENEW = 60.0
WAIT = 60.0
"""Seconds that a build waits for a collection."""

CACHES, COLLECT, LOOK = "caches", "collect", "look"


@dataclass(frozen=True)
class Look:
    """What one look at the leases saw."""

    now: float
    """The store's time, in seconds."""
    held: frozenset[str]
    """Kinds of the leases that others hold."""
    void: tuple[str, ...]
    """Paths of the leases of the dead."""


class Lease:
    """What this process holds, renewed from a thread of its own; `leased` makes one. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self.store, self.id = store, secrets.token_hex(8)
        self._body = json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode()
        self._kinds: list[str] = []
        self._renewed = _now()
        self._lost = False
        self._busy = threading.Lock()
        self._ended = threading.Event()

    def take(self, kind: str) -> None:
        """Hold a lease of this kind too, to the end."""
        with self._busy:
            self._kinds.append(kind)
            self.store.write(self._path(kind), self._body)

    def own(self, plan_digest: str) -> None:
        """Own the folder of this plan from now on; what is in it may be looked at after this, not before.

        Raises InputError where a collection is at work and does not end.
        """
        self.take(plan_digest)
        self.await_collections()

    def await_collections(self) -> None:
        """Wait until nobody removes files; InputError where that takes too long."""
        end = time.monotonic() + WAIT
        while COLLECT in self.look().held:
            if time.monotonic() >= end:
                raise InputError(
                    f"{self.store.url}: 'gc --delete' is at work there, or was killed less than {LEASE / 60:.0f} minutes ago; "
                    "run the same command again when it has ended"
                )
            time.sleep(1.0)

    def look(self) -> Look:
        """Who else is at work, by the store's time."""
        mine = self._path(self._kinds[0])
        with self._busy:
            self.store.write(mine, self._body)
            found = self.store.entries(LEASES)
        if mine not in found:
            self._lost = True
            self.check()
        now = found[mine].modified
        others = [path for path in found if path.endswith(".json") and not path.endswith(f"/{self.id}.json")]
        void = tuple(path for path in others if now - found[path].modified > LEASE)
        return Look(now, frozenset(path.split("/")[-2] for path in others if path not in void), void)

    def check(self) -> None:
        """Raise InputError unless the lease is held, and was all the time."""
        if self._lapsed():
            raise InputError(
                f"{self.store.url}: the lease of this process lapsed, as the machine slept or the store was out of reach for "
                f"{LIMIT / 60:.0f} minutes, and its files may have been cleared away; run the same command again"
            )

    def _path(self, kind: str) -> str:
        return f"{LEASES}/{kind}/{self.id}.json"

    def _lapsed(self) -> bool:
        self._lost = self._lost or _now() - self._renewed > LIMIT
        return self._lost

    def _renew(self) -> None:
        """One round; a lapsed lease is left to die, since what it protected may be gone."""
        with self._busy:
            if self._ended.is_set() or self._lapsed():
                return
            began = _now()
            for kind in self._kinds:
                self.store.write(self._path(kind), self._body)
            self._renewed = began

    def _keep(self) -> None:
        while not self._ended.wait(RENEW):
            with suppress(InputError):  # the store is out of reach: the next round tries again, and `check` knows the time
                self._renew()

    def _end(self) -> None:
        self._ended.set()
        with self._busy, suppress(InputError):  # it dies by itself
            self.store.remove([self._path(kind) for kind in self._kinds])


@contextmanager
def leased(store: Store, kind: str = CACHES) -> Iterator[Lease]:
    """Hold a lease while the body runs; it is gone when the body ends, and void a while after a kill."""
    lease = Lease(store)
    thread = threading.Thread(target=lease._keep, name="chameleon-lease", daemon=True)
    try:
        lease.take(kind)
        thread.start()
        if kind == CACHES:
            lease.await_collections()
        yield lease
    finally:
        lease._end()
        if thread.ident is not None:
            thread.join()


def _now() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
