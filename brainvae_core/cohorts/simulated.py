"""A cohort whose truth is known: brains drawn from one atlas slice by planted factors.

A section is ``gain · illumination · texture · warp(template · region brightness) + noise``. Every
factor is standard normal and acts through one known map: a displacement or a logarithmic gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from brainvae_core.cohorts.artefacts import ARTEFACTS, STRENGTHS, plant
from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.cohorts.cohort import Cohort
from brainvae_core.cohorts.drawn import drawn_atlas

TISSUE = 0.75  # grey value of the template's brightest point: leaves room above for leaks
TEXTURE = {0.6: 0.035, 0.2: 0.04}  # correlation length in mm: relative standard deviation
NOISE = 0.02  # sensor noise, grey values
CHUNK = 32  # brains made at once
STEP = 0.25  # standard deviations that `displaced` moves tissue at once

# Effects of one standard deviation of each factor.
BRIGHTNESS = {"brightness": 0.08, "brightness_HPF": 0.10, "brightness_TH": 0.10}  # log gain
ILLUMINATION = 0.10  # log gain at the left and right edge of the brain
DISPLACEMENT_MM = {
    "cortical_thickness": 0.06,  # at the inner border of isocortex
    "ventricle_size": 0.10,  # at the ventricle's wall
    "brain_height": 0.07,  # at the dorsal and ventral surface
    "brain_width": 0.09,  # at the lateral surface
    "ap_position": 0.10,  # between hippocampus and thalamus
}
FACTORS = ("brightness", "illumination", "brightness_HPF", "brightness_TH", *DISPLACEMENT_MM)

STRAINS = ("C57BL/6J", "FVB.CD1", "B6.129")
# Shift of a factor's mean, in its standard deviations: of males (of females its negative), of
# C57BL/6J (of FVB.CD1 its negative), and by one standard deviation of age.
EFFECTS = {
    "sex": {"brain_width": 0.4},
    "strain": {"cortical_thickness": 0.5, "brightness_HPF": -0.3},
    "age": {"ventricle_size": 0.4, "brightness": 0.3},
}
INJECTED = ("SSp", "RSP", "HPF", "STR", "TH", "HY")


@dataclass(frozen=True)
class Simulator:
    """What draws a cohort from an atlas slice, part by part."""

    name: str
    factors: tuple[str, ...]
    draw: Callable  # (number of brains, Generator) to metadata and factors
    maps: Callable  # Atlas to what a standard deviation of each factor changes
    render: Callable  # (factors, Atlas, maps) to images by their factors alone
    disturb: Callable  # (images, Atlas, Generator) to images with all that is no factor

    def cohort(self, n_brains=256, atlas=None, shape=None, artefact_share=0.15, seed=0) -> Cohort:
        """A cohort, as `simulate` describes it."""
        if n_brains < 2:
            raise ValueError(f"n_brains={n_brains}: a cohort has at least 2 brains")
        if not 0 <= artefact_share <= 1:
            raise ValueError(f"artefact_share={artefact_share} is outside [0, 1]")
        atlas = drawn_atlas() if atlas is None else atlas
        atlas = atlas if shape is None else atlas.resampled(shape)
        brain_rng, artefact_rng, *chunk_rngs = np.random.default_rng(seed).spawn(
            2 + -(-n_brains // CHUNK)
        )
        metadata, factors = self.draw(n_brains, brain_rng)
        clean = self._sections(factors, atlas, chunk_rngs)
        images, masks, columns = with_artefacts(
            clean, atlas, metadata["injection_structure"], artefact_share, artefact_rng
        )
        return Cohort(
            images,
            metadata.assign(**columns),
            atlas,
            clean=clean,
            artefact_masks=masks,
            factors=factors,
            name=f"{self.name} on {atlas.name}",
        ).with_split(seed)

    def rendered(self, factors, atlas) -> np.ndarray:
        """Sections as their factors alone make them, (n, height, width)."""
        return self._sections(factors[list(self.factors)].astype(np.float32), atlas, repeat(None))

    def _sections(self, factors, atlas, rngs):
        """Sections by their factors, disturbed by one generator a chunk where there is one."""
        maps = self.maps(atlas)
        images = np.empty((len(factors), *atlas.shape), dtype=np.float32)

        def fill(start, rng):
            rows = slice(start, start + CHUNK)
            made = self.render(factors.iloc[rows], atlas, maps)
            made = made if rng is None else self.disturb(made, atlas, rng)
            np.clip(made, 0, 1, out=images[rows])

        # SciPy's and NumPy's heavy calls release the interpreter lock.
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(fill, range(0, len(factors), CHUNK), rngs))
        return images


def simulate(
    n_brains: int = 256,
    atlas: Atlas | None = None,
    shape: tuple[int, int] | None = None,
    artefact_share: float = 0.15,
    seed: int = 0,
) -> Cohort:
    """Draw a split cohort by `FACTORS`, with its ``factors``, ``clean`` and ``artefact_masks``.

    Parameters
    ----------
    n_brains : int
    atlas : Atlas, optional
        A slice that has Isocortex, VS and, in its right half too, each of `INJECTED`; else drawn.
    shape : (height, width), optional
        Of the sections; else the atlas's own.
    artefact_share : float
        Share in [0, 1] of brains with a leak, a breakage or a grid, in equal numbers.
    seed : int
    """
    return ANATOMICAL.cohort(n_brains, atlas, shape, artefact_share, seed)


def gain_maps(atlas: Atlas) -> dict[str, np.ndarray]:
    """Log gain of one standard deviation of each brightness factor, borders softened by 0.05 mm."""
    maps = {}
    for factor, gain in BRIGHTNESS.items():
        region = factor.removeprefix("brightness").removeprefix("_")
        mask = atlas.roi_masks([region])[0] if region else np.ones(atlas.shape)
        maps[factor] = gain * gaussian_filter(mask.astype(np.float32), 50 / atlas.pixel_um)
    columns = np.flatnonzero(atlas.brain_mask.any(axis=0))
    middle, half = columns.mean(), (columns[-1] - columns[0]) / 2
    across = (np.arange(atlas.shape[1], dtype=np.float32) - middle) / half
    maps["illumination"] = ILLUMINATION * np.broadcast_to(across, atlas.shape)
    return maps


def displacement_maps(atlas: Atlas) -> dict[str, np.ndarray]:
    """Displacement u by one standard deviation of each geometric factor, each (2, height, width).

    In pixels; tissue moves by +u, so images are read at x − u.
    """
    mm = 1000 / atlas.pixel_um
    isocortex, hippocampus, thalamus, ventricles = atlas.roi_masks(["Isocortex", "HPF", "TH", "VS"])
    y, x = np.indices(atlas.shape, dtype=np.float32)
    rows, columns = np.nonzero(atlas.brain_mask)
    centre_y, centre_x = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    zero = np.zeros_like(y)

    depth = distance_transform_edt(atlas.brain_mask)
    thickness = np.percentile(depth[isocortex], 95)
    ramp = np.where(depth < thickness, depth / thickness, np.exp((thickness - depth) / (0.4 * mm)))
    near_cortex = gaussian_filter((distance_transform_edt(~isocortex) < 0.3 * mm) * 1.0, 0.15 * mm)
    to_wall = distance_transform_edt(~ventricles) - distance_transform_edt(ventricles)
    meeting = np.nonzero(hippocampus)[0].mean() / 2 + np.nonzero(thalamus)[0].mean() / 2
    inside = np.clip(depth / (0.8 * mm), 0, 1)
    unit = {
        "cortical_thickness": _direction(depth, 0.15 * mm) * ramp * near_cortex,
        "ventricle_size": _direction(to_wall, 0.05 * mm) * np.exp(-((to_wall / (0.25 * mm)) ** 2)),
        "brain_height": np.stack([(y - centre_y) / (rows.max() - centre_y), zero]),
        "brain_width": np.stack([zero, (x - centre_x) / (columns.max() - centre_x)]),
        "ap_position": np.stack([np.exp(-(((y - meeting) / (0.9 * mm)) ** 2)) * inside, zero]),
    }
    return {f: (u * DISPLACEMENT_MM[f] * mm).astype(np.float32) for f, u in unit.items()}


def _direction(distance, blur):
    """Unit vectors along which a distance grows."""
    gradient = np.stack(np.gradient(gaussian_filter(distance, blur)))
    return gradient / np.maximum(np.linalg.norm(gradient, axis=0), 1e-6)


def _draw(n_brains, rng):
    """Sex, age, strain and injection site, and the factors that follow from them."""
    sex = rng.choice(["F", "M"], n_brains)
    strain = rng.choice(STRAINS, n_brains, p=[0.6, 0.2, 0.2])
    age = rng.normal(0, 1, n_brains).clip(-2.5, 2.5)
    metadata = pd.DataFrame(
        {
            "sex": sex,
            "age_days": np.round(56 + 4 * age, 1),
            "strain": strain,
            "injection_structure": rng.choice(INJECTED, n_brains),
        },
        index=pd.Index([f"sim-{i:05d}" for i in range(n_brains)], name="brain"),
    )
    mean = pd.DataFrame(0.0, index=metadata.index, columns=list(FACTORS))
    of_strain = (strain == "C57BL/6J") * 1.0 - (strain == "FVB.CD1")
    scores = {"sex": np.where(sex == "M", 1, -1), "strain": of_strain, "age": age}
    for covariate, score in scores.items():
        for factor, effect in EFFECTS[covariate].items():
            mean[factor] += effect * score
    mean -= mean.mean()
    spread = np.sqrt(1 - mean.var(ddof=0).to_numpy())
    # Extremes would tear tissue: the ventricle's field folds even here, where its walls meet.
    factors = (mean + spread * rng.standard_normal(mean.shape)).clip(-3, 3)
    return metadata, factors.astype(np.float32)


def _render(factors, atlas, maps):
    gains, displacements = maps
    n, weights = len(factors), factors.to_numpy()
    column = {name: weights[:, [i]] for i, name in enumerate(factors)}

    in_tissue = [name for name in gains if name != "illumination"]
    log_gain = sum(column[name] * gains[name].reshape(1, -1) for name in in_tissue)
    tissue = np.exp(log_gain).reshape(n, *atlas.shape) * (TISSUE * atlas.template)
    shift = np.hstack([column[name] for name in displacements]) @ np.stack(
        [u.ravel() for u in displacements.values()]
    )
    images = moved(tissue, shift.reshape(n, 2, *atlas.shape))

    log_light = column["illumination"] * gains["illumination"].reshape(1, -1)
    images *= np.exp(log_light).reshape(n, *atlas.shape)
    return images


def moved(images, shift) -> np.ndarray:
    """Images (n, height, width), the tissue of each moved by its own (2, height, width) pixels."""
    where = np.indices(images.shape[1:], dtype=np.float32) - shift
    return np.stack([_read(*of_one) for of_one in zip(images, where, strict=True)])


def displaced(images: np.ndarray, atlas: Atlas, factor: str, amount: float) -> np.ndarray:
    """Sections with their tissue moved as one geometric factor of the simulator moves it.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
    atlas : Atlas
    factor : str
        Such as ``"ventricle_size"``, or ``"ap_position"``: a section from another plane.
    amount : float
        Standard deviations of the simulated cohort, added to what a section has by itself.
    """
    if factor not in DISPLACEMENT_MM:
        raise ValueError(f"factor={factor!r} moves no tissue; {', '.join(DISPLACEMENT_MM)} do")
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 3 or images.shape[1:] != atlas.shape:
        height, width = atlas.shape
        raise ValueError(f"images are {images.shape}; this atlas takes (n, {height}, {width})")
    # Larger steps would leap over thin ventricles and fold tissue where the field changes fast.
    n_steps = max(1, math.ceil(abs(amount) / STEP))
    field = displacement_maps(atlas)[factor] * np.float32(amount / n_steps)
    where = np.indices(atlas.shape, dtype=np.float32)
    for _ in range(n_steps):
        where = where - [_read(along, where) for along in field]
    return np.stack([_read(image, where) for image in images])


def _read(image, where):
    return map_coordinates(image, where, order=1, mode="nearest")


def _disturb(images, atlas, rng):
    """Texture, which is smooth Gaussian fields, and sensor noise."""
    for length, spread in TEXTURE.items():
        pixels, reaches = length * 1000 / atlas.pixel_um, []
        for size in atlas.shape:  # nodes half a length apart, beyond the edges too
            nodes = np.arange(-2 * pixels, size + 2 * pixels, pixels / 2)
            reaches.append(np.arange(size)[:, None] - nodes)
        images *= 1 + spread * smooth_fields(
            len(images), reaches, (pixels, pixels), lambda shape: rng.standard_normal(shape, "f4")
        )
    images += NOISE * rng.standard_normal(images.shape, dtype=np.float32)
    return images


def smooth_fields(n, reaches, lengths, noise) -> np.ndarray:
    """Random fields of unit variance with a correlation length on each axis, (n, height, width).

    White noise on nodes, spread along each axis by a Gaussian of distance (``reaches``: pixels ×
    nodes): two matrix products instead of a filter over every pixel.
    """
    spreads = []
    for reach, length in zip(reaches, lengths, strict=True):
        weight = np.exp(-((reach / length) ** 2)).astype(np.float32)
        spreads.append(weight / np.linalg.norm(weight, axis=1, keepdims=True))
    down, across = spreads
    return down @ noise((n, down.shape[1], across.shape[1])) @ across.T


def with_artefacts(clean, atlas, structures, share, rng):
    """Images, masks and columns of metadata; a leak lies at the injection site, on the right."""
    right = np.arange(atlas.shape[1]) >= atlas.shape[1] / 2
    masks = dict(zip(INJECTED, atlas.roi_masks(INJECTED) & right, strict=True))
    pixels = {name: np.argwhere(mask) for name, mask in masks.items()}
    sites = np.stack([rng.choice(pixels[name]) for name in structures])
    images, masks = clean.copy(), np.zeros(clean.shape, dtype=bool)
    kind = np.full(len(clean), "none", dtype="<U8")
    strength = np.zeros(len(clean), dtype=np.float32)
    chosen = rng.permutation(len(clean))[: round(share * len(clean))]
    kind[chosen] = np.resize(list(ARTEFACTS), len(chosen))
    strength[chosen] = rng.uniform(*STRENGTHS, len(chosen))
    images[chosen], masks[chosen] = plant(
        clean[chosen],
        kind[chosen],
        strength[chosen],
        pixel_um=atlas.pixel_um,
        seed=rng,
        sites=[sites[i] if kind[i] == "leak" else None for i in chosen],
    )
    dv, ml = (sites * atlas.pixel_um).T
    columns = {"injection_dv_um": dv, "injection_ml_um": ml}
    return images, masks, {**columns, "artefact": kind, "artefact_strength": strength}


ANATOMICAL = Simulator(
    "simulated", FACTORS, _draw, lambda a: (gain_maps(a), displacement_maps(a)), _render, _disturb
)
