"""Two groups of a lab's brains: how often each tool finds a planted difference, or one that is not.

    python benchmarks/groups.py [--small] [--device auto] [--rows FILE]

Studies of 12 + 12, 30 + 30 and 100 + 100 brains of both simulators, at 80 × 112: latents of a
β-VAE beside what labs use today, which are region means, every pixel, and scores of PCA. The models
were fitted to a reference cohort of the same simulator, and saw none of a study's brains. Every
study is written to the file of rows, a row a tool; what stands there is not done again. It is
runs/groups.csv, with --small runs/groups-small.csv.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measure import options
from scipy.stats import binomtest, false_discovery_control, ttest_ind

from brainvae_core.cohorts import EFFECTS as KNOWN
from brainvae_core.cohorts import (
    SIMULATORS,
    comparable_brains,
    displaced,
    planted_difference,
    simulate,
    simulate_groups,
)
from brainvae_core.fields import region_brightness
from brainvae_core.metrics import design_of, difference_kind, group_differences, section_changes
from brainvae_core.metrics.likeness import CANNOT_TELL
from brainvae_core.models import BetaVAEConfig, PCAConfig, fit

SHAPE, SEED, LEVEL = (80, 112), 7, 0.05
EFFECTS = {"none": 0.0, "thickness": 1.5, "ventricle": 1.5, "brightness HPF": 1.5}  # planted SD
EFFECTS |= {"plane": 1.5, "damage": 0.4}  # of damage the share of knockouts damaged besides
GROUPS = {12: 40, 30: 40, 100: 16}  # brains a group: studies of each effect
TOGETHER = 4  # studies of a job
MOST_PERMUTATIONS = 499
TOOLS = ("β-VAE latents", "PCA scores", "regions, Welch and FDR", "regions, largest t", "pixels")
TOOLS += ("kind of difference",)
CELL = ["simulator", "n", "effect", "seed"]
STUDIES = {"anatomical": simulate, "freeform": SIMULATORS["freeform"].cohort}


def reference_of(simulator: str, n_brains: int, steps: int, device: str):
    """A reference cohort and the models that were fitted to it."""
    cohort = STUDIES[simulator](n_brains, shape=SHAPE, artefact_share=0.15, seed=0)
    configs = {"β-VAE": BetaVAEConfig(steps=steps), "PCA": PCAConfig(latent_dim=8)}
    return cohort, {name: fit(cohort, c, "runs", device).model for name, c in configs.items()}


def study(made, effect, planted, reference, models, seed) -> list[dict]:
    """A row a tool: whether it finds a difference, and whether of the right place or kind."""
    lab = comparable_brains(made.images, made.metadata, reference)
    regions, um = reference.atlas.regions(0.01), reference.atlas.pixel_um
    masks, inside = reference.atlas.roi_masks(regions), reference.atlas.brain_mask
    in_region = np.array([planted[mask].mean() for mask in masks])
    design = design_of(lab.metadata, "group")
    by_region = region_brightness(lab.images, masks).T
    second = design.matrix[:, design.tested][:, 0] > 0

    def is_right(change):  # where the change in greys is largest, a quarter of the most or more
        return planted[inside][np.abs(change).argmax()] >= planted[inside].max() / 4

    asked, rows = {"n_permutations": MOST_PERMUTATIONS, "seed": seed}, []
    for tool, name in zip(TOOLS, ("β-VAE", "PCA"), strict=False):
        codes = models[name].encode(lab.images)
        table = group_differences(codes, design, **asked)
        means = np.stack([codes[which].mean(axis=0) for which in (second, ~second)])
        here, there = models[name].decode(means.astype(np.float32))[:, inside]
        rows.append({"tool": tool, "p": table["p_family"].min(), "right": is_right(here - there)})
    p = ttest_ind(by_region[second], by_region[~second], equal_var=False).pvalue
    table = group_differences(by_region, design, **asked)
    tested = (false_discovery_control(p).min(), p), (table["p_family"].min(), table["p"])
    for tool, (least, of_region) in zip(TOOLS[2:], tested, strict=False):
        right = in_region[np.argmin(of_region)] >= in_region.max() / 2
        rows.append({"tool": tool, "p": least, "right": right})
    table = group_differences(lab.images[:, inside], design, **asked)
    right = planted[inside][table["p"].argmin()] >= planted[inside].max() / 4
    rows.append({"tool": TOOLS[4], "p": table["p_family"].min(), "right": right})
    mean = reference.split("train").images.mean(axis=0)
    plane = displaced(mean[None], reference.atlas, "ap_position", 1.0)[0] - mean
    by_name = dict(zip(regions, masks, strict=True))
    changes = section_changes(lab.images, mean, inside, by_name, um, plane)
    likeness = difference_kind(changes, design, **asked)
    rows.append({"tool": TOOLS[5], "p": likeness.table["p_family"].min(), "told": likeness.kind})
    for row in rows:
        row["found"] = row["p"] <= LEVEL
        if not planted.any():  # no tool can be right about where
            row["right"] = None
    rows[-1]["right"] = likeness.kind == KNOWN[effect].kind
    return rows


def studies(simulator, reference, models, effect, n, seeds) -> pd.DataFrame:
    """A row a study and tool."""
    size, rows = EFFECTS[effect], []
    planted = np.abs(planted_difference(effect, size, reference.atlas, simulator))
    for seed in seeds:
        brains = simulate_groups(n, n, effect, size, shape=SHAPE, seed=seed, simulator=simulator)
        cell = dict(zip(CELL, (simulator, n, effect, seed), strict=True))
        found = study(brains, effect, planted, reference, models, seed)
        rows += [cell | row for row in found]
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> str:
    """Share of studies in which a tool finds something, with its interval; how many at the place.

    Of kinds: how many are told rightly, wrongly and not.
    """
    lines = ["| simulator | brains | planted | " + " | ".join(TOOLS) + " | studies |"]
    lines.append("|---" * (len(TOOLS) + 4) + "|")
    for simulator, effect, n in product(STUDIES, EFFECTS, GROUPS):
        cell = rows.query("simulator == @simulator and effect == @effect and n == @n")
        if not (count := cell["seed"].nunique()):
            continue
        told = [_shares(cell[cell["tool"] == tool]) for tool in TOOLS]
        lines.append(f"| {simulator} | {n} + {n} | {effect} | {' | '.join(told)} | {count} |")
    return "\n".join(lines)


def share(hits: int, n: int) -> str:
    """How many of n, in percent, with Wilson's interval of 95 %."""
    ends = binomtest(int(hits), n).proportion_ci(method="wilson")
    return f"{100 * hits / n:.0f} % [{100 * ends.low:.0f}, {100 * ends.high:.0f}]"


def _shares(cell) -> str:
    found = cell[cell["found"].astype(bool)]
    text, right = share(len(found), len(cell)), found["right"]
    if found["told"].notna().any():
        unclear, rightly = (found["told"] == CANNOT_TELL).sum(), right.astype(bool).sum()
        return f"{text}; {rightly}, {len(found) - rightly - unclear}, {unclear}"
    return text if right.isna().all() else f"{text}; {right.astype(bool).sum()} of {len(found)}"


def main():
    parser = options(__doc__, "one study of 12 + 12 of each kind, with models of a few steps")
    parser.add_argument("--rows", type=Path)
    given = parser.parse_args()
    given.rows = given.rows or Path(f"runs/groups{'-small' * given.small}.csv")
    size = (60, 40) if given.small else (1024, 1500)
    counts = {12: 1} if given.small else GROUPS
    print(f"{MOST_PERMUTATIONS} permutations, {LEVEL} over all measures; planted {EFFECTS} SD.")
    torch.set_num_threads(1)
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    there = pd.read_csv(given.rows) if given.rows.exists() else pd.DataFrame(columns=CELL)
    done = {*there[CELL].itertuples(index=False, name=None)}

    def keep(job):
        new = not given.rows.exists()
        job.result().to_csv(given.rows, mode="a", header=new, index=False)

    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for simulator in STUDIES:  # models of the second are fitted beside studies of the first
            reference, models = reference_of(simulator, *size, given.device)
            cells = product(counts, EFFECTS)
            blocks = [(k, *cell) for cell in cells for k in range(0, counts[cell[0]], TOGETHER)]
            # An end at any time leaves the same share of every cell.
            for first, n, effect in sorted(blocks, key=lambda block: block[0] / counts[block[1]]):
                seeds = range(SEED + first, SEED + min(first + TOGETHER, counts[n]))
                seeds = [s for s in seeds if (simulator, n, effect, s) not in done]
                cell = simulator, reference, models, effect, n, seeds
                if seeds:
                    pool.submit(studies, *cell).add_done_callback(keep)
    print("\n" + summary(pd.read_csv(given.rows)))


if __name__ == "__main__":
    main()
