"""Figures of the β × L grid: every point of it, and rate against distortion (§ 2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled

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
        NaN where no fit succeeded.
    betas : sequence of float, n_betas
    latent_dims : sequence of int, n_dims
    marks : mapping of str to (beta, latent_dim)
        At most two points to frame, such as the chosen one and the paper's. One that is not of
        this grid, or is NaN, is left out.
    """
    wanted = (len(betas), len(latent_dims))
    panels = {title: style.check_shape(title, values, wanted) for title, values in panels.items()}
    n_rows = -(-len(panels) // 2)
    figure = style.new_figure(n_rows * (0.75 + max(0.095 * len(betas), 0.7)) + 0.45)
    axes = figure.subplots(n_rows, 2, squeeze=False)
    room = len(latent_dims) <= MOST_IN_CELLS and len(betas) <= 10
    names = style.letters(len(panels))
    for letter, ax, (title, values) in zip(names, axes.flat, panels.items(), strict=False):
        digits = f",.{_decimals(values)}f"
        low, high = bulk(values)
        table = pd.DataFrame(values, [f"{b:g}" for b in betas], latent_dims)
        cells = {"write": digits if room else "", "fontsize": 7, "most": (10, 20)}
        shown = draw.heat_map(ax, table, limits=(low, high), **cells)
        ax.invert_yaxis()
        style.panel_title(ax, letter, title)
        for look, point, gap in zip(MARKS, marks.values(), (0, 0.08), strict=False):
            if place := _place(point, betas, latent_dims):
                row, column = place
                line = {"ec": look["color"], "ls": look["ls"], "lw": 1.8, "zorder": 5}
                halo = [withStroke(linewidth=3.2, foreground="white")]
                side = (1 - 2 * gap,) * 2
                line |= {"fill": False, "clip_on": False, "path_effects": halo}
                ax.add_patch(Rectangle((column + gap, row + gap), *side, **line))
        below, above = np.nanmin(values) < low, np.nanmax(values) > high
        beyond = ("both" if above else "min") if below else "max" if above else "neither"
        bar = draw.colour_bar(figure, shown, ax, "", aspect=14, extend=beyond)
        bar.locator = MaxNLocator(4) if high > low else FixedLocator([low])
        bar.formatter = FuncFormatter(lambda y, _, digits=digits: f"{y:{digits}}".replace("-", "−"))
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax in axes[:, 0]:
        ax.set_ylabel("β", rotation=0, va="center", labelpad=8)
    for ax in axes.flat[max(len(panels) - 2, 0) : len(panels)]:
        ax.set_xlabel("Number of latents L")
    handles = _mark_legend(marks, np.ones(wanted, bool), betas, latent_dims)
    if any(np.isnan(v).any() for v in panels.values()):
        handles.append(Patch(label="no fit", **style.MISSING))
    draw.legend(figure, handles, ncols=3)
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
    """
    wanted = (len(betas), len(latent_dims), None)
    rate = style.check_shape("rate", np.asarray(rate, float), wanted)
    distortion = style.check_shape("distortion", np.asarray(distortion, float), rate.shape)
    known = np.isfinite(rate).any(axis=2)
    means = np.full((2, *known.shape), np.nan)
    means[:, known] = [np.nanmean(a[known], axis=1) for a in (rate, distortion)]
    figure = style.new_figure(4.2)
    whole, one = figure.subplots(1, 2, width_ratios=[3, 2])
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(latent_dims)))
    shapes = np.resize(list(SHAPES), len(latent_dims))
    marked = [n for beta, n in marks.values() if n in list(latent_dims)]
    alone = list(latent_dims).index([*marked, latent_dims[-1]][0])
    here = means[:, :, alone]
    for ax, columns, size in ((whole, range(len(latent_dims)), 4), (one, [alone], 5)):
        for k in columns:
            look = {"color": colours[k], "marker": shapes[k]}
            fits = style.mark(look, 0.85 * size, mfc="none", mec=colours[k], mew=0.8, alpha=0.8)
            ax.plot(rate[:, k], distortion[:, k], **fits)
            line = style.mark(look, 1.2 * size, mew=0.4) | {"ls": "-", "lw": 1.3}
            ax.plot(*means[:, known[:, k], k], **line)
        _without_far(ax, rate[:, columns], distortion[:, columns], colours[columns])
    by_rate = here[:, np.argsort(here[0])][:, : known[:, alone].sum()]  # NaN comes last
    one.plot(
        *by_rate[:, :: max(by_rate.shape[1] - 1, 1)], color=style.GREY, lw=1, ls="--", zorder=1
    )
    one.margins(x=0.35)
    _constant_bound(whole, means.sum(axis=0))
    for look, point in zip(MARKS, marks.values(), strict=False):
        if (place := _place(point, betas, latent_dims)) and known[place]:
            ring = {"facecolors": "none", "edgecolors": look["color"], "linestyles": look["ls"]}
            for ax in (whole, one) if place[1] == alone else (whole,):
                ax.scatter(*means[:, *place], marker="s", s=110, linewidths=2, zorder=6, **ring)
    for ax in (whole, one):
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(style.PLAIN)
        ax.set_xlabel("Rate R: KL divergence (nats per image)")
    whole.set_ylabel("Distortion D: −E log p(x|z) (nats per image)")
    style.panel_title(whole, "A", "Every number of latents")
    style.panel_title(one, "B", f"L = {latent_dims[alone]} alone, and its chord")
    steps = np.arange(len(latent_dims) + 1) - 0.5
    scale = ScalarMappable(BoundaryNorm(steps, len(colours)), ListedColormap(colours))
    bar = draw.colour_bar(figure, scale, (whole, one), "Number of latents L")
    bar.set_ticks(range(len(latent_dims)), labels=style.thinned(map(str, latent_dims), 20))
    bar.ax.tick_params(length=0)
    bar.ax.minorticks_off()
    for step, shape in enumerate(shapes):
        look = style.mark({"color": "white", "marker": shape}, 4, mec="black", mew=0.7)
        bar.ax.plot(0.5, step, clip_on=False, **look)
    handles = _mark_legend(marks, known, betas, latent_dims)
    fit = style.mark({"marker": "o"}, 4, mfc="none", mec=style.GREY)
    handles.append(Line2D([], [], label="one fit", **fit))
    handles.append(Line2D([], [], color=style.GREY, lw=0.6, label="D + R constant (nats)"))
    draw.legend(figure, handles, ncols=4)
    _label_betas(one, *here, betas)
    lowest = np.flatnonzero(known.all(axis=0))[-1:]
    _label_betas(whole, *means[:, :, lowest].reshape(2, -1), betas)
    return figure


def _place(point, betas, latent_dims) -> tuple[int, int] | None:
    """Row and column of a point of the grid, None if it is not of this one."""
    there = point[0] in list(betas) and point[1] in list(latent_dims)
    return (list(betas).index(point[0]), list(latent_dims).index(point[1])) if there else None


def _mark_legend(marks, known, betas, latent_dims) -> list:
    """What each mark is, in words; one that is drawn nowhere has no key."""
    return [
        Patch(
            fill=False,
            ec=look["color"],
            ls=look["ls"],
            lw=1.8,
            label=f"{name}: β = {point[0]:g}, L = {point[1]:g}",
        )
        for look, (name, point) in zip(MARKS, marks.items(), strict=False)
        if (place := _place(point, betas, latent_dims)) and known[place]
    ]


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


def _decimals(values) -> int:
    """Digits behind the point that tell the values of a panel apart."""
    spread = np.nanmax(values) - np.nanmin(values) if np.isfinite(values).any() else 0
    if spread == 0 or np.array_equal(values, np.round(values)):
        return 0
    return int(np.clip(1 - np.floor(np.log10(spread)), 0, 4))


def _without_far(ax, rate, distortion, colours) -> None:
    """The axis of distortion without single fits far away, for which triangles stand at its end."""
    low, high = bulk(distortion)
    far = (distortion < low) | (distortion > high)
    if far.any():
        ax.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    for row, column, seed in np.argwhere(far):
        x, d = rate[row, column, seed], distortion[row, column, seed]
        along, up = ax.get_xaxis_transform(), d > high
        look = {"color": colours[column], "mec": "white", "mew": 0.4, "ms": 8}
        ax.plot(x, float(up), "^" if up else "v", transform=along, clip_on=False, zorder=6, **look)
        words = {"xycoords": along, "textcoords": "offset points", "zorder": 6, "fontsize": 7}
        words |= {"va": "top" if up else "bottom", **style.legible(style.DARK)}
        ax.annotate(f"D = {style.written(round(d))}", (x, float(up)), (6, -3 if up else 3), **words)


def _label_betas(ax, rate, distortion, betas) -> None:
    """β beside points of a curve that are not too near one another, its ends first."""
    low, high = ax.get_ylim()
    known = [row for row in range(len(rate)) if low <= distortion[row] <= high]
    few, places = [], np.transpose([rate, distortion]) / (np.ptp(ax.get_xlim()), high - low)
    for row in (*known[::-1][:1], *known[:-1]):
        if all(max(abs(places[row] - places[i])) >= 0.12 for i in few):
            few.append(row)
    for row in few:
        where = {"textcoords": "offset points", "va": "top", "ha": "right", "zorder": 7}
        text, place = {"fontsize": 8, **style.legible("black")}, (rate[row], distortion[row])
        ax.annotate(f"β = {betas[row]:g}", place, (-6, -4), **where, **text)


def _constant_bound(ax, bound) -> None:
    """Lines of slope −1, each with its D + R at its end, outside the axes."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    known = bound[np.isfinite(bound)]
    levels = MaxNLocator(6).tick_values(known.min(), known.max()) if known.size else []
    for level in levels:
        if low < level - right < high - 0.05 * (high - low):
            thin = {"color": style.GREY, "lw": 0.6, "zorder": 0}
            ax.plot([left, right], [level - left, level - right], **thin)
            aside = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
            text = {"color": style.GREY, "fontsize": 7, "annotation_clip": False}
            ax.annotate(style.written(level), (right, level - right), **aside, **text)
    ax.set(xlim=(left, right), ylim=(low, high))
