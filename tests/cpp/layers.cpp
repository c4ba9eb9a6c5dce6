// Everything around convolutions: pooling, normalisation, activations, losses, updates, the door.
#include "harness.h"

#include "fastconv/update/args.h"

// ---- pooling: k x k windows, against a loop over the windows ----------------------------------------------------------

struct Pooling {
    int64_t n, C, H, W, k, stride, padding;
    int64_t P() const { return (H + 2 * padding - k) / stride + 1; }
    int64_t Q() const { return (W + 2 * padding - k) / stride + 1; }
    // Calls f(output value, input value, tap) for all taps inside, in order.
    template <class F>
    void windows(F f) const {
        for (int64_t i = 0; i < n; ++i)
            for (int64_t p = 0; p < P(); ++p)
                for (int64_t q = 0; q < Q(); ++q)
                    for (int64_t t = 0; t < k * k; ++t) {
                        const int64_t h = p * stride + t / k - padding, w = q * stride + t % k - padding;
                        if (h < 0 || h >= H || w < 0 || w >= W) continue;
                        for (int64_t c = 0; c < C; ++c)
                            f(((i * P() + p) * Q() + q) * C + c, ((i * H + h) * W + w) * C + c, t);
                    }
    }
};

template <class Index>
static void max_pooling(Bench& b, const Pooling& p, PoolArgs a, int forward, int backward, const Floats& x, const Floats& gy) {
    const size_t outputs = gy.size();
    Doubles best(outputs, -INFINITY), gx(x.size()), winner(outputs);
    std::vector<int64_t> source(outputs, -1);
    p.windows([&](int64_t o, int64_t i, int64_t t) {
        if (x[i] > best[o]) best[o] = x[i], winner[o] = static_cast<double>(t), source[o] = i;
    });
    for (size_t o = 0; o < outputs; ++o) gx[source[o]] += gy[o];
    Floats y = poison(outputs), found = poison(outputs), back = poison(x.size());
    std::vector<Index, Guarded<Index>> index(outputs);
    a.x = const_cast<float*>(x.data()), a.y = y.data(), a.index = index.data(), a.ldi = p.C;
    b.run(FC_ID_f32_maxpool, &a, p.n);
    b.expect("max pooling", y, best);
    y.assign(outputs, NAN);
    b.run(forward, &a, p.n);
    for (size_t o = 0; o < outputs; ++o) found[o] = static_cast<float>(index[o]);
    b.expect("max pooling with index", y, best);
    b.expect("winners", found, winner);
    a.x = back.data(), a.y = const_cast<float*>(gy.data());
    b.run(backward, &a, p.n);
    b.expect("max pooling backward", back, gx);
}

static void pooling(Bench& b, const Pooling& p) {
    const Floats x = b.whole(p.n * p.H * p.W * p.C, 1000), gy = b.whole(p.n * p.P() * p.Q() * p.C);
    PoolArgs a = {};
    a.C = a.ldx = a.ldy = p.C, a.xH = p.H, a.xW = p.W, a.yH = p.P(), a.yW = p.Q();
    a.xD = a.yD = a.kD = a.sD = a.dilD = a.dilH = a.dilW = a.include_pad = 1;
    a.kH = a.kW = p.k, a.sH = a.sW = p.stride, a.pH = a.pW = a.qH = a.qW = p.padding;
    max_pooling<uint8_t>(b, p, a, FC_ID_f32_maxpool_argmax_u8, FC_ID_f32_maxpool_backward_u8, x, gy);
    max_pooling<int32_t>(b, p, a, FC_ID_f32_maxpool_argmax_i32, FC_ID_f32_maxpool_backward_i32, x, gy);

    Doubles mean(gy.size()), gx(x.size());
    const double area = static_cast<double>(p.k * p.k);
    p.windows([&](int64_t o, int64_t i, int64_t) { mean[o] += x[i] / area, gx[i] += gy[o] / area; });
    Floats y = poison(gy.size()), back = poison(x.size());
    a.x = const_cast<float*>(x.data()), a.y = y.data();
    b.run(FC_ID_f32_avgpool, &a, p.n);
    b.expect("average pooling", y, mean, 1e-6);
    a.x = back.data(), a.y = const_cast<float*>(gy.data());
    b.run(FC_ID_f32_avgpool_backward, &a, p.n);
    b.expect("average pooling backward", back, gx, 1e-6);
}

// ---- batch normalisation ----------------------------------------------------------------------------------------------

static void batch_norm(Bench& b, int64_t n, int64_t pixels, int64_t C) {
    const int64_t count = n * pixels, per = 7, parts = (count + per - 1) / per;
    const Floats x = b.uniform(count * C, 3, 5), gy = b.uniform(count * C), gamma = b.uniform(C, 0.5f, 2), beta = b.uniform(C);
    Doubles y(x.size()), gx(x.size()), part(parts * 2 * C), ggamma(C), gbeta(C);
    for (int64_t c = 0; c < C; ++c) {
        double mean = 0, variance = 0, sum = 0, product = 0;
        for (int64_t i = 0; i < count; ++i) mean += x[i * C + c] / static_cast<double>(count);
        for (int64_t i = 0; i < count; ++i) variance += pow(x[i * C + c] - mean, 2) / static_cast<double>(count);
        const double r = 1 / sqrt(variance + 1e-5);
        for (int64_t i = 0; i < count; ++i) {
            const double normal = (x[i * C + c] - mean) * r;
            y[i * C + c] = normal * gamma[c] + beta[c];
            sum += gy[i * C + c], product += gy[i * C + c] * normal;
        }
        for (int64_t i = 0; i < count; ++i)
            gx[i * C + c] = gamma[c] * r * (gy[i * C + c] - sum / static_cast<double>(count) -
                                            (x[i * C + c] - mean) * r * product / static_cast<double>(count));
        ggamma[c] = product, gbeta[c] = sum;
    }
    Floats stats = poison(FC_NORM_ROWS * C), out = poison(count * C), back = poison(count * C), g0 = poison(C), g1 = poison(C);
    Floats coef = poison(2 * C);
    NormStatisticsArgs s = {0, x.data(), part.data(), pixels, C, C, per};
    b.run(FC_ID_f32_batchnorm_statistics, &s, n);
    NormMergeArgs m = {};
    m.part = part.data(), m.gamma = gamma.data(), m.beta = beta.data(), m.stats = stats.data();
    m.pixels = pixels, m.C = C, m.per_part = per, m.eps = 1e-5;
    b.run(FC_ID_f32_batchnorm_merge, &m, n);
    NormApplyArgs a = {};
    a.x = x.data(), a.stats = stats.data(), a.y = out.data(), a.pixels = pixels, a.C = a.ldx = a.ldy = C;
    b.run(FC_ID_f32_batchnorm_apply, &a, n);
    b.expect("batch normalisation", out, y, 1e-6);
    NormBackwardArgs g = {};
    g.x = x.data(), g.gy = gy.data(), g.stats = stats.data(), g.part = part.data(), g.coef = coef.data(), g.gx = back.data();
    g.ggamma = g0.data(), g.gbeta = g1.data(), g.pixels = pixels, g.C = g.ldx = g.ldg = g.ldgx = C, g.per_part = per;
    g.training = 1;
    for (int id : {FC_ID_f32_batchnorm_backward_sums, FC_ID_f32_batchnorm_backward_merge, FC_ID_f32_batchnorm_backward_data})
        b.run(id, &g, n);
    b.expect("batch normalisation backward", back, gx, 2e-6);
    b.expect("batch normalisation gamma", g0, ggamma, 2e-6);
    b.expect("batch normalisation beta", g1, gbeta, 2e-6);
}

// ---- value by value -----------------------------------------------------------------------------------------------------

static void elementwise(Bench& b, int64_t n, int64_t pixels, int64_t C) {
    const Floats x = b.uniform(n * pixels * C, -6, 6), z = b.uniform(n * pixels * C);
    Floats copied = poison(n * pixels * C);
    MapArgs copy = {0, x.data(), nullptr, copied.data(), 0, pixels, C, C, 0, C, 0, 0};
    b.run(FC_ID_f32_copy, &copy, n);
    b.expect("copy", copied, Doubles(x.begin(), x.end()), 1e-9);
    Doubles want;
    for (size_t i = 0; i < x.size(); ++i) want.push_back(x[i] + 0.5 * z[i % C]);
    Floats y = poison(n * pixels * C);
    BroadcastArgs add = {0, x.data(), z.data(), y.data(), {pixels * C, C, 1}, {0, 0, 1}, 0, pixels, C, C, 0.5};
    b.run(FC_ID_f32_add, &add, n);
    b.expect("add, broadcast over pixels", y, want, 1e-7);
}

static void softmax_and_loss(Bench& b, int64_t n, int64_t C) {
    const Floats x = b.uniform(n * C, -8, 8);
    std::vector<int64_t> target;
    Doubles want(n * C), gradient(n * C);
    double loss = 0;
    for (int64_t i = 0; i < n; ++i) {
        double sum = 0;
        target.push_back(b.next() % C);
        for (int64_t c = 0; c < C; ++c) sum += exp(x[i * C + c]);
        for (int64_t c = 0; c < C; ++c) {
            want[i * C + c] = exp(x[i * C + c]) / sum;
            gradient[i * C + c] = (want[i * C + c] - (c == target[i])) / static_cast<double>(n);
        }
        loss -= log(want[i * C + target[i]]) / static_cast<double>(n);
    }
    Floats y = poison(n * C), kept = poison(2 * n), gx = poison(n * C), mean = poison(1), norm = poison(1);
    SoftmaxArgs s = {0, x.data(), y.data(), nullptr, nullptr, 1, C, C, C, 0, 0};
    b.run(FC_ID_f32_softmax, &s, n);
    b.expect("softmax", y, want, 1e-6);
    Doubles part(2 * n);
    CrossEntropyArgs a = {};
    a.x = x.data(), a.target = target.data(), a.kept = kept.data(), a.part = part.data(), a.pixels = 1, a.C = a.ldx = a.ldgx = C;
    a.per_tile = 3, a.ignore_index = -100, a.gx = gx.data(), a.norm = norm.data();
    b.run(FC_ID_f32_cross_entropy, &a, n);
    LossSumArgs sum = {0, part.data(), mean.data(), norm.data(), 1, 3, 1};
    b.run(FC_ID_f32_loss_sum, &sum, n);
    b.expect("cross entropy", mean, {loss}, 1e-6);
    b.run(FC_ID_f32_cross_entropy_backward, &a, n);
    b.expect("cross entropy backward", gx, gradient, 1e-6);
}

static void momentum(Bench& b, int64_t count) {
    Floats p = b.uniform(count), g = b.uniform(count), v = b.uniform(count);
    FcHyper hyper = {};
    hyper.lr = 0.1, hyper.momentum = 0.9, hyper.weight_decay = 0.01, hyper.grad_scale = hyper.sign = 1;
    Doubles velocity, parameter;
    for (int64_t i = 0; i < count; ++i) {
        velocity.push_back(0.9 * v[i] + g[i] + 0.01 * p[i]);
        parameter.push_back(p[i] - 0.1 * velocity.back());
    }
    const FcItem item = {p.data(), g.data(), v.data(), nullptr, nullptr, nullptr, count, &hyper, 0};
    ItemsArgs a = {0, &item, 1, (count + FC_ITEM_TILE - 1) / FC_ITEM_TILE, nullptr, nullptr, 0};
    b.run(FC_ID_f32_sgd, &a, 1);
    b.expect("momentum", v, velocity, 1e-6);
    b.expect("parameters", p, parameter, 1e-6);
}

// Between the user's (N, C, H, W) and channels-last with a halo of one pixel.
static void door(Bench& b, int64_t n, int64_t C, int64_t H, int64_t W) {
    const Floats user = b.whole(n * C * H * W, 1000);
    Floats inside = poison(n * (H + 2) * (W + 2) * C), back = poison(n * C * H * W);
    FcSlot from = {const_cast<float*>(user.data()), {C * H * W, H * W, 0, W, 1}}, to = from;
    to.data = back.data();
    DoorArgs a = {0, &from, inside.data(), C, 1, H, W, C, 0, 1, 1, 1, H + 2, W + 2};
    b.run(FC_ID_f32_to_channels_last, &a, n);
    Doubles want(inside.size());
    for (int64_t i = 0; i < n * C * H * W; ++i) {
        const int64_t w = i % W, h = i / W % H, c = i / (W * H) % C, image = i / (W * H * C);
        want[((image * (H + 2) + h + 1) * (W + 2) + w + 1) * C + c] = user[i];
    }
    b.expect("to channels-last", inside, want);
    a.slot = &to;
    b.run(FC_ID_f32_from_channels_last, &a, n);
    b.expect("from channels-last", back, Doubles(user.begin(), user.end()));
}

void test_layers(Bench& b) {
    for (int64_t C : {1, 6, 37, 130}) {
        pooling(b, {2, C, 8, 10, 2, 2, 0});
        pooling(b, {2, C, 9, 7, 3, 2, 1});
        pooling(b, {1, C, 9, 9, 4, 1, 0});
        batch_norm(b, 3, 10, C);
        elementwise(b, 2, 9, C);
        softmax_and_loss(b, 10, C + 1);
        door(b, 2, C, 5, 9);
    }
    momentum(b, 20001);
}
