// Decomposition kernels: AVX-512 with VNNI, BW, VL, VPOPCNTDQ.
#include "kernels.h"

#include <immintrin.h>

#define KERNEL_SYMBOL kAvx512
#define KERNEL_NAME "avx512"
#define OWN_NEXT_MOVER
#define OWN_DEGREE
#define OWN_QUANTISE_PANEL

namespace decomposition {
namespace {

using Cell = int8_t;
constexpr size_t kGroup = 4;
constexpr size_t kCachedGroups = 96;  // two panels of 12 kB each stay in the L1 cache
constexpr size_t kBlockRows = 8;  // times two registers of columns: 16 accumulators hide vpdpbusd's latency

// 16 quantised values as int32; values beyond `valid` are zero.
inline __m512i quantised(const float* x, const float* center, __mmask16 valid, __m512 inverse, __m512 scale) {
    __m512 values = _mm512_maskz_loadu_ps(valid, x);
    if (center) values = _mm512_sub_ps(values, _mm512_maskz_loadu_ps(valid, center));
    values = _mm512_mul_ps(_mm512_mul_ps(values, inverse), scale);
    return _mm512_cvt_roundps_epi32(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// 64 quantised values of a token from column `start`, as bytes.
inline __m512i quantised_bytes(const Quantiser& from, size_t token, size_t start, __m512 inverse, __m512 scale) {
    const size_t left = from.width - start;
    const __mmask64 valid = left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    const float* x = from.features + token * from.width + start;
    const float* center = from.center ? from.center + start : nullptr;
    __m512i quarter[4];
    for (int q = 0; q < 4; ++q)
        quarter[q] = quantised(x + 16 * q, center ? center + 16 * q : nullptr, static_cast<__mmask16>(valid >> (16 * q)),
                               inverse, scale);
    const __m512i mixed = _mm512_packs_epi16(_mm512_packs_epi32(quarter[0], quarter[1]),
                                             _mm512_packs_epi32(quarter[2], quarter[3]));
    const __m512i sorted = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(sorted, mixed);
}

// Transposes 16 x 16 groups of four bytes.
inline void transpose_groups(__m512i* a) {
    __m512i b[16];
    for (int k = 0; k < 8; ++k) {
        b[2 * k] = _mm512_unpacklo_epi32(a[2 * k], a[2 * k + 1]);
        b[2 * k + 1] = _mm512_unpackhi_epi32(a[2 * k], a[2 * k + 1]);
    }
    for (int k = 0; k < 4; ++k)
        for (int h = 0; h < 2; ++h) {
            a[4 * k + 2 * h] = _mm512_unpacklo_epi64(b[4 * k + h], b[4 * k + 2 + h]);
            a[4 * k + 2 * h + 1] = _mm512_unpackhi_epi64(b[4 * k + h], b[4 * k + 2 + h]);
        }
    for (int k = 0; k < 4; ++k) {  // a[4 m + k]: column k of each quarter of rows 4 m .. 4 m + 3
        b[k] = _mm512_shuffle_i32x4(a[k], a[4 + k], 0x88);
        b[4 + k] = _mm512_shuffle_i32x4(a[k], a[4 + k], 0xDD);
        b[8 + k] = _mm512_shuffle_i32x4(a[8 + k], a[12 + k], 0x88);
        b[12 + k] = _mm512_shuffle_i32x4(a[8 + k], a[12 + k], 0xDD);
    }
    for (int k = 0; k < 4; ++k) {
        a[k] = _mm512_shuffle_i32x4(b[k], b[8 + k], 0x88);
        a[4 + k] = _mm512_shuffle_i32x4(b[4 + k], b[12 + k], 0x88);
        a[8 + k] = _mm512_shuffle_i32x4(b[k], b[8 + k], 0xDD);
        a[12 + k] = _mm512_shuffle_i32x4(b[4 + k], b[12 + k], 0xDD);
    }
}

// Up to 16 tokens into the half of a panel that begins at `place`; returns the largest squared norm.
int32_t quantise_half_panel(const Quantiser& from, const uint32_t* tokens, size_t count, const float* inverse,
                            float scale, char* place, int32_t* sums) {
    const __m512i one = _mm512_set1_epi8(1);
    const size_t groups = (from.width + kGroup - 1) / kGroup;
    __m512i squares[16], totals[16], rows[16];
    for (int r = 0; r < 16; ++r) squares[r] = totals[r] = rows[r] = _mm512_setzero_si512();
    for (size_t start = 0; start < from.width; start += 64) {
        for (size_t r = 0; r < count; ++r) {
            rows[r] = quantised_bytes(from, tokens[r], start, _mm512_set1_ps(inverse[tokens[r]]),
                                      _mm512_set1_ps(scale));
            const __m512i magnitude = _mm512_abs_epi8(rows[r]);
            squares[r] = _mm512_dpbusd_epi32(squares[r], magnitude, magnitude);
            totals[r] = _mm512_dpbusd_epi32(totals[r], one, rows[r]);
        }
        for (size_t r = count; r < 16; ++r) rows[r] = _mm512_setzero_si512();
        transpose_groups(rows);
        for (size_t g = 0; g < 16 && start / kGroup + g < groups; ++g)
            _mm512_store_si512(place + (start / kGroup + g) * kPanel * kGroup, rows[g]);
    }
    int32_t largest = 0;
    for (int r = 0; r < 16; ++r) {
        const int32_t square = _mm512_reduce_add_epi32(squares[r]);
        largest = square > largest ? square : largest;
        sums[r] = _mm512_reduce_add_epi32(totals[r]);
    }
    return largest;
}

int32_t quantise_panel(const Quantiser& from, const uint32_t* tokens, size_t count, const float* inverse, float scale,
                       void* panel, int32_t* sums) {
    char* place = static_cast<char*>(panel);
    const size_t first = count < 16 ? count : 16;
    const int32_t a = quantise_half_panel(from, tokens, first, inverse, scale, place, sums);
    const int32_t b =
        quantise_half_panel(from, tokens + first, count - first, inverse, scale, place + 16 * kGroup, sums + 16);
    return a > b ? a : b;
}

inline __m512i quad(const Cell* row) {
    int32_t four;
    __builtin_memcpy(&four, row, sizeof four);
    return _mm512_set1_epi32(four);
}

// Sums of eight rows over `groups` groups: from the start where sums are given, else onto `partial`.
// vpdpbusd multiplies unsigned by signed bytes: columns are offset by 128, which the row's sum takes back.
struct Block {
    __m512i low[kBlockRows], high[kBlockRows];
};

inline void add_products(const Cell* rows, const Cell* columns, size_t groups, Block* block) {
    const __m512i offset = _mm512_set1_epi8(static_cast<char>(0x80));
    for (size_t g = 0; g < groups; ++g) {
        const Cell* column = columns + g * kPanel * kGroup;
        const __m512i first = _mm512_xor_si512(_mm512_load_si512(column), offset);
        const __m512i second = _mm512_xor_si512(_mm512_load_si512(column + 64), offset);
        for (size_t r = 0; r < kBlockRows; ++r) {
            const __m512i row = quad(rows + (g * kPanel + r) * kGroup);
            block->low[r] = _mm512_dpbusd_epi32(block->low[r], first, row);
            block->high[r] = _mm512_dpbusd_epi32(block->high[r], second, row);
        }
    }
}

void gram_tile(const Cell* rows, const Cell* columns, const int32_t* sums, size_t groups, int shift, int16_t* tile) {
    alignas(64) Block partial[kPanel / kBlockRows];
    const int32_t half = (1 << shift) >> 1;
    const __m128i count = _mm_cvtsi32_si128(shift);
    for (size_t start = 0; start < groups; start += kCachedGroups) {
        const size_t some = groups - start < kCachedGroups ? groups - start : kCachedGroups;
        const size_t skipped = start * kPanel * kGroup;
        for (size_t b = 0; b < kPanel / kBlockRows; ++b) {
            const size_t r0 = b * kBlockRows;
            Block block;
            if (start) block = partial[b];
            else
                for (size_t r = 0; r < kBlockRows; ++r)
                    block.low[r] = block.high[r] = _mm512_set1_epi32(half - 128 * sums[r0 + r]);
            add_products(rows + skipped + r0 * kGroup, columns + skipped, some, &block);
            if (start + some < groups) {
                partial[b] = block;
                continue;
            }
            for (size_t r = 0; r < kBlockRows; ++r) {
                const __m256i left = _mm512_cvtsepi32_epi16(_mm512_sra_epi32(block.low[r], count));
                const __m256i right = _mm512_cvtsepi32_epi16(_mm512_sra_epi32(block.high[r], count));
                _mm512_store_si512(tile + (r0 + r) * kPanel,
                                   _mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1));
            }
        }
    }
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
