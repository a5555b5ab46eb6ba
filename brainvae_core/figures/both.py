"""Figures of both directions together, of fits side by side, and of what was planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from brainvae_core.figures.style import (
    GREY,
    SMALL,
    WIDTH,
    check_shape,
    colour_bar,
    factor_label,
    heat_map,
    image_grid,
    latent_names,
    new_figure,
    outline,
    panel_title,
    scale_bar,
    styled,
    thinned,
)

BLUE, ORANGE = "#0072B2", "#D55E00"


@styled
def fig_fields(tables: Mapping[str, np.ndarray], acronyms: Sequence[str], label: str) -> Figure:
    """Several fields side by side: a panel each, a row a region, a column a latent.

    Parameters
    ----------
    tables : mapping of title to ndarray, each (n_rois, latent_dim)
    acronyms : sequence of str, n_rois
    label : str
        What the colours are, with the unit. All panels share them.

    Returns
    -------
    Figure
    """
    for title, table in tables.items():
        check_shape(title, table, (len(acronyms), None))
    figure = new_figure(0.8 + max(0.17 * len(acronyms), 1.3))
    axes = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    top = max(float(np.max(table)) for table in tables.values()) or 1.0
    for letter, ax, (title, table) in zip("ABCDEFGH", axes, tables.items(), strict=False):
        names = thinned(latent_names(table.shape[1]), 9 if len(tables) > 2 else 16)
        shown = heat_map(ax, table, list(acronyms), names, limits=(0, top))
        panel_title(ax, letter, title)
        ax.tick_params(axis="both", labelsize=7)
        ax.set_xlabel("Latent")
    axes[0].set_ylabel("Region")
    colour_bar(figure, shown, list(axes), label, shrink=min(1, 14 / len(acronyms)))
    return figure


@styled
def fig_against_blobs(
    totals: np.ndarray,
    intervals: np.ndarray,
    blobs: np.ndarray,
    acronyms: Sequence[str],
    xlabel: str,
) -> Figure:
    """Each region's effect beside those of random blobs of its size.

    Parameters
    ----------
    totals : ndarray, shape (n_rois,)
    intervals : ndarray, shape (n_rois, 2)
        95 % over resampled brains.
    blobs : ndarray, shape (n_rois, n_blobs)
        The same of each region's own random blobs.
    acronyms : sequence of str, n_rois
    xlabel : str
        The effect, with its unit.

    Returns
    -------
    Figure
    """
    totals = check_shape("totals", totals, (len(acronyms),))
    intervals = check_shape("intervals", intervals, (len(acronyms), 2))
    blobs = check_shape("blobs", blobs, (len(acronyms), None))
    figure = new_figure(0.8 + 0.36 * len(acronyms), width=6.4)
    ax = figure.subplots()
    jitter = np.random.default_rng(0).uniform(-0.28, 0.28, blobs.shape[1])
    for row, (total, ends, of_blobs) in enumerate(zip(totals, intervals, blobs, strict=True)):
        ax.plot(of_blobs, row + jitter, "o", ms=2.5, color="#B8B8B8", mew=0, zorder=1)
        ax.plot([np.median(of_blobs)] * 2, [row - 0.35, row + 0.35], color=GREY, lw=1.5)
        ax.plot(ends, [row, row], color=ORANGE, lw=2, zorder=2)
        ax.plot(total, row, "D", ms=6, color=ORANGE, mec="white", mew=0.7, zorder=3)
        below = np.mean(of_blobs < total)
        note = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": SMALL}
        ax.annotate(f"above {below:.0%}".replace("%", " %"), (1.01, row), **note)
    ax.set_yticks(range(len(acronyms)), list(acronyms))
    ax.set(ylim=(len(acronyms) - 0.5, -0.5), xscale="log", xlabel=xlabel)
    ax.tick_params(axis="y", length=0)
    dots = {"marker": "o", "ms": 3, "color": "#B8B8B8"}, {"marker": "D", "ms": 6, "color": ORANGE}
    names = f"{blobs.shape[1]} random blobs of its size, median", "region, 95 % interval"
    handles = [Line2D([], [], ls="", label=n, **d) for n, d in zip(names, dots, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


@styled
def fig_agreement(agreement: np.ndarray, intervals: np.ndarray) -> Figure:
    """How far latents' receptive and projective fields agree: each with each, and its own.

    Parameters
    ----------
    agreement : ndarray, shape (latent_dim, latent_dim)
        Rank correlations (``cross_agreement``): rows receive, columns project.
    intervals : ndarray, shape (latent_dim, 2)
        95 % of the diagonal over resampled brains and regions.

    Returns
    -------
    Figure
    """
    n = len(agreement)
    agreement = check_shape("agreement", agreement, (n, n))
    intervals = check_shape("intervals", intervals, (n, 2))
    names = latent_names(n)
    figure = new_figure(3.5)
    matrix, ax = figure.subplots(1, 2, width_ratios=[1.15, 1])
    shown = heat_map(matrix, agreement, names, names, cmap="RdBu_r", limits=(-1, 1))
    matrix.set_aspect("equal")
    matrix.set(xlabel="Projective field of", ylabel="Receptive field of")
    panel_title(matrix, "A", "Each latent with each")
    for k in range(n):
        matrix.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, fc="none", ec="black", lw=1))
    colour_bar(figure, shown, matrix, "Rank correlation over regions", aspect=20)
    for k, (ends, value) in enumerate(zip(intervals, np.diag(agreement), strict=True)):
        others = np.delete(agreement[k], k)
        ax.plot(others, np.full(len(others), k), "|", color=GREY, ms=7)
        ax.plot(ends, [k, k], color=BLUE, lw=2)
        ax.plot(value, k, "o", ms=6, color=BLUE, mec="white", mew=0.7)
    ax.axvline(0, color=GREY, lw=0.8, zorder=0)
    ax.set_yticks(range(n), names)
    ax.set(ylim=(n - 0.5, -0.5), xlim=(-1, 1), xlabel="Rank correlation over regions")
    panel_title(ax, "B", "Its own two fields (|: with others')")
    return figure


@styled
def fig_stability(
    correlations: Mapping[str, np.ndarray], chance: Mapping[str, np.ndarray]
) -> Figure:
    """How alike matched latents of several fits are, beside random axes of the same codes.

    Parameters
    ----------
    correlations : mapping of model to ndarray, each (n_pairs, latent_dim)
        |r| of the latents of the first fit with those of each other fit (``match_latents``).
    chance : mapping of model to ndarray, each (n, latent_dim)
        The same of rotated codes (``matching_null``).

    Returns
    -------
    Figure
    """
    figure = new_figure(2.9, width=min(WIDTH, 1.5 + 3.2 * len(correlations)))
    axes = figure.subplots(1, len(correlations), sharey=True, squeeze=False)[0]
    for letter, ax, (title, found) in zip("ABCD", axes, correlations.items(), strict=False):
        random = np.sort(chance[title], axis=1)[:, ::-1]
        order = np.argsort(-np.mean(found, axis=0), kind="stable")
        at = np.arange(len(order))
        low, middle, high = np.quantile(random, [0.025, 0.5, 0.975], axis=0)
        ax.fill_between(at, low, high, color="#CFCFCF", lw=0, label="random axes, 95 %")
        ax.plot(at, middle, color=GREY, lw=1)
        for row, marker in zip(found, "osD^v", strict=False):
            ax.plot(at, row[order], marker, color=BLUE, ms=5, mec="white", mew=0.5)
        ax.set_xticks(at, [f"F{k + 1}" for k in order])
        ax.set(ylim=(0, 1.02), xlabel="Latent of the first fit, most stable first")
        panel_title(ax, letter, title)
    axes[0].set_ylabel("|r| of the codes with the matched latent")
    axes[0].plot([], [], "o", color=BLUE, ms=5, label="another fit")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


@styled
def fig_planted(recoveries: Mapping[str, object], factor_names: Sequence[str]) -> Figure:
    """Which latent holds which planted factor, and where the fields point right.

    Parameters
    ----------
    recoveries : mapping of title to Recovery
        With ``r2`` (latent_dim, n_factors), ``latent``, ``has_latent``, ``receptive_right`` and
        ``projective_right`` (n_factors,).
    factor_names : sequence of str, n_factors

    Returns
    -------
    Figure
    """
    names = [factor_label(name) for name in factor_names]
    most = max(len(found.r2) for found in recoveries.values())
    figure = new_figure(1.75 + 0.22 * most * 1.0 + 0.2)
    axes = figure.subplots(1, len(recoveries), squeeze=False)[0]
    for letter, ax, (title, found) in zip("ABCD", axes, recoveries.items(), strict=False):
        check_shape("r2", found.r2, (None, len(names)))
        fmt = ".2f" if len(recoveries) < 3 else ""
        latents = latent_names(len(found.r2))
        shown = heat_map(ax, found.r2, latents, names, limits=(0, 1), fmt=fmt, fontsize=6)
        for factor, latent in enumerate(found.latent):
            if found.has_latent[factor]:
                box = Rectangle((factor - 0.5, latent - 0.5), 1, 1, fc="none", ec=ORANGE, lw=2)
                ax.add_patch(box)
            text = "R" * bool(found.receptive_right[factor])
            text += "P" * bool(found.projective_right[factor])
            ax.annotate(
                text, (factor, 1.01), xycoords=("data", "axes fraction"), ha="center", va="bottom",
                fontsize=7,
            )  # fmt: skip
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        ax.set_title(rf"$\bf{{{letter}}}$  {title}", loc="left", pad=12)
    axes[0].set_ylabel("Latent")
    colour_bar(figure, shown, list(axes), "R² of one latent", aspect=15)
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
    shape = next(iter(maps.values())).shape
    for title, found in maps.items():
        check_shape(title, found, (len(row_names), *shape[1:]))
    columns = 2 * len(maps) if len(row_names) > 5 and len(maps) < 4 else len(maps)
    per_column = -(-len(row_names) * len(maps) // columns)
    figure, axes = image_grid(per_column, columns, shape[1:], row_labels=True)
    blocks = columns // len(maps)
    for row in range(per_column * blocks):
        line, block = axes[row % per_column], row // per_column
        for i, title in enumerate(maps):
            ax = line[block * len(maps) + i]
            if row >= len(row_names):
                ax.set_visible(False)
                continue
            shown = [found[row] for found in maps.values()] if one_scale else maps[title][row]
            top = np.sqrt(np.quantile(shown, 0.998)) or 1
            root = np.sqrt(np.maximum(maps[title][row], 0))
            ax.imshow(root, cmap="Greys", vmin=0, vmax=top)
            outline(ax, brain_contour_mask, "#888888", 0.6)
            if row % per_column == 0:
                ax.set_title(title)
            if i == 0:
                ax.set_ylabel(factor_label(row_names[row]).replace(" ", "\n", 1), fontsize=7)
            if notes and title in notes:
                ax.text(0.02, 0.03, notes[title][row], transform=ax.transAxes, fontsize=7)
    scale_bar(axes[0, 0], pixel_um, "black")
    return figure


@styled
def fig_tails(
    codes: Mapping[str, np.ndarray], limits: np.ndarray, counts: Mapping[str, np.ndarray]
) -> Figure:
    """Where brains with artefacts lie along each latent, beyond the clean brains' limits.

    Parameters
    ----------
    codes : mapping of kind to ndarray, each (n_brains, latent_dim)
        The first kind is the clean brains.
    limits : ndarray, shape (2, latent_dim)
        Between them lie 95 % of the clean brains.
    counts : mapping of kind to ndarray, each (latent_dim, 2)
        Brains below and above (``tail_counts``).

    Returns
    -------
    Figure
    """
    first = next(iter(codes.values()))
    latent_dim = first.shape[1]
    limits = check_shape("limits", limits, (2, latent_dim))
    looks = dict(zip(codes, ["#B8B8B8", ORANGE, BLUE, "#009E73"], strict=False))
    figure = new_figure(0.9 + 0.52 * latent_dim)
    ax = figure.subplots()
    spread = 0.8 / len(codes)
    rng = np.random.default_rng(0)
    for i, (kind, found) in enumerate(codes.items()):
        check_shape(kind, found, (None, latent_dim))
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
    ax.tick_params(axis="y", length=0, pad=14)
    ax.spines["left"].set_visible(False)
    ax.set(ylim=(latent_dim - 0.5, -0.5), xlabel="Code (prior standard deviations)")
    dots = [Line2D([], [], ls="", marker="o", ms=5, color=c, label=k) for k, c in looks.items()]
    title = "Bars: 95 % of clean brains; numbers: brains beyond them"
    figure.legend(handles=dots, loc="outside upper center", ncols=len(dots), title=title)
    figure.legends[0].get_title().set_fontsize(SMALL)
    return figure
