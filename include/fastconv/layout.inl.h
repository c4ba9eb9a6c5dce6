// The door: NCHW and any other strided array to channels-last and back.
// Bound by memory; the inner loops go along whichever side is contiguous, 16 x 16 at a time where neither is both.

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE int64_t door_rows_per_tile(const DoorArgs* a) {
    return max64(1, 16384 / max64(1, a->BW * a->C));
}

// dst[i * ld + c] = src[i * si + c * sc]
FC_INLINE void move_row(const float* src, int64_t si, int64_t sc, float* dst, int64_t ld, int64_t W, int64_t C) {
    if (C == 1 && si == 1 && ld == 1) {
        memcpy(dst, src, sizeof(float) * static_cast<size_t>(W));
    } else if (sc == 1) {
        for (int64_t i = 0; i < W; ++i) memcpy(dst + i * ld, src + i * si, sizeof(float) * static_cast<size_t>(C));
    } else if (C <= 4) {
        for (int64_t c = 0; c < C; ++c)
            for (int64_t i = 0; i < W; ++i) dst[i * ld + c] = src[i * si + c * sc];
    } else {
        for (int64_t i0 = 0; i0 < W; i0 += 16) {
            const int64_t i1 = min64(W, i0 + 16);
            for (int64_t c0 = 0; c0 < C; c0 += 16) {
                const int64_t c1 = min64(C, c0 + 16);
                for (int64_t i = i0; i < i1; ++i)
                    for (int64_t c = c0; c < c1; ++c) dst[i * ld + c] = src[i * si + c * sc];
            }
        }
    }
}

// dst[i * di + c * dc] = src[i * ld + c]
FC_INLINE void move_row_back(const float* src, int64_t ld, float* dst, int64_t di, int64_t dc, int64_t W, int64_t C) {
    if (dc == 1) {
        for (int64_t i = 0; i < W; ++i) memcpy(dst + i * di, src + i * ld, sizeof(float) * static_cast<size_t>(C));
        return;
    }
    for (int64_t i0 = 0; i0 < W; i0 += 16) {
        const int64_t i1 = min64(W, i0 + 16);
        for (int64_t c0 = 0; c0 < C; c0 += 16) {
            const int64_t c1 = min64(C, c0 + 16);
            for (int64_t c = c0; c < c1; ++c)
                for (int64_t i = i0; i < i1; ++i) dst[i * di + c * dc] = src[i * ld + c];
        }
    }
}

FC_INLINE int64_t f32_to_channels_last_tiles(const DoorArgs* a) {
    return ceil_div(a->n * a->BD * a->BH, door_rows_per_tile(a));
}
FC_INLINE size_t f32_to_channels_last_scratch(const DoorArgs*) { return 0; }

inline void f32_to_channels_last_run(const DoorArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t per = door_rows_per_tile(a), rows = a->n * a->BD * a->BH;
    const float* src = static_cast<const float*>(a->slot->data);
    const int64_t* s = a->slot->stride;
    const size_t pixel = sizeof(float) * static_cast<size_t>(a->ld);
    for (int64_t r = begin * per; r < min64(rows, end * per); ++r) {
        const int64_t h = r % a->BH - a->ph, d = r / a->BH % a->BD - a->pd, n = r / (a->BH * a->BD);
        float* dst = a->buffer + r * a->BW * a->ld;
        if (h < 0 || h >= a->H || d < 0 || d >= a->D) {
            memset(dst, 0, pixel * static_cast<size_t>(a->BW));
            continue;
        }
        if (a->pw) memset(dst, 0, pixel * static_cast<size_t>(a->pw));
        move_row(src + n * s[0] + d * s[2] + h * s[3], s[4], s[1], dst + a->pw * a->ld, a->ld, a->W, a->C);
        if (a->BW > a->pw + a->W)
            memset(dst + (a->pw + a->W) * a->ld, 0, pixel * static_cast<size_t>(a->BW - a->pw - a->W));
    }
}

FC_INLINE int64_t f32_from_channels_last_tiles(const DoorArgs* a) {
    return ceil_div(a->n * a->D * a->H, door_rows_per_tile(a));
}
FC_INLINE size_t f32_from_channels_last_scratch(const DoorArgs*) { return 0; }

inline void f32_from_channels_last_run(const DoorArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t per = door_rows_per_tile(a), rows = a->n * a->D * a->H;
    float* dst = static_cast<float*>(a->slot->data);
    const int64_t* s = a->slot->stride;
    for (int64_t r = begin * per; r < min64(rows, end * per); ++r) {
        const int64_t h = r % a->H, d = r / a->H % a->D, n = r / (a->H * a->D);
        const float* src = a->buffer + (((n * a->BD + d + a->pd) * a->BH + h + a->ph) * a->BW + a->pw) * a->ld;
        move_row_back(src, a->ld, dst + n * s[0] + d * s[2] + h * s[3], s[4], s[1], a->W, a->C);
    }
}

// A dense buffer of up to five dimensions from or to a strided array.
FC_INLINE int64_t f32_copy_strided_tiles(const DoorArgs* a) { return a->fixed_n * a->C; }
FC_INLINE size_t f32_copy_strided_scratch(const DoorArgs*) { return 0; }

inline void f32_copy_strided_run(const DoorArgs* a, int64_t begin, int64_t end, void*) {
    float* user = static_cast<float*>(a->slot->data);
    const int64_t* s = a->slot->stride;
    for (int64_t t = begin; t < end; ++t)
        for (int64_t d = 0; d < a->D; ++d)
            for (int64_t h = 0; h < a->H; ++h) {
                float* u = user + t / a->C * s[0] + t % a->C * s[1] + d * s[2] + h * s[3];
                float* b = a->buffer + ((t * a->D + d) * a->H + h) * a->W;
                for (int64_t w = 0; w < a->W; ++w) {
                    if (a->reverse) {
                        u[w * s[4]] = b[w];
                    } else {
                        b[w] = u[w * s[4]];
                    }
                }
            }
}

}  // namespace
}  // namespace
