"""What faiss multiplies matrices with: chosen when it is imported, so each case is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from threadpoolctl import threadpool_info

from chameleon_data.weights.kernels.faiss_library import CHOICE, KERNELS

IMPORTS = f"""
import json, os
import numpy
from chameleon_data.weights.kernels.faiss_library import import_faiss
from threadpoolctl import threadpool_info
import_faiss("a test")
print(json.dumps([os.environ.get("{CHOICE}"), [(one["filepath"], one.get("architecture")) for one in threadpool_info()]]))
"""


def kernels_of_faiss(environment: dict[str, str]) -> tuple[str | None, set[str]]:
    """The environment's choice after faiss is imported, and what its OpenBLAS takes the processor for."""
    kept = {name: value for name, value in os.environ.items() if name != CHOICE}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, env={**kept, **environment}, check=True
    )
    left, libraries = json.loads(done.stdout)
    return left, {kernels for path, kernels in libraries if "faiss" in path and kernels}


def kernels_of_numpy() -> str | None:
    found = [library.get("architecture", "") for library in threadpool_info() if "numpy" in library["filepath"]]
    return KERNELS.get(found[0]) if found else None


def test_they_are_those_that_numpy_has_for_this_processor() -> None:
    """faiss chooses by itself where numpy multiplies by a library, or for a processor, that has no name here."""
    left, kernels = kernels_of_faiss({})
    assert left is None
    assert kernels_of_numpy() in {None, *kernels}


def test_the_users_choice_stays() -> None:
    left, kernels = kernels_of_faiss({CHOICE: "Nehalem"})
    assert left == "Nehalem"
    assert kernels <= {"Nehalem"}
