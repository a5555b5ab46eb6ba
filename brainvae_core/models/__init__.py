"""What can be fitted to a cohort; each model has ``encode(images)`` and ``decode(z)``."""

from brainvae_core.models.baselines import (
    BASELINES,
    NMF,
    FactorAnalysisConfig,
    MeanImage,
    MeanImageConfig,
    NearestBrain,
    NearestBrainConfig,
    NMFConfig,
    PCAConfig,
    PPCAConfig,
)
from brainvae_core.models.config import BetaVAEConfig, fast_config, paper_config
from brainvae_core.models.devices import OutOfDeviceMemory
from brainvae_core.models.foreign import (
    DENOISERS,
    Denoiser,
    FromSklearn,
    FromTorch,
    tuned_denoiser,
)
from brainvae_core.models.linear import PCA, LinearGaussian
from brainvae_core.models.objectives import effective_strength, elbo_terms, sigma_at
from brainvae_core.models.released import ReleasedConfig, read_released
from brainvae_core.models.runs import (
    FailedRun,
    Run,
    diagnose,
    fit,
    fit_all,
    load_run,
    run_name,
    save_run,
)
from brainvae_core.models.training import train_together
from brainvae_core.models.vae import BetaVAE

__all__ = [
    "BASELINES",
    "DENOISERS",
    "NMF",
    "PCA",
    "BetaVAE",
    "BetaVAEConfig",
    "Denoiser",
    "FactorAnalysisConfig",
    "FailedRun",
    "FromSklearn",
    "FromTorch",
    "LinearGaussian",
    "MeanImage",
    "MeanImageConfig",
    "NMFConfig",
    "NearestBrain",
    "NearestBrainConfig",
    "OutOfDeviceMemory",
    "PCAConfig",
    "PPCAConfig",
    "ReleasedConfig",
    "Run",
    "diagnose",
    "effective_strength",
    "elbo_terms",
    "fast_config",
    "fit",
    "fit_all",
    "load_run",
    "paper_config",
    "read_released",
    "run_name",
    "save_run",
    "sigma_at",
    "train_together",
    "tuned_denoiser",
]
