"""An unfinished fit on disk: one safetensors file that is whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


class Checkpoint(NamedTuple):
    """A fit after one of its validations."""

    model: dict[str, torch.Tensor]  # the model's ``state_dict``
    optimiser: dict[str, torch.Tensor]  # the optimiser's ``state``
    history: list[dict]
    made: dict  # in what precision, and with what


def save_checkpoint(path, config, kept: Checkpoint) -> None:
    """Write a checkpoint; does nothing where ``path`` is None."""
    if path is None:
        return
    tensors = {f"model.{name}": value for name, value in kept.model.items()}
    tensors |= {f"optimiser.{name}": value for name, value in kept.optimiser.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    described = {"config": asdict(config), "history": kept.history, "made": kept.made}
    described = {name: json.dumps(value) for name, value in described.items()}
    beside = Path(f"{path}.{os.getpid()}")
    beside.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file(tensors, beside, described | {"sha256": _digest(tensors, described)})
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_checkpoint(path, config) -> Checkpoint | None:
    """A checkpoint where there is one.

    Raises
    ------
    ValueError
        The file is damaged, or was made with another configuration.
    """
    if path is None or not Path(path).exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            described = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"checkpoint {path} is damaged ({error}); delete it to start anew"
        ) from error
    if described.pop("sha256", None) != _digest(tensors, described):
        raise ValueError(f"checkpoint {path} is damaged (checksum); delete it to start anew")
    described = {name: json.loads(text) for name, text in described.items()}
    theirs, ours = described["config"], json.loads(json.dumps(asdict(config)))
    other = sorted(name for name in theirs | ours if theirs.get(name) != ours.get(name))
    if other:
        raise ValueError(
            f"checkpoint {path} was made with another {', '.join(other)}; delete it to start anew"
        )
    parts = {"model": {}, "optimiser": {}}
    for name, value in tensors.items():
        part, _, own_name = name.partition(".")
        parts[part][own_name] = value
    return Checkpoint(**parts, history=described["history"], made=described["made"])


def _digest(tensors: dict[str, torch.Tensor], described: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()
