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
# # 8 · Projective fields: move a latent, watch the brain
#
# **What does each latent paint?** One latent is moved over ±7 prior standard deviations (`c_max`) from the code
# of one real brain of the cohort, in steps of 0.005 as in the paper, everything is decoded, and the
# variance of every pixel is taken in four quartiles of the range.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
rois = None  # the profile's, as the next
c_max = None
c_step = None

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.cohorts import artefact_free
from brainvae_core.fields import (
    asymmetry,
    outlier_latents,
    projective_field,
    region_profile,
    stratified_rgb,
    tail_ratio,
    traversal,
)
from brainvae_core.metrics import active_latents, scores_table, summarise
from brainvae_core.models import fit
from brainvae_core.prepare import prepare_cohort
from brainvae_core.record import Record
from brainvae_core.study import compared_configs

# %%
cohort = prepare_cohort(p)
configs = compared_configs(p)
models = {
    name: fit(cohort, configs[name], p.places.runs, p.places.device).model
    for name in ("PCA", "β-VAE")
}
model, pixel_um = models["β-VAE"], cohort.atlas.pixel_um
print(cohort)

# %%
clean = artefact_free(cohort) & (cohort.metadata["split"] == "test").to_numpy()
brains = cohort.images[clean]
z0 = model.encode(brains[:1])[0]
n_steps = round(p.fields.c_max / p.fields.c_step)
c = np.arange(-n_steps, n_steps + 1) * (p.fields.c_max / n_steps)

# %%
field = projective_field(model, z0, c)
one_code = f"Cohort {cohort.name}: from one clean test brain's code, {configs['β-VAE'].told}"
source = f"{one_code}, c = ±{p.fields.c_max:g} by {p.fields.c_step:g}"
print(f"c: {len(c)} values a latent, {len(c) * p.model.latent_dim:,} images decoded")
print(f"variance (latent_dim, quartiles, height, width) = {field.variance.shape}")

# %% [markdown]
# ## Fig. S4 · Sections along each latent

# %%
c_shown = p.fields.c_max * np.array([-1, -0.5, -0.2, 0, 0.2, 0.5, 1])
along = traversal(model, z0, c_shown)
figures.fig_s4(along, c_shown, pixel_um=pixel_um).shows(
    "What the decoder paints along each latent."
).made_from(one_code)

# %% [markdown]
# The same as differences from the middle, which show what small steps do.

# %%
figures.fig_s4(along, c_shown, pixel_um=pixel_um, difference=True).shows(
    "What changes along each latent."
).made_from(one_code)

# %% [markdown]
# ## Fig. 3A · The field of every latent
#
# Variance is *removed* from white: cyan where small positive c moves the output, magenta where small
# negative c does, yellow where only large |c| does; dark where all do. A star would mark latents whose
# outer quartiles stand out by the rule of the [method page](../book/method.md); in the demo profile none does. A latent's sign is arbitrary.

# %%
active = active_latents(model.encode(cohort.split("test").images))
rgb, scales = stratified_rgb(field)
enough = active.sum() >= 3  # for one of them to stand out
starred = outlier_latents(field, active) if enough else np.zeros_like(active)
named = {"pixel_um": pixel_um, "brain_contour_mask": cohort.atlas.brain_mask}

# %%
figures.fig_3a(rgb, scales, starred, **named).made_from(source)

# %% [markdown]
# In the demo profile several latents paint what was planted: the hippocampus, the thalamus, the cortex and the outline of the
# brain. The contours light up because a wider or taller brain moves every border.
#
# ## The four quartiles, and none
#
# The variance within each quartile of c and over all of c, on one scale a latent: what the coloured
# picture is made of, and what it hides. Between the ends of the range a latent moves the output far more than
# within any quarter of it.

# %%
latents = [f"F{k + 1}" for k in range(p.model.latent_dim)]
half = p.fields.c_max / 2
quartiles = (f"c < −{half:g}", f"−{half:g} ≤ c < 0", f"0 < c ≤ {half:g}", f"c > {half:g}")
maps = {name: field.variance[:, i] for i, name in enumerate(quartiles)}

# %%
figures.fig_maps({**maps, "all c": field.variance_all}, latents, **named, one_scale=True).shows(
    "What each latent paints within each quarter of its range, and over all of it."
).made_from(source)

# %% [markdown]
# ## From where a latent is moved
#
# Four starting points, with fewer values of c: the same brain, the mean of the prior, the mean of the codes of the
# test brains, and the authors' way, which *sets* the latent to c where the paper adds c.

# %%
few = np.linspace(-p.fields.c_max, p.fields.c_max, 57)
mean_code = model.encode(brains).mean(axis=0)
starts = {"one brain": z0, "prior mean": np.zeros_like(z0), "mean code": mean_code}
fields = {name: projective_field(model, start, few) for name, start in starts.items()}
fields["one brain, set to c"] = projective_field(model, z0, few, absolute=True)

# %%
figures.fig_maps(
    {name: found.variance_all for name, found in fields.items()}, latents, **named, one_scale=True
).shows("What each latent paints from four starting points.").made_from(
    f"Cohort {cohort.name}: {configs['β-VAE'].told}, {len(few)} values of c = ±{p.fields.c_max:g}; "
    f"mean code of {len(brains)} clean test brains"
)

# %%
every = pd.DataFrame({name: np.sqrt(f.variance_all).ravel() for name, f in fields.items()})
alike = every.corr().min(axis=None)
finer = np.corrcoef(np.sqrt(field.variance_all).ravel(), every["one brain"])[0, 1]
print(f"fields from any two starting points correlate by more than 0.8: {alike > 0.8}")
print(f"57 steps against {len(c)}: correlation {finer:.3f}")

# %% [markdown]
# ## By region
#
# The mean variance of each region's pixels (a sum would favour large regions) as a share of the latent's sum over regions, for the six regions of
# chapter 7 and for every region of this slice.

# %%
regions = cohort.atlas.regions(p.fields.region_share)
profile = region_profile(field.variance_all, cohort.atlas.roi_masks(p.fields.rois))
figures.fig_region_profile(profile, p.fields.rois).shows(
    "How each latent's effect is shared out over the six regions."
).made_from(source)

# %%
by_part = region_profile(field.variance_all, cohort.atlas.roi_masks(regions))
figures.fig_region_profile(by_part, regions).shows(
    "How each latent's effect is shared out over every region of this slice."
).made_from(source)

# %% [markdown]
# ## How far from linear, and which side
#
# PCA is linear: its field is its squared loadings, the same on both sides of zero. **Asymmetry** is how
# unlike the two sides of a latent are (0 alike, 1 only one side moves anything), whichever side that is; the
# **tail ratio** is the variance in the stronger outer quartile over that of the inner ones. Each is measured
# from the codes of many brains, which gives an interval.

# %%
many = model.encode(brains[:: max(len(brains) // 16, 1)])
from_brains = [projective_field(model, z, few) for z in many]
sides = np.array([asymmetry(found) for found in from_brains])
tails = np.array([tail_ratio(found) for found in from_brains])

# %%
linear = projective_field(models["PCA"], models["PCA"].encode(brains[:1])[0], few)
measures = {
    "Asymmetry of the two sides": (sides, asymmetry(linear)),
    "Tail ratio": (tails, tail_ratio(linear)),
}
found = [
    summarise(scores_table(values.T, axes={"model": latents}), by="model").assign(score=score)
    for score, (values, _) in measures.items()
]
of_pca = [
    {"score": score, "model": "PCA", "value": float(values.max())}
    for score, (_, values) in measures.items()
]
figures.fig_scores(pd.concat(found), references=pd.DataFrame(of_pca)).shows(
    "How far each latent of the β-VAE is from a linear one."
).made_from(
    f"Cohort {cohort.name}: from {len(many)} clean test brains' codes, {len(few)} values of c, "
    f"{configs['β-VAE'].told}; PCA from one brain's code, its largest value"
)

# %% tags=["nbval-ignore-output"]
Record(
    {
        "values of c": len(c),
        f"1 − correlation of the fields of {len(few)} values of c and of all": 1 - finer,
        "smallest correlation of fields from two starting points": alike,
    },
    n_brains=1,
    n_seeds=1,
)

# %%
mean_side = pd.Series(sides.mean(axis=0), latents)

# %%
pd.Series(
    {
        "the section decoded at z0 correlates > 0.9 with the brain": np.corrcoef(
            model.decode(z0[None]).ravel(), brains[0].ravel()
        )[0, 1]
        > 0.9,
        "PCA's field has no asymmetry (below 0.001)": (asymmetry(linear) < 1e-3).all(),
        "the β-VAE's has, in every latent (above 0.01)": mean_side.min() > 0.01,
        "every latent moves some pixel by more than 0.01 (standard deviation)": (
            field.variance_all.max(axis=(1, 2)) > 1e-4
        ).all(),
        "the maps from any two starts correlate above 0.7": alike > 0.7,
        "but are not the same (below 0.99)": alike < 0.99,
        "57 steps show what 2,801 do (correlation above 0.99)": finer > 0.99,
    }
).astype(bool)

# %% [markdown]
# **Found.** Most latents paint several places at once, and none is alike on its two sides. From where a latent
# is moved matters little: maps from any two of the four starts correlate by 0.93 or more, though single spots differ. Fine steps cost much and add little:
# 57 values of c show the same pattern as 2,801 (variances of so few are somewhat larger).
# How sure: one fit; asymmetry and tails are means over the codes of 17 brains, with intervals; maps are from one brain's code.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
