"""Whatever is ended at whatever moment goes on to the end that it would have had, and so do two."""

import csv
import errno
import fcntl
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from allen_server import AllenServer
from authors_release import AuthorsNetwork, checkpoint, on_their_side
from executed import small_book, tracebacks
from PIL import Image
from safetensors import safe_open

from brainvae_core import disk
from brainvae_core.cohorts import simulate
from brainvae_core.disk import atomically, file_lock

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
PROFILE = """\
cohort: {{n_brains: 40, shape: [40, 56]}}
model:
  {{latent_dim: 2, beta: 1, batch_size: 4, steps: "10x14: 4, 20x28: 4, 40x56: 3",
   validate_every: 2, precision: float32}}
grid: {{betas: [1], latent_dims: [2, 3], seeds: [0, 1], shape: [20, 28], steps: 4}}
evaluation: {{seeds: [0, 1], fd_dim: 3, n_graded: 4}}
fields: {{region_share: 0.05}}
lab: {{n_permutations: 99}}
places:
  {{data: {0}/data, runs: {0}/runs, results: {0}/results, reports: {0}/reports, device: cpu,
   together: 2}}
"""
SECTIONS = {
    i: np.random.default_rng(i).integers(0, 60000, (320, 456), dtype=np.uint16)
    for i in (303, 101, 202)
}
# Each kind: its command, the kinds that come before, how often it is ended in CI and in a night.
STUDY, BOTH = ("study", "tiny.yaml", "--only"), ("cohort", "growing")
KINDS = {
    "cohort": ((*STUDY, "cohort"), (), 2, 60),
    "growing": ((*STUDY, "compared"), ("cohort",), 2, 45),
    "grid": ((*STUDY, "grid"), ("cohort",), 2, 40),
    "table": (("results", "tiny.yaml", "--only", "grid"), ("cohort", "grid"), 1, 25),
    "release": (
        ("authors", "release", "--array", "array.npy", "--checkpoint", "checkpoint"),
        (),
        1,
        15,
    ),
    "explorer": (("explorer", "tiny.yaml", "results/explorer_data.js"), BOTH, 1, 15),
    "acquisition": (("acquire", "acquired", "--no-ask", "--rate-limit", "20"), (), 2, 15),
    "asking": (("acquire", "acquired", "--acquire-python", "./asker"), (), 1, 15),
    "report": (("-m", "brainvae_core.report", "--profile", "tiny.yaml"), BOTH, 0, 3),
    "book": (("-m", "snakemake", "--cores", "2", "--config", "profile=tiny"), (), 0, 6),
}
MARKS = dict.fromkeys(("acquisition", "asking"), [pytest.mark.server])
ASKER = '#!/bin/sh\nsleep 0.1\nexec touch "$2/experiments.csv"\n'  # in AllenSDK's place
MARKS |= dict.fromkeys(("report", "book"), [pytest.mark.workflow, pytest.mark.nightly])
each_kind = pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=MARKS.get(k, ())) for k in KINDS]
)


class Commands:
    """Commands in children of a process that has imported PyTorch, or in processes of their own."""

    def __init__(self, root):
        self.root, self.rng, self.own = root, np.random.default_rng(0), {}
        self.before, self.whole, self.seconds, self.allen = {}, {}, {}, None
        program = [sys.executable, str(Path(__file__).with_name("forked.py"))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.server = subprocess.Popen(program, **pipes)

    def ask(self, question):
        print(json.dumps(question), file=self.server.stdin, flush=True)
        return json.loads(self.server.stdout.readline())

    def start(self, folder, command):
        if command[0] != "-m":
            return self.ask([str(folder), *command])
        with open(folder.parent / "said", "ab") as output:
            options = {"stdout": subprocess.DEVNULL, "stderr": output, "start_new_session": True}
            process = subprocess.Popen([sys.executable, *command], cwd=folder, **options)
        self.own[process.pid] = process
        return process.pid

    def wait(self, number):
        process, began = self.own.get(number), time.monotonic()
        code, self.took = self.ask(number) if process is None else (process.wait(), None)
        self.took = self.took or time.monotonic() - began
        return code

    def wait_a_moment(self, number, kind):
        """Until any moment of its whole time, of processor time where there is no other process."""
        moment, process = self.rng.uniform(0, self.seconds[kind]), psutil.Process(number)
        began, is_own = time.monotonic(), number in self.own
        while process.status() != psutil.STATUS_ZOMBIE:
            if (time.monotonic() - began if is_own else sum(process.cpu_times()[:2])) >= moment:
                break
            time.sleep(0.003)

    def done(self, folder, kind):
        assert self.wait(self.start(folder, KINDS[kind][0])) == 0, output(folder)

    def fresh(self, kind):
        """A folder in which all is done that comes before."""
        folder = self.root / kind / "here"
        shutil.rmtree(folder.parent, ignore_errors=True)
        if kind in self.before:
            return shutil.copytree(self.before[kind], folder)
        folder.mkdir(parents=True)
        if kind == "book":
            small_book(folder, PROFILE.partition("places:")[0].format() + "places: {device: cpu}")
        own = PROFILE.replace("40,", "80,", 1) if kind == "report" else PROFILE
        (folder / "tiny.yaml").write_text(own.format(folder))
        if kind in ("acquisition", "asking"):
            self.allen.request_folder(folder / "acquired", [*SECTIONS])
            (folder / "asker").write_text(ASKER)
            (folder / "asker").chmod(0o755)
        if kind == "release":
            sections = simulate(n_brains=20, shape=(40, 56), seed=3).images
            np.save(folder / "array.npy", on_their_side(sections))
            (folder / "checkpoint").write_bytes(checkpoint(AuthorsNetwork(2, 3, seed=1)))
        for before in KINDS[kind][1]:
            self.done(folder, before)
        self.before[kind] = shutil.copytree(folder, self.root / f"{kind} before")
        return folder

    def undisturbed(self, kind):
        """What a command leaves that nothing disturbs; how long it takes is known from then on."""
        if kind not in self.whole:
            folder = self.fresh(kind)
            self.done(folder, kind)
            self.seconds[kind] = self.took
            self.whole[kind] = written(folder)
        return self.whole[kind]


def output(folder):
    file = folder.parent / "said"
    return file.read_text() if file.exists() else ""


# ---- what is left ----


PLACES = ("data", "runs", "results", "release", "acquired", "reports", "_build")
WITH_TIMES = {".pickle", ".doctree", ".pyc", ""}  # all of it
KERNEL = "[IPKernelApp] WARNING | Parent appears to have exited"  # of a report that was killed


def written(folder):
    """All that a command wrote, hidden or not, but for times."""
    files = [f for name in PLACES for f in (folder / name).rglob("*") if f.is_file()]
    return {str(f.relative_to(folder)): without_times(f) for f in files}


def without_times(file):
    if file.suffix in WITH_TIMES:
        return None
    content = file.read_bytes()
    if file.name == "history.csv":
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        return [row | {"seconds": None} for row in rows]
    about = json.loads(content) if file.suffix == ".json" else None
    if isinstance(about, dict) and "made" in about:  # checksums are also of history.csv and pages
        about["made"].pop("commit", None)  # which somebody may make meanwhile
        return about | {"sha256": None, "files": sorted(about["files"])}
    if file.suffix == ".png" and "reports" in file.parts:  # its words say the commit too
        with Image.open(file) as picture:
            return picture.size, picture.tobytes()
    if file.name == "manifest.jsonl":  # in the order in which they came, with what the tries moved
        lines = map(json.loads, content.decode().splitlines())
        of_a_try = dict.fromkeys(("date", "bytes", "line_sha256"))
        return sorted(str(line | of_a_try) for line in lines)
    if file.suffix == ".html":  # numbers by chance, of added cells and of a picture's parts
        return re.sub(rb'cell-id=\w+|src="data:image/svg[^"]*"', b"", content)
    if file.suffix == ".ipynb":
        content = re.sub(rb'"commit": "[^"]*"', b'"commit": ""', content)  # as above
        return [(cell["source"], cell.get("outputs")) for cell in json.loads(content)["cells"]]
    return content


def complete(folder):
    """Files of what is never written twice: runs, cohorts, the sections that a manifest lists."""
    found = [f for name in ("runs", "data", "release") for f in folder.glob(f"{name}/[!.]*/*")]
    found = [f for f in found if f.parent.name != "tables"]
    if (manifest := folder / "acquired/manifest.jsonl").exists():
        ids = [json.loads(line)["id"] for line in manifest.read_text().splitlines()]
        found += [folder / f"acquired/sections/{i}.npy" for i in ids]
    return {f: (f.stat().st_ino, f.stat().st_mtime_ns) for f in found if f.is_file()}


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    # What a shell starts in the background ignores Ctrl-C, and so would what that starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    found = Commands(tmp_path_factory.mktemp("killed"))
    with AllenServer(SECTIONS) as found.allen:
        yield found
    found.server.stdin.close()
    found.server.wait()
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.promise(
    "ended at any moment by Ctrl-C, SIGTERM or SIGKILL, the same command goes on to the same "
    "bytes; nothing complete is made again, nothing is left over, and Ctrl-C is one line"
)
@each_kind
def test_what_is_ended_goes_on_to_the_same_end(commands, kind, record_property):
    whole, n_kills, seen = commands.undisturbed(kind), 0, {}
    wanted = KINDS[kind][3 if NIGHTLY else 2]
    stages_of = (10, 20, 40) if kind == "growing" and NIGHTLY else ()
    every = {f"stage {height}" for height in stages_of}  # the last one is short

    def more():
        return n_kills < wanted or every - seen.keys() and n_kills < 5 * wanted

    while more():
        folder, kept, code, family = commands.fresh(kind), {}, None, []
        for again in range(6):
            before = len(output(folder))
            number = commands.start(folder, KINDS[kind][0])
            if again < 5 and more():
                commands.wait_a_moment(number, kind)
                which, at = SIGNALS[n_kills % 3], len(output(folder))
                family += psutil.Process(number).children(recursive=True)
                (os.killpg if n_kills // 3 % 2 else os.kill)(number, which)
            code = commands.wait(number)
            psutil.wait_procs(family, timeout=120)  # Snakemake's jobs outlive its kill
            assert kept.items() <= complete(folder).items()
            brains = {commands.allen.link(int(f.stem)) for f in kept if f.parent.name == "sections"}
            assert not brains & {path for path, *_ in commands.allen.requests}
            commands.allen.requests.clear()
            kept = complete(folder)
            if code == 0:
                if not again:  # it was faster than what was timed, maybe beside other work
                    commands.seconds[kind] = min(commands.seconds[kind], commands.took)
                break
            n_kills += 1
            lines = [x for x in output(folder)[before:].splitlines() if not x.startswith(KERNEL)]
            seen[which.name] = seen.get(which.name, 0) + 1
            if kind == "book":  # of which Snakemake and its jobs tell, once it has begun any
                output_then = output(folder)[at:]
                is_short = output_then.count("\n") <= 40 and not tracebacks(output_then)
                assert is_short or "Select jobs" not in output(folder)[before:at], output_then
                assert code in (1, 130, -which)
            elif which == signal.SIGKILL:
                assert code == -which and not lines
            else:
                assert len(lines) == (code != -signal.SIGTERM), (code, lines)  # before it began
                assert code in (130, 2, -signal.SIGTERM)
            stages(folder, seen)
        assert code == 0 and not [p for p in family if p.is_running()]
        assert written(folder) == whole
    record_property("cases", n_kills)
    record_property("signals", str(seen))
    assert every <= seen.keys()


def stages(folder, seen):
    """Note the stage that a fit was in."""
    for file in folder.glob("runs/.*/checkpoint.safetensors"):
        with safe_open(file, "np") as kept:
            height = json.loads(kept.metadata()["history"])[-1]["height"]
        seen[f"stage {height}"] = seen.get(f"stage {height}", 0) + 1


@pytest.mark.workflow
@pytest.mark.nightly
@pytest.mark.promise("jobs that a killed Snakemake leaves end well, and until then no other begins")
def test_a_killed_snakemake_leaves_no_job_that_another_one_meets(commands, record_property):
    folder, command = commands.fresh("book"), (*KINDS["book"][0], "--", "_build/tiny/compared")
    number, lines = commands.start(folder, command), ()
    while not any("brainvae_core.study" in line for line in lines):
        jobs = psutil.Process(number).children(recursive=True)
        lines = [job.as_dict(["cmdline"])["cmdline"] or () for job in jobs]  # an ended one's
    os.kill(number, signal.SIGKILL)
    assert commands.wait(number) == -signal.SIGKILL
    for job in jobs:
        job.suspend()
    assert commands.wait(commands.start(folder, command)) == 1
    assert "another snakemake (or make) works in this folder, or jobs of one" in output(folder)
    for job in jobs:
        job.resume()
    psutil.wait_procs(jobs, timeout=120)
    assert commands.wait(commands.start(folder, command)) == 0
    record_property("cases", 1)


# ---- two at once ----

WORK = {"cohort": ["cohort"], "growing": ["beta_vae-L2-beta1-seed0"]}
WORK["grid"] = [f"beta_vae-L{n}-beta1-seed{seed}" for n in (2, 3) for seed in (0, 1)]
WORK["table"] = ["scores"] * (6 + 2)  # once a fit, and once a command to results/


@pytest.mark.slow
@pytest.mark.promise("two at once leave what one leaves, and no work is done twice")
@each_kind
def test_two_at_once_share_the_work(commands, kind, record_property):
    whole, n = commands.undisturbed(kind), 10 if NIGHTLY and kind in WORK else 1
    for _ in range(n):
        folder = commands.fresh(kind)
        work = folder.parent / "work"
        work.unlink(missing_ok=True)
        both = [commands.start(folder, KINDS[kind][0]) for _ in range(2)]
        codes = [commands.wait(number) for number in both]
        lines = output(folder).splitlines()
        if sorted(codes) != [0, 0]:  # the other says that it is not the only one
            assert sorted(codes) == [0, 2 if kind != "book" else 1]
            assert "another" in " ".join(lines)
        elif kind in WORK:
            assert sorted(work.read_text().split()) == sorted(WORK[kind])
            assert {line.partition(" that ")[0] for line in lines} <= {
                "waiting for another process"
            }
        assert written(folder) == whole
    record_property("cases", n)


@pytest.mark.promise("a file system whose locks are none, or exclude nobody, is told in one line")
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, None])
def test_locks_that_exclude_nobody_are_told_once(
    tmp_path, monkeypatch, capsys, error, record_property
):
    def flock(*_):
        if error:
            raise OSError(error, os.strerror(error))

    with file_lock(tmp_path / "sound"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(disk, "CHECKED", {})
    monkeypatch.setattr(fcntl, "flock", flock)
    for name in ("a", "b"):
        with file_lock(tmp_path / name) as mine, atomically(tmp_path / name) as beside:
            assert mine
            beside.touch()
    line = f"warning: locks on the file system of {tmp_path} exclude nobody: start no two commands"
    assert capsys.readouterr().err == f"{line} there at once\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    record_property("cases", 1)
