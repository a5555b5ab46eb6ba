"""What was planted is found by a model that is the truth, and by none that is not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from toys import Answers, bands

from brainvae_core.cohorts import SIMULATORS, PlantedModel, drawn_atlas
from brainvae_core.fields import (
    Rotated,
    both_directions,
    planted_fields,
    recover,
    recover_at_random,
)
from brainvae_core.fields.truth import Recovery, profile_correlations, single_latent_r2

SHAPE, N = (14, 9), 50
MASKS = bands(SHAPE, (0, 1, 3, 6, 8, 9, 13))  # of six regions; the last row is in none
STRENGTH = np.array([0.05, 0.03, 0.08, 0.04])  # of four factors, in the first four regions
C = np.linspace(-3, 3, 13)


class Simulator:
    """Four factors, one a region; the fifth and sixth region vary by themselves."""

    names = ("a", "b", "c", "d")
    maps = STRENGTH[:, None, None] * MASKS[:4]

    def decode(self, z):
        return (0.5 + np.tensordot(z, self.maps, 1)).astype(np.float32)


# As far from one another as can be: no two correlate over the brains.
KNOWN = np.random.default_rng(0).standard_normal((N, 4))
KNOWN = np.linalg.qr(KNOWN - KNOWN.mean(axis=0))[0] * N**0.5


def drawn_images():
    rng = np.random.default_rng(1)
    images = Simulator().decode(KNOWN)
    images += np.tensordot(0.05 * rng.standard_normal((N, 2)), MASKS[4:], 1).astype(np.float32)
    images[:, -1] += rng.uniform(0, 0.3, (N, SHAPE[1]))
    return images


IMAGES = drawn_images()
PLANTED = planted_fields(Simulator(), IMAGES, MASKS, C)
ASKED = IMAGES, KNOWN, PLANTED, MASKS, C


class Model(Simulator):
    """Latents that are weighed sums of the factors, as a reader and a painter of regions.

    ``table`` is (latent_dim, n_factors); ``writes`` has the same shape where a model writes
    something else than it reads. The factors are read off the regions where they act.
    """

    def __init__(self, table, writes=None):
        self.table = np.asarray(table, dtype=float)
        self.writes = self.table if writes is None else np.asarray(writes, dtype=float)

    def encode(self, images):
        means = np.stack([images[:, m].mean(axis=1) for m in MASKS[:4]], axis=1)
        return (((means - 0.5) / STRENGTH) @ self.table.T).astype(np.float32)

    def decode(self, z):
        return super().decode(np.asarray(z) @ self.writes)


# Seven latents: factor 1, nothing, −2 × factor 3, factor 0, nothing, a little of factors 0 and 3,
# factor 2.
SCATTERED = np.zeros((7, 4))
SCATTERED[[0, 2, 3, 6], [1, 3, 0, 2]] = [1, -2, 1, 0.5]
SCATTERED[5] = [0.4, 0, 0, 0.4]
AT = [3, 0, 6, 2]  # the latent of each factor


def writes_the_margin(z):
    images = np.full((len(z), *SHAPE), 0.5, dtype=np.float32)
    images[:, -1, :5] = z
    return images


# Latents that read noise and write where no region is.
MARGIN = Answers(lambda x: x[:, -1, :5] * np.float32(10) - np.float32(6.5), writes_the_margin)


# ---- what was planted ----


def test_each_factor_is_planted_where_it_acts_and_seen_where_it_changes_brightness():
    assert PLANTED.factors == ("a", "b", "c", "d")
    expected = np.zeros((4, 6))
    np.fill_diagonal(expected, STRENGTH**2 * C.var())
    np.testing.assert_allclose(PLANTED.moved, expected, rtol=1e-4, atol=1e-12)
    everywhere = np.tensordot(expected[:, :4].T, MASKS[:4].astype(float), 1)
    np.testing.assert_allclose(PLANTED.variance, everywhere, rtol=1e-4, atol=1e-12)
    # Squared change by one standard deviation, over the variance of brightness over brains.
    spread = np.array([IMAGES[:, mask].mean(axis=1, dtype=float).var() for mask in MASKS])
    seen = np.pad(np.diag(STRENGTH**2), [(0, 0), (0, 2)]) / spread
    np.testing.assert_allclose(PLANTED.seen, seen, rtol=1e-3, atol=1e-9)


def test_a_model_without_an_active_latent_recovers_nothing():
    found = recover(MARGIN, *ASKED, active=np.zeros(5, dtype=bool))
    assert not found.best_r2.any() and not found.recovered.any()
    assert not found.receptive_right.any() and not found.projective_right.any()
    assert found.r2.shape == (5, 4) and found.variance.shape == (4, *SHAPE)


# ---- correlations ----


@given(seed=st.integers(0, 2**16))
def test_r2_is_numpys(seed):
    rng = np.random.default_rng(seed)
    codes = rng.standard_normal((11, 5)) * [1e-6, 1, 1e6, 1, 1] + [0, 1e3, 0, -1, 5]
    known = rng.standard_normal((11, 3)) + codes[:, :3] / [1e-6, 1, 1e6]
    found = single_latent_r2(codes, known)
    np.testing.assert_allclose(found, np.corrcoef(codes.T, known.T)[:5, 5:] ** 2, atol=1e-12)
    assert single_latent_r2(codes[:3], known[:3]).shape == (5, 3)
    assert (found >= 0).all() and (found <= 1).all()


@given(seed=st.integers(0, 2**16), scale=st.floats(1e-6, 1e6))
def test_profiles_are_compared_whatever_their_scale(seed, scale):
    rng = np.random.default_rng(seed)
    a, b = rng.exponential(size=(3, 7)), rng.exponential(size=(2, 7))
    a[2] = 0.1  # flat: like nothing
    found = profile_correlations(scale * a, b / scale)
    expected = np.corrcoef(np.sqrt(a[:2]), np.sqrt(b))[:2, 2:]
    np.testing.assert_allclose(found, [*expected, [0, 0]], atol=1e-9)


# ---- models ----


def test_the_factors_themselves_are_recovered():
    model = Model(SCATTERED)
    found = recover(model, *ASKED, n_read=20)
    assert found.factors == PLANTED.factors
    np.testing.assert_array_equal(found.latent, AT)
    expected = np.zeros((7, 4))
    expected[AT, range(4)], expected[5, [0, 3]] = 1, 0.5
    np.testing.assert_allclose(found.r2, expected, atol=1e-3)
    for asked in ("has_latent", "receptive_right", "projective_right", "recovered"):
        assert getattr(found, asked).shape == (4,) and getattr(found, asked).all(), asked
    np.testing.assert_allclose(np.diag(found.moved), 1, atol=1e-6)
    sizes = np.array([1, 1, 0.25, 4])[:, None, None]
    np.testing.assert_allclose(found.variance, sizes * PLANTED.variance, rtol=1e-3, atol=1e-9)
    read = both_directions(model, IMAGES[:20], MASKS, C)  # of the first brains alone
    expected = profile_correlations(read.receptive.divergence[:, AT].T, PLANTED.seen)
    np.testing.assert_array_equal(found.seen, expected)
    assert np.diag(found.seen).min() > 0.9


def test_a_latent_that_sees_right_may_paint_wrong():
    crossed = Model(np.eye(4), writes=np.eye(4)[[1, 0, 2, 3]])
    found = recover(crossed, *ASKED)
    assert found.has_latent.all() and found.receptive_right.all()
    np.testing.assert_array_equal(found.projective_right, [False, False, True, True])
    np.testing.assert_array_equal(found.recovered, [False, False, True, True])


def test_latents_that_are_not_active_are_not_judged():
    active = np.arange(7) != 3
    found = recover(Model(SCATTERED), *ASKED, active)
    assert not found.r2[3].any()
    np.testing.assert_array_equal(found.latent, [5, *AT[1:]])  # the next best, for what it is
    assert found.best_r2[0] == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_array_equal(found.recovered[1:], [True] * 3)


def test_what_points_right_is_first_among_all_factors():
    seen = np.array([[0.9, 0.8, 0.1], [0.5, 0.4, 0.3], [0, 0, 0.0]])
    moved = np.array([[-0.5, -0.6, -0.7], [0.2, 0.2, 0.1], [0.1, 0.2, 0.9]])
    r2 = np.array([[0.5, 0.1, 0.2], [0.1, 0.49, 0.3], [0, 0, 0.8], [0.1, 0.2, 0]])
    found = Recovery(("a", "b", "c"), r2, r2.argmax(axis=0), seen, moved, np.zeros((3, 2, 2)))
    np.testing.assert_array_equal(found.best_r2, [0.5, 0.49, 0.8])
    np.testing.assert_array_equal(found.has_latent, [True, False, True])
    np.testing.assert_array_equal(found.receptive_right, [True, False, False])
    np.testing.assert_array_equal(found.projective_right, [True, False, True])  # a tie is not first
    np.testing.assert_array_equal(found.recovered, [True, False, False])


@pytest.mark.parametrize("active", [None, np.arange(7) != 3])
def test_random_axes_are_read_as_a_model_along_them_is(active):
    model = Model(SCATTERED)
    found = recover_at_random(model, *ASKED, active, n_read=20, n=3)
    for seed, one in enumerate(found):
        again = recover(Rotated(model, IMAGES[:20], seed, active), *ASKED, n_read=20)
        np.testing.assert_allclose(one.r2, again.r2, atol=1e-5)
        np.testing.assert_array_equal(one.latent, again.latent)
        np.testing.assert_allclose(one.seen, again.seen, atol=1e-3)
        np.testing.assert_allclose(one.moved, again.moved, atol=1e-3)
        np.testing.assert_allclose(one.variance, again.variance, rtol=1e-3, atol=1e-6)
    assert len(found) == 3 and not np.allclose(found[0].r2, found[1].r2, atol=0.01)


def test_random_axes_of_latents_that_are_the_factors_have_less_of_each():
    found = recover_at_random(Model(np.eye(4)), *ASKED, n=40)
    r2 = np.mean([one.best_r2 for one in found], axis=0)
    # The largest of four squares of a random unit vector in four dimensions: 0.60 on average.
    np.testing.assert_allclose(r2, 0.6, atol=0.12)
    assert np.mean([one.recovered for one in found]) < 0.7
    nothing = recover_at_random(MARGIN, *ASKED, np.zeros(5, dtype=bool), n=2)
    assert len(nothing) == 2 and not any(one.best_r2.any() for one in nothing)


def test_nonsense_is_refused_by_name():
    model = Model(SCATTERED)
    codes, four = model.encode(IMAGES), np.ones(4, dtype=bool)
    holed = KNOWN.copy()
    holed[3, 1] = np.nan
    few = MASKS[:5]
    cases = [
        (r"codes \(50, 7\) and factors \(49, 4\)", single_latent_r2, codes, KNOWN[1:]),
        ("not finite", single_latent_r2, codes, holed),
        (r"factors \(50, 3\) .* 4", recover, model, IMAGES, KNOWN[:, :3], PLANTED, MASKS, C),
        ("5 roi_masks for 6 planted", recover, model, IMAGES, KNOWN, PLANTED, few, C),
        ("one bool .* of the 7", recover, model, *ASKED, four),
        ("5 roi_masks", recover_at_random, model, IMAGES, KNOWN, PLANTED, few, C),
    ]
    refused(cases)


# ---- the simulators ----

SECTION = (80, 112)


@pytest.mark.parametrize("simulator", SIMULATORS.values(), ids=SIMULATORS)
def test_a_simulator_decodes_its_factors(simulator):
    names, atlas = simulator.factors, drawn_atlas().resampled(SECTION)
    model = PlantedModel.of(names, atlas)
    assert model.names == names and model.atlas is atlas
    z = np.concatenate([np.zeros((1, len(names))), 2 * np.eye(len(names))]).astype(np.float32)
    images = model.decode(z)
    assert images.shape == (1 + len(names), *SECTION)
    np.testing.assert_allclose(images[0], 0.75 * atlas.template, atol=1e-5)
    assert (np.abs(images[1:] - images[0]).max(axis=(1, 2)) > 0.05).all()
    for k, name in enumerate(names):
        alone = pd.DataFrame(0.0, index=[0], columns=list(reversed(names))).assign(**{name: 2.0})
        np.testing.assert_allclose(images[1 + k], simulator.rendered(alone, atlas)[0], atol=1e-6)
