// Many images over threads, and workspaces kept from call to call.
#include "batch.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace decomposition {

namespace {

constexpr size_t kKeptBytes = size_t{64} << 20;  // a larger workspace is freed with its image

struct Shelf {
    std::mutex mutex;
    std::vector<WorkspacePointer> spare;
};

Shelf& shelf() {
    static Shelf* kept = new Shelf;  // never destroyed: threads may still return workspaces while the process ends
    return *kept;
}

struct alignas(128) Progress {  // a cache line of its own
    std::atomic<size_t> next{0};
};

}  // namespace

LentWorkspace::LentWorkspace() {
    {
        const std::lock_guard<std::mutex> lock(shelf().mutex);
        if (!shelf().spare.empty()) {
            workspace_ = std::move(shelf().spare.back());
            shelf().spare.pop_back();
        }
    }
    if (!workspace_) workspace_ = new_workspace();
}

LentWorkspace::~LentWorkspace() {
    if (workspace_bytes(*workspace_) > kKeptBytes) return;
    const std::lock_guard<std::mutex> lock(shelf().mutex);
    shelf().spare.push_back(std::move(workspace_));
}

std::vector<Tree> decompose_batch(const Kernels& kernels, const std::vector<Image>& images, const Settings& settings,
                                  size_t threads) {
    std::vector<Tree> trees(images.size());
    std::exception_ptr failure;
    std::mutex failing;
    Progress progress;
    const auto work = [&] {
        try {
            const LentWorkspace workspace;
            for (size_t i; (i = progress.next.fetch_add(1, std::memory_order_relaxed)) < images.size();)
                trees[i] = decompose(kernels, images[i], settings, *workspace);
        } catch (...) {
            progress.next.store(images.size());
            const std::lock_guard<std::mutex> lock(failing);
            if (!failure) failure = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    for (size_t k = 1; k < threads && k < images.size(); ++k) others.emplace_back(work);
    work();
    for (std::thread& thread : others) thread.join();
    if (failure) std::rethrow_exception(failure);
    return trees;
}

}  // namespace decomposition
