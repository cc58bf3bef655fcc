"""The layers that an adapter sits on, by the names of the host's models."""

import pytest
import torch

from pave_core.errors import ConfigError
from pave_core.policies.targets import find_targets


class Block(torch.nn.Module):
    """Layer names as host models have them."""

    def __init__(self, *names):
        super().__init__()
        for name in names:
            module = self
            *path, leaf = name.split(".")
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            module.add_module(leaf, torch.nn.Linear(2, 2))


SD3 = ["x_block.attn.qkv", "x_block.attn.proj", "x_block.mlp.fc1", "x_block.adaLN_modulation.1", "final.linear"]
FLUX = ["b.img_attn.qkv", "b.txt_attn.proj", "b.img_mlp.0", "b.img_mod.lin", "s.linear1", "s.modulation.lin"]
QWEN_IMAGE = ["t.attn.to_q", "t.attn.to_out.0", "t.img_mlp.net.0.proj", "t.img_mod.1", "img_in"]
LUMINA_2 = ["l.attention.qkv", "l.feed_forward.w1", "l.adaLN_modulation.0"]  # and Z-Image
WAN = ["b.self_attn.q", "b.cross_attn.k", "b.ffn.0", "time_embedding.0"]


@pytest.mark.parametrize(
    ("names", "attention", "mlp"), [(SD3, 2, 3), (FLUX, 3, 4), (QWEN_IMAGE, 2, 3), (LUMINA_2, 1, 2), (WAN, 2, 3)]
)
def test_targets_find_the_layers_of_the_hosts_models(names, attention, mlp):
    model = Block(*names)
    assert len(find_targets(model, "attention")) == attention
    assert len(find_targets(model, "attention + MLP")) == mlp
    assert len(find_targets(model, "all linear")) == len(names)


def test_targets_that_match_nothing_are_an_error():
    with pytest.raises(ConfigError, match="targets: 'attention' matches no layer.*all linear"):
        find_targets(Block("a.b"), "attention")
