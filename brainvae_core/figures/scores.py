"""Figures of scores with their intervals: curves, differences, many side by side, power."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled

# Where a name of a point may stand: points of type, near ones first.
ASIDE = [
    (r * np.cos(a), r * np.sin(a)) for r in (8, 15, 23, 32) for a in np.arange(1, 17) * np.pi / 8
]


BAND = {"color": style.GREY, "alpha": 0.12, "lw": 0, "zorder": 0}


@styled
def fig_curves(
    table: pd.DataFrame,
    x: str,
    xlabel: str,
    *,
    panel: str = "score",
    references: pd.DataFrame | None = None,
    ylabels: Sequence[str] = (),
    columns: int = 2,
    log_x: bool = False,
    log_y: bool = False,
    point_labels: str = "",
) -> Figure:
    """Scores of several models against one parameter.

    Bands and bars are 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        An estimate a row: ``model``, ``value``, ``low``, ``high`` (as of `summarise`), the
        parameter, and what tells panels apart and is their title.
    x : str
        The parameter's column.
    xlabel : str
        The parameter, with its unit.
    panel : str
        The titles' column; a table without it is one panel.
    references : DataFrame, optional
        Values to compare with, by name in ``model``; ``low`` and ``high``, where there are such
        columns, are a band. Without a column of titles they stand in every panel.
    ylabels : sequence of str
        One for all panels, which then share an axis by row, or one each.
    columns : int
    log_x, log_y : bool
        A score of 0 has no place on a logarithmic axis: then there is none.
    point_labels : str
        A column of what to write at the points, if anything; lines then join them in the order of
        the rows.
    """
    panels = draw.by_panel(table.rename(columns={x: "x"}), panel)
    if not point_labels:
        panels = {title: rows.sort_values("x", kind="stable") for title, rows in panels.items()}
    if len(ylabels) not in (0, 1, len(panels)):
        raise ValueError(f"{len(ylabels)} labels of {len(panels)} axes; give one, or one each")
    beside = {title: _compared_with(references, panel, title) for title in panels}
    columns = min(columns, len(panels))
    share, width = "row" if len(ylabels) < 2 else False, 6.4 if columns == 1 else style.WIDTH
    figure, axes = style.new_panels(len(panels), columns, 2.5, 0.35, width, sharey=share)
    figure.get_layout_engine().set(w_pad=0.06)
    looks = style.model_looks(table["model"].unique())
    values = [*table["value"], *(value for of in beside.values() for value in of["value"])]
    floor = 0.6 * min(values) if log_y and min(values) > 0 else -np.inf
    least, names = 0.05 * columns if columns < 3 else 0.14, style.letters(len(panels))
    drawn = dict(zip(panels, axes.flat, strict=False))
    for i, (title, ax) in enumerate(drawn.items()):
        draw.lines(ax, panels[title], looks, log_x=log_x, least=least, floor=floor)
        for row in beside[title].itertuples():
            ax.axhline(row.value, zorder=1, **style.REFERENCE)
            if row.high > row.low:
                ax.axhspan(max(row.low, floor), row.high, **BAND)
        ylabel = ylabels[i] if len(ylabels) > 1 else "".join(ylabels) * (i % columns == 0)
        ax.set_ylabel(style.wrapped(ylabel, 1.95))
        if "Explained variance" in (title, ylabel):
            ax.set_ylim(style.explained_limits(*ax.get_ylim()))
        style.panel_title(ax, names[i], title)
        if i + columns >= len(panels):
            ax.set_xlabel(xlabel)
    for ax in drawn.values() if floor > -np.inf else ():  # once all lines are there
        high = ax.get_ylim()[1]
        ax.set_yscale("log")
        ax.set_ylim(floor, 1.15 * high)  # room for a marker at its top
        style.plain_log(ax.yaxis)
    for i, (title, ax) in enumerate(drawn.items()):  # limits are known now
        follows = list(drawn)[i + 1 : i + 2 if (i + 1) % columns else i + 1]
        if not (share and follows and beside[follows[0]].equals(beside[title])):
            _name_references(ax, beside[title])
    handles = draw.drawn_handles(drawn.values(), looks)
    draw.legend(figure, handles, handlelength=3, ncols=min(4 if columns == 1 else 6, len(handles)))
    if point_labels:
        figure.draw_without_rendering()  # only then is known where points lie
        for title, ax in drawn.items():
            _name_points(ax, panels[title], point_labels, looks)
    return figure


def _compared_with(references: pd.DataFrame | None, panel: str, title: str) -> pd.DataFrame:
    """Name, value and interval of what a panel is compared with; without a panel, of all."""
    if references is None or references.empty:
        return pd.DataFrame(columns=["model", "value", "low", "high"])
    rows = references[references[panel] == title] if panel in references else references
    ends = {end: rows.get(end, rows["value"]).fillna(rows["value"]) for end in ("low", "high")}
    return rows.assign(**ends)[["model", "value", "low", "high"]].reset_index(drop=True)


def _name_references(ax, references: pd.DataFrame, gap: float = 0.065) -> None:
    """Names of references beside the axes, ``gap`` of their height apart at least."""
    ax.get_ylim()  # which sets limits that wait for a drawing
    to_share = ax.transData + ax.transAxes.inverted()
    free = 0.0  # from below upwards, each above the one before
    for row in references.sort_values("value", kind="stable").itertuples():
        share = to_share.transform((1, row.value))[1]
        text = textwrap.fill(row.model, 13)
        room = gap * (1 + text.count("\n"))
        place = max(share, free + room / 2)
        free = place + room / 2
        line = {"arrowstyle": "-", "color": style.GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 0}
        ax.annotate(
            text, (1, share), (1.025, place), xycoords="axes fraction", arrowprops=line,
            va="center", ha="left", color=style.GREY, fontsize=7.5, linespacing=1,
        )  # fmt: skip


def _name_points(ax, table, names: str, looks) -> None:
    """Words at points, each at the nearest place that no point and no other word takes."""
    at, unit = ax.transData.transform(table[["x", "value"]]), ax.figure.dpi / 72
    taken = [(point, np.full(2, 2.5 * unit)) for point in at]  # centres, and half of their sizes
    for point, row in zip(at, table.to_dict("records"), strict=True):
        word, colour = str(row[names]), looks[row["model"]]["color"]
        if not word:
            continue
        half = np.array([2.3 * len(word) + 1, 4]) * unit
        places = [(aside, point + np.array(aside) * unit) for aside in ASIDE]
        free = (
            (aside, place)
            for aside, place in places
            if all((np.abs(place - other) > half + size).any() for other, size in taken)
        )
        aside, place = next(free, places[0])
        taken.append((place, half))
        thread = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 2}
        ax.annotate(
            word, (row["x"], row["value"]), aside, textcoords="offset points", ha="center",
            va="center", fontsize=7, annotation_clip=False, **style.legible(colour),
            arrowprops=thread if np.hypot(*aside) > 10 else None,
        ).set_in_layout(False)  # fmt: skip


@styled
def fig_differences(
    table: pd.DataFrame, xlabel: str, *, group: str = "model", of: str = "kind"
) -> Figure:
    """Differences with their intervals, beside the line of no difference.

    Bars are 95 % intervals; a marker is open where its bar holds zero or, with q, where q is 0.05
    or more.

    Parameters
    ----------
    table : DataFrame
        A difference a row (as of `compare`): ``value``, ``low``, ``high``, and what is compared and
        in which respect. A column ``sure`` says which markers are filled.
    xlabel : str
        The difference, with its unit.
    group, of : str
        These two columns. A table without the second has one respect.
    """
    table = table.assign(label=table.get(of, ""))
    respects, rows = list(table["label"].unique()), draw.by_panel(table, group)
    names = [textwrap.fill(name, 44) for name in rows]
    pairs = zip(rows.values(), names, strict=True)
    tall = [max(len(row), 0.75 * (1 + name.count("\n"))) for row, name in pairs]
    tops = np.cumsum([0, *(height + 0.8 for height in tall)])  # a gap between two groups
    columns = max(1, min(len(respects), int(6.2 / (0.6 + 0.058 * max(map(len, respects))))))
    above = 0.19 * -(-len(respects) // columns) if len(respects) > 1 else 0
    figure = style.new_figure(0.9 + above + 0.2 * tops[-1], width=6.4)
    ax = figure.subplots()
    plain = {"color": style.DARK, "marker": "o"}
    looks = style.model_looks(respects) if len(respects) > 1 else dict.fromkeys(respects, plain)
    middles = tops[:-1] + (0.8 + np.array(tall)) / 2
    for row, middle in zip(rows.values(), middles, strict=True):
        at = middle - (len(row) - 1) / 2 + np.arange(len(row))
        draw.points(ax, row.assign(y=at), looks, hollow=True)
    ax.axvline(0, color=style.GREY, lw=1, zorder=0)
    ax.set_yticks(middles, names)
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(tops[-1], 0))
    ax.xaxis.set_major_formatter(style.PLAIN)
    if len(respects) > 1:
        dots = [Line2D([], [], label=name, **style.mark(looks[name], 6)) for name in respects]
        draw.legend(figure, dots, ncols=columns)
    longest = max(len(line) for name in names for line in name.split("\n"))
    ax.set_xlabel(style.wrapped(xlabel, 6.0 - 0.065 * longest))
    return figure


@styled
def fig_scores(
    table: pd.DataFrame,
    *,
    panel: str = "score",
    references: pd.DataFrame | None = None,
    columns: int = 4,
    one_scale: bool = False,
) -> Figure:
    """Several scores of several models side by side, with intervals.

    Bars are 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        An estimate a row: ``model``, ``value``, ``low``, ``high`` (as of `summarise`), and what
        tells panels apart and is their title. A model without a score is left out of its panel.
    panel, references
        As for :func:`fig_curves`.
    columns : int
    one_scale : bool
        Whether all panels have one horizontal axis.
    """
    labels, panels = list(table["model"].unique()), draw.by_panel(table, panel)
    looks = style.model_looks(labels)
    beside = {title: _compared_with(references, panel, title) for title in panels}
    # Of latents and ingredients there are more than spare colours.
    if not any(map(style.family, labels)):
        looks = dict.fromkeys(labels, {"color": style.DARK, "marker": "o"})
    columns = min(columns, len(panels))
    width = (style.WIDTH - 0.9) / columns
    letters = max(int(width / 0.116), 8)  # half of a panel is as long
    for of in beside.values():
        of["model"] = [textwrap.fill(name, letters) for name in of["model"]]
    head = 0.75 * max(sum(1 + name.count("\n") for name in of["model"]) for of in beside.values())
    shared, tall = {"sharex": one_scale, "sharey": True}, 0.76 + 0.19 * (len(labels) + head)
    figure, axes = style.new_panels(len(panels), columns, tall, **shared)
    figure.get_layout_engine().set(w_pad=0.06)
    signs = style.letters(len(panels))
    for sign, ax, (title, rows) in zip(signs, axes.flat, panels.items(), strict=False):
        draw.points(ax, rows.assign(label=rows["model"], y=rows["model"].map(labels.index)), looks)
        name = textwrap.fill(title, int(width / 0.062) - 3, break_long_words=False)
        style.panel_title(ax, sign, name, fontsize=8)
        ax.locator_params(axis="x", nbins=4 if columns < 3 else 3)
        ax.xaxis.set_major_formatter(style.PLAIN)
        ax.grid(axis="y", color="#EEEEEE", lw=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.tick_params(axis="x", labelsize=7)
    for ax, title in zip(axes.flat, panels, strict=False):
        _named_lines(ax, beside[title])
    for ax in axes.flat[max(len(panels) - columns, 0) : len(panels)]:
        ax.tick_params(axis="x", labelbottom=True)
    axes[0, 0].set(yticks=range(len(labels)), yticklabels=labels)
    axes[0, 0].set_ylim(len(labels) - 0.5, -0.5 - head)
    return figure


def _named_lines(ax, references) -> None:
    """Dashed vertical lines, bands for their intervals, and names on the side with more room."""
    y = -0.55
    for _, name, value, low, high in references.itertuples():
        ax.axvline(value, zorder=0, **style.REFERENCE)
        ax.axvspan(low, high, **BAND)
        left, right = ax.get_xlim()
        side = 1 if value - left < right - value else -1
        text = {"va": "bottom", "color": style.GREY, "fontsize": 7, "linespacing": 1}
        text["ha"] = "left" if side > 0 else "right"
        ax.annotate(name, (value, y), (3 * side, 0), textcoords="offset points", **text)
        y -= 0.75 * (1 + name.count("\n"))


@styled
def fig_power(table: pd.DataFrame, n_now: int) -> Figure:
    """How small a difference two groups of so many brains show, region by region.

    A line is a region; those that vary least, most and between are named. Dashed: the brains now.

    Parameters
    ----------
    table : DataFrame
        A region and a number of brains a row: ``region``, ``n_per_group`` and ``value``.
    n_now : int
    """
    lines = table.pivot(index="n_per_group", columns="region", values="value")
    lines = lines[lines.iloc[-1].sort_values().index]
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
