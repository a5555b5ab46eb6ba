"""Whether the rule for the number of latents finds how many factors were planted.

    python benchmarks/knee.py [--small]

The book's brains differ by eight factors. Here PCA and the β-VAE of the profile ``full`` are fitted
over L to brains that differ by fourteen: those of the simulator *smooth* of chapter 10. Writes
``results/measured/knee.csv``, a row a fit, which chapter 4 reads.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from measure import heading, line, options

from brainvae_core.metrics import knee_over_seeds
from brainvae_core.models import fit_all
from brainvae_core.models.devices import pick_device
from brainvae_core.prepare import truth_cohort
from brainvae_core.results import write_measured
from brainvae_core.settings import read_profile
from brainvae_core.study import grid

LATENT_DIMS = (4, 8, 10, 12, 14, 16, 20)
SMALL = {"cohort.n_brains": 100, "grid.shape": (40, 56), "grid.steps": 20, "grid.seeds": (0, 1)}
SMALL |= {"places.runs": str(Path(__file__).parent.parent / "_build/knee")}


def main():
    given = options(__doc__, "100 brains of 40 × 56, and nothing is written").parse_args()
    heading("The number of factors", pick_device(given.device))
    p = read_profile("full", enter=True)
    p = p.changed(SMALL) if given.small else p
    cohort = truth_cohort(p, "smooth")
    asked = replace(grid(p), betas=[p.model.beta], latent_dims=LATENT_DIMS)
    runs = fit_all(cohort, asked.configs, p.places.runs, given.device, p.places.together)
    rows = pd.DataFrame(
        {
            "model": "β-VAE" if hasattr(run.config, "beta") else "PCA",
            "latent_dim": run.config.latent_dim,
            "seed": getattr(run.config, "seed", 0),
            "explained": run.history[-1]["explained_variance"],
            "loss": run.history[-1].get("validation_loss"),
        }
        for run in runs
    ).assign(factors=cohort.factors.shape[1], brains=len(cohort.split("validation")))
    for model, of in rows.groupby("model", sort=False):
        explained = of.set_index(["latent_dim", "seed"])["explained"].unstack()
        knee = knee_over_seeds(LATENT_DIMS, explained.to_numpy(), shape="concave rising")
        means = ", ".join(f"{n}: {x:.3f}" for n, x in explained.mean(axis=1).items())
        line(f"{model}, explained with L latents", means, f"{explained.shape[1]} fits")
        line(f"{model}, its knee", f"L = {knee.at:g} {list(knee.interval)}")
    if not given.small:
        write_measured("knee", rows, {"cohort": cohort.identity, "seed": p.cohort.seed})


if __name__ == "__main__":
    main()
