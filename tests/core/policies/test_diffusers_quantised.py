"""Folders whose network is quantised: what is in them is what is computed, and the LoRA beside it trains."""

import json
import shutil

import gguf
import pytest
import torch

from _tiny_pipelines import FAMILIES, build
from pave_core.config.adapter import LoraConfig
from pave_core.config.memory import MemoryConfig
from pave_core.errors import ConfigError
from pave_core.policies.diffusers.folder import load
from pave_core.policies.diffusers.policy import PipelinePolicy, Sampling

Q8 = gguf.GGMLQuantizationType.Q8_0


def policy_of(pipeline, **memory):
    return PipelinePolicy(
        pipeline, LoraConfig(rank=4, alpha=8.0), Sampling(width=64, height=64), memory=MemoryConfig(**memory)
    )


def first_velocity(policy):
    """Of a noise that depends on nothing."""
    x = torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    return policy.velocity(x, torch.tensor([0.7]), [policy.encode("a red circle")])


def assert_trains(policy):
    """Its layers get the gradient of differences, and what they learn changes the velocity."""
    with policy:
        assert len(policy.check_gradient(policy.encode("a red circle")).idle) == 0
        assert policy.is_base(policy.fingerprint())
        before = first_velocity(policy)
        before.square().mean().backward()
        assert all(float(p.grad.abs().max()) > 0 for name, p in policy.parameters().items() if "lora_B" in name)
        with torch.no_grad():
            for p in policy.parameters().values():
                p.add_(0.1)
        assert not torch.equal(first_velocity(policy), before)


def with_gguf(name, folder):
    """(a folder whose network is a GGUF of 8 bits, the pipeline with the values that are in it)."""
    pipeline = build(name)
    pipeline.save_pretrained(folder)
    for file in (folder / "transformer").glob("*.safetensors"):
        file.unlink()
    writer = gguf.GGUFWriter(str(folder / "transformer" / "weights.gguf"), "tiny")
    quantised = 0
    with torch.no_grad():
        for key, value in pipeline.transformer.state_dict().items():
            numbers = value.float().numpy()
            if value.ndim == 2 and value.shape[1] % 32 == 0 and key.endswith("weight"):
                stored = gguf.quantize(numbers, Q8)
                writer.add_tensor(key, stored, raw_dtype=Q8)
                value.copy_(torch.from_numpy(gguf.dequantize(stored, Q8)).half())  # as diffusers takes them out
                quantised += 1
            else:
                writer.add_tensor(key, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert quantised > 5
    return folder, pipeline


@pytest.mark.parametrize("name", FAMILIES)
def test_a_gguf_draws_what_its_values_draw_and_trains(name, tmp_path):
    folder, pipeline = with_gguf(name, tmp_path / "pipeline")
    policy, values = policy_of(load(folder, torch.float32)), policy_of(pipeline)
    kinds = {type(layer).__name__ for layer in policy._network.modules()}
    assert "GGUFLinear" in kinds
    with torch.no_grad(), policy, values:
        torch.testing.assert_close(first_velocity(policy), first_velocity(values), rtol=1e-4, atol=1e-4)
    with policy, values:
        for each in (policy, values):
            with torch.no_grad():
                for p in each.parameters().values():
                    p.add_(0.05)
            first_velocity(each).square().mean().backward()
        for key, p in policy.parameters().items():
            if (wanted := values.parameters()[key].grad) is not None:
                torch.testing.assert_close(p.grad, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()) + 1e-8)


def test_a_gguf_has_its_own_fingerprint_and_gives_an_export(tmp_path):
    policy = policy_of(load(with_gguf("Qwen-Image", tmp_path / "pipeline")[0]))
    assert policy.fingerprint() != policy_of(build("Qwen-Image")).fingerprint()
    with policy:
        assert all(key.startswith("diffusion_model.") for key in policy.export())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda part: shutil.copy(part / "weights.gguf", part / "more.gguf"), "transformer has weights twice, "),
        (lambda part: (part / "model.safetensors").write_bytes(b""), "transformer has weights twice, "),
        (lambda part: (part / "weights.gguf").write_bytes(b"GGUF"), "pipeline cannot be loaded"),
        (lambda part: (part / "weights.gguf").write_bytes(b"wat" * 99), "pipeline cannot be loaded"),
    ],
)
def test_a_gguf_that_cannot_be_read_is_refused(damage, message, tmp_path):
    folder, _ = with_gguf("Qwen-Image", tmp_path / "pipeline")
    damage(folder / "transformer")
    with pytest.raises(ConfigError, match=message):
        load(folder)


def test_a_gguf_is_loaded_into_a_network_and_into_nothing_else(tmp_path):
    folder, _ = with_gguf("Qwen-Image", tmp_path / "pipeline")
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer"] = ["diffusers", "StableDiffusionPipeline"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=r"model_index.json of pipeline has no network of diffusers"):
        load(folder)


def test_a_share_of_quantised_weights_cannot_stay_in_main_memory(tmp_path):
    pipeline = load(with_gguf("Qwen-Image", tmp_path / "pipeline")[0])
    with pytest.raises(ConfigError, match=r"offload: 0.5 of a network whose weights are quantised: set it to 0"):
        policy_of(pipeline, offload=0.5)


def test_a_network_in_8_bits_of_torchao_trains_from_its_folder(tmp_path):
    """The folder says how it is quantised; the adapter is beside the layers, whatever these are."""
    quantization = pytest.importorskip("torchao.quantization")
    import diffusers

    plain = build("FLUX dev")
    plain.transformer.save_pretrained(tmp_path / "plain")
    config = diffusers.TorchAoConfig(quantization.Int8WeightOnlyConfig())
    plain.transformer = diffusers.FluxTransformer2DModel.from_pretrained(
        tmp_path / "plain", quantization_config=config, torch_dtype=torch.bfloat16
    )
    plain.save_pretrained(tmp_path / "eight")
    assert_trains(policy_of(load(tmp_path / "eight")))
