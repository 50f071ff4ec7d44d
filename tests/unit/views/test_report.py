"""The report: all is on the page, nothing on it runs or comes from elsewhere, and the same manifest gives the same bytes."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from chameleon_data.corpus.clusterings import Cluster, Clustering
from chameleon_data.recipe import Group
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.versions.manifest import Manifest
from chameleon_data.versions.verify import Verification
from chameleon_data.views.report import figures
from chameleon_data.views.report.page import FORMAT_TITLES, figure_style
from chameleon_data.views.report.topics import topics_table
from chameleon_data.weights.bounds import MovedWeight
from chameleon_data.weights.mixture import MisfiledDocument
from tests.support.manifests import list_files, with_files
from tests.support.report_example import CREATED, EXAMPLES, HOSTILE, NAMES, SECTIONS, example_report, render_example


class Page(HTMLParser):
    """What a browser would see of a page: elements, references, headings and words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of <{tag}> stands twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def ten() -> tuple[Manifest, Verification]:
    return example_report()


@pytest.fixture(scope="module")
def hostile() -> tuple[Manifest, Verification]:
    return example_report(HOSTILE, samples=20)


@pytest.fixture(scope="module")
def page(ten: tuple[Manifest, Verification]) -> str:
    return render_example(ten[0], 3, CREATED, ten[1])


@pytest.fixture
def words_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Render a report without its figures, which take most of the time; returns the page."""
    for name in [name for name in vars(figures) if name.endswith("_figure")]:
        monkeypatch.setattr(figures, name, lambda *_: figures.Figure(Markup("<svg></svg>"), "caption"))

    def render(manifest: Manifest, proof: Verification | None = None, created: str | None = None) -> str:
        return render_example(manifest, None, created, proof)

    return render


def explained(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest with other values in what explains its weights."""
    return replace(manifest, weights=replace(manifest.weights, **changes))


def numbers(text: str, section: str) -> str:
    """The words of one section."""
    found = re.search(rf'<section id="{section}".*?</section>', text, re.S)
    assert found
    return Page(found[0]).text


def test_a_page_in_bytes_has_no_tokens_and_one_in_tokens_has(ten, page):
    """The recipe, which stands under provenance, has a section of that name."""
    assert ten[0].unit == "bytes"
    sections = [name for name in SECTIONS if name != "provenance"]
    found = {name: re.findall(r"\b[Tt]okens?\b", numbers(page, name)) for name in sections}
    assert not any(found.values()), found
    assert "Sizes are bytes of UTF-8, as no tokenizer is set." in Page(page).text
    other = render_example(replace(ten[0], unit="gpt2"), 3, CREATED, ten[1])
    for name in ("mixture", "epochs", "balance"):
        assert re.search(r"\b[Tt]okens\b", numbers(other, name)), name


def test_every_section_is_there_with_a_heading_and_a_link(page):
    seen = Page(page)
    assert seen.open == []
    assert [a["id"] for a in seen.all("section")] == list(SECTIONS)
    navigation = Page(re.findall(r"<nav.*?</nav>", page, re.S)[0])
    assert [a["href"] for a in navigation.all("a")] == [f"#{s}" for s in SECTIONS if s != "conclusions"]
    assert {a["href"] for a in seen.all("a")} <= {f"#{s}" for s in SECTIONS}
    ids = [a["id"] for _, a in seen.tags if "id" in a]
    assert len(ids) == len(set(ids)), "an id stands twice"
    assert {a["aria-labelledby"] for a in seen.all("section")} <= set(ids)


def test_figures_have_labels_and_tables_have_headers(page):
    seen = Page(page)
    pictures = [a for a in seen.all("svg") if a.get("aria-hidden") != "true"]
    assert len(pictures) == len(seen.all("figure")) == 8
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)
    assert len(seen.all("caption")) == len(seen.all("table"))
    assert {a.get("scope") for a in seen.all("th")} == {"row", "col"}


@pytest.mark.parametrize("names", ["plain", "hostile"])
def test_nothing_runs_and_nothing_comes_from_elsewhere(names, page, hostile):
    text = page if names == "plain" else render_example(hostile[0], 3, CREATED, hostile[1])
    seen = Page(text)
    assert {tag for tag, _ in seen.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav", "section", "h1", "h2", "h3",
        "p", "ul", "li", "dl", "dt", "dd", "div", "span", "strong", "code", "pre", "bdi", "a", "figure", "figcaption",
        "details", "summary", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "svg", "g", "defs", "path",
        "use", "text", "rect", "circle", "image", "clippath",
    }  # fmt: skip
    for tag, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on")], f"a handler on <{tag}>"
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            reference = attributes.get(name) or "#"
            assert reference.startswith("#") or (tag == "image" and reference.startswith("data:image/png;base64,")), (
                f"<{tag} {name}={reference[:40]}>"
            )
        assert not re.search(r"url\((?!#)|@import|expression", attributes.get("style") or ""), f"style of <{tag}>"
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.S))
    assert not re.search(r"url\(|@import|@font-face", styles)
    assert "default-src 'none'" in text


def test_every_colour_is_defined_for_light_and_for_dark(page):
    light, dark = re.findall(r":root \{\n(.*?)\n\}", page.split("@media print")[0], re.S)
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    assert len(used) > 15
    assert used <= set(re.findall(r"(--[\w-]+):", light))
    assert set(re.findall(r"(--[\w-]+):", light)) == set(re.findall(r"(--[\w-]+):", dark))
    assert not re.search(r"#00f[ef][0-9a-f]{2}", page), "a placeholder is left"


def test_hostile_names_are_words_on_the_page(words_of, hostile):
    manifest, proof = hostile
    source = manifest.recipe.sources[HOSTILE[0]].model_copy(update={"path": ("</pre><script>1</script>",)})
    recipe = manifest.recipe.model_copy(update={"sources": {**manifest.recipe.sources, HOSTILE[0]: source}})
    manifest = replace(manifest, name=HOSTILE[0], recipe=recipe, reused={"embed": "<b>all</b>"})
    text = words_of(manifest, replace(proof, problems=("<i>first</i>",)), CREATED)
    seen = Page(text)
    for word in (*HOSTILE, "</pre><script>1</script>", "<b>all</b>", "<i>first</i>"):
        assert word in seen.text
    assert not seen.all("script")
    assert not seen.all("img")


def test_the_same_manifest_gives_the_same_bytes(ten, page):
    assert render_example(ten[0], 3, CREATED, ten[1]) == page
    assert len(page.encode()) < 1_500_000


def test_the_headline_counts_what_was_written(ten, page):
    manifest, proof = ten
    head = page[page.index("<header>") : page.index("</header>")]
    for shown in (
        f'title="{sum(d.tokens for d in manifest.domains.values()):,} bytes"',
        ">12 MB</dd>",
        f'title="{proof.rows:,} rows, repeats included"',
        ">10</dd>",
        ">24</dd>",
        "v3",
    ):
        assert shown in head
    assert "Verified." in head
    assert "Committed 2026-01-01 00:00 UTC" in head


def test_the_verdict_has_three_states(ten, words_of):
    manifest, proof = ten
    unknown = Page(words_of(manifest)).text
    assert "Not verified" in unknown
    assert "Verified." not in unknown
    failed = Page(words_of(manifest, replace(proof, problems=("shard 3: its bytes differ",)))).text
    assert "Verification failed: 1 problem." in failed
    assert "shard 3: its bytes differ" in failed
    assert "Verified." not in failed
    many = Page(words_of(manifest, replace(proof, problems=tuple(f"problem {i}" for i in range(30))))).text
    assert "30 problems" in many
    assert "and 10 more" in many


def test_the_mixture_table_says_quota_tokens_and_distance(ten, page):
    manifest, _ = ten
    words = numbers(page, "mixture")
    for name, d in manifest.domains.items():
        off = f"{d.tokens - d.target_tokens:+,}".replace("-", "−")
        low, high = d.weight_interval
        shown = [f"{100 * d.weight:.2f} %", f"{d.tokens:,}", f"{d.rows:,}", f"{100 * low:.2f} – {100 * high:.2f} %"]
        assert name in words
        assert [s for s in shown if s not in words] == []
        assert [s for s in (f"{d.target_tokens:,}", f"{d.tokens:,}", off) if s not in numbers(page, "balance")] == []
    assert "limit of epochs" in words, "the bound that acted is named"
    words = numbers(page, "weights")
    assert f"{manifest.weights.temperature:.4g} (auto)" in words
    assert "Centreuniform" in words
    assert f"{manifest.weights.kl:.4f} nats before bounds, 0.0321 after" in words


def rows_of(page: str, caption: str) -> list[list[str]]:
    """Cells of a table, by row, head and foot with it."""
    found = re.search(rf"<caption>{caption}</caption>(.*?)</table>", page, re.S)
    assert found, f"no table {caption!r}"
    return [
        [Page(cell).text for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", found[1])
    ]


def test_other_mixtures_stand_beside_the_weights(ten, page):
    manifest, _ = ten
    head, *body, last = rows_of(page, "The weights beside other mixtures")
    assert head == ["Domain", "Weight", "Natural", "Natural^0.7", "Before bounds", "Uniform", "arxiv.json"]
    given = manifest.weights.mixtures
    keys = ("natural", "natural^0.7", "unbounded", "uniform", "/data/arxiv.json")
    weight = {n: d.weight for n, d in manifest.domains.items()}
    assert {row[0]: row[1:] for row in body} == {
        n: [f"{100 * share:.2f} %" for share in (w, *(given[key][n] for key in keys))] for n, w in weight.items()
    }
    divergences = [sum(w * np.log(w / given[key][n]) for n, w in weight.items()) for key in keys]
    assert last == ["Divergence, nats", "", *(f"{d:.4f}" for d in divergences)]


def test_a_mixture_without_a_domain_is_infinitely_far_and_files_of_one_name_keep_their_paths(ten, words_of):
    none_of_it = {n: 1 / 9 for n in NAMES if n != "book"}
    beside = {"/a/mix.json": none_of_it, "/b/mix.json": dict.fromkeys(NAMES, 0.1), "s3://x/<b>out@v2": dict.fromkeys(NAMES, 0.1)}
    text = words_of(explained(ten[0], mixtures=beside))
    head, *_, last = rows_of(text, "The weights beside other mixtures")
    assert head[2:] == ["/a/mix.json", "/b/mix.json", "<b>out@v2"]
    assert last[2] == "∞"


def test_neighbours_are_the_three_that_lower_most(ten, page):
    head, *body = rows_of(page, "The domains that lower each one&#39;s leverage")
    assert head == ["Domain", "Lowered most by", "then by", "then by"]
    for name, *cells in body:
        for cell, by in zip(cells, ten[0].weights.neighbours[name], strict=False):
            cosine = f"{by.cosine:.2f}".replace("-", "−")
            assert cell == f"\u2068{by.domain}\u2069 {100 * by.lowers:.1f} %, cosine {cosine}"  # Page makes spaces plain
    assert "opposite across the centre" in numbers(page, "leverage")


def test_the_nearest_ten_pairs_and_the_warnings_of_near_duplicates(ten, page):
    about = ten[0].weights
    _, *body = rows_of(page, "The pairs of domains that are least apart")
    assert [row[:3] for row in body] == [[p.first, p.second, f"{p.separation:.3f}".replace("-", "−")] for p in about.pairs[:10]]
    assert about.near_duplicates[0] in numbers(page, "affinity")


def test_misfiled_documents_are_twenty_and_their_text_is_short(ten, page):
    _, *body = rows_of(page, "Documents nearer to another domain")
    found = ten[0].weights.misfiled
    assert len(found) == 25
    assert [[row[0], row[1], row[4]] for row in body] == [[m.domain, m.nearest, m.document] for m in found[:20]]
    assert all(len(row[3]) <= 120 for row in body)
    assert "<script>document.title='owned'</script> 0 w" in body[0][3]


def test_other_settings_are_a_grid_that_marks_the_one_in_use(ten, page, words_of):
    about = ten[0].weights
    head, *body = rows_of(page, "The mixture at other ridges and temperatures")
    assert (len(head), len(body)) == (6, 5)
    cells = [cell for row in body for cell in row[1:]]
    used = (about.ridge, about.temperature)
    assert [cell for cell in cells if "in use" in cell] == [cells[12]]
    for cell, s in zip(cells, about.sensitivity, strict=True):
        if (s.ridge, s.temperature) != used:
            assert cell == f"{100 * s.moved:.1f} %, {s.effective_domains:.2f}"
    first = replace(about.sensitivity[0], weights=None, effective_domains=None, moved=None, refused="too <b>cold</b>")
    text = words_of(explained(ten[0], sensitivity=(first, *about.sensitivity[1:])))
    assert rows_of(text, "The mixture at other ridges and temperatures")[1][1] == "refused"
    assert "Refused: too <b>cold</b>." in numbers(text, "leverage")


def test_what_embedded_and_how_many_samples_it_took(page):
    shown = html.unescape(page)
    assert f"{HOSTILE[0]}, layer middle" in shown
    assert "64: ±0.040 → 1,024: ±0.009" in shown


def test_landmarks_and_their_measured_error(ten, page, words_of):
    words = numbers(page, "weights")
    landmarks = "1,256, of an earlier version, digest fefefefefefe"
    for shown in ("rbf, bandwidth 0.718", landmarks, "0.0031, measured on held-out samples; not a proved"):
        assert shown in words
    assert "at most 9.0 % of a domain (\u2068wikipedia\u2069)" in words
    assert "Exact leverage, provedat most 0.01 above the computed one (\u2068wikipedia\u2069)" in words
    assert "Compareddomains by their means" in words
    landmarks = replace(ten[0].weights.nystrom, error=None, residuals={})
    text = words_of(explained(ten[0], level="sample", affinity=None, nystrom=landmarks))
    assert "could not be measured" in numbers(text, "weights")
    assert "Comparedsamples" in numbers(text, "weights")
    assert "needs no affinity of domains" in numbers(text, "affinity")
    assert "Least apart" in numbers(text, "affinity")


def test_the_bounds_of_groups_name_their_domains(ten, words_of):
    manifest, _ = ten
    groups = {"code": Group(domains=("github", "technical"), cap=0.15)}
    recipe = manifest.recipe.model_copy(update={"weights": manifest.recipe.weights.model_copy(update={"groups": groups})})
    acted = MovedWeight("code", "group cap", 0.2, 0.15, 0.5)
    moved = (acted, replace(acted, domain="gone", bound="group floor"))
    text = words_of(explained(replace(manifest, recipe=recipe), moved=moved))
    head, first, second = rows_of(text, "Bounds that moved a weight")
    assert head[0] == "Domain or group"
    assert first == ["code", "cap of the group: \u2068github\u2069, \u2068technical\u2069", "20.00 %", "15.00 %", "0.500"]
    assert second[1] == "floor of the group"


def test_what_explains_the_weights_may_be_absent(words_of):
    """Weights from a file, one domain: neither a box nor a heading without its content."""
    headings = (
        "Beside other mixtures", "Neighbours that lower", "Least apart", "Documents nearer", "Other settings", "Landmarks",
        "Compared",
    )  # fmt: skip
    cases = {"given": example_report(given=True)[0], "one": example_report(("only",), budget=3_000_000, shards=1)[0]}
    for case, one in cases.items():
        words = Page(words_of(one)).text
        shown = [heading for heading in headings if heading in words]
        assert shown == (["Beside other mixtures"] if case == "given" else []), case


def test_the_worst_points_are_those_that_verify_found(ten, page, words_of):
    _, proof = ten
    words = numbers(page, "balance")
    for label, worst in (("the whole", proof.whole), ("all shards", proof.shard), ("all prefixes", proof.prefix)):
        assert f"{label}{worst.domain}{worst.where}{worst.tokens:,.0f}{worst.bound:,}{100 * worst.share:.0f} %" in words
    assert "only to chameleon-data verify" in numbers(words_of(ten[0]), "balance")


def test_quarantine_and_books(ten, page, words_of):
    manifest, _ = ten
    words = numbers(page, "quarantine")
    assert f"{sum(d.quarantined for d in manifest.domains.values())} of" in words
    assert "broken JSON" in words
    assert numbers(page, "books").count("✓ balanced") == 11
    book = manifest.domains["book"]
    domains = {**manifest.domains, "book": replace(book, rows_not_selected=book.rows_not_selected - 1)}
    text = words_of(replace(manifest, quarantine={}, domains=domains))
    assert "✗ +1" in numbers(text, "books")
    assert "✗ 1 broken" in numbers(text, "books")
    assert "Nothing was quarantined" in numbers(text, "quarantine")


def test_provenance_and_timings(ten, page):
    manifest, _ = ten
    words = numbers(page, "provenance")
    assert all(getattr(manifest, key) in words for key in ("digest", "content_digest", "plan_digest", "build"))
    assert "max_epochs: 4.0" in words
    assert "30 input files" in words
    assert "/data/corpora/book/part-2.jsonl.zst" in words
    assert "embedded 1 of 10 domains" in numbers(page, "timings")
    assert "62.5" in numbers(page, "timings")


def test_timings_stand_in_the_order_of_the_passes(ten, words_of):
    manifest, _ = ten
    sorted_by_name = dict(sorted({**manifest.timings, "another": 1.0}.items()))
    rows = rows_of(words_of(replace(manifest, timings=sorted_by_name)), "Seconds that each pass took")
    assert [row[0] for row in rows[1:]] == ["survey", "embed and weigh", "plan", "write", "another", "All"]


def test_an_estimate_stands_beside_what_a_pass_took(ten, words_of):
    manifest, _ = ten
    timings, expected = {"survey": 10.0, "embed and weigh": 20.0, "write": 5.0}, {"survey": 12.5, "write": 4.0}
    words = words_of(replace(manifest, timings=timings, expected=expected, reused={"write": "some were there"}))
    rows = {row[0]: row[-2:] for row in rows_of(words, "Seconds that each pass took")}
    assert rows["survey"] == ["12.5", "+25%"]
    assert rows["embed and weigh"] == ["", ""]
    assert rows["write"] == ["4.0", "not comparable: some was done before"]


def test_formats_are_called_by_their_names(ten, words_of):
    names = {"mds": "webdataset", "parquet": "jsonl"}
    files = [{**file, "format": names[file["format"]]} for file in list_files(EXAMPLES, ten[0])]
    words = Page(words_of(with_files(EXAMPLES, ten[0], files))).text
    assert "as WebDataset" in words
    assert "as JSON lines" in words
    assert set(FORMATS) == set(FORMAT_TITLES)


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        ("/a/very/long/path/gpt2/tokenizer.json", "Tokens are those of …/gpt2/tokenizer.json."),
        ("s3://bucket/models/llama/", "Tokens are those of …/models/llama."),
        ("openai-community/gpt2", "Tokens are those of openai-community/gpt2."),
        ("bytes", "Sizes are bytes of UTF-8, as no tokenizer is set."),
    ],
)
def test_the_tokenizer_is_named_shortly_and_in_full(ten, words_of, unit, shown):
    text = words_of(replace(ten[0], unit=unit))
    assert shown in Page(text).text
    assert unit == "bytes" or f'title="{unit}"' in text


@pytest.mark.parametrize(
    ("shards", "ticks"), [(1, [0]), (2, [0, 1]), (7, [*range(7)]), (8, [0, 2, 4, 6]), (36, [0, 10, 20, 30]), (2_000, None)]
)
def test_shards_are_counted_in_whole_numbers(shards, ticks):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    figures._shard_axis(axes, shards)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ([f"{tick}" for tick in ticks] if ticks else ["0", "500", "1,000", "1,500"])
    assert [round(tick - 0.5, 9) for tick in axes.get_xticks()] == [int(label.replace(",", "")) for label in labels]


@pytest.mark.parametrize(
    ("margins", "said"),
    [
        ([0.3, 0.2, 0.1], "3 sampled documents are listed, the largest margin first; 2 of them are above 0.15"),
        ([0.1], "1 sampled document is listed, the largest margin first; none of them are above 0.15"),
        ([0.4] * 25, "20 sampled documents are listed, the largest margin first; 20 of them are above 0.15"),
    ],
)
def test_the_sentence_on_misfiled_documents_is_of_these_data(ten, words_of, margins, said):
    misfiled = tuple(MisfiledDocument("book", 0, "c4", margin, "d", "t") for margin in margins)
    text = words_of(explained(ten[0], misfiled=misfiled))
    assert said in numbers(text, "map")


def test_given_weights_leave_no_empty_boxes(words_of):
    text = words_of(*example_report(given=True))
    assert "no leverage was computed" in numbers(text, "leverage")
    assert "No affinity was computed" in numbers(text, "affinity")
    assert "there is no map" in numbers(text, "map")
    assert "/data/<b>weights</b>.json" in numbers(text, "weights")
    assert "90 % interval" not in numbers(text, "mixture")
    assert len(Page(text).all("figure")) == 5


def test_a_single_domain(words_of):
    text = words_of(*example_report(("only",), budget=3_000_000, shards=1))
    assert "nothing to compare it with" in numbers(text, "leverage")
    assert "100.00 %" in numbers(text, "mixture")


def test_what_a_version_lacks_is_said(ten, words_of):
    text = words_of(replace(ten[0], tables=replace(ten[0].tables, map=()), timings={}, reused={}))
    assert "there is no map" in numbers(text, "map")
    assert "No timings were recorded" in numbers(text, "timings")
    assert "Nothing was reused" in numbers(text, "timings")


def test_many_domains_are_cut_where_it_says_so(monkeypatch):
    monkeypatch.setattr(figures, "MAP_POINTS_DRAWN", 1_000)
    names = [f"domain-{i:03}" for i in range(70)]
    manifest, proof = example_report(names, budget=3_000_000, samples=30, shards=130)
    text = render_example(manifest, None, CREATED, proof)
    assert "The 24 largest of 70 domains" in numbers(text, "mixture")
    scatter = text[text.index('id="mixture"') : text.index("Weight, the share of")]
    assert scatter.count("<use ") >= 70, "each domain is a point"
    assert all(name in numbers(text, "mixture") for name in names), "the table holds all"
    assert "Too many domains to name here (70)" in numbers(text, "affinity")
    assert "Drawn: 700 of 2,100 documents" in numbers(text, "map")
    assert "46 smaller domains" in numbers(text, "map")


@pytest.mark.parametrize(("clusters", "characters"), [(10, 160), (30, 60)])
def test_examples_of_many_discovered_domains_are_short(ten, clusters, characters):
    manifest = ten[0]
    names = [*manifest.domains, *(f"gone-{i}" for i in range(clusters - len(manifest.domains)))]
    terms = tuple(f"term{i}" for i in range(8))
    found = tuple(Cluster(name, "", 20, 1 / clusters, terms, names[0], ("x" * 160, "y" * 160, "z" * 160)) for name in names)
    table = topics_table(Clustering(1, "k", "t", found, 600, 0.5, 3, 1, 0.9, None, 0, 256, "e", "cpu"), manifest)
    assert sorted(row[0] for row in table.rows) == sorted(manifest.domains)
    for row in table.rows:
        assert row[-1] == " ¶ ".join(letter * characters for letter in "xyz")
        assert row[4] == "term0, term1, term2, term3, term4, term5"


def test_alike_domains_stand_side_by_side():
    """Two blocks, interleaved: the heat map's order puts each block together."""
    block = np.arange(8) % 2
    affinity = np.where(block[:, None] == block[None], 0.5, -0.5) + 0.5 * np.eye(8)
    order = figures.alike_together(affinity)
    assert sorted(order) == list(range(8))
    assert np.abs(np.diff(block[order])).sum() == 1


def test_the_heat_map_marks_pairs_and_says_which_in_words() -> None:
    affinity = np.eye(4) - 0.1
    marks = np.zeros((4, 4), int)
    marks[0, 1] = marks[1, 0] = 1
    marks[2, 3] = marks[3, 2] = marks[0, 3] = marks[3, 0] = -1
    with figure_style():
        marked = figures.affinity_figure(affinity.tolist(), "abcd", marks.tolist())
        plain = figures.affinity_figure(affinity.tolist(), "abcd", np.zeros((4, 4), int).tolist())
        unknown = figures.affinity_figure(affinity.tolist(), "abcd", None)
        many = figures.affinity_figure(np.eye(70).tolist(), [str(i) for i in range(70)], np.eye(70, k=1, dtype=int).tolist())
    label = re.search(r'aria-label="([^"]*)"', marked.svg)
    assert label
    pairs = {kind: re.search(rf"Pairs {kind} than noise explains: ([^.]*)", label[1]) for kind in ("closer", "farther")}
    named = {kind: {frozenset(pair.split(" and ")) for pair in found[1].split("; ")} for kind, found in pairs.items() if found}
    assert named == {"closer": {frozenset("ab")}, "farther": {frozenset("cd"), frozenset("ad")}}
    assert [key.label for key in marked.legend][2:] == ["closer than noise explains", "farther than noise explains"]
    assert marked.note
    assert marked.note.startswith("Of 6 pairs, 1 is closer and 2 farther apart")
    assert marked.svg.count("<use") == plain.svg.count("<use") + 6, "each mark stands on both sides of the diagonal"
    assert (len(plain.legend), unknown.note) == (2, None)
    assert many.note
    assert len(many.legend) == 2, "cells too small for marks"
    assert "Pairs closer than noise explains" in many.svg
