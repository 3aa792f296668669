"""What goes into networks and comes out of them."""

from collections import OrderedDict, UserDict, namedtuple

import torch
from torch.ao.nn.quantized import FloatFunctional

from dlkit.core.models import first_tensor, has_int8_layers, random_inputs, tensors_in, top1_matches

Pair = namedtuple("Pair", "left right")


def test_inputs_are_always_the_same():
    torch.manual_seed(5)
    first = random_inputs((3, 4), 2)
    torch.manual_seed(6)
    assert torch.equal(first, random_inputs((3, 4), 2)) and first.shape == (2, 3, 4)
    generator = torch.Generator().manual_seed(0)
    drawn = [random_inputs((3, 4), 2, generator=generator) for _ in range(2)]
    assert torch.equal(first, drawn[0]) and not torch.equal(*drawn)


def test_tensors_are_found_in_their_order_however_nested():
    a, b, c, d, e = (torch.full((1,), float(number)) for number in range(5))
    nest = UserDict(x=[a, (b, None)], y=OrderedDict(z=Pair(c, {"deep": UserDict(w=d)})), u="text", v=e)
    assert [tensor.item() for tensor in tensors_in(nest)] == [0, 1, 2, 3, 4]
    assert first_tensor(nest) is a and first_tensor({"nothing": [1, "x"]}) is None and first_tensor(b) is b


def test_top_classes_of_outputs_of_any_shape():
    maps = torch.tensor([[[0.0, 3.0], [1.0, 2.0]], [[0.0, 1.0], [2.0, 3.0]]])
    others = maps.clone()
    others[1, 0, 0] = 9.0
    assert top1_matches(maps, others).tolist() == [True, False]


def test_a_float_network_that_is_made_for_quantization_is_float():
    assert not has_int8_layers(FloatFunctional())
