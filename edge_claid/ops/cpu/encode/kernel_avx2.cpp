// Encode kernel: avx2.
#define ENCODE_LANES 8
#define ENCODE_VECTORS 2
#define ENCODE_NAME "avx2"
#define ENCODE_KERNEL kAvx2
#include "kernel.inc"
