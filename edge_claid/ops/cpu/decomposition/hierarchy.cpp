// Growing the tree: which nodes are cut, connected components, the arrays of the result.
#include "hierarchy.h"

namespace decomposition {

namespace {

// Position of the lowest set bit of a word that is not zero.
inline unsigned lowest_bit(uint64_t word) {
#if defined(__GNUC__)
    return static_cast<unsigned>(__builtin_ctzll(word));
#else
    unsigned bit = 0;
    for (; !(word & 1); word >>= 1) ++bit;
    return bit;
#endif
}

}  // namespace

Hierarchy::Hierarchy(const Kernels& kernels, const Image& image, const TreeRules& rules, const Affinity& affinity,
                     Workspace& workspace, Timing* timing)
    : kernels_(kernels), image_(image), rules_(rules), affinity_(affinity), workspace_(workspace), timing_(timing),
      times_(timing ? *timing : Timing{}), watch_(timing != nullptr), words_((image.tokens() + 63) / 64) {
    const size_t cells = (image.rows + 2) * (image.columns + 2);
    std::memset(workspace_.cells.reserve(cells), 0, cells);
    workspace_.members.reserve(words_);
    workspace_.second.reserve(words_);
    workspace_.positions.reserve(image.tokens());
    workspace_.stack.reserve(image.tokens());
    tree_.mask_bytes = (image.tokens() + 7) / 8;
}

void Hierarchy::add_root() {
    const size_t tokens = image_.tokens();
    tree_.masks.assign(tree_.mask_bytes, 0xFF);
    if (tokens % 8) tree_.masks.back() = static_cast<uint8_t>((1u << (tokens % 8)) - 1);
    int32_t high = 0;
    for (size_t i = 0; i < tokens; ++i) high += workspace_.high[i / 64] >> (i % 64) & 1;
    tree_.parents = {-1};
    tree_.depths = {0};
    tree_.areas = {static_cast<int32_t>(tokens)};
    tree_.high = {high};
    tree_.edges = {0};
}

Node Hierarchy::visit(size_t row) {
    const uint8_t* raster = tree_.masks.data() + row * tree_.mask_bytes;
    uint64_t* members = workspace_.members.data();
    std::memset(members, 0, words_ * sizeof(uint64_t));
    for (size_t start = 0; start < tree_.mask_bytes; start += 8) {
        uint64_t word = 0;
        for (size_t b = 0; b < 8 && start + b < tree_.mask_bytes; ++b)
            word |= static_cast<uint64_t>(raster[start + b]) << (8 * b);
        for (; word; word &= word - 1) {
            const uint32_t p = workspace_.rank[8 * start + lowest_bit(word)];
            members[p / 64] |= uint64_t{1} << (p % 64);
        }
    }
    uint32_t* positions = workspace_.positions.data();
    size_t count = 0;
    for (size_t w = 0; w < words_; ++w)
        for (uint64_t word = members[w]; word; word &= word - 1)
            positions[count++] = static_cast<uint32_t>(64 * w + lowest_bit(word));
    uint64_t total = 0;
    uint32_t least = UINT32_MAX, most = 0;
    Node node{positions, count, members, positions[0], positions[0]};
    for (size_t k = 0; k < count; ++k) {
        const uint32_t degree = kernels_.degree(affinity_.bits + positions[k] * affinity_.bit_stride, members, words_);
        total += degree;
        if (degree < least) least = degree, node.lowest = positions[k];
        if (degree > most) most = degree, node.highest = positions[k];
    }
    tree_.edges[row] = static_cast<int64_t>(total / 2);
    return node;
}

bool Hierarchy::is_cut(size_t row) const {
    const size_t count = static_cast<size_t>(tree_.areas[row]);
    if (row == 0) return count >= std::max<size_t>(2, rules_.smallest);
    const double n = static_cast<double>(count);
    const double pairs = 2.0 * static_cast<double>(tree_.edges[row]) + (rules_.diagonal ? n : 0.0);
    return count > 1 && pairs < rules_.tau1 * (n * (n - 1.0));
}

void Hierarchy::add_children(size_t row, const Node& node) {
    const size_t stride = image_.columns + 2;
    size_t in_second = 0;
    for (size_t k = 0; k < node.count; ++k) {
        const size_t p = node.positions[k], token = workspace_.order[p];
        const uint8_t half = workspace_.second[p / 64] >> (p % 64) & 1;
        in_second += half;
        workspace_.cells[(token / image_.columns + 1) * stride + token % image_.columns + 1] = half + 1;
    }
    if (in_second != 0 && in_second != node.count) {
        add_components(row, 1);
        add_components(row, 2);
    }
    std::memset(workspace_.cells.data(), 0, (image_.rows + 2) * stride);
}

void Hierarchy::add_components(size_t row, uint8_t half) {
    const size_t stride = image_.columns + 2;
    uint8_t* cells = workspace_.cells.data();
    const uint8_t* end = cells + (image_.rows + 2) * stride;
    const uint8_t* found = cells;
    while ((found = static_cast<const uint8_t*>(std::memchr(found, half, static_cast<size_t>(end - found))))) {
        const size_t area = flood(static_cast<size_t>(found - cells), half);
        if (area < rules_.smallest || tree_.size() >= rules_.max_nodes) continue;
        tree_.masks.resize(tree_.masks.size() + tree_.mask_bytes, 0);
        uint8_t* mask = tree_.masks.data() + tree_.size() * tree_.mask_bytes;
        int32_t high = 0;
        for (size_t k = 0; k < area; ++k) {
            const size_t cell = workspace_.stack[k];
            const size_t token = (cell / stride - 1) * image_.columns + cell % stride - 1;
            mask[token / 8] |= static_cast<uint8_t>(1u << (token % 8));
            high += workspace_.high[token / 64] >> (token % 64) & 1;
        }
        tree_.parents.push_back(static_cast<int32_t>(row));
        tree_.depths.push_back(tree_.depths[row] + 1);
        tree_.areas.push_back(static_cast<int32_t>(area));
        tree_.high.push_back(high);
        tree_.edges.push_back(0);
    }
}

// Takes the component of a cell out of the grid; its cells are left in the stack. Returns their number.
size_t Hierarchy::flood(size_t start, uint8_t half) {
    const ptrdiff_t stride = static_cast<ptrdiff_t>(image_.columns + 2);
    const ptrdiff_t around[8] = {-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1};
    uint8_t* cells = workspace_.cells.data();
    uint32_t* stack = workspace_.stack.data();
    size_t count = 1;
    stack[0] = static_cast<uint32_t>(start);
    cells[start] = 0;
    for (size_t k = 0; k < count; ++k)
        for (const ptrdiff_t step : around) {
            const size_t cell = static_cast<size_t>(stack[k] + step);
            if (cells[cell] != half) continue;
            cells[cell] = 0;
            stack[count++] = static_cast<uint32_t>(cell);
        }
    return count;
}

}  // namespace decomposition
