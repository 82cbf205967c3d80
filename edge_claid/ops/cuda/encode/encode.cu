// Descriptors to projected ones, to codes, and to look-up tables. Every sum runs over dimensions in ascending order and
// rounds each product and each sum, as the CPU's op does (cpu/encode/kernel.inc), so codes agree to the bit.
#include "../kernel.h"

constexpr int kThreads = 256;
constexpr int kCodewords = 256;
constexpr int kProjecting = 512;  // threads of project_rows: a sum is a long chain, so each has few columns
constexpr int kRows = 4;  // rows of a block, which share every read of the matrix

// The layout is mirrored by ARGUMENTS in cuda/encode_op.py.
struct Encode {
    const float* values;     // (R, D)
    const float* mean;       // (D), or null
    const float* matrix;     // (D, d)
    float* projected;        // (R, d)
    const float* codewords;  // (M, d / M, 256)
    uint8_t* codes;          // (R, M)
    float* tables;           // (R, M, 256)
    const int32_t* counted;  // how many of the rows there are, or null for all
    int32_t rows, width, dimensions, subspaces, normalise;
};

// Grid: (ceil(R / 4)); shared: 4 (D + d) floats. projected = (values - mean) @ matrix, of unit norm where asked.
KERNEL(kProjecting, 2, project_rows, Encode) {
    DYNAMIC_SHARED(memory);
    float* centred = (float*)memory;
    float* sums = centred + kRows * args.width;
    const int64_t first = (int64_t)blockIdx.x * kRows;
    const int most = rows_there(args.counted, args.rows);
    if (first >= most) return;
    const int rows = most - first < kRows ? (int)(most - first) : kRows;
    for (int i = threadIdx.x; i < kRows * args.width; i += kProjecting) {
        const int row = i / args.width, d = i % args.width;
        const float value = row < rows ? args.values[(first + row) * args.width + d] : 0.0f;
        centred[i] = args.mean ? __fsub_rn(value, args.mean[d]) : value;
    }
    __syncthreads();
    for (int column = threadIdx.x; column < args.dimensions; column += kProjecting) {
        float sum[kRows] = {};
#pragma unroll 16  // as many reads of the matrix are under way
        for (int d = 0; d < args.width; ++d) {
            const float weight = args.matrix[(int64_t)d * args.dimensions + column];
#pragma unroll
            for (int row = 0; row < kRows; ++row)
                sum[row] = __fadd_rn(sum[row], __fmul_rn(centred[row * args.width + d], weight));
        }
#pragma unroll
        for (int row = 0; row < kRows; ++row) sums[row * args.dimensions + column] = sum[row];
    }
    __syncthreads();
    if (args.normalise && (int)threadIdx.x < rows) {
        float square = 0.0f;
        const float* own = sums + threadIdx.x * args.dimensions;
        for (int d = 0; d < args.dimensions; ++d) square = __fadd_rn(square, __fmul_rn(own[d], own[d]));
        centred[threadIdx.x] = fmaxf(__fsqrt_rn(square), 1e-12f);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < rows * args.dimensions; i += kProjecting) {
        const float value = sums[i];
        args.projected[first * args.dimensions + i] =
            args.normalise ? __fdiv_rn(value, centred[i / args.dimensions]) : value;
    }
}

// Squared distance of a row's subvector to one codeword.
__device__ __forceinline__ float codeword_distance(const Encode& args, int64_t row, int subspace, int codeword) {
    const int width = args.dimensions / args.subspaces;
    const float* own = args.projected + row * args.dimensions + subspace * width;
    const float* codewords = args.codewords + (int64_t)subspace * width * kCodewords + codeword;
    float sum = 0.0f;
    for (int d = 0; d < width; ++d) {
        const float difference = __fsub_rn(own[d], codewords[d * kCodewords]);
        sum = __fadd_rn(sum, __fmul_rn(difference, difference));
    }
    return sum;
}

// Grid: (R, M), a thread a codeword.
KERNEL(kThreads, 4, lookup_tables, Encode) {
    if ((int)blockIdx.x >= rows_there(args.counted, args.rows)) return;
    const int64_t place = ((int64_t)blockIdx.x * args.subspaces + blockIdx.y) * kCodewords + threadIdx.x;
    args.tables[place] = codeword_distance(args, blockIdx.x, blockIdx.y, threadIdx.x);
}

// Grid: (R, M); shared: kThreads / 32 keys. The nearest codeword, of equals the lowest.
KERNEL(kThreads, 4, nearest_codewords, Encode) {
    DYNAMIC_SHARED(memory);
    uint64_t* nearest = (uint64_t*)memory;
    if ((int)blockIdx.x >= rows_there(args.counted, args.rows)) return;
    // Squares are not negative, so their bits order as they do.
    const uint32_t distance = __float_as_uint(codeword_distance(args, blockIdx.x, blockIdx.y, threadIdx.x));
    const uint32_t least = warp_min(distance);
    const uint32_t first = warp_min(distance == least ? threadIdx.x : ~0u);
    if (threadIdx.x % 32 == 0) nearest[threadIdx.x / 32] = (uint64_t)least << 32 | first;
    __syncthreads();
    if (threadIdx.x != 0) return;
    uint64_t best = nearest[0];
    for (int warp = 1; warp < kThreads / 32; ++warp) best = nearest[warp] < best ? nearest[warp] : best;
    args.codes[(int64_t)blockIdx.x * args.subspaces + blockIdx.y] = (uint8_t)best;
}
