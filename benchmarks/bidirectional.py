"""Receptive and projective fields at the paper's size and at the demo's: seconds and memory.

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
from typing import NamedTuple

import numpy as np
from measure import GIB, Clock, heading, in_own_process, line, options, part, peak_gib

from brainvae_core.cohorts import simulate
from brainvae_core.fields import projective_field, receptive_field, weight_range
from brainvae_core.models import BetaVAE
from brainvae_core.models.devices import pick_device

ROIS = ("SSp", "HPF", "STR", "TH", "RSP", "HY")
LATENTS, C_MAX = 8, 7.0


class Size(NamedTuple):
    """What the fields are taken of."""

    name: str
    brains: int
    shape: tuple[int, int]
    n_weights: int
    n_steps: int  # of c on either side of 0
    limits: dict[str, str]

    @property
    def c(self) -> np.ndarray:
        return np.arange(-self.n_steps, self.n_steps + 1) * (C_MAX / self.n_steps)


PAPER = Size("paper", 832, (320, 448), 11, 1400, {"cpu": "1200 s", "cuda": "15 s"})
DEMO = Size("demo", 181, (160, 224), 5, 1400, {"cpu": "60 s", "cuda": "60 s"})
SMALL = (
    Size("paper, small", 40, (80, 112), 11, 140, {}),
    Size("demo, small", 20, (40, 56), 5, 140, {}),
)


def prepare(folder: Path, size: Size) -> None:
    """Brains and the masks of their regions, as files: simulating takes memory of its own."""
    cohort = simulate(size.brains, shape=size.shape, seed=0)
    np.save(folder / "images.npy", cohort.images)
    np.save(folder / "masks.npy", cohort.atlas.roi_masks(ROIS))


def analyse(folder: Path, size: Size, device) -> dict[str, float]:
    """Seconds of both fields of all brains and latents, and GiB above the brains after each."""
    images, masks = np.load(folder / "images.npy"), np.load(folder / "masks.npy")
    model = BetaVAE(LATENTS, size.shape).to(device)
    z0 = model.encode(images[:1])[0].astype(np.float64)
    model.decode(z0[None])  # warms up
    before, clock = peak_gib(), Clock()
    asked = {"encoding": model.posterior, "decoding": model.decode}
    posterior, decode = (partial(clock, *of) for of in asked.items())
    clocked = SimpleNamespace(posterior=posterior, decode=decode)
    weights = clock("receptive", weight_range, images, masks, n_weights=size.n_weights)
    clock("receptive", receptive_field, clocked, images, masks, weights)
    after = peak_gib() - before
    clock("projective", projective_field, clocked, z0, size.c)
    memory = {"receptive GiB": after, "GiB": peak_gib() - before, "brains GiB": images.nbytes / GIB}
    return {**clock, **memory}


def both_fields(folder: Path, size: Size, device) -> None:
    """Lines of the analysis as a whole."""
    found = in_own_process(analyse, folder, size, device)
    encoded = f"{size.brains} × {len(ROIS)} × {size.n_weights}"
    decoded = f"{LATENTS} × {len(size.c):,}"
    shares = (("receptive", "encoding", encoded), ("projective", "decoding", decoded))
    for what, inside, n in shares:
        whole = found[what]
        share = f"{whole:.1f} s, of it {inside} {found[inside]:.1f} s ({found[inside] / whole:.0%})"
        line(f"{size.name}: {what} fields", share, n)
    seconds = found["receptive"] + found["projective"]
    line(f"{size.name}: both", f"{seconds:.1f} s", "", size.limits.get(device.type, ""))
    above = f"{found['GiB']:.2f} GiB, after the receptive fields {found['receptive GiB']:.2f}"
    brains = f"brains {found['brains GiB']:.2f} GiB"
    line(f"{size.name}: peak memory above the brains", above, brains, "2 GiB")


def main():
    given = options(__doc__, "few brains, small, in a minute").parse_args()
    device = pick_device(given.device)
    sizes = SMALL if given.small else (PAPER, DEMO)
    sized = [f"{s.name}: {s.brains} brains at {s.shape[0]} × {s.shape[1]}" for s in sizes]
    heading("Receptive and projective fields", device, f"{'; '.join(sized)}.")
    for size in sizes:
        with part(size.name), tempfile.TemporaryDirectory(prefix="brainvae-fields-") as folder:
            in_own_process(prepare, Path(folder), size)
            both_fields(Path(folder), size, device)


if __name__ == "__main__":
    main()
