// The encode op without Python. Reads one case from standard input, writes the answer to standard output.
// Case: kernel name (16 bytes), then int64: rows, subspaces, width, threads; values, rotation, codewords (float32).
// Answer: rotated values (float32), their tables (float32), codes (uint8), distances (float32).
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "encode.h"

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

template <typename T>
void write_values(const std::vector<T>& values) {
    std::fwrite(values.data(), sizeof(T), values.size(), stdout);
}

}  // namespace

int main(int argc, char**) {
    if (argc > 1) {
        for (const encode::Kernel* kernel : encode::usable_kernels()) std::printf("%s\n", kernel->name);
        return 0;
    }
    const encode::Kernel& kernel = encode::kernel_named(read_values<char>(16).data());
    const std::vector<int64_t> head = read_values<int64_t>(4);
    const encode::Shape shape{static_cast<size_t>(head[0]), static_cast<size_t>(head[1]), static_cast<size_t>(head[2])};
    const int threads = static_cast<int>(head[3]);
    const size_t dimensions = shape.subspaces * shape.width;
    const auto values = read_values<float>(shape.rows * dimensions);
    const auto rotation = read_values<float>(dimensions * dimensions);
    const auto codewords = read_values<float>(dimensions * encode::kCodewords);

    std::vector<float> rotated(values.size()), tables(shape.rows * shape.subspaces * encode::kCodewords);
    std::vector<uint8_t> codes(shape.rows * shape.subspaces);
    std::vector<float> distances(codes.size());
    encode::rotate(kernel, values.data(), rotation.data(), shape.rows, dimensions, threads, rotated.data());
    encode::lookup_tables(kernel, rotated.data(), codewords.data(), shape, tables.data());
    encode::nearest_codewords(kernel, rotated.data(), codewords.data(), shape, threads, codes.data(),
                              distances.data());
    write_values(rotated);
    write_values(tables);
    write_values(codes);
    write_values(distances);
    return 0;
}
