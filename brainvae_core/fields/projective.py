"""Projective fields: which output pixels each latent moves; and models along random axes."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import reduce

import numpy as np

from brainvae_core.fields.independence import checked_active
from brainvae_core.fields.receptive import encoded, random_axes

BATCH = 128  # images decoded at once: no more than these are ever in memory
SATURATED = 99.5  # percentile of the variances
STARRED = 2.5  # robust standard deviations
FAINT = 0.02  # of a full colour: less is white
# Latents alike up to this ratio are not outliers, however small the spread of the others is.
LEAST_OUTLIER_RATIO = 1.1


@dataclass(frozen=True, eq=False)
class ProjectiveField:
    """Variance and mean of every output pixel while one latent moves, all float32.

    ``variance`` and ``mean`` (latent_dim, 4, height, width) are over the c of each quartile of its
    range: [−c_max, −c_max/2), [−c_max/2, 0), (0, c_max/2], (c_max/2, c_max]; ``variance_all`` and
    ``mean_all`` (latent_dim, height, width) over every c; squared brightness, brightness.
    """

    variance: np.ndarray
    mean: np.ndarray
    variance_all: np.ndarray
    mean_all: np.ndarray


def projective_field(
    model, z0: np.ndarray, c: np.ndarray, *, absolute: bool = False
) -> ProjectiveField:
    """Move each latent through c, decode, and see which pixels vary (Liu et al. 2020, § 2.2).

    Parameters
    ----------
    model, z0 : ndarray, shape (latent_dim,)
        Anything with ``decode(z) -> images``, float32 (n, latent_dim) to (n, height, width), and a
        starting code: a real brain's, or zeros for the prior mean.
    c : ndarray, shape (n_c,)
        Interpolation weights, prior standard deviations, alike on both sides of 0 and at least two
        in a quartile; the paper's are −7 to 7 in steps of 0.005.
    absolute : bool
        Set latent k to c, as the authors' code does, instead of adding c as the paper writes.
    """
    z0, c = _checked_vector(z0, "z0"), _checked_vector(c, "c")
    quartile = quartile_of(c)
    groups = [quartile == q for q in range(4)]
    at_zero = [quartile == -1] if (quartile == -1).any() else []
    variance, mean, variance_all, mean_all = [], [], [], []
    for k in range(len(z0)):
        codes = _moved(z0, k, c, absolute)
        moments = [_moments(_decoded(model, codes[g])) for g in groups + at_zero]
        n, total_mean, total_squares = reduce(_merged, moments)
        variance.append(np.stack([squares / m for m, _, squares in moments[:4]]))
        mean.append(np.stack([part_mean for _, part_mean, _ in moments[:4]]))
        variance_all.append(total_squares / n)
        mean_all.append(total_mean)
    stacked = [np.stack(s).astype(np.float32) for s in (variance, mean, variance_all, mean_all)]
    return ProjectiveField(*stacked)


def quartile_of(c: np.ndarray) -> np.ndarray:
    """Which quarter of the range of c each value is in, 0 to 3 in rising order; −1 for c = 0.

    c must be alike on both sides of 0 (to 1 % of its largest value), or asymmetries are its own.
    """
    rising = np.sort(c)
    largest = np.abs(c).max()
    if largest == 0 or np.abs(rising + rising[::-1]).max() > 0.01 * largest:
        raise ValueError(
            f"c from {rising[0]:g} to {rising[-1]:g} is not alike on both sides of 0; "
            "use for example np.linspace(-7, 7, 2801)"
        )
    # Rounded because np.arange(-7, 7, 0.005) misses 0 and ±3.5 by 1e-13 and would change their bin.
    share = np.round(c / largest, 9)
    quartile = np.select([share < -0.5, share < 0, share == 0, share <= 0.5], [0, 1, -1, 2], 3)
    counts = [int((quartile == q).sum()) for q in range(4)]
    if min(counts) < 2:
        raise ValueError(f"c has {counts} values in its four quartiles; each needs at least 2")
    return quartile


def traversal(model, z0: np.ndarray, c_values: np.ndarray) -> np.ndarray:
    """Decoded images along each latent, (latent_dim, n_c, height, width) float32 (Fig. S4).

    Parameters
    ----------
    model, z0, c_values
        As for :func:`projective_field`, but any few interpolation weights will do.
    """
    z0, c = _checked_vector(z0, "z0"), _checked_vector(c_values, "c_values")
    rows = [_decoded(model, _moved(z0, k, c)) for k in range(len(z0))]
    return np.stack([np.concatenate(list(row)) for row in rows]).astype(np.float32)


def stratified_rgb(
    field: ProjectiveField, *, merged: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The paper's picture of a projective field, on white (Fig. 3A).

    R = 1 − v₊, G = 1 − v₋, B = 1 − v_large: cyan where small positive c moves a pixel, magenta
    small negative c, yellow large c. (latent_dim, height, width, 3), in [0, 1], and the variances
    (3,) at which R, G and B saturate: the 99.5th percentile over all latents' pixels. Less than 2 %
    of that is white, or a decoder's noise would speckle it. The large c of both signs are one
    group, as the paper prints it, whose images differ also between the two ends; ``merged`` takes
    the mean of the two outer quartiles' variances.
    """
    v, mean = field.variance.astype(np.float64), field.mean.astype(np.float64)
    large = (v[:, 0] + v[:, 3]) / 2
    if not merged:
        large = large + np.square((mean[:, 3] - mean[:, 0]) / 2)
    channels = np.stack([v[:, 2], v[:, 1], large], axis=-1)
    scales = np.percentile(channels, SATURATED, axis=(0, 1, 2))
    filled = np.divide(channels, scales, out=(channels > 0).astype(np.float64), where=scales > 0)
    filled[filled < FAINT] = 0.0
    return 1.0 - np.clip(filled, 0.0, 1.0), scales


def asymmetry(field: ProjectiveField) -> np.ndarray:
    """How unlike the negative and the positive side of each latent are, whichever is which.

    ``|V₋ − V₊| / (V₋ + V₊)``, with V the variance of a side's two quartiles summed over pixels:
    (latent_dim,), 0 also of a latent that moves nothing.
    """
    total = field.variance.sum(axis=(2, 3), dtype=np.float64)
    below, above = total[:, :2].sum(axis=1), total[:, 2:].sum(axis=1)
    both = below + above
    return np.divide(np.abs(below - above), both, out=np.zeros_like(both), where=both > 0)


def tail_ratio(field: ProjectiveField) -> np.ndarray:
    """Variance in the stronger outer quartile over the mean of the two inner ones.

    Variances are summed over pixels. (latent_dim,): 1 for a linear model and for a latent that
    moves nothing; inf where only tails move pixels.
    """
    total = field.variance.sum(axis=(2, 3), dtype=np.float64)
    tail, inner = np.maximum(total[:, 0], total[:, 3]), total[:, 1:3].mean(axis=1)
    unmoved = np.where(tail > 0, np.inf, 1.0)
    return np.divide(tail, inner, out=unmoved, where=inner > 0)


def region_profile(field_variance_all: np.ndarray, roi_masks: np.ndarray) -> np.ndarray:
    """Mean variance (latent_dim, height, width) of each region's pixels, (latent_dim, n_rois)."""
    variance, masks = np.asarray(field_variance_all), np.asarray(roi_masks, dtype=bool)
    if variance.ndim != 3 or masks.ndim != 3 or variance.shape[1:] != masks.shape[1:]:
        raise ValueError(
            f"variance {variance.shape} and roi_masks {masks.shape} must be (latent_dim, height, "
            "width) and (n_rois, height, width)"
        )
    if not masks.any(axis=(1, 2)).all():
        raise ValueError("a region in roi_masks has no pixel; leave it out")
    return np.stack([variance[:, m].mean(axis=1, dtype=np.float64) for m in masks], axis=1)


def tail_asymmetry(field_variance: np.ndarray, roi_masks: np.ndarray) -> np.ndarray:
    """How much more the upper outer quartile of c moves each region than the lower one.

    Of ``ProjectiveField.variance``: (V₊ − V₋) / (V₊ + V₋) of the region's mean variances,
    (latent_dim, n_rois), 0 where neither moves it. Only whether regions share a sign says anything.
    """
    below, above = (region_profile(np.asarray(field_variance)[:, q], roi_masks) for q in (0, 3))
    both = below + above
    return np.divide(above - below, both, out=np.zeros_like(both), where=both > 0)


def outlier_latents(field: ProjectiveField, active: np.ndarray | None = None) -> np.ndarray:
    """Latents to star (Fig. 3A), (latent_dim,) bool: their tail does unusually much.

    The paper shows stars and gives no rule. This one: log :func:`tail_ratio` lies above the median
    of the active latents, at least 3, by more than 2.5 × 1.4826 × MAD, and by at least log 1.1.
    """
    ratio = tail_ratio(field)
    active = checked_active(active, len(ratio))
    if active.sum() < 3:
        raise ValueError(f"{active.sum()} active latents have no outliers; give at least 3")
    # A tail that moves nothing while the rest does is at −inf: never an outlier upwards.
    with np.errstate(divide="ignore"):
        log_ratio = np.log(ratio)
    middle = np.median(log_ratio[active])
    if not np.isfinite(middle):
        raise ValueError("most active latents move pixels in one part of c only; give a wider c")
    spread = 1.4826 * np.median(np.abs(log_ratio[active] - middle))
    limit = middle + max(STARRED * spread, np.log(LEAST_OUTLIER_RATIO))
    return active & (log_ratio > limit)


def _moved(z0: np.ndarray, k: int, c: np.ndarray, absolute: bool = False) -> np.ndarray:
    codes = np.tile(z0, (len(c), 1))
    codes[:, k] = c if absolute else z0[k] + c
    return codes.astype(np.float32)


def _decoded(model, codes: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(codes), BATCH):
        batch = codes[start : start + BATCH]
        images = np.asarray(model.decode(batch))
        if images.ndim != 3 or len(images) != len(batch):
            raise ValueError(
                f"decode answered shape {images.shape} to {len(batch)} codes; it must answer "
                "(n, height, width)"
            )
        if not np.isfinite(images).all():
            raise ValueError("decode answered values that are not finite; check the model's fit")
        yield images


def _moments(batches: Iterator[np.ndarray]) -> tuple:
    """Number, mean and summed squared deviations of each pixel, image by image in float64."""
    first, n = None, 0
    for images in batches:
        if first is None:
            first = images[0].astype(np.float64)
            total, squares, apart = np.zeros((3, *first.shape))
        for image in images:
            # From one of the images, not from 0: the sums are within n times what they leave.
            np.subtract(image, first, out=apart)
            total += apart
            apart *= apart
            squares += apart
        n += len(images)
    return n, first + total / n, squares - total**2 / n


def _merged(a: tuple, b: tuple) -> tuple:
    """Moments of two samples together (Chan, Golub, LeVeque 1983): no cancelling of large sums."""
    (n_a, mean_a, squares_a), (n_b, mean_b, squares_b) = a, b
    n, apart = n_a + n_b, mean_b - mean_a
    return n, mean_a + apart * (n_b / n), squares_a + squares_b + apart**2 * (n_a * n_b / n)


def _checked_vector(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"{name} of shape {values.shape} must be a vector of finite values")
    return values


class Rotated:
    """A model whose latents are random directions of another model's latents.

    Codes of the images (n_brains, height, width) become white; latents that are not ``active``
    (latent_dim,) stay at their mean. It encodes and decodes the same images as the model does:
    whatever is found of its latents is a property of the space and not of the axes.
    """

    def __init__(self, model, images, seed, active=None):
        means, variances = encoded(model, np.asarray(images, dtype=np.float32))
        self._model, self._centre = model, means.mean(axis=0, dtype=np.float64)
        self._kept = checked_active(active, means.shape[1])
        self._spread = means[:, self._kept], variances[:, self._kept]
        self._turn_by(seed)

    def _turn_by(self, seed):
        self._turn = random_axes(*self._spread, seed)
        self._back, self.latent_dim = np.linalg.inv(self._turn), len(self._turn)
        if hasattr(self._model, "posterior"):
            self.posterior = self._posterior

    def again(self, seed: int) -> Rotated:
        """The same model along other axes, without encoding the images again."""
        other = copy(self)
        other._turn_by(seed)
        return other

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Codes of images along the new axes, (n, n_active)."""
        return self.turned(self._model.encode(images))

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Images of codes along the new axes."""
        codes = np.tile(self._centre, (len(z), 1))
        codes[:, self._kept] += np.asarray(z, dtype=np.float64) @ self._back
        return self._model.decode(codes.astype(np.float32))

    def _posterior(self, images):
        mean, std = self._model.posterior(images)
        variance = np.square(np.asarray(std, dtype=np.float64))[:, self._kept] @ self._turn**2
        return self.turned(mean), np.sqrt(variance)

    def turned(self, codes: np.ndarray) -> np.ndarray:
        """The model's own codes (n, latent_dim) along the new axes."""
        codes = np.asarray(codes, dtype=np.float64)
        return ((codes - self._centre)[:, self._kept] @ self._turn).astype(np.float32)
