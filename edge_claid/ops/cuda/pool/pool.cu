// RoI pooling of the maps of a batch over all its regions, by box or by mask inside the box: generalised mean and maximum,
// as ops/reference/pool.py. Sums are in float32 here and in float64 there, so the two agree to about 1e-6 of the value.
#include "../kernel.h"

constexpr int kThreads = 256;
constexpr int kTile = 32;

// The layout is mirrored by ARGUMENTS in cuda/pool_op.py.
struct Pool {
    const float* values;     // (B, C, h, w)
    float* raised;           // (B, h w, C): values ^ power, channels last so that a warp reads them together
    float* boxes;            // (R, 4) x0, y0, x1, y1 in cells
    const int32_t* images;   // (R) which map
    float* pooled;           // (R, stride), of which this map's channels begin at `offset`
    const float* pixels;     // (R, 4) boxes in pixels, for boxes_in_cells
    const int32_t* sizes;    // (B, 2) width and height of each picture
    const int32_t* counted;  // how many of the regions there are, or null for all
    const uint32_t* masks;   // (., words) tokens of a region, bit by bit; null without masks
    const int32_t* mask_rows;  // (R) which row of masks is a region's
    float* weights;          // (R, h w) with masks: what they cover of each cell
    double inner;            // share of a box's sides within its margin
    double smallest_side;    // cells that a box is widened to
    int32_t maps, channels, rows, columns, regions, stride, offset, token_rows, token_columns, words;
    float power;             // infinity: the maximum
    float norm;              // of a row's part after normalise_regions
};

// Grid: (ceil(R / 256)). cells_from_pixels of edge_claid/descriptors/pool.py.
KERNEL(kThreads, 4, boxes_in_cells, Pool) {
    const int region = blockIdx.x * kThreads + threadIdx.x;
    if (region >= rows_there(args.counted, args.regions)) return;
    const float* box = args.pixels + 4 * (int64_t)region;
    const int32_t* size = args.sizes + 2 * args.images[region];
    const double limits[2] = {(double)args.columns, (double)args.rows};
#pragma unroll
    for (int axis = 0; axis < 2; ++axis) {
        const double scale = __ddiv_rn(limits[axis], (double)size[axis]);
        const double low = __dmul_rn((double)box[axis], scale), high = __dmul_rn((double)box[axis + 2], scale);
        const double side = fmin(fmax(__dmul_rn(high - low, args.inner), args.smallest_side), limits[axis]);
        const double start = fmin(fmax((low + high - side) / 2, 0.0), limits[axis] - side);
        args.boxes[4 * (int64_t)region + axis] = (float)start;
        args.boxes[4 * (int64_t)region + axis + 2] = (float)(start + side);
    }
}

// Grid: (ceil(C / 32) B, ceil(h w / 32)), the side that may be long first; shared: 32 * 33 floats. Transposes, and
// raises to the power.
KERNEL(kThreads, 4, raise_maps, Pool) {
    DYNAMIC_SHARED(memory);
    float* tile = (float*)memory;
    const int cells = args.rows * args.columns, parts = (args.channels + kTile - 1) / kTile;
    const int64_t map = blockIdx.x / parts;
    const int first_channel = blockIdx.x % parts * kTile, first_cell = blockIdx.y * kTile;
    const int x = threadIdx.x % kTile;
    for (int y = threadIdx.x / kTile; y < kTile; y += kThreads / kTile) {
        const int channel = first_channel + y, cell = first_cell + x;
        if (channel >= args.channels || cell >= cells) continue;
        const float value = args.values[(map * args.channels + channel) * cells + cell];
        tile[y * (kTile + 1) + x] = isinf(args.power) ? value
                                    : args.power == 3.0f ? value * value * value
                                                         : powf(value, args.power);
    }
    __syncthreads();
    for (int y = threadIdx.x / kTile; y < kTile; y += kThreads / kTile) {
        const int cell = first_cell + y, channel = first_channel + x;
        if (channel < args.channels && cell < cells)
            args.raised[(map * cells + cell) * args.channels + channel] = tile[x * (kTile + 1) + y];
    }
}

// Share of a cell that the interval covers.
__device__ __forceinline__ float covered(float start, float stop, int cell) {
    const float share = fminf((float)cell + 1.0f, stop) - fmaxf((float)cell, start);
    return share < 0.0f ? 0.0f : share > 1.0f ? 1.0f : share;
}

// How much of a cell, in tokens, lies in a token along one axis. Cells are `scale` tokens long.
__device__ __forceinline__ double token_share(int cell, double scale, int token) {
    const double start = __dmul_rn((double)cell, scale), stop = __dmul_rn((double)(cell + 1), scale);
    return fmax(fmin((double)(token + 1), stop) - fmax((double)token, start), 0.0);
}

// Grid: (R, ceil(h w / 256)), a thread a cell. mask_weights of the reference.
KERNEL(kThreads, 4, weigh_cells, Pool) {
    const int region = blockIdx.x, cell = blockIdx.y * kThreads + threadIdx.x;
    if (region >= rows_there(args.counted, args.regions) || cell >= args.rows * args.columns) return;
    const uint32_t* mask = args.masks + (int64_t)args.mask_rows[region] * args.words;
    const double down = __ddiv_rn((double)args.token_rows, (double)args.rows);
    const double across = __ddiv_rn((double)args.token_columns, (double)args.columns);
    const int y = cell / args.columns, x = cell % args.columns;
    const int y1 = min(args.token_rows, (int)ceil(__dmul_rn((double)(y + 1), down)));
    const int x1 = min(args.token_columns, (int)ceil(__dmul_rn((double)(x + 1), across)));
    double sum = 0.0;
    for (int row = (int)__dmul_rn((double)y, down); row < y1; ++row)
        for (int column = (int)__dmul_rn((double)x, across); column < x1; ++column) {
            const int token = row * args.token_columns + column;
            if (mask[token / 32] >> (token % 32) & 1) sum += token_share(y, down, row) * token_share(x, across, column);
        }
    args.weights[(int64_t)region * args.rows * args.columns + cell] = (float)(sum / (down * across));
}

// What cells of a box come to in one channel.
struct Pooled {
    float sum, total, most;
};

// Every rows_apart-th row of a box from `first` on. A cell without weight is read too, so that reads need not wait.
__device__ __forceinline__ Pooled pool_rows(const Pool& args, int region, const float* map, int first, int rows_apart) {
    const float* box = args.boxes + 4 * (int64_t)region;
    const float* masked = args.masks ? args.weights + (int64_t)region * args.rows * args.columns : nullptr;
    const int x0 = max(0, (int)floorf(box[0])), x1 = min(args.columns, (int)ceilf(box[2]));
    const int y0 = max(0, (int)floorf(box[1])), y1 = min(args.rows, (int)ceilf(box[3]));
    Pooled pooled{0.0f, 0.0f, -INFINITY};
    for (int y = y0 + first; y < y1; y += rows_apart) {
        const float share = covered(box[1], box[3], y);
#pragma unroll 4
        for (int x = x0; x < x1; ++x) {
            const int cell = y * args.columns + x;
            const float value = map[(int64_t)cell * args.channels];
            const float boxed = share * covered(box[0], box[2], x);
            const float weight = masked ? boxed * masked[cell] : boxed;
            const bool counts = weight > 0.0f;
            pooled.sum += counts ? weight * value : 0.0f;
            pooled.total += counts ? weight : 0.0f;
            pooled.most = counts ? fmaxf(pooled.most, value) : pooled.most;
        }
    }
    return pooled;
}

// Grid: (R, ceil(C / 32)); shared: a Pooled a thread. A lane a channel, a warp every eighth row of the box: a picture's
// largest box is some ten thousand cells, too many for one thread after the other.
KERNEL(kThreads, 4, pool_regions, Pool) {
    DYNAMIC_SHARED(memory);
    Pooled* parts = (Pooled*)memory;
    const int region = blockIdx.x, warp = threadIdx.x / 32, channel = blockIdx.y * 32 + threadIdx.x % 32;
    if (region >= rows_there(args.counted, args.regions)) return;
    const bool there = channel < args.channels;
    const float* map = args.raised + (int64_t)args.images[region] * args.rows * args.columns * args.channels;
    parts[threadIdx.x] = pool_rows(args, region, map + (there ? channel : 0), warp, kThreads / 32);
    __syncthreads();
    if (warp != 0 || !there) return;
    Pooled all = parts[threadIdx.x];
    for (int i = threadIdx.x + 32; i < kThreads; i += 32) {
        all.sum += parts[i].sum;
        all.total += parts[i].total;
        all.most = fmaxf(all.most, parts[i].most);
    }
    const float mean = all.total > 0.0f ? all.sum / all.total : 0.0f;
    const float root = args.power == 3.0f ? cbrtf(mean) : powf(mean, 1.0f / args.power);
    const float value = isinf(args.power) ? all.most : root;
    args.pooled[(int64_t)region * args.stride + args.offset + channel] = all.total > 0.0f ? value : 0.0f;
}

// Grid: (R); shared: kThreads / 32 floats. The part of each row to the asked L2 norm.
KERNEL(kThreads, 4, normalise_regions, Pool) {
    DYNAMIC_SHARED(memory);
    float* parts = (float*)memory;
    if ((int)blockIdx.x >= rows_there(args.counted, args.regions)) return;
    float* row = args.pooled + (int64_t)blockIdx.x * args.stride + args.offset;
    float square = 0.0f;
    for (int c = threadIdx.x; c < args.channels; c += kThreads) square += row[c] * row[c];
    for (int step = 16; step; step /= 2) square += __shfl_xor_sync(FULL_WARP, square, step);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = square;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < kThreads / 32; ++warp) total += parts[warp];
    const float norm = fmaxf(sqrtf(total), 1e-12f);
    for (int c = threadIdx.x; c < args.channels; c += kThreads) row[c] = row[c] / norm * args.norm;
}
