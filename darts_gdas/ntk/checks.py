"""What can be wrong with the input of a kernel, found before any work."""

import math
import numbers
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from darts_gdas.ntk.gram import Kind
from darts_gdas.ntk.normalization import batch_norms

Filter = Callable[[str, nn.Parameter], bool]


def kind_of(kind: str, dtype: object) -> Kind:
    """The kind of kernel by its name, where its numbers are of a type that sums do not spoil.

    Raises:
        ValueError: If one of them is not.
    """
    if kind not in [k.value for k in Kind]:
        known = ", ".join(k.value for k in Kind)
        raise ValueError(f"kind must be one of {known}, got {kind!r}")
    if dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float64, torch.float32 or None, got {dtype!r}")
    return Kind(kind)


def check_count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number within bounds, numpy's too; raises a `ValueError` for any other value."""
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        allowed = f"and at least {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name} must be a whole number {allowed}, got {value!r}")
    return int(value)


def is_number(value: object) -> bool:
    """Whether it is a real number, or a tensor of one."""
    is_one = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_one or (isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex())


def check_variance(name: str, value: Any) -> float:
    """A finite number of at least 0; raises a `ValueError` for any other value."""
    if not (is_number(value) and 0 <= value < math.inf):
        raise ValueError(f"{name} must be finite and >= 0, got {value!r}; it is a variance")
    return float(value)


def check_tensor(name: str, value: object) -> None:
    """Raise a `ValueError` unless a value is a tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} must be a tensor, got {type(value).__name__}; torch.as_tensor(...) makes one "
            "of arrays and lists of numbers"
        )


def check_inputs(x1: Tensor, x2: Tensor | None) -> None:
    """Raise a `ValueError` unless the inputs are finite numbers, or tokens, of one shape."""
    for name, x in (("x1", x1), ("x2", x2)):
        if x is None and name == "x2":
            continue
        check_tensor(name, x)
        assert x is not None
        if not x.is_floating_point() and x.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"{name} must hold floating-point numbers, or tokens in int64 or int32, "
                f"got {x.dtype}"
            )
        if x.layout is not torch.strided or x.is_nested or x.is_meta or x.itemsize < 2:
            what = "a nested tensor" if x.is_nested else f"{x.layout} in {x.dtype} on {x.device}"
            raise ValueError(f"{name} must be dense, with numbers of 16 bits or more, got {what}")
        if x.dim() < 2 or len(x) == 0:
            raise ValueError(
                f"{name} must hold samples [samples, ...], at least one, got shape {tuple(x.shape)}"
            )
    if x2 is not None and _form(x1) != _form(x2):
        raise ValueError(
            f"x1 and x2 must hold samples of one shape and type on one device, got {_form(x1)} and "
            f"{_form(x2)}"
        )
    for name, x in (("x1", x1), ("x2", x2)):
        if x is not None and not torch.isfinite(x).all():
            raise ValueError(f"{name} holds numbers that are not finite")


def _form(x: Tensor) -> str:
    return f"{tuple(x.shape[1:])} in {x.dtype} on {x.device}"


def check_module(model: object) -> None:
    """Raise a `ValueError` unless it is a network whose weights exist and can be exchanged."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"the model must be a torch.nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"the model is compiled by TorchScript ({name or type(module).__name__}), where "
                "weights cannot be exchanged; pass the model that it was made from"
            )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"{name!r} has no shape yet (a lazy layer); call the model once")


def check_model(model: nn.Module, batch_norm: str | None) -> None:
    """Raise a `ValueError` unless a network is one, in a state that has a kernel.

    What can be read off it, that is; `trials.py` runs it.

    Args:
        model: The network.
        batch_norm: What was chosen for its norms.
    """
    check_module(model)
    for name, parameter in model.named_parameters():
        if not (parameter.is_meta or torch.isfinite(parameter.detach()).all()):
            raise ValueError(f"parameter {name!r} holds numbers that are not finite")
    if batch_norm is None:
        for name, norm in batch_norms(model).items():
            if norm.training or norm.running_mean is None:
                raise ValueError(
                    f"batch norm {name!r} uses the statistics of its batch; call model.eval(), or "
                    'pass batch_norm="frozen" (those of x1, held fixed)'
                )
        for name, module in model.named_modules():
            if isinstance(module, _DropoutNd) and module.training and module.p > 0:
                raise ValueError(f"dropout {name!r} is active; call model.eval()")


def select_parameters(model: nn.Module, params: str | Filter) -> dict[str, nn.Parameter]:
    """The parameters to differentiate in: those that require a gradient and are asked for.

    Args:
        model: The network. A parameter with several names counts once, by its first.
        params: "all", "weights" (the name contains "weight"), or a function of name and parameter.
    """
    if params not in ("all", "weights") and not callable(params):
        raise ValueError(
            f"params must be all, weights or a function of (name, parameter), got {params!r}"
        )

    def is_chosen(name: str, parameter: nn.Parameter) -> bool:
        if callable(params):
            return params(name, parameter)
        return params == "all" or "weight" in name

    chosen = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and is_chosen(name, parameter)
    }
    if not chosen:
        raise ValueError(
            f"params={params!r} selects none of the model's parameters that require a gradient"
        )
    for name, parameter in chosen.items():
        if parameter.is_complex():
            raise ValueError(
                f"parameter {name!r} is in {parameter.dtype}, of which there is no real kernel; "
                "hold its real and imaginary parts as one real parameter (torch.view_as_real), or "
                "leave it out by params"
            )
    return chosen


def check_output(output: object, samples: int) -> Tensor:
    """What a network returned under `flat_outputs`, if it is one row per sample."""
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != samples:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"the model must return a tensor [samples, ...], got {got} for {samples} samples"
        )
    if not output.shape[1]:
        raise ValueError("the model has no outputs: it returns 0 numbers for each sample")
    if not output.is_floating_point():
        raise ValueError(
            f"the model's outputs must be real floating-point numbers, got {output.dtype}"
        )
    return output


class NotFinite(ValueError):
    """The network's outputs are no numbers, whichever way its kernel is computed."""


def check_numbers(outputs: Tensor) -> None:
    """Raise a `NotFinite` unless what a network returned is made of numbers."""
    if not torch.isfinite(outputs).all():
        raise NotFinite(
            "the model's outputs hold numbers that are not finite; look for logarithms, roots and "
            "divisions that some samples leave the range of"
        )


def gradient_type(x: Tensor, parameters: Mapping[str, nn.Parameter]) -> torch.dtype:
    """The type of rows: that of the samples and of the weights, float32 if both have fewer digits.

    Products of rows in float16 exceed its range, whatever they are added up in.
    """
    found = torch.promote_types(torch.float32, x.dtype)
    for parameter in parameters.values():
        found = torch.promote_types(found, parameter.dtype)
    return found


def largest_finite(x: Tensor) -> Tensor:
    """The largest finite magnitude, 0 if there is none."""
    if not x.numel():
        return x.new_zeros(())
    largest = x.abs().amax()
    return largest if torch.isfinite(largest) else x.abs().nan_to_num(0.0, 0.0, 0.0).amax()


def four_of(x: Tensor) -> Tensor:
    """Positions of four samples, evenly from the first to the last; of fewer some come twice."""
    return torch.linspace(0, len(x) - 1, 4, dtype=torch.float64).round().long().to(x.device)


def unequal(like: Tensor) -> Tensor:
    """Numbers between 1 and 2, all different, in a tensor's shape: a cotangent that sees all."""
    count = like.numel()
    golden = torch.arange(1, count + 1, dtype=torch.float64, device=like.device) * 0.6180339887
    return (1 + golden.frac()).to(like.dtype).reshape(like.shape)


class TooLarge(ValueError):
    """There is no memory for what is asked for, whichever way it is computed."""


def is_full(error: BaseException) -> bool:
    """Whether it says that there is no memory left; a CPU's is an error of no type of its own."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError, TooLarge)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def check_memory(
    kind: Kind, x1: Tensor, x2: Tensor | None, num_outputs: int, dtype: torch.dtype | None
) -> None:
    """Raise a `ValueError` if the kernel itself would not fit, before anything is allocated."""
    samples = len(x1), len(x1 if x2 is None else x2)
    # The sum, one product added to it, and the arranged copy.
    needed = 3 * kind.num_entries(*samples, num_outputs) * (dtype or torch.float64).itemsize
    what = f"kind={kind.value!r} of {samples[0]} x {samples[1]} samples, {num_outputs} outputs,"
    _check_room(what, needed, x1.device)


def check_rows(rows: int, columns: int, name: str, like: Tensor) -> None:
    """Raise a `ValueError` if rows of the Jacobian would not fit, before they are allocated.

    Args:
        rows: Of all samples.
        columns: Of those parameters whose rows are formed together.
        name: The first of the parameters.
        like: A tensor of the rows' type and device.
    """
    what = f"the Jacobian of {name!r}, {rows} rows of {columns:,} numbers,"
    _check_room(what, rows * columns * like.itemsize, like.device)


def _check_room(what: str, needed: int, device: torch.device) -> None:
    free = free_memory(device)
    if needed > free:
        raise TooLarge(
            f"{what} needs about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; use "
            "fewer samples, kind='trace', or ntk_vector_product, which forms no kernel"
        )


def check_finite(kernel: Tensor) -> None:
    """Raise a `ValueError` unless a kernel, or a product with it, is made of numbers."""
    if not torch.isfinite(kernel).all():
        raise ValueError(
            "the kernel holds numbers that are not finite, though outputs are: gradients are not "
            "(the root of 0 has none), or their products exceed the range of their type"
        )


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated there."""
    if device.type == "cuda":  # what PyTorch keeps for itself is free for the next tensor
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
