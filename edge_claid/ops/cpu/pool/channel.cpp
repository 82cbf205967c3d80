#include "channel.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EVERY_VECTOR_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EVERY_VECTOR_WIDTH
#endif

namespace {

EVERY_VECTOR_WIDTH
void add_cubes(const float* values, const double* above, int columns, double* below) {
    for (int x = 0; x < columns; ++x) {
        const double value = values[x];
        below[x] = above[x] + value * value * value;
    }
}

void add_powers(const float* values, const double* above, int columns, float power, double* below) {
    for (int x = 0; x < columns; ++x) below[x] = above[x] + std::pow(values[x], power);
}

// Between rows `low` and `low + 1` of column sums lies the sum up to a fraction of that row's cells.
EVERY_VECTOR_WIDTH
double between(const double* top, double top_share, const double* bottom, double bottom_share, size_t stride,
               const double* shares, int vectors) {
    double lanes[kLanes] = {};
    for (int v = 0; v < vectors; ++v)
        for (int lane = 0; lane < kLanes; ++lane) {
            const int x = v * kLanes + lane;
            const double upper = top[x] + top_share * (top[x + stride] - top[x]);
            const double lower = bottom[x] + bottom_share * (bottom[x + stride] - bottom[x]);
            lanes[lane] += shares[x] * (lower - upper);
        }
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

EVERY_VECTOR_WIDTH
double weighted(const double* sums, size_t stride, int rows, const double* weights, int vectors) {
    double lanes[kLanes] = {};
    for (int y = 0; y < rows; ++y, sums += stride, weights += vectors * kLanes)
        for (int v = 0; v < vectors; ++v)
            for (int lane = 0; lane < kLanes; ++lane) {
                const int x = v * kLanes + lane;
                lanes[lane] += weights[x] * (sums[x + stride] - sums[x]);
            }
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// A third of a float's exponent is a root good to 4 %; Halley's method triples the digits at each of two steps.
EVERY_VECTOR_WIDTH
void cube_roots(const double* means, size_t count, float* out) {
    for (size_t i = 0; i < count; ++i) {
        const double mean = means[i];
        const float rounded = static_cast<float>(mean);
        uint32_t bits;
        std::memcpy(&bits, &rounded, sizeof bits);
        bits = bits / 3 + 709921077u;
        float guess;
        std::memcpy(&guess, &bits, sizeof guess);
        double root = guess;
        for (int step = 0; step < 2; ++step) {
            const double cube = root * root * root;
            root = root * (cube + 2.0 * mean) / (2.0 * cube + mean);
        }
        // Below the smallest normal float there are no digits to begin with; such a mean is of values below 3e-13.
        out[i] = rounded < 1.17549435e-38f ? 0.0f : static_cast<float>(root);
    }
}

}  // namespace

Channel::Channel(int rows, int columns)
    : rows_(rows),
      columns_(columns),
      stride_(static_cast<size_t>(columns) + kLanes),
      sums_((rows + 2) * stride_ + kLanes, 0.0) {}

void Channel::raise(const float* values, double power) {
    for (int y = 0; y < rows_; ++y) {
        const double* above = sums_.data() + y * stride_;
        double* below = sums_.data() + (y + 1) * stride_;
        const float* row = values + static_cast<size_t>(y) * columns_;
        if (power == 3.0)
            add_cubes(row, above, columns_, below);
        else
            add_powers(row, above, columns_, static_cast<float>(power), below);
    }
    const auto last = sums_.begin() + rows_ * stride_;
    std::copy(last, last + columns_, last + stride_);
}

double Channel::sum(const Region& region) const {
    const double* column = sums_.data() + region.across.first;
    const int width = vectors(region.across.count);
    if (!region.weights.empty())
        return weighted(column + region.down.first * stride_, stride_, region.down.count, region.weights.data(), width);
    const int top = static_cast<int>(region.down.start), bottom = static_cast<int>(region.down.stop);
    return between(column + top * stride_, region.down.start - top, column + bottom * stride_,
                   region.down.stop - bottom, stride_, region.across.shares.data(), width);
}

void roots(const double* means, size_t count, double power, float* out) {
    if (power == 3.0) return cube_roots(means, count, out);
    for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(std::pow(means[i], 1.0 / power));
}
