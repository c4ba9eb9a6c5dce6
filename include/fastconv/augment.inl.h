// Augmentation: each image is read once, goes through its own program in the second-level cache, and is written once. A tile is
// an image. Bound by the loads of the warp, four of a pixel each.
#ifndef FASTCONV_AUGMENT_INL_H
#define FASTCONV_AUGMENT_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE size_t augment_image_floats(const AugmentArgs* a) {
    return static_cast<size_t>(a->room * augment_pitch(a->C) + 4 * kWidth + 15) / 16 * 16;
}

FC_INLINE int64_t augment_tiles(const AugmentArgs* a) { return a->oH && a->oW && a->C ? a->n : 0; }
FC_INLINE size_t augment_scratch(const AugmentArgs* a) {
    return (2 * augment_image_floats(a) + static_cast<size_t>(a->lines)) * 4;
}

FC_NOINLINE inline void augment_one(const AugmentArgs* a, int64_t image, float* scratch) {
    Image m = {scratch, a->H, a->W, a->C, augment_pitch(a->C), static_cast<float>(a->top), a->top > 1.0};
    Image other = m;
    other.data = scratch + augment_image_floats(a);
    float* lines = other.data + augment_image_floats(a);
    if (a->x_u8) {
        read_image(m, static_cast<const uint8_t*>(a->x) + image * a->xs[0], a->xs);
    } else {
        read_image(m, static_cast<const float*>(a->x) + image * a->xs[0], a->xs);
    }
    const float *p = a->program + a->start[image], *end = a->program + a->start[image + 1];
    while (p < end) {
        const int op = static_cast<int>(*p++);
        switch (op) {
            case kAugmentWarp:
            case kAugmentResize: {
                other.H = static_cast<int64_t>(p[0]);
                other.W = static_cast<int64_t>(p[1]);
                if (op == kAugmentWarp) {
                    warp_image(m, other, p + 2);
                    p += 13 + m.C;
                } else {
                    resize_image(m, other, p + 2, lines, static_cast<int64_t>(p[7]));
                    p += 8;
                }
                const Image t = m;
                m = other;
                other = t;
                break;
            }
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
            case kAugmentSharpness: {
                other.H = m.H;
                other.W = m.W;
                sharpen_image(m, other, *p++);
                const Image t = m;
                m = other;
                other = t;
                break;
            }
            case kAugmentBlur:
                other.H = m.H;
                other.W = m.W;
                blur_image(m, other, p, lines);
                p += 2 + static_cast<int64_t>(p[0]) + static_cast<int64_t>(p[1]);
                break;
            case kAugmentErase:
                erase_image(m, p);
                p += 4 + m.C;
                break;
            default:
                scale_image(m, p);
                p += 2 * m.C;
        }
    }
    if (a->y_u8) {
        write_image(m, static_cast<uint8_t*>(a->y) + image * a->ys[0], a->ys);
    } else {
        write_image(m, static_cast<float*>(a->y) + image * a->ys[0], a->ys);
    }
}

inline void augment_run(const AugmentArgs* a, int64_t begin, int64_t end, void* scratch) {
    for (int64_t image = begin; image < end; ++image) augment_one(a, image, static_cast<float*>(scratch));
}

}  // namespace
}  // namespace
#endif
