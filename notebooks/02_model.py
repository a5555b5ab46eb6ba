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
# # 2 · The model, and how it is read
#
# **What is fitted, and how is it read in both directions?**
#
# **Answer.** A β-VAE writes the {glue:text}`model_pixels` grey values of a section as {glue:text}`model_latents` numbers, its *latents*, and decodes a
# section from them with {glue:text}`model_parameters` parameters in all. When the hippocampal formation (HPF) of one test brain is brightened, latent
# {glue:text}`model_latent` moves most, by {glue:text}`model_moved` prior standard deviations. When {glue:text}`model_latent` alone is moved as far, HPF
# changes {glue:text}`model_ratio` times as much as the rest of the brain; of the other latents, moved as far, {glue:text}`model_ratios` times. So the latent that sees a region most need not be
# the one that changes it most.

# %% tags=["parameters", "hide-input"]
profile = "full"  # params/full.yaml, or the path of a YAML file
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
from brainvae_core.cohorts import clean_part
from brainvae_core.fields import perturb
from brainvae_core.models import BetaVAE, effective_strength, fit, sigma_at
from brainvae_core.prepare import prepare_cohort
from brainvae_core.record import quoted
from brainvae_core.study import compared_configs

# %% [markdown]
# ## The network
#
# The encoder has seven convolutions, six of them with stride 2, and three fully connected layers of 256, 256 and 2L units. The decoder is its mirror image.
# These are the layers of the paper's released model, which has 730,289 parameters at L = 8 and 320 × 448. A smaller image has one stride-2 convolution less on each
# side for every halving.

# %% tags=["hide-input"]
sizes = [(320, 448), (160, 224), (80, 112), (40, 56)]
networks = [BetaVAE(latent_dim=8, image_shape=size) for size in sizes]
pd.DataFrame(
    {
        "parameters at L = 8": [f"{network.n_parameters:,}" for network in networks],
        "σ (grey values)": [f"{sigma_at(p.model.likelihood, size):.3f}" for size in sizes],
    },
    pd.Index([f"{height} × {width}" for height, width in sizes], name="pixels"),
)

# %% [markdown]
# ## What L, β and σ mean
#
# The loss is the negative evidence lower bound (ELBO), in nats *per image*, summed over pixels and latents:
#
# $$-\mathrm{ELBO}_\beta = -\mathbb{E}_{q_\phi(z\mid x)}[\log p_\theta(x\mid z)]
#   + \beta\,\mathrm{KL}(q_\phi(z\mid x)\,\|\,\mathcal N(0, I))$$
#
# The paper's own equations 1 and 2 stand on [the method page](../book/method.md).
#
# | | means | the paper |
# |---|---|---|
# | **L** | the number of latents: how many numbers describe a section | 8 |
# | **β** | what a nat of the code costs, in nats of error; a large β makes the latents say less | 3; the VAE is β = 1 |
# | **σ** | the error that one pixel may have, in grey values; a small σ makes every error costly | not stated |
#
# The error sums over pixels and the code does not. At half the resolution, β = 3 would weigh four times as much. Therefore σ² follows the number of pixels
# (table above), so that β has one strength at every size. At 320 × 448 the Gaussian's σ is √0.2: errors then weigh about as much as under the Bernoulli likelihood of the authors' base code.
# The strength βσ² per pixel is {glue:text}`model_strength` at β = {glue:text}`model_beta`.
#
# ## Fig. 1 · Both directions
#
# A *receptive field* asks what in the input a latent answers to: a region is changed, and the codes before and after are compared (A1, A2). A *projective field* asks
# which output pixels a latent changes: one latent is moved, and the decoded sections are compared (B1, B2). The latent in B is the one that answered most in A, and it is moved
# as far as it moved there. One call fits the model, or loads it where it is fitted.

# %%
cohort = prepare_cohort(p)
print(cohort)
run = fit(cohort, compared_configs(p)["β-VAE"], p.places.runs, p.places.device)

# %% tags=["hide-input"]
section = clean_part(cohort).images[:1]
roi_mask = cohort.atlas.roi_masks(["HPF"])[0]
brighter = perturb(section, roi_mask, 1.4, float(section[:, roi_mask].mean()))
code, answered = run.model.encode(np.concatenate([section, brighter]))
most_moved = int(np.abs(answered - code).argmax())
moved = np.where(np.arange(len(code)) == most_moved, answered, code)
decoded, decoded_moved = run.model.decode(np.stack([code, moved]))

# %% tags=["hide-input"]
figures.fig_1(
    section[0],
    brighter[0],
    code,
    answered,
    moved,
    decoded,
    decoded_moved,
    roi_mask,
    "HPF",
    run.model.layer_shapes(),
    pixel_um=cohort.atlas.pixel_um,
).shows(
    "Every pixel of HPF of one test brain gets 1.4 times the mean brightness of its HPF (A1): "
    f"F{most_moved + 1} moves most (A2). In B it alone is moved as far, and the decoded section changes (B2)."
).made_from(f"Cohort {cohort.name}, one test brain, {run.config.title}")

# %% [markdown]
# One region moves several latents, and one latent changes several regions. Chapters 7 to 9 measure both directions for every latent and region.

# %% tags=["hide-input"]
far = abs(float(answered[most_moved] - code[most_moved]))
each = code + far * np.diag(np.sign(answered - code))  # every latent alone, the way it answered
change = np.abs(run.model.decode(each.astype(np.float32)) - decoded.reshape(1, *roi_mask.shape))
rest = cohort.atlas.brain_mask & ~roi_mask
ratios = change[:, roi_mask].mean(axis=1) / change[:, rest].mean(axis=1)
others = np.delete(ratios, most_moved)
quoted(
    model_pixels=section.size,
    model_latents=len(code),
    model_parameters=run.model.n_parameters,
    model_latent=f"F{most_moved + 1}",
    model_moved=f"{far:.1f}",
    model_ratio=f"{ratios[most_moved]:.1f}",
    model_ratios=f"{others.min():.1f} to {others.max():.1f}",
    model_beta=run.config.beta,
    model_strength=f"{1e6 * effective_strength(p.model.beta, p.model.likelihood):.1f} × 10⁻⁶",
)

# %% tags=["hide-input"]
spread = run.model.encode(cohort.split("validation").images).std(axis=0).mean()
pd.Series(
    {
        "a latent moves by more than 0.5 when HPF is brighter": far > 0.5,
        "the rest of the brain changes too": bool(change[most_moved, rest].mean() > 0.001),
        "the validation brains' codes spread hardly wider than the prior": bool(spread < 1.2),
        "the decoded section correlates > 0.9 with the input": bool(
            np.corrcoef(decoded.ravel(), section.ravel())[0, 1] > 0.9
        ),
    }
).to_frame("true")

# %% [markdown]
# **How sure.** One brain, one region, one latent, one fit: an illustration. Another fit has other latents, so the number {glue:text}`model_latent` means nothing elsewhere.
# The equality of parameters with the released model is exact at 320 × 448 and L = 8.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
