// Augmentation: each image is read once, goes through its own program in the second-level cache, and is written once. A tile is
// an image. Where it begins with a part, or with pixels that only change places, that is how it is read.
#ifndef FASTCONV_AUGMENT_INL_H
#define FASTCONV_AUGMENT_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE size_t augment_image_bytes(const AugmentArgs* a) {
    return (static_cast<size_t>(a->room * augment_pitch(a->C) + 8 * kWidth) * (a->x_u8 ? 1 : 4) + 63) / 64 * 64;
}

FC_INLINE int64_t augment_tiles(const AugmentArgs* a) { return a->oH && a->oW && a->C ? a->n : 0; }
FC_INLINE size_t augment_scratch(const AugmentArgs* a) {  // two images, a pixel to fill in, lines
    return 2 * augment_image_bytes(a) + static_cast<size_t>(augment_pitch(a->C) + 15) / 16 * 64 + static_cast<size_t>(a->lines) * 4;
}

template <typename T>
FC_NOINLINE void augment_one(const AugmentArgs* a, int64_t image, char* scratch) {
    const size_t size = augment_image_bytes(a);
    Image<T> m = {reinterpret_cast<T*>(scratch), a->H, a->W, a->C, augment_pitch(a->C)}, other = m;
    other.data = reinterpret_cast<T*>(scratch + size);
    T* fill = reinterpret_cast<T*>(scratch + 2 * size);
    float* lines = reinterpret_cast<float*>(scratch + 2 * size + static_cast<size_t>(m.P + 15) / 16 * 64);
    const float *p = a->program + a->start[image], *end = a->program + a->start[image + 1], *scale = nullptr;
    Move move = {a->H, a->W, 0, 0, 1, 1, 0, nullptr};
    float part[4];
    const bool resized = p < end && *p == kAugmentResize;
    if (resized) {
        const int64_t top = max64(0, static_cast<int64_t>(p[3])), left = max64(0, static_cast<int64_t>(p[4]));
        move.y = min64(top, a->H - 1);
        move.x = min64(left, a->W - 1);
        m.H = max64(1, min64(a->H, static_cast<int64_t>(p[3] + p[5])) - move.y);
        m.W = max64(1, min64(a->W, static_cast<int64_t>(p[4] + p[6])) - move.x);
        part[0] = p[3] - static_cast<float>(move.y);
        part[1] = p[4] - static_cast<float>(move.x);
        part[2] = p[5];
        part[3] = p[6];
    } else if (p < end && *p == kAugmentWarp && moves_only(p + 3, a->H, a->W, &move)) {
        m.H = static_cast<int64_t>(p[1]);
        m.W = static_cast<int64_t>(p[2]);
        p += 14 + m.C;
    }
    if (!resized && only_moves<T>(a, image, p, end, move)) return;
    read_image(m, static_cast<const T*>(a->x) + image * a->xs[0], a->xs, move);
    for (bool begins = resized; p < end; begins = false) {
        const int op = static_cast<int>(*p++);
        bool swapped = true;  // the result is in the other
        other.H = m.H;
        other.W = m.W;
        switch (op) {
            case kAugmentWarp:
                other.H = static_cast<int64_t>(p[0]);
                other.W = static_cast<int64_t>(p[1]);
                warp_image(m, other, p + 2, fill);
                p += 13 + m.C;
                break;
            case kAugmentResize:
                other.H = static_cast<int64_t>(p[0]);
                other.W = static_cast<int64_t>(p[1]);
                resize_image(m, other, begins ? part : p + 2, p[6] != 0, lines, static_cast<int64_t>(p[7]));
                p += 8;
                break;
            case kAugmentSharpness:
                sharpen_image(m, other, *p++);
                break;
            case kAugmentBlur:
                blur_image(m, other, p, lines);
                p += 2 + static_cast<int64_t>(p[0]) + static_cast<int64_t>(p[1]);
                break;
            default:
                swapped = false;
        }
        if (swapped) {
            const Image<T> t = m;
            m = other;
            other = t;
            continue;
        }
        switch (op) {
            case kAugmentBrightness:
                blend_constant(m, *p++, 0);
                break;
            case kAugmentContrast:
                blend_constant(m, *p++, mean_luminance(m));
                break;
            case kAugmentSaturation:
                blend_gray(m, *p++);
                break;
            case kAugmentHue:
                turn_hue(m, *p++);
                break;
            case kAugmentGray:
            case kAugmentInvert:
                map_values(m, op, 0);
                break;
            case kAugmentSolarize:
            case kAugmentPosterize:
                map_values(m, op, *p++);
                break;
            case kAugmentAutocontrast:
                stretch_contrast(m);
                break;
            case kAugmentEqualize:
                equalize_values(m);
                break;
            case kAugmentErase:
                erase_image(m, p);
                p += 4 + m.C;
                break;
            default:  // the last: affine
                scale = p;
                p += 2 * m.C;
                if constexpr (!Image<T>::whole) scale_image(m, scale);
        }
    }
    if (a->y_u8) {
        if constexpr (Image<T>::whole) write_image(m, static_cast<uint8_t*>(a->y) + image * a->ys[0], a->ys, scale);
    } else {
        write_image(m, static_cast<float*>(a->y) + image * a->ys[0], a->ys, scale);
    }
}

inline void augment_run(const AugmentArgs* a, int64_t begin, int64_t end, void* scratch) {
    for (int64_t image = begin; image < end; ++image) {
        if (a->x_u8) {
            augment_one<uint8_t>(a, image, static_cast<char*>(scratch));
        } else {
            augment_one<float>(a, image, static_cast<char*>(scratch));
        }
    }
}

}  // namespace
}  // namespace
#endif
