// What every kernel source begins with.
//
// A kernel takes one struct, so that one launch function serves all of them, and uses dynamic shared memory only. It
// says how many threads a block has and how many blocks a multiprocessor should hold, which bounds its registers.
// Under nvcc the macros below are plain CUDA. Any other compiler reads `cuda_model.h` from its include path instead,
// which plays threads, barriers and shuffles on the CPU: tests compile this same file and run it there.
#pragma once

#if defined(__CUDACC__)

#include <stdint.h>

#define KERNEL(threads, blocks, name, Arguments) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Arguments args)
#define DYNAMIC_SHARED(pointer)                         \
    extern __shared__ __align__(16) char dynamic_shared[]; \
    char* pointer = dynamic_shared

#else
#include "cuda_model.h"
#endif

#define FULL_WARP 0xFFFFFFFFu

// Minimum over the warp, known to every lane. Turing has no instruction for it.
__device__ __forceinline__ uint32_t warp_min(uint32_t value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_min_sync(FULL_WARP, value);
#else
    for (int step = 16; step; step /= 2) {
        const uint32_t other = __shfl_xor_sync(FULL_WARP, value, step);
        value = other < value ? other : value;
    }
    return value;
#endif
}

// Sum over the warp, known to every lane.
__device__ __forceinline__ uint32_t warp_sum(uint32_t value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_add_sync(FULL_WARP, value);
#else
    for (int step = 16; step; step /= 2) value += __shfl_xor_sync(FULL_WARP, value, step);
    return value;
#endif
}

// How many rows there are: as the device counted them, `most` at most, or `most` where nothing was counted.
__device__ __forceinline__ int rows_there(const int32_t* counted, int most) {
    return counted && *counted < most ? *counted : most;
}
