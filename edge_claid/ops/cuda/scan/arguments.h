// What the scan's kernels share. The layout is mirrored by ARGUMENTS in cuda/scan_op.py.
//
// Rows (regions in order of appending) lie in segments of 2^20, so that adding never moves what is there. A row belongs
// to an image; a row that is not live is left out.
#pragma once
#include "../kernel.h"

constexpr int kThreads = 256;
constexpr int kWide = 1024;       // threads of select_images, where one block does the work of a query
constexpr int kCodewords = 256;
constexpr int kSegmentBits = 20;
constexpr int kChunk = 1024;      // rows that a block takes at a time; divides a segment
constexpr int kMostSelected = 2048;  // images that are sorted on the device
constexpr int kPack = 4;          // queries whose table bytes share a word
constexpr uint64_t kUntouched = ~uint64_t{0};

struct Scan {
    const uint8_t* const* codes;    // (segments) -> (2^20, M)
    const int32_t* const* images;   // (segments) -> (2^20)
    uint32_t* const* live;          // (segments) -> (2^15) words of bits
    const float* tables;            // (Q, M, 256)
    uint8_t* bytes;                 // quantised tables, see quantise_tables; zeros discard nothing
    float* thresholds;              // (Q) distance that a row must not exceed; infinity before and after a search
    unsigned long long* best;       // (Q, I) by image: distance, ordered as bits, over its nearest row; or untouched
    int32_t* touched;               // (Q, I) images that have a best row
    uint32_t* counts;               // (Q) how many
    const uint32_t* marked;         // bits by image: allowed ones in a search, or null; removed ones in a removal
    int32_t* found_images;          // (Q, k)
    float* found_distances;
    int64_t* found_rows;
    const int64_t *starts, *offsets;  // (ranges), (ranges + 1): rows to score, and where their distances go
    float* distances;
    int64_t rows;
    int32_t subspaces, queries, k, step, image_count, marked_count, pack, ranges;
};

__device__ __forceinline__ uint32_t ordered_bits(float value) {
    const uint32_t bits = __float_as_uint(value + 0.0f);  // -0 becomes 0
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float float_of(uint32_t ordered) {
    return __uint_as_float(ordered >> 31 ? ordered & 0x7FFFFFFFu : ~ordered);
}

// A row's distance as the reference sums it: subspaces ascending, every sum rounded.
__device__ __forceinline__ float exact_distance(const float* table, const uint8_t* code, int subspaces) {
    float sum = 0.0f;
    for (int m = 0; m < subspaces; ++m) sum = __fadd_rn(sum, table[m * kCodewords + code[m]]);
    return sum;
}

__device__ __forceinline__ const uint8_t* code_of(const Scan& args, int64_t row) {
    return args.codes[row >> kSegmentBits] + (row & ((1 << kSegmentBits) - 1)) * args.subspaces;
}

__device__ __forceinline__ int32_t image_of(const Scan& args, int64_t row) {
    return args.images[row >> kSegmentBits][row & ((1 << kSegmentBits) - 1)];
}

__device__ __forceinline__ bool is_marked(const Scan& args, int32_t image) {
    return image < args.marked_count && (args.marked[image / 32] >> (image % 32) & 1);
}
