"""Do as many brains as `brains_needed` says find a planted difference in 80 % of studies?

    python benchmarks/power.py [--small]

Beside it the number that labs take from a table of one t test at 0.05. Studies are drawn without
replacement from one simulated cohort of two groups, by the brightness of regions; a study finds the
region that differs most, of all of them together. `power_curve` is asked the same beforehand: from
ordinary brains, with the difference added.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from groups import STUDIES
from measure import line, options, part, share
from scipy.stats import ttest_ind
from statsmodels.stats.power import TTestIndPower

from brainvae_core.cohorts import comparable_brains, simulate_groups
from brainvae_core.fields import region_brightness
from brainvae_core.metrics import brains_needed, design_of, group_differences

SHAPE, LEVEL, WANTED = (40, 56), 0.05, 0.8
EFFECTS = {"brightness HPF": 1.0, "thickness": 2.0, "plane": 2.0}  # planted SD
BRAINS, DRAWN, PERMUTATIONS = 1000, 400, 199  # brains a group; studies of each number; orders


def main():
    given = options(__doc__, "few brains and studies").parse_args()
    brains, drawn = (600, 10) if given.small else (BRAINS, DRAWN)
    print(f"Share of {drawn} studies from {brains} + {brains} brains, {PERMUTATIONS} permutations.")
    print("\n| planted: region, number by | found | brains | `power_curve` |\n" + "|---" * 4 + "|")
    for simulator, (effect, size) in product(STUDIES, EFFECTS.items()):
        with part(f"{simulator}, {effect}"):
            power(simulator, effect, size, brains, drawn)


def power(simulator, effect, size, brains, drawn) -> None:
    """Lines of how often a study of so many brains finds the region that differs most."""
    reference = STUDIES[simulator](200, shape=SHAPE, seed=0)
    made = simulate_groups(brains, brains, effect, size, atlas=reference.atlas, simulator=simulator)
    lab = comparable_brains(made.images, made.metadata, reference)
    regions = reference.atlas.regions(0.01)
    values = region_brightness(lab.images, reference.atlas.roi_masks(regions)).T
    changed = (lab.metadata["group"] == "KO").to_numpy()
    groups = values[~changed], values[changed]
    shift = groups[1].mean(axis=0) - groups[0].mean(axis=0)
    spread = np.sqrt(np.mean([group.var(axis=0, ddof=1) for group in groups], axis=0))
    most, k = int((np.abs(shift) / spread).argmax()), len(regions)
    effect_size = shift[most] / spread[most]
    table = TTestIndPower().solve_power(abs(effect_size), power=WANTED, alpha=LEVEL)
    counts = {
        f"`brains_needed`, {k} regions": brains_needed(1, effect_size, power=WANTED, n_measures=k),
        "table of one t test": int(np.ceil(table)),
    }
    rng = np.random.default_rng(0)
    for by, n in counts.items():
        design = design_of(pd.DataFrame({"group": np.repeat(["WT", "KO"], n)}), "group")
        found = np.zeros(3, dtype=int)
        for seed in range(drawn):
            taken = [group[rng.permutation(len(group))[:n]] for group in groups]
            asked = {"n_permutations": PERMUTATIONS, "seed": seed}
            table = group_differences(np.vstack(taken), design, **asked)
            found += table.loc[most, ["p_family", "q", "p"]].to_numpy(float) <= LEVEL
        shares = zip(("largest t", "FDR", "alone"), found, strict=True)
        told = [f"{name} {share(count, drawn)}" for name, count in shares]
        hits = power_curve(groups[0][:, most], shift[most], n, k, drawn)
        expected = share(hits, drawn)
        what = f"{simulator}, {effect}: {regions[most]}, {effect_size:+.2f} SD, by {by}"
        line(what, "; ".join(told), f"{n} + {n}", expected)


def power_curve(values, difference, n, n_measures, draws) -> int:
    """How many studies of n + n ordinary brains find a difference that is put in one group.

    By Student's t at 0.05 divided by the number of measures, in ``values`` (n_brains,).
    """
    rng = np.random.default_rng(0)
    taken = np.argsort(rng.random((draws, len(values))), axis=1)[:, : 2 * n]
    found = ttest_ind(values[taken[:, :n]], values[taken[:, n:]] + difference, axis=1)
    return int((found.pvalue < LEVEL / n_measures).sum())


if __name__ == "__main__":
    main()
