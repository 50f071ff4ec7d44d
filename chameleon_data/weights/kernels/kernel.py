"""Kernels: how alike two samples are.

    linear      ⟨x, z⟩                           cosine      ⟨x, z⟩ / (‖x‖ ‖z‖)
    rbf         exp(-‖x - z‖² / (2 b²))          laplacian   exp(-‖x - z‖₁ / b)
    polynomial  (1 + ⟨x, z⟩ / b²)^d, d = 2 or 3

`bandwidth: auto` takes b from a pool of samples, so that the kernel does not depend on the unit of the embeddings. For rbf it is
the median distance between two of them (Gretton et al. 2012), for laplacian the same in the 1-norm. For polynomial it is the
root mean square norm, so that ⟨x, z⟩ / b² lies between about -1 and 1. Linear and cosine have features of their own, x and x /
‖x‖, and are exact; the others need landmarks. Why float32: docs/decisions/050-kernels-in-float32.md. Cost on one core, p = 384,
1,024 landmarks, float32: rbf 9 µs a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from chameleon_data.arrays import F64, Floats
from chameleon_data.errors import InputError

KernelName = Literal["linear", "cosine", "rbf", "polynomial", "laplacian"]

EXACT: tuple[KernelName, ...] = ("linear", "cosine")
"""Kernels whose features have the dimension of the embeddings."""


@dataclass(frozen=True)
class Kernel:
    """A kernel with its scale."""

    name: KernelName
    bandwidth: float = 1.0
    """b, in the unit of the embeddings; linear and cosine do not use it."""
    degree: int = 2
    """d; only polynomial uses it."""


def evaluate_kernel(kernel: Kernel, x: Floats, z: Floats) -> Floats:
    """(n, m) values for (n, p) and (m, p) points, in the wider of their types. For many blocks of x see `kernel_evaluator`.

    For rbf both are moved by the mean of z first, since an offset that all embeddings share costs digits. In float32 a value is
    then right to about 1e-6. Squared norms are always float64.
    """
    kind = np.result_type(x, z)
    return kernel_evaluator(kernel, z.astype(kind, copy=False))(x.astype(kind, copy=False))


def kernel_evaluator(kernel: Kernel, z: Floats) -> Callable[[Floats], Floats]:
    """The function from a block of x, of the type of z, to its (n, m) values; what depends on z alone is computed once."""
    kind, p = z.dtype, z.shape[1]
    if kernel.name == "laplacian":

        def laplacian(x: Floats) -> Floats:
            values = scipy.spatial.distance.cdist(x, z, "cityblock")
            values *= -1.0 / kernel.bandwidth
            like: Floats = np.exp(values, out=values).astype(kind, copy=False)
            return like

        return laplacian
    if kernel.name == "rbf":
        origin = z.mean(axis=0, dtype=np.float64).astype(kind)
        moved = _scaled(z - origin, kernel)
        norms = (squared_norms(moved) / -2).astype(kind)
        right = np.ascontiguousarray(np.column_stack([moved, norms, np.ones_like(norms)]).T)

        def rbf(x: Floats) -> Floats:
            left = np.ones((len(x), p + 2), kind)  # ⟨(x, 1, -‖x‖²/2), (z, -‖z‖²/2, 1)⟩: the exponent in one product
            np.subtract(x, origin, out=left[:, :p])
            left[:, :p] /= kind.type(kernel.bandwidth)
            left[:, -1] = squared_norms(left[:, :p]) / -2
            exponent: Floats = left @ right
            np.minimum(exponent, 0.0, out=exponent)
            return np.exp(exponent, out=exponent)

        return rbf
    ready = _scaled(z, kernel) if kernel.name == "polynomial" else unit_rows(z) if kernel.name == "cosine" else z

    def product(x: Floats) -> Floats:
        if kernel.name == "polynomial":
            inner: Floats = _scaled(x, kernel) @ ready.T
            inner += kind.type(1)
            inner **= kernel.degree
            return inner
        like: Floats = (unit_rows(x) if kernel.name == "cosine" else x) @ ready.T
        return like

    return product


def _scaled(x: Floats, kernel: Kernel) -> Floats:
    """Points over the bandwidth. Squares of very small or large numbers would leave the range of float32."""
    scaled: Floats = x / x.dtype.type(kernel.bandwidth)
    return scaled


def kernel_diagonal(kernel: Kernel, x: Floats) -> F64:
    """(n) κ(x, x) of each sample."""
    if kernel.name in ("rbf", "laplacian"):
        return np.ones(len(x))
    squares = squared_norms(x)
    if kernel.name == "cosine":
        return np.where(squares > 0, 1.0, 0.0)
    return squares if kernel.name == "linear" else (1.0 + squares / kernel.bandwidth**2) ** kernel.degree


def squared_norms(x: Floats) -> F64:
    norms: F64 = np.einsum("ij,ij->i", x, x, dtype=np.float64)
    return norms


def unit_rows(x: Floats) -> Floats:
    """Rows divided by their norms; a row of zeros stays zero, and its cosine with every row is 0."""
    norms = np.sqrt(squared_norms(x))
    divided: Floats = x / np.where(norms > 0, norms, 1.0).astype(x.dtype)[:, None]
    return divided


def auto_bandwidth(name: KernelName, pool: Floats) -> float:
    """b from (n, p) samples of all domains; all pairs are looked at (n is about 1,000). InputError where b would be 0."""
    if name in EXACT:
        return 1.0
    if name == "polynomial":
        found = float(np.sqrt(squared_norms(pool).mean()))
    else:
        distinct = np.unique(pool, axis=0).astype(np.float64)  # copies would count as pairs at distance zero
        found = (
            float(np.median(scipy.spatial.distance.pdist(distinct, "euclidean" if name == "rbf" else "cityblock")))
            if len(distinct) > 1
            else 0.0
        )
    if not found > 0:
        raise InputError(f"kernel {name}: all samples are the same, so they have no scale; give 'leverage.bandwidth' a number")
    return found
