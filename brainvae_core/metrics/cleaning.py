"""Which brains have an artefact, of which kind and where; and the brains without it."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, uniform_filter1d
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from brainvae_core.metrics.checks import (
    check_one_shape,
    check_positive,
    checked_images,
    reconstructed,
)
from brainvae_core.metrics.reconstruction import SPREAD_FLOOR

NONE = "none"
FEWEST = 4  # planted brains
SCALES_UM = (50, 150)  # σ: of a seam's width, and of a small leak or hole
PIECE_UM = 100  # σ: an artefact is no single pixel
RIM_UM = 50  # around a mask: where an artefact fades
TILE_UM = 900  # a seam is darker than the rows or columns within this
CROSS = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], dtype=bool)  # neighbours in a section
N_LOOKS = 9
PIXELS = 400  # of every planted section, to learn what they look like
LEAST = 1e-6  # share of a brain that counts as nothing
STRENGTH = 10.0  # inverse of the regressions' penalty
CHUNK = 16  # brains looked at at once
STEPS, SETTLED = 30, 1 / 255  # passes of `inpaint`, and the grey value at which they end


class Judgement(NamedTuple):
    """What an `ArtefactJudge` says of brains.

    ``probability`` (n,) that a brain has an artefact; ``kind`` (n,) the likeliest one, ``"none"``
    below a half; ``masks`` (n, height, width) where it is, empty where the kind is none.
    ``by_kind`` (n, n_kinds) sums to the probability.
    """

    probability: np.ndarray
    kind: np.ndarray
    masks: np.ndarray
    by_kind: np.ndarray


class ArtefactJudge:
    """Judges artefacts by what a model does not reconstruct, having seen planted ones.

    A logistic regression tells the pixels of each kind from others, by the model's signed error at
    two scales in units of what is usual there, by how dark its row and column are, and by grey.
    Another tells brains apart, by how much of each kind there is and how clearly. Both learn from
    the ordinary brains; one from every other planted brain, the other from those between.

    Parameters
    ----------
    model
        With ``reconstruct``, or ``encode`` and ``decode``.
    ordinary : ndarray, shape (n, height, width)
        Brains without an artefact that the model was not fitted to, with the anatomy that is not to
        be taken for one: the judge knows no larger ventricle than they have.
    graded
        Of ``graded_artefacts``: at least 4 brains that the model was not fitted to.
    share : float
        Of brains that are expected to have an artefact, in (0, 1): the probability without a look.
    """

    def __init__(self, model, ordinary: np.ndarray, graded, share: float = 0.15):
        ordinary = checked_images(ordinary, "ordinary")
        check_one_shape(clean=graded.clean[0], ordinary=ordinary[0])
        check_positive(pixel_um=graded.pixel_um)
        if not 0 < share < 1:
            raise ValueError(f"share={share} of brains with artefacts must be between 0 and 1")
        if len(graded.clean) < FEWEST:
            raise ValueError(f"{len(graded.clean)} planted brains are too few; give {FEWEST}")
        self.model, self.pixel_um, self.kinds = model, graded.pixel_um, tuple(graded.kinds)
        squares = sum(np.square(self._rests(some)).sum(axis=1) for some in _chunks(ordinary))
        self._spread = np.sqrt(squares / len(ordinary)).clip(min=SPREAD_FLOOR)[:, np.newaxis]

        rng, looks, labels = np.random.default_rng(0), [], []
        taught = [(ordinary, np.zeros(ordinary.shape, dtype=bool))]
        taught += zip(_every_other(graded.images, 0), _every_other(graded.masks, 0), strict=True)
        for number, (images, masks) in enumerate(taught):
            for some, there in zip(_chunks(images), _chunks(masks), strict=True):
                picked = rng.integers(there[0].size, size=(len(some), PIXELS))
                picked = (picked + there[0].size * np.arange(len(some))[:, np.newaxis]).ravel()
                looks.append(self._looks(some).reshape(N_LOOKS, -1)[:, picked].T)
                labels.append(number * there.ravel()[picked])
        self._pixels = _regression().fit(np.concatenate(looks), np.concatenate(labels))

        brains = [ordinary, *_every_other(graded.images, 1)]
        amounts = [self._amounts(self._by_pixel(some)) for part in brains for some in _chunks(part)]
        n_each = [len(part) for part in brains]
        expected = [1 - share, *[share / len(self.kinds)] * len(self.kinds)]
        weights = np.repeat(expected / np.array(n_each) * sum(n_each), n_each)
        numbers = np.repeat(np.arange(len(brains)), n_each)
        self._brains = _regression().fit(np.concatenate(amounts), numbers, weights)

    def __call__(self, images: np.ndarray) -> Judgement:
        """The `Judgement` of images (n, height, width)."""
        images, found = checked_images(images, "images"), []
        check_one_shape(ordinary=self._spread[0, 0], brains=images[0])
        for some in _chunks(images):
            by_pixel = self._by_pixel(some)
            by_kind = self._brains.predict_proba(self._amounts(by_pixel))[:, 1:]
            probability, likeliest = by_kind.sum(axis=1), by_kind.argmax(axis=1)
            kind = np.where(probability < 0.5, NONE, np.array(self.kinds)[likeliest])
            there = by_pixel[np.arange(len(some)), 1 + likeliest] > by_pixel[:, 0]
            there &= (kind != NONE)[:, None, None]
            if n_steps := round(RIM_UM / self.pixel_um):
                there = binary_dilation(there, CROSS, n_steps)
            found.append((probability, kind, there, by_kind))
        return Judgement(*map(np.concatenate, zip(*found, strict=True)))

    def _rests(self, images):
        """Signed error at both scales, and how dark rows and columns are, (4, n, height, width)."""
        images = images.astype(np.float32)
        answers = reconstructed(self.model, images)
        rest, found = images - answers, []
        for scale in SCALES_UM:
            found.append(gaussian_filter(rest, scale / self.pixel_um, axes=(1, 2)))
        for axis in (1, 2):
            gain = (rest * answers).sum(axis=axis) / (np.square(answers).sum(axis=axis) + 1)
            gain -= uniform_filter1d(gain, round(TILE_UM / self.pixel_um), axis=1)
            found.append(np.broadcast_to(np.expand_dims(gain, axis), images.shape))
        return np.stack(found)

    def _looks(self, images):
        """What pixels look like, (N_LOOKS, n, height, width)."""
        rests = np.arcsinh(self._rests(images) / self._spread)
        grey = gaussian_filter(images, SCALES_UM[0] / self.pixel_um, axes=(1, 2))
        return np.concatenate([rests.clip(min=0), (-rests).clip(min=0), grey[np.newaxis]])

    def _by_pixel(self, images):
        """Log probability of none and of each kind, (n, 1 + n_kinds, height, width)."""
        levels = np.tensordot(self._pixels.coef_.astype(np.float32), self._looks(images), 1)
        levels += self._pixels.intercept_.astype(np.float32)[:, None, None, None]
        return log_softmax(levels, axis=0).swapaxes(0, 1)

    def _amounts(self, by_pixel):
        """How much of each kind there is in a brain and how clearly, (n, 2 · n_kinds)."""
        there = np.exp(by_pixel[:, 1:])
        pieces = gaussian_filter(there, PIECE_UM / self.pixel_um, axes=(2, 3))
        parts = [there.mean(axis=(2, 3)), pieces.max(axis=(2, 3))]
        return np.log(np.concatenate(parts, axis=1) + LEAST)


def _regression():
    return LogisticRegression(C=STRENGTH, max_iter=1000)


def _every_other(graded, first):
    """Of each kind, what every other brain is at all strengths, (n, height, width)."""
    return [part[:, first::2].reshape(-1, *part.shape[-2:]) for part in graded]


def _chunks(images):
    return (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))


def inpaint(model, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Brains with what a model makes of the rest of them inside their masks, float32.

    The model's answer replaces what is masked, and the model is asked again, until that changes by
    less than 1/255. Pixels outside the masks are the same bits as before.

    Parameters
    ----------
    model
        With ``reconstruct``, or ``encode`` and ``decode``.
    images, masks : ndarray, shape (n, height, width)
        A mask may be empty: that brain is as before. It may not cover the whole image.
    """
    images, masks = checked_images(images, "images"), np.asarray(masks, dtype=bool)
    check_one_shape(images=images, masks=masks)
    if (blind := masks.all(axis=(1, 2))).any():
        raise ValueError(
            f"the mask of brain {np.argmax(blind)} covers the whole image; leave that brain out"
        )
    found = np.array(images, dtype=np.float32)
    moving = np.flatnonzero(masks.any(axis=(1, 2)))
    for _ in range(STEPS):
        if not moving.size:
            break
        before, inside = found[moving], masks[moving]
        answers = reconstructed(model, before)
        found[moving] = np.where(inside, answers, before)
        moving = moving[(np.abs(answers - before) * inside).max(axis=(1, 2)) >= SETTLED]
    return found
