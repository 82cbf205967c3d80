// Look-up tables in bytes whose saturated sums tell for certain which codes are too far.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernel.h"

namespace scan {

// With m the least entry of each subspace's table and T the threshold, q = floor((v - m) / D), D = (T - sum of m) / 254.
// A code whose float32 distance is at most T has a sum of at most 254, whatever the rounding; so 255 discards safely.
class ByteTable {
public:
    // table: (subspaces, 256) float32, finite; it must outlive this.
    ByteTable(const float* table, size_t subspaces);

    // Rewrites the bytes for a threshold, which is finite.
    void quantise(float threshold);

    // (subspaces, 256) uint8, 64-byte aligned.
    const uint8_t* bytes() const { return bytes_; }
    // (subspaces, 64) uint8, aligned as well: the least entry of each group of codewords, so their sum is no larger.
    const uint8_t* group_bytes() const { return bytes_ + subspaces_ * kCodewords; }

private:
    const float* table_;
    size_t subspaces_;
    std::vector<float> least_;
    double sum_of_least_ = 0.0, sum_of_magnitudes_ = 0.0;
    std::vector<uint8_t> storage_;
    uint8_t* bytes_;
};

}  // namespace scan
