"""The command `chameleon-data`: its verbs, their arguments and their options.

Each verb reads its arguments, calls what does the work, and hands the answer to `print_answer`. What a person sees is in
tables.py; exit codes are in exits.py. What a verb alone needs is imported inside it, so that the command starts in a second.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from chameleon_data import __version__
from chameleon_data.errors import InputError, explaining
from chameleon_data.jobs import tables
from chameleon_data.jobs.completion import complete_dataset, complete_tag, complete_target
from chameleon_data.jobs.engine_options import EngineOptions, takes_engine_options
from chameleon_data.jobs.exits import run_command
from chameleon_data.jobs.progress import show_progress
from chameleon_data.jobs.screen import (
    delay_progress,
    out,
    parse_duration,
    print_answer,
    print_aside,
    print_json,
    print_note,
    print_text,
    show_waiting,
)
from chameleon_data.recipe import FormatName, recipe_schema
from chameleon_data.recipe_file import load_recipe
from chameleon_data.store.paths import difference_path, export_folder, figure_path, report_path
from chameleon_data.store.store import Store
from chameleon_data.versions.manifest import Manifest, describe_manifest, manifest_schema
from chameleon_data.versions.records import describe_record
from chameleon_data.versions.references import open_dataset, resolve_version, split_target
from chameleon_data.versions.tags import list_tags, tag_history, tag_version
from chameleon_data.versions.versions import Version, delete_version, list_deleted, list_versions, read_manifest

if TYPE_CHECKING:
    from chameleon_data.versions.verify import Verification
    from chameleon_data.views.report.conclusions import Before
    from chameleon_data.views.trainer_files import Blend

app = typer.Typer(
    epilog="Start with `chameleon-data build RECIPE`; `chameleon-data VERB --help` explains a verb.",
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip

JudgeName = Literal["ngram", "decoder", "encoder_decoder", "masked"]
Form = Literal[
    "delta", "iceberg", "card", "croissant", "hub", "mosaicml", "megatron", "olmo", "levanter", "automodel", "swift",
    "llamafactory", "axolotl", "trl", "torchtitan", "datasets",
]  # fmt: skip
OWN_PRICES = Path(__file__).with_name("prices.yaml")
LARGE_VERSION = 512 << 20
"""Bytes of shards above which `verify` and `report` start workers."""
RECIPE_SUFFIXES = (".yaml", ".yml")
TABLE_FORMS, CARD_FORMS = ("delta", "iceberg"), ("card", "croissant")
TRAINER_FORMS = (
    "mosaicml", "megatron", "olmo", "levanter", "automodel", "swift", "llamafactory", "axolotl", "trl", "torchtitan", "datasets",
)  # fmt: skip

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
Dataset = Annotated[
    str, typer.Argument(metavar="OUT", help="The folder or URL that is a recipe's `out`.", autocompletion=complete_dataset)
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="OUT[@V]",
        help="A recipe's `out`. @v12, @12 or @TAG names a version; without it, the latest.",
        autocompletion=complete_target,
    ),
]
OneVersion = Annotated[
    str,
    typer.Argument(
        metavar="OUT@V",
        help="A version: a recipe's `out`, then @v12, @12, @TAG or @latest.",
        autocompletion=complete_target,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
SingleWriter = Annotated[
    bool,
    typer.Option("--single-writer", help="Nobody else writes to `out` now, so a store without conditional writes will do."),
]


Scratch = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Keep the rows of the corpus in this folder, in the place of `out`. All workers must see it, and it is yours to "
        "remove.",
    ),
]


RatesFile = Annotated[
    Path | None,
    typer.Option(
        "--rates", metavar="FILE", help="Rates of these machines, as `make bench` wrote them; costs are estimated by them."
    ),
]
PricesFile = Annotated[
    Path,
    typer.Option(
        "--prices", metavar="FILE", show_default=False, help="Prices of CPUs, GPUs, requests and bytes; an example without it."
    ),
]


def _print_version(asked: bool) -> None:
    if asked:
        out.print(f"chameleon-data {__version__}")
        raise typer.Exit


@app.callback()
def command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Raw text corpora in, an exact, versioned, pre-mixed training set out."""


@app.command(epilog="Example: chameleon-data init /data/corpus")
def init(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder or URL that holds your files.")],
    to: Annotated[str | None, typer.Option(metavar="FILE", help="Where to write the recipe; ./NAME.yaml by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look at a folder and write a first recipe for what lies there. Sources and columns are found by names and first rows."""
    from chameleon_data.jobs.init import describe_first_recipe, print_first_recipe, write_first_recipe

    with show_waiting("looking at the files"):
        file, proposal = write_first_recipe(folder, to)
    print_answer(as_json, describe_first_recipe(file, proposal), lambda: print_first_recipe(file, proposal))


@app.command(epilog="Example: chameleon-data weights recipe.yaml")
@takes_engine_options
def weights(
    recipe: RecipeFile,
    passes: EngineOptions,
    as_json: AsJson = False,
    single_writer: SingleWriter = False,
    scratch: Scratch = None,
) -> None:
    """Compute the weights of the domains. The corpus is surveyed and a sample embedded; only caches are written."""
    wanted = load_recipe(recipe)
    with passes.start(wanted.out) as (runner, progress):
        from chameleon_data.pipelines.build import weigh_recipe  # while the workers start

        weighed = weigh_recipe(wanted, runner, progress, single_writer, _store_of(scratch))
    print_answer(as_json, weighed.describe(), lambda: tables.print_weights(weighed))


@app.command("domains", epilog="Example: chameleon-data domains recipe.yaml")
@takes_engine_options
def domains_command(
    recipe: RecipeFile,
    passes: EngineOptions,
    as_json: AsJson = False,
    single_writer: SingleWriter = False,
) -> None:
    """Show the domains that the recipe's `domains` finds in the texts. They are recorded, and a build takes the same ones."""
    wanted = load_recipe(recipe)
    with passes.start(wanted.out) as (runner, progress):
        from chameleon_data.pipelines.build import discover_recipe  # while the workers start

        found = discover_recipe(wanted, runner, progress, single_writer)
    print_answer(as_json, found.describe(), lambda: tables.print_clustering(found))


@app.command("plan", epilog="Example: chameleon-data plan recipe.yaml")
@takes_engine_options
def plan_command(
    recipe: RecipeFile,
    passes: EngineOptions,
    as_json: AsJson = False,
    single_writer: SingleWriter = False,
    scratch: Scratch = None,
    prices: PricesFile = OWN_PRICES,
    rates: RatesFile = None,
) -> None:
    """Compute the weights and the plan. It says tokens and epochs of each domain, number and size of the shards, and what each
    pass of a build costs. No shard is written."""
    from chameleon_data.pipelines.cost import describe_cost, read_prices, read_rates

    wanted = load_recipe(recipe)
    priced, measured = read_prices(prices), read_rates(rates) if rates else read_rates()
    with passes.start(wanted.out) as (runner, progress):
        from chameleon_data.pipelines.build import plan_recipe  # while the workers start

        planned = plan_recipe(wanted, runner, progress, single_writer, _store_of(scratch), measured)
    cost = describe_cost(planned.cost, priced, measured)
    print_answer(as_json, {**planned.describe(), "cost": cost}, lambda: tables.print_plan(planned, cost))


@app.command("build", epilog="Example: chameleon-data build recipe.yaml --workers 8")
@takes_engine_options
def build_command(
    recipe: RecipeFile,
    passes: EngineOptions,
    as_json: AsJson = False,
    single_writer: SingleWriter = False,
    scratch: Scratch = None,
    rates: RatesFile = None,
) -> None:
    """Build a version: weights, plan and shards. After a kill the same command goes on where it stopped."""
    from chameleon_data.jobs.lineage import tell_lineage

    wanted = load_recipe(recipe)
    with tell_lineage(wanted, print_aside) as complete:
        with passes.start(wanted.out) as (runner, progress):
            from chameleon_data.pipelines.build import build_recipe  # while the workers start
            from chameleon_data.pipelines.cost import read_rates

            measured = read_rates(rates) if rates else None
            built = build_recipe(wanted, runner, progress, _now(), single_writer, _store_of(scratch), measured)
        complete(built)
    store = Store(wanted.out)
    _refresh_catalogue(store)
    document = {"version": f"v{built.version.number}", "new": built.new, **_describe(store, built.manifest, as_json)}
    print_answer(as_json, document, lambda: tables.print_build(built))


@app.command(epilog="Example: chameleon-data versions out/demo")
def versions(
    target: Dataset,
    deleted: Annotated[bool, typer.Option("--deleted", help="List the deleted versions too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the versions of a dataset, with their tags."""
    store = open_dataset(target)
    with show_waiting("reading the versions"):
        gone = list_deleted(store)
        tagged: dict[int, list[str]] = {}
        for name, entry in list_tags(store).items():
            tagged.setdefault(entry.version, []).append(name)
        listed = []
        for v in list_versions(store):
            facts = v.created, v.name, v.tokens, v.unit, v.domains, v.digest, tagged.get(v.number, []), None
            listed.append(tables.ListedVersion(f"v{v.number}", *facts))
        for v, when in gone.items() if deleted else ():
            tags_of = tagged.get(v.number, [])
            listed.append(tables.ListedVersion(f"v{v.number}", v.created, None, None, None, None, v.digest, tags_of, when))
    listed.sort(key=lambda line: int(line.version[1:]))
    print_answer(as_json, [asdict(line) for line in listed], lambda: tables.print_versions(listed, target, bool(gone)))


@app.command(epilog="Example: chameleon-data show out/demo@prod")
def show(target: Target, as_json: AsJson = False) -> None:
    """Show what a version holds. This is its mixture, its digests, and what it was made of."""
    store, version, manifest = _open(target)
    document = {"version": f"v{version.number}", "created": version.created, **_describe(store, manifest, as_json)}
    print_answer(as_json, document, lambda: tables.print_version(manifest, version))


@app.command(epilog="Example: chameleon-data path out/demo@prod mds")
def path(
    target: Target,
    form: Annotated[FormatName, typer.Argument(metavar="FORMAT", help="A format of the recipe's `shards.formats`.")],
    as_json: AsJson = False,
) -> None:
    """Print the folder of a version's shards in one format. Trainers and scripts take it from here. Stages that were added to a
    build lie in folders of their own: then each is printed, in the order in which they are read."""
    from chameleon_data.versions.loaded import load_version

    loaded = load_version(target)
    folders = loaded.paths(form)
    document = {"version": f"v{loaded.version.number}", "format": form, "paths": folders}
    print_answer(as_json, document, lambda: print_text("\n".join(folders)))


@app.command(epilog="Example: chameleon-data diff out/demo@v1 out/demo@v2 --html")
def diff(
    before: OneVersion,
    after: OneVersion,
    html: Annotated[
        bool,
        typer.Option("--html", help="Write it as a page: OUT/reports/v1-v2.html, or ./v1-v2.html for versions of two datasets."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two versions of one dataset or of two. Recipe, mixture, documents, shards, input files and lineage are
    compared."""
    from chameleon_data.versions.diff import diff_versions

    (first, a, m), (second, b, n) = _open(before), _open(after)
    with show_progress() as progress:
        found = diff_versions((first, m), (second, n), delay_progress(progress, "compare"))
    names = f"{first.url}@v{a.number}", f"{second.url}@v{b.number}"
    page = None
    if html:
        from chameleon_data.views.report.difference import render_difference

        with show_waiting("drawing the page"):
            page = _write_page(
                second if first.url == second.url else None, difference_path(a.number, b.number),
                render_difference(names, (m, n), found),
            )  # fmt: skip

    def show_difference() -> None:
        if page:
            out.print(page, soft_wrap=True)
            return
        out.print(" → ".join(names), soft_wrap=True)
        tables.print_difference(found, (m.unit, n.unit))

    print_answer(as_json, {"before": names[0], "after": names[1], "page": page, **found.describe()}, show_difference)


@app.command(epilog="Example: chameleon-data verify out/demo@v2 --corpus")
@takes_engine_options
def verify(
    target: Target,
    passes: EngineOptions,
    corpus: Annotated[bool, typer.Option("--corpus", help="Read the corpus again too, and compare it with the shards.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prove a version from its stored bytes. Checked are the files, the order of rows, the bounds and the books. The exit code
    is 1 if a check fails."""
    store, version, manifest = _open(target)
    problems = list[str]()
    if corpus or passes.names_engine():
        from chameleon_data.pipelines.verify import check_against_corpus, verify_on_engine

        with passes.start() as (runner, progress):
            if corpus:
                problems = check_against_corpus(runner, store, manifest, progress)
            found = verify_on_engine(runner, store, manifest, progress)
    else:
        found = _verify(store, manifest, passes)
    found = replace(found, problems=(*problems, *found.problems), total=len(problems) + found.total)
    domains = manifest.domains.values()  # where no problem was found, the corpus has the counts of the manifest
    again = {"domains": len(domains), "rows": sum(d.rows_read for d in domains)} if corpus and not problems else None
    document = tables.describe_verification(found, version.number, again)
    print_answer(as_json, document, lambda: tables.print_verification(found, version.number, manifest.unit, again))
    raise typer.Exit(0 if found.ok else 1)


@app.command(epilog="Example: chameleon-data tag out/demo@v2 prod")
def tag(
    target: OneVersion, name: Annotated[str, typer.Argument(metavar="NAME", help="The name.")], as_json: AsJson = False
) -> None:
    """Give a version a name. The name can move to another version later, and its history stays."""
    store, version, _ = _open(target)
    tag_version(store, version, name, _now())
    _refresh_catalogue(store)
    document = {"version": f"v{version.number}", "tag": name}
    print_answer(as_json, document, lambda: out.print(f"{name} is now v{version.number}", soft_wrap=True))


@app.command(epilog="Example: chameleon-data tags out/demo prod")
def tags(
    target: Dataset,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A tag.", autocompletion=complete_tag)] = None,
    as_json: AsJson = False,
) -> None:
    """List the tags and their versions. With NAME, list where that tag pointed before."""
    store = open_dataset(target)
    newest = list_tags(store)
    if name is None:
        entries = list(newest.items())
    elif name in newest:
        entries = [(name, entry) for entry in tag_history(store, name)]
    else:
        raise InputError(f"{store.url}: no tag {name!r}; 'chameleon-data tags {target}' lists those that are there")
    gone = {version.number for version in list_deleted(store)}
    listed = [
        tables.ListedTag(tag, t.generation, f"v{t.version}", t.created, t.version in gone, t == newest[tag]) for tag, t in entries
    ]
    print_answer(as_json, [asdict(line) for line in listed], lambda: tables.print_tags(listed, target, name is not None))


@app.command(epilog="Example: chameleon-data delete out/demo@v1")
def delete(target: OneVersion, as_json: AsJson = False) -> None:
    """Delete a version. Its number is never given again, and its files stay until gc removes them."""
    if split_target(target)[0] == target:
        raise InputError(f"{target}: name the version to delete, OUT@V; @latest is one too")
    store, version, _ = _open(target)
    delete_version(store, version, _now())
    _refresh_catalogue(store)
    tagged = [name for name, entry in list_tags(store).items() if entry.version == version.number]

    def show_deleted() -> None:
        for name in tagged:
            print_note(f"the tag {name} points to it, so to nothing now; move it: chameleon-data tag OUT@V {name}")
        removal = f"chameleon-data gc {store.url} --delete removes its files"
        out.print(f"v{version.number} is deleted; {removal}", soft_wrap=True)

    print_answer(as_json, {"version": f"v{version.number}", "deleted": True, "tags": tagged}, show_deleted)


@app.command(epilog="Example: chameleon-data gc out/demo --delete")
def gc(
    target: Dataset,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the files; without it they are only listed.")] = False,
    caches: Annotated[
        bool, typer.Option("--caches", help="Surveys, kept rows, vectors and weighings too, which a build makes again.")
    ] = False,
    older_than: Annotated[
        str,
        typer.Option(metavar="AGE", help="Builds whose record is older are taken for dead: 0, 9h, 7d. Below 1d, be sure of it."),
    ] = "7d",
    as_json: AsJson = False,
) -> None:
    """List or remove the files that nothing uses. No version refers to them, and no running build uses them."""
    from chameleon_data.versions.gc import find_garbage, remove_garbage

    store, age = open_dataset(target), parse_duration("--older-than", older_than)
    if delete:
        with show_progress() as progress:
            found = remove_garbage(store, caches, age, delay_progress(progress, "remove"))
    else:
        with show_waiting("listing the files"):
            found = find_garbage(store, caches, age)
    print_answer(as_json, tables.describe_garbage(found, delete), lambda: tables.print_garbage(found, delete, store.url))


@app.command(epilog="Example: chameleon-data report out/demo --to report.html")
def report(
    target: Target,
    to: Annotated[
        Path | None, typer.Option(help="The file to write; by default OUT/reports/vN.html, which OUT/index.html then links to.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Do not verify the shards first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the HTML report of a version, after verifying it. The exit code is 1 if a check fails."""
    from chameleon_data.corpus.clusterings import find_clustering
    from chameleon_data.evaluation.comparison import read_comparisons
    from chameleon_data.evaluation.figures import make_report_part
    from chameleon_data.views.report.domains import read_report_rows
    from chameleon_data.views.report.lengths import measure_lengths
    from chameleon_data.views.report.page import render_report

    store, version, manifest = _open(target)
    found = None if trust else _verify(store, manifest, EngineOptions())
    with show_waiting("drawing the report"):
        clustering = find_clustering(store, manifest.recipe.domains)
        parts = [make_report_part(one, n) for n, one in enumerate(read_comparisons(store, version.number))]
        rows = read_report_rows(store, manifest)
        page = render_report(
            manifest, rows, version.number, version.created, found, parts, clustering,
            measure_lengths(store, manifest, rows.shards), _find_before(store, version, manifest),
        )  # fmt: skip
    if to:
        _write_text(to, page, "the report cannot be written")
    written = str(to) if to else _write_page(store, report_path(version.number), page)
    ok = None if found is None else found.ok
    document = {"version": f"v{version.number}", "report": written, "ok": ok}
    print_answer(as_json, document, lambda: out.print(written, soft_wrap=True))
    raise typer.Exit(1 if ok is False else 0)


@app.command("evaluate", epilog="Example: chameleon-data evaluate out/demo --judge ngram")
@takes_engine_options
def evaluate_dataset(
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUT[@V]",
            help="A version. Or RECIPE.yaml: the latest one of its `out`, by its `evaluate`.",
            autocompletion=complete_target,
        ),
    ],
    passes: EngineOptions,
    judge: Annotated[JudgeName | None, typer.Option(help="Who judges, in the place of the recipe's `evaluate.judge`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare mixtures on held-out text. N-grams answer in seconds, small language models that are trained on each in minutes."""
    asked = None
    if target.endswith(RECIPE_SUFFIXES):
        recipe = load_recipe(target)
        target, asked = recipe.out, recipe.evaluate
    store, version, manifest = _open(target)
    asked = asked or manifest.recipe.evaluate
    if judge:
        asked = asked.model_copy(update={"judge": judge})
    from chameleon_data.pipelines.evaluate import evaluate_version

    with passes.start(store.url) as (runner, progress):
        found = evaluate_version(runner, store, version, manifest, asked, progress)
    from chameleon_data.evaluation.figures import standalone_svg

    drawn = {}
    for name, svg in standalone_svg(found).items():
        path = figure_path(version.number, found.judge, name)
        store.write(path, svg.encode())
        drawn[name] = f"{store.url}/{path}"
    document = {**describe_record(found), "figures": drawn}
    print_answer(as_json, document, lambda: tables.print_comparison(found, list(drawn.values())))


@app.command(epilog="Example: chameleon-data export out/demo delta")
@takes_engine_options
def export(
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUT[@V]",
            help="A version. For a trainer's file also RECIPE.yaml, which is weighed first.",
            autocompletion=complete_target,
        ),
    ],
    form: Annotated[
        Form,
        typer.Argument(
            metavar="FORM",
            help=f"A table: {', '.join(TABLE_FORMS)}. A description: {', '.join(CARD_FORMS)}. "
            f"A push: hub. A trainer's file: {', '.join(TRAINER_FORMS)}.",
        ),
    ],
    passes: EngineOptions,
    dataset: Annotated[
        str | None, typer.Argument(metavar="[ORG/NAME]", help="For hub: the dataset on the Hugging Face hub to push to.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="The folder of the table, by default in OUT; or the file to write, by default stdout.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the domains' converted data lie, for all but datasets.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export a version as a table, for a trainer or to the hub. A Delta Lake or Iceberg table refers to the shards where they
    lie; a card or Croissant metadata says what the version is; hub pushes its Parquet with its card, in one commit with a tag;
    a trainer's file holds the weights alone."""
    if (form == "hub") != (dataset is not None):
        raise InputError("export OUT@V hub ORG/NAME: names the dataset that is pushed to; no other form takes one")
    if dataset:
        _push_to_hub(target, dataset, as_json, passes)
        return
    if form in TABLE_FORMS:
        _export_table(target, form, to, as_json)
        return
    if form in CARD_FORMS:
        _export_card(target, form, to, as_json)
        return
    from chameleon_data.views.trainer_files import FILES_BESIDE, TRAINER_WRITERS, blend_of_version

    if target.endswith(RECIPE_SUFFIXES):
        blend, beside = _weigh_blend(Path(target), passes)
    else:
        store, version, manifest = _open(target)
        blend, beside = blend_of_version(f"{store.url}@v{version.number}", store, manifest), store.url.rstrip("/")
    text = TRAINER_WRITERS[form](blend, data.rstrip("/") if data else f"{beside}/{export_folder(form)}")
    beside_it = {name: write(blend) for name, write in FILES_BESIDE.get(form, {}).items()}
    for name, body in beside_it.items() if to else ():
        _write_text(Path(to or "").parent / name, body, "cannot be written")
    _print_export(form, to, text, as_json)


@app.command(epilog="Example: chameleon-data schema recipe > recipe.json")
def schema(
    record: Annotated[Literal["recipe", "manifest"], typer.Argument(metavar="RECORD", help="recipe or manifest.")],
    as_json: AsJson = False,
) -> None:
    """Print the JSON schema of a recipe or a manifest. Editors complete and check a recipe with it."""
    document = recipe_schema() if record == "recipe" else manifest_schema()
    print_answer(as_json, document, lambda: print_json(document))


def _weigh_blend(path: Path, passes: EngineOptions) -> tuple[Blend, str]:
    """The mixture of a recipe that need not have been built, and the recipe's `out`."""
    from chameleon_data.pipelines.build import weigh_recipe
    from chameleon_data.versions.provenance import list_input_files
    from chameleon_data.views.trainer_files import BlendEntry, BlendStage, make_blend

    recipe = load_recipe(path)
    with passes.start(recipe.out) as (runner, progress):
        weighed = weigh_recipe(recipe, runner, progress)
    weights = weighed.weights
    entries = [BlendEntry(c.name, float(weights.get(c.name, "0")), c.tokens, c.rows) for c in weighed.selection.counts]
    stages = [BlendStage(s.budget, {n: float(weight) for n, weight in s.mixture.decimals.items()}) for s in weighed.stages]
    inputs = list_input_files(weighed.survey)
    return make_blend(f"recipe {recipe.name}", recipe, entries, weighed.budget, inputs, stages), recipe.out


def _export_card(target: str, form: str, to: str | None, as_json: bool) -> None:
    from chameleon_data.views.croissant import croissant
    from chameleon_data.views.dataset_card import dataset_card

    if target.endswith(RECIPE_SUFFIXES):
        raise InputError(f"{target}: a {form} describes a version; build it first, then name OUT@V")
    store, version, manifest = _open(target)
    text = dataset_card(manifest, version) if form == "card" else croissant(store, manifest, version)
    _print_export(form, to, text, as_json)


def _push_to_hub(target: str, dataset: str, as_json: bool, passes: EngineOptions) -> None:
    from chameleon_data.views.hub_push import push_version

    if target.endswith(RECIPE_SUFFIXES):
        raise InputError(f"{target}: a version is pushed; build it first, then name OUT@V")
    store, version, manifest = _open(target)
    with show_progress(passes.progress_form) as show:
        pushed = push_version(store, manifest, version, dataset, lambda done, total: show("push", done, total))
    document = {"version": f"v{version.number}", "form": "hub", **asdict(pushed)}
    print_answer(as_json, document, lambda: tables.print_pushed(pushed))


def _print_export(form: str, to: str | None, text: str, as_json: bool) -> None:
    """Print an exported text, or the file that it was written to."""
    if to:
        _write_text(Path(to), text, "cannot be written")
    document = {"form": form, "to": to, "text": text}
    print_answer(as_json, document, lambda: out.print(to or text.removesuffix("\n"), soft_wrap=True))


def _export_table(target: str, form: str, to: str | None, as_json: bool) -> None:
    from chameleon_data.views.lake_tables import register_delta, register_iceberg

    if target.endswith(RECIPE_SUFFIXES):
        raise InputError(f"{target}: a table is made of a version's shards; build it first, then name OUT@V")
    store, version, manifest = _open(target)
    register = register_delta if form == "delta" else register_iceberg
    with show_waiting("registering the shards"):
        registered = register(store, manifest, version, to)
    document = {"version": f"v{version.number}", "form": form, **asdict(registered)}
    print_answer(as_json, document, lambda: tables.print_registered(registered, form, version.number))


def _store_of(folder: str | None) -> Store | None:
    return Store(folder) if folder else None


def _verify(store: Store, manifest: Manifest, passes: EngineOptions) -> Verification:
    """Prove a version in this process, or on workers where that takes more than some seconds."""
    if sum(sums.bytes for sums in manifest.formats.values()) > LARGE_VERSION:
        from chameleon_data.pipelines.verify import verify_on_engine

        with passes.start() as (runner, progress):
            return verify_on_engine(runner, store, manifest, progress)
    from chameleon_data.versions.verify import verify_version

    with show_progress(passes.progress_form) as show:
        return verify_version(store, manifest, lambda done, total: show("verify", done, total))


def _open(target: str) -> tuple[Store, Version, Manifest]:
    """The store, the version and the manifest that OUT@V names."""
    url, reference = split_target(target)
    store = open_dataset(url)
    version = resolve_version(store, reference)
    return store, version, read_manifest(store, version)


def _find_before(store: Store, version: Version, manifest: Manifest) -> Before | None:
    """The version before this one, and what changed since. None: this is the first that is left."""
    from chameleon_data.versions.diff import compare_manifests
    from chameleon_data.views.report.conclusions import Before

    earlier = [other for other in list_versions(store) if other.number < version.number]
    if not earlier:
        return None
    changes = compare_manifests((store, read_manifest(store, earlier[-1])), (store, manifest))
    return Before(earlier[-1].number, changes)


def _describe(store: Store, manifest: Manifest, shards: bool) -> dict[str, Any]:
    """The manifest as plain JSON; with its shards where asked."""
    if not shards:
        return {}
    from chameleon_data.versions.shard_table import describe_shards

    return describe_manifest(manifest) | {"shards": describe_shards(store, manifest)}


def _refresh_catalogue(store: Store) -> None:
    """Write OUT/index.html as the dataset stands now."""
    from chameleon_data.views.catalogue import refresh_catalogue

    refresh_catalogue(store, print_aside)


def _write_page(store: Store | None, path: str, page: str) -> str:
    """Write a page into a dataset and list it in its catalogue; without a store, into the current folder. Returns where it is."""
    if store is None:
        file = Path(Path(path).name)
        _write_text(file, page, "the page cannot be written")
        return str(file)
    store.write(path, page.encode())
    _refresh_catalogue(store)
    return str(store.local(path) or f"{store.url}/{path}")


def _write_text(file: Path, text: str, failure: str) -> None:
    """Write a file that --to names. Raises InputError, which begins with the path and `failure`."""
    with explaining(str(file), {OSError: lambda error: f"{failure} ({error.strerror}); choose another place with --to"}):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main() -> None:
    """Entry point. Ends in SystemExit, see exits.py."""
    run_command(app)
