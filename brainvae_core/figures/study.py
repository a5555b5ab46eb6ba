"""Figures of a whole study: every point of the β × L grid, rate and distortion (§ 2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from brainvae_core.figures.labels import SHAPE_SIZES, freely_placed
from brainvae_core.figures.palette import GREY
from brainvae_core.figures.style import (
    DARK,
    check_shape,
    colour_bar,
    heat_map,
    letters,
    new_figure,
    panel_title,
    styled,
    thinned,
)

# Of the first mark and of the second: told apart by their line as well as by their colour.
MARKS = ({"color": "#D55E00", "ls": "-"}, {"color": "black", "ls": (0, (2, 1.2))})
SHAPES = "osD^vPX*<>hp"  # of the numbers of latents
MOST_IN_CELLS = 8  # columns whose cells have room for a number


@styled
def fig_grids(
    panels: Mapping[str, np.ndarray],
    betas: Sequence[float],
    latent_dims: Sequence[int],
    marks: Mapping[str, tuple[float, float]],
) -> Figure:
    """Several numbers at every point of the grid of β and the number of latents.

    Each panel is one number, named above with its unit; whether high is good depends on it. Rows
    are β, the weight of the code's cost (KL divergence) in training, rising upwards; columns the
    number of latents L; hatched cells have no successful fit. Colour, and the number in a cell
    where there is room, is the value there; each panel has its own colour scale, dark for low and
    yellow for high; where its bar has a pointed end, single values lie far beyond. Where cells are
    framed, the legend names them.

    Parameters
    ----------
    panels : mapping of title to ndarray, each (n_betas, n_dims)
        What the number is, with its unit; NaN where no fit succeeded, which is hatched.
    betas : sequence of float, n_betas
    latent_dims : sequence of int, n_dims
    marks : mapping of str to (beta, latent_dim)
        At most two points to frame, such as the chosen one and the paper's. One that is not of
        this grid, or is NaN, is left out.

    Returns
    -------
    Figure
    """
    wanted = (len(betas), len(latent_dims))
    panels = {title: check_shape(title, values, wanted) for title, values in panels.items()}
    n_rows = -(-len(panels) // 2)
    figure = new_figure(n_rows * (0.75 + max(0.095 * len(betas), 0.7)) + 0.45)
    axes = figure.subplots(n_rows, 2, squeeze=False)
    names = letters(len(panels))
    rows = thinned([f"{b:g}" for b in betas], 10)
    columns = thinned([str(d) for d in latent_dims], 20)
    for letter, ax, (title, values) in zip(names, axes.flat, panels.items(), strict=False):
        fmt = f",.{_decimals(values)}f"
        inside = fmt if len(latent_dims) <= MOST_IN_CELLS and len(betas) <= 10 else ""
        low, high = bulk(values)
        shown = heat_map(ax, values, rows, columns, limits=(low, high), fmt=inside, fontsize=7)
        ax.invert_yaxis()
        panel_title(ax, letter, title)
        for look, point, gap in zip(MARKS, marks.values(), (0, 0.08), strict=False):
            _frame(ax, point, betas, latent_dims, look, gap)
        below, above = np.nanmin(values) < low, np.nanmax(values) > high
        beyond = ("both" if above else "min") if below else "max" if above else "neither"
        bar = colour_bar(figure, shown, ax, "", aspect=14, extend=beyond)
        bar.locator = MaxNLocator(4) if high > low else FixedLocator([low])
        bar.formatter = FuncFormatter(lambda y, _, fmt=fmt: _number(y, fmt))
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax in axes[:, 0]:
        ax.set_ylabel("β", rotation=0, va="center", labelpad=8)
    for ax in axes.flat[max(len(panels) - 2, 0) : len(panels)]:
        ax.set_xlabel("Number of latents L")
    handles = _mark_legend(marks, np.ones(wanted, bool), betas, latent_dims)
    if any(np.isnan(v).any() for v in panels.values()):
        handles.append(Patch(fc="#F2F2F2", ec="#AAAAAA", hatch="////", lw=0, label="no fit"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


@styled
def fig_rate_distortion(
    rate: np.ndarray,
    distortion: np.ndarray,
    betas: Sequence[float],
    latent_dims: Sequence[int],
    marks: Mapping[str, tuple[float, float]],
) -> Figure:
    """What a nat of code buys: distortion against rate, one line per number of latents.

    Horizontal: rate R, the KL divergence of the code from its prior; vertical: distortion D, the
    misfit of what is decoded; both in nats (units of information) per image, both better when low.
    A line joins the means over seeds at one L (colour and marker) in the order of β, which is
    written along one line; open markers are single fits, a triangle with a number one far beyond
    the edge; along thin grey lines D + R, the bound at β = 1, is constant. B shows one L alone,
    with the dashed chord of its knee. Where points stand in squares, the legend names them.

    Parameters
    ----------
    rate, distortion : ndarray, shape (n_betas, n_dims, n_seeds)
        Nats per image; NaN where a fit failed.
    betas : sequence of float, n_betas
    latent_dims : sequence of int, n_dims
    marks : mapping of str to (beta, latent_dim)
        As for `fig_grids`.

    Returns
    -------
    Figure
    """
    wanted = (len(betas), len(latent_dims), None)
    rate = check_shape("rate", np.asarray(rate, float), wanted)
    distortion = check_shape("distortion", np.asarray(distortion, float), rate.shape)
    known = np.isfinite(rate).any(axis=2)
    means = np.full((2, *known.shape), np.nan)
    means[:, known] = [np.nanmean(a[known], axis=1) for a in (rate, distortion)]
    figure = new_figure(4.2)
    whole, one = figure.subplots(1, 2, width_ratios=[3, 2])
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(latent_dims)))
    shapes = np.resize(list(SHAPES), len(latent_dims))
    for column, look in enumerate(zip(colours, shapes, strict=True)):
        _curve(whole, rate[:, column], distortion[:, column], means[:, :, column], *look, 4)
    marked = [n for beta, n in marks.values() if n in list(latent_dims)]
    alone = list(latent_dims).index([*marked, latent_dims[-1]][0])
    here = means[:, :, alone]
    _curve(one, rate[:, alone], distortion[:, alone], here, colours[alone], shapes[alone], 5)
    by_rate = here[:, np.argsort(here[0])][:, : known[:, alone].sum()]  # NaN comes last
    one.plot(*by_rate[:, :: max(by_rate.shape[1] - 1, 1)], color=GREY, lw=1, ls="--", zorder=1)
    one.margins(x=0.25)
    _without_far(whole, rate, distortion, colours)
    _without_far(one, rate[:, [alone]], distortion[:, [alone]], [colours[alone]])
    _constant_bound(whole, means.sum(axis=0))
    for look, (beta, latent_dim) in zip(MARKS, marks.values(), strict=False):
        if _is_at(beta, latent_dim, known, betas, latent_dims):
            place = means[:, list(betas).index(beta), list(latent_dims).index(latent_dim)]
            ring = {"facecolors": "none", "edgecolors": look["color"], "linestyles": look["ls"]}
            for ax in (whole, one) if latent_dim == latent_dims[alone] else (whole,):
                ax.scatter(*place, marker="s", s=110, linewidths=2, zorder=6, **ring)
    for ax in (whole, one):
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(FuncFormatter(tick))
        ax.set_xlabel("Rate R: KL divergence (nats per image)")
    whole.set_ylabel("Distortion D: −E log p(x|z) (nats per image)")
    panel_title(whole, "A", "Every number of latents")
    panel_title(one, "B", f"L = {latent_dims[alone]} alone, and its chord")
    steps = np.arange(len(latent_dims) + 1) - 0.5
    scale = ScalarMappable(BoundaryNorm(steps, len(colours)), ListedColormap(colours))
    bar = colour_bar(figure, scale, (whole, one), "Number of latents L")
    bar.set_ticks(range(len(latent_dims)), labels=thinned([str(d) for d in latent_dims], 20))
    bar.ax.tick_params(length=0)
    bar.ax.minorticks_off()
    for step, shape in enumerate(shapes):
        size = 4 * SHAPE_SIZES.get(shape, 1)
        bar.ax.plot(0.5, step, shape, color="white", mec="black", mew=0.7, ms=size, clip_on=False)
    handles = _mark_legend(marks, known, betas, latent_dims)
    fit = {"marker": "o", "ms": 4, "ls": "", "mfc": "none", "mec": GREY}
    handles.append(Line2D([], [], label="one fit", **fit))
    handles.append(Line2D([], [], color=GREY, lw=0.6, label="D + R constant (nats)"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    figure.draw_without_rendering()  # only then is known where there is room
    _label_betas(one, *here, betas, apart=0.12)
    lowest = np.flatnonzero(known.all(axis=0))[-1:]
    _label_betas(whole, *means[:, :, lowest].reshape(2, -1), betas, apart=0.12)
    return figure


def _frame(ax, point, betas, latent_dims, look, gap) -> None:
    """A frame around a cell, ``gap`` of a cell inside it."""
    beta, latent_dim = point
    if beta in list(betas) and latent_dim in list(latent_dims):
        row, column = list(betas).index(beta), list(latent_dims).index(latent_dim)
        corner, side = (column - 0.5 + gap, row - 0.5 + gap), 1 - 2 * gap
        line = {"fill": False, "ec": look["color"], "ls": look["ls"], "lw": 1.8, "zorder": 5}
        halo = [withStroke(linewidth=3.2, foreground="white")]
        ax.add_patch(Rectangle(corner, side, side, clip_on=False, path_effects=halo, **line))


def _mark_legend(marks, known, betas, latent_dims) -> list:
    """What each mark is, in words; one that is drawn nowhere has no key."""
    handles = []
    for look, (name, (beta, latent_dim)) in zip(MARKS, marks.items(), strict=False):
        if _is_at(beta, latent_dim, known, betas, latent_dims):
            text = f"{name}: β = {beta:g}, L = {latent_dim:g}"
            handles.append(Patch(fill=False, ec=look["color"], ls=look["ls"], lw=1.8, label=text))
    return handles


def _is_at(beta, latent_dim, known, betas, latent_dims) -> bool:
    """Whether a point is one of the grid's that is known, (n_betas, n_dims)."""
    there = beta in list(betas) and latent_dim in list(latent_dims)
    return there and bool(known[list(betas).index(beta), list(latent_dims).index(latent_dim)])


def bulk(values: np.ndarray) -> tuple[float, float]:
    """Least and greatest of all values but single ones far away from the others.

    Far is a gap of a third of the whole range; single are one in twenty, and of ten or more one.
    """
    values = np.sort(np.asarray(values, float), axis=None)
    values = values[np.isfinite(values)]
    if not values.size:
        return np.nan, np.nan
    few = max(len(values) // 20, len(values) >= 10)
    wide = np.diff(values) > np.ptp(values) / 3
    first = max((i + 1 for i in np.flatnonzero(wide[:few])), default=0)
    last = min((i for i in np.flatnonzero(wide) if len(values) - 1 - i <= few), default=-1)
    return float(values[first]), float(values[last])


def _curve(ax, rate, distortion, means, colour, shape, size) -> None:
    """Every fit of one L as an open mark, and the line through the means of those that have any."""
    size *= SHAPE_SIZES.get(shape, 1)
    ax.plot(rate, distortion, shape, ms=0.85 * size, mew=0.8, mfc="none", mec=colour, alpha=0.8)
    line = {"ms": 1.2 * size, "mec": "white", "mew": 0.4, "lw": 1.3, "color": colour}
    ax.plot(*means[:, np.isfinite(means[0])], f"{shape}-", **line)


def _without_far(ax, rate, distortion, colours) -> None:
    """The axis of distortion without single fits far away, for which triangles stand at its end."""
    low, high = bulk(distortion)
    if not ((distortion < low) | (distortion > high)).any():
        return
    margin = 0.08 * (high - low)
    ax.set_ylim(low - margin, high + margin)
    for up, far in ((True, distortion > high), (False, distortion < low)):
        for row, column, seed in np.argwhere(far):
            x = rate[row, column, seed]
            place = {"transform": ax.get_xaxis_transform(), "clip_on": False, "zorder": 6}
            look = {"color": colours[column], "mec": "white", "mew": 0.4, "ms": 8}
            ax.plot(x, float(up), "^" if up else "v", **look, **place)
            words = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points"}
            words |= {"va": "top" if up else "bottom", "fontsize": 7, "color": DARK, "zorder": 6}
            words["bbox"] = {"fc": "white", "ec": "none", "pad": 0.5}
            told = f"D = {tick(round(distortion[row, column, seed]))}"
            ax.annotate(told, (x, float(up)), (6, -3 if up else 3), **words)


def _label_betas(ax, rate, distortion, betas, apart) -> None:
    """β beside points of a curve that are this share of the panel apart, its ends first."""
    known = np.flatnonzero(np.isfinite(rate)) if rate.size else []
    spans = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
    low, high = ax.get_ylim()
    known = [row for row in known if low <= distortion[row] <= high]
    few, places = [], np.transpose([rate, distortion]) / spans
    for row in (*known[::-1][:1], *known[:-1]):
        if all(max(abs(places[row] - places[i])) >= apart for i in few):
            few.append(row)
    for row in few:
        place = rate[row], distortion[row]
        freely_placed(ax, f"β = {betas[row]:g}", place, fontsize=8, zorder=7)


def _constant_bound(ax, bound) -> None:
    """Lines of slope −1, each with its D + R at its end, outside the axes."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    known = bound[np.isfinite(bound)]
    levels = MaxNLocator(6).tick_values(known.min(), known.max()) if known.size else []
    for level in levels:
        if low < level - right < high - 0.05 * (high - low):
            thin = {"color": GREY, "lw": 0.6, "zorder": 0}
            ax.plot([left, right], [level - left, level - right], **thin)
            aside = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
            text = {"color": GREY, "fontsize": 7, "annotation_clip": False}
            ax.annotate(tick(level), (right, level - right), **aside, **text)
    ax.set(xlim=(left, right), ylim=(low, high))


def _decimals(values) -> int:
    """Digits behind the point that tell the values of a panel apart."""
    spread = np.nanmax(values) - np.nanmin(values) if np.isfinite(values).any() else 0
    if spread == 0 or np.array_equal(values, np.round(values)):
        return 0
    return int(np.clip(1 - np.floor(np.log10(spread)), 0, 4))


def _number(value, fmt) -> str:
    return f"{value:{fmt}}".replace("-", "−")


def tick(value, _=None) -> str:
    """A tick's number, with commas and a proper minus."""
    return _number(value, ",.10g")
