"""The three artefacts of the paper's Fig. 2B: planting them at known strengths, suspecting them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter, uniform_filter1d

from brainvae_core.cohorts.atlas import Atlas, block_mean, whole_factor
from brainvae_core.cohorts.cohort import Cohort

VISIBLE = 0.02  # a change of grey value below this is not counted as artefact
STRENGTHS = (0.4, 1.0)  # planted strengths are uniform between these
LEAK_MM = (0.15, 0.45)  # a leak's radius: its least, and what strength 1 adds
HOLE_MM, SEAM_LOSS = 1.0, 0.6  # a hole's mean radius and a seam's share of the grey, at strength 1
CLEAN_LIMIT = 4.0  # robust standard deviations
CHUNK = 64  # brains compared with the reference at once


# ---- planting ----


def leak(image, *, strength, seed, pixel_um, site=None):
    """Bright signal from the other channel: brightest at the injection site, fading around it.

    The changed image, float32 in [0, 1], and where a grey changed by more than 0.02. Strengths are
    in (0, 1]; here 1.2 times it is added at the site, up to a grey of 1, and the radius grows from
    0.15 to 0.6 mm. A seed gives the same artefact at every strength, its ``site`` (row, column)
    drawn from the tissue if none is given.
    """
    image, rng = _checked(image, strength, seed)
    row, column = _tissue_site(image, rng) if site is None else site
    y, x = np.indices(image.shape, dtype=np.float32)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.6)
    along = (y - row) * np.sin(angle) + (x - column) * np.cos(angle)
    across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
    radius = (LEAK_MM[0] + LEAK_MM[1] * strength) * 1000 / pixel_um
    distance = np.hypot(along / stretch, across) / radius
    return _with_mask(image, image + strength * np.exp(-(distance**2)) * 1.2)


def breakage(image, *, strength, seed, pixel_um, site=None):
    """Missing tissue: an irregular piece of a mean radius of up to 1 mm goes dark, as `leak`."""
    image, rng = _checked(image, strength, seed)
    row, column = _tissue_site(image, rng) if site is None else site
    y, x = np.indices(image.shape, dtype=np.float32)
    rough = gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), 150 / pixel_um)
    distance = np.hypot(y - row, x - column) * pixel_um / 1000
    gone = distance < HOLE_MM * strength * (1 + 0.35 * (rough / rough.std()))
    return _with_mask(image, np.where(gone, 0.0, image))


def grid(image, *, strength, seed, pixel_um, site=None):
    """Scanning pattern: tiles of 0.9 mm, whose seams lose up to 60 % of their brightness.

    As `leak`; ``site`` is where a seam crossing lies.
    """
    image, rng = _checked(image, strength, seed)
    row, column = rng.uniform(0, 900 / pixel_um, size=2) if site is None else site
    y, x = np.indices(image.shape, dtype=np.float32)
    seam = [np.cos(np.pi * (a - o) * pixel_um / 900) ** 16 for a, o in ((y, row), (x, column))]
    return _with_mask(image, image * (1 - SEAM_LOSS * strength * np.maximum(*seam)))


ARTEFACTS = {"leak": leak, "breakage": breakage, "grid": grid}


def _checked(image, strength, seed):
    image = np.asarray(image, dtype=np.float32)
    if not ((image >= 0) & (image <= 1)).all():
        raise ValueError(f"an artefact needs greys in [0, 1], not {image.min()} to {image.max()}")
    if not 0 < strength <= 1:
        raise ValueError(f"artefact strength {strength} is outside (0, 1]")
    return image, np.random.default_rng(seed)


def _tissue_site(image, rng):
    """One pixel of tissue: brighter than a fifth of the bright end."""
    rows, columns = np.nonzero(image > 0.2 * np.percentile(image, 99))
    if not rows.size:
        raise ValueError("the image is black: no tissue to draw a site from; give a site")
    pick = rng.integers(rows.size)
    return rows[pick], columns[pick]


def _with_mask(image, changed):
    changed = np.clip(changed, 0, 1).astype(np.float32)
    return changed, np.abs(changed - image) > VISIBLE


def plant(images, kinds, strengths, *, pixel_um, seed, sites=None):
    """One artefact in each of some sections (n, height, width), as `leak` returns them.

    ``kinds``, ``strengths`` and ``sites`` have one entry a section; a site None is drawn.
    """
    rng = np.random.default_rng(seed)
    planted, masks = np.empty_like(images), np.empty(images.shape, dtype=bool)
    sites = [None] * len(images) if sites is None else sites
    for i, (kind, strength, site) in enumerate(zip(kinds, strengths, sites, strict=True)):
        planted[i], masks[i] = ARTEFACTS[kind](
            images[i], strength=float(strength), seed=rng, pixel_um=pixel_um, site=site
        )
    return planted, masks


# ---- brains with a known truth ----


def clean_part(cohort: Cohort, split: str = "test") -> Cohort:
    """The brains of one part without artefacts; an error where there is none.

    Simulated brains are given as they were before their artefact, others if `artefact_free`.
    """
    part = cohort.split(split)
    if cohort.clean is not None and len(part):
        none = part.metadata.assign(artefact="none", artefact_strength=0.0)
        bare = {"clean": None, "artefact_masks": None, "refused": {}}
        return part._like(images=np.asarray(part.clean), metadata=none, **bare)
    clean = cohort.select(artefact_free(cohort) & (cohort.metadata["split"] == split).to_numpy())
    if not len(clean):
        raise ValueError(f"no {split} brain of cohort {cohort.name!r} is clean")
    return clean


def corrupted_brains(cohort: Cohort) -> Cohort:
    """Test brains with an artefact whose uncorrupted truth, of the same gain, is known.

    A simulated cohort's own; where there are none, each brain of `clean_part` with one artefact
    planted, always the same: the kinds in turn, strengths uniform between 0.4 and 1.
    """
    test = cohort.split("test")
    if cohort.clean is not None and cohort.artefact_masks is not None:
        own = test.artefact_masks.any(axis=(1, 2))
        if own.any():
            found = test.select(own)
            if "gain" not in found.metadata:
                return found
            # `equalise_brightness` adjusted both: the truth has the gain of what is seen.
            beside = cohort.atlas.brain_mask & ~found.artefact_masks
            gains = [(x * beside).sum(axis=(1, 2)) for x in (found.images, found.clean)]
            truth = np.minimum((gains[0] / gains[1])[:, None, None] * found.clean, 1)
            return found._like(clean=truth.astype(np.float32))
    before = clean_part(cohort)
    rng = np.random.default_rng(0)
    kinds = np.resize(list(ARTEFACTS), len(before))
    strengths = rng.uniform(*STRENGTHS, len(before))
    images, masks = plant(before.images, kinds, strengths, pixel_um=cohort.atlas.pixel_um, seed=rng)
    images, gains = _as_bright(images, before.images, cohort.atlas)
    metadata = before.metadata.assign(artefact=kinds, artefact_strength=strengths)
    clean = np.minimum(gains[:, None, None] * before.images, 1)
    truth = {"clean": clean, "artefact_masks": masks, "refused": {}}
    return before._like(images=images, metadata=metadata, **truth)


@dataclass(frozen=True, eq=False, repr=False)
class GradedArtefacts:
    """Clean brains, and the same with every kind of artefact at every strength."""

    kinds: tuple[str, ...]
    strengths: tuple[float, ...]
    clean: np.ndarray  # (n_brains, height, width) float32
    images: np.ndarray  # (n_kinds, n_strengths, n_brains, height, width) float32
    masks: np.ndarray  # the same shape: where each artefact is
    gains: np.ndarray  # (n_kinds, n_strengths, n_brains): what brought each to its own brightness
    pixel_um: float

    def undamaged(self, kind: int) -> np.ndarray:
        """What ``images[kind]`` are beside their artefacts: clean brains times the gain, to 1."""
        return np.minimum(self.gains[kind, ..., None, None] * self.clean, 1)

    def resampled(self, shape: tuple[int, int]) -> GradedArtefacts:
        """The same brains with fewer pixels: block means, by one whole number on both axes."""
        height, width = self.clean.shape[1:]
        factor = whole_factor((height, width), shape)
        if not factor:
            raise ValueError(f"shape {shape} does not divide sections of {height} × {width}")
        return replace(
            self,
            clean=block_mean(self.clean, factor),
            images=block_mean(self.images, factor),
            masks=block_mean(self.masks, factor) >= 0.5,
            pixel_um=self.pixel_um * factor,
        )._visible()

    def _visible(self) -> GradedArtefacts:
        """The same, if every artefact can be seen."""
        seen = self.masks.any(axis=(3, 4))
        if not seen.all():
            k, s, i = np.argwhere(~seen)[0]
            raise ValueError(
                f"a {self.kinds[k]} of strength {self.strengths[s]:g} changes no pixel of "
                f"{self.pixel_um:g} µm of brain {i} visibly; give larger strengths"
            )
        return self


def graded_artefacts(
    cohort: Cohort,
    strengths: Sequence[float],
    n_brains: int,
    split: str = "test",
) -> GradedArtefacts:
    """Every kind of artefact at every strength, in the same clean brains.

    After the damage each section is brought back to its brain's own brightness, as an acquired one
    is: a leak makes the rest darker, a breakage or a grid brighter. An artefact's place depends on
    the size of the sections: to compare models of different sizes, plant once in the largest and
    take `GradedArtefacts.resampled`.

    Parameters
    ----------
    cohort : Cohort
    strengths : sequence of float
        In (0, 1]; one that cannot be seen is an error.
    n_brains : int
        The first brains of `clean_part`; all of them where there are fewer.
    split : str
    """
    if len(strengths) == 0 or n_brains < 1:
        raise ValueError(f"{strengths=}, {n_brains=}: give at least 1 of each")
    clean = clean_part(cohort, split).images[:n_brains]
    pixel_um, makers = cohort.atlas.pixel_um, list(ARTEFACTS.values())
    images = np.empty((len(makers), len(strengths), *clean.shape), dtype=np.float32)
    masks = np.empty(images.shape, dtype=bool)
    for k, s, i in np.ndindex(images.shape[:3]):
        images[k, s, i], masks[k, s, i] = makers[k](
            clean[i], strength=strengths[s], seed=i, pixel_um=pixel_um
        )
    images, gains = _as_bright(images, clean, cohort.atlas)
    kinds, strengths = tuple(ARTEFACTS), tuple(strengths)
    return GradedArtefacts(kinds, strengths, clean, images, masks, gains, pixel_um)._visible()


def _as_bright(images, clean, atlas):
    """Damaged brains (…, n, height, width), each as bright as its clean one; the gains (…, n)."""
    inside = atlas.brain_mask
    gains = clean[:, inside].mean(axis=-1) / images[..., inside].mean(axis=-1)
    images *= gains[..., None, None]
    return np.minimum(images, 1, out=images), gains


# ---- suspecting ----


def artefact_scores(images, is_reference, atlas: Atlas) -> np.ndarray:
    """How unlike the reference brains each section is, in three ways an artefact shows, (n, 3).

    Signs of a leak, a breakage and a grid: brightest and darkest block of 0.2 mm, and stripes along
    rows or columns, as robust standard deviations above the median of at least 3 reference brains.
    """
    if is_reference.sum() < 3:
        raise ValueError(f"{is_reference.sum()} reference brains have no spread; give 3 or more")
    usual = median_section(images, is_reference)
    block, seam = (max(1, round(um / atlas.pixel_um)) for um in (200, 900))
    parts = []
    for start in range(0, len(images), CHUNK):
        rest = (images[start : start + CHUNK] - usual) * atlas.brain_mask
        parts.append([block_mean(rest, block), rest.sum(axis=1), rest.sum(axis=2)])
    blocks, *profiles = map(np.concatenate, zip(*parts, strict=True))
    blocks = _against_own_spread(blocks, is_reference)
    stripes = []
    for profile in profiles:
        fast = profile - uniform_filter1d(profile, seam, axis=1)
        stripes.append(_against_own_spread(fast, is_reference).std(axis=1))
    found = [blocks.max(axis=(1, 2)), -blocks.min(axis=(1, 2)), np.maximum(*stripes)]
    statistics = np.stack(found, axis=1)
    centre = np.median(statistics[is_reference], axis=0)
    spread = 1.4826 * np.median(np.abs(statistics[is_reference] - centre), axis=0)
    return (statistics - centre) / np.maximum(spread, np.finfo(np.float32).eps)


def artefact_free(cohort: Cohort) -> np.ndarray:
    """Brains without a visible artefact, (n,) bool, by a rule that is fixed before any fit.

    They are no outliers, and no score of an artefact reaches 4: of those that `preprocess` kept
    from before the brightest pixels were clipped, else of the images.
    """
    names = [f"{kind}_score" for kind in ARTEFACTS]
    if set(names) <= set(cohort.metadata):
        clean = (cohort.metadata[names] < CLEAN_LIMIT).all(axis=1)
        return (clean & ~is_outlier(cohort.metadata)).to_numpy()
    scores = artefact_scores(cohort.images, reference_brains(cohort.metadata), cohort.atlas)
    return (scores < CLEAN_LIMIT).all(axis=1)


def reference_brains(metadata: pd.DataFrame) -> np.ndarray:
    """The brains the clean rule compares with: training brains that are no outliers, (n,) bool."""
    return ((metadata["split"] == "train") & ~is_outlier(metadata)).to_numpy()


def is_outlier(metadata: pd.DataFrame) -> pd.Series:
    """Brains with an entry in the column ``outlier`` of `preprocess`; without the column none."""
    return metadata.get("outlier", pd.Series("none", index=metadata.index)) != "none"


def median_section(images, which) -> np.ndarray:
    """Median of the picked images, (height, width), without a copy of them all."""
    bands = np.array_split(np.arange(images.shape[1]), min(16, images.shape[1]))
    return np.concatenate([np.median(images[which, b[0] : b[-1] + 1], axis=0) for b in bands])


def _against_own_spread(values, is_reference):
    """Borders that registration leaves uncertain vary most: each place by its own spread."""
    spread = 1.4826 * np.median(np.abs(values[is_reference]), axis=0)
    usual = np.median(spread[spread > 0]) if (spread > 0).any() else 1.0
    return values / np.maximum(spread, usual)
