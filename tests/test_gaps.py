"""Fits that failed are gaps in the chapters on the grid, not their end."""

import shutil

import pytest
from executed import NOTEBOOKS, chapter

from brainvae_core.models import fit_all
from brainvae_core.models.runs import run_name, save_run
from brainvae_core.prepare import prepare_cohort
from brainvae_core.settings import read_settings
from brainvae_core.study import grid

TINY = "n_brains=40, cohort.shape=[40, 56], latent_dim=8, batch_size=4, device=cpu, fd_dim=3, "
TINY += "betas=[1, 3], latent_dims=[2, 8], grid.seeds=[0, 1], grid.steps=5"


pytestmark = pytest.mark.workflow


def settings_of(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(NOTEBOOKS)
        return read_settings({"settings": text}, show=False)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The tiny grid, wholly fitted, and its cohort."""
    folder = tmp_path_factory.mktemp("fitted")
    p = settings_of(f"{TINY}, data={folder}/data, runs={folder}/runs")
    cohort = prepare_cohort(p).resampled(p.grid.shape)
    fit_all(cohort, grid(p).configs, p.places.runs, p.places.device, p.places.together)
    return p, cohort


@pytest.fixture
def chapters(fitted, tmp_path):
    """Executes a chapter where some of the fits have failed; what its cells printed."""
    p, cohort = fitted

    def executed(failed):
        runs = tmp_path / "runs"
        shutil.rmtree(f"{p.places.data}/tables", ignore_errors=True)  # scores of all fits
        if not runs.exists():
            shutil.copytree(p.places.runs, runs)
            vaes = [c for c in grid(p).configs if c.kind == "beta_vae" and failed(c)]
            assert vaes
            for config in vaes:
                folder = runs / run_name(config, cohort.fingerprint)
                shutil.rmtree(folder)
                failure = "step 3: the loss is not finite"
                save_run(folder, config, cohort.fingerprint, cohort.name, None, [], failure)
        given = {"profile": "demo", "settings": f"{TINY}, data={p.places.data}, runs={runs}"}
        return "\n".join(chapter("04_grid", **given)[:2])

    return executed


def claims(printed):
    """What the last cell says, by its sentence."""
    lines = [line.rsplit(maxsplit=1) for line in printed.splitlines()]
    return {
        line[0].strip(): line[1] == "True" for line in lines if line[-1:] in (["True"], ["False"])
    }


def one_beta_and_a_seed_of_the_other(config):
    return config.beta == 1 or (config.latent_dim, config.seed) == (8, 0)


def test_the_grid_shows_the_gaps_of_fits_that_failed(chapters):
    printed = chapters(one_beta_and_a_seed_of_the_other)
    assert "step 3: the loss is not finite" in printed
    assert not claims(printed)["every point of the grid has its fits"]
    assert not claims(printed)["the largest β has the smallest rate at every L"]
    assert claims(printed)["PCA explains more with every component"]


def test_without_any_vae_the_chapter_ends_with_one_line(chapters):
    with pytest.raises(ValueError, match="^no fit of β-VAE succeeded; see above for why$"):
        chapters(lambda config: True)
