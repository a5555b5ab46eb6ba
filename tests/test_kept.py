"""Runs that come with the project: half precision, the same images, found on any processor."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest
from refusals import refused

from brainvae_core.cohorts import simulate
from brainvae_core.models import BetaVAEConfig, export_runs, fit, import_runs, load_run, run_name
from brainvae_core.models.kept import LARGEST
from brainvae_core.models.runs import LOADED

CONFIG = BetaVAEConfig(latent_dim=3, steps=6, batch_size=4, validate_every=3)
RESULTS = Path(__file__).parent.parent / "results"


@pytest.fixture(scope="module")
def cohort():
    return simulate(24, shape=(40, 56), seed=0)


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    return fit(cohort, CONFIG, tmp_path_factory.mktemp("runs"), "cpu")


@pytest.fixture
def results(cohort, run, tmp_path):
    export_runs(cohort, [run], tmp_path / "results/own")
    return tmp_path / "results"


def other_processor(cohort):
    """The same cohort but for the last bits of its pixels."""
    images = np.nextafter(cohort.images, np.float32(2)).clip(0, 1)
    return cohort._like(images=images)


@pytest.mark.promise("kept models and tables are those of the fits, on any processor")
def test_a_kept_model_is_found_by_fit_wherever_its_cohort_is_made(cohort, run, results, tmp_path):
    for there in (cohort, other_processor(cohort)):
        runs = tmp_path / there.fingerprint
        loaded = dict(LOADED)
        (name,) = import_runs(there, results, runs)
        assert name == run_name(CONFIG, there.fingerprint) and loaded == LOADED
        found = fit(there, CONFIG, runs, "cpu")
        assert [f.name for f in runs.iterdir()] == [name]
        assert found.history == run.history and found.config == CONFIG
        assert found.made["kept"].startswith("float16, decoded images within ")
        codes = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
        apart = np.abs(found.model.decode(codes) - run.model.decode(codes)).max()
        assert 0 < apart <= LARGEST
        assert float(found.model.log_sigma) == float(run.model.log_sigma)
    assert cohort.fingerprint != there.fingerprint


def test_what_a_user_fitted_stays_and_of_another_cohort_nothing_is_placed(
    cohort, run, results, tmp_path
):
    runs = shutil.copytree(run.folder.parent, tmp_path / "runs")
    before = (runs / run.folder.name / "weights.safetensors").read_bytes()
    assert import_runs(cohort, results, runs) == [run.folder.name]
    assert (runs / run.folder.name / "weights.safetensors").read_bytes() == before
    twice = np.concatenate([cohort.images[:1], cohort.images[:1], cohort.images[2:]])
    replaced, new = cohort._like(images=twice), {"sim-00003": "m3"}
    renamed = cohort._like(metadata=cohort.metadata.rename(new), factors=cohort.factors.rename(new))
    others = simulate(24, shape=(40, 56), seed=1), cohort.select(range(20)), replaced, renamed
    for other in (*others, cohort.resampled((20, 28))):
        assert import_runs(other, results, tmp_path / "none") == []
    assert import_runs(cohort, tmp_path / "no results", tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_kept_runs_of_another_cohort_or_of_one_that_nothing_tells_are_refused(
    cohort, run, results, tmp_path
):
    other = simulate(30, shape=(40, 56), seed=0)
    told = r"keeps runs of cohort .*\[24, 40, 56\] and not of .*; move it away"
    refused([(told, export_runs, other, [run], results / "own")])
    file = results / "own/cohort.json"
    about = json.loads(file.read_text())
    damages = {"identity": "0" * 64, "shape": [9, 40, 56], "name": "another", "sha256": ""}
    damaged = [json.dumps(about | {name: value}) for name, value in damages.items()]
    damaged.append(json.dumps({k: v for k, v in about.items() if k != "sha256"}))
    for content in (*damaged, "", None):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_text(content)
        told = r"own/cohort\.json cannot be read .*; restore it from git"
        refused([(told, import_runs, cohort, results, tmp_path / "none")])


@pytest.mark.promise("kept models and tables are those of the fits, on any processor")
def test_a_model_that_half_precision_changes_is_not_kept(cohort, run, tmp_path):
    model = CONFIG.restore(run.model.tensors())
    model.output_offset.add_(3000)  # a step of float16 is 2 there
    model.decoder[-1].bias.data.sub_(3000)
    changed = replace(run, model=model)
    refused([("other images in half precision", export_runs, cohort, [changed], tmp_path / "own")])
    assert not (tmp_path / "own").exists()


def test_the_projects_own_are_whole_and_small():
    kept = sorted(RESULTS.glob("*/runs/*"))
    makefile = (RESULTS.parent / "Makefile").read_text()
    (stages,) = re.findall(r"study full --only (.*) --keep$", makefile, re.M)
    told = {"full" if stage == "evaluated" else f"full-{stage}" for stage in stages.split()}
    assert {folder.parts[-3] for folder in kept} == told
    for folder in kept:
        run = load_run(folder)
        LOADED.pop(folder.name)
        active, n = run.history[-1]["active_latents"], run.config.latent_dim
        if folder.parts[-3] == "full":
            assert run.model.n_parameters == 730_289 and run.model.image_shape == (320, 448)
            assert active == n
        assert run.history[-1]["step"] == run.config.n_steps
        assert float(run.made["kept"].split("within ")[1].split()[0]) <= LARGEST
        assert active > n / 2  # at β = 3 latents beyond the eight factors may be left unused
        about = json.loads((folder.parents[1] / "cohort.json").read_text())
        assert len(about["sha256"]) == 64
    assert sum(f.stat().st_size for f in RESULTS.rglob("*") if f.is_file()) < 40e6


def test_two_that_keep_the_same_run_leave_what_one_leaves(cohort, run, results, tmp_path):
    meet = Barrier(2)

    class Both:
        """A model that is asked, for the first time, once two processes are at it."""

        def __getattr__(self, name):
            if name == "tensors":
                meet.wait(60)
            return getattr(run.model, name)

    folder = tmp_path / "both"
    with ThreadPoolExecutor(2) as pool:
        two = [pool.submit(export_runs, cohort, [replace(run, model=Both())], folder) for _ in "12"]
        assert [done.result(60) for done in two] == [None, None]
    one, found = (
        {f.relative_to(of): f.read_bytes() for f in of.rglob("*") if f.is_file()}
        for of in (results / "own", folder)
    )
    assert one == found
    (folder / ".cohort.json.lock").touch()  # a kill left it
    export_runs(cohort, [run], folder)
    assert not list(folder.rglob(".*"))


def test_runs_of_a_cohort_that_came_first_are_not_mixed_with_anothers(cohort, run, tmp_path):
    other, folder = simulate(24, shape=(40, 56), seed=1), tmp_path / "own"
    model = SimpleNamespace(
        tensors=lambda: export_runs(other, [run], folder) or run.model.tensors(),
        encode=run.model.encode,
        decode=run.model.decode,
    )
    told = r"keeps runs of cohort .* and not of"
    refused([(told, export_runs, cohort, [replace(run, model=model)], folder)])
