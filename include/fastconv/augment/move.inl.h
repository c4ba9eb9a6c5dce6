// What keeps its values goes straight from one image to the other: flips, shifts, parts, and rectangles that are filled in. Rows of
// channels, or of whole pixels, whichever lie side by side in both. Bound by memory.
#ifndef FASTCONV_AUGMENT_MOVE_INL_H
#define FASTCONV_AUGMENT_MOVE_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// Values that lie side by side in both images: a row's of one channel, or a pixel's; 0: neither.
FC_INLINE int64_t moved_together(const AugmentArgs* a) {
    if (a->x_u8 != a->y_u8) return 0;
    if (a->xs[3] == 1 && a->ys[3] == 1) return 1;
    return a->xs[1] == 1 && a->ys[1] == 1 && a->xs[3] == a->C && a->ys[3] == a->C ? a->C : 0;
}

// A call would take longer than a short row.
template <typename T>
FC_NOINLINE void copy_forwards(T* y, const T* x, int64_t values) {
    const int64_t bytes = values * static_cast<int64_t>(sizeof(T));
    if (bytes < 16 || bytes > 1024) {
        memcpy(y, x, static_cast<size_t>(bytes));
        return;
    }
    char* to = reinterpret_cast<char*>(y);
    const char* from = reinterpret_cast<const char*>(x);
    Bytes16 v;
    for (int64_t i = 0; i + 16 <= bytes; i += 16) {
        memcpy(&v, from + i, 16);
        memcpy(to + i, &v, 16);
    }
    memcpy(&v, from + bytes - 16, 16);
    memcpy(to + bytes - 16, &v, 16);
}

// `count` pixels of P values, the first from `from`, the others from in front of it.
template <typename T>
FC_NOINLINE void copy_backwards(T* to, const T* from, int64_t count, int64_t P) {
    int64_t i = 0;
    if (sizeof(T) == 1 && kWidth > 4 && P == 1) {
        for (; i + 16 <= count; i += 16) {
            Bytes16 v;
            memcpy(&v, from - i - 15, 16);
            v = FC_BYTES(v, v, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
            memcpy(to + i, &v, 16);
        }
    } else if (sizeof(T) == 1 && kWidth > 4 && P == 3) {  // five pixels, and a value that is written again
        for (; i + 6 <= count; i += 5) {
            Bytes16 v;
            memcpy(&v, from - 3 * i - 13, 16);
            v = FC_BYTES(v, v, 13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0);
            memcpy(to + 3 * i, &v, 16);
        }
    } else if (sizeof(T) == 4 && P == 1) {
        for (; i + 4 <= count; i += 4) {
            Vi<4> v;
            memcpy(&v, from - i - 3, sizeof v);
            v = FC_SHUFFLE(Vi<4>, v, v, 3, 2, 1, 0);
            memcpy(to + i, &v, sizeof v);
        }
    }
    for (; i < count; ++i)
        for (int64_t c = 0; c < P; ++c) to[i * P + c] = from[c - i * P];
}

template <typename T>
FC_NOINLINE void move_image(const AugmentArgs* a, const T* x, T* y, const Move k, int64_t P) {
    const int64_t width = a->oW;
    const Columns inner = columns_of(k, width);
    for (int64_t c = 0; c < a->C; c += P) {
        const T* from = x + c * a->xs[1];
        T* to = y + c * a->ys[1];
        for (int64_t h = 0; h < a->oH; ++h) {
            const int64_t at = mirrored(k.y + k.dy * h, k.H, k.border);
            const T* row = from + max64(0, at) * a->xs[2];
            T* out = to + h * a->ys[2];
            const int64_t begin = at < 0 ? width : inner.begin, end = at < 0 ? width : inner.end;
            if (begin < end) {
                const T* first = row + (k.x + k.dx * begin) * P;
                if (k.dx > 0) {
                    copy_forwards(out + begin * P, first, (end - begin) * P);
                } else {
                    copy_backwards(out + begin * P, first, end - begin, P);
                }
            }
            for (int64_t w = begin > 0 ? 0 : end; w < width; w = w + 1 == begin ? end : w + 1) {
                const int64_t i = at < 0 ? -1 : mirrored(k.x + k.dx * w, k.W, k.border);
                for (int64_t j = 0; j < P; ++j) {
                    if (i < 0) {
                        put_value(out + w * P + j, k.fill[c + j]);
                    } else {
                        out[w * P + j] = row[i * P + j];
                    }
                }
            }
        }
    }
}

// top, left, height, width, a value per channel.
template <typename T>
FC_NOINLINE void fill_in(const AugmentArgs* a, T* y, const float* p, int64_t P) {
    const int64_t top = max64(0, static_cast<int64_t>(p[0])), left = max64(0, static_cast<int64_t>(p[1]));
    const int64_t bottom = min64(a->oH, static_cast<int64_t>(p[0]) + static_cast<int64_t>(p[2]));
    const int64_t values = (min64(a->oW, static_cast<int64_t>(p[1]) + static_cast<int64_t>(p[3])) - left) * P;
    for (int64_t c = 0; c < a->C && values > 0; c += P) {
        T* first = y + c * a->ys[1] + top * a->ys[2] + left * P;
        for (int64_t h = top; h < bottom; ++h) {
            T* row = first + (h - top) * a->ys[2];
            if (h > top) {
                memcpy(row, first, static_cast<size_t>(values) * sizeof(T));
            } else {
                for (int64_t i = 0; i < values; i += P)
                    for (int64_t j = 0; j < P; ++j) put_value(row + i + j, p[4 + c + j]);
            }
        }
    }
}

// Whether that is all there is to a program behind its beginning; then it is done.
template <typename T>
FC_INLINE bool only_moves(const AugmentArgs* a, int64_t image, const float* p, const float* end, const Move& move) {
    const int64_t P = moved_together(a);
    for (const float* q = p; P && q < end; q += 5 + a->C)
        if (*q != kAugmentErase) return false;
    if (!P) return false;
    T* y = static_cast<T*>(a->y) + image * a->ys[0];
    move_image(a, static_cast<const T*>(a->x) + image * a->xs[0], y, move, P);
    for (; p < end; p += 5 + a->C) fill_in(a, y, p + 1, P);
    return true;
}

}  // namespace
}  // namespace
#endif
