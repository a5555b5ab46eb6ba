"""What a chapter says of itself: numbers for the verdicts, and what it was made with."""

import copy
import fnmatch
import json
import re
from pathlib import Path
from types import SimpleNamespace

import brainvae_book
import nbformat
import numpy as np
import pytest
import yaml
from chapters import disagreement, quoted_of, read_notebook, record_of, stamp_of, why_stale
from nbclient import NotebookClient
from sphinx.errors import ExtensionError

from brainvae_core import __version__
from brainvae_core.metrics import Estimate
from brainvae_core.record import STAMP, Record, cells_hash

ROOT = Path(__file__).parent.parent
VERDICTS = yaml.safe_load((ROOT / "book/verdicts.yaml").read_text())
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def record():
    return Record(
        {"share": Estimate(0.5, 0.4, 0.6, 200, 3), "brains": np.int64(1723), "r": 0.98765},
        {
            "it is ahead": {
                "drawn": Estimate(0.2, 0.1, 0.3, 48, 3),
                "real": Estimate(0, -1, 1, 48, 3),
            }
        },
        n_brains=20,
    )


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A notebook of four cells, executed here on a small cohort with one fitted model."""
    folder = tmp_path_factory.mktemp("stamped")
    (folder / "own.yaml").write_text(
        "cohort: {n_brains: 12, shape: [40, 56]}\nmodel: {steps: 2, batch_size: 4}\n"
        f"places: {{data: {folder}, runs: {folder}, device: cpu}}\n"
    )
    cells = [
        f'profile = "{folder}/own.yaml"\nsettings = ""\nbeta = 2.0\nlatent_dim = None',
        "from brainvae_core.settings import read_settings\n\np = read_settings(globals())",
        "x = 3  # three\nfrom brainvae_core.models import fit\n"
        "from brainvae_core.prepare import prepare_cohort\n\n"
        "run = fit(prepare_cohort(p), p.model, p.places.runs, p.places.device)",
        "from brainvae_core.record import stamp\n\nstamp(p)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    NotebookClient(notebook, kernel_name="python3").execute()
    return json.loads(nbformat.writes(notebook))


def changed(notebook, cell, before, after):
    copied = copy.deepcopy(notebook)
    source = "".join(copied["cells"][cell]["source"])
    assert before in source
    copied["cells"][cell]["source"] = source.replace(before, after)
    return copied


def notebook(*records):
    cells = [{"cell_type": "markdown", "source": "# A"}]
    for record in records:
        data = json.loads(json.dumps(record._repr_mimebundle_()))
        cells.append({"cell_type": "code", "source": "", "outputs": [{"data": data}]})
    return {"cells": cells}


def test_what_is_read_from_a_notebook_is_what_was_recorded(record):
    found = record_of(notebook(record))
    assert list(found) == ["share", "brains", "r", "it is ahead (drawn)", "it is ahead (real)"]
    share, n = found["share"], ("n_brains", "n_seeds", "cell", "n")
    assert (share["value"], share["low"], share["high"]) == (0.5, 0.4, 0.6)
    assert [share[name] for name in n] == [200, 3, 1, "200 brains, 3 fits"]
    assert found["brains"]["found"] == "1,723" and found["brains"]["n_brains"] == 20
    assert found["r"]["low"] is None and found["r"]["found"] == "0.988"
    assert {found[f"it is ahead ({w})"]["verdict"] for w in ("drawn", "real")} == {"depends"}


def test_numbers_without_a_value_or_an_interval_are_said_in_words():
    for *numbers, said in (
        (np.nan, np.nan, np.nan, "none"),
        (np.nan, 4.0, 12.0, "none"),
        (0.5, -np.inf, 0.7, "0.5"),
        (1234.6, None, None, "1,235"),
        (-3, None, None, "−3"),
    ):
        record = Record({"a": Estimate(*numbers, 9, 3)})
        assert record.rows[0]["found"] == said
        assert "nan" not in record._repr_mimebundle_()["text/html"]
    moves = {"moves": {"all": Estimate(0.3, -np.inf, np.inf, 8, 1)}}
    (row,) = Record({}, moves, of={"moves": "latents"}).rows
    assert (row["number"], row["n"]) == ("moves", "8 latents, 1 fit")
    assert row["low"] is None and row["high"] is None and row["value"] == 0.3


@pytest.mark.promise("what the verdicts and README quote is what chapters recorded")
def test_what_the_verdicts_and_the_readme_quote_is_what_chapters_recorded():
    chapters = {path.stem: json.loads(path.read_text()) for path in NOTEBOOKS}
    asked = [part.split(": ", 1) for row in VERDICTS["claims"] for part in row.get("ours", [])]
    assert len(asked) > 25
    for chapter, pattern in asked:
        assert fnmatch.filter(record_of(chapters[chapter]), pattern), (chapter, pattern)
    quoted = [text for of in chapters.values() for text in quoted_of(of).values()]
    found = (ROOT / "README.md").read_text().partition("## What was found")[2].partition("\n## ")[0]
    numbers = re.findall(r"\b0\.\d+(?: \[[^\]]*\])?", found)
    assert len(numbers) >= 5 and {*numbers} <= {*quoted} | {text.split(" ")[0] for text in quoted}


def test_every_figure_of_the_paper_is_in_the_verdicts_and_made_by_a_cell():
    wanted = ["1", "2A", "2B", "2C", "2D", "3A", "3B", "3C", "3D", "3E", "S1", "S2", "S3", "S4"]
    assert [row["paper"] for row in VERDICTS["figures"]] == [f"Fig. {w}" for w in wanted]
    for row in VERDICTS["figures"]:
        chapter, call = row["made by"].split(".")
        assert f"figures.{call}(" in (ROOT / f"notebooks/{chapter}.py").read_text()


# ---- what a chapter was made with ----


@pytest.mark.slow
def test_a_chapter_that_was_just_executed_is_fresh_and_says_what_it_read(executed):
    assert why_stale(executed) == ""
    found = stamp_of(executed)
    assert found["settings"]["model.beta"] == 2 and found["settings"]["profile"] == "own"
    assert not [name for name in found["settings"] if name.startswith("places")]
    ((name, weights),) = found["runs"].items()
    assert name.startswith("beta_vae-L8-beta2-seed0-")
    assert len(weights) == len(found["cohort"]) == len(found["cells"]) == 12
    assert found["made"]["brainvae"] == __version__ and "torch" in found["made"]
    assert ("commit" in found["made"]) == (ROOT / ".git").exists()
    assert found["settings"]["model.precision"] == "auto"
    assert found["precision"] in ({name: "float32"}, {name: "bfloat16"})
    shown = "".join(executed["cells"][-1]["outputs"][-1]["data"]["text/plain"])
    told = f"Made with profile own on cohort {found['cohort']}; read: 1 fitted models and 0 tables"
    assert shown == told


@pytest.mark.slow
def test_other_settings_or_cells_make_a_chapter_stale_and_comments_and_places_do_not(executed):
    stale = "its {} changed since it was executed"
    for cell, before, after, told in (
        (0, "beta = 2.0", "beta = 3.0", stale.format("settings")),
        (0, 'settings = ""', 'settings = "n_blobs=3"', stale.format("settings")),
        (0, "beta = 2.0", "betta = 2.0", "did you mean model.beta?"),
        (0, "own.yaml", "other.yaml", "no profile"),
        (2, "x = 3", "x = 4", stale.format("cells")),
        (2, "  # three", "  # a comment", ""),
        (0, 'settings = ""', 'settings = "device=auto, together=9"', ""),
        (0, "latent_dim = None", "latent_dim = 8", ""),
    ):
        why = why_stale(changed(executed, cell, before, after))
        assert told in why and bool(told) == bool(why)


@pytest.mark.slow
def test_a_setting_that_came_since_is_stale_where_it_is_not_at_its_default(executed):
    earlier = copy.deepcopy(executed)
    for name in ("fields.n_blobs", "model.beta"):  # these two of the library of today
        del stamp_of(earlier)["settings"][name]
    assert "settings changed" in why_stale(earlier)  # it gives beta
    stamp_of(earlier)["settings"]["model.beta"] = 2
    assert why_stale(earlier) == ""


@pytest.mark.slow
def test_a_notebook_without_all_its_outputs_is_refused(executed):
    without = copy.deepcopy(executed)
    without["cells"][-1]["outputs"] = []
    assert "no stamp at its foot" in why_stale(without)
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no\nmore", "traceback": []}
    without["cells"][2]["outputs"] = [error]
    assert why_stale(without) == "it ended with ValueError: no"


def test_what_stands_before_the_settings_is_no_cell():
    read_cell = "p = read_settings(globals())"
    assert cells_hash(["beta = 3.0", read_cell, "f(x)"]) == cells_hash([read_cell, "f(x) # why"])
    assert cells_hash([read_cell, "f(x)"]) != cells_hash([read_cell, "f(y)"])
    # Written down once: newer Pythons have further fields in their syntax trees, which are empty.
    cell = "class A(B):\n    def f(self, x=1, *y):\n        return f'{x!r:{y[0]}}' + y[0]\n"
    assert cells_hash([cell]) == "7c04c2f596ad"


def with_stamp(notebook, **content):
    other = copy.deepcopy(notebook)
    other["cells"][-1]["outputs"][-1]["metadata"][STAMP] |= content
    return other


@pytest.mark.slow
def test_a_stamp_of_old_says_no_precision_and_is_read_and_fresh(tmp_path, executed):
    old, path = copy.deepcopy(executed), tmp_path / "01.ipynb"
    del stamp_of(old)["precision"]
    path.write_text(json.dumps(old))
    assert why_stale(read_notebook(path)) == disagreement({"01": old, "02": executed}) == ""


@pytest.mark.promise("no stale chapter and no two cohorts make a book")
@pytest.mark.slow
def test_a_book_of_stale_chapters_or_of_two_cohorts_or_of_two_fits_does_not_build(
    tmp_path, executed
):
    (run,) = stamp_of(executed)["runs"]
    stale = changed(executed, 2, "x = 3", "x = 4")
    folder, book = tmp_path / "notebooks", SimpleNamespace(srcdir=tmp_path)
    folder.mkdir()
    for other, told in (
        (executed, ""),
        (with_stamp(executed, runs={}), ""),
        (stale, "notebooks/02.ipynb: its cells changed"),
        (with_stamp(executed, cohort="0123456789ab"), "different cohorts"),
        (with_stamp(executed, runs={run: "0" * 12}), f"01 and 02 read run {run} with"),
    ):
        for name, notebook in {"01": executed, "02": other}.items():
            (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
        if not told:
            brainvae_book.refuse_stale_chapters(book)
            continue
        with pytest.raises(ExtensionError, match=told):
            brainvae_book.refuse_stale_chapters(book)


@pytest.mark.promise("no stale chapter and no two cohorts make a book")
def test_the_committed_chapters_are_fresh_and_one_book(monkeypatch):
    monkeypatch.chdir(ROOT)
    chapters = {path.stem: json.loads(path.read_text()) for path in NOTEBOOKS}
    assert {name: why for name, of in chapters.items() if (why := why_stale(of))} == {}
    assert disagreement(chapters) == ""
