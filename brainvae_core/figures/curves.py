"""Scores with intervals against a parameter (Figs 2C and 2D)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from brainvae_core.figures.labels import (
    PLAIN,
    freely_placed,
    named_at_the_right,
    plain_log,
    sized,
    wrapped,
)
from brainvae_core.figures.palette import GREY, REFERENCE, is_reference, model_dashes, model_styles
from brainvae_core.figures.style import SMALL, WIDTH, letters, new_figure, panel_title, styled

WIDTHS = {1: 5.0, 2: 3.0, 3: 1.85} | dict.fromkeys(range(4, 9), 1.2)  # inches of a panel
MOST_WIDER = 1.7  # one axis for several panels, against the narrowest of their own
MOST_BANDS = 3  # models whose bands can lie on one another and still be told apart


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
    fits, the shaded band its 95 % interval over both (bars where there are more than three models).
    Dashed grey lines are references named at the right, such as the mean image or another brain,
    grey bands their intervals: a model not above the mean image says nothing of a single brain.

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
    figure = new_figure(3.6, width=6.4)
    ax = figure.subplots()
    _lines(ax, scores, _looks(scores), log_x=True)
    _references(ax, references)
    _named(ax, references, 2.9)
    ax.set(xlabel="Number of latents L", ylabel=ylabel)
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=6, handlelength=3)
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
    of images are, in squared grey values, logarithmic unless a distance is 0; low is good. Panels
    without numbers at their left share the axis there. A marker is a model's estimate, the shaded
    band its 95 % interval over brains and fits (bars where there are more than three models). Where
    given, the dashed line and grey band are the distance of real from real brains: a model there is
    not told from real ones.

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
    share_y: bool | None = None,
    point_labels: Mapping[str, Mapping[float, str]] | None = None,
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
    panels : mapping of title to mapping of model to mapping of float to estimate
        An estimate has ``value``, ``low`` and ``high``; the last two are drawn as a band,
        or as a bar where there are more than three models.
    xlabel : str
        The parameter, with its unit.
    references : mapping of title to mapping of str to float or estimate, optional
        Values to compare with; an estimate's interval is a band.
    ylabels : sequence of str
        One for all panels, or one each.
    columns : int
    log_x, log_y : bool
    share_y : bool, optional
        One vertical axis for the panels of a row; left out, where they have one label and ranges
        that allow it. Rows share it too where their ranges do.
    point_labels : mapping of model to mapping of float to str, optional
        What to write at a model's points, by their place on the horizontal axis; its line joins
        them in this order.

    Returns
    -------
    Figure
    """
    references, labels = references or {}, point_labels or {}
    return _panels(panels, references, xlabel, ylabels, columns, log_x, log_y, share_y, labels)


def _panels(
    panels, references, xlabel, ylabels, columns, log_x, log_y, share_y=None, point_labels=None
) -> Figure:
    columns = min(columns, len(panels))
    n_rows = -(-len(panels) // columns)
    figure = new_figure(0.35 + 2.5 * n_rows, width=6.4 if columns == 1 else WIDTH)
    figure.get_layout_engine().set(w_pad=0.06)
    axes, names = figure.subplots(n_rows, columns, squeeze=False), letters(len(panels))
    point_labels = point_labels or {}
    looks = _looks(dict.fromkeys(label for panel in panels.values() for label in panel))
    for i, (ax, title) in enumerate(zip(axes.flat, panels, strict=False)):
        floor = _floor(panels[title], references.get(title, {})) if log_y else None
        _lines(ax, panels[title], looks, log_x, WIDTHS[columns], floor, point_labels)
        _references(ax, references.get(title, {}), floor)
        if floor is not None:
            high = ax.get_ylim()[1]
            ax.set_yscale("log")
            ax.set_ylim(floor, high)
            plain_log(ax.yaxis)
        panel_title(ax, names[i], title)
        if i + columns >= len(panels):
            ax.set_xlabel(xlabel)
    used = [list(row[: max(len(panels) - i * columns, 0)]) for i, row in enumerate(axes)]
    _share(used, len(ylabels) < 2 if share_y is None else share_y, always=bool(share_y))
    for i, (ax, title) in enumerate(zip(axes.flat, panels, strict=False)):  # limits are known now
        if not _named_next(i, list(panels), references, used[i // columns], columns):
            _named(ax, references.get(title, {}), 1.95)
        if len(ylabels) == 1 and i % columns == 0:
            ax.set_ylabel(wrapped(ylabels[0], 1.95))
        elif len(ylabels) > max(i, 1):
            ax.set_ylabel(wrapped(ylabels[i], 1.95))
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    handles = {}
    for ax in axes.flat[: len(panels)]:
        handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    handles = {label: handles[label] for label in looks if label in handles}
    most = {"loc": "outside upper center", "ncols": min(4 if columns == 1 else 6, len(handles))}
    figure.legend(handles.values(), handles, handlelength=3, **most)
    if point_labels or log_x:
        figure.draw_without_rendering()  # only then is known where there is room
    for ax in axes.flat[: len(panels)] if log_x else ():
        ax.set_xticks(at := ax.get_xticks(), _apart(at, ax.bbox.width / figure.dpi))
    for ax, title in zip(axes.flat, panels, strict=False):
        for label, by_x in point_labels.items():
            for x, text in by_x.items():
                if x in panels[title].get(label, {}):
                    place, look = (x, panels[title][label][x].value), looks[label]
                    freely_placed(ax, text, place, color=look["color"], fontsize=7.5)
    return figure


def _share(rows, within: bool, always: bool) -> None:
    """One vertical axis for the panels of a row, and for all rows, where ranges allow."""
    shared = [within and len(row) > 1 and (always or _alike(row)) for row in rows]
    for row, together in zip(rows, shared, strict=True):
        if together:
            _one_axis(row)
            for ax in row[1:]:
                ax.tick_params(labelleft=False)
    flat = [ax for row in rows for ax in row]
    if within and len(rows) > 1 and _alike(flat):
        _one_axis(flat)


def _named_next(i, titles, references, row, columns) -> bool:
    """Whether the next panel of a row has the same references on the same axis."""
    place = i % columns
    if place + 1 >= len(row) or row[place].get_ylim() != row[place + 1].get_ylim():
        return False
    here, after = (references.get(title, {}) for title in titles[i : i + 2])
    return {k: interval(v) for k, v in here.items()} == {k: interval(v) for k, v in after.items()}


def _alike(axes) -> bool:
    """Whether the range of all axes together is not much more than that of any."""
    if len({ax.get_yscale() for ax in axes}) > 1:
        return False
    ends = np.array([ax.yaxis.get_transform().transform(np.array(ax.get_ylim())) for ax in axes])
    return bool(np.ptp(ends) <= MOST_WIDER * np.ptp(ends, axis=1).min())


def _one_axis(axes) -> None:
    low, high = np.transpose([ax.get_ylim() for ax in axes])
    for ax in axes:
        ax.set_ylim(low.min(), high.max())
        if ax.get_yscale() == "log":
            plain_log(ax.yaxis)


def _looks(labels) -> dict[str, dict]:
    """Colour, marker, its size and dashes of each label."""
    dashes = model_dashes(labels)
    looks = model_styles(labels)
    return {label: {**sized(look, 5), "ls": dashes[label]} for label, look in looks.items()}


def _lines(ax, by_label, looks, log_x=False, width=5.0, floor=None, orders=None) -> None:
    """A line and a band a model, which ends at the floor of a logarithmic axis.

    Of more models than can be told apart by bands, bars a little beside one another. Along a
    logarithmic axis of x a tick at every value, named if it fits.
    """
    at = sorted({x for by_x in by_label.values() for x in by_x})
    bars = sum(not is_reference(label) for label in looks) > MOST_BANDS
    asides = _asides(at, len(looks), log_x) if bars else np.zeros(len(looks))
    for (label, look), aside in zip(looks.items(), asides, strict=True):
        by_x = by_label.get(label, {})
        xs = [x for x in (orders or {}).get(label, sorted(by_x)) if x in by_x]
        if not xs:
            continue
        value, low, high = np.array([[e.value, e.low, e.high] for e in map(by_x.get, xs)]).T
        low = low if floor is None else np.maximum(low, floor)
        if is_reference(label):
            ax.plot(xs, value, label=label, zorder=1, **REFERENCE)
            continue
        moved = np.multiply(xs, 2**aside) if log_x else np.add(xs, aside)
        if bars:
            thin = {"color": look["color"], "lw": 1, "alpha": 0.75, "zorder": 1.5}
            ax.vlines(moved, low, high, **thin)
        else:
            band = np.argsort(xs)
            ax.fill_between(
                np.sort(xs), low[band], high[band], color=look["color"], alpha=0.18, lw=0
            )
        ax.plot(moved, value, label=label, **{"mec": "white", "mew": 0.6, **look})
    if log_x:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(at, _apart(at, width))
        ax.tick_params(axis="x", labelsize=SMALL if width > 2.5 else 7)
    else:
        ax.xaxis.set_major_formatter(PLAIN)
        if len(at) <= 6:
            ax.set_xticks(at)
    ax.yaxis.set_major_formatter(PLAIN)


def _asides(at, n, log_x) -> np.ndarray:
    """How far beside its place each of n models stands: together less than half a step of x."""
    places = np.log2(at) if log_x else np.asarray(at, float)
    if len(places) < 2:
        return np.zeros(n)
    step = min(np.ptp(places) * 0.014, np.diff(places).min() * 0.5 / n)
    return step * (np.arange(n) - (n - 1) / 2)


def _apart(values, width) -> list[str]:
    """Labels of values on a logarithmic axis so many inches wide, left out where they touch."""
    labels, end = [], -np.inf
    span = max(np.log2(max(values) / min(values)), 1e-9) if len(values) else 1
    digit = 0.07 if width > 2.5 else 0.061
    for value in values:
        text = f"{value:.4g}"
        place, half = 0.9 * width * np.log2(value / values[0]) / span, digit * len(text) / 2
        fits = place - half >= end
        labels.append(text if fits else "")
        end = place + half + 0.025 if fits else end
    return labels


def _references(ax, references: Mapping[str, object], floor=None) -> None:
    """Dashed grey lines, with bands for their intervals."""
    for found in references.values():
        value, lowest, highest = interval(found)
        ax.axhline(value, zorder=1, **REFERENCE)
        if highest > lowest:
            lowest = lowest if floor is None else max(lowest, floor)
            ax.axhspan(lowest, highest, color=GREY, alpha=0.12, lw=0, zorder=0)


def _named(ax, references, height) -> None:
    """Names of the references at the right of axes about so many inches high."""
    values = {name: interval(found)[0] for name, found in references.items()}
    named_at_the_right(ax, values, gap=0.125 / height)


def interval(found) -> tuple[float, float, float]:
    """Value, low and high of an estimate; of a number the number itself."""
    if hasattr(found, "low"):
        return found.value, found.low, found.high
    return found, found, found


def _floor(by_label, references) -> float | None:
    """Where a logarithmic axis that holds all values begins; a band may leave it below.

    A distance of exactly 0 has no place there: then there is no such axis.
    """
    values = [e.value for by_x in by_label.values() for e in by_x.values()]
    lowest = min([*values, *(interval(found)[0] for found in references.values())], default=0)
    return 0.6 * lowest if lowest > 0 else None
