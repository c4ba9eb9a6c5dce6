// The headers alone, without Python: every level that this processor has, or the one that is named.
//   kernels [portable | avx2 | avx512 | avx512_bf16 | amx]     exit status 77: this processor lacks it
#include "harness.h"

int main(int count, char** names) {
    const unsigned usable = fc_detect_isa() & fc_compiled_isa();
    int failures = 0, levels = 0;
    for (int level = 0; level < FC_ISA_COUNT; ++level) {
        if (count > 1 && strcmp(names[1], fc_isa_names[level])) continue;
        if (!(usable >> level & 1)) {
            printf("%s: skipped, %s\n", fc_isa_names[level],
                   fc_compiled_isa() >> level & 1 ? "this processor lacks it" : "this build does not contain it");
            continue;
        }
        if (level == FC_AMX) {
            printf("amx: skipped, permission for its registers has to be asked of the system first\n");
            continue;
        }
        Bench b(level);
        test_convolution(b);
        test_transforms(b);
        test_layers(b);
        test_arrays(b);
        test_pictures(b);
        int ran = 0;
        for (bool one : b.ran) ran += one;
        printf("%s: %d comparisons with the definitions, %d failed; %d of %d kernels ran\n", fc_isa_names[level], b.checks,
               b.failures, ran, static_cast<int>(FC_KERNEL_COUNT));
        failures += b.failures;
        ++levels;
    }
    return failures ? 1 : levels ? 0 : 77;
}
