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
# # 11 · The sceptic's questions
#
# **What else could explain what was seen?** A β-VAE may differ from a VAE only because it says less; "denoising" may delete
# what is rare; what looks like anatomy may be a misplaced section. And three things the paper says in words
# get a number here: which scales are lost, how codes cluster, how far they spread as β grows.

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
from brainvae_core.cohorts import clean_part, displaced, known_factors
from brainvae_core.cohorts.atlas import block_mean
from brainvae_core.metrics import (
    active_latents,
    clustering,
    difference,
    estimate,
    explained_by_factors,
    explained_variance,
    explained_variance_per_brain,
    jackknife,
    linear_recovery,
    nearest_distances,
    radial_spectrum,
    reproduced_change,
    spread,
)
from brainvae_core.models import PCA, elbo_terms, fit_all
from brainvae_core.prepare import prepare_cohort
from brainvae_core.profile import curve, evaluated_models, evaluation_cohort, grid_cohort, study

# %%
whole = prepare_cohort(p)
small, cohort = grid_cohort(p, whole), evaluation_cohort(p, whole)
models = evaluated_models(p, cohort)
compared = ("PCA", "VAE", "β-VAE")
print(small)
print(cohort)

# %% [markdown]
# ## Is this cohort a fair test of a nonlinear model?
#
# PCA paints with straight lines. What a VAE could gain on it is what is curved. Where the factors are known, that can be
# bounded: how much of the difference between brains is a linear map of the factors, and how much more with all
# their squares and products? (Clean brains, factors and maps from the training brains.)

# %%
known_truth = cohort.factors is not None
parts = {name: clean_part(cohort, name) for name in ("train", "test")}
ceiling = {}
if known_truth:
    sides = [x for part in parts.values() for x in (part.factors.to_numpy(), part.images)]
    ceiling = {
        "linear in the factors": explained_by_factors(*sides),
        "with squares and products": explained_by_factors(*sides, degree=2),
    }
n_factors = cohort.factors.shape[1] if known_truth else p.latent_dim
average = parts["train"].images.mean(axis=0)
straight = PCA.fit(parts["train"].images, n_factors).reconstruct(parts["test"].images)
ceiling[f"PCA, {n_factors} components"] = explained_variance(
    parts["test"].images, straight, average
)

# %%
figures.fig_explained(ceiling).made_from(
    f"Cohort {cohort.name} at {p.eval_height} × {p.eval_width}: {len(parts['test'])} clean test brains, {len(parts['train'])} training brains"
)

# %% [markdown]
# TEXT-FAIR

# %% [markdown]
# ## β-VAE against VAE at equal rate
#
# A larger β makes a model say less: fewer nats of code a brain. So compare at an equal number of nats. Every point is one number
# of latents of chapter 7, up to twice the profile's (fits of very many latents fail in another way); its rate is the mean KL divergence of test brains from the prior. If β does more
# than to set the rate, the two curves differ where they share a rate.

# %%
test, train = small.split("test").images, small.split("train").images
mean_section = train.mean(axis=0)
runs = fit_all(small, curve(p).configs, p.runs, p.device, p.together, halve=True)
rate, quality, active, most = {}, {}, {}, 2 * p.latent_dim
for run in (r for r in runs if r.config.kind == "beta_vae" and r.config.latent_dim <= most):
    point = ("β-VAE" if run.config.beta == p.beta else "VAE", run.config.latent_dim)
    distortion, nats = elbo_terms(run.model, run.config, test)
    kept = explained_variance_per_brain(test, run.model.reconstruct(test), mean_section)
    rate.setdefault(point, []).append(nats.mean())
    quality.setdefault(point, []).append({"distortion": distortion, "explained variance": kept})
    active.setdefault(point, []).append(active_latents(run.model.encode(train)).sum())
source = f"Cohort {small.name} at {p.grid_height} × {p.grid_width}: {len(test)} test brains, {len(p.grid_seeds)} seeds, 95 % intervals"

# %%
at_rate = {
    title: {
        label: {
            float(np.mean(rate[point])): estimate([s[name] for s in quality[point]])
            for point in quality
            if point[0] == label
        }
        for label in ("VAE", "β-VAE")
    }
    for title, name in (("Distortion", "distortion"), ("Explained variance", "explained variance"))
}
figures.fig_curves(at_rate, "Rate (nats per image)", ylabels=["Nats per image", "Share"]).made_from(
    source
)

# %% [markdown]
# Between two numbers of latents the VAE's scores are interpolated, brain by brain, to the β-VAE's rate.

# %%
ladder = sorted((np.mean(r), point) for point, r in rate.items() if point[0] == "VAE")
equal_rate = {}
for point in sorted(p_ for p_ in rate if p_[0] == "β-VAE"):
    wanted = np.mean(rate[point])
    for (low, a), (high, b) in zip(ladder, ladder[1:], strict=False):
        if low <= wanted < high:
            share = (wanted - low) / (high - low)
            vae = [
                (1 - share) * x["explained variance"] + share * y["explained variance"]
                for x, y in zip(quality[a], quality[b], strict=False)
            ]
            own = [s["explained variance"] for s in quality[point]]
            equal_rate[f"L = {point[1]}, {wanted:.1f} nats"] = {
                "explained variance": difference(own, vae)
            }
print(f"{len(equal_rate)} of {sum(q[0] == 'β-VAE' for q in rate)} β-VAEs have a VAE at their rate")

# %%
figures.fig_differences(
    equal_rate, "β-VAE − VAE at equal rate, explained variance", better="β-VAE better"
).made_from(source)

# %% [markdown]
# TEXT-RATE

# %% [markdown]
# ## … and at equal numbers of active latents
#
# A latent is active if its posterior mean varies over the training brains (variance above 0.01). The number a model uses can be far below
# the number it has.

# %%
by_active = {
    "Explained variance": {
        label: {
            float(np.mean(active[point])): estimate(
                [s["explained variance"] for s in quality[point]]
            )
            for point in quality
            if point[0] == label
        }
        for label in ("VAE", "β-VAE")
    }
}
figures.fig_curves(by_active, "Active latents", ylabels=["Share"], log_x=True).made_from(source)

# %% [markdown]
# TEXT-ACTIVE

# %% [markdown]
# ## Does "denoising" delete rare anatomy?
#
# A model that only paints what it has often seen removes artefacts and patients alike. The ventricles of clean test
# brains are widened by up to five standard deviations of the cohort, and the change that comes back in the
# reconstruction is measured: 1 is the whole change, 0 is a brain painted as if it were ordinary.

# %%
fine = clean_part(whole)
before = fine.images[: p.n_graded]
factor_of = whole.atlas.shape[0] // cohort.atlas.shape[0]
ordinary = block_mean(before, factor_of)
amounts = (1.0, 2.0, 3.0, 4.0, 5.0)
geometry = {
    "Ventricles wider": "ventricle_size",
    "Cortex thicker": "cortical_thickness",
    "Section from another plane": "ap_position",
    "Brain taller": "brain_height",
    "Brain wider": "brain_width",
}
changed = {
    title: {s: block_mean(displaced(before, whole.atlas, factor, s), factor_of) for s in amounts}
    for title, factor in geometry.items()
}

# %%
wide = changed["Ventricles wider"][amounts[-1]]
rows = {f"Ventricles + {amounts[-1]:g} SD": wide[:3]}
rows |= {f"{name}'s answer": models[name][0].reconstruct(wide[:3]) for name in compared}
figures.fig_reconstructions(
    ordinary[:3],
    rows,
    pixel_um=cohort.atlas.pixel_um,
    titles=[f"Test brain {i + 1}" for i in range(len(ordinary[:3]))],
).made_from(
    f"Cohort {cohort.name} at {p.eval_height} × {p.eval_width}: three clean test brains, first fits"
)

# %%
comes_back = {
    title: {
        name: {
            s: estimate(
                [
                    reproduced_change(
                        ordinary, after, m.reconstruct(ordinary), m.reconstruct(after)
                    )
                    for m in models[name]
                ]
            )
            for s, after in by_amount.items()
        }
        for name in compared
    }
    for title, by_amount in changed.items()
}
fine_source = f"Cohort {cohort.name} at {p.eval_height} × {p.eval_width}, L = {p.latent_dim}: {len(ordinary)} clean test brains, {len(p.eval_seeds)} fits of each VAE, 95 % intervals"

# %%
figures.fig_curves(
    comes_back,
    "Standard deviations of the cohort",
    ylabels=["Share of the change that comes back"],
    columns=3,
).made_from(fine_source)

# %% [markdown]
# TEXT-RARE

# %% [markdown]
# ## Anatomy or misregistration?
#
# Sections differ by how the brain is and by how it was placed. The first two panels above are anatomy, the last three what a
# misplaced or badly scaled section looks like. The table of chapter 4 by kind: how well each known factor is read off
# the code (R² on test brains, mean of the fits).

# %%
parts = {name: cohort.split(name) for name in ("train", "test")}
factors = known_factors(cohort)
known = {name: factors.loc[part.metadata.index].to_numpy() for name, part in parts.items()}
recovery = {
    name: np.mean(
        [
            linear_recovery(
                m.encode(parts["train"].images),
                known["train"],
                m.encode(parts["test"].images),
                known["test"],
            )
            for m in models[name]
        ],
        axis=0,
    )
    for name in compared
}

# %%
placed = [name for name in ("ap_position", "brain_height", "brain_width") if name in factors]
anatomy = [name for name in factors if name not in placed]
order = [list(factors).index(name) for name in (*anatomy, *placed)]
figures.fig_recovery(
    np.stack([recovery[name] for name in compared])[:, order], list(compared), [*anatomy, *placed]
).made_from(fine_source.replace(f"{len(ordinary)} clean", f"{len(parts['test'])}"))

# %% [markdown]
# TEXT-PLACED

# %% [markdown]
# ## Which scales are lost?
#
# The power of the residual over the power of what makes a brain differ from the mean image, by the size of structures: 0, everything
# of that size is painted; 1, nothing is; above 1, something that is not there is.

# %%
sections = parts["test"].images
pixel_um = cohort.atlas.pixel_um
average = parts["train"].images.mean(axis=0)
widest = PCA.fit(parts["train"].images, min(100, len(parts["train"]) - 1))
painted = {name: [m.reconstruct(sections) for m in models[name]] for name in compared}
painted |= {
    f"PCA, L = {n}": [widest.truncated(n).reconstruct(sections)]
    for n in (30, 100)
    if n <= widest.latent_dim
}
frequencies, deviation = radial_spectrum(sections - average, pixel_um, 12)

# %%
lost = {
    "Residual over deviation from the mean": {
        name: {
            round(1000 / f): estimate(
                [
                    radial_spectrum(sections - r, pixel_um, 12)[1][:, i] / deviation[:, i]
                    for r in of_fits
                ]
            )
            for i, f in enumerate(frequencies)
        }
        for name, of_fits in painted.items()
    }
}
figures.fig_curves(
    lost,
    "Wavelength (µm)",
    references={"Residual over deviation from the mean": {"nothing of this size is painted": 1.0}},
    ylabels=["Share of the power"],
    log_x=True,
).made_from(fine_source.replace(f"{len(ordinary)} clean", f"{len(sections)}"))

# %% [markdown]
# TEXT-SPECTRUM

# %% [markdown]
# ## Do codes cluster or disperse as β grows?
#
# The row of the grid at the profile's L. How far codes spread (the prior's spread is √L), how far the nearest neighbour is in units of the
# posterior's own standard deviation (below 1, the model cannot tell the two brains apart), and whether neighbours are nearer than in a Gaussian
# sample of the same covariance: 1 is Gaussian, below 1 is clustered.

# %%
row = [
    r
    for r in fit_all(small, study(p).shard(p.latent_dim).configs, p.runs, p.device, p.together)
    if r.config.kind == "beta_vae"
]
codes = {}
for run in row:
    mean, std = run.model.posterior(test)
    codes.setdefault(run.config.beta, []).append((mean, std))

# %%
dispersed = {
    "Spread of the codes": {
        "β-VAE": {b: jackknife(spread, [[z] for z, _ in of_fits]) for b, of_fits in codes.items()}
    },
    "Nearest neighbour": {
        "β-VAE": {
            b: estimate([nearest_distances(z / std.mean(axis=0)) for z, std in of_fits])
            for b, of_fits in codes.items()
        }
    },
    "Clustering": {
        "β-VAE": {
            b: jackknife(clustering, [[z] for z, _ in of_fits]) for b, of_fits in codes.items()
        }
    },
}

# %%
figures.fig_curves(
    dispersed,
    "β",
    references={
        "Spread of the codes": {"the prior's": p.latent_dim**0.5},
        "Clustering": {"Gaussian": 1.0},
    },
    ylabels=["Prior standard deviations", "Posterior standard deviations", "Ratio"],
    columns=3,
    log_x=True,
).made_from(source)

# %% [markdown]
# TEXT-DISPERSION

# %% [markdown]
# ## The figures in numbers

# %% tags=["nbval-ignore-output"]
used = {point: [int(n) for n in found] for point, found in sorted(active.items())}
print("active latents:", {f"{label}, L = {n}": found for (label, n), found in used.items()})
print(*(f"equal rate, {k}: {v['explained variance']}" for k, v in equal_rate.items()), sep="\n")
for title, by_name in dispersed.items():
    print(f"{title}: " + "; ".join(f"β = {b:g} {e}" for b, e in by_name["β-VAE"].items()))
print(pd.DataFrame(recovery, index=list(factors)).round(2))
pd.DataFrame(
    {
        (title, name): {f"{s:g} SD": str(found) for s, found in by_amount.items()}
        for title, by_name in comes_back.items()
        for name, by_amount in by_name.items()
    }
).T

# %%
largest = max(codes)
pd.Series(
    {
        "the largest β leaves neighbours closest together": bool(
            dispersed["Nearest neighbour"]["β-VAE"][largest].value
            <= min(e.value for e in dispersed["Nearest neighbour"]["β-VAE"].values())
        ),
        "PCA with more components loses less of every size": all(
            lost["Residual over deviation from the mean"]["PCA, L = 100"][size].value
            <= lost["Residual over deviation from the mean"]["PCA"][size].value + 0.02
            for size in lost["Residual over deviation from the mean"]["PCA"]
        )
        if "PCA, L = 100" in painted
        else True,
        "no model paints the widest ventricles as they are": all(
            comes_back["Ventricles wider"][name][amounts[-1]].high < 1 for name in compared
        ),
    }
)
