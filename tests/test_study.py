"""The β × L grid as data: printed, counted, divided, resumed, and fitted several at a time."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from refusals import refused
from small_brains import Brains, assert_same, fit_alone, sections

from brainvae_core.disk import file_lock
from brainvae_core.models import (
    BetaVAEConfig,
    FailedRun,
    OutOfDeviceMemory,
    PCAConfig,
    devices,
    fit,
    fit_all,
    load_run,
    run_name,
    runs,
    training,
)
from brainvae_core.settings import Settings
from brainvae_core.study import STAGES, Study, count_runs

BASE = BetaVAEConfig(steps=7, seed=3, likelihood="bernoulli")
TINY = BetaVAEConfig(steps=4, validate_every=2, batch_size=4)
SHAPE = (10, 14)
TRAIN, VALIDATION = sections(14, 0, SHAPE), sections(5, 1, SHAPE)
COHORT = Brains(TRAIN, VALIDATION)


def names(configs):
    return [run_name(config, COHORT.fingerprint) for config in configs]


# ---- the product ----


def test_a_study_is_a_product_with_pca_at_every_l():
    grid = Study(BASE, [1, 3, 10], [2, 4], [0, 5])
    assert grid.configs[:2] == (PCAConfig(2), PCAConfig(4))
    points = [(c.latent_dim, c.beta, c.seed) for c in grid.configs[2:]]
    assert points == [(n, b, s) for n in (2, 4) for b in (1, 3, 10) for s in (0, 5)]
    assert all((c.steps, c.likelihood) == (7, "bernoulli") for c in grid.configs[2:])
    assert len(grid) == 12 and len(grid.configs) == 14
    assert grid == Study(BASE, np.array([1, 3, 10]), np.arange(2, 5, 2), [0, 5])


def test_fits_of_more_latents_than_the_models_have_steps_of_their_own():
    wide = Study(BASE, [1, 3], [4, 8, 9], wide_steps=20)
    assert [c.steps for c in wide.configs[3:]] == [7, 7, 7, 7, 20, 20]
    p = Settings().changed({"grid.wide_steps": 900, "grid.latent_dims": [4, 8, 16]})
    curve = {c.latent_dim: c.steps for c in STAGES["curve"].models(p)["VAE"]}
    few, many = p.grid.steps, 900
    assert curve == {2: few, 4: few, 8: few, 16: many, 30: many}
    assert {c.steps for c in STAGES["curve"].models(Settings())["VAE"]} == {few}


def test_a_product_that_cannot_be_is_refused_before_anything_is_fitted():
    each = "must list at least one value, each once"
    refused(
        [
            (rf"betas=\[1.0, 3.0, 1.0\] {each}", Study, BASE, [1, 3, 1], [2]),
            (rf"latent_dims=\[\] {each}", Study, BASE, [1], []),
            (rf"seeds=\[1, 1\] {each}", Study, BASE, [1], [2], [1, 1]),
            ("beta=-1.0 must be finite", Study, BASE, [1, -1], [2]),
        ]
    )


# ---- fitting it ----


@pytest.mark.promise("what was interrupted goes on, and nothing is made twice")
@pytest.mark.slow
@pytest.mark.parametrize("together", [1, 3])
def test_an_interrupted_study_goes_on_with_what_is_missing(tmp_path, monkeypatch, together):
    grid = Study(TINY, [1, 3, 10], [2, 3])
    whole, calls = runs.train_together, []

    def interrupted(configs, *arguments, **options):
        calls.append(names(configs))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(configs, *arguments, **options)

    monkeypatch.setattr(runs, "train_together", interrupted)
    monkeypatch.setattr(runs, "at_once", lambda together, device: together)  # as a GPU
    with pytest.raises(KeyboardInterrupt):
        fit_all(COHORT, grid.configs, tmp_path, "cpu", together)
    (tmp_path / f".{names(grid.configs)[-1]}").mkdir()
    state = count_runs(grid.configs, COHORT, tmp_path)
    assert state == f"{2 + together} fitted, {5 - together} missing, 1 begun"
    fit_all(COHORT, grid.configs, tmp_path, "cpu", together)
    once = [name for call in calls[:1] + calls[2:] for name in call]
    assert sorted(once) == sorted(names(grid.configs[2:]))
    assert count_runs(grid.configs, COHORT, tmp_path) == f"{len(grid.configs)} fitted"
    monkeypatch.setattr(runs, "save_run", None)
    again = fit_all(COHORT, grid.configs, tmp_path, "cpu", together)
    assert [run.config for run in again] == list(grid.configs)


def test_every_pca_comes_from_one_decomposition(tmp_path, monkeypatch):
    whole, sizes = PCAConfig.fit_together, []

    def noted(configs, *arguments, **options):
        sizes.append(len(configs))
        return whole(configs, *arguments, **options)

    monkeypatch.setattr(PCAConfig, "fit_together", noted)
    fitted = fit_all(COHORT, [PCAConfig(n) for n in range(1, 6)], tmp_path, "cpu", together=2)
    assert sizes == [5] and [run.model.latent_dim for run in fitted] == [1, 2, 3, 4, 5]


@pytest.mark.promise("of several processes that want one run, one fits it")
def test_a_run_that_another_process_fits_is_left_to_it(tmp_path):
    configs = [replace(TINY, latent_dim=n) for n in (2, 3, 4)]
    folder = tmp_path / names(configs)[1]
    with file_lock(folder):
        runs.fit_together(COHORT, configs, tmp_path, "cpu")
    assert [(tmp_path / name).exists() for name in names(configs)] == [True, False, True]


# ---- several models at once ----


@pytest.mark.promise("models that train together become what each is alone")
@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_together_every_model_becomes_what_it_is_alone(threads):
    configs = [
        BetaVAEConfig(latent_dim=2, beta=1, steps=7, validate_every=3, batch_size=4),
        BetaVAEConfig(latent_dim=5, beta=4, steps=5, batch_size=3, seed=2, optimiser="adam"),
        BetaVAEConfig(latent_dim=3, steps=6, likelihood="squares", batch_size=6),
        BetaVAEConfig(latent_dim=3, steps=4, likelihood="bernoulli", batch_size=14),
    ]
    configs = [replace(config, precision="float32") for config in configs]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        team = training.train_together(configs, TRAIN, VALIDATION, device="cpu")
        assert torch.get_num_threads() == threads
        alone = [fit_alone(config, TRAIN, VALIDATION) for config in configs]
    finally:
        torch.set_num_threads(before)
    for one, expected in zip(team, alone, strict=True):
        assert one.failure is None
        if threads == 1:  # with fewer threads than alone, sums are taken in another order
            assert_same(one, expected)
        for row, wanted in zip(one.history, expected.history, strict=True):
            for name in set(row) - {"seconds"}:
                assert row[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-4), name


def test_a_cpu_trains_no_more_models_at_once_than_it_has_threads(tmp_path, monkeypatch):
    whole, teams = runs.train_together, []

    def noted(configs, *arguments, **options):
        teams.append(len(configs))
        return whole(configs, *arguments, **options)

    monkeypatch.setattr(runs, "train_together", noted)
    fit_all(COHORT, [replace(TINY, latent_dim=n) for n in (2, 3, 4)], tmp_path, "cpu", together=3)
    assert sum(teams) == 3 and max(teams) == min(3, torch.get_num_threads())
    assert devices.at_once(3, torch.device("cuda")) == 3


def test_a_fit_that_fails_is_told_kept_and_left_out(tmp_path, capfd):
    spoiled = replace(TINY, latent_dim=3, learning_rate=1e18, lr_warmup=0, steps=30)
    configs = [replace(TINY, latent_dim=2), spoiled, PCAConfig(2)]
    fitted = fit_all(COHORT, configs, tmp_path, "cpu", together=3)
    assert [run.config for run in fitted] == configs[::2]
    errors = capfd.readouterr().err
    assert "failed: epoch" in errors and "not finite; lower learning_rate" in errors
    assert count_runs(configs, COHORT, tmp_path) == "2 fitted, 1 failed"
    folder = tmp_path / names(configs)[1]
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "history.csv"]
    assert "not finite" in json.loads((folder / "config.json").read_text())["failure"]
    with pytest.raises(FailedRun, match=r"failed: epoch \d+, step \d+: .* \(delete it to fit it"):
        load_run(folder)
    with pytest.raises(FailedRun):
        fit(COHORT, spoiled, tmp_path, "cpu")
    with pytest.raises(ValueError, match="together=0: at least 1 model"):
        fit_all(COHORT, configs, tmp_path, together=0)


def test_an_error_in_one_ends_all_and_is_raised(monkeypatch):
    whole, seen = training.Fit.step, []

    def step(fit):
        if fit.config.latent_dim == 3:
            raise OSError("no space left")
        seen.append(fit.config.latent_dim)
        whole(fit)

    monkeypatch.setattr(training.Fit, "step", step)
    configs = [BetaVAEConfig(latent_dim=n, steps=100_000, batch_size=2) for n in (2, 3)]
    with pytest.raises(OSError, match="no space left"):
        training.train_together(configs, TRAIN, VALIDATION, device="cpu")
    assert len(seen) < 10_000


def test_a_rehearsal_leaves_no_trace(monkeypatch):
    expected, whole = fit_alone(TINY, TRAIN, VALIDATION), training.Fit.enter

    def rehearsed(fit, *arguments):
        whole(fit, *arguments)
        fit.rehearse()

    monkeypatch.setattr(training.Fit, "enter", rehearsed)
    assert_same(fit_alone(TINY, TRAIN, VALIDATION), expected)


# ---- a device that is full ----


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_a_full_device_says_what_was_needed_and_what_lowers_it(monkeypatch, error):
    def full(*_):
        try:
            raise error
        finally:
            raise RuntimeError("capture_end: the capture was invalidated")

    monkeypatch.setattr(training, "Fit", full)
    message = (
        r"^cpu is out of memory: 3 models at once with batches of 4 × 10 × 14.*\(or batch_size\)$"
    )
    with pytest.raises(OutOfDeviceMemory, match=message):
        training.train_together([TINY] * 3, TRAIN, VALIDATION, device="cpu")
    with pytest.raises(OutOfDeviceMemory, match="1 model at once .* lower batch_size$"):
        fit_alone(TINY, TRAIN, VALIDATION)


@pytest.mark.slow
def test_a_full_device_is_asked_for_half_as_many(tmp_path, monkeypatch, capfd):
    whole, room, sizes = runs.train_together, [2], []

    def holding(configs, *arguments, **options):
        sizes.append(len(configs))
        if len(configs) > room[-1]:
            raise OutOfDeviceMemory(f"{len(configs)} models do not fit")
        return whole(configs, *arguments, **options)

    monkeypatch.setattr(runs, "train_together", holding)
    monkeypatch.setattr(runs, "at_once", lambda together, device: together)  # as a GPU
    grid = Study(TINY, [1, 2, 3], [2, 3, 4])
    fitted = fit_all(COHORT, grid.configs, tmp_path, "cpu", together=8)
    assert len(fitted) == len(grid.configs)
    assert sizes == [8, 4, 2, 2, 2, 2, 1]
    assert "8 models do not fit; going on with 4 at once" in capfd.readouterr().err
    room.append(0)
    with pytest.raises(OutOfDeviceMemory, match="^1 models"):
        fit_all(COHORT, [replace(TINY, seed=9)], tmp_path, "cpu", together=2)
    assert math.isfinite(fitted[-1].history[-1]["validation_loss"])
