import torch
from torch.func import vmap

from darts_gdas.nets.formats import autocasts, channels_last, without_autocast


def test_channels_last_keeps_the_values_and_changes_the_strides():
    x = torch.randn(2, 3, 4, 5)
    last = channels_last(x)
    assert torch.equal(last, x)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert channels_last(last).data_ptr() == last.data_ptr()  # nothing to do


def test_channels_last_works_inside_vmap():
    x = torch.randn(6, 2, 3, 4, 5)
    assert torch.equal(vmap(channels_last)(x), x)


def test_autocasts_says_what_the_context_does():
    cpu = torch.device("cpu")
    assert not autocasts(cpu)
    with torch.autocast("cpu", torch.bfloat16):
        assert autocasts(cpu)
        with torch.autocast("cpu", enabled=False):
            assert not autocasts(cpu)


def test_without_autocast_operations_keep_the_format_of_their_inputs():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype is torch.bfloat16
        with without_autocast(x.device):
            assert (x @ x).dtype is torch.float32


def test_a_device_without_autocast_is_no_error():
    meta = torch.device("meta")
    assert not autocasts(meta)
    with without_autocast(meta):
        pass
