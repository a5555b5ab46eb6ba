"""What a model's answers have of brains and of artefacts: how much, how sharp, how well noticed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from brainvae_core.metrics.checks import (
    check_one_shape,
    check_positive,
    checked_alike,
    checked_images,
    checked_mean,
    reconstructed,
)

CHUNK = 64  # images of a spectrum at once
PATTERN_UM = 500  # σ of the mean that is taken away: about half a tile of a grid
SPREAD_FLOOR = 0.01  # grey values


def explained_variance(
    images: np.ndarray, reconstructions: np.ndarray, mean_image: np.ndarray
) -> float:
    """Share of the squared difference from the mean image that reconstructions account for.

    ``1 − Σ (x − r)² / Σ (x − mean)²``, both sums over all brains and pixels: 1 perfect, 0 the mean
    image, which a model that learned nothing would answer, negative worse.

    Parameters
    ----------
    images, reconstructions : ndarray, shape (n, height, width)
    mean_image : ndarray, shape (height, width)
        Of the *training* brains.
    """
    residual, total, _ = _squares(images, reconstructions, mean_image)
    if not total.sum() > 0:
        raise ValueError("every image equals the mean image, so there is no variance to explain")
    return float(1 - residual.sum() / total.sum())


def explained_variance_per_brain(
    images: np.ndarray, reconstructions: np.ndarray, mean_image: np.ndarray
) -> np.ndarray:
    """`explained_variance` of every brain by itself, (n,) float64.

    Parameters
    ----------
    images, reconstructions, mean_image
        As for `explained_variance`.
    """
    residual, total, _ = _squares(images, reconstructions, mean_image, deviates=True)
    return 1 - residual / total


def norm_ratio(
    images: np.ndarray, reconstructions: np.ndarray, mean_image: np.ndarray
) -> np.ndarray:
    """How far reconstructions deviate from the mean image, over how far the brains do, (n,).

    ``‖r − mean‖ / ‖x − mean‖``: 0 for the mean image, 1 for a copy, of a projection the root of
    what it explains.

    Parameters
    ----------
    images, reconstructions, mean_image
        As for `explained_variance`.
    """
    _, total, deviation = _squares(images, reconstructions, mean_image, deviates=True)
    return np.sqrt(deviation / total)


def radial_spectrum(
    images: np.ndarray, pixel_um: float, n_bins: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """Power of images by spatial frequency, whatever the direction.

    ``(frequencies, power)``, (n_bins,) in cycles per mm, the rings' geometric middles, and (n,
    n_bins): the part of an image's mean square that lies in a ring of frequencies, both under a
    Hann window, which takes the borders' jump away.

    Parameters
    ----------
    images, pixel_um : ndarray, shape (n, height, width), and float
    n_bins : int
        Rings of equal width in log frequency, from one period an image's shorter side to the
        Nyquist frequency. With many, some hold no frequency of a small image; their power is 0.
    """
    images = checked_images(images, "images", None)  # deviations too
    check_positive(pixel_um=pixel_um, n_bins=n_bins)
    n, *shape = images.shape
    pixel_mm = pixel_um / 1000
    edges = np.geomspace(1 / (min(shape) * pixel_mm), 0.5 / pixel_mm, n_bins + 1)
    radius = np.hypot(
        np.fft.fftfreq(shape[0], pixel_mm)[:, None], np.fft.rfftfreq(shape[1], pixel_mm)
    )
    ring = np.searchsorted(edges, radius, side="right") - 1
    ring[np.isclose(radius, edges[-1])] = n_bins - 1
    ring[ring < 0] = n_bins  # those in no ring
    window = np.outer(*(np.hanning(size + 2)[1:-1] for size in shape))
    # Every frequency but those of the first and (of an even width) last column stands for two.
    twice = np.where(2 * np.arange(shape[1] // 2 + 1) % shape[1], 2.0, 1.0)
    scale = twice / (np.square(window).sum() * window.size)
    power = np.empty((n, n_bins))
    for start in range(0, n, CHUNK):
        part = images[start : start + CHUNK].astype(np.float64)
        spectrum = np.square(np.abs(np.fft.rfft2(part * window))) * scale
        for i, one in enumerate(spectrum, start):
            power[i] = np.bincount(ring.ravel(), one.ravel(), n_bins + 1)[:n_bins]
    return np.sqrt(edges[:-1] * edges[1:]), power


def _squares(images, reconstructions, mean_image, deviates=False) -> np.ndarray:
    """Squared distances brain to answer, brain to mean and answer to mean, (3, n)."""
    images, reconstructions = checked_alike(
        {"images": images}, {"reconstructions": reconstructions}
    )
    mean_image = checked_mean(mean_image, images)
    residual, total, deviation = squares = np.empty((3, len(images)))
    # Brain by brain: in float64 a whole cohort would not fit into memory twice.
    for i, image in enumerate(images):
        image, answer = (x.astype(np.float64) for x in (image, reconstructions[i]))
        residual[i] = np.square(image - answer).sum()
        total[i] = np.square(image - mean_image).sum()
        deviation[i] = np.square(answer - mean_image).sum()
    if deviates and not (total > 0).all():
        raise ValueError(
            f"image {np.argmin(total > 0)} equals the mean image, so it has no variance to explain"
        )
    return squares


# ---- artefacts and other changes ----


class ArtefactRemoval(NamedTuple):
    """What became of an artefact and of the brain around and behind it, (n,) each.

    ``reproduced``: 1 where the artefact is fully reproduced, 0 where nothing of it is left;
    ``pattern``: of what is finer than 0.5 mm alone, such as a grid's lines. ``kept`` outside and
    ``recovered`` inside the mask: 1 where the reconstruction is the clean brain, 0 where it is as
    far from it as the mean image, negative where it is further.
    """

    reproduced: np.ndarray
    pattern: np.ndarray
    kept: np.ndarray
    recovered: np.ndarray


def artefact_removal(
    clean: np.ndarray,
    corrupted: np.ndarray,
    masks: np.ndarray,
    of_clean: np.ndarray,
    of_corrupted: np.ndarray,
    mean_image: np.ndarray,
    pixel_um: float | None,
) -> ArtefactRemoval:
    """What a model's answer to a corrupted brain holds of the artefact and of the brain.

    With x the corrupted brain, c the clean one, r(·) the model's answers, and a = x − c:

    - ``reproduced`` = Σ a (r(x) − r(c)) / Σ a² inside the mask; what a model gets wrong without
      any artefact is in both answers and cancels;
    - ``pattern`` = the same of a and r(x) − r(c) less their Gaussian means (σ = 0.5 mm);
    - ``kept`` = 1 − Σ (r(x) − c)² / Σ (mean − c)² outside it, ``recovered`` the same inside it.

    Parameters
    ----------
    clean, corrupted, of_clean, of_corrupted : ndarray, shape (n, height, width)
        The same brains without and with an artefact, and a model's answers to the two.
    masks, mean_image, pixel_um
        Of the same shape, neither empty nor full; of the training brains, (height, width); without
        the size of a pixel there is no pattern (NaN), which takes longest.
    """
    clean, corrupted, of_clean, of_corrupted = checked_alike(
        {"clean": clean, "corrupted": corrupted},
        {"of_clean": of_clean, "of_corrupted": of_corrupted},
    )
    mean_image, masks = checked_mean(mean_image, clean), np.asarray(masks, dtype=bool)
    check_one_shape(clean=clean, masks=masks)
    for part, what in ((masks, "is empty"), (~masks, "covers the whole image")):
        if not (some := part.any(axis=(1, 2))).all():
            raise ValueError(f"the mask of brain {np.argmin(some)} {what}; leave that brain out")
    check_positive(pixel_um=1 if pixel_um is None else pixel_um)
    reproduced, pattern, kept, recovered = np.full((4, len(clean)), np.nan)
    for i, mask in enumerate(masks):
        truth, answer = clean[i].astype(np.float64), of_corrupted[i].astype(np.float64)
        change, comes_back = corrupted[i] - truth, answer - of_clean[i]
        if not change[mask].any():
            raise ValueError(
                f"brain {i} is the same clean and corrupted inside its mask; leave out brains "
                "without an artefact"
            )
        whole, parts = np.square(change[mask]).sum(), [(reproduced, change, comes_back)]
        if pixel_um is not None:
            sigma = PATTERN_UM / pixel_um
            parts += [(pattern, *(x - gaussian_filter(x, sigma) for x in (change, comes_back)))]
        for shares, a, d in parts:
            total = np.square(a[mask]).sum()
            shares[i] = (a[mask] * d[mask]).sum() / total if total > 1e-12 * whole else 0.0
        for shares, part, where in ((kept, ~mask, "outside"), (recovered, mask, "inside")):
            total = np.square((mean_image - truth)[part]).sum()
            if not total > 1e-12 * np.square(truth[part]).sum():
                raise ValueError(
                    f"clean image {i} is the mean image {where} its mask, so nothing of it can be "
                    "lost there; leave it out"
                )
            shares[i] = 1 - np.square((answer - truth)[part]).sum() / total
    return ArtefactRemoval(reproduced, pattern, kept, recovered)


def reproduced_change(
    before: np.ndarray, after: np.ndarray, of_before: np.ndarray, of_after: np.ndarray
) -> np.ndarray:
    """How much of a change of brains comes back as a change of a model's answers, (n,).

    Σ d (r(after) − r(before)) / Σ d² with d = after − before: 1 where the change comes back whole,
    0 where it is ignored.

    Parameters
    ----------
    before, after, of_before, of_after : ndarray, shape (n, height, width)
        Brains without and with the change, and a model's answers to the two.
    """
    sets = checked_alike(
        {"before": before, "after": after}, {"of_before": of_before, "of_after": of_after}
    )
    shares = np.empty(len(before))
    for i, (start, end, of_start, of_end) in enumerate(zip(*sets, strict=True)):
        change = end.astype(np.float64) - start
        if not change.any():
            raise ValueError(f"brain {i} does not change; leave it out")
        comes_back = of_end.astype(np.float64) - of_start
        shares[i] = (change * comes_back).sum() / np.square(change).sum()
    return shares


def graded_removal(
    model, graded, mean_image: np.ndarray, patterns: Sequence[str] | None = None
) -> ArtefactRemoval:
    """`artefact_removal` of every artefact at every strength, of arrays (n_kinds, n_strengths, n).

    Parameters
    ----------
    model, graded, mean_image
        With ``reconstruct(images)``, or ``encode`` and ``decode``; of ``graded_artefacts``.
    patterns : sequence of str, optional
        The kinds whose pattern is asked; every one.
    """
    found = []
    for k, kind in enumerate(graded.kinds):
        sets = graded.undamaged(k), graded.images[k], graded.masks[k]
        sets = [x.reshape(-1, *x.shape[-2:]) for x in sets]
        answers = [reconstructed(model, images) for images in sets[:2]]
        pixel_um = graded.pixel_um if patterns is None or kind in patterns else None
        found.append(artefact_removal(*sets, *answers, mean_image, pixel_um))
    cells = graded.images.shape[:3]
    return ArtefactRemoval(*(np.stack(of).reshape(cells) for of in zip(*found, strict=True)))


class ErrorMap:
    """Where a model does not reconstruct a brain as it is, held against what is usual.

    ``spread`` (height, width) is the root mean square of the model's error over ``ordinary`` clean
    brains (n, height, width) that it was not fitted to, at least 0.01 grey values: borders that
    always differ count for less. The model has ``reconstruct``, or ``encode`` and ``decode``.
    """

    def __init__(self, model, ordinary: np.ndarray):
        ordinary = checked_images(ordinary, "ordinary")
        self.model = model
        rest = reconstructed(model, ordinary) - ordinary
        self.spread = np.sqrt(np.square(rest).mean(axis=0)).clip(min=SPREAD_FLOOR)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """``|x − r|`` / spread of images (n, height, width), of the same shape."""
        images = checked_images(images, "images")
        return np.abs(reconstructed(self.model, images) - images) / self.spread


def error_score(maps: np.ndarray) -> np.ndarray:
    """One number a brain: the root mean square of its error map, (…, height, width) to (…)."""
    return np.sqrt(np.square(maps).mean(axis=(-2, -1)))


def auc(clean: np.ndarray, corrupted: np.ndarray) -> float:
    """How often what is corrupted scores higher than what is clean: the area under the ROC curve.

    Scores are (n,) and (m,); 1 is perfect, 0.5 guessing; ties count half.
    """
    scores = np.concatenate([np.ravel(clean), np.ravel(corrupted)])
    truth = np.arange(len(scores)) >= np.size(clean)
    if not np.isfinite(scores).all():
        raise ValueError("scores has entries that are not finite; leave those out")
    if truth.all() or not truth.any():
        raise ValueError("scores are all clean or all corrupted: there is nothing to tell apart")
    return float(roc_auc_score(truth, scores.astype(np.float64)))


def pixel_detection(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """How well error maps outline what is wrong: areas under ROC curves over pixels, (n,).

    Guessing is 0.5. Every map is held against its mask, neither empty nor full; both are (n,
    height, width).
    """
    maps, masks = checked_images(maps, "maps", None), np.asarray(masks, dtype=bool)
    check_one_shape(maps=maps, masks=masks)
    size = masks.sum(axis=(1, 2))
    if bad := np.flatnonzero((size == 0) | (size == masks[0].size)).tolist():
        raise ValueError(
            f"the masks of brains {bad[:5]} are empty or cover the whole image: there is nothing "
            "to tell apart; leave those out"
        )
    areas = np.empty(len(maps))
    for i, (found, mask, wrong) in enumerate(zip(maps, masks, size, strict=True)):
        ranks = rankdata(found.ravel())[mask.ravel()]
        areas[i] = (ranks.mean() - (wrong + 1) / 2) / (mask.size - wrong)  # Mann and Whitney's U
    return areas
