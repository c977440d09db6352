"""The two models of the comparison; every server builds them from the same seed."""

from __future__ import annotations

from itertools import pairwise

import torch

SIZES = {"tiny": (4, 16, 3), "mid": (256, 2048, 2048, 64)}
"""Features in, hidden, out: 131 weights, and 4.8 million (10 MFLOP and 19 MB a row)."""


class Net(torch.nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def build(name: str) -> Net:
    """Return a model with the same weights each time."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return Net(list(SIZES[name])).eval()
