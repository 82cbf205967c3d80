// Growing the tree: which nodes are cut, connected components, the arrays of the result.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstring>

#include "decomposition.h"
#include "workspace.h"

namespace decomposition {

constexpr int kSweeps = 500;  // most sweeps of one cut

// One node while it is worked on. `positions` ascends; bits are those of the affinity.
struct Node {
    const uint32_t* positions;
    size_t count;
    const uint64_t* members;  // listed mask
    size_t lowest, highest;   // positions of the fewest and the most connections
};

struct TreeRules {
    double tau1;
    size_t smallest, max_nodes;
    bool diagonal;  // connectivity counts a token as connected to itself
};

class Stopwatch {
  public:
    explicit Stopwatch(bool runs) : runs_(runs) { start(); }
    void start() {
        if (runs_) last_ = std::chrono::steady_clock::now();
    }
    void add_to(double& seconds) {
        if (!runs_) return;
        const auto now = std::chrono::steady_clock::now();
        seconds += std::chrono::duration<double>(now - last_).count();
        last_ = now;
    }

  private:
    bool runs_;
    std::chrono::steady_clock::time_point last_;
};

class Hierarchy {
  public:
    Hierarchy(const Kernels& kernels, const Image& image, const TreeRules& rules, const Affinity& affinity,
              Workspace& workspace, Timing* timing);

    // cut(node, second): fills the listed mask of half 1; false leaves the node whole.
    template <typename Cut>
    Tree grow(Cut&& cut) {
        add_root();
        for (size_t row = 0; row < tree_.size(); ++row) {
            watch_.start();
            const Node node = visit(row);
            watch_.add_to(times_.degrees);
            if (!is_cut(row)) continue;
            cut(node, workspace_.second.data());
            watch_.add_to(times_.ksums);
            add_children(row, node);
            watch_.add_to(times_.components);
        }
        if (timing_) *timing_ = times_;
        return std::move(tree_);
    }

  private:
    void add_root();
    Node visit(size_t row);  // also stores the node's edges
    bool is_cut(size_t row) const;
    void add_children(size_t row, const Node& node);
    void add_components(size_t row, uint8_t half);
    size_t flood(size_t start, uint8_t half);

    const Kernels& kernels_;
    const Image& image_;
    const TreeRules rules_;
    const Affinity& affinity_;
    Workspace& workspace_;
    Timing* timing_;
    Timing times_;
    Stopwatch watch_;
    Tree tree_;
    size_t words_;  // 64-bit words of a listed mask
};

}  // namespace decomposition
