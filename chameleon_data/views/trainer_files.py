"""The weights alone, in the words of trainers that mix for themselves. No shard is written; the files point at the sources.

Trainers count differently, and a share of tokens is another share of documents. With weight w_d, t_d tokens and n_d documents
in domain d:

    of sequences or tokens (Megatron, OLMo-core, levanter, NeMo Automodel,
                            torchtitan, MosaicML on packed sequences)             w_d
    of documents (`datasets`, LLaMA-Factory, ms-swift, MosaicML on one a sample)  p_d = (w_d n_d / t_d) / Σ_e (w_e n_e / t_e)
    a share of each domain's documents, once an epoch (axolotl, TRL)              f_d = (w_d / t_d) / max_e (w_e / t_e)

`datasets` reads the raw files as they are. The others read formats of their own: their paths name a folder for each domain's
converted files, and a comment names the raw ones. Of several stages, levanter takes a schedule, and Megatron and OLMo-core a
blend for the run of each; the other forms have the weights of all stages together.
Why: docs/decisions/082-weights-for-trainers.md, docs/decisions/184-schedules-of-trainers.md,
docs/decisions/189-exports-in-trainers-packages.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import yaml

from chameleon_data.corpus.fragments import hive_value
from chameleon_data.errors import InputError, list_some
from chameleon_data.recipe import Mix, Recipe, Source
from chameleon_data.store.store import Store
from chameleon_data.store.urls import scheme_of
from chameleon_data.versions.corpus_tables import InputFile, read_inputs
from chameleon_data.versions.manifest import Manifest

STEP_TOKENS = 1 << 20
"""Most tokens of a training step, where a schedule counts steps and nobody said the batch."""
BUILDERS = {"jsonl": "json", "parquet": "parquet", "arrow": "arrow", "csv": "csv", "tsv": "csv", "txt": "text"}
"""Format of a fragment -> the name of the `datasets` builder that reads it."""
BUILDER_OPTIONS = {"tsv": ', sep="\\t"', "txt": ', sample_by="document"'}
"""Format -> arguments with which the builder's rows are the documents that the survey counted."""
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
class BlendStage:
    """A stage of the training."""

    budget: int
    """Tokens."""
    weights: dict[str, float]
    """Domain -> share of its tokens; one that is absent has no key."""


@dataclass(frozen=True)
class Blend:
    """All that a trainer can be told."""

    title: str
    """What the mixture is of, for a comment."""
    entries: tuple[BlendEntry, ...]
    """Domains with a weight above zero, by name."""
    budget: int
    """Tokens."""
    files: dict[str, tuple[tuple[str, str], ...]]
    """Source -> URL and format of each of its files."""
    sources: dict[str, Source]
    """The recipe's."""
    mix: Mix
    """The recipe's."""
    dedup: str
    """The recipe's `input.dedup`."""
    chat: bool
    """Whether its documents are conversations."""
    trained: bool
    """Whether tokens are those of conversations that a trainer learns from."""
    tokenizer: str | None
    """The recipe's; None: a token is a byte of text."""
    seed: int
    stages: tuple[BlendStage, ...] = ()
    """In the order of the training; none or one where the weights do not change."""

    def by_stage(self) -> tuple[Blend, ...]:
        """The mixture of each stage, with its budget; this one alone where the weights do not change."""
        if len(self.stages) < 2:
            return (self,)
        return tuple(
            replace(
                self,
                entries=tuple(replace(e, weight=stage.weights[e.name]) for e in self.entries if stage.weights.get(e.name)),
                budget=stage.budget,
                stages=(),
            )
            for stage in self.stages
        )

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

    def kept(self, entry: BlendEntry) -> float:
        """The share of a domain's documents that an epoch has, where it has each once at most: `f_d` of the docstring."""
        return entry.weight / entry.tokens / max(other.weight / other.tokens for other in self.entries)

    @property
    def epochs(self) -> float:
        """Epochs of the documents that `kept` leaves which make up the budget."""
        return self.budget / math.fsum(self.kept(entry) * entry.tokens for entry in self.entries)


def make_blend(
    title: str,
    recipe: Recipe,
    entries: Iterable[BlendEntry],
    budget: int,
    inputs: Iterable[InputFile],
    stages: Iterable[BlendStage] = (),
) -> Blend:
    """The mixture of these domains; `inputs` are the fragments of the corpus. Raises InputError where no file says a domain."""
    if recipe.domains:
        raise InputError(
            "the domains of this version are topics that were found in the texts, and no file of the sources names them; train "
            "on the shards, or export their tables: delta or iceberg"
        )
    files: dict[str, set[tuple[str, str]]] = {name: set() for name in recipe.sources}
    for fragment in inputs:
        files[fragment.source].add((fragment.url, fragment.format))
    return Blend(
        title=title, entries=tuple(sorted((e for e in entries if e.weight > 0), key=lambda e: e.name)), budget=budget,
        files={name: tuple(sorted(found)) for name, found in files.items()}, sources=recipe.sources, mix=recipe.mix,
        dedup=recipe.input.dedup, chat=recipe.is_chat, trained=recipe.is_chat and recipe.tokens.count == "trained",
        tokenizer=recipe.tokens.tokenizer, seed=recipe.seed,
        stages=tuple(stages),
    )  # fmt: skip


def blend_of_version(title: str, store: Store, manifest: Manifest) -> Blend:
    """The mixture that a version recorded."""
    entries = (BlendEntry(n, d.weight, d.available_tokens, d.available_rows) for n, d in manifest.domains.items())
    stages = (BlendStage(s.budget, {name: d.weight for name, d in s.domains.items()}) for s in manifest.stages)
    return make_blend(title, manifest.recipe, entries, manifest.budget, read_inputs(store, manifest), stages)


def mosaicml(blend: Blend, folder: str) -> str:
    """`streams` of an llm-foundry data loader. Every value holds the arguments of one `streaming.Stream`."""
    streams = {s.name: {"remote": f"{folder}/{_folder_name(s.name)}", "proportion": s.weight} for s in blend.entries}
    notes = [
        "a stream is a folder of MDS shards: convert each domain's files first, by llm-foundry's convert_dataset_json.py",
        "`proportion` counts samples, so these are right for packed sequences (--concat_tokens); for one document a "
        "sample, the shares that give the same tokens stand beside the files below",
        f"the budget of {blend.budget:,} tokens is `epoch_size`, in samples, of the StreamingDataset",
        *_masks_lost(blend),
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    beside = {s.name: f"{blend.drawn(s):.6g} of documents; " for s in blend.entries}
    return _commented(blend, notes, beside) + _yaml({"streams": streams})


def megatron(blend: Blend, folder: str) -> str:
    """The blend as Megatron's --data-path takes it: weight and prefix, weight and prefix. Of several stages, one for each."""
    blends = []
    for part in blend.by_stage():
        pairs = [f"{s.weight!r} {shlex.quote(f'{folder}/{_folder_name(s.name)}_text_document')}" for s in part.entries]
        blends.append(f"--data-path {' '.join(pairs)}\n")
    notes = [
        *_say_runs(blend, "each line"),
        "a prefix is a .bin and an .idx file: convert each domain's files first, by Megatron's tools/preprocess_data.py, whose "
        "--output-prefix is the prefix without _text_document",
        f"the budget of {blend.budget:,} tokens is --train-samples, in sequences",
        *_masks_lost(blend),
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    return _commented(blend, notes, {}, scheduled=True) + _by_stage(blend, blends, "")


def olmo(blend: Blend, folder: str) -> str:
    """A `SourceMixtureList` of OLMo-core, for its `from_yaml`. Of several stages, a YAML document for each."""
    notes = [
        *_say_runs(blend, "each document, in a file of its own,"),
        "a path is a file of token ids: tokenise each domain's files first, by dolma's `dolma tokens`",
        f"the budget is requested_tokens: {blend.budget}, and the seed {blend.seed}, of the SourceMixtureDatasetConfig",
        "max_repetition_ratio holds the recipe's max_epochs as counted in the recipe's tokens; where OLMo-core counts fewer in a "
        "domain it says that its tokens are insufficient: raise that domain's ratio",
        *_masks_lost(blend),
        *_limits(blend, epochs=False),
        *_mixed_sources(blend),
    ]
    documents = [_yaml({"sources": _olmo_sources(part, folder)}) for part in blend.by_stage()]
    return _commented(blend, notes, {}, scheduled=True) + _by_stage(blend, documents, "---\n")


def _olmo_sources(blend: Blend, folder: str) -> list[dict[str, Any]]:
    mix, sources = blend.mix, []
    for share in blend.entries:
        epochs = share.weight * blend.budget / share.tokens
        limit = {"redistribute": max(mix.max_epochs, epochs), "fail": max(1.0, epochs), "repeat": epochs}[mix.exhausted]
        ratio = math.ceil(limit * 1e4) / 1e4  # weights are rounded, and OLMo-core refuses what is a token above the limit
        sources.append(
            {
                "source_name": share.name,
                "target_ratio": share.weight,
                "paths": [f"{_escape(folder)}/{_folder_name(share.name)}/*.npy"],
                "max_repetition_ratio": max(1.0, ratio),
                "max_source_fraction": min(1.0, ratio),
            }
        )
    return sources


def datasets_script(blend: Blend) -> str:
    """A Python module that ends with `mixture`, an `IterableDataset` of `datasets` over the raw files."""
    parts = []
    if chats := [name for name, source in blend.sources.items() if source.holds_turns]:
        raise InputError(
            f"sources.{chats[0]}: holds conversations, and this form reads texts; export llamafactory or swift, or train on "
            "the shards"
        )
    for share in blend.entries:
        read = []
        for name, source in _sources_of(blend, share.name):
            for format, column, of_domain in _files_of(source, blend.files[name], share.name):
                text = "text" if format == "txt" else source.text
                more = f", column={column!r}, values={tuple(_raw_values(source, share.name))!r}" if column else ""
                if format in ("csv", "tsv"):  # what looks like a number is text all the same
                    more += f", converters={{{', '.join(f'{key!r}: str' for key in filter(None, (text, column)))}}}"
                files = "".join(f"        {_escape(url)!r},\n" for url in of_domain)
                how = f"{share.name!r}, {BUILDERS[format]!r}, text={text!r}{more}{BUILDER_OPTIONS.get(format, '')}"
                read.append(f"rows({how}, files=[\n{files}    ]),\n")
        together = "".join(f"    {line}" for line in read)
        parts.append(f"    concatenate_datasets([\n{together}    ]),\n" if len(read) > 1 else f"    {read[0]}")
    repeats = blend.mix.exhausted != "fail"
    notes = [
        "`interleave_datasets` draws documents, so its probabilities are the weights, in the comments behind them, over the "
        "mean tokens of a document",
        "documents come in the order of their files; `.shuffle(seed=…, buffer_size=…)` of each part mixes within its buffer only",
        f"the budget of {blend.budget:,} tokens is {blend.documents:,} documents on average: `take` at the end",
        "the files are those that were read; each is opened by itself, so that files may have other columns",
        "rows that were quarantined cannot be left out: those without text are, but at broken JSON or CSV `datasets` stops",
        *_limits(blend),
    ]
    urls = [url for files in blend.files.values() for url, _ in files]
    if any("::" in url for url in urls):
        notes.append("`datasets` opens no file with '::' in its name or in its folder's: rename it first")
    if any(scheme_of(url) and _escape(url) != url for url in urls):  # its `xopen` takes the name for a pattern once more
        notes.append(
            "`datasets` opens no file of an object store with '*', '?' or '[' in its name or in its folder's, or takes another "
            "one for it: rename it first"
        )
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


def levanter(blend: Blend, folder: str) -> str:
    """`data` of a levanter configuration: a component for each domain, and `train_weights`, of several stages with the step at
    which each begins. Its `LmDataConfig` of 2026; before, it said `configs`. No stage is shorter than a step, since levanter
    refuses two that begin at one."""
    above = re.sub(r"([\\{}])", r"\\\1", _escape(folder))  # it expands braces first, then the pattern
    urls = {s.name: [f"{above}/{_folder_name(s.name)}/*.jsonl.gz"] for s in blend.entries}
    rows = {"type": "chat", "messages_field": _body_column(blend)} if blend.chat else {"type": "text", "text_key": "text"}
    components = {name: {"source": {"type": "url", "train_urls": found}, "format": rows} for name, found in urls.items()}
    notes = [
        f"a url names JSON lines with a key `{_body_column(blend)}`: convert each domain's files first; `tokenizer` and "
        "`cache_dir` are for you",
        f"the budget of {blend.budget:,} tokens is num_train_steps times the batch, in sequences",
        *(["weights count packed sequences, however much of each is learned from"] if blend.chat else []),
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    weights: Any = [{s.name: s.weight for s in part.entries} for part in blend.by_stage()]
    if len(weights) == 1:
        (weights,) = weights
    else:
        begins = list(accumulate((stage.budget for stage in blend.stages[:-1]), initial=0))
        step = min(STEP_TOKENS, 1 << min(stage.budget for stage in blend.stages).bit_length() - 1)
        notes = [
            f"each stage begins at a step, of {step:,} tokens here: the stages begin at "
            f"{list_some([f'{begin:,}' for begin in begins])} tokens, which are to be divided by the tokens of your batch, and "
            "levanter wants multiples of mixture_block_size sequences",
            *notes,
        ]
        weights = [[round(begin / step), of_stage] for begin, of_stage in zip(begins, weights, strict=True)]
    data = {"components": components, "train_weights": weights}
    return _commented(blend, notes, {}, scheduled=True) + _yaml({"data": data})


def automodel(blend: Blend, folder: str) -> str:
    """`dataset` of a NeMo Automodel configuration for Megatron's files: weight and prefix, weight and prefix."""
    paths = [part for s in blend.entries for part in (repr(s.weight), f"{folder}/{_folder_name(s.name)}_text_document")]
    notes = [
        "a prefix is a .bin and an .idx file: convert each domain's files first, by Automodel's or Megatron's preprocess_data.py",
        f"the budget of {blend.budget:,} tokens is max_steps times the global batch, in sequences",
        "its datasets for instructions and chats take no weights: train on the shards of a build there",
        *_masks_lost(blend),
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    target = "nemo_automodel.components.datasets.llm.megatron_dataset.MegatronPretraining"
    return _commented(blend, notes, {}) + _yaml({"dataset": {"_target_": target, "paths": paths}})


def swift(blend: Blend, folder: str) -> str:
    """The arguments of `swift sft` or `swift pt` for these datasets and their probabilities."""
    paths = [shlex.quote(f"{folder}/{_folder_name(s.name)}") for s in blend.entries]
    probabilities = [repr(blend.drawn(s)) for s in blend.entries]
    ends = "first_exhausted" if blend.mix.exhausted == "fail" else "all_exhausted"
    notes = [
        "a path is a folder or file of JSON lines, CSV or Parquet with `messages`, or with a prompt and its answer: put each "
        "domain's rows there",
        "--interleave_prob draws rows, so the probabilities are the weights over the mean tokens of a row",
        f"the budget of {blend.budget:,} tokens is {blend.documents:,} rows on average: --max_steps times the batch",
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    arguments = ["--dataset", *paths, "--interleave_prob", *probabilities, "--stopping_strategy", ends]
    return _commented(blend, notes, {}) + f"{' '.join(arguments)}\n"


def axolotl(blend: Blend, folder: str) -> str:
    """`datasets` of an axolotl configuration: a folder for each domain, and how many of its rows."""
    rows = {"type": "chat_template", "field_messages": "messages"} if blend.chat else {"type": "completion", "field": "text"}
    listed = [{"path": f"{folder}/{_folder_name(s.name)}", "split": _first_rows(blend, s), **rows} for s in blend.entries]
    notes = [
        f"a path is a folder of this machine, of JSON lines with `{_body_column(blend)}`: put each domain's rows there, "
        "shuffled, since a split takes the first ones",
        "axolotl puts the datasets one behind the other, and its releases until 0.19 have no weights; the number of rows says "
        "the share",
        *_epoch_notes(blend),
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    return _commented(blend, notes, {}) + _yaml({"datasets": listed, "num_epochs": round(blend.epochs, 4)})


def trl(blend: Blend, folder: str) -> str:
    """`datasets` of a TRL configuration, as `trl sft --config` reads it: a folder for each domain, and how many of its rows."""
    listed = [
        {
            "path": "json",
            "data_dir": f"{_escape(folder)}/{_folder_name(s.name)}",
            "split": _first_rows(blend, s),
            "columns": [_body_column(blend)],
        }
        for s in blend.entries
    ]
    notes = [
        f"data_dir is a folder of JSON lines with `{_body_column(blend)}`: put each domain's rows there, shuffled, since a split "
        "takes the first ones",
        "TRL puts the datasets one behind the other and has no weights; the number of rows says the share",
        *_epoch_notes(blend),
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    return _commented(blend, notes, {}) + _yaml({"datasets": listed, "num_train_epochs": round(blend.epochs, 4)})


def _first_rows(blend: Blend, entry: BlendEntry) -> str:
    """The share of a domain's rows that `Blend.kept` says, as a slice of `datasets`."""
    return f"train[:{max(1, round(blend.kept(entry) * entry.rows))}]"


def _body_column(blend: Blend) -> str:
    return "messages" if blend.chat else "text"


def _epoch_notes(blend: Blend) -> list[str]:
    """What it means to take a share of the rows."""
    return [
        f"the budget of {blend.budget:,} tokens is the number of epochs",
        "every epoch has the same rows: those that a share leaves out are never seen, where a build goes on to them",
    ]


def torchtitan(blend: Blend, folder: str) -> str:
    """A Python module for torchtitan 0.3 that ends with `dataloader`, the configuration of a loader of packed rows."""
    if blend.chat:
        raise InputError(
            "torchtitan's mixture of data sets reads texts; export llamafactory, swift, axolotl or trl, or train on the shards"
        )
    parts = "".join(f"    ({f'{_escape(folder)}/{_folder_name(s.name)}/*.jsonl'!r}, {s.weight!r}),\n" for s in blend.entries)
    mixed = TITAN_MIXTURE.format(repeated=blend.mix.exhausted != "fail", seed=blend.seed)
    notes = [
        "a pattern names JSON lines with a key `text`: convert each domain's files first",
        "weights count packed rows, which hold as many tokens each, so they are the shares of tokens",
        "written for torchtitan 0.3; later it mixes by torchtitan.components.data, which is in no release yet",
        f"the budget of {blend.budget:,} tokens is training.steps times the batch, in tokens",
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    return _commented(blend, notes, {}) + TITAN + f"MIXTURE = [\n{parts}]\n" + mixed


def llamafactory(blend: Blend, folder: str) -> str:
    """The keys of a LLaMA-Factory configuration; `dataset_info` is the file that it reads beside."""
    names = [_folder_name(s.name) for s in blend.entries]
    notes = [
        "`dataset_dir` holds dataset_info.json, which `export --to FILE` writes beside FILE, and the folders that it names: "
        "put each domain's rows there as .jsonl or .parquet",
        "interleave_probs draw rows, so they are the weights over the mean tokens of a row",
        f"the budget of {blend.budget:,} tokens is {blend.documents:,} rows on average: max_steps times the batch",
        *_limits(blend),
        *_mixed_sources(blend),
    ]
    mixed = {
        "dataset": ",".join(names),
        "dataset_dir": folder,
        "mix_strategy": "interleave_under" if blend.mix.exhausted == "fail" else "interleave_over",
        "interleave_probs": ",".join(repr(blend.drawn(s)) for s in blend.entries),
    }
    return _commented(blend, notes, {}) + _yaml(mixed)


def dataset_info(blend: Blend) -> str:
    """LLaMA-Factory's dataset_info.json: each domain's folder, and the columns of its rows as the sources have them."""
    listed = {}
    for share in blend.entries:
        name = _folder_name(share.name)
        source = next((source for _, source in _sources_of(blend, share.name)), None)
        listed[name] = {"file_name": name, **(_describe_columns(source) if source else {})}
    return json.dumps(listed, indent=2) + "\n"


def _describe_columns(source: Source) -> dict[str, Any]:
    """How LLaMA-Factory names the columns of a source's rows."""
    if source.prompt:
        keys = dict(zip(("prompt", "query"), source.prompt, strict=False))
        return {"formatting": "alpaca", "columns": {**keys, "response": source.completion}}
    if source.chat is None:
        return {"columns": {"prompt": source.text}}
    columns = {"messages": source.chat, **({"tools": source.tools} if source.tools else {})}
    if source.chat == "conversations":  # ShareGPT's own tags, which LLaMA-Factory takes where none are named
        return {"formatting": "sharegpt", "columns": columns}
    tags = {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "observation_tag": "tool",
        "function_tag": "function_call",
        "system_tag": "system",
    }
    # Its converter called openai reads `tool_calls`, and adds a system turn where there are no tools
    return {"formatting": "openai" if source.tools else "sharegpt", "columns": columns, "tags": tags}


TRAINER_WRITERS: dict[str, Callable[[Blend, str], str]] = {
    "mosaicml": mosaicml,
    "megatron": megatron,
    "olmo": olmo,
    "levanter": levanter,
    "automodel": automodel,
    "swift": swift,
    "llamafactory": llamafactory,
    "axolotl": axolotl,
    "trl": trl,
    "torchtitan": torchtitan,
    "datasets": lambda blend, _: datasets_script(blend),
}
"""FORM of the command -> what writes the file, given the folder of converted data."""
FILES_BESIDE: dict[str, dict[str, Callable[[Blend], str]]] = {"llamafactory": {"dataset_info.json": dataset_info}}
"""FORM -> name of a further file, which stands beside the first -> what writes it."""

TITAN = """\
from datasets import load_dataset
from torchtitan.hf_datasets import DatasetConfig
from torchtitan.hf_datasets.text_datasets import DATASETS, HFDataSource, InterleavedHuggingFaceTextDataLoader


def read(pattern):
    return load_dataset("json", data_files=pattern, split="train")


def text_of(row):
    return row["text"]


"""
TITAN_MIXTURE = """\
sources = []
for number, (pattern, weight) in enumerate(MIXTURE):
    DATASETS[f"mixture-{{number}}"] = DatasetConfig(path=pattern, loader=read, sample_processor=text_of)
    sources.append(HFDataSource(dataset=f"mixture-{{number}}", weight=weight, infinite={repeated}))
dataloader = InterleavedHuggingFaceTextDataLoader.Config(sources=sources, seed={seed})
"""
PREAMBLE = '''\
from datasets import Features, IterableDataset, Value, concatenate_datasets, interleave_datasets, load_dataset

ROW = Features({"text": Value("string"), "domain": Value("string")})


def pick(row, key):
    """The value under a dotted key; None where there is none."""
    if key in row:
        return row[key]
    for part in key.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def documents(files, domain, builder, text, column, values, options):
    """The documents of one domain in raw files, file after file."""
    for file in files:
        for row in load_dataset(builder, data_files=file, split="train", streaming=True, **options):
            found = pick(row, text)
            if isinstance(found, str) and found.strip() and (column is None or str(pick(row, column)) in values):
                yield {"text": found, "domain": domain}


def rows(domain, builder, text, files, column=None, values=(), **options):
    """A stream of them, which `datasets` divides by file. With a column: the rows that have one of the values there."""
    how = {"domain": domain, "builder": builder, "text": text, "column": column, "values": values, "options": options}
    return IterableDataset.from_generator(documents, features=ROW, gen_kwargs={"files": files, **how})


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


def _files_of(source: Source, files: Sequence[tuple[str, str]], domain: str) -> list[tuple[str, str | None, list[str]]]:
    """(format, column that says the domain, URLs) of the files that may hold a domain. No column says it of files that lie in a
    folder of hive's, such as domain=web."""
    found: dict[tuple[str, bool], list[str]] = {}
    if source.domain is not None and not isinstance(source.domain, str):
        raise InputError(
            f"the domains of {list_some(source.path)} are named by {_name_keys(source)}, and `datasets` would read them by one "
            "column; export the weights in another form, or train on the shards"
        )
    values = _raw_values(source, domain) if source.domain else []
    for url, format in files:
        value = hive_value(url, source.domain)
        if value is None or value in values:
            found.setdefault((format, source.domain is not None and value is None), []).append(url)
    return [(format, source.domain if by_column else None, urls) for (format, by_column), urls in sorted(found.items())]


def _name_keys(source: Source) -> str:
    """What names the domains of a source that holds several."""
    if isinstance(source.domain, dict):
        return f"the bucket of its column {source.domain_keys[0]}"
    return f"its column{'s' * (len(source.domain_keys) > 1)} {' and '.join(source.domain_keys)}"


def _escape(url: str) -> str:
    """The path or URL as a pattern that matches nothing else, for trainers and for `datasets`, which take names for patterns."""
    scheme, separator, path = url.rpartition("://")
    return scheme + separator + re.sub(r"([*?[])", r"[\1]", path)


def _folder_name(domain: str) -> str:
    """A domain's name if it is a plain file name; else its plain characters and a hash, so that no two are the same."""
    if SAFE_NAME.fullmatch(domain):
        return domain
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', domain)[:60]}-{hashlib.sha256(domain.encode()).hexdigest()[:8]}"


def _limits(blend: Blend, epochs: bool = True) -> list[str]:
    """What a build of the recipe holds and a trainer's own mixing does not."""
    mix = blend.mix
    unit = "bytes of text" if blend.tokenizer is None else f"tokens of {blend.tokenizer}"
    learned = "trained " * blend.trained
    limits = [f"weights are shares of {learned}{unit}, held on average; a build holds them in every shard and every prefix"]
    if epochs and mix.exhausted == "redistribute":
        limits.append(
            f"max_epochs cannot be said: up to {blend.budget:,} tokens the weights keep every domain within {mix.max_epochs:g} "
            "epochs, and nothing here stops a longer run"
        )
    if epochs and mix.exhausted == "fail":
        limits.append(f"no domain is repeated up to {blend.budget:,} tokens; nothing here stops a longer run from it")
    if blend.dedup != "none":
        limits.append("dedup cannot be said: the raw files still hold the copies")
    if conditions := list(dict.fromkeys(source.where for source in blend.sources.values() if source.where)):
        limits.append(f"where cannot be said: the raw files still hold the rows that it leaves out ({list_some(conditions)})")
    if mix.validation:
        limits.append("validation cannot be said: the raw files still hold the held-out documents")
    return limits


def _masks_lost(blend: Blend) -> list[str]:
    """A note where a trainer that knows no roles is given conversations."""
    if not blend.chat:
        return []
    return [
        "conversations become texts here, and the trainer learns from every token of them, not from the assistant's alone; train "
        "on the shards, or export llamafactory, swift, axolotl or trl"
    ]


def _mixed_sources(blend: Blend) -> list[str]:
    """A note for each source that holds several domains, which no path can name apart."""
    notes = []
    for name, source in blend.sources.items():
        if source.domain and blend.files[name]:
            held = [s.name for s in blend.entries if any(name == n for n, _ in _sources_of(blend, s.name, named=True))]
            mapped = [f"{v} = {d}" for d in held for v in _raw_values(source, d) if v != d]
            notes.append(
                f"no path can name the domains of source {name} ({list_some(held)}): {_name_keys(source)} says the domain "
                f"of each row{f' ({list_some(mapped)})' if mapped else ''}; split the rows by it while converting"
            )
    return notes


def _say_runs(blend: Blend, each: str) -> list[str]:
    """What it means that a trainer takes a blend for the run of each stage."""
    if len(blend.stages) < 2:
        return []
    return [
        f"{each} is of a stage: its run goes on from the checkpoint of the one before, and reads each domain from its beginning "
        "again; only the shards go on where the stage before ended"
    ]


def _by_stage(blend: Blend, parts: Sequence[str], between: str) -> str:
    """The part of each stage behind a comment that says which it is; the only one as it is."""
    if len(parts) == 1:
        return parts[0]
    tokens = [f"{stage.budget:,} tokens" for stage in blend.stages]
    heads = [f"# stage {number} of {len(parts)}: {tokens[number - 1]}\n" for number in range(1, len(parts) + 1)]
    return between.join(head + part for head, part in zip(heads, parts, strict=True))


def _commented(blend: Blend, notes: Sequence[str], beside: Mapping[str, str] | None, scheduled: bool = False) -> str:
    """The comments at the head of a file: what it is, notes and, unless `beside` is None, the raw files of each domain.

    `scheduled`: the file says which weights come when.
    """
    if len(blend.stages) > 1 and not scheduled:
        notes = [f"the weights of all {len(blend.stages)} stages together: only the shards say which come when", *notes]
    lines = [f"The mixture of {blend.title}, written by `chameleon-data export`.", *(f"- {note}" for note in notes)]
    if beside is not None:
        for share in blend.entries:
            where = [path for _, source in _sources_of(blend, share.name, named=True) for path in source.path]
            lines.append(f"{share.name}: {beside.get(share.name, '')}raw files {list_some(where)}")
    return "".join(f"# {' '.join(line.split())}\n" for line in lines)


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
