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

KERNEL(64, 1, right, Wrong) {
    DYNAMIC_SHARED(memory);
    uint32_t* shared = (uint32_t*)memory;
    shared[threadIdx.x] = threadIdx.x;
    __syncthreads();
    args.values[threadIdx.x] = shared[63 - threadIdx.x] + __shfl_xor_sync(FULL_WARP, threadIdx.x, 1);
}
