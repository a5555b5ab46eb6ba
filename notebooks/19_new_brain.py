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
profile = "demo"
brains = "simulated"  # or a folder of acquired, or of one's own registered, brains
orientation = "header"  # of one's own brains, or a code such as "asr"
atlas = "drawn"  # or a folder with the CCF's files
plane = 286  # AP index at 25 µm
n_brains = 1024  # simulated
height = 160  # pixels of a section
width = 224
artefact_share = 0.15
cohort_seed = 0
clip_pixels = True  # those brighter than the training brains' 99.9 % become white
drop_brains = False  # outliers are set aside
outlier_limit = 6.0  # robust standard deviations
latent_dim = 8
beta = 3.0
objective = "beta"
capacity = 20.0  # nats; of objective "capacity"
mmd_weight = 1000.0  # nats per image; of objective "mmd"
likelihood = "gaussian"
steps = "80x112: 800, 160x224: 500"  # or one number, at the cohort's size
batch_size = 16
optimiser = "muon"  # or "adam"
learning_rate = 4e-3  # of Adam
adam_beta2 = 0.99
muon_rate = 0.02
lr_warmup = 0.05  # share of each stage's steps
lr_cosine = True  # to zero over the last stage
kl_warmup = 0.5  # share of the first stage's steps
initialisation = "data"
precision = "auto"  # or "float32", "tf32", "bfloat16"
validate_every = 100  # steps
seed = 0
grid_betas = [1, 3, 10]
grid_latent_dims = [2, 4, 6, 8, 12, 16]
grid_seeds = [0, 1, 2]
shard_latent_dim = 8  # the row of the grid that chapter 5 fits
grid_height = 40
grid_width = 56
grid_steps = 1000
eval_height = 80  # the models of the evaluation: several fits each, at a size of their own
eval_width = 112
eval_steps = 1500
eval_seeds = [0, 1, 2]
curve_latent_dims = [2, 4, 6, 8, 12, 16, 30, 100]  # of Figs 2C and 2D
artefact_strengths = [0.25, 0.5, 0.75, 1.0]
n_graded = 20  # brains with every artefact at every strength
n_importance = 16  # samples of z a brain
fd_dim = 16  # components of the Fréchet distance's basis
rois = ["SSp", "HPF", "STR", "TH", "RSP", "HY"]
region_share = 0.01  # of the brain; smaller regions are no region of their own
n_weights = 5  # brightness weights a region
n_read = 48  # held-out brains of the receptive fields that stand beside chance
n_blobs = 100  # random regions of the null
c_max = 7.0  # prior standard deviations
c_step = 0.005
objectives = ["capacity", "total_correlation", "mmd"]  # beside the β-VAE's
varied_brains = [64, 256]  # training brains of other simulated cohorts
varied_artefact_shares = [0.0, 0.4]
new_brain = "simulated"  # or the file of a registered section
data = "../data"
runs = "../runs"
device = "auto"  # CUDA, else MPS, else CPU
together = 2  # models of the grid trained at once

# %% tags=["hide-input"]
from brainvae_core.profile import read_parameters

p = read_parameters(globals())

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
from brainvae_core.profile import compared_configs, evaluated_models, evaluation_cohort
from brainvae_core.record import Record
from IPython.display import display

# %%
cohort = prepare_cohort(p)
section = new_section(p, cohort)
models = {
    name: fit(cohort, config, p.runs, p.device).model
    for name, config in compared_configs(p).items()
}
print(cohort)

# %%
train, test = cohort.split("train"), cohort.split("test")
source = f"Brain: {Path(p.new_brain).stem}. Models fitted to cohort {cohort.name}; {len(test)} test brains"
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
fine = evaluation_cohort(p, cohort)
evaluated = evaluated_models(p, fine)
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
fitted = f"Models fitted to cohort {fine.name} at {p.eval_height} × {p.eval_width}, first fits"
fine_source = f"Brain: {Path(p.new_brain).stem}. {fitted}; {len(others)} test brains"

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
    f"Brain: {Path(p.new_brain).stem}. {fitted}"
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
from brainvae_core.stamp import stamp

stamp(p)
