#include "encode.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <thread>

namespace encode {

std::vector<const Kernel*> usable_kernels() {
    std::vector<const Kernel*> usable;
#if defined(ENCODE_X86)
    if (__builtin_cpu_supports("avx512f")) usable.push_back(&kAvx512);
    if (__builtin_cpu_supports("avx2")) usable.push_back(&kAvx2);
#endif
    usable.push_back(&kPortable);
    return usable;
}

const Kernel& kernel_named(const std::string& name) {
    for (const Kernel* kernel : usable_kernels())
        if (name == "auto" || name == kernel->name) return *kernel;
    throw std::invalid_argument("this machine cannot run the encode kernel \"" + name + "\"");
}

namespace {

void split_rows(size_t rows, int threads, const std::function<void(size_t, size_t)>& work) {
    const size_t parts = std::max<size_t>(1, std::min<size_t>(std::max(1, threads), rows / 256));
    std::vector<std::thread> others;
    for (size_t part = 1; part < parts; ++part)
        others.emplace_back(work, rows * part / parts, rows * (part + 1) / parts);
    work(0, rows / parts);
    for (std::thread& other : others) other.join();
}

void normalise(float* row, size_t columns) {
    float square = 0.0f;
    for (size_t d = 0; d < columns; ++d) square = square + row[d] * row[d];
    const float norm = std::max(std::sqrt(square), 1e-12f);
    for (size_t d = 0; d < columns; ++d) row[d] /= norm;
}

}  // namespace

void rotate(const Kernel& kernel, const float* values, const float* rotation, size_t rows, size_t dimensions,
            int threads, float* rotated) {
    split_rows(rows, threads, [&](size_t start, size_t stop) {
        kernel.multiply(values + start * dimensions, rotation, stop - start, dimensions, dimensions,
                        rotated + start * dimensions);
    });
}

void project(const Kernel& kernel, const float* values, const float* mean, const float* matrix, size_t rows,
             size_t width, size_t columns, int threads, float* projected) {
    split_rows(rows, threads, [&](size_t start, size_t stop) {
        std::vector<float> centred(kRows * width);
        for (size_t row = start; row < stop; row += kRows) {
            const size_t some = std::min(kRows, stop - row);
            for (size_t r = 0; r < some; ++r)
                for (size_t d = 0; d < width; ++d) centred[r * width + d] = values[(row + r) * width + d] - mean[d];
            float* out = projected + row * columns;
            kernel.multiply(centred.data(), matrix, some, width, columns, out);
            for (size_t r = 0; r < some; ++r) normalise(out + r * columns, columns);
        }
    });
}

void lookup_tables(const Kernel& kernel, const float* values, const float* codewords, Shape shape, float* tables) {
    const size_t dimensions = shape.subspaces * shape.width;
    for (size_t row = 0; row < shape.rows; ++row)
        for (size_t m = 0; m < shape.subspaces; ++m)
            kernel.distances(values + row * dimensions + m * shape.width, dimensions, 1,
                             codewords + m * shape.width * kCodewords, shape.width,
                             tables + (row * shape.subspaces + m) * kCodewords);
}

void nearest_codewords(const Kernel& kernel, const float* values, const float* codewords, Shape shape, int threads,
                       uint8_t* codes, float* distances) {
    const size_t dimensions = shape.subspaces * shape.width;
    split_rows(shape.rows, threads, [&](size_t start, size_t stop) {
        float table[kRows * kCodewords];
        for (size_t m = 0; m < shape.subspaces; ++m)
            for (size_t row = start; row < stop; row += kRows) {
                const size_t some = std::min(kRows, stop - row);
                kernel.distances(values + row * dimensions + m * shape.width, dimensions, some,
                                 codewords + m * shape.width * kCodewords, shape.width, table);
                for (size_t r = 0; r < some; ++r) {
                    const size_t best = kernel.lowest(table + r * kCodewords);
                    codes[(row + r) * shape.subspaces + m] = static_cast<uint8_t>(best);
                    distances[(row + r) * shape.subspaces + m] = table[r * kCodewords + best];
                }
            }
    });
}

void codeword_sums(const float* values, const uint8_t* codes, Shape shape, double* sums, int64_t* counts) {
    for (size_t row = 0; row < shape.rows; ++row)
        for (size_t m = 0; m < shape.subspaces; ++m) {
            const size_t codeword = m * kCodewords + codes[row * shape.subspaces + m];
            const float* subvector = values + (row * shape.subspaces + m) * shape.width;
            double* sum = sums + codeword * shape.width;
            for (size_t d = 0; d < shape.width; ++d) sum[d] += subvector[d];
            ++counts[codeword];
        }
}

}  // namespace encode
