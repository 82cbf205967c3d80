#include "search.h"

#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>

#if defined(_MSC_VER)
#include <intrin.h>
#endif

#include "byte_table.h"

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
constexpr size_t kMostBlocks = 8;        // of a tile
constexpr size_t kDenseShare = 5;         // more survivors than one in so many: scoring all of the next tile is faster
constexpr int kDenseTiles = 4;           // so many of them, before the pre-scan is tried again
constexpr size_t kVagueShare = 64;       // all but one word in so many with survivors: scanning by group does not pay
constexpr int kLeastWait = 2, kMostWait = 256;  // tiles without it then, and when that happens again and again
constexpr size_t kThreadWork = 1 << 18;  // look-ups that are worth a thread

size_t lowest_bit(uint64_t mask) {
#if defined(_MSC_VER)
    unsigned long index;
    _BitScanForward64(&index, mask);
    return index;
#else
    return static_cast<size_t>(__builtin_ctzll(mask));
#endif
}

float lowered(std::atomic<float>& shared, float value) {
    float known = shared.load(std::memory_order_relaxed);
    while (value < known && !shared.compare_exchange_weak(known, value, std::memory_order_relaxed)) {
    }
    return std::min(value, known);
}

// One query in one thread.
class QueryScan {
public:
    QueryScan(const Store& store, const Kernel& kernel, const Request& request, size_t query,
              std::atomic<float>& shared)
        : store_(store), kernel_(kernel), request_(request), shared_(shared), best(request.k),
          table_(request.tables + query * store.subspaces() * kCodewords), bytes_(table_, store.subspaces()) {}

    // Whether the next tile can be pre-scanned; sets the byte table for it.
    bool prepare() {
        const float threshold = lowered(shared_, best.threshold());
        if (dense_ || threshold == std::numeric_limits<float>::infinity()) return false;
        if (threshold < quantised_) bytes_.quantise(quantised_ = threshold);
        if (wait_) --wait_;
        return true;
    }

    // Whether the next tile is pre-scanned by group.
    bool by_group() const { return kernel_.grouped && !wait_; }
    const uint8_t* bytes() const { return by_group() ? bytes_.group_bytes() : bytes_.bytes(); }

    // masks: of a pre-scan as by_group() says; where groups tell too little, they are made anew without.
    void score_survivors(uint64_t* masks, const uint8_t* codes, size_t first, size_t blocks) {
        size_t words[kMostBlocks * kWords];
        size_t count = words_with_survivors(masks, blocks, words);
        if (by_group()) {
            const bool vague = count * kVagueShare > blocks * kWords * (kVagueShare - 1);
            wait_ = vague ? next_wait_ : 0;
            next_wait_ = vague ? std::min(2 * next_wait_, kMostWait) : kLeastWait;
            if (vague) {
                const uint8_t* table = bytes_.bytes();
                kernel_.prescan(codes, blocks, store_.subspaces(), &table, 1, &masks);
                count = words_with_survivors(masks, blocks, words);
            }
        }
        size_t survivors = 0;
        for (size_t i = 0; i < count; ++i) {
            const size_t w = words[i];
            uint64_t mask = masks[w] & store_.live_mask(first * kWords + w);
            const size_t block = w / kWords, lane = w % kWords * kWord;
            for (; mask; mask &= mask - 1, ++survivors)
                score(codes + block * store_.subspaces() * kBlock, first + block, lane + lowest_bit(mask));
        }
        dense_ = survivors > blocks * kBlock / kDenseShare ? kDenseTiles : 0;
    }

    // Scores every region of the rows, an image at a time.
    void score_all(size_t start, size_t stop) {
        if (dense_) --dense_;
        for (size_t run = store_.run_of(start); start < stop; ++run) {
            const size_t end = std::min(stop, store_.run_stop(run));
            if (store_.run_live(run) && allowed(store_.run_image(run))) score_run(store_.run_image(run), start, end);
            start = end;
        }
    }

private:
    // Gathered first, so that no branch has to be guessed: most words have none.
    static size_t words_with_survivors(const uint64_t* masks, size_t blocks, size_t* words) {
        size_t count = 0;
        for (size_t w = 0; w < blocks * kWords; ++w) {
            words[count] = w;
            count += masks[w] != 0;
        }
        return count;
    }

    bool allowed(int32_t image) const {
        return !request_.allowed ||
               (static_cast<size_t>(image) < request_.allowed_count && request_.allowed[image]);
    }

    void score(const uint8_t* codes, size_t block, size_t lane) {
        float sum = 0.0f;
        for (size_t m = 0; m < store_.subspaces(); ++m) sum += table_[m * kCodewords + codes[m * kBlock + lane]];
        if (sum > best.threshold()) return;
        const size_t row = block * kBlock + lane;
        const int32_t image = store_.run_image(store_.run_of(row));
        if (allowed(image)) best.offer({sum, image, static_cast<int64_t>(row)});
    }

    void score_run(int32_t image, size_t start, size_t stop) {
        distances_.resize(stop - start);
        store_.distances(table_, start, stop, distances_.data());
        size_t nearest = 0;
        for (size_t i = 1; i < distances_.size(); ++i)
            if (distances_[i] < distances_[nearest]) nearest = i;
        best.offer({distances_[nearest], image, static_cast<int64_t>(start + nearest)});
    }

    const Store& store_;
    const Kernel& kernel_;
    const Request& request_;
    std::atomic<float>& shared_;  // least threshold of any thread for this query

public:
    BestImages best;

private:
    const float* table_;
    ByteTable bytes_;
    float quantised_ = std::numeric_limits<float>::infinity();
    int dense_ = 0;  // tiles to score in full before the next pre-scan
    int wait_ = 0, next_wait_ = kLeastWait;  // tiles to pre-scan without groups: from now on, and the next time
    std::vector<float> distances_;
};

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

void scan_tile(const Store& store, const Kernel& kernel, const uint8_t* codes, size_t first, size_t blocks,
               QueryScans& queries) {
    Pair pairs[2] = {{kernel.prescan}, {kernel.grouped}};
    for (auto& query : queries) {
        if (!query->prepare()) {
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
    for (QueryScans& part : scans)
        for (size_t q = 0; q < request.queries; ++q)
            part.emplace_back(new QueryScan(store, kernel, request, q, shared[q]));
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
