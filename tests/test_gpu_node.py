"""Every command on the book's pages and in the README is run, dry where it has to be."""

import contextlib
import importlib
import io
import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner
from executed import clone, snakemake
from papermill.cli import papermill

from brainvae_core.cohorts import SIMULATORS
from brainvae_core.models import BetaVAE
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
            for command in map(str.strip, line.split("&&")):
                if command.startswith("cd "):
                    folder = os.path.normpath(os.path.join(folder, shlex.split(command)[1]))
                elif not command.startswith("source "):
                    yield folder, command


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


def dry_make(arguments, folder, out):
    command, told = ["make", "-n", *arguments], os.environ | {"BRAINVAE_DATA": "/path/to/folder"}
    answer = subprocess.run(command, cwd=folder, env=told, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def dry_snakemake(arguments, folder, out):
    code, printed = snakemake(folder, "-n", *arguments)
    assert code == 0, printed
    assert re.search(r"^total +\d+$|Nothing to be done", printed, re.M), printed


def dry_python(arguments, folder, out):
    """A module of the project has every option, and the profile and the row are there."""
    module, profile, *given = arguments[1:]
    printed = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [module, profile, *given, "--help"]),
        contextlib.redirect_stdout(printed),
        pytest.raises(SystemExit, match="^0$"),
    ):
        importlib.import_module(module).main()
    assert all(word in printed.getvalue() for word in given if word.startswith("--"))
    p = read_profile(folder / f"notebooks/params/{profile}.yaml")
    if "--latent-dim" in given:
        row(p, int(given[given.index("--latent-dim") + 1]))


def dry_papermill(arguments, folder, out):
    """Prepared and not executed; the parameters are then read as the notebook's next cell would."""
    output, namespace = papermill.make_context("papermill", [*arguments]).params["output_path"], {}
    arguments = [str(out / "prepared.ipynb") if a == output else a for a in arguments]
    with contextlib.chdir(folder):
        answer = CliRunner().invoke(papermill, [*arguments, "--prepare-only"])
        assert answer.exit_code == 0, f"{answer.output} {answer.exception}"
        for cell in json.loads((out / "prepared.ipynb").read_text())["cells"]:
            if {"parameters", "injected-parameters"} & {*cell["metadata"].get("tags", [])}:
                exec("".join(cell["source"]), namespace)
        p = read_settings(namespace)
    p.model.stages(p.cohort.shape)
    assert not any(n % k for n, k in zip(p.cohort.shape, p.grid.shape, strict=True))
    replace(p.model, steps=p.grid.steps).stages(p.grid.shape)


KNOWN = {
    "make": dry_make,
    "snakemake": dry_snakemake,
    "python": dry_python,
    "papermill": dry_papermill,
}


@pytest.mark.parametrize("folder, command", commands())
def test_every_command_goes_as_far_as_it_can_without_doing_anything(
    folder, command, tree, tmp_path
):
    program, *arguments = shlex.split(command, comments=True)
    KNOWN[Path(program).name](arguments, tree / folder, tmp_path)


GFLOP = {320: 2.54, 160: 0.64, 80: 0.16}  # of an image, by its height, as the page says


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_the_page_counts_the_fits_of_a_profile(name):
    p = read_profile(ROOT / f"notebooks/params/{name}.yaml")
    stages = ("compared", "evaluated", "grid", "curve")
    own = {c for stage in stages for c in STAGES[stage].configs(p) if c.kind == "beta_vae"}
    more = [c for s in SIMULATORS for c in STAGES[s].configs(p) if c.kind == "beta_vae"]
    steps = [(c.batch_size, stage) for c in (*own, *more) for stage in c.stages(p.cohort.shape)]
    images = [(stage.shape[0], size * (stage.last - stage.first)) for size, stage in steps]
    n_fits, flop = len(own) + len(more), sum(1e9 * GFLOP[height] * n for height, n in images)
    a_fit = 4 * (BetaVAE(8, p.cohort.shape).n_parameters + 2 * math.prod(p.cohort.shape))
    page = (ROOT / "book/gpu_node.md").read_text()
    for head, told in {
        "β-VAEs and VAEs": f"{len(own):,}",
        "more of them": f"{len(more)}",
        "images shown": f"{sum(n for _, n in images) / 1e6:.0f} million",
        "arithmetic of one": scientific(flop / n_fits),
        "arithmetic of all": scientific(flop),
    }.items():
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {head}"))
        cell = line.split("|")[2 if name == "paper" else 3].strip()
        assert re.match(re.escape(told) + r"(?!\d|,\d)", cell), line
    assert re.search(rf"{n_fits * a_fit / 1e9:.1f} GB (of `runs/` )?for `{name}`", page)


def scientific(flop):
    digits, power = f"{flop:.1e}".split("e+")
    return f"{digits} × 10{power.translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))} FLOP"


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
