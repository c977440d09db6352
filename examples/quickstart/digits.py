"""A small classifier of handwritten digits: the code that training and the model server share."""

from __future__ import annotations

import torch
from torch import nn


class Digits(nn.Module):
    """Two layers over an 8 by 8 image.

    In: pixels, float32 [batch, 64], 0 to 16. Out: label, int64 [batch]; scores, float32
    [batch, 10], the probability of each digit.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.layers(pixels).softmax(dim=-1)
        return {"label": scores.argmax(dim=-1), "scores": scores}


def build(hidden: int) -> Digits:
    """Return an untrained model; the model server calls this and loads the weights."""
    return Digits(hidden)
