"""The evaluations of a run: each made once, and few pictures in memory."""

import torch

from pave_core.evaluation.evaluate import Evaluation
from pave_core.runs.measurements import Measurements


class Measured:
    """Counts the measurements that it makes; each has its own number."""

    def __init__(self):
        self.made = 0
        self.measurements = Measurements(self.evaluation(0.0), self)

    def evaluation(self, number):
        return Evaluation(("a",), (1,), torch.zeros(1, 2, 2, 3), {}, torch.tensor([float(number)]), None)

    def __call__(self):
        self.made += 1
        return self.evaluation(self.made)


def with_images(measurements, *steps):
    return [step for step in steps if measurements.has_images(step)]


def test_a_step_is_measured_once():
    measured = Measured()
    first, new = measured.measurements.measure(5)
    assert new
    assert first.total.item() == 1
    again, new = measured.measurements.measure(5)
    assert not new
    assert again is first
    assert measured.made == 1


def test_step_zero_is_the_base_model_s():
    measured = Measured()
    before, new = measured.measurements.measure(0)
    assert not new
    assert before is measured.measurements.before
    assert measured.made == 0


def test_pictures_stay_of_the_base_of_the_newest_and_of_what_is_kept():
    measurements = Measured().measurements
    measurements.measure(2)
    measurements.measure(4, keep=[2])
    assert with_images(measurements, 0, 2, 4) == [0, 2, 4]
    measurements.measure(6, keep=[4])
    assert with_images(measurements, 0, 2, 4, 6) == [0, 4, 6]
    measurements.measure(8)
    assert with_images(measurements, 0, 2, 4, 6, 8) == [0, 8]
    assert [measurements.evaluations[step].total.item() for step in (0, 2, 4, 6, 8)] == [0, 1, 2, 3, 4]


def test_asking_again_for_a_known_step_drops_nothing():
    measurements = Measured().measurements
    measurements.measure(2)
    measurements.measure(4, keep=[2])
    measurements.measure(2)
    assert with_images(measurements, 0, 2, 4) == [0, 2, 4]


def test_a_step_may_be_measured_again_for_its_pictures():
    measurements = Measured().measurements
    measurements.measure(2)
    measurements.measure(4)
    assert not measurements.has_images(2)
    assert not measurements.has_images(3)
    measurements.replace(2)
    measurements.replace(3)
    assert with_images(measurements, 2, 3) == [2, 3]
    assert measurements.evaluations[2].total.item() == 3
