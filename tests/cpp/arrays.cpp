// Arrays of any strides: programs of map, reductions and scans, copies, matrix products.
#include "harness.h"

#include "fastconv/copy/args.h"
#include "fastconv/map/args.h"
#include "fastconv/matmul/args.h"
#include "fastconv/reduce/args.h"
#include "fastconv/reduce/args_scan.h"

// ---- map ----------------------------------------------------------------------------------------------------------------

#define FC_FUNCTION FC_OP
#define FC_OP(name, operands, body) kMap_##name,
enum {
#include "fastconv/map/map.def"
    kMapEnd
};
#undef FC_OP
#undef FC_FUNCTION

// y = max(0, x * z + 0.5) and whether it exceeds a whole number; `chained`: the first two instructions as one; `turned`: x lies
// with its rows along the columns.
static void map(Bench& b, int64_t n, int64_t rows, int64_t C, int64_t block, bool chained, bool turned) {
    const int64_t images = turned ? 1 : n, all = images * rows, gap = 3;
    const Floats x = b.uniform(all * C), z = b.uniform(C);
    std::vector<int64_t, Guarded<int64_t>> whole(static_cast<size_t>(all * C));
    for (int64_t& v : whole) v = static_cast<int64_t>(b.next() % 3) - 1;
    Floats y = poison(all * C), found = poison(all * C);
    std::vector<uint8_t, Guarded<uint8_t>> more(static_cast<size_t>(all * (C + gap)), 9);
    const float half = 0.5f;
    const auto at = [&](int64_t r, int64_t c) { return turned ? c * all + r : r * C + c; };
    Doubles want(all * C), larger(all * C);
    for (int64_t r = 0; r < all; ++r)
        for (int64_t c = 0; c < C; ++c) {
            const double v = static_cast<double>(x[at(r, c)]) * z[c] + 0.5;
            want[r * C + c] = v > 0 ? v : 0;
            larger[r * C + c] = want[r * C + c] > static_cast<double>(whole[r * C + c]);
        }
    const FcOperand operands[] = {
        {const_cast<float*>(x.data()), FC_FLOAT32, 0, 0, {turned ? 1 : C, turned ? all : 1}},
        {const_cast<float*>(z.data()), FC_FLOAT32, 0, 0, {0, 1}},
        {whole.data(), FC_INT64, 0, 0, {C, 1}},
        {y.data(), FC_FLOAT32, 0, 0, {C, 1}},
        {more.data(), FC_BOOL, 0, 1, {C + gap, 1}},
    };
    // registers: three inputs, a constant, two results, one more
    const FcInstruction code[] = {
        {kMap_fma, 6, {0, 1, 3}, chained ? 2 : 0, 0}, {kMap_relu, 4, {6, 0, 0}, 0, 0}, {kMap_gt, 5, {4, 2, 0}, 0, 0}};
    ProgramArgs a = {};
    a.operands = operands, a.code = code, a.constants = &half;
    a.inputs = 3, a.outputs = 2, a.instructions = 3, a.constant_count = 1, a.values = 3;
    a.batched = !turned, a.rank = 2, a.extents[0] = rows, a.extents[1] = C, a.block = block, a.turned = turned;
    b.run(FC_ID_map, &a, images);
    b.expect("map: relu(x z + 0.5)", y, want, 1e-6);
    for (int64_t i = 0; i < all * C; ++i) found[i] = more[i / C * (C + gap) + i % C];
    b.expect("map: comparison with int64, to bool", found, larger, 1e-2);  // where they nearly meet, either
    for (int64_t i = 0; i < all; ++i)
        for (int64_t j = C; j < C + gap; ++j) b.expect("map: between rows", more[i * (C + gap) + j] == 9);
}

// One instruction over rows, with and without gaps between those of the result.
static void activations(Bench& b, int64_t n, int64_t rows, int64_t C, int64_t ld) {
    struct Function {
        int32_t op;
        const char* name;
        double (*f)(double);
    };
    const Function functions[] = {
        {kMap_relu, "relu", [](double x) { return fmax(x, 0); }},
        {kMap_sigmoid, "sigmoid", [](double x) { return 1 / (1 + exp(-x)); }},
        {kMap_tanh, "tanh", [](double x) { return tanh(x); }},
        {kMap_silu, "silu", [](double x) { return x / (1 + exp(-x)); }},
        {kMap_gelu, "gelu", [](double x) { return x * 0.5 * erfc(-x * sqrt(0.5)); }},
        {kMap_hardswish, "hardswish", [](double x) { return x * fmin(fmax(x + 3, 0), 6) / 6; }},
    };
    const Floats x = b.uniform(n * rows * C, -6, 6);
    for (const Function& function : functions) {
        Doubles want;
        for (float v : x) want.push_back(function.f(v));
        Floats y = poison(n * rows * ld), found = poison(n * rows * C);
        const FcOperand operands[] = {{const_cast<float*>(x.data()), FC_FLOAT32, 0, 0, {C, 1}},
                                      {y.data(), FC_FLOAT32, 0, 1, {ld, 1}}};
        const FcInstruction code = {function.op, 1, {0, 0, 0}, 0, 0};
        ProgramArgs a = {};
        a.operands = operands, a.code = &code, a.inputs = a.outputs = a.instructions = a.values = a.batched = 1;
        a.rank = 2, a.extents[0] = rows, a.extents[1] = C, a.block = 2048;
        b.run(FC_ID_map, &a, n);
        for (int64_t i = 0; i < n * rows * C; ++i) found[i] = y[i / C * ld + i % C];
        b.expect(function.name, found, want, 1e-6);
    }
}

// ---- reductions -----------------------------------------------------------------------------------------------------------

struct Found {
    double sum = 0, dot = 0, largest = -INFINITY, at = 0, exponentials = 0, mean = 0, m2 = 0;
    int64_t count = 0;
    void add(double v, double w) {
        sum += v, dot += v * w, exponentials += exp(v);
        if (v > largest) largest = v, at = static_cast<double>(count);
        const double off = v - mean;
        mean += off / static_cast<double>(++count), m2 += off * (v - mean);
    }
};

// Of every kept index over the reduced one: elements of a result side by side, or results side by side; in one go or in ranges.
static void reductions(Bench& b, int64_t order, int64_t kept, int64_t count, int64_t per_part) {
    const bool beside = order == FC_SIDE_BY_SIDE;
    const int64_t along = beside ? kept : 1, across = beside ? 1 : count;
    const Floats x = b.uniform(kept * count, -2, 2), z = b.uniform(kept * count);
    std::vector<Found> all(static_cast<size_t>(kept));
    for (int64_t i = 0; i < kept; ++i)
        for (int64_t j = 0; j < count; ++j) all[i].add(x[i * across + j * along], z[i * across + j * along]);
    const struct {
        int64_t reduction, finish;
        const char* name;
        double (*value)(const Found&);
        double tolerance;
    } cases[] = {
        {FC_SUM, FC_VALUE, "sum", [](const Found& f) { return f.sum; }, 2e-6},
        {FC_DOT, FC_VALUE, "dot", [](const Found& f) { return f.dot; }, 2e-6},
        {FC_MAX, FC_VALUE, "maximum", [](const Found& f) { return f.largest; }, 0},
        {FC_ARGMAX, FC_INDEX, "index of the maximum", [](const Found& f) { return f.at; }, 0},
        {FC_LOGSUMEXP, FC_VALUE, "logsumexp", [](const Found& f) { return log(f.exponentials); }, 1e-6},
        {FC_MOMENTS, FC_VAR, "variance", [](const Found& f) { return f.m2 / static_cast<double>(f.count); }, 2e-6},
    };
    for (const auto& c : cases) {
        Doubles want;
        for (const Found& f : all) want.push_back(c.value(f));
        Floats y = poison(kept), other = poison(kept);
        std::vector<int64_t, Guarded<int64_t>> index(static_cast<size_t>(kept));
        ReduceArgs a = {};
        a.parts = per_part ? (count + per_part - 1) / per_part : 1, a.per_part = per_part;
        Floats part = poison(2 * a.parts * kept);
        a.x = x.data(), a.z = c.reduction == FC_DOT ? z.data() : nullptr, a.y2 = c.finish == FC_VAR ? other.data() : nullptr;
        a.y = c.finish == FC_INDEX ? static_cast<void*>(index.data()) : y.data(), a.part = part.data();
        a.lanes = order == FC_ONE_BY_ONE ? 1 : 64, a.pack = a.spread = 1, a.order = order;
        a.reduction = c.reduction, a.before = FC_PLAIN, a.finish = c.finish;
        a.kept_rank = a.reduced_rank = 1;
        a.kept[0] = {kept, 0, across, across, 1, 1}, a.reduced[0] = {count, 0, along, along, 0, 0};
        b.run(FC_ID_f32_reduce, &a, 1);
        if (a.parts > 1) b.run(FC_ID_f32_reduce_merge, &a, 1);
        for (int64_t i = 0; i < kept && c.finish == FC_INDEX; ++i) y[i] = static_cast<float>(index[i]);
        b.expect(std::string("reduction: ") + c.name, y, want, c.tolerance);
    }
}

static void scans(Bench& b, int64_t lines, int64_t length) {
    const Floats x = b.whole(lines * length, 3);
    Floats y = poison(lines * length);
    Doubles want(lines * length), back(lines * length);
    for (int64_t i = 0; i < lines; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < length; ++j) want[j * lines + i] = sum += x[j * lines + i];
        sum = 0;
        for (int64_t j = length - 1; j >= 0; --j) back[j * lines + i] = sum += x[j * lines + i];
    }
    ScanArgs a = {};
    a.x = x.data(), a.y = y.data(), a.scan = FC_CUMSUM, a.kept_rank = 1;
    a.kept[0] = {lines, 0, 1, 0, 1, 0}, a.along = {length, 0, lines, 0, lines, 0};
    b.run(FC_ID_f32_scan, &a, 1);
    b.expect("cumulative sum", y, want);
    a.backwards = 1;
    b.run(FC_ID_f32_scan, &a, 1);
    b.expect("cumulative sum from the end", y, back);
}

// ---- copies ---------------------------------------------------------------------------------------------------------------

// (n, H, W) to (n, W, H), as it is and as other types; and added up over H.
static void copies(Bench& b, int64_t n, int64_t H, int64_t W) {
    const Floats x = b.whole(n * H * W, 100);
    Floats y = poison(n * H * W), found = poison(n * H * W), sums(static_cast<size_t>(n * W));
    std::vector<int64_t, Guarded<int64_t>> wide(static_cast<size_t>(n * H * W));
    std::vector<int8_t, Guarded<int8_t>> narrow(static_cast<size_t>(n * H * W)), bytes(narrow.size());
    Doubles want(n * H * W), total(n * W);
    for (int64_t i = 0; i < n * H * W; ++i) {
        const int64_t w = i % W, h = i / W % H, image = i / (W * H);
        want[(image * W + w) * H + h] = x[i];
        total[image * W + w] += x[i];
    }
    const auto strides = [&](CopyArgs& a, int64_t from, int64_t to) {
        a.dims = 3, a.batched = 1;
        a.extent[0] = n, a.extent[1] = W, a.extent[2] = H;
        a.sx[0] = H * W * from, a.sx[1] = from, a.sx[2] = W * from;
        a.sy[0] = H * W * to, a.sy[1] = H * to, a.sy[2] = to;
    };
    CopyArgs a = {};
    a.x = x.data(), a.y = y.data(), a.from = a.to = FC_FLOAT32;
    strides(a, 4, 4);
    b.run(FC_ID_copy, &a, n);
    b.expect("copy: transposed", y, want);
    a.y = wide.data(), a.to = FC_INT64;
    strides(a, 4, 8);
    b.run(FC_ID_cast, &a, n);
    for (size_t i = 0; i < wide.size(); ++i) found[i] = static_cast<float>(wide[i]);
    b.expect("cast: transposed, to int64", found, want);
    a.y = narrow.data(), a.to = FC_INT8;
    strides(a, 4, 1);
    b.run(FC_ID_cast, &a, n);
    a.x = narrow.data(), a.y = bytes.data(), a.from = FC_INT8;  // and back, as bytes
    std::swap(a.extent[1], a.extent[2]);
    a.sx[1] = 1, a.sx[2] = H, a.sy[1] = W, a.sy[2] = 1, a.sx[0] = a.sy[0] = H * W;
    b.run(FC_ID_copy, &a, n);
    for (size_t i = 0; i < bytes.size(); ++i) found[i] = bytes[i];
    b.expect("copy of bytes: transposed back", found, Doubles(x.begin(), x.end()));
    CopyArgs sum = {};
    sum.x = x.data(), sum.y = sums.data(), sum.from = sum.to = FC_FLOAT32;
    strides(sum, 4, 4);
    sum.sy[0] = 4 * W, sum.sy[1] = 4, sum.sy[2] = 0;
    b.run(FC_ID_f32_copy_add, &sum, n);
    b.expect("copies added up", sums, total);
}

// ---- matrix products ------------------------------------------------------------------------------------------------------

// c = 2 a b + d, for a batch of `n`; b as it lies, packed before or on the way, transposed with lanes along the sum; in parts.
static void products(Bench& b, int64_t how, int64_t n, int64_t M, int64_t N, int64_t K, int64_t parts) {
    const bool dot = how == FC_B_DOT;
    const Floats x = b.uniform(n * M * K), y = b.uniform(n * K * N), d = b.uniform(N);
    Floats c = poison(n * M * N);
    const int64_t b_row = dot ? 1 : N, b_column = dot ? K : 1;
    Doubles want(n * M * N);
    for (int64_t i = 0; i < n * M * N; ++i) {
        const int64_t image = i / (M * N), m = i / N % M, j = i % N;
        double sum = 0;
        for (int64_t k = 0; k < K; ++k)
            sum += static_cast<double>(x[(image * M + m) * K + k]) * y[image * K * N + k * b_row + j * b_column];
        want[i] = 2 * sum + d[j];
    }
    MatmulArgs a = {};
    a.vary = FC_VARY_BATCH, a.dims = 1, a.extent[0] = 1;
    a.a_step[0] = M * K, a.b_step[0] = K * N, a.c_step[0] = M * N;
    a.M = M, a.N = N, a.K = K, a.E = 1;
    a.a_row = K, a.a_column = 1, a.b_row = b_row, a.b_column = b_column, a.c_row = N, a.c_column = 1, a.d_column = 1;
    a.b_how = how, a.chunk = dot ? 4 : how == FC_B_THIN ? M : 16, a.group = 2, a.stage = how == FC_B_THIN;
    a.pack_a = how == FC_B_PACKED;
    a.parts = parts, a.part = (K + parts - 1) / parts;
    a.alpha = a.beta = 1;
    const int64_t columns = (N + 2 * b.width - 1) / (2 * b.width) * 2 * b.width;
    Floats packed = poison(n * K * columns + b.width), partial = poison(parts * n * M * N);
    if (how == FC_B_PACKED) {
        MatmulArgs pack = a;
        pack.b = y.data(), pack.c = packed.data(), pack.c_step[0] = K * columns;
        b.run(FC_ID_f32_matmul_pack, &pack, n);
        a.b_step[0] = K * columns;
    }
    MatmulArgs last = a;
    last.d = d.data(), last.c = c.data(), last.alpha = 2;
    a.a = x.data(), a.b = how == FC_B_PACKED ? packed.data() : y.data();
    if (parts > 1) {
        a.vary = last.vary = FC_VARY_NONE, a.extent[0] = last.extent[0] = n;
        a.c = partial.data(), a.c_part = n * M * N;
        b.run(FC_ID_f32_matmul, &a, 1);
        last.a = partial.data(), last.c_part = n * M * N, last.a_row = N;
        last.a_step[0] = M * N;
        b.run(FC_ID_f32_matmul_sum, &last, 1);
    } else {
        last.a = a.a, last.b = a.b;
        b.run(FC_ID_f32_matmul, &last, n);
    }
    b.expect("matrix product", c, want, 1e-6);
}

void test_arrays(Bench& b) {
    for (int64_t C : {1, 7, 33, 130}) {
        map(b, 3, 5, C, 512, false, false);
        map(b, 2, 70, C, 1024, true, false);
        map(b, 1, 45, C, 512, false, true);
        copies(b, 2, 9, C);
        copies(b, 1, 64, C);
        scans(b, C, 20);
    }
    for (int64_t kept : {1, 5, 40}) {
        reductions(b, FC_ONE_BY_ONE, kept, 1000, 0);
        reductions(b, FC_ONE_BY_ONE, kept, 9000, 4096);
        reductions(b, FC_SIDE_BY_SIDE, kept + 16, 700, 0);
        reductions(b, FC_SIDE_BY_SIDE, kept + 16, 700, 256);
        reductions(b, FC_TURNED, kept + 16, 19, 0);
    }
    for (int64_t how : {FC_B_DIRECT, FC_B_PACKED, FC_B_SCRATCH})
        for (int64_t M : {1, 3, 14, 37}) {
            products(b, how, 2, M, 45, 50, 1);
            products(b, how, 1, M, 16, 900, 1);
        }
    for (int64_t M : {1, 2, 3, 4}) products(b, FC_B_DOT, 2, M, 21, 300, 1);
    for (int64_t M : {1, 2}) products(b, FC_B_THIN, 1, M, 300, 100, 1);
    products(b, FC_B_SCRATCH, 2, 5, 40, 500, 3);
    for (int64_t C : {1, 33, 64, 130}) {
        activations(b, 2, 31, C, C);
        activations(b, 2, 31, C, C + 5);
    }
}
