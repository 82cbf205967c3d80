// Pre-scan with AVX-512 VBMI: a table of 256 bytes is four registers, two of them a vpermi2b.
#include <immintrin.h>

#include "kernel.h"

namespace scan {
namespace {

struct Table {
    __m512i part[4];
    explicit Table(const uint8_t* from) {
        for (int i = 0; i < 4; ++i) part[i] = _mm512_load_si512(from + 64 * i);
    }
    __m512i at(__m512i codes, __mmask64 upper) const {
        const __m512i low = _mm512_permutex2var_epi8(part[0], codes, part[1]);
        const __m512i high = _mm512_permutex2var_epi8(part[2], codes, part[3]);
        return _mm512_mask_blend_epi8(upper, low, high);
    }
};

template <size_t Queries>
inline void scan_block(const uint8_t* codes, size_t subspaces, const uint8_t* const* tables, uint64_t* const* masks,
                       size_t block) {
    __m512i sums[Queries][kWords];
    for (size_t q = 0; q < Queries; ++q)
        for (size_t w = 0; w < kWords; ++w) sums[q][w] = _mm512_setzero_si512();
    for (size_t m = 0; m < subspaces; ++m)
        for (size_t q = 0; q < Queries; ++q) {
            const Table table(tables[q] + m * kCodewords);
#pragma GCC unroll 8
            for (size_t w = 0; w < kWords; ++w) {
                const __m512i word = _mm512_load_si512(codes + m * kBlock + w * kWord);
                sums[q][w] = _mm512_adds_epu8(sums[q][w], table.at(word, _mm512_movepi8_mask(word)));
            }
        }
    const __m512i discard = _mm512_set1_epi8(static_cast<char>(kDiscard));
    for (size_t q = 0; q < Queries; ++q)
        for (size_t w = 0; w < kWords; ++w)
            masks[q][block * kWords + w] = _mm512_cmpneq_epu8_mask(sums[q][w], discard);
}

template <size_t Queries>
void scan_blocks(const uint8_t* codes, size_t blocks, size_t subspaces, const uint8_t* const* tables,
                 uint64_t* const* masks) {
    for (size_t b = 0; b < blocks; ++b)
        scan_block<Queries>(codes + b * subspaces * kBlock, subspaces, tables, masks, b);
}

void prescan(const uint8_t* codes, size_t blocks, size_t subspaces, const uint8_t* const* tables, size_t queries,
             uint64_t* const* masks) {
    if (queries == 2) scan_blocks<2>(codes, blocks, subspaces, tables, masks);
    else scan_blocks<1>(codes, blocks, subspaces, tables, masks);
}

}  // namespace

const Kernel kAvx512 = {"avx512", prescan, nullptr};

}  // namespace scan
