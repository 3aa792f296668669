"""Training a float network for int8: with rounding put in, in phases, and kept only where it is no worse than static."""

from dlkit.quantize.qat.comparison import QatComparison, is_chance
from dlkit.quantize.qat.phases import Phases
from dlkit.quantize.qat.switches import freeze_norms, switch_observers, take_ranges
from dlkit.quantize.qat.training import (
    EPOCHS,
    QatOutcome,
    QatSettings,
    build_qat,
    prepare_training,
    quantize_aware,
    train_quantized,
)
