# cython: language_level=3
"""Steps of the update family. One step updates a list of parameters: flat float32 arrays by address and count."""

from fastconv.kernels._args_update cimport FC_ITEM_TILE, ClipNormArgs, FcHyper, FcItem, ItemsArgs
from fastconv.kernels._runtime cimport Memory, Step, StepList


cdef class Hyper:
    """Scalars that steps read when they run: setting an attribute changes the next run, no step is built again.

    All are floats and 0 at first, except grad_scale, which is 1 and multiplies the gradient. `first` other than 0 makes
    sgd set its momentum buffer and accumulate its sum instead of adding to them. clip_norm writes grad_scale and
    total_norm. Steps keep the objects that they read alive.

    `steps` and `begun` are for :func:`arm`: runs counted, and whether the rule has written its buffers.
    """

    # The fields of FcHyper, in its order: they lie side by side in this object, and steps read them there.
    cdef public double lr, momentum, dampening, nesterov, weight_decay
    cdef public double beta1, beta2, eps, bias_correction1, bias_correction2_sqrt
    cdef public double first, grad_scale, max_norm, clip_value, total_norm
    cdef public long long steps
    cdef public bint begun

    def __cinit__(self):
        if (<char*> &self.total_norm - <char*> &self.lr) + sizeof(double) != sizeof(FcHyper):
            raise SystemError("Hyper: the object's fields are not laid out as FcHyper")
        self.grad_scale = 1.0

    def __init__(self, **values):
        self.set(**values)

    def set(self, **values):
        """Sets attributes by name, such as the dict that an update rule's `hyper(step)` returns."""
        for name, value in values.items():
            setattr(self, name, value)

    cdef FcHyper* fields(self) noexcept:
        return <FcHyper*> &self.lr


def arm(list hypers, rule) -> None:
    """Sets the scalars of each one's next update, those of ``rule(number)``."""
    cdef Hyper h, last = None
    for h in hypers:
        if last is None or last.steps != h.steps:
            h.set(**rule(h.steps + 1))
        else:
            h.lr, h.momentum, h.dampening = last.lr, last.momentum, last.dampening
            h.nesterov, h.weight_decay, h.beta1, h.beta2 = last.nesterov, last.weight_decay, last.beta1, last.beta2
            h.eps, h.bias_correction1 = last.eps, last.bias_correction1
            h.bias_correction2_sqrt = last.bias_correction2_sqrt
        h.first = not h.begun
        h.grad_scale = 1.0
        last = h


def arm_sums(list hypers) -> None:
    """Has those start their sum that have counted nothing yet."""
    cdef Hyper h
    for h in hypers:
        h.first = h.steps == 0


def run_counted(list runs, int threads) -> None:
    """Runs and counts; each of ``runs`` is (StepList, those that count it, whether the rule's buffers are then begun, those
    that begin to count anew). No handler of a signal comes in between: what is counted is what has been done.
    """
    cdef StepList steps
    cdef Hyper h
    for steps, counted, begun, cleared in runs:
        steps.run(threads)
        for h in <list> counted:
            h.steps += 1
            h.begun |= <bint> begun
        for h in <list> cleared:
            h.steps = 0


cdef ItemsArgs* _bind(Step step, str kernel, list items) except NULL:
    """Binds items (p, g, s0, s1, count, hyper) and cuts them into tiles."""
    cdef ItemsArgs* a = <ItemsArgs*> step.bind_name(kernel, sizeof(ItemsArgs))
    cdef Memory memory = Memory(max(1, len(items)) * sizeof(FcItem))
    cdef FcItem* item = <FcItem*> memory.base
    cdef Hyper hyper
    for p, g, s0, s1, count, owner in items:
        if count == 0:
            continue
        item.p = <float*> <size_t> p
        item.g = <float*> <size_t> g
        item.s0 = <float*> <size_t> s0
        item.s1 = <float*> <size_t> s1
        item.count = count
        if owner is not None:
            hyper = owner
            item.hyper = hyper.fields()
            step.keep(hyper)
        item.tile = a.tiles
        a.tiles += (item.count + FC_ITEM_TILE - 1) // FC_ITEM_TILE
        item += 1
    a.items = <FcItem*> memory.base
    a.count = item - <FcItem*> memory.base
    step.keep(memory)
    return a


def sgd(list items) -> Step:
    """Stochastic gradient descent; items are (parameter, gradient, momentum buffer or 0, count, Hyper)."""
    cdef Step step = Step()
    _bind(step, "f32_sgd", [(p, g, b, 0, count, hyper) for p, g, b, count, hyper in items])
    return step


def adam(list items) -> Step:
    """Adam; items are (parameter, gradient, average, average of squares, count, Hyper)."""
    cdef Step step = Step()
    _bind(step, "f32_adam", items)
    return step


def adamw(list items) -> Step:
    """AdamW; items are those of adam."""
    cdef Step step = Step()
    _bind(step, "f32_adamw", items)
    return step


def accumulate(list items) -> Step:
    """sum = g * grad_scale where Hyper.first is set, sum += g * grad_scale else; items: (sum, g, count, Hyper)."""
    cdef Step step = Step()
    _bind(step, "f32_accumulate", [(p, g, 0, 0, count, hyper) for p, g, count, hyper in items])
    return step


def clip_value(list items) -> Step:
    """Clips gradients in place to Hyper.clip_value on both sides; items are (gradient, count, Hyper)."""
    cdef Step step = Step()
    _bind(step, "f32_clip_value", [(0, g, 0, 0, count, hyper) for g, count, hyper in items])
    return step


def clip_norm(list items, hypers) -> list:
    """The two steps of PyTorch's clip_grad_norm_ over all gradients; items are (gradient, count).

    The first Hyper gives max_norm; every one gets total_norm, the 2-norm over all items, and grad_scale,
    min(1, max_norm / (total_norm + 1e-6)), which the update applies.
    """
    cdef Step sums = Step(), scale = Step()
    cdef ItemsArgs* a = _bind(sums, "f32_square_sum", [(0, g, 0, 0, count, None) for g, count in items])
    cdef Memory part = Memory(max(1, a.tiles) * sizeof(double))
    a.part = <double*> part.base
    sums.keep(part)
    hypers = list(hypers)
    cdef ClipNormArgs* b = <ClipNormArgs*> scale.bind_name("clip_norm", sizeof(ClipNormArgs))
    cdef Memory memory = Memory(len(hypers) * sizeof(FcHyper*))
    cdef Hyper hyper
    b.part = <const double*> part.base
    b.parts = a.tiles
    b.hypers = <FcHyper**> memory.base
    b.count = len(hypers)
    for i, owner in enumerate(hypers):
        hyper = owner
        b.hypers[i] = hyper.fields()
        scale.keep(hyper)
    scale.keep(part)
    scale.keep(memory)
    return [sums, scale]
