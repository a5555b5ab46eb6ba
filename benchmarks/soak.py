"""Fits and analyses without end in one process: whether memory, open files and speed stay.

    python benchmarks/soak.py [--minutes 60] [--device cpu] [--small]

A round simulates brains, fits a growing β-VAE and PCA, reads both back, encodes, decodes, scores
and draws: of one size, from a seed of its own. A tenth of the rounds, at least ten, is warm-up; too
large a drift over the others, from their first tenth to their last, makes the exit status 1.
"""

import gc
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
from brainvae_core.fields import both_directions
from brainvae_core.models import BetaVAEConfig, PCAConfig, fit_all, load_run
from brainvae_core.models.devices import pick_device

STEPS, ROIS, C = "20x28: 6, 40x56: 6", ("SSp", "HPF", "STR", "TH"), np.linspace(-7, 7, 29)
# Allowed drift, and whether it is told only: a machine has other work, which moves its clock more
# than a process's own time.
DRIFT = {"memory (MB)": (0.02, False), "open files": (0, False), "threads": (0.05, False)}
DRIFT |= {"a round (s)": (0.05, True), "a round's processor time (s)": (0.10, False)}


def one_round(seed: int, device: str) -> None:
    """Brains, fits, codes, images, fields, scores and figures of one seed."""
    cohort = simulate(40, shape=(40, 56), seed=seed)
    masks, images = cohort.atlas.roi_masks(ROIS), cohort.split("test").images
    configs = [BetaVAEConfig(latent_dim=4, seed=seed, steps=STEPS, batch_size=8), PCAConfig(4)]
    with tempfile.TemporaryDirectory() as runs:
        vae, pca = (load_run(f.folder).model for f in fit_all(cohort, configs, runs, device))
    decoded = {"β-VAE": vae.reconstruct(images), "PCA": pca.reconstruct(images)}
    for answers in decoded.values():
        metrics.estimate(metrics.cw_ssim(images, answers, level=2))
    basis = metrics.pca_basis(cohort.split("train").images, 4)
    pair = basis.project(images), basis.project(decoded["β-VAE"])
    metrics.jackknife(metrics.frechet_distance, [pair], bounds=(0, np.inf))
    field = both_directions(vae, images, masks, C).receptive
    some = {name: answers[:3] for name, answers in decoded.items()}
    figures.fig_reconstructions(images[:3], some, 200, "123").savefig(io.BytesIO())
    figures.fig_3b(field.normalised(), ROIS, field.divergence.sum(1)).savefig(io.BytesIO())


def measured(process, seed: int, device: str) -> dict[str, float]:
    """What the process holds after a round, and what that took."""
    wall, processor = time.perf_counter(), time.process_time()
    one_round(seed, device)
    took = time.perf_counter() - wall, time.process_time() - processor
    gc.collect()  # what only waits to be collected is not held
    held = process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()
    return dict(zip(DRIFT, (*held, *took), strict=True))


def report_drift(rounds: pd.DataFrame) -> list[str]:
    """A line for all that was measured; gives the names of what drifted too far."""
    tenths = [rounds.iloc[part] for part in np.array_split(np.arange(len(rounds)), 10)]
    hours, failed = [tenth["hours"].mean() for tenth in tenths], []
    for name, (allowed, is_informative_only) in DRIFT.items():
        first, last = (tenths[i][name].median() for i in (0, -1))
        slope = stats.linregress(hours, [tenth[name].mean() for tenth in tenths])
        # What never changes has an error of NaN.
        half, drift = np.nan_to_num(stats.t.ppf(0.975, 8) * slope.stderr), last / first - 1
        if abs(drift) > allowed and not is_informative_only:
            failed.append(name)
        text = f"{first:.4g}, {last:.4g} ({drift:+.1%}); {slope.slope:+.3g} ± {half:.2g} an hour"
        limit = f"± {allowed:.0%}" + ", told only" * is_informative_only
        line(f"{name}, first and last tenth", text, f"{len(rounds)} rounds", limit)
    return failed


def main():
    parser = options(__doc__, "two minutes")
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    minutes = 2 if given.small else given.minutes
    heading("Soak", pick_device(given.device), f"{minutes:g} minutes.")
    rows, process, began = [], psutil.Process(), time.perf_counter()
    while (hours := (time.perf_counter() - began) / 3600) < minutes / 60 or len(rows) < 30:
        rows.append({"hours": hours} | measured(process, len(rows), given.device))
    if failed := report_drift(pd.DataFrame(rows)[max(10, len(rows) // 10) :]):
        raise SystemExit(f"error: {' and '.join(failed)} did not stay; see the lines above")


if __name__ == "__main__":
    main()
