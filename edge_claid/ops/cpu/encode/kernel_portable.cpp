// Encode kernel: portable.
#define ENCODE_LANES 4
#define ENCODE_VECTORS 2
#define ENCODE_NAME "portable"
#define ENCODE_KERNEL kPortable
#include "kernel.inc"
