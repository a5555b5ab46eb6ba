"""The demo profile's fitted models: what they reach, and that the notebooks depend on them."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from chapters import read_notebook, stamp_of

from brainvae_core import results
from brainvae_core.explorer import GLOBAL, explorer_data, shown_models
from brainvae_core.metrics import active_latents, explained_variance, linear_recovery
from brainvae_core.models import load_run, run_name, save_run
from brainvae_core.models.runs import KINDS, LOADED
from brainvae_core.prepare import prepare_cohort
from brainvae_core.scores import TABLES
from brainvae_core.settings import read_profile
from brainvae_core.study import STAGES, compared_configs, labelled_configs

ROOT = Path(__file__).parent.parent
NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
pytestmark = pytest.mark.fitted


@pytest.fixture(scope="module")
def demo():
    return read_profile(ROOT / "notebooks/params/demo.yaml")


@pytest.fixture(scope="module")
def cohort(demo):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT / "notebooks")
        return prepare_cohort(demo)


@pytest.fixture(scope="module")
def models(demo, cohort):
    configs = compared_configs(demo)
    folders = {n: ROOT / "runs" / run_name(c, cohort.fingerprint) for n, c in configs.items()}
    return {name: load_run(folder).model for name, folder in folders.items()}


def test_the_beta_vae_beats_posterior_collapse_honestly(demo, cohort, models):
    train, test = cohort.split("train"), cohort.split("test")
    mean_image = train.images.mean(axis=0)
    explained = {
        name: explained_variance(test.images, model.reconstruct(test.images), mean_image)
        for name, model in models.items()
    }
    beta_vae = models["β-VAE"]
    codes = beta_vae.encode(test.images)
    recovery = linear_recovery(
        beta_vae.encode(train.images), train.factors.to_numpy(), codes, test.factors.to_numpy()
    )
    found = f"{explained}, {active_latents(codes).sum()} active, R² {np.round(recovery, 2)}"
    assert demo.model.steps == 1000 and demo.model.batch_size == 16
    assert train.images.shape[1:] == (80, 112)
    assert beta_vae.n_parameters == 664_625  # 730,289 with the layers of two more halvings
    assert explained["PCA"] <= 0.8, found
    assert explained["β-VAE"] >= 0.75 * explained["PCA"], found
    assert active_latents(codes).sum() >= 6, found
    assert (recovery >= 0.5).sum() >= 4, found


@pytest.mark.promise("kept models and tables are those of the fits, on any processor")
def test_kept_scores_are_what_the_kept_model_gives_here(monkeypatch):
    """Made anew from the cohort on, of a sample: the β-VAE's scores at the paper's size."""
    monkeypatch.chdir(ROOT / "notebooks")
    p = read_profile("full")
    kept = results.table(p, "reconstruction")
    cohort = STAGES["evaluated"].cohort(p)
    labelled = labelled_configs(p, "evaluated", cohort)
    config = next(config for of, config in labelled if of["model"] == "β-VAE")  # the book's own
    run = load_run(Path(p.places.runs, run_name(config, cohort.fingerprint)))
    anew = TABLES["reconstruction"].made(p, cohort)(run)
    kept = kept[(kept["model"] == "β-VAE") & (kept["seed"] == config.seed)]
    assert kept["score"].tolist() == anew["score"].tolist() and len(kept) > 1000
    np.testing.assert_allclose(kept["value"], anew["value"], atol=1e-3)


def test_the_kept_explorer_is_what_the_kept_models_give_here(monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    p = read_profile("full")
    cohort = prepare_cohort(p)
    anew = json.loads(json.dumps(explorer_data(p, cohort, shown_models(p, cohort))))
    script = (ROOT / "results/full/explorer_data.js").read_text(encoding="utf-8")
    kept = json.loads(script.removeprefix(f"window.{GLOBAL} = ").removesuffix(";\n"))
    assert kept.pop("fit") and anew.pop("fit")  # a hash of the arrays
    kept.pop("made", None)  # the kept one may be from before these were told
    assert anew.pop("made") and anew.pop("identity") == kept.pop("identity", cohort.identity)
    arrays = [[*map(unpacked, of.pop("arrays"))] for of in (kept, anew)]
    for one, other in zip(*arrays, strict=True):  # a step of a component, a rounding of a weight
        assert one.shape == other.shape and np.abs(one - other).max() <= 1e-3 + (one.dtype == int)
    for one, other in zip(leaves(kept), leaves(anew), strict=True):
        assert one == (other if isinstance(one, str | bool) else pytest.approx(other, abs=5e-3))


def test_every_committed_chapter_read_the_models_and_tables_that_are_kept_now(monkeypatch):
    """One that was not executed again would tell the numbers of results that are gone."""
    monkeypatch.chdir(ROOT / "notebooks")
    p, kept = read_profile("full"), {}
    for path in (ROOT / "results/full/runs").glob("*/config.json"):
        kept[path.parent.name] = json.loads(path.read_text())["files"]["weights.safetensors"]
    kept = {name: of["sha256"] for name, of in kept.items()}
    for name, of in TABLES.items():
        told, _ = results.read_rows(ROOT / f"results/full/tables/{name}.csv.gz")
        cohort = SimpleNamespace(identity=told["cohort"])  # what is kept needs no more of it
        monkeypatch.setitem(
            STAGES, of.stage, replace(STAGES[of.stage], cohort=lambda _, c=cohort: c)
        )
        results.table(p, name)
    for path in results.MEASURED.glob("*.csv"):
        results.measured(path.stem)
    kept |= {name: digest for name, digest in LOADED.items() if name.startswith("table ")}
    read = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        found = stamp_of(read_notebook(path))["runs"]
        read |= {(path.stem, name): digest for name, digest in found.items() if name in kept}
    assert len(read) >= 40
    assert read == {of: kept[of[1]][:12] for of in read}


def unpacked(text):
    """An array of the explorer's page; integers are int, floats are float."""
    kind, raw = text.split(":")
    values = np.frombuffer(base64.b64decode(raw), f"<{kind}")
    return values.astype(float if kind[0] == "f" else int)


def leaves(node):
    """Every name and value of nested data, in order."""
    if isinstance(node, dict):
        return [leaf for k in sorted(node) for leaf in (k, *leaves(node[k]))]
    return [leaf for part in node for leaf in leaves(part)] if isinstance(node, list) else [node]


@pytest.mark.promise("no stale chapter and no two cohorts make a book")
def test_every_notebook_that_reads_models_or_tables_fails_when_they_are_shuffled(tmp_path):
    """Of `make test` two that take seconds; of `make nightly` all."""
    runs, kept = tmp_path / "runs", tmp_path / "results/full"
    kept.mkdir(parents=True)
    shutil.copy(ROOT / "results/full/cohort.json", kept)
    for folder in (ROOT / "results/full/runs").iterdir():
        shuffle(folder, kept / "runs")
    for folder in (ROOT / "runs").glob("[!.]*"):
        shuffle(folder, runs)
    for path in (ROOT / "results/full/tables").iterdir():
        shuffle_table(path, kept / "tables" / path.name)
    full, sample = ROOT / "notebooks/params/full.yaml", () if NIGHTLY else ("03", "04")
    readers = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = path.read_text()
        reads = re.search(r"\b(fit|fit_all|fitted|fitted_models|table)\(", text)
        if reads and (not sample or path.name[:2] in sample):
            readers.append(path.stem)
            content = json.loads(text)
            first = next(c for c in content["cells"] if c["cell_type"] == "code")
            elsewhere = f"data={ROOT / 'data'}, runs={runs}, results={kept.parent}"
            assert 'settings = ""' in "".join(first["source"])
            first["source"] = f"profile, settings = {[str(full), elsewhere]!r}"
            (tmp_path / path.name).write_text(json.dumps(content))
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-n", "2"]
    command += ["--dist", "loadfile", "--nbval-sanitize-with", str(ROOT / "tests/nbval.cfg")]
    answer = subprocess.run(
        [*command, "-rf", "-p", "no:cacheprovider", str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # two kernels with two threads each wait
        capture_output=True,
        text=True,
    )
    failed = set(re.findall(r"^FAILED \S*?(\w+)\.ipynb", answer.stdout, re.M))
    assert len(readers) >= (len(sample) or 9)
    assert failed == set(readers), answer.stdout[-3000:]
    assert "Cell execution caused an exception" not in answer.stdout


def shuffle(path, folder):
    """A run under its own name, with the values of each tensor in another order."""
    content = json.loads((path / "config.json").read_text())
    if content["kind"] not in KINDS:
        return  # left by another version
    run, rng = load_run(path), np.random.default_rng(list(path.name.encode()))
    tensors = {k: rng.permuted(v.ravel()).reshape(v.shape) for k, v in run.model.tensors().items()}
    model, of = run.config.restore(tensors), content["cohort"]
    save_run(folder / path.name, run.config, of["fingerprint"], of["name"], model, run.history)


def shuffle_table(path, target):
    """A table of scores with its values in another order."""
    head, text = results.read_rows(path)
    rows = results.parse_rows(text)
    rows["value"] = np.random.default_rng(0).permutation(rows["value"])
    results.write_rows(target, rows, head)
