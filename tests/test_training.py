"""The training loop: it learns, resumes to the same bits, and says what went wrong."""

import contextlib
import functools
import math
import re
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from brainvae_core.models import (
    BetaVAE,
    BetaVAEConfig,
    arrays,
    devices,
    diagnose,
    elbo_terms,
    train_together,
    training,
)
from brainvae_core.models.arrays import keep_freed_memory
from brainvae_core.models.devices import pick_device
from brainvae_core.models.images import Images
from brainvae_core.models.initialisation import INITIALISATIONS
from brainvae_core.models.likelihoods import LIKELIHOODS, sigma_at
from brainvae_core.models.objectives import OBJECTIVES
from brainvae_core.models.recipes import FAST_STAGES, RECIPES, fast_config, paper_config
from brainvae_core.models.schedule import Schedule, Stage, progress, rate

SHAPE = (20, 28)
SHORT = {"latent_dim": 3, "steps": 12, "validate_every": 4, "batch_size": 4}


def sections(n, seed=0):
    """Images of one shape whose two halves and overall grey vary from brain to brain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    brain = np.exp(-2 * (x**2 + y**2))
    maps = 0.15 * brain * np.stack([x, y, np.ones(SHAPE)])
    images = 0.6 * brain + np.einsum("nk,khw->nhw", rng.normal(size=(n, 3)), maps)
    return np.clip(images + rng.normal(0, 0.01, (n, *SHAPE)), 0, 1).astype(np.float32)


TRAIN, VALIDATION = sections(48), sections(10, seed=1)


def fit(config, checkpoint=None, train=TRAIN, validation=VALIDATION):
    return config.fit(train, validation, checkpoint=checkpoint, device="cpu")


uninterrupted = functools.cache(fit)


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def assert_same(one, other):
    assert without_seconds(one[1]) == without_seconds(other[1])
    for name, value in one[0].tensors().items():
        assert np.array_equal(value, other[0].tensors()[name]), name


def interrupt_at(monkeypatch, step):
    """Ctrl-C where the loop asks for the rows of one step."""

    whole = Schedule.__call__

    def draws(schedule, asked):
        if asked == step:
            raise KeyboardInterrupt
        return whole(schedule, asked)

    monkeypatch.setattr(Schedule, "__call__", draws)


# ---- it learns ----


def test_the_loss_falls_and_the_latents_come_alive():
    config = BetaVAEConfig(latent_dim=3, steps=160, validate_every=40, beta=1)
    model, history = fit(config, train=sections(256, seed=2))
    assert [row["step"] for row in history] == [40, 80, 120, 160]
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]
    assert history[-1]["explained_variance"] > 0.5
    assert history[-1]["active_latents"] == 3
    residual = np.square(model.reconstruct(VALIDATION) - VALIDATION).sum()
    total = np.square(VALIDATION - VALIDATION.mean(0)).sum()
    assert history[-1]["explained_variance"] == pytest.approx(1 - residual / total, rel=1e-3)
    assert model.encode(VALIDATION).std(0).min() > 0.1


def test_a_row_says_what_the_docstring_promises():
    _, history = fit(BetaVAEConfig(**SHORT, beta=2, kl_warmup=0.5))
    names = "step height loss reconstruction kl progress sigma validation_loss "
    names += "validation_reconstruction "
    names += "validation_kl explained_variance active_latents seconds"
    for row in history:
        assert list(row) == names.split()
        penalty = 2 * row["progress"] * row["kl"]
        assert row["loss"] == pytest.approx(row["reconstruction"] + penalty, 1e-5)
        held_out = row["validation_reconstruction"] + 2 * row["validation_kl"]
        assert row["validation_loss"] == pytest.approx(held_out, 1e-5)
        assert isinstance(row["active_latents"], int) and 0 <= row["active_latents"] <= 3
        assert row["sigma"] == pytest.approx(math.sqrt(0.2 * 560 / 143_360))
        assert row["height"] == 20
    assert [row["progress"] for row in history] == pytest.approx([4 / 6, 1, 1])


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_loss_is_in_nats_per_image(likelihood):
    # 560 pixels: Bernoulli at a decoded mean costs some 0.5 nats each, not in all.
    _, history = fit(BetaVAEConfig(**SHORT, likelihood=likelihood))
    assert abs(history[0]["reconstruction"]) > 100


def test_the_last_step_is_validated_even_off_the_beat():
    _, history = fit(BetaVAEConfig(latent_dim=2, steps=7, validate_every=3))
    assert [row["step"] for row in history] == [3, 6, 7]


def validate(model, images, config):
    return training._validate(model, Images(images, torch.device("cpu")), config, len(TRAIN))


def test_validation_is_at_full_beta_and_over_every_image():
    config = BetaVAEConfig(**SHORT, beta=5)
    model = BetaVAE(3, SHAPE)
    many = sections(70, seed=3)  # more than one batch of 64
    row = validate(model, many, config)
    mean, std = model.posterior(many)
    kl = 0.5 * (mean**2 + std**2 - 1 - 2 * np.log(std)).sum(1).mean()
    assert row["validation_kl"] == pytest.approx(kl, rel=1e-4)
    residual = np.square(model.reconstruct(many) - many).sum(dtype=np.float64)
    total = np.square(many - many.mean(0)).sum(dtype=np.float64)
    assert row["explained_variance"] == pytest.approx(1 - residual / total, rel=1e-4)
    free = validate(model, many, BetaVAEConfig(**SHORT, beta=0))
    assert row["validation_loss"] - free["validation_loss"] == pytest.approx(5 * kl, rel=1e-2)


# ---- it is repeatable ----


def test_a_fit_follows_from_its_seed():
    config = BetaVAEConfig(**SHORT)
    first = fit(config)
    torch.randn(5)  # whatever else was drawn meanwhile
    assert_same(first, fit(config))
    other = fit(BetaVAEConfig(**SHORT, seed=1))
    assert not np.array_equal(first[0].encode(VALIDATION), other[0].encode(VALIDATION))


def test_every_step_samples_anew_and_every_validation_alike(monkeypatch):
    drawn = []

    whole = training.reparameterise

    def noted(mean, logvar, noise):
        z = whole(mean, logvar, noise)
        drawn.append(((z - mean) / (logvar / 2).exp()).detach().numpy().round(2)[:4].tolist())
        return z

    monkeypatch.setattr(training, "reparameterise", noted)
    fit(BetaVAEConfig(**SHORT))
    validated = [drawn.pop(i) for i in (14, 9, 4)]  # after steps 12, 8 and 4
    assert validated[0] == validated[1] == validated[2]
    assert len({str(noise) for noise in [*drawn, validated[0]]}) == 13


@pytest.mark.parametrize(("initialisation", "optimiser"), [("data", "muon"), ("authors", "adam")])
@pytest.mark.parametrize("stopped_at", [2, 9])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_fit_goes_on_to_the_same_bits(
    tmp_path, monkeypatch, stopped_at, initialisation, optimiser, precision
):
    config = BetaVAEConfig(
        **SHORT, initialisation=initialisation, optimiser=optimiser, precision=precision
    )
    whole = uninterrupted(config)
    checkpoint = tmp_path / "checkpoint.safetensors"
    interrupt_at(monkeypatch, stopped_at)
    with pytest.raises(KeyboardInterrupt):
        fit(config, checkpoint)
    assert checkpoint.exists() == (stopped_at >= 4)
    monkeypatch.undo()
    assert_same(whole, fit(config, checkpoint))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.mark.parametrize("stopped_at", [2, 4, 5, 7, 9, 11])
def test_a_growing_fit_goes_on_in_every_stage(tmp_path, monkeypatch, stopped_at):
    config = BetaVAEConfig(latent_dim=3, steps="10x14: 4, 20x28: 6", validate_every=2, batch_size=4)
    whole = uninterrupted(config)
    assert [(row["step"], row["height"]) for row in whole[1]] == [
        (2, 10), (4, 10), (6, 20), (8, 20), (10, 20)
    ]  # fmt: skip
    interrupt_at(monkeypatch, stopped_at)
    with contextlib.suppress(KeyboardInterrupt):  # of 10 steps
        fit(config, tmp_path / "c")
    monkeypatch.undo()
    assert_same(whole, fit(config, tmp_path / "c"))


def test_a_growing_fit_in_a_team_is_what_it_is_alone():
    grown = BetaVAEConfig(latent_dim=3, steps="10x14: 4, 20x28: 6", validate_every=2, batch_size=4)
    configs = [grown, replace(grown, steps=5, seed=1), replace(grown, seed=2)]
    team = train_together(configs, TRAIN, VALIDATION, device="cpu")
    for config, found in zip(configs, team, strict=True):
        model, history = fit(config)
        assert [row["step"] for row in found.history] == [row["step"] for row in history]
        for row, expected in zip(found.history, history, strict=True):
            assert row["validation_loss"] == pytest.approx(expected["validation_loss"], rel=0.01)


def test_a_checkpoint_of_one_stage_is_refused_by_other_stages(tmp_path, monkeypatch):
    config = BetaVAEConfig(latent_dim=3, steps="10x14: 4, 20x28: 6", validate_every=2, batch_size=4)
    interrupt_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        fit(config, tmp_path / "c")
    monkeypatch.undo()
    for steps in ("10x14: 4, 20x28: 8", "10x14: 6, 20x28: 6", 6):
        with pytest.raises(ValueError, match="was made with another steps; delete"):
            fit(replace(config, steps=steps), tmp_path / "c")


def test_twice_interrupted_is_still_the_same(tmp_path, monkeypatch):
    config = BetaVAEConfig(**SHORT)
    checkpoint = tmp_path / "new" / "checkpoint.safetensors"
    for stopped_at in (5, 11):
        interrupt_at(monkeypatch, stopped_at)
        with pytest.raises(KeyboardInterrupt):
            fit(config, checkpoint)
        monkeypatch.undo()
    assert_same(uninterrupted(config), fit(config, checkpoint))


def test_a_finished_checkpoint_takes_no_step_more(tmp_path, monkeypatch):
    config, checkpoint = BetaVAEConfig(**SHORT), tmp_path / "c"
    done = fit(config, checkpoint)
    monkeypatch.setattr(Schedule, "__call__", None)
    assert_same(done, fit(config, checkpoint))


@pytest.mark.parametrize("keep", [0, 5, 0.5])
def test_a_damaged_checkpoint_is_named(tmp_path, keep):
    config, checkpoint = BetaVAEConfig(**SHORT), tmp_path / "c"
    fit(config, checkpoint)
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: keep if keep != 0.5 else len(content) // 2])
    with pytest.raises(ValueError, match="checkpoint .*/c is damaged .* delete it") as error:
        fit(config, checkpoint)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    fit(BetaVAEConfig(**SHORT), tmp_path / "c")
    with pytest.raises(ValueError, match="made with another beta, latent_dim; delete"):
        fit(BetaVAEConfig(**SHORT | {"latent_dim": 2}, beta=7), tmp_path / "c")


@pytest.mark.parametrize(("n", "size"), [(48, 16), (50, 16), (16, 16), (7, 1)])
def test_batches_take_each_brain_once_an_epoch(n, size):
    config = BetaVAEConfig(batch_size=size)
    per_epoch = max(n // size, 1)
    whole = Stage(SHAPE, 0, 100)
    rows = Schedule(config, whole, n, torch.device("cpu")).rows
    epochs = [
        np.concatenate([rows(e * per_epoch + i) for i in range(per_epoch)]).tolist()
        for e in range(3)
    ]
    for rows in epochs:
        assert len(set(rows)) == len(rows) == min(n, per_epoch * size)
        assert set(rows) <= set(range(n))
    assert epochs[0] != epochs[1] != epochs[2]
    other = Schedule(BetaVAEConfig(batch_size=size, seed=1), whole, n, torch.device("cpu")).rows
    assert not np.array_equal(Schedule(config, whole, n, torch.device("cpu")).rows(0), other(0))


# ---- when it goes wrong ----


@pytest.mark.parametrize("term", ["kl", "reconstruction"])
def test_a_term_that_is_not_finite_is_named_with_its_step(monkeypatch, term):
    steps = iter(range(100))

    def bad(logits_or_mean, *_):
        value = logits_or_mean.flatten(1) * 0
        return value + (math.nan if next(steps) == 5 else 1)

    if term == "kl":
        monkeypatch.setattr(training, "kl_divergence", bad)
    else:
        spoiled = LIKELIHOODS["gaussian"]._replace(negative_log=lambda *a: bad(*a).sum(1))
        monkeypatch.setitem(LIKELIHOODS, "gaussian", spoiled)
    config = BetaVAEConfig(latent_dim=2, batch_size=2, steps=9)
    with pytest.raises(FloatingPointError, match=f"step 5: the {term} term is not finite; lower"):
        fit(config)


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_a_learning_rate_that_explodes_is_stopped(tmp_path, optimiser):
    rates = {"learning_rate": 1e6} if optimiser == "adam" else {"muon_rate": 1e6}
    config = BetaVAEConfig(latent_dim=2, steps=30, lr_warmup=0, optimiser=optimiser, **rates)
    with pytest.raises(FloatingPointError, match=r"step \d+: .* not finite; lower learning_rate"):
        fit(config, tmp_path / "c")


def test_weights_spoiled_by_the_last_step_are_never_kept(tmp_path, monkeypatch):
    nothing = {"validation_loss": math.nan, "explained_variance": math.nan, "active_latents": 0}
    monkeypatch.setattr(training, "_validate", lambda *_: nothing)
    with pytest.raises(FloatingPointError, match="step 3: the validation term is not finite"):
        fit(BetaVAEConfig(**SHORT), tmp_path / "c")
    assert not list(tmp_path.iterdir())


def spoiled():
    images = TRAIN.copy()
    images[7, 3, 4] = np.nan
    return images


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (TRAIN[:1], VALIDATION, "1 training images; a fit needs at least 2"),
        (TRAIN, VALIDATION[:1], "1 validation images; a fit needs at least 2"),
        (TRAIN, VALIDATION[:, ::2, ::2], r"shape \(10, 10, 14\); this model takes \(n, 20, 28\)"),
        (spoiled(), VALIDATION, "image 7 of 48 has a NaN"),
        (np.repeat(TRAIN[:1], 9, axis=0), VALIDATION, "9 training images are all the same"),
        (TRAIN[:, :19], VALIDATION[:, :19], "19×28 does not fit the network"),
    ],
)
def test_images_that_cannot_be_fitted_are_refused_in_one_line(train, validation, message):
    with pytest.raises(ValueError, match=message) as error:
        fit(BetaVAEConfig(**SHORT), train=train, validation=validation)
    assert "\n" not in str(error.value)


def test_float64_images_fit_as_their_float32():
    config = BetaVAEConfig(latent_dim=2, steps=2)
    wide = fit(config, train=TRAIN.astype(np.float64), validation=VALIDATION.astype(np.float64))
    assert_same(fit(config), wide)


# ---- how it starts ----


@pytest.mark.parametrize("n", [5, 48, 90])
def test_data_initialisation_starts_at_the_mean_image(n):
    images = sections(n)
    model = BetaVAE(4, SHAPE)
    INITIALISATIONS["data"](model, Images(images, torch.device("cpu")), 0)
    mean = images.mean(0)
    decoded = model.decode(np.random.default_rng(0).normal(size=(30, 4)))
    assert np.abs(decoded.mean(0) - mean).mean() < 0.01
    assert np.abs(decoded - mean).mean() < 0.02
    assert model.n_parameters == BetaVAE(4, SHAPE).n_parameters


def test_data_initialisation_starts_where_brains_already_differ():
    model = BetaVAE(4, SHAPE)
    INITIALISATIONS["data"](model, Images(TRAIN, torch.device("cpu")), 0)
    mean, std = model.posterior(TRAIN)
    assert mean.std(0).mean() > 5 * std.mean()
    # The layer's spread is 1 over means and log-variances together; its half is near 1.
    assert 0.6 < np.sqrt(mean.var(0).mean()) < 1.4
    np.testing.assert_allclose(std, np.exp(-2.5), rtol=0.2)
    held_out, _ = model.posterior(VALIDATION)
    assert held_out.std(0).mean() > 5 * std.mean()


def test_the_authors_initialisation_is_the_constructors():
    torch.manual_seed(0)
    model = BetaVAE(4, SHAPE)
    before = model.tensors()
    INITIALISATIONS["authors"](model, TRAIN, 0)
    assert all(np.array_equal(v, before[k]) for k, v in model.tensors().items())
    # Kaiming: std √(2 / fan-in), zero bias.
    linear = next(m for m in model.encoder if isinstance(m, torch.nn.Linear))
    assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / 768), rel=0.02)
    assert not linear.bias.any()


# ---- schedules ----


def test_the_learning_rate_rises_then_falls_to_zero_over_the_final_stage():
    config = BetaVAEConfig(steps=100, lr_warmup=0.1)
    (stage,) = config.stages(SHAPE)
    factors = [rate(config, stage, s) for s in range(100)]
    assert factors[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert factors[10] == 1 and factors[55] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.001 and (np.diff(factors[10:]) < 0).all()

    grown = BetaVAEConfig(steps="10x14: 20, 20x28: 100", lr_warmup=0.1)
    first, last = grown.stages(SHAPE)
    assert [rate(grown, first, s) for s in range(20)] == pytest.approx([0.5, 1, *[1] * 18])
    assert [rate(grown, last, 20 + s) for s in range(100)] == pytest.approx(factors)


def test_the_papers_learning_rate_and_beta_are_constant():
    config = paper_config(steps=100)
    (stage,) = config.stages(SHAPE)
    assert {rate(config, stage, s) for s in range(100)} == {1}
    assert {progress(config, stage, s) for s in range(100)} == {1}


def test_beta_rises_linearly_over_its_share_of_the_first_stage():
    config = BetaVAEConfig(steps="10x14: 8, 20x28: 8", kl_warmup=0.5)
    first, last = config.stages(SHAPE)
    assert [progress(config, first, s) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert {progress(config, last, s) for s in range(8, 16)} == {1}


# ---- the configuration ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"likelihood": "poisson"}, "likelihood='poisson' is unknown; gaussian, bernoulli"),
        ({"initialisation": "he"}, "initialisation='he' is unknown; data, authors exist"),
        ({"latent_dim": 0}, "latent_dim=0 must be positive"),
        ({"steps": -1}, "steps=-1 must be a whole positive number"),
        ({"steps": 10.5}, "steps=10.5 must be a whole positive number"),
        ({"batch_size": 0}, "batch_size=0 must be positive"),
        ({"validate_every": 0}, "validate_every=0 must be positive"),
        ({"learning_rate": 0}, "learning_rate=0.0 must be positive"),
        ({"learning_rate": math.nan}, "learning_rate=nan must be positive"),
        ({"learning_rate": math.inf}, "learning_rate=inf must be positive and finite"),
        ({"steps": math.inf}, "steps=inf must be a whole positive number"),
        ({"adam_beta2": 1}, "adam_beta2=1.0 must be below 1"),
        ({"muon_rate": 0}, "muon_rate=0.0 must be positive"),
        ({"adam_beta2": 1.5}, "adam_beta2=1.5 is a share of 1, 0 to 1"),
        ({"optimiser": "sgd"}, "optimiser='sgd' is unknown; muon, adam exist"),
        ({"lr_warmup": 1.5}, "lr_warmup=1.5 is a share of each stage"),
        ({"kl_warmup": -0.1}, "kl_warmup=-0.1 is a share of the first stage"),
        ({"beta": -1}, "beta=-1.0 must be finite"),
        ({"beta": math.inf}, "beta=inf must be finite"),
        ({"objective": "elbo"}, "objective='elbo' is unknown; beta, capacity, total_corr"),
        ({"precision": "float16"}, "precision='float16' is unknown; auto, float32, tf32, bfloat16"),
        ({"capacity": -1}, "capacity=-1.0 must not be negative"),
        ({"objective": "mmd", "mmd_weight": 2}, "mmd_weight=2.0 must be at least beta=3.0"),
    ],
)
def test_a_configuration_out_of_range_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        BetaVAEConfig(**change)


def test_a_label_names_the_objective_and_the_point():
    assert BetaVAEConfig(beta=0).label == "beta_vae-L8-beta0-seed0"
    assert BetaVAEConfig(objective="capacity", seed=4).label == "capacity_vae-L8-beta3-seed4"


# ---- what became of the latents ----


def trajectory(*active):
    return [{"step": 100 * (i + 1), "active_latents": a} for i, a in enumerate(active)]


@pytest.mark.parametrize(
    ("active", "sentence"),
    [
        ((3, 8, 8), r"^All 8 latents are active\.$"),
        ((0, 0, 8), r"^All 8 latents are active\.$"),
        ((8, 5), r"^5 of 8 latents are active; the others carry nothing\.$"),
        ((0, 0, 0), "^Posterior collapse: none of 8 latents was active at any validation"),
        ((2, 8, 0, 0), r"^Posterior collapse after step 200: none of 8 latents is active\.$"),
    ],
)
def test_diagnose_says_what_became_of_the_latents(active, sentence):
    assert re.search(sentence, diagnose(trajectory(*active), 8))


def test_a_collapse_is_told_with_its_remedies():
    said = diagnose(trajectory(0), 4)
    for remedy in ('initialisation="data"', "kl_warmup", "beta"):
        assert remedy in said


# ---- surroundings ----


def test_freed_memory_can_be_kept_anywhere(monkeypatch):
    assert keep_freed_memory() is None
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(arrays.ctypes, "CDLL", None)
    assert keep_freed_memory() is None


def test_a_device_is_picked_in_the_order_cuda_mps_cpu(monkeypatch):
    for cuda, mps, expected in ((1, 1, "cuda"), (0, 1, "mps"), (0, 0, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda here=cuda: bool(here))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda here=mps: bool(here))
        assert pick_device("auto").type == expected
        assert pick_device("cpu").type == "cpu"
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:1", "mps", ""])
def test_a_device_that_is_not_here_is_told_with_those_that_are(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device='{device}' is not here; auto, cpu are$"):
        pick_device(device)


@pytest.mark.parametrize(("gain", "chosen"), [(0.07, "float32"), (1.1, "float32"), (3, "bfloat16")])
def test_bfloat16_is_chosen_only_where_it_is_measured_to_be_faster(monkeypatch, gain, chosen):
    monkeypatch.setattr(devices, "bfloat16_gain", lambda device: gain)
    cpu = torch.device("cpu")
    assert devices.pick_precision("auto", cpu) == chosen
    for precision in ("float32", "tf32", "bfloat16"):
        assert devices.pick_precision(precision, cpu) == precision
    (fitted,) = train_together([BetaVAEConfig(**SHORT)], TRAIN, VALIDATION, device="cpu")
    expected = {"device": "cpu", "torch": torch.__version__, "precision": chosen}
    assert fitted.made == expected


def test_the_gain_of_bfloat16_is_a_ratio_of_times():
    gain = devices.bfloat16_gain(torch.device("cpu"))
    assert 0.001 < gain < 100
    # Measured once a process: a fit's precision does not turn on what else runs meanwhile.
    assert devices.bfloat16_gain(torch.device("cpu")) == gain


def test_a_fit_that_goes_on_keeps_its_precision(tmp_path, monkeypatch):
    config = BetaVAEConfig(**SHORT)
    monkeypatch.setattr(devices, "bfloat16_gain", lambda device: 3)
    whole = fit(config)
    interrupt_at(monkeypatch, 9)
    with pytest.raises(KeyboardInterrupt):
        fit(config, tmp_path / "c")
    monkeypatch.undo()
    monkeypatch.setattr(devices, "bfloat16_gain", lambda device: 0.1)
    assert_same(whole, fit(config, tmp_path / "c"))


def test_a_batch_larger_than_the_training_set_is_refused():
    message = "batch_size=49 is more than the 48 training images; give at most 48"
    with pytest.raises(ValueError, match=message):
        fit(BetaVAEConfig(latent_dim=2, steps=2, batch_size=49))


def test_a_nan_stops_its_own_fit_alone():
    configs = [BetaVAEConfig(**SHORT), BetaVAEConfig(**SHORT, muon_rate=1e30, lr_warmup=0)]
    whole, failed = train_together(configs, TRAIN, VALIDATION, device="cpu")
    assert whole.failure is None and whole.history[-1]["step"] == 12
    assert "not finite; lower learning_rate and muon_rate" in failed.failure


def test_the_training_core_needs_torch_numpy_safetensors_and_tqdm_only():
    program = """
import sys
for name in "pandas scipy matplotlib yaml seaborn skimage plenoptic nrrd".split():
    sys.modules[name] = None  # importing it is an ImportError
import brainvae_core.models
print(sorted({name.split(".")[1] for name in sys.modules if name.startswith("brainvae_core.")}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "['models']\n", done.stderr


# ---- images that are not in memory ----


class OnDisk:
    """What a view of a stored array can do: a shape, a length, rows as NumPy."""

    def __init__(self, images):
        self.images, self.shape, self.asked = images, images.shape, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        found = self.images[rows]
        self.asked.append(len(found))
        return found


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_a_streamed_fit_is_the_fit_in_memory(initialisation):
    config = BetaVAEConfig(**SHORT, initialisation=initialisation)
    many = sections(150, seed=4)
    train, validation = OnDisk(many), OnDisk(VALIDATION)
    assert_same(fit(config, train=many), fit(config, train=train, validation=validation))
    assert max(train.asked) <= 64  # never the whole of it
    assert train.asked.count(4) == config.steps


def test_a_streamed_image_with_a_nan_is_told():
    with pytest.raises(ValueError, match="has a NaN or infinite pixel"):
        fit(BetaVAEConfig(**SHORT), train=OnDisk(spoiled()))


def test_streamed_parts_are_checked_as_far_as_their_shapes_go():
    with pytest.raises(ValueError, match="1 validation images; a fit needs at least 2"):
        fit(BetaVAEConfig(**SHORT), train=OnDisk(TRAIN), validation=OnDisk(VALIDATION[:1]))
    small = OnDisk(VALIDATION[:, ::2, ::2])
    with pytest.raises(ValueError, match=r"training images are \(20, 28\) and validation"):
        fit(BetaVAEConfig(**SHORT), train=OnDisk(TRAIN), validation=small)


def test_an_array_that_cannot_be_read_stops_the_fit():
    class Gone(OnDisk):
        def __getitem__(self, rows):
            if len(self.asked) > 3:
                raise OSError("the disk is gone")
            return super().__getitem__(rows)

    with pytest.raises(OSError, match="the disk is gone"):
        fit(BetaVAEConfig(**SHORT, initialisation="authors"), train=Gone(TRAIN))


def test_statistics_of_images_are_those_of_numpy():
    many = sections(130, seed=5)
    for images in (Images(many, torch.device("cpu")), Images(OnDisk(many), torch.device("cpu"))):
        np.testing.assert_allclose(images.mean, many.mean(0, dtype=np.float64), rtol=1e-6)
        expected = np.square(many - many.mean(0, dtype=np.float64)).sum()
        assert images.sum_of_squares == pytest.approx(expected, rel=1e-5)
        assert len(images) == 130 and images.shape == many.shape
        rows = np.array([5, 2, 129])
        assert np.array_equal(images.take(rows).numpy(), many[rows])
        assert np.array_equal(torch.cat(list(images.blocks())).numpy(), many)


# ---- likelihoods, objectives, precision ----


def test_a_learned_sigma_moves_towards_the_residual():
    config = BetaVAEConfig(
        latent_dim=3, steps=400, likelihood="gaussian_learned", learning_rate=2e-2, batch_size=16
    )
    model, history = fit(config)
    sigma = [row["sigma"] for row in history]
    residual = np.sqrt(np.square(model.reconstruct(TRAIN) - TRAIN).mean())
    start = sigma_at("gaussian_learned", SHAPE)
    assert abs(sigma[-1] - residual) < abs(start - residual)
    assert config.restore(model.tensors()).log_sigma.exp() == pytest.approx(sigma[-1], rel=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_learned_and_resumed(tmp_path, monkeypatch, objective):
    config = BetaVAEConfig(
        latent_dim=3, steps=80, validate_every=20, objective=objective, batch_size=8
    )
    whole = uninterrupted(config)
    assert whole[1][-1]["validation_loss"] < whole[1][0]["validation_loss"]
    assert config.label.startswith(f"{objective}_vae-L3")
    interrupt_at(monkeypatch, 30)
    with pytest.raises(KeyboardInterrupt):
        fit(config, tmp_path / "c")
    monkeypatch.undo()
    assert_same(whole, fit(config, tmp_path / "c"))


def test_half_precision_is_of_the_layers_only():
    config = BetaVAEConfig(**SHORT, precision="bfloat16")
    model, history = fit(config)
    assert model.encode(VALIDATION).dtype == np.float32
    assert all(p.dtype == torch.float32 for p in model.parameters())
    exact = uninterrupted(replace(config, precision="float32"))[1]
    assert history[-1]["validation_loss"] == pytest.approx(exact[-1]["validation_loss"], rel=0.05)
    assert history[-1]["validation_loss"] != exact[-1]["validation_loss"]


def test_a_step_never_waits_for_the_device(monkeypatch):
    images = (Images(x, torch.device("cpu")) for x in (TRAIN, VALIDATION))
    begun = training.Fit(BetaVAEConfig(**SHORT), SHAPE, None, torch.device("cpu"))
    begun.enter(SHAPE, *images)

    def waits(*_):
        raise AssertionError("a value was asked for")

    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, waits)
    begun.step()


def test_terms_of_the_elbo_are_those_of_the_history():
    config = BetaVAEConfig(**SHORT, beta=2)
    model, history = uninterrupted(config)
    distortion, rate = elbo_terms(model, config, VALIDATION)
    assert distortion.shape == rate.shape == (10,)
    assert distortion.mean() == pytest.approx(history[-1]["validation_reconstruction"], rel=1e-5)
    assert rate.mean() == pytest.approx(history[-1]["validation_kl"], rel=1e-5)
    mean, std = model.posterior(VALIDATION)
    expected = 0.5 * (mean**2 + std**2 - 1 - 2 * np.log(std)).sum(1)
    np.testing.assert_allclose(rate, expected, rtol=1e-4)


# ---- recipes ----


def test_both_recipes_hold_what_they_state():
    names = {f.name for f in fields(BetaVAEConfig)}
    assert RECIPES.keys() <= names
    assert all(stated.source.strip() and stated.why.strip() for stated in RECIPES.values())
    paper, fast = (make(latent_dim=5, beta=2) for make in (paper_config, fast_config))
    assert (paper.latent_dim, fast.beta) == (5, 2)
    assert all(getattr(paper, name) == stated.paper for name, stated in RECIPES.items())
    assert replace(fast, steps=1500) == BetaVAEConfig(latent_dim=5, beta=2)
    assert fast == BetaVAEConfig(latent_dim=5, beta=2, steps=FAST_STAGES)
    assert len(fast.stages((320, 448))) == 3


def test_the_papers_recipe_is_the_papers():
    config = paper_config()
    assert (config.learning_rate, config.batch_size, config.steps) == (2e-4, 64, 10_000)
    assert (config.initialisation, config.precision, config.kl_warmup) == ("authors", "float32", 0)
    assert (config.optimiser, config.adam_beta2, config.lr_cosine) == ("adam", 0.999, False)
