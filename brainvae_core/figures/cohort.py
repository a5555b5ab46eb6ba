"""Figures of a cohort: its sections, its planted factors, its average and its regions (Fig. 2A)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from scipy import ndimage

from brainvae_core.figures.style import (
    SMALL,
    bare,
    check_shape,
    colour_bar,
    difference_limit,
    factor_label,
    grey_limit,
    image_grid,
    legible,
    outline,
    panel_title,
    scale_bar,
    show_difference,
    show_section,
    styled,
    tints,
)


@styled
def fig_sections(
    images: np.ndarray, titles: Sequence[str], *, pixel_um: float, columns: int = 4
) -> Figure:
    """Some sections of a cohort, on one grey scale.

    Each image is a section of one brain with its title above. Black is no signal, and the same grey
    means the same brightness in every image; the scale bar holds for all. Where a title names an
    artefact, a leak is bright signal from the other channel, a breakage is missing tissue, a grid
    is the scanning pattern, and none means a clean section.

    Parameters
    ----------
    images : ndarray, shape (n, height, width)
        Brightness in [0, 1].
    titles : sequence of str, n
        What stands above each.
    pixel_um : float
        Side of a pixel in µm.
    columns : int
        Sections in a row.

    Returns
    -------
    Figure
    """
    images = check_shape("images", images, (len(titles), None, None))
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, axes = image_grid(rows, columns, images.shape[1:], titled_rows=rows)
    limit = grey_limit(images)
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        show_section(ax, image, limit)
        ax.set_title(title)
    scale_bar(axes.flat[len(images) - 1], pixel_um)
    return figure


@styled
def fig_factors(
    low_high_images: Mapping[str, tuple[np.ndarray, np.ndarray]],
    mean_image: np.ndarray,
    pixel_um: float,
    *,
    steps: tuple[str, str] = ("−2 SD", "+2 SD"),
    columns: int = 2,
) -> Figure:
    """What goes with each factor: brains with little of it, with much, and the difference.

    Each factor, a property of the brains named above, has three images: the mean section of brains
    in which it is low, that of brains in which it is high (how low and high is written on them),
    and the second minus the first. Sections share one grey scale. Differences are red where the
    second is brighter, blue where it is darker and white where nothing changes, on one scale for
    all factors (brightness runs from 0, black, to 1, white); thin grey lines are contours of the
    average section, to show where a change lies.

    Parameters
    ----------
    low_high_images : mapping of str to (low, high), each (height, width)
        Mean images of brains in which the factor is low or high.
    mean_image : ndarray, shape (height, width)
        The average section; its outlines lie over the differences.
    pixel_um : float
        Side of a pixel in µm.
    steps : (str, str)
        How low and how high.
    columns : int
        Factors in a row.

    Returns
    -------
    Figure
    """
    mean_image = check_shape("mean_image", mean_image, (None, None))
    pairs = {k: check_shape(k, v, (2, *mean_image.shape)) for k, v in low_high_images.items()}
    limit = grey_limit(np.stack(list(pairs.values())))
    change = difference_limit(*(high - low for low, high in pairs.values()))
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    figure, axes = image_grid(rows, 3 * columns, mean_image.shape, titled_rows=rows, below=0.5)
    blocks = axes.reshape(rows * columns, 3)
    for ax in blocks[len(pairs) :].flat:
        ax.set_visible(False)
    contours = [0.15 * mean_image.max(), 0.5 * mean_image.max()]
    for (less, more, apart), (name, (low, high)) in zip(blocks, pairs.items(), strict=False):
        less.set_title(factor_label(name), loc="left")
        show_section(less, low, limit)
        show_section(more, high, limit)
        shown = show_difference(apart, high - low, change)
        apart.contour(mean_image, levels=contours, colors="#888888", linewidths=0.3)
        for ax, step in zip((less, more), steps, strict=True):
            ax.text(0.02, 0.03, step, transform=ax.transAxes, fontsize=SMALL, **legible())
    scale_bar(blocks[len(pairs) - 1, -1], pixel_um)
    label = f"Difference of brightness, {steps[1]} minus {steps[0]}"
    colour_bar(figure, shown, axes, label, location="bottom", shrink=0.5, aspect=40)
    return figure


@styled
def fig_2a(
    mean_section: np.ndarray,
    template: np.ndarray,
    annotation_masks: np.ndarray,
    acronyms: Sequence[str],
    pixel_um: float,
    cohort_name: str,
) -> Figure:
    """Average section of a cohort, atlas template and regions of interest (Fig. 2A).

    A: mean of the training brains' sections, of the cohort named below; B: the atlas template in
    the same plane. C: the regions analysed, tinted over the darkened template and named by their
    Allen acronyms; tints only tell regions apart. Greys run from black, no signal, to a white that
    A and B set for themselves, so compare shapes and not brightness; the scale bar holds for all
    three. Where the sections fit the atlas, the borders of A lie where those of B do.

    Parameters
    ----------
    mean_section, template : ndarray, shape (height, width)
        The average of the cohort's training brains, and the atlas's.
    annotation_masks : ndarray of bool, shape (n_rois, height, width)
        Pixels of each region.
    acronyms : sequence of str, n_rois
    pixel_um : float
        Side of a pixel in µm.
    cohort_name : str
        What the cohort is called.

    Returns
    -------
    Figure
    """
    mean_section = check_shape("mean_section", mean_section, (None, None))
    template = check_shape("template", template, mean_section.shape)
    masks = check_shape("masks", annotation_masks, (len(acronyms), *mean_section.shape))
    figure, axes = image_grid(1, 3, mean_section.shape, below=0.2)
    average, atlas, regions = axes[0]
    show_section(average, mean_section, grey_limit(mean_section))
    show_section(atlas, template, grey_limit(template))
    panel_title(average, "A", "Mean of training brains")
    average.set_xlabel(f"Cohort: {cohort_name}", loc="left", fontsize=SMALL)
    panel_title(atlas, "B", "Atlas template")
    panel_title(regions, "C", "Regions")
    bare(regions)
    regions.imshow(0.55 * template, cmap="gray", vmin=0, vmax=grey_limit(template))
    for mask, acronym, colour in zip(masks, acronyms, tints(len(masks)), strict=True):
        filled = np.ma.masked_where(~mask.astype(bool), mask)
        regions.imshow(filled, cmap=ListedColormap([colour]), alpha=0.65)
        outline(regions, mask, colour, 0.6)
        y, x = _inner_point(mask.astype(bool))
        regions.text(x, y, acronym, ha="center", va="center", fontsize=8, **legible())
    scale_bar(regions, pixel_um)
    return figure


def _inner_point(mask: np.ndarray) -> tuple[int, int]:
    """Row and column of the pixel farthest from a mask's border, where a label fits best."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return np.unravel_index(depth.argmax(), mask.shape)
