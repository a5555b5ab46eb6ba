"""The benchmarks: what they compute is right, and each runs, small, on a CPU."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.ndimage import distance_transform_edt
from small_brains import fit_alone

from brainvae_core.cohorts import simulate
from brainvae_core.models import BetaVAEConfig, elbo_terms, sigma_at

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    """Imports a benchmark's module as its own command would."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_a_part_that_fails_is_a_line_and_the_next_goes_on(bench, capsys):
    measure = bench("measure")
    with measure.part("first"):
        raise RuntimeError("out of\nluck")
    with measure.part("second"):
        measure.line("second", "1 s")
    failed, second = (x for x in capsys.readouterr().out.splitlines() if x.startswith("|"))
    assert "| failed: RuntimeError: out of luck |" in failed and "| second | 1 s |" in second
    with pytest.raises(KeyboardInterrupt), measure.part("third"):
        raise KeyboardInterrupt


def test_the_interval_is_students(bench):
    values = [3.0, 5.5, 4.0]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    middle, half = map(float, bench("reach").interval(values).split(" ± "))
    assert middle == pytest.approx((low + high) / 2, rel=1e-3)
    assert half == pytest.approx((high - low) / 2, rel=0.05)
    assert "no interval" in bench("reach").interval([2.0])
    assert bench("groups").share(2, 40) == "5 % [1, 17]"


def test_elbos_of_a_history_are_without_the_gaussians_constant(bench):
    rng = np.random.default_rng(0)
    train, validation = (rng.random((n, 20, 28), dtype=np.float32) for n in (20, 5))
    config = BetaVAEConfig(latent_dim=2, beta=4, steps=6, batch_size=4)
    model, history, *_ = fit_alone(config, train, validation)
    distortion, rate = elbo_terms(model, config, validation)
    constant = 560 * (np.log(sigma_at("gaussian", (20, 28))) + 0.5 * np.log(2 * np.pi))
    expected = -(distortion.mean() - constant + 4 * rate.mean())
    told = bench("reach").elbo_history(SimpleNamespace(history=history, config=config)).iloc[-1]
    assert told["elbo"] == pytest.approx(expected, rel=1e-5)
    assert told["distortion"] == pytest.approx(distortion.mean() - constant, rel=1e-5)
    assert expected < 0


def test_what_is_unlike_a_simulated_brain_is_measured_where_it_lies(bench):
    cohort = simulate(60, shape=(80, 112), artefact_share=0, seed=0)
    atlas, mean = cohort.atlas, cohort.split("train").images.mean(axis=0)
    inside = atlas.brain_mask
    rim = inside & (distance_transform_edt(inside) * atlas.pixel_um <= 100)
    light = 1 + 0.3 * np.cos(np.pi * np.arange(112) / 112)
    stripes = 0.1 * np.resize([1, -1], 112) * (np.arange(80) == 40)[:, None]
    changed = [mean, mean * (1 + 0.5 * rim), mean * light, mean + stripes]
    changed = np.stack(changed).astype(np.float32).clip(0, 1)
    masks = dict(zip(names := atlas.regions(), atlas.roi_masks(names), strict=True))
    model = SimpleNamespace(reconstruct=lambda images: np.broadcast_to(mean, images.shape))
    found = bench("realism").measured(changed, cohort, model, masks, None)
    assert found["rim over whole brain, brightness", 0].argmax() == 1
    assert found["error of PCA (share in the rim)", 0].argmax() == 1
    power = found["deviation, power"]
    pd.testing.assert_frame_equal(power, found["error, power"])  # the mean is all it decodes
    assert power[max(power)].argmax() == 2 and power[min(power)].argmax() == 3
    assert np.allclose(power.iloc[0], 0) and found["error of PCA (RMS greys)", 0][0] == 0


def test_a_small_study_of_groups_has_rows_of_its_own(bench, tmp_path, monkeypatch):
    groups, read = bench("groups"), []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(groups, "STUDIES", {})
    monkeypatch.setattr(pd, "read_csv", lambda path: read.append(str(path)))
    for given in ([], ["--small"], ["--rows", "own.csv"]):
        monkeypatch.setattr(sys, "argv", ["groups", *given])
        groups.main()
    assert read == ["runs/groups.csv", "runs/groups-small.csv", "own.csv"]


COMMANDS = {
    "reach.py": "ELBO_β after steps; of 1 reach it; | grid of 340 points; | ours against eager",
    "fig2.py": "| Fig. 2 of fitted; peak memory",
    "bidirectional.py": "receptive fields; projective fields; | both",
    "groups.py --rows rows.csv": "| anatomical | 12 + 12 | none |; | freeform | 12 + 12 | damage |",
    "knee.py": "PCA, its knee; β-VAE, its knee",
    "real_brain.py": "real brain, none, explained, PCA, L = 8; simulated brains, leak, reproduced",
    "realism.py": "deviation, power; local contrast; misregistration inside (µm), 0 µm, real brain",
    "soak.py": "memory (MB), first and last tenth; a round (s), first and last tenth",
    "scale.py --times 1": "on disk, as float32; a step of 8, in memory; a step of 8, from disk",
}


@pytest.mark.promise("a soak fails on rounds that drift, and passes on flat ones")
def test_a_soak_fails_where_memory_files_or_processor_time_do_not_stay(bench):
    soak, half = bench("soak"), np.arange(100) >= 50
    held = dict.fromkeys(soak.DRIFT, 100.0)
    flat = pd.DataFrame(held, index=range(100)).assign(hours=np.arange(100) / 50)
    assert soak.report_drift(flat) == []
    drifts = {"memory (MB)": 3, "open files": 1, "threads": 6, "a round's processor time (s)": 11}
    for name, by in drifts.items():
        assert soak.report_drift(flat.assign(**{name: 100.0 + by * np.arange(100) / 94})) == [name]
        assert soak.report_drift(flat.assign(**{name: 100.0 + by * half})) == [name]
    assert soak.report_drift(flat.assign(**{"a round (s)": 100.0 + 50 * half})) == []


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("command", "told"),
    [
        pytest.param(*of, marks=[pytest.mark.nightly] if of[0] != "fig2.py" else [])
        for of in COMMANDS.items()
    ],
)
def test_a_command_runs(command, told, tmp_path, request):
    name, *given = command.split()
    if name.startswith("real"):
        request.getfixturevalue("real_data")
    command = [sys.executable, BENCHMARKS / name, *given, "--small", "--device", "cpu"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "failed" not in answer.stdout
    for what in told.split("; "):
        assert what in answer.stdout
