# SPDX-License-Identifier: Apache-2.0
"""Networks of PyTorch that a user could have; factories are named as `tests.model.networks:cnn`."""

from __future__ import annotations

import torch
from torch import nn


class Cnn(nn.Module):
    """Pictures, channels first, to three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU()
        )
        self.head = nn.Linear(16, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.head(self.features(pixels).mean((2, 3))), dim=1)


class Encoder(nn.Module):
    """Token ids of any number and their mask to two named answers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.encoder(self.embed(input_ids), src_key_padding_mask=attention_mask == 0)
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return {"logits": self.head(pooled), "hidden": hidden}


class Gate(nn.Module):
    """A loop and a branch, which only a script keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = torch.tanh(self.linear(x))
        return x


class Rare(nn.Module):
    """Two operators that ONNX does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x) + torch.special.airy_ai(x)


def cnn() -> nn.Module:
    return Cnn()


def encoder() -> nn.Module:
    return Encoder()


def rare() -> nn.Module:
    return Rare()


def no_network() -> str:
    return "a text"
