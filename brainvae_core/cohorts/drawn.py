"""An atlas slice that ships as code: smooth curves in the likeness of CCFv3's coronal plane 286."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.draw import polygon2mask

from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.cohorts.drawn_regions import (
    BRIGHTNESS,
    CA_LAYERS,
    CEREBRUM,
    CORTEX_LAYERS,
    CURVES,
    DG_LAYERS,
    STRUCTURES,
    TINTS,
)

HALF_SHAPE = (320, 224)  # one hemisphere; the other is its mirror image
POINTS_A_SPAN = 24
AREA_BLUR = 8.0  # pixels, across borders of cortical areas
BLUR = 1.2  # pixels, about the softness of the average template
CORTICAL_PLATE = ["RSP", "PTLp", "SSp", "SSs", "AUD", "TEa", "ECT", "PERI", "PIR", "COA"]
TRACTS_AND_VENTRICLES = ["fiber tracts", "cc", "ec", "int", "fi", "fr", "mtt", "fx", "VL", "V3"]


@cache
def drawn_atlas() -> Atlas:
    """The project's own atlas slice, drawn by hand.

    Its regions carry the ids, acronyms and parents of the CCFv3 ontology and lie about where
    coronal plane 286 has them: the points were chosen by eye beside pictures of that plane, nothing
    was fitted to it and no Allen data is part of it. Every caller gets the same object, so its
    arrays are read-only.

    Returns
    -------
    Atlas
        320 × 448 pixels of 25 µm, exactly symmetric about the midline between columns 223 and 224.
    """
    labels = _paint()
    template = _shade(labels)
    arrays = [np.hstack([half, half[:, ::-1]]) for half in (labels, template)]
    for array in arrays:
        array.setflags(write=False)
    rows = [(i, acronym, name, parent) for i, (acronym, name, parent) in STRUCTURES.items()]
    structures = pd.DataFrame(rows, columns=["id", "acronym", "name", "parent_id"])
    return Atlas(*arrays, structures=structures, pixel_um=25.0, name="drawn atlas")


def _smooth_curve(points: list[tuple[float, float]]) -> np.ndarray:
    """A cubic spline through (ML, DV) points, as the corners of a fine polygon, shape (n, 2).

    Knots are centripetal (spaced by the square root of the chord), which keeps the curve from
    looping where points lie close. Where the last point repeats the first the curve is periodic.
    """
    points = np.asarray(points, dtype=float)
    knots = np.r_[0, np.cumsum(np.sqrt(np.hypot(*np.diff(points, axis=0).T)))]
    closed = np.array_equal(points[0], points[-1])
    spline = CubicSpline(knots, points, bc_type="periodic" if closed else "natural")
    fine = np.linspace(0, len(points) - 1, (len(points) - 1) * POINTS_A_SPAN + 1)
    return spline(np.interp(fine, np.arange(len(points)), knots))


def _inside(points: list[tuple[float, float]]) -> np.ndarray:
    return polygon2mask(HALF_SHAPE, _smooth_curve(points)[:, ::-1])


def _paint() -> np.ndarray:
    """Structure ids of the left hemisphere, later regions over earlier ones."""
    ids = {acronym: i for i, (acronym, _, _) in STRUCTURES.items()}
    labels = np.zeros(HALF_SHAPE, dtype=np.uint32)
    cerebrum = _inside(CEREBRUM)
    for acronym, curves in CURVES.items():
        for points in curves:
            inside = _inside(points)
            on_surface = acronym in (*CORTICAL_PLATE, "sAMY")
            labels[inside & cerebrum if on_surface else inside] = ids[acronym]
    return labels


def _shade(labels: np.ndarray) -> np.ndarray:
    """Brightness of the left hemisphere: base, layers, soft spots, blur."""
    of = {acronym: labels == i for i, (acronym, _, _) in STRUCTURES.items()}
    image = np.zeros(HALF_SHAPE)
    for acronym, brightness in BRIGHTNESS.items():
        image[of[acronym]] = brightness

    plate = np.any([of[acronym] for acronym in CORTICAL_PLATE], axis=0)
    # Areas of cortex shade into each other: a mean over the plate alone, not over its neighbours.
    spread = [gaussian_filter(a, AREA_BLUR, mode="reflect") for a in (image * plate, plate * 1.0)]
    image[plate] = spread[0][plate] / spread[1][plate]
    # The midline is a surface too: the two retrosplenial cortices face each other across a fissure.
    brain = np.pad(labels > 0, ((0, 0), (0, 1)))
    from_surface = distance_transform_edt(brain)[:, :-1]
    from_inner = distance_transform_edt(plate | (labels == 0))
    depth = from_surface / (from_surface + from_inner)
    image[plate] *= np.interp(depth[plate], *CORTEX_LAYERS)

    tracts = np.any([of[acronym] for acronym in TRACTS_AND_VENTRICLES], axis=0)
    image[of["CA"]] *= np.interp(distance_transform_edt(~tracts)[of["CA"]], *CA_LAYERS)
    image[of["DG"]] *= np.interp(distance_transform_edt(of["DG"])[of["DG"]], *DG_LAYERS)

    dv, ml = np.indices(HALF_SHAPE)
    grey = (labels > 0) & ~tracts
    for x, y, radius, added in TINTS:
        spot = np.exp(-((ml - x) ** 2 + (dv - y) ** 2) / (2 * radius**2))
        image += added * spot * grey
    # "reflect" repeats the pixel at the midline, which is what the mirrored half would show.
    return gaussian_filter(image, BLUR, mode="reflect").clip(0, 1).astype(np.float32)
