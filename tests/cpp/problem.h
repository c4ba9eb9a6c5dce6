// A two-dimensional convolution: its definition in double, and its terms for the kernels.
#ifndef FASTCONV_TESTS_PROBLEM_H
#define FASTCONV_TESTS_PROBLEM_H

#include "harness.h"

// Channels-last activations; weights (G * K, C, R, S) as PyTorch has them; C and K are per group.
struct Problem {
    const char* name;
    int64_t n, G, C, K, H, W, R, S, stride, padding, dilation;

    int64_t P() const { return (H + 2 * padding - dilation * (R - 1) - 1) / stride + 1; }
    int64_t Q() const { return (W + 2 * padding - dilation * (S - 1) - 1) / stride + 1; }
    int64_t taps() const { return R * S; }
    int64_t inputs() const { return n * H * W * G * C; }
    int64_t outputs() const { return n * P() * Q() * G * K; }
    int64_t weights() const { return G * K * C * taps(); }

    // Calls f(index of x, index of w, index of y) for every product of the convolution.
    template <class F>
    void products(F f) const {
        for (int64_t i = 0; i < n; ++i)
            for (int64_t p = 0; p < P(); ++p)
                for (int64_t q = 0; q < Q(); ++q)
                    for (int64_t r = 0; r < R; ++r)
                        for (int64_t s = 0; s < S; ++s) {
                            const int64_t h = p * stride + r * dilation - padding, w = q * stride + s * dilation - padding;
                            if (h < 0 || h >= H || w < 0 || w >= W) continue;
                            for (int64_t k = 0; k < G * K; ++k)
                                for (int64_t c = 0; c < C; ++c)
                                    f(((i * H + h) * W + w) * G * C + k / K * C + c, ((k * C + c) * R + r) * S + s,
                                      ((i * P() + p) * Q() + q) * G * K + k);
                        }
    }
    Doubles forward(const Floats& x, const Floats& w) const {
        Doubles y(static_cast<size_t>(outputs()));
        products([&](int64_t i, int64_t j, int64_t o) { y[o] += static_cast<double>(x[i]) * w[j]; });
        return y;
    }
    Doubles backward_data(const Floats& gy, const Floats& w) const {
        Doubles gx(static_cast<size_t>(inputs()));
        products([&](int64_t i, int64_t j, int64_t o) { gx[i] += static_cast<double>(gy[o]) * w[j]; });
        return gx;
    }
    Doubles backward_weight(const Floats& x, const Floats& gy) const {
        Doubles gw(static_cast<size_t>(weights()));
        products([&](int64_t i, int64_t j, int64_t o) { gw[j] += static_cast<double>(x[i]) * gy[o]; });
        return gw;
    }

    // Where taps read, relative to the first pixel of the window: forward, or from the output back to the input.
    std::vector<int32_t> offsets(bool back = false) const {
        std::vector<int32_t> v;
        for (int64_t r = 0; r < R; ++r)
            for (int64_t s = 0; s < S; ++s)
                for (int64_t at : {int64_t{0}, r * dilation - padding, s * dilation - padding})
                    v.push_back(static_cast<int32_t>(back ? -at : at));
        return v;
    }
    std::vector<int32_t> numbers() const {
        std::vector<int32_t> v;
        for (int32_t t = 0; t < taps(); ++t) v.push_back(t);
        return v;
    }

    // `back`: filters and channels exchanged, for the gradient to data.
    PackArgs packing(const std::vector<int32_t>& numbers, float* flat, float* packed, bool back = false) const {
        PackArgs a = {};
        a.flat = flat, a.packed = packed, a.taps = numbers.data();
        a.G = G, a.K = back ? C : K, a.C = back ? K : C, a.T = taps(), a.crun = a.krun = 1;
        a.sg = K * C * taps(), a.sk = back ? taps() : C * taps(), a.sc = back ? C * taps() : taps(), a.st = 1;
        a.parts = 1;
        return a;
    }
    // Floats of packed weights, with room for the widest block.
    int64_t packed(bool back = false) const {
        return G * taps() * (back ? K : C) * (((back ? C : K) + 31) / 32 * 32);
    }

    // Everything but the operands, for ConvArgs and the structures that begin like it.
    template <class Args>
    void input(Args& a, const std::vector<int32_t>& taps_at) const {
        a.taps = taps_at.data(), a.G = G, a.C = C, a.K = K, a.T = taps(), a.multiplier = 1;
        a.ldx = G * C, a.ldy = G * K;
        a.xD = a.iD = 1, a.xH = H, a.xW = W, a.iH = P(), a.iW = Q();
        a.sd = 1, a.sh = a.sw = stride;
    }
    template <class Args>
    void space(Args& a, const std::vector<int32_t>& taps_at) const {
        input(a, taps_at);
        a.yD = 1, a.yH = P(), a.yW = Q();
        a.odd = a.ohh = a.oww = 1;
    }
};

#endif
