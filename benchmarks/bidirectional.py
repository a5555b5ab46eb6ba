"""Receptive and projective fields at the paper's size: seconds and memory.

    python benchmarks/bidirectional.py [--device auto] [--small]

832 brains × 6 regions × 11 weights encoded, and 8 latents × 2,801 codes decoded, at 320 × 448, in
a process of its own, by a network as it is initialised: what it computes costs the same whatever
its weights.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from measure import GIB, Clock, heading, in_own_process, line, options, part, peak_gib

from brainvae_core.cohorts import simulate
from brainvae_core.fields import projective_field, receptive_field, weight_range
from brainvae_core.models import BetaVAE
from brainvae_core.models.devices import pick_device

ROIS = ("SSp", "HPF", "STR", "TH", "RSP", "HY")
LATENTS, WEIGHTS = 8, 11
LIMITS = {"cpu": "1200 s", "cuda": "15 s"}


def prepare(folder: Path, brains: int, shape) -> None:
    """Brains and the masks of their regions, as files: simulating takes memory of its own."""
    cohort = simulate(brains, shape=shape, seed=0)
    np.save(folder / "images.npy", cohort.images)
    np.save(folder / "masks.npy", cohort.atlas.roi_masks(ROIS))


def analyse(folder: Path, c: np.ndarray, device) -> dict[str, float]:
    """Seconds of both fields of all brains and latents, and GiB above the brains after each."""
    images, masks = np.load(folder / "images.npy"), np.load(folder / "masks.npy")
    model = BetaVAE(LATENTS, images.shape[1:]).to(device)
    z0 = model.encode(images[:1])[0].astype(np.float64)
    model.decode(z0[None])  # warms up
    before, clock = peak_gib(), Clock()
    asked = {"encoding": model.posterior, "decoding": model.decode}
    posterior, decode = (partial(clock, *of) for of in asked.items())
    clocked = SimpleNamespace(posterior=posterior, decode=decode)
    weights = clock("receptive", weight_range, images, masks, n_weights=WEIGHTS)
    clock("receptive", receptive_field, clocked, images, masks, weights)
    after = peak_gib() - before
    clock("projective", projective_field, clocked, z0, c)
    memory = {"receptive GiB": after, "GiB": peak_gib() - before, "brains GiB": images.nbytes / GIB}
    return {**clock, **memory}


def both_fields(folder: Path, brains: int, c: np.ndarray, device, limit: str) -> None:
    """Lines of the analysis as a whole."""
    found = in_own_process(analyse, folder, c, device)
    shares = (
        ("receptive", "encoding", f"{brains} × {len(ROIS)} × {WEIGHTS}"),
        ("projective", "decoding", f"{LATENTS} × {len(c):,}"),
    )
    for what, inside, n in shares:
        whole = found[what]
        share = f"{whole:.1f} s, of it {inside} {found[inside]:.1f} s ({found[inside] / whole:.0%})"
        line(f"{what} fields", share, n)
    line("both", f"{found['receptive'] + found['projective']:.1f} s", "", limit)
    above = f"{found['GiB']:.2f} GiB, after the receptive fields {found['receptive GiB']:.2f}"
    line("peak memory above the brains", above, f"brains {found['brains GiB']:.2f} GiB", "2 GiB")


def main():
    given = options(__doc__, "few brains, small, in a minute").parse_args()
    device = pick_device(given.device)
    brains, shape, n_c = (40, (80, 112), 281) if given.small else (832, (320, 448), 2801)
    limit = "" if given.small else LIMITS.get(device.type, "")
    note = f"{brains} brains at {shape[0]} × {shape[1]}."
    heading("Receptive and projective fields", device, note)
    with part("both fields"), tempfile.TemporaryDirectory(prefix="brainvae-fields-") as folder:
        in_own_process(prepare, Path(folder), brains, shape)
        both_fields(Path(folder), brains, np.linspace(-7, 7, n_c), device, limit)


if __name__ == "__main__":
    main()
