"""What figures are made of: sections, heat maps, lines with bands, points, distributions.

Tables of lines have ``model, x, value, low, high``, of points ``label, y, value, low, high``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import CenteredNorm
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from brainvae_core.figures import style
from brainvae_core.figures.style import BookFigure

LOCAL = 0.2  # of an image: what covers more is everywhere, and its outline would only hide it
MOST_TICKS = 8  # of a logarithmic axis, one at every x; with more they are round numbers
MOST_BANDS = 3  # models whose bands can lie on one another and still be told apart


# ---- sections ----


def image_grid(
    n_rows: int,
    n_columns: int,
    shape: tuple[int, int],
    *,
    titled_rows: int = 1,
    beside: float = 0.0,
    below: float = 0.0,
) -> tuple[BookFigure, np.ndarray]:
    """A figure of bare panels for images of one shape, and its Axes, (n_rows, n_columns).

    ``beside`` and ``below`` are inches for labels at the left, and for a legend or colour bar.
    """
    others = 0.03 * n_rows + 0.25 * titled_rows + below + 0.21
    ratio = shape[0] / shape[1]
    panel = min((style.WIDTH - 0.1 - beside) / n_columns, 2.8, (9 - others) / n_rows / ratio)
    figure = style.new_figure(n_rows * panel * ratio + others, layout="compressed")
    figure.shown_as = "png"
    gap = 0.03 if titled_rows > 1 else 0.015
    figure.get_layout_engine().set(w_pad=0.015, h_pad=gap, wspace=0.01, hspace=0.005)
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax in axes.flat:
        bare(ax)
    return figure, axes


def montage(
    rows: Mapping[str, np.ndarray],
    titles: Sequence[str],
    pixel_um: float,
    *,
    masks: np.ndarray | None = None,
    outlines: str = style.ACCENT,
    shown: Mapping[str, dict] | None = None,
    below: float = 0.0,
) -> tuple[BookFigure, np.ndarray]:
    """A named row of images each, one column per title, greys of the first row's brightness.

    ``shown`` are other settings of a row's images; ``masks``, one a column, are outlined in every
    row where they are small enough to lie somewhere.
    """
    first = next(iter(rows))
    shape = style.check_shape(first, rows[first], (len(titles), None, None)).shape
    rows = {name: style.check_shape(name, images, shape) for name, images in rows.items()}
    masks = np.zeros(shape) if masks is None else style.check_shape("masks", masks, shape)
    grey = {"cmap": "gray", "vmin": 0, "vmax": style.grey_limit(rows[first])}
    names = {name: textwrap.fill(name, 12, break_long_words=False) for name in rows}
    longest = max(len(line) for name in names.values() for line in name.split("\n"))
    figure, axes = image_grid(
        len(rows), len(titles), shape[1:], beside=0.2 + 0.08 * longest, below=below
    )
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(names[name], rotation=0, ha="right", va="center")
        for ax, image, mask in zip(line, images, masks, strict=True):
            ax.imshow(image, **(shown or {}).get(name, grey))
            if mask.mean() <= LOCAL:
                outline(ax, mask, outlines, 0.7)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    scale_bar(axes[-1, -1], pixel_um)
    return figure, axes


def beside_changes(
    rows: Mapping[str, np.ndarray],
    changes: Mapping[str, np.ndarray],
    titles: Sequence[str],
    pixel_um: float,
    label: str,
    limit: float,
    *,
    masks: np.ndarray | None = None,
) -> BookFigure:
    """A montage whose right columns are what changed in each row, in colours up to ``limit``."""
    both = {name: np.concatenate([images, changes[name]]) for name, images in rows.items()}
    figure, axes = montage(both, titles, pixel_um, masks=masks, below=0.5)
    n = len(next(iter(rows.values())))
    white = style.grey_limit(next(iter(rows.values())))
    shown = {"cmap": style.DIFFERENCE, "norm": CenteredNorm(0, halfrange=limit)}
    for ax in axes[:, :n].flat:
        ax.images[0].set_clim(0, white)
    for ax in axes[:, n:].flat:
        ax.images[0].set(**shown)
    place = {"location": "bottom", "shrink": 0.8, "extend": "both", "aspect": 40}
    place["ticks"] = MaxNLocator(5)
    colour_bar(figure, ScalarMappable(**shown), axes[:, n:], label, **place)
    return figure


def gallery(
    images: np.ndarray, titles: Sequence[str], pixel_um: float, columns: int = 4, below: float = 0.0
) -> tuple[BookFigure, np.ndarray]:
    """Images in rows of so many, each with its title, on one grey scale (or in their colours)."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    shape = images.shape[1:3]
    figure, axes = image_grid(rows, columns, shape, titled_rows=rows, below=below)
    white = style.grey_limit(images) if images.ndim == 3 else None
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        show_section(ax, image, white)
        ax.set_title(title)
    for ax in axes.flat[len(images) :]:
        ax.set_visible(False)
    scale_bar(axes.flat[len(images) - 1], pixel_um)
    return figure, axes.ravel()[: len(images)]


def bare(ax: Axes) -> None:
    """Take ticks and frame away; titles and labels stay."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def show_section(ax: Axes, image: np.ndarray, limit: float = 1.0) -> AxesImage:
    """A section in greys from 0 to ``limit``."""
    bare(ax)
    return ax.imshow(image, cmap="gray", vmin=0, vmax=limit)


def show_difference(ax: Axes, difference: np.ndarray, limit: float) -> AxesImage:
    """A difference of brightness: red above 0, blue below, white at 0."""
    bare(ax)
    return ax.imshow(difference, cmap=style.DIFFERENCE, norm=CenteredNorm(0, halfrange=limit))


def scale_bar(ax: Axes, pixel_um: float) -> None:
    """A bar of whole millimetres (or a simple part of one) below the right end of a section.

    Nothing lies under it there, so it is for panels of a last row.
    """
    width = ax.images[0].get_array().shape[1]
    mm = width * pixel_um / 1000
    length = max((s for s in (5, 2, 1, 0.5, 0.2, 0.1, 0.05) if s <= 0.15 * mm), default=mm / 8)
    right = width - 0.5
    below = ax.get_xaxis_transform() + ScaledTranslation(0, -6 / 72, ax.figure.dpi_scale_trans)
    ends = [right - length * 1000 / pixel_um, right]
    look = {"color": "black", "lw": 2, "solid_capstyle": "butt", "clip_on": False}
    ax.add_artist(Line2D(ends, [0, 0], transform=below, **look))
    text = {"ha": "right", "va": "center", "fontsize": style.SMALL, "transform": below}
    ax.text(ends[0] - 0.02 * width, 0, f"{length:g} mm", **text)


def orient(ax: Axes) -> None:
    """L, R, D and V inside the edges of a coronal section: left, right, dorsal, ventral."""
    text = {"transform": ax.transAxes, "fontsize": style.SMALL, **style.legible()}
    for letter, x, y, ha, va in (
        ("L", 0.02, 0.5, "left", "center"),
        ("R", 0.98, 0.5, "right", "center"),
        ("D", 0.5, 0.97, "center", "top"),
        ("V", 0.5, 0.03, "center", "bottom"),
    ):
        ax.text(x, y, letter, ha=ha, va=va, **text)


def outline(ax: Axes, mask: np.ndarray, colour: str = style.ACCENT, width: float = 0.8) -> None:
    """The border of a mask, (height, width) bool."""
    if np.any(mask) and not np.all(mask):
        ax.contour(np.asarray(mask, float), levels=[0.5], colors=[colour], linewidths=width)


def contours(ax: Axes, mean_section: np.ndarray) -> None:
    """Pale outlines of an average section, to show where a difference lies."""
    levels = [0.15 * mean_section.max(), 0.5 * mean_section.max()]
    ax.contour(mean_section, levels=levels, colors="#AAAAAA", linewidths=0.3)


def heat_map(
    ax: Axes,
    table: pd.DataFrame,
    *,
    limits: tuple[float, float] | None = None,
    cmap: str = "viridis",
    write: Callable[[float], str] | str = "",
    fontsize: float = style.SMALL,
    most: tuple[int, int] = (100, 100),
) -> QuadMesh:
    """A labelled table as colours; ``write`` puts numbers in its cells. NaN cells are hatched.

    ``most`` rows and columns have room for a label.
    """
    values = table.to_numpy(float)
    if not np.isfinite(values).any():
        raise ValueError("the table has no finite entry, so there is nothing to draw")
    low, high = limits or (np.nanmin(values), np.nanmax(values))
    to_text = write if callable(write) else lambda value: f"{value:{write}}" if write else ""
    text = [["" if np.isnan(v) else to_text(v).replace("-", "−") for v in row] for row in values]
    ax.patch.set(**style.MISSING)
    sns.heatmap(
        values, vmin=low, vmax=high, cmap=cmap, cbar=False, ax=ax, xticklabels=False,
        yticklabels=False, annot=np.array(text) if write else None, fmt="",
        annot_kws={"fontsize": fontsize},
    )  # fmt: skip
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, style.thinned(map(str, table.columns), most[1]))
    ax.set_yticks(np.arange(len(values)) + 0.5, style.thinned(map(str, table.index), most[0]))
    ax.tick_params(length=0)
    return ax.collections[0]


def heat_maps(
    tables: Mapping[str, pd.DataFrame],
    label: str,
    height: float,
    width: float = style.WIDTH,
    *,
    share_y: bool = False,
    bar: Mapping[str, object] | None = None,
    **cells,
) -> tuple[BookFigure, np.ndarray]:
    """A figure of titled heat maps side by side, with one bar for all, and its Axes."""
    n = len(tables)
    figure = style.new_figure(height, width=width)
    axes = figure.subplots(1, n, sharey=share_y, squeeze=False)[0]
    for letter, ax, (title, table) in zip(style.letters(n), axes, tables.items(), strict=True):
        shown = heat_map(ax, table, **cells)
        style.panel_title(ax, letter, textwrap.fill(title, 84 // n))
    colour_bar(figure, shown, list(axes), label, **bar or {})
    return figure, axes


def colour_bar(figure, image, axes, label: str, **options):
    """A slim colour bar without a frame."""
    bar = figure.colorbar(image, ax=axes, label=label, **{"aspect": 30, "pad": 0.02, **options})
    bar.outline.set_visible(False)
    return bar


# ---- estimates: lines with bands, points with intervals ----


def by_panel(table: pd.DataFrame, panel: str) -> dict[str, pd.DataFrame]:
    """Rows of each panel, by title; all of them where the table does not tell panels apart."""
    if table.empty:
        raise ValueError("the table has no rows, so there is nothing to draw")
    return dict(iter(table.groupby(panel, sort=False))) if panel in table else {"": table}


def lines(
    ax: Axes,
    table: pd.DataFrame,
    looks: Mapping[str, dict],
    *,
    log_x: bool = False,
    least: float = 0.06,
    floor: float = -np.inf,
) -> None:
    """A line a model and its band, which ends at ``floor``; a tick at every x if there are few.

    Of more models than can be told apart by bands, bars a little beside one another. Along a
    logarithmic axis labels are left out where they are nearer than the share ``least`` of it.
    """
    at = np.unique(table["x"].astype(float))
    bars = len(looks) > MOST_BANDS and not table["low"].equals(table["high"])
    asides = _asides(np.log2(at) if log_x else at, len(looks)) if bars else np.zeros(len(looks))
    for (model, look), aside in zip(looks.items(), asides, strict=True):
        rows = table.loc[table["model"] == model, ["x", "value", "low", "high"]]
        x, value, low, high = rows.to_numpy(float).T
        if not len(x):
            continue
        low = np.maximum(low, floor)
        moved = x * 2**aside if log_x else x + aside
        if bars:
            ax.vlines(moved, low, high, color=look["color"], lw=1, alpha=0.75, zorder=1.5)
        elif not np.array_equal(low, high):
            by_x = np.argsort(x)
            shade = {"color": look["color"], "alpha": 0.18, "lw": 0}
            ax.fill_between(x[by_x], low[by_x], high[by_x], **shade)
        every = {"markevery": max(1, len(x) // 24), "ls": look["ls"]}
        ax.plot(moved, value, label=model, **style.mark(look, 5) | every)
    if log_x:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        if len(at) > MOST_TICKS:
            style.plain_log(ax.xaxis)
        else:
            ax.set_xticks(at, style.spaced(at, np.log2(at), least))
    else:
        ax.xaxis.set_major_formatter(style.PLAIN)
        if len(at) <= 6:
            ax.set_xticks(at)
    ax.yaxis.set_major_formatter(style.PLAIN)


def _asides(places: np.ndarray, n: int) -> np.ndarray:
    """How far beside its place each of n models stands: together less than half a step of x."""
    if len(places) < 2:
        return np.zeros(n)
    step = min(np.ptp(places) * 0.014, np.diff(places).min() * 0.5 / n)
    return step * (np.arange(n) - (n - 1) / 2)


def points(ax: Axes, table: pd.DataFrame, looks: Mapping[str, dict], *, hollow: bool = False):
    """A marker and a bar a row; ``hollow`` where it is not ``sure``, else where it holds zero."""
    for row in table.itertuples():
        look = looks[row.label]
        bar = {"color": look["color"], "lw": 1.5, "solid_capstyle": "butt"}
        ax.plot([row.low, row.high], [row.y, row.y], **bar)
        unsure = {"mfc": "white", "mec": look["color"], "mew": 1} if hollow else {}
        sure = getattr(row, "sure", row.low > 0 or row.high < 0)
        ax.plot(row.value, row.y, **style.mark(look, 6, **({} if sure else unsure)))


def legend(figure, handles: Mapping[str, object] | Sequence, **options) -> None:
    """One legend above all panels: artists by label, or artists with labels."""
    where = {"loc": "outside upper center", "ncols": min(6, max(len(handles), 1)), **options}
    if isinstance(handles, Mapping):
        figure.legend(list(handles.values()), list(handles), **where)
    else:
        figure.legend(handles=handles, **where)


def drawn_handles(axes: Iterable[Axes], order: Iterable[str]) -> dict[str, object]:
    """The artists of several panels by label, in this order."""
    found = {}
    for ax in axes:
        found |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    return {label: found[label] for label in order if label in found}
