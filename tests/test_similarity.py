"""MS-SSIM and PSNR: known answers, a second implementation, small and broken images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d

from brainvae_core.metrics import (
    CWSSIM,
    cw_ssim,
    estimate,
    ms_ssim,
    norm_ratio,
    psnr,
    reconstruction_estimates,
    reconstruction_scores,
)
from brainvae_core.metrics.reconstruction import LIMITS, SCALE_WEIGHTS


def brains(n=3, shape=(48, 67), seed=0):
    images = np.random.default_rng(seed).random((n, *shape))
    return gaussian_filter(images, (0, 1.5, 1.5)).astype(np.float32)


def plain_ms_ssim(x, y, weights):
    """The index of Wang et al. written out, in [0, 1] with a Gaussian window of σ = 1.5."""
    x, y = x.astype(float), y.astype(float)
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    window /= window.sum()

    def around(image):
        return convolve2d(image, window, mode="valid")

    score = 1.0
    for i, weight in enumerate(weights):
        mean_x, mean_y = around(x), around(y)
        var_x, var_y = around(x * x) - mean_x**2, around(y * y) - mean_y**2
        covariance = around(x * y) - mean_x * mean_y
        structure = (2 * covariance + 0.03**2) / (var_x + var_y + 0.03**2)
        if i == len(weights) - 1:
            structure *= (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        score *= max(structure.mean(), 0) ** weight
        x, y = (
            np.pad(image, [(0, size % 2) for size in image.shape], mode="edge") for image in (x, y)
        )
        x, y = (
            (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4
            for image in (x, y)
        )
    return score


@pytest.mark.parametrize(("shape", "scales"), [((48, 67), 3), ((40, 56), 2), ((12, 20), 1)])
def test_a_second_implementation_agrees(shape, scales):
    x, y = brains(4, shape), brains(4, shape, seed=1)
    weights = np.array(SCALE_WEIGHTS[-scales:]) / sum(SCALE_WEIGHTS[-scales:])
    wanted = [plain_ms_ssim(a, b, weights) for a, b in zip(x, y, strict=True)]
    found = ms_ssim(x, 0.8 * x + 0.2 * y)
    assert found.shape == (4,) and found.dtype == np.float64
    np.testing.assert_allclose(ms_ssim(x, y), wanted, rtol=1e-4, atol=5e-5)  # near 0 it cancels
    wanted = [plain_ms_ssim(a, b, weights) for a, b in zip(x, 0.8 * x + 0.2 * y, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_identical_images_and_their_order():
    x = brains(5, (177, 181))
    noise = np.random.default_rng(2).normal(0, 0.02, x.shape)
    np.testing.assert_allclose(ms_ssim(x, x), 1, rtol=1e-6)
    little, much = ms_ssim(x, x + noise), ms_ssim(x, x + 4 * noise)
    assert (much < little).all() and (little < 1).all()
    np.testing.assert_allclose(ms_ssim(x + noise, x), little, rtol=1e-5)


def test_greys_beyond_0_and_1_are_clipped():
    x = brains()
    np.testing.assert_array_equal(ms_ssim(x, 3 * x - 1), ms_ssim(x, np.clip(3 * x - 1, 0, 1)))


def test_chunks_change_nothing(monkeypatch):
    x, y = brains(7), brains(7, seed=1)
    whole = ms_ssim(x, y)
    monkeypatch.setattr("brainvae_core.metrics.reconstruction.CHUNK_PIXELS", 3 * 48 * 67)
    np.testing.assert_allclose(ms_ssim(x, y), whole, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(error=st.floats(1e-4, 0.9), seed=st.integers(0, 99))
def test_psnr_of_a_known_error(error, seed):
    x = brains(3, seed=seed).astype(np.float64)
    sign = np.random.default_rng(seed).choice([-1, 1], x.shape)
    np.testing.assert_allclose(psnr(x, x + error * sign), -20 * np.log10(error), rtol=1e-9)


def test_psnr_of_identical_images_is_infinite():
    assert np.isposinf(psnr(brains(), brains())).all()


@pytest.mark.parametrize("metric", [ms_ssim, psnr])
def test_nonsense_is_refused_by_name(metric):
    x = brains()
    broken = x.copy()
    broken[1, 2, 3] = np.nan
    cases = [
        (
            r"images \(3, 67, 48\) and reference \(3, 48, 67\)",
            lambda: metric(x, x.transpose(0, 2, 1)),
        ),
        (r"images\[1\] has pixels that are not finite", lambda: metric(x, broken)),
        (r"reference\[1\] has pixels", lambda: metric(broken, x)),
        (r"\(48, 67\); it must be \(n, height, width\)", lambda: metric(x[0], x)),
    ]
    refused(cases)


def test_images_smaller_than_the_window_are_refused():
    x = brains(2, (10, 40))
    with pytest.raises(ValueError, match="too small; MS-SSIM needs 11 pixels"):
        ms_ssim(x, x)


def test_a_reconstruction_is_asked_everything_by_name():
    x, y = brains(), brains(seed=1)
    mean = brains(20, seed=2).mean(axis=0)
    found = reconstruction_scores(x, y, mean, CWSSIM(x, 2, 4))
    assert {name: scores.shape for name, scores in found.items()} == dict.fromkeys(
        ("explained variance", "CW-SSIM", "MS-SSIM", "PSNR", "norm ratio"), (3,)
    )
    np.testing.assert_array_equal(found["CW-SSIM"], cw_ssim(x, y, 2, 4))
    np.testing.assert_array_equal(found["PSNR"], psnr(x, y))
    np.testing.assert_array_equal(found["norm ratio"], norm_ratio(x, y, mean))


def test_scores_of_several_fits_are_regrouped_with_intervals():
    x, mean = brains(6), brains(20, seed=2).mean(axis=0)
    similarity = CWSSIM(x, 2, 4)
    fits = [reconstruction_scores(x, brains(6, seed=s), mean, similarity) for s in (3, 4)]
    found = reconstruction_estimates({"VAE": {8: fits}, "PCA": fits[:1]})
    assert list(found) == list(fits[0])
    assert found["PSNR"]["VAE"][8] == estimate([f["PSNR"] for f in fits])
    assert found["CW-SSIM"]["PCA"].n_seeds == 1


def test_intervals_of_seeds_that_differ_end_where_their_score_does():
    fits = [dict.fromkeys(LIMITS, np.array([s, s + 0.1, s + 0.05])) for s in (0.1, 0.8)]
    found = {name: by["VAE"] for name, by in reconstruction_estimates({"VAE": fits}).items()}
    assert {name: (e.low < 0, e.high > 1) for name, e in found.items()} == {
        "explained variance": (True, False),
        "CW-SSIM": (False, False),
        "MS-SSIM": (False, False),
        "PSNR": (True, True),
        "norm ratio": (False, True),
    }
