// Runs the kernels of the AMX object on processors that lack AMX: every tile instruction raises SIGILL, and the handler decodes
// it and does what the manual says. So what is tested is the object as it is shipped: its instructions, their operands,
// the configuration. The arithmetic below is written from the manual (scalar, fma), not shared with planes/tiles.inl.h.
// On a processor that has AMX and was asked for it, nothing traps and the instructions themselves run.
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <xmmintrin.h>

#include "fastconv/planes/args.h"
#include "fastconv/table.h"

extern "C" const FcKernelTable fastconv_amx_planes;

namespace {

struct Unit {
    bool open;
    uint8_t rows[8];
    uint16_t bytes[8];
    uint8_t tile[8][16][64];
};
thread_local Unit unit;
int64_t trapped;

const int kRegisters[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

float widen(uint16_t v) {
    const uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

void dot(int d, int a, int b) {
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(0x9fc0);  // denormals are zero, flush to zero, round to nearest, exceptions masked
    const int columns = unit.bytes[d] / 4, depth = unit.bytes[a] / 4;
    for (int m = 0; m < unit.rows[d]; ++m) {
        float sums[32] = {};
        for (int k = 0; k < depth; ++k)
            for (int n = 0; n < columns; ++n)
                for (int h = 0; h < 2; ++h) {
                    uint16_t x, y;
                    memcpy(&x, unit.tile[a][m] + 4 * k + 2 * h, 2);
                    memcpy(&y, unit.tile[b][k] + 4 * n + 2 * h, 2);
                    volatile float sum = fmaf(widen(x), widen(y), sums[2 * n + h]);
                    sums[2 * n + h] = sum;
                }
        for (int n = 0; n < columns; ++n) {
            float c;
            memcpy(&c, unit.tile[d][m] + 4 * n, 4);
            volatile float both = sums[2 * n] + sums[2 * n + 1];
            c += both;
            memcpy(unit.tile[d][m] + 4 * n, &c, 4);
        }
    }
    _mm_setcsr(mode);
}

// The memory operand behind a ModRM byte: its address, the index register's value, and where the instruction ends.
const uint8_t* operand(const greg_t* r, const uint8_t* p, bool x, bool b, char** address, int64_t* stride) {
    const int mod = *p >> 6, rm = *p & 7;
    ++p;
    int64_t base = 0, index = 0;
    if (rm == 4) {
        const int sib = *p++, i = (sib >> 3 & 7) | x << 3, low = sib & 7;
        if (i != 4) index = r[kRegisters[i]] << (sib >> 6);
        if (low == 5 && mod == 0) abort();
        base = r[kRegisters[low | b << 3]];
    } else {
        if (mod == 0 && rm == 5) abort();
        base = r[kRegisters[rm | b << 3]];
    }
    int64_t shift = 0;
    if (mod == 1) shift = (int8_t)*p, p += 1;
    if (mod == 2) {
        int32_t wide;
        memcpy(&wide, p, 4);
        shift = wide, p += 4;
    }
    *address = (char*)(base + shift);
    *stride = index;
    return p;
}

void handler(int number, siginfo_t*, void* context) {
    greg_t* r = ((ucontext_t*)context)->uc_mcontext.gregs;
    const uint8_t* p = (const uint8_t*)r[REG_RIP];
    if (p[0] != 0xc4 || (p[1] & 31) != 2) {  // VEX, map 0f38
        signal(number, SIG_DFL);
        return;
    }
    const bool x = !(p[1] & 0x40), b = !(p[1] & 0x20);
    const int prefix = p[2] & 3, source2 = ~p[2] >> 3 & 15, opcode = p[3], modrm = p[4], reg = modrm >> 3 & 7, rm = modrm & 7;
    const uint8_t* next = p + 5;
    char* at = nullptr;
    int64_t stride = 0;
    ++trapped;
    if (opcode == 0x49 && prefix == 0 && modrm == 0xc0) {
        unit.open = false;
    } else if (opcode == 0x49 && prefix == 0) {
        next = operand(r, p + 4, x, b, &at, &stride);
        if (at[0] != 1) abort();
        memset(&unit, 0, sizeof unit);
        for (int i = 0; i < 8; ++i) {
            memcpy(&unit.bytes[i], at + 16 + 2 * i, 2);
            unit.rows[i] = at[48 + i];
            if (unit.bytes[i] > 64 || unit.rows[i] > 16) abort();
        }
        unit.open = true;
    } else if (!unit.open) {
        abort();  // the instruction faults before the tiles are configured
    } else if (opcode == 0x49 && prefix == 3) {
        memset(unit.tile[reg], 0, 1024);
    } else if (opcode == 0x4b && prefix == 3) {
        next = operand(r, p + 4, x, b, &at, &stride);
        memset(unit.tile[reg], 0, 1024);
        for (int i = 0; i < unit.rows[reg]; ++i) memcpy(unit.tile[reg][i], at + i * stride, unit.bytes[reg]);
    } else if (opcode == 0x4b && prefix == 2) {
        next = operand(r, p + 4, x, b, &at, &stride);
        for (int i = 0; i < unit.rows[reg]; ++i) memcpy(at + i * stride, unit.tile[reg][i], unit.bytes[reg]);
    } else if (opcode == 0x5c && prefix == 2) {
        if (reg == rm || reg == source2 || rm == source2) abort();
        dot(reg, rm, source2);
    } else {
        abort();
    }
    r[REG_RIP] = (greg_t)next;
}

const FcKernel* find(const char* name) {
    for (int i = 0; i < fastconv_amx_planes.count; ++i)
        if (!strcmp(fastconv_amx_planes.kernels[i].name, name)) return &fastconv_amx_planes.kernels[i];
    abort();
}

// Runs all tiles of a kernel, each by a call of its own; the number of instructions that were emulated.
int64_t run(const char* name, void* args, int64_t n) {
    struct sigaction mine = {}, before;
    mine.sa_sigaction = handler;
    mine.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGILL, &mine, &before);
    const FcKernel* kernel = find(name);
    const int64_t tiles = kernel->tiles(args, n);
    void* scratch = nullptr;
    const size_t need = kernel->scratch(args) + 64;
    if (posix_memalign(&scratch, 64, need)) abort();
    memset(scratch, 0xff, need);
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(0x9fc0);
    trapped = 0;
    for (int64_t t = 0; t < tiles; ++t) kernel->run(args, t, t + 1, scratch);
    _mm_setcsr(mode);
    free(scratch);
    sigaction(SIGILL, &before, nullptr);
    return trapped;
}

template <class Args>
void fill(Args* a, const int64_t* g, const int32_t* taps) {
    int64_t* to[] = {&a->T, &a->G, &a->C, &a->K, &a->ldx, &a->xD, &a->xH, &a->xW, &a->iD, &a->iH, &a->iW, &a->sd, &a->sh, &a->sw};
    for (int64_t* field : to) *field = *g++;
    a->ldx /= 2;
    a->taps = taps;
}

}  // namespace

extern "C" int64_t forward(int64_t n, const int64_t* geometry, const int32_t* taps, const float* x, const float* w, float* y,
                           int64_t ldy, const float* zeros, int64_t planes, int64_t plane_stride) {
    PlaneConvArgs a = {};
    fill(&a, geometry, taps);
    a.x = x, a.w = w, a.y = y, a.zeros = zeros, a.ldy = ldy, a.planes = planes, a.plane_stride = plane_stride;
    a.yD = a.iD, a.yH = a.iH, a.yW = a.iW, a.odd = a.ohh = a.oww = 1;
    return run("bf16_conv_amx", &a, n);
}

extern "C" int64_t backward_weight(int64_t n, const int64_t* geometry, const int32_t* taps, const float* x, const float* gy,
                                   int64_t ldy, float* dw, const float* zeros, int64_t planes, int64_t x_stride,
                                   int64_t gy_stride) {
    PlaneWeightArgs a = {};
    fill(&a, geometry, taps);
    a.x = x, a.gy = gy, a.dw = dw, a.zeros = zeros, a.ldy = ldy / 2, a.parts = 1, a.planes = planes;
    a.x_plane_stride = x_stride, a.gy_plane_stride = gy_stride;
    return run("bf16_conv_backward_weight_amx", &a, n);
}

extern "C" int64_t peak(float* out, int64_t iterations) {
    PeakArgs a = {};
    a.out = out, a.iterations = iterations, a.a = 0.5, a.b = 3;
    return run("bf16_amx_peak", &a, 2);
}
