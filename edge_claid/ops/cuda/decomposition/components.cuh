// 8-connected components of the two halves of a node, appended as nodes in raster order of their first token, half 0
// before half 1 (components of edge_claid/ops/reference/bisection.py).
#pragma once
#include "arguments.h"

constexpr uint16_t kNone = 0xFFFF;

// Small things that all threads of a block share.
struct SharedScalars {
    int count, nodes, overflow, changed;
    uint32_t degrees, lowest, highest, in_second, high;
    uint32_t slots[2][kThreads / 32];
};

// Shared memory of a block. By place in the node's list: list, second, t. By token: side, labels, next; areas shares
// the memory of t, which is free once a node is cut.
struct Room {
    SharedScalars* shared;
    uint32_t* members;  // (words) by position
    uint16_t* firsts;   // (words)
    int32_t* t;         // (N)
    uint32_t* areas;    // (N)
    uint16_t *list, *labels, *next;  // (N)
    uint8_t *second, *side;          // (N) side: 0 outside the node, else half + 1
};

// The same sum is made by room_bytes in cuda/decomposition_op.py.
__device__ __forceinline__ Room room_in(char* memory, const Decomposition& args) {
    Room room;
    room.shared = (SharedScalars*)memory;
    memory += (sizeof(SharedScalars) + 15) / 16 * 16;
    room.t = (int32_t*)memory;
    room.areas = (uint32_t*)memory;
    memory += 4 * args.padded;
    room.members = (uint32_t*)memory;
    memory += 4 * args.words;
    room.firsts = (uint16_t*)memory;
    memory += 2 * args.words;
    room.list = (uint16_t*)memory;
    memory += 2 * args.padded;
    room.labels = (uint16_t*)memory;
    memory += 2 * args.padded;
    room.next = (uint16_t*)memory;
    memory += 2 * args.padded;
    room.second = (uint8_t*)memory;
    memory += args.padded;
    room.side = (uint8_t*)memory;
    return room;
}

// The smallest label among a token and its neighbours on the same side.
__device__ __forceinline__ uint16_t smallest_label(const Decomposition& args, int token, const Room& room) {
    const int y = token / args.columns, x = token % args.columns;
    const uint8_t side = room.side[token];
    uint16_t least = room.labels[token];
    for (int v = y > 0 ? y - 1 : 0; v <= y + 1 && v < args.rows; ++v)
        for (int u = x > 0 ? x - 1 : 0; u <= x + 1 && u < args.columns; ++u) {
            const int other = v * args.columns + u;
            if (room.side[other] == side && room.labels[other] < least) least = room.labels[other];
        }
    return least;
}

// labels[token] = the first token in raster order of its component. Reads and writes are kept apart by barriers.
__device__ __forceinline__ void label_components(const Decomposition& args, int count, const Room& room) {
    for (int i = threadIdx.x; i < args.tokens; i += kThreads) {
        room.side[i] = 0;
        room.labels[i] = (uint16_t)i;
    }
    __syncthreads();
    for (int j = threadIdx.x; j < count; j += kThreads)
        room.side[args.order[room.list[j]]] = (uint8_t)(room.second[j] + 1);
    __syncthreads();
    for (int more = 1; more;) {
        if (threadIdx.x == 0) room.shared->changed = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < args.tokens; i += kThreads)
            if (room.side[i]) {
                // The label's own label is in the same component and no larger: a long way in few steps.
                const uint16_t least = room.labels[smallest_label(args, i, room)];
                room.next[i] = least;
                if (least != room.labels[i]) atomicOr((uint32_t*)&room.shared->changed, 1u);
            }
        __syncthreads();
        for (int i = threadIdx.x; i < args.tokens; i += kThreads)
            if (room.side[i]) room.labels[i] = room.next[i];
        more = room.shared->changed;
        __syncthreads();
    }
}

// One warp gives numbers, from `nodes` on, to the components that are large enough; next[first token] = the node's row.
__device__ __forceinline__ void number_components(const Decomposition& args, int64_t first, int row, int nodes,
                                                  const Room& room) {
    const int lane = threadIdx.x;
    for (int side = 1; side <= 2; ++side)
        for (int start = 0; start < args.tokens; start += 32) {
            const int i = start + lane;
            const bool head = i < args.tokens && room.side[i] == side && room.labels[i] == i;
            const bool kept = head && room.areas[i] >= (uint32_t)args.smallest;
            const uint32_t heads = __ballot_sync(FULL_WARP, kept);
            const int number = nodes + __popc(heads & ((1u << lane) - 1));
            const int most = args.capacity < args.max_nodes ? args.capacity : args.max_nodes;
            if (head) room.next[i] = kept && number < most ? (uint16_t)number : kNone;
            if (kept && number < most) {
                args.parents[first + number] = row;
                args.depths[first + number] = args.depths[first + row] + 1;
                args.areas[first + number] = (int32_t)room.areas[i];
            }
            nodes += __popc(heads);
        }
    if (lane == 0) {
        const int wanted = nodes < args.max_nodes ? nodes : args.max_nodes;
        if (wanted > args.capacity) room.shared->overflow = 1;
        room.shared->nodes = wanted < args.capacity ? wanted : args.capacity;
    }
}

// To be called by all threads, after the cut.
__device__ __forceinline__ void add_children(const Decomposition& args, int64_t first, int row, int count,
                                             const Room& room) {
    uint32_t in_second = 0;
    for (int j = threadIdx.x; j < count; j += kThreads) in_second += room.second[j];
    if (threadIdx.x == 0) room.shared->in_second = 0;
    __syncthreads();
    in_second = warp_sum(in_second);
    if (threadIdx.x % 32 == 0) atomicAdd(&room.shared->in_second, in_second);
    __syncthreads();
    if (room.shared->in_second == 0 || room.shared->in_second == (uint32_t)count) return;  // nothing was parted
    label_components(args, count, room);
    for (int i = threadIdx.x; i < args.tokens; i += kThreads) room.areas[i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < args.tokens; i += kThreads)
        if (room.side[i]) atomicAdd(&room.areas[room.labels[i]], 1u);
    const int before = room.shared->nodes;
    __syncthreads();
    if (threadIdx.x < 32) number_components(args, first, row, before, room);
    __syncthreads();
    uint32_t* masks = args.masks + first * args.words;
    for (int64_t w = (int64_t)before * args.words + threadIdx.x; w < (int64_t)room.shared->nodes * args.words; w += kThreads)
        masks[w] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < args.tokens; i += kThreads)
        if (room.side[i]) {
            const uint16_t node = room.next[room.labels[i]];
            if (node != kNone) atomicOr(&masks[(int64_t)node * args.words + i / 32], 1u << (i % 32));
        }
    __syncthreads();
}
