"""Figures of what the latents move: projective fields and traversals (Figs 3A, S4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from brainvae_core.figures.style import (
    SMALL,
    check_shape,
    colour_bar,
    difference_limit,
    grey_limit,
    heat_map,
    image_grid,
    latent_names,
    letters,
    new_figure,
    outline,
    panel_title,
    scale_bar,
    scientific,
    show_difference,
    show_section,
    styled,
    thinned,
)


@styled
def fig_3a(
    rgb: np.ndarray,
    scales: np.ndarray,
    starred: np.ndarray,
    pixel_um: float,
    brain_contour_mask: np.ndarray | None = None,
    *,
    columns: int = 4,
) -> Figure:
    """Projective field of every latent as one colour image (Fig. 3A).

    Each panel is a latent: how much each pixel of the decoded section varies (variance of grey
    values) while c, in prior standard deviations, moves the latent. Cyan: c small and positive, in
    the inner half of its range; magenta: small and negative; yellow: large c of either sign; white:
    no change. Colours mix, all three to black, and are full at the variances in the legend, the
    same for all latents. A star marks an outlier, a latent that does unusually much at large c;
    where given, a grey line outlines the brain.

    Parameters
    ----------
    rgb : ndarray, shape (latent_dim, height, width, 3)
        In [0, 1] (``stratified_rgb``).
    scales : ndarray, shape (3,)
        Variances at which red, green and blue run out, squared brightness.
    starred : ndarray of bool, shape (latent_dim,)
        Outliers (``outlier_latents``).
    pixel_um : float
        Side of a pixel in µm.
    brain_contour_mask : ndarray of bool, shape (height, width), optional
        The brain, outlined in every panel.
    columns : int
        Latents in a row.

    Returns
    -------
    Figure
    """
    rgb = check_shape("rgb", rgb, (len(starred), None, None, 3))
    scales = check_shape("scales", scales, (3,))
    columns = min(columns, len(rgb))
    rows = -(-len(rgb) // columns)
    figure, axes = image_grid(rows, columns, rgb.shape[1:3], titled_rows=rows, below=0.45)
    names = latent_names(len(rgb))
    for ax, image, name, star in zip(axes.flat, rgb, names, starred, strict=False):
        ax.imshow(image)
        ax.set_title(f"{name} ★" if star else name)
        if brain_contour_mask is not None:
            outline(ax, brain_contour_mask, "#888888", 0.6)
    scale_bar(axes.flat[len(rgb) - 1], pixel_um)
    where = {"cyan": "small positive c", "magenta": "small negative c", "yellow": "large |c|"}
    handles = [
        Patch(fc=colour, ec="#888888", lw=0.5, label=f"{what} (full at {scientific(scale)})")
        for (colour, what), scale in zip(where.items(), scales, strict=True)
    ]
    title = "Variance of brightness (squared grey values) while c moves the latent; ★ outlier"
    figure.legend(handles=handles, loc="outside upper center", ncols=3, title=title)
    figure.legends[0].get_title().set_fontsize(SMALL)
    return figure


@styled
def fig_s4(
    images: np.ndarray, c_values: Sequence[float], pixel_um: float, *, difference: bool = False
) -> Figure:
    """Decoded images along each latent (Fig. S4): one row per latent, one column per c.

    Each image is what the decoder paints when the row's latent is moved by the column's c, in prior
    standard deviations, and all other latents stay; images share one grey scale. Where differences
    are drawn, only the column of the c nearest to 0 is an image, and the others are the change from
    it: red brighter, blue darker, white unchanged, in brightness, which runs from 0 (black) to 1
    (white). Read along a row for what a latent paints; a row without change is a latent that does
    nothing.

    Parameters
    ----------
    images : ndarray, shape (latent_dim, n_c, height, width)
        ``traversal``.
    c_values : sequence of float, n_c
        Prior standard deviations.
    pixel_um : float
        Side of a pixel in µm.
    difference : bool
        Show what changes against the c nearest to 0, which alone stays an image.

    Returns
    -------
    Figure
    """
    images = check_shape("images", images, (None, len(c_values), None, None))
    middle = int(np.argmin(np.abs(c_values)))
    changes = images - images[:, [middle]]
    limit, change = grey_limit(images), difference_limit(changes)
    below = 0.5 if difference else 0
    figure, axes = image_grid(*images.shape[:2], images.shape[2:], row_labels=1, below=below)
    for name, row, of_latent, of_changes in zip(
        latent_names(len(images)), axes, images, changes, strict=True
    ):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for i, ax in enumerate(row):
            if difference and i != middle:
                shown = show_difference(ax, of_changes[i], change)
            else:
                show_section(ax, of_latent[i], limit)
    for ax, c in zip(axes[0], c_values, strict=True):
        ax.set_title(f"c = {c:+g}".replace("-", "−") if c else "c = 0")
    scale_bar(axes[-1, -1], pixel_um)
    if difference:
        label = f"Difference of brightness from c = {c_values[middle]:g}"
        colour_bar(figure, shown, axes, label, location="bottom", shrink=0.5, aspect=40)
    return figure


@styled
def fig_region_profile(
    profile: np.ndarray, acronyms: Sequence[str], receptive: np.ndarray | None = None
) -> Figure:
    """Which regions each latent moves and, where drawn, which regions move it.

    Rows are regions (Allen acronyms), columns the latents F1, F2 and so on. Projective: mean
    variance of the region's grey values in the decoded section while the latent moves; receptive,
    where drawn: divergence in nats of the latent's code when the region's brightness in the input
    changes. Colour, and number where there is room (with many regions only from 0.05 on), is the
    share of the latent's sum over regions, on one scale: each column adds up to 1, or is 0 where a
    latent does nothing. Where both are drawn, columns alike: the latent paints what it sees.

    Parameters
    ----------
    profile : ndarray, shape (latent_dim, n_rois)
        Mean variance of each region's output (``region_profile``), squared brightness.
    acronyms : sequence of str, n_rois
    receptive : ndarray, shape (n_rois, latent_dim), optional
        Divergences in nats (``ReceptiveField.divergence``).

    Returns
    -------
    Figure
        Each latent's values as shares of their sum over regions, so that ranks within a column are
        those of the field.
    """
    profile = check_shape("profile", profile, (None, len(acronyms)))
    tables = {"Projective: regions that the latent moves": profile.T}
    if receptive is not None:
        shape = profile.T.shape
        tables["Receptive: regions that move the latent"] = check_shape(
            "receptive", receptive, shape
        )
    shares = {title: _column_shares(table) for title, table in tables.items()}
    top = max(table.max() for table in shares.values())
    latent_dim = len(profile)
    figure = new_figure(1.15 + 0.32 * len(acronyms), width=8 if len(tables) == 2 else 5)
    axes = figure.subplots(1, len(tables), squeeze=False, sharey=True)[0]
    fmt = ".2f" if latent_dim <= 16 // len(tables) else ""
    least = 0.05 if len(acronyms) > 10 else 0  # a large table is read by its large numbers
    inside = {"fmt": fmt, "least": least, "fontsize": 7}
    for letter, ax, (title, table) in zip(letters(len(shares)), axes, shares.items(), strict=True):
        names = thinned(latent_names(latent_dim), 12)
        shown = heat_map(ax, table, list(acronyms), names, limits=(0, top), **inside)
        panel_title(ax, letter, title)
        ax.set_xlabel("Latent")
    axes[0].set_ylabel("Region")
    colour_bar(
        figure, shown, list(axes), "Share of the latent's sum", shrink=min(1, 8 / len(acronyms))
    )
    return figure


def _column_shares(table: np.ndarray) -> np.ndarray:
    """Columns divided by their sums; a latent that does nothing stays 0."""
    table = np.asarray(table, dtype=float)
    totals = table.sum(axis=0)
    return np.divide(table, totals, out=np.zeros_like(table), where=totals > 0)
