"""The OCR reward with its real networks, on text that Pillow renders."""

import importlib
import socket
import subprocess
import sys
import time
from importlib import metadata
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from pave_core.errors import ConfigError
from pave_core.rewards.ocr import OCR, edit_distance, quoted_text, text_score


def drawn(text: str, extent: tuple[int, int] = (320, 160), *, size=34, ink="black", paper="white") -> torch.Tensor:
    """An image (height, width, 3) in [0, 1] with the text in its middle. extent: (width, height)."""
    image = Image.new("RGB", extent, paper)
    middle, font = (extent[0] / 2, extent[1] / 2), ImageFont.load_default(size)
    ImageDraw.Draw(image).text(middle, text, fill=ink, font=font, anchor="mm", align="center")
    return torch.from_numpy(np.asarray(image).copy()).float() / 255


@pytest.fixture(scope="module")
def ocr():
    return OCR()


@pytest.mark.slow
def test_right_text_is_near_1_wrong_text_low_and_none_0(ocr):
    right = [
        drawn("OPEN"),
        drawn("Happy Birthday", (400, 300)),
        drawn("STOP", (256, 512), size=60, ink="white", paper="red"),
        drawn("fresh\ncoffee", (384, 384), size=60),
    ]
    prompts = [
        'a sign that says "OPEN"',
        "a cake with “happy birthday” on it",
        'a "stop" sign',
        'a board: "Fresh Coffee"',
    ]
    assert min(ocr(image[None], [prompt]).item() for image, prompt in zip(right, prompts)) > 0.95
    wrong = torch.stack([drawn("BAKERY"), drawn("12 miles")])
    assert ocr(wrong, [prompts[0]] * 2).max() < 0.4
    blank = torch.stack(
        [
            torch.ones(160, 320, 3),
            torch.zeros(160, 320, 3),
            torch.rand(160, 320, 3, generator=torch.Generator().manual_seed(1)),
        ]
    )
    assert ocr(blank, [prompts[0]] * 3).tolist() == [0, 0, 0]


@pytest.mark.slow
def test_nearly_right_text_is_in_between_by_its_letters(ocr):
    near = ocr(torch.stack([drawn("WELCOME"), drawn("WELCONE"), drawn("WELCO"), drawn("WEL")]), ['"welcome"'] * 4)
    assert near.tolist() == pytest.approx([1, 6 / 7, 5 / 7, 3 / 7])


def test_text_beside_the_right_text_does_no_harm(ocr):
    assert ocr(drawn("Main Street\nOPEN\n24 hours", (400, 400), size=50)[None], ['a shop, "OPEN"']).item() == 1


@pytest.mark.slow
def test_upside_down_text_is_not_turned_over_first(ocr):
    image = drawn("WELCOME HOME", (480, 160), size=48)
    assert ocr(image[None], ['"welcome home"']).item() == 1
    assert ocr(image.flip(0, 1)[None], ['"welcome home"']).item() < 0.9


@pytest.mark.slow
def test_the_same_image_has_the_same_score_whatever_is_beside_it(ocr):
    images = torch.stack([drawn(text) for text in ("WELCONE", "OPEN")])
    together = ocr(images, ['"welcome"'] * 2)
    assert torch.equal(together, torch.cat([ocr(image[None], ['"welcome"']) for image in images]))
    assert torch.equal(together, OCR()(images, ['"welcome"'] * 2))


def test_tools_train_makes_it_again():
    from _networks import assert_made_again  # not above: another program imports this file

    assert_made_again(OCR())


def test_images_of_four_channels_and_above_one_are_read_like_others(ocr):
    image = drawn("OPEN", ink="blue", paper="yellow")
    rgba = torch.cat([image * 1.5, torch.rand(*image.shape[:2], 1)], -1)
    assert ocr(rgba[None], ['"OPEN"']).item() == 1


def test_red_is_red_for_the_networks(ocr, monkeypatch):
    """The engine wants BGR arrays and RGB pictures; a mix-up would show in the pixels that reach the network."""
    seen = []
    monkeypatch.setattr(ocr._engine, "preprocess_img", lambda pixels: seen.append(pixels) or (pixels, {}), raising=True)
    monkeypatch.setattr(ocr._engine, "run_ocr_steps", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ocr.read(torch.tensor([1.0, 0.5, 0.0]).expand(4, 4, 3))
    assert seen[0][0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ('a sign that says "Hello World"', "Hello World"),
        ("a sign that says “Hello”", "Hello"),
        ('"SALE" on a red "50%" tag', "SALE50%"),
        ("ein Schild: „Geöffnet“", "Geöffnet"),
        ("une affiche « Café »", " Café "),
        ("「本」 on the cover", "本"),
        ("it's a dog's sign: \"Don't\"", "Don't"),
        ('first "a", then “b”, then "c"', "abc"),
    ],
)
def test_the_quoted_text_is_what_counts(prompt, text):
    assert quoted_text(prompt) == text


@pytest.mark.parametrize("quote", ["„", "“", "«", "「", '"', '"a', "„a“", '" "'])
def test_a_prompt_of_quotes_is_read_at_once(quote):
    begin = time.process_time()
    with pytest.raises(ConfigError, match="^prompt: .*: (write it as|shorten it)"):
        quoted_text(quote * 200_000)
    assert time.process_time() - begin < 20  # hours where a quote is looked for from each other


@pytest.mark.parametrize(
    "prompt", ["a cat", "", 'an inch is 1"', '""', '"  "', "a sign that says 'OPEN'", "“never closed", 'only " one']
)
def test_a_prompt_without_quoted_text_is_refused_by_name(ocr, prompt):
    with pytest.raises(ConfigError, match="has no text in quotes to look for: write it as in: a shop sign") as error:
        ocr(torch.ones(1, 8, 8, 3), [prompt])
    assert repr(prompt) in str(error.value)


def plain_distance(a: str, b: str) -> int:
    """By the recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        plain_distance(a[1:], b) + 1, plain_distance(a, b[1:]) + 1, plain_distance(a[1:], b[1:]) + (a[0] != b[0])
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [("", ""), ("", "abc"), ("kitten", "sitting"), ("flaw", "lawn"), ("abc", "abc"), ("ab", "ba"), ("aaaa", "b")],
)
def test_the_edit_distance_is_that_of_its_definition(a, b):
    assert edit_distance(a, b) == edit_distance(b, a) == plain_distance(a, b)


@pytest.mark.parametrize(
    ("read", "wanted", "score"),
    [
        ("Hello World", "hello  WORLD", 1),
        ("HELLOWORLD", "Hello World", 1),
        ("", "abcd", 0),
        ("abxd", "abcd", 0.75),
        ("completely different", "abcd", 0),
        ("the abcd of it", "abcd", 1),
        ("STRASSE", "Straße", 1),
        ("ＯＰＥＮ！", "OPEN!", 1),
    ],
)
def test_case_space_and_width_of_letters_do_not_count(read, wanted, score):
    assert text_score(read, wanted) == score


@pytest.mark.slow
def test_nothing_is_ever_downloaded(tmp_path):
    """In a process of its own, where any connection and any change of the package's folder is an error."""
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise SystemExit("a connection was made")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
sys.path.insert(0, sys.argv[1])
from _host.package import load_core
load_core()
import torch
from pave_core.rewards.ocr import OCR, bundled_models
before = sorted((p.name, p.stat().st_mtime) for p in bundled_models()["det"].parent.iterdir())
assert OCR()(torch.ones(1, 64, 64, 3), ['"a"']).item() == 0
from test_ocr import drawn
assert OCR()(drawn("OPEN")[None], ['"open"']).item() == 1
assert before == sorted((p.name, p.stat().st_mtime) for p in bundled_models()["det"].parent.iterdir())
"""
    here = __file__.rpartition("test_ocr.py")[0]
    tools = importlib.import_module("_host.package").__file__.rpartition("_host")[0]
    path = f"import sys; sys.path.append({here!r})\n"
    done = subprocess.run([sys.executable, "-c", path + code, tools], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_folder_that_only_looks_like_the_package_is_refused(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(ConfigError, match="was not installed by pip: run"):
        OCR()


@pytest.mark.parametrize("version", ["1.4.4", "2.1", "3.9.12"])
def test_a_version_that_would_download_a_font_is_refused(monkeypatch, version):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    with pytest.raises(
        ConfigError, match=rf"ocr: rapidocr {version} is older than 3\.10: run .* -r .*requirements-ocr.txt"
    ):
        OCR()


@pytest.mark.parametrize("version", ["3.10.0", "3.11rc1", "4.0"])
def test_newer_versions_are_taken(monkeypatch, version):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    assert OCR().name == "ocr"


@pytest.mark.parametrize("package", ["rapidocr", "onnxruntime", "cv2"])
def test_a_missing_package_is_said_with_the_command_for_this_python(monkeypatch, package):
    monkeypatch.setattr("pave_core.rewards.ocr.find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(
        ConfigError, match=f"ocr: {package} cannot be found: run .* --no-deps -r .*requirements-ocr.txt.* and restart"
    ) as error:
        OCR()
    assert sys.executable in str(error.value)
    # A module that is there may come from onnxruntime-gpu, which pip would install the other one over.
    assert ('txt" onnxruntime and' in str(error.value)) == (package == "onnxruntime")
    assert ("opencv-python-headless" in str(error.value)) == (package == "cv2")


def test_networks_that_are_gone_are_not_fetched_but_refused(monkeypatch):
    monkeypatch.setattr(metadata, "files", lambda name: [])
    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("a connection was made"))
    with pytest.raises(
        ConfigError, match="is installed without its networks: run .*--force-reinstall --no-deps rapidocr"
    ):
        OCR()


@pytest.mark.parametrize(
    ("module", "package"),
    [("cv2", "opencv-contrib-python"), ("onnxruntime", "onnxruntime-gpu"), ("rapidocr", "rapidocr")],
)
def test_a_broken_package_is_said_by_the_name_that_pip_knows_it_by(monkeypatch, tmp_path, module, package):
    (tmp_path / module).mkdir()
    (tmp_path / module / "__init__.py").write_text("raise OSError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for loaded in [name for name in sys.modules if name.partition(".")[0] in ("rapidocr", module)]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {module: [package]})
    monkeypatch.setattr(metadata, "version", lambda name: "3.10.0")
    line = rf'ocr: {package} cannot be imported \(OSError: libGL.*\): run .* --force-reinstall --no-deps "{package}'
    with pytest.raises(ConfigError, match=line):
        OCR()


def test_the_recipe_names_the_networks(ocr):
    assert ocr.describe().keys() == {"models"}
    assert all(name.endswith(".onnx") and "/" not in name for name in ocr.describe()["models"])
