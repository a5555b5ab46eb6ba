"""Does a model notice what is wrong with a brain? Scores of pixels or brains against the truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from brainvae_core.metrics.checks import checked_images, checked_rows, reconstructed

SPREAD_FLOOR = 0.01  # grey values
ROUNDING = 1e-12  # a rate of 3/10 is found at 0.3


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

    Parameters
    ----------
    scores : ndarray, any shape
        Higher where something is more likely wrong: of pixels or of brains.
    truth : ndarray of bool, the same shape
        Where something is.
    n_points : int

    Returns
    -------
    Curves

    Raises
    ------
    ValueError
        Shapes differ, a score is not finite, or the truth is all true or all false.
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

    Parameters
    ----------
    clean, corrupted : ndarray, shape (n,) and (m,)
        Scores, higher where something is more likely wrong.

    Returns
    -------
    float
        1 perfect, 0.5 guessing; ties count half.

    Raises
    ------
    ValueError
        No scores, or one that is not finite.
    """
    scores = np.concatenate([np.ravel(clean), np.ravel(corrupted)])
    scores, truth = _checked(scores, np.arange(len(scores)) >= np.size(clean))
    return float(roc_auc_score(truth, scores))


class ErrorMap:
    """Where a model does not paint a brain as it is, held against what is usual.

    Parameters
    ----------
    model
        Anything with ``reconstruct(images)``, or with ``encode`` and ``decode``.
    ordinary : ndarray, shape (n, height, width)
        Clean brains that the model was not fitted to.

    Attributes
    ----------
    spread : ndarray, shape (height, width)
        Root mean square of the model's error over the ordinary brains, at least 0.01 grey values:
        borders that always differ count for less.
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


class PixelDetection(NamedTuple):
    """How well an error map outlines what is wrong, one number a brain.

    Attributes
    ----------
    auc : ndarray, shape (n,)
        Area under the ROC curve over pixels; 0.5 is guessing.
    average_precision : ndarray, shape (n,)
        Area under the precision–recall curve; the share of wrong pixels is guessing.
    """

    auc: np.ndarray
    average_precision: np.ndarray  # area under the precision–recall curve


def pixel_detection(maps: np.ndarray, masks: np.ndarray) -> PixelDetection:
    """Every brain's error map against its mask.

    Parameters
    ----------
    maps : ndarray, shape (n, height, width)
        Higher where something is more likely wrong.
    masks : ndarray of bool, shape (n, height, width)

    Returns
    -------
    PixelDetection

    Raises
    ------
    ValueError
        Shapes differ, a map is not finite, or a mask is empty or covers the whole image.
    """
    maps, masks = checked_images(maps, "maps"), np.asarray(masks, dtype=bool)
    if masks.shape != maps.shape:
        raise ValueError(f"maps {maps.shape} and masks {masks.shape} must have one shape")
    size = masks.sum(axis=(1, 2))
    if bad := np.flatnonzero((size == 0) | (size == masks[0].size)).tolist():
        raise ValueError(
            f"the masks of brains {bad[:5]} are empty or cover the whole image: there is nothing "
            "to tell apart; leave those out"
        )
    areas, precisions = np.empty((2, len(maps)))
    for i, (found, mask) in enumerate(zip(maps, masks, strict=True)):
        areas[i] = roc_auc_score(mask.ravel(), found.ravel())
        precisions[i] = average_precision_score(mask.ravel(), found.ravel())
    return PixelDetection(areas, precisions)


def outlier_score(train_codes: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """How far codes lie outside those of the training brains: squared Mahalanobis distance.

    Parameters
    ----------
    train_codes, codes : ndarray, shape (n, latent_dim)

    Returns
    -------
    ndarray of float64, shape (n,)
        About ``latent_dim`` for a training brain. Turning, moving and stretching latents changes
        nothing; those that do not move over the training brains are left out. One that hardly
        moves, such as a latent that is not active, weighs as much as the others.

    Raises
    ------
    ValueError
        Different numbers of latents, fewer training brains than latents + 2, a code that is not
        finite, or training codes that are all the same or of which one is a sum of others.
    """
    train_codes, codes = checked_rows(train_codes, "train_codes"), np.asarray(codes, np.float64)
    if codes.ndim != 2 or codes.shape[1] != train_codes.shape[1] or not np.isfinite(codes).all():
        raise ValueError(
            f"codes {codes.shape} must be finite and have the {train_codes.shape[1]} columns of "
            "train_codes"
        )
    spread = train_codes.std(axis=0)
    moves = spread > 1e-6 * spread.max()
    if not moves.any():
        raise ValueError("the training codes are all the same: nothing lies outside them")
    if len(train_codes) < moves.sum() + 2:
        raise ValueError(
            f"{len(train_codes)} training brains do not span {moves.sum()} latents; give at least "
            f"{moves.sum() + 2}"
        )
    centre = train_codes[:, moves].mean(axis=0)
    factor = np.linalg.qr(train_codes[:, moves] - centre, mode="r") / np.sqrt(len(train_codes) - 1)
    if (np.abs(np.diag(factor)) <= 1e-6 * spread[moves]).any():
        raise ValueError(
            "some latent of the training brains is a sum of others, so distances along it have no "
            "unit; leave it out"
        )
    whitened = np.linalg.lstsq(factor.T, (codes[:, moves] - centre).T, rcond=None)[0]
    return np.square(whitened).sum(axis=0)


def _checked(scores, truth) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=bool)
    if scores.shape != truth.shape or not scores.size:
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} must have one shape")
    if not np.isfinite(scores).all():
        raise ValueError("scores has entries that are not finite; leave those out")
    if truth.all() or not truth.any():
        raise ValueError("the truth is all true or all false: there is nothing to tell apart")
    return scores.ravel(), truth.ravel()
