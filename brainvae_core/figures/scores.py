"""Scores and differences side by side, with their intervals."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brainvae_core.figures.curves import interval
from brainvae_core.figures.labels import PLAIN, sized, wrapped
from brainvae_core.figures.palette import GREY, model_styles
from brainvae_core.figures.style import (
    DARK,
    WIDTH,
    letters,
    new_figure,
    panel_title,
    sentence,
    styled,
)

NAME, GAP = 44, 0.8  # letters in a line of a row's name, rows between two groups
LINE, LETTER = 0.75, 0.058  # of text: its height in rows, its width in inches
RIGHT = "right: "  # of names that say what lies to the right of a line
# Of scores whose names do not say it.
UNITS = {"PSNR": "Decibels", "PCA-FD": "Squared grey values"}
# What in parentheses at the end of a score's name is a unit, and not, say, a number of brains.
KNOWN = ("nats", "dB", "prior SD", "SD", "squared grey values", "grey values", "µm")
KNOWN += ("bits per pixel", "share", "%")
ENDING = re.compile(rf"(?<=\S)\s+\(({'|'.join(map(re.escape, KNOWN))})\)$")


@styled
def fig_differences(
    rows: Mapping[str, Mapping[str, object]],
    xlabel: str,
    *,
    better: str = "",
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
    rows : mapping of str to mapping of str to estimate
        What is compared, and in which respect: one marker per respect. Filled where the
        interval does not hold zero.
    xlabel : str
        The difference, with its unit.
    better : str
        What lies to the right of zero, in words.

    Returns
    -------
    Figure
    """
    respects = list(dict.fromkeys(name for row in rows.values() for name in row))
    names = [textwrap.fill(name, NAME) for name in rows]
    tall = [
        max(len(row), LINE * (1 + name.count("\n")))
        for name, row in zip(names, rows.values(), strict=True)
    ]
    columns = max(1, min(len(respects), int(6.2 / (0.6 + LETTER * max(map(len, respects))))))
    above = 0.19 * -(-len(respects) // columns) if len(respects) > 1 else 0
    figure = new_figure(0.9 + above + 0.2 * sum(h + GAP for h in tall), width=6.4)
    ax = figure.subplots()
    plain = {"color": DARK, "marker": "o"}
    looks = model_styles(respects) if len(respects) > 1 else dict.fromkeys(respects, plain)
    top, ticks = 0.0, []
    for row, height in zip(rows.values(), tall, strict=True):
        ticks.append(top + (GAP + height) / 2)
        y = ticks[-1] - (len(row) - 1) / 2
        top += height + GAP
        for name, found in row.items():
            sure = found.low > 0 or found.high < 0
            colour = looks[name]["color"]
            ax.plot([found.low, found.high], [y, y], color=colour, lw=1.5, solid_capstyle="butt")
            face = colour if sure else "white"
            mark = {**sized(looks[name], 6), "mfc": face, "mec": colour, "mew": 1}
            ax.plot(found.value, y, **mark)
            y += 1
    ax.axvline(0, color=GREY, lw=1, zorder=0)
    ax.set_yticks(ticks, names)
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(top, 0))
    if better:
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        text = ax.annotate(f"{better} →", (0, 1), (4, 2), color=GREY, fontsize=8, **place)
    if len(respects) > 1:
        dots = [Line2D([], [], ls="", label=name, **sized(looks[name], 6)) for name in respects]
        figure.legend(handles=dots, loc="outside upper center", ncols=columns)
    figure.draw_without_rendering()  # only then is known how wide the axis is
    ax.set_xlabel(wrapped(xlabel, ax.bbox.width / figure.dpi))
    if better:  # there must be room for it at the right of zero
        share = min((text.get_window_extent().width + 10) / ax.bbox.width, 0.8)
        left, right = ax.get_xlim()
        ax.set_xlim(left, max(right, -left * share / (1 - share)))
    return figure


@styled
def fig_scores(
    panels: Mapping[str, Mapping[str, object]],
    *,
    references: Mapping[str, Mapping[str, object]] | None = None,
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
    panels : mapping of title to mapping of model to estimate
        A model without this score is left out of the panel.
    references : mapping of title to mapping of str to float or estimate, optional
        Values to compare with: a dashed line each, named beside its upper end; an estimate's
        interval is a band. A name such as "right: β-VAE better" says what lies to the right.
    columns : int

    Returns
    -------
    Figure
    """
    labels = list(dict.fromkeys(label for panel in panels.values() for label in panel))
    looks, references = model_styles(labels), references or {}
    # Of latents there are more than spare colours, and a comparison is no model.
    if all(re.fullmatch(r"F\d+", label) or " − " in label for label in labels):
        looks = dict.fromkeys(labels, {"color": DARK, "marker": "o"})
    columns = min(columns, len(panels))
    n_rows = -(-len(panels) // columns)
    units = {title: _unit(title) for title in panels}
    width = (WIDTH - 0.9) / columns
    lines = max(
        (sum(_lines(name, width) for name in found) for found in references.values()), default=0
    )
    head = LINE * lines
    figure = new_figure(n_rows * (0.62 + 0.14 * any(units.values()) + 0.19 * (len(labels) + head)))
    figure.get_layout_engine().set(w_pad=0.06)
    axes, names = figure.subplots(n_rows, columns, squeeze=False, sharey=True), letters(len(panels))
    for i, (ax, title) in enumerate(zip(axes.flat, panels, strict=False)):
        for label, found in panels[title].items():
            y, colour = labels.index(label), looks[label]["color"]
            ax.plot([found.low, found.high], [y, y], color=colour, lw=1.5, solid_capstyle="butt")
            ax.plot(found.value, y, **{"mec": "white", "mew": 0.5, **sized(looks[label], 6)})
        for found in references.get(title, {}).values():
            value, low, high = interval(found)
            ax.axvline(value, color=GREY, ls=(0, (4, 3)), lw=1, zorder=0)
            ax.axvspan(low, high, color=GREY, alpha=0.12, lw=0, zorder=0)
        told = textwrap.fill(_name(title), int(width / 0.062) - 3, break_long_words=False)
        panel_title(ax, names[i], told, fontsize=8)
        ax.set_xlabel(units[title], fontsize=7.5)
        ax.locator_params(axis="x", nbins=4 if columns < 3 else 3)
        ax.xaxis.set_major_formatter(PLAIN)
        ax.grid(axis="y", color="#EEEEEE", lw=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.tick_params(axis="x", labelsize=7)
        if i == 0:
            ax.set(yticks=range(len(labels)), yticklabels=labels)
            ax.set_ylim(len(labels) - 0.5, -0.5 - head)
        _say(ax, references.get(title, {}), width)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    return figure


def _say(ax, references, width) -> None:
    """Names of vertical lines above the rows, on the side where this axis has more room."""
    for name, found in references.items():
        if name.startswith(RIGHT):  # half of the panel lies there
            left, right = ax.get_xlim()
            ax.set_xlim(left, max(right, 2 * interval(found)[0] - left))
    left, right = ax.get_xlim()
    y = -0.55
    for name, found in references.items():
        value = interval(found)[0]
        share = (value - left) / (right - left)
        side = 1 if share < 0.5 or name.startswith(RIGHT) else -1
        far = {"xytext": (3 * side, 0), "textcoords": "offset points", "va": "bottom"}
        look = {"ha": "left" if side > 0 else "right", "color": GREY, "fontsize": 7}
        room = max(int((1 - share if side > 0 else share) * width / LETTER), 8)
        told = f"{name.removeprefix(RIGHT)}\u00a0→" if name.startswith(RIGHT) else name
        ax.annotate(textwrap.fill(told, room), (value, y), linespacing=1, **far, **look)
        y -= LINE * _lines(name, width)


def _lines(name: str, width: float) -> int:
    """Lines of text that a name takes at most, in axes so many inches wide."""
    return -(-len(name) // int(0.5 * width / LETTER))


def _name(title: str) -> str:
    """A score's name without the unit in parentheses at its end."""
    return ENDING.sub("", title)


def _unit(title: str) -> str:
    """The unit that a score's name ends with in parentheses, or that is known."""
    told = ENDING.search(title)
    known = [unit for name, unit in UNITS.items() if title.startswith(name)]
    if not told:
        return (known or [""])[0]
    return told[1] if told[1] in ("dB", "µm") else sentence(told[1])
