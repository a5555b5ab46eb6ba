"""How real the simulator is: sections simulated on the CCF slice beside a real brain.

    python benchmarks/realism.py [--data $BRAINVAE_DATA] [--brains 400]

Writes ``results/measured/realism.csv``, a row a measure of the simulated test brains and of the
real one, and the picture of both in ``book/_static``; chapter 1 reads them. The real brain's own
detail is 50 µm.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from measure import heading, line, options
from scipy.ndimage import distance_transform_edt

from brainvae_core import figures
from brainvae_core.cohorts import (
    ccf_atlas,
    comparable_brains,
    equalise_brightness,
    read_section,
    simulate,
)
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.metrics import radial_spectrum, section_changes
from brainvae_core.models import PCAConfig, fit
from brainvae_core.models.devices import pick_device
from brainvae_core.prepare import plane_change
from brainvae_core.results import write_measured
from brainvae_core.settings import read_profile

ROOT = Path(__file__).parent.parent
SHAPE, SEED = (160, 224), 0
BRAIN = "individuals/swcA_stpt_ccf50.tif"
BANDS, LATENTS, TILE_UM, EDGE_UM = 10, 8, 400, 100
SAMPLES = ("simulated brains", "real brain")


def measured(images, cohort, model, regions, plane) -> pd.DataFrame:
    """Every measure of every section, with the wavelength that it is of (µm; 0 of none)."""
    atlas, mean = cohort.atlas, cohort.split("train").images.mean(axis=0)
    inside, um = atlas.brain_mask, atlas.pixel_um
    depth, side = distance_transform_edt(inside) * um, round(TILE_UM / um)
    edge = inside & (depth <= EDGE_UM)
    tiles = block_mean(inside.astype(np.float32), side) == 1
    found = {}
    apart = {"deviation": images - mean, "error": images - model.reconstruct(images)}
    for what, rest in apart.items():
        rest = rest * inside
        frequencies, power = radial_spectrum(rest, um, BANDS)
        for f, of_band in zip(frequencies, power.T, strict=True):
            found[f"{what}, power", round(1000 / f)] = of_band
    squares = np.square(apart["error"] * inside)
    found["error of PCA (RMS greys)", 0] = np.sqrt(squares[:, inside].mean(axis=1))
    whole = np.maximum(squares.sum(axis=(1, 2)), 1e-12)
    found["error of PCA (share in the rim)", 0] = squares[:, edge].sum(axis=1) / whole
    of_tiles = [block_mean(image, side)[:, tiles] for image in (images, np.square(images))]
    spread = np.sqrt(np.maximum(of_tiles[1] - np.square(of_tiles[0]), 0))
    found["local contrast (SD over mean in 0.4 mm)", 0] = np.median(spread / of_tiles[0], axis=1)
    rim = images[:, edge].mean(axis=1) / images[:, inside].mean(axis=1)
    found["rim over whole brain, brightness", 0] = rim
    changes = section_changes(images, mean, inside, regions, um, plane)
    for kind, what in {"registration": "of the outline", "anatomy": "inside"}.items():
        moves = changes[kind].drop(columns="plane", errors="ignore").to_numpy()
        found[f"misregistration {what} (µm)", 0] = np.sqrt(np.square(moves).mean(axis=1))
    return pd.DataFrame(found)


def main():
    parser = options(__doc__, "40 brains")
    parser.add_argument("--data", default=os.environ.get("BRAINVAE_DATA"))
    parser.add_argument("--brains", type=int, default=400)
    given = parser.parse_args()
    if not given.data:
        parser.error("no real data: give --data, or set BRAINVAE_DATA; see book/running.md")
    device, atlas = pick_device(given.device), ccf_atlas(given.data)
    heading("How real the simulator is", device, f"{SHAPE}, {Path(BRAIN).stem}, CCF slice.")
    n = 40 if given.small else given.brains
    whole = simulate(n, atlas, artefact_share=0, seed=SEED)
    cohort = equalise_brightness(whole).resampled(SHAPE)
    section = read_section(Path(given.data, BRAIN))
    table = pd.DataFrame(index=pd.Index(["swcA"], name="brain"))
    real = comparable_brains([section], table, cohort, name="real").images
    p = read_profile("full").changed({"cohort.atlas": given.data})
    masks = dict(zip(names := cohort.atlas.regions(), cohort.atlas.roi_masks(names), strict=True))
    plane = plane_change(p, cohort.split("train").images.mean(axis=0), cohort.atlas)
    with TemporaryDirectory() as runs:
        model = fit(cohort, PCAConfig(LATENTS), runs, device).model
    test = cohort.split("test").images
    # Together, so that what differs brain by brain is measured from one median.
    found = measured(np.concatenate([test, real]), cohort, model, masks, plane)
    rows = []
    for (measure, size), values in found.items():
        parts = dict(zip(SAMPLES, (values[: len(test)], values[len(test) :]), strict=True))
        for of, part in parts.items():
            low, value, high = np.quantile(part, [0.025, 0.5, 0.975])
            ends = (low, high) if len(part) > 1 else (np.nan, np.nan)
            rows.append((measure, size, of, value, *ends, len(part)))
            line(f"{measure}, {size} µm, {of}", f"{value:.3g} [{ends[0]:.3g}, {ends[1]:.3g}]")
    columns = ["measure", "size_um", "of", "value", "low", "high", "n"]
    results = pd.DataFrame(rows, columns=columns)
    if given.small:
        return
    made_from = {"cohort": cohort.identity, "seed": SEED}
    write_measured("realism", results, made_from)
    pair = np.concatenate([test[:1], real])
    made = {f"PCA, L = {LATENTS}": model.reconstruct(pair)}
    titles = ["A simulated brain", "The real brain (swcA)"]
    figure = figures.fig_reconstructions(pair, made, cohort.atlas.pixel_um, titles)
    figure.savefig(ROOT / "book/_static/real_beside_simulated.png")


if __name__ == "__main__":
    main()
