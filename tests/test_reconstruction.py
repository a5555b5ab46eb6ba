"""Scores of reconstructions: known answers, second implementations, small and broken images."""

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
    ms_ssim,
    norm_ratio,
    psnr,
    radial_spectrum,
    reconstruction_scores,
    scores_table,
    summarise,
)
from brainvae_core.metrics.reconstruction import LIMITS

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM's scales, as published


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

    def halved(image):
        image = np.pad(image, [(0, size % 2) for size in image.shape], mode="edge")
        return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4

    score = 1.0
    for i, weight in enumerate(weights):
        mean_x, mean_y = around(x), around(y)
        var_x, var_y = around(x * x) - mean_x**2, around(y * y) - mean_y**2
        covariance = around(x * y) - mean_x * mean_y
        structure = (2 * covariance + 0.03**2) / (var_x + var_y + 0.03**2)
        if i == len(weights) - 1:
            structure *= (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        score *= max(structure.mean(), 0) ** weight
        x, y = halved(x), halved(y)
    return score


@pytest.mark.parametrize(
    ("shape", "scales"), [((96, 91), 4), ((48, 67), 3), ((40, 56), 2), ((12, 20), 1)]
)
def test_a_second_implementation_of_ms_ssim_agrees(shape, scales, monkeypatch):
    x, y = brains(4, shape), brains(4, shape, seed=1)
    weights = np.array(WEIGHTS[-scales:]) / sum(WEIGHTS[-scales:])
    for other, atol in ((y, 5e-5), (0.8 * x + 0.2 * y, 0)):  # near 0 it cancels
        wanted = [plain_ms_ssim(a, b, weights) for a, b in zip(x, other, strict=True)]
        np.testing.assert_allclose(ms_ssim(x, other), wanted, rtol=1e-4, atol=atol)
    for chunk in (3 * x[0].size, 7):
        monkeypatch.setattr("brainvae_core.metrics.reconstruction.CHUNK_PIXELS", chunk)
        np.testing.assert_allclose(ms_ssim(x, other), wanted, rtol=1e-4)


def test_all_five_scales_identical_images_and_clipped_greys():
    x = brains(2, (177, 181))
    noise = np.random.default_rng(2).normal(0, 0.02, x.shape)
    little, much = ms_ssim(x, x + noise), ms_ssim(x, x + 4 * noise)
    assert (much < little).all() and (little < 1).all()
    np.testing.assert_allclose(ms_ssim(x + noise, x), little, rtol=1e-5)
    wanted = plain_ms_ssim(x[0], x[0] + noise[0], WEIGHTS / np.sum(WEIGHTS))
    assert little[0] == pytest.approx(wanted, rel=1e-4)
    np.testing.assert_array_equal(ms_ssim(x, 3 * x - 1), ms_ssim(x, np.clip(3 * x - 1, 0, 1)))


@settings(max_examples=20, deadline=None)
@given(error=st.floats(1e-4, 0.9), seed=st.integers(0, 99))
def test_psnr_of_a_known_error(error, seed):
    x = brains(3, seed=seed).astype(np.float64)
    sign = np.random.default_rng(seed).choice([-1, 1], x.shape)
    np.testing.assert_allclose(psnr(x, x + error * sign), -20 * np.log10(error), rtol=1e-9)


def test_a_reconstruction_is_asked_everything_by_name():
    x, y = brains(), brains(seed=1)
    mean = brains(20, seed=2).mean(axis=0)
    found = reconstruction_scores(x, y, mean, CWSSIM(x, 2, 4))
    assert {name: scores.shape for name, scores in found.items()} == dict.fromkeys(LIMITS, (3,))
    np.testing.assert_array_equal(found["CW-SSIM"], cw_ssim(x, y, 2, 4))
    np.testing.assert_array_equal(found["MS-SSIM"], ms_ssim(x, y))
    np.testing.assert_array_equal(found["PSNR"], psnr(x, y))
    np.testing.assert_array_equal(found["norm ratio"], norm_ratio(x, y, mean))


def test_intervals_of_seeds_that_differ_end_where_their_score_does():
    fits = [[s, s + 0.1, s + 0.05] for s in (0.1, 0.8)]
    table = scores_table(dict.fromkeys(LIMITS, fits))
    found = summarise(table, by="score", bounds=LIMITS).set_index("score")
    assert found.low.min() < 0 and found.high.max() > 1
    assert {name: (row.low == 0, row.high == 1) for name, row in found.iterrows()} == {
        "explained variance": (False, True),
        "CW-SSIM": (True, True),
        "MS-SSIM": (True, True),
        "PSNR": (False, False),
        "norm ratio": (True, False),
    }


# ---- radial spectra ----

SHAPE = (60, 85)


def wave(per_mm, angle, pixel_um, shape=SHAPE):
    y, x = np.indices(shape) * pixel_um / 1000
    return np.cos(2 * np.pi * per_mm * (y * np.sin(angle) + x * np.cos(angle)))[np.newaxis]


@pytest.mark.parametrize("angle", [0, 0.6, np.pi / 2])
@pytest.mark.parametrize(("per_mm", "pixel_um"), [(1.5, 100.0), (3.1, 100.0), (8.0, 50.0)])
def test_a_wave_is_found_at_its_frequency_in_every_direction(per_mm, angle, pixel_um):
    frequencies, power = radial_spectrum(wave(per_mm, angle, pixel_um), pixel_um, 12)
    ratio = frequencies[1] / frequencies[0]
    assert abs(np.log(frequencies[power[0].argmax()] / per_mm)) <= np.log(ratio) / 2 + 1e-9
    # The window spreads it over its neighbours, no further.
    near = np.abs(np.log(frequencies / per_mm)) < 1.6 * np.log(ratio)
    assert power[0, near].sum() > 0.9 * power[0].sum()
    assert power[0].sum() == pytest.approx(0.5, rel=0.05)


def test_the_nyquist_frequency_is_in_the_last_ring():
    rows = np.broadcast_to(np.indices(SHAPE)[:1] % 2 * 2.0 - 1, (1, *SHAPE))
    assert radial_spectrum(rows, 50.0, 12)[1][0, 11] == pytest.approx(0.78, abs=0.01)


@pytest.mark.parametrize("shape", [(60, 85), (61, 84), (64, 96)])
def test_noise_has_as_much_power_as_a_ring_has_frequencies(shape):
    noise = np.random.default_rng(0).standard_normal((200, *shape))
    frequencies, power = radial_spectrum(noise, 100.0, 8)
    ratio = (frequencies[1] / frequencies[0]) ** 0.5
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(size, 0.1) for size in shape), indexing="ij"))
    for middle, found in zip(frequencies, power.mean(axis=0), strict=True):
        share = ((radius >= middle / ratio) & (radius < middle * ratio)).mean()
        assert found == pytest.approx(share, rel=0.04, abs=2e-4)  # few frequencies, one window
    assert power.mean(axis=0).sum() == pytest.approx(np.pi / 4, rel=0.05)  # a disc in its square


def test_nonsense_is_refused_by_name():
    x = brains()
    broken, small = x.copy(), brains(2, (10, 40))
    broken[1, 2, 3] = np.nan
    cases = [
        (r"images \(3, 67, 48\) and reference \(3, 48, 67\)", ms_ssim, x, x.transpose(0, 2, 1)),
        (r"images\[1\] has pixels that are not finite", psnr, x, broken),
        (r"reference\[1\] has pixels", psnr, broken, x),
        (r"\(48, 67\); it must be \(n, height, width\)", ms_ssim, x[0], x),
        ("too small; MS-SSIM needs 11 pixels", ms_ssim, small, small),
        ("pixel_um=0 .*must be positive", radial_spectrum, x, 0),
        ("n_bins=0 must be positive", radial_spectrum, x, 50.0, 0),
    ]
    refused(cases)
