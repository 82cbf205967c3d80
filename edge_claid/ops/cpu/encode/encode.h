// Product quantisation of descriptors. Mirrors edge_claid/ops/reference/encode.py bit for bit.
#pragma once
#include <string>
#include <vector>

#include "kernel.h"

namespace encode {

// Kernels this machine can run, best first.
std::vector<const Kernel*> usable_kernels();
// The kernel of that name; "auto" is the best. Throws std::invalid_argument.
const Kernel& kernel_named(const std::string& name);

struct Shape {
    size_t rows, subspaces, width;  // width: dimensions of a subspace
};

// values (rows, dimensions) @ rotation (dimensions, dimensions).
void rotate(const Kernel& kernel, const float* values, const float* rotation, size_t rows, size_t dimensions,
            int threads, float* rotated);
// normalise((values - mean) @ matrix): values (rows, width), mean (width), matrix (width, columns); the rows of the product
// are divided by their L2 norm, summed over columns ascending; a zero row stays zero.
void project(const Kernel& kernel, const float* values, const float* mean, const float* matrix, size_t rows,
             size_t width, size_t columns, int threads, float* projected);
// values (rows, subspaces * width), codewords (subspaces, width, 256) -> tables (rows, subspaces, 256).
void lookup_tables(const Kernel& kernel, const float* values, const float* codewords, Shape shape, float* tables);
// The same -> codes and squared distances (rows, subspaces); the lowest of equally near codewords.
void nearest_codewords(const Kernel& kernel, const float* values, const float* codewords, Shape shape, int threads,
                       uint8_t* codes, float* distances);
// values, codes (rows, subspaces) -> sums (subspaces, 256, width), counts (subspaces, 256), both zeroed by the caller.
void codeword_sums(const float* values, const uint8_t* codes, Shape shape, double* sums, int64_t* counts);

}  // namespace encode
