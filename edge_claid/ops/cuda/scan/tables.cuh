// Look-up tables in bytes whose sums tell for certain which rows are too far; the bound of cpu/scan/byte_table.h.
#pragma once
#include "arguments.h"

// Grid: (Q); shared: kThreads / 32 floats twice and two doubles. A thread a codeword.
// With pack = 1 the bytes of a query lie as (M, 256); with pack = 4 those of four queries as (M, 256, 4).
KERNEL(kThreads, 4, byte_tables, Scan) {
    DYNAMIC_SHARED(shared);
    double* bound = (double*)shared;  // sum of least entries, sum of magnitudes
    float* least_of = (float*)(bound + 2);
    float* most_of = least_of + kThreads / 32;
    const int query = blockIdx.x, codeword = threadIdx.x, warp = threadIdx.x / 32;
    const float* table = args.tables + (int64_t)query * args.subspaces * kCodewords;
    uint8_t* to = args.bytes + (int64_t)(query / args.pack) * args.subspaces * kCodewords * args.pack + query % args.pack;
    if (threadIdx.x == 0) bound[0] = bound[1] = 0.0;
    for (int pass = 0; pass < 2; ++pass)
        for (int m = 0; m < args.subspaces; ++m) {
            const float value = table[m * kCodewords + codeword];
            const float low = float_of(warp_min(ordered_bits(value)));
            const float high = float_of(~warp_min(~ordered_bits(value)));
            __syncthreads();  // what was read of the last subspace is read
            if (threadIdx.x % 32 == 0) least_of[warp] = low, most_of[warp] = high;
            __syncthreads();
            float least = least_of[0], most = most_of[0];
            for (int w = 1; w < kThreads / 32; ++w) least = fminf(least, least_of[w]), most = fmaxf(most, most_of[w]);
            if (pass == 0) {
                if (threadIdx.x == 0) bound[0] += least, bound[1] += fmax(fabs((double)least), fabs((double)most));
                continue;
            }
            const float threshold = args.thresholds[query];
            const double rounding = ldexp(1.02 * (args.subspaces + 1.0), -24) * bound[1];
            const double range = (double)threshold - bound[0] + rounding;
            const float scale = isinf(threshold) ? 0.0f : (float)fmin(254.0 / range, 1e30);
            const float steps = fminf((value - least) * scale, 255.0f);
            to[(int64_t)(m * kCodewords + codeword) * args.pack] = (uint8_t)(int)(steps > 0.0f ? steps : 0.0f);
        }
}
