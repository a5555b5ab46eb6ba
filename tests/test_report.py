"""A lab's report: a folder of brains and a table in, a page, tables and a picture out."""

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from lab_folder import write_lab
from nbclient.exceptions import DeadKernelError

from brainvae_core import lab, report
from brainvae_core.cohorts import simulate_groups
from brainvae_core.disk import seal

PROFILE = """\
cohort: {{n_brains: 80, shape: [40, 56]}}
model: {{latent_dim: 2, steps: 20, batch_size: 4}}
evaluation: {{n_graded: 4}}
fields: {{region_share: 0.05}}
lab: {{n_permutations: 99}}
places: {{data: {0}/data, runs: {0}/runs, reports: {0}/reports}}
"""

OF_BRAINS = {"brains.csv", "cleaned.npz", "report.html", "report.json"}
OF_BRAINS |= {f"{name}.png" for name in ("contact_sheet", "cleaned", "deviations", "places")}
OF_GROUPS = {"differences.csv", "differences.png", "group_maps.png", "power.csv", "power.png"}

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a reference")
    path = folder / "tiny.yaml"
    path.write_text(PROFILE.format(folder))
    return path


def test_a_folder_of_brains_and_a_table_become_a_report(profile, tmp_path, capsys):
    lab = write_lab(tmp_path / "my lab", simulate_groups(6, 6, "brightness TH", 2, shape=(40, 56)))
    table = pd.read_csv(lab / "metadata.csv", index_col=0)
    table.loc["lab-0003", "age_days"] = np.nan
    table.to_csv(lab / "metadata.csv")
    np.save(lab / "lab-0005.npy", np.load(lab / "lab-0005.npy")[::-1])
    given = [str(lab), "--group", "group", "--covariates", "age_days", "--profile", str(profile)]
    assert report.main(given) == 0
    out = profile.parent / "reports/my lab"
    assert {p.name for p in out.iterdir()} == OF_BRAINS | OF_GROUPS
    page = BeautifulSoup((out / "report.html").read_text(), "html.parser")
    text = page.body.get_text()
    order = ["my lab", "What is left out", "lab-0005 is left out: upside down", "no age_days"]
    order += ["KO − WT: 10 brains", "profile tiny", "norms are adjusted for sex", "Artefacts"]
    at = [text.index(words) for words in order[:6]]
    assert at == sorted(at) and all(words in text for words in order)
    assert "without age_days: lab-0003 (no value)" in text and "planted" not in text[at[2] : at[4]]
    images = page.find_all("img")
    assert len(images) == 7 and all(image["alt"].startswith("Figure. ") for image in images)
    assert all(image["src"].startswith("data:image/") for image in images)
    assert not page.select('a[href^=".."]') and "places.reports" not in text
    brains = pd.read_csv(out / "brains.csv", index_col=0)
    assert len(brains) == 12 and not brains.loc["lab-0005", "used"]
    assert brains.loc["lab-0003", "norm_without"] == "age_days: no value"
    differences = pd.read_csv(out / "differences.csv")
    assert set(differences["of"]) == {"region", "latent"} and (differences["n_brains"] == 10).all()
    assert "the report is at file://" in capsys.readouterr().out


def test_one_brain_is_judged_without_groups(profile, tmp_path):
    lab = write_lab(tmp_path / "two", simulate_groups(1, 1, shape=(40, 56)))
    assert report.main([str(lab / "lab-0001.npy"), "--profile", str(profile)]) == 0
    out = profile.parent / "reports/lab-0001.npy"
    assert {p.name for p in out.iterdir()} == OF_BRAINS


def executed_as(chapter, tmp_path, monkeypatch, given):
    """Has a report written without executing the chapter."""

    def executed(_, out, told, cwd):
        given.update(told)
        new = Path(out).parent / "lab"
        new.mkdir()
        (new / "brains.csv").touch()
        asked = {name: told[name] for name in ("brains", "group", "covariates")}
        seal(new, lab.ABOUT, {"format": lab.FORMAT} | asked)
        return nbformat.read(chapter, 4)

    monkeypatch.setattr(report.papermill, "execute_notebook", executed)
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(PROFILE.format(tmp_path))


def test_a_page_tells_nothing_of_the_example_or_of_an_earlier_report(tmp_path, monkeypatch):
    given, out = {}, tmp_path / "reports/lab"
    executed_as(report.CHAPTER, tmp_path, monkeypatch, given)
    out.mkdir(parents=True)
    (out / "differences.csv").touch()
    asked = {"brains": str(tmp_path / "lab"), "group": "", "covariates": []}
    seal(out, lab.ABOUT, {"format": lab.FORMAT} | asked)
    assert report.main(["lab", "--profile", "tiny.yaml"]) == 0
    assert {p.name for p in out.iterdir()} == {"brains.csv", "report.html", "report.json"}
    assert {"brains.csv", "report.html"} == {*lab.read_report(out)["files"]}
    assert given["profile"] == str(tmp_path / "tiny.yaml")  # the chapter runs elsewhere
    page = (out / "report.html").read_text()
    for words in ("Answer.", "Where no folder is given", "Your own model"):
        assert words not in page and words in Path(report.CHAPTER).read_text()
    assert "the groups differ" not in page  # none are asked about
    assert report.main(["lab", "--group", "sex", "--profile", "tiny.yaml"]) == 0
    assert "the groups differ" in (tmp_path / "reports/lab-2/report.html").read_text()


def test_a_page_links_the_rendered_book_or_nothing(tmp_path, monkeypatch):
    texts = ["# 19 · Title", "[Your brains](../book/your_brains.md#tools), [a](06_artefacts.ipynb)"]
    page = tmp_path / "book/your_brains.html"
    page.parent.mkdir()
    monkeypatch.setattr(report, "BOOK", tmp_path)
    for is_rendered in (False, True):
        cells = [nbformat.v4.new_markdown_cell(text) for text in texts]
        cells.append(nbformat.v4.new_code_cell(metadata={"tags": ["left-out"]}))
        notebook = nbformat.v4.new_notebook(cells=cells)
        if is_rendered:
            page.touch()
        found = BeautifulSoup(report.page_of(notebook, "my lab", set()), "html.parser")
        links = [link["href"] for link in found.select("p a")]
        assert links == ([f"{page.as_uri()}#tools"] if is_rendered else [])
        assert "Your brains, a" in found.text and found.h1.text.startswith("my lab")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, DeadKernelError("died"), OSError("disk full")])
def test_what_stops_a_report_leaves_the_earlier_one(tmp_path, monkeypatch, capsys, stop):
    executed_as(report.CHAPTER, tmp_path, monkeypatch, {})
    assert report.main(["lab", "--profile", "tiny.yaml"]) == 0

    def stopped(*_):
        raise stop

    monkeypatch.setattr(report, "page_of", stopped)
    out = tmp_path / "reports"
    before = {p.name: p.read_bytes() for p in (out / "lab").iterdir()}
    assert report.main(["lab", "--profile", "tiny.yaml"]) == 2
    assert {p.name: p.read_bytes() for p in (out / "lab").iterdir()} == before
    assert [p.name for p in out.iterdir()] == ["lab"]
    assert capsys.readouterr().err.startswith("error: ")


def test_what_cannot_be_asked_is_told_in_a_line(profile, tmp_path, capsys):
    made = simulate_groups(5, 1, shape=(40, 56))
    made.metadata.loc[made.metadata["group"] == "KO", "age_days"] = np.nan
    lab, reports = str(write_lab(tmp_path / "lab", made)), profile.parent / "reports"
    for brains, group, covariates, told in (
        (lab, "genotype", "", "no column 'genotype'"),
        (lab, "sex", "sex", "'sex' is named twice"),
        (lab, "group", "", "group has one brain with 'KO'"),
        (lab, "group", "age_days", "of group 'KO' no brain is left"),
        (str(tmp_path / "none"), "", "", "no "),
    ):
        given = [brains, "--group", group, "--covariates", covariates, "--profile", str(profile)]
        assert report.main(given) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ") and told in error
        assert not (reports / Path(brains).name).exists() and not list(reports.glob(".*"))
    assert report.main(["--profile", "dmeo"]) == 2
    assert capsys.readouterr().err.startswith("error: no profile")
