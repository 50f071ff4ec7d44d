"""The manifest by itself: quotas follow from weights and budget, digests from what they cover, and the books of rows balance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise, zip_longest
from typing import Any

from chameleon_data.corpus.survey import DROP_RULE
from chameleon_data.errors import list_some
from chameleon_data.plan.plan import (
    TRAIN,
    VALIDATION,
    DomainPlan,
    Packing,
    Plan,
    divide_plan,
    phase_of,
    stage_quotas,
    total_weights,
    whole_sequences,
)
from chameleon_data.recipe import Recipe
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.shards.lay_out import folder_digests, plan_digest, stage_budgets
from chameleon_data.shards.rows import number_domains
from chameleon_data.store.paths import BUILDS
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import DomainRecord, Manifest, SplitRecord, name_tokens, stage_targets
from chameleon_data.versions.shard_table import read_shard_rows, sum_shards


def read_packing(recipe: Recipe) -> Packing | None:
    """How a recipe packs texts into sequences; None where a row is a document, or holds whole conversations, which are placed as
    documents are."""
    shards = recipe.shards
    if recipe.is_chat or shards.sequence_length == "none":
        return None
    return Packing(shards.sequence_length, shards.packing == "whole")


def check_manifest(manifest: Manifest) -> list[str]:
    """All that a manifest can show to be wrong without a look at its files."""
    return [
        *(problem for name, record in manifest.domains.items() for problem in _check_rows_read(manifest, name, record)),
        *(
            problem
            for split in manifest.shard_counts
            for name, record in manifest.split_domains(split).items()
            for problem in _check_rows_available(name, record)
        ),
        *_check_domain_ids(manifest),
        *_check_names(manifest),
        *_check_recipe_values(manifest),
        *_check_budget(manifest),
        *_check_quotas(manifest),
        *_check_plan_digest(manifest),
    ]


def _check_rows_read(manifest: Manifest, name: str, d: DomainRecord) -> list[str]:
    """Every row read was written, not selected, held out, dropped as a copy, filtered or quarantined; each has its own proof."""
    problems = []
    kept = d.rows_written_once + d.rows_not_selected + d.held_out
    if d.rows_read != kept + d.copies_dropped + d.filtered + d.quarantined:
        problems.append(
            f"domain {name!r}: {d.rows_read:,} rows read are not {d.rows_written_once:,} written once + {d.rows_not_selected:,} "
            f"not selected + {d.held_out:,} held out + {d.copies_dropped:,} copies dropped + {d.filtered:,} filtered + "
            f"{d.quarantined:,} quarantined"
        )
    if sum(manifest.quarantine.get(name, {}).values()) != d.quarantined:
        problems.append(f"domain {name!r}: the reasons for quarantine do not add up")
    if sum(manifest.filtered.get(name, {}).values()) != d.filtered:
        problems.append(f"domain {name!r}: the rows that each condition leaves out do not add up")
    if d.held_out != (manifest.validation[name].available_rows if name in manifest.validation else 0):
        problems.append(f"domain {name!r}: {d.held_out:,} rows held out are not those of the validation split")
    if d.copies_dropped and manifest.recipe.input.dedup == "none":
        problems.append(f"domain {name!r}: copies were dropped, which the recipe does not ask for")
    return problems


def _check_rows_available(name: str, d: SplitRecord) -> list[str]:
    """Every document of a split was written or not selected."""
    if d.available_rows == d.rows_written_once + d.rows_not_selected:
        return []
    return [f"domain {name!r}: rows written and not selected are not its {d.available_rows:,} documents"]


def _check_domain_ids(manifest: Manifest) -> list[str]:
    if manifest.domain_ids == number_domains([*manifest.domains, *manifest.validation]):
        return []
    return ["'domain_ids' does not number the domains of all splits in byte order of name"]


def _check_names(manifest: Manifest) -> list[str]:
    unknown = set(manifest.quarantine) - set(manifest.domains) - set(manifest.recipe.sources)
    problems = [f"'quarantine' names {name!r}, which is no domain and no source" for name in sorted(unknown)]
    rules = {source.where for source in manifest.recipe.sources.values()}
    if manifest.recipe.shards.overlong == "drop":
        rules.add(DROP_RULE)
    if any({*counts} - rules for counts in manifest.filtered.values()):
        problems.append("'filtered' names a condition that no source of the recipe has")
    if manifest.cut and manifest.recipe.shards.overlong != "cut":
        problems.append("'cut' counts conversations that are cut, which the recipe does not ask for")
    if bool(manifest.messages) != manifest.recipe.is_chat:
        problems.append("'messages' names fields of conversations where the recipe has none, or none where it has them")
    kept = {name for source in manifest.recipe.sources.values() for name in source.keep}
    if {*manifest.columns} != kept:
        problems.append("'columns' are not the ones that the recipe keeps")
    return problems


def _check_recipe_values(manifest: Manifest) -> list[str]:
    """What the manifest repeats from its recipe is what the recipe says."""
    recipe, writer = manifest.recipe, manifest.provenance.writer
    problems = []
    if (manifest.seed, manifest.hash, manifest.unit) != (recipe.seed, recipe.input.hash, recipe.tokens.tokenizer or "bytes"):
        problems.append("'seed', 'hash' or 'unit' is not the recipe's")
    if (writer.compression, writer.level) != (recipe.shards.compression, recipe.shards.zstd_level):
        problems.append("the compression or level of the writer is not the recipe's")
    return problems


def _check_budget(manifest: Manifest) -> list[str]:
    """The budget is the recipe's, where `auto` is every token that may go into the train split, and stages share it as asked."""
    asked, unit = manifest.recipe.mix.budget, name_tokens(manifest.unit)
    shared = sum(d.available_tokens for d in manifest.domains.values()) if asked == "auto" else asked
    expected, budgets = stage_budgets(manifest.recipe.stages, shared), tuple(stage.budget for stage in manifest.stages)
    if manifest.budget != sum(expected):
        return [f"the budget of {manifest.budget:,} {unit} is not the recipe's"]
    if budgets != expected:
        return [f"the stages have {list_some([f'{budget:,}' for budget in budgets])} {unit}, other shares than the recipe's"]
    return []


def _held_out_weights(domains: Mapping[str, SplitRecord]) -> dict[str, str]:
    """Domain -> its share of the tokens of the validation split, as a decimal."""
    total = sum(d.available_tokens for d in domains.values())
    return {name: f"{d.available_tokens / total:.6f}" for name, d in domains.items()}


def _check_quotas(manifest: Manifest) -> list[str]:
    """Weight × budget in each stage, or all there is for validation, rounded down as the plan does; a domain's sums are those of
    the stages."""
    mix, packing, problems = manifest.recipe.mix, read_packing(manifest.recipe), []
    targets, unit = stage_targets(manifest), name_tokens(manifest.unit)
    tokens = {name: d.available_tokens for name, d in manifest.domains.items()}
    planned = stage_quotas(tokens, targets, mix.max_epochs, mix.exhausted, packing)
    for number, (stage, quotas) in enumerate(zip(manifest.stages, planned, strict=True), 1):
        where = f" in stage {number}" if len(planned) > 1 else ""
        problems += [
            f"domain {name!r}: its weight {of_stage.weight}{where} is {quotas[name]:,} {unit}, 'target_tokens' is another number"
            for name, of_stage in stage.domains.items()
            if quotas[name] != of_stage.target_tokens
        ]
    weights = total_weights(targets)
    for name, d in manifest.domains.items():
        parts = [stage.domains[name] for stage in manifest.stages if name in stage.domains]
        facts = [(float(weights[name]), d.weight, "weight")]
        facts += [(sum(getattr(p, f) for p in parts), getattr(d, f), f) for f in ("target_tokens", "tokens", "rows")]
        problems += [
            f"domain {name!r}: {fact!r} is {said:,}, and {summed:,} in its stages"
            for summed, said, fact in facts
            if summed != said
        ]
    held_out = manifest.split_domains(VALIDATION)
    for (name, record), weight in zip(held_out.items(), _held_out_weights(held_out).values(), strict=True):
        if record.weight != float(weight):
            problems.append(f"domain {name!r}: it is {weight} of the validation split, 'weight' is another number")
        if whole_sequences(record.available_tokens, packing) != record.target_tokens:
            problems.append(f"domain {name!r}: 'target_tokens' of the validation split is not all it holds")
    return problems


def _check_plan_digest(manifest: Manifest) -> list[str]:
    """`plan_digest` and the folders follow from the plan that the manifest records."""
    ends = [number for number, stage in enumerate(manifest.stages) if stage.build is not None] + [len(manifest.stages)]
    train, *held_out = (_recorded_plan(manifest, split) for split in manifest.shard_counts)
    first, *later = divide_plan(train, [end - begin for begin, end in pairwise([0, *ends])])
    digests = folder_digests([[first, *held_out], *([plan] for plan in later)])
    if (manifest.plan_digest, manifest.builds) == (plan_digest(digests), tuple(f"{BUILDS}/{digest}" for digest in digests)):
        return []
    return ["the seed, the writer and the counts of the domains are not those of 'plan_digest'"]


def _recorded_plan(manifest: Manifest, split: str) -> Plan:
    records, stages = manifest.split_domains(split), manifest.stages
    shards = tuple(stage.shards for stage in stages) if split == TRAIN else (manifest.shard_counts[split],)
    quotas = [{name: d.target_tokens for name, d in records.items()}]
    weights: list[Mapping[str, str]] = [_held_out_weights(records)]
    if split == TRAIN:
        quotas = [{name: d.target_tokens for name, d in stage.domains.items()} for stage in stages]
        weights = [target.weights for target in stage_targets(manifest)]
    domains = tuple(
        DomainPlan(
            name, tuple(w.get(name, "0") for w in weights), tuple(q.get(name, 0) for q in quotas),
            d.available_rows, d.available_tokens, d.available_bytes,
            d.largest_document, int(d.multiset, 16), phase_of(manifest.seed, name),
        )
        for name, d in records.items()
    )  # fmt: skip
    writer, packing = manifest.provenance.writer.describe(), read_packing(manifest.recipe)
    return Plan(domains, shards, manifest.seed, manifest.hash, writer, packing, split)


def check_shard_table(store: Store, manifest: Manifest) -> list[str]:
    """The table of shards lists each shard of the plan once, in order, with its files in each format of the recipe under their
    names; sums and digests are of what it lists. Raises InputError where the table cannot be read."""
    recipe = manifest.recipe.shards
    expected = (
        [split, number, [(f"{folder}/{format}/{name}", format) for format in recipe.formats
                         for name in FORMATS[format].names(number, numbers.stop, split, recipe.zstd_level)]]
        for split in manifest.shard_counts
        for folder, numbers in manifest.shards_by_build(split).items()
        for number in numbers
    )  # fmt: skip
    listed = all(place == other for place, other in zip_longest(_list_places(store, manifest), expected))
    sums, problems = sum_shards(partial(read_shard_rows, store, manifest), manifest.build), []
    if not listed:
        problems.append("the manifest does not list the shards of the plan in the recipe's formats, each once and in order")
    if sums.formats != manifest.formats:
        problems.append("the files listed are not as many, or of other sizes, than 'formats' says")
    if sums.digest != manifest.digest:
        problems.append("the files listed are not those of 'digest'")
    if sums.content != manifest.content_digest:
        problems.append("the documents and their order are not those of 'content_digest'")
    return problems


def _list_places(store: Store, manifest: Manifest) -> Iterator[list[Any]]:
    """Split, number, and (path, format) of the files of each shard in the table."""
    for table in read_shard_rows(store, manifest):
        files = [[(file["path"], file["format"]) for file in of_shard] for of_shard in table["files"].to_pylist()]
        yield from map(list, zip(table["split"].to_pylist(), table["shard"].to_pylist(), files, strict=True))
