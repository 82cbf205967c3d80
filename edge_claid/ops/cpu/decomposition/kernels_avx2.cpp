// Decomposition kernels: AVX2. Values are widened to int16 when packed, so that vpmaddwd takes two at a time exactly.
#include "kernels.h"

#include <immintrin.h>

#define KERNEL_SYMBOL kAvx2
#define KERNEL_NAME "avx2"
#define OWN_NEXT_MOVER

namespace decomposition {
namespace {

using Cell = int16_t;
constexpr size_t kGroup = 2;
constexpr size_t kBlockRows = 4, kBlockVectors = 2;  // 8 accumulators of 8 columns: with operands within 16 registers
constexpr size_t kBlocks = kPanel * kPanel / (kBlockRows * kBlockVectors * 8);
constexpr size_t kCachedGroups = 96;  // two panels of 12 kB each stay in the L1 cache

// Shifted and saturated: 8 columns a register, two registers -> 16 int16 in order.
inline __m256i narrowed(__m256i low, __m256i high, __m256i half, __m128i shift) {
    low = _mm256_sra_epi32(_mm256_add_epi32(low, half), shift);
    high = _mm256_sra_epi32(_mm256_add_epi32(high, half), shift);
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
}

inline __m256i two(const Cell* row) {
    int32_t both;
    __builtin_memcpy(&both, row, sizeof both);
    return _mm256_set1_epi32(both);
}

struct Block {
    __m256i sums[kBlockRows][kBlockVectors];
};

inline void add_products(const Cell* rows, const Cell* columns, size_t groups, Block* block) {
    for (size_t g = 0; g < groups; ++g) {
        const __m256i* column = reinterpret_cast<const __m256i*>(columns + g * kPanel * kGroup);
        const __m256i first = _mm256_load_si256(column), second = _mm256_load_si256(column + 1);
        for (size_t r = 0; r < kBlockRows; ++r) {
            const __m256i pair = two(rows + (g * kPanel + r) * kGroup);
            block->sums[r][0] = _mm256_add_epi32(block->sums[r][0], _mm256_madd_epi16(pair, first));
            block->sums[r][1] = _mm256_add_epi32(block->sums[r][1], _mm256_madd_epi16(pair, second));
        }
    }
}

void gram_tile(const Cell* rows, const Cell* columns, const int32_t*, size_t groups, int shift, int16_t* tile) {
    alignas(64) Block partial[kBlocks];
    const __m256i half = _mm256_set1_epi32((1 << shift) >> 1);
    const __m128i count = _mm_cvtsi32_si128(shift);
    for (size_t start = 0; start < groups; start += kCachedGroups) {
        const size_t some = groups - start < kCachedGroups ? groups - start : kCachedGroups;
        const size_t skipped = start * kPanel * kGroup;
        for (size_t b = 0; b < kBlocks; ++b) {
            const size_t r0 = b % (kPanel / kBlockRows) * kBlockRows, c0 = b / (kPanel / kBlockRows) * 16;
            Block block = start ? partial[b] : Block{};
            add_products(rows + skipped + r0 * kGroup, columns + skipped + c0 * kGroup, some, &block);
            if (start + some < groups) {
                partial[b] = block;
                continue;
            }
            for (size_t r = 0; r < kBlockRows; ++r)
                _mm256_store_si256(reinterpret_cast<__m256i*>(tile + (r0 + r) * kPanel + c0),
                                   narrowed(block.sums[r][0], block.sums[r][1], half, count));
        }
    }
}

inline void transpose_8x8(const int16_t* from, int16_t* to) {
    __m128i a[8], b[8];
    for (int r = 0; r < 8; ++r) a[r] = _mm_load_si128(reinterpret_cast<const __m128i*>(from + r * kPanel));
    for (int r = 0; r < 4; ++r) {
        b[2 * r] = _mm_unpacklo_epi16(a[r], a[r + 4]);
        b[2 * r + 1] = _mm_unpackhi_epi16(a[r], a[r + 4]);
    }
    for (int r = 0; r < 4; ++r) {
        a[2 * r] = _mm_unpacklo_epi16(b[r], b[r + 4]);
        a[2 * r + 1] = _mm_unpackhi_epi16(b[r], b[r + 4]);
    }
    for (int r = 0; r < 4; ++r) {
        _mm_store_si128(reinterpret_cast<__m128i*>(to + 2 * r * kPanel), _mm_unpacklo_epi16(a[r], a[r + 4]));
        _mm_store_si128(reinterpret_cast<__m128i*>(to + (2 * r + 1) * kPanel), _mm_unpackhi_epi16(a[r], a[r + 4]));
    }
}

void transpose_tile(const int16_t* tile, int16_t* transposed) {
    for (size_t r = 0; r < kPanel; r += 8)
        for (size_t c = 0; c < kPanel; c += 8) transpose_8x8(tile + r * kPanel + c, transposed + c * kPanel + r);
}

inline uint32_t bits_above(const int16_t* row, int threshold) {
    const __m256i limit = _mm256_set1_epi16(static_cast<int16_t>(threshold));
    const __m256i* from = reinterpret_cast<const __m256i*>(row);
    const __m256i low = _mm256_cmpgt_epi16(_mm256_load_si256(from), limit);
    const __m256i high = _mm256_cmpgt_epi16(_mm256_load_si256(from + 1), limit);
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xD8);
    return static_cast<uint32_t>(_mm256_movemask_epi8(bytes));
}

inline uint32_t signs(__m256i x) { return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(x))); }

size_t next_mover(const int32_t* t, const uint64_t* member, const uint64_t* second, int32_t balance, size_t start,
                  size_t columns) {
    const __m256i limit = _mm256_set1_epi32(balance);
    uint32_t skip = start % 8;
    for (size_t k = start - skip; k < columns; k += 8, skip = 0) {
        const __m256i values = _mm256_load_si256(reinterpret_cast<const __m256i*>(t + k));
        const uint32_t above = signs(_mm256_cmpgt_epi32(values, limit));
        const uint32_t below = signs(_mm256_cmpgt_epi32(limit, values));
        const uint32_t half = static_cast<uint32_t>(second[k / 64] >> (k % 64));
        const uint32_t inside = static_cast<uint32_t>(member[k / 64] >> (k % 64));
        const uint32_t movers = ((half & above) | (~half & below)) & inside & (0xFFu << skip) & 0xFFu;
        if (movers) return k + _tzcnt_u32(movers);
    }
    return columns;
}

}  // namespace
}  // namespace decomposition

#include "kernels.inc"
