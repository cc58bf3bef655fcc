"""Drawn pictures of shapes as questions, and an asker that remembers what it was asked."""

import torch

from pave_core.person.choice import Choice, Question

COLOURS = torch.tensor([[0.9, 0.2, 0.1], [0.9, 0.7, 0.1], [0.2, 0.7, 0.3], [0.2, 0.3, 0.9], [0.5, 0.2, 0.7]])


def shape(colour: torch.Tensor, radius: float, x: float, y: float) -> torch.Tensor:
    """A disc (64, 64, 3) in 8 bits on a dark ground."""
    grid = torch.arange(64.0)
    inside = ((grid[:, None] - y) ** 2 + (grid - x) ** 2 < radius**2)[..., None]
    return (torch.where(inside, colour, torch.tensor([0.1, 0.1, 0.12])) * 255).round().byte()


def shapes(number: int, n: int = 12) -> Question:
    """A question of n discs of any colour, size and place."""
    random = torch.Generator().manual_seed(number)
    colours = COLOURS[torch.randint(len(COLOURS), (n,), generator=random)]
    numbers = torch.rand(n, 3, generator=random) * torch.tensor([16.0, 24.0, 24.0]) + torch.tensor([5.0, 20.0, 20.0])
    images = [shape(colour, *each) for colour, each in zip(colours, numbers.tolist(), strict=True)]
    return Question("a shape", torch.stack(images))


def click(place: int, n: int = 12) -> Choice:
    return Choice("ranked", ((place,), tuple(i for i in range(n) if i != place)))


def brightest(question: Question) -> Choice:
    """A click on the brightest image."""
    return click(int(question.images.float().sum((1, 2, 3)).argmax()), len(question.images))


class Asker:
    """Remembers what it was asked, in calls. answer: question -> Choice; by default a click on the brightest."""

    def __init__(self, answer=None):
        self._answer = answer or brightest
        self.calls = []
        self.answers = {}

    def ask(self, questions):
        self.calls.append(list(questions))
        for question in questions:
            if question.key not in self.answers:
                self.answers[question.key] = question, self._answer(question)
        return [self.answers[question.key][1] for question in questions]

    def answered(self):
        return list(self.answers.values())
