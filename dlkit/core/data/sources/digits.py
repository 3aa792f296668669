"""The digits that ship inside dlkit: real handwriting, small enough to train on in seconds.

Origin: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licence CC BY 4.0. These are the 1,797 digits of 13 writers that UCI calls the test
part, as scikit-learn distributes them. Changed here: values 0..16 are scaled to 0..255 and rounded.
"""

import gzip
from importlib import resources

import torch
from torch import Tensor

from dlkit.core.data.samples import Source, SourceRequest, TensorSamples

NUM_DIGITS = 1797
# The file: 1,797 labels, then 1,797 images of 8x8 pixels 0..16, one byte each, gzipped.
_FILE = "digits.bin.gz"


def digits(*, request: SourceRequest) -> Source:
    """1,797 grey images of 8x8 pixels in 10 classes. Every fifth, from the fifth on, is a test sample: 1,438 train, 359
    test.
    """
    images, labels = read_digits()
    is_test = torch.arange(NUM_DIGITS) % 5 == 4
    return Source(
        task="classification",
        kind="image",
        train=TensorSamples(images[~is_test], labels[~is_test]),
        val=None,
        test=TensorSamples(images[is_test], labels[is_test]),
        num_outputs=10,
        classes=tuple("0123456789"),
    )


def read_digits() -> tuple[Tensor, Tensor]:
    """Returns all images, uint8 (1797, 1, 8, 8) in 0..255, and labels, int64 (1797,)."""
    content = gzip.decompress(resources.files(__package__).joinpath(_FILE).read_bytes())
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    images = (values[NUM_DIGITS:].float() * (255 / 16)).round().to(torch.uint8)
    return images.view(NUM_DIGITS, 1, 8, 8), values[:NUM_DIGITS].long()
