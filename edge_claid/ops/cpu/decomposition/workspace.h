// Memory of one thread: every array of a decomposition, allocated before its loops and kept for the next image.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace decomposition {

// An array of at least the asked length, on a 64-byte line of its own; its content is lost when it grows.
template <typename T>
class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { ::operator delete(data_, std::align_val_t(kAlignment)); }

    T* reserve(size_t length) {
        if (length > capacity_) {
            ::operator delete(data_, std::align_val_t(kAlignment));
            data_ = nullptr;
            capacity_ = 0;
            data_ = static_cast<T*>(::operator new(length * sizeof(T), std::align_val_t(kAlignment)));
            capacity_ = length;
#if defined(__linux__)
            if (bytes() >= kHuge) advise();
#endif
        }
        return data_;
    }
    T* data() const { return data_; }
    T& operator[](size_t i) const { return data_[i]; }
    size_t bytes() const { return capacity_ * sizeof(T); }

  private:
    static constexpr size_t kAlignment = 128, kHuge = size_t{1} << 21;
#if defined(__linux__)
    void advise() {  // huge pages spare a large Gram matrix most of its page faults and TLB misses
        const uintptr_t begin = (reinterpret_cast<uintptr_t>(data_) + kHuge - 1) & ~(kHuge - 1);
        const uintptr_t end = (reinterpret_cast<uintptr_t>(data_) + bytes()) & ~(kHuge - 1);
        if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
    }
#endif
    T* data_ = nullptr;
    size_t capacity_ = 0;
};

// Tokens are *listed* in visiting order inside the op: position p holds token order[p]. Masks named `listed` have a
// bit a position, masks named `raster` a bit a token.
class Workspace {
  public:
    Buffer<uint32_t> order, rank;   // (N) position -> token, token -> position
    size_t ordered = 0;             // N the order was made for, 0 for none
    Buffer<float> energy, sorted_energy, inverse;  // (N), by token
    Buffer<uint64_t> high;          // raster mask
    Buffer<char> packed;            // quantised tokens in panels
    Buffer<int32_t> sums;           // (32 panels) of quantised tokens
    Buffer<int16_t> gram;           // (32 panels, stride)
    Buffer<uint32_t> bits;          // (32 panels, bit stride)
    Buffer<int32_t> t;              // (32 panels)
    Buffer<uint64_t> members, second;  // listed masks of a node and of its half 1
    Buffer<uint32_t> positions, first_rows, second_rows, stack;  // (N)
    Buffer<uint8_t> cells;          // (rows + 2, columns + 2): 0 outside the node, else half + 1
    Buffer<float> units, float_gram;  // floating-point mode: (N, width up to lanes), (N, N)
    Buffer<double> float_t;         // (N)

    size_t bytes() const {
        return order.bytes() + rank.bytes() + energy.bytes() + sorted_energy.bytes() + inverse.bytes() + high.bytes() +
               packed.bytes() + sums.bytes() + gram.bytes() + bits.bytes() + t.bytes() + members.bytes() +
               second.bytes() + positions.bytes() + first_rows.bytes() + second_rows.bytes() + stack.bytes() +
               cells.bytes() + units.bytes() + float_gram.bytes() + float_t.bytes();
    }
};

}  // namespace decomposition
