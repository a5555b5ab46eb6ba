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
# # 13 · Receptive fields: perturb the brain, watch the latents
#
# **Which latents listen to which region?** A region's brightness is replaced by *w* times its
# average, for every brain and a range of *w*; a Gaussian is fitted to each latent's codes at each
# *w*; the field is the KL divergence between the two ends of the range, in nats.

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
from brainvae_core.cohorts import artefact_free
from brainvae_core.fields import (
    bootstrap_uncorrelatedness,
    impact_covariance,
    null_divergence,
    perturb,
    receptive_field,
    uncorrelatedness,
    uncorrelatedness_interval,
    uncorrelatedness_null,
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
clean = artefact_free(cohort)
print(cohort)

# %% [markdown]
# Held-out brains without a visible artefact, by the rule of chapter 2. The weights run from the 1st
# to the 99th percentile of each region's own brightness over the cohort, so that regions compare.

# %%
held_out = cohort.select(clean & (cohort.metadata["split"] == "test").to_numpy())
masks = cohort.atlas.roi_masks(p.rois)
brightness = cohort.split("train").images.mean(axis=0)
mean_brightness = np.array([brightness[mask].mean() for mask in masks])
weights = weight_range(
    cohort.images[clean], masks, mean_brightness=mean_brightness, n_weights=p.n_weights
)
source = f"Cohort {cohort.name}: {len(held_out)} clean test brains, one fit a model (seed {p.seed})"
print(
    f"brains (n, height, width) = {held_out.images.shape}; weights (n_rois, n_weights) = {weights.shape}"
)

# %% [markdown]
# ## Fig. S2 · The perturbed images

# %%
example = held_out.images[:1]
perturbed = np.stack(
    [
        np.concatenate([perturb(example, mask, w, b) for w in row[[0, len(row) // 2, -1]]])
        for mask, row, b in zip(masks, weights, mean_brightness, strict=True)
    ]
)
figures.fig_s2(
    perturbed, p.rois, weights[:, [0, p.n_weights // 2, -1]], pixel_um=cohort.atlas.pixel_um
).made_from(source)

# %%
received = {
    name: receptive_field(model, held_out.images, masks, weights, mean_brightness=mean_brightness)
    for name, model in models.items()
}
field, beta_vae = received["β-VAE"], models["β-VAE"]
print(
    f"divergence (n_rois, latent_dim) = {field.divergence.shape}, nats; variance floor {field.variance_floor:g}"
)

# %% [markdown]
# Shares and correlations are taken over the latents that are active on held-out brains.

# %%
test_images = cohort.split("test").images
active = {name: active_latents(model.encode(test_images)) for name, model in models.items()}

# %% [markdown]
# ## Fig. 3B · Region by latent
#
# Each region's row is normalised over the latents, as in the paper; the raw row total in nats stands
# beside it, since normalising hides that some regions move nothing much.

# %%
figures.fig_3b(field.normalised(active["β-VAE"]), p.rois, field.divergence.sum(axis=1)).made_from(
    source
)

# %% [markdown]
# In the demo profile HPF and TH stand out, and rightly so: their own brightness was planted as a factor, so
# it varies more (wider weights) and latents attend to it. The other four regions move the latents by
# a twentieth of that or less.

# %% [markdown]
# ## Against random regions
#
# Regions differ in size. The null below perturbs random connected blobs with as many pixels as
# the median region, over their own range of brightness; regions and blobs are read on the same brains.

# %%
n_pixels = int(np.median(masks.sum(axis=(1, 2))))
few = held_out.images[:24]
null = null_divergence(beta_vae, few, cohort.atlas.brain_mask, n_pixels, n_blobs=p.n_blobs, seed=0)
same = receptive_field(beta_vae, few, masks, weight_range(few, masks))
above = (same.divergence.sum(1)[:, None] > null.divergence.sum(1)).mean(1)

# %% tags=["nbval-ignore-output"]
pd.DataFrame(
    {
        "pixels": masks.sum((1, 2)),
        "total, nats": same.divergence.sum(1).round(2),
        "share of blobs below": above.round(2),
    },
    index=p.rois,
)

# %% [markdown]
# In the demo profile HPF and TH lie above nearly every blob; the other four regions do not stand out from
# random ones of the median region's size, which says that their rows in Fig. 3B, normalised to 1, are mostly shape and little effect.

# %% [markdown]
# ## Fig. 3C · Two latents while the hippocampus brightens
#
# The paper shows F1 and F5. A latent's number has no meaning across fits, so here are the two latents
# that HPF moves most and least.

# %%
hpf = p.rois.index("HPF") if "HPF" in p.rois else 0
ranked = np.argsort(field.divergence[hpf])
pair = [int(ranked[-1]), int(ranked[0])]

# %%
figures.fig_3c(
    field.codes[hpf][:, :, pair], [k + 1 for k in pair], weights[hpf], p.rois[hpf]
).made_from(source)

# %% [markdown]
# ## Fig. S3 · Every latent and every region

# %%
figures.fig_s3(field.codes, p.rois, weights).made_from(source)

# %% [markdown]
# ## Fig. 3D · Do latents share their regions?

# %%
figures.fig_3d(impact_covariance(field.divergence, active["β-VAE"])).made_from(source)

# %% [markdown]
# ## Fig. 3E · How uncorrelated the impacts are
#
# Six regions are few: *independent* columns give 0.63 here, not 1. The violin is each model's own null
# (every column permuted over regions by itself); the interval resamples brains and regions.

# %%
impacts = {name: f.divergence for name, f in received.items()}
scores = {n: uncorrelatedness(i, active[n]) for n, i in impacts.items()}
nulls = {n: uncorrelatedness_null(i, n=500, seed=0, active=active[n]) for n, i in impacts.items()}

# %%
resampled = {
    n: bootstrap_uncorrelatedness(f.bootstrapped(200, seed=0), n=200, seed=0, active=active[n])
    for n, f in received.items()
}
intervals = {n: uncorrelatedness_interval(impacts[n], resampled[n], active[n]) for n in impacts}

# %%
figures.fig_3e(scores, intervals, nulls).made_from(source)

# %% [markdown]
# In the demo profile, with six regions, the intervals are wide and overlap, and no model is clearly less correlated than its own
# null: at this scale the figure cannot rank the models.

# %% [markdown]
# ## There and back
#
# Both directions at once: the hippocampus is made brighter in the input, and the code that answers is
# decoded. How much of the change comes back in that region?

# %%
given = (weights[hpf, -1] - weights[hpf, 0]) * mean_brightness[hpf]
darkest, brightest = (beta_vae.decode(field.codes[hpf, w]) for w in (0, -1))
returned = float((brightest - darkest)[:, masks[hpf]].mean())

# %%
pd.Series(
    {
        "at least a third of HPF's change of brightness comes back": returned > given / 3,
        "HPF and TH move the latents more than any other region": {
            p.rois[i] for i in np.argsort(field.divergence.sum(1))[-2:]
        }
        == {"HPF", "TH"},
        "the most moved latent of HPF moves at least 5 times the least": bool(
            field.divergence[hpf].max() > 5 * field.divergence[hpf].min()
        ),
        "at least 6 latents are active": bool(active["β-VAE"].sum() >= 6),
    }
)
