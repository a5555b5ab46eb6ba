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
from small_brains import Brains, sections

from brainvae_core.models import (
    BetaVAEConfig,
    PCAConfig,
    fit,
    load_run,
    run_name,
    runs,
    save_run,
)
from brainvae_core.models.runs import KINDS
from brainvae_core.models.schedule import Schedule

SHAPE = (10, 14)
QUICK = BetaVAEConfig(latent_dim=3, steps=4, validate_every=2, batch_size=4)
FILES = ["config.json", "history.csv", "weights.safetensors"]


COHORT = Brains(sections(14, 0, SHAPE), sections(5, 1, SHAPE))
IMAGES = sections(6, 2, SHAPE)


WITH_LATENTS = [kind for kind in KINDS if fields(KINDS[kind])]


def configuration(kind):
    if kind == "beta_vae":
        return QUICK
    return KINDS[kind](latent_dim=3) if kind in WITH_LATENTS else KINDS[kind]()


@pytest.fixture(params=KINDS)
def config(request):
    return configuration(request.param)


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def hidden(folder):
    """What a fit left behind, but for the locks, which stay."""
    found = {p.name for p in folder.iterdir() if p.name.startswith(".")}
    return sorted(found - {".locks"})


def never(*_, **__):
    raise AssertionError("fitted again")


# ---- the contract of every model ----


# ---- fit, once ----


def test_a_fit_leaves_its_files_and_is_loaded_the_second_time(tmp_path, monkeypatch, config):
    parts = COHORT.parts["train"], COHORT.parts["validation"]
    _, history = config.fit(*parts, device="cpu")
    first = fit(COHORT, config, tmp_path, "cpu")
    name = run_name(config, COHORT.fingerprint)
    assert visible(tmp_path) == [name] and not hidden(tmp_path)
    assert sorted(p.name for p in (tmp_path / name).iterdir()) == FILES
    monkeypatch.setattr(type(config), "fit_together", never)
    second = fit(COHORT, config, str(tmp_path), "cpu")
    for run in (first, second):
        assert run.folder == tmp_path / name and run.config == config
        assert run.cohort == "brains"
    assert second.history == first.history and len(first.history) == len(history)
    for kept, row in zip(first.history, history, strict=True):  # to the last digit
        assert kept | {"seconds": 0} == row | {"seconds": 0}
        assert isinstance(kept["step"], int) and isinstance(kept["active_latents"], int)
    assert np.array_equal(second.model.encode(IMAGES), first.model.encode(IMAGES))


def test_an_interrupted_fit_leaves_only_its_checkpoint_and_goes_on(tmp_path, monkeypatch):
    whole = fit(COHORT, QUICK, tmp_path / "whole", "cpu")
    whole_draws = Schedule.__call__

    def interrupted(schedule, step):
        if step == 3:
            raise KeyboardInterrupt
        return whole_draws(schedule, step)

    monkeypatch.setattr(Schedule, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(COHORT, QUICK, tmp_path / "runs", "cpu")
    name = run_name(QUICK, COHORT.fingerprint)
    assert not visible(tmp_path / "runs") and hidden(tmp_path / "runs") == [f".{name}"]
    unfinished = tmp_path / "runs" / f".{name}"
    assert [p.name for p in unfinished.iterdir()] == ["checkpoint.safetensors"]

    steps = []
    monkeypatch.setattr(
        Schedule, "__call__", lambda self, s: steps.append(s) or whole_draws(self, s)
    )
    resumed = fit(COHORT, QUICK, tmp_path / "runs", "cpu")
    assert sorted(set(steps)) == [2, 3]
    assert not hidden(tmp_path / "runs") and visible(tmp_path / "runs") == [name]
    for tensor, value in whole.model.tensors().items():
        assert np.array_equal(value, resumed.model.tensors()[tensor]), tensor


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


# ---- written whole ----


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return functools.cache(lambda config: fit(COHORT, config, tmp_path_factory.mktemp("r"), "cpu"))


@pytest.fixture
def run(tmp_path, config, fitted):
    once = fitted(config)
    return replace(once, folder=shutil.copytree(once.folder, tmp_path / once.folder.name))


def test_a_run_is_never_overwritten(run):
    with pytest.raises(FileExistsError, match="a run is never overwritten"):
        save_run(run.folder, run.config, "f", "brains", run.model, run.history)


@pytest.mark.parametrize("step", ["save_file", "asdict"])
def test_a_run_appears_complete_or_not_at_all(tmp_path, monkeypatch, step):
    model, history = PCAConfig(2).fit(sections(14, 0, SHAPE), sections(5, 1, SHAPE))

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(runs, step, full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_run(tmp_path / "run", PCAConfig(2), "f", "brains", model, history)
    assert not list(tmp_path.iterdir())


# ---- checked when read ----


def rewrite(run, change):
    path = run.folder / "config.json"
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))


def refused(run, message):
    with pytest.raises(ValueError, match=message) as error:
        load_run(run.folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", WITH_LATENTS, indirect=True)
def test_a_configuration_that_was_edited_is_refused(run):
    rewrite(run, lambda d: d["config"].update(latent_dim=4))
    refused(run, r"does not match its configuration, which names it \S+-L4")
    rewrite(run, lambda d: d["config"].pop("latent_dim"))
    refused(run, "does not match .*: latent_dim")


def test_a_run_of_another_name_or_cohort_is_refused(run):
    moved = run.folder.rename(run.folder.with_name("my_best_model"))
    refused(replace(run, folder=moved), "my_best_model does not match its configuration")
    moved.rename(run.folder)
    rewrite(run, lambda d: d["cohort"].update(fingerprint="another"))
    refused(run, "does not match its configuration")


@pytest.mark.parametrize("version", [0, 2, 4, "3", None])
def test_another_format_is_told(run, version):
    rewrite(run, lambda d: d.update(format=version))
    refused(run, f"has format {version}; this library reads 3")


def test_an_unknown_kind_is_told_with_those_known(run):
    rewrite(run, lambda d: d.update(kind="diffusion"))
    refused(run, f"of kind 'diffusion'; {', '.join(KINDS)} are known")


def test_a_field_of_another_version_is_named(run):
    rewrite(run, lambda d: d["config"].update(dropout=0.1))
    refused(run, "does not match .*: dropout")


@pytest.mark.parametrize("name", ["kind", "config", "cohort", "weights_sha256", "made"])
def test_a_description_that_lacks_something_is_told(run, name):
    rewrite(run, lambda d: d.pop(name))
    refused(run, f"config.json lacks {name}; fit the run anew")


@pytest.mark.parametrize("content", ["", '{"format": 1,', "[1, 2]"])
def test_json_that_cannot_be_read_is_named(run, content):
    (run.folder / "config.json").write_text(content)
    refused(run, "config.json (is not JSON|does not hold).*fit the run anew")


def test_a_history_that_was_cut_is_named(run):
    path = run.folder / "history.csv"
    path.write_text(path.read_text().rstrip().rsplit(",", 1)[0])
    refused(run, r"history\.csv is damaged .*fit the run anew")


def flip(content):
    spoiled = bytearray(content)
    spoiled[-10] ^= 1
    return bytes(spoiled)


@pytest.mark.parametrize("spoil", [flip, lambda c: c[:-7], lambda c: b""])
def test_damaged_weights_are_refused(run, spoil):
    weights = run.folder / "weights.safetensors"
    weights.write_bytes(spoil(weights.read_bytes()))
    refused(run, r"weights of run .* are damaged \(sha256 \w{12}, written as \w{12}\)")
    weights.unlink()
    refused(run, r"weights of run .* are damaged \(sha256 missing")


def test_weights_of_another_model_are_refused(tmp_path):
    model = SimpleNamespace(tensors=lambda: {"surprise": np.zeros(3, np.float32)})
    for config in (PCAConfig(2), QUICK):
        folder = tmp_path / run_name(config, "f")
        save_run(folder, config, "f", "brains", model, [{"step": 0}])
        with pytest.raises(ValueError, match="weights of run .* do not fit its configuration"):
            load_run(folder)


@pytest.mark.parametrize("name", ["config.json", "history.csv"])
def test_a_run_that_lacks_a_file_is_told_with_what_to_do(run, name):
    (run.folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {name}; delete the folder and fit it anew"):
        load_run(run.folder)


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run at .*nowhere"):
        load_run(tmp_path / "nowhere")
