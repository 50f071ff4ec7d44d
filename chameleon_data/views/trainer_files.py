"""The weights alone, in the words of trainers that mix for themselves: no shard is written, the files point at the sources.

Trainers count differently, and a share of tokens is another share of documents. With weight w_d, t_d tokens and n_d documents
in domain d:

    of sequences or tokens (Megatron, OLMo-core, MosaicML on packed sequences)   w_d
    of documents (`datasets`, MosaicML on one document a sample)                  p_d = (w_d n_d / t_d) / Σ_e (w_e n_e / t_e)

On the demo corpus w and p differ by up to 3.8 times: drawing documents by w would give its technical texts, of 16 kB each, that
much too large a share of the tokens. Such draws hold a share on average only; exact shares, the limit of epochs, removed
duplicates and held-out documents are what a build is for, and each file says in its comments what it cannot say in its keys.

`datasets` reads the raw files as they are. The others read formats of their own, so their paths are where each domain's converted
files are to be: a folder a domain below one that the caller names, with the raw files in a comment beside it.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml
from pydantic import ValidationError

from chameleon_data.corpus.fragments import COMPRESSION_OF_SUFFIX, FORMAT_OF_SUFFIX
from chameleon_data.errors import InputError, list_some
from chameleon_data.recipe import Recipe, Source

BUILDERS = {"jsonl": "json", "parquet": "parquet", "arrow": "arrow", "csv": "csv", "txt": "text"}
"""Format of a fragment -> the name of the `datasets` builder that reads it."""
BUILDER_OPTIONS = {"csv": ", keep_default_na=False", "text": ', sample_by="document"'}
"""What those builders must be told, so that a row is the document that the survey counted."""
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class BlendEntry:
    """One domain of a mixture."""

    name: str
    weight: float
    """Of the tokens."""
    drawn: float
    """Of the documents: `p_d` of the module's docstring."""
    tokens: int
    rows: int
    """Both of what is available, once."""


@dataclass(frozen=True)
class Blend:
    """All that a trainer can be told."""

    title: str
    recipe: Recipe
    shares: tuple[BlendEntry, ...]
    """Domains with a weight above zero, by name."""
    budget: int
    documents: int
    """That make up the budget when they are drawn by `drawn`."""
    files: dict[str, tuple[str, ...]]
    """Source -> URLs of its files."""


def make_blend(
    title: str, recipe: Recipe, domains: Mapping[str, Mapping[str, Any]], budget: int, inputs: Sequence[Mapping[str, Any]]
) -> Blend:
    """The mixture of `domains` (`weight`, `available_tokens` and `available_rows` of each); `inputs` lists the corpus's files."""
    named = {name: d for name, d in sorted(domains.items()) if d["weight"] > 0}
    rates = {name: d["weight"] * d["available_rows"] / d["available_tokens"] for name, d in named.items()}
    total = math.fsum(rates.values())
    shares = tuple(
        BlendEntry(name, d["weight"], rates[name] / total, d["available_tokens"], d["available_rows"])
        for name, d in named.items()
    )
    files = {name: tuple(sorted({i["url"] for i in inputs if i["source"] == name})) for name in recipe.sources}
    return Blend(title, recipe, shares, budget, round(budget * total), files)


def blend_of_version(title: str, manifest: Mapping[str, Any]) -> Blend:
    """The mixture that a version recorded."""
    try:
        recipe = Recipe.model_validate(manifest["recipe"])
    except ValidationError as error:
        raise InputError(f"{title}: its recipe is of another chameleon-data; install the one that built it") from error
    return make_blend(title, recipe, manifest["domains"], manifest["budget"], manifest["provenance"]["inputs"])


def mosaicml(blend: Blend, folder: str) -> str:
    """`streams` of an llm-foundry data loader; every value is the arguments of one `streaming.Stream`."""
    streams = {s.name: {"remote": f"{folder}/{_folder_name(s.name)}", "proportion": s.weight} for s in blend.shares}
    notes = [
        "a stream is a folder of MDS shards: convert each domain's files first, by llm-foundry's convert_dataset_json.py",
        "`proportion` counts samples, so these are right for packed sequences (--concat_tokens); for one document a "
        "sample, the shares that give the same tokens stand beside the files below",
        f"the budget of {blend.budget:,} tokens is `epoch_size`, in samples, of the StreamingDataset",
        *_limits(blend),
        *_told_apart(blend),
    ]
    beside = {s.name: f"{s.drawn:.6g} of documents; " for s in blend.shares}
    return _commented(blend, notes, beside) + _yaml({"streams": streams})


def megatron(blend: Blend, folder: str) -> str:
    """The blend as Megatron's --data-path takes it: weight and prefix, weight and prefix."""
    pairs = [f"{s.weight!r} {shlex.quote(f'{folder}/{_folder_name(s.name)}_text_document')}" for s in blend.shares]
    notes = [
        "a prefix is a .bin and an .idx file: convert each domain's files first, by Megatron's tools/preprocess_data.py, whose "
        "--output-prefix is the prefix without _text_document",
        f"the budget of {blend.budget:,} tokens is --train-samples, in sequences",
        *_limits(blend),
        *_told_apart(blend),
    ]
    return _commented(blend, notes, {}) + f"--data-path {' '.join(pairs)}\n"


def olmo(blend: Blend, folder: str) -> str:
    """A `SourceMixtureList` of OLMo-core, for its `from_yaml`."""
    mix = blend.recipe.mix
    sources = []
    for share in blend.shares:
        epochs = share.weight * blend.budget / share.tokens
        limit = {"redistribute": max(mix.max_epochs, epochs), "fail": max(1.0, epochs), "repeat": epochs}[mix.exhausted]
        ratio = math.ceil(limit * 1e4) / 1e4  # weights are rounded, and OLMo-core refuses what is a token above the limit
        sources.append(
            {
                "source_name": share.name,
                "target_ratio": share.weight,
                "paths": [f"{folder}/{_folder_name(share.name)}/*.npy"],
                "max_repetition_ratio": max(1.0, ratio),
                "max_source_fraction": min(1.0, ratio),
            }
        )
    notes = [
        "a path is a file of token ids: tokenise each domain's files first, by dolma's `dolma tokens`",
        f"the budget is requested_tokens: {blend.budget}, and the seed {blend.recipe.seed}, of the SourceMixtureDatasetConfig",
        "max_repetition_ratio holds the recipe's max_epochs as counted in the recipe's tokens; where OLMo-core counts fewer in a "
        "domain it says that its tokens are insufficient: raise that domain's ratio",
        *_limits(blend, epochs=False),
        *_told_apart(blend),
    ]
    return _commented(blend, notes, {}) + _yaml({"sources": sources})


def datasets_script(blend: Blend) -> str:
    """A Python module that ends with `mixture`, an `IterableDataset` of `datasets` over the raw files."""
    parts = []
    for share in blend.shares:
        read = []
        for name, source in _sources_of(blend, share.name):
            for builder, patterns in _patterns(source, blend.files[name]):
                text = "text" if builder == "text" else source.text
                more = _values(source, share.name) + BUILDER_OPTIONS.get(builder, "")
                read.append(f"rows({share.name!r}, {builder!r}, {patterns!r}, text={text!r}{more}),\n")
        together = "".join(f"        {line}" for line in read)
        parts.append(f"    concatenate_datasets([\n{together}    ]),\n" if len(read) > 1 else f"    {read[0]}")
    repeats = blend.recipe.mix.exhausted != "fail"
    notes = [
        "`interleave_datasets` draws documents, so its probabilities are the weights, in the comments behind them, over the "
        "mean tokens of a document",
        "documents come in the order of their files; `.shuffle(seed=…, buffer_size=…)` of each part mixes within its buffer only",
        f"the budget of {blend.budget:,} tokens is {blend.documents:,} documents on average: `take` at the end",
        *_limits(blend),
    ]
    repeated = "parts = [part.repeat(None) for part in parts]  # epoch after epoch, so that none ends the mixture\n"
    probabilities = "".join(f"    {s.drawn!r},  # {s.name}: {s.weight!r} of the tokens\n" for s in blend.shares)
    return (
        _commented(blend, notes, None)
        + PREAMBLE
        + f"parts = [\n{''.join(parts)}]\n"
        + (repeated if repeats else "")
        + f"probabilities = [\n{probabilities}]\n"
        + f"mixture = interleave_datasets(parts, probabilities=probabilities, seed={blend.recipe.seed}, "
        + f'stopping_strategy="first_exhausted")\nmixture = mixture.take({blend.documents})\n'
    )


TRAINER_WRITERS: dict[str, Callable[[Blend, str], str]] = {
    "mosaicml": mosaicml,
    "megatron": megatron,
    "olmo": olmo,
    "datasets": lambda blend, _: datasets_script(blend),
}
"""Word of the command line -> what writes the file, given the folder of converted data."""

PREAMBLE = '''\
from datasets import Features, Value, concatenate_datasets, interleave_datasets, load_dataset

ROW = Features({"text": Value("string"), "domain": Value("string")})


def pick(row, key):
    """The value under a dotted key; None where there is none."""
    for part in key.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def rows(domain, builder, files, text, column=None, values=(), **options):
    """The documents of one domain in raw files; with a column, the rows that have one of the values there."""
    data = load_dataset(builder, data_files=files, split="train", streaming=True, **options)
    columns = list(next(iter(data)))
    if column is not None:
        data = data.filter(lambda row: pick(row, column) in values)
    data = data.filter(lambda row: isinstance(pick(row, text), str) and not pick(row, text).isspace() and pick(row, text) != "")
    return data.map(lambda row: {"text": pick(row, text), "domain": domain}, remove_columns=columns, features=ROW)


'''


def _sources_of(blend: Blend, domain: str, named: bool = False) -> list[tuple[str, Source]]:
    """Every source in which the domain's documents may be; if `named`, without those whose column may, but need not, say the name
    of a source that has files of its own."""
    sources = blend.recipe.sources
    own = named and domain in sources and sources[domain].domain is None

    def holds(name: str, source: Source) -> bool:
        if source.domain is None:
            return name == domain
        return domain in source.rename.values() if own else bool(_raw_values(source, domain))

    return [(name, source) for name, source in sources.items() if blend.files[name] and holds(name, source)]


def _raw_values(source: Source, domain: str) -> list[str]:
    """What stands in the source's column in the rows of a domain."""
    renamed = [value for value, name in source.rename.items() if name == domain]
    return renamed if domain in source.rename else [domain, *renamed]


def _values(source: Source, domain: str) -> str:
    return f", column={source.domain!r}, values={_raw_values(source, domain)!r}" if source.domain else ""


def _patterns(source: Source, files: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(builder, files of it) of a source: its own patterns where their suffix tells the builder, else what it found."""
    found: dict[str, list[str]] = {}
    for path in source.path:
        inside = sorted({_suffix(url) for url in files if url.startswith(f"{path.rstrip('/')}/")})
        if inside:  # a folder, whatever its own name ends in
            for suffix in inside:
                found.setdefault(_builder(suffix), []).append(f"{path.rstrip('/')}/**/*{suffix}")
        elif _suffix(path):
            found.setdefault(_builder(_suffix(path)), []).append(path)
        else:
            found = {}
            for url in files:
                found.setdefault(_builder(_suffix(url)), []).append(url)
            break
    return sorted(found.items())


def _suffix(path: str) -> str:
    """`.jsonl.zst` of a path; empty where no reader would know it."""
    name = PurePosixPath(path)
    packed = name.suffix if name.suffix.lower() in COMPRESSION_OF_SUFFIX else ""
    kind = PurePosixPath(name.stem).suffix if packed else name.suffix
    return kind + packed if kind.lower() in FORMAT_OF_SUFFIX else ""


def _builder(suffix: str) -> str:
    return BUILDERS[FORMAT_OF_SUFFIX[PurePosixPath(f"x{suffix}").suffixes[0].lower()]]


def _folder_name(domain: str) -> str:
    """A domain's name where it is a plain file name, else what is left of it and a hash, so that no two meet."""
    if SAFE_NAME.fullmatch(domain):
        return domain
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', domain)[:60]}-{hashlib.sha256(domain.encode()).hexdigest()[:8]}"


def _limits(blend: Blend, epochs: bool = True) -> list[str]:
    """What a build of the recipe keeps and a trainer's own mixing does not."""
    recipe, limits = blend.recipe, []
    unit = "bytes of text" if recipe.tokens.tokenizer is None else f"tokens of {recipe.tokens.tokenizer}"
    limits.append(f"weights are shares of {unit}, held on average; a build holds them in every shard and every prefix")
    most = recipe.mix.max_epochs
    if epochs and recipe.mix.exhausted == "redistribute":
        limits.append(
            f"max_epochs cannot be said: up to {blend.budget:,} tokens the weights keep every domain within {most:g} epochs, and "
            "nothing here stops a longer run"
        )
    if epochs and recipe.mix.exhausted == "fail":
        limits.append(f"no domain is repeated up to {blend.budget:,} tokens; nothing here stops a longer run from it")
    if recipe.input.dedup != "none":
        limits.append("dedup cannot be said: the raw files still hold the duplicates")
    if recipe.mix.validation:
        limits.append("validation cannot be said: the raw files still hold the held-out documents")
    return limits


def _told_apart(blend: Blend) -> list[str]:
    """Sources that hold several domains, which a path cannot tell apart."""
    notes = []
    for name, source in blend.recipe.sources.items():
        if source.domain and blend.files[name]:
            held = [s.name for s in blend.shares if any(name == n for n, _ in _sources_of(blend, s.name, named=True))]
            mapped = [f"{v} = {d}" for d in held for v in _raw_values(source, d) if v != d]
            notes.append(
                f"no path can point at the domains of source {name} ({list_some(held)}): the column {source.domain} tells its "
                f"rows apart{f' ({list_some(mapped)})' if mapped else ''}; split them while converting"
            )
    return notes


def _commented(blend: Blend, notes: Sequence[str], beside: Mapping[str, str] | None) -> str:
    """The head of a file: what it is, what it does not say, and, unless `beside` is None, the raw files of each domain."""
    lines = [f"The mixture of {blend.title}, written by `chameleon-data export`.", *(f"- {note}" for note in notes)]
    if beside is not None:
        for share in blend.shares:
            where = [path for _, source in _sources_of(blend, share.name, named=True) for path in source.path]
            lines.append(f"{share.name}: {beside.get(share.name, '')}raw files {list_some(where)}")
    return "".join(f"# {' '.join(line.split())}\n" for line in lines)


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
