"""An unfinished fit on disk: one safetensors file that is whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


def save_checkpoint(path, config, model, optimiser, history) -> None:
    """Write weights, optimiser state and history; does nothing where ``path`` is None."""
    if path is None:
        return
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{name}": value for name, value in state.items()}
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    described = {"config": json.dumps(asdict(config)), "history": json.dumps(history)}
    beside = Path(f"{path}.{os.getpid()}")
    beside.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file(tensors, beside, described | {"sha256": _digest(tensors, described)})
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def resume(path, config, model, optimiser) -> tuple[int, list[dict]]:
    """Load a checkpoint where there is one: (next step, history).

    Raises
    ------
    ValueError
        The file is damaged, or was made with another configuration.
    """
    if path is None or not Path(path).exists():
        return 0, []
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
    theirs, ours = json.loads(described["config"]), asdict(config)
    other = sorted(name for name in theirs | ours if theirs.get(name) != ours.get(name))
    if other:
        raise ValueError(
            f"checkpoint {path} was made with another {', '.join(other)}; delete it to start anew"
        )
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state = optimiser.state_dict()
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, i, part = name.split(".")
            if value.ndim:  # a fused optimiser walks through memory: in its parameter's order
                value = torch.empty_like(parameters[int(i)], device="cpu").copy_(value)
            state["state"].setdefault(int(i), {})[part] = value.detach()
    optimiser.load_state_dict(state)
    history = json.loads(described["history"])
    return history[-1]["step"], history


def _digest(tensors: dict[str, torch.Tensor], described: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()
