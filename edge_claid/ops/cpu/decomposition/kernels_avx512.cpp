// Decomposition kernels: AVX-512 with VNNI, BW, VL, VPOPCNTDQ.
#include "kernels.h"

#include <immintrin.h>

#define KERNEL_SYMBOL kAvx512
#define KERNEL_NAME "avx512"
#define OWN_NEXT_MOVER
#define OWN_DEGREE

namespace decomposition {
namespace {

using Cell = int8_t;
constexpr size_t kGroup = 4;
constexpr size_t kBlockRows = 8;  // times two registers of columns: 16 accumulators hide vpdpbusd's latency

inline __m512i quad(const Cell* row) {
    int32_t four;
    __builtin_memcpy(&four, row, sizeof four);
    return _mm512_set1_epi32(four);
}

// vpdpbusd multiplies unsigned by signed bytes: columns are offset by 128, which the row's sum takes back.
inline void gram_block(const Cell* rows, const Cell* columns, const int32_t* sums, size_t groups, int shift,
                       int16_t* tile) {
    const __m512i offset = _mm512_set1_epi8(static_cast<char>(0x80));
    const int32_t half = (1 << shift) >> 1;
    __m512i low[kBlockRows], high[kBlockRows];
    for (size_t r = 0; r < kBlockRows; ++r) low[r] = high[r] = _mm512_set1_epi32(half - 128 * sums[r]);
    for (size_t g = 0; g < groups; ++g) {
        const Cell* column = columns + g * kPanel * kGroup;
        const __m512i first = _mm512_xor_si512(_mm512_load_si512(column), offset);
        const __m512i second = _mm512_xor_si512(_mm512_load_si512(column + 64), offset);
        for (size_t r = 0; r < kBlockRows; ++r) {
            const __m512i row = quad(rows + (g * kPanel + r) * kGroup);
            low[r] = _mm512_dpbusd_epi32(low[r], first, row);
            high[r] = _mm512_dpbusd_epi32(high[r], second, row);
        }
    }
    const __m128i count = _mm_cvtsi32_si128(shift);
    for (size_t r = 0; r < kBlockRows; ++r) {
        const __m256i left = _mm512_cvtsepi32_epi16(_mm512_sra_epi32(low[r], count));
        const __m256i right = _mm512_cvtsepi32_epi16(_mm512_sra_epi32(high[r], count));
        _mm512_store_si512(tile + r * kPanel, _mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1));
    }
}

void gram_tile(const Cell* rows, const Cell* columns, const int32_t* sums, size_t groups, int shift, int16_t* tile) {
    for (size_t r = 0; r < kPanel; r += kBlockRows)
        gram_block(rows + r * kGroup, columns, sums + r, groups, shift, tile + r * kPanel);
}

// Transposes 8 x 8 blocks of 4 x (16-bit) columns at once: a register holds 32 columns, so four blocks side by side.
inline void transpose_rows(const int16_t* tile, size_t r, int16_t* transposed) {
    __m512i a[8], b[8];
    for (int k = 0; k < 8; ++k) a[k] = _mm512_load_si512(tile + (r + k) * kPanel);
    for (int k = 0; k < 4; ++k) {
        b[2 * k] = _mm512_unpacklo_epi16(a[k], a[k + 4]);
        b[2 * k + 1] = _mm512_unpackhi_epi16(a[k], a[k + 4]);
    }
    for (int k = 0; k < 4; ++k) {
        a[2 * k] = _mm512_unpacklo_epi16(b[k], b[k + 4]);
        a[2 * k + 1] = _mm512_unpackhi_epi16(b[k], b[k + 4]);
    }
    for (int k = 0; k < 4; ++k) {
        b[2 * k] = _mm512_unpacklo_epi16(a[k], a[k + 4]);
        b[2 * k + 1] = _mm512_unpackhi_epi16(a[k], a[k + 4]);
    }
    for (int k = 0; k < 8; ++k) {  // quarter q of b[k] is column 8 q + k of the eight rows
        int16_t* to = transposed + k * kPanel + r;
        _mm_store_si128(reinterpret_cast<__m128i*>(to), _mm512_extracti32x4_epi32(b[k], 0));
        _mm_store_si128(reinterpret_cast<__m128i*>(to + 8 * kPanel), _mm512_extracti32x4_epi32(b[k], 1));
        _mm_store_si128(reinterpret_cast<__m128i*>(to + 16 * kPanel), _mm512_extracti32x4_epi32(b[k], 2));
        _mm_store_si128(reinterpret_cast<__m128i*>(to + 24 * kPanel), _mm512_extracti32x4_epi32(b[k], 3));
    }
}

void transpose_tile(const int16_t* tile, int16_t* transposed) {
    for (size_t r = 0; r < kPanel; r += 8) transpose_rows(tile, r, transposed);
}

inline uint32_t bits_above(const int16_t* row, int threshold) {
    return _mm512_cmpgt_epi16_mask(_mm512_loadu_si512(row), _mm512_set1_epi16(static_cast<int16_t>(threshold)));
}

uint32_t degree(const uint32_t* bits, const uint64_t* mask, size_t words) {
    __m512i total = _mm512_setzero_si512();
    for (size_t w = 0; w < words; w += 8) {
        const __mmask8 valid = words - w >= 8 ? 0xFF : static_cast<__mmask8>((1u << (words - w)) - 1);
        const __m512i row = _mm512_maskz_loadu_epi64(valid, bits + 2 * w);
        const __m512i node = _mm512_maskz_loadu_epi64(valid, mask + w);
        total = _mm512_add_epi64(total, _mm512_popcnt_epi64(_mm512_and_si512(row, node)));
    }
    return static_cast<uint32_t>(_mm512_reduce_add_epi64(total));
}

size_t next_mover(const int32_t* t, const uint64_t* member, const uint64_t* second, int32_t balance, size_t start,
                  size_t columns) {
    const __m512i limit = _mm512_set1_epi32(balance);
    size_t k = start - start % 16;
    uint32_t allowed = 0xFFFFu << (start % 16);
    for (; k < columns; k += 16, allowed = 0xFFFFu) {
        const __m512i values = _mm512_load_si512(t + k);
        const uint32_t half = static_cast<uint16_t>(second[k / 64] >> (k % 64));
        const uint32_t inside = static_cast<uint16_t>(member[k / 64] >> (k % 64));
        const uint32_t above = _mm512_cmpgt_epi32_mask(values, limit);
        const uint32_t below = _mm512_cmplt_epi32_mask(values, limit);
        const uint32_t movers = ((half & above) | (~half & below)) & inside & allowed;
        if (movers) return k + _tzcnt_u32(movers);
    }
    return columns;
}

}  // namespace
}  // namespace decomposition

#include "kernels.inc"
