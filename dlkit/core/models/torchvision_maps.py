"""torchvision's networks for segmentation, which give maps of logits as a tensor where torchvision's give a mapping."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation import FCN, LRASPP, DeepLabV3

from dlkit.core.components import Builder
from dlkit.core.models.auxiliary import AuxiliaryOutputs
from dlkit.core.models.torchvision import AUX_HEAD


class _GivesMaps(nn.Module):
    """Images (N, C, H, W) to logits (N, num_classes, H, W), and in training to those of both heads where there are two."""

    backbone: nn.Module
    classifier: nn.Module
    aux_classifier: nn.Module | None
    aux_weight = 0.0
    head_names: tuple[str, ...] = ("classifier.4",)

    def forward(self, x: Tensor) -> Tensor | AuxiliaryOutputs:
        """Logits of each pixel."""
        features, size = self.backbone(x), x.shape[-2:]
        maps = self._resized(self.classifier(self._read(features)), size)
        if not self.training or self.aux_classifier is None:
            return maps
        return AuxiliaryOutputs(maps, self._resized(self.aux_classifier(features["aux"]), size), self.aux_weight)

    def _read(self, features: Mapping[str, Tensor]) -> Any:
        return features["out"]

    def _resized(self, maps: Tensor, size: Any) -> Tensor:
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class _FCNMaps(_GivesMaps, FCN):  # type: ignore[misc]  # torchvision has no types
    pass


class _DeepLabV3Maps(_GivesMaps, DeepLabV3):  # type: ignore[misc]
    pass


class _LRASPPMaps(_GivesMaps, LRASPP):  # type: ignore[misc]
    aux_classifier = None  # torchvision's has none, not even None
    head_names = ("classifier.low_classifier", "classifier.high_classifier")

    def _read(self, features: Mapping[str, Tensor]) -> Any:
        return features


_KINDS = {FCN: _FCNMaps, DeepLabV3: _DeepLabV3Maps, LRASPP: _LRASPPMaps}


def build_maps(builder: Builder, num_classes: int, aux_weight: float) -> nn.Module:
    """Returns a network that `builder` makes, randomly initialized, under torchvision's names; with an auxiliary head where its loss has
    a weight.
    """
    options = {"aux_loss": True} if aux_weight else {}
    network: nn.Module = builder(
        weights=None, weights_backbone=None, progress=False, num_classes=num_classes, **options
    )
    network.__class__ = _KINDS[type(network)]
    if aux_weight:
        network.aux_weight = aux_weight  # type: ignore[assignment]
        network.head_names = ("classifier.4", f"{AUX_HEAD}.4")  # type: ignore[assignment]
    return network
