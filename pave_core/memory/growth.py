"""How a number of bytes grows with the size of the image.

    bytes(A) = a + b A + c A^2          A: the area of the latent, height x width

The tokens of the image are proportional to A. Most of what a network keeps is linear in them, beside the text's; the
probabilities of an attention that is not fused are quadratic in all tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """The coefficients a, b and c."""

    constant: float = 0.0
    linear: float = 0.0
    square: float = 0.0

    def at(self, area: float) -> float:
        """The bytes at a latent area; never below 0."""
        return max(0.0, self.constant + area * (self.linear + area * self.square))

    def __add__(self, other: Growth) -> Growth:
        return Growth(self.constant + other.constant, self.linear + other.linear, self.square + other.square)

    def __mul__(self, factor: float) -> Growth:
        return Growth(self.constant * factor, self.linear * factor, self.square * factor)

    @classmethod
    def through(cls, points: Mapping[int, float]) -> Growth:
        """The polynomial of lowest degree through up to three points {area: bytes}; through one, the line from 0."""
        (x, f), *others = sorted(points.items())
        if not others:
            return cls(linear=f / x)
        (y, g), *rest = others
        slope = (g - f) / (y - x)
        bend = 0.0
        if rest:
            ((z, h),) = rest
            bend = ((h - g) / (z - y) - slope) / (z - x)
        # Newton's form: f + slope (A - x) + bend (A - x) (A - y)
        return cls(f - slope * x + bend * x * y, slope - bend * (x + y), bend)
