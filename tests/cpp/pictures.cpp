// What is found by indices, by order or by coordinates: gather and scatter, sorting and searching, boxes, resampling, augmentation.
#include "harness.h"

#include "fastconv/augment/args.h"
#include "fastconv/gather/args.h"
#include "fastconv/resample/args.h"
#include "fastconv/select/args.h"

template <class T>
static Floats floats(const T& values) {
    Floats found;
    for (const auto v : values) found.push_back(static_cast<float>(v));
    return found;
}
typedef std::vector<int64_t, Guarded<int64_t>> Wide;

// ---- indices --------------------------------------------------------------------------------------------------------------

// Rows of a table, or one element of each row, by indices that may count from the end; then their sums back into the table.
static void rows(Bench& b, int64_t table, int64_t width, int64_t count, bool elements) {
    const Floats x = b.whole(table * width, 50);
    Wide index(static_cast<size_t>(elements ? count * width : count));
    for (int64_t& v : index) v = static_cast<int64_t>(b.next() % static_cast<uint32_t>(2 * table)) - table;
    Floats y = poison(count * width), sums = b.whole(table * width, 50);
    Doubles want, total(sums.begin(), sums.end());
    for (int64_t i = 0; i < count * width; ++i) {
        const int64_t at = index[elements ? i : i / width], row = at < 0 ? at + table : at;
        want.push_back(x[row * width + i % width]);
        total[row * width + i % width] += want.back();
    }
    int64_t bad[2] = {0, 0};
    GatherArgs a = {};
    a.dims = {2, 0, 1, {0, width}};  // as many rows as the batch
    a.xs[1] = 1, a.ys[0] = width, a.ys[1] = 1;
    a.count = 1, a.dtype = FC_FLOAT32, a.rows = !elements;
    a.index[0] = {index.data(), {elements ? width : 1, elements ? 1 : 0}, table, width, 1, 1, bad};
    a.x = reinterpret_cast<const char*>(x.data()), a.y = reinterpret_cast<char*>(y.data());
    b.run(FC_ID_gather, &a, count);
    b.expect("gather", y, want);
    // of the scatter the first dimension collides, the second is free
    a.x = reinterpret_cast<const char*>(y.data()), a.y = reinterpret_cast<char*>(sums.data());
    a.xs[0] = width, a.ys[0] = 0, a.op = FC_ADD, a.inner_free = 1, a.ranges = elements ? 1 : 3, a.piece = 16;
    b.run(FC_ID_scatter, &a, count);
    b.expect("scatter", sums, total);
    b.expect("no index outside", bad[0] == 0);
}

// ---- order ----------------------------------------------------------------------------------------------------------------

static void order(Bench& b, int64_t lines, int64_t length, int64_t count) {
    const Floats x = b.whole(lines * length, 20), v = b.whole(lines * count, 25);
    Floats values = poison(lines * length), first = poison(lines * count);
    Wide indices(static_cast<size_t>(lines * length)), places(static_cast<size_t>(lines * count));
    std::vector<int64_t> at(static_cast<size_t>(length));
    Doubles want, where, best, lower;
    for (int64_t i = 0; i < lines; ++i) {
        const float* line = x.data() + i * length;
        for (int64_t j = 0; j < length; ++j) at[j] = j;
        std::stable_sort(at.begin(), at.end(), [&](int64_t p, int64_t q) { return line[p] < line[q]; });
        for (int64_t j : at) want.push_back(line[j]), where.push_back(static_cast<double>(j));
        for (int64_t j = 0; j < count; ++j) {
            best.push_back(line[at[length - 1 - j]]);
            int64_t below = 0;
            for (int64_t k = 0; k < length; ++k) below += line[k] < v[i * count + j];
            lower.push_back(static_cast<double>(below));
        }
    }
    SortArgs a = {};
    a.x = reinterpret_cast<const char*>(x.data()), a.values = reinterpret_cast<char*>(values.data()), a.indices = indices.data();
    a.dims = {1, 0, 1, {}};
    a.xs[0] = a.vs[0] = a.ns[0] = length;
    a.length = a.count = length, a.xl = a.vl = a.il = 1, a.dtype = FC_FLOAT32, a.what = FC_SORT;
    b.run(FC_ID_sort_lines, &a, lines);
    b.expect("sort", values, want);
    b.expect("sort: indices", floats(indices), where);
    a.values = reinterpret_cast<char*>(first.data()), a.indices = nullptr, a.vs[0] = a.count = count;
    a.what = FC_TOPK, a.descending = 1;
    b.run(FC_ID_sort_lines, &a, lines);
    b.expect("the largest few", first, best);
    SearchArgs s = {};
    s.x = reinterpret_cast<const char*>(values.data()), s.v = reinterpret_cast<const char*>(v.data());
    s.y = reinterpret_cast<char*>(places.data()), s.dims = {2, 0, 1, {0, count}};
    s.xs[0] = length, s.vs[0] = s.ys[0] = count, s.vs[1] = s.ys[1] = 1;
    s.length = length, s.xl = 1, s.dtype = FC_FLOAT32, s.wide = 1;
    b.run(FC_ID_searchsorted, &s, lines);
    b.expect("places in ascending lines", floats(places), lower);
}

static void boxes(Bench& b, int64_t count) {
    const Floats scores = b.uniform(count, 0, 1);
    Floats corners = b.uniform(4 * count, 0, 10);
    for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < 2; ++j) corners[4 * i + 2 + j] = corners[4 * i + j] + 1 + 4 * corners[4 * i + 2 + j] / 10;
    std::vector<int64_t> left(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) left[i] = i;
    std::stable_sort(left.begin(), left.end(), [&](int64_t p, int64_t q) { return scores[p] > scores[q]; });
    const auto area = [](const float* p) { return (p[2] - p[0]) * (p[3] - p[1]); };
    Doubles want;
    std::vector<int64_t> kept;
    for (int64_t i : left) {
        const float* p = corners.data() + 4 * i;
        bool stays = true;
        for (int64_t j : kept) {
            const float* q = corners.data() + 4 * j;
            const float w = fminf(p[2], q[2]) - fmaxf(p[0], q[0]), h = fminf(p[3], q[3]) - fmaxf(p[1], q[1]);
            const float both = fmaxf(w, 0) * fmaxf(h, 0);
            stays = stays && !(both / (area(p) + area(q) - both) > 0.3f);
        }
        if (stays) kept.push_back(i), want.push_back(static_cast<double>(i));
    }
    Wide keep(static_cast<size_t>(count)), number(1);
    NmsArgs a = {0, corners.data(), scores.data(), nullptr, keep.data(), number.data(), count, 0.3f};
    b.run(FC_ID_nms, &a, 1);
    b.expect("boxes that stay", number[0] == static_cast<int64_t>(want.size()));
    b.expect("which", floats(keep), want);
}

// ---- resampling -----------------------------------------------------------------------------------------------------------

struct List {
    std::vector<int32_t> start{0}, index;
    std::vector<float> weight;
    // Linear, centres of pixels on each other.
    List(int64_t size, int64_t out) {
        for (int64_t i = 0; i < out; ++i) {
            const double at = (static_cast<double>(i) + 0.5) * static_cast<double>(size) / static_cast<double>(out) - 0.5;
            const int64_t low = static_cast<int64_t>(floor(at));
            for (int64_t t = 0; t < 2; ++t) {
                index.push_back(static_cast<int32_t>(std::max<int64_t>(0, std::min(size - 1, low + t))));
                weight.push_back(static_cast<float>(1 - fabs(at - static_cast<double>(low + t))));
            }
            start.push_back(2 * static_cast<int32_t>(i + 1));
        }
    }
};

// Images (n, H, W, C) of other heights and widths: pixels of C values, or (C 1) vectors of values.
static void resampling(Bench& b, int64_t n, int64_t H, int64_t W, int64_t C, int64_t P, int64_t Q) {
    const Floats x = b.uniform(n * H * W * C);
    Floats y = poison(n * P * Q * C);
    const List down(H, P), along(W, Q);
    Doubles want(n * P * Q * C);
    for (int64_t i = 0; i < n * P * Q * C; ++i) {
        const int64_t c = i % C, q = i / C % Q, p = i / (C * Q) % P, image = i / (C * Q * P);
        for (int64_t s = 0; s < 2; ++s)
            for (int64_t t = 0; t < 2; ++t)
                want[i] += static_cast<double>(down.weight[2 * p + s]) * along.weight[2 * q + t] *
                           x[((image * H + down.index[2 * p + s]) * W + along.index[2 * q + t]) * C + c];
    }
    ResampleArgs a = {};
    a.x = x.data(), a.y = y.data(), a.outer = 2, a.batched = 1, a.most = 2;
    a.axis[0] = {n, H * W * C, P * Q * C, nullptr, nullptr, nullptr};
    a.axis[1] = {P, W * C, Q * C, down.start.data(), down.index.data(), down.weight.data()};
    a.row = {Q, C, C, along.start.data(), along.index.data(), along.weight.data()};
    const int32_t low = 0, high = static_cast<int32_t>(W);
    const int64_t vectors = (Q + b.width - 1) / b.width;
    a.C = C, a.xW = a.span = W, a.parts = 1, a.step = vectors * b.width, a.low = &low, a.high = &high;
    std::vector<ResampleBlock> blocks;
    std::vector<int32_t> lanes(static_cast<size_t>(2 * vectors * b.width));
    Floats weights(lanes.size());
    for (int64_t v = 0; v < vectors && C == 1; ++v) {
        blocks.push_back({0, 2, 2, kSummed, 2 * v});
        for (int64_t t = 0; t < 2; ++t)
            for (int64_t l = 0; l < b.width && v * b.width + l < Q; ++l) {
                lanes[(2 * v + t) * b.width + l] = along.index[2 * (v * b.width + l) + t];
                weights[(2 * v + t) * b.width + l] = along.weight[2 * (v * b.width + l) + t];
            }
    }
    a.blocks = C == 1 ? blocks.data() : nullptr, a.lanes = lanes.data(), a.weights = weights.data();
    b.run(FC_ID_resample, &a, n);
    b.expect("resampling", y, want, 1e-6);
    if (C == 1 || n * P * Q * C == 0) return;
    a.fused = 1;
    y.assign(y.size(), NAN);
    b.run(FC_ID_resample, &a, n);
    b.expect("resampling, both axes at once", y, want, 1e-6);
}

// ---- augmentation ---------------------------------------------------------------------------------------------------------

// Bytes, channels last: mirrored, brighter, with a rectangle, as floats; and mirrored alone.
static void augmentation(Bench& b, int64_t n, int64_t C, int64_t H, int64_t W) {
    std::vector<uint8_t, Guarded<uint8_t>> x(static_cast<size_t>(n * C * H * W)), mirrored(x.size());
    for (uint8_t& v : x) v = static_cast<uint8_t>(b.next());
    Floats y = poison(n * C * H * W);
    const float w = static_cast<float>(W), h = static_cast<float>(H);
    std::vector<float> one = {kAugmentWarp, h, w, -1, 0, w, 0, 1, 0, 0, 0, 1, 0, 0};
    one.insert(one.end(), static_cast<size_t>(C), 7);
    const size_t flip = one.size();
    for (float v : {static_cast<float>(kAugmentBrightness), 1.5f, static_cast<float>(kAugmentErase), 1.0f, 2.0f, 2.0f, 3.0f})
        one.push_back(v);
    one.insert(one.end(), static_cast<size_t>(C), 33);
    one.push_back(kAugmentAffine);
    one.insert(one.end(), static_cast<size_t>(C), 2);
    one.insert(one.end(), static_cast<size_t>(C), -5);
    std::vector<float> program;
    std::vector<int64_t> start = {0}, flips = {0};
    for (int64_t i = 0; i < n; ++i) {
        program.insert(program.end(), one.begin(), one.end());
        start.push_back(static_cast<int64_t>(program.size()));
    }
    Doubles want(n * C * H * W), only(want.size());
    for (int64_t i = 0; i < n * C * H * W; ++i) {
        const int64_t c = i % C, q = i / C % W, p = i / (C * W) % H, image = i / (C * W * H);
        const double from = x[((image * H + p) * W + W - 1 - q) * C + c];
        only[i] = from;
        const bool inside = p >= 1 && p < 3 && q >= 2 && q < 5;
        want[i] = 2 * (inside ? 33 : floor(fmin(255, 1.5 * from))) - 5;
    }
    AugmentArgs a = {};
    a.x = x.data(), a.y = y.data(), a.program = program.data(), a.start = start.data();
    a.C = C, a.H = a.oH = H, a.W = a.oW = W, a.x_u8 = 1, a.room = H * W, a.lines = 64;
    const int64_t strides[4] = {H * W * C, 1, W * C, C};
    for (int i = 0; i < 4; ++i) a.xs[i] = a.ys[i] = strides[i];
    b.run(FC_ID_augment, &a, n);
    b.expect("augmentation", y, want);
    std::vector<float> alone(one.begin(), one.begin() + static_cast<int64_t>(flip)), all;
    for (int64_t i = 0; i < n; ++i) {
        all.insert(all.end(), alone.begin(), alone.end());
        flips.push_back(static_cast<int64_t>(all.size()));
    }
    a.y = mirrored.data(), a.y_u8 = 1, a.program = all.data(), a.start = flips.data();
    b.run(FC_ID_augment, &a, n);
    b.expect("mirrored", floats(mirrored), only);
}

void test_pictures(Bench& b) {
    for (int64_t width : {1, 7, 33, 70}) {
        rows(b, 9, width, 600, false);
        rows(b, 9, width, 600, true);
    }
    for (int64_t length : {1, 30, 41, 700}) order(b, 5, length, std::min<int64_t>(length, 20));
    boxes(b, 60);
    for (int64_t C : {1, 3, 20}) {
        resampling(b, 2, 9, 11, C, 15, 37);
        resampling(b, 1, 12, 40, C, 5, 17);
    }
    for (int64_t C : {1, 3, 4, 6}) augmentation(b, 3, C, 6, 39);
}
