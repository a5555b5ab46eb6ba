"""Figures of artefacts: what is rejected and what is kept, and who notices them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brainvae_core.figures.comparison import LOCAL
from brainvae_core.figures.labels import freely_placed, sized
from brainvae_core.figures.palette import GREY, REFERENCE, model_dashes, model_styles
from brainvae_core.figures.style import (
    check_same_labels,
    check_shape,
    colour_bar,
    grey_limit,
    image_grid,
    letters,
    new_figure,
    outline,
    panel_title,
    scale_bar,
    sentence,
    show_section,
    styled,
)

GUESSING = REFERENCE | {"zorder": 0}
LOWEST = -1.2  # share of the brain kept
# What nobody has to fit stands at three places.
LANDMARKS = {"ideal": (0, 1), "copy of the input": (1, 1), "mean\nimage": (0, 0)}


@styled
def fig_keep_reject(
    points: Mapping[str, Mapping[str, tuple[object, object]]],
    paths: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
) -> Figure:
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
    points : mapping of kind to mapping of model to (reproduced, kept)
        Two estimates with ``value``, ``low`` and ``high``, drawn with their intervals.
    paths : mapping of kind to mapping of str to sequence of (reproduced, kept)
        Of a denoiser its amounts from weak to strong, of PCA its numbers of components; drawn as
        lines with an open end where they are strongest.

    Returns
    -------
    Figure
        What copies its input stands at (1, 1), the mean image at (0, 0). Where less than −1.2 is
        kept, a path leaves the frame at a triangle.
    """
    check_same_labels(points=points, paths=paths)
    figure = new_figure(3.7)
    axes = figure.subplots(1, len(points), sharex=True, sharey=True, squeeze=False)[0]
    names = dict.fromkeys(
        label for by_label in (*points.values(), *paths.values()) for label in by_label
    )
    looks, dashes = model_styles(names), model_dashes(names)
    sizes = np.linspace(8.5, 6, max(map(len, points.values()), default=1))  # the last hides none
    for letter, ax, kind in zip(letters(len(points)), axes, points, strict=True):
        for x, y in LANDMARKS.values():
            ax.plot(x, y, "+", color=GREY, markersize=9, mew=1)
        for label, path in paths[kind].items():
            xy, look = np.transpose(path), looks[label]
            line = {"ls": dashes[label], "lw": 1.2, "mew": 0, "zorder": 2, "label": label}
            ax.plot(*xy, **{**line, **sized(look, 3.5)})
            ax.plot(*xy[:, -1:], "o", mfc="white", mec=look["color"], ms=5, zorder=2)
        for size, (label, (x, y)) in zip(sizes, points[kind].items(), strict=False):
            bars = {"xerr": _arms(x), "yerr": _arms(y), "elinewidth": 1.1, "zorder": 3}
            large = {"mec": "white", **sized(looks[label], size)}
            ax.errorbar(x.value, y.value, ls="", label=label, **bars, **large)
        panel_title(ax, letter, sentence(kind))
        ax.set_xlabel("Artefact reproduced (share)")
        ax.margins(0.1)
    axes[0].set_ylim(max(axes[0].get_ylim()[0], LOWEST), 1.25)
    for ax, kind in zip(axes, points, strict=True):
        for label, path in paths[kind].items():
            _leaving(ax, np.asarray(path, float), looks[label]["color"])
    axes[0].set_ylabel("Brain outside the mask kept (share)")
    handles = {}
    for ax in axes:
        handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    ordered = {name: handles[name] for name in names if name in handles}
    most = {"loc": "outside upper center", "ncols": min(6, len(ordered)), "handlelength": 3}
    figure.legend(ordered.values(), ordered, **most)
    figure.draw_without_rendering()  # only then is known where there is room
    for ax in axes:
        for name, place in LANDMARKS.items():
            freely_placed(ax, name, place, color=GREY, fontsize=7.5, linespacing=1)
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

    Returns
    -------
    Figure
        Dashed: what guessing gives.
    """
    figure = new_figure(4.9)
    axes = figure.subplots(2, len(curves), sharex=True, sharey=True, squeeze=False)
    names = list(dict.fromkeys(name for by_name in curves.values() for name in by_name))
    looks, dashes = model_styles(names), model_dashes(names)
    handles = {}
    for letter, (above, below), kind in zip(letters(len(curves)), axes.T, curves, strict=True):
        above.plot([0, 1], [0, 1], **GUESSING)
        for name, found in curves[kind].items():
            # Marks at a few places, which differ from line to line.
            every = {"markevery": (0.03 + 0.16 * names.index(name) / len(names), 0.16)}
            line = {"mec": "white", "mew": 0.4, **sized(looks[name], 4.5), **every}
            line |= {"ls": dashes[name], "lw": 1.3}
            (handles[name],) = above.plot(found.share, found.true_positive_rate, **line)
            below.plot(found.share, found.precision, **line)
            below.axhline(found.prevalence, **GUESSING)
        panel_title(above, letter, sentence(kind))
        above.set_xlabel("False positive rate")
        below.set(xlabel="Recall", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        above.xaxis.label.set_visible(True)
        above.tick_params(labelbottom=True)
    axes[0, 0].set_ylabel("True positive rate")
    axes[1, 0].set_ylabel("Precision")
    handles = {name: handles[name] for name in names} | {"guessing": Line2D([], [], **GUESSING)}
    most = {"loc": "outside upper center", "ncols": min(7, len(handles)), "handlelength": 3}
    figure.legend(handles.values(), handles, **most)
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
    maps : mapping of str to ndarray, each (n, height, width)
        By model, from 0.
    names : sequence of str, n
        Titles of the columns.
    pixel_um : float
    masks : ndarray of bool, shape (n, height, width)
        Where the artefacts are; outlined where they are not all over the image.
    label : str
        Of the colour bar.

    Returns
    -------
    Figure
    """
    shape = check_shape("inputs", inputs, (len(names), None, None)).shape
    maps = {name: check_shape(name, found, shape) for name, found in maps.items()}
    masks = check_shape("masks", masks, shape)
    figure, axes = image_grid(len(maps) + 1, len(names), shape[1:], row_labels=1, below=0.5)
    for ax, image, name in zip(axes[0], inputs, names, strict=True):
        show_section(ax, image, grey_limit(inputs))
        ax.set_title(sentence(name))
    top = max(float(np.quantile(found, 0.99)) for found in maps.values())
    for line, (name, found) in zip(axes[1:], maps.items(), strict=True):
        line[0].set_ylabel(name)
        for ax, one in zip(line, found, strict=True):
            shown = ax.imshow(one, cmap="inferno", vmin=0, vmax=top)
    axes[0, 0].set_ylabel("Input")
    for column, mask in zip(axes.T, masks, strict=True):
        if mask.mean() <= LOCAL:
            for ax in column:
                outline(ax, mask, colour="#56B4E9", width=0.7)
    scale_bar(axes[-1, -1], pixel_um)
    more = "max" if any(np.max(found) > top for found in maps.values()) else "neither"
    colour_bar(figure, shown, axes, label, location="bottom", shrink=0.5, extend=more)
    return figure


def _leaving(ax, path, colour) -> None:
    """A triangle wherever a path crosses the lower edge."""
    low = ax.get_ylim()[0]
    for (x0, y0), (x1, y1) in zip(path, path[1:], strict=False):
        if (y0 < low) != (y1 < low):
            x = x0 + (x1 - x0) * (low - y0) / (y1 - y0)
            look = {"color": colour, "mec": "white", "mew": 0.4, "ms": 8, "zorder": 4}
            ax.plot(x, low, "v", clip_on=False, **look)


def _arms(found):
    """Lengths of an error bar, (2, 1), as matplotlib wants them."""
    return np.maximum([[found.value - found.low], [found.high - found.value]], 0)
