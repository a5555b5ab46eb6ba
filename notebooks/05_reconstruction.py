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
# # 5 · Reconstructions and samples
#
# **Does the β-VAE reproduce brains better than the VAE and PCA, and do more latents help?**
#
# **Answer.** At 320 × 448 and L = {glue:text}`recon_l` the β-VAE explains {glue:text}`recon_explained_beta` of what makes test brains differ, the VAE
# {glue:text}`recon_explained_vae` and PCA {glue:text}`recon_explained_pca`; the planted factors themselves {glue:text}`recon_ceiling_full`. That the β-VAE is ahead on CW-SSIM, against the VAE: {glue:text}`recon_says_cw_vae`,
# against PCA: {glue:text}`recon_says_cw_pca`. With {glue:text}`recon_most` latents, at 80 × 112, PCA explains more: {glue:text}`recon_most_pca`, the β-VAE {glue:text}`recon_most_beta`.

# %% tags=["parameters", "hide-input"]
profile = "full"  # params/full.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
curve_latent_dims = None  # the profile's

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from brainvae_core import figures
from brainvae_core.claims import Claims
from brainvae_core.cohorts import clean_part
from brainvae_core.metrics import compare, counted_fits, named, summarise
from brainvae_core.planted import explained_by_factors
from brainvae_core.prepare import prepare_cohort
from brainvae_core.record import Record, quoted
from brainvae_core.results import table
from brainvae_core.study import fitted

# %% [markdown]
# ## What they look like
#
# Three test brains without artefacts, which no model was fitted to. Reconstructions show the shape and the brightness of regions; the mottled texture is gone.

# %% tags=["hide-input"]
whole, n = prepare_cohort(p), p.model.latent_dim
brains = clean_part(whole).images[:3]
models = {labels["model"]: run.model for labels, run in fitted(p, "compared", whole)}
figures.fig_reconstructions(
    brains,
    {name: model.reconstruct(brains) for name, model in models.items()},
    whole.atlas.pixel_um,
    [f"Test brain {i + 1}" for i in range(len(brains))],
).shows("Three test brains and their reconstructions.").made_from(
    f"Cohort {whole.name}, L = {n}, the first fit of each model"
)

# %% [markdown]
# ## Fig. 2C: similarity against the number of latents
#
# Every model is fitted at {glue:text}`recon_n_latents` values of L at 80 × 112. One call reads every fit's scores.

# %%
scores = table(p, "reconstruction_along_l")

# %% tags=["hide-input"]
floors, headline = table(p, "floors"), table(p, "reconstruction")
n_test = scores["brain"].nunique()
small, large = counted_fits(scores), counted_fits(headline)
source = f"{n_test} test brains, {small}"
summary = summarise(scores, by=["score", "model", "latent_dim"])
lines = floors.groupby(["score", "model"], sort=False)["value"].mean().reset_index()
figures.fig_2c(
    summary[summary["score"] == "CW-SSIM"],
    lines[lines["score"] == "CW-SSIM"],
    ylabel="CW-SSIM, bands around 800 µm",
).shows("CW-SSIM of test brains with their reconstructions, mean over brains.").made_from(source)

# %% [markdown]
# CW-SSIM compares oriented structure of one size and weighs the middle of the section most. Two dashed lines need no latents: the mean image in place of every
# brain, and the most similar training brain. Only a score above them says something of a single brain. That the β-VAE is ahead of PCA over L: {glue:text}`recon_says_cw_small`.
#
# ## Fig. 2D: distance between sets of images
#
# The PCA-based Fréchet distance (PCA-FD) compares two sets of images. Half of the test brains are the real side. The model's side are reconstructions of the
# other half, or as many samples: of the prior, or of the codes of training brains. The other half itself gives the dashed line. The basis has {glue:text}`recon_fd_dim` components of
# validation brains; PCA with fewer latents has nothing in the rest.

# %% tags=["hide-input"]
fd, fd_large = table(p, "distance_along_l"), table(p, "distance")
by_kind = summarise(fd, by=["score", "model", "latent_dim"], bounds=(0, np.inf))
by_kind = by_kind.rename(columns={"score": "kind"})
is_real = by_kind["kind"] == "real brains"
real = by_kind[is_real].head(1).drop(columns="kind").assign(model="real brains")
figures.fig_2d(by_kind[~is_real], real).shows(
    "PCA-FD between test brains and what each model makes; lower is more alike."
).made_from(f"{n_test // 2} against {n_test // 2} test brains, {small}")

# %% [markdown]
# Reconstructions show whether a model can make such brains, prior samples whether N(0, I) is where its codes lie.
#
# ## More latents, and overfitting
#
# Explained variance is the share of a brain's squared difference from the mean image that its reconstruction accounts for, averaged over brains. (Chapter 4 takes it
# of all brains together: other digits.) The paper says that the vanilla VAE
# "overfits to the noise". Then it must explain more of training brains than of test brains, by more than the other models do.

# %% tags=["hide-input"]
ceiling, ceiling_full = explained_by_factors(whole, p.grid.shape, p.cohort.shape)
titles = {"explained variance": "Test brains", "training less test": "Training less test brains"}
along = summary[summary["score"].isin(titles)].replace(titles)
line = {"model": ["planted factors"], "score": ["Test brains"], "value": [ceiling.value]}
labels = {"ylabels": ["Explained variance", "Difference"], "log_x": True}
labels["references"] = pd.DataFrame(line).dropna()
figures.fig_curves(along, "latent_dim", "Number of latents L", **labels).shows(
    "A: explained variance of test brains. B: how much larger it is for training brains."
).made_from(source)

# %% [markdown]
# The dashed line in A, {glue:text}`recon_ceiling`, is what a brain's own planted factors explain, rendered without texture, noise and artefact. A model above it
# reproduces some of these. At L = {glue:text}`recon_l` the β-VAE explains {glue:text}`recon_few_beta`, PCA {glue:text}`recon_few_pca`. The β-VAE's gap is largest with {glue:text}`recon_gap_at` latents, {glue:text}`recon_gap_largest`, and {glue:text}`recon_gap_many` with
# {glue:text}`recon_most`. Explained variance at L = {glue:text}`recon_l` less that at {glue:text}`recon_most` is {glue:text}`recon_lost_vae` for the VAE and {glue:text}`recon_lost_beta`
# for the β-VAE. Do they fail at very large L? The VAE: {glue:text}`recon_fails_vae`; the β-VAE: {glue:text}`recon_fails_beta`. (From 30 latents on both explain a little less.)
#
# ## At the paper's size
#
# The same scores at 320 × 448, of {glue:text}`recon_fits_full` fits of each VAE, with wider PCAs and the two models without latents. Deviation is how far reconstructions lie from the mean image, over how far
# brains do.

# %% tags=["hide-input"]
is_kind = fd_large["score"].isin(["reconstructions", "prior samples"])
far = summarise(fd_large[is_kind], by=["score", "model"], bounds=(0, np.inf))
found = pd.concat(
    [
        summarise(headline, by=["score", "model"]),
        far.assign(score="PCA-FD, " + far["score"] + " (sq. grey values)"),
    ]
)
shown = found[(found["score"] != "training less test") | (found["model"] != "nearest brain")]
figures.fig_scores(shown, columns=3).shows(
    "Scores of every model at the paper's size, means over test brains and fits; for PCA-FD lower is better."
).made_from(f"{n_test} test brains, {large}")

# %% [markdown]
# The gap of training less test brains is {glue:text}`recon_gap_vae` for the VAE, {glue:text}`recon_gap_beta` for the β-VAE and {glue:text}`recon_gap_pca` for PCA.
# Does the vanilla VAE overfit most? {glue:text}`recon_overfits`. The paper says that PCA "does not deviate much from the mean in terms of its structural
# details". It deviates by {glue:text}`recon_deviation_pca` of what brains do, the VAE by {glue:text}`recon_deviation_vae`, the β-VAE by
# {glue:text}`recon_deviation_beta`. Does PCA deviate least? {glue:text}`recon_deviates`. PCA's deviation is about the root of its explained variance, so the two say the same.
#
# ## Which sizes of structure are lost?
#
# The figure divides the power of clean brains less their reconstructions by the power of clean brains less the mean image. At 0 structure of that size is reproduced, at 1 it is
# not. Below 100 µm these simulated sections have sensor noise alone, which no model should reproduce. Real sections have structure there.

# %% tags=["hide-input"]
spectrum = table(p, "spectrum")
by_size = summarise(spectrum[spectrum["score"] == "power left"], by=["model", "size_um"])
by_size["size_um"] = by_size["size_um"].astype(int)
n_clean = spectrum["brain"].nunique()
figures.fig_curves(
    by_size[~by_size["model"].isin(["nearest brain", "mean image"])],
    "size_um",
    "Wavelength (µm)",
    references=pd.DataFrame({"model": ["mean image"], "value": [1.0]}),
    ylabels=["Share of the power that is left"],
    columns=1,
    log_x=True,
).shows("Power that each model fails to reproduce, by the size of structures.").made_from(
    f"{n_clean} clean test brains at the paper's size, {large}"
)

# %% [markdown]
# Of structures of 100 to 300 µm (mean over sizes) PCA with {glue:text}`recon_l` components leaves {glue:text}`recon_fine_pca`, the β-VAE {glue:text}`recon_fine_beta`.
# Does low-dimensional PCA miss high frequencies? {glue:text}`recon_misses`. More of them than the β-VAE? {glue:text}`recon_misses_beta`.
#
# ## How probable are new brains?
#
# With Gaussian noise of one σ every model has a density. Probabilistic PCA's is exact. A VAE's has a known lower bound, from {glue:text}`recon_samples` samples of
# its posterior a brain.

# %% tags=["hide-input"]
nats = table(p, "likelihood_along_l").replace("PCA", "probabilistic PCA")
nats = nats[nats["score"] == "log p(x)"]
figures.fig_curves(
    summarise(nats, by=["model", "latent_dim"]),
    "latent_dim",
    "Number of latents L",
    ylabels=["log p(x) or its bound (nats)"],
    columns=1,
    log_x=True,
).shows("How probable clean test brains are under each model; higher is better.").made_from(
    f"{n_clean} clean test brains, {small}"
)

# %% [markdown]
# Probabilistic PCA's log p(x) less a VAE's bound, at L = {glue:text}`recon_l`: {glue:text}`recon_nats_vae` nats for the VAE, {glue:text}`recon_nats_beta` for the β-VAE. A
# negative number says that the bound is the higher.
#
# ## The claims
#
# A claim's number is a difference that is positive where it holds. The margin is the least that would matter. Two margins come from these data: on PCA-FD half of real
# against real, on CW-SSIM a tenth of PCA's lead over the mean image. The others are fixed. *Holds* needs an interval above zero, not above the margin: the effect may be
# smaller than that. Controls are true by construction (on CW-SSIM as good as), so the same rule must say "holds". *Spread*, *nearest neighbour* and *clustering* of codes, at the
# end of the table, are defined in [the method](../book/method.md).

# %% tags=["hide-input"]
at = [f"{a} × {b}" for a, b in (p.grid.shape, p.cohort.shape)]
wide = dict(iter(headline.groupby("score")))
kinds, fine = dict(iter(fd_large.groupby("score"))), spectrum[spectrum["score"] == "fine"]
tenth = compare(wide["CW-SSIM"], "PCA", "mean image")["value"].item() / 10
tenth = round(max(tenth, 0), 3)
half = round(fd_large[fd_large["score"] == "real brains"]["value"].iloc[0] / 2, 1)
explained = scores[scores["score"] == "explained variance"]
most = max(scores["latent_dim"])
widest = [m for m in headline["model"].unique() if m[:3] == "PCA"][-1]
says = Claims()
for rival in ("PCA", "VAE"):
    ahead = f"β-VAE is ahead of {rival}"
    says.add(f"{ahead} on CW-SSIM", wide["CW-SSIM"], "β-VAE", rival, tenth)
    for kind in ("reconstructions", "prior samples"):
        says.add(f"{ahead} on PCA-FD of {kind}", kinds[kind], rival, "β-VAE", half)
over_l, by_l = f"over L at {at[0]} β-VAE is ahead of PCA on", {"by": "latent_dim"}
small_cw, small_fd = scores[scores["score"] == "CW-SSIM"], fd[fd["score"] == "reconstructions"]
says.add(f"{over_l} CW-SSIM", small_cw, "β-VAE", "PCA", tenth, **by_l)
small_half = round(real["value"].item() / 2, 2)
says.add(f"{over_l} PCA-FD of reconstructions", small_fd, "PCA", "β-VAE", small_half, **by_l)
for rival in ("PCA", "β-VAE"):
    says.add("vanilla VAE overfits to the noise", wide["training less test"], "VAE", rival, 0.01)
for name in ("VAE", "β-VAE"):
    says.add("PCA deviates least from the mean", wide["deviation"], name, "PCA", 0.02)
    of_model = explained[explained["model"] == name]
    says.add(f"{name} fails at very large L", of_model, n, most, 0.02, of="latent_dim")
misses = "low-dimensional PCA misses high frequencies"
says.add(misses, spectrum[spectrum["model"] == "PCA"], "fine", "coarse", 0.05, of="score")
says.add(misses, fine, "PCA", widest, 0.05)
says.add("PCA misses more high frequencies than the β-VAE", fine, "PCA", "β-VAE", 0.05)

# %% tags=["hide-input"]
lead = "control: PCA is ahead of the mean image on"
says.add(f"{lead} CW-SSIM", wide["CW-SSIM"], "PCA", "mean image", tenth)
says.add(f"{lead} PCA-FD", kinds["reconstructions"], "mean image", "PCA", half)
for claim, score, a, b, margin in (
    ("the nearest training brain overfits", "training less test", "nearest brain", "PCA", 0.01),
    ("the mean image deviates least", "deviation", "PCA", "mean image", 0.02),
    ("the mean image fails", "explained variance", "PCA", "mean image", 0.02),
):
    says.add(f"control: {claim}", wide[score], a, b, margin)

# %% tags=["hide-input", "nbval-ignore-output"]
numbers = named(found, "{score}, {model}")
numbers |= {"explained variance, planted factors": ceiling_full}
numbers = {k: v for k, v in numbers.items() if not k.startswith("PCA-FD")}
numbers |= named(by_size[by_size["size_um"] < 300], "power left at {size_um} µm, {model}")
numbers |= named(summarise(table(p, "dispersion"), by=["score", "beta"]), "{score}, β = {beta:g}")
for name in ("VAE", "β-VAE"):
    behind = compare(nats, "probabilistic PCA", name, by="latent_dim")
    told = f"log p(x), probabilistic PCA less the {name}'s bound, L = {{latent_dim}} (nats)"
    numbers |= named(behind, told)
Record(numbers, says.found, says.margins)

# %% tags=["hide-input", "hide-output"]
short = {"pca": "PCA", "vae": "VAE", "beta": "β-VAE"}
told = {"explained": "explained variance", "deviation": "deviation", "gap": "training less test"}
quoted(**{f"recon_{k}_{m}": numbers[f"{told[k]}, {short[m]}"] for k in told for m in short})
at_most = named(summary[summary["latent_dim"] == most], "{score}, {model}")
at_few = named(summary[summary["latent_dim"] == n], "{score}, {model}")
gaps = summary.query("score == 'training less test' and model == 'β-VAE'").set_index("latent_dim")
left, behind = named(summarise(fine, by="model"), "{model}"), "log p(x), probabilistic PCA less the"
quoted(
    recon_l=n,
    recon_most=most,
    recon_few_pca=at_few["explained variance, PCA"],
    recon_few_beta=at_few["explained variance, β-VAE"],
    recon_gap_at=gaps["value"].idxmax(),
    recon_gap_largest=f"{gaps['value'].max():.3f}",
    recon_gap_many=f"{gaps['value'][most]:.3f}",
    recon_says_cw_small=says[f"{over_l} CW-SSIM"],
    recon_fd_dim=p.evaluation.fd_dim,
    recon_ceiling=ceiling,
    recon_ceiling_full=ceiling_full,
    recon_most_pca=at_most["explained variance, PCA"],
    recon_most_beta=at_most["explained variance, β-VAE"],
    recon_says_cw_pca=says["β-VAE is ahead of PCA on CW-SSIM"],
    recon_says_cw_vae=says["β-VAE is ahead of VAE on CW-SSIM"],
    recon_lost_vae=says.only("VAE fails at very large L"),
    recon_lost_beta=says.only("β-VAE fails at very large L"),
    recon_fails_vae=says["VAE fails at very large L"],
    recon_fails_beta=says["β-VAE fails at very large L"],
    recon_overfits=says["vanilla VAE overfits to the noise"],
    recon_deviates=says["PCA deviates least from the mean"],
    recon_fine_pca=left["PCA"],
    recon_fine_beta=left["β-VAE"],
    recon_misses=says[misses],
    recon_misses_beta=says["PCA misses more high frequencies than the β-VAE"],
    recon_samples=p.evaluation.n_importance,
    recon_nats_vae=numbers[f"{behind} VAE's bound, L = {n} (nats)"],
    recon_nats_beta=numbers[f"{behind} β-VAE's bound, L = {n} (nats)"],
    recon_n=n_test,
    recon_fits_full=(n_full := headline["seed"].nunique()),
    recon_n_latents=scores["latent_dim"].nunique(),
    recon_fits=f"{small} at {at[0]} and {n_full} at {at[1]}",
)

# %% tags=["hide-input"]
of_pca = explained[explained["model"] == "PCA"].groupby("latent_dim")["value"].mean()
near = numbers["explained variance, nearest brain"]
pd.Series(
    {
        "every control holds": {says[c] for c in says.found if c[:7] == "control"} == {"holds"},
        "PCA explains more with every component": bool(of_pca.is_monotonic_increasing),
        "both VAEs explain more than the nearest training brain": bool(
            min(numbers[f"explained variance, {name}"].low for name in ("VAE", "β-VAE")) > near.high
        ),
        "PCA with 8 components does not reproduce sensor noise": bool(
            by_size.query("model == 'PCA' and size_um < 100")["value"].min() > 0.95
        ),
    }
).to_frame("true")

# %% [markdown]
# **How sure.** {glue:text}`recon_n` simulated test brains, {glue:text}`recon_fits`; intervals are over brains and fits. How far fits spread is known roughly from so few, so more fits may reverse a lead of one VAE
# over the other that is as small as its interval. PCA is exact. A VAE's likelihood may lie far above its bound. Nothing here is about real mice
# yet.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
