"""The β × L grid as data: printed, counted, divided, resumed, and fitted several at a time."""

import json
import math
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from brainvae_core.models import (
    BetaVAEConfig,
    FailedRun,
    OutOfDeviceMemory,
    PCAConfig,
    fit,
    fit_all,
    load_run,
    run_name,
    runs,
    training,
)
from brainvae_core.study import Study, counted

BASE = BetaVAEConfig(steps=7, seed=3, likelihood="bernoulli")
TINY = BetaVAEConfig(steps=4, validate_every=2, batch_size=4)
SHAPE = (10, 14)


def sections(n, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]] / 10
    maps = np.stack([x, y, x * y, np.cos(5 * x)])
    images = 0.5 + 0.05 * np.einsum("nk,khw->nhw", rng.normal(size=(n, 4)), maps)
    return np.clip(images, 0, 1).astype(np.float32)


class Brains:
    """As much of a cohort as a fit may read."""

    name, fingerprint = "brains", "0123456789abcdef"

    def split(self, name):
        return SimpleNamespace(images=sections(14, 0) if name == "train" else sections(5, 1))


COHORT = Brains()


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


def test_the_papers_grid_has_340_points():
    grid = Study(BASE, range(1, 21), range(4, 21))
    assert len(grid) == 20 * 17 == 340
    assert sum(c.kind == "pca" for c in grid.configs) == 17
    assert len(set(grid.configs)) == 357


def test_a_study_is_printed_with_its_counts():
    said = str(Study(BASE, [0.5, 3], [2, 4, 8], [0, 1]))
    assert said == "3 L (2, 4, 8) × 2 β (0.5, 3) × 2 seed (0, 1) = 12 β-VAEs, and 3 PCAs"


def test_rows_divide_a_study():
    grid = Study(BASE, [1, 3], [2, 4, 8], [0, 1])
    rows = [grid.row(n) for n in grid.latent_dims]
    assert all(len(row) == 4 and len(row.configs) == 5 for row in rows)
    assert {c for row in rows for c in row.configs} == set(grid.configs)
    with pytest.raises(ValueError, match="latent_dim=3 is no row of this grid; it has 2, 4, 8"):
        grid.row(3)


def test_an_axis_may_be_an_array():
    grid = Study(BASE, np.array([0.5, 2]), np.arange(2, 5))
    assert len(grid.configs) == 3 + 6
    assert grid == Study(BASE, (0.5, 2.0), (2, 3, 4))


@pytest.mark.parametrize(
    ("betas", "latent_dims", "seeds", "message"),
    [
        ([1, 3, 1], [2], [0], r"betas=\[1.0, 3.0, 1.0\] must list at least one value, each once"),
        ([1], [4, 2, 4], [0], r"latent_dims=\[4, 2, 4\]"),
        ([], [2], [0], r"betas=\[\]"),
        ([1], [], [0], r"latent_dims=\[\]"),
        ([1], [2], [], r"seeds=\[\]"),
        ([1], [2], [1, 1], r"seeds=\[1, 1\]"),
        ([1, -1], [2], [0], "beta=-1.0 must be finite"),
    ],
)
def test_a_product_that_cannot_be_is_refused_before_anything_is_fitted(
    betas, latent_dims, seeds, message
):
    with pytest.raises(ValueError, match=message):
        Study(BASE, betas, latent_dims, seeds)


# ---- fitting it ----


@pytest.mark.parametrize("together", [1, 2, 5])
def test_a_study_is_fitted_once_and_then_loaded(tmp_path, monkeypatch, together):
    grid = Study(TINY, [1, 3], [2, 3])
    fitted = fit_all(COHORT, grid.configs, tmp_path, "cpu", together)
    assert [run.config for run in fitted] == list(grid.configs)
    assert counted(grid.configs, COHORT, tmp_path) == f"{len(grid.configs)} fitted"
    monkeypatch.setattr(BetaVAEConfig, "fit_together", None)
    monkeypatch.setattr(PCAConfig, "fit_together", None)
    again = fit_all(COHORT, grid.configs, tmp_path, "cpu", together)
    assert [run.history for run in again] == [run.history for run in fitted]


@pytest.mark.parametrize("together", [1, 3])
def test_an_interrupted_study_goes_on_with_what_is_missing(tmp_path, monkeypatch, together):
    grid = Study(TINY, [1, 3, 10], [2, 3])
    whole, calls = BetaVAEConfig.fit_together, []

    def interrupted(configs, *arguments, **options):
        calls.append(names(configs))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(configs, *arguments, **options)

    monkeypatch.setattr(BetaVAEConfig, "fit_together", staticmethod(interrupted))
    with pytest.raises(KeyboardInterrupt):
        fit_all(COHORT, grid.configs, tmp_path, "cpu", together)
    state = counted(grid.configs, COHORT, tmp_path)
    assert state == f"{2 + together} fitted, {6 - together} missing"
    fit_all(COHORT, grid.configs, tmp_path, "cpu", together)
    once = [name for call in calls[:1] + calls[2:] for name in call]
    assert sorted(once) == sorted(names(grid.configs[2:]))
    assert counted(grid.configs, COHORT, tmp_path) == f"{len(grid.configs)} fitted"


def test_a_row_that_was_begun_is_told_so(tmp_path):
    grid = Study(TINY, [1], [2])
    (tmp_path / f".{names(grid.configs)[1]}").mkdir()
    assert counted(grid.configs, COHORT, tmp_path) == "1 missing, 1 begun"


def test_nothing_is_trained_together_by_none():
    with pytest.raises(ValueError, match="together=0: at least 1 model"):
        fit_all(COHORT, [TINY], "runs", together=0)


def test_a_run_that_another_process_fits_is_left_to_it(tmp_path):
    configs = [replace(TINY, latent_dim=n) for n in (2, 3, 4)]
    folder = tmp_path / names(configs)[1]
    with runs._alone(runs._lock(folder)):
        runs.fit_together(COHORT, configs, tmp_path, "cpu")
    assert [(tmp_path / name).exists() for name in names(configs)] == [True, False, True]


# ---- several models at once ----


@pytest.mark.parametrize("threads", [1, 2])
def test_together_every_model_becomes_what_it_is_alone(threads):
    configs = [
        BetaVAEConfig(latent_dim=2, beta=1, steps=12, validate_every=5, batch_size=4),
        BetaVAEConfig(latent_dim=5, beta=4, steps=9, batch_size=3, seed=2, optimiser="adam"),
        BetaVAEConfig(latent_dim=3, steps=10, objective="total_correlation", batch_size=6),
        BetaVAEConfig(latent_dim=3, steps=7, likelihood="gaussian_learned", batch_size=14),
    ]
    configs = [replace(config, precision="float32") for config in configs]
    train, validation = sections(14), sections(5, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        team = training.train_together(configs, train, validation, device="cpu")
        alone = [config.fit(train, validation, device="cpu") for config in configs]
    finally:
        torch.set_num_threads(before)
    for (model, history, failure, _), (expected, rows) in zip(team, alone, strict=True):
        assert failure is None and [r["step"] for r in history] == [r["step"] for r in rows]
        for row, wanted in zip(history, rows, strict=True):
            for name in set(row) - {"seconds"}:
                assert row[name] == pytest.approx(wanted[name], rel=1e-3, abs=1e-4), name
        if threads == 1:  # with fewer threads than alone, sums are taken in another order
            for name, tensor in model.tensors().items():
                assert np.array_equal(tensor, expected.tensors()[name]), name


def test_a_nan_in_one_of_several_ends_that_one_and_leaves_the_others_untouched(tmp_path, capfd):
    configs = [
        replace(TINY, latent_dim=2),
        replace(TINY, latent_dim=3, learning_rate=1e18, lr_warmup=0, steps=30),
        replace(TINY, latent_dim=4),
    ]
    alone = [fit(COHORT, config, tmp_path / "alone", "cpu") for config in configs[::2]]
    fitted = fit_all(COHORT, configs, tmp_path / "runs", "cpu", together=3)
    assert [run.config for run in fitted] == configs[::2]
    for run, expected in zip(fitted, alone, strict=True):
        for name, tensor in run.model.tensors().items():
            np.testing.assert_allclose(tensor, expected.model.tensors()[name], atol=1e-4)
    told = capfd.readouterr().err
    assert "failed: epoch" in told and "not finite; lower learning_rate" in told
    folder = tmp_path / "runs" / names(configs)[1]
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "history.csv"]
    assert "not finite" in json.loads((folder / "config.json").read_text())["failure"]
    with pytest.raises(FailedRun, match=r"failed: epoch \d+, step \d+: .* \(delete it to fit it"):
        load_run(folder)
    with pytest.raises(FailedRun):
        fit(COHORT, configs[1], tmp_path / "runs", "cpu")


def test_a_failed_run_is_a_state_of_the_study(tmp_path):
    grid = Study(replace(TINY, learning_rate=1e18, lr_warmup=0, steps=30), [1], [2])
    assert [run.config for run in fit_all(COHORT, grid.configs, tmp_path, "cpu")] == [PCAConfig(2)]
    assert counted(grid.configs, COHORT, tmp_path) == "1 fitted, 1 failed"


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
        training.train_together(configs, sections(14), sections(5, 1), device="cpu")
    assert len(seen) < 10_000


def test_threads_are_given_back():
    before = torch.get_num_threads()
    training.train_together([TINY, replace(TINY, seed=1)], sections(9), sections(5), device="cpu")
    assert torch.get_num_threads() == before


def test_a_rehearsal_leaves_no_trace(monkeypatch):
    config = replace(TINY, likelihood="gaussian_learned")
    expected = config.fit(sections(9), sections(5), device="cpu")
    whole = training.Fit.enter

    def rehearsed(fit, *arguments):
        whole(fit, *arguments)
        fit.rehearse()

    monkeypatch.setattr(training.Fit, "enter", rehearsed)
    model, history = config.fit(sections(9), sections(5), device="cpu")
    assert history[-1]["loss"] == expected[1][-1]["loss"]
    for name, tensor in model.tensors().items():
        assert np.array_equal(tensor, expected[0].tensors()[name]), name


# ---- a device that is full ----


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_a_full_device_says_what_was_needed_and_what_lowers_it(monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(training, "Fit", full)
    with pytest.raises(OutOfDeviceMemory) as told:
        training.train_together([TINY] * 3, sections(9), sections(5), device="cpu")
    message = str(told.value)
    assert message.startswith("cpu is out of memory: 3 models at once with batches of 4 × 10 × 14")
    assert message.endswith("lower together (or batch_size)") and "\n" not in message
    with pytest.raises(OutOfDeviceMemory, match="1 model at once .* lower batch_size$"):
        TINY.fit(sections(9), sections(5), device="cpu")


def test_other_errors_are_not_taken_for_a_full_device(monkeypatch):
    def broken(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(training, "Fit", broken)
    with pytest.raises(RuntimeError, match="^mat1 and mat2"):
        training.train_together([TINY], sections(9), sections(5), device="cpu")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_whatever_a_full_device_is_called_it_is_recognised(monkeypatch, error):
    def broken(*_):
        try:
            raise error
        finally:
            raise RuntimeError("capture_end: the capture was invalidated")

    monkeypatch.setattr(training, "Fit", broken)
    with pytest.raises(OutOfDeviceMemory):
        TINY.fit(sections(9), sections(5), device="cpu")


@pytest.mark.parametrize("when", ["made", "run"])
def test_models_that_did_not_fit_are_gone_before_fewer_are_tried(tmp_path, monkeypatch, when):
    alive, left = [], []
    make, step = training.Fit.__init__, training.Fit.step

    def made(fit, *arguments):
        if sum(one() is not None for one in alive) == 0:
            left.append(0)
        make(fit, *arguments)
        alive.append(weakref.ref(fit))
        if when == "made" and len(alive) == 4:
            left.append("full")
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def stepped(fit):
        if when == "run" and left[-1:] != ["full"] and len(alive) == 4:
            left.append("full")
            raise torch.OutOfMemoryError("CUDA out of memory.")
        step(fit)

    monkeypatch.setattr(training.Fit, "__init__", made)
    monkeypatch.setattr(training.Fit, "step", stepped)
    configs = [replace(TINY, seed=seed) for seed in range(4)]
    assert len(fit_all(COHORT, configs, tmp_path, "cpu", together=4, halve=True)) == 4
    after = left[left.index("full") + 1 :]
    assert after and after[0] == 0


def test_images_are_put_on_the_device_once_for_all_teams(tmp_path, monkeypatch):
    made, whole = [], training.on_device.__globals__["Images"].__init__

    def counted(images, *arguments):
        made.append(images)
        whole(images, *arguments)

    monkeypatch.setattr(training.on_device.__globals__["Images"], "__init__", counted)
    fit_all(COHORT, Study(TINY, [1, 2, 3], [2, 3]).configs, tmp_path, "cpu", together=2)
    assert len(made) == 2


def test_a_full_device_is_asked_for_half_as_many_when_told_to(tmp_path, monkeypatch, capfd):
    whole, asked = BetaVAEConfig.fit_together, []

    def holds_two(configs, *arguments, **options):
        asked.append(len(configs))
        if len(configs) > 2:
            raise OutOfDeviceMemory(f"{len(configs)} models do not fit")
        return whole(configs, *arguments, **options)

    monkeypatch.setattr(BetaVAEConfig, "fit_together", staticmethod(holds_two))
    grid = Study(TINY, [1, 2, 3], [2, 3, 4])
    with pytest.raises(OutOfDeviceMemory):
        fit_all(COHORT, grid.configs, tmp_path, "cpu", together=8)
    asked.clear()
    fitted = fit_all(COHORT, grid.configs, tmp_path, "cpu", together=8, halve=True)
    assert len(fitted) == len(grid.configs)
    assert asked == [8, 4, 2, 2, 2, 2, 1]
    assert "8 models do not fit; going on with 4 at once" in capfd.readouterr().err
    assert math.isfinite(fitted[-1].history[-1]["validation_loss"])
