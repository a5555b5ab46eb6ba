"""Figures 1, 2 and S1 of the paper: the idea, the cohort, and models beside one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy import ndimage

from brainvae_core.figures import primitives as draw
from brainvae_core.figures import style
from brainvae_core.figures.scores import fig_curves
from brainvae_core.figures.style import styled


@styled
def fig_1(
    section: np.ndarray,
    perturbed_section: np.ndarray,
    code: np.ndarray,
    perturbed_code: np.ndarray,
    moved_code: np.ndarray,
    decoded: np.ndarray,
    decoded_moved: np.ndarray,
    roi_mask: np.ndarray,
    roi_name: str,
    layer_shapes: Sequence[tuple[str, tuple[int, ...]]],
    pixel_um: float,
) -> Figure:
    """Both directions of the analysis, receptive and projective, and the network (Fig. 1).

    C: a box is a layer; the decoder mirrors the encoder.

    Parameters
    ----------
    section, perturbed_section : ndarray, shape (height, width)
        A brain, and the same with one region's brightness changed.
    code, perturbed_code, moved_code : ndarray, shape (latent_dim,)
        Of the two sections, and ``code`` with one latent moved.
    decoded, decoded_moved : ndarray, shape (height, width)
        What the decoder makes of ``code`` and of ``moved_code``.
    roi_mask : ndarray of bool, shape (height, width)
    roi_name : str
    layer_shapes : sequence of (name, shape)
        The encoder from the image to the code; shapes are (height, width), (channels, height,
        width) or (units,).
    pixel_um : float
    """
    tall = 1.95 * section.shape[0] / section.shape[1]
    figure = style.new_figure(2 * tall + 4.2)
    rows = figure.subfigures(3, 1, height_ratios=[tall + 0.75, tall + 0.9, 2.55])
    titles = ["Receptive field: change a region of the input, watch the latents"]
    titles += ["Projective field: move a latent, watch the output"]
    titles += ["The network: an encoder and its mirror image"]
    for row, letter, title in zip(rows, "ABC", titles, strict=True):
        row.suptitle(rf"$\bf{{{letter}}}$  {title}", x=0.01, ha="left")
    limit = style.grey_limit(section)

    before, after, arrow, bars = rows[0].subplots(1, 4, width_ratios=[1.95, 1.95, 0.6, 3.1])
    for ax, brain in ((before, section), (after, perturbed_section)):
        draw.show_section(ax, brain, limit)
        draw.outline(ax, roi_mask)
    before.set_title("Section")
    after.set_title(f"A1  {roi_name} changed")
    _arrow(arrow, "encode")
    bars.set_title("A2  Code of each")
    _paired_bars(bars, code, perturbed_code, ("section", f"{roi_name} changed"))
    draw.scale_bar(before, pixel_um)

    moved = f"F{int(np.argmax(np.abs(np.subtract(moved_code, code)))) + 1} moved"
    widths = [2.1, 0.6, 1.7, 1.7, 1.7]
    bars, arrow, before, after, change = rows[1].subplots(1, 5, width_ratios=widths)
    bars.set_title(f"B1  {moved}")
    _paired_bars(bars, code, moved_code, ("code", "moved"))
    _arrow(arrow, "decode")
    for ax, image, title in ((before, decoded, "Decoded"), (after, decoded_moved, moved)):
        draw.show_section(ax, image, limit)
        ax.set_title(title)
    difference = np.subtract(decoded_moved, decoded)
    shown = draw.show_difference(change, difference, style.difference_limit(difference))
    change.set_title("B2  Difference")
    inset = change.inset_axes([0.1, -0.14, 0.8, 0.05])
    bar = rows[1].colorbar(shown, cax=inset, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=3)
    bar.set_label("Difference of brightness", fontsize=style.SMALL)

    for ax in (*rows[0].axes, *rows[1].axes):
        ax.set_anchor("N")  # the titles of a row at one height
    _network(rows[2].subplots(), layer_shapes)
    return figure


def _paired_bars(ax, before, after, labels) -> None:
    latents = np.arange(len(before))
    ax.bar(latents - 0.2, before, 0.4, color=style.PALE, label=labels[0])
    ax.bar(latents + 0.2, after, 0.4, color="#CC79A7", label=labels[1])
    ax.axhline(0, color="black", lw=0.7)
    ax.set_xticks(latents, style.thinned(style.latent_names(len(before)), 8))
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel("Code (prior SD)")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.13), ncols=2, borderpad=0)


def _arrow(ax, text: str) -> None:
    draw.bare(ax)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    look = {"arrowstyle": "-|>", "lw": 1.5, "color": style.GREY, "mutation_scale": 12}
    ax.annotate("", (1, 0.5), (0, 0.5), arrowprops=look)
    ax.text(0.5, 0.56, text, ha="center", va="bottom", color=style.GREY, fontsize=style.SMALL)


def _network(ax, layers) -> None:
    """Layers as boxes whose sides go with the square root of a layer's own."""
    draw.bare(ax)
    largest = max(np.prod(shape[-2:]) for _, shape in layers if len(shape) > 1)
    units = max((shape[0] for _, shape in layers if len(shape) == 1), default=1)
    last, below = len(layers) - 1, {"ha": "center", "va": "top"}
    for i, (name, shape) in enumerate(layers):
        share = np.prod(shape[-2:]) / largest if len(shape) > 1 else 0.3 * shape[0] / units
        height = max(0.06, share**0.25) if len(shape) > 1 else max(0.06, share**0.5)
        colour = "#9ECAE1" if len(shape) > 1 else "#FDD0A2"
        colour = style.ACCENT if i == last else "#BDBDBD" if i == 0 else colour
        for x in {i, 2 * last - i}:
            box = (x - 0.3, -height / 2)
            ax.add_patch(Rectangle(box, 0.6, height, fc=colour, ec="#555555", lw=0.6))
        size = "×".join(str(s) for s in shape)
        ax.text(i, -0.58, f"{name}  {size}", rotation=90, fontsize=7.5, **below)
    ax.text(1.5 * last, -0.58, "the same sizes in reverse", fontsize=style.SMALL, **below)
    for x, text in ((0.5 * last, "encoder"), (last, "code"), (1.5 * last, "decoder")):
        ax.text(x, 0.56, text, ha="center", va="bottom", color=style.GREY)
    ax.set(xlim=(-0.6, 2 * last + 0.6), ylim=(-3.6, 0.75))


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

    Greys from 0 (black) to the brightest tissue (white). L, R, D, V: left, right, dorsal, ventral.

    Parameters
    ----------
    mean_section, template : ndarray, shape (height, width)
    annotation_masks : ndarray of bool, shape (n_rois, height, width)
    acronyms : sequence of str, n_rois
    pixel_um : float
    cohort_name : str
    """
    mean_section = style.check_shape("mean_section", mean_section, (None, None))
    template = style.check_shape("template", template, mean_section.shape)
    masks = style.check_shape("masks", annotation_masks, (len(acronyms), *mean_section.shape))
    figure, axes = draw.image_grid(1, 3, mean_section.shape, below=0.2)
    average, atlas, regions = axes[0]
    draw.show_section(average, mean_section, style.grey_limit(mean_section))
    draw.show_section(atlas, template, style.grey_limit(template))
    draw.show_section(regions, 0.55 * template, style.grey_limit(template))
    titles = ("Mean of training brains", "Atlas template", "Regions")
    for ax, letter, title in zip(axes[0], "ABC", titles, strict=True):
        style.panel_title(ax, letter, title)
        draw.orient(ax)
    average.set_xlabel(f"Cohort: {cohort_name}", loc="left", fontsize=style.SMALL)
    tints = sns.color_palette("Set2", len(masks)).as_hex()
    for mask, acronym, colour in zip(masks.astype(bool), acronyms, tints, strict=True):
        filled = np.ma.masked_where(~mask, mask)
        regions.imshow(filled, cmap=ListedColormap([colour]), alpha=0.65)
        draw.outline(regions, mask, colour, 0.6)
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), mask.shape)  # farthest from the border
        regions.text(x, y, acronym, ha="center", va="center", fontsize=8, **style.legible())
    draw.scale_bar(regions, pixel_um)
    return figure


@styled
def fig_2b(
    truth: np.ndarray,
    inputs: np.ndarray,
    reconstructions: Mapping[str, np.ndarray],
    artefact_names: Sequence[str],
    pixel_um: float,
    masks: np.ndarray,
) -> Figure:
    """What models make of sections with artefacts (Fig. 2B).

    Right: each less the truth. An orange outline marks the artefact where it is local.

    Parameters
    ----------
    truth, inputs : ndarray, shape (n, height, width)
        Sections without and with an artefact, brightness in [0, 1].
    reconstructions : mapping of model to ndarray, each (n, height, width)
    artefact_names : sequence of str, n
    pixel_um : float
    masks : ndarray of bool, shape (n, height, width)
        Where the artefacts are.
    """
    rows = {"Truth": truth, "Input": inputs, **reconstructions}
    rests = {name: images - truth for name, images in rows.items()}
    names = list(map(style.sentence, artefact_names))
    titles = [*names, *(f"{name}\n− truth" for name in names)]
    limit = style.difference_limit(*(rests[name] for name in reconstructions))
    masks = np.concatenate([masks, masks])
    label = "Brightness less the truth's"
    return draw.beside_changes(rows, rests, titles, pixel_um, label, limit, masks=masks)


@styled
def fig_s1(*given) -> Figure:
    """Other sections with artefacts, and what models make of them (Fig. S1).

    As Fig. 2B.

    Parameters
    ----------
    *given
        As for :func:`fig_2b`.
    """
    return fig_2b(*given)


@styled
def fig_2c(table: pd.DataFrame, references: pd.DataFrame, ylabel: str) -> Figure:
    """Similarity of reconstructions to brains against the number of latents (Fig. 2C).

    Bands are 95 % intervals; dashed lines need no latents.

    Parameters
    ----------
    table : DataFrame
        An estimate a row: ``model``, ``latent_dim``, ``value``, ``low``, ``high``.
    references : DataFrame
        Scores to compare with, such as those of the mean image and of another brain: ``model``,
        ``value``.
    ylabel : str
        What the score is, with its settings.
    """
    looks = {"panel": "", "references": references, "ylabels": [ylabel], "log_x": True}
    return fig_curves(table, "latent_dim", "Number of latents L", **looks)


@styled
def fig_2d(table: pd.DataFrame, references: pd.DataFrame | None) -> Figure:
    """Fréchet distance to real brains against the number of latents (Fig. 2D).

    Bands are 95 % intervals; the dashed line is real against real brains.

    Parameters
    ----------
    table : DataFrame
        An estimate a row: ``kind`` (of images), ``model``, ``latent_dim``, ``value``, ``low``,
        ``high``.
    references : DataFrame
        Real against real brains at the same n: ``model``, ``value``, ``low``, ``high``.
    """
    looks = {"panel": "kind", "references": references, "columns": 3, "log_x": True, "log_y": True}
    ylabels = ["PCA-FD (squared grey values)"]
    return fig_curves(table, "latent_dim", "Number of latents L", ylabels=ylabels, **looks)
