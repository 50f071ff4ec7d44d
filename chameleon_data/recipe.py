"""What a person asks for: strict YAML, validated into frozen values.

An unknown or duplicate key is refused with its line and the nearest right key, because a silently ignored
`sample: 512` costs a week of training. Paths are relative to the recipe's file. Aliases and tags are refused: a recipe
is data, and an alias can explode.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from chameleon_data.errors import InputError, Sentences, explaining, list_some
from chameleon_data.store.urls import EXTRAS, refuse_secrets

BYTE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
TOKEN_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
LARGEST_BUDGET = 2**52  # above it a float64 no longer holds every token offset
LARGEST_DOCUMENT = 2**31 - 1  # bytes that one string of Arrow's 32-bit offsets, and one cell of Parquet, can hold


def _quantity(value: Any, units: dict[str, int], example: str) -> Any:
    if not isinstance(value, str):
        return _no_bool(value)
    match = re.fullmatch(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?)\s*([A-Za-z]*)\s*", value)
    if not match or match[2].upper() not in units:
        raise ValueError(f"{value[:60]!r} is not a quantity; write a whole number or, say, {example}")
    digits, unit = match[1].replace("_", ""), units[match[2].upper()]
    if float(digits) == 0:  # 0e999999999, at which Decimal fails
        return 0
    if float(digits) * unit > 1e30:  # Decimal would write out all the digits of 1e999999999
        raise ValueError(f"{value[:60]!r} is too large; write a whole number or, say, {example}")
    number = Decimal(digits) * unit
    if number != int(number):
        raise ValueError(f"{value[:60]!r} is not a whole number")
    return int(number)


def _no_bool(value: Any) -> Any:
    """YAML reads yes, no, on and off as true and false, and Python takes those for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"{'yes, on or true' if value else 'no, off or false'} is not a number")
    if isinstance(value, int) and abs(value) > 10**30:
        raise ValueError("the number is too large")
    return value


def _size(value: Any) -> Any:
    return _quantity(value, BYTE_UNITS, "64MiB")


def _count(value: Any) -> Any:
    return value if value == "auto" else _quantity(value, TOKEN_UNITS, "40M")


ByteSize = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Budget = Annotated[Literal["auto"] | Annotated[int, Field(gt=0, le=LARGEST_BUDGET)], BeforeValidator(_count)]
Share = Annotated[float, BeforeValidator(_no_bool), Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[float, BeforeValidator(_no_bool), Field(gt=0.0, allow_inf_nan=False)]
Factor = Annotated[float, BeforeValidator(_no_bool), Field(ge=0.0, allow_inf_nan=False)]
WholeNumber = Annotated[int, BeforeValidator(_no_bool)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Source(Section):
    """One way to read a set of files."""

    path: tuple[str, ...]
    """Globs, folders or files; any fsspec URL."""
    text: str = "text"
    """Key of the text; dots reach into nested fields."""
    id: str | None = None
    """Key of a document id; needed when `input.hash` is `id`."""
    domain: str | None = None
    """Key of a column that holds each row's domain; without it the source's name is the domain."""
    rename: dict[str, str] = {}
    """Value of the domain column -> domain name."""

    @field_validator("path", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.path:
            raise ValueError("the list of paths is empty")
        if self.rename and self.domain is None:
            raise ValueError("'rename' needs 'domain', the column whose values it renames")
        return self


class Input(Section):
    hash: Literal["text", "id"] = "text"
    """What identifies a document and orders the stream: its text, or its id."""
    max_bad: Share = 0.001
    """Largest share of quarantined rows a domain may have."""
    max_document: ByteSize = 256 * 2**20
    """Longest text, in bytes of UTF-8; longer rows are quarantined."""
    dedup: Literal["none", "exact", "exact_across"] = "none"
    """Exact copies: kept; dropped within each domain; dropped over all domains, the one first in `sources` keeping its copy."""

    @field_validator("max_document")
    @classmethod
    def _fits(cls, value: int) -> int:
        if value > LARGEST_DOCUMENT:
            raise ValueError(f"at most 2 GiB less one byte ({LARGEST_DOCUMENT}) fit into one document")
        return value


class Tokens(Section):
    unit: Literal["bytes"] | None = None
    tokenizer: str | None = None
    """A tokenizer.json, a folder that holds one, or a hub id."""
    end_of_text: str | None = None
    """The tokenizer's token between documents in token formats; by default the one it is known to have."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.unit and self.tokenizer:
            raise ValueError("give either 'unit: bytes' or 'tokenizer', not both")
        if self.end_of_text is not None and not self.tokenizer:
            raise ValueError("'end_of_text' is a token of a tokenizer; name the 'tokenizer'")
        return self


class Embed(Section):
    model: str | None = "all-MiniLM-L6-v2"
    """A sentence-transformers hub id or folder."""
    causal_lm: str | None = None
    """In its place, a causal or masked language model's hub id or folder: the mean over real tokens of one of its layers."""
    layer: Literal["middle"] | Annotated[WholeNumber, Field(ge=1, le=10_000)] = "middle"
    """Of `causal_lm`: the block, from 1, whose output is taken."""
    column: str | None = None
    """In its place, a column of the sources' Parquet or Arrow files that holds a vector for each document."""
    revision: str | None = None
    """Commit of the model on the hub."""
    samples: Literal["auto"] | Annotated[WholeNumber, Field(ge=1, le=1_000_000)] = 256
    """Documents drawn per domain, in proportion to their tokens; `auto` doubles them until the intervals are narrow."""
    tolerance: Annotated[Positive, Field(le=1.0)] = 0.02
    """Of `samples: auto`: the width of a weight's 90 % interval, from end to end, that is narrow enough."""
    max_samples: Annotated[WholeNumber, Field(ge=1, le=1_000_000)] = 2048
    """Of `samples: auto`: where it stops in any case."""
    window: Annotated[WholeNumber, Field(ge=8, le=1_000_000)] = 256
    """Tokens of the model that one sample shows it."""

    @property
    def drawn(self) -> int:
        """Documents per domain that the survey draws."""
        return self.max_samples if self.samples == "auto" else self.samples

    @model_validator(mode="before")
    @classmethod
    def _instead(cls, value: Any) -> Any:
        if isinstance(value, dict) and (value.get("causal_lm") or value.get("column")):
            return {"model": None, **value}
        return value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(x is not None for x in (self.model, self.causal_lm, self.column)) != 1:
            raise ValueError("give one of 'model', 'causal_lm' and 'column'")
        if self.layer != "middle" and self.causal_lm is None:
            raise ValueError("'layer' is of 'causal_lm'; leave it out")
        if self.column is not None and (self.window, self.revision) != (256, None):
            raise ValueError("'column' holds finished vectors; leave 'window' and 'revision' out")
        return self


class EffectiveDimension(Section):
    """A ridge by what it does."""

    effective_dimension: Positive
    """Sum of the leverage scores, Σ λ/(λ + r): how many directions the domains (or samples) may take up."""


class RecordedLandmarks(Section):
    """Landmarks of an earlier version."""

    from_: str = Field(alias="from")
    """OUT@VERSION."""


class Leverage(Section):
    preset: Literal["default", "reference"] = "default"
    level: Literal["domain", "sample"] = "domain"
    kernel: Literal["linear", "cosine", "rbf", "polynomial", "laplacian"] = "linear"
    bandwidth: Literal["auto"] | Positive = "auto"
    degree: Literal[2, 3] = 2
    """Of the polynomial kernel."""
    landmarks: Literal["auto"] | Annotated[WholeNumber, Field(ge=1, le=16_384)] | RecordedLandmarks = 256
    """Points that stand for all samples with rbf, polynomial and laplacian."""
    sampling: Literal["kmeans", "uniform", "bless"] = "kmeans"
    tolerance: Positive = 0.005
    """Error of a weight through landmarks that is accepted; `landmarks: auto` grows until it is reached."""
    ridge: Literal["auto"] | Positive | EffectiveDimension = "auto"
    debias: Literal["auto"] | Share = "auto"
    centre: bool = True

    @model_validator(mode="after")
    def _acts(self) -> Self:
        if self.preset == "reference" and (self.kernel, self.level) != ("linear", "domain"):
            raise ValueError(
                "the reference preset is the published formula, linear and of domains; use the default one for others"
            )
        if self.bandwidth != "auto" and self.kernel in ("linear", "cosine"):
            raise ValueError(f"the {self.kernel} kernel has no bandwidth; leave it at 'auto'")
        if isinstance(self.landmarks, RecordedLandmarks) and (self.bandwidth != "auto" or self.kernel in ("linear", "cosine")):
            raise ValueError("recorded landmarks, of rbf, polynomial or laplacian, bring their bandwidth; leave it at 'auto'")
        if self.level == "sample" and self.debias != "auto":
            raise ValueError("'level: sample' has no diagonal to debias; leave 'debias' at 'auto'")
        return self


class Group(Section):
    """Bounds on the shares of some domains together."""

    domains: Annotated[tuple[str, ...], Field(min_length=1)]
    floor: Share = 0.0
    cap: Share = 1.0


class EffectiveDomains(Section):
    """A temperature by what it does."""

    effective_domains: Annotated[Positive, Field(gt=1.0)]
    """Perplexity of the mixture before bounds: the number of equal domains as spread out as it."""


class Weights(Section):
    objective: Literal["pretrain", "finetune"] = "pretrain"
    temperature: Literal["auto"] | Positive | EffectiveDomains = "auto"
    floor: Share | dict[str, Share] = 0.0
    cap: Share | dict[str, Share] = 1.0
    prior: dict[str, Factor] = {}
    groups: dict[str, Group] = {}
    """Name -> bounds on what its domains get together; a domain is in one group at most."""
    compare: tuple[str, ...] = ()
    """Files of weights to show beside the computed ones, in any format that `from` reads."""
    from_: str | None = Field(default=None, alias="from")
    """A JSON or YAML file of domain: weight, or OUT@VERSION; then nothing is embedded."""

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        named = [domain for group in self.groups.values() for domain in group.domains]
        if twice := [domain for domain, times in Counter(named).items() if times > 1]:
            raise ValueError(f"{twice[0]!r} stands twice in 'groups'; name it in one group, once")
        return self


class Mix(Section):
    budget: Budget = "auto"
    """Tokens to write; `auto` is what the corpus holds."""
    max_epochs: Positive = 4.0
    exhausted: Literal["redistribute", "repeat", "fail"] = "redistribute"
    validation: Annotated[Share, Field(lt=1.0)] = 0.0
    """Share of the documents that is held out as a split of its own."""


class Shards(Section):
    formats: tuple[Literal["parquet", "mds", "arrow", "jsonl", "webdataset", "litdata", "megatron"], ...] = ("parquet", "mds")
    size: ByteSize = 64 * 2**20
    """Uncompressed bytes of text (or token ids) in one shard, about."""
    compression: Literal["zstd", "none"] = "zstd"
    sequence_length: Literal["none"] | Annotated[WholeNumber, Field(ge=2, le=2**24)] = "none"
    """Tokens of a row, where rows are sequences of token ids; none: a row is a document's text."""
    packing: Literal["cross", "whole"] = "cross"
    """Of sequences: cut from the stream of documents wherever they end, or whole documents and padding."""
    lineage: bool = False
    """Whether to write beside the shards where each row came from."""

    @field_validator("formats", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.formats or len(set(self.formats)) != len(self.formats):
            raise ValueError("name each format once, at least one")
        if self.packing != "cross" and self.sequence_length == "none":
            raise ValueError("'packing' is of sequences; give their 'sequence_length', or leave it out")
        return self


class MisplacedKeyError(ValueError):
    """A fault between two sections, which stands at the key where a person mends it."""

    def __init__(self, keys: tuple[str, ...], what: str) -> None:
        super().__init__(what)
        self.keys = keys


class Recipe(Section):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    out: str
    """Any fsspec URL; everything that is written goes under it."""
    seed: Annotated[WholeNumber, Field(ge=0, lt=2**63)] = 0
    sources: Annotated[dict[str, Source], Field(min_length=1)]
    input: Input = Input()
    tokens: Tokens = Tokens(unit="bytes")
    embed: Embed = Embed()
    leverage: Leverage = Leverage()
    weights: Weights = Weights()
    mix: Mix = Mix()
    shards: Shards = Shards()

    @field_validator("sources", mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"path": s} if isinstance(s, str | list | tuple) else s for name, s in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        renamed = ((n, ("sources", key, "rename", value)) for key, s in self.sources.items() for value, n in s.rename.items())
        seen: dict[str, str] = {}
        for name, keys in (*((key, ("sources", key)) for key in self.sources), *renamed):
            try:
                check_domain_name(name)
            except ValueError as error:
                raise MisplacedKeyError(keys, str(error)) from None
            folded = unicodedata.normalize("NFC", name)
            if seen.setdefault(folded, name) != name:
                raise MisplacedKeyError(keys, f"two domains are both called {folded!r} once Unicode is normalised; rename one")
        if self.tokens.tokenizer is None:
            if self.shards.sequence_length != "none":
                keys = ("shards", "sequence_length")
                raise MisplacedKeyError(
                    keys, "sequences are of token ids; name what makes them, 'tokens: {tokenizer: FILE or hub id}'"
                )
            if "megatron" in self.shards.formats:
                keys = ("shards", "formats")
                raise MisplacedKeyError(
                    keys, "megatron holds token ids; name what makes them, 'tokens: {tokenizer: FILE or hub id}'"
                )
        if self.input.hash == "id":
            without = [name for name, source in self.sources.items() if source.id is None]
            if without:
                more = f" (as do {list_some(without[1:])})" if without[1:] else ""
                keys = ("sources", without[0])
                raise MisplacedKeyError(
                    keys, f"lacks the key 'id', the column that 'input.hash: id' identifies documents by{more}"
                )
        return self


def check_domain_name(name: str) -> None:
    """Raise ValueError unless a person can read, type and tell apart this domain's name."""
    if not name or len(name) > 200 or name != name.strip() or not name.isprintable():
        raise ValueError(f"{name[:60]!r} cannot be a domain name: 1 to 200 printable characters, no blanks at the ends")


class StrictLoader(yaml.SafeLoader):
    """Plain data only, and numbers in decimals as in YAML 1.2: 010 is ten, and 1:30 is text where YAML 1.1 reads 8 and 90."""

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
    """Which recipe was meant."""
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
    """`load_recipe` for text that is already in memory; `folder` is what relative paths start from."""
    try:
        loader = StrictLoader(text)
        node = loader.get_single_node()
        value = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise InputError(f"{where}: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name}: a recipe is a mapping; start with 'name:', 'out:' and 'sources:'")
    try:
        recipe = Recipe.model_validate(value)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}  # a key that may be of several types has a fault for each
        for where, what in (_explain(fault, node, name) for fault in error.errors(include_url=False)):
            faults.setdefault(where, []).append(what)
        raise InputError(
            "\n".join(f"{where}: {', or '.join(dict.fromkeys(whats))}" for where, whats in faults.items())
        ) from error
    try:
        recipe = _absolute(recipe, folder)
        _apart(recipe)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return recipe


def _explain(fault: Any, node: Any, name: str) -> tuple[str, str]:
    """(file, line and key; what is wrong there)."""
    keys = [str(part) for part in (*fault["loc"], *getattr(fault.get("ctx", {}).get("error"), "keys", ()))]
    line, path = 1, []
    for key in keys:  # as far as the document goes; pydantic appends names of union members after that
        children = {k.value: (k, v) for k, v in node.value} if isinstance(node, yaml.MappingNode) else {}
        if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            children = {key: (node.value[int(key)], node.value[int(key)])}
        if key not in children:
            if fault["type"] == "missing":
                path.append(key)
            break
        line, node = children[key][0].start_mark.line + 1, children[key][1]
        path.append(key)
    where = f"{name}:{line}: {'.'.join(path) or 'recipe'}"
    if fault["type"] == "extra_forbidden":
        known = _keys_at(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
        return where, f"unknown key; {hint}"
    message = "write a list: [a, b]" if fault["type"] == "tuple_type" else fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        message = "this key is missing"
    given = fault.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) and fault["type"] != "value_error" else ""
    near = []
    if fault["type"] == "literal_error":
        near = difflib.get_close_matches(str(given), re.findall("'([^']*)'", fault["ctx"]["expected"]), n=1)
    return where, f"{message}{shown}" + (f"; did you mean '{near[0]}'?" if near else "")


def _keys_at(path: list[str]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "sources": Source,
        "input": Input,
        "tokens": Tokens,
        "embed": Embed,
        "leverage": Leverage,
        "weights": Weights,
        "mix": Mix,
        "shards": Shards,
    }
    model = Group if path[:2] == ["weights", "groups"] and len(path) > 2 else sections[path[0]] if path else Recipe
    return [field.alias or key for key, field in model.model_fields.items()]


def absolute_path(path: str, folder: Path) -> str:
    """A path of a recipe as a URL or an absolute path. URL chaining is refused: it would reach past `out`."""
    if "::" in path:
        raise InputError("chained URLs ('::') are not allowed; name one file system")
    if "\0" in path:
        raise InputError(f"{path[:60]!r} holds a NUL character, which no path does")
    if "://" in path:
        return path
    return os.path.normpath(folder / os.path.expanduser(path))  # noqa: PTH111  (pathlib's raises for a home that is not there)


def _absolute(recipe: Recipe, folder: Path) -> Recipe:
    sources = {}
    for name, source in recipe.sources.items():
        try:
            paths = tuple(absolute_path(path, folder) for path in source.path)
            for path in paths:
                refuse_secrets(path)
        except InputError as error:
            raise InputError(f"sources.{name}: {error}") from None
        sources[name] = source.model_copy(update={"path": paths})
    try:
        refuse_secrets(recipe.out)
    except InputError as error:
        raise InputError(f"out: {error}") from None
    _no_secrets(recipe)
    update: dict[str, Any] = {"sources": sources, "out": absolute_path(recipe.out, folder)}
    local = recipe.tokens.tokenizer
    if local and (folder / local).exists():
        update["tokens"] = recipe.tokens.model_copy(update={"tokenizer": absolute_path(local, folder)})
    for key in ("model", "causal_lm"):
        if (named := getattr(recipe.embed, key)) and (folder / named).exists():
            update["embed"] = recipe.embed.model_copy(update={key: absolute_path(named, folder)})
    if isinstance(recipe.leverage.landmarks, RecordedLandmarks):
        recorded = RecordedLandmarks.model_validate({"from": absolute_path(recipe.leverage.landmarks.from_, folder)})
        update["leverage"] = recipe.leverage.model_copy(update={"landmarks": recorded})
    given, compared = recipe.weights.from_, recipe.weights.compare
    files = {"from_": given and absolute_path(given, folder), "compare": tuple(absolute_path(file, folder) for file in compared)}
    update["weights"] = recipe.weights.model_copy(update=files)
    return recipe.model_copy(update=update)


def _no_secrets(recipe: Recipe) -> None:
    """Raise InputError where a file, model or version is named by a URL that may hold a secret: manifests repeat them all."""
    recorded = recipe.leverage.landmarks
    named = {
        "weights.from": [recipe.weights.from_], "weights.compare": recipe.weights.compare, "embed.model": [recipe.embed.model],
        "embed.causal_lm": [recipe.embed.causal_lm], "tokens.tokenizer": [recipe.tokens.tokenizer],
        "leverage.landmarks.from": [recorded.from_ if isinstance(recorded, RecordedLandmarks) else None],
    }  # fmt: skip
    for key, urls in named.items():
        for url in urls:
            bucket, _, version = (url or "").rpartition("@")  # of s3://bucket@v3, that is no user
            plain = re.fullmatch(r"[a-z0-9]+://[a-z0-9.-]+", bucket) and re.fullmatch(r"v?[0-9]+|latest", version)
            try:
                refuse_secrets(bucket if plain else url or "")
            except InputError as error:
                raise InputError(f"{key}: {error}") from None


def _apart(recipe: Recipe) -> None:
    """Raise InputError for a source that would read what is written to `out`: shards, caches and reports."""
    out = _parts(recipe.out)
    for name, source in recipe.sources.items():
        for path in source.path:
            if _reaches(_parts(path), out):
                raise InputError(
                    f"sources.{name}: {path} contains out ({recipe.out}), or lies in it, so that what is written would be read "
                    "as corpus; put out elsewhere"
                )


def _reaches(path: tuple[str, ...], out: tuple[str, ...]) -> bool:
    """Whether a folder, file or pattern names something in `out`; both in parts, as corpus holds no corpus-out."""
    if path == out[: len(path)]:
        return True
    for pattern, part in zip(path, out, strict=False):
        if "**" in pattern:
            return True
        if pattern != part and not fnmatchcase(part, pattern):
            return False
    return len(path) > len(out)  # a pattern that ends above takes files alone, so it does not enter `out`


def _parts(url: str) -> tuple[str, ...]:
    """File system and names on the way, links resolved; the same for every way of writing one folder."""
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower() if separator else "file"
    if scheme in ("file", "local"):
        scheme, rest = "file", os.path.realpath(rest or url)
    return EXTRAS.get(scheme, scheme), *(part for part in rest.split("/") if part)
