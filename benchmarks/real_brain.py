"""What models fitted to simulated brains make of a real brain, and of artefacts planted in it.

    python benchmarks/real_brain.py [--data $BRAINVAE_DATA] [--small]

The models are those of ``reach.py --shape 320 448 --betas 3 1 --only headline``, on sections
simulated on the CCF slice, and PCA with 30 components; what is missing is fitted. Each artefact is
planted in ten places of the real brain, and in as many simulated validation brains. Writes
``results/measured/real_brain.csv``, a row a score, and the picture of one place each in
``book/_static``; chapter 6 reads them.
"""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from measure import heading, line, options
from reach import ROOT, SMALL, Setting, interval
from realism import BRAIN

from brainvae_core import figures
from brainvae_core.cohorts import (
    ARTEFACTS,
    Cohort,
    comparable_brains,
    graded_artefacts,
    read_section,
)
from brainvae_core.metrics import explained_variance_per_brain, graded_removal
from brainvae_core.models import PCAConfig
from brainvae_core.models.devices import pick_device
from brainvae_core.models.vae import PAPER_SHAPE
from brainvae_core.results import write_measured

PLACES, STRENGTH = 10, 0.7


def planted(images, atlas):
    """Every artefact in brains that are known to be without."""
    scores = {f"{kind}_score": 0.0 for kind in ARTEFACTS}
    index = pd.RangeIndex(len(images), name="brain").astype(str)
    brains = Cohort(images, pd.DataFrame({"split": "test"} | scores, index), atlas)
    return graded_artefacts(brains, [STRENGTH], len(images))


def scored(run, graded, mean) -> list[tuple]:
    """Kind of artefact, score and value: means over the places, and of the brain without it."""
    back = graded_removal(run.model, graded, mean, ["grid"])
    answers = run.model.reconstruct(graded.clean)
    found = [("none", "explained", explained_variance_per_brain(graded.clean, answers, mean))]
    for kind, whole, lines in zip(graded.kinds, back.reproduced, back.pattern, strict=True):
        found.append((kind, "reproduced", lines if kind == "grid" else whole))
    return [(kind, score, float(values.mean())) for kind, score, values in found]


def main():
    parser = options(__doc__, "100 brains of 40 × 56, and nothing is written")
    parser.add_argument("--data", default=os.environ.get("BRAINVAE_DATA"))
    given = parser.parse_args()
    if not given.data:
        parser.error("no real data: give --data, or set BRAINVAE_DATA; see book/running.md")
    os.environ["BRAINVAE_DATA"] = given.data  # the cohort's atlas
    heading("A real brain", pick_device(given.device), f"{Path(BRAIN).stem}, CCF slice.")
    folder = ROOT / "_build/reach" / ("small" if given.small else "full")
    folder.mkdir(parents=True, exist_ok=True)
    asked = {"shape": PAPER_SHAPE, "timed": (2, 12)} | (SMALL if given.small else {})
    setting = Setting(given.device, folder, betas=(1.0, 3.0), **{"reference_seeds": 1} | asked)
    cohort = setting.cohort()
    mean, atlas = cohort.split("train").images.mean(axis=0), cohort.atlas
    section = read_section(Path(given.data, BRAIN))
    table = pd.DataFrame(index=pd.Index(["swcA"], name="brain"))
    real = comparable_brains([section], table, cohort, name="real").images
    brains = {
        "real brain": planted(real.repeat(PLACES, axis=0), atlas),
        "simulated brains": planted(cohort.split("validation").clean[:PLACES], atlas),
    }
    vaes = [
        setting.fast(beta=beta, seed=seed)
        for beta, seed in product(setting.betas, range(setting.seeds))
    ]
    rows, shown = [], {}
    for config in (PCAConfig(8), PCAConfig(30), *vaes):
        run, beta = setting.fit(cohort, config), getattr(config, "beta", None)
        model = {None: f"PCA, L = {config.latent_dim}", 1: "VAE", 3: "β-VAE"}[beta]
        if model not in shown:
            shown[model] = run.model.reconstruct(brains["real brain"].images[:, 0, 0])
        for of, graded in brains.items():
            seed = getattr(config, "seed", np.nan)
            rows += [
                (model, seed, of, *row, len(graded.clean)) for row in scored(run, graded, mean)
            ]
    columns = ["model", "seed", "of", "kind", "score", "value", "places"]
    results = pd.DataFrame(rows, columns=columns)
    for (of, kind, score, model), part in results.groupby(columns[2:5] + columns[:1], sort=False):
        line(f"{of}, {kind}, {score}, {model}", interval(part["value"]), f"{len(part)} fits")
    if given.small:
        return
    write_measured("real_brain", results, {"cohort": cohort.identity, "seed": 0})
    graded = brains["real brain"]
    truth = np.stack([graded.undamaged(kind)[0, 0] for kind in range(len(graded.kinds))])
    images, masks = graded.images[:, 0, 0], graded.masks[:, 0, 0]
    figure = figures.fig_2b(truth, images, shown, graded.kinds, atlas.pixel_um, masks)
    figure.savefig(ROOT / "book/_static/real_artefacts.png")


if __name__ == "__main__":
    main()
