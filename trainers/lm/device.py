"""Where and in what precision a trial is trained."""

from __future__ import annotations

import torch


def use_device() -> torch.device:
    """The GPU that this process was given, else the CPU, on one thread from now on.

    Two processes with a thread each do more than one process with two.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")


def autocast(device: torch.device) -> torch.autocast:
    """bf16 on a GPU, fp32 on a CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def gpu_names() -> tuple[str, ...]:
    """What torch can use on this machine beside its processor."""
    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
