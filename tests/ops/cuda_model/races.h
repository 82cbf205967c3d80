// Which thread of which block runs, for races.cc.
#pragma once
#include <stddef.h>
#include <stdint.h>

constexpr uint32_t kNoThread = 0xFFFFFFFFu;

// barriers, warp_barriers: that the thread has met in this block. atomic: what it does now is one operation.
struct RaceState {
    uint32_t block, thread, barriers, warp_barriers;
    int atomic;
};

extern "C" RaceState cuda_model_race;
// A launch begins: what earlier ones did is over. shared: the dynamic shared memory of its blocks.
extern "C" void cuda_model_new_launch(const void* shared, size_t size);
