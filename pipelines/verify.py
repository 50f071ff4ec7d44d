"""Proof of a version: from its stored bytes, and with the corpus at hand from a second survey of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa

from chameleon_data.corpus.clusterings import find_clustering, label_sources
from chameleon_data.corpus.fragments import list_fragments
from chameleon_data.corpus.kept_columns import kinds_of
from chameleon_data.corpus.parts import Part
from chameleon_data.corpus.row_store import RowStore, choose_row_store
from chameleon_data.corpus.sample import make_sample_spec
from chameleon_data.corpus.selection import Selection, make_selection_rules
from chameleon_data.corpus.tokens import load_token_counter
from chameleon_data.pipelines.assign import assign_topics
from chameleon_data.pipelines.engine import COUNTERS, Engine, Progress, Task, count_work, run_pass
from chameleon_data.pipelines.lay_out import lay_out_plans
from chameleon_data.pipelines.local_engine import LocalEngine
from chameleon_data.pipelines.select import select_rows
from chameleon_data.pipelines.survey import survey_corpus
from chameleon_data.pipelines.write import describe_place, send_rows
from chameleon_data.plan.plan import TRAIN
from chameleon_data.recipe import Source
from chameleon_data.shards.assemble import hash_range
from chameleon_data.shards.lay_out import ShardSpec, build_folders, make_shard_specs
from chameleon_data.shards.levels import StoredWork, list_places, numbers_of, shards_of
from chameleon_data.store.checksummed import read_record, write_record
from chameleon_data.store.paths import CHECKS, BuildFolder
from chameleon_data.store.store import Store
from chameleon_data.versions.active import active_driver
from chameleon_data.versions.against_corpus import check_plan_against_corpus, spill_for_check
from chameleon_data.versions.checks.problems import ProblemList
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.proof_files import read_shared_manifest, share_manifest
from chameleon_data.versions.shard_table import list_shards
from chameleon_data.versions.streaming import TableFunction, stream_here
from chameleon_data.versions.verify import Verification, fits_one_range, verify_version

WRONG_SHARDS = "wrong"
"""Folder of the records of shards that do not hold what the corpus gives them."""


def check_against_corpus(engine: Engine, store: Store, manifest: Manifest, progress: Progress) -> list[str]:
    """What the corpus says against a version: its counts, its plan, and the rows of each shard. Where the plan is another one, no
    shard is compared.

    No earlier survey is believed: the records of this one go into a folder of their own, which is removed at the end.
    """
    recipe = manifest.recipe
    scratch = Store(f"{store.url.rstrip('/')}/{CHECKS}/{secrets.token_hex(8)}")
    with active_driver(store) as driver, engine.sharing(store):
        progress = driver.keep_during(progress)
        try:
            counter = load_token_counter(recipe.tokens, recipe.is_chat, recipe.shards)
            spec = make_sample_spec(recipe.embed, recipe.seed, recipe.is_chat)
            progress("list", 0, 0)
            fragments = {name: list_fragments(name, source).fragments for name, source in recipe.sources.items()}
            sources: Mapping[str, Source] = recipe.sources
            if recipe.domains and (clustering := find_clustering(store, recipe.domains)):
                sources = labelled = label_sources(store, recipe.sources, clustering, recipe.domains)
                if recipe.domains.asked.assign == "embed":
                    assign_topics(engine, scratch, recipe.embed, fragments, labelled, recipe.input, spec, counter, None, progress)
            rules = make_selection_rules(recipe.input, recipe.mix.validation, recipe.shards, counter, recipe.keeps_columns)
            # Texts are not needed again, but ids are, and to make them takes longer than all else. Conversations make theirs
            # anew.
            again = recipe.shards.sequence_length != "none"
            keep = choose_row_store("auto" if again else False, scratch, None, recipe.packs_texts, counter)
            survey = survey_corpus(engine, scratch, keep, fragments, sources, recipe.input, spec, counter, progress)
            selection = select_rows(engine, scratch, survey, rules, tuple(recipe.sources), progress)
            lay_out = partial(
                lay_out_plans, engine, scratch, survey, selection, shard_bytes=recipe.shards.size, progress=progress
            )
            problems, layouts = check_plan_against_corpus(survey, selection, manifest, lay_out)
            if problems:
                return problems
            columns = kinds_of(survey.columns)
            jobs = make_shard_specs(layouts, rules, counter, recipe.input, recipe.shards, columns, survey.messages)
            found = ProblemList()
            for build, job in zip(build_folders(layouts, survey.parts), jobs, strict=True):
                made = _make_again(engine, store, manifest, scratch, keep, build, job, selection, survey.parts, progress)
                found.join(made)
            return found.sentences()
        finally:
            scratch.remove(list(scratch.list()))


def verify_on_engine(engine: Engine, store: Store, manifest: Manifest, progress: Progress) -> Verification:
    """Prove a version from its stored bytes, ranges of its shards at a time on the engine; see `verify_version`.

    A version of one range is proved here: a cluster's workers would take longer to start. On a cluster, what tasks share goes to
    files in the dataset's folder, which are removed at the end; so there it must be possible to write to it.
    """
    alone = fits_one_range(manifest)
    stream = stream_here if alone else partial(_stream_counted, engine)
    prove = partial(verify_version, store, manifest, lambda done, total: progress("verify", done, total), stream)
    if alone or isinstance(engine, LocalEngine):
        with engine.sharing():  # `store` may be read alone
            return prove()
    scratch = Store(f"{store.url.rstrip('/')}/{CHECKS}/{secrets.token_hex(8)}")
    with active_driver(store), engine.sharing(store):
        try:
            return prove(scratch)
        finally:
            scratch.remove(list(scratch.list()))


def _stream_counted(engine: Engine, make: Callable[[], TableFunction], tables: Sequence[pa.Table]) -> Iterator[pa.Table]:
    return engine.stream(partial(_make_counted, make), tables)


def _make_counted(make: Callable[[], TableFunction]) -> TableFunction:
    """The function that `make` makes, which counts as work of `verify` what its answers say in columns of these names."""
    prove = make()

    def count(table: pa.Table) -> pa.Table:
        answer = prove(table)
        count_work("verify", {name: sum(answer[name].to_pylist()) for name in COUNTERS if name in answer.column_names})
        return answer

    return count


def _make_again(
    engine: Engine,
    store: Store,
    manifest: Manifest,
    scratch: Store,
    keep: RowStore | None,
    build: BuildFolder,
    job: ShardSpec,
    selection: Selection,
    parts: Sequence[Part],
    progress: Progress,
) -> ProblemList:
    """Shards of a folder that do not hold the rows that the corpus gives them; each range of them is made by itself, on any
    worker."""
    work = send_rows(engine, scratch, keep, build, job, selection, parts, spill_for_check, progress)
    places = list_places(job)[0]
    wrong = f"{WRONG_SHARDS}/{build.digest}"
    share_manifest(scratch, manifest)
    task = Task(partial(_hash_range, store, scratch, wrong, work), lambda number: describe_place(job, places[number]))
    sizes = [len(numbers_of(job, place)) for place in places]
    run_pass(engine, "make", task, range(len(places)), progress, sizes=sizes)
    problems = ProblemList()
    for path in scratch.list(wrong):
        vars(found := ProblemList()).update(read_record(scratch, path))
        problems.join(found)
    return problems


def _hash_range(store: Store, scratch: Store, wrong: str, work: StoredWork, number: int) -> None:
    """Compare the rows that the corpus gives a range of shards with the hashes in the table of shards; leave a record if any
    differ."""
    (spec, source), manifest = work.read(scratch), read_shared_manifest(scratch)
    place, problems = list_places(spec)[0][number], ProblemList()
    plan, shards, contents = (
        spec.layouts[place.split].plan,
        shards_of(spec, place),
        hash_range(scratch, work.build, spec, source, place),
    )
    first = plan.first_shard if plan.split == TRAIN else manifest.shard_count
    records = list_shards(store, manifest, first + shards.start, first + shards.stop)
    for content, record in zip(contents, records, strict=False):
        if content != record.content:
            path = record.files[0].path
            problems.add("corpus", [f"{path}: does not hold the rows that the corpus gives it, in their order"])
    if problems.total:
        write_record(scratch, f"{wrong}/{number:06d}.json", vars(problems))
