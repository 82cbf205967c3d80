// One pass over the codes for a batch of queries, and the k best images of what it leaves.
#pragma once
#include "arguments.h"

// Codes as words, loaded in as few instructions as there can be.
template <int M>
struct Code {
    uint32_t words[M / 4];
};

template <int M>
__device__ __forceinline__ Code<M> load_code(const uint8_t* codes, int row) {
    Code<M> code;
    const uint8_t* from = codes + row * M;  // of a segment, at most 2^25 bytes
    if constexpr (M == 4) {
        code.words[0] = __ldg((const uint32_t*)from);
    } else if constexpr (M == 8) {
        const uint2 both = __ldg((const uint2*)from);
        code.words[0] = both.x, code.words[1] = both.y;
    } else {
#pragma unroll
        for (int part = 0; part < M / 16; ++part) {
            const uint4 four = __ldg((const uint4*)from + part);
            code.words[4 * part] = four.x, code.words[4 * part + 1] = four.y;
            code.words[4 * part + 2] = four.z, code.words[4 * part + 3] = four.w;
        }
    }
    return code;
}

// A row that the bound did not discard: its exact distance, and if it may count, its image's best row.
__device__ __forceinline__ void offer(const Scan& args, int query, int64_t row) {
    if (!(args.live[row >> kSegmentBits][(row & ((1 << kSegmentBits) - 1)) / 32] >> (row % 32) & 1)) return;
    const float* table = args.tables + (int64_t)query * args.subspaces * kCodewords;
    const float distance = exact_distance(table, code_of(args, row), args.subspaces);
    if (!(distance <= args.thresholds[query])) return;
    const int32_t image = image_of(args, row);
    if (args.marked && !is_marked(args, image)) return;
    const int64_t place = (int64_t)query * args.image_count + image;
    const unsigned long long key = (unsigned long long)ordered_bits(distance) << 32 | (uint32_t)row;
    if (atomicMin(&args.best[place], key) == kUntouched)
        args.touched[(int64_t)query * args.image_count + atomicAdd(&args.counts[query], 1u)] = image;
}

template <int M>
__device__ __forceinline__ uint32_t byte_sum(const uint8_t* bytes, const Code<M>& code) {
    uint32_t sum = 0;
#pragma unroll
    for (int m = 0; m < M; ++m) sum += bytes[m * kCodewords + (code.words[m / 4] >> (8 * (m % 4)) & 255)];
    return sum;
}

// Sums of four queries, in halves of two words: queries 0 and 2, and queries 1 and 3.
template <int M>
__device__ __forceinline__ void packed_sums(const uint32_t* words, const Code<M>& code, uint32_t* even, uint32_t* odd) {
    *even = *odd = 0;
#pragma unroll
    for (int m = 0; m < M; ++m) {
        const uint32_t word = words[m * kCodewords + (code.words[m / 4] >> (8 * (m % 4)) & 255)];
        *even += word & 0x00FF00FFu;
        *odd += word >> 8 & 0x00FF00FFu;
    }
}

// Which queries of a group the bound does not discard a row for, a bit each.
template <int M, int Pack>
__device__ __forceinline__ uint32_t survivors_of(const char* shared, int group, int queries, const Code<M>& code) {
    if constexpr (Pack == 1) {
        return byte_sum<M>((const uint8_t*)shared, code) <= 254;
    } else {
        uint32_t even, odd;
        packed_sums<M>((const uint32_t*)shared + group * M * kCodewords, code, &even, &odd);
        const uint32_t survivors = ((even & 0xFFFF) <= 254) | ((odd & 0xFFFF) <= 254) << 1 |
                                   ((even >> 16) <= 254) << 2 | ((odd >> 16) <= 254) << 3;
        const int left = queries - group * Pack;
        return left >= Pack ? survivors : survivors & ((1u << left) - 1);
    }
}

// Every step-th chunk of rows against all queries, whose byte tables lie in shared memory. A block takes one chunk after
// the other; a thread some rows of it at a time, so that as many loads are under way. Rows behind the last are looked up
// as if they were the chunk's first, for a branch a row would keep the rows' look-ups from overlapping.
template <int M, int Pack>
__device__ __forceinline__ void scan_rows(const Scan& args, char* shared) {
    const int groups = Pack == 1 ? 1 : (args.queries + Pack - 1) / Pack;
    const uint32_t* from = (const uint32_t*)args.bytes;
    for (int w = threadIdx.x; w < groups * M * kCodewords * Pack / 4; w += kThreads) ((uint32_t*)shared)[w] = from[w];
    __syncthreads();
    constexpr int kRows = M > 16 ? 2 : 4;  // more would not fit the registers
    constexpr uint32_t kOfRow = (1u << Pack) - 1;
    const int64_t chunks = (args.rows + kChunk - 1) / kChunk;
    for (int64_t chunk = (int64_t)blockIdx.x * args.step; chunk < chunks; chunk += (int64_t)gridDim.x * args.step) {
        const int64_t first = chunk * kChunk, left = args.rows - first;
        const int rows = left < kChunk ? (int)left : kChunk;
        const uint8_t* codes = args.codes[first >> kSegmentBits] + (first & ((1 << kSegmentBits) - 1)) * M;
        for (int start = threadIdx.x; start < kChunk; start += kRows * kThreads) {
            Code<M> own[kRows];
            uint32_t there = 0;
#pragma unroll
            for (int r = 0; r < kRows; ++r) {
                const int row = start + r * kThreads;
                own[r] = load_code<M>(codes, row < rows ? row : 0);
                there |= row < rows ? kOfRow << (r * Pack) : 0;
            }
            for (int group = 0; group < groups; ++group) {
                uint32_t survivors = 0;
#pragma unroll
                for (int r = 0; r < kRows; ++r)
                    survivors |= survivors_of<M, Pack>(shared, group, args.queries, own[r]) << (r * Pack);
                for (survivors &= there; survivors; survivors &= survivors - 1) {
                    const int bit = __ffs(survivors) - 1;
                    offer(args, group * Pack + bit % Pack, first + start + bit / Pack * kThreads);
                }
            }
        }
    }
}

// Grid: any; shared: the byte tables, ceil(Q / pack) M 256 pack bytes.
#define SCAN_KERNEL(M, Pack, blocks)                         \
    KERNEL(kThreads, blocks, scan_codes_##M##_##Pack, Scan) { \
        DYNAMIC_SHARED(shared);                              \
        scan_rows<M, Pack>(args, shared);                    \
    }
SCAN_KERNEL(4, 1, 4)
SCAN_KERNEL(8, 1, 4)
SCAN_KERNEL(16, 1, 3)
SCAN_KERNEL(32, 1, 2)
SCAN_KERNEL(4, 4, 4)
SCAN_KERNEL(8, 4, 4)
SCAN_KERNEL(16, 4, 2)
SCAN_KERNEL(32, 4, 2)
