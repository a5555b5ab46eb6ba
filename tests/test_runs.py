"""Fitted models on disk: named by what made them, complete or not there, checked when read."""

import functools
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from refusals import refused
from small_brains import Brains, assert_same, fit_alone, sections

from brainvae_core.disk import seal
from brainvae_core.models import (
    BetaVAEConfig,
    MeanImageConfig,
    PCAConfig,
    fit,
    load_run,
    run_name,
    runs,
    save_run,
)
from brainvae_core.models.config import Schedule
from brainvae_core.models.runs import KINDS

SHAPE = (10, 14)
QUICK = BetaVAEConfig(latent_dim=3, steps=4, validate_every=2, batch_size=4)
FILES = ["config.json", "history.csv", "weights.safetensors"]


COHORT = Brains(sections(14, 0, SHAPE), sections(5, 1, SHAPE))


@pytest.fixture(params=[QUICK, PCAConfig(3)], ids=lambda config: config.kind)
def config(request):
    return request.param


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def hidden(folder):
    """What a fit left behind."""
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


@pytest.mark.promise("a run that exists is loaded, and named by all that its weights depend on")
def test_a_fit_leaves_its_files_and_is_loaded_the_second_time(tmp_path, monkeypatch, config):
    history = fit_alone(config, *COHORT.parts.values()).history
    first = fit(COHORT, config, tmp_path, "cpu")
    name = run_name(config, COHORT.fingerprint)
    assert visible(tmp_path) == [name] and not hidden(tmp_path)
    assert sorted(p.name for p in (tmp_path / name).iterdir()) == FILES
    monkeypatch.setattr(runs, "save_run", None)
    second = fit(COHORT, config, str(tmp_path), "cpu")
    for run in (first, second):
        assert run.folder == tmp_path / name and run.config == config
        assert run.cohort == "brains"
    for kept, row in zip(first.history, history, strict=True):  # to the last digit
        assert kept | {"seconds": 0} == row | {"seconds": 0}
        assert isinstance(kept["step"], int) and isinstance(kept["active_latents"], int)
    assert_same(first, second)


@pytest.mark.promise("an interrupted fit goes on to the same bits")
def test_an_interrupted_fit_leaves_only_its_checkpoint_and_goes_on(tmp_path, monkeypatch):
    whole, draws, steps = fit(COHORT, QUICK, tmp_path / "whole", "cpu"), Schedule.__call__, []

    def interrupted(schedule, step):
        steps.append(step)
        if steps[-2:] == [2, 3]:  # the first time
            raise KeyboardInterrupt
        return draws(schedule, step)

    monkeypatch.setattr(Schedule, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(COHORT, QUICK, tmp_path / "runs", "cpu")
    name = run_name(QUICK, COHORT.fingerprint)
    assert not visible(tmp_path / "runs") and hidden(tmp_path / "runs") == [f".{name}"]
    unfinished = tmp_path / "runs" / f".{name}"
    assert [p.name for p in unfinished.iterdir()] == ["checkpoint.safetensors"]
    monkeypatch.setattr(Schedule, "__call__", lambda s, step: steps.append(step) or draws(s, step))
    steps.clear()
    assert_same(whole, fit(COHORT, QUICK, tmp_path / "runs", "cpu"))
    assert set(steps) == {2, 3}
    assert not hidden(tmp_path / "runs") and visible(tmp_path / "runs") == [name]


@pytest.mark.promise("of several processes that want one run, one fits it")
def test_several_that_want_one_run_fit_it_once(tmp_path, monkeypatch, capfd):
    fitted, whole = [], PCAConfig.fit_together

    def slowly(configs, *arguments, **options):
        fitted.append(configs)
        time.sleep(0.3)
        return whole(configs, *arguments, **options)

    monkeypatch.setattr(PCAConfig, "fit_together", slowly)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: fit(COHORT, PCAConfig(3), tmp_path / "runs"), range(3)))
    assert len(fitted) == 1 and len({run.folder for run in found}) == 1
    assert capfd.readouterr().err.count("waiting for another process that fits pca-L3") == 2


@pytest.mark.promise("of several processes that want one run, one fits it")
def test_a_process_that_is_killed_lets_the_next_one_in(tmp_path):
    name = run_name(PCAConfig(3), COHORT.fingerprint)
    program = (
        "import pathlib, sys, time; from brainvae_core.disk import file_lock\n"
        "with file_lock(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        other.kill()
    assert fit(COHORT, PCAConfig(3), tmp_path).folder.name == name


# ---- names ----

OTHER = {"likelihood": "bernoulli", "optimiser": "adam", "precision": "float32"}
OTHER |= {"initialisation": "authors", "lr_cosine": False}


@pytest.mark.promise("a run that exists is loaded, and named by all that its weights depend on")
@pytest.mark.parametrize("name", [f.name for f in fields(BetaVAEConfig)])
def test_a_name_changes_with_every_field(name):
    value = getattr(QUICK, name)
    other = value + 1 if isinstance(value, int) else OTHER.get(name) or value / 2 + 0.125
    changed = replace(QUICK, **{name: OTHER.get(name, other)})
    assert run_name(changed, "f") != run_name(QUICK, "f") != run_name(QUICK, "g")


@pytest.mark.promise("a run that exists is loaded, and named by all that its weights depend on")
def test_names_of_runs_that_exist_stay_as_they_are():
    named = "beta_vae-L8-beta3-seed0-3e4aeb00", "pca-L8-efe2e708", "mean_image-f9676b9a"
    configs = BetaVAEConfig(), PCAConfig(), MeanImageConfig()
    assert tuple(run_name(config, "0" * 16) for config in configs) == named
    # A whole number and its float, NumPy's and Python's are one configuration.
    assert run_name(BetaVAEConfig(latent_dim=np.int64(8), beta=3), "0" * 16) == named[0]
    assert run_name(PCAConfig(np.int64(8)), "0" * 16) == named[1]
    assert BetaVAEConfig(seed=4, beta=0).label == "beta_vae-L8-beta0-seed4"


# ---- written whole ----


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return functools.cache(lambda config: fit(COHORT, config, tmp_path_factory.mktemp("r"), "cpu"))


@pytest.fixture
def run(tmp_path, fitted):
    once = fitted(PCAConfig(3))
    return replace(once, folder=shutil.copytree(once.folder, tmp_path / once.folder.name))


@pytest.mark.promise("what is written appears whole or not at all")
@pytest.mark.parametrize("step", ["save_file", "asdict"])
def test_a_run_appears_complete_or_not_at_all_and_is_never_overwritten(
    tmp_path, monkeypatch, run, step
):
    with pytest.raises(FileExistsError, match="a run is never overwritten"):
        save_run(run.folder, run.config, "f", "brains", run.model, run.history)

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(runs, step, full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_run(tmp_path / "another", run.config, "f", "brains", run.model, run.history)
    assert [f.name for f in tmp_path.iterdir()] == [run.folder.name]


# ---- checked when read ----

EDITS = [
    (r"does not match its config\.json, which names it", "cohort", {"fingerprint": "another"}),
    (r"does not match .* which names it \S+-L4", "config", {"latent_dim": 4}),
    ("does not match .*: dropout", "config", {"latent_dim": 3, "dropout": 0.1}),
    ("has format 4; this library reads 5", "format", 4),
    (f"of kind 'diffusion'; {', '.join(KINDS)} are known", "kind", "diffusion"),
]


@pytest.mark.parametrize(("message", "name", "value"), EDITS)
def test_a_description_that_was_edited_is_refused(run, message, name, value):
    path = run.folder / "config.json"
    described = json.loads(path.read_text())
    given = {k: v for k, v in described.items() if k != "sha256"}
    given[name] = given[name] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(described | {name: given[name]}))
    told = "format 4" if name == "format" else "config.json is damaged: it is not what was saved"
    refused([(told, load_run, run.folder)])
    seal(run.folder, "config.json", given)
    refused([(message, load_run, run.folder)])


def test_weights_of_another_model_are_refused(tmp_path):
    model = SimpleNamespace(tensors=lambda: {"surprise": np.zeros(3, np.float32)})
    for config in (PCAConfig(2), QUICK):
        folder = tmp_path / run_name(config, "f")
        save_run(folder, config, "f", "brains", model, [{"step": 0}])
        refused([("weights of run .* do not fit its configuration", load_run, folder)])


def test_a_run_that_is_not_there_or_lacks_a_file_is_told(tmp_path, run):
    (run.folder / "history.csv").unlink()
    refused([("history.csv is damaged.*; delete the folder and fit it anew", load_run, run.folder)])
    (run.folder / "config.json").unlink()
    for folder in (run.folder, tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match="no run at .* has no config.json; name ano"):
            load_run(folder)
