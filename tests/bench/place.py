"""Placement of a million documents on one core: to their shards, and in a shard to their order."""

from __future__ import annotations

import numpy as np

from chameleon_data.arrays import I64
from chameleon_data.plan import cuts, routing, streams
from chameleon_data.plan.layout import sketch_layout
from chameleon_data.plan.plan import DomainCount, StageTarget, histogram_depth, make_plan
from tests.bench.figures import Figure, median_seconds, show

ROWS = 1_000_000


def run() -> list[Figure]:
    """Rows a second of `route`, and of `locate` with `order_rows`."""
    generator = np.random.default_rng(0)
    hi, lo = generator.integers(0, 2**64, (2, ROWS), dtype=np.uint64)
    tokens = generator.integers(100, 9000, ROWS)
    total = int(tokens.sum())
    histogram = streams.histogram_of(hi, tokens, histogram_depth(ROWS))
    count = DomainCount("a", ROWS, total, total, int(tokens.max()), 1, histogram)
    plan = make_plan(
        [count],
        [StageTarget(total, {"a": "1"})],
        max_epochs=1,
        exhausted="fail",
        shard_bytes=64 * 2**20,
        seed=0,
        hash="text",
        writer={},
    )
    none = np.zeros(ROWS, np.int64)
    sketch = sketch_layout(plan, [count], range(plan.shards + 1))
    documents = cuts.Documents(none, none, hi, lo, tokens).take(cuts.in_cut_slots(sketch.slots, none, hi))
    layout = cuts.finish_layout(sketch, cuts.cut_slots(sketch, documents))
    (stream,) = layout.streams
    unnumbered = none - 1

    def routed() -> tuple[I64, I64]:
        found = list(routing.route(layout.slots, none, hi, lo, unnumbered))
        return np.concatenate([row for row, _, _ in found]), np.concatenate([shard for *_, shard in found])

    routed_seconds = median_seconds(routed)
    row, shard = routed()
    mine = row[shard == 3]
    zero = np.zeros(len(mine), np.int64)

    def arrange() -> None:
        offset, _ = routing.locate(layout, 3, zero, zero, hi[mine], lo[mine], zero - 1, tokens[mine])
        routing.order_rows(plan, 0, zero, streams.anchors(stream.domain.phase, offset, tokens[mine]))

    arranging = median_seconds(arrange)
    both = 1 / (routed_seconds / ROWS + arranging / len(mine))
    peer = f"routing {ROWS / routed_seconds / 1e6:.0f}, arranging {len(mine) / arranging / 1e6:.1f}; one core"
    return [Figure("placement", both / 1e6, "M rows/s", 5, peer)]


if __name__ == "__main__":
    show(run())
