"""The one look of every figure: sizes, colours, sections, scale bars and matrices."""

from __future__ import annotations

import base64
import html
import inspect
import io
import re
from collections.abc import Callable, Mapping
from functools import wraps
from string import ascii_uppercase

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation

WIDTH = 8.0  # inches, the width of the book's text
DPI = 120
SMALL = 8  # points; legible when 8 inches are shown on 720 pixels

DARK = "#222222"
ACCENT = "#E69F00"

DIFFERENCE = "RdBu_r"
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
}


class BookFigure(Figure):
    """A matplotlib Figure in the book's style, whatever the caller's own settings are.

    It belongs to no pyplot state, so a notebook shows it once: where it is a cell's last value.
    Lines and text are shown as vectors, figures that are mostly images as a raster.
    """

    shown_as = "svg"
    caption = ""  # what it shows, in words: the first paragraphs of its function's docstring
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
    """Let a figure function work under the book's style; its docstring captions the figure."""
    told = re.split(r"\n\s*\w+\n\s*-{3,}\n", inspect.getdoc(draw) or "")[0]
    caption = " ".join(re.sub(r":\w+:`~?(\w+)`|``(.+?)``", r"\1\2", told).split())

    @wraps(draw)
    def drawn_in_style(*args, **kwargs):
        with rc_context(STYLE):
            drawn = draw(*args, **kwargs)
        if isinstance(drawn, BookFigure):
            drawn.caption = caption
        return drawn

    return drawn_in_style


def new_figure(height: float, layout: str = "constrained", width: float = WIDTH) -> BookFigure:
    """An empty figure, inches."""
    figure = BookFigure(figsize=(width, height), layout=layout)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    return figure


def image_grid(
    n_rows: int,
    n_columns: int,
    shape: tuple[int, int],
    *,
    titled_rows: int = 1,
    row_labels: int = 0,
    below: float = 0.0,
    tallest: float = np.inf,
) -> tuple[BookFigure, np.ndarray]:
    """A figure of equal panels for images of one shape.

    Parameters
    ----------
    n_rows, n_columns : int
    shape : (int, int)
        Height and width of an image in pixels.
    titled_rows : int
        Rows whose panels will have a title.
    row_labels : int
        Columns that will have labels at their left.
    below : float
        Inches to leave for a legend or a colour bar, besides the scale bar's.
    tallest : float
        Inches that the figure has at most: panels are smaller than the width allows, if they must.

    Returns
    -------
    BookFigure and an object array of Axes, (n_rows, n_columns)
    """
    panel = min((WIDTH - 0.1 - 0.3 * row_labels) / n_columns, 2.8)
    others = 0.03 * n_rows + 0.25 * titled_rows + below + 0.21
    panel = min(panel, (tallest - others) / n_rows * shape[1] / shape[0])
    height = n_rows * panel * shape[0] / shape[1] + others
    figure = new_figure(height, layout="compressed")
    figure.shown_as = "png"
    gap = 0.03 if titled_rows > 1 else 0.015
    figure.get_layout_engine().set(w_pad=0.015, h_pad=gap, wspace=0.01, hspace=0.005)
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax in axes.flat:
        bare(ax)
    return figure, axes


def bare(ax: Axes) -> None:
    """Take ticks and frame away; titles and labels stay."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def show_section(ax: Axes, image: np.ndarray, limit: float = 1.0) -> AxesImage:
    """A section in greys from 0 to ``limit``."""
    bare(ax)
    return ax.imshow(image, cmap="gray", vmin=0, vmax=limit)


def show_difference(ax: Axes, difference: np.ndarray, limit: float) -> AxesImage:
    """A difference of brightness: red above 0, blue below, white at 0."""
    bare(ax)
    return ax.imshow(difference, cmap=DIFFERENCE, norm=CenteredNorm(0, halfrange=limit))


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


def scale_bar(ax: Axes, pixel_um: float) -> None:
    """A bar of whole millimetres (or a simple part of one) below the right end of a section.

    Nothing lies under it there, so it is for panels of a last row.
    """
    height, width = ax.images[0].get_array().shape[:2]
    mm = width * pixel_um / 1000
    length = max((s for s in (5, 2, 1, 0.5, 0.2, 0.1, 0.05) if s <= 0.15 * mm), default=mm / 8)
    right = width - 0.5
    below = ax.get_xaxis_transform() + ScaledTranslation(0, -6 / 72, ax.figure.dpi_scale_trans)
    ends = [right - length * 1000 / pixel_um, right]
    line = Line2D(ends, [0, 0], color="black", lw=2, solid_capstyle="butt", transform=below)
    line.set_clip_on(False)
    ax.add_artist(line)
    text = {"ha": "right", "va": "center", "fontsize": SMALL, "transform": below}
    ax.text(ends[0] - 0.02 * width, 0, f"{length:g} mm", **text)


def outline(ax: Axes, mask: np.ndarray, colour: str = ACCENT, width: float = 0.8) -> None:
    """The border of a mask, (height, width) bool."""
    if np.any(mask) and not np.all(mask):
        ax.contour(np.asarray(mask, float), levels=[0.5], colors=[colour], linewidths=width)


def legible(colour: str = "white", width: float = 2.0) -> dict:
    """Text settings for a label that stands on an image."""
    shade = "black" if colour == "white" else "white"
    return {"color": colour, "path_effects": [withStroke(linewidth=width, foreground=shade)]}


def latent_names(latent_dim: int) -> list[str]:
    """F1, F2, …: latents are numbered from 1."""
    return [f"F{k + 1}" for k in range(latent_dim)]


def thinned(labels: list[str], most: int) -> list[str]:
    """Labels of an axis with room for ``most`` of them: the others are left empty."""
    step = -(-len(labels) // most)
    return [label if i % step == 0 else "" for i, label in enumerate(labels)]


def sentence(text: str) -> str:
    """Text with a capital first letter, unless that is a symbol, such as β; the rest as it is."""
    word = len(text) > 1 and text[:2].isalpha() and text[0].isascii()
    return text[0].upper() + text[1:] if word else text


def factor_label(factor: str) -> str:
    """A planted factor in words: ``brightness_HPF`` is "Brightness HPF"."""
    return sentence(factor.replace("_", " ").replace("ap ", "AP "))


def scientific(value: float) -> str:
    """Two digits and a power of ten, for text."""
    digits, power = f"{value:.1e}".split("e")
    return rf"${digits}\times10^{{{int(power)}}}$"


def percent(share: float, decimals: int = 1) -> str:
    """A share as text."""
    return f"{100 * share:.{decimals}f} %".replace("-", "−")


def heat_map(
    ax: Axes,
    values: np.ndarray,
    row_labels: list[str],
    column_labels: list[str],
    *,
    cmap: str = "viridis",
    limits: tuple[float, float] | None = None,
    fmt: str | Callable[[float], str] = "",
    least: float = -np.inf,
    fontsize: float = SMALL,
) -> AxesImage:
    """A labelled matrix; ``fmt`` writes each value from ``least`` on. NaN cells are hatched."""
    values = np.asarray(values, dtype=float)
    check_shape("values", values, (len(row_labels), len(column_labels)))
    if not np.isfinite(values).any():
        raise ValueError("values has no finite entry, so nothing to draw")
    vmin, vmax = limits or (np.nanmin(values), np.nanmax(values))
    image = ax.imshow(values, cmap=cmap, vmin=vmin, vmax=vmax, aspect="auto")
    ax.set_xticks(range(len(column_labels)), column_labels)
    ax.set_yticks(range(len(row_labels)), row_labels)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        if np.isnan(value):
            cell = (column - 0.5, row - 0.5)
            ax.add_patch(Rectangle(cell, 1, 1, fc="#F2F2F2", ec="#AAAAAA", hatch="////", lw=0))
        elif fmt and value >= least:
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            text = (fmt(value) if callable(fmt) else f"{value:{fmt}}").replace("-", "−")
            colour = "white" if dark else "black"
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=fontsize)
    return image


def colour_bar(figure, image, axes, label: str, **options):
    """A slim colour bar without a frame."""
    bar = figure.colorbar(image, ax=axes, label=label, **{"aspect": 30, "pad": 0.02, **options})
    bar.outline.set_visible(False)
    return bar


def letters(n: int) -> list[str]:
    """Letters of n panels; a single panel needs none."""
    return [""] if n == 1 else list(ascii_uppercase * -(-n // 26))[:n]


def panel_title(ax: Axes, letter: str, text: str, pad: float | None = None, **style) -> None:
    """A title at the left, behind a bold letter if there is one; ``pad`` points above the axes."""
    bold = rf"$\bf{{{letter}}}$  " if letter else ""
    ax.set_title(bold + sentence(text), loc="left", pad=pad, **style)


def tints(n: int) -> list[str]:
    """Colours of n regions, other than those of the models."""
    wheel = ["#66C2A5", "#FC8D62", "#8DA0CB", "#E78AC3", "#A6D854", "#FFD92F", "#E5C494", "#B3B3B3"]
    return np.resize(wheel, n).tolist()


def check_same_labels(**mappings: Mapping) -> None:
    """Raise ValueError unless all the mappings have the same keys."""
    keys = {name: sorted(mapping) for name, mapping in mappings.items()}
    if len({tuple(k) for k in keys.values()}) > 1:
        raise ValueError(f"labels differ: {keys}; give the same labels in each")


def check_shape(name: str, array, shape: tuple) -> np.ndarray:
    """The array, if it has this shape (None: any length).

    Raises
    ------
    ValueError
        It has not.
    """
    array = np.asarray(array)
    fits = array.ndim == len(shape) and all(
        want in (None, have) for have, want in zip(array.shape, shape, strict=False)
    )
    if not fits:
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"{name} is {array.shape}; it must be ({wanted}) to fit the rest")
    return array
