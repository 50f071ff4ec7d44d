"""What a person asks for: the sections of a recipe as frozen values, and the JSON schema that editors read.

The line under each field becomes its description in the schema. `recipe_file.py` reads these values from YAML.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from math import ceil, fsum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from chameleon_data.errors import first_line, list_some
from chameleon_data.store.json_schema import DescribedJsonSchema

BYTE_UNITS = {
    "": 1,
    **{"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12},
    **{"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40},
}
TOKEN_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
LARGEST_BUDGET = 2**52
"""Tokens. A float64 does not hold every token offset above it."""
LARGEST_DOCUMENT = 2**31 - 1
"""Bytes that one string with Arrow's 32-bit offsets, and one cell of Parquet, can hold."""
DEFAULT_LEVEL = 3
"""Level of zstd. Why: docs/decisions/101-zstd-level.md."""
LARGEST_NUMBER = 10**30
"""No number of a recipe is larger. Decimal would write out all the digits of 1e999999999."""


def _parse_quantity(value: Any, units: Mapping[str, int], example: str) -> Any:
    if not isinstance(value, str):
        return _refuse_bool(value)
    match = re.fullmatch(_quantity_pattern(units), value)
    if not match:
        raise ValueError(f"{value[:60]!r} is not a quantity; write a whole number or, say, {example}")
    digits, unit = match[1].replace("_", ""), units[match[2].upper()]
    if float(digits) == 0:  # Decimal fails at 0e999999999
        return 0
    if float(digits) * unit > LARGEST_NUMBER:
        raise ValueError(f"{value[:60]!r} is too large; write a whole number or, say, {example}")
    number = Decimal(digits) * unit
    if number != int(number):
        raise ValueError(f"{value[:60]!r} is not a whole number")
    return int(number)


def _quantity_pattern(units: Mapping[str, int]) -> str:
    """A number and a unit in capitals or not, in what regular expressions of Python and of JSON schemas have in common."""
    names = "|".join("".join(f"[{letter}{letter.lower()}]" for letter in unit) for unit in units)
    return rf"^\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?)\s*({names})\s*$"


def _refuse_bool(value: Any) -> Any:
    """YAML reads yes, no, on and off as true and false, and Python takes those for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"{'yes, on or true' if value else 'no, off or false'} is not a number")
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ValueError("the number is too large")
    return value


def parse_bytes(value: Any) -> Any:
    """The bytes that "64MiB", "2GB" or "4096" means, a number as it is; ValueError for any other text."""
    return _parse_quantity(value, BYTE_UNITS, "64MiB")


def _parse_budget(value: Any) -> Any:
    return value if value == "auto" else _parse_stage_budget(value)


def _parse_stage_budget(value: Any) -> Any:
    return parse_bytes(value) if is_size(value) else _parse_quantity(value, TOKEN_UNITS, "40M")


def is_size(value: Any) -> bool:
    """Whether it is written as a number of bytes, such as 5 MB or 5MiB; 5M and 5B are not."""
    match = re.fullmatch(_quantity_pattern(BYTE_UNITS), value) if isinstance(value, str) else None
    return match is not None and len(match[2]) > 1


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _check_bounds(value: tuple[float, ...]) -> tuple[float, ...]:
    if not value or any(b <= a for a, b in pairwise(value)):
        raise ValueError("bounds of buckets are numbers that rise: [1, 3, 5]")
    return value


OF_A_ROW = {
    *("StringExpr", "TemporalExpr", "Coalesce", "FillNull", "MaxHorizontal", "MinHorizontal", "Negate", "Abs", "Sign", "Pow"),
    *("Round", "RoundSF", "Floor", "Ceil", "Log", "Log1p", "Exp", "Truncate"),
    *("IsNull", "IsNotNull", "Not", "IsIn", "IsBetween", "IsNan", "IsNotNan", "IsFinite", "IsInfinite"),
    *("AllHorizontal", "AnyHorizontal", "Binary"),
}
"""Functions of polars that look at one row, as it spells them."""


def check_condition(text: str) -> tuple[str, ...]:
    """The columns that an SQL condition on one row names, in order. ValueError for anything else.

    polars parses it. What looks at other rows is refused, because a row is judged by itself; so is today's date, because a build
    is the same on any day.
    """
    import polars as pl

    shown = repr(text[:200])
    if re.search(r"(?i)\bcurrent_(date|time|timestamp)\b|\bnow\s*\(", re.sub(r"'[^']*'", "", text)):
        raise ValueError("a condition on today's date takes other rows on another day; write the date out")
    try:
        condition = pl.sql_expr(parse_decimals_as_floats(text))
        names = tuple(dict.fromkeys(condition.meta.root_names()))
        form = json.loads(condition.meta.serialize(format="json"))
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{shown} is no SQL condition ({first_line(error)})") from None
    if "FieldByName" in str(form):
        raise ValueError(f"{shown} reaches into a column by a dot; quote the whole name: \"meta.lang\" = 'en'")
    if looks := _find_other_rows(form):
        raise ValueError(f"{shown} uses {looks}, which looks at other rows or is not known; each row is judged by itself")
    if not names:
        raise ValueError(f"{shown} names no column; write, say, score >= 3")
    return names


DECIMAL = re.compile(r"'[^']*'|\"[^\"]*\"|(?<![\w.])(\d+\.\d*|\.\d+)(?![\w.])")
"""A text or name in quotes, or a decimal number outside of them."""


def _with_exponent(found: re.Match[str]) -> str:
    return f"{found[1]}e0" if found[1] else found[0]


def parse_decimals_as_floats(text: str) -> str:
    """The condition with `2.5` as `2.5e0`. To polars the first is an exact decimal, with which a text is compared as text."""
    return DECIMAL.sub(_with_exponent, text)


def _find_other_rows(node: Any) -> str:
    """The first part of an expression of polars, as JSON, that does not look at one row alone; empty where all do."""
    if isinstance(node, list):
        return next(filter(None, map(_find_other_rows, node)), "")
    if not isinstance(node, dict):
        return "count" if node == "Len" else ""
    for kind, inner in node.items():
        if kind in ("Column", "Literal"):
            continue
        if kind == "function":
            name = inner
            while isinstance(name, dict):
                family, name = next(iter(name.items()))
                if family not in ("Boolean", "Sql"):
                    name = family
            if name not in OF_A_ROW:
                return str(name)
        elif kind[:1].isupper() and kind not in ("Alias", "BinaryExpr", "Function", "Cast", "Ternary"):
            return str(kind)
        elif found := _find_other_rows(inner):
            return found
    return ""


NO_BOOL = BeforeValidator(_refuse_bool)
WrittenBytes = Annotated[int, Field(gt=0)] | Annotated[str, Field(pattern=_quantity_pattern(BYTE_UNITS))]
"""What a person may write for a number of bytes."""
ByteSize = Annotated[int, Field(gt=0), BeforeValidator(parse_bytes, json_schema_input_type=WrittenBytes)]
BudgetTokens = Annotated[int, Field(gt=0, le=LARGEST_BUDGET)]
_WRITTEN_UNITS = {**TOKEN_UNITS, **{unit: size for unit, size in BYTE_UNITS.items() if len(unit) > 1}}
WrittenStageBudget = BudgetTokens | Annotated[str, Field(pattern=_quantity_pattern(_WRITTEN_UNITS))]
"""What a person may write for a stage's budget."""
WrittenBudget = Literal["auto"] | WrittenStageBudget
"""What a person may write for a budget."""
StageBudget = Annotated[BudgetTokens, BeforeValidator(_parse_stage_budget, json_schema_input_type=WrittenStageBudget)]
Budget = Annotated[Literal["auto"] | BudgetTokens, BeforeValidator(_parse_budget, json_schema_input_type=WrittenBudget)]
WrittenTokens = BudgetTokens | Annotated[str, Field(pattern=_quantity_pattern(TOKEN_UNITS))]
"""What a person may write for a number of tokens."""
TokenCount = Annotated[
    BudgetTokens,
    BeforeValidator(lambda value: _parse_quantity(value, TOKEN_UNITS, "700k"), json_schema_input_type=WrittenTokens),
]
BucketBounds = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False), NO_BOOL], ...],
    AfterValidator(_check_bounds),
]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False), NO_BOOL]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False), NO_BOOL]
Factor = Annotated[float, Field(ge=0.0, allow_inf_nan=False), NO_BOOL]
Names = Annotated[list[str], Field(min_length=1)]
Paths = Annotated[tuple[str, ...], BeforeValidator(_one_or_many, json_schema_input_type=str | Names)]
SeveralKeys = Annotated[tuple[str, ...], Field(min_length=2)]
FormatName = Literal["parquet", "mds", "arrow", "jsonl", "webdataset", "litdata", "megatron"]
Dtype = Literal["auto", "float32", "tf32", "bfloat16"]
WrittenFormats = FormatName | Annotated[list[FormatName], Field(min_length=1)]
Formats = Annotated[tuple[FormatName, ...], BeforeValidator(_one_or_many, json_schema_input_type=WrittenFormats)]


PLAIN_FAULTS = {
    "missing": "this key is missing",
    "tuple_type": "write a list: [a, b]",
    **dict.fromkeys(("model_type", "dict_type"), "must be a mapping: {key: value}"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "string_type": "must be text",
    "extra_forbidden": "unknown key",
    "too_short": "must have at least 1 item",
}
"""Kind of a fault that pydantic finds -> our words, where its own are those of a programmer."""


def say_fault(kind: str, message: str) -> str:
    """A fault that pydantic found, in words of a person."""
    return PLAIN_FAULTS.get(kind) or message.removeprefix("Value error, ").replace("Input should", "must", 1)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


CHAT_FORMATS = ("parquet", "mds", "arrow", "jsonl", "webdataset")
"""Formats that hold conversations."""
PACKED_CHAT_FORMATS = (*CHAT_FORMATS, "litdata")
"""Formats that hold packed conversations. Megatron's has no place for a loss mask that its trainer reads."""
SHARD_COLUMNS = {
    *("text", "messages", "tools", "input_ids", "domain", "domain_id", "doc_id", "epoch", "tokens"),
    *("doc_starts", "loss_mask", "labels"),
}
"""Columns of a shard that are not kept ones."""


class Source(Section):
    """One way to read a set of files."""

    path: Paths
    """Files, folders or globs, as paths or fsspec URLs. A relative path starts at the recipe's folder."""
    text: str = "text"
    """Column of the text; dots reach into nested fields."""
    chat: str | None = None
    """Column of a conversation, in the place of a text: a list of {role, content}, or ShareGPT's {from, value}."""
    tools: str | None = None
    """Column of the tools that a conversation may call, beside `chat`."""
    prompt: Annotated[tuple[str, ...], BeforeValidator(_one_or_many, json_schema_input_type=str | list[str])] = ()
    """Columns of a question, in the place of a text; those that are not blank are joined by a blank line."""
    completion: str | None = None
    """Column of the answer to `prompt`."""
    template: str | None = None
    """A chat template, or a file with one, that makes text of these conversations. null: they stay conversations."""
    id: str | None = None
    """Column of a document's id, which `input.hash: id` needs. null: the documents have none."""
    domain: str | SeveralKeys | Annotated[dict[str, BucketBounds], Field(min_length=1, max_length=1)] | None = None
    """Column of each row's domain; a list: several, as `a/b`; {column: [1, 3]}: buckets of a number. null: the source's name."""
    rename: dict[str, str] = {}
    """Name that `domain` gives -> name of the domain. A name that is not listed stays."""
    keep: Annotated[tuple[str, ...], BeforeValidator(_one_or_many, json_schema_input_type=str | list[str])] = ()
    """Columns that are carried through to the shards, beside the text; dots reach into nested fields."""
    where: str | None = None
    """Which rows are taken: an SQL condition on columns, as `score >= 3 and lang = 'en'`. null: all rows."""
    license: str | None = None
    """Licence of the documents: an SPDX identifier, or a sentence. It decides nothing, and stands in the card of a version."""
    origin: str | None = None
    """Where the documents are from: a URL, or a sentence. Likewise."""

    @property
    def holds_turns(self) -> bool:
        """Whether conversations stand in its files."""
        return self.chat is not None or bool(self.prompt)

    @property
    def is_chat(self) -> bool:
        """Whether its rows are conversations; with a template they are texts."""
        return self.holds_turns and self.template is None

    @property
    def chat_columns(self) -> tuple[str, ...]:
        """The columns that a conversation is made of."""
        return tuple(key for key in (self.chat, self.tools, *self.prompt, self.completion) if key is not None)

    @property
    def domain_keys(self) -> tuple[str, ...]:
        """The columns that name a row's domain."""
        if self.domain is None:
            return ()
        return (self.domain,) if isinstance(self.domain, str) else tuple(self.domain)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.path:
            raise ValueError("the list of paths is empty")
        if self.rename and self.domain is None:
            raise ValueError("'rename' needs 'domain', the column whose values it renames")
        if sum([self.chat is not None, bool(self.prompt), self.text != "text"]) > 1:
            raise ValueError(
                "a row is a text, a conversation or a prompt with its completion; give one of 'text', 'chat', 'prompt'"
            )
        if bool(self.prompt) != (self.completion is not None):
            raise ValueError("'prompt' and 'completion' are columns of one row; give both")
        if self.template is not None and not self.holds_turns:
            raise ValueError("'template' makes text of conversations; name their column in 'chat', or 'prompt' and 'completion'")
        if self.tools is not None and self.chat is None:
            raise ValueError("'tools' stand beside a conversation; name its column in 'chat'")
        if taken := sorted({*self.keep} & SHARD_COLUMNS):
            raise ValueError(f"'keep' names {taken[0]!r}, a column that every shard has; rename it in the corpus")
        if len({*self.keep}) < len(self.keep) or len({*self.domain_keys}) < len(self.domain_keys):
            raise ValueError("a column stands twice; name it once")
        if self.where is not None:
            check_condition(self.where)
        return self


class LabelledSource(Source):
    """A source whose rows get a topic for their domain. It is made by the passes, and no recipe holds it."""

    topics_url: str
    """The `out` that holds the record of the topics."""
    topics: str
    """Digest of the topics."""
    seed: int
    """Decides which window of a text is looked at."""
    window: int
    """Its length, in tokens of the embedding model."""
    embedder: str | None
    """Fingerprint of the embedder whose vectors decide the topics. None: words do."""
    assigned: str | None = None
    """Where the topics of a part's texts are recorded, below `topics_url`. None: the part is not known, or words decide."""


Assign = Literal["fast", "embed"]
"""How documents get a topic: by their words, or by their vectors."""


LEAST_DISCOVERED, MOST_DISCOVERED = 64, 1_000_000
"""Documents of a source that are embedded and clustered, at least and at most."""
DiscoveredSamples = Annotated[int, Field(ge=LEAST_DISCOVERED, le=MOST_DISCOVERED), NO_BOOL]


class Clustered(Section):
    """What is said of clusters, whatever they are of."""

    usual_samples: ClassVar[int]
    samples: DiscoveredSamples | None = None
    """Documents of each source that are embedded and clustered. null: 4096 to discover, 2048 to refine, or as `fraction` says."""
    fraction: Annotated[float, Field(gt=0.0, le=1.0), NO_BOOL] | None = None
    """The same as a share of each source's documents, from 64 to a million; the corpus is read once more to count them."""
    assign: Assign = "fast"
    """How every document gets its topic. fast: by its words, which learn the clusters. embed: by its vector; all are embedded."""

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if self.samples is not None and self.fraction is not None:
            raise ValueError("'samples' and 'fraction' both say how many documents are embedded; leave one out")
        return self

    def drawn_of(self, documents: int) -> int:
        """How many documents of a source are embedded and clustered, of so many that it has."""
        if self.fraction is None:
            return self.samples or self.usual_samples
        return max(LEAST_DISCOVERED, min(MOST_DISCOVERED, ceil(self.fraction * documents)))


class Discover(Clustered):
    """Topics over all sources together."""

    usual_samples = 4096
    clusters: Annotated[int, Field(ge=2, le=4096), NO_BOOL] = 64
    """Topics to look for. There are fewer where some are small or one with others."""


class Refine(Clustered):
    """Topics within each source."""

    usual_samples = 2048
    clusters: Annotated[int, Field(ge=2, le=4096), NO_BOOL] = 8
    """Topics to look for in each source. Their domains are called source/topic."""
    hold: dict[str, Share] = {}
    """Source -> share of the tokens that its topics get together."""


class Domains(Section):
    """Domains that are found in the texts, where sources have no labels, or coarse ones."""

    discover: Discover | None = None
    """Topics over all sources together, in the place of the sources' names."""
    refine: Refine | None = None
    """Topics within each source."""
    clustering: Annotated[int, Field(ge=1), NO_BOOL] | None = None
    """Number of a clustering that `out` holds. null: the one that these settings made before, or a new one."""

    @property
    def asked(self) -> Discover | Refine:
        """The one of both that is given."""
        asked = self.discover or self.refine
        if asked is None:
            raise ValueError("a recipe whose domains are not discovered passed its own check")
        return asked

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.discover is None) == (self.refine is None):
            raise ValueError("give one of 'discover' and 'refine', such as 'discover: {clusters: 64}'")
        return self


WrittenSources = Annotated[dict[str, str | Names | Source], Field(min_length=1)]
"""What a person may write for `sources`: a text or list is the `path` of a source."""


class Input(Section):
    """Which rows are documents, and which of them are copies."""

    hash: Literal["text", "id"] = "text"
    """What identifies a document and orders the stream: its text, or its id. For id every source names its `id`."""
    max_bad: Share = 0.001
    """Largest share of a domain's rows that may be unusable; above it the build fails. 0.001: one row in a thousand."""
    max_blank: Share = 0.1
    """Largest share of a domain's rows whose text may be blank or null; `max_bad` does not count these."""
    max_document: ByteSize = 256 * 2**20
    """Longest text, in bytes of UTF-8; a row with a longer one is unusable."""
    dedup: Literal["none", "exact", "exact_across"] = "none"
    """none: copies of a text are kept. exact: each domain keeps one. exact_across: the domain that is first in `sources` does."""

    @field_validator("max_document")
    @classmethod
    def _fits(cls, value: int) -> int:
        if value > LARGEST_DOCUMENT:
            raise ValueError(f"at most 2 GiB less one byte ({LARGEST_DOCUMENT}) fit into one document")
        return value


class Reading(Section):
    """How the corpus is read."""

    keep: Literal["auto", False] = "auto"
    """auto: its rows are kept on disk where there is room, so that it is read once. false: it is read again to write."""


class Tokens(Section):
    """What a budget counts: bytes, or the tokens of a tokenizer."""

    unit: Literal["bytes"] | None = None
    """bytes: a token is a byte of UTF-8. null: a token is what `tokenizer` makes, or a byte if there is none."""
    tokenizer: str | None = None
    """A tokenizer.json, a folder that holds one, or a hub id. null: bytes are counted."""
    count: Literal["all", "trained"] = "all"
    """Of conversations: all tokens, or those that a trainer learns from, which are the assistant's."""
    template: str | None = None
    """A file with the chat template of conversations. null: the tokenizer's own."""
    end_of_text: str | None = None
    """The tokenizer's token between documents, in shards of token ids. null: the first usual one that the tokenizer has."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.unit and self.tokenizer:
            raise ValueError("give either 'unit: bytes' or 'tokenizer', not both")
        if self.template is not None and not self.tokenizer:
            raise ValueError("'template' makes text for a tokenizer; name the 'tokenizer'")
        if self.end_of_text is not None and not self.tokenizer:
            raise ValueError("'end_of_text' is a token of a tokenizer; name the 'tokenizer'")
        return self


class Embed(Section):
    """How documents become the vectors by which domains are compared: by `model`, `causal_lm` or `column`, one of the three."""

    model: str | None = "all-MiniLM-L6-v2"
    """A sentence-transformers model: hub id or folder."""
    causal_lm: str | None = None
    """A causal or masked language model in its place: hub id or folder. A vector is the mean of a layer over real tokens."""
    layer: Literal["middle"] | Annotated[int, Field(ge=1, le=10_000), NO_BOOL] = "middle"
    """Block of `causal_lm` whose output is taken, counted from 1. middle: the block halfway."""
    column: str | None = None
    """A column of the sources' Parquet or Arrow files in its place, which holds a vector for each document."""
    revision: str | None = None
    """Commit of the model on the hub. null: the newest one, or the one of an installed package."""
    samples: Literal["auto"] | Annotated[int, Field(ge=1, le=1_000_000), NO_BOOL] = 256
    """Documents drawn from each domain, in proportion to their tokens. auto: doubled until `tolerance` is met."""
    tolerance: Annotated[float, Field(gt=0.0, le=1.0), NO_BOOL] = 0.02
    """For `samples: auto`: width of a weight's 90 % interval, from end to end, that is narrow enough."""
    max_samples: Annotated[int, Field(ge=1, le=1_000_000), NO_BOOL] = 2048
    """For `samples: auto`: documents of a domain at which it stops in any case."""
    window: Annotated[int, Field(ge=8, le=1_000_000), NO_BOOL] = 256
    """Tokens of the model that it is shown of a document, from a random place in it."""
    dtype: Dtype = "auto"
    """Numbers that the model computes in. auto: bfloat16 on GPUs, float32 on CPUs. tf32: float32 with TF32, on GPUs."""
    of: Literal["user", "assistant", "all"] = "user"
    """Of conversations: whose turns are embedded."""
    also: tuple[str, ...] = ()
    """Further embedders to weigh by and show beside: tfidf, or sentence-transformers models."""

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
        if len({*self.also, self.model}) <= len(self.also):
            raise ValueError("name each embedder once, in 'model' or in 'also'")
        if self.layer != "middle" and self.causal_lm is None:
            raise ValueError("'layer' counts the blocks of 'causal_lm'; name that, or leave 'layer' out")
        if self.column is not None and (self.window, self.revision, self.dtype) != (256, None, "auto"):
            raise ValueError("'column' holds finished vectors; leave 'window', 'revision' and 'dtype' out")
        return self


class EffectiveDimension(Section):
    """A ridge, given by what it does."""

    effective_dimension: Positive
    """Sum of the leverage scores, Σ λ/(λ + r): how many directions the domains (or samples) may take up."""


class RecordedLandmarks(Section):
    """The landmarks of an earlier version."""

    from_: str = Field(alias="from")
    """The version, as OUT@VERSION."""


class Leverage(Section):
    """How much each domain says that the others do not: its kernel ridge leverage score."""

    preset: Literal["default", "reference"] = "default"
    """default: scores that mean the same for any number of domains. reference: the published code, to the last digit."""
    level: Literal["domain", "sample"] = "domain"
    """What is compared. domain: the domains' means. sample: how much room each domain's samples take."""
    kernel: Literal["linear", "cosine", "rbf", "polynomial", "laplacian"] = "linear"
    """Similarity of two vectors. linear and cosine are computed exactly, the others through landmarks."""
    bandwidth: Literal["auto"] | Positive = "auto"
    """Width of rbf and laplacian, in the unit of the embeddings. auto: the median distance between samples."""
    degree: Literal[2, 3] = 2
    """Degree of polynomial."""
    landmarks: Literal["auto"] | Annotated[int, Field(ge=1, le=16_384), NO_BOOL] | RecordedLandmarks = 256
    """Points that stand for all samples: their number, or auto: as many as `tolerance` needs, or {from: OUT@VERSION}."""
    tolerance: Positive = 0.005
    """Error of a weight through landmarks that is accepted, as measured on held-out samples."""
    ridge: Literal["auto"] | Positive | EffectiveDimension = "auto"
    """The r in λ/(λ + r): a larger one keeps only the main directions. auto: effective dimension = half the effective rank."""
    debias: Literal["auto"] | Share = "auto"
    """Share of the samples' noise that is taken off the diagonal. auto: all, if any domain has 100 samples, else half."""
    centre: bool = True
    """Whether the domains' mean is subtracted first. true: scores do not depend on where the origin lies."""
    merge: Literal["none", "auto"] = "none"
    """auto: domains that the samples show to be one are scored as one, and split its weight by their tokens. none: never."""

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
        if self.level == "sample" and self.merge != "none":
            raise ValueError("'merge' compares the means of domains; leave it out with 'level: sample'")
        return self


class Group(Section):
    """Bounds on what some domains get together."""

    domains: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the domains; a domain is in one group at most."""
    floor: Share = 0.0
    """Least share of the tokens that they get together. 0: no bound."""
    cap: Share = 1.0
    """Greatest share of the tokens that they get together. 1: no bound."""


class Divergence(Section):
    """A temperature, given by what it does."""

    kl: Factor
    """How far from the centre the tilt may take the mixture, before bounds: KL(w ‖ centre) in nats. 0: not at all."""


class Like(Section):
    """A target that is given by samples of its own, such as a task's examples."""

    like: Annotated[Paths, Field(min_length=1)]
    """Their files, folders or globs, as in `sources`; at least 50 samples."""
    text: str = "text"
    """Column of the text."""


def natural_exponent(centre: str) -> float | None:
    """The a of a centre c ∝ tokens^a: 0 for uniform, 1 for natural, a number for natural^a. None: a file or a version."""
    if centre in ("uniform", "natural"):
        return float(centre == "natural")
    match = re.fullmatch(r"natural\^([0-9]*\.?[0-9]+)", centre)
    return float(match[1]) if match else None


def check_centre(value: str) -> str:
    """The name of a mixture, as it is. ValueError where it names none."""
    if natural_exponent(value) is None and (value.startswith("natural^") or not set(value) & set("/@.")):
        raise ValueError(f"{value[:60]!r} is no centre; write uniform, natural, natural^0.5, a file, or OUT@VERSION")
    return value


class Weights(Section):
    """How scores become shares of the tokens."""

    objective: Literal["pretrain", "finetune"] = "pretrain"
    """pretrain: more of what is general (inverse leverage). finetune: more of what is particular (leverage)."""
    target: Literal["auto", "unseen", "trained"] | Like = "auto"
    """What is to get better: unseen domains (inverse leverage), trained ones (leverage), or {like: files}. auto: by objective."""
    centre: str = "uniform"
    """The mixture that is tilted: uniform, natural (the tokens' shares), natural^0.5, a file of weights, or OUT@VERSION."""
    temperature: Literal["auto"] | Positive | Divergence = "auto"
    """How far leverage tilts the centre. {kl: 0.015}: by at most so many nats. auto: 0.0151. A number: T, a higher one less."""
    floor: Share | dict[str, Share] = 0.0
    """Least share of the tokens, for every domain or {domain: share}. 0: no bound."""
    cap: Share | dict[str, Share] = 1.0
    """Greatest share of the tokens, for every domain or {domain: share}. 1: no bound."""
    prior: dict[str, Factor] = {}
    """Domain -> factor on the centre, for what you know and the embeddings do not, such as quality. Others have 1."""
    groups: dict[str, Group] = {}
    """Name -> bounds on what its domains get together."""
    compare: tuple[str, ...] = ()
    """Files of weights to show beside the computed ones, in any format that `from` reads."""
    from_: str | None = Field(default=None, alias="from")
    """Weights from a JSON or YAML file {domain: weight}, or from OUT@VERSION; then nothing is embedded. null: computed."""

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        named = [domain for group in self.groups.values() for domain in group.domains]
        if twice := [domain for domain, times in Counter(named).items() if times > 1]:
            raise ValueError(f"{twice[0]!r} stands twice in 'groups'; name it in one group, once")
        return self

    @field_validator("centre")
    @classmethod
    def _known_centre(cls, value: str) -> str:
        return check_centre(value)

    @model_validator(mode="after")
    def _given_or_tilted(self) -> Self:
        if self.from_ and (self.centre, self.target) != ("uniform", "auto"):
            raise ValueError(
                "'from' takes weights as they are; leave 'target' and 'centre' out, or name that file as the 'centre'"
            )
        return self


class Stage(Section):
    """A part of the training with weights of its own."""

    share: Annotated[float, Field(gt=0.0, le=1.0), NO_BOOL] | None = None
    """Share of `mix.budget` that it gets; those of all stages that have one sum to one."""
    budget: StageBudget | None = None
    """Or its own tokens: such a stage is added to those before it, which stay as they are, and lies in a folder of its own."""
    weights: Weights = Weights()
    """Keys of `weights` that differ in this stage; the others are those at the top."""
    drop_below: Share = 0.0
    """A domain whose weight in this stage would be smaller is absent from it. 0: none is."""
    ramp: Annotated[int, Field(ge=0, le=1000), NO_BOOL] = 0
    """Small stages that it begins with, on the line from the weights before to its own; they and the rest are equal parts."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.share is None) == (self.budget is None):
            raise ValueError("give one of 'share', of the budget of the mix, and 'budget', its own tokens")
        return self

    @property
    def parts(self) -> int:
        """The small stages of its ramp, and the rest, which are of equal size."""
        return self.ramp + 1


class Mix(Section):
    """How many tokens are written, and what happens where a domain has too few."""

    budget: Budget = "auto"
    """Tokens to write: 40_000_000, 40M, 1.5B; where a token is a byte also 40 MB, 40MiB. auto: as many as the corpus holds."""
    max_epochs: Positive = 4.0
    """How many times a domain's documents are used at most."""
    exhausted: Literal["redistribute", "repeat", "fail"] = "redistribute"
    """What a domain at that limit lacks. redistribute: the others get it. repeat: no limit. fail: one epoch is the limit."""
    validation: Annotated[float, Field(ge=0.0, lt=1.0), NO_BOOL] = 0.0
    """Share of the documents that is held out as a split of its own; a text is always on the same side. 0: no such split."""
    stages: tuple[Stage, ...] = ()
    """Stages of the training, written one after the other, each with its share of the budget, or its own, and its weights."""
    aggregate: Literal["free", "keep"] = "free"
    """keep: all stages together have the weights at the top; the first one gets what those after it leave. free: as they come."""

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.budget != "auto" and self.stages and all(stage.share is None for stage in self.stages):
            raise ValueError("'budget' is of the stages with a 'share', and none has one; leave it out")
        return self

    @model_validator(mode="after")
    def _aggregate_of_stages(self) -> Self:
        if self.aggregate == "keep" and (len(self.stages) < 2 or any(stage.share is None for stage in self.stages)):
            raise ValueError("'aggregate: keep' is of two or more stages that share a budget; an added one would move the totals")
        return self

    @field_validator("stages")
    @classmethod
    def _whole(cls, value: tuple[Stage, ...]) -> tuple[Stage, ...]:
        shares = [stage.share for stage in value if stage.share is not None]
        if shares and abs((total := fsum(shares)) - 1) > 1e-9:
            raise ValueError(f"the shares of all stages sum to {total:.6g}; make them sum to 1")
        if any(stage.share is None for stage in value[: len(shares)]):
            raise ValueError("a stage with a 'budget' is added to those before it; put the stages with a 'share' first")
        if value and value[0].ramp:
            raise ValueError("the first stage has no weights before it, from which its 'ramp' could come; leave that out")
        return value


class Shards(Section):
    """How the rows are written."""

    formats: Formats = ("parquet", "mds")
    """Formats of the shards; each holds the same rows."""
    size: ByteSize = 64 * 2**20
    """Uncompressed bytes of text (or token ids) in one shard, about."""
    compression: Literal["zstd", "none"] = "zstd"
    """Compression of the shards."""
    level: Annotated[int, Field(ge=1, le=19), NO_BOOL] | None = None
    """Level of zstd: 1 is the fastest, 19 the smallest. null: 3."""
    sequence_length: Literal["none"] | Annotated[int, Field(ge=2, le=2**24), NO_BOOL] = "none"
    """Tokens of a row, which then is a sequence of ids made with `tokens.tokenizer`. none: a row is a document's text."""
    packing: Literal["cross", "whole"] = "cross"
    """How texts fill sequences. cross: they run on into the next one. whole: they stay whole, as conversations always do."""
    overlong: Literal["fail", "drop", "cut"] = "fail"
    """Packed conversations that are longer than a sequence: the build fails, they are left out, or they end with the sequence."""
    labels: bool = False
    """true: packed conversations get a column of labels too, the ids that are learned and -100 elsewhere."""
    lineage: bool = False
    """true: the file and row that each row came from are written beside the shards."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.formats or len(set(self.formats)) != len(self.formats):
            raise ValueError("name each format once, at least one")
        if self.level is not None and self.compression == "none":
            raise ValueError("'level' is how hard zstd compresses; leave it out with 'compression: none'")
        packing = {"packing": self.packing != "cross", "overlong": self.overlong != "fail", "labels": self.labels}
        if self.sequence_length == "none" and (given := [key for key, differs in packing.items() if differs]):
            raise ValueError(f"'{given[0]}' is of sequences; give their 'sequence_length', or leave '{given[0]}' out")
        return self

    @property
    def zstd_level(self) -> int | None:
        """The level that the shards are compressed at. None: they are not compressed."""
        return None if self.compression == "none" else self.level or DEFAULT_LEVEL


class TiltedMixture(Section):
    """A mixture that is made of the recorded scores: a centre, tilted."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    """Its name in tables."""
    centre: str = "uniform"
    """What is tilted: uniform, natural, natural^0.5, a file of weights, or OUT@VERSION."""
    tilt: Literal["inverse", "direct"] = "inverse"
    """inverse: more of what is general. direct: more of what is particular."""
    temperature: Literal["auto"] | Positive | Divergence = "auto"
    """How far, as `weights.temperature` says it."""

    @field_validator("centre")
    @classmethod
    def _known_centre(cls, value: str) -> str:
        return check_centre(value)


Family = Literal["llama", "gpt2", "t5", "bert"]
Judge = Literal["ngram", "decoder", "encoder_decoder", "masked"]
JUDGE_OF_FAMILY: dict[str, Judge] = {"llama": "decoder", "gpt2": "decoder", "t5": "encoder_decoder", "bert": "masked"}


class ModelShape(Section):
    """The small language model that is trained from scratch on each mixture."""

    family: Literal["auto"] | Family = "auto"
    """llama or gpt2 for decoder, t5 for encoder_decoder, bert for masked. auto: the first of the judge's."""
    width: Annotated[int, Field(ge=8, le=4096), NO_BOOL] = 64
    """Size of the hidden vectors."""
    layers: Annotated[int, Field(ge=1, le=64), NO_BOOL] = 2
    """Blocks."""
    context: Annotated[int, Field(ge=8, le=8192), NO_BOOL] = 128
    """Tokens of a window."""
    vocabulary: Annotated[int, Field(ge=256, le=32_768), NO_BOOL] = 2048
    """Tokens of a byte-level BPE that is trained on the pool. 256: bytes. The n-gram judge uses it too."""


class Branch(Section):
    """A part of the training that all mixtures share."""

    at: Annotated[float, Field(gt=0.0, lt=1.0), NO_BOOL]
    """Share of `tokens` after which the mixtures part."""
    mixture: str = "uniform"
    """The mixture until then, named as in `mixtures`."""


class HeldOut(Section):
    """What the mixtures are judged on, beside the validation split."""

    unseen: Literal["each"] | dict[str, str] = {}
    """{name: path} of domains that no mixture holds. each: every domain of the version in turn is left out of the training."""
    weigh: Annotated[tuple[Literal["equal", "natural"], ...], Field(min_length=1)] = ("equal", "natural")
    """Means over the trained domains: equal, or by their natural shares."""


class Evaluate(Section):
    """How mixtures are compared on held-out text, by `chameleon-data evaluate`."""

    mixtures: Annotated[tuple[str | TiltedMixture, ...], Field(min_length=1)] = ("weights", "uniform", "natural")
    """weights, uniform, natural, natural^0.5, inverse, direct, a file of weights, OUT@VERSION, or {name, centre, tilt, ...}."""
    judge: Judge = "ngram"
    """ngram: counts of trigrams, in seconds. decoder, encoder_decoder, masked: a language model trained on each mixture."""
    model: ModelShape = ModelShape()
    """The model, for all judges but ngram."""
    tokens: TokenCount = 700_000
    """Tokens of the vocabulary that a model is trained on; ngram counts as many of each domain."""
    branch: Branch | None = None
    """null: every trial starts from scratch. {at: 0.5, mixture: uniform}: from a checkpoint that they share."""
    seeds: Annotated[int, Field(ge=1, le=1000), NO_BOOL] = 5
    """Trials of each mixture, each with its own initial weights and draws."""
    band: Positive = 0.005  # why: docs/decisions/110-band-of-no-difference.md
    """Bits per byte: a difference that is surely smaller is called none."""
    pool: Literal["whole", "scaled"] = "whole"
    """What is drawn from. scaled: each domain cut, so that it is repeated as often as in the version."""
    held_out: HeldOut = HeldOut()
    """What the mixtures are judged on, beside the validation split."""

    @model_validator(mode="after")
    def _distinct_mixtures(self) -> Self:
        names = [mixture if isinstance(mixture, str) else mixture.name for mixture in self.mixtures]
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            raise ValueError(f"two of 'mixtures' are called {twice[0]!r}; rename one")
        for name in self.mixtures:
            if isinstance(name, str) and name not in ("weights", "inverse", "direct"):
                check_centre(name)
        return self


class MisplacedKeyError(ValueError):
    """Two sections contradict each other; `keys` lead to the key that a person has to mend."""

    def __init__(self, keys: tuple[str, ...], what: str) -> None:
        super().__init__(what)
        self.keys = keys


class Recipe(Section):
    """A recipe of chameleon-data: which corpora go in, how they are weighed and mixed, and what comes out."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """Name of the dataset, for people."""
    out: str
    """Folder that everything is written to: a path, relative to the recipe, or a URL such as s3://bucket/folder."""
    seed: Annotated[int, Field(ge=0, lt=2**63), NO_BOOL] = 0
    """Number that decides every random choice: samples, order, interleaving."""
    sources: Annotated[dict[str, Source], Field(min_length=1)]
    """Name -> files to read. A name is a domain, unless the files' own column names the domains."""
    domains: Domains | None = None
    """Domains that are found in the texts. null: the sources say them."""
    input: Input = Input()
    """Which rows are documents, and which of them are copies."""
    survey: Reading = Reading()
    """How the corpus is read."""
    tokens: Tokens = Tokens(unit="bytes")
    """What a budget counts. By default bytes."""
    embed: Embed = Embed()
    """How the domains are compared."""
    leverage: Leverage = Leverage()
    """How much each domain says that the others do not."""
    weights: Weights = Weights()
    """How scores become shares of the tokens."""
    mix: Mix = Mix()
    """How many tokens are written, and what happens where a domain has too few."""
    shards: Shards = Shards()
    """How the rows are written."""
    evaluate: Evaluate = Evaluate()
    """How mixtures are compared on held-out text. It decides no byte of a version."""

    @field_validator("mix", mode="before")
    @classmethod
    def _stages_with_weights(cls, value: Any, others: ValidationInfo) -> Any:
        """A stage takes from the top what it does not say. Weights are given or computed: where a stage says which, what the top
        says of the other is left out."""
        weights = others.data.get("weights")
        if not isinstance(value, dict) or not isinstance(value.get("stages"), list | tuple) or weights is None:
            return value
        stages, top = [], weights.model_dump(by_alias=True, exclude_unset=True)
        for stage in value["stages"]:
            own = stage.get("weights", {}) if isinstance(stage, dict) else None
            if isinstance(own, dict):
                replaced = {"centre", "target"} if own.get("from") else {"from"} if {"centre", "target"} & {*own} else set()
                stage = {**stage, "weights": {key: value for key, value in top.items() if key not in replaced} | own}
            stages.append(stage)
        return {**value, "stages": stages}

    @field_validator("mix", mode="before")
    @classmethod
    def _budget_in_its_unit(cls, value: Any, others: ValidationInfo) -> Any:
        tokens = others.data.get("tokens")
        if not isinstance(value, dict) or tokens is None or not tokens.tokenizer:
            return value
        stages = value.get("stages")
        listed = list(enumerate(stages)) if isinstance(stages, list | tuple) else []
        of_stages = [(("stages", str(n), "budget"), s.get("budget")) for n, s in listed if isinstance(s, dict)]
        for keys, budget in [(("budget",), value.get("budget")), *of_stages]:
            if is_size(budget):
                size = repr(str(budget).strip())
                what = f"{size} is a number of bytes, and this budget counts tokens of the tokenizer; write, say, 40M"
                raise MisplacedKeyError(keys, what)
        return value

    @field_validator("sources", mode="before", json_schema_input_type=WrittenSources)
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
        if self.domains:
            for name, source in self.sources.items():
                if source.domain is not None:
                    what = (
                        f"names a domain column, and 'domains' finds domains in the texts; leave one of the two out in {name!r}"
                    )
                    raise MisplacedKeyError(("sources", name, "domain"), what)
            unknown = sorted(set(self.domains.refine.hold) - set(self.sources)) if self.domains.refine else []
            if unknown:
                raise MisplacedKeyError(("domains", "refine", "hold"), f"{unknown[0]!r} is no source; name one of `sources`")
        self._check_conversations()
        if self.tokens.tokenizer is None:
            advice = "name what makes them, 'tokens: {tokenizer: FILE or hub id}'"
            if self.shards.sequence_length != "none":
                raise MisplacedKeyError(("shards", "sequence_length"), f"sequences are of token ids; {advice}")
            if "megatron" in self.shards.formats:
                raise MisplacedKeyError(("shards", "formats"), f"megatron holds token ids; {advice}")
        if self.shards.sequence_length != "none" and (keeping := [n for n, source in self.sources.items() if source.keep]):
            what = "a packed sequence holds many documents, and no columns of each; leave 'keep' or 'shards.sequence_length' out"
            raise MisplacedKeyError(("sources", keeping[0], "keep"), what)
        if self.mix.aggregate == "keep" and (self.stages[0].weights != self.weights or self.stages[0].drop_below):
            what = "gets what later stages leave, as 'aggregate: keep' asks; leave its 'weights' and 'drop_below' out"
            raise MisplacedKeyError(("mix", "stages", "0"), what)
        targets = [stage.weights.target for stage in self.stages]
        domain_means = (self.leverage.preset, self.leverage.level) == ("default", "domain")
        if any(isinstance(target, Like) for target in targets) and not domain_means:
            what = "matches the means of domains; leave 'leverage.preset' and 'leverage.level' at their defaults"
            raise MisplacedKeyError(("weights", "target"), what)
        without = [name for name, source in self.sources.items() if source.id is None]
        if self.input.hash == "id" and without:
            more = f" (as do {list_some(without[1:])})" if without[1:] else ""
            what = f"lacks the key 'id', the column that 'input.hash: id' identifies documents by{more}"
            raise MisplacedKeyError(("sources", without[0]), what)
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the training; one of the whole budget where `mix` names none."""
        return self.mix.stages or (Stage(share=1.0, weights=self.weights),)

    @property
    def keeps_columns(self) -> bool:
        """Whether a source carries columns through to the shards."""
        return any(source.keep for source in self.sources.values())

    @property
    def is_chat(self) -> bool:
        """Whether its documents are conversations."""
        return any(source.is_chat for source in self.sources.values())

    @property
    def packs_conversations(self) -> bool:
        """Whether its rows are sequences of whole conversations."""
        return self.is_chat and self.shards.sequence_length != "none"

    @property
    def packs_texts(self) -> bool:
        """Whether its rows are sequences of texts."""
        return not self.is_chat and self.shards.sequence_length != "none"

    def _check_conversations(self) -> None:
        chats = [name for name, source in self.sources.items() if source.is_chat]
        if not chats:
            if self.shards.labels or self.shards.overlong != "fail":
                what = "is for conversations, and no source has 'chat' or 'prompt'; leave it out"
                raise MisplacedKeyError(("shards", "labels" if self.shards.labels else "overlong"), what)
            if self.tokens.count != "all" or self.tokens.template is not None:
                what = "is for conversations, and no source has 'chat' or 'prompt'; leave it out"
                raise MisplacedKeyError(("tokens", "template" if self.tokens.template is not None else "count"), what)
            return
        if texts := [name for name in self.sources if name not in chats]:
            what = (
                f"has texts and {list_some(chats)} conversations, and a shard holds one of the two; make text of conversations "
                "by 'template: FILE' in their source, or make them two recipes"
            )
            raise MisplacedKeyError(("sources", texts[0]), what)
        if any(isinstance(stage.weights.target, Like) for stage in self.stages):
            raise MisplacedKeyError(("weights", "target"), "its samples are texts, and these are conversations; leave it out")
        able = PACKED_CHAT_FORMATS if self.packs_conversations else CHAT_FORMATS
        if without := [format for format in self.shards.formats if format not in able]:
            what = f"{without[0]} holds no {'loss mask' if self.packs_conversations else 'conversations'}"
            raise MisplacedKeyError(("shards", "formats"), f"{what}; these do: {', '.join(able)}")


def check_domain_name(name: str) -> None:
    """Raise ValueError unless a person can read, type and tell apart this domain's name."""
    if not name or len(name) > 200 or name != name.strip() or not name.isprintable():
        raise ValueError(f"{name[:60]!r} cannot be a domain name: 1 to 200 printable characters, no blanks at the ends")


def recipe_schema() -> dict[str, Any]:
    """JSON schema of a recipe as a person may write it, short forms included. It does not know rules that join two keys."""
    schema = Recipe.model_json_schema(schema_generator=DescribedJsonSchema)
    return {"$schema": DescribedJsonSchema.schema_dialect, **schema}
