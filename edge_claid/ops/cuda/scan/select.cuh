// The k nearest of the touched images: radix selection of the k-th, then a sort of those up to it.
#pragma once
#include "tables.cuh"

constexpr int kHeld = 8;  // ranks that a thread keeps in registers; of more images they are read again for each digit

// Orders by distance, then image. Never kUntouched.
__device__ __forceinline__ uint64_t rank_of(const Scan& args, int query, int32_t image) {
    const uint64_t best = args.best[(int64_t)query * args.image_count + image];
    return (best >> 32 << 32) | (uint32_t)image;
}

struct Selection {
    uint64_t prefix;      // leading bytes of the answer
    uint32_t rank, taken;  // its rank among those that share them; places given out
    uint32_t counts[256];
};

// Calls `work` with the rank of each touched image, the first ones from registers.
template <typename Work>
__device__ __forceinline__ void for_each_rank(const Scan& args, int query, uint32_t count, const uint64_t* held,
                                              Work work) {
    const int32_t* touched = args.touched + (int64_t)query * args.image_count;
#pragma unroll
    for (int r = 0; r < kHeld; ++r)
        if (held[r] != kUntouched) work(held[r]);
#pragma unroll 4
    for (uint32_t i = kHeld * kWide + threadIdx.x; i < count; i += kWide) work(rank_of(args, query, touched[i]));
}

// The rank of the k-th image, ~0 where there are fewer. To be called by all threads.
__device__ __forceinline__ uint64_t kth_rank(const Scan& args, int query, uint32_t count, const uint64_t* held,
                                             Selection* shared) {
    if (count < (uint32_t)args.k) return kUntouched;
    if (threadIdx.x == 0) shared->prefix = 0, shared->rank = (uint32_t)args.k - 1;
    for (int shift = 56; shift >= 0; shift -= 8) {
        for (int c = threadIdx.x; c < 256; c += kWide) shared->counts[c] = 0;
        __syncthreads();
        const uint64_t prefix = shared->prefix;
        for_each_rank(args, query, count, held, [&](uint64_t rank) {
            if (shift == 56 || rank >> (shift + 8) == prefix) atomicAdd(&shared->counts[rank >> shift & 255], 1u);
        });
        __syncthreads();
        if (threadIdx.x == 0) {
            uint32_t digit = 0, rank = shared->rank;
            while (rank >= shared->counts[digit]) rank -= shared->counts[digit++];
            shared->prefix = prefix << 8 | digit;
            shared->rank = rank;
        }
        __syncthreads();
    }
    return shared->prefix;
}

// Bitonic sort of kMostSelected values, or of the power of two that holds `count`; the rest counts as the largest.
__device__ __forceinline__ void sort_ranks(uint64_t* ranks, uint32_t count) {
    uint32_t length = 2;
    while (length < count) length *= 2;
    for (uint32_t i = count + threadIdx.x; i < length; i += kWide) ranks[i] = kUntouched;
    __syncthreads();
    for (uint32_t run = 2; run <= length; run *= 2)
        for (uint32_t step = run / 2; step; step /= 2) {
            for (uint32_t i = threadIdx.x; i < length; i += kWide) {
                const uint32_t other = i ^ step;
                if (other < i) continue;  // one of the pair does the work
                const bool ascending = (i & run) == 0;
                const uint64_t a = ranks[i], b = ranks[other];
                if ((a > b) == ascending) ranks[i] = b, ranks[other] = a;
            }
            __syncthreads();
        }
}

__device__ __forceinline__ void write_found(const Scan& args, int query, const uint64_t* ranks, uint32_t found) {
    for (uint32_t i = threadIdx.x; i < (uint32_t)args.k; i += kWide) {
        const bool there = i < found;
        const int32_t image = there ? (int32_t)(uint32_t)ranks[i] : -1;
        const int64_t place = (int64_t)query * args.k + i;
        args.found_images[place] = image;
        args.found_distances[place] = there ? float_of((uint32_t)(ranks[i] >> 32)) : INFINITY;
        args.found_rows[place] = there ? (int64_t)(uint32_t)args.best[(int64_t)query * args.image_count + image] : -1;
    }
}

// Grid: (Q); shared: Selection, and kMostSelected ranks or TableBounds; k at most kMostSelected. The last pass, that over
// all rows, writes what was found; an earlier one sets the threshold and the byte tables of the next. `best` is untouched
// again, and after the last pass the threshold infinite.
KERNEL(kWide, 1, select_images, Scan) {
    DYNAMIC_SHARED(memory);
    Selection* shared = (Selection*)memory;
    char* rest = memory + (sizeof(Selection) + 15) / 16 * 16;
    uint64_t* ranks = (uint64_t*)rest;
    const int query = blockIdx.x;
    const uint32_t count = args.counts[query];
    const int32_t* touched = args.touched + (int64_t)query * args.image_count;
    uint64_t held[kHeld];
#pragma unroll
    for (int r = 0; r < kHeld; ++r) {
        const uint32_t i = r * kWide + threadIdx.x;
        held[r] = i < count ? rank_of(args, query, touched[i]) : kUntouched;
    }
    const uint64_t last = kth_rank(args, query, count, held, shared);
    float threshold = INFINITY;
    if (args.step == 1) {
        if (threadIdx.x == 0) shared->taken = 0;
        __syncthreads();
        for_each_rank(args, query, count, held, [&](uint64_t rank) {
            if (rank <= last) ranks[atomicAdd(&shared->taken, 1u)] = rank;
        });
        __syncthreads();
        const uint32_t found = shared->taken;
        sort_ranks(ranks, found);
        write_found(args, query, ranks, found);
    } else {
        // Where there are fewer than k, the next pass goes without a threshold.
        if (last != kUntouched) threshold = float_of((uint32_t)(last >> 32));
        quantise_tables(args, query, threshold, (TableBounds*)rest);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        args.thresholds[query] = threshold;
        args.counts[query] = 0;
    }
    for (uint32_t i = threadIdx.x; i < count; i += kWide)
        args.best[(int64_t)query * args.image_count + touched[i]] = kUntouched;
}
