"""Raw text corpora in, an exact, versioned, pre-mixed training set out; the mixture computed from the data itself.

    import chameleon_data
    built = chameleon_data.build("recipe.yaml")          # or a dictionary; .plan(…) writes no shard
    chameleon_data.load("out/demo@prod").path("mds")     # .manifest, .verify(), .diff("out/demo@v1")
    chameleon_data.domain_weights({"arxiv": vectors, "github": vectors, "legal": vectors})

Names are loaded when first asked for: every worker imports this file, few need the mathematics.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chameleon_data.errors import InputError
    from chameleon_data.evaluation.comparison import Comparison
    from chameleon_data.jobs.from_python import build, evaluate, plan
    from chameleon_data.pipelines.build import Built, Planned
    from chameleon_data.versions.loaded import LoadedVersion
    from chameleon_data.versions.loaded import load_version as load
    from chameleon_data.weights.domain_weights import domain_weights
    from chameleon_data.weights.weigh import DomainWeights

__all__ = [
    "Built",
    "Comparison",
    "DomainWeights",
    "InputError",
    "LoadedVersion",
    "Planned",
    "__version__",
    "build",
    "domain_weights",
    "evaluate",
    "load",
    "plan",
]

__version__ = "0.1.0"

_PLACES = {
    "Built": "pipelines.build.Built",
    "Comparison": "evaluation.comparison.Comparison",
    "DomainWeights": "weights.weigh.DomainWeights",
    "InputError": "errors.InputError",
    "LoadedVersion": "versions.loaded.LoadedVersion",
    "Planned": "pipelines.build.Planned",
    "build": "jobs.from_python.build",
    "domain_weights": "weights.domain_weights.domain_weights",
    "evaluate": "jobs.from_python.evaluate",
    "load": "versions.loaded.load_version",
    "plan": "jobs.from_python.plan",
}
"""Name -> where it is defined, below this package."""


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, definition = _PLACES[name].rpartition(".")
    return getattr(import_module(f"{__name__}.{module}"), definition)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """This package. Its `plan` is the function, though a room has that name too; `from chameleon_data.plan.…` finds the room."""

    @property
    def plan(self) -> object:
        return __getattr__("plan")

    @plan.setter
    def plan(self, room: ModuleType) -> None:
        """What the import system does once it has loaded the room."""


sys.modules[__name__].__class__ = _Package
