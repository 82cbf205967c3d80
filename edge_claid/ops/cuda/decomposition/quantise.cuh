// Raw tokens to unit tokens in int8, and the scalars of each image. Mirrors quantised_tokens and high_energy of
// edge_claid/ops/reference/decomposition.py: lane l of a warp is lane l of the reference; every operation is rounded by
// itself (no fused multiply-add), so the bits agree.
#pragma once
#include "arguments.h"

__device__ __forceinline__ float folded(float lane_sum) {
    for (int half = 16; half; half /= 2) lane_sum = __fadd_rn(lane_sum, __shfl_down_sync(FULL_WARP, lane_sum, half));
    return lane_sum;  // lane 0 has it
}

// Grid: (ceil(B N / 8)), a warp a token. Norms, energies, and each image's peak.
KERNEL(kThreads, 4, token_statistics, Decomposition) {
    const int64_t token = (int64_t)blockIdx.x * (kThreads / 32) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (token >= (int64_t)args.images * args.tokens) return;  // a whole warp leaves
    const float* x = args.features + token * args.width;
    float energy = 0.0f, square = 0.0f, largest = 0.0f;
    for (int d = lane; d < args.width; d += 32) {
        const float centred = args.center ? __fsub_rn(x[d], args.center[d]) : x[d];
        const float magnitude = fabsf(centred);
        energy = __fadd_rn(energy, fabsf(x[d]));
        square = __fadd_rn(square, __fmul_rn(centred, centred));
        largest = magnitude > largest ? magnitude : largest;
    }
    energy = folded(energy);
    square = folded(square);
    for (int step = 16; step; step /= 2) {
        const float other = __shfl_down_sync(FULL_WARP, largest, step);
        largest = other > largest ? other : largest;
    }
    if (lane != 0) return;
    ImageState* state = args.states + token / args.tokens;
    if (!isfinite(energy) || !isfinite(square)) {
        atomicOr(&state->status, kNotFinite);
        return;
    }
    const float inverse = square > 0.0f ? __fdiv_rn(1.0f, __fsqrt_rn(square)) : 0.0f;
    args.energy[token] = energy;
    args.inverse[token] = inverse;
    // Floats that are not negative order as their bits do.
    atomicMax(&state->peak, __float_as_uint(__fmul_rn(largest, inverse)));
}

__device__ __forceinline__ float scale_of(const ImageState* state) {
    const float peak = __uint_as_float(state->peak);
    return peak > 0.0f ? __fdiv_rn(127.0f, peak) : 0.0f;
}

// Grid: (padded / 8, B), a warp a position. Quantised tokens in visiting order.
KERNEL(kThreads, 4, quantise_tokens, Decomposition) {
    const int position = blockIdx.x * (kThreads / 32) + threadIdx.x / 32, lane = threadIdx.x % 32, image = blockIdx.y;
    ImageState* state = args.states + image;
    if (state->status) return;
    int8_t* to = args.packed + ((int64_t)image * args.padded + position) * args.stride;
    const bool real = position < args.tokens;
    const int64_t token = (int64_t)image * args.tokens + (real ? args.order[position] : 0);
    const float* x = args.features + token * args.width;
    const float scale = scale_of(state), inverse = real ? args.inverse[token] : 0.0f;
    int32_t square = 0;
    for (int d = lane; d < args.stride; d += 32) {
        int32_t value = 0;
        if (real && d < args.width) {
            const float centred = args.center ? __fsub_rn(x[d], args.center[d]) : x[d];
            value = __float2int_rn(__fmul_rn(__fmul_rn(centred, inverse), scale));
        }
        to[d] = (int8_t)value;  // the scale is such that no value is beyond 127
        square += value * value;
    }
    square = (int32_t)warp_sum((uint32_t)square);
    if (lane == 0) atomicMax(&state->largest, square);
}

__device__ __forceinline__ int bit_length(int64_t value) { return value ? 64 - __clzll(value) : 0; }

__device__ __forceinline__ void set_rounding(ImageState* state, double alpha) {
    const double scale = (double)scale_of(state), unit = __dmul_rn(scale, scale);
    const int64_t whole = (int64_t)unit, most = whole > state->largest ? whole : state->largest;
    const int length = bit_length(most);
    state->shift = length > 15 ? length - 15 : 0;
    state->half = (int32_t)((int64_t{1} << state->shift) >> 1);
    const double limit = floor(__ddiv_rn(__dmul_rn(alpha, unit), (double)(int64_t{1} << state->shift)));
    state->threshold = (int32_t)fmin(32767.0, fmax(-32768.0, limit));
    const int64_t rounded = (whole + state->half) >> state->shift;
    state->unit = (int32_t)(rounded < 32767 ? rounded : 32767);
}

// Grid: (B), a block an image; shared: 256 counters and one word. Scalars of the Gram matrix; the high-energy threshold
// by radix selection, eight bits a pass; the tokens that reach it.
KERNEL(kThreads, 4, image_scalars, Decomposition) {
    DYNAMIC_SHARED(shared);
    uint32_t* counts = (uint32_t*)shared;
    uint32_t* chosen = counts + 256;  // [0] prefix of the answer, [1] rank among those that share it
    ImageState* state = args.states + blockIdx.x;
    const float* energy = args.energy + (int64_t)blockIdx.x * args.tokens;
    if (state->status) return;
    if (threadIdx.x == 0) {
        set_rounding(state, args.alpha);
        chosen[0] = 0;
        chosen[1] = (uint32_t)args.energy_rank;
    }
    for (int shift = 24; shift >= 0; shift -= 8) {
        counts[threadIdx.x] = 0;
        __syncthreads();
        const uint32_t prefix = chosen[0];
        for (int i = threadIdx.x; i < args.tokens; i += kThreads) {
            const uint32_t key = __float_as_uint(energy[i]);
            if (shift == 24 || key >> (shift + 8) == prefix) atomicAdd(&counts[key >> shift & 255], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            uint32_t rank = chosen[1], digit = 0;
            while (rank >= counts[digit]) rank -= counts[digit++];
            chosen[0] = prefix << 8 | digit;
            chosen[1] = rank;
        }
        __syncthreads();
    }
    const float threshold = __uint_as_float(chosen[0]);
    for (int i = threadIdx.x; i < args.padded; i += kThreads) {
        const uint32_t word = __ballot_sync(FULL_WARP, i < args.tokens && energy[i] >= threshold);
        if (threadIdx.x % 32 == 0) args.high[(int64_t)blockIdx.x * args.words + i / 32] = word;
    }
}
