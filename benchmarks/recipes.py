"""What each choice of the fast recipe gives, and the paper recipe beside it.

Every row is fitted with several seeds to one simulated cohort. Losses follow from seeds and steps,
not from the machine's mood: this may run beside other work. Results are appended to a CSV file as
they come, each with its whole configuration; what is in it is not fitted again.

ELBO_β is −D − βR with the β of the paper, whatever a row's own objective.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from measure import interval
from setting import AT_40_X_56, POINT

from brainvae_core.cohorts import drawn_atlas, simulate
from brainvae_core.models import elbo_terms, train_together, training
from brainvae_core.models.initialisation import INITIALISATIONS, data
from brainvae_core.models.recipes import FastRecipe, PaperRecipe

FOUND = ("elbo_beta", "validation_loss", "rate", "distortion", "explained_variance")
FOUND += ("active_latents", "failure")
AVERAGED = "weights averaged"  # rows that begin so end with their last quarter's mean weights
SNAPSHOTS = 10


def without_mean_image(model, images, seed):
    """Data initialisation whose output starts at grey 0.5."""
    data(model, images, seed)
    model.output_offset.zero_()


def on_raw_greys(model, images, seed):
    """Data initialisation that neither centres nor scales the input; layers are spread as ever."""
    data(model, RawGreys(images), seed)
    model.output_offset.copy_(torch.logit(torch.from_numpy(images.mean), eps=1e-3).float())


class RawGreys:
    """`Images` that pass for centred and scaled."""

    def __init__(self, images):
        self.images, self.take = images, images.take
        self.mean = np.zeros(images.shape[1:])
        self.sum_of_squares = float(np.prod(images.shape))

    def __len__(self):
        return len(self.images)


class MeanWeights(dict):
    """Mean weights of fits over the ends of their last quarter, by seed; receives checkpoints."""

    def __call__(self, path, config, model, optimiser, history):
        if history[-1]["step"] > 0.75 * config.steps:
            weights = {name: value.cpu().double() for name, value in model.state_dict().items()}
            before, n = self.get(config.seed, (weights, 0))
            mean = {name: (n * before[name] + weights[name]) / (n + 1) for name in weights}
            self[config.seed] = mean, n + 1

    def row(self, config, images):
        """What a history would say of the mean weights' model."""
        mean, _ = self[config.seed]
        model = config.restore({name: value.float().numpy() for name, value in mean.items()})
        distortion, rate = (terms.mean() for terms in elbo_terms(model, config, images))
        residual = np.square(model.reconstruct(images) - images, dtype=np.float64).sum()
        total = np.square(images - images.mean(0, dtype=np.float64)).sum()
        return {
            "step": config.steps,
            "validation_loss": distortion + config.beta * rate,
            "validation_reconstruction": distortion,
            "validation_kl": rate,
            "explained_variance": 1 - residual / total,
            "active_latents": int((model.encode(images).var(0, ddof=1) > training.ACTIVE).sum()),
        }


INITIALISATIONS |= {"without mean image": without_mean_image, "on raw greys": on_raw_greys}


def rows_of(given) -> dict:
    """A configuration a row, by name."""
    # Gaussian whatever the recipes say: at 40 × 56 Bernoulli's β would be 64 times the paper's.
    changes = {**POINT, **AT_40_X_56}
    fast = FastRecipe().config(
        steps=given.steps, batch_size=given.batch_size, validate_every=250, **changes
    )
    often = {"validate_every": max(1, given.steps // (4 * SNAPSHOTS))}
    choices = {
        "fast": {},
        "the authors' initialisation": {"initialisation": "authors"},
        "no mean-image start": {"initialisation": "without mean image"},
        "raw input, otherwise data initialisation": {"initialisation": "on raw greys"},
        "no KL warm-up": {"kl_warmup": 0.0},
        "with a learning-rate warm-up": {"lr_warmup": 0.05},
        "with a cosine": {"lr_cosine": True},
        "the paper's learning rate": {"learning_rate": 2e-4},
        "learning rate 2e-3": {"learning_rate": 2e-3},
        "a quarter of the batch, as many images": {
            "batch_size": max(1, fast.batch_size // 4),
            "steps": 4 * fast.steps,
            "validate_every": 1000,
        },
        "bfloat16": {"precision": "bfloat16"},
        f"{AVERAGED} over the last quarter": often,
        f"{AVERAGED} over the last quarter, with a cosine": {"lr_cosine": True, **often},
        "half the steps": {"steps": fast.steps // 2},
        "twice the steps": {"steps": 2 * fast.steps},
        "four times the steps": {"steps": 4 * fast.steps},
        "objective capacity": {"objective": "capacity", "beta": 100},
        "objective total correlation": {"objective": "total_correlation"},
        "objective mmd": {"objective": "mmd"},
    }
    rows = {name: replace(fast, **choice) for name, choice in choices.items()}
    if given.paper_steps:
        rows["paper"] = PaperRecipe().config(
            steps=given.paper_steps, validate_every=1000, **changes
        )
    return rows


def identity(name: str, config, given) -> dict[str, str]:
    """All that a fit's numbers follow from, as a CSV file has it."""
    height, width = given.shape
    cohort = {"height": height, "width": width, "brains": given.brains}
    return {k: str(v) for k, v in {"row": name, **cohort, **asdict(config)}.items()}


def checkpoints_of(name, configs, given) -> list[Path]:
    """Files beside the CSV file that no other fit takes for its own."""
    described = [json.dumps(identity(name, config, given)) for config in configs]
    digests = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in described]
    return [given.out.with_name(f".{given.out.name}-{digest}") for digest in digests]


def fitted_rows(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """What is in the CSV file; ValueError where it is another table."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        table = csv.DictReader(file)
        other = set(table.fieldnames or ()) ^ set(columns)
        if other:
            raise ValueError(
                f"{path} has other columns ({', '.join(sorted(other))} differ); name a new file"
            )
        return list(table)


def fit_row(name, configs, train, validation, given) -> list[dict]:
    """A history row each, with what its fit is."""
    if name.startswith(AVERAGED):
        mean = MeanWeights()
        with mock.patch.object(training, "save_checkpoint", mean):
            fitted = train_together(configs, train, validation, device=given.device)
        for config, (_, history, failure) in zip(configs, fitted, strict=True):
            if not failure:
                history[:] = [mean.row(config, validation)]
    else:
        checkpoints = checkpoints_of(name, configs, given)
        fitted = train_together(
            configs, train, validation, checkpoints=checkpoints, device=given.device
        )
    rows = []
    for config, (_, history, failure) in zip(configs, fitted, strict=True):
        for row in history or [dict.fromkeys(("step", "explained_variance", "active_latents"))]:
            distortion, rate = row.get("validation_reconstruction"), row.get("validation_kl")
            found = {k: row.get(k) for k in FOUND} | {"rate": rate, "distortion": distortion}
            found["elbo_beta"] = None if rate is None else -distortion - POINT["beta"] * rate
            found["failure"] = failure or ""
            rows.append(identity(name, config, given) | {"step": row["step"]} | found)
    return rows


def told(name, config, ends) -> str:
    """The last rows of some seeds' fits in a line."""
    whole = [row for row in ends if not row["failure"]]
    text = f"{name:44} {config.steps} steps of {config.batch_size}, n = {len(whole)}"
    if len(whole) < len(ends):
        text += f" ({len(ends) - len(whole)} failed)"
    units = {"elbo_beta": "nats", "distortion": "nats", "rate": "nats", "explained_variance": ""}
    for column, unit in units.items() if whole else ():
        text += f"; {column} {interval([float(row[column]) for row in whole])} {unit}".rstrip()
    return text


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="CSV file")
    parser.add_argument("--shape", type=int, nargs=2, default=[40, 56], help="height and width")
    parser.add_argument("--brains", type=int, default=1723)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of the fast recipe")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument(
        "--paper-steps", type=int, default=0, help="of the paper recipe; 0 leaves it out"
    )
    parser.add_argument("--only", nargs="+", help="rows, by name")
    parser.add_argument("--device", default="auto")
    return parser


def main():
    given = options().parse_args()
    choices = rows_of(given)
    unknown = set(given.only or ()) - set(choices)
    if unknown:
        raise SystemExit(f"{', '.join(sorted(unknown))}: no such row; {', '.join(choices)} exist")
    columns = [*identity("fast", choices["fast"], given), "step", *FOUND]
    table = fitted_rows(given.out, columns)
    cohort = simulate(given.brains, drawn_atlas(), tuple(given.shape), seed=0)
    train, validation = (cohort.split(part).images for part in ("train", "validation"))
    print(f"{cohort}, {given.seeds} seeds", flush=True)
    for name in given.only or choices:
        configs = [replace(choices[name], seed=seed) for seed in range(given.seeds)]
        missing = [c for c in configs if not ends_of([identity(name, c, given)], table)]
        if missing:
            found = fit_row(name, missing, train, validation, given)
            new = not given.out.exists()
            with given.out.open("a", newline="") as file:
                writer = csv.DictWriter(file, columns)
                if new:
                    writer.writeheader()
                writer.writerows(found)
            table += found
            for checkpoint in checkpoints_of(name, missing, given):
                checkpoint.unlink(missing_ok=True)
        ends = ends_of([identity(name, c, given) for c in configs], table)
        print(told(name, choices[name], ends), flush=True)


def ends_of(identities, table) -> list[dict]:
    """The last row of each fit that the table has to its end."""
    ends = []
    for whose in identities:
        rows = [row for row in table if whose.items() <= row.items()]
        if rows and (rows[-1]["failure"] or str(rows[-1]["step"]) == whose["steps"]):
            ends.append(rows[-1])
    return ends


if __name__ == "__main__":
    main()
