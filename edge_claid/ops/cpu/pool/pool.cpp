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

struct Cell {
    int index;      // row-major cell of the map
    double weight;  // share of the cell inside the box
};

double covered(double start, double stop, int cell) {
    return std::clamp(std::min(cell + 1.0, stop) - std::max(static_cast<double>(cell), start), 0.0, 1.0);
}

std::vector<Cell> touched_cells(const float* box, int rows, int columns) {
    std::vector<Cell> cells;
    for (int y = 0; y < rows; ++y) {
        const double wy = covered(box[1], box[3], y);
        if (wy <= 0.0) continue;
        for (int x = 0; x < columns; ++x) {
            const double weight = wy * covered(box[0], box[2], x);
            if (weight > 0.0) cells.push_back({y * columns + x, weight});
        }
    }
    return cells;
}

float pooled_maximum(const float* channel, const std::vector<Cell>& cells) {
    float best = channel[cells.front().index];
    for (const Cell& cell : cells) best = std::max(best, channel[cell.index]);
    return best;
}

float pooled_mean(const float* raised, const std::vector<Cell>& cells, double total, double power) {
    double sum = 0.0;
    for (const Cell& cell : cells) sum += cell.weight * static_cast<double>(raised[cell.index]);
    const double mean = sum / total;
    return static_cast<float>(power == 3.0 ? std::cbrt(mean) : std::pow(mean, 1.0 / power));
}

void raise(const float* values, float* raised, size_t count, double power) {
    if (power == 3.0)
        for (size_t i = 0; i < count; ++i) raised[i] = values[i] * values[i] * values[i];
    else
        for (size_t i = 0; i < count; ++i) raised[i] = std::pow(values[i], static_cast<float>(power));
}

void pool(const float* values, int channels, int rows, int columns, const float* boxes, size_t count, double power,
          float* out) {
    const size_t cells_per_channel = static_cast<size_t>(rows) * columns;
    const bool maximum = std::isinf(power);
    std::vector<float> storage(maximum ? 0 : channels * cells_per_channel);
    if (!maximum) raise(values, storage.data(), storage.size(), power);
    const float* source = maximum ? values : storage.data();
    for (size_t region = 0; region < count; ++region) {
        const std::vector<Cell> cells = touched_cells(boxes + 4 * region, rows, columns);
        double total = 0.0;
        for (const Cell& cell : cells) total += cell.weight;
        for (int c = 0; c < channels; ++c) {
            const float* channel = source + c * cells_per_channel;
            float& target = out[region * channels + c];
            if (cells.empty()) target = 0.0f;
            else target = maximum ? pooled_maximum(channel, cells) : pooled_mean(channel, cells, total, power);
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
