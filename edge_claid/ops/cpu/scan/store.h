// Codes of a gallery's regions, laid out for the scan.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "kernel.h"

namespace scan {

struct FreeAligned {
    void operator()(uint8_t* p) const;
};

// Blocks [first, first + count) of the gallery: (count, subspaces, 512) uint8 in one piece of memory that never moves.
struct Chunk {
    size_t first, count;
    std::unique_ptr<uint8_t, FreeAligned> codes;
};

// Regions are rows in order of appending; a run is a stretch of rows of one image.
class Store {
public:
    explicit Store(size_t subspaces);

    // codes: (count, subspaces) uint8; images: (count,) int32, not negative.
    void append(const uint8_t* codes, const int32_t* images, size_t count);
    // Marks all rows of these images as removed; returns how many.
    size_t remove(const int32_t* images, size_t count);
    // Exact distances of rows [start, stop): sums over subspaces, ascending, in float32.
    void distances(const float* table, size_t start, size_t stop, float* out) const;

    size_t subspaces() const { return subspaces_; }
    size_t rows() const { return rows_; }
    size_t live_rows() const { return live_rows_; }
    size_t blocks() const { return (rows_ + kBlock - 1) / kBlock; }
    size_t bytes() const;
    // Codes of a block, and in `left` how many blocks follow it in the same memory, itself included.
    const uint8_t* block(size_t index, size_t* left = nullptr) const;
    uint64_t live_mask(size_t word) const { return live_[word]; }

    size_t run_of(size_t row) const {
        size_t run = first_run_[row / kWord];
        while (run_stop(run) <= row) ++run;
        return run;
    }
    size_t run_stop(size_t run) const { return run + 1 < run_start_.size() ? run_start_[run + 1] : rows_; }
    int32_t run_image(size_t run) const { return run_image_[run]; }
    bool run_live(size_t run) const { return run_live_[run]; }

private:
    void grow(size_t blocks);

    size_t subspaces_, rows_ = 0, live_rows_ = 0;
    std::vector<Chunk> chunks_;
    std::vector<uint64_t> live_;        // a word of 64 rows: bit i is set while its row i is not removed
    std::vector<uint32_t> first_run_;   // a word: run of its first row
    std::vector<uint64_t> run_start_;   // a run: its first row
    std::vector<int32_t> run_image_;    // a run: its image
    std::vector<uint8_t> run_live_;     // a run: its image is not removed
};

}  // namespace scan
