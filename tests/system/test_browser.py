"""The pages in headless Chromium: at three widths nothing overflows, every section is laid out, and the console stays empty.

The report allows no script, so the probe goes into a copy without its content policy; one test shows that the policy holds.
The page sits in a frame of the wanted width: a browser window is never narrower than some 500 pixels.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chameleon_data.jobs.cli import app
from tests.support.inline_builds import build, write_small_recipe
from tests.support.report_example import CREATED, HOSTILE, SECTIONS, example_report, render_example

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--hide-scrollbars",
)
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
PROBE = r"""<script>addEventListener("load", () => {
  const root = document.documentElement, all = (query) => [...document.querySelectorAll(query)];
  const box = (element) => element.getBoundingClientRect();
  parent.document.title = JSON.stringify({
    width: innerWidth, scroll: root.scrollWidth,
    sections: all("section").map(s => [s.id, s.offsetWidth, s.offsetHeight, s.querySelector("h2").innerText]),
    figures: all("figure > svg").map(s => [box(s).width, box(s).height]),
    texts: all("figure > svg text").map(t => [t.textContent, box(t).left]),
    conclusions: all(".conclusions li").map(i => i.innerText.replace(/[\u2068\u2069]/g, "").replace(/\u00a0/g, " ")),
    mixture: all("#mixture table tr").slice(0, 11).map(r => [...r.cells].map(c => c.innerText.replace(/\u00a0/g, " "))),
    folded: all(".method section").every(s => s.checkVisibility() === document.querySelector(".method").open),
  });
})</script>"""
FRAME = """<!doctype html><meta charset="utf-8"><title>nothing</title><body style="margin:0">
<iframe style="border:0;width:{}px;height:900px" srcdoc="{}"></iframe>"""


def browse(page: Path, folder: Path, *more: str) -> tuple[str, list[str]]:
    """The document as the browser left it, and what it wrote to the console."""
    assert CHROMIUM
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *more, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module", params=["ten", "hostile", "given"])
def text(request: pytest.FixtureRequest) -> str:
    arguments: dict[str, Any] = {"ten": {}, "hostile": {"names": HOSTILE, "samples": 30}, "given": {"given": True}}[request.param]
    manifest, proof = example_report(**arguments)
    return render_example(manifest, 3, CREATED, proof)


def look(text: str, tmp_path: Path, width: int, probe: str = PROBE) -> dict[str, Any]:
    """What the probe finds on a page of that width."""
    page = tmp_path / "page.html"
    probed = POLICY.sub("", text).replace("</body>", f"{probe}</body>")
    page.write_text(FRAME.format(width, html.escape(probed)), encoding="utf-8")
    document, console = browse(page, tmp_path, "--window-size=1400,1000", "--dump-dom")
    assert console == []
    title = re.search(r"<title>(.*?)</title>", document, re.S)
    assert title
    assert title[1] != "nothing", "the probe did not run"
    seen: dict[str, Any] = json.loads(html.unescape(title[1]))
    assert seen["width"] == width
    return seen


@pytest.mark.parametrize("width", [1400, 800, 400])
def test_nothing_overflows_and_every_section_is_laid_out(text, tmp_path, width):
    seen = look(text.replace("<details", "<details open"), tmp_path, width)
    assert seen["folded"], "the method is folded with its details"
    assert seen["scroll"] <= width, "the page scrolls sideways"
    assert [s[0] for s in seen["sections"]] == list(SECTIONS)
    assert all(0 < w <= width and h > 50 and heading for _, w, h, heading in seen["sections"])
    assert all(w > 250 and h > 40 for w, h in seen["figures"])
    assert all(left >= -1 for _, left in seen["texts"]), "a label of a figure is cut at the left"


def test_it_begins_with_conclusions_that_its_own_table_bears_out(text, tmp_path):
    """The page as a reader opens it: the sentences say the numbers of the table below them, and the method is folded."""
    seen = look(text, tmp_path, 400)
    assert seen["folded"]
    assert seen["scroll"] <= 400
    head, *rows = seen["mixture"]
    row = dict(zip(head, rows[0], strict=True))
    first = seen["conclusions"][0]
    assert first.startswith(row["Domain"][:10])
    shares = [float(number) for number in re.findall(r"([\d.]+) %", first)]
    assert shares == pytest.approx([float(row[key].removesuffix(" %")) for key in ("Weight", "Natural share")], abs=0.051)
    assert f"{row['Times natural']} times its natural share" in first
    times = {r[0]: float(dict(zip(head, r, strict=True))["Times natural"]) for r in rows}
    said = [float(number) for number in re.findall(r"to ([\d.]+) times", seen["conclusions"][1])]
    assert said == pytest.approx([max(times.values()), min(times.values())], abs=0.006)


def test_as_it_is_the_page_loads_without_a_word_and_is_printed_whole(text, tmp_path):
    """On paper what is folded is open. The printed file describes each figure of the page, those of the method too."""
    page, picture, printed = tmp_path / "page.html", tmp_path / "page.png", tmp_path / "page.pdf"
    page.write_text(text, encoding="utf-8")
    _, console = browse(page, tmp_path, "--window-size=1280,2000", f"--screenshot={picture}")
    assert console == []
    assert picture.stat().st_size > 30_000
    _, console = browse(page, tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={printed}")
    assert console == []
    assert len(re.findall(rb"/Alt [(<]", printed.read_bytes())) == text.count("<figure")


def test_its_policy_lets_no_script_run(text, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", "<script>document.title = 'owned'</script></body>"), encoding="utf-8")
    document, console = browse(page, tmp_path, "--dump-dom")
    assert "<title>owned" not in document
    assert len(console) == 1
    assert "Content Security Policy" in console[0]


LINKS_PROBE = r"""<script>addEventListener("load", () => {
  const root = document.documentElement, all = (query) => [...document.querySelectorAll(query)];
  parent.document.title = JSON.stringify({
    width: innerWidth, scroll: root.scrollWidth, headings: all("h1, h2").map(h => h.innerText),
    links: all("a").map(a => a.getAttribute("href")), tables: all("table").length, figures: all("figure > svg").length,
  });
})</script>"""


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two versions, with a report, a difference and a catalogue."""
    folder = tmp_path_factory.mktemp("dataset")
    first = write_small_recipe(folder, "out", mix={"budget": 30_000})
    build(first)
    build(first.model_copy(update={"mix": first.mix.model_copy(update={"budget": 20_000, "max_epochs": 8.0})}))
    out = Path(first.out)
    for words in (["report", str(out), "--trust"], ["diff", f"{out}@1", f"{out}@2", "--html"], ["tag", f"{out}@2", "prod"]):
        app(words, standalone_mode=False)
    return out


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("page", ["index.html", "reports/v1-v2.html", "reports/v2.html"])
def test_catalogue_and_difference_fit_and_every_link_leads_to_a_file(two_versions, tmp_path, page, width):
    text = (two_versions / page).read_text(encoding="utf-8").replace("<details", "<details open")
    seen = look(text, tmp_path, width, LINKS_PROBE)
    assert seen["scroll"] <= width, "the page scrolls sideways"
    if page == "index.html":
        assert [heading[:2] for heading in seen["headings"][1:]] == ["v2", "v1"]
        assert {"reports/v2.html", "reports/v1-v2.html"} <= set(seen["links"])
        assert sum("/parquet/" in link for link in seen["links"]) >= 4
    elif page.endswith("v1-v2.html"):
        assert (seen["tables"], seen["figures"]) == (3, 1)
    ids = set(re.findall(r'id="([^"]+)"', text))
    for link in seen["links"]:
        assert link[1:] in ids if link.startswith("#") else (two_versions / page).parent.joinpath(link).exists(), link


@pytest.mark.parametrize("page", ["index.html", "reports/v1-v2.html"])
def test_catalogue_and_difference_load_without_a_word(two_versions, tmp_path, page):
    _, console = browse(two_versions / page, tmp_path, f"--screenshot={tmp_path / 'page.png'}")
    assert console == []
    assert (tmp_path / "page.png").stat().st_size > 10_000
