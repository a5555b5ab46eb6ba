"""Fits that failed are gaps in the chapter on the grid, not its end."""

import shutil

import pytest
from executed import NOTEBOOKS, chapter

from brainvae_core.models import fit_all
from brainvae_core.models.runs import run_name, save_run
from brainvae_core.prepare import prepare_cohort
from brainvae_core.results import table
from brainvae_core.settings import read_settings
from brainvae_core.study import grid

TINY = "n_brains=40, cohort.shape=[40, 56], latent_dim=8, batch_size=4, device=cpu, fd_dim=3, "
TINY += "betas=[1, 3], latent_dims=[2, 8], grid.seeds=[0, 1], grid.steps=5"


@pytest.mark.workflow
def test_the_grid_shows_the_gaps_of_fits_that_failed(tmp_path, monkeypatch):
    """Of one β, and of a seed of the other."""
    monkeypatch.chdir(NOTEBOOKS)
    asked = {"settings": f"{TINY}, data={tmp_path}/data, runs={tmp_path}/runs"}
    p = read_settings(asked, show=False)
    cohort = prepare_cohort(p).resampled(p.grid.shape)
    fit_all(cohort, grid(p).configs, p.places.runs, p.places.device, p.places.together)
    vaes = [config for config in grid(p).configs if config.kind == "beta_vae"]

    def fail(configs):
        for config in configs:
            folder = tmp_path / "runs" / run_name(config, cohort.fingerprint)
            shutil.rmtree(folder)
            failure = "step 3: the loss is not finite"
            save_run(folder, config, cohort.fingerprint, cohort.name, None, [], failure)

    fail(c for c in vaes if c.beta == 1 or (c.latent_dim, c.seed) == (8, 0))
    printed = "\n".join(chapter("04_grid", profile="demo", **asked)[:2])
    assert "step 3: the loss is not finite" in printed
    lines = [line.rsplit(maxsplit=1) for line in printed.splitlines()]
    held = {line[0].strip(): line[1] for line in lines if line[-1:] in (["True"], ["False"])}
    assert held["every point of the grid has its fits"] == "False"
    assert held["the largest β has the smallest rate at every L"] == "False"
    assert held["PCA explains more with every component"] == "True"
    shutil.rmtree(tmp_path / "data/tables")
    fail(vaes)
    with pytest.raises(ValueError, match="^no fit of β-VAE succeeded; see above for why$"):
        table(p, "grid")
