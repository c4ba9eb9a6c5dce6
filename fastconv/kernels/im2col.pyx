# cython: language_level=3
"""Convolution by im2col and a matrix product (BLAS): steps of the three passes, and of unfold and fold.

Weights and their gradient are [group][tap][channel][filter], which is pack_weight with block = filters per group: a
row-major matrix of T * C rows and K columns per group.

A panel holds the taps and channels that a range of output pixels reads. It is cut by the problem alone, in rows (never
across images where an image has its own result, so that an image's bits do not depend on the batch around it) and,
where 128 rows do not fit in PANEL floats, in columns, over which the product then accumulates: with fewer rows BLAS
would spend its time packing the weights anew for every panel. A 1x1 convolution of stride 1 without padding has no
panel: its pixels are the matrix.

No product has exactly one row (OpenBLAS sends that to another routine with other bits): panels of one image differ by
at most one row and the smallest has 64, and an image of one pixel gets a second row of zeros in scratch.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from fastconv.kernels._args_conv cimport ConvArgs
from fastconv.kernels._args_im2col cimport EpilogueArgs
from fastconv.kernels._runtime cimport FcKernel, Step, find_kernel
from fastconv.kernels.blas cimport Gemm, enter_thread, find_gemm, gemm_run, gemm_scratch, leave_thread
from fastconv.kernels.conv cimport fill
from fastconv.kernels.blas import guard
from fastconv.kernels.conv import ACTIVATIONS

cdef int64_t PANEL = 65536  # floats: 256 KB of the second-level cache
cdef int64_t ROWS = 128     # rows below which BLAS is bound by packing its other operand

# How a pass is cut. `conv` comes first: its n is the batch of the run. x is the side of the pixels that are read
# through taps (x, or gx, which is written), y the other one (y, or gy, which is read).
ctypedef struct PanelArgs:
    ConvArgs conv
    const Gemm* gemm
    const FcKernel* gather      # f32_im2col
    const FcKernel* scatter     # f32_col2im
    const FcKernel* epilogue
    int64_t pixels              # output pixels per image
    int64_t rows, panels        # most rows of a panel, panels per image
    int64_t taps, channels      # columns of a panel: so many taps of so many channels
    int64_t splits              # tiles into which the columns of the result (filters, or channels of gx) are cut
    bint direct                 # no panel: x is the matrix
    float* dw                   # backward to weights
    int64_t parts, part_stride


# ---- the cut ------------------------------------------------------------------------------------------------------

cdef int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef void cut_columns(PanelArgs* a, int64_t limit) noexcept:
    """Cuts the columns of a panel: whole taps while one fits in `limit` columns, else channels of one tap."""
    cdef int64_t T = a.conv.T, C = a.conv.C
    if C <= limit:
        a.taps = min(T, limit // C)
        a.taps = ceil_div(T, ceil_div(T, a.taps))
        a.channels = C
    else:
        a.taps = 1
        a.channels = min(C, ceil_div(ceil_div(C, ceil_div(C, limit)), 16) * 16)


cdef void cut_rows(PanelArgs* a, int64_t columns) noexcept:
    """Cuts an image's pixels into panels of nearly equal size, PANEL floats each if that is at least ROWS rows."""
    a.panels = max(1, ceil_div(a.pixels, max(ROWS, PANEL // columns)))
    a.rows = ceil_div(a.pixels, a.panels)


cdef int64_t panel_start(const PanelArgs* a, int64_t image, int64_t at) noexcept nogil:
    """The first pixel of an image's panel; its panels differ by at most one row."""
    return image * a.pixels + a.pixels * at // a.panels


cdef PanelArgs* bind(Step step, FcKernel* kernel, dict geometry) except NULL:
    if tuple(geometry["output"]) != tuple(geometry["space"]) or any(geometry.get("origin", ())) or \
            any(s != 1 for s in geometry.get("output_step", ())):
        raise ValueError(f"im2col: output={geometry['output']} must be the iteration space {geometry['space']}, dense")
    cdef PanelArgs* a = <PanelArgs*> step.bind(kernel, sizeof(PanelArgs))
    cdef ConvArgs* c = &a.conv
    fill(step, c, geometry)
    a.gemm = find_gemm()
    a.gather = find_kernel("f32_im2col")
    a.scatter = find_kernel("f32_col2im")
    a.epilogue = find_kernel("f32_epilogue")
    a.pixels = c.iD * c.iH * c.iW
    a.splits = 1
    a.direct = c.T == 1 and not any(geometry["taps"][0]) and tuple(geometry["stride"]) == (1, 1, 1) and \
        tuple(geometry["input"]) == tuple(geometry["space"])
    if a.gemm.sgemm != NULL:
        step.guard = guard
    return a


# ---- scratch: [panel][two rows of the result or of gy, for an image of one pixel][the product's own] -----------------

cdef size_t rounded(int64_t floats) noexcept nogil:
    return <size_t> ceil_div(floats, 16) * 64


cdef size_t panel_bytes(const PanelArgs* a) noexcept nogil:
    return 0 if a.direct else rounded(max(2, a.rows) * a.taps * a.channels)


cdef size_t panel_scratch(const void* args) noexcept nogil:
    cdef const PanelArgs* a = <const PanelArgs*> args
    return panel_bytes(a) + rounded(2 * a.conv.K) + gemm_scratch(a.gemm)


cdef float* two_rows(const PanelArgs* a, void* scratch) noexcept nogil:
    return <float*> (<char*> scratch + panel_bytes(a))


cdef void* products_own(const PanelArgs* a, void* scratch) noexcept nogil:
    return <char*> scratch + panel_bytes(a) + rounded(2 * a.conv.K)


cdef void take_columns(ConvArgs* panel, const PanelArgs* a, int64_t group, int64_t tap, int64_t taps, int64_t channel,
                       int64_t channels) noexcept nogil:
    """Narrows a copy of the problem to some taps and channels of a group."""
    panel.x = a.conv.x + group * a.conv.C + channel
    panel.taps = a.conv.taps + 3 * tap
    panel.T = taps
    panel.C = channels


# ---- forward ------------------------------------------------------------------------------------------------------

cdef int64_t forward_tiles(void* args, int64_t n) noexcept nogil:
    cdef PanelArgs* a = <PanelArgs*> args
    a.conv.n = n
    return n * a.conv.G * a.panels * a.splits if a.pixels else 0


cdef void forward_tile(const PanelArgs* a, ConvArgs* panel, int64_t tile, void* scratch) noexcept nogil:
    """One panel of rows by a range of filters of one group; what follows is added while the result is in cache."""
    cdef const ConvArgs* c = &a.conv
    cdef int64_t split = tile % a.splits, at = tile // a.splits % a.panels
    cdef int64_t group = tile // (a.splits * a.panels) % c.G, image = tile // (a.splits * a.panels * c.G)
    cdef int64_t first = panel_start(a, image, at), last = panel_start(a, image, at + 1), rows = last - first
    cdef int64_t k = c.K * split // a.splits, filters = c.K * (split + 1) // a.splits - k
    cdef int64_t tap = 0, channel, taps, channels, columns, lds = c.ldy, filter = group * c.K + k
    cdef const float* w = c.w + group * c.T * c.C * c.K + k
    cdef float* y = c.y + first * c.ldy + filter
    cdef float* sums = y
    cdef void* own = products_own(a, scratch)
    cdef bint alone = rows == 1
    cdef EpilogueArgs e
    if alone:
        sums, lds = two_rows(a, scratch), filters
    if a.direct:
        gemm_run(a.gemm, False, False, rows, filters, c.C, c.x + first * c.ldx + group * c.C, c.ldx, w, c.K, False,
                 sums, lds, own)
        tap = c.T
    panel.panel = <float*> scratch
    panel.panel_begin, panel.panel_end = first, last
    while tap < c.T:
        taps = min(a.taps, c.T - tap)
        channel = 0
        while channel < c.C:
            channels = min(a.channels, c.C - channel)
            columns = taps * channels
            take_columns(panel, a, group, tap, taps, channel, channels)
            a.gather.run(panel, 0, 1, NULL)
            if alone:
                memset(panel.panel + columns, 0, columns * sizeof(float))
            gemm_run(a.gemm, False, False, 2 if alone else rows, filters, columns, panel.panel, columns,
                     w + (tap * c.C + channel) * c.K, c.K, tap > 0 or channel > 0, sums, lds, own)
            channel += channels
        tap += taps
    if alone or c.bias != NULL or c.residual != NULL or c.act:
        e.x, e.ldx = sums, lds
        e.bias = c.bias + filter if c.bias != NULL else NULL
        e.residual = c.residual + first * c.ldr + filter if c.residual != NULL else NULL
        e.ldr = c.ldr
        e.y, e.ldy = y, c.ldy
        e.rows, e.C = rows, filters
        e.act, e.act_a, e.act_b = c.act, c.act_a, c.act_b
        a.epilogue.run(&e, 0, a.epilogue.tiles(&e, 1), NULL)


cdef void forward_run(const void* args, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    cdef const PanelArgs* a = <const PanelArgs*> args
    cdef ConvArgs panel = a.conv
    cdef int64_t tile
    cdef int state = enter_thread(a.gemm)
    for tile in range(begin, end):
        forward_tile(a, &panel, tile, scratch)
    leave_thread(a.gemm, state)


cdef FcKernel forward_kernel = FcKernel("f32_conv_im2col", forward_tiles, forward_run, panel_scratch)


def forward(dict geometry, *, size_t x, size_t w, size_t y, ldy, size_t bias=0, size_t residual=0, ldr=0, act=None,
            act_a=0.0, act_b=0.0) -> Step:
    """A convolution; addresses, strides in elements. The geometry is that of kernels/conv.pyx.

    Raises ValueError where the output is not the dense iteration space (a phase of a transposed convolution).
    """
    cdef Step step = Step()
    cdef PanelArgs* a = bind(step, &forward_kernel, geometry)
    cdef ConvArgs* c = &a.conv
    c.x, c.w, c.y = <const float*> x, <const float*> w, <float*> y
    c.ldy = ldy
    c.bias = <const float*> bias
    c.residual = <const float*> residual
    c.ldr = ldr
    c.act, c.act_a, c.act_b = ACTIVATIONS[act], act_a, act_b
    a.direct = a.direct and a.pixels > 1
    cut_rows(a, c.T * c.C + c.K)
    cut_columns(a, max(16, PANEL // max(1, a.rows)))
    if a.panels * c.G < 4:  # few panels: more tiles by cutting the filters
        a.splits = max(1, min(4 // (a.panels * c.G), c.K // 128))
    return step


# ---- backward to data -----------------------------------------------------------------------------------------------

cdef int64_t data_tiles(void* args, int64_t n) noexcept nogil:
    cdef PanelArgs* a = <PanelArgs*> args
    a.conv.n = n
    return n * a.conv.G * (a.panels if a.direct else a.splits)


cdef void data_tile_direct(const PanelArgs* a, int64_t tile, void* scratch) noexcept nogil:
    cdef const ConvArgs* c = &a.conv
    cdef int64_t at = tile % a.panels, group = tile // a.panels % c.G, image = tile // (a.panels * c.G)
    cdef int64_t first = panel_start(a, image, at), last = panel_start(a, image, at + 1)
    gemm_run(a.gemm, False, True, last - first, c.C, c.K, c.y + first * c.ldy + group * c.K, c.ldy,
             c.w + group * c.C * c.K, c.K, False, <float*> c.x + first * c.ldx + group * c.C, c.ldx,
             products_own(a, scratch))


cdef void data_tile(const PanelArgs* a, ConvArgs* panel, int64_t tile, void* scratch) noexcept nogil:
    """A range of channels of one group of one image: windows overlap, so its panels follow one another."""
    cdef const ConvArgs* c = &a.conv
    cdef int64_t split = tile % a.splits, group = tile // a.splits % c.G, image = tile // (a.splits * c.G)
    cdef int64_t channel = min(c.C, a.channels * split), channels = min(a.channels, c.C - channel)
    cdef int64_t size = c.xD * c.xH * c.xW, pixel, at, first, last, rows, tap, taps, ldy
    cdef float* gx = <float*> c.x + image * size * c.ldx + group * c.C + channel
    cdef const float* gy
    cdef float* row = two_rows(a, scratch)
    for pixel in range(size):
        memset(gx + pixel * c.ldx, 0, channels * sizeof(float))
    panel.panel = <float*> scratch
    for at in range(a.panels if a.pixels else 0):
        first, last = panel_start(a, image, at), panel_start(a, image, at + 1)
        rows, ldy = last - first, c.ldy
        gy = c.y + first * c.ldy + group * c.K
        if rows == 1:
            memcpy(row, gy, c.K * sizeof(float))
            memset(row + c.K, 0, c.K * sizeof(float))
            gy, rows, ldy = row, 2, c.K
        panel.panel_begin, panel.panel_end = first, last
        tap = 0
        while tap < c.T:
            taps = min(a.taps, c.T - tap)
            take_columns(panel, a, group, tap, taps, channel, channels)
            gemm_run(a.gemm, False, True, rows, taps * channels, c.K, gy, ldy,
                     c.w + ((group * c.T + tap) * c.C + channel) * c.K, c.K, False, panel.panel, taps * channels,
                     products_own(a, scratch))
            a.scatter.run(panel, 0, 1, NULL)
            tap += taps


cdef void data_run(const void* args, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    cdef const PanelArgs* a = <const PanelArgs*> args
    cdef ConvArgs panel = a.conv
    cdef int64_t tile
    cdef int state = enter_thread(a.gemm)
    for tile in range(begin, end):
        if a.direct:
            data_tile_direct(a, tile, scratch)
        else:
            data_tile(a, &panel, tile, scratch)
    leave_thread(a.gemm, state)


cdef FcKernel data_kernel = FcKernel("f32_conv_im2col_backward_data", data_tiles, data_run, panel_scratch)


def backward_data(dict geometry, *, size_t gy, ldy, size_t w, size_t gx) -> Step:
    """gx of the convolution whose forward geometry this is (ldx is gx's), with the forward's packed weights."""
    cdef Step step = Step()
    cdef PanelArgs* a = bind(step, &data_kernel, geometry)
    cdef ConvArgs* c = &a.conv
    c.x, c.w, c.y = <const float*> gx, <const float*> w, <float*> gy
    c.ldy = ldy
    a.direct = a.direct and a.pixels > 1
    cut_rows(a, c.T * c.C + c.K)
    cut_columns(a, max(16, PANEL // max(1, a.rows)))
    if c.G < 4 and c.C >= 256 and a.channels > 128:  # few groups: more tiles by cutting the channels
        a.channels, a.taps = 128, 1
    a.splits = ceil_div(c.C, a.channels)
    cut_rows(a, a.taps * a.channels + c.K)
    return step


def epilogue(*, size_t x, ldx, size_t y, ldy, pixels, channels, size_t bias=0, size_t residual=0, ldr=0, act=None,
             act_a=0.0, act_b=0.0) -> Step:
    """y = act(x + bias + residual) over `pixels` pixels per image; x may be y."""
    cdef Step step = Step()
    cdef EpilogueArgs* e = <EpilogueArgs*> step.bind_name("f32_epilogue", sizeof(EpilogueArgs))
    e.x, e.bias, e.residual, e.y = <const float*> x, <const float*> bias, <const float*> residual, <float*> y
    e.rows, e.C, e.ldx, e.ldy, e.ldr = pixels, channels, ldx, ldy, ldr
    e.act, e.act_a, e.act_b = ACTIVATIONS[act], act_a, act_b
    return step


# ---- backward to weights ------------------------------------------------------------------------------------------

cdef int64_t weight_tiles(void* args, int64_t n) noexcept nogil:
    cdef PanelArgs* a = <PanelArgs*> args
    a.conv.n = n
    return a.parts * a.conv.G * ceil_div(a.conv.T, a.taps) * ceil_div(a.conv.C, a.channels)


cdef void weight_tile(const PanelArgs* a, ConvArgs* panel, int64_t tile, void* scratch) noexcept nogil:
    """Some taps and channels of one group, over one part's pixels; the part is cut into panels of nearly one size."""
    cdef const ConvArgs* c = &a.conv
    cdef int64_t chunks = ceil_div(c.C, a.channels), cuts = ceil_div(c.T, a.taps)
    cdef int64_t channel = tile % chunks * a.channels, tap = tile // chunks % cuts * a.taps
    cdef int64_t group = tile // (chunks * cuts) % c.G, part = tile // (chunks * cuts * c.G)
    cdef int64_t channels = min(a.channels, c.C - channel), taps = min(a.taps, c.T - tap), columns = taps * channels
    cdef int64_t pixels = c.n * a.pixels, per_part = ceil_div(pixels, a.parts), at, panels, first, last
    cdef int64_t begin = min(pixels, part * per_part), count = min(pixels, begin + per_part) - begin
    cdef float* dw = a.dw + part * a.part_stride + ((group * c.T + tap) * c.C + channel) * c.K
    cdef const float* gy
    cdef const float* matrix
    cdef int64_t lda
    if not count:
        memset(dw, 0, columns * c.K * sizeof(float))
        return
    take_columns(panel, a, group, tap, taps, channel, channels)
    panel.panel = <float*> scratch
    panels = ceil_div(count, a.rows)
    for at in range(panels):
        first = begin + count * at // panels
        last = begin + count * (at + 1) // panels
        gy = c.y + first * c.ldy + group * c.K
        matrix, lda = panel.x + first * c.ldx, c.ldx
        if not a.direct:
            panel.panel_begin, panel.panel_end = first, last
            a.gather.run(panel, 0, 1, NULL)
            matrix, lda = panel.panel, columns
        gemm_run(a.gemm, True, False, columns, c.K, last - first, matrix, lda, gy, c.ldy, at > 0, dw, c.K,
                 products_own(a, scratch))


cdef void weight_run(const void* args, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    cdef const PanelArgs* a = <const PanelArgs*> args
    cdef ConvArgs panel = a.conv
    cdef int64_t tile
    cdef int state = enter_thread(a.gemm)
    for tile in range(begin, end):
        weight_tile(a, &panel, tile, scratch)
    leave_thread(a.gemm, state)


cdef FcKernel weight_kernel = FcKernel("f32_conv_im2col_backward_weight", weight_tiles, weight_run, panel_scratch)


def backward_weight(dict geometry, *, size_t x, size_t gy, ldy, size_t dw, parts, part_stride) -> Step:
    """Partial sums of the weight gradient: `parts` ranges of pixels, part_stride floats apart (see sum_partials)."""
    cdef Step step = Step()
    cdef PanelArgs* a = bind(step, &weight_kernel, geometry)
    cdef ConvArgs* c = &a.conv
    c.x, c.y, c.ldy = <const float*> x, <float*> gy, ldy
    a.dw, a.parts, a.part_stride = <float*> dw, parts, part_stride
    cut_weight(a)
    return step


def weight_tiles_per_part(dict geometry) -> int:
    """Into how many tiles backward_weight cuts one part of this problem."""
    cdef Step step = Step()
    cdef PanelArgs* a = bind(step, &weight_kernel, geometry)
    a.parts = 1
    cut_weight(a)
    return weight_tiles(a, 1)


cdef void cut_weight(PanelArgs* a) noexcept:
    cdef ConvArgs* c = &a.conv
    # The tile of dw stays in the cache while panels go by; at most a quarter of all columns, for the sake of threads.
    cut_columns(a, max(64, min(PANEL // c.K, ceil_div(c.T * c.C, 4))))
    a.rows = max(ROWS, PANEL // (a.taps * a.channels + c.K))


# ---- unfold and fold ------------------------------------------------------------------------------------------------

def unfold(dict geometry, *, size_t x, size_t y, ldy) -> Step:
    """torch.nn.functional.unfold on channels-last buffers: a row of channels * taps values per output pixel."""
    return _windows("f32_unfold", geometry, x, y, ldy)


def fold(dict geometry, *, size_t x, size_t y, ldy) -> Step:
    """torch.nn.functional.fold, the adjoint of unfold: the rows of y summed into x, which is written."""
    return _windows("f32_fold", geometry, x, y, ldy)


cdef Step _windows(str kernel, dict geometry, size_t x, size_t y, ldy):
    cdef Step step = Step()
    cdef ConvArgs* a = <ConvArgs*> step.bind_name(kernel, sizeof(ConvArgs))
    fill(step, a, geometry)
    a.x, a.y, a.ldy = <const float*> x, <float*> y, ldy
    return step
