// The inner loops of the decomposition, one set per instruction set. All sets give the same bits.
//
// Kernel sources use no templates and nothing of the C++ library: code compiled for one instruction set must not be
// merged by the linker into code that runs on a lesser machine.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace decomposition {

constexpr size_t kPanel = 32;  // tokens a panel: two 512-bit registers of int32, one of int16
constexpr size_t kLanes = 32;  // partial sums of norms and energies; part of the definition of the result

struct Quantiser {
    const float* features;  // (tokens, width) raw
    const float* center;    // (width) or null
    size_t width;
};

// Symmetric products of unit tokens in 16 bits, and who is above the threshold.
struct Affinity {
    int16_t* gram;      // (tokens, gram_stride), 64-byte aligned rows; columns up to a multiple of kPanel are valid
    size_t gram_stride;
    uint32_t* bits;     // (tokens, bit_stride): bit j of row i is set where gram[i][j] > threshold
    size_t bit_stride;  // even
};

struct Rounding {
    int shift;      // products are shifted right by this after adding half
    int threshold;  // of the shifted products
};

struct Kernels {
    const char* name;
    size_t cell_bytes;  // bytes of a quantised value in the packed panels
    size_t group;       // consecutive values of a token that lie together in a panel

    // L1 norm of the raw token, squared L2 norm and largest magnitude of the centred one.
    void (*row_statistics)(const Quantiser& from, size_t token, float* energy, float* square, float* largest);
    // Quantised tokens tokens[0..count) of one panel, count at most kPanel; other places of the panel become zero.
    // inverse: by token. sums: (kPanel) of each token's values. Returns the largest squared norm.
    // Packed panel: [group of values][kPanel tokens][values of the group].
    int32_t (*quantise_panel)(const Quantiser& from, const uint32_t* tokens, size_t count, const float* inverse,
                              float scale, void* panel, int32_t* sums);
    // All of gram and bits for `panels` panels. sums: (32 panels) sums of the quantised tokens.
    void (*gram)(const void* packed, const int32_t* sums, size_t panels, size_t groups, Rounding rounding,
                 Affinity* to);
    // Connections of a token inside a node: popcount of the row under the mask. words: 64-bit words, any number.
    uint32_t (*degree)(const uint32_t* bits, const uint64_t* mask, size_t words);
    // t += sum of the given Gram rows; columns is a multiple of kPanel.
    void (*add_rows)(const Affinity& from, const uint32_t* rows, size_t count, size_t columns, int32_t* t);
    // t -= 2 side row
    void (*subtract_row)(const int16_t* row, int32_t side, size_t columns, int32_t* t);
    // First position from `start` of a token nearer to the other half, or `columns`. member and second: bit masks of
    // the node and of its half 1.
    size_t (*next_mover)(const int32_t* t, const uint64_t* member, const uint64_t* second, int32_t balance,
                         size_t start, size_t columns);
    // Cosines of unit tokens in floats, for the floating-point mode. width is a multiple of kLanes.
    void (*float_gram)(const float* units, size_t tokens, size_t width, float* gram, size_t stride);
};

extern const Kernels kPortable;
#if defined(DECOMPOSITION_X86)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif
#if defined(DECOMPOSITION_ARM)
extern const Kernels kDot;
#endif

}  // namespace decomposition
