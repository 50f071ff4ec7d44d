"""Raw text corpora in, an exact, versioned, pre-mixed training set out; the mixture computed from the data itself.

    from chameleon_data import domain_weights
    domain_weights({"arxiv": vectors, "github": vectors, "legal": vectors}).weights

Names are loaded when first asked for: every worker imports this file, few need the mathematics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chameleon_data.errors import InputError

if TYPE_CHECKING:
    from chameleon_data.weights.domain_weights import domain_weights
    from chameleon_data.weights.weigh import DomainWeights

__all__ = ["DomainWeights", "InputError", "__version__", "domain_weights"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "domain_weights":
        from chameleon_data.weights.domain_weights import domain_weights

        return domain_weights
    if name == "DomainWeights":
        from chameleon_data.weights.weigh import DomainWeights

        return DomainWeights
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
