// The pooling op without Python. Reads one case from standard input, writes the answer to standard output.
// Case: a name (16 bytes, not looked at), then int64: channels, rows, columns, regions, token rows, token columns (0: no
// masks); the power (float64), values, boxes (float32), masks (uint8). Answer: the pooled values (float32).
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "pool.h"

namespace {

template <typename T>
std::vector<T> read_values(size_t count) {
    std::vector<T> values(count);
    if (std::fread(values.data(), sizeof(T), count, stdin) != count) {
        std::fprintf(stderr, "the case is cut short\n");
        std::exit(2);
    }
    return values;
}

}  // namespace

int main() {
    read_values<char>(16);
    const auto head = read_values<int64_t>(6);
    const double power = read_values<double>(1)[0];
    const Size cells{static_cast<int>(head[1]), static_cast<int>(head[2])};
    const Size tokens{static_cast<int>(head[4]), static_cast<int>(head[5])};
    const auto values = read_values<float>(head[0] * head[1] * head[2]);
    const auto boxes = read_values<float>(4 * head[3]);
    const auto masks = read_values<uint8_t>(head[3] * head[4] * head[5]);
    std::vector<float> out(head[3] * head[0]);
    const Asked asked{boxes.data(), static_cast<size_t>(head[3]), masks.empty() ? nullptr : masks.data(), tokens};
    pool(values.data(), static_cast<int>(head[0]), cells, asked, power, out.data());
    std::fwrite(out.data(), sizeof(float), out.size(), stdout);
    return 0;
}
