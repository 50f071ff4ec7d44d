"""The command `chameleon-data`: arguments in, one clear answer out.

Exit 0: done; 1: a check failed; 2: bad recipe, bad input or bad usage, in one message; 70: a defect of ours, with a
traceback; 130: interrupted. Answers go to stdout, progress and messages to stderr. With --json stdout is one JSON document,
{"error": ...} where there is no answer.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TextIO

import typer
from rich.text import Text
from typer.exceptions import TyperException

from chameleon_data.errors import InputError, explain_os_error, explaining
from chameleon_data.jobs.screen import (
    count_noun,
    delay_progress,
    describe_deviation,
    err,
    make_table,
    mixture_table,
    out,
    print_difference,
    print_explanations,
    print_json,
    print_notes,
    print_outside,
    print_pairs,
    print_plan,
    print_verification,
    provenance_rows,
    show_progress,
    weights_table,
)
from chameleon_data.recipe import load_recipe
from chameleon_data.store.paths import export_folder, report_path
from chameleon_data.store.store import Store
from chameleon_data.versions.versions import (
    NO_VERSION_YET,
    delete_version,
    list_deleted,
    list_tags,
    list_versions,
    load_manifest,
    open_dataset,
    resolve_version,
    split_target,
    tag_history,
    tag_version,
)

if TYPE_CHECKING:
    from chameleon_data.views.trainer_files import Blend

app = typer.Typer(
    help="Raw text corpora in, an exact, versioned, pre-mixed training set out.",
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip


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
RECIPE_SUFFIXES = (".yaml", ".yml")
TABLE_FORMS, TRAINER_FORMS = ("delta", "iceberg"), ("mosaicml", "megatron", "olmo", "datasets")


@app.command()
def weights(
    recipe: RecipeFile,
    json: AsJson = False,
    address: Address = None,
    open_cluster: OpenCluster = False,
    workers: Workers = None,
    single_writer: SingleWriter = False,
) -> None:
    """Survey the corpus, embed samples, compute weights. Writes only caches."""
    from chameleon_data.pipelines.build import weigh_recipe
    from chameleon_data.pipelines.ray_cluster import cluster

    wanted = load_recipe(recipe)
    with show_progress() as progress, cluster(address, workers, open_cluster):
        weighed = weigh_recipe(wanted, progress, single_writer)
    described = weighed.describe()
    if json:
        print_json(described)
    else:
        out.print(weights_table(weighed))
        print_outside(described["domains"])
        print_explanations(described["weights"])
        print_notes(described["weights"], weighed.reused)


@app.command()
def plan(
    recipe: RecipeFile,
    json: AsJson = False,
    address: Address = None,
    open_cluster: OpenCluster = False,
    workers: Workers = None,
    single_writer: SingleWriter = False,
) -> None:
    """The same, and the plan: tokens, epochs, shards. Writes no shard."""
    from chameleon_data.pipelines.build import plan_recipe
    from chameleon_data.pipelines.ray_cluster import cluster

    wanted = load_recipe(recipe)
    with show_progress() as progress, cluster(address, workers, open_cluster):
        planned = plan_recipe(wanted, progress, single_writer)
    if json:
        print_json(planned.describe())
    else:
        print_plan(planned)


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
    from chameleon_data.pipelines.build import build_recipe
    from chameleon_data.pipelines.ray_cluster import cluster
    from chameleon_data.versions.manifest import TIMED_PASSES

    wanted = load_recipe(recipe)
    with show_progress() as progress, cluster(address, workers, open_cluster):
        built = build_recipe(wanted, progress, _now(), single_writer)
    manifest, number = built.manifest, built.version.number
    if json:
        print_json({"version": f"v{number}", "new": built.new, **manifest})
        return
    out.print(mixture_table(manifest))
    print_outside(manifest["domains"])
    print_notes(manifest["weights"], manifest["reused"] if built.new else {})
    if not built.new:
        told = f"{count_noun(built.written, 'missing shard')} written again" if built.written else "nothing to do"
        out.print(f"{told}: v{number} is already this build", soft_wrap=True)
    held = manifest["validation"].values()
    seconds = ", ".join(f"{name} {manifest['timings'][name]:.1f}" for name in TIMED_PASSES)
    rows = [
        ("version", f"v{number}"),
        ("digest", manifest["digest"]),
        ("content", manifest["content_digest"]),
        ("folder", f"{wanted.out}/{manifest['build']}"),
        ("shards", f"{manifest['shard_count']:,} in each of {', '.join(f'{f}/' for f in wanted.shards.formats)}"),
        *[("validation", f"{sum(d['rows'] for d in held):,} rows, {sum(d['tokens'] for d in held):,} tokens") for _ in held][:1],
        *([("seconds", seconds)] if built.new else []),
        ("next", f"chameleon-data verify {wanted.out}@v{number}"),
    ]
    print_pairs(rows)


@app.command()
def versions(
    target: Out,
    deleted: Annotated[bool, typer.Option("--deleted", help="List the deleted ones too.")] = False,
    json: AsJson = False,
) -> None:
    """List the versions, with their tags."""
    store = open_dataset(target)
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
    if json:
        print_json(rows)
        return
    if not rows:
        gone = bool(list_deleted(store))
        out.print(f"{target}: {'every version was deleted; --deleted lists them' if gone else NO_VERSION_YET}", soft_wrap=True)
        return
    table = make_table("version", "tags", "created", "name", ">tokens", ">domains", "digest")
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
        print_json({"version": f"v{number}", "created": created, **manifest})
        return
    out.print(mixture_table(manifest))
    print_outside(manifest["domains"])
    rows = [("version", f"v{number}, {created}"), ("digest", manifest["digest"]), ("content", manifest["content_digest"]),
            ("plan", manifest["plan_digest"]), ("folder", manifest["build"]), ("shards", f"{manifest['shard_count']:,}"),
            ("seed", str(manifest["seed"])), ("tokens are", manifest["unit"]), *provenance_rows(manifest)]  # fmt: skip
    print_pairs(rows)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="OUT@A")],
    after: Annotated[str, typer.Argument(metavar="OUT@B")],
    json: AsJson = False,
) -> None:
    """What changed between two versions: recipe, mixture, documents. Also shards and lineage; of one dataset or of two."""
    from chameleon_data.versions.diff import diff_versions

    (first, a, m, _), (second, b, n, _) = _open(before), _open(after)
    with show_progress() as progress:
        found = diff_versions((first, a), (second, b), delay_progress(progress, "compare"))
    if json:
        print_json({"before": f"{first.url}@v{m}", "after": f"{second.url}@v{n}", **found.describe()})
    else:
        out.print(f"{first.url}@v{m} → {second.url}@v{n}", soft_wrap=True)
        print_difference(found)


@app.command()
def verify(
    target: Target,
    corpus: Annotated[bool, typer.Option("--corpus", help="Read the corpus again too, and compare.")] = False,
    json: AsJson = False,
    address: Address = None,
    open_cluster: OpenCluster = False,
    workers: Workers = None,
) -> None:
    """Prove a version from its bytes: files, order, bounds, books."""
    from chameleon_data.versions.verify import verify_version as prove

    store, manifest, number, _ = _open(target)
    against, expected = list[str](), None
    with show_progress() as progress:
        if corpus:
            from chameleon_data.pipelines.ray_cluster import cluster
            from chameleon_data.pipelines.verify import check_against_corpus

            with cluster(address, workers, open_cluster):
                against, expected = check_against_corpus(store, manifest, progress)
        found = prove(store, manifest, lambda done, total: progress("verify", done, total), expected)
    found = replace(found, problems=(*against, *found.problems))
    domains = manifest["domains"].values()  # the counts of the corpus are these where nothing speaks against them
    again = {"domains": len(domains), "rows": sum(d["rows_read"] for d in domains)} if corpus and not against else None
    if json:
        print_json(
            {
                "version": f"v{number}",
                "ok": found.ok,
                "problems": list(found.problems),
                "files": found.files,
                "rows": found.rows,
                "bytes": found.bytes,
                "corpus": again,
                **{k: describe_deviation(getattr(found, k)) for k in ("whole", "shard", "prefix")},
            }
        )
    else:
        print_verification(number, found, again)
    raise typer.Exit(0 if found.ok else 1)


@app.command()
def tag(target: Annotated[str, typer.Argument(metavar="OUT@V")], name: str, json: AsJson = False) -> None:
    """Give a version a name. The name can move later, its history stays."""
    store, _, number, _ = _open(target)
    tag_version(store, resolve_version(store, f"v{number}"), name, _now())
    if json:
        print_json({"version": f"v{number}", "tag": name})
    else:
        out.print(f"{name} is now v{number}")


@app.command()
def tags(target: Out, name: Annotated[str | None, typer.Argument(metavar="NAME")] = None, json: AsJson = False) -> None:
    """Where the tags point. With NAME, where that one pointed before."""
    store = open_dataset(target)
    if name is None:
        found = list(list_tags(store).items())
    else:
        found = [(name, tagging) for tagging in tag_history(store, name)] if name in list_tags(store) else []
        if not found:
            raise InputError(f"{store.url}: no tag {name!r}; 'chameleon-data tags {target}' lists those that are there")
    gone = {version.number for version in list_deleted(store)}
    newest = found[-1][1] if found else None
    if json:
        print_json([
            {"tag": tag, "generation": entry.generation, "version": f"v{entry.version}", "created": entry.created,
             "deleted": entry.version in gone, "current": name is None or entry is newest}
            for tag, entry in found
        ])  # fmt: skip
        return
    table = make_table("tag", ">generation", "version", "tagged", *([""] if name else []))
    for tag, entry in found:
        version = f"v{entry.version}" + (" (deleted)" if entry.version in gone else "")
        marked = ["← current" if entry is newest else ""] if name else []
        table.add_row(tag, str(entry.generation), version, entry.created, *marked)
    out.print(table if found else f"{target} holds no tag")


@app.command()
def delete(target: Annotated[str, typer.Argument(metavar="OUT@V")], json: AsJson = False) -> None:
    """Delete a version: its number is never given again. Its files stay until gc."""
    if split_target(target)[0] == target:
        raise InputError(f"{target}: name the version to delete, OUT@V; @latest is one too")
    store, _, number, _ = _open(target)
    delete_version(store, resolve_version(store, f"v{number}"), _now())
    tagged = [name for name, tagging in list_tags(store).items() if tagging.version == number]
    if json:
        print_json({"version": f"v{number}", "deleted": True, "tags": tagged})
    else:
        for name in tagged:
            dangling = f"the tag {name} points to it, so to nothing now; move it: chameleon-data tag OUT@V {name}"
            out.print(Text("note", style="yellow"), dangling, soft_wrap=True)
        out.print(f"v{number} is deleted; chameleon-data gc {store.url} --delete removes its files", soft_wrap=True)


@app.command()
def gc(
    target: Out,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without it they are listed.")] = False,
    caches: Annotated[bool, typer.Option("--caches", help="Surveys, vectors, weighings too; a build makes them anew.")] = False,
    json: AsJson = False,
) -> None:
    """What no version refers to and no build at work owns. A dry run unless --delete."""
    from chameleon_data.versions.gc import find_garbage, remove_garbage

    store = open_dataset(target)
    with show_progress() as progress:
        found = remove_garbage(store, caches, delay_progress(progress, "remove")) if delete else find_garbage(store, caches)
    if json:
        files = [{"path": path, "kind": kind, "bytes": size} for path, (kind, size) in found.files.items()]
        uploads = [{"path": upload.path, "id": upload.id} for upload in found.uploads]
        print_json({"removed": delete, "bytes": found.bytes, "files": files, "uploads": uploads, "at_work": list(found.spared)})
        return
    table = make_table("what", "where", ">files", ">bytes")
    for (kind, folder), (count, size) in found.groups().items():
        table.add_row(kind, folder, f"{count:,}", f"{size:,}")
    if found.uploads:
        table.add_row("uploads", "", f"{len(found.uploads):,}", "")
    if found.files or found.uploads:
        out.print(table)
    total = f"{count_noun(len(found.files), 'file')}, {found.bytes:,} bytes"
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
    from chameleon_data.versions.verify import verify_version as prove
    from chameleon_data.views.report.page import render_report

    store, manifest, number, created = _open(target)
    found = None
    if not trust:
        with show_progress() as progress:
            found = prove(store, manifest, lambda done, total: progress("verify", done, total))
    local = store.local(report_path(number))
    path = to or local or Path(f"v{number}.html")
    page = render_report({"version": f"v{number}", **manifest}, found, created)
    with _explaining_writes(path, "the report cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    if json:
        print_json({"version": f"v{number}", "report": str(path), "ok": None if found is None else found.ok})
    else:
        out.print(str(path), soft_wrap=True)
    raise typer.Exit(0 if found is None or found.ok else 1)


def _explaining_writes(file: str | Path, what: str) -> AbstractContextManager[None]:
    return explaining(str(file), {OSError: lambda error: f"{what} ({error.strerror}); choose another place with --to"})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@app.command()
def export(
    target: Annotated[
        str, typer.Argument(metavar="OUT[@V]", help="A version; for a trainer's file also a RECIPE.yaml, which is weighed first.")
    ],
    form: Annotated[
        Form, typer.Argument(metavar="FORM", help=f"A table: {', '.join(TABLE_FORMS)}. A file: {', '.join(TRAINER_FORMS)}.")
    ],
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
    """A table over the shards, or the weights as a trainer takes them."""
    if form in TABLE_FORMS:
        _export_table(target, form, to, json)
        return
    from chameleon_data.views.trainer_files import TRAINER_WRITERS as writers

    folder = data.rstrip("/") if data else None
    if target.endswith(RECIPE_SUFFIXES):
        blend, beside = _weigh_blend(Path(target), address, workers, open_cluster)
    else:
        from chameleon_data.views.trainer_files import blend_of_version

        store, manifest, number, _ = _open(target)
        blend, beside = blend_of_version(f"{store.url}@v{number}", manifest), store.url.rstrip("/")
    text = writers[form](blend, folder or f"{beside}/{export_folder(form)}")
    if to:
        with _explaining_writes(to, "cannot be written"):
            Path(to).write_text(text, encoding="utf-8")
    if json:
        print_json({"form": form, "to": to, "text": text})
    else:
        out.print(to or text.removesuffix("\n"), soft_wrap=True)


def _weigh_blend(path: Path, address: str | None, workers: int | None, open_cluster: bool) -> tuple[Blend, str]:
    """The mixture of a recipe that need not have been built, and its `out`."""
    from chameleon_data.pipelines.build import weigh_recipe
    from chameleon_data.pipelines.ray_cluster import cluster
    from chameleon_data.versions.manifest import input_fragments
    from chameleon_data.views.trainer_files import make_blend

    recipe = load_recipe(path)
    with show_progress() as progress, cluster(address, workers, open_cluster):
        weighed = weigh_recipe(recipe, progress)
    inputs = input_fragments(weighed.survey)
    return make_blend(f"recipe {recipe.name}", recipe, weighed.describe()["domains"], weighed.budget, inputs), recipe.out


def _export_table(target: str, form: str, to: str | None, json: bool) -> None:
    from chameleon_data.views.lake_tables import register_delta, register_iceberg

    if target.endswith(RECIPE_SUFFIXES):
        raise InputError(f"{target}: a table is of a version's shards; build it first, then name OUT@V")
    url, reference = split_target(target)
    store = open_dataset(url)
    version = resolve_version(store, reference)
    register = register_delta if form == "delta" else register_iceberg
    registered = register(store, load_manifest(store, version), version, to)
    if json:
        print_json({"version": f"v{version.number}", "form": form, **vars(registered)})
        return
    rows = [
        ("table", registered.table),
        ("version", f"v{version.number}" + ("" if registered.new else "  (was there already; nothing was written)")),
        ("delta version" if form == "delta" else "snapshot", str(registered.state)),
        ("rows", f"{registered.rows:,} in {count_noun(registered.files, 'file')}, registered where they lie"),
    ]
    if form == "delta" and registered.absolute:
        rows.append(("note", "absolute paths: deltalake's queries follow them, polars and to_pyarrow_table do not"))
    print_pairs(rows)


def _open(target: str) -> tuple[Store, dict[str, Any], int, str | None]:
    url, reference = split_target(target)
    store = open_dataset(url)
    version = resolve_version(store, reference)
    return store, load_manifest(store, version), version.number, version.created


def main() -> None:
    """Entry point. Ends in SystemExit, whose code the module's docstring explains."""
    threading.excepthook = _watcher_failed
    try:
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except InputError as error:
        _fail(2, str(error))
    except TyperException as error:  # usage
        context = getattr(error, "ctx", None)
        if context is not None:
            err.print(context.get_usage(), soft_wrap=True)
        _fail(2, error.format_message())
    except OSError as error:  # of the network or the disk, where no sentence of ours was nearer
        _fail(2, explain_os_error(error))
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


def _watcher_failed(failure: threading.ExceptHookArgs) -> None:
    """An InputError of a thread that watches over a build ends it at once: the main one may be waiting for what is dead."""
    if not isinstance(failure.exc_value, InputError):
        threading.__excepthook__(failure)
        return
    try:
        _fail(2, str(failure.exc_value), sys.__stdout__)  # `sys.stdout` is stderr while Ray works, whose threads write there
    finally:
        for stream in (sys.__stdout__, sys.stderr):
            if stream:
                stream.flush()
        os._exit(2)


def _fail(code: int, reason: str, answer: TextIO | None = None) -> NoReturn:
    _answer_error(reason, answer)
    err.print(Text("error", style="red"), reason, soft_wrap=True)
    sys.exit(code)


def _answer_error(reason: str, answer: TextIO | None = None) -> None:
    if "--json" in sys.argv[1:]:
        print_json({"error": reason}, answer)


if __name__ == "__main__":
    main()
