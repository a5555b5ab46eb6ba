"""The knee of a curve: known corners, closed forms, another route, and what the seeds say."""

import numpy as np
import pandas as pd
import pytest
from refusals import refused

from brainvae_core.metrics import choose_point, knee_over_seeds, model_knees
from brainvae_core.metrics import knee as module

DIMS = np.array([2, 4, 5, 8, 12, 16])


def hinge(x, corner, before=-3.0, after=-0.1):
    return np.where(x < corner, before * (x - corner), after * (x - corner))


@pytest.fixture
def resampled(monkeypatch):
    return lambda n: monkeypatch.setattr(module, "RESAMPLES", n)


def seeds(curve, n=3):
    return np.repeat(np.asarray(curve, float)[:, None], n, axis=1)


# ---- one curve ----


def knee(x, y, shape="convex falling"):
    """Of one seed, of which every bend is a knee, and its distance to the chord."""
    found = knee_over_seeds(x, np.asarray(y, float)[:, None], shape=shape)
    return found.at, found.distance


@pytest.mark.parametrize("corner", DIMS[1:-1])
def test_the_knee_of_a_corner_is_its_corner(corner):
    assert knee(DIMS, hinge(DIMS, corner))[0] == corner
    assert knee(DIMS, -hinge(DIMS, corner), shape="concave rising")[0] == corner


ROUNDED = 1e6 + 1e-4 * np.array([2, 1, 0, 0, 0, 0])


@pytest.mark.parametrize("y", [DIMS * -7.0 + 3, np.full(6, 4.2), np.full(6, 0.1) * 3, ROUNDED])
def test_a_line_and_a_constant_have_no_knee(y):
    x, distance = knee(DIMS, y)
    assert np.isnan(x) and distance == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("share", "at"), [(0.049, np.nan), (0.051, 8)])
def test_a_curve_within_5_percent_of_its_chord_has_none(share, at):
    y = -DIMS - np.where(DIMS == 8, share * np.ptp(DIMS), 0)
    np.testing.assert_allclose(knee(DIMS, y), (at, share))


@pytest.mark.parametrize("y", [[1, 0], [1, np.nan, 0], [np.nan] * 4])
def test_fewer_than_three_points_have_neither_knee_nor_distance(y):
    assert np.isnan(knee(np.arange(len(y)), y)).all()


@pytest.mark.parametrize("y", [[0, 1, 2, 3, 30, 60], [0, 9, 5, 6, 30, 60], [0, 9, 9, 0, 30, 60]])
def test_a_loss_that_only_grows_has_no_knee(y):
    x, distance = knee(DIMS, y)
    assert np.isnan(x) and distance > 0.2
    assert np.isnan(knee(DIMS, np.negative(y), shape="concave rising")[0])


def test_failed_fits_are_left_out_and_never_chosen():
    y = hinge(DIMS, 8.0)
    y[[0, 2]] = np.nan, np.inf
    assert knee(DIMS, y) == knee(DIMS[[1, 3, 4, 5]], y[[1, 3, 4, 5]])
    y[3] = np.nan
    assert knee(DIMS, y)[0] != 8
    assert knee([1, 2, 3, 4], [3, np.nan, 0, 0])[0] == 3


# ---- many seeds ----


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 5, 1, 2, 0, 4]])
def test_seeds_that_agree_leave_no_doubt_whatever_the_grids_order(order):
    found = knee_over_seeds(DIMS[order], seeds(hinge(DIMS, 8)[order]))
    assert (found.at, found.interval, found.n_seeds) == (8, (8, 8), 3)
    assert found.shares.tolist() == (DIMS[order] == 8).tolist() and found.no_knee == 0
    assert found.distance == knee(DIMS, hinge(DIMS, 8))[1]
    assert found.p_straight == 1 / 1001  # as far as none, and as the curve itself


def test_shares_are_what_counting_all_resamples_gives(resampled):
    resampled(20_000)
    # Two seeds at one point only matter: each resample has 0, 1 or 2 of the low one.
    x, values = np.array([1, 2, 3, 4]), seeds([10.0, 4.0, 1.0, 0.0], 2)
    values[1] = 8.0, -2.0
    wanted = np.zeros(4)
    for mean, share in {8.0: 0.25, 3.0: 0.5, -2.0: 0.25}.items():
        wanted[x == knee(x, [10, mean, 1, 0])[0]] += share
    found = knee_over_seeds(x, values)
    assert 0 < wanted[1] < 1
    np.testing.assert_allclose(found.shares, wanted, atol=0.015)


def test_a_point_with_one_seed_left_leaves_the_uncertainty_unknown():
    values = seeds(hinge(DIMS, 8.0))
    values[1, 0] = np.nan
    assert knee_over_seeds(DIMS, values).n_seeds == 2
    values[1, 1] = np.nan
    found = knee_over_seeds(DIMS, values)
    assert found.at == 8 and found.n_seeds == 1 and np.isnan(found.no_knee)
    values[1, 2] = np.nan  # no fit at all: the point is out, the others know
    found = knee_over_seeds(DIMS, values)
    assert found.n_seeds == 3 and found.shares[1] == 0 and found.shares[3] == 1
    none = knee_over_seeds(DIMS, np.full((6, 3), np.nan))
    assert np.isnan([none.at, none.distance, none.no_knee, none.p_straight]).all()
    assert none.n_seeds == 0


# ---- straight lines with noise ----


@pytest.mark.parametrize("slope", [0, -1 / 14])
def test_noise_and_a_line_with_noise_rarely_have_a_knee(resampled, slope):
    resampled(200)
    values = slope * DIMS[:, None] + 0.11 * np.random.default_rng(5).normal(size=(400, 6, 3))
    found = [knee_over_seeds(DIMS, v).at for v in values]
    assert np.isfinite(found).mean() <= 0.115


def test_the_null_is_what_a_loop_over_its_definition_gives(resampled):
    resampled(3000)
    rng = np.random.default_rng(8)
    x = 3 * DIMS[:, None] + rng.normal(0, 0.2, (6, 4))
    values = -0.1 * DIMS[:, None] + hinge(DIMS, 8)[:, None] / 20 + rng.normal(size=(6, 4))
    values[2, 1] = np.nan
    both = zip(x, values, strict=True)
    points = [[(a, b) for a, b in zip(*rows, strict=True) if b == b] for rows in both]
    means = [np.mean(point, axis=0) for point in points]

    def below(curve):
        a, b = curve[0], curve[-1]
        return max(a[1] + (b[1] - a[1]) * (u - a[0]) / (b[0] - a[0]) - v for u, v in curve)

    slope = (means[-1] - means[0])[1] / (means[-1] - means[0])[0]
    as_far = 0
    for _ in range(3000):
        line = []
        for point, mean in zip(points, means, strict=True):
            n = len(point)
            drawn = np.mean([point[i] for i in rng.integers(n, size=n)], axis=0) - mean
            on_chord = np.array([mean[0], means[0][1] + slope * (mean[0] - means[0][0])])
            line.append(on_chord + drawn * np.sqrt(n / (n - 1)))
        as_far += below(line) >= below(means)
    found = knee_over_seeds(DIMS, values, x=np.where(values == values, x, np.nan))
    assert 0.02 < as_far / 3000 < 0.6
    assert found.p_straight == pytest.approx(as_far / 3000, abs=0.035)


# ---- β and L ----

BETAS = np.array([1, 2, 3, 6, 20])


def study():
    """Rate and distortion with a corner over L at 8 and over β, at every L, at 3."""
    rate = np.array([30.0, 22, 14, 6, 2])[:, None] + 0 * DIMS
    distortion = hinge(rate, 14.0) + 50 * hinge(DIMS, 8)
    return (a[:, :, None] + np.zeros(3) for a in (rate, distortion))


def test_the_bound_that_chooses_dims_is_the_best_of_any_beta():
    rate, distortion = study()
    distortion[0] += 1e5 + 1e3 * hinge(DIMS, 4)[:, None]  # far from the bound, with its own corner
    assert choose_point(BETAS, DIMS, rate, distortion)[0].at == 8


def test_beta_is_where_the_curve_has_the_slope_of_its_chord():
    betas = np.geomspace(1, 20, 60)
    rate = np.log(400 / betas)[:, None, None]  # of D(R) = 400 exp(−R), whose slope is −β
    distortion = 400 * np.exp(-rate) + 100 * hinge(DIMS, 8)[None, :, None]
    _, found = choose_point(betas, DIMS, np.broadcast_to(rate, distortion.shape), distortion)
    assert found.at == pytest.approx((20 - 1) / np.log(20), rel=0.03)


def test_shares_are_of_the_whole_rule(resampled):
    resampled(20_000)
    # Where one point is drawn low the knee over L is at 5, and its curve over β has another knee.
    rate, distortion = study()
    distortion[:, 2] = hinge(rate[:, 2], 22.0) + 450
    distortion[1, 2] += 450, 0, -450
    in_dims, in_betas = choose_point(BETAS, DIMS, rate, distortion)
    assert (in_dims.at, in_betas.at) == (8, 3)
    low = 0
    for drawn in np.ndindex(3, 3, 3):
        mean = distortion.mean(axis=2)
        mean[1, 2] = distortion[1, 2, list(drawn)].mean()
        low += knee(DIMS, (rate[:, :, 0] + mean).min(axis=0))[0] == 5
    assert 0.05 < low / 27 < 0.5
    np.testing.assert_allclose(in_dims.shares, [0, 0, low / 27, 1 - low / 27, 0, 0], atol=0.015)
    np.testing.assert_allclose(in_betas.shares[1:3], in_dims.shares[2:4])
    assert in_dims.interval == (5, 8) and in_betas.interval == (2, 3)


def test_without_a_knee_over_dims_no_beta_is_chosen():
    rate, distortion = study()
    distortion += -50 * hinge(DIMS, 8)[None, :, None] - 7.0 * DIMS[None, :, None]
    in_dims, in_betas = choose_point(BETAS, DIMS, rate, distortion)
    assert np.isnan([in_dims.at, in_betas.at]).all()
    assert (in_dims.no_knee, in_betas.no_knee) == (1, 1)


def test_each_model_of_a_table_has_its_own_knee():
    curves = {"VAE": hinge(DIMS, 8), "PCA": hinge(DIMS, 5)}
    fits = [(name, n, seed, y) for name, of in curves.items() for seed in (0, 1)
            for n, y in zip(DIMS, of, strict=True)]  # fmt: skip
    rows = pd.DataFrame(fits, columns=["model", "latent_dim", "seed", "value"])
    rows = rows[(rows["model"] == "VAE") | (rows["seed"] == 0)]  # PCA has one fit
    found = model_knees(rows.sample(frac=1, random_state=0))
    assert {name: (of.at, of.n_seeds) for name, of in found.items()} == {
        "VAE": (8, 2),
        "PCA": (5, 1),
    }


def test_what_has_no_answer_is_refused_in_a_line():
    ones = np.ones
    cases = [
        ("shape='convex' is unknown", knee, [1, 2, 3], [3, 1, 0], "convex"),
        ("they must be", knee_over_seeds, [2, 4, 8], ones((2, 3))),
        ("finite, each once", knee_over_seeds, [2, 2, 8], ones((3, 2))),
        ("x is", lambda: knee_over_seeds([2, 4, 8], ones((3, 2)), x=ones((2, 3)))),
        (r"\(2, 3, n_seeds\)", choose_point, [1, 3], [2, 4, 8], *ones((2, 3, 2, 2))),
    ]
    refused(cases)
