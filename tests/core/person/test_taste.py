"""A taste that is learnt from answers: against an optimiser of its own, and against the person."""

import itertools
import json
import math
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize
from scipy.stats import norm

from _bench.simulated import SimulatedPerson, utility
from _person import click, shapes
from pave_core.errors import ConfigError
from pave_core.person import taste as module
from pave_core.person.choice import Choice
from pave_core.person.taste import METADATA, Taste, TasteReward, learn_taste


class Eyes:
    """Stands in for a CLIP where features are drawn."""

    def __init__(self, D):
        self.probe = torch.ones(D)

    def describe(self):
        return {"weights": "drawn"}


def drawn(questions, *, D=6, n=5, seed=0):
    """[(phi, full order)] of a person with random weights, and these."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(D, generator=random)
    answers = []
    for _ in range(questions):
        phi = torch.randn(n, D, generator=random)
        noise = -torch.log(-torch.log(torch.rand(n, generator=random)))
        order = (phi @ weight + noise).argsort(descending=True).tolist()
        answers.append((phi, Choice("ranked", tuple((place,) for place in order))))
    return answers, weight


def learnt(person_seed, eyes, questions=60):
    person = SimulatedPerson(Choice, seed=person_seed)
    answers = []
    for number in range(questions):
        question = shapes(1000 * person_seed + number)
        answers.append((eyes(question.images), person.ask([question])[0]))
    return learn_taste(answers, eyes)


def test_the_weights_are_the_optimum_that_scipy_finds(monkeypatch):
    monkeypatch.setattr(module, "WIDTHS", (1.5,))
    answers, _ = drawn(20)
    before = learn_taste(drawn(10, seed=5)[0], Eyes(6))
    for known in (None, before):
        found = learn_taste(answers, Eyes(6), known)
        m = np.zeros(6) if known is None else known.weight.double().numpy()
        d = np.concatenate([[(phi[i] - phi[j]).double().numpy() for i, j in choice.pairs()] for phi, choice in answers])

        def loss(w, d=d, m=m, v=found.variance):
            return np.log1p(np.exp(-d @ w)).sum() + ((w - m) ** 2).sum() / (2 * v)

        oracle = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-8})
        np.testing.assert_allclose(found.weight, oracle.x, atol=2e-3)

        # The covariance is the inverse of the loss's second derivatives, here by finite differences of its gradient.
        def gradient(w, d=d, m=m, v=found.variance):
            return -d.T @ (1 / (1 + np.exp(d @ w))) + (w - m) / v

        steps = np.eye(6) * 1e-4
        second = np.stack([(gradient(oracle.x + s) - gradient(oracle.x - s)) / 2e-4 for s in steps])
        np.testing.assert_allclose(found.factor @ found.factor.T, np.linalg.inv(second), rtol=2e-2, atol=1e-4)


def test_the_prior_s_width_is_in_units_of_what_a_question_s_images_differ_by(monkeypatch):
    monkeypatch.setattr(module, "WIDTHS", (1.0,))
    answers, _ = drawn(8)
    larger = [(100 * phi, choice) for phi, choice in answers]
    one, other = learn_taste(answers, Eyes(6)), learn_taste(larger, Eyes(6))
    torch.testing.assert_close(one.weight, 100 * other.weight, rtol=1e-3, atol=1e-4)


def test_a_probability_is_the_mean_over_the_posterior():
    """Oracle: the integral over w by sampling it. MacKay's formula is within some hundredths."""
    taste = learn_taste(drawn(6)[0], Eyes(6))
    a, b = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(1))
    random = torch.randn(20000, 6, generator=torch.Generator().manual_seed(2))
    samples = taste.weight + (random @ taste.factor.T) @ taste.basis.T
    integral = torch.sigmoid((a - b) @ samples.T).mean(1)
    found = taste.prefers(a, b)
    assert (found - integral).abs().max() < 0.03
    torch.testing.assert_close(found + taste.prefers(b, a), torch.ones(40))
    plain = torch.sigmoid((a - b) @ taste.weight)
    assert ((found - 0.5).abs() <= (plain - 0.5).abs()).all()  # less sure than without its own uncertainty


def test_in_directions_that_were_never_seen_the_prior_is_left():
    answers = [(torch.cat([phi, torch.zeros(5, 200)], 1), choice) for phi, choice in drawn(4, D=6)[0]]
    taste = learn_taste(answers, Eyes(206))
    assert taste.basis.shape[1] < 206
    unseen = torch.zeros(206)
    unseen[150] = 3.0
    assert taste.scores(unseen).abs() < 1e-4
    assert taste.prefers(unseen, torch.zeros(206)).item() == pytest.approx(0.5, abs=1e-4)
    both = unseen + answers[0][0][0]
    spread = math.sqrt(9 * taste.variance)
    assert (both @ taste.basis).square().sum() < both.square().sum() - 8.9
    assert spread > 0


def test_many_answers_find_the_person_s_weights():
    answers, weight = drawn(400)
    found = learn_taste(answers, Eyes(6))
    assert torch.nn.functional.cosine_similarity(found.weight, weight, dim=0) > 0.99


def test_the_accuracy_is_that_of_new_answers():
    answers, _ = drawn(120)
    found = learn_taste(answers, Eyes(6))
    new, _ = drawn(520)
    shares = []
    for phi, choice in new[120:]:
        scores = found.scores(phi)
        shares.append(np.mean([float(scores[i] > scores[j]) for i, j in choice.pairs()]))
    assert found.accuracy.questions == 120
    assert abs(found.accuracy.share - np.mean(shares)) < norm.ppf(0.999) * math.hypot(
        found.accuracy.se, np.std(shares) / 20
    )


def test_answers_at_random_have_the_accuracy_of_chance():
    random = torch.Generator().manual_seed(3)
    answers = [
        (torch.randn(6, 20, generator=random), click(int(torch.randint(6, (), generator=random)), 6)) for _ in range(80)
    ]
    found = learn_taste(answers, Eyes(20)).accuracy
    assert abs(found.share - 0.5) < 3.3 * found.se


@pytest.mark.parametrize("person_seed", range(3))
def test_sixty_clicks_of_which_a_tenth_are_wrong_predict_held_out_pairs(eyes, person_seed):
    """Of the simulated person, on the features of the bundled CLIP: far above chance, and about what it says itself."""
    taste = learnt(person_seed + 1, eyes)
    shares = []
    for number in range(50_000, 50_080):
        question = shapes(number)
        true, scores = utility(question.images / 255), taste.scores(eyes(question.images))
        pairs = itertools.combinations(range(12), 2)
        shares.append(np.mean([float((scores[i] > scores[j]) == (true[i] > true[j])) for i, j in pairs]))
    mean, se = np.mean(shares), np.std(shares) / math.sqrt(80)
    assert mean - 5 * se > 0.5
    assert taste.accuracy.share - 5 * taste.accuracy.se > 0.5


def test_it_is_surer_of_what_it_knows(eyes):
    taste = learnt(1, eyes)
    sure, right = [], []
    for number in range(60_000, 60_060):
        question = shapes(number)
        phi, true = eyes(question.images), utility(question.images / 255)
        best = int(taste.scores(phi).argmax())
        sure.append(taste.sureness(phi))
        right.append((true[best] >= true).float().sum().sub(1).div(11).item())
    sure, right = torch.tensor(sure), torch.tensor(right)
    assert ((sure >= 0.5) & (sure <= 1)).all()
    assert right[sure >= sure.median()].mean() > 0.8
    assert right[sure >= sure.median()].mean() >= right[sure < sure.median()].mean()


def test_what_is_saved_is_loaded(eyes, tmp_path):
    taste = learnt(2, eyes, questions=20)
    taste.save(tmp_path / "mine.safetensors")
    again = Taste.load(tmp_path / "mine.safetensors", eyes)
    for name, value in vars(taste).items():
        assert (
            torch.equal(value, getattr(again, name))
            if isinstance(value, torch.Tensor)
            else value == getattr(again, name)
        )
    reward = TasteReward(tmp_path / "mine.safetensors", eyes)
    images = shapes(7).images / 255
    assert torch.equal(reward(images, ["a"] * 12), taste.scores(eyes(images)))
    size = (tmp_path / "mine.safetensors").stat().st_size
    assert reward.describe() == {"taste": {"file": "mine.safetensors", "bytes": size}, **eyes.describe()}
    assert (reward.name, reward.taste.choices, reward.taste.accuracy) == ("taste", 20, taste.accuracy)


def test_features_of_eight_bits_are_those_of_the_same_values(eyes):
    images = shapes(3).images
    torch.testing.assert_close(eyes(images), eyes(images / 255))
    torch.testing.assert_close(eyes(images).norm(dim=1), torch.full((12,), math.sqrt(64.0)))


def test_a_taste_goes_on_from_an_earlier_one(eyes):
    old, new = learnt(4, eyes), [(eyes(shapes(9).images), click(0))]
    on = learn_taste(new, eyes, old)
    assert on.choices == 61
    phi = eyes(shapes(70_000).images)
    assert torch.corrcoef(torch.stack([on.scores(phi), old.scores(phi)]))[0, 1] > 0.8
    assert learn_taste([], eyes, old) is old
    assert learn_taste([(phi, Choice("none"))], eyes) is None


def changed(path, to, **values):
    tensors = load_file(path)
    metadata = json.loads(module.safe_open(path, "pt").metadata()[METADATA])
    tensors |= {name: value for name, value in values.items() if name in tensors}
    metadata |= {name: value for name, value in values.items() if name not in tensors}
    save_file(
        {name: value for name, value in tensors.items() if value is not None}, to, {METADATA: json.dumps(metadata)}
    )


WRONG = {
    "a weight that is not finite": {"weight": torch.full((64,), math.nan)},
    "a basis of another shape": {"basis": torch.eye(3)},
    "no factor": {"factor": None},
    "a variance of 0": {"variance": 0.0},
    "choices that are no number": {"choices": "many"},
    "an accuracy that is none": {"accuracy": {"share": 1.0}},
    "a clip that is none": {"clip": 3},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_damaged_taste_is_refused(eyes, tmp_path, what):
    learnt(2, eyes, questions=6).save(tmp_path / "right.safetensors")
    changed(tmp_path / "right.safetensors", tmp_path / "wrong.safetensors", **WRONG[what])
    with pytest.raises(ConfigError, match="taste: wrong.safetensors is damaged, or no taste that this pack has saved"):
        Taste.load(tmp_path / "wrong.safetensors", eyes)


def test_no_taste_at_all_is_refused(eyes, tmp_path):
    for name, content in {"text": b"hello", "empty": b"", "cut": b"\x10\x00\x00\x00\x00\x00\x00\x00{"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match="taste: "):
            Taste.load(tmp_path / name, eyes)
    with pytest.raises(ConfigError, match="does not exist"):
        Taste.load(tmp_path / "missing", eyes)


def test_a_taste_of_another_clip_is_refused(eyes, tmp_path, root):
    learnt(2, eyes, questions=6).save(tmp_path / "mine.safetensors")
    tensors = load_file(root / "assets" / "tiny" / "open_clip_model.safetensors")
    for name in ("visual.attnpool.c_proj.weight", "visual.attnpool.c_proj.bias"):
        tensors[name] = tensors[name].roll(1, dims=0)  # the same features in another order
    save_file(tensors, tmp_path / "other.safetensors")
    stranger = module.ClipFeatures(tmp_path / "other.safetensors", root / "assets" / "tiny" / "open_clip_config.json")
    with pytest.raises(ConfigError, match=r"mine.safetensors was learnt with another CLIP.*open_clip_model"):
        Taste.load(tmp_path / "mine.safetensors", stranger)
    broken = Eyes(64)
    broken.probe = torch.full((64,), math.nan)
    for other in (Eyes(1024), broken):
        with pytest.raises(ConfigError, match="another CLIP"):
            Taste.load(tmp_path / "mine.safetensors", other)


def test_it_is_known_again_in_another_precision(root, tmp_path, eyes):
    tiny = root / "assets" / "tiny"
    compute = module.Compute(precision="bf16")
    rough = module.ClipFeatures(tiny / "open_clip_model.safetensors", tiny / "open_clip_config.json", compute)
    learnt(2, eyes, questions=6).save(tmp_path / "mine.safetensors")
    assert Taste.load(tmp_path / "mine.safetensors", rough).choices == 6


def test_two_hundred_questions_of_a_large_clip_are_learnt_in_a_moment():
    random = torch.Generator().manual_seed(0)
    fall = torch.logspace(0, -2, 1024)
    answers = [(torch.randn(12, 1024, generator=random) * fall, click(number % 12)) for number in range(200)]
    seconds = []
    for _ in range(3):
        started = time.process_time()
        learn_taste(answers, Eyes(1024))
        seconds.append(time.process_time() - started)
    assert min(seconds) < 2  # 0.2 s where nothing else runs
