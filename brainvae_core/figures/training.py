"""Figures of fits: learning curves, explained variance, knees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import PERCENT, styled

CURVES = {
    "validation_loss": "−ELBO$_β$ (nats per image)",
    "explained_variance": "Explained variance",
    "validation_kl": "KL divergence (nats per image)",
    "active_latents": "Active latents",
}
RING = {"marker": "o", "ms": 10, "mfc": "none", "mec": style.ACCENT, "mew": 2, "ls": ""}
PAPER = {"color": "black", "lw": 1, "ls": (0, (2, 1.2))}


@styled
def fig_training(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    reference_explained: Mapping[str, float],
) -> Figure:
    """Learning curves on validation brains, grey while β still rises.

    Horizontal: training step; each line is a fit, told apart by colour and marker; lines that
    coincide hide one another. A: the loss, in nats per image, which should fall; at different β it
    is a different objective, so compare courses and not heights; a triangle at an edge is a
    point beyond it. B: explained variance, which should rise, with dashed lines for models without
    a course, such as PCA. C, logarithmic: KL divergence of the code from its prior, in nats per
    image. D: the number of latents in use. The grey background ends where β has reached its final
    value. Where images grew, at the dotted line, A shows the loss of the last size only.

    Parameters
    ----------
    histories : mapping of label to list of rows
        Each row one validation: ``step``, ``validation_loss``, ``explained_variance``,
        ``validation_kl``, ``active_latents``, ``progress`` of the KL warm-up and, where images
        grew, their ``height``.
    reference_explained : mapping of str to float
        Explained variance of models without a history, such as PCA.
    """
    rows = [pd.DataFrame(list(history)).assign(model=k) for k, history in histories.items()]
    table = pd.concat(rows, ignore_index=True)
    table["height"] = table.get("height", pd.Series(0, table.index)).fillna(0)
    last = table[table["height"] == table.groupby("model")["height"].transform("last")]
    starts = last.groupby("model")["step"].min()
    grown = sorted(set(starts[starts > table.groupby("model")["step"].min()]))
    warm = max(_warm_up_end(history) for history in histories.values())
    figure = style.new_figure(4.8)
    axes = figure.subplots(2, 2, sharex=True)
    looks = style.model_looks([*histories, *reference_explained])
    courses = {label: {**looks[label], "ls": "-"} for label in histories}
    for letter, ax, (key, title) in zip("ABCD", axes.flat, CURVES.items(), strict=True):
        style.panel_title(ax, letter, title)
        shown = last if key == "validation_loss" else table
        shown = shown.rename(columns={"step": "x", key: "value"})
        shown = shown[["model", "x", "value"]].assign(low=shown["value"], high=shown["value"])
        draw.lines(ax, shown, courses)
        ax.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        if warm:
            ax.axvspan(0, warm, color="#F0F0F0", zorder=0)
            top = key == "explained_variance"  # where lines begin low
            where = {"transform": ax.get_xaxis_transform(), "va": "top" if top else "bottom"}
            text = {"color": style.GREY, "fontsize": 8}
            ax.text(0.02 * warm, 0.98 if top else 0.02, " β rising", **where, **text)
        for step in grown:
            ax.axvline(step, color=style.GREY, lw=1, ls=":", zorder=0)
    loss, explained, kl, active = axes.flat
    kl.set_yscale("log")  # it starts hundreds of times above where it ends
    style.plain_log(kl.yaxis)
    _without_first(loss, table, last, looks)
    low, high = explained.get_ylim()
    for label, value in reference_explained.items():
        explained.axhline(value, color=looks[label]["color"], ls="--", lw=1.2, label=label)
        high = max(high, value)
    limits = style.explained_limits(low, high + 0.15 * (high - low))  # room for words at its top
    explained.set_ylim(limits)
    explained.yaxis.set_major_formatter(PERCENT)
    active.yaxis.set_major_locator(MaxNLocator(integer=True))
    active.set_ylim(bottom=0)
    for ax in axes[1]:
        ax.set_xlabel("Training step")
    draw.legend(figure, draw.drawn_handles([explained], looks), ncols=5)
    return figure


def _warm_up_end(rows) -> float:
    """First step of a history at which β had reached its final value; 0 where it never rose."""
    if rows[0]["progress"] >= 1:
        return 0
    return next((row["step"] for row in rows if row["progress"] >= 1), rows[-1]["step"])


def _without_first(ax, table, last, looks) -> None:
    """An axis of losses for what follows the first validation, which may dwarf it."""
    first = table.groupby("model").head(1)
    later = last.drop(first.index, errors="ignore")["validation_loss"]
    if len(later) and np.ptp(later) > 0:
        ax.set_ylim(later.min() - 0.08 * np.ptp(later), later.max() + 0.08 * np.ptp(later))
    low, high = ax.get_ylim()
    for row in first[first.index.isin(last.index)].itertuples():
        if not low <= row.validation_loss <= high:
            up = row.validation_loss > high
            place = {"transform": ax.get_xaxis_transform(), "clip_on": False, "zorder": 4}
            look = {"color": looks[row.model]["color"], "mec": "white", "mew": 0.4, "ms": 6}
            ax.plot(row.step, float(up), "^" if up else "v", **look, **place)


@styled
def fig_explained(values: Mapping[str, float | tuple[float, float, float]]) -> Figure:
    """Share of the brains' variance that each reconstruction explains.

    One bar per way to reconstruct the brains, in percent, with the number beside it; models have
    their colours, all else is grey. 100 % is a perfect reconstruction of every brain; 0 %, the
    vertical line, is what the mean image gives, which shows the same for every brain; below 0 %
    is worse than that. High is good. Where there are numbers in brackets, they and the black line
    across the bar's end are the interval.

    Parameters
    ----------
    values : mapping of str to float or (mean, low, high)
        By model or other way to reconstruct; three numbers draw an interval.
    """
    figure = style.new_figure(0.7 + 0.34 * len(values), width=6.4)
    ax = figure.subplots()
    models = {label: label.split(",")[0] for label in values}  # "PCA, test" is PCA
    looks = style.model_looks(models.values())
    for row, (label, value) in enumerate(values.items()):
        mean, *ends = np.atleast_1d(value)
        colour = looks[models[label]]["color"] if style.is_known(label) else "#9A9A9A"
        ax.barh(row, mean, height=0.65, color=colour)
        text = style.percent(mean)
        if ends:
            ax.plot(ends, [row, row], color="black", lw=1.2)
            text += f"  [{style.percent(ends[0])}, {style.percent(ends[1])}]"
        ax.text(max(mean, *ends, 0) + 0.012, row, text, va="center", fontsize=8)
    ax.set_yticks(range(len(values)), list(values))
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.axvline(0, color="black", lw=0.7)
    ax.set_xlim(style.explained_limits(min(ax.get_xlim()[0], 0), 1))
    ax.xaxis.set_major_formatter(PERCENT)
    ax.set_xlabel("Variance of brains explained (mean image: 0 %)")
    return figure


@styled
def fig_knee(
    latent_dims: Sequence[int],
    curves: Mapping[str, np.ndarray],
    knees: Mapping[str, float],
    shares: Mapping[str, np.ndarray],
    *,
    ylabel: str,
    share_y: bool = False,
) -> Figure:
    """Curves over the number of latents, their chords and knees, one column per model.

    Above, each point is a fit (one training with one seed), the line the mean over seeds of what
    the axis names, the dashed grey line the chord that joins its ends. The orange ring is the knee,
    the point farthest from the chord: beyond it more latents bring little. Below, bars show how
    often each number of latents is the knee when seeds are resampled, pale where the curve has
    none; a dotted black line is the paper's number. A column without numbers at its
    left shares the axis there. Where curves are losses, those at different β are different
    quantities.

    Parameters
    ----------
    latent_dims : sequence of int, n_dims
    curves : mapping of model to ndarray, each (n_dims, n_seeds)
        n_seeds may differ. NaN where a fit failed.
    knees : mapping of model to float
        Number of latents at the knee; NaN where there is none, or none beyond noise.
    shares : mapping of model to ndarray, each (n_dims,)
        Of resamples with their knee there; NaN where not known.
    ylabel : str
        What the curves are, with their unit.
    share_y : bool
        One vertical axis for all columns, where the curves are one quantity.
    """
    style.check_same_labels(curves=curves, knees=knees, shares=shares)
    figure = style.new_figure(4.2)
    grid = {"sharex": True, "sharey": "row" if share_y else False, "height_ratios": [3, 1]}
    axes = figure.subplots(2, len(curves), squeeze=False, **grid)
    dims = np.asarray(latent_dims, dtype=float)
    names, looks = style.letters(len(curves)), style.model_looks(curves)
    for letter, (above, below), label in zip(names, axes.T, curves, strict=True):
        curve = style.check_shape(label, curves[label], (len(dims), None))
        share = style.check_shape(f"shares of {label}", shares[label], (len(dims),))
        colour, at = looks[label]["color"], knees[label]
        above.plot(dims, curve, ".", ms=4, color=colour, alpha=0.45)
        fitted = np.isfinite(curve).any(axis=1)
        there, means = dims[fitted], np.nanmean(curve[fitted], axis=1)
        above.plot(there, means, color=colour)
        ends = slice(None, None, max(len(there) - 1, 1))
        above.plot(there[ends], means[ends], color=style.GREY, lw=1, ls="--", zorder=1)
        above.plot(there[there == at], means[there == at], **RING)
        found = f"knee at L = {at:g}" if np.isfinite(at) else "no knee"
        style.panel_title(above, letter, f"{label}: {found}")
        above.yaxis.set_major_formatter(style.PLAIN)
        if np.isnan(share).all():
            why = "one fit at a point" if len(there) > 2 else "fewer than three L fitted"
            text = {"ha": "center", "va": "center", "fontsize": 8, "transform": below.transAxes}
            below.text(
                0.5, 0.5, f"{why}:\nuncertainty not known", **text, **style.legible("black", 4)
            )
        else:
            pale = {} if np.isfinite(at) else {"alpha": 0.35}
            below.bar(dims, share, 0.8 * np.diff(np.sort(dims)).min(), color=colour, **pale)
        below.set(ylim=(0, 1), xlabel="Number of latents L", yticks=[0, 0.5, 1])
        below.yaxis.set_major_formatter(PERCENT)
        below.set_xticks(dims, style.spaced(dims, dims, 1 / 12))
        for ax in (above, below):
            ax.axvline(8, **PAPER, zorder=0)
    axes[0, 0].set_ylabel(style.wrapped(ylabel, 2.4))
    axes[1, 0].set_ylabel("Resamples")
    handles = {
        "mean of seeds, and each fit": Line2D([], [], color=style.GREY, marker=".", ms=4),
        "chord": Line2D([], [], color=style.GREY, lw=1, ls="--"),
        "knee: farthest from the chord": Line2D([], [], **RING),
        "the paper's L = 8": Line2D([], [], **PAPER),
    }
    draw.legend(figure, handles, ncols=4)
    return figure
