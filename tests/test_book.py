"""The rendered book as its readers meet it: links, pictures, and a real browser."""

import json
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup
from chapters import record_of

from brainvae_core.models import load_run

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build/html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
WIDTHS = {"phone": 390, "laptop": 1280, "wide": 1920}

pytestmark = [pytest.mark.book, pytest.mark.usefixtures("html")]


def listed(chapters):
    for chapter in chapters:
        yield chapter["file"]
        yield from listed(chapter.get("sections", []))


DOCUMENTS = [TOC["root"], *(d for part in TOC["parts"] for d in listed(part["chapters"]))]
CHAPTERS = [d for d in DOCUMENTS if d.startswith("notebooks/")]
# Pages of every kind; a night reads all with axe, which takes longer than opening them.
SAMPLE = ("intro", "verdicts", "method", "metrics", "explorer", "08_projective_fields", "genindex")
each_page = pytest.mark.parametrize("page", [*DOCUMENTS, "search", "genindex"])


@cache
def soup(path):
    return BeautifulSoup(path.read_text(), "html.parser")


def address(page, fragment=""):
    return (HTML / f"{page}.html").as_uri() + fragment


# ---- without a browser ----


@pytest.mark.nightly
@pytest.mark.promise("a book that is rendered again is the same book, bit for bit")
def test_the_book_is_rendered_the_same_again(tmp_path):
    """In another folder, by a process with other hashes."""
    source = max(ROOT.glob("_build/*/source"), key=lambda path: path.stat().st_mtime)
    shutil.copytree(source, tmp_path / "source")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", tmp_path / "source"]
    command += ["--path-output", tmp_path, "--all", "-W", "--keep-going", "-n", "-q"]
    told = os.environ | {"PYTHONHASHSEED": "271"}
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    again = tmp_path / "_build/html"
    pages, same = (
        {p.relative_to(of) for p in of.rglob("*") if p.is_file()} for of in (HTML, again)
    )
    assert pages == same and len(pages) > 100
    differ = [str(p) for p in pages if (HTML / p).read_bytes() != (again / p).read_bytes()]
    assert not differ


@each_page
def test_every_link_leads_somewhere(page):
    path = HTML / f"{page}.html"
    dead = []
    for link in soup(path).find_all("a", href=True):
        parts = urlsplit(link["href"])
        if parts.scheme in ("http", "https", "mailto"):
            continue  # followed by readers only
        assert not parts.scheme, link
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_file():
            dead.append(link["href"])
        elif parts.fragment and target.suffix == ".html":
            wanted = unquote(parts.fragment)
            if wanted != "top" and not soup(target).find(id=wanted):
                dead.append(link["href"])
    assert not dead


@pytest.mark.parametrize("page", CHAPTERS)
def test_every_figure_has_words(page):
    article = soup(HTML / f"{page}.html").find("article")
    images = article.select(".cell_output img")
    assert images and all(image["alt"].startswith("Figure. ") for image in images)


def test_the_verdicts_has_every_row_with_numbers_and_links_to_cells():
    verdicts = yaml.safe_load((ROOT / "book/verdicts.yaml").read_text())
    numbers, figures = soup(HTML / "book/verdicts.html").select("table.verdicts")
    assert len(figures.select("tbody tr")) == len(verdicts["figures"])
    paths = (ROOT / "notebooks").glob("*.ipynb")
    records = {path.stem: record_of(json.loads(path.read_text())) for path in paths}
    for row, wanted in zip(numbers.select("tbody tr"), verdicts["claims"], strict=True):
        shown = row.select("td")[1]
        found = [link.get_text() for link in shown.select("a[href*='#cell-']")]
        for chapter, pattern in (part.split(": ", 1) for part in wanted.get("ours", [])):
            said = [r for n, r in records[chapter].items() if fnmatchcase(n, pattern)]
            assert said and {r["found"] for r in said} <= {*found}, (pattern, found)
            told = [r[name] for r in said for name in ("verdict", "n", "margin") if name in r]
            assert all(words in shown.get_text() for words in told), told


# ---- in a browser ----


@pytest.fixture(scope="module")
def context(browser):
    context = browser.new_context(viewport={"width": WIDTHS["laptop"], "height": 800})
    yield context
    context.close()


@pytest.fixture
def opened(context):
    """A page, what it complained of, and what it asked for that is no file beside it."""
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda m: m.type == "error" and page.complaints.append(m.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("requestfailed", lambda r: page.complaints.append(f"failed: {r.url}"))
    page.on(
        "request",
        lambda r: r.url.startswith(("file:", "data:", "blob:")) or page.complaints.append(r.url),
    )
    yield page
    page.close()


@each_page
def test_a_page_opens_without_a_complaint_and_fits_every_screen(opened, page):
    opened.goto(address(page), wait_until="load")
    assert opened.title()
    for name, width in WIDTHS.items():
        opened.set_viewport_size({"width": width, "height": 800})
        wide = opened.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name}: {wide} pixels wide on a screen of {width}"
    assert not opened.complaints
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert opened.evaluate(broken) == []


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.nightly] if Path(page).name not in SAMPLE else [])
        for page in [*DOCUMENTS, "search", "genindex"]
    ],
)
def test_a_page_is_accessible(opened, page):
    from axe_playwright_python.sync_playwright import Axe

    opened.goto(address(page), wait_until="load")
    opened.wait_for_timeout(300)
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
    found = Axe().run(opened, options=options).response["violations"]
    told = [f"{v['id']}: {v['nodes'][0]['html'][:200]} ({len(v['nodes'])})" for v in found]
    assert not told


def test_search_finds_pages(opened):
    opened.goto(address("search", "?q=Fréchet+distance"), wait_until="load")
    opened.wait_for_selector("#search-results li a", timeout=20_000)
    links = opened.eval_on_selector_all("#search-results li a", "all => all.map(a => a.href)")
    assert links and all(Path(unquote(urlsplit(link).path)).is_file() for link in links)
    assert not opened.complaints


def test_mathematics_is_set_without_a_network(opened):
    opened.goto(address("book/method"), wait_until="load")
    opened.wait_for_selector("mjx-container", timeout=20_000)
    assert opened.locator("mjx-container").count() > 5
    assert opened.locator("mjx-merror").count() == 0
    assert not opened.complaints


def test_a_figure_opens_large_and_closes_again(opened):
    opened.goto(address("notebooks/08_projective_fields"), wait_until="load")
    first = opened.locator("button.zoom").first
    first.focus()
    opened.keyboard.press("Enter")
    large = opened.locator("dialog.zoomed img")
    assert large.bounding_box()["width"] > first.bounding_box()["width"]
    opened.keyboard.press("Escape")
    assert not opened.locator("dialog.zoomed").is_visible()
    assert not opened.complaints


@pytest.mark.promise("the explorer in the browser runs models as PyTorch does")
def test_the_explorer_of_the_rendered_book_decodes_with_the_released_weights(opened):
    (kept,) = (ROOT / "results/full/runs").glob("beta_vae-L8-beta3-seed0-*")
    loaded = []
    opened.on("request", lambda request: loaded.append(request.url))
    opened.goto(address("book/explorer"), wait_until="load")
    opened.wait_for_function("brainvaeExplorer.state.ready")
    slider = opened.get_by_label("F3", exact=True)
    slider.focus()
    opened.keyboard.press("End")
    opened.wait_for_function("String(brainvaeExplorer.state.shown.z).split(',')[2] === '7'")
    z = np.float32([opened.evaluate("brainvaeExplorer.state.z")])
    image = opened.evaluate("Array.from(brainvaeExplorer.state.shown.image)")
    assert np.abs(np.array(image) - load_run(kept).model.decode(z).ravel()).max() < 1e-3
    assert opened.locator("output").nth(2).inner_text() == "7.00"
    own = [unquote(urlsplit(url).path) for url in loaded if "/explorer" in url]
    assert len(own) >= 4  # the page, its style, its data, its script
    assert sum(Path(path).stat().st_size for path in set(own)) <= 8e6
    assert not opened.complaints
