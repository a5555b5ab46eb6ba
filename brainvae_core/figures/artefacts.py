"""Figures of artefacts: what is painted back, and who notices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled

GUESSING = style.REFERENCE | {"zorder": 0}
LOWEST = -1.2  # share of the brain kept
# What nobody has to fit stands at three places.
LANDMARKS = {"ideal": (0, 1), "copy of the input": (1, 1), "mean\nimage": (0, 0)}


@styled
def fig_reconstructions(
    images: np.ndarray,
    reconstructions: Mapping[str, np.ndarray],
    pixel_um: float,
    titles: Sequence[str],
    *,
    first_row: str = "Input",
) -> Figure:
    """Brains and what each model makes of them: one column per brain, one row per model.

    Each column has its title above, each row its name at the left. The first row, and any other
    whose name is not a model's, are the sections as they are; a row of a model is what it makes of
    the nearest row above it that is not a model's. All images share one grey scale, brightness from
    black to white, and the scale bar. A model that paints the same in every column shows an average
    and not the brain.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Brightness in [0, 1].
    reconstructions : mapping of model to ndarray, each (n, height, width)
    pixel_um : float
    titles : sequence of str, n
    first_row : str
        What ``images`` are.
    """
    return draw.montage({first_row: images, **reconstructions}, titles, pixel_um)[0]


@styled
def fig_keep_reject(points: pd.DataFrame, paths: pd.DataFrame) -> Figure:
    """Artefacts reproduced against brains kept, one panel per kind of artefact.

    Horizontal: share of the artefact that comes back in the reconstruction, 0 for none and 1 for
    all; vertical: share kept of the brain outside the artefact, 1 for all, 0 for no more than the
    mean image, less for worse. Up and to the left is better. Large markers are models, their bars
    95 % intervals over brains and fits; lines with small markers run over amounts of a denoiser or
    numbers of PCA components, with an open circle at the last, strongest one. A triangle at the
    lower edge: there a line leaves the panel downwards. Grey crosses: the ideal, a copy of the
    input, the mean image.

    Parameters
    ----------
    points : DataFrame
        An estimate a row: ``kind``, ``model``, ``score`` (``"reproduced"`` and ``"kept"``),
        ``value``, ``low``, ``high``.
    paths : DataFrame
        ``kind``, ``model``, ``reproduced``, ``kept``: of a denoiser its amounts from weak to
        strong, of PCA its numbers of components.
    """
    labels = dict.fromkeys([*points["model"], *paths["model"]])
    points, paths = draw.by_panel(points, "kind"), draw.by_panel(paths, "kind")
    style.check_same_labels(points=points, paths=paths)
    figure = style.new_figure(3.7)
    axes = figure.subplots(1, len(points), sharex=True, sharey=True, squeeze=False)[0]
    looks = style.model_looks(labels)
    # The last hides none.
    sizes = np.linspace(8.5, 6, max(of["model"].nunique() for of in points.values()))
    for letter, ax, kind in zip(style.letters(len(points)), axes, points, strict=True):
        for name, (x, y) in LANDMARKS.items():
            ax.plot(x, y, "+", color=style.GREY, markersize=9, mew=1)
            look = {
                "ha": "center",
                "va": "top" if y == 0 else "bottom",
                **style.legible(style.GREY),
            }
            where = {"textcoords": "offset points", "fontsize": 7.5, "zorder": 5}
            ax.annotate(name, (x, y), (0, -6 if y == 0 else 6), **where, **look)
        for label, path in draw.by_panel(paths[kind], "model").items():
            path, look = path[["reproduced", "kept"]].to_numpy(float), looks[label]
            xy = path.T
            line = {**style.mark(look, 3.5, mew=0), "ls": look["ls"], "lw": 1.2, "zorder": 2}
            ax.plot(*xy, label=label, **line)
            ax.plot(*xy[:, -1:], "o", mfc="white", mec=look["color"], ms=5, zorder=2)
            for (x0, y0), (x1, y1) in zip(path, path[1:], strict=False):
                if (y0 < LOWEST) != (y1 < LOWEST):  # it crosses the lower edge
                    x = x0 + (x1 - x0) * (LOWEST - y0) / (y1 - y0)
                    triangle = {"color": look["color"], "mec": "white", "mew": 0.4, "ms": 8}
                    ax.plot(x, LOWEST, "v", clip_on=False, zorder=4, **triangle)
        of_model = draw.by_panel(points[kind], "model")
        for size, (label, found) in zip(sizes, of_model.items(), strict=False):
            found = found.set_index("score").loc[["reproduced", "kept"], ["value", "low", "high"]]
            (x, *xs), (y, *ys) = found.to_numpy(float)
            arms = [np.maximum([[v - low], [high - v]], 0) for v, (low, high) in ((x, xs), (y, ys))]
            bars = {"xerr": arms[0], "yerr": arms[1], "elinewidth": 1.1, "zorder": 3}
            ax.errorbar(x, y, label=label, **bars, **style.mark(looks[label], size, mew=1))
        style.panel_title(ax, letter, style.sentence(kind))
        ax.set_xlabel("Artefact reproduced (share)")
        ax.margins(0.1)
    axes[0].set_ylim(max(min(axes[0].get_ylim()[0], -0.4), LOWEST), 1.25)
    axes[0].set_ylabel("Brain outside the mask kept (share)")
    draw.legend(figure, draw.drawn_handles(axes, looks), handlelength=3)
    return figure


@styled
def fig_detection(curves: Mapping[str, Mapping[str, object]]) -> Figure:
    """How well artefacts are found: ROC curves above, precision and recall below.

    Each column is a kind of artefact, such as a leak (bright signal from the other channel), a
    breakage (missing tissue) or a grid (scanning pattern); each line is a detector at all
    thresholds, with a colour, dashes and a marker of its own. Above: the share of the artefact that
    is found against the share of what is clean that is flagged by mistake; towards the upper left
    is good. Below: the share of what is flagged that is artefact (precision) against the share
    found (recall); towards the upper right is good. Dashed grey lines are what guessing gives.

    Parameters
    ----------
    curves : mapping of kind to mapping of detector to curves
        ``share``, ``true_positive_rate``, ``precision``, ``prevalence`` (``detection_curves``).
    """
    figure = style.new_figure(4.9)
    axes = figure.subplots(2, len(curves), sharex=True, sharey=True, squeeze=False)
    names = list(dict.fromkeys(name for by_name in curves.values() for name in by_name))
    looks = style.model_looks(names)
    for letter, (above, below), kind in zip(
        style.letters(len(curves)), axes.T, curves, strict=True
    ):
        above.plot([0, 1], [0, 1], label="guessing", **GUESSING)
        for name, found in curves[kind].items():
            # Marks at a few places, which differ from line to line.
            every = {"markevery": (0.03 + 0.16 * names.index(name) / len(names), 0.16)}
            line = style.mark(looks[name], 4.5) | {"ls": looks[name]["ls"], "lw": 1.3, **every}
            above.plot(found.share, found.true_positive_rate, label=name, **line)
            below.plot(found.share, found.precision, **line)
            below.axhline(found.prevalence, **GUESSING)
        style.panel_title(above, letter, style.sentence(kind))
        above.set_xlabel("False positive rate")
        below.set(xlabel="Recall", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        above.xaxis.label.set_visible(True)
        above.tick_params(labelbottom=True)
    axes[0, 0].set_ylabel("True positive rate")
    axes[1, 0].set_ylabel("Precision")
    draw.legend(figure, draw.drawn_handles(axes[0], [*names, "guessing"]), handlelength=3)
    return figure


@styled
def fig_error_maps(
    inputs: np.ndarray,
    maps: Mapping[str, np.ndarray],
    names: Sequence[str],
    pixel_um: float,
    masks: np.ndarray,
    *,
    label: str = "Error (1: the root mean square in clean validation brains)",
) -> Figure:
    """Where a model does not paint a brain as it is: one column per brain, one row per model.

    Each column is a brain with the artefact named above, such as leak (bright signal from the other
    channel), breakage (missing tissue) or grid (scanning pattern). The top row is the input in
    greys; each row below maps a model's error, in the unit of the colour bar: black is none, pale
    yellow the bar's end or more, on one scale for all maps. A light blue outline marks the
    artefact, unless it covers more than a fifth of the image. A map that finds the artefact is
    bright inside the outline and dark elsewhere.

    Parameters
    ----------
    inputs : ndarray, shape (n, height, width)
    maps : mapping of model to ndarray, each (n, height, width)
        From 0.
    names : sequence of str, n
    pixel_um : float
    masks : ndarray of bool, shape (n, height, width)
        Where the artefacts are.
    label : str
        Of the colour bar, with the unit.
    """
    top = max(float(np.quantile(found, 0.99)) for found in maps.values())
    shown = dict.fromkeys(maps, {"cmap": "inferno", "vmin": 0, "vmax": top})
    rows, titles = {"Input": inputs, **maps}, [style.sentence(name) for name in names]
    marked = {"masks": masks, "outlines": "#56B4E9"}
    figure, axes = draw.montage(rows, titles, pixel_um, shown=shown, below=0.5, **marked)
    more = "max" if any(np.max(found) > top for found in maps.values()) else "neither"
    image, place = axes[-1, -1].images[0], {"location": "bottom", "shrink": 0.5, "extend": more}
    draw.colour_bar(figure, image, axes, label, **place)
    return figure
