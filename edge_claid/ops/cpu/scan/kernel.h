// The pre-scan: one function per instruction set, all with the same result.
#pragma once
#include <cstddef>
#include <cstdint>

namespace scan {

constexpr size_t kWord = 64;              // regions in a word of a mask
constexpr size_t kWords = 8;              // words in a block
constexpr size_t kBlock = kWord * kWords;  // regions in a block: a kernel loads a table once for all of them
constexpr size_t kCodewords = 256;  // codewords in a subspace
constexpr size_t kGroups = 64;      // codewords whose numbers differ in bits 4 and 5 only form a group of four
constexpr unsigned kDiscard = 255;  // a saturated sum: this region cannot be among the best

// Bits 0-3 and 6-7 of a codeword's number: what is cheapest to look up by with vectors of 16 bytes.
constexpr size_t group_of(size_t codeword) { return (codeword & 15) | (codeword >> 6 << 4); }

// For `blocks` blocks and `queries` (1 or 2) byte tables, which regions may be among the best.
// codes: (blocks, subspaces, 512) uint8, 64-byte aligned; codes[b][m][i] is the codeword of region i of block b in subspace m.
// tables[q]: (subspaces, 256) uint8, 64-byte aligned.
// masks[q]: (blocks, 8) uint64; bit i of masks[q][b][w] is set unless the saturated sum over subspaces of
// tables[q][m][codes[b][m][64 * w + i]] is 255.
using Prescan = void (*)(const uint8_t* codes, size_t blocks, size_t subspaces, const uint8_t* const* tables,
                         size_t queries, uint64_t* const* masks);

struct Kernel {
    const char* name;
    Prescan prescan;
    // The same with tables of groups, (subspaces, 64): see group_of. Null: not faster than `prescan`.
    Prescan grouped;
};

extern const Kernel kScalar;
#if defined(SCAN_X86)
extern const Kernel kAvx2;
extern const Kernel kAvx512;
#endif
#if defined(__aarch64__)
extern const Kernel kNeon;
#endif

}  // namespace scan
