"""Scores of a fit as tables: each function takes what all fits share, and scores one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainvae_core import readings
from brainvae_core.cohorts import SIMULATORS, clean_part, displaced, graded_artefacts
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.metrics import (
    CWSSIM,
    ErrorMap,
    auc,
    clustering,
    cw_ssim_level,
    error_score,
    explained_variance,
    explained_variance_per_brain,
    fitted_sigma,
    frechet_distance,
    generated_scores,
    graded_removal,
    jackknife_table,
    likelihood_bound,
    nearest_distances,
    norm_ratio,
    outlier_score,
    pca_basis,
    pca_frechet_distance,
    pixel_detection,
    radial_spectrum,
    reproduced_change,
    scores_table,
    spread,
)
from brainvae_core.models import elbo_terms
from brainvae_core.planted import recovered
from brainvae_core.prepare import prepare_cohort

PER_GRADED = 4  # clean brains whose spectrum or likelihood is asked, for each with every artefact
N_BINS = 12  # of the spectrum
FINE_UM, COARSE_UM = (100, 300), 500  # below 100 µm there is sensor noise alone
SOME_BRAINS = 256  # training brains that tell a model's σ, and what its codes are like
CHANGES = {
    "ventricles wider": "ventricle_size",
    "cortex thicker": "cortical_thickness",
    "brain wider": "brain_width",
}
AMOUNTS = (1.0, 3.0, 5.0)  # planted standard deviations


@dataclass(frozen=True)
class Table:
    """What is scored: every fit of a stage, by the function that ``made(p, cohort)`` gives.

    That function takes a run and returns its rows, without the labels of its fit. ``settings`` are
    the names of those that change the rows. Another ``version`` has kept rows made anew: raise it
    when the function gives other rows.
    """

    stage: str
    made: Callable
    settings: tuple[str, ...] = ()
    version: int = 1


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


def reconstruction(p, cohort):
    """What reconstructions of test brains are worth.

    ``deviation`` is how far they lie from the mean image, over how far the brains do; ``training
    less test`` what is explained of as many training brains less what is of test brains.
    """
    train, test = cohort.split("train").images, cohort.split("test").images
    similarity = CWSSIM(test, cw_ssim_level(cohort.atlas.pixel_um))
    mean_section, seen = train.mean(axis=0), train[: len(test)]

    def of_run(run):
        answers = run.model.reconstruct(test)
        of_test = explained_variance_per_brain(test, answers, mean_section)
        of_seen = explained_variance_per_brain(seen, run.model.reconstruct(seen), mean_section)
        found = {
            "explained variance": of_test,
            "CW-SSIM": similarity(answers),
            "deviation": norm_ratio(test, answers, mean_section),
            "training less test": of_seen - of_test[: len(seen)],
        }
        return scores_table(found)

    return of_run


def distance(p, cohort):
    """PCA-FD from half of the test brains, of what a model makes: of all, and with groups left out.

    It makes reconstructions of the other half, which itself is ``real brains``, and as many samples
    of the prior and of the aggregate posterior.
    """
    train, validation, test = (
        cohort.split(name).images for name in ("train", "validation", "test")
    )
    half = len(test) // 2
    basis = pca_basis(validation, min(p.evaluation.fd_dim, len(validation) - 1))
    real, others = basis.project(test[:half]), test[half : 2 * half]

    def of_run(run):
        made = {"real brains": basis.project(others)}
        made |= generated_scores(run.model, basis, others, train)
        samples = {kind: (real, of_kind) for kind, of_kind in made.items()}
        return jackknife_table(frechet_distance, samples)

    return of_run


def likelihood(p, cohort):
    """log p(x) of clean test brains with one σ for all pixels, nats per image.

    Of PCA it is that of probabilistic PCA, exact; of the VAEs the importance-weighted bound.
    """
    train = cohort.split("train").images
    clean = clean_part(cohort).images[: PER_GRADED * p.evaluation.n_graded]

    def of_run(run):
        if hasattr(run.model, "probabilistic"):
            model = run.model.probabilistic(train)
            return scores_table({"log p(x)": model.log_likelihood(clean)})
        sigma = fitted_sigma(run.model, train[:SOME_BRAINS])
        bound = likelihood_bound(run.model, clean, sigma, p.evaluation.n_importance)
        found = {"log p(x)": bound.importance_weighted, "gain on the ELBO": bound.gap}
        return scores_table(found)

    return of_run


def dispersion(p, cohort):
    """How far codes of test brains spread, how near neighbours are, and whether they cluster.

    The spread is in prior standard deviations, neighbours in the posterior's own.
    """
    test = cohort.split("test").images

    def of_run(run):
        mean, std = run.model.posterior(test)
        statistics = {
            "spread of the codes": (spread, mean),
            "nearest neighbour": (lambda z: nearest_distances(z).mean(), mean / std.mean(axis=0)),
            "clustering": (clustering, mean),
        }
        parts = [jackknife_table(of, {score: [rows]}) for score, (of, rows) in statistics.items()]
        return pd.concat(parts, ignore_index=True)

    return of_run


def spectrum(p, cohort):
    """Power that a model leaves of clean test brains, over that of their deviation from the mean.

    By the size of structures, µm: 0 where all is reproduced, 1 where nothing is. ``fine`` and
    ``coarse`` are means over the sizes within `FINE_UM` and beyond `COARSE_UM`.
    """
    brains = clean_part(cohort).images[: PER_GRADED * p.evaluation.n_graded]
    mean_section, pixel_um = cohort.split("train").images.mean(axis=0), cohort.atlas.pixel_um
    frequencies, deviation = radial_spectrum(brains - mean_section, pixel_um, N_BINS)
    sizes = 1000 / frequencies
    fine = (sizes > FINE_UM[0]) & (sizes < FINE_UM[1])
    fine = fine if fine.any() else sizes == sizes.min()  # where pixels are larger than that
    parts = {"fine": fine, "coarse": sizes > COARSE_UM}

    def of_run(run):
        _, left = radial_spectrum(brains - run.model.reconstruct(brains), pixel_um, N_BINS)
        shares = (left / deviation).T
        means = {name: shares[of].mean(axis=0) for name, of in parts.items() if of.any()}
        by_size = scores_table({"power left": shares}, axes={"size_um": [round(s) for s in sizes]})
        return pd.concat([by_size, scores_table(means)], ignore_index=True)

    return of_run


def _graded(p, cohort, strengths):
    """Planted at the cohort's full size, so that every size has the same artefacts."""
    planted = graded_artefacts(prepare_cohort(p), strengths, p.evaluation.n_graded)
    return planted.resampled(cohort.atlas.shape)


def removal(p, cohort, strengths=None):
    """What comes back of artefacts at every strength, and of the brain: of `graded_removal`.

    ``reproduced`` is the share of the artefact; of a grid that of its lines, not how bright the
    brain between them is. ``kept`` is the share of the brain around it, ``explained`` the explained
    variance of the same brain without it.
    """
    graded = _graded(p, cohort, strengths or p.evaluation.artefact_strengths)
    mean_section = cohort.split("train").images.mean(axis=0)
    lines = np.array([kind == "grid" for kind in graded.kinds])[:, None, None]
    kinds = ["grid's lines" if kind == "grid" else kind for kind in graded.kinds]

    def of_run(run):
        back = graded_removal(run.model, graded, mean_section, ["grid"])
        answers = run.model.reconstruct(graded.clean)
        of_clean = explained_variance_per_brain(graded.clean, answers, mean_section)
        found = {
            "reproduced": np.where(lines, back.pattern, back.reproduced),
            "kept": back.kept,
            "explained": np.broadcast_to(of_clean, back.kept.shape),
        }
        return scores_table(found, axes={"kind": kinds, "strength": graded.strengths})

    return of_run


def removal_along_l(p, cohort):
    """`removal` at the last of the strengths."""
    return removal(p, cohort, p.evaluation.artefact_strengths[-1:])


def _errors(p, cohort):
    """Artefacts of middle strength, and what makes a model's map of errors."""
    strengths = p.evaluation.artefact_strengths
    graded = _graded(p, cohort, strengths[len(strengths) // 2 :][:1])
    ordinary = clean_part(cohort, "validation").images[: PER_GRADED * p.evaluation.n_graded]
    return graded, lambda run: ErrorMap(run.model, ordinary)


def detection(p, cohort):
    """How well a model's error outlines artefacts: `pixel_detection`, a brain a row."""
    graded, error_of = _errors(p, cohort)
    flat, masks = (x.reshape(-1, *cohort.atlas.shape) for x in (graded.images, graded.masks))
    axes = {"kind": graded.kinds}

    def of_run(run):
        areas = pixel_detection(error_of(run)(flat), masks)
        return scores_table({"pixels": areas.reshape(len(graded.kinds), -1)}, axes=axes)

    return of_run


def noticed(p, cohort):
    """How often a brain with an artefact scores higher than a clean one, by error and by code."""
    graded, error_of = _errors(p, cohort)
    train = cohort.split("train").images[:SOME_BRAINS]

    def of_run(run):
        error, usual = error_of(run), run.model.encode(train)
        scores = {"brain, by error": lambda images: error_score(error(images))}
        if 1 < usual.shape[1] <= len(train) - 2:  # a brain's number or no code has no distance
            scores["brain, by code"] = lambda x: outlier_score(usual, run.model.encode(x))
        tables = []
        for name, score in scores.items():
            of_clean = score(graded.clean)
            for kind, (images,) in zip(graded.kinds, graded.images, strict=True):
                found = jackknife_table(auc, {name: (of_clean, score(images))})
                tables.append(found.assign(kind=kind))
        return pd.concat(tables, ignore_index=True)

    return of_run


def anatomy(p, cohort):
    """How much of a planted change of anatomy comes back: `reproduced_change`."""
    whole = prepare_cohort(p)
    before = clean_part(whole).images[: p.evaluation.n_graded]
    times = whole.atlas.shape[0] // cohort.atlas.shape[0]
    ordinary = block_mean(before, times)
    changed = [
        [block_mean(displaced(before, whole.atlas, factor, by), times) for by in AMOUNTS]
        for factor in CHANGES.values()
    ]
    axes = {"change": list(CHANGES), "amount": AMOUNTS}

    def of_run(run):
        usual = run.model.reconstruct(ordinary)
        shares = [
            [reproduced_change(ordinary, x, usual, run.model.reconstruct(x)) for x in by_amount]
            for by_amount in changed
        ]
        return scores_table({"comes back": np.array(shares)}, axes=axes)

    return of_run


_GRADED = ("evaluation.artefact_strengths", "evaluation.n_graded")
OF_FACTORS = tuple(f"fields.{s}" for s in ("c_max", "n_read", "n_rotations", "region_share"))
READ = ("fields.rois", "fields.region_share", "fields.n_read", "fields.c_max")
TABLES = {
    "grid": Table("grid", grid, ("evaluation.fd_dim",)),
    "reconstruction": Table("evaluated", reconstruction),
    "reconstruction_along_l": Table("curve", reconstruction),
    "floors": Table("floors", reconstruction),
    "distance": Table("evaluated", distance, ("evaluation.fd_dim",)),
    "distance_along_l": Table("curve", distance, ("evaluation.fd_dim",)),
    "likelihood_along_l": Table(
        "curve", likelihood, ("evaluation.n_graded", "evaluation.n_importance")
    ),
    "dispersion": Table("row", dispersion),
    "spectrum": Table("evaluated", spectrum, ("evaluation.n_graded",)),
    "removal": Table("evaluated", removal, _GRADED, 2),
    "removal_along_l": Table("curve", removal_along_l, _GRADED, 2),
    "detection": Table("evaluated", detection, _GRADED, 2),
    "noticed": Table("evaluated", noticed, _GRADED, 2),
    "anatomy": Table("evaluated", anatomy, ("evaluation.n_graded",)),
    "fields": Table("read", readings.fields, READ),
    "statements": Table("read", readings.statements, READ),
    "tails": Table("read", readings.tails, ("fields.rois", "fields.c_max")),
    "codes": Table("read", readings.codes),
    **{name: Table(name, recovered, OF_FACTORS) for name in SIMULATORS},
}
