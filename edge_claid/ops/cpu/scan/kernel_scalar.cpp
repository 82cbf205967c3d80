// Pre-scan without vector instructions.
#include "kernel.h"

namespace scan {
namespace {

uint64_t survivors(const uint8_t* codes, size_t subspaces, const uint8_t* table) {
    uint32_t sums[kWord] = {};
    for (size_t m = 0; m < subspaces; ++m)
        for (size_t i = 0; i < kWord; ++i) sums[i] += table[m * kCodewords + codes[m * kBlock + i]];
    uint64_t mask = 0;
    for (size_t i = 0; i < kWord; ++i) mask |= static_cast<uint64_t>(sums[i] < kDiscard) << i;
    return mask;
}

void prescan(const uint8_t* codes, size_t blocks, size_t subspaces, const uint8_t* const* tables, size_t queries,
             uint64_t* const* masks) {
    for (size_t q = 0; q < queries; ++q)
        for (size_t b = 0; b < blocks; ++b)
            for (size_t w = 0; w < kWords; ++w)
                masks[q][b * kWords + w] =
                    survivors(codes + b * subspaces * kBlock + w * kWord, subspaces, tables[q]);
}

}  // namespace

const Kernel kScalar = {"scalar", prescan, nullptr};

}  // namespace scan
