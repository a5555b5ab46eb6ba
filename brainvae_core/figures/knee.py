"""The figure of how many latents a curve's knee asks for (§ 2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from brainvae_core.figures.labels import wrapped
from brainvae_core.figures.palette import GREY, model_styles
from brainvae_core.figures.study import MARKS, tick
from brainvae_core.figures.style import (
    ACCENT,
    check_same_labels,
    check_shape,
    letters,
    new_figure,
    panel_title,
    styled,
)

PAPER = {"color": "black", "lw": 1, "ls": MARKS[1]["ls"]}


@styled
def fig_knee(
    latent_dims: Sequence[int],
    curves: Mapping[str, np.ndarray],
    knees: Mapping[str, float],
    shares: Mapping[str, np.ndarray],
    *,
    ylabel: str,
    paper: int | None = 8,
    share_y: bool = False,
) -> Figure:
    """Curves over the number of latents, their chords and knees, one column per model.

    Above, each point is a fit (one training with one seed), the line the mean over seeds of what
    the axis names, the dashed grey line the chord that joins its ends. The orange ring is the knee,
    the point farthest from the chord: beyond it more latents bring little. Below, bars show how
    often each number of latents is the knee when seeds are resampled, pale where the curve has
    none; where given, a dotted black line is the paper's number. A column without numbers at its
    left shares the axis there. Where curves are losses, those at different β are different
    quantities.

    Parameters
    ----------
    latent_dims : sequence of int, n_dims
    curves : mapping of str to ndarray, each (n_dims, n_seeds)
        By model; n_seeds may differ. NaN where a fit failed.
    knees : mapping of str to float
        Number of latents at the knee; NaN where there is none, or none beyond noise.
    shares : mapping of str to ndarray, each (n_dims,)
        Of resamples with their knee there; NaN where not known.
    ylabel : str
        What the curves are, with their unit.
    paper : int, optional
        The paper's number of latents.
    share_y : bool
        One vertical axis for all columns, where the curves are one quantity.

    Returns
    -------
    Figure
    """
    check_same_labels(curves=curves, knees=knees, shares=shares)
    figure = new_figure(4.2)
    axes = figure.subplots(2, len(curves), sharex=True, squeeze=False, height_ratios=[3, 1])
    dims = np.asarray(latent_dims, dtype=float)
    looks = model_styles(curves)
    for letter, (above, below), label in zip(letters(len(curves)), axes.T, curves, strict=True):
        curve = check_shape(label, curves[label], (len(dims), None))
        share = check_shape(f"shares of {label}", shares[label], (len(dims),))
        colour = looks[label]["color"]
        above.plot(dims, curve, ".", ms=4, color=colour, alpha=0.45)
        fitted = np.isfinite(curve).any(axis=1)
        there, means = dims[fitted], np.nanmean(curve[fitted], axis=1)
        above.plot(there, means, color=colour)
        ends = slice(None, None, max(len(there) - 1, 1))
        above.plot(there[ends], means[ends], color=GREY, lw=1, ls="--", zorder=1)
        at = knees[label]
        above.plot(there[there == at], means[there == at], ls="", **_ring())
        found = f"knee at L = {at:g}" if np.isfinite(at) else "no knee"
        panel_title(above, letter, f"{label}: {found}")
        above.yaxis.set_major_formatter(FuncFormatter(tick))
        if np.isnan(share).all():
            why = "one fit at a point" if len(there) > 2 else "fewer than three L fitted"
            said = f"{why}:\nuncertainty not known"
            box = {"ha": "center", "va": "center", "bbox": {"fc": "white", "ec": "none"}}
            below.text(0.5, 0.5, said, transform=below.transAxes, fontsize=8, **box)
        else:
            pale = {} if np.isfinite(at) else {"alpha": 0.35}
            below.bar(dims, share, 0.8 * np.diff(np.sort(dims)).min(), color=colour, **pale)
        below.set(ylim=(0, 1), xlabel="Number of latents L", yticks=[0, 0.5, 1])
        below.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        below.set_xticks(dims, _spaced(dims))
        for ax in (above, below):
            if paper is not None:
                ax.axvline(paper, **PAPER, zorder=0)
    if share_y:
        low, high = zip(*(ax.get_ylim() for ax in axes[0]), strict=True)
        for ax in axes[0]:
            ax.set_ylim(min(low), max(high))
            ax.tick_params(labelleft=bool(ax is axes[0, 0]))
    axes[0, 0].set_ylabel(wrapped(ylabel, 2.4))
    axes[1, 0].set_ylabel("Resamples")
    handles = [
        Line2D([], [], color=GREY, marker=".", ms=4, lw=1.5, label="mean of seeds, and each fit"),
        Line2D([], [], color=GREY, lw=1, ls="--", label="chord"),
        Line2D([], [], ls="", **_ring(), label="knee: farthest from the chord"),
        Line2D([], [], **PAPER, label=f"the paper's L = {paper}"),
    ]
    handles = handles[: 4 if paper is not None else 3]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def _spaced(dims) -> list[str]:
    """Tick labels of dims on their own scale, left out where they would touch."""
    labels, last = [], -np.inf
    for d in dims:
        fits = d - last >= np.ptp(dims) / 12
        labels.append(f"{d:g}" if fits else "")
        last = d if fits else last
    return labels


def _ring() -> dict:
    return {"marker": "o", "ms": 10, "mfc": "none", "mec": ACCENT, "mew": 2}
