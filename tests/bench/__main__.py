"""`make bench`: every figure that the README or a comment relies on, in one table."""

from __future__ import annotations

from tests.bench import build, mds
from tests.bench.figures import show

show([*mds.run(), *build.run()])
