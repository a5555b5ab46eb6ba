"""The benchmarks: what they compute is right, and each runs, small, on a CPU."""

import importlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from brainvae_core.models.config import BetaVAEConfig

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    """Imports a benchmark's module as its own command would."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def setting(bench, tmp_path):
    return bench("setting").Setting(
        device="cpu",
        folder=tmp_path,
        shape=(40, 56),
        brains=30,
        batch=4,
        steps=(1, 4),
        rounds=1,
        seeds=2,
        together=(1, 2),
        betas=(1, 3),
        latent_dims=(4, 5),
        sample=((5, 3),),
        reference_steps=(2, 4),
        fast_steps=(8,),
    )


def rows(capsys):
    """Table lines as what, figure, n, limit."""
    lines = [x for x in capsys.readouterr().out.split("\n") if x.startswith("|")]
    cells = [tuple(c.strip() for c in x.strip("|").split("|")) for x in lines]
    assert all(len(c) == 4 for c in cells), lines
    return cells


def failures(found):
    return [row for row in found if row[1].startswith("failed")]


# ---- what is computed ----


def test_a_part_that_fails_is_a_line_and_the_next_goes_on(bench, capsys):
    measure = bench("measure")
    with measure.part("first"):
        raise RuntimeError("out of\nluck")
    with measure.part("second"):
        measure.line("second", "1 s")
    assert rows(capsys) == [
        ("first", "failed: RuntimeError: out of luck", "", ""),
        ("second", "1 s", "", ""),
    ]


def test_ctrl_c_ends_a_part_and_everything(bench):
    with pytest.raises(KeyboardInterrupt), bench("measure").part("first"):
        raise KeyboardInterrupt


def test_the_slope_is_a_steps_time_whatever_start_and_validation_cost(bench, monkeypatch):
    measure = bench("measure")

    def pretended(configs, train, validation, device):
        class One:
            failure = None

        for config in configs:
            one = One()
            one.history = [{"seconds": 7 + 0.25 * config.steps * (1 + config.seed)}]
            yield one

    monkeypatch.setattr(measure, "train_together", lambda *a, **k: list(pretended(*a, **k)))
    configs = [BetaVAEConfig(seed=0), BetaVAEConfig(seed=2)]
    assert measure.seconds_a_step(configs[:1], None, None, "cpu", (3, 13)) == pytest.approx(0.25)
    # Of several, the last to end counts.
    assert measure.seconds_a_step(configs, None, None, "cpu", (3, 13)) == pytest.approx(0.75)


def test_a_fit_that_fails_gives_no_time(bench):
    images = np.random.default_rng(0).random((8, 40, 56), dtype=np.float32)
    config = BetaVAEConfig(batch_size=4, learning_rate=1e30, lr_warmup=0)
    with pytest.raises(FloatingPointError):
        bench("measure").seconds_a_step([config], images, images, "cpu", (5, 9))


def test_contenders_take_turns(bench):
    turns = []
    contenders = {name: lambda name=name: turns.append(name) or len(turns) for name in "ab"}
    assert bench("measure").interleaved(contenders, 3) == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert turns == list("ababab")


def test_the_interval_is_students(bench):
    values = [3.0, 5.5, 4.0]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    middle, half = map(float, bench("measure").interval(values).split(" ± "))
    assert middle == pytest.approx((low + high) / 2, rel=1e-3)
    assert half == pytest.approx((high - low) / 2, rel=0.05)
    assert "no interval" in bench("measure").interval([2.0])


def test_the_median_is_given_with_its_range(bench):
    assert bench("measure").spread([3.0, 1.0, 2.5], "ms") == "2.5 ms (1 to 3)"
    assert bench("measure").spread([3.0]) == "3 s"


def test_the_networks_activations_are_counted(bench):
    # Each way: six layers from 160 × 224 to 5 × 7, and fully connected ones.
    convolutions = sum(32 * (320 // 2**k) * (448 // 2**k) for k in range(1, 7))
    connected = 32 * 4 * 6 + 256 + 256
    assert bench("limits").activations((320, 448)) == 2 * (convolutions + connected)
    assert bench("limits").activations((320, 448)) == pytest.approx(3.06e6, rel=2e-3)


def test_the_memory_floor_of_an_h200_is_half_a_millisecond_in_bfloat16(bench):
    floor = bench("limits").memory_floor
    assert floor((320, 448), 64, "bfloat16", 4.3e12) == pytest.approx(0.46e-3, rel=0.02)
    assert floor((320, 448), 64, "float32", 4.3e12) == 2 * floor((320, 448), 64, "bfloat16", 4.3e12)


def test_rates_are_of_the_right_order(bench, monkeypatch):
    limits = bench("limits")
    monkeypatch.setattr(limits, "seconds", lambda function, device: [function() is None or 2.0])
    assert limits.copy_rates(torch.device("cpu")) == [2**27]  # read and written, in 2 s
    assert limits.matrix_rates(torch.device("cpu"), torch.float32) == [512**3]


# ---- each runs ----


def test_a_step_is_held_against_the_machine(bench, setting, capsys, monkeypatch):
    monkeypatch.setattr(bench("limits").seconds, "__defaults__", (0.01, 2))
    bench("speed").step_and_limits(setting)
    found = rows(capsys)
    assert not failures(found)
    assert [w for w, *_ in found][:3] == [
        "copy on the device",
        "matrix product in float32",
        "matrix product in bfloat16",
    ]
    assert len([f for w, f, *_ in found if "× the floor of" in f]) == 3


def test_a_peer_that_cannot_run_is_told_and_the_others_do(bench, setting, capsys):
    bench("speed").peers(replace(setting, peers_python="/no/such/python"))
    found = rows(capsys)
    assert [w for w, *_ in failures(found)] == ["first run of pythae's trainer"]
    assert any(w == "ours, recipe fast, against eager PyTorch + DataLoader" for w, *_ in found)


def test_the_time_to_the_references_elbo_is_told_a_seed(bench, setting, capsys):
    bench("reach").time_to_elbo(setting)
    found = rows(capsys)
    assert not failures(found)
    assert len([w for w, *_ in found if w.startswith("recipe paper, seed")]) == 2 * 2
    reached = [w for w, *_ in found if w.startswith("recipe fast of 8 steps, seed")]
    assert len(reached) == 2 * 2


def test_an_elbo_that_is_not_reached_is_told_and_gives_no_time(bench, setting, capsys):
    images = np.random.default_rng(0).random((8, 40, 56), dtype=np.float32)
    times = bench("reach")._times_to(setting, 0, 4, {10: 1e9, 20: -1e9}, images, images)
    assert [steps for steps, _ in times] == [20]
    assert "not reached" in rows(capsys)[0][1]


def test_models_together_and_the_grid_run(bench, setting, capsys):
    bench("speed").models_per_hour(setting)
    bench("reach").grid(setting)
    found = rows(capsys)
    assert not failures(found)
    assert len([w for w, f, *_ in found if f.endswith("(projection)")]) >= 1
    assert [f.partition(" in ")[0] for w, f, *_ in found if "rows to" in w] == [
        "2 fitted",
        "4 fitted",
    ]
    assert re.search(r"-?\d+\.\d against -?\d+\.\d nats", found[-1][1])


def test_scale_runs(bench, capsys, monkeypatch, tmp_path):
    scale = bench("scale")
    monkeypatch.setattr(scale, "in_own_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(scale.models_images, "SHARE", scale.models_images.SHARE)
    command = ["scale.py", "--small", "--times", "1", "--device", "cpu", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    scale.main()
    found = rows(capsys)[2:]  # the head and its rule
    assert not failures(found)
    assert len([f for w, f, *_ in found if "peak memory" in f]) == 2
    assert len([f for w, f, *_ in found if f.endswith("ns a pixel")]) == 2


def test_a_part_that_is_killed_is_a_line_and_the_next_goes_on(bench, capsys, monkeypatch):
    gpu, asked = bench("gpu"), []

    def killed_at_first(command):
        asked.append(command[command.index("--part") + 1])
        return subprocess.CompletedProcess(command, -9 if len(asked) == 1 else 0)

    monkeypatch.setattr(gpu.subprocess, "run", killed_at_first)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    gpu.main()
    assert asked == ["limits", "peers", "elbo", "models"]
    assert failures(rows(capsys)) == [("limits", "failed: exit status -9", "", "")]


def test_the_whole_command_runs():
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--small", "--only", "models"]
    answer = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "# Training" in answer.stdout and "models an hour" in answer.stdout
    assert "failed" not in answer.stdout
