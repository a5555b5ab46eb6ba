"""Tables of scores: made once, read from then on, and told when they are damaged."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from brainvae_core import results
from brainvae_core.disk import file_lock, made_with
from brainvae_core.models import runs as runs_module
from brainvae_core.models.devices import pick_precision
from brainvae_core.settings import Settings
from brainvae_core.study import fitted

SMALL = {
    "cohort.n_brains": 48,
    "cohort.shape": (40, 56),
    "grid.shape": (20, 28),
    "grid.steps": 4,
    "grid.betas": (1.0, 3.0),
    "grid.latent_dims": (2, 8),
    "grid.seeds": (0, 1),
    "evaluation.fd_dim": 3,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("places")
    return {f"places.{name}": str(root / name) for name in ("data", "runs", "results")}


@pytest.fixture(scope="module")
def p(places):
    return Settings().changed(SMALL | places)


@pytest.fixture(scope="module")
def made(p):
    return results.table(p, "grid")


def refuse(*args, **kwargs):
    raise AssertionError("a fit was asked for")


@pytest.fixture
def nothing_is_fitted(monkeypatch):
    monkeypatch.setattr(results, "fit_all", refuse)


@pytest.mark.slow
def test_every_fit_has_its_rows_and_labels(made):
    fits = made[["model", "beta", "latent_dim", "seed"]].drop_duplicates()
    assert len(fits) == 2 + 2 * 2 * 2
    assert set(made["model"]) == {"PCA", "β-VAE"}
    assert made.groupby(["model", "latent_dim", "beta", "seed"], dropna=False).ngroups == len(fits)
    of_vae = set(made.loc[made["model"] == "β-VAE", "score"])
    assert of_vae - set(made.loc[made["model"] == "PCA", "score"]) == {
        "distortion", "rate", "distortion, validation", "rate, validation",
    }  # fmt: skip
    assert made["value"].notna().all()


@pytest.mark.promise("kept models and tables are those of the fits, on any processor")
def test_scores_are_those_of_the_models(p, made):
    cohort = results.STAGES["grid"].cohort(p)
    test, train = cohort.split("test").images, cohort.split("train").images
    deviation = np.square(test - train.mean(axis=0)).sum()
    for labels, run in fitted(p, "grid", cohort):
        rest = np.square(test - run.model.reconstruct(test)).sum()
        of = made[(made["score"] == "explained variance") & (made["model"] == labels["model"])]
        for name in ("beta", "latent_dim", "seed"):
            if name in labels:
                of = of[of[name] == labels[name]]
        assert of["value"].item() == pytest.approx(1 - rest / deviation, rel=1e-4)


def test_what_is_kept_needs_neither_fits_nor_ones_own_rows(
    p, made, tmp_path, places, nothing_is_fitted
):
    pd.testing.assert_frame_equal(results.table(p, "grid"), made)
    assert "table grid" in runs_module.LOADED
    more = p.changed({"grid.seeds": (0, 1, 2)})
    line = results.save_table(more, "grid", tmp_path)
    assert line == "grid: 10 of the profile's 14 fits have their rows"
    fewer = p.changed({"grid.seeds": (1,)})  # what a profile no longer asks for is not kept
    line = results.save_table(fewer, "grid", tmp_path)
    assert line == "grid: 6 of the profile's 6 fits have their rows"
    assert len(results.read_rows(tmp_path / "tables/grid.csv.gz")[0]["fits"]) == 6
    line = results.save_table(p, "grid", f"{places['places.results']}/small")
    assert line == "grid: 10 of the profile's 10 fits have their rows"
    elsewhere = p.changed({"places.runs": str(tmp_path / "a"), "places.data": str(tmp_path / "b")})
    pd.testing.assert_frame_equal(results.table(elsewhere, "grid"), made)


def test_a_whole_table_waits_for_nobody_and_takes_away_a_killed_ones_lock(
    p, made, nothing_is_fitted, capsys
):
    place = results._place(p, results._lookup(p, "grid")[2])
    lock = place.with_name(f".{place.name}.lock")
    with ThreadPoolExecutor(1) as pool:
        with file_lock(place):
            found = pool.submit(results.table, p, "grid").result(60)
            assert lock.exists()
        pd.testing.assert_frame_equal(found, made)
    lock.touch()
    results.table(p, "grid")
    assert not lock.exists() and "waiting" not in capsys.readouterr().err


@pytest.mark.slow
def test_another_setting_or_cohort_has_rows_of_its_own(p, made):
    other = results.table(p.changed({"evaluation.fd_dim": 2}), "grid")
    apart = made.set_index(["model", "beta", "latent_dim", "seed", "score"])["value"]
    apart = apart - other.set_index(apart.index.names)["value"]
    differs = apart.groupby("score").apply(lambda of: (of != 0).all())
    assert set(differs[differs].index) == {"PCA-FD", "PCA-FD, prior"}
    names = {path.name for path in results.Path(p.places.data, "tables").iterdir()}
    results.table(p.changed({"cohort.seed": 5, "grid.latent_dims": (8,)}), "grid")
    assert len({path.name for path in results.Path(p.places.data, "tables").iterdir()} - names) == 1


def test_rows_without_a_newer_setting_are_of_its_default(p, made, nothing_is_fitted):
    _, _, about = results._lookup(p, "grid")
    head, text = results.read_rows(results._place(p, about))
    rows, at_default = results.parse_rows(text), p.changed({"evaluation.fd_dim": 16})
    kept = results.Path(p.places.results, "old/tables/grid.csv.gz")
    results.write_rows(kept, rows, head | {"settings": {}})  # as rows of before the setting
    pd.testing.assert_frame_equal(results.table(at_default, "grid"), made)
    with pytest.raises(AssertionError, match="a fit was asked for"):
        results.table(p.changed({"evaluation.fd_dim": 5}), "grid")
    kept.unlink()


def test_another_version_of_a_tables_function_has_its_rows_made_anew(p, made, monkeypatch):
    monkeypatch.setitem(results.TABLES, "grid", replace(results.TABLES["grid"], version=2))
    with monkeypatch.context() as none, pytest.raises(AssertionError, match="a fit was asked for"):
        none.setattr(results, "fit_all", refuse)
        results.table(p, "grid")
    pd.testing.assert_frame_equal(results.table(p, "grid"), made)
    with pytest.raises(ValueError, match="no table 'grids'; there are grid"):
        results.table(p, "grids")


def test_what_benchmarks_measured_is_read_and_stands_in_their_results():
    trained, realism = results.measured("training"), results.measured("realism")
    assert {"table training", "table realism"} <= set(runs_module.LOADED)
    page = (results.MEASURED.parents[1] / "benchmarks/RESULTS.md").read_text()
    of = trained["step"].astype(str) == trained["steps"].astype(str)  # the ends of fits
    ends = trained[of].groupby(["part", "height", "beta", "recipe", "steps"])["elbo"].mean()
    assert [n for n in ends.round(1) if f"−{abs(n):,g}" not in page] == []
    apart = results.measured("headline").groupby("recipe")["explained"].mean()
    real = results.measured("real_brain").groupby(["of", "kind", "model"])["value"].mean()
    models = apart.groupby(apart.index.str.split("-seed").str[0]).mean()
    assert [n for n in (*models, *real) if f"{n:.3f}" not in page] == []
    assert realism.groupby("of")["n"].unique().map(list).to_dict() == {
        "real brain": [1], "simulated brains": [80],
    }  # fmt: skip


def test_a_tables_head_says_its_fits_seeds_and_precision(
    p, made, places, tmp_path, nothing_is_fitted
):
    about = results._lookup(p, "grid")[2]
    place = results._place(p, about)
    fits = results.read_rows(place)[0]["fits"]
    assert sorted(of["seed"] for of in fits.values() if "seed" in of) == [0, 0, 0, 0, 1, 1, 1, 1]
    here = pick_precision("auto", torch.device("cpu"))
    assert [of["precision"] for of in fits.values() if "precision" in of] == 8 * [here]
    old = p.changed({"places.data": f"{tmp_path}/data", "places.results": f"{tmp_path}/none"})
    (own := results._place(old, about)).parent.mkdir(parents=True)
    results.write_rows(own, made, about | {"fits": [0]})
    with pytest.raises(ValueError, match=f"{own.name} is damaged .its fits or settings are of"):
        results.table(old, "grid")


def test_what_is_measured_is_written_with_what_it_was_made_with_beside_that_of_others(tmp_path):
    rows = pd.DataFrame({"of": ["a"], "value": [0.123456]})
    results.write_measured("training", rows, {"seed": 0}, tmp_path)
    results.write_measured("realism", rows, {"cohort": "0a1b"}, tmp_path)
    for name in ("training", "realism"):
        assert results.measured(name, tmp_path)["value"].item() == 0.12346
    made = json.loads((tmp_path / results.SEALED).read_text())["made"]
    assert made == {
        "training": {"seed": 0} | made_with(),
        "realism": {"cohort": "0a1b"} | made_with(),
    }
    (tmp_path / "training.csv").write_text("of,value\n")
    with pytest.raises(ValueError, match="training.csv is damaged"):
        results.write_measured("realism", rows, {}, tmp_path)


# ---- what comes with the project ----

RESULTS = Path(__file__).parent.parent / "results"


def test_what_comes_with_the_project_says_what_it_was_made_with():
    made_by, versions = {}, {"brainvae", "python", "numpy", "torch", "commit"}
    for path in RESULTS.glob("*/runs/*/config.json"):
        head = json.loads(path.read_text())
        assert head["cohort"]["fingerprint"] and "seed" in head["config"]
        assert head["made"]["precision"] and head["made"]["device"]
        made_by[path.parent.name] = head["made"]
    for path in RESULTS.glob("*/tables/*"):
        head, _ = results.read_rows(path)
        assert head["cohort"] and "settings" in head
        made_by[path.name.split(".")[0]] = set.intersection(*map(set, head["fits"].values()))
    for path in RESULTS.glob("*/explorer_data.js"):
        head = json.loads(path.read_text().partition(" = ")[2].rstrip(";\n"))
        made_by[path.name] = head["made"]
    head = json.loads((results.MEASURED / results.SEALED).read_text())["made"]
    made_by |= {path.name: head.get(path.stem, {}) for path in results.MEASURED.glob("*.csv")}
    assert len(made_by) > 30
    without = {name for name, of in made_by.items() if not versions <= {*of}}
    assert without == set()
