"""The bi-directional idea and the architecture, drawn with a cohort's own images (Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from brainvae_core.figures.palette import GREY
from brainvae_core.figures.style import (
    ACCENT,
    SMALL,
    bare,
    check_shape,
    difference_limit,
    grey_limit,
    latent_names,
    new_figure,
    outline,
    scale_bar,
    show_difference,
    show_section,
    styled,
    thinned,
)

BEFORE, AFTER = "#B8B8B8", "#CC79A7"


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

    A: a region of a section (orange outline) is changed in brightness; bars are the codes before
    (grey) and after (pink), in prior standard deviations (SD), a pair per latent F1, F2 and so on.
    B: one latent of a code (grey) is moved (pink); both codes are decoded, and the difference in
    brightness is red where it rises, blue where it falls. C: a box per layer, taller for larger
    ones, with name and size: images grey, feature maps blue, flat layers pale orange, the code deep
    orange; the decoder mirrors the encoder.

    Parameters
    ----------
    section, perturbed_section : ndarray, shape (height, width)
        A brain, and the same with one region's brightness changed.
    code, perturbed_code : ndarray, shape (latent_dim,)
        What the encoder says of the two.
    moved_code : ndarray, shape (latent_dim,)
        ``code`` with one latent moved.
    decoded, decoded_moved : ndarray, shape (height, width)
        What the decoder makes of ``code`` and of ``moved_code``.
    roi_mask : ndarray of bool, shape (height, width)
    roi_name : str
        The region.
    layer_shapes : sequence of (name, shape)
        The encoder from the image to the code; shapes are (height, width), (channels, height,
        width) or (units,). The decoder is drawn as its mirror.
    pixel_um : float
        Side of a pixel in µm.

    Returns
    -------
    Figure
    """
    section = check_shape("section", section, (None, None))
    images = {"perturbed_section": perturbed_section, "decoded": decoded}
    images |= {"decoded_moved": decoded_moved, "roi_mask": roi_mask}
    for name, image in images.items():
        check_shape(name, image, section.shape)
    for name, other in {"perturbed_code": perturbed_code, "moved_code": moved_code}.items():
        check_shape(name, other, np.shape(code))
    tall = 1.95 * section.shape[0] / section.shape[1]
    figure = new_figure(2 * tall + 4.2)
    row_a, row_b, row_c = figure.subfigures(3, 1, height_ratios=[tall + 0.75, tall + 0.9, 2.55])
    limit = grey_limit(section)
    brains, codes = (section, perturbed_section), (code, perturbed_code)
    _receptive_row(row_a, brains, codes, roi_mask, roi_name, limit)
    _projective_row(row_b, code, moved_code, decoded, decoded_moved, limit)
    for ax in (*row_a.axes, *row_b.axes):
        ax.set_anchor("N")  # the titles of a row at one height
    scale_bar(row_a.axes[0], pixel_um)
    _title(row_c, "C", "The network: an encoder and its mirror image")
    _network(row_c.subplots(), layer_shapes)
    return figure


def _receptive_row(row, brains, codes, mask, name, limit) -> None:
    _title(row, "A", "Receptive field: change a region of the input, watch the latents")
    before, after, arrow, bars = row.subplots(1, 4, width_ratios=[1.95, 1.95, 0.6, 3.1])
    for ax, brain in zip((before, after), brains, strict=True):
        show_section(ax, brain, limit)
        outline(ax, mask)
    before.set_title("Section")
    after.set_title(f"A1  {name} changed")
    _arrow(arrow, "encode")
    bars.set_title("A2  Code of each")
    _paired_bars(bars, *codes, ("section", f"{name} changed"))


def _projective_row(row, code, moved_code, decoded, decoded_moved, limit) -> None:
    latent = int(np.argmax(np.abs(np.subtract(moved_code, code)))) + 1
    _title(row, "B", "Projective field: move a latent, watch the output")
    bars, arrow, before, after, change = row.subplots(1, 5, width_ratios=[2.1, 0.6, 1.7, 1.7, 1.7])
    bars.set_title(f"B1  F{latent} moved")
    _paired_bars(bars, code, moved_code, ("code", "moved"))
    _arrow(arrow, "decode")
    show_section(before, decoded, limit)
    show_section(after, decoded_moved, limit)
    before.set_title("Decoded")
    after.set_title(f"F{latent} moved")
    difference = np.subtract(decoded_moved, decoded)
    shown = show_difference(change, difference, difference_limit(difference))
    change.set_title("B2  Difference")
    inset = change.inset_axes([0.1, -0.14, 0.8, 0.05])
    bar = row.colorbar(shown, cax=inset, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=3)
    bar.set_label("Difference of brightness", fontsize=SMALL)


def _paired_bars(ax, before, after, labels) -> None:
    latents = np.arange(len(before))
    ax.bar(latents - 0.2, before, 0.4, color=BEFORE, label=labels[0])
    ax.bar(latents + 0.2, after, 0.4, color=AFTER, label=labels[1])
    ax.axhline(0, color="black", lw=0.7)
    ax.set_xticks(latents, thinned(latent_names(len(before)), 8))
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel("Code (prior SD)")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.13), ncols=2, borderpad=0)


def _arrow(ax, text: str) -> None:
    bare(ax)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    style = {"arrowstyle": "-|>", "lw": 1.5, "color": GREY, "mutation_scale": 12}
    ax.annotate("", (1, 0.5), (0, 0.5), arrowprops=style)
    ax.text(0.5, 0.56, text, ha="center", va="bottom", color=GREY, fontsize=SMALL)


def _title(row, letter: str, text: str) -> None:
    row.suptitle(rf"$\bf{{{letter}}}$  {text}", x=0.01, ha="left")


def _network(ax, layers) -> None:
    """Layers as boxes whose sides go with the square root of a layer's own."""
    bare(ax)
    largest = max(np.prod(shape[-2:]) for _, shape in layers if len(shape) > 1)
    units = max((shape[0] for _, shape in layers if len(shape) == 1), default=1)
    last = len(layers) - 1
    for i, (name, shape) in enumerate(layers):
        share = np.prod(shape[-2:]) / largest if len(shape) > 1 else 0.3 * shape[0] / units
        height = max(0.06, share**0.25) if len(shape) > 1 else max(0.06, share**0.5)
        colour = "#9ECAE1" if len(shape) > 1 else "#FDD0A2"
        colour = ACCENT if i == last else "#BDBDBD" if i == 0 else colour
        for x in {i, 2 * last - i}:
            box = (x - 0.3, -height / 2)
            ax.add_patch(Rectangle(box, 0.6, height, fc=colour, ec="#555555", lw=0.6))
        size = "×".join(str(s) for s in shape)
        ax.text(i, -0.58, f"{name}  {size}", rotation=90, ha="center", va="top", fontsize=7.5)
    ax.text(1.5 * last, -0.58, "the same sizes in reverse", ha="center", va="top", fontsize=SMALL)
    for x, text in ((0.5 * last, "encoder"), (last, "code"), (1.5 * last, "decoder")):
        ax.text(x, 0.56, text, ha="center", va="bottom", color=GREY)
    ax.set(xlim=(-0.6, 2 * last + 0.6), ylim=(-3.6, 0.75))
