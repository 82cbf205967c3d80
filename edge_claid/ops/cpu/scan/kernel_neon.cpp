// Pre-scan with NEON: a table of 256 bytes is four tbl of 64; a code outside a quarter leaves the lane as it was.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "kernel.h"

namespace scan {
namespace {

constexpr size_t kLanes = 16, kVectors = kWord / kLanes;

struct Table {
    static constexpr size_t kEntries = kCodewords;
};

struct GroupTable {
    static constexpr size_t kEntries = kGroups;
};

inline void look_up(Table, const uint8_t* table, const uint8_t* codes, uint8x16_t sums[kVectors]) {
    uint8x16_t found[kVectors];
    for (size_t v = 0; v < kVectors; ++v) found[v] = vdupq_n_u8(0);
    for (int quarter = 0; quarter < 4; ++quarter) {
        const uint8x16x4_t part = vld1q_u8_x4(table + 64 * quarter);
        const uint8x16_t start = vdupq_n_u8(static_cast<uint8_t>(64 * quarter));
        for (size_t v = 0; v < kVectors; ++v)
            found[v] = vqtbx4q_u8(found[v], part, vsubq_u8(vld1q_u8(codes + v * kLanes), start));
    }
    for (size_t v = 0; v < kVectors; ++v) sums[v] = vqaddq_u8(sums[v], found[v]);
}

inline void look_up(GroupTable, const uint8_t* table, const uint8_t* codes, uint8x16_t sums[kVectors]) {
    const uint8x16x4_t entries = vld1q_u8_x4(table);
    for (size_t v = 0; v < kVectors; ++v) {
        const uint8x16_t code = vld1q_u8(codes + v * kLanes);
        const uint8x16_t group = vbslq_u8(vdupq_n_u8(15), code, vshrq_n_u8(code, 2));
        sums[v] = vqaddq_u8(sums[v], vqtbl4q_u8(entries, group));
    }
}

template <typename Table>
uint64_t survivors(const uint8_t* codes, size_t subspaces, const uint8_t* table) {
    uint8x16_t sums[kVectors];
    for (size_t v = 0; v < kVectors; ++v) sums[v] = vdupq_n_u8(0);
    for (size_t m = 0; m < subspaces; ++m) look_up(Table(), table + m * Table::kEntries, codes + m * kBlock, sums);
    static const uint8_t kBits[kLanes] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bits = vld1q_u8(kBits);
    uint64_t mask = 0;
    for (size_t v = 0; v < kVectors; ++v) {
        const uint8x16_t kept = vandq_u8(vcltq_u8(sums[v], vdupq_n_u8(kDiscard)), bits);
        mask |= static_cast<uint64_t>(vaddv_u8(vget_low_u8(kept))) << (v * kLanes);
        mask |= static_cast<uint64_t>(vaddv_u8(vget_high_u8(kept))) << (v * kLanes + 8);
    }
    return mask;
}

template <typename Table>
void prescan(const uint8_t* codes, size_t blocks, size_t subspaces, const uint8_t* const* tables, size_t queries,
             uint64_t* const* masks) {
    for (size_t b = 0; b < blocks; ++b)
        for (size_t q = 0; q < queries; ++q)
            for (size_t w = 0; w < kWords; ++w)
                masks[q][b * kWords + w] =
                    survivors<Table>(codes + b * subspaces * kBlock + w * kWord, subspaces, tables[q]);
}

}  // namespace

const Kernel kNeon = {"neon", prescan<Table>, prescan<GroupTable>};

}  // namespace scan
#endif
