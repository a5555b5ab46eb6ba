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
# # 14 · Projective fields: move a latent, watch the brain
#
# **What does each latent paint?** One latent is moved over ±7 prior standard deviations (`c_max`) from the code
# of one real brain of the cohort, everything is decoded, and the variance of every pixel is taken in
# four quartiles of the range.

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
n_weights = 5  # brightness weights a region
n_blobs = 100  # random regions of the null
c_max = 7.0  # prior standard deviations
c_step = 0.1
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
from brainvae_core.fields import (
    asymmetry,
    field_agreement,
    outlier_latents,
    projective_field,
    receptive_field,
    region_profile,
    stratified_rgb,
    traversal,
    weight_range,
)
from brainvae_core.metrics import active_latents
from brainvae_core.models import fit
from brainvae_core.prepare import prepare_cohort
from brainvae_core.profile import compared_configs

# %%
cohort = prepare_cohort(p)
models = {
    name: fit(cohort, config, p.runs, p.device).model
    for name, config in compared_configs(p).items()
}
beta_vae, test = models["β-VAE"], cohort.split("test")
print(cohort)

# %%
z0 = beta_vae.encode(test.images[:1])[0]
n_steps = round(p.c_max / p.c_step)
c = np.arange(-n_steps, n_steps + 1) * (p.c_max / n_steps)
field = projective_field(beta_vae, z0, c)
source = f"Cohort {cohort.name}: from one test brain's code, c = ±{p.c_max:g} by {p.c_step:g}"
print(
    f"c: {len(c)} values; variance (latent_dim, quartiles, height, width) = {field.variance.shape}"
)

# %% [markdown]
# ## Fig. S4 · Sections along each latent

# %%
c_shown = p.c_max * np.array([-1, -0.5, -0.2, 0, 0.2, 0.5, 1])
along = traversal(beta_vae, z0, c_shown)
figures.fig_s4(along, c_shown, pixel_um=cohort.atlas.pixel_um).made_from(source)

# %% [markdown]
# The same as differences from the middle, which show what small steps do.

# %%
figures.fig_s4(along, c_shown, pixel_um=cohort.atlas.pixel_um, difference=True).made_from(source)

# %% [markdown]
# ## Fig. 3A · The field of every latent
#
# Variance is *removed* from white: cyan where small positive c moves the output, magenta where small
# negative c does, yellow where only large |c| does; dark where all do. A star marks latents whose
# outer quartiles stand out by a stated rule. A latent's sign is arbitrary.

# %%
active = active_latents(beta_vae.encode(test.images))
rgb, scales = stratified_rgb(field)
enough = active.sum() >= 3  # for one of them to stand out
starred = outlier_latents(field, active) if enough else np.zeros_like(active)

# %%
figures.fig_3a(
    rgb, scales, starred, pixel_um=cohort.atlas.pixel_um, brain_contour_mask=cohort.atlas.brain_mask
).made_from(source)

# %% [markdown]
# In the demo profile several latents paint what was planted: the hippocampus, the thalamus, the cortex and the outline of the
# brain. The contours light up because a wider or taller brain moves every border.

# %% [markdown]
# ## By region
#
# The mean variance of each region's pixels (a sum would favour large regions).

# %%
masks = cohort.atlas.roi_masks(p.rois)
profile_by_region = region_profile(field.variance_all, masks)
figures.fig_region_profile(profile_by_region, p.rois).made_from(source)

# %% [markdown]
# ## Do the two directions agree?
#
# The paper notes that a latent's receptive and projective field can differ (its F8 and HPF). Here is
# the rank correlation over regions between how much a region moves the latent and how much the latent
# moves the region. With six regions a correlation below about 0.8 is within chance.

# %%
held_out = test.select(test.metadata["artefact"].to_numpy() == "none").images[:64]
received = receptive_field(beta_vae, held_out, masks, weight_range(held_out, masks))
agreement = field_agreement(received.divergence, profile_by_region)

# %%
figures.fig_region_profile(profile_by_region, p.rois, received.divergence).made_from(source)

# %% [markdown]
# ## How far from linear
#
# PCA is linear: its field is its squared loadings, the same on both sides of zero. The asymmetry of
# the β-VAE's says how far from linear it is. The last row is the rank correlation of above.

# %%
linear = projective_field(models["PCA"], models["PCA"].encode(test.images[:1])[0], c)
sides = pd.DataFrame(
    {"β-VAE": asymmetry(field), "PCA": asymmetry(linear)},
    index=[f"F{k + 1}" for k in range(p.latent_dim)],
)

# %% tags=["nbval-ignore-output"]
sides.assign(agreement=agreement).round(3).T

# %%
pd.Series(
    {
        "the section decoded at z0 correlates > 0.9 with the brain": bool(
            np.corrcoef(beta_vae.decode(z0[None]).ravel(), test.images[0].ravel())[0, 1] > 0.9
        ),
        "PCA's field has no asymmetry (below 0.001)": bool((sides["PCA"] < 1e-3).all()),
        "the β-VAE's has, in at least one latent (above 0.05)": bool((sides["β-VAE"] > 0.05).any()),
        "every latent moves some pixel by more than 0.01 (standard deviation)": bool(
            (field.variance_all.max((1, 2)) > 1e-4).all()
        ),
    }
)
