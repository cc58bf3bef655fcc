"""The vocabulary of ImageReward: BERT's, as text or as JSON, and nothing else."""

import pytest

from pave_core.errors import ConfigError
from pave_core.rewards.image_reward import read_vocabulary

MARKS = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", None, "does not exist"),
        ("vocab.txt", b"", "is not that of bert-base-uncased"),
        ("vocab.txt", b"\xff\xfe\x00binary", "cannot be read"),
        (
            "vocab.txt",
            "\n".join(MARKS.get(i, f"t{i}") for i in range(28996)).encode(),
            r"28996 tokens, not 30522; no mark out of place",
        ),
        (
            "vocab.txt",
            "\n".join(f"t{i}" for i in range(30522)).encode(),
            r"\[PAD\], \[UNK\], \[CLS\], \[SEP\] out of place",
        ),
        ("tokenizer.json", b"{", "cannot be read"),
        ("tokenizer.json", b'{"model_type": "bert"}', "cannot be read"),
    ],
)
def test_a_bad_vocabulary_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(
        ConfigError, match=rf"^vocabulary: {name} .*{message}.*: choose vocab\.txt of google-bert/bert-base-uncased$"
    ):
        read_vocabulary(tmp_path / name)


def test_a_vocabulary_as_tokenizer_json_is_the_same_tokenizer(tmp_path):
    tokens = [MARKS.get(i, f"[unused{i}]") for i in range(30522)]
    tokens[2000:2004] = ["snow", "fox", "##es", "!"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), "utf-8")
    by_text = read_vocabulary(tmp_path / "vocab.txt")
    by_text.save(str(tmp_path / "tokenizer.json"))
    by_json = read_vocabulary(tmp_path / "tokenizer.json")
    for tokenizer in (by_text, by_json):
        encoded = tokenizer.encode("Foxes, SNOW!")
        assert encoded.ids == [101, 2001, 2002, 100, 2000, 2003, 102] + [0] * 28
        assert encoded.attention_mask == [1] * 7 + [0] * 28
