// The tile type that kernels on AMX are written over: eight registers of 16 rows of 64 bytes, in bfloat16 pairs or floats.
//
//   d (16 x 16 floats) += a (16 rows x 32 bfloat16) * b (16 rows of pairs x 16 columns x 2 bfloat16)
//
// Where the object has AMX these are its instructions, and a `Tiles` is empty. Elsewhere it is an emulation that does what
// Intel's manual writes of TDPBF16PS (Software Developer's Manual, volume 2): per call and column two sums that start at
// zero, one over the even and one over the odd elements in ascending order, each step a fused multiply-add rounded to
// nearest even; then d + (even + odd). Denormal inputs are zero and denormal results are flushed, which is the mode that
// runs set (fpenv.h). Where a fused multiply-add is missing the product of two bfloat16 is still exact, so that only
// products below 2^-126 come out differently (as zeros).
#ifndef FASTCONV_TILES_INL_H
#define FASTCONV_TILES_INL_H

#include "fastconv/planes/planes.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kTileBytes = 1024, kTileRow = 64;

// FC_TILED marks the functions around the tiles. An emulation is for tests: its code is made for size.
#if defined(__AMX_TILE__) && defined(__AMX_BF16__)
#define FC_TILED inline

// Written as assembler rather than by the compiler's macros: those want the register as a literal, and do not say that a
// tile load reads memory.
class Tiles {
public:
    // All eight registers at their full size. Cheap enough to be done by every call of a kernel.
    static FC_INLINE void open() {
        alignas(64) uint8_t config[64] = {1};
        for (int i = 0; i < 8; ++i) {
            config[16 + 2 * i] = kTileRow;
            config[48 + i] = 16;
        }
        __asm__ volatile("ldtilecfg %0" : : "m"(config));
    }
    static FC_INLINE void close() { __asm__ volatile("tilerelease"); }

    template <int R>
    FC_INLINE void zero() {
        __asm__ volatile("tilezero %%tmm%c0" : : "i"(R));
    }
    template <int R>
    FC_INLINE void load(const void* p, int64_t stride) {
        __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(R) : "memory");
    }
    template <int R>
    FC_INLINE void store(void* p, int64_t stride) {
        __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(R) : "memory");
    }
    template <int D, int A, int B>
    FC_INLINE void dot() {
        __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(D), "i"(A), "i"(B));
    }
};

#else
#define FC_TILED inline __attribute__((cold))

typedef char TileRegister[16][kTileRow];

FC_NOINLINE void dot_tiles(TileRegister& d, const TileRegister& a, const TileRegister& b) {
    constexpr int W = kWidth;
    const Vi<W> odds = splat_i<W>(static_cast<int32_t>(0xffff0000u));
    for (int m = 0; m < 16; ++m)
        for (int v = 0; v < 16; v += W) {
            Vf<W> even = Vf<W>{}, odd = Vf<W>{};
            for (int k = 0; k < 16; ++k) {
                const Vi<W> x = splat_i<W>(pair_at(reinterpret_cast<const uint16_t*>(a[m]) + 2 * k));
                const Vi<W> y = load<W>(reinterpret_cast<const int32_t*>(b[k]) + v);
                even = mul_add<W>((Vf<W>)(x << 16), (Vf<W>)(y << 16), even);
                odd = mul_add<W>((Vf<W>)(x & odds), (Vf<W>)(y & odds), odd);
            }
            float* at = reinterpret_cast<float*>(d[m]) + v;
            store<W>(at, load<W>(at) + (even + odd));
        }
}

class Tiles {
public:
    static FC_INLINE void open() {}
    static FC_INLINE void close() {}

    template <int R>
    FC_INLINE void zero() {
        memset(tile[R], 0, kTileBytes);
    }
    template <int R>
    FC_INLINE void load(const void* p, int64_t stride) {
        for (int r = 0; r < 16; ++r) memcpy(tile[R][r], static_cast<const char*>(p) + r * stride, kTileRow);
    }
    template <int R>
    FC_INLINE void store(void* p, int64_t stride) {
        for (int r = 0; r < 16; ++r) memcpy(static_cast<char*>(p) + r * stride, tile[R][r], kTileRow);
    }
    template <int D, int A, int B>
    FC_INLINE void dot() {
        dot_tiles(tile[D], tile[A], tile[B]);
    }

private:
    alignas(64) TileRegister tile[8];
};

#endif

}  // namespace
}  // namespace
#endif
