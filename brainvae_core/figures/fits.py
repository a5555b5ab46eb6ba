"""Figures of fits: learning curves, the β × L grid and its knees (§ 2.1)."""

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
from matplotlib.ticker import MaxNLocator

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import PERCENT, styled

CURVES = {
    "validation_loss": "−ELBO$_β$ (nats per image)",
    "explained_variance": "Explained variance",
    "validation_kl": "KL divergence (nats per image)",
    "active_latents": "Active latents",
}
RING = {"marker": "o", "ms": 10, "mfc": "none", "mec": style.ACCENT, "mew": 2, "ls": ""}
PAPER = {"color": "black", "lw": 1, "ls": (0, (2, 1.2))}
# Of the first mark and of the second: told apart by their line as well as by their colour.
MARKS = ({"color": "#D55E00", "ls": "-"}, {"color": "black", "ls": (0, (2, 1.2))})
MOST_IN_CELLS = 8  # columns whose cells have room for a number


@styled
def fig_training(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    reference_explained: Mapping[str, float],
) -> Figure:
    """Learning curves on validation brains.

    At a dotted line the images grew; A shows the last size only, and each model's own loss.

    Parameters
    ----------
    histories : mapping of label to list of rows
        Each row one validation: ``step``, ``validation_loss``, ``explained_variance``,
        ``validation_kl``, ``active_latents``, ``progress`` of the KL warm-up and, where images
        grew, their ``height``.
    reference_explained : mapping of str to float
        Explained variance of models without a history, such as PCA.
    """
    rows = [pd.DataFrame(list(history)).assign(model=k) for k, history in histories.items()]
    table = pd.concat(rows, ignore_index=True)
    table["height"] = table.get("height", pd.Series(0, table.index)).fillna(0)
    by_model = table.groupby("model")
    is_last = table["height"] == by_model["height"].transform("last")
    last, rising = table[is_last], table[table["progress"] < 1]
    warm = (rising["step"] / rising["progress"]).max()  # β rises in proportion to the steps
    grown = table[~is_last].groupby(["model", "height"])["step"].max().unique()
    figure = style.new_figure(4.8)
    axes = figure.subplots(2, 2, sharex=True)
    looks = style.model_looks([*histories, *reference_explained])
    courses = {label: {**looks[label], "ls": "-"} for label in histories}
    for letter, ax, (key, title) in zip("ABCD", axes.flat, CURVES.items(), strict=True):
        style.panel_title(ax, letter, title)
        shown = last if key == "validation_loss" else table
        shown = shown.rename(columns={"step": "x", key: "value"})
        shown = shown[["model", "x", "value"]].assign(low=shown["value"], high=shown["value"])
        draw.lines(ax, shown, courses)
        ax.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        if len(rising):
            ax.axvspan(0, warm, color="#F0F0F0", zorder=0)
            top = key == "explained_variance"  # where lines begin low
            where = {"transform": ax.get_xaxis_transform(), "va": "top" if top else "bottom"}
            text = {"color": style.GREY, "fontsize": 8}
            ax.text(0.02 * warm, 0.98 if top else 0.02, " β rising", **where, **text)
        for step in grown:
            ax.axvline(step, color=style.GREY, lw=1, ls=":", zorder=0)
    loss, explained, kl, active = axes.flat
    later = last.drop(by_model.head(1).index, errors="ignore")["validation_loss"]
    if len(later) and np.ptp(later) > 0:  # the first validation may dwarf what follows
        loss.set_ylim(later.min() - 0.08 * np.ptp(later), later.max() + 0.08 * np.ptp(later))
    kl.set_yscale("log")  # it starts hundreds of times above where it ends
    style.plain_log(kl.yaxis)
    low, high = explained.get_ylim()
    for label, value in reference_explained.items():
        explained.axhline(value, color=looks[label]["color"], ls="--", lw=1.2, label=label)
        high = max(high, value)
    limits = style.explained_limits(low, high + 0.15 * (high - low))  # room for words at its top
    explained.set_ylim(limits)
    active.yaxis.set_major_locator(MaxNLocator(integer=True))
    active.set_ylim(bottom=0)
    for ax in axes[1]:
        ax.set_xlabel("Training step")
    draw.legend(figure, draw.drawn_handles([explained], looks), ncols=5)
    return figure


@styled
def fig_grids(
    panels: Mapping[str, pd.DataFrame], marks: Mapping[str, tuple[float, float]]
) -> Figure:
    """Several numbers at every point of the grid of β and the number of latents.

    Each panel has its own colours, yellow for its largest value.

    Parameters
    ----------
    panels : mapping of title to DataFrame
        A row a β and a column a number of latents, the same in all; NaN where no fit succeeded.
    marks : mapping of str to (beta, latent_dim)
        At most two points to frame, such as the chosen one and the paper's. One that is not of
        this grid, or is NaN, is left out.
    """
    betas, latent_dims = next(iter(panels.values())).axes
    for title, table in panels.items():
        if not (table.index.equals(betas) and table.columns.equals(latent_dims)):
            raise ValueError(f"{title} is of other values of β or L than the first panel")
    n_rows = -(-len(panels) // 2)
    figure = style.new_figure(n_rows * (0.75 + max(0.095 * len(betas), 0.7)) + 0.45)
    axes = figure.subplots(n_rows, 2, squeeze=False)
    room = len(latent_dims) <= MOST_IN_CELLS and len(betas) <= 10
    names = style.letters(len(panels))
    for letter, ax, (title, table) in zip(names, axes.flat, panels.items(), strict=False):
        digits = f",.{_decimals(table.to_numpy())}f"
        cells = {"write": digits if room else "", "fontsize": 7, "most": (10, 20)}
        shown = draw.heat_map(ax, table.rename(index="{:g}".format), **cells)
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
        ticks = MaxNLocator(4) if np.ptp(shown.get_clim()) else shown.get_clim()[:1]
        bar = draw.colour_bar(figure, shown, ax, "", aspect=14, ticks=ticks)
        bar.ax.yaxis.set_major_formatter(style.PLAIN)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax in axes[:, 0]:
        ax.set_ylabel("β", rotation=0, va="center", labelpad=8)
    for ax in axes.flat[max(len(panels) - 2, 0) : len(panels)]:
        ax.set_xlabel("Number of latents L")
    handles = _mark_legend(marks, betas, latent_dims)
    if any(table.isna().any(axis=None) for table in panels.values()):
        handles.append(Patch(label="no fit", **style.MISSING))
    draw.legend(figure, handles, ncols=3)
    return figure


@styled
def fig_rate_distortion(fits: pd.DataFrame, marks: Mapping[str, tuple[float, float]]) -> Figure:
    """What a nat of code buys: distortion against rate, one line per number of latents.

    A line joins the means over fits at one L in the order of β; open dots are single fits.

    Parameters
    ----------
    fits : DataFrame
        A row a fit, indexed by ``beta``, ``latent_dim`` and ``seed``, with its ``rate`` and
        ``distortion`` in nats per image; NaN where it failed.
    marks : mapping of str to (beta, latent_dim)
        As for `fig_grids`.
    """
    fits = fits[["rate", "distortion"]].dropna()
    means = fits.groupby(level=["beta", "latent_dim"]).mean()
    latent_dims = sorted(means.index.unique("latent_dim"))
    figure = style.new_figure(4.2)
    whole, one = figure.subplots(1, 2, width_ratios=[3, 2])
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(latent_dims)))
    marked = [n for _, n in marks.values() if n in latent_dims]
    alone = [*marked, latent_dims[-1]][0]
    for ax, columns in ((whole, latent_dims), (one, [alone])):
        for n in columns:
            colour = colours[latent_dims.index(n)]
            single = {"ls": "", "mfc": "none", "mec": colour, "mew": 0.8, "ms": 4}
            ax.plot(*fits.xs(n, level="latent_dim").to_numpy().T, "o", **single)
            joined = means.xs(n, level="latent_dim").to_numpy().T
            ax.plot(*joined, "o-", color=colour, lw=1.3, ms=6, mec="white")
    here = means.xs(alone, level="latent_dim").sort_values("rate")
    ends = here.iloc[:: max(len(here) - 1, 1)].to_numpy().T
    one.plot(*ends, color=style.GREY, lw=1, ls="--", zorder=1)
    one.margins(x=0.35, y=0.1)
    whole.margins(y=0.1)  # for the labels below
    for look, point in zip(MARKS, marks.values(), strict=False):
        if point in means.index:
            ring = {"facecolors": "none", "edgecolors": look["color"], "linestyles": look["ls"]}
            for ax in (whole, one) if point[1] == alone else (whole,):
                ax.scatter(*means.loc[point], marker="s", s=110, linewidths=2, zorder=6, **ring)
    for ax in (whole, one):
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(style.PLAIN)
        ax.set_xlabel("Rate R: KL divergence (nats per image)")
    whole.set_ylabel("Distortion D: −E log p(x|z) (nats per image)")
    style.panel_title(whole, "A", "Every number of latents")
    style.panel_title(one, "B", f"L = {alone:g} alone, and its chord")
    steps = np.arange(len(latent_dims) + 1) - 0.5
    scale = ScalarMappable(BoundaryNorm(steps, len(colours)), ListedColormap(colours))
    bar = draw.colour_bar(figure, scale, (whole, one), "Number of latents L")
    bar.set_ticks(range(len(latent_dims)), labels=style.thinned(map(str, latent_dims), 20))
    bar.ax.tick_params(length=0)
    bar.ax.minorticks_off()
    handles = _mark_legend(marks, means.index.unique("beta"), latent_dims)
    fit = {"ls": "", "mfc": "none", "mec": style.GREY}
    handles.append(Line2D([], [], label="one fit", marker="o", **fit))
    draw.legend(figure, handles, ncols=3)
    _label_betas(one, means.xs(alone, level="latent_dim"))
    _label_betas(whole, means.xs(latent_dims[-1], level="latent_dim"))
    return figure


def _place(point, betas, latent_dims) -> tuple[int, int] | None:
    """Row and column of a point of the grid, None if it is not of this one."""
    there = point[0] in list(betas) and point[1] in list(latent_dims)
    return (list(betas).index(point[0]), list(latent_dims).index(point[1])) if there else None


def _mark_legend(marks, betas, latent_dims) -> list:
    """What each mark is, in words; one that is drawn nowhere has no key."""
    named = zip(MARKS, marks.items(), strict=False)
    there = [(look, name, of) for look, (name, of) in named if _place(of, betas, latent_dims)]
    return [
        Patch(fill=False, ec=look["color"], ls=look["ls"], lw=1.8,
              label=f"{name}: β = {of[0]:g}, L = {of[1]:g}")
        for look, name, of in there
    ]  # fmt: skip


def _decimals(values) -> int:
    """Digits behind the point that tell the values of a panel apart."""
    spread = np.nanmax(values) - np.nanmin(values) if np.isfinite(values).any() else 0
    if spread == 0 or np.array_equal(values, np.round(values)):
        return 0
    return int(np.clip(1 - np.floor(np.log10(spread)), 0, 4))


def _label_betas(ax, curve) -> None:
    """β beside points of a curve that are not too near one another, its ends first."""
    places = ax.transAxes.inverted().transform(ax.transData.transform(curve.to_numpy()))
    few, rows = [], range(len(curve))
    for row in (*rows[-1:], *rows[:-1]):
        if all(np.abs(places[row] - places[i]).max() >= 0.12 for i in few):
            few.append(row)
    where = {"textcoords": "offset points", "va": "top", "ha": "right", "zorder": 7}
    for row in few:
        look = {"fontsize": 8, **style.legible("black")}
        ax.annotate(f"β = {curve.index[row]:g}", curve.iloc[row], (-4, -11), **where, **look)


@styled
def fig_knee(
    rows: pd.DataFrame, knees: Mapping[str, object], *, ylabel: str, share_y: bool = False
) -> Figure:
    """Curves over the number of latents, their chords and knees, one column per model.

    Bars: how often each L is the knee when fits are resampled.

    Parameters
    ----------
    rows : DataFrame
        A row a fit: ``model``, ``latent_dim``, ``seed`` and ``value``; NaN where it failed.
    knees : mapping of model to metrics.Knee
        As `metrics.model_knees` finds them in these rows.
    ylabel : str
        What the curves are, with their unit.
    share_y : bool
        One vertical axis for all columns, where the curves are one quantity.
    """
    curves = dict(iter(rows.groupby("model", sort=False)))
    style.check_same_labels(rows=curves, knees=knees)
    figure = style.new_figure(4.2)
    grid = {"sharex": True, "sharey": "row" if share_y else False, "height_ratios": [3, 1]}
    axes = figure.subplots(2, len(curves), squeeze=False, **grid)
    names, looks = style.letters(len(curves)), style.model_looks(curves)
    for letter, (above, below), label in zip(names, axes.T, curves, strict=True):
        curve, knee = curves[label], knees[label]
        dims, share = np.asarray(knee.points, dtype=float), np.asarray(knee.shares)
        colour, at = looks[label]["color"], knee.at
        above.plot(curve["latent_dim"], curve["value"], ".", ms=4, color=colour, alpha=0.45)
        means = curve.groupby("latent_dim")["value"].mean().dropna()
        above.plot(means.index, means, color=colour)
        ends = means.iloc[:: max(len(means) - 1, 1)]
        above.plot(ends.index, ends, color=style.GREY, lw=1, ls="--", zorder=1)
        bend = means[means.index == at]
        above.plot(bend.index, bend, **RING)
        found = f"knee at L = {at:g}" if np.isfinite(at) else "no knee"
        style.panel_title(above, letter, f"{label}: {found}")
        above.yaxis.set_major_formatter(style.PLAIN)
        if np.isnan(share).all():
            text = {"ha": "center", "va": "center", "fontsize": 8, "transform": below.transAxes}
            below.text(0.5, 0.5, "uncertainty not known", **text, **style.legible("black", 4))
        else:
            pale = {} if np.isfinite(at) else {"alpha": 0.35}
            below.bar(dims, share, 0.8 * np.diff(np.sort(dims)).min(), color=colour, **pale)
        below.set(ylim=(0, 1), xlabel="Number of latents L", yticks=[0, 0.5, 1])
        below.yaxis.set_major_formatter(PERCENT)
        below.set_xticks(dims, style.spaced(dims, dims, 1 / 12))
        for ax in (above, below):
            ax.axvline(8, **PAPER, zorder=0)
    axes[0, 0].set_ylabel(style.wrapped(ylabel, 2.4))
    axes[1, 0].set_ylabel("Resamples")
    handles = {
        "mean of seeds, and each fit": Line2D([], [], color=style.GREY, marker=".", ms=4),
        "chord": Line2D([], [], color=style.GREY, lw=1, ls="--"),
        "knee: farthest from the chord": Line2D([], [], **RING),
        "the paper's L = 8": Line2D([], [], **PAPER),
    }
    draw.legend(figure, handles, ncols=4)
    return figure
