"""The training loop: it learns, resumes to the same bits, and says what went wrong."""

import contextlib
import functools
import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from refusals import refused
from small_brains import assert_same, fit_alone, sections

from brainvae_core.models import (
    BetaVAE,
    BetaVAEConfig,
    devices,
    diagnose,
    objectives,
    paper_config,
    train_together,
    training,
)
from brainvae_core.models.config import Schedule, Stage, progress, rate
from brainvae_core.models.devices import Images, pick_device, pick_precision
from brainvae_core.models.optimise import INITIALISATIONS

SHAPE = (20, 28)
SHORT = {"latent_dim": 3, "steps": 12, "validate_every": 4, "batch_size": 4}
GROWN = BetaVAEConfig(latent_dim=3, steps="10x14: 4, 20x28: 6", validate_every=2, batch_size=4)
CPU = torch.device("cpu")


TRAIN, VALIDATION = sections(48), sections(10, seed=1)
# The fewest pixels, for bfloat16: a processor without it takes a hundred times as long.
COARSE = [part.reshape(-1, 10, 2, 14, 2).mean((2, 4)) for part in (TRAIN, VALIDATION)]


def fit(config, checkpoint=None, train=TRAIN, validation=VALIDATION):
    return fit_alone(config, train, validation, checkpoint)


uninterrupted = functools.cache(fit)


def interrupt_at(monkeypatch, step):
    """Ctrl-C where the loop asks for the rows of one step."""
    whole = Schedule.__call__

    def draws(schedule, wanted):
        if wanted == step:
            raise KeyboardInterrupt
        return whole(schedule, wanted)

    monkeypatch.setattr(Schedule, "__call__", draws)


def resumed(config, checkpoint, monkeypatch, step):
    """A fit that was interrupted at a step and taken up again."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with contextlib.suppress(KeyboardInterrupt):
            fit(config, checkpoint)
    return fit(config, checkpoint)


# ---- it learns ----


def test_a_row_says_what_the_docstring_promises():
    history = fit(BetaVAEConfig(**SHORT, beta=2, kl_warmup=0.5)).history
    names = "step height loss reconstruction kl progress sigma validation_loss "
    names += "validation_reconstruction validation_kl explained_variance active_latents seconds"
    for row in history:
        assert list(row) == names.split()
        penalty = 2 * row["progress"] * row["kl"]
        assert row["loss"] == pytest.approx(row["reconstruction"] + penalty, 1e-5)
        held_out = row["validation_reconstruction"] + 2 * row["validation_kl"]
        assert row["validation_loss"] == pytest.approx(held_out, 1e-5)
        assert isinstance(row["active_latents"], int) and 0 <= row["active_latents"] <= 3
        assert row["sigma"] == pytest.approx(math.sqrt(0.2 * 560 / 143_360))
    assert [row["progress"] for row in history] == pytest.approx([4 / 6, 1, 1])
    grown = uninterrupted(GROWN).history
    steps = [(row["step"], row["height"]) for row in grown]
    assert steps == [(2, 10), (4, 10), (6, 20), (8, 20), (10, 20)]
    for row in grown:
        n_pixels = row["height"] ** 2 * 7 / 5
        assert row["sigma"] == pytest.approx(math.sqrt(0.2 * n_pixels / 143_360))


def test_validation_is_over_every_image():
    model, many = BetaVAE(3, SHAPE), sections(70, seed=3)  # more than one batch of 64
    row = objectives.validate(model, Images(many, CPU), BetaVAEConfig(**SHORT))
    mean, std = model.posterior(many)
    kl = 0.5 * (mean**2 + std**2 - 1 - 2 * np.log(std)).sum(1).mean()
    assert row["validation_kl"] == pytest.approx(kl, rel=1e-4)
    residual = np.square(model.reconstruct(many) - many).sum(dtype=np.float64)
    total = np.square(many - many.mean(0)).sum(dtype=np.float64)
    assert row["explained_variance"] == pytest.approx(1 - residual / total, rel=1e-4)


# ---- it is repeatable ----


def test_every_step_samples_anew_and_every_validation_alike(monkeypatch):
    drawn, whole = [], objectives.reparameterise

    def noted(mean, logvar, noise):
        drawn.append(str(noise[:4].tolist()))
        return whole(mean, logvar, noise)

    monkeypatch.setattr(objectives, "reparameterise", noted)
    fit(BetaVAEConfig(**SHORT))
    validated = {drawn.pop(i) for i in (14, 9, 4)}  # after steps 12, 8 and 4
    assert len(validated) == 1 and len({*drawn, *validated}) == 13


@pytest.mark.promise("an interrupted fit goes on to the same bits")
@pytest.mark.parametrize(
    ("changes", "stopped_at"),
    [
        ({"precision": "float32"}, 2),
        ({"steps": "10x14: 4, 20x28: 8"}, 4),
        *(
            pytest.param(*more, marks=pytest.mark.slow)
            for more in (
                ({"precision": "float32"}, 9),
                ({"precision": "float32", "initialisation": "authors", "optimiser": "adam"}, 9),
                *[
                    ({"steps": "10x14: 4, 20x28: 8", "validate_every": 2}, step)
                    for step in (3, 5, 9)  # from inside a stage, its end, inside the last
                ],
            )
        ),
    ],
)
def test_an_interrupted_fit_goes_on_to_the_same_bits(tmp_path, monkeypatch, changes, stopped_at):
    config, checkpoint = BetaVAEConfig(**SHORT | changes), tmp_path / "checkpoint.safetensors"
    assert_same(uninterrupted(config), resumed(config, checkpoint, monkeypatch, stopped_at))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.fixture
def one_thread():
    """A team of any size then has as many threads as each fit alone, and the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.promise("models that train together become what each is alone")
@pytest.mark.slow
def test_a_nan_in_a_coarse_stage_ends_its_own_fit_and_the_others_end_as_alone(one_thread):
    configs = [GROWN, replace(GROWN, muon_rate=1e30, lr_warmup=0), replace(GROWN, steps=5, seed=1)]
    first, failed, last = train_together(configs, TRAIN, VALIDATION, device="cpu")
    assert re.search(
        "step [0-3]: the [^l][a-z ]+ term is not finite; lower learning_rate and muon_rate",
        failed.failure,
    )
    assert failed.model.image_shape == (10, 14) and not failed.history
    for found, config in ((first, GROWN), (last, configs[2])):
        assert found.failure is None
        assert_same(fit(config), found)


def test_a_checkpoint_is_refused_by_another_configuration(tmp_path, monkeypatch):
    path = tmp_path / "c"
    done = fit(GROWN, path)
    refused(
        [
            ("with another steps; delete", fit, replace(GROWN, steps="10x14: 6, 20x28: 6"), path),
            ("another beta, latent_dim; delete", fit, replace(GROWN, latent_dim=2, beta=7), path),
        ]
    )
    monkeypatch.setattr(Schedule, "__call__", None)  # a finished one takes no step more
    assert_same(done, fit(GROWN, path))


@pytest.mark.parametrize(("n", "size"), [(48, 16), (50, 16), (16, 16), (7, 1)])
def test_batches_take_each_brain_once_an_epoch(n, size):
    config = BetaVAEConfig(batch_size=size)
    per_epoch = max(n // size, 1)
    whole = Stage(SHAPE, 0, 100)
    rows = Schedule(config, whole, n, CPU).rows
    epochs = [
        np.concatenate([rows(e * per_epoch + i) for i in range(per_epoch)]).tolist()
        for e in range(3)
    ]
    for rows in epochs:
        assert len(set(rows)) == len(rows) == min(n, per_epoch * size)
        assert set(rows) <= set(range(n))
    assert epochs[0] != epochs[1] != epochs[2]
    other = Schedule(BetaVAEConfig(batch_size=size, seed=1), whole, n, CPU).rows
    assert not np.array_equal(Schedule(config, whole, n, CPU).rows(0), other(0))


# ---- when it goes wrong ----


def test_weights_spoiled_by_the_last_step_are_never_kept(tmp_path, monkeypatch):
    nothing = {"validation_loss": math.nan, "explained_variance": math.nan, "active_latents": 0}
    monkeypatch.setattr(training, "validate", lambda *_: nothing)
    found = fit(BetaVAEConfig(**SHORT), tmp_path / "c")
    assert "step 3: the validation term is not finite" in found.failure
    assert not list(tmp_path.iterdir())


class InFile:
    """What a view of a stored array can do: a shape, a length, rows as NumPy."""

    def __init__(self, images):
        self.images, self.shape, self.asked = images, images.shape, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        found = self.images[rows]
        self.asked.append(len(found))
        return found


def test_images_that_cannot_be_fitted_are_refused_in_one_line(monkeypatch):
    spoiled, short = TRAIN.copy(), BetaVAEConfig(**SHORT)
    spoiled[7, 3, 4] = np.nan
    small, alike = VALIDATION[:, ::2, ::2], np.repeat(TRAIN[:1], 9, axis=0)
    cases = [
        ("1 training images; a fit needs at least 2", TRAIN[:1], VALIDATION),
        ("1 validation images; a fit needs at least 2", TRAIN, VALIDATION[:1]),
        (r"shape \(10, 10, 14\); this model takes \(n, 20, 28\)", TRAIN, small),
        ("image 7 of 48 has a NaN", spoiled, VALIDATION),
        ("9 training images are all the same", alike, VALIDATION),
        ("19×28 does not fit the network", TRAIN[:, :19], VALIDATION[:, :19]),
        ("batch_size=4 is more than the 3 training images", TRAIN[:3], VALIDATION),
    ]
    refused([(message, fit, short, None, *parts) for message, *parts in cases])
    monkeypatch.setattr(devices, "SHARE", 0)
    streamed = [
        ("1 validation images; a fit needs at least 2", TRAIN, VALIDATION[:1]),
        (r"training images are \(20, 28\) and validation", TRAIN, small),
        ("has a NaN or infinite pixel", spoiled, VALIDATION),
    ]
    refused([(message, fit, short, None, *map(InFile, parts)) for message, *parts in streamed])


# ---- how it starts ----


@pytest.mark.parametrize("n", [5, 90])
def test_data_initialisation_starts_at_the_mean_image_where_brains_already_differ(n):
    model, images = BetaVAE(4, SHAPE), sections(n)
    INITIALISATIONS["data"](model, Images(images, CPU), 0)
    decoded = model.decode(np.random.default_rng(0).normal(size=(30, 4)))
    assert np.abs(decoded.mean(0) - images.mean(0)).mean() < 0.01
    assert np.abs(decoded - images.mean(0)).mean() < 0.02
    mean, std = model.posterior(images)
    assert mean.std(0).mean() > 5 * std.mean()
    np.testing.assert_allclose(std, np.exp(-2.5), rtol=0.2)
    if n == 90:
        # The layer's spread is 1 over means and log-variances together; its half is near 1.
        assert 0.6 < np.sqrt(mean.var(0).mean()) < 1.4
        assert model.encode(VALIDATION).std(0).mean() > 5 * std.mean()


def test_the_authors_initialisation_is_the_constructors():
    model = BetaVAE(4, SHAPE)
    before = model.tensors()
    INITIALISATIONS["authors"](model, TRAIN, 0)
    assert all(np.array_equal(v, before[k]) for k, v in model.tensors().items())
    linear = next(m for m in model.encoder if isinstance(m, torch.nn.Linear))
    assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / 768), rel=0.02)
    assert not linear.bias.any()


# ---- schedules ----


def test_rates_rise_and_fall_to_zero_over_every_stage_and_beta_rises_over_the_first():
    config = BetaVAEConfig(steps=100, lr_warmup=0.1)
    (stage,) = config.stages(SHAPE)
    factors = [rate(config, stage, s) for s in range(100)]
    assert factors[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert factors[10] == 1 and factors[55] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.001 and (np.diff(factors[10:]) < 0).all()

    grown = BetaVAEConfig(steps="10x14: 20, 20x28: 100", lr_warmup=0.1, kl_warmup=0.2)
    first, last = grown.stages(SHAPE)
    falling = (1 + np.cos(np.pi * np.arange(18) / 18)) / 2
    assert [rate(grown, first, s) for s in range(20)] == pytest.approx([0.5, 1, *falling])
    assert [rate(grown, last, 20 + s) for s in range(100)] == pytest.approx(factors)
    assert [progress(grown, first, s) for s in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert {progress(grown, last, s) for s in range(20, 120)} == {1}

    paper = paper_config(steps=100)  # both are constant there
    assert {f(paper, stage, s) for f in (rate, progress) for s in (0, 50, 99)} == {1}


# ---- the configuration ----


def test_a_configuration_out_of_range_is_refused():
    cases = [
        ("likelihood='poisson' is unknown; gaussian, bernoulli", "likelihood", "poisson"),
        ("precision='float16' is unknown; auto, float32", "precision", "float16"),
        ("latent_dim=0 must be 1 to 4096", "latent_dim", 0),
        ("learning_rate=inf must be positive and finite", "learning_rate", math.inf),
        ("adam_beta2=1.0 must be below 1", "adam_beta2", 1),
        ("lr_warmup=1.5 is a share of each stage", "lr_warmup", 1.5),
        ("beta=-1.0 must be finite", "beta", -1),
    ]
    refused([(message, lambda n, v: BetaVAEConfig(**{n: v}), *given) for message, *given in cases])


@pytest.mark.parametrize(
    ("active", "sentence"),
    [
        ((0, 3, 8), r"^All 8 latents are active\.$"),
        ((8, 5), r"^5 of 8 latents are active; the others carry nothing\.$"),
        ((0, 0), r"^Posterior collapse: none of 8 .* at any validation; .* a longer kl_warmup or"),
        ((2, 8, 0, 0), r"^Posterior collapse after step 200: none of 8 latents is active\.$"),
    ],
)
def test_diagnose_says_what_became_of_the_latents(active, sentence):
    history = [{"step": 100 * (i + 1), "active_latents": a} for i, a in enumerate(active)]
    assert re.search(sentence, diagnose(history, 8))


# ---- surroundings ----


def test_a_device_is_picked_in_the_order_cuda_mps_cpu(monkeypatch):
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert pick_device("auto").type == expected
        assert pick_device("cpu") == CPU
    for device in ("gpu", "cuda", "cuda:1", "mps", ""):
        with pytest.raises(ValueError, match=f"device='{device}' is not here; auto, cpu are$"):
            pick_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("cuda:0").index == 0
    with pytest.raises(ValueError, match="device='cuda:5' is not here; auto, cpu, cuda are$"):
        pick_device("cuda:5")


# ---- precision ----


@pytest.mark.parametrize(
    ("asked", "begun", "gain", "taken"),
    [
        *[("auto", None, gain, "float32") for gain in (0.07, 1.1)],
        *[("auto", begun, 3, "bfloat16") for begun in (None, "bfloat16")],
        ("float32", None, 3, "float32"),
        *[("bfloat16", begun, 0.1, "bfloat16") for begun in (None, "bfloat16")],
        ("auto", "bfloat16", 0.8, "bfloat16"),
        ("auto", "bfloat16", 0.1, "float32"),
    ],
)
def test_a_cpu_takes_bfloat16_where_it_is_faster_or_a_fit_was_begun_in_it(
    monkeypatch, capfd, asked, begun, gain, taken
):
    assert 0.001 < devices.bfloat16_gain(CPU) < 100
    monkeypatch.setattr(devices, "bfloat16_gain", lambda device: gain)
    assert pick_precision(asked, CPU, begun) == taken
    told = "begun in bfloat16, which this cpu has not: going on in float32"
    assert capfd.readouterr().err.count(told) == (begun not in (None, taken))


def test_a_gpu_takes_bfloat16_where_it_has_it_without_measuring(monkeypatch):
    monkeypatch.setattr(devices.time, "perf_counter", None)
    for has_it, chosen in ((True, "bfloat16"), (False, "float32")):
        devices.bfloat16_gain.cache_clear()

        def supported(including_emulation, has_it=has_it):
            return has_it or including_emulation

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        assert pick_precision("auto", torch.device("cuda")) == chosen
    assert pick_precision("auto", torch.device("mps")) == "float32"
    devices.bfloat16_gain.cache_clear()


@pytest.mark.slow
def test_a_fit_that_goes_on_in_another_precision_says_so(tmp_path, monkeypatch):
    config = BetaVAEConfig(**SHORT | {"steps": 3, "validate_every": 2})
    monkeypatch.setattr(devices, "bfloat16_gain", lambda device: 3)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "c", *COARSE)
    monkeypatch.setattr(devices, "bfloat16_gain", lambda device: 0.1)
    found = fit(config, tmp_path / "c", *COARSE)
    assert (found.made["precision"], found.made["begun_in"]) == ("float32", "bfloat16")
    assert found.history[-1]["step"] == 3 and math.isfinite(found.history[-1]["loss"])


@pytest.mark.slow
def test_the_training_core_needs_torch_numpy_safetensors_and_tqdm_only():
    program = """
import sys
for name in "pandas scipy matplotlib yaml seaborn skimage plenoptic nrrd".split():
    sys.modules[name] = None  # importing it is an ImportError
import brainvae_core.models
print(sorted({name.split(".")[1] for name in sys.modules if name.startswith("brainvae_core.")}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "['disk', 'models']\n", done.stderr


@pytest.mark.slow
def test_a_streamed_fit_is_the_fit_in_memory(tmp_path, monkeypatch):
    many, config = sections(150, seed=4), GROWN
    np.save(tmp_path / "many.npy", many)
    mapped = np.load(tmp_path / "many.npy", mmap_mode="r")
    assert Images(mapped, CPU).resident is not None  # there is room
    monkeypatch.setattr(devices, "SHARE", 0)
    assert Images(mapped, CPU).resident is None
    train, validation = InFile(many), InFile(VALIDATION)
    assert_same(fit(config, train=many), fit(config, train=train, validation=validation))
    assert max(train.asked) <= 64  # never the whole of it
    assert train.asked.count(4) == config.n_steps
