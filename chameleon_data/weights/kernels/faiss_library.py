"""faiss, which computes k-means and finds nearest neighbours: imported where it is used, or asked for in one sentence."""

from __future__ import annotations

from types import ModuleType
from typing import Literal

from chameleon_data.errors import explaining, say_install

FaissDevice = Literal["cpu", "gpu"]


def import_faiss(purpose: str) -> ModuleType:
    """The module faiss. Raises InputError, which begins with `purpose`, where neither of the extras with it is installed."""
    needed = f"needs faiss; {say_install('cpu')}, or '.[gpu]' beside CUDA 12"
    with explaining(purpose, {ImportError: needed}):
        import faiss
    module: ModuleType = faiss
    return module


def choose_faiss_device(faiss: ModuleType) -> FaissDevice:
    """Where k-means runs: on all GPUs that faiss sees, which are none without `faiss-gpu` or without a driver."""
    return "gpu" if faiss.get_num_gpus() > 0 else "cpu"
