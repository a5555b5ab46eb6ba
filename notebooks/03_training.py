# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · Training
#
# **Do the models learn, do they overfit, and what does the recipe give?**
#
# **Answer.** With {glue:text}`training_latents` latents the β-VAE explains {glue:text}`training_test_beta_vae` of what sets a test brain apart from the mean, the VAE
# {glue:text}`training_test_vae` and PCA {glue:text}`training_test_pca`. Of training brains the β-VAE explains {glue:text}`training_train_beta_vae`, the VAE
# {glue:text}`training_train_vae` and PCA {glue:text}`training_train_pca`. At 80 × 112 the 10,000 steps of the paper's recipe took {glue:text}`training_times_range` times as long as {glue:text}`training_ours_steps` of ours, which end at a
# higher held-out ELBO.

# %% tags=["parameters", "hide-input"]
profile = "full"  # params/full.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
latent_dim = None  # the profile's, as the next
beta = None
seed = None

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.cohorts import known_factors
from brainvae_core.figures.style import percent
from brainvae_core.metrics import counted_fits, linear_recovery, named, summarise
from brainvae_core.models import diagnose, fit
from brainvae_core.models.config import as_steps
from brainvae_core.prepare import prepare_cohort
from brainvae_core.record import Record, quoted
from brainvae_core.results import measured, table
from brainvae_core.study import compared_configs
from scipy.stats import t

# %%
cohort = prepare_cohort(p)
configs, where = compared_configs(p), (p.places.runs, p.places.device)
print(cohort)
fitted = {name: fit(cohort, config, *where) for name, config in configs.items()}

# %% [markdown]
# ## Do they learn?
#
# Registered brains are nearly alike, so a β-VAE can forget its input early (*posterior collapse*) and decode the mean brain whatever it sees. Beside the loss stand three numbers of the validation brains: explained variance about their own mean, the KL divergence, and the number of active latents.
#
# A fit takes {glue:text}`training_stages`. The weight β {glue:text}`training_beta_rises`, and the learning rate {glue:text}`training_rate_falls`.

# %% tags=["hide-input"]
train, test = cohort.split("train"), cohort.split("test")
n_validation, one_fit = len(cohort.split("validation")), "the first fit of each model"
for name, run in fitted.items():
    print(f"{name:6} {run.config.label:30} {diagnose(run.history, p.model.latent_dim)}")
histories = {name: run.history for name, run in fitted.items() if name != "PCA"}
pca_explained = {"PCA": fitted["PCA"].history[-1]["explained_variance"]}
figures.fig_training(histories, pca_explained).shows(
    "The first fit of the VAE and of the β-VAE, judged on validation brains while they train."
).made_from(f"Cohort {cohort.name}, {n_validation} validation brains, {one_fit}")

# %% [markdown]
# Where the images grow, explained variance drops, because finer pixels hold detail that the model has not seen. PCA's line is at the last
# size. PCA is the best linear answer to this very question: with as few latents as here, a VAE that stays below it may have learned too little.
#
# ## Do they overfit?
#
# A model overfits where it explains training brains better than brains that it never saw. Explained variance is of each brain, and averaged over brains and all fits; 0 is
# what the mean image gives.

# %% tags=["hide-input"]
scores = table(p, "reconstruction")
scores = scores[scores["model"].isin(fitted)]
n, all_fits = scores["brain"].nunique(), counted_fits(scores)
titles = {
    "explained variance": "Explained variance, test brains",
    "training less test": "Training less test brains",
}
explained = summarise(
    scores[scores["score"].isin(titles)].replace({"score": titles}), by=["score", "model"]
)
figures.fig_scores(explained, columns=2).shows(
    "A: the share of test brains' variance explained. "
    "B: how much more of training brains' (above 0: overfitting)."
).made_from(f"{n} test and as many training brains, {all_fits}")

# %% [markdown]
# The gap is {glue:text}`training_gap_vae` percentage points for the VAE, {glue:text}`training_gap_beta_vae` for the β-VAE and {glue:text}`training_gap_pca` for PCA.
# Chapter 5 asks what the paper says of it, that the VAE "overfits to the noise".
#
# ## Does the code hold the planted factors?
#
# A linear map from the code to each planted factor is fitted on training brains and judged on test brains. Acquired brains have recorded variables, such as sex or age, in place of factors.

# %% tags=["hide-input"]
factors, split = known_factors(cohort), cohort.metadata["split"]
known = {part: factors[split == part].to_numpy() for part in ("train", "test")}
codes = {
    name: [run.model.encode(part.images) for part in (train, test)] for name, run in fitted.items()
}
recovery = {
    name: linear_recovery(seen, known["train"], new, known["test"])
    for name, (seen, new) in codes.items()
}
figures.fig_recovery(np.stack([*recovery.values()]), list(recovery), list(factors)).shows(
    "The share of each factor's variance over test brains that all latents together predict."
).made_from(f"Cohort {cohort.name}, {len(test)} test brains, {one_fit}")

# %% [markdown]
# Of the {glue:text}`training_factors` factors the β-VAE's code holds {glue:text}`training_read_beta_vae` by half or more, PCA's
# {glue:text}`training_read_pca`. The β-VAE holds least of {glue:text}`training_least`. That all latents together hold a factor does not say that one latent does:
# chapter 10 asks that.
#
# ## ELBO against time, beside the paper's recipe
#
# The paper trains with Adam at 2e-4 on 64 brains a step, for 10,000 steps. We ran that {glue:text}`training_paper_fits` to its end, at 80 × 112 on the CCF slice. Ours
# trains with Muon on 16 brains a step. Seconds are of one machine with two Intel cores with AMX. The race gives the paper's optimiser, batch and start our Gaussian
# likelihood, so that one number compares them, and brains keep their own brightness.
#
# The nats are $\mathrm{ELBO}_\beta = -D - \beta R$ at β = 3 without the Gaussian's constant. They rank these fits and bound no log p(x).

# %% tags=["hide-input"]
trained = measured("training").query("beta == 3 and atlas == 'CCF slice'")
of_part = {key: of for key, of in trained.groupby(["height", "part"])}
race, grown = of_part[80, "race"], of_part[160, "race"].set_index("recipe")
far_paper = of_part[320, "race"].iloc[-1]  # stopped there
paper, ours = (race[race["recipe"] == of] for of in ("the paper's", "ours"))
n_race, n_paper = ours["seed"].nunique(), paper["seed"].nunique()
by_length = ours.assign(steps=ours["steps"].astype(int)).groupby("steps")
by_steps = by_length["seconds_by_steps"].first()
tenths = paper[paper["step"] % (paper["step"].max() // 10) == 0].groupby("step")
ends, curve = (
    of.agg(seconds=("seconds", "median"), value=("elbo", "mean"), low=("elbo", "sem"))
    for of in (by_length, tenths)
)
for of, n_fits in ((ends, n_race), (curve, n_paper)):
    half = of["low"] * t.ppf(0.975, n_fits - 1)
    of[["low", "high"]] = np.transpose([of["value"] - half, of["value"] + half])
timed = {f"the paper's recipe, {n_paper} seeds": curve, f"ours, {n_race} seeds": ends}
timed = pd.concat([of.reset_index().assign(model=name) for name, of in timed.items()])
labels = {"ylabels": ["ELBO$_β$ without its constant (nats per image)"], "log_x": True}
figures.fig_curves(timed, "seconds", "Seconds, logarithmic", **labels).shows(
    f"Held-out ELBO at β = 3 against time: the paper's recipe while it trains, ours after {', '.join(map(str, ends.index))} steps."
).made_from(
    f"CCF slice at 80 × 112, 172 validation brains; {n_paper} fits of the paper's recipe, {n_race} of ours of each length"
)

# %% [markdown]
# The paper's recipe ends at {glue:text}`training_paper_elbo` nats on average, after {glue:text}`training_paper_seconds` s (10,000 times a timed step); its fits first pass that value after {glue:text}`training_paper_first` steps. Ours comes to
# {glue:text}`training_ours_elbo` nats in {glue:text}`training_ours_steps` steps, in {glue:text}`training_ours_seconds` s of whole fits or {glue:text}`training_ours_by_steps` s by timed steps: the
# paper's takes {glue:text}`training_times` or {glue:text}`training_times_by_steps` times as long. In {glue:text}`training_longest` steps, as many as the book's fits take at this size, ours comes to
# {glue:text}`training_longest_elbo` nats in {glue:text}`training_longest_seconds` s. After {glue:text}`training_fewest` steps
# {glue:text}`training_fewest_reach` of {glue:text}`training_fewest_n` fits ends above the paper's.
#
# At 160 × 224 one fit of the paper's recipe ends at {glue:text}`training_mid_paper` nats, before its plateau, after {glue:text}`training_mid_paper_seconds` s. Ours, grown through
# {glue:text}`training_mid_steps`, comes to {glue:text}`training_mid_ours` in {glue:text}`training_mid_seconds` s; {glue:text}`training_mid_reach` of
# {glue:text}`training_mid_n` fits pass the paper's.
#
# At 320 × 448 one fit of the paper's recipe stands at {glue:text}`training_far_paper` nats after {glue:text}`training_far_steps` of its 10,000 steps, which take {glue:text}`training_far_seconds` s
# by a timed step. Ours, {glue:text}`training_far_n` fits, end at {glue:text}`training_far_ours`, in {glue:text}`training_far_ours_seconds` s of one core beside other work. Where the paper's would end there
# is unmeasured.
#
# ## What each ingredient gives
#
# Each ingredient is taken away, one at a time, in fits of {glue:text}`training_ours_steps` steps at 80 × 112. Seeds are paired: the difference is to the fit of the same seed with everything in.

# %% tags=["hide-input"]
without, growth = of_part[80, "ingredients"], of_part[160, "ingredients"]
by_seed = without.pivot(index="seed", columns="recipe", values="elbo")
lost = by_seed.sub(by_seed["everything in"], axis=0).drop(columns="everything in")
lost = lost[lost.mean().sort_values().index]
half = lost.sem() * t.ppf(0.975, len(lost) - 1)
given = pd.DataFrame({"value": lost.mean(), "low": lost.mean() - half, "high": lost.mean() + half})
given = given.rename_axis("model").reset_index().assign(score="ELBO$_β$ less the recipe's (nats)")
figures.fig_scores(given, references=pd.DataFrame({"model": ["the recipe"], "value": [0.0]})).shows(
    f"What is lost (below 0) or won without each ingredient, after {without['steps'].iloc[0]} steps."
).made_from(
    f"CCF slice at 80 × 112, 172 validation brains, {len(lost)} fits of each; Student's t over seeds"
)

# %% [markdown]
# Muon gives most: with Adam in its place, the better of two settings, fits end {glue:text}`training_lost_muon` nats lower, without the cosine {glue:text}`training_lost_cosine` and without the KL warm-up
# {glue:text}`training_lost_kl`. After as many steps float32 ends {glue:text}`training_won_float32` and Muon on whole matrices {glue:text}`training_won_whole` nats
# higher, but a step of either takes longer (`benchmarks/RESULTS.md`): bfloat16 and blocks of rows are there for time. Of the learning-rate warm-up and the data-dependent start nothing shows
# beyond the spread of seeds. The fewest active latents of any of these fits are {glue:text}`training_fewest_active` of 8. Growth was asked at 160 × 224: as many steps without it, each at the full
# size, end {glue:text}`training_lost_growth` nats higher. So it saves time and costs nats. **Unmeasured:** everything on a GPU.

# %% tags=["hide-input"]
beta_vae, n_steps = fitted["β-VAE"], paper["step"].max()
paper_ends = paper.loc[paper["step"] == n_steps, ["elbo", "seconds"]].mean()
reach = by_length["elbo"].agg(lambda elbo: (elbo >= paper_ends["elbo"]).sum())
won, longest, fewest = reach.index[reach == n_race][0], ends.index[-1], ends.index[0]
first = paper.loc[paper["elbo"] >= paper_ends["elbo"]].groupby("seed")["step"].min()
times = [paper_ends["seconds"] / of[won] for of in (ends["seconds"], by_steps)]
adam = lost.filter(like="in place of Muon").mean()
mid_paper, mid_ours = grown.loc["the paper's"].iloc[-1], grown.loc[["ours"]]
by_growth = growth.pivot(index="seed", columns="recipe", values="elbo").diff(axis=1).iloc[:, -1]
short = {"PCA": "pca", "VAE": "vae", "β-VAE": "beta_vae"}
stages = p.model.steps if isinstance(p.model.steps, tuple) else [(*p.cohort.shape, p.model.steps)]
of_ccf = measured("headline").dropna(subset="steps")
far_ours = of_ccf[of_ccf["beta"] == 3]
on_ccf = of_ccf.groupby("beta")["explained"].mean()
grew = {
    name: ", ".join(f"{n:,} steps at {h} × {w}" for h, w, n in as_steps(of["steps"].iloc[0]))
    for name, of in {"mid": mid_ours, "ccf": of_ccf}.items()
}
values = explained.pivot(index="model", columns="score", values="value")[[*titles.values()]]
of_test, gaps = values.to_dict("series").values()
read_off = {name: int((r >= 0.5).sum()) for name, r in recovery.items()}
rises = f"rises from 0 over the first {percent(p.model.kl_warmup, 0)} of the first stage"
falls = "falls to 0 at the end of each" if p.model.lr_cosine else "does not fall"
quoted(
    training_latents=p.model.latent_dim,
    training_n_test=n,
    **{f"training_test_{s}": percent(of_test[k], 0) for k, s in short.items()},
    **{f"training_train_{s}": percent(of_test[k] + gaps[k], 0) for k, s in short.items()},
    **{f"training_gap_{s}": f"{100 * gaps[k]:.1f}" for k, s in short.items()},
    training_fits=all_fits,
    training_read_beta_vae=read_off["β-VAE"],
    training_read_pca=read_off["PCA"],
    training_factors=factors.shape[1],
    training_least=factors.columns[recovery["β-VAE"].argmin()].replace("_", " "),
    training_stages=", then ".join(f"{n:,} steps at {h} × {w}" for h, w, n in stages),
    training_beta_rises=rises if p.model.kl_warmup else "stays the same",
    training_rate_falls=falls,
    training_paper_fits="once" if n_paper == 1 else "twice" if n_paper == 2 else f"{n_paper} times",
    training_paper_first=f"{first.min():,} to {first.max():,}",
    training_paper_elbo=f"{paper_ends['elbo']:.0f}",
    training_paper_seconds=f"{paper_ends['seconds']:.0f}",
    training_ours_steps=f"{won:,}",
    training_ours_elbo=f"{ends['value'][won]:.0f}",
    training_ours_seconds=f"{ends['seconds'][won]:.0f}",
    training_ours_by_steps=f"{by_steps[won]:.0f}",
    training_times=f"{times[0]:.1f}",
    training_times_by_steps=f"{times[1]:.1f}",
    training_times_range=" to ".join(f"{of:.0f}" for of in sorted(times)),
    training_longest=f"{longest:,}",
    training_longest_elbo=f"{ends['value'][longest]:.0f}",
    training_longest_seconds=f"{ends['seconds'][longest]:.0f}",
    training_fewest=f"{fewest:,}",
    training_fewest_reach=reach[fewest],
    training_fewest_n=n_race,
    training_mid_paper=f"{mid_paper['elbo']:.0f}",
    training_mid_paper_seconds=f"{mid_paper['seconds']:,.0f}",
    **{f"training_{name}_steps": text for name, text in grew.items()},
    training_mid_ours=f"{mid_ours['elbo'].mean():.0f}",
    training_mid_seconds=f"{mid_ours['seconds'].median():.0f}",
    training_mid_reach=int((mid_ours["elbo"] >= mid_paper["elbo"]).sum()),
    training_mid_n=len(mid_ours),
    training_far_paper=f"{far_paper['elbo']:,.0f}",
    training_far_steps=f"{far_paper['step']:,}",
    training_far_seconds=f"{far_paper['seconds']:,.0f}",
    training_far_n=len(far_ours),
    training_far_ours=f"{far_ours['elbo'].mean():.0f}",
    training_far_ours_seconds=" to ".join(
        f"{far_ours['seconds'].agg(of):.0f}" for of in ("min", "max")
    ),
    training_lost_growth=f"{by_growth.mean():.0f} ± {by_growth.sem() * t.ppf(0.975, len(by_growth) - 1):.0f}",
    training_lost_muon=f"{-adam.max():.0f}",
    training_lost_cosine=f"{-lost['without the cosine'].mean():.0f}",
    training_lost_kl=f"{-lost['without the KL warm-up'].mean():.0f}",
    training_won_float32=f"{lost['without bfloat16'].mean():.0f}",
    training_won_whole=f"{lost['Muon on whole matrices'].mean():.0f}",
    training_fewest_active=f"{without['active'].min():.0f}",
    training_ccf_lost=f"{(of_ccf['ventricle_size'] < 0.5).sum()} of {len(of_ccf)}",
    training_ccf_vae=percent(on_ccf[1]),
    training_ccf_beta_vae=percent(on_ccf[3]),
)
Record(
    named(explained, "{score}, {model}")
    | {
        "steps of the fit": beta_vae.config.n_steps,
        "batch": p.model.batch_size,
        "parameters of the β-VAE": beta_vae.model.n_parameters,
    }
)

# %% tags=["hide-input"]
active = int(beta_vae.history[-1]["active_latents"])
pd.Series(
    {
        "PCA explains at most 80 % (the cohort is not made easy)": of_test["PCA"] <= 0.8,
        "β-VAE explains at least 75 % of what PCA does": of_test["β-VAE"] >= 0.75 * of_test["PCA"],
        "at least 6 of its latents are active": active >= 6,
        "at least 4 planted factors have R² ≥ 0.5": read_off["β-VAE"] >= 4,
    }
).to_frame("true")

# %% [markdown]
# **How sure.** {glue:text}`training_n_test` test brains and {glue:text}`training_fits`: intervals are over brains and fits. Learning curves and factors are of the first fit of each model alone. Five fits of each on the CCF slice, of
# {glue:text}`training_ccf_steps`, explain
# {glue:text}`training_ccf_vae` (VAE) and {glue:text}`training_ccf_beta_vae` (β-VAE) of the validation brains together; of these fits {glue:text}`training_ccf_lost` lose the ventricle (R² below a half).
# The race is run to its end at a sixteenth and a quarter of the paper's pixels only; its own size and a GPU could change it.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
