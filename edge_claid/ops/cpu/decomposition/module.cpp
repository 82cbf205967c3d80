// Python binding of the decomposition; edge_claid/ops/cpu/decomposition_op.py checks the arguments.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <memory>
#include <optional>

#include "batch.h"
#include "decomposition.h"

namespace nb = nanobind;

namespace {

using Features = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Center = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Seeds = nb::ndarray<const int32_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;

struct Arguments {
    std::optional<Center> center;
    double alpha, tau1;
    size_t energy_rank, smallest, max_nodes;

    decomposition::Settings settings() const {
        return {center ? center->data() : nullptr, alpha, tau1, energy_rank, smallest, max_nodes};
    }
};

decomposition::Image image_of(const Features& features, size_t rows, size_t columns) {
    if (rows * columns != features.shape(0) || rows * columns == 0 || features.shape(1) == 0)
        throw std::invalid_argument("tokens do not fill the grid");
    return {features.data(), rows, columns, features.shape(1)};
}

void check(const Arguments& arguments, const decomposition::Image& image) {
    if (arguments.center && arguments.center->shape(0) != image.width)
        throw std::invalid_argument("the mean token and the tokens differ in width");
    if (arguments.energy_rank >= image.tokens()) throw std::invalid_argument("energy_rank is beyond the tokens");
}

template <typename T>
nb::object array_of(const std::vector<T>& values, std::initializer_list<size_t> shape) {
    std::unique_ptr<T[]> data(new T[values.size()]);
    std::memcpy(data.get(), values.data(), values.size() * sizeof(T));
    T* raw = data.release();
    nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, T>(raw, shape, owner));
}

nb::tuple arrays_of(const decomposition::Tree& tree) {
    const size_t nodes = tree.size();
    return nb::make_tuple(array_of(tree.masks, {nodes, tree.mask_bytes}), array_of(tree.parents, {nodes}),
                          array_of(tree.depths, {nodes}), array_of(tree.areas, {nodes}), array_of(tree.high, {nodes}),
                          array_of(tree.edges, {nodes}));
}

nb::tuple decompose(const Features& features, size_t rows, size_t columns, const Arguments& arguments,
                    const std::string& isa) {
    const decomposition::Image image = image_of(features, rows, columns);
    check(arguments, image);
    const decomposition::Kernels& kernels = decomposition::kernels_named(isa);
    decomposition::Tree tree;
    {
        nb::gil_scoped_release release;
        const decomposition::LentWorkspace workspace;
        tree = decomposition::decompose(kernels, image, arguments.settings(), *workspace);
    }
    return arrays_of(tree);
}

nb::list decompose_batch(const std::vector<Features>& features, const std::vector<size_t>& rows,
                         const std::vector<size_t>& columns, const Arguments& arguments, size_t threads,
                         const std::string& isa) {
    std::vector<decomposition::Image> images;
    for (size_t i = 0; i < features.size(); ++i) {
        images.push_back(image_of(features[i], rows[i], columns[i]));
        check(arguments, images.back());
    }
    const decomposition::Kernels& kernels = decomposition::kernels_named(isa);
    std::vector<decomposition::Tree> trees;
    {
        nb::gil_scoped_release release;
        trees = decomposition::decompose_batch(kernels, images, arguments.settings(), threads);
    }
    nb::list out;
    for (const decomposition::Tree& tree : trees) out.append(arrays_of(tree));
    return out;
}

nb::tuple decompose_float(const Features& features, size_t rows, size_t columns, const Arguments& arguments,
                          bool released, std::optional<uint32_t> shuffle_seed, const std::optional<Seeds>& seeds,
                          const std::string& isa) {
    const decomposition::Image image = image_of(features, rows, columns);
    check(arguments, image);
    const decomposition::Kernels& kernels = decomposition::kernels_named(isa);
    const decomposition::FloatSettings floats{released, shuffle_seed.has_value(), shuffle_seed.value_or(0),
                                              seeds ? seeds->data() : nullptr, seeds ? seeds->shape(0) : 0};
    for (size_t k = 0; k < 2 * floats.seed_count; ++k)
        if (floats.seeds[k] < 0 || static_cast<size_t>(floats.seeds[k]) >= image.tokens())
            throw std::invalid_argument("a seed is beyond the tokens");
    decomposition::Tree tree;
    {
        nb::gil_scoped_release release;
        const decomposition::LentWorkspace workspace;
        tree = decomposition::decompose_float(kernels, image, arguments.settings(), floats, *workspace);
    }
    return arrays_of(tree);
}

nb::list timed(const Features& features, size_t rows, size_t columns, const Arguments& arguments,
               const std::string& isa, int repeats) {
    const decomposition::Image image = image_of(features, rows, columns);
    check(arguments, image);
    const decomposition::Kernels& kernels = decomposition::kernels_named(isa);
    const decomposition::WorkspacePointer workspace = decomposition::new_workspace();
    nb::list runs;
    for (int k = 0; k < repeats; ++k) {
        decomposition::Timing timing;
        decomposition::decompose(kernels, image, arguments.settings(), *workspace, &timing);
        nb::dict run;
        run["normalise"] = timing.normalise;
        run["gram"] = timing.gram;
        run["degrees"] = timing.degrees;
        run["ksums"] = timing.ksums;
        run["components"] = timing.components;
        run["moves"] = timing.moves;
        run["start_rows"] = timing.start_rows;
        run["workspace_bytes"] = decomposition::workspace_bytes(*workspace);
        runs.append(run);
    }
    return runs;
}

std::vector<std::string> supported_isas() {
    std::vector<std::string> names;
    for (const decomposition::Kernels* kernels : decomposition::usable_kernels()) names.push_back(kernels->name);
    return names;
}

}  // namespace

NB_MODULE(_decomposition, m) {
    nb::exception<decomposition::NotFinite>(m, "NotFiniteError", PyExc_ValueError);
    nb::class_<Arguments>(m, "Arguments")
        .def(
            "__init__",
            [](Arguments* self, std::optional<Center> center, double alpha, double tau1, size_t energy_rank,
               size_t smallest, size_t max_nodes) {
                new (self) Arguments{std::move(center), alpha, tau1, energy_rank, smallest, max_nodes};
            },
            nb::kw_only(), nb::arg("center").none(), nb::arg("alpha"), nb::arg("tau1"), nb::arg("energy_rank"),
            nb::arg("smallest"), nb::arg("max_nodes"));
    m.def("decompose", &decompose, nb::arg("features"), nb::arg("rows"), nb::arg("columns"), nb::arg("arguments"),
          nb::arg("isa") = "auto");
    m.def("decompose_batch", &decompose_batch, nb::arg("features"), nb::arg("rows"), nb::arg("columns"),
          nb::arg("arguments"), nb::arg("threads"), nb::arg("isa") = "auto");
    m.def("decompose_float", &decompose_float, nb::arg("features"), nb::arg("rows"), nb::arg("columns"),
          nb::arg("arguments"), nb::arg("released"), nb::arg("shuffle_seed").none(), nb::arg("seeds").none(),
          nb::arg("isa") = "auto");
    m.def("timed", &timed, nb::arg("features"), nb::arg("rows"), nb::arg("columns"), nb::arg("arguments"),
          nb::arg("isa"), nb::arg("repeats"), "Of each repeat: seconds by step, Gram rows gone through, bytes of the workspace.");
    m.def("supported_isas", &supported_isas, "Names of the kernels this machine can run, best first.");
}
