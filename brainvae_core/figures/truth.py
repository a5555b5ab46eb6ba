"""Figures of what was planted beside what was found: latents, maps, and artefacts in tails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from brainvae_core.figures.labels import sized
from brainvae_core.figures.palette import MODEL_COLOURS, OTHER_COLOURS, OTHER_MARKERS
from brainvae_core.figures.style import (
    SMALL,
    check_shape,
    colour_bar,
    factor_label,
    heat_map,
    image_grid,
    latent_names,
    letters,
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
    figure = new_figure(2.2 + 0.22 * rows)
    axes = figure.subplots(1, len(recoveries), squeeze=False)[0]
    for letter, ax, (title, found) in zip(
        letters(len(recoveries)), axes, recoveries.items(), strict=True
    ):
        latents = thinned(latent_names(len(found.r2)), 40)
        fmt = _told_from_half if len(recoveries) < 3 and len(found.r2) <= 40 else ""
        shown = heat_map(ax, found.r2, latents, names, limits=(0, 1), fmt=fmt, fontsize=7)
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
    glyph = {"ls": "", "color": "black", "ms": 6, "mew": 0.2}
    handles = [
        Patch(fc="none", ec=MODEL_COLOURS["β-VAE"], lw=2, label="best latent, R² ≥ 0.5"),
        Line2D([], [], marker=r"$\mathrm{R}$", label="its receptive field is right", **glyph),
        Line2D([], [], marker=r"$\mathrm{P}$", label="its projective field is right", **glyph),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _told_from_half(r2: float) -> str:
    """Two digits, or three where two would make a half of less."""
    text = f"{r2:.2f}"
    return f"{np.floor(1000 * r2) / 1000:.3f}" if text == "0.50" and r2 < 0.5 else text


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

    Each map shows how much each pixel's brightness varies, as a standard deviation, while the row's
    planted factor or latent moves; the column's title says whose map it is. White is nothing, black
    the level below which 99.8 % of the pixels lie: of each map by itself, so that only places
    compare, or of the row's maps together, so that amounts do too, except where a last column has
    its own scale; the colour bar says which. Grey lines outline the brain; where given, a note
    below a map says more of it; many rows go on in a block at the right.

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
        Up to 99.8 % of the row's maps together, so that they compare; a last column beside which
        the others would not reach half of the scale has its own.

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
    below = 0.5 + 0.15 * per_block * bool(notes)
    figure, axes = image_grid(per_block, blocks * len(maps), shape, row_labels=blocks, below=below)
    own = one_scale and _last_is_larger(list(maps.values()))
    last = list(maps)[-1]
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
            shared = together[:-1] if own else together
            of_all = one_scale and not (own and title == last)
            top = np.sqrt(np.quantile(shared if of_all else found, FULL)) or 1
            ax.imshow(np.sqrt(np.maximum(found, 0)), cmap="Greys", vmin=0, vmax=top)
            outline(ax, brain_contour_mask, "#888888", 0.6)
            if row == 0:
                ax.set_title(f"{title} (own scale)" if own and title == last else title)
            if notes and title in notes:
                text = {"fontsize": 7, "va": "top", "ha": "center", "transform": ax.transAxes}
                ax.text(0.5, -0.01, notes[title][at], **text)
    scale_bar(axes[-1, 0], pixel_um)
    whose = "the row's" if one_scale else "each map's"
    label = f"Standard deviation (grey values), relative: 0 to {whose} maximum (99.8 % of pixels)"
    greys = ScalarMappable(Normalize(0, 1), "Greys")
    colour_bar(figure, greys, axes, label, location="bottom", shrink=0.4, ticks=[0, 0.5, 1])
    return figure


def _last_is_larger(maps: Sequence[np.ndarray]) -> bool:
    """Whether the last column would leave the others in most rows below half of the scale."""
    if len(maps) < 2:
        return False
    tops = np.sqrt([[np.quantile(one, FULL) for one in found] for found in maps])
    together = np.sqrt([np.quantile(rows, FULL) for rows in zip(*maps, strict=True)])
    return bool(np.median(tops[:-1].max(axis=0) < together / 2) > 0.5)


@styled
def fig_tails(
    codes: Mapping[str, np.ndarray], limits: np.ndarray, counts: Mapping[str, np.ndarray]
) -> Figure:
    """Where brains with artefacts lie along each latent, beyond the clean brains' limits.

    Rows are latents; horizontal: the code, in prior standard deviations. Each dot is a brain: clean
    ones are grey, others have the colour and shape of their kind, such as leak (bright signal from
    the other channel), breakage (missing tissue) or grid (scanning pattern); kinds lie within a row
    as in the legend, the first on top. Between a row's two black bars lie 95 % of the clean brains.
    Numbers at the left (right) count the brains below (above) them of the kind at that height; many
    on one side: that tail of the latent holds artefacts.

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
    colours = ["#9A9A9A", *np.resize(OTHER_COLOURS, len(codes))]
    shapes = ["o", *np.resize(OTHER_MARKERS, len(codes))]
    looks = {k: {"color": c, "marker": m} for k, c, m in zip(codes, colours, shapes, strict=False)}
    figure = new_figure(0.9 + max(0.56, 0.17 * len(codes)) * latent_dim)
    ax = figure.subplots()
    rng = np.random.default_rng(0)
    for i, (kind, found) in enumerate(codes.items()):
        for k in range(latent_dim):
            y = k - 0.4 + (i + 0.5) * spread
            jitter = rng.uniform(-0.35, 0.35, len(found)) * spread
            size = 3 if i == 0 else 3.4
            dots = {"ls": "", "mew": 0, "alpha": 0.8, **sized(looks[kind], size)}
            ax.plot(found[:, k], y + jitter, **dots)
            if kind in counts:
                below, above = counts[kind][k]
                aside = {"xycoords": ("axes fraction", "data"), "fontsize": 7, "va": "center"}
                ax.annotate(f"{below}", (-0.005, y), ha="right", **aside)
                ax.annotate(f"{above}", (1.005, y), ha="left", **aside)
    for k in range(latent_dim):
        ax.vlines(limits[:, k], k - 0.42, k + 0.42, color="black", lw=0.8)
    ax.set_yticks(range(latent_dim), latent_names(latent_dim))
    ax.tick_params(axis="y", length=0, pad=18)
    ax.spines["left"].set_visible(False)
    ax.set(ylim=(latent_dim - 0.5, -0.5), xlabel="Code (prior standard deviations)")
    dots = [Line2D([], [], ls="", label=k, **sized(look, 5)) for k, look in looks.items()]
    title = "Bars: 95 % of clean brains; numbers: a kind's brains beyond them, from top to bottom"
    figure.legend(handles=dots, loc="outside upper center", ncols=len(dots), title=title)
    figure.legends[0].get_title().set_fontsize(SMALL)
    return figure
