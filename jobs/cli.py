"""The command `chameleon-data`: arguments in, one clear answer out.

Exit 0: done; 1: a check failed; 2: bad recipe, bad input or bad usage, in one message; 70: a defect of ours, with a
traceback; 130: interrupted. Answers go to stdout, progress and messages to stderr. With --json stdout is one JSON document,
{"error": ...} where there is no answer.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typer.exceptions import TyperException

from chameleon_data.errors import InputError
from chameleon_data.recipe import load_recipe
from chameleon_data.storage import Store, told
from chameleon_data.versions import ROOT, list_versions, load_manifest, resolve, split_target, tag_version

if TYPE_CHECKING:
    from chameleon_data.verify import Verification
    from pipelines.build import Planned
    from pipelines.weigh import Weighed

app = typer.Typer(
    help="Raw text corpora in, an exact, versioned, pre-mixed training set out.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
WIDE = None if sys.stdout.isatty() else 140  # a log file has no width
out = Console(highlight=False, markup=False, emoji=False, width=WIDE)  # names and paths may look like markup: [/b], :x:
err = Console(highlight=False, markup=False, emoji=False, stderr=True)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
Target = Annotated[str, typer.Argument(metavar="OUT[@V]", help="A recipe's `out`; @v12, @12, @TAG or @latest names the version.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Address = Annotated[str | None, typer.Option(metavar="ADDRESS", help="A running Ray cluster; without it a local one is started.")]
Workers = Annotated[int | None, typer.Option(min=1, metavar="N", help="CPUs of the local cluster; all of them by default.")]
SingleWriter = Annotated[
    bool, typer.Option("--single-writer", help="Nothing else writes to `out` now: a store without conditional writes will do.")
]

TIMED = ("survey", "embed and weigh", "plan", "write")
PASSES = {
    "survey": "survey the corpus",
    "embed": "embed the samples",
    "read": "read and sort",
    "write": "write shards",
    "verify": "verify",
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
    workers: Workers = None,
    single_writer: SingleWriter = False,
) -> None:
    """Survey the corpus, embed samples and compute the weights; writes only caches."""
    from pipelines.build import weigh_recipe
    from pipelines.cluster import cluster

    wanted = load_recipe(recipe)
    with narrated() as progress, cluster(address, workers):
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
    workers: Workers = None,
    single_writer: SingleWriter = False,
) -> None:
    """The same, and the plan: tokens, epochs, shards and bytes; writes no shard."""
    from pipelines.build import plan_recipe
    from pipelines.cluster import cluster

    wanted = load_recipe(recipe)
    with narrated() as progress, cluster(address, workers):
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
    workers: Workers = None,
    single_writer: SingleWriter = False,
) -> None:
    """Everything: shards, manifest and a new version. The same command goes on where a killed one stopped."""
    from pipelines.build import build_recipe
    from pipelines.cluster import cluster

    wanted = load_recipe(recipe)
    with narrated() as progress, cluster(address, workers):
        built = build_recipe(wanted, progress, datetime.now(UTC).isoformat(timespec="seconds"), single_writer)
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


@app.command()
def versions(target: Annotated[str, typer.Argument(metavar="OUT")], json: AsJson = False) -> None:
    """List the versions."""
    store = Store(target)
    found = list_versions(store)
    rows = []
    for version in found:
        manifest = load_manifest(store, version)
        tokens = sum(d["tokens"] for d in manifest["domains"].values())
        rows.append({"version": f"v{version.number}", "created": version.created, "name": manifest["name"], "tokens": tokens,
                     "domains": len(manifest["domains"]), "digest": version.digest})  # fmt: skip
    if not rows and not store.exists(f"{ROOT}/format.json"):
        raise InputError(f"{store.url}: no dataset is there; correct the folder, or make one with `chameleon-data build`")
    if json:
        _print_json(rows)
        return
    if not rows:
        out.print(f"{target} holds no version yet")
        return
    table = _table("version", "created", "name", ">tokens", ">domains", "digest")
    for row in rows:
        table.add_row(
            row["version"], row["created"], row["name"], f"{row['tokens']:,}", f"{row['domains']:,}", row["digest"][:16]
        )
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
            ("seed", str(manifest["seed"])), ("tokens are", manifest["unit"])]  # fmt: skip
    _print_pairs(rows)


@app.command()
def verify(target: Target, json: AsJson = False) -> None:
    """Prove a version from its stored bytes: files, order, bounds, epochs, books."""
    from chameleon_data.verify import verify as prove

    store, manifest, number, _ = _open(target)
    with narrated() as progress:
        found = prove(store, manifest, lambda done, total: progress("verify", done, total))
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
    tag_version(store, resolve(store, f"v{number}"), name)
    if json:
        _print_json({"version": f"v{number}", "tag": name})
    else:
        out.print(f"{name} is now v{number}")


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


def _open(target: str) -> tuple[Store, dict[str, Any], int, str | None]:
    url, reference = split_target(target)
    store = Store(url)
    version = resolve(store, reference)
    return store, load_manifest(store, version), version.number, version.created


def _print_json(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2)
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


def _print_notes(about: dict[str, Any], reused: dict[str, str]) -> None:
    for sentence in reused.values():
        out.print(Text(sentence, style="dim"), soft_wrap=True)
    for moved in about["moved"]:
        told = f"{moved['domain']}: {moved['before']:.4f} to {moved['after']:.4f} by its {moved['bound']}"
        out.print(Text("bound", style="yellow"), told, soft_wrap=True)
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
        traceback.print_exc()
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
