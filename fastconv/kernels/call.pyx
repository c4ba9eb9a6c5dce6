# cython: language_level=3
"""A call from Python: arrays in through slots, steps, fresh arrays out; functions that find the calls they made before.

Small arrays are worked off in less than a microsecond, so that here each Python object counts.
"""

cimport numpy as cnp
from cpython.long cimport PyLong_FromSsize_t
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SetItem
from libc.stdint cimport int64_t, uint64_t

from libc.stdlib cimport free, realloc

from fastconv.kernels._runtime cimport FcStep, Memory, Step, StepList
from fastconv.kernels.layout cimport Slot

from fastconv.kernels import threads as _threads


cnp.import_array()
cdef dict _state = _threads._state


cdef class Door:
    """An array of the user's in the place of a buffer: where it lies as the buffer does, nothing is copied.

    Steps know the buffer by addresses in their arguments. They are made with addresses of a range that stands for the buffer
    (``base``, ``span``: none that memory can have), by which these words are found; then each run points them to the array,
    and leaves the copying step out, or to the buffer at ``home``.
    """

    cdef Slot slot
    cdef StepList steps
    cdef Py_ssize_t at
    cdef size_t home, now, base, span
    cdef size_t** words
    cdef size_t* offsets
    cdef Py_ssize_t count
    cdef list keep
    cdef readonly bint used  # whether a run has copied to or from the buffer

    def __cinit__(self, Slot slot, StepList steps, Py_ssize_t at, size_t home, size_t base, size_t span):
        self.slot, self.steps, self.at, self.home, self.base, self.span = slot, steps, at, home, base, span
        self.keep = []

    def __dealloc__(self):
        free(self.words)
        free(self.offsets)

    cdef Py_ssize_t search(self, size_t* word, size_t nbytes) except -1:
        """Notes the addresses of the range among these bytes; how many there are."""
        cdef Py_ssize_t found = 0
        cdef size_t i
        for i in range(nbytes // sizeof(size_t)):
            if self.base <= word[i] < self.base + self.span:
                self.words = <size_t**> realloc(self.words, (self.count + 1) * sizeof(size_t*))
                self.offsets = <size_t*> realloc(self.offsets, (self.count + 1) * sizeof(size_t))
                if self.words == NULL or self.offsets == NULL:
                    raise MemoryError("no memory for the addresses of a step")
                self.words[self.count], self.offsets[self.count] = word + i, word[i] - self.base
                self.count += 1
                found += 1
        return found

    def find(self, StepList steps, Py_ssize_t at) -> int:
        """Notes where a step, and what it owns, knows the buffer; in how many places."""
        self.keep.append(steps.keep[at])
        return self.look(<Step> steps.keep[at])

    cdef Py_ssize_t look(self, Step step) except -1:
        cdef Py_ssize_t found = self.search(<size_t*> step.c.args, step.nbytes)
        cdef Memory memory
        cdef Slot slot
        for owned in step.owned:
            if isinstance(owned, Memory):
                memory = <Memory> owned
                found += self.search(<size_t*> memory.base, memory.nbytes)
            elif isinstance(owned, Slot):
                slot = <Slot> owned
                found += self.search(<size_t*> &slot.slot.data, sizeof(slot.slot.data))
            elif isinstance(owned, list):  # many steps as one
                for part in owned:
                    if isinstance(part, Step):
                        found += self.look(<Step> part)
        return found

    cdef void point(self, size_t address) noexcept:
        cdef Py_ssize_t i
        if address != self.now:
            for i in range(self.count):
                self.words[i][0] = address + self.offsets[i]
            self.now = address

    cpdef void settle(self, int64_t n) noexcept:
        """For a run of ``n`` images on the array to which the slot points: bound where it lies so, else copied."""
        cdef FcStep* step = &self.steps.steps[self.at]
        if self.slot.lies(n):
            self.point(<size_t> self.slot.slot.data)
            step.tiles = 0
        else:
            self.point(self.home)
            step.tiles = step.kernel.tiles(step.args, n)
            self.used = True

    cpdef void release(self, int64_t n) noexcept:
        """Back to the buffer."""
        cdef FcStep* step = &self.steps.steps[self.at]
        self.point(self.home)
        step.tiles = step.kernel.tiles(step.args, n)

    @property
    def bound(self) -> bool:
        """Whether the last run was on the array itself."""
        return self.now != self.home


cdef class Call:
    """Bound steps behind slots. While it is open it takes arrays and returns fresh ones."""

    cdef tuple entries, exits, segments, doors, flags
    cdef object build
    cdef bint lean
    cdef int threads

    def open(self, entries, exits, segments, int threads, doors=(), flags=(), build=None, bint lean=False):
        """Says which slots take the arguments, in order, which the results, and what runs, on how many threads at most.

        ``flags``: pairs of an int64 array, a flag that steps raise and a value, and of what then raises an error. ``build``
        makes what is returned of the results. ``lean``: only arrays are taken that need no copy, as before.
        """
        self.entries, self.exits, self.segments, self.threads = tuple(entries), tuple(exits), tuple(segments), threads
        self.doors, self.flags, self.build, self.lean = tuple(doors), tuple(flags), build, lean

    def close(self):
        """Lets go of the steps."""
        self.entries = self.exits = self.segments = self.doors = self.flags = self.build = None

    def run(self, tuple arguments, int threads, out=None):
        """Runs on all arguments; into ``out`` where that is given: an array, or a list or tuple of one for each result.

        None, and nothing has run, where one of them is not what is expected.
        """
        return self.replay(arguments, len(arguments), threads, out)

    cdef object replay(self, tuple arguments, Py_ssize_t count, int threads, object out):
        """``run`` on the first ``count`` arguments, those that are None left out; on fewer threads than it is open for."""
        cdef Py_ssize_t i, at = 0
        cdef int64_t n = -1, got
        cdef Slot slot
        cdef StepList steps
        cdef Door door
        cdef int64_t* raised
        cdef int order = -1
        if self.segments is None or threads > self.threads:
            return None
        cdef Py_ssize_t entries = len(self.entries)
        for i in range(count):
            if arguments[i] is None:
                continue
            if at == entries:
                return None
            slot = <Slot> self.entries[at]
            at += 1
            got = slot.take(arguments[i], False)
            if got < 0:
                return None
            if order < 0 and slot.batched and not slot.row_major and slot.ndim > 2:
                order = slot.last  # results lie as the first image does
            elif slot.dense and slot.last != order:
                return None
            if slot.batched:
                if n >= 0 and n != got:
                    return None
                n = got
        if at < entries:
            return None
        n = n if n >= 0 else 1
        cdef list results = []
        cdef tuple given
        if out is not None:
            given = tuple(out) if isinstance(out, (list, tuple)) else (out,)
            if len(given) != len(self.exits):
                return None
            for i in range(len(given)):
                slot = <Slot> self.exits[i]
                if slot.take(given[i], True) != (n if slot.batched else 1) or touches(given[i], arguments, count) or \
                        touches(given[i], given, i):
                    return None
            results.extend(given)
        else:
            for i in range(len(self.exits)):
                results.append(fresh(<Slot> self.exits[i], n, order == 1))
        for i in range(len(self.segments)):
            steps = <StepList> self.segments[i]
            steps.set_batch(n)
        for i in range(len(self.doors)):
            door = <Door> self.doors[i]
            if self.lean and not door.used and not door.slot.lies(n):
                return None  # the memory that it takes then is counted elsewhere
            door.settle(n)
        for i in range(len(self.segments)):
            (<StepList> self.segments[i]).run(threads)
        for flag, report in self.flags:
            raised = <int64_t*> cnp.PyArray_DATA(<cnp.ndarray> flag)
            if raised[0]:
                raised[0] = 0
                report(raised[1])
        if self.build is not None:
            return self.build(results)
        return results[0] if len(results) == 1 else tuple(results)


cdef inline void bounds(cnp.ndarray a, size_t* low, size_t* high) noexcept:
    """The bytes between the first and the last element."""
    cdef int i
    cdef cnp.npy_intp reach
    low[0] = <size_t> cnp.PyArray_DATA(a)
    high[0] = low[0] + (cnp.PyArray_ITEMSIZE(a) if cnp.PyArray_SIZE(a) else 0)
    for i in range(cnp.PyArray_NDIM(a)):
        reach = (cnp.PyArray_DIM(a, i) - 1) * cnp.PyArray_STRIDE(a, i)
        if reach > 0:
            high[0] += reach
        else:
            low[0] += reach


cdef bint touches(cnp.ndarray out, tuple arguments, Py_ssize_t count) noexcept:
    """Whether one of the arrays reaches into the bytes of ``out``: it may be written before they are read."""
    cdef size_t low, high, first, last
    cdef Py_ssize_t i
    bounds(out, &low, &high)
    for i in range(count):
        if arguments[i] is not None:
            bounds(<cnp.ndarray> arguments[i], &first, &last)
            if first < high and low < last:
                return True
    return False


def empty_channels_last(tuple shape):
    """A new array of this shape whose channels are last in memory, and begin where a line of the cache does: kernels write
    large ones past the caches then."""
    cdef cnp.npy_intp count = 1, whole
    cdef object extent
    for extent in shape:
        count *= <cnp.npy_intp> extent
    whole = count + 15
    memory = cnp.PyArray_EMPTY(1, &whole, cnp.NPY_FLOAT32, 0)
    cdef size_t odd = (<size_t> cnp.PyArray_DATA(<cnp.ndarray> memory)) // 4 % 16
    first = (16 - odd) % 16
    return memory[first: first + count].reshape(shape[0], *shape[2:], shape[1]).transpose(_ORDERS[len(shape)])


_ORDERS = {ndim: (0, ndim - 1, *range(1, ndim - 1)) for ndim in range(3, 9)}


cdef object fresh(Slot slot, int64_t n, bint last):
    """A new array for a batch of ``n``, to which the slot points; channels-last where that is wanted of images."""
    cdef cnp.npy_intp shape[8]
    cdef int i
    for i in range(slot.ndim):
        shape[i] = slot.shape[i]
    if slot.batched:
        shape[0] = n
    if last and slot.batched and not slot.row_major and slot.ndim > 2:
        array = empty_channels_last(tuple(shape[i] for i in range(slot.ndim)))
    else:
        array = cnp.PyArray_EMPTY(slot.ndim, shape, slot.type, 0)
    if slot.take(array, True) < 0:
        raise RuntimeError(f"a new array of shape {array.shape} was not taken")
    return array


# ---- finding ------------------------------------------------------------------------------------------------------

cdef class IdleCalls:
    """The idle calls of one problem. A call is the caller's alone until it is given back."""

    cdef list idle
    cdef public Py_ssize_t nbytes
    cdef public uint64_t used

    def __cinit__(self):
        self.idle = []

    def __len__(self):
        return len(self.idle)

    cpdef touch(self):
        """Says that it has been used just now."""
        global _clock
        _clock += 1
        self.used = _clock

    cpdef Call take(self):
        """One of them; None where all are busy."""
        self.touch()
        try:
            return <Call> self.idle.pop() if self.idle else None
        except IndexError:  # without the GIL, somebody else was faster
            return None

    cpdef give(self, Call call):
        """Gives one back."""
        self.idle.append(call)


cdef uint64_t _clock = 0
cdef tuple _TRUE = (bool, True), _FALSE = (bool, False)


cdef object frozen(object value):
    """An attribute as a part of a key: hashable, and 1, 1.0 and True are three different things."""
    cdef object kind = type(value)
    if value is None or kind is int or kind is str:
        return value
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is tuple:
        for v in <tuple> value:
            if type(v) is not int:
                return (tuple, *[frozen(v) for v in <tuple> value])
        return value
    if isinstance(value, (tuple, list)):
        return (kind, *[frozen(v) for v in value])
    if isinstance(value, dict):
        return (kind, *[(k, frozen(v)) for k, v in sorted(value.items())])
    return kind, str(value) if kind is float and value == 0 else value  # 0.0 and -0.0 are two different things


cdef inline void put(tuple key, Py_ssize_t at, object value):
    Py_INCREF(value)
    PyTuple_SetItem(key, at, value)


cdef tuple make_key(object tag, tuple arguments, Py_ssize_t count):
    """The tag, the shapes of the first ``count`` arguments and the values of the others; None where one is no array."""
    cdef Py_ssize_t i, length = 1 + len(arguments), at = 1
    cdef int d, ndim
    cdef cnp.ndarray array
    for i in range(count):
        if isinstance(arguments[i], cnp.ndarray):
            length += cnp.PyArray_NDIM(<cnp.ndarray> arguments[i])
        elif arguments[i] is not None:
            return None
    cdef tuple key = PyTuple_New(length)
    put(key, 0, tag)
    for i in range(len(arguments)):
        if i >= count or arguments[i] is None:
            put(key, at, frozen(arguments[i]) if i >= count else None)
            at += 1
            continue
        array = <cnp.ndarray> arguments[i]
        ndim = cnp.PyArray_NDIM(array)
        put(key, at, ndim)
        for d in range(ndim):
            put(key, at + 1 + d, PyLong_FromSsize_t(cnp.PyArray_DIM(array, d)))
        at += 1 + ndim
    return key


def problem_key(tag, tuple arguments, Py_ssize_t count):
    """What a problem is found by: shapes of arrays (or None), values of attributes.

    None for what cannot be hashed: its shape rule will say what is wrong with it.
    """
    try:
        key = make_key(tag, arguments, count)
        hash(key)
    except TypeError:
        return None
    return key


cdef class Function:
    """A function of ``count`` arrays, or None, and further values, all positional.

    Where the same problem is found in ``problems``, it runs at once; where not, and for whatever is not as it was then,
    ``careful`` is called, which checks everything, runs, and keeps its call in ``problems`` by the key of ``tag`` and the
    arguments.
    """

    cdef dict problems
    cdef object tag, careful
    cdef Py_ssize_t count

    def __init__(self, dict problems, tag, Py_ssize_t count, careful):
        self.problems, self.tag, self.count, self.careful = problems, tag, count, careful

    def __call__(self, *arguments):
        cdef IdleCalls problem
        cdef Call call
        try:
            found = self.problems.get(make_key(self.tag, arguments, self.count))
        except TypeError:
            found = None
        if found is not None:
            problem = <IdleCalls> found
            call = problem.take()
            if call is not None:
                try:
                    result = call.replay(arguments, self.count, _state["threads"], None)
                finally:
                    problem.give(call)
                if result is not None:
                    return result
        return self.careful(*arguments)


# ---- records ------------------------------------------------------------------------------------------------------

cdef object _array = object()  # stands in keys before what an array is


cdef object part(object value, list arrays):
    """What a key says of an argument: of an array, which is noted, its dtype and shape; of others their value."""
    cdef cnp.ndarray array
    cdef tuple made
    cdef int d, ndim
    if isinstance(value, cnp.ndarray):
        if not cnp.PyArray_CheckExact(value) and hasattr(value, "gives_its_kind"):
            raise TypeError("arrays whose results are of their class")  # the careful way makes them so
        arrays.append(value)
        array = <cnp.ndarray> value
        ndim = cnp.PyArray_NDIM(array)
        made = PyTuple_New(ndim + 2)
        put(made, 0, _array)
        put(made, 1, PyLong_FromSsize_t(cnp.PyArray_TYPE(array)))
        for d in range(ndim):
            put(made, d + 2, PyLong_FromSsize_t(cnp.PyArray_DIM(array, d)))
        return made
    if isinstance(value, (tuple, list)):
        for v in value:
            if isinstance(v, (cnp.ndarray, tuple, list)):
                return (type(value), *[part(v, arrays) for v in value])
    return frozen(value)


cdef class Recorded:
    """A function of any arguments, arrays among them, alone or in sequences, found again by all that it is called with.

    ``careful(key, arrays, arguments, named)`` is called where nothing is found in ``problems``, or something is not as it was
    then; it may keep its call there by ``key``, None where there is none, if that takes exactly ``arrays`` in their order.
    ``scope.graph`` says whether a graph is being traced: then nothing is looked for.
    """

    cdef dict problems
    cdef object tag, careful, scope

    def __init__(self, dict problems, tag, scope, careful):
        self.problems, self.tag, self.scope, self.careful = problems, tag, scope, careful

    def __call__(self, *arguments, **named):
        cdef list arrays = []
        cdef tuple key = None
        cdef IdleCalls problem
        cdef Call call
        if self.scope.graph is not None:
            return self.careful(None, arrays, arguments, named)
        try:
            key = (self.tag, *[part(v, arrays) for v in arguments], *[(k, part(v, arrays)) for k, v in named.items()])
            found = self.problems.get(key)
        except TypeError:
            key = found = None
        if found is not None:
            problem = <IdleCalls> found
            call = problem.take()
            if call is not None:
                try:
                    result = call.replay(tuple(arrays), len(arrays), _state["threads"], None)
                finally:
                    problem.give(call)
                if result is not None:
                    return result
        return self.careful(key, arrays, arguments, named)
