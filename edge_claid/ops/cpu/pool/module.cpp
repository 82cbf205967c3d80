#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <optional>

#include "pool.h"

namespace nb = nanobind;

namespace {

using Map = nb::ndarray<const float, nb::shape<-1, -1, -1>, nb::c_contig, nb::device::cpu>;
using Boxes = nb::ndarray<const float, nb::shape<-1, 4>, nb::c_contig, nb::device::cpu>;
using Masks = nb::ndarray<const uint8_t, nb::shape<-1, -1, -1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<nb::numpy, float, nb::shape<-1, -1>>;

Output pool_boxes(const Map& values, const Boxes& boxes, double power, const std::optional<Masks>& masks) {
    const size_t count = boxes.shape(0), channels = values.shape(0);
    if (masks && (masks->shape(0) != count || masks->shape(1) == 0 || masks->shape(2) == 0))
        throw nb::value_error("masks must be (R, rows, columns) of tokens, one for every box");
    const Size cells{static_cast<int>(values.shape(1)), static_cast<int>(values.shape(2))};
    Asked asked{boxes.data(), count, nullptr, {}};
    if (masks) {
        asked.masks = masks->data();
        asked.tokens = {static_cast<int>(masks->shape(1)), static_cast<int>(masks->shape(2))};
    }
    float* data = new float[std::max<size_t>(1, count * channels)];
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    {
        nb::gil_scoped_release release;
        pool(values.data(), static_cast<int>(channels), cells, asked, power, data);
    }
    return Output(data, {count, channels}, owner);
}

}  // namespace

NB_MODULE(_pool, m) {
    m.def("pool_boxes", &pool_boxes, nb::arg("values"), nb::arg("boxes"), nb::arg("power"),
          nb::arg("masks") = nb::none());
}
