// Decomposition kernels in plain C++: any machine, and the yardstick of the others.
#include "kernels.h"

#define KERNEL_SYMBOL kPortable
#define KERNEL_NAME "portable"

namespace decomposition {
namespace {

using Cell = int16_t;
constexpr size_t kGroup = 2;

void gram_tile(const Cell* rows, const Cell* columns, const int32_t*, size_t groups, int shift, int16_t* tile) {
    const int32_t half = (1 << shift) >> 1;
    for (size_t r = 0; r < kPanel; ++r) {
        int32_t sums[kPanel] = {};
        for (size_t g = 0; g < groups; ++g) {
            const Cell* row = rows + (g * kPanel + r) * kGroup;
            const Cell* column = columns + g * kPanel * kGroup;
            const int32_t first = row[0], second = row[1];
            for (size_t c = 0; c < kPanel; ++c) sums[c] += first * column[2 * c] + second * column[2 * c + 1];
        }
        for (size_t c = 0; c < kPanel; ++c) {
            const int32_t value = (sums[c] + half) >> shift;
            tile[r * kPanel + c] = static_cast<int16_t>(value > 32767 ? 32767 : value);
        }
    }
}

void transpose_tile(const int16_t* tile, int16_t* transposed) {
    for (size_t r = 0; r < kPanel; ++r)
        for (size_t c = 0; c < kPanel; ++c) transposed[c * kPanel + r] = tile[r * kPanel + c];
}

inline uint32_t bits_above(const int16_t* row, int threshold) {
    uint32_t bits = 0;
    for (size_t c = 0; c < kPanel; ++c) bits |= static_cast<uint32_t>(row[c] > threshold) << c;
    return bits;
}

}  // namespace
}  // namespace decomposition

#include "kernels.inc"
