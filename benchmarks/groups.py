"""Two groups of a lab's brains: how often each tool finds a planted difference, or one that is not.

    python benchmarks/groups.py [--small] [--device auto]

Studies of 12 + 12, 30 + 30 and 100 + 100 brains of both simulators, at 80 × 112: latents of a
β-VAE beside what labs use today, which are region means, every pixel, and scores of PCA. The models
were fitted to a reference cohort of the same simulator, and saw none of a study's brains. The last
column is how often a kind of difference is told, and how many of those told are right.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np
import pandas as pd
import torch
from measure import options, part
from scipy.stats import binomtest, false_discovery_control, ttest_ind

from brainvae_core.cohorts import EFFECTS as KNOWN
from brainvae_core.cohorts import (
    comparable_brains,
    displaced,
    planted_difference,
    simulate,
    simulate_freeform,
    simulate_groups,
)
from brainvae_core.fields import region_brightness
from brainvae_core.metrics import design_of, difference_kind, group_differences, section_changes
from brainvae_core.metrics.likeness import KINDS
from brainvae_core.models import BetaVAEConfig, PCAConfig, fit

SHAPE, SEED, LEVEL = (80, 112), 7, 0.05
EFFECTS = {"none": 0.0, "thickness": 1.5, "ventricle": 1.5, "brightness HPF": 1.5}  # planted SD
EFFECTS |= {"plane": 1.5, "damage": 0.4}  # of damage the share of knockouts damaged besides
GROUPS = {12: 24, 30: 24, 100: 8}  # brains a group: studies of each effect
MOST_PERMUTATIONS = 499
TOOLS = ("β-VAE, latents", "PCA, scores", "regions, Welch and FDR", "regions, largest t", "pixels")
TOOLS += ("kind told, right",)
STUDIES = {"anatomical": simulate, "freeform": simulate_freeform}


def reference_of(simulator: str, n_brains: int, steps: int, device: str):
    """A reference cohort and the models that were fitted to it."""
    cohort = STUDIES[simulator](n_brains, shape=SHAPE, artefact_share=0.15, seed=0)
    configs = {"β-VAE": BetaVAEConfig(steps=steps), "PCA": PCAConfig(latent_dim=8)}
    return cohort, {name: fit(cohort, c, "runs", device).model for name, c in configs.items()}


def study(made, effect, planted, reference, models, seed) -> dict[str, tuple[bool, float]]:
    """Of every tool whether it finds a difference, and whether of the right place or kind."""
    lab = comparable_brains(made.images, made.metadata, reference)
    masks = reference.atlas.roi_masks(reference.atlas.regions(0.01))
    inside = reference.atlas.brain_mask
    in_region = np.array([planted[mask].mean() for mask in masks])
    design = design_of(lab.metadata, "group")
    by_region = region_brightness(lab.images, masks).T
    second = design.matrix[:, design.tested][:, 0] > 0
    found = {}
    for name, values in (
        ("β-VAE, latents", models["β-VAE"].encode(lab.images)),
        ("PCA, scores", models["PCA"].encode(lab.images)),
        ("regions, largest t", by_region),
        ("pixels", lab.images[:, inside]),
    ):
        table = group_differences(values, design, n_permutations=MOST_PERMUTATIONS, seed=seed)
        is_clear, best = table["p_family"].to_numpy() < LEVEL, int(table["p"].argmin())
        right = np.nan  # a latent has no place
        if name == "pixels":
            right = planted[inside][best] >= planted.max() / 4
        elif name.startswith("regions"):
            right = in_region[best] >= in_region.max() / 2
        found[name] = (is_clear.any(), right)
    p = ttest_ind(by_region[second], by_region[~second], equal_var=False).pvalue
    right = in_region[p.argmin()] >= in_region.max() / 2
    found["regions, Welch and FDR"] = (false_discovery_control(p).min() < LEVEL, right)
    if not planted.any():  # no tool can be right about where
        found = {name: (is_clear, np.nan) for name, (is_clear, _) in found.items()}
    mean = reference.split("train").images.mean(axis=0)
    plane = displaced(mean[None], reference.atlas, "ap_position", 1.0)[0] - mean
    regions, um = reference.atlas.regions(0.01), reference.atlas.pixel_um
    by_name = dict(zip(regions, masks, strict=True))
    changes = section_changes(lab.images, mean, inside, by_name, um, plane)
    asked = {"n_permutations": MOST_PERMUTATIONS, "seed": seed}
    kind = difference_kind(changes, design.matrix, design.tested, **asked).kind
    found["kind told, right"] = (kind in KINDS, kind == KNOWN[effect].kind)
    return found


def studies(simulator, reference, models, effect, n, count) -> pd.DataFrame:
    """A row a tool: the share of studies in which it finds something, and where."""
    size, rows, made = EFFECTS[effect], [], []
    planted = np.abs(planted_difference(effect, size, reference.atlas, simulator))
    for seed in range(SEED, SEED + count):
        brains = simulate_groups(n, n, effect, size, shape=SHAPE, seed=seed, simulator=simulator)
        made.append(study(brains, effect, planted, reference, models, seed))
    for tool in TOOLS:
        found = np.array([one[tool] for one in made], dtype=float)
        ends = binomtest(int(found[:, 0].sum()), count).proportion_ci(method="wilson")
        rows.append({"tool": tool, "found": found[:, 0].mean(), "low": ends.low, "high": ends.high})
        rows[-1]["right"] = found[found[:, 0] > 0, 1].mean() if found[:, 0].any() else np.nan
    return pd.DataFrame(rows)


def main():
    parser = options(__doc__, "two studies of each kind, with models of a few steps")
    given = parser.parse_args()
    small = given.small
    print(f"{MOST_PERMUTATIONS} permutations, {LEVEL} over all measures; planted {EFFECTS} SD.")
    print("\n| simulator | brains | planted | " + " | ".join(TOOLS) + " | studies |")
    print("|---" * (len(TOOLS) + 4) + "|", flush=True)
    torch.set_num_threads(1)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for simulator in STUDIES:
            with part(simulator):
                size = (60, 40) if small else (1024, 1500)
                reference, models = reference_of(simulator, *size, given.device)
                cells = list(product(GROUPS, EFFECTS))
                jobs = [
                    pool.submit(
                        studies, simulator, reference, models, effect, n, 2 if small else GROUPS[n]
                    )
                    for n, effect in cells
                ]
                for (n, effect), job in zip(cells, jobs, strict=True):
                    told = [_told(row) for row in job.result().to_dict("records")]
                    count = 2 if small else GROUPS[n]
                    print(
                        f"| {simulator} | {n} + {n} | {effect} | {' | '.join(told)} | {count} |",
                        flush=True,
                    )


def _told(row) -> str:
    where = "" if np.isnan(row["right"]) else f", right {row['right']:.0%}"
    return f"{row['found']:.0%} [{row['low']:.0%}, {row['high']:.0%}]{where}"


if __name__ == "__main__":
    main()
