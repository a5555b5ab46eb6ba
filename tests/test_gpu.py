"""What only a GPU can show: graphs, streams, its memory. Skipped where there is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_brains import fit_alone, sections

from brainvae_core.metrics import CWSSIM
from brainvae_core.models import BetaVAEConfig, OutOfDeviceMemory, train_together, training
from brainvae_core.models.devices import Images, free_memory

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
SHAPE = (40, 56)
CONFIG = BetaVAEConfig(latent_dim=3, steps=30, validate_every=10, batch_size=8)


TRAIN, VALIDATION = sections(48, 0, SHAPE), sections(10, 1, SHAPE)


def fit(config, device="cuda", **options):
    return fit_alone(config, TRAIN, VALIDATION, device=device, **options)


def assert_close(one, other, tolerance=1e-2):
    for row, expected in zip(one.history, other.history, strict=True):
        assert row["validation_loss"] == pytest.approx(expected["validation_loss"], rel=tolerance)


def test_a_graph_does_what_its_steps_do(monkeypatch):
    graph = fit(CONFIG)
    monkeypatch.setattr(training, "captured", lambda step, stream: step)
    assert_close(graph, fit(CONFIG))


def test_a_fit_is_that_of_the_cpu():
    assert_close(fit(CONFIG), fit(CONFIG, device="cpu"), 0.05)


def test_growth_is_that_of_the_cpu_and_keeps_the_codes():
    config = replace(CONFIG, steps="20x28: 20, 40x56: 10", precision="float32")
    found, expected = (fit(config, device=d) for d in ("cuda", "cpu"))
    assert_close(found, expected, 0.05)
    assert [row["height"] for row in found.history] == [20, 20, 40]
    images = Images(TRAIN, torch.device("cuda"))
    begun = training.Fit(config, SHAPE, None, images.device)
    begun.enter((20, 28), images.at((20, 28)), images.at((20, 28)))
    codes = begun.model.encode(TRAIN.reshape(48, 20, 2, 28, 2).mean((2, 4)))
    begun.enter(SHAPE, images, images)
    grown = begun.model.encode(TRAIN)
    np.testing.assert_allclose(grown, codes, rtol=1e-3, atol=1e-3 * np.abs(codes).max())


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
        assert_close(fitted, fit(config))


def test_a_fit_goes_on_from_its_checkpoint(tmp_path):
    whole = fit(CONFIG)
    fit(replace(CONFIG), checkpoint=tmp_path / "c")
    assert_close(whole, fit(CONFIG, checkpoint=tmp_path / "c"))


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
            large = (np.tile(part, (1, 8, 8)) for part in (TRAIN, VALIDATION))
            fit_alone(replace(CONFIG, batch_size=40), *large, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
