"""Figures of fits: learning curves, explained variance, planted factors, reconstructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from brainvae_core.figures.labels import plain_log, sized
from brainvae_core.figures.palette import GREY, beta_style, is_known, model_styles
from brainvae_core.figures.style import (
    check_shape,
    colour_bar,
    factor_label,
    grey_limit,
    heat_map,
    image_grid,
    letters,
    new_figure,
    panel_title,
    percent,
    scale_bar,
    show_section,
    styled,
)

CURVES = {
    "validation_loss": "−ELBO$_β$ (nats per image)",
    "explained_variance": "Explained variance",
    "validation_kl": "KL divergence (nats per image)",
    "active_latents": "Active latents",
}


@styled
def fig_training(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    reference_explained: Mapping[str, float],
) -> Figure:
    """Learning curves on validation brains, grey while β still rises.

    Horizontal: training step; each line is a fit, told apart by colour and marker; lines that
    coincide hide one another. A: the loss, in nats per image, which should fall; at different β it
    is a different objective, so compare courses and not heights; a triangle at the upper edge is a
    point beyond it. B: explained variance, which should rise, with dashed lines for models without
    a course, such as PCA. C, logarithmic: KL divergence of the code from its prior, in nats per
    image. D: the number of latents in use. The grey background ends where β has reached its final
    value.

    Parameters
    ----------
    histories : mapping of label to list of rows
        Each row one validation: ``step``, ``validation_loss``, ``explained_variance``,
        ``validation_kl``, ``active_latents`` and ``progress`` of the KL warm-up.
    reference_explained : mapping of str to float
        Explained variance of models without a history, such as PCA.

    Returns
    -------
    Figure
    """
    figure = new_figure(4.8)
    axes = figure.subplots(2, 2, sharex=True)
    looks = model_styles([*histories, *reference_explained])
    warm = max((_warm_up_end(rows) for rows in histories.values()), default=0)
    for letter, ax, (key, title) in zip(letters(4), axes.flat, CURVES.items(), strict=True):
        panel_title(ax, letter, title)
        if warm:
            ax.axvspan(0, warm, color="#F0F0F0", zorder=0)
        for label, rows in histories.items():
            points = np.array([(row["step"], row[key]) for row in rows], dtype=float)
            few = {"markevery": max(1, len(points) // 24), "mec": "white", "mew": 0.5}
            ax.plot(*points.T, label=label, **{**few, **sized(looks[label], 5)})
    loss, explained, kl, active = axes.flat
    kl.set_yscale("log")  # it starts hundreds of times above where it ends
    plain_log(kl.yaxis)
    loss.yaxis.set_major_formatter(FuncFormatter(_with_commas))
    _zoom_out_of_first(loss, histories, looks)
    explained.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    low, high = explained.get_ylim()
    for label, value in reference_explained.items():
        colour = looks[label]["color"]
        explained.axhline(value, color=colour, ls="--", lw=1.2, label=label)
        high = max(high, value)
    explained.set_ylim(low, high + 0.15 * (high - low))  # room for words at its top
    active.yaxis.set_major_locator(MaxNLocator(integer=True))
    active.set_ylim(bottom=0)
    for ax in axes.flat if warm else ():
        up = ax is explained  # where lines begin low
        where = {"transform": ax.get_xaxis_transform(), "va": "top" if up else "bottom"}
        ax.text(0.02 * warm, 0.98 if up else 0.02, " β rising", color=GREY, fontsize=8, **where)
    for ax in axes[1]:
        ax.set_xlabel("Training step")
    figure.legend(*explained.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


@styled
def fig_row(
    betas: Sequence[float],
    panels: Mapping[str, np.ndarray],
    references: Mapping[str, float],
) -> Figure:
    """What several seeds end on at every β of one row of the grid.

    Each panel is one number, named above with its unit; horizontal: β, the weight of the code's
    cost (KL divergence) in training, with equal steps between the values tried. Each point is a fit
    (one training with one seed), coloured and shaped by its β, the grey line the mean over fits;
    where given, the dashed green line is PCA with the same number of latents. Points that coincide
    hide one another; points far apart at one β mean that the number depends on the seed. Whether
    high is good depends on the number: explained variance should be high, distortion low.

    Parameters
    ----------
    betas : sequence of float, n_betas
    panels : mapping of title to ndarray, each (n_betas, n_seeds)
        What the number is, with its unit; NaN where a fit failed.
    references : mapping of title to float
        A panel's value of PCA at the same number of latents, drawn as a line.

    Returns
    -------
    Figure
    """
    figure = new_figure(2.3 * -(-len(panels) // 2))
    axes = figure.subplots(-(-len(panels) // 2), 2, sharex=True, squeeze=False)
    places = np.arange(len(betas))
    pca = model_styles(["PCA"])["PCA"]["color"]
    names = letters(len(panels))
    for letter, ax, (title, values) in zip(names, axes.flat, panels.items(), strict=False):
        values = check_shape(title, np.asarray(values, float), (len(betas), None))
        known = np.isfinite(values).any(axis=1)
        ax.plot(places[known], np.nanmean(values[known], axis=1), color=GREY, lw=1.2)
        for place, beta, of_beta in zip(places, betas, values, strict=True):
            look = {"alpha": 0.7, "mew": 0, "ls": "", **sized(beta_style(beta), 5.5)}
            ax.plot(np.full(len(of_beta), place), of_beta, **look)
        if title in references:
            ax.axhline(references[title], color=pca, ls="--", lw=1.2)
            ax.annotate(
                "PCA", (1, references[title]), xycoords=("axes fraction", "data"),
                xytext=(0, 2), textcoords="offset points", ha="right", va="bottom",
                color=pca, fontsize=8,
            )  # fmt: skip
        panel_title(ax, letter, title)
        ax.margins(y=0.15)
        low, high = np.nanmin(values, initial=np.inf), np.nanmax(values, initial=-np.inf)
        if low == high > 0:  # seen against nothing, where there is nothing else to see it against
            ax.set_ylim(0, 1.25 * high)
        if title.lower().startswith("explained variance"):
            ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        elif max(abs(low), abs(high)) > 1:
            ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.yaxis.set_major_formatter(FuncFormatter(_with_commas))
    for ax in axes[-1]:
        ax.set_xticks(places, [f"{b:g}" for b in betas])
        ax.set_xlabel("β")
    return figure


def _with_commas(y, _=None) -> str:
    return f"{y:,.0f}".replace("-", "−")


def _warm_up_end(rows) -> float:
    """First step of a history at which β had reached its final value; 0 where it never rose."""
    if rows[0]["progress"] >= 1:
        return 0
    return next((row["step"] for row in rows if row["progress"] >= 1), rows[-1]["step"])


def _zoom_out_of_first(ax, histories, looks) -> None:
    """Leave the first validation out of the limits where it dwarfs what follows, but marked."""
    later = [row["validation_loss"] for rows in histories.values() for row in rows[1:]]
    if later and np.ptp(later) > 0:
        margin = 0.08 * np.ptp(later)
        ax.set_ylim(min(later) - margin, max(later) + margin)
        for label, rows in histories.items():
            if rows[0]["validation_loss"] > ax.get_ylim()[1]:
                above = {"transform": ax.get_xaxis_transform(), "clip_on": False, "zorder": 4}
                look = {"color": looks[label]["color"], "mec": "white", "mew": 0.4, "ms": 6}
                ax.plot(rows[0]["step"], 1, "^", **look, **above)


@styled
def fig_recovery(
    r2: np.ndarray, model_labels: Sequence[str], factor_names: Sequence[str]
) -> Figure:
    """How well each planted factor is read off each model's code.

    Rows are models, columns factors that were planted in simulated brains. Number and colour are
    R², the share of the factor's variance over held-out brains that a linear prediction from the
    whole code explains: 1 (yellow) the factor is known exactly, 0 (dark) not at all, below 0 worse
    than guessing its mean. Colours stop at 0 and 1, numbers do not. High is good, but says that the
    code as a whole holds the factor, not that a single latent does.

    Parameters
    ----------
    r2 : ndarray, shape (n_models, n_factors)
        R² on held-out brains (``linear_recovery``); colours are cut at 0 and 1, numbers are not.
    model_labels : sequence of str, n_models
    factor_names : sequence of str, n_factors

    Returns
    -------
    Figure
    """
    figure = new_figure(1.25 + 0.36 * len(model_labels))
    ax = figure.subplots()
    names = [factor_label(name).replace(" ", "\n") for name in factor_names]
    shown = heat_map(ax, r2, list(model_labels), names, limits=(0, 1), fmt=".2f")
    ax.set_xlabel("Planted factor")
    colour_bar(figure, shown, ax, "Held-out R²", aspect=12)
    return figure


@styled
def fig_reconstructions(
    images: np.ndarray,
    reconstructions: Mapping[str, np.ndarray],
    pixel_um: float,
    titles: Sequence[str],
    *,
    first_row: str = "Input",
) -> Figure:
    """Brains and what each model makes of them: one column per brain, one row per model.

    Each column has its title above, each row its name at the left. The first row, and any other
    whose name is not a model's, are the sections as they are; a row of a model is what it makes of
    the nearest row above it that is not a model's. All images share one grey scale, brightness from
    black to white, and the scale bar. A model that paints the same in every column shows an average
    and not the brain.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Brightness in [0, 1].
    reconstructions : mapping of str to ndarray, each (n, height, width)
        By model.
    pixel_um : float
        Side of a pixel in µm.
    titles : sequence of str, n
    first_row : str
        What ``images`` are; each model answers to the nearest row above it that is no model's.

    Returns
    -------
    Figure
    """
    images = check_shape("images", images, (len(titles), None, None))
    rows = {first_row: images, **reconstructions}
    figure, axes = image_grid(len(rows), len(images), images.shape[1:], row_labels=1)
    limit = grey_limit(images)
    for line, (label, row) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(label)
        for ax, image in zip(line, check_shape(label, row, images.shape), strict=True):
            show_section(ax, image, limit)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    scale_bar(axes[-1, -1], pixel_um)
    return figure


@styled
def fig_explained(values: Mapping[str, float | tuple[float, float, float]]) -> Figure:
    """Share of the held-out brains' variance that each reconstruction explains.

    One bar per way to reconstruct the brains, in percent, with the number beside it; models have
    their colours, all else is grey. 100 % is a perfect reconstruction of every held-out brain; 0 %,
    the vertical line, is what the mean image gives, which shows the same for every brain; below 0 %
    is worse than that. High is good. Where there are numbers in brackets, they and the black line
    across the bar's end are the interval.

    Parameters
    ----------
    values : mapping of str to float or (mean, low, high)
        By model or other way to reconstruct; three numbers draw an interval.

    Returns
    -------
    Figure
    """
    figure = new_figure(0.7 + 0.34 * len(values), width=6.4)
    ax = figure.subplots()
    looks = model_styles(values)
    for row, (label, value) in enumerate(values.items()):
        mean, *ends = np.atleast_1d(value)
        colour = looks[label]["color"] if is_known(label) else "#9A9A9A"
        ax.barh(row, mean, height=0.65, color=colour)
        text = percent(mean)
        if ends:
            low, high = ends
            ax.plot([low, high], [row, row], color="black", lw=1.2)
            text += f"  [{percent(low)}, {percent(high)}]"
        ax.text(max(mean, *ends, 0) + 0.012, row, text, va="center", fontsize=8)
    ax.set_yticks(range(len(values)), list(values))
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.axvline(0, color="black", lw=0.7)
    ax.set_xlim(min(ax.get_xlim()[0], 0), 1)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_xlabel("Variance of held-out brains explained (mean image: 0 %)")
    return figure
