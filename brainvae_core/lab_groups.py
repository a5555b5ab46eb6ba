"""What chapter 11 asks of a lab's groups: in what they differ, of which kind, what so many show."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainvae_core.metrics import (
    Design,
    Likeness,
    brains_needed,
    difference_kind,
    group_differences,
    section_changes,
    smallest_difference,
    usable_design,
)
from brainvae_core.prepare import lab_truth, plane_change

SHOWN = 14  # regions
CLEAR = 0.05
FEW = 5  # brains a group, below which p by its distribution can be too small
NOBODY = MappingProxyType({})
TOLD = 5  # brains in an error
NOTHING, TOO_MUCH = 1e-6, 500  # % of spread: rounding; a region that is dark but in one brain
NOT_ASKED = "no groups are asked about"
SIZES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96)  # brains a group


class Groups(NamedTuple):
    """What is compared: the design, the brains in it, (n,) bool, and why the others are not."""

    design: Design
    used: np.ndarray
    excluded: dict[str, str]

    @property
    def n_smallest(self) -> int:
        """Brains of the smallest group; all of them where there is a slope."""
        if not np.isin(matrix := self.design.matrix[:, self.design.tested], (0, 1)).all():
            return len(matrix)
        return int(np.unique(matrix, axis=0, return_counts=True)[1].min())


def groups_to_compare(p, brains, out: Mapping[str, str] = NOBODY) -> Groups | None:
    """What the profile asks to compare; a ValueError says in a line why it cannot be.

    Whoever was left ``out`` before, and why, is told with it: it may be for that.
    """
    if p.lab.group:
        try:
            return Groups(*usable_design(brains.metadata, p.lab.group, p.lab.covariates))
        except ValueError as error:
            if not out:
                raise
            reasons = "; ".join(f"{brain}: {why}" for brain, why in [*out.items()][:TOLD])
            more = f"; and {len(out) - TOLD} more" if len(out) > TOLD else ""
            raise ValueError(f"{error}. Left out before: {reasons}{more}") from None
    if p.lab.covariates:
        raise ValueError(
            f"covariates {', '.join(p.lab.covariates)} are given, and no group that is to be "
            "adjusted for them; name the group's column, or leave them out"
        )
    return None


class GroupMaps(NamedTuple):
    """What `fig_group_maps` shows, in its order."""

    first: np.ndarray
    differences: dict[str, np.ndarray]
    p_family: np.ndarray
    name: str
    pixel_um: float


def compare_groups(p, brains, groups: Groups, measures: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`group_differences` of each kind of measure and of the pixels, which ``of`` names.

    Regions have their ``name``, and their difference in ``percent`` of their mean as well.
    """
    inside, tables = brains.atlas.brain_mask, []
    pixels = pd.DataFrame(brains.images[:, inside], brains.metadata.index)
    for of, values in {**measures, "pixel": pixels}.items():
        table = group_differences(
            values[groups.used], groups.design, n_permutations=p.lab.n_permutations
        )
        if of == "region":
            mean = values[groups.used].mean().to_numpy()
            table["name"] = table["measure"].map(
                brains.atlas.structures.set_index("acronym")["name"]
            )
            table["percent"] = 100 * table["value"] / mean
        tables.append(table.assign(of=of))
    return pd.concat(tables, ignore_index=True)


def top_regions(table: pd.DataFrame) -> pd.DataFrame:
    """The regions that differ most, as `fig_differences` takes them, with q in their names."""
    found = table[table["of"] == "region"].sort_values("p").head(SHOWN)
    sizes = {"effect": "value", "effect_low": "low", "effect_high": "high"}
    named = found["measure"] + ", q = " + found["q"].map("{:.2g}".format)
    return found[[*sizes]].rename(columns=sizes).assign(region=named, sure=found["q"] < CLEAR)


def by_group(z: pd.DataFrame, brains, groups: Groups | None) -> pd.DataFrame:
    """Rows of brains by group, a control first, those not compared last; their names say which."""
    if groups is None:
        return z
    tested = groups.design.matrix[:, groups.design.tested]
    order = np.argsort(tested @ np.arange(1, tested.shape[1] + 1), kind="stable")
    of = brains.metadata.loc[groups.used, groups.design.term].iloc[order]
    of = of.map(lambda level: f"{level:g}" if isinstance(level, float) else str(level))
    others = brains.metadata.index[~groups.used]
    of = pd.concat([of, pd.Series("not compared", others, dtype=object)])
    return z.loc[of.index].set_axis([f"{brain}, {group}" for brain, group in of.items()])


def latent_codes(model, brains) -> pd.DataFrame:
    """The latents of each brain, brains × F1, F2, …."""
    codes = model.encode(brains.images)
    return pd.DataFrame(codes, brains.metadata.index).rename(columns=lambda k: f"F{k + 1}")


def without_pixels(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of regions and latents: what `differences.csv` holds."""
    return table[table["of"] != "pixel"].reset_index(drop=True)


def clear_differences(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of regions by their q, and of latents and pixels by family-wise p, below 0.05."""
    is_region = table["of"] == "region"
    return table[np.where(is_region, table["q"], table["p_family"]) < CLEAR]


def clear_counts(table: pd.DataFrame) -> pd.DataFrame:
    """How many measures of each kind differ clearly, and of how many."""
    clear, of = (t["of"].value_counts(sort=False) for t in (clear_differences(table), table))
    return pd.DataFrame({"clear": clear.reindex(of.index, fill_value=0), "of": of})


def describe_differences(brains, groups: Groups | None, table, judgement) -> str:
    """In lines, how many regions are clear, and which damaged brains were compared."""
    if groups is None:
        return NOT_ASKED
    counts = clear_counts(table)
    lines = ["clear are {} of {} regions".format(*counts.loc["region"])]
    if not counts["clear"].any():
        lines.append("nothing is clear, which is not the same as no difference: see the power")
    if groups.n_smallest < FEW:
        lines.append(f"fewer than {FEW} brains in a group: q can be too small; take p_family")
    damaged = ", ".join(brains.metadata.index[groups.used & (judgement.kind != "none")]) or "none"
    lines.append(f"compared though they have an artefact: {damaged}")
    return "\n".join(lines)


def group_maps(brains, groups: Groups, table, codes: pd.DataFrame, model) -> GroupMaps | None:
    """The difference by pixel, and what the model decodes of it; None of several groups at once."""
    if groups.design.tested.sum() != 1:
        return None
    inside, atlas = brains.atlas.brain_mask, brains.atlas
    by_pixel, p_family = np.zeros(atlas.shape), np.ones(atlas.shape)
    pixels = table[table["of"] == "pixel"]
    by_pixel[inside], p_family[inside] = pixels["value"].fillna(0), pixels["p_family"]
    half = table.loc[table["of"] == "latent", "value"].fillna(0).to_numpy() / 2
    mean = codes[groups.used].mean().to_numpy()
    low, high = model.decode((mean + np.stack([-half, half])).astype(np.float32))
    maps = {groups.design.contrast: by_pixel, "as the latents have it": high - low}
    first = brains.images[groups.used].mean(axis=0)
    return GroupMaps(first, maps, p_family, "mean of all", atlas.pixel_um)


def classify_difference(p, reference, brains, groups: Groups, judgement) -> Likeness:
    """Whether the difference looks like anatomy, brightness, registration or damage."""
    atlas, regions = brains.atlas, brains.atlas.regions(p.fields.region_share)
    masks = dict(zip(regions, atlas.roi_masks(regions), strict=True))
    mean = reference.split("train").images.mean(axis=0)
    images, plane = brains.images[groups.used], plane_change(p, mean, atlas)
    changes = section_changes(images, mean, atlas.brain_mask, masks, atlas.pixel_um, plane)
    return difference_kind(
        changes,
        groups.design,
        flagged=(judgement.kind != "none")[groups.used],
        n_permutations=p.lab.n_permutations,
    )


def describe_kind(like: Likeness | None) -> str:
    """In a line, which kind of difference it looks like."""
    return NOT_ASKED if like is None else f"it looks like: {like.kind}"


class Power(NamedTuple):
    """What so many brains can show: ``table``, a region a row, and ``curve``, also a size a row.

    Differences are in % of a region's brightness; ``n_now`` are the brains of the smaller group.
    """

    table: pd.DataFrame
    curve: pd.DataFrame
    n_now: int


def power_analysis(groups: Groups, means: pd.DataFrame, usual: pd.DataFrame) -> Power | None:
    """How small a difference of each region two groups show, and how many brains it takes.

    Found in 80 of 100 studies, each region being tested at 0.05 divided by their number. None of a
    slope, and of several groups. ``usual`` are the means of the reference's clean brains, whose
    spread is of many brains, but of undamaged ones, and holds what covariates explain.
    """
    matrix, values = groups.design.matrix, means[groups.used]
    counts = np.unique(matrix[:, groups.design.tested], axis=0, return_counts=True)[1]
    if len(counts) != 2:
        return None
    rest = values - matrix @ np.linalg.lstsq(matrix, values, rcond=None)[0]
    spread = np.sqrt(np.square(rest).sum() / (len(rest) - matrix.shape[1]))
    share = 100 * spread / values.mean()
    share, n = share[(share > NOTHING) & (share < TOO_MUCH)], len(share)
    of_reference = (100 * usual.std() / usual.mean())[share.index]
    few, many = sorted(map(int, counts))
    smallest = {size: smallest_difference(1, size, size, n_measures=n) for size in SIZES}
    columns = {
        "spread within groups, %": share,
        f"smallest difference with {few} + {many}, %": share
        * smallest_difference(1, few, many, n_measures=n),
        "brains a group for 5 %": [brains_needed(s, 5.0, n_measures=n) for s in share],
        "for 10 %": [brains_needed(s, 10.0, n_measures=n) for s in share],
        "spread in the reference, %": of_reference,
        "for 10 % by that": [
            brains_needed(s, 10.0, n_measures=n) if NOTHING < s < TOO_MUCH else np.nan
            for s in of_reference
        ],
    }
    rows = [
        {"region": region, "n_per_group": size, "value": s * unit}
        for region, s in share.items()
        for size, unit in smallest.items()
    ]
    table = pd.DataFrame(columns, index=share.index.rename("region"))
    return Power(table.sort_values("spread within groups, %"), pd.DataFrame(rows), few)


# ---- the example's truth ----


def planted_maps(p, reference, maps: GroupMaps) -> GroupMaps | None:
    """What was found beside what was planted; None of a lab's own brains."""
    found = next(iter(maps.differences.values()))
    for name, truth in lab_truth(p, reference).items():
        return maps._replace(differences={"found": found, f"planted: {name}": truth})
    return None


def planted_regions(brains, maps: GroupMaps, table: pd.DataFrame) -> pd.DataFrame:
    """The regions in which most was planted, and what was found of it."""
    _, truth = maps.differences.values()
    found = table[table["of"] == "region"].set_index("measure")[["value", "low", "high", "q"]]
    masks = brains.atlas.roi_masks(list(found.index))
    found["planted"] = [truth[mask].mean() for mask in masks]
    return found.loc[found["planted"].abs().sort_values().index[-5:]]
