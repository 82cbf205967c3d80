// Search over codes: the k best images of a batch of queries, each by its best row; exact.
#include "search.cuh"
#include "select.cuh"

// Grid: any. The rows of the marked images are no longer live; counts[0] grows by those that were.
KERNEL(kThreads, 4, remove_rows, Scan) {
    const int64_t words = (args.rows + 31) / 32;
    for (int64_t w = (int64_t)blockIdx.x * kThreads + threadIdx.x; w < words; w += (int64_t)gridDim.x * kThreads) {
        const int64_t first = 32 * w;
        uint32_t* word = args.live[first >> kSegmentBits] + (first & ((1 << kSegmentBits) - 1)) / 32;
        uint32_t gone = 0;
        for (int bit = 0; bit < 32 && first + bit < args.rows; ++bit)
            if ((*word >> bit & 1) && is_marked(args, image_of(args, first + bit))) gone |= 1u << bit;
        *word &= ~gone;
        if (gone) atomicAdd(&args.counts[0], (uint32_t)__popc(gone));
    }
}

// Grid: (ranges). Distances of the rows of each range for the first query.
KERNEL(kThreads, 4, range_distances, Scan) {
    const int64_t start = args.starts[blockIdx.x], to = args.offsets[blockIdx.x];
    const int64_t count = args.offsets[blockIdx.x + 1] - to;
    for (int64_t i = threadIdx.x; i < count; i += kThreads)
        args.distances[to + i] = exact_distance(args.tables, code_of(args, start + i), args.subspaces);
}
