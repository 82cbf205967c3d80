// Look-up tables in bytes whose sums tell for certain which rows are too far; the bound of cpu/scan/byte_table.h.
#pragma once
#include "arguments.h"

constexpr int kMostSubspaces = 32;
constexpr int kTablesAtOnce = kWide / kCodewords;
constexpr int kWarpsOfTable = kCodewords / 32;

// Shared memory of quantise_tables. least, most: entries of each subspace, by warp and then over all of them.
struct TableBounds {
    double least_sum, magnitude_sum;
    float least[kMostSubspaces][kWarpsOfTable], most[kMostSubspaces][kWarpsOfTable];
};

// Extremes of every table. To be called by all threads of a wide block; a thread a codeword, four tables at a time.
__device__ __forceinline__ void bound_tables(const float* tables, int subspaces, TableBounds* bounds) {
    const int codeword = threadIdx.x % kCodewords, warp = codeword / 32;
    for (int m = threadIdx.x / kCodewords; m < subspaces; m += kTablesAtOnce) {
        const uint32_t entry = ordered_bits(tables[m * kCodewords + codeword]);
        const uint32_t low = warp_min(entry), high = ~warp_min(~entry);
        if (codeword % 32 == 0) bounds->least[m][warp] = float_of(low), bounds->most[m][warp] = float_of(high);
    }
    __syncthreads();
    if ((int)threadIdx.x < subspaces) {
        float *least = bounds->least[threadIdx.x], *most = bounds->most[threadIdx.x];
        for (int w = 1; w < kWarpsOfTable; ++w) least[0] = fminf(least[0], least[w]), most[0] = fmaxf(most[0], most[w]);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        bounds->least_sum = bounds->magnitude_sum = 0.0;
        for (int m = 0; m < subspaces; ++m) {
            const double least = bounds->least[m][0], most = bounds->most[m][0];
            bounds->least_sum += least;
            bounds->magnitude_sum += fmax(fabs(least), fabs(most));
        }
    }
    __syncthreads();
}

// The tables of a query for a threshold, in bytes. To be called by all threads of a wide block.
// With pack = 1 the bytes of a query lie as (M, 256); with pack = 4 those of four queries as (M, 256, 4).
__device__ __forceinline__ void quantise_tables(const Scan& args, int query, float threshold, TableBounds* bounds) {
    const float* tables = args.tables + (int64_t)query * args.subspaces * kCodewords;
    uint8_t* to = args.bytes + (int64_t)(query / args.pack) * args.subspaces * kCodewords * args.pack + query % args.pack;
    bound_tables(tables, args.subspaces, bounds);
    const double rounding = ldexp(1.02 * (args.subspaces + 1.0), -24) * bounds->magnitude_sum;
    const double range = (double)threshold - bounds->least_sum + rounding;
    const float scale = isinf(threshold) ? 0.0f : (float)fmin(254.0 / range, 1e30);
    for (int i = threadIdx.x; i < args.subspaces * kCodewords; i += kWide) {
        const float steps = fminf((tables[i] - bounds->least[i / kCodewords][0]) * scale, 255.0f);
        to[(int64_t)i * args.pack] = (uint8_t)(int)(steps > 0.0f ? steps : 0.0f);
    }
}
