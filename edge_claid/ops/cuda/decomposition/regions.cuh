// Which nodes of the trees are regions, and their boxes: kept_nodes and boxes_from_masks of edge_claid/regions/claid.py.
#pragma once
#include "arguments.h"

// The layout is mirrored by REGION_ARGUMENTS in cuda/trees_on_device.py.
struct Selection {
    const ImageState* states;  // (B)
    const uint32_t* masks;     // (B, capacity, words)
    const int32_t *parents, *areas, *high_counts;  // (B, capacity)
    const int32_t* sizes;      // (B, 2) width and height of each picture
    int32_t* kept;             // (B, capacity) rows of the tree
    int32_t* kept_parents;     // (B, capacity) rows among the kept, -1 for the root
    int32_t* region_of;        // (B, capacity) room: the kept row of each node or of its nearest kept ancestor
    float* boxes;              // (B, capacity, 4) pixels
    int32_t* counts;           // (B)
    double tau2, merge_iou;
    int32_t images, rows, columns, words, capacity, end;
};

__device__ __forceinline__ int keep_nodes(const Selection& args, int64_t first, int nodes) {
    int count = 1;
    args.kept[first] = 0;
    args.kept_parents[first] = -1;
    args.region_of[first] = 0;
    for (int node = 1; node < nodes; ++node) {
        const int ancestor = args.region_of[first + args.parents[first + node]];
        const double area = (double)args.areas[first + node];
        const double overlap = __ddiv_rn(area, (double)args.areas[first + args.kept[first + ancestor]]);
        const double energy = __ddiv_rn((double)args.high_counts[first + node], area);
        int region = ancestor;
        if (energy > args.tau2 && overlap <= args.merge_iou) {
            region = count++;
            args.kept[first + region] = node;
            args.kept_parents[first + region] = ancestor;
        }
        args.region_of[first + node] = region;
    }
    return count;
}

// Grid: (B); shared: one int. One thread chooses, for a node's fate hangs on its ancestors'; then a warp a region.
KERNEL(kThreads, 4, select_regions, Selection) {
    DYNAMIC_SHARED(memory);
    int* shared = (int*)memory;
    const int image = blockIdx.x, lane = threadIdx.x % 32;
    const int64_t first = (int64_t)image * args.capacity;
    const ImageState* state = args.states + image;
    if (threadIdx.x == 0) {
        *shared = state->status & kNotFinite ? 0 : keep_nodes(args, first, state->nodes);
        args.counts[image] = *shared;
    }
    __syncthreads();
    const double wide = __ddiv_rn((double)args.sizes[2 * image], (double)args.columns);
    const double high = __ddiv_rn((double)args.sizes[2 * image + 1], (double)args.rows);
    for (int region = threadIdx.x / 32; region < *shared; region += kThreads / 32) {
        const uint32_t* mask = args.masks + (first + args.kept[first + region]) * args.words;
        uint32_t left = ~0u, top = ~0u, right = 0, bottom = 0;
        for (int token = lane; token < args.rows * args.columns; token += 32)
            if (mask[token / 32] >> (token % 32) & 1) {
                const uint32_t x = token % args.columns, y = token / args.columns;
                left = x < left ? x : left;
                top = y < top ? y : top;
                right = x + 1 > right ? x + 1 : right;
                bottom = y + 1 > bottom ? y + 1 : bottom;
            }
        left = warp_min(left);
        top = warp_min(top);
        right = ~warp_min(~right);
        bottom = ~warp_min(~bottom);
        if (lane != 0) continue;
        float* box = args.boxes + 4 * (first + region);
        box[0] = (float)__dmul_rn(left, wide);
        box[1] = (float)__dmul_rn(top, high);
        box[2] = (float)__dmul_rn(right, wide);
        box[3] = (float)__dmul_rn(bottom, high);
    }
}
