"""Figures of what was planted beside what was found: latents, maps, and artefacts in tails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from brainvae_core.figures.style import (
    MODEL_COLOURS,
    OTHER_COLOURS,
    SMALL,
    check_shape,
    colour_bar,
    factor_label,
    heat_map,
    image_grid,
    latent_names,
    legible,
    new_figure,
    outline,
    panel_title,
    scale_bar,
    styled,
    thinned,
)

FULL = 0.998  # share of a map's pixels that black is not too bright for
PER_BLOCK = 5  # rows of maps before they go on at the right


@styled
def fig_planted(recoveries: Mapping[str, object], factor_names: Sequence[str]) -> Figure:
    """Which latent holds which planted factor, and where the fields point right.

    Each panel is a model; rows are latents F1, F2 and so on, columns the factors planted in
    simulated brains. Colour, and number where there is room, is R², the share of a factor's
    variance over brains that one latent explains: 0 none, 1 all. An orange box marks a factor's
    best latent where that is half or more; above the columns, R (P) says that the best latent's
    receptive (projective) field resembles this factor's regions more than any other factor's. A
    model that found all factors has one box and RP in every column.

    Parameters
    ----------
    recoveries : mapping of title to Recovery
        With ``r2`` (latent_dim, n_factors), ``latent``, ``has_latent``, ``receptive_right`` and
        ``projective_right`` (n_factors,).
    factor_names : sequence of str, n_factors

    Returns
    -------
    Figure
        Boxes where ``has_latent``; R and P above a factor whose best latent's receptive
        (projective) field is right.
    """
    names = [factor_label(name) for name in factor_names]
    for title, found in recoveries.items():
        check_shape(f"r2 of {title}", found.r2, (None, len(names)))
    rows = min(max(len(found.r2) for found in recoveries.values()), 40)
    figure = new_figure(1.95 + 0.22 * rows)
    axes = figure.subplots(1, len(recoveries), squeeze=False)[0]
    for letter, ax, (title, found) in zip(ascii_uppercase, axes, recoveries.items(), strict=False):
        latents = thinned(latent_names(len(found.r2)), 40)
        fmt = ".2f" if len(recoveries) < 3 and len(found.r2) <= 40 else ""
        shown = heat_map(ax, found.r2, latents, names, limits=(0, 1), fmt=fmt, fontsize=6)
        for factor, latent in enumerate(found.latent):
            if found.has_latent[factor]:
                corner, colour = (factor - 0.5, latent - 0.5), MODEL_COLOURS["β-VAE"]
                ax.add_patch(Rectangle(corner, 1, 1, fc="none", ec=colour, lw=2))
            mark = "R" * bool(found.receptive_right[factor])
            mark += "P" * bool(found.projective_right[factor])
            above = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            ax.annotate(mark, (factor, 1), xycoords=("data", "axes fraction"), fontsize=7, **above)
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        panel_title(ax, letter, title, pad=15)  # above the marks
    axes[0].set_ylabel("Latent")
    colour_bar(figure, shown, list(axes), "R² of one latent", shrink=min(1, 14 / rows))
    return figure


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
    """Maps of variance: a row a factor or a latent, a column what they are of.

    Each map shows how much each pixel's brightness varies, as a standard deviation, while the row's
    planted factor or latent moves; the column's title says whose map it is. White is nothing, black
    the level below which 99.8 % of the pixels lie: of each map by itself, so that only places
    compare, or of the row's maps together, so that amounts do too; the colour bar says which. Grey
    lines outline the brain; where given, a note on a map says more of it; many rows go on in a
    block at the right.

    Parameters
    ----------
    maps : mapping of title to ndarray, each (n_rows, height, width)
        Variances; shown as standard deviations, up to 99.8 % of each map.
    row_names : sequence of str, n_rows
    pixel_um : float
        Side of a pixel in µm.
    brain_contour_mask : ndarray of bool, shape (height, width)
    notes : mapping of title to sequence of str, optional
        A word on each map.
    one_scale : bool
        Up to 99.8 % of the row's maps together, so that they compare.

    Returns
    -------
    Figure
    """
    shape = np.shape(brain_contour_mask)
    for title, found in maps.items():
        check_shape(title, found, (len(row_names), *shape))
    for title, words in (notes or {}).items():
        check_shape(f"notes on {title}", words, (len(row_names),))
    blocks = max(1, min(6 // len(maps), -(-len(row_names) // PER_BLOCK)))
    per_block = -(-len(row_names) // blocks)
    figure, axes = image_grid(per_block, blocks * len(maps), shape, row_labels=True, below=0.5)
    for row, block in np.ndindex(per_block, blocks):
        at = block * per_block + row
        of_row = axes[row, block * len(maps) : (block + 1) * len(maps)]
        if at >= len(row_names):
            for ax in of_row:
                ax.set_visible(False)
            continue
        together = [found[at] for found in maps.values()]
        of_row[0].set_ylabel(factor_label(row_names[at]).replace(" ", "\n", 1), fontsize=7)
        for ax, title, found in zip(of_row, maps, together, strict=True):
            top = np.sqrt(np.quantile(together if one_scale else found, FULL)) or 1
            ax.imshow(np.sqrt(np.maximum(found, 0)), cmap="Greys", vmin=0, vmax=top)
            outline(ax, brain_contour_mask, "#888888", 0.6)
            if row == 0:
                ax.set_title(title)
            if notes and title in notes:
                text = {"fontsize": 7, "va": "bottom", **legible("black", 1.5)}
                ax.text(0.01, 0.01, notes[title][at], transform=ax.transAxes, **text)
    scale_bar(axes[0, 0], pixel_um, "black")
    label = f"Standard deviation; 1: 99.8 % of the {'row' if one_scale else 'map'} lies below"
    greys = ScalarMappable(Normalize(0, 1), "Greys")
    colour_bar(figure, greys, axes, label, location="bottom", shrink=0.4, ticks=[0, 0.5, 1])
    return figure


@styled
def fig_tails(
    codes: Mapping[str, np.ndarray], limits: np.ndarray, counts: Mapping[str, np.ndarray]
) -> Figure:
    """Where brains with artefacts lie along each latent, beyond the clean brains' limits.

    Rows are latents; horizontal: the code, in prior standard deviations. Each dot is a brain: clean
    ones are grey, others have the colour of their kind, such as leak (bright signal from the other
    channel), breakage (missing tissue) or grid (scanning pattern); height within a row only
    separates kinds and dots. Between a row's two black bars lie 95 % of the clean brains. Coloured
    numbers at the left (right) count the kind's brains below (above) them; many on one side: that
    tail of the latent holds artefacts.

    Parameters
    ----------
    codes : mapping of kind to ndarray, each (n_brains, latent_dim)
        The first kind is the clean brains.
    limits : ndarray, shape (2, latent_dim)
        Between them lie 95 % of the clean brains.
    counts : mapping of kind to ndarray, each (latent_dim, 2)
        Brains below and above (``tail_counts``), of any of the kinds.

    Returns
    -------
    Figure
    """
    limits = check_shape("limits", limits, (2, None))
    latent_dim, spread = limits.shape[1], 0.8 / len(codes)
    for kind, found in codes.items():
        check_shape(kind, found, (None, latent_dim))
    for kind, found in counts.items():
        check_shape(f"counts of {kind}", found, (latent_dim, 2))
    looks = dict(zip(codes, ["#B8B8B8", *np.resize(OTHER_COLOURS, len(codes))], strict=False))
    figure = new_figure(0.9 + max(0.52, 0.13 * len(codes)) * latent_dim)
    ax = figure.subplots()
    rng = np.random.default_rng(0)
    for i, (kind, found) in enumerate(codes.items()):
        for k in range(latent_dim):
            y = k - 0.4 + (i + 0.5) * spread
            jitter = rng.uniform(-0.35, 0.35, len(found)) * spread
            ax.plot(found[:, k], y + jitter, "o", ms=2.2, mew=0, color=looks[kind], alpha=0.8)
            if kind in counts:
                below, above = counts[kind][k]
                aside = {"xycoords": ("axes fraction", "data"), "fontsize": 6.5, "va": "center"}
                ax.annotate(f"{below}", (-0.005, y), ha="right", color=looks[kind], **aside)
                ax.annotate(f"{above}", (1.005, y), ha="left", color=looks[kind], **aside)
    for k in range(latent_dim):
        ax.vlines(limits[:, k], k - 0.42, k + 0.42, color="black", lw=0.8)
    ax.set_yticks(range(latent_dim), latent_names(latent_dim))
    ax.tick_params(axis="y", length=0, pad=18)
    ax.spines["left"].set_visible(False)
    ax.set(ylim=(latent_dim - 0.5, -0.5), xlabel="Code (prior standard deviations)")
    dots = [Line2D([], [], ls="", marker="o", ms=5, color=c, label=k) for k, c in looks.items()]
    title = "Bars: 95 % of clean brains; numbers: brains beyond them"
    figure.legend(handles=dots, loc="outside upper center", ncols=len(dots), title=title)
    figure.legends[0].get_title().set_fontsize(SMALL)
    return figure
