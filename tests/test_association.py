"""Both fields of a latent together: models that write what they read, and those that do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from scipy.stats import spearmanr
from toys import Answers, Toy, bands, brains_of_regions

from brainvae_core.fields import (
    agreement_of,
    both_directions,
    cross_agreement,
    projective_field,
    receptive_field,
    region_profile,
    weight_range,
)
from brainvae_core.fields.association import agreement_draws, own_over_others

SHAPE = (12, 10)
EDGES = (0, 1, 3, 6, 7, 10)  # rows of five regions of unequal size; the last two are in none
C = np.linspace(-3, 3, 13)
# What each of three latents has to do with each of five regions.
SHARES = np.array([[8.0, 4, 2, 1, 0.5], [0.5, 8, 1, 4, 2], [2, 0.5, 1, 8, 4]])
ACTIVE = np.array([True, False, True])


MASKS = bands(SHAPE, EDGES)
IMAGES = brains_of_regions(MASKS, 24)


# ---- rank correlations ----


@given(seed=st.integers(0, 2**16), levels=st.integers(2, 6))
def test_every_entry_is_scipys_with_ties(seed, levels):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(levels, size=(7, 3)), rng.integers(levels, size=(3, 7))
    a[:2], b[:, 4:6] = [[0], [levels]], [0, levels]
    found = cross_agreement(a, b)
    expected = [[spearmanr(x, y).statistic for y in b] for x in a.T]
    np.testing.assert_allclose(found, expected, atol=1e-12)


# ---- resampled brains and regions ----


def test_draws_are_of_every_resample_and_of_regions_with_repeats():
    """Two resamples of opposite order, two regions told apart: every draw can be listed."""
    up = np.arange(3.0)[:, None]
    draws = agreement_draws(np.stack([up, -up]), up.T, 400)[:, 0, 0]
    assert set(np.round(draws, 6)) == {-1, 1}
    assert 0.4 < (draws > 0).mean() < 0.6
    bent = np.array([0.0, 2, 1])[:, None]  # ranks 1, 3, 2: r = 0.5, or with repeats -1 or 1
    drawn = set(np.round(agreement_draws(bent[None], up.T, 400)[:, 0, 0], 6))
    assert {-1, 0.5, 1} <= drawn


def test_latents_that_agree_with_themselves_only():
    assert own_over_others(np.eye(2)) == 1
    assert own_over_others(np.eye(4)[[1, 2, 3, 0]]) == pytest.approx(-1 / 3)
    assert own_over_others(np.full((3, 3), 0.7)) == pytest.approx(0, abs=1e-12)
    agreement = np.array([[0.9, 0.3, 0.1], [0.2, 0.4, 0.6], [0.5, 0.7, 0.8]])
    holed = np.insert(np.insert(agreement, 1, np.nan, axis=0), 1, np.nan, axis=1)
    assert own_over_others(holed) == pytest.approx(0.7 - 0.4)
    both = np.stack([agreement, agreement.T - 1])
    np.testing.assert_allclose(own_over_others(both), [0.3, 0.3])


# ---- models ----


def test_both_directions_are_those_of_the_single_fields():
    model, other = Toy(MASKS, SHARES, SHARES[::-1] / 50), Toy(MASKS, SHARES[:2])
    read = both_directions(model, IMAGES, MASKS, C)
    assert both_directions(other, IMAGES, MASKS, C).profile.shape == (2, 5)
    alone = receptive_field(model, IMAGES, MASKS, weight_range(IMAGES, MASKS))
    np.testing.assert_array_equal(read.receptive.divergence, alone.divergence)
    np.testing.assert_allclose(read.profile, (SHARES[::-1] / 50) ** 2 * C.var(), rtol=1e-4)
    projected = projective_field(model, model.encode(IMAGES).mean(axis=0), C)
    np.testing.assert_allclose(read.projective.mean_all, projected.mean_all, atol=1e-6)
    np.testing.assert_allclose(read.profile, region_profile(projected.variance_all, MASKS))
    own = weight_range(IMAGES[:9], MASKS)
    again = both_directions(model, IMAGES, MASKS, C, own)
    expected = receptive_field(model, IMAGES, MASKS, own).divergence
    np.testing.assert_array_equal(again.receptive.divergence, expected)


def test_a_model_that_paints_what_it_sees_agrees_with_itself():
    turned = [2, 0, 1]
    fits = [Toy(MASKS, SHARES), Toy(MASKS, -SHARES[turned], SHARES[turned])]
    every = np.ones(3, dtype=bool)
    found = [agreement_of(both_directions(f, IMAGES, MASKS, C), every, 30) for f in fits]
    ranks = spearmanr(SHARES.T).statistic
    others = ranks[~np.eye(3, dtype=bool)].mean()
    for of in found:
        assert of.own_resamples.shape == of.beyond_resamples.shape == (30,)
        assert of.own == pytest.approx(1) and of.beyond == pytest.approx(1 - others)
        assert np.median(of.own_resamples) > 0.97 and of.beyond_resamples.std() > 0.01
    # The same draws of brains and regions: the order of a fit's latents changes nothing.
    np.testing.assert_allclose(*(of.beyond_resamples for of in found))


def test_the_agreement_of_fits_is_of_active_latents():
    read = both_directions(Toy(MASKS, SHARES * [[1], [0], [1]]), IMAGES, MASKS, C)
    found = agreement_of(read, ACTIVE, 40)
    ranks = spearmanr(SHARES[0], SHARES[2]).statistic
    assert found.own == pytest.approx(1) and found.beyond == pytest.approx(1 - ranks)
    draws = agreement_draws(read.receptive.bootstrapped(40, 0), read.profile, 40, ACTIVE)
    np.testing.assert_array_equal(found.beyond_resamples, own_over_others(draws))
    np.testing.assert_allclose(found.own_resamples, draws[:, [0, 2], [0, 2]].mean(axis=1))


def test_errors_name_what_was_given():
    rng = np.random.default_rng(4)
    a, b = rng.exponential(size=(9, 4)), rng.exponential(size=(4, 9))
    flat, holed = a.copy(), b.copy()
    flat[:, 2], holed[3, 1] = 1.0, np.nan
    toy = Toy(MASKS, SHARES)
    read = both_directions(toy, IMAGES, MASKS, C)
    small = Answers(encode=toy.encode, decode=lambda z: np.zeros((len(z), 3, 3)))
    cases = [
        (r"\(9, 4\) and projective \(9, 4\)", cross_agreement, a, a),
        ("at least 3 regions", cross_agreement, a[:2], b[:, :2]),
        (r"index \[2\] are alike", cross_agreement, flat, b),
        ("not finite", cross_agreement, a, holed),
        ("^1000 draws .* add regions$", agreement_draws, np.eye(20)[None], np.eye(20), 1),
        ("^1 latents have no others", agreement_of, read, np.arange(3) == 1, 3),
        (r"decodes images of \(3, 3\)", both_directions, small, IMAGES, MASKS, C),
    ]
    refused(cases)
