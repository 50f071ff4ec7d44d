"""`make bench`: every figure that the README or a comment relies on, in one table. The peers have another."""

from __future__ import annotations

from tests.bench import build, clusters, embed, formats, kernels, mds, one_file, peers, place, rates, reading, remote, resume
from tests.bench.figures import show

show(
    [
        figure
        for part in (mds, formats, reading, remote, place, build, one_file, resume, rates, peers, embed, clusters, kernels)
        for figure in part.run()
    ]
)
