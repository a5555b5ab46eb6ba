"""Does the analysis find what was planted? For cohorts whose factors are known."""

from dataclasses import dataclass

import numpy as np

from brainvae_core.fields.association import both_directions
from brainvae_core.fields.independence import checked_active, correlations
from brainvae_core.fields.projective import Rotated, projective_field, region_profile
from brainvae_core.fields.receptive import receptive_field, region_brightness, weight_range

FOUND = 0.5  # R² of one latent: two factors that are independent cannot both have the same one


@dataclass(frozen=True, eq=False)
class PlantedFields:
    """Where each factor truly acts, in the same terms as a latent's two fields.

    ``seen`` (n_factors, n_rois) is the squared change of each region's mean brightness by one
    standard deviation of the factor, over that brightness's variance over brains; ``moved`` the
    `region_profile` of ``variance`` (n_factors, height, width), the factor's projective field.
    """

    factors: tuple[str, ...]
    seen: np.ndarray
    moved: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True, eq=False)
class Recovery:
    """What a model's latents found of each factor.

    ``r2`` (latent_dim, n_factors) are squared correlations over brains, ``latent`` (n_factors,) the
    index of the largest. ``seen`` and ``moved`` (n_factors, n_factors) are `profile_correlations`
    of that latent's receptive and projective field, a row each, with where each factor can be seen
    and acts; ``variance`` (n_factors, height, width) is its projective field.
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
        A model whose latents are the factors: with ``names`` and ``decode``, as ``PlantedModel``.
    images, roi_masks, c
        As for :func:`receptive_field`; factor values, such as -3 to 3: tissue folds beyond.
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

    Of codes (n, latent_dim) and factors (n, n_factors); 0 where a latent does not vary.
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
        Brains without artefacts that the model was not fitted to.
    planted, roi_masks, c
        `planted_fields`, the regions they were given, and as for :func:`projective_field`.
    active, n_read : ndarray of bool, shape (latent_dim,), and int
        Latents that count, all of them by default; receptive fields are of the first brains.
    """
    factors = _checked_factors(factors, planted, roi_masks)
    codes = np.asarray(model.encode(images))
    if active is not None and not np.any(active):
        return _nothing(planted, codes.shape[1])
    read = both_directions(model, images[:n_read], roi_masks, c)
    r2 = single_latent_r2(codes, factors)
    r2[~checked_active(active, len(r2))] = 0.0
    variance = read.projective.variance_all
    return _recovery(planted, r2, read.receptive.divergence, variance, roi_masks)


def recover_at_random(
    model,
    images: np.ndarray,
    factors: np.ndarray,
    planted: PlantedFields,
    roi_masks: np.ndarray,
    c: np.ndarray,
    active: np.ndarray | None = None,
    n_read: int = 64,
    n: int = 100,
) -> list[Recovery]:
    """:func:`recover` along n sets of random axes of the active latents: the chance of a code.

    Parameters
    ----------
    model, images, factors, planted, roi_masks, c, active, n_read
        As for :func:`recover`.
    n : int
        Of seeds 0, 1 and so on of ``Rotated``.
    """
    factors, images = _checked_factors(factors, planted, roi_masks), np.asarray(images)
    codes = np.asarray(model.encode(images))
    if active is not None and not np.any(active):
        return [_nothing(planted, codes.shape[1])] * n
    few = images[:n_read]
    seen = receptive_field(model, few, roi_masks, weight_range(few, roi_masks))
    found, first = [], Rotated(model, few, 0, active)
    for seed in range(n):
        turned = first.again(seed)
        steps = np.multiply.outer(np.eye(turned.latent_dim), c).swapaxes(1, 2)
        variance = np.stack([turned.decode(z).var(axis=0, dtype=float) for z in steps])
        divergence = seen.rotated(seed, active).divergence
        r2 = single_latent_r2(turned.turned(codes), factors)
        found.append(_recovery(planted, r2, divergence, variance, roi_masks))
    return found


def _checked_factors(factors, planted, roi_masks):
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
    return factors


def _nothing(planted, latent_dim):
    """Of a model that tells no brains apart."""
    n, r2 = len(planted.factors), np.zeros((latent_dim, len(planted.factors)))
    maps = np.zeros(planted.variance.shape, dtype=np.float32)
    return Recovery(planted.factors, r2, np.zeros(n, int), np.zeros((n, n)), np.zeros((n, n)), maps)


def _recovery(planted, r2, divergence, variance, roi_masks):
    """What the best latent of each factor sees and moves, beside where that factor is."""
    latent, profile = r2.argmax(axis=0), region_profile(variance, roi_masks)
    return Recovery(
        planted.factors,
        r2,
        latent,
        profile_correlations(divergence.T[latent], planted.seen),
        profile_correlations(profile[latent], planted.moved),
        variance[latent].astype(np.float32),
    )


def profile_correlations(found: np.ndarray, planted: np.ndarray) -> np.ndarray:
    """How alike profiles over regions are, each with each, (n_found, n_planted).

    Pearson's correlation of square roots, since one strong region would decide squares alone; not
    of ranks, which noise decides where a factor does not act.
    """
    return correlations(np.sqrt(found), np.sqrt(planted))


def _first(agreement: np.ndarray) -> np.ndarray:
    """Rows whose diagonal entry is their largest; a latent without ranks points nowhere."""
    own = np.diag(agreement)
    others = np.where(np.eye(len(agreement), dtype=bool), -np.inf, agreement).max(axis=1)
    return own > others
