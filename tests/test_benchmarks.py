"""The benchmarks: what they compute is right, and each runs, small, on a CPU."""

import csv
import importlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.train_step import PlainVAE
from brainvae_core.fields import projective_field
from brainvae_core.models.vae import BetaVAE
from brainvae_core.models.config import BetaVAEConfig
from brainvae_core.models.images import Images
from brainvae_core.models.initialisation import INITIALISATIONS
from brainvae_core.models.recipes import FastRecipe, PaperRecipe
from brainvae_core.models.training import train_together

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
        instead=bench("setting").AT_40_X_56,
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


@pytest.fixture
def recipes(bench, monkeypatch):
    """The benchmark of the recipes, whose initialisations are registered for one test only."""
    monkeypatch.delitem(sys.modules, "recipes", raising=False)
    with mock.patch.dict(INITIALISATIONS):
        yield bench("recipes")


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


# ---- what the fits are ----


@pytest.mark.parametrize("recipe", [FastRecipe(), PaperRecipe()])
def test_at_full_size_a_recipe_keeps_its_likelihood(bench, tmp_path, recipe):
    found = bench("setting").Setting(device="cpu", folder=tmp_path).recipe(recipe, seed=4)
    assert found == recipe.config(latent_dim=8, beta=3, batch_size=64, seed=4)


@pytest.mark.parametrize("recipe", [FastRecipe(), PaperRecipe()])
def test_a_small_run_is_gaussian_at_about_the_papers_strength(bench, recipe):
    gpu = bench("gpu")
    small = gpu.setting_of(gpu.options().parse_args(["--small", "--device", "cpu"]))
    config = small.recipe(recipe)
    assert (config.likelihood, config.sigma) == ("gaussian", 0.05)
    ours, papers = 3 * 0.05**2 / (40 * 56), 3 * 0.2 / (320 * 448)
    assert ours == pytest.approx(papers, rel=0.25)
    assert small.strength == (
        "Likelihood gaussian, σ = 0.05 at 40 × 56: β = 3 has an effective strength of "
        f"{ours:.2g}, the paper's {papers:.2g}."
    )


def test_the_strength_stands_above_the_table(bench, capsys):
    bench("measure").heading("Title", torch.device("cpu"), "Weighs much.")
    text = capsys.readouterr().out
    assert text.index("# Title") < text.index("\nWeighs much.\n\n") < text.index("| what |")


def test_peers_train_pytorchs_own_layers():
    for script in (BENCHMARKS / "peers").glob("*_step.py"):
        text = script.read_text()
        assert "PlainVAE" in text and "brainvae_core" not in text, script
    layers = [layer for layer in PlainVAE(8, (40, 56)).modules() if not list(layer.children())]
    # Each way ten with weights, three paddings of the stand-ins and one reshape.
    assert len(layers) == 2 * (7 + 3 + 3 + 1)
    assert all(type(layer).__module__.startswith("torch.nn.") for layer in layers)


# ---- the time to an ELBO ----


def pretended_fit(monkeypatch, full_strength, at_beta_1):
    """Every fit has a history of these held-out ELBOs, a row each 10 steps and 2 s."""
    history = [
        {
            "step": 10 * i,
            "seconds": 2.0 * i,
            "validation_loss": -full,
            "validation_reconstruction": -one - 5,
            "validation_kl": 5,
        }
        for i, (full, one) in enumerate(zip(full_strength, at_beta_1, strict=True), 1)
    ]
    monkeypatch.setattr(BetaVAEConfig, "fit", lambda *a, **k: (None, history))


def test_the_time_counts_at_full_strength_not_at_beta_1(bench, setting, capsys, monkeypatch):
    pretended_fit(monkeypatch, [50, 90, 110, 120], [200, 210, 215, 220])
    times = dict(bench("reach")._times_to(setting, 0, 40, {7: 100}, None, None))
    assert times[7][0] == 6.0
    assert "6 s at step 30" in (told := rows(capsys)[0][1])
    assert "ends at 120.0 nats an image (at β = 1: 220.0)" in told


def test_an_elbo_that_is_lost_again_is_not_reached(bench, setting, capsys, monkeypatch):
    pretended_fit(monkeypatch, [50, 120, 110, 99], [200, 210, 215, 220])
    assert not list(bench("reach")._times_to(setting, 0, 40, {7: 100}, None, None))
    assert rows(capsys)[0][1].startswith("reached at step 20 and lost: ends at 99.0 nats")


def test_the_reference_is_the_paper_recipes_elbo_at_full_strength(bench, setting, monkeypatch):
    setting = replace(setting, reference_steps=(20, 30))
    pretended_fit(monkeypatch, [50, 90, 110], [200, 210, 215])
    assert bench("reach")._references(setting, 0, None, None) == {20: 90, 30: 110}


# ---- the table of recipes ----


@pytest.fixture
def images():
    """Brains that are alike."""
    rng = np.random.default_rng(0)
    mean = 0.2 + 0.6 * rng.random((40, 56))
    return np.clip(mean + 0.1 * rng.standard_normal((12, 40, 56)), 0, 1).astype(np.float32)


def started(name, images):
    """A model right after its initialisation."""
    torch.manual_seed(0)
    model = BetaVAE(8, images.shape[1:])
    INITIALISATIONS[name](model, Images(images, torch.device("cpu")), 0)
    return model


def test_without_a_mean_image_only_the_output_starts_elsewhere(recipes, images):
    plain, without = (started(name, images) for name in ("data", "without mean image"))
    assert not without.output_offset.any() and plain.output_offset.any()
    others = plain.state_dict().keys() - {"output_offset"}
    assert all(torch.equal(plain.state_dict()[k], without.state_dict()[k]) for k in others)


def test_on_raw_greys_nothing_is_centred_but_layers_are_spread(recipes, images):
    plain, raw = (started(name, images) for name in ("data", "on raw greys"))
    assert not raw.input_mean.any() and raw.input_scale == 1 and plain.input_mean.any()
    torch.testing.assert_close(raw.output_offset, plain.output_offset)
    with torch.no_grad():
        first = raw.encoder[0](torch.from_numpy(images)[:, None])
        assert (first - first.mean(0)).square().mean().sqrt() == pytest.approx(1, rel=1e-3)
        assert first.mean((0, 2, 3)).abs().max() < 1e-2


def test_mean_weights_are_those_of_the_last_quarter(recipes):
    mean, config = recipes.MeanWeights(), BetaVAEConfig(steps=100, seed=3)
    model = torch.nn.Linear(2, 1)
    for step, value in {60: 1e6, 75: 1e6, 80: 1.0, 90: 3.0, 100: 8.0}.items():
        torch.nn.init.constant_(model.weight, value)
        mean(None, config, model, None, [{"step": step}])
    assert mean[3][0]["weight"].tolist() == [[pytest.approx(4.0)] * 2]


def test_one_snapshots_mean_says_what_the_history_says(recipes, images):
    config = BetaVAEConfig(steps=4, validate_every=4, batch_size=4, kl_warmup=0, seed=2)
    mean = recipes.MeanWeights()
    with mock.patch.object(recipes.training, "save_checkpoint", mean):
        (fitted,) = train_together([config], images, images[:5], device="cpu")
    found = mean.row(config, images[:5])
    assert found == pytest.approx({k: fitted.history[-1][k] for k in found}, rel=1e-4)


def recipes_table(recipes, monkeypatch, path, *arguments):
    """Rows of the CSV file after a tiny run."""
    command = ["recipes.py", str(path), "--brains", "24", "--seeds", "2", "--steps", "2"]
    command += ["--device", "cpu", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    recipes.main()
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_in_the_table_is_not_fitted_again_and_what_differs_is(
    recipes, monkeypatch, tmp_path, capsys
):
    path, few = tmp_path / "a.csv", ("--only", "with a cosine", "--batch-size", "4")
    fit = mock.Mock(wraps=recipes.train_together)
    monkeypatch.setattr(recipes, "train_together", fit)
    first = recipes_table(recipes, monkeypatch, path, *few)
    assert [row["seed"] for row in first] == ["0", "1"]
    assert recipes_table(recipes, monkeypatch, path, *few) == first
    assert fit.call_count == 1
    more_seeds = recipes_table(recipes, monkeypatch, path, *few, "--seeds", "3")
    assert [row["seed"] for row in more_seeds] == ["0", "1", "2"]
    told = capsys.readouterr().out.strip().split("\n")[-1]
    assert "n = 3" in told and str(np.mean([float(r["rate"]) for r in more_seeds]))[:4] in told
    for i, other in enumerate((["--batch-size", "5"], ["--steps", "3"], ["--brains", "26"])):
        found = recipes_table(recipes, monkeypatch, path, *few, *other)
        assert len(found) == 3 + 2 * (i + 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_objectives_and_mean_weights_are_rows_with_rate_and_distortion(
    recipes, monkeypatch, tmp_path
):
    names = [f"objective {name}" for name in ("capacity", "total correlation", "mmd")]
    names += ["weights averaged over the last quarter, with a cosine"]
    few = ("--only", *names, "--batch-size", "4")
    found = recipes_table(recipes, monkeypatch, tmp_path / "a.csv", *few)
    assert [row["row"] for row in found[::2]] == names
    assert {(row["likelihood"], row["sigma"]) for row in found} == {("gaussian", "0.05")}
    for row in found:
        expected = -float(row["distortion"]) - 3 * float(row["rate"])
        assert float(row["elbo_beta"]) == pytest.approx(expected)
    assert float(found[-1]["validation_loss"]) == pytest.approx(-float(found[-1]["elbo_beta"]))


def test_another_table_is_refused_in_a_line(recipes, monkeypatch, tmp_path):
    (tmp_path / "a.csv").write_text("row,seed,elbo\nfast,0,1\n")
    with pytest.raises(ValueError, match=r"^.*a.csv has other columns .*brains.* name a new file$"):
        recipes_table(recipes, monkeypatch, tmp_path / "a.csv")


# ---- the projective field of one latent ----


def test_one_latent_is_the_same_streamed_kept_and_among_the_others(bench):
    fields, c, z0 = (
        bench("bidirectional"),
        bench("bidirectional").SMALL[0].c,
        np.array([0.3, -1, 2]),
    )
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


@pytest.mark.workflow
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
    assert rows(capsys)[0][1].startswith("not reached: ends at")


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
    parity = {what: figure for what, figure, *_ in found if what.startswith("held-out")}
    assert len(parity) == 2 and all("L = 5" in what for what in parity)
    for figure in parity.values():
        assert re.fullmatch(r"-?\d+\.\d against -?\d+\.\d nats an image", figure)


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


@pytest.mark.workflow
def test_the_whole_command_runs():
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--small", "--only", "models"]
    answer = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "# Training" in answer.stdout and "effective strength" in answer.stdout
    assert "models an hour" in answer.stdout
    assert "failed" not in answer.stdout


@pytest.mark.workflow
def test_fig_2_runs():
    command = [sys.executable, str(BENCHMARKS / "fig2.py"), "--small", "--device", "cpu"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "failed" not in answer.stdout
    for what in ("Fig. 2 of fitted models", "of it CW-SSIM", "peak memory"):
        assert f"| {what}" in answer.stdout
    assert "40 × 3 × 3" in answer.stdout


@pytest.mark.workflow
def test_both_fields_run():
    command = [sys.executable, str(BENCHMARKS / "bidirectional.py"), "--small", "--device", "cpu"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "failed" not in answer.stdout
    for size in ("paper, small", "demo, small"):
        for what in ("receptive fields", "projective fields", "both", "peak memory above"):
            assert f"| {size}: {what}" in answer.stdout
    for what in ("one latent, ours", "in batches of 64, over ours", "in batches of 64, largest"):
        assert f"| {what}" in answer.stdout
