"""What tells lines apart without colour, numbers on axes, and labels where there is room."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from brainvae_core.figures.palette import GREY

# Of shapes that look smaller than a circle of the same size, and of some that look larger.
SHAPE_SIZES = {
    (4, 1, 0): 2.0,
    "*": 1.8,
    "X": 1.3,
    "P": 1.25,
    "^": 1.2,
    "v": 1.2,
    "<": 1.2,
    "D": 0.95,
}


def sized(look: Mapping, size: float) -> dict:
    """Colour, marker and a size at which all markers look equally large."""
    return {**look, "ms": size * SHAPE_SIZES.get(look["marker"], 1)}


def written(value: float, _=None) -> str:
    """A number of an axis with commas and a proper minus, never as a power of ten."""
    value = float(f"{value:.6g}")
    text = np.format_float_positional(value, trim="-") if abs(value) < 1 else f"{value:,.10g}"
    return text.replace("-", "−")


PLAIN = FuncFormatter(written)


def plain_log(axis: Axis) -> None:
    """Ticks of a logarithmic axis: the closer, the fewer powers of ten it spans."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    subs = (1, 1.5, 2, 3, 4, 5, 6, 8)
    for more, fewer in ((0.6, (1, 1.5, 2, 3, 5, 7)), (1.3, (1, 2, 5)), (2.5, (1,))):
        subs = fewer if decades > more else subs
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(PLAIN)


def wrapped(label: str, inches: float) -> str:
    """A label of an axis this long, in lines that are not longer."""
    return textwrap.fill(label, max(int(inches / 0.068), 8), break_long_words=False)


def named_at_the_right(ax: Axes, values: Mapping[str, float], gap: float = 0.13) -> None:
    """Names of horizontal lines beside the axes, moved apart where they would touch.

    ``gap`` is the height of a line of text as a share of the axes.
    """
    ax.get_ylim()  # which sets limits that wait for a drawing
    to_share = ax.transData + ax.transAxes.inverted()
    ordered = sorted(values.items(), key=lambda item: -item[1])
    names = [textwrap.fill(name, 13) for name, _ in ordered]
    shares = [to_share.transform((1, value))[1] for _, value in ordered]
    room = [gap * (1 + name.count("\n")) for name in names]
    at = list(shares)
    for i in range(1, len(at)):
        at[i] = min(at[i], at[i - 1] - (room[i - 1] + room[i]) / 2)
    lift = max(0, room[-1] / 2 - at[-1]) if at else 0
    for i in reversed(range(len(at))):  # none below the axes
        at[i] += lift
        lift = min(lift, max(0, at[i] + (room[i] + room[i - 1]) / 2 - at[i - 1])) if i else 0
    for name, share, place in zip(names, shares, at, strict=True):
        line = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 0}
        ax.annotate(
            name, (1, share), (1.025, place), xycoords="axes fraction", arrowprops=line,
            va="center", ha="left", color=GREY, fontsize=7.5, linespacing=1,
        )  # fmt: skip


def drawn_points(ax: Axes) -> np.ndarray:
    """Where lines, bars, markers and texts of drawn axes lie, in pixels, (n, 2)."""
    found, pixel = [np.empty((0, 2))], ax.figure.dpi / 72
    for line in ax.lines:
        xy = line.get_transform().transform(line.get_xydata())
        found.append(_between(xy) if line.get_linestyle() != "None" else xy)
        if line.get_marker() not in ("None", ""):
            found.append(_around(xy, pixel * line.get_markersize() / 2))
    for collection in ax.collections:
        if collection.get_offset_transform() is ax.transData:
            middle = ax.transData.transform(collection.get_offsets())
            found.append(_around(middle, pixel * (np.sqrt(collection.get_sizes().max()) / 2 + 1.5)))
        else:
            paths = collection.get_paths()
            found += [_between(ax.transData.transform(path.vertices)) for path in paths]
    for text in ax.texts:
        box = text.get_window_extent()
        grid = np.meshgrid(np.linspace(box.x0, box.x1, 8), np.linspace(box.y0, box.y1, 4))
        found.append(np.stack(grid, axis=-1).reshape(-1, 2))
    points = np.concatenate(found)
    return points[np.isfinite(points).all(axis=1)]


def freely_placed(ax: Axes, text: str, xy: tuple[float, float], **style) -> Annotation:
    """A label near a point of drawn axes, where it covers least; a thin line joins it if far."""
    points, frame = drawn_points(ax), ax.bbox
    label = ax.annotate(text, xy, (0, 0), textcoords="offset points", **style)
    sides = [
        (dx * far, dy * far * 0.8, ("right", "center", "left")[dx + 1],
         ("top", "center", "bottom")[dy + 1])
        for far in (5, 9, 14, 20, 28)
        for dx, dy in ((-1, -1), (1, -1), (-1, 1), (1, 1), (0, -1), (0, 1), (-1, 0), (1, 0))
    ]  # fmt: skip
    best = None
    for dx, dy, ha, va in sides:
        label.set(position=(dx, dy), ha=ha, va=va)
        box = label.get_window_extent().padded(1.5)
        inside = ((points > box.min) & (points < box.max)).all(axis=1).sum()
        beyond = np.maximum([*(frame.min - box.min), *(box.max - frame.max)], 0).sum()
        cost = inside + 5 * beyond + 0.4 * np.hypot(dx, dy)
        if best is None or cost < best[0]:
            best = cost, (dx, dy), ha, va
    label.remove()
    _, place, ha, va = best
    line = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
    style |= {"arrowprops": line} if np.abs(place).max() > 9 else {}
    return ax.annotate(text, xy, place, textcoords="offset points", ha=ha, va=va, **style)


def _around(xy: np.ndarray, reach: float) -> np.ndarray:
    """Points all over marks that reach so many pixels from their middles."""
    grid = np.stack(np.meshgrid(*[np.linspace(-reach, reach, 5)] * 2), axis=-1).reshape(-1, 2)
    return (xy[:, None] + grid).reshape(-1, 2)


def _between(xy: np.ndarray, step: float = 3.0) -> np.ndarray:
    """Points along a path, this many pixels apart."""
    xy = xy[np.isfinite(xy).all(axis=1)]
    if len(xy) < 2:
        return xy
    parts = [
        np.linspace(a, b, int(min(np.hypot(*(b - a)) / step, 2000)) + 2)
        for a, b in zip(xy, xy[1:], strict=False)
    ]
    return np.concatenate(parts)
