"""What can be wrong with the input of a kernel, found before any work."""

import os
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from darts_gdas.ntk.gram import Kind
from darts_gdas.ntk.normalization import batch_norms, preserved

Filter = Callable[[str, nn.Parameter], bool]


def kind_of(kind: str, chunk_size: object) -> Kind:
    """The kind of kernel by its name, where samples per pass are a number of samples.

    Raises:
        ValueError: If one of them is not.
    """
    if kind not in [k.value for k in Kind]:
        known = ", ".join(k.value for k in Kind)
        raise ValueError(f"kind must be one of {known}, got {kind!r}")
    check_count("chunk_size", chunk_size)
    return Kind(kind)


def check_count(name: str, value: object) -> None:
    """Raise a `ValueError` unless a number is a whole one, and not below 1."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number and at least 1, got {value!r}")


def check_inputs(x1: Tensor, x2: Tensor | None) -> None:
    """Raise a `ValueError` unless the inputs are finite numbers, or tokens, of one shape."""
    for name, x in (("x1", x1), ("x2", x2)):
        if x is None:
            continue
        if not x.is_floating_point() and x.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"{name} must hold floating-point numbers, or tokens in int64 or int32, "
                f"got {x.dtype}"
            )
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


def check_fits(model: nn.Module, x: Tensor) -> None:
    """Raise a `ValueError` if the model cannot take samples of another type or place than its own.

    It is tried, for a model may convert its samples.
    """
    for name, parameter in model.named_parameters():
        same_type = not x.is_floating_point() or x.dtype == parameter.dtype
        if same_type and x.device == parameter.device:
            continue
        try:
            with torch.no_grad(), preserved(model):
                model(x[[0, -1]])
        except RuntimeError as error:
            raise ValueError(
                f"the model cannot take samples in {x.dtype} on {x.device}: its parameter "
                f"{name!r} is in {parameter.dtype} on {parameter.device}; convert one of them by "
                f".to(...)"
            ) from error
        return


def check_model(model: nn.Module, x: Tensor, batch_norm: str | None) -> None:
    """Raise a `ValueError` unless a sample's output is a function of that sample and the weights.

    Args:
        model: The network.
        x: Samples.
        batch_norm: What was chosen for its norms.
    """
    check_fits(model, x)
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
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
    if isinstance(params, str):
        if params not in ("all", "weights"):
            raise ValueError(f"params must be all, weights or a function, got {params!r}")
        is_chosen: Filter = lambda name, _: params == "all" or "weight" in name  # noqa: E731
    else:
        is_chosen = params
    chosen = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and is_chosen(name, parameter)
    }
    if not chosen:
        raise ValueError(
            f"params={params!r} selects none of the model's parameters that require a gradient"
        )
    return chosen


def check_uncoupled(model: nn.Module, images: Tensor) -> int:
    """The number of outputs, if samples do not influence each other.

    Tried on the first and the last sample: the gradient of one's output in the other must vanish.
    Tokens have no gradient: there the output must be the same beside another sample.
    """
    pair = images[[0, -1]].detach()
    if not pair.is_floating_point():
        return _check_apart(model, pair)
    with torch.enable_grad():
        pair = pair.requires_grad_()
        output = check_output(model(pair), samples=2)
        if output.requires_grad:
            first = output[0]  # not its plain sum, which a softmax would make a constant
            (gradient,) = torch.autograd.grad(first, pair, unequal(first), allow_unused=True)
            if gradient is not None and gradient[1].any():
                raise ValueError(_COUPLED)
    return output.shape[1]


_COUPLED = (
    "the output of a sample depends on other samples of the batch, so there is no kernel of two "
    'samples; for batch norms pass batch_norm="frozen"'
)


@torch.no_grad()
def _check_apart(model: nn.Module, pair: Tensor) -> int:
    """The number of outputs, if the first sample's are the same alone and beside another one."""
    both = check_output(model(pair), samples=2)
    alone = check_output(model(pair[:1]), samples=1)
    tolerance = 1e3 * torch.finfo(both.dtype).eps * float(alone.abs().max())
    if not torch.allclose(both[:1], alone, rtol=0.0, atol=tolerance):
        raise ValueError(_COUPLED)
    return both.shape[1]


def check_output(output: object, samples: int) -> Tensor:
    """What a network returned under `flat_outputs`, if it is one row per sample."""
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != samples:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"the model must return a tensor [samples, ...], got {got} for {samples} samples"
        )
    return output


def gradient_type(x: Tensor, parameters: Mapping[str, nn.Parameter]) -> torch.dtype:
    """The type of gradients: that of the samples, of tokens that of the weights."""
    return x.dtype if x.is_floating_point() else next(iter(parameters.values())).dtype


def unequal(like: Tensor) -> Tensor:
    """Numbers between 1 and 2, all different, in a tensor's shape: a cotangent that sees all."""
    count = like.numel()
    golden = torch.arange(1, count + 1, dtype=torch.float64, device=like.device) * 0.6180339887
    return (1 + golden.frac()).to(like.dtype).reshape(like.shape)


def check_memory(
    kind: Kind, x1: Tensor, x2: Tensor | None, num_outputs: int, dtype: torch.dtype
) -> None:
    """Raise a `ValueError` if the kernel itself would not fit, before anything is allocated."""
    samples = len(x1), len(x1 if x2 is None else x2)
    # The sum, one product added to it, and the arranged copy.
    needed = 3 * kind.num_entries(*samples, num_outputs) * dtype.itemsize
    free = free_memory(x1.device)
    if needed > free:
        raise ValueError(
            f"kind={kind.value!r} of {samples[0]} x {samples[1]} samples, {num_outputs} outputs, "
            f"needs about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; use fewer "
            "samples, kind='trace', or ntk_vector_product, which forms no kernel"
        )


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated there."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
