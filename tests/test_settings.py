"""One profile names a whole run: what wins, what is refused, and how its values are read."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from brainvae_core.models import BetaVAEConfig, paper_config
from brainvae_core.models.config import FAST_STAGES
from brainvae_core.settings import Settings, read_profile, read_settings, read_yaml
from brainvae_core.study import STAGES, compared_configs, curve, grid

PROFILES = sorted((Path(__file__).parents[1] / "notebooks" / "params").glob("*.yaml"))
DEMO = Settings()


@pytest.fixture(autouse=True)
def notebooks(monkeypatch):
    """Where profiles are found by name."""
    monkeypatch.chdir(PROFILES[0].parents[1])


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return path

    return write


def given(**names):
    return read_settings(names, show=False)


def error_of(call, *arguments, **names):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        call(*arguments, **names)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- which value wins ----


def test_a_short_name_is_of_what_the_notebook_is_about(tmp_path):
    names = {"brains": str(tmp_path), "orientation": "asr"}
    of_lab = read_settings(names | {"group": "sex", "covariates": "[age]"}, "lab", show=False)
    of_cohort = given(**names)
    assert (of_lab.lab.brains, of_lab.lab.orientation) == (str(tmp_path), "asr")
    assert (of_lab.lab.group, of_lab.lab.covariates) == ("sex", ("age",))
    assert of_lab.cohort == DEMO.cohort and of_cohort.lab == DEMO.lab
    assert (of_cohort.cohort.brains, of_cohort.cohort.orientation) == (str(tmp_path), "asr")


def test_a_notebook_takes_defaults_then_its_profile_then_what_it_is_given(written):
    own = str(written("model:\n  latent_dim: 5\n  beta: 4\ngrid:\n  betas: [1, 2]\n"))
    p = given(profile=own, beta=7, latent_dim=None, settings="grid.seeds=[3, 5], n_read=9")
    assert (p.model.beta, p.model.latent_dim, p.grid.betas) == (7.0, 5, (1.0, 2.0))
    assert (p.grid.seeds, p.fields.n_read, p.profile) == ((3, 5), 9, "own")
    assert p.cohort == DEMO.cohort and p.model.steps == DEMO.model.steps
    assert given(betas="[1, 4]").grid.betas == (1.0, 4.0)  # as papermill passes a list
    assert given() == DEMO and read_profile(written("# nothing\n")).flat() == DEMO.flat()
    assert isinstance(hash(p), int) and len(str(p).splitlines()) == len(DEMO.flat())


def test_a_profile_is_read_by_name_from_the_notebooks_and_from_the_project(monkeypatch, tmp_path):
    assert given(profile="paper").grid.betas == tuple(range(1, 21))
    monkeypatch.chdir(PROFILES[0].parents[2])
    assert given(profile="paper").profile == "paper"
    read_profile("paper", enter=True)
    assert Path.cwd() == PROFILES[0].parents[1]


@pytest.mark.parametrize("folder", [".", "params"])
def test_a_profile_by_its_path_has_its_places_in_the_project(monkeypatch, tmp_path, folder):
    root, path = PROFILES[0].parents[2], tmp_path / folder / "mine.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("model: {beta: 4}\n")
    (tmp_path / "elsewhere").mkdir()
    for start in (root, root / "notebooks", *[tmp_path / "elsewhere"] * (folder == ".")):
        monkeypatch.chdir(start)
        p = read_profile(path, enter=True)
        assert Path(p.places.data).resolve() == root / "data", start
    monkeypatch.chdir(tmp_path / "elsewhere")
    read_profile(PROFILES[0], enter=True)
    assert Path.cwd() == root / "notebooks"


def test_what_is_not_as_the_profile_says_is_shown(capsys):
    read_settings({})
    read_settings({"beta": 4, "latent_dim": 8, "settings": "grid.betas=[1, 4]"})
    assert capsys.readouterr().out.splitlines() == [
        "profile demo",
        "profile demo; model.beta = 4.0; grid.betas = (1.0, 4.0)",
    ]


def test_any_setting_is_given_as_text():
    for text, name, value in (
        ("model.steps=2000, grid.seeds=[0,1]", "grid.seeds", (0, 1)),
        ("steps=80x112: 8, 160x224: 5, beta=2", "model.steps", ((80, 112, 8), (160, 224, 5))),
        ("grid.steps=[[40, 56, 3], [80, 112, 5]]", "grid.steps", ((40, 56, 3), (80, 112, 5))),
        ('brains="7"', "cohort.brains", "7"),
        ("atlas=${A_FOLDER}/a b, plane=250", "cohort.atlas", "${A_FOLDER}/a b"),
        ("rois=[SSp, HPF],", "fields.rois", ("SSp", "HPF")),
    ):
        assert given(settings=text).flat()[name] == value


def test_a_folder_that_papermill_takes_for_a_number_arrives_as_typed(tmp_path, monkeypatch):
    shutil.copytree("params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    passed = {"2024_01": 202401, "007": 7, "1.10": 1.1, "1e3": 1000.0, "True": True}
    passed |= {name: name for name in ("[old] mice", "my mice", "other")}
    for name in passed:
        (tmp_path / name).mkdir()
        (tmp_path / "params" / f"{name}.yaml").write_text("model: {beta: 9}")
    for name, arrives in passed.items():
        assert given(brains=arrives).cohort.brains == name
        assert given(settings=f"brains={name}, beta=2").cohort.brains == name
        assert given(profile=arrives).model.beta == 9
    assert "no profile params/5.yaml" in error_of(given, profile=5)
    (tmp_path / "20240_1").mkdir()  # either may be meant
    assert "papermill's -r passes text as it is" in error_of(given, brains=202401)


def test_a_kernel_in_the_projects_root_goes_on_in_the_notebooks_folder(tmp_path, monkeypatch):
    """A profile's places are seen from there, given ones from where they were typed."""
    shutil.copytree("params", tmp_path / "notebooks" / "params")
    (tmp_path / "my lab").mkdir()
    names = {"brains": "my lab", "atlas": "/a b", "lab.brains": "$BRAIN/x", "data": "kept"}
    monkeypatch.chdir(tmp_path)
    before = given(**names)
    assert Path.cwd() == tmp_path and before.places.runs == "../runs"
    p = read_settings(names)
    assert Path.cwd() == tmp_path / "notebooks" and p == before
    assert (p.cohort.brains, p.cohort.atlas) == ("../my lab", "/a b")
    assert (p.places.data, p.lab.brains) == ("../kept", "$BRAIN/x")


# ---- names ----


@pytest.mark.promise("an unknown setting is refused with the name it was probably meant to be")
def test_what_is_no_setting_is_refused_in_one_line_with_the_nearest(written):
    near, sections = "did you mean model.beta?", "the sections are cohort, model, grid, evaluation"
    for names, told in (
        ({"betta": 3}, f"this notebook: unknown setting 'betta'; {near}"),
        ({"covariates": []}, "unknown setting 'covariates'; did you mean lab.covariates?"),
        ({"zzz": 4}, f"'zzz'; {sections}, fields, lab, places"),
        ({"model": {"beta": 3}}, "unknown setting 'model'"),
        ({"seeds": [1]}, "'seeds' may be grid.seeds or evaluation.seeds; say which"),
        ({"beta": 3, "settings": "model.beta=4"}, "model.beta is given twice"),
        ({"settings": "beta"}, "'beta' must be name=value, such as model.beta=4"),
        ({"profile": "dmeo"}, "no profile params/dmeo.yaml; params has authors, authors_fitted"),
    ):
        assert told in error_of(given, **names)
    for text, told in (
        ("model:\n  betta: 3\n", f"unknown setting 'model.betta'; {near}"),
        ("beta: 3\n", f"unknown setting 'beta'; {near}"),
        ("fields: {ROIs: [TH]}\n", "unknown setting 'fields.ROIs'; did you mean fields.rois?"),
        ("3: beta\n", "unknown setting 3"),
        ("model: 3\n", "model=3 must be"),
        ("model: {beta: many}\n", "model.beta='many' must be a valid number, such as 3.0"),
        ("- beta\n", "must map sections to settings"),
        ("", "is empty; for the defaults alone write a comment in it"),
        ("profile: mine\n", "must map sections to settings; its name is the file's"),
        ("model: {beta: 1, beta: 2}\n", "is no YAML: 'beta' is given twice"),
    ):
        message = error_of(read_profile, written(text))
        assert told in message and re.match(r"profile .*own\.yaml", message)


# ---- values ----


def test_values_are_read_as_yaml_1_2_reads_them():
    values = {
        "010": 10, "0o10": 8, "0x10": 16, "-7": -7, "1e-3": 1e-3, "1.5E2": 150.0, ".5": 0.5,
        "3.": 3.0, ".inf": np.inf, "true": True, "False": False, "~": None, "": None, "null": None,
        "'7'": "7", "[1, 2.5, a]": [1, 2.5, "a"], "a: {b: 1}": {"a": {"b": 1}},
    }  # fmt: skip
    texts = ("1:30", "2024_01", "1_000", "2024-01-01", "yes", "off", "<<")
    for text, value in (values | {text: text for text in texts}).items():
        found = read_yaml(text)
        assert found == value and type(found) is type(value), text


def test_a_value_of_a_wrong_type_or_range_is_refused_with_an_example():
    for name, value, told in (
        ("steps", 10.5, "steps=10.5 must be a whole positive number, or stages such as"),
        ("learning_rate", "1e-3", "model.learning_rate='1e-3' must be a valid number, such"),
        ("lr_cosine", 1, "model.lr_cosine=1 must be a valid boolean, such as True"),
        ("brains", 202401, "cohort.brains=202401 must be a valid string (papermill's -r passes"),
        (
            "lab.n_permutations",
            18,
            "lab.n_permutations=18 must be greater than or equal to 19, such",
        ),
        ("rois", "SSp", "fields.rois='SSp' must be a valid list, such as ('SSp', 'HPF'"),
        ("latent_dims", [2, 2.5], "grid.latent_dims[1]=2.5 must be a valid integer"),
        ("beta", -1, "model: beta=-1.0 must be finite and not negative"),
    ):
        assert told in error_of(DEMO.changed, {name: value})


# ---- the profiles ----


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.stem)
def test_every_profile_reads_and_is_complete(path):
    p = read_profile(path)
    assert p.profile == path.stem
    assert set(compared_configs(p)) == {"PCA", "VAE", "β-VAE"}
    least = {"rehearsal": 2}.get(path.stem, 3)  # what is judged has an interval over fits
    seeds = {len(STAGES["evaluated"].models(p)["β-VAE"]), len(curve(p).seeds)}
    assert min(seeds) >= least
    factor = p.cohort.shape[0] // p.grid.shape[0]
    assert tuple(factor * n for n in p.grid.shape) == p.cohort.shape
    assert len(grid(p)) == len(p.grid.betas) * len(p.grid.latent_dims) * len(p.grid.seeds)


def test_the_papers_profile_holds_the_papers_settings():
    p = read_profile("paper")
    assert (p.cohort.n_brains, p.cohort.shape) == (1723, (320, 448))
    assert p.grid.betas == tuple(range(1, 21)) and p.grid.latent_dims == tuple(range(4, 21))
    assert p.evaluation.curve_latent_dims == (*range(2, 21), 30, 50, 100)
    f = p.fields
    assert (f.n_weights, f.n_read, f.c_max, f.c_step) == (11, 832, 7.0, 0.005)


@pytest.mark.parametrize(
    ("name", "recipe"), [("paper", paper_config()), ("fast", BetaVAEConfig(steps=FAST_STAGES))]
)
def test_the_profiles_of_the_recipes_hold_their_values(name, recipe):
    p = read_profile(name)
    assert p.model == recipe == grid(p).base
