"""The engine: a module compiled for an input shape, replanned for others, called like a function on NumPy arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import prod
from weakref import WeakValueDictionary

import numpy as np

from fastconv._atomic import check_writable
from fastconv._values import shown
from fastconv.engine.derivative import accumulating
from fastconv.engine.losses import note_outputs
from fastconv.engine.options import alike, check_count, check_options
from fastconv.engine.plan import Plan, bring, optimise, several
from fastconv.engine.tune import tune
from fastconv.graph.arrays import as_float32, copied, input_specs
from fastconv.graph.autodiff import differentiate
from fastconv.graph.ir import DENSE, FLAT, PIXELS, Graph, apply, building
from fastconv.graph.trace import trace
from fastconv.kernels.locks import Lock
from fastconv.kernels.threads import threads_for
from fastconv.lowering.choices import Choices
from fastconv.lowering.program import Program, Snapshot
from fastconv.lowering.steps import SEGMENTS
from fastconv.ops.conv.choose import names
from fastconv.report.listing import StepInfo, list_memory, list_steps
from fastconv.report.profile import Profile, profile, times


class Engine:
    """A compiled network. Made by :func:`fastconv.compile`.

    Calling it runs the network: ``engine(x)`` returns a fresh array, ``engine(x, out=y)`` writes into ``y`` and allocates
    nothing. Any batch up to the planned one replays the plan; other shapes are planned when they are first seen and kept
    in a cache. Concurrent calls wait for each other; :meth:`clone` gives an engine of its own.
    """

    def __init__(self, function: Callable, shapes: Sequence[tuple[int, ...]], *, training: bool = False,
                 precision: str = "highest", algorithm: str | dict | Choices | None = None, threads: int | None = None,
                 cache_size: int = 4, choose_for: int | None = None, snapshot: Snapshot | None = None,
                 inputs: Sequence[tuple[str, str]] | None = None, input_gradients: bool = False):
        self._inputs = list(inputs or _unnamed(len(shapes)))  # names and dtypes
        self._function, self._training, self._threads = function, bool(training), threads or 0
        self._input_gradients = bool(input_gradients)
        self._precision, self._algorithm, self.cache_size = precision, algorithm, cache_size
        batch = max(1, shapes[0][0])
        self._choose_for = choose_for or (batch if training else alike(algorithm, batch))  # of every plan: see compile
        self._snapshot = snapshot  # of a frozen engine: what its plans are bound to
        self._plans: OrderedDict[tuple, tuple[Plan, Program]] = OrderedDict()
        self._lock = Lock("engine")
        self._ran: tuple | None = None
        self._mark: object = None  # of the last run, by which its outputs know it: they keep nothing of it alive
        self._family: WeakValueDictionary[tuple, Program] = WeakValueDictionary()  # of all clones: who shares packed weights
        self._current = self._plan(shapes)

    # ---- planning -------------------------------------------------------------------------------------------------

    def _plan(self, shapes: Sequence[tuple[int, ...]]) -> tuple[Plan, Program]:
        rest, n = tuple(s[1:] for s in shapes), shapes[0][0]
        for key in ((rest, None), (rest, n)):  # for any batch, or for this one
            found = self._plans.get(key)
            if found is not None and found[0].serves(n) and self._is_current(found[0]):
                self._plans.move_to_end(key)
                return found
        if self._snapshot is not None and self._plans and not self._current[0].graph.traced.current():
            raise RuntimeError("engine: frozen, and the modules that its function calls have changed since: a plan "
                               f"for the input shape {shapes[0]} would be of another network: compile and freeze again")
        try:
            plan, wanted, gradients = self._lower(shapes, self.algorithm)
        except MemoryError as error:
            text = ", ".join(str(tuple(s)) for s in shapes)
            raise MemoryError(f"engine: input of shape {text}: {error}") from None
        program = self._share(plan, (rest, plan.graph.exact, plan.batch)) or Program(plan.lowered, snapshot=self._snapshot)
        program.threads = self._threads
        for tensor, gradient in zip(wanted, gradients, strict=True):
            if gradient is not None:
                program.gradients.append((tensor.parameter,
                                          program.array(plan.lowered.read(gradient).ref, tensor.shape)))
        self._plans[rest, plan.graph.exact] = plan, program
        self._family[rest, plan.graph.exact, plan.batch] = program
        plan.open(program)
        while len(self._plans) > max(1, self.cache_size):
            self._plans.popitem(last=False)
        return plan, program

    def _share(self, plan: Plan, key: tuple) -> Program | None:
        """A binding to the weights that another clone has packed for the same plan."""
        mate = self._family.get(key)
        if self._training or mate is None or mate.lowered.algorithm is not self.algorithm or \
                not self._is_current(mate.lowered) or mate.lowered.weights_layout() != plan.lowered.weights_layout():
            return None
        return Program(plan.lowered, shared=mate)

    def _is_current(self, plan) -> bool:
        return self._snapshot is not None or plan.graph.traced.current()

    def _follow(self) -> tuple[Plan, Program]:
        """The current plan; made again where the module is no longer what was traced."""
        if not self._is_current(self._current[0]):
            self._current = self._plan(self._planned())
        return self._current

    def _lower(self, shapes: Sequence[tuple[int, ...]], algorithm) -> tuple[Plan, list, list]:
        """The plan for these shapes, the parameters that gradients are wanted of, and the gradients."""
        batch = max(1, shapes[0][0])
        inputs = [((batch, *s[1:]), name, PIXELS if dtype == "float32" and 2 <= len(s) <= 5 else DENSE, dtype)
                  for s, (name, dtype) in zip(shapes, self._inputs, strict=True)]
        graph, structure = trace(self._function, inputs, shapes[0][0])
        optimise(graph, self._training)
        gradients: list = []
        wanted: list = []
        inner = [t for t in graph.inputs if t.dtype == "float32"] if self._input_gradients else []
        if self._training:
            seeds = []
            for i, tensor in enumerate(graph.outputs):
                if tensor.dtype != "float32":
                    continue
                seed = graph.input(tensor.shape, f"grad:{i}", tensor.layout)
                graph.late_inputs.add(seed)
                seeds.append((tensor, seed))
            graph.traced.watch([t.parameter for t in graph.parameters])
            wanted = [t for t in graph.parameters if t.parameter.requires_grad]
            gradients = differentiate(graph, seeds, [*wanted, *inner])
            gradients[len(wanted):] = _leaving(graph, gradients[len(wanted):])
        back = [*zip(inner, gradients[len(wanted):], strict=True)]
        plan = Plan(graph, structure, batch, algorithm, gradients[:len(wanted)], precision=self.precision,
                    choose_for=self._choose_for, back=back)
        return plan, wanted, gradients[:len(wanted)]

    # ---- running --------------------------------------------------------------------------------------------------

    def __call__(self, *inputs, out=None):
        """Runs the network.

        Parameters
        ----------
        *inputs : array
            One float32 array per input, ``(N, C, ...)``, any strides, dense channels-last ones without a copy; also
            anything with ``__dlpack__`` or the buffer protocol. N may be 0.
        out : ndarray, or a sequence of them, optional
            Where the outputs go; float32, of exactly the output's shape; also another library's memory, with ``__dlpack__``,
            that may be written. They may be inputs too, or share memory with them: those inputs are copied first. They may
            not share memory with one another.

        Returns
        -------
        ndarray, or a nesting of them like that which ``forward`` returned. Fresh images lie channels-last where the first
        input of more than two dimensions does, else in C order.
        """
        with self._lock:
            plan, program = self._current
            if plan.graph.traced.stale():
                plan, program = self._follow()
            threads = threads_for(program.threads)
            program.prepare(threads)
            result = plan.call.run(inputs, threads, out)
            if result is not None:
                if out is not None:
                    return out
                return result if plan.structure.plain else plan.structure.build(
                    result if isinstance(result, tuple) else (result,))
            given: Sequence = () if out is None else (out,) if isinstance(out, np.ndarray) else several(plan.outputs, out)
            plan, program, n, held = self._bring(inputs, given)
            arrays = given if out is not None else plan.fresh(n, held)
            later = plan.point(arrays, n)
            program.settle(["forward"], n)
            program.run("forward", n)
            del held  # what was made of the inputs has been read
            plan.collect(program, arrays, later, n)
            self._ran = (plan, program, n)
            if self._training:
                self._mark = object()
                note_outputs(self, self._mark, arrays)
            if out is not None:
                return out
            return plan.structure.build(arrays)

    def _bring(self, inputs, out: Sequence) -> tuple[Plan, Program, int, list[np.ndarray]]:
        """The careful way in: converts what can be taken without a copy, names what is wrong, replans when needed. What
        shares memory with one of ``out`` is copied.

        The last of what it returns must live until the forward has run.
        """
        graph = self._current[0].graph
        arrays = bring([t for t in graph.inputs if t not in graph.late_inputs], inputs)
        plan, program = self._current = self._plan([a.shape for a in arrays])
        n, arrays = arrays[0].shape[0], copied(arrays, out)
        held = plan.take(program, [t for t in plan.graph.inputs if t not in plan.graph.late_inputs], arrays, n)
        return plan, program, n, [*arrays, *held]

    def backward(self, *grad_outputs) -> tuple | None:
        """Runs the backward tape of the last call, once, and adds to ``grad`` of every parameter, as PyTorch's: where it is
        None, it becomes the gradient (an array that the engine writes again, once ``grad`` is another).

        Parameters
        ----------
        *grad_outputs : array
            The gradient of the loss with respect to each output, float32, of the output's shape.

        Returns
        -------
        None, or with ``input_gradients=True`` a tuple of the gradients of the inputs, fresh arrays (None of integers).

        Raises
        ------
        RuntimeError
            When the engine was not compiled with ``training=True``, or has not been called since the last backward, which
            reuses the memory of what the call had left to it.
        TypeError, ValueError
            For gradients of another number, dtype or shape; nothing has run then.
        """
        if not self._training:
            raise RuntimeError("engine.backward: compiled for inference: compile with training=True")
        with self._lock:
            if self._ran is None:
                raise RuntimeError("engine.backward: the engine has not been called since the last backward")
            plan, program, n = self._ran
            if len(grad_outputs) != len(plan.outputs):
                raise ValueError(f"engine.backward: {len(grad_outputs)} gradients given, the network has "
                                 f"{len(plan.outputs)} outputs")
            shapes, held = plan.output_shapes(n), []
            for i, (expected, grad) in enumerate(zip(shapes, grad_outputs, strict=True)):
                if plan.outputs[i].dtype != "float32":
                    if grad is not None:
                        raise ValueError(f"engine.backward: output {i} has dtype {plan.outputs[i].dtype}, which has no "
                                         f"gradient: grad_output {i} must be None")
                    continue
                if grad is None:  # nothing depends on this output
                    grad = np.zeros(expected, np.float32)
                    held.append(grad)
                if len(expected) > 5:  # a slot has no more dimensions
                    grad = as_float32("engine.backward", f"grad_output {i}", grad)
                    if grad.shape != expected:
                        raise ValueError(f"engine.backward: grad_output {i} of shape {grad.shape}: expected {expected}, the "
                                         "shape of the output")
                    expected = (expected[0], prod(expected[1:])) if plan.outputs[i].batched else (prod(expected),)
                    grad = np.ascontiguousarray(grad).reshape(expected)
                    held.append(grad)
                if getattr(grad, "base", None) is not None:  # a view, perhaps of a gradient that this run writes
                    (grad,) = copied([grad], [array for _, array in program.gradients])
                    held.append(grad)
                slot = plan.lowered.slots[f"grad:{i}"]
                if not isinstance(grad, np.ndarray) or grad.shape != expected or slot.take(grad, False) < 0:
                    (grad,) = copied([as_float32("engine.backward", f"grad_output {i}", grad)],
                                     [array for _, array in program.gradients])
                    held.append(grad)  # what was made here lives until it has been read
                    if grad.shape != expected or slot.take(grad, False) < 0:
                        raise ValueError(f"engine.backward: grad_output {i} of shape {grad.shape}: expected {expected}, "
                                         "the shape of the output")
            self._ran = None
            add = accumulating(program.gradients)
            back = plan.gradients(n)
            program.settle(["backward"], n)
            program.run("backward", n)
            add()
            if not self._input_gradients:
                return None
            made = iter(back)
            return tuple(next(made) if dtype == "float32" else None for _, dtype in self._inputs)

    def _is_last(self, run: object) -> bool:
        """Whether a backward would be that of this run."""
        return self._ran is not None and self._mark is run

    def _completed(self, grads: dict[int, np.ndarray]) -> list:
        """The gradients of all outputs of the last run, zeros for those that are not given."""
        if self._ran is None:
            return []
        plan, _, n = self._ran
        return [grads.get(i) if i in grads or t.dtype != "float32" else np.zeros(shape, np.float32)
                for i, (t, shape) in enumerate(zip(plan.outputs, plan.output_shapes(n), strict=True))]

    def trained_parameters(self) -> list:
        """The parameters whose ``grad`` :meth:`backward` sets."""
        return [parameter for parameter, _ in self._follow()[1].gradients]

    # ---- copies ---------------------------------------------------------------------------------------------------

    def clone(self) -> Engine:
        """An engine with its own arena that shares the packed weights: for another thread.

        Parameters may be changed while neither runs; both follow.
        """
        with self._lock:
            self._follow()
            other = object.__new__(Engine)
            other.__dict__.update(self.__dict__)
            other._lock, other._ran, other._plans = Lock("engine"), None, OrderedDict()
            if self._training:
                other._current = other._plan(self._planned())
                return other
            for key, (plan, program) in self._plans.items():
                if not self._is_current(plan):
                    continue
                twin = Plan(plan.graph, plan.structure, plan.batch, self.algorithm, precision=self.precision,
                            choose_for=self._choose_for)
                other._plans[key] = twin, Program(twin.lowered, shared=program)
                other._plans[key][1].threads = self._threads
                twin.open(other._plans[key][1])
            key = next(k for k, v in self._plans.items() if v[0] is self._current[0])
            other._current = other._plans[key]
            return other

    def freeze(self) -> Engine:
        """A snapshot: an inference engine whose weights no longer follow the module's."""
        if self._training:
            raise RuntimeError("engine.freeze: an engine compiled with training=True cannot be frozen")
        with self._lock:
            self._follow()
            function, snapshot = self._function, self._snapshot
            if snapshot is None:
                snapshot = Snapshot(copied=not hasattr(function, "snapshot"))
                if hasattr(function, "snapshot"):
                    function = function.snapshot()  # of the whole module: later plans find it as it is now
            other = Engine(function, self._planned(), snapshot=snapshot, **self._options())
            other._current[1].prepare(threads_for(self._threads))
            return other

    def _planned(self) -> list[tuple[int, ...]]:
        """Shapes of the inputs that the current plan is for."""
        graph = self._current[0].graph
        return [t.shape for t in graph.inputs if t not in graph.late_inputs]

    def _options(self) -> dict:
        """What ``compile`` was told."""
        return {"training": self._training, "precision": self.precision, "algorithm": self.algorithm,
                "threads": self._threads or None, "cache_size": self.cache_size, "choose_for": self._choose_for,
                "inputs": self._inputs, "input_gradients": self._input_gradients}

    def __reduce__(self):
        """A pickle holds the module with its parameters and the options; where it is opened, it is compiled again."""
        if self._snapshot is not None and not hasattr(self._function, "snapshot"):
            raise TypeError("engine: a frozen engine of a plain function cannot be pickled: compile an nn.Module")
        return _compile_again, (self._function, self._planned(), self._snapshot is not None, self._options())

    def __copy__(self) -> Engine:
        return self.clone()

    # ---- knowing --------------------------------------------------------------------------------------------------

    def memory(self) -> dict:
        """Bytes: ``arena`` (activations, gradients, scratch), ``weights`` (packed), ``gradients`` (what
        ``grad`` of the parameters refers to), ``scratch`` per thread, ``unshared``
        (the sum of all buffers of the arena, what it would be without reuse), ``peak`` (most bytes alive at one step), and
        ``tensors``: name, bytes, offset, first and last step of each buffer."""
        return list_memory(self._follow()[1])

    def steps(self) -> list[StepInfo]:
        """The steps of the tape in order: path of the module, operator, algorithm, kernel, shapes, bytes touched."""
        return list_steps(self._follow()[1])

    def profile(self, rounds: int = 10) -> Profile:
        """Times every step of the tape, forward and backward, at the planned batch, on random arrays in memory of its own.

        Parameters
        ----------
        rounds : int, default 10
            The least time of so many runs is taken.

        Returns
        -------
        Profile
            ``print`` shows a table; ``rows``, ``json()``, ``chrome_trace()``. Steps are timed one by one: their sum is
            somewhat above the time of a call, which keeps one parallel region open over all of them.
        """
        check_count("engine.profile", "rounds", rounds)
        with self._lock:
            return profile(self._follow()[0].lowered, self._snapshot, threads_for(self._threads), rounds)

    def plot(self, path, rounds: int = 10) -> None:
        """Draws the profile as a PNG file: the roofline with a point per layer, and the time per layer. Needs matplotlib."""
        from fastconv.report.plots import plot_profile

        plot_profile(self.profile(rounds), path)

    def plot_memory(self, path) -> None:
        """Draws as a PNG file which buffer of the arena lives when, and where. Needs matplotlib."""
        from fastconv.report.plots import plot_memory

        specs = self._follow()[0].lowered.specs
        plot_memory(self.memory(), [(name, len(specs[name])) for name in SEGMENTS], path)

    def tune(self, save=None, *, rounds: int = 5, progress: Callable | None = None) -> Choices:
        """Times every algorithm that keeps the precision on every convolution, in place, and replans with the fastest.

        From then on algorithms are chosen for the batch at which they were timed, the planned one.

        Parameters
        ----------
        save : path, optional
            Where the choices are written, for ``compile(..., algorithm=Choices.load(path))``.
        rounds : int, default 5
            The least time of so many runs is taken.
        progress : callable, optional
            Called with (done, of how many, name) before each algorithm.

        Returns
        -------
        Choices
            By problem, with the seconds of each algorithm. Results of a tuned engine may differ in the last bits from
            those of one that was not, as other algorithms round differently.
        """
        check_count("engine.tune", "rounds", rounds)
        if save is not None:
            check_writable(save)
        with self._lock:
            shapes, threads = self._planned(), threads_for(self._threads)
            self._choose_for = max(1, shapes[0][0])

            def run(name):
                lowered = self._lower(shapes, name)[0].lowered
                return lowered, times(lowered, self._snapshot, threads, rounds)[1]

            choices = tune(run, names(), progress)
            if save is not None:
                choices.save(save)
            if isinstance(self.algorithm, Choices):
                choices = Choices({**self.algorithm.entries, **choices.entries})
            self._algorithm, self._ran = choices, None
            self._plans.clear()
            self._current = self._plan(shapes)
            return choices

    @property
    def precision(self) -> str:
        """The promise that it was compiled with."""
        return self._precision

    @property
    def algorithm(self) -> str | dict | Choices | None:
        """What it was compiled with; after :meth:`tune`, what was measured."""
        return self._algorithm

    @property
    def batch(self) -> int:
        """The planned batch."""
        return self._current[0].batch

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the outputs at the planned batch, in the order of ``forward``."""
        return self._follow()[0].output_shapes(self.batch)

    def __repr__(self) -> str:
        plan = self._current[0]
        inputs = ", ".join(str(t.shape) for t in plan.graph.inputs if t not in plan.graph.late_inputs)
        return f"<fastconv.Engine {inputs} -> {', '.join(str(t.shape) for t in plan.outputs)}>"


def _compile_again(function: Callable, shapes: list, frozen: bool, options: dict) -> Engine:
    return Engine(function, shapes, snapshot=Snapshot(copied=False) if frozen else None, **options)


def compile(module, input_shape, *, training: bool = False, precision: str = "highest",
            algorithm: str | dict | Choices | None = None, threads: int | None = None, cache_size: int = 4,
            choose_for: int | None = None, input_gradients: bool = False) -> Engine:
    """Compiles a module (or any callable over symbolic tensors) for an input shape.

    Parameters
    ----------
    module : nn.Module or callable
        Its ``forward`` is traced once; parameters stay the module's and are packed again when they change. When the module
        itself changes (a layer or parameter replaced, an attribute set; with ``training=True`` also ``train()``, ``eval()``
        and ``requires_grad``), the next call traces it again. What a forward reads from elsewhere, such as a global
        variable, is read when it is traced.
    input_shape : tuple of int, sequence of tuples, or dict
        Shape of the input ``(N, C, ...)``, of 1 to 8 dimensions; one per input where there are several, or a dict from their
        names. An input that is not float32 is a pair of its shape and dtype: ``((1, 77), "int64")``. N is the largest batch
        that replays this plan.
    training : bool, default False
        Training behaviour (BatchNorm statistics, dropout) and a backward tape.
    precision : {"highest", "high", "medium"}, default "highest"
        The promise of accuracy per convolution, against float64. "highest": per output, an error as of one float32
        FMA accumulator over its window (docs/convolution.md, "Local"); "high": error at most 2**-16 of the L2 norm of
        ``conv(abs(x), abs(w))``; "medium": bfloat16 inputs, float32 accumulation.
    algorithm : str, dict or Choices, optional
        The name of an algorithm, used wherever it applies ("direct", "winograd", ...); a dict from module path to name, or
        to a dict from pass ("forward", "backward_data", "backward_weight") to name, which must apply; or measured
        :class:`fastconv.Choices`. Default: the fastest by a cost model among those that keep the precision.
    threads : int, optional
        Threads of this engine; default :func:`fastconv.get_num_threads`.
    cache_size : int, default 4
        How many input shapes stay planned (least recently used goes first).
    choose_for : int, optional
        The batch for which algorithms are chosen. By default it is the same small number whatever N is, so that an image's
        result does not depend on the batch around it, nor on N; with measured choices the batch that was measured, and N
        with ``training=True``. An engine for large batches alone may gain by choosing for them (ResNet-18 at batch 16: 5 %);
        its bits differ from those of others.
    input_gradients : bool, default False
        With ``training=True``: :meth:`Engine.backward` returns the gradients of the inputs, too.

    Raises
    ------
    TypeError, ValueError
        For wrong arguments, and for shape errors in the network, naming the module's path.
    MemoryError
        When the plan needs more memory than there is.
    """
    if not callable(module):
        raise TypeError(f"compile: module is a {type(module).__name__}: expected an nn.Module or a callable")
    if isinstance(module, type):
        raise TypeError(f"compile: module is the class {module.__name__}: expected a module made of it")
    specs = input_specs("compile", input_shape)
    check_options("compile", precision, algorithm, threads)
    check_count("compile", "cache_size", cache_size)
    if choose_for is not None:
        check_count("compile", "choose_for", choose_for)
    for name, value in (("training", training), ("input_gradients", input_gradients)):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"compile: {name}={shown(value)}: expected True or False")
    if input_gradients and not training:
        raise ValueError("compile: input_gradients=True without training=True: an engine for inference has no backward")
    function = module
    if hasattr(module, "symbolic"):
        function = module.symbolic(training)
    return Engine(function, [s for s, _, _ in specs], inputs=[(name, dtype) for _, name, dtype in specs],
                  training=training, precision=precision, algorithm=algorithm, threads=threads,
                  cache_size=cache_size, choose_for=choose_for, input_gradients=input_gradients)


def _leaving(graph: Graph, gradients: Sequence) -> list:
    """Gradients of inputs as arrays see them: pixels of a fixed number of images, which no array lies as, in C order."""
    with building(graph, ""):
        graph.segment = "backward"
        found = [g if g is None or not g.type.fixed else apply("layout", [g], layout=FLAT) for g in gradients]
        graph.segment = "forward"
    graph.roots.update(g for g in found if g is not None)
    return found


def _unnamed(count: int) -> list[tuple[str, str]]:
    return [("input" if count == 1 else f"input{i}", "float32") for i in range(count)]

