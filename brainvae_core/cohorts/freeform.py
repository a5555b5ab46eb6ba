"""Two more cohorts whose truth is known, planted in other ways than `simulated` plants its own.

A section is ``light · streaks · warp(template + added greys) + shot noise``. No factor depends on a
covariate. *Free-form* factors are uniform or of two groups; each adds a grey to a region, or is a
free-form deformation (a lattice of control points, interpolated by cubic B-splines). *Smooth*
factors have heavy tails; each is a random field over the whole brain, of greys or of displacement.
A seed makes the same clean brains at every resolution, but for their noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt, gaussian_filter

from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.cohorts.simulated import (
    ANATOMICAL,
    INJECTED,
    STRAINS,
    TISSUE,
    Simulator,
    moved,
    smooth_fields,
)

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

SMOOTH_FACTORS = (*(f"grey_{i}" for i in range(1, 8)), *(f"shift_{i}" for i in range(1, 8)))
FIELD_MM = 0.8  # correlation length of a smooth factor's field
FIELD_GREY = 0.016  # root mean square over the brain of the grey that a smooth factor adds
FIELD_SHIFT_MM = 0.08  # where it moves tissue furthest

NODES_MM = 0.5  # between control points
LIGHT = 0.05  # log gain at the dorsal and ventral edge of the brain, one standard deviation
STREAKS = 0.06  # relative standard deviation
STREAK_MM = (0.12, 0.6)  # correlation length down and across
NOISE = 0.02  # grey values, of a white pixel of 0.05 mm; a larger pixel counts more photons
DARK = 0.1  # grey value of the counts without light


def added_maps(atlas: Atlas) -> dict[str, np.ndarray]:
    """Grey that one standard deviation of each factor of `ADDED` adds, 0 outside the brain."""
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
    """Displacement by one standard deviation of each factor of `DISPLACED_MM`, as `simulated`'s."""
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


def smooth_maps(atlas: Atlas) -> tuple[dict, dict]:
    """As `added_maps` and `deformation_maps`, of `SMOOTH_FACTORS`: the same whatever the cohort."""
    _, _, distances = _lattice(atlas, (FIELD_MM / 2, FIELD_MM / 2))
    noise = np.random.default_rng(0).standard_normal
    # A grey, and where to, of every factor; one of the two is taken.
    fields = smooth_fields(3 * len(SMOOTH_FACTORS), distances, (FIELD_MM, FIELD_MM), noise)
    greys, shifts = {}, {}
    for name, (grey, *to) in zip(SMOOTH_FACTORS, fields.reshape(-1, 3, *atlas.shape), strict=True):
        if name.startswith("grey"):
            grey = (grey - grey[atlas.brain_mask].mean()) * atlas.brain_mask
            greys[name] = np.float32(grey * FIELD_GREY / grey[atlas.brain_mask].std())
        else:
            furthest = np.hypot(*to)[atlas.brain_mask].max() * atlas.pixel_um / 1000
            shifts[name] = np.float32(np.stack(to) * FIELD_SHIFT_MM / furthest)
    return greys, shifts


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


def _metadata(n_brains, rng, name):
    """Sex, age, strain and injection site."""
    return pd.DataFrame(
        {
            "sex": rng.choice(["F", "M"], n_brains),
            "age_days": np.round(rng.uniform(49, 63, n_brains), 1),
            "strain": rng.choice(STRAINS, n_brains),
            "injection_structure": rng.choice(INJECTED, n_brains),
        },
        index=pd.Index([f"{name}-{i:05d}" for i in range(n_brains)], name="brain"),
    )


def _draw(n_brains, rng):
    metadata = _metadata(n_brains, rng, "freeform")
    values = rng.uniform(-np.sqrt(3), np.sqrt(3), (n_brains, len(FREEFORM_FACTORS)))
    factors = pd.DataFrame(values, index=metadata.index, columns=list(FREEFORM_FACTORS))
    within = np.sqrt(1 - 0.95**2) * rng.standard_normal(n_brains).clip(-3, 3)
    factors[TWO_GROUPS] = rng.choice([-0.95, 0.95], n_brains) + within
    return metadata, factors.astype(np.float32)


def _draw_smooth(n_brains, rng):
    metadata = _metadata(n_brains, rng, "smooth")
    # Of a Laplace distribution, and no further out than where fields would tear tissue.
    values = rng.laplace(0, np.sqrt(0.5), (n_brains, len(SMOOTH_FACTORS))).clip(-4, 4)
    factors = pd.DataFrame(values, index=metadata.index, columns=list(SMOOTH_FACTORS))
    return metadata, factors.astype(np.float32)


def _render(factors, atlas, maps):
    added, shift = (
        np.tensordot(factors[list(m)].to_numpy(np.float32), np.stack([*m.values()]), 1)
        for m in maps
    )
    return moved(TISSUE * atlas.template + added, shift)


def _disturb(images, atlas, rng):
    """Light, streaks and the noise of counted photons."""
    (rows, _), _, distances = _lattice(atlas, np.array(STREAK_MM) / 2)
    middle, half = _middle(atlas)
    slope = LIGHT * rng.standard_normal((len(images), 1), dtype=np.float32)
    images *= np.exp(slope * ((rows - middle) / half).astype(np.float32))[..., None]

    # Exponential: many dim nodes and few bright ones; mean 0 and variance 1 once 1 is taken off.
    images *= 1 + STREAKS * smooth_fields(
        len(images), distances, STREAK_MM, lambda shape: rng.standard_exponential(shape, "f4") - 1
    )
    spread = NOISE * 50 / atlas.pixel_um * np.sqrt(np.clip(images, 0, 1) + DARK)
    images += spread * rng.standard_normal(images.shape, dtype=np.float32)
    return images


FREEFORM = Simulator(
    "freeform",
    FREEFORM_FACTORS,
    _draw,
    lambda atlas: (added_maps(atlas), deformation_maps(atlas)),
    _render,
    _disturb,
)
SMOOTH = Simulator("smooth", SMOOTH_FACTORS, _draw_smooth, smooth_maps, _render, _disturb)
SIMULATORS = {"planted": ANATOMICAL, "freeform": FREEFORM, "smooth": SMOOTH}  # of chapter 10


@dataclass(frozen=True, eq=False)
class PlantedModel:
    """What a model would be that had found every factor: its latents are the factors, ``names``."""

    simulator: Simulator
    atlas: Atlas

    @classmethod
    def of(cls, factors, atlas: Atlas) -> PlantedModel:
        """The one simulator that draws all of some factors; ValueError where none does."""
        for simulator in SIMULATORS.values():
            if set(factors) <= set(simulator.factors):
                return cls(simulator, atlas)
        raise ValueError(f"no simulator has all of the factors {', '.join(factors)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The factors, one a latent."""
        return self.simulator.factors

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Sections of factors (n, n_factors), without texture and noise, (n, height, width)."""
        factors = pd.DataFrame(np.asarray(z), columns=list(self.names))
        return self.simulator.rendered(factors, self.atlas)
