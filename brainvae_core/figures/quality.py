"""Figures of an acquisition and of what quality control found in it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from brainvae_core.figures.palette import GREY, MODEL_COLOURS
from brainvae_core.figures.style import (
    SMALL,
    check_shape,
    factor_label,
    grey_limit,
    image_grid,
    legible,
    letters,
    new_figure,
    panel_title,
    scale_bar,
    sentence,
    show_section,
    styled,
)

ORDINARY, MARKED = MODEL_COLOURS["VAE"], MODEL_COLOURS["β-VAE"]
BINS = 40


@styled
def fig_quality(statistics: pd.DataFrame, is_outlier: np.ndarray, limit: float) -> Figure:
    """How far each brain is from the usual one, by each statistic of quality control.

    Horizontal: distance from the median training brain in robust standard deviations (SD); where a
    brain lies beyond the dashed grey limit for outliers, logarithmic from there. Vertical: the
    number of brains, ordinary ones as blue bars. Difference: from the median section; missing:
    share of the brain that is dark, natural dark spaces included; saturated: share that is white;
    gain: the number that its brightness was multiplied by. Where there are outliers, each is an
    orange triangle at its own values, whichever statistic made it one; the triangles' height means
    nothing.

    Parameters
    ----------
    statistics : DataFrame, n brains × statistics
        In robust standard deviations.
    is_outlier : ndarray of bool, shape (n,)
        Brains to mark, whichever statistic they are outliers in.
    limit : float
        Robust standard deviations; drawn at +limit, and at −limit where a brain lies below it.

    Returns
    -------
    Figure
        A histogram a statistic, outliers as marks above it. The axis is linear up to the limit and
        logarithmic beyond: one extreme brain does not flatten the others.
    """
    is_outlier = check_shape("is_outlier", is_outlier, (len(statistics),)).astype(bool)
    if not np.isfinite(statistics.to_numpy(float)).all():
        raise ValueError("statistics has a NaN or infinite entry; give finite ones")
    columns = min(2, statistics.shape[1])
    rows = -(-statistics.shape[1] // columns)
    figure = new_figure(2.1 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False)
    names = letters(statistics.shape[1])
    for ax in panels.flat[statistics.shape[1] :]:
        ax.set_visible(False)
    for i, (name, values) in enumerate(statistics.items()):
        _distribution(panels.flat[i], values.to_numpy(float), is_outlier, limit)
        panel_title(panels.flat[i], names[i], factor_label(str(name)))
    for ax in panels[:, 0]:
        ax.set_ylabel("Brains")
    handles = {
        label: handle
        for ax in panels.flat
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=len(handles))
    return figure


def _distribution(ax, values, is_outlier, limit):
    """One statistic: linear within the limit, logarithmic beyond."""
    ax.set_xscale("symlog", linthresh=limit, linscale=1.5)
    low, high = min(values.min(), -1), max(values.max(), 1.2 * limit)
    scale = ax.xaxis.get_transform()
    edges = np.linspace(*scale.transform([low, high]), BINS + 1)
    edges = scale.inverted().transform(edges)
    edges[[0, -1]] = low, high  # rounding may not leave the extreme brain out
    limits = [limit, -limit] if low <= -limit else [limit]
    for at in limits:  # no bar stands on both sides
        edges[1 + np.abs(edges[1:-1] - at).argmin()] = at
    ax.hist(values[~is_outlier], edges, color=ORDINARY, label="Brain")
    if is_outlier.any():
        top = ax.get_ylim()[1]
        there = values[is_outlier]
        heights = np.full(len(there), 0.12 * top)
        ax.plot(there, heights, "v", color=MARKED, mec="white", mew=0.5, ms=6, label="Outlier")
    for at in limits:
        label = f"Limit, {limit:g} robust SD" if at > 0 else None
        ax.axvline(at, color=GREY, lw=1, ls="--", label=label)
    near = [-limit, -limit / 2, 0, limit / 2, limit]
    far = [t for t in (10, 30, 100, 300, 1000, 3000) if t > 1.6 * limit]
    ticks = [t for t in (*(-t for t in far), *near, *far) if low <= t <= high]
    ax.set_xticks(ticks, [f"{t:g}".replace("-", "−") for t in ticks])
    ax.minorticks_off()
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_xlabel("Robust SD from the median training brain")


@styled
def fig_worst(
    images: np.ndarray,
    names: Sequence[str],
    reasons: Sequence[str],
    pixel_um: float,
    *,
    columns: int = 4,
) -> Figure:
    """The brains farthest from the usual one, the worst first.

    Each image is the section of one brain, its id above, row by row from the most unusual on. Words
    on it say what is unusual: a statistic of quality control and, where given, its distance from
    the median training brain in robust standard deviations (SD), or that the brain is within the
    limit. All sections share one grey scale, black for no signal, and the scale bar.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Brightness in [0, 1], worst first.
    names : sequence of str, n
        Brain ids.
    reasons : sequence of str, n
        Why each is an outlier; empty where it is none.
    pixel_um : float
        Side of a pixel in µm.
    columns : int
        Sections in a row.

    Returns
    -------
    Figure
    """
    images = check_shape("images", images, (len(names), None, None))
    reasons = check_shape("reasons", list(reasons), (len(names),))
    if not len(images):
        raise ValueError("images is empty; give one brain or more")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, axes = image_grid(rows, columns, images.shape[1:], titled_rows=rows)
    limit = grey_limit(images)
    for ax in axes.flat[len(images) :]:
        ax.set_visible(False)
    for ax, image, name, reason in zip(axes.flat, images, names, reasons, strict=False):
        show_section(ax, image, limit)
        ax.set_title(str(name))
        text = {"transform": ax.transAxes, "va": "bottom", "fontsize": SMALL, **legible()}
        ax.text(0.02, 0.03, str(reason or "within the limit").replace(", ", ",\n"), **text)
    scale_bar(axes.flat[len(images) - 1], pixel_um)
    return figure


@styled
def fig_ledger(kept: int, refused: Mapping[str, int]) -> Figure:
    """An acquisition's ledger: brains kept, and those refused by reason.

    Horizontal: the number of brains, also written at the end of each bar. The blue bar on top
    counts the brains that were kept for the cohort. Where brains were refused, an orange bar below
    it counts those of each reason, the most frequent first.

    Parameters
    ----------
    kept : int
    refused : mapping of reason to count
        Drawn by descending count.

    Returns
    -------
    Figure
    """
    ranked = sorted(refused.items(), key=lambda item: -item[1])
    labels = ["Kept", *(textwrap.fill(sentence(reason), 46) for reason, _ in ranked)]
    counts = [kept, *(count for _, count in ranked)]
    lines = sum(1 + 0.55 * label.count("\n") for label in labels)
    figure = new_figure(0.27 * lines + 0.55)
    ax = figure.subplots()
    colours = [ORDINARY] + [MARKED] * len(ranked)
    bars = ax.barh(range(len(labels)), counts, color=colours, height=0.7)
    ax.bar_label(bars, padding=3, fontsize=SMALL)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_xlim(0, 1.1 * max(*counts, 1))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("Brains")
    return figure


@styled
def fig_brightness(before: np.ndarray, after: np.ndarray) -> Figure:
    """Mean brightness inside each brain, before and after it is set to the cohort's average.

    Horizontal: mean brightness of a brain, in raw grey values before the adjustment (A) and on a
    scale where 1 is white after it (B); vertical: the number of brains. The black triangle above
    the bars is the mean. Both horizontal axes run from 0 to the same multiple of that mean, so that
    the widths compare; the coefficient of variation above is the standard deviation over the mean.
    A narrow histogram in B is good: brains no longer differ by overall brightness.

    Parameters
    ----------
    before : ndarray, shape (n,)
        In raw greys.
    after : ndarray, shape (n,)
        In [0, 1].

    Returns
    -------
    Figure
        Both axes begin at 0, so that the two spreads compare as shares of the brightness.
    """
    before = check_shape("before", before, (None,))
    after = check_shape("after", after, before.shape)
    figure = new_figure(2.2)
    panels = figure.subplots(1, 2)
    reach = max(v.max() / v.mean() for v in (before, after)) * 1.08
    for ax, values, letter, title, unit in zip(
        panels,
        (before, after),
        "AB",
        ("Before", "After the adjustment"),
        ("raw grey", "1 is white"),
        strict=True,
    ):
        end = reach * values.mean()
        ax.hist(values, np.linspace(0, end, BINS + 1), color=ORDINARY)
        above = {"transform": ax.get_xaxis_transform(), "clip_on": False, "zorder": 4}
        ax.plot(values.mean(), 1.0, "v", color="black", ms=7, mew=0, **above)
        ax.set_ylim(top=1.1 * ax.get_ylim()[1])
        ax.set_xlim(0, end)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.set_xlabel(f"Mean brightness of a brain ({unit})")
        spread = 100 * values.std() / values.mean()
        panel_title(ax, letter, f"{title}, coefficient of variation {spread:.1f} %")
    panels[0].set_ylabel("Brains")
    return figure
