"""Figures of what the latents see: receptive fields and how they relate (Figs 3B–3E, S2, S3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator
from scipy.stats import gaussian_kde

from brainvae_core.figures.labels import PLAIN, wrapped, written
from brainvae_core.figures.palette import GREY, model_styles
from brainvae_core.figures.style import (
    DARK,
    DIFFERENCE,
    SMALL,
    WIDTH,
    check_same_labels,
    check_shape,
    colour_bar,
    grey_limit,
    heat_map,
    image_grid,
    latent_names,
    new_figure,
    outline,
    scale_bar,
    show_section,
    styled,
    thinned,
)


@styled
def fig_3b(normalised: np.ndarray, acronyms: Sequence[str], row_totals: np.ndarray) -> Figure:
    """Receptive field of every latent as shares of each region's effect (Fig. 3B).

    Rows are the regions changed in the input (Allen acronyms), columns the latents F1, F2 and so
    on. Colour, and number where there is room, is the latent's share of the region's effect: the
    divergence, in nats, between the codes of brains with the region at its darkest and at its
    brightest. A row adds up to 1, and a bright cell is the latent that notices the region most.
    Grey bars at the right, or dots on a logarithmic axis where sums differ a hundredfold, are the
    row's sum in nats: where it is small, the row shares out next to nothing.

    Parameters
    ----------
    normalised : ndarray, shape (n_rois, latent_dim)
        Each region's divergences divided by their sum (``ReceptiveField.normalised``).
    acronyms : sequence of str, n_rois
    row_totals : ndarray, shape (n_rois,)
        The sums, in nats.

    Returns
    -------
    Figure
    """
    normalised = check_shape("normalised", normalised, (len(acronyms), None))
    row_totals = check_shape("row_totals", row_totals, (len(acronyms),))
    latent_dim = normalised.shape[1]
    figure = new_figure(1.1 + 0.36 * len(acronyms))
    matrix, totals = figure.subplots(1, 2, width_ratios=[4, 1])
    fmt = ".2f" if latent_dim <= 14 else ""
    limits = (0, np.nanmax(normalised))
    inside = {"fmt": fmt, "limits": limits}
    shown = heat_map(matrix, normalised, list(acronyms), latent_names(latent_dim), **inside)
    matrix.set(xlabel="Latent", ylabel="Region perturbed")
    rows = np.arange(len(acronyms))
    far = 0 < min(row_totals) < max(row_totals) / 100
    if far:  # a bar has no length where there is no zero
        totals.plot(row_totals, rows, "o", ms=5, color="#6E6E6E")
    else:
        totals.barh(rows, row_totals, height=0.7, color="#B8B8B8")
    for row, total in zip(rows, row_totals, strict=True):
        beside = {"xytext": (5, 0), "textcoords": "offset points", "fontsize": SMALL}
        totals.annotate(written(float(f"{total:.3g}")), (total, row), va="center", **beside)
    totals.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1.35 * max(row_totals)), xlabel="Sum (nats)")
    totals.set_yticks([])
    if far:
        low, high = min(row_totals) / 2, max(row_totals)
        totals.set(xscale="log", xlim=(low, high * (high / low) ** 0.6), xlabel="Sum (nats), log")
        powers = np.arange(np.ceil(np.log10(low)), np.log10(high) + 1e-9)
        totals.set_xticks(10.0 ** powers[:: -(-len(powers) // 3)])
        totals.xaxis.set_major_formatter(PLAIN)
        totals.xaxis.set_minor_locator(NullLocator())
    else:
        totals.locator_params(axis="x", nbins=3)
    shrink = min(1, 8 / len(acronyms))
    colour_bar(figure, shown, [matrix, totals], "Share of the region's sum", shrink=shrink)
    return figure


@styled
def fig_3c(codes: np.ndarray, latents: Sequence[int], weights: np.ndarray, roi_name: str) -> Figure:
    """Distributions of some latents while one region's brightness changes (Fig. 3C).

    Each panel is a latent; horizontal: its code, in prior standard deviations; vertical: smoothed
    density over brains, each panel with its own scale. Each curve is the same brains with the
    region (Allen acronym at the colour bar) at one brightness weight w, in units of its mean
    brightness: dark curves for low w, yellow for high. Curves that move apart show a latent that
    follows the region, curves that coincide one that does not see it. A vertical line instead of a
    curve: all brains have the same code.

    Parameters
    ----------
    codes : ndarray, shape (n_weights, n_brains, n_latents)
        Codes of the perturbed brains, only the latents to show.
    latents : sequence of int, n_latents
        Their numbers, counted from 1.
    weights : ndarray, shape (n_weights,)
        w, in units of the region's mean brightness.
    roi_name : str
        The region.

    Returns
    -------
    Figure
    """
    codes = check_shape("codes", codes, (len(weights), None, len(latents)))
    figure = new_figure(2.6)
    axes = figure.subplots(1, len(latents), squeeze=False)[0]
    norm = Normalize(min(weights), max(weights))
    for ax, number, values in zip(axes, latents, np.moveaxis(codes, -1, 0), strict=True):
        for weight, of_brains in zip(weights, values, strict=True):
            _density(ax, of_brains, matplotlib.colormaps["viridis"](norm(weight)))
        label = wrapped("Code (prior standard deviations)", (WIDTH - 1.2) / len(latents) - 0.1)
        ax.set(title=f"F{number}", xlabel=label)
        ax.locator_params(axis="x", nbins=max(3, 12 // len(latents)))
        _only_shape(ax)
    figure.get_layout_engine().set(w_pad=0.12)  # or numbers of neighbours touch
    axes[0].set_ylabel("Density over brains")
    label = f"Brightness of {roi_name}, w"
    colour_bar(figure, ScalarMappable(norm, "viridis"), list(axes), label, aspect=20)
    return figure


@styled
def fig_s3(codes: np.ndarray, acronyms: Sequence[str], weights: np.ndarray) -> Figure:
    """Distributions of every latent while each region's brightness changes (Fig. S3).

    Rows are latents F1, F2 and so on, columns regions (Allen acronyms), with the range of the
    brightness weight w, in units of the region's mean brightness. Horizontal: the latent's code, in
    prior standard deviations, alike within a row; vertical: smoothed density over brains, each
    panel with its own scale. Each curve is the same brains at one w, dark at the region's lowest
    and yellow at its highest. Curves that move apart show a latent that follows the region; curves
    that coincide, one that does not see it.

    Parameters
    ----------
    codes : ndarray, shape (n_rois, n_weights, n_brains, latent_dim)
        ``ReceptiveField.codes``.
    acronyms : sequence of str, n_rois
    weights : ndarray, shape (n_rois, n_weights)
        w of each region, rising; colours run from each region's own lowest to its highest.

    Returns
    -------
    Figure
    """
    codes = check_shape("codes", codes, (*np.shape(weights), None, None))
    check_shape("weights", weights, (len(acronyms), None))
    n_rois, n_weights, _, latent_dim = codes.shape
    figure = new_figure(1.0 + 0.62 * latent_dim)
    axes = figure.subplots(latent_dim, n_rois, sharex="row", squeeze=False)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 1, n_weights))
    for latent, row in enumerate(axes):
        row[0].set_ylabel(f"F{latent + 1}", rotation=0, ha="right", va="center")
        for roi, ax in enumerate(row):
            for values, colour in zip(codes[roi, :, :, latent], colours, strict=True):
                _density(ax, values, colour, width=1.0)
            _only_shape(ax)
            ax.tick_params(axis="x", labelsize=7, pad=1.5, length=2)
            ax.locator_params(axis="x", nbins=4)
    for ax, acronym, w in zip(axes[0], acronyms, weights, strict=True):
        ax.set_title(f"{acronym}\nw = {w[0]:.2f}–{w[-1]:.2f}", fontsize=SMALL)
    axes[-1, len(axes[-1]) // 2].set_xlabel("Code (prior standard deviations)")
    bar = colour_bar(
        figure, ScalarMappable(Normalize(0, 1), "viridis"), axes, "Brightness of the region, w",
        shrink=0.5,
    )  # fmt: skip
    bar.set_ticks([0, 1], labels=["lowest", "highest"])
    return figure


def _density(ax, values: np.ndarray, colour, width: float = 1.5) -> None:
    """A smooth density; a line where every brain has the same code."""
    values = np.asarray(values, dtype=float)
    spread = values.std()
    if spread <= 1e-9 * max(1.0, np.abs(values).max()):
        ax.axvline(values[0], color=colour, lw=width)
        return
    x = np.linspace(values.min() - spread, values.max() + spread, 200)
    ax.plot(x, gaussian_kde(values)(x), color=colour, lw=width)


def _only_shape(ax) -> None:
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_ylim(bottom=0)


@styled
def fig_3d(covariance: np.ndarray) -> Figure:
    """Covariance between latents of their shares of the regions' effects (Fig. 3D).

    Rows and columns are the latents F1, F2 and so on. A latent's share of a region is the part that
    it takes of the region's whole effect on the code. Colour is the covariance of two latents'
    shares over regions, in squared shares: red where the same regions move both, blue where
    different regions do, white where neither holds; the diagonal is each latent's own variance.
    Shares add up to 1, so every row of the matrix adds up to 0 and some blue is unavoidable.

    Parameters
    ----------
    covariance : ndarray, shape (latent_dim, latent_dim)
        ``impact_covariance``.

    Returns
    -------
    Figure
    """
    names = latent_names(len(covariance))
    figure = new_figure(3.7, width=4.8)
    ax = figure.subplots()
    limit = np.abs(covariance).max() or 1.0
    shown = heat_map(ax, covariance, names, names, cmap=DIFFERENCE, limits=(-limit, limit))
    ax.set_aspect("equal")
    ax.set_xticks(range(len(names)), thinned(names, 12))
    ax.set(xlabel="Latent", ylabel="Latent")
    bar = colour_bar(figure, shown, ax, "Covariance over regions (squared shares)", aspect=20)
    bar.formatter = PLAIN
    return figure


@styled
def fig_3e(
    scores: Mapping[str, object],
    nulls: Mapping[str, np.ndarray],
    rotated: Mapping[str, np.ndarray],
) -> Figure:
    """How uncorrelated the latents' impacts are, by model, beside chance (Fig. 3E).

    Vertical: 1 minus the mean absolute correlation of two latents' shares of the regions' effects;
    0 if all latents follow the same regions or opposite ones, 1 if none is related. A coloured
    marker is the model's score, written above; its bar is the 95 % interval. The grey violin to its
    left is chance, regions permuted for each latent alone; the sand-coloured one to its right is
    random axes of the same codes; lines are medians. High is good, but only a score above both
    violins says something of the latents.

    Parameters
    ----------
    scores : mapping of str to estimate
        ``uncorrelatedness``, by model; an estimate has ``value``, ``low`` and ``high``.
    nulls : mapping of str to ndarray, each (n,)
        Scores of latents that have nothing to do with one another.
    rotated : mapping of str to ndarray, each (n,)
        Scores of random axes of the same codes.

    Returns
    -------
    Figure
    """
    check_same_labels(scores=scores, nulls=nulls, rotated=rotated)
    figure = new_figure(3.3, width=min(WIDTH, 2.2 + 0.95 * len(scores)))
    ax = figure.subplots()
    for x, (label, look) in enumerate(model_styles(scores).items()):
        for side, draws, colour in ((-0.18, nulls, "#CFCFCF"), (0.18, rotated, "#F0DDB0")):
            shape = {"widths": 0.32, "showextrema": False, "showmedians": True}
            drawn = ax.violinplot([draws[label]], [x + side], **shape)
            drawn["bodies"][0].set(facecolor=colour, alpha=1, lw=0)
            drawn["cmedians"].set(color=GREY, lw=0.8)
        found = scores[label]
        ax.plot([x, x], [found.low, found.high], color=look["color"], lw=2)
        ax.plot(x, found.value, **{"ms": 8, "mec": "white", "ls": "none", **look})
        over = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "va": "bottom"}
        ax.annotate(f"{found.value:.2f}", (x, found.high), fontsize=SMALL, **over)
    ax.set_xticks(range(len(scores)), [label.replace(" ", "\n", 1) for label in scores])
    ax.set(xlim=(-0.6, len(scores) - 0.4), ylim=(0, 1), ylabel="Uncorrelatedness of the latents")
    patches = {"regions permuted": "#CFCFCF", "random axes": "#F0DDB0"}
    handles = [Patch(fc=colour) for colour in patches.values()]
    handles.append(Line2D([], [], color=GREY, lw=0.8))
    mark = {"ls": "", "color": DARK}
    bar = Line2D([], [], marker="|", ms=13, mew=2, **mark)
    handles.append((bar, Line2D([], [], marker="o", ms=6, mec="white", **mark)))
    figure.legend(
        handles,
        [*patches, "median", "95 % interval"],
        loc="outside upper center",
        ncols=4 if figure.get_figwidth() > 5.5 else 2,
        handler_map={tuple: HandlerTuple(ndivide=1)},
    )
    return figure


@styled
def fig_s2(
    images: np.ndarray, acronyms: Sequence[str], weights: np.ndarray, pixel_um: float
) -> Figure:
    """One brain with each region at several brightness weights (Fig. S2).

    Rows are regions (Allen acronyms), outlined in orange; columns are rising brightness weights w,
    written above each section: how bright the row's region is made, in units of its mean
    brightness, so that 1 is average. All else is the brain as it is, and all sections share one
    grey scale and the scale bar. These are the inputs from which the receptive fields are read: a
    latent sees a region if its code changes along the region's row.

    Parameters
    ----------
    images : ndarray, shape (n_rois, n_weights, height, width)
        Perturbed sections.
    acronyms : sequence of str, n_rois
    weights : ndarray, shape (n_rois, n_weights)
        w, in units of the region's mean brightness.
    pixel_um : float
        Side of a pixel in µm.

    Returns
    -------
    Figure
    """
    weights = check_shape("weights", weights, (len(acronyms), None))
    images = check_shape("images", images, (*weights.shape, None, None))
    above = 0.17 * len(weights)
    figure, axes = image_grid(
        *weights.shape, images.shape[2:], titled_rows=0, row_labels=1, below=above
    )
    limit = grey_limit(images)
    for row, acronym, of_region, w in zip(axes, acronyms, images, weights, strict=True):
        row[0].set_ylabel(acronym)
        changed = np.ptp(of_region, axis=0) > 1e-6
        for ax, image, weight in zip(row, of_region, w, strict=True):
            show_section(ax, image, limit)
            outline(ax, changed)
            ax.set_title(f"w = {weight:.2f}".replace("-", "−"), fontsize=SMALL, pad=2)
    scale_bar(axes[-1, -1], pixel_um)
    return figure
