"""Scores with intervals: against a parameter (Figs 2C and 2D), and side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from brainvae_core.figures.style import (
    GREY,
    WIDTH,
    legible,
    model_styles,
    new_figure,
    panel_title,
    styled,
)

PLAIN = FuncFormatter(lambda y, _: f"{y:,.6g}".replace("-", "−"))


@styled
def fig_2c(
    scores: Mapping[str, Mapping[float, object]],
    references: Mapping[str, object],
    *,
    ylabel: str = "CW-SSIM",
) -> Figure:
    """Similarity of reconstructions to brains against the number of latents (Fig. 2C).

    Horizontal, logarithmic: the number of latents L, the values by which a model describes a
    section. Vertical: the similarity named at the axis, such as CW-SSIM (complex wavelet structural
    similarity), 1 for a perfect copy; high is good. A marker is a model's mean over brains and
    fits, the shaded band its 95 % interval over both. Dashed grey lines are named references, such
    as the mean image or another brain, grey bands their intervals: a model not above the mean image
    says nothing of a single brain.

    Parameters
    ----------
    scores : mapping of str to mapping of int to estimate
        By model and number of latents; an estimate has ``value``, ``low`` and ``high``. A number
        of latents without a fit is left out.
    references : mapping of str to float or estimate
        Scores to compare with, such as those of the mean image and of another brain.
    ylabel : str
        What the score is, with its settings.

    Returns
    -------
    Figure
    """
    figure = new_figure(3.4, width=6.4)
    ax = figure.subplots()
    _lines(ax, scores, log_x=True)
    _references(ax, references)
    ax.set(xlabel="Number of latents L", ylabel=ylabel)
    figure.legend(loc="outside right center")
    return figure


@styled
def fig_2d(
    distances: Mapping[str, Mapping[str, Mapping[float, object]]],
    floors: Mapping[str, object],
    *,
    ylabel: str = "PCA-FD (squared grey values)",
) -> Figure:
    """Fréchet distance to real brains against the number of latents (Fig. 2D).

    Each panel compares one kind of image, such as reconstructions or samples of a model, with real
    sections. Horizontal, logarithmic: the number of latents L; vertical: how far apart the two sets
    of images are, in squared grey values, logarithmic unless a distance is 0; low is good. A marker
    is a model's estimate, the shaded band its 95 % interval over brains and fits. Where given, the
    dashed line and grey band are the distance of real from real brains: a model there is not told
    from real ones.

    Parameters
    ----------
    distances : mapping of kind to mapping of model to mapping of int to estimate
        Kinds such as "Reconstructions" and "Prior samples".
    floors : mapping of kind to float or estimate
        Real against real brains at the same n.
    ylabel : str
        What the distance is, with its unit.

    Returns
    -------
    Figure
    """
    return _panels(
        distances,
        {kind: {"real against real": floor} for kind, floor in floors.items()},
        "Number of latents L",
        [ylabel],
        columns=3,
        log_x=True,
        log_y=True,
    )


@styled
def fig_curves(
    panels: Mapping[str, Mapping[str, Mapping[float, object]]],
    xlabel: str,
    *,
    references: Mapping[str, Mapping[str, object]] | None = None,
    ylabels: Sequence[str] = (),
    columns: int = 2,
    log_x: bool = False,
    log_y: bool = False,
    share_y: bool = False,
) -> Figure:
    """Scores of several models against one parameter, a panel each.

    Horizontal: the parameter named below, in its unit; vertical: the score named by axis and title;
    either may be logarithmic. Each colour and marker shape is one model, the same in all panels; a
    marker is the estimate, the shaded band its 95 % interval over what was sampled (brains, fits or
    planted factors). Dashed grey lines, where given, are named references, with a grey band for
    their interval. Whether high is good depends on the score: similarities and explained shares
    should be high, errors and distances low.

    Parameters
    ----------
    panels : mapping of title to mapping of model to mapping of float to estimate
        An estimate has ``value``, ``low`` and ``high``; the last two are drawn as a band.
    xlabel : str
        The parameter, with its unit.
    references : mapping of title to mapping of str to float or estimate, optional
        Values to compare with; an estimate's interval is a band.
    ylabels : sequence of str
        One for all panels, or one each.
    columns : int
    log_x, log_y : bool
    share_y : bool
        One vertical axis for the panels of a row.

    Returns
    -------
    Figure
    """
    return _panels(panels, references or {}, xlabel, ylabels, columns, log_x, log_y, share_y)


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
    interval excludes zero, an open one that it holds zero and the sign is not sure. Where given,
    colours and marker shapes are the respects named at the right, and a word with an arrow says
    what lies to the right of zero.

    Parameters
    ----------
    rows : mapping of str to mapping of str to estimate
        What is compared, and in which respect: a marker a respect. Filled where the interval does
        not hold zero.
    xlabel : str
        The difference, with its unit.
    better : str
        What lies to the right of zero, in words.

    Returns
    -------
    Figure
    """
    respects = list(dict.fromkeys(name for row in rows.values() for name in row))
    figure = new_figure(1.0 + 0.2 * sum(len(row) + 0.8 for row in rows.values()), width=6.4)
    ax = figure.subplots()
    looks = model_styles(respects)
    y, ticks = 0.0, []
    for row in rows.values():
        ticks.append(y + (len(row) - 1) / 2)
        for name, found in row.items():
            sure = found.low > 0 or found.high < 0
            colour = looks[name]["color"]
            ax.plot([found.low, found.high], [y, y], color=colour, lw=1.5, solid_capstyle="butt")
            face = colour if sure else "white"
            ax.plot(found.value, y, looks[name]["marker"], mfc=face, mec=colour, ms=6)
            y += 1
        y += 0.8
    ax.axvline(0, color=GREY, lw=1, zorder=0)
    ax.set_yticks(ticks, list(rows))
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(y - 0.9, -0.8), xlabel=xlabel)
    if better:
        ax.set_title(f"{better} →", loc="right", color=GREY, fontsize=8)
    if len(respects) > 1:
        dots = [Line2D([], [], ls="", ms=6, label=name, **looks[name]) for name in respects]
        figure.legend(handles=dots, loc="outside right center")
    return figure


@styled
def fig_scores(
    panels: Mapping[str, Mapping[str, object]],
    *,
    references: Mapping[str, Mapping[str, object]] | None = None,
    columns: int = 4,
) -> Figure:
    """Several scores of several models side by side, with intervals.

    Each panel is one score, named above, with a horizontal axis of its own; each row is one model,
    latent or comparison, with its colour and marker shape. A marker is the estimate, its bar the 95
    % interval over what was sampled (brains, fits or planted factors); an empty row has no such
    score. A dashed grey line, where given, is the reference named below the panel, the grey band
    its interval. Whether right is good depends on the score: similarities and explained shares
    should be high, errors and distances low.

    Parameters
    ----------
    panels : mapping of title to mapping of model to estimate
        A model without this score is left out of the panel.
    references : mapping of title to mapping of str to float or estimate, optional
        Values to compare with: a dashed line each, named below the panel; an estimate's interval
        is a band.
    columns : int

    Returns
    -------
    Figure
    """
    labels = list(dict.fromkeys(label for panel in panels.values() for label in panel))
    looks, references = model_styles(labels), references or {}
    columns = min(columns, len(panels))
    n_rows = -(-len(panels) // columns)
    figure = new_figure(n_rows * (0.75 + 0.19 * len(labels)))
    axes = figure.subplots(n_rows, columns, squeeze=False, sharey=True)
    for i, (ax, title) in enumerate(zip(axes.flat, panels, strict=False)):
        for label, found in panels[title].items():
            y, colour = labels.index(label), looks[label]["color"]
            ax.plot([found.low, found.high], [y, y], color=colour, lw=1.5, solid_capstyle="butt")
            ax.plot(found.value, y, mec="white", mew=0.5, ms=6, **looks[label])
        for found in references.get(title, {}).values():
            value, low, high = _interval(found)
            ax.axvline(value, color=GREY, ls="--", lw=1, zorder=0)
            ax.axvspan(low, high, color=GREY, alpha=0.12, lw=0, zorder=0)
        ax.set_title(title, loc="left", fontsize=8)
        ax.set_xlabel(", ".join(references.get(title, {})), fontsize=7, color=GREY)
        ax.locator_params(axis="x", nbins=4)
        ax.xaxis.set_major_formatter(PLAIN)
        ax.grid(axis="y", color="#EEEEEE", lw=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.tick_params(axis="x", labelsize=7)
        if i == 0:
            ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    return figure


def _panels(panels, references, xlabel, ylabels, columns, log_x, log_y, share_y=False) -> Figure:
    columns = min(columns, len(panels))
    n_rows = -(-len(panels) // columns)
    figure = new_figure(0.35 + 2.5 * n_rows, width=6.4 if columns == 1 else WIDTH)
    axes = figure.subplots(n_rows, columns, squeeze=False, sharey="row" if share_y else False)
    looks = model_styles(dict.fromkeys(label for panel in panels.values() for label in panel))
    for i, (ax, title) in enumerate(zip(axes.flat, panels, strict=False)):
        floor = _floor(panels[title], references.get(title, {})) if log_y else None
        _lines(ax, panels[title], looks, log_x, 14 if columns < 3 else 9, floor)
        _references(ax, references.get(title, {}), floor)
        if floor is not None:
            _logarithmic(ax, floor)
        panel_title(ax, "ABCDEFGHIJKL"[i], title)
        if i + columns >= len(panels):
            ax.set_xlabel(xlabel)
    if len(ylabels) == 1:
        for ax in axes[:, 0]:
            ax.set_ylabel(ylabels[0])
    else:
        for ax, label in zip(axes.flat, ylabels, strict=False):
            ax.set_ylabel(label)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    handles = {}
    for ax in axes.flat[: len(panels)]:
        handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    most = 4 if columns == 1 else 6
    figure.legend(
        handles.values(), handles, loc="outside upper center", ncols=min(most, len(handles))
    )
    return figure


def _lines(ax, by_label, looks=None, log_x=False, most=14, floor=None) -> None:
    """A line and a band a model, which ends at the floor of a logarithmic axis.

    Along a logarithmic axis of x a tick at every value, named if it fits.
    """
    looks = looks or model_styles(by_label)
    at = sorted({x for by_x in by_label.values() for x in by_x})
    for label, by_x in by_label.items():
        xs = sorted(by_x)
        if not xs:
            continue
        value, low, high = np.array([[e.value, e.low, e.high] for e in map(by_x.get, xs)]).T
        low = low if floor is None else np.maximum(low, floor)
        ax.fill_between(xs, low, high, color=looks[label]["color"], alpha=0.2, lw=0)
        ax.plot(xs, value, label=label, mec="white", mew=0.5, **looks[label])
    if log_x:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(at, _apart(at, most))
    elif len(at) <= 6:
        ax.set_xticks(at)
    ax.yaxis.set_major_formatter(PLAIN)


def _apart(values, most) -> list[str]:
    """Labels of values on a logarithmic axis with room for so many, left out where they touch."""
    labels, last = [], 0.0
    room = (max(values) / min(values)) ** (1 / most) if len(values) > 1 else 1
    for value in values:
        fits = value >= last * room
        labels.append(f"{value:.4g}" if fits else "")
        last = value if fits else last
    return labels


def _references(ax, references: Mapping[str, object], floor=None) -> None:
    """Dashed lines with their names; of two that lie close, the lower one's is below its line."""
    found = {name: _interval(value) for name, value in references.items()}
    ordered = sorted(found.items(), key=lambda item: -item[1][0])
    values = [value for value, _, _ in found.values()]
    low, high = ax.get_ylim()
    span = max(high, *values) - min(low, *values) if values else 1
    above = np.inf
    for name, (value, lowest, highest) in ordered:
        ax.axhline(value, color=GREY, ls="--", lw=1, zorder=1)
        if highest > lowest:
            lowest = lowest if floor is None else max(lowest, floor)
            ax.axhspan(lowest, highest, color=GREY, alpha=0.12, lw=0, zorder=0)
        side = -1 if above - value < 0.08 * span else 1
        ax.annotate(
            name, (1, value), xycoords=("axes fraction", "data"), xytext=(0, 2 * side),
            textcoords="offset points", ha="right", va="bottom" if side > 0 else "top",
            fontsize=8, zorder=5, **legible(GREY),
        )  # fmt: skip
        above = value


def _interval(found) -> tuple[float, float, float]:
    """Value, low and high of an estimate; of a number the number itself."""
    if hasattr(found, "low"):
        return found.value, found.low, found.high
    return found, found, found


def _floor(by_label, references) -> float | None:
    """Where a logarithmic axis that holds all values begins; a band may leave it below.

    A distance of exactly 0 has no place there: then there is no such axis.
    """
    values = [e.value for by_x in by_label.values() for e in by_x.values()]
    lowest = min([*values, *(_interval(found)[0] for found in references.values())], default=0)
    return 0.6 * lowest if lowest > 0 else None


def _logarithmic(ax, floor) -> None:
    high = ax.get_ylim()[1]
    ax.set_yscale("log")
    ax.set_ylim(floor, high)
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    ax.yaxis.set_major_formatter(PLAIN)
    ax.yaxis.set_minor_formatter(PLAIN)
