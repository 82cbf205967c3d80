// Tells two accesses to the same byte that no barrier parts, as compute-sanitizer's racecheck does for shared memory on
// a GPU, and here for global memory too. The kernels are compiled with -fsanitize=thread, which turns every access into
// a call; these are the calls, in place of ThreadSanitizer's own. Shuffles and ballots are no barriers for memory.
#include "races.h"

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

RaceState cuda_model_race{0, kNoThread, 0, 0, 0};

namespace {

constexpr uint32_t kMany = kNoThread - 1;  // several threads, or threads of several warps
constexpr uintptr_t kPage = 4096;

// Who did it last, and when. thread: kNoThread for nobody yet.
struct Access {
    uint32_t block = 0, thread = kNoThread, warp = 0, barriers = 0, warp_barriers = 0;
    bool atomic = false;
};
struct Cell {
    Access write, read;
};
using Page = std::vector<Cell>;

std::unordered_map<uintptr_t, Page> pages;
std::vector<std::pair<uintptr_t, uintptr_t>> ranges;
uintptr_t shared_start, shared_stop, last_number;
Page* last_page;

bool watched(uintptr_t at) {
    if (at >= shared_start && at < shared_stop) return true;
    for (const auto& [start, stop] : ranges)
        if (at >= start && at < stop) return true;
    return false;
}

Cell& cell_of(uintptr_t at) {
    if (!last_page || at / kPage != last_number) {
        last_number = at / kPage;
        last_page = &pages[last_number];
        if (last_page->empty()) last_page->resize(kPage);
    }
    return (*last_page)[at % kPage];
}

// Whether nothing makes this thread's access come after the other.
bool apart(const Access& before, const Access& now, bool shared) {
    if (before.thread == kNoThread || (before.block == now.block && before.thread == now.thread)) return false;
    if (before.atomic && now.atomic) return false;
    if (before.block != now.block) return !shared;  // each block has shared memory of its own
    if (before.barriers != now.barriers) return false;
    return before.warp != now.warp || before.warp_barriers == now.warp_barriers;
}

[[noreturn]] void tell(const char* what, uintptr_t at, const Access& before, const Access& now, const void* caller) {
    Dl_info info{};
    dladdr(caller, &info);
    const bool shared = at >= shared_start && at < shared_stop;
    fprintf(stderr, "cuda_model: a race, %s by thread %u of block %u after thread %u of block %u, %s memory at %zu (+0x%zx)\n",
            what, now.thread, now.block, before.thread, before.block, shared ? "shared" : "global",
            static_cast<size_t>(shared ? at - shared_start : at),
            static_cast<size_t>(static_cast<const char*>(caller) - static_cast<const char*>(info.dli_fbase)));
    fflush(stderr);
    _exit(71);
}

void look(const void* place, size_t size, bool writes, const void* caller) {
    const RaceState& state = cuda_model_race;
    const uintptr_t first = reinterpret_cast<uintptr_t>(place);
    if (state.thread == kNoThread || !watched(first)) return;
    const Access now{state.block, state.thread, state.thread / 32, state.barriers, state.warp_barriers, state.atomic != 0};
    const bool shared = first >= shared_start && first < shared_stop;
    for (uintptr_t at = first; at < first + size; ++at) {
        Cell& cell = cell_of(at);
        if (apart(cell.write, now, shared)) tell(writes ? "a write" : "a read", at, cell.write, now, caller);
        if (writes) {
            if (apart(cell.read, now, shared)) tell("a write", at, cell.read, now, caller);
            cell.write = now;
            continue;
        }
        Access& read = cell.read;
        const bool same_time = read.thread != kNoThread && read.block == now.block && read.barriers == now.barriers &&
                               read.atomic == now.atomic;
        if (read.thread != kNoThread && read.block != now.block && !shared) {
            read.block = read.thread = read.warp = kMany;  // of several blocks: whoever writes is apart from one
        } else if (same_time && read.thread != now.thread) {
            read.thread = kMany;
            if (read.warp != now.warp) read.warp = kMany;
            if (now.warp_barriers > read.warp_barriers) read.warp_barriers = now.warp_barriers;
        } else if (!same_time || read.warp_barriers != now.warp_barriers) {
            read = now;
        }
    }
}

}  // namespace

extern "C" {

void cuda_model_new_launch(const void* shared, size_t size) {
    pages.clear();
    last_page = nullptr;
    shared_start = reinterpret_cast<uintptr_t>(shared);
    shared_stop = shared_start + size;
}

// Device memory to watch: starts and ends, one after the other.
void cuda_model_watch(const uintptr_t* bounds, size_t count) {
    ranges.clear();
    for (size_t i = 0; i < count; ++i) ranges.emplace_back(bounds[2 * i], bounds[2 * i + 1]);
}

#define ACCESS(size)                                                                                       \
    void __tsan_read##size(void* at) { look(at, size, false, __builtin_return_address(0)); }               \
    void __tsan_write##size(void* at) { look(at, size, true, __builtin_return_address(0)); }               \
    void __tsan_unaligned_read##size(void* at) { look(at, size, false, __builtin_return_address(0)); }     \
    void __tsan_unaligned_write##size(void* at) { look(at, size, true, __builtin_return_address(0)); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void* at, unsigned long size) { look(at, size, false, __builtin_return_address(0)); }
void __tsan_write_range(void* at, unsigned long size) { look(at, size, true, __builtin_return_address(0)); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
