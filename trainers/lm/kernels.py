"""Which fp32 matrix multiplication this processor does fastest, inside linear layers.

The pip wheel's CPU build multiplies fp32 matrices with MKL, which on some processors uses half of what
they can do; oneDNN, switched on by a precision flag, uses all of it. On other processors the same flag
means bf16 or changes nothing. So nothing is assumed: speed and error are measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

import torch

# Shape of the probe, in rows, inputs, outputs: a linear layer of a ladder's middle on a CPU.
_PROBE_SHAPE = (1024, 128, 384)
_REPEATS = 9
# Far above the noise of a busy machine, so that all workers of one machine choose alike.
_WORTH_IT = 1.4
# fp32 sums of a few hundred terms have a relative error near 2e-7; tf32 and bf16 are at 1e-4 and more.
_MAX_RELATIVE_ERROR = 2e-6

_MATMUL = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # a module made at import

ATTENTION = "scalesweep_sdpa"  # transformers' name for scaled-dot-product attention outside the switch


class Kernel(StrEnum):
    """The values of torch.backends.mkldnn.matmul.fp32_precision, by its values."""

    WHEEL = "none"  # what the wheel does by itself
    ONEDNN_TF32 = "tf32"
    ONEDNN_BF16 = "bf16"


@contextmanager
def using(kernel: Kernel) -> Iterator[None]:
    """Multiply with this kernel inside the block."""
    before = _MATMUL.fp32_precision
    _switch(kernel)
    try:
        yield
    finally:
        _MATMUL.fp32_precision = before


@lru_cache(maxsize=1)
def fastest() -> Kernel:
    """The kernel to use on this processor: the wheel's own unless another is exact and far faster."""
    rows, inputs, outputs = _PROBE_SHAPE
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, inputs, generator=generator)
    weight = torch.randn(outputs, inputs, generator=generator)
    exact = [kernel for kernel in Kernel if relative_error(kernel, x, weight) <= _MAX_RELATIVE_ERROR]
    seconds = {kernel: _seconds(kernel, x, weight) for kernel in {Kernel.WHEEL, *exact}}
    best = min(seconds, key=lambda kernel: seconds[kernel])
    return best if seconds[best] * _WORTH_IT <= seconds[Kernel.WHEEL] else Kernel.WHEEL


def choose(device: torch.device) -> Kernel:
    """The kernel for a trial on this device."""
    return fastest() if device.type == "cpu" else Kernel.WHEEL


def attention(kernel: Kernel) -> str:
    """The name of the attention for transformers to use with this kernel."""
    if kernel is Kernel.WHEEL:
        return "sdpa"
    _register_attention()
    return ATTENTION


def _register_attention() -> None:
    """Teach transformers the attention named ATTENTION: its own sdpa, without the chosen kernel.

    The kernels that speed up linear layers slow attention's small products down.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *args: object,
        **how: object,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        kernel = Kernel(_MATMUL.fp32_precision)
        query, key, value = _Leave.apply(query, key, value, kernel)  # type: ignore[no-untyped-call]
        output, weights = sdpa_attention_forward(module, query, key, value, *args, **how)
        return _Enter.apply(output, kernel), weights  # type: ignore[no-untyped-call]

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def relative_error(kernel: Kernel, x: torch.Tensor, weight: torch.Tensor) -> float:
    """The product's distance from the one in fp64, over its length."""
    truth = x.double() @ weight.double().t()
    with using(kernel):
        found = torch.nn.functional.linear(x, weight).double()
    return float((found - truth).norm() / truth.norm())


def _seconds(kernel: Kernel, x: torch.Tensor, weight: torch.Tensor) -> float:
    with using(kernel):
        return min(_one(x, weight) for _ in range(_REPEATS))


def _one(x: torch.Tensor, weight: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.nn.functional.linear(x, weight)
    return time.perf_counter() - start


def _switch(kernel: Kernel) -> None:
    _MATMUL.fp32_precision = kernel.value


class _Context(Protocol):
    """What autograd hands from the forward to the backward pass."""

    kernel: Kernel


class _Leave(torch.autograd.Function):
    """Switches the kernel off in the forward pass, and on again in the backward pass."""

    @staticmethod
    def forward(
        ctx: _Context, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kernel: Kernel
    ) -> tuple[torch.Tensor, ...]:
        ctx.kernel = kernel
        _switch(Kernel.WHEEL)
        return query.view_as(query), key.view_as(key), value.view_as(value)

    @staticmethod
    def backward(ctx: _Context, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        _switch(ctx.kernel)
        return (*gradients, None)


class _Enter(torch.autograd.Function):
    """Switches the kernel on in the forward pass, and off in the backward pass, which comes from behind."""

    @staticmethod
    def forward(_: _Context, output: torch.Tensor, kernel: Kernel) -> torch.Tensor:
        _switch(kernel)
        return output.view_as(output)

    @staticmethod
    def backward(_: _Context, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        _switch(Kernel.WHEEL)
        return (*gradients, None)
