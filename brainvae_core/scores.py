"""What images say of a fit, as tables: each function takes what all fits share, and scores one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainvae_core import readings
from brainvae_core.metrics import (
    CWSSIM,
    cw_ssim_level,
    explained_variance,
    pca_basis,
    pca_frechet_distance,
)
from brainvae_core.models import elbo_terms


@dataclass(frozen=True)
class Table:
    """What is scored: every fit of a stage, by the function that ``made(p, cohort)`` gives.

    That function takes a run and returns its rows, without the labels of its fit. ``settings`` are
    the names of those that change the rows.
    """

    stage: str
    made: Callable
    settings: tuple[str, ...] = ()


def grid(p, cohort):
    """Terms of the bound on validation and test brains, and what reconstructions are worth.

    Half of the test brains are the real side of PCA-FD; the other half's reconstructions, or as
    many samples of the prior, are the model's.
    """
    validation, test = (cohort.split(name).images for name in ("validation", "test"))
    mean_section = cohort.split("train").images.mean(axis=0)
    similarity = CWSSIM(test, cw_ssim_level(cohort.atlas.pixel_um))
    basis = pca_basis(validation, min(p.evaluation.fd_dim, len(validation) - 1))
    half = len(test) // 2

    def of_run(run):
        model, end = run.model, run.history[-1]
        seen = model.reconstruct(test)
        z = np.random.default_rng(0).standard_normal((half, run.config.latent_dim))
        found = {
            "explained variance, validation": end["explained_variance"],
            "active latents": end["active_latents"],
            "explained variance": explained_variance(test, seen, mean_section),
            "CW-SSIM": similarity(seen).mean(),
            "PCA-FD": pca_frechet_distance(basis, test[:half], seen[half : 2 * half]),
            "PCA-FD, prior": pca_frechet_distance(
                basis, test[:half], model.decode(z.astype(np.float32))
            ),
        }
        if "validation_kl" in end:
            terms = np.mean(elbo_terms(model, run.config, test), axis=1)
            of_test = dict(zip(("distortion", "rate"), terms, strict=True))
            of_validation = {
                "distortion, validation": end["validation_reconstruction"],
                "rate, validation": end["validation_kl"],
            }
            found |= of_test | of_validation
        return pd.DataFrame({"score": found.keys(), "value": found.values()})

    return of_run


READ = ("fields.rois", "fields.region_share", "fields.n_read", "fields.c_max")
TABLES = {
    "grid": Table("grid", grid, ("evaluation.fd_dim",)),
    "fields": Table("read", readings.fields, READ),
    "statements": Table("read", readings.statements, READ),
    "tails": Table("read", readings.tails, ("fields.rois", "fields.c_max")),
    "codes": Table("read", readings.codes),
}
