// Tokens of many images to trees of regions: five kernels, one after the other on a stream.
#include "quantise.cuh"
#include "gram.cuh"
#include "grow.cuh"
