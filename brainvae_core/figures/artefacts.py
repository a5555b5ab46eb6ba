"""Brains and what models make of them, and where models err."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.style import styled


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
    reconstructions : mapping of model to ndarray, each (n, height, width)
    pixel_um : float
    titles : sequence of str, n
    first_row : str
        What ``images`` are.
    """
    return draw.montage({first_row: images, **reconstructions}, titles, pixel_um)[0]


@styled
def fig_error_maps(
    inputs: np.ndarray,
    maps: Mapping[str, np.ndarray],
    names: Sequence[str],
    pixel_um: float,
    masks: np.ndarray,
    *,
    label: str = "Error (1: the root mean square in clean validation brains)",
) -> Figure:
    """Where a model does not paint a brain as it is: one column per brain, one row per model.

    Each column is a brain with the artefact named above, such as leak (bright signal from the other
    channel), breakage (missing tissue) or grid (scanning pattern). The top row is the input in
    greys; each row below maps a model's error, in the unit of the colour bar: black is none, pale
    yellow the bar's end or more, on one scale for all maps. A light blue outline marks the
    artefact, unless it covers more than a fifth of the image. A map that finds the artefact is
    bright inside the outline and dark elsewhere.

    Parameters
    ----------
    inputs : ndarray, shape (n, height, width)
    maps : mapping of model to ndarray, each (n, height, width)
        From 0.
    names : sequence of str, n
    pixel_um : float
    masks : ndarray of bool, shape (n, height, width)
        Where the artefacts are.
    label : str
        Of the colour bar, with the unit.
    """
    top = max(float(np.quantile(found, 0.99)) for found in maps.values())
    shown = dict.fromkeys(maps, {"cmap": "inferno", "vmin": 0, "vmax": top})
    rows, titles = {"Input": inputs, **maps}, [style.sentence(name) for name in names]
    marked = {"masks": masks, "outlines": "#56B4E9"}
    figure, axes = draw.montage(rows, titles, pixel_um, shown=shown, below=0.5, **marked)
    more = "max" if any(np.max(found) > top for found in maps.values()) else "neither"
    image, place = axes[-1, -1].images[0], {"location": "bottom", "shrink": 0.5, "extend": more}
    draw.colour_bar(figure, image, axes, label, **place)
    return figure
