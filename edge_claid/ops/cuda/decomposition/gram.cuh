// Products of all pairs of quantised tokens in 16 bits, and who is connected (integer_affinity of the reference).
#pragma once
#include "arguments.h"

constexpr int kDepth = 32;                 // values of a token that lie in shared memory at a time
constexpr int kWords = kDepth / 4;         // as words of four
constexpr int kPitch = kWords + 1;         // of a token in shared memory; odd, so that tokens lie in different banks
constexpr int kOut = kTile + 2;            // of a row of the finished tile, in int16; rows lie in different banks too
constexpr int kGramShared = kTile * kOut * 2;  // bytes; the operands, 2 * kTile * kPitch * 4, fit into the same place

// The n-th tile (row, column) of the upper triangle, rows one after the other.
__device__ __forceinline__ void tile_of(int n, int side, int* row, int* column) {
    int r = 0;
    while (n >= side - r) n -= side - r++;
    *row = r;
    *column = r + n;
}

__device__ __forceinline__ void load_operand(const int8_t* packed, int stride, int first, int depth, int32_t* to) {
    for (int w = threadIdx.x; w < kTile * kWords; w += kThreads) {
        const int token = w / kWords, word = w % kWords;
        const int d = depth + 4 * word;
        to[token * kPitch + word] =
            d < stride ? *(const int32_t*)(packed + (int64_t)(first + token) * stride + d) : 0;
    }
}

// Rows of the finished tile, or its columns, to global memory, and the bits of those above the threshold.
__device__ __forceinline__ void store_tile(const Decomposition& args, const int16_t* tile, int image, int first_row,
                                           int first_column, bool transposed, int threshold) {
    const int lane = threadIdx.x % 32;
    for (int r = threadIdx.x / 32; r < kTile; r += kThreads / 32) {
        const int row = first_row + r;
        int16_t* gram = args.gram + ((int64_t)image * args.padded + row) * args.padded + first_column;
        uint32_t* bits = args.bits + ((int64_t)image * args.padded + row) * args.words + first_column / 32;
        for (int part = 0; part < kTile / 32; ++part) {
            const int c = 32 * part + lane, column = first_column + c;
            const int16_t value = transposed ? tile[c * kOut + r] : tile[r * kOut + c];
            gram[c] = value;
            const bool linked = value > threshold && row != column && row < args.tokens && column < args.tokens;
            const uint32_t word = __ballot_sync(FULL_WARP, linked);
            if (lane == 0) bits[part] = word;
        }
    }
}

// Grid: (tiles of the upper triangle, B); shared: kGramShared. A thread makes 8 x 8 products, 16 tokens apart.
KERNEL(kThreads, 2, gram_tiles, Decomposition) {
    DYNAMIC_SHARED(shared);
    const ImageState* state = args.states + blockIdx.y;
    if (state->status) return;
    int32_t* left = (int32_t*)shared;
    int32_t* right = left + kTile * kPitch;
    int tile_row, tile_column;
    tile_of(blockIdx.x, args.padded / kTile, &tile_row, &tile_column);
    const int8_t* packed = args.packed + (int64_t)blockIdx.y * args.padded * args.stride;
    const int y = threadIdx.x / 16, x = threadIdx.x % 16;
    int32_t sums[8][8] = {};
    for (int depth = 0; depth < args.stride; depth += kDepth) {
        load_operand(packed, args.stride, tile_row * kTile, depth, left);
        load_operand(packed, args.stride, tile_column * kTile, depth, right);
        __syncthreads();
#pragma unroll
        for (int word = 0; word < kWords; ++word) {
            int32_t a[8], b[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) a[i] = left[(16 * i + y) * kPitch + word];
#pragma unroll
            for (int j = 0; j < 8; ++j) b[j] = right[(16 * j + x) * kPitch + word];
#pragma unroll
            for (int i = 0; i < 8; ++i)
#pragma unroll
                for (int j = 0; j < 8; ++j) sums[i][j] = __dp4a(a[i], b[j], sums[i][j]);
        }
        __syncthreads();
    }
    int16_t* tile = (int16_t*)shared;
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const int r = 16 * i + y, c = 16 * j + x;
            const int32_t rounded = (sums[i][j] + state->half) >> state->shift;
            const bool own = tile_row == tile_column && r == c;
            tile[r * kOut + c] = (int16_t)(own ? state->unit : rounded < 32767 ? rounded : 32767);
        }
    __syncthreads();
    store_tile(args, tile, blockIdx.y, tile_row * kTile, tile_column * kTile, false, state->threshold);
    if (tile_row != tile_column)
        store_tile(args, tile, blockIdx.y, tile_column * kTile, tile_row * kTile, true, state->threshold);
}
