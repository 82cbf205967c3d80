// Answers of a Jetson's driver, recorded from NVIDIA's documentation of the driver API: one Orin of 8 GB.
#include <stddef.h>
#include <string.h>
#ifndef START
#define START 0
#endif
#ifndef COUNT
#define COUNT 1
#endif
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuInit(unsigned flags) { return START; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Orin", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 8000000000; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 8 : which == 76 ? 7 : which == 18;
    return 0;
}
static int held;
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &held; held++; return 0; }
int cuCtxPushCurrent_v2(void *context) { return 0; }
int cuCtxPopCurrent_v2(void **context) { return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = 5000000000; *total = 8000000000; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { held--; return 0; }
int still_held(void) { return held; }
