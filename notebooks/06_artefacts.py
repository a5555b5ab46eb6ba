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
# # 6 · Artefacts and rare anatomy
#
# **Does the β-VAE remove artefacts that PCA and the VAE reproduce, and what else does it remove?**
#
# **Answer.** With {glue:text}`artefact_l` latents the β-VAE reproduces {glue:text}`artefact_leak_beta` of a leak, the VAE {glue:text}`artefact_leak_vae` and PCA
# {glue:text}`artefact_leak_pca`; PCA with {glue:text}`artefact_wide` components reproduces {glue:text}`artefact_leak_wide`. Does the β-VAE reproduce less than PCA with as
# many latents? {glue:text}`artefact_says_pca`. Less than the VAE? {glue:text}`artefact_says_vae`. Anatomy is lost too: of ventricles one standard
# deviation wider {quoted}`06_artefacts: change that comes back, ventricles wider by 1 SD, β-VAE` of the change is reproduced, of five {glue:text}`artefact_ventricles_beta`.

# %% tags=["parameters", "hide-input"]
profile = "full"  # params/full.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
artefact_strengths = None  # the profile's, as the next
n_graded = None

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
from itertools import product

import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.claims import Claims
from brainvae_core.cohorts import ARTEFACTS, clean_part, corrupted_brains, displaced
from brainvae_core.metrics import counted_fits, named, summarise
from brainvae_core.prepare import prepare_cohort
from brainvae_core.record import Record, quoted
from brainvae_core.results import measured, table
from brainvae_core.study import fitted

# %% [markdown]
# ## Fig. 2B: three sections
#
# The test brain with the strongest artefact of each kind: a leak from the other channel, a breakage, a scanning grid. The cohort is simulated, so the section
# without its artefact is known. Red or blue inside an outline at the right is artefact that the model reproduced. Here the β-VAE rebuilds the strongest leak nearly whole and
# the VAE does not; averages follow.

# %% tags=["hide-input"]
cohort, n = prepare_cohort(p), p.model.latent_dim
models = {of["model"]: run.model for of, run in fitted(p, "pictured", cohort)}
corrupted = corrupted_brains(cohort)
about = corrupted.metadata.reset_index(drop=True)
ranked = about.sort_values("artefact_strength", ascending=False).groupby("artefact", sort=False)
source = f"Cohort {cohort.name}, L = {n} unless named, the first fit of each model"

# %% tags=["hide-input"]
kinds = [kind for kind in ARTEFACTS if kind in ranked.groups]
strongest = [ranked.groups[kind][0] for kind in kinds]
figures.fig_2b(
    corrupted.clean[strongest],
    corrupted.images[strongest],
    {name: model.reconstruct(corrupted.images[strongest]) for name, model in models.items()},
    kinds,
    cohort.atlas.pixel_um,
    corrupted.artefact_masks[strongest],
).shows("The test brain with the strongest artefact of each kind.").made_from(source)

# %% [markdown]
# ## Fig. S1: three more

# %% tags=["hide-input"]
second = [ranked.groups[kind][:2][-1] for kind in kinds]
figures.fig_s1(
    corrupted.clean[second],
    corrupted.images[second],
    {name: model.reconstruct(corrupted.images[second]) for name, model in models.items()},
    kinds,
    cohort.atlas.pixel_um,
    corrupted.artefact_masks[second],
).shows("The test brain with the second strongest of each kind.").made_from(source)

# %% [markdown]
# Three sections decide nothing. So the same artefacts are planted, at four strengths, in clean test brains.
#
# ## How much is reproduced?
#
# After the damage each section is brought back to its own brightness, as an acquired one is. "Reproduced" is the share of the artefact in the reconstruction, less
# the model's error without the artefact. Of a grid only its lines count, not how bright the brain between them is. "Brain kept" is explained variance of the brain
# around the artefact: 1 is perfect, 0 no better than the mean image. With a strong grid
# models with few latents lose it, because the brain between the lines is brighter than the brains that they know.

# %%
removal = table(p, "removal")

# %% tags=["hide-input"]
n_brains, fits = removal["brain"].nunique(), counted_fits(removal)
counted = f"{n_brains} clean test brains, {fits} at the paper's size"
shares = removal[
    (removal["score"] != "explained") & ~removal["model"].isin(["nearest brain", "mean image"])
]
named_score = shares["score"].replace("kept", "brain kept")
shares = shares.assign(panel=shares["kind"].str.capitalize() + ": " + named_score)
graded = summarise(shares, by=["score", "kind", "panel", "model", "strength"])
axes = {"panel": "panel", "ylabels": ["Share"], "columns": 3}
figures.fig_curves(graded, "strength", "Strength of the artefact", **axes).shows(
    "How much of an artefact is reproduced (A to C), and of the brain around it (D to F)."
).made_from(counted)

# %% [markdown]
# ## Artefact against brain, one curve a model
#
# A model with few latents reproduces little of anything. So models are compared where they explain as much of the brain. Each point is a number of latents, at
# 80 × 112 and full strength. To the right a model explains more of the same brain without its artefact; further up it reproduces more of the artefact.

# %% tags=["hide-input"]
along = table(p, "removal_along_l")
at = ["model", "latent_dim"]
brain = along[along["score"] == "explained"].groupby(at)["value"].mean().rename("explained")
back = along[along["score"] == "reproduced"].join(brain, on=at)
curve = summarise(back, by=["kind", *at, "explained"])
few = curve["latent_dim"].astype(str).where(curve["latent_dim"].isin([2, n, 30, 100]), "")
figures.fig_curves(
    curve.assign(kind=curve["kind"].str.capitalize(), L=few),
    "explained",
    "Brain explained",
    panel="kind",
    ylabels=["Artefact reproduced"],
    columns=3,
    point_labels="L",
).shows(
    "How much of an artefact is reproduced, against how much of the brain is explained; numbers are L."
).made_from(f"{n_brains} clean test brains, {counted_fits(back)} at 80 × 112")

# %% [markdown]
# Do artefacts enter PCA? Up to 30 components: {glue:text}`artefact_enter_30`; beyond 30:
# {glue:text}`artefact_enter_100`. For a fair comparison each brain's share is interpolated between two PCAs, to what the VAE explains on average. At L = {glue:text}`artefact_l` the β-VAE explains
# {glue:text}`artefact_explained_beta`. There PCA's share of a leak less the β-VAE's is {glue:text}`artefact_equal_leak`. Does the β-VAE remove more at an equal
# share of the brain? {glue:text}`artefact_says_equal`.
#
# ## Are artefacts noticed?
#
# A model's error shows what it does not reproduce. Each score is the area under a ROC curve: 0.5 is guessing, 1 perfect. "Pixels" asks where the artefact is,
# "brain" whether there is one, by the size of the error or by how far the code lies from those of training brains.

# %% tags=["hide-input"]
sides = [
    summarise(table(p, name), by=["score", "kind", "model"], bounds=(0, 1))
    for name in ("detection", "noticed")
]
noticed = pd.concat(sides)
of_l = noticed[~noticed["model"].str.startswith("PCA, ")]
figures.fig_scores(
    of_l.assign(panel=of_l["kind"].str.capitalize() + ": " + of_l["score"]),
    panel="panel",
    references=pd.DataFrame({"model": ["guessing"], "value": [0.5]}),
    columns=3,
    one_scale=True,
).shows(
    "Areas under ROC curves, for artefacts of middle strength. Mean image and nearest brain have no code."
).made_from(counted)

# %% [markdown]
# By the β-VAE's error a brain with a leak ranks above a clean one with probability {glue:text}`artefact_noticed_error`, by its code with
# {glue:text}`artefact_noticed_code`; a half is chance. The mean image has no latents, and its error outlines artefacts too.
#
# ## Is rare anatomy removed as well?
#
# The ventricles of clean test brains are widened by five standard deviations of the cohort: the simulator extrapolated, no pathology.

# %% tags=["hide-input"]
before = clean_part(cohort).images[:2]
wide = displaced(before, cohort.atlas, "ventricle_size", 5.0)
answers = {f"{name}'s answer": model.reconstruct(wide) for name, model in models.items()}
rows = {"Ventricles wider": wide, **{k: v for k, v in answers.items() if k[:5] != "PCA, "}}
titles = [f"Test brain {i + 1}" for i in range(len(before))]
figures.fig_reconstructions(before, rows, cohort.atlas.pixel_um, titles).shows(
    "Two test brains, the same with wider ventricles, and what each model makes of these."
).made_from(source)

# %% tags=["hide-input"]
anatomy = table(p, "anatomy")
anatomy = anatomy[~anatomy["model"].isin(["nearest brain", "mean image"])]
rare = summarise(anatomy, by=["change", "model", "amount"])
figures.fig_curves(
    rare.assign(change=rare["change"].str.capitalize()),
    "amount",
    "Standard deviations",
    panel="change",
    ylabels=["Share reproduced"],
    columns=3,
).shows("Share of a planted change of anatomy that reconstructions show.").made_from(counted)

# %% [markdown]
# Of ventricles five standard deviations wider PCA reproduces {glue:text}`artefact_ventricles_pca`, the VAE {glue:text}`artefact_ventricles_vae`, the β-VAE
# {glue:text}`artefact_ventricles_beta` and PCA with {glue:text}`artefact_wide` components {glue:text}`artefact_ventricles_wide`. Of a wider brain, which moves
# many pixels, the β-VAE reproduces {glue:text}`artefact_width_beta`. **A cleaned image is no evidence of normal anatomy.**
#
# ## In a real brain
#
# Nothing above is of a real brain. So models fitted to brains simulated on the CCF slice, which keep their own brightness, are given one, alone and with each artefact, of strength 0.7, in {glue:text}`artefact_places`
# places. Of what sets it apart from the simulated mean PCA explains {glue:text}`artefact_real_pca`, the VAE {glue:text}`artefact_real_vae` and the β-VAE
# {glue:text}`artefact_real_beta`; of ten simulated brains {glue:text}`artefact_unreal_pca`, {glue:text}`artefact_unreal_vae` and {glue:text}`artefact_unreal_beta`. Of a leak
# in it PCA reproduces {glue:text}`artefact_real_leak_pca`, the VAE {glue:text}`artefact_real_leak_vae` and the β-VAE {glue:text}`artefact_real_leak_beta`; in simulated brains {glue:text}`artefact_unreal_leak_pca`, {glue:text}`artefact_unreal_leak_vae` and {glue:text}`artefact_unreal_leak_beta`. In brackets stand the lowest and the highest of
# {glue:text}`artefact_real_fits` fits. A model that holds so little of a brain holds little of its artefacts too, so this is no evidence of cleaning.
#
# ```{figure} ../book/_static/real_artefacts.png
# :alt: A real section with a leak, a breakage and a grid, and what PCA, the VAE and the β-VAE make of each, with the differences from the section without.
# The real brain with each artefact, and what models fitted to simulated brains make of it. CCFv3 {cite}`wang2020`. Real brain: copyright (c) 2021
# Adam Tyson, BSD 3-Clause ({download}`notice <../book/_static/real_sections_licence.txt>`).
# ```
#
# ## The claims
#
# Each number is a difference that is positive where the claim holds, at full strength. No model of few latents reproduces much of an artefact, so half of
# what the rival reproduces would matter (at least 0.01); of the brain kept and of PCA's components 0.05. Those at an equal share of the brain are at 80 × 112, the others at the paper's size. A control is true by
# construction: the mean image reproduces nothing.

# %% tags=["hide-input"]
at_full = removal[removal["strength"] == removal["strength"].max()]
shares = dict(iter(at_full.groupby("score")))
by_kind = dict(iter(shares["reproduced"].groupby("kind", sort=False)))
says, less, controls = Claims(), "of a {} the {} reproduces less than {}", []
for rival, (kind, of_kind) in product(("PCA", "VAE"), by_kind.items()):
    half = of_kind.loc[of_kind["model"] == rival, "value"].mean() / 2
    half = round(max(half, 0.01), 3)
    says.add(less.format(kind, "β-VAE", rival), of_kind, rival, "β-VAE", half)
    if rival == "PCA":
        controls.append("control: " + less.format(kind, "mean image", rival))
        says.add(controls[-1], of_kind, rival, "mean image", half)
for rival in ("PCA", "VAE"):
    keeps = f"β-VAE keeps more of the brain than {rival}"
    says.add(keeps, shares["kept"], "β-VAE", rival, 0.05, by="kind")
of_pca = back[back["model"] == "PCA"]
dims = sorted(of_pca["latent_dim"].unique())
bend = [m for m in dims if m <= 30][-1]
says.add(
    "artefacts enter PCA up to 30 components", of_pca, bend, n, 0.05, of="latent_dim", by="kind"
)
says.add(
    "artefacts enter PCA beyond 30 components",
    of_pca,
    dims[-1],
    bend,
    0.05,
    of="latent_dim",
    by="kind",
)
widest = [m for m in models if m.startswith("PCA")][-1]

# %% tags=["hide-input"]
at_equal = "at an equal share of the brain the {} with {} latents reproduces less of a {} than PCA"
pca = of_pca.pivot(index=["kind", "brain"], columns="explained", values="value")
for name, m in product(("VAE", "β-VAE"), (n, dims[-1])):
    weights = [np.interp(brain[name, m], pca.columns, row) for row in np.eye(len(pca.columns))]
    equal = (pca @ weights).reset_index(name="value").assign(model="PCA", seed=0)
    beside = pd.concat([equal, back[(back["model"] == name) & (back["latent_dim"] == m)]])
    for kind, of_kind in beside.groupby("kind", sort=False):
        half = round(max(equal.loc[equal["kind"] == kind, "value"].mean() / 2, 0.01), 3)
        says.add(at_equal.format(name, m, kind), of_kind, "PCA", name, half)

# %% tags=["hide-input", "nbval-ignore-output"]
full = max(graded["strength"])
numbers = named(graded[graded["strength"] == full], "{kind} of full strength, {score}, {model}")
changes = "change that comes back"
numbers |= named(rare, changes + ", {change} by {amount:g} SD, {model}")
numbers |= named(noticed, "{kind} of middle strength, {score}, {model}")
of_real = measured("real_brain")
spans = of_real.groupby(["of", "kind", "model"])["value"].agg(["mean", "min", "max"])
numbers |= {
    f"explained of {of}, {model}": mean
    for (of, artefact, model), mean in spans["mean"].items()
    if artefact == "none"
}
Record(numbers, says.found, says.margins)

# %% tags=["hide-input", "hide-output"]
short = {"pca": "PCA", "vae": "VAE", "beta": "β-VAE", "wide": widest}
told = {
    "leak": "leak of full strength, reproduced",
    "ventricles": f"{changes}, ventricles wider by 5 SD",
}
quoted(**{f"artefact_{k}_{m}": numbers[f"{told[k]}, {short[m]}"] for k in told for m in short})
quoted(
    artefact_l=n,
    artefact_wide=widest.split()[-1],
    artefact_width_beta=numbers[f"{changes}, brain wider by 5 SD, β-VAE"],
    artefact_enter_30=says["artefacts enter PCA up to 30 components"],
    artefact_enter_100=says["artefacts enter PCA beyond 30 components"],
    artefact_explained_beta=brain["β-VAE", n],
    artefact_equal_leak=says.only(at_equal.format("β-VAE", n, "leak")),
    artefact_says_equal="; ".join(f"{k}: {says[at_equal.format('β-VAE', n, k)]}" for k in by_kind),
    artefact_says_pca="; ".join(f"{k}: {says[less.format(k, 'β-VAE', 'PCA')]}" for k in by_kind),
    artefact_says_vae="; ".join(f"{k}: {says[less.format(k, 'β-VAE', 'VAE')]}" for k in by_kind),
    artefact_noticed_error=numbers["leak of middle strength, brain, by error, β-VAE"],
    artefact_noticed_code=numbers["leak of middle strength, brain, by code, β-VAE"],
    artefact_n=n_brains,
    artefact_fits=f"{fits} at the paper's size and {counted_fits(back)} at 80 × 112",
)

# %% tags=["hide-input"]
short = {"pca": "PCA, L = 8", "vae": "VAE", "beta": "β-VAE"}
asked = {
    "real": ("real brain", "none"),
    "unreal": ("simulated brains", "none"),
    "real_leak": ("real brain", "leak"),
    "unreal_leak": ("simulated brains", "leak"),
}
for (name, part), (end, model) in product(asked.items(), short.items()):
    mean, low, high = (f"{value:.2f}" for value in spans.loc[(*part, model)])
    quoted(**{f"artefact_{name}_{end}": mean + (f" ({low} to {high})" if end != "pca" else "")})
quoted(artefact_places=of_real["places"].max(), artefact_real_fits=of_real["seed"].nunique())

# %% tags=["hide-input"]
none = removal[(removal["model"] == "mean image") & (removal["score"] != "explained")]["value"]
entered = says.found["artefacts enter PCA beyond 30 components"].values()
of_changes = rare[rare["amount"] == rare["amount"].max()].set_index(["change", "model"])["value"]
pd.Series(
    {
        "the controls hold": {says[of] for of in controls} == {"holds"},
        "the mean image reproduces no artefact and keeps nothing": bool(none.abs().max() < 1e-6),
        "artefacts of every kind enter PCA with very many components": bool(
            min(found.low for found in entered) > 0
        ),
        "no model brings the widest ventricles back whole": bool(
            of_changes["ventricles wider"].max() < 1
        ),
        "every model follows the width of a brain better than that of its ventricles": bool(
            (of_changes["brain wider"] > of_changes["ventricles wider"]).all()
        ),
    }
).to_frame("true")

# %% [markdown]
# **How sure.** {glue:text}`artefact_n` clean test brains with every artefact at every strength, {glue:text}`artefact_fits`; intervals are over brains and fits. How far fits
# spread is known roughly from so few. The sections shown are of the first fit of each model. The artefacts and the changes of anatomy are ours, and simpler than real ones. One real brain says nothing of others.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
