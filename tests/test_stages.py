"""The cohorts of a profile, and the command that fits its stages."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from brainvae_core import cohorts, study
from brainvae_core.models import load_run
from brainvae_core.prepare import lab_brains, lab_truth, open_atlas, prepare_cohort, truth_cohort
from brainvae_core.settings import Settings, read_profile
from brainvae_core.study import STAGES

ROOT = Path(__file__).parent.parent
# 40 simulated brains, 28 of them for training; unequal numbers of everything.
TINY = """
cohort: {{n_brains: 40, shape: [80, 112]}}
model: {{latent_dim: 3, batch_size: 4, steps: 2}}
grid: {{betas: [1, 3, 5], latent_dims: [2, 3], seeds: [0], shape: [40, 56], steps: 3}}
evaluation: {{seeds: [0, 1], curve_latent_dims: [2, 4]}}
places: {{data: {0}/data, runs: {0}/runs, device: cpu}}
"""


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """The tiny profile's file."""
    folder = tmp_path_factory.mktemp("tiny")
    path = folder / "tiny.yaml"
    path.write_text(TINY.format(folder))
    return path


@pytest.fixture(scope="module")
def p(profile):
    return read_profile(profile)


@pytest.fixture(scope="module")
def whole(p):
    return prepare_cohort(p)


def called(profile, *options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["study", str(profile), *options])
        patch.chdir(Path.cwd())  # back to where it was
        study.main()


# ---- cohorts ----


def test_the_atlas_is_drawn_or_from_a_folder_that_a_variable_names(real_data, monkeypatch):
    assert open_atlas(Settings()).name == cohorts.drawn_atlas().name
    monkeypatch.setenv("BRAINVAE_DATA", str(real_data))
    assert open_atlas(read_profile(ROOT / "notebooks/params/ccf.yaml")).shape == (320, 448)


def test_a_cohort_is_made_once_and_then_read_and_another_never_takes_its_place(tmp_path):
    p = Settings().changed({"n_brains": 20, "cohort.shape": [80, 112], "data": str(tmp_path / "d")})
    made = prepare_cohort(p)
    assert made.images.shape == (20, 80, 112)
    (kept,) = (tmp_path / "d").iterdir()
    assert kept.name.startswith("simulated-20-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohorts, "simulate", None)
        read = prepare_cohort(p)
        assert np.array_equal(read.images, made.images) and read.fingerprint == made.fingerprint
        # What does not go into a cohort makes no other.
        assert prepare_cohort(p.changed({"beta": 9.0})).fingerprint == made.fingerprint
    for change in ({"cohort.seed": 1}, {"artefact_share": 0.5}, {"n_brains": 21}):
        assert prepare_cohort(p.changed(change)).fingerprint != made.fingerprint
    assert len(list((tmp_path / "d").iterdir())) == 4


def test_the_example_is_two_groups_of_other_brains_with_a_planted_difference(p, whole):
    lab, (truth,) = lab_brains(p, whole), lab_truth(p, whole).values()
    assert lab.metadata["group"].value_counts().to_dict() == {"WT": 12, "KO": 12}
    assert np.abs(whole.images[:, None] - lab.images[None]).mean(axis=(2, 3)).min() > 1e-3
    hippocampus = whole.atlas.roi_masks(["HPF"])[0]
    assert truth[hippocampus].mean() > 10 * np.abs(truth[~hippocampus]).mean()
    # Sections of one brightness, as what is found: what the hippocampus gains is taken from all.
    assert abs(truth[whole.atlas.brain_mask].mean()) < 1e-4
    assert lab_truth(p.changed({"lab.brains": "a folder"}), whole) == {}


def test_simulated_brains_are_of_one_brightness_and_a_global_factor_is_gone(p, whole):
    planted, freeform, smooth = (truth_cohort(p, name) for name in cohorts.SIMULATORS)
    assert list(planted.factors) == [f for f in cohorts.FACTORS if f != "brightness"]
    assert planted.fingerprint == whole.resampled((40, 56)).fingerprint
    assert list(freeform.factors) == list(cohorts.FREEFORM_FACTORS) and len(freeform) == 40
    assert list(smooth.factors) == list(cohorts.SMOOTH_FACTORS) and len(smooth) == 40
    for cohort in (whole, freeform, smooth):
        inside = cohort.atlas.brain_mask
        for images in (cohort.images, cohort.clean):
            np.testing.assert_allclose(
                images[:, inside].mean(axis=1), images[0, inside].mean(), 0.01
            )
    for cohort in (planted, freeform, smooth):
        assert cohort.images.shape == (40, 40, 56) and cohort.clean.shape == cohort.images.shape


def test_the_planted_cohort_is_the_profiles_own_or_on_its_atlas(p):
    planted = truth_cohort(p, "planted")
    elsewhere = p.changed({"brains": "../a/folder/that/is/not/there"})
    with pytest.raises(FileNotFoundError):
        prepare_cohort(elsewhere.changed({"atlas": "nor this"}))
    assert truth_cohort(elsewhere, "planted").fingerprint == planted.fingerprint


def test_what_is_judged_has_the_seeds_that_its_section_names(p):
    vaes = STAGES["evaluated"].models(p)["VAE"]
    assert [(c.beta, c.seed, c.steps) for c in vaes] == [(1, 0, 2), (1, 1, 2)]
    for stage in cohorts.SIMULATORS:
        models = STAGES[stage].models(p)
        found = [(c.beta, c.seed, c.latent_dim) for c in models["β-VAE"]]
        assert found == [(3, seed, 16) for seed in (0, 1, 2)] and list(models) == ["PCA", "β-VAE"]
    grid = p.changed({"grid.seeds": (0, 1)})
    more = STAGES["curve"].models(grid.changed({"evaluation.seeds": (1, 4)}))["VAE"]
    assert {(c.latent_dim, c.seed) for c in more if c.seed == 4} == {(3, 4), (4, 4)}
    assert {c for c in more if c.seed != 4} == {*STAGES["curve"].models(grid)["VAE"]}


# ---- the command ----


def test_what_is_kept_are_whole_stages(profile, capsys):
    with pytest.raises(SystemExit, match="2"):
        called(profile, "--only", "grid", "--latent-dim", "2", "--keep")
    assert "--keep moves whole stages; give it without --latent-dim" in capsys.readouterr().err


def test_a_fit_that_is_kept_stands_among_the_runs_as_it_is_kept(tmp_path):
    """Chapters and the explorer read the runs, and have to show what comes with the project."""
    content = yaml.safe_load(TINY.format(tmp_path))
    content["places"]["results"] = str(tmp_path / "results")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content))
    called(tmp_path / "tiny.yaml", "--only", "planted", "--keep")
    (kept,) = (tmp_path / "results/tiny-planted/runs").iterdir()  # of three
    vaes = {run.name: load_run(run) for run in (tmp_path / "runs").glob("beta_vae-*")}
    assert len(vaes) == 3 and [name for name in vaes if "kept" in vaes[name].made] == [kept.name]
    one, other = (of / "weights.safetensors" for of in (kept, vaes[kept.name].folder))
    assert one.read_bytes() == other.read_bytes()


def test_the_command_counts_what_is_missing(profile, whole, capsys):
    called(profile, "--only", "grid", "curve", "--print")
    said = capsys.readouterr().out
    folder = profile.resolve().parent
    assert said.endswith(f"\ncohort in {folder}/data, models in {folder}/runs\n")
    assert "grid: PCA 2, β-VAE 6" in said and "curve: PCA 3, VAE 6, β-VAE 6" in said


@pytest.mark.parametrize(
    ("changes", "options", "told"),
    [
        ({"model": {"likelihood": "nonsense"}}, ["--only", "compared"], "nonsense"),
        ({"fields": {"truth_latent_dim": 99}}, ["--only", "planted"], "latent_dim=99"),
        ({"cohort": {"n_brains": 1}}, [], ""),
        ({"model": {"betaa": 3}}, [], "did you mean model.beta?"),
        (
            {},
            ["--only", "grid", "--latent-dim", "5"],
            "latent_dim=5 is no row of this profile; it has 2, 3, 4",
        ),
        (
            {},
            ["--only", "grid", "--latent-dim", "0"],
            "latent_dim=0 is no row of this profile; it has 2, 3, 4",
        ),
        (
            {"model": {"beta": 1e300}},
            ["--only", "compared"],
            "no fit of β-VAE succeeded; see above for why",
        ),
    ],
)
def test_what_is_wrong_ends_the_command_with_one_line(profile, tmp_path, changes, options, told):
    content = yaml.safe_load(profile.read_text())
    for section, names in changes.items():
        content[section] = content.get(section, {}) | names
    content["places"]["runs"] = str(tmp_path / "runs")
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit, match="^error: ") as error:
        called(own, *options)
    assert "\n" not in str(error.value) and told in str(error.value)
