"""Figures of a cohort: its sections, what is known of them, and what quality control found."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled

ORDINARY, MARKED = style.LOOKS["VAE"][0], style.LOOKS["β-VAE"][0]
BINS = 40


@styled
def fig_sections(
    images: np.ndarray, titles: Sequence[str], *, pixel_um: float, columns: int = 4
) -> Figure:
    """Some sections of a cohort, on one grey scale.

    Each image is a section of one brain with its title above. Black is no signal, and the same grey
    means the same brightness in every image; the scale bar holds for all. Where a title names an
    artefact, a leak is bright signal from the other channel, a breakage is missing tissue, a grid
    is the scanning pattern, and none means a clean section.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Brightness in [0, 1].
    titles : sequence of str, n
    pixel_um : float
        Side of a pixel in µm.
    columns : int
        Sections in a row.
    """
    images = style.check_shape("images", images, (len(titles), None, None))
    return draw.gallery(images, titles, pixel_um, columns)[0]


@styled
def fig_factors(
    low_high_images: Mapping[str, tuple[np.ndarray, np.ndarray]],
    mean_image: np.ndarray,
    pixel_um: float,
    *,
    steps: tuple[str, str] = ("−2 SD", "+2 SD"),
) -> Figure:
    """What goes with each factor: brains with little of it, with much, and the difference.

    Each factor, a property of the brains named above, has three images: the mean section of brains
    in which it is low, that of brains in which it is high (how low and high is written on them),
    and the second minus the first. Sections share one grey scale. Differences are red where the
    second is brighter, blue where it is darker and white where nothing changes, on one scale for
    all factors (brightness runs from 0, black, to 1, white); thin grey lines are contours of the
    average section, to show where a change lies.

    Parameters
    ----------
    low_high_images : mapping of factor to (low, high), each (height, width)
        Mean images of brains in which the factor is low or high.
    mean_image : ndarray, shape (height, width)
        The average section; its outlines lie over the differences.
    pixel_um : float
    steps : (str, str)
        How low and how high.
    """
    mean_image = style.check_shape("mean_image", mean_image, (None, None))
    shape = (2, *mean_image.shape)
    pairs = {k: style.check_shape(k, v, shape) for k, v in low_high_images.items()}
    limit = style.grey_limit(np.stack(list(pairs.values())))
    change = style.difference_limit(*(high - low for low, high in pairs.values()))
    columns = min(2, len(pairs))
    rows = -(-len(pairs) // columns)
    grid = {"titled_rows": rows, "below": 0.5}
    figure, axes = draw.image_grid(rows, 3 * columns, mean_image.shape, **grid)
    blocks = axes.reshape(rows * columns, 3)
    for ax in blocks[len(pairs) :].flat:
        ax.set_visible(False)
    contours = [0.15 * mean_image.max(), 0.5 * mean_image.max()]
    for block, (name, (low, high)) in zip(blocks, pairs.items(), strict=False):
        block[0].set_title(style.factor_label(name), loc="left")
        for ax, image, step in zip(block, (low, high), steps, strict=False):
            draw.show_section(ax, image, limit)
            text = {"transform": ax.transAxes, "fontsize": style.SMALL, **style.legible()}
            ax.text(0.02, 0.03, step, **text)
        shown = draw.show_difference(block[2], high - low, change)
        block[2].contour(mean_image, levels=contours, colors="#888888", linewidths=0.3)
    draw.scale_bar(blocks[len(pairs) - 1, -1], pixel_um)
    label = f"Difference of brightness, {steps[1]} minus {steps[0]}"
    draw.colour_bar(figure, shown, axes, label, location="bottom", shrink=0.5, aspect=40)
    return figure


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
    """
    is_outlier = style.check_shape("is_outlier", is_outlier, (len(statistics),)).astype(bool)
    if not np.isfinite(statistics.to_numpy(float)).all():
        raise ValueError("statistics has a NaN or infinite entry; give finite ones")
    columns = min(2, statistics.shape[1])
    rows = -(-statistics.shape[1] // columns)
    figure = style.new_figure(2.1 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False)
    names = style.letters(statistics.shape[1])
    for ax in panels.flat[statistics.shape[1] :]:
        ax.set_visible(False)
    for ax, letter, (name, values) in zip(panels.flat, names, statistics.items(), strict=False):
        _statistic(ax, values.to_numpy(float), is_outlier, limit)
        style.panel_title(ax, letter, style.factor_label(str(name)))
    for ax in panels[:, 0]:
        ax.set_ylabel("Brains")
    names = ["Brain", "Outlier", f"Limit, {limit:g} robust SD"]
    draw.legend(figure, draw.drawn_handles(panels.flat, names), loc="outside upper right")
    return figure


def _statistic(ax, values, is_outlier, limit) -> None:
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
        heights = np.full(is_outlier.sum(), 0.12 * ax.get_ylim()[1])
        look = {"color": MARKED, "mec": "white", "mew": 0.5, "ms": 6}
        ax.plot(values[is_outlier], heights, "v", label="Outlier", **look)
    for at in limits:
        label = f"Limit, {limit:g} robust SD" if at > 0 else None
        ax.axvline(at, color=style.GREY, lw=1, ls="--", label=label)
    near = [-limit, -limit / 2, 0, limit / 2, limit]
    far = [t for t in (10, 30, 100, 300, 1000, 3000) if t > 1.6 * limit]
    ticks = [t for t in (*(-t for t in far), *near, *far) if low <= t <= high]
    ax.set_xticks(ticks, [f"{t:g}".replace("-", "−") for t in ticks])
    ax.minorticks_off()
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_xlabel("Robust SD from the median training brain")


@styled
def fig_worst(
    images: np.ndarray, names: Sequence[str], reasons: Sequence[str], pixel_um: float
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
    """
    images = style.check_shape("images", images, (len(names), None, None))
    reasons = style.check_shape("reasons", list(reasons), (len(names),))
    if not len(images):
        raise ValueError("images is empty; give one brain or more")
    figure, axes = draw.gallery(images, list(map(str, names)), pixel_um, columns=4)
    for ax, reason in zip(axes, reasons, strict=True):
        text = {"transform": ax.transAxes, "va": "bottom", "fontsize": style.SMALL}
        words = str(reason or "within the limit").replace(", ", ",\n")
        ax.text(0.02, 0.03, words, **text, **style.legible())
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
    """
    ranked = sorted(refused.items(), key=lambda item: -item[1])
    labels = ["Kept", *(textwrap.fill(style.sentence(reason), 46) for reason, _ in ranked)]
    counts = [kept, *(count for _, count in ranked)]
    lines = sum(1 + 0.55 * label.count("\n") for label in labels)
    figure = style.new_figure(0.27 * lines + 0.55)
    ax = figure.subplots()
    colours = [ORDINARY] + [MARKED] * len(ranked)
    bars = ax.barh(range(len(labels)), counts, color=colours, height=0.7)
    ax.bar_label(bars, padding=3, fontsize=style.SMALL)
    ax.set_yticks(range(len(labels)), labels)
    ax.set(ylim=(len(labels) - 0.5, -0.5), xlim=(0, 1.1 * max(*counts, 1)), xlabel="Brains")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.tick_params(axis="y", length=0)
    return figure
