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
# # 4 · How many latents, which β
#
# **Which number of latents L and which β does a stated rule choose, and is it the paper's L = 8 and β = 3?**
#
# **Answer.** On {glue:text}`grid_size` the rule chooses {glue:text}`grid_latents` and {glue:text}`grid_beta`; the paper's L = 8 {glue:text}`grid_papers_l`, its β = 3
# {glue:text}`grid_papers_beta`. (Brackets: where the answer lies if fits are redrawn.) But these brains have
# {glue:text}`grid_factors` planted factors, and of brains with {glue:text}`grid_control_factors` the knee is {glue:text}`grid_control_knee`: the agreement on L says nothing of mice.

# %% tags=["parameters", "hide-input"]
profile = "full"  # params/full.yaml, or the path of a YAML file
settings = ""  # any others, as text: book/running.md
betas = None  # the profile's, as the next
latent_dims = None

# %% tags=["hide-input"]
from brainvae_core.settings import read_settings

p = read_settings(globals())

# %% tags=["hide-input"]
import pandas as pd
from brainvae_core import figures, study
from brainvae_core.metrics import Estimate, choose_point, model_knees
from brainvae_core.models import effective_strength
from brainvae_core.prepare import prepare_cohort
from brainvae_core.record import Record, quoted
from brainvae_core.results import measured, table

# %% [markdown]
# ## The grid
#
# Every β is fitted at every L, with PCA at every L beside it. One call reads the scores of all fits; those that the profile asks for beyond what comes with the
# project are fitted first.

# %%
scores = table(p, "grid")

# %% tags=["hide-input"]
grid, cohort = study.grid(p), prepare_cohort(p)
n_validation, n_test = (len(cohort.split(name)) for name in ("validation", "test"))
size = f"{p.grid.shape[0]} × {p.grid.shape[1]}"
seeds = f"{len(grid.seeds)} fit{'s' * (len(grid.seeds) > 1)} a point"
points = f"{len(grid.betas)} values of β × {len(grid.latent_dims)} of L, {seeds}"
print(f"{points}: {len(grid)} β-VAEs and {len(grid.latent_dims)} PCAs at {size}")
for b in (1.0, p.model.beta):
    strength = effective_strength(b, p.model.likelihood)
    print(f"β = {b:g}: effective strength {1e6 * strength:.2f} × 10⁻⁶")

# %% [markdown]
# The effective strength of β is βσ² over the number of pixels. It is the same at every size of image, so β = {glue:text}`grid_own_beta` here is as strong as at the paper's
# 320 × 448.
#
# ## What validation brains say
#
# Distortion D is −log p(x|z) at a sample of the code. Rate R is the KL divergence of the code from its prior. Both are nats per image. Their sum is the
# negative bound on log p(x) (with a Gaussian likelihood), one quantity at every point of the grid.

# %% tags=["hide-input"]
point = ["beta", "latent_dim", "seed"]
vaes = scores[scores["model"] == "β-VAE"].pivot(index=point, columns="score", values="value")
every = pd.MultiIndex.from_product([grid.betas, grid.latent_dims, grid.seeds], names=point)
vaes = vaes.reindex(every)  # a fit that failed has NaN
mean = vaes.groupby(level=point[:2]).mean()
validation = vaes.filter(like=", validation").rename(columns=lambda name: name.split(",")[0])
of_axes = (validation[name].to_numpy().reshape(grid.shape) for name in ("rate", "distortion"))
in_dims, in_betas = choose_point(grid.betas, grid.latent_dims, *of_axes)
marks = {"chosen on validation brains": (in_betas.at, in_dims.at), "the paper's choice": (3.0, 8)}
on_validation = f"Cohort {cohort.name} at {size}, {n_validation} validation brains, {seeds}"

# %% tags=["hide-input"]
panels = {
    "−ELBO at β = 1 (nats per image)": mean["rate, validation"] + mean["distortion, validation"],
    "Rate R (nats per image)": mean["rate, validation"],
    "Distortion D (nats per image)": mean["distortion, validation"],
    "Active latents": mean["active latents"],
}
figures.fig_grids({name: of.unstack() for name, of in panels.items()}, marks).shows(
    "The bound, its two terms and the active latents, means over fits; lower is better in A and C."
).made_from(on_validation)

# %% [markdown]
# Along a row the bound stops falling where more latents stop helping. Along a column a larger β lowers R; it raises D where there are latents to spare. {glue:text}`grid_active` of the
# {glue:text}`grid_fits` fits use all their latents.
#
# ## The rule
#
# The paper names an inflection point and gives no rule. Ours has two steps. L is the knee, over L, of the least D + R that any β reaches. β is the knee of the
# rate–distortion curve at that L. A knee is the point farthest from the chord between the curve's ends (Kneedle; Satopää et al. 2011). A curve that nowhere leaves its chord by 5 %
# of its range has none. With several fits a point noise must not explain the knee: straight lines with that noise bend as far in at most 5 % of draws.

# %% tags=["hide-input"]
figures.fig_rate_distortion(validation, marks).shows(
    "Rate and distortion of validation brains at every point of the grid."
).made_from(on_validation)

# %% [markdown]
# At an optimum the slope of a curve is −β (Alemi et al. 2018). At β = 1 the last nat of rate buys one nat of distortion, at β = 10 ten. These fits follow that only
# roughly. Where curves of several L lie on one another the added latents gain nothing, though most may be active.
#
# ## Does the vanilla VAE bend at the same L?
#
# The paper says that it does. Each model is judged by its own objective: D + R for the VAE, D + βR for the β-VAE. The VAE's curve bends at {glue:text}`grid_knee_vae`, the β-VAE's at
# {glue:text}`grid_knee_beta_vae`.

# %% tags=["hide-input"]
two = {"VAE": 1.0, "β-VAE": p.model.beta}
two = pd.concat([validation.loc[[b]].assign(model=name) for name, b in two.items()]).reset_index()
losses = two.assign(value=two["distortion"] + two["beta"] * two["rate"])
knees = model_knees(losses)
figures.fig_knee(losses, knees, ylabel="Validation −ELBO$_β$ (nats per image)").shows(
    "The loss of the VAE and of the β-VAE over the number of latents."
).made_from(on_validation)

# %% [markdown]
# PCA has no such objective. The share of variance explained puts the three side by side. PCA is exact, so it has one fit a point.

# %% tags=["hide-input"]
is_pca = scores["model"] == "PCA"
shares = scores[is_pca & (scores["score"] == "explained variance, validation")]
shares = pd.concat([shares, two.assign(value=two["explained variance"])])
bends = model_knees(shares, "concave rising")
figures.fig_knee(shares, bends, ylabel="Validation explained variance", share_y=True).shows(
    "Variance of validation brains that PCA and the VAEs explain."
).made_from(f"{on_validation} (PCA: one fit)")

# %% [markdown]
# Beyond a knee a further latent gains less than on average over the scanned range. It may still gain.
#
# ## Does the knee count the planted factors?
#
# The number of factors that these brains differ by is known: {glue:text}`grid_factors`. If the knee counts them, it must lie elsewhere for other brains. So PCA and the
# β-VAE of β = 3 were fitted over L to as many brains of another simulator, which plants {glue:text}`grid_control_factors` ([chapter 10](10_truth.ipynb); `benchmarks/knee.py`).

# %% tags=["hide-input"]
control = measured("knee").rename(columns={"explained": "value"})
[control_factors] = control["factors"].unique()
counts = model_knees(control, "concave rising")
figures.fig_knee(control, counts, ylabel="Validation explained variance", share_y=True).shows(
    f"The same for brains with {control_factors} planted factors."
).made_from(
    f"Cohort smooth at 80 × 112, {control['brains'].max()} validation brains, "
    f"{counts['β-VAE'].n_seeds} fits a point (PCA: one fit)"
)

# %% [markdown]
# In both cohorts the β-VAE's knee is the number of planted factors. So L = 8 here says how many factors the simulator has, not how many directions mouse brains differ in. On the second,
# whose factors are smooth fields, PCA leads at every number of latents: with {glue:text}`grid_control_factors` latents it explains {glue:text}`grid_control_beta_vae`, PCA {glue:text}`grid_control_pca`.
#
# ## What the choice is worth on test brains
#
# Test brains had no part in the choice. At L = {glue:text}`grid_own_l` and β = {glue:text}`grid_own_beta` the β-VAE explains
# {glue:text}`grid_explained_own` of their variance, PCA {glue:text}`grid_explained_pca`. Explained variance is here of all brains together; chapter 5 takes each brain's and averages, which gives other digits for the same fits. Half of the
# test brains are the real side of the PCA-based Fréchet distance (PCA-FD); reconstructions of the other half are the
# model's side. Its basis comes from validation brains.

# %% tags=["hide-input"]
panels = {
    "−ELBO at β = 1 (nats per image)": mean["rate"] + mean["distortion"],
    "Explained variance": mean["explained variance"],
    "CW-SSIM": mean["CW-SSIM"],
    "PCA-FD of reconstructions (sq. grey values)": mean["PCA-FD"],
}
figures.fig_grids({name: of.unstack() for name, of in panels.items()}, marks).shows(
    "The bound and three scores of reconstructions, means over fits; lower is better in A and D."
).made_from(f"Cohort {cohort.name} at {size}, {n_test} test brains, {seeds}")

# %% tags=["hide-input"]
names = {"L of the rule": in_dims, "β of the rule": in_betas}
names |= {f"knee over L, {name}": knee for name, knee in knees.items()}
names |= {f"knee over L by explained variance, {name}": knee for name, knee in bends.items()}
names |= {f"knee over L, {control_factors} factors, {name}": of for name, of in counts.items()}
numbers = {k: Estimate(of.at, *of.interval, n_validation, of.n_seeds) for k, of in names.items()}
numbers |= {"values of β": len(grid.betas), "values of L": len(grid.latent_dims)}
vae, beta_vae = (numbers[f"knee over L, {name}"] for name in knees)
apart = vae.value - beta_vae.value, vae.low - beta_vae.high, vae.high - beta_vae.low
apart = {"the VAE's knee less the β-VAE's": {"": Estimate(*apart, n_validation, len(grid.seeds))}}
Record(numbers, apart, {name: 2 for name in apart})

# %% tags=["hide-input", "hide-output"]
of_pca = scores[is_pca & (scores["score"] == "explained variance")]
of_pca = of_pca.set_index("latent_dim")["value"].sort_index()
in_use = vaes["active latents"].dropna()
in_use = in_use == in_use.index.get_level_values("latent_dim")
told_at = control[control["latent_dim"] == control_factors].groupby("model")["value"].mean()
chosen = {"L": in_dims, "β": in_betas} | knees | {"control": counts["β-VAE"]}
chosen = {
    k: f"{'β' if k == 'β' else 'L'} = {of.at:g} [{of.interval[0]:g}, {of.interval[1]:g}]"
    for k, of in chosen.items()
    if of.at == of.at
}
within = {
    name: "lies in them" if of.interval[0] <= papers <= of.interval[1] else "does not lie in them"
    for name, of, papers in (("l", in_dims, 8), ("beta", in_betas, 3))
}
quoted(
    grid_papers_l=within["l"],
    grid_papers_beta=within["beta"],
    grid_size=points,
    grid_pixels=size,
    grid_latents=chosen.get("L", "no L"),
    grid_beta=chosen.get("β", "no β"),
    grid_knee_vae=chosen.get("VAE", "nowhere beyond the noise of the fits"),
    grid_knee_beta_vae=chosen.get("β-VAE", "nowhere beyond the noise of the fits"),
    grid_factors="an unknown number" if cohort.factors is None else cohort.factors.shape[1],
    grid_control_factors=int(control_factors),
    grid_control_pca=f"{told_at['PCA']:.3f}",
    grid_control_beta_vae=f"{told_at['β-VAE']:.3f}",
    grid_control_knee=chosen.get("control", "nowhere beyond the noise of the fits"),
    grid_own_l=p.model.latent_dim,
    grid_own_beta=p.model.beta,
    grid_explained_own=mean.loc[(p.model.beta, p.model.latent_dim), "explained variance"],
    grid_explained_pca=of_pca[p.model.latent_dim],
    grid_active=int(in_use.sum()),
    grid_fits=len(in_use),
    grid_n_validation=n_validation,
    grid_seeds=len(grid.seeds),
    grid_n_latents=len(grid.latent_dims),
    grid_possible=len(grid.latent_dims) - 2,
    grid_n_betas=len(grid.betas),
    grid_possible_betas=len(grid.betas) - 2,
)

# %% tags=["hide-input"]
rates = mean["rate"].unstack().to_numpy()
ranks = [
    (mean[f"rate{of}"] + mean[f"distortion{of}"]).unstack().mean().rank()
    for of in ("", ", validation")
]
pd.Series(
    {
        "every point of the grid has its fits": bool(vaes["rate"].notna().all()),
        "the largest β has the smallest rate at every L": bool((rates[-1] < rates[:-1]).all()),
        "PCA explains more with every component": bool((of_pca.diff()[1:] > 0).all()),
        "test brains rank the values of L as validation brains do": ranks[0].equals(ranks[1]),
    }
).to_frame("true")

# %% [markdown]
# **How sure.** {glue:text}`grid_size`, at {glue:text}`grid_pixels` pixels, on {glue:text}`grid_n_validation` validation brains. At L = 8 and β = 3 twice the steps gain nothing (one fit against two); with more latents fits need more, and have twice as many (`benchmarks/RESULTS.md`). The ends
# of a range are never its knee: of {glue:text}`grid_n_latents` values of L only {glue:text}`grid_possible` could be chosen, of {glue:text}`grid_n_betas` of β only
# {glue:text}`grid_possible_betas`. So this shows the rule at work. From {glue:text}`grid_seeds` fits a point the noise is known roughly:
# in simulations with six values of L one straight line in ten passed for a bend. More values of L and β can move a knee. The brains are simulated: this decides what the rule says here, not what it says of mice.

# %% tags=["hide-input"]
from brainvae_core.record import stamp

stamp(p)
