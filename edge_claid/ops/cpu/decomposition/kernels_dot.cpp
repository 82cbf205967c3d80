// Decomposition kernels: arm64 with the dot-product extension (FEAT_DotProd).
#include "kernels.h"

#include <arm_neon.h>

#define KERNEL_SYMBOL kDot
#define KERNEL_NAME "dot"
#define OWN_NEXT_MOVER

namespace decomposition {
namespace {

using Cell = int8_t;
constexpr size_t kGroup = 4;
constexpr size_t kBlockRows = 4, kBlockVectors = 4;  // 16 accumulators of 4 columns; a row register serves 4 rows

inline void gram_block(const Cell* rows, const Cell* columns, size_t groups, int32x4_t half, int32x4_t shift,
                       int16_t* tile) {
    int32x4_t sums[kBlockRows][kBlockVectors];
    for (size_t r = 0; r < kBlockRows; ++r)
        for (size_t v = 0; v < kBlockVectors; ++v) sums[r][v] = half;
    for (size_t g = 0; g < groups; ++g) {
        const int8x16_t row = vld1q_s8(rows + g * kPanel * kGroup);
        for (size_t v = 0; v < kBlockVectors; ++v) {
            const int8x16_t column = vld1q_s8(columns + g * kPanel * kGroup + 16 * v);
            sums[0][v] = vdotq_laneq_s32(sums[0][v], column, row, 0);
            sums[1][v] = vdotq_laneq_s32(sums[1][v], column, row, 1);
            sums[2][v] = vdotq_laneq_s32(sums[2][v], column, row, 2);
            sums[3][v] = vdotq_laneq_s32(sums[3][v], column, row, 3);
        }
    }
    for (size_t r = 0; r < kBlockRows; ++r)
        for (size_t v = 0; v < kBlockVectors; ++v)
            vst1_s16(tile + r * kPanel + 4 * v, vqmovn_s32(vshlq_s32(sums[r][v], shift)));
}

void gram_tile(const Cell* rows, const Cell* columns, const int32_t*, size_t groups, int shift, int16_t* tile) {
    const int32x4_t half = vdupq_n_s32((1 << shift) >> 1), right = vdupq_n_s32(-shift);
    for (size_t c = 0; c < kPanel; c += 4 * kBlockVectors)
        for (size_t r = 0; r < kPanel; r += kBlockRows)
            gram_block(rows + r * kGroup, columns + c * kGroup, groups, half, right, tile + r * kPanel + c);
}

inline void transpose_8x8(const int16_t* from, int16_t* to) {
    int16x8_t a[8], b[8];
    for (int r = 0; r < 8; ++r) a[r] = vld1q_s16(from + r * kPanel);
    for (int r = 0; r < 4; ++r) {
        b[2 * r] = vzip1q_s16(a[r], a[r + 4]);
        b[2 * r + 1] = vzip2q_s16(a[r], a[r + 4]);
    }
    for (int r = 0; r < 4; ++r) {
        a[2 * r] = vzip1q_s16(b[r], b[r + 4]);
        a[2 * r + 1] = vzip2q_s16(b[r], b[r + 4]);
    }
    for (int r = 0; r < 4; ++r) {
        vst1q_s16(to + 2 * r * kPanel, vzip1q_s16(a[r], a[r + 4]));
        vst1q_s16(to + (2 * r + 1) * kPanel, vzip2q_s16(a[r], a[r + 4]));
    }
}

void transpose_tile(const int16_t* tile, int16_t* transposed) {
    for (size_t r = 0; r < kPanel; r += 8)
        for (size_t c = 0; c < kPanel; c += 8) transpose_8x8(tile + r * kPanel + c, transposed + c * kPanel + r);
}

inline uint32_t bits_above(const int16_t* row, int threshold) {
    const int16x8_t limit = vdupq_n_s16(static_cast<int16_t>(threshold));
    const uint16x8_t weights = {1, 2, 4, 8, 16, 32, 64, 128};
    uint32_t bits = 0;
    for (int v = 0; v < 4; ++v) {
        const uint16x8_t above = vcgtq_s16(vld1q_s16(row + 8 * v), limit);
        bits |= static_cast<uint32_t>(vaddvq_u16(vandq_u16(above, weights))) << (8 * v);
    }
    return bits;
}

size_t next_mover(const int32_t* t, const uint64_t* member, const uint64_t* second, int32_t balance, size_t start,
                  size_t columns) {
    const int32x4_t limit = vdupq_n_s32(balance);
    const uint32x4_t weights = {1, 2, 4, 8};
    uint32_t allowed = 0xFu << (start % 4) & 0xFu;
    for (size_t k = start - start % 4; k < columns; k += 4, allowed = 0xFu) {
        const uint32_t inside = static_cast<uint32_t>(member[k / 64] >> (k % 64)) & allowed;
        if (!inside) continue;
        const int32x4_t values = vld1q_s32(t + k);
        const uint32_t above = vaddvq_u32(vandq_u32(vcgtq_s32(values, limit), weights));
        const uint32_t below = vaddvq_u32(vandq_u32(vcltq_s32(values, limit), weights));
        const uint32_t half = static_cast<uint32_t>(second[k / 64] >> (k % 64));
        const uint32_t movers = ((half & above) | (~half & below)) & inside;
        if (movers) return k + static_cast<size_t>(__builtin_ctz(movers));
    }
    return columns;
}

}  // namespace
}  // namespace decomposition

#include "kernels.inc"
