// Tokens of one image to a tree of regions. Mirrors edge_claid/ops/reference/decomposition.py bit for bit.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

namespace decomposition {

struct Image {
    const float* features;  // (rows * columns, width), raw tokens, row-major
    size_t rows, columns, width;
    size_t tokens() const { return rows * columns; }
};

struct Settings {
    const float* center;  // (width) or null
    double alpha, tau1;
    size_t energy_rank;  // index of the high-energy threshold in the ascending energies
    size_t smallest, max_nodes;
};

// What the floating-point mode adds (edge_claid/ops/reference/released_decomposition.py).
struct FloatSettings {
    bool released;            // the authors' dead zone, connectivity with the diagonal
    bool shuffled;            // visit in the order of Python's random.shuffle
    uint32_t shuffle_seed;
    const int32_t* seeds;     // (cuts, 2) tokens of lowest and highest degree, or null
    size_t seed_count;
};

// Nodes breadth first; arrays as in edge_claid/ops/reference/region_tree.py.
struct Tree {
    std::vector<uint8_t> masks;  // (nodes, mask_bytes)
    size_t mask_bytes = 0;
    std::vector<int32_t> parents, depths, areas, high;
    std::vector<int64_t> edges;
    size_t size() const { return parents.size(); }
};

struct NotFinite : std::runtime_error {
    NotFinite()
        : std::runtime_error("tokens are not finite, or so large that their norm is not: check the network's output") {}
};

// Seconds by step, and the Gram rows that the cuts went through; filled where a pointer to it is given.
struct Timing {
    double normalise = 0, gram = 0, degrees = 0, ksums = 0, components = 0;
    size_t moves = 0, start_rows = 0;
};

class Workspace;  // memory of one thread, kept between images
struct WorkspaceDeleter {
    void operator()(Workspace* workspace) const;
};
using WorkspacePointer = std::unique_ptr<Workspace, WorkspaceDeleter>;
WorkspacePointer new_workspace();
size_t workspace_bytes(const Workspace& workspace);

// Throw NotFinite; std::out_of_range where seeds run out.
Tree decompose(const Kernels& kernels, const Image& image, const Settings& settings, Workspace& workspace,
               Timing* timing = nullptr);
Tree decompose_float(const Kernels& kernels, const Image& image, const Settings& settings,
                     const FloatSettings& floats, Workspace& workspace);

// The kernels this machine can run, best first; by name ("auto": the best), std::invalid_argument for others.
std::vector<const Kernels*> usable_kernels();
const Kernels& kernels_named(const std::string& name);

}  // namespace decomposition
