"""Where samples come from: one module per data set or file format, each with a function that makes a `Source`."""

from dlkit.core.data.sources.arrays import is_array_file, read_array_rows
from dlkit.core.data.sources.custom import open_custom
from dlkit.core.data.sources.digits import read_digits
from dlkit.core.data.sources.image_table import read_image_rows
from dlkit.core.data.sources.imagefolder import FileSamples
from dlkit.core.data.sources.items import MaskedItems
from dlkit.core.data.sources.table import read_rows
from dlkit.core.data.sources.table_file import is_table_file
from dlkit.core.data.sources.torchvision import (
    DEBIAN_FASHION_MNIST,
    FASHION_CLASSES,
    open_torchvision,
    read_idx,
    samples_of,
)
