#include "byte_table.h"

#include <algorithm>
#include <cmath>

namespace scan {

ByteTable::ByteTable(const float* table, size_t subspaces)
    : table_(table), subspaces_(subspaces), least_(subspaces), storage_(subspaces * (kCodewords + kGroups) + kWord) {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    bytes_ = storage_.data() + (kWord - address % kWord) % kWord;
    for (size_t m = 0; m < subspaces; ++m) {
        const float* row = table + m * kCodewords;
        float least = row[0], most = row[0];
        for (size_t c = 1; c < kCodewords; ++c) {
            least = std::min(least, row[c]);
            most = std::max(most, row[c]);
        }
        least_[m] = least;
        sum_of_least_ += least;
        sum_of_magnitudes_ += std::max(std::fabs(least), std::fabs(most));
    }
}

void ByteTable::quantise(float threshold) {
    // A float32 sum of M terms is off by at most (M - 1) * 2^-24 of the sum of their magnitudes, to first order.
    const double rounding = std::ldexp(1.02 * (static_cast<double>(subspaces_) + 1.0), -24) * sum_of_magnitudes_;
    const double range = static_cast<double>(threshold) - sum_of_least_ + rounding;
    // Rounding in the lines below is far less than the step from 254 to 255.
    const float scale = static_cast<float>(std::min((kDiscard - 1) / range, 1e30));
    for (size_t m = 0; m < subspaces_; ++m) {
        const float* row = table_ + m * kCodewords;
        const float least = least_[m];
        uint8_t* out = bytes_ + m * kCodewords;
        for (size_t c = 0; c < kCodewords; ++c)
            out[c] = static_cast<uint8_t>(static_cast<int>(std::min((row[c] - least) * scale, 255.0f)));
        uint8_t* group = bytes_ + subspaces_ * kCodewords + m * kGroups;
        for (size_t g = 0; g < kGroups; ++g) {
            const uint8_t* member = out + (g / 16 * 64 + g % 16);
            group[g] = std::min(std::min(member[0], member[16]), std::min(member[32], member[48]));
        }
    }
}

}  // namespace scan
