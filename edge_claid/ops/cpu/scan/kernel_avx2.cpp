// Pre-scan with AVX2: sixteen shuffles of 16 entries, then a tree of blends by the four upper bits of the code.
#include <immintrin.h>

#include "kernel.h"

namespace scan {
namespace {

constexpr size_t kLanes = 32;
constexpr size_t kAhead = 4096;

inline __m256i part(const uint8_t* table, int sixteenth) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table) + sixteenth));
}

// Entries 32 * pair .. 32 * pair + 31 of the table at every code; fourth holds bit 4 of the code as a sign.
inline __m256i pair_at(const uint8_t* table, int pair, __m256i low, __m256i fourth) {
    return _mm256_blendv_epi8(_mm256_shuffle_epi8(part(table, 2 * pair), low),
                              _mm256_shuffle_epi8(part(table, 2 * pair + 1), low), fourth);
}

inline __m256i quad_at(const uint8_t* table, int quad, __m256i low, __m256i fourth, __m256i fifth) {
    return _mm256_blendv_epi8(pair_at(table, 2 * quad, low, fourth), pair_at(table, 2 * quad + 1, low, fourth), fifth);
}

inline __m256i table_at(const uint8_t* table, __m256i codes) {
    const __m256i low = _mm256_and_si256(codes, _mm256_set1_epi8(15));
    const __m256i fourth = _mm256_slli_epi16(codes, 3), fifth = _mm256_slli_epi16(codes, 2);
    const __m256i sixth = _mm256_slli_epi16(codes, 1);
    const __m256i lower = _mm256_blendv_epi8(quad_at(table, 0, low, fourth, fifth),
                                             quad_at(table, 1, low, fourth, fifth), sixth);
    const __m256i upper = _mm256_blendv_epi8(quad_at(table, 2, low, fourth, fifth),
                                             quad_at(table, 3, low, fourth, fifth), sixth);
    return _mm256_blendv_epi8(lower, upper, codes);
}

uint64_t survivors(const uint8_t* block, size_t subspaces, const uint8_t* table) {
    __m256i first = _mm256_setzero_si256(), second = first;
    for (size_t m = 0; m < subspaces; ++m) {
        const uint8_t* at = block + m * kBlock;
        _mm_prefetch(reinterpret_cast<const char*>(at + kAhead), _MM_HINT_T0);
        const uint8_t* row = table + m * kCodewords;
        first = _mm256_adds_epu8(first, table_at(row, _mm256_load_si256(reinterpret_cast<const __m256i*>(at))));
        second = _mm256_adds_epu8(second,
                                  table_at(row, _mm256_load_si256(reinterpret_cast<const __m256i*>(at + kLanes))));
    }
    const __m256i discard = _mm256_set1_epi8(static_cast<char>(kDiscard));
    const uint32_t low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(first, discard));
    const uint32_t high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(second, discard));
    return ~(static_cast<uint64_t>(high) << 32 | low);
}

void prescan(const uint8_t* codes, size_t blocks, size_t subspaces, const uint8_t* const* tables, size_t queries,
             uint64_t* const* masks) {
    for (size_t b = 0; b < blocks; ++b)
        for (size_t q = 0; q < queries; ++q)
            masks[q][b] = survivors(codes + b * subspaces * kBlock, subspaces, tables[q]);
}

}  // namespace

const Kernel kAvx2 = {"avx2", prescan};

}  // namespace scan
