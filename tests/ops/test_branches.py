"""The smallest problems that take each way through the kernels of convolution that depends on size.

docs/testing.md lists them. Every problem runs in all three passes by every algorithm that does not refuse it
(conv_problems.py): what one takes a special way for is an ordinary problem to the others, and a mistake in either shows.
"""

import os
import re
from pathlib import Path

import fuzz_conv
import pytest
from conv_problems import Conv, axis, everything, square
from everywhere import again
from fastconv.kernels._runtime import isa_info

import fastconv
from fastconv.kernels import conv

BLOCK = conv.block_filters()  # 2 vectors
WIDTH = BLOCK // 2
TALL = {16: 14, 8: 6, 4: 4}[WIDTH]  # pixels of the register tile
DEEP = 128 + WIDTH + 3  # two units of depthwise channels and a tail
FUSED = {"bias": True, "residual": True, "act": "relu"}


def one(c, k, size=(1, 5), **more):
    """1x1."""
    return Conv(1, 1, c, k, tuple(axis(s) for s in size), **more)


def dw(groups, *axes, n=1, k=1, **more):
    return Conv(n, groups, 1, k, axes, **more)


# by the names that docs/testing.md has
BRANCHES = {
    # pixels that no tap reaches: sums of 0, 1 and several runs, a single pixel by four blocks, in each family
    **{f"no tap, {c} channels": Conv(1, 1, 9, c, square(12, 1, 5), **FUSED) for c in (64, 383, 767, 768, 1537)},
    **{f"no tap, {c} channels, transposed": Conv(1, 1, 9, c, square(11, 1, 5), True, **FUSED) for c in (64, 767, 768)},
    "no tap, one pixel of four blocks": Conv(1, 1, 4 * BLOCK, 768, square(2, 1, 2), True, (1, 1), **FUSED),
    "no tap, few filters": Conv(2, 1, 3, 768, square(9, 1, 4), **FUSED),
    "no tap, groups": Conv(1, 3, 9, 800, square(5, 1, 2), **FUSED),
    "no tap, depthwise": dw(WIDTH + 1, *square(11, 2, 5), transposed=True, **FUSED),
    "no tap along the row": Conv(1, 1, 9, 800, (axis(3, 3, 1, 1, 1), axis(7, 1, 3))),
    "no tap in depth": Conv(1, 1, 9, 800, (axis(4, 1, 3), axis(3, 2), axis(3, 2))),
    "output_padding out of reach": Conv(1, 1, 9, 770, square(9, 2, 1, 4), True, (3, 3), **FUSED),
    # runs: whole taps, one tap, parts of a tap; the last shorter; a row of pixels and one
    **{f"sums of {c} channels, {r} taps": Conv(1, 1, c, BLOCK + 3, (axis(TALL + 1, r, 1, 1, r // 2),), **FUSED) for c, r in
       ((43, 18), (85, 9), (383, 3), (384, 2), (767, 2), (768, 3), (1537, 1), (2049, 2))},
    "sums of 1203 channels, one pixel": Conv(1, 1, 1203, 4 * BLOCK, square(1), **FUSED),
    "sums of 2 rows of 43 taps": Conv(1, 1, 9, 5, (axis(9, 2), axis(60, 43)), **FUSED),
    # pixels 4 KiB apart: by the channels, by the stride, by the step of the output
    "4 KiB by channels": one(1024, 5, (3, TALL + 1)),
    "4 KiB by stride": Conv(1, 1, 512, 33, (axis(3), axis(4 * TALL + 1, 1, 2))),
    "4 KiB by outputs": Conv(1, 1, 512, 33, (axis(2 * TALL + 3, 2, 2),), True, **FUSED),
    "4 KiB, 3x3": Conv(1, 1, 1024, 5, square(4, 3, 1, 1, 1), **FUSED),
    # chunks of pixels, groups of blocks, regions
    "chunks of pixels": Conv(2, 1, 3, WIDTH + 1, (axis(30, 3, 1, 1, 1), axis(31, 5, 1, 1, 2)), **FUSED),
    "chunks of a row": Conv(1, 1, 2, 5, (axis(1), axis(2000, 3, 1, 1, 1)), **FUSED),
    "chunks unpadded": Conv(1, 1, 3, 9, (axis(1), axis(3000, 2)), **FUSED),
    "images in a chunk": Conv(17, 1, 3, WIDTH + 1, square(7, 3, 1, 1, 1), **FUSED),
    "blocks in groups": Conv(1, 1, 1400 if WIDTH == 16 else 2100, 3 * BLOCK + 3, (axis(4, 4, 1, 1, 1),), **FUSED),
    "blocks in groups, one pixel": Conv(1, 1, 2100, 9 * BLOCK, square(1), **FUSED),
    "many regions": Conv(1, 1, 2, 3, (axis(33, 29, 1, 1, 14), axis(9, 3, 1, 1, 1)), **FUSED),
    "many regions, dilated": Conv(2, 1, 3, 9, (axis(5), axis(60, 15, 1, 4, 28)), **FUSED),
    "padding over the kernel": Conv(1, 1, 9, 9, square(3, 3, 1, 1, 5), **FUSED),
    "dilation over the image": Conv(1, 1, 9, 17, square(6, 3, 1, 8, 8), **FUSED),
    "one pixel": Conv(3, 1, 24, 50, square(1, 4, 1, 1, 2), **FUSED),
    "one pixel of the output": Conv(1, 1, 24, 4 * BLOCK, square(4, 4), **FUSED),
    "every height and width": Conv(1, 1, 5, BLOCK + WIDTH // 2, (axis(TALL + 7 + 4 + 2 + 1),), **FUSED),
    "a row of 5 taps": Conv(1, 1, 1, 6, square(9, 5), **FUSED),
    "few filters, more pixels than a chunk": Conv(1, 1, WIDTH + 3, 3, (axis(5), axis(101, 3, 1, 1, 1)), **FUSED),
    "few filters, groups": Conv(2, 3, WIDTH + 1, 2, (axis(5, 3, 1, 1, 1), axis(9, 2, 2)), **FUSED),
    # gradients to weights
    "weights: rows of taps": Conv(2, 1, 2, WIDTH, (axis(9, 3), axis(23, 3))),
    "weights: rows of taps, strided": Conv(2, 1, 1, BLOCK + 1, (axis(22, 5, 2), axis(17, 3, 2))),
    "weights: gradient copied": Conv(1, 1, 20, 128, square(15, 3, 2, 1, 1)),
    "weights: gradient copied in blocks": Conv(1, 1, 16, 32 * BLOCK, (axis(5), axis(7, 1, 2))),
    "weights: slabs": Conv(1, 1, 300, 300, (axis(9, 3),)),
    "weights: slabs of taps": Conv(1, 1, 1100, 9, (axis(12, 7, 1, 1, 3),)),
    "weights: exchanged": Conv(1, 1, 2 * BLOCK, 3, square(8, 3, 1, 1, 1)),
    "weights: parts": Conv(3, 1, 17, 20, square(33, 1)),
    "weights: one pixel": Conv(1, 1, 257, 70, square(3, 3)),
    # depthwise and narrow groups
    **{f"depthwise {r}x{r}/{s}, {h}x{w}": dw(WIDTH + 3, axis(h, r, s, 1, r // 2), axis(w, r, s, 1, r // 2), n=2, **FUSED)
       for r, s, h, w in ((3, 1, 5, 7), (3, 2, 9, 17), (5, 1, 6, 21), (5, 2, 9, 33), (7, 1, 8, 19), (4, 1, 5, 9),
                          (3, 3, 9, 20))},
    **{f"depthwise {r}x{r}/2 in depth {d}, padding {p}": dw(
        WIDTH + 1, axis(d), axis(9, r, 2, 1, p), axis(12, r, 2, 1, p), **FUSED)
       for r, d, p in ((3, 1, 0), (3, 2, 1), (5, 3, 1), (5, 2, 2))},
    "depthwise 3x3/2 in depth, transposed": dw(16, axis(2), axis(16, 3, 2, 1, 1), axis(16, 3, 2, 1, 1), transposed=True,
                                               extra=(0, 1, 1), **FUSED),
    "depthwise 3x3/2 in blocks of channels": dw(DEEP, axis(3), axis(9, 3, 2, 1, 1), axis(17, 3, 2, 1, 1)),
    "depthwise 3x3/2, padded depth": dw(WIDTH, axis(3, 1, 1, 1, 1), axis(9, 3, 2, 1, 1), axis(8, 3, 2, 1, 1)),
    "depthwise 3x3/2, depth by two": dw(WIDTH, axis(5, 1, 2), axis(9, 3, 2, 1, 1), axis(8, 3, 2, 1, 1)),
    "depthwise 3x3/2, odd and even padding": dw(WIDTH, axis(9, 3, 2, 1, 1), axis(17, 3, 2)),
    "depthwise in flat height": dw(WIDTH + 1, axis(5, 3, 2, 1, 1), axis(1), axis(8, 3, 2, 1, 1), **FUSED),
    "depthwise in flat width": dw(WIDTH + 1, axis(5, 3, 2, 1, 1), axis(8, 3, 2, 1, 1), axis(1), **FUSED),
    "depthwise, dilation phases": dw(WIDTH + 1, axis(19, 3, 2, 4, 3), axis(23, 3, 3, 3, 5), n=2, **FUSED),
    "depthwise, more phases than outputs": dw(WIDTH, *square(5, 3, 1, 9, 9), **FUSED),
    "depthwise, stride over kernel": dw(WIDTH + 1, axis(15, 3, 4, 1, 1), axis(17, 2, 5, 1, 1), n=2, **FUSED),
    "depthwise in units": dw(40, axis(50, 3, 1, 1, 1), axis(41, 3, 1, 1, 1)),
    "depthwise in blocks of channels": dw(300, axis(3), axis(9, 3, 1, 1, 1)),
    "depthwise row of 31": dw(WIDTH, axis(50, 31, 1, 1, 15), **FUSED),
    "depthwise multiplier": dw(7, *square(6, 3, 1, 1, 1), k=3, **FUSED),
    "depthwise multiplier over a vector": dw(3, *square(6, 3, 2, 1, 1), k=2 * WIDTH + 3, **FUSED),
    "narrow groups": Conv(2, 9, 4, 4, square(9, 3, 2, 1, 1), **FUSED),
    "narrow groups, a vector each": Conv(1, 3, WIDTH, WIDTH + 1, square(6, 3, 1, 1, 1), **FUSED),
    "narrow groups in depth": Conv(1, 5, 3, 5, (axis(2), axis(9, 3, 2, 1, 1), axis(9, 3, 2, 1, 1)), **FUSED),
    "groups over a vector": Conv(1, 2, WIDTH + 1, WIDTH + 2, square(5, 3, 1, 1, 1), **FUSED),
    # the lanes along the row
    **{f"rows of {name}": dw(g, axis(6, 3, 1, 1, 1), axis(23, 3, 1, 1, 1), **FUSED) for name, g in
       (("2 channels", 2), ("3 channels", 3), ("a vector", WIDTH), ("a vector and one", WIDTH + 1))},
    "rows in groups of tiles": dw(2, axis(3), axis(20, 5, 1, 1, 2), axis(90, 7, 1, 2, 6), **FUSED),
    "rows inside a concatenation": dw(3, *square(9, 3, 1, 1, 1), beside=True),
    # transforms
    **{f"winograd, {name}": Conv(n, 1, c, k, (axis(h, 3, 1, 1, 1), axis(w, 3, 1, 1, 1)), **FUSED) for name, n, c, k, h, w in
       (("one pixel", 1, 1, 1, 1, 1), ("half a vector of filters", 1, 3, WIDTH // 2, 4, 5),
        ("tails of everything", 2, WIDTH + 1, BLOCK + 1, 7, 6), ("whole vectors", 1, 64, 64, 14, 13),
        ("long sums", 1, 200, 40, 5, 9), ("groups of blocks", 1, 40, 4 * BLOCK + 1, 8, 8))},
    "winograd in one dimension": Conv(2, 1, 70, 33, (axis(50, 3, 1, 1, 2),), **FUSED),
    "winograd in depth": Conv(1, 1, 20, 17, (axis(3, 2, 1, 1, 1), axis(7, 3, 1, 1, 1), axis(6, 3, 1, 1, 1)), **FUSED),
    "winograd in depth, strided": Conv(1, 1, 20, 17, (axis(5, 3, 2, 1, 1), axis(7, 3), axis(6, 3)), **FUSED),
    "winograd in flat depth": Conv(2, 1, 20, 17, (axis(3), axis(7, 3, 1, 1, 1), axis(6, 3, 1, 1, 1)), **FUSED),
    "winograd in groups": Conv(2, 2, 20, 33, square(6, 3, 1, 1, 1), **FUSED),
    "fft in one dimension": Conv(2, 1, 9, WIDTH + 1, (axis(300, 40, 1, 1, 20),), **FUSED),
    "fft of a row in a plane": Conv(1, 1, 5, 6, (axis(3), axis(90, 17, 1, 1, 8)), **FUSED),
    "fft in two dimensions": Conv(2, 1, WIDTH + 1, 9, (axis(25, 9, 1, 1, 4), axis(21, 7, 1, 1, 3)), **FUSED),
    "fft in three dimensions": Conv(1, 1, 3, 5, (axis(6, 3, 1, 1, 1), axis(9, 5, 1, 1, 2), axis(10, 5, 1, 1, 2)), **FUSED),
    "fft dilated": Conv(1, 1, 5, 4, (axis(25, 5, 1, 3, 6), axis(24, 5, 1, 2, 4)), **FUSED),
    "fft depthwise": dw(WIDTH + 3, *square(30, 11, 1, 1, 5), n=2, **FUSED),
    "fft in groups": Conv(1, 3, 5, WIDTH + 1, square(20, 9, 1, 1, 4), **FUSED),
    "fft, no pixel seen by all taps": Conv(2, 1, WIDTH + 1, 9, (axis(20, 5, 1, 1, 2), axis(4, 40, 1, 1, (0, 39)))),
    "fft of many tiles": Conv(9, 1, 4, 4, square(33, 9, 1, 1, 4)),
    # panels of im2col, slabs of planes
    "panels": Conv(2, 1, 16, 16, (axis(20, 5, 1, 1, 2), axis(17, 5, 1, 1, 2))),
    "panels cut by columns": Conv(1, 1, 600, 4, (axis(4, 3, 1, 1, 1), axis(40, 3, 1, 1, 1))),
    "panels, filters cut": Conv(1, 1, 24, 600, square(4, 3, 1, 1, 1)),
    "slabs of planes": Conv(1, 1, 260, 270, square(4, 1), **FUSED),
    "odd pairs of planes": Conv(1, 1, 33, 18, square(5, 3, 1, 1, 1), **FUSED),
    # the phases of a stride as one step: some without taps, some without pixels
    "phases as one step": Conv(2, 1, 3, 5, square(37, 12, 8, 1, 2), True, **FUSED),
    "phases of wide channels as one step": Conv(1, 1, 40, 70, (axis(30, 9, 7, 1, 1),), True, (5,), **FUSED),
    "depthwise phases as one step": dw(WIDTH + 3, *square(21, 5, 4, 1, 2), transposed=True, **FUSED),
    "more phases than pixels": Conv(1, 1, 3, 770, square(4, 2, 9), **FUSED),
    # where users' problems are joined
    "a smaller batch": Conv(2, 1, 20, 33, square(6, 3, 1, 1, 1), spare=3, **FUSED),
    "inside a concatenation": Conv(2, 1, 20, 33, square(6, 3, 1, 1, 1), beside=True, **FUSED),
    "depthwise inside a concatenation": dw(20, *square(9, 3, 2, 1, 1), beside=True, **FUSED),
    "channels-last arrays": Conv(2, 1, 20, 33, square(6, 3, 2, 1, 1), moved=True, **FUSED),
    "clipped": Conv(1, 1, 9, 40, square(6, 1, 3), True, bias=True, act="clip"),
    "leaky": Conv(1, 1, 9, 40, square(6, 1, 3), True, bias=True, act="leaky_relu"),
}
PROBLEMS = int(os.environ.get("FASTCONV_TEST_FUZZ", 60))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Problems are tiny. AMX is emulated where there is none."""
    fastconv.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTCONV_EMULATE_AMX", "1")
        yield
    fastconv.set_num_threads(1)


@pytest.mark.parametrize("name", list(BRANCHES))
def test_branch(name):
    assert everything(BRANCHES[name]) >= 6


def test_random_problems():
    """A short form of fuzz_conv.py, of the same problems always."""
    used, failures = fuzz_conv.fuzz(1, count=PROBLEMS)
    assert not failures, "\n".join(failures[:5])
    assert used["problems"] == PROBLEMS


def test_the_list_in_the_documentation_is_this_one():
    here = Path(__file__).parents[1]
    text = (here.parent / "docs" / "testing.md").read_text()
    section = text[text.index("## Ways by size"):text.index("## Can they fail?")]
    assert not [name for name in BRANCHES if f"`{name}`" not in section]
    tests = " ".join(row.split("|")[4] for row in section.splitlines() if row.startswith("|"))
    named = set(re.findall("`([^`]*)`", tests))
    elsewhere = {name for name in named if "::" in name}
    assert not named - elsewhere - set(BRANCHES)
    for name in elsewhere:
        file, test = name.split("::")
        assert f"def {test}(" in (here / file).read_text(), name


@pytest.mark.parametrize("isa", isa_info()["available"])
def test_everywhere(isa):
    """The same at the other instruction sets of this machine, a process each."""
    again(isa, __file__, FASTCONV_TEST_FUZZ="20")
