"""Two groups of simulated brains as a lab has them, wild types and knockouts, and what differs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainvae_core.cohorts.atlas import Atlas
from brainvae_core.cohorts.cohort import Cohort
from brainvae_core.cohorts.freeform import FREEFORM
from brainvae_core.cohorts.preprocess import Preprocessing, comparable_sections
from brainvae_core.cohorts.simulated import (
    ANATOMICAL,
    BRIGHTNESS,
    INJECTED,
    displacement_maps,
    gain_maps,
    moved,
    with_artefacts,
)


class Effect(NamedTuple):
    """What differs between two groups of brains."""

    kind: str  # anatomy, brightness, registration, damage or none
    factor: str | None  # of `simulate`, whose mean differs
    regions: tuple[str, ...]  # that it is named after; none where it acts all over


EFFECTS = {
    "none": Effect("none", None, ()),
    "thickness": Effect("anatomy", "cortical_thickness", ("Isocortex",)),
    "ventricle": Effect("anatomy", "ventricle_size", ("VS",)),
    "brightness HPF": Effect("brightness", "brightness_HPF", ("HPF",)),
    "brightness TH": Effect("brightness", "brightness_TH", ("TH",)),
    "brightness": Effect("brightness", "brightness", ()),
    "plane": Effect("registration", "ap_position", ()),
    "damage": Effect("damage", None, ()),
}
GROUPS = ("WT", "KO")
OF_GROUPS = {"anatomical": ANATOMICAL, "freeform": FREEFORM}
MOST_SIZE = 2.0  # planted standard deviations; more than that and the clipping at 3 takes it away
MATCHED = ("sex", "strain")  # what a simulated brain and a row of a design have in common
AVERAGED = 128  # brains that a planted difference is averaged over
POPULATION = 1024  # brains that a lab's are drawn from, or 40 for each of them


def simulate_groups(
    n_a: int,
    n_b: int,
    effect: str = "none",
    size: float = 0.0,
    *,
    atlas: Atlas | None = None,
    shape: tuple[int, int] | None = None,
    seed: int = 0,
    simulator: str = "anatomical",
    design: pd.DataFrame | None = None,
    artefact_share: float = 0.15,
) -> Cohort:
    """Wild types and knockouts that differ in one planted way, as a cohort without a split.

    Its column ``group`` is "WT" or "KO"; its ``factors``, ``clean`` and ``artefact_masks`` are the
    truth, with the column ``artefact``. A seed draws other brains than `simulate` does by it.

    Parameters
    ----------
    n_a, n_b : int
        Wild types and knockouts.
    effect : str
        Of `EFFECTS`. The second simulator borrows the factor, which then varies by one standard
        deviation in both groups.
    size : float
        By how many planted standard deviations the knockouts' mean of the factor is higher, in
        [−2, 2]; of "damage" the share of knockouts, in [0, 1], that have an artefact besides.
    atlas, shape, artefact_share, seed
        As for `simulate`.
    simulator : {"anatomical", "freeform"}
        Which brains are drawn.
    design : DataFrame, n_a + n_b rows, optional
        Covariates as a lab recorded them, missing values too; they become the metadata. ``sex``
        (F, M), ``strain`` and ``age_days`` are those of the drawn brains as far as the population
        has them. Its own ``group``, if it has one, else groups are drawn at random.
    """
    factor = _effect(effect).factor
    if min(n_a, n_b) < 1:
        raise ValueError(f"{n_a} wild types and {n_b} knockouts; give at least 1 of each")
    least, most = (0, 1) if effect == "damage" else (-MOST_SIZE, MOST_SIZE)
    if not least <= size <= most:
        raise ValueError(f"size={size:g} of effect {effect!r} is outside [{least:g}, {most:g}]")
    n, base = n_a + n_b, _simulator(simulator, factor)
    group = _groups(n_a, n_b, design, np.random.default_rng([seed, 1]))
    lab = replace(
        base,
        name=f"{n_a} wild types and {n_b} knockouts",
        draw=partial(_draw, of=base, group=group, factor=factor, size=size, design=design),
    )
    found = lab.cohort(n, atlas, shape, artefact_share, [seed, 2])
    images, masks, truth = found.images, found.artefact_masks, found.metadata.drop(columns="split")
    able = np.flatnonzero((group == GROUPS[1]) & ~masks.any(axis=(1, 2)))
    if effect == "damage" and (n_more := min(round(size * n_b), len(able))):
        rng = np.random.default_rng([seed, 3])
        more = rng.permutation(able)[:n_more]
        structures = truth["injection_structure"].iloc[more]
        images[more], masks[more], columns = with_artefacts(
            found.clean[more], found.atlas, structures, 1.0, rng
        )
        for name, values in columns.items():
            truth.iloc[more, truth.columns.get_loc(name)] = values
    if design is not None:
        recorded = design.drop(columns="group", errors="ignore").set_axis(truth.index)
        unknown = ["sex", "age_days", "strain", "injection_structure", *recorded]
        truth = truth.drop(columns=unknown, errors="ignore")
        truth = pd.concat([truth[["group"]], recorded, truth.drop(columns="group")], axis=1)
    return found._like(images=images, metadata=truth, artefact_masks=masks)


def planted_difference(
    effect: str,
    size: float,
    atlas: Atlas,
    simulator: str = "anatomical",
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """What an effect changes in the mean section of a group, in greys, (height, width).

    Averaged over 128 brains without texture and noise; 0 everywhere for "none" and "damage". A
    region's truth is the mean over its pixels.

    Parameters
    ----------
    effect, size, simulator
        As for `simulate_groups`.
    atlas : Atlas
    preprocessing : Preprocessing, optional
        What the brains go through that it is compared with, as for `comparable_section`.
    """
    factor = _effect(effect).factor
    if factor is None:
        return np.zeros(atlas.shape, dtype=np.float32)
    base = _simulator(simulator, factor)
    _, factors = base.draw(AVERAGED, np.random.default_rng(0))
    changed = factors.assign(**{factor: (factors[factor] + size).clip(-3, 3)})
    after, before = (base.rendered(each, atlas) for each in (changed, factors))
    if preprocessing is not None:
        after, before = (comparable_sections(s, atlas, preprocessing) for s in (after, before))
    return (after - before).mean(axis=0)


def _effect(name):
    if name not in EFFECTS:
        raise ValueError(f"no effect {name!r}; there are {', '.join(EFFECTS)}")
    return EFFECTS[name]


def _groups(n_a, n_b, design, rng):
    """Group of every brain, (n,): the design's own, or drawn."""
    if design is not None and len(design) != n_a + n_b:
        raise ValueError(f"the design has {len(design)} rows for {n_a} + {n_b} brains")
    if design is None or "group" not in design:
        return rng.permutation(np.repeat(GROUPS, (n_a, n_b)))
    group = design["group"].to_numpy(str)
    counts = {name: int((group == name).sum()) for name in GROUPS}
    if counts != dict(zip(GROUPS, (n_a, n_b), strict=True)):
        found = ", ".join(f"{n} {name}" for name, n in counts.items())
        raise ValueError(f"the design's group has {found} of {n_a} WT and {n_b} KO")
    return group


def _draw(n, rng, *, of, group, factor, size, design):
    """The lab's brains out of a population, and their factors with the planted difference."""
    metadata, factors = of.draw(max(POPULATION, 40 * n), rng)
    rows = np.arange(n) if design is None else _matching(metadata, design, rng)
    names = pd.Index([f"lab-{i:04d}" for i in range(n)], name="brain")
    metadata, factors = metadata.iloc[rows].set_axis(names), factors.iloc[rows].set_axis(names)
    metadata.insert(0, "group", group)
    if design is not None and "injection_structure" in design:  # where a leak lies
        given = design["injection_structure"].set_axis(names)
        own = metadata["injection_structure"]
        metadata["injection_structure"] = given.where(given.isin(INJECTED), own)
    if factor is not None:
        factors[factor] = (factors[factor] + size * (group == GROUPS[1])).clip(-3, 3)
    return metadata, factors


def _matching(population, design, rng):
    """For each row of a design one brain of the population that is like it, nobody twice."""
    free, rows = np.ones(len(population), dtype=bool), []
    age = population["age_days"].to_numpy()
    for _, row in design.iterrows():
        fits = free.copy()
        for column in MATCHED:
            recorded = str(row.get(column)).split("(")[0]  # as in FVB.CD1(ICR)
            same = (population[column] == recorded).to_numpy()
            fits &= same | ~same.any()  # what the population has not can be any brain
        able = np.flatnonzero(fits)
        wanted = pd.to_numeric(row.get("age_days"), errors="coerce")
        near = wanted is not None and np.isfinite(wanted)
        pick = able[np.abs(age[able] - wanted).argmin()] if near else rng.choice(able)
        free[pick] = False
        rows.append(pick)
    return np.array(rows)


def _simulator(name, factor):
    """A simulator that has the factor, its own or borrowed from the anatomical one."""
    if name not in OF_GROUPS:
        raise ValueError(f"no simulator {name!r}; there are {', '.join(OF_GROUPS)}")
    own = OF_GROUPS[name]
    if factor is None or factor in own.factors:
        return own
    return replace(
        own,
        factors=(*own.factors, factor),
        draw=partial(_draw_also, of=own, factor=factor),
        maps=lambda a: (own.maps(a), (gain_maps(a) | displacement_maps(a))[factor]),
        render=partial(_render_also, of=own, factor=factor),
    )


def _draw_also(n, rng, *, of, factor):
    metadata, factors = of.draw(n, rng)
    more = rng.standard_normal(n, dtype=np.float32).clip(-3, 3)
    return metadata, factors.assign(**{factor: more})


def _render_also(factors, atlas, maps, *, of, factor):
    own, change = maps
    images = of.render(factors, atlas, own)
    amount = factors[factor].to_numpy()[:, None, None]
    if factor in BRIGHTNESS:
        return images * np.exp(amount * change)
    return moved(images, amount[..., None] * change)
