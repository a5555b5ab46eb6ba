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
# **What does each latent change in the output, and do its two ends differ?**
#
# **Answer.** Moved by c = ±7, {glue:text}`projective_spots` of the latents make a spot brighter than any brain, and {glue:text}`projective_pca_spots` of PCA's components do. Moved by ±2,
# {glue:text}`projective_near` of the latents do. A star marks an unusually strong tail: {glue:text}`projective_star_share` of the latents have one, in the first fit {glue:text}`projective_starred`.
# Does one tail move barrel fields, hippocampus and retrosplenial areas together more than other regions? {glue:text}`projective_says_tail`.

# %% tags=["parameters", "hide-input"]
profile = "full"  # params/full.yaml, or the path of a YAML file
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
from brainvae_core.fields import (
    asymmetry,
    outlier_latents,
    projective_field,
    region_profile,
    stratified_rgb,
    tail_ratio,
    traversal,
)
from brainvae_core.figures.style import percent
from brainvae_core.latent_claims import MARGINS, projective_claims, share_of_latents
from brainvae_core.metrics import active_latents, estimate, summarise, verdict
from brainvae_core.models import fit
from brainvae_core.prepare import prepare_cohort
from brainvae_core.readings import FEW_C, clean_test
from brainvae_core.record import Record, quoted
from brainvae_core.results import table
from brainvae_core.study import compared_configs

# %% tags=["hide-input"]
cohort, configs = prepare_cohort(p), compared_configs(p)
model, pca = (
    fit(cohort, configs[name], p.places.runs, p.places.device).model for name in ("β-VAE", "PCA")
)
brains = clean_test(p, cohort)
z0 = model.encode(brains[:1])[0]
n_steps = round(p.fields.c_max / p.fields.c_step)
c = np.arange(-n_steps, n_steps + 1) * (p.fields.c_max / n_steps)
few_c = np.linspace(-p.fields.c_max, p.fields.c_max, 57)
one_code = f"Cohort {cohort.name}: from one unsuspected test brain's code, {configs['β-VAE'].title}"
source = f"{one_code}, {len(c)} values of c = ±{p.fields.c_max:g}"
print(cohort)

# %% [markdown]
# ## Fig. S4 · Sections along each latent
#
# One latent is moved by c, in prior standard deviations, from the code of one test brain. The others stay. Sections and maps are of the first fit of the β-VAE.

# %% tags=["hide-input"]
ends = np.unique([-p.fields.c_max, -2, 0, 2, p.fields.c_max])
figures.fig_s4(traversal(model, z0, ends), ends, pixel_um=cohort.atlas.pixel_um).shows(
    "One brain's section with each latent moved by 2, and to either end of its range."
).made_from(one_code)

# %% [markdown]
# Brains lie within about two standard deviations. ±2 is added to a brain's code, which often leads beyond what any brain has; no brain lies at either end. A bright blob or a dark hole at an end looks like a leak or a breakage, and training brains had such artefacts.
# So the fields of that latent may show an artefact, not anatomy.
#
# ## Fig. 3A · The field of every latent
#
# Each quarter of the range of c gives the variance of every output pixel; small c is the inner half of the range. Each variance is subtracted from white in its own colour. A star marks a latent with an unusually
# strong tail; it depends on the brain from which one starts (below).

# %%
field = projective_field(model, z0, c)

# %% tags=["hide-input"]
active = active_latents(model.encode(brains))
starred = outlier_latents(field, active) if active.sum() > 2 else np.zeros_like(active)
drawn = {"pixel_um": cohort.atlas.pixel_um, "brain_contour_mask": cohort.atlas.brain_mask}
rgb, scales = stratified_rgb(field)
figures.fig_3a(rgb, scales, starred, **drawn).shows(
    "How much each pixel varies while one latent is moved, by the part of its range."
).made_from(source)

# %% [markdown]
# Yellow is one group of large |c|, as the paper prints it, so it includes the difference between the two ends and needs a larger full scale. With
# the two outer quarters taken by themselves and their variances averaged, the colours are these:

# %% tags=["hide-input"]
rgb, scales = stratified_rgb(field, merged=True)
figures.fig_3a(rgb, scales, starred, **drawn).shows(
    "The same with the variances of the two outer quarters averaged."
).made_from(source)

# %% [markdown]
# A latent can change several places at once. Contours appear because a wider or taller brain moves every border. The same fields can be explored by hand in the
# [explorer](../book/explorer.md).
#
# ## By region
#
# The mean variance of each region's pixels, as a share of the latent's sum over the six regions.

# %% tags=["hide-input"]
profile_of = region_profile(field.variance_all, cohort.atlas.roi_masks(p.fields.rois))
figures.fig_region_profile(profile_of, p.fields.rois).shows(
    "Share of each latent's effect in each of the six regions."
).made_from(source)

# %% [markdown]
# ## Does the start matter?
#
# The paper starts from a brain's code and adds c. The prior mean and the mean code are other starts; the authors' code *sets* the latent to c.

# %% tags=["hide-input"]
mean_code = model.encode(brains).mean(axis=0)
starts = {"one brain": z0, "prior mean": np.zeros_like(z0), "mean code": mean_code}
fields = {name: projective_field(model, start, few_c) for name, start in starts.items()}
fields["one brain, set to c"] = projective_field(model, z0, few_c, absolute=True)
latents = [f"F{k + 1}" for k in range(len(z0))]
figures.fig_maps(
    {name: found.variance_all for name, found in fields.items()}, latents, **drawn, one_scale=True
).shows("What each latent (row) changes from four starts (columns).").made_from(
    f"Cohort {cohort.name}: {configs['β-VAE'].title}, {len(few_c)} values of c = ±{p.fields.c_max:g}"
)

# %% [markdown]
# Any two of these four starts give maps that correlate by {glue:text}`projective_starts` or more, over all latents together; single latents, and other brains' codes, differ more. {glue:text}`projective_few` values of c give the maps of {glue:text}`projective_c`
# (correlation {glue:text}`projective_finer`), so finer steps add nothing.
#
# ## The two sides and the tails
#
# A linear model such as PCA changes as much on both sides of zero. *Asymmetry* is 0 if the two sides of a latent are alike and 1 if only one side changes anything. The
# *tail ratio* is the variance in the stronger outer quarter over that of the inner quarters. A latent gets a star if its tail ratio stands out from the others
# ([rule](../book/method.md)). Each is read from the codes of {glue:text}`projective_n_starts` brains; the figure is of the first fit, the verdicts below are of all.

# %% tags=["hide-input"]
every, codes = table(p, "tails"), table(p, "codes").query("model == 'β-VAE'")
tails = every.query("model == 'β-VAE'")
first = tails[tails["seed"] == tails["seed"].min()]
wide = {
    score: first[first["score"] == score].pivot(index="latent", columns="brain", values="value")
    for score in ("asymmetry", "tail ratio", "star")
}
n_starts = wide["star"].shape[1]
linear = projective_field(pca, pca.encode(brains[:1])[0], few_c)
of_pca = {"asymmetry": asymmetry(linear).max(), "tail ratio": tail_ratio(linear).max()}
found = first[first["score"].isin([*of_pca])].drop(columns="model")
found = summarise(found.rename(columns={"latent": "model"}), by=["score", "model"])
of_pca = [{"score": score, "model": "PCA", "value": value} for score, value in of_pca.items()]
figures.fig_scores(found, references=pd.DataFrame(of_pca)).shows(
    "A: how strong each latent's tails are. B: how unlike its two sides are."
).made_from(
    f"Cohort {cohort.name}: from {n_starts} unsuspected test brains' codes, {FEW_C} values of c, "
    f"{configs['β-VAE'].title}; PCA from one brain's code, its largest value"
)

# %% [markdown]
# ## What the paper says
#
# - Bright spots are synthesised at the extremes of c. A spot is a connected piece of 0.1 to 20 % of the brain, brighter by 0.05 than any of the
#   {glue:text}`projective_n_test` unsuspected test brains there. Counted: latents with a spot at an end, less those with one when moved by 2.
# - Stars on latents 2, 6 and 8, whose negative tail holds outliers. Counted: the share of starred latents less one in sixteen; and whether suspected brains lie in one
#   tail of a latent, beyond chance. A latent's sign is arbitrary, so "negative" cannot be asked.
# - Barrel fields, hippocampus and retrosplenial areas in the positive tail. Counted: how one-sidedly SSp, HPF and RSP are moved together, less the other regions.

# %% tags=["hide-input"]
claims = projective_claims(tails, codes, p.fields.rois)
alike = pd.DataFrame({name: np.sqrt(of.variance_all).ravel() for name, of in fields.items()})
finer = np.corrcoef(np.sqrt(field.variance_all).ravel(), alike["one brain"])[0, 1]
alike = alike.corr().min(axis=None)
ends_share, near, stars = (
    estimate(share_of_latents(tails, score), bounds=(0, 1))
    for score in ("spot at the ends", "spot when moved by 2", "star")
)
numbers = {
    "values of c": len(c),
    f"1 − correlation of the fields of {len(few_c)} values of c and of all": 1 - finer,
    "smallest correlation of fields from two starting points": alike,
    "share of latents with a spot at the ends of c": ends_share,
    "share of latents with a spot when moved by 2 SD": near,
    "share of starred latents": stars,
}
Record(numbers, claims, MARGINS)

# %% tags=["hide-input", "hide-output"]
told = {claim: verdict(of.values(), MARGINS[claim]) for claim, of in claims.items()}
of_components = share_of_latents(every.query("model == 'PCA'"), "spot at the ends")
own = codes[codes["seed"] == configs["β-VAE"].seed]
often = wide["star"].mean(axis=1)
often = ", ".join(
    f"{k} (from {round(share * n_starts)} of {n_starts} starting brains)"
    for k, share in often.items()
    if share
)
quoted(
    projective_spots=percent(ends_share.value, 0),
    projective_near=percent(near.value, 0),
    projective_pca_spots=percent(of_components.mean(), 0),
    projective_starred=often or "no latent",
    projective_star_share=percent(stars.value, 0),
    projective_says_tail=told.get("one tail moves SSp, HPF and RSP", "not asked"),
    projective_starts=alike,
    projective_few=len(few_c),
    projective_c=len(c),
    projective_finer=finer,
    projective_n_starts=n_starts,
    projective_n_test=len(brains),
    projective_n_fits=f"{tails['seed'].nunique()} fit{'s' * (tails['seed'].nunique() > 1)}",
)

# %% tags=["hide-input"]
pd.Series(
    {
        "the section decoded at z0 correlates > 0.9 with the brain": np.corrcoef(
            model.decode(z0[None]).ravel(), brains[0].ravel()
        )[0, 1]
        > 0.9,
        "PCA's field has no asymmetry (below 0.001)": asymmetry(linear).max() < 1e-3,
        "the β-VAE's has, in every latent (above 0.01)": wide["asymmetry"].mean(axis=1).min()
        > 0.01,
        "every latent moves some pixel by more than 0.01 (standard deviation)": (
            field.variance_all.max(axis=(1, 2)) > 1e-4
        ).all(),
        "the maps from any two starts correlate above 0.7": alike > 0.7,
        "57 steps show what all do (correlation above 0.99)": finer > 0.99,
        "more latents have a spot at the ends than when moved by 2 SD": ends_share.value
        > near.value,
        "the kept tables are this model's": np.allclose(
            model.encode(brains[:2]).ravel(),
            own.loc[own["clean"] == 1, "value"][: 2 * len(z0)],
            atol=0.01,
        ),
    }
).astype(bool).to_frame("true")

# %% [markdown]
# **How sure.** {glue:text}`projective_n_fits` of the β-VAE at 320 × 448. Maps are from one brain's code in the first fit, tails and spots from those of {glue:text}`projective_n_starts` brains in every fit.
# Intervals of the verdicts are over these starts and fits. Another fit has other latents, so we compare shares of latents, not single stars. PCA's
# components make spots as well, about as many more at ±7 than at ±2: spots show how far c goes, not what a VAE learned. Brains are simulated, by factors of which none moves SSp,
# HPF and RSP together.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
