"""What a model makes of artefacts: how much it reproduces, removes, notices and outlines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from brainvae_core.metrics.checks import checked_images, checked_mean, checked_pair, reconstructed

PATTERN_UM = 500  # σ of the mean that is taken away: about half a tile of a grid
SPREAD_FLOOR = 0.01  # grey values
ROUNDING = 1e-12  # a rate of 3/10 is found at 0.3


class ArtefactRemoval(NamedTuple):
    """What became of an artefact and of the brain around and behind it, one number a brain.

    Attributes
    ----------
    reproduced : ndarray of float64, shape (n,)
        Inside the mask: 1 where the artefact is fully reproduced, 0 where nothing of it is left.
    pattern : ndarray of float64, shape (n,)
        The same of what is finer than 0.5 mm: of a grid its lines, not that the brain gets darker.
        0 of an artefact that has nothing so fine.
    kept : ndarray of float64, shape (n,)
        Outside the mask: 1 where the reconstruction is the clean brain, 0 where it is as far from
        it as the mean image, negative where it is further.
    recovered : ndarray of float64, shape (n,)
        Inside the mask, against the clean brain that the artefact hides: as ``kept``.
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
    pixel_um: float,
) -> ArtefactRemoval:
    """What a model's answer to a corrupted brain holds of the artefact and of the brain.

    With x the corrupted brain, c the clean one, r(·) the model's answers, and a = x − c:

    - ``reproduced`` = Σ a (r(x) − r(c)) / Σ a² over the pixels *inside* the mask. What a model gets
      wrong without any artefact (a dim answer looks a little like a bright leak removed) is in
      both answers and cancels;
    - ``pattern`` = the same of a and r(x) − r(c) less their Gaussian means (σ = 0.5 mm);
    - ``kept`` = 1 − Σ (r(x) − c)² / Σ (mean − c)² over the pixels *outside* the mask;
    - ``recovered`` = the same over the pixels *inside* it.

    Parameters
    ----------
    clean, corrupted, of_clean, of_corrupted : ndarray, shape (n, height, width)
        The same brains without and with an artefact, and a model's answers to the two.
    masks : ndarray of bool, shape (n, height, width)
    mean_image : ndarray, shape (height, width)
        Of the training brains.
    pixel_um : float

    Raises
    ------
    ValueError
        Shapes differ, a pixel is not finite, a mask is empty, covers everything or holds no
        artefact, or a clean image equals the mean image inside or outside its mask.
    """
    for name, images in {"of_clean": of_clean, "of_corrupted": of_corrupted}.items():
        checked_pair(clean, images, ("clean", name))
    clean, corrupted = checked_pair(clean, corrupted, ("clean", "corrupted"))
    mean_image = checked_mean(mean_image, clean)
    masks = np.asarray(masks, dtype=bool)
    if masks.shape != clean.shape:
        raise ValueError(f"masks {masks.shape} and clean {clean.shape} must have one shape")
    for part, what in ((masks, "is empty"), (~masks, "covers the whole image")):
        if not (some := part.any(axis=(1, 2))).all():
            raise ValueError(f"the mask of brain {np.argmin(some)} {what}; leave that brain out")
    if not 0 < pixel_um < np.inf:
        raise ValueError(f"pixel_um={pixel_um} must be positive and finite")
    reproduced, pattern, kept, recovered = np.empty((4, len(clean)))
    for i, mask in enumerate(masks):
        truth, answer = clean[i].astype(np.float64), of_corrupted[i].astype(np.float64)
        change, comes_back = corrupted[i] - truth, answer - of_clean[i]
        if not change[mask].any():
            raise ValueError(
                f"brain {i} is the same clean and corrupted inside its mask; leave out brains "
                "without an artefact"
            )
        fine = [x - gaussian_filter(x, PATTERN_UM / pixel_um) for x in (change, comes_back)]
        whole = np.square(change[mask]).sum()
        for shares, (a, d) in ((reproduced, (change, comes_back)), (pattern, fine)):
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
    0 where it is ignored. Where it moves noise and texture too, a model that knew the change itself
    but not these would stay below 1. All four sets of images are (n, height, width).

    Parameters
    ----------
    before, after, of_before, of_after : ndarray, shape (n, height, width)
        Brains without and with the change, and a model's answers to the two.
    """
    for name, images in {"of_before": of_before, "of_after": of_after}.items():
        checked_pair(before, images, ("before", name))
    before, after = checked_pair(before, after, ("before", "after"))
    shares = np.empty(len(before))
    for i in range(len(before)):
        change = after[i].astype(np.float64) - before[i]
        if not change.any():
            raise ValueError(f"brain {i} does not change; leave it out")
        comes_back = of_after[i].astype(np.float64) - of_before[i]
        shares[i] = (change * comes_back).sum() / np.square(change).sum()
    return shares


def graded_removal(model, graded, mean_image: np.ndarray) -> ArtefactRemoval:
    """`artefact_removal` of every artefact at every strength, of arrays (n_kinds, n_strengths, n).

    Parameters
    ----------
    model
        Anything with ``reconstruct(images)``, or with ``encode`` and ``decode``.
    graded
        Has ``clean`` (n, height, width), ``images`` and ``masks`` (n_kinds, n_strengths, n, height,
        width), and ``pixel_um``: ``graded_artefacts``.
    mean_image : ndarray, shape (height, width)
    """
    *cells, n, height, width = graded.images.shape
    times = int(np.prod(cells))
    flat = graded.images.reshape(-1, height, width)
    found = artefact_removal(
        np.tile(graded.clean, (times, 1, 1)),
        flat,
        graded.masks.reshape(flat.shape),
        np.tile(reconstructed(model, graded.clean), (times, 1, 1)),
        reconstructed(model, flat),
        mean_image,
        graded.pixel_um,
    )
    return ArtefactRemoval(*(shares.reshape(*cells, n) for shares in found))


class ErrorMap:
    """Where a model does not reconstruct a brain as it is, held against what is usual.

    Parameters
    ----------
    model
        Anything with ``reconstruct(images)``, or with ``encode`` and ``decode``.
    ordinary : ndarray, shape (n, height, width)
        Clean brains that the model was not fitted to. ``spread`` (height, width) is the root mean
        square of its error over them, at least 0.01 grey values: borders that always differ count
        for less.
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


class Curves(NamedTuple):
    """Receiver operating characteristic and precision–recall curve on fixed grids.

    Attributes
    ----------
    share : ndarray, shape (n_points,)
        False positive rate of the first curve, recall of the second.
    true_positive_rate : ndarray, shape (n_points,)
        Highest at each false positive rate or below.
    precision : ndarray, shape (n_points,)
        Highest at each recall or above.
    prevalence : float
        Share of positives: the precision of a detector that guesses.
    """

    share: np.ndarray
    true_positive_rate: np.ndarray
    precision: np.ndarray
    prevalence: float


def detection_curves(scores: np.ndarray, truth: np.ndarray, n_points: int = 201) -> Curves:
    """How many are found at which price, over all thresholds.

    Scores of any shape are higher where something is more likely wrong; the truth, of that shape,
    says where something is, and may be neither all true nor all false.

    Parameters
    ----------
    scores, truth : ndarray of number and of bool, of one shape
    n_points : int
    """
    scores, truth = _checked(scores, truth)
    share = np.linspace(0, 1, n_points)
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    # The last point of the other curve is no threshold: nothing found, precision 1.
    precision, recall = (part[:-1] for part in precision_recall_curve(truth, scores)[:2])
    below = np.searchsorted(false, share + ROUNDING, side="right") - 1
    best = np.maximum.accumulate(precision)  # recall falls: best at this recall or above
    above = np.searchsorted(-recall, ROUNDING - share, side="right") - 1
    return Curves(share, true[below], best[above], float(truth.mean()))


def auc(clean: np.ndarray, corrupted: np.ndarray) -> float:
    """How often what is corrupted scores higher than what is clean: the area under the ROC curve.

    Scores are (n,) and (m,); 1 is perfect, 0.5 guessing; ties count half.
    """
    scores = np.concatenate([np.ravel(clean), np.ravel(corrupted)])
    scores, truth = _checked(scores, np.arange(len(scores)) >= np.size(clean))
    return float(roc_auc_score(truth, scores))


class PixelDetection(NamedTuple):
    """How well an error map outlines what is wrong, one number a brain.

    Attributes
    ----------
    auc, average_precision : ndarray, shape (n,)
        Areas under the ROC and the precision–recall curve over pixels; guessing is 0.5 of the
        first, the share of wrong pixels of the second.
    """

    auc: np.ndarray
    average_precision: np.ndarray


def pixel_detection(maps: np.ndarray, masks: np.ndarray) -> PixelDetection:
    """Every brain's error map against its mask, neither empty nor full; (n, height, width)."""
    maps, masks = checked_images(maps, "maps"), np.asarray(masks, dtype=bool)
    if masks.shape != maps.shape:
        raise ValueError(f"maps {maps.shape} and masks {masks.shape} must have one shape")
    size = masks.sum(axis=(1, 2))
    if bad := np.flatnonzero((size == 0) | (size == masks[0].size)).tolist():
        raise ValueError(
            f"the masks of brains {bad[:5]} are empty or cover the whole image: there is nothing "
            "to tell apart; leave those out"
        )
    pairs = [(m.ravel(), found.ravel()) for found, m in zip(maps, masks, strict=True)]
    areas = (roc_auc_score, average_precision_score)
    return PixelDetection(*(np.array([area(*pair) for pair in pairs]) for area in areas))


def _checked(scores, truth) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=bool)
    if scores.shape != truth.shape or not scores.size:
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} must have one shape")
    if not np.isfinite(scores).all():
        raise ValueError("scores has entries that are not finite; leave those out")
    if truth.all() or not truth.any():
        raise ValueError("the truth is all true or all false: there is nothing to tell apart")
    return scores.ravel(), truth.ravel()
