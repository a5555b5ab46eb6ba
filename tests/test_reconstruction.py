"""Radial spectra: waves and noise of known power."""

import numpy as np
import pytest
from refusals import refused
from scipy.ndimage import gaussian_filter

from brainvae_core.metrics import radial_spectrum


def brains(n=3, shape=(48, 67), seed=0):
    images = np.random.default_rng(seed).random((n, *shape))
    return gaussian_filter(images, (0, 1.5, 1.5)).astype(np.float32)


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
    cases = [
        ("pixel_um=0 .*must be positive", radial_spectrum, x, 0),
        ("n_bins=0 must be positive", radial_spectrum, x, 50.0, 0),
    ]
    refused(cases)
