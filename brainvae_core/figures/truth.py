"""Figures of chance, other fits and planted truth beside what was found."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled


@styled
def fig_against_blobs(
    totals: np.ndarray,
    intervals: np.ndarray,
    blobs: np.ndarray,
    acronyms: Sequence[str],
    xlabel: str,
) -> Figure:
    """Each region's effect beside those of random blobs of its size.

    At the right: the share of pieces that the region exceeds.

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
    """
    totals = style.check_shape("totals", totals, (len(acronyms),))
    intervals = style.check_shape("intervals", intervals, (len(acronyms), 2))
    blobs = style.check_shape("blobs", blobs, (len(acronyms), None))
    figure = style.new_figure(0.8 + 0.36 * len(acronyms), width=6.4)
    ax = figure.subplots()
    rows = np.arange(len(acronyms))
    jitter = np.random.default_rng(0).uniform(-0.28, 0.28, blobs.shape[1])
    dots = {"ls": "", "marker": "o", "color": style.PALE, "mew": 0}
    ax.plot(blobs.T, rows + jitter[:, None], ms=2.5, zorder=1, **dots)
    ax.vlines(np.median(blobs, axis=1), rows - 0.35, rows + 0.35, color=style.GREY, lw=1.5)
    found = {"y": rows, "value": totals, "low": intervals[:, 0], "high": intervals[:, 1]}
    looks = style.model_looks(["β-VAE"])
    draw.points(ax, pd.DataFrame({"label": "β-VAE", **found}), looks)
    for row, share in enumerate((blobs < totals[:, None]).mean(axis=1)):
        beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": style.SMALL}
        ax.annotate(f"above {style.percent(share, 0)}", (1.01, row), **beside)
    ax.set_yticks(rows, list(acronyms))
    ax.set(ylim=(len(acronyms) - 0.5, -0.5), xlabel=xlabel)
    if min(totals.min(), intervals.min(), blobs.min()) > 0:
        ax.set_xscale("log")
        style.plain_log(ax.xaxis)
    ax.tick_params(axis="y", length=0)
    handles = {
        f"{len(jitter)} blobs": Line2D([], [], ms=3, **dots),
        "their median": Line2D([], [], ls="", marker="|", ms=10, mew=1.5, color=style.GREY),
        "region, 95 % interval": Line2D([], [], **style.mark(looks["β-VAE"], 6) | {"ls": "-"}),
    }
    draw.legend(figure, handles)
    return figure


@styled
def fig_agreement(agreement: np.ndarray) -> Figure:
    """How far latents' receptive and projective fields agree: each with each.

    Framed: a latent's own two fields.

    Parameters
    ----------
    agreement : ndarray, shape (latent_dim, latent_dim)
        Rank correlations (``cross_agreement``): rows receive, columns project. Latents that were
        left out are NaN.
    """
    n = len(agreement)
    agreement, names = style.check_shape("agreement", agreement, (n, n)), style.latent_names(n)
    table, looks = pd.DataFrame(agreement, names, names), {"limits": (-1, 1), "most": (20, 10)}
    looks |= {"cmap": style.DIFFERENCE, "bar": {"shrink": 0.8}}
    figure, (ax,) = draw.heat_maps({"": table}, "Rank correlation over regions", 4.2, 4.6, **looks)
    ax.set(xlabel="Projective field of", ylabel="Receptive field of", aspect="equal")
    for k in range(n):
        ax.add_patch(Rectangle((k, k), 1, 1, fc="none", ec="black", lw=1))
    return figure


@styled
def fig_stability(
    correlations: Mapping[str, np.ndarray], chance: Mapping[str, np.ndarray]
) -> Figure:
    """How alike matched latents of several fits are, beside random axes of the same codes.

    Each line is a pair of fits; its latents are sorted, the most alike first.

    Parameters
    ----------
    correlations : mapping of model to ndarray, each (n_pairs, latent_dim)
        ``|r|`` of matched latents of pairs of fits (``match_latents``).
    chance : mapping of model to ndarray, each (n, latent_dim)
        The same of rotated codes (``matching_null``). Of a pair as of a draw the largest is shown
        first, for a latent has no number that holds for several fits.
    """
    style.check_same_labels(correlations=correlations, chance=chance)
    n = len(correlations)
    figure = style.new_figure(3.1 if n else 0.4, width=min(style.WIDTH, 1.5 + 3.2 * n))
    if not n:
        figure.text(0.05, 0.5, "one fit of each model", va="center", color=style.GREY)
        return figure
    axes = figure.subplots(1, n, sharey=True, squeeze=False)[0]
    looks, letters = style.model_looks(correlations), style.letters(n)
    for letter, ax, (title, found) in zip(letters, axes, correlations.items(), strict=True):
        random = style.check_shape(title, chance[title], (None, np.shape(found)[-1]))
        found = np.sort(found, axis=1)[:, ::-1]
        at = np.arange(1, found.shape[1] + 1)
        low, middle, high = np.quantile(np.sort(random)[:, ::-1], [0.025, 0.5, 0.975], axis=0)
        ax.bar(at, high - low, 1, low, color="#CFCFCF", label="random axes, 95 %")
        ax.hlines(middle, at - 0.5, at + 0.5, color=style.GREY, lw=1, label="their median")
        ax.plot(at, found.T, "o-", color=looks[title]["color"], lw=0.6, ms=3, alpha=0.6)
        ax.lines[0].set_label("a pair of fits")
        ax.set_xticks(at, style.thinned(map(str, at), 36 // n), fontsize=7)
        ax.set(ylim=(0, 1.02), xlim=(0.4, len(at) + 0.6))
        ax.set_xlabel(textwrap.fill("Pairs of latents, the most alike first", 90 // n))
        style.panel_title(ax, letter, textwrap.fill(title, 72 // n))
    axes[0].set_ylabel("|r| with the matched latent")
    keys = ["a pair of fits", "random axes, 95 %", "their median"]
    draw.legend(figure, draw.drawn_handles(axes[:1], keys))
    return figure


@styled
def fig_recovery(
    r2: np.ndarray, model_labels: Sequence[str], factor_names: Sequence[str]
) -> Figure:
    """How well each planted factor is read off each model's code.

    1: the factor is known exactly; 0: not at all.

    Parameters
    ----------
    r2 : ndarray, shape (n_models, n_factors)
        R² on held-out brains (``linear_recovery``).
    model_labels : sequence of str, n_models
    factor_names : sequence of str, n_factors
    """
    r2 = style.check_shape("r2", r2, (len(model_labels), len(factor_names)))
    names = [style.factor_label(name).replace(" ", "\n") for name in factor_names]
    table = pd.DataFrame(r2, list(model_labels), names)
    looks = {"limits": (0, 1), "write": ".2f", "bar": {"aspect": 12}}
    height = 1.25 + 0.36 * len(model_labels)
    figure, (ax,) = draw.heat_maps({"": table}, "Held-out R²", height, **looks)
    ax.set_xlabel("Planted factor")
    return figure


@styled
def fig_planted(recoveries: Mapping[str, object], factor_names: Sequence[str]) -> Figure:
    """Which latent holds which planted factor, and where the fields point right.

    Boxes: a factor's best latent, where it has half or more.

    Parameters
    ----------
    recoveries : mapping of title to Recovery
        With ``r2`` (latent_dim, n_factors), ``latent``, ``has_latent``, ``receptive_right`` and
        ``projective_right`` (n_factors,).
    factor_names : sequence of str, n_factors
    """
    names = [style.factor_label(name) for name in factor_names]
    tables = {
        title: pd.DataFrame(found.r2, style.latent_names(len(found.r2)), names)
        for title, found in recoveries.items()
    }
    most = max(map(len, tables.values()))
    rows = min(most, 40)
    cells = {"limits": (0, 1), "write": ".2f" if len(tables) < 3 and most <= 40 else ""}
    cells |= {"fontsize": 7, "most": (40, 100), "bar": {"shrink": min(1, 14 / rows)}}
    figure, axes = draw.heat_maps(tables, "R² of one latent", 2.2 + 0.22 * rows, **cells)
    frame = {"fc": "none", "ec": style.LOOKS["β-VAE"][0], "lw": 2}
    for ax, found in zip(axes, recoveries.values(), strict=True):
        for factor, latent in enumerate(found.latent):
            if found.has_latent[factor]:
                ax.add_patch(Rectangle((factor, latent), 1, 1, clip_on=False, **frame))
            mark = "R" * bool(found.receptive_right[factor])
            mark += "P" * bool(found.projective_right[factor])
            above = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            place = {"xycoords": ("data", "axes fraction"), "fontsize": 7, **above}
            ax.annotate(mark, (factor + 0.5, 1), **place)
        ax.tick_params(axis="x", rotation=90, labelsize=7)
        ax.set_title(ax.get_title(loc="left"), loc="left", pad=15)  # above the marks
    axes[0].set_ylabel("Latent")
    glyph = {"ls": "", "color": "black", "ms": 6, "mew": 0.2}
    handles = {
        "best latent, R² ≥ 0.5": Patch(**frame),
        "its receptive field is right": Line2D([], [], marker=r"$\mathrm{R}$", **glyph),
        "its projective field is right": Line2D([], [], marker=r"$\mathrm{P}$", **glyph),
    }
    draw.legend(figure, handles)
    return figure
