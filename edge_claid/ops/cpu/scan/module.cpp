// Python binding of the scan op. Mirrors edge_claid/ops/reference/scan.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <stdexcept>

#include "search.h"
#include "store.h"

namespace nb = nanobind;

namespace {

using Codes = nb::ndarray<const uint8_t, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
using Images = nb::ndarray<const int32_t, nb::shape<-1>, nb::c_contig, nb::device::cpu>;
using Tables = nb::ndarray<const float, nb::shape<-1, -1, 256>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const float, nb::shape<-1, 256>, nb::c_contig, nb::device::cpu>;
using Allowed = nb::ndarray<const bool, nb::shape<-1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const int64_t, nb::shape<-1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Output = nb::ndarray<nb::numpy, T>;

template <typename T>
Output<T> owned(std::unique_ptr<T[]> data, std::initializer_list<size_t> shape) {
    T* raw = data.release();
    nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return Output<T>(raw, shape, owner);
}

void require_finite(const float* values, size_t count) {
    bool finite = true;
    for (size_t i = 0; i < count; ++i) finite &= std::fabs(values[i]) <= std::numeric_limits<float>::max();
    if (!finite) throw std::invalid_argument("a look-up table holds NaN or infinite values");
}

// Searches of several threads run side by side; append and remove wait for them.
class CodeScan {
public:
    CodeScan(size_t subspaces, const std::string& isa) : store_(subspaces), kernel_(scan::kernel_named(isa)) {}

    void append(const Codes& codes, const Images& images) {
        if (codes.shape(1) != store_.subspaces() || codes.shape(0) != images.shape(0))
            throw std::invalid_argument("codes are not (n, subspaces) with one image each");
        nb::gil_scoped_release release;
        std::unique_lock<std::shared_mutex> lock(mutex_);
        store_.append(codes.data(), images.data(), codes.shape(0));
    }

    size_t remove(const Images& images) {
        nb::gil_scoped_release release;
        std::unique_lock<std::shared_mutex> lock(mutex_);
        return store_.remove(images.data(), images.shape(0));
    }

    std::tuple<Output<int32_t>, Output<float>, Output<int64_t>> search(const Tables& tables, size_t k,
                                                                      std::optional<Allowed> allowed, int threads) {
        const size_t queries = tables.shape(0);
        if (tables.shape(1) != store_.subspaces()) throw std::invalid_argument("tables are of another code width");
        require_finite(tables.data(), tables.size());
        std::vector<std::vector<scan::Candidate>> found(queries);
        std::unique_ptr<int32_t[]> images(new int32_t[queries * k + 1]);
        std::unique_ptr<float[]> distances(new float[queries * k + 1]);
        std::unique_ptr<int64_t[]> regions(new int64_t[queries * k + 1]);
        {
            nb::gil_scoped_release release;
            std::shared_lock<std::shared_mutex> lock(mutex_);
            const scan::Request request{tables.data(), queries, std::min(k, store_.rows()),
                                        allowed ? reinterpret_cast<const uint8_t*>(allowed->data()) : nullptr,
                                        allowed ? allowed->shape(0) : 0, threads};
            if (request.k) found = scan::search(store_, kernel_, request);
        }
        for (size_t q = 0; q < queries; ++q)
            for (size_t i = 0; i < k; ++i) {
                const bool there = i < found[q].size();
                images[q * k + i] = there ? found[q][i].image : -1;
                distances[q * k + i] = there ? found[q][i].distance : std::numeric_limits<float>::infinity();
                regions[q * k + i] = there ? found[q][i].region : -1;
            }
        return {owned(std::move(images), {queries, k}), owned(std::move(distances), {queries, k}),
                owned(std::move(regions), {queries, k})};
    }

    Output<float> region_distances(const Table& table, const Rows& starts, const Rows& stops) {
        if (table.shape(0) != store_.subspaces()) throw std::invalid_argument("the table is of another code width");
        if (starts.shape(0) != stops.shape(0)) throw std::invalid_argument("starts and stops differ in number");
        std::unique_ptr<float[]> out;
        size_t total = 0;
        {
            nb::gil_scoped_release release;
            std::shared_lock<std::shared_mutex> lock(mutex_);
            const int64_t rows = static_cast<int64_t>(store_.rows());
            for (size_t i = 0; i < starts.shape(0); ++i) {
                const int64_t start = starts.data()[i], stop = stops.data()[i];
                if (start < 0 || stop < start || stop > rows)
                    throw std::invalid_argument("a range of regions is outside the gallery");
                total += static_cast<size_t>(stop - start);
            }
            out.reset(new float[total + 1]);
            float* to = out.get();
            for (size_t i = 0; i < starts.shape(0); ++i) {
                store_.distances(table.data(), starts.data()[i], stops.data()[i], to);
                to += stops.data()[i] - starts.data()[i];
            }
        }
        return owned(std::move(out), {total});
    }

    size_t rows() const { return locked([](const scan::Store& store) { return store.rows(); }); }
    size_t live_rows() const { return locked([](const scan::Store& store) { return store.live_rows(); }); }
    size_t bytes() const { return locked([](const scan::Store& store) { return store.bytes(); }); }
    size_t subspaces() const { return store_.subspaces(); }
    std::string isa() const { return kernel_.name; }

private:
    template <typename Read>
    size_t locked(Read read) const {
        nb::gil_scoped_release release;
        std::shared_lock<std::shared_mutex> lock(mutex_);
        return read(store_);
    }

    scan::Store store_;
    const scan::Kernel& kernel_;
    mutable std::shared_mutex mutex_;
};

std::vector<std::string> supported_isas() {
    std::vector<std::string> names;
    for (const scan::Kernel* kernel : scan::usable_kernels()) names.push_back(kernel->name);
    return names;
}

}  // namespace

NB_MODULE(_scan, m) {
    nb::class_<CodeScan>(m, "CodeScan", "Codes of a gallery's regions; see edge_claid/ops/reference/scan.py.")
        .def(nb::init<size_t, const std::string&>(), nb::arg("subspaces"), nb::arg("isa") = "auto")
        .def("append", &CodeScan::append, nb::arg("codes"), nb::arg("images"))
        .def("remove", &CodeScan::remove, nb::arg("images"))
        .def("search", &CodeScan::search, nb::arg("tables"), nb::arg("k"), nb::arg("allowed").none() = nb::none(),
             nb::arg("threads") = 1)
        .def("region_distances", &CodeScan::region_distances, nb::arg("table"), nb::arg("starts"), nb::arg("stops"))
        .def("__len__", &CodeScan::rows)
        .def_prop_ro("live_regions", &CodeScan::live_rows)
        .def_prop_ro("memory_bytes", &CodeScan::bytes)
        .def_prop_ro("subspaces", &CodeScan::subspaces)
        .def_prop_ro("isa", &CodeScan::isa);
    m.def("supported_isas", &supported_isas, "Names of the kernels this machine can run, best first.");
}
