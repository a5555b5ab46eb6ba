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
# # 18 · Any model: ask one that this project did not make
#
# **What does a model of one's own see, and what does it paint?** Chapters 13 and 14 ask a model for two things, so they can ask any model that has
# them: `encode(images)`, from grey values (n, height, width) in [0, 1] to codes (n, latent_dim), and `decode(z)`, from codes to images. A model that
# says how sure it is also has `posterior(images)`, means and standard deviations of the codes. `FromSklearn` gives these methods to a fitted estimator of scikit-learn,
# and `FromTorch` to modules of torch. One thing is to be chosen: the analysis goes in steps of standard deviations, and the codes of a model that was not
# made for it have any size. With `images=` they are divided by their standard deviations over these brains.
#
# Here are two models that are not among this project's, a parcellation and an autoencoder. From the fitted model to the figure it takes five lines each.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
rois = None  # the profile's, as the next
latent_dim = None

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch
from brainvae_core import figures
from brainvae_core.cohorts import clean_part
from brainvae_core.fields import (
    projective_field,
    receptive_field,
    region_profile,
    stratified_rgb,
    weight_range,
)
from brainvae_core.metrics import explained_variance
from brainvae_core.models import FromSklearn, FromTorch
from brainvae_core.prepare import prepare_cohort
from brainvae_core.study import fitted_models
from sklearn.cluster import FeatureAgglomeration
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

# %%
whole = prepare_cohort(p)
cohort = whole.resampled(p.evaluation.shape)
train, test = cohort.split("train").images, cohort.split("test").images
ours = fitted_models(p, "evaluated", cohort)
print(cohort)

# %% [markdown]
# What every model is asked with: clean brains that none was fitted to, the regions, the range of each region's brightness over these brains, and the
# values of c by which a latent is moved.

# %%
shape, masks = cohort.atlas.shape, cohort.atlas.roi_masks(p.fields.rois)
brains = clean_part(whole, "test").resampled(shape).images[: p.fields.n_read]
weights, c = weight_range(brains, masks), np.linspace(-p.fields.c_max, p.fields.c_max, 141)
sized = f"Cohort {cohort.name} at {p.evaluation.shape[0]} × {p.evaluation.shape[1]}"
source = f"{sized}: {len(brains)} clean test brains, L = {p.model.latent_dim}, one fit"
print(f"brains (n, height, width) = {brains.shape}; c from {c[0]:g} to {c[-1]:g}")

# %% [markdown]
# ## From scikit-learn: a parcellation
#
# The pipeline takes the mean brain away and joins neighbouring pixels that vary together, until there are as many parcels as the other models have
# latents. A code is the mean grey value of each parcel, and decoding paints the parcel with it.

# %%
grid = grid_to_graph(*shape)  # which pixels touch
steps = StandardScaler(with_std=False), FeatureAgglomeration(p.model.latent_dim, connectivity=grid)
pipeline = make_pipeline(*steps).fit(train.reshape(len(train), -1))

# %%
parcels = FromSklearn(pipeline, shape, images=train)
seen = receptive_field(parcels, brains, masks, weights)
painted = projective_field(parcels, parcels.encode(brains[:1])[0], c)
moved = region_profile(painted.variance_all, masks)
figures.fig_region_profile(moved, p.fields.rois, seen.divergence).shows(
    "What the parcellation's latents paint and what they see."
).made_from(f"{source}; painted from one brain's code")

# %% [markdown]
# In the demo profile both directions say much the same, because a parcel is read and painted at the same pixels: F5 is the thalamus and F4 lies in the
# hippocampus. F3 is what is left over: the outside of the brain with the tissue at its base, the hypothalamus among it, and hardly varies.

# %%
rgb, scales = stratified_rgb(painted)
figures.fig_3a(
    rgb,
    scales,
    np.zeros(p.model.latent_dim, dtype=bool),  # a linear model has no tail to star
    pixel_um=cohort.atlas.pixel_um,
    brain_contour_mask=cohort.atlas.brain_mask,
).shows(
    "The parcels, one a panel. These codes have no prior: c is in standard deviations "
    "of each code over the training brains."
).made_from(f"{sized}: from one clean test brain's code, {len(c)} values of c, one fit")

# %% [markdown]
# All is grey (F3 so faint that it is nearly white), for a linear model moves a pixel alike at every c. In the demo profile F4 is the hippocampus of one side only, and that of the other side went with its cortex into F1,
# for nobody told this model that brains are symmetric; F6 to F8 are rims, which a wider or taller brain moves.
#
# ## From torch: an autoencoder
#
# Two modules and a loop of a few seconds. The encoder sees blocks of 4 × 4 pixels, and the decoder starts from the mean brain.

# %%
torch.manual_seed(p.model.seed)
n_blocks, n_pixels = (shape[0] // 4) * (shape[1] // 4), shape[0] * shape[1]
encoder = nn.Sequential(
    nn.AvgPool2d(4), nn.Flatten(), nn.BatchNorm1d(n_blocks, affine=False),
    nn.Linear(n_blocks, 64), nn.ReLU(), nn.Linear(64, p.model.latent_dim),
)  # fmt: skip
decoder = nn.Sequential(
    nn.Linear(p.model.latent_dim, 64), nn.ReLU(), nn.Linear(64, n_pixels), nn.Unflatten(1, shape),
)  # fmt: skip

# %%
images = torch.from_numpy(train)
decoder[2].bias.data = images.mean(dim=0).flatten()
optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
for _ in range(300):
    batch = images[torch.randint(len(images), (32,))]
    optimiser.zero_grad()
    nn.functional.mse_loss(decoder(encoder(batch[:, None])), batch).backward()
    optimiser.step()

# %%
autoencoder = FromTorch(encoder, decoder, shape, images=train, device=p.places.device)
ae_seen = receptive_field(autoencoder, brains, masks, weights)
ae_painted = projective_field(autoencoder, autoencoder.encode(brains[:1])[0], c)
ae_moved = region_profile(ae_painted.variance_all, masks)
figures.fig_region_profile(ae_moved, p.fields.rois, ae_seen.divergence).shows(
    "What the autoencoder's latents paint and what they see."
).made_from(f"{source}; painted from one brain's code")

# %% [markdown]
# In the demo profile the autoencoder paints nearly every region with every latent and sees little but the hippocampus and the thalamus, whose brightness was planted: here the two
# directions do not say the same.
#
# ## Side by side
#
# Each region's row as shares over the latents, and the row's sum (Fig. 3B): the parcellation, the autoencoder, and this project's β-VAE of the same size.

# %%
figures.fig_3b(seen.normalised(), p.fields.rois, seen.divergence.sum(axis=1)).shows(
    "The parcellation: which latents answer to each region."
).made_from(source)

# %% [markdown]
# In the demo profile HPF, TH and HY move one parcel each. Sums of hundreds of nats do not say how well they are seen: a parcel that lies within a region is as bright in
# every brain once the region is set to one brightness, and the width of the Gaussians is then the least that is assumed (a variance of 1e-4).

# %%
figures.fig_3b(ae_seen.normalised(), p.fields.rois, ae_seen.divergence.sum(axis=1)).shows(
    "The autoencoder: which latents answer to each region."
).made_from(source)

# %% [markdown]
# In the demo profile the same two regions move the autoencoder most, and each moves several of its latents.

# %%
beta_vae = ours["β-VAE"][0]
vae_seen = receptive_field(beta_vae, brains, masks, weights)
figures.fig_3b(vae_seen.normalised(), p.fields.rois, vae_seen.divergence.sum(axis=1)).shows(
    "The β-VAE: which latents answer to each region."
).made_from(source)

# %% [markdown]
# In the demo profile the same two regions move the β-VAE most too: each moves one latent more than the others, and not that one alone.
# The hypothalamus, which moves one parcel alone, is spread over most of the latents here.
#
# ## Tidy is not the same as good
#
# The largest share that any one latent has of a region's shifts (√(2 KL), which the floor swamps less), beside how much of the test brains' variance each model explains.

# %%
models = {"parcellation": parcels, "autoencoder": autoencoder, "β-VAE": beta_vae}
fields = dict(zip(models, (seen, ae_seen, vae_seen), strict=True))
models["PCA"] = ours["PCA"][0]
fields["PCA"] = receptive_field(models["PCA"], brains, masks, weights)
shift = {name: np.sqrt(2 * field.divergence) for name, field in fields.items()}
share = {
    name: (found / found.sum(axis=1, keepdims=True)).max(axis=1) for name, found in shift.items()
}
explained = {
    name: explained_variance(test, model.reconstruct(test), train.mean(axis=0))
    for name, model in models.items()
}

# %% tags=["nbval-ignore-output"]
table = pd.DataFrame(share, index=p.fields.rois).T
table.assign(**{"variance explained": explained}).round(2)

# %% [markdown]
# In the demo profile the parcellation has the tidiest fields, in most regions, and explains the least: fields say where a model looks, not how much
# it knows. β-VAE and PCA explain about as much.

# %%
itself = pipeline.inverse_transform(pipeline.transform(test.reshape(len(test), -1)))
codes = [model.encode(train) for model in (parcels, autoencoder)]
top = [set(np.argsort(field.divergence.sum(axis=1))[-2:]) for field in fields.values()]
both = sorted(top[0])

# %%
pd.Series(
    {
        "a wrapped pipeline paints what the pipeline paints": bool(
            np.abs(parcels.reconstruct(test) - itself.reshape(test.shape)).max() < 1e-5
        ),
        "codes have unit variance over the training brains": all(
            np.allclose(z.std(axis=0, ddof=1), 1, atol=1e-3) for z in codes
        ),
        "modules are in training mode as they were left": encoder.training and decoder.training,
        "the same two regions move every model most": all(pair == top[0] for pair in top),
        "they move one parcel each more than one latent of the autoencoder": bool(
            (share["parcellation"][both] > share["autoencoder"][both]).all()
        ),
        "the parcellation explains least": min(explained, key=explained.get) == "parcellation",
    }
)

# %% [markdown]
# **Found.** Whatever has `encode` and `decode` can be read in both directions, in a few lines. What the fields look like says how a model is built, and
# not how much it knows: the tidiest one here explains least.
# How sure: one fit of each model at the demo's size; this chapter is about how to ask, not about which model is best.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
