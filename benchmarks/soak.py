"""Fits and analyses without end in one process: whether memory, open files and speed stay.

    python benchmarks/soak.py [--minutes 60] [--device cpu] [--small]

Every round simulates brains, fits a growing β-VAE and PCA, reads them back, encodes, decodes,
scores and draws, all of one size and each from a seed of its own. A tenth of the time is warm-up;
what drifts too far from the first to the last tenth of the rest makes the exit status 1.
"""

from __future__ import annotations

import io
import tempfile
import time

import numpy as np
import pandas as pd
import psutil
from measure import heading, line, options
from scipy import stats

from brainvae_core import figures, metrics
from brainvae_core.cohorts import simulate
from brainvae_core.fields import both_directions, weight_range
from brainvae_core.models import BetaVAEConfig, PCAConfig, fit_all, load_run
from brainvae_core.models.devices import pick_device

STEPS, ROIS, C = "20x28: 6, 40x56: 6", ("SSp", "HPF", "STR", "TH"), np.linspace(-7, 7, 29)
# Its unit, the drift from the first to the last tenth that is allowed, and whether it is told only.
DRIFT = {
    "memory": ("MB", 0.02, False),
    "open files": ("", 0.05, False),
    "threads": ("", 0.05, False),
    "a round": ("s", 0.05, True),
    "a round's processor time": ("s", 0.05, True),
}


def one_round(seed: int, device: str) -> None:
    """Brains, fits, codes, images, fields, scores and figures of one seed."""
    cohort = simulate(40, shape=(40, 56), seed=seed)
    masks, images = cohort.atlas.roi_masks(ROIS), cohort.split("test").images
    mean = cohort.split("train").images.mean(axis=0)
    configs = [BetaVAEConfig(latent_dim=4, seed=seed, steps=STEPS, batch_size=8), PCAConfig(4)]
    with tempfile.TemporaryDirectory() as runs:
        fits = fit_all(cohort, configs, runs, device)
        fits = [load_run(run.folder) for run in fits]
    painted = {run.config.kind: run.model.reconstruct(images) for run in fits}
    for answers in painted.values():
        metrics.estimate(metrics.cw_ssim(images, answers, level=2))
        metrics.explained_variance(images, answers, mean)
    basis = metrics.pca_basis(cohort.split("train").images, 4)
    half = basis.project(images), basis.project(painted["beta_vae"])
    metrics.jackknife(metrics.frechet_distance, [half], bounds=(0, np.inf))
    read = both_directions(fits[0].model, images, masks, C, weight_range(images, masks))
    total = read.receptive.divergence.sum(axis=1)
    drawn = [
        figures.fig_reconstructions(images[:3], {k: v[:3] for k, v in painted.items()}, 200, "123"),
        figures.fig_3b(read.receptive.normalised(), ROIS, total),
    ]
    for figure in drawn:
        figure.savefig(io.BytesIO())


def measured(process, seed: int, device: str) -> dict[str, float]:
    """What a round takes, and what the process holds after it."""
    wall, processor = time.perf_counter(), time.process_time()
    one_round(seed, device)
    took = time.perf_counter() - wall, time.process_time() - processor
    held = process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()
    return dict(zip(DRIFT, (*held, *took), strict=True))


def judged(rounds: pd.DataFrame) -> list[str]:
    """A line for all that was measured; gives the names of what drifted too far."""
    tenths = [rounds.iloc[part] for part in np.array_split(np.arange(len(rounds)), 10)]
    hours, failed = [tenth["hours"].mean() for tenth in tenths], []
    for name, (unit, allowed, is_told_only) in DRIFT.items():
        first, last = (tenths[i][name].median() for i in (0, -1))
        slope = stats.linregress(hours, [tenth[name].mean() for tenth in tenths])
        half, drift = stats.t.ppf(0.975, 8) * slope.stderr, last / first - 1
        if abs(drift) > allowed and not is_told_only:
            failed.append(name)
        ends = f"{first:.4g} and {last:.4g} {unit} ({drift:+.2%})"
        limit = f"± {allowed:.0%}{', told only' * is_told_only}"
        told = f"{ends}; {slope.slope:+.3g} ± {half:.2g} an hour"
        line(f"{name}, first and last tenth", told, f"{len(rounds)} rounds", limit)
    return failed


def main():
    parser = options(__doc__, "a minute")
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    minutes = 1 if given.small else given.minutes
    heading("Soak", pick_device(given.device), f"{minutes:g} minutes, a tenth of them warm-up.")
    rows, process, began = [], psutil.Process(), time.perf_counter()
    while (hours := (time.perf_counter() - began) / 3600) < minutes / 60:
        rows.append({"hours": hours} | measured(process, len(rows), given.device))
    rounds = pd.DataFrame(rows)
    if failed := judged(rounds[rounds["hours"] > minutes / 600]):
        raise SystemExit(f"error: {' and '.join(failed)} did not stay; see the lines above")


if __name__ == "__main__":
    main()
