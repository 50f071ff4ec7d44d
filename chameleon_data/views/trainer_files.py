"""The weights alone, in the words of trainers that mix for themselves. No shard is written; the files point at the sources.

Trainers count differently, and a share of tokens is another share of documents. With weight w_d, t_d tokens and n_d documents
in domain d:

    of sequences or tokens (Megatron, OLMo-core, MosaicML on packed sequences)   w_d
    of documents (`datasets`, MosaicML on one document a sample)                  p_d = (w_d n_d / t_d) / Σ_e (w_e n_e / t_e)

`datasets` reads the raw files as they are. The others read formats of their own: their paths name a folder for each domain's
converted files, and a comment names the raw ones. Why: docs/decisions/082-weights-for-trainers.md.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from chameleon_data.corpus.fragments import COMPRESSION_OF_SUFFIX, FORMAT_OF_SUFFIX
from chameleon_data.errors import list_some
from chameleon_data.recipe import Mix, Recipe, Source
from chameleon_data.versions.manifest import InputFragment, Manifest

BUILDERS = {"jsonl": "json", "parquet": "parquet", "arrow": "arrow", "csv": "csv", "tsv": "csv", "txt": "text"}
"""Format of a fragment -> the name of the `datasets` builder that reads it."""
BUILDER_OPTIONS = {"csv": ", keep_default_na=False", "text": ', sample_by="document"'}
"""Builder -> arguments with which its rows are the documents that the survey counted."""
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class BlendEntry:
    """One domain of a mixture."""

    name: str
    weight: float
    """Share of the tokens."""
    tokens: int
    """Tokens available, once."""
    rows: int
    """Documents available, once."""

    @property
    def documents(self) -> float:
        """Documents drawn for each token of the mixture, on average."""
        return self.weight * self.rows / self.tokens


@dataclass(frozen=True)
class Blend:
    """All that a trainer can be told."""

    title: str
    """What the mixture is of, for a comment."""
    entries: tuple[BlendEntry, ...]
    """Domains with a weight above zero, by name."""
    budget: int
    """Tokens."""
    files: dict[str, tuple[str, ...]]
    """Source -> URLs of its files."""
    sources: dict[str, Source]
    """The recipe's."""
    mix: Mix
    """The recipe's."""
    dedup: str
    """The recipe's `input.dedup`."""
    tokenizer: str | None
    """The recipe's; None: a token is a byte of text."""
    seed: int

    @property
    def documents_per_token(self) -> float:
        return math.fsum(entry.documents for entry in self.entries)

    @property
    def documents(self) -> int:
        """Documents that make up the budget when they are drawn by `drawn`."""
        return round(self.budget * self.documents_per_token)

    def drawn(self, entry: BlendEntry) -> float:
        """A domain's share of the documents: `p_d` of the module's docstring."""
        return entry.documents / self.documents_per_token


def make_blend(title: str, recipe: Recipe, entries: Iterable[BlendEntry], budget: int, inputs: Iterable[InputFragment]) -> Blend:
    """The mixture of these domains; `inputs` are the fragments of the corpus."""
    files: dict[str, set[str]] = {name: set() for name in recipe.sources}
    for fragment in inputs:
        files[fragment.source].add(fragment.url)
    return Blend(
        title=title, entries=tuple(sorted((e for e in entries if e.weight > 0), key=lambda e: e.name)), budget=budget,
        files={name: tuple(sorted(urls)) for name, urls in files.items()}, sources=recipe.sources, mix=recipe.mix,
        dedup=recipe.input.dedup, tokenizer=recipe.tokens.tokenizer, seed=recipe.seed,
    )  # fmt: skip


def blend_of_version(title: str, manifest: Manifest) -> Blend:
    """The mixture that a version recorded."""
    entries = (BlendEntry(n, d.weight, d.available_tokens, d.available_rows) for n, d in manifest.domains.items())
    return make_blend(title, manifest.recipe, entries, manifest.budget, manifest.provenance.inputs)


def mosaicml(blend: Blend, folder: str) -> str:
    """`streams` of an llm-foundry data loader. Every value holds the arguments of one `streaming.Stream`."""
    streams = {s.name: {"remote": f"{folder}/{_folder_name(s.name)}", "proportion": s.weight} for s in blend.entries}
    notes = [
        "a stream is a folder of MDS shards: convert each domain's files first, by llm-foundry's convert_dataset_json.py",
        "`proportion` counts samples, so these are right for packed sequences (--concat_tokens); for one document a "
        "sample, the shares that give the same tokens stand beside the files below",
        f"the budget of {blend.budget:,} tokens is `epoch_size`, in samples, of the StreamingDataset",
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    beside = {s.name: f"{blend.drawn(s):.6g} of documents; " for s in blend.entries}
    return _commented(blend, notes, beside) + _yaml({"streams": streams})


def megatron(blend: Blend, folder: str) -> str:
    """The blend as Megatron's --data-path takes it: weight and prefix, weight and prefix."""
    pairs = [f"{s.weight!r} {shlex.quote(f'{folder}/{_folder_name(s.name)}_text_document')}" for s in blend.entries]
    notes = [
        "a prefix is a .bin and an .idx file: convert each domain's files first, by Megatron's tools/preprocess_data.py, whose "
        "--output-prefix is the prefix without _text_document",
        f"the budget of {blend.budget:,} tokens is --train-samples, in sequences",
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    return _commented(blend, notes, {}) + f"--data-path {' '.join(pairs)}\n"


def olmo(blend: Blend, folder: str) -> str:
    """A `SourceMixtureList` of OLMo-core, for its `from_yaml`."""
    mix = blend.mix
    sources = []
    for share in blend.entries:
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
        f"the budget is requested_tokens: {blend.budget}, and the seed {blend.seed}, of the SourceMixtureDatasetConfig",
        "max_repetition_ratio holds the recipe's max_epochs as counted in the recipe's tokens; where OLMo-core counts fewer in a "
        "domain it says that its tokens are insufficient: raise that domain's ratio",
        *_limits(blend, epochs=False),
        *_mixed_sources(blend),
    ]
    return _commented(blend, notes, {}) + _yaml({"sources": sources})


def datasets_script(blend: Blend) -> str:
    """A Python module that ends with `mixture`, an `IterableDataset` of `datasets` over the raw files."""
    parts = []
    for share in blend.entries:
        read = []
        for name, source in _sources_of(blend, share.name):
            for builder, patterns in _patterns(source, blend.files[name]):
                text = "text" if builder == "text" else source.text
                more = _values(source, share.name) + BUILDER_OPTIONS.get(builder, "")
                read.append(f"rows({share.name!r}, {builder!r}, {patterns!r}, text={text!r}{more}),\n")
        together = "".join(f"        {line}" for line in read)
        parts.append(f"    concatenate_datasets([\n{together}    ]),\n" if len(read) > 1 else f"    {read[0]}")
    repeats = blend.mix.exhausted != "fail"
    notes = [
        "`interleave_datasets` draws documents, so its probabilities are the weights, in the comments behind them, over the "
        "mean tokens of a document",
        "documents come in the order of their files; `.shuffle(seed=…, buffer_size=…)` of each part mixes within its buffer only",
        f"the budget of {blend.budget:,} tokens is {blend.documents:,} documents on average: `take` at the end",
        *_limits(blend),
    ]
    repeated = "parts = [part.repeat(None) for part in parts]  # epoch after epoch, so that none ends the mixture\n"
    probabilities = "".join(f"    {blend.drawn(s)!r},  # {s.name}: {s.weight!r} of the tokens\n" for s in blend.entries)
    return (
        _commented(blend, notes, None)
        + PREAMBLE
        + f"parts = [\n{''.join(parts)}]\n"
        + (repeated if repeats else "")
        + f"probabilities = [\n{probabilities}]\n"
        + f"mixture = interleave_datasets(parts, probabilities=probabilities, seed={blend.seed}, "
        + f'stopping_strategy="first_exhausted")\nmixture = mixture.take({blend.documents})\n'
    )


TRAINER_WRITERS: dict[str, Callable[[Blend, str], str]] = {
    "mosaicml": mosaicml,
    "megatron": megatron,
    "olmo": olmo,
    "datasets": lambda blend, _: datasets_script(blend),
}
"""FORM of the command -> what writes the file, given the folder of converted data."""

PREAMBLE = '''\
from datasets import Features, Value, concatenate_datasets, interleave_datasets, load_dataset

ROW = Features({"text": Value("string"), "domain": Value("string")})


def pick(row, key):
    """The value under a dotted key; None where there is none."""
    for part in key.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def rows(domain, builder, files, text, column=None, values=(), **options):
    """The documents of one domain in raw files. With a column: the rows that have one of the values there."""
    data = load_dataset(builder, data_files=files, split="train", streaming=True, **options)
    columns = list(next(iter(data)))
    if column is not None:
        data = data.filter(lambda row: pick(row, column) in values)
    data = data.filter(lambda row: isinstance(pick(row, text), str) and not pick(row, text).isspace() and pick(row, text) != "")
    return data.map(lambda row: {"text": pick(row, text), "domain": domain}, remove_columns=columns, features=ROW)


'''


def _sources_of(blend: Blend, domain: str, named: bool = False) -> list[tuple[str, Source]]:
    """The sources in which the domain's documents may be. If `named` and the domain is a source with files of its own, a source
    with a domain column counts only if it renames a value to that domain."""
    sources = blend.sources
    own = named and domain in sources and sources[domain].domain is None

    def holds(name: str, source: Source) -> bool:
        if source.domain is None:
            return name == domain
        return domain in source.rename.values() if own else bool(_raw_values(source, domain))

    return [(name, source) for name, source in sources.items() if blend.files[name] and holds(name, source)]


def _raw_values(source: Source, domain: str) -> list[str]:
    """The values of the source's domain column in rows of this domain."""
    renamed = [value for value, name in source.rename.items() if name == domain]
    return renamed if domain in source.rename else [domain, *renamed]


def _values(source: Source, domain: str) -> str:
    return f", column={source.domain!r}, values={_raw_values(source, domain)!r}" if source.domain else ""


def _patterns(source: Source, files: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(builder, its files) of a source: the recipe's own patterns where their suffix names the builder, else the files found."""
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
    """The suffix of a path, such as `.jsonl.zst`; empty where no reader knows it."""
    name = PurePosixPath(path)
    packed = name.suffix if name.suffix.lower() in COMPRESSION_OF_SUFFIX else ""
    kind = PurePosixPath(name.stem).suffix if packed else name.suffix
    return kind + packed if kind.lower() in FORMAT_OF_SUFFIX else ""


def _builder(suffix: str) -> str:
    return BUILDERS[FORMAT_OF_SUFFIX[PurePosixPath(f"x{suffix}").suffixes[0].lower()]]


def _folder_name(domain: str) -> str:
    """A domain's name if it is a plain file name; else its plain characters and a hash, so that no two are the same."""
    if SAFE_NAME.fullmatch(domain):
        return domain
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', domain)[:60]}-{hashlib.sha256(domain.encode()).hexdigest()[:8]}"


def _limits(blend: Blend, epochs: bool = True) -> list[str]:
    """What a build of the recipe holds and a trainer's own mixing does not."""
    mix = blend.mix
    unit = "bytes of text" if blend.tokenizer is None else f"tokens of {blend.tokenizer}"
    limits = [f"weights are shares of {unit}, held on average; a build holds them in every shard and every prefix"]
    if epochs and mix.exhausted == "redistribute":
        limits.append(
            f"max_epochs cannot be said: up to {blend.budget:,} tokens the weights keep every domain within {mix.max_epochs:g} "
            "epochs, and nothing here stops a longer run"
        )
    if epochs and mix.exhausted == "fail":
        limits.append(f"no domain is repeated up to {blend.budget:,} tokens; nothing here stops a longer run from it")
    if blend.dedup != "none":
        limits.append("dedup cannot be said: the raw files still hold the copies")
    if mix.validation:
        limits.append("validation cannot be said: the raw files still hold the held-out documents")
    return limits


def _mixed_sources(blend: Blend) -> list[str]:
    """A note for each source that holds several domains, which no path can name apart."""
    notes = []
    for name, source in blend.sources.items():
        if source.domain and blend.files[name]:
            held = [s.name for s in blend.entries if any(name == n for n, _ in _sources_of(blend, s.name, named=True))]
            mapped = [f"{v} = {d}" for d in held for v in _raw_values(source, d) if v != d]
            notes.append(
                f"no path can name the domains of source {name} ({list_some(held)}): its column {source.domain} says the domain "
                f"of each row{f' ({list_some(mapped)})' if mapped else ''}; split the rows by it while converting"
            )
    return notes


def _commented(blend: Blend, notes: Sequence[str], beside: Mapping[str, str] | None) -> str:
    """The comments at the head of a file: what it is, notes and, unless `beside` is None, the raw files of each domain."""
    lines = [f"The mixture of {blend.title}, written by `chameleon-data export`.", *(f"- {note}" for note in notes)]
    if beside is not None:
        for share in blend.entries:
            where = [path for _, source in _sources_of(blend, share.name, named=True) for path in source.path]
            lines.append(f"{share.name}: {beside.get(share.name, '')}raw files {list_some(where)}")
    return "".join(f"# {' '.join(line.split())}\n" for line in lines)


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
