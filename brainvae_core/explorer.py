"""What the book's latent explorer shows: one script with models, brains and what latents follow.

``python -m brainvae_core.explorer full explorer_data.js`` writes a classic script that sets
``brainvaeExplorerData`` from a profile's cohort, up to two fits of its β-VAE (the book's own first)
and its PCA. A page opened from disk may load such a script, but neither a module nor a file of
numbers.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from brainvae_core.cohorts import Atlas, Cohort, artefact_free, known_factors
from brainvae_core.disk import made_with, stoppable, write
from brainvae_core.figures.style import grey_limit
from brainvae_core.metrics import active_latents, linear_recovery, match_latents
from brainvae_core.models import PCA, OutOfDeviceMemory, ReleasedConfig, fit, run_name
from brainvae_core.prepare import prepare_cohort
from brainvae_core.settings import Settings, read_profile
from brainvae_core.study import compared_configs

FORMAT, GLOBAL = 2, "brainvaeExplorerData"
BRAINS = 4  # test brains to start from; a fifth would make the page larger than 8 MB
FITS = 2  # of the β-VAE; a third would, too
READERS = 200  # training brains that factors are regressed on


class Arrays(dict):
    """The arrays of a page, each once, by their text: type, colon, little-endian base64."""

    def add(self, array, dtype: str | None = None) -> int:
        """An array's number; floats are of half precision where that is exact."""
        if isinstance(array, torch.Tensor):
            array = array.detach().cpu().numpy()
        with np.errstate(over="ignore"):
            dtype = dtype or ("f2" if np.array_equal(array.astype("f2"), array) else "f4")
        raw = np.ascontiguousarray(array, f"<{dtype}").tobytes()
        return self.setdefault(f"{dtype}:{base64.b64encode(raw).decode()}", len(self))


def network_layers(network, arrays: Arrays) -> list[dict]:
    """An encoder's or decoder's layers as the page's interpreter takes them.

    ``kind`` is "convolution" (a linear layer is one of 1 × 1), "upsampling" (a transposed one),
    "reshape" or "flatten"; ``weights`` and ``bias`` are numbers of arrays.
    """
    found = []
    for module in network:
        if isinstance(module, nn.ReLU) and "weights" in (found or [{}])[-1]:
            found[-1]["rectified"] = True
        else:
            found.append(_layer(module, arrays))
    return found


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
    return labels, [r | {"main": r["acronym"] in main} for r in _named(atlas, acronyms)]


def shown_brains(cohort: Cohort) -> tuple[list[int], list[str]]:
    """Rows of test brains to start from, and what is wrong with each, "" where nothing is.

    At most a third have an artefact, one of each kind before a second of any.
    """
    kinds = cohort.metadata.get("artefact")
    if kinds is None:  # not planted: suspected by chapter 1's rule
        kinds = np.where(artefact_free(cohort), "none", "suspected artefact")
    test = np.flatnonzero(cohort.metadata["split"] == "test")
    of_test = pd.Series(np.asarray(kinds)[test], test)
    marked = of_test[of_test != "none"]
    turns = sorted(zip(marked.groupby(marked).cumcount(), marked.index, strict=True))
    bad = [int(i) for _, i in turns[: BRAINS // 3]]
    rows = [*of_test.index[of_test == "none"][: BRAINS - len(bad)].tolist(), *bad]
    return rows, ["" if k == "none" else k for k in of_test[rows]]


def latent_readings(codes: pd.DataFrame, factors: pd.DataFrame, is_test: np.ndarray) -> list[dict]:
    """Of each latent: where 95 % of the test brains lie, whether it is active, what it follows.

    ``factor`` is the planted (or recorded) one of the largest ``r2``: test brains' R² of the line
    through the other brains, from this latent alone. Columns of ``codes`` are latents.
    """
    test, others = codes[is_test], codes[~is_test]
    factors = factors.loc[
        :, np.logical_and(*(factors[f].nunique() > 1 for f in (is_test, ~is_test)))
    ]
    low, high = np.quantile(test, [0.025, 0.975], axis=0)
    active, found = active_latents(test.to_numpy()), []
    for k, name in enumerate(codes):
        reading = {"low": _rounded(low[k]), "high": _rounded(high[k]), "active": bool(active[k])}
        if len(factors.columns) and active[k]:
            alone = (others[[name]], factors[~is_test], test[[name]], factors[is_test])
            r2 = linear_recovery(*(table.to_numpy() for table in alone))
            reading |= {"factor": str(factors.columns[r2.argmax()]), "r2": _rounded(r2.max())}
        found.append(reading)
    return found


def explorer_data(p: Settings, cohort: Cohort, models: dict[str, object]) -> dict:
    """All that the page shows of models that were fitted to this cohort, by their names.

    VAEs after the first have their latents in its order and with its signs; of brains, those with
    artefacts count in no code and no R².
    """
    split, clean = cohort.metadata["split"].to_numpy(), artefact_free(cohort)
    rows = [*np.flatnonzero(clean & (split == "train"))[:READERS]]
    rows += [*(test := np.flatnonzero(clean & (split == "test")))]
    if not len(test):
        raise ValueError("no test brain is free of artefacts: there is none to read latents from")
    images, is_test = cohort.images[rows], split[rows] == "test"
    shown, faults = shown_brains(cohort)
    brains, arrays = cohort.images[shown], Arrays()
    factors, first, described = known_factors(cohort).iloc[rows], None, []
    for name, model in models.items():
        codes, starts, matched = model.encode(images), model.encode(brains), []
        if isinstance(model, PCA):
            of_model = _linear(model, arrays)
        else:
            order, sign = np.arange(model.latent_dim), np.ones(model.latent_dim)
            if first is not None:
                order, sign, matched = match_latents(first[is_test], codes[is_test])
            codes, starts = codes[:, order] * sign, starts[:, order] * sign
            first = codes if first is None else first
            of_model = _network(model, arrays, order, sign)
        latents = latent_readings(pd.DataFrame(codes), factors, is_test)
        for k, r in enumerate(matched):
            latents[k]["matched"] = _rounded(r)
        typical = _rounded(np.median(codes[is_test], axis=0))  # links keep three decimals
        more = {"typical": typical, "codes": _rounded(starts), "latents": latents}
        described.append({"name": name} | of_model | more)
    labels, regions = region_labels(cohort.atlas, p.fields.region_share)
    labels = arrays.add(labels, "u1" if labels.max() < 256 else "u2")
    rois = _named(cohort.atlas, p.fields.rois)
    for roi, mask in zip(rois, cohort.atlas.roi_masks(p.fields.rois), strict=True):
        roi["mask"] = arrays.add(np.packbits(mask.ravel(), bitorder="little"), "u1")
    ids, pixels = cohort.metadata.index[shown], np.round(brains * 255)
    data = {
        "format": FORMAT,
        "made": made_with(),
        "cohort": f"{cohort.name}, {len(cohort)} brains",
        "identity": cohort.identity,
        "simulated": p.cohort.brains == "simulated",
        "n_test": int(is_test.sum()),
        "shape": list(cohort.atlas.shape),
        "pixel_um": float(cohort.atlas.pixel_um),
        "limit": p.fields.c_max,
        "white": _rounded(grey_limit(brains)),
        "models": described,
        "labels": labels,
        "regions": regions,
        "rois": rois,
        "brains": [
            {"id": str(i), "fault": fault, "pixels": arrays.add(image, "u1")}
            for i, fault, image in zip(ids, faults, pixels, strict=True)
        ],
    }
    fit = hashlib.sha256("".join(arrays).encode()).hexdigest()[:8]  # for links
    return data | {"fit": fit, "arrays": list(arrays)}


def shown_models(p: Settings, cohort: Cohort) -> dict[str, object]:
    """The profile's β-VAE, as many more of its seeds as are fitted and fit in a page, and PCA."""
    configs, runs = compared_configs(p), Path(p.places.runs)
    first = configs["β-VAE"]
    others = (replace(first, seed=s) for s in p.evaluation.seeds if s != first.seed)
    names = {c: run_name(c, cohort.fingerprint) for c in others}
    there = [c for c in names if (runs / names[c] / "weights.safetensors").exists()]
    found = {}
    for config in (first, *there[: FITS - 1]):
        is_theirs = isinstance(config, ReleasedConfig)
        name = "β-VAE of the authors" if is_theirs else f"β-VAE, seed {config.seed}"
        found[name] = fit(cohort, config, runs, p.places.device).model
    return found | {"PCA": fit(cohort, configs["PCA"], runs, p.places.device).model}


def write_script(path: str | Path, data: dict) -> Path:
    """Write the data as a script, which appears under its name only when it is complete."""
    path = Path(path)
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    write(path, f"window.{GLOBAL} = {text};\n".encode())
    return path


def _network(model, arrays, order, sign) -> dict:
    """A VAE with its latents in this order and with these signs; of its posterior, the mean."""
    latents, of_codes = model.decoder[0], model.encoder[-1]
    turn = torch.as_tensor(sign, dtype=torch.float32, device=model.device)
    inward = nn.Linear(len(order), latents.out_features)
    outward = nn.Linear(of_codes.in_features, len(order))
    inward.weight.data, inward.bias.data = latents.weight.data[:, order] * turn, latents.bias.data
    outward.weight.data = of_codes.weight.data[order] * turn[:, None]
    outward.bias.data = of_codes.bias.data[order] * turn
    return {
        "decoder": network_layers(nn.Sequential(inward, *model.decoder[1:]), arrays),
        "encoder": network_layers(nn.Sequential(*model.encoder[:-1], outward), arrays),
        "offset": arrays.add(model.output_offset),
        "mean": arrays.add(model.input_mean),
        "scale": float(model.input_scale),
    }


def _linear(pca, arrays) -> dict:
    """PCA: what a standard deviation of each component changes, in 255 steps."""
    effects = pca.components * np.sqrt(pca.variances)[:, None, None]
    step = np.abs(effects).max(axis=(1, 2)) / 127
    return {
        "mean": arrays.add(pca.mean, "f2"),
        "components": arrays.add(np.round(effects / step[:, None, None]), "i1"),
        "steps": step.tolist(),
        "variances": pca.variances.tolist(),
    }


def _layer(module, arrays) -> dict:
    if isinstance(module, nn.Flatten):
        return {"kind": "flatten"}
    if isinstance(module, nn.Unflatten):
        return {"kind": "reshape", "shape": list(module.unflattened_size)}
    if isinstance(module, nn.Linear):
        found, shape = {"kind": "convolution", "stride": 1, "padding": 0}, module.weight.shape
        shape = [*shape, 1, 1]
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        kind = "upsampling" if isinstance(module, nn.ConvTranspose2d) else "convolution"
        found = {"kind": kind, "stride": module.stride[0], "padding": module.padding[0]}
        shape = list(module.weight.shape)
    else:
        raise ValueError(f"the page's network does not know the layer {module}")
    weights, bias = arrays.add(module.weight), arrays.add(module.bias)
    return found | {"shape": shape, "weights": weights, "bias": bias}


def _rounded(values):
    return np.round(np.asarray(values, dtype=float), 3).tolist()


def _named(atlas: Atlas, acronyms) -> list[dict]:
    names = dict(zip(atlas.structures["acronym"], atlas.structures["name"], strict=True))
    return [{"acronym": a, "name": names[a]} for a in acronyms]


@stoppable("stopped; what is fitted stays, and the same command goes on")
def main():
    """Write what the latent explorer shows of a profile's models."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("profile", help="its name in notebooks/params, or a YAML file")
    parser.add_argument("out", type=Path, help="the script to write")
    options = parser.parse_args()
    try:
        out, p = options.out.resolve(), read_profile(options.profile, enter=True)
        cohort = prepare_cohort(p)
        path = write_script(out, explorer_data(p, cohort, shown_models(p, cohort)))
    except (ValueError, OSError, OutOfDeviceMemory) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{options.out}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
