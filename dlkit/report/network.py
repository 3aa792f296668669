"""The network of a run, layer by layer: what comes out, parameters and MACs, as `dlkit shapecalc model` counts them."""

from pathlib import Path

from dlkit.errors import DlkitError, first_line
from dlkit.report.blocks import Block, Cell, Sheet, Words
from dlkit.report.words import count_cell, share_cell
from dlkit.shapes import short_count, size_text

MOST_ROWS = 400


def network_blocks(model_path: Path) -> list[Block]:
    """Returns the table of layers of a model file; a sentence where it cannot be made, as of a network that is the user's own code.

    It loads torch.
    """
    from dlkit.core.profile import model_from, profile_model

    try:
        source = model_from(str(model_path))
        profile = profile_model(source.model, source.inputs or (), with_memory=False)
    except (DlkitError, RuntimeError, NotImplementedError) as error:
        return [Words(f"Layers are not listed: {first_line(error, 300)}")]
    rows = [
        (
            Cell(layer.path),
            Cell(layer.kind + (f" ×{layer.calls}" if layer.calls > 1 else "")),
            Cell(size_text(layer.out_shape[1:]) if layer.out_shape else "not called"),
            count_cell(layer.num_parameters),
            share_cell(layer.num_parameters / max(profile.num_parameters, 1)),
            count_cell(layer.macs),
            share_cell(layer.macs / max(profile.macs, 1)),
        )
        for layer in profile.layers
        if layer.out_shape or layer.num_parameters
    ]
    given = size_text(profile.inputs[0].shape) if profile.inputs else ""
    note = f"One sample of {given}: {profile.num_parameters:,} parameters, {short_count(profile.macs)} MACs. A module counts what it holds."
    if len(rows) > MOST_ROWS:
        note += f" The first {MOST_ROWS} of {len(rows):,} modules; `dlkit shapecalc model {model_path.name}` lists all."
    columns = ("layer", "kind", "output", "parameters", "share", "MACs", "share of MACs")
    return [Sheet(columns, rows[:MOST_ROWS], note=note)]
