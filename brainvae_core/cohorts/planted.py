"""What is known of brains: their factors, artefacts put into them, tissue moved by so much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.ndimage import map_coordinates

from brainvae_core.cohorts.artefacts import ARTEFACTS, STRENGTHS, artefact_free, plant
from brainvae_core.cohorts.atlas import Atlas, block_mean, whole_factor
from brainvae_core.cohorts.cohort import Cohort
from brainvae_core.cohorts.freeform import FREEFORM
from brainvae_core.cohorts.simulated import (
    ANATOMICAL,
    DISPLACEMENT_MM,
    Simulator,
    displacement_maps,
)

DERIVED = ("artefact", "artefact_strength", "gain", "outlier", "product_id", "split")
STEP = 0.25  # standard deviations that tissue is moved at once


def known_factors(cohort: Cohort) -> pd.DataFrame:
    """The planted factors of a simulated cohort, else what is recorded of each brain and varies.

    Recorded are the numbers in its metadata, texts of two kinds such as sex as 0 and 1 (named after
    the kind that is 1, such as ``sex M``), and ``log_gain`` of the brightness adjustment. A missing
    value is its column's mean. A column with one value only, in the cohort or in a part of its
    split, is left out, so there may be none.
    """
    if cohort.factors is not None:
        return cohort.factors.astype(float)
    metadata, found = cohort.metadata, {}
    for name, values in metadata.items():
        if name in DERIVED or name.endswith(("_z", "_score")):
            continue
        kinds = sorted(values.dropna().astype(str).unique())
        numbers = pd.to_numeric(values, errors="coerce")
        if numbers.notna().sum() == values.notna().sum():
            found[name] = numbers
        elif len(kinds) == 2:
            found[f"{name} {kinds[1]}"] = values.astype(str).map({kinds[0]: 0.0, kinds[1]: 1.0})
    if "gain" in metadata:
        found["log_gain"] = np.log(metadata["gain"])
    factors = pd.DataFrame(found, index=metadata.index, dtype=float)
    factors = factors.replace([np.inf, -np.inf], np.nan)
    factors = factors.fillna(factors.mean())
    split = metadata.get("split", pd.Series("train", index=metadata.index))
    parts = [part for name, part in factors.groupby(split) if name in ("train", "test")]
    varies = [all(part[name].nunique() > 1 for part in parts) for name in factors]
    return factors.loc[:, varies]


def factor_extremes(
    factors: pd.DataFrame, images: np.ndarray, share: float = 0.05
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean section of the brains lowest and of those highest in each factor.

    Parameters
    ----------
    factors : DataFrame, n rows
    images : ndarray, shape (n, height, width)
    share : float
        Of the brains at either end, in (0, 0.5]; at least one brain. Brains that tie with the last
        of them are included: of a 0/1 factor that occurs often enough the ends are its two groups.

    Returns
    -------
    dict of name to (low, high), each (height, width)
    """
    if len(factors) != len(images) or not len(images):
        raise ValueError(
            f"{len(factors)} rows of factors and {len(images)} images; give one row an image"
        )
    if not 0 < share <= 0.5:
        raise ValueError(f"share={share} is outside (0, 0.5]")
    few = max(int(share * len(images)), 1)
    extremes = {}
    for name, values in factors.items():
        ranked = np.sort(values)
        low, high = (values <= ranked[few - 1]).to_numpy(), (values >= ranked[-few]).to_numpy()
        extremes[str(name)] = (images[low].mean(axis=0), images[high].mean(axis=0))
    return extremes


def clean_part(cohort: Cohort, split: str = "test") -> Cohort:
    """The brains of one part without artefacts; an error where there is none.

    Of a simulated cohort every brain of that part as it was before its artefact; of another those
    that `artefact_free` passes.
    """
    part = cohort.split(split)
    if cohort.clean is not None and len(part):
        none = part.metadata.assign(artefact="none", artefact_strength=0.0)
        return _cohort(part, part.clean, none)
    clean = cohort.select(artefact_free(cohort) & (cohort.metadata["split"] == split).to_numpy())
    if not len(clean):
        raise ValueError(
            f"no {split} brain of cohort {cohort.name!r} is clean; nothing to plant in"
        )
    return clean


def corrupted_brains(cohort: Cohort, seed: int = 0) -> Cohort:
    """Test brains with an artefact whose uncorrupted truth is known.

    Of a simulated cohort its own corrupted test brains; where there are none, every brain of
    `clean_part` with one artefact planted by ``seed`` in each: the kinds in turn, strengths uniform
    between 0.4 and 1.

    Returns
    -------
    Cohort
        With ``clean``, ``artefact_masks`` and the columns ``artefact`` and ``artefact_strength``.
    """
    test = cohort.split("test")
    if cohort.clean is not None and cohort.artefact_masks is not None:
        own = test.artefact_masks.any(axis=(1, 2))
        if own.any():
            return test.select(own)
    before = clean_part(cohort)
    rng = np.random.default_rng(seed)
    kinds = np.resize(list(ARTEFACTS), len(before))
    strengths = rng.uniform(*STRENGTHS, len(before))
    images, masks = plant(before.images, kinds, strengths, pixel_um=cohort.atlas.pixel_um, seed=rng)
    metadata = before.metadata.assign(artefact=kinds, artefact_strength=strengths)
    return _cohort(before, images, metadata, clean=before.images, artefact_masks=masks)


@dataclass(frozen=True, eq=False, repr=False)
class GradedArtefacts:
    """Clean brains, and the same with every kind of artefact at every strength."""

    kinds: tuple[str, ...]
    strengths: tuple[float, ...]
    clean: np.ndarray  # (n_brains, height, width) float32
    images: np.ndarray  # (n_kinds, n_strengths, n_brains, height, width) float32
    masks: np.ndarray  # the same shape: where each artefact is
    pixel_um: float

    def resampled(self, shape: tuple[int, int]) -> GradedArtefacts:
        """The same brains with fewer pixels: block means, by one whole number on both axes."""
        height, width = self.clean.shape[1:]
        factor = whole_factor((height, width), shape)
        if not factor:
            raise ValueError(
                f"shape {shape} does not divide sections of {height} × {width} by one whole number"
            )
        return replace(
            self,
            clean=block_mean(self.clean, factor),
            images=block_mean(self.images, factor),
            masks=block_mean(self.masks, factor) >= 0.5,
            pixel_um=self.pixel_um * factor,
        )._checked()

    def of_kind(self, kind: str) -> GradedArtefacts:
        """One kind alone, of ``kinds``."""
        k = self.kinds.index(kind)
        return replace(
            self, kinds=(kind,), images=self.images[k : k + 1], masks=self.masks[k : k + 1]
        )

    def _checked(self) -> GradedArtefacts:
        """The same, if every artefact can be seen."""
        seen = self.masks.any(axis=(3, 4))
        if not seen.all():
            k, s, i = np.argwhere(~seen)[0]
            raise ValueError(
                f"a {self.kinds[k]} of strength {self.strengths[s]:g} changes no pixel of "
                f"{self.pixel_um:g} µm of brain {i} visibly; give larger strengths"
            )
        return self

    def strongest(self) -> GradedArtefacts:
        """The last strength alone."""
        images, masks = self.images[:, -1:], self.masks[:, -1:]
        return replace(self, strengths=self.strengths[-1:], images=images, masks=masks)


def graded_artefacts(
    cohort: Cohort,
    strengths: Sequence[float],
    n_brains: int,
    split: str = "test",
    seed: int = 0,
) -> GradedArtefacts:
    """Every kind of artefact at every strength, in the same clean brains.

    An artefact's place depends on the size of the sections: to compare models of different sizes,
    plant once in the largest and take `GradedArtefacts.resampled`.

    Parameters
    ----------
    cohort : Cohort
        Split.
    strengths : sequence of float
        In (0, 1]. An artefact keeps its place and form over strengths.
    n_brains : int
        The first brains of `clean_part`; all of them where there are fewer.
    split : str
    seed : int

    Raises
    ------
    ValueError
        No strength, one outside (0, 1] or too weak to be seen, or no clean brain.
    """
    if len(strengths) == 0 or n_brains < 1:
        raise ValueError(
            f"strengths={list(strengths)}, n_brains={n_brains}: give at least 1 of each"
        )
    clean = clean_part(cohort, split).images[:n_brains]
    pixel_um, makers = cohort.atlas.pixel_um, list(ARTEFACTS.values())
    images = np.empty((len(makers), len(strengths), *clean.shape), dtype=np.float32)
    masks = np.empty(images.shape, dtype=bool)
    for k, s, i in np.ndindex(images.shape[:3]):
        images[k, s, i], masks[k, s, i] = makers[k](
            clean[i], strength=strengths[s], seed=seed + i, pixel_um=pixel_um
        )
    return GradedArtefacts(
        tuple(ARTEFACTS), tuple(strengths), clean, images, masks, pixel_um
    )._checked()


def displaced(images: np.ndarray, atlas: Atlas, factor: str, amount: float) -> np.ndarray:
    """Sections with their tissue moved as one geometric factor of the simulator moves it.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Of any cohort on this atlas.
    atlas : Atlas
    factor : str
        A key of ``DISPLACEMENT_MM``: ``"ventricle_size"`` widens the ventricles, ``"ap_position"``
        is a section from another plane.
    amount : float
        Standard deviations of the simulated cohort; what a section has by itself adds to it.

    Returns
    -------
    ndarray of float32, shape (n, height, width)
    """
    if factor not in DISPLACEMENT_MM:
        raise ValueError(f"factor={factor!r} moves no tissue; {', '.join(DISPLACEMENT_MM)} do")
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 3 or images.shape[1:] != atlas.shape:
        height, width = atlas.shape
        raise ValueError(f"images are {images.shape}; this atlas takes (n, {height}, {width})")
    if not math.isfinite(amount):
        raise ValueError(f"amount={amount} must be finite")
    # Larger steps would leap over thin ventricles and fold tissue where the field changes fast.
    n_steps = max(1, math.ceil(abs(amount) / STEP))
    field = displacement_maps(atlas)[factor] * np.float32(amount / n_steps)
    where = np.indices(atlas.shape, dtype=np.float32)
    for _ in range(n_steps):
        where = where - [_read(along, where) for along in field]
    return np.stack([_read(image, where) for image in images])


def _read(image, where):
    return map_coordinates(image, where, order=1, mode="nearest")


def _cohort(like, images, metadata, **parts) -> Cohort:
    parts |= {name: getattr(like, name) for name in ("factors", "preprocessing", "name")}
    return Cohort(images, metadata, like.atlas, **parts)


@dataclass(frozen=True, eq=False)
class PlantedModel:
    """What a model would be that had found every factor: its latents are the factors, ``names``."""

    simulator: Simulator
    atlas: Atlas

    @classmethod
    def anatomical(cls, atlas: Atlas) -> PlantedModel:
        """The simulator behind `simulate`."""
        return cls(ANATOMICAL, atlas)

    @classmethod
    def freeform(cls, atlas: Atlas) -> PlantedModel:
        """The simulator behind `simulate_freeform`."""
        return cls(FREEFORM, atlas)

    @property
    def names(self) -> tuple[str, ...]:
        """The factors, one a latent."""
        return self.simulator.factors

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Sections of factors (n, n_factors), without texture and noise, (n, height, width)."""
        return self.simulator.rendered(
            pd.DataFrame(np.asarray(z), columns=list(self.names)), self.atlas
        )
