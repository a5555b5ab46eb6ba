"""Both fields of a latent together: models that paint what they see, and those that do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from scipy.stats import spearmanr

from brainvae_core.fields import (
    agreement_draws,
    agreement_of_fits,
    both_directions,
    cross_agreement,
    field_agreement,
    projective_field,
    read_fits,
    receptive_field,
    region_profile,
    weight_range,
)
from brainvae_core.fields.association import own_over_others

SHAPE, N = (12, 10), 24
EDGES = (0, 1, 3, 6, 7, 10)  # rows of five regions of unequal size; the last two are in none
C = np.linspace(-3, 3, 13)
# What each of three latents has to do with each of five regions.
SHARES = np.array([[8.0, 4, 2, 1, 0.5], [0.5, 8, 1, 4, 2], [2, 0.5, 1, 8, 4]])
ACTIVE = np.array([True, False, True])


@pytest.fixture(scope="module")
def masks():
    drawn = np.zeros((5, *SHAPE), dtype=bool)
    for mask, top, bottom in zip(drawn, EDGES, EDGES[1:], strict=False):
        mask[top:bottom] = True
    return drawn


@pytest.fixture(scope="module")
def images(masks):
    """Brains whose regions are equally bright on average and vary as much as one another."""
    rng = np.random.default_rng(0)
    levels = 0.5 + 0.2 * rng.permuted(np.tile(np.linspace(-1, 1, N), (5, 1)), axis=1)
    return np.tensordot(levels.T, masks.astype(np.float32), 1).astype(np.float32)


class Toy:
    """Reads the regions' brightness by one table, (latent_dim, n_rois), and paints by another."""

    def __init__(self, masks, reads, paints):
        self.masks, self.reads, self.paints = masks, np.asarray(reads), np.asarray(paints)

    def encode(self, images):
        means = np.stack([images[:, m].mean(axis=1) for m in self.masks], axis=1) - 0.5
        return (means @ self.reads.T).astype(np.float32)

    def decode(self, z):
        levels = 0.5 + np.asarray(z) @ self.paints
        return np.tensordot(levels, self.masks.astype(float), 1).astype(np.float32)


def tables(seed, n_rois=9, latents=4):
    """A receptive field and a projective profile without ties."""
    rng = np.random.default_rng(seed)
    return rng.exponential(size=(n_rois, latents)), rng.exponential(size=(latents, n_rois))


# ---- rank correlations ----


@given(seed=st.integers(0, 2**16), levels=st.integers(2, 6))
def test_every_entry_is_scipys_with_ties(seed, levels):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(levels, size=(7, 3)), rng.integers(levels, size=(3, 7))
    a[:2], b[:, 4:6] = [[0], [levels]], [0, levels]
    found = cross_agreement(a, b)
    assert found.shape == (3, 3)
    for receives in range(3):
        for projects in range(3):
            expected = spearmanr(a[:, receives], b[projects]).statistic
            assert found[receives, projects] == pytest.approx(expected, abs=1e-12)


def test_only_active_latents_are_compared():
    a, b = tables(0, latents=3)
    a[:, 1], b[1] = 2.0, np.nan  # alike everywhere, and no numbers
    found = cross_agreement(a, b, ACTIVE)
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
    alone = cross_agreement(a[:, [0, 2]], b[[0, 2]])
    np.testing.assert_array_equal(found[np.ix_(ACTIVE, ACTIVE)], alone)
    np.testing.assert_array_equal(field_agreement(a, b, ACTIVE), np.diag(found))


# ---- resampled brains and regions ----


def stack(seed, n_resamples=6, n_rois=9, latents=4):
    """Fields of resampled brains, and a profile that goes with them in part."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n_rois, latents))
    fields = np.exp(base + 0.2 * rng.normal(size=(n_resamples, n_rois, latents)))
    return fields, np.exp(base.T + rng.normal(size=(latents, n_rois)))


def test_a_seed_makes_the_same_draws_which_lie_about_the_agreement():
    fields, profile = stack(0, n_rois=40)
    draws = agreement_draws(fields, profile, 300, seed=3)
    assert draws.shape == (300, 4, 4) and np.abs(draws).max() <= 1
    np.testing.assert_array_equal(draws, agreement_draws(fields, profile, 300, seed=3))
    assert not np.array_equal(draws, agreement_draws(fields, profile, 300, seed=4))
    whole = cross_agreement(fields.mean(axis=0), profile)
    assert np.abs(draws.mean(axis=0) - whole).max() < 0.1
    assert draws.std(axis=0).min() > 0.03


def test_draws_are_of_the_same_brains_and_regions_for_every_latent_and_fit():
    fields, profile = stack(1)
    order = [2, 0, 3, 1]
    draws = agreement_draws(fields, profile, 20, seed=0)
    other = agreement_draws(fields[..., order], profile[order], 20, seed=0)
    np.testing.assert_allclose(other, draws[:, order][:, :, order])


def test_draws_are_of_every_resample_and_of_regions_with_repeats():
    """Two resamples of opposite order, two regions told apart: every draw can be listed."""
    up = np.arange(3.0)[:, None]
    draws = agreement_draws(np.stack([up, -up]), up.T, 400, seed=0)[:, 0, 0]
    assert set(np.round(draws, 6)) == {-1, 1}
    assert 0.4 < (draws > 0).mean() < 0.6
    bent = np.array([0.0, 2, 1])[:, None]  # ranks 1, 3, 2: r = 0.5, or with repeats -1 or 1
    drawn = set(np.round(agreement_draws(bent[None], up.T, 400, seed=0)[:, 0, 0], 6))
    assert {-1, 0.5, 1} <= drawn


# ---- own and others ----


def test_latents_that_agree_with_themselves_only():
    assert own_over_others(np.eye(5)) == 1
    assert own_over_others(np.eye(4)[[1, 2, 3, 0]]) == pytest.approx(-1 / 3)
    assert own_over_others(np.full((3, 3), 0.7)) == pytest.approx(0, abs=1e-12)


def test_latents_that_were_left_out_count_nowhere():
    agreement = np.array([[0.9, 0.3, 0.1], [0.2, 0.4, 0.6], [0.5, 0.7, 0.8]])
    holed = np.insert(np.insert(agreement, 1, np.nan, axis=0), 1, np.nan, axis=1)
    assert own_over_others(holed) == pytest.approx(0.7 - 0.4)
    both = np.stack([agreement, agreement.T - 1])
    np.testing.assert_allclose(own_over_others(both), [0.3, 0.3])
    assert own_over_others(np.stack([both] * 5)).shape == (5, 2)


# ---- models ----


def test_both_directions_are_those_of_the_single_fields(masks, images):
    model = Toy(masks, SHARES, SHARES[::-1] / 50)
    read = both_directions(model, images, masks, C)
    assert read.receptive.divergence.shape == (5, 3) and read.profile.shape == (3, 5)
    alone = receptive_field(model, images, masks, weight_range(images, masks))
    np.testing.assert_array_equal(read.receptive.divergence, alone.divergence)
    np.testing.assert_allclose(read.profile, (SHARES[::-1] / 50) ** 2 * C.var(), rtol=1e-4)
    projected = projective_field(model, model.encode(images).mean(axis=0), C)
    np.testing.assert_allclose(read.projective.mean_all, projected.mean_all, atol=1e-6)
    np.testing.assert_allclose(read.profile, region_profile(projected.variance_all, masks))


def test_options_go_to_the_receptive_field_and_the_range_follows_them(masks, images):
    model = Toy(masks, SHARES, SHARES)
    wide = both_directions(model, images, masks, C, variance_floor=100.0).receptive
    assert wide.variance_floor == 100 and (wide.divergence < 0.5).all()
    added = both_directions(model, images, masks, C, mode="add", mean_brightness=np.full(5, 0.25))
    ends = added.receptive.weights * 0.25
    levels = [np.percentile(images[:, m].mean(axis=1), [1, 99]) for m in masks]
    np.testing.assert_allclose(ends, np.array(levels) - 0.25, atol=1e-6)


def test_every_fit_of_every_model_is_read(masks, images):
    a, b, wide = (Toy(masks, SHARES[rows], SHARES[rows]) for rows in ([0, 1], [1, 2], [0, 1, 2]))
    found = read_fits({"two": [a, b], "three": [wide], "none": []}, images, masks, C)
    assert list(found) == ["two", "three", "none"] and found["none"] == []
    assert [f.profile.shape for f in found["two"]] == [(2, 5), (2, 5)]
    for both, model in zip((*found["two"], *found["three"]), (a, b, wide), strict=True):
        again = both_directions(model, images, masks, C)
        np.testing.assert_array_equal(both.receptive.divergence, again.receptive.divergence)
        np.testing.assert_array_equal(both.profile, again.profile)


def test_a_model_that_paints_what_it_sees_agrees_with_itself(masks, images):
    turned = [2, 0, 1]
    fits = [Toy(masks, SHARES, SHARES), Toy(masks, -SHARES[turned], SHARES[turned])]
    read = read_fits({"toy": fits}, images, masks, C)["toy"]
    found = agreement_of_fits(read, [np.ones(3, dtype=bool)] * 2, n=30, seed=0)
    assert found.own.shape == found.beyond.shape == (2,)
    assert found.own_resamples.shape == found.beyond_resamples.shape == (2, 30)
    np.testing.assert_allclose(found.own, 1)
    assert np.median(found.own_resamples) > 0.97
    ranks = spearmanr(SHARES.T).statistic
    others = ranks[~np.eye(3, dtype=bool)].mean()
    np.testing.assert_allclose(found.beyond, 1 - others)
    # The same draws of brains and regions: the order of a fit's latents changes nothing.
    np.testing.assert_allclose(*found.beyond_resamples)
    assert found.beyond_resamples.std() > 0.01


def test_the_agreement_of_fits_is_of_active_latents(masks, images):
    dead = SHARES * [[1], [0], [1]]
    read = both_directions(Toy(masks, dead, dead), images, masks, C)
    found = agreement_of_fits([read], [ACTIVE], n=40, seed=5)
    ranks = spearmanr(SHARES[0], SHARES[2]).statistic
    assert found.own == pytest.approx([1]) and found.beyond == pytest.approx([1 - ranks])
    resampled = read.receptive.bootstrapped(40, 5)
    draws = agreement_draws(resampled, read.profile, 40, 5, ACTIVE)
    np.testing.assert_array_equal(found.beyond_resamples[0], own_over_others(draws))
    np.testing.assert_allclose(found.own_resamples[0], draws[:, [0, 2], [0, 2]].mean(axis=1))


def test_errors_name_what_was_given(masks, images):
    a, b = tables(4)
    flat, holed = a.copy(), b.copy()
    flat[:, 2], holed[3, 1] = 1.0, np.nan
    read = both_directions(Toy(masks, SHARES, SHARES), images, masks, C)
    one = np.arange(3) == 1
    cases = [
        (r"\(9, 4\) and projective \(9, 4\)", cross_agreement, a, a),
        (r"\(9, 4\) and projective \(3, 9\)", cross_agreement, a, b[:3]),
        ("at least 3 regions", cross_agreement, a[:2], b[:, :2]),
        (r"index \[2\] are alike", cross_agreement, flat, b),
        (r"index \[2\] are alike", field_agreement, b.T, flat.T),
        ("not finite", cross_agreement, a, holed),
        ("one bool for each of the 4", cross_agreement, a, b, ACTIVE),
        ("none of the 4", cross_agreement, a, b, np.zeros(4, dtype=bool)),
        (r"divergences \(9, 4\) must be", agreement_draws, a, b, 5, 0),
        (r"divergences \(0, 9, 4\) must be", agreement_draws, a[None][:0], b, 5, 0),
        (r"index \[2\] are alike", agreement_draws, np.stack([a, flat]), b, 5, 0),
        (
            "^1000 draws of regions left a latent without ranks; add regions$",
            lambda: agreement_draws(np.eye(20)[None], np.eye(20), 1, 0),
        ),
        ("^1 latents have no others", own_over_others, np.ones((2, 1, 1))),
        ("^1 latents have no others", lambda: agreement_of_fits([read], [one], n=3)),
        ("shorter", agreement_of_fits, [read, read], [ACTIVE]),
    ]
    refused(cases)
