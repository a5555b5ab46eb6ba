"""Figures of both directions together, and of several fits side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from brainvae_core.figures.labels import wrapped
from brainvae_core.figures.palette import GREY, MODEL_COLOURS, model_styles
from brainvae_core.figures.style import (
    DARK,
    DIFFERENCE,
    SMALL,
    WIDTH,
    check_same_labels,
    check_shape,
    colour_bar,
    heat_map,
    latent_names,
    letters,
    new_figure,
    panel_title,
    percent,
    styled,
    thinned,
)

PALE = "#B8B8B8"
PAIRS = "osD^vPX"  # markers of pairs of fits


@styled
def fig_fields(tables: Mapping[str, np.ndarray], acronyms: Sequence[str], label: str) -> Figure:
    """Several fields side by side: one row per region, one column per latent.

    Each panel, named above, is one way, model or fit of reading how regions and latents belong
    together. Rows are regions (Allen acronyms), columns the latents F1, F2 and so on. Colour is the
    strength of the effect between the two, in the unit of the colour bar and on one scale for all
    panels: dark is none, yellow the strongest; hatched cells were not read. Cells that are bright
    at the same place in two panels mean that both readings agree.

    Parameters
    ----------
    tables : mapping of title to ndarray, each (n_rois, latent_dim)
        0 or more.
    acronyms : sequence of str, n_rois
    label : str
        What the colours are, with the unit. All panels share them.

    Returns
    -------
    Figure
    """
    for title, table in tables.items():
        check_shape(title, table, (len(acronyms), None))
    figure = new_figure(0.8 + max(0.17 * len(acronyms), 1.3))
    axes = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    top = max(float(np.nanmax(table)) for table in tables.values()) or 1.0
    most = 16 if len(tables) < 3 else 36 // len(tables)
    for letter, ax, (title, table) in zip(letters(len(tables)), axes, tables.items(), strict=True):
        names = thinned(latent_names(np.shape(table)[1]), most)
        shown = heat_map(ax, table, list(acronyms), names, limits=(0, top))
        panel_title(ax, letter, textwrap.fill(title, 84 // len(tables)))
        ax.tick_params(axis="both", labelsize=7)
        ax.set_xlabel("Latent")
    axes[0].set_ylabel("Region")
    colour_bar(figure, shown, list(axes), label, shrink=min(1, 14 / len(acronyms)))
    return figure


@styled
def fig_against_blobs(
    totals: np.ndarray,
    intervals: np.ndarray,
    blobs: np.ndarray,
    acronyms: Sequence[str],
    xlabel: str,
) -> Figure:
    """Each region's effect beside those of random blobs of its size.

    Each row is a region (Allen acronym); horizontal: the effect named below, in its unit,
    logarithmic unless a value is 0. The orange diamond is the region's effect, its bar the 95 %
    interval over resampled brains. Grey dots are the same for random patches of the region's size,
    the grey line their median; the dots' height within a row means nothing. The percentage at the
    right is the share of patches that the region exceeds: near 100 % it does more than its size
    explains, near 50 % as much as any patch.

    Parameters
    ----------
    totals : ndarray, shape (n_rois,)
    intervals : ndarray, shape (n_rois, 2)
        95 % over resampled brains.
    blobs : ndarray, shape (n_rois, n_blobs)
        The same of each region's own random blobs.
    acronyms : sequence of str, n_rois
    xlabel : str
        The effect, with its unit.

    Returns
    -------
    Figure
        On a logarithmic axis, where no effect is 0.
    """
    totals = check_shape("totals", totals, (len(acronyms),))
    intervals = check_shape("intervals", intervals, (len(acronyms), 2))
    blobs = check_shape("blobs", blobs, (len(acronyms), None))
    region = MODEL_COLOURS["β-VAE"]
    figure = new_figure(0.8 + 0.36 * len(acronyms), width=6.4)
    ax = figure.subplots()
    jitter = np.random.default_rng(0).uniform(-0.28, 0.28, blobs.shape[1])
    for row, (total, ends, of_blobs) in enumerate(zip(totals, intervals, blobs, strict=True)):
        ax.plot(of_blobs, row + jitter, "o", ms=2.5, color=PALE, mew=0, zorder=1)
        ax.plot([np.median(of_blobs)] * 2, [row - 0.35, row + 0.35], color=GREY, lw=1.5)
        ax.plot(ends, [row, row], color=region, lw=2, zorder=2)
        ax.plot(total, row, "D", ms=6, color=region, mec="white", mew=0.7, zorder=3)
        text = f"above {percent(np.mean(of_blobs < total), 0)}"
        beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": SMALL}
        ax.annotate(text, (1.01, row), **beside)
    ax.set_yticks(range(len(acronyms)), list(acronyms))
    ax.set(ylim=(len(acronyms) - 0.5, -0.5), xlabel=xlabel)
    if min(totals.min(), intervals.min(), blobs.min()) > 0:
        ax.set_xscale("log")
    ax.tick_params(axis="y", length=0)
    handles = [
        Line2D([], [], ls="", marker="o", ms=3, color=PALE, label=f"{len(jitter)} blobs"),
        Line2D([], [], ls="", marker="|", ms=10, mew=1.5, color=GREY, label="their median"),
        Line2D([], [], lw=2, marker="D", ms=6, color=region, label="region, 95 % interval"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    figure.draw_without_rendering()  # only then is known how wide the axis is
    ax.set_xlabel(wrapped(xlabel, ax.bbox.width / figure.dpi))
    return figure


@styled
def fig_agreement(agreement: np.ndarray, intervals: np.ndarray) -> Figure:
    """How far latents' receptive and projective fields agree: each with each, and its own.

    A: colour is the rank correlation over regions of the row's receptive field (which regions move
    the latent) with the column's projective field (which regions it moves): red the same order,
    blue the opposite; framed cells are a latent's own two fields, hatched latents were left out. B:
    each dot is a framed cell of A, its bar the 95 % interval over resampled brains and regions;
    grey ticks are its receptive field with others' projective fields. A dot right of 0 and of its
    ticks: the latent paints what it sees.

    Parameters
    ----------
    agreement : ndarray, shape (latent_dim, latent_dim)
        Rank correlations (``cross_agreement``): rows receive, columns project. Latents that were
        left out are NaN.
    intervals : ndarray, shape (latent_dim, 2)
        95 % of the diagonal over resampled brains and regions.

    Returns
    -------
    Figure
    """
    n = len(agreement)
    agreement = check_shape("agreement", agreement, (n, n))
    intervals = check_shape("intervals", intervals, (n, 2))
    names = latent_names(n)
    figure = new_figure(max(4.2, 1.2 + 0.14 * n))
    matrix, ax = figure.subplots(1, 2)
    shown = heat_map(
        matrix, agreement, thinned(names, 20), thinned(names, 10), cmap=DIFFERENCE, limits=(-1, 1)
    )
    matrix.set_aspect("equal")
    matrix.set(xlabel="Projective field of", ylabel="Receptive field of")
    panel_title(matrix, "A", "Each latent with each")
    for k in range(n):
        matrix.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, fc="none", ec="black", lw=1))
    label = "Rank correlation over regions"
    colour_bar(figure, shown, matrix, label, location="bottom", ticks=[-1, -0.5, 0, 0.5, 1])
    for k, (ends, value) in enumerate(zip(intervals, np.diag(agreement), strict=True)):
        others = np.delete(agreement[k], k)
        ax.plot(others, np.full(len(others), k), "|", color=GREY, ms=7)
        ax.plot(ends, [k, k], color=DARK, lw=2)
        ax.plot(value, k, "o", ms=6, color=DARK, mec="white", mew=0.7)
    ax.axvline(0, color=GREY, lw=0.8, zorder=0)
    ax.set_yticks(range(n), names)
    ax.set(ylim=(n - 0.5, -0.5), xlim=(-1, 1), xlabel=label)
    panel_title(ax, "B", "Each latent with itself")
    interval, bar = {"lw": 2, "marker": "o", "ms": 6}, {"ls": "", "marker": "|", "ms": 7}
    handles = [
        Line2D([], [], color=DARK, label="a latent's own two fields, 95 % interval", **interval),
        Line2D([], [], color=GREY, label="with others'", **bar),
    ]
    if np.isnan(agreement).any():
        look = {"fc": "#F2F2F2", "ec": "#AAAAAA", "hatch": "////", "lw": 0}
        handles.append(Patch(label="left out", **look))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


@styled
def fig_stability(
    correlations: Mapping[str, np.ndarray], chance: Mapping[str, np.ndarray]
) -> Figure:
    """How alike matched latents of several fits are, beside random axes of the same codes.

    Each panel is a model; horizontal: pairs of latents, one of each of two fits (trainings with
    different seeds), the most alike first; their numbers are ranks, not latents. Vertical: absolute
    correlation of the two codes over brains, 1 if both say the same; each marker shape is a pair of
    fits. Grey boxes hold 95 % of what random axes of the same codes give, the line is their median:
    latents come back in another fit where markers lie above the boxes. Without a second fit a line
    says so instead.

    Parameters
    ----------
    correlations : mapping of model to ndarray, each (n_pairs, latent_dim)
        ``|r|`` of matched latents of pairs of fits (``match_latents``).
    chance : mapping of model to ndarray, each (n, latent_dim)
        The same of rotated codes (``matching_null``). Of a pair as of a draw the largest is shown
        first, for a latent has no number that holds for several fits.

    Returns
    -------
    Figure
        Without any model it says that there is nothing to compare.
    """
    check_same_labels(correlations=correlations, chance=chance)
    n = len(correlations)
    figure = new_figure(3.1 if n else 0.4, width=min(WIDTH, 1.5 + 3.2 * n))
    if not n:
        figure.text(0.05, 0.5, "one fit of each model", va="center", color=GREY)
        return figure
    axes = figure.subplots(1, n, sharey=True, squeeze=False)[0]
    looks = model_styles(correlations)
    for letter, ax, (title, found) in zip(letters(n), axes, correlations.items(), strict=True):
        random = check_shape(title, chance[title], (None, np.shape(found)[-1]))
        found = np.sort(found, axis=1)[:, ::-1]
        at = np.arange(found.shape[1])
        low, middle, high = np.quantile(np.sort(random)[:, ::-1], [0.025, 0.5, 0.975], axis=0)
        ax.bar(at, high - low, 1, low, color="#CFCFCF")
        ax.hlines(middle, at - 0.5, at + 0.5, color=GREY, lw=1)
        for row, marker in zip(found, cycle(PAIRS), strict=False):
            style = {"ms": 5, "color": looks[title]["color"], "mec": "white", "mew": 0.5}
            ax.plot(at, row, marker, **style)
        names, room = [str(k + 1) for k in at], 32 // n
        turned = 90 if len(at) > room // 2 else 0
        ax.set_xticks(at, thinned(names, 2 * room), rotation=turned, fontsize=7)
        ax.set(ylim=(0, 1.02), xlim=(-0.6, len(at) - 0.4))
        ax.set_xlabel(textwrap.fill("Pairs of latents, the most alike first", 90 // n))
        panel_title(ax, letter, textwrap.fill(title, 72 // n))
    axes[0].set_ylabel("|r| with the matched latent")
    most = max(len(found) for found in correlations.values())
    look = {"ls": "", "ms": 5, "color": GREY, "mec": "white", "mew": 0.5}
    shapes = tuple(Line2D([], [], marker=shape, **look) for shape in PAIRS[:most])
    handles = {
        "a pair of fits" if most == 1 else "a pair of fits each": shapes,
        "random axes, 95 %": Patch(fc="#CFCFCF"),
        "their median": Line2D([], [], color=GREY, lw=1),
    }
    apart = {tuple: HandlerTuple(ndivide=None, pad=0.4)}
    legend = {"ncols": 3, "handler_map": apart, "handlelength": max(2, 0.9 * len(shapes))}
    figure.legend(handles.values(), handles, loc="outside upper center", **legend)
    return figure
