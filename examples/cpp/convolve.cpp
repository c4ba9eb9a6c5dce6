// A 3x3 convolution with bias and ReLU over a channels-last image, and a check against the definition.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "fastconv/conv/args.h"
#include "fastconv/dispatch.h"
#include "fastconv/fpenv.h"

static const FcKernel* kernels[FC_KERNEL_COUNT];

// Runs a kernel on one image: cut it into tiles, give each thread scratch of its own, hand out the tiles.
static void run(int id, void* args) {
    const FcKernel* kernel = kernels[id];
    const int64_t tiles = kernel->tiles(args, 1);
    const size_t bytes = kernel->scratch(args) + 64;
#pragma omp parallel
    {
        void* scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
        const uint64_t mode = fc_fp_enter();  // denormals are flushed while kernels run
#pragma omp for
        for (int64_t t = 0; t < tiles; ++t) kernel->run(args, t, t + 1, scratch);
        fc_fp_leave(mode);
        free(scratch);
    }
}

int main() {
    int level = FC_PORTABLE;
    for (int i = 0; i < FC_ISA_COUNT; ++i)
        if (fc_detect_isa() & fc_compiled_isa() & (1u << i)) level = i;
    fc_resolve(level, kernels);

    const int64_t H = 14, W = 17, C = 24, K = 40;
    std::vector<float> x(H * W * C), y(H * W * K), w(K * C * 9), bias(K), zeros(C);
    srand(1);
    for (float& v : x) v = (float)(rand() % 2001 - 1000) / 1000;
    for (float& v : w) v = (float)(rand() % 2001 - 1000) / 1000;
    for (float& v : bias) v = (float)(rand() % 2001 - 1000) / 1000;

    // Weights from PyTorch's layout (K, C, 3, 3) into the kernel's: blocks of filters, rounded up to whole vectors.
    std::vector<int32_t> numbers, offsets;
    for (int32_t r = 0; r < 3; ++r)
        for (int32_t s = 0; s < 3; ++s) {
            numbers.push_back(3 * r + s);
            offsets.insert(offsets.end(), {0, r - 1, s - 1});  // where a tap reads: padding 1
        }
    const int64_t rounded = (K + 31) / 32 * 32;
    float* packed = static_cast<float*>(aligned_alloc(64, sizeof(float) * rounded * C * 9));
    PackArgs pack = {};
    pack.flat = w.data(), pack.packed = packed, pack.taps = numbers.data();
    pack.G = 1, pack.K = K, pack.C = C, pack.T = 9, pack.crun = pack.krun = 1;
    pack.sk = C * 9, pack.sc = 9, pack.st = 1, pack.parts = 1;
    run(FC_ID_f32_pack_weight, &pack);

    ConvArgs conv = {};
    conv.x = x.data(), conv.w = packed, conv.bias = bias.data(), conv.y = y.data(), conv.zeros = zeros.data();
    conv.taps = offsets.data(), conv.G = 1, conv.C = C, conv.K = K, conv.T = 9, conv.ldx = C, conv.ldy = K;
    conv.xD = conv.iD = conv.yD = 1, conv.xH = conv.iH = conv.yH = H, conv.xW = conv.iW = conv.yW = W;
    conv.sd = conv.sh = conv.sw = conv.odd = conv.ohh = conv.oww = conv.multiplier = 1;
    conv.act = FC_ACT_RELU;
    run(FC_ID_f32_conv_direct, &conv);

    double worst = 0;
    for (int64_t h = 0; h < H; ++h)
        for (int64_t v = 0; v < W; ++v)
            for (int64_t k = 0; k < K; ++k) {
                double sum = bias[k];
                for (int64_t r = 0; r < 3; ++r)
                    for (int64_t s = 0; s < 3; ++s)
                        for (int64_t c = 0; c < C; ++c)
                            if (h + r >= 1 && h + r <= H && v + s >= 1 && v + s <= W)
                                sum += (double)x[((h + r - 1) * W + v + s - 1) * C + c] * w[((k * C + c) * 3 + r) * 3 + s];
                const double error = fabs(y[(h * W + v) * K + k] - (sum > 0 ? sum : 0));
                if (!(error <= worst)) worst = error;
            }
    free(packed);
    printf("%s: largest error %.2g\n", fc_isa_names[level], worst);
    return worst < 1e-4 ? 0 : 1;
}
