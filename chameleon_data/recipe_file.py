"""Recipes as files: strict YAML in, a checked `Recipe` with absolute paths out.

An unknown or repeated key is refused with its line and the nearest right key, because a silently ignored `sample: 512` costs a
week of training. Aliases and tags are refused, because a recipe is data and an alias can explode.
Why: docs/decisions/013-recipe-yaml.md.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from chameleon_data.errors import Faults, InputError, Sentences, explain_errno, explaining, list_some, locating
from chameleon_data.recipe import (
    Branch,
    Discover,
    Divergence,
    Domains,
    EffectiveDimension,
    Evaluate,
    Group,
    HeldOut,
    Like,
    ModelShape,
    Recipe,
    RecordedLandmarks,
    Refine,
    Section,
    Source,
    Stage,
    TiltedMixture,
    Weights,
    natural_exponent,
    say_fault,
)
from chameleon_data.store.urls import EXTRAS, is_unicode, refuse_chain, refuse_secrets


class StrictLoader(yaml.SafeLoader):
    """Plain data only, and decimal numbers as in YAML 1.2: 010 is ten and 1:30 is text, where YAML 1.1 reads 8 and 90."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.constructor.ConstructorError(None, None, "anchors and aliases are not part of a recipe", event.start_mark)
        if getattr(event, "tag", None):
            raise yaml.constructor.ConstructorError(None, None, "tags are not part of a recipe", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                advice = f"quote it: '{key_node.value}'" if isinstance(key_node, yaml.ScalarNode) else "use a name"
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is not text; {advice}", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=True)

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        return int(node.value.replace("_", ""))


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in (_INT, _FLOAT)]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_implicit_resolver(_INT, re.compile(r"[-+]?[0-9][0-9_]*\Z"), list("-+0123456789"))
StrictLoader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?\Z|[-+]?\.inf\Z|\.nan\Z"),
    list("-+.0123456789"),
)
StrictLoader.add_constructor(_INT, StrictLoader.construct_decimal)


def load_recipe(path: str | Path) -> Recipe:
    """Read and validate a recipe; relative paths in it become absolute.

    Raises InputError with one line per fault: file, line, key, what is wrong and the nearest right key.
    """
    file = Path(path)
    unreadable: Sentences = {
        IsADirectoryError: lambda _: f"it is a folder; {_recipes_near(file, True)}",
        (FileNotFoundError, NotADirectoryError): lambda _: f"there is no such file; {_recipes_near(file, False)}",
        OSError: lambda error: f"{error.strerror}; check the file",
        UnicodeDecodeError: "it is not text in UTF-8; name a YAML file",
    }
    with explaining(f"{file}: the recipe cannot be read", unreadable):
        text = file.read_text(encoding="utf-8")
    return parse_recipe(text, file.absolute().parent, str(file))


def _recipes_near(file: Path, is_folder: bool) -> str:
    """Advice on which recipe may have been meant."""
    folder = file if is_folder else file.parent
    if not folder.is_dir():
        return f"nor is there a folder {folder}; correct the path"
    there = sorted(path.name for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file())
    close = [] if is_folder else difflib.get_close_matches(file.stem, [Path(name).stem for name in there], n=1)
    if close:
        return f"did you mean {' or '.join(str(folder / name) for name in there if Path(name).stem == close[0])}?"
    if there:
        return f"in {folder} there are {list_some(there)}"
    return f"no .yaml file is in {folder}; jobs/recipes/own.yaml is one to copy"


def parse_recipe(text: str, folder: Path, name: str = "recipe") -> Recipe:
    """`load_recipe` for text that is in memory already; relative paths start at `folder`."""
    try:
        loader = StrictLoader(text)
        node = loader.get_single_node()
        value = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = getattr(error, "problem", None)
        what = _explain_yaml(problem, mark, text) if problem and mark else problem or error
        raise InputError(f"{where}: {what}") from error
    return check_recipe(value, folder, name, node)


def check_recipe(value: Any, folder: Path, name: str = "recipe", node: Any = None) -> Recipe:
    """`load_recipe` for a dictionary; relative paths start at `folder`. `node` is what YAML says of its lines."""
    if not isinstance(value, dict):
        raise InputError(f"{name}: a recipe is a mapping; start with 'name:', 'out:' and 'sources:'")
    if wrong := list(_keys_not_unicode(value)):
        raise InputError(
            "\n".join(f"{name}: {key}: half of a surrogate pair stands there; write a whole character" for key in wrong)
        )
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}  # a key that may be of several types has a fault for each
        lines = node is not None
        document = node or yaml.compose(json.dumps(value, default=str), StrictLoader)  # JSON is YAML
        for where, what in (_explain(fault, document, name, lines) for fault in error.errors(include_url=False)):
            faults.setdefault(where, []).append(what)
        raise InputError(
            "\n".join(f"{where}: {', or '.join(dict.fromkeys(whats))}" for where, whats in faults.items())
        ) from error
    _refuse_paths(recipe, folder, name)
    with locating(name):
        recipe = _with_absolute_paths(recipe, folder)
        _refuse_out_as_source(recipe)
    return recipe


def _keys_not_unicode(value: Any, path: str = "") -> Iterator[str]:
    """Where a text, or a key, has a character that UTF-8 cannot write."""
    if isinstance(value, str):
        if not is_unicode(value):
            yield ascii(path)[1:-1]
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            here = f"{path}.{key}" if path else str(key)
            yield from _keys_not_unicode(inner if is_unicode(str(key)) else str(key), here)


def _explain_yaml(problem: str, mark: Any, text: str) -> str:
    """What is wrong where YAML's parser stopped, in our words; to it a wrong indentation is a fault of grammar."""
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    above = next((number for number in range(mark.line - 1, -1, -1) if lines[number].strip()), 0)
    if "mapping values are not allowed" in problem and line.split(" #")[0].count(": ") > 1:
        return "a value that holds ': ' needs quotes"
    if "could not find expected ':'" in problem or ("mapping values are" in problem and ":" not in lines[above]):
        return f"line {above + 1} has no ': ', a colon and a blank, after its key"
    if "mapping values are not allowed" in problem or "expected <block end>" in problem:
        column = len(line) - len(line.lstrip()) + 1
        return f"the indentation is wrong: this line starts in column {column}; keys of one section start in the same column"
    if "'\\t' that cannot start any token" in problem:
        return "a tab stands here; YAML indents by blanks"
    if "cannot start any token" in problem or "expected alphabetic or numeric character" in problem:
        return "a value that begins with a sign such as * & @ % needs quotes: '*.jsonl'"
    if "expected ',' or '" in problem:
        closing = re.findall("'([]}])'", problem)
        return f"a bracket is not closed, so that {' or '.join(closing)} is missing, or a value inside it needs quotes"
    if "unexpected end of stream" in problem:
        return "a quote that was opened above is not closed"
    return problem


def _explain(fault: Any, node: Any, name: str, has_lines: bool) -> tuple[str, str]:
    """(file, line and key; what is wrong there) for one fault that pydantic found; `node` is the whole document."""
    keys = [str(part) for part in (*fault["loc"], *getattr(fault.get("ctx", {}).get("error"), "keys", ()))]
    line, path = 1, []
    for key in keys:
        children = {k.value: (k, v) for k, v in node.value} if isinstance(node, yaml.MappingNode) else {}
        if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            children = {key: (node.value[int(key)], node.value[int(key)])}
        if key in children:
            line, node = children[key][0].start_mark.line + 1, children[key][1]
            path.append(key)
        elif fault["type"] == "missing" and key == keys[-1]:
            path.append(key)  # any other key that the document lacks is a name that pydantic gives to one type of several
    where = f"{name}{f':{line}' if has_lines else ''}: {'.'.join(path) or 'recipe'}"
    if fault["type"] == "extra_forbidden":
        return where, f"unknown key; {_guess_key(path)}"
    what = say_fault(fault["type"], fault["msg"])
    given, hint = fault.get("input"), ""
    if isinstance(given, str | int | float | bool) and fault["type"] != "value_error":
        hint = f" (given: {given!r})"
    if fault["type"] == "literal_error":
        near = difflib.get_close_matches(str(given), re.findall("'([^']*)'", fault["ctx"]["expected"]), n=1)
        hint += f"; did you mean '{near[0]}'?" if near else ""
    return where, what + hint


def _guess_key(path: list[str]) -> str:
    """Which key was probably meant by one that is unknown, or where it belongs."""
    top, known, key = _keys_at([]), _keys_at(path[:-1]), path[-1]
    if len(path) > 1 and key in top:
        return f"'{key}' stands at the top: indent it less"
    if path[0] == "sources" and len(path) == 3 and path[1] in top and key in _keys_at([path[1]]):
        return f"'{path[1]}' stands at the top: indent it less"
    homes = [section for section in top if section != "sources" and key in _keys_at([section])] if len(path) == 1 else []
    if homes:
        return f"it belongs under '{homes[0]}:', indented"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"


def _keys_at(path: list[str]) -> list[str]:
    """Keys of the mapping that these keys lead to."""
    model: type[Section]
    match path:
        case []:
            model = Recipe
        case ["sources", _]:
            model = Source
        case ["mix", "stages", _]:
            model = Stage
        case ["mix", "stages", _, *of_stage]:
            return _keys_at(of_stage)
        case ["weights", "groups", _]:
            model = Group
        case ["weights", "target"]:
            model = Like
        case ["weights", "temperature"] | ["evaluate", "mixtures", _, "temperature"]:
            model = Divergence
        case ["evaluate", "mixtures", _]:
            model = TiltedMixture
        case ["evaluate", "model"]:
            model = ModelShape
        case ["evaluate", "branch"]:
            model = Branch
        case ["evaluate", "held_out"]:
            model = HeldOut
        case ["domains"]:
            model = Domains
        case ["domains", "discover"]:
            model = Discover
        case ["domains", "refine"]:
            model = Refine
        case ["leverage", "ridge"]:
            model = EffectiveDimension
        case ["leverage", "landmarks"]:
            model = RecordedLandmarks
        case _:
            annotation = Recipe.model_fields[path[0]].annotation
            if not (isinstance(annotation, type) and issubclass(annotation, Section)):
                return []
            model = annotation
    return [field.alias or key for key, field in model.model_fields.items()]


def absolute_path(path: str, folder: Path) -> str:
    """A path of a recipe as a URL or an absolute path. A chain of URLs is refused, because it would reach past `out`."""
    refuse_chain(path)
    if "\0" in path:
        raise InputError(f"{path[:60]!r} holds a NUL character, which no path does")
    if "://" in path:
        return path
    return os.path.normpath(folder / os.path.expanduser(path))  # noqa: PTH111  (pathlib's raises where there is no home)


def _refuse_paths(recipe: Recipe, folder: Path, name: str) -> None:
    """Raise InputError for every path that is none, may hold a secret, or names what is written as corpus."""
    faults = Faults()
    for key, source in recipe.sources.items():
        for path in source.path:
            faults.collect(partial(_refuse_path, path, folder), f"{name}: sources.{key}: ")
    faults.collect(partial(_refuse_path, recipe.out, folder), f"{name}: out: ")
    faults.collect(partial(_refuse_secrets_elsewhere, recipe), f"{name}: ")
    faults.raise_all()


def _refuse_path(path: str, folder: Path) -> None:
    absolute_path(path, folder)
    refuse_secrets(path)


def _with_absolute_paths(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with every relative path absolute. Raises InputError for a URL that may hold a secret."""
    sources = {}
    for name, source in recipe.sources.items():
        with locating(f"sources.{name}"):
            paths = tuple(absolute_path(path, folder) for path in source.path)
            for path in paths:
                refuse_secrets(path)
        update: dict[str, Any] = {"path": paths}
        if source.template is not None:
            update["template"] = _read_template(f"sources.{name}.template", source.template, folder)
        sources[name] = source.model_copy(update=update)
    with locating("out"):
        refuse_secrets(recipe.out)
    _refuse_secrets_elsewhere(recipe)
    update = {"sources": sources, "out": absolute_path(recipe.out, folder)}
    tokenizer, tokens = recipe.tokens.tokenizer, dict[str, Any]()
    if tokenizer and (folder / tokenizer).exists():
        tokens["tokenizer"] = absolute_path(tokenizer, folder)
    if recipe.tokens.template:
        tokens["template"] = absolute_path(recipe.tokens.template, folder)
    update["tokens"] = recipe.tokens.model_copy(update=tokens)
    embed: dict[str, Any] = {}
    for key in ("model", "causal_lm"):
        if (model := getattr(recipe.embed, key)) and (folder / model).exists():
            embed[key] = absolute_path(model, folder)
    embed["also"] = tuple(absolute_path(model, folder) if (folder / model).exists() else model for model in recipe.embed.also)
    update["embed"] = recipe.embed.model_copy(update=embed)
    if isinstance(recipe.leverage.landmarks, RecordedLandmarks):
        recorded = RecordedLandmarks.model_validate({"from": absolute_path(recipe.leverage.landmarks.from_, folder)})
        update["leverage"] = recipe.leverage.model_copy(update={"landmarks": recorded})
    update["weights"] = _with_absolute_weights(recipe.weights, folder)
    stages = tuple(s.model_copy(update={"weights": _with_absolute_weights(s.weights, folder)}) for s in recipe.mix.stages)
    update["mix"] = recipe.mix.model_copy(update={"stages": stages})
    update["evaluate"] = _with_absolute_mixtures(recipe.evaluate, folder)
    return recipe.model_copy(update=update)


def _with_absolute_weights(weights: Weights, folder: Path) -> Weights:
    """The section with every relative path absolute."""
    files: dict[str, Any] = {"compare": tuple(absolute_path(file, folder) for file in weights.compare)}
    if weights.from_:
        files["from_"] = absolute_path(weights.from_, folder)
    if natural_exponent(weights.centre) is None:
        files["centre"] = absolute_path(weights.centre, folder)
    if isinstance(weights.target, Like):
        files["target"] = weights.target.model_copy(update={"like": tuple(absolute_path(p, folder) for p in weights.target.like)})
    return weights.model_copy(update=files)


def _read_template(key: str, template: str, folder: Path) -> str:
    """A chat template as it is, or out of a file. The recipe that is recorded holds the template itself."""
    if "{" in template:
        return template
    path = absolute_path(template, folder)
    with explaining(f"{key}: {path}", {OSError: explain_errno, UnicodeDecodeError: "is not text in UTF-8"}):
        return Path(path).read_text(encoding="utf-8")


def _with_absolute_mixtures(evaluate: Evaluate, folder: Path) -> Evaluate:
    """The section with every relative path absolute."""

    def absolute(name: str) -> str:
        known = name in ("weights", "inverse", "direct") or natural_exponent(name) is not None
        return name if known else absolute_path(name, folder)

    mixtures = tuple(
        absolute(m) if isinstance(m, str) else m.model_copy(update={"centre": absolute(m.centre)}) for m in evaluate.mixtures
    )
    update: dict[str, Any] = {"mixtures": mixtures}
    if isinstance(evaluate.held_out.unseen, dict):
        unseen = {name: absolute_path(path, folder) for name, path in evaluate.held_out.unseen.items()}
        update["held_out"] = evaluate.held_out.model_copy(update={"unseen": unseen})
    if evaluate.branch:
        update["branch"] = evaluate.branch.model_copy(update={"mixture": absolute(evaluate.branch.mixture)})
    return evaluate.model_copy(update=update)


def _refuse_secrets_elsewhere(recipe: Recipe) -> None:
    """Raise InputError for a file, model or version whose URL may hold a secret, because manifests repeat them all."""
    landmarks, evaluate = recipe.leverage.landmarks, recipe.evaluate
    sections = {"weights": recipe.weights}
    sections |= {f"mix.stages.{number}.weights": stage.weights for number, stage in enumerate(recipe.mix.stages)}
    of_weights = {
        f"{key}.{name}": urls
        for key, weights in sections.items()
        for name, urls in {
            "from": [weights.from_],
            "compare": weights.compare,
            "centre": [weights.centre],
            "target.like": weights.target.like if isinstance(weights.target, Like) else [],
        }.items()
    }
    urls_at: dict[str, Iterable[str | None]] = {
        **of_weights,
        "embed.model": [recipe.embed.model],
        "embed.causal_lm": [recipe.embed.causal_lm],
        "embed.also": recipe.embed.also,
        "tokens.tokenizer": [recipe.tokens.tokenizer],
        "tokens.template": [recipe.tokens.template],
        "evaluate.mixtures": [m if isinstance(m, str) else m.centre for m in evaluate.mixtures],
        "evaluate.branch.mixture": [evaluate.branch.mixture if evaluate.branch else None],
        "evaluate.held_out.unseen": evaluate.held_out.unseen.values() if isinstance(evaluate.held_out.unseen, dict) else [],
        "leverage.landmarks.from": [landmarks.from_ if isinstance(landmarks, RecordedLandmarks) else None],
    }
    for key, urls in urls_at.items():
        for url in urls:
            bucket, _, version = (url or "").rpartition("@")
            is_version = re.fullmatch(r"[a-z0-9]+://[a-z0-9.-]+", bucket) and re.fullmatch(r"v?[0-9]+|latest", version)
            with locating(key):
                refuse_secrets(bucket if is_version else url or "")  # in s3://bucket@v3 the bucket is no user


def _refuse_out_as_source(recipe: Recipe) -> None:
    """Raise InputError for a source that would read what is written to `out`: shards, caches and reports."""
    out = _split(recipe.out)
    for name, source in recipe.sources.items():
        for path in source.path:
            if _reaches(_split(path), out):
                raise InputError(
                    f"sources.{name}: {path} contains out ({recipe.out}), or lies in it, so that what is written would be read "
                    "as corpus; put out elsewhere"
                )


def _reaches(path: tuple[str, ...], out: tuple[str, ...]) -> bool:
    """Whether a folder, file or pattern names something in `out`. Both are split, because corpus does not contain corpus-out."""
    if path == out[: len(path)]:
        return True
    for pattern, part in zip(path, out, strict=False):
        if "**" in pattern:
            return True
        if pattern != part and not fnmatchcase(part, pattern):
            return False
    return len(path) > len(out)  # a shorter pattern names files beside the folders on the way to `out`, and enters none


def _split(url: str) -> tuple[str, ...]:
    """The file system and the names on the way, links resolved; the same for every way of writing one folder."""
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower() if separator else "file"
    if scheme in ("file", "local"):
        scheme, rest = "file", os.path.realpath(rest or url)
    return EXTRAS.get(scheme, scheme), *(part for part in rest.split("/") if part)
