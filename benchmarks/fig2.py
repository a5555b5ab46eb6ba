"""The whole of Fig. 2 at the paper's size, once models are fitted: seconds and peak memory.

    python benchmarks/fig2.py [--device auto] [--small]

345 held-out brains × PCA, VAE and β-VAE × 22 numbers of latents: reconstructions, their CW-SSIM
(level 4, 8 orientations), PCA-FD of reconstructions, of samples of the prior and of the aggregate
posterior, and the artefacts of Fig. 2B. What a network computes costs the same whatever its
weights, so they are those of an initialisation. One fit a point, no intervals, and not the MS-SSIM
and PSNR that chapter 7 shows beside the figure. The cohort is made by another process and read
from disk, as a chapter reads it; its memory counts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measure import heading, line, part

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


def models(latent_dim: int, widest: PCA, device):
    """PCA, a VAE and a β-VAE of so many latents."""
    torch.manual_seed(latent_dim)
    vaes = [BetaVAE(latent_dim, widest.image_shape).to(device) for _ in range(2)]
    return (widest.truncated(latent_dim), *vaes)


def fig2(parts, corrupted, widest: PCA, latent_dims, level: int, device) -> dict[str, float]:
    """Seconds of each part of the figure, of training, validation and test brains."""
    seconds = dict.fromkeys(("reconstructions", "CW-SSIM", "samples", "PCA-FD"), 0.0)

    def timed(name, function, *args):
        start = time.perf_counter()
        found = function(*args)
        seconds[name] += time.perf_counter() - start
        return found

    train, validation, test = parts
    basis, rng = pca_basis(validation, 16), np.random.default_rng(0)
    half = len(test) // 2
    similarity = timed("CW-SSIM", CWSSIM, test, level)
    real = timed("PCA-FD", basis.project, test[:half])
    for latent_dim in latent_dims:
        prior = rng.standard_normal((half, latent_dim)).astype(np.float32)
        for model in models(latent_dim, widest, device):
            seen = timed("reconstructions", model.reconstruct, test)
            timed("reconstructions", model.reconstruct, corrupted)
            timed("CW-SSIM", similarity, seen)
            codes = timed("samples", aggregate_codes, model, train, half)
            sides = [seen[half : 2 * half]]
            sides += [timed("samples", model.decode, z) for z in (prior, codes)]
            for side in sides:
                timed("PCA-FD", frechet_distance, real, timed("PCA-FD", basis.project, side))
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="40 brains at 80 × 112, 3 of the 22")
    options = parser.parse_args()
    device = pick_device(options.device)
    small = options.small
    brains, shape = (40, (80, 112)) if small else (HELD_OUT, SHAPE)
    latent_dims, level = (LATENT_DIMS[::8], 2) if small else (LATENT_DIMS, LEVEL)
    heading("Fig. 2", device, f"{brains} held-out brains at {shape[0]} × {shape[1]}.")
    with part("fig. 2"), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cohort"
        maker = multiprocessing.get_context("spawn").Process(
            target=make_cohort, args=(path, 5 * brains, shape)
        )
        maker.start()
        maker.join()
        cohort = open_cohort(path)
        corrupted = corrupted_brains(cohort).images[:3]
        parts = [cohort.split(name).images for name in ("train", "validation", "test")]
        del cohort
        widest = PCA.fit(parts[0][: max(latent_dims) + 20], max(latent_dims))
        before = _peak_gib()
        seconds = fig2(parts, corrupted, widest, latent_dims, level, device)
        count = f"{brains} × 3 × {len(latent_dims)}"
        for name, value in seconds.items():
            line(f"of it {name}", f"{value:.1f} s", count)
        limit = "" if small else LIMITS.get(device.type, "")
        line("Fig. 2 of fitted models", f"{sum(seconds.values()):.1f} s", count, limit)
        line("peak memory, the whole cohort in it", f"{_peak_gib():.2f} GiB", "", "4 GiB")
        line("… of it to read and split the cohort", f"{before:.2f} GiB")


def _peak_gib() -> float:
    unit = 2**20 if sys.platform == "linux" else 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
