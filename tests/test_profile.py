"""One profile names a whole run: what wins, what is refused, what is kept."""

import functools
import shutil
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest

from brainvae_core import cohorts
from brainvae_core.models import (
    BASELINES,
    BetaVAEConfig,
    PCAConfig,
    fast_config,
    paper_config,
    run_name,
    save_run,
)
from brainvae_core.prepare import new_section, open_atlas, prepare_cohort
from brainvae_core.profile import (
    Parameters,
    compared_configs,
    configs_at,
    curve,
    curve_models,
    evaluated_configs,
    evaluated_models,
    evaluation_cohort,
    grid_cohort,
    main,
    models_at,
    read_parameters,
    read_profile,
    study,
)

PROFILES = sorted((Path(__file__).parents[1] / "notebooks" / "params").glob("*.yaml"))


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def tiny(tmp_path):
    folder = str(tmp_path / "data")
    return Parameters(n_brains=20, height=80, width=112, batch_size=4, data=folder)


# ---- which value wins ----


def test_a_notebook_takes_defaults_then_yaml_then_overrides(written):
    cell = {"beta": 3.0, "latent_dim": 8, "steps": 1100}
    yaml = {"latent_dim": 5, "steps": 200}
    p = read_parameters({**cell, **yaml, "steps": 7})
    assert (p.beta, p.latent_dim, p.steps) == (3.0, 5, 7)
    assert p.n_brains == Parameters().n_brains


def test_a_profile_wins_over_the_defaults_and_says_nothing_of_the_rest(written):
    p = read_profile(written("profile: own\nbeta: 4\nrois: [TH, HPF]\n"))
    assert p == Parameters(profile="own", beta=4.0, rois=("TH", "HPF"))


def test_a_demo_that_is_told_nothing_is_the_defaults():
    demo = next(p for p in PROFILES if p.stem == "demo")
    assert read_profile(demo) == Parameters() == read_parameters({})


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.stem)
def test_every_profile_reads_and_names_itself(path):
    p = read_profile(path)
    assert p.profile == path.stem
    assert set(compared_configs(p)) == {"PCA", "VAE", "β-VAE"}
    assert len(evaluated_configs(p)["β-VAE"]) == len(p.eval_seeds) >= 2
    for height, width in ((p.grid_height, p.grid_width), (p.eval_height, p.eval_width)):
        assert (height * (p.height // height), width * (p.height // height)) == (p.height, p.width)
    assert len(study(p)) == len(p.grid_betas) * len(p.grid_latent_dims) * len(p.grid_seeds)


@pytest.mark.parametrize(
    "path", [p for p in PROFILES if p.stem != "rehearsal"], ids=lambda p: p.stem
)
def test_what_is_judged_is_fitted_with_three_seeds(path):
    p = read_profile(path)
    assert len(p.eval_seeds) >= 3 and len(curve(p).seeds) >= 3


def test_the_papers_profile_holds_the_papers_settings():
    p = read_profile(next(p for p in PROFILES if p.stem == "paper"))
    assert (p.n_brains, p.height, p.width) == (1723, 320, 448)
    assert (p.steps, p.batch_size, p.learning_rate) == (10_000, 64, 2e-4)
    assert p.grid_betas == tuple(range(1, 21)) and p.grid_latent_dims == tuple(range(4, 21))
    assert p.curve_latent_dims == (*range(2, 21), 30, 50, 100)
    assert (p.n_weights, p.n_read, p.c_max, p.c_step) == (11, 832, 7.0, 0.005)


@pytest.mark.parametrize(("name", "recipe"), [("paper", paper_config), ("fast", fast_config)])
def test_the_profiles_of_the_recipes_hold_their_values(name, recipe):
    p = read_profile(next(p for p in PROFILES if p.stem == name))
    assert p.model_config() == recipe()
    assert study(p).base == p.model_config()


def test_profiles_are_there():
    assert {p.stem for p in PROFILES} >= {"demo", "paper", "ccf"}


# ---- types ----


def test_lists_become_tuples_and_whole_numbers_floats():
    p = Parameters(beta=4, grid_betas=[1, 2.5], grid_latent_dims=[2, 3], rois=["TH"])
    assert isinstance(p.beta, float)
    assert p.grid_betas == (1.0, 2.5) and all(type(b) is float for b in p.grid_betas)
    assert p.grid_latent_dims == (2, 3) and p.rois == ("TH",)
    assert isinstance(hash(p), int)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 10.5}, "steps=10.5 must be a whole positive number, or stages such as"),
        ({"eval_steps": "many"}, "eval_steps='many' must be a whole positive number"),
        ({"grid_steps": True}, "grid_steps=True must be a whole positive number"),
        ({"learning_rate": "1e-3"}, "learning_rate='1e-3' must be of type float, such as 0.004"),
        ({"lr_cosine": 1}, "lr_cosine=1 must be of type bool"),
        ({"atlas": None}, "atlas=None must be of type str, such as 'drawn'"),
        ({"rois": "SSp"}, "rois='SSp' must be of type tuple"),
        ({"rois": [1]}, "an entry of rois=1 must be of type str, such as 'SSp'"),
        ({"grid_betas": 3}, "grid_betas=3 must be of type tuple"),
        ({"grid_betas": [1, "b"]}, "an entry of grid_betas='b' must be of type float"),
        ({"grid_latent_dims": [2, 2.5]}, "an entry of grid_latent_dims=2.5 must be of type int"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_with_an_example(change, message):
    with pytest.raises(ValueError, match=message) as error:
        Parameters(**change)
    assert "\n" not in str(error.value)


def test_parameters_are_frozen_and_printed_one_a_line():
    p = Parameters(beta=5)
    with pytest.raises(FrozenInstanceError):
        p.beta = 1.0
    lines = str(p).splitlines()
    assert len(lines) == len(fields(p))
    assert any(line.split() == ["beta", "5.0"] for line in lines)


# ---- names ----


def test_an_unknown_name_in_a_notebook_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="this notebook .*'latent_dims'; did you mean latent_dim?"):
        read_parameters({"latent_dims": 4})


def test_a_name_near_to_nothing_is_refused_with_all_there_are(written):
    with pytest.raises(ValueError, match="'zzz'; known are profile, brains, .*, device") as error:
        read_profile(written("zzz: 4\n"))
    assert "own.yaml" in str(error.value)


def test_a_notebooks_own_names_are_no_parameters():
    def get_ipython():
        pass

    namespace = {
        "__name__": "__main__",
        "_dh": [],
        "_i1": "beta = 4",
        "In": ["", "beta = 4"],
        "Out": {},
        "exit": object(),
        "quit": object(),
        "open": open,
        "get_ipython": functools.partial(get_ipython),
        "np": np,
        "read_parameters": read_parameters,
        "Path": Path,
        "beta": 4,
    }
    assert read_parameters(namespace) == Parameters(beta=4.0)


# ---- profiles that cannot be read ----


def test_a_missing_profile_is_told_with_those_beside_it():
    there = r"no profile .*dmo\.yaml; .* has ccf, demo, fast, paper"
    with pytest.raises(FileNotFoundError, match=there):
        read_profile(PROFILES[0].with_name("dmo.yaml"))


def test_a_missing_profile_in_an_empty_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="has none"):
        read_profile(tmp_path / "demo.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must map parameter names to values"),
        ("- beta\n- 3\n", "must map parameter names to values"),
        ("beta: [1, 2\nsteps: 3\n", "is no YAML: .*line 2"),
        ("3: beta\n", "unknown parameter 3"),
    ],
)
def test_a_file_that_is_no_profile_is_told_in_one_line(written, text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_profile(written(text))
    assert "own.yaml" in str(error.value) and "\n" not in str(error.value)


# ---- places ----


def test_an_environment_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("BRAINVAE_NOWHERE", raising=False)
    p = Parameters(atlas="${BRAINVAE_NOWHERE}/atlas")
    with pytest.raises(ValueError, match="BRAINVAE_NOWHERE}/atlas names an environment variable"):
        open_atlas(p)


def test_an_environment_variable_leads_to_the_real_atlas(real_data, monkeypatch):
    monkeypatch.setenv("BRAINVAE_DATA", str(real_data))
    ccf = read_profile(next(p for p in PROFILES if p.stem == "ccf"))
    assert open_atlas(ccf).shape == (320, 448)


def test_the_drawn_atlas_needs_no_files():
    assert open_atlas(Parameters()).name == cohorts.drawn_atlas().name


# ---- the cohort ----


def test_a_cohort_is_made_once_and_then_read(tiny, tmp_path, monkeypatch):
    made = prepare_cohort(tiny)
    assert made.images.shape == (20, 80, 112)
    (kept,) = (tmp_path / "data").iterdir()
    assert kept.name.startswith("simulated-20-") and kept.suffix == ".zarr"
    monkeypatch.setattr(cohorts, "simulate", None)
    read = prepare_cohort(tiny)
    assert np.array_equal(read.images, made.images) and read.fingerprint == made.fingerprint
    # What does not go into a cohort makes no other.
    assert prepare_cohort(replace(tiny, beta=9.0, seed=4)).fingerprint == made.fingerprint


def test_another_cohort_never_takes_its_place(tiny, tmp_path):
    first = prepare_cohort(tiny)
    for change in ({"cohort_seed": 1}, {"artefact_share": 0.5}, {"n_brains": 21}):
        assert prepare_cohort(replace(tiny, **change)).fingerprint != first.fingerprint
    assert len(list((tmp_path / "data").iterdir())) == 4


def test_a_cohort_that_another_process_made_meanwhile_is_read(tiny, monkeypatch):
    save = cohorts.Cohort.save
    monkeypatch.setattr(
        cohorts.Cohort, "save", lambda self, path: save(self, path) and save(self, path)
    )
    assert len(prepare_cohort(tiny)) == 20


def test_a_cohort_that_cannot_be_kept_is_no_silent_failure(tiny, monkeypatch):
    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(cohorts.Cohort, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        prepare_cohort(tiny)


def test_a_new_brain_is_on_the_grid_and_not_of_the_cohort(tiny):
    cohort = prepare_cohort(tiny)
    section = new_section(tiny, cohort)
    assert section.shape == (80, 112) and section.dtype == np.float32
    assert section.min() >= 0 and section.max() <= 1
    assert np.abs(cohort.images - section).mean(axis=(1, 2)).min() > 1e-3


# ---- the models ----


def test_a_models_configuration_is_the_profiles():
    p = Parameters(latent_dim=5, beta=4, likelihood="bernoulli", steps=9, seed=2)
    config = p.model_config()
    shared = {f.name for f in fields(BetaVAEConfig)} & {f.name for f in fields(Parameters)}
    assert {"latent_dim", "beta", "likelihood", "kl_warmup", "initialisation"} <= shared
    assert all(getattr(config, name) == getattr(p, name) for name in shared)
    assert p.model_config(beta=1).beta == 1
    assert replace(Parameters().model_config(), steps=1500, validate_every=250) == BetaVAEConfig()


def test_the_three_models_of_the_paper_share_l():
    configs = compared_configs(Parameters(latent_dim=5, beta=4))
    assert configs["PCA"] == PCAConfig(5)
    assert {c.latent_dim for c in configs.values()} == {5}
    assert (configs["VAE"].beta, configs["β-VAE"].beta) == (1, 4)
    assert replace(configs["VAE"], beta=4) == configs["β-VAE"]


def test_the_study_is_the_profiles_grid_at_its_own_steps():
    p = Parameters(grid_betas=[1, 5], grid_latent_dims=[2, 3, 8], grid_steps=77)
    configs = study(p).configs
    assert p.betas == (1, 3, 5) and p.latent_dims == (2, 3, 8)
    assert len(configs) == 3 + 3 * 3 * len(p.grid_seeds)
    assert Parameters(beta=4.0, latent_dim=6, grid_latent_dims=[2]).latent_dims == (2, 6)
    assert {c.steps for c in configs if c.kind == "beta_vae"} == {77}


def test_the_curves_models_are_rows_of_the_grid_or_rows_of_their_own():
    p = Parameters(beta=4, grid_betas=[1, 3], grid_latent_dims=[2, 8], curve_latent_dims=[2, 30])
    assert p.rows == (2, 8, 30)
    assert curve(p).betas == (1, 4) and curve(p).latent_dims == (2, 8, 30)
    assert models_at(p, 2) == study(p).shard(2) and models_at(p, 30) == curve(p).shard(30)
    assert {*curve(p).shard(2).configs} <= {*configs_at(p, 2)}
    assert configs_at(p, 30) == models_at(p, 30).configs
    few = replace(p, grid_seeds=(5,), eval_seeds=(0, 1, 2))
    assert curve(few).seeds == (5, 0, 1, 2) and models_at(few, 2).seeds == (5,)
    assert {*configs_at(few, 2)} == {*models_at(few, 2).configs, *curve(few).shard(2).configs}
    with pytest.raises(ValueError, match="latent_dim=5 is no row of this profile; it has 2, 8, 30"):
        models_at(p, 5)


def test_the_curves_runs_come_by_model_and_latents_and_a_failed_fit_is_a_gap(tiny, tmp_path):
    runs = str(tmp_path / "runs")
    p = replace(tiny, runs=runs, device="cpu", latent_dim=2, grid_steps=2, grid_seeds=(0, 1))
    p = replace(p, curve_latent_dims=(2, 3), eval_seeds=(0, 1), batch_size=4)
    cohort = grid_cohort(p, prepare_cohort(p))
    found = curve_models(p, cohort)
    assert {(label, n): len(f) for label, by in found.items() for n, f in by.items()} == {
        (label, n): 1 if label == "PCA" else 2 for label in ("PCA", "VAE", "β-VAE") for n in (2, 3)
    }
    assert {(r.config.beta, r.config.latent_dim) for r in found["β-VAE"][3]} == {(3.0, 3)}
    plain = curve_models(replace(p, beta=1.0), cohort)
    assert plain["β-VAE"] is plain["VAE"] and len(plain["VAE"][2]) == 2
    vaes = [c for c in curve(p).configs if c.kind == "beta_vae" and c.beta == 1]
    for config in vaes:
        folder = Path(runs) / run_name(config, cohort.fingerprint)
        shutil.rmtree(folder)
        save_run(folder, config, cohort.fingerprint, cohort.name, None, [], "not finite")
        if config.latent_dim == 2 and config.seed == 1:
            assert list(curve_models(p, cohort)["VAE"]) == [3]
    with pytest.raises(ValueError, match="no VAE of Figs 2C and 2D could be fitted"):
        curve_models(p, cohort)


def test_the_evaluation_has_every_baseline_and_a_vae_a_seed():
    p = Parameters(latent_dim=5, beta=4, eval_seeds=[3, 7], eval_steps=9)
    configs = evaluated_configs(p)
    assert {c.kind for of_model in configs.values() for c in of_model} == {"beta_vae", *BASELINES}
    for name, beta in (("VAE", 1), ("β-VAE", 4)):
        assert [(c.beta, c.seed, c.steps) for c in configs[name]] == [
            (beta, seed, 9) for seed in (3, 7)
        ]
    assert {c.latent_dim for c in (*configs["PCA"], *configs["NMF"], *configs["VAE"])} == {5}


def test_the_evaluations_models_come_by_name_and_one_that_failed_is_left_out(tiny, tmp_path):
    runs = str(tmp_path / "runs")
    p = replace(tiny, runs=runs, device="cpu", latent_dim=2, eval_steps=2, eval_seeds=(0, 1))
    p = replace(p, eval_height=40, eval_width=56)
    cohort = evaluation_cohort(p, prepare_cohort(p))
    models = evaluated_models(p, cohort)
    assert {name: len(fits) for name, fits in models.items()} == {
        name: 2 if "VAE" in name else 1 for name in evaluated_configs(p)
    }
    assert models["VAE"][0].decode(np.zeros((1, 2), np.float32)).shape == (1, 40, 56)
    first, second = evaluated_configs(p)["VAE"]
    for config, left in ((first, 1), (second, 0)):
        folder = Path(runs) / run_name(config, cohort.fingerprint)
        shutil.rmtree(folder)
        save_run(folder, config, cohort.fingerprint, cohort.name, None, [], "not finite")
        if left:
            assert len(evaluated_models(p, cohort)["VAE"]) == left
    with pytest.raises(ValueError, match="no fit of VAE succeeded"):
        evaluated_models(p, cohort)


# ---- ahead of the notebooks ----


def test_a_whole_profile_can_be_made_ahead(written, tmp_path, monkeypatch, capsys):
    text = f"""
profile: own
n_brains: 20
height: 40
width: 56
latent_dim: 2
steps: 2
batch_size: 4
grid_betas: [2]
grid_latent_dims: [2]
grid_seeds: [4, 5]
grid_height: 20
grid_width: 28
grid_steps: 2
eval_height: 20
eval_width: 28
eval_steps: 3
eval_seeds: [4, 5]
curve_latent_dims: [2, 4]
data: {tmp_path / "data"}
runs: {tmp_path / "runs"}
device: cpu
"""
    monkeypatch.setattr(sys, "argv", ["profile", str(written(text))])
    main()
    assert "20 brains" in capsys.readouterr().out
    labels = sorted(p.name.rsplit("-", 1)[0] for p in (tmp_path / "runs").glob("[!.]*"))
    compared = ["beta_vae-L2-beta1-seed0", "beta_vae-L2-beta3-seed0"]
    grid = [f"beta_vae-L2-beta{b}-seed{s}" for b in (1, 2, 3) for s in (4, 5)]
    curve_alone = ["pca-L4", *(f"beta_vae-L4-beta{b}-seed{s}" for b in (1, 3) for s in (4, 5))]
    # Of the grid's size here, so that they share its PCA.
    evaluated = ["ppca-L2", "factor_analysis-L2", "nmf-L2", "nearest_brain", "mean_image"]
    evaluated += [f"beta_vae-L2-beta{b}-seed{s}" for b in (1, 3) for s in (4, 5)]
    # The other objectives; the second simulator, and two other shares with artefacts.
    interpreted = [
        f"{o}_vae-L2-beta3-seed{s}"
        for o in ("capacity", "total_correlation", "mmd")
        for s in (4, 5)
    ]
    interpreted += 3 * ["pca-L2", *(f"beta_vae-L2-beta3-seed{s}" for s in (4, 5))]
    wanted = ["pca-L2", *compared, "pca-L2", *grid, *curve_alone, *evaluated, *interpreted]
    assert labels == sorted(wanted)
    monkeypatch.setattr(BetaVAEConfig, "fit_together", None)
    main()


def test_a_profile_can_be_made_in_parts(written, tmp_path, monkeypatch, capsys):
    text = f"""
profile: own
n_brains: 20
height: 40
width: 56
latent_dim: 3
steps: 2
batch_size: 4
grid_betas: [1, 3]
grid_latent_dims: [2]
grid_seeds: [0]
grid_height: 20
grid_width: 28
grid_steps: 2
eval_height: 20
eval_width: 28
eval_steps: 3
eval_seeds: [0]
curve_latent_dims: [2, 4]
data: {tmp_path / "data"}
runs: {tmp_path / "runs"}
device: cpu
"""
    profile = str(written(text))

    def made(*options):
        monkeypatch.setattr(sys, "argv", ["profile", profile, *options])
        main()
        folder = tmp_path / "runs"
        return len(list(folder.glob("[!.]*"))), capsys.readouterr().out

    assert made("--only", "cohort")[0] == 0
    found, said = made("--only", "study")
    assert found == 0
    assert "2 L (2, 3) × 2 β (1, 3) × 1 seed (0) = 4 β-VAEs, and 2 PCAs" in said
    assert "3 L (2, 3, 4) × 2 β (1, 3) × 1 seed (0) = 6 β-VAEs, and 3 PCAs" in said
    assert "9 missing" in said
    assert made("--only", "grid", "--latent-dim", "3")[0] == 3
    said = made("--only", "study")[1]
    assert "3 fitted" in said and "6 missing" in said
    assert made("--only", "grid", "--latent-dim", "4")[0] == 6
    assert made("--only", "compared")[0] == 9
    assert made("--only", "evaluated")[0] == 16
    assert made("--only", "interpreted")[0] == 27  # with what it reads of the grid
    assert made()[0] == 28
    with pytest.raises(SystemExit, match="latent_dim=5 is no row of this profile; it has 2, 3, 4"):
        made("--only", "grid", "--latent-dim", "5")


@pytest.mark.parametrize("text", ["betaa: 3\n", "n_brains: 1\n", "beta: [1\n"])
def test_an_error_ahead_is_one_line_without_a_traceback(written, monkeypatch, text):
    monkeypatch.setattr(sys, "argv", ["profile", str(written(text))])
    with pytest.raises(SystemExit, match="^error: ") as error:
        main()
    assert "\n" not in str(error.value)


def test_a_profile_that_is_not_there_ends_with_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["profile", "no.yaml"])
    with pytest.raises(SystemExit, match="error: no profile no.yaml"):
        main()
