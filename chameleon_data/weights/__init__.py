"""From embedded samples to a recorded mixture: embedder, statistics, affinity, leverage, temperature, error bars, bounds.

`kernels/` holds kernels and landmarks, `explain/` what a person is shown beside the weights. Imports recipe, plan and corpus.
It runs on a bare GPU machine, without pyarrow, polars, Ray and faiss: `tests/unit/weights/test_bare_machine.py`.
"""
