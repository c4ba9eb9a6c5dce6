# cython: language_level=3
"""Steps of the loss family: softmax over channels, cross entropy, squared error.

Losses are three steps. The first leaves the parts of the sum (two float64 per tile, `parts()` of them) and, where asked,
each element's loss; `loss_sum` makes the loss and the factor `norm` that the backward multiplies by.
"""

from libc.stdint cimport int64_t

from fastconv.kernels._args_loss cimport CrossEntropyArgs, LossSumArgs, SoftmaxArgs, SquaredErrorArgs
from fastconv.kernels._runtime cimport Step


def pixels_per_tile(int64_t channels) -> int:
    """How many pixels one tile of a loss takes: the `per_tile` of the steps below."""
    return max(1, 8192 // max(1, channels))


def parts(int64_t pixels, int64_t channels) -> int:
    """How many parts a loss over so many pixels (those of the whole batch) leaves: 16 bytes each."""
    per = pixels_per_tile(channels)
    return max(1, (pixels + per - 1) // per)


def check_targets(size_t address, int64_t count, int64_t classes, int64_t ignore_index) -> int:
    """The position of the first of `count` int64 that is neither in [0, classes) nor ignore_index; -1 if there is none."""
    cdef const int64_t* target = <const int64_t*> address
    cdef int64_t i, bad = -1
    with nogil:
        for i in range(count):
            if (target[i] < 0 or target[i] >= classes) and target[i] != ignore_index:
                bad = i
                break
    return bad


def softmax(str kernel, *, size_t x, size_t y, pixels, channels, ldx, ldy) -> Step:
    """f32_softmax or f32_log_softmax over channels; y may be x."""
    cdef Step step = Step()
    cdef SoftmaxArgs* a = <SoftmaxArgs*> step.bind_name(kernel, sizeof(SoftmaxArgs))
    a.x = <const float*> x
    a.y = <float*> y
    a.pixels = pixels
    a.C = channels
    a.ldx = ldx
    a.ldy = ldy
    return step


def softmax_backward(str kernel, *, size_t gy, size_t y, size_t gx, pixels, channels, ldgy, ldy, ldgx) -> Step:
    """f32_softmax_backward or f32_log_softmax_backward, from the forward's output y; gx may be gy."""
    cdef Step step = Step()
    cdef SoftmaxArgs* a = <SoftmaxArgs*> step.bind_name(kernel, sizeof(SoftmaxArgs))
    a.y = <float*> y
    a.gy = <const float*> gy
    a.gx = <float*> gx
    a.pixels = pixels
    a.C = channels
    a.ldy = ldy
    a.ldgy = ldgy
    a.ldgx = ldgx
    return step


cdef CrossEntropyArgs* bind_cross_entropy(Step step, str kernel, size_t x, size_t target, size_t weight, size_t kept,
                                          pixels, channels, ldx, ignore_index, label_smoothing, ldt) except NULL:
    cdef CrossEntropyArgs* a = <CrossEntropyArgs*> step.bind_name(kernel, sizeof(CrossEntropyArgs))
    a.x = <const float*> x
    if ldt:
        a.soft = <const float*> target
        a.ldt = ldt
    else:
        a.target = <const int64_t*> target
    a.weight = <const float*> weight
    a.kept = <float*> kept
    a.pixels = pixels
    a.C = channels
    a.ldx = ldx
    a.per_tile = pixels_per_tile(channels)
    a.ignore_index = ignore_index
    a.smoothing = label_smoothing
    return a


def cross_entropy(*, size_t x, size_t target, size_t kept, size_t part, pixels, channels, ldx, size_t weight=0,
                  size_t loss=0, ignore_index=-100, label_smoothing=0.0, ldt=0) -> Step:
    """Cross entropy of logits x against int64 classes, one per pixel, or where `ldt` is given float32 shares of the classes.

    `kept`: two floats per pixel for the backward; `part`: see above; `weight`: one float per class, or 0 for none; `loss`:
    one float per pixel, or 0 where only the sum is wanted.
    """
    cdef Step step = Step()
    cdef CrossEntropyArgs* a = bind_cross_entropy(step, "f32_cross_entropy", x, target, weight, kept, pixels, channels,
                                                  ldx, ignore_index, label_smoothing, ldt)
    a.part = <double*> part
    a.loss = <float*> loss
    return step


def cross_entropy_backward(*, size_t x, size_t target, size_t kept, size_t gy, gy_stride, size_t gx, ldgx, pixels,
                           channels, ldx, size_t norm=0, size_t weight=0, ignore_index=-100,
                           label_smoothing=0.0, ldt=0, of_target=False) -> Step:
    """The gradient of the logits, or of shares of the classes as a target; gy is a scalar (gy_stride 0), one float per pixel (1) or 0 for 1; times `norm` if given."""
    cdef Step step = Step()
    cdef CrossEntropyArgs* a = bind_cross_entropy(step, "f32_cross_entropy_backward", x, target, weight, kept, pixels,
                                                  channels, ldx, ignore_index, label_smoothing, ldt)
    a.of_target = bool(of_target)
    a.gy = <const float*> gy
    a.gy_stride = gy_stride
    a.norm = <const float*> norm
    a.gx = <float*> gx
    a.ldgx = ldgx
    return step


def squared_error(*, size_t x, size_t target, size_t part, pixels, channels, ldx, ldt, size_t loss=0, ldl=0) -> Step:
    """(x - target)^2, per element where `loss` is given."""
    cdef Step step = Step()
    cdef SquaredErrorArgs* a = <SquaredErrorArgs*> step.bind_name("f32_squared_error", sizeof(SquaredErrorArgs))
    a.x = <const float*> x
    a.target = <const float*> target
    a.part = <double*> part
    a.loss = <float*> loss
    a.pixels = pixels
    a.C = channels
    a.ldx = ldx
    a.ldt = ldt
    a.ldl = ldl
    a.per_tile = pixels_per_tile(channels)
    return step


def squared_error_backward(*, size_t x, size_t target, size_t gy, ldgy, size_t gx, ldgx, pixels, channels, ldx, ldt,
                           size_t norm=0, factor=2.0) -> Step:
    """gx = factor * (x - target) * gy * norm; gy is a scalar where ldgy is 0, and 1 where it is 0 itself.

    factor=-2 gives the target's gradient.
    """
    cdef Step step = Step()
    cdef SquaredErrorArgs* a = <SquaredErrorArgs*> step.bind_name("f32_squared_error_backward", sizeof(SquaredErrorArgs))
    a.x = <const float*> x
    a.target = <const float*> target
    a.gy = <const float*> gy
    a.norm = <const float*> norm
    a.gx = <float*> gx
    a.pixels = pixels
    a.C = channels
    a.ldx = ldx
    a.ldt = ldt
    a.ldgy = ldgy
    a.ldgx = ldgx
    a.per_tile = pixels_per_tile(channels)
    a.factor = factor
    return step


def loss_sum(*, size_t part, size_t loss, size_t norm, pixels, channels, mean) -> Step:
    """From the parts to the loss: their sum, divided by the sum of what a mean divides by where `mean` is set."""
    cdef Step step = Step()
    cdef LossSumArgs* a = <LossSumArgs*> step.bind_name("f32_loss_sum", sizeof(LossSumArgs))
    a.part = <const double*> part
    a.loss = <float*> loss
    a.norm = <float*> norm
    a.pixels = pixels
    a.per_tile = pixels_per_tile(channels)
    a.mean = bool(mean)
    return step
