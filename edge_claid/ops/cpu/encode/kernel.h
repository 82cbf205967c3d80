// The inner loops of product quantisation, one set per instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

namespace encode {

constexpr size_t kCodewords = 256;
constexpr size_t kRows = 4;  // rows that a kernel takes together

struct Kernel {
    const char* name;
    // product[n][j] = sum over d ascending of values[n][d] * matrix[d][j]; matrix is (width, columns).
    void (*multiply)(const float* values, const float* matrix, size_t rows, size_t width, size_t columns,
                     float* product);
    // distances[n][c] = sum over d ascending of (values[n * stride + d] - codewords[d][c])^2; rows <= kRows.
    void (*distances)(const float* values, size_t stride, size_t rows, const float* codewords, size_t width,
                      float* distances);
    // Index of the least of 256 distances, the lowest of equal ones.
    size_t (*lowest)(const float* distances);
};

extern const Kernel kPortable;
#if defined(ENCODE_X86)
extern const Kernel kAvx2;
extern const Kernel kAvx512;
#endif

}  // namespace encode
