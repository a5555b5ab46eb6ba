"""Figures: known answers, read from what their artists hold."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from test_figures import (
    BRAIN,
    DIMS,
    FACTORS,
    KIND_MODEL_L,
    MODELS,
    ROIS,
    H,
    L,
    N,
    W,
    agreement,
    blobs,
    call,
    curve,
    estimate,
    fits,
    grey,
    history,
    masks,
    per_model,
    recovery,
    rows,
    scored,
    table_of,
    ticks,
    variances,
    with_marker,
    words,
    z_scores,
)  # fmt: skip

from brainvae_core import figures
from brainvae_core.figures.style import LOOKS, WIDTH, model_looks

rng = np.random.default_rng(0)


# ---- looks ----


def test_recurring_names_keep_their_colours_and_none_has_another_s():
    names = ["nearest brain", "PCA, L = 30", "mean image", "PCA", "probabilistic PCA", "own"]
    looks = model_looks(names)
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == len(names)
    for i in range(len(names)):
        one = model_looks(names[i:])
        fixed = [n for n in one if n not in ("PCA", "PCA, L = 30", "own")]
        assert all(one[name] == looks[name] for name in fixed)
    for label, family in (("β = 1", "VAE"), ("β = 3", "β-VAE"), ("β-VAE, β = 3", "β-VAE")):
        assert tuple(model_looks([label])[label].values()) == LOOKS[family]
    assert model_looks(["β = 10", "β = 1"])["β = 10"] == model_looks(["β = 10"])["β = 10"]
    models = model_looks(["my model", "β-VAE, β = 3", "VAE", "PCA", "β-VAE, β = 10"])
    assert len({look["color"] for look in models.values()}) == 5


def test_random_axes_of_a_model_have_its_colour_and_hollow_markers():
    names = ["β-VAE, random axes", "β-VAE", "told the factors", "probabilistic PCA", "mean image"]
    looks = model_looks(names)
    random, model = looks[names[0]], looks["β-VAE"]
    assert model == model_looks(["β-VAE"])["β-VAE"] and "mfc" not in model
    assert random["mfc"] == "white" and random["mec"] == random["color"] == model["color"]
    assert len({str(look["ls"]) for look in looks.values()}) == len(names)
    figure = figures.fig_scores(rows(dict.fromkeys(names, estimate()), "model"))
    faces = [line.get_mfc() for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert [face == "white" for face in faces] == [True, False, False, False, False]


# ---- lines with bands ----


def test_a_line_joins_the_values_of_a_model_and_its_band_is_the_interval():
    by_model = {"VAE": {4: estimate(0.5), 2: estimate(0.25)}, "PCA": {2: estimate(0.75)}}
    table = rows(by_model, "model", "latent_dim")
    ax = figures.fig_2c(table, rows({}, "model")).axes[0]
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[2, 0.25], [4, 0.5]], [[2, 0.75]]]
    band = ax.collections[0].get_paths()[0].vertices
    assert {(x, round(y, 3)) for x, y in band} >= {(2, 0.15), (2, 0.45), (4, 0.4), (4, 0.7)}


def test_more_models_than_bands_can_tell_apart_have_bars_beside_one_another():
    names, at = [*MODELS, "median"], [0.25, 0.5, 1]
    found = {name: {x: estimate(i / 4) for x in at} for i, name in enumerate(names)}
    ax = figures.fig_curves(rows(found, "model", "s"), "s", "Strength").axes[0]
    bars = [np.array(c.get_segments()) for c in ax.collections]
    assert len({(line.get_marker(), line.get_color()) for line in ax.lines}) == 4
    for line, segments, (i, _) in zip(ax.lines, bars, enumerate(names), strict=True):
        np.testing.assert_allclose(line.get_ydata(), i / 4)
        np.testing.assert_allclose(segments[:, :, 0].T, [line.get_xdata()] * 2)
        np.testing.assert_allclose(segments[:, :, 1], [[i / 4 - 0.1, i / 4 + 0.2]] * 3)
        assert np.abs(line.get_xdata() - at).max() < 0.1
    assert len({line.get_xdata()[0] for line in ax.lines}) == 4


def test_guessing_is_a_reference_and_no_model():
    found = per_model(curve, [*MODELS, "guessing"])
    ax = figures.fig_curves(rows(found, "model", "s"), "s", "Strength").axes[0]
    (line,) = [line for line in ax.lines if line.get_label() == "guessing"]
    assert (line.get_color(), line.get_marker()) == ("#6E6E6E", "None")
    assert line.get_linestyle() == "--" and len(ax.collections) == 3  # bands of three models


def test_a_distance_of_zero_has_no_logarithm_and_each_number_of_latents_a_tick():
    near = rows({"R": {"PCA": {2: estimate(0.0), 4: estimate(1.0)}}}, *KIND_MODEL_L)
    assert figures.fig_2d(near, None).axes[0].get_yscale() == "linear"
    figure = figures.fig_2d(rows({"R": {"PCA": curve()}}, *KIND_MODEL_L), None)
    assert figure.axes[0].get_yscale() == "log"
    assert ticks(figure.axes[0].xaxis) == [str(d) for d in DIMS]


def test_a_shared_logarithmic_axis_holds_the_lines_of_every_panel():
    near, far = {"PCA": {2: estimate(1.0), 8: estimate(2.0)}}, {"PCA": {2: estimate(50.0)}}
    axes = figures.fig_2d(rows({"near": near, "far": far}, *KIND_MODEL_L), None).axes
    assert all(ax.get_yscale() == "log" and ax.get_ylim()[1] > 50 for ax in axes)


def test_panels_of_one_quantity_share_an_axis():
    panels = {k: {"PCA": {1: estimate(v), 2: estimate(v + 1)}} for k, v in (("a", 0), ("b", 9))}
    for options, shared in (
        ({"ylabels": ["y"]}, True),
        ({"ylabels": ["y", "z"]}, False),
        ({"ylabels": ["y", "z"], "share_y": True}, True),
    ):
        table = rows(panels, "score", "model", "x")
        axes = figures.fig_curves(table, "x", "x", **options).axes
        assert (len({ax.get_ylim() for ax in axes}) == 1) == shared


def test_points_are_named_and_joined_in_the_order_of_their_names():
    found = {"VAE": {3.0: estimate(1), 5.0: estimate(2), 4.0: estimate(3)}}
    table = rows(found, "model", "rate").assign(L=[2, 4, 8])
    ax = figures.fig_curves(table, "rate", "Rate", point_labels="L").axes[0]
    assert ax.lines[0].get_xdata().tolist() == [3, 5, 4]
    assert {t.get_text(): t.xy[0] for t in ax.texts} == {"2": 3, "4": 5, "8": 4}


# ---- training ----


def test_a_grown_fit_shows_the_loss_of_its_last_size_and_marks_where_it_grew():
    loss, *others = call("fig_training, grown").axes
    courses = [line for line in loss.lines if line.get_marker() in "sD"]
    assert [line.get_xdata().tolist() for line in courses] == [[300, 400]] * 2
    assert loss.get_ylim()[1] < -8e3
    assert [line.get_xdata()[0] for line in loss.lines if line.get_linestyle() == ":"] == [300]
    for ax in others:
        assert ax.lines[0].get_xdata().tolist() == [100, 200, 300, 400]
    assert not [marker for marker in "^v" if with_marker(loss, marker)]  # of another size
    alone = call("fig_training").axes[0]
    assert alone.lines[0].get_xdata().tolist() == [100, 200, 300, 400]
    assert len(with_marker(alone, "^")) == 2  # the first validation, beyond the upper edge


def test_explained_variance_ends_at_minus_ten_and_a_hundred_percent():
    bad = [
        {**row, "explained_variance": v}
        for row, v in zip(history(), (-9, -3, 0.2, 0.9), strict=True)
    ]
    axes = [figures.fig_training({"VAE": bad}, {"PCA": 0.99}).axes[1]]
    far = {"PCA": {2: estimate(-0.8), 4: estimate(0.95)}}
    table = rows({"Explained variance": far}, "score", "model", "L")
    axes.append(figures.fig_curves(table, "L", "L").axes[0])
    assert all(ax.get_ylim()[0] >= -0.1 and ax.get_ylim()[1] <= 1 for ax in axes)
    assert figures.fig_explained({"worse": -0.5, "PCA": 0.6}).axes[0].get_xlim() == (-0.1, 1)
    bars = figures.fig_explained({"PCA, training": 0.7, "PCA, test": 0.6}).axes[0].patches
    assert len({bar.get_facecolor() for bar in bars}) == 1


# ---- scores and differences ----


def test_a_score_has_its_unit_below_and_latents_have_one_colour():
    names = ["log p(x) or bound (nats)", "PCA-FD", "log p(x)", "leak (11 brains)"]
    latents = {f"F{k}": estimate() for k in range(1, 9)}
    axes = figures.fig_scores(rows(dict.fromkeys(names, latents), "score", "model")).axes
    assert [ax.get_xlabel() for ax in axes] == ["Nats", "Squared grey values", "", ""]
    titles = ["Log p(x) or bound", "PCA-FD", "Log p(x)", "Leak (11 brains)"]
    assert [ax.get_title(loc="left").split("$  ")[1] for ax in axes] == titles
    assert len({line.get_color() for ax in axes for line in ax.lines}) == 1


def test_what_lies_right_of_a_reference_is_said_at_its_right():
    right = rows({"right: the β-VAE is better": 0.0}, "model")
    table = rows({"β-VAE − VAE": estimate(-0.5)}, "model")
    ax = figures.fig_scores(table, references=right).axes[0]
    (text,) = ax.texts
    assert text.get_ha() == "left" and text.xy[0] == 0 < ax.get_xlim()[1]
    assert " ".join(text.get_text().split()) == "the β-VAE is better →"


def test_a_difference_that_may_be_none_is_not_filled():
    found = {"a": estimate(0.5), "b": estimate(0.05), "c": estimate(-1)}
    ax = figures.fig_differences(rows(found, "model"), "Difference").axes[0]
    marks = [line for line in ax.lines if line.get_marker() not in ("None", "")]
    assert [line.get_mfc() != "white" for line in marks] == [True, False, True]
    assert {line.get_color() for line in marks} == {"#222222"}  # one respect needs no colour
    assert ticks(ax.yaxis) == ["a", "b", "c"] and ax.yaxis_inverted()


def test_a_colour_bar_says_that_values_lie_beyond_it():
    bright = grey(2)
    bright[0, 0, :30] = 9
    for maps, more in ((bright, True), (np.ones((2, H, W)), False)):
        figure = figures.fig_error_maps(grey(2), {"VAE": maps}, ["a", "b"], 50.0, masks(2))
        assert (figure.axes[-1]._colorbar.extend == "max") == more


def test_an_artefact_all_over_the_image_is_not_outlined():
    everywhere = np.ones((2, H, W), bool)
    everywhere[:, ::4] = False
    everywhere[0] = masks()[0]
    images = grey(2), grey(2), {"PCA": grey(2)}
    figure = figures.fig_2b(*images, ["Leak", "Grid"], 50.0, everywhere)
    outlined = [bool(ax.collections) for ax in figure.axes[:12]]
    assert outlined == [True, False, False, False] + 2 * [True, False, True, False]


def test_differences_stand_beside_their_sections_and_the_truth_has_none():
    truth, dirty, answer = grey(2), grey(2), grey(2)
    figure = figures.fig_2b(truth, dirty, {"PCA": answer}, ["Leak", "Grid"], 50.0, masks(2))
    shown = [ax.images[0].get_array() if ax.images else None for ax in figure.axes[:12]]
    wanted = [*truth, None, None]
    for images in (dirty, answer):
        wanted += [*images, *(images - truth)]
    for found, image in zip(shown, wanted, strict=True):
        assert (found is None and image is None) or np.array_equal(found, image)


# ---- the grid ----


def test_both_marks_stand_on_their_cells_in_every_panel():
    values = {"R": np.arange(6.0).reshape(2, 3), "D": np.ones((2, 3))}
    marks = {"chosen": (3, 4), "the paper's": (1, 16)}
    figure = figures.fig_grids(values, [1, 3], [4, 8, 16], marks)
    for ax, table in zip(figure.axes, values.values(), strict=False):
        assert np.array_equal(table_of(ax), table)
        centres = [np.add(p.get_xy(), p.get_width() / 2) for p in ax.patches if not p.get_fill()]
        assert np.allclose(centres, [(0.5, 1.5), (2.5, 0.5)])
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
    assert whole.get_ylim()[1] < 2 and "D = 50" in [t.get_text() for t in whole.texts]
    assert "D = 50" not in [t.get_text() for t in alone.texts]
    grid = figures.fig_grids({"D": distortion[:, :, 0]}, [1, 3, 10], DIMS, {})
    assert grid.axes[0].collections[0].norm.vmax < 2 and grid.axes[-1]._colorbar.extend == "max"


def test_numbers_are_written_with_the_digits_that_tell_them_apart_where_there_is_room():
    values = {"D": [[-12345.6, -11000]], "S": [[0.8912, 0.931]], "n": [[2, 8]], "c": [[0.5, 0.5]]}
    figure = figures.fig_grids({k: np.array(v) for k, v in values.items()}, [1], [4, 8], {})
    shown = [[t.get_text() for t in ax.texts] for ax in figure.axes[:3]]
    assert shown == [["−12,346", "−11,000"], ["0.891", "0.931"], ["2", "8"]]
    assert not call("fig_grids, full").axes[0].texts


def test_a_rate_distortion_line_joins_the_means_of_one_number_of_latents():
    rate = np.arange(12.0).reshape(2, 3, 2)
    figure = figures.fig_rate_distortion(rate, -rate, [1, 3], [4, 8, 16], {"chosen": (3, 8)})
    whole, one = figure.axes[:2]
    means = [line for line in whole.lines if line.get_linestyle() == "-" and line.get_lw() > 1]
    joined = [line.get_xdata().tolist() for line in means]
    assert joined == [[0.5, 6.5], [2.5, 8.5], [4.5, 10.5]]
    assert len({line.get_marker() for line in means}) == 3
    chord = [line.get_xdata().tolist() for line in one.lines if line.get_linestyle() == "--"]
    assert chord == [[2.5, 8.5]]
    assert [c.get_offsets().tolist() for c in whole.collections] == [[[8.5, -8.5]]]
    values = np.random.default_rng(2).random((3, 4, 2))
    whole = figures.fig_rate_distortion(values, values, [1, 3, 10], DIMS, {}).axes[0]
    thin = [line for line in whole.lines if line.get_lw() < 1]  # where D + R is constant
    slopes = [np.diff(line.get_ydata()) / np.diff(line.get_xdata()) for line in thin]
    assert len(slopes) > 2 and np.allclose(slopes, -1)


def test_the_knee_stands_on_the_mean_and_the_chord_joins_fitted_ends():
    curve = np.array([[9.0, 11], [4, 6], [np.nan, 3], [2, np.nan], [np.nan, np.nan]])
    dims, share = [2, 4, 5, 8, 16], np.array([0, 1.0, 0, 0, 0])
    figure = figures.fig_knee(dims, {"VAE": curve}, {"VAE": 4.0}, {"VAE": share}, ylabel="Loss")
    above, below = figure.axes
    (chord,) = [line for line in above.lines if line.get_color() == "#6E6E6E"]
    assert chord.get_xydata().tolist() == [[2, 10], [8, 2]]
    assert with_marker(above, "o")[0].tolist() == [[4, 5]]
    assert [bar.get_height() for bar in below.patches] == share.tolist()
    assert {bar.get_alpha() for bar in below.patches} == {None}


def test_a_curve_without_a_knee_says_so_and_why_nothing_more_is_known():
    unknown, nothing = np.full(3, np.nan), np.full((3, 2), np.nan)
    for values, shares, said in (
        (rng.random((3, 1)), unknown, "one fit at a point"),
        (np.r_[nothing[:1], rng.random((2, 2))], unknown, "fewer than three L fitted"),
        (nothing, unknown, "fewer than three L fitted"),
        (rng.random((3, 3)), np.array([0, 0.6, 0]), None),
    ):
        one = {"VAE": values}, {"VAE": np.nan}, {"VAE": shares}
        above, below = figures.fig_knee([2, 4, 8], *one, ylabel="Loss").axes
        assert above.get_title(loc="left") == "VAE: no knee"
        assert [t.get_text().split(":")[0] for t in below.texts] == ([said] if said else [])
        assert [bar.get_alpha() for bar in below.patches] == ([] if said else [0.35] * 3)


def test_columns_of_one_quantity_can_share_their_axis():
    curves, flat = {"VAE": np.ones((3, 1)), "PCA": 9 * np.eye(3)}, np.full(3, np.nan)
    none = dict.fromkeys(curves, np.nan), dict.fromkeys(curves, flat)
    figure = figures.fig_knee([2, 4, 8], curves, *none, ylabel="y", share_y=True)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


# ---- fields ----


def test_each_latent_has_its_line_in_the_panel_of_each_region():
    codes = rng.normal(size=(4, 2, N, L))
    codes[2, 1, :, 1] += 100
    figure = figures.fig_s3(codes, ROIS, np.array([[0.5, 1.5]] * 4))
    panels = [ax for ax in figure.axes if ax.get_visible()][:4]
    assert [ax.get_title().split(",")[0] for ax in panels] == ROIS
    assert ticks(panels[0].yaxis) == ["F1", "F2", "F3"]
    for region, ax in enumerate(panels):
        curves = [line for line in ax.lines if len(line.get_xdata()) > 2]
        assert len(curves) == 2 * L
        for k, line in enumerate(curves):
            x, y = line.get_data()
            assert y.min() >= -(k // 2) and y.max() <= 0.9 - k // 2 + 1e-9
            assert (x[y.argmax()] > 50) == (region == 2 and k == 3)
    still = figures.fig_s3(np.zeros((1, 2, N, 1)), ["TH"], np.array([[0.5, 1.5]]))
    assert [list(line.get_xdata()) for line in still.axes[0].lines[:2]] == [[0, 0], [0, 0]]


def test_a_curve_is_the_density_of_one_weight_and_a_latent_that_never_moves_a_line():
    codes = np.stack([rng.normal(at, 1, (400, 1)) for at in (0, 5)])
    ax = figures.fig_3c(codes, [4], np.array([0.5, 1.5]), "TH").axes[0]
    peaks = {to_hex(c.get_color()): c.get_xdata()[c.get_ydata().argmax()] for c in ax.lines}
    low, high = (to_hex(c) for c in matplotlib.colormaps["viridis"]([0.0, 1.0]))
    assert abs(peaks[low] - 0) < 0.5 and abs(peaks[high] - 5) < 0.5
    areas = [np.trapezoid(c.get_ydata(), c.get_xdata()) for c in ax.lines]
    assert np.allclose(areas, 1, atol=0.01)
    ax = figures.fig_3c(np.zeros((2, N, 1)), [4], np.array([0.5, 1.5]), "TH").axes[0]
    assert [line.get_xdata() for line in ax.lines] == [[0, 0], [0, 0]]


def test_sums_that_differ_a_hundredfold_are_on_a_logarithmic_axis():
    shares = rng.random((4, L))
    near, far = ([1.5, 22.25, 3, 4], [0.01, 1376.0, 3, 4])
    bars, dots = (figures.fig_3b(shares, ROIS, np.array(s)).axes[1] for s in (near, far))
    assert (bars.get_xscale(), dots.get_xscale()) == ("linear", "log")
    assert [bar.get_width() for bar in bars.patches] == near
    assert np.array_equal(dots.lines[0].get_xdata(), far) and not dots.patches
    assert [t.get_text() for t in dots.texts] == ["0.01", "1,380", "3", "4"]


def test_a_profile_is_shares_and_many_regions_have_numbers_only_where_they_are_large():
    profile = np.r_[[0.9], np.full(11, 0.1 / 11)][None]
    few = figures.fig_region_profile(profile[:, :4], ROIS).axes[0]
    many = figures.fig_region_profile(profile, [f"R{i}" for i in range(12)]).axes[0]
    assert [t.get_text() for t in many.texts if t.get_text()] == ["0.90"] and len(few.texts) == 4
    np.testing.assert_allclose(table_of(few), profile[:, :4].T / profile[:, :4].sum())
    still = figures.fig_region_profile(np.zeros((1, 4)), ROIS, np.ones((4, 1)))
    assert not table_of(still.axes[0]).any() and np.allclose(table_of(still.axes[1]), 0.25)


def test_a_perturbed_region_is_outlined_where_it_is_known():
    base = np.broadcast_to(grey(), (4, 2, H, W)).copy()
    base[:, 1][masks()] *= 0.5
    changed, other = (figures.fig_s2(i, ROIS, np.ones((4, 2)), 50.0) for i in (base, grey(4, 2)))
    assert all(len(ax.collections) == 1 for ax in changed.axes)
    assert not any(ax.collections for ax in other.axes)


def test_a_traversals_changes_from_the_image_at_zero_stand_beside_it():
    images = grey(L, 3)
    axes = np.reshape(figures.fig_s4(images, [-2, 0, 2], 50.0).axes[:-1], (L, 5))
    assert [ax.get_title() for ax in axes[0]] == [
        "c = −2", "c = 0", "c = +2", "change at −2", "change at +2",
    ]  # fmt: skip
    for row, of_latent in zip(axes, images, strict=True):
        shown = [ax.images[0].get_array() for ax in row]
        np.testing.assert_allclose(shown[:3], of_latent)
        np.testing.assert_allclose(shown[3:], of_latent[[0, 2]] - of_latent[1], rtol=1e-6)
        assert [ax.images[0].get_cmap().name for ax in row] == ["gray"] * 3 + ["RdBu_r"] * 2


def test_a_legend_tells_of_stars_only_where_there_are_some():
    image = rng.random((L, H, W, 3))
    for starred in (np.zeros(L, bool), np.arange(L) == 1):
        figure = figures.fig_3a(image, np.ones(3), starred, 50.0, BRAIN)
        (title,) = [legend.get_title().get_text() for legend in figure.legends]
        assert ("★" in title) == starred.any()
        assert [("★" in ax.get_title()) for ax in figure.axes[:L]] == starred.tolist()


def test_correlations_are_from_minus_one_to_one_without_their_diagonal():
    found = {k: np.corrcoef(rng.random((L, 9))) for k in ("six", "all")}
    found["all"][1] = found["all"][:, 1] = np.nan
    axes = figures.fig_3d(found).axes[:2]
    for ax, table in zip(axes, found.values(), strict=True):
        assert ax.collections[0].get_clim() == (-1, 1)
        np.testing.assert_array_equal(table_of(ax), np.where(np.eye(L) > 0, np.nan, table))
    assert "−0.0" not in [t.get_text() for ax in axes for t in ax.texts]


def test_a_score_stands_between_its_two_chances_with_its_interval():
    names = [*MODELS, "one of my own"]
    table, chance = scored(names)
    table["value"] += np.linspace(-0.2, 0.2, len(table))
    table[["low", "high"]] = table[["value"]].to_numpy() + [[-0.1, 0.2]]
    figure = figures.fig_3e(table, chance)
    figure.draw_without_rendering()
    for ax, (over, of) in zip(figure.axes, table.groupby("over", sort=False), strict=True):
        points = [line.get_xydata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
        assert np.allclose(points, list(enumerate(of["value"])))
        ends = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 2]
        assert np.allclose(ends, of[["low", "high"]])
        lines = [c for c in ax.collections if isinstance(c, LineCollection)]
        medians = [c.get_segments()[0].mean(axis=0) for c in lines]
        draws = chance[chance["over"] == over].groupby(["model", "kind"])["value"].median()
        sides = ((-0.18, "permuted"), (0.18, "rotated"))
        wanted = [(x + s, draws[name, kind]) for x, name in enumerate(names) for s, kind in sides]
        assert np.allclose(medians, wanted) and ax.get_ylim() == (0, 1)
    assert figure.get_figwidth() <= WIDTH


def test_fields_hold_the_tables_on_one_scale_and_hatch_what_was_not_read():
    tables = {"a": rng.random((4, L)), "b": 9 * rng.random((4, L))}
    tables["a"][1, 1] = np.nan
    axes = figures.fig_fields(tables, ROIS, "Shift (SD)").axes
    for ax, table in zip(axes, tables.values(), strict=False):
        assert np.array_equal(table_of(ax), table, equal_nan=True)
        assert ax.collections[0].get_clim() == (0, tables["b"].max())
        assert ax.patch.get_hatch()
    assert ticks(axes[0].yaxis) == ROIS and ticks(axes[0].xaxis) == ["F1", "F2", "F3"]
    assert all(ticks(call("fig_fields, many").axes[0].yaxis))


def test_regions_stand_beside_their_own_blobs():
    totals, ends, others, names, label = blobs()
    ax = figures.fig_against_blobs(totals, ends, others, names, label).axes[0]
    assert np.array_equal(np.concatenate(with_marker(ax, "D")), np.c_[totals, range(4)])
    for row, dots in enumerate(with_marker(ax, "o")):
        assert np.array_equal(dots[:, 0], others[row]) and np.abs(dots[:, 1] - row).max() < 0.3
    assert [d[:, 0].tolist() for d in with_marker(ax, "None")] == ends.tolist()
    medians = [s[:, 0] for s in ax.collections[0].get_segments()]
    assert np.allclose(medians, np.median(others, axis=1)[:, None])
    above = [f"above {100 * np.mean(b < t):.0f} %" for b, t in zip(others, totals, strict=True)]
    assert [t.get_text() for t in ax.texts] == above
    assert ticks(ax.yaxis) == ROIS and ax.yaxis_inverted() and ax.get_xscale() == "log"
    zero = figures.fig_against_blobs(np.zeros(2), np.zeros((2, 2)), np.zeros((2, N)), "ab", "E")
    assert zero.axes[0].get_xscale() == "linear"


def test_agreement_is_drawn_of_each_with_each_and_with_itself():
    found, ends = agreement()
    matrix, ax = figures.fig_agreement(found, ends).axes[:2]
    assert np.array_equal(table_of(matrix), found)
    assert matrix.collections[0].get_clim() == (-1, 1)
    assert [p.get_xy() for p in matrix.patches] == [(k, k) for k in range(L)]
    assert np.array_equal(np.concatenate(with_marker(ax, "o")), np.c_[np.diag(found), range(L)])
    others = np.stack([d[:, 0] for d in with_marker(ax, "|")], axis=1)
    assert np.array_equal(others[~np.eye(L, dtype=bool)], found[~np.eye(L, dtype=bool)])
    assert np.isnan(np.diag(others)).all()
    assert np.array_equal([d[:, 0] for d in with_marker(ax, "None")[:L]], ends)
    assert ticks(ax.yaxis) == ["F1", "F2", "F3"]


def test_a_latent_that_was_left_out_keeps_its_number():
    found, ends = agreement()
    found[1], found[:, 1], ends[1] = np.nan, np.nan, np.nan
    figure = figures.fig_agreement(found, ends)
    figure.draw_without_rendering()
    assert "left out" in words(figure) and ticks(figure.axes[1].yaxis) == ["F1", "F2", "F3"]


def test_latents_that_come_back_stand_beside_random_axes():
    found, chance = fits(n=3)
    figure = figures.fig_stability(found, chance)
    for ax, name in zip(figure.axes, found, strict=True):
        assert ticks(ax.xaxis) == [str(k + 1) for k in range(L)]
        drawn = np.stack([line.get_ydata() for line in ax.lines])
        assert np.array_equal(drawn, np.sort(found[name], axis=1)[:, ::-1])
        assert {line.get_color() for line in ax.lines} == {LOOKS[name][0]}
        ranked = np.sort(chance[name], axis=1)[:, ::-1]
        ends = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches]
        np.testing.assert_allclose(ends, np.quantile(ranked, [0.025, 0.975], axis=0).T)
        assert {line.get_marker() for line in ax.lines} == set("osD")
    assert {"pair 1", "pair 3"} <= set(words(figure))
    nothing = figures.fig_stability({}, {})
    assert "one fit of each model" in words(nothing) and not nothing.axes


# ---- what was planted ----


def test_boxes_stand_where_a_factor_has_a_latent_and_marks_where_fields_are_right():
    found = recovery()
    ax = figures.fig_planted({"β-VAE": found}, FACTORS).axes[0]
    assert np.array_equal(table_of(ax), found.r2)
    assert ax.collections[0].get_clim() == (0, 1)
    assert [p.get_xy() for p in ax.patches] == [(1, 0)]
    marks = {t.xy[0]: t.get_text() for t in ax.texts if hasattr(t, "xy")}
    assert marks == {0.5: "R", 1.5: "", 2.5: "RP", 3.5: "P", 4.5: "RP"}
    labels = ["Brightness HPF", "AP position", "Width", "Illumination", "Contrast"]
    assert ticks(ax.yaxis) == ["F1", "F2", "F3"] and ticks(ax.xaxis) == labels


def test_no_number_below_a_half_is_written_as_a_half():
    found = recovery(2)
    found.r2[:, :2] = [[0.497, 0.4996], [0.5, 0.494]]
    numbers = [t.get_text() for t in figures.fig_planted({"a": found}, FACTORS).axes[0].texts]
    assert {"0.497", "0.499", "0.50", "0.49"} <= set(numbers) and numbers.count("0.50") == 1


def shown_maps(figure, shape):
    axes = [ax for ax in figure.axes if ax.images and ax.get_visible()]
    return np.reshape(axes[: np.prod(shape)], shape)


@pytest.mark.parametrize(("scale", "one_scale", "own"), [
    (1, False, False), (2, True, False), (9, True, True), (100, True, True),
])  # fmt: skip
def test_maps_are_standard_deviations_on_their_own_or_the_rows_scale(scale, one_scale, own):
    maps = {"c < 0": variances(2), "c > 0": variances(2), "all c": variances(2, scale)}
    figure = figures.fig_maps(maps, ["F1", "F2"], 50.0, BRAIN, one_scale=one_scale)
    for row, of_row in enumerate(shown_maps(figure, (2, 3))):
        tops = [ax.images[0].get_clim()[1] for ax in of_row]
        assert (tops[0] == tops[1]) == one_scale and (tops[2] > 2 * tops[1]) == own
        for ax, found in zip(of_row, maps.values(), strict=True):
            np.testing.assert_allclose(ax.images[0].get_array(), np.sqrt(found[row]), rtol=1e-6)
            if not one_scale:
                top = np.quantile(np.sqrt(found[row]), 0.998)
                assert ax.images[0].get_clim() == (0, pytest.approx(top))
    assert ("all c (own scale)" in words(figure)) == own
    white = figures.fig_maps({"a": np.zeros((1, H, W))}, ["F1"], 50.0, BRAIN)
    assert white.axes[0].images[0].get_clim() == (0, 1)


def test_notes_and_names_are_on_the_right_map_in_two_blocks():
    maps = {"planted": variances(7), "PCA": variances(7)}
    names = [*FACTORS, "height", "brightness_TH"]
    notes = {"PCA": [f"note {k}" for k in range(7)]}
    figure = figures.fig_maps(maps, names, 50.0, BRAIN, notes=notes)
    seen, of_row = {}, {}
    for ax in shown_maps(figure, (14,)):
        image = ax.images[0].get_array()
        (at,) = [
            (k, r)
            for k in maps
            for r in range(7)
            if np.allclose(image, np.sqrt(maps[k][r]), rtol=1e-6)
        ]
        seen[at] = [t.get_text() for t in ax.texts if "mm" not in t.get_text()]
        of_row[at] = ax.get_ylabel()
    assert all(seen["PCA", k] == [f"note {k}"] and not seen["planted", k] for k in range(7))
    labels = ["Brightness\nHPF", "AP\nposition", "Width", "Illumination", "Contrast", "Height"]
    assert [of_row["planted", k] for k in range(7)] == [*labels, "Brightness\nTH"]
    assert {of_row["PCA", k] for k in range(7)} == {""}
    assert sorted(ax.get_title() for ax in figure.axes if ax.get_title()) == [
        "PCA",
        "PCA",
        "planted",
        "planted",
    ]


# ---- cohort and quality ----


def bars_of(ax):
    return [p for p in ax.patches if p.get_width() > 0]


def test_every_brain_is_counted_once_and_outliers_are_marked_where_they_lie():
    z, is_outlier, limit = z_scores()
    for ax, name in zip(figures.fig_quality(z, is_outlier, limit).axes, z, strict=True):
        assert sum(p.get_height() for p in bars_of(ax)) == len(z) - 1
        assert [m[:, 0].tolist() for m in with_marker(ax, "v")] == [[z.loc[7, name]]]
        assert limit in [x for line in ax.lines for x in line.get_xdata()]
    ax = figures.fig_quality(pd.DataFrame({"gain": [-20.0, 40.0]}), np.ones(2, bool), limit).axes[0]
    assert with_marker(ax, "v")[0][:, 0].tolist() == [-20, 40]
    alike = figures.fig_quality(pd.DataFrame(np.zeros((1, 3)), columns=list("abc")), [False], limit)
    assert "Outlier" not in words(alike)
    assert [ax.get_visible() for ax in alike.axes] == [True, True, True, False]


def test_no_bar_stands_on_both_sides_of_a_limit_and_the_lower_one_is_drawn_where_it_matters():
    z, _, limit = z_scores(12)
    z.loc[3, "gain"] = -30
    figure = figures.fig_quality(z, (z.abs() > limit).any(axis=1), limit)
    for ax in figure.axes:
        for bar in bars_of(ax):
            left, right = bar.get_x(), bar.get_x() + bar.get_width()
            assert not any(left + 1e-9 < at < right - 1e-9 for at in (limit, -limit))
    below = [-limit in [x for line in ax.lines for x in line.get_xdata()] for ax in figure.axes]
    assert below == [False, False, False, True]


def test_the_worst_are_named_with_their_reasons():
    figure = call("fig_worst")
    notes = [t.get_text() for ax in figure.axes for t in ax.texts if "mm" not in t.get_text()]
    assert notes == ["difference,\nmissing", "gain", *["within the limit"] * 3]
    assert [ax.get_title() for ax in figure.axes[:5]] == list("abcde")
    assert [bool(ax.images) for ax in figure.axes] == [True] * 5 + [False] * 3


@pytest.mark.parametrize(("kept", "refused"), [(0, {}), (9, {}), (12, {"rare": 1, "no volume": 2})])
def test_the_ledger_counts_every_reason_the_most_frequent_first(kept, refused):
    ax = figures.fig_ledger(kept, refused).axes[0]
    assert [b.get_width() for b in ax.patches] == [kept, *sorted(refused.values(), reverse=True)]
    assert ticks(ax.yaxis) == ["Kept", *(["No volume", "Rare"] if refused else [])]
    assert ax.yaxis_inverted()
