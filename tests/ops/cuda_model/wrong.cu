// Kernels with the mistakes that the model must catch.
#include "kernel.h"

struct Wrong {
    uint32_t* values;
    int32_t count;
};

KERNEL(64, 1, partial_barrier, Wrong) {
    if (threadIdx.x < 40) __syncthreads();
    args.values[threadIdx.x] = threadIdx.x;
}

KERNEL(64, 1, missing_barrier, Wrong) {
    DYNAMIC_SHARED(memory);
    uint32_t* shared = (uint32_t*)memory;
    shared[threadIdx.x] = threadIdx.x;
    args.values[threadIdx.x] = shared[63 - threadIdx.x];  // read before the other thread is sure to have written
}

KERNEL(64, 1, beyond_shared, Wrong) {
    DYNAMIC_SHARED(memory);
    ((uint32_t*)memory)[args.count] = 1;
    args.values[threadIdx.x] = 0;
}

KERNEL(64, 1, half_a_warp, Wrong) {
    if (threadIdx.x % 32 < 16) args.values[threadIdx.x] = __ballot_sync(0x0000FFFFu, 1);
}

KERNEL(64, 1, two_barriers, Wrong) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    args.values[threadIdx.x] = 0;
}

KERNEL(64, 1, two_ballots, Wrong) {
    if (threadIdx.x % 2)
        args.values[threadIdx.x] = __ballot_sync(FULL_WARP, 1);
    else
        args.values[threadIdx.x] = __ballot_sync(FULL_WARP, 0);
}

// A ballot makes the lanes wait for each other, but orders no accesses to memory.
KERNEL(64, 1, ballot_as_barrier, Wrong) {
    DYNAMIC_SHARED(memory);
    uint32_t* shared = (uint32_t*)memory;
    shared[threadIdx.x] = threadIdx.x;
    if (__ballot_sync(FULL_WARP, 1)) args.values[threadIdx.x] = shared[threadIdx.x ^ 1];
}

KERNEL(64, 1, blocks_write_one_place, Wrong) {
    if (threadIdx.x == 0) args.values[0] = blockIdx.x;
}

KERNEL(64, 1, beyond_array, Wrong) {
    if (threadIdx.x == 0) args.values[args.count] = 1;
}

KERNEL(64, 1, right, Wrong) {
    DYNAMIC_SHARED(memory);
    uint32_t* shared = (uint32_t*)memory;
    shared[threadIdx.x] = threadIdx.x;
    __syncthreads();
    args.values[threadIdx.x] = shared[63 - threadIdx.x] + __shfl_xor_sync(FULL_WARP, threadIdx.x, 1);
}

KERNEL(64, 1, right_with_atomics, Wrong) {
    DYNAMIC_SHARED(memory);
    uint32_t* shared = (uint32_t*)memory;
    shared[threadIdx.x] = threadIdx.x;
    __syncwarp();
    atomicAdd(&args.values[threadIdx.x], shared[threadIdx.x ^ 1]);
}
