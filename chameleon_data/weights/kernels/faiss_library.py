"""faiss, which computes k-means and finds nearest neighbours: imported where it is used, or asked for in one sentence."""

from __future__ import annotations

from types import ModuleType

from chameleon_data.errors import explaining


def import_faiss(purpose: str) -> ModuleType:
    """The module faiss. Raises InputError, which begins with `purpose`, where neither of the extras with it is installed."""
    needed = "needs faiss; pip install 'chameleon-data[cpu]', or 'chameleon-data[gpu]' beside CUDA 12"
    with explaining(purpose, {ImportError: needed}):
        import faiss
    module: ModuleType = faiss
    return module
