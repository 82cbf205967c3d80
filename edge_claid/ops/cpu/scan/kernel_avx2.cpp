// Pre-scan with AVX2: sixteen shuffles of 16 entries, joined by the four upper bits of the code.
#include <immintrin.h>

#include "kernel.h"

namespace scan {
namespace {

constexpr size_t kLanes = 32, kVectors = kBlock / kLanes;
constexpr size_t kAhead = 2048;  // bytes; between bursts of shuffles the hardware prefetcher falls behind

inline __m256i load(const uint8_t* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); }

inline __m256i part(const uint8_t* table, int sixteenth) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table) + sixteenth));
}

// Codes ready for shuffles: a shuffle gives zero where bit 7 of its index is set.
struct Codes {
    __m256i lower, upper;          // bits 0-3, bit 7 set for codes from 128 on; the same with bit 7 flipped
    __m256i fourth, fifth, sixth;  // the bit of that number as bit 7
    explicit Codes(__m256i codes)
        : lower(_mm256_and_si256(codes, _mm256_set1_epi8(static_cast<char>(0x8f)))),
          upper(_mm256_xor_si256(lower, _mm256_set1_epi8(static_cast<char>(0x80)))),
          fourth(_mm256_slli_epi16(codes, 3)), fifth(_mm256_slli_epi16(codes, 2)), sixth(_mm256_slli_epi16(codes, 1)) {}
    // Entries 16 * eighth + bits 0-3 of the half of the table that bit 7 names.
    __m256i in_halves(const uint8_t* table, int eighth) const {
        return _mm256_or_si256(_mm256_shuffle_epi8(part(table, eighth), lower),
                               _mm256_shuffle_epi8(part(table, eighth + 8), upper));
    }
    __m256i in_pair(const uint8_t* table, int quarter) const {
        return _mm256_blendv_epi8(in_halves(table, 2 * quarter), in_halves(table, 2 * quarter + 1), fourth);
    }
    __m256i in(const uint8_t* table) const {
        const __m256i first = _mm256_blendv_epi8(in_pair(table, 0), in_pair(table, 1), fifth);
        return _mm256_blendv_epi8(first, _mm256_blendv_epi8(in_pair(table, 2), in_pair(table, 3), fifth), sixth);
    }
};

// Four shuffles of 16 entries, joined by bits 6 and 7 of the code; a shuffle ignores bits 4 to 6.
struct GroupTable {
    static constexpr size_t kEntries = kGroups;
    __m256i parts[4];
    explicit GroupTable(const uint8_t* from) {
        for (int i = 0; i < 4; ++i) parts[i] = part(from, i);
    }
    __m256i at(__m256i codes) const {
        const __m256i upper = _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(0x80)));
        const __m256i even = _mm256_or_si256(_mm256_shuffle_epi8(parts[0], codes), _mm256_shuffle_epi8(parts[2], upper));
        const __m256i odd = _mm256_or_si256(_mm256_shuffle_epi8(parts[1], codes), _mm256_shuffle_epi8(parts[3], upper));
        return _mm256_blendv_epi8(even, odd, _mm256_add_epi8(codes, codes));
    }
};

struct Table {
    static constexpr size_t kEntries = kCodewords;
    const uint8_t* from;
    explicit Table(const uint8_t* table) : from(table) {}
    __m256i at(__m256i codes) const { return Codes(codes).in(from); }
};

// Subspace by subspace, so that the codes are read in the order of memory.
template <typename Table>
void scan_block(const uint8_t* codes, size_t subspaces, const uint8_t* table, uint64_t* masks) {
    __m256i sums[kVectors];
    for (size_t v = 0; v < kVectors; ++v) sums[v] = _mm256_setzero_si256();
    for (size_t m = 0; m < subspaces; ++m) {
        const Table rows(table + m * Table::kEntries);
#pragma GCC unroll 1
        for (size_t v = 0; v < kVectors; ++v) {
            const uint8_t* at = codes + m * kBlock + v * kLanes;
            _mm_prefetch(reinterpret_cast<const char*>(at + kAhead), _MM_HINT_T0);
            sums[v] = _mm256_adds_epu8(sums[v], rows.at(load(at)));
        }
    }
    const __m256i discard = _mm256_set1_epi8(static_cast<char>(kDiscard));
    for (size_t w = 0; w < kWords; ++w) {
        const uint32_t low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(sums[2 * w], discard));
        const uint32_t high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(sums[2 * w + 1], discard));
        masks[w] = ~(static_cast<uint64_t>(high) << 32 | low);
    }
}

template <typename Table>
void prescan(const uint8_t* codes, size_t blocks, size_t subspaces, const uint8_t* const* tables, size_t queries,
             uint64_t* const* masks) {
    for (size_t b = 0; b < blocks; ++b)
        for (size_t q = 0; q < queries; ++q)
            scan_block<Table>(codes + b * subspaces * kBlock, subspaces, tables[q], masks[q] + b * kWords);
}

}  // namespace

const Kernel kAvx2 = {"avx2", prescan<Table>, prescan<GroupTable>};

}  // namespace scan
