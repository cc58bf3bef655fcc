"""The lean decoder of the bundled VAE: what the host's own loader and node make of the same file, for less work."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode


def latents(n):
    return torch.randn(n, 16, 8, 8, generator=torch.Generator().manual_seed(n))


@pytest.fixture
def lean_vae(modules):
    with torch.inference_mode():
        return modules.tiny.load_tiny()[2]


@pytest.fixture
def taesd(host):
    """make(*widths) -> a decoder of the host's class that has this many channels at each resolution, zeros beyond."""
    from comfy.taesd.taesd import TAESD

    def make(*widths):
        rng = torch.Generator().manual_seed(1)
        decoder = TAESD(latent_channels=16).taesd_decoder.requires_grad_(False)
        level = -1
        for layer in list(decoder)[:-1]:
            level += isinstance(layer, torch.nn.Conv2d)
            for p in layer.parameters():
                p.normal_(0, 0.05, generator=rng)
                p[widths[level] :] = 0
        for p in decoder[-1].parameters():
            p.normal_(0, 0.05, generator=rng)
        return decoder

    return make


def shapes(decoder):
    return [tuple(m.weight.shape[:2]) for m in decoder.modules() if isinstance(m, torch.nn.Conv2d)]


def multiplications(compute):
    with FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops()


@pytest.mark.parametrize("n", [1, 7])
def test_its_images_are_those_of_the_stock_loader_and_node(stock, lean_vae, n):
    (expected,) = stock.call("VAEDecode", vae=stock.vae, samples={"samples": latents(n)})
    (found,) = stock.call("VAEDecode", vae=lean_vae, samples={"samples": latents(n)})
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_it_decodes_for_less_than_half_the_work(stock, lean_vae):
    with torch.inference_mode():
        full, less = (multiplications(lambda vae=vae: vae.decode(latents(2))) for vae in (stock.vae, lean_vae))
    assert less < 0.3 * full


def test_latents_are_encoded_as_by_the_stock_loader(stock, lean_vae):
    images = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(lean_vae.encode(images), stock.vae.encode(images), atol=0, rtol=0)


def test_it_is_saved_as_the_file_it_came_from(modules, lean_vae, host):
    from safetensors.torch import load_file

    saved, file = lean_vae.get_sd(), load_file(modules.tiny.VAE)
    assert saved.keys() == file.keys()
    for name, value in file.items():
        torch.testing.assert_close(saved[name], value, atol=0, rtol=0)


@pytest.mark.parametrize("widths", [(64, 64, 64, 64), (64, 32, 48, 16), (8, 8, 8, 8)])
def test_any_decoder_with_zeros_gives_the_same_without_them(modules, taesd, widths):
    decoder = taesd(*widths)
    expected = decoder(latents(3))
    modules.module("nodes.host.lean").lean(decoder)
    torch.testing.assert_close(decoder(latents(3)), expected, atol=1e-5, rtol=1e-4)
    assert {out for out, _ in shapes(decoder)} == {*widths, 3}


def test_nothing_that_is_not_zero_is_cut(modules, taesd):
    decoder = taesd(64, 64, 32, 16)
    decoder[-2].conv[2].bias[40] = 1.0
    with pytest.raises(ValueError, match="a block of 16 channels has a convolution that fills 41"):
        modules.module("nodes.host.lean").lean(decoder)
