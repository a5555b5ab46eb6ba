"""Seconds a step of a plain PyTorch loop: float32, NCHW, Adam, two loader processes, a log a step.

    PYTHONPATH=. python benchmarks/peers/eager_step.py images.npy --batch 64 --device cuda

The loop is written as the authors' base code (1Konny/Beta-VAE) goes about it: images from a
DataLoader in shuffled batches, Bernoulli loss on logits summed over pixels, numbers logged at once.
The network is the paper's in PyTorch's own layers, none of ours among them.
"""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.train_step import PlainVAE

WARM_UP = 5  # steps


class Brains(Dataset):
    """Images in memory, one at a time, (height, width)."""

    def __init__(self, images):
        self.images = torch.from_numpy(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("images")
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--device", default="cpu")
    given = options.parse_args()
    device = torch.device(given.device)
    images = np.load(given.images)
    loader = DataLoader(
        Brains(images),
        batch_size=given.batch,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        pin_memory=device.type == "cuda",
    )
    model = PlainVAE(8, images.shape[1:]).to(device)
    adam = torch.optim.Adam(model.parameters(), lr=2e-4)
    log = []
    while len(log) < WARM_UP + given.steps:
        for batch in loader:
            if len(log) == WARM_UP:
                start = time.perf_counter()
            batch = batch.to(device, non_blocking=True)
            mean, logvar = model.posterior_parameters(batch)
            logits = model.logits(mean + torch.exp(logvar / 2) * torch.randn_like(mean))
            reconstruction = F.binary_cross_entropy_with_logits(logits, batch, reduction="sum")
            reconstruction = reconstruction / len(batch)
            kl = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum(1).mean()
            loss = reconstruction + 3 * kl
            adam.zero_grad()
            loss.backward()
            adam.step()
            log.append((loss.item(), reconstruction.item(), kl.item()))
            if len(log) == WARM_UP + given.steps:
                break
    if device.type == "cuda":
        torch.cuda.synchronize()
    print((time.perf_counter() - start) / given.steps)


if __name__ == "__main__":
    main()
