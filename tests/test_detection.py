"""Detectors: perfect, worthless, reversed."""

from types import SimpleNamespace

import numpy as np
import pytest
from refusals import refused
from scipy.stats import mannwhitneyu

from brainvae_core.metrics import ErrorMap, auc, error_score, outlier_score, pixel_detection

SHAPE = (11, 17)


def test_pixels_are_judged_brain_by_brain():
    rng = np.random.default_rng(0)
    masks = rng.random((4, *SHAPE)) < 0.2
    maps = rng.random((4, *SHAPE)) + np.array([0.0, 0.5, 5.0, -5.0])[:, None, None] * masks
    found = pixel_detection(maps, masks)
    assert found.shape == (4,) and found[2] == 1 and found[3] == 0
    assert 0.4 < found[0] < 0.6 < found[1] < 1
    maps = maps.round(1)  # ties
    again = pixel_detection(maps, masks)
    for of, image, mask in zip(again, maps, masks, strict=True):
        u = mannwhitneyu(image[mask], image[~mask]).statistic / mask.sum() / (~mask).sum()
        assert of == pytest.approx(u) == auc(image[~mask], image[mask])


class Dims:
    """Paints every pixel at 90 % of its brightness."""

    def reconstruct(self, images):
        return 0.9 * images


def test_an_error_is_held_against_what_is_usual_in_its_pixel():
    ordinary = np.full((5, *SHAPE), 0.5)
    ordinary[:, 2, 3] = 1.0  # errs twice as much there, always
    ordinary[:, 0, 0] = 0.0  # never
    ordinary[:2, 4, 1] = 1.0  # in two brains of five
    error = ErrorMap(Dims(), ordinary)
    assert error.spread[2, 3] == pytest.approx(0.1) and error.spread[0, 0] == 0.01
    assert error.spread[4, 1] == pytest.approx(np.sqrt((2 * 0.1**2 + 3 * 0.05**2) / 5))
    images = np.full((2, *SHAPE), 0.5)
    images[1, 2, 3] = images[1, 0, 0] = 1.0
    maps = error(images)
    assert maps.shape == images.shape
    np.testing.assert_allclose(maps[1, 5, 5], 1)
    np.testing.assert_allclose(maps[1, 2, 3], 1)
    np.testing.assert_allclose(maps[1, 0, 0], 10)
    assert error_score(maps).shape == (2,)
    assert error_score(maps)[1] > error_score(maps)[0]
    np.testing.assert_allclose(error_score(np.full((2, 3, *SHAPE), 4.0)), 4)


def test_training_codes_score_their_number_and_others_more():
    rng = np.random.default_rng(0)
    train = rng.standard_normal((400, 3)) * [1, 5, 0.1] + [3, 0, 1]
    assert outlier_score(train, train).mean() == pytest.approx(3, rel=0.01)
    away = train[:5] + 10 * train.std(axis=0)
    assert (outlier_score(train, away) > 100).all()
    assert outlier_score(train[:5], away).shape == (5,)  # the fewest brains that span 3 latents
    covariance = np.cov(train.T)
    rest = away - train.mean(axis=0)
    wanted = (rest @ np.linalg.inv(covariance) * rest).sum(axis=1)
    np.testing.assert_allclose(outlier_score(train, away), wanted, rtol=1e-9)


def test_nonsense_is_refused_by_name():
    maps, masks = np.zeros((3, *SHAPE)), np.zeros((3, *SHAPE), bool)
    masks[0, 0, 0] = True
    codes = np.random.default_rng(0).random((9, 3))
    broken = SimpleNamespace(reconstruct=lambda images: np.full_like(images, np.nan))
    refused(
        [
            ("not finite", auc, [0.3, np.nan], [1.0]),
            ("all clean or all corrupted", auc, [0.3, 1.0], []),
            (r"brains \[1, 2\] are empty", pixel_detection, maps, masks),
            ("one number of columns", outlier_score, codes, codes[:, :2]),
            ("4 training brains do not span 3 latents", outlier_score, codes[:4], codes),
            ("a sum of others", outlier_score, codes[:, [0, 1, 0]], codes),
            ("the model's reconstruction 0 is not finite", ErrorMap, broken, np.ones((2, *SHAPE))),
        ]
    )
