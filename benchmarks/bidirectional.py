"""Receptive and projective fields at the paper's size and at the demo's: seconds and memory.

    python benchmarks/bidirectional.py [--device auto] [--small]

832 brains × 6 regions × 11 weights encoded, and 8 latents × 2,801 codes decoded, at 320 × 448. The
projective field of one latent is then taken in turn with the ways that keep its images: one image
at a time into a list and np.array of it, as the authors' notebook does (which so holds all 8
latents), and in batches into one array; both with np.var of each quartile and of all. Every
measurement is a process of its own. A fit of a few steps gives the network: what it computes costs
the same whatever its weights.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measure import (
    GIB,
    Clock,
    heading,
    in_own_process,
    interleaved,
    line,
    options,
    part,
    peak_gib,
    spread,
)

from brainvae_core.cohorts import simulate
from brainvae_core.fields import projective_field, receptive_field, weight_range
from brainvae_core.models import BetaVAEConfig
from brainvae_core.models.devices import pick_device

ROIS = ("SSp", "HPF", "STR", "TH", "RSP", "HY")
CONFIG = BetaVAEConfig(steps=20, validate_every=20)
C_MAX = 7.0
WRONG = 1e-3  # of the largest variance: single precision does better, no other figure is so near
STREAMED = "ours, streamed"
KEPT = {"one image at a time, as the notebook": 1, "in batches of 64": 64}


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


class Clocked:
    """A model whose seconds are counted."""

    def __init__(self, model, clock: Clock):
        self.posterior = partial(clock, "encoding", model.posterior)
        self.decode = partial(clock, "decoding", model.decode)


class Along:
    """A model of one latent: another one's decoder along latent k, the others as in z0."""

    def __init__(self, model, z0: np.ndarray, k: int):
        self.model, self.z0, self.k = model, z0, k

    def decode(self, z):
        codes = np.tile(self.z0.astype(np.float32), (len(z), 1))
        codes[:, self.k] = z[:, 0]
        return self.model.decode(codes)


def prepare(folder: Path, size: Size, device) -> None:
    """Brains, the masks of their regions and a model of them, as files."""
    cohort = simulate(size.brains, shape=size.shape, seed=0)
    model, _ = CONFIG.fit(cohort.images[:64], cohort.images[-16:], device=device)
    np.save(folder / "images.npy", cohort.images)
    np.save(folder / "masks.npy", cohort.atlas.roi_masks(ROIS))
    np.savez(folder / "model.npz", **model.tensors())


def prepared(folder: Path, images: np.ndarray, device):
    """The model, warm, and the code of the first of these images."""
    with np.load(folder / "model.npz") as tensors:
        model = CONFIG.restore(dict(tensors)).to(device)
    z0 = model.encode(images)[0].astype(np.float64)
    model.decode(z0[None])
    return model, z0


def receptive(model, images, masks, n_weights: int):
    """The receptive fields of all regions."""
    weights = weight_range(images, masks, n_weights=n_weights)
    return receptive_field(model, images, masks, weights)


def analyse(folder: Path, size: Size, device) -> dict[str, float]:
    """Seconds of both fields of all brains and latents, and GiB above the brains after each."""
    images, masks = np.load(folder / "images.npy"), np.load(folder / "masks.npy")
    model, z0 = prepared(folder, images[:1], device)
    before, clock = peak_gib(), Clock()
    clocked = Clocked(model, clock)
    clock("receptive", receptive, clocked, images, masks, size.n_weights)
    after = peak_gib() - before
    clock("projective", projective_field, clocked, z0, size.c)
    memory = {"receptive GiB": after, "GiB": peak_gib() - before, "brains GiB": images.nbytes / GIB}
    return {**clock, **memory}


def variances(folder: Path, size: Size, device, at_once: int | None) -> tuple:
    """Seconds, GiB and variances (5, height, width) of one latent: four quartiles and all.

    Images are streamed, or kept and decoded so many at once.
    """
    first = np.array(np.load(folder / "images.npy", mmap_mode="r")[:1])
    model, z0 = prepared(folder, first, device)
    before, clock = peak_gib(), Clock()
    if at_once is None:
        field = clock("", projective_field, Along(model, z0, 0), z0[:1], size.c)
        found = np.concatenate([field.variance[0], field.variance_all])
    else:
        found = clock("", kept, model, z0, 0, size.c, at_once)
    return clock[""], peak_gib() - before, found


def kept(model, z0: np.ndarray, k: int, c: np.ndarray, at_once: int) -> np.ndarray:
    """Variances of the four quartiles and of all, from all images of a latent in memory."""
    codes = np.tile(z0, (len(c), 1)).astype(np.float32)
    codes[:, k] = z0[k] + c
    if at_once == 1:
        images = np.array([model.decode(code[None])[0] for code in codes])
    else:
        images = np.empty((len(c), *model.decode(codes[:1]).shape[1:]), np.float32)
        for i in range(0, len(c), at_once):
            images[i : i + at_once] = model.decode(codes[i : i + at_once])
    n = len(c) // 2  # c[n] is 0, and belongs to no quartile
    bounds = [(0, n // 2), (n // 2, n), (n + 1, n + 1 + n // 2), (n + 1 + n // 2, len(c))]
    return np.stack([images[a:b].var(axis=0) for a, b in bounds] + [images.var(axis=0)])


def both_fields(folder: Path, size: Size, device) -> None:
    """Lines of the analysis as a whole."""
    found = in_own_process(analyse, folder, size, device)
    encoded = f"{size.brains} × {len(ROIS)} × {size.n_weights}"
    decoded = f"{CONFIG.latent_dim} × {len(size.c):,}"
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


def against_kept(folder: Path, size: Size, device, rounds: int) -> None:
    """Lines of one latent streamed and kept: time, memory, and that the variances are the same."""
    memory, answers = {}, {}

    def contender(name, at_once):
        seconds, gib, answers[name] = in_own_process(variances, folder, size, device, at_once)
        memory.setdefault(name, []).append(gib)
        return seconds

    ways = {STREAMED: None, **KEPT}
    seconds = interleaved({name: partial(contender, name, n) for name, n in ways.items()}, rounds)
    for name in ways:
        figure = f"{spread(seconds[name])}, {spread(memory[name], 'GiB')}"
        line(f"one latent, {name}", figure, f"{rounds} × {len(size.c):,}")
    everything = CONFIG.latent_dim * len(size.c) * size.shape[0] * size.shape[1] * 4 / GIB
    line("all latents' images in one array, as the notebook", f"{everything:.1f} GiB (computed)")
    ours = answers[STREAMED]
    for name in KEPT:
        times = np.divide(seconds[name], seconds[STREAMED])
        gib = np.divide(memory[name], memory[STREAMED])
        line(f"{name}, over ours", f"{spread(times, '× the time')}, {spread(gib, '× the memory')}")
        apart, largest = np.abs(answers[name] - ours).max(), ours.max()
        figure = f"{apart:.2g} of variances up to {largest:.2g}"
        line(f"{name}, largest difference from ours", figure, f"{ours.size:,}", f"{WRONG:g} of it")
        if not apart <= WRONG * largest:
            raise ValueError(f"{name}: variances differ by {apart:.2g} of up to {largest:.2g}")


def main():
    given = options(__doc__, "few brains, small, in a minute").parse_args()
    device = pick_device(given.device)
    sizes, rounds = (SMALL, 1) if given.small else ((PAPER, DEMO), 3)
    sized = [f"{s.name}: {s.brains} brains at {s.shape[0]} × {s.shape[1]}" for s in sizes]
    heading("Receptive and projective fields", device, f"{'; '.join(sized)}.")
    for size in sizes:
        with part(size.name), tempfile.TemporaryDirectory(prefix="brainvae-fields-") as folder:
            in_own_process(prepare, Path(folder), size, device)
            with part(f"{size.name}: fields"):
                both_fields(Path(folder), size, device)
            if size is sizes[0]:
                with part(f"{size.name}: one latent"):
                    against_kept(Path(folder), size, device, rounds)


if __name__ == "__main__":
    main()
