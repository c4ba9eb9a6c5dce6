# cython: language_level=3
"""Steps of Linear: a product of few rows with packed weights."""

from fastconv.kernels._args_linear cimport LinearArgs
from fastconv.kernels._runtime cimport Step
from fastconv.kernels.conv import ACTIVATIONS


def forward(*, size_t x, ldx, size_t w, size_t y, ldy, channels, filters, size_t bias=0, size_t residual=0, ldr=0, act=None,
            act_a=0.0, act_b=0.0) -> Step:
    """y = act(x @ w + bias + residual), one row per image; w by pack_weight with one tap."""
    cdef Step step = Step()
    cdef LinearArgs* a = <LinearArgs*> step.bind_name("f32_linear", sizeof(LinearArgs))
    a.x, a.w, a.y = <const float*> x, <const float*> w, <float*> y
    a.bias, a.residual = <const float*> bias, <const float*> residual
    a.C, a.K, a.ldx, a.ldy, a.ldr = channels, filters, ldx, ldy, ldr
    a.act, a.act_a, a.act_b = ACTIVATIONS[act], act_a, act_b
    return step
