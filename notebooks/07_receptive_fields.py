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
# # 7 · Receptive fields: perturb the brain, watch the latents
#
# **Which latents listen to which region?** A region's brightness is replaced by *w* times its
# average, for every brain and a range of *w*; a Gaussian is fitted to each latent's codes at each
# *w*; the field is the KL divergence between the two ends of the range, in nats. A number of nats
# by itself says little, so every region stands beside a hundred random pieces of brain of its size.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
rois = None  # the profile's, as the next
n_weights = None
n_read = None

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.cohorts import artefact_free
from brainvae_core.fields import null_divergence, perturb, receptive_field, weight_range
from brainvae_core.metrics import active_latents
from brainvae_core.models import fit
from brainvae_core.prepare import prepare_cohort
from brainvae_core.record import Record
from brainvae_core.study import compared_configs

# %%
cohort = prepare_cohort(p)
config = compared_configs(p)["β-VAE"]
model = fit(cohort, config, p.places.runs, p.places.device).model
clean = artefact_free(cohort)
print(cohort)

# %% [markdown]
# Held-out brains without a visible artefact, by the rule of chapter 1. The weights run from the 1st
# to the 99th percentile of each region's own brightness over the cohort, so that regions compare.

# %%
held_out = cohort.select(clean & (cohort.metadata["split"] == "test").to_numpy()).images
masks = cohort.atlas.roi_masks(p.fields.rois)
brightness = cohort.split("train").images.mean(axis=0)
mu = np.array([brightness[mask].mean() for mask in masks])
weights = weight_range(
    cohort.images[clean], masks, mean_brightness=mu, n_weights=p.fields.n_weights
)

# %%
active = active_latents(model.encode(cohort.split("test").images))
source = f"Cohort {cohort.name}: {len(held_out)} clean test brains, {config.told}"
fewer = (
    f"Cohort {cohort.name}: {min(p.fields.n_read, len(held_out))} clean test brains, "
    f"each region's range over them, {config.told}"
)
print(
    f"brains (n, height, width) = {held_out.shape}; weights (n_rois, n_weights) = {weights.shape}"
)
print(f"active latents: {active.sum()} of {p.model.latent_dim}")

# %%
Record(
    {
        "clean test brains": len(held_out),
        "regions": len(p.fields.rois),
        "latents": p.model.latent_dim,
    }
)

# %% [markdown]
# ## Fig. S2 · The perturbed images

# %%
shown = np.linspace(0, p.fields.n_weights - 1, min(p.fields.n_weights, 5)).round().astype(int)
perturbed = [
    np.concatenate([perturb(held_out[:1], mask, w, b) for w in row[shown]])
    for mask, row, b in zip(masks, weights, mu, strict=True)
]
figures.fig_s2(
    np.stack(perturbed), p.fields.rois, weights[:, shown], pixel_um=cohort.atlas.pixel_um
).made_from(f"Cohort {cohort.name}: one clean test brain")

# %% [markdown]
# ## Fig. 3B · Region by latent
#
# Each region's row is normalised over the latents, as in the paper; the raw row total in nats stands
# beside it, since normalising hides that some regions move nothing much.

# %%
field = receptive_field(model, held_out, masks, weights, mean_brightness=mu)
totals = field.divergence[:, active].sum(axis=1)
print(f"divergence (n_rois, latent_dim) = {field.divergence.shape}, nats")

# %%
figures.fig_3b(field.normalised(active), p.fields.rois, totals).shows(
    "Which latents answer to each of the six regions."
).made_from(source)

# %% [markdown]
# The same with the ends of its 95 % interval over brains.

# %%
resampled = np.quantile(field.bootstrapped(200, seed=0), [0.025, 0.975], axis=0)
figures.fig_fields(
    {
        "2.5 %": np.sqrt(2 * resampled[0]),
        "field": np.sqrt(2 * field.divergence),
        "97.5 %": np.sqrt(2 * resampled[1]),
    },
    p.fields.rois,
    "Shift (SD; √(2 KL))",
).shows(
    "The field as shifts between the region at its darkest and at its brightest, "
    "beside the ends of its 95 % interval over brains."
).made_from(source)

# %% [markdown]
# In the demo profile HPF and TH stand out, and rightly so: their own brightness was planted as a factor, so
# it varies more (wider weights) and latents attend to it. In nats (Fig. 3B) each of the other four regions
# moves the latents by less than a seventh of what HPF or TH does.
#
# ## Effect sizes
#
# The same as shifts in standard deviations (Cohen's d, from the darkest to the brightest), and the
# divergence taken the other way and both ways. They tell one story: spreads change little with *w*, so
# the divergence is close to d²/2, and √(2 KL) puts both on the scale of a shift in standard deviations (SD).

# %%
figures.fig_fields(
    {
        "KL(dark ‖ bright)": np.sqrt(2 * field.divergence),
        "KL(bright ‖ dark)": np.sqrt(2 * field.divergence_reverse),
        "Jeffreys": np.sqrt(field.jeffreys),
        "|d|": np.abs(field.effect_size),
    },
    p.fields.rois,
    "Shift (SD; √(2 KL))",
).shows("Four measures of the same shift, from the darkest region to the brightest.").made_from(
    source
)

# %% [markdown]
# ## Against random regions
#
# Regions differ 4-fold in size and in how much their brightness varies. Each stands beside random
# blobs of its own size, mirrored across the midline as regions are, each over its own range of
# brightness; regions and blobs are read on the same brains. The bars resample brains.

# %%
few = held_out[: max(p.fields.n_read // 2, 2)]
mine = receptive_field(model, few, masks, weight_range(few, masks))
draws = mine.bootstrapped(500, seed=0)[:, :, active].sum(axis=2)
blobs = [
    null_divergence(
        model,
        few,
        cohort.atlas.brain_mask,
        int(mask.sum()),
        p.fields.n_blobs,
        seed=0,
        mirrored=True,
    )
    for mask in masks
]

# %%
few_source = f"Cohort {cohort.name}: {len(few)} clean test brains, {config.told}"
chance = np.stack([blob.divergence[:, active].sum(axis=1) for blob in blobs])
figures.fig_against_blobs(
    mine.divergence[:, active].sum(axis=1),
    np.quantile(draws, [0.025, 0.975], axis=0).T,
    chance,
    p.fields.rois,
    "All active latents together (nats)",
).shows("How far each region moves all active latents, over its own range.").made_from(few_source)

# %% [markdown]
# The same per unit of brightness: HPF varies most in grey values, so it was also pushed furthest.

# %%
reach = np.diff(mine.weights[:, [0, -1]], axis=1)[:, 0] * mine.mean_brightness
far = [np.diff(b.weights[:, [0, -1]], axis=1)[:, 0] * b.mean_brightness for b in blobs]
figures.fig_against_blobs(
    mine.divergence[:, active].sum(axis=1) / reach**2,
    (np.quantile(draws, [0.025, 0.975], axis=0) / reach**2).T,
    chance / np.square(far),
    p.fields.rois,
    "All active latents together, over the squared change of brightness (nats per squared grey)",
).shows("The same divided by the square of how far the region's brightness was changed.").made_from(
    few_source
)

# %% [markdown]
# In the demo profile HPF lies above every blob of its size, and above 94 % of them per unit of brightness. That TH stands out is not shown: it exceeds
# 85 % of its blobs, and 90 % per unit of brightness. SSp, STR, RSP and HY do not: they exceed between 36 % and 71 %, and between 33 % and 63 % per
# unit of brightness. The rows of these four in Fig. 3B, normalised to 1, are mostly shape and little effect.
#
# ## Test brains and all brains
#
# The paper's "all image examples" were also what its model had been fitted to. Here the same field is
# read on all clean brains and on the clean test brains. These are held out from a model that is fitted here. From the authors' own model (profile `authors`)
# no brain is held out: there both fields are of brains that it was fitted to.

# %%
everyone = receptive_field(
    model, cohort.images[clean], masks, weights[:, [0, -1]], mean_brightness=mu
)
both = {"all": everyone.divergence, "held out": field.divergence}
alike = np.corrcoef(np.sqrt(everyone.divergence).ravel(), np.sqrt(field.divergence).ravel())[0, 1]
print(f"brains: {clean.sum()} and {len(held_out)}; correlation of the shifts {alike:.1f}")

# %%
figures.fig_fields(
    {f"{name} clean brains": np.sqrt(2 * table) for name, table in both.items()},
    p.fields.rois,
    "Shift (SD)",
).shows("The field read on all clean brains and on those that the fit had not seen.").made_from(
    f"Cohort {cohort.name}: {clean.sum()} clean brains and {len(held_out)} of them held out"
)

# %% [markdown]
# ## Three ways to change a region
#
# Replacing a region by one grey takes its texture with it; *adding* leaves it; *swapping* puts another
# real brain's region in its place, one that is as bright as wanted, so that only the seam is unlike a brain.

# %%
some = held_out[: p.fields.n_read]
modes = {}
for mode in ("mask", "add", "swap"):
    span = weight_range(some, masks, mode=mode)
    modes[mode] = receptive_field(model, some, masks, span, mode=mode)

# %%
shifts = {mode: np.sqrt(2 * found.divergence) for mode, found in modes.items()}
titles = {"mask": "one grey", "add": "grey added", "swap": "another brain's"}
figures.fig_fields(
    {titles[mode]: table for mode, table in shifts.items()}, p.fields.rois, "Shift (SD)"
).shows("The field by three ways to change a region.").made_from(fewer)

# %%
flat = pd.DataFrame({mode: table.ravel() for mode, table in shifts.items()})
by_mode = flat.corr()
print(f"smallest correlation between two modes: {by_mode.min(axis=None):.1f}")

# %% [markdown]
# ## One hemisphere, and the parts of the striatum
#
# The striatum of this plane is about half caudoputamen (CP) and half striatum-like amygdala (sAMY); each
# region's two sides are perturbed by themselves. In the demo profile one side of HPF moves the latent that both sides move most
# a little more than half as far. The two sides of TH move the same latent most.

# %%
names = [*p.fields.rois, *(a for a in ("CP", "sAMY") if a in cohort.atlas.acronyms)]
sides = {}
for side in ("left", "right", "both"):
    halves = cohort.atlas.roi_masks(names, side)
    sides[side] = receptive_field(model, some, halves, weight_range(some, halves))

# %%
figures.fig_fields(
    {side: np.sqrt(2 * found.divergence) for side, found in sides.items()}, names, "Shift (SD)"
).shows("The field of each hemisphere's region by itself, and of both together.").made_from(fewer)

# %% [markdown]
# ## Every region of this slice
#
# The finest regions that do not overlap and have at least `region_share` of the brain's pixels, which depends a little on the
# size of the sections. Acronyms are in the [glossary](../book/glossary.md). In the demo profile TH and CA (of the hippocampus) have most of the effect; totals
# differ from those above because each region's range is over these brains.

# %%
regions = cohort.atlas.regions(p.fields.region_share)
parts = cohort.atlas.roi_masks(regions)
everywhere = receptive_field(model, some, parts, weight_range(some, parts))
figures.fig_3b(
    everywhere.normalised(active), regions, everywhere.divergence[:, active].sum(axis=1)
).shows("Which latents answer to every region of this slice.").made_from(fewer)

# %% [markdown]
# ## What is lost when a region is missing
#
# The codes of the brains as they are against those with the region set to black, which is far from any real brain.
# In the demo profile HPF and TH lose most here too, then STR; HY, nearly as large as HPF, loses less.

# %%
figures.fig_fields(
    {
        "brain ‖ black region": np.sqrt(2 * field.missing_information),
        "dark ‖ bright region": np.sqrt(2 * field.divergence),
    },
    p.fields.rois,
    "√(2 KL) (SD)",
).shows(
    "What a black region does to the codes, beside what its range of brightness does."
).made_from(source)

# %% [markdown]
# ## Fig. 3C · Two latents while the hippocampus brightens
#
# The paper shows F1 and F5. A latent's number has no meaning across fits, so those two come first, and
# then the two that HPF moves most and least.

# %%
hpf = p.fields.rois.index("HPF") if "HPF" in p.fields.rois else 0
ranked = np.argsort(field.divergence[hpf])
papers = [k for k in (0, 4) if k < p.model.latent_dim]
pair = [int(ranked[-1]), int(ranked[0])]

# %%
figures.fig_3c(
    field.codes[hpf][:, :, papers], [k + 1 for k in papers], weights[hpf], p.fields.rois[hpf]
).shows("The two latents that the paper shows, F1 and F5.").made_from(source)

# %%
figures.fig_3c(
    field.codes[hpf][:, :, pair], [k + 1 for k in pair], weights[hpf], p.fields.rois[hpf]
).shows("The latents that this region moves most and least.").made_from(source)

# %% [markdown]
# ## Fig. S3 · Every latent and every region

# %%
figures.fig_s3(field.codes, p.fields.rois, weights).made_from(source)

# %% [markdown]
# ## There and back
#
# Both directions at once: the hippocampus is made brighter in the input, and the code that answers is
# decoded. How much of the change of brightness comes back in that region?

# %%
given = (weights[hpf, -1] - weights[hpf, 0]) * mu[hpf]
darkest, brightest = (model.decode(field.codes[hpf, w]) for w in (0, -1))
returned = float((brightest - darkest)[:, masks[hpf]].mean())
print(f"share that comes back, to the nearest quarter: {round(4 * returned / given) / 4:g}")

# %%
above = (mine.divergence[:, active].sum(axis=1)[:, None] > chance).mean(axis=1)
above = dict(zip(p.fields.rois, above, strict=True))

# %%
strongest = {p.fields.rois[i] for i in np.argsort(totals)[-2:]}
pd.Series(
    {
        "at least a third of HPF's change of brightness comes back": returned > given / 3,
        "HPF and TH move the latents more than any other region": strongest == {"HPF", "TH"},
        "HPF lies above 90 % of the blobs of its size": above.get("HPF", 0) > 0.9,
        "SSp and STR do not": max(above.get(name, 1) for name in ("SSp", "STR")) < 0.9,
        "the most moved latent of HPF moves at least 5 times the least": bool(
            field.divergence[hpf].max() > 5 * field.divergence[hpf].min()
        ),
        "the ways to change a region agree (correlation above 0.8)": by_mode.min(axis=None) > 0.8,
        "all brains and held-out brains agree (correlation above 0.95)": alike > 0.95,
        "at least 6 latents are active": active.sum() >= 6,
    }
).astype(bool)

# %% [markdown]
# **Found.** In the demo profile two of six regions, HPF and TH, move the latents more than the other four do, and these
# two were planted as brightness factors of their own. Only HPF stands out from random pieces of brain of its size; for TH it is not shown.
# Which latents a region moves hardly turns on how it is changed, how far does; and test brains, held out from this fit, answer as all brains do.
# What a receptive field says of a latent's *meaning* is another question: chapters 9 and 10.
# How sure: one fit of one β-VAE; other fits have other latents (chapter 9). The field is read on 181 clean test brains, and its interval over brains
# is narrow. The comparison with random pieces is read on 24 of them, where HPF's interval runs from about 7 to 14 nats and
# overlaps TH's.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
