"""What a TIFF holds: which of its images, what its numbers mean, how large a voxel is."""

from __future__ import annotations

import os
import re
from math import prod
from struct import unpack

import numpy as np
import tifffile
from tifffile import PHOTOMETRIC

UNITS_UM = {"nm": 1e-3, "um": 1, "µm": 1, "μm": 1, "micron": 1, "microns": 1, "mm": 1e3, "cm": 1e4}
STRAIGHT_LINE, NO_CALIBRATION = 0, 20  # of ImageJ's calibration functions, "cf"
TO_GREY = (0.299, 0.587, 0.114)  # luma of red, green and blue (ITU-R BT.601)


def read_tiff(tiff: tifffile.TiffFile) -> tuple[np.ndarray, tuple[float, float], tuple | None]:
    """The one section or volume of an open TIFF.

    Returns
    -------
    voxels : ndarray, two or three axes
        As stored; of a grey palette, the greys.
    scaling : (slope, intercept)
        From stored values to greys, more where it was brighter: ImageJ's calibration, and the
        reverse where the lowest value is white.
    spacing_um : (float, float, float) or None
        What ImageJ or OME says of a volume's voxels.
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
    said = max((tiff.imagej_metadata or {}).get("images", 1), prod(shape[:-2]), of_ome)
    if len(series.shape) == 2 and said > 1:
        raise ValueError(f"it says that it holds {said} planes and 1 is there; is it cut off?")
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
