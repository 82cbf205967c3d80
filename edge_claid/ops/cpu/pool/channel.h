// One channel of a map, raised to the power and summed down its columns, so that a box costs a few additions a column.
#pragma once

#include <cstddef>
#include <vector>

// Sums go over this many lanes in a fixed order, so wider and narrower vectors give the same bits.
constexpr int kLanes = 8;

inline int vectors(int count) { return (count + kLanes - 1) / kLanes; }

// The cells along one axis that a box touches: their first, their number, and the share of each that it covers.
struct Span {
    double start = 0.0, stop = 0.0;
    int first = 0, count = 0;
    std::vector<double> shares;
};

struct Region {
    Span across, down;
    std::vector<double> weights;  // with a mask: of each cell, rows of whole vectors; empty without
    double weight = 0.0;          // cells covered
};

class Channel {
public:
    Channel(int rows, int columns);

    // values: (rows, columns).
    void raise(const float* values, double power);

    // Sum of the raised values over a region, weighted by what it covers of each cell.
    double sum(const Region& region) const;

private:
    int rows_, columns_;
    size_t stride_;
    // (rows + 2, stride): row y holds the sums of rows before y; the last row is there twice and all rows are padded,
    // so that whole vectors can be read at every place. In double precision a difference of two sums is exact enough
    // for a small region beside a large value: where all its cells are zero, it is zero.
    std::vector<double> sums_;
};

// The power-th roots of `count` means.
void roots(const double* means, size_t count, double power, float* out);
