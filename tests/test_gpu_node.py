"""Every command on the book's pages and in the README is run, dry where it has to be."""

import contextlib
import importlib
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner
from executed import clone, snakemake
from papermill.cli import papermill

from brainvae_core.settings import read_profile, read_settings
from brainvae_core.study import STAGES, row

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *(f"book/{page}.md" for page in ("gpu_node", "running", "acquisition")))

pytestmark = pytest.mark.workflow


def commands_of(text: str) -> Iterator[tuple[str, str]]:
    """Each command of the blocks without a language, with the folder that its block is in by then.

    A line that ends with a backslash goes on.
    """
    for language, block in re.findall(r"^```(.*?)\n(.*?)^```$", text, re.M | re.S):
        if language.strip() not in ("", "sh", "bash", "console"):
            continue
        folder = "."
        for line in filter(str.strip, block.replace("\\\n", " ").splitlines()):
            for command in line.split("&&"):
                yield folder, command.strip()
                if command.startswith("cd "):
                    folder = os.path.normpath(os.path.join(folder, shlex.split(command)[1]))


def commands() -> list:
    found = {}
    for page in PAGES:
        for folder, command in commands_of((ROOT / page).read_text()):
            found.setdefault((folder, command), page)
    return [pytest.param(*key, id=f"{Path(p).stem}: {key[1][:60]}") for key, p in found.items()]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("a clone"))


# ---- one function a program: runs a command of it as far as it goes without doing anything ----


def dry_cd(arguments, folder):
    assert (folder / arguments[0]).is_dir()


def dry_source(arguments, folder):
    assert arguments == [".venv/bin/activate"]  # the Makefile's environment
    assert ".venv/made:" in (folder / "Makefile").read_text()


def dry_make(arguments, folder):
    answer = subprocess.run(
        ["make", "-n", *arguments],
        cwd=folder,
        env=os.environ | {"BRAINVAE_DATA": "/path/to/folder"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def dry_snakemake(arguments, folder):
    # What stands after -- are targets.
    code, printed = snakemake(folder, "-n", *arguments)
    assert code == 0, printed
    assert re.search(r"^total +\d+$|Nothing to be done", printed, re.M), printed


def dry_python(arguments, folder):
    """A script or a module of the project: it has every option, and every profile is one."""
    first = arguments[0]
    program = arguments[1:] if first == "-m" else arguments
    if first == "-m":
        assert program[0].startswith("brainvae_core.")
        main, path = importlib.import_module(program[0]).main, sys.path
    else:
        script = folder / first
        assert script.suffix == ".py" and script.is_file()
        main = partial(runpy.run_path, str(script), run_name="__main__")
        path = [str(script.parent), *sys.path]
    printed = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [first, "--help"]),
        mock.patch.object(sys, "path", path),
        contextlib.redirect_stdout(printed),
        pytest.raises(SystemExit, match="^0$"),
    ):
        main()
    for argument in program[1:]:
        assert not argument.startswith("--") or argument in printed.getvalue(), argument
    if program[0] == "brainvae_core.study":
        p = read_profile(folder / f"notebooks/params/{program[1]}.yaml")
        only = program.index("--only") + 1 if "--only" in program else len(program)
        for stage in takewhile(lambda word: not word.startswith("--"), program[only:]):
            assert stage in STAGES, stage
        if "--latent-dim" in program:
            row(p, int(program[program.index("--latent-dim") + 1]))


def dry_papermill(arguments, folder, out):
    """Prepared and not executed; the parameters are then read as the notebook's next cell would."""
    given = papermill.make_context("papermill", list(arguments)).params
    target, namespace, tags = out / "prepared.ipynb", {}, []
    arguments = [str(target) if a == given["output_path"] else a for a in arguments]
    with contextlib.chdir(folder):
        answer = CliRunner().invoke(papermill, [*arguments, "--prepare-only"])
        assert answer.exit_code == 0, f"{answer.output} {answer.exception}"
        for cell in json.loads(target.read_text())["cells"]:
            found = {"parameters", "injected-parameters"} & set(cell["metadata"].get("tags", []))
            if found:
                exec("".join(cell["source"]), namespace)
                tags += found
        read_settings(namespace)
    assert tags[0] == "parameters"
    assert ("injected-parameters" in tags) == any(a in ("-p", "-r", "-y") for a in arguments)


KNOWN = {
    "cd": dry_cd,
    "source": dry_source,
    "make": dry_make,
    "snakemake": dry_snakemake,
    "python": dry_python,
}


def dry_run(command, folder, out):
    words = shlex.split(command, comments=True)
    program = Path(words[0]).name
    if program == "papermill":
        return dry_papermill(words[1:], folder, out)
    assert program in KNOWN, f"no way to try this command: {command}"
    return KNOWN[program](words[1:], folder)


@pytest.mark.parametrize("folder, command", commands())
def test_every_command_goes_as_far_as_it_can_without_doing_anything(
    folder, command, tree, tmp_path
):
    dry_run(command, tree / folder, tmp_path)


def test_the_pages_have_commands_of_every_kind_and_a_wrong_one_fails(tree, tmp_path):
    programs = [Path(p.values[1].split()[0]).name for p in commands()]
    assert {"make", "papermill", "snakemake", "python", "cd", "source"} <= set(programs)
    for command in ("rm -rf runs", "make nothing-of-the-kind", "cd nowhere"):
        with pytest.raises(AssertionError):
            dry_run(command, tree, tmp_path)
    with pytest.raises(ValueError, match="unknown setting 'betta'"):
        wrong = "papermill 03_training.ipynb out.ipynb -p betta 3"
        dry_run(wrong, tree / "notebooks", tmp_path)


@pytest.mark.parametrize("name, n_fits", [("paper", 438), ("fast", 1050)])
def test_the_page_counts_the_fits_of_a_profile(name, n_fits):
    p = read_profile(ROOT / f"notebooks/params/{name}.yaml")
    stages = ("compared", "evaluated", "grid", "curve")
    all_of_them = {config for stage in stages for config in STAGES[stage].configs(p)}
    assert sum(config.kind == "beta_vae" for config in all_of_them) == n_fits
    page = (ROOT / "book/gpu_node.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| β-VAEs and VAEs"))
    assert f"{n_fits:,}" in row


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", readme, re.M | re.S)
    for shown, quick in (
        ("n_brains=256, shape=(80, 112)", "n_brains=24, shape=(40, 56)"),
        ("steps=500", "steps=2, batch_size=4"),
    ):
        assert shown in example
        example = example.replace(shown, quick)
    exec(example, {})
    printed = np.array(capsys.readouterr().out.replace("[", " ").replace("]", " ").split(), float)
    assert printed.shape == (2 * 8,)  # two regions by eight latents
