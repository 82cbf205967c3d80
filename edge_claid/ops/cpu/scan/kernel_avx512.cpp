// Pre-scan with AVX-512 VBMI: a table of 256 bytes is four registers, two of them a vpermi2b.
#include <immintrin.h>

#include "kernel.h"

namespace scan {
namespace {

// The codes of this many blocks stay in the first-level cache while every subspace's table is loaded once for them.
constexpr size_t kGroup = 8;
constexpr size_t kAhead = 4096;  // bytes; hides the latency of memory behind eight blocks of work

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

template <size_t Queries, size_t Group>
inline __attribute__((always_inline)) void scan_group(const uint8_t* codes, size_t subspaces,
                                                      const uint8_t* const* tables, uint64_t* const* masks) {
    __m512i sums[Queries][Group];
    for (size_t q = 0; q < Queries; ++q)
        for (size_t b = 0; b < Group; ++b) sums[q][b] = _mm512_setzero_si512();
    for (size_t m = 0; m < subspaces; ++m)
        for (size_t q = 0; q < Queries; ++q) {
            const Table table(tables[q] + m * kCodewords);
#pragma GCC unroll 8
            for (size_t b = 0; b < Group; ++b) {
                const uint8_t* at = codes + (b * subspaces + m) * kBlock;
                if (q == 0) _mm_prefetch(reinterpret_cast<const char*>(at + kAhead), _MM_HINT_T0);
                const __m512i block = _mm512_load_si512(at);
                sums[q][b] = _mm512_adds_epu8(sums[q][b], table.at(block, _mm512_movepi8_mask(block)));
            }
        }
    const __m512i discard = _mm512_set1_epi8(static_cast<char>(kDiscard));
    for (size_t q = 0; q < Queries; ++q)
        for (size_t b = 0; b < Group; ++b) masks[q][b] = _mm512_cmpneq_epu8_mask(sums[q][b], discard);
}

template <size_t Queries>
void scan_blocks(const uint8_t* codes, size_t blocks, size_t subspaces, const uint8_t* const* tables,
                 uint64_t* const* masks) {
    uint64_t* out[Queries];
    size_t b = 0;
    for (; b + kGroup <= blocks; b += kGroup) {
        for (size_t q = 0; q < Queries; ++q) out[q] = masks[q] + b;
        scan_group<Queries, kGroup>(codes + b * subspaces * kBlock, subspaces, tables, out);
    }
    for (; b < blocks; ++b) {
        for (size_t q = 0; q < Queries; ++q) out[q] = masks[q] + b;
        scan_group<Queries, 1>(codes + b * subspaces * kBlock, subspaces, tables, out);
    }
}

void prescan(const uint8_t* codes, size_t blocks, size_t subspaces, const uint8_t* const* tables, size_t queries,
             uint64_t* const* masks) {
    if (queries == 2) scan_blocks<2>(codes, blocks, subspaces, tables, masks);
    else scan_blocks<1>(codes, blocks, subspaces, tables, masks);
}

}  // namespace

const Kernel kAvx512 = {"avx512", prescan};

}  // namespace scan
