#include "search.h"

#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>

#include "query_scan.h"

namespace scan {

std::vector<const Kernel*> usable_kernels() {
    std::vector<const Kernel*> usable;
#if defined(SCAN_X86)
    if (__builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bw")) usable.push_back(&kAvx512);
    if (__builtin_cpu_supports("avx2")) usable.push_back(&kAvx2);
#endif
#if defined(__aarch64__)
    usable.push_back(&kNeon);
#endif
    usable.push_back(&kScalar);
    return usable;
}

const Kernel& kernel_named(const std::string& name) {
    for (const Kernel* kernel : usable_kernels())
        if (name == "auto" || name == kernel->name) return *kernel;
    throw std::invalid_argument("this machine cannot run the scan kernel \"" + name + "\"");
}

namespace {

constexpr size_t kTileBytes = 1 << 15;   // codes between two looks at the threshold; they stay in the first-level cache
constexpr size_t kThreadWork = 1 << 18;  // look-ups that are worth a thread

using QueryScans = std::vector<std::unique_ptr<QueryScan>>;

// Queries go in pairs over a tile, while its codes are in the cache; pairs are of queries pre-scanned alike.
struct Pair {
    Prescan prescan;
    size_t waiting = 0;
    QueryScan* queries[2] = {};
    const uint8_t* tables[2] = {};

    void flush(const Store& store, const uint8_t* codes, size_t first, size_t blocks) {
        if (!waiting) return;
        uint64_t masks[2][kMostBlocks * kWords];
        uint64_t* const mask_rows[2] = {masks[0], masks[1]};
        prescan(codes, blocks, store.subspaces(), tables, waiting, mask_rows);
        for (size_t q = 0; q < waiting; ++q) queries[q]->score_survivors(masks[q], codes, first, blocks);
        waiting = 0;
    }
};

// Tiles that were pre-scanned with less than the threshold turned out to be.
void scan_missed(const Store& store, const Kernel& kernel, QueryScan& query) {
    for (const Tile& tile : query.missed()) {
        const uint8_t* codes = store.block(tile.first);
        if (!query.prepare_again()) {
            query.score_all(tile.first * kBlock, std::min(store.rows(), (tile.first + tile.count) * kBlock));
            continue;
        }
        Pair alone = {query.by_group() ? kernel.grouped : kernel.prescan, 1, {&query}, {query.bytes()}};
        alone.flush(store, codes, tile.first, tile.count);
    }
}

void scan_tile(const Store& store, const Kernel& kernel, const uint8_t* codes, size_t first, size_t blocks,
               QueryScans& queries) {
    Pair pairs[2] = {{kernel.prescan}, {kernel.grouped}};
    for (auto& query : queries) {
        if (!query->prepare(first, blocks)) {
            query->score_all(first * kBlock, std::min(store.rows(), (first + blocks) * kBlock));
            query->best.prune_if_unbounded();
            continue;
        }
        Pair& pair = pairs[query->by_group()];
        pair.queries[pair.waiting] = query.get();
        pair.tables[pair.waiting++] = query->bytes();
        if (pair.waiting == 2) pair.flush(store, codes, first, blocks);
    }
    for (Pair& pair : pairs) pair.flush(store, codes, first, blocks);
}

void scan_blocks(const Store& store, const Kernel& kernel, size_t start, size_t stop, QueryScans& queries) {
    const size_t tile = std::clamp<size_t>(kTileBytes / (kBlock * store.subspaces()), 1, kMostBlocks);
    while (start < stop) {
        size_t left;
        const uint8_t* codes = store.block(start, &left);
        const size_t blocks = std::min({tile, left, stop - start});
        scan_tile(store, kernel, codes, start, blocks, queries);
        start += blocks;
    }
    for (auto& query : queries) scan_missed(store, kernel, *query);
}

}  // namespace

std::vector<std::vector<Candidate>> search(const Store& store, const Kernel& kernel, const Request& request) {
    const size_t blocks = store.blocks();
    const size_t work = store.rows() * store.subspaces() * request.queries / kThreadWork;
    const size_t parts = std::max<size_t>(1, std::min<size_t>({static_cast<size_t>(std::max(1, request.threads)),
                                                              work, blocks / kMostBlocks}));
    std::unique_ptr<std::atomic<float>[]> shared(new std::atomic<float>[request.queries]);
    std::vector<QueryScans> scans(parts);
    for (size_t q = 0; q < request.queries; ++q) shared[q] = std::numeric_limits<float>::infinity();
    for (size_t part = 0; part < parts; ++part)
        for (size_t q = 0; q < request.queries; ++q)
            scans[part].emplace_back(new QueryScan(store, kernel, request, q, blocks * part / parts, shared[q]));
    std::vector<std::thread> others;
    for (size_t part = 1; part < parts; ++part)
        others.emplace_back([&, part] {
            scan_blocks(store, kernel, blocks * part / parts, blocks * (part + 1) / parts, scans[part]);
        });
    scan_blocks(store, kernel, 0, blocks / parts, scans[0]);
    for (std::thread& other : others) other.join();

    std::vector<std::vector<Candidate>> found(request.queries);
    for (size_t q = 0; q < request.queries; ++q) {
        for (size_t part = 1; part < parts; ++part)
            for (const Candidate& candidate : scans[part][q]->best.candidates()) scans[0][q]->best.offer(candidate);
        found[q] = scans[0][q]->best.sorted();
    }
    return found;
}

}  // namespace scan
