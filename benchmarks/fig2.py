"""The whole of Fig. 2 at the paper's size, once models are fitted: seconds and peak memory.

    python benchmarks/fig2.py [--device auto] [--small]

345 held-out brains × PCA, VAE and β-VAE × 22 numbers of latents: reconstructions, their CW-SSIM
(level 4, 8 orientations), PCA-FD of reconstructions, of samples of the prior and of the aggregate
posterior, and the artefacts of Fig. 2B, by networks as they are initialised: one fit a point, no
intervals. The cohort is read from disk, as a chapter reads it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import Clock, heading, in_own_process, line, options, part, peak_gib

from brainvae_core.cohorts import Cohort, corrupted_brains, open_cohort, simulate
from brainvae_core.metrics import CWSSIM, aggregate_codes, frechet_distance, pca_basis
from brainvae_core.models import PCA, BetaVAE
from brainvae_core.models.devices import pick_device

HELD_OUT, SHAPE, LEVEL = 345, (320, 448), 4
LATENT_DIMS = (*range(2, 21), 30, 50, 100)
LIMITS = {"cpu": "600 s", "cuda": "60 s"}


def make_cohort(path: Path, n_brains: int, shape) -> None:
    """Simulated brains on disk, without their truth, which a real cohort has not."""
    made = simulate(n_brains, shape=shape, seed=0)
    Cohort(made.images, made.metadata, made.atlas, name=made.name).save(path)


def fig2(parts, corrupted, widest: PCA, latent_dims, level: int, device) -> None:
    """Every number of the figure, of training, validation and test brains."""
    train, validation, test = parts
    basis, rng = pca_basis(validation, 16), np.random.default_rng(0)
    half, similarity = len(test) // 2, CWSSIM(test, level)
    real = basis.project(test[:half])
    for latent_dim in latent_dims:
        prior = rng.standard_normal((half, latent_dim)).astype(np.float32)
        torch.manual_seed(latent_dim)
        vaes = [BetaVAE(latent_dim, widest.image_shape).to(device) for _ in range(2)]
        for model in (widest.truncated(latent_dim), *vaes):
            seen, codes = model.reconstruct(test), aggregate_codes(model, train, half)
            model.reconstruct(corrupted)
            similarity(seen)
            for side in (seen[half : 2 * half], model.decode(prior), model.decode(codes)):
                frechet_distance(real, basis.project(side))


def whole_figure(folder: Path, brains: int, shape, latent_dims, level: int, device, limit: str):
    """Lines of the figure, from a saved cohort on."""
    in_own_process(make_cohort, folder / "cohort", 5 * brains, shape)
    cohort = open_cohort(folder / "cohort")
    corrupted = corrupted_brains(cohort).images[:3]
    parts = [cohort.split(name).images for name in ("train", "validation", "test")]
    del cohort
    widest = PCA.fit(parts[0][: max(latent_dims) + 20], max(latent_dims))
    before, clock, count = peak_gib(), Clock(), f"{brains} × 3 × {len(latent_dims)}"
    clock("figure", fig2, parts, corrupted, widest, latent_dims, level, device)
    line("Fig. 2 of fitted models", f"{clock['figure']:.1f} s", count, limit)
    line("peak memory, the whole cohort in it", f"{peak_gib():.2f} GiB", "", "4 GiB")
    line("… of it to read and split the cohort", f"{before:.2f} GiB")


def main():
    given = options(__doc__, "40 brains at 80 × 112, 3 of the 22").parse_args()
    device, small = pick_device(given.device), given.small
    brains, shape = (40, (80, 112)) if small else (HELD_OUT, SHAPE)
    latent_dims, level = (LATENT_DIMS[::8], 2) if small else (LATENT_DIMS, LEVEL)
    limit = "" if small else LIMITS.get(device.type, "")
    heading("Fig. 2", device, f"{brains} held-out brains at {shape[0]} × {shape[1]}.")
    with part("fig. 2"), tempfile.TemporaryDirectory() as folder:
        whole_figure(Path(folder), brains, shape, latent_dims, level, device, limit)


if __name__ == "__main__":
    main()
