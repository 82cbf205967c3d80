// The floating-point mode: our rules in floats, or the rules of the authors' released program.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "decomposition.h"
#include "energy.h"
#include "hierarchy.h"
#include "ordering.h"
#include "workspace.h"

namespace decomposition {

namespace {

// Unit tokens in listed order, rows padded with zeros to a multiple of kLanes; also energies. Returns the row length.
size_t normalise(const Kernels& kernels, const Image& image, const Settings& settings, Workspace& work) {
    const size_t tokens = image.tokens(), stride = (image.width + kLanes - 1) / kLanes * kLanes;
    const Quantiser from{image.features, settings.center, image.width};
    float* units = work.units.reserve(tokens * stride);
    float* energy = work.energy.reserve(tokens);
    std::fill_n(units, tokens * stride, 0.0f);
    for (size_t p = 0; p < tokens; ++p) {
        const size_t token = work.order[p];
        float square, largest;
        kernels.row_statistics(from, token, &energy[token], &square, &largest);
        if (!std::isfinite(energy[token]) || !std::isfinite(square)) throw NotFinite();
        double norm = 0.0;
        const float* x = image.features + token * image.width;
        for (size_t d = 0; d < image.width; ++d) {
            const double value = static_cast<double>(x[d]) - (settings.center ? settings.center[d] : 0.0f);
            norm += value * value;
        }
        norm = std::sqrt(norm);
        for (size_t d = 0; d < image.width && norm > 0.0; ++d) {
            const double value = static_cast<double>(x[d]) - (settings.center ? settings.center[d] : 0.0f);
            units[p * stride + d] = static_cast<float>(value / norm);
        }
    }
    return stride;
}

void connect(const float* gram, size_t tokens, double alpha, Workspace& work, Affinity& affinity) {
    affinity.bit_stride = (tokens + 63) / 64 * 2;
    affinity.bits = work.bits.reserve(tokens * affinity.bit_stride);
    std::fill_n(affinity.bits, tokens * affinity.bit_stride, 0u);
    for (size_t i = 0; i < tokens; ++i)
        for (size_t j = 0; j < tokens; ++j)
            if (i != j && gram[i * tokens + j] > alpha)
                affinity.bits[i * affinity.bit_stride + j / 32] |= 1u << (j % 32);
}

class FloatKSums {
  public:
    FloatKSums(const FloatSettings& settings, const Affinity& affinity, float* gram, size_t tokens, Workspace& work)
        : settings_(settings), affinity_(affinity), gram_(gram), tokens_(tokens), work_(work),
          shuffle_(settings.shuffle_seed), dead_(settings.released ? 0.5 : 0.0) {}

    void cut(const Node& node, uint64_t* second) {
        size_t lowest = node.lowest, highest = node.highest;
        if (settings_.seeds) take_seeds(lowest, highest);
        std::fill_n(second, (tokens_ + 63) / 64, 0);
        std::fill_n(work_.float_t.data(), tokens_, 0.0);
        balance_ = 0.0;
        for (size_t k = 0; k < node.count; ++k) {
            const size_t p = node.positions[k];
            const bool half = linked(highest, p) && !linked(lowest, p);
            second[p / 64] |= static_cast<uint64_t>(half) << (p % 64);
            balance_ += half ? -1.0 : 1.0;
            add_row(p, half ? -1.0 : 1.0);
        }
        for (int sweep = 0; sweep < kSweeps && sweep_once(node, second); ++sweep) {
        }
    }

  private:
    void take_seeds(size_t& lowest, size_t& highest) {
        if (used_ == settings_.seed_count)
            throw std::out_of_range("only " + std::to_string(used_) +
                                    " pairs of seeds were given, and the tree has more cuts");
        lowest = work_.rank[static_cast<size_t>(settings_.seeds[2 * used_])];
        highest = work_.rank[static_cast<size_t>(settings_.seeds[2 * used_ + 1])];
        ++used_;
    }
    bool linked(size_t p, size_t q) const {
        return p == q || (affinity_.bits[p * affinity_.bit_stride + q / 32] >> (q % 32) & 1);
    }
    void add_row(size_t p, double factor) {
        double* t = work_.float_t.data();
        const float* row = gram_ + p * tokens_;
        for (size_t k = 0; k < tokens_; ++k) t[k] += factor * static_cast<double>(row[k]);
    }
    bool sweep_once(const Node& node, uint64_t* second) {
        uint32_t* visits = work_.first_rows.data();
        for (size_t k = 0; k < node.count; ++k) visits[k] = static_cast<uint32_t>(k);
        if (settings_.shuffled) shuffle_.shuffle(visits, node.count);
        bool moved = false;
        for (size_t k = 0; k < node.count; ++k) {
            const size_t p = node.positions[visits[k]];
            const bool half = second[p / 64] >> (p % 64) & 1;
            const double t = work_.float_t[p];
            const bool back = dead_ > 0.0 ? t >= balance_ + dead_ : t > balance_;
            if (half ? !back : !(t < balance_ - dead_)) continue;
            second[p / 64] ^= uint64_t{1} << (p % 64);
            balance_ += half ? 2.0 : -2.0;
            add_row(p, half ? 2.0 : -2.0);
            moved = true;
        }
        return moved;
    }

    const FloatSettings& settings_;
    const Affinity& affinity_;
    float* gram_;
    size_t tokens_;
    Workspace& work_;
    PythonShuffle shuffle_;
    double dead_, balance_ = 0.0;
    size_t used_ = 0;
};

}  // namespace

Tree decompose_float(const Kernels& kernels, const Image& image, const Settings& settings,
                     const FloatSettings& floats, Workspace& work) {
    const size_t tokens = image.tokens();
    if (floats.shuffled) make_raster_order(tokens, work);
    else make_visiting_order(tokens, work);
    const size_t width = normalise(kernels, image, settings, work);
    mark_high_energy(tokens, settings.energy_rank, work);
    float* gram = work.float_gram.reserve(tokens * tokens);
    kernels.float_gram(work.units.data(), tokens, width, gram, tokens);
    Affinity affinity{};
    connect(gram, tokens, settings.alpha, work, affinity);
    for (size_t i = 0; i < tokens; ++i) gram[i * tokens + i] = 1.0f;
    work.float_t.reserve(tokens);
    work.first_rows.reserve(tokens);
    FloatKSums ksums(floats, affinity, gram, tokens, work);
    Hierarchy hierarchy(kernels, image, {settings.tau1, settings.smallest, settings.max_nodes, floats.released},
                        affinity, work, nullptr);
    return hierarchy.grow([&](const Node& node, uint64_t* second) { ksums.cut(node, second); });
}

}  // namespace decomposition
