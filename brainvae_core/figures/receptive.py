"""Figures of what regions do to the latents: receptive fields (Figs 3B–3E, S2, S3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.stats import gaussian_kde

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled

CODE = "Code (prior standard deviations)"


@styled
def fig_3b(normalised: np.ndarray, acronyms: Sequence[str], row_totals: np.ndarray) -> Figure:
    """Receptive field of every latent as shares of each region's effect (Fig. 3B).

    A cell is the latent's share of the region's sum, which stands at the right.

    Parameters
    ----------
    normalised : ndarray, shape (n_rois, latent_dim)
        Each region's divergences divided by their sum (``ReceptiveField.normalised``).
    acronyms : sequence of str, n_rois
    row_totals : ndarray, shape (n_rois,)
        The sums, in nats.
    """
    normalised = style.check_shape("normalised", normalised, (len(acronyms), None))
    row_totals = style.check_shape("row_totals", row_totals, (len(acronyms),))
    latents = style.latent_names(normalised.shape[1])
    table = pd.DataFrame(normalised, list(acronyms), latents)
    cells = {"limits": (0, np.nanmax(normalised)), "write": ".2f" if len(latents) <= 14 else ""}
    cells["bar"] = {"shrink": min(1, 8 / len(acronyms))}
    label, height = "Share of the region's sum", 1.1 + 0.36 * len(acronyms)
    figure, (ax,) = draw.heat_maps({"": table}, label, height, **cells)
    ax.set(xlabel="Latent", ylabel="Region perturbed")
    sums = ax.secondary_yaxis("right")
    words = [style.written(float(f"{total:.3g}")) for total in row_totals]
    sums.set_yticks(np.arange(len(acronyms)) + 0.5, words)
    sums.set_ylabel("Sum (nats)")
    sums.tick_params(length=0)
    sums.spines["right"].set_visible(False)
    return figure


@styled
def fig_3c(codes: np.ndarray, latents: Sequence[int], weights: np.ndarray, roi_name: str) -> Figure:
    """Distributions of some latents while one region's brightness changes (Fig. 3C).

    Each curve is the same brains with the region at one brightness w, 1 being its mean.

    Parameters
    ----------
    codes : ndarray, shape (n_weights, n_brains, n_latents)
        Codes of the perturbed brains, only the latents to show.
    latents : sequence of int, n_latents
        Their numbers, counted from 1.
    weights : ndarray, shape (n_weights,)
        w, in units of the region's mean brightness.
    roi_name : str
    """
    codes = style.check_shape("codes", codes, (len(weights), None, len(latents)))
    figure = style.new_figure(2.6)
    figure.get_layout_engine().set(w_pad=0.12)  # or numbers of neighbours touch
    axes = figure.subplots(1, len(latents), squeeze=False)[0]
    norm = Normalize(min(weights), max(weights))
    colours = matplotlib.colormaps["viridis"](norm(weights))
    for ax, number, values in zip(axes, latents, np.moveaxis(codes, -1, 0), strict=True):
        beyond = 1.5 * values.std(axis=1).max() + 0.1
        at = np.linspace(values.min() - beyond, values.max() + beyond, 400)
        _ridge(ax, at, values, colours)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        label = style.wrapped(CODE, (style.WIDTH - 1.2) / len(latents) - 0.1)
        ax.set(title=f"F{number}", xlabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(max(3, 12 // len(latents))))
    axes[0].set_ylabel("Density over brains")
    label = f"Brightness of {roi_name}, w"
    draw.colour_bar(figure, ScalarMappable(norm, "viridis"), list(axes), label, aspect=20)
    return figure


@styled
def fig_s3(codes: np.ndarray, acronyms: Sequence[str], weights: np.ndarray) -> Figure:
    """Distributions of every latent while each region's brightness changes (Fig. S3).

    Each curve is the same brains with the region at one brightness w, 1 being its mean.

    Parameters
    ----------
    codes : ndarray, shape (n_rois, n_weights, n_brains, latent_dim)
        ``ReceptiveField.codes``.
    acronyms : sequence of str, n_rois
    weights : ndarray, shape (n_rois, n_weights)
        w of each region, rising.
    """
    codes = style.check_shape("codes", codes, (*np.shape(weights), None, None))
    style.check_shape("weights", weights, (len(acronyms), None))
    n_rois, n_weights, _, latent_dim = codes.shape
    shared, tall = {"sharex": True, "sharey": True}, 0.5 + 0.3 * latent_dim
    figure, axes = style.new_panels(n_rois, min(3, n_rois), tall, 1.0, **shared)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 1, n_weights))
    at = np.linspace(codes.min() - 0.5, codes.max() + 0.5, 400)
    for ax, acronym, w, found in zip(axes.flat, acronyms, weights, codes, strict=False):
        for k in range(latent_dim):
            _ridge(ax, at, found[:, :, k], colours, base=-k)
        ax.set_title(f"{acronym}, w = {w[0]:.2f} to {w[-1]:.2f}", fontsize=style.SMALL)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    names = style.latent_names(latent_dim)
    axes[0, 0].set_yticks(-np.arange(latent_dim), names)
    axes[0, 0].set(ylim=(0.1 - latent_dim, 1))
    for ax in axes[-1]:
        ax.set_xlabel("Code (prior SD)")
    scale, label = ScalarMappable(Normalize(0, 1), "viridis"), "Brightness of the region, w"
    bar = draw.colour_bar(figure, scale, list(axes.flat[:n_rois]), label, shrink=0.5)
    bar.set_ticks([0, 1], labels=["lowest", "highest"])
    return figure


def _ridge(ax, at, codes, colours, base=0.0) -> None:
    """Densities of each row of codes, (n, n_brains), on a line at ``base``: 0.9 high at most."""
    flat = codes.std(axis=1) <= 1e-9 * np.maximum(1, np.abs(codes).max(axis=1))
    curves = {i: gaussian_kde(codes[i])(at) for i in np.flatnonzero(~flat)}
    highest = max((curve.max() for curve in curves.values()), default=1.0)
    for i, colour in enumerate(colours):
        if flat[i]:
            ax.plot([codes[i, 0]] * 2, [base, base + 0.9], color=colour, lw=1)
        else:
            ax.plot(at, base + 0.9 * curves[i] / highest, color=colour, lw=1)
    ax.axhline(base, color=style.PALE, lw=0.5, zorder=0)


@styled
def fig_3d(correlations: Mapping[str, np.ndarray]) -> Figure:
    """Correlation between latents of their shares of the regions' effects (Fig. 3D).

    Hatched: the diagonal, and latents that are not active.

    Parameters
    ----------
    correlations : mapping of title to ndarray, each (latent_dim, latent_dim)
        ``impact_correlation``.
    """
    n, tables = len(correlations), {}
    for title, found in correlations.items():
        found = style.check_shape(title, found, (len(found),) * 2)
        names = style.latent_names(len(found))
        tables[title] = pd.DataFrame(np.where(np.eye(len(found)) > 0, np.nan, found), names, names)
    small = max(map(len, tables.values())) <= 10
    cells = {"limits": (-1, 1), "cmap": style.DIFFERENCE, "most": (40, 12), "fontsize": 7}
    cells["write"] = (lambda r: f"{round(r, 1) + 0:.1f}") if small else ""
    cells["bar"] = {"ticks": [-1, -0.5, 0, 0.5, 1], "shrink": 0.8}
    label, width = "Correlation of shares over regions", min(style.WIDTH, 1.2 + 3.4 * n)
    figure, axes = draw.heat_maps(tables, label, 3.9 if n > 1 else 4.2, width, **cells)
    for ax in axes:
        ax.set(xlabel="Latent", aspect="equal")
    axes[0].set_ylabel("Latent")
    return figure


@styled
def fig_3e(table: pd.DataFrame, chance: pd.DataFrame) -> Figure:
    """How uncorrelated the latents' impacts are, by model, beside chance (Fig. 3E).

    Only a score above both violins says something of the latents.

    Parameters
    ----------
    table : DataFrame
        A score a row: ``over`` (the panel), ``model``, ``value``, ``low``, ``high``.
    chance : DataFrame
        A draw a row: ``over``, ``model``, ``kind`` (``"permuted"`` or ``"rotated"``), ``value``.
    """
    of_chance = {kind: _groups(chance, kind) for kind in ("permuted", "rotated")}
    style.check_same_labels(scores=_groups(table), **of_chance)
    panels = draw.by_panel(table, "over")
    looks = style.model_looks(table["model"].unique())
    palette = {"permuted": "#CFCFCF", "rotated": "#F0DDB0"}
    n = len(panels)
    figure = style.new_figure(3.3, width=min(style.WIDTH, n * (0.9 + 0.95 * len(looks))))
    axes = figure.subplots(1, n, sharey=True, squeeze=False)[0]
    for letter, ax, (title, scores) in zip(style.letters(n), axes, panels.items(), strict=True):
        draws = chance[chance["over"] == title]
        sns.violinplot(
            draws, x="model", y="value", hue="kind", palette=palette, saturation=1, inner=None,
            hue_order=list(palette), order=list(scores["model"]), linewidth=0, cut=0, width=0.72,
            density_norm="width", legend=False, ax=ax,
        )  # fmt: skip
        medians = draws.groupby(["kind", "model"])["value"].median()
        for x, found in enumerate(scores.itertuples()):
            for side, kind in ((-0.18, "permuted"), (0.18, "rotated")):
                ends, colour = (x + side - 0.08, x + side + 0.08), style.GREY
                ax.hlines(medians[kind, found.model], *ends, color=colour, lw=0.8)
            look = looks[found.model]
            ax.plot([x, x], [found.low, found.high], color=look["color"], lw=2)
            ax.plot(x, found.value, **{**look, "ls": "", "ms": 8, "mec": "white"})
            over = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "va": "bottom"}
            ax.annotate(f"{found.value:.2f}", (x, found.high), fontsize=style.SMALL, **over)
        ax.set_xticks(range(len(scores)), [m.replace(" ", "\n", 1) for m in scores["model"]])
        ax.set(xlim=(-0.6, len(scores) - 0.4), ylim=(0, 1), xlabel="", ylabel="")
        style.panel_title(ax, letter, title)
    axes[0].set_ylabel("Uncorrelatedness of the latents")
    handles = {
        "regions permuted": Patch(fc=palette["permuted"]),
        "random axes": Patch(fc=palette["rotated"]),
    }
    handles["median"] = Line2D([], [], color=style.GREY, lw=0.8)
    handles["95 % interval"] = Line2D([], [], color=style.DARK, lw=2, marker="o", ms=6, mec="white")
    draw.legend(figure, handles, ncols=4 if figure.get_figwidth() > 5.5 else 2)
    return figure


def _groups(table: pd.DataFrame, kind: str = "") -> dict:
    """A panel's models, of one kind of rows."""
    rows = table[table["kind"] == kind] if kind else table
    return dict.fromkeys(zip(rows["over"], rows["model"], strict=True))


@styled
def fig_s2(
    images: np.ndarray, acronyms: Sequence[str], weights: np.ndarray, pixel_um: float
) -> Figure:
    """One brain with each region at several brightness weights (Fig. S2).

    w is the brightness of the outlined region, 1 being its mean.

    Parameters
    ----------
    images : ndarray, shape (n_rois, n_weights, height, width)
        Perturbed sections.
    acronyms : sequence of str, n_rois
    weights : ndarray, shape (n_rois, n_weights)
        w, in units of the region's mean brightness.
    pixel_um : float
    """
    rows = dict(zip(acronyms, images, strict=True))
    above = [""] * weights.shape[1]
    white = {"cmap": "gray", "vmin": 0, "vmax": style.grey_limit(images)}
    below = 0.17 * len(weights) - 0.25
    figure, axes = draw.montage(
        rows, above, pixel_um, shown=dict.fromkeys(rows, white), below=below
    )
    for row, of_region, w in zip(axes, images, weights, strict=True):
        changed = np.ptp(of_region, axis=0) > 1e-6
        for ax, weight in zip(row, w, strict=True):
            draw.outline(ax, changed)
            ax.set_title(f"w = {weight:.2f}".replace("-", "−"), fontsize=style.SMALL, pad=2)
    return figure
