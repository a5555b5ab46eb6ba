"""What can be fitted to a cohort; each model has ``encode(images)`` and ``decode(z)``."""

# ruff: noqa: F401

import inspect

from brainvae_core.models.baselines import (
    BASELINES,
    PCA,
    LinearGaussian,
    MeanImage,
    MeanImageConfig,
    NearestBrain,
    NearestBrainConfig,
    PCAConfig,
)
from brainvae_core.models.config import BetaVAEConfig, paper_config
from brainvae_core.models.devices import OutOfDeviceMemory
from brainvae_core.models.foreign import FromSklearn, FromTorch, ReleasedConfig, read_released
from brainvae_core.models.kept import export_runs, import_runs
from brainvae_core.models.objectives import diagnose, effective_strength, elbo_terms, sigma_at
from brainvae_core.models.runs import (
    FailedRun,
    Run,
    fit,
    fit_all,
    load_run,
    run_name,
    save_run,
)
from brainvae_core.models.training import train_together
from brainvae_core.models.vae import BetaVAE

__all__ = [name for name in dir() if name[0] != "_" and not inspect.ismodule(globals()[name])]
