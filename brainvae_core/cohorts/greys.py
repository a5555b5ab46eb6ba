"""What stored numbers mean as greys: rescaled, wrapped, with an offset, or the wrong way round."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label, maximum, maximum_filter, minimum, minimum_filter

ENDS = (2**8, 2**16, 2**32)  # where whole numbers without sign begin again at 0
AS_BRIGHT = 0.8  # of the brain: a background like that is no background
BELOW_BLACK = -0.2


def as_greys(stored: np.ndarray, scaling: tuple[float, float] = (1, 0)) -> np.ndarray:
    """Stored values of a section as float32 greys, slope × value + intercept, all finite."""
    if stored.dtype.kind not in "biuf":
        raise ValueError(f"it holds {stored.dtype}; grey values are read")
    slope, intercept = scaling
    greys = (unwrapped(stored) if slope > 0 else stored).astype(np.float32)
    greys = greys * np.float32(slope) + np.float32(intercept)
    if not np.isfinite(greys).all():
        raise ValueError("it has a NaN or infinite pixel")
    return greys


def unwrapped(section: np.ndarray) -> np.ndarray:
    """A section whose pixels left the range of the whole numbers it was stored in, brought back.

    Interpolation undershoots beside bright edges, and a background that is taken off leaves noise
    around 0; kept as whole numbers without sign, −6 becomes 65,530. Taken for such are pixels in
    the highest sixteenth of the numbers' range that have, in groups, a neighbour that is nearly
    black and none in the rest of its upper half, if there are more of them than other pixels there.

    And where numbers with a sign reach both ends, those far below 0 were above it, if most of
    them are in the lower half and fewer than are near 0: 40,000 with a sign is −25,536 in 16 bits.
    """
    if section.dtype.kind not in "uif" or section.ndim != 2 or not section.size:
        return section
    least, most = float(section.min()), float(section.max())  # 2³² is too much for float16
    if section.dtype.kind == "f" and not (section == np.rint(section)).all():
        return section
    if least < 0:
        return _above_a_sign(section, least, most)
    end = next((end for end in ENDS if most < end), None)
    if end is None or most < end * 15 / 16:
        return section
    high = section >= end * 15 / 16
    groups, n = label(high, np.ones((3, 3)))
    around = maximum_filter(np.where(high, 0, section), size=3)
    below = minimum_filter(np.where(high, most, section), size=3)
    is_alone = maximum(around, groups, np.arange(n + 1)) < end / 2
    is_by_black = minimum(below, groups, np.arange(n + 1)) < end / 16  # else a cell in tissue
    wrapped = high & (is_alone & is_by_black)[groups]
    others = ((section >= end / 2) & ~wrapped).sum()
    if not others < wrapped.sum() < section.size / 2 or not section[~wrapped].any():
        return section
    return np.where(wrapped, section - np.float64(end), section)


def _above_a_sign(section, least, most):
    half = next((end // 2 for end in ENDS if -end // 2 <= least and most < end // 2), None)
    if half is None or most < half * 15 / 16 or least > -half * 15 / 16:
        return section
    wrapped, black = section < -half / 8, np.abs(section) < half / 8
    if not 0.8 * wrapped.sum() < (section < -half / 2).sum() < black.sum():
        return section
    return np.where(wrapped, section + np.float64(2 * half), section)


def nrrd_scaling(fields: dict, dtype: np.dtype) -> tuple[float, float]:
    """Slope and intercept of an NRRD's greys: ``old min`` and ``old max``, the ends of the type.

    As teem's ``unu unquantize``: a value is the middle of its step.
    """
    ends = [fields.get(f"old {end}", fields.get(f"old{end}")) for end in ("min", "max")]
    if dtype.kind not in "iu" or None in ends:
        return 1.0, 0.0
    low, high = map(float, ends)
    if not np.isfinite([low, high]).all() or low == high:
        raise ValueError(f"old min {low:g} and old max {high:g} are no range of greys")
    step = (high - low) / (int(np.iinfo(dtype).max) - int(np.iinfo(dtype).min) + 1)
    return step, low + (0.5 - int(np.iinfo(dtype).min)) * step


def brain_brightness(section: np.ndarray, brain_mask: np.ndarray) -> float:
    """Mean grey inside the brain; a ValueError where the greys are not dark outside it."""
    own = float(section[brain_mask].mean(dtype=np.float64))
    if section.min() == section.max() or own == 0:
        raise ValueError("section has no brightness inside the brain; is it registered?")
    if own < 0:
        raise ValueError(
            f"section is {own:.4g} on average inside the brain, with values from "
            f"{section.min():.4g} to {section.max():.4g}; no brightness is negative: add the "
            "offset that was taken off, or save it with a type that holds it"
        )
    outside = float(np.median(section[~brain_mask])) if not brain_mask.all() else 0.0
    if not BELOW_BLACK * own < outside < AS_BRIGHT * own:
        raise ValueError(
            f"section is {outside:.4g} outside the brain and {own:.4g} inside; outside has to be "
            "dark, near 0: take an offset off, turn inverted greys round, and see that it is "
            "registered"
        )
    return own
