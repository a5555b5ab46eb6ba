"""What only a GPU can show: graphs, streams, its memory. Skipped where there is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from brainvae_core.metrics import CWSSIM
from brainvae_core.models import BetaVAEConfig, OutOfDeviceMemory, train_together, training
from brainvae_core.models.devices import free_memory
from brainvae_core.models.images import Images
from brainvae_core.models.objectives import OBJECTIVES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
SHAPE = (40, 56)
CONFIG = BetaVAEConfig(latent_dim=3, steps=30, validate_every=10, batch_size=8)


def sections(n, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    brain = np.exp(-2 * (x**2 + y**2))
    maps = 0.15 * brain * np.stack([x, y, np.ones(SHAPE)])
    images = 0.6 * brain + np.einsum("nk,khw->nhw", rng.normal(size=(n, 3)), maps)
    return np.clip(images, 0, 1).astype(np.float32)


TRAIN, VALIDATION = sections(48), sections(10, 1)


def fit(config, **options):
    return config.fit(TRAIN, VALIDATION, device="cuda", **options)


def assert_close(one, other, tolerance=1e-2):
    for row, expected in zip(one, other, strict=True):
        assert row["validation_loss"] == pytest.approx(expected["validation_loss"], rel=tolerance)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_graph_does_what_its_steps_do(monkeypatch, objective):
    config = replace(CONFIG, objective=objective, likelihood="gaussian_learned")
    graph = fit(config)[1]
    monkeypatch.setattr(training, "captured", lambda step, stream: step)
    assert_close(graph, fit(config)[1])


def test_a_fit_is_that_of_the_cpu():
    assert_close(fit(CONFIG)[1], CONFIG.fit(TRAIN, VALIDATION, device="cpu")[1], 0.05)


def test_cw_ssim_is_that_of_the_cpu():
    rng = np.random.default_rng(2)
    reference, images = rng.random((2, 5, 45, 77))
    images = 0.6 * reference + 0.4 * images
    on_gpu, on_cpu = (CWSSIM(reference, 3, 6, device=d)(images) for d in ("cuda", "cpu"))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=0, atol=1e-5)


def test_a_team_is_what_each_is_alone():
    configs = [replace(CONFIG, seed=s, latent_dim=2 + s) for s in range(4)]
    team = train_together(configs, TRAIN, VALIDATION, device="cuda")
    for config, fitted in zip(configs, team, strict=True):
        assert fitted.failure is None
        assert_close(fitted.history, fit(config)[1])


def test_a_nan_in_one_leaves_the_others():
    configs = [CONFIG, replace(CONFIG, learning_rate=1e18, lr_warmup=0), replace(CONFIG, seed=1)]
    failures = [f.failure for f in train_together(configs, TRAIN, VALIDATION, device="cuda")]
    assert failures[0] is failures[2] is None and "not finite" in failures[1]


def test_a_fit_goes_on_from_its_checkpoint(tmp_path):
    whole = fit(CONFIG)[1]
    fit(replace(CONFIG), checkpoint=tmp_path / "c")
    assert_close(whole, fit(CONFIG, checkpoint=tmp_path / "c")[1])


def test_what_has_no_room_is_streamed(monkeypatch):
    resident = fit(CONFIG)[1]
    monkeypatch.setattr("brainvae_core.models.images.SHARE", 0.0)
    assert Images(TRAIN, torch.device("cuda")).resident is None
    assert_close(resident, fit(CONFIG)[1])


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_lower_precision_stays_near(precision):
    assert_close(fit(CONFIG)[1], fit(replace(CONFIG, precision=precision))[1], 0.05)


def test_models_leave_no_memory_behind():
    fit(CONFIG)
    free_memory()
    before = torch.cuda.memory_allocated()
    train_together([replace(CONFIG, seed=s) for s in range(3)], TRAIN, VALIDATION, device="cuda")
    free_memory()
    assert torch.cuda.memory_allocated() - before < 2**20


def test_a_full_device_is_told():
    torch.cuda.set_per_process_memory_fraction(0.001)
    try:
        with pytest.raises(OutOfDeviceMemory, match="cuda is out of memory: 1 model at once"):
            replace(CONFIG, batch_size=40).fit(
                np.tile(TRAIN, (1, 8, 8)), np.tile(VALIDATION, (1, 8, 8)), device="cuda"
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
