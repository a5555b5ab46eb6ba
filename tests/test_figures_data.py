"""Figures: known answers, read from what their artists hold."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text
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
    masks,
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


def test_a_distance_of_zero_has_no_logarithm_and_each_number_of_latents_a_tick():
    near = rows({"R": {"PCA": {2: estimate(0.0), 4: estimate(1.0)}}}, *KIND_MODEL_L)
    assert figures.fig_2d(near, None).axes[0].get_yscale() == "linear"
    figure = figures.fig_2d(rows({"R": {"PCA": curve()}}, *KIND_MODEL_L), None)
    assert figure.axes[0].get_yscale() == "log"
    assert ticks(figure.axes[0].xaxis) == [str(d) for d in DIMS]
    many = rows({"R": {"PCA": curve(range(60, 7000, 700))}}, *KIND_MODEL_L)
    assert "1,000" in ticks(figures.fig_2d(many, None).axes[0].xaxis)  # round numbers


def test_a_shared_logarithmic_axis_holds_the_lines_of_every_panel():
    near, far = {"PCA": {2: estimate(1.0), 8: estimate(2.0)}}, {"PCA": {2: estimate(50.0)}}
    axes = figures.fig_2d(rows({"near": near, "far": far}, *KIND_MODEL_L), None).axes
    assert all(ax.get_yscale() == "log" and ax.get_ylim()[1] > 50 for ax in axes)


def test_a_grown_fit_shows_the_loss_of_its_last_size_and_marks_where_it_grew():
    loss, *others = call("fig_training, grown").axes
    courses = [line for line in loss.lines if line.get_marker() in "sD"]
    assert [line.get_xdata().tolist() for line in courses] == [[300, 400]] * 2
    assert loss.get_ylim()[1] < -8e3
    assert [line.get_xdata()[0] for line in loss.lines if line.get_linestyle() == ":"] == [200]
    assert [patch.get_width() for patch in loss.patches] == [300]  # where β rises
    for ax in others:
        assert ax.lines[0].get_xdata().tolist() == [100, 200, 300, 400]
    alone = call("fig_training").axes[0]
    assert alone.lines[0].get_xdata().tolist() == [100, 200, 300, 400]


def test_a_difference_that_may_be_none_is_not_filled():
    found = {"a": estimate(0.5), "b": estimate(0.05), "c": estimate(-1)}
    ax = figures.fig_differences(rows(found, "model"), "Difference").axes[0]
    marks = [line for line in ax.lines if line.get_marker() not in ("None", "")]
    assert [line.get_mfc() != "white" for line in marks] == [True, False, True]
    assert {line.get_color() for line in marks} == {"#222222"}  # one respect needs no colour
    assert ticks(ax.yaxis) == ["a", "b", "c"] and ax.yaxis_inverted()


def test_an_artefact_all_over_the_image_is_not_outlined():
    everywhere = np.ones((2, H, W), bool)
    everywhere[:, ::4] = False
    everywhere[0] = masks()[0]
    images = grey(2), grey(2), {"PCA": grey(2)}
    figure = figures.fig_2b(*images, ["Leak", "Grid"], 50.0, everywhere)
    outlined = [bool(ax.collections) for ax in figure.axes[:12]]
    assert outlined == 3 * [True, False, True, False]


def test_differences_stand_beside_their_sections():
    truth, dirty, answer = grey(2), grey(2), grey(2)
    figure = figures.fig_2b(truth, dirty, {"PCA": answer}, ["Leak", "Grid"], 50.0, masks(2))
    shown = [ax.images[0].get_array() for ax in figure.axes[:12]]
    wanted = [i for images in (truth, dirty, answer) for i in (*images, *(images - truth))]
    assert np.array_equal(shown, wanted)


def test_both_marks_stand_on_their_cells_in_every_panel():
    values = {"R": np.arange(6.0).reshape(2, 3), "D": np.ones((2, 3))}
    marks = {"chosen": (3, 4), "the paper's": (1, 16)}
    figure = figures.fig_grids(values, [1, 3], [4, 8, 16], marks)
    for ax, table in zip(figure.axes, values.values(), strict=False):
        assert np.array_equal(table_of(ax), table)
        centres = [np.add(p.get_xy(), p.get_width() / 2) for p in ax.patches if not p.get_fill()]
        assert np.allclose(centres, [(0.5, 1.5), (2.5, 0.5)])
        assert not ax.yaxis_inverted()  # β rises


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


def test_a_curve_without_a_knee_says_so_and_where_nothing_more_is_known():
    for values, shares, is_known in (
        (rng.random((3, 1)), np.full(3, np.nan), False),
        (np.full((3, 2), np.nan), np.full(3, np.nan), False),
        (rng.random((3, 3)), np.array([0, 0.6, 0]), True),
    ):
        one = {"VAE": values}, {"VAE": np.nan}, {"VAE": shares}
        above, below = figures.fig_knee([2, 4, 8], *one, ylabel="Loss").axes
        assert above.get_title(loc="left") == "VAE: no knee"
        said = [t.get_text() for t in below.texts]
        assert said == ([] if is_known else ["uncertainty not known"])
        assert [bar.get_alpha() for bar in below.patches] == ([0.35] * 3 if is_known else [])


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


def test_a_curve_is_the_density_of_one_weight():
    codes = np.stack([rng.normal(at, 1, (400, 1)) for at in (0, 5)])
    ax = figures.fig_3c(codes, [4], np.array([0.5, 1.5]), "TH").axes[0]
    curves = {to_hex(c.get_color()): c.get_data() for c in ax.lines[:2]}
    peaks = {colour: x[y.argmax()] for colour, (x, y) in curves.items()}
    low, high = (to_hex(c) for c in matplotlib.colormaps["viridis"]([0.0, 1.0]))
    assert abs(peaks[low] - 0) < 0.5 and abs(peaks[high] - 5) < 0.5


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


def test_agreement_is_drawn_with_a_latents_own_two_fields_framed():
    (found,) = agreement()
    found[1], found[:, 1] = np.nan, np.nan
    ax = figures.fig_agreement(found).axes[0]
    assert np.array_equal(table_of(ax), found, equal_nan=True)
    assert ax.collections[0].get_clim() == (-1, 1)
    assert [p.get_xy() for p in ax.patches] == [(k, k) for k in range(L)]


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


def test_every_brain_is_counted_once_and_outliers_are_marked_where_they_lie():
    z, is_outlier, limit = z_scores()
    for ax, name in zip(figures.fig_quality(z, is_outlier, limit).axes, z, strict=True):
        assert (
            sum(p.get_height() for p in [b for b in ax.patches if b.get_width() > 0]) == len(z) - 1
        )
        assert [m[:, 0].tolist() for m in with_marker(ax, "v")] == [[z.loc[7, name]]]
        assert limit in [x for line in ax.lines for x in line.get_xdata()]
    ax = figures.fig_quality(pd.DataFrame({"gain": [-20.0, 40.0]}), np.ones(2, bool), limit).axes[0]
    assert with_marker(ax, "v")[0][:, 0].tolist() == [-20, 40]
    alike = figures.fig_quality(pd.DataFrame(np.zeros((1, 3)), columns=list("abc")), [False], limit)
    assert "Outlier" not in words(alike)
    assert [ax.get_visible() for ax in alike.axes] == [True, True, True, False]


def test_points_are_joined_in_the_order_of_their_names_which_cover_nothing():
    at = {0.5 + k / 50: estimate(0.1 + k / 100) for k in range(6)}
    table = rows({k: at for k in MODELS}, "model", "share")
    figure = figures.fig_curves(table.assign(L=[2, "", 8, 16, 30, 100] * 3), "share", "Share",
                                point_labels="L")  # fmt: skip
    ax = figure.axes[0]
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without their threads
    points = ax.transData.transform(table[["share", "value"]])
    assert len(boxes) == 15 and not any(box.contains(*p) for box in boxes for p in points)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    turned = {"VAE": {3.0: estimate(1), 5.0: estimate(2), 4.0: estimate(3)}}
    turned = rows(turned, "model", "rate").assign(L=[2, 4, 8])
    ax = figures.fig_curves(turned, "rate", "Rate", point_labels="L").axes[0]
    assert ax.lines[0].get_xdata().tolist() == [3, 5, 4]


def test_a_pixel_beyond_chance_has_a_ring_that_can_be_seen():
    p = np.ones((320, 448))
    maps = {"KO − WT": rng.normal(size=p.shape), "decoded": rng.normal(size=p.shape)}
    clear = p.copy()
    clear[100, 100] = 0.01
    for p_family, rings in ((p, 0), (clear, 1)):
        figure = figures.fig_group_maps(np.add.outer(*map(np.hanning, p.shape)), maps, p_family,
                                        "mean", 25.0)  # fmt: skip
        black = [c for ax in figure.axes for c in ax.collections if c.get_linewidths()[0] > 1]
        assert len(black) == rings
        assert all(np.ptp(c.get_paths()[0].vertices[:, 0]) > 6 for c in black)


def test_a_rate_distortion_line_joins_the_means_of_one_number_of_latents():
    rate = np.arange(12.0).reshape(2, 3, 2)
    figure = figures.fig_rate_distortion(rate, -rate, [1, 3], [4, 8, 16], {"chosen": (3, 8)})
    whole, one = figure.axes[:2]
    joined = [line.get_xdata().tolist() for line in whole.lines if line.get_linestyle() == "-"]
    assert joined == [[0.5, 6.5], [2.5, 8.5], [4.5, 10.5]]
    chord = [line.get_xdata().tolist() for line in one.lines if line.get_linestyle() == "--"]
    assert chord == [[2.5, 8.5]]
    assert [c.get_offsets().tolist() for c in whole.collections] == [[[8.5, -8.5]]]


def test_the_sum_of_each_region_stands_beside_its_row():
    figure = figures.fig_3b(rng.random((4, L)), ROIS, np.array([0.01, 1376.0, 3, 4]))
    figure.draw_without_rendering()
    (sums,) = figure.axes[0].child_axes
    assert ticks(sums.yaxis) == ["0.01", "1,380", "3", "4"]
    assert sums.get_ylim() == figure.axes[0].get_ylim() == (4, 0)


@pytest.mark.parametrize("n", [1, 10])
def test_latents_that_come_back_stand_beside_random_axes(n):
    found, chance = fits(n=n)
    figure = figures.fig_stability(found, chance)
    for ax, name in zip(figure.axes, found, strict=True):
        drawn = np.stack([line.get_ydata() for line in ax.lines])
        assert np.array_equal(drawn, np.sort(found[name], axis=1)[:, ::-1])
        assert {line.get_color() for line in ax.lines} == {LOOKS[name][0]}
        ranked = np.sort(chance[name], axis=1)[:, ::-1]
        ends = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches]
        np.testing.assert_allclose(ends, np.quantile(ranked, [0.025, 0.975], axis=0).T)
    nothing = figures.fig_stability({}, {})
    assert "one fit of each model" in words(nothing) and not nothing.axes


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
    white = figures.fig_maps({"a": np.zeros((1, H, W))}, ["F1"], 50.0, BRAIN)
    assert white.axes[0].images[0].get_clim() == (0, 1)
