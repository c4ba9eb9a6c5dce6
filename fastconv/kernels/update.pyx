# cython: language_level=3
"""Steps of the update family. One step updates a list of parameters: flat float32 arrays by address and count."""

from libc.string cimport memcpy

from fastconv.kernels._args_update cimport (
    FC_ABS,
    FC_ADDCDIV,
    FC_ADDCMUL,
    FC_AXPY,
    FC_CHOOSE,
    FC_CLAMP,
    FC_DIV,
    FC_FILL,
    FC_GRADIENT,
    FC_ITEM_TILE,
    FC_KEEP,
    FC_LERP,
    FC_MAX,
    FC_MUL,
    FC_ROOT,
    FC_SCALARS,
    FC_SCALE,
    FC_SHIFT,
    FC_SIGN,
    FC_STATES,
    FC_TEMPORARIES,
    FC_WHEN,
    ClipNormArgs,
    FcHyper,
    FcItem,
    FcOp,
    FcRatio,
    ItemsArgs,
    RatioArgs,
)
from fastconv.kernels._runtime cimport Memory, Step, StepList
from libc.stdint cimport int64_t

STATES, SCALARS = FC_STATES, FC_SCALARS

# The doubles of FcHyper before the rule's own, in its order, and the instructions of a program: (number, register operands, scalars).
FIELDS = ("lr", "momentum", "dampening", "nesterov", "weight_decay", "beta1", "beta2", "eps", "bias_correction1",
           "bias_correction2_sqrt", "first", "grad_scale", "sign", "max_norm", "clip_value", "total_norm", "ratio")
INSTRUCTIONS = {
    "gradient": (FC_GRADIENT, 1, 0), "scale": (FC_SCALE, 1, 1), "axpy": (FC_AXPY, 2, 1), "lerp": (FC_LERP, 2, 1),
    "mul": (FC_MUL, 2, 0), "div": (FC_DIV, 2, 0), "addcmul": (FC_ADDCMUL, 2, 2), "addcdiv": (FC_ADDCDIV, 2, 1),
    "root": (FC_ROOT, 1, 2), "shift": (FC_SHIFT, 1, 1), "max": (FC_MAX, 2, 0), "abs": (FC_ABS, 1, 0), "sign": (FC_SIGN, 1, 0),
    "choose": (FC_CHOOSE, 1, 2), "clamp": (FC_CLAMP, 1, 2), "keep": (FC_KEEP, 2, 0), "fill": (FC_FILL, 0, 1),
}


cdef class Hyper:
    """Scalars that steps read when they run: setting an attribute changes the next run, no step is built again.

    All are floats and 0 at first, except grad_scale and sign, which are 1 and multiply the gradient, and ratio, 1, too; `k`
    are the scalars of a rule's own. `first` other than 0 makes
    sgd set its momentum buffer and accumulate its sum instead of adding to them. clip_norm writes grad_scale and
    total_norm. Steps keep the objects that they read alive.

    `steps` and `begun` are for :func:`arm`: runs counted, and whether the rule has written its buffers.
    """

    # The fields of FcHyper, in its order: they lie side by side in this object, and steps read them there.
    cdef public double lr, momentum, dampening, nesterov, weight_decay
    cdef public double beta1, beta2, eps, bias_correction1, bias_correction2_sqrt
    cdef public double first, grad_scale, sign, max_norm, clip_value, total_norm, ratio
    cdef double own[16]
    cdef public long long steps
    cdef public bint begun

    def __cinit__(self):
        if (<char*> &self.own[0] - <char*> &self.lr) + 16 * sizeof(double) != sizeof(FcHyper) or \
                <char*> &self.own[0] - <char*> &self.lr != len(FIELDS) * sizeof(double):
            raise SystemError("Hyper: the object's fields are not laid out as FcHyper")
        self.grad_scale = self.sign = self.ratio = 1.0

    def __init__(self, **values):
        self.set(**values)

    def set(self, **values):
        """Sets attributes by name, such as the dict that an update rule's `hyper(step)` returns."""
        for name, value in values.items():
            setattr(self, name, value)

    @property
    def k(self) -> tuple:
        """The scalars of a rule's own, in its order."""
        return tuple([self.own[i] for i in range(16)])

    @k.setter
    def k(self, values) -> None:
        for i, value in enumerate(values):
            self.own[i] = value

    cdef FcHyper* fields(self) noexcept:
        return <FcHyper*> &self.lr


def arm(list hypers, rule) -> None:
    """Sets the scalars of each one's next update, those of ``rule(number)``: attributes, and `k`."""
    cdef Hyper h, last = None
    for h in hypers:
        if last is None or last.steps != h.steps:
            h.set(**rule(h.steps + 1))
        else:
            memcpy(&h.lr, &last.lr, <char*> &h.first - <char*> &h.lr)
            memcpy(h.own, last.own, sizeof(h.own))
            h.sign = last.sign
        h.first = not h.begun
        h.grad_scale = 1.0
        last = h


def arm_sums(list hypers) -> None:
    """Has those start their sum that have counted nothing yet."""
    cdef Hyper h
    for h in hypers:
        h.first = h.steps == 0


def run_counted(list runs, int threads) -> None:
    """Runs and counts; each of ``runs`` is (StepList, those that count it, those whose buffers are then begun, those that
    begin to count anew). No handler of a signal comes in between: what is counted is what has been done.
    """
    cdef StepList steps
    cdef Hyper h
    for steps, counted, begun, cleared in runs:
        steps.run(threads)
        for h in <list> counted:
            h.steps += 1
        for h in <list> begun:
            h.begun = True
        for h in <list> cleared:
            h.steps = 0


cdef ItemsArgs* _bind(Step step, str kernel, list items) except NULL:
    """Binds items (p, g, buffers, count, hyper) and cuts them into tiles."""
    cdef ItemsArgs* a = <ItemsArgs*> step.bind_name(kernel, sizeof(ItemsArgs))
    cdef Memory memory = Memory(max(1, len(items)) * sizeof(FcItem))
    cdef FcItem* item = <FcItem*> memory.base
    cdef Hyper hyper
    cdef size_t address
    for p, g, states, count, owner in items:
        if count == 0:
            continue
        item.p = <float*> <size_t> p
        item.g = <float*> <size_t> g
        for i, address in enumerate(states):
            (&item.s0)[<Py_ssize_t> i] = <float*> address
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
    _bind(step, "f32_sgd", [(p, g, (b,), count, hyper) for p, g, b, count, hyper in items])
    return step


def adam(list items) -> Step:
    """Adam; items are (parameter, gradient, average, average of squares, count, Hyper)."""
    cdef Step step = Step()
    _bind(step, "f32_adam", [(p, g, (m, v), count, hyper) for p, g, m, v, count, hyper in items])
    return step


def adamw(list items) -> Step:
    """AdamW; items are those of adam."""
    cdef Step step = Step()
    _bind(step, "f32_adamw", [(p, g, (m, v), count, hyper) for p, g, m, v, count, hyper in items])
    return step


def _assemble(program, list states, list scalars) -> list:
    """A program as numbers: (op, d, a, b, k, j) of each instruction, nested ones behind the one that skips them."""
    registers = {"p": 0, "g": 1, **{name: 2 + i for i, name in enumerate(states)},
                 **{name: 2 + FC_STATES + i for i, name in enumerate(("t", "u", "v")[:FC_TEMPORARIES])}}
    numbers = {**{name: len(FIELDS) + i for i, name in enumerate(scalars)},
               **{name: i for i, name in enumerate(FIELDS) if name in ("first", "ratio")}}
    ops = []
    for name, *arguments in program:
        if name in ("when", "unless"):
            inner = _assemble(arguments[1], states, scalars)
            ops += [(FC_WHEN, len(inner), name == "unless", 0, numbers[arguments[0]], 0), *inner]
            continue
        op, operands, constants = INSTRUCTIONS[name]
        if len(arguments) != 1 + operands + constants:
            raise ValueError(f"update: {name}{tuple(arguments)} takes a target, {operands} operands, {constants} scalars")
        places = [registers[a] for a in arguments[:1 + operands]] + [0] * (2 - operands)
        ops.append((op, *places, *[numbers[a] for a in arguments[1 + operands:]], *[0] * (2 - constants)))
    return ops


def update(list items, program, states, scalars) -> Step:
    """A rule as a program; items are (parameter, gradient, buffers, count, Hyper).

    The program is a sequence of (instruction, target, operands..., scalars...), which update/args.h defines; of ("when",
    scalar, instructions), which are left out where the scalar is 0; and of ("unless", scalar, instructions). Operands are "p",
    "g", the names of ``states``, and "t", "u", "v"; scalars are the names of ``scalars`` (`k` of Hyper, in this order),
    "first" and "ratio".
    """
    if len(states) > FC_STATES or len(scalars) > FC_SCALARS:
        raise ValueError(f"update: at most {FC_STATES} buffers and {FC_SCALARS} scalars, got {states} and {scalars}")
    cdef Step step = Step()
    cdef ItemsArgs* a = _bind(step, "f32_update", items)
    ops = _assemble(program, list(states), list(scalars))
    cdef Memory memory = Memory(max(1, len(ops)) * sizeof(FcOp))
    cdef FcOp* op = <FcOp*> memory.base
    for values in ops:
        op.op, op.d, op.a, op.b, op.k, op.j = values
        op += 1
    a.ops, a.op_count = <FcOp*> memory.base, len(ops)
    step.keep(memory)
    return step


def accumulate(list items) -> Step:
    """sum = g * grad_scale where Hyper.first is set, sum += g * grad_scale else; items: (sum, g, count, Hyper)."""
    cdef Step step = Step()
    _bind(step, "f32_accumulate", [(p, g, (), count, hyper) for p, g, count, hyper in items])
    return step


def clip_value(list items) -> Step:
    """Clips gradients in place to Hyper.clip_value on both sides; items are (gradient, count, Hyper)."""
    cdef Step step = Step()
    _bind(step, "f32_clip_value", [(0, g, (), count, hyper) for g, count, hyper in items])
    return step


cdef ItemsArgs* _square_sum(Step step, list items) except NULL:
    """Sums of squares of (array, count), by tile, in the last memory that the step owns."""
    cdef ItemsArgs* a = _bind(step, "f32_square_sum", [(0, g, (), count, None) for g, count in items])
    cdef Memory part = Memory(max(1, a.tiles) * sizeof(double))
    a.part = <double*> part.base
    step.keep(part)
    return a


def norm_ratio(list items, *, factor: str, decay: str, eps: str, scalars, bint scaled=False, bint together=False) -> list:
    """The steps that give each Hyper the ratio by which its step is scaled; items are (parameter, gradient, count, Hyper).

    ``factor * |p| / (|g| + decay * |p| + eps)``, 1 where a norm is 0. ``together``: ``factor / (|g| + eps)``, the norm over
    all items. ``scaled``: |g| counts times grad_scale. The three are names of ``scalars``, as of :func:`update`.
    """
    cdef Step w = Step(), u = Step(), last = Step()
    cdef RatioArgs* a = <RatioArgs*> last.bind_name("norm_ratio", sizeof(RatioArgs))
    items = [item for item in items if item[2]]
    parts = [[item] for item in items] if not together else [items] if items else []
    cdef ItemsArgs* sums = _square_sum(u, [(g, count) for _, g, count, _ in items])
    cdef double* us = sums.part
    sums = _square_sum(w, [] if together else [(p, count) for p, _, count, _ in items])
    cdef double* ws = sums.part
    cdef Memory ratios = Memory(max(1, len(parts)) * sizeof(FcRatio)), hypers
    cdef FcRatio* ratio = <FcRatio*> ratios.base
    cdef Hyper hyper
    cdef int64_t done = 0, tiles
    for rows in parts:
        hypers = Memory(len(rows) * sizeof(FcHyper*))
        tiles = sum([(row[2] + FC_ITEM_TILE - 1) // FC_ITEM_TILE for row in rows])
        ratio.u, ratio.u_parts = us + done, tiles
        if not together:
            ratio.w, ratio.w_parts = ws + done, tiles
        ratio.hypers, ratio.count = <FcHyper**> hypers.base, len(rows)
        for i, row in enumerate(rows):
            hyper = row[3]
            ratio.hypers[<Py_ssize_t> i] = hyper.fields()
            last.keep(hyper)
        last.keep(hypers)
        done += tiles
        ratio += 1
    names = list(scalars)
    a.ratios, a.count, a.scaled = <FcRatio*> ratios.base, len(parts), scaled
    a.factor, a.decay, a.eps = [len(FIELDS) + names.index(name) for name in (factor, decay, eps)]
    for kept in (ratios, w, u):
        last.keep(kept)
    return [u, last] if together else [w, u, last]


def clip_norm(list items, hypers) -> list:
    """The two steps of PyTorch's clip_grad_norm_ over all gradients; items are (gradient, count).

    The first Hyper gives max_norm; every one gets total_norm, the 2-norm over all items, and grad_scale,
    min(1, max_norm / (total_norm + 1e-6)), which the update applies.
    """
    cdef Step sums = Step(), scale = Step()
    cdef ItemsArgs* a = _square_sum(sums, items)
    cdef Memory part = <Memory> sums.owned[len(sums.owned) - 1]
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
