// High-energy tokens (CLAID §III-D).
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "workspace.h"

namespace decomposition {

// Marks in work.high the tokens whose energy is at least the rank-th of the ascending energies.
inline void mark_high_energy(size_t tokens, size_t rank, Workspace& work) {
    float* sorted = work.sorted_energy.reserve(tokens);
    std::copy_n(work.energy.data(), tokens, sorted);
    std::nth_element(sorted, sorted + rank, sorted + tokens);
    uint64_t* high = work.high.reserve((tokens + 63) / 64);
    std::fill_n(high, (tokens + 63) / 64, 0);
    for (size_t i = 0; i < tokens; ++i)
        high[i / 64] |= static_cast<uint64_t>(work.energy[i] >= sorted[rank]) << (i % 64);
}

}  // namespace decomposition
