"""Network rewards in the host: drop-downs of the user's files, refusals at validation, and where they compute."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

PROMPTS = (
    "a red circle on a dark background",
    "a blue star on a light background",
    "a green square on a dark background",
)
FILES = {
    "PaveHPSv2": {"checkpoint": "HPS_v2.1_compressed.pt"},
    "PavePickScore": {"checkpoint": "PickScore_v1.safetensors"},
    "PaveAesthetic": {
        "checkpoint": "sac+logos+ava1-l14-linearMSE.pth",
        "clip_weights": "clip_vision/clip-vit-large-patch14.safetensors",
    },
    "PaveAestheticV25": {
        "checkpoint": "aesthetic_predictor_v2_5.pth",
        "siglip_weights": "clip_vision/sigclip_vision_patch14_384.safetensors",
    },
    "PaveImageReward": {"checkpoint": "ImageReward.pt", "vocabulary": "bert-base-uncased/vocab.txt"},
}


@pytest.fixture
def put(host, pack):
    """put(name, content) -> the path of a file in models/, deleted after the test."""
    made = []

    def write(name, content=b"not weights, but a name to choose"):
        path = host.base / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(content, path) if isinstance(content, dict) else path.write_bytes(content)
        made.append(path)
        host.folder_paths.filename_list_cache.clear()
        return path

    yield write
    for path in made:
        path.unlink()
    host.folder_paths.filename_list_cache.clear()


@pytest.fixture
def nodes(host, pack):
    """nodes.PaveX: our node classes."""
    return SimpleNamespace(
        **{name: node for name, node in host.nodes.NODE_CLASS_MAPPINGS.items() if name.startswith("Pave")}
    )


def options(node, field):
    """What a drop-down offers, and its default."""
    kind, spec = node.INPUT_TYPES()["required"][field]
    return (spec["options"] if kind == "COMBO" else kind), spec["default"]


def place(name):
    """Where a name of the drop-down lies below models/."""
    return name if name.startswith(("clip_vision/", "text_encoders/")) else f"reward_models/{name}"


@pytest.mark.parametrize("name", FILES)
def test_without_its_files_a_node_says_which_to_get_and_where_to_put_them(nodes, name):
    node = getattr(nodes, name)
    for field in FILES[name]:
        offered, default = options(node, field)
        assert default == offered[0] == "choose a file"
    chosen = dict.fromkeys(FILES[name], "choose a file")
    refusal = node.validate_inputs(**chosen)
    first = next(iter(FILES[name]))
    assert refusal.startswith(f"{first}: no file is chosen: put ")
    assert " into models/reward_models, press R in the page to refresh, and choose it" in refusal
    assert " on Hugging Face" in refusal or " on GitHub" in refusal


@pytest.mark.parametrize("name", FILES)
def test_the_published_file_is_found_and_chosen(nodes, put, name):
    node = getattr(nodes, name)
    put("reward_models/a_first_file.safetensors")
    put("reward_models/a_first_file.txt")
    for file in FILES[name].values():
        put(place(file))
    for field, file in FILES[name].items():
        offered, default = options(node, field)
        assert default == file
        assert "choose a file" not in offered
    assert node.validate_inputs(**FILES[name]) is True


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_comes_by_a_wire_is_checked_when_the_node_runs(nodes, modules, name):
    node = getattr(nodes, name)
    assert node.validate_inputs() is True
    with pytest.raises(
        modules.errors.ConfigError, match=r"^(checkpoint|vocabulary): 'x\.pt' is not in models/reward_models"
    ):
        node.execute(**dict.fromkeys(FILES[name], "x.pt"), precision="fp32", batch_size=1)


def test_only_weights_are_offered_and_the_folder_is_named(nodes, put, host):
    for name in (
        "reward_models/a.safetensors",
        "reward_models/sub/b.pth",
        "reward_models/readme.md",
        "reward_models/vocab.txt",
    ):
        put(name)
    put("text_encoders/clip_l.safetensors")
    put("clip_vision/a.safetensors")
    offered, default = options(nodes.PaveHPSv2, "checkpoint")
    others = ["clip_vision/a.safetensors", "text_encoders/clip_l.safetensors"]
    assert [name.replace("\\", "/") for name in offered] == [default, "a.safetensors", "sub/b.pth", *others]
    assert options(nodes.PaveImageReward, "vocabulary") == (["vocab.txt"], "vocab.txt")


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "clip_vision/../../secret.safetensors", "a.safetensors/", ""]
)
def test_a_name_that_is_not_in_the_list_is_refused(nodes, put, host, name):
    put("secret.safetensors")
    put("reward_models/a.safetensors")
    refusal = nodes.PavePickScore.validate_inputs(name)
    missing = f"checkpoint: {name!r} is not in models/reward_models, clip_vision or text_encoders"
    assert refusal.startswith(f"{missing}: put model.safetensors of yuval")


def test_a_file_that_has_gone_is_refused_when_the_node_runs(nodes, put, modules):
    with pytest.raises(modules.errors.ConfigError, match=r"^checkpoint: 'gone\.pt' is not in models/reward_models"):
        nodes.PaveHPSv2.execute("gone.pt", "fp32", 4)


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_by_the_node_with_the_name_of_its_input(nodes, put, modules, name):
    node = getattr(nodes, name)
    for file in FILES[name].values():
        put(place(file), b"<html>please log in</html>")
    with pytest.raises(modules.errors.ConfigError, match=r"^(checkpoint|vocabulary): .* is (a web page|not that of)"):
        node.execute(**FILES[name], precision="fp32", batch_size=4)


def test_the_bundled_clip_is_open_clips_own_score(modules, nodes, stock):
    """Through the node, against open_clip's own model from the config, its image transform and its tokenizer."""
    import open_clip
    from PIL import Image

    tiny = modules.tiny
    config = json.loads(tiny.OPEN_CLIP_CONFIG.read_text())
    model = open_clip.CLIP(**config["model_cfg"])
    open_clip.load_checkpoint(model, str(tiny.OPEN_CLIP_MODEL))
    size = config["model_cfg"]["vision_cfg"]["image_size"]
    preprocess = open_clip.image_transform(
        size,
        is_train=False,
        mean=config["preprocess_cfg"]["mean"],
        std=config["preprocess_cfg"]["std"],
        resize_mode=config["preprocess_cfg"]["resize_mode"],
    )
    with torch.inference_mode():  # as the host runs nodes
        reward = nodes.PaveCLIPScore.execute("bundled tiny CLIP", "auto", "fp32", 2).args[0]
    for height, width in ((size, size), (70, 96), (128, 64)):
        images = (torch.rand(3, height, width, 3, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
        pixels = torch.stack([preprocess(Image.fromarray((image * 255).round().byte().numpy())) for image in images])
        tokens = open_clip.SimpleTokenizer(context_length=config["model_cfg"]["text_cfg"]["context_length"])(
            list(PROMPTS)
        )
        with torch.no_grad():
            expected = (
                model.eval().encode_image(pixels, normalize=True) * model.encode_text(tokens, normalize=True)
            ).sum(1)
        torch.testing.assert_close(reward(images, PROMPTS), expected, atol=1e-5, rtol=1e-5)
        one_by_one = torch.cat([reward(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(one_by_one, expected, atol=1e-5, rtol=1e-5)


def test_a_clip_of_ones_own_with_its_config_beside_it(modules, nodes, put):
    tiny = modules.tiny
    put("reward_models/mine/open_clip_model.safetensors", tiny.OPEN_CLIP_MODEL.read_bytes())
    name = next(n for n in options(nodes.PaveCLIPScore, "checkpoint")[0] if n.endswith("open_clip_model.safetensors"))
    with pytest.raises(
        modules.errors.ConfigError,
        match=r"^architecture: there is no open_clip_model\.json or open_clip_config\.json beside",
    ):
        nodes.PaveCLIPScore.execute(name, "auto", "fp32", 4)
    put("reward_models/mine/open_clip_config.json", tiny.OPEN_CLIP_CONFIG.read_bytes())
    mine = nodes.PaveCLIPScore.execute(name, "auto", "fp32", 4).args[0]
    bundled = nodes.PaveCLIPScore.execute("bundled tiny CLIP", "auto", "fp32", 4).args[0]
    images = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(mine(images, PROMPTS), bundled(images, PROMPTS))


def test_the_contrast_is_by_the_cosines_of_the_score(modules, nodes):
    """Through the nodes: the run's prompts by a wire, wrong ones as text, and the scale of the bundled CLIP's file."""
    images = torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(3))
    cosine = nodes.PaveCLIPScore.execute("bundled tiny CLIP", "auto", "fp32", 4).args[0]
    scale = math.exp(load_file(modules.tiny.OPEN_CLIP_MODEL)["logit_scale"].item())
    wrong = "a blue circle on a dark background"
    cosines = torch.stack([cosine(images, [prompt] * 3) for prompt in (*PROMPTS, wrong)], 1)  # (N, prompts)
    prompts = modules.prompts.PromptSet(train=PROMPTS, held_out=("a red star on a dark background",))
    inputs = {"checkpoint": "bundled tiny CLIP", "architecture": "auto", "precision": "fp32", "batch_size": 4}
    wired = nodes.PaveCLIPContrast.execute(**inputs, against=f"# wrong\n\n{wrong}", scale=0.0, prompts=prompts).args[0]
    expected = (scale * cosines).log_softmax(1).diagonal()
    torch.testing.assert_close(wired(images, PROMPTS), expected, atol=1e-3, rtol=0)
    written = nodes.PaveCLIPContrast.execute(**inputs, against=wrong, scale=5.0).args[0]
    expected = (5 * cosines[:, [0, 3]]).log_softmax(1)[:, 0]
    torch.testing.assert_close(written(images, PROMPTS[:1] * 3), expected, atol=1e-4, rtol=0)


def test_a_contrast_with_nothing_is_refused(modules, nodes):
    inputs = {"checkpoint": "bundled tiny CLIP", "architecture": "auto", "precision": "fp32", "batch_size": 4}
    with pytest.raises(modules.errors.ConfigError, match=r"^against: there are no other prompts"):
        nodes.PaveCLIPContrast.execute(**inputs, against="# only a comment", scale=0.0)
    refusal = nodes.PaveCLIPContrast.validate_inputs(checkpoint="nowhere.pt")
    assert refusal.startswith("checkpoint: 'nowhere.pt' is not in models/reward_models")


def test_the_bundled_preference_puts_right_before_wrong(nodes):
    """One picture of a red circle is preferred for its own prompt."""
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
    inside = (x * x + y * y < 20 * 20)[..., None]
    image = torch.where(inside, torch.tensor([0.86, 0.12, 0.12]), torch.tensor([0.1, 0.1, 0.1]))
    with torch.inference_mode():  # as the host runs nodes
        reward = nodes.PaveTinyPreference.execute().args[0]
    right, wrong, worse = reward(image.expand(3, 64, 64, 3), PROMPTS)
    assert right > wrong + 0.2
    assert right > worse + 0.2


def test_other_models_make_room_and_the_network_leaves(modules, host, monkeypatch):
    """On a device that is not the CPU (here: meta, which holds no numbers)."""
    import comfy.model_management as management

    freed = []
    meta = torch.device("meta")
    monkeypatch.setattr(management, "get_torch_device", lambda: meta)
    monkeypatch.setattr(
        management, "free_memory", lambda needed, device, keep_loaded=(): freed.append((needed, device)) or []
    )
    network = torch.nn.Linear(100, 1000)
    with modules.placement.visiting(network) as device:
        assert device == meta
        assert network.weight.device == meta
    assert network.weight.device == torch.device("cpu")
    ((needed, device),) = freed
    assert device == meta
    assert needed > 4 * 101_000


def test_cancel_is_heard_before_a_network_is_moved(modules):
    import comfy.model_management as management

    network = torch.nn.Linear(2, 2)
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException), modules.placement.visiting(network):
        pytest.fail("it was moved")
    with modules.placement.visiting(network) as device:
        assert device == management.get_torch_device()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_scores_are_those_of_the_cpu_and_no_memory_is_kept(modules, nodes):
    images = torch.rand(5, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    prompts = [PROMPTS[i % 3] for i in range(5)]
    reward = nodes.PaveCLIPScore.execute("bundled tiny CLIP", "auto", "fp32", 2).args[0]
    before = torch.cuda.memory_allocated()
    scores = reward(images, prompts)
    assert torch.cuda.memory_allocated() == before
    config, weights = modules.tiny.OPEN_CLIP_CONFIG, modules.tiny.OPEN_CLIP_MODEL
    torch.testing.assert_close(
        scores, modules.clip_score.CLIPScore(weights, config)(images, prompts), atol=1e-4, rtol=0
    )
