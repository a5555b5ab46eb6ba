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
# # 12 · What holds of the claims on image quality
#
# **One table, and a sentence for every claim.** All models at the profile's number of latents, the VAEs with several fits, on
# test brains that none of them saw; every number with its interval over brains and fits, every difference paired by
# brain. A claim *holds* where every interval lies on its side of zero, *depends* where some do, *does not hold* where
# none does, and is *reversed* where all lie on the other side.

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
from brainvae_core.cohorts import ARTEFACTS, graded_artefacts
from brainvae_core.metrics import (
    CWSSIM,
    aggregate_codes,
    artefact_removal,
    cw_ssim_scale_um,
    difference,
    estimate,
    explained_variance_per_brain,
    fitted_sigma,
    frechet_distance,
    jackknife,
    jackknife_difference,
    likelihood_bound,
    pca_basis,
    pixel_detection,
    reconstruction_scores,
    sample_precision,
    sample_recall,
    verdict,
)
from brainvae_core.models import effective_strength, fit_all
from brainvae_core.prepare import prepare_cohort
from brainvae_core.profile import curve, evaluated_models, evaluation_cohort, grid_cohort

# %%
whole = prepare_cohort(p)
cohort = evaluation_cohort(p, whole)
train, validation, test = (cohort.split(name).images for name in ("train", "validation", "test"))
models = evaluated_models(p, cohort)
source = f"Cohort {cohort.name} at {p.eval_height} × {p.eval_width}, L = {p.latent_dim}: {len(test)} test brains, {len(p.eval_seeds)} fits of each VAE, 95 % intervals"
print(cohort)
print("fits: " + ", ".join(f"{name} {len(fits)}" for name, fits in models.items()))
print(
    "effective strength: "
    + ", ".join(
        f"β = {b:g} {effective_strength(b, p.likelihood, p.eval_sigma, cohort.atlas.shape):.2g}"
        for b in (1.0, p.beta)
    )
)

# %% [markdown]
# ## Reconstruction

# %%
level = max(1, 4 - int(np.log2(cohort.atlas.pixel_um / 25)))
print(
    f"CW-SSIM level {level}, 8 orientations: bands around {cw_ssim_scale_um(level, cohort.atlas.pixel_um):.0f} µm"
)
similarity, mean_section = CWSSIM(test, level=level), train.mean(axis=0)
painted = {name: [m.reconstruct(test) for m in fits] for name, fits in models.items()}
scores = {
    name: [reconstruction_scores(test, r, mean_section, similarity) for r in of_fits]
    for name, of_fits in painted.items()
}

# %%
metrics = {
    metric: {name: estimate([s[metric] for s in of_fits]) for name, of_fits in scores.items()}
    for metric in ("explained variance", "CW-SSIM", "MS-SSIM", "PSNR", "norm ratio")
}

# %% [markdown]
# ## Generation
#
# PCA-FD of reconstructions of the other half of the test brains, of samples of the prior, and of the aggregate posterior; precision
# and recall of the last. The prior is one of a model only where its codes are to follow N(0, I).

# %%
half = len(test) // 2
basis = pca_basis(validation, min(p.fd_dim, len(validation) - 1))
real, other = basis.project(test[:half]), basis.project(test[half : 2 * half])
rng = np.random.default_rng(0)
prior = rng.standard_normal((half, p.latent_dim)).astype(np.float32)
with_prior = ("PCA", "VAE", "β-VAE", "probabilistic PCA", "factor analysis")
sets = {
    "reconstructions": {
        name: [(real, basis.project(r[half : 2 * half])) for r in of_fits]
        for name, of_fits in painted.items()
    },
    "prior": {
        name: [(real, basis.project(m.decode(prior))) for m in models[name]] for name in with_prior
    },
    "aggregate": {
        name: [(real, basis.project(m.decode(aggregate_codes(m, train, half)))) for m in fits]
        for name, fits in models.items()
    },
}

# %%
for kind, by_name in sets.items():
    metrics[f"PCA-FD, {kind}"] = {
        name: jackknife(frechet_distance, of_fits, bounds=(0, np.inf))
        for name, of_fits in by_name.items()
    }
for title, share in (("precision", sample_precision), ("recall", sample_recall)):
    metrics[f"{title}, aggregate"] = {
        name: jackknife(share, of_fits, bounds=(0, 1))
        for name, of_fits in sets["aggregate"].items()
    }
floors = {f"PCA-FD, {kind}": {"real against real": frechet_distance(real, other)} for kind in sets}
floors |= {
    "precision, aggregate": {"real against real": sample_precision(real, other)},
    "recall, aggregate": {"real against real": sample_recall(real, other)},
}

# %% [markdown]
# ## Likelihood
#
# Chapter 8's bound on half of the test brains, one σ for all pixels; exact for probabilistic PCA.

# %%
few = test[:half]
bounds = {
    name: [
        likelihood_bound(m, few, fitted_sigma(m, train), p.n_importance).importance_weighted
        for m in models[name]
    ]
    for name in ("VAE", "β-VAE")
}
bounds["probabilistic PCA"] = [models["probabilistic PCA"][0].log_likelihood(few)]
metrics["log p(x) or bound, nats"] = {name: estimate(b) for name, b in bounds.items()}

# %% [markdown]
# ## Artefacts
#
# Chapter 9's planted artefacts, mean over strengths: the share painted back, the brain kept around them; and chapter 10's area under the
# ROC curve of pixels, at the middle strength.

# %%
strengths = p.artefact_strengths
graded = graded_artefacts(whole, strengths, p.n_graded).resampled(cohort.atlas.shape)
n_brains = graded.metadata["brain_id"].nunique()
cells, times = (len(ARTEFACTS), len(strengths), n_brains), len(ARTEFACTS) * len(strengths)
truth = (graded.clean, graded.images, graded.artefact_masks)
removal, found = {}, {}
middle = (graded.metadata["artefact_strength"] == strengths[len(strengths) // 2]).to_numpy()
for name, fits in models.items():
    for m in fits:
        of_clean = np.tile(m.reconstruct(graded.clean[:n_brains]), (times, 1, 1))
        answer = m.reconstruct(graded.images)
        share = artefact_removal(*truth, of_clean, answer, mean_section)
        removal.setdefault(name, []).append(share)
        spread = np.sqrt(np.square(m.reconstruct(validation) - validation).mean(axis=0))
        maps = np.abs(answer - graded.images)[middle] / spread.clip(min=0.01)
        found.setdefault(name, []).append(pixel_detection(maps, graded.artefact_masks[middle]).auc)

# %%
reproduced = {
    name: np.stack([f.reproduced for f in of_fits]).reshape(-1, *cells).mean(axis=2)
    for name, of_fits in removal.items()
}
kept = {
    name: np.stack([f.kept for f in of_fits]).reshape(-1, *cells).mean(axis=(1, 2))
    for name, of_fits in removal.items()
}
pixels = {
    name: np.stack(of_fits).reshape(-1, len(ARTEFACTS), n_brains).mean(axis=1)
    for name, of_fits in found.items()
}
for k, kind in enumerate(ARTEFACTS):
    metrics[f"{kind} reproduced"] = {name: estimate(r[:, k]) for name, r in reproduced.items()}
metrics["brain kept around it"] = {name: estimate(values) for name, values in kept.items()}
metrics["artefact pixels, ROC"] = {name: estimate(values) for name, values in pixels.items()}

# %% [markdown]
# ## Everything at once

# %%
figures.fig_scores(metrics, references=floors).made_from(source)

# %% [markdown]
# TEXT-ALL

# %% [markdown]
# ## The claims
#
# Each as differences in the direction of the claim. Those that speak of many latents are read off the models of chapter 7, at the
# size of the grid and with the strongest artefacts.

# %%
small = grid_cohort(p, whole)
small_train, small_test = small.split("train").images, small.split("test").images
few_brains = min(len(small_train), len(small_test))
seen, average = small_train[:few_brains], small_train.mean(axis=0)
largest, study = max(p.curve_latent_dims), curve(p)
few_dims = [n for n in sorted({p.latent_dim, 30, largest}) if n in study.latent_dims]
worst = graded_artefacts(whole, strengths[-1:], p.n_graded).resampled(small.atlas.shape)
worst_truth = (worst.clean, worst.images, worst.artefact_masks)
on_test, on_train, painted_back = {}, {}, {}
for run in fit_all(small, study.configs, p.runs, p.device, p.together, halve=True):
    if run.config.latent_dim in few_dims:
        label = {None: "PCA", p.beta: "β-VAE", 1.0: "VAE"}[getattr(run.config, "beta", None)]
        point = (label, run.config.latent_dim)
        for part, kept_of in ((small_test[:few_brains], on_test), (seen, on_train)):
            explained = explained_variance_per_brain(part, run.model.reconstruct(part), average)
            kept_of.setdefault(point, []).append(explained)
        of_clean = np.tile(run.model.reconstruct(worst.clean[:n_brains]), (len(ARTEFACTS), 1, 1))
        answer = run.model.reconstruct(worst.images)
        share = artefact_removal(*worst_truth, of_clean, answer, average).reproduced
        painted_back.setdefault(point, []).append(share.reshape(len(ARTEFACTS), n_brains))

# %%
claims = {
    "the β-VAE paints back less of an artefact than the VAE": {
        kind: difference(reproduced["VAE"][:, k], reproduced["β-VAE"][:, k])
        for k, kind in enumerate(ARTEFACTS)
    },
    "the β-VAE paints back less of an artefact than PCA": {
        kind: difference(reproduced["PCA"][:, k], reproduced["β-VAE"][:, k])
        for k, kind in enumerate(ARTEFACTS)
    },
    "the β-VAE keeps more of the brain around an artefact": {
        rival: difference(kept["β-VAE"], kept[rival]) for rival in ("VAE", "PCA")
    },
    "the β-VAE's reconstructions are more similar (CW-SSIM)": {
        rival: difference(
            [s["CW-SSIM"] for s in scores["β-VAE"]], [s["CW-SSIM"] for s in scores[rival]]
        )
        for rival in ("VAE", "PCA", "mean image")
    },
    "the β-VAE's images are nearer in distribution (PCA-FD)": {
        f"{rival}, {kind}": jackknife_difference(
            frechet_distance, sets[kind][rival], sets[kind]["β-VAE"]
        )
        for kind in ("reconstructions", "prior")
        for rival in ("VAE", "PCA")
    },
    "reconstructions deviate less from the mean than brains do": {
        name: estimate([1 - s["norm ratio"] for s in scores[name]])
        for name in ("PCA", "VAE", "β-VAE")
    },
}

# %%
at, most = p.latent_dim, few_dims[-1]
claims |= {
    f"at {n} latents each, the β-VAE paints back less of an artefact than {rival}": {
        kind: difference(
            np.stack(painted_back[rival, n])[:, k], np.stack(painted_back["β-VAE", n])[:, k]
        )
        for k, kind in enumerate(ARTEFACTS)
        if {(rival, n), ("β-VAE", n)} <= set(painted_back)
    }
    for n in few_dims
    for rival in ("VAE", "PCA")
}
claims |= {
    f"PCA gains from {at} to {n} components": {
        "PCA": difference(on_test["PCA", n], on_test["PCA", at])
    }
    for n in few_dims
    if n > at
}
claims[f"VAEs fail at very large L: worse at {most} than at {at}"] = {
    name: difference(on_test[name, at], on_test[name, most])
    for name in ("VAE", "β-VAE")
    if {(name, at), (name, most)} <= set(on_test)
}
claims[f"PCA with {most} components overfits: its gap is larger than at {at}"] = {
    "PCA": difference(
        np.subtract(on_train["PCA", most], on_test["PCA", most]),
        np.subtract(on_train["PCA", at], on_test["PCA", at]),
    )
}

# %% tags=["nbval-ignore-output"]
print(
    pd.DataFrame({m: {n: str(e) for n, e in by.items()} for m, by in metrics.items()}).T.to_string()
)
pd.set_option("display.max_colwidth", None)
pd.DataFrame(
    {
        claim: {
            "verdict": verdict(found.values()),
            "differences in the claim's direction": "; ".join(f"{k} {d}" for k, d in found.items()),
        }
        for claim, found in claims.items()
        if found
    }
).T

# %% [markdown]
# TEXT-CLAIMS

# %%
pd.Series(
    {
        "PCA explains more than any VAE at this size": all(
            metrics["explained variance"]["PCA"].low > metrics["explained variance"][name].high
            for name in ("VAE", "β-VAE")
        ),
        "reconstructions deviate less from the mean than brains do": verdict(
            claims["reconstructions deviate less from the mean than brains do"].values()
        )
        == "holds",
        "the mean image reproduces no artefact and keeps nothing": bool(
            np.abs(reproduced["mean image"]).max() < 1e-6
            and np.abs(kept["mean image"]).max() < 1e-6
        ),
    }
)
