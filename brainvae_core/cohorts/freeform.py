"""A second cohort whose truth is known, planted in another way than `simulated` plants its own.

A section is ``light · streaks · warp(template + added greys) + shot noise``. The factors are not
Gaussian and depend on no covariate. Each acts through one map that is known in advance: a grey
value that is added to a region, or a free-form deformation (a lattice of control points,
interpolated by cubic B-splines).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.cohorts.cohort import Cohort
from brainvae_core.cohorts.drawn import drawn_atlas
from brainvae_core.cohorts.simulated import CHUNK, INJECTED, STRAINS, TISSUE, with_artefacts

# Effects of one standard deviation of each factor.
ADDED = {  # grey value
    "offset_RSP": 0.065,
    "offset_HY": 0.045,
    "offset_SSp_left": 0.075,
    "contrast_STR": 0.038,  # and its negative in the tissue around
}
DISPLACED_MM = {  # where tissue moves furthest
    "twist_hippocampus": 0.09,  # about each hippocampus's centre, in mirrored directions
    "midline_shift": 0.09,  # at the midline, to the right
    "sag_ventral": 0.12,  # at the ventral surface, down
    "tilt": 0.06,  # of the section about its middle, clockwise
}
FREEFORM_FACTORS = (*ADDED, *DISPLACED_MM)
TWO_GROUPS = "offset_HY"  # lies around −0.95 and around +0.95; the other factors are uniform

NODES_MM = 0.5  # between control points
LIGHT = 0.05  # log gain at the dorsal and ventral edge of the brain, one standard deviation
STREAKS = 0.06  # relative standard deviation
STREAK_MM = (0.12, 0.6)  # correlation length down and across
NOISE = 0.02  # grey values, of a white pixel of 0.05 mm; a larger pixel counts more photons
DARK = 0.1  # grey value of the counts without light


def simulate_freeform(
    n_brains: int = 256,
    atlas: Atlas | None = None,
    shape: tuple[int, int] | None = None,
    artefact_share: float = 0.15,
    seed: int = 0,
) -> Cohort:
    """Draw brains from an atlas slice by known factors, in another way than `simulate`.

    A seed makes the same clean brains at every resolution, but for their noise.

    Parameters
    ----------
    n_brains, atlas, shape, artefact_share, seed
        As for `simulate`; the slice must have SSp and HPF in its left half too.

    Returns
    -------
    Cohort
        As of `simulate`, with the factors `FREEFORM_FACTORS`.

    Raises
    ------
    ValueError
        A number outside its range, or an atlas slice without a region that a factor needs.
    """
    if n_brains < 2:
        raise ValueError(f"n_brains={n_brains}: a cohort has at least 2 brains")
    if not 0 <= artefact_share <= 1:
        raise ValueError(f"artefact_share={artefact_share} is outside [0, 1]")
    atlas = drawn_atlas() if atlas is None else atlas
    atlas = atlas if shape is None else atlas.resampled(shape)
    brain_rng, artefact_rng, *chunk_rngs = np.random.default_rng(seed).spawn(
        2 + -(-n_brains // CHUNK)
    )
    metadata, factors = _brains(n_brains, brain_rng)
    maps = added_maps(atlas), deformation_maps(atlas)
    clean = np.empty((n_brains, *atlas.shape), dtype=np.float32)

    def fill(job):
        start, rng = job
        rows = slice(start, min(start + CHUNK, n_brains))
        clean[rows] = _sections(factors.iloc[rows], atlas, maps, rng)

    # SciPy's and NumPy's heavy calls release the interpreter lock.
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, zip(range(0, n_brains, CHUNK), chunk_rngs, strict=True)))
    images, masks, columns = with_artefacts(clean, atlas, metadata, artefact_share, artefact_rng)
    return Cohort(
        images,
        metadata.assign(**columns),
        atlas,
        clean=clean,
        artefact_masks=masks,
        factors=factors,
        name=f"freeform on {atlas.name}",
    ).with_split(seed)


def rendered_freeform(factors: pd.DataFrame, atlas: Atlas) -> np.ndarray:
    """Sections as their factors alone make them, without light, streaks and noise.

    Parameters
    ----------
    factors : DataFrame
        A row a brain, a column each of `FREEFORM_FACTORS`, standard deviations.
    atlas : Atlas

    Returns
    -------
    ndarray of float32, shape (n, height, width)

    Raises
    ------
    ValueError
        A factor is missing, or the slice lacks a region that one needs.
    """
    if missing := [name for name in FREEFORM_FACTORS if name not in factors]:
        raise ValueError(
            f"factors lack {', '.join(missing)}; give all of {', '.join(FREEFORM_FACTORS)}"
        )
    maps = added_maps(atlas), deformation_maps(atlas)
    images = np.empty((len(factors), *atlas.shape), dtype=np.float32)
    for start in range(0, len(factors), CHUNK):
        rows = slice(start, start + CHUNK)
        images[rows] = _rendered(factors.iloc[rows], atlas, maps)
    return np.clip(images, 0, 1, out=images)


def added_maps(atlas: Atlas) -> dict[str, np.ndarray]:
    """Grey value that one standard deviation of each factor of `ADDED` adds.

    Returns
    -------
    dict of ndarray, each (height, width)
        In atlas space, 0 outside the brain; region borders are softened by 0.05 mm.
    """
    retrosplenial, hypothalamus, striatum = atlas.roi_masks(["RSP", "HY", "STR"])
    around = (distance_transform_edt(~striatum) * atlas.pixel_um < 300) & ~striatum
    unit = {
        "offset_RSP": retrosplenial,
        "offset_HY": hypothalamus,
        "offset_SSp_left": atlas.roi_masks(["SSp"], side="left")[0],
        "contrast_STR": striatum * 1.0 - around,
    }
    soft = {f: gaussian_filter(u.astype(np.float32), 50 / atlas.pixel_um) for f, u in unit.items()}
    return {f: np.float32(ADDED[f]) * u * atlas.brain_mask for f, u in soft.items()}


def deformation_maps(atlas: Atlas) -> dict[str, np.ndarray]:
    """Displacement of tissue by one standard deviation of each factor of `DISPLACED_MM`.

    Returns
    -------
    dict of ndarray, each (2, height, width)
        Pixels along rows and columns; tissue moves by +u, so images are read at x − u.
    """
    pixels, nodes, distances = _lattice(atlas, (NODES_MM, NODES_MM))
    y, x = np.meshgrid(*nodes, indexing="ij")
    zero = np.zeros_like(y)
    middle, half = _middle(atlas)

    twist = np.zeros((2, *y.shape))
    for side, direction in (("left", 1), ("right", -1)):
        rows, columns = np.nonzero(atlas.roi_masks(["HPF"], side=side)[0])
        dy, dx = y - pixels[0][rows].mean(), x - pixels[1][columns].mean()
        near = np.exp(-(dy**2 + dx**2) / (2 * 0.7**2))
        twist += direction * near * np.stack([dx, -dy])
    below = np.clip((y - middle) / half, 0, None) ** 2
    control_points = {
        "twist_hippocampus": twist,
        "midline_shift": np.stack([zero, np.exp(-((x / 0.9) ** 2))]),
        "sag_ventral": np.stack([below * np.exp(-((x / 2.5) ** 2)), zero]),
        "tilt": np.stack([x, middle - y]),
    }
    down, across = (_b_spline(distance / NODES_MM) for distance in distances)
    maps = {}
    for factor, points in control_points.items():
        u = down @ points @ across.T
        furthest = np.hypot(*u)[atlas.brain_mask].max() * atlas.pixel_um / 1000
        maps[factor] = (u * DISPLACED_MM[factor] / furthest).astype(np.float32)
    return maps


def _lattice(atlas, steps):
    """Pixels and nodes in mm from the section's middle, and pixels less nodes; down and across."""
    pixels, nodes = [], []  # nodes go on beyond the edges
    for size, step in zip(atlas.shape, steps, strict=True):
        half = size * atlas.pixel_um / 2000
        reach = int(np.ceil(half / step)) + 4
        pixels.append((np.arange(size) + 0.5) * atlas.pixel_um / 1000 - half)
        nodes.append(step * np.arange(-reach, reach + 1))
    return pixels, nodes, [p[:, None] - n for p, n in zip(pixels, nodes, strict=True)]


def _middle(atlas):
    """The brain's middle and half its height, mm down from the section's middle."""
    rows = np.flatnonzero(atlas.brain_mask.any(axis=1)) - (atlas.shape[0] - 1) / 2
    return np.array([rows[0] + rows[-1], rows[-1] - rows[0]]) * atlas.pixel_um / 2000


def _b_spline(distance):
    """Cubic B-spline: a control point's weight at a distance in control points."""
    d = np.abs(distance)
    return np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.clip(2 - d, 0, None) ** 3 / 6)


def _brains(n_brains, rng):
    """Sex, age, strain and injection site, and factors that do not depend on them."""
    metadata = pd.DataFrame(
        {
            "sex": rng.choice(["F", "M"], n_brains),
            "age_days": np.round(rng.uniform(49, 63, n_brains), 1),
            "strain": rng.choice(STRAINS, n_brains),
            "injection_structure": rng.choice(INJECTED, n_brains),
        },
        index=pd.Index([f"freeform-{i:05d}" for i in range(n_brains)], name="brain"),
    )
    values = rng.uniform(-np.sqrt(3), np.sqrt(3), (n_brains, len(FREEFORM_FACTORS)))
    factors = pd.DataFrame(values, index=metadata.index, columns=list(FREEFORM_FACTORS))
    within = np.sqrt(1 - 0.95**2) * rng.standard_normal(n_brains).clip(-3, 3)
    factors[TWO_GROUPS] = rng.choice([-0.95, 0.95], n_brains) + within
    return metadata, factors.astype(np.float32)


def _rendered(factors, atlas, maps):
    added, shift = (
        np.tensordot(factors[list(m)].to_numpy(np.float32), np.stack([*m.values()]), 1)
        for m in maps
    )
    tissue = TISSUE * atlas.template + added
    where = np.indices(atlas.shape, dtype=np.float32) - shift
    images = np.empty_like(tissue)
    for section, coordinates, image in zip(tissue, where, images, strict=True):
        map_coordinates(section, coordinates, output=image, order=1, mode="nearest")
    return images


def _sections(factors, atlas, maps, rng):
    """Clean sections of a few brains, (n, height, width)."""
    images = _rendered(factors, atlas, maps)
    (rows, _), _, distances = _lattice(atlas, np.array(STREAK_MM) / 2)
    middle, half = _middle(atlas)
    slope = LIGHT * rng.standard_normal((len(images), 1), dtype=np.float32)
    images *= np.exp(slope * ((rows - middle) / half).astype(np.float32))[..., None]

    spreads = []
    for distance, length in zip(distances, STREAK_MM, strict=True):
        weight = np.exp(-((distance / length) ** 2)).astype(np.float32)
        spreads.append(weight / np.linalg.norm(weight, axis=1, keepdims=True))
    down, across = spreads
    shape = (len(images), down.shape[1], across.shape[1])
    # Exponential: many dim nodes and few bright ones; mean 0 and variance 1 once 1 is taken off.
    images *= 1 + STREAKS * (down @ (rng.standard_exponential(shape, np.float32) - 1) @ across.T)

    spread = NOISE * 50 / atlas.pixel_um * np.sqrt(np.clip(images, 0, 1) + DARK)
    images += spread * rng.standard_normal(images.shape, dtype=np.float32)
    return np.clip(images, 0, 1, out=images)
