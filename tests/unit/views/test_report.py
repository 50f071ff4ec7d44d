"""The report: all is on the page, nothing on it runs or comes from elsewhere, and the same manifest gives the same bytes."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from chameleon_data.hashing import key64
from chameleon_data.plan.plan import PHASE_BITS
from chameleon_data.recipe import Leverage, Weights
from chameleon_data.shards.formats.registry import FORMATS
from chameleon_data.versions.row_order import BalanceCheck
from chameleon_data.versions.verify import Verification
from chameleon_data.views.report.figures import _shard_axis, alike_together
from chameleon_data.views.report.page import NAMES_LISTED as NAMES_OF_FORMATS
from chameleon_data.views.report.page import render_report
from chameleon_data.weights.affinity import domain_statistics, moments
from chameleon_data.weights.bounds import bound_weights
from chameleon_data.weights.explain import find_misfiled, find_neighbours, nearest_pairs, sensitivity_table
from chameleon_data.weights.published import comparison_mixtures
from chameleon_data.weights.weigh import domain_weights

NAMES = ("arxiv", "book", "c4", "cc", "github", "legal", "medical", "stackexchange", "technical", "wikipedia")
HOSTILE = (
    "<script>document.title='owned'</script>", "\"quoted\" & 'quoted' onload=alert(1)", "$x^2_{oops}$ \\frac",
    "متن فارسی و عربی", "網頁語料庫", "</style></svg><img src=http://x.invalid/a.png>", "a-name-of-200-characters-" + "x" * 175,
    "{{ manifest }} {% raw %}", "🦎", "plain",
)  # fmt: skip
SECTIONS = ("mixture", "leverage", "affinity", "map", "epochs", "balance", "quarantine", "books", "provenance", "timings")
CREATED = "2026-01-01T00:00:00+00:00"


def example(
    names: Sequence[str] = NAMES, *, budget: int = 12_000_000, shards: int = 24, samples: int = 256, given: bool = False
) -> tuple[dict[str, Any], Verification]:
    """A manifest and its verification, with the real weights of made-up embeddings and the real order of made-up rows."""
    rng, k = np.random.default_rng(0), len(names)
    about, map_ = _weights(rng, names, samples) if k > 2 and not given else _given(names)
    counts = rng.integers(300, 3_000, k)
    counts[k // 2] = 40 if k > 2 else 800  # one that the limit of epochs holds back
    sizes = {n: rng.lognormal(7.6, 1.0, c).clip(40, 60_000).astype(np.int64) for n, c in zip(names, counts, strict=True)}
    feasible = bound_weights(about["target"], epoch_cap={n: 4 * int(s.sum()) / budget for n, s in sizes.items()})
    about["moved"], weight = [asdict(m) for m in feasible.moved], {n: float(d) for n, d in feasible.decimals.items()}
    tokens = {n: int(s.sum()) for n, s in sizes.items()}
    about["mixtures"] = comparison_mixtures(tokens, about["target"], {f"/data/{names[0]}.json": dict.fromkeys(names, 1 / k)})
    quota = {n: int(budget * weight[n]) for n in names}
    written, balance = _place(names, sizes, quota, shards)
    domains, quarantine = {}, {}
    for index, n in enumerate(names):
        mine, available = written[written[:, 0] == index], len(sizes[n])
        once, bad = min(len(mine), available), 3 if index % 4 == 1 else 0
        if bad:
            quarantine[n] = {"the text is empty": 2, "broken JSON": 1}
        domains[n] = {
            "weight": weight[n], "target_tokens": quota[n], "tokens": int(mine[:, 1].sum()), "rows": len(mine),
            "epochs": mine[:, 1].sum() / sizes[n].sum(), "available_tokens": int(sizes[n].sum()),
            "available_rows": available, "available_bytes": int(sizes[n].sum()), "largest_document": int(sizes[n].max()),
            "multiset": f"{index:032x}", "rows_read": available + bad, "rows_written_once": once,
            "rows_not_selected": available - once, "quarantined": bad, "held_out": 0, "copies_dropped": 0,
            "copies_written": 0, "most_copies": 1, "score": about["scores"][n],
            "weight_interval": about["intervals"][n],
        }  # fmt: skip
    files = []
    for form, scale in (("parquet", 0.38), ("mds", 0.41)):
        for s in range(shards):
            here = written[written[:, 2] == s]
            by = {n: here[here[:, 0] == i] for i, n in enumerate(names)}
            files.append(
                {
                    "path": f"builds/{'ab' * 32}/{form}/shard.{s:05}.{form}",
                    "format": form,
                    "split": "train",
                    "shard": s,
                    "rows": len(here),
                    "tokens": int(here[:, 1].sum()),
                    "bytes": int(scale * here[:, 1].sum()),
                    "sha256": f"{s:064x}",
                    "domain_tokens": {n: int(r[:, 1].sum()) for n, r in by.items()},
                    "domain_rows": {n: len(r) for n, r in by.items()},
                }
            )
    prefix = max(balance.prefix, key=lambda w: w.share)
    proof = Verification(
        (), len(files), len(written), sum(f["bytes"] for f in files), balance.whole, balance.shard, prefix,
        {w.domain: w for w in balance.prefix},
    )  # fmt: skip
    recipe = {
        "name": "ten-domains", "out": "/data/out/ten-domains", "seed": 0,
        "sources": {n: {"path": [f"/data/corpora/{n}/*.jsonl.zst"], "text": "text", "id": None} for n in names},
        "input": {"hash": "text", "max_bad": 0.001}, "leverage": {"preset": "default", "kernel": "linear", "ridge": "auto"},
        "weights": {"objective": "pretrain", "temperature": "auto"},
        "mix": {"budget": budget, "max_epochs": 4.0, "exhausted": "redistribute"},
        "shards": {"formats": ["parquet", "mds"], "size": 67108864},
    }  # fmt: skip
    manifest = {
        "format": 1,
        "version": "v3",
        "name": "ten-domains",
        "recipe": recipe,
        "plan_digest": "ab" * 32,
        "digest": "cd" * 32,
        "content_digest": "ef" * 32,
        "build": f"builds/{'ab' * 32}",
        "seed": 0,
        "shard_count": shards,
        "shard_counts": {"train": shards},
        "validation": {},
        "unit": "bytes",
        "hash": "text",
        "domains": domains,
        "weights": about,
        "quarantine": quarantine,
        "shards": files,
        "map": map_,
        "timings": {"survey": 12.4, "embed and weigh": 31.0, "plan": 0.42, "write": 18.7},
        "reused": {"embed": f"embedded 1 of {k} domains"},
        "provenance": {
            "inputs": [
                {
                    "source": n,
                    "url": f"/data/corpora/{n}/part-{i}.jsonl.zst",
                    "row_group": None,
                    "bytes": 9_000_000 + i,
                    "identity": f"{i}-{n}",
                }
                for n in names
                for i in range(3)
            ],
            "tokenizer": "bytes",
            "packages": {"chameleon-data": "0.1.0", "polars": "2.1.0", "ray": "2.60.0"},
            "writer": {},
            "python": "3.11.9",
        },
    }
    return manifest, proof


def _weights(rng: np.random.Generator, names: Sequence[str], samples: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Domains around three centres, with radii of their own."""
    k, p = len(names), 48
    centres = rng.normal(size=(3, p))
    vectors = {}
    for i, n in enumerate(names):
        mean = 1.2 * centres[i % 3] + (0.7 + 0.9 * rng.random()) * rng.normal(size=p)
        x = mean + 1.6 * rng.normal(size=(samples, p)) * np.geomspace(2, 0.3, p)
        vectors[n] = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = domain_weights(vectors)
    pooled = np.concatenate(list(vectors.values()))
    flat = (pooled - pooled.mean(0)) @ np.linalg.svd(pooled - pooled.mean(0), full_matrices=False)[2][:2].T
    map_ = {n: np.round(flat[i * samples : (i + 1) * samples], 4).tolist() for i, n in enumerate(names)}
    assert found.affinity is not None
    ordered = sorted(names, key=str.encode)
    assert found.ridge is not None
    statistics = domain_statistics(vectors)
    lowered = find_neighbours(list(found.weights), found.affinity, found.ridge * len(names))
    pairs = nearest_pairs(statistics.names, moments(statistics))
    about = {
        "origin": "computed", "objective": "pretrain", "preset": "default", "kernel": "linear", "ridge": found.ridge,
        "temperature": found.temperature, "effective_domains": found.effective_domains, "clipped_mass": found.clipped_mass,
        "warnings": [f"{names[1]!r} and {names[4]!r} are nearly the same"] if k > 4 else [], "names": ordered,
        "affinity": found.affinity.tolist(), "intervals": found.intervals, "scores": found.scores,
        "rank_stability": found.rank_stability, "target": found.weights, "variance_of_mean": found.variance_of_mean,
        "moved": [], "level": "domain", "pairs": [asdict(p) for p in pairs],
        "near_duplicates": [f"{names[0]!r} and {names[-1]!r} look like one domain"],
        "neighbours": {n: [asdict(x) for x in some] for n, some in lowered.items()},
        "sensitivity": [asdict(s) for s in sensitivity_table(statistics, Leverage(), Weights())] if len(names) < 40 else [],
        "misfiled": [
            {**asdict(m), "document": f"{i:032x}", "text": f"{HOSTILE[i % 10]} {i} " + "w" * 300}
            for i, m in enumerate(find_misfiled(vectors, most=25))
        ],
        "nystrom": {
            "kernel": {"name": "rbf", "bandwidth": 0.71828, "degree": 2}, "landmarks": 1_256, "error": 0.00314,
            "residuals": {n: i / 100 for i, n in enumerate(ordered)}, "digest": "fe" * 32, "recorded": True,
            "bounds": {n: [0.1, 0.1 + (i + 1) / 1000] for i, n in enumerate(ordered)},
        },
        "embedder": {"model": HOSTILE[0], "layer": "middle", "revision": None, "window": 256, "fingerprint": "ab" * 32},
        "rounds": [{"samples": 64, "widest": 0.08, "domain": names[0], "narrow": False, "said": "64"},
                   {"samples": 1_024, "widest": 0.018, "domain": names[0], "narrow": True, "said": "1,024"}],
    }  # fmt: skip
    return about, map_


def _given(names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    shares = {n: 2 * (i + 1) / (len(names) * (len(names) + 1)) for i, n in enumerate(sorted(names))}
    nothing = dict.fromkeys(names)
    about = {
        "origin": "computed" if len(names) == 1 else "/data/<b>weights</b>.json", "objective": "pretrain",
        "preset": "default", "kernel": "linear", "ridge": None, "temperature": None, "effective_domains": float(len(names)),
        "clipped_mass": 0.0, "warnings": [], "names": list(names), "affinity": None, "intervals": dict(nothing),
        "scores": dict(nothing), "rank_stability": dict(nothing), "target": shares, "variance_of_mean": dict(nothing),
        "moved": [], "level": "domain", "nystrom": None,
    }  # fmt: skip
    return about, {}


def _place(names: Sequence[str], sizes: dict[str, Any], quota: dict[str, int], shards: int) -> tuple[Any, BalanceCheck]:
    """Rows (domain, tokens, shard) in output order, and what `verify` would say of them."""
    rows = []
    for index, n in enumerate(names):
        tokens = np.tile(sizes[n], 1 + quota[n] // int(sizes[n].sum()))
        anchor = np.cumsum(tokens) - tokens + ((tokens * (key64(0, n, "phase") >> (64 - PHASE_BITS))) >> PHASE_BITS)
        kept = anchor < quota[n]
        rows.append(np.stack([np.full(kept.sum(), index), tokens[kept], anchor[kept] / quota[n]], axis=1))
    merged = np.concatenate(rows)
    merged = merged[np.lexsort((merged[:, 0], merged[:, 2]))]
    balance = BalanceCheck(list(names), [quota[n] for n in names], [int(sizes[n].max()) for n in names], shards, 0)
    merged[:, 2] = np.floor(merged[:, 2] * shards)
    written = merged.astype(np.int64)
    for s in range(shards):
        here = written[written[:, 2] == s]
        balance.add(s, here[:, 0], here[:, 1], here[:, 1])
    return written, balance


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
def ten() -> tuple[dict[str, Any], Verification]:
    return example()


@pytest.fixture(scope="module")
def page(ten: tuple[dict[str, Any], Verification]) -> str:
    return render_report(*ten, CREATED)


def numbers(text: str, section: str) -> str:
    """The words of one section."""
    found = re.search(rf'<section id="{section}".*?</section>', text, re.S)
    assert found
    return Page(found[0]).text


def test_every_section_is_there_with_a_heading_and_a_link(page):
    seen = Page(page)
    assert seen.open == []
    assert [a["id"] for a in seen.all("section")] == list(SECTIONS)
    assert [a["href"] for a in seen.all("a")] == [f"#{s}" for s in SECTIONS]
    ids = [a["id"] for _, a in seen.tags if "id" in a]
    assert len(ids) == len(set(ids)), "an id stands twice"
    assert {a["aria-labelledby"] for a in seen.all("section")} <= set(ids)


def test_figures_have_labels_and_tables_have_headers(page):
    seen = Page(page)
    pictures = [a for a in seen.all("svg") if a.get("aria-hidden") != "true"]
    assert len(pictures) == len(seen.all("figure")) == 7
    assert all(a["role"] == "img" and a["aria-label"] for a in pictures)
    assert len(seen.all("caption")) == len(seen.all("table"))
    assert {a.get("scope") for a in seen.all("th")} == {"row", "col"}


@pytest.mark.parametrize("names", [NAMES, HOSTILE], ids=["plain", "hostile"])
def test_nothing_runs_and_nothing_comes_from_elsewhere(names):
    text = render_report(*example(names, samples=20), CREATED)
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


def test_hostile_names_are_words_on_the_page():
    manifest, proof = example(HOSTILE, samples=20)
    manifest["name"] = HOSTILE[0]
    manifest["recipe"]["sources"][HOSTILE[0]]["path"] = ["</pre><script>1</script>"]
    manifest["reused"] = {"embed": "<b>all</b>"}
    text = render_report(manifest, replace(proof, problems=("<i>first</i>",)), "<u>now</u>")
    seen = Page(text)
    for word in (*HOSTILE, "</pre><script>1</script>", "<b>all</b>", "<i>first</i>", "<u>now</u>"):
        assert word in seen.text
    assert not seen.all("script")
    assert not seen.all("img")


def test_the_same_manifest_gives_the_same_bytes(ten, page):
    assert render_report(*ten, CREATED) == page
    assert len(page.encode()) < 1_500_000


def test_the_headline_counts_what_was_written(ten, page):
    manifest, proof = ten
    head = page[page.index("<header>") : page.index("</header>")]
    for shown in (
        f'title="{sum(d["tokens"] for d in manifest["domains"].values()):,}"',
        f'title="{proof.rows:,} rows, repeats included"',
        ">10</dd>",
        ">24</dd>",
        "v3",
    ):
        assert shown in head
    assert "Verified." in head
    assert CREATED in head


def test_the_verdict_has_three_states(ten):
    manifest, proof = ten
    unknown = Page(render_report(manifest, None, None)).text
    assert "Not verified" in unknown
    assert "Verified." not in unknown
    failed = render_report(manifest, replace(proof, problems=("shard 3: its bytes differ",)), CREATED)
    assert "Verification failed: 1 problem." in Page(failed).text
    assert "shard 3: its bytes differ" in Page(failed).text
    assert "Verified." not in Page(failed).text
    many = Page(render_report(manifest, replace(proof, problems=tuple(f"problem {i}" for i in range(30))), CREATED)).text
    assert "30 problems" in many
    assert "and 10 more" in many


def test_the_mixture_table_says_quota_tokens_and_distance(ten, page):
    manifest, _ = ten
    words = numbers(page, "mixture")
    for name, d in manifest["domains"].items():
        off = d["tokens"] - d["target_tokens"]
        shown = [
            f"{100 * d['weight']:.2f} %", f"{d['target_tokens']:,}", f"{d['tokens']:,}", f"{off:+,}".replace("-", "−"),
            f"{d['rows']:,}",
        ]  # fmt: skip
        low, high = d["weight_interval"]
        assert name in words
        assert all(s in words for s in [*shown, f"{100 * low:.2f} – {100 * high:.2f} %"])
    assert "limit of epochs" in words, "the bound that acted is named"
    assert f"{manifest['weights']['temperature']:.4g} (auto)" in words


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
    assert head == ["Domain", "Weight", "Natural", "Natural^0.7", "By leverage alone", "Uniform", "arxiv.json"]
    given = manifest["weights"]["mixtures"]
    keys = ("natural", "natural^0.7", "target", "uniform", "/data/arxiv.json")
    weight = {n: d["weight"] for n, d in manifest["domains"].items()}
    assert {row[0]: row[1:] for row in body} == {
        n: [f"{100 * share:.2f} %" for share in (w, *(given[key][n] for key in keys))] for n, w in weight.items()
    }
    divergences = [sum(w * np.log(w / given[key][n]) for n, w in weight.items()) for key in keys]
    assert last == ["Divergence, nats", "", *(f"{d:.4f}" for d in divergences)]


def test_a_mixture_without_a_domain_is_infinitely_far_and_files_of_one_name_keep_their_paths(ten):
    manifest, _ = ten
    none_of_it = {n: 1 / 9 for n in NAMES if n != "book"}
    beside = {"/a/mix.json": none_of_it, "/b/mix.json": dict.fromkeys(NAMES, 0.1), "s3://x/<b>out@v2": dict.fromkeys(NAMES, 0.1)}
    text = render_report({**manifest, "weights": {**manifest["weights"], "mixtures": beside}}, None, None)
    head, *_, last = rows_of(text, "The weights beside other mixtures")
    assert head[2:] == ["/a/mix.json", "/b/mix.json", "<b>out@v2"]
    assert last[2] == "∞"


def test_neighbours_are_the_three_that_lower_most(ten, page):
    head, *body = rows_of(page, "The domains that lower each one&#39;s leverage")
    assert head == ["Domain", "Lowered most by", "then by", "then by"]
    for name, *cells in body:
        for cell, by in zip(cells, ten[0]["weights"]["neighbours"][name], strict=False):
            cosine = f"{by['cosine']:.2f}".replace("-", "−")
            assert cell == f"\u2068{by['domain']}\u2069 {100 * by['lowers']:.1f} %, cosine {cosine}"  # Page makes spaces plain
    assert "opposite across the centre" in numbers(page, "leverage")


def test_whole_numbers_for_shares_are_numbers_too(ten):
    """JSON may say 0 for 0.0."""
    about = ten[0]["weights"]
    text = render_report(
        {
            **ten[0],
            "weights": {
                **about,
                "neighbours": {
                    n: [{"domain": "cc", "lowers": 0, "cosine": 0}, *some[1:]] for n, some in about["neighbours"].items()
                },
                "pairs": [{**about["pairs"][0], "separation": 0, "cosine": 1}, *about["pairs"][1:]],
                "misfiled": [{**about["misfiled"][0], "margin": 1}, *about["misfiled"][1:]],
            },
        },
        None,
        None,
    )
    assert rows_of(text, "The pairs of domains that are least apart")[1][2:] == ["0.000", "1.00"]
    assert "\u2068cc\u2069 0.0 %, cosine 0.00" in numbers(text, "leverage")


def test_the_nearest_ten_pairs_and_the_warnings_of_near_duplicates(ten, page):
    about = ten[0]["weights"]
    _, *body = rows_of(page, "The pairs of domains that are least apart")
    assert [row[:3] for row in body] == [
        [p["first"], p["second"], f"{p['separation']:.3f}".replace("-", "−")] for p in about["pairs"][:10]
    ]
    assert about["near_duplicates"][0] in numbers(page, "affinity")


def test_misfiled_documents_are_twenty_and_their_text_is_short(ten, page):
    _, *body = rows_of(page, "Documents nearer to another domain")
    found = ten[0]["weights"]["misfiled"]
    assert len(found) == 25
    assert [[row[0], row[1], row[4]] for row in body] == [[m["domain"], m["nearest"], m["document"]] for m in found[:20]]
    assert all(len(row[3]) <= 120 for row in body)
    assert "<script>document.title='owned'</script> 0 w" in body[0][3]


def test_other_settings_are_a_grid_that_marks_the_one_in_use(ten, page):
    manifest, _ = ten
    about = manifest["weights"]
    head, *body = rows_of(page, "The mixture at other ridges and temperatures")
    assert (len(head), len(body)) == (6, 5)
    cells = [cell for row in body for cell in row[1:]]
    used = (about["ridge"], about["temperature"])
    assert [cell for cell in cells if "in use" in cell] == [cells[12]]
    for cell, s in zip(cells, about["sensitivity"], strict=True):
        if (s["ridge"], s["temperature"]) != used:
            assert cell == f"{100 * s['moved']:.1f} %, {s['effective_domains']:.2f}"
    first = {**about["sensitivity"][0], "weights": None, "effective_domains": None, "moved": None, "refused": "too <b>cold</b>"}
    changed = {**about, "sensitivity": [first, *about["sensitivity"][1:]]}
    text = render_report({**manifest, "weights": changed}, None, None)
    assert rows_of(text, "The mixture at other ridges and temperatures")[1][1] == "refused"
    assert "Refused: too <b>cold</b>." in numbers(text, "leverage")


def test_what_embedded_and_how_many_samples_it_took(page):
    shown = html.unescape(page)
    assert f"{HOSTILE[0]}, layer middle" in shown
    assert "64: ±0.040 → 1,024: ±0.009" in shown


def test_landmarks_and_their_measured_error(ten, page):
    manifest, _ = ten
    words = numbers(page, "mixture")
    landmarks = "1,256, of an earlier version, digest fefefefefefe"
    for shown in ("rbf, bandwidth 0.718", landmarks, "0.0031, as measured on held-out samples; not a proved"):
        assert shown in words
    assert "at most 9.0 %, of \u2068wikipedia\u2069" in words
    assert "Exact leverage, provedwithin 0.01 above that seen (\u2068wikipedia\u2069 the widest)" in words
    assert "Leverage ofdomains" in words
    about = manifest["weights"]
    unknown = {**about, "level": "sample", "affinity": None, "nystrom": {**about["nystrom"], "error": None, "residuals": {}}}
    text = render_report({**manifest, "weights": unknown}, None, None)
    assert "could not be measured" in numbers(text, "mixture")
    assert "Leverage ofsamples" in numbers(text, "mixture")
    assert "needs no affinity of domains" in numbers(text, "affinity")
    assert "Least apart" in numbers(text, "affinity")


def test_the_bounds_of_groups_name_their_domains(ten):
    manifest, _ = ten
    weights = {**manifest["recipe"]["weights"], "groups": {"code": {"domains": ["github", "technical"], "cap": 0.15}}}
    acted = {"domain": "code", "bound": "group cap", "before": 0.2, "after": 0.15, "shadow_price": 0.5}
    text = render_report(
        {
            **manifest,
            "recipe": {**manifest["recipe"], "weights": weights},
            "weights": {**manifest["weights"], "moved": [acted, {**acted, "domain": "gone", "bound": "group floor"}]},
        },
        None,
        None,
    )
    head, first, second = rows_of(text, "Bounds that moved a weight")
    assert head[0] == "Domain or group"
    assert first == ["code", "cap of the group: \u2068github\u2069, \u2068technical\u2069", "20.00 %", "15.00 %", "0.500"]
    assert second[1] == "floor of the group"


def test_what_explains_the_weights_may_be_absent(ten):
    """Older manifests, weights from a file, one domain: neither a box nor a heading without its content."""
    manifest, _ = ten
    new = ("mixtures", "neighbours", "pairs", "near_duplicates", "misfiled", "sensitivity", "nystrom", "level")
    older = {**manifest, "weights": {key: value for key, value in manifest["weights"].items() if key not in new}}
    headings = (
        "Beside other mixtures", "Who lowers whose leverage", "Least apart", "Documents nearer", "Other settings", "Landmarks",
        "Leverage of",
    )  # fmt: skip
    cases = {"older": older, "given": example(given=True)[0], "one": example(("only",), budget=3_000_000, shards=1)[0]}
    for case, one in cases.items():
        words = Page(render_report(one, None, None)).text
        shown = [heading for heading in headings if heading in words]
        assert shown == (["Beside other mixtures"] if case == "given" else []), case


def test_the_worst_points_are_those_that_verify_found(ten, page):
    _, proof = ten
    words = numbers(page, "balance")
    for label, worst in (("the whole", proof.whole), ("all shards", proof.shard), ("all prefixes", proof.prefix)):
        assert f"{label}{worst.domain}{worst.where}{worst.tokens:,.0f}{worst.bound:,}{100 * worst.share:.0f} %" in words
    assert "only to chameleon-data verify" in numbers(render_report(ten[0], None, CREATED), "balance")


def test_quarantine_and_books(ten, page):
    manifest, _ = ten
    words = numbers(page, "quarantine")
    assert f"{sum(d['quarantined'] for d in manifest['domains'].values())} of" in words
    assert "broken JSON" in words
    assert numbers(page, "books").count("✓ balanced") == 11
    d = manifest["domains"]["book"]
    broken = {
        **manifest,
        "quarantine": {},
        "domains": {**manifest["domains"], "book": {**d, "rows_not_selected": d["rows_not_selected"] - 1}},
    }
    text = render_report(broken, None, CREATED)
    assert "✗ +1" in numbers(text, "books")
    assert "✗ 1 broken" in numbers(text, "books")
    assert "Nothing was quarantined" in numbers(text, "quarantine")


def test_provenance_and_timings(ten, page):
    manifest, _ = ten
    words = numbers(page, "provenance")
    assert all(manifest[key] in words for key in ("digest", "content_digest", "plan_digest", "build"))
    assert "max_epochs: 4.0" in words
    assert "30 input fragments" in words
    assert "/data/corpora/book/part-2.jsonl.zst" in words
    assert "embedded 1 of 10 domains" in numbers(page, "timings")
    assert "62.5" in numbers(page, "timings")


def test_timings_stand_in_the_order_of_the_passes(ten):
    manifest, _ = ten
    sorted_by_name = dict(sorted({**manifest["timings"], "another": 1.0}.items()))
    rows = rows_of(render_report({**manifest, "timings": sorted_by_name}, None, None), "Seconds that each pass took")
    assert [row[0] for row in rows[1:]] == ["survey", "embed and weigh", "plan", "write", "another", "All"]


def test_formats_are_called_by_their_names(ten):
    manifest, _ = ten
    files = [{**file, "format": "webdataset" if file["format"] == "mds" else "jsonl"} for file in manifest["shards"]]
    words = Page(render_report({**manifest, "shards": files}, None, None)).text
    assert "of WebDataset" in words
    assert "of JSON lines" in words
    assert set(FORMATS) == set(NAMES_OF_FORMATS)


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        ("/a/very/long/path/gpt2/tokenizer.json", "Tokens are those of …/gpt2/tokenizer.json."),
        ("s3://bucket/models/llama/", "Tokens are those of …/models/llama."),
        ("openai-community/gpt2", "Tokens are those of openai-community/gpt2."),
        ("bytes", "Tokens are bytes of UTF-8."),
    ],
)
def test_the_tokenizer_is_named_shortly_and_in_full(ten, unit, shown):
    text = render_report({**ten[0], "unit": unit}, None, None)
    assert shown in Page(text).text
    assert unit == "bytes" or f'title="{unit}"' in text


@pytest.mark.parametrize(
    ("shards", "ticks"), [(1, [0]), (2, [0, 1]), (7, [*range(7)]), (8, [0, 2, 4, 6]), (36, [0, 10, 20, 30]), (2_000, None)]
)
def test_shards_are_counted_in_whole_numbers(shards, ticks):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    _shard_axis(axes, shards)
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
def test_the_sentence_on_misfiled_documents_is_of_these_data(ten, margins, said):
    manifest, _ = ten
    found = [{"domain": "book", "nearest": "c4", "margin": m, "text": "t", "document": "d"} for m in margins]
    text = render_report({**manifest, "weights": {**manifest["weights"], "misfiled": found}}, None, None)
    assert said in numbers(text, "map")


def test_given_weights_leave_no_empty_boxes():
    text = render_report(*example(given=True), CREATED)
    assert "no leverage was computed" in numbers(text, "leverage")
    assert "No affinity was computed" in numbers(text, "affinity")
    assert "there is no map" in numbers(text, "map")
    assert "/data/<b>weights</b>.json" in numbers(text, "mixture")
    assert "90 % interval" not in numbers(text, "mixture")
    assert len(Page(text).all("figure")) == 4


def test_a_single_domain():
    text = render_report(*example(("only",), budget=3_000_000, shards=1), CREATED)
    assert "nothing to compare it with" in numbers(text, "leverage")
    assert "100.00 %" in numbers(text, "mixture")


def test_what_old_manifests_lack_is_said(ten):
    manifest = {key: value for key, value in ten[0].items() if key not in ("map", "timings", "reused", "version")}
    text = render_report(manifest, None, None)
    assert "there is no map" in numbers(text, "map")
    assert "No timings were recorded" in numbers(text, "timings")


def test_many_domains_are_cut_where_it_says_so():
    names = [f"domain-{i:03}" for i in range(70)]
    text = render_report(*example(names, budget=30_000_000, samples=100, shards=150), CREATED)
    assert "The 24 largest of 70 domains" in numbers(text, "mixture")
    assert all(name in numbers(text, "mixture") for name in names), "the table holds all"
    assert "Too many domains to name here (70)" in numbers(text, "affinity")
    assert "Drawn: 3,500 of 7,000 documents" in numbers(text, "map")
    assert "46 smaller domains" in numbers(text, "map")


def test_alike_domains_stand_side_by_side():
    """Two blocks, interleaved: the heat map's order puts each block together."""
    block = np.arange(8) % 2
    affinity = np.where(block[:, None] == block[None], 0.5, -0.5) + 0.5 * np.eye(8)
    order = alike_together(affinity)
    assert sorted(order) == list(range(8))
    assert np.abs(np.diff(block[order])).sum() == 1
