"""What the chapters on the latents fit besides: other objectives, and cohorts whose truth is known.

Whatever brains a profile has, the truth is asked of simulated ones, on the profile's atlas and at
its sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from brainvae_core.cohorts import Cohort, PlantedModel, clean_part, simulate_freeform
from brainvae_core.fields import Recovery, planted_fields, recover
from brainvae_core.metrics import active_latents
from brainvae_core.models import LinearGaussian, PCAConfig, fit_all
from brainvae_core.prepare import open_atlas, prepare_cohort
from brainvae_core.profile import (
    Parameters,
    evaluated_models,
    evaluation_cohort,
    grid_cohort,
    study,
)

NAMES = {
    "capacity": "capacity VAE",
    "total_correlation": "β-TCVAE",
    "mmd": "MMD-VAE",
}


def family_models(p: Parameters, cohort: Cohort) -> dict[str, list]:
    """PCA, VAE, β-VAE and every other objective of the profile, several fits each.

    Parameters
    ----------
    p : Parameters
    cohort : Cohort
        At the size of the grid (`grid_cohort`), with whose steps they are fitted.

    Returns
    -------
    dict of str to list of models
        A fit that failed is left out.

    Raises
    ------
    ValueError
        No fit of one of them succeeded.
    """
    base = p.model_config(steps=p.grid_steps)
    configs = {"PCA": [PCAConfig(p.latent_dim)]}
    changes = {"VAE": {"beta": 1.0}, "β-VAE": {}}
    changes |= {NAMES.get(name, name): {"objective": name} for name in p.objectives}
    for name, change in changes.items():
        configs[name] = [replace(base, seed=seed, **change) for seed in _seeds(p)]
    return _fitted(p, cohort, configs)


def living(models: Mapping[str, Sequence], images: np.ndarray, least: int = 1) -> dict[str, list]:
    """The fits with an active latent: a model that tells no brains apart has no fields to read.

    Parameters
    ----------
    models : mapping of str to sequence of models
        The fits of each.
    images : ndarray, shape (n_brains, height, width)
        Brains that they tell apart, or not.
    least : int
        Active latents that a fit must have; what compares latents needs 2.

    Returns
    -------
    dict of str to list of models

    Raises
    ------
    ValueError
        No fit of one of the models has so many.
    """
    alive = {
        name: [m for m in fits if active_latents(m.encode(images)).sum() >= least]
        for name, fits in models.items()
    }
    if dead := [name for name, fits in alive.items() if not fits]:
        raise ValueError(
            f"no fit of {', '.join(dead)} has {least} or more active latents; fit longer or with a "
            "smaller beta"
        )
    return alive


def planted_cohort(p: Parameters) -> Cohort:
    """The profile's simulated cohort, the same where its brains are simulated anyway."""
    return prepare_cohort(replace(p, brains="simulated"))


def freeform_cohort(p: Parameters) -> Cohort:
    """As many brains of the second simulator, at the size of the evaluation."""
    shape = (p.height, p.width)
    made = simulate_freeform(p.n_brains, open_atlas(p), shape, p.artefact_share, p.cohort_seed)
    return evaluation_cohort(p, made)


def freeform_models(p: Parameters, cohort: Cohort) -> dict[str, list]:
    """PCA and β-VAE of that cohort, one fit and several."""
    base = p.model_config(steps=p.eval_steps)
    configs = {
        "PCA": [PCAConfig(p.latent_dim)],
        "β-VAE": [replace(base, seed=seed) for seed in p.eval_seeds],
    }
    return _fitted(p, cohort, configs)


def told_model(cohort: Cohort) -> LinearGaussian:
    """The linear model that knows its training brains' factors: what could be found at best."""
    train = clean_part(cohort, "train")
    return LinearGaussian.fit_to_factors(train.images, train.factors.to_numpy())


def with_training_brains(cohort: Cohort, n: int) -> Cohort:
    """The same validation and test brains, and the first n of the training brains.

    Raises
    ------
    ValueError
        There are not so many.
    """
    train = np.flatnonzero(cohort.metadata["split"] == "train")
    if not 2 <= n <= len(train):
        raise ValueError(f"n={n} training brains of {len(train)}; give 2 to {len(train)}")
    others = np.flatnonzero(cohort.metadata["split"] != "train")
    return cohort.select(np.sort([*train[:n], *others]))


def varied_cohorts(p: Parameters, cohort: Cohort) -> dict[str, dict[float, Cohort]]:
    """The planted cohort at the size of the grid, with other training brains or artefacts.

    Parameters
    ----------
    p : Parameters
    cohort : Cohort
        Of `planted_cohort`, at the size of the grid.

    Returns
    -------
    dict of what varies to dict of value to Cohort
        ``"brains"`` and ``"share"``, the cohort's own value among them. The
        clean brains of one seed are the same whatever share of them is corrupted.
    """
    n_train = int((cohort.metadata["split"] == "train").sum())
    fewer = {n: with_training_brains(cohort, n) for n in p.varied_brains if n < n_train}
    shares = {
        share: grid_cohort(p, planted_cohort(replace(p, artefact_share=share)))
        for share in p.varied_artefact_shares
    }
    return {
        "brains": {**fewer, n_train: cohort},
        "share": dict(sorted({**shares, p.artefact_share: cohort}.items())),
    }


def varied_models(p: Parameters, cohort: Cohort) -> dict[str, list]:
    """PCA and β-VAE of one of these cohorts, fitted as those of the grid."""
    base = p.model_config(steps=p.grid_steps)
    configs = {
        "PCA": [PCAConfig(p.latent_dim)],
        "β-VAE": [replace(base, seed=seed) for seed in _seeds(p)],
    }
    return _fitted(p, cohort, configs)


def grid_through(p: Parameters) -> list:
    """The row and the column of the grid that meet in the profile's model, and its PCAs."""
    return [
        config
        for config in study(p).configs
        if config.latent_dim == p.latent_dim or getattr(config, "beta", p.beta) == p.beta
    ]


def planted_grid(
    p: Parameters, cohort: Cohort, c: np.ndarray
) -> dict[str, dict[str, dict[float, list[Recovery]]]]:
    """What is recovered of the planted factors as one thing varies, at the size of the grid.

    Parameters
    ----------
    p : Parameters
    cohort : Cohort
        Of `planted_cohort`, at its full size.
    c : ndarray, shape (n_c,)
        Interpolation weights of the projective fields.

    Returns
    -------
    dict of ``"beta"``, ``"latent_dim"``, ``"brains"`` and ``"share"``
        Of model to value to the recoveries of its fits, PCA's at every β the same. Values without a
        fit are left out.
    """
    coarse = grid_cohort(p, cohort)
    test = clean_part(coarse)
    factors, regions = test.factors.to_numpy(), coarse.atlas.regions(p.region_share)
    masks = np.concatenate([coarse.atlas.roi_masks(regions, side) for side in ("left", "right")])
    simulator = PlantedModel.anatomical(coarse.atlas)
    planted = planted_fields(simulator, test.images, masks, np.linspace(-3, 3, 25))

    def recoveries(fits):
        found = [(m, active_latents(m.encode(test.images))) for m in fits]
        return [
            recover(m, test.images, factors, planted, masks, c, active, max(p.n_read // 2, 3))
            for m, active in found
        ]

    runs = fit_all(coarse, grid_through(p), p.runs, p.device, p.together, halve=True)
    by_config = {run.config: run.model for run in runs}
    pcas = {k.latent_dim: [m] for k, m in by_config.items() if k.kind == PCAConfig.kind}
    vaes = [(k, m) for k, m in by_config.items() if k.kind != PCAConfig.kind]
    at_l = [(k.beta, m) for k, m in vaes if k.latent_dim == p.latent_dim]
    at_beta = [(k.latent_dim, m) for k, m in vaes if k.beta == p.beta]
    fits = {
        "beta": {
            "PCA": dict.fromkeys(p.betas, pcas[p.latent_dim]),
            "β-VAE": {x: [m for y, m in at_l if y == x] for x in p.betas},
        },
        "latent_dim": {
            "PCA": pcas,
            "β-VAE": {x: [m for y, m in at_beta if y == x] for x in p.latent_dims},
        },
    }
    for what, cohorts in varied_cohorts(p, coarse).items():
        models = {x: varied_models(p, varied) for x, varied in cohorts.items()}
        fits[what] = {k: {x: of_x[k] for x, of_x in models.items()} for k in ("PCA", "β-VAE")}
    found = {
        what: {k: {x: recoveries(f) for x, f in by_x.items()} for k, by_x in table.items()}
        for what, table in fits.items()
    }
    return {
        what: {k: {x: r for x, r in by_x.items() if r} for k, by_x in table.items()}
        for what, table in found.items()
    }


def fit_interpreted(p: Parameters) -> None:
    """Fit all that the chapters on the latents read beyond the compared models and the grid."""
    family_models(p, grid_cohort(p, prepare_cohort(p)))
    planted = planted_cohort(p)
    evaluated_models(p, evaluation_cohort(p, planted))
    freeform = freeform_cohort(p)
    freeform_models(p, freeform)
    coarse = grid_cohort(p, planted)
    fit_all(coarse, grid_through(p), p.runs, p.device, p.together, halve=True)
    for cohorts in varied_cohorts(p, coarse).values():
        for cohort in cohorts.values():
            varied_models(p, cohort)


def _seeds(p: Parameters) -> tuple[int, ...]:
    """The grid's, and the evaluation's where the grid has fewer: a number has an interval."""
    return tuple(dict.fromkeys((*p.grid_seeds, *p.eval_seeds)))


def _fitted(p: Parameters, cohort: Cohort, configs: dict[str, Iterable]) -> dict[str, list]:
    wanted = dict.fromkeys(config for of_model in configs.values() for config in of_model)
    runs = fit_all(cohort, wanted, p.runs, p.device, p.together, halve=True)
    models = {
        name: [run.model for run in runs if run.config in of_model]
        for name, of_model in configs.items()
    }
    if missing := [name for name, fitted in models.items() if not fitted]:
        raise ValueError(f"no fit of {', '.join(missing)} succeeded; see above for why")
    return models
