// RoI pooling of a convolutional map over boxes, or over masks inside boxes: generalised mean and maximum.
// Mirrors edge_claid/ops/reference/pool.py: cells are weighted by the share of them that a box (and a mask) covers.
#pragma once

#include <cstddef>
#include <cstdint>

struct Size {
    int rows, columns;
};

// What is pooled over. boxes: (count, 4), in cells. masks: (count, tokens) of 0 and 1, or null.
struct Asked {
    const float* boxes;
    size_t count;
    const uint8_t* masks;
    Size tokens;
};

// values: (channels, cells). power: infinity takes the maximum. out: (count, channels).
void pool(const float* values, int channels, Size cells, const Asked& asked, double power, float* out);
