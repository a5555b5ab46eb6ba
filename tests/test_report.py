"""A lab's report: a folder of brains and a table in, a page, tables and a picture out."""

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from lab_folder import write_lab

from brainvae_core import report
from brainvae_core.cohorts import simulate_groups

PROFILE = """\
cohort: {{n_brains: 80, shape: [40, 56]}}
model: {{latent_dim: 2, steps: 20, batch_size: 4}}
evaluation: {{n_graded: 4}}
fields: {{region_share: 0.05}}
lab: {{n_permutations: 99}}
places: {{data: {0}/data, runs: {0}/runs, reports: {0}/reports}}
"""

OF_BRAINS = ("brains.csv", "cleaned.npz", "contact_sheet.png", "report.html")

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
    assert {p.name for p in out.iterdir()} == {*OF_BRAINS, "differences.csv", "power.csv"}
    page = (out / "report.html").read_text()
    assert "lab-0005 is left out: upside down" in page and "no age_days" in page
    assert "KO − WT: 10 brains" in page and 'src="http' not in page
    brains = pd.read_csv(out / "brains.csv", index_col=0)
    assert len(brains) == 12 and not brains.loc["lab-0005", "used"]
    differences = pd.read_csv(out / "differences.csv")
    assert set(differences["of"]) == {"region", "latent"} and (differences["n_brains"] == 10).all()
    assert "the report is at file://" in capsys.readouterr().out


def test_one_brain_is_judged_without_groups(profile, tmp_path):
    lab = write_lab(tmp_path / "two", simulate_groups(1, 1, shape=(40, 56)))
    assert report.main([str(lab / "lab-0001.npy"), "--profile", str(profile)]) == 0
    out = profile.parent / "reports/lab-0001.npy"
    assert {p.name for p in out.iterdir()} == {*OF_BRAINS}


def test_a_page_tells_nothing_of_the_example_or_of_an_earlier_report(tmp_path, monkeypatch):
    given, out = {}, tmp_path / "reports/lab"

    def executed(chapter, _, told, cwd):
        given.update(told)
        return nbformat.read(chapter, 4)

    monkeypatch.setattr(report.papermill, "execute_notebook", executed)
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(PROFILE.format(tmp_path))
    out.mkdir(parents=True)
    (out / "differences.csv").touch()
    assert report.main(["lab", "--profile", "tiny.yaml"]) == 0
    assert [p.name for p in out.iterdir()] == ["report.html"]
    assert given["profile"] == str(tmp_path / "tiny.yaml")  # the chapter runs elsewhere
    assert "Found." not in (out / "report.html").read_text()


@pytest.mark.parametrize(
    "group, covariates, told",
    [
        ("genotype", "", "no column 'genotype'"),
        ("sex", "sex", "'sex' is named twice"),
        ("group", "", "group has one brain with 'KO'"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_line(profile, tmp_path, capsys, group, covariates, told):
    lab = write_lab(tmp_path / "lab", simulate_groups(5, 1, shape=(40, 56)))
    given = [str(lab), "--group", group, "--covariates", covariates, "--profile", str(profile)]
    assert report.main(given) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and told in error
    assert not list((profile.parent / "reports").glob("*/.report*"))


def test_no_folder_and_no_profile_are_told_in_a_line(profile, tmp_path, capsys):
    for given in ([str(tmp_path / "none"), "--profile", str(profile)], ["--profile", "dmeo"]):
        assert report.main(given) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.startswith("error: no ")
    assert not (profile.parent / "reports/none").exists()
