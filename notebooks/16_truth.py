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
# # 16 · Does the analysis find the truth?
#
# **When the factors that make brains differ are known, do the latents find them, and do their fields point
# at the right regions?** The paper could not ask this of mice. Here brains are simulated, so every factor is known, and where
# it acts. The same question is put to PCA, to random axes of every model's codes (chance), to a linear model that was *told* the
# factors (what could be found at best), and on a second simulator that plants in another way.

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
sigma = 0.05  # grey values
steps = 1100
batch_size = 16
learning_rate = 1e-3
lr_warmup = 0.05  # share of the steps
lr_cosine = True
kl_warmup = 0.5  # share of the steps
initialisation = "data"
precision = "float32"  # or "tf32", "bfloat16"
validate_every = 100  # steps
seed = 0
grid_betas = [1, 3, 10]
grid_latent_dims = [2, 4, 6, 8, 12, 16]
grid_seeds = [0, 1, 2]
shard_latent_dim = 8  # the row of the grid that chapter 5 fits
grid_height = 40
grid_width = 56
grid_steps = 500
eval_height = 80  # the models of the evaluation: several fits each, at a size of their own
eval_width = 112
eval_sigma = 0.112  # grey values
eval_steps = 1200
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

# %%
from brainvae_core.profile import read_parameters

p = read_parameters(globals())

# %%
import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.cohorts import PlantedModel, clean_part
from brainvae_core.fields import Rotated, planted_fields, recover
from brainvae_core.interpretation import (
    freeform_cohort,
    freeform_models,
    planted_cohort,
    told_model,
    varied_cohorts,
    varied_models,
)
from brainvae_core.metrics import (
    active_latents,
    dci,
    estimate,
    in_each,
    mutual_information_gap,
    sidedness,
    sidedness_null,
    tail_counts,
)
from brainvae_core.models import fit_all
from brainvae_core.profile import (
    curve_models,
    evaluated_models,
    evaluation_cohort,
    grid_cohort,
    study,
)

# %%
whole = planted_cohort(p)
cohort = evaluation_cohort(p, whole)
evaluated = evaluated_models(p, cohort)
models = {name: evaluated[name] for name in ("PCA", "factor analysis", "VAE", "β-VAE")}
models["told the factors"] = [told_model(cohort)]
print(cohort)

# %% [markdown]
# ## What was planted, and where it acts
#
# Each factor by itself, moved through ±3 standard deviations by the simulator: its true projective field. Where a
# factor can be *seen* is the share of each region's brightness, over brains, that goes with it. Regions are taken
# one hemisphere at a time, for one factor is a gradient from left to right.

# %%
test = clean_part(cohort)
factors = test.factors.to_numpy()
names = [name for name in test.factors]
regions = cohort.atlas.regions(p.region_share)
masks = np.concatenate([cohort.atlas.roi_masks(regions, side) for side in ("left", "right")])
simulator, c = PlantedModel.anatomical(cohort.atlas), np.linspace(-p.c_max, p.c_max, 29)
planted = planted_fields(simulator, test.images, factors, masks, np.linspace(-3, 3, 25))

# %%
source = f"Cohort {cohort.name}: {len(test)} test brains, {len(masks)} half regions"
print(f"factors: {', '.join(names)}; masks (n, height, width) = {masks.shape}")

# %% [markdown]
# ## What was found
#
# A factor **has a latent** where the codes of one latent go with half of its variance or more (R² ≥ 0.5). A field
# **points right** where it resembles the map of this factor more than that of any other factor; by chance 1 of
# 9 does. A factor is **recovered** where it has a latent and both fields point right.

# %%
active = in_each(models, lambda fits: [active_latents(m.encode(test.images)) for m in fits])
found = {
    name: [
        recover(m, test.images, factors, planted, masks, c, alive, p.n_read)
        for m, alive in zip(fits, active[name], strict=True)
    ]
    for name, fits in models.items()
}

# %%
figures.fig_planted({name: found[name][0] for name in ("PCA", "β-VAE")}, names).made_from(
    f"{source}; orange: R² ≥ 0.5; R, P: the best latent's receptive, projective field points right"
)

# %% [markdown]
# The truth beside what was found: the planted map of every factor, and the projective field of the latent that
# goes with it best.

# %%
columns = ("told the factors", "PCA", "β-VAE")
maps = {"planted": planted.variance} | {name: found[name][0].variance for name in columns[1:]}
notes = {
    name: [
        f"F{k + 1}, R² {r:.2f}"
        for k, r in zip(found[name][0].latent, found[name][0].best_r2, strict=True)
    ]
    for name in columns[1:]
}
figures.fig_maps(
    maps, names, cohort.atlas.pixel_um, cohort.atlas.brain_mask, notes=notes
).made_from(f"{source}, one fit of each model; each map on its own scale")

# %% [markdown]
# ## How many are recovered
#
# Chance: the same models along random axes of their own codes. Intervals resample the factors and hold the spread of fits.

# %%
turned = {
    name: [
        recover(
            Rotated(m, test.images, seed, alive), test.images, factors, planted, masks, c, None, 24
        )
        for m, alive in zip(models[name], active[name], strict=True)
        for seed in range(2)
    ]
    for name in ("PCA", "VAE", "β-VAE")
}
chance = {f"{name}, random axes": fits for name, fits in turned.items()}

# %%
asked = ("has_latent", "receptive_right", "projective_right", "recovered")
titles = dict(
    zip(
        asked,
        ("has a latent", "receptive field right", "projective field right", "recovered"),
        strict=True,
    )
)
rates = {
    titles[what]: in_each(
        found | chance,
        lambda fits, what=what: estimate([getattr(f, what) for f in fits], bounds=(0, 1)),
    )
    for what in asked
}

# %%
figures.fig_scores(
    rates, references={titles[w]: {f"1 of {len(names)}": 1 / len(names)} for w in asked[1:3]}
).made_from(f"{source}, {len(names)} factors")

# %% [markdown]
# Two limits are the *method's*. Told the factors, a linear model's projective fields are right for every one, and its
# receptive fields only for those that brighten a region: a factor that moves borders changes no region's mean brightness,
# so perturbing brightness cannot find it. The rest is the models': codes hold most factors (chapter 4), but a latent
# holds several of them at once.
#
# ## Disentanglement by the published scores
#
# The mutual information gap {cite}`chen2018` and DCI {cite}`eastwood2018`. The error is 0 for a code from which every
# factor can be read and 1 for one that says nothing.

# %%
train = clean_part(cohort, "train")
z_train = in_each(models, lambda fits: [m.encode(train.images) for m in fits])
z_test = in_each(models, lambda fits: [m.encode(test.images) for m in fits])
told = train.factors.to_numpy()
scored = {
    name: [dci(a, told, b, factors) for a, b in zip(z_train[name], z_test[name], strict=True)]
    for name in models
}

# %%
gaps = in_each(z_train, lambda fits: estimate([mutual_information_gap(z, told) for z in fits]))
panels = {"MIG": gaps}
for part in ("disentanglement", "completeness", "informativeness"):
    values = in_each(scored, lambda fits, part=part: [getattr(f, part) for f in fits])
    panels[part] = values

# %% tags=["nbval-ignore-output"]
table = pd.DataFrame({"MIG": gaps} | {k: in_each(v, np.mean) for k, v in list(panels.items())[1:]})
table.map(lambda v: v if isinstance(v, str) else str(v) if hasattr(v, "low") else f"{v:.2f}")

# %% [markdown]
# ## Artefacts in one tail
#
# The paper saw outliers in one tail of some latents. A latent's sign means nothing, so what is measured is whether the brains
# with artefacts that lie beyond the clean brains' 95 % keep to *one* side of each latent, whichever it is: 1 if all do, and by
# chance what random sides would give.

# %%
part = cohort.split("test")
kinds = part.metadata["artefact"].to_numpy()
z = {
    k: models["β-VAE"][0].encode(part.images[kinds == k])
    for k in ("none", "leak", "breakage", "grid")
}
z = {("clean" if k == "none" else k): codes for k, codes in z.items() if len(codes)}
counts = {k: tail_counts(z["clean"], codes) for k, codes in z.items() if k != "clean"}

# %%
limits = np.quantile(z["clean"], [0.025, 0.975], axis=0)
figures.fig_tails(z, limits, counts).made_from(f"Cohort {cohort.name}: test brains, one β-VAE")

# %%
sides = {}
for name in ("PCA", "VAE", "β-VAE"):
    of_model = [m.encode(part.images) for m in models[name]]
    both_tails = [tail_counts(codes[kinds == "none"], codes[kinds != "none"]) for codes in of_model]
    by_chance = np.mean([sidedness_null(t, 2000, 0) for t in both_tails], axis=0)
    value = np.mean([sidedness(t) for t in both_tails])
    sides[name] = {"one side": value, "chance": by_chance.mean(), "p": (by_chance >= value).mean()}

# %%
pd.DataFrame(sides).T.round(2)

# %% [markdown]
# ## A second simulator
#
# Eight factors of another kind: greys added and not multiplied, in RSP, HY, left SSp and STR; tissue moved by a lattice of control
# points; factors that are uniform or of two groups and not Gaussian; other texture, noise and light. Nothing of the method was tried on it before.

# %%
second = freeform_cohort(p)
other = freeform_models(p, second) | {"told the factors": [told_model(second)]}
tested, told_here = clean_part(second), PlantedModel.freeform(second.atlas)
values = tested.factors.to_numpy()
where = planted_fields(told_here, tested.images, values, masks, np.linspace(-1.7, 1.7, 15))
again = in_each(
    other,
    lambda fits: [recover(m, tested.images, values, where, masks, c, None, p.n_read) for m in fits],
)

# %%
figures.fig_planted(
    {name: again[name][0] for name in ("PCA", "β-VAE")}, list(tested.factors)
).made_from(f"Cohort {second.name}: {len(tested)} test brains; R, P as above")

# %%
random_axes = [
    recover(Rotated(m, tested.images, 0), tested.images, values, where, masks, c, None, 24)
    for m in other["β-VAE"]
]
there = {
    titles[what]: in_each(
        again | {"β-VAE, random axes": random_axes},
        lambda fits, what=what: estimate([getattr(f, what) for f in fits], bounds=(0, 1)),
    )
    for what in asked
}
figures.fig_scores(there).made_from(
    f"Cohort {second.name}: {len(tested)} test brains, {len(told_here.names)} factors"
)
