"""How much of a brain a reconstruction keeps, and how much of an artefact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ArtefactRemoval:
    """What became of an artefact and of the brain behind it, one number a brain.

    Attributes
    ----------
    reproduced : ndarray of float64, shape (n,)
        1 where the artefact is fully reproduced, 0 where nothing of it is left.
    kept : ndarray of float64, shape (n,)
        1 where the rest of the reconstruction is the clean brain, 0 where it is as far from it as
        the mean image, negative where it is further.
    """

    reproduced: np.ndarray
    kept: np.ndarray


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

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    residual, total = _squares(images, reconstructions, mean_image)
    if not (total > 0).all():
        raise ValueError(
            f"image {np.argmin(total > 0)} equals the mean image, so it has no variance to explain"
        )
    return 1 - residual / total


def artefact_removal(
    clean: np.ndarray,
    corrupted: np.ndarray,
    masks: np.ndarray,
    reconstructions: np.ndarray,
    mean_image: np.ndarray,
) -> ArtefactRemoval:
    """Split the error of reconstructed corrupted brains into artefact and the rest.

    With x the corrupted brain, c the clean one and a = x − c inside the mask (0 outside), the
    error r − c of a reconstruction has one part along a and one at right angles to it:

    - ``reproduced`` = Σ a (r − c) / Σ a²;
    - ``kept`` = 1 − ‖(r − c) − reproduced · a‖² / the same of the mean image.

    So ``kept`` counts every pixel, needs none outside the mask (a grid covers the whole tissue),
    and blames no part of the artefact twice. ``reproduced`` also picks up what a model gets wrong
    without any artefact (a dim reconstruction looks a little like a bright leak removed). It is
    linear in r: from its value subtract that of the reconstructed *clean* brains, passed in place
    of ``reconstructions``, and what remains is the artefact's own effect.

    Parameters
    ----------
    clean, corrupted : ndarray, shape (n, height, width)
        The same brains without and with an artefact.
    masks : ndarray of bool, shape (n, height, width)
        Where the artefacts are.
    reconstructions : ndarray, shape (n, height, width)
        A model's answers to ``corrupted``.
    mean_image : ndarray, shape (height, width)
        Of the training brains.

    Returns
    -------
    ArtefactRemoval

    Raises
    ------
    ValueError
        Shapes differ, a pixel is not finite, a mask is empty or holds no artefact, or a clean
        image is the mean image but for its artefact.
    """
    clean, corrupted = _checked(clean, "clean"), _checked(corrupted, "corrupted")
    reconstructions = _checked(reconstructions, "reconstructions")
    mean_image = _checked_mean(mean_image, clean)
    masks = np.asarray(masks, dtype=bool)
    for name, array in (
        ("corrupted", corrupted),
        ("masks", masks),
        ("reconstructions", reconstructions),
    ):
        if array.shape != clean.shape:
            raise ValueError(f"{name} {array.shape} and clean {clean.shape} must have one shape")
    if not (covered := masks.any(axis=(1, 2))).all():
        raise ValueError(
            f"the mask of brain {np.argmin(covered)} is empty; leave out brains without"
        )
    reproduced, kept = np.empty((2, len(clean)))
    for i in range(len(clean)):
        truth = clean[i].astype(np.float64)
        artefact = (corrupted[i] - truth) * masks[i]
        if not artefact.any():
            raise ValueError(
                f"brain {i} is the same clean and corrupted inside its mask; leave out brains "
                "without an artefact"
            )
        reproduced[i], rest = _along(artefact, reconstructions[i] - truth)
        _, rest_of_mean = _along(artefact, mean_image - truth)
        total = np.square(rest_of_mean).sum()
        if not total > 1e-12 * np.square(truth).sum():
            raise ValueError(
                f"clean image {i} is the mean image but for its artefact, so nothing of it can be "
                "lost; leave it out"
            )
        kept[i] = 1 - np.square(rest).sum() / total
    return ArtefactRemoval(reproduced, kept)


def _along(direction: np.ndarray, error: np.ndarray) -> tuple[float, np.ndarray]:
    """How many times ``direction`` an error holds, and what is left of it."""
    times = (direction * error).sum() / np.square(direction).sum()
    return times, error - times * direction


def _squares(images, reconstructions, mean_image) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance of every brain from its reconstruction and from the mean, (n,) each."""
    images = _checked(images, "images")
    reconstructions = _checked(reconstructions, "reconstructions")
    if reconstructions.shape != images.shape:
        raise ValueError(
            f"reconstructions {reconstructions.shape} and images {images.shape} must have one shape"
        )
    mean_image = _checked_mean(mean_image, images)
    residual, total = np.empty((2, len(images)))
    # Brain by brain: in float64 a whole cohort would not fit into memory twice.
    for i, image in enumerate(images):
        image = image.astype(np.float64)
        residual[i] = np.square(image - reconstructions[i]).sum()
        total[i] = np.square(image - mean_image).sum()
    return residual, total


def _checked(images, name: str) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 3 or not images.size:
        raise ValueError(f"{name} is {images.shape}; it must be (n, height, width)")
    finite = np.isfinite(images).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(
            f"{name}[{np.argmin(finite)}] has pixels that are not finite; leave that brain out"
        )
    return images


def _checked_mean(mean_image, images: np.ndarray) -> np.ndarray:
    mean_image = np.asarray(mean_image, dtype=np.float64)
    if mean_image.shape != images.shape[1:] or not np.isfinite(mean_image).all():
        raise ValueError(
            f"the mean image is {mean_image.shape}; for images {images.shape} it must be "
            f"{images.shape[1:]} and finite"
        )
    return mean_image
