"""faiss, which computes k-means and finds nearest neighbours: imported where it is used, or asked for in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Literal

from chameleon_data.errors import explaining, say_install

FaissDevice = Literal["cpu", "gpu"]
KERNELS = {"Haswell": "Haswell", "Zen": "Zen", "SkylakeX": "SkylakeX", "Cooperlake": "SkylakeX", "SapphireRapids": "SkylakeX"}
"""What numpy's OpenBLAS takes a processor for -> the matrix products for it that faiss's OpenBLAS has."""
CHOICE = "OPENBLAS_CORETYPE"


def import_faiss(purpose: str) -> ModuleType:
    """The module faiss. Raises InputError, which begins with `purpose`, where neither of the extras with it is installed."""
    needed = f"needs faiss; {say_install('cpu')}, or '.[gpu]' beside CUDA 12"
    with explaining(purpose, {ImportError: needed}), _kernels_of_numpy():
        import faiss
    module: ModuleType = faiss
    return module


@contextmanager
def _kernels_of_numpy() -> Iterator[None]:
    """Have an OpenBLAS that is loaded meanwhile take the processor for what numpy's does.

    faiss-cpu 1.15 brings OpenBLAS 0.3.15 of 2021. It takes processors that came later for a Prescott of 2004, and multiplies at
    33 GFLOP/s where it can at 144. Why: docs/decisions/172-faiss-matrix-products.md.
    """
    from threadpoolctl import threadpool_info

    found = {KERNELS.get(library.get("architecture", "")) for library in threadpool_info() if "numpy" in library["filepath"]}
    kernels = next(iter(found - {None}), None)
    if kernels is None or CHOICE in os.environ:
        yield
        return
    os.environ[CHOICE] = kernels
    try:
        yield
    finally:
        del os.environ[CHOICE]


def choose_faiss_device(faiss: ModuleType) -> FaissDevice:
    """Where k-means runs: on all GPUs that faiss sees, which are none without `faiss-gpu` or without a driver."""
    return "gpu" if faiss.get_num_gpus() > 0 else "cpu"
