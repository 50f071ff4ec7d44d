"""Proof of a version: from its stored bytes, and with the corpus at hand from a second survey of it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial

from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.row_store import RowStore, choose_row_store
from chameleon_data.corpus.sample import make_sample_spec
from chameleon_data.corpus.selection import Selection, make_selection_rules
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.pipelines.engine import Engine, Progress, Task, run_pass
from chameleon_data.pipelines.select import select_rows
from chameleon_data.pipelines.survey import survey_corpus
from chameleon_data.pipelines.write import gather_rows
from chameleon_data.shards.assemble import RowSource, hash_shard
from chameleon_data.shards.lay_out import ShardSpec, build_folder
from chameleon_data.store.checksummed import read_record, write_record
from chameleon_data.store.paths import CHECKS, BuildFolder
from chameleon_data.store.store import Store
from chameleon_data.versions.active import active_driver
from chameleon_data.versions.against_corpus import ShardContents, check_plan_against_corpus, spill_for_check
from chameleon_data.versions.manifest import Manifest


def check_against_corpus(engine: Engine, store: Store, manifest: Manifest, progress: Progress) -> tuple[list[str], ShardContents]:
    """What the corpus says against a version, and what each shard must hold.

    No earlier survey is believed: the records of this one go into a folder of their own, which is removed at the end.
    """
    recipe = manifest.recipe
    scratch = Store(f"{store.url.rstrip('/')}/{CHECKS}/{secrets.token_hex(8)}")
    with active_driver(store) as driver, engine.sharing(store):
        progress = driver.keep_during(progress)
        try:
            counter, spec = load_token_counter(recipe.tokens), make_sample_spec(recipe.embed, recipe.seed)
            rules = make_selection_rules(recipe.input, recipe.mix.validation, recipe.shards, counter)
            # Texts are not needed again, but ids are, and to make them takes longer than all else.
            keep = choose_row_store("auto" if rules.packing else False, scratch, None, True, counter)
            progress("list", 0, 0)
            fragments = {name: list_fragments(name, source).fragments for name, source in recipe.sources.items()}
            survey = survey_corpus(engine, scratch, keep, fragments, recipe.sources, recipe.input, spec, counter, progress)
            selection = select_rows(engine, scratch, survey, rules, tuple(recipe.sources), progress)
            problems, layouts = check_plan_against_corpus(scratch, survey, selection, manifest)
            if problems:
                return problems, {}
            job = ShardSpec(layouts, rules, counter, recipe.sources, recipe.input, recipe.shards)
            return [], _make_again(engine, scratch, keep, job, selection, survey.parts, progress)
        finally:
            scratch.remove(list(scratch.list()))


def _make_again(
    engine: Engine,
    store: Store,
    keep: RowStore | None,
    job: ShardSpec,
    selection: Selection,
    parts: Sequence[Part],
    progress: Progress,
) -> ShardContents:
    """What the rows of each shard must be; each is made by itself, on any worker."""
    build = build_folder(job.layouts, parts)
    source = gather_rows(engine, store, keep, build, job, selection, parts, spill_for_check, progress)
    task = Task(partial(_hash_one, store, build, job, source), lambda shard: f"shard {shard}")
    run_pass(engine, "make", task, range(build.shards), progress)
    places = [(layout.plan.split, number) for layout, number in map(job.locate, range(build.shards))]
    return {place: read_record(store, build.receipt(shard))["content"] for shard, place in enumerate(places)}


def _hash_one(store: Store, build: BuildFolder, job: ShardSpec, source: RowSource, shard: int) -> None:
    write_record(store, build.receipt(shard), {"content": hash_shard(store, job, source, shard)})
