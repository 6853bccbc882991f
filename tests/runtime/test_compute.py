import pytest
import torch
from torch import nn

from darts_gdas import native
from darts_gdas.runtime.compilation import Compilation, Compiled
from darts_gdas.runtime.compute import (
    ALL_THREADS,
    Compute,
    Device,
    Precision,
    random_state,
    set_random_state,
)


def test_cuda_without_a_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device=cuda, but PyTorch finds no CUDA device"):
        Compute.select(Device.cuda, Precision.fp32, False)
    assert Compute.select(Device.auto, Precision.fp32, False).device.type == "cpu"


def test_channels_last_places_convolutions_but_keeps_values():
    conv = nn.Conv2d(3, 5, 3)
    before = conv.weight.detach().clone()
    placed = Compute(torch.device("cpu"), channels_last=True).place(conv)
    assert placed.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(placed.weight.detach(), before)


def test_bf16_runs_convolutions_in_bfloat16_and_fp32_does_not():
    x, conv = torch.randn(1, 3, 4, 4), nn.Conv2d(3, 5, 3)
    for precision, dtype in ((Precision.bf16, torch.bfloat16), (Precision.fp32, torch.float32)):
        with Compute(torch.device("cpu"), precision).forward_pass():
            assert conv(x).dtype == dtype


def test_threads_are_set_where_asked():
    before = torch.get_num_threads()
    try:
        Compute.select(Device.cpu, Precision.fp32, False, threads=1)
        assert torch.get_num_threads() == 1
        Compute.select(Device.cpu, Precision.fp32, False, threads=0)
        assert torch.get_num_threads() == ALL_THREADS
    finally:
        torch.set_num_threads(before)


def test_the_random_state_comes_back():
    state = random_state()
    first = torch.rand(3)
    set_random_state(state)
    assert torch.equal(torch.rand(3), first)


def test_describe_names_device_and_precision():
    assert "fp32" in Compute(torch.device("cpu")).describe()


def test_peak_memory_is_no_less_than_what_is_held():
    compute = Compute(torch.device("cpu"))
    held = torch.ones(64 * 2**20)  # 256 MiB of float32
    assert compute.peak_memory() >= held.nbytes
    peak = compute.peak_memory()
    del held
    assert compute.peak_memory() >= peak


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_memory_of_a_gpu_counts_its_tensors():
    held = torch.ones(2**20, device="cuda")
    assert Compute(torch.device("cuda")).peak_memory() >= held.nbytes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_takes_the_gpu():
    compute = Compute.select(Device.auto, Precision.bf16, True)
    assert compute.device.type == "cuda"
    state = random_state()
    first = torch.rand(3, device="cuda")
    set_random_state(state)
    assert torch.equal(torch.rand(3, device="cuda"), first)


@pytest.mark.parametrize("precision", list(Precision))
def test_narrow_formats_on_a_cpu_are_told_to_go_without_kernels(
    precision: Precision, caplog: pytest.LogCaptureFixture
):
    compute = Compute.select(Device.cpu, precision, True, torch.get_num_threads())
    is_full = precision is Precision.fp32
    assert caplog.messages == [] if is_full else f"precision={precision.value}" in caplog.text
    assert ("library kernels," in compute.describe()) == (not is_full or native.library() is None)


def test_cuda_graphs_without_a_gpu_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture):
    compute = Compute.select(Device.cpu, Precision.fp32, False, compilation=Compilation.cuda_graphs)
    assert compute.compilation is Compilation.none
    assert "compile=cuda_graphs needs a CUDA device; going on without it" in caplog.text


@pytest.mark.parametrize("channels_last", [False, True])
def test_kernels_in_cpp_are_chosen_for_the_layout_that_they_read(channels_last: bool):
    Compute.select(Device.cpu, Precision.fp32, channels_last)
    assert native.chosen() is (native.Kernels.auto if channels_last else native.Kernels.library)


def test_only_a_compiled_function_is_another_one():
    assert Compute(torch.device("cpu")).compiled(abs) is abs
    compute = Compute.select(Device.cpu, Precision.fp32, False, compilation=Compilation.inductor)
    assert isinstance(compute.compiled(abs), Compiled)
