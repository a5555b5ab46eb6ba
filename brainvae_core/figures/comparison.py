"""Figures that compare models on the same brains: artefacts (2B, S1), a new brain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from brainvae_core.figures.labels import PLAIN
from brainvae_core.figures.palette import model_styles
from brainvae_core.figures.style import (
    check_same_labels,
    check_shape,
    difference_limit,
    grey_limit,
    image_grid,
    new_figure,
    outline,
    panel_title,
    scale_bar,
    sentence,
    show_difference,
    show_section,
    styled,
)

LOCAL = 0.2  # of an image: what covers more is everywhere, and its outline would only hide it


@styled
def fig_2b(
    inputs: np.ndarray,
    reconstructions: Mapping[str, np.ndarray],
    artefact_names: Sequence[str],
    pixel_um: float,
    masks: np.ndarray | None = None,
) -> Figure:
    """What models make of sections with artefacts (Fig. 2B).

    Each column is one section with the artefact named above, such as leak (bright signal from the
    other channel), breakage (missing tissue) or grid (scanning pattern). The top row is the input;
    each row below is a model's reconstruction, on the same grey scale. Where given, an orange
    outline marks the artefact in every row, unless it covers more than a fifth of the image. A good
    model leaves nothing of the artefact inside the outline and the anatomy outside as it was.

    Parameters
    ----------
    inputs : ndarray, shape (n, height, width)
        One section of each kind, brightness in [0, 1].
    reconstructions : mapping of str to ndarray, each (n, height, width)
        By model.
    artefact_names : sequence of str, n
        Titles of the columns.
    pixel_um : float
        Side of a pixel in µm.
    masks : ndarray of bool, shape (n, height, width), optional
        Where the artefacts are; those that are not all over the image are outlined in every row.

    Returns
    -------
    Figure
    """
    return _artefact_rows({"Input": inputs, **reconstructions}, artefact_names, pixel_um, masks)


@styled
def fig_s1(
    clean: np.ndarray | None,
    inputs: np.ndarray,
    reconstructions: Mapping[str, np.ndarray],
    artefact_names: Sequence[str],
    pixel_um: float,
    masks: np.ndarray | None = None,
) -> Figure:
    """More sections with artefacts, and what models make of them (Fig. S1).

    Each column is one brain with the artefact named above, such as leak (bright signal from the
    other channel), breakage (missing tissue) or grid (scanning pattern). Rows: where known, the
    truth, which is the section before its artefact; the input with it; then each model's
    reconstruction, all on one grey scale. Where given, an orange outline marks the artefact in
    every row, unless it covers more than a fifth of the image. A good reconstruction resembles the
    truth, not the input.

    Parameters
    ----------
    clean : ndarray, shape (n, height, width), or None
        The same sections before their artefacts (simulated cohorts); the first row.
    inputs, reconstructions, artefact_names, pixel_um, masks
        As for :func:`fig_2b`, one column per brain.

    Returns
    -------
    Figure
    """
    truth = {} if clean is None else {"Truth": clean}
    rows = {**truth, "Input": inputs, **reconstructions}
    return _artefact_rows(rows, artefact_names, pixel_um, masks)


def _artefact_rows(rows, names, pixel_um, masks) -> Figure:
    shape = check_shape("Input", rows["Input"], (len(names), None, None)).shape
    rows = {label: check_shape(label, images, shape) for label, images in rows.items()}
    masks = np.zeros(shape) if masks is None else check_shape("masks", masks, shape)
    figure, axes = image_grid(len(rows), len(names), shape[1:], row_labels=1, tallest=9.0)
    limit = grey_limit(rows["Input"])
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(label)
        for ax, image, mask in zip(line, images, masks, strict=True):
            show_section(ax, image, limit)
            if mask.mean() <= LOCAL:
                outline(ax, mask, width=0.6)
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(sentence(name))
    scale_bar(axes[-1, -1], pixel_um)
    return figure


@styled
def fig_new_brain(
    section: np.ndarray,
    reconstructions: Mapping[str, np.ndarray],
    errors: Mapping[str, float],
    cohort_errors: Mapping[str, np.ndarray],
    pixel_um: float,
    *,
    error_name: str = "Mean squared error",
) -> Figure:
    """A brain from elsewhere: its reconstructions, residuals, and whether its error is usual.

    A: the new brain; each further column is a model, with its reconstruction above on the same grey
    scale. In the middle: brain minus reconstruction, red where the brain is brighter and blue where
    it is darker, as the bar at the left says in brightness (1 is white). Below: the number of
    held-out brains of the cohort (grey) at each error, in the unit of the axis, and the new brain
    (coloured line). Above that, how many held-out brains err as much or more: few or none means
    that the brain is unlike the cohort.

    Parameters
    ----------
    section : ndarray, shape (height, width)
        The brain, brightness in [0, 1].
    reconstructions : mapping of str to ndarray, each (height, width)
        By model.
    errors : mapping of str to float
        This brain's error, by model.
    cohort_errors : mapping of str to ndarray, each (n_brains,)
        The same error of the cohort's held-out brains.
    pixel_um : float
        Side of a pixel in µm.
    error_name : str
        Label of the errors' axis, with its unit.

    Returns
    -------
    Figure
    """
    check_same_labels(reconstructions=reconstructions, errors=errors, cohort_errors=cohort_errors)
    section = check_shape("section", section, (None, None))
    images = {k: check_shape(k, r, section.shape) for k, r in reconstructions.items()}
    columns = len(images) + 1
    panel = min(7.9 / columns, 2.4) * section.shape[0] / section.shape[1]
    figure = new_figure(2 * panel + 2.0)
    axes = figure.subplots(3, columns, squeeze=False, height_ratios=[panel, panel, 1.15])
    limit = grey_limit(np.stack([section, *images.values()]))
    change = difference_limit(*(section - r for r in images.values()))
    panel_title(axes[0, 0], "A", "New brain")
    show_section(axes[0, 0], section, limit)
    scale_bar(axes[0, 0], pixel_um)
    for ax in axes[1:, 0]:
        ax.set_axis_off()
    looks = model_styles(images)
    for letter, (label, image), column in zip("BCDEFGH", images.items(), axes.T[1:], strict=False):
        panel_title(column[0], letter, label)
        show_section(column[0], image, limit)
        shown = show_difference(column[1], section - image, change)
        _error_histogram(column[2], cohort_errors[label], errors[label], looks[label]["color"])
        column[2].set_xlabel(error_name)
    beside = {"ha": "right", "va": "center"}
    axes[1, 0].text(0.98, 0.5, "Brain −\nreconstruction", **beside)
    inset = axes[1, 0].inset_axes([0.22, 0.1, 0.05, 0.8])
    figure.colorbar(shown, cax=inset).outline.set_visible(False)
    inset.yaxis.set_ticks_position("left")
    axes[2, 0].text(
        0.98, 0.5, "Held-out brains\nof the cohort (grey)\nand this one (line)", **beside
    )
    return figure


@styled
def fig_outside(
    values: Mapping[str, Mapping[str, tuple[np.ndarray, float]]],
    names: Mapping[str, str],
) -> Figure:
    """Where one brain lies among others, by several measures (a row each) of several models.

    Each column is a model, each row a measure with its unit below, on a logarithmic axis; farther
    right is more unusual. Grey bars count the cohort's held-out brains, their height is on each
    panel's own scale; the coloured line is the one brain. Above each panel stands how many held-out
    brains lie as far out or farther: few or none means that the brain is unlike those of the
    cohort, many that it is usual.

    Parameters
    ----------
    values : mapping of measure to mapping of model to (ndarray (n_brains,), float)
        The cohort's held-out brains, and this one.
    names : mapping of measure to str
        Label of the measure's axis, with its unit.

    Returns
    -------
    Figure
        The cohort in grey on a logarithmic axis, the brain as a line; above, how many lie as far
        out.
    """
    check_same_labels(values=values, names=names)
    models = list(dict.fromkeys(label for by_model in values.values() for label in by_model))
    figure = new_figure(0.3 + 1.5 * len(values))
    axes = figure.subplots(len(values), len(models), squeeze=False)
    looks = model_styles(models)
    for line, (measure, by_model) in zip(axes, values.items(), strict=True):
        for ax, label in zip(line, models, strict=True):
            cohort, value = by_model[label]
            both = np.append(np.asarray(cohort, dtype=float), value)
            ax.hist(cohort, bins=np.geomspace(both.min(), both.max(), 30), color="#C8C8C8")
            ax.axvline(value, color=looks[label]["color"], lw=2)
            ax.set_xscale("log")
            _told_on_log(ax.xaxis, int(18 / len(models)))
            beyond = int((np.asarray(cohort) >= value).sum())
            ax.set_title(f"{label}: {beyond} of {len(cohort)} as far out", fontsize=8)
            ax.set_xlabel(names[measure])
            bare_left(ax)
    return figure


def _told_on_log(axis, most: int) -> None:
    """Numbers on a logarithmic axis, at most so many, and small ticks at round values between."""
    low, high = axis.get_view_interval()
    for subs in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        at = np.outer(10.0 ** np.arange(np.floor(np.log10(low)), np.log10(high) + 1), subs).ravel()
        at = at[(at >= low) & (at <= high)]
        if len(at) <= most:
            break
    axis.set_minor_locator(LogLocator(subs=np.arange(1, 10), numticks=99))
    if len(at) < 2:  # the axis is too short for such numbers
        axis.set_major_locator(MaxNLocator(min(most, 4), prune="lower"))
        axis.set_minor_locator(MaxNLocator(15))
    else:
        axis.set_major_locator(FixedLocator(at[:: -(-len(at) // most)]))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_formatter(NullFormatter())


def _error_histogram(ax, cohort_errors, error, colour) -> None:
    cohort_errors = np.asarray(cohort_errors, dtype=float)
    ax.hist(cohort_errors, bins=25, color="#C8C8C8")
    ax.axvline(error, color=colour, lw=2)
    beyond = int((cohort_errors >= error).sum())
    ax.set_title(f"{beyond} of {cohort_errors.size} err as much", fontsize=8)
    bare_left(ax)
    ax.locator_params(axis="x", nbins=3)


def bare_left(ax) -> None:
    """Take the y axis away where only a distribution's shape matters."""
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
