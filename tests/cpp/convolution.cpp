// Convolutions without transforms: forward, backward to data and to weights, on whole numbers, so that results are exact.
#include "problem.h"

static const Problem kProblems[] = {
    // n G C K  H W  R S  stride padding dilation
    {"3x3", 2, 1, 19, 37, 9, 11, 3, 3, 1, 1, 1},
    {"3x3 stride 2", 1, 1, 16, 32, 10, 13, 3, 3, 2, 1, 1},
    {"5x3 dilation 2", 2, 1, 5, 70, 12, 9, 5, 3, 1, 2, 2},
    {"1x1", 3, 1, 33, 18, 7, 7, 1, 1, 1, 0, 1},
    {"1x1 stride 2", 2, 1, 8, 9, 8, 8, 1, 1, 2, 0, 1},
    {"groups", 2, 3, 6, 10, 6, 7, 3, 3, 1, 1, 1},
    {"few filters", 2, 1, 40, 2, 9, 9, 3, 3, 1, 1, 1},
    {"one channel", 2, 1, 1, 6, 12, 12, 5, 5, 1, 0, 1},
    {"one pixel", 1, 1, 3, 5, 1, 1, 3, 3, 1, 1, 1},
    {"wide", 1, 1, 4, 130, 5, 6, 2, 2, 1, 0, 1},
};

// `block`: filters per block; 0: as this level's f32_conv_direct reads them.
static Floats packed_weights(Bench& b, const Problem& p, Floats w, bool back = false, int64_t block = 0) {
    Floats packed = poison(p.packed(back));
    const std::vector<int32_t> numbers = p.numbers();
    PackArgs a = p.packing(numbers, w.data(), packed.data(), back);
    a.block = block;
    b.run(FC_ID_f32_pack_weight, &a, 1);
    return packed;
}

static void forward(Bench& b, const Problem& p, int id, const Floats& x, const Floats& w) {
    const bool few = id == FC_ID_f32_conv_few;  // reads [group][tap][filter][channel]
    const Floats packed = packed_weights(b, p, w, few, few ? p.C : 0), zeros(p.C);
    const Floats bias = b.whole(p.G * p.K), added = b.whole(p.outputs());
    const std::vector<int32_t> taps = p.offsets();
    Doubles want = p.forward(x, w);
    Floats y = poison(p.outputs());
    ConvArgs a = {};
    p.space(a, taps);
    a.x = x.data(), a.w = packed.data(), a.y = y.data(), a.zeros = zeros.data();
    b.run(id, &a, p.n);
    b.expect(std::string(b.kernels[id]->name) + " " + p.name, y, want);

    for (size_t i = 0; i < want.size(); ++i) want[i] = fmax(0, want[i] + bias[i % (p.G * p.K)] + added[i]);
    a.bias = bias.data(), a.residual = added.data(), a.ldr = p.G * p.K, a.act = FC_ACT_RELU;
    b.run(id, &a, p.n);
    b.expect(std::string(b.kernels[id]->name) + " with bias, residual, relu " + p.name, y, want);
}

// The gradient to data of a convolution of stride 1 is a convolution of the gradient: taps and channels turned round.
static void backward_data(Bench& b, const Problem& p, const Floats& gy, const Floats& w) {
    const Floats packed = packed_weights(b, p, w, true), zeros(p.K);
    const std::vector<int32_t> taps = p.offsets(true);
    Floats gx = poison(p.inputs());
    ConvArgs a = {};
    p.space(a, taps);
    a.x = gy.data(), a.w = packed.data(), a.y = gx.data(), a.zeros = zeros.data();
    a.C = p.K, a.K = p.C, a.ldx = p.G * p.K, a.ldy = p.G * p.C;
    a.xH = p.P(), a.xW = p.Q(), a.iH = a.yH = p.H, a.iW = a.yW = p.W;
    b.run(FC_ID_f32_conv_direct, &a, p.n);
    b.expect(std::string("backward to data ") + p.name, gx, p.backward_data(gy, w));
}

static void backward_weight(Bench& b, const Problem& p, const Floats& x, const Floats& gy) {
    const std::vector<int32_t> taps = p.offsets(), numbers = p.numbers();
    const Floats zeros(p.G * p.K + p.G * p.C);
    for (int64_t parts : {1, 3}) {
        Floats sums = poison(parts * p.packed()), gw = poison(p.weights());
        ConvWeightArgs a = {};
        p.input(a, taps);
        a.x = x.data(), a.gy = gy.data(), a.dw = sums.data(), a.zeros = zeros.data();
        a.parts = parts, a.part_stride = p.packed();
        b.run(FC_ID_f32_conv_backward_weight, &a, p.n);
        PackArgs unpack = p.packing(numbers, gw.data(), sums.data());
        unpack.parts = parts, unpack.part_stride = a.part_stride;
        b.run(FC_ID_f32_unpack_weight, &unpack, 1);
        b.expect(std::string("backward to weights ") + p.name, gw, p.backward_weight(x, gy));
    }
}

// One group: a panel of all pixels, times the weights as [tap][channel][filter]; and back.
static void im2col(Bench& b, const Problem& p, const Floats& x, const Floats& gy, const Floats& w) {
    const std::vector<int32_t> taps = p.offsets();
    const int64_t pixels = p.n * p.P() * p.Q(), columns = p.taps() * p.C;
    Floats panel = poison(pixels * columns), y = poison(p.outputs()), gx(p.inputs()), zeros(p.C), turned(p.weights());
    for (int64_t k = 0; k < p.K; ++k)
        for (int64_t c = 0; c < p.C; ++c)
            for (int64_t t = 0; t < p.taps(); ++t) turned[(t * p.C + c) * p.K + k] = w[(k * p.C + c) * p.taps() + t];
    ConvArgs a = {};
    p.space(a, taps);
    a.x = x.data(), a.zeros = zeros.data(), a.panel = panel.data(), a.panel_end = pixels;
    b.run(FC_ID_f32_im2col, &a, p.n);
    GemmArgs product = {};
    product.a = panel.data(), product.b = turned.data(), product.c = y.data();
    product.M = pixels, product.N = product.b_row = product.ldc = p.K, product.K = product.a_row = columns;
    product.a_column = product.b_column = 1;
    b.run(FC_ID_f32_gemm, &product, 1);
    b.expect(std::string("im2col ") + p.name, y, p.forward(x, w));

    product.a = gy.data(), product.b = turned.data(), product.c = panel.data();  // the panel of the gradient
    product.a_row = product.K = p.K, product.N = product.ldc = columns, product.b_row = 1, product.b_column = p.K;
    b.run(FC_ID_f32_gemm, &product, 1);
    a.x = gx.data();
    b.run(FC_ID_f32_col2im, &a, p.n);
    b.expect(std::string("col2im ") + p.name, gx, p.backward_data(gy, w));
}

// Depthwise weights are [vector of filters][tap][filter].
static void depthwise(Bench& b, int64_t G, int64_t k, int64_t stride, int64_t dilation) {
    const Problem p = {"depthwise", 2, G, 1, 1, 13, 10, k, k, stride, k / 2 * dilation, dilation};
    const Floats x = b.whole(p.inputs()), w = b.whole(p.weights()), gy = b.whole(p.outputs()), bias = b.whole(G);
    Floats packed = poison(p.weights()), sums = poison(2 * p.weights()), y = poison(p.outputs()), gw = poison(p.weights());
    auto place = [&](int64_t g, int64_t t) {
        const int64_t first = g / b.width * b.width, count = G - first < b.width ? G - first : b.width;
        return first * p.taps() + t * count + g - first;
    };
    for (int64_t g = 0; g < G; ++g)
        for (int64_t t = 0; t < p.taps(); ++t) packed[place(g, t)] = w[g * p.taps() + t];
    DepthwiseArgs a = {};
    a.x = x.data(), a.w = packed.data(), a.bias = bias.data(), a.y = y.data();
    a.G = a.ldx = a.ldy = G, a.C = a.K = 1;
    a.xD = a.iD = a.yD = a.kD = a.sd = a.dd = a.odd = a.ohh = a.oww = 1;
    a.xH = p.H, a.xW = p.W, a.iH = a.yH = p.P(), a.iW = a.yW = p.Q(), a.kH = a.kW = k;
    a.sh = a.sw = stride, a.dh = a.dw_ = dilation, a.ph = a.pw = p.padding;
    Doubles want = p.forward(x, w);
    for (size_t i = 0; i < want.size(); ++i) want[i] += bias[i % G];
    const std::string name = "depthwise " + std::to_string(G) + " kernel " + std::to_string(k) + " stride " +
                             std::to_string(stride) + " dilation " + std::to_string(dilation);
    b.run(FC_ID_f32_conv_depthwise, &a, p.n);
    b.expect(name, y, want);

    a.gy = gy.data(), a.dw = sums.data(), a.parts = 2, a.part_stride = p.weights();
    b.run(FC_ID_f32_conv_depthwise_backward_weight, &a, p.n);
    for (int64_t g = 0; g < G; ++g)
        for (int64_t t = 0; t < p.taps(); ++t)
            gw[g * p.taps() + t] = sums[place(g, t)] + sums[place(g, t) + p.weights()];
    b.expect(name + " backward to weights", gw, p.backward_weight(x, gy));
}

static void linear(Bench& b, int64_t n, int64_t C, int64_t K) {
    const Problem p = {"linear", n, 1, C, K, 1, 1, 1, 1, 1, 0, 1};
    const Floats x = b.whole(p.inputs()), w = b.whole(p.weights()), packed = packed_weights(b, p, w), bias = b.whole(K);
    Floats y = poison(p.outputs());
    Doubles want = p.forward(x, w);
    for (size_t i = 0; i < want.size(); ++i) want[i] += bias[i % K];
    LinearArgs a = {};
    a.x = x.data(), a.w = packed.data(), a.bias = bias.data(), a.y = y.data(), a.C = a.ldx = C, a.K = a.ldy = K;
    b.run(FC_ID_f32_linear, &a, n);
    b.expect("linear", y, want);
}

void test_convolution(Bench& b) {
    for (const Problem& p : kProblems) {
        const Floats x = b.whole(p.inputs()), w = b.whole(p.weights()), gy = b.whole(p.outputs());
        forward(b, p, FC_ID_f32_conv_direct, x, w);
        if (p.R == 1 && p.stride == 1) forward(b, p, FC_ID_f32_conv_pointwise, x, w);
        if (p.K <= (b.width > 4 ? b.width / 2 : b.width)) forward(b, p, FC_ID_f32_conv_few, x, w);
        if (p.stride == 1) backward_data(b, p, gy, w);
        backward_weight(b, p, x, gy);
        if (p.G == 1) im2col(b, p, x, gy, w);
    }
    for (int64_t stride : {1, 2})
        for (int64_t G : {3, 21, 64}) {
            depthwise(b, G, 3, stride, 1);
            depthwise(b, G, 5, stride, 2);
        }
    linear(b, 1, 120, 84);
    linear(b, 19, 33, 70);
}
