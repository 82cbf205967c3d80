// The k nearest images so far, each by its nearest region.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace scan {

struct Candidate {
    float distance;
    int32_t image;
    int64_t region;
    bool operator<(const Candidate& other) const {
        if (distance != other.distance) return distance < other.distance;
        return image != other.image ? image < other.image : region < other.region;
    }
};

class BestImages {
public:
    explicit BestImages(size_t k) : k_(k) {}

    // No region of larger distance can be among the best; infinite until k images are known.
    float threshold() const { return threshold_; }

    void offer(const Candidate& candidate) {
        if (candidate.distance > threshold_) return;
        candidates_.push_back(candidate);
        if (candidates_.size() >= 2 * k_ + 64) prune();
    }

    // Leaves the best region of each image, and of these the k best, in no order.
    void prune() {
        std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
            return a.image != b.image ? a.image < b.image : a < b;
        });
        auto end = std::unique(candidates_.begin(), candidates_.end(),
                               [](const Candidate& a, const Candidate& b) { return a.image == b.image; });
        candidates_.erase(end, candidates_.end());
        if (candidates_.size() < k_) return;
        std::nth_element(candidates_.begin(), candidates_.begin() + (k_ - 1), candidates_.end());
        candidates_.resize(k_);
        threshold_ = candidates_.back().distance;
    }

    // Distance of the image of a rank, from 1 on; infinite where k images are not known.
    float distance_of(size_t rank) {
        prune();
        if (rank >= k_ || threshold_ == std::numeric_limits<float>::infinity()) return threshold_;
        std::nth_element(candidates_.begin(), candidates_.begin() + (rank - 1), candidates_.end());
        return candidates_[rank - 1].distance;
    }

    // Looks for a first threshold, without which nothing can be discarded.
    void prune_if_unbounded() {
        if (threshold_ == std::numeric_limits<float>::infinity() && candidates_.size() >= k_) prune();
    }

    // The best, nearest first.
    const std::vector<Candidate>& sorted() {
        prune();
        std::sort(candidates_.begin(), candidates_.end());
        return candidates_;
    }

    const std::vector<Candidate>& candidates() const { return candidates_; }

private:
    size_t k_;
    float threshold_ = std::numeric_limits<float>::infinity();
    std::vector<Candidate> candidates_;
};

}  // namespace scan
