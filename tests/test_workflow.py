"""The road as Snakemake's rules: killed and taken up again here, submitted to a cluster."""

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import executed
import psutil
import pytest
from executed import NOTEBOOKS, chapter, clone

# Two values of β at L = 2 and 3, one seed (two for Figs 2C and 2D); unequal sizes of everything.
PROFILE = """\
cohort: {n_brains: 60, shape: [40, 56]}
model: {latent_dim: 2, steps: 20, batch_size: 4}
grid: {betas: [1, 3], latent_dims: [2, 3], seeds: [0], shape: [40, 56], steps: 15}
evaluation:
  {seeds: [0, 1], curve_latent_dims: [2, 3], n_graded: 4, n_importance: 3, fd_dim: 3}
fields:
  {n_blobs: 10, region_share: 0.05, n_weights: 3, n_read: 8, c_step: 0.5,
   truth_latent_dim: 8, truth_seeds: [0], n_rotations: 4}
"""
GRID = "_build/tiny/notebooks/04_grid.ipynb"

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the project with the tiny profile, in a folder whose name has a space."""
    return copied_tree(tmp_path_factory.mktemp("one machine"))


def copied_tree(folder):
    clone(folder)
    (folder / "notebooks/params/tiny.yaml").write_text(PROFILE)
    return folder


def started(tree, *options):
    command = [sys.executable, "-m", "snakemake", *options, "--config", "profile=tiny"]
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=tree, start_new_session=True, **told)


def snakemake(tree, *options):
    """What a call printed; it must have ended well."""
    if options[0] == "-n":
        code, printed = executed.snakemake(tree, *options, "--config", "profile=tiny")
    else:
        process = started(tree, *options)
        printed, _ = process.communicate(timeout=3600)
        code = process.returncode
    assert code == 0, printed
    return printed


def to_do(tree, *targets):
    """How many jobs of each rule a dry run lists."""
    printed = snakemake(tree, "-n", "--cores", "2", *targets)
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", printed, re.M)}


def killed(process):
    """SIGKILL to a process and everything that it started; what it had printed."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGKILL)
    for member in family:  # kernels have groups of their own
        if member.is_running():
            member.kill()
    psutil.wait_procs(family[1:], timeout=30)
    return process.communicate(timeout=30)[0]


def fitted(tree):
    """Weights of every run with the time of their last change."""
    weights = (tree / "runs").glob("[!.]*/weights.safetensors")
    return {w.parent.name: (w.stat().st_mtime_ns, w.read_bytes()) for w in weights}


def written(tree):
    """Everything that the road has written, with the time of its last change."""
    files = [f for name in ("_build", "data", "runs") for f in (tree / name).rglob("*")]
    return {f: f.stat().st_mtime_ns for f in files if f.is_file()}


def wait_for(condition, process):
    until = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def road(tree):
    """Killed while a row is being fitted, called while another call works, called to the end."""
    first = started(tree, "--cores", "2", "fit", GRID)
    wait_for(lambda: any("beta_vae" in name for name in fitted(tree)), first)
    given = ("--config", "profile=tiny", "--cores", "2", "--", "fit")
    code, beside = executed.snakemake(tree, *given)
    assert code != 0 and "another snakemake (or make) works in this folder" in beside
    killed(first)
    at_the_kill, rows_then = fitted(tree), rows(tree)
    snakemake(tree, "--cores", "2", "fit", GRID)
    in_the_end, files = fitted(tree), written(tree)
    assert 0 < len(at_the_kill) < len(in_the_end)
    assert rows_then < rows(tree) == {"L2", "L3"}
    for name, weights in at_the_kill.items():  # nothing is fitted twice
        assert in_the_end[name] == weights, name
    code, again = executed.snakemake(tree, *given, GRID)
    assert code == 0 and "Nothing to be done" in again and written(tree) == files
    return tree


def rows(tree):
    return {f.name for f in (tree / "_build/tiny/shards").glob("L*")}


@pytest.mark.promise("what was interrupted goes on, and nothing is made twice")
def test_a_road_that_was_killed_is_completed(road):
    assert (road / GRID).is_file()
    points = [json.loads(c.read_text()) for c in (road / "runs").glob("[!.]*/config.json")]
    grid = [p["config"] for p in points if p["config"].get("steps") == 15]
    grid = [c for c in grid if c["latent_dim"] != 8]  # of the truth's cohorts
    # Of seed 0 for the grid, of both for Figs 2C and 2D.
    expected = set(itertools.product((2, 3), (1.0, 3.0), (0, 1)))
    assert {(c["latent_dim"], c["beta"], c["seed"]) for c in grid} == expected
    assert not list((road / "_build").rglob(".*partial*"))


def test_stages_are_stale_when_code_that_they_reach_changes(road):
    def stale_after(changed):
        path = road / changed
        before = path.read_text()
        path.write_text(before + "\n# changed\n")
        stale = set(to_do(road, "fit", GRID)) - {"total", "fit"}
        path.write_text(before)
        return stale

    shown, not_shown = (
        next(f for f in (road / "brainvae_core/figures").glob("*.py") if call in f.read_text())
        for call in ("def fig_grids(", "def fig_s3(")
    )
    assert stale_after(shown.relative_to(road)) == {"notebook"}
    assert stale_after(not_shown.relative_to(road)) == set()
    fits = {"compared", "evaluated", "shard", "interpreted", "notebook"}
    assert stale_after("brainvae_core/models/training.py") == fits
    assert stale_after("notebooks/params/tiny.yaml") == fits | {"cohort"}


def test_what_follows_a_stage_stays_stale_when_a_call_ended_after_it(road):
    profile = road / "notebooks/params/tiny.yaml"
    profile.write_text(PROFILE.replace("n_blobs: 10", "n_blobs: 11"))
    snakemake(road, "--cores", "2", "_build/tiny/cohort")
    stale = {"compared", "evaluated", "shard", "interpreted", "notebook"}
    assert set(to_do(road, "fit", GRID)) - {"total", "fit"} == stale


def test_a_profile_that_is_not_there_is_told(tree):
    code, printed = executed.snakemake(tree, "-n", "--config", "profile=dmeo")
    assert code != 0
    assert "no profile notebooks/params/dmeo.yaml; notebooks/params has authors," in printed


def test_a_dry_run_of_the_cluster_shows_every_job_and_its_gpus(tmp_path):
    tree = copied_tree(tmp_path)
    printed = snakemake(tree, "-n", "--workflow-profile", "slurm", "--quiet", "host")
    chapters = len(list((tree / "notebooks").glob("*.ipynb")))
    others = ("cohort", "compared", "evaluated", "interpreted", "explorer", "book")
    total = {"shard": 2, "notebook": chapters} | dict.fromkeys(others, 1)
    asked = re.findall(r"^rule (\w+):.*?^    resources: (.*?)$", printed, re.M | re.S)
    assert Counter(rule for rule, _ in asked) == total
    fits = {"compared", "evaluated", "shard", "interpreted"}
    assert {rule for rule, r in asked if "gpu=1" in r} == fits
    assert {rule for rule, r in asked if "gpu" not in r} == set(total) - fits
    assert all("mem_mb=" in r and "runtime=" in r for _, r in asked)
    of_cluster = (tree / "workflow/profiles/slurm/config.yaml").read_text()
    assert fits <= set(re.findall(r"^  (\w+): 8$", of_cluster, re.M))  # else it asks for 64 cores
    assert "evaluated" in to_do(tree, "_build/tiny/explorer_data.js")  # shows more of its seeds


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.py")))
def test_a_chapter_goes_through_with_few_brains_and_bad_fits(road, name):
    *_, shown = chapter(name, road / "notebooks", profile="tiny")
    assert any(kind.startswith("image/") for kind in shown)


@pytest.mark.parametrize("name", ["a b; touch executed;", "..", "it's", "-n"])
def test_a_profile_whose_name_a_shell_would_read_is_refused(tree, name):
    profile = tree / f"notebooks/params/{name}.yaml"
    profile.write_text(PROFILE)
    code, printed = executed.snakemake(tree, "-n", "--config", f"profile={name}")
    profile.unlink()
    told = (
        f"a profile's name is of letters, digits, '_', '.' and '-', not {name!r}; rename its file"
    )
    assert code != 0 and told in printed.splitlines() and "cohort" not in printed


def test_a_chapters_name_is_one_word_to_the_shell(tree):
    name = "a'; touch executed; '"
    for kind in ("py", "ipynb"):
        shutil.copy(tree / f"notebooks/01_brains.{kind}", tree / f"notebooks/{name}.{kind}")
    made = f"_build/tiny/notebooks/{name}.ipynb"
    printed = snakemake(tree, "-n", made, "-p", "--quiet", "host")
    for kind in ("py", "ipynb"):
        (tree / f"notebooks/{name}.{kind}").unlink()
    assert f"echo ── {shlex.quote(made)}\n" in printed


@pytest.mark.promise("a file system whose locks are none, or exclude nobody, is told in one line")
@pytest.mark.parametrize("flock", ["raise OSError(errno.ENOLCK, 'No locks available')", "pass"])
def test_a_road_where_locks_exclude_nobody_says_so(tree, tmp_path, monkeypatch, flock):
    told = f"import errno, fcntl\ndef flock(*_): {flock}\nfcntl.flock = flock"
    (tmp_path / "sitecustomize.py").write_text(told)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    (tree / "_build/tiny/cohort").unlink(missing_ok=True)
    printed = snakemake(tree, "--cores", "2", "_build/tiny/cohort")
    warned = [line for line in printed.splitlines() if line.startswith("warning: locks on")]
    assert warned[0].endswith(".snakemake exclude nobody: start no two commands there at once")
    assert "Traceback" not in printed and not list((tree / ".snakemake").glob(".one_at*"))
