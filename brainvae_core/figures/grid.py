"""Figures of the grid over β and the number of latents (Figs 2C and 2D, § 2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from brainvae_core.figures.comparison import mean_interval
from brainvae_core.figures.style import (
    GREY,
    WIDTH,
    check_shape,
    colour_bar,
    heat_map,
    model_styles,
    new_figure,
    panel_title,
    sentence,
    styled,
)


@styled
def fig_2c(
    latent_dims: Sequence[int],
    scores: Mapping[str, np.ndarray],
    references: Mapping[str, float],
    *,
    ylabel: str = "CW-SSIM",
) -> Figure:
    """Similarity of reconstructions to brains against the number of latents (Fig. 2C).

    Parameters
    ----------
    latent_dims : sequence of int, n_dims
    scores : mapping of str to ndarray, each (n_dims,) or (n_dims, n_brains)
        By model; with brains, their mean and its 95 % bootstrap interval are drawn.
    references : mapping of str to float
        Scores to compare with, such as those of the mean image and of another brain.
    ylabel : str
        What the score is, with its settings.

    Returns
    -------
    Figure
    """
    figure = new_figure(3.4, width=6.4)
    ax = figure.subplots()
    _curves(ax, latent_dims, scores, over_brains=True)
    _reference_lines(ax, references)
    ax.set(xlabel="Number of latents L", ylabel=ylabel)
    figure.legend(loc="outside right center")
    return figure


@styled
def fig_2d(
    latent_dims: Sequence[int],
    distances: Mapping[str, Mapping[str, np.ndarray]],
    floor: float | Mapping[str, float],
    *,
    ylabel: str = "PCA-FD (squared grey values)",
) -> Figure:
    """Fréchet distance to real brains against the number of latents (Fig. 2D), a panel a kind.

    Parameters
    ----------
    latent_dims : sequence of int, n_dims
    distances : mapping of kind to mapping of model to ndarray, each (n_dims,) or (n_dims, n_seeds)
        Kinds such as "Reconstructions" and "Prior samples"; with seeds, their mean and range.
    floor : float or mapping of kind to float
        Real against real brains at the same n.
    ylabel : str
        What the distance is, with its unit.

    Returns
    -------
    Figure
    """
    figure = new_figure(3.3)
    axes = figure.subplots(1, len(distances), squeeze=False)[0]
    for letter, ax, (kind, by_model) in zip("ABCDEF", axes, distances.items(), strict=False):
        _curves(ax, latent_dims, by_model)
        lowest = floor[kind] if isinstance(floor, Mapping) else floor
        _reference_lines(ax, {"real against real": lowest})
        _log_if_positive(ax, [*by_model.values(), lowest])
        panel_title(ax, letter, sentence(kind))
        ax.set_xlabel("Number of latents L")
    axes[0].set_ylabel(ylabel)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right center")
    return figure


@styled
def fig_grid(
    values: np.ndarray,
    betas: Sequence[float],
    latent_dims: Sequence[int],
    title: str,
    *,
    fmt: str = ".2f",
    chosen: tuple[float, int] | None = None,
    label: str = "",
) -> Figure:
    """One number at every point of the grid; the chosen point is framed.

    Parameters
    ----------
    values : ndarray, shape (n_betas, n_dims)
        NaN where no model was fitted; those cells are hatched.
    betas : sequence of float, n_betas
    latent_dims : sequence of int, n_dims
    title : str
        What the number is.
    fmt : str
        How values are written into the cells, where there is room; "" leaves them out.
    chosen : (beta, latent_dim), optional
    label : str
        Of the colour bar, such as the unit.

    Returns
    -------
    Figure
    """
    values = check_shape("values", values, (len(betas), len(latent_dims)))
    width, height = 2.4 + 0.55 * len(latent_dims), 1.1 + 0.3 * len(betas)
    figure = new_figure(min(height, 6.0), width=min(width, WIDTH))
    ax = figure.subplots()
    roomy = len(latent_dims) <= 12 and len(betas) <= 20
    shown = heat_map(
        ax, values, [f"{b:g}" for b in betas], [str(d) for d in latent_dims],
        fmt=fmt if roomy else "",
    )  # fmt: skip
    ax.set(xlabel="Number of latents L", title=title)
    ax.set_ylabel("β", rotation=0, va="center", labelpad=8)
    ax.invert_yaxis()
    if chosen is not None:
        if chosen[0] not in list(betas) or chosen[1] not in list(latent_dims):
            raise ValueError(f"chosen {chosen} is not a (β, L) of this grid")
        row, column = list(betas).index(chosen[0]), list(latent_dims).index(chosen[1])
        frame = {"fill": False, "ec": "#D55E00", "lw": 2.5, "clip_on": False, "zorder": 5}
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **frame))
    colour_bar(figure, shown, ax, label, aspect=20)
    return figure


@styled
def fig_fd_profile(
    dims: Sequence[int],
    distances: Mapping[str, np.ndarray],
    floor: np.ndarray,
    *,
    ylabel: str = "PCA-FD (squared grey values)",
) -> Figure:
    """Fréchet distance against the dimension of the basis it is measured in.

    Parameters
    ----------
    dims : sequence of int, n_dims
    distances : mapping of str to ndarray, each (n_dims,)
        By model (``frechet_profile``).
    floor : ndarray, shape (n_dims,)
        Real against real brains.

    Returns
    -------
    Figure
    """
    floor = check_shape("floor", floor, (len(dims),))
    figure = new_figure(3.2, width=6.4)
    ax = figure.subplots()
    _curves(ax, dims, distances)
    ax.plot(dims, floor, ls="--", color=GREY, label="Real against real")
    _log_if_positive(ax, [*distances.values(), floor])
    ax.set(xlabel="Components d of the basis", ylabel=ylabel)
    figure.legend(loc="outside right center")
    return figure


def _curves(ax, dims, values: Mapping[str, np.ndarray], over_brains: bool = False) -> None:
    """A line a model over a log₂ axis that has a tick at each of ``dims``."""
    for label, look in model_styles(values).items():
        line = np.asarray(values[label], dtype=float)
        check_shape(label, line, (len(dims), None)[: max(line.ndim, 1)])
        known = np.isfinite(line).reshape(len(dims), -1).any(axis=1)  # where a fit succeeded
        line, at = line[known], np.asarray(dims)[known]
        if line.ndim == 2:
            spread = np.nanmin(line, axis=1), np.nanmax(line, axis=1)
            band = mean_interval(line) if over_brains else spread
            ax.fill_between(at, *band, color=look["color"], alpha=0.2, lw=0)
            line = np.nanmean(line, axis=1)
        ax.plot(at, line, label=label, mec="white", mew=0.5, **look)
    ax.set_xscale("log", base=2)
    ax.set_xticks(dims, [str(d) for d in dims])
    ax.minorticks_off()


def _reference_lines(ax, references: Mapping[str, float]) -> None:
    for name, value in references.items():
        ax.axhline(value, color=GREY, ls="--", lw=1, zorder=1)
        ax.annotate(
            name, (1, value), xycoords=("axes fraction", "data"), xytext=(0, 2),
            textcoords="offset points", ha="right", va="bottom", color=GREY, fontsize=8,
        )  # fmt: skip


def _log_if_positive(ax, values) -> None:
    # A distance of exactly 0 has no place on a logarithmic axis.
    if min(np.nanmin(v, initial=np.inf) for v in values) > 0:
        ax.set_yscale("log")
