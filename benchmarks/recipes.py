"""What each choice of the fast recipe gives, and the paper recipe's held-out ELBO beside it.

Every row is fitted with several seeds to one simulated cohort. Losses follow from seeds and steps,
not from the machine's mood: this may run beside other work. Results are appended to a CSV file as
they come, and rows that are in it are not fitted again.
"""

import argparse
import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from brainvae_core.cohorts import drawn_atlas, simulate
from brainvae_core.models import train_together
from brainvae_core.models.recipes import FastRecipe, PaperRecipe

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("out", type=Path, help="CSV file")
parser.add_argument("--shape", type=int, nargs=2, default=(40, 56), help="height and width")
parser.add_argument("--brains", type=int, default=1723)
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--steps", type=int, default=1000, help="of the fast recipe")
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument(
    "--paper-steps", type=int, default=0, help="of the paper recipe; 0 leaves it out"
)
options = parser.parse_args()

fast = FastRecipe().config(
    latent_dim=8, beta=3, steps=options.steps, batch_size=options.batch_size, validate_every=250
)
changes = {
    "fast": {},
    "the authors' initialisation": {"initialisation": "authors"},
    "no KL warm-up": {"kl_warmup": 0.0},
    "no learning-rate warm-up": {"lr_warmup": 0.0},
    "no cosine": {"lr_cosine": False},
    "the paper's learning rate": {"learning_rate": 2e-4},
    "learning rate 2e-3": {"learning_rate": 2e-3},
    "a quarter of the batch, as many images": {
        "batch_size": fast.batch_size // 4,
        "steps": 4 * fast.steps,
        "validate_every": 1000,
    },
    "bfloat16": {"precision": "bfloat16"},
    "half the steps": {"steps": fast.steps // 2},
    "twice the steps": {"steps": 2 * fast.steps},
    "four times the steps": {"steps": 4 * fast.steps},
}
rows = {name: replace(fast, **change) for name, change in changes.items()}
if options.paper_steps:
    paper = PaperRecipe().config(
        latent_dim=8, beta=3, steps=options.paper_steps, validate_every=1000
    )
    rows["paper"] = paper

cohort = simulate(options.brains, drawn_atlas(), tuple(options.shape), seed=0)
train, validation = (cohort.split(part).images for part in ("train", "validation"))
print(f"{cohort}, {options.seeds} seeds", flush=True)
known = set()
if options.out.exists():
    with options.out.open(newline="") as file:
        known = {row["row"] for row in csv.DictReader(file)}
for name, config in rows.items():
    if name in known:
        continue
    configs = [replace(config, seed=seed) for seed in range(options.seeds)]
    checkpoints = [options.out.with_name(f".{name}-{seed}") for seed in range(options.seeds)]
    fitted = train_together(configs, train, validation, checkpoints=checkpoints, device="cpu")
    new = not options.out.exists()
    with options.out.open("a", newline="") as file:
        columns = ["row", "seed", "step", "elbo", "explained_variance", "active_latents", "failure"]
        table = csv.DictWriter(file, columns)
        if new:
            table.writeheader()
        for seed, (_, history, failure) in enumerate(fitted):
            for row in history:
                values = {k: row[k] for k in ("step", "explained_variance", "active_latents")}
                loss = -row["validation_loss"]
                table.writerow(
                    {"row": name, "seed": seed, "elbo": loss, "failure": failure, **values}
                )
    ends = np.array([-f.history[-1]["validation_loss"] for f in fitted if not f.failure])
    half = stats.t.ppf(0.975, len(ends) - 1) * ends.std(ddof=1) / math.sqrt(len(ends))
    explained = np.mean([f.history[-1]["explained_variance"] for f in fitted if not f.failure])
    print(
        f"{name:40} held-out ELBO_β {ends.mean():9.1f} ± {half:.1f} nats, explains "
        f"{explained:.3f}, n = {len(ends)}, {config.steps} steps of {config.batch_size}",
        flush=True,
    )
