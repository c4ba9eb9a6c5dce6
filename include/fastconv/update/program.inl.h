// Update rules as programs: instructions over blocks of a parameter, its gradient, its buffers and a few temporaries.
//
// A block is 512 values: what a rule reads and writes of it (at most nine arrays, 18 KiB) stays in the first-level cache, so
// that memory sees one pass, as of a kernel of its own. An instruction is a loop over vectors and a call, a few cycles each.
#ifndef FASTCONV_UPDATE_PROGRAM_INL_H
#define FASTCONV_UPDATE_PROGRAM_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kProgramBlock = 512;
constexpr int kRegisters = 2 + FC_STATES + FC_TEMPORARIES;

template <class Body>
FC_INLINE void each(float* d, const float* a, const float* b, int64_t count, const Body& body) {
    constexpr int W = kWidth;
    over_vectors<W>(count, [=](int64_t i, int n) __attribute__((always_inline)) {
        store_n<W>(d + i, body(load_n<W>(a + i, n), load_n<W>(b + i, n), load_n<W>(d + i, n)), n);
    });
}

inline void run_instruction(const FcOp* op, const FcHyper* h, float* const* r, int64_t count) {
    constexpr int W = kWidth;
    typedef Vf<W> V;
    const double* scalars = reinterpret_cast<const double*>(h);
    const V k = splat<W>(to_float(scalars[op->k])), j = splat<W>(to_float(scalars[op->j]));
    const V zero = splat<W>(0.0f), one = splat<W>(1.0f);
    float* d = r[op->d];
    const float *a = r[op->a], *b = r[op->b];
#define FC_EACH(expression) \
    each(d, a, b, count, [=](V x, V y, V z) __attribute__((always_inline)) { (void)x, (void)y, (void)z; return expression; })
    switch (op->op) {
        case FC_GRADIENT: {
            const V scale = splat<W>(to_float(h->grad_scale * h->sign));
            FC_EACH(x * scale);
            break;
        }
        case FC_SCALE: FC_EACH(k * x); break;
        case FC_AXPY: FC_EACH(mul_add<W>(k, y, x)); break;
        case FC_LERP: FC_EACH(mul_add<W>(k, y - x, x)); break;
        case FC_MUL: FC_EACH(x * y); break;
        case FC_DIV: FC_EACH(x / y); break;
        case FC_ADDCMUL: FC_EACH(mul_add<W>(k * x, y, z * j)); break;
        case FC_ADDCDIV: FC_EACH(mul_add<W>(k, x / y, z)); break;
        case FC_ROOT: FC_EACH(vsqrt<W>(x) / j + k); break;
        case FC_SHIFT: FC_EACH(x + k); break;
        case FC_MAX: FC_EACH(x > y ? x : (x == x ? y : x)); break;
        case FC_ABS: FC_EACH(vabs<W>(x)); break;
        case FC_SIGN: FC_EACH(x > zero ? one : (x < zero ? -one : x)); break;
        case FC_CHOOSE: FC_EACH(x > zero ? k : (x < zero ? j : (x == zero ? one : x))); break;
        case FC_CLAMP: FC_EACH(x < k ? k : (x > j ? j : x)); break;
        case FC_KEEP: FC_EACH(x < zero ? zero : y); break;
        case FC_FILL: FC_EACH(k); break;
        default: break;
    }
#undef FC_EACH
}

FC_INLINE int64_t f32_update_tiles(const ItemsArgs* a) { return a->tiles; }
FC_INLINE size_t f32_update_scratch(const ItemsArgs*) { return FC_TEMPORARIES * kProgramBlock * sizeof(float); }

inline void f32_update_run(const ItemsArgs* a, int64_t begin, int64_t end, void* scratch) {
    float* temporary = static_cast<float*>(scratch);
    over_items(a, begin, end, [=](int64_t, const FcItem* item, int64_t first, int64_t count) {
        float* const base[2 + FC_STATES] = {item->p, item->g, item->s0, item->s1, item->s2, item->s3};
        const double* scalars = reinterpret_cast<const double*>(item->hyper);
        for (int64_t block = 0; block < count; block += kProgramBlock) {
            float* r[kRegisters];
            for (int i = 0; i < 2 + FC_STATES; ++i) r[i] = base[i] ? base[i] + first + block : temporary;
            for (int i = 0; i < FC_TEMPORARIES; ++i) r[2 + FC_STATES + i] = temporary + i * kProgramBlock;
            for (int64_t i = 0; i < a->op_count; ++i) {
                const FcOp* op = a->ops + i;
                if (op->op == FC_WHEN) {
                    if ((scalars[op->k] == 0.0) == (op->a == 0)) i += op->d;
                } else {
                    run_instruction(op, item->hyper, r, min64(kProgramBlock, count - block));
                }
            }
        }
    });
}

// The ratio of norms by which a step of a parameter is scaled.
FC_INLINE int64_t norm_ratio_tiles(const RatioArgs* a) { return a->count > 0; }
FC_INLINE size_t norm_ratio_scratch(const RatioArgs*) { return 0; }

FC_INLINE double norm_of(const double* part, int64_t parts) {
    double sum = 0.0;
    for (int64_t i = 0; i < parts; ++i) sum += part[i];
    return __builtin_sqrt(sum);
}

inline void norm_ratio_run(const RatioArgs* a, int64_t, int64_t, void*) {
    for (int64_t i = 0; i < a->count; ++i) {
        const FcRatio* r = a->ratios + i;
        const double* scalars = reinterpret_cast<const double*>(r->hypers[0]);
        const double scale = a->scaled ? r->hypers[0]->grad_scale : 1.0, factor = scalars[a->factor], eps = scalars[a->eps];
        const double w = r->w ? norm_of(r->w, r->w_parts) : 1.0, u = norm_of(r->u, r->u_parts) * (scale < 0 ? -scale : scale);
        const double decay = r->w ? scalars[a->decay] : 0.0;
        const double ratio = r->w && (w == 0.0 || u == 0.0) ? 1.0 : factor * w / (u + decay * w + eps);
        for (int64_t l = 0; l < r->count; ++l) r->hypers[l]->ratio = ratio;
    }
}

}  // namespace
}  // namespace
#endif
