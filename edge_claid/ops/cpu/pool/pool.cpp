// RoI pooling of a convolutional map over boxes: generalised mean and maximum.
// Mirrors edge_claid/ops/reference/pool.py: cells are weighted by the share of them that a box covers.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace nb = nanobind;

namespace {

using Map = nb::ndarray<const float, nb::shape<-1, -1, -1>, nb::c_contig, nb::device::cpu>;
using Boxes = nb::ndarray<const float, nb::shape<-1, 4>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<nb::numpy, float, nb::shape<-1, -1>>;

double covered(double start, double stop, int cell) {
    return std::clamp(std::min(cell + 1.0, stop) - std::max(static_cast<double>(cell), start), 0.0, 1.0);
}

// The cells along one axis that a box touches: their first, and the share of each that it covers.
struct Span {
    int first = 0;
    std::vector<double> shares;
};

Span touched(double start, double stop, int cells) {
    Span span;
    for (int cell = 0; cell < cells; ++cell) {
        const double share = covered(start, stop, cell);
        if (share <= 0.0) continue;
        if (span.shares.empty()) span.first = cell;
        span.shares.push_back(share);
    }
    return span;
}

float pooled_maximum(const float* corner, int columns, const Span& across, const Span& down) {
    float best = *corner;
    for (size_t y = 0; y < down.shares.size(); ++y)
        for (size_t x = 0; x < across.shares.size(); ++x) best = std::max(best, corner[y * columns + x]);
    return best;
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
// Rows are added up column by column, which needs no order of its own inside a row: wider vectors give the same sums.
// A column has at most some hundred cells, so single precision loses nothing there that a descriptor would show.
double weighted_sum(const float* corner, int columns, const Span& across, const Span& down, float* sums) {
    const size_t width = across.shares.size();
    std::fill(sums, sums + width, 0.0f);
    for (size_t y = 0; y < down.shares.size(); ++y) {
        const float share = static_cast<float>(down.shares[y]);
        const float* row = corner + y * columns;
        for (size_t x = 0; x < width; ++x) sums[x] += share * row[x];
    }
    double sum = 0.0;
    for (size_t x = 0; x < width; ++x) sum += across.shares[x] * static_cast<double>(sums[x]);
    return sum;
}

double total(const Span& span) {
    double sum = 0.0;
    for (const double share : span.shares) sum += share;
    return sum;
}

void raise(const float* values, float* raised, size_t count, double power) {
    if (power == 3.0)
        for (size_t i = 0; i < count; ++i) raised[i] = values[i] * values[i] * values[i];
    else
        for (size_t i = 0; i < count; ++i) raised[i] = std::pow(values[i], static_cast<float>(power));
}

struct Box {
    Span across, down;
    double weight;  // cells covered
    size_t corner;  // the first touched cell
};

std::vector<Box> touched_boxes(const float* boxes, size_t count, int rows, int columns) {
    std::vector<Box> found(count);
    for (size_t region = 0; region < count; ++region) {
        const float* box = boxes + 4 * region;
        Box& it = found[region];
        it.across = touched(box[0], box[2], columns);
        it.down = touched(box[1], box[3], rows);
        it.weight = total(it.across) * total(it.down);
        it.corner = static_cast<size_t>(it.down.first) * columns + it.across.first;
    }
    return found;
}

// Channel by channel, so that a channel raised to the power stays in the cache for all boxes.
void pool(const float* values, int channels, int rows, int columns, const float* boxes, size_t count, double power,
          float* out) {
    const size_t cells = static_cast<size_t>(rows) * columns;
    const bool maximum = std::isinf(power);
    const std::vector<Box> found = touched_boxes(boxes, count, rows, columns);
    std::vector<float> raised(cells);
    std::vector<float> sums(columns);
    for (int c = 0; c < channels; ++c) {
        const float* channel = values + c * cells;
        if (!maximum) raise(channel, raised.data(), cells, power);
        for (size_t region = 0; region < count; ++region) {
            const Box& box = found[region];
            float& target = out[region * channels + c];
            if (box.weight <= 0.0) {
                target = 0.0f;
            } else if (maximum) {
                target = pooled_maximum(channel + box.corner, columns, box.across, box.down);
            } else {
                const float* corner = raised.data() + box.corner;
                const double mean = weighted_sum(corner, columns, box.across, box.down, sums.data()) / box.weight;
                target = static_cast<float>(power == 3.0 ? std::cbrt(mean) : std::pow(mean, 1.0 / power));
            }
        }
    }
}

Output pool_boxes(const Map& values, const Boxes& boxes, double power) {
    const size_t count = boxes.shape(0), channels = values.shape(0);
    float* data = new float[std::max<size_t>(1, count * channels)];
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    {
        nb::gil_scoped_release release;
        pool(values.data(), static_cast<int>(channels), static_cast<int>(values.shape(1)),
             static_cast<int>(values.shape(2)), boxes.data(), count, power, data);
    }
    return Output(data, {count, channels}, owner);
}

}  // namespace

NB_MODULE(_pool, m) {
    m.def("pool_boxes", &pool_boxes, nb::arg("values"), nb::arg("boxes"), nb::arg("power"));
}
