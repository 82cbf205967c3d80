// The scan op without Python, for machines and sanitizers that Python cannot run under.
// Reads one case from standard input, writes the answer to standard output; little-endian, no padding.
// Case: kernel name (16 bytes), then int64: subspaces, regions, pieces, removed, allowed (-1: none), queries, k, threads;
// codes, images (int32), removed images (int32), allowed (uint8), tables (float32).
// Answer: for each query k of (int32 image, float32 distance, int64 region), -1, inf, -1 where missing;
// then the distances (float32) of all regions to the first query.
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "search.h"
#include "store.h"

namespace {

template <typename T>
std::vector<T> read_values(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    if (std::fread(values.data(), sizeof(T), values.size(), stdin) != values.size()) {
        std::fprintf(stderr, "the case is cut short\n");
        std::exit(2);
    }
    return values;
}

template <typename T>
void write_value(T value) {
    std::fwrite(&value, sizeof value, 1, stdout);
}

}  // namespace

int main(int argc, char**) {
    if (argc > 1) {
        for (const scan::Kernel* kernel : scan::usable_kernels()) std::printf("%s\n", kernel->name);
        return 0;
    }
    const std::string name(read_values<char>(16).data());
    const std::vector<int64_t> head = read_values<int64_t>(8);
    const int64_t subspaces = head[0], regions = head[1], pieces = head[2], queries = head[5], k = head[6];
    const auto codes = read_values<uint8_t>(regions * subspaces);
    const auto images = read_values<int32_t>(regions);
    const auto removed = read_values<int32_t>(head[3]);
    const auto allowed = read_values<uint8_t>(head[4] < 0 ? 0 : head[4]);
    const auto tables = read_values<float>(queries * subspaces * 256);

    scan::Store store(static_cast<size_t>(subspaces));
    for (int64_t piece = 0; piece < pieces; ++piece) {
        const int64_t start = regions * piece / pieces, stop = regions * (piece + 1) / pieces;
        store.append(codes.data() + start * subspaces, images.data() + start, static_cast<size_t>(stop - start));
    }
    store.remove(removed.data(), removed.size());
    const scan::Request request{tables.data(), static_cast<size_t>(queries), static_cast<size_t>(k),
                                head[4] < 0 ? nullptr : allowed.data(), allowed.size(), static_cast<int>(head[7])};
    for (const auto& found : scan::search(store, scan::kernel_named(name), request))
        for (size_t i = 0; i < static_cast<size_t>(k); ++i) {
            const bool there = i < found.size();
            write_value<int32_t>(there ? found[i].image : -1);
            write_value<float>(there ? found[i].distance : std::numeric_limits<float>::infinity());
            write_value<int64_t>(there ? found[i].region : -1);
        }
    std::vector<float> distances(static_cast<size_t>(regions));
    store.distances(tables.data(), 0, distances.size(), distances.data());
    for (float distance : distances) write_value(distance);
    return 0;
}
