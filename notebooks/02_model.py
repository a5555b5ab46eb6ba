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
# # 2 · The model, and the bi-directional idea
#
# **What is fitted, and how will it be read?** A β-VAE squeezes a section into a few numbers (the
# *latents*) and paints a section back from them. It is then read in both directions: *receptive
# fields* perturb a region of the input and watch the latents; *projective fields* move a latent and
# watch the output.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
latent_dim = None  # the profile's, as the next
beta = None
likelihood = None

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.fields import perturb
from brainvae_core.models import BetaVAE, effective_strength, fit, sigma_at
from brainvae_core.prepare import prepare_cohort
from brainvae_core.study import compared_configs

# %%
cohort = prepare_cohort(p)
source = f"Cohort {cohort.name}, one test brain"
print(cohort)

# %% [markdown]
# ## The architecture
#
# Seven convolutions and three fully connected layers, mirrored in the decoder: 32 channels
# throughout, six 4 × 4 convolutions of stride 2 and one of stride 1, then 256, 256 and 2L units, as
# in the authors' released model. That is the network at 320 × 448. For every halving of the image it has
# one stride-2 convolution less on each side, all else equal.

# %%
for shape in ((320, 448), (160, 224), (80, 112)):
    model = BetaVAE(latent_dim=8, image_shape=shape)
    print(shape, f"{model.n_parameters:,} parameters at L = 8")

# %% [markdown]
# ## The objective
#
# The paper's equations 1 and 2 stand on [the method page](../book/method.md). In nats *per image*, summed over
# pixels and latents:
#
# $$-\mathrm{ELBO}_\beta = -\mathbb{E}_{q_\phi(z\mid x)}[\log p_\theta(x\mid z)]
#   + \beta\,\mathrm{KL}(q_\phi(z\mid x)\,\|\,\mathcal N(0, I))$$
#
# β weighs against a sum over pixels: at half the resolution it would be four times as strong. So σ is derived from
# the size: it is √0.2 at the paper's 320 × 448 (greys under Bernoulli weigh like σ² = 0.2), and σ² goes with the
# number of pixels. β = 3 is then one strength at every size, the paper's if its likelihood was Bernoulli.

# %%
sizes = {
    "this chapter's model": p.cohort.shape,
    "the grid's models": p.grid.shape,
    "the evaluation's models": p.evaluation.shape,
    "the paper": (320, 448),
}
sigmas = [sigma_at(p.model.likelihood, size) for size in sizes.values()]
print(
    f"effective strength of β = {p.model.beta:g}: {effective_strength(p.model.beta, p.model.likelihood):.2e}"
)
pd.DataFrame({"size (pixels)": sizes.values(), "σ (grey values)": sigmas}, sizes.keys()).round(3)

# %% [markdown]
# ## Fig. 1 · Both directions, with this cohort's own images
#
# A1 → A2: every pixel of the hippocampal formation (HPF) of one test brain is given one brightness, 1.4
# times the mean that the region had, so its texture is gone too; and the code moves.
# B1 → B2: one latent is moved, and the decoded section changes.

# %%
run = fit(cohort, compared_configs(p)["β-VAE"], p.places.runs, p.places.device)
section = cohort.split("test").images[:1]
roi_mask = cohort.atlas.roi_masks(["HPF"])[0]
code = run.model.encode(section)
print(f"section {section.shape} → code (n, latent_dim) = {code.shape}")

# %%
region_mean = float(section[:, roi_mask].mean())
brighter = perturb(section, roi_mask, 1.4, region_mean)
perturbed_code = run.model.encode(brighter)
most_moved = int(np.abs(perturbed_code - code).argmax())
moved_code = code.copy()
moved_code[0, most_moved] += 3

# %%
layer_shapes = run.model.layer_shapes()
decoded, decoded_moved = run.model.decode(np.concatenate([code, moved_code]))

# %%
figures.fig_1(
    section[0],
    brighter[0],
    code[0],
    perturbed_code[0],
    moved_code[0],
    decoded,
    decoded_moved,
    roi_mask,
    "HPF",
    layer_shapes,
    pixel_um=cohort.atlas.pixel_um,
).made_from(source)

# %% [markdown]
# In the demo profile codes spread hardly wider than the prior before anything is changed. The latent that the
# hippocampal formation moves most paints it more than the rest of the brain, but the rest too.

# %%
spread = run.model.encode(cohort.split("train").images).std(axis=0).mean()
change = np.abs(decoded_moved - decoded).reshape(roi_mask.shape)
rest = cohort.atlas.brain_mask & ~roi_mask
pd.Series(
    {
        "a latent moves by more than 0.1 when HPF is brighter": bool(
            np.abs(perturbed_code - code).max() > 0.1
        ),
        "a pixel of the output changes by more than 0.02": bool(change.max() > 0.02),
        "HPF changes more than the rest of the brain": bool(
            change[roi_mask].mean() > change[rest].mean()
        ),
        "the rest changes by more than 0.01": bool(change[rest].mean() > 0.01),
        "the training brains' codes spread hardly wider than the prior": bool(spread < 1.2),
        "the decoded section correlates > 0.9 with the input": bool(
            np.corrcoef(decoded.ravel(), section.ravel())[0, 1] > 0.9
        ),
    }
)

# %% [markdown]
# **Found.** At the paper's size the network has as many parameters as the authors' (730,289 at L = 8); this chapter's has one stride-2
# convolution less on each side. In the demo profile both arrows carry something: the code answers to a region, in several latents, and the
# section to a latent, in more than one region. How sure: one brain, one latent, one fit; an illustration. Whether the arrows can be trusted is
# measured in chapters 13 to 17.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
