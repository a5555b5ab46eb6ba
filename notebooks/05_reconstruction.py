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
# # 5 · Reconstructions and samples against the number of latents
#
# **Does the β-VAE paint brains better than the VAE and PCA, and with how many latents?** The paper's Figs 2C
# and 2D say yes by two numbers, CW-SSIM and a PCA-based Fréchet distance. Here both stand beside their floors and
# ceilings, with intervals over brains and over fits, and beside numbers that could disagree.

# %% tags=["parameters", "hide-input"]
profile = "demo"  # params/demo.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
curve_latent_dims = None  # the profile's

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.metrics import (
    CWSSIM,
    LIMITS,
    as_text,
    compare,
    cw_ssim_level,
    cw_ssim_scale_um,
    explained_variance_per_brain,
    frechet_distance,
    generated_scores,
    named,
    pca_basis,
    reconstruction_scores,
    sample_precision,
    sample_recall,
    scores_table,
    summarise,
    summarise_samples,
)
from brainvae_core.models import NearestBrain, effective_strength
from brainvae_core.prepare import prepare_cohort
from brainvae_core.record import Record
from brainvae_core.study import curve, fitted
from IPython.display import display

# %%
whole = prepare_cohort(p)
cohort = whole.resampled(p.grid.shape)
train, validation, test = (cohort.split(name).images for name in ("train", "validation", "test"))
print(cohort)

# %% [markdown]
# ## The models
#
# VAE (β = 1) and β-VAE at every number of latents with several seeds, at the size of the grid (chapter 4), and
# PCA, which is exact and needs no seed. A fit that failed is a gap.

# %%
fits = fitted(p, "curve", cohort)
print(curve(p))
print(f"{len(fits)} of {len(curve(p).configs)} runs fitted")
for beta in (1.0, p.model.beta):
    strength = effective_strength(beta, p.model.likelihood)
    print(f"β = {beta:g} has the effective strength {strength:.2g}")

# %%
source = f"Cohort {cohort.name} at {p.grid.shape[0]} × {p.grid.shape[1]}: "
source += f"{len(test)} test brains, {len(p.grid.seeds)} fits of each VAE, 95 % intervals"

# %% [markdown]
# ## Fig. 2C · CW-SSIM
#
# The reference is the input section as it is, with its artefact where it has one (chapter 6 has clean ones). Level and orientations are choices, so they are printed; the level is that whose
# band lies at the same scale in micrometres at every resolution. Three lines need no model: the mean image in place
# of the brain, another test brain in its place, and the nearest of all training brains.

# %%
level = cw_ssim_level(cohort.atlas.pixel_um)
scale = cw_ssim_scale_um(level, cohort.atlas.pixel_um)
print(f"CW-SSIM level {level}, 8 orientations: bands around {scale:.0f} µm")
similarity, mean_section = CWSSIM(test, level), train.mean(axis=0)

# %%
rows = []
for labels, run in fits:
    found = reconstruction_scores(test, run.model.reconstruct(test), mean_section, similarity)
    rows.append(scores_table(found, **labels))
scores = pd.concat(rows)
summary = summarise(scores, by=["score", "model", "latent_dim"], bounds=LIMITS)

# %%
without_model = {
    "mean image": np.broadcast_to(mean_section, test.shape),
    "another brain": np.roll(test, 1, axis=0),
    "nearest brain": NearestBrain.fit(train).reconstruct(test),
}
rows = [
    scores_table(reconstruction_scores(test, images, mean_section, similarity), model=what)
    for what, images in without_model.items()
]
no_model = pd.concat(rows)
floors = no_model.groupby(["score", "model"], sort=False)["value"].mean().reset_index()

# %%
figures.fig_2c(
    summary.query("score == 'CW-SSIM'"),
    floors.query("score == 'CW-SSIM'"),
    ylabel=f"CW-SSIM, level {level} ({scale:.0f} µm)",
).shows("CW-SSIM of the test brains' reconstructions to the brains.").made_from(source)

# %% [markdown]
# Only what lies above the lines says something of single brains. In the demo profile PCA's interval does from four components on;
# paired, brain by brain, PCA is ahead of the mean image at every number of them, the β-VAE from six latents on, and the VAE from four, but for 30, where it is
# not shown (0.013 [−0.001, 0.027]). At L = 8 the VAE is ahead of it by 0.0108 [0.0086, 0.0129], the β-VAE by 0.0096 [0.0058, 0.0133] and PCA by
# 0.0318 [0.0288, 0.0346]. Beyond 8 the VAEs hardly gain, where PCA does. The VAE and the β-VAE cannot be told apart at L = 8. The paper has the β-VAE above
# both others. This page shows eight of its 22 numbers of latents (2 to 20, 30, 50, 100).

# %% [markdown]
# ## Do other numbers agree?
#
# The share of variance about the training mean that is kept, MS-SSIM and PSNR, from the libraries that keep
# them. The last panel is no quality: how far a reconstruction deviates from the mean image, as a share of how far
# the brain does. The paper says in words that reconstructions do "not deviate much from the mean"; this is that in a number.

# %%
ideal = pd.DataFrame({"score": ["norm ratio"], "model": ["the brains"], "value": [1.0]})
beside = floors.query("model != 'another brain' and score != 'norm ratio'")
figures.fig_curves(
    summary.query("score != 'CW-SSIM'"),
    "latent_dim",
    "Number of latents L",
    references=pd.concat([beside, ideal]),
    ylabels=["Share", "MS-SSIM", "Decibels", "‖r − mean‖ / ‖x − mean‖"],
    log_x=True,
).shows(
    "Three scores of the test brains' reconstructions and how far these lie from "
    "the mean image, against the number of latents."
).made_from(source)

# %% [markdown]
# From four latents on their points agree that PCA is ahead; they do not tell VAE and β-VAE apart at L = 8. PCA goes on gaining with components; the VAEs
# hardly gain beyond 8 latents. By all three the VAEs are above the mean image at every number of latents. The nearest training brain, which is no model at
# all, is behind both VAEs at L = 8 by all of them and by CW-SSIM (explained variance 0.50 against 0.714 [0.689, 0.738] and 0.704 [0.675, 0.732]), and its
# points are above those of all three models at two latents by these three. At L = 8 PCA deviates from the mean by 0.868 [0.855, 0.879] of what brains do,
# the VAE by 0.850 [0.836, 0.862] and the β-VAE by 0.831 [0.811, 0.850]: not what the paper's "not much" suggests.

# %% [markdown]
# ## Paired differences
#
# The same brains reconstructed by two models; seeds of different models have nothing to do with one another. The last cell with numbers
# has also each model's CW-SSIM less the mean image's.

# %%
shown = ["explained variance", "CW-SSIM", "MS-SSIM"]
chosen = {p.model.latent_dim, max(curve(p).latent_dims)}
of_chosen = scores[scores["score"].isin(shown) & scores["latent_dim"].isin(chosen)]
compared = pd.concat(
    [
        compare(of_chosen, "β-VAE", rival, by=["latent_dim", "score"]).assign(rival=rival)
        for rival in ("VAE", "PCA")
    ]
).sort_values("latent_dim", kind="stable")
at = ", L = " + compared["latent_dim"].astype(str)
compared["model"] = "β-VAE" + at + " − " + compared["rival"] + at

# %%
better = pd.DataFrame({"model": ["the β-VAE is better →"], "value": [0.0]})
figures.fig_scores(compared, references=better, columns=3).shows(
    "How far the β-VAE's score of the same test brains is above a rival's, by three scores."
).made_from(source)

# %%
alike = pd.concat([scores, no_model]).query("score == 'CW-SSIM'")
less_mean = pd.concat(
    [compare(alike, label, "mean image", by="latent_dim") for label in ("PCA", "VAE", "β-VAE")]
)

# %% [markdown]
# The β-VAE and the VAE cannot be told apart by any of the three at 8 latents; at 100 the VAE is ahead by explained variance, by
# 0.030 [0.004, 0.057], and by the other two it is not shown. PCA is ahead of the β-VAE by all of them, and by more at 100.

# %% [markdown]
# ## Does a model overfit to the noise?
#
# The paper says so of PCA with many components, without a number. The gap: what is explained of training brains
# less what is explained of as many test brains. A model that learned only what all brains share has none.

# %%
few, rows = min(len(train), len(test)), []
for labels, run in fits:
    seen, unseen = (
        explained_variance_per_brain(images, run.model.reconstruct(images), mean_section)
        for images in (train[:few], test[:few])
    )
    rows.append(scores_table(seen - unseen, **labels))
gap = summarise(pd.concat(rows), by=["model", "latent_dim"])

# %%
figures.fig_curves(
    gap.assign(score="Training less test brains"),
    "latent_dim",
    "Number of latents L",
    references=pd.DataFrame({"model": ["no overfitting"], "value": [0.0]}),
    ylabels=["Explained variance"],
    log_x=True,
).shows(
    "Share of variance explained of training brains less that of test brains, by each model."
).made_from(f"{source}; {few} training brains beside as many test brains")

# %% [markdown]
# PCA's gap leaves zero only at 100 components (0.0200 [0.0135, 0.0270]). It still explains more of the test brains with every component (0.93 at 100), so the
# gap is no loss: what PCA says of its own brains is too good by two hundredths. The VAE's gap leaves zero at every number of latents, the β-VAE's from 2 to 30;
# at L = 8 they are 0.060 [0.031, 0.091] and 0.055 [0.028, 0.083], where PCA's is not shown. So at the paper's L it is the VAEs that
# learn their training brains too well. The intervals are wide because training and test brains are other brains.

# %% [markdown]
# ## The level decides what CW-SSIM sees
#
# A level of the pyramid looks at one scale. Fine levels see texture, which no model of a few latents paints;
# coarse ones forgive nearly everything. These are the fits of chapters 9 to 12, at their own size, which has more levels;
# on the right all windows weigh alike, where the reference weighs the centre (thalamus) most.

# %%
fine = whole.resampled(p.evaluation.shape)
sections, pixel_um = fine.split("test").images[:64], fine.atlas.pixel_um
shown = ("PCA", "VAE", "β-VAE", "mean image", "nearest brain")
painted = [
    (labels, run.model.reconstruct(sections))
    for name in shown
    for labels, run in fitted(p, "evaluated", fine)
    if labels["model"] == name
]

# %%
rows = []
for weighting in ("gaussian", "uniform"):
    for n in range(1, int(np.log2(min(sections.shape[1:]))) - 1):
        at_level = CWSSIM(sections, n, weighting=weighting)
        at = {"score": f"{weighting} weights", "scale_um": cw_ssim_scale_um(n, pixel_um)}
        rows += [scores_table(at_level(r), **labels, **at) for labels, r in painted]
by_level = summarise(pd.concat(rows), by=["score", "model", "scale_um"], bounds=(0, 1))

# %%
fine_source = f"Cohort {fine.name} at {p.evaluation.shape[0]} × {p.evaluation.shape[1]}, "
fine_source += f"L = {p.model.latent_dim}: {len(sections)} test brains, "
fine_source += f"{len(p.evaluation.seeds)} fits of each VAE, 95 % intervals"

# %%
figures.fig_curves(
    by_level, "scale_um", "Scale of the level (µm)", ylabels=["CW-SSIM"], log_x=True, share_y=True
).shows(
    "CW-SSIM of the test brains' reconstructions at each level of the pyramid, by "
    "the scale it looks at, under two weightings of the windows."
).made_from(fine_source)

# %% [markdown]
# At 400 µm the point of a real brain, the nearest of the training set, is above the VAEs'; it is level with PCA's where the centre weighs most, and a little
# above PCA's where all windows weigh alike: texture of the right kind counts, even if it is another brain's. The intervals of these four overlap. From 800 µm
# on the three models are close to one another, and their points are above the nearest brain's and the mean image's; at 3.2 mm everything scores 0.97 and
# above, the mean image included. So "ahead on CW-SSIM" needs its level beside it: whether a model's point is above the nearest brain's depends on it.

# %% [markdown]
# ## Fig. 2D · PCA-based Fréchet distance
#
# Half of the test brains are the real side. The model's side are reconstructions of the *other* half, or as many
# decoded codes: samples of the prior N(0, I), or of the aggregate posterior, which are the codes of training brains
# with their uncertainty. Means are decoded, no observation noise is drawn. The basis comes from the validation
# brains, which no model was fitted to. The dashed line is real against real at the same n.

# %%
fd_dim = min(p.evaluation.fd_dim, len(validation) - 1)
basis, half = pca_basis(validation, fd_dim), len(test) // 2
real, other = basis.project(test[:half]), basis.project(test[half : 2 * half])
print(f"basis of {fd_dim} components from {len(validation)} brains; {half} against {half} brains")

# %%
kinds = ("reconstructions", "prior samples", "aggregate posterior")
others, sides = test[half : 2 * half], []
for labels, run in fits:
    made = generated_scores(run.model, basis, others, train)
    sides += [(labels | {"kind": kind}, (real, made[kind])) for kind in kinds]

# %%
by, positive = ["kind", "model", "latent_dim"], (0, np.inf)
distances = summarise_samples(frechet_distance, sides, by, bounds=positive)
between = [({"model": "real against real"}, (real, other))]
floor = summarise_samples(frechet_distance, between, "model", bounds=positive)
halves = source.replace(f"{len(test)} test brains", f"{half} against {half} test brains")

# %%
figures.fig_2d(distances, floor).shows(
    "PCA-based Fréchet distance between one half of the test brains and what each model paints."
).made_from(halves)

# %% [markdown]
# PCA comes down into the floor's interval (0.61 [0.08, 1.13]) within eight components, in reconstructions and samples alike; the VAEs' reconstructions within
# four latents. At two latents both VAEs are nearer to real brains than PCA; at L = 8 nothing tells the three apart (PCA 0.85 [0.35, 1.34],
# VAE 0.69 [0.20, 1.19], β-VAE 0.70 [0.21, 1.19]). The VAEs' prior samples are further off: 8.0 [4.1, 11.7] and 3.4 [0.9, 6.0] (β-VAE), where PCA's are at
# 0.56 [0.36, 0.75]. The β-VAE's points are below the VAE's at every number of latents; the intervals overlap, so that a larger β helps is not shown.
# Decoded from codes that occur, images are about as near as reconstructions: the prior is not how codes are spread (chapter 6). A model can fall
# below the floor: its images lie nearer the middle than another handful of brains does.

# %% [markdown]
# The number of components of the basis is a choice. Lines that cross would mean that the order of the models
# depends on it.

# %%
profile_dims = sorted({d for d in (2, 4, 8, fd_dim, 2 * fd_dim) if d < len(validation)})
wide = pca_basis(validation, profile_dims[-1])
projected = [
    (labels, wide.project(run.model.reconstruct(others)))
    for labels, run in fits
    if labels["latent_dim"] == p.model.latent_dim
]
projected.append(({"model": "another half of brains"}, wide.project(others)))

# %%
real_wide = wide.project(test[:half])
samples = [
    (labels | {"d": d}, (real_wide[:, :d], found[:, :d]))
    for labels, found in projected
    for d in profile_dims
]
by_dim = summarise_samples(frechet_distance, samples, ["model", "d"], bounds=positive)

# %%
figures.fig_curves(
    by_dim.assign(score=f"Reconstructions at L = {p.model.latent_dim}"),
    "d",
    "Components d of the basis",
    ylabels=["PCA-FD (squared grey values)"],
    log_x=True,
    log_y=True,
).shows(
    "PCA-based Fréchet distance of reconstructions from real brains, against the "
    "number of components that it looks at; beside it another half of real brains."
).made_from(halves)

# %% [markdown]
# Up to eight components the points lie close together and their lines cross; from 16 on PCA's point is the highest and that of real brains the lowest. The
# intervals overlap at every number of components: an order of the models is not shown.

# %% [markdown]
# ## Precision and recall
#
# A distance does not say whether images are wrong or too much alike. Precision: how many of a model's images lie among
# real ones (within the distance of the third nearest neighbour, in the basis above). Recall: how many
# real ones lie among the model's. The dashed line is real against real.

# %%
shares, ceilings = [], []
for kind in kinds[1:]:
    of_kind = [(labels, arrays) for labels, arrays in sides if labels["kind"] == kind]
    for name, measure in (("Precision", sample_precision), ("Recall", sample_recall)):
        at, share = {"score": f"{name} of {kind}"}, {"bounds": (0, 1)}
        shares.append(summarise_samples(measure, of_kind, by[1:], **share).assign(**at))
        ceilings.append(summarise_samples(measure, between, "model", **share).assign(**at))
shares, ceilings = pd.concat(shares), pd.concat(ceilings)

# %%
figures.fig_curves(
    shares,
    "latent_dim",
    "Number of latents L",
    references=ceilings,
    ylabels=["Share"],
    log_x=True,
    share_y=True,
).shows(
    "Precision and recall of images that each model paints from samples of the "
    "prior and of the aggregate posterior."
).made_from(halves)

# %% [markdown]
# What the VAEs decode from the aggregate posterior lies among real brains (precision 0.915 [0.819, 0.983] and 0.922 [0.821, 0.990] at L = 8), and that it is
# too much alike is not shown: recall is 0.83 [0.58, 1.00] and 0.80 [0.58, 0.97], where real against real is at 0.94 [0.77, 1.00]. A precision above that of
# real against real (0.82 [0.64, 0.96]) is no merit: images near the middle lie among real ones more surely than real ones do. Prior samples of the VAE miss
# some of the real brains: their recall at L = 8 is 0.51 [0.33, 0.68], below the interval of real against real; the β-VAE's, 0.67 [0.45, 0.90], overlaps with
# it; at 100 latents both are near zero. Their precision at L = 8 is hardly known (0.97 [0.01, 1.00] and 0.98 [0.21, 1.00]). PCA gains recall
# with components, and at L = 8 its intervals hold real against real in both.

# %% [markdown]
# ## The figures in numbers
#
# The first cell prints what was measured at the profile's L (and CW-SSIM less the mean image's at every L), to digits that differ a little between
# processors; the second what holds in the demo profile, on any processor.

# %% tags=["nbval-ignore-output"]
named_kinds = "PCA-FD, " + distances["kind"]
of_sets = pd.concat([distances.assign(score=named_kinds), shares])
real_sides = pd.concat([*(floor.assign(score=name) for name in named_kinds.unique()), ceilings])
for table, beside in ((summary, floors), (of_sets, real_sides)):
    at = table[table["latent_dim"] == p.model.latent_dim]
    display(as_text(pd.concat([at, beside]), "score", "model"))
display(as_text(compared, "model", "score"))
print("CW-SSIM less the mean image's, by the number of latents")
display(as_text(less_mean.astype({"latent_dim": int}), "latent_dim", "model"))
Record(named(gap, "training less test brains explained, {model}, L = {latent_dim}"))

# %%
explained = summary.query("model == 'PCA' and score == 'explained variance'")
at = summary[summary["latent_dim"] == p.model.latent_dim].query("score != 'norm ratio'")
at = at.pivot(index="score", columns="model", values="value")
pd.Series(
    {
        "every point has its fits": len(fits) == len(curve(p).configs),
        "PCA explains more with every component": explained.sort_values("latent_dim")[
            "value"
        ].is_monotonic_increasing,
        "PCA is ahead of both VAEs by every score at the profile's L": bool(
            (at["PCA"] > at[["VAE", "β-VAE"]].max(axis=1)).all()
        ),
    }
)

# %% [markdown]
# **Found.** At 40 × 56 pixels PCA paints single brains better than the β-VAE by explained variance, CW-SSIM and MS-SSIM, at 8 latents and by more at 100; VAE
# and β-VAE cannot be told apart at 8. By CW-SSIM both are ahead of the mean image at 8 latents, by a third of what PCA is. By the PCA-based Fréchet
# distance of reconstructions the three are not told apart at 8 latents; samples of the prior are there worse for either VAE than for PCA. The VAEs explain more
# of training brains than of test brains, by about six hundredths at 8 latents; PCA's gap leaves zero only at 100 components, by two hundredths. How sure:
# intervals over 205 test brains and three fits of each VAE, near their plateau but not at it; chapter 12 asks the same at 80 × 112 pixels, where the VAEs
# explain about as much as PCA.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
