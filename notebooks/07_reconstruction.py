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
# # 7 · Reconstructions and samples against the number of latents
#
# **Does the β-VAE paint brains better than the VAE and PCA, and with how many latents?** The paper's Figs 2C
# and 2D say yes by two numbers, CW-SSIM and a PCA-based Fréchet distance. Here both stand beside their floors and
# ceilings, with intervals over brains and over fits, and beside numbers that could disagree.

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
from brainvae_core.metrics import (
    CWSSIM,
    aggregate_codes,
    cw_ssim_scale_um,
    difference,
    estimate,
    explained_variance_per_brain,
    frechet_distance,
    jackknife,
    pca_basis,
    reconstruction_scores,
    sample_precision,
    sample_recall,
)
from brainvae_core.models import AnotherBrain, effective_strength, fit_all
from brainvae_core.prepare import prepare_cohort
from brainvae_core.profile import curve, evaluated_models, evaluation_cohort, grid_cohort

# %%
whole = prepare_cohort(p)
cohort = grid_cohort(p, whole)
train, validation, test = (cohort.split(name) for name in ("train", "validation", "test"))
print(cohort)

# %% [markdown]
# ## The models
#
# VAE (β = 1) and β-VAE at every number of latents with several seeds, at the size of the grid (chapter 6), and
# PCA, which is exact and needs no seed. A fit that failed is a gap.

# %%
study = curve(p)
runs = fit_all(cohort, study.configs, p.runs, p.device, p.together, halve=True)
print(study)
print(f"{len(runs)} of {len(study.configs)} runs fitted")
print(
    "effective strength: "
    + ", ".join(
        f"β = {b:g} {effective_strength(b, p.likelihood, p.sigma, cohort.atlas.shape):.2g}"
        for b in (1.0, p.beta)
    )
)

# %%
fits = {}
for run in runs:
    label = {None: "PCA", p.beta: "β-VAE", 1.0: "VAE"}[getattr(run.config, "beta", None)]
    fits.setdefault(label, {}).setdefault(run.config.latent_dim, []).append(run.model)
fits = {label: fits[label] for label in ("PCA", "VAE", "β-VAE") if label in fits}
source = f"Cohort {cohort.name} at {p.grid_height} × {p.grid_width}: {len(test)} test brains, {len(p.grid_seeds)} seeds, 95 % intervals"

# %% [markdown]
# ## Fig. 2C · CW-SSIM
#
# The reference is the input section. Level and orientations are choices, so they are printed; the level is that whose
# band lies at the same scale in micrometres at every resolution. Three lines need no model: the mean image in place
# of the brain, another brain in its place, and the most similar of all training brains.

# %%
level = max(1, 4 - int(np.log2(cohort.atlas.pixel_um / 25)))
scale = cw_ssim_scale_um(level, cohort.atlas.pixel_um)
print(f"CW-SSIM level {level}, 8 orientations: bands around {scale:.0f} µm")
similarity = CWSSIM(test.images, level=level)
mean_section = train.images.mean(axis=0)

# %%
scores = {
    label: {
        n: [
            reconstruction_scores(test.images, m.reconstruct(test.images), mean_section, similarity)
            for m in models
        ]
        for n, models in by_dim.items()
    }
    for label, by_dim in fits.items()
}

# %%
names = ("explained variance", "CW-SSIM", "MS-SSIM", "PSNR", "norm ratio")
limits = {"explained variance": (-np.inf, 1), "CW-SSIM": (0, 1), "MS-SSIM": (0, 1)}
limits |= {"PSNR": (-np.inf, np.inf), "norm ratio": (0, np.inf)}
panels = {
    name: {
        label: {
            n: estimate([s[name] for s in of_fits], bounds=limits[name])
            for n, of_fits in by_dim.items()
        }
        for label, by_dim in scores.items()
    }
    for name in names
}

# %%
without_model = {
    "mean image": np.broadcast_to(mean_section, test.images.shape),
    "another brain": np.roll(test.images, 1, axis=0),
    "nearest training brain": AnotherBrain.fit(train.images).reconstruct(test.images),
}
floors = {
    name: {
        what: float(values[name].mean())
        for what, values in {
            what: reconstruction_scores(test.images, images, mean_section, similarity)
            for what, images in without_model.items()
        }.items()
    }
    for name in names
}

# %%
figures.fig_2c(panels["CW-SSIM"], floors["CW-SSIM"]).made_from(source)

# %% [markdown]
# TEXT-2C

# %% [markdown]
# ## Do other numbers agree?
#
# The share of variance about the training mean that is kept, MS-SSIM and PSNR, from the libraries that keep
# them. The last panel is no quality: how far a reconstruction deviates from the mean image, as a share of how far
# the brain does. The paper says in words that reconstructions do "not deviate much from the mean"; this is that in a number.

# %%
figures.fig_curves(
    {name: panels[name] for name in names if name != "CW-SSIM"},
    "Number of latents L",
    references={
        "explained variance": {"mean image": 0.0},
        "MS-SSIM": {k: floors["MS-SSIM"][k] for k in ("mean image", "another brain")},
        "PSNR": {k: floors["PSNR"][k] for k in ("mean image", "another brain")},
        "norm ratio": {"the brains themselves": 1.0},
    },
    ylabels=["Share", "MS-SSIM", "Decibels", "‖r − mean‖ / ‖x − mean‖"],
    log_x=True,
).made_from(source)

# %% [markdown]
# TEXT-OTHER

# %% [markdown]
# ## Paired differences
#
# The same brains reconstructed by two models; seeds of different models have nothing to do with one another.

# %%
largest = max(study.latent_dims)
pairs = [("β-VAE", "VAE"), ("β-VAE", "PCA")]
compared = {
    name: {
        f"{a} − {b}, L = {n}": difference(
            [s[name] for s in scores[a][n]], [s[name] for s in scores[b][n]]
        )
        for n in sorted({p.latent_dim, largest} & set(study.latent_dims))
        for a, b in pairs
        if n in scores.get(a, {}) and n in scores.get(b, {})
    }
    for name in ("explained variance", "CW-SSIM", "MS-SSIM")
}

# %%
figures.fig_scores(
    compared, references=dict.fromkeys(compared, {"β-VAE better →": 0.0}), columns=3
).made_from(source)

# %% [markdown]
# TEXT-PAIRED

# %% [markdown]
# ## Does a model overfit to the noise?
#
# The paper says so of PCA with many components, without a number. The gap: what is explained of training brains
# less what is explained of as many test brains. A model that learned only what all brains share has none.

# %%
few = min(len(train), len(test))
seen = train.images[:few]
gap = {
    label: {
        n: estimate(
            [
                explained_variance_per_brain(seen, m.reconstruct(seen), mean_section)
                - s["explained variance"][:few]
                for m, s in zip(models, scores[label][n], strict=True)
            ]
        )
        for n, models in by_dim.items()
    }
    for label, by_dim in fits.items()
}

# %%
figures.fig_curves(
    {"Training less test brains": gap},
    "Number of latents L",
    references={"Training less test brains": {"no overfitting": 0.0}},
    ylabels=["Explained variance"],
    log_x=True,
).made_from(source)

# %% [markdown]
# TEXT-GAP

# %% [markdown]
# ## The level decides what CW-SSIM sees
#
# A level of the pyramid looks at one scale. Fine levels see texture, which no model of a few latents paints;
# coarse ones forgive nearly everything. The several fits of chapter 9 at their own size, where there are more levels;
# on the right all windows weigh alike, where the reference weighs the centre (thalamus) most.

# %%
fine = evaluation_cohort(p, whole)
evaluated = evaluated_models(p, fine)
sections, pixel_um = fine.split("test").images[:64], fine.atlas.pixel_um
levels = range(1, int(np.log2(min(sections.shape[1:]))) - 1)
painted = {
    label: [m.reconstruct(sections) for m in evaluated[label]]
    for label in ("PCA", "VAE", "β-VAE", "mean image", "another brain")
}

# %%
by_level = {}
for weighting in ("gaussian", "uniform"):
    panel = by_level[f"{weighting} weights"] = {label: {} for label in painted}
    for level_here in levels:
        at_level = CWSSIM(sections, level_here, weighting=weighting)
        for label, of_fits in painted.items():
            found = estimate([at_level(r) for r in of_fits], bounds=(0, 1))
            panel[label][cw_ssim_scale_um(level_here, pixel_um)] = found

# %%
figures.fig_curves(by_level, "Scale of the level (µm)", ylabels=["CW-SSIM"], log_x=True).made_from(
    f"Cohort {fine.name} at {p.eval_height} × {p.eval_width}, L = {p.latent_dim}: {len(sections)} test brains, {len(p.eval_seeds)} seeds, 95 % intervals"
)

# %% [markdown]
# TEXT-LEVEL

# %% [markdown]
# ## Fig. 2D · PCA-based Fréchet distance
#
# Half of the test brains are the real side. The model's side are reconstructions of the *other* half, or as many
# decoded codes: samples of the prior N(0, I), or of the aggregate posterior, which are the codes of training brains
# with their uncertainty. Means are decoded, no observation noise is drawn. The basis comes from the validation
# brains, which no model was fitted to. The dashed line is real against real at the same n.

# %%
fd_dim = min(p.fd_dim, len(validation) - 1)
basis = pca_basis(validation.images, fd_dim)
half = len(test) // 2
real, other = basis.project(test.images[:half]), basis.project(test.images[half : 2 * half])
print(f"basis of {fd_dim} components from {len(validation)} brains; {half} against {half} brains")

# %%
rng = np.random.default_rng(0)
prior = {n: rng.standard_normal((half, n)).astype(np.float32) for n in study.latent_dims}
made = {"Reconstructions": {}, "Prior samples": {}, "Aggregate posterior": {}}
for label, by_dim in fits.items():
    for n, models in by_dim.items():
        codes = {"Reconstructions": [m.encode(test.images[half : 2 * half]) for m in models]}
        codes["Prior samples"] = [prior[n]] * len(models)
        codes["Aggregate posterior"] = [aggregate_codes(m, train.images, half) for m in models]
        for kind, of_fits in codes.items():
            decoded = [basis.project(m.decode(z)) for m, z in zip(models, of_fits, strict=True)]
            made[kind].setdefault(label, {})[n] = [(real, found) for found in decoded]

# %%
distances = {
    kind: {
        label: {
            n: jackknife(frechet_distance, sets, bounds=(0, np.inf)) for n, sets in by_dim.items()
        }
        for label, by_dim in by_label.items()
    }
    for kind, by_label in made.items()
}
floor = frechet_distance(real, other)

# %%
figures.fig_2d(distances, dict.fromkeys(made, floor)).made_from(source)

# %% [markdown]
# TEXT-2D

# %% [markdown]
# The number of components of the basis is a choice. Lines that cross would mean that the order of the models
# depends on it.

# %%
profile_dims = sorted({d for d in (2, 4, 8, fd_dim, 2 * fd_dim) if d < len(validation)})
wide = pca_basis(validation.images, profile_dims[-1])
sides = {
    label: [wide.project(m.reconstruct(test.images[half : 2 * half])) for m in by_dim[p.latent_dim]]
    for label, by_dim in fits.items()
    if p.latent_dim in by_dim
} | {"another half of brains": [wide.project(test.images[half : 2 * half])]}
real_wide = wide.project(test.images[:half])

# %%
by_dim = {
    label: {
        d: jackknife(frechet_distance, [(real_wide[:, :d], s[:, :d]) for s in of_fits])
        for d in profile_dims
    }
    for label, of_fits in sides.items()
}
figures.fig_curves(
    {f"Reconstructions at L = {p.latent_dim}": by_dim},
    "Components d of the basis",
    ylabels=["PCA-FD (sq. grey values)"],
    log_x=True,
    log_y=True,
).made_from(source)

# %% [markdown]
# ## Precision and recall
#
# A distance does not say whether images are wrong or too much alike. Precision: how many of a model's images lie among
# real ones (within the distance of the third nearest neighbour, in the basis above). Recall: how many
# real ones lie among the model's. The dashed line is real against real, far below 1 with so few brains in so many dimensions.

# %%
shares = {
    f"{name} of {kind.lower()}": {
        label: {n: jackknife(share, sets, bounds=(0, 1)) for n, sets in by_dim.items()}
        for label, by_dim in made[kind].items()
    }
    for kind in ("Prior samples", "Aggregate posterior")
    for name, share in (("Precision", sample_precision), ("Recall", sample_recall))
}
ceilings = {"Precision": sample_precision(real, other), "Recall": sample_recall(real, other)}

# %%
figures.fig_curves(
    shares,
    "Number of latents L",
    references={t: {"real against real": ceilings[t.split()[0]]} for t in shares},
    ylabels=["Share"],
    log_x=True,
).made_from(source)

# %% [markdown]
# TEXT-PR

# %% [markdown]
# ## The figures in numbers
#
# The first cell prints what was measured at the profile's L, to digits that differ a little between processors; the
# second what has to hold everywhere.

# %% tags=["nbval-ignore-output"]
at = p.latent_dim
table = {name: {label: str(by_dim[at]) for label, by_dim in panels[name].items()} for name in names}
table |= {
    f"PCA-FD, {kind.lower()}": {label: str(by_dim[at]) for label, by_dim in found.items()}
    for kind, found in distances.items()
}
print(*(f"{what}: {found}" for what, found in floors.items()), sep="\n")
print(f"PCA-FD real against real: {floor:.3g}; precision and recall: {ceilings}")
print(
    *(f"{pair}: {name} {found}" for name, row in compared.items() for pair, found in row.items()),
    sep="\n",
)
print(
    *(
        f"gap of {label} at L = {n}: {found}"
        for label, row in gap.items()
        for n, found in row.items()
    ),
    sep="\n",
)
pd.DataFrame(table)

# %%
pca = panels["explained variance"]["PCA"]
smallest = min(study.latent_dims)
pd.Series(
    {
        "every point has its fits": len(runs) == len(study.configs),
        "PCA explains more with every component": bool(
            (np.diff([pca[n].value for n in sorted(pca)]) > 0).all()
        ),
    }
)
