"""How much of a brain a reconstruction keeps, and how much of an artefact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from brainvae_core.metrics.checks import checked_mean, checked_pair

PATTERN_UM = 500  # σ of the mean that is taken away: about half a tile of a grid


@dataclass(frozen=True, eq=False, repr=False)
class ArtefactRemoval:
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
        Inside the mask, against the clean brain that the artefact hides: as ``kept``. Of missing
        tissue, how much of what was there is painted in.
    """

    reproduced: np.ndarray
    pattern: np.ndarray
    kept: np.ndarray
    recovered: np.ndarray


def explained_variance(
    images: np.ndarray, reconstructions: np.ndarray, mean_image: np.ndarray
) -> float:
    """Share of the squared difference from the mean image that reconstructions account for.

    Parameters
    ----------
    images, reconstructions : ndarray, shape (n, height, width)
    mean_image : ndarray, shape (height, width)
        Of the *training* brains: what a model that learned nothing would answer.

    Returns
    -------
    float
        ``1 − Σ (x − r)² / Σ (x − mean)²``, both sums over all brains and pixels: 1 perfect, 0 the
        mean image, negative worse than it.

    Raises
    ------
    ValueError
        Shapes differ, a pixel is not finite, or every image is the mean image.
    """
    residual, total = _squares(images, reconstructions, mean_image)
    if not total.sum() > 0:
        raise ValueError("every image equals the mean image, so there is no variance to explain")
    return float(1 - residual.sum() / total.sum())


def explained_variance_per_brain(
    images: np.ndarray, reconstructions: np.ndarray, mean_image: np.ndarray
) -> np.ndarray:
    """`explained_variance` of every brain by itself.

    Their mean is not the pooled value: there, an unusual brain weighs more.

    Parameters
    ----------
    images, reconstructions, mean_image
        As for `explained_variance`.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ValueError
        Shapes differ, a pixel is not finite, or an image is the mean image.
    """
    residual, total = _squares(images, reconstructions, mean_image)
    _check_deviates(total)
    return 1 - residual / total


def norm_ratio(
    images: np.ndarray, reconstructions: np.ndarray, mean_image: np.ndarray
) -> np.ndarray:
    """How far reconstructions deviate from the mean image, over how far the brains do.

    Parameters
    ----------
    images, reconstructions, mean_image
        As for `explained_variance`.

    Returns
    -------
    ndarray of float64, shape (n,)
        ``‖r − mean‖ / ‖x − mean‖``: 0 for the mean image, 1 for a copy; what a projection keeps is
        the root of its explained variance.
    """
    _, total = _squares(images, reconstructions, mean_image)
    deviation = _squares(reconstructions, images, mean_image)[1]
    _check_deviates(total)
    return np.sqrt(deviation / total)


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
    clean, corrupted : ndarray, shape (n, height, width)
        The same brains without and with an artefact.
    masks : ndarray of bool, shape (n, height, width)
        Where the artefacts are.
    of_clean, of_corrupted : ndarray, shape (n, height, width)
        A model's answers to the two.
    mean_image : ndarray, shape (height, width)
        Of the training brains.
    pixel_um : float
        Side of a pixel in µm.

    Returns
    -------
    ArtefactRemoval

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
    """How much of a change of brains comes back as a change of a model's answers.

    Parameters
    ----------
    before, after : ndarray, shape (n, height, width)
        The same brains without and with the change, such as a rare anatomy or a misplaced section.
    of_before, of_after : ndarray, shape (n, height, width)
        A model's answers to the two.

    Returns
    -------
    ndarray of float64, shape (n,)
        Σ d (r(after) − r(before)) / Σ d² with d = after − before: 1 where the change comes back
        whole, 0 where it is ignored. ``reproduced`` of `artefact_removal` is this number inside
        the mask. Where the change moves noise and texture too, a model that knew the change
        itself but not these would stay below 1.

    Raises
    ------
    ValueError
        Shapes differ, a pixel is not finite, or a brain does not change.
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


def _squares(images, reconstructions, mean_image) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance of every brain from its reconstruction and from the mean, (n,) each."""
    images, reconstructions = checked_pair(images, reconstructions, ("images", "reconstructions"))
    mean_image = checked_mean(mean_image, images)
    residual, total = np.empty((2, len(images)))
    # Brain by brain: in float64 a whole cohort would not fit into memory twice.
    for i, image in enumerate(images):
        image = image.astype(np.float64)
        residual[i] = np.square(image - reconstructions[i]).sum()
        total[i] = np.square(image - mean_image).sum()
    return residual, total


def _check_deviates(total) -> None:
    if not (total > 0).all():
        raise ValueError(
            f"image {np.argmin(total > 0)} equals the mean image, so it has no variance to explain"
        )
