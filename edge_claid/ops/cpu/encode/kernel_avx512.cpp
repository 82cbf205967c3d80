// Encode kernel: avx512.
#define ENCODE_LANES 16
#define ENCODE_VECTORS 4
#define ENCODE_NAME "avx512"
#define ENCODE_KERNEL kAvx512
#include "kernel.inc"
