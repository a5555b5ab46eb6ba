"""Projective fields of toy models whose answers are known."""

import numpy as np
import pytest
from refusals import refused
from toys import Answers

from brainvae_core.fields import (
    ProjectiveField,
    asymmetry,
    outlier_latents,
    projective_field,
    region_profile,
    stratified_rgb,
    tail_ratio,
    traversal,
)
from brainvae_core.fields.projective import quartile_of

LATENTS, HEIGHT, WIDTH = 3, 6, 11
C = np.linspace(-7, 7, 141)
QUARTERS = [C < -3.5, (C >= -3.5) & (C < 0), (C > 0) & (C <= 3.5), C > 3.5]


class Linear:
    def __init__(self):
        rng = np.random.default_rng(0)
        self.loadings = rng.normal(0, 0.03, (LATENTS, HEIGHT, WIDTH))
        self.mean = rng.uniform(0.3, 0.7, (HEIGHT, WIDTH))

    def decode(self, z):
        return (self.mean + np.tensordot(z, self.loadings, 1)).astype(np.float32)


class Curved(Linear):
    """Every side and every stretch of c decodes differently."""

    largest_batch = 0

    def decode(self, z):
        self.largest_batch = max(self.largest_batch, len(z))
        bent = 1 / (1 + np.exp(-(super().decode(z) - 1) * 4))
        return (bent + 0.05 * np.sin(z.sum(axis=1))[:, None, None]).astype(np.float32)


@pytest.fixture
def saturated(monkeypatch):
    """Sets the percentile at which a colour is full."""
    return lambda at: monkeypatch.setattr("brainvae_core.fields.projective.SATURATED", at)


def made_field(total):
    """A field whose pixels share the given variance, (latent_dim, 4)."""
    total = np.asarray(total, dtype=np.float32)
    variance = np.broadcast_to(total[..., None, None], (*total.shape, 2, 5)).copy()
    flat = np.zeros((len(total), 2, 5), np.float32)
    return ProjectiveField(variance, variance, flat, flat)


@pytest.mark.promise("fields agree with second implementations")
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 500])
def test_streamed_moments_equal_numpys(absolute, batch, monkeypatch):
    monkeypatch.setattr("brainvae_core.fields.projective.BATCH", batch)
    model, z0 = Curved(), np.array([0.4, -0.3, 1.1])
    field = projective_field(model, z0, C, absolute=absolute)
    assert field.variance.shape == field.mean.shape == (LATENTS, 4, HEIGHT, WIDTH)
    assert field.variance_all.shape == field.mean_all.shape == (LATENTS, HEIGHT, WIDTH)
    assert model.largest_batch <= batch
    for k in range(LATENTS):
        z = np.array([z0] * len(C), dtype=np.float32)
        z[:, k] = C if absolute else z0[k] + C
        images = model.decode(z).astype(float)
        for q, members in enumerate(QUARTERS):
            np.testing.assert_allclose(field.variance[k, q], images[members].var(0), atol=1e-7)
            np.testing.assert_allclose(field.mean[k, q], images[members].mean(0), atol=1e-6)
        np.testing.assert_allclose(field.variance_all[k], images.var(0), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(field.mean_all[k], images.mean(0), atol=1e-6)


@pytest.mark.parametrize("first", [1000, 0])
def test_steps_of_single_precision_on_a_large_mean_are_seen(first):
    """Also where the image that deviations are taken from is far from all others."""
    rng, step = np.random.default_rng(0), np.spacing(np.float32(1000))
    decoded = np.float32(1000) + step * rng.integers(-2, 3, (401, 3, 4)).astype(np.float32)
    decoded[0] = first
    model = Answers(decode=lambda z: decoded[np.rint(z[:, 0]).astype(int) + 200])
    field = projective_field(model, np.zeros(1), np.arange(-200, 201))
    exact = decoded.astype(np.longdouble)
    for q, members in enumerate([exact[:100], exact[100:200], exact[201:301], exact[301:]]):
        np.testing.assert_allclose(field.variance[0, q], members.var(axis=0), rtol=1e-6)
    np.testing.assert_allclose(field.variance_all[0], exact.var(axis=0), rtol=1e-6)


def test_linear_model_gives_squared_loadings_and_no_asymmetry():
    model = Linear()
    field = projective_field(model, np.array([1.0, -2.0, 0.5]), C)
    expected = model.loadings**2 * C.var()
    np.testing.assert_allclose(field.variance_all, expected, rtol=1e-3, atol=1e-8)
    # [−3.5, 0) and (0, 3.5] hold 35 values, as do the outer two: all four strata are alike.
    np.testing.assert_allclose(asymmetry(field), 0, atol=1e-4)
    np.testing.assert_allclose(tail_ratio(field), 1, atol=1e-3)
    assert not outlier_latents(field).any()


@pytest.mark.parametrize("c", [np.linspace(-7, 7, 2801), np.arange(-7, 7.0025, 0.005)])
def test_the_papers_c_falls_into_its_quartiles_despite_rounding(c):
    quartile = quartile_of(c)
    assert [int((quartile == q).sum()) for q in (-1, 0, 1, 2, 3)] == [1, 700, 700, 700, 700]
    assert quartile_of(np.linspace(-7, 7, 8)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]  # the fewest
    assert quartile[700] == 1 and quartile[1400] == -1 and quartile[2100] == 2


def test_colours_of_the_four_strata(saturated):
    saturated(100)
    only = np.zeros((4, 4))
    only[0, 2], only[1, 1], only[2, 0], only[3, 3] = 4.0, 2.0, 6.0, 6.0
    rgb, scales = stratified_rgb(made_field(only), merged=True)
    assert rgb.shape == (4, 2, 5, 3) and np.allclose(scales, [4, 2, 3])
    cyan, magenta, yellow = [0, 1, 1], [1, 0, 1], [1, 1, 0]
    for image, colour in zip(rgb, [cyan, magenta, yellow, yellow], strict=True):
        np.testing.assert_allclose(image, np.broadcast_to(colour, image.shape))


def test_large_c_of_both_signs_is_one_group_unless_merged(saturated):
    """The pooled variance of both outer quarters, against NumPy's of the images themselves."""
    saturated(100)
    model, z0 = Curved(), np.array([0.4, -0.3, 1.1])
    field = projective_field(model, z0, C)
    outer = np.stack([model.decode(z0 + c * np.eye(3)[0][None])[0] for c in C[np.abs(C) > 3.5]])
    for merged in (False, True):
        scales = stratified_rgb(field, merged=merged)[1]
        v = (field.variance[:, 0] + field.variance[:, 3]) / 2
        apart = 0 if merged else np.square(field.mean[:, 3] - field.mean[:, 0]) / 4
        assert scales[2] == pytest.approx((v + apart).max(), rel=1e-5)
        if not merged:
            np.testing.assert_allclose((v + apart)[0], outer.astype(float).var(axis=0), rtol=1e-3)


def test_colours_of_nothing_are_white_and_stay_in_range(saturated):
    rgb, scales = stratified_rgb(made_field(np.zeros((3, 4))))
    assert np.all(rgb == 1) and np.all(scales == 0)
    field = projective_field(Curved(), np.zeros(3), C)
    saturated(50)
    rgb, _ = stratified_rgb(field)
    assert rgb.min() == 0 and rgb.max() <= 1
    faint = np.zeros((3, 4))
    faint[0] = 0.1  # most pixels have none: what little there is saturates
    assert np.all(stratified_rgb(made_field(faint))[0][0] == 0)
    saturated(99.5)
    expected = np.percentile(field.variance[:, 2], 99.5)
    rgb, scales = stratified_rgb(field)
    assert scales[0] == pytest.approx(expected)
    filled = np.clip(field.variance[:, 2] / expected, 0, 1)
    filled[filled < 0.02] = 0
    np.testing.assert_allclose(rgb[..., 0], 1 - filled, atol=1e-5)


def test_sign_free_statistics():
    total = np.array([[1, 1, 1, 1], [6, 2, 0, 0], [1, 2, 3, 2], [0, 0, 0, 0]])
    for field in (made_field(total), made_field(1e-3 * total[:, ::-1])):
        np.testing.assert_allclose(asymmetry(field), [0, 1, 0.25, 0])
        np.testing.assert_allclose(tail_ratio(field), [1, 6, 0.8, 1])


def test_outliers_are_those_with_a_strong_tail():
    total = np.ones((7, 4))
    total[:, 3] += np.linspace(0, 0.06, 7)
    total[4, 0] = 5.0
    assert np.flatnonzero(outlier_latents(made_field(total))).tolist() == [4]
    assert not outlier_latents(made_field(total), np.arange(7) < 3).any()
    active = np.arange(7) != 4
    assert not outlier_latents(made_field(total), active).any()
    logs = np.array([-0.3, -0.2, -0.1, 0, 0.1, 0.2])  # with a larger one MAD = 0.2
    limit = 2.5 * 1.4826 * 0.2
    for tail, starred in ((limit - 0.01, []), (limit + 0.01, [6])):
        total[:, 3], total[:, 0] = np.exp([*logs, tail]), 0
        assert np.flatnonzero(outlier_latents(made_field(total))).tolist() == starred
    total[:] = 1  # alike but for one
    for tail, starred in ((1.08, []), (1.12, [4])):
        total[4, 0] = tail
        assert np.flatnonzero(outlier_latents(made_field(total))).tolist() == starred


def test_traversal_is_the_decoder_along_each_latent():
    model, z0 = Curved(), np.array([0.4, -0.3, 1.1])
    images = traversal(model, z0, [-7, -1, 0, 2])
    assert images.shape == (LATENTS, 4, HEIGHT, WIDTH) and images.dtype == np.float32
    moved = z0 + np.array([0, 2.0, 0])
    np.testing.assert_allclose(images[1, 3], model.decode(moved[None])[0], atol=1e-5)
    np.testing.assert_allclose(images[:, 2], model.decode(z0[None]).repeat(3, 0), atol=1e-5)


def test_errors_name_what_was_given():
    model, z0, ones = Linear(), np.zeros(3), np.ones
    wrong = Answers(decode=lambda z: np.zeros((len(z), 4)))
    nan = Answers(decode=lambda z: np.full((len(z), 2, 2), np.nan))
    two = np.arange(5) < 2
    cases = [
        ("both sides", projective_field, model, z0, np.linspace(-7, 3, 50)),
        ("both sides", projective_field, model, z0, np.linspace(-7, 7.1, 50)),
        ("each needs", projective_field, model, z0, [-7, -2, -1, -0.5, 0.5, 1, 2, 7]),
        (r"z0 of shape \(1, 3\) must be a vector", projective_field, model, np.zeros((1, 3)), C),
        ("decode answered shape", projective_field, wrong, z0, C),
        ("not finite", projective_field, nan, z0, C),
        ("no pixel", region_profile, ones((2, 3, 4)), np.zeros((1, 3, 4))),
        ("must be", region_profile, ones((2, 3, 4)), ones((1, 4, 3))),
        ("most active latents", outlier_latents, made_field([[0, 1, 1, 0]] * 3 + [[1] * 4])),
        ("^2 active latents have no outliers", outlier_latents, made_field(ones((5, 4))), two),
    ]
    refused(cases)
