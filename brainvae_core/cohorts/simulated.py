"""A cohort whose truth is known: brains drawn from one atlas slice by planted factors.

A section is ``gain · illumination · texture · warp(template · region brightness) + noise``. Every
factor is standard normal over brains and acts through one map that is known in advance: a
displacement field (geometry) or a logarithmic gain (brightness).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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
# Shift of a factor's mean, in its standard deviations. Age acts per standard deviation of age.
EFFECTS = {
    "sex": {"M": {"brain_width": 0.4}, "F": {"brain_width": -0.4}},
    "strain": {
        "C57BL/6J": {"cortical_thickness": 0.5, "brightness_HPF": -0.3},
        "FVB.CD1": {"cortical_thickness": -0.5, "brightness_HPF": 0.3},
        "B6.129": {},
    },
    "age": {"ventricle_size": 0.4, "brightness": 0.3},
}
INJECTED = ("SSp", "RSP", "HPF", "STR", "TH", "HY")


def simulate(
    n_brains: int = 256,
    atlas: Atlas | None = None,
    shape: tuple[int, int] | None = None,
    artefact_share: float = 0.15,
    seed: int = 0,
) -> Cohort:
    """Draw brains from an atlas slice by known factors.

    Parameters
    ----------
    n_brains : int
        At least 2.
    atlas : Atlas, optional
        Any slice that has Isocortex, VS and, in its right half too, each of `INJECTED`; the drawn
        one when it is not given.
    shape : (height, width), optional
        Resolution of the sections; the atlas's own when it is not given.
    artefact_share : float
        Share in [0, 1] of brains with a leak, a breakage or a grid, in equal numbers.
    seed : int
        Everything drawn follows from it.

    Returns
    -------
    Cohort
        Split into train, validation and test; with ``clean``, ``artefact_masks`` and ``factors``
        (n_brains rows, one column each of `FACTORS`, standard deviations).

    Raises
    ------
    ValueError
        A number outside its range, or an atlas slice without a region that a factor needs.
    """
    if n_brains < 2:
        raise ValueError(f"n_brains={n_brains}: a cohort has at least 2 brains")
    if not 0 <= artefact_share <= 1:
        raise ValueError(f"artefact_share={artefact_share} is outside [0, 1]")
    if atlas is None:
        atlas = drawn_atlas()
    atlas = atlas if shape is None else atlas.resampled(shape)
    covariate_rng, artefact_rng, *chunk_rngs = np.random.default_rng(seed).spawn(
        2 + -(-n_brains // CHUNK)
    )
    metadata, factors = _covariates(n_brains, covariate_rng)
    gains, displacements = gain_maps(atlas), displacement_maps(atlas)
    clean = np.empty((n_brains, *atlas.shape), dtype=np.float32)

    def fill(job):
        start, rng = job
        rows = slice(start, min(start + CHUNK, n_brains))
        clean[rows] = _sections(factors.iloc[rows], atlas, gains, displacements, rng)

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
        name=f"simulated on {atlas.name}",
    ).with_split(seed)


def gain_maps(atlas: Atlas) -> dict[str, np.ndarray]:
    """Logarithmic gain of one standard deviation of each brightness factor.

    Returns
    -------
    dict of ndarray, each (height, width)
        In atlas space; region borders are softened by 0.05 mm.
    """
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
    """Displacement of tissue by one standard deviation of each geometric factor.

    Returns
    -------
    dict of ndarray, each (2, height, width)
        Pixels along rows and columns; tissue moves by +u, so images are read at x − u.
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


def _covariates(n_brains, rng):
    """Sex, age, strain and injection site, and the factors that follow from them."""
    sex = rng.choice(["F", "M"], n_brains)
    strain = rng.choice(STRAINS, n_brains, p=[0.6, 0.2, 0.2])
    age = rng.normal(0, 1, n_brains).clip(-2.5, 2.5)
    brains = pd.Index([f"sim-{i:05d}" for i in range(n_brains)], name="brain")
    metadata = pd.DataFrame(
        {
            "sex": sex,
            "age_days": np.round(56 + 4 * age, 1),
            "strain": strain,
            "injection_structure": rng.choice(INJECTED, n_brains),
        },
        index=brains,
    )
    mean = pd.DataFrame(0.0, index=brains, columns=list(FACTORS))
    for column, values in (("sex", sex), ("strain", strain)):
        for level, effects in EFFECTS[column].items():
            for factor, shift in effects.items():
                mean.loc[values == level, factor] += shift
    for factor, slope in EFFECTS["age"].items():
        mean[factor] += slope * age
    mean -= mean.mean()
    spread = np.sqrt(1 - mean.var(ddof=0).to_numpy())
    # Extremes would tear tissue: the ventricle's field folds even here, where its walls meet.
    factors = (mean + spread * rng.standard_normal(mean.shape)).clip(-3, 3)
    return metadata, factors.astype(np.float32)


def rendered(factors: pd.DataFrame, atlas: Atlas) -> np.ndarray:
    """Sections as their factors alone make them: the simulator without texture and noise.

    What a model could paint at best that read every factor exactly, without clipping by
    `preprocess`.

    Parameters
    ----------
    factors : DataFrame
        A row a brain, a column each of `FACTORS`, standard deviations.
    atlas : Atlas

    Returns
    -------
    ndarray of float32, shape (n, height, width)

    Raises
    ------
    ValueError
        A factor is missing.
    """
    if missing := [name for name in FACTORS if name not in factors]:
        raise ValueError(f"factors lack {', '.join(missing)}; give all of {', '.join(FACTORS)}")
    gains, displacements = gain_maps(atlas), displacement_maps(atlas)
    factors = factors[list(FACTORS)].astype(np.float32)
    parts = np.split(np.arange(len(factors)), range(CHUNK, len(factors), CHUNK))
    images = [_rendered(factors.iloc[rows], atlas, gains, displacements) for rows in parts]
    return np.clip(np.concatenate(images), 0, 1)


def _rendered(factors, atlas, gains, displacements):
    n = len(factors)
    weights = factors.to_numpy()
    column = {name: weights[:, [i]] for i, name in enumerate(factors)}

    in_tissue = [name for name in gains if name != "illumination"]
    log_gain = sum(column[name] * gains[name].reshape(1, -1) for name in in_tissue)
    tissue = np.exp(log_gain).reshape(n, *atlas.shape) * (TISSUE * atlas.template)
    shift = np.hstack([column[name] for name in displacements]) @ np.stack(
        [u.ravel() for u in displacements.values()]
    )
    where = np.indices(atlas.shape, dtype=np.float32) - shift.reshape(n, 2, *atlas.shape)
    images = np.empty_like(tissue)
    for section, coordinates, image in zip(tissue, where, images, strict=True):
        map_coordinates(section, coordinates, output=image, order=1, mode="nearest")

    log_light = column["illumination"] * gains["illumination"].reshape(1, -1)
    images *= np.exp(log_light).reshape(n, *atlas.shape)
    return images


def _sections(factors, atlas, gains, displacements, rng):
    """Clean sections of a few brains, (n, height, width)."""
    images = _rendered(factors, atlas, gains, displacements)
    for length, spread in TEXTURE.items():
        images *= 1 + spread * _smooth_fields(
            len(images), atlas.shape, length * 1000 / atlas.pixel_um, rng
        )
    images += NOISE * rng.standard_normal(images.shape, dtype=np.float32)
    return np.clip(images, 0, 1, out=images)


def _smooth_fields(n, shape, length, rng):
    """Gaussian fields of unit variance and a correlation length in pixels, (n, height, width).

    White noise on nodes half a length apart, spread by a Gaussian along each axis: two matrix
    products instead of a filter over every pixel.
    """
    spreads = []
    for size in shape:
        nodes = np.arange(-2 * length, size + 2 * length, length / 2)
        reach = np.arange(size)[:, None] - nodes
        weight = np.exp(-((reach / length) ** 2)).astype(np.float32)
        spreads.append(weight / np.linalg.norm(weight, axis=1, keepdims=True))
    down, across = spreads
    noise = rng.standard_normal((n, down.shape[1], across.shape[1]), dtype=np.float32)
    return down @ noise @ across.T


def with_artefacts(clean, atlas, metadata, share, rng):
    """Corrupt a share of the brains; the kinds in equal numbers, leaks at the injection site.

    Returns
    -------
    images : ndarray of float32, masks : ndarray of bool, both (n, height, width)
    columns : dict
        Metadata: each brain's injection site, its artefact's kind and strength.
    """
    images, masks = clean.copy(), np.zeros(clean.shape, dtype=bool)
    sites = _injection_sites(atlas, metadata["injection_structure"], rng)
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


def _injection_sites(atlas, structures, rng):
    """A pixel of each brain's injected structure, right of the midline, (n, 2)."""
    right = np.arange(atlas.shape[1]) >= atlas.shape[1] / 2
    masks = dict(zip(INJECTED, atlas.roi_masks(INJECTED) & right, strict=True))
    pixels = {name: np.argwhere(mask) for name, mask in masks.items()}
    return np.stack([rng.choice(pixels[name]) for name in structures])
