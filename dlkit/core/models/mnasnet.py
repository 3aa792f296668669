"""torchvision's MNASNet, loaded as model files and checkpoints hold it."""

from collections.abc import Mapping
from typing import Any

from torchvision.models import MNASNet


class CurrentMNASNet(MNASNet):  # type: ignore[misc]  # torchvision has no types
    """Takes tensors without a version, as model files and checkpoints hold them, for those of its own layout.

    torchvision's class refuses them, because it could be asked for an older one.
    """

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Mapping[str, Any], *others: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, {"version": self._version, **local_metadata}, *others)
