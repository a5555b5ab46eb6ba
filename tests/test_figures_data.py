"""Figures: known answers, read from what their artists hold."""

from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from test_figures import (
    BRAIN,
    FACTORS,
    GRID,
    KIND_MODEL_L,
    MODELS,
    ROIS,
    H,
    L,
    N,
    W,
    blobs,
    call,
    estimate,
    fits,
    grey,
    masks,
    recovery,
    rows,
    scored,
    table_of,
    ticks,
    variances,
    with_marker,
    z_scores,
)  # fmt: skip

from brainvae_core import figures
from brainvae_core.figures.style import LOOKS, model_looks

rng = np.random.default_rng(0)


def test_recurring_names_keep_their_colours_and_none_has_another_s():
    names = ["nearest brain", "PCA, L = 30", "mean image", "PCA", "probabilistic PCA", "own"]
    looks = model_looks(names)
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == len(names)
    assert all(tuple(model_looks([name])[name].values()) == LOOKS[name] for name in MODELS)
    random = model_looks(["β-VAE, random axes", "β-VAE"])
    random, model = random.values()
    assert random["mfc"] == "white" and random["mec"] == random["color"] == model["color"]


def test_a_line_joins_the_values_of_a_model_and_its_band_is_the_interval():
    by_model = {"VAE": {4: estimate(0.5), 2: estimate(0.25)}, "PCA": {2: estimate(0.75)}}
    table = rows(by_model, "model", "latent_dim")
    ax = figures.fig_2c(table, rows({}, "model"), "CW-SSIM").axes[0]
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[2, 0.25], [4, 0.5]], [[2, 0.75]]]
    band = ax.collections[0].get_paths()[0].vertices
    assert {(x, round(y, 3)) for x, y in band} >= {(2, 0.15), (2, 0.45), (4, 0.4), (4, 0.7)}


def test_a_logarithmic_axis_holds_the_lines_of_every_panel_and_zero_has_none():
    zero = rows({"R": {"PCA": {2: estimate(0.0), 4: estimate(1.0)}}}, *KIND_MODEL_L)
    assert figures.fig_2d(zero, None).axes[0].get_yscale() == "linear"
    near, far = {"PCA": {2: estimate(1.0), 8: estimate(2.0)}}, {"PCA": {2: estimate(50.0)}}
    axes = figures.fig_2d(rows({"near": near, "far": far}, *KIND_MODEL_L), None).axes
    assert all(ax.get_yscale() == "log" and ax.get_ylim()[1] > 50 for ax in axes)


def test_a_grown_fit_shows_the_loss_of_its_last_size_and_marks_where_it_grew():
    loss, *others = call("fig_training, grown").axes
    courses = [line for line in loss.lines if line.get_marker() in "sD"]
    assert [line.get_xdata().tolist() for line in courses] == [[300, 400]] * 2
    assert [line.get_xdata()[0] for line in loss.lines if line.get_linestyle() == ":"] == [200]
    for ax in others:
        assert ax.lines[0].get_xdata().tolist() == [100, 200, 300, 400]


def test_a_difference_that_may_be_none_is_not_filled():
    found = {"a": estimate(0.5), "b": estimate(0.05), "c": estimate(-1)}
    ax = figures.fig_differences(rows(found, "model"), "Difference").axes[0]
    marks = [line for line in ax.lines if line.get_marker() not in ("None", "")]
    assert [line.get_mfc() != "white" for line in marks] == [True, False, True]
    assert ticks(ax.yaxis) == ["a", "b", "c"]
    judged = rows(found, "model").assign(sure=[False, False, True])
    ax = figures.fig_differences(judged, "Difference").axes[0]
    marks = [line for line in ax.lines if line.get_marker() not in ("None", "")]
    assert [line.get_mfc() != "white" for line in marks] == [False, False, True]


def test_differences_stand_beside_their_sections():
    truth, dirty, answer = grey(2), grey(2), grey(2)
    figure = figures.fig_2b(truth, dirty, {"PCA": answer}, ["Leak", "Grid"], 50.0, masks(2))
    shown = [ax.images[0].get_array() for ax in figure.axes[:12]]
    wanted = [i for images in (truth, dirty, answer) for i in (*images, *(images - truth))]
    assert np.array_equal(shown, wanted)


def test_both_marks_stand_on_their_cells_in_every_panel():
    values = {"R": np.arange(6.0).reshape(2, 3), "D": np.ones((2, 3))}
    values = {name: pd.DataFrame(of, [1, 3], [4, 8, 16]) for name, of in values.items()}
    figure = figures.fig_grids(values, {"chosen": (3, 4), "the paper's": (1, 16)})
    for ax, table in zip(figure.axes, values.values(), strict=False):
        assert np.array_equal(table_of(ax), table)
        centres = [np.add(p.get_xy(), p.get_width() / 2) for p in ax.patches if not p.get_fill()]
        assert np.allclose(centres, [(0.5, 1.5), (2.5, 0.5)])
        assert not ax.yaxis_inverted()  # β rises


def test_the_knee_stands_on_the_mean_and_the_chord_joins_fitted_ends():
    curve = np.array([[9.0, 11], [4, 6], [np.nan, 3], [2, np.nan], [np.nan, np.nan]])
    dims, share = [2, 4, 5, 8, 16], np.array([0, 1.0, 0, 0, 0])
    rows = pd.DataFrame({"model": "VAE", "latent_dim": np.repeat(dims, 2), "value": curve.ravel()})
    knee = SimpleNamespace(points=dims, at=4.0, shares=share)
    figure = figures.fig_knee(rows, {"VAE": knee}, ylabel="Loss")
    above, below = figure.axes
    (chord,) = [line for line in above.lines if line.get_color() == "#6E6E6E"]
    assert chord.get_xydata().tolist() == [[2, 10], [8, 2]]
    assert with_marker(above, "o")[0].tolist() == [[4, 5]]
    assert [bar.get_height() for bar in below.patches] == share.tolist()


def test_each_latent_has_its_line_in_the_panel_of_each_region():
    codes = rng.normal(size=(4, 2, N, L))
    codes[2, 1, :, 1] += 100
    figure = figures.fig_s3(codes, ROIS, np.array([[0.5, 1.5]] * 4))
    panels = [ax for ax in figure.axes if ax.get_visible()][:4]
    for region, ax in enumerate(panels):
        curves = [line for line in ax.lines if len(line.get_xdata()) > 2]
        for k, line in enumerate(curves):
            x, y = line.get_data()
            assert (x[y.argmax()] > 50) == (region == 2 and k == 3)
        assert len(curves) == 2 * L


def test_a_curve_is_the_density_of_one_weight():
    codes = np.stack([rng.normal(at, 1, (400, 1)) for at in (0, 5)])
    ax = figures.fig_3c(codes, [4], np.array([0.5, 1.5]), "TH").axes[0]
    curves = {to_hex(c.get_color()): c.get_data() for c in ax.lines[:2]}
    peaks = {colour: x[y.argmax()] for colour, (x, y) in curves.items()}
    low, high = (to_hex(c) for c in matplotlib.colormaps["viridis"]([0.0, 1.0]))
    assert abs(peaks[low] - 0) < 0.5 and abs(peaks[high] - 5) < 0.5


def test_a_profile_is_shares_and_of_nothing_is_nothing():
    profile = rng.random((1, 4))
    ax = figures.fig_region_profile(profile, ROIS).axes[0]
    np.testing.assert_allclose(table_of(ax), profile.T / profile.sum())
    still = figures.fig_region_profile(np.zeros((1, 4)), ROIS, np.ones((4, 1)))
    assert not table_of(still.axes[0]).any() and np.allclose(table_of(still.axes[1]), 0.25)


def test_a_traversals_changes_from_the_image_at_zero_stand_beside_it():
    images = grey(L, 3)
    axes = np.reshape(figures.fig_s4(images, [-2, 0, 2], 50.0).axes[:-1], (L, 5))
    for row, of_latent in zip(axes, images, strict=True):
        shown = [ax.images[0].get_array() for ax in row]
        np.testing.assert_allclose(shown[:3], of_latent)
        np.testing.assert_allclose(shown[3:], of_latent[[0, 2]] - of_latent[1], rtol=1e-6)


def test_a_starred_latent_has_a_star():
    figure = figures.fig_3a(rng.random((L, H, W, 3)), np.ones(3), np.arange(L) == 1, 50.0, BRAIN)
    assert ["★" in ax.get_title() for ax in figure.axes[:L]] == [False, True, False]


def test_correlations_are_from_minus_one_to_one_without_their_diagonal():
    found = {k: np.corrcoef(rng.random((L, 9))) for k in ("six", "all")}
    found["all"][1] = found["all"][:, 1] = np.nan
    axes = figures.fig_3d(found).axes[:2]
    for ax, table in zip(axes, found.values(), strict=True):
        assert ax.collections[0].get_clim() == (-1, 1)
        np.testing.assert_array_equal(table_of(ax), np.where(np.eye(L) > 0, np.nan, table))


def test_a_score_stands_between_its_two_chances_with_its_interval():
    names = [*MODELS, "one of my own"]
    table, chance = scored(names)
    table["value"] += np.linspace(-0.2, 0.2, len(table))
    table[["low", "high"]] = table[["value"]].to_numpy() + [[-0.1, 0.2]]
    figure = figures.fig_3e(table, chance)
    for ax, (over, of) in zip(figure.axes, table.groupby("over", sort=False), strict=True):
        points = [line.get_xydata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
        assert np.allclose(points, list(enumerate(of["value"])))
        ends = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 2]
        assert np.allclose(ends, of[["low", "high"]])
        lines = [c for c in ax.collections if isinstance(c, LineCollection)]
        medians = [c.get_segments()[0].mean(axis=0)[1] for c in lines]
        draws = chance[chance["over"] == over].groupby(["model", "kind"])["value"].median()
        assert np.allclose(medians, [draws[n, k] for n in names for k in ("permuted", "rotated")])


def test_regions_stand_beside_their_own_blobs():
    totals, ends, others, names, label = blobs()
    ax = figures.fig_against_blobs(totals, ends, others, names, label).axes[0]
    assert np.array_equal(np.concatenate(with_marker(ax, "D")), np.c_[totals, range(4)])
    for row, dots in enumerate(with_marker(ax, "o")):
        assert np.array_equal(dots[:, 0], others[row]) and np.abs(dots[:, 1] - row).max() < 0.3
    above = [f"above {100 * np.mean(b < t):.0f} %" for b, t in zip(others, totals, strict=True)]
    assert [t.get_text() for t in ax.texts] == above and ticks(ax.yaxis) == ROIS


def test_boxes_stand_where_a_factor_has_a_latent_and_marks_where_fields_are_right():
    found = recovery()
    ax = figures.fig_planted({"β-VAE": found}, FACTORS).axes[0]
    assert np.array_equal(table_of(ax), found.r2)
    assert [p.get_xy() for p in ax.patches] == [(1, 0)]
    marks = {t.xy[0]: t.get_text() for t in ax.texts if hasattr(t, "xy")}
    assert marks == {0.5: "R", 1.5: "", 2.5: "RP", 3.5: "P", 4.5: "RP"}


def test_every_brain_is_counted_once_and_outliers_are_marked_where_they_lie():
    z, is_outlier, limit = z_scores()
    for ax, name in zip(figures.fig_quality(z, is_outlier, limit).axes, z, strict=True):
        assert sum(p.get_height() for p in ax.patches if p.get_width() > 0) == len(z) - 1
        assert [m[:, 0].tolist() for m in with_marker(ax, "v")] == [[z.loc[7, name]]]
        assert limit in [x for line in ax.lines for x in line.get_xdata()]
    z, is_outlier, limit = z_scores(extreme=8.4)  # beyond the limit one tick stands at least
    assert "8" in ticks(figures.fig_quality(z, is_outlier, limit).axes[1].xaxis)


def test_points_are_joined_in_the_order_of_their_names():
    turned = {"VAE": {3.0: estimate(1), 5.0: estimate(2), 4.0: estimate(3)}}
    turned = rows(turned, "model", "rate").assign(L=[2, 4, 8])
    ax = figures.fig_curves(turned, "rate", "Rate", point_labels="L").axes[0]
    assert ax.lines[0].get_xdata().tolist() == [3, 5, 4]


@pytest.mark.parametrize("n", [0, 1])
def test_a_pixel_beyond_chance_has_a_ring(n):
    p_family = np.ones((H, W))
    p_family[20, 20 : 20 + n] = 0.01
    image, maps = np.add.outer(np.hanning(H), np.hanning(W)), {"KO − WT": rng.normal(size=(H, W))}
    figure = figures.fig_group_maps(image, maps, p_family, "mean", 25.0)
    rings = [c for ax in figure.axes for c in ax.collections if c.get_linewidths()[0] > 1]
    assert len(rings) == n


def test_a_rate_distortion_line_joins_the_means_of_one_number_of_latents():
    every = pd.MultiIndex.from_product([[1, 3], [4, 8, 16], [0, 1]], names=GRID)
    fits = pd.DataFrame({"rate": np.arange(12.0)}, every)
    fits["distortion"] = -fits["rate"]
    figure = figures.fig_rate_distortion(fits, {"chosen": (3, 8.0)})
    whole, one = figure.axes[:2]
    assert one.get_title(loc="left").endswith("L = 8 alone, and its chord")
    joined = [line.get_xdata().tolist() for line in whole.lines if line.get_linestyle() == "-"]
    assert joined == [[0.5, 6.5], [2.5, 8.5], [4.5, 10.5]]
    chord = [line.get_xdata().tolist() for line in one.lines if line.get_linestyle() == "--"]
    assert chord == [[2.5, 8.5]]
    assert [c.get_offsets().tolist() for c in whole.collections] == [[[8.5, -8.5]]]


def test_latents_that_come_back_stand_beside_random_axes():
    found, chance = fits()
    for ax, name in zip(figures.fig_stability(found, chance).axes, found, strict=True):
        drawn = np.stack([line.get_ydata() for line in ax.lines])
        assert np.array_equal(drawn, np.sort(found[name], axis=1)[:, ::-1])
        ranked = np.sort(chance[name], axis=1)[:, ::-1]
        ends = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches]
        np.testing.assert_allclose(ends, np.quantile(ranked, [0.025, 0.975], axis=0).T)
    assert not figures.fig_stability({}, {}).axes


@pytest.mark.parametrize("one_scale", [False, True])
def test_maps_are_standard_deviations_on_their_own_or_the_rows_scale(one_scale):
    maps = {"c < 0": variances(7), "c > 0": variances(7)}
    names = [*FACTORS, "height", "brightness_TH"]
    notes = {"c > 0": [f"note {k}" for k in range(7)]}
    figure = figures.fig_maps(maps, names, 50.0, BRAIN, notes=notes, one_scale=one_scale)
    axes = [ax for ax in figure.axes if ax.images and ax.get_visible()]
    for of_row in zip(axes[::2], axes[1::2], strict=True):
        row = int([t.get_text() for t in of_row[1].texts if "note" in t.get_text()][0].split()[1])
        tops = [ax.images[0].get_clim()[1] for ax in of_row]
        assert (tops[0] == tops[1]) == one_scale
        for ax, found in zip(of_row, maps.values(), strict=True):
            np.testing.assert_allclose(ax.images[0].get_array(), np.sqrt(found[row]), rtol=1e-6)
