"""Copies of a brain under another name, and the split that keeps them on one side."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.cohorts.cohort import LEAST_BRAINS, SPLITS, split_of

SAME = 0.003  # root mean square difference, of the mean brightness; two brains differ by 0.04


def copies_of(images: np.ndarray, own: np.ndarray, brains: pd.Index) -> pd.Series:
    """Of every brain the first one with the same pixels, itself where it is no copy.

    Parameters
    ----------
    images : ndarray of float32, shape (n, height, width)
        Raw greys; a copy at another brightness or with fewer grey levels is one too.
    own : ndarray, shape (n,)
        Mean brightness of each brain.
    """
    height, width = images.shape[1:]
    factor = next(f for f in (4, 2, 1) if height % f == width % f == 0)
    flat = np.stack([block_mean(i, factor).ravel() / o for i, o in zip(images, own, strict=True)])
    flat -= flat.mean(axis=0)
    squares = np.einsum("np,np->n", flat, flat, dtype=np.float64)
    first = np.arange(len(brains))
    for i in range(1, len(brains)):
        apart = squares[:i] + squares[i] - 2 * (flat[:i] @ flat[i])
        same = np.flatnonzero(apart < SAME**2 * flat.shape[1])
        first[i] = first[same[0]] if same.size else i
    return pd.Series(brains[first], index=brains)


def split_together(original: pd.Series, seed: int) -> pd.Series:
    """As `split_of`, every brain on the side of the one that it is a copy of."""
    brains = original.index
    split = split_of(brains[(original == brains).to_numpy()], seed)
    return pd.Series(split.loc[original].to_numpy(), index=brains)


def check_split(split: pd.Series, original: pd.Series, refused: dict[str, str]) -> None:
    """Refuse a split with copies on two sides, or with too few brains (`check_parts`)."""
    other = split.loc[original].to_numpy()
    if (apart := np.flatnonzero(split.to_numpy() != other)).size:
        copy, of = split.index[apart[0]], original.iloc[apart[0]]
        raise ValueError(
            f"brains {of!r} ({split[of]}) and {copy!r} ({split[copy]}) have the same pixels; "
            "leave one of them, or put both in one part of the split"
        )
    check_parts(split, original, refused)


def check_parts(split: pd.Series, original: pd.Series, refused: dict[str, str]) -> None:
    """Refuse too few different brains to fit and judge on.

    The first of the brains that are not among them are named, with the reasons.
    """
    counts = {part: original[(split == part).to_numpy()].nunique() for part in SPLITS}
    different = sum(counts.values())
    first = "; ".join(f"{brain!r}: {why}" for brain, why in [*refused.items()][:2])
    also = f"; {len(refused)} were refused, the first {first}" if refused else ""
    if different < LEAST_BRAINS:
        raise ValueError(
            f"{different} different brains are too few; give {LEAST_BRAINS} or more{also}"
        )
    if min(counts.values()) < 2 or counts["train"] < 3:
        told = ", ".join(f"{n} {part}" for part, n in counts.items())
        raise ValueError(f"the split has {told} brains; each part needs 2, train 3{also}")
