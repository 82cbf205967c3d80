// Exact search for the nearest images: pre-scan in bytes, exact distances for what survives.
#pragma once
#include <string>
#include <vector>

#include "best_images.h"
#include "kernel.h"
#include "store.h"

namespace scan {

// Kernels this machine can run, best first.
std::vector<const Kernel*> usable_kernels();
// The kernel of that name; "auto" is the best. Throws std::invalid_argument.
const Kernel& kernel_named(const std::string& name);

struct Request {
    const float* tables;         // (queries, subspaces, 256) float32, finite
    size_t queries, k;           // k >= 1
    const uint8_t* allowed;      // (allowed_count,) 0 or 1 for each image index, or null for all
    size_t allowed_count;
    int threads;
};

// For each query the k nearest images, nearest first; fewer where there are fewer.
std::vector<std::vector<Candidate>> search(const Store& store, const Kernel& kernel, const Request& request);

}  // namespace scan
