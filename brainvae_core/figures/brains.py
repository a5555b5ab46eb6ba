"""Figures of sections: of a cohort and of a lab, what models make of them, and how they deviate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import ndimage

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled

ORDINARY, MARKED = style.LOOKS["VAE"][0], style.LOOKS["β-VAE"][0]
BINS = 40
FAR = 5.0  # standard deviations at which colours end
SURE = 0.05  # family-wise error rate inside an outline


@styled
def fig_sections(
    images: np.ndarray,
    titles: Sequence[str],
    pixel_um: float,
    *,
    words: Sequence[str] = (),
    masks: np.ndarray | None = None,
    columns: int = 4,
) -> Figure:
    """Sections with a title each, and words and outlines on them.

    All share one grey scale, from 0 (black) to the brightest tissue (white).

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Brightness in [0, 1].
    titles : sequence of str, n
    pixel_um : float
        Side of a pixel in µm.
    words : sequence of str, n, optional
        To stand on the sections.
    masks : ndarray of bool, shape (n, height, width), optional
        Outlined where they are small enough to lie somewhere.
    columns : int
        Sections in a row.
    """
    images = style.check_shape("images", images, (len(titles), None, None))
    if not len(images):
        raise ValueError("images is empty; give one brain or more")
    masks = np.zeros(images.shape) if masks is None else masks
    masks = style.check_shape("masks", masks, images.shape)
    words = style.check_shape("words", list(words) or [""] * len(images), (len(images),))
    figure, axes = draw.gallery(images, list(map(str, titles)), pixel_um, columns)
    for ax, word, mask in zip(axes, words, masks, strict=True):
        text = {"transform": ax.transAxes, "va": "bottom", "fontsize": style.SMALL}
        ax.text(0.02, 0.03, word, **text, **style.legible())
        if mask.mean() <= draw.LOCAL:
            draw.outline(ax, mask)
    return figure


@styled
def fig_factors(
    low_high_images: Mapping[str, tuple[np.ndarray, np.ndarray]],
    mean_image: np.ndarray,
    pixel_um: float,
    steps: tuple[str, str],
) -> Figure:
    """What goes with each factor: brains with little of it, with much, and the difference.

    Third: the second less the first in grey values (0 to 1), red brighter.

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
    for block, (name, (low, high)) in zip(blocks, pairs.items(), strict=False):
        block[0].set_title(style.factor_label(name), loc="left")
        for ax, image, step in zip(block, (low, high), steps, strict=False):
            draw.show_section(ax, image, limit)
            text = {"transform": ax.transAxes, "fontsize": style.SMALL, **style.legible()}
            ax.text(0.02, 0.03, step, **text)
        shown = draw.show_difference(block[2], high - low, change)
        draw.contours(block[2], mean_image)
    draw.scale_bar(blocks[len(pairs) - 1, -1], pixel_um)
    label = f"Difference of brightness, {steps[1]} minus {steps[0]}"
    draw.colour_bar(figure, shown, axes, label, location="bottom", shrink=0.5, aspect=40)
    return figure


@styled
def fig_quality(statistics: pd.DataFrame, is_outlier: np.ndarray, limit: float) -> Figure:
    """How far each brain is from the usual one, by each statistic of quality control.

    Beyond the dashed limit the axis is logarithmic. A triangle is an outlier, at any height.

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
    n = statistics.shape[1]
    (figure, panels), names = style.new_panels(n, min(2, n), 2.1, 0.3), style.letters(n)
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
    ends = [end for end in (low, high) if 1.3 * limit < abs(end) < min(far, default=np.inf)]
    near = [t for t in near if not any(t * end >= limit**2 for end in ends)]  # too near to that
    ticks = [t for t in (*(-t for t in far), *near, *far, *np.fix(ends)) if low <= t <= high]
    ax.set_xticks(ticks, list(map(style.written, ticks)))
    ax.minorticks_off()
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_xlabel("Robust SD from the median training brain")


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

    All share one grey scale, from 0 (black) to the brightest tissue (white).

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Brightness in [0, 1].
    reconstructions : mapping of model, or other row, to ndarray, each (n, height, width)
    pixel_um : float
    titles : sequence of str, n
    first_row : str
        What ``images`` are.
    """
    return draw.montage({first_row: images, **reconstructions}, titles, pixel_um)[0]


@styled
def fig_error_maps(
    inputs: np.ndarray,
    maps: Mapping[str, np.ndarray],
    names: Sequence[str],
    pixel_um: float,
    masks: np.ndarray,
    label: str,
) -> Figure:
    """Where a model does not reproduce a brain: one column per brain, one row per model.

    A light blue outline marks an artefact.

    Parameters
    ----------
    inputs : ndarray, shape (n, height, width)
    maps : mapping of model to ndarray, each (n, height, width)
        From 0, on one scale.
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


@styled
def fig_deviations(z: pd.DataFrame) -> Figure:
    """How far each brain lies from the reference brains, by region or other measure.

    Colours end at 5. Of a hundred ordinary brains five lie beyond 2 in any one column.

    Parameters
    ----------
    z : DataFrame, brains × measures
        Standard deviations from what is usual.
    """
    n_rows, n_columns = z.shape
    looks = {"limits": (-FAR, FAR), "cmap": style.DIFFERENCE, "most": (50, 34)}
    label, height = "Standard deviations from the norm", 1.1 + min(max(0.16 * n_rows, 0.8), 8.0)
    figure, (ax,) = draw.heat_maps({"": z}, label, height, bar={"extend": "both"}, **looks)
    ax.tick_params(axis="x", rotation=90 if n_columns > 8 else 0)
    ax.tick_params(axis="y", rotation=0)
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

    In grey values (0 to 1), red brighter in the second group; black rings go round pixels that
    differ beyond chance.

    Parameters
    ----------
    first : ndarray, shape (height, width)
        Mean section, whose outlines lie over the differences in grey.
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
    axes[0, 0].set_title(style.sentence(name))
    for ax, (title, difference) in zip(axes[0, 1:], maps.items(), strict=True):
        shown = draw.show_difference(ax, difference, limit)
        draw.contours(ax, first)
        ax.set_title(style.sentence(title))
    near = max(first.shape[1] // 100, 1)  # a single pixel would not be seen
    draw.outline(axes[0, 1], ndimage.binary_dilation(sure, iterations=near), "black", 1.2)
    draw.scale_bar(axes[0, -1], pixel_um)
    place = {"location": "bottom", "shrink": 0.4, "aspect": 40}
    draw.colour_bar(figure, shown, axes, "Difference of brightness", **place)
    return figure
