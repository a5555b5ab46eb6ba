"""Both directions of one model together: do the regions that a latent sees and moves agree?"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from brainvae_core.fields.independence import ATTEMPTS, checked_active, correlations
from brainvae_core.fields.projective import ProjectiveField, projective_field, region_profile
from brainvae_core.fields.receptive import ReceptiveField, receptive_field, weight_range


class BothDirections(NamedTuple):
    """What one model's latents see and move, and `region_profile` of the second by region."""

    receptive: ReceptiveField
    projective: ProjectiveField
    profile: np.ndarray


def both_directions(
    model,
    images: np.ndarray,
    roi_masks: np.ndarray,
    c: np.ndarray,
    weights: np.ndarray | None = None,
) -> BothDirections:
    """Receptive fields of brains without artefacts, and projective fields around their mean code.

    Parameters
    ----------
    model, images, roi_masks, c, weights
        As for :func:`receptive_field` and :func:`projective_field`; by default :func:`weight_range`
        of these images.
    """
    weights = weight_range(images, roi_masks) if weights is None else weights
    received = receptive_field(model, images, roi_masks, weights)
    projected = projective_field(model, received.codes_original.mean(axis=0), c)
    if projected.mean_all.shape[1:] != np.shape(images)[1:]:
        raise ValueError(
            f"the model decodes images of {projected.mean_all.shape[1:]} and was given "
            f"{np.shape(images)[1:]}; decode must answer images of the size that encode takes"
        )
    return BothDirections(received, projected, region_profile(projected.variance_all, roi_masks))


def field_agreement(
    divergence: np.ndarray, profile: np.ndarray, active: np.ndarray | None = None
) -> np.ndarray:
    """Whether the regions that move a latent are those that it moves, (latent_dim,).

    Parameters
    ----------
    divergence, profile, active
        As for `cross_agreement`, of which this is the diagonal.
    """
    return np.diag(cross_agreement(divergence, profile, active)).copy()


def cross_agreement(
    divergence: np.ndarray, profile: np.ndarray, active: np.ndarray | None = None
) -> np.ndarray:
    """Agreement of every latent's receptive field with every latent's projective field.

    (latent_dim, latent_dim), Spearman's rank correlation over at least 3 regions: rows receive,
    columns project. The diagonal says something of single latents only where it stands out.

    Parameters
    ----------
    divergence, profile : (n_rois, latent_dim) and (latent_dim, n_rois)
        ``ReceptiveField.divergence``, nats, and ``region_profile``.
    active : ndarray of bool, shape (latent_dim,), optional
        Latents to compare, NaN of the others; all of them by default.
    """
    receptive, profile, kept = _checked(divergence, profile, active)
    agreement = np.full((len(kept), len(kept)), np.nan)
    ranks = (rankdata(x, axis=1) for x in (receptive.T[kept], profile[kept]))
    agreement[np.ix_(kept, kept)] = correlations(*ranks)
    return agreement


def agreement_draws(divergences, profile, n, active=None) -> np.ndarray:
    """`cross_agreement` of n draws of a resample (n_resamples, n_rois, latent_dim) and regions."""
    rng, n_rois, draws = np.random.default_rng(0), divergences.shape[1], []
    kept = checked_active(active, len(profile))
    for _ in range(n):
        for _ in range(ATTEMPTS):  # a draw that leaves a latent alike in every region is no draw
            regions = rng.integers(n_rois, size=n_rois)
            field, there = rng.choice(divergences)[regions], profile[:, regions]
            if np.ptp(field, axis=0)[kept].all() and np.ptp(there, axis=1)[kept].all():
                break
        else:
            raise ValueError(
                f"{ATTEMPTS} draws of regions left a latent without ranks; add regions"
            )
        draws.append(cross_agreement(field, there, active))
    return np.stack(draws)


class Agreement(NamedTuple):
    """How far the two fields of a fit's latents agree.

    ``own`` is the mean rank correlation of a latent's two fields, ``beyond`` how much that exceeds
    two different latents'; ``…_resamples`` (n,) are of resampled brains and regions.
    """

    own: float
    beyond: float
    own_resamples: np.ndarray
    beyond_resamples: np.ndarray


def agreement_of(both: BothDirections, active: np.ndarray, n: int) -> Agreement:
    """Agreement of one fit, with what resampling makes of it.

    Parameters
    ----------
    both, active : BothDirections and ndarray of bool, shape (latent_dim,)
    n : int
        Draws of brains and regions.
    """
    field = both.receptive
    whole = cross_agreement(field.divergence, both.profile, active)
    resampled = field.bootstrapped(min(n, 100), 0)
    drawn = agreement_draws(resampled, both.profile, n, active)
    own, own_drawn = (
        np.nanmean(np.diagonal(a, axis1=-2, axis2=-1), axis=-1) for a in (whole, drawn)
    )
    return Agreement(float(own), float(own_over_others(whole)), own_drawn, own_over_others(drawn))


def own_over_others(agreement: np.ndarray) -> np.ndarray:
    """How much better a latent's two fields agree than those of two different latents.

    Of agreements (…, latent_dim, latent_dim): mean of the diagonal less mean of the rest, (…).
    """
    agreement = np.asarray(agreement, dtype=np.float64)
    same = np.eye(agreement.shape[-1], dtype=bool)
    left = np.isfinite(agreement[..., same]).sum(axis=-1)
    if left.min(initial=len(same)) < 2:
        raise ValueError(f"{left.min()} latents have no others to compare with; give at least 2")
    return np.nanmean(agreement[..., same], axis=-1) - np.nanmean(agreement[..., ~same], axis=-1)


def _checked(receptive, profile, active):
    receptive, profile = np.asarray(receptive), np.asarray(profile)
    if receptive.ndim != 2 or receptive.shape != profile.T.shape or len(receptive) < 3:
        raise ValueError(
            f"receptive {receptive.shape} and projective {profile.shape} must be (n_rois, "
            "latent_dim) and (latent_dim, n_rois) with at least 3 regions"
        )
    kept = checked_active(active, receptive.shape[1])
    if not np.isfinite(receptive[:, kept]).all() or not np.isfinite(profile[kept]).all():
        raise ValueError("receptive or projective fields of active latents are not finite")
    flat = (np.ptp(receptive, axis=0) == 0) | (np.ptp(profile, axis=1) == 0)
    if (flat & kept).any():
        raise ValueError(
            f"latents at index {np.flatnonzero(flat & kept).tolist()} are alike in every region "
            "and have no ranks; leave them out of `active`"
        )
    return receptive, profile, kept
