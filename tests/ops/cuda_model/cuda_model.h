// CUDA's execution model played on the CPU, so that the kernels that ship run in tests on a machine without a GPU.
//
// One fibre a thread, one block after the other. A fibre runs until it meets a barrier or a warp operation and goes on
// once all threads that must meet it have. Threads are resumed in ascending, descending or shuffled order: what depends
// on an order that CUDA does not promise gives another answer in one of them. A barrier that some thread never reaches
// ends the run with a message, and so do threads that meet at different barriers or warp operations. Dynamic shared
// memory holds garbage when a block begins, and guard bytes behind it are checked when it ends. Built with
// CUDA_MODEL_RACES, every access of a kernel to memory goes through races.cc, which tells two that no barrier parts.
//
// What this cannot show: real concurrency, memory ordering, tensor cores, asynchronous copies. It is no GPU.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(CUDA_MODEL_RACES)
#include "races.h"
#endif

#define __device__
#define __forceinline__ inline
#if defined(CUDA_MODEL_ARCH)
#define __CUDA_ARCH__ CUDA_MODEL_ARCH
#endif

struct uint3 {
    unsigned x, y, z;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

namespace cuda_model {

enum class Order { ascending, descending, shuffled };
enum class Waits { nothing, block, warp };

struct Fibre {
    void* stack_pointer = nullptr;
    std::unique_ptr<char[]> stack;
    uint3 index{};
    Waits waits = Waits::nothing;
    bool done = false;
    unsigned warp_turn = 0, block_turn = 0, warp_barriers = 0;
#if !defined(__x86_64__)
    ucontext_t context;
#endif
};

struct Warp {
    uint64_t values[2][32];
    unsigned arrived[2] = {0, 0}, lines[2] = {0, 0};
};

struct Block {
    std::vector<Fibre> fibres;
    std::vector<Warp> warps;
    std::vector<char> shared;
    unsigned waiting = 0, line = 0, number = 0;
    int any[2] = {0, 0};
    std::function<void()> body;
    Fibre* current = nullptr;
    Fibre scheduler;
    uint3 block{}, grid{}, threads{};
};

inline thread_local Block* running = nullptr;

constexpr size_t kStack = 64 * 1024, kGuard = 64;

[[noreturn]] inline void fail(const char* what) {
    fprintf(stderr, "cuda_model: %s (block %u,%u)\n", what, running->block.x, running->block.y);
    fflush(stderr);
    _exit(70);
}

#if defined(__x86_64__)
extern "C" void cuda_model_switch(void** from, void* to);
asm(R"(
.text
.weak cuda_model_switch
.type cuda_model_switch, @function
cuda_model_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size cuda_model_switch, .-cuda_model_switch
)");
#endif

inline void switch_to(Fibre& from, Fibre& to) {
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(from.done ? nullptr : &fake, to.stack ? to.stack.get() : nullptr, to.stack ? kStack : 0);
#endif
#if defined(__x86_64__)
    cuda_model_switch(&from.stack_pointer, to.stack_pointer);
#else
    swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

// What races.cc is told of the thread that goes on; nothing is looked at while none does.
inline void tell_races(const Block& block, const Fibre* fibre) {
#if defined(CUDA_MODEL_RACES)
    cuda_model_race = {block.number, fibre ? fibre->index.x : kNoThread, fibre ? fibre->block_turn : 0,
                       fibre ? fibre->warp_barriers : 0, 0};
#else
    (void)block, (void)fibre;
#endif
}

inline void enter() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    Block& block = *running;
    tell_races(block, block.current);
    block.body();
    tell_races(block, nullptr);
    block.current->done = true;
    switch_to(*block.current, block.scheduler);
}

inline void prepare(Fibre& fibre) {
    if (!fibre.stack) fibre.stack.reset(new char[kStack]);
    fibre.waits = Waits::nothing;
    fibre.done = false;
    fibre.warp_turn = fibre.block_turn = fibre.warp_barriers = 0;
#if defined(__x86_64__)
    uintptr_t top = (reinterpret_cast<uintptr_t>(fibre.stack.get()) + kStack) & ~uintptr_t{15};
    void** place = reinterpret_cast<void**>(top) - 2;
    place[0] = reinterpret_cast<void*>(&enter);  // returned to by the first switch, the stack as after a call
    place[1] = nullptr;
    for (int i = 0; i < 6; ++i) *--place = nullptr;
    fibre.stack_pointer = place;
#else
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = kStack;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, &enter, 0);
#endif
}

inline void yield() {
    Block& block = *running;
    Fibre& self = *block.current;
    tell_races(block, nullptr);
    switch_to(self, block.scheduler);
    tell_races(block, &self);
}

// Meets all threads of the block; true where any of them said so. line: of the source, the same for all of them.
inline int meet_block(int predicate, unsigned line) {
    Block& block = *running;
    Fibre& self = *block.current;
    const unsigned turn = self.block_turn++ & 1;
    if (block.waiting && block.line != line) fail("threads of a block meet at different barriers");
    block.line = line;
    block.any[turn] |= predicate;
    self.waits = Waits::block;
    if (++block.waiting == block.fibres.size()) {
        block.waiting = 0;
        block.any[turn ^ 1] = 0;
        for (Fibre& fibre : block.fibres) fibre.waits = Waits::nothing;
    }
    yield();
    return block.any[turn];
}

// Meets the other lanes of the warp, each bringing a value; the values of all. line: as of meet_block.
inline const uint64_t* meet_warp(unsigned mask, uint64_t value, unsigned line) {
    Block& block = *running;
    if (mask != 0xFFFFFFFFu) fail("a warp operation without all lanes");
    Fibre& self = *block.current;
    const unsigned number = self.index.x, first = number / 32 * 32;
    Warp& warp = block.warps[number / 32];
    const unsigned turn = self.warp_turn++ & 1;
    warp.values[turn][number % 32] = value;
    if (warp.arrived[turn] && warp.lines[turn] != line) fail("lanes of a warp meet at different operations");
    warp.lines[turn] = line;
    self.waits = Waits::warp;
    if (++warp.arrived[turn] == 32) {
        warp.arrived[turn] = 0;
        for (unsigned lane = 0; lane < 32; ++lane) block.fibres[first + lane].waits = Waits::nothing;
    }
    while (self.waits == Waits::warp) yield();
    return warp.values[turn];
}

inline void run_block(Block& block, Order order, std::mt19937& generator) {
    const size_t count = block.fibres.size();
    std::vector<size_t> turns(count);
    for (size_t i = 0; i < count; ++i) turns[i] = order == Order::descending ? count - 1 - i : i;
    block.waiting = 0;
    ++block.number;
    block.any[0] = block.any[1] = 0;
    for (Warp& warp : block.warps) warp.arrived[0] = warp.arrived[1] = 0;
    for (Fibre& fibre : block.fibres) prepare(fibre);
    memset(block.shared.data(), 0xA5, block.shared.size());
    for (size_t left = count; left;) {
        if (order == Order::shuffled) std::shuffle(turns.begin(), turns.end(), generator);
        bool ran = false;
        for (const size_t i : turns) {
            Fibre& fibre = block.fibres[i];
            if (fibre.done || fibre.waits != Waits::nothing) continue;
            ran = true;
            block.current = &fibre;
            switch_to(block.scheduler, fibre);
            left -= fibre.done;
        }
        if (!ran) fail("threads wait at a barrier that others never reach");
    }
    for (size_t i = block.shared.size() - kGuard; i < block.shared.size(); ++i)
        if (block.shared[i] != static_cast<char>(0xA5)) fail("a write behind the shared memory");
}

inline void launch(const std::function<void()>& body, const unsigned* grid, unsigned threads, unsigned shared,
                   int order, unsigned seed) {
    Block block;
    running = &block;
    if (threads % 32) fail("a block that is no whole number of warps");
    block.fibres.resize(threads);
    block.warps.resize(threads / 32);
    block.shared.resize(shared + kGuard);
#if defined(CUDA_MODEL_RACES)
    cuda_model_new_launch(block.shared.data(), shared);
#endif
    block.body = body;
    block.grid = {grid[0], grid[1], grid[2]};
    block.threads = {threads, 1, 1};
    for (unsigned i = 0; i < threads; ++i) block.fibres[i].index = {i, 0, 0};
    std::mt19937 generator(seed);
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                block.block = {x, y, z};
                run_block(block, static_cast<Order>(order), generator);
            }
    running = nullptr;
}

template <typename T>
uint64_t bits_of(T value) {
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}
template <typename T>
T from_bits(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline unsigned lane() { return running->current->index.x % 32; }

}  // namespace cuda_model

#define threadIdx (cuda_model::running->current->index)
#define blockIdx (cuda_model::running->block)
#define gridDim (cuda_model::running->grid)
#define blockDim (cuda_model::running->threads)

// NAME_needs: bytes of the arguments, and the threads that it is compiled for.
#define KERNEL(threads, blocks, name, Arguments)                                                                 \
    static void name##_body(const Arguments& args);                                                              \
    extern "C" const unsigned name##_needs[2] = {sizeof(Arguments), threads};                                    \
    extern "C" void name(const void* args, const unsigned* grid, unsigned count, unsigned shared, int order,     \
                         unsigned seed) {                                                                        \
        Arguments copy;                                                                                          \
        memcpy(&copy, args, sizeof copy);                                                                        \
        cuda_model::launch([&copy] { name##_body(copy); }, grid, count, shared, order, seed);                    \
    }                                                                                                            \
    static void name##_body(const Arguments& args)
#define DYNAMIC_SHARED(pointer) \
    char* pointer = \
        reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(cuda_model::running->shared.data()) + 15) & ~uintptr_t{15})

inline void __syncthreads(unsigned line = __builtin_LINE()) { cuda_model::meet_block(0, line); }
inline int __syncthreads_or(int predicate, unsigned line = __builtin_LINE()) {
    return cuda_model::meet_block(predicate, line);
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, unsigned line = __builtin_LINE()) {
    cuda_model::meet_warp(mask, 0, line);
    ++cuda_model::running->current->warp_barriers;
    cuda_model::tell_races(*cuda_model::running, cuda_model::running->current);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, unsigned line = __builtin_LINE()) {
    const uint64_t* values = cuda_model::meet_warp(mask, predicate != 0, line);
    unsigned word = 0;
    for (unsigned lane = 0; lane < 32; ++lane) word |= static_cast<unsigned>(values[lane]) << lane;
    return word;
}
inline int __any_sync(unsigned mask, int predicate, unsigned line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, line) != 0;
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int from, unsigned line = __builtin_LINE()) {
    return cuda_model::from_bits<T>(cuda_model::meet_warp(mask, cuda_model::bits_of(value), line)[from & 31]);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int step, unsigned line = __builtin_LINE()) {
    const unsigned own = cuda_model::lane();
    return cuda_model::from_bits<T>(cuda_model::meet_warp(mask, cuda_model::bits_of(value), line)[own ^ step]);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, int step, unsigned line = __builtin_LINE()) {
    const unsigned own = cuda_model::lane(), from = own + step < 32 ? own + step : own;
    return cuda_model::from_bits<T>(cuda_model::meet_warp(mask, cuda_model::bits_of(value), line)[from]);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int step, unsigned line = __builtin_LINE()) {
    const unsigned own = cuda_model::lane(), from = own >= static_cast<unsigned>(step) ? own - step : own;
    return cuda_model::from_bits<T>(cuda_model::meet_warp(mask, cuda_model::bits_of(value), line)[from]);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, unsigned line = __builtin_LINE()) {
    const uint64_t* values = cuda_model::meet_warp(mask, value, line);
    return static_cast<unsigned>(*std::min_element(values, values + 32));
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value, unsigned line = __builtin_LINE()) {
    const uint64_t* values = cuda_model::meet_warp(mask, value, line);
    unsigned sum = 0;
    for (int lane = 0; lane < 32; ++lane) sum += static_cast<unsigned>(values[lane]);
    return sum;
}

template <typename T, typename Change>
T cuda_model_atomic(T* place, Change change) {
#if defined(CUDA_MODEL_RACES)
    cuda_model_race.atomic = 1;
#endif
    const T before = *place;
    *place = change(before);
#if defined(CUDA_MODEL_RACES)
    cuda_model_race.atomic = 0;
#endif
    return before;
}
template <typename T>
T atomicAdd(T* place, T value) { return cuda_model_atomic(place, [=](T x) { return static_cast<T>(x + value); }); }
template <typename T>
T atomicOr(T* place, T value) { return cuda_model_atomic(place, [=](T x) { return static_cast<T>(x | value); }); }
template <typename T>
T atomicMin(T* place, T value) { return cuda_model_atomic(place, [=](T x) { return std::min(x, value); }); }
template <typename T>
T atomicMax(T* place, T value) { return cuda_model_atomic(place, [=](T x) { return std::max(x, value); }); }
template <typename T>
T atomicExch(T* place, T value) { return cuda_model_atomic(place, [=](T) { return value; }); }
template <typename T>
T atomicCAS(T* place, T expected, T value) {
    return cuda_model_atomic(place, [=](T x) { return x == expected ? value : x; });
}
inline void __threadfence() {}

// Compiled without contraction (-ffp-contract=off), so plain operators round each by itself.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline int __float2int_rn(float a) { return static_cast<int>(nearbyintf(a)); }
inline float __int_as_float(int a) { return cuda_model::from_bits<float>(cuda_model::bits_of(a)); }
inline int __float_as_int(float a) { return cuda_model::from_bits<int>(cuda_model::bits_of(a)); }
inline float __uint_as_float(unsigned a) { return cuda_model::from_bits<float>(cuda_model::bits_of(a)); }
inline unsigned __float_as_uint(float a) { return cuda_model::from_bits<unsigned>(cuda_model::bits_of(a)); }
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __clz(int a) { return a ? __builtin_clz(static_cast<unsigned>(a)) : 32; }
inline int __clzll(long long a) { return a ? __builtin_clzll(static_cast<unsigned long long>(a)) : 64; }
template <typename T>
T __ldg(const T* place) { return *place; }
inline int __dp4a(int a, int b, int sum) {
    for (int i = 0; i < 32; i += 8) sum += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
    return sum;
}
using std::isfinite;
using std::max;
using std::min;
