# cython: language_level=3
"""Steps of the norm family: batch normalisation, that of groups of channels of each image, and normalisation of rows.

A training forward is statistics, merge, apply; an inference forward is fixed (once per version of the parameters) and
apply; a backward is backward_sums, backward_merge, backward_data, of which fixed statistics need the first two only for
the gradients of gamma and beta. Buffers that go between them: `part`, part_bytes(channels, parts) bytes that each
direction uses up within itself, `stats`, float[STATS_ROWS][channels], which the backward needs as well, and `coef`,
float[2][channels]. `pixels` is D * H * W of one image.

Groups of channels have all of these of each image: `image_parts` ranges, stats float[n][STATS_ROWS][channels], and between the
passes over memory, which are the same, group_merge and group_backward_merge.
"""

from libc.stdint cimport int64_t

from fastconv.kernels._args_norm cimport GroupNormArgs, NormApplyArgs, NormBackwardArgs, NormMergeArgs, NormStatisticsArgs, RowNormArgs
from fastconv.kernels._runtime cimport Step

STATS_ROWS = 5
MAX_PARTS = 128

ACTIVATIONS = {None: 0, "relu": 1, "clip": 2, "leaky_relu": 3}


def cut(batch, pixels, channels) -> tuple:
    """How many pixels a range of the statistics has and how many ranges there are: (per_part, parts).

    Made from the planned problem; a smaller batch uses fewer ranges of the same length.
    """
    total = batch * pixels
    per_part = max(64, 32768 // min(max(channels, 1), 256), -(-total // MAX_PARTS))
    per_part = -(-per_part // 64) * 64
    return per_part, max(1, -(-total // per_part))


def part_bytes(channels, parts) -> int:
    """Bytes of the work buffer `part`."""
    return parts * 2 * channels * 8


def statistics(size_t x, size_t part, *, channels, pixels, ld, per_part, image_parts=0) -> Step:
    """Mean and sum of squared deviations of each range of pixels, per channel."""
    cdef Step step = Step()
    cdef NormStatisticsArgs* a = <NormStatisticsArgs*> step.bind_name("f32_batchnorm_statistics",
                                                                     sizeof(NormStatisticsArgs))
    a.x = <const float*> x
    a.part = <double*> part
    a.pixels = pixels
    a.C = channels
    a.ld = ld
    a.per_part = per_part
    a.image_parts = image_parts
    return step


def merge(size_t part, size_t stats, *, channels, pixels, per_part, eps, size_t gamma=0, size_t beta=0,
          size_t running_mean=0, size_t running_var=0, size_t batches=0, momentum=None) -> Step:
    """The batch's statistics from those of the ranges; updates the running ones where they are given.

    momentum None is the cumulative average: `batches` is the address of an int64, the batches before this one.
    """
    if momentum is None and running_mean and not batches:
        raise ValueError("batch_norm: momentum=None needs num_batches_tracked")
    cdef Step step = Step()
    cdef NormMergeArgs* a = <NormMergeArgs*> step.bind_name("f32_batchnorm_merge", sizeof(NormMergeArgs))
    a.part = <const double*> part
    a.stats = <float*> stats
    a.gamma = <const float*> gamma
    a.beta = <const float*> beta
    a.running_mean = <float*> running_mean
    a.running_var = <float*> running_var
    a.batches = <const int64_t*> batches
    a.pixels = pixels
    a.C = channels
    a.per_part = per_part
    a.eps = eps
    a.momentum = momentum if momentum is not None else -1.0 if running_mean else 0.0
    return step


def fixed(size_t running_mean, size_t running_var, size_t stats, *, channels, eps, size_t gamma=0,
          size_t beta=0) -> Step:
    """stats from the running statistics, whatever the batch; computed in double."""
    cdef Step step = Step()
    cdef NormMergeArgs* a = <NormMergeArgs*> step.bind_name("f32_batchnorm_fixed", sizeof(NormMergeArgs))
    a.running_mean = <float*> running_mean
    a.running_var = <float*> running_var
    a.stats = <float*> stats
    a.gamma = <const float*> gamma
    a.beta = <const float*> beta
    a.C = channels
    a.eps = eps
    return step


def apply(size_t x, size_t stats, size_t y, *, channels, pixels, ldx, ldy, size_t residual=0, ldr=0, act=None,
          act_a=0.0, act_b=0.0, size_t batches=0, own=False) -> Step:
    """y = act((x - mean) * scale + shift + residual); y may be x. Counts the int64 at `batches` up by one.

    `own`: each image has statistics of its own."""
    cdef Step step = Step()
    cdef NormApplyArgs* a = <NormApplyArgs*> step.bind_name("f32_batchnorm_apply", sizeof(NormApplyArgs))
    a.x = <const float*> x
    a.stats = <const float*> stats
    a.residual = <const float*> residual
    a.y = <float*> y
    a.batches = <int64_t*> batches
    a.pixels = pixels
    a.C = channels
    a.ldx = ldx
    a.ldy = ldy
    a.ldr = ldr
    a.own = bool(own)
    a.act = ACTIVATIONS[act]
    a.act_a = act_a
    a.act_b = act_b
    return step


cdef void _activation(NormBackwardArgs* a, act, act_a, act_b) except *:
    if act == "leaky_relu":
        raise ValueError("batch_norm: the backward has no fused leaky_relu")
    a.act = ACTIVATIONS[act]
    a.act_a = act_a
    a.act_b = act_b


def backward_sums(size_t x, size_t gy, size_t stats, size_t part, *, channels, pixels, ldx, ldg, per_part, act=None,
                  act_a=0.0, act_b=0.0, image_parts=0) -> Step:
    """Sums of g and of g * (x - mean) over each range of pixels; `act` is what apply did behind the normalisation."""
    cdef Step step = Step()
    cdef NormBackwardArgs* a = <NormBackwardArgs*> step.bind_name("f32_batchnorm_backward_sums",
                                                                 sizeof(NormBackwardArgs))
    a.x = <const float*> x
    a.gy = <const float*> gy
    a.stats = <const float*> stats
    a.part = <double*> part
    a.pixels = pixels
    a.C = channels
    a.ldx = ldx
    a.ldg = ldg
    a.per_part = per_part
    a.image_parts = image_parts
    _activation(a, act, act_a, act_b)
    return step


def backward_merge(size_t part, size_t stats, *, channels, pixels, per_part, training, size_t coef=0,
                   size_t grad_gamma=0, size_t grad_beta=0) -> Step:
    """The gradients of gamma and beta (where wanted) and, in training, what backward_data needs of the sums."""
    cdef Step step = Step()
    cdef NormBackwardArgs* a = <NormBackwardArgs*> step.bind_name("f32_batchnorm_backward_merge",
                                                                 sizeof(NormBackwardArgs))
    a.part = <double*> part
    a.stats = <const float*> stats
    a.coef = <float*> coef
    a.ggamma = <float*> grad_gamma
    a.gbeta = <float*> grad_beta
    a.pixels = pixels
    a.C = channels
    a.per_part = per_part
    a.training = bool(training)
    return step


def backward_data(size_t gy, size_t stats, size_t gx, *, channels, pixels, ldg, ldgx, training, size_t x=0, ldx=0,
                  size_t coef=0, act=None, act_a=0.0, act_b=0.0, image_parts=0) -> Step:
    """The gradient of x; gx may be gy. coef is read in training only, x there and where there is an activation."""
    cdef Step step = Step()
    cdef NormBackwardArgs* a = <NormBackwardArgs*> step.bind_name("f32_batchnorm_backward_data",
                                                                 sizeof(NormBackwardArgs))
    a.x = <const float*> x
    a.gy = <const float*> gy
    a.stats = <const float*> stats
    a.coef = <float*> coef
    a.gx = <float*> gx
    a.pixels = pixels
    a.C = channels
    a.ldx = ldx
    a.ldg = ldg
    a.ldgx = ldgx
    a.image_parts = image_parts
    a.training = bool(training)
    _activation(a, act, act_a, act_b)
    return step


# ---- groups of channels ------------------------------------------------------------------------------------------------

cdef Step _groups(str kernel, size_t part, size_t stats, size_t gamma, channels, pixels, groups, per_part, image_parts):
    cdef Step step = Step()
    cdef GroupNormArgs* a = <GroupNormArgs*> step.bind_name(kernel, sizeof(GroupNormArgs))
    a.part, a.stats, a.gamma = <double*> part, <float*> stats, <const float*> gamma
    a.C, a.pixels, a.groups, a.per_part, a.image_parts = channels, pixels, groups, per_part, image_parts
    return step


def group_merge(size_t part, size_t stats, *, channels, pixels, groups, per_part, image_parts, eps, size_t gamma=0,
                size_t beta=0) -> Step:
    """The statistics of each image from those of its ranges, one mean and variance for each of `groups` groups of channels."""
    cdef Step step = _groups("f32_groupnorm_merge", part, stats, gamma, channels, pixels, groups, per_part, image_parts)
    cdef GroupNormArgs* a = <GroupNormArgs*> step.c.args
    a.beta, a.eps = <const float*> beta, eps
    return step


def group_backward_merge(size_t part, size_t stats, *, channels, pixels, groups, per_part, image_parts, size_t gamma=0,
                         size_t coef=0) -> Step:
    """What backward_data needs of the sums, in `coef`, where wanted; leaves to group_backward_weight what it adds up."""
    cdef Step step = _groups("f32_groupnorm_backward_merge", part, stats, gamma, channels, pixels, groups, per_part, image_parts)
    (<GroupNormArgs*> step.c.args).coef = <float*> coef
    return step


def group_backward_weight(size_t part, *, channels, image_parts, size_t grad_gamma=0, size_t grad_beta=0) -> Step:
    """The gradients of gamma and beta, where wanted: sums over images of what group_backward_merge left in `part`."""
    cdef Step step = _groups("f32_groupnorm_backward_weight", part, 0, 0, channels, 0, 1, 0, image_parts)
    cdef GroupNormArgs* a = <GroupNormArgs*> step.c.args
    a.ggamma, a.gbeta = <float*> grad_gamma, <float*> grad_beta
    return step


# ---- rows ---------------------------------------------------------------------------------------------------------------

LONGEST_ROW = 1 << 17  # values: of a row that stays in the second-level cache


def cut_rows(rows, channels) -> tuple:
    """How many rows a range of the backward has and how many ranges there are, of the planned problem: (per_part, parts)."""
    per_part = max(32, 16384 // max(channels, 1), -(-rows // MAX_PARTS))
    return per_part, max(1, -(-rows // per_part))


cdef Step _rows(str kernel, size_t x, size_t y, size_t mean, size_t rstd, size_t weight, rows, channels, ldx, ldy):
    cdef Step step = Step()
    cdef RowNormArgs* a = <RowNormArgs*> step.bind_name(kernel, sizeof(RowNormArgs))
    a.x, a.y, a.weight = <const float*> x, <float*> y, <const float*> weight
    a.mean, a.rstd, a.centred = <float*> mean, <float*> rstd, mean != 0
    a.rows, a.C, a.ldx, a.ldy = rows, channels, ldx, ldy
    return step


def rows(size_t x, size_t y, size_t rstd, *, rows, channels, ldx, ldy, eps, size_t mean=0, size_t weight=0, size_t bias=0, run=1,
         cycle=1) -> Step:
    """Each of `rows` rows per image normalised; without `mean` (of a value per row, as rstd) only by the mean of its squares.

    A weight and a bias are of ``run`` values behind one another, and there are as many as ``cycle`` rows have."""
    cdef Step step = _rows("f32_row_norm", x, y, mean, rstd, weight, rows, channels, ldx, ldy)
    cdef RowNormArgs* a = <RowNormArgs*> step.c.args
    a.bias, a.eps, a.run, a.cycle = <const float*> bias, eps, run, cycle
    return step


def rows_backward(size_t gy, size_t x, size_t rstd, *, rows, channels, ldg, ldx, per_part, size_t gx=0, ldgx=0, size_t mean=0,
                  size_t weight=0, size_t part=0) -> Step:
    """The gradient of x, and in `part`, float[parts][2][channels], what rows_merge makes the weights' of: either where wanted."""
    cdef Step step = _rows("f32_row_norm_backward", x, gx, mean, rstd, weight, rows, channels, ldx, ldgx)
    cdef RowNormArgs* a = <RowNormArgs*> step.c.args
    a.gy, a.ldg, a.part, a.per_part = <const float*> gy, ldg, <float*> part, per_part
    return step


def rows_merge(size_t part, *, rows, channels, per_part, size_t grad_weight=0, size_t grad_bias=0) -> Step:
    """The gradients of weight and bias, where wanted, from those of the ranges."""
    cdef Step step = Step()
    cdef RowNormArgs* a = <RowNormArgs*> step.bind_name("f32_row_norm_merge", sizeof(RowNormArgs))
    a.part, a.rows, a.C, a.per_part = <float*> part, rows, channels, per_part
    a.gweight, a.gbias = <float*> grad_weight, <float*> grad_bias
    return step
