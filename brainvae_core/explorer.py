"""What the book's latent explorer shows: one script with the decoder's weights and its readings.

``python -m brainvae_core.explorer demo explorer_data.js`` writes a classic script that
sets ``brainvaeExplorerData`` from a profile's cohort and β-VAE (chapter 3's). A page opened from
disk may load such a script, but neither a module nor a file of numbers.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import torch
from matplotlib.image import imsave
from torch import nn

from brainvae_core.cohorts import Atlas, Cohort, artefact_free
from brainvae_core.disk import appearing
from brainvae_core.fields import projective_field, receptive_field, stratified_rgb, weight_range
from brainvae_core.figures.style import grey_limit
from brainvae_core.metrics import active_latents
from brainvae_core.models import OutOfDeviceMemory, fit
from brainvae_core.prepare import prepare_cohort
from brainvae_core.settings import Settings, read_profile
from brainvae_core.study import compared_configs

FORMAT, GLOBAL = 1, "brainvaeExplorerData"
MOST_BRAINS, BRAIN_BYTES = 12, 800_000  # fewer brains where sections are large
N_C = 57  # values of c in a projective field; chapter 8 finds in them what 2,801 show


def decoder_layers(model) -> list[dict]:
    """The layers of a model's decoder as the page's interpreter takes them; ValueError if it can't.

    ``kind`` is "linear", "relu", "reshape" or "upsampling" (a transposed convolution); weights and
    biases are float32, little-endian, in base64, with PyTorch's ``shape``.
    """
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, nn.Sequential) or not len(decoder):
        raise ValueError(f"{type(model).__name__} has no decoder of layers to show in a page")
    return [_layer(m) for m in decoder.modules() if not isinstance(m, nn.Sequential)]


def region_labels(atlas: Atlas, least_share: float) -> tuple[np.ndarray, list[dict]]:
    """Every pixel's region, (height, width) uint16: 0, or 1 + its index among the named regions.

    Regions of at least this share of the brain's pixels come first and are ``main``. What lies in
    none of them is named by its own structure, a cortical layer by its area.
    """
    structures, main = atlas.structures.set_index("id"), atlas.regions(least_share)
    acronyms = list(main)
    number = {i: n for n, a in enumerate(acronyms, 1) for i in atlas.descendants(a).tolist()}
    labels = np.zeros(atlas.shape, np.uint16)
    for structure in np.unique(atlas.annotation[atlas.brain_mask]).tolist():
        if (found := number.get(structure)) is None:
            named = structure
            while re.search(r"\blayers?\b", structures.at[named, "name"], re.IGNORECASE):
                named = structures.at[named, "parent_id"]
            acronyms = list(dict.fromkeys([*acronyms, structures.at[named, "acronym"]]))
            found = acronyms.index(structures.at[named, "acronym"]) + 1
        labels[atlas.annotation == structure] = found
    names = _names(atlas)
    return labels, [{"acronym": a, "name": names[a], "main": a in main} for a in acronyms]


def shown_brains(cohort: Cohort, most: int) -> tuple[Cohort, list[str]]:
    """At most so many test brains to start from, and what is wrong with each, "" where nothing is.

    About two thirds are clean, the others have artefacts of every kind in turn.
    """
    kinds = cohort.metadata.get("artefact")
    if kinds is None:  # not planted: suspected by chapter 1's rule
        kinds = np.where(artefact_free(cohort), "none", "suspected artefact")
    test = np.flatnonzero(cohort.metadata["split"] == "test")
    of_test = np.asarray(kinds)[test]
    marked = {k: test[of_test == k].tolist() for k in sorted(set(of_test) - {"none"})}
    turns = sorted((turn, i) for of_kind in marked.values() for turn, i in enumerate(of_kind))
    bad = [i for _, i in turns[: most // 3]]
    chosen = [*test[of_test == "none"][: most - len(bad)].tolist(), *bad]
    labels = [k if k != "none" else "" for k in np.asarray(kinds)[chosen]]
    return cohort.select(chosen), labels


def latent_readings(p: Settings, cohort: Cohort, model) -> dict:
    """Both fields of every latent, and where the brains are along it.

    The receptive field is Fig. 3B's before it is normalised; the projective field is Fig. 3A's in
    fewer steps, from the code of the same brain.
    """
    clean, test = artefact_free(cohort), (cohort.metadata["split"] == "test").to_numpy()
    held_out = cohort.images[clean & test]
    if not len(held_out):
        raise ValueError("no test brain is free of artefacts: there is none to read latents from")
    train = cohort.split("train").images
    masks = cohort.atlas.roi_masks(p.fields.rois)
    mu = np.array([train.mean(axis=0)[mask].mean() for mask in masks])
    weights = weight_range(
        cohort.images[clean], masks, mean_brightness=mu, n_weights=p.fields.n_weights
    )
    seen = receptive_field(model, held_out, masks, weights[:, [0, -1]], mean_brightness=mu)
    c = np.linspace(-p.fields.c_max, p.fields.c_max, N_C)
    rgb, scales = stratified_rgb(projective_field(model, model.encode(held_out[:1])[0], c))
    codes = model.encode(train)
    low, high = np.quantile(codes, [0.025, 0.975], axis=0)
    active = active_latents(model.encode(cohort.images[test]))
    names = _names(cohort.atlas)
    return {
        "rois": [{"acronym": a, "name": names[a]} for a in p.fields.rois],
        "scales": [_rounded(s, 10) for s in scales],
        "from": str(cohort.metadata.index[clean & test][0]),
        "readers": len(held_out),
        "mean_code": _rounded(codes.mean(axis=0)),
        "latents": [
            {"low": _rounded(low[k]), "high": _rounded(high[k]), "active": bool(active[k])}
            | {"receptive": _rounded(seen.divergence[:, k], 6), "projective": _png(rgb[k])}
            for k in range(model.latent_dim)
        ],
    }


def explorer_data(p: Settings, cohort: Cohort, model, fitted_as: str) -> dict:
    """All that the page shows of one β-VAE, fitted to this cohort as the run of this name."""
    most = int(np.clip(BRAIN_BYTES // np.prod(model.image_shape), 3, MOST_BRAINS))
    brains, faults = shown_brains(cohort, most)
    labels, regions = region_labels(cohort.atlas, p.fields.region_share)
    codes = _rounded(model.encode(brains.images))  # links keep three decimals
    pixels, layers = np.round(brains.images * 255), decoder_layers(model)
    config = compared_configs(p)["β-VAE"]
    shown = zip(brains.metadata.index, faults, codes, pixels, strict=True)
    return {
        "format": FORMAT,
        "model": f"{config.label}, seed {config.seed}",
        "run": fitted_as,
        "fit": hashlib.sha256(repr(layers).encode()).hexdigest()[:8],  # its weights, for links
        "cohort": f"{cohort.name}, {len(cohort)} brains",
        "simulated": p.cohort.brains == "simulated",
        "shape": list(model.image_shape),
        "pixel_um": float(cohort.atlas.pixel_um),
        "limit": p.fields.c_max,
        "white": _rounded(grey_limit(brains.images)),
        "layers": layers,
        "offset": _base64(model.output_offset),
        "labels": _base64(labels, "<u2"),
        "regions": regions,
        "brains": [
            {"id": str(i), "fault": fault, "code": code, "pixels": _base64(image, "u1")}
            for i, fault, code, image in shown
        ],
        **latent_readings(p, cohort, model),
    }


def write_script(path: str | Path, data: dict) -> Path:
    """Write the data as a script, which appears under its name only when it is complete."""
    path = Path(path)
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    with appearing(path) as beside:
        beside.write_text(f"window.{GLOBAL} = {text};\n", encoding="utf-8")
    return path


def _layer(module) -> dict:
    if isinstance(module, nn.ReLU):
        return {"kind": "relu"}
    if isinstance(module, nn.Unflatten):
        return {"kind": "reshape", "shape": list(module.unflattened_size)}
    if isinstance(module, nn.Linear):
        found, more = {"kind": "linear"}, {}
    elif isinstance(module, nn.ConvTranspose2d) and _is_plain(module):
        found = {"kind": "upsampling", "stride": module.stride[0]}
        more = {"padding": module.padding[0]}
    else:
        raise ValueError(f"the page's decoder does not know the layer {module}")
    found |= {"shape": list(module.weight.shape), "weights": _base64(module.weight)}
    return found | more | {"bias": _base64(module.bias)}


def _is_plain(module) -> bool:
    """Square strides and padding, one group: nothing that the page would silently get wrong."""
    square = len(set(module.stride)) == len(set(module.padding)) == len(set(module.dilation)) == 1
    odd = module.groups > 1 or module.dilation[0] > 1 or any(module.output_padding)
    return square and not odd and module.bias is not None


def _base64(array, dtype: str = "<f4") -> str:
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu().numpy()
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()


def _png(rgb: np.ndarray) -> str:
    """An RGB image in [0, 1] as a data URI, with fewer pixels where it is large."""
    step = -(-rgb.shape[1] // 256)
    height, width = (size // step * step for size in rgb.shape[:2])
    blocks = rgb[:height, :width].reshape(height // step, step, width // step, step, 3)
    file = io.BytesIO()
    imsave(file, np.round(255 * blocks.mean(axis=(1, 3))).astype(np.uint8), format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _rounded(values, digits: int = 3):
    return np.round(np.asarray(values, dtype=float), digits).tolist()


def _names(atlas: Atlas) -> dict[str, str]:
    return dict(zip(atlas.structures["acronym"], atlas.structures["name"], strict=True))


def main():
    """Write what the latent explorer shows of a profile's β-VAE."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("profile", help="its name in notebooks/params, or a YAML file")
    parser.add_argument("out", type=Path, help="the script to write")
    options = parser.parse_args()
    try:
        out, p = options.out.resolve(), read_profile(options.profile, enter=True)
        cohort = prepare_cohort(p)
        run = fit(cohort, compared_configs(p)["β-VAE"], p.places.runs, p.places.device)
        path = write_script(out, explorer_data(p, cohort, run.model, run.folder.name))
    except (ValueError, OSError, OutOfDeviceMemory) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{options.out}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
