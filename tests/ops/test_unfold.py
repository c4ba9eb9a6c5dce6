"""unfold and fold as operators: values, gradients through each other, and what they refuse."""

import numpy as np
import pytest
import reference as ref

from fastconv.engine.engine import compile
from fastconv.graph.ir import apply
from fastconv.graph.parameter import Parameter

# input, kernel_size, dilation, padding, stride
CASES = {
    "2d": ((2, 3, 7, 6), (3, 2), (1, 2), (1, 0), (2, 1)),
    "1d": ((2, 5, 11), (4,), (2,), (3,), (3,)),
    "3d": ((1, 2, 4, 3, 5), (2, 2, 3), (1, 1, 1), (1, 0, 1), (1, 1, 2)),
}


def keywords(case):
    return dict(zip(("kernel_size", "dilation", "padding", "stride"), case[1:], strict=True))


@pytest.mark.parametrize("name", list(CASES))
def test_values_and_gradients(name):
    case = CASES[name]
    rng = np.random.default_rng(0)
    x = ref.exact_integers(rng, case[0], 4)
    scale = Parameter(ref.exact_integers(rng, (case[0][1], case[0][1], *(1,) * (len(case[0]) - 2)), 2))

    def unfolded(x):
        return apply("unfold", [apply("conv", [x, scale, None])], **keywords(case))

    columns = compile(unfolded, x.shape, threads=2)(x)
    np.testing.assert_array_equal(columns, ref.unfold(ref.conv(x, scale.data), *case[1:]))

    engine = compile(lambda x: apply("fold", [unfolded(x)], output_size=case[0][2:], **keywords(case)), x.shape,
                     training=True, threads=2)
    folded = engine(x)
    np.testing.assert_array_equal(folded, ref.fold(columns, case[0][2:], *case[1:]))
    g = ref.exact_integers(rng, folded.shape, 3)
    engine.backward(g)
    gh = ref.fold(ref.unfold(g, *case[1:]), case[0][2:], *case[1:])
    np.testing.assert_array_equal(scale.grad, ref.conv_backward_weight(x, scale.shape, gh))


@pytest.mark.parametrize("shape, op, attributes, message", [
    ((1, 2), "unfold", {"kernel_size": 2}, "2 dimensions: expected 3"),
    ((1, 2, 3, 3), "unfold", {"kernel_size": 4}, "the output would be empty"),
    ((1, 9, 4), "fold", {"kernel_size": 2, "output_size": (3, 3)}, "multiple of 4"),
    ((1, 8, 5), "fold", {"kernel_size": 2, "output_size": (3, 3)}, "5 windows: .* expects 4"),
    ((1, 8, 4, 1), "fold", {"kernel_size": 2, "output_size": (3, 3)}, "4 dimensions: expected 3"),
    ((1, 8, 4), "fold", {"kernel_size": 2, "output_size": (3, 0)}, "output_size"),
])
def test_refused(shape, op, attributes, message):
    with pytest.raises(ValueError, match=message):
        compile(lambda x: apply(op, [x], **attributes), shape)
