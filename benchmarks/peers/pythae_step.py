"""Seconds a step of pythae's own trainer on the paper's network, its defaults otherwise.

The network is in PyTorch's own layers, none of ours among them.

    python benchmarks/peers/pythae_step.py images.npy --batch 64 --steps 60

Runs in an environment of its own (constraints.txt beside this file). pythae takes a GPU where there
is one.
"""

import tempfile
import time

import numpy as np
import torch
from plain import WARM_UP, PlainVAE, told
from pythae.data.datasets import BaseDataset
from pythae.models import BetaVAE, BetaVAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback


class Encoder(BaseEncoder):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, images):
        mean, logvar = PlainVAE.run(self.layers, images).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=logvar)


class Decoder(BaseDecoder):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, z):
        return ModelOutput(reconstruction=torch.sigmoid(PlainVAE.run(self.layers, z)))


class Clock(TrainingCallback):
    """When each step ended; pythae has read its loss by then."""

    def __init__(self):
        self.times = []

    def on_train_step_end(self, training_config, **others):
        self.times.append(time.perf_counter())


def main():
    given = told()
    images = np.load(given.images)[:, None]
    per_epoch = -(-len(images) // given.batch)
    network = PlainVAE(8, images.shape[2:])
    model = BetaVAE(
        BetaVAEConfig(
            input_dim=images.shape[1:], latent_dim=8, beta=3.0, reconstruction_loss="bce"
        ),
        encoder=Encoder(network.encoder),
        decoder=Decoder(network.decoder),
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            learning_rate=2e-4,
            per_device_train_batch_size=given.batch,
            num_epochs=-(-(WARM_UP + 1 + given.steps) // per_epoch),
            train_dataloader_num_workers=2,
            no_cuda=given.device == "cpu",
        )
        data = BaseDataset(torch.from_numpy(images), torch.zeros(len(images)))
        BaseTrainer(model, data, training_config=config, callbacks=[clock]).train()
    timed = clock.times[WARM_UP : WARM_UP + 1 + given.steps]
    print((timed[-1] - timed[0]) / (len(timed) - 1))


if __name__ == "__main__":
    main()
