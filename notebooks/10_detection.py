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
# # 10 · Noticing artefacts
#
# **Can a model tell that something is wrong with a brain, and where?** What a model does not paint back stands out in
# the difference from its input; and a brain unlike all others may have a code unlike all others. Both are used as
# detectors here, against planted artefacts, so that hits and false alarms can be counted.

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
from brainvae_core.cohorts import ARTEFACTS, clean_part, graded_artefacts
from brainvae_core.cohorts.artefacts import artefact_scores, reference_brains
from brainvae_core.metrics import (
    auc,
    detection_curves,
    difference,
    estimate,
    jackknife,
    outlier_score,
    pixel_detection,
)
from brainvae_core.prepare import prepare_cohort
from brainvae_core.profile import evaluated_models, evaluation_cohort

# %%
whole = prepare_cohort(p)
cohort = evaluation_cohort(p, whole)
train = cohort.split("train").images
models = evaluated_models(p, cohort)
detectors = ("PCA", "VAE", "β-VAE", "another brain", "mean image")
print(cohort)

# %%
shape, strengths = cohort.atlas.shape, p.artefact_strengths
graded = graded_artefacts(whole, strengths, p.n_graded).resampled(shape)
n_brains = graded.metadata["brain_id"].nunique()
cells = (len(ARTEFACTS), len(strengths), n_brains)
clean = graded.clean[:n_brains]
source = f"Cohort {cohort.name} at {p.eval_height} × {p.eval_width}, L = {p.latent_dim}: {n_brains} clean test brains, {len(p.eval_seeds)} fits of each VAE, 95 % intervals"
print(f"graded sections (kind, strength, brain) = {cells}")

# %% [markdown]
# ## Error maps
#
# The absolute difference between a brain and its reconstruction, divided pixel by pixel by its root mean square over
# clean validation brains: borders that always differ count for less. The mean image and the most similar training brain are detectors
# too, and need no model.

# %%
ordinary = clean_part(whole, "validation").resampled(shape).images
spreads = {
    name: [
        np.sqrt(np.square(m.reconstruct(ordinary) - ordinary).mean(axis=0)).clip(min=0.01)
        for m in models[name]
    ]
    for name in detectors
}
maps = {
    name: [
        np.abs(m.reconstruct(graded.images) - graded.images) / s
        for m, s in zip(models[name], spreads[name], strict=True)
    ]
    for name in detectors
}

# %%
middle = len(strengths) // 2
shown = [(k * len(strengths) + middle) * n_brains for k in range(len(ARTEFACTS))]
figures.fig_error_maps(
    graded.images[shown],
    {name: of_fits[0][shown] for name, of_fits in maps.items()},
    list(ARTEFACTS),
    cohort.atlas.pixel_um,
    graded.artefact_masks[shown],
).made_from(f"{source.split(':')[0]}: one test brain, strength {strengths[middle]:g}, first fits")

# %% [markdown]
# ## Where is it?
#
# Every pixel is judged against the planted mask. Above, the area under the ROC curve (0.5: guessing); below, the average
# precision, whose floor is the mask's share of the image. A brain is one value, so intervals are over brains and
# fits.

# %%
found = {
    name: [pixel_detection(one, graded.artefact_masks) for one in of_fits]
    for name, of_fits in maps.items()
}
pixels = {
    what: {
        name: np.stack([getattr(f, what) for f in of_fits]).reshape(-1, *cells)
        for name, of_fits in found.items()
    }
    for what in ("auc", "average_precision")
}
covered = graded.artefact_masks.mean(axis=(1, 2)).reshape(cells).mean(axis=(1, 2))

# %%
titles = {"auc": "area under ROC", "average_precision": "average precision"}
panels = {
    f"{kind.capitalize()}: {titles[what]}": {
        name: {s: estimate(values[:, k, i], bounds=(0, 1)) for i, s in enumerate(strengths)}
        for name, values in by_name.items()
    }
    for what, by_name in pixels.items()
    for k, kind in enumerate(ARTEFACTS)
}
guessing = {
    f"{kind.capitalize()}: {title}": {"guessing": 0.5 if what == "auc" else float(covered[k])}
    for what, title in titles.items()
    for k, kind in enumerate(ARTEFACTS)
}

# %%
figures.fig_curves(
    panels, "Strength of the artefact", references=guessing, ylabels=["Pixels"], columns=3
).made_from(source)

# %% [markdown]
# TEXT-PIXELS

# %% [markdown]
# The whole curves, at the middle strength, all brains and pixels of a kind together.

# %%
masks = graded.artefact_masks.reshape(*cells, *shape)[:, middle]
curves = {
    kind: {
        name: detection_curves(of_fits[0].reshape(*cells, *shape)[k, middle], masks[k])
        for name, of_fits in maps.items()
    }
    for k, kind in enumerate(ARTEFACTS)
}
figures.fig_detection(curves).made_from(
    f"{source.split(',')[0]}: {n_brains} clean test brains, strength {strengths[middle]:g}, first fits"
)

# %% [markdown]
# ## Which brain is it?
#
# One score a brain: how far its code lies outside those of the training brains (squared Mahalanobis distance), and the root
# mean square of its error map. The area under the ROC curve is how often a brain with the artefact scores higher than a
# clean one. The rule of chapter 2, which looks at images alone, is the detector to beat.

# %%
scores = {
    "latent outlier": {
        name: [
            (
                outlier_score(m.encode(train), m.encode(clean)),
                outlier_score(m.encode(train), m.encode(graded.images)),
            )
            for m in models[name]
        ]
        for name in ("PCA", "VAE", "β-VAE")
    },
    "error": {
        name: [
            (
                np.sqrt(np.square((m.reconstruct(clean) - clean) / s).mean(axis=(1, 2))),
                np.sqrt(np.square(one).mean(axis=(1, 2))),
            )
            for m, s, one in zip(models[name], spreads[name], maps[name], strict=True)
        ]
        for name in detectors
    },
}

# %%
stacked = np.concatenate([cohort.images, clean, graded.images])
reference = np.zeros(len(stacked), dtype=bool)
reference[: len(cohort)] = reference_brains(cohort.metadata)
by_rule = artefact_scores(stacked, reference, cohort.atlas).max(axis=1)[len(cohort) :]
rule = {"rule of chapter 2": [(by_rule[:n_brains], by_rule[n_brains:])]}

# %%
brains = {
    f"{kind.capitalize()}: {what}": {
        name: {
            s: jackknife(auc, [(a, b.reshape(cells)[k, i]) for a, b in of_fits], bounds=(0, 1))
            for i, s in enumerate(strengths)
        }
        for name, of_fits in (by_name | rule).items()
    }
    for what, by_name in scores.items()
    for k, kind in enumerate(ARTEFACTS)
}

# %%
figures.fig_curves(
    brains,
    "Strength of the artefact",
    references=dict.fromkeys(brains, {"guessing": 0.5}),
    ylabels=["Area under ROC, brains"],
    columns=3,
).made_from(source)

# %% [markdown]
# TEXT-BRAINS

# %% [markdown]
# ## The figures in numbers

# %% tags=["nbval-ignore-output"]
best = {
    f"{a} − {b}": {
        kind: difference(pixels["auc"][a][:, k].mean(axis=1), pixels["auc"][b][:, k].mean(axis=1))
        for k, kind in enumerate(ARTEFACTS)
    }
    for a, b in (("β-VAE", "VAE"), ("β-VAE", "PCA"), ("β-VAE", "mean image"))
}
for pair, by_kind in best.items():
    print(f"pixels, area under ROC, {pair}: " + "; ".join(f"{k} {d}" for k, d in by_kind.items()))
at = strengths[middle]
pd.DataFrame(
    {
        title: {name: str(by_strength[at]) for name, by_strength in by_name.items()}
        for title, by_name in (panels | brains).items()
    }
).T

# %%
mean_auc = {name: values.mean(axis=(0, 2, 3)) for name, values in pixels["auc"].items()}
pd.Series(
    {
        "every model finds pixels of leaks and breakages better than guessing": all(
            (mean_auc[name][:2] > 0.6).all() for name in ("PCA", "VAE", "β-VAE")
        ),
        "every model finds pixels of leaks better than the mean image does": all(
            mean_auc[name][0] > mean_auc["mean image"][0] for name in ("PCA", "VAE", "β-VAE")
        ),
    }
)
