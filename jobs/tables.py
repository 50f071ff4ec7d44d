"""What each verb prints for a person. With --json the same facts are printed whole, by `print_answer` in screen.py."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from chameleon_data.corpus.file_counts import SourceFiles, describe_files
from chameleon_data.errors import list_some
from chameleon_data.jobs.progress import format_amount, format_seconds
from chameleon_data.jobs.screen import (
    count_noun,
    format_decimal,
    format_duration,
    format_facts,
    format_interval,
    format_value,
    make_table,
    out,
    print_dim,
    print_note,
    print_pairs,
    print_table,
    share_digits,
)
from chameleon_data.store.paths import CATALOGUE
from chameleon_data.versions.manifest import TIMED_PASSES, Manifest, name_tokens
from chameleon_data.versions.references import NO_VERSION_YET
from chameleon_data.versions.versions import Version
from chameleon_data.weights.explain.exhaustion import Exhaustion, RefusedRule
from chameleon_data.weights.explain.movement import weight_ranges

if TYPE_CHECKING:
    from chameleon_data.corpus.clusterings import Clustering
    from chameleon_data.corpus.kept_columns import KeptColumn
    from chameleon_data.corpus.kept_rows import KeptSummary
    from chameleon_data.evaluation.comparison import Comparison, MetricDifference
    from chameleon_data.pipelines.build import Built, Planned
    from chameleon_data.pipelines.weigh import Weighed
    from chameleon_data.versions.checks.balance import Deviation
    from chameleon_data.versions.diff import Change, Difference
    from chameleon_data.versions.gc import Garbage
    from chameleon_data.versions.verify import Verification
    from chameleon_data.views.hub_push import HubPush
    from chameleon_data.views.lake_tables import RegisteredTable
    from chameleon_data.weights.bounds import MovedWeight
    from chameleon_data.weights.mixture import MixtureDescription
    from chameleon_data.weights.weigh import Match

DOTTED_KEY = re.compile(r"(.*)\.(\"(?:[^\"\\]|\\.)*\"|[^.\"]*)", re.DOTALL)
"""A dotted key: the key of its section, and its last part, which stands in quotes where it holds a dot itself."""
BOUNDS_SHOWN = 20
"""Bounds that are listed on the terminal."""
DOMAINS_SHOWN = 200
"""Domains that are listed on the terminal, the largest weights of more. A table of 10,000 takes minutes to lay out."""
NEIGHBOURS_SHOWN = 2
"""Neighbours of a domain that are named on the terminal."""
SOURCES_SHOWN = 12
"""Sources whose input is listed on the terminal."""


# Weights, plan, build, show


def print_clustering(found: Clustering) -> None:
    chosen = set(_choose_shown({cluster.name: cluster.documents for cluster in found.clusters}))
    shown = [cluster for cluster in found.clusters if cluster.name in chosen]
    digits = share_digits(len(found.clusters))
    table = make_table("domain", ">share", "?>documents", "terms", "?nearest")
    for cluster in shown:
        terms = ", ".join(cluster.terms)
        table.add_row(cluster.name, f"{cluster.share:.{digits}f}", f"{cluster.documents:,}", terms, cluster.nearest or "")
    print_table(table)
    for cluster in shown:
        out.print(cluster.name, soft_wrap=True, markup=False, highlight=False)
        for example in cluster.examples:
            print_dim(f"  {example}")
    if len(found.clusters) > len(shown):
        print_dim(f"the {len(shown):,} largest of {len(found.clusters):,} domains; --json prints all")
    print_dim(found.say())


def _choose_shown(sizes: Mapping[str, float]) -> list[str]:
    """The domains that are listed, those of the largest weights or sizes, in their order."""
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:DOMAINS_SHOWN]
    chosen = set(largest)
    return [name for name in sizes if name in chosen]


def _print_rest(domains: int) -> None:
    if domains > DOMAINS_SHOWN:
        print_dim(f"the {DOMAINS_SHOWN:,} largest weights of {domains:,} domains; --json and the report hold the others")


def print_stages(stages: Sequence[Mapping[str, float]], rows: Mapping[str, Sequence[str]], total: Mapping[str, float]) -> None:
    """Shares over the course of the training: a column for each stage, and one for all, with `rows` below. A domain that is
    absent from a stage has no key in it. Nothing where there is one stage."""
    if len(stages) == 1:
        return
    digits = share_digits(len(total))
    table = make_table("domain", *(f">stage {number}" for number in range(1, len(stages) + 1)), ">all")
    for name in _choose_shown(total):
        shares = (f"{stage[name]:.{digits}f}" if name in stage else "absent" for stage in stages)
        table.add_row(name, *shares, f"{total[name]:.{digits}f}")
    for name, cells in rows.items():
        table.add_row(Text(name, style="dim"), *cells)
    print_table(table)


def _describe_move(moved: MovedWeight, domains: int) -> str:
    digits = share_digits(domains)
    return f"{moved.domain}: {moved.before:.{digits}f} to {moved.after:.{digits}f} by its {moved.bound}"


def _print_stage_notes(mixtures: Sequence[MixtureDescription]) -> None:
    """What `print_notes` says of the first stage, of the later ones."""
    for number, about in enumerate(mixtures[1:], 2):
        for m in about.moved[:BOUNDS_SHOWN]:
            print_note(f"stage {number}: {_describe_move(m, len(about.names))}", "bound")
        for warning in about.warnings:
            if warning not in mixtures[0].warnings:
                print_note(f"stage {number}: {warning}")


def _print_weighed_stages(weighed: Weighed) -> None:
    """The weights of each stage, where there are several."""
    weights = [{name: float(weight) for name, weight in stage.mixture.decimals.items()} for stage in weighed.stages]
    budgets = [f"{budget:,}" for budget in (*(stage.budget for stage in weighed.stages), weighed.budget)]
    total = {name: float(weight) for name, weight in weighed.weights.items()}
    print_stages(weights, {f"{name_tokens(weighed.unit)} asked for": budgets}, total)


def print_weights(weighed: Weighed) -> None:
    about, counts = weighed.mixture.description, weighed.selection.counts
    weights = {c.name: float(weighed.mixture.decimals.get(c.name, "0")) for c in counts}
    total = sum(c.tokens for c in counts)
    ranges = _ranges(about)
    by_embedder = [">by embedder"] if ranges else []
    columns = ("domain", ">weight", ">90 % interval", *by_embedder, "?>score", "?>natural", "?>documents")
    table = make_table(*columns, f"?>{name_tokens(weighed.unit)}", "?>quarantined")
    shown, digits = _choose_shown(weights), share_digits(len(weights))
    for c in (count for count in counts if count.name in shown):
        table.add_row(
            c.name,
            f"{weights[c.name]:.{digits}f}",
            format_interval(about.intervals.get(c.name), len(weights)),
            *([format_interval(ranges[c.name], len(weights))] if ranges else []),
            format_decimal(about.scores.get(c.name)),
            f"{c.tokens / total:.{digits}f}",
            f"{c.rows:,}",
            f"{c.tokens:,}",
            f"{weighed.survey.tallies[c.name].quarantined:,}",
        )
    print_table(table)
    _print_rest(len(weights))
    print_outside(weights, about.intervals)
    _print_weighed_stages(weighed)
    print_explanations(about)
    for sentence in (about.evidence, *say_match(about.match)):
        if sentence:
            print_dim(sentence)
    print_notes(about, weighed.reused)
    _print_stage_notes([stage.mixture.description for stage in weighed.stages])
    print_files(weighed.survey.files)
    print_columns(weighed.survey.columns, weighed.survey.filtered, weighed.survey.cut)


def _ranges(about: MixtureDescription) -> dict[str, tuple[float, float]]:
    """Domain -> least and greatest weight by the embedders; empty where there is only one."""
    return weight_ranges(about.unbounded, about.other_embedders) if about.other_embedders else {}


def print_plan(planned: Planned, cost: Mapping[str, Any]) -> None:
    about, summary, budget = planned.weighed.mixture.description, planned.summary, planned.weighed.budget
    domains = summary.domains
    weights, several = {name: float(planned.weighed.weights[name]) for name in domains}, len(summary.stages) > 1
    packed = planned.layouts[0][0].plan.packing is not None
    rows_are = "sequences" if packed else "documents"
    tokens = name_tokens(planned.weighed.unit)
    ranges = {} if several else _ranges(about)
    intervals = {} if several else about.intervals
    by_embedder = ["?>by embedder"] if ranges else []
    table = make_table("domain", ">weight", "?>90 % interval", *by_embedder, "?>quota", f">{tokens}", f"?>{rows_are}", ">epochs")
    for name in _choose_shown(weights):
        d = domains[name]
        counts = (f"{d.target_tokens:,}", f"{d.tokens:,}", f"{d.rows:,}", f"{d.epochs:.2f}")
        moved = [format_interval(ranges[name], len(weights))] if ranges else []
        interval = format_interval(intervals.get(name), len(weights))
        table.add_row(name, f"{weights[name]:.{share_digits(len(weights))}f}", interval, *moved, *counts)
    print_table(table)
    _print_rest(len(weights))
    print_outside(weights, intervals)
    print_stages(
        [{name: share.tokens / stage.tokens for name, share in stage.domains.items()} for stage in summary.stages],
        {
            tokens: [f"{held:,}" for held in (*(stage.tokens for stage in summary.stages), summary.tokens)],
            "shards": [f"{shards:,}" for shards in (*(stage.shards for stage in summary.stages), summary.shard_counts["train"])],
        },
        {name: domain.tokens / summary.tokens for name, domain in domains.items()},
    )
    print_exhausted(planned.exhausted)
    print_notes(about, planned.weighed.reused)
    _print_stage_notes([stage.mixture.description for stage in planned.weighed.stages])
    print_files(planned.weighed.survey.files)
    print_columns(planned.weighed.survey.columns, planned.weighed.survey.filtered, planned.weighed.survey.cut)
    for warning in summary.warnings:
        print_note(warning)
    _print_not_kept(planned.kept)
    print_cost(cost, planned.cpus)
    shards = summary.shard_counts["train"]
    each = summary.bytes // sum(summary.shard_counts.values())
    largest = "one sequence" if packed else "the largest document"
    rows = [
        ("quota", f"weight × budget, in {tokens}; {rows_are} are written whole, which changes it by at most {largest}"),
        (tokens, f"{summary.tokens:,} of {budget:,} asked for"),
        ("shards", f"{shards:,}, of about {each:,} bytes{' each' if shards > 1 else ''} before compression"),
        *([("kept", _describe_kept(planned.kept))] if planned.kept.parts else []),
        ("plan", summary.plan_digest),
    ]
    if planned.stages_there:
        rows.append(("written", planned.stages_there))
    print_pairs(rows)


def print_cost(cost: Mapping[str, Any], cpus: float) -> None:
    """What each pass of a build costs that finds nothing of an earlier one."""
    table = make_table(
        "pass", ">expected", ">CPU hours", "?>GPU hours", "?>read", "?>moved", ">written", "?>requests", f">{cost['currency']}"
    )
    for one in [*cost["passes"], {"name": "all", **cost["total"]}]:
        amounts = (format_amount(one[what], "bytes") if one[what] else "" for what in ("read", "moved", "written"))
        requests, gpu_hours = one["read_requests"] + one["write_requests"], one["gpu_hours"]
        table.add_row(
            one["name"], format_seconds(one["seconds"]), f"{one['cpu_hours']:,.3f}", f"{gpu_hours:,.3f}" if gpu_hours else "",
            *amounts, f"{requests:,}" if requests else "", f"{one['money']:,.4f}",
        )  # fmt: skip
    out.print()
    print_table(table)
    for one in cost["passes"]:
        if one["doubt"]:
            print_note(f"{one['name']}: {one['doubt']}")
    month = f"keeping what is written: {cost['month']:,.4f} a month"
    print_dim(f"on {cpus:g} CPUs, where nothing was done before; rates: {cost['rates']}; {month}")
    out.print()


def _describe_kept(kept: KeptSummary) -> str:
    whose = "the corpus" if kept.parts == kept.parts_in_all else f"{kept.parts:,} of {kept.parts_in_all:,} parts of the corpus"
    return f"{kept.bytes:,} bytes: the rows of {whose}, which a build then does not read again"


def _print_not_kept(kept: KeptSummary) -> None:
    if kept.reason:
        print_note(f"the corpus is read twice, as its rows are not kept: {kept.reason}")


def print_build(built: Built) -> None:
    manifest, recipe, number = built.manifest, built.manifest.recipe, built.version.number
    print_mixture(manifest)
    print_notes(manifest.weights, manifest.reused if built.new else {})
    _print_stage_notes([stage.weights or manifest.weights for stage in manifest.stages])
    print_files(manifest.provenance.files)
    print_columns(manifest.columns, manifest.filtered, manifest.cut)
    if built.written:
        _print_not_kept(built.kept)
    if built.beside:
        out.print(f"another build of the same plan ran at the same time and made v{number}, which is this build", soft_wrap=True)
    elif not built.new:
        done = f"{count_noun(built.written, 'missing shard')} written again" if built.written else "nothing to do"
        out.print(f"{done}: v{number} is already this build", soft_wrap=True)
    rows = [
        ("version", f"v{number}"),
        ("digest", manifest.digest),
        ("content", manifest.content_digest),
        *(("folder", f"{recipe.out}/{build}") for build in manifest.builds),
        ("catalogue", f"{recipe.out}/{CATALOGUE}"),
        ("shards", f"{manifest.shard_count:,} in each of {', '.join(f'{name}/' for name in recipe.shards.formats)}"),
    ]
    if kept := built.kept.bytes:
        rows.append(("kept", f"{kept:,} bytes of rows for the next mixture, until gc --caches removes them"))
    if held_out := manifest.validation.values():
        held_rows, held_tokens = sum(d.rows for d in held_out), sum(d.tokens for d in held_out)
        rows.append(("validation", f"{held_rows:,} rows, {held_tokens:,} {name_tokens(manifest.unit)}"))
    if built.new:
        rows.append(("seconds", ", ".join(f"{name} {manifest.timings[name]:.1f}" for name in TIMED_PASSES)))
    print_pairs([*rows, ("next", f"chameleon-data verify {recipe.out}@v{number}")])


def print_version(manifest: Manifest, version: Version) -> None:
    print_mixture(manifest)
    rows = [
        ("version", f"v{version.number}, {version.created}"),
        ("digest", manifest.digest),
        ("content", manifest.content_digest),
        ("plan", manifest.plan_digest),
        *(("folder", build) for build in manifest.builds),
        ("shards", f"{manifest.shard_count:,}"),
        ("seed", str(manifest.seed)),
        ("tokens are", manifest.unit),
    ]
    print_pairs([*rows, *provenance_rows(manifest)])
    print_files(manifest.provenance.files)
    print_columns(manifest.columns, manifest.filtered, manifest.cut)


def print_mixture(manifest: Manifest) -> None:
    domains = manifest.domains
    available, written = sum(d.available_tokens for d in domains.values()), sum(d.tokens for d in domains.values())
    rows_are = "?>documents" if manifest.recipe.shards.sequence_length == "none" else "?>sequences"
    ranges = _ranges(manifest.weights) if len(manifest.stages) == 1 else {}
    by_embedder = ["?>by embedder"] if ranges else []
    columns = ("domain", ">weight", "?>90 % interval", *by_embedder, "?>natural", f">{name_tokens(manifest.unit)}", "?>written")
    table = make_table(*columns, rows_are, "?>epochs", "?>quarantined")
    digits = share_digits(len(domains))
    for name in _choose_shown({name: d.weight for name, d in domains.items()}):
        d = domains[name]
        moved = [format_interval(ranges[name], len(domains))] if ranges else []
        interval, natural = format_interval(d.weight_interval, len(domains)), f"{d.available_tokens / available:.{digits}f}"
        table.add_row(
            name, f"{d.weight:.{digits}f}", interval, *moved, natural, f"{d.tokens:,}", f"{d.tokens / written:.{digits}f}",
            f"{d.rows:,}", f"{d.epochs:.2f}", f"{d.quarantined:,}",
        )  # fmt: skip
    print_table(table)
    _print_rest(len(domains))
    print_outside({n: d.weight for n, d in domains.items()}, {n: d.weight_interval for n, d in domains.items()})
    held = [sum(d.tokens for d in stage.domains.values()) for stage in manifest.stages]
    print_stages(
        [{n: d.tokens / total for n, d in stage.domains.items()} for stage, total in zip(manifest.stages, held, strict=True)],
        {
            name_tokens(manifest.unit): [f"{tokens:,}" for tokens in (*held, written)],
            "shards": [f"{shards:,}" for shards in (*(stage.shards for stage in manifest.stages), manifest.shard_count)],
        },
        {n: d.tokens / written for n, d in domains.items()},
    )


def print_outside(weights: Mapping[str, float], intervals: Mapping[str, tuple[float, float] | None]) -> None:
    """Name the weights that lie outside their own intervals. An interval surrounds the weight before bounds, so only these can
    move a weight out of it."""
    outside = [n for n, w in weights.items() if (ends := intervals.get(n)) and not ends[0] <= w <= ends[1]]
    if outside:
        print_dim(f"intervals are for the weights before bounds, which moved out of theirs: {list_some(outside)}")


def print_notes(about: MixtureDescription, reused: Mapping[str, str]) -> None:
    """How far the weights are from their centre, what was reused, which bounds moved a weight, and warnings."""
    if about.centre and about.kl is not None:
        print_dim(f"centre {about.centre.name}: {about.kl:.4f} nats from it before bounds, {about.kl_after_bounds:.4f} after")
    for group in about.merged:
        print_note(f"scored as one, and the weight split by tokens: {list_some(group)}", "merged")
    for sentence in reused.values():
        print_dim(sentence)
    for m in about.moved[:BOUNDS_SHOWN]:
        print_note(_describe_move(m, len(about.names)), "bound")
    if len(about.moved) > BOUNDS_SHOWN:
        print_note(f"and {len(about.moved) - BOUNDS_SHOWN:,} more; --json and the report list them", "bound")
    for warning in (*about.warnings, *about.near_duplicates):
        print_note(warning)


def say_match(match: Match | None) -> list[str]:
    """How near the weights come to a target's samples, in a sentence."""
    if match is None:
        return []
    share = match.from_weights / match.from_centre if match.from_centre > 0 else 1.0
    return [
        f"{match.samples:,} samples of the target: the weights leave {max(share, 0):.0%} of its squared distance from the centre"
    ]


def print_files(files: Mapping[str, SourceFiles]) -> None:
    """What was left out of the sources, and which mix formats."""
    for sentence in describe_files(files):
        print_note(sentence)


def print_columns(columns: Mapping[str, KeptColumn], filtered: Mapping[str, Mapping[str, int]], cut: Mapping[str, int]) -> None:
    """The types of kept columns, where they are missing, what is left out by which rule, and which conversations are cut."""
    if columns:
        print_dim(f"kept columns: {', '.join(f'{name} ({column.kind})' for name, column in columns.items())}")
    for name, column in columns.items():
        for source, rows in column.missing.items():
            print_note(f"{name} is missing in {count_noun(rows, 'row')} of {source}", "column")
    left_out: Counter[str] = Counter()
    for counts in filtered.values():
        left_out.update(counts)
    for condition, rows in sorted(left_out.items()):
        print_note(f"{count_noun(rows, 'row')} left out by: {condition}", "where")
    for name, rows in cut.items():
        print_note(f"{count_noun(rows, 'conversation')} of {name} longer than a sequence, and cut", "overlong")


def print_explanations(about: MixtureDescription) -> None:
    """Other mixtures beside this one, and the neighbours that lower each domain's leverage most."""
    beside, neighbours = about.mixtures or {}, about.neighbours or {}
    table = make_table("domain", *(f">{Path(name).name}" for name in beside), "leverage lowered most by")
    digits = share_digits(len(about.names))
    for domain in _choose_shown({name: about.unbounded.get(name, 0.0) for name in about.names}):
        lowered = ", ".join(f"{n.domain} ({n.lowers:.0%})" for n in neighbours.get(domain, ())[:NEIGHBOURS_SHOWN])
        table.add_row(domain, *(f"{mixture[domain]:.{digits}f}" for mixture in beside.values()), lowered)
    out.print()
    print_table(table)


def print_exhausted(compared: Exhaustion) -> None:
    """What each choice of `mix.exhausted` would do; nothing where it makes no difference."""
    done = {rule: found for rule, found in compared.items() if not isinstance(found, RefusedRule)}
    first = next(iter(done.values()), {})
    if len(done) == len(compared) and all(found == first for found in done.values()):
        return
    out.print()
    table = make_table("mix.exhausted", *(f">{rule}" for rule in done))
    for domain in _choose_shown({name: share.weight for name, share in first.items()}):
        shares = (found[domain] for found in done.values())
        table.add_row(domain, *(f"{share.target_tokens:,} ({share.epochs:.2f} epochs)" for share in shares))
    print_table(table)
    _print_rest(len(first))
    for rule, found in compared.items():
        if isinstance(found, RefusedRule):
            out.print(Text(f"{rule} would refuse:", style="dim"), found.refused, soft_wrap=True)


def provenance_rows(manifest: Manifest) -> list[tuple[str, str]]:
    from chameleon_data.versions.provenance import describe_lineage

    found = describe_lineage(manifest)
    rows = [("input", f"{name}: {count_noun(i.files, 'file')}, {i.bytes:,} bytes, {i.fingerprint[:12]}…")
            for name, i in manifest.provenance.inputs.items()]  # fmt: skip
    if len(rows) > SOURCES_SHOWN + 1:
        rows = [*rows[:SOURCES_SHOWN], ("", f"and {len(rows) - SOURCES_SHOWN:,} sources more")]
    facts = {
        "tokenizer": format_facts(found["tokenizer"]),
        "embedder": format_facts(found["embedder"]), "weights": format_facts(found["weights"]), "landmarks": found["landmarks"],
        "code": format_facts(found["code"]), "packages": format_facts({"python": found["python"], **found["packages"]}),
    }  # fmt: skip
    return rows + [(key, value) for key, value in facts.items() if value]


# Versions, tags, gc, export


@dataclass(frozen=True)
class ListedVersion:
    """A line of `versions`. A deleted version has no name, tokens and domains: its manifest may be gone."""

    version: str
    created: str | None
    name: str | None
    tokens: int | None
    unit: str | None
    """What a token is: bytes, or the tokenizer's name."""
    domains: int | None
    digest: str
    tags: list[str]
    deleted: str | None
    """When it was deleted."""


@dataclass(frozen=True)
class ListedTag:
    """A line of `tags`."""

    tag: str
    generation: int
    version: str
    created: str | None
    deleted: bool
    """Whether the version was deleted."""
    current: bool
    """Whether the tag points there now."""


def print_versions(listed: list[ListedVersion], target: str, any_deleted: bool) -> None:
    if not listed:
        none = "every version was deleted; --deleted lists them" if any_deleted else NO_VERSION_YET
        out.print(f"{target}: {none}", soft_wrap=True)
        return
    table = make_table("version", "tags", "?created", "name", ">size", "?>domains", "?digest")
    for v in listed:
        facts = (f"deleted {v.deleted}", "", "")
        if v.deleted is None:
            facts = (str(v.name), f"{v.tokens:,} {name_tokens(str(v.unit))}", f"{v.domains:,}")
        table.add_row(v.version, ", ".join(v.tags), v.created, *facts, v.digest[:16])
    print_table(table)


def print_tags(listed: list[ListedTag], target: str, history: bool) -> None:
    """`history`: the lines are one tag's, so that the one that counts is marked."""
    table = make_table("tag", "?>generation", "version", "?tagged", *([""] if history else []))
    for t in listed:
        marked = ["← current" if t.current else ""] if history else []
        table.add_row(t.tag, str(t.generation), t.version + (" (deleted)" if t.deleted else ""), t.created, *marked)
    if listed:
        print_table(table)
    else:
        out.print(f"{target} holds no tag", soft_wrap=True)


def print_garbage(found: Garbage, removed: bool, url: str) -> None:
    table = make_table("what", "where", ">files", ">bytes")
    for (kind, folder), (count, size) in found.groups().items():
        table.add_row(kind, folder, f"{count:,}", f"{size:,}")
    if found.uploads:
        table.add_row("uploads", "", f"{len(found.uploads):,}", "")
    if found.files or found.uploads:
        print_table(table)
    total = f"{count_noun(len(found.files), 'file')}, {found.bytes:,} bytes"
    out.print(f"{total} removed" if removed else f"{total} could be removed; --delete does it")
    for driver in found.drivers:
        who = f"process {driver.record.pid} on {driver.record.host} was at work {format_duration(driver.age)} ago"
        print_note(f"{who}; these stay: {', '.join(driver.spares())}")
    if found.drivers:
        print_note(f"if none of them is at work any more: chameleon-data gc {url} --older-than 0")


def describe_garbage(found: Garbage, removed: bool) -> dict[str, Any]:
    files = [{"path": path, "kind": kind, "bytes": size} for path, (kind, size) in found.files.items()]
    uploads = [{"path": upload.path, "id": upload.id} for upload in found.uploads]
    at_work = [
        {"record": driver.path, "host": driver.record.host, "pid": driver.record.pid, "age_seconds": round(driver.age),
         "spares": driver.spares()} for driver in found.drivers
    ]  # fmt: skip
    return {"removed": removed, "bytes": found.bytes, "files": files, "uploads": uploads, "at_work": at_work}


def print_pushed(pushed: HubPush) -> None:
    if not pushed.files:
        out.print(f"nothing to do: {pushed.tag} of {pushed.dataset} is already this version", soft_wrap=True)
    rows = [("dataset", pushed.url), ("commit", pushed.commit), ("tag", pushed.tag), ("files", f"{pushed.files:,} sent")]
    print_pairs([*rows, ("read by", f"hf://datasets/{pushed.dataset}@{pushed.tag}/parquet/train-*.parquet")])


def print_registered(registered: RegisteredTable, form: str, number: int) -> None:
    rows = [
        ("table", registered.table),
        ("version", f"v{number}" + ("" if registered.new else "  (was there already; nothing was written)")),
        ("delta version" if form == "delta" else "snapshot", str(registered.state)),
        ("rows", f"{registered.rows:,} in {count_noun(registered.files, 'file')}, registered where they lie"),
    ]
    if form == "delta" and registered.absolute:
        rows.append(("note", "absolute paths: deltalake's queries follow them, polars and to_pyarrow_table do not"))
    elif form == "delta" and not registered.plain:
        rows.append(("note", "deltalake and pyarrow read it; polars 2.1 finds no files below a folder with such a name"))
    print_pairs(rows)


# Evaluate


def print_comparison(found: Comparison, figures: Sequence[str] = ()) -> None:
    """A row for each mixture: its bits per byte, and how far they are from those of uniform."""
    from chameleon_data.evaluation.comparison import metrics_of
    from chameleon_data.evaluation.pool import KEPT_SHARE

    metrics = metrics_of(found)
    table = make_table("mixture", f">bits per byte, {metrics[0]}", *(f">{metric}" for metric in metrics))
    for one in found.mixtures:
        cells = [_format_difference(one.differences.get(metric)) for metric in metrics]
        table.add_row(one.name, f"{one.means[metrics[0]]:.4f}", *cells)
    print_table(table)
    print_dim("differences from uniform in held-out bits per byte, below zero is better; " + _explain_spread(found))
    for one in found.mixtures:
        for verdict in ("better", "worse", "no difference", "open"):
            these = [_name_metric(m, d) for m, d in one.differences.items() if d.verdict == verdict]
            if these:
                out.print(f"{one.name}: {verdict}", Text(f"on {', '.join(these)}", style="dim"), soft_wrap=True)
    for one in found.mixtures:
        if one.chosen:
            print_note(f"{one.name!r} was chosen by the text that it is judged by: a bound, no result")
    how = f"{found.tokens:,} tokens" + (f", {found.parameters:,} parameters" if found.parameters else " of each domain at most")
    scratch = "" if found.parameters is None else f", {found.branch} in common" if found.branch else ", from scratch"
    rows = [
        ("version", f"v{found.version}"),
        ("judge", f"{found.judge}, {how}{scratch}"),
        ("fixed before", f"a band of ±{found.band:g}, {count_noun(found.seeds, 'seed')}: plan {found.plan[:16]}"),
    ]
    if found.held_out == "kept":
        rows.append(
            ("held out", f"{KEPT_SHARE:.0%} of the documents, kept from every trial, as the version has no validation split")
        )
    if found.unseen:
        rows.append(("unseen", list_some(found.unseen)))
    rows += [("figure", figure) for figure in figures]
    print_pairs(rows)


def _explain_spread(found: Comparison) -> str:
    if found.seeds > 1:
        return f"± is the standard error over {found.seeds} seeds (unseen domains left out in turn: over domains)"
    return (
        "± is half of the 95 % interval over held-out documents; unseen domains left out in turn: the standard error over domains"
    )


def _format_difference(found: MetricDifference | None) -> str:
    if found is None:
        return ""
    half = found.error if found.error is not None else (found.documents[1] - found.documents[0]) / 2 if found.documents else 0.0
    return f"{found.mean:+.4f} ± {half:.4f}".replace("-", "−")


def _name_metric(metric: str, found: MetricDifference) -> str:
    adjusted = found.p if found.p_holm is None else found.p_holm
    p = "" if adjusted is None or found.verdict in ("open", "no difference") else f" (p {adjusted:.2g})"
    what = "domains" if found.over == "domains" else "seeds"
    needed = f" ({found.needed:,} {what} would settle it)" if found.verdict == "open" and found.needed else ""
    return metric + p + needed


# Diff


def print_difference(found: Difference, units: tuple[str, str]) -> None:
    """`units` are those of the two manifests."""
    sizes = " → ".join(dict.fromkeys(map(name_tokens, units)))
    columns = ("domain", ">weight", f"?>{sizes}", "?>epochs", ">rows kept", ">added", ">removed", "?>documents new", "?>gone")
    domains = make_table(*columns)
    documents = {(d.split, d.domain): d for d in found.documents}
    splits, form = sorted({split for split, _ in documents} - {"train"}), f".{share_digits(len(found.domains))}f"
    shown = _choose_shown({name: max(weight or 0.0 for weight in facts["weight"]) for name, facts in found.domains.items()})
    for split in ("train", *splits):
        for name, facts in ((name, found.domains[name]) for name in shown):
            d = documents.get((split, name))
            counts = [f"{n:,}" for n in (d.kept, d.added, d.removed, d.new, d.gone)] if d else ["0"] * 5
            if split == "train":
                forms = {"weight": form, "tokens": ",", "epochs": ".2f"}
                domains.add_row(name, *(format_change(facts[key], form) for key, form in forms.items()), *counts)
            elif d:
                domains.add_row(f"{name} ({split})", "", "", "", *counts)
    print_table(domains)
    _print_rest(len(found.domains))
    if len(found.stages) > 1:
        table = make_table("domain", *(f">weight, stage {number}" for number in range(1, len(found.stages) + 1)))
        for name in shown:
            table.add_row(name, *(format_change(stage.get(name, [None, None]), form) for stage in found.stages))
        print_table(table)
    s = found.shards
    shared = f"{s.shared:,} the same, byte for byte ({s.shared_bytes:,} bytes)" if s.shared else "none the same"
    moved = {source: {k: n for k, n in vars(counts).items() if k != "same" and n} for source, counts in found.inputs.items()}
    sections = {
        "shards": [f"{s.before:,} → {s.after:,}, {shared}"],
        "recipe": format_changes(found.recipe),
        "lineage": format_changes(found.lineage),
        "inputs": [
            f"{source}: " + ", ".join(f"{count_noun(n, 'fragment')} {kind}" for kind, n in counts.items())
            for source, counts in moved.items()
            if counts
        ],
    }
    for title, lines in sections.items():
        first, *others = lines or ["the same"]
        print_pairs([(title, first), *(("", line) for line in others)])


def format_changes(changes: Mapping[str, Change]) -> list[str]:
    """A line for each key, or for each section of which one side has no key."""
    sections: dict[str, dict[str, Change]] = {}
    for key, change in changes.items():
        match = DOTTED_KEY.fullmatch(key)
        sections.setdefault(match[1] if match else key, {})[key] = change
    lines = []
    for section, keys in sections.items():
        lacking = [all(change[side] is None for change in keys.values()) for side in (0, 1)]
        if len(keys) > 1 and any(lacking):
            sides = ({key.removeprefix(f"{section}."): change[side] for key, change in keys.items()} for side in (0, 1))
            before, after = ("–" if none else format_facts(values) for none, values in zip(lacking, sides, strict=True))
            lines.append(f"{section}: {before} → {after}")
        else:
            lines += [f"{key}: {format_change(change)}" for key, change in keys.items()]
    return lines


def format_change(change: Change, form: str = "") -> str:
    before, after = (format(value, form) if form and value is not None else format_value(value) for value in change)
    return before if before == after else f"{before} → {after}"


# Verify


def print_verification(found: Verification, number: int, unit: str, again: Mapping[str, int] | None) -> None:
    """`unit` is the manifest's; `again`: how many domains and rows of the corpus were read again and agree."""
    out.print(f"v{number}: {count_noun(found.rows, 'row')}, {count_noun(found.files, 'file')}, {found.bytes:,} bytes read")
    for name, worst in (("in the whole", found.whole), ("in a shard", found.shard), ("in a prefix", found.prefix)):
        distance = f"{worst.tokens:>10,.1f} {name_tokens(unit)} off its share, {worst.share:.3f} of its bound"
        out.print(f"  worst {name:<13} {distance} ({worst.domain}, {worst.where})", soft_wrap=True)
    if again:
        counts = f"{count_noun(again['domains'], 'domain')} read again, {count_noun(again['rows'], 'row')}"
        out.print(f"  corpus              {counts}: the books and the plan agree", soft_wrap=True)
    for problem in found.problems:
        out.print(Text("✗", style="red"), problem, soft_wrap=True)
    if found.ok:
        out.print(Text("✓", style="green"), "every check holds")
    else:
        out.print(Text(f"{count_noun(found.total, 'check')} failed", style="red"))
        advice = "missing or damaged files: restore them from a copy, or remove them and build again from the same corpus"
        out.print(advice, soft_wrap=True)


def describe_verification(found: Verification, number: int, again: Mapping[str, int] | None) -> dict[str, Any]:
    def describe(worst: Deviation) -> dict[str, Any]:
        return {"domain": worst.domain, "where": worst.where, "tokens": worst.tokens, "bound": worst.bound}

    return {
        "version": f"v{number}", "ok": found.ok, "problems": list(found.problems), "total": found.total,
        "files": found.files, "rows": found.rows,
        "bytes": found.bytes, "corpus": again, "whole": describe(found.whole), "shard": describe(found.shard),
        "prefix": describe(found.prefix),
    }  # fmt: skip
