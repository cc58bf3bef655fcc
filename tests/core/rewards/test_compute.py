"""Where a network computes, in which precision and in batches of which size."""

from contextlib import contextmanager

import pytest
import torch

from pave_core.errors import ConfigError
from pave_core.rewards.networks.compute import Compute, on


def test_scores_do_not_depend_on_the_batch_and_are_the_same_again(world, tiny_clip):
    images = torch.stack([world.picture(i, 48, 48) for i in range(7)])
    prompts = [world.prompts[i % 3] for i in range(7)]
    whole = tiny_clip.reward(batch_size=7)(images, prompts)
    torch.testing.assert_close(tiny_clip.reward(batch_size=2)(images, prompts), whole, atol=1e-6, rtol=0)
    reward = tiny_clip.reward(batch_size=3)
    assert torch.equal(reward(images, prompts), reward(images, prompts))


def test_bf16_is_near_fp32_and_fp32_at_the_end(world, tiny_clip):
    images = torch.stack([world.picture(i, 48, 48) for i in range(3)])
    fp32 = tiny_clip.reward()(images, world.prompts)
    for precision in ("bf16", "fp16"):
        scores = tiny_clip.reward(precision=precision)(images, world.prompts)
        assert scores.dtype == torch.float32
        assert 0 < (scores - fp32).abs().max() < 0.05


def test_a_reward_made_under_inference_mode_scores_outside_it(world, tiny_clip):
    images = torch.stack([world.picture(i, 48, 48) for i in range(3)])
    with torch.inference_mode():
        reward = tiny_clip.reward()
        inside = reward(images, world.prompts)
    assert not any(t.is_inference() for t in reward._clip._network.state_dict().values())
    assert torch.equal(reward(images, world.prompts), inside)


def test_the_network_visits_the_device_and_comes_back_with_the_same_memory(tiny_clip):
    network = tiny_clip.reward()._clip._network
    before = {name: value.data_ptr() for name, value in (*network.named_parameters(), *network.named_buffers())}
    assert "attn_mask" in before  # in no state dict

    def fail():
        with on(torch.device("meta"))(network) as device:
            assert {value.device for value in (*network.parameters(), *network.buffers())} == {device}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {name: value.data_ptr() for name, value in (*network.named_parameters(), *network.named_buffers())} == before
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_reward_asks_for_its_place_once_a_call_and_leaves_it_after_an_error(world, tiny_clip):
    log = []

    @contextmanager
    def place(module):
        log.append("in")
        try:
            yield torch.device("cpu")
        finally:
            log.append("out")

    reward = tiny_clip.reward(placement=place, batch_size=1)
    images = torch.stack([world.picture(i, 48, 48) for i in range(3)])
    reward(images, world.prompts)
    assert log == ["in", "out"]
    with pytest.raises(TypeError):
        reward(images, [None, None, None])
    assert log == ["in", "out"] * 2


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"^precision: 'int8' is not known: choose one of fp32, bf16, fp16"):
        Compute(precision="int8")
    with pytest.raises(ConfigError, match=r"^batch_size: 0 is below 1: use 1"):
        Compute(batch_size=0)
