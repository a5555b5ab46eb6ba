"""The one look of every figure: sizes, colours of models, captions, text and numbers on axes."""

from __future__ import annotations

import base64
import html
import inspect
import io
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from itertools import cycle
from string import ascii_uppercase

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

WIDTH = 8.0  # inches, the width of the book's text
DPI = 120
SMALL = 8  # points; legible when 8 inches are shown on 720 pixels

DARK, GREY, PALE = "#222222", "#6E6E6E", "#B8B8B8"
ACCENT = "#E69F00"
DIFFERENCE = "RdBu_r"
REFERENCE = {"color": GREY, "ls": (0, (4, 3)), "lw": 1}  # what nobody has to fit
MISSING = {"fc": "#F2F2F2", "ec": "#AAAAAA", "hatch": "////", "lw": 0}
# What decides how things are drawn. Not how they are saved: formats are the notebook's choice.
DRAWN = ("axes.", "contour.", "errorbar.", "figure.", "font.", "grid.", "hatch.", "hist.", "image.")
DRAWN += ("legend.", "lines.", "markers.", "mathtext.", "patch.", "text.", "xtick.", "ytick.")
STYLE = {key: value for key, value in rcParamsDefault.items() if key.startswith(DRAWN)} | {
    "figure.dpi": DPI,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same book on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "figure.titlesize": 10,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#333333",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.4,
    "svg.hashsalt": "brainvae",  # else ids are drawn at random: every SVG would be another file
}

# Colour, marker and dashes of what recurs, the same in every chapter. Okabe, Ito (2008): told apart
# with every kind of colour vision. Relatives of PCA are green too, with markers and dashes apart.
LOOKS = {
    "PCA": ("#009E73", "o", "-"),
    "VAE": ("#0072B2", "s", (0, (5, 1.5))),
    "β-VAE": ("#D55E00", "D", (0, (6, 1.5, 1.2, 1.5))),
    "nearest brain": ("#8C6D1F", "X", (0, (1.2, 1.2))),
    "mean image": ("#000000", "*", "-"),
    "probabilistic PCA": ("#005C43", "h", (0, (3, 1))),
    "told the factors": ("#333333", (4, 1, 0), (0, (4, 1.5, 1, 1.5))),
}
OTHER_PCA = [("#8FBF3F", "H", (0, (3, 1))), ("#1E5B2E", ">", (0, (8, 2)))]
OTHER_PCA += [("#B7D9A8", "d", (0, (2, 2)))]
SPARE = [("#CC79A7", "^", (0, (3, 1))), ("#E69F00", "v", (0, (3, 1.2, 1, 1.2, 1, 1.2)))]
SPARE += [("#56B4E9", "P", (0, (8, 2))), ("#7F7F7F", "h", (0, (2, 2)))]
SPARE += [("#B2DF8A", "<", (0, (9, 1)))]
# The same codes along other axes: the model's colour and marker, but hollow.
RANDOM_AXES, RANDOM_DASHES = ", random axes", (0, (1, 2))
# Of shapes that look smaller than a circle of the same size, and of some that look larger.
SHAPE_SIZES = {(4, 1, 0): 2.0, "*": 1.8, "X": 1.3, "P": 1.25, "D": 0.95}
SHAPE_SIZES |= dict.fromkeys("^v<", 1.2)


class BookFigure(Figure):
    """A matplotlib Figure in the book's style, whatever the caller's own settings are.

    It belongs to no pyplot state, so a notebook shows it once: where it is a cell's last value.
    Lines and text are shown as vectors, figures that are mostly images as a raster.
    """

    shown_as = "svg"
    caption = ""  # how it is read, in words; `shows` says what is seen
    source = ""

    def draw(self, renderer):
        # Tick labels are made while drawing and take their size from the settings of that moment.
        with rc_context(STYLE):
            super().draw(renderer)

    def shows(self, what: str) -> BookFigure:
        """The same figure, whose caption begins with what this one shows: a whole sentence."""
        self.caption = f"{what} {self.caption}"
        return self

    def made_from(self, source: str) -> BookFigure:
        """The same figure, whose caption ends with what it was made from: cohort, n, fits."""
        self.source = source
        return self

    def _ipython_display_(self) -> None:
        # Pyplot, wherever it was imported, would crop the figure and show it in its own format.
        from IPython.display import display

        file = io.BytesIO()
        if self.shown_as == "svg":
            self.savefig(file, format="svg", metadata={"Date": None})
            shown = {"image/svg+xml": file.getvalue().decode()}
        else:
            self.savefig(file, format="png")
            shown = {"image/png": base64.b64encode(file.getvalue()).decode()}
        display({**shown, "text/plain": f"Figure. {self.caption}"}, raw=True)
        caption = html.escape(self.caption)
        source = f' <span class="source">{html.escape(self.source)}</span>' if self.source else ""
        display({"text/html": f'<p class="caption">{caption}{source}</p>'}, raw=True)


def styled(draw: Callable) -> Callable:
    """Let a figure function work under the book's style.

    What its docstring says between its first line and the parameters ends the figure's caption.
    """
    _, _, more = inspect.getdoc(draw).partition("\n\n")
    caption = " ".join(more.partition("Parameters\n")[0].split())

    @wraps(draw)
    def drawn_in_style(*args, **kwargs):
        with rc_context(STYLE):
            figure = draw(*args, **kwargs)
        figure.caption = caption
        return figure

    return drawn_in_style


def new_figure(height: float, layout: str = "constrained", width: float = WIDTH) -> BookFigure:
    """An empty figure, inches."""
    figure = BookFigure(figsize=(width, height), layout=layout)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    return figure


def new_panels(
    n: int, columns: int, tall: float, other: float = 0.0, width: float = WIDTH, **shared
) -> tuple[BookFigure, np.ndarray]:
    """A figure of n panels and their Axes, (n_rows, columns), without those that are too many.

    Each row is ``tall`` inches high; ``other`` are for what stands above or below them.
    """
    n_rows = -(-n // columns)
    figure = new_figure(n_rows * tall + other, width=width)
    axes = figure.subplots(n_rows, columns, squeeze=False, **shared)
    for ax in axes.flat[n:]:
        ax.remove()
    return figure, axes


def model_looks(labels: Iterable[str]) -> dict[str, dict]:
    """``color``, ``marker`` and ``ls`` of each label: fixed for what recurs, in order for others.

    Of PCA a second label is another green, of another model a spare colour. "β-VAE, random axes" is
    the β-VAE with hollow markers.
    """
    models = {label: label.removesuffix(RANDOM_AXES) for label in labels}
    firsts = {}
    for name in models.values():
        firsts.setdefault(family(name), name)
    used = {LOOKS[of][0] for of in firsts if of}
    spare, greens = cycle([s for s in SPARE if s[0] not in used]), cycle(OTHER_PCA)
    looks = {}
    for name in dict.fromkeys(models.values()):
        of = family(name)
        if of and firsts[of] == name:
            looks[name] = LOOKS[of]
        else:
            looks[name] = next(greens if of == "PCA" else spare)
    found = {}
    for label, name in models.items():
        found[label] = dict(zip(("color", "marker", "ls"), looks[name], strict=True))
        if label != name:
            hollow = {"mfc": "white", "mec": looks[name][0], "mew": 1.2, "ls": RANDOM_DASHES}
            found[label] |= hollow
    return found


def mark(look: Mapping, size: float, **more) -> dict:
    """A look without its line, and a size at which all markers look equally large."""
    rim = {"mec": "white", "mew": 0.5}
    size *= SHAPE_SIZES.get(look["marker"], 1)
    return {**rim, **look, "ls": "", "ms": size, **more}


def family(label: str) -> str | None:
    """The recurring name that a label is, or begins with before a comma or a bracket."""
    return next((n for n in LOOKS if re.match(rf"{re.escape(n)}(,| \(|$)", label)), None)


def grey_limit(images: np.ndarray) -> float:
    """Brightness to show as white, at most 1, for images (…, height, width).

    The median over images of what is brighter than nearly all of an image's pixels: one bright
    leak does not darken the others.
    """
    top = float(np.median(np.quantile(images, 0.999, axis=(-2, -1))))
    return min(max(1.05 * top, 1e-3), 1.0)


def difference_limit(*differences: np.ndarray) -> float:
    """Size of a difference to show in full colour."""
    return max(1e-6, *(float(np.quantile(np.abs(d), 0.998)) for d in differences))


def latent_names(latent_dim: int) -> list[str]:
    """F1, F2, …: latents are numbered from 1."""
    return [f"F{k + 1}" for k in range(latent_dim)]


def thinned(labels: Iterable[str], most: int) -> list[str]:
    """Labels of an axis with room for ``most`` of them: the others are left empty."""
    labels = list(labels)
    step = -(-len(labels) // most)
    return [label if i % step == 0 else "" for i, label in enumerate(labels)]


def spaced(values: Iterable[float], places: Iterable[float], least: float) -> list[str]:
    """Labels of ticks, left out where they lie closer than this share of the axis."""
    places, labels, last = np.asarray(places, float), [], -np.inf
    for value, place in zip(values, places, strict=True):
        fits = place - last >= least * np.ptp(places)
        labels.append(f"{value:.4g}" if fits else "")
        last = place if fits else last
    return labels


def sentence(text: str) -> str:
    """Text with a capital first letter, unless that is a symbol, such as β; the rest as it is."""
    word = len(text) > 1 and text[:2].isalpha() and text[0].isascii()
    return text[0].upper() + text[1:] if word else text


def factor_label(factor: str) -> str:
    """A planted factor in words: ``brightness_HPF`` is "Brightness HPF"."""
    return sentence(factor.replace("_", " ").replace("ap ", "AP "))


def written(value: float, _=None) -> str:
    """A number of an axis with commas and a proper minus, never as a power of ten."""
    value = float(f"{value:.6g}")
    text = np.format_float_positional(value, trim="-") if abs(value) < 1 else f"{value:,.10g}"
    return text.replace("-", "−")


PLAIN = FuncFormatter(written)
PERCENT = PercentFormatter(1, decimals=0, symbol=" %")


def percent(share: float, decimals: int = 1) -> str:
    """A share as text."""
    return f"{100 * share:.{decimals}f} %".replace("-", "−")


def wrapped(label: str, inches: float) -> str:
    """A label of an axis this long, in lines that are not longer."""
    return textwrap.fill(label, max(int(inches / 0.068), 8), break_long_words=False)


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


def explained_limits(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis of explained variance: never beyond −0.1 and 1."""
    low = min(max(low, -0.1), 0.9)
    return low, max(min(high, 1.0), low + 0.01)


def letters(n: int) -> list[str]:
    """Letters of n panels; a single panel needs none."""
    return [""] if n == 1 else list(ascii_uppercase * -(-n // 26))[:n]


def panel_title(ax: Axes, letter: str, text: str, **style) -> None:
    """A title at the left, behind a bold letter if there is one."""
    bold = rf"$\bf{{{letter}}}$  " if letter else ""
    ax.set_title(bold + sentence(text), loc="left", **style)


def legible(colour: str = "white", width: float = 2.0) -> dict:
    """Text settings for a label that stands on an image or on lines."""
    shade = "black" if colour == "white" else "white"
    return {"color": colour, "path_effects": [withStroke(linewidth=width, foreground=shade)]}


def check_same_labels(**mappings: Mapping) -> None:
    """Raise ValueError unless all the mappings have the same keys."""
    keys = {name: sorted(mapping) for name, mapping in mappings.items()}
    if len({tuple(k) for k in keys.values()}) > 1:
        raise ValueError(f"labels differ: {keys}; give the same labels in each")


def check_shape(name: str, array, shape: tuple) -> np.ndarray:
    """The array, if it has this shape (None: any length), else a ValueError."""
    array = np.asarray(array)
    fits = array.ndim == len(shape) and all(
        want in (None, have) for have, want in zip(array.shape, shape, strict=False)
    )
    if not fits:
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"{name} is {array.shape}; it must be ({wanted}) to fit the rest")
    return array
