"""The command `chameleon-data`: arguments in, one clear answer out.

Exit 0: done; 1: a check failed; 2: bad recipe, bad input or bad usage, in one message; 70: a defect of ours, with a
traceback; 130: interrupted. Answers go to stdout, progress and messages to stderr. With --json stdout is one JSON document,
{"error": ...} where there is no answer.
"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typer.exceptions import TyperException

from chameleon_data.errors import InputError, printable
from chameleon_data.recipe import load_recipe
from chameleon_data.storage import Store, told
from chameleon_data.versions import (
    ROOT,
    delete_version,
    list_deleted,
    list_tags,
    list_versions,
    load_manifest,
    resolve,
    split_target,
    tag_history,
    tag_version,
)

if TYPE_CHECKING:
    from chameleon_data.difference import Change, Difference
    from chameleon_data.pointers import Blend
    from chameleon_data.verify import Verification
    from pipelines.build import Planned
    from pipelines.weigh import Weighed

app = typer.Typer(
    help="Raw text corpora in, an exact, versioned, pre-mixed training set out.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
WIDE = None if sys.stdout.isatty() else 140  # a log file has no width


class Printable(Console):
    """Names and paths may look like markup ([/b], :x:), or hold what a terminal obeys: that is shown as \\x1b, not sent."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(printable(text), **how)


out = Printable(highlight=False, markup=False, emoji=False, width=WIDE)
err = Printable(highlight=False, markup=False, emoji=False, stderr=True)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
Target = Annotated[str, typer.Argument(metavar="OUT[@V]", help="A recipe's `out`; @v12, @12, @TAG or @latest names the version.")]
Out = Annotated[str, typer.Argument(metavar="OUT", help="A recipe's `out`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Address = Annotated[str | None, typer.Option(metavar="ADDRESS", help="A running Ray cluster; without it a local one is started.")]
OpenCluster = Annotated[bool, typer.Option("--open-cluster", help="Join a cluster that asks for no token.")]
Workers = Annotated[int | None, typer.Option(min=1, metavar="N", help="CPUs of the local cluster; all of them by default.")]
SingleWriter = Annotated[
    bool, typer.Option("--single-writer", help="Nothing else writes to `out` now: a store without conditional writes will do.")
]

Form = Literal["delta", "iceberg", "mosaicml", "megatron", "olmo", "datasets"]
RECIPES = (".yaml", ".yml")
TABLES, TRAINERS = ("delta", "iceberg"), ("mosaicml", "megatron", "olmo", "datasets")

UNPRINTED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is and a terminal may obey: other control characters, and those that turn the direction of writing."""
SILENT = 2.0
"""Seconds."""
TIMED = ("survey", "embed and weigh", "plan", "write")
PASSES = {
    "survey": "survey the corpus",
    "embed": "embed the samples",
    "read": "read and sort",
    "write": "write shards",
    "verify": "verify",
    "compare": "compare documents",
    "remove": "remove files",
}


@contextmanager
def narrated() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of the passes: bars in a terminal, a line at the start, the end and every ten seconds elsewhere."""
    if err.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err) as bars:
            tasks: dict[str, TaskID] = {}

            def draw(name: str, done: int, total: int) -> None:
                if name not in tasks:
                    tasks[name] = bars.add_task(PASSES[name], total=total)
                bars.update(tasks[name], completed=done, total=total)

            yield draw
        return
    started: dict[str, float] = {}
    spoken: dict[str, float] = {}

    def say(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if name not in started or done == total or now - spoken[name] > 10:
            seconds = now - started.setdefault(name, now)
            spoken[name] = now
            err.print(f"{PASSES[name]}: {done:,} of {total:,} ({seconds:.1f} s)")

    yield say


@app.command()
def weights(
    recipe: RecipeFile,
    json: AsJson = False,
    address: Address = None,
    open_cluster: OpenCluster = False,
    workers: Workers = None,
    single_writer: SingleWriter = False,
) -> None:
    """Survey the corpus, embed samples and compute the weights; writes only caches."""
    from pipelines.build import weigh_recipe
    from pipelines.cluster import cluster

    wanted = load_recipe(recipe)
    with narrated() as progress, cluster(address, workers, open_cluster):
        weighed = weigh_recipe(wanted, progress, single_writer)
    if json:
        _print_json(weighed.describe())
    else:
        out.print(_weights_table(weighed))
        _print_explanations(weighed.mixture.description)
        _print_notes(weighed.mixture.description, weighed.reused)


@app.command()
def plan(
    recipe: RecipeFile,
    json: AsJson = False,
    address: Address = None,
    open_cluster: OpenCluster = False,
    workers: Workers = None,
    single_writer: SingleWriter = False,
) -> None:
    """The same, and the plan: tokens, epochs, shards and bytes; writes no shard."""
    from pipelines.build import plan_recipe
    from pipelines.cluster import cluster

    wanted = load_recipe(recipe)
    with narrated() as progress, cluster(address, workers, open_cluster):
        planned = plan_recipe(wanted, progress, single_writer)
    if json:
        _print_json(planned.describe())
    else:
        _print_plan(planned)


@app.command()
def build(
    recipe: RecipeFile,
    json: AsJson = False,
    address: Address = None,
    open_cluster: OpenCluster = False,
    workers: Workers = None,
    single_writer: SingleWriter = False,
) -> None:
    """Everything: shards, manifest and a new version. The same command goes on where a killed one stopped."""
    from pipelines.build import build_recipe
    from pipelines.cluster import cluster

    wanted = load_recipe(recipe)
    with narrated() as progress, cluster(address, workers, open_cluster):
        built = build_recipe(wanted, progress, _now(), single_writer)
    manifest, number = built.manifest, built.version.number
    if json:
        _print_json({"version": f"v{number}", **manifest})
        return
    out.print(_mixture_table(manifest))
    _print_notes(manifest["weights"], manifest["reused"])
    folder = f"{wanted.out}/{manifest['build']}"
    held = manifest["validation"].values()
    rows = [
        ("version", f"v{number}" + ("" if built.new else "  (was there already: the same plan and bytes)")),
        ("digest", manifest["digest"]),
        ("content", manifest["content_digest"]),
        *((f"{f} shards", f"{folder}/{f}") for f in wanted.shards.formats),
        *[("validation", f"{sum(d['rows'] for d in held):,} rows, {sum(d['tokens'] for d in held):,} tokens") for _ in held][:1],
        ("seconds", ", ".join(f"{name} {manifest['timings'][name]:.1f}" for name in TIMED)),
        ("next", f"chameleon-data verify {wanted.out}@v{number}"),
    ]
    _print_pairs(rows)


def patient(progress: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
    """Progress of one pass that is silent at first: most answers are there by then."""
    start = time.monotonic()

    def tell(done: int, total: int) -> None:
        if time.monotonic() - start > SILENT:
            progress(name, done, total)

    return tell


@app.command()
def versions(
    target: Out,
    deleted: Annotated[bool, typer.Option("--deleted", help="List the deleted ones too.")] = False,
    json: AsJson = False,
) -> None:
    """List the versions, with their tags."""
    store = Store(target)
    found = list_versions(store)
    tags: dict[int, list[str]] = {}
    for name, tagging in list_tags(store).items():
        tags.setdefault(tagging.version, []).append(name)
    rows = []
    for version in found:
        manifest = load_manifest(store, version)
        tokens = sum(d["tokens"] for d in manifest["domains"].values())
        rows.append({"version": f"v{version.number}", "created": version.created, "name": manifest["name"], "tokens": tokens,
                     "domains": len(manifest["domains"]), "digest": version.digest,
                     "tags": tags.get(version.number, [])})  # fmt: skip
    if deleted:
        rows += [{"version": f"v{version.number}", "created": version.created, "digest": version.digest, "deleted": when,
                  "tags": tags.get(version.number, [])} for version, when in list_deleted(store).items()]  # fmt: skip
        rows.sort(key=lambda row: int(row["version"][1:]))
    if not rows and not store.exists(f"{ROOT}/format.json"):
        raise InputError(f"{store.url}: no dataset is there; correct the folder, or make one with `chameleon-data build`")
    if json:
        _print_json(rows)
        return
    if not rows:
        out.print(f"{target} holds no version yet")
        return
    table = _table("version", "tags", "created", "name", ">tokens", ">domains", "digest")
    for row in rows:
        if "deleted" in row:
            held = (f"deleted {row['deleted']}", "", "")
        else:
            held = (row["name"], f"{row['tokens']:,}", f"{row['domains']:,}")
        table.add_row(row["version"], ", ".join(row["tags"]), row["created"], *held, row["digest"][:16])
    out.print(table)


@app.command()
def show(target: Target, json: AsJson = False) -> None:
    """The manifest of a version."""
    _, manifest, number, created = _open(target)
    if json:
        _print_json({"version": f"v{number}", "created": created, **manifest})
        return
    out.print(_mixture_table(manifest))
    rows = [("version", f"v{number}, {created}"), ("digest", manifest["digest"]), ("content", manifest["content_digest"]),
            ("plan", manifest["plan_digest"]), ("folder", manifest["build"]), ("shards", f"{manifest['shard_count']:,}"),
            ("seed", str(manifest["seed"])), ("tokens are", manifest["unit"]), *_lineage_rows(manifest)]  # fmt: skip
    _print_pairs(rows)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="OUT@A")],
    after: Annotated[str, typer.Argument(metavar="OUT@B")],
    json: AsJson = False,
) -> None:
    """What changed between two versions, of one dataset or of two: recipe, mixture, documents, shards, lineage."""
    from chameleon_data.difference import compare

    (first, a, m, _), (second, b, n, _) = _open(before), _open(after)
    with narrated() as progress:
        found = compare((first, a), (second, b), patient(progress, "compare"))
    if json:
        _print_json({"before": f"{first.url}@v{m}", "after": f"{second.url}@v{n}", **found.describe()})
    else:
        out.print(f"{first.url}@v{m} → {second.url}@v{n}", soft_wrap=True)
        _print_difference(found)


@app.command()
def verify(
    target: Target,
    corpus: Annotated[bool, typer.Option("--corpus", help="Read the corpus again too, and compare.")] = False,
    json: AsJson = False,
    address: Address = None,
    open_cluster: OpenCluster = False,
    workers: Workers = None,
) -> None:
    """Prove a version from its stored bytes: files, order, bounds, epochs, books."""
    from chameleon_data.verify import verify as prove

    store, manifest, number, _ = _open(target)
    against, expected = list[str](), None
    with narrated() as progress:
        if corpus:
            from pipelines.cluster import cluster
            from pipelines.verify import survey_again

            with cluster(address, workers, open_cluster):
                against, expected = survey_again(store, manifest, progress)
        found = prove(store, manifest, lambda done, total: progress("verify", done, total), expected)
    found = replace(found, problems=(*against, *found.problems))
    if json:
        _print_json(
            {
                "version": f"v{number}",
                "ok": found.ok,
                "problems": list(found.problems),
                "files": found.files,
                "rows": found.rows,
                "bytes": found.bytes,
                **{k: _worst(getattr(found, k)) for k in ("whole", "shard", "prefix")},
            }
        )
    else:
        _print_verification(number, found)
    raise typer.Exit(0 if found.ok else 1)


@app.command()
def tag(target: Annotated[str, typer.Argument(metavar="OUT@V")], name: str, json: AsJson = False) -> None:
    """Give a version a name; the name can move later, its history stays."""
    store, _, number, _ = _open(target)
    tag_version(store, resolve(store, f"v{number}"), name, _now())
    if json:
        _print_json({"version": f"v{number}", "tag": name})
    else:
        out.print(f"{name} is now v{number}")


@app.command()
def tags(target: Out, name: Annotated[str | None, typer.Argument(metavar="NAME")] = None, json: AsJson = False) -> None:
    """Where the tags point; with NAME, where that one pointed before."""
    store = Store(target)
    if name is None:
        found = list(list_tags(store).items())
    else:
        found = [(name, tagging) for tagging in tag_history(store, name)] if name in list_tags(store) else []
        if not found:
            raise InputError(f"{store.url}: no tag {name!r}; 'chameleon-data tags {target}' lists those that are there")
    gone = {version.number for version in list_deleted(store)}
    rows = [
        {"tag": tag, "generation": t.generation, "version": f"v{t.version}", "created": t.created, "deleted": t.version in gone}
        for tag, t in found
    ]
    if json:
        _print_json(rows)
        return
    table = _table("tag", ">generation", "version", "tagged")
    for row in rows:
        told = row["version"] + (" (deleted)" if row["deleted"] else "")
        table.add_row(row["tag"], str(row["generation"]), told, row["created"])
    out.print(table if rows else f"{target} holds no tag")


@app.command()
def delete(target: Annotated[str, typer.Argument(metavar="OUT@V")], json: AsJson = False) -> None:
    """Delete a version: its number is never given again. Its files stay until gc."""
    if split_target(target)[0] == target:
        raise InputError(f"{target}: name the version to delete, OUT@V; @latest is one too")
    store, _, number, _ = _open(target)
    delete_version(store, resolve(store, f"v{number}"), _now())
    if json:
        _print_json({"version": f"v{number}", "deleted": True})
    else:
        out.print(f"v{number} is deleted; chameleon-data gc {store.url} --delete removes its files", soft_wrap=True)


@app.command()
def gc(
    target: Out,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without it they are listed.")] = False,
    caches: Annotated[bool, typer.Option("--caches", help="Surveys, vectors, weighings too; a build makes them anew.")] = False,
    json: AsJson = False,
) -> None:
    """What no version refers to and no build at work owns; a dry run unless --delete."""
    from chameleon_data.collect import collect, find_garbage

    store = Store(target)
    if not store.exists(f"{ROOT}/format.json") and not store.list("builds"):
        raise InputError(f"{store.url}: no dataset is there; correct the folder")
    with narrated() as progress:
        found = collect(store, caches, patient(progress, "remove")) if delete else find_garbage(store, caches)
    if json:
        files = [{"path": path, "kind": kind, "bytes": size} for path, (kind, size) in found.files.items()]
        uploads = [{"path": upload.path, "id": upload.id} for upload in found.uploads]
        _print_json({"removed": delete, "bytes": found.bytes, "files": files, "uploads": uploads, "at_work": list(found.spared)})
        return
    table = _table("what", "where", ">files", ">bytes")
    for (kind, folder), (files, size) in found.groups().items():
        table.add_row(kind, folder, f"{files:,}", f"{size:,}")
    if found.uploads:
        table.add_row("uploads", "", f"{len(found.uploads):,}", "")
    if found.files or found.uploads:
        out.print(table)
    total = f"{len(found.files):,} files, {found.bytes:,} bytes"
    out.print(f"{total} removed" if delete else f"{total} could be removed; --delete does it")
    if found.spared:
        out.print(Text("note", style="yellow"), "a build is at work: its files, caches and manifests stay", soft_wrap=True)


@app.command()
def report(
    target: Target,
    to: Annotated[
        Path | None, typer.Option(help="Where to write it; by default OUT/reports/vN.html, or ./vN.html for a remote OUT.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Do not verify the shards first.")] = False,
    json: AsJson = False,
) -> None:
    """The HTML report of a version, verified first."""
    from chameleon_data.report import render
    from chameleon_data.verify import verify as prove

    store, manifest, number, created = _open(target)
    found = None
    if not trust:
        with narrated() as progress:
            found = prove(store, manifest, lambda done, total: progress("verify", done, total))
    local = store.local(f"reports/v{number}.html")
    path = to or local or Path(f"v{number}.html")
    page = render({"version": f"v{number}", **manifest}, found, created)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the report cannot be written ({error.strerror}); choose another place with --to") from error
    if json:
        _print_json({"version": f"v{number}", "report": str(path), "ok": None if found is None else found.ok})
    else:
        out.print(str(path), soft_wrap=True)
    raise typer.Exit(0 if found is None or found.ok else 1)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@app.command()
def export(
    target: Annotated[
        str, typer.Argument(metavar="OUT[@V]", help="A version; for a trainer's file also a RECIPE.yaml, which is weighed first.")
    ],
    form: Annotated[Form, typer.Argument(metavar="FORM", help=f"A table: {', '.join(TABLES)}. A file: {', '.join(TRAINERS)}.")],
    to: Annotated[
        str | None, typer.Option(help="A table's folder, by default in OUT; or the file to write, by default stdout.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the domains' converted data are, for mosaicml, megatron and olmo.")
    ] = None,
    json: AsJson = False,
    address: Address = None,
    workers: Workers = None,
    open_cluster: OpenCluster = False,
) -> None:
    """Other ways out: a version as a Delta or Iceberg table, its weights as a trainer's own configuration."""
    if form in TABLES:
        _export_table(target, form, to, json)
        return
    from chameleon_data.pointers import TRAINERS as writers

    folder = data.rstrip("/") if data else None
    if target.endswith(RECIPES):
        blend, beside = _weigh_blend(Path(target), address, workers, open_cluster)
    else:
        from chameleon_data.pointers import blend_of_version

        store, manifest, number, _ = _open(target)
        blend, beside = blend_of_version(f"{store.url}@v{number}", manifest), store.url.rstrip("/")
    text = writers[form](blend, folder or f"{beside}/exports/{form}")
    if to:
        try:
            Path(to).write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{to}: cannot be written ({error.strerror}); choose another file with --to") from error
    if json:
        _print_json({"form": form, "to": to, "text": text})
    else:
        out.print(to or text.removesuffix("\n"), soft_wrap=True)


def _weigh_blend(path: Path, address: str | None, workers: int | None, open_cluster: bool) -> tuple[Blend, str]:
    """The mixture of a recipe that need not have been built, and its `out`."""
    from chameleon_data.manifest import corpus_fingerprints
    from chameleon_data.pointers import make_blend
    from pipelines.build import weigh_recipe
    from pipelines.cluster import cluster

    recipe = load_recipe(path)
    with narrated() as progress, cluster(address, workers, open_cluster):
        weighed = weigh_recipe(recipe, progress)
    inputs = corpus_fingerprints(weighed.survey)
    return make_blend(f"recipe {recipe.name}", recipe, weighed.describe()["domains"], weighed.budget, inputs), recipe.out


def _export_table(target: str, form: str, to: str | None, json: bool) -> None:
    from chameleon_data.tables import register_delta, register_iceberg

    if target.endswith(RECIPES):
        raise InputError(f"{target}: a table is of a version's shards; build it first, then name OUT@V")
    url, reference = split_target(target)
    store = Store(url)
    version = resolve(store, reference)
    register = register_delta if form == "delta" else register_iceberg
    registered = register(store, load_manifest(store, version), version, to)
    if json:
        _print_json({"version": f"v{version.number}", "form": form, **vars(registered)})
        return
    rows = [
        ("table", registered.table),
        ("version", f"v{version.number}" + ("" if registered.new else "  (was there already; nothing was written)")),
        ("delta version" if form == "delta" else "snapshot", str(registered.state)),
        ("rows", f"{registered.rows:,} in {registered.files:,} files, registered where they lie"),
    ]
    if form == "delta" and registered.absolute:
        rows.append(("note", "absolute paths: deltalake's queries follow them, polars and to_pyarrow_table do not"))
    _print_pairs(rows)


def _open(target: str) -> tuple[Store, dict[str, Any], int, str | None]:
    url, reference = split_target(target)
    store = Store(url)
    version = resolve(store, reference)
    return store, load_manifest(store, version), version.number, version.created


def _print_json(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    text = UNPRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal of few characters, or a path that is not UTF-8
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return table


def _print_pairs(rows: list[tuple[str, str]]) -> None:
    out.print()
    for key, value in rows:
        out.print(Text(f"{key:>14}", style="dim"), value, sep="  ", soft_wrap=True)


SHOWN = 20
"""Bounds that are told on the terminal."""


def _print_notes(about: dict[str, Any], reused: dict[str, str]) -> None:
    for sentence in reused.values():
        out.print(Text(sentence, style="dim"), soft_wrap=True)
    for moved in about["moved"][:SHOWN]:
        told = f"{moved['domain']}: {moved['before']:.4f} to {moved['after']:.4f} by its {moved['bound']}"
        out.print(Text("bound", style="yellow"), told, soft_wrap=True)
    if len(about["moved"]) > SHOWN:
        out.print(Text("bound", style="yellow"), f"and {len(about['moved']) - SHOWN:,} more; --json and the report list them")
    for warning in [*about["warnings"], *about.get("near_duplicates", [])]:
        out.print(Text("note", style="yellow"), warning, soft_wrap=True)


def _print_explanations(about: dict[str, Any]) -> None:
    """Other mixtures beside this one, and the neighbours that lower each domain's leverage most."""
    beside = about["mixtures"]
    table = _table("domain", *(f">{Path(name).name}" for name in beside), "leverage lowered most by")
    for domain in about["names"]:
        near = (about.get("neighbours") or {}).get(domain, [])[:2]
        told = ", ".join(f"{n['domain']} ({n['lowers']:.0%})" for n in near)
        table.add_row(domain, *(f"{mixture[domain]:.4f}" for mixture in beside.values()), told)
    out.print()
    out.print(table)


def _interval(interval: list[float] | None) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _weights_table(weighed: Weighed) -> Table:
    described = weighed.describe()
    table = _table("domain", ">weight", "90 % interval", ">score", ">natural", ">documents", ">tokens", ">quarantined")
    for name, d in described["domains"].items():
        table.add_row(
            name, f"{d['weight']:.4f}", _interval(d["weight_interval"]), _number(d["score"]), f"{d['natural']:.4f}",
            f"{d['available_rows']:,}", f"{d['available_tokens']:,}", f"{d['quarantined']:,}",
        )  # fmt: skip
    return table


def _mixture_table(manifest: dict[str, Any]) -> Table:
    domains = manifest["domains"]
    available, written = (sum(d[key] for d in domains.values()) for key in ("available_tokens", "tokens"))
    table = _table(
        "domain", ">weight", "90 % interval", ">natural", ">tokens", ">written", ">documents", ">epochs", ">quarantined"
    )
    for name, d in domains.items():
        table.add_row(
            name,
            f"{d['weight']:.4f}",
            _interval(d["weight_interval"]),
            f"{d['available_tokens'] / available:.4f}",
            f"{d['tokens']:,}",
            f"{d['tokens'] / written:.4f}",
            f"{d['rows']:,}",
            f"{d['epochs']:.2f}",
            f"{d['quarantined']:,}",
        )
    return table


def _print_plan(planned: Planned) -> None:
    described = planned.describe()
    table = _table("domain", ">weight", "90 % interval", ">quota", ">tokens", ">documents", ">epochs")
    for name, d in described["domains"].items():
        table.add_row(name, f"{d['weight']:.4f}", _interval(d["weight_interval"]), f"{d['target_tokens']:,}", f"{d['tokens']:,}",
                      f"{d['rows']:,}", f"{d['epochs']:.2f}")  # fmt: skip
    out.print(table)
    _print_exhausted(described["exhausted"])
    _print_notes(described["weights"], planned.weighed.reused)
    for warning in described["warnings"]:
        out.print(Text("note", style="yellow"), warning, soft_wrap=True)
    rows = [
        ("shards", f"{described['shard_count']:,} of about {described['shard_bytes']:,} bytes"),
        ("tokens", f"{described['tokens']:,} of {described['budget']:,} asked for"),
        ("bytes", f"about {described['bytes']:,}, before compression"),
        ("expected", f"{described['expected_seconds']:,.0f} s to write them on {planned.cpus:g} CPUs"),
        ("plan", described["plan_digest"]),
    ]
    _print_pairs(rows)


def _print_exhausted(policies: dict[str, Any]) -> None:
    """What each choice of `mix.exhausted` would do; nothing where it makes no difference."""
    done = {name: found for name, found in policies.items() if "refused" not in found}
    if len(done) == len(policies) and len({json.dumps(found) for found in done.values()}) == 1:
        return
    out.print()
    table = _table("mix.exhausted", *(f">{name}" for name in done))
    for domain in next(iter(done.values()), {}):
        cells = (f"{found[domain]['target_tokens']:,} ({found[domain]['epochs']:.2f} epochs)" for found in done.values())
        table.add_row(domain, *cells)
    out.print(table)
    for name, found in policies.items():
        if "refused" in found:
            out.print(Text(f"{name} would refuse:", style="dim"), found["refused"], soft_wrap=True)


def _lineage_rows(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    from chameleon_data.lineage import lineage

    found = lineage(manifest)
    rows = [("input", f"{name}: {i['files']:,} files, {i['bytes']:,} bytes, {i['fingerprint'][:16]}")
            for name, i in found["inputs"].items()]  # fmt: skip
    rows = [*rows[:12], ("", f"and {len(rows) - 12:,} sources more")] if len(rows) > 13 else rows
    told = {
        "tokenizer": _told(found["tokenizer"]),
        "embedder": _told(found["embedder"]), "weights": _told(found["weights"]), "landmarks": found["landmarks"],
        "code": _told(found["code"]), "packages": _told({"python": found["python"], **found["packages"]}),
    }  # fmt: skip
    return rows + [(key, value) for key, value in told.items() if value]


def _told(facts: dict[str, Any] | None) -> str:
    """What there is of these facts, in a line; of a hash its beginning."""
    texts: dict[str, str] = {}
    for key, value in (facts or {}).items():
        texts |= {k: str(v) for k, v in (value if isinstance(value, dict) else {key: value}).items() if v is not None}
    return ", ".join(f"{key} {value[:16] if len(value) in (40, 64) else value}" for key, value in texts.items())


def _print_difference(found: Difference) -> None:
    domains = _table("domain", ">weight", ">tokens", ">epochs", ">rows kept", ">added", ">removed", ">documents new", ">gone")
    documents = {(d.split, d.domain): d for d in found.documents}
    splits = sorted({split for split, _ in documents} - {"train"})
    for split in ("train", *splits):
        for name, facts in found.domains.items():
            d = documents.get((split, name))
            counts = [f"{n:,}" for n in (d.kept, d.added, d.removed, d.new, d.gone)] if d else ["0"] * 5
            if split == "train":
                mixture = _changed(facts["weight"], ".4f"), _changed(facts["tokens"], ","), _changed(facts["epochs"], ".2f")
                domains.add_row(name, *mixture, *counts)
            elif d:
                domains.add_row(f"{name} ({split})", "", "", "", *counts)
    out.print(domains)
    s = found.shards
    shared = f"{s['shared']:,} of them are the same bytes ({s['shared_bytes']:,})"
    _print_pairs([("shards", f"{s['before']:,} → {s['after']:,}; {shared}")])
    for title, some in (("recipe", found.recipe), ("lineage", found.lineage)):
        _print_pairs([(title, f"{key}: {_changed(change)}") for key, change in some.items()] or [(title, "the same")])
    moved = {source: {k: n for k, n in counts.items() if k != "same" and n} for source, counts in found.inputs.items()}
    told = [("inputs", f"{source}: {_told(counts)}") for source, counts in moved.items() if counts]
    _print_pairs(told or [("inputs", "the same")])


def _changed(change: Change, form: str = "") -> str:
    before, after = ("–" if value is None else format(value, form) if form else str(value) for value in change)
    return before if before == after else f"{before} → {after}"


def _worst(worst: Any) -> dict[str, Any]:
    return {"domain": worst.domain, "where": worst.where, "tokens": worst.tokens, "bound": worst.bound}


def _print_verification(number: int, found: Verification) -> None:
    out.print(f"v{number}: {found.rows:,} rows, {found.files:,} files, {found.bytes:,} bytes read")
    for name, worst in (("in the whole", found.whole), ("in a shard", found.shard), ("in a prefix", found.prefix)):
        out.print(
            f"  worst {name:<13} {worst.tokens:>10,.1f} tokens off its share, {worst.share:.3f} of a largest document "
            f"({worst.domain}, {worst.where})", soft_wrap=True,
        )  # fmt: skip
    for problem in found.problems:
        out.print(Text("✗", style="red"), problem, soft_wrap=True)
    if found.ok:
        out.print(Text("✓", style="green"), "every check holds")
    else:
        out.print(Text(f"{len(found.problems)} check(s) failed", style="red"))


def main() -> None:
    """Entry point. Ends in SystemExit, whose code the module's docstring explains."""
    try:
        code = app(standalone_mode=False) or 0
    except InputError as error:
        _fail(2, str(error))
    except TyperException as error:  # usage
        context = getattr(error, "ctx", None)
        if context is not None:
            err.print(context.get_usage(), soft_wrap=True)
        _fail(2, error.format_message())
    except OSError as error:  # of the network or the disk, where no sentence of ours was nearer
        _fail(2, told(error))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:  # noqa: BLE001 - the last resort, so that --json always has its document
        err.print(traceback.format_exc(), soft_wrap=True)
        kind = type(error).__name__
        _fail(70, f"a defect of chameleon-data, please report it with the traceback: {kind}: {error}")
    if code == 130:
        _answer_error("interrupted")
        err.print("interrupted; the same command goes on from here")
    sys.exit(code)


def _fail(code: int, reason: str) -> NoReturn:
    _answer_error(reason)
    err.print(Text("error", style="red"), reason, soft_wrap=True)
    sys.exit(code)


def _answer_error(reason: str) -> None:
    if "--json" in sys.argv[1:]:
        _print_json({"error": reason})


if __name__ == "__main__":
    main()
