"""What stored numbers mean as greys: of a TIFF, rescaled, wrapped, or with an offset."""

from __future__ import annotations

import logging
import os
import re
from math import prod
from struct import unpack

import numpy as np
import tifffile
from scipy.ndimage import label, maximum, maximum_filter, minimum, minimum_filter
from tifffile import PHOTOMETRIC

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it finds is told in a line
ENDS = (2**8, 2**16, 2**32)  # where whole numbers without sign begin again at 0
AS_BRIGHT = 0.8  # of the brain: a background like that is no background
BELOW_BLACK = -0.2
MOST_VOXELS = 2 * 1320 * 800 * 1140  # the atlas at 10 µm fits twice
UNITS_UM = {"nm": 1e-3, "um": 1, "µm": 1, "μm": 1, "micron": 1, "microns": 1, "mm": 1e3, "cm": 1e4}
STRAIGHT_LINE, NO_CALIBRATION = 0, 20  # of ImageJ's calibration functions, "cf"
TO_GREY = (0.299, 0.587, 0.114)  # luma of red, green and blue (ITU-R BT.601)


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

    Without a sign −6 becomes 65,530. Taken for such are pixels in the highest sixteenth of the
    range that have, in groups, a neighbour that is nearly black and none in the rest of its upper
    half, if there are more of them than other pixels there. With a sign 40,000 becomes −25,536:
    where numbers reach both ends, those far below 0 were above it, if most of them are in the lower
    half and fewer than are near 0.
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


# ---- of a TIFF ----


def read_tiff(tiff: tifffile.TiffFile) -> tuple[np.ndarray, tuple[float, float], tuple | None]:
    """The one section or volume of an open TIFF.

    Its voxels as stored (of a grey palette the greys), slope and intercept to greys that are more
    where it was brighter, and, as far as ImageJ or OME says them, the sides of a volume's voxels.
    """
    series, page = _only_series(tiff), tiff.series[0].keyframe
    is_missing = "PhotometricInterpretation" not in page.tags
    kind = PHOTOMETRIC.MINISBLACK if is_missing else page.photometric
    greys = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.PALETTE)
    if page.samplesperpixel > 1 or len(series.shape) not in (2, 3) or kind not in greys:
        kind = getattr(kind, "name", kind)
        raise ValueError(
            f"it holds colours or channels ({kind}), shape {series.shape}; greys are read: save "
            "one channel, or in ImageJ take Image > Type > 16-bit"
        )
    if prod(series.shape) > MOST_VOXELS:
        raise ValueError(f"it says that it holds {series.shape}; {MOST_VOXELS} voxels are read")
    slope, intercept = _calibration(tiff.imagej_metadata or {})
    voxels = series.asarray(out="memmap")
    if kind == PHOTOMETRIC.PALETTE:
        voxels = _of_palette(voxels, page.colormap, tiff.is_imagej)
    if kind == PHOTOMETRIC.MINISWHITE:
        if voxels.dtype.kind not in "bu":
            raise ValueError(
                f"its lowest value is white (PhotometricInterpretation 0), and of {voxels.dtype} "
                "no value is black; save it with black as 0"
            )
        white = 2**page.bitspersample - 1
        slope, intercept = -slope, intercept + slope * white
    return voxels, (slope, intercept), _spacing_um(tiff) if voxels.ndim == 3 else None


def _only_series(tiff):
    """The images that belong together; smaller copies that say that they are such do not count."""
    if _breaks_off(tiff):
        raise ValueError(
            f"its list of images breaks off after {len(tiff.pages)}; it is cut off or damaged: "
            "fetch it again"
        )
    if len(tiff.series) != 1:
        shapes = ", ".join(" × ".join(map(str, s.shape)) for s in tiff.series[:4])
        raise ValueError(
            f"it holds {len(tiff.series)} images ({shapes or 'none'}) and one is read; save the "
            "brain alone, without thumbnail or label"
        )
    (series,) = tiff.series
    shape = (tiff.shaped_metadata or ({},))[0].get("shape", ())
    of_ome = prod(map(int, re.findall(r'\bSize[CTZ]="(\d+)"', tiff.ome_metadata or "")))
    stated = max((tiff.imagej_metadata or {}).get("images", 1), prod(shape[:-2]), of_ome)
    if len(series.shape) == 2 and stated > 1:
        raise ValueError(f"it says that it holds {stated} planes and 1 is there; is it cut off?")
    return series


def _breaks_off(tiff):
    """Whether the last image's directory names one more, which is not there."""
    if not len(tiff.pages):
        return True
    file, form = tiff.filehandle, tiff.tiff
    file.seek(tiff.pages[-1].offset)
    (n_tags,) = unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(n_tags * form.tagsize, os.SEEK_CUR)
    return any(file.read(form.offsetsize))


def _calibration(imagej):
    kind = imagej.get("cf", NO_CALIBRATION)
    if kind == NO_CALIBRATION:
        return 1.0, 0.0
    slope, intercept = float(imagej.get("c1", 1)), float(imagej.get("c0", 0))
    if kind != STRAIGHT_LINE or not 0 < abs(slope) < np.inf or not np.isfinite(intercept):
        raise ValueError(
            f"its ImageJ calibration (function {kind}, c0 = {intercept:g}, c1 = {slope:g}) is no "
            "straight line; apply it in ImageJ: Image > Type > 32-bit"
        )
    return slope, intercept


def _of_palette(voxels, colours, is_imagej):
    red, green, blue = colours
    if (red == green).all() and (green == blue).all():
        return red[voxels]
    # ImageJ shows greys in colours that rise with them; the indices of other palettes mean nothing.
    brightness = np.dot(TO_GREY, colours)
    if is_imagej and np.corrcoef(brightness, np.arange(len(red)))[0, 1] > 0.9:
        return voxels
    raise ValueError("it holds a palette of colours; greys are read: save it as 8-bit greys")


def _spacing_um(tiff):
    """Sides of a voxel along the three axes of a stack, slices first, where all are told."""
    if tiff.is_imagej and "spacing" in (found := tiff.imagej_metadata):
        unit = str(found.get("unit", "")).replace("\\u00B5", "µ")
        tags = tiff.pages[0].tags
        sides = [abs(float(found["spacing"]))]
        for name in ("YResolution", "XResolution"):
            steps, length = tags.valueof(name, (0, 1))
            sides.append(length / steps if steps else 0.0)
        units = [unit] * 3
    elif tiff.is_ome:
        attributes = dict(re.findall(r'(PhysicalSize\w+)="([^"]*)"', tiff.ome_metadata))
        sides = [float(attributes.get(f"PhysicalSize{axis}", 0)) for axis in "ZYX"]
        units = [attributes.get(f"PhysicalSize{axis}Unit", "µm") for axis in "ZYX"]
    else:
        return None
    sides = tuple(side * UNITS_UM.get(unit, 0) for side, unit in zip(sides, units, strict=True))
    return sides if all(0 < side < np.inf for side in sides) else None
