// One query's pass over blocks of codes: pre-scan, exact distances of what survives, thresholds.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#if defined(_MSC_VER)
#include <intrin.h>
#endif

#include "best_images.h"
#include "byte_table.h"
#include "kernel.h"
#include "search.h"
#include "store.h"

namespace scan {

constexpr size_t kMostBlocks = 8;        // of a tile
constexpr size_t kDenseShare = 5;         // more survivors than one in so many: scoring all of the next tile is faster
constexpr int kDenseTiles = 4;           // so many of them, before the pre-scan is tried again
constexpr size_t kVagueShare = 12;       // more survivors of groups than one in so many: summing them exactly does not pay
constexpr double kSorted = 3.0;          // so many times more of the best images may lie in a part than its share
constexpr int kLeastWait = 2, kMostWait = 256;  // tiles without it then, and when that happens again and again

inline size_t lowest_bit(uint64_t mask) {
#if defined(_MSC_VER)
    unsigned long index;
    _BitScanForward64(&index, mask);
    return index;
#else
    return static_cast<size_t>(__builtin_ctzll(mask));
#endif
}

inline size_t bits_set(uint64_t mask) {
    mask -= mask >> 1 & 0x5555555555555555;
    mask = (mask & 0x3333333333333333) + (mask >> 2 & 0x3333333333333333);
    return ((mask + (mask >> 4)) & 0x0f0f0f0f0f0f0f0f) * 0x0101010101010101 >> 56;
}

inline float lowered(std::atomic<float>& shared, float value) {
    float known = shared.load(std::memory_order_relaxed);
    while (value < known && !shared.compare_exchange_weak(known, value, std::memory_order_relaxed)) {
    }
    return std::min(value, known);
}

// Blocks [first, first + count), and the threshold they were pre-scanned with.
struct Tile {
    size_t first, count;
    float threshold;
};

// One query in one thread, over blocks from `start` on.
class QueryScan {
public:
    QueryScan(const Store& store, const Kernel& kernel, const Request& request, size_t query, size_t start,
              std::atomic<float>& shared)
        : store_(store), kernel_(kernel), request_(request), shared_(shared), best(request.k),
          table_(request.tables + query * store.subspaces() * kCodewords), bytes_(table_, store.subspaces()),
          start_(start) {}

    // Whether the tile can be pre-scanned; sets the byte table for it.
    bool prepare(size_t first, size_t blocks) {
        const float threshold = lowered(shared_, best.threshold());
        if (kernel_.grouped && ++tiles_ >= next_guess_) {
            next_guess_ = tiles_ + 1 + tiles_ / 2;
            guess_ = guessed(first);
        }
        const bool possible = prepare_for(std::min(threshold, guess_));
        if (possible && guess_ < threshold) unsure_.push_back({first, blocks, guess_});
        return possible;
    }

    // The same once a tile is looked at again, all others having been seen.
    bool prepare_again() { return prepare_for(lowered(shared_, best.threshold())); }

    // Tiles whose guess was too low.
    std::vector<Tile> missed() {
        const float threshold = lowered(shared_, best.threshold());
        std::vector<Tile> tiles;
        for (const Tile& tile : unsure_)
            if (tile.threshold < threshold) tiles.push_back(tile);
        return tiles;
    }

    // Whether the next tile is pre-scanned by group.
    bool by_group() const { return kernel_.grouped && !wait_; }
    const uint8_t* bytes() const { return by_group() ? bytes_.group_bytes() : bytes_.bytes(); }

    // masks: of a pre-scan as by_group() says; where groups tell too little, they are made anew without.
    void score_survivors(uint64_t* masks, const uint8_t* codes, size_t first, size_t blocks) {
        size_t words[kMostBlocks * kWords];
        size_t count = words_with_survivors(masks, blocks, words);
        if (by_group()) {
            const bool vague = is_vague(masks, count, blocks * kWords);
            wait_ = vague ? next_wait_ : 0;
            next_wait_ = vague ? std::min(2 * next_wait_, kMostWait) : kLeastWait;
            if (vague) {
                const uint8_t* table = bytes_.bytes();
                kernel_.prescan(codes, blocks, store_.subspaces(), &table, 1, &masks);
                count = words_with_survivors(masks, blocks, words);
            }
        }
        size_t survivors = 0;
        for (size_t i = 0; i < count; ++i) {
            const size_t w = words[i];
            uint64_t mask = masks[w] & store_.live_mask(first * kWords + w);
            const size_t block = w / kWords, lane = w % kWords * kWord;
            for (; mask; mask &= mask - 1, ++survivors)
                score(codes + block * store_.subspaces() * kBlock, first + block, lane + lowest_bit(mask));
        }
        dense_ = survivors > blocks * kBlock / kDenseShare ? kDenseTiles : 0;
    }

    // Scores every region of the rows, an image at a time.
    void score_all(size_t start, size_t stop) {
        if (dense_) --dense_;
        for (size_t run = store_.run_of(start); start < stop; ++run) {
            const size_t end = std::min(stop, store_.run_stop(run));
            if (store_.run_live(run) && allowed(store_.run_image(run))) score_run(store_.run_image(run), start, end);
            start = end;
        }
    }

private:
    bool prepare_for(float threshold) {
        if (dense_ || threshold == std::numeric_limits<float>::infinity()) return false;
        if (threshold != quantised_) bytes_.quantise(quantised_ = threshold);
        if (wait_) --wait_;
        return true;
    }

    // What the threshold will hardly be below in the end. Of the k best images, about k times the share of rows that
    // this thread has seen are known by now, some more where the gallery is sorted: the distance of the image of that
    // rank.
    float guessed(size_t first) {
        const double share = static_cast<double>((first - start_) * kBlock) / static_cast<double>(store_.rows());
        const double known = static_cast<double>(request_.k) * share;
        return best.distance_of(static_cast<size_t>(kSorted * known + 4.0 * std::sqrt(known)) + 4);
    }

    // Gathered first, so that no branch has to be guessed: most words have none.
    static size_t words_with_survivors(const uint64_t* masks, size_t blocks, size_t* words) {
        size_t count = 0;
        for (size_t w = 0; w < blocks * kWords; ++w) {
            words[count] = w;
            count += masks[w] != 0;
        }
        return count;
    }

    // count: words with survivors; where some have none, there are few.
    static bool is_vague(const uint64_t* masks, size_t count, size_t words) {
        if (count < words - words / 16) return false;
        size_t survivors = 0;
        for (size_t w = 0; w < words; ++w) survivors += bits_set(masks[w]);
        return survivors * kVagueShare > words * kWord;
    }

    bool allowed(int32_t image) const {
        return !request_.allowed ||
               (static_cast<size_t>(image) < request_.allowed_count && request_.allowed[image]);
    }

    void score(const uint8_t* codes, size_t block, size_t lane) {
        float sum = 0.0f;
        for (size_t m = 0; m < store_.subspaces(); ++m) sum += table_[m * kCodewords + codes[m * kBlock + lane]];
        if (sum > best.threshold()) return;
        const size_t row = block * kBlock + lane;
        const int32_t image = store_.run_image(store_.run_of(row));
        if (allowed(image)) best.offer({sum, image, static_cast<int64_t>(row)});
    }

    void score_run(int32_t image, size_t start, size_t stop) {
        distances_.resize(stop - start);
        store_.distances(table_, start, stop, distances_.data());
        size_t nearest = 0;
        for (size_t i = 1; i < distances_.size(); ++i)
            if (distances_[i] < distances_[nearest]) nearest = i;
        best.offer({distances_[nearest], image, static_cast<int64_t>(start + nearest)});
    }

    const Store& store_;
    const Kernel& kernel_;
    const Request& request_;
    std::atomic<float>& shared_;  // least threshold of any thread for this query

public:
    BestImages best;

private:
    const float* table_;
    ByteTable bytes_;
    size_t start_, tiles_ = 0, next_guess_ = 2;
    float guess_ = std::numeric_limits<float>::infinity();
    std::vector<Tile> unsure_;
    float quantised_ = std::numeric_limits<float>::infinity();
    int dense_ = 0;  // tiles to score in full before the next pre-scan
    int wait_ = 0, next_wait_ = kLeastWait;  // tiles to pre-scan without groups: from now on, and the next time
    std::vector<float> distances_;
};

}  // namespace scan
