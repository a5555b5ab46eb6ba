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


WITH_LATENTS = [kind for kind in KINDS if fields(KINDS[kind])]


def configuration(kind):
    if kind == "beta_vae":
        return QUICK
    return KINDS[kind](latent_dim=3) if kind in WITH_LATENTS else KINDS[kind]()


@pytest.fixture(params=[kind for kind in KINDS if kind != "released_vae"])  # which is never fitted
def config(request):
    return configuration(request.param)


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def hidden(folder):
    """What a fit left behind, but for the locks, which stay."""
    found = {p.name for p in folder.iterdir() if p.name.startswith(".")}
    return sorted(found - {".locks"})


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


def test_a_process_that_is_killed_lets_the_next_one_in(tmp_path):
    name = run_name(PCAConfig(3), COHORT.fingerprint)
    program = (
        "import pathlib, sys, time; from brainvae_core.models.runs import _alone\n"
        "with _alone(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    lock = str(tmp_path / ".locks" / name)
    with subprocess.Popen([sys.executable, "-c", program, lock], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        other.kill()
    assert fit(COHORT, PCAConfig(3), tmp_path).folder.name == name


# ---- names ----


def other_value(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        other = {"gaussian": "bernoulli", "data": "authors", "beta": "mmd", "auto": "float32"}
        return (other | {"muon": "adam"})[value]
    return value + 1 if isinstance(value, int) else value / 2 + 0.125


@pytest.mark.parametrize("name", [f.name for f in fields(BetaVAEConfig)])
def test_a_name_changes_with_every_field(name):
    changed = replace(QUICK, **{name: other_value(getattr(QUICK, name))})
    assert run_name(changed, "f") != run_name(QUICK, "f")


def test_a_whole_number_and_its_float_name_one_run():
    one, other = BetaVAEConfig(beta=3, lr_warmup=0), BetaVAEConfig(beta=3.0, lr_warmup=0.0)
    assert run_name(one, "f") == run_name(other, "f")
    assert run_name(BetaVAEConfig(latent_dim=np.int64(8)), "f") == run_name(BetaVAEConfig(), "f")


def test_names_of_runs_that_exist_stay_as_they_are():
    assert run_name(BetaVAEConfig(), "0" * 16) == "beta_vae-L8-beta3-seed0-5e92089c"
    assert run_name(PCAConfig(), "0" * 16) == "pca-L8-efe2e708"
    assert BetaVAEConfig(objective="mmd", seed=4, beta=0).label == "mmd_vae-L8-beta0-seed4"


# ---- written whole ----


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return functools.cache(lambda config: fit(COHORT, config, tmp_path_factory.mktemp("r"), "cpu"))


@pytest.fixture
def run(tmp_path, config, fitted):
    once = fitted(config)
    return replace(once, folder=shutil.copytree(once.folder, tmp_path / once.folder.name))


@pytest.fixture
def quick_run(tmp_path, fitted):
    folder = fitted(PCAConfig(3)).folder
    return SimpleNamespace(folder=shutil.copytree(folder, tmp_path / folder.name))


def test_a_run_is_never_overwritten(run):
    with pytest.raises(FileExistsError, match="a run is never overwritten"):
        save_run(run.folder, run.config, "f", "brains", run.model, run.history)


@pytest.mark.parametrize("step", ["save_file", "asdict"])
def test_a_run_appears_complete_or_not_at_all(tmp_path, monkeypatch, step):
    found = fit_alone(PCAConfig(2), *COHORT.parts.values())

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(runs, step, full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_run(tmp_path / "run", PCAConfig(2), "f", "brains", *found)
    assert not list(tmp_path.iterdir())


# ---- checked when read ----


def rewrite(run, change):
    described = json.loads((run.folder / "config.json").read_text())
    change(described)
    seal(run.folder, "config.json", {k: v for k, v in described.items() if k != "sha256"})


EDITS = [
    (r"does not match its configuration, which names it", "cohort", {"fingerprint": "another"}),
    ("does not match .*: dropout", "config", {"dropout": 0.1}),
    ("has format 3; this library reads 4", "format", 3),
    ("has format None; this library reads 4", "format", None),
    (f"of kind 'diffusion'; {', '.join(KINDS)} are known", "kind", "diffusion"),
]


@pytest.mark.parametrize(("message", "name", "value"), EDITS)
def test_a_description_that_was_edited_is_refused(quick_run, message, name, value):
    def change(described):
        described[name] = described[name] | value if isinstance(value, dict) else value

    rewrite(quick_run, change)
    refused([(message, load_run, quick_run.folder)])


def test_a_configuration_or_name_that_was_edited_is_refused(run):
    moved = run.folder.rename(run.folder.with_name("my_best_model"))
    refused([("my_best_model does not match its configuration", load_run, moved)])
    if run.config.kind in WITH_LATENTS:
        moved.rename(run.folder)
        rewrite(run, lambda described: described["config"].update(latent_dim=4))
        message = r"does not match its configuration, which names it \S+-L4"
        refused([(message, load_run, run.folder)])


@pytest.mark.parametrize("content", ["", '{"format": 1,', "[1, 2]"])
def test_json_that_cannot_be_read_is_named(quick_run, content):
    (quick_run.folder / "config.json").write_text(content)
    message = "config.json is damaged .* fit it anew"
    refused([(message, load_run, quick_run.folder)])


def test_a_history_that_was_cut_is_named(quick_run):
    path = quick_run.folder / "history.csv"
    path.write_text(path.read_text().rstrip().rsplit(",", 1)[0])
    message = r"history\.csv is damaged: .* fit it anew"
    refused([(message, load_run, quick_run.folder)])


@pytest.mark.parametrize("spoil", [lambda c: c[:-10] + b"!" + c[-9:], lambda c: c[:-7]])
def test_damaged_weights_are_refused(run, spoil):
    weights = run.folder / "weights.safetensors"
    weights.write_bytes(spoil(weights.read_bytes()))
    refused([("weights.safetensors is damaged: .* fit it anew", load_run, run.folder)])
    weights.unlink()
    refused([("weights.safetensors is damaged: .* fit it anew", load_run, run.folder)])


def test_weights_of_another_model_are_refused(tmp_path):
    model = SimpleNamespace(tensors=lambda: {"surprise": np.zeros(3, np.float32)})
    for config in (PCAConfig(2), QUICK):
        folder = tmp_path / run_name(config, "f")
        save_run(folder, config, "f", "brains", model, [{"step": 0}])
        refused([("weights of run .* do not fit its configuration", load_run, folder)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cohort": None}, "is not what was saved"),
        ({"made": {"device": "abacus"}}, "is not what was saved"),
        ({"files": {}}, "is not what was saved"),
        ({"sha256": None}, "is not what was saved"),
        ({"config": {"latent_dim": "three"}}, "is not what was saved"),
    ],
)
def test_any_edit_of_a_description_is_told(quick_run, change, words):
    path = quick_run.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused([(f"config.json is damaged: it {words}", load_run, quick_run.folder)])
    path.write_bytes(b"\xff{")
    refused([("config.json is damaged", load_run, quick_run.folder)])


def test_a_run_that_is_not_there_or_lacks_a_file_is_told(tmp_path, quick_run):
    def told(words, folder):
        with pytest.raises(FileNotFoundError, match=words) as error:
            load_run(folder)
        assert "\n" not in str(error.value)

    told("no run at .*nowhere: it is not there", tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    told("notes.txt: it is a file; a run is a folder", tmp_path / "notes.txt")
    told(f"a folder of them; name one in it, such as {quick_run.folder.name}$", tmp_path)
    for name in ("history.csv", "config.json"):
        (quick_run.folder / name).unlink()
        told(r"lacks \S+; delete the folder and fit it anew", quick_run.folder)
    told("such as pca-", tmp_path)
    (tmp_path / "empty").mkdir()
    told("empty lacks config.json; name the folder of a run", tmp_path / "empty")
