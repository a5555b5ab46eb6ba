"""Figures of a lab's own brains: what came in, how unusual it is, how two groups differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled

FAR = 5.0  # standard deviations at which colours end
SURE = 0.05  # family-wise error rate inside an outline


@styled
def fig_contact_sheet(
    images: np.ndarray,
    names: Sequence[str],
    words: Sequence[str],
    pixel_um: float,
    *,
    masks: np.ndarray | None = None,
) -> Figure:
    """Every brain that is used, those first that need a look.

    Each image is the section of one brain, its id above. Words on it say what was found; an orange
    outline marks where, unless that is more than a fifth of the image. All sections share one grey
    scale, black for no signal, and the scale bar.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Brightness in [0, 1], in the order in which they are shown.
    names, words : sequence of str, n
    pixel_um : float
    masks : ndarray of bool, shape (n, height, width), optional
    """
    images = style.check_shape("images", images, (len(names), None, None))
    if not len(images):
        raise ValueError("images is empty; give one brain or more")
    masks = np.zeros(images.shape) if masks is None else masks
    figure, axes = draw.gallery(images, list(map(str, names)), pixel_um, columns=6)
    marked = zip(axes, words, style.check_shape("masks", masks, images.shape), strict=True)
    for ax, text, mask in marked:
        look = {"transform": ax.transAxes, "va": "bottom", "fontsize": style.SMALL}
        ax.text(0.02, 0.03, str(text), **look, **style.legible())
        if mask.mean() <= draw.LOCAL:
            draw.outline(ax, mask)
    return figure


@styled
def fig_deviations(z: pd.DataFrame, label: str = "Standard deviations from the norm") -> Figure:
    """How far each brain lies from the reference brains, region by region.

    A row is a brain, a column a region or other measure; the colour is the deviation from what is
    usual among the reference brains, in standard deviations: red above, blue below, white as usual,
    full colour at 5 or more. Of a hundred ordinary brains five lie beyond 2 in any one column.

    Parameters
    ----------
    z : DataFrame, brains × measures
    label : str
        Of the colour bar.
    """
    n_rows, n_columns = z.shape
    figure = style.new_figure(1.1 + min(max(0.16 * n_rows, 0.8), 8.0))
    ax = figure.subplots()
    limits, most = (-FAR, FAR), (50, 34)
    shown = draw.heat_map(ax, z, limits=limits, cmap=style.DIFFERENCE, most=most)
    ax.tick_params(axis="x", rotation=90 if n_columns > 8 else 0)
    ax.tick_params(axis="y", rotation=0)
    draw.colour_bar(figure, shown, ax, label, extend="both")
    return figure


@styled
def fig_group_maps(
    first: np.ndarray,
    differences: Mapping[str, np.ndarray],
    p_family: np.ndarray,
    name: str,
    pixel_um: float,
) -> Figure:
    """Where two groups differ, pixel by pixel.

    Left: a mean section, as its title says. Then the second group's minus the first's, red where
    the second is brighter and blue where it is darker, each panel as its title says; all share one
    scale of brightness (1 is white). A black outline holds the pixels whose difference is beyond
    chance: in 19 of 20 studies without any difference there is no outline at all. Grey lines are
    contours of the mean section.

    Parameters
    ----------
    first : ndarray, shape (height, width)
        Mean section.
    differences : mapping of title to ndarray, each (height, width)
    p_family : ndarray, shape (height, width)
        Of the first difference's pixels, over all pixels together.
    name : str
        What ``first`` is.
    pixel_um : float
    """
    first = style.check_shape("first", first, (None, None))
    maps = {k: style.check_shape(k, d, first.shape) for k, d in differences.items()}
    sure = style.check_shape("p_family", p_family, first.shape) < SURE
    figure, axes = draw.image_grid(1, len(maps) + 1, first.shape, below=0.5)
    limit = style.difference_limit(*maps.values())
    draw.show_section(axes[0, 0], first, style.grey_limit(first[None]))
    axes[0, 0].set_title(name)
    for ax, (title, difference) in zip(axes[0, 1:], maps.items(), strict=True):
        shown = draw.show_difference(ax, difference, limit)
        contours = [0.15 * first.max(), 0.5 * first.max()]
        ax.contour(first, levels=contours, colors="#888888", linewidths=0.3)
        ax.set_title(title)
    draw.outline(axes[0, 1], sure, "black", 1.0)
    draw.scale_bar(axes[0, -1], pixel_um)
    place = {"location": "bottom", "shrink": 0.4, "aspect": 40}
    draw.colour_bar(figure, shown, axes, "Difference of brightness", **place)
    return figure


@styled
def fig_power(table: pd.DataFrame, n_now: int) -> Figure:
    """How small a difference two groups of so many brains show, region by region.

    A line is a region; horizontal: the brains in each of two groups; vertical: the difference that
    is found in 80 of 100 studies, in % of the region's brightness, all regions being tested
    together. Beside the lines stand the names of the regions that vary least, most and between. The
    dashed line is at the brains that there are now.

    Parameters
    ----------
    table : DataFrame
        A region and a number of brains a row: ``region``, ``n_per_group`` and ``value``.
    n_now : int
    """
    lines = table.pivot(index="n_per_group", columns="region", values="value")
    lines = lines[lines.iloc[-1].sort_values().index]
    if lines.empty:
        raise ValueError("table is empty; give a region and a number of brains or more")
    figure = style.new_figure(3.2, width=6.4)
    ax = figure.subplots()
    named = {0: style.ACCENT, (lines.shape[1] - 1) // 2: style.DARK, lines.shape[1] - 1: "#0072B2"}
    for i, (region, values) in enumerate(lines.items()):
        colour = named.get(i, style.PALE)
        ax.plot(values, color=colour, lw=1.8 if i in named else 0.8, zorder=2 + (i in named))
        if i in named:
            at = (values.index[-1], values.iloc[-1])
            look = {"va": "center", "fontsize": style.SMALL, "color": colour}
            ax.annotate(region, at, (4, 0), textcoords="offset points", **look)
    ax.axvline(n_now, **style.REFERENCE)
    ax.set(xscale="log", yscale="log", xlabel="Brains in each of two groups")
    ax.set_ylabel("Smallest difference found (%)")
    for axis in (ax.xaxis, ax.yaxis):
        style.plain_log(axis)
    return figure
