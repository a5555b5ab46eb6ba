"""The road as Snakemake's rules: killed and taken up again here, submitted to a cluster."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent
TREE = ("workflow", "notebooks", "book", "brainvae_core", "_config.yml", "_toc.yml")
# Two values of β at L = 2 and 3, one seed (two for Figs 2C and 2D); unequal sizes of everything.
PROFILE = """\
profile: tiny
n_brains: 60
height: 40
width: 56
latent_dim: 2
steps: 20
batch_size: 4
grid_betas: [1, 3]
grid_latent_dims: [2, 3]
grid_seeds: [0]
grid_height: 40
grid_width: 56
grid_steps: 15
shard_latent_dim: 3
eval_height: 40
eval_width: 56
eval_steps: 10
eval_seeds: [0, 1]
curve_latent_dims: [2, 3]
n_graded: 4
n_importance: 3
fd_dim: 3
n_blobs: 10
region_share: 0.05
n_weights: 3
n_read: 8
c_step: 0.5
objectives: [mmd]
varied_brains: [16]
varied_artefact_shares: [0.0]
"""
GRID = "_build/tiny/notebooks/06_grid.ipynb"

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the project with the tiny profile, in a folder whose name has a space."""
    return copied_tree(tmp_path_factory.mktemp("one machine"))


def copied_tree(folder):
    for name in TREE:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder)
    (folder / "notebooks/params/tiny.yaml").write_text(PROFILE)
    return folder


def started(tree, *options, **environment):
    command = [sys.executable, "-m", "snakemake", *options, "--config", "profile=tiny"]
    return subprocess.Popen(
        command,
        cwd=tree,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def snakemake(tree, *options, **environment):
    """What a call printed; it must have ended well."""
    process = started(tree, *options, **environment)
    printed, _ = process.communicate(timeout=900)
    assert process.returncode == 0, printed
    return printed


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
    return {f: f.stat().st_mtime_ns for f in files if f.is_file() and ".locks" not in f.parts}


def wait_for(condition, process):
    until = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)


def jobs_of(printed):
    """How many jobs of each rule a dry run lists."""
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", printed, re.M)}


@pytest.fixture(scope="module")
def story(tree):
    """Killed while a row is being fitted, called while another call works, called to the end."""
    told = {}
    first = started(tree, "--cores", "2", "fit", GRID)
    wait_for(lambda: any("beta_vae" in name for name in fitted(tree)), first)
    second = started(tree, "--cores", "2", "fit")
    told["beside"] = second.communicate(timeout=60)[0]
    told["killed"] = killed(first)
    told["at the kill"], told["rows at the kill"] = fitted(tree), rows(tree)
    told["again"] = snakemake(tree, "--cores", "2", "fit", GRID)
    told["in the end"], told["rows in the end"] = fitted(tree), rows(tree)
    told["files"] = written(tree)
    told["third"] = snakemake(tree, "--cores", "2", "fit", GRID)
    return told


def rows(tree):
    return {f.name for f in (tree / "_build/tiny/shards").glob("L*.ipynb")}


def test_a_kill_comes_in_the_middle(story):
    assert 0 < len(story["at the kill"]) < len(story["in the end"])
    assert story["rows at the kill"] < story["rows in the end"]


def test_what_was_fitted_before_a_kill_is_not_fitted_again(story):
    for name, weights in story["at the kill"].items():
        assert story["in the end"][name] == weights, name


def test_after_a_kill_the_second_call_completes_the_road(story, tree):
    assert story["rows in the end"] == {"L2.ipynb", "L3.ipynb"}
    assert (tree / GRID).is_file()
    points = [json.loads(c.read_text()) for c in (tree / "runs").glob("[!.]*/config.json")]
    grid = [p["config"] for p in points if p["config"].get("steps") == 15]
    assert {(c["latent_dim"], c["beta"], c["seed"]) for c in grid} == {
        # Of seed 0 for the grid, of both for Figs 2C and 2D.
        (latent_dim, beta, seed)
        for latent_dim in (2, 3)
        for beta in (1.0, 3.0)
        for seed in (0, 1)
    }
    assert not list((tree / "_build").rglob(".*partial*"))


def test_a_third_call_does_nothing(story, tree):
    assert "Nothing to be done" in story["third"]
    assert written(tree) == story["files"]


def test_a_second_call_beside_a_first_is_refused(story):
    assert "another snakemake (or make) works in this folder" in story["beside"]


def test_stages_are_stale_when_code_that_they_reach_changes(story, tree):
    def stale_after(changed):
        path = tree / changed
        before = path.read_text()
        path.write_text(before + "\n# changed\n")
        printed = snakemake(tree, "-n", "--cores", "2", "fit", GRID)
        path.write_text(before)
        return set(jobs_of(printed)) - {"total", "fit"}

    assert stale_after("brainvae_core/figures/scores.py") == {"notebook"}
    fits = {"compared", "evaluated", "shard", "interpreted", "notebook"}
    assert stale_after("brainvae_core/models/training.py") == fits
    assert stale_after("notebooks/params/tiny.yaml") == fits | {"cohort"}


def test_what_follows_a_stage_stays_stale_when_a_call_ended_after_it(story, tree):
    profile = tree / "notebooks/params/tiny.yaml"
    profile.write_text(PROFILE.replace("n_blobs: 10", "n_blobs: 11"))
    snakemake(tree, "--cores", "2", "_build/tiny/cohort")
    printed = snakemake(tree, "-n", "--cores", "2", "fit", GRID)
    stale = {"compared", "evaluated", "shard", "interpreted", "notebook"}
    assert set(jobs_of(printed)) - {"total", "fit"} == stale


def test_a_profile_that_is_not_there_is_told(tree):
    command = [sys.executable, "-m", "snakemake", "-n", "--config", "profile=dmeo"]
    answer = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert answer.returncode != 0
    assert "no profile notebooks/params/dmeo.yaml; notebooks/params has ccf, demo" in answer.stdout


def test_a_dry_run_of_the_cluster_shows_every_job_and_its_gpus(tmp_path):
    tree = copied_tree(tmp_path)
    printed = snakemake(tree, "-n", "--workflow-profile", "slurm", "--quiet", "host")
    chapters = len(list((tree / "notebooks").glob("*.ipynb")))
    total = {
        "cohort": 1,
        "compared": 1,
        "evaluated": 1,
        "shard": 2,
        "interpreted": 1,
        "notebook": chapters,
        "explorer": 1,
        "book": 1,
    }
    assert jobs_of(printed) == total | {"total": sum(total.values())}
    asked = re.findall(r"^rule (\w+):.*?^    resources: (.*?)$", printed, re.M | re.S)
    assert len(asked) == sum(total.values())
    fits = {"compared", "evaluated", "shard", "interpreted"}
    assert {rule for rule, r in asked if "gpu=1" in r} == fits
    assert {rule for rule, r in asked if "gpu" not in r} == {
        "cohort",
        "notebook",
        "explorer",
        "book",
    }
    assert all("mem_mb=" in r and "runtime=" in r for _, r in asked)


SLURM = {
    "sbatch": """
number = os.getpid()
(jobs / f"{number}.json").write_text(json.dumps(sys.argv[1:]))
wrapped = next(a for a in sys.argv if a.startswith("--wrap="))[7:]
log = sys.argv[sys.argv.index("--output") + 1].replace("%j", str(number))
script = f"({wrapped}); echo $? > '{jobs}/{number}.rc'"
subprocess.Popen(["sh", "-c", script], stdout=open(log, "w"), stderr=subprocess.STDOUT,
                 stdin=subprocess.DEVNULL, start_new_session=True)
print(number)
""",
    "srun": """
program = next(i for i, a in enumerate(sys.argv) if i and not a.startswith("-"))
os.execv(sys.argv[program], sys.argv[program:])
""",
    "sacct": """
for job in jobs.glob("*.json"):
    ended = job.with_suffix(".rc")
    code = ended.read_text().strip() if ended.exists() else ""
    print(f"{job.stem}|{'RUNNING' if not code else 'COMPLETED' if code == '0' else 'FAILED'}")
""",
    "sinfo": "print('PARTITION', 'short*')",
}


@pytest.fixture
def cluster(tmp_path):
    """Stand-ins for SLURM's commands, which run each job here and note what was asked for it."""
    jobs, commands = tmp_path / "jobs", tmp_path / "commands"
    jobs.mkdir()
    commands.mkdir()
    for name, body in SLURM.items():
        head = f"#!{sys.executable}\nimport json, os, subprocess, sys\nfrom pathlib import Path\n"
        (commands / name).write_text(f"{head}jobs = Path({str(jobs)!r})\n{body}")
        (commands / name).chmod(0o755)
    return commands, jobs


nightly = pytest.mark.skipif(
    os.environ.get("HYPOTHESIS_PROFILE") != "nightly", reason="a minute and more: make nightly"
)


@nightly
def test_every_chapter_goes_through_with_few_brains_and_bad_fits(tree):
    chapters = sorted(path.stem for path in (tree / "notebooks").glob("*.ipynb"))
    snakemake(tree, "--cores", "2", "book")
    pages = [tree / f"_build/html/notebooks/{chapter}.html" for chapter in chapters]
    assert all(page.is_file() for page in pages)


@nightly
def test_a_cluster_is_asked_for_gpus_for_fits_alone(tmp_path, cluster):
    commands, jobs = cluster
    tree = copied_tree(tmp_path / "a tree")
    options = ["--workflow-profile", "slurm", "--jobs", "2", "--latency-wait", "5"]
    options += ["--slurm-init-seconds-before-status-checks", "1"]
    wanted = ["_build/tiny/compared", "_build/tiny/shards/L3.ipynb"]
    snakemake(tree, *options, *wanted, PATH=f"{commands}{os.pathsep}{os.environ['PATH']}")
    asked = {}
    for job in jobs.glob("*.json"):
        arguments = json.loads(job.read_text())
        rule = arguments[arguments.index("--comment") + 1]
        asked[rule] = arguments
    assert set(asked) == {"rule_cohort", "rule_compared", "rule_shard_wildcards_3"}
    for rule, arguments in asked.items():
        gpus = [a for a in arguments if re.match("--(gpus|gres)", a)]
        assert gpus == ([] if rule == "rule_cohort" else ["--gpus=1"])
        assert f"--cpus-per-task={4 if rule == 'rule_cohort' else 8}" in arguments
    assert rows(tree) == {"L3.ipynb"}
    assert all(job.read_text().strip() == "0" for job in jobs.glob("*.rc"))
