"""Sections that fit the atlas's template better upside down or mirrored than as they are."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.cohorts.cohort import Cohort

EDGE_UM = 100.0  # what is wider says little about the sides: shading, an injection
SIDES_APART = 2.0  # robust standard deviations from 0 from which a cohort's sides are told
SIDE_SPREAD = 0.05  # smallest that a spread of correlations counts as


def turned_sections(images: np.ndarray, atlas: Atlas, is_reference: np.ndarray) -> list[str]:
    """How each section lies: "none", "upside down", "mirrored" or "rotated by 180°".

    Upside down is what correlates better with the template that way. A template is nearly the same
    on both sides, so a section is called mirrored by what is left after its mirror image was
    taken from it, without slow shading: where that correlates with the template's against its sign,
    at least half as strongly as the median reference brain's does with or against it. Where theirs
    do not lie clear of 0, no section is called mirrored.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
    atlas : Atlas
        Of the same height and width.
    is_reference : ndarray of bool, shape (n,)
        Brains to compare with, such as the training brains.
    """
    turned = upside_down(images, atlas)
    sigma = EDGE_UM / atlas.pixel_um
    inside = atlas.brain_mask | atlas.brain_mask[:, ::-1]
    of_template = _sides(atlas.template, sigma)[inside]
    sides = np.array(
        [
            _correlation(_sides(image[::-1] if down else image, sigma)[inside], of_template)
            for image, down in zip(images, turned, strict=True)
        ]
    )
    size = np.abs(sides[is_reference])
    spread = 1.4826 * np.median(np.abs(size - np.median(size)))
    is_told = np.median(size) > SIDES_APART * max(spread, SIDE_SPREAD)
    is_mirrored = is_told & (sides < -np.median(size) / 2)
    names = np.array([["none", "mirrored"], ["upside down", "rotated by 180°"]])
    return names[turned.astype(int), is_mirrored.astype(int)].tolist()


def upside_down(images: np.ndarray, atlas: Atlas) -> np.ndarray:
    """Whether each section correlates better with the template with its rows reversed, (n,)."""
    fits = [[_correlation(i, t) for t in (atlas.template, atlas.template[::-1])] for i in images]
    return np.array([as_it_is < reversed_ for as_it_is, reversed_ in fits])


def told_turned(cohort: Cohort) -> str | None:
    """A line on the brains that lie otherwise than the atlas, by quality control's column."""
    turned = cohort.metadata.get("turned")
    if turned is None or (turned == "none").all():
        return None
    found = turned[turned != "none"]
    named = ", ".join(f"{brain} ({how})" for brain, how in found.head(5).items())
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"warning: {len(found)} of {len(turned)} brains fit the atlas's template better turned: "
        f"{named}{more}. They are left as they are: correct the files, or for a folder of your own "
        "set orientation to where their axes come from"
    )


def _sides(image, sigma):
    """What differs between an image and its mirror image, without slow changes."""
    fast = image - gaussian_filter(image, sigma)
    return fast - fast[:, ::-1]


def _correlation(one, other):
    one, other = one - one.mean(), other - other.mean()
    size = np.sqrt(np.sum(one**2, dtype=float) * np.sum(other**2, dtype=float))
    return float(np.sum(one * other, dtype=float) / size) if size else 0.0
