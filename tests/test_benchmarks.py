"""The benchmarks: what they compute is right, and each runs, small, on a CPU."""

import importlib
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.peers.plain import PlainVAE
from brainvae_core.cohorts import known_factors
from brainvae_core.fields import projective_field
from brainvae_core.models import BetaVAEConfig, elbo_terms, fast_config, paper_config, sigma_at
from brainvae_core.models.config import FAST_STAGES

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    """Imports a benchmark's module as its own command would."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def setting(bench, tmp_path):
    tiny = {"shape": (40, 56), "brains": 100, "betas": (1.0, 3.0), "seeds": 2, "rounds": 1}
    tiny |= {"reference_steps": 4, "lengths": (4, 8), "timed": (1, 3), "together": (1, 2)}
    return bench("reach").Setting(device="cpu", folder=tmp_path, **tiny)


def rows(capsys):
    """Table lines as what, figure, n, limit."""
    lines = [x for x in capsys.readouterr().out.split("\n") if x.startswith("|")]
    cells = [tuple(c.strip() for c in x.strip("|").split("|")) for x in lines]
    assert all(len(c) == 4 for c in cells), lines
    return cells


def whole(capsys):
    """Table lines where nothing failed."""
    found = rows(capsys)
    assert not [row for row in found if row[1].startswith("failed")]
    return found


def test_a_part_that_fails_is_a_line_and_the_next_goes_on(bench, capsys):
    measure = bench("measure")
    with measure.part("first"):
        raise RuntimeError("out of\nluck")
    with measure.part("second"):
        measure.line("second", "1 s")
    failed = ("first", "failed: RuntimeError: out of luck", "", "")
    assert rows(capsys) == [failed, ("second", "1 s", "", "")]
    with pytest.raises(KeyboardInterrupt), measure.part("third"):
        raise KeyboardInterrupt


def test_the_slope_is_a_steps_time_whatever_start_and_validation_cost(bench, monkeypatch):
    measure = bench("measure")

    def pretended(configs, train, validation, device):
        ends = [7 + 0.25 * config.steps * (1 + config.seed) for config in configs]
        return [SimpleNamespace(failure=None, history=[{"seconds": end}]) for end in ends]

    monkeypatch.setattr(measure, "train_together", pretended)
    configs = [BetaVAEConfig(seed=0), BetaVAEConfig(seed=2)]
    assert measure.seconds_a_step(configs[:1], None, None, "cpu", (3, 13)) == pytest.approx(0.25)
    # Of several, the last to end counts.
    assert measure.seconds_a_step(configs, None, None, "cpu", (3, 13)) == pytest.approx(0.75)


def test_a_fit_that_fails_gives_no_time(bench):
    images = np.random.default_rng(0).random((8, 40, 56), dtype=np.float32)
    config = BetaVAEConfig(batch_size=4, learning_rate=1e30, lr_warmup=0)
    with pytest.raises(FloatingPointError):
        bench("measure").seconds_a_step([config], images, images, "cpu", (5, 9))


def test_contenders_take_turns_and_a_clock_adds_up(bench, monkeypatch):
    measure, turns = bench("measure"), []
    contenders = {name: lambda name=name: turns.append(name) or len(turns) for name in "ab"}
    assert measure.interleaved(contenders, 3) == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert turns == list("ababab")
    ticks, clock = iter([0, 2, 10, 13]), measure.Clock()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(ticks))
    assert clock("a", divmod, 7, 2) == (3, 1) and clock("a", int, "11", base=2) == 3
    assert clock == {"a": 5}


def test_the_interval_is_students_and_the_median_has_its_range(bench):
    values = [3.0, 5.5, 4.0]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    middle, half = map(float, bench("reach").interval(values).split(" ± "))
    assert middle == pytest.approx((low + high) / 2, rel=1e-3)
    assert half == pytest.approx((high - low) / 2, rel=0.05)
    assert "no interval" in bench("reach").interval([2.0])
    assert bench("measure").spread([3.0, 1.0, 2.5], "ms") == "2.5 ms (1 to 3)"
    assert bench("measure").spread([3.0]) == "3 s"


def test_the_memory_floor_is_that_of_the_networks_activations(bench):
    # Each way: six layers from 160 × 224 to 5 × 7, and fully connected ones.
    convolutions = sum(32 * (320 // 2**k) * (448 // 2**k) for k in range(1, 7))
    connected = 32 * 4 * 6 + 256 + 256
    gpu, h200 = bench("gpu"), ((320, 448), 64)
    assert gpu.activations((320, 448)) == 2 * (convolutions + connected)
    half = gpu.memory_floor(*h200, "bfloat16", 4.3e12)
    assert half == pytest.approx(0.46e-3, rel=0.02)
    assert gpu.memory_floor(*h200, "float32", 4.3e12) == 2 * half


def test_rates_are_of_the_right_order(bench, monkeypatch):
    gpu, cpu = bench("gpu"), torch.device("cpu")
    assert 0.01 < min(gpu.seconds(lambda: time.sleep(0.01))) < 0.1
    monkeypatch.setattr(gpu, "seconds", lambda function: [function() is None or 2.0])
    assert gpu.copy_rates(cpu) == [2**27]  # read and written, in 2 s
    assert gpu.matrix_rates(cpu, "tf32") == gpu.matrix_rates(cpu, "float32") == [512**3]
    assert not torch.backends.cuda.matmul.allow_tf32


def test_peers_train_pytorchs_own_layers():
    for script in (BENCHMARKS / "peers").glob("*_step.py"):
        text = script.read_text()
        assert "PlainVAE" in text and "brainvae_core" not in text, script
    layers = [layer for layer in PlainVAE(8, (40, 56)).modules() if not list(layer.children())]
    assert len(layers) == 2 * (4 + 3 + 1)  # each way convolutions, fully connected, a reshape
    assert all(type(layer).__module__.startswith("torch.nn.") for layer in layers)


def test_elbos_of_a_history_are_without_the_gaussians_constant(bench):
    rng = np.random.default_rng(0)
    train, validation = (rng.random((n, 20, 28), dtype=np.float32) for n in (20, 5))
    config = BetaVAEConfig(latent_dim=2, beta=4, steps=6, batch_size=4)
    model, history = config.fit(train, validation, device="cpu")
    distortion, rate = elbo_terms(model, config, validation)
    constant = 560 * (np.log(sigma_at("gaussian", (20, 28))) + 0.5 * np.log(2 * np.pi))
    expected = -(distortion.mean() - constant + 4 * rate.mean())
    assert bench("reach").elbo(history[-1], 4) == pytest.approx(expected, rel=1e-5)
    assert expected < 0


def test_the_settings_recipes_are_the_projects(bench, tmp_path):
    setting = bench("reach").Setting(device="cpu", folder=tmp_path)
    expected = paper_config(likelihood="gaussian", validate_every=250, seed=4)
    assert setting.paper(seed=4) == expected
    assert setting.tried[-1] == FAST_STAGES
    assert replace(setting, lengths=(FAST_STAGES,)).fast(seed=4) == fast_config(seed=4)
    for shape, lengths in bench("reach").LENGTHS.items():
        for steps in lengths:
            assert BetaVAEConfig(steps=steps).stages(shape)[-1].shape == shape


def test_a_length_is_judged_by_its_ends_and_its_seconds(bench, setting, monkeypatch):
    reach, ends = bench("reach"), {0: -90.0, 1: -120.0}
    constant = 80 * 112 * (np.log(0.1) + 0.5 * np.log(2 * np.pi))

    def pretended(cohort, config, runs, device):
        row = {"step": 9, "height": 80, "sigma": 0.1, "validation_kl": 10.0, "seconds": 5.0}
        row["validation_reconstruction"] = -ends[config.seed] - 3 * 10 + constant
        history = [row | {"explained_variance": 0.7}]
        return SimpleNamespace(history=history, made={"precision": "float32"}, config=config)

    monkeypatch.setattr(reach, "fit", pretended)
    told = reach._judged(setting, None, BetaVAEConfig(beta=3), wanted=-100.0, whole=400.0)
    assert told.startswith("-105 ± 191 nats, explained 0.7 ± 0, 5 s")
    assert told.endswith("1 of 2 reach it; 80 ×")


def test_the_race_runs_and_goes_on_from_what_is_there(bench, setting, capsys):
    reach = bench("reach")
    reach.reference(setting)
    reach.race(setting)
    found = whole(capsys)
    curve = "recipe paper at 40 × 56, β = {}, seed 0: ELBO_β after steps"
    curves = [what for what, *_ in found if "ELBO_β after steps" in what]
    assert curves == [curve.format(beta) for beta in (1, 3)]
    judged = [figure for what, figure, *_ in found if what.startswith("recipe fast of")]
    assert len(judged) == 2 * 2 and all(" of 2 reach it; " in figure for figure in judged)
    kept = sorted(p.name for p in (setting.folder / "runs").iterdir())
    reach.race(setting)
    assert sorted(p.name for p in (setting.folder / "runs").iterdir()) == kept


def test_headline_fits_stand_beside_pca(bench, setting, capsys):
    bench("reach").headline(replace(setting, lengths=(40,)))
    found = whole(capsys)
    factors = len(known_factors(setting.cohort()).columns)
    fits = [what.split(" at ")[0] for what, *_ in found[::2]]
    assert fits == ["PCA", "40, β = 1,", "40, β = 3,"]
    assert all(figure.count(", ") == factors - 1 for what, figure, *_ in found[1::2])
    parts = dict(re.findall(r"(\S+) (\S+) ±", found[4][1]))  # are one sum
    bound, distortion, rate = (float(parts[x]) for x in ("ELBO_β", "distortion", "rate"))
    assert bound == pytest.approx(-distortion - 3 * rate, rel=2e-3)


def test_ingredients_are_taken_away_one_by_one(bench, setting, capsys, monkeypatch):
    reach = bench("reach")
    monkeypatch.setattr(reach, "ALIVE", ((1.0, 2), (20.0, 3)))
    base = setting.fast()
    for change in reach.WITHOUT.values():
        assert replace(base, **change) != base or not change
    reach.ingredients(replace(setting, lengths=("20x28: 2, 40x56: 2",), seeds=1))
    reach.alive(setting)
    found = whole(capsys)
    told = {what: figure for what, figure, *_ in found}
    assert "without growth" in told and "without Muon (Adam 1e-3)" in told
    assert told["β 1 to 20, L 2 to 100 at 40 × 56"].startswith("0 failed, ")


def test_one_latent_is_the_same_streamed_kept_and_among_the_others(bench):
    fields, z0 = bench("bidirectional"), np.array([0.3, -1, 2])
    c = fields.SMALL[0].c
    assert (c[0], c[140], c[-1]) == (-7, 0, 7)
    bend = np.random.default_rng(0).normal(0, 0.2, (3, 4, 5))

    class Bent:
        def decode(self, z):
            return np.tanh(np.tensordot(z, bend, 1)).astype(np.float32)

    whole = projective_field(Bent(), z0, c)
    alone = projective_field(fields.Along(Bent(), z0, 1), z0[1:2], c)
    np.testing.assert_allclose(alone.variance[0], whole.variance[1], rtol=1e-6)
    for at_once in (1, 64):
        found = fields.kept(Bent(), z0, 1, c, at_once)
        np.testing.assert_allclose(found[:4], whole.variance[1], rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(found[4], whole.variance_all[1], rtol=1e-4, atol=1e-8)


def test_a_step_is_held_against_the_machine(bench, setting, capsys, monkeypatch):
    monkeypatch.setattr(bench("gpu"), "seconds", lambda function: [function() is None or 0.1])
    bench("gpu").step(setting)
    found = whole(capsys)
    ways = ["copy on the device", *(f"matrix product in {p}" for p in ("float32", "bfloat16"))]
    assert [w for w, *_ in found][:3] == ways
    assert len([f for w, f, *_ in found if "× the floor of" in f]) == 3


@pytest.mark.workflow
def test_a_peer_that_cannot_run_is_told_and_the_others_do(bench, setting, capsys):
    bench("gpu").peers(replace(setting, peers_python="/no/such/python"))
    found = rows(capsys)
    failed = [w for w, figure, *_ in found if figure.startswith("failed")]
    assert failed == ["first run of pythae's trainer"]
    assert any(w == "ours, recipe fast, against eager PyTorch + DataLoader" for w, *_ in found)


def test_models_together_run(bench, setting, capsys):
    bench("gpu").models_per_hour(setting)
    bench("gpu").one_model(setting)
    found = whole(capsys)
    assert len([w for w, f, *_ in found if f.endswith("(projection)")]) >= 1
    ends = [w.split(" at ")[0] for w, *_ in found][-2:]
    assert ends == [f"one model by the {recipe} recipe" for recipe in ("paper", "fast")]


def test_a_part_that_is_killed_or_too_slow_is_a_line(bench, capsys, monkeypatch):
    gpu, asked = bench("gpu"), []

    def pretended(command, timeout):
        asked.append(command[command.index("--part") + 1])
        assert 0 < timeout <= gpu.LIMIT == 480
        if asked[-1] == "one":
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, -9 if asked[-1] == "step" else 0)

    monkeypatch.setattr(gpu.subprocess, "run", pretended)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    gpu.main()
    assert asked == ["step", "one", "race", "models", "peers"]
    killed, slow = ("step", "failed: exit status -9"), ("one", "not to its end: the time was up")
    assert [row[:2] for row in rows(capsys)[2:]] == [killed, slow]


COMMANDS = {
    "gpu.py --only models": "| 2 models of 20 steps of 16 together; | grid of 340 points",
    "fig2.py": "| Fig. 2 of fitted; of it CW-SSIM; peak memory; pair, one shared; 32 brains",
    "bidirectional.py": "| paper, small: both; | demo, small: both; ours, streamed; 64, over ours",
    "scale.py --times 1": "opening; at random; a step of 8, in memory; a step of 8, from disk",
}


@pytest.mark.workflow
@pytest.mark.parametrize(("command", "told"), COMMANDS.items())
def test_a_command_runs(command, told):
    name, *given = command.split()
    command = [sys.executable, BENCHMARKS / name, *given, "--small", "--device", "cpu"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "failed" not in answer.stdout
    for what in told.split("; "):
        assert what in answer.stdout
