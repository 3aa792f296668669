"""Pictures with masks for TensorBoard: what is trained on, and what the network says of the first pictures of validation."""

from collections.abc import Sequence

from torch import Tensor

from dlkit.core.data import Batch, Color, DataInfo
from dlkit.core.evaluation import SeenMap, paint, picture_of, seen_strip, strip_of

MOST_PICTURES = 64  # they are kept while validation goes on, and make one sheet


class MapPictures:
    """So many pictures of a run, at most 64, with masks in these colours. Those of validation are taken from batches that are judged
    anyway, so that nothing is computed for them.
    """

    def __init__(self, count: int, info: DataInfo, colors: Sequence[Color]) -> None:
        self.count, self.info, self.colors = min(count, MOST_PICTURES), info, colors
        self._seen: list[SeenMap] = []

    @property
    def classes(self) -> list[tuple[str, Color]]:
        """The name and the colour of each class."""
        return list(zip(self.info.class_names, self.colors, strict=True))

    def training_strips(self, batch: Batch) -> list[Tensor]:
        """Returns the first pictures of a batch, each beside its mask: uint8 (H, W, 3)."""
        pairs = zip(batch.inputs[: self.count], batch.targets[: self.count].cpu(), strict=True)
        return [strip_of(picture_of(image, self.info), [paint(mask, self.colors)]) for image, mask in pairs]

    def watch(self, outputs: Tensor, batch: Batch) -> None:
        """Look at a batch and its logits (N, C, H, W). Where a moving average is judged behind the network, its maps stay."""
        if int(batch.indices[0]) == 0:
            self._seen.clear()
        for place in range(min(len(outputs), self.count - len(self._seen))):
            picture, predicted = picture_of(batch.inputs[place], self.info), outputs[place].argmax(0).cpu()
            self._seen.append(SeenMap(picture, batch.targets[place].cpu(), predicted))

    def take_strips(self) -> list[Tensor]:
        """Returns picture, truth, prediction and error of each, uint8 (H, W, 3), and forgets them; none where nothing was validated."""
        seen, self._seen = self._seen, []
        return [seen_strip(one, self.colors) for one in seen]
