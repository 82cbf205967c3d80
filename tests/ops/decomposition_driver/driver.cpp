// Runs the decomposition without Python: for other processors under an emulator, and for the sanitizers.
//
// decomposition_driver CASES TREES ISA MODE
// CASES holds any number of cases, little-endian: int64 rows, columns, width, centred (0 or 1), energy rank, smallest,
// max_nodes; double alpha, tau1; float center[width] where centred; float features[rows * columns * width].
// TREES gets for each case int64 nodes (-1: tokens not finite) and mask bytes, then masks uint8, parents, depths,
// areas, high int32, edges int64. MODE is integer, batch (all cases over three threads, one size of settings only),
// float (our rules) or released (the authors' rules, Python's shuffle with seed 0).
// decomposition_driver --isas lists the kernels of this machine.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>

#include "batch.h"
#include "decomposition.h"

namespace {

struct Case {
    decomposition::Image image;
    decomposition::Settings settings;
    std::vector<float> center, features;
};

template <typename T>
bool take(std::ifstream& file, T* values, size_t count) {
    return static_cast<bool>(file.read(reinterpret_cast<char*>(values), static_cast<std::streamsize>(count * sizeof(T))));
}

template <typename T>
void put(std::ofstream& file, const std::vector<T>& values) {
    file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
}

std::vector<Case> read_cases(const char* path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<Case> cases;
    int64_t whole[7];
    double real[2];
    while (take(file, whole, 7) && take(file, real, 2)) {
        Case item{{nullptr, static_cast<size_t>(whole[0]), static_cast<size_t>(whole[1]), static_cast<size_t>(whole[2])},
                  {nullptr, real[0], real[1], static_cast<size_t>(whole[4]), static_cast<size_t>(whole[5]),
                   static_cast<size_t>(whole[6])},
                  {},
                  {}};
        item.center.resize(whole[3] ? item.image.width : 0);
        item.features.resize(item.image.tokens() * item.image.width);
        if (!take(file, item.center.data(), item.center.size())) throw std::runtime_error("a case is cut short");
        if (!take(file, item.features.data(), item.features.size())) throw std::runtime_error("a case is cut short");
        cases.push_back(std::move(item));
    }
    for (Case& item : cases) {
        item.image.features = item.features.data();
        item.settings.center = item.center.empty() ? nullptr : item.center.data();
    }
    return cases;
}

void write_tree(std::ofstream& file, const decomposition::Tree& tree) {
    put(file, std::vector<int64_t>{static_cast<int64_t>(tree.size()), static_cast<int64_t>(tree.mask_bytes)});
    put(file, tree.masks);
    put(file, tree.parents);
    put(file, tree.depths);
    put(file, tree.areas);
    put(file, tree.high);
    put(file, tree.edges);
}

void run_one(const decomposition::Kernels& kernels, const Case& item, const std::string& mode,
             decomposition::Workspace& workspace, std::ofstream& file) {
    const bool released = mode == "released";
    const decomposition::FloatSettings floats{released, released, 0, nullptr, 0};
    try {
        write_tree(file, mode == "integer"
                             ? decomposition::decompose(kernels, item.image, item.settings, workspace)
                             : decomposition::decompose_float(kernels, item.image, item.settings, floats, workspace));
    } catch (const decomposition::NotFinite&) {
        put(file, std::vector<int64_t>{-1, 0});
    }
}

void run_batch(const decomposition::Kernels& kernels, const std::vector<Case>& cases, std::ofstream& file) {
    std::vector<decomposition::Image> images;
    for (const Case& item : cases) images.push_back(item.image);
    for (const decomposition::Tree& tree :
         decomposition::decompose_batch(kernels, images, cases.front().settings, 3))
        write_tree(file, tree);
}

}  // namespace

int main(int count, char** words) {
    if (count == 2 && !std::strcmp(words[1], "--isas")) {
        for (const decomposition::Kernels* kernels : decomposition::usable_kernels()) std::puts(kernels->name);
        return 0;
    }
    if (count != 5) {
        std::fputs("usage: decomposition_driver CASES TREES ISA MODE\n", stderr);
        return 2;
    }
    const std::vector<Case> cases = read_cases(words[1]);
    const decomposition::Kernels& kernels = decomposition::kernels_named(words[3]);
    std::ofstream file(words[2], std::ios::binary);
    const decomposition::WorkspacePointer workspace = decomposition::new_workspace();
    if (std::string(words[4]) == "batch") run_batch(kernels, cases, file);
    else
        for (const Case& item : cases) run_one(kernels, item, words[4], *workspace, file);
    return file.good() ? 0 : 1;
}
