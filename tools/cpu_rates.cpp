// Rates of one core that bound the decomposition, operands in registers or in a cache: one JSON line.
// c++ -O3 -march=native cpu_rates.cpp -o cpu_rates; best of several short runs.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

template <typename Run>
double best_seconds(Run run) {
    double best = 1e9;
    for (int k = 0; k < 25; ++k) {
        const auto start = std::chrono::steady_clock::now();
        run();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
}

constexpr long kRounds = 200000;

// Named registers: a compiler is free to keep an array of accumulators in memory, and then that is what is measured.
#define FOUR(M, a, b, c, d) M(a) M(b) M(c) M(d)

#if defined(__AVX512VNNI__)
#define VNNI(n) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #n "\n\t"
double avx512_products() {  // multiply-adds a second of vpdpbusd on 512 bits
    const double seconds = best_seconds([] {
        for (long round = 0; round < kRounds; ++round)
            asm volatile(FOUR(VNNI, 0, 1, 2, 3) FOUR(VNNI, 4, 5, 6, 7) FOUR(VNNI, 8, 9, 10, 11) ::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                               "xmm11");
    });
    return kRounds * 12 * 64 / seconds;
}
#endif

#if defined(__AVX2__)
#define MADD(n) "vpmaddwd %%ymm14, %%ymm15, %%ymm13\n\tvpaddd %%ymm13, %%ymm" #n ", %%ymm" #n "\n\t"
double avx2_products() {  // of vpmaddwd and vpaddd on 256 bits
    const double seconds = best_seconds([] {
        for (long round = 0; round < kRounds; ++round)
            asm volatile(FOUR(MADD, 0, 1, 2, 3) FOUR(MADD, 4, 5, 6, 7) FOUR(MADD, 8, 9, 10, 11) ::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                               "xmm11", "xmm13");
    });
    return kRounds * 12 * 16 / seconds;
}
#endif

#if defined(__ARM_FEATURE_DOTPROD)
#define SDOT(n) "sdot v" #n ".4s, v30.16b, v31.16b\n\t"
double dot_products() {
    const double seconds = best_seconds([] {
        for (long round = 0; round < kRounds; ++round)
            asm volatile(FOUR(SDOT, 0, 1, 2, 3) FOUR(SDOT, 4, 5, 6, 7) FOUR(SDOT, 16, 17, 18, 19) ::
                             : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19");
    });
    return kRounds * 12 * 16 / seconds;
}
#endif

double read_rate(size_t bytes) {  // bytes a second, read over and over
    std::vector<uint64_t> memory(bytes / 8, 1);
    volatile uint64_t sink = 0;
    const int passes = static_cast<int>(std::max<size_t>(1, (size_t{16} << 20) / bytes));
    const double seconds = best_seconds([&] {
        uint64_t total = 0;
        for (int pass = 0; pass < passes; ++pass) {
            asm volatile("" ::: "memory");
            for (const uint64_t value : memory) total += value;
        }
        sink = total;
    });
    return static_cast<double>(bytes) * passes / seconds;
}

}  // namespace

int main() {
    std::printf("{");
#if defined(__AVX512VNNI__)
    std::printf("\"avx512_products\": %.4g, ", avx512_products());
#endif
#if defined(__AVX2__)
    std::printf("\"avx2_products\": %.4g, ", avx2_products());
#endif
#if defined(__ARM_FEATURE_DOTPROD)
    std::printf("\"dot_products\": %.4g, ", dot_products());
#endif
    std::printf("\"read_256kB\": %.4g, \"read_2MB\": %.4g, \"read_16MB\": %.4g}\n", read_rate(size_t{256} << 10),
                read_rate(size_t{2} << 20), read_rate(size_t{16} << 20));
}
