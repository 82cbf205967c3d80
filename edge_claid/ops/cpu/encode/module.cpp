// Python binding of the encode op.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>

#include "encode.h"

namespace nb = nanobind;

namespace {

using Matrix = nb::ndarray<const float, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::shape<-1>, nb::c_contig, nb::device::cpu>;
using Codewords = nb::ndarray<const float, nb::shape<-1, -1, 256>, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<const uint8_t, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Output = nb::ndarray<nb::numpy, T>;

template <typename T>
Output<T> owned(std::unique_ptr<T[]> data, std::initializer_list<size_t> shape) {
    T* raw = data.release();
    nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return Output<T>(raw, shape, owner);
}

encode::Shape checked(const Matrix& values, const Codewords& codewords) {
    const encode::Shape shape{values.shape(0), codewords.shape(0), codewords.shape(1)};
    if (shape.subspaces * shape.width != values.shape(1))
        throw std::invalid_argument("values and codewords differ in dimensions");
    return shape;
}

Output<float> rotate(const Matrix& values, const Matrix& rotation, int threads, const std::string& isa) {
    const size_t rows = values.shape(0), dimensions = values.shape(1);
    if (rotation.shape(0) != dimensions || rotation.shape(1) != dimensions)
        throw std::invalid_argument("the rotation is not (D, D)");
    const encode::Kernel& kernel = encode::kernel_named(isa);
    std::unique_ptr<float[]> out(new float[rows * dimensions + 1]);
    {
        nb::gil_scoped_release release;
        encode::rotate(kernel, values.data(), rotation.data(), rows, dimensions, threads, out.get());
    }
    return owned(std::move(out), {rows, dimensions});
}

Output<float> project(const Matrix& values, const Vector& mean, const Matrix& matrix, int threads,
                      const std::string& isa) {
    const size_t rows = values.shape(0), width = values.shape(1), columns = matrix.shape(1);
    if (mean.shape(0) != width || matrix.shape(0) != width)
        throw std::invalid_argument("mean and matrix do not fit the values' dimensions");
    const encode::Kernel& kernel = encode::kernel_named(isa);
    std::unique_ptr<float[]> out(new float[rows * columns + 1]);
    {
        nb::gil_scoped_release release;
        encode::project(kernel, values.data(), mean.data(), matrix.data(), rows, width, columns, threads, out.get());
    }
    return owned(std::move(out), {rows, columns});
}

Output<float> lookup_tables(const Matrix& values, const Codewords& codewords, const std::string& isa) {
    const encode::Shape shape = checked(values, codewords);
    const encode::Kernel& kernel = encode::kernel_named(isa);
    std::unique_ptr<float[]> out(new float[shape.rows * shape.subspaces * encode::kCodewords + 1]);
    {
        nb::gil_scoped_release release;
        encode::lookup_tables(kernel, values.data(), codewords.data(), shape, out.get());
    }
    return owned(std::move(out), {shape.rows, shape.subspaces, encode::kCodewords});
}

std::pair<Output<uint8_t>, Output<float>> nearest_codewords(const Matrix& values, const Codewords& codewords,
                                                            int threads, const std::string& isa) {
    const encode::Shape shape = checked(values, codewords);
    const encode::Kernel& kernel = encode::kernel_named(isa);
    std::unique_ptr<uint8_t[]> codes(new uint8_t[shape.rows * shape.subspaces + 1]);
    std::unique_ptr<float[]> distances(new float[shape.rows * shape.subspaces + 1]);
    {
        nb::gil_scoped_release release;
        encode::nearest_codewords(kernel, values.data(), codewords.data(), shape, threads, codes.get(),
                                  distances.get());
    }
    return {owned(std::move(codes), {shape.rows, shape.subspaces}),
            owned(std::move(distances), {shape.rows, shape.subspaces})};
}

std::pair<Output<double>, Output<int64_t>> codeword_sums(const Matrix& values, const Codes& codes) {
    const size_t rows = codes.shape(0), subspaces = codes.shape(1);
    if (values.shape(0) != rows || subspaces == 0 || values.shape(1) % subspaces)
        throw std::invalid_argument("values and codes differ in rows, or subspaces do not divide the dimensions");
    const encode::Shape shape{rows, subspaces, values.shape(1) / subspaces};
    std::unique_ptr<double[]> sums(new double[subspaces * encode::kCodewords * shape.width + 1]());
    std::unique_ptr<int64_t[]> counts(new int64_t[subspaces * encode::kCodewords]());
    {
        nb::gil_scoped_release release;
        encode::codeword_sums(values.data(), codes.data(), shape, sums.get(), counts.get());
    }
    return {owned(std::move(sums), {subspaces, encode::kCodewords, shape.width}),
            owned(std::move(counts), {subspaces, encode::kCodewords})};
}

std::vector<std::string> supported_isas() {
    std::vector<std::string> names;
    for (const encode::Kernel* kernel : encode::usable_kernels()) names.push_back(kernel->name);
    return names;
}

}  // namespace

NB_MODULE(_encode, m) {
    m.def("rotate", &rotate, nb::arg("values"), nb::arg("rotation"), nb::arg("threads") = 1, nb::arg("isa") = "auto");
    m.def("project", &project, nb::arg("values"), nb::arg("mean"), nb::arg("matrix"), nb::arg("threads") = 1,
          nb::arg("isa") = "auto");
    m.def("lookup_tables", &lookup_tables, nb::arg("values"), nb::arg("codewords"), nb::arg("isa") = "auto");
    m.def("nearest_codewords", &nearest_codewords, nb::arg("values"), nb::arg("codewords"), nb::arg("threads") = 1,
          nb::arg("isa") = "auto");
    m.def("codeword_sums", &codeword_sums, nb::arg("values"), nb::arg("codes"));
    m.def("supported_isas", &supported_isas, "Names of the kernels this machine can run, best first.");
}
