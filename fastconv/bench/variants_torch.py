"""PyTorch's ways to compute a convolution: memory formats, and weights packed for oneDNN as torch.compile packs them."""

from __future__ import annotations

from collections.abc import Callable

from fastconv.bench.operands import arrays
from fastconv.bench.shapes import Conv, from_json
from fastconv.measure.timing import Variant

FORMATS = ("contiguous", "channels_last")


def prepare_torch(job: dict) -> list[Variant]:
    """Each memory format; forward also the weight packed beforehand, and for one pixel and one tap the matrix product."""
    import torch


    torch.set_num_threads(job["threads"])
    c = from_json(job["conv"])
    with torch.inference_mode():
        x, w, gy = (torch.from_numpy(a) for a in arrays(job))
        made = [whole(job, c, name, x, w, gy) for name in FORMATS]
        if job["pass"] == "forward":
            made.append(packed(job, c, x, w))
            if c.taps == 1 and set(c.size) == {1} and c.groups == 1 and not c.transposed:
                flat, matrix, shape = x.flatten(1), w.flatten(1), c.output_shape(len(x))
                made.append(variant("linear", lambda: torch.nn.functional.linear(flat, matrix).reshape(shape)))
        return made


def variant(name: str, run: Callable) -> Variant:
    import torch

    return Variant(name, run, run().numpy(), context=torch.inference_mode)


class Layout:
    """Tensors in one memory format. One dimension has no channels_last of its own: it is given as an image one pixel high,
    as PyTorch's own conv1d does it."""

    def __init__(self, c: Conv, name: str):
        import torch

        self.flat = c.dims == 1 and name == "channels_last"
        self.outer = torch.contiguous_format
        self.format = self.outer if name == "contiguous" else torch.channels_last_3d if c.dims == 3 else torch.channels_last
        lead = ((0,), ((0, 0),), (1,)) if self.flat else ((), (), ())
        self.zero, self.padding, self.one = lead[0], (*lead[1], *c.padding), lead[2]
        self.stride, self.dilation = (*self.one, *c.stride), (*self.one, *c.dilation)
        self.output_padding = (*self.zero, *c.output_padding)

    def take(self, tensor):
        return (tensor.unsqueeze(2) if self.flat else tensor).contiguous(memory_format=self.format)

    def give(self, tensor):
        return (tensor.squeeze(2) if self.flat else tensor)

    @property
    def low(self) -> list[int]:
        """The padding that the operator itself adds: the part that is the same on both sides."""
        return [min(p) for p in self.padding]

    @property
    def rest(self) -> list[int]:
        """What is left to ``pad``, last dimension first; empty where padding is symmetric."""
        pairs = [(a - min(a, b), b - min(a, b)) for a, b in self.padding]
        return [v for pair in reversed(pairs) for v in pair] if any(map(any, pairs)) else []


def whole(job: dict, c: Conv, name: str, x, w, gy) -> Variant:
    """The pass in a memory format, through the operators that autograd uses. Padding that differs between the sides is
    added by ``pad`` (and cut off the gradient), inside what is timed."""
    import torch

    layout = Layout(c, name)
    stride, dilation, low, rest = list(layout.stride), list(layout.dilation), layout.low, layout.rest
    more = list(layout.output_padding)
    given = {"x": x, "gy": gy}
    tensors = {key: layout.take(t) for key, t in given.items()}
    weight = layout.take(w)
    convolution, backward = torch.ops.aten.convolution, torch.ops.aten.convolution_backward

    def padded(x):
        return torch.nn.functional.pad(x, rest) if rest else x

    def cut(gx):
        for at, extent in enumerate(tensors["x"].shape[2:]):
            before = rest[2 * (len(rest) // 2 - 1 - at)] if rest else 0
            gx = gx.narrow(2 + at, before, extent) if rest else gx
        return gx

    if job["pass"] == "forward":
        uses: tuple[str, ...] = ("x",)

        def compute(x):
            return convolution(padded(x), weight, None, stride, low, dilation, c.transposed, more, c.groups)
    elif job["pass"] == "backward_data":
        uses = ("gy",)
        like = padded(tensors["x"])

        def compute(gy):
            return cut(backward(gy, like, weight, None, stride, low, dilation, c.transposed, more, c.groups,
                                [True, False, False])[0])
    else:
        uses = ("gy", "x")

        def compute(gy, x):  # type: ignore[misc]
            return backward(gy, padded(x), weight, None, stride, low, dilation, c.transposed, more, c.groups,
                            [False, True, False])[1]

    def alone():
        return layout.give(compute(*(tensors[key] for key in uses)))

    def end_to_end():
        return layout.give(compute(*(layout.take(given[key]) for key in uses))).contiguous(memory_format=layout.outer)

    return variant(name, end_to_end if job["end_to_end"] else alone)


def packed(job: dict, c: Conv, x, w) -> Variant:
    """The forward with the weight in oneDNN's own layout."""
    import torch

    layout = Layout(c, "channels_last")
    stride, dilation, low, rest = list(layout.stride), list(layout.dilation), layout.low, layout.rest
    weight = w.unsqueeze(2) if layout.flat else w
    pad = torch.nn.functional.pad
    shape = list(pad(layout.take(x), rest).shape if rest else layout.take(x).shape)
    if c.transposed:
        more = list(layout.output_padding)
        ready = torch.ops.mkldnn._reorder_convolution_transpose_weight(weight, low, more, stride, dilation, c.groups, shape)
        call = torch.ops.mkldnn._convolution_transpose_pointwise

        def compute(x):
            return call(x, ready, None, low, more, stride, dilation, c.groups, "none", [], "")
    else:
        reorder = getattr(torch._C._nn, f"mkldnn_reorder_conv{len(low)}d_weight")
        ready = reorder(weight.to_mkldnn(), low, stride, dilation, c.groups, shape)
        call = torch.ops.mkldnn._convolution_pointwise

        def compute(x):
            return call(pad(x, rest) if rest else x, ready, None, low, stride, dilation, c.groups, "none", [], "")

    given = layout.take(x)

    def end_to_end():
        return layout.give(compute(layout.take(x))).contiguous(memory_format=layout.outer)

    return variant("packed", end_to_end if job["end_to_end"] else lambda: layout.give(compute(given)))
