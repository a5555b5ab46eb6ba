"""What a VAE minimises, in nats per image: one file an objective, one line of ``OBJECTIVES`` each.

An objective is ``objective(batch, config) -> Tensor``, shape (), and reads ``beta``, ``capacity``
or ``mmd_weight`` of its configuration. It draws nothing, waits for nothing on the device and
branches on no value, so that a training step can be recorded as one CUDA graph.
"""

from brainvae_core.models.objectives.batch import Batch
from brainvae_core.models.objectives.beta import beta_vae
from brainvae_core.models.objectives.capacity import capacity_vae
from brainvae_core.models.objectives.mmd import info_vae
from brainvae_core.models.objectives.total_correlation import beta_tc_vae

OBJECTIVES = {
    "beta": beta_vae,
    "capacity": capacity_vae,
    "total_correlation": beta_tc_vae,
    "mmd": info_vae,
}

__all__ = ["OBJECTIVES", "Batch"]
