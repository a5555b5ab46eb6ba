"""AllenSDK asks, in its own environment; a local server answers, well and badly."""

import csv
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from allen_server import AllenServer

from brainvae_core.cohorts import ccf_atlas, drawn_atlas
from brainvae_core.cohorts.ccf import read_ontology
from brainvae_core.disk import digest_of

pytestmark = pytest.mark.server

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "brainvae_core" / "cohorts" / "ask_allen.py"
HEADER = [
    *("id", "sex", "strain", "transgenic_line", "product_id", "injection_structure"),
    *("injection_volume", "injection_ap", "injection_dv", "injection_ml", "url", "refused"),
]
METADATA = pd.DataFrame(
    [
        (101, "F", "C57BL/6J", None, "SSp", 0.11),
        (103, "M", "C57BL/6J", "Rbp4-Cre_KL100", "TH", 0.13),
        (107, "F", "FVB.CD1(ICR)", "Rbp4-Cre_KL100", "CA", 0.17),
        (109, "M", None, "Cux2-IRES-Cre", "HPF", 0.19),
        (113, "M", "C57BL/6J", None, "HY", 0.23),
    ],
    columns=["id", "sex", "strain", "transgenic_line", "injection_structure", "injection_volume"],
).set_index("id")


# Many questions in one process, for importing AllenSDK takes longer than all of them; and with
# short pauses between attempts.
PROGRAM = (
    "import contextlib, io, json, sys\n"
    "sys.path.insert(0, sys.argv[1]); import ask_allen, ask_files\n"
    "ask_files.METER.wait = lambda s: None\n"
    "for arguments in json.loads(sys.argv[2]):\n"
    "    errors = io.StringIO()\n"
    "    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):\n"
    "        status = ask_allen.main(arguments)\n"
    "    print(json.dumps([status, errors.getvalue()]))\n"
)


def run_questions(python, questions):
    """Exit status of each question and what it said of errors."""
    given = json.dumps([list(map(str, arguments)) for arguments in questions])
    command = [python, "-c", PROGRAM, str(SCRIPT.parent), given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(questions) and "Traceback" not in str(answers)
    return answers


@pytest.fixture(scope="session")
def acquire_python():
    given = os.environ.get("BRAINVAE_ACQUIRE_PYTHON", REPOSITORY / ".venv-acquire/bin/python")
    if not Path(given).exists():
        pytest.skip(f"no acquisition environment: {given} (BRAINVAE_ACQUIRE_PYTHON) does not exist")
    return str(given)


@pytest.fixture
def server():
    blank = np.zeros((320, 456), np.uint16)
    with AllenServer({int(i): blank for i in METADATA.index}, METADATA) as server:
        yield server


@pytest.fixture
def ask(acquire_python, server, tmp_path):
    """Ask one question; the exit status, rows and what it said of errors."""

    def run(*options, atlas=False, base_url=server.url):
        urls = ["--base-url", base_url, "--download-url", base_url]
        given = [tmp_path / "out", *options, *urls, *([] if atlas else ["--no-atlas"])]
        ((status, errors),) = run_questions(acquire_python, [given])
        errors = [line for line in errors.splitlines() if not line.startswith("addresses")]
        return status, rows_of(tmp_path / "out"), "\n".join(filter(None, errors))

    return run


def rows_of(folder):
    path = folder / "experiments.csv"
    if not path.exists():
        return None
    with open(path, newline="") as file:
        table = csv.DictReader(file)
        assert table.fieldnames == HEADER
        return {int(row["id"]): row for row in table}


# Asked in a child of a process that has imported AllenSDK; ended at a moment of its whole time.
ENDED = """
import json, os, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
import ask_allen, ask_files
ask_files.METER.wait = lambda s: None
signal.signal(signal.SIGINT, signal.default_int_handler)
options, n_kills = json.loads(sys.argv[2])
rng = random.Random(0)

def asked(folder, moment=None, which=None):
    began, child = time.monotonic(), os.fork()
    if child == 0:
        os._exit(ask_allen.main([folder, *options]))
    if which:
        time.sleep(moment)
        os.kill(child, which)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, time.monotonic() - began

code, seconds = asked("whole")
codes, n_whole = [code], 0
while sum(code != 0 for code in codes) < n_kills or codes[-1] != 0:
    which = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[sum(map(bool, codes)) % 3]
    codes.append(asked(f"ended {n_whole}", rng.uniform(0, seconds), which)[0])
    n_whole += codes[-1] == 0
print(json.dumps(codes))
"""


def paths(server):
    return [path for path, _, _, _ in server.requests]


def test_all_experiments_with_their_addresses(acquire_python, server, tmp_path):
    urls = ["--base-url", server.url, "--download-url", server.url]
    command = [acquire_python, SCRIPT, tmp_path / "out", *urls, "--no-atlas"]
    subprocess.run(command, check=True, timeout=120)
    rows = rows_of(tmp_path / "out")
    assert list(rows) == METADATA.index.tolist()
    assert {i: row["url"] for i, row in rows.items()} == {i: server.volume_url(i) for i in rows}
    dv, ml = (str(server.experiments[3][f"injection_{axis}"]) for axis in "yz")
    cells = ("109", "M", "", "Cux2-IRES-Cre", "31", "HPF", "0.19", "7150", dv, ml)
    assert tuple(rows[109].values()) == (*cells, server.volume_url(109), "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["experiments.csv"]


def test_filters(acquire_python, server, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("113\n107,101\n")
    cases = [
        (["--sex", "F"], {101, 107}),
        (["--strain", "C57BL/6J", "FVB.CD1(ICR)"], {101, 103, 107, 113}),
        (["--line", "Rbp4-Cre_KL100"], {103, 107}),
        (["--no-line"], {101, 113}),
        (["--injection-structure", "HPF"], {107, 109}),
        (["--injection-structure", "CA", "TH"], {103, 107}),
        (["--injection-structure", "HPF", "--sex", "F"], {107}),
        (["--experiments", "109,101"], {101, 109}),
        (["--experiments", str(ids), "--sex", "F"], {101, 107}),
        (["--without", "101,109,999", "--limit", "2"], {103, 107}),
        (["--experiments", "109,101,555", "--without", "101,555"], {109}),
        (["--strain", "C57BL/6J", "--no-line", "--sex", "M", "--limit", "5"], {113}),
    ]
    wrong = [
        (["--sex", "X"], "--sex 'X' does not exist; there are F, M"),
        (["--strain", "C57BL6"], "--strain 'C57BL6' does not exist; there are C57BL/6J, FVB.CD1"),
        (["--line", "Rbp4"], "there are Rbp4-Cre_KL100, Cux2-IRES-Cre"),
        (["--injection-structure", "Hpf"], "there are HPF, "),
        (["--no-line", "--strain", "FVB.CD1(ICR)"], "--strain alone 1, --no-line alone 2"),
        (["--limit", "0"], "--limit 0: give a number"),
        (["--experiments", "nothing.txt"], "neither ids such as 1,2,3 nor a file"),
        (["--atlas-from", str(tmp_path / "none")], "is no folder"),
    ]
    todo = []
    for n, (options, _) in enumerate([*cases, *wrong]):
        atlas = [] if "--atlas-from" in options else ["--no-atlas"]
        urls = ["--base-url", server.url, "--download-url", server.url]
        todo.append([tmp_path / f"out-{n}", *options, *urls, *atlas])
    answers = run_questions(acquire_python, todo)
    for n, (options, expected) in enumerate(cases):
        assert answers[n][0] == 0, (options, answers[n])
        assert set(rows_of(tmp_path / f"out-{n}")) == expected, options
    for n, (options, expected) in enumerate(wrong, len(cases)):
        status, errors = answers[n]
        assert status == 2 and expected in errors and errors.count("\n") == 1, (options, errors)
        assert not (tmp_path / f"out-{n}").exists()


def test_experiments_without_an_address_keep_a_row(ask, server):
    server.without_url.add(107)
    status, rows, errors = ask("--experiments", "107,113,555")
    assert status == 1
    assert list(rows) == [107, 113, 555]
    assert rows[107]["url"] == "" and "no volumes" in rows[107]["refused"]
    assert rows[113]["url"] and rows[113]["refused"] == ""
    assert rows[555]["url"] == "" and "lists no such experiment" in rows[555]["refused"]
    assert "107: the service has no volumes" in errors


def test_a_service_that_stumbles_is_asked_again(ask, server):
    server.faults = {
        "experiments": ["500", "rma_error", "short"],
        "url 101": ["500"],
        "url 103": ["rma_error", "html"],
        "url 107": ["429"],
        "url 109": ["404"],
        "url 113": ["short_no_length"] * 4,
    }
    status, rows, _ = ask()
    assert status == 1
    assert {i for i, row in rows.items() if row["url"]} == {101, 103, 107}
    assert "404" in rows[109]["refused"] and "no answer" in rows[113]["refused"]

    server.requests.clear()
    status, rows, _ = ask()
    assert status == 0 and all(row["url"] for row in rows.values())
    assert len(paths(server)) == 3  # the list, 109 and 113


def test_the_atlas(ask, server, tmp_path):
    folder, sha256 = tmp_path / "out" / "atlas", server.annotation_sha256
    server.faults = {"template": ["short_no_length"], "annotation": ["html"], "structures": ["500"]}
    status, _, errors = ask("--annotation-sha256", sha256, atlas=True)
    assert (status, errors) == (0, "")
    files = ["annotation_25.nrrd", "average_template_25.nrrd", "structures.json"]
    assert sorted(p.name for p in folder.iterdir()) == sorted([*files, "checksums.json"])
    known = json.loads((folder / "checksums.json").read_text())
    assert known.pop("sha256") == digest_of(known)
    assert known == {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in files}
    assert known["annotation_25.nrrd"] == sha256

    drawn, found = drawn_atlas(), ccf_atlas(folder)
    np.testing.assert_array_equal(found.annotation, drawn.annotation)
    assert np.abs(found.template - drawn.template / drawn.template.max()).max() < 0.01
    table = read_ontology(folder / "structures.json")
    pd.testing.assert_frame_equal(table, drawn.structures, check_dtype=False)

    server.requests.clear()
    (folder / "average_template_25.nrrd").write_bytes(b"damaged since")
    assert ask("--annotation-sha256", sha256, atlas=True)[0] == 0
    assert [Path(p).name for p in paths(server) if "query" not in p] == ["average_template_25.nrrd"]
    assert len(paths(server)) == 2  # the list of experiments and the template
    server.requests.clear()
    options = ["--annotation-sha256", sha256, "--injection-structure", "HPF"]
    status, rows, _ = ask(*options, atlas=True)
    assert (status, set(rows)) == (0, {107, 109})
    assert len(paths(server)) == 1  # the structures are at hand too


@pytest.mark.promise(
    "ended at any moment by Ctrl-C, SIGTERM or SIGKILL, the same command goes on to the same "
    "bytes; nothing complete is made again, nothing is left over, and Ctrl-C is one line"
)
def test_asking_that_is_ended_goes_on(acquire_python, server, tmp_path, record_property):
    n_kills = 60 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 3
    options = ["--base-url", server.url, "--download-url", server.url]
    options += ["--annotation-sha256", server.annotation_sha256]
    command = [acquire_python, "-c", ENDED, SCRIPT.parent, json.dumps([options, n_kills])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr[-2000:]
    codes = json.loads(done.stdout.splitlines()[-1])
    assert codes[0] == codes[-1] == 0 and set(codes) == {0, 130, -15, -9}
    whole, *ended = (files_of(tmp_path / name) for name in sorted(os.listdir(tmp_path))[::-1])
    assert len(whole) == 5 and len(ended) == codes.count(0) - 1
    assert all(files == whole for files in ended)
    record_property("cases", len(codes) - codes.count(0))


def files_of(folder):
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("is_known", [True, False])
def test_an_atlas_from_files_that_are_another_or_not_whole(ask, server, tmp_path, is_known):
    source = tmp_path / "source" / "below"
    source.mkdir(parents=True)
    (source / "annotation_25.nrrd").write_bytes(server.file("annotation").read_bytes())
    (source / "average_template_25.nrrd").write_bytes(server.file("template").read_bytes()[:-9])
    known = ["--annotation-sha256", server.annotation_sha256] if is_known else []
    status, rows, errors = ask("--atlas-from", tmp_path / "source", *known, atlas=True)
    assert status == 1 and len(rows) == 5 and len(errors.splitlines()) == 2 - is_known
    path = source / "average_template_25.nrrd"
    assert f"no average_template_25.nrrd: {path}: not whole: " in errors
    assert is_known or "is not that of the 2017 annotation" in errors
    kept = sorted(p.name for p in (tmp_path / "out" / "atlas").iterdir())
    assert kept == ["annotation_25.nrrd"] * is_known + ["checksums.json", "structures.json"]
    assert not any("informatics-archive" in path for path in paths(server))


def test_no_service(ask, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        status, rows, errors = ask(base_url=url)
    assert (status, rows) == (2, None)
    assert errors.startswith(f"ask_allen: {url} gave no usable answer (connection failed (NewConn")
    assert "check the network" in errors and "\n" not in errors
    assert not (tmp_path / "out").exists()


def test_a_real_annotation_is_known_by_its_sha256(ask, real_data, tmp_path):
    status, _, errors = ask("--atlas-from", real_data, "--limit", "1", atlas=True)
    assert status == 0, errors
    assert (tmp_path / "out/atlas/annotation_25.nrrd").stat().st_size == 4035363
    assert len(read_ontology(tmp_path / "out/atlas/structures.json")) == 1327


ROW = ",".join(HEADER) + "\n{},F,A,,1,TH,0.1,1,1,1,{}/x,\n"
DAMAGED = {  # what is there before: of the table, of the atlas's checksums, of a file of ids
    "experiments.csv": (b"", b"id\xff,url\n", b"id,url\n1,2\n3,4,5,6\n", b'id,"url\n', b"id,url\n"),
    "atlas/checksums.json": (b"", b"\xff", b"5", b"null", b"[1]", b"[" * 10**5, b'{"sha256": ""}'),
    "ids": (b"\xff\xfe1\n", b"1,x\n", b"9" * 5000),
}
BAD_IDS = ("x", "1.5", "", "9" * 30, "-", "９ ９")


def test_damaged_files_of_an_earlier_asking_are_one_line(acquire_python, server, tmp_path):
    cases = [(name, content) for name, every in DAMAGED.items() for content in every]
    cases += [("experiments.csv", ROW.format(id, server.url).encode()) for id in BAD_IDS]
    todo = []
    for n, (name, content) in enumerate(cases):
        folder = tmp_path / f"{n}"
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(content)
        given = [folder, "--base-url", server.url, "--download-url", server.url]
        ids = {"ids": ["--experiments", folder / "ids"]}.get(name, ["--experiments", "101"])
        todo.append([*given, *ids, *(["--no-atlas"] if name[:5] != "atlas" else [])])
    for n, (status, errors) in enumerate(run_questions(acquire_python, todo)):
        name, content = cases[n]
        lines = [line for line in errors.splitlines() if not line.startswith("addresses")]
        assert status == (1 if name[:5] == "atlas" else 2), (name, content[:50], errors)
        assert len(lines) == (3 if name[:5] == "atlas" else 1), (name, content[:50], errors)
        assert all(str(tmp_path / f"{n}" / name) in line for line in lines) or name == "ids", errors
        assert all(re.search("remove it|move it away|ids such as", line) for line in lines), errors
        assert (tmp_path / f"{n}" / name).read_bytes() == content or name[:5] == "atlas"


def test_an_environment_without_allensdk_is_told(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "out"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "make the acquisition environment anew" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()
