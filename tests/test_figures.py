"""Figures: what they must show, on arrays whose axes all have different lengths."""

import base64
import json
import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from brainvae_core import figures
from brainvae_core.figures.palette import MODEL_COLOURS, model_dashes, model_styles
from brainvae_core.figures.style import DPI, WIDTH

H, W, L, N = 20, 28, 3, 5
ROIS = ["SSp", "HPF", "STR", "TH"]
MODELS = ["PCA", "VAE", "β-VAE"]
rng = np.random.default_rng(0)


def grey(*lead):
    return rng.random((*lead, H, W)).astype(np.float32)


def masks(n=4):
    found = np.zeros((n, H, W), bool)
    for i in range(n):
        found[i, 2 + 4 * i : 6 + 4 * i, 3:12] = True
    return found


def per_model(make):
    return {label: make() for label in MODELS}


def history(final_beta=3.0):
    return [
        {
            "step": step,
            "loss": 9.0,
            "validation_loss": 1e6 / step,
            "validation_kl": step / 100,
            "explained_variance": 1 - 50 / step,
            "active_latents": 2,
            "progress": min(step / 300, 1),
        }
        for step in (100, 200, 300, 400)
    ]


def with_a_failed_point(*shape):
    values = rng.random(shape)
    values[1, 2] = np.nan
    return values


def estimate(value=None, half=0.1):
    value = rng.random() + 1 if value is None else value
    return SimpleNamespace(value=value, low=value - half, high=value + 2 * half)


def curve(dims=(2, 4, 8, 16)):
    return {d: estimate() for d in dims}


def detected():
    share = np.linspace(0, 1, 11)
    return SimpleNamespace(
        share=share, true_positive_rate=share**0.5, precision=1 - share / 2, prevalence=0.2
    )


MARKS = {"chosen": (10, 8), "the paper's": (3, 32)}
LAYERS = [("image", (1, H, W)), ("conv 1", (32, 10, 14)), ("fc", (256,)), ("code", (L,))]
DIMS = [2, 4, 8, 16]

CALLS = {
    "fig_1": lambda: figures.fig_1(
        grey(),
        grey(),
        rng.normal(size=L),
        rng.normal(size=L),
        np.array([0, 9, 0]),
        grey(),
        grey(),
        masks()[1],
        "HPF",
        LAYERS,
        50.0,
    ),
    "fig_2a": lambda: figures.fig_2a(grey(), grey(), masks(), ROIS, 50.0, "five drawn brains"),
    "fig_2b": lambda: figures.fig_2b(
        grey(2), per_model(lambda: grey(2)), ["Leak", "Grid"], 50.0, masks(2)
    ),
    "fig_s1": lambda: figures.fig_s1(
        grey(N), grey(N), per_model(lambda: grey(N)), list("abcde"), 50.0, masks(N)
    ),
    "fig_2c": lambda: figures.fig_2c(
        {"PCA": curve(), "VAE": curve([2, 16]), "β-VAE": {}}, {"mean image": 0.89}
    ),
    "fig_2d": lambda: figures.fig_2d(
        {k: per_model(curve) for k in ("Reconstructions", "Samples")}, {"Samples": 0.5}
    ),
    "fig_curves": lambda: figures.fig_curves(
        {"Kept": {"PCA": curve([0.2, 0.5, 1]), "median": curve([0.2, 1])}, "Found": {}, "Lost": {}},
        "Strength",
        references={"Kept": {"copy": 1.0}},
        ylabels=["Share", "Rate"],
    ),
    "fig_differences": lambda: figures.fig_differences(
        {
            "β-VAE − VAE": {"leak": estimate(0.3), "grid": estimate(0.02)},
            "β-VAE − PCA": {"leak": estimate(-0.5)},
        },
        "Difference",
        better="β-VAE better",
    ),
    "fig_scores": lambda: figures.fig_scores(
        {"CW-SSIM": per_model(estimate), "PCA-FD": {"PCA": estimate()}, "Kept": {}},
        references={"PCA-FD": {"real against real": 0.5}},
        columns=2,
    ),
    "fig_keep_reject": lambda: figures.fig_keep_reject(
        {k: per_model(lambda: (estimate(), estimate())) for k in ("leak", "grid")},
        {
            k: {"PCA": [(0, 0), (0.5, 0.7)], "median": [(1, 1), (0.2, 0.4)]}
            for k in ("leak", "grid")
        },
    ),
    "fig_detection": lambda: figures.fig_detection(
        {k: {"VAE": detected(), "mean image": detected()} for k in ("leak", "grid", "breakage")}
    ),
    "fig_error_maps": lambda: figures.fig_error_maps(
        grey(2), {"VAE": grey(2), "PCA": grey(2)}, ["leak", "grid"], 50.0, masks(2)
    ),
    "fig_grids": lambda: figures.fig_grids(
        {"Rate": with_a_failed_point(3, 4), "Active": np.full((3, 4), 2), "FD": np.ones((3, 4))},
        [1, 3, 10],
        DIMS,
        MARKS,
    ),
    "fig_row": lambda: figures.fig_row(
        [1, 3, 10],
        {"Rate": np.arange(6.0).reshape(3, 2), "Explained variance": np.full((3, 2), np.nan)},
        {"Explained variance": 0.6},
    ),
    "fig_knee": lambda: figures.fig_knee(
        DIMS,
        {"PCA": rng.random((4, 1)), "β-VAE": with_a_failed_point(4, 3)},
        {"PCA": np.nan, "β-VAE": 4.0},
        {"PCA": np.full(4, np.nan), "β-VAE": np.array([0, 0.75, 0.25, 0])},
        ylabel="Held-out loss",
    ),
    "fig_rate_distortion": lambda: figures.fig_rate_distortion(
        10 + with_a_failed_point(3, 4, 2), with_a_failed_point(3, 4, 2), [1, 3, 10], DIMS, MARKS
    ),
    "fig_3a": lambda: figures.fig_3a(
        rng.random((L, H, W, 3)),
        np.array([1e-3, 2e-3, 3e-3]),
        np.array([False, True, False]),
        50.0,
        masks()[0],
    ),
    "fig_3b": lambda: figures.fig_3b(rng.random((4, L)), ROIS, np.array([1.5, 22.25, 3, 4])),
    "fig_3c": lambda: figures.fig_3c(
        rng.normal(size=(6, N, 2)), (1, 5), np.linspace(0.5, 2, 6), "HPF"
    ),
    "fig_3d": lambda: figures.fig_3d(np.cov(rng.random((L, 9)))),
    "fig_3e": lambda: figures.fig_3e(
        per_model(lambda: estimate(0.6)),
        per_model(lambda: rng.random(40)),
        per_model(lambda: rng.random(30)),
    ),
    "fig_s2": lambda: figures.fig_s2(grey(4, 2), ROIS, np.array([[0.5, 1.5]] * 4), 50.0),
    "fig_s3": lambda: figures.fig_s3(
        rng.normal(size=(4, 2, N, L)), ROIS, np.array([[0.5, 1.5]] * 4)
    ),
    "fig_s4": lambda: figures.fig_s4(grey(L, 5), [-7, -2, 0, 2, 7], 50.0, difference=True),
    "fig_region_profile": lambda: figures.fig_region_profile(
        rng.random((L, 4)), ROIS, rng.random((4, L))
    ),
    "fig_sections": lambda: figures.fig_sections(grey(N), list("abcde"), pixel_um=50.0),
    "fig_factors": lambda: figures.fig_factors(
        {"brightness_HPF": (grey(), grey()), "ap_position": (grey(), grey())}, grey(), 50.0
    ),
    "fig_training": lambda: figures.fig_training(
        {"VAE": history(1), "β-VAE": history()}, {"PCA": 0.9}
    ),
    "fig_recovery": lambda: figures.fig_recovery(
        np.array([[0.5, -0.25], [1, 0], [0.25, 0.75]]), MODELS, ["brightness_HPF", "illumination"]
    ),
    "fig_reconstructions": lambda: figures.fig_reconstructions(
        grey(2), per_model(lambda: grey(2)), 50.0, ["brain 1", "brain 2"]
    ),
    "fig_explained": lambda: figures.fig_explained({"Mean image": 0.0, "PCA": (0.4, 0.35, 0.45)}),
    "fig_outside": lambda: figures.fig_outside(
        {m: per_model(lambda: (1 + rng.random(9), 1.5)) for m in ("error", "code")},
        {"error": "RMS error", "code": "Squared distance"},
    ),
    "fig_new_brain": lambda: figures.fig_new_brain(
        grey(), per_model(grey), per_model(lambda: 0.5), per_model(lambda: rng.random(9)), 50.0
    ),
}

# What a reader must find in words on each figure.
WORDS = {
    "fig_1": ["Receptive field", "Projective field", "HPF", "F2 moved", "F3", "conv 1  32×10×14"],
    "fig_2a": [*ROIS, "five drawn brains"],
    "fig_2b": ["Leak", "Grid", "Input", *MODELS],
    "fig_s1": ["Truth", "Input", *MODELS],
    "fig_2c": ["16", "CW-SSIM", "mean image", "PCA", "VAE"],
    "fig_2d": ["Reconstructions", "Samples", "real against\nreal", *MODELS],
    "fig_curves": ["Kept", "Found", "Strength", "Share", "Rate", "copy", "PCA", "median"],
    "fig_differences": ["β-VAE − VAE", "β-VAE better →", "leak", "grid"],
    "fig_scores": ["CW-SSIM", "PCA-FD", "Squared grey values", "real against real", *MODELS],
    "fig_keep_reject": ["Leak", "ideal", "copy of the input", "mean\nimage", "median", *MODELS],
    "fig_detection": ["Leak", "Recall", "True positive rate", "VAE", "mean image", "guessing"],
    "fig_error_maps": ["Leak", "Grid", "Input", "VAE", "PCA"],
    "fig_grids": ["Rate", "Active", "no fit", "chosen: β = 10, L = 8"],
    "fig_row": ["Rate", "Explained variance", "PCA", "β", "10"],
    "fig_knee": ["PCA: no knee", "β-VAE: knee at L = 4", "not known", "the paper's L = 8", "chord"],
    "fig_rate_distortion": ["β = 10", "L = 8 alone", "D + R", "Rate", "Distortion", "one fit"],
    "fig_3a": ["F1", "F2 ★", "F3", "small positive c", "small negative c", "large |c|"],
    "fig_3b": [*ROIS, "F1", "F3", "22.2", "Sum (nats)"],
    "fig_3c": ["F1", "F5", "Brightness of HPF, w"],
    "fig_3d": ["F1", "F3"],
    "fig_3e": ["0.60", "regions permuted", "random axes", "95 % interval", *MODELS],
    "fig_s2": [*ROIS, "w = 0.50", "w = 1.50"],
    "fig_s3": ["F1", "F3", "HPF\nw = 0.50–1.50", "lowest", "highest"],
    "fig_s4": ["F1", "F3", "c = −7", "c = 0", "c = +7"],
    "fig_region_profile": [*ROIS, "F1", "F3", "Receptive", "Projective"],
    "fig_sections": list("abcde"),
    "fig_factors": ["Brightness HPF", "AP position"],
    "fig_training": ["ELBO", "β rising", "Active latents", "PCA", "VAE", "β-VAE"],
    "fig_recovery": [*MODELS, "Brightness\nHPF", "−0.25"],
    "fig_reconstructions": ["Input", *MODELS, "brain 2"],
    "fig_explained": ["Mean image", "40.0 %  [35.0 %, 45.0 %]"],
    "fig_outside": ["RMS error", "Squared distance", "of 9 as far out", "β-VAE: "],
    "fig_new_brain": ["New brain", "of 9 err as much", *MODELS],
}  # fmt: skip

# Axes in all, colour bars included.
AXES = {
    "fig_1": 11,
    "fig_2a": 3,
    "fig_2b": 8,
    "fig_s1": 25,
    "fig_2c": 1,
    "fig_2d": 2,
    "fig_curves": 3,
    "fig_differences": 1,
    "fig_scores": 3,
    "fig_keep_reject": 2,
    "fig_detection": 6,
    "fig_error_maps": 7,
    "fig_grids": 6,
    "fig_row": 2,
    "fig_knee": 4,
    "fig_rate_distortion": 3,
    "fig_3a": 3,
    "fig_3b": 3,
    "fig_3c": 3,
    "fig_3d": 2,
    "fig_3e": 1,
    "fig_s2": 8,
    "fig_s3": 13,
    "fig_s4": 16,
    "fig_region_profile": 3,
    "fig_sections": 8,
    "fig_factors": 7,
    "fig_training": 4,
    "fig_recovery": 2,
    "fig_reconstructions": 8,
    "fig_explained": 1,
    "fig_outside": 6,
    "fig_new_brain": 13,
}

SECTIONS = ["fig_1", "fig_2a", "fig_2b", "fig_s1", "fig_3a", "fig_s2", "fig_s4", "fig_sections"]
SECTIONS += ["fig_error_maps", "fig_factors", "fig_reconstructions", "fig_new_brain"]


@pytest.fixture(scope="module")
def drawn():
    made = {name: call() for name, call in CALLS.items()}
    for figure in made.values():
        figure.draw_without_rendering()
    return made


def words(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text()]


QUALITY = {"fig_brightness", "fig_ledger", "fig_quality", "fig_worst"}  # test_figures_quality.py
BOTH = {"fig_fields", "fig_against_blobs", "fig_agreement", "fig_stability"}  # …_both.py
BOTH |= {"fig_planted", "fig_maps", "fig_tails"}


def test_every_function_is_tried():
    assert set(CALLS) == set(WORDS) == set(AXES) == set(figures.__all__) - QUALITY - BOTH


@pytest.mark.parametrize("name", CALLS)
def test_shows_what_it_must(drawn, name):
    figure = drawn[name]
    assert isinstance(figure, Figure)
    text = words(figure)
    missing = [word for word in WORDS[name] if not any(word in t for t in text)]
    assert not missing, f"{missing} not in {text}"
    axes = figure.findobj(lambda a: isinstance(a, matplotlib.axes.Axes))
    assert len(axes) == AXES[name]
    assert figure.get_figwidth() <= 8


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_have_one_scale_bar(drawn, name):
    assert words(drawn[name]).count("0.2 mm") == 1


def test_scale_bar_has_the_length_it_says(drawn):
    (bar,) = [line for ax in drawn["fig_sections"].axes for line in ax.lines]
    left, right = bar.get_xdata()
    assert (right - left) * 50 == pytest.approx(200)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_scale_bar_lies_below_its_section(drawn, name):
    axes = drawn[name].findobj(lambda a: isinstance(a, matplotlib.axes.Axes))
    (ax,) = [ax for ax in axes if any(t.get_text() == "0.2 mm" for t in ax.texts)]
    (text,) = [t for t in ax.texts if t.get_text() == "0.2 mm"]
    (bar,) = [line for line in ax.lines if line.get_linewidth() == 2]
    assert ax.images and text.get_color() == bar.get_color() == "black"
    assert max(text.get_window_extent().y1, bar.get_window_extent().y1) < ax.bbox.y0


def test_latents_count_from_one(drawn):
    for name in ("fig_3a", "fig_3b", "fig_3d", "fig_s3", "fig_s4", "fig_region_profile"):
        assert "F0" not in words(drawn[name])
        assert f"F{L + 1}" not in words(drawn[name])


def test_rows_and_columns_are_not_swapped():
    codes = rng.normal(size=(4, 2, N, L))
    codes[2, :, :, 1] += 100
    panels = np.reshape(figures.fig_s3(codes, ROIS, np.array([[0.5, 1.5]] * 4)).axes[:-1], (L, 4))
    assert np.mean(panels[1, 2].lines[0].get_xdata()) > 50
    assert np.mean(panels[1, 1].lines[0].get_xdata()) < 50


def test_a_line_joins_the_values_of_a_model_and_its_band_is_the_interval():
    by_model = {"VAE": {4: estimate(0.5), 2: estimate(0.25)}, "PCA": {2: estimate(0.75)}}
    ax = figures.fig_2c(by_model, {}).axes[0]
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[2, 0.25], [4, 0.5]], [[2, 0.75]]]
    band = ax.collections[0].get_paths()[0].vertices
    assert {(x, round(y, 3)) for x, y in band} >= {(2, 0.15), (2, 0.45), (4, 0.4), (4, 0.7)}


def test_more_models_than_bands_can_tell_apart_have_bars_beside_one_another():
    names = [*MODELS, "median"]
    at = [0.25, 0.5, 1]
    found = {name: {x: estimate(i / 4) for x in at} for i, name in enumerate(names)}
    ax = figures.fig_curves({"Kept": found}, "Strength").axes[0]
    lines = ax.lines
    assert len(set(map(str, model_dashes(names).values()))) == 4
    assert len({(line.get_marker(), line.get_color()) for line in lines}) == 4
    bars = [np.array(c.get_segments()) for c in ax.collections]
    for line, segments, (i, _) in zip(lines, bars, enumerate(names), strict=True):
        np.testing.assert_allclose(line.get_ydata(), i / 4)
        np.testing.assert_allclose(segments[:, :, 0].T, [line.get_xdata()] * 2)
        np.testing.assert_allclose(segments[:, :, 1], [[i / 4 - 0.1, i / 4 + 0.2]] * 3)
        assert np.abs(line.get_xdata() - at).max() < 0.1
    assert len({line.get_xdata()[0] for line in lines}) == 4


@pytest.mark.parametrize("names", [{"a": 0.5}, {"a": 0.5, "b": 0.51, "c c c c c c c c": 0.49}])
def test_names_of_references_stand_beside_the_axes_and_apart(names):
    figure = figures.fig_2c({"PCA": curve()}, {**names, "far": 0.1})
    figure.draw_without_rendering()
    ax = figure.axes[0]
    boxes = sorted((Text.get_window_extent(t).extents for t in ax.texts), key=lambda b: b[1])
    assert len(boxes) == len(names) + 1
    assert all(box[0] >= ax.bbox.x1 and box[2] < figure.bbox.x1 for box in boxes)
    assert all(upper[1] > lower[3] - 1 for lower, upper in zip(boxes, boxes[1:], strict=False))


def test_a_score_has_its_unit_below_and_latents_have_one_colour():
    names = ["log p(x) or bound (nats)", "PSNR", "log p(x)", "leak (11 brains)"]
    latents = {f"F{k}": estimate() for k in range(1, 9)}
    axes = figures.fig_scores(dict.fromkeys(names, latents)).axes
    assert [ax.get_xlabel() for ax in axes] == ["Nats", "Decibels", "", ""]
    titles = ["A  Log p(x) or bound", "B  PSNR", "C  Log p(x)", "D  Leak (11 brains)"]
    titles = [rf"$\bf{{{title[0]}}}${title[1:]}" for title in titles]
    assert [ax.get_title(loc="left") for ax in axes] == titles
    assert len({line.get_color() for ax in axes for line in ax.lines}) == 1


def test_the_name_of_a_reference_is_inside_its_panel():
    one = {"β-VAE − VAE": estimate(0.1)}
    names = {"a": {"right: the β-VAE is better": 0.0}, "b": {"guessing": 0.9}, "c": {}}
    figure = figures.fig_scores(dict.fromkeys(names, one), references=names, columns=3)
    figure.draw_without_rendering()
    for ax in figure.axes[:2]:
        (text,) = ax.texts
        assert ax.bbox.contains(*text.get_window_extent().min)
        assert ax.bbox.contains(*text.get_window_extent().max)


def test_a_single_respect_is_black():
    rows = {"a": {"leak": estimate(0.5)}, "b": {"leak": estimate(0.05)}}
    ax = figures.fig_differences(rows, "Difference").axes[0]
    colours = {line.get_color() for line in ax.lines if line.get_marker() == "o"}
    assert colours == {"#222222"}


def test_detectors_are_told_apart_without_colour():
    names = [*MODELS, "nearest brain", "rule"]
    ax = figures.fig_detection({"leak": {name: detected() for name in names}}).axes[0]
    lines = [line for line in ax.lines if line.get_marker() != "None"]
    assert len({line.get_marker() for line in lines}) == len(lines) == 5
    assert len(set(map(str, model_dashes(names).values()))) == 5


def test_no_label_of_keep_and_reject_lies_on_a_mark():
    near = {"leak": {"β-VAE": (estimate(0.1, 0.02), estimate(0, 0.3))}}
    figure = figures.fig_keep_reject(near, {"leak": {"median": [(1, 1), (0.9, 0)]}})
    figure.draw_without_rendering()
    ax = figure.axes[0]
    mark = ax.transData.transform([(0.1, y) for y in np.linspace(-0.3, 0.6, 50)])
    boxes = [Text.get_window_extent(t) for t in ax.texts]
    assert len(boxes) == 3 and not any(box.contains(*at) for box in boxes for at in mark)


def test_sums_that_differ_a_hundredfold_are_on_a_logarithmic_axis():
    shares = rng.random((4, L))
    near, far = ([1.5, 22.25, 3, 4], [0.01, 22.25, 3, 4])
    scales = [figures.fig_3b(shares, ROIS, np.array(s)).axes[1].get_xscale() for s in (near, far)]
    assert scales == ["linear", "log"]
    ax = figures.fig_3b(shares, ROIS, np.array([0.01, 1376.0, 3, 4])).axes[1]
    (dots,) = ax.lines
    assert dots.get_marker() == "o" and not ax.patches
    assert [t.get_text() for t in ax.texts] == ["0.01", "1,380", "3", "4"]


def test_many_regions_have_numbers_only_where_they_are_large():
    profile = np.r_[[0.9], np.full(11, 0.1 / 11)][None]
    few = figures.fig_region_profile(profile[:, :4], ROIS).axes[0]
    many = figures.fig_region_profile(profile, [f"R{i}" for i in range(12)]).axes[0]
    assert [len(few.texts), [t.get_text() for t in many.texts]] == [4, ["0.90"]]


def test_a_covariance_is_written_out():
    figure = figures.fig_3d(1e-3 * np.eye(L))
    figure.draw_without_rendering()
    ticks = [t.get_text() for t in figure.axes[1].get_yticklabels()]
    assert "0.001" in ticks and not figure.axes[1].yaxis.get_offset_text().get_text()


def test_a_perturbed_region_is_outlined_where_it_is_known():
    base = np.broadcast_to(grey(), (4, 2, H, W)).copy()
    base[:, 1][masks()] *= 0.5
    changed, other = (figures.fig_s2(i, ROIS, np.ones((4, 2)), 50.0) for i in (base, grey(4, 2)))
    assert all(len(ax.collections) == 1 for ax in changed.axes)
    assert not any(ax.collections for ax in other.axes)


def test_a_narrow_logarithmic_axis_has_plain_numbers():
    rows = [
        row | {"validation_kl": kl} for row, kl in zip(history(), (60, 110, 80, 47), strict=True)
    ]
    figure = figures.fig_training({"VAE": rows}, {})
    figure.draw_without_rendering()
    ax = figure.axes[2]
    low, high = ax.get_ylim()
    shown = [t.get_text() for t in ax.get_yticklabels() if low < t.get_position()[1] < high]
    assert len(shown) >= 3 and all(text.isdigit() for text in shown)
    assert not ax.yaxis.get_minorticklocs().size


def test_a_colour_bar_says_that_values_lie_beyond_it():
    bright = grey(2)
    bright[0, 0, :5] = 9
    for maps, more in ((bright, True), (np.ones((2, H, W)), False)):
        figure = figures.fig_error_maps(grey(2), {"VAE": maps}, ["a", "b"], 50.0, masks(2))
        assert (figure.axes[-1]._colorbar.extend == "max") == more


def test_a_difference_that_may_be_none_is_not_filled():
    rows = {
        "a": {"leak": estimate(0.5)},
        "b": {"leak": estimate(0.05)},
        "c": {"leak": estimate(-1)},
    }
    ax = figures.fig_differences(rows, "Difference").axes[0]
    filled = [
        line.get_mfc() != "white" for line in ax.lines if line.get_marker() not in ("None", "")
    ]
    assert filled == [True, False, True]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]


def test_a_distance_of_zero_has_no_logarithm():
    near = {"Reconstructions": {"PCA": {2: estimate(0.0), 4: estimate(1.0)}}}
    assert figures.fig_2d(near, {}).axes[0].get_yscale() == "linear"
    assert figures.fig_2d({"R": {"PCA": curve()}}, {}).axes[0].get_yscale() == "log"


def test_ticks_at_every_number_of_latents(drawn):
    ax = drawn["fig_2c"].axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == [str(d) for d in DIMS]


def test_both_marks_stand_on_their_cells_in_every_panel():
    values = {"R": np.arange(6.0).reshape(2, 3), "D": np.ones((2, 3))}
    marks = {"chosen": (3, 4), "the paper's": (1, 16)}
    figure = figures.fig_grids(values, [1, 3], [4, 8, 16], marks)
    for ax in figure.axes[:2]:
        centres = [np.add(p.get_xy(), p.get_width() / 2) for p in ax.patches if not p.get_fill()]
        assert np.allclose(centres, [(0, 1), (2, 0)])
        assert not ax.yaxis_inverted()  # β rises


def test_a_mark_that_is_drawn_nowhere_has_no_key():
    values = np.arange(6.0).reshape(2, 3)
    marks = {"chosen": (np.nan, np.nan), "the paper's": (3, 32)}
    grid = figures.fig_grids({"R": values}, [1, 3], [4, 8, 16], marks)
    assert not grid.legends[0].get_texts() and not grid.axes[0].patches
    curves = figures.fig_rate_distortion(
        values[..., None], values[..., None], [1, 3], DIMS[1:], marks
    )
    assert not any("chosen" in text or "paper" in text for text in words(curves))


def test_one_fit_far_from_all_others_does_not_squeeze_them():
    rate, distortion = np.random.default_rng(0).random((2, 3, 4, 3))
    distortion[2, 1, 0] = 50.0
    figure = figures.fig_rate_distortion(rate, distortion, [1, 3, 10], DIMS, {})
    whole, alone = figure.axes[:2]
    assert whole.get_ylim()[1] < 2 and "D = 50" in words(figure)
    assert "D = 50" not in [t.get_text() for t in alone.texts]
    grid = figures.fig_grids({"D": distortion[:, :, 0]}, [1, 3, 10], DIMS, {})
    assert grid.axes[0].images[0].norm.vmax < 2 and grid.axes[-1]._colorbar.extend == "max"


def test_recurring_names_keep_their_colours_and_none_has_another_s():
    names = ["factor analysis", "PCA, L = 30", "non-local means", "PCA", "rule of chapter 2", "own"]
    looks = model_styles(names)
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == len(names)
    for i in range(len(names)):
        one = model_styles(names[i:])
        fixed = [n for n in one if n not in ("PCA", "PCA, L = 30", "own")]
        assert all(one[name] == looks[name] for name in fixed)
    betas = model_styles(["β = 10", "β = 1", "β = 3"])
    assert betas["β = 1"] == model_styles(["VAE"])["VAE"]
    assert betas["β = 3"] == model_styles(["β-VAE"])["β-VAE"]
    assert betas["β = 10"] == model_styles(["β = 10"])["β = 10"] != betas["β = 3"]


def test_random_axes_of_a_model_have_its_colour_and_hollow_markers():
    names = ["β-VAE, random axes", "β-VAE", "told the factors", "factor analysis", "mean image"]
    looks = model_styles(names)
    random, model = looks[names[0]], looks["β-VAE"]
    assert model == model_styles(["β-VAE"])["β-VAE"] and "mfc" not in model
    assert random["mfc"] == "white" and random["mec"] == random["color"] == model["color"]
    assert len(set(map(str, model_dashes(names).values()))) == len(names)
    figure = figures.fig_scores({"Recovered": dict.fromkeys(names, estimate())})
    faces = [line.get_mfc() for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert [face == "white" for face in faces] == [True, False, False, False, False]


def test_long_names_leave_a_difference_its_axis():
    respects = {f"a respect with a name, {k}": estimate(k) for k in range(3)}
    rows = {"what is compared here, told in many words, " * 4: respects, "b": respects}
    label = "The difference of the one and the other, in words that are many, and its unit (nats)"
    figure = figures.fig_differences(rows, label)
    figure.draw_without_rendering()
    (ax,), (legend,) = figure.axes, figure.legends
    assert ax.bbox.width > 0.5 * figure.bbox.width
    assert ax.xaxis.label.get_window_extent().width <= ax.bbox.width
    assert legend.get_window_extent().y0 >= ax.bbox.y1
    names = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert names[0].y1 <= ax.bbox.y1 and names[0].y0 > names[1].y1


def test_a_figure_of_many_models_fits_a_page():
    images = np.ones((3, 80, 112))
    many = figures.fig_s1(images, images, dict.fromkeys("abcdef", images), list("abc"), 50.0)
    few = figures.fig_s1(images, images, {"a": images}, list("abc"), 50.0)
    assert few.get_figheight() < 7 < many.get_figheight() <= 9


@pytest.mark.parametrize("top", [1.05, 1.5, 4, 300, 1e6])
def test_a_brain_outside_can_be_read_from_its_axis(top):
    found = {"error": per_model(lambda: (np.geomspace(1, top, 9), top))}
    figure = figures.fig_outside(found, {"error": "RMS error"})
    figure.draw_without_rendering()
    for ax in figure.axes:
        low, high = ax.get_xlim()
        shown = [
            tick
            for tick, at in zip(ax.xaxis.get_major_ticks(), ax.get_xticks(), strict=True)
            if low <= at <= high
        ]
        boxes = [tick.label1.get_window_extent() for tick in shown]
        assert len(boxes) >= 2 and all(tick.label1.get_text() for tick in shown)
        assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:], strict=False))


def test_a_beta_has_one_colour_in_both_figures_of_its_row():
    courses = figures.fig_training({f"β = {b}": history(b) for b in (1, 3, 10)}, {}).axes[3]
    ends = figures.fig_row([1, 3, 10], {"Rate": np.ones((3, 2))}, {}).axes[0]
    points = [line.get_color() for line in ends.lines if line.get_marker() != "None"]
    assert points == [line.get_color() for line in courses.lines]


def test_guessing_is_a_reference_and_no_model():
    found = {"PCA": curve(), "VAE": curve(), "β-VAE": curve(), "guessing": curve()}
    ax = figures.fig_curves({"a": found}, "Strength").axes[0]
    (line,) = [line for line in ax.lines if line.get_label() == "guessing"]
    assert (line.get_color(), line.get_marker()) == ("#6E6E6E", "None")
    assert line.get_linestyle() == "--" and len(ax.collections) == 3  # bands of three models


def test_only_several_panels_have_letters():
    for n, bold in ((1, 0), (2, 2)):
        panels = {name: {"PCA": curve()} for name in "ab"[:n]}
        made = [
            figures.fig_curves(panels, "x"),
            figures.fig_scores(dict.fromkeys(panels, per_model(estimate))),
        ]
        for figure in made:
            titles = [ax.get_title(loc="left") for ax in figure.axes]
            assert sum("bf" in title for title in titles) == bold


def test_panels_of_one_quantity_share_an_axis_where_their_ranges_allow():
    near, far = ({"PCA": {1: estimate(v), 2: estimate(v + 1)}} for v in (0, 900))
    far["PCA"][3] = estimate(2000)
    alike = figures.fig_curves(
        {"a": near, "b": near | {"VAE": {1: estimate(1.2)}}}, "x", ylabels=["y"]
    )
    apart = figures.fig_curves({"a": near, "b": far}, "x", ylabels=["y"])
    asked = figures.fig_curves({"a": near, "b": far}, "x", ylabels=["y"], share_y=True)
    same = [len({ax.get_ylim() for ax in figure.axes}) == 1 for figure in (alike, apart, asked)]
    assert same == [True, False, True]


def test_points_are_named_and_joined_in_the_order_of_their_names():
    found = {"VAE": {3.0: estimate(1), 5.0: estimate(2), 4.0: estimate(3)}}
    names = {"VAE": {3.0: "L = 2", 5.0: "L = 4", 4.0: "L = 8"}}
    figure = figures.fig_curves({"a": found}, "Rate", point_labels=names)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [3, 5, 4]
    assert {"L = 2", "L = 4", "L = 8"} <= set(words(figure))


def test_what_is_better_stands_at_the_right_of_zero():
    figure = figures.fig_differences({"a": {"b": estimate(-1)}}, "x", better="β-VAE better")
    figure.draw_without_rendering()
    ax = figure.axes[0]
    (text,) = ax.texts
    box, zero = text.get_window_extent(), ax.transData.transform((0, 0))[0]
    assert zero < box.x0 and box.x1 < ax.bbox.x1


def test_a_line_that_leaves_the_panel_is_marked():
    paths = {"leak": {"median": [(1, 1), (0.5, -4)]}}
    ax = figures.fig_keep_reject({"leak": {}}, paths).axes[0]
    (mark,) = [line for line in ax.lines if line.get_marker() == "v"]
    assert mark.get_ydata()[0] == ax.get_ylim()[0]


def test_the_first_row_of_reconstructions_has_the_name_it_is_given():
    figure = figures.fig_reconstructions(
        grey(2), {"PCA": grey(2)}, 50.0, ["a", "b"], first_row="As it was"
    )
    assert [ax.get_ylabel() for ax in figure.axes] == ["As it was", "", "PCA", ""]


def test_columns_of_one_quantity_can_share_their_axis():
    curves, flat = {"VAE": np.ones((3, 1)), "PCA": 9 * np.eye(3)}, np.full(3, np.nan)
    none = dict.fromkeys(curves, np.nan), dict.fromkeys(curves, flat)
    figure = figures.fig_knee([2, 4, 8], curves, *none, ylabel="y", share_y=True)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_large_and_small_numbers_are_written_with_the_digits_that_tell_them_apart():
    values = {"D": [[-12345.6, -11000]], "S": [[0.8912, 0.931]], "n": [[2, 8]], "c": [[0.5, 0.5]]}
    figure = figures.fig_grids({k: np.array(v) for k, v in values.items()}, [1], [4, 8], {})
    shown = [[t.get_text() for t in ax.texts] for ax in figure.axes[:4]]
    assert shown[:3] == [["−12,346", "−11,000"], ["0.891", "0.931"], ["2", "8"]]


def test_a_full_grid_has_no_numbers_in_its_cells():
    betas, dims = np.arange(1, 21), np.arange(4, 21)
    figure = figures.fig_grids({"R": rng.random((20, 17))}, betas, dims, {"paper": (3, 8)})
    assert not figure.axes[0].texts and figure.get_figwidth() <= WIDTH


def test_the_knee_stands_on_the_mean_and_the_chord_joins_fitted_ends():
    curve = np.array([[9.0, 11], [4, 6], [np.nan, 3], [2, np.nan], [np.nan, np.nan]])
    dims, share = [2, 4, 5, 8, 16], np.array([0, 1.0, 0, 0, 0])
    figure = figures.fig_knee(
        dims, {"VAE": curve}, {"VAE": 4.0}, {"VAE": share}, ylabel="Loss", paper=None
    )
    above, below = figure.axes
    by_style = {(line.get_linestyle(), line.get_marker()): line for line in above.lines}
    assert by_style["--", "None"].get_xydata().tolist() == [[2, 10], [8, 2]]
    assert by_style["None", "o"].get_xydata().tolist() == [[4, 5]]
    assert [bar.get_height() for bar in below.patches] == share.tolist()


@pytest.mark.parametrize(
    ("dims", "fits", "said"),
    [([2, 4, 8], 1, "one fit at a point"), ([2, 8], 3, "fewer than three L fitted")],
)
def test_why_the_knee_has_no_uncertainty_is_said(dims, fits, said):
    curve, unknown = rng.random((len(dims), fits)), np.full(len(dims), np.nan)
    figure = figures.fig_knee(dims, {"VAE": curve}, {"VAE": np.nan}, {"VAE": unknown}, ylabel="D")
    assert [t.get_text().split(":")[0] for t in figure.axes[1].texts] == [said]


def test_resamples_of_a_curve_without_a_knee_are_pale():
    curve, share = rng.random((3, 3)), np.array([0, 0.6, 0])
    for at, alpha in ((np.nan, 0.35), (4.0, None)):
        figure = figures.fig_knee([2, 4, 8], {"VAE": curve}, {"VAE": at}, {"VAE": share}, ylabel="")
        above, below = figure.axes
        assert [bar.get_alpha() for bar in below.patches] == [alpha] * 3
        assert ("no knee" in above.get_title(loc="left")) == np.isnan(at)


def test_a_model_without_any_fit_has_an_empty_column():
    nothing = np.full((3, 2), np.nan)
    figure = figures.fig_knee(
        [2, 4, 8], {"VAE": nothing}, {"VAE": np.nan}, {"VAE": nothing[:, 0]}, ylabel="Loss"
    )
    figure.draw_without_rendering()
    assert "no knee" in figure.axes[0].get_title(loc="left")


def test_a_rate_distortion_line_joins_the_means_of_one_number_of_latents():
    rate = np.arange(12.0).reshape(2, 3, 2)
    figure = figures.fig_rate_distortion(rate, -rate, [1, 3], [4, 8, 16], {"chosen": (3, 8)})
    whole, one = figure.axes[:2]
    means = [line for line in whole.lines if line.get_linestyle() == "-" and line.get_lw() > 1]
    joined = [line.get_xdata().tolist() for line in means]
    assert joined == [[0.5, 6.5], [2.5, 8.5], [4.5, 10.5]]
    assert len({line.get_marker() for line in means}) == 3
    assert [line.get_xdata().tolist() for line in one.lines if line.get_linestyle() == "--"] == [
        [2.5, 8.5]
    ]
    assert [c.get_offsets().tolist() for c in whole.collections] == [[[8.5, -8.5]]]


def test_lines_of_a_constant_bound_fall_as_much_as_they_run():
    values = np.random.default_rng(2).random((3, 4, 2))
    whole = figures.fig_rate_distortion(values, values, [1, 3, 10], DIMS, {}).axes[0]
    slopes = [
        np.diff(a.get_ydata()) / np.diff(a.get_xdata()) for a in whole.lines if a.get_lw() < 1
    ]
    assert len(slopes) > 2 and np.allclose(slopes, -1)


def test_an_artefact_all_over_the_image_is_not_outlined():
    everywhere = np.ones((2, H, W), bool)
    everywhere[:, ::4] = False
    everywhere[0] = masks()[0]
    figure = figures.fig_2b(grey(2), {"PCA": grey(2)}, ["Leak", "Grid"], 50.0, everywhere)
    assert [bool(ax.collections) for ax in figure.axes] == [True, False, True, False]


def test_differences_are_centred_at_zero(drawn):
    for name in ("fig_s4", "fig_factors", "fig_1", "fig_new_brain"):
        axes = drawn[name].findobj(lambda a: isinstance(a, matplotlib.axes.Axes))
        shown = [i for ax in axes for i in ax.images if i.get_cmap().name == "RdBu_r"]
        assert shown and all(i.norm.vmin == -i.norm.vmax for i in shown)


def test_one_latent_that_never_moves_is_a_line():
    codes = np.zeros((2, N, 1))
    ax = figures.fig_3c(codes, [4], np.array([0.5, 1.5]), "TH").axes[0]
    assert [line.get_xdata() for line in ax.lines] == [[0, 0], [0, 0]]


def test_a_score_stands_between_its_two_chances_with_its_interval():
    names = [*MODELS, "capacity VAE", "β-TCVAE", "MMD-VAE", "one of my own"]
    scores = {name: estimate(0.3 + 0.08 * i) for i, name in enumerate(names)}
    nulls, rotated = ({name: rng.uniform(low, 1, 50) for name in names} for low in (0, 0.5))
    figure = figures.fig_3e(scores, nulls, rotated)
    figure.draw_without_rendering()
    ax = figure.axes[0]
    points = [line.get_xydata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    assert np.allclose(points, [(x, scores[name].value) for x, name in enumerate(names)])
    ends = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 2]
    assert np.allclose(ends, [(e.low, e.high) for e in scores.values()])
    medians = [
        c.get_segments()[0].mean(axis=0) for c in ax.collections if hasattr(c, "get_segments")
    ]
    wanted = [
        (x + s, np.median(d[n]))
        for x, n in enumerate(names)
        for s, d in ((-0.18, nulls), (0.18, rotated))
    ]
    assert np.allclose(medians, wanted)
    assert figure.get_figwidth() <= WIDTH and ax.get_ylim() == (0, 1)


def test_chance_that_never_varies_is_a_line():
    one = {"PCA": np.full(5, 0.5)}
    figures.fig_3e({"PCA": estimate(0.6)}, one, one).draw_without_rendering()


def test_models_keep_their_colours():
    looks = model_styles(["my model", "β-VAE, β = 3", "VAE", "PCA", "β-VAE, β = 10"])
    assert looks["β-VAE, β = 3"]["color"] == MODEL_COLOURS["β-VAE"]
    assert looks["VAE"]["color"] == MODEL_COLOURS["VAE"]
    assert looks["PCA"]["color"] == MODEL_COLOURS["PCA"]
    assert len({look["color"] for look in looks.values()}) == 5


@pytest.mark.parametrize(
    "call",
    [
        lambda: figures.fig_sections(grey(3), ["a", "b"], pixel_um=50.0),
        lambda: figures.fig_3b(rng.random((L, 4)), ROIS, np.ones(4)),
        lambda: figures.fig_keep_reject({"leak": {}}, {"grid": {}}),
        lambda: figures.fig_error_maps(grey(2), {"PCA": grey(3)}, ["a", "b"], 50.0, masks(2)),
        lambda: figures.fig_grids({"R": np.ones((3, 2))}, [1, 3], [2, 4, 8], {}),
        lambda: figures.fig_knee(
            [2, 4], {"VAE": np.ones((3, 2))}, {"VAE": 4}, {"VAE": [1, 0]}, ylabel=""
        ),
        lambda: figures.fig_knee(
            [2, 4], {"VAE": np.ones((2, 3))}, {"VAE": 4}, {"VAE": [1]}, ylabel=""
        ),
        lambda: figures.fig_knee(
            [2, 4], {"VAE": np.ones((2, 3))}, {"PCA": 4}, {"VAE": [1]}, ylabel=""
        ),
        lambda: figures.fig_rate_distortion(
            np.ones((2, 3, 2)), np.ones((2, 3, 1)), [1, 3], [2, 4, 8], {}
        ),
        lambda: figures.fig_rate_distortion(
            np.ones((3, 2, 2)), np.ones((3, 2, 2)), [1, 3], [2, 4, 8], {}
        ),
        lambda: figures.fig_row([1, 3], {"Rate": np.ones((3, 2))}, {}),
        lambda: figures.fig_2b(grey(2), {"PCA": grey(3)}, ["Leak", "Grid"], 50.0),
        lambda: figures.fig_3e({"PCA": estimate()}, {"VAE": np.ones(3)}, {"PCA": np.ones(3)}),
        lambda: figures.fig_3e({"PCA": estimate()}, {"PCA": np.ones(3)}, {}),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(call):
    with pytest.raises(ValueError) as error:
        call()
    assert "\n" not in str(error.value)


def test_style_does_not_depend_on_the_caller():
    plain = CALLS["fig_3d"]()
    with matplotlib.rc_context({"font.size": 30, "xtick.labelsize": 30, "axes.facecolor": "red"}):
        figure = CALLS["fig_3d"]()
        figure.draw_without_rendering()
        sizes = {t.get_fontsize() for t in figure.axes[0].get_xticklabels()}
        assert matplotlib.rcParams["font.size"] == 30
    plain.draw_without_rendering()
    assert sizes == {t.get_fontsize() for t in plain.axes[0].get_xticklabels()}
    assert figure.axes[0].get_facecolor() == plain.axes[0].get_facecolor()


def as_shown(figure, monkeypatch):
    """What a notebook receives of a figure: its image, then what stands below it."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    figure._ipython_display_()
    image, below = shown
    return image, below


def test_images_are_shown_as_one_raster_at_the_width_of_the_book(drawn, monkeypatch):
    image, below = as_shown(drawn["fig_sections"], monkeypatch)
    png = base64.b64decode(image["image/png"])
    assert set(image) == {"image/png", "text/plain"} and set(below) == {"text/html"}
    assert image["text/plain"] == f"Figure. {drawn['fig_sections'].caption}"
    assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20]) == WIDTH * DPI


def test_lines_and_text_are_shown_as_one_vector_graphic(drawn, monkeypatch):
    image, below = as_shown(drawn["fig_2c"], monkeypatch)
    assert set(image) == {"image/svg+xml", "text/plain"} and set(below) == {"text/html"}
    assert image["text/plain"] == f"Figure. {drawn['fig_2c'].caption}"
    assert "<svg" in image["image/svg+xml"]


def test_figures_know_neither_models_nor_cohorts_nor_pyplot():
    program = (
        "import brainvae_core.figures, json, sys; print(json.dumps(sorted(m for m in sys.modules"
        " if m.startswith(('brainvae_core.', 'matplotlib.pyplot', 'torch')))))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = json.loads(answer.stdout)
    assert all(m.startswith("brainvae_core.figures") for m in loaded), loaded
