// Which kernels this machine can run.
#include "decomposition.h"

#if defined(DECOMPOSITION_ARM) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace decomposition {

namespace {

#if defined(DECOMPOSITION_ARM)
bool has_dot_product() {
#if defined(__linux__)
    constexpr unsigned long kAsimdDp = 1ul << 20;  // HWCAP_ASIMDDP
    return getauxval(AT_HWCAP) & kAsimdDp;
#elif defined(__APPLE__)
    return true;
#else
    return false;
#endif
}
#endif

}  // namespace

std::vector<const Kernels*> usable_kernels() {
    std::vector<const Kernels*> usable;
#if defined(DECOMPOSITION_X86)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
        __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("bmi"))
        usable.push_back(&kAvx512);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt"))
        usable.push_back(&kAvx2);
#endif
#if defined(DECOMPOSITION_ARM)
    if (has_dot_product()) usable.push_back(&kDot);
#endif
    usable.push_back(&kPortable);
    return usable;
}

const Kernels& kernels_named(const std::string& name) {
    std::string known;
    for (const Kernels* kernels : usable_kernels()) {
        if (name == "auto" || name == kernels->name) return *kernels;
        known += std::string(known.empty() ? "" : ", ") + kernels->name;
    }
    throw std::invalid_argument("no kernels named " + name + " on this machine; there are: " + known);
}

}  // namespace decomposition
