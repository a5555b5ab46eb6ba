"""Colours, markers and dashes: one look for a model, a denoiser or a β, whatever the chapter."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import cycle

import numpy as np
from matplotlib.colors import to_hex, to_rgb

GREY = "#6E6E6E"
REFERENCE = {"color": GREY, "ls": (0, (4, 3)), "lw": 1}  # what nobody has to fit

# Okabe, Ito (2008): told apart with every kind of colour vision.
MODEL_COLOURS = {"PCA": "#009E73", "VAE": "#0072B2", "β-VAE": "#D55E00"}
MODEL_COLOURS |= {"nearest brain": "#8C6D1F", "mean image": "#000000"}
MODEL_MARKERS = {"PCA": "o", "VAE": "s", "β-VAE": "D", "nearest brain": "X", "mean image": "*"}
MODEL_DASHES = {"PCA": "-", "VAE": (0, (5, 1.5)), "β-VAE": (0, (6, 1.5, 1.2, 1.5))}
MODEL_DASHES |= {"nearest brain": (0, (1.2, 1.2)), "mean image": "-"}

# Relatives of PCA are green too; their markers and dashes tell them apart.
OTHERS = {
    "probabilistic PCA": ("#005C43", "h", (0, (3, 1))),
    "factor analysis": ("#74C69D", "p", (0, (8, 2))),
    "median": ("#CC79A7", "^", (0, (3, 1))),
    "non-local means": ("#E69F00", "v", (0, (3, 1.2, 1, 1.2, 1, 1.2))),
    "total variation": ("#56B4E9", "P", (0, (8, 2))),
    "corrupted input": ("#7F7F7F", "h", (0, (2, 2))),
    "rule of chapter 2": ("#7B4FA3", "<", (0, (2, 2))),
    "told the factors": ("#333333", (4, 1, 0), (0, (4, 1.5, 1, 1.5))),
}
# The same codes along other axes: the model's colour and shape, but hollow.
RANDOM_AXES, RANDOM_DASHES = ", random axes", (0, (1, 2))
PCA_VARIANTS = (("#8FBF3F", "H", (0, (3, 1))), ("#1E5B2E", ">", (0, (8, 2))))
PCA_VARIANTS += (("#B7D9A8", "d", (0, (2, 2))),)
OTHER_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#B2DF8A")
OTHER_MARKERS = ("^", "v", "P", "h", "<")
OTHER_DASHES = ((0, (3, 1)), (0, (3, 1.2, 1, 1.2, 1, 1.2)), (0, (8, 2)), (0, (2, 2)), (0, (9, 1)))

# A VAE is β = 1, the β-VAE of the paper and of the profiles β = 3; other β lie between and beyond.
BETAS = {0.3: "#56B4E9", 1.0: "#0072B2", 3.0: "#D55E00", 10.0: "#6B2A00", 30.0: "#2E1200"}
BETA_MARKERS = "^vPXph<>"


def is_reference(label: str) -> bool:
    """Whether a series of this name is something to compare with and no model."""
    return label.startswith("guessing")


def is_known(label: str) -> bool:
    """Whether a label has a colour of its own in every chapter."""
    return _family(label) is not None or _beta(label) is not None


def model_styles(labels: Iterable[str]) -> dict[str, dict[str, str]]:
    """Colour and marker of each label: fixed for what recurs, in order for the others.

    "β-VAE, β = 3" is a β-VAE and "β = 1" a VAE. Of PCA a second label is another green, of another
    model a spare colour. Markers of "β-VAE, random axes" are those of the β-VAE, but hollow.
    """
    looks = {k: {"color": colour, "marker": marker} for k, (colour, marker, _) in _looks(labels)}
    for label, look in looks.items():
        if label.endswith(RANDOM_AXES):
            look |= {"mfc": "white", "mec": look["color"], "mew": 1.2}
    return looks


def model_dashes(labels: Iterable[str]) -> dict[str, object]:
    """Line style of each label, fixed and in order as colours are in ``model_styles``."""
    return {label: dashes for label, (_, _, dashes) in _looks(labels)}


def beta_style(beta: float) -> dict[str, str]:
    """Colour and marker of a value of β."""
    marks = {1.0: MODEL_MARKERS["VAE"], 3.0: MODEL_MARKERS["β-VAE"]}
    marker = marks.get(float(beta), BETA_MARKERS[round(4 * np.log2(beta)) % len(BETA_MARKERS)])
    at = np.log([*BETAS])
    parts = np.transpose([to_rgb(colour) for colour in BETAS.values()])
    rgb = [np.interp(np.log(beta), at, part) for part in parts]
    return {"color": to_hex(rgb).upper(), "marker": marker}


def _family(label: str) -> str | None:
    """The recurring name that a label begins with."""
    return next((name for name in (*MODEL_COLOURS, *OTHERS) if label.startswith(name)), None)


def _beta(label: str) -> float | None:
    """The value of a label such as "β = 3"."""
    told = re.match(r"β = ([\d.]*\d)", label)
    return float(told[1]) or None if told else None


def _looks(labels: Iterable[str]) -> list[tuple[str, tuple]]:
    """Colour, marker and dashes of each label."""
    models = {label: label.removesuffix(RANDOM_AXES) for label in labels}
    looks = dict(_of_models(dict.fromkeys(models.values())))
    return [
        (label, looks[name] if label == name else (*looks[name][:2], RANDOM_DASHES))
        for label, name in models.items()
    ]


def _of_models(labels: Iterable[str]) -> list[tuple[str, tuple]]:
    """Colour, marker and dashes of each label, random axes of the same apart."""
    labels = list(labels)
    firsts = {}
    for label in labels:
        firsts.setdefault(_family(label), label)
    fixed = {label: OTHERS[name] for name, label in firsts.items() if name in OTHERS}
    used = {colour for colour, *_ in fixed.values()}
    free = [
        look
        for look in zip(OTHER_COLOURS, OTHER_MARKERS, OTHER_DASHES, strict=True)
        if look[0] not in used
    ]
    spare, greens, looks = cycle(free), cycle(PCA_VARIANTS), []
    for label in labels:
        name, beta = _family(label), _beta(label)
        if is_reference(label):
            look = (GREY, "", REFERENCE["ls"])
        elif label in fixed:
            look = fixed[label]
        elif name in MODEL_COLOURS and firsts[name] == label:
            look = (MODEL_COLOURS[name], MODEL_MARKERS[name], MODEL_DASHES[name])
        elif name == "PCA":
            look = next(greens)
        elif beta is not None:
            style = beta_style(beta)
            near = {1.0: MODEL_DASHES["VAE"], 3.0: MODEL_DASHES["β-VAE"]}
            other = OTHER_DASHES[round(4 * np.log2(beta)) % len(OTHER_DASHES)]
            look = (style["color"], style["marker"], near.get(beta, other))
        else:
            look = next(spare)
        looks.append((label, look))
    return looks
