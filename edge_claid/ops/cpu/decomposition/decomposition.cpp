// The integer mode: quantise, Gram matrix, cuts.
#include "decomposition.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "energy.h"
#include "hierarchy.h"
#include "ordering.h"
#include "workspace.h"

namespace decomposition {

namespace {

size_t panels_of(size_t tokens) { return (tokens + kPanel - 1) / kPanel; }

struct Quantised {
    double unit;      // square of the scale: a product over it is the cosine
    int32_t largest;  // squared norm
};

// Norms and energies of all tokens; returns the scale of the quantisation.
float measure(const Kernels& kernels, const Quantiser& from, size_t tokens, Workspace& work) {
    float* energy = work.energy.reserve(tokens);
    float* inverse = work.inverse.reserve(tokens);
    float peak = 0.0f;
    for (size_t i = 0; i < tokens; ++i) {
        float square, largest;
        kernels.row_statistics(from, i, &energy[i], &square, &largest);
        if (!std::isfinite(energy[i]) || !std::isfinite(square)) throw NotFinite();
        inverse[i] = square > 0.0f ? 1.0f / std::sqrt(square) : 0.0f;
        peak = std::max(peak, largest * inverse[i]);
    }
    return peak > 0.0f ? 127.0f / peak : 0.0f;
}

Quantised quantise(const Kernels& kernels, const Quantiser& from, size_t tokens, Workspace& work) {
    const float scale = measure(kernels, from, tokens, work);
    const size_t panels = panels_of(tokens), groups = (from.width + kernels.group - 1) / kernels.group;
    const size_t panel_bytes = groups * kernels.group * kernels.cell_bytes * kPanel;
    char* packed = work.packed.reserve(panels * panel_bytes);
    int32_t* sums = work.sums.reserve(panels * kPanel);
    Quantised result{static_cast<double>(scale) * static_cast<double>(scale), 0};
    for (size_t panel = 0; panel < panels; ++panel) {
        const size_t start = panel * kPanel, count = std::min(kPanel, tokens - start);
        const int32_t largest = kernels.quantise_panel(from, work.order.data() + start, count, work.inverse.data(),
                                                       scale, packed + panel * panel_bytes, sums + start);
        result.largest = std::max(result.largest, largest);
    }
    return result;
}

int bit_length(int64_t value) {
    int length = 0;
    for (; value; value >>= 1) ++length;
    return length;
}

// Gram matrix and connections; returns the unit, the value of a product of one.
int32_t measure_affinity(const Kernels& kernels, const Quantised& quantised, size_t tokens, size_t width, double alpha,
                         Workspace& work, Affinity& affinity) {
    const size_t panels = panels_of(tokens), padded = panels * kPanel;
    const int64_t whole = static_cast<int64_t>(quantised.unit);
    Rounding rounding{};
    rounding.shift = std::max(0, bit_length(std::max<int64_t>(whole, quantised.largest)) - 15);
    const double limit = std::floor(alpha * quantised.unit / static_cast<double>(int64_t{1} << rounding.shift));
    rounding.threshold = static_cast<int>(std::min(32767.0, std::max(-32768.0, limit)));
    const int64_t half = (int64_t{1} << rounding.shift) >> 1;
    const int32_t unit = static_cast<int32_t>(std::min<int64_t>((whole + half) >> rounding.shift, 32767));

    affinity.gram_stride = padded + kPanel;  // rows a power of two apart would share few cache sets
    affinity.bit_stride = (panels + 1) / 2 * 2;
    affinity.gram = work.gram.reserve(padded * affinity.gram_stride);
    affinity.bits = work.bits.reserve(padded * affinity.bit_stride);
    if (panels % 2)
        for (size_t p = 0; p < padded; ++p) affinity.bits[p * affinity.bit_stride + panels] = 0;
    kernels.gram(work.packed.data(), work.sums.data(), panels, (width + kernels.group - 1) / kernels.group, rounding,
                 &affinity);
    for (size_t p = 0; p < tokens; ++p) {
        affinity.gram[p * affinity.gram_stride + p] = static_cast<int16_t>(unit);
        affinity.bits[p * affinity.bit_stride + p / 32] &= ~(1u << (p % 32));
    }
    return unit;
}

uint64_t linked(const Affinity& affinity, size_t position, size_t word) {
    uint64_t bits;
    std::memcpy(&bits, affinity.bits + position * affinity.bit_stride + 2 * word, sizeof bits);
    return word == position / 64 ? bits | uint64_t{1} << (position % 64) : bits;
}

// Half 1 starts as the neighbours of the best connected token that are not neighbours of the least connected one.
void start_halves(const Affinity& affinity, const Node& node, size_t words, uint64_t* second) {
    for (size_t w = 0; w < words; ++w)
        second[w] = linked(affinity, node.highest, w) & ~linked(affinity, node.lowest, w) & node.members[w];
}

struct KSums {
    const Kernels& kernels;
    const Affinity& affinity;
    int32_t unit;
    size_t columns;  // a multiple of kPanel
    Workspace& work;
    size_t moves = 0, start_rows = 0;

    // Fills t = products with half 0 minus products with half 1; returns n0 - n1.
    int32_t start(const Node& node, const uint64_t* second) {
        start_rows += node.count;
        uint32_t *first_rows = work.first_rows.data(), *second_rows = work.second_rows.data();
        size_t n0 = 0, n1 = 0;
        for (size_t k = 0; k < node.count; ++k) {
            const uint32_t p = node.positions[k];
            if (second[p / 64] >> (p % 64) & 1) second_rows[n1++] = p;
            else first_rows[n0++] = p;
        }
        int32_t* t = work.t.data();
        std::fill_n(t, columns, 0);
        kernels.add_rows(affinity, second_rows, n1, columns, t);
        for (size_t k = 0; k < columns; ++k) t[k] = -t[k];
        kernels.add_rows(affinity, first_rows, n0, columns, t);
        return static_cast<int32_t>(n0) - static_cast<int32_t>(n1);
    }

    void cut(const Node& node, uint64_t* second) {
        start_halves(affinity, node, (columns + 63) / 64, second);
        int32_t balance = start(node, second) * unit;
        int32_t* t = work.t.data();
        for (int sweep = 0; sweep < kSweeps; ++sweep) {
            bool moved = false;
            size_t p = kernels.next_mover(t, node.members, second, balance, 0, columns);
            while (p < columns) {
                const int32_t side = second[p / 64] >> (p % 64) & 1 ? -1 : 1;
                second[p / 64] ^= uint64_t{1} << (p % 64);
                balance -= 2 * side * unit;
                kernels.subtract_row(affinity.gram + p * affinity.gram_stride, side, columns, t);
                moved = true;
                ++moves;
                if (++p < columns) p = kernels.next_mover(t, node.members, second, balance, p, columns);
            }
            if (!moved) return;
        }
    }
};

}  // namespace

Tree decompose(const Kernels& kernels, const Image& image, const Settings& settings, Workspace& work, Timing* timing) {
    const size_t tokens = image.tokens(), padded = panels_of(tokens) * kPanel;
    Stopwatch watch(timing != nullptr);
    Timing times;
    make_visiting_order(tokens, work);
    const Quantised quantised = quantise(kernels, {image.features, settings.center, image.width}, tokens, work);
    mark_high_energy(tokens, settings.energy_rank, work);
    watch.add_to(times.normalise);
    Affinity affinity{};
    const int32_t unit = measure_affinity(kernels, quantised, tokens, image.width, settings.alpha, work, affinity);
    watch.add_to(times.gram);
    if (timing) *timing = times;
    work.t.reserve(padded);
    work.first_rows.reserve(tokens);
    work.second_rows.reserve(tokens);
    KSums ksums{kernels, affinity, unit, padded, work};
    Hierarchy hierarchy(kernels, image, {settings.tau1, settings.smallest, settings.max_nodes, false}, affinity, work,
                        timing);
    Tree tree = hierarchy.grow([&](const Node& node, uint64_t* second) { ksums.cut(node, second); });
    if (timing) timing->moves = ksums.moves, timing->start_rows = ksums.start_rows;
    return tree;
}

WorkspacePointer new_workspace() { return WorkspacePointer(new Workspace); }
void WorkspaceDeleter::operator()(Workspace* workspace) const { delete workspace; }
size_t workspace_bytes(const Workspace& workspace) { return workspace.bytes(); }

}  // namespace decomposition
