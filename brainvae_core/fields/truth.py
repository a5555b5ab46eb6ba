"""Does the analysis find what was planted? For cohorts whose factors are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brainvae_core.fields.association import both_directions
from brainvae_core.fields.independence import checked_active, correlations
from brainvae_core.fields.projective import projective_field
from brainvae_core.fields.regions import region_brightness, region_profile

QUESTIONS = {
    "has a latent": "has_latent",
    "receptive field right": "receptive_right",
    "projective field right": "projective_right",
    "recovered": "recovered",
}
FOUND = 0.5  # R² of one latent: two factors that are independent cannot both have the same one


@dataclass(frozen=True, eq=False)
class PlantedFields:
    """Where each factor truly acts, in the same terms as a latent's two fields.

    Attributes
    ----------
    factors : tuple of str
    seen : ndarray, shape (n_factors, n_rois)
        Squared change of each region's mean brightness by one standard deviation of the factor,
        over the variance of that brightness over brains: where a reader of regions could see it.
    moved : ndarray, shape (n_factors, n_rois)
        Mean variance of each region's pixels while the factor alone moves through c, squared
        brightness; ``variance`` (n_factors, height, width) is the same of every pixel.
    """

    factors: tuple[str, ...]
    seen: np.ndarray
    moved: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True, eq=False)
class Recovery:
    """What a model's latents found of each factor.

    Attributes
    ----------
    factors : tuple of str
    r2 : ndarray, shape (latent_dim, n_factors)
        Squared correlation of each latent's codes with each factor over the brains.
    latent : ndarray of int, shape (n_factors,)
        The latent with the largest R²; its fields are judged, whatever that R² is.
    seen, moved : ndarray, shape (n_factors, n_factors)
        `profile_correlations` of that latent's receptive (projective) field, row by row of the
        factor it is judged for, with where each factor can be seen (acts).
    variance : ndarray of float32, shape (n_factors, height, width)
        That latent's projective field, squared brightness.
    """

    factors: tuple[str, ...]
    r2: np.ndarray
    latent: np.ndarray
    seen: np.ndarray
    moved: np.ndarray
    variance: np.ndarray

    @property
    def best_r2(self) -> np.ndarray:
        """R² of each factor's best latent, (n_factors,)."""
        return self.r2.max(axis=0)

    @property
    def has_latent(self) -> np.ndarray:
        """Whether one latent holds half of a factor's variance or more, (n_factors,) bool."""
        return self.best_r2 >= FOUND

    @property
    def receptive_right(self) -> np.ndarray:
        """Whether the receptive field resembles this factor's regions most of all factors'."""
        return _first(self.seen)

    @property
    def projective_right(self) -> np.ndarray:
        """Whether the projective field resembles this factor's regions most of all factors'."""
        return _first(self.moved)

    @property
    def recovered(self) -> np.ndarray:
        """Whether a factor has a latent and both its fields point right, (n_factors,) bool."""
        return self.has_latent & self.receptive_right & self.projective_right


def planted_fields(
    simulator, images: np.ndarray, roi_masks: np.ndarray, c: np.ndarray
) -> PlantedFields:
    """The two fields of the factors themselves.

    Parameters
    ----------
    simulator
        A model whose latents are the factors: anything with ``names`` and
        ``decode(factors) -> images``, such as ``PlantedModel``.
    images, roi_masks
        Clean brains (n_brains, height, width), whose regions (n_rois, height, width) vary in
        brightness.
    c : ndarray, shape (n_c,)
        Factor values, such as -3 to 3: a simulator's tissue folds beyond.
    """
    names = tuple(simulator.names)
    steps = np.eye(len(names))
    up, down = (region_brightness(simulator.decode(z), roi_masks) for z in (steps, -steps))
    spread = region_brightness(images, roi_masks).var(axis=1)
    seen = np.square((up - down) / 2).T / np.maximum(spread, np.finfo(float).tiny)
    field = projective_field(simulator, np.zeros(len(names)), c)
    moved = region_profile(field.variance_all, roi_masks)
    return PlantedFields(names, seen, moved, field.variance_all)


def single_latent_r2(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Squared correlation of every latent with every factor over brains, (latent_dim, n_factors).

    Of codes (n, latent_dim) and factors (n, n_factors); 0 where a latent does not vary. A latent's
    entries sum to at most about 1 where factors are independent, so that at 0.5 or more it holds
    one factor and no other.
    """
    codes, factors = np.asarray(codes, dtype=np.float64), np.asarray(factors, dtype=np.float64)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or len(codes) < 3:
        raise ValueError(
            f"codes {codes.shape} and factors {factors.shape} must have one row a brain, at least 3"
        )
    if not np.isfinite(codes).all() or not np.isfinite(factors).all():
        raise ValueError(
            "codes or factors have entries that are not finite; leave those brains out"
        )
    return np.square(correlations(codes.T, factors.T))


def recover(
    model,
    images: np.ndarray,
    factors: np.ndarray,
    planted: PlantedFields,
    roi_masks: np.ndarray,
    c: np.ndarray,
    active: np.ndarray | None = None,
    n_read: int = 64,
) -> Recovery:
    """Read a model both ways and compare its latents with the factors.

    Parameters
    ----------
    model
        Anything with ``encode`` and ``decode``.
    images, factors : ndarray, shape (n_brains, height, width) and (n_brains, n_factors)
        Clean brains that the model was not fitted to.
    planted, roi_masks
        `planted_fields`, and the regions they were given.
    c : ndarray, shape (n_c,)
        Interpolation weights of the projective field, prior standard deviations.
    active : ndarray of bool, shape (latent_dim,), optional
        Latents that count; all of them by default. A model without any recovers nothing.
    n_read : int
        Receptive fields are read on so many of the brains, the first ones.
    """
    factors = np.asarray(factors)
    if factors.ndim != 2 or factors.shape[1] != len(planted.factors):
        raise ValueError(
            f"factors {factors.shape} must have a column for each of {len(planted.factors)} "
            "planted factors"
        )
    if len(roi_masks) != planted.moved.shape[1]:
        raise ValueError(
            f"{len(roi_masks)} roi_masks for {planted.moved.shape[1]} planted regions; give those "
            "that planted_fields was given"
        )
    codes, n_factors = np.asarray(model.encode(images)), factors.shape[1]
    if active is not None and not np.any(active):
        nothing = np.zeros((n_factors, n_factors))
        maps = np.zeros((n_factors, *np.shape(images)[1:]), dtype=np.float32)
        r2 = np.zeros((codes.shape[1], n_factors))
        return Recovery(planted.factors, r2, r2.argmax(axis=0), nothing, nothing, maps)
    read = both_directions(model, images[:n_read], roi_masks, c)
    r2 = single_latent_r2(codes, factors)
    r2[~checked_active(active, len(r2))] = 0.0
    latent = r2.argmax(axis=0)
    return Recovery(
        planted.factors,
        r2,
        latent,
        profile_correlations(read.receptive.divergence.T[latent], planted.seen),
        profile_correlations(read.profile[latent], planted.moved),
        read.projective.variance_all[latent],
    )


def recover_fits(
    models: Mapping[str, Sequence],
    images: np.ndarray,
    factors: np.ndarray,
    planted: PlantedFields,
    roi_masks: np.ndarray,
    c: np.ndarray,
    actives: Mapping[str, Sequence[np.ndarray]] | None = None,
    n_read: int = 64,
) -> dict[str, list[Recovery]]:
    """:func:`recover` of every fit of every model.

    Parameters
    ----------
    models, actives
        Fits by the name of their model, and active latents of each; all by default.
    images, factors, planted, roi_masks, c, n_read
        As for :func:`recover`.
    """
    return {
        name: [
            recover(model, images, factors, planted, roi_masks, c, active, n_read)
            for model, active in zip(
                fits, actives[name] if actives else [None] * len(fits), strict=True
            )
        ]
        for name, fits in models.items()
    }


def recovery_rates(
    found: Mapping[str, Sequence[Recovery]], per_fit: int = 1
) -> list[tuple[dict, tuple[np.ndarray]]]:
    """What is asked of every factor, 1 where the answer is yes, as `summarise_samples` takes it.

    Labels are the question (``score``) and the ``model``, with (n_factors,) of each fit. Where
    ``per_fit`` recoveries in a row are of one fit, such as of several random axes, their mean
    counts: they are no fits of their own.
    """
    return [
        ({"score": question, "model": name}, (row,))
        for question, attribute in QUESTIONS.items()
        for name, fits in found.items()
        for row in fit_means([getattr(f, attribute) for f in fits], per_fit)
    ]


def fit_means(rows: Sequence[np.ndarray], per_fit: int) -> np.ndarray:
    """Means of every ``per_fit`` rows that follow one another, (n_fits, n_factors)."""
    rows = np.asarray(rows, dtype=float)
    return rows.reshape(-1, per_fit, *rows.shape[1:]).mean(axis=1)


def profile_correlations(found: np.ndarray, planted: np.ndarray) -> np.ndarray:
    """How alike profiles over regions are, each with each, (n_found, n_planted).

    Pearson's correlation of square roots: divergences and variances are squares of shifts, and one
    strong region would decide alone. Not of ranks: a factor that acts in one region leaves the
    others to noise, and their order would decide. 0 for a profile that is alike in every region.
    """
    return correlations(np.sqrt(found), np.sqrt(planted))


def _first(agreement: np.ndarray) -> np.ndarray:
    """Rows whose diagonal entry is their largest; a latent without ranks points nowhere."""
    own = np.diag(agreement)
    others = np.where(np.eye(len(agreement), dtype=bool), -np.inf, agreement).max(axis=1)
    return own > others
