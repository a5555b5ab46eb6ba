"""Receptive fields of toy models whose answers are known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy import ndimage
from toys import Answers, bands

from brainvae_core.fields import (
    normalised_impacts,
    null_divergence,
    perturb,
    receptive_field,
    tail_asymmetry,
    weight_range,
)
from brainvae_core.fields.receptive import random_blobs

N, HEIGHT, WIDTH = 23, 14, 18
BANDS = ((1, 4), (5, 9), (10, 13))  # rows of three disjoint regions of unequal size


class Linear:
    """codes = x · loadings, one column a latent; no posterior."""

    def __init__(self, loadings):
        self.loadings = loadings

    def encode(self, images):
        return (images.reshape(len(images), -1) @ self.loadings).astype(np.float32)


class WithPosterior(Linear):
    def __init__(self, loadings, std):
        super().__init__(loadings)
        self.std = np.asarray(std, dtype=np.float32)

    def posterior(self, images):
        mean = self.encode(images)
        return mean, np.broadcast_to(self.std, mean.shape)


def read_at_random(n_latents, std):
    """Loadings of every pixel, and one std a latent."""
    loadings = np.random.default_rng(1).normal(0, 0.1, (HEIGHT * WIDTH, n_latents))
    return WithPosterior(loadings, std)


def drawn_images():
    rng = np.random.default_rng(0)
    level = rng.uniform(0.3, 0.7, (N, len(BANDS)))
    images = rng.uniform(0.0, 0.1, (N, HEIGHT, WIDTH))
    for r, (top, bottom) in enumerate(BANDS):
        images[:, top:bottom] += level[:, r, None, None]
    return images.astype(np.float32)


IMAGES, ROIS = drawn_images(), bands((HEIGHT, WIDTH), (1, 4, 5, 9, 10, 13))[::2]
ROIS[:, :, :2] = ROIS[:, :, 15:] = False


# ---- regions: their change, their brightness, their range ----


def test_weights_span_the_regions_own_range():
    weights = weight_range(IMAGES, ROIS, n_weights=4)
    own = np.array([[float(brain[mask].mean(dtype=float)) for brain in IMAGES] for mask in ROIS])
    low, high = np.percentile(own, [1, 99], axis=1)
    expected = np.linspace(low, high, 4, axis=1)
    np.testing.assert_allclose(weights, expected / own.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(weight_range(IMAGES, ROIS, mode="add", n_weights=4), weights - 1)


def test_tail_asymmetry_has_the_sign_of_the_stronger_tail():
    variance = np.zeros((2, 4, HEIGHT, WIDTH))
    variance[0, 0][ROIS[0]], variance[0, 3][ROIS[0]] = 1.0, 3.0
    variance[0, 0][ROIS[1]] = 2.0
    for scale in (1, 1e-3):
        found = tail_asymmetry(scale * variance, ROIS)
        np.testing.assert_allclose(found, [[0.5, -1, 0], [0, 0, 0]])


# ---- fields ----


def test_floor_bounds_a_fully_masked_region():
    """Every brain's masked region is alike: variance 0, held up by the floor."""
    means = np.stack([m.ravel() / m.sum() for m in ROIS], axis=1)
    field = receptive_field(Linear(means), IMAGES, ROIS, [0.8, 1.2])
    expected = (0.4 * field.mean_brightness) ** 2 / (2 * 1e-4)
    np.testing.assert_allclose(np.diag(field.divergence), expected, rtol=1e-4)
    np.testing.assert_allclose(field.stds[np.arange(3), :, np.arange(3)], 0.01)


@pytest.mark.promise("fields agree with second implementations")
@pytest.mark.parametrize("mode", ["mask", "add"])
def test_against_torch_distributions(monkeypatch, mode):
    """A second implementation, with a posterior that is the wider the larger the code."""
    monkeypatch.setattr("brainvae_core.fields.receptive.BATCH", 7)
    model = read_at_random(4, [0.3, 0.1, 0.6, 0.01])
    model.posterior = lambda x: (model.encode(x), model.std * np.exp(model.encode(x)))
    weights = np.array([[0.2, 1.0, 1.7], [0.9, 1.0, 1.3], [0.0, 0.1, 4.0]])
    field = receptive_field(model, IMAGES, ROIS, weights, mode=mode)
    assert field.means.shape == field.stds.shape == (3, 3, 4)
    assert field.codes.shape == (3, 3, N, 4) and field.codes.dtype == np.float32
    assert np.array_equal(field.normalised(), normalised_impacts(field.divergence))

    def fitted(changed):
        codes = changed.reshape(N, -1) @ model.loadings
        deviation = np.sqrt(codes.var(axis=0) + np.square(model.std * np.exp(codes)).mean(axis=0))
        return torch.distributions.Normal(*map(torch.tensor, (codes.mean(axis=0), deviation)))

    kl = torch.distributions.kl_divergence
    for r, mask in enumerate(ROIS):
        whole, mu = IMAGES.astype(float), IMAGES[:, mask].mean()
        under = whole if mode == "add" else 0
        low, high = (fitted(np.where(mask, under + w * mu, whole)) for w in weights[r, [0, -1]])
        pooled = (0.5 * low.variance + 0.5 * high.variance) ** 0.5
        for found, expected in (
            (field.divergence, kl(low, high)),
            (field.effect_size, (high.mean - low.mean) / pooled),
        ):
            np.testing.assert_allclose(found[r], expected, rtol=1e-3, atol=1e-6)


def test_resampling_equals_encoding_those_brains():
    model = read_at_random(3, [0.3, 0.2, 0.1])
    draw = np.array([0, 0, 3, 7, 22, 11, 3])
    field = receptive_field(model, IMAGES, ROIS, [0.5, 1.5])
    kept = field.resampled(draw)
    # Brains are replaced by the same level: what they are given does not depend on the others.
    np.testing.assert_array_equal(kept.codes, field.codes[:, :, draw])
    np.testing.assert_array_equal(kept.codes_original, field.codes_original[draw])
    alike = receptive_field(model, np.tile(IMAGES, (2, 1, 1)), ROIS, [0.5, 1.5])
    twice = field.resampled(np.tile(np.arange(N), 2))
    np.testing.assert_allclose(twice.divergence, alike.divergence, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(twice.effect_size, alike.effect_size, rtol=1e-4, atol=1e-6)
    stack = kept.bootstrapped(6, seed=0)
    assert stack.shape == (6, 3, 3) and np.array_equal(stack, kept.bootstrapped(6, seed=0))
    assert stack.std(axis=0).min() > 0
    shifts = kept.bootstrapped(6, seed=0, of="effect_size")
    assert shifts.shape == (6, 3, 3) and np.corrcoef(shifts.ravel() ** 2, stack.ravel())[0, 1] > 0.9


# ---- random regions ----


@given(
    n_pixels=st.integers(8, 70),
    width=st.integers(14, 23),
    gap=st.integers(0, 2),
    seed=st.integers(0, 1000),
    mirrored=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_blobs_are_connected_and_inside_or_two_halves(n_pixels, width, gap, seed, mirrored):
    """In a brain with pixels on either side that have none opposite: no mirrored blob uses them."""
    brain = np.zeros((11, width), dtype=bool)
    brain[1:9, 1:-1] = True
    brain[2:6, :3] = brain[6:8, -4:] = False
    brain[:, width // 2 - gap : -(-width // 2) + gap] = False
    half = np.arange(width) < width // 2 if mirrored else np.ones(width, dtype=bool)
    sides = brain & brain[:, ::-1] & half if mirrored else brain
    room = np.bincount(ndimage.label(sides, np.ones((3, 3)))[0].ravel())[1:].max()
    if n_pixels // (1 + mirrored) > room:
        with pytest.raises(ValueError, match=f"from 4 to {room} fit"):
            random_blobs(brain, n_pixels, 2, seed, mirrored=mirrored)
        return
    blobs = random_blobs(brain, n_pixels, 3, seed, mirrored=mirrored)
    size = n_pixels // 2 * 2 if mirrored else n_pixels
    assert blobs.shape == (3, 11, width) and np.all(blobs.sum((1, 2)) == size)
    assert not blobs[:, ~brain].any()
    assert not mirrored or np.array_equal(blobs, blobs[:, :, ::-1])
    assert all(ndimage.label(blob & half, np.ones((3, 3)))[1] == 1 for blob in blobs)
    assert np.array_equal(blobs, random_blobs(brain, n_pixels, 3, seed, mirrored=mirrored))


def test_null_fields_are_of_blobs_over_their_own_ranges():
    model = read_at_random(5, 1)
    brain = np.ones((HEIGHT, WIDTH), dtype=bool)
    for mirrored, n_pixels in ((False, 20), (True, 21)):
        null = null_divergence(model, IMAGES, brain, n_pixels, 4, mirrored=mirrored)
        blobs = random_blobs(brain, 20, 4, 0, mirrored=mirrored)
        assert not np.array_equal(blobs, random_blobs(brain, 20, 4, 6, mirrored=mirrored))
        expected = receptive_field(model, IMAGES, blobs, weight_range(IMAGES, blobs))
        assert np.array_equal(null.codes, expected.codes)


# ---- what is refused ----


def test_errors_name_what_was_given():
    def field(*arguments, **options):
        return receptive_field(read_at_random(5, 1), *arguments, **options)

    small, none = ROIS.copy(), np.zeros(5, dtype=bool)
    small[1] = False
    small[1, 0, :3] = True
    cases = [
        (r"shape \(1,\) .* at least 2 weights", field, IMAGES, ROIS, [1.0]),
        ("rise.*sort them", field, IMAGES, ROIS, [1.0, 0.5]),
        (r"\{1: 3\} have fewer than 4 pixels; leave", weight_range, IMAGES, small),
        ("of one size", field, IMAGES, ROIS[:, :-1], [0, 1]),
        ("of one size", perturb, IMAGES, ROIS[0, :-1], 1, 1),
        ("mode 'multiply' .* 'add' adds", lambda: field(IMAGES, ROIS, [0, 1], mode="multiply")),
        ("at least 2 brains", field, IMAGES[:1], ROIS, [0, 1]),
        ("above 0$", field, IMAGES * 0, ROIS, [0, 1]),
        ("equally bright", weight_range, np.full_like(IMAGES, 0.5), ROIS),
        ("impossible", random_blobs, ROIS[0], 1000, 1, 0),
        ("none of the 5 latents", lambda: field(IMAGES, ROIS, [0.5, 1.5]).normalised(none)),
    ]
    refused(cases)
    assert field(IMAGES[:2], ROIS, [0.5, 1.5]).divergence.shape == (3, 5)  # the fewest


def test_what_an_encoder_may_not_answer():
    one, values = np.ones, "NaN, inf or a negative std; check"
    cases = [
        (rf"shapes \({N},\) .* to {N} images.*must answer .n, latent_dim", lambda x: x[:, 0, 0]),
        (rf"shapes \(1, {WIDTH}\) .* to {N} images", lambda x: x[:1, 0]),
        (rf"\({N}, 2\) and \({N}, 3\)", lambda x: (one((N, 2)), one((N, 3)))),
        ("a pair, .mean, std", lambda x: (one((N, 2)),)),
        (values, lambda x: np.full((N, 2), np.inf)),
        (values, lambda x: (one((N, 2)), np.full((N, 2), np.nan))),
        (values, lambda x: (one((N, 2)), np.array([[1.0, -0.1]] * N))),
    ]
    for said, answer in cases:
        kind = "posterior" if isinstance(answer(IMAGES), tuple) else "encode"
        refused([(said, receptive_field, Answers(**{kind: answer}), IMAGES, ROIS, [0, 1])])
