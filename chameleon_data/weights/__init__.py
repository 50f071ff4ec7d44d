"""From embedded samples to a mixture: embedder, affinity, leverage, weights, bounds.

Imports recipe and corpus/model_files; runs without Ray, pyarrow and polars.
"""
