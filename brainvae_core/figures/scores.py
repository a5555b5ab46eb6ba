"""Figures of scores with their intervals: curves, differences, many side by side."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled

RIGHT = "right: "  # of names that say what lies to the right of a line
# Of scores whose names do not say it, and what at the end of a score's name is a unit.
UNITS = {"PCA-FD": "Squared grey values"}
KNOWN = ("nats", "dB", "prior SD", "SD", "squared grey values", "grey values", "µm")
ENDING = re.compile(rf"(?<=\S)\s+\(({'|'.join(KNOWN)}|bits per pixel|share|%)\)$")


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
    share_y: bool | None = None,
    point_labels: str = "",
) -> Figure:
    """Scores of several models against one parameter.

    Horizontal: the parameter named below; vertical: the score named by axis and title; either may
    be logarithmic. Panels without numbers at their left share the axis there; others may have
    ranges of their own. A colour, marker and dash is one model in all panels; a marker is the
    estimate, the shaded band (bars where there are more than three models, side by side at one
    value) its 95 % interval over what was sampled: brains, fits or planted factors. Dashed grey
    lines, where given, are references, grey bands their intervals. Whether high is good depends on
    the score: similarities and explained shares should be high, errors and distances low.

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
        One for all panels, or one each.
    columns : int
    log_x, log_y : bool
        A score of 0 has no place on a logarithmic axis: then there is none.
    share_y : bool, optional
        One vertical axis for the panels of a row; left out, where they have one label.
    point_labels : str
        A column of what to write at the points; lines then join them in the order of the rows.
    """
    panels = draw.by_panel(table.rename(columns={x: "x"}), panel)
    if not point_labels:
        panels = {title: rows.sort_values("x", kind="stable") for title, rows in panels.items()}
    references = draw.references_by_panel(references, panel, panels)
    columns = min(columns, len(panels))
    n_rows = -(-len(panels) // columns)
    figure = style.new_figure(0.35 + 2.5 * n_rows, width=6.4 if columns == 1 else style.WIDTH)
    figure.get_layout_engine().set(w_pad=0.06)
    share_y = len(ylabels) < 2 if share_y is None else share_y
    axes = figure.subplots(n_rows, columns, squeeze=False, sharey="row" if share_y else False)
    looks = style.model_looks(table["model"].unique())
    values = [*table["value"], *(v for of in references.values() for v, _, _ in of.values())]
    floor = 0.6 * min(values) if log_y and min(values) > 0 else -np.inf
    if len(ylabels) not in (0, 1, len(panels)):
        raise ValueError(f"{len(ylabels)} labels of {len(panels)} axes; give one, or one each")
    ylabels = list(ylabels) if len(ylabels) > 1 else [*ylabels, *[""] * (columns - 1)] * n_rows
    least, names = 0.05 * columns if columns < 3 else 0.14, style.letters(len(panels))
    for i, (ax, (title, rows)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        draw.lines(ax, rows, looks, log_x=log_x, least=least, floor=floor)
        draw.reference_lines(ax, references[title], floor)
        ylabel = ylabels[i] if i < len(ylabels) else ""
        ax.set_ylabel(style.wrapped(ylabel, 1.95))
        if "Explained variance" in (title, ylabel):
            ax.set_ylim(style.explained_limits(*ax.get_ylim()))
        style.panel_title(ax, names[i], title)
        if i + columns >= len(panels):
            ax.set_xlabel(xlabel)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax in axes.flat[: len(panels)] if floor > -np.inf else ():  # once all lines are there
        high = ax.get_ylim()[1]
        ax.set_yscale("log")
        ax.set_ylim(floor, high)
        style.plain_log(ax.yaxis)
    titles = list(panels)
    for i, (ax, title) in enumerate(zip(axes.flat, panels, strict=False)):  # limits are known now
        beside = references[title]
        follows = i + 1 < len(titles) and (i + 1) % columns and axes.flat[i + 1]
        same = follows and references[titles[i + 1]] == beside
        if not (same and follows.get_ylim() == ax.get_ylim()):  # else the next panel names them
            draw.name_references(ax, beside, 0.065)
        for k, (label, look) in enumerate(looks.items() if point_labels else ()):
            rows = panels[title]
            _name_points(ax, rows[rows["model"] == label], point_labels, look, k % 2)
    handles = draw.drawn_handles(axes.flat[: len(panels)], looks)
    draw.legend(figure, handles, handlelength=3, ncols=min(4 if columns == 1 else 6, len(handles)))
    return figure


def _name_points(ax, table, names: str, look, below: bool) -> None:
    """Words at the points of one line, on the side where it does not run."""
    along = table.sort_values("x")["value"].to_numpy()
    rises = len(along) > 0 and along[-1] >= along[0]
    side, up = (1 if rises == below else -1), (-1 if below else 1)
    where = {"ha": "left" if side > 0 else "right", "va": "top" if below else "bottom"}
    where |= {"textcoords": "offset points", "fontsize": 7.5, **style.legible(look["color"])}
    for name, x, y in zip(table[names], table["x"], table["value"], strict=True):
        ax.annotate(f"{name}", (x, y), (4 * side, 4 * up), **where)


@styled
def fig_differences(
    table: pd.DataFrame, xlabel: str, *, group: str = "model", of: str = "kind", better: str = ""
) -> Figure:
    """Differences with their intervals, beside the line of no difference.

    Each group of bars is one comparison, named at the left; horizontal: the difference, in the unit
    named below, with a grey vertical line at none. A marker is the estimate, its bar the 95 %
    interval over what was sampled (brains, fits or planted factors). A filled marker means that the
    interval excludes zero, an open one that it holds zero and the sign is not sure. Where there
    are several respects, colours and marker shapes tell them apart, named at the top; words with
    an arrow, where given, say what lies to the right of zero.

    Parameters
    ----------
    table : DataFrame
        A difference a row (as of `compare`): ``value``, ``low``, ``high``, and what is compared and
        in which respect.
    group, of : str
        These two columns. A table without the second has one respect.
    xlabel : str
        The difference, with its unit.
    better : str
        What lies to the right of zero, in words.
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
    if better:  # there must be room for it at the right of zero
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        ax.annotate(f"{better} →", (0, 1), (4, 2), color=style.GREY, fontsize=8, **place)
        left, right = ax.get_xlim()
        share = min(0.2 + 0.065 * len(better) / (6.0 - 0.065 * longest), 0.8)
        ax.set_xlim(left, max(right, -left * share / (1 - share)))
    return figure


@styled
def fig_scores(
    table: pd.DataFrame,
    *,
    panel: str = "score",
    references: pd.DataFrame | None = None,
    columns: int = 4,
) -> Figure:
    """Several scores of several models side by side, with intervals.

    Each panel is one score, named above, with a horizontal axis of its own and its unit below; each
    row is one model, latent or comparison, models with their colours and marker shapes. A marker is
    the estimate, its bar the 95 % interval over what was sampled (brains, fits or planted factors);
    an empty row has no such score. A dashed grey line, where given, is the reference named beside
    its upper end, the grey band its interval; words with an arrow say what lies to its right.
    Whether right is good depends on the score: similarities and explained shares should be high,
    errors and distances low.

    Parameters
    ----------
    table : DataFrame
        An estimate a row: ``model``, ``value``, ``low``, ``high`` (as of `summarise`), and what
        tells panels apart and is their title. A model without a score is left out of its panel.
    panel, references
        As for :func:`fig_curves`. A reference such as "right: β-VAE better" says what lies there.
    columns : int
    """
    labels, panels = list(table["model"].unique()), draw.by_panel(table, panel)
    looks = style.model_looks(labels)
    references = draw.references_by_panel(references, panel, panels)
    # Of latents there are more than spare colours, and a comparison is no model.
    if all(re.fullmatch(r"F\d+", label) or " − " in label for label in labels):
        looks = dict.fromkeys(labels, {"color": style.DARK, "marker": "o"})
    columns = min(columns, len(panels))
    n_rows = -(-len(panels) // columns)
    width = (style.WIDTH - 0.9) / columns
    letters = max(int(width / 0.116), 8)  # half of a panel is as long
    names = {name: _words(name, letters) for found in references.values() for name in found}
    lines = [sum(1 + names[k].count("\n") for k in found) for found in references.values()]
    head = 0.75 * max(lines, default=0)
    figure = style.new_figure(n_rows * (0.76 + 0.19 * (len(labels) + head)))
    figure.get_layout_engine().set(w_pad=0.06)
    axes = figure.subplots(n_rows, columns, squeeze=False, sharey=True)
    signs = style.letters(len(panels))
    for i, (ax, (title, rows)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        draw.points(ax, rows.assign(label=rows["model"], y=rows["model"].map(labels.index)), looks)
        ending = ENDING.search(title)
        unit = ending[1] if ending else next((UNITS[k] for k in UNITS if title.startswith(k)), "")
        ax.set_xlabel(unit if unit in ("dB", "µm") else style.sentence(unit), fontsize=7.5)
        name = textwrap.fill(ENDING.sub("", title), int(width / 0.062) - 3, break_long_words=False)
        style.panel_title(ax, signs[i], name, fontsize=8)
        ax.locator_params(axis="x", nbins=4 if columns < 3 else 3)
        ax.xaxis.set_major_formatter(style.PLAIN)
        ax.grid(axis="y", color="#EEEEEE", lw=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.tick_params(axis="x", labelsize=7)
        _named_lines(ax, references[title], names)
    axes[0, 0].set(yticks=range(len(labels)), yticklabels=labels)
    axes[0, 0].set_ylim(len(labels) - 0.5, -0.5 - head)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    return figure


def _words(reference: str, letters: int) -> str:
    """The name of a reference in lines, with an arrow where it says what lies to the right."""
    arrow = "\u00a0→" if reference.startswith(RIGHT) else ""
    return textwrap.fill(reference.removeprefix(RIGHT) + arrow, letters)


def _named_lines(ax, references, names) -> None:
    """Dashed vertical lines, bands for their intervals, and names on the side with more room."""
    y = -0.55
    for name, (value, low, high) in references.items():
        ax.axvline(value, zorder=0, **style.REFERENCE)
        ax.axvspan(low, high, color=style.GREY, alpha=0.12, lw=0, zorder=0)
        left, right = ax.get_xlim()
        if name.startswith(RIGHT):  # half of the panel lies there
            right = max(right, 2 * value - left)
            ax.set_xlim(left, right)
        side = 1 if name.startswith(RIGHT) or value - left < right - value else -1
        look = {
            "ha": "left" if side > 0 else "right",
            "va": "bottom",
            "color": style.GREY,
            "fontsize": 7,
        }
        offset = {"xytext": (3 * side, 0), "textcoords": "offset points", "linespacing": 1}
        ax.annotate(names[name], (value, y), **offset, **look)
        y -= 0.75 * (1 + names[name].count("\n"))
