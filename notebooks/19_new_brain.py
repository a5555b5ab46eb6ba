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
# # 19 · A brain from elsewhere
#
# **What does the model say of a brain that is not of the cohort?** A registered section is put on the
# cohort's grid and grey values, encoded, reconstructed, and its error placed among the test brains'.
# In the demo profile it is a brain of another seed; with `-p new_brain <file>` it is any registered
# section.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file
settings = ""  # others, such as "model.batch_size=32, grid.seeds=[0, 1]"
new_brain = None  # the profile's

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.cohorts import ARTEFACTS
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.metrics import explained_variance_per_brain, outlier_score
from brainvae_core.models import fit
from brainvae_core.prepare import new_section, prepare_cohort
from brainvae_core.record import Record
from brainvae_core.study import compared_configs, fitted_models
from IPython.display import display

# %%
cohort = prepare_cohort(p)
section = new_section(p, cohort)
models = {
    name: fit(cohort, config, p.places.runs, p.places.device).model
    for name, config in compared_configs(p).items()
}
print(cohort)

# %%
train, test = cohort.split("train"), cohort.split("test")
source = f"Brain: {Path(p.cohort.new_brain).stem}. Models fitted to cohort {cohort.name}; {len(test)} test brains"
print(f"section (height, width) = {section.shape}, scaled to the cohort's mean brightness")

# %%
reconstructed = {name: model.reconstruct(section[None])[0] for name, model in models.items()}
error = {name: float(np.sqrt(np.mean((r - section) ** 2))) for name, r in reconstructed.items()}

# %%
cohort_error = {
    name: np.sqrt(((model.reconstruct(test.images) - test.images) ** 2).mean(axis=(1, 2)))
    for name, model in models.items()
}

# %%
figures.fig_new_brain(
    section,
    reconstructed,
    error,
    cohort_error,
    pixel_um=cohort.atlas.pixel_um,
    error_name="RMS error, grey values",
).shows(
    "The new brain as PCA, VAE and β-VAE paint it, and its error among the test brains'."
).made_from(source)

# %% [markdown]
# In the demo profile the brain comes from the same simulator, and its error lies among
# the smaller ones of the cohort's: it has no artefact. In the `ccf` profile it is a real brain, among models that were fitted to simulated ones.

# %% [markdown]
# ## The other models
#
# The same brain at the size of the evaluation (chapters 9 to 12), where every model was fitted.

# %%
fine = cohort.resampled(p.evaluation.shape)
evaluated = fitted_models(p, "evaluated", fine)
brain = block_mean(section[None], cohort.atlas.shape[0] // fine.atlas.shape[0])
others = fine.split("test").images
answers = {name: fits[0].reconstruct(brain)[0] for name, fits in evaluated.items()}
print(f"section (height, width) = {brain.shape[1:]}")

# %%
rms = {
    name: np.sqrt(np.square(fits[0].reconstruct(others) - others).mean(axis=(1, 2)))
    for name, fits in evaluated.items()
}
own = {name: float(np.sqrt(np.square(a - brain[0]).mean())) for name, a in answers.items()}
linear = ("probabilistic PCA", "factor analysis", "NMF", "nearest brain")
fitted = f"Models fitted to cohort {fine.name} at {p.evaluation.shape[0]} × {p.evaluation.shape[1]}, first fits"
fine_source = f"Brain: {Path(p.cohort.new_brain).stem}. {fitted}; {len(others)} test brains"

# %%
figures.fig_new_brain(
    brain[0],
    {name: answers[name] for name in linear},
    {name: own[name] for name in linear},
    {name: rms[name] for name in linear},
    pixel_um=fine.atlas.pixel_um,
    error_name="RMS error, grey values",
).shows("The same of the models that are fitted at the evaluation's size only.").made_from(
    fine_source
)

# %% [markdown]
# ## Cleaned
#
# Artefacts planted in this brain, and what each model paints instead. Whatever a model cannot paint of the brain itself is gone
# from the cleaned one as well: compare with the first row. In the demo profile the nearest brain answers the section with a grid by another brain of the cohort
# that has a grid itself.

# %%
planted = {
    kind: make(brain[0], strength=0.8, seed=1, pixel_um=fine.atlas.pixel_um)
    for kind, make in ARTEFACTS.items()
}
dirty, masks = (np.stack(part) for part in zip(*planted.values(), strict=True))
compared = ("PCA", "VAE", "β-VAE")

# %%
figures.fig_s1(
    np.repeat(brain, len(dirty), axis=0),
    dirty,
    {name: evaluated[name][0].reconstruct(dirty) for name in (*compared, *linear)},
    list(ARTEFACTS),
    pixel_um=fine.atlas.pixel_um,
    masks=masks,
).shows("Artefacts planted in the new brain, and what each model paints instead.").made_from(
    f"Brain: {Path(p.cohort.new_brain).stem}. {fitted}"
)

# %% [markdown]
# ## How far outside the cohort?
#
# By the error, which says how badly the brain is painted, and by the code, which says how unusual the painted brain is: its squared
# Mahalanobis distance from the training brains' codes. A brain can be far out by one and ordinary by the other.

# %%
train_fine = fine.split("train").images
distance = {
    name: (
        outlier_score(m.encode(train_fine), m.encode(others)),
        float(outlier_score(m.encode(train_fine), m.encode(brain))[0]),
    )
    for name, (m, *_) in evaluated.items()
    if name in compared
}

# %%
figures.fig_outside(
    {"error": {name: (rms[name], own[name]) for name in compared}, "code": distance},
    {"error": "RMS error, grey values", "code": "Squared distance of the code"},
).shows("The new brain among the test brains, by error and by code.").made_from(fine_source)

# %% tags=["nbval-ignore-output"]
mine = {f"RMS error of the new brain, {n}": e for n, e in error.items()}
theirs = (
    {f"median RMS error of test brains, {n}": float(np.median(e)) for n, e in cohort_error.items()}
    | {f"test brains with a larger error, {n}": (cohort_error[n] > error[n]).sum() for n in models}
    | {
        f"test brains with a code as far out, {n}": (d >= at).sum()
        for n, (d, at) in distance.items()
    }
)
display(Record(mine, n_brains=1, n_seeds=1), Record(theirs, n_brains=len(test), n_seeds=1))

# %% [markdown]
# In the demo profile the brain comes from the same simulator, and lies among the others by both, nearer than most.

# %%
mean_section = train.images.mean(axis=0)

# %%
kept = {
    n: float(explained_variance_per_brain(section[None], r[None], mean_section)[0])
    for n, r in reconstructed.items()
}
pd.Series(
    {
        f"{name} is closer to the brain than the mean image is": value > 0
        for name, value in kept.items()
    }
)

# %% [markdown]
# **Found.** In the demo profile the new brain is of the same simulator, and lies inside its models' cohort by error and by code, of PCA, VAE and β-VAE.
# How sure: one brain (n = 1), and one fit of each model; the chapter shows what to look at, not how often it happens.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
