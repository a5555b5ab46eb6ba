"""Receptive fields: how the brightness of each region of the input moves each latent."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from scipy import ndimage
from scipy.stats import ortho_group
from skimage.graph import MCP_Geometric

from brainvae_core.fields.independence import checked_active, normalised_impacts

BATCH = 64  # brains encoded at once
MODES = ("mask", "add")
FEWEST_PIXELS = 4
# Least variance of a Gaussian, squared latent units: without a posterior, masking all of what a
# latent looks at would leave none, and the divergence no bound.
VARIANCE_FLOOR = 1e-4


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """Codes of brains whose regions were perturbed, and what they say about each latent.

    ``weights`` (n_rois, n_weights) are w, rising, ``mean_brightness`` (n_rois,) is μ_R. ``codes``
    (n_rois, n_weights, n_brains, latent_dim) are of the perturbed images, ``…_original`` (n_brains,
    latent_dim) of the images; posterior variances are 0 where a model has none.
    """

    weights: np.ndarray
    mean_brightness: np.ndarray
    codes: np.ndarray
    posterior_variances: np.ndarray
    codes_original: np.ndarray
    posterior_variances_original: np.ndarray

    @cached_property
    def means(self) -> np.ndarray:
        """Mean of the Gaussian at each weight, (n_rois, n_weights, latent_dim)."""
        return self.codes.mean(axis=-2, dtype=np.float64)

    @cached_property
    def stds(self) -> np.ndarray:
        """Standard deviation of the aggregate posterior at each weight, as `means`."""
        variance = self.codes.var(axis=-2, dtype=np.float64)
        variance += self.posterior_variances.mean(axis=-2, dtype=np.float64)
        return np.sqrt(np.maximum(variance, VARIANCE_FLOOR))

    @cached_property
    def divergence(self) -> np.ndarray:
        """The receptive field, KL(lowest w ‖ highest w), (n_rois, latent_dim) nats."""
        return _kl(self.means[:, 0], self.stds[:, 0], self.means[:, -1], self.stds[:, -1])

    @property
    def effect_size(self) -> np.ndarray:
        """Shift from lowest to highest w in pooled standard deviations, (n_rois, latent_dim)."""
        pooled = np.sqrt((self.stds[:, 0] ** 2 + self.stds[:, -1] ** 2) / 2)
        return (self.means[:, -1] - self.means[:, 0]) / pooled

    def normalised(self, active: np.ndarray | None = None) -> np.ndarray:
        """Each region's divergence as shares over the ``active`` latents (Fig. 3B)."""
        return normalised_impacts(self.divergence, active)

    def resampled(self, brain_indices: np.ndarray) -> Self:
        """The field of these brains (with repeats, for a bootstrap), from the kept codes."""
        brains = np.asarray(brain_indices)
        return self._mapped(lambda c: c[..., brains, :], lambda v: v[..., brains, :])

    def bootstrapped(self, n: int, seed: int, of: str = "divergence") -> np.ndarray:
        """Divergence, or ``"effect_size"``, of n resamples of brains, (n, n_rois, latent_dim)."""
        rng, n_brains = np.random.default_rng(seed), len(self.codes_original)
        draws = (rng.integers(n_brains, size=n_brains) for _ in range(n))
        return np.stack([getattr(self.resampled(draw), of) for draw in draws])

    def rotated(self, seed: int, active: np.ndarray | None = None) -> Self:
        """The field along random axes of the active latents' space: a null for their axes."""
        kept = checked_active(active, self.codes_original.shape[1])
        original = self.codes_original[:, kept], self.posterior_variances_original[:, kept]
        turn = random_axes(*original, seed)
        return self._mapped(lambda c: c[..., kept] @ turn, lambda v: v[..., kept] @ turn**2)

    def _mapped(self, of_codes, of_variances) -> Self:
        return replace(
            self,
            codes=of_codes(self.codes),
            codes_original=of_codes(self.codes_original),
            posterior_variances=of_variances(self.posterior_variances),
            posterior_variances_original=of_variances(self.posterior_variances_original),
        )


def receptive_field(
    model, images: np.ndarray, roi_masks: np.ndarray, weights: np.ndarray, *, mode: str = "mask"
) -> ReceptiveField:
    """Perturb each region of the input, encode, and measure how far each latent moves.

    Parameters
    ----------
    model
        Anything with ``encode(images) -> (n, latent_dim)``. ``posterior(images) -> (mean, std)`` is
        used where it has one: a dead latent, whose posterior is the prior, then scores 0.
    images, roi_masks : ndarray, shape (n_brains, height, width) and (n_rois, height, width)
        Brains without artefacts, at least 2, of which μ_R are the means, and regions of at least 4
        pixels, bool.
    weights : ndarray, shape (n_weights,) or (n_rois, n_weights)
        w, rising, of which the field compares the first and the last (:func:`weight_range`).
    mode : {"mask", "add"}
        See :func:`perturb`.
    """
    images, roi_masks = np.asarray(images), _checked_masks(images, roi_masks)
    weights = _checked_weights(weights, len(roi_masks))
    mu = _mean_brightness(region_brightness(images, roi_masks))
    if len(images) < 2:
        raise ValueError(f"{len(images)} brains give no Gaussian; give at least 2 brains")
    original, perturbed = [], []
    for start in range(0, len(images), BATCH):
        batch = np.asarray(images[start : start + BATCH], dtype=np.float32)
        original.append(encoded(model, batch))
        perturbed.append(
            [
                [encoded(model, perturb(batch, mask, w, mean, mode)) for w in row]
                for mask, mean, row in zip(roi_masks, mu, weights, strict=True)
            ]
        )
    # Each part ends in (mean or variance, n_brains, latent_dim).
    parts = [np.concatenate(part, axis=-2) for part in (perturbed, original)]
    halves = [part[..., half, :, :] for part in parts for half in (0, 1)]
    return ReceptiveField(weights, mu, *halves)


def null_divergence(
    model,
    images: np.ndarray,
    brain_mask: np.ndarray,
    n_pixels: int,
    n_blobs: int = 100,
    *,
    mirrored: bool = False,
) -> ReceptiveField:
    """The field of random blobs as large as a region, each over its own range of brightness.

    Its regions are the blobs: ``divergence`` is (n_blobs, latent_dim), nats, to hold beside the
    region's own (latent_dim,). From a random pixel a blob takes the ``n_pixels`` nearest ones along
    paths inside the brain, where smooth noise makes some ground longer than other: irregular
    outlines.

    Parameters
    ----------
    model, images
        As for :func:`receptive_field`; take the region's :func:`weight_range` of these images too.
    brain_mask : ndarray of bool, shape (height, width)
    n_pixels, n_blobs : int
        Pixels of each blob (at least 4, in one connected piece of the brain), and blobs.
    mirrored : bool
        Half of the pixels left, and their mirror image; an odd number loses one.
    """
    blobs = random_blobs(brain_mask, n_pixels, n_blobs, 0, mirrored=mirrored)
    return receptive_field(model, images, blobs, weight_range(images, blobs))


def random_axes(codes: np.ndarray, posterior_variances: np.ndarray, seed: int) -> np.ndarray:
    """Map that makes codes white, posterior variance included, along axes drawn uniformly."""
    covariance = np.atleast_2d(np.cov(codes.astype(np.float64), rowvar=False, ddof=0))
    covariance += np.diag(posterior_variances.mean(axis=0))
    eigenvalues, axes = np.linalg.eigh(covariance)
    white = axes / np.sqrt(np.maximum(eigenvalues, VARIANCE_FLOOR))
    if len(white) == 1:  # SciPy 1.15 draws no rotation of one axis
        return white
    return white @ ortho_group.rvs(len(white), random_state=seed)


def encoded(model, images: np.ndarray) -> np.ndarray:
    """Mean and variance of the images' codes, (2, n, latent_dim) float32."""
    if hasattr(model, "posterior"):
        answer = model.posterior(images)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise ValueError("the model's posterior must answer a pair, (mean, std)")
        mean, std = (np.asarray(part, dtype=np.float32) for part in answer)
    else:
        mean = np.asarray(model.encode(images), dtype=np.float32)
        std = np.zeros_like(mean)
    if mean.ndim != 2 or len(mean) != len(images) or std.shape != mean.shape:
        raise ValueError(
            f"the encoder answered shapes {mean.shape} and {std.shape} to {len(images)} images; it "
            "must answer (n, latent_dim)"
        )
    if not np.isfinite(mean).all() or not np.isfinite(std).all() or (std < 0).any():
        raise ValueError("the encoder answered NaN, inf or a negative std; check images and model")
    return np.stack([mean, std**2])


def _kl(mean_p, std_p, mean_q, std_q) -> np.ndarray:
    """KL(N(mean_p, std_p²) ‖ N(mean_q, std_q²)), nats; rounding below 0 is cut."""
    squares = (std_p**2 + (mean_p - mean_q) ** 2) / (2 * std_q**2)
    return np.maximum(np.log(std_q / std_p) + squares - 0.5, 0.0)


def _checked_weights(weights: np.ndarray, n_rois: int) -> np.ndarray:
    weights = np.asarray(weights, dtype=np.float64)
    rows = np.tile(weights, (n_rois, 1)) if weights.ndim == 1 else weights
    if rows.ndim != 2 or rows.shape[0] != n_rois or rows.shape[1] < 2:
        raise ValueError(
            f"weights of shape {weights.shape} must be (n_weights,) or ({n_rois}, n_weights) with "
            "at least 2 weights"
        )
    if not np.isfinite(rows).all() or (np.diff(rows, axis=1) <= 0).any():
        raise ValueError("weights must be finite and rise along each region's row; sort them")
    return rows


# ---- regions: their change, their brightness, its range over brains, and random ones ----


def perturb(
    images: np.ndarray,
    roi_mask: np.ndarray,
    weight: float,
    mean_brightness: float,
    mode: str = "mask",
) -> np.ndarray:
    """Images with one region's brightness replaced or raised, float32 (Liu et al. 2020, § 2.2).

    ``"mask"``: x₀ ⊙ (1 − m) + w·μ_R·m. ``"add"``: x₀ + w·μ_R·m. Not clipped to [0, 1], so that
    equal steps of w stay equal steps of the input.

    Parameters
    ----------
    images, roi_mask : ndarray, shape (n, height, width) and (height, width)
    weight, mean_brightness : float
        w, and μ_R: the brains' mean brightness in the region.
    mode : {"mask", "add"}
    """
    images, roi_mask = np.asarray(images, dtype=np.float32), np.asarray(roi_mask, dtype=bool)
    if images.ndim != 3 or roi_mask.shape != images.shape[1:]:
        raise ValueError(
            f"images {images.shape} and roi_mask {roi_mask.shape} must be (n, height, width) and "
            "(height, width) of one size"
        )
    level = np.float32(weight * mean_brightness)
    return np.where(roi_mask, images + level if _checked_mode(mode) == "add" else level, images)


def region_brightness(images: np.ndarray, roi_masks: np.ndarray) -> np.ndarray:
    """Mean brightness of each region in each brain, (n_rois, n_brains)."""
    images, roi_masks = np.asarray(images), _checked_masks(images, roi_masks)
    return np.stack([images[:, m].mean(axis=1, dtype=np.float64) for m in roi_masks])


def weight_range(
    images: np.ndarray, roi_masks: np.ndarray, *, mode: str = "mask", n_weights: int = 2
) -> np.ndarray:
    """Weights that span each region's own variability, so that regions are comparable.

    (n_rois, n_weights), evenly from the 1st to the 99th percentile over brains of the region's mean
    brightness, divided by μ_R; for ``"add"`` less 1.

    Parameters
    ----------
    images, roi_masks, mode
        As for :func:`receptive_field`.
    n_weights : int
        Weights a region, the two ends included.
    """
    brightness = region_brightness(images, roi_masks)
    mu = _mean_brightness(brightness)
    low, high = np.percentile(brightness, [1, 99], axis=1) / mu - (_checked_mode(mode) == "add")
    if (flat := np.flatnonzero(high <= low)).size:
        raise ValueError(
            f"regions at index {flat.tolist()} are equally bright in all {len(images)} brains; "
            "give more brains or weights of your own"
        )
    return np.linspace(low, high, n_weights, axis=1)


def random_blobs(
    brain_mask: np.ndarray, n_pixels: int, n: int, seed: int, *, mirrored: bool = False
) -> np.ndarray:
    """Connected random regions (n, height, width) of one size inside the brain."""
    brain_mask = np.asarray(brain_mask, dtype=bool)
    if mirrored:
        left = np.arange(brain_mask.shape[1]) < brain_mask.shape[1] // 2
        half = random_blobs(brain_mask & brain_mask[:, ::-1] & left, n_pixels // 2, n, seed)
        return half | half[:, :, ::-1]
    pieces, _ = ndimage.label(brain_mask, structure=np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if not FEWEST_PIXELS <= n_pixels <= sizes.max():
        raise ValueError(
            f"blobs of {n_pixels} pixels are impossible; from {FEWEST_PIXELS} to {sizes.max()} fit "
            "into a connected piece of this brain"
        )
    centres = np.argwhere(sizes[pieces] >= n_pixels)
    rng = np.random.default_rng(seed)
    blobs = np.zeros((n, *brain_mask.shape), dtype=bool)
    for blob in blobs:
        noise = rng.standard_normal(brain_mask.shape)
        noise = ndimage.gaussian_filter(noise, max(np.sqrt(n_pixels) / 4, 1))
        ground = np.where(brain_mask, np.exp(0.7 * noise / noise.std()), -1.0)
        distance, _ = MCP_Geometric(ground).find_costs([rng.choice(centres)])
        blob.flat[np.argsort(distance, axis=None)[:n_pixels]] = True
    return blobs


def _checked_mode(mode: str) -> str:
    """The mode as given, if it is one."""
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is unknown; 'mask' replaces the region, 'add' adds to it")
    return mode


def _checked_masks(images: np.ndarray, roi_masks: np.ndarray) -> np.ndarray:
    """Masks as bool (n_rois, height, width) that fit the images, or a ValueError."""
    shape, masks = np.shape(images), np.asarray(roi_masks, dtype=bool)
    if len(shape) != 3 or masks.ndim != 3 or masks.shape[1:] != shape[1:]:
        raise ValueError(
            f"images {shape} and roi_masks {masks.shape} must be (n_brains, height, width) and "
            "(n_rois, height, width) of one size"
        )
    pixels = masks.sum(axis=(1, 2))
    if (pixels < FEWEST_PIXELS).any():
        small = {int(i): int(pixels[i]) for i in np.flatnonzero(pixels < FEWEST_PIXELS)}
        raise ValueError(
            f"regions (index: pixels) {small} have fewer than {FEWEST_PIXELS} pixels; leave them "
            "out or use a finer resolution"
        )
    return masks


def _mean_brightness(brightness: np.ndarray) -> np.ndarray:
    """μ_R (n_rois,), the mean over brains of ``brightness`` (n_rois, n_brains)."""
    mu = brightness.mean(axis=1)
    if not np.isfinite(mu).all() or (mu <= 0).any():
        raise ValueError(
            f"regions have mean brightness {np.round(mu, 4).tolist()}; each must be finite and "
            "above 0"
        )
    return mu
