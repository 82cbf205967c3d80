// Orders in which tokens are visited.
#pragma once
#include <cstddef>
#include <cstdint>

#include "workspace.h"

namespace decomposition {

// The fixed permutation of edge_claid/ops/reference/decomposition.py:visiting_order; kept while the count stays.
void make_visiting_order(size_t tokens, Workspace& work);

// Position p holds token p.
void make_raster_order(size_t tokens, Workspace& work);

// Python's random.Random(seed).shuffle, for a seed below 2^32 (MT19937 of Matsumoto and Nishimura).
class PythonShuffle {
  public:
    explicit PythonShuffle(uint32_t seed);
    void shuffle(uint32_t* values, size_t count);

  private:
    uint32_t next();
    uint32_t below(uint32_t limit);
    void refill();

    static constexpr int kState = 624, kMiddle = 397;
    uint32_t state_[kState];
    int used_ = kState;
};

}  // namespace decomposition
