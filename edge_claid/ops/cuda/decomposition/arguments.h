// What the kernels of the decomposition share. The layout is mirrored by ARGUMENTS in cuda/decomposition_op.py.
//
// Tokens are listed in visiting order: position p holds token order[p]. `padded` is N rounded up to a multiple of 128,
// the side of a tile of the Gram matrix; `words` = padded / 32. Every pointer is device memory; per-image arrays lie
// one after the other.
#pragma once
#include "../kernel.h"

constexpr int kThreads = 256;  // of every kernel here
constexpr int kTile = 128;     // side of a tile of the Gram matrix
constexpr int kSweeps = 500;   // most sweeps of one cut, as in the reference

constexpr int32_t kNotFinite = 1;  // status: a token is not finite, or its norm is not
constexpr int32_t kTooManyNodes = 2;  // status: more nodes than `capacity`; the arrays hold the first ones

// Scalars of one image, made on the way.
struct ImageState {
    uint32_t peak;     // bits of the largest value of a unit token, a float that is not negative
    int32_t largest;   // squared norm of the longest quantised token
    int32_t shift, half, threshold, unit;
    uint32_t energy_threshold;  // bits of a float
    int32_t status, nodes;
};

struct Decomposition {
    const float* features;   // (B, N, D) raw tokens
    const float* center;     // (D), or null
    const uint16_t* order;   // (N) token at each position
    float *energy, *inverse;  // (B, N) by token
    int8_t* packed;          // (B, padded, stride) quantised tokens by position, zero beyond N and D
    int16_t* gram;           // (B, padded, padded) by position
    uint32_t* bits;          // (B, padded, words) who is connected with whom
    uint32_t* high;          // (B, words) high-energy tokens, by token
    ImageState* states;      // (B)
    uint32_t* masks;         // (B, capacity, words) members by token
    int32_t *parents, *depths, *areas, *high_counts, *edges;  // (B, capacity)
    double alpha, tau1;
    int32_t images, rows, columns, tokens, width, stride, padded, words;
    int32_t energy_rank, smallest, max_nodes, capacity;
};
