"""Figures of what the latents change: projective fields and traversals (Figs 3A, S4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled

FULL = 0.998  # share of a map's pixels that black is not too bright for
PER_BLOCK = 5  # rows of maps before they go on at the right


@styled
def fig_3a(
    rgb: np.ndarray,
    scales: np.ndarray,
    starred: np.ndarray,
    pixel_um: float,
    brain_contour_mask: np.ndarray,
) -> Figure:
    """Projective field of every latent as one colour image (Fig. 3A).

    White: no change. Yellow mixes with cyan to green and with magenta to red, these two to blue.

    Parameters
    ----------
    rgb : ndarray, shape (latent_dim, height, width, 3)
        In [0, 1] (``stratified_rgb``).
    scales : ndarray, shape (3,)
        Variances at which red, green and blue run out, squared brightness.
    starred : ndarray of bool, shape (latent_dim,)
        Outliers (``outlier_latents``).
    pixel_um : float
    brain_contour_mask : ndarray of bool, shape (height, width)
    """
    rgb = style.check_shape("rgb", rgb, (len(starred), None, None, 3))
    scales = style.check_shape("scales", scales, (3,))
    names = zip(style.latent_names(len(rgb)), starred, strict=True)
    titles = [f"{name} ★" if star else name for name, star in names]
    figure, axes = draw.gallery(rgb, titles, pixel_um, columns=4, below=0.45)
    for ax in axes:
        draw.outline(ax, brain_contour_mask, "#888888", 0.6)
    handles = []
    where = {"cyan": "small positive c", "magenta": "small negative c", "yellow": "large |c|"}
    for (colour, what), scale in zip(where.items(), scales, strict=True):
        digits, power = f"{scale:.1e}".split("e")
        label = rf"{what} (full at ${digits}\times10^{{{int(power)}}}$)"
        handles.append(Patch(fc=colour, ec="#888888", lw=0.5, label=label))
    title = "Variance of brightness (squared grey values) while c moves the latent"
    title += "; ★ outlier" if np.any(starred) else ""
    draw.legend(figure, handles, title=title)
    return figure


@styled
def fig_s4(images: np.ndarray, c_values: Sequence[float], pixel_um: float) -> Figure:
    """Decoded images along each latent, and what changes (Fig. S4): one row per latent.

    Right: the change Δ from c = 0, red brighter, blue darker.

    Parameters
    ----------
    images : ndarray, shape (latent_dim, n_c, height, width)
        ``traversal``.
    c_values : sequence of float, n_c
        Prior standard deviations.
    pixel_um : float
    """
    middle = int(np.argmin(np.abs(c_values)))
    changes = np.delete(images - images[:, [middle]], middle, axis=1)
    titles = [f"c = {c:+g}".replace("-", "−") if c else "c = 0" for c in c_values]
    titles += [f"Δ at {c:+g}".replace("-", "−") for c in np.delete(c_values, middle)]
    names, limit = style.latent_names(len(images)), style.difference_limit(changes)
    rows, beside = (dict(zip(names, of, strict=True)) for of in (images, changes))
    label = f"Change of brightness from c = {c_values[middle]:g}"
    return draw.beside_changes(rows, beside, titles, pixel_um, label, limit)


@styled
def fig_maps(
    maps: Mapping[str, np.ndarray],
    row_names: Sequence[str],
    pixel_um: float,
    brain_contour_mask: np.ndarray,
    *,
    notes: Mapping[str, Sequence[str]] | None = None,
    one_scale: bool = False,
) -> Figure:
    """Maps of variance: one row per factor or latent, one column per model or truth.

    White: no change.

    Parameters
    ----------
    maps : mapping of title to ndarray, each (n_rows, height, width)
        Variances.
    row_names : sequence of str, n_rows
    pixel_um : float
    brain_contour_mask : ndarray of bool, shape (height, width)
    notes : mapping of title to sequence of str, optional
        A word on each map.
    one_scale : bool
        Black is the row's largest value, so that its maps compare, or else each map's own; 0.2 % of
        the pixels may lie above.
    """
    shape, notes, n = np.shape(brain_contour_mask), notes or {}, len(row_names)
    for title, found in maps.items():
        style.check_shape(title, found, (n, *shape))
    for title, words in notes.items():
        style.check_shape(f"notes on {title}", words, (n,))
    blocks = max(1, min(6 // len(maps), -(-n // PER_BLOCK)))
    per_block = -(-n // blocks)
    below = 0.5 + 0.15 * per_block * bool(notes)
    grid = {"beside": 0.4 * blocks, "below": below}
    figure, axes = draw.image_grid(per_block, blocks * len(maps), shape, **grid)
    spread = {title: np.sqrt(np.maximum(found, 0)) for title, found in maps.items()}
    lines = np.concatenate(np.split(axes, blocks, axis=1))  # a block below the other
    for ax in lines[n:].flat:
        ax.set_visible(False)
    for at, line in enumerate(lines[:n]):
        together = [found[at] for found in spread.values()]
        line[0].set_ylabel(style.factor_label(row_names[at]).replace(" ", "\n", 1), fontsize=7)
        for ax, (title, found) in zip(line, spread.items(), strict=True):
            top = np.quantile(together if one_scale else found[at], FULL) or 1
            ax.imshow(found[at], cmap="Greys", vmin=0, vmax=top)
            draw.outline(ax, brain_contour_mask, "#888888", 0.6)
            if at % per_block == 0:
                ax.set_title(title)
            if title in notes:
                text = {"fontsize": 7, "va": "top", "ha": "center", "transform": ax.transAxes}
                ax.text(0.5, -0.01, notes[title][at], **text)
    draw.scale_bar(axes[-1, 0], pixel_um)
    whose = "the row's" if one_scale else "each map's"
    label = f"Standard deviation (grey values), relative: 0 to {whose} maximum (99.8 % of pixels)"
    greys = ScalarMappable(Normalize(0, 1), "Greys")
    draw.colour_bar(figure, greys, axes, label, location="bottom", shrink=0.4, ticks=[0, 0.5, 1])
    return figure


@styled
def fig_region_profile(
    profile: np.ndarray, acronyms: Sequence[str], receptive: np.ndarray | None = None
) -> Figure:
    """Which regions each latent moves and, where drawn, which regions move it.

    Each column adds up to 1.

    Parameters
    ----------
    profile : ndarray, shape (latent_dim, n_rois)
        Mean variance of each region's output (``region_profile``), squared brightness.
    acronyms : sequence of str, n_rois
    receptive : ndarray, shape (n_rois, latent_dim), optional
        Divergences in nats (``ReceptiveField.divergence``).
    """
    tables = {"Projective: regions that the latent moves": np.transpose(profile)}
    if receptive is not None:
        tables["Receptive: regions that move the latent"] = receptive
    totals = {title: np.sum(table, axis=0) for title, table in tables.items()}
    shares = {  # a latent that does nothing stays 0
        title: table / np.where(totals[title] > 0, totals[title], 1)
        for title, table in tables.items()
    }
    least = 0.05 if len(acronyms) > 10 else 0  # a large table is read by its large numbers
    write = (lambda share: f"{share:.2f}" if share >= least else "") if len(profile) <= 16 else ""
    return fig_fields(shares, acronyms, "Share of the latent's sum", write=write)


@styled
def fig_fields(
    tables: Mapping[str, np.ndarray],
    acronyms: Sequence[str],
    label: str,
    *,
    write: Callable[[float], str] | str = "",
) -> Figure:
    """Several fields side by side: one row per region, one column per latent.

    All panels share one scale.

    Parameters
    ----------
    tables : mapping of title to ndarray, each (n_rois, latent_dim)
        0 or more.
    acronyms : sequence of str, n_rois
    label : str
        What the colours are, with the unit. All panels share them.
    write : callable or str
        The number in a cell, as text or as its format; without it there is none.
    """
    n, row = len(tables), 0.32 if write else 0.17
    frames = {
        title: pd.DataFrame(table, list(acronyms), style.latent_names(np.shape(table)[1]))
        for title, table in tables.items()
    }
    top = max(float(np.nanmax(table)) for table in tables.values()) or 1.0
    cells = {"limits": (0, top), "write": write, "fontsize": 7, "most": (100, 24 // n)}
    cells |= {"share_y": True, "bar": {"shrink": min(1, 14 / len(acronyms))}}
    height, width = 1 + max(row * len(acronyms), 1.3), 5 if n == 1 else style.WIDTH
    figure, axes = draw.heat_maps(frames, label, height, width, **cells)
    for ax in axes:
        ax.tick_params(axis="both", labelsize=7)
        ax.set_xlabel("Latent")
    axes[0].set_ylabel("Region")
    return figure
