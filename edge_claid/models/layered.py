"""timm's networks as torch modules that return every layer, for any input size. Imported by the export only."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edge_claid.errors import BuildError
from edge_claid.models.zoo import ZooEntry


def layered(known: ZooEntry, network: Any) -> nn.Module:
    """The module whose outputs are the layers of zoo.toml, in their order."""
    if known.kind == "timm-resnet":
        return LayeredResNet(network, known.layers)
    return LayeredViT(network, known.layers)


class LayeredViT(nn.Module):
    """A timm VisionTransformer; its positional embedding is resampled to the input's grid (bicubic, as DINO does).

    forward: (B, 3, H, W) float32 -> one (B, prefix + N, D) per layer; block i after its residual sum, -1 after the
    last normalisation.
    """

    def __init__(self, network: Any, layers: tuple[int, ...]) -> None:
        super().__init__()
        if network.reg_token is not None or network.no_embed_class or network.pos_embed is None:
            raise BuildError("a ViT with registers or an unusual positional embedding cannot be exported")
        self.network = network
        self.layers = layers
        self.grid = network.patch_embed.grid_size
        self.prefix = network.num_prefix_tokens

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        network = self.network
        patches = network.patch_embed.proj(image)
        tokens = network.patch_embed.norm(patches.flatten(2).transpose(1, 2))
        if network.cls_token is not None:
            tokens = torch.cat([network.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = network.norm_pre(tokens + self.positions(patches.shape[2], patches.shape[3]))
        outputs = {}
        for index, block in enumerate(network.blocks):
            tokens = block(tokens)
            outputs[index] = tokens
        outputs[-1] = network.norm(tokens)
        return tuple(outputs[layer] for layer in self.layers)

    def positions(self, rows: Any, columns: Any) -> torch.Tensor:
        """(1, prefix + rows * columns, D) positional embedding."""
        prefix, grid = self.network.pos_embed[:, : self.prefix], self.network.pos_embed[:, self.prefix :]
        grid = grid.reshape(1, *self.grid, -1).permute(0, 3, 1, 2)
        grid = nn.functional.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([prefix, grid.flatten(2).transpose(1, 2)], dim=1)


class LayeredResNet(nn.Module):
    """A timm ResNet. forward: (B, 3, H, W) float32 -> one (B, C, h, w) per layer; 401 is block 1 of stage 4."""

    def __init__(self, network: Any, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.layers = layers

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        network = self.network
        x = network.maxpool(network.act1(network.bn1(network.conv1(image))))
        outputs = {}
        for stage in range(1, 5):
            for index, block in enumerate(getattr(network, f"layer{stage}")):
                x = block(x)
                outputs[100 * stage + index] = x
        return tuple(outputs[layer] for layer in self.layers)
