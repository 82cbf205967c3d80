#include "store.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <unordered_set>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace scan {
namespace {

constexpr size_t kPage = size_t{2} << 20;  // a huge page: with small ones the scan waits for address translation

uint8_t* allocate(size_t bytes) {
    const size_t alignment = bytes >= kPage ? kPage : 64;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
#if defined(_WIN32)
    void* memory = _aligned_malloc(rounded, alignment);
#else
    void* memory = std::aligned_alloc(alignment, rounded);
#endif
    if (!memory) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == kPage) madvise(memory, rounded, MADV_HUGEPAGE);
#endif
    return static_cast<uint8_t*>(memory);
}

template <typename T>
void reserve_more(std::vector<T>& values, size_t size) {
    if (size > values.capacity()) values.reserve(std::max(size, values.capacity() + values.capacity() / 4));
}

}  // namespace

void FreeAligned::operator()(uint8_t* p) const {
#if defined(_WIN32)
    _aligned_free(p);
#else
    std::free(p);
#endif
}

Store::Store(size_t subspaces) : subspaces_(subspaces) {
    if (subspaces < 1 || subspaces > 4096) throw std::invalid_argument("a code has 1 to 4096 bytes");
}

size_t Store::bytes() const {
    const size_t capacity = chunks_.empty() ? 0 : chunks_.back().first + chunks_.back().count;
    return capacity * subspaces_ * kBlock + live_.capacity() * 8 + first_run_.capacity() * 4 +
           run_start_.capacity() * 8 + run_image_.capacity() * 4 + run_live_.capacity();
}

const uint8_t* Store::block(size_t index, size_t* left) const {
    auto after = std::upper_bound(chunks_.begin(), chunks_.end(), index,
                                  [](size_t value, const Chunk& chunk) { return value < chunk.first; });
    const Chunk& chunk = *(after - 1);
    if (left) *left = chunk.first + chunk.count - index;
    return chunk.codes.get() + (index - chunk.first) * subspaces_ * kBlock;
}

// A new chunk of at least an eighth of what is there: few chunks, and little memory held in vain.
void Store::grow(size_t blocks) {
    const size_t capacity = chunks_.empty() ? 0 : chunks_.back().first + chunks_.back().count;
    if (blocks <= capacity) return;
    const size_t count = std::max({blocks - capacity, capacity / 8, size_t{8}});
    std::unique_ptr<uint8_t, FreeAligned> memory(allocate(count * subspaces_ * kBlock));
    chunks_.push_back({capacity, count, std::move(memory)});
}

void Store::append(const uint8_t* codes, const int32_t* images, size_t count) {
    if (count == 0) return;
    if (*std::min_element(images, images + count) < 0) throw std::invalid_argument("an image index is negative");
    const size_t rows = rows_ + count, blocks = (rows + kBlock - 1) / kBlock, old_blocks = this->blocks();
    size_t runs = run_start_.size() + 1;
    for (size_t i = 1; i < count; ++i) runs += images[i] != images[i - 1];
    if (runs > UINT32_MAX) throw std::length_error("a scan holds at most 2^32 stretches of regions");
    // All memory first: an append that fails for want of it changes nothing.
    grow(blocks);
    reserve_more(live_, blocks * kWords);
    reserve_more(first_run_, blocks * kWords);
    reserve_more(run_start_, runs);
    reserve_more(run_image_, runs);
    reserve_more(run_live_, runs);

    live_.resize(blocks * kWords, 0);
    for (size_t index = old_blocks; index < blocks; ++index)
        std::memset(const_cast<uint8_t*>(block(index)), 0, subspaces_ * kBlock);
    for (size_t i = 0; i < count;) {
        const size_t row = rows_ + i, lane = row % kBlock;
        const size_t lanes = std::min(kWord - lane % kWord, count - i);
        uint8_t* to = const_cast<uint8_t*>(block(row / kBlock)) + lane;
        for (size_t m = 0; m < subspaces_; ++m)
            for (size_t j = 0; j < lanes; ++j) to[m * kBlock + j] = codes[(i + j) * subspaces_ + m];
        live_[row / kWord] |= (lanes == kWord ? ~uint64_t{0} : (uint64_t{1} << lanes) - 1) << lane % kWord;
        i += lanes;
    }
    for (size_t i = 0; i < count; ++i) {
        const bool same = i ? images[i] == images[i - 1]
                            : rows_ && run_image_.back() == images[0] && run_live_.back();
        if (!same) {
            run_start_.push_back(rows_ + i);
            run_image_.push_back(images[i]);
            run_live_.push_back(1);
        }
        if ((rows_ + i) % kWord == 0) first_run_.push_back(static_cast<uint32_t>(run_start_.size() - 1));
    }
    rows_ = rows;
    live_rows_ += count;
}

size_t Store::remove(const int32_t* images, size_t count) {
    const std::unordered_set<int32_t> gone(images, images + count);
    size_t removed = 0;
    for (size_t run = 0; run < run_start_.size(); ++run) {
        if (!run_live_[run] || !gone.count(run_image_[run])) continue;
        run_live_[run] = 0;
        for (size_t row = run_start_[run]; row < run_stop(run); ++row, ++removed)
            live_[row / kWord] &= ~(uint64_t{1} << row % kWord);
    }
    live_rows_ -= removed;
    return removed;
}

void Store::distances(const float* table, size_t start, size_t stop, float* out) const {
    while (start < stop) {
        const size_t lane = start % kBlock, lanes = std::min(kBlock - lane, stop - start);
        const uint8_t* codes = block(start / kBlock) + lane;
        for (size_t i = 0; i < lanes; ++i) {
            float sum = 0.0f;
            for (size_t m = 0; m < subspaces_; ++m) sum += table[m * kCodewords + codes[m * kBlock + i]];
            *out++ = sum;
        }
        start += lanes;
    }
}

}  // namespace scan
