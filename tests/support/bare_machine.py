"""Python as on a machine where some packages are not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from tests.support.paths import ROOT

WITHOUT = '''
import importlib.machinery
import sys

MISSING = {missing}


class Without(importlib.machinery.PathFinder):
    """Finds all packages but the missing ones, nor says that they are installed."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *arguments, **named):
        return (d for d in super().find_distributions(*arguments, **named) if d.metadata["Name"] not in MISSING)


sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Without
'''


def run_without(missing: Iterable[str], code: str, *arguments: str) -> str:
    """What `code` prints in a process that cannot import the `missing` packages."""
    whole = WITHOUT.replace("{missing}", repr(set(missing))) + code
    done = subprocess.run([sys.executable, "-c", whole, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout
