"""What watches the tensors of a float network: observers that find ranges, and rounding that trains with them."""

from dlkit.quantize.observe.histogram import Histogram, NotANumber
from dlkit.quantize.observe.observers import (
    EVERYTHING,
    Bounds,
    MinMaxObserver,
    MSEObserver,
    PercentileObserver,
    RangeObserver,
    affine_of,
    build_range_observer,
    clamped,
)
from dlkit.quantize.observe.rounding import (
    ActivationRounding,
    WeightRounding,
    build_activation_rounding,
    build_weight_rounding,
)
