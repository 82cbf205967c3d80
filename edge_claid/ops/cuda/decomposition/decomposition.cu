// Tokens of many images to trees of regions: six kernels, one after the other on a stream.
#include "quantise.cuh"
#include "gram.cuh"
#include "grow.cuh"
#include "regions.cuh"
