#include "pool.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "channel.h"

namespace {

double covered(double start, double stop, int cell) {
    return std::clamp(std::min(cell + 1.0, stop) - std::max(static_cast<double>(cell), start), 0.0, 1.0);
}

// The cells along one axis that a box touches. Shares are padded with zeros to whole vectors.
Span touched(double start, double stop, int cells) {
    Span span;
    span.start = std::max(0.0, start);
    span.stop = std::max(0.0, std::min<double>(cells, stop));
    for (int cell = 0; cell < cells; ++cell) {
        const double share = covered(span.start, span.stop, cell);
        if (share <= 0.0) continue;
        if (span.count == 0) span.first = cell;
        span.shares.push_back(share);
        ++span.count;
    }
    span.shares.resize(vectors(span.count) * kLanes, 0.0);
    return span;
}

double total(const std::vector<double>& shares) {
    double sum = 0.0;
    for (const double share : shares) sum += share;
    return sum;
}

// Share of cell `cell` of `cells` that token `token` of `tokens` along the same axis covers.
double shared(int cell, int cells, int token, int tokens) {
    const double scale = static_cast<double>(tokens) / cells;
    return covered(cell * scale, (cell + 1) * scale, token) / scale;
}

// What the mask covers of the cells that the box touches, times what the box covers: rows of whole vectors.
std::vector<double> masked_shares(const Region& region, const uint8_t* mask, Size tokens, Size cells) {
    const int width = vectors(region.across.count) * kLanes;
    std::vector<double> weights(static_cast<size_t>(region.down.count) * width, 0.0);
    std::vector<double> row(tokens.columns);
    for (int y = 0; y < region.down.count; ++y) {
        std::fill(row.begin(), row.end(), 0.0);
        for (int token = 0; token < tokens.rows; ++token) {
            const double share = shared(region.down.first + y, cells.rows, token, tokens.rows);
            if (share > 0.0)
                for (int x = 0; x < tokens.columns; ++x) row[x] += mask[token * tokens.columns + x] ? share : 0.0;
        }
        for (int x = 0; x < region.across.count; ++x) {
            double share = 0.0;
            for (int token = 0; token < tokens.columns; ++token)
                if (row[token] > 0.0)
                    share += row[token] * shared(region.across.first + x, cells.columns, token, tokens.columns);
            weights[static_cast<size_t>(y) * width + x] = share * region.down.shares[y] * region.across.shares[x];
        }
    }
    return weights;
}

std::vector<Region> regions_of(const Asked& asked, Size cells) {
    std::vector<Region> regions(asked.count);
    for (size_t r = 0; r < asked.count; ++r) {
        const float* box = asked.boxes + 4 * r;
        Region& region = regions[r];
        region.across = touched(box[0], box[2], cells.columns);
        region.down = touched(box[1], box[3], cells.rows);
        region.weight = total(region.across.shares) * total(region.down.shares);
        if (asked.masks == nullptr) continue;
        const Size tokens = asked.tokens;
        region.weights = masked_shares(region, asked.masks + r * tokens.rows * tokens.columns, tokens, cells);
        region.weight = total(region.weights);
    }
    return regions;
}

float maximum(const float* channel, int columns, const Region& region) {
    const int width = vectors(region.across.count) * kLanes;
    const float* corner = channel + static_cast<size_t>(region.down.first) * columns + region.across.first;
    float best = -INFINITY;
    for (int y = 0; y < region.down.count; ++y)
        for (int x = 0; x < region.across.count; ++x)
            if (region.weights.empty() || region.weights[static_cast<size_t>(y) * width + x] > 0.0)
                best = std::max(best, corner[static_cast<size_t>(y) * columns + x]);
    return best;
}

}  // namespace

// Channel by channel, so that a channel raised to the power stays in the cache for all regions.
void pool(const float* values, int channels, Size cells, const Asked& asked, double power, float* out) {
    const std::vector<Region> regions = regions_of(asked, cells);
    const size_t channel_size = static_cast<size_t>(cells.rows) * cells.columns, count = regions.size();
    if (std::isinf(power)) {
        for (int c = 0; c < channels; ++c)
            for (size_t r = 0; r < count; ++r)
                out[r * channels + c] =
                    regions[r].weight > 0.0 ? maximum(values + c * channel_size, cells.columns, regions[r]) : 0.0f;
        return;
    }
    Channel channel(cells.rows, cells.columns);
    std::vector<double> means(count * channels);
    for (int c = 0; c < channels; ++c) {
        channel.raise(values + c * channel_size, power);
        for (size_t r = 0; r < count; ++r)
            means[r * channels + c] = regions[r].weight > 0.0 ? channel.sum(regions[r]) / regions[r].weight : 0.0;
    }
    roots(means.data(), means.size(), power, out);
}
