// Convolutions that are exact only up to rounding: Winograd, Fourier, and over bfloat16 planes.
#include "problem.h"

// ---- Winograd -------------------------------------------------------------------------------------------------------

static WinogradPixels winograd_pixels(int64_t H, int64_t W, int64_t ld) { return {{1, H, W}, {H * W, W, 1}, H * W, ld}; }

static void winograd(Bench& b, const Problem& p, int64_t m, double tolerance) {
    const Floats x = b.uniform(p.inputs()), gy = b.uniform(p.outputs()), zeros(p.G * (p.C + p.K));
    Floats w = b.uniform(p.weights()), packed = poison(p.packed()), u = poison(p.packed() / 9 * (m + 2) * (m + 2));
    const std::vector<int32_t> numbers = p.numbers();
    PackArgs pack = p.packing(numbers, w.data(), packed.data());
    b.run(FC_ID_f32_pack_weight, &pack, 1);
    WinogradWeightArgs transform = {1, packed.data(), u.data(), nullptr, p.G, p.C, p.K, 1, m, m};
    b.run(FC_ID_f32_winograd_weight, &transform, 1);
    Floats y = poison(p.outputs());
    WinogradArgs a = {};
    a.x = x.data(), a.u = u.data(), a.w = packed.data(), a.y = y.data(), a.zeros = zeros.data();
    a.px = winograd_pixels(p.H, p.W, p.G * p.C), a.py = winograd_pixels(p.P(), p.Q(), p.G * p.K);
    a.G = p.G, a.C = p.C, a.K = p.K, a.R = 1, a.mh = a.mw = m;
    a.origin[1] = a.origin[2] = -p.padding, a.tiles = 5, a.blocks = 1;
    b.run(FC_ID_f32_conv_winograd, &a, p.n);
    const std::string name = "winograd " + std::to_string(m) + " " + p.name;
    b.expect(name, y, p.forward(x, w), tolerance);

    Floats sums = poison(2 * p.packed()), gw = poison(p.weights());
    WinogradGradientArgs g = {};
    g.x = x.data(), g.gy = gy.data(), g.dw = sums.data(), g.zeros = zeros.data();
    g.px = a.px, g.py = a.py, g.G = p.G, g.C = p.C, g.K = p.K, g.R = 1, g.mh = g.mw = m;
    g.origin[1] = g.origin[2] = -p.padding, g.tiles = 5, g.channels = 7, g.blocks = 1;
    g.parts = 2, g.part_stride = p.packed();
    b.run(FC_ID_f32_conv_winograd_backward_weight, &g, p.n);
    PackArgs unpack = p.packing(numbers, gw.data(), sums.data());
    unpack.parts = 2, unpack.part_stride = g.part_stride;
    b.run(FC_ID_f32_unpack_weight, &unpack, 1);
    b.expect(name + " backward to weights", gw, p.backward_weight(x, gy), tolerance);
}

// ---- Fourier --------------------------------------------------------------------------------------------------------

// The factors of the passes over `length` complex elements, then those that split a real transform of twice as many.
static Floats twiddles(int64_t length, const std::vector<int32_t>& radices, bool real, int64_t* split) {
    Floats v;
    int64_t m = length;
    for (int32_t radix : radices) {
        m /= radix;
        for (int64_t i = 1; i < m; ++i)
            for (int64_t j = 1; j < radix; ++j) {
                const double angle = -2 * M_PI * static_cast<double>(i * j) / static_cast<double>(m * radix);
                v.push_back(static_cast<float>(cos(angle))), v.push_back(static_cast<float>(sin(angle)));
            }
    }
    *split = static_cast<int64_t>(v.size());
    for (int64_t k = 0; real && k <= length / 2; ++k) {
        const double angle = M_PI * static_cast<double>(k) / static_cast<double>(length);
        v.push_back(static_cast<float>(cos(angle))), v.push_back(static_cast<float>(-sin(angle)));
    }
    return v;
}

// Square kernels in transforms of 16 x 16 samples; several tiles where the image is larger than one gives.
static void fourier(Bench& b, const Problem& p) {
    constexpr int64_t size = 16, spectrum = size * (size / 2 + 1);
    const std::vector<int32_t> column = {4, 4}, row = {8};
    int64_t split = 0, at = 0;
    const Floats columns = twiddles(16, column, false, &split), rows = twiddles(8, row, true, &at);
    const int64_t tile = size - (p.R - 1), tiles_h = (p.P() + tile - 1) / tile, tiles_w = (p.Q() + tile - 1) / tile;
    const int64_t tiles = p.n * tiles_h * tiles_w, pair = 2 * b.width;
    const int64_t blocks_in = (p.C + b.width - 1) / b.width, blocks_out = (p.K + b.width - 1) / b.width;

    const Floats x = b.uniform(p.inputs()), w = b.uniform(p.weights()), gy = b.uniform(p.outputs());
    FftArgs a = {};
    a.axis[0] = {1, 1, 1, 1, 1, p.H * p.W, 1, p.P() * p.Q(), 0, 1, 1, p.taps(), 0, {}, nullptr, nullptr};
    a.axis[1] = {size, tile, tiles_h, size, p.H, p.W, p.P(), p.Q(), p.padding, p.R, 1, p.S, 2, {4, 4}, columns.data(), nullptr};
    a.axis[2] = {size, tile, tiles_w, size, p.W, 1, p.Q(), 1, p.padding, p.S, 1, 1, 1, {8}, rows.data(), rows.data() + at};
    a.G = 1, a.C = p.C, a.K = p.K, a.ldx = p.C, a.ldy = p.K, a.x_image = p.H * p.W, a.y_image = p.P() * p.Q();
    a.scale = 1.0 / (4.0 * size * size), a.sk = p.C * p.taps(), a.sc = p.taps(), a.w = w.data(), a.x = x.data();
    a.count = tiles, a.xs_pitch = (tiles * blocks_in | 1) * pair, a.ys_pitch = (tiles * blocks_out | 1) * pair;
    Floats packed = poison(spectrum * blocks_out * p.C * pair), xs = poison(spectrum * a.xs_pitch);
    Floats ys = poison(spectrum * a.ys_pitch), y = poison(p.outputs()), gw = poison(p.weights());
    a.packed = packed.data(), a.xs = xs.data(), a.ys = ys.data(), a.y = y.data();
    for (int id : {FC_ID_f32_fft_weight, FC_ID_f32_fft_transform, FC_ID_f32_fft_product, FC_ID_f32_fft_inverse})
        b.run(id, &a, p.n);
    b.expect(std::string("fft ") + p.name, y, p.forward(x, w), 1e-6);

    // backward to weights: the spectrum of the gradient, of outputs alone, takes the place of the output's
    FftArgs g = a;
    g.x = gy.data(), g.C = p.K, g.ldx = p.K, g.x_image = a.y_image, g.xs = ys.data(), g.xs_pitch = a.ys_pitch;
    for (FftAxis* axis : {&g.axis[1], &g.axis[2]})
        axis->in = axis->out, axis->in_step = axis->out_step, axis->low = 0, axis->span = axis->tile;
    b.run(FC_ID_f32_fft_transform, &g, p.n);
    a.gy = gy.data(), a.dw = gw.data();
    b.run(FC_ID_f32_fft_product_weight, &a, p.n);
    b.run(FC_ID_f32_fft_inverse_weight, &a, p.n);
    b.expect(std::string("fft backward to weights ") + p.name, gw, p.backward_weight(x, gy), 1e-6);
}

// ---- bfloat16 planes ------------------------------------------------------------------------------------------------

static double plane_value(uint16_t half) {
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// Values of up to 8 bits are one plane, of up to 16 two, of 24 three: then results are exact, too.
static void planes(Bench& b, const Problem& p, int id, int64_t count) {
    const int64_t ldp = p.C + p.C % 2, pixels = p.H * p.W, steps = (p.taps() * ldp + 31) / 32;
    const Floats x = b.whole(p.inputs(), count == 1 ? 127 : 2047), bias = b.whole(p.K);
    Floats w = b.whole(p.weights(), count == 1 ? 31 : 3), y = poison(p.outputs());
    const std::vector<int32_t> taps = p.offsets(), numbers = p.numbers();
    Halves split(static_cast<size_t>(count * p.n * pixels * ldp), 0x7fc0);
    Halves zeros(static_cast<size_t>(ldp));
    Halves packed(static_cast<size_t>((p.K + 15) / 16 * steps * count * 512), 0x7fc0);
    SplitArgs s = {0, x.data(), split.data(), pixels, p.C, p.C, ldp, count, p.n * pixels * ldp};
    b.run(FC_ID_bf16_split, &s, p.n);
    Floats sums = poison(p.inputs());
    for (int64_t i = 0; i < p.n * pixels; ++i)
        for (int64_t c = 0; c < p.C; ++c) {
            double sum = 0;
            for (int64_t k = 0; k < count; ++k) sum += plane_value(split[k * s.plane_stride + i * ldp + c]);
            sums[i * p.C + c] = static_cast<float>(sum);
        }
    b.expect("planes add up", sums, Doubles(x.begin(), x.end()));

    PlanePackArgs pack = {};
    static_cast<PackArgs&>(pack) = p.packing(numbers, w.data(), nullptr);
    pack.out = packed.data(), pack.planes = count, pack.row = p.C;
    b.run(FC_ID_bf16_pack_weight, &pack, 1);
    PlaneConvArgs a = {};
    p.space(a, taps);
    a.x = reinterpret_cast<const float*>(split.data()), a.w = reinterpret_cast<const float*>(packed.data());
    a.y = y.data(), a.bias = bias.data(), a.zeros = reinterpret_cast<const float*>(zeros.data());
    a.ldx = ldp / 2, a.planes = count, a.plane_stride = s.plane_stride;
    b.run(id, &a, p.n);
    Doubles want = p.forward(x, w);
    for (size_t i = 0; i < want.size(); ++i) want[i] += bias[i % p.K];
    b.expect(std::string(b.kernels[id]->name) + " planes " + std::to_string(count) + " " + p.name, y, want);
}

void test_transforms(Bench& b) {
    for (const Problem& p : {Problem{"3x3", 2, 1, 24, 40, 13, 9, 3, 3, 1, 1, 1}, Problem{"groups", 1, 2, 17, 20, 8, 10, 3, 3, 1, 0, 1},
                             Problem{"small", 3, 1, 3, 5, 3, 3, 3, 3, 1, 1, 1}}) {
        winograd(b, p, 2, 1e-6);
        winograd(b, p, 4, 3e-6);
    }
    fourier(b, {"5x5", 2, 1, 6, 21, 11, 10, 5, 5, 1, 2, 1});
    fourier(b, {"7x7, several tiles", 2, 1, 19, 5, 24, 31, 7, 7, 1, 3, 1});
    for (const Problem& p : {Problem{"3x3", 2, 1, 19, 40, 7, 9, 3, 3, 1, 1, 1}, Problem{"1x1", 2, 1, 64, 33, 5, 5, 1, 1, 1, 0, 1},
                             Problem{"stride", 1, 1, 6, 7, 9, 8, 3, 3, 2, 1, 1}}) {
        planes(b, p, FC_ID_bf16_conv_direct, 1);
        for (int64_t count : {1, 2, 3}) planes(b, p, FC_ID_bf16_conv_amx, count);
    }
}
