"""Before the passes: what a recipe names is looked for, and all that is missing is told at once.

Listings, headers and first rows are read, and no document. So a wrong path, column, model or credential costs seconds, and
neither Ray nor a model is loaded for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from chameleon_data.corpus.chat_template import compile_template
from chameleon_data.corpus.file_counts import SharedFiles, SourceFiles
from chameleon_data.corpus.fragments import Fragment, Listing, list_fragments
from chameleon_data.corpus.hub_revisions import pin_sources, refuse_moving
from chameleon_data.corpus.readers.first_rows import check_columns
from chameleon_data.corpus.tokens import TokenCounter, load_token_counter
from chameleon_data.errors import DefectError, Faults, locating
from chameleon_data.pipelines.engine import Progress
from chameleon_data.pipelines.weigh import find_version, open_named_weights, read_named_weights
from chameleon_data.recipe import Like, Recipe, RecordedLandmarks, Source, Weights, natural_exponent
from chameleon_data.store.store import Store
from chameleon_data.weights.bounds import values_by_domain
from chameleon_data.weights.domain_weights import TARGET_NAME
from chameleon_data.weights.embedder import ColumnEmbedder, Embedder, load_embedder, other_embed
from chameleon_data.weights.kernels.faiss_library import import_faiss
from chameleon_data.weights.kernels.kernel import EXACT
from chameleon_data.weights.tfidf import TFIDF

SOURCES_OPENED = 256
"""Sources of which a file is opened; the survey finds what is wrong with more of them."""
OPENED_AT_ONCE = 16


@dataclass(frozen=True)
class Prepared:
    """What a recipe names."""

    recipe: Recipe
    """The recipe itself, with commits in the place of branches and tags of the hub."""
    store: Store
    """Its `out`, which takes files."""
    counter: TokenCounter
    fragments: dict[str, tuple[Fragment, ...]]
    """Source -> its fragments."""
    files: dict[str, SourceFiles]
    """Source -> its files in numbers, with those that are left out."""
    targets: dict[Like, dict[str, tuple[Fragment, ...]]]
    """The same of the files of each target of `weights` that has any."""
    embedder: Embedder | ColumnEmbedder | None
    """None: weights are given, and no domains are discovered."""


def prepare(recipe: Recipe, single_writer: bool, progress: Progress) -> Prepared:
    """Find what a recipe names. Raises InputError with a line for each thing that is wrong."""
    faults = Faults()
    progress("list", 0, 0)
    store = faults.collect(partial(_open_store, recipe.out, single_writer))
    counter = faults.collect(partial(load_token_counter, recipe.tokens, recipe.is_chat, recipe.shards))
    pinned = faults.collect(partial(_pin_revisions, recipe))
    if pinned is None:
        faults.raise_all()
        raise DefectError("a fault was not collected")
    recipe, commits = pinned
    named = dict.fromkeys(stage.weights.target for stage in recipe.stages if isinstance(stage.weights.target, Like))
    targets = {
        like: _fragments_of(_list_all({TARGET_NAME: Source(path=like.like, text=like.text)}, "weights.target: ", faults))
        for like in named
    }
    listings = _list_all(recipe.sources, "", faults)
    for name, source in recipe.sources.items():
        if source.template is not None:
            faults.collect(partial(compile_template, source.template, f"sources.{name}.template"))
    fragments = _fragments_of(listings)
    _open_some(recipe.sources, fragments, recipe.embed.column, faults)
    if isinstance(recipe.leverage.landmarks, RecordedLandmarks) and any(not stage.weights.from_ for stage in recipe.stages):
        faults.collect(partial(find_version, "leverage.landmarks", recipe.leverage.landmarks.from_))
    for number, stage in enumerate(recipe.stages):
        _check_weights(recipe, stage.weights, f"mix.stages.{number}.weights" if recipe.mix.stages else "weights", faults)
    embedder = None
    if any(not stage.weights.from_ for stage in recipe.stages) or recipe.domains:
        if recipe.domains:
            faults.collect(partial(import_faiss, "domains"))
        if recipe.leverage.kernel not in EXACT:
            faults.collect(partial(import_faiss, f"leverage.kernel: {recipe.leverage.kernel}"))
        progress("model", 0, 0)
        embedder = faults.collect(partial(load_embedder, recipe.embed))
        for model in (name for name in recipe.embed.also if name != TFIDF):
            faults.collect(partial(load_embedder, other_embed(recipe.embed, model)), "embed.also: ")
    faults.raise_all()
    if store is None or counter is None:
        raise DefectError("a fault was not collected")
    files = {name: replace(of, commits=commits.get(name, {})) for name, of in count_shared(listings).items()}
    return Prepared(recipe, store, counter, fragments, files, targets, embedder)


def _pin_revisions(recipe: Recipe) -> tuple[Recipe, dict[str, dict[str, str]]]:
    """The recipe with commits of the hub for the revisions of its sources, and source -> revision -> commit."""
    for stage in recipe.stages:
        if isinstance(stage.weights.target, Like):
            refuse_moving(stage.weights.target.like, "weights.target")
    sources, moving = pin_sources(recipe.sources)
    return recipe.model_copy(update={"sources": sources}), moving


def _open_store(out: str, single_writer: bool) -> Store:
    with locating("out"):
        store = Store(out, single_writer)
        store.probe()
    return store


def _list_all(sources: Mapping[str, Source], where: str, faults: Faults) -> dict[str, Listing]:
    found = {name: faults.collect(partial(list_fragments, name, source), where) for name, source in sources.items()}
    return {name: listing for name, listing in found.items() if listing is not None}


def count_shared(listings: Mapping[str, Listing]) -> dict[str, SourceFiles]:
    """The files of each source in numbers, with those that a source before it reads too, by whatever name."""
    reader: dict[str, str] = {}
    counted: dict[str, SourceFiles] = {}
    for name, listing in listings.items():
        shared: dict[str, SharedFiles] = {}
        for url in dict.fromkeys(fragment.url for fragment in listing.fragments):
            other = reader.setdefault(url if "://" in url else os.path.realpath(url), name)
            if other != name:
                before = shared.get(other)
                shared[other] = SharedFiles(before.count + 1, before.first) if before else SharedFiles(1, url)
        counted[name] = replace(listing.files, shared=shared)
    return counted


def _fragments_of(listings: Mapping[str, Listing]) -> dict[str, tuple[Fragment, ...]]:
    return {name: listing.fragments for name, listing in listings.items()}


def _open_some(
    sources: Mapping[str, Source], fragments: Mapping[str, Sequence[Fragment]], vectors: str | None, faults: Faults
) -> None:
    """Look into the first file of each format of a source."""

    def check(named: tuple[str, Fragment]) -> None:
        with suppress(OSError):  # the network; the survey tries again
            check_columns(named[1], sources[named[0]], vectors)

    some = islice(fragments.items(), SOURCES_OPENED)
    named = [(name, fragment) for name, of_source in some for fragment in _first_of_each(of_source)]
    with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
        for (name, _), opened in [(pair, pool.submit(check, pair)) for pair in named]:
            faults.collect(opened.result, f"sources.{name}: ")


def _first_of_each(fragments: Iterable[Fragment]) -> list[Fragment]:
    first: dict[str, Fragment] = {}
    for fragment in fragments:
        first.setdefault(fragment.format, fragment)
    return list(first.values())


def _check_weights(recipe: Recipe, weights: Weights, key: str, faults: Faults) -> None:
    """Files and versions that the `weights` at a key name; and domains, where the recipe names all there are."""
    files = [(f"{key}.compare", file) for file in weights.compare]
    if weights.from_:
        files.append((f"{key}.from", weights.from_))
    elif natural_exponent(weights.centre) is None:
        files.append((f"{key}.centre", weights.centre))
    if recipe.domains or any(source.domain for source in recipe.sources.values()):
        for of_file, file in files:
            faults.collect(partial(open_named_weights, of_file, file))
        return
    names = list(recipe.sources)
    for of_file, file in files:
        faults.collect(partial(read_named_weights, of_file, file, names))
    groups = {domain: 0.0 for group in weights.groups.values() for domain in group.domains}
    for what, given in (("floor", weights.floor), ("cap", weights.cap), ("prior", weights.prior), ("group", groups)):
        faults.collect(partial(values_by_domain, f"{key}.{what}", given, names, 0.0))
