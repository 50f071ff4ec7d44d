"""One meaning a name: no exported name is defined twice, functions are called by verbs, exceptions end in Error."""

from __future__ import annotations

import ast
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "chameleon_data"
FORMATS = "shards/formats/"
FORMAT_PROTOCOL = {"WRITER", "names", "encode", "decode", "index"}
"""Members of `Format`: each module below shards/formats defines its own."""
COINED = {
    "census", "frames", "hub", "judge", "judged", "narrated", "patient", "pieces", "pointers", "projection", "proved", "recount",
    "told",
}  # fmt: skip
"""Words that once named a function here and told a stranger nothing, or something else."""
BUILT_IN_ERRORS = {"BaseException", "Exception", "KeyboardInterrupt", "SystemExit"}


def sources() -> dict[str, ast.Module]:
    """Path of a module below the package -> its syntax tree."""
    walked = os.walk(PACKAGE, followlinks=True)
    files = sorted(Path(folder, name) for folder, _, names in walked for name in names if name.endswith(".py"))
    return {str(file.relative_to(PACKAGE)): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def exported(module: ast.Module) -> Iterator[str]:
    """Names without an underscore that a module defines at its top; imports do not count."""
    for node in module.body:
        names = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            targets = [t for target in node.targets for t in (target.elts if isinstance(target, ast.Tuple) else [target])]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        yield from (name for name in names if not name.startswith("_"))


def repeated(modules: Mapping[str, ast.Module]) -> dict[str, list[str]]:
    """Exported name -> the modules that define it, where those are several."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, module in modules.items():
        for name in exported(module):
            if not (path.startswith(FORMATS) and name in FORMAT_PROTOCOL):
                places[name].append(path)
    return {name: paths for name, paths in places.items() if len(paths) > 1}


def no_verbs(module: ast.Module) -> list[str]:
    """Functions that are called by a coined word, and exported ones that are called by a past participle alone."""
    coined = [node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef) and node.name.strip("_") in COINED]
    top = [node.name for node in module.body if isinstance(node, ast.FunctionDef)]
    return coined + [name for name in top if "_" not in name and name.endswith("ed") and name not in COINED]


def odd_exceptions(module: ast.Module) -> list[str]:
    """Classes that are raised and do not say so: their base is an exception, their name does not end in Error."""
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and not node.name.endswith("Error"):
            bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
            if any(base.endswith("Error") or base in BUILT_IN_ERRORS for base in bases):
                found.append(node.name)
    return found


MODULES = sources()


def test_an_exported_name_has_one_definition() -> None:
    assert repeated(MODULES) == {}


@pytest.mark.parametrize("path", MODULES)
def test_functions_are_verbs_and_exceptions_end_in_error(path: str) -> None:
    assert no_verbs(MODULES[path]) == []
    assert odd_exceptions(MODULES[path]) == []


def test_what_breaks_the_rules_is_found() -> None:
    one = ast.parse("LIMIT = 1\na, b = 1, 2\nsize: int = 3\nLIMIT.x = 2\ndef names(): ...\nclass Thing: ...\n_LIMIT = 1")
    assert list(exported(one)) == ["LIMIT", "a", "b", "size", "names", "Thing"]
    two = ast.parse("LIMIT = 2\ndef names(): ...")
    assert repeated({"plan/a.py": one, "store/b.py": two}) == {name: ["plan/a.py", "store/b.py"] for name in ("LIMIT", "names")}
    assert repeated({"shards/formats/a.py": one, "shards/formats/b.py": two}).keys() == {"LIMIT"}
    verbs = "def leased(): ...\ndef explain(): ...\ndef checked_urls(): ...\ndef f():\n    def _told(): ..."
    assert no_verbs(ast.parse(verbs)) == ["_told", "leased"]
    odd = "class Gone(OSError): ...\nclass Stop(Exception): ...\nclass LostError(errors.StoreError): ...\nclass Part: ..."
    assert odd_exceptions(ast.parse(odd)) == ["Gone", "Stop"]
