"""The authors' release in small: their network, written from the table of its layers, and files."""

import io

import numpy as np
import torch
from torch import nn

HEIGHT, WIDTH = 5, 7  # of the coarsest map, as sections stand


class AuthorsNetwork(nn.Module):
    """Of sections that lie on their side, (n, 1, width, height), with k halvings of them."""

    def __init__(self, latent_dim, k, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        side, flat = (32, WIDTH - 1, HEIGHT - 1), 32 * (WIDTH - 1) * (HEIGHT - 1)
        down = [(1 if i == 0 else 32, 32, 4, 2, 1) for i in range(k)] + [(32, 32, 4, 1, 1)]
        up = [(c_out, c_in, *rest) for c_in, c_out, *rest in reversed(down)]
        self.encoder = nn.Sequential(
            *(layer for of in down for layer in (nn.Conv2d(*of), nn.ReLU())),
            nn.Flatten(),
            *(nn.Linear(flat, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()),
            nn.Linear(256, 2 * latent_dim),
        )
        transposed = [layer for of in up for layer in (nn.ConvTranspose2d(*of), nn.ReLU())]
        self.decoder = nn.Sequential(
            *(nn.Linear(latent_dim, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()),
            *(nn.Linear(256, flat), nn.ReLU(), nn.Unflatten(1, side)),
            *transposed[:-1],  # logits come out
        )
        for layer in (*self.encoder, *self.decoder):  # what goes in must show at the end
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
            elif isinstance(layer, nn.ConvTranspose2d):  # at stride 2 a quarter of a kernel meets
                nn.init.normal_(layer.weight, std=(layer.stride[0] ** 2 / (16 * 16)) ** 0.5)
            if hasattr(layer, "bias"):
                nn.init.uniform_(layer.bias, -0.3, 0.3)


@torch.no_grad()
def answering(network, sections):
    """The same network with codes of these sections as varied as the prior: all are active."""
    last = network.encoder[-1]
    n = last.out_features // 2
    codes = network.encoder(torch.from_numpy(on_their_side(sections))[:, None])[:, :n]
    spread = codes.std(dim=0)
    last.bias[:n] = (last.bias[:n] - codes.mean(dim=0)) / spread
    last.weight[:n] /= spread[:, None]
    last.bias[n:] = -3.0
    last.weight[n:] *= 0.01
    return network


def checkpoint(network, prefix="", iteration=10_000, legacy=False, **more):
    """The bytes of a file as their code saves it."""
    net = {f"{prefix}{name}": w for name, w in network.state_dict().items()}
    content = {"iter": iteration, "win_states": {"recon": None}, "model_states": {"net": net}}
    optimiser = torch.optim.Adam(network.parameters())
    content |= {"optim_states": {"optim": optimiser.state_dict()}, **more}
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def on_their_side(sections):
    """Sections (n, height, width) as their array holds them."""
    return np.ascontiguousarray(np.transpose(sections, (0, 2, 1)), dtype=np.float32)
