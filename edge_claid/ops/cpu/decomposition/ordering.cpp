// Orders in which tokens are visited.
#include "ordering.h"

#include <algorithm>
#include <utility>

namespace decomposition {

namespace {

uint32_t key(uint32_t token) {
    uint32_t x = (token + 1) * 0x9E3779B9u;
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    return x ^ (x >> 16);
}

}  // namespace

void make_visiting_order(size_t tokens, Workspace& work) {
    if (work.ordered == tokens) return;
    uint32_t* order = work.order.reserve(tokens);
    for (size_t i = 0; i < tokens; ++i) order[i] = static_cast<uint32_t>(i);
    std::sort(order, order + tokens, [](uint32_t a, uint32_t b) { return key(a) < key(b); });
    uint32_t* rank = work.rank.reserve(tokens);
    for (size_t p = 0; p < tokens; ++p) rank[order[p]] = static_cast<uint32_t>(p);
    work.ordered = tokens;
}

void make_raster_order(size_t tokens, Workspace& work) {
    uint32_t *order = work.order.reserve(tokens), *rank = work.rank.reserve(tokens);
    for (size_t i = 0; i < tokens; ++i) order[i] = rank[i] = static_cast<uint32_t>(i);
    work.ordered = 0;
}

PythonShuffle::PythonShuffle(uint32_t seed) {
    state_[0] = 19650218u;
    for (int i = 1; i < kState; ++i)
        state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + static_cast<uint32_t>(i);
    int i = 1;
    for (int k = 0; k < kState; ++k) {  // init_by_array with the one-word key {seed}
        state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1664525u)) + seed;
        if (++i == kState) state_[0] = state_[kState - 1], i = 1;
    }
    for (int k = 1; k < kState; ++k) {
        state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1566083941u)) - static_cast<uint32_t>(i);
        if (++i == kState) state_[0] = state_[kState - 1], i = 1;
    }
    state_[0] = 0x80000000u;
}

void PythonShuffle::refill() {
    for (int i = 0; i < kState; ++i) {
        const uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % kState] & 0x7FFFFFFFu);
        state_[i] = state_[(i + kMiddle) % kState] ^ (y >> 1) ^ (y & 1 ? 0x9908B0DFu : 0u);
    }
    used_ = 0;
}

uint32_t PythonShuffle::next() {
    if (used_ == kState) refill();
    uint32_t y = state_[used_++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9D2C5680u;
    y ^= (y << 15) & 0xEFC60000u;
    return y ^ (y >> 18);
}

uint32_t PythonShuffle::below(uint32_t limit) {
    int width = 0;
    while (limit >> width) ++width;
    uint32_t value;
    do value = next() >> (32 - width);
    while (value >= limit);
    return value;
}

void PythonShuffle::shuffle(uint32_t* values, size_t count) {
    for (size_t i = count; i-- > 1;) std::swap(values[i], values[below(static_cast<uint32_t>(i) + 1)]);
}

}  // namespace decomposition
