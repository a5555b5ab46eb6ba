"""What can be fitted to a cohort; each model has ``encode(images)`` and ``decode(z)``."""

from brainvae_core.models.beta_vae import BetaVAE
from brainvae_core.models.grid import fit_all, grid_configs
from brainvae_core.models.objective import effective_strength
from brainvae_core.models.pca import PCA
from brainvae_core.models.runs import PCAConfig, Run, fit, load_run, run_name, save_run
from brainvae_core.models.training import BetaVAEConfig, diagnose

__all__ = [
    "PCA",
    "BetaVAE",
    "BetaVAEConfig",
    "PCAConfig",
    "Run",
    "diagnose",
    "effective_strength",
    "fit",
    "fit_all",
    "grid_configs",
    "load_run",
    "run_name",
    "save_run",
]
