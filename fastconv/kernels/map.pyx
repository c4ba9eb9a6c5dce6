# cython: language_level=3, wraparound=True, boundscheck=True
"""Steps of the map family: programs of elementwise instructions over operands of any strides."""

from libc.stdint cimport int64_t

from fastconv.kernels._args_map cimport FcInstruction, FcOperand, ProgramArgs
from fastconv.kernels._runtime cimport Memory, Step


cdef extern from *:
    """
    #define FC_FUNCTION FC_OP
    #define FC_OP(name, operands, body) #name,
    static const char* const fc_map_names[] = {
    #include "fastconv/map/map.def"
        0};
    #undef FC_OP
    #define FC_OP(name, operands, body) operands,
    static const int fc_map_operands[] = {
    #include "fastconv/map/map.def"
        0};
    #undef FC_OP
    #define FC_WHOLE(name, body) #name,
    static const char* const fc_whole_names[] = {
    #include "fastconv/map/integers.def"
        0};
    #undef FC_WHOLE
    #undef FC_FUNCTION
    #define FC_OP(name, operands, body) 1,
    #define FC_FUNCTION(name, operands, body) 0,
    static const int fc_map_short[] = {
    #include "fastconv/map/map.def"
        0};
    #undef FC_OP
    """
    const char* fc_map_names[]
    const char* fc_whole_names[]
    int fc_map_operands[]
    int fc_map_short[]


cdef dict _table():
    cdef int i = 0
    table = {}
    while fc_map_names[i] != NULL:
        table[fc_map_names[i].decode()] = (i, fc_map_operands[i])
        i += 1
    return table


_TABLE = _table()
#: How many operands each instruction has, by name.
OPERANDS = {name: count for name, (_, count) in _TABLE.items()}


cdef set _whole_names():
    cdef int i = 0
    names = set()
    while fc_whole_names[i] != NULL:
        names.add(fc_whole_names[i].decode())
        i += 1
    return names


#: The instructions that whole numbers have.
WHOLE = frozenset(_whole_names())
_ELEMENTS = {"float32": 0, "int64": 1, "int32": 2, "uint8": 3, "int8": 4, "bool": 5, "random": 6}
RANK = 8


def collapse(shape, strides, batched, by):
    """``(extents, strides)`` of the same elements with as few dimensions as can be, in the order that operand ``by``
    has in memory, the last one the innermost; a batch that is known at run time stays the first.

    ``strides`` has a row per operand. Where ``batched``, the first extent is that of one image.
    """
    dims = [d for d in range(len(shape)) if shape[d] != 1 or (batched and d == 0)]
    dims.sort(key=lambda d: (not (batched and d == 0), -abs(strides[by][d])))
    extents, rows = _together(dims, shape, strides, batched)
    if not extents:
        extents, rows = [1], [[0] for _ in strides]
    return extents, rows


cdef tuple _together(list dims, shape, list strides, bint batched):
    """These dimensions, in this order, those that are one in memory for every operand taken together."""
    extents, rows = [], [[] for _ in strides]
    for d in dims:
        extent = 1 if batched and d == 0 else shape[d]
        if extents and all(row[-1] == s[d] * extent for row, s in zip(rows, strides)):
            extents[-1] *= extent
            for row, s in zip(rows, strides):
                row[-1] = s[d]
        else:
            extents.append(extent)
            for row, s in zip(rows, strides):
                row.append(s[d])
    return extents, rows


FOLDS = {"sum": 1, "max": 2, "min": 3}
_FOLDED = 1024  # elements of a row that are folded to one, at most: registers hold as many


def folded(shape, strides, axes, batched):
    """How a program whose result is folded over ``axes`` goes over its elements: ``(extents, strides, parts)``: the dimensions
    that are kept in their order, then the others in that of memory; ``parts`` values are left of each result. None where what
    would be folded does not lie along a row."""
    kept = [d for d in range(len(shape)) if d not in axes and (shape[d] != 1 or (batched and d == 0))]
    gone = [d for d in axes if shape[d] != 1]
    whole = max(strides, key=lambda s: sum(s[d] != 0 for d in gone), default=None)
    if not gone or whole is None:
        return None
    gone.sort(key=lambda d: -abs(whole[d]))
    extents, rows = _together(gone, shape, strides, False)
    if extents[-1] < 32 or all(row[-1] != 1 for row in rows) or any(row[-1] not in (0, 1) for row in rows):
        return None
    first, before = _together(kept, shape, strides, batched)
    parts = -(-extents[-1] // _FOLDED)
    for extent in extents[:-1]:
        parts *= extent
    if len(first) + len(extents) > RANK:
        return None
    return first + extents, [a + b for a, b in zip(before, rows)], parts


def map(*, shape, inputs, outputs, program, results, batched=False, whole=False, size_t zero=0,
        fold=None) -> Step:
    """outputs = program(inputs), element by element.

    ``inputs`` and ``outputs`` are tuples (address, strides in elements, dtype); an input of dtype "random" is (address of a random
    state, strides that count its numbers, "random", stream). ``program`` is a sequence of (name, operand, ...): an operand is a
    float, or a number: of an input, or, from ``len(inputs)`` on, of an earlier instruction. ``results`` are the numbers of the
    outputs' values. An output may lie where an input of the same strides does.

    ``whole``: of integers and truths alone, in int64, by a program of instructions of WHOLE and numbers without a fraction;
    ``zero``: the address of an int64 that becomes 1 where a divisor is 0, or 0.

    ``fold``: (operation of FOLDS, axes): the only output is float[results in the order of their dimensions][parts], as
    :func:`folded` has it, and has no strides.
    """
    cdef Py_ssize_t count = len(inputs), given = len(outputs), i, j
    cdef Step step = Step()
    cdef ProgramArgs* a = <ProgramArgs*> step.bind_name("i64_map" if whole else "map", sizeof(ProgramArgs))
    program = [tuple(line) for line in program]
    targets = []
    for value in results:  # each output has a value of its own
        if isinstance(value, float) or value < count or value in targets:
            program.append(("copy", value))
            value = count + len(program) - 1
        targets.append(value)

    # ---- registers: a value's is free again behind its last reader
    constants = []
    last = {}
    for i, line in enumerate(program):
        for operand in line[1:]:
            if isinstance(operand, float):
                if not any(_same(operand, known) for known in constants):
                    constants.append(operand)
            else:
                last[operand] = i
    cdef Py_ssize_t base = count + len(constants)
    where = {value: base + i for i, value in enumerate(targets)}
    code, free, registers = [], [], given
    for i, line in enumerate(program):
        op, operands = _TABLE[line[0]]
        of = []
        for operand in line[1:]:
            if isinstance(operand, float):
                of.append(count + next(k for k, known in enumerate(constants) if _same(operand, known)))
            else:
                of.append(operand if operand < count else where[operand])
        if len(of) != operands:
            raise ValueError(f"map: {line[0]} has {operands} operands, not {len(of)}")
        value = count + i
        for operand in set(line[1:]):
            if not isinstance(operand, float) and operand >= count and last[operand] == i and operand not in targets:
                free.append(where[operand])
        if value not in where:
            if free:
                where[value] = free.pop()
            else:
                where[value] = base + registers
                registers += 1
        if value not in last and value not in targets:
            free.append(where[value])
        code.append((op, where[value], of))
    reads = max([i for i, line in enumerate(program) if any(not isinstance(o, float) and o < count for o in line[1:])],
                default=-1)

    # ---- the iteration space
    strides = [tuple(operand[1]) for operand in (*outputs, *inputs)]
    if fold is None:
        extents, rows = collapse(tuple(shape), strides, batched, 0)
    else:
        extents, rows, _ = folded(shape, strides[1:], fold[1], batched)
        rows = [[0] * len(extents), *rows]
        a.fold = FOLDS[fold[0]]
    if len(extents) > RANK:
        raise ValueError(f"map: shape={tuple(shape)}: {len(extents)} dimensions do not collapse to {RANK}")
    cdef int rank = len(extents)
    cdef Memory operands_memory = Memory((count + given) * sizeof(FcOperand))
    cdef Memory code_memory = Memory(max(1, len(code)) * sizeof(FcInstruction))
    cdef Memory constants_memory = Memory(8 * max(1, len(constants)))
    cdef FcOperand* o = <FcOperand*> operands_memory.base
    cdef FcInstruction* c = <FcInstruction*> code_memory.base
    for i, operand in enumerate((*inputs, *outputs)):
        o[i].data = <void*> <size_t> operand[0]
        o[i].element = _ELEMENTS[operand[2]]
        o[i].stream = operand[3] if len(operand) > 3 else 0
        o[i].direct = fold is None and i >= count and targets[i - count] - count >= reads
        row = rows[i + given] if i < count else rows[i - count]
        for j in range(rank):
            o[i].strides[j] = row[j]
    slots = _slots(program, count, last, targets)
    for i, (op, to, of) in enumerate(code):
        c[i].op, c[i].to, c[i].slot, c[i].chain = op, to, max(slots[i], 0), 0
        if slots[i] < 0 and fc_map_short[op] and not whole:
            length = 1
            while i + length < len(code) and slots[i + length] >= 0:
                length += 1
            c[i].chain = length if length > 1 else 0
        for j, register in enumerate(of):
            c[i].of[j] = register
    for i, value in enumerate(constants):
        if whole:
            (<int64_t*> constants_memory.base)[i] = int(value)
        else:
            (<float*> constants_memory.base)[i] = value
    for memory in (operands_memory, code_memory, constants_memory):
        step.keep(memory)
    a.operands, a.code, a.constants = o, c, <const float*> constants_memory.base
    a.integers, a.zero = <const int64_t*> constants_memory.base, <int64_t*> zero
    a.inputs, a.outputs, a.instructions, a.constant_count, a.values = count, given, len(code), len(constants), registers
    a.narrow = _narrow(program, inputs, outputs, constants) if whole else 0
    a.batched, a.rank = bool(batched), rank
    for j in range(rank):
        a.extents[j] = extents[j]
    a.block = 512 if count + registers > 8 else 1024 if len(code) > max(1, c.chain) else 2048
    if rank == 1 and len(code) == max(1, c.chain) and all(row[0] in (0, 1) for row in rows) and all(
            operand[2] == "float32" for operand in (*inputs, *outputs)):
        a.block = 16384  # a tile: what lies as registers do needs none
    if fold is not None:
        a.block = _FOLDED
    a.turned = not whole and rank > 1 and extents[rank - 1] > 1 and any(
        row[rank - 2] == 1 and row[rank - 1] not in (0, 1) for row in rows[given:])
    return step


#: Instructions that bytes and int32 have as they lie (map/narrow.inl.h): of one dtype to the same, and to truths.
NARROW = frozenset(("add", "sub", "mul", "maximum", "minimum", "fmax", "fmin", "bitwise_and", "bitwise_or", "bitwise_xor"))
NARROW_TRUTHS = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not"))


cdef int _narrow(list program, inputs, outputs, list constants) except -1:
    """The number of the dtype that all inputs have, where one such instruction takes them as they lie; else 0."""
    dtypes = {operand[2] for operand in inputs}
    if len(program) != 1 or len(outputs) != 1 or len(dtypes) != 1 or len(constants) > 1:
        return 0
    (dtype,), (name, *_), made = dtypes, program[0], outputs[0][2]
    if dtype not in ("uint8", "bool", "int32"):
        return 0
    low, high = (-2**31, 2**31 - 1) if dtype == "int32" else (0, 255)
    if any(not low <= value <= high for value in constants):
        return 0
    closed = name in NARROW and made == dtype and (dtype != "bool" or name not in ("add", "sub", "mul") and not constants)
    return _ELEMENTS[dtype] if closed or name in NARROW_TRUTHS and made == "bool" else 0


cdef list _slots(list program, Py_ssize_t count, dict last, list targets):
    """Which operand of each instruction is what the one before made for it alone, both of them short; else -1."""
    slots = [-1]
    for i in range(1, len(program)):
        before = count + i - 1
        reads = [k for k, o in enumerate(program[i][1:]) if not isinstance(o, float) and o == before]
        linked = (len(reads) == 1 and last[before] == i and before not in targets
                  and fc_map_short[_TABLE[program[i][0]][0]] and fc_map_short[_TABLE[program[i - 1][0]][0]])
        slots.append(reads[0] if linked else -1)
    return slots


cdef bint _same(double a, double b):
    """Whether two constants have the same bits (but for NaN)."""
    return (a != a and b != b) or (a == b and (a != 0 or str(a) == str(b)))
