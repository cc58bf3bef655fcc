"""The layers that an adapter sits on, by the structure of a network. tests/host/test_targets.py has the host's own."""

import pytest
from torch import nn

from pave_core.errors import ConfigError
from pave_core.policies.targets import find_targets

WIDTH = 4


def network(blocks=(), **around):
    """A network with `blocks` in a list, and other modules beside it."""
    return nn.ModuleDict({**around, "blocks": nn.ModuleList(blocks)})


def layers(**widths):
    """A module of linear layers: name=(in, out)."""
    return nn.ModuleDict({name: nn.Linear(*sides) for name, sides in widths.items()})


def attention(q="to_q", out="to_out"):
    return layers(**{q: (WIDTH, WIDTH), out: (WIDTH, WIDTH)})


def mlp(hidden=16, gate=1):
    return layers(up=(WIDTH, gate * hidden), down=(hidden, WIDTH))


def block(**parts):
    return nn.ModuleDict(parts)


@pytest.mark.parametrize(
    "q", ["q", "to_q", "qkv", "qkv_x", "img_attn_qkv", "w1q", "wq", "to_query", "q_proj", "to_q_t"]
)
def test_a_query_tells_where_attention_is_and_all_its_layers_belong_to_it(q):
    found = find_targets(network([block(some=attention(q, "last"), other=mlp())]), "attention")
    assert found == [f"blocks.0.some.{q}", "blocks.0.some.last"]


def test_what_is_around_an_attention_and_calls_itself_attention_belongs_to_it():
    whole = nn.ModuleDict({"out": nn.Linear(WIDTH, WIDTH), "processor": attention("img_to_q", "img_out")})
    found = find_targets(network([block(joint_attn=whole, other=mlp())]), "attention")
    assert found == [f"blocks.0.joint_attn.{name}" for name in ("out", "processor.img_to_q", "processor.img_out")]


@pytest.mark.parametrize("gate", [1, 2])
def test_an_mlp_leads_through_a_hidden_width_back_whatever_its_name(gate):
    found = find_targets(network([block(attn=attention(), whatever=mlp(gate=gate))]), "attention + MLP")
    assert found[2:] == ["blocks.0.whatever.up", "blocks.0.whatever.down"]


def test_experts_are_mlps():
    experts = nn.ModuleDict({"shared": mlp(8), "experts": nn.ModuleList([mlp(), mlp()])})
    found = find_targets(network([block(attn=attention(), ff=experts)]), "attention + MLP")
    assert len(found) == 2 + 6


def test_embeddings_modulations_projections_and_what_is_outside_the_blocks_are_neither():
    parts = block(
        attn=attention(),
        mlp=mlp(),
        modulation=nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, 6 * WIDTH)),
        two_steps=nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, 2), nn.Linear(2, 3 * WIDTH)),
        as_wide=nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3 * WIDTH)),
        before_proj=nn.Linear(WIDTH, WIDTH),
        norm=layers(linear=(WIDTH, WIDTH)),
    )
    model = network(
        [parts],
        t_embedder=mlp(),
        pooler=attention(),
        caption_projection=nn.ModuleList([mlp()]),
        injector=nn.ModuleList([attention()]),
    )
    assert [name.split(".")[2] for name in find_targets(model, "attention + MLP")] == ["attn"] * 2 + ["mlp"] * 2
    assert find_targets(model, "all linear") == [
        name for name, each in model.named_modules() if type(each) is nn.Linear
    ]


def single_stream():
    return layers(linear1=(WIDTH, 3 * WIDTH + 16), linear2=(WIDTH + 16, WIDTH))


@pytest.mark.parametrize("targets", ["attention", "attention + MLP", "paper"])
def test_fused_layers_count_as_both_and_the_paper_leaves_their_output_out(targets):
    model = nn.ModuleDict({"doubles": nn.ModuleList([block(attn=attention(), mlp=mlp())])})
    model["single"] = nn.ModuleList([single_stream()])
    found = find_targets(model, targets)
    assert found[-2:] == (
        ["doubles.0.mlp.down", "single.0.linear1"] if targets == "paper" else ["single.0.linear1", "single.0.linear2"]
    )
    assert len(found) == {"attention": 4, "attention + MLP": 6, "paper": 5}[targets]
    assert find_targets(nn.ModuleDict({"single": model["single"]}), "attention + MLP") == [
        "single.0.linear1",
        "single.0.linear2",
    ]


def test_a_network_without_repeated_blocks_is_one_block():
    assert find_targets(block(attn=attention(), ff=mlp()), "attention + MLP") == [
        "attn.to_q",
        "attn.to_out",
        "ff.up",
        "ff.down",
    ]


@pytest.mark.parametrize(
    ("model", "targets", "message"),
    [
        (network([block(ff=mlp())]), "attention", r"'attention' finds no attention .*blocks\.0\.ff\.up.*: choose all"),
        (
            network([block(attn=attention())]),
            "attention + MLP",
            r"'attention \+ MLP' finds no MLP .*none\): choose all",
        ),
        (network([block(ff=mlp())]), "attention + MLP", r"'attention \+ MLP' finds no attention "),
        (network([block(attn=attention(), ff=layers(a=(4, 4)))]), "paper", r"'paper' finds no MLP .*blocks\.0\.ff\.a"),
        (network([nn.Conv2d(1, 1, 1)]), "all linear", "no linear layer"),
    ],
)
def test_a_kind_that_is_not_there_is_an_error_and_never_left_out_silently(model, targets, message):
    with pytest.raises(ConfigError, match=rf"^targets: .*{message}"):
        find_targets(model, targets)


def test_diffusers_single_stream_blocks_have_the_layers_of_linear1_and_linear2():
    """What ComfyUI has fused, diffusers has apart: proj_mlp is the MLP's, proj_out the output of both."""
    from _tiny_pipelines import build

    def of_single_blocks(targets):
        found = find_targets(build("FLUX dev").transformer, targets)
        return {name.split(".", 2)[2] for name in found if name.startswith("single_transformer_blocks.")}

    queries = {"attn.to_q", "attn.to_k", "attn.to_v"}
    assert of_single_blocks("attention") == queries | {"proj_out"}
    assert of_single_blocks("attention + MLP") == queries | {"proj_mlp", "proj_out"}
    assert of_single_blocks("paper") == queries
