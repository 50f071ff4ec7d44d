"""OpenLineage events of a build: written beside its version, and sent where OPENLINEAGE_URL says.

The variables are those of OpenLineage's own clients: OPENLINEAGE_URL, the address of the service, and OPENLINEAGE_API_KEY, its
token, if it asks for one; OPENLINEAGE_NAMESPACE groups jobs. What cannot be sent is one sentence, and never the end of a build.
"""

from __future__ import annotations

import os
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chameleon_data.errors import InputError
from chameleon_data.store.paths import lineage_events_path
from chameleon_data.store.store import Store
from chameleon_data.views.openlineage import LineageRun

if TYPE_CHECKING:
    from chameleon_data.pipelines.build import Built
    from chameleon_data.recipe import Recipe

ENDPOINT = "api/v1/lineage"
SECONDS_TO_SEND = 5.0


@dataclass
class LineageSender:
    """Sends the events of one run. After the first that cannot be sent, none is tried, so a build never waits twice."""

    url: str | None
    """The service. None: nothing is sent."""
    key: str | None
    tell: Callable[[str], None]
    events: list[str] = field(default_factory=list)
    """Those of the run so far, as JSON."""

    def send(self, event: str) -> None:
        self.events.append(event)
        if not self.url:
            return
        address = f"{self.url.rstrip('/')}/{ENDPOINT}"
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        try:
            if not address.startswith(("http://", "https://")):
                raise ValueError("it is no http address")
            request = urllib.request.Request(address, event.encode(), headers)  # noqa: S310 - http alone, see above
            with urllib.request.urlopen(request, timeout=SECONDS_TO_SEND):  # noqa: S310
                pass
        except (OSError, ValueError) as error:  # no route, refused, an answer of 400 and above, or no address at all
            self.url = None
            why = getattr(error, "code", None) or getattr(error, "reason", None) or type(error).__name__
            self.tell(f"OPENLINEAGE_URL: the events of this build cannot be sent ({why}); they lie beside the version")


@contextmanager
def tell_lineage(recipe: Recipe, tell: Callable[[str], None]) -> Iterator[Callable[[Built], None]]:
    """Send that a build starts, and how it ends. The body calls what it gets with the build that it made, which writes the
    events of a new version beside it. `tell` gets a sentence where something fails."""
    run = LineageRun(str(uuid.uuid4()), os.environ.get("OPENLINEAGE_NAMESPACE", "chameleon-data"), recipe)
    sender = LineageSender(os.environ.get("OPENLINEAGE_URL"), os.environ.get("OPENLINEAGE_API_KEY"), tell)
    sender.send(run.start(_now()))

    def complete(built: Built) -> None:
        sender.send(run.complete(_now(), built.manifest, built.version))
        if built.new:
            path = lineage_events_path(built.version.number)
            try:
                Store(recipe.out).write(path, "".join(f"{event}\n" for event in sender.events).encode())
            except InputError as error:
                tell(f"the OpenLineage events of v{built.version.number} were not written ({error})")

    try:
        yield complete
    except InputError as error:
        sender.send(run.fail(_now(), "FAIL", str(error)))
        raise
    except KeyboardInterrupt:
        sender.send(run.fail(_now(), "ABORT", "stopped by a signal"))
        raise
    except Exception as error:
        sender.send(run.fail(_now(), "FAIL", type(error).__name__))
        raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
