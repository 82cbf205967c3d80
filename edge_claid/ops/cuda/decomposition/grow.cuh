// The hierarchy: one block an image goes through its nodes breadth first, cuts each in two and appends the connected
// components of the halves (grow_tree of edge_claid/ops/reference/bisection.py). Nothing goes back to the host.
#pragma once
#include "components.cuh"

// Reads of a thread that are under way together. Written out where a loop also stores: the compiler cannot know that the
// store is no later read's, and would wait for each.
constexpr int kAhead = 4;

// Turns the mask of a node into the list of its positions, in visiting order. Returns their number.
__device__ __forceinline__ int list_node(const Decomposition& args, const uint32_t* mask, const Room& room) {
    for (int p = threadIdx.x; p < args.padded; p += kThreads) {
        const int token = p < args.tokens ? args.order[p] : 0;
        const bool member = p < args.tokens && (mask[token / 32] >> (token % 32) & 1);
        const uint32_t word = __ballot_sync(FULL_WARP, member);
        if (threadIdx.x % 32 == 0) room.members[p / 32] = word;
    }
    __syncthreads();
    if (threadIdx.x < 32) {  // where each word's positions begin in the list
        int total = 0;
        for (int start = 0; start < args.words; start += 32) {
            const int w = start + threadIdx.x;
            const int own = w < args.words ? __popc(room.members[w]) : 0;
            int before = own;
            for (int step = 1; step < 32; step *= 2) {
                const int other = __shfl_up_sync(FULL_WARP, before, step);
                if ((int)threadIdx.x >= step) before += other;
            }
            if (w < args.words) room.firsts[w] = (uint16_t)(total + before - own);
            total += __shfl_sync(FULL_WARP, before, 31);
        }
        if (threadIdx.x == 0) room.shared->count = total;
    }
    __syncthreads();
    for (int p = threadIdx.x; p < args.tokens; p += kThreads) {
        const uint32_t word = room.members[p / 32], bit = 1u << (p % 32);
        if (word & bit) room.list[room.firsts[p / 32] + __popc(word & (bit - 1))] = (uint16_t)p;
    }
    __syncthreads();
    return room.shared->count;
}

// Connections inside the node: their number, and the places in the list of the fewest and the most, the first of equals.
__device__ __forceinline__ void measure_degrees(const Decomposition& args, int count, const Room& room) {
    const int lane = threadIdx.x % 32;
    uint32_t total = 0, lowest = ~0u, highest = ~0u;
    const uint32_t* bits = args.bits + (int64_t)blockIdx.x * args.padded * args.words;
    for (int first = threadIdx.x / 32; first < count; first += kAhead * kThreads / 32) {
        uint32_t own[kAhead] = {};
#pragma unroll 1
        for (int w = lane; w < args.words; w += 32) {
#pragma unroll
            for (int i = 0; i < kAhead; ++i) {
                const int j = first + i * kThreads / 32;
                const uint32_t word = j < count ? bits[(int64_t)room.list[j] * args.words + w] : 0;
                own[i] += __popc(word & room.members[w]);
            }
        }
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
            const int j = first + i * kThreads / 32;
            const uint32_t degree = warp_sum(own[i]);
            if (j >= count) continue;
            // At most 16384 tokens: a degree and a place fit into one word that orders by both.
            const uint32_t low = degree << 14 | j, high = (16383u - degree) << 14 | j;
            total += degree;
            lowest = low < lowest ? low : lowest;
            highest = high < highest ? high : highest;
        }
    }
    if (lane == 0) {
        atomicAdd(&room.shared->degrees, total);
        atomicMin(&room.shared->lowest, lowest);
        atomicMin(&room.shared->highest, highest);
    }
    __syncthreads();
}

__device__ __forceinline__ bool is_cut(const Decomposition& args, int row, int count, uint32_t edges) {
    if (row == 0) return count >= (args.smallest > 2 ? args.smallest : 2);
    const double n = (double)count;
    return count > 1 && 2.0 * (double)edges < __dmul_rn(args.tau1, __dmul_rn(n, n - 1.0));
}

// Half 1 starts as the neighbours of the best connected token that are not neighbours of the least connected one, each
// token taken as a neighbour of itself. Returns n0 - n1.
__device__ __forceinline__ int start_halves(const Decomposition& args, int count, const Room& room) {
    const uint16_t low = room.list[room.shared->lowest & 16383u], high = room.list[room.shared->highest & 16383u];
    const uint32_t* bits = args.bits + (int64_t)blockIdx.x * args.padded * args.words;
    const uint32_t *near_low = bits + (int64_t)low * args.words, *near_high = bits + (int64_t)high * args.words;
    uint32_t in_second = 0;
    for (int j = threadIdx.x; j < count; j += kThreads) {
        const int p = room.list[j];
        const bool to_high = p == high || (near_high[p / 32] >> (p % 32) & 1);
        const bool to_low = p == low || (near_low[p / 32] >> (p % 32) & 1);
        room.second[j] = to_high && !to_low;
        in_second += room.second[j];
    }
    in_second = warp_sum(in_second);
    if (threadIdx.x % 32 == 0) atomicAdd(&room.shared->in_second, in_second);
    __syncthreads();
    return count - 2 * (int)room.shared->in_second;
}

// t[j] = products of token j with half 0 minus those with half 1.
__device__ __forceinline__ void sum_products(const Decomposition& args, int count, const Room& room) {
    const int16_t* gram = args.gram + (int64_t)blockIdx.x * args.padded * args.padded;
    for (int j = threadIdx.x; j < count; j += kThreads) {
        const int16_t* column = gram + room.list[j];
        int32_t sum = 0;
#pragma unroll 8
        for (int i = 0; i < count; ++i) {
            const int32_t product = column[(int64_t)room.list[i] * args.padded];
            sum += room.second[i] ? -product : product;
        }
        room.t[j] = sum;
    }
}

// The first of this thread's own tokens at or after `start` that is nearer to the other half, with its half in the lowest
// bit; ~0 where none is. t and second of a token are its thread's alone.
__device__ __forceinline__ uint32_t own_mover(int start, int count, int balance, const Room& room) {
    const int own = threadIdx.x;
    uint32_t mover = ~0u;
    int first = own + (start > own ? (start - own + kThreads - 1) / kThreads * kThreads : 0);
    for (; first < count && mover == ~0u; first += kAhead * kThreads)
#pragma unroll
        for (int i = kAhead - 1; i >= 0; --i) {
            const int j = first + i * kThreads;
            if (j >= count) continue;
            const uint32_t half = room.second[j];
            const int32_t t = room.t[j];
            if (half ? t > balance : t < balance) mover = (uint32_t)j << 1 | half;
        }
    return mover;
}

// Takes a token's products, `times` over, off the sums of all.
__device__ __forceinline__ void apply_move(const int16_t* row, int times, int count, const Room& room) {
#pragma unroll 1
    for (int first = threadIdx.x; first < count; first += kAhead * kThreads) {
        int32_t products[kAhead];
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
            const int j = first + i * kThreads;
            products[i] = row[room.list[j < count ? j : 0]];
        }
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
            const int j = first + i * kThreads;
            if (j < count) room.t[j] -= times * products[i];
        }
    }
}

// Moves tokens one after the other in visiting order, each when it is nearer to the other half, until none is. Only a
// move changes anything, so finding the next mover together and applying its row together is the sequential sweep.
__device__ __forceinline__ void sweep(const Decomposition& args, int count, int balance, int unit, const Room& room) {
    const int16_t* gram = args.gram + (int64_t)blockIdx.x * args.padded * args.padded;
    balance *= unit;
    bool moved = false;
    int start = 0;
    for (int sweeps = 0, turn = 0;; turn ^= 1) {
        uint32_t mover = warp_min(own_mover(start, count, balance, room));
        uint32_t* slots = room.shared->slots[turn];
        if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = mover;
        __syncthreads();  // the only one a move: the slots of the next turn are others
        for (int w = 0; w < kThreads / 32; ++w) mover = slots[w] < mover ? slots[w] : mover;
        if (mover == ~0u) {
            if (!moved || ++sweeps == kSweeps) break;
            moved = false;
            start = 0;
            continue;
        }
        const int place = (int)(mover >> 1), side = mover & 1 ? -1 : 1;
        if (place % kThreads == (int)threadIdx.x) room.second[place] ^= 1;
        balance -= 2 * side * unit;
        apply_move(gram + (int64_t)room.list[place] * args.padded, 2 * side, count, room);
        moved = true;
        start = place + 1;
    }
    __syncthreads();
}

__device__ __forceinline__ void start_tree(const Decomposition& args, int64_t first, const Room& room) {
    for (int w = threadIdx.x; w < args.words; w += kThreads) {
        const int left = args.tokens - 32 * w;
        args.masks[first * args.words + w] = left >= 32 ? ~0u : left > 0 ? (1u << left) - 1 : 0u;
    }
    if (threadIdx.x == 0) {
        args.parents[first] = -1;
        args.depths[first] = 0;
        args.areas[first] = args.tokens;
        room.shared->nodes = 1;
        room.shared->overflow = 0;
    }
    __syncthreads();
}

// Stores what is known of a node once it is listed, and clears the sums of the next.
__device__ __forceinline__ void measure_node(const Decomposition& args, int64_t node, int count, const Room& room) {
    if (threadIdx.x == 0) {
        room.shared->degrees = 0;
        room.shared->lowest = room.shared->highest = ~0u;
        room.shared->in_second = 0;
        room.shared->high = 0;
    }
    __syncthreads();
    measure_degrees(args, count, room);
    uint32_t high = 0;
    for (int w = threadIdx.x; w < args.words; w += kThreads)
        high += __popc(args.masks[node * args.words + w] & args.high[(int64_t)blockIdx.x * args.words + w]);
    high = warp_sum(high);
    if (threadIdx.x % 32 == 0) atomicAdd(&room.shared->high, high);
    __syncthreads();
    if (threadIdx.x == 0) {
        args.edges[node] = (int32_t)(room.shared->degrees / 2);
        args.high_counts[node] = (int32_t)room.shared->high;
    }
}

// Grid: (B); shared: room_bytes of the image's size.
KERNEL(kThreads, 4, grow_tree, Decomposition) {
    DYNAMIC_SHARED(memory);
    ImageState* state = args.states + blockIdx.x;
    if (state->status & kNotFinite) return;
    const Room room = room_in(memory, args);
    const int64_t first = (int64_t)blockIdx.x * args.capacity;
    start_tree(args, first, room);
    for (int row = 0; row < room.shared->nodes; ++row) {
        const int64_t node = first + row;
        const int count = list_node(args, args.masks + node * args.words, room);
        measure_node(args, node, count, room);
        if (is_cut(args, row, count, room.shared->degrees / 2)) {
            const int balance = start_halves(args, count, room);
            sum_products(args, count, room);
            sweep(args, count, balance, state->unit, room);
            add_children(args, first, row, count, room);
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        state->nodes = room.shared->nodes;
        if (room.shared->overflow) atomicOr(&state->status, kTooManyNodes);
    }
}
